# A session that cannot be reset after a job ends and is replaced.  The job is
# not concerned: what it has committed is told as committed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TestModule;
use Test::More;

my $dir = build_module();
my $node = PostgreSQL::Test::Cluster->new('failed_resets');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	log_statement = none
	dbopt.pool_min = 1
	dbopt.pool_max = 1
	fsync = off
});
$node->start;
asking($node);

sql(qq{
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, act text NOT NULL, arg text NOT NULL DEFAULT '');
	SELECT dbopt_attach_events('events');
	CREATE TABLE done (id int);
	CREATE FUNCTION handle(events) RETURNS int LANGUAGE c STRICT AS '$dir/dbopt_test.so', 'handle_row';
	CREATE FUNCTION spoil_setting() RETURNS void LANGUAGE c AS '$dir/dbopt_test.so';
	SELECT dbopt_register_handler('handle', 'EVENT', 'handle(events)');
});

# What a session does before it ends: the offset in the log, those lost before,
# and its process.
my ($offset, $lost, $pid);

sub lost
{
	return sql(q{SELECT count FROM dbopt_pool_events() WHERE event = 'error'});
}

sub remember
{
	my ($none_temporary) = @_;

	wait_for(q{SELECT count(*) = 1 FROM dbopt_pool_sessions() WHERE state = 'idle'}, 'there is a session');

	# With temporary objects to be dropped, the reset has a transaction.
	sql(q{SELECT dbopt_with_connection('CREATE TEMPORARY TABLE own ()')}) unless $none_temporary;
	$offset = -s $node->logfile;
	$lost = lost();
	$pid = sql('SELECT pid FROM dbopt_pool_sessions()');
	return;
}

# What a call of spoil_commit is in SQL: so many commits go well, and the next
# one fails with that SQLSTATE.
sub spoil
{
	my ($commits, $code) = @_;

	$code //= 'AB123';

	return "handle(jsonb_populate_record(NULL::events, jsonb_build_object(''id'', 0, ''act'', ''spoil_commit'', ''arg'', ''" . ($commits + 1) . " $code'')))";
}

sub is_replaced
{
	my ($what, $code, $text) = @_;

	$code //= 'AB123';
	$text //= qr/failed in C/;
	wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", "$what: the session has ended");
	wait_for(q{(SELECT count FROM dbopt_pool_events() WHERE event = 'error') = } . ($lost + 1), "$what: and is counted");
	my $log = slurp_file($node->logfile, $offset);
	my @lines = $log =~ /(LOG:  dbopt: a dbopt session could not be reset, and ends: $text\n.*)/g;

	is(@lines, 1, "$what: it has a line in the log");
	like($lines[0], qr/\{.*"operation": "pool", "sqlstate": "$code"/, "$what: with the particulars");
	unlike($log, qr/ERROR:  failed in C/, "$what: and no other");
	return;
}

# As many rows as the caller's queue holds, and more: sessions answer some of
# their callers when they are idle, and others before.
foreach my $rows (3, 100_000)
{
	remember();
	my ($status, $printed, $errors) = $node->psql('postgres', qq{
		SELECT count(*), min(r ->> 'pid') FROM dbopt_with_connection(
			'SELECT pg_backend_pid() AS pid FROM generate_series(1, $rows), (SELECT @{[ spoil(1) ]} OFFSET 0) x') r});

	is($status, 0, "$rows rows: the call succeeds");
	is($errors, '', "$rows rows: without a complaint");
	is($printed, "$rows|$pid", "$rows rows: all are there");
	is(sql('DELETE FROM done RETURNING id'), 0, "$rows rows: and so is what it has written");
	is_replaced("$rows rows");
}
is(sql(q{SELECT state, failures FROM dbopt_circuit_breakers() WHERE name = 'database'}), 'CLOSED|0', 'no call has failed');

remember();
like(failure("SELECT dbopt_with_connection('SELECT @{[ spoil(0) ]}; SELECT 1 / 0')"),
	qr/ERROR:  22012: division by zero/, 'a call that fails has its own error');
is_replaced('a call that fails');

# One without a transaction.
remember('none temporary');
is(sql(q{SELECT count(*) FROM dbopt_with_connection('INSERT INTO done SELECT 0 FROM (SELECT spoil_setting()) x')}),
	0, 'a setting that cannot be taken back');
is(sql('DELETE FROM done RETURNING id'), 0, '... and what is written besides');
is_replaced('a setting');

remember();
sql(q{INSERT INTO events VALUES (1, 'EVENT', 'spoil_commit', '2')});
is_replaced('an event');

# Messages of these classes may hold values.
foreach my $code (qw(22012 23505 P0001))
{
	remember();
	failure("SELECT dbopt_with_connection('SELECT @{[ spoil(0, $code) ]}; SELECT 1 / 0')");
	is_replaced($code, $code, qr/\(text withheld\)/);
}
sql(q{INSERT INTO events VALUES (2, 'EVENT', 'succeed')});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'and those that come are delivered');
is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM done}), '1 2', 'each once');
is(sql(q{SELECT attempts, failures FROM dbopt_retry_stats() WHERE handler = 'handle'}), '2|0', 'at the first attempt');

# ---- other commits that fail ------------------------------------------------------

# The next hand-out's.  The job is repeated, and the log says why it failed.
my $id = 2;
sql(q{SELECT dbopt_unregister_handler('handle');
	SELECT dbopt_register_handler('handle', 'EVENT', 'handle(events)', chunk_size => 1)});
foreach my $code (qw(40001 23505))
{
	my $text = $code eq '40001' ? 'could not commit: failed in C' : '\(text withheld\)';

	$offset = -s $node->logfile;
	sql("INSERT INTO events SELECT $id + n, 'EVENT', CASE n WHEN 1 THEN 'spoil_commit' ELSE 'succeed' END, '2 $code' FROM generate_series(1, 3) n");
	$id += 3;
	is(sql(q{SELECT dbopt_drain('60 s')}), 't', "$code: what follows a commit that fails is delivered");
	like(slurp_file($node->logfile, $offset),
		qr/LOG:  dbopt: a job of handler "handle" failed and is repeated: $text\n.*"sqlstate": "$code"/, '... and the log says how that was');
}
is(sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM done}), join(' ', 1 .. $id), '... each once');

$node->stop;
done_testing();
