# No room on the disk: what cannot be written has failed, the breaker opens,
# the server and everything that needs no room go on, and what is left is
# delivered, once, when there is room.  A limit on the size of files stands for
# the full disk: sessions cannot make a table larger than that.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'prlimit cannot be used here' if system('prlimit --pid $$ --fsize > /dev/null 2>&1') != 0;

# Files of the log that are smaller than the limit.
my $node = PostgreSQL::Test::Cluster->new('disk');
$node->init(extra => [ '--wal-segsize', '1' ]);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'dbopt'
dbopt.pool_min = 3
dbopt.pool_max = 3
log_statement = none
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('log', false), dbopt_create_events('other', false);
	CREATE TABLE effects (id uuid, filler text);
	ALTER TABLE effects ALTER filler SET STORAGE PLAIN;
	CREATE TABLE seen (id uuid);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold, reset_timeout)
	VALUES ('patient', 100, '50 ms', '200 ms', 'none', true, 3, '500 ms');
	CREATE FUNCTION fill(log) RETURNS void LANGUAGE sql AS $$ INSERT INTO effects VALUES ($1.id, repeat('x', 7000)) $$;
	CREATE FUNCTION see(other) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ($1.id) $$;
	SELECT dbopt_register_handler('fill', '*', 'fill(log)', events => 'log', policy => 'patient'),
		dbopt_register_handler('see', '*', 'see(other)', events => 'other', policy => 'patient');
});

sub add_events
{
	my ($table, $count) = @_;

	$node->safe_psql('postgres', "INSERT INTO $table (event_type, aggregate_type, aggregate_id, data)
		SELECT 'T', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $count) n");
	return;
}

# For the server, those it starts, and all sessions that are there.
sub limit_files
{
	my ($bytes) = @_;
	my @pids = split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt session'");

	system_or_bail('prlimit', '--pid', $_, "--fsize=$bytes:") foreach slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/, @pids;
	return;
}

# No more lines of a kind than ten in ten seconds, whatever has failed.
sub says_little
{
	my ($offset, $name) = @_;
	my $log = slurp_file($node->logfile, $offset);
	my @seconds = map { my ($h, $m, $s) = split /:/; $s + 60 * ($m + 60 * $h) } $log =~ /^\S+ (\d+:\d+:[\d.]+) \S+ \[/mg;
	my $periods = 2 + int(($seconds[-1] - $seconds[0] + 86400) % 86400 / 10);
	my %lines;

	$lines{$_}++ foreach $log =~ /"operation": "([^"]+", "handler": "[^"]+)"/g;
	cmp_ok(scalar keys %lines, '>', 1, "$name: the log says what has failed");
	is_deeply([ grep { $lines{$_} > 10 * $periods } keys %lines ], [], '... and not too often')
	  or diag explain \%lines;
	return;
}

ok( $node->poll_query_until('postgres', "SELECT count(*) FROM dbopt_pool_sessions() WHERE state = 'idle'", '3'),
	'the sessions are there');
my $offset = -s $node->logfile;
limit_files(4_000_000);
add_events('log', 1000);
ok( $node->poll_query_until('postgres', "SELECT tripped >= 4 FROM dbopt_circuit_breakers() WHERE name = 'fill'"),
	'when there is no room the breaker opens, again and again')
  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_retry_stats()');
like($node->safe_psql('postgres', "SELECT last_error FROM dbopt_retry_stats() WHERE handler = 'fill'"),
	qr/could not extend file/, 'the error says why');
add_events('other', 100);
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM seen', '100'), 'what needs no room is delivered');
is($node->safe_psql('postgres', 'SELECT count(*) < 1000 FROM effects'), 't', 'the rest waits');

limit_files('unlimited');
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM effects', '1000'), 'and is delivered when there is room')
  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_retry_stats()');
is($node->safe_psql('postgres', "SELECT dbopt_drain('60 s')"), 't', 'drained');
is( $node->safe_psql('postgres', 'SELECT count(DISTINCT id), (SELECT count(*) FROM dbopt_dead_letter) FROM effects'),
	'1000|0', 'each event once, and none is given up');
says_little($offset, 'no room for what handlers write');

# No room for dbopt's own tables: more has failed than can be written down.
$node->safe_psql('postgres', q{
	CREATE TABLE switch (is_on boolean);
	INSERT INTO switch VALUES (true);
	CREATE TABLE kept (id uuid);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
	VALUES ('stubborn', 1000, '5 s', '5 s', 'none', true, 1000000);
	CREATE FUNCTION refuse(log) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT is_on FROM switch) THEN RAISE 'not now'; END IF;
		INSERT INTO kept VALUES ($1.id);
	END $$;
	SELECT dbopt_unregister_handler('fill');
	SELECT dbopt_register_handler('refuse', '*', 'refuse(log)', events => 'log', policy => 'stubborn'),
		dbopt_pause_handler('refuse')});
add_events('log', 25000);
$offset = -s $node->logfile;
limit_files(4_000_000);
$node->safe_psql('postgres', "SELECT dbopt_resume_handler('refuse')");
$node->wait_for_log(qr/a job of handler "refuse" failed and is repeated/, $offset);
pass('a job that finds no room for its failures is repeated');
add_events('other', 100);
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM seen', '200'), 'other handlers go on');
limit_files('unlimited');
$node->safe_psql('postgres', 'UPDATE switch SET is_on = false');
ok($node->poll_query_until('postgres', 'SELECT count(*) FROM kept', '25000'), 'all is delivered when there is room')
  or diag $node->safe_psql('postgres', 'SELECT * FROM dbopt_retry_stats()');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT id), (SELECT count(*) FROM dbopt_dead_letter) FROM kept'),
	'25000|0', 'each event once');
says_little($offset, 'no room for what dbopt writes');
unlike(slurp_file($node->logfile), qr/PANIC|was terminated by signal/, 'the server has stayed up');

$node->stop;
done_testing();
