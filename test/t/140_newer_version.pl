# SQL objects that are newer than the library: the workers leave with one
# message, functions say what to do, and inserts go on.  What was written
# meanwhile is delivered once a library knows the version again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Versions that nobody else asks for, in the throw-away server's directory; the
# second one has columns that the library has not got.
my $version = '9.9';
my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
my %contents = (
	'1.1--9.9' => '',
	'9.9--1.1' => '',
	'1.1--9.10' => join('',
		map { "ALTER TABLE \@extschema\@.dbopt_$_ ADD COLUMN colour text;" }
		  qw(database source handler cursor cursor_version chunk retry_queue dead_letter)));
my @scripts;
foreach my $name (keys %contents)
{
	push @scripts, "$sharedir/extension/dbopt--$name.sql";
	append_to_file($scripts[-1], $contents{$name});
}
END { unlink @scripts if @scripts; }

my $node = PostgreSQL::Test::Cluster->new('newer');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false);
	CREATE TABLE seen (n int);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES ((e.data ->> 'n')::int);
		IF (e.data ->> 'n')::int < 0 THEN RAISE 'not this one'; END IF;
		IF e.event_type = 'SLOW' THEN
			PERFORM pg_advisory_xact_lock(1);
		END IF;
	END $$;
	-- However long it takes, attempts are left; and none is due much later.
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('again', 1000, '1 s', '1 s', 'none', true, 1000000);
	SELECT dbopt_register_handler('see', '*', 'see(log)', policy => 'again');
});
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND backend_type LIKE 'dbopt %'";

sub write_event
{
	my ($type, $n) = @_;

	return $node->safe_psql('postgres', "INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
		VALUES ('$type', 'a', dbopt_uuid_v7(), jsonb_build_object('n', $n))");
}

write_event('EVENT', 1);
write_event('EVENT', -1);
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM dbopt_pending_retries'),
	'one is delivered, one waits to be tried again');

# A handler that is at work when the version changes, and then fails.  It is
# changed through the pool: for a client's own command handlers are ended.
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('SELECT pg_advisory_lock(1)');
write_event('SLOW', 2);
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
	'a handler is at work');
my $log = -s $node->logfile;
$node->safe_psql('postgres', "SELECT dbopt_with_connection(\$\$ALTER EXTENSION dbopt UPDATE TO '$version'\$\$)");
$node->wait_for_log(qr/dbopt does not run in database "postgres"/, $log);
$blocker->query_safe('SELECT pg_advisory_unlock(1)');
$blocker->quit;

ok($node->poll_query_until('postgres', "$workers", '0'), 'the workers have left');
my $messages = slurp_file($node->logfile, $log);
is( scalar(() = $messages =~
		/LOG:  dbopt does not run in database "postgres": its extension is of version 9\.9, and the library knows versions up to 1\.1/g),
	1,
	'... with one message');
like($messages, qr/HINT:  Install the library of that version and restart the server/, '... that says what to do');
unlike($messages, qr/has ended/, '... and are not started again and again');

# Inserts go on, in old sessions and new ones, and so do updates and TRUNCATE.
my $before = $node->safe_psql('postgres', 'SELECT max(log_position) FROM log');
write_event('EVENT', 3);
cmp_ok($node->safe_psql('postgres', "SELECT log_position FROM log WHERE data ->> 'n' = '3'"),
	'>', $before, 'events are stamped');
$node->safe_psql('postgres', "UPDATE log SET event_type = 'CHANGED' WHERE data ->> 'n' = '1'");

foreach my $call (
	"dbopt_register_handler('x', '*', 'see(log)')", "dbopt_unregister_handler('see', true)",
	"dbopt_pause_handler('see')", "dbopt_resume()", 'dbopt_pause()', "dbopt_drain()",
	"dbopt_attach_events('seen')", "dbopt_detach_events('log')", 'dbopt_create_events($$more$$)',
	"dbopt_replay_dead_letters()", 'dbopt_circuit_breakers()',
	'dbopt_retry_stats()', 'dbopt_backlog()', "dbopt_is_retryable('40001')")
{
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT $call");

	like($err,
		qr/ERROR:  55000: extension "dbopt" of this database is of version 9\.9, .* up to 1\.1\n.*HINT:  Install the library/s,
		"$call says what to do");
}
$node->safe_psql('postgres', "UPDATE dbopt_retry_policy SET max_attempts = 7 WHERE name = 'event'");

# The same after a restart.
$log = -s $node->logfile;
$node->restart;
$node->wait_for_log(qr/dbopt does not run in database "postgres"/, $log);
write_event('EVENT', 4);
ok($node->poll_query_until('postgres', $workers, '0'), 'nothing runs');
is($node->safe_psql('postgres', 'SELECT string_agg(n::text, $$,$$ ORDER BY n) FROM seen'), '1,2',
	'nothing was delivered meanwhile');

# The library knows the version again.
$node->safe_psql('postgres', "ALTER EXTENSION dbopt UPDATE TO '1.1'");
$node->safe_psql('postgres', "UPDATE log SET data = jsonb_set(data, '{n}', '5') WHERE data ->> 'n' = '-1'");
is($node->safe_psql('postgres', 'SELECT dbopt_drain()'), 't', 'the workers are back');
is($node->safe_psql('postgres', 'SELECT string_agg(n::text, $$,$$ ORDER BY n) FROM seen'), '1,1,2,3,4,5',
	'each event is delivered once, the changed one as a new one, and what waited to be tried again');

# The other version comes while a handler is at work that is to fail.
$node->safe_psql('postgres', q{
	CREATE OR REPLACE FUNCTION see(e log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock(1);
		RAISE 'not now';
	END $$});
$blocker = $node->background_psql('postgres');
$blocker->query_safe('SELECT pg_advisory_lock(1)');
write_event('SLOW', 6);
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"),
	'a handler is at work');
my $update = $node->background_psql('postgres', on_error_stop => 0);
$update->query_until(qr/waits/,
	"\\echo waits\nSELECT dbopt_with_connection(\$\$ALTER EXTENSION dbopt UPDATE TO '9.10'\$\$);\n");
ok( $node->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"),
	'the update waits for it');
$blocker->query_safe('SELECT pg_advisory_unlock(1)');
$blocker->quit;
$update->quit;
is($node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'dbopt'"), '9.10', 'updated');
ok($node->poll_query_until('postgres', "$workers", '0'), 'the workers have left again');
write_event('EVENT', 7);
cmp_ok($node->safe_psql('postgres', "SELECT log_position FROM log WHERE data ->> 'n' = '7'"),
	'>', $before, 'events are stamped');
$node->safe_psql('postgres', 'TRUNCATE log');
$node->safe_psql('postgres', 'DROP EXTENSION dbopt CASCADE');
$node->safe_psql('postgres', "INSERT INTO log (id, event_type, aggregate_type, aggregate_id, data)
	VALUES (gen_random_uuid(), 'EVENT', 'a', gen_random_uuid(), '{}')");
is($node->safe_psql('postgres', 'SELECT count(*) FROM log'), '1', 'DROP EXTENSION works, and inserts go on');

$node->stop;
done_testing();
