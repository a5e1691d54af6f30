# Many callers on a small pool: how many have a session at a time, in which
# order, what is kept for whom, how the pool grows and shrinks, and that nothing
# is left over after thousands of calls, many of which end badly.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('callers');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 20
	max_connections = 80
	log_statement = none
	fsync = off
	dynamic_shared_memory_type = mmap
	min_dynamic_shared_memory = 0
	dbopt.pool_min = 1
	dbopt.pool_max = 5
	dbopt.pool_idle_timeout = '300 ms'
	dbopt.pool_acquire_timeout = '60 s'
});
$node->start;
asking($node);

# Runs statements in psqls side by side, each until it is finished.
my $scripts = 0;
sub start_psql
{
	my (@statements) = @_;
	my @started;

	foreach my $statement (@statements)
	{
		my $script = $node->basedir . '/script' . $scripts++;

		append_to_file($script, $statement);
		push @started,
		  IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $script ],
			'<', '/dev/null', '>', '/dev/null', '2>', '/dev/null');
	}
	return @started;
}

# A caller whose session waits until lock() is released.
sub start_waiting
{
	my ($count, $before) = @_;

	$before //= '';
	return start_psql(
		map { "$before SELECT dbopt_with_connection('SELECT pg_advisory_xact_lock_shared(1)')" } 1 .. $count);
}

my $busy = q{(SELECT count(*) FROM dbopt_pool_sessions() WHERE state = 'busy')};
my $waiting = q{(SELECT waiting FROM dbopt_pool_stats())};

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN IN ROLE pg_read_all_stats;
	CREATE ROLE limited LOGIN CONNECTION LIMIT 1;
	CREATE TABLE span (n serial, name text, a timestamptz, b timestamptz DEFAULT clock_timestamp());
	GRANT ALL ON span, span_n_seq TO app, limited;
	UPDATE dbopt_retry_policy SET failure_threshold = 1000000 WHERE name = 'database';
});

# ---- how many at a time --------------------------------------------------

