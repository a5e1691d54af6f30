# Shutdown while retries wait and run, callers' SQL runs and waits for a
# session, and an index is built: all are gone within dbopt.shutdown_timeout,
# nothing of what was cut off is left, and all of it goes on after the start.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Building;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $timeout = 10;
my $events = 60;
my $node = PostgreSQL::Test::Cluster->new('at_work');
$node->init;
$node->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'dbopt'
max_worker_processes = 20
dbopt.pool_max = 8
dbopt.pool_acquire_timeout = '1h'
dbopt.index_inline_pages = 0
dbopt.shutdown_timeout = '${timeout}s'
});
$node->start;
asking($node);
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE effects (id uuid);
	CREATE TABLE calls (what text);
	CREATE TABLE things AS SELECT i AS id FROM generate_series(1, 2000) i;
	CREATE TABLE switches AS SELECT true AS failing;
	CREATE SEQUENCE tries;
	INSERT INTO dbopt_retry_policy
			(name, max_attempts, base_delay, max_delay, jitter, retry_unknown, failure_threshold)
		VALUES ('busy', 1000000, '1 ms', '1 ms', 'none', true, 1000000),
			('held', 2, '1 ms', '1 ms', 'none', true, 1000000),
			('late', 2, '1 h', '1 h', 'none', true, 1000000);
	UPDATE dbopt_retry_policy SET base_delay = '1 h', max_delay = '1 h' WHERE name = 'transaction';
	CREATE FUNCTION busy(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.id);
		IF (SELECT failing FROM switches) THEN RAISE 'later'; END IF;
	END $$;
	CREATE FUNCTION held(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effects VALUES (e.id);
		IF nextval('tries') = 1 THEN RAISE 'not at first'; END IF;
		PERFORM pg_advisory_xact_lock(1);
	END $$;
	CREATE FUNCTION late(events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'tomorrow'; END $$;
	SELECT dbopt_register_handler(name, upper(name), (name || '(events)')::regprocedure, policy => name,
			max_concurrency => 2)
		FROM unnest('{busy,held,late}'::text[]) name;
});

sub write_events
{
	my ($type, $count) = @_;

	sql(qq{INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT '$type', 'a', dbopt_uuid_v7(), '{}' FROM generate_series(1, $count)});
	return;
}

# Somebody else's psql, and what it says.
my $cut_off = q{SELECT dbopt_with_connection('INSERT INTO calls VALUES (''cut''); SELECT pg_sleep(3600) -- work')};
my @others;

sub other
{
	my ($statement) = @_;
	my %other = (statement => $statement, says => '');

	$other{run} = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', $statement ],
		'<', \undef, '>', '/dev/null', '2>', \$other{says});
	push @others, \%other;
	return;
}

# All of them are heard by the server.
sub wait_for_others
{
	wait_for("(SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ '^(SELECT|CALL) dbopt_(with|drain)') = " . @others,
		'the others have asked');
	return;
}

# The server stops, with all that at it.  Some hear first of their session's end.
sub stop_fast
{
	my ($name) = @_;
	my $begin = time;

	$node->stop('fast');
	cmp_ok(time - $begin, '<', $timeout + 1, "$name: fast shutdown within dbopt.shutdown_timeout");
	while (my $other = shift @others)
	{
		$other->{run}->finish;
		like($other->{says}, qr/terminating (connection|background worker "dbopt session") due to administrator command/, "who waits is told: $other->{statement}");
	}
	return;
}

my $retries_run = q{SELECT retries FROM dbopt_retry_stats() WHERE handler = 'busy'};

sub wait_for_retries
{
	my $before = sql($retries_run);

	wait_for("($retries_run) > $before + 2 * $events", 'retries are run');
	return;
}

# Everything is at work.
my $blocker = asked();
$blocker->query_safe('SELECT pg_advisory_lock(1)');
write_events('LATE', 3);
write_events('HELD', 1);
write_events('BUSY', $events);
wait_for(q{SELECT count(*) = 1 FROM dbopt_pool_sessions() s JOIN pg_stat_activity USING (pid)
	WHERE s.handler = 'held' AND wait_event = 'advisory'}, 'a retry waits within its handler');
wait_for(q{SELECT count(*) = 3 FROM dbopt_pending_retries WHERE handler = 'late'}, 'retries wait for their time');
my $late = 'SELECT * FROM dbopt_pending_retries WHERE handler = $$late$$ ORDER BY event_id';
my $pending = sql($late);
my $writer = start_build('things_id', 'things', '(id)');
is(sql(q{SELECT count(*) FROM dbopt_with_connection('INSERT INTO calls VALUES (''done'')')}), 0, "a caller's SQL is done");
other($cut_off);
other(q{SELECT dbopt_with_transaction('{INSERT INTO calls VALUES (1),SELECT pg_sleep(3600) -- work}')});
other(q{CALL dbopt_with_transaction_retry('INSERT INTO calls VALUES (''cut''); DO $$ BEGIN RAISE SQLSTATE ''40001''; END $$')});
other(q{CALL dbopt_with_database_retry('INSERT INTO calls VALUES (''cut''); SELECT pg_sleep(3600) -- work')});
other(q{SELECT dbopt_drain('1 h')});
wait_for(q{SELECT count(*) FILTER (WHERE backend_type = 'dbopt session') = 2
		AND count(*) FILTER (WHERE query ~ '^CALL') = 2 FROM pg_stat_activity WHERE wait_event = 'PgSleep'},
	q{others' SQL runs, or waits to be tried again});
wait_for_others();
wait_for_retries();
stop_fast('at work');
$blocker->{run}->finish;
$writer->{run}->finish;

# And is at it again; what was cut off has left nothing.
$node->start;
is(sql($late), $pending, 'retries that wait for their time are as they were');
is(sql('SELECT string_agg(what, $$ $$) FROM calls'), 'done', q{of others' SQL only what was done is there});
wait_for(q{SELECT status = 'valid' FROM dbopt_index_status() WHERE name = 'things_id'}, 'the index is built');
is(indexes('things'), 'things_id', '... without leftovers');
wait_for_retries();

# More callers than sessions.
other($cut_off) foreach 1 .. 12;
wait_for('SELECT waiting > 0 FROM dbopt_pool_stats()', 'callers wait for a session');
wait_for_others();
stop_fast('callers');
$node->start;
wait_for_retries();
is(sql('SELECT string_agg(what, $$ $$) FROM calls'), 'done', 'nothing of them is left');

# Again and again, in the midst of retries.
foreach my $round (1 .. 3)
{
	stop_fast("round $round");
	$node->start;
	write_events('BUSY', 1);
	wait_for_retries();
}
sql('UPDATE switches SET failing = false');
wait_for('SELECT count(*) = 3 FROM dbopt_retry_queue', 'all others are delivered');
is(sql(q{SELECT count(*), count(DISTINCT id), count(*) = (SELECT count(*) FROM events WHERE event_type <> 'LATE')
	FROM effects}), join('|', ($events + 4) x 2, 't'), '... once each');
is(sql('SELECT count(*) FROM dbopt_dead_letter'), 0, 'and no attempt was counted that was cut off');
unlike(slurp_file($node->logfile), qr/PANIC|was terminated by signal|abnormal/, 'each shutdown was orderly');
$node->stop;
done_testing();
