# A caller takes an idle session by itself: what that needs, shown with a
# scheduler that is stopped, and so cannot have done it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('direct_calls');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 16
	fsync = off
	dbopt.pool_min = 0
	dbopt.pool_max = 4
	dbopt.pool_idle_timeout = '1 h'
	dbopt.pool_acquire_timeout = '60 s'
});
$node->start;
asking($node);

# The scheduler's process is stopped while it sleeps, so that it holds nothing.
my $scheduler;
my $asleep = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'postgres'
	AND wait_event_type = 'Extension'};

sub stop_scheduler
{
	foreach (1 .. 1000)
	{
		$scheduler = sql($asleep);
		next if $scheduler eq '';
		kill 'STOP', $scheduler;
		return if sql($asleep) eq $scheduler;
		kill 'CONT', $scheduler;
	}
	die 'the scheduler is never at rest';
}

sub continue_scheduler
{
	kill 'CONT', $scheduler;
	$scheduler = undef;
	return;
}

END { kill 'CONT', $scheduler if defined $scheduler; }

# Starts psql with a statement, which may have to wait.
my @callers;
sub start_psql
{
	my ($statement) = @_;
	my $printed = '';

	push @callers,
	  {
		printed => \$printed,
		run => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $statement ],
			'<', '/dev/null', '>', \$printed, '2>', '/dev/null')
	  };
	return;
}

# What the first of them has printed, when it has ended.
sub finish_psql
{
	my $caller = shift @callers;

	$caller->{run}->finish;
	chomp(my $printed = ${ $caller->{printed} });
	return $printed;
}

my $used = q{(SELECT used FROM dbopt_pool_stats())};
my $call = q{SELECT dbopt_with_connection('SELECT 1 AS a')};
my $waiting = q{SELECT dbopt_with_connection('SELECT pg_advisory_xact_lock_shared(1)')};

# Two sessions that are idle, and known to be.
sub make_idle
{
	my ($lock) = @_;

	$lock->query_safe('SELECT pg_advisory_lock(1)');
	start_psql($waiting) foreach 1 .. 2;
	wait_for("$used = 2", 'two callers have a session each');
	$lock->query_safe('SELECT pg_advisory_unlock(1)');
	finish_psql() foreach 1 .. 2;
	wait_for("$used = 0 AND (SELECT free FROM dbopt_pool_stats()) = 2", 'which are idle then');
	return;
}

sql('CREATE EXTENSION dbopt CASCADE; CREATE ROLE other LOGIN');
is(sql('SHOW min_dynamic_shared_memory'), '4MB', 'there is memory for calls');
is( sql(q{SELECT count(*) FROM generate_series(1, 2000) i, LATERAL dbopt_with_connection('SELECT ' || i)}),
	2000, 'one call after the other');
is(sql('SELECT total FROM dbopt_pool_stats()'), 1, 'each finds the same session');
my $lock = $node->background_psql('postgres');
make_idle($lock);

# ---- what a caller can do by itself --------------------------------------

stop_scheduler();
is(sql("SET statement_timeout = '100 s'; $call"), '{"a": 1}', 'a caller is served without the scheduler') foreach 1 .. 3;
$node->psql('postgres', q{SELECT dbopt_with_connection('SELECT 1/0')});
is(sql("SET statement_timeout = '100 s'; $call"), '{"a": 1}', '... also after an error');
$node->psql('postgres', q{SET statement_timeout = '50 ms'; SELECT dbopt_with_connection('SELECT pg_sleep(600) -- work')});
wait_for("$used = 0", 'a cancel ends it');
$lock->query_safe('SELECT pg_advisory_lock(1)');
start_psql($waiting) foreach 1 .. 2;
wait_for("$used = 2", 'two at a time');
start_psql($call);
my $pending = q{(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query = $$} . $call . q{$$)};
wait_for("$pending = 1", 'the third has to wait');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
finish_psql() foreach 1 .. 2;
wait_for("$used = 0", 'two sessions are idle');
start_psql($call);
wait_for("$pending = 2", 'but who has waited is first, and the next one waits, too');
continue_scheduler();
is(finish_psql(), '{"a": 1}', 'the scheduler serves both') foreach 1 .. 2;
is(sql(q{SELECT free FROM dbopt_pool_stats()}), 2, 'and has needed no other session');