$node->pgbench('-n -c 50 -j 2 -t 4', 0, [qr/processed: 200\/200/], [qr/^$/], '50 callers on a pool of 5',
	{ 'spans' => q{SELECT count(*) FROM dbopt_with_connection('WITH s AS MATERIALIZED (SELECT clock_timestamp() AS a, pg_sleep(0.004)) -- work
		INSERT INTO span (a) SELECT a FROM s');} });
is(sql('SELECT max(n) FROM (SELECT sum(d) OVER (ORDER BY t, d) AS n FROM (SELECT a AS t, 1 AS d FROM span UNION ALL SELECT b, -1 FROM span) x) y'),
	5, 'have 5 sessions at a time, and no more');
is(sql('SELECT count(*) FROM span'), 200, 'each of them once');

# ---- the pool grows and shrinks ------------------------------------------

wait_for(q{SELECT total = 1 AND used = 0 FROM dbopt_pool_stats()}, 'when all have gone, the pool shrinks to pool_min');
my $lock = $node->background_psql('postgres');
$lock->query_safe('SELECT pg_advisory_lock(1)');
my @callers;
foreach my $count (1, 2, 3, 5)
{
	push @callers, start_waiting($count - @callers);
	wait_for("SELECT used = $count AND total = $count FROM dbopt_pool_stats()", "$count callers have $count sessions");
}
push @callers, start_waiting(2);
wait_for("SELECT $busy = 5 AND $waiting = 2", 'more than pool_max wait');
is(sql('SELECT utilization, health FROM dbopt_pool_stats()'), '100|critical', 'which is critical');
my $stats = 'SELECT num_used, num_free, num_pending_acquires, num_pending_creates, utilization, pool_health FROM dbopt_connection_stats()';
is(sql($stats), '5|0|2|0|100|critical', 'as statistics of connections have it');
set_reload(q{dbopt.pool_idle_timeout = '1 h'});
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->finish foreach @callers;
wait_for('SELECT total = 5 AND free = 5 FROM dbopt_pool_stats()', 'the load falls, and idle sessions stay for a time');
wait_for("$waiting = 0", 'nobody waits');
is(sql($stats), '0|5|0|0|0|healthy', 'which are free then');
set_reload(q{dbopt.pool_idle_timeout = '300 ms'});
wait_for('SELECT total = 1 FROM dbopt_pool_stats()', 'and then end, down to pool_min');

# ---- in which order ------------------------------------------------------

set_reload('dbopt.pool_max = 1');
sql(q{TRUNCATE span RESTART IDENTITY});
$lock->query_safe('SELECT pg_advisory_lock(1)');
@callers = start_waiting(1);
wait_for("SELECT $busy = 1", 'the only session is in use');
foreach my $i (1 .. 6)
{
	push @callers, start_psql("SELECT dbopt_with_connection('INSERT INTO span (name) VALUES (''$i'')')");
	wait_for("SELECT $waiting = $i", "caller $i waits");
}
push @callers, start_psql(q{SET ROLE app; SELECT dbopt_with_connection('INSERT INTO span (name) VALUES (''app'')')});
wait_for("SELECT $waiting = 7", 'and one of another role');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->finish foreach @callers;
is(sql(q{SELECT string_agg(name, ' ' ORDER BY n) FROM span}), '1 2 3 4 5 6 app', 'they are served in the order of their arrival');

# The session of one role makes room for that of another.
sql('TRUNCATE span');
@callers = start_psql(
	map { $_ . q{SELECT dbopt_with_connection($$INSERT INTO span (name) SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'dbopt session'$$);} x 20 } ('SET ROLE app;', '') x 4);
$_->finish foreach @callers;
is(sql('SELECT count(*), min(name), max(name) FROM span'), '160|1|1', 'two roles do not have more sessions than pool_max, either');

# Callers of one role that come again and again do not keep another's waiting.
$node->safe_psql('postgres', 'TRUNCATE span');
@callers = start_psql(
	map { (q{SELECT count(*) FROM dbopt_with_connection('SELECT pg_sleep(0.002) -- work
		WHERE (SELECT count(*) = 0 FROM span)');
	} x 1500) } 1 .. 3);
wait_for("SELECT $busy = 1 AND $waiting > 0", 'callers of one role come again and again');
sql(q{SET ROLE app; SET statement_timeout = '30 s'; SELECT dbopt_with_connection('INSERT INTO span (name) VALUES (''app'')')});
$_->finish foreach @callers;
pass('and another role had its turn');

# ---- what is kept for whom -----------------------------------------------

set_reload('dbopt.pool_max = 3');
set_reload('dbopt.pool_reserved = 1');
sql(q{
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE FUNCTION wait(e events) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)';
	SELECT dbopt_register_handler('wait', '*', 'wait(events)', chunk_size => 1);
});
$lock->query_safe('SELECT pg_advisory_lock(1)');
sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
	SELECT 'T' || i, 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, 6) i});
wait_for("SELECT $busy = 2 AND $waiting > 0", 'events have all sessions but the reserved one');
is(sql(q{SELECT count(*) FROM dbopt_with_connection('SELECT 1')}), 1, 'which a caller gets');
sql(q{SELECT dbopt_pause_handler('wait')});
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(sql('SELECT dbopt_drain()'), 't', 'what runs ends');
$lock->query_safe('SELECT pg_advisory_lock(1)');
@callers = start_waiting(4);
wait_for("SELECT $busy = 2 AND $waiting = 2", 'callers have all but one, too');
sql(q{SELECT dbopt_resume_handler('wait')});
wait_for(q{SELECT count(*) = 1 FROM dbopt_pool_sessions() WHERE handler = 'wait'}, 'which events get');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->finish foreach @callers;
is(sql('SELECT dbopt_drain()'), 't', 'all ends');

# ---- why there is none ---------------------------------------------------

set_reload(q{dbopt.pool_acquire_timeout = '100 ms'});
$lock->query_safe('SELECT pg_advisory_lock(1)');
@callers = start_waiting(1, 'SET ROLE limited;');
wait_for("SELECT $busy = 1", 'a role has as many sessions as it may');
my $call = q{SELECT dbopt_with_connection('SELECT 1')};
like(failure("SET ROLE limited; $call"),
	qr/ERROR:  53300: .*\nDETAIL:  Callers of role limited use as many sessions as its CONNECTION LIMIT allows: 1\.\nHINT:  .*CONNECTION LIMIT/,
	'and is told so');
push @callers, start_waiting(1);
wait_for("SELECT $busy = 2", 'another caller');
like(failure($call), qr/ERROR:  53300: .*\nDETAIL:  Sessions in use \(2 of 3\): .*kept for events/, 'the last session is kept for events');
set_reload('dbopt.pool_max = 2');
set_reload('dbopt.pool_reserved = 0');
like(failure($call),
	qr/ERROR:  53300: .*\nDETAIL:  All sessions are in use \(2\): a caller of role \w+ \(PID \d+\), a caller of role \w+ \(PID \d+\)\.\nHINT:  .*pool_max/,
	'all are in use, and by whom');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
$_->finish foreach @callers;

# ---- after a restart -----------------------------------------------------

set_reload('dbopt.pool_max = 5');
set_reload('dbopt.pool_min = 3');
set_reload(q{dbopt.pool_acquire_timeout = '60 s'});
$node->restart;
wait_for('SELECT free = 3 AND total = 3 FROM dbopt_pool_stats()', 'after a restart, pool_min sessions are ready');
set_reload('dbopt.pool_min = 5');
wait_for('SELECT free = 5 AND total = 5 FROM dbopt_pool_stats()', 'pool_min can be raised, though there is no work for more');
set_reload('dbopt.pool_min = 1');
wait_for('SELECT total = 1 FROM dbopt_pool_stats()', '... and lowered');

# ---- nothing is left -----------------------------------------------------

my $segments = sub { return scalar(() = glob($node->data_dir . '/pg_dynshmem/*')); };
my $before = $segments->();
my $ordinary = q{SELECT count(*) FROM dbopt_with_connection('SELECT 1', '{}');
};
my $cancelled = q{SET statement_timeout = 3; SELECT dbopt_with_connection('SELECT pg_advisory_lock(2), pg_sleep(60) -- work');
SET statement_timeout = 0;
};
my $killed = q{SELECT dbopt_with_connection('SELECT pg_advisory_lock(2), pg_terminate_backend(pg_backend_pid())');
};
my $suicide = q{SELECT dbopt_with_connection(format('SELECT pg_advisory_lock(2), pg_terminate_backend(%s), pg_sleep(60) -- work', pg_backend_pid()))};

# 4 times 2,500 calls, of which 1,675 are ordinary, 800 cancelled, and 25 end
# their session; and 60 that end their caller.
@callers = start_psql(map { join('', ($ordinary x 67 . $cancelled x 32 . $killed) x 25) } 1 .. 4);
$_->finish foreach @callers, start_psql(($suicide) x 30);
$_->finish foreach start_psql(($suicide) x 30);
wait_for("SELECT $busy = 0 AND $waiting = 0", 'after 10,000 calls no session is at work');
wait_for('SELECT total = 1 FROM dbopt_pool_stats()', 'the others have ended');
my %events = map { split /\|/ } split /\n/, sql('SELECT * FROM dbopt_pool_events()');
cmp_ok($events{acquireRequest}, '>=', 9900, 'about 10,000 sessions were asked for');
is($events{acquireSuccess} + $events{acquireFail}, $events{acquireRequest}, 'each was given or not');
is($events{release} + $events{error}, $events{acquireSuccess}, 'and given back, or died');
is($events{createSuccess} + $events{createFail}, $events{createRequest}, 'each that was to be created was or not');
is($events{destroySuccess}, $events{createSuccess} - 1, 'and all but one have ended');
is($events{destroyRequest}, $events{destroySuccess} - $events{error}, 'those that have not died at work were told to');
is($events{destroyFail}, 0, 'and none could refuse');
cmp_ok($events{error}, '>=', 90, 'some have died at work');
is($segments->(), $before, 'no segment of shared memory is left');
is(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()}), 0, 'nor a lock');
is(sql($ordinary), 1, 'and the next call is served');

# ---- a trial that does not begin ------------------------------------------

sql(q{UPDATE dbopt_retry_policy SET failure_threshold = 1, reset_timeout = '1 ms' WHERE name = 'database'});
like(failure($killed), qr/ERROR:  08006: /, 'a session dies');
is(sql(q{SELECT dbopt_circuit_breaker_state('database')}), 'OPEN', 'which opens the circuit breaker');
my $shared = $node->data_dir . '/pg_dynshmem';
my $trial = $node->background_psql('postgres', on_error_stop => 0);
$trial->query_safe('SELECT 1');
rename $shared, "$shared.away" or die $!;
$trial->query($ordinary);
rename "$shared.away", $shared or die $!;
like($trial->{stderr}, qr/ERROR:  could not open shared memory segment/, 'a call on trial gets no shared memory');
$trial->quit;
my ($status, $printed) = $node->psql('postgres', $ordinary);
is($printed, 1, 'the next call is the trial');
is(sql(q{SELECT dbopt_circuit_breaker_state('database')}), 'CLOSED', '... and closes the circuit breaker');

$lock->quit;
$node->stop;
done_testing();
