# Callers who come again and again, and take whatever session there is, do not
# keep events from theirs, nor events callers: with one session for all, of one
# role or of two, with one slot in the cluster, after a crash, and while another
# handler keeps the session that callers leave to events.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin";
use Asking;
use Crashing;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('pool_turns');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
	shared_preload_libraries = 'dbopt'
	max_worker_processes = 16
	fsync = off
	restart_after_crash = on
	dbopt.pool_min = 0
	dbopt.pool_max = 1
	dbopt.pool_acquire_timeout = '300 s'
});
$node->start;
asking($node);

sql(q{
	CREATE EXTENSION dbopt CASCADE;
	CREATE ROLE app LOGIN;
	UPDATE dbopt_retry_policy SET failure_threshold = 1000000;
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, failure_threshold)
		VALUES ('busy', 1000000, '1 ms', '1 ms', 'none', 1000000);
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE state (enough boolean, failing boolean);
	INSERT INTO state VALUES (false, false);
	CREATE TABLE done (n serial, event_type text, handler text, at timestamptz DEFAULT clock_timestamp());
	CREATE TABLE calls (slept text, at timestamptz DEFAULT clock_timestamp());
	GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
	GRANT ALL ON done_n_seq TO app;
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE sql AS
		$$INSERT INTO public.done (event_type, handler) VALUES (e.event_type, current_user)$$;
	CREATE FUNCTION put(type text, count int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
		SELECT type, 'test', dbopt_uuid_v7(), '{}' FROM generate_series(1, count)
	$$;
	-- Calls again and again, until the table says that it is enough, or much later.
	CREATE PROCEDURE call_often(duration float8) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		WHILE NOT (SELECT enough FROM state) AND clock_timestamp() - began < '120 s' LOOP
			PERFORM dbopt_with_connection('INSERT INTO public.calls (slept) SELECT pg_sleep($1::float8)::text -- work', ARRAY[duration::text]);
			COMMIT;
		END LOOP;
		IF NOT (SELECT enough FROM state) THEN
			RAISE 'never enough';
		END IF;
	END $$;
});

my @callers;
sub run_callers
{
	my ($count, $duration) = @_;

	sql('UPDATE state SET enough = false; TRUNCATE calls');
	foreach (1 .. $count)
	{
		my $errors = '';

		push @callers,
		  {
			errors => \$errors,
			run => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL call_often($duration)" ],
				'<', '/dev/null', '>', '/dev/null', '2>', \$errors)
		  };
	}
	return;
}

sub start_callers
{
	run_callers(@_);
	wait_for('(SELECT count(*) > 5 FROM calls)', 'callers come again and again');
	return;
}

sub end_callers
{
	my ($name) = @_;

	sql('UPDATE state SET enough = true');
	$_->{run}->finish foreach @callers;
	is(join('', map { ${ $_->{errors} } } @callers), '', $name);
	@callers = ();
	return;
}

# As the README has it: within a second, and of n that wait 200 ms and two
# chunks for each, and until a call has ended, at either end of a turn.
sub is_in_time
{
	my ($since, $n, $name) = @_;

	is( sql(qq{SELECT max(at) - '$since' <= '1 s' + $n * ('200 ms' + 2 * (SELECT max(pause) FROM
			(SELECT lead(at) OVER (ORDER BY at) - at AS pause FROM (SELECT at FROM calls UNION ALL SELECT at FROM done) x) y))
		FROM done WHERE at > '$since'}),
		't', $name)
	  or diag(sql("SELECT event_type, at - '$since' FROM done WHERE at > '$since' ORDER BY at"));
	return;
}

# ---- one session, events behind callers -----------------------------------

my $delivered = 0;
foreach my $role ('postgres', 'app')
{
	sql(qq{SELECT dbopt_register_handler('handle', 'ONE', 'handle(events)', run_as => '$role', replace => true);
		SELECT put('ONE', 1); SELECT dbopt_drain()});
	$delivered++;
	start_callers(4, 0.02);
	foreach my $time (1 .. 3)
	{
		my $since = sql('SELECT clock_timestamp()');

		sql(q{SELECT put('ONE', 1)});
		$delivered++;
		wait_for("(SELECT count(*) = $delivered FROM done)", "$role: an event has its turn among callers, for the $time. time");
		is_in_time($since, 2, '... as soon as promised');
	}
	is(sql(q{SELECT count(*) FROM done WHERE handler = '} . $role . q{'}), 4, '... as its own role');
	end_callers('... although they have not ended');
}

