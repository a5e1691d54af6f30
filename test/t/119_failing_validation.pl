# A new session that cannot run a query is of no use: it is counted as one that
# failed, another one is tried after a while, and who waits is told why.
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
my $node = PostgreSQL::Test::Cluster->new('failing_validation');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
	shared_preload_libraries = 'dbopt, $dir/dbopt_test'
	log_statement = none
	dbopt.pool_min = 0
	dbopt.pool_max = 4
	dbopt.pool_acquire_timeout = '100 s'
	fsync = off
});
$node->start;
asking($node);

my $call = q{SELECT dbopt_with_connection('SELECT 1')};
my $log = -s $node->logfile;

sub count_of
{
	my ($event) = @_;

	return sql("SELECT count FROM dbopt_pool_events() WHERE event = '$event'");
}

# A caller of role app that waits.
sub waiting_caller
{
	my $caller = $node->background_psql('postgres', on_error_stop => 0);

	$caller->query_until(qr/started/, qq{SET ROLE app;\n\\echo started\n$call;\n});
	wait_for('(SELECT waiting FROM dbopt_pool_stats()) = 1', 'a caller waits');
	return $caller;
}

# Those of its log lines that say that a session was not created.
sub log_lines
{
	return slurp_file($node->logfile, $log) =~ /LOG:  dbopt: could not start a dbopt session for role \d+, which is tried again\n.*DETAIL:  (\{.*\})/g;
}

sub times_logged
{
	my ($pattern) = @_;

	return scalar(() = slurp_file($node->logfile, $log) =~ /$pattern/g);
}

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN;
	UPDATE dbopt_retry_policy SET failure_threshold = 1000000 WHERE name = 'database';
});
is(sql("SET ROLE app; $call"), '{"?column?": 1}', 'a session that can run a query is given jobs');

# ---- an error ------------------------------------------------------------

sql(q{ALTER ROLE app SET dbopt_test.refuse = on});
wait_for(q{SELECT count(*) = 0 FROM dbopt_pool_sessions()}, 'the session with other settings has ended');
my $created = count_of('createSuccess');
my $since = sql('SELECT clock_timestamp()');
my $caller = waiting_caller();
wait_for(q{(SELECT count FROM dbopt_pool_events() WHERE event = 'createFail') >= 3}, 'three sessions fail, one after the other');
is(count_of('createSuccess'), $created, 'and none is given to the caller');
is(sql($call), '{"?column?": 1}', 'another role is served meanwhile');
my @lines = log_lines();
my @attempts = map { join ' ', /"attempt": (\d+)/, /"sqlstate": "(\w+)"/, /"delay_ms": ([\d.]+)/ } @lines;
is_deeply(\@attempts, ['1 AB123 1000.000'], 'the log says so once, with what comes next');
is(times_logged(qr/ERROR:  no query is planned/), 1, '... and why');
is(times_logged(qr/background worker "dbopt session" .*exited/), 1, '... as does the postmaster');
cmp_ok(sql("SELECT extract(epoch FROM clock_timestamp() - '$since')"), '>=', 3, 'attempts are put off longer and longer');

sql(q{ALTER ROLE app RESET dbopt_test.refuse});
ok(pump_until($caller->{run}, $caller->{timeout}, \$caller->{stdout}, qr/"\?column\?": 1/), 'when they can run it, the caller is served');
$caller->quit;
is(count_of('createRequest'), count_of('createSuccess') + count_of('createFail'), 'each that was to be created was or not');

sql(q{ALTER ROLE app SET dbopt_test.refuse = on});
wait_for(q{SELECT count(*) = 0 FROM dbopt_pool_sessions() WHERE role = 'app'}, 'there is no session again');
set_reload(q{dbopt.pool_acquire_timeout = '2 s'});
my $failed = count_of('createFail');
like(failure("SET ROLE app; $call"),
	qr/ERROR:  53300: .*\nDETAIL:  The last session could not be created: no query is planned \(SQLSTATE AB123\)\./, 'a caller that waits in vain is told why');
cmp_ok(count_of('createFail'), '>', $failed, 'which is counted');
sql(q{ALTER ROLE app RESET dbopt_test.refuse});
is(sql("SET ROLE app; $call"), '{"?column?": 1}', 'later callers are served');

# ---- no end --------------------------------------------------------------

# A query of a role like this waits until nobody writes.
sql(q{CREATE TABLE t (a int);
	ALTER ROLE app SET default_transaction_isolation = 'serializable';
	ALTER ROLE app SET default_transaction_read_only = on;
	ALTER ROLE app SET default_transaction_deferrable = on});
wait_for(q{SELECT count(*) = 0 FROM dbopt_pool_sessions() WHERE role = 'app'}, 'there is no session again');
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO t VALUES (1)});
$caller = waiting_caller();
wait_for('(SELECT num_pending_creates FROM dbopt_connection_stats()) = 1', 'a session is being created');
$caller->quit;
set_reload(q{dbopt.pool_create_timeout = '100 ms'});
wait_for(q{current_setting('dbopt.pool_create_timeout') = '100ms'}, 'sessions must be ready soon');
$failed = count_of('createFail');
like(failure("SET ROLE app; $call"),
	qr/ERROR:  53300: .*\nDETAIL:  The last session could not be created: it was not ready within dbopt\.pool_create_timeout \(SQLSTATE 57014\)\./,
	'a query that does not end is not waited for');
cmp_ok(count_of('createFail'), '>', $failed, 'and counts as one that fails');
$writer->query_safe('COMMIT');
$writer->quit;

$node->stop;
done_testing();
