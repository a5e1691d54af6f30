# The circuit breaker of callers' SQL: what counts against it, that it lets
# nothing through when it is open, and that a trial which comes to nothing, for
# whatever reason, does not keep it shut.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('callers_breaker');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	dbopt.pool_max = 3
	dbopt.pool_min = 0
	dbopt.pool_idle_timeout = '1 h'
	dynamic_shared_memory_type = mmap
	min_dynamic_shared_memory = 0
	fsync = off
});
$node->start;
asking($node);

sub call
{
	my ($statement) = @_;

	return "SELECT dbopt_with_connection(\$q\$$statement\$q\$)";
}

# A call that fails with this SQLSTATE, which is its own.
sub fail_with
{
	my ($code) = @_;

	like(failure(call("DO 'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''$code''; END'")), qr/ERROR:  $code: no\n/, "... with $code");
	return;
}

sub is_breaker
{
	my ($expected, $name) = @_;

	is(sql(q{SELECT state, consecutive_failures, tripped FROM dbopt_circuit_breakers() WHERE name = 'database'}), $expected, $name);
	return;
}

# Opens it by three failures.
sub open_breaker
{
	my ($reset_timeout) = @_;

	sql(qq{UPDATE dbopt_retry_policy SET failure_threshold = 3, reset_timeout = '$reset_timeout' WHERE name = 'database'});
	fail_with('08000') foreach 1 .. 3;
	return;
}

# A caller whose statement waits until the lock is released.
sub waiting_caller
{
	my $caller = $node->background_psql('postgres', on_error_stop => 0);

	$caller->query_until(qr/started/, "\\echo started\n" . call('SELECT pg_advisory_xact_lock_shared(1)') . ";\n");
	wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}, 'a caller is on trial');
	return $caller;
}

sql(q{CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE note (t text);
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE FUNCTION take(events) RETURNS void LANGUAGE sql AS 'INSERT INTO note VALUES (''event'')';
	SELECT dbopt_register_handler('take', '*', 'take(events)')});
my $one = call('SELECT 1 AS a');
my $refused = qr/ERROR:  57P03: circuit breaker "database" is open\n/;

# ---- what counts ---------------------------------------------------------

sql(q{UPDATE dbopt_retry_policy SET failure_threshold = 3, reset_timeout = '1 h' WHERE name = 'database'});
fail_with($_) foreach qw(08000 53000);
is_breaker('CLOSED|2|0', 'failures in a row are counted');
fail_with($_) foreach qw(40001 40P01 55P03 22012 23505 P0001);
is_breaker('CLOSED|2|0', 'but neither conflicts nor errors of the statement');
is(sql($one), '{"a": 1}', 'a call that succeeds');
is_breaker('CLOSED|0|0', '... ends the row');
like(failure(call('SELECT pg_terminate_backend(pg_backend_pid())')), qr/ERROR:  08006/, 'a session that dies');
is_breaker('CLOSED|1|0', '... counts');
fail_with('08000');
sql(q{UPDATE dbopt_retry_policy SET failure_threshold = 1000 WHERE name = 'database'});
fail_with('08000');
is_breaker('CLOSED|3|0', 'the threshold is the present one');
sql(q{UPDATE dbopt_retry_policy SET failure_threshold = 3 WHERE name = 'database'});
fail_with('08000');
is_breaker('OPEN|4|1', '... and opens it');

# ---- open ----------------------------------------------------------------

my $rejected = q{SELECT rejected FROM dbopt_circuit_breakers() WHERE name = 'database'};
my $before = sql($rejected);
like(failure(call(q{INSERT INTO note VALUES ('never')})),
	qr/${refused}DETAIL:  It stays so until \d{4}-.*\.\nHINT:  dbopt_reset_circuit_breaker\('database'\) closes it\./, 'nothing is let through');
like(failure(q{SELECT dbopt_with_transaction('{INSERT INTO note VALUES (''never'')}')}), $refused, 'no transaction, either');
is(sql('SELECT dbopt_test_connection()'), 'f', 'nor a test');
is(sql("SELECT ($rejected) - $before"), 3, '... which is counted');
is(sql('SELECT circuit_breaker_state FROM dbopt_connection_stats()'), 'OPEN', '... and told');
sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('E', 'a', dbopt_uuid_v7(), '{}')});
is(sql(q{SELECT dbopt_drain('60 s')}), 't', 'events are delivered all the same');
sql(q{CALL dbopt_with_database_retry('INSERT INTO note VALUES (''own'')')});
is(sql(q{SELECT string_agg(t, ' ' ORDER BY t) FROM note}), 'event own', '... and so is SQL in sessions of its own');
sql(q{SELECT dbopt_reset_circuit_breaker('database')});
is(sql($one), '{"a": 1}', 'a reset lets all through');

# ---- trials --------------------------------------------------------------

open_breaker('1 ms');
fail_with('08000');
is_breaker('OPEN|4|3', 'a trial that fails opens it again');
is(sql($one), '{"a": 1}', 'one that succeeds');
is_breaker('CLOSED|0|3', '... closes it');
open_breaker('1 ms');
fail_with('22012');
is_breaker('CLOSED|0|4', 'so does one that fails, but shows that the database answers');

my $lock = $node->background_psql('postgres');
$lock->query_safe('SELECT pg_advisory_lock(1)');
open_breaker('1 ms');
my $caller = waiting_caller();
is_breaker('HALF_OPEN|3|5', 'there is one trial');
like(failure($one), qr/${refused}DETAIL:  It stays so until it is reset, or a trial has succeeded\./, '... at a time');
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'xact_lock_shared' AND backend_type = 'client backend'
	AND pid <> pg_backend_pid()});
wait_for(q{SELECT count(*) = 0 FROM dbopt_pool_sessions() WHERE state = 'busy'}, 'who is on trial is cancelled');
is_breaker('HALF_OPEN|3|5', '... which tells nothing');
$caller->quit;
$caller = waiting_caller();
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'xact_lock_shared' AND backend_type = 'client backend'
	AND pid <> pg_backend_pid()});
wait_for(q{SELECT count(*) = 0 FROM dbopt_pool_sessions() WHERE state = 'busy'}, 'the next one is ended');
is_breaker('HALF_OPEN|3|5', '... nor does that');
$caller->{run}->finish;
$caller = waiting_caller();
sql(q{SELECT pg_terminate_backend(pid) FROM dbopt_pool_sessions() WHERE state = 'busy'});
wait_for(q{SELECT tripped = 6 FROM dbopt_circuit_breakers() WHERE name = 'database'}, 'a session that dies is a failure');
$caller->quit;
$lock->quit;
is(sql($one), '{"a": 1}', 'and the next trial succeeds');
is_breaker('CLOSED|0|6', '... and closes it');

# ---- no memory for a call ------------------------------------------------

open_breaker('1 ms');
my $connected = $node->background_psql('postgres', on_error_stop => 0);
my $segments = $node->data_dir . '/pg_dynshmem';
$connected->query_safe('SELECT 1');
rename $segments, "$segments.away" or die "rename: $!";
$connected->query($one);
rename "$segments.away", $segments or die "rename: $!";
is($connected->query('\echo :LAST_ERROR_SQLSTATE'), '58P01', 'a trial for which there is no memory');
$connected->quit;
is(sql($one), '{"a": 1}', '... does not keep others from theirs');
is_breaker('CLOSED|0|7', '... which closes the breaker');

$node->stop;
done_testing();