# A single caller that comes again at once.
start_callers(1, 0.001);
sql(q{SELECT put('ONE', 1)});
wait_for(q{(SELECT count(*) = } . ++$delivered . ' FROM done)', 'nor does a single caller keep it waiting');
end_callers('... who has not ended');

# Calls that take longer than events wait for a turn.
start_callers(2, 1.3);
sql(q{SELECT put('ONE', 1)});
wait_for(q{(SELECT count(*) = } . ++$delivered . ' FROM done)', 'nor do long calls');
end_callers('... that have not ended');

# ---- many handlers behind callers ------------------------------------------

# Each is always wanted: its events fail, and are due again at once.
sql(q{
	TRUNCATE done;
	CREATE FUNCTION fail(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('tries_' || right(e.event_type, 1));
		IF (SELECT failing FROM state) THEN
			RAISE 'not yet' USING ERRCODE = 'lock_not_available';
		END IF;
	END $$;
	DO $$
	BEGIN
		FOR i IN 1 .. 3 LOOP
			EXECUTE 'CREATE SEQUENCE tries_' || i;
			PERFORM dbopt_register_handler('priority ' || i, 'TYPE' || i, 'fail(events)', priority => i, policy => 'busy');
		END LOOP;
	END $$;
	UPDATE state SET failing = true;
});
start_callers(3, 0.01);
sql(q{SELECT put('TYPE' || i, 3) FROM generate_series(1, 3) i});
wait_for(qq{(SELECT last_value >= 12 FROM tries_$_)}, "a handler of priority $_ has its turns") foreach 1 .. 3;

# ---- callers behind events --------------------------------------------------

end_callers('callers have had theirs');
wait_for('(SELECT used = 1 FROM dbopt_pool_stats())', 'events have the only session');
foreach my $role ('postgres', 'app')
{
	is(sql("SET ROLE $role; SET statement_timeout = '120 s'; SELECT * FROM dbopt_with_connection('SELECT session_user::text AS u')"),
		qq({"u": "$role"}), "$role: a caller has its turn among events that never end");
}
sql('UPDATE state SET failing = false');
is(sql(q{SELECT dbopt_drain('120 s')}), 't', 'all is delivered');

# ---- one session that events have is not for all of them ---------------------

set_reload('dbopt.pool_max = 3');
wait_for('(SELECT max = 3 FROM dbopt_pool_stats())', 'there are three sessions');
sql(q{
	TRUNCATE done;
	CREATE FUNCTION wait(e events) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)';
	SELECT dbopt_register_handler('wait', 'WAIT', 'wait(events)');
});
my $lock = $node->background_psql('postgres');
$lock->query_safe('SELECT pg_advisory_lock(1)');
sql(q{SELECT put('WAIT', 1)});
wait_for('(SELECT used = 1 FROM dbopt_pool_stats())', 'one handler takes long');
start_callers(4, 0.02);
sql(q{SELECT put('ONE', 1)});
wait_for('(SELECT count(*) = 1 FROM done)', 'another one has its turn nevertheless');
end_callers('... while callers have all other sessions');
$lock->query_safe('SELECT pg_advisory_unlock(1)');
is(sql(q{SELECT dbopt_drain('120 s')}), 't', 'all is delivered');

# ---- one slot in the cluster -------------------------------------------------

sql('CREATE DATABASE other');
sql(q{
	CREATE EXTENSION dbopt CASCADE;
	SELECT dbopt_create_events('events', mark_processed => false);
	CREATE TABLE done (n serial);
	CREATE FUNCTION handle(e events) RETURNS void LANGUAGE sql AS 'INSERT INTO public.done DEFAULT VALUES';
	SELECT dbopt_register_handler('handle', '*', 'handle(events)');
}, 'other');
sql('ALTER SYSTEM SET dbopt.max_workers = 1');
$lock->quit;
$node->restart;
start_callers(4, 0.02);
sql(q{TRUNCATE done; SELECT put('ONE', 1)});
wait_for('(SELECT count(*) = 1 FROM done)', 'an event has its turn where the cluster has one slot');
sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('A', 'a', dbopt_uuid_v7(), '{}')}, 'other');
wait_for('(SELECT count(*) = 1 FROM done)', 'and one of another database', 'other');
end_callers('... which callers have again and again');
sql(q{UPDATE state SET failing = true; SELECT put('TYPE1', 3)});
wait_for('(SELECT used = 1 FROM dbopt_pool_stats())', 'events have the slot');
sql(q{INSERT INTO events (event_type, aggregate_type, aggregate_id, data) VALUES ('A', 'a', dbopt_uuid_v7(), '{}')}, 'other');
wait_for('(SELECT count(*) = 2 FROM done)', '... but not for ever, where those of another database wait', 'other');
sql('UPDATE state SET failing = false');
is(sql(q{SELECT dbopt_drain('120 s')}), 't', 'all is delivered');

# ---- after a crash -----------------------------------------------------------

# Two events were at work; what may have caused it is run again one by one, and
# callers wait for the only session before the second.
set_reload('dbopt.max_workers = 4');
set_reload('dbopt.pool_max = 2');
sql(q{
	TRUNCATE done;
	CREATE FUNCTION rest(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT failing FROM state) LOOP
			PERFORM pg_sleep(0.01); -- work
		END LOOP;
		INSERT INTO public.done (event_type) VALUES (e.event_type);
	END $$;
	SELECT dbopt_register_handler('rest ' || i, 'REST' || i, 'rest(events)') FROM generate_series(1, 2) i;
	UPDATE state SET failing = true;
});
$node->restart;
sql(q{SELECT put('REST1', 1), put('REST2', 1)});
wait_for('(SELECT used = 2 FROM dbopt_pool_stats())', 'two events are at work');
my $log = -s $node->logfile;
kill 'KILL', sql(q{SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'dbopt session'});
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log);
$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
set_reload('dbopt.pool_max = 1');
wait_for('(SELECT max = 1 FROM dbopt_pool_stats())', 'after a crash there is one session');
wait_for(q{(SELECT count(*) = 1 FROM dbopt_pool_sessions() WHERE job = 'suspects')}, '... which one of them has, alone');
run_callers(4, 0.02);
wait_for('(SELECT waiting >= 4 FROM dbopt_pool_stats())', '... and callers wait');
sql('UPDATE state SET failing = false');
wait_for('(SELECT count(*) = 2 FROM done)', 'then the other one has its turn, too');
end_callers('... although callers have not ended');

$node->stop;
done_testing();