# On a processor that is its caller's as soon as that can go on, a session gets no
# further than to what wakes the caller.
my $caller = $node->background_psql('postgres');
my ($processor) = `taskset -pc $$` =~ /: (\d+)/;
my $own = $caller->query_safe(q{SELECT r -> 'pid' FROM dbopt_with_connection('SELECT pg_backend_pid() AS pid') r});
system_or_bail('taskset', '-pc', $processor, $_) foreach $own, $caller->query_safe('SELECT pg_backend_pid()');
system_or_bail('chrt', '--idle', '--pid', 0, $own);
stop_scheduler();
$caller->query_safe(q{SET statement_timeout = '150 s'});
is($caller->query_safe(q{SELECT count(*) FROM generate_series(1, 200) i, LATERAL dbopt_with_connection('SELECT ' || i)}),
	200, 'a session is idle before it answers');
continue_scheduler();
$caller->quit;

# Of two sessions that have just worked, a caller takes the one on its own CPU,
# else the one that it has just had.  The scheduler is stopped, so that it can
# find them idle at once; each round begins when they have ended their work, and
# counts where the caller has come within 100 ms, after which all are as good.
SKIP:
{
	my ($list) = `taskset -pc $$` =~ /: (.*)/;
	my @cpus = map { /(\d+)-(\d+)/ ? ($1 .. $2) : $_ } split /,/, $list;
	skip('there is only one CPU', 3) if @cpus < 2;

	make_idle($lock);
	my @sessions = split /\n/, sql(q{SELECT pid FROM dbopt_pool_sessions() ORDER BY pid});
	my $taker = $node->background_psql('postgres');
	my $pid = $taker->query_safe('SELECT pg_backend_pid()');
	system_or_bail('taskset', '-pc', $cpus[$_], $sessions[$_]) foreach 0, 1;
	sql(q{CREATE PROCEDURE begin_round() LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_advisory_unlock(1);
			FOR i IN 1 .. 10000 LOOP
				EXIT WHEN (SELECT used = 0 FROM dbopt_pool_stats());
				PERFORM pg_sleep(0.001); -- until the condition holds
			END LOOP;
		END$$});
	my $get_pid = q{SELECT r -> 'pid' FROM dbopt_with_connection('SELECT pg_backend_pid() AS pid') r};
	my $counted = sub {
		my ($statements) = @_;
		my $begin = time;
		my @pids = split /\n/, $taker->query_safe($statements);

		return time - $begin < 0.1 ? @pids : ();
	};
	my ($rounds, $close, $same) = (0, 0, 0);
	stop_scheduler();
	foreach my $round (1 .. 100)
	{
		last if $rounds == 20;
		system_or_bail('taskset', '-pc', $cpus[ $round % 2 ], $pid);
		$taker->query_safe('SELECT pg_advisory_lock(1)');
		start_psql($waiting) foreach 1 .. 2;
		wait_for("$used = 2", "round $round: both sessions are at work");
		my ($taken) = $counted->("CALL begin_round(); $get_pid");
		finish_psql() foreach 1 .. 2;
		next if !defined $taken;
		$rounds++;
		$close++ if $taken eq $sessions[ $round % 2 ];
	}

	# Another one is the last to end its work.
	system_or_bail('taskset', '-pc', $cpus[0], $_) foreach @sessions;
	system_or_bail('taskset', '-pc', $cpus[1], $pid);
	foreach my $round (1 .. 100)
	{
		last if $rounds == 30;
		$taker->query_safe('SELECT pg_advisory_lock(1)');
		start_psql($waiting);
		wait_for("$used = 1", "round $round: one session is at work");
		my ($before, $after) = $counted->("$get_pid; CALL begin_round(); $get_pid");
		finish_psql();
		next if !defined $after;
		$rounds++;
		$same++ if $before eq $after;
	}
	continue_scheduler();
	is($rounds, 30, 'callers come in time');
	cmp_ok($close, '>=', 16, 'a caller takes the session on its own CPU');
	cmp_ok($same, '>=', 8, 'and where none is, the one that it has just had');
	$taker->quit;
	system_or_bail('taskset', '-pc', $list, $_) foreach @sessions;
}

# ---- a caller that does not listen ---------------------------------------

