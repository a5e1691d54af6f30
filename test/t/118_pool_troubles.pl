# What a caller is told when it has no session, what is counted then, and that
# an error names what it would name without a pool.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# There is room for one session.
my $node = PostgreSQL::Test::Cluster->new('pool_troubles');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 16
	dbopt.max_workers = 1
	dbopt.pool_min = 0
	dbopt.pool_max = 4
	dbopt.pool_idle_timeout = '1 h'
	dbopt.pool_acquire_timeout = '60 s'
	fsync = off
});
$node->start;
asking($node);

sub count_of
{
	my ($event) = @_;

	return sql("SELECT count FROM dbopt_pool_events() WHERE event = '$event'");
}

my $call = q{SELECT dbopt_with_connection('SELECT 1')};
my $used = '(SELECT used FROM dbopt_pool_stats())';

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN;
	UPDATE dbopt_retry_policy SET failure_threshold = 1000000 WHERE name = 'database';
});

# ---- how long sessions take to be created --------------------------------

sql($call);
my $created = q{(SELECT sum(value) FROM dbopt_metrics() WHERE name = 'database.pool.create.duration.%s')};
is(sql(sprintf "SELECT $created", 'count'), 1, 'a session has been created, and its time counted');
is(count_of('createSuccess'), 1, 'as the event is');
is(sql(sprintf "SELECT $created > 0 AND $created * interval '1 s' < now() - pg_postmaster_start_time()", 'sum', 'sum'),
	't', 'for as long as it can have taken');
is(sql(q{SELECT max(value) FROM dbopt_metrics() WHERE name = 'database.pool.create.duration.bucket'}), 1, 'in one of the buckets');

# ---- why there is none ---------------------------------------------------

set_reload(q{dbopt.pool_acquire_timeout = '1 s'});
my $failed;
my $lock = $node->background_psql('postgres');
$lock->query_safe('SELECT pg_advisory_lock(1)');
my $caller = $node->background_psql('postgres');
$caller->query_until(qr/started/, qq{\\echo started\nSELECT dbopt_with_connection('SELECT pg_advisory_xact_lock_shared(1)');\n});
wait_for("$used = 1", 'a caller has the only session');
$failed = count_of('createFail');
like(failure($call),
	qr/ERROR:  53300: .*\nDETAIL:  No background worker slot is free; sessions in use: 1\.\nHINT:  .*max_worker_processes/, 'no worker slot');
cmp_ok(count_of('createFail'), '>', $failed, 'and is counted');
is(count_of('createSuccess') + count_of('createFail'), count_of('createRequest'), 'each that was to be created was or not');
my $test = 'SELECT dbopt_test_connection()';
my (undef, $answer, $notice) = $node->psql('postgres', $test);
is($answer, 'f', 'a test says no');
like($notice, qr/NOTICE:  no pool session has answered: no pool session was available within 1000 ms/, '... and why');
like(failure("SET statement_timeout = '100 ms'; $test"), qr/ERROR:  57014/, 'one that is cancelled says nothing');
set_reload('dbopt.pool_max = 1');
wait_for(q{(SELECT max FROM dbopt_pool_stats()) = 1}, 'the pool is smaller');
like(failure($call), qr/ERROR:  53300: .*\nDETAIL:  All sessions are in use \(1\): a caller of role /, 'the pool is full');

# A role loses its right while its caller waits.
set_reload(q{dbopt.pool_acquire_timeout = '10 s'});
wait_for(q{current_setting('dbopt.pool_acquire_timeout') = '10s'}, 'a caller waits for longer');
my $refused = $node->background_psql('postgres', on_error_stop => 0);
$refused->query_until(qr/started/, qq{SET ROLE app;\n\\echo started\n$call;\n});
wait_for('(SELECT waiting FROM dbopt_pool_stats()) = 1', 'another one waits');
sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
$failed = count_of('createFail');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->quit foreach $lock, $caller;
wait_for("$used = 0", 'all sessions are free');
ok(pump_until($refused->{run}, $refused->{timeout}, \$refused->{stderr}, qr/HINT: /), 'the call fails in time');
like($refused->{stderr}, qr/DETAIL:  The last session could not be created: permission denied for database "postgres" \(SQLSTATE 42501\)\./,
	'its session cannot be created');
cmp_ok(count_of('createFail'), '>', $failed, 'and is counted');
$refused->quit;
sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
is(sql("SET ROLE app; $call"), '{"?column?": 1}', 'with the right again, it is');

my $launcher = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt launcher'});
END { kill 'CONT', $launcher if defined $launcher; }
kill 'STOP', $launcher;
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'});
wait_for(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type IN ('dbopt scheduler', 'dbopt session')}, 'the scheduler has gone');
like(failure($call), qr/ERROR:  53300: .*\nDETAIL:  This database has no dbopt scheduler at present\./, 'no scheduler');
kill 'CONT', $launcher;
$launcher = undef;
set_reload(q{dbopt.pool_acquire_timeout = '60 s'});
is(sql($call), '{"?column?": 1}', 'when there is one again, a caller is served');