# Its answer does not fit into its queue, and is not read.
my ($session, $deaf);
foreach my $field (qw(MESSAGE DETAIL HINT SCHEMA TABLE COLUMN DATATYPE CONSTRAINT))
{
	$lock->query_safe('SELECT pg_advisory_lock(1)');
	start_psql(qq{SELECT dbopt_with_connection(\$\$DO 'BEGIN PERFORM pg_advisory_xact_lock_shared(1);
		RAISE EXCEPTION USING $field = repeat(''x'', 200000); END'\$\$)});
	wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}, "$field: a caller whose statement waits");
	$session = sql('SELECT pid FROM pg_locks WHERE NOT granted');
	$deaf = sql(q{SELECT pid FROM pg_stat_activity WHERE query ~ 'repeat' AND backend_type = 'client backend'
		AND pid <> pg_backend_pid()});
	kill 'STOP', $deaf;
	$lock->query_safe('SELECT pg_advisory_unlock(1)');
	wait_for(qq{SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $session}, "$field: the answer waits");
	my (undef, undef, $refusal) = $node->psql('postgres', "SET statement_timeout = '20 s'; $call");
	is($refusal, '', "$field: its session is not given to others");
	kill 'CONT', $deaf;
	finish_psql();
	wait_for("$used = 0", "$field: and is idle when it has answered");
}

# Nor are rows, and it leaves.
$lock->query_safe('SELECT pg_advisory_lock(1)');
start_psql(q{SELECT dbopt_with_connection($$SELECT pg_advisory_xact_lock_shared(1), generate_series(1, 1000000000)$$)});
wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted}, 'a caller whose rows wait');
$session = sql('SELECT pid FROM pg_locks WHERE NOT granted');
$deaf = sql(q{SELECT pid FROM pg_stat_activity WHERE query ~ 'generate_series' AND backend_type = 'client backend'
	AND pid <> pg_backend_pid()});
kill 'STOP', $deaf;
$lock->query_safe('SELECT pg_advisory_unlock(1)');
wait_for(qq{SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $session}, 'there is no more room');
sql("SELECT pg_cancel_backend($deaf)");
kill 'CONT', $deaf;
finish_psql();
wait_for("$used = 0", 'the session does not wait for a caller that has gone');

# ---- nobody sleeps for ever ----------------------------------------------

# Rows, notices and errors of sizes about those of a message, the queue and
# parts of it, and callers that fail half-way.  Callers look for deadlocks once
# an hour: whoever is not woken is found out by the statement's timeout.
sql(q{
	CREATE FUNCTION note(size int) RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE '%', repeat('n', size); RETURN size; END$$;
	CREATE FUNCTION some_size() RETURNS int LANGUAGE sql VOLATILE AS $$
		SELECT greatest(0, (ARRAY[0, 0, 8192, 16384, 32768, 49152, 65536, 131072])[1 + floor(8 * random())]
			+ floor((CASE WHEN random() < 0.1 THEN 100000 ELSE 200 END) * (random() - 0.5)))::int$$;
	CREATE FUNCTION fill(size int) RETURNS text LANGUAGE sql AS $$SELECT repeat('x', size)$$;
	CREATE FUNCTION fail_with(size int) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE division_by_zero USING MESSAGE = repeat('e', size); END$$;
	CREATE FUNCTION stress(seed float8, calls int) RETURNS int LANGUAGE plpgsql
		SET deadlock_timeout = '1 h' SET work_mem = '64 kB' SET temp_file_limit = '400 kB' AS $$
	DECLARE
		statements text[] := ARRAY[
			'SELECT fill($1::int) AS x, fill($2::int) AS y',
			'SELECT fill($1::int) AS x, fill(note($2::int)) AS y',
			'SELECT fill($1::int) AS x, fill($2::int) AS y FROM generate_series(1, 10)',
			'SELECT fill($1::int) AS x, CASE WHEN i = 7 THEN fail_with($2::int) END AS y FROM generate_series(1, 10) i'];
		a int;
		b int;
		kind int;
		got bigint;
		kept int := 0;
	BEGIN
		PERFORM setseed(seed);
		FOR i IN 1 .. calls LOOP
			a := some_size();
			b := some_size();
			kind := 1 + floor(4 * random());
			BEGIN
				SELECT sum(length(r ->> 'x') + length(r ->> 'y')) INTO got
					FROM dbopt_with_connection(statements[kind], ARRAY[a::text, b::text]) r;
				IF kind = 4 OR got <> (a + b) * (CASE kind WHEN 3 THEN 10 ELSE 1 END) THEN
					RAISE 'got %, with % and %, in call %', got, a, b, i;
				END IF;
				kept := kept + 1;
			EXCEPTION
				WHEN division_by_zero THEN
					IF kind < 4 OR length(sqlerrm) <> b THEN
						RAISE 'call %: %', i, left(sqlerrm, 100);
					END IF;
				WHEN configuration_limit_exceeded THEN NULL;
			END;
		END LOOP;
		RETURN kept;
	END$$;
});
start_psql("SET statement_timeout = '170 s'; SELECT stress(0.$_, 1000)") foreach 1 .. 4;
cmp_ok(finish_psql() || 0, '>', 400, 'callers and sessions wake each other') foreach 1 .. 4;
wait_for("$used = 0", 'and no session waits for anybody');