# ---- a session that does not go ------------------------------------------

my $session = sql(q{SELECT pid FROM dbopt_pool_sessions() WHERE state = 'idle'});
my $destroyed = count_of('destroySuccess');
END { kill 'CONT', $session if defined $session; }
kill 'STOP', $session;
set_reload(q{dbopt.shutdown_timeout = '1 s'});
set_reload(q{dbopt.pool_idle_timeout = '10 ms'});
wait_for(q{(SELECT count = 1 FROM dbopt_pool_events() WHERE event = 'destroyFail')}, 'a session that does not go in time is counted');
is(sql('SELECT state FROM dbopt_pool_sessions()'), 'stopping', 'while it is still there');
kill 'CONT', $session;
$session = undef;
wait_for('(SELECT total = 0 FROM dbopt_pool_stats())', 'it goes when it can');
is(join('|', map { count_of($_) } qw(destroyFail destroySuccess)), "1|$destroyed", 'and is counted once');
is(scalar(() = slurp_file($node->logfile) =~ /a dbopt session has not ended in time, and is terminated/g), 1, 'as it is told');

# ---- sessions that end at once -------------------------------------------

# The CPU time that a process has had, in ticks of 10 ms.
sub ticks_of
{
	my ($pid) = @_;
	my @values = split / /, slurp_file("/proc/$pid/stat") =~ s/.*\) //sr;

	return $values[11] + $values[12];
}

SKIP:
{
	skip 'there is no /proc', 2 unless -e '/proc/self/stat';
	my $scheduler = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'");

	set_reload('dbopt.pool_idle_timeout = 0');
	my $before = ticks_of($scheduler);
	sql(q{SELECT dbopt_with_connection('SELECT pg_sleep(2) -- work')});
	cmp_ok(ticks_of($scheduler) - $before, '<', 30, 'while a caller is served the scheduler rests');
	wait_for('(SELECT total = 0 FROM dbopt_pool_stats())', 'the session ends afterwards');
}
set_reload(q{dbopt.pool_idle_timeout = '1 h'});
is(sql($call), '{"?column?": 1}', 'another one serves');

# ---- roles that come and go ----------------------------------------------

# What the scheduler keeps of roles, in bytes.
sub memory_of_roles
{
	my $offset = -s $node->logfile;

	sql(q{SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'});
	$node->wait_for_log(qr/dbopt roles: \d+ total/, $offset);
	return (slurp_file($node->logfile, $offset) =~ /dbopt roles: (\d+) total/)[0];
}

my $kept = memory_of_roles();
foreach my $i (1 .. 60)
{
	sql("CREATE ROLE brief_$i LOGIN; SET ROLE brief_$i; $call; RESET ROLE; DROP ROLE brief_$i");
}
is(memory_of_roles(), $kept, 'the scheduler forgets roles that have no sessions');

# ---- errors name what they are about -------------------------------------

sql(q{
	CREATE SCHEMA own;
	CREATE DOMAIN own.positive AS int CONSTRAINT above CHECK (VALUE > 0);
	CREATE TABLE own.t (a int CONSTRAINT one UNIQUE, b text NOT NULL DEFAULT '', c own.positive,
		d int CONSTRAINT even CHECK (d % 2 = 0), CONSTRAINT refers FOREIGN KEY (d) REFERENCES own.t (a));
	INSERT INTO own.t (a) VALUES (1);
});
my %names = (
	'INSERT INTO own.t (a) VALUES (1)' => 'SCHEMA NAME:  own|TABLE NAME:  t|CONSTRAINT NAME:  one',
	'INSERT INTO own.t (b) VALUES (NULL)' => 'SCHEMA NAME:  own|TABLE NAME:  t|COLUMN NAME:  b',
	'INSERT INTO own.t (c) VALUES (0)' => 'SCHEMA NAME:  own|DATATYPE NAME:  positive|CONSTRAINT NAME:  above',
	'INSERT INTO own.t (d) VALUES (3)' => 'SCHEMA NAME:  own|TABLE NAME:  t|CONSTRAINT NAME:  even',
	'INSERT INTO own.t (d) VALUES (4)' => 'SCHEMA NAME:  own|TABLE NAME:  t|CONSTRAINT NAME:  refers');
foreach my $statement (sort keys %names)
{
	my $own = failure($statement);
	my $pooled = failure("SELECT dbopt_with_connection('$statement')");

	is(join('|', $pooled =~ /^(\w+ NAME: .*)$/mg), $names{$statement}, "names in the error of $statement");
	is(($pooled =~ /(ERROR: .*\n(?:DETAIL: .*\n)?)/)[0], ($own =~ /(ERROR: .*\n(?:DETAIL: .*\n)?)/)[0], '... which is the same');
}

$node->stop;
done_testing();