# ---- what a caller cannot take -------------------------------------------

sub has_to_wait
{
	my ($name, $before, $statement, $expected) = @_;
	my $pending = 'SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = \'Extension\' AND query = $q$'
	  . "$before$statement" . '$q$';

	start_psql("$before$statement");
	ok($node->poll_query_until('postgres', $pending), "$name: waits");
	is(sql(q{SELECT used FROM dbopt_pool_stats()}), 0, '... while none is at work');
	continue_scheduler();
	is(finish_psql(), $expected, '... and is served');
	return;
}

stop_scheduler();
has_to_wait('another role', 'SET ROLE other; ', q{SELECT dbopt_with_connection('SELECT session_user::text AS u')}, '{"u": "other"}');

$lock->quit;
$lock = $node->background_psql('postgres');
stop_scheduler();
sql(q{ALTER ROLE postgres SET work_mem = '5MB'});
has_to_wait('new settings', '', q{SELECT dbopt_with_connection('SELECT current_setting(''work_mem'') AS w')}, '{"w": "5MB"}');

# One is kept for events.
sql(q{ALTER SYSTEM SET dbopt.pool_reserved = 1; ALTER SYSTEM SET dbopt.pool_min = 2});
sql(q{ALTER SYSTEM SET dbopt.pool_max = 2});
sql(q{SELECT dbopt_create_events('events', mark_processed => false);
	CREATE FUNCTION nothing(e events) RETURNS void LANGUAGE sql AS '';
	SELECT dbopt_register_handler('nothing', '*', 'nothing(events)')});
$lock->quit;
$node->restart;
wait_for('(SELECT free FROM dbopt_pool_stats()) = 2', 'two sessions are ready');
$lock = $node->background_psql('postgres');
$lock->query_safe('SELECT pg_advisory_lock(1)');
start_psql($waiting);
wait_for("$used = 1", 'one session is in use');
start_psql($call);
wait_for(q{(SELECT waiting FROM dbopt_pool_stats()) = 1}, 'and the other one is kept for events');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
finish_psql() foreach 1 .. 2;

# ---- another scheduler ---------------------------------------------------

$lock->query_safe('SELECT pg_advisory_lock(1)');
start_psql(q{SELECT dbopt_with_connection('SELECT pg_advisory_xact_lock_shared(1); SELECT 3 AS a')});
wait_for("$used = 1", 'a call is at work');
my $former = sql(q{SELECT pg_terminate_backend(pid), pid FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'postgres'});
wait_for(qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'postgres'
	AND 't|' || pid <> '$former'}, 'the scheduler is another one');
start_psql($call);
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(finish_psql(), '{"a": 3}', 'which leaves the call alone');
is(finish_psql(), '{"a": 1}', 'and serves the next one');

# ---- two roles share all sessions ----------------------------------------

# Callers have two of three; events of two types could use two as well.
sql(q{ALTER SYSTEM SET dbopt.pool_max = 3});
sql(q{CREATE OR REPLACE FUNCTION nothing(e events) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(0.005) /* handler */';
	SELECT pg_reload_conf()});
wait_for(q{(SELECT max FROM dbopt_pool_stats()) = 3}, 'there are three sessions');
my $created = q{(SELECT count FROM dbopt_pool_events() WHERE event = 'createRequest')};
my $before = sql("SELECT $created");
start_psql(q{SET ROLE other; SELECT count(*) FROM generate_series(1, 1000000) i, LATERAL dbopt_with_connection('SELECT ' || i)})
  foreach 1 .. 2;
wait_for(q{SELECT count(*) > 0 FROM dbopt_pool_sessions() WHERE role = 'other'}, 'callers of another role are at work');
foreach my $i (1 .. 30)
{
	sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT t, 'a', dbopt_uuid_v7(), '{}' FROM unnest('{d,e}'::text[]) t});
	sql(q{SELECT dbopt_drain('60 s')}) eq 't' or die 'an event waits';
}
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ '1000000' AND pid <> pg_backend_pid()});
finish_psql() foreach 1 .. 2;
cmp_ok(sql("SELECT $created - $before"), '<', 30, 'and events do not take their sessions again and again');

$lock->quit;
$node->stop;
done_testing();
