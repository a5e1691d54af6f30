# A pooled session is used for job after job: nothing of one is left for the
# next, and it does not grow.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('leaks');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dbopt'\nwal_level = replica\ndbopt.pool_min = 1\ndbopt.pool_max = 1");
$node->start;

sub sql
{
	my ($statement) = @_;

	return $node->safe_psql('postgres', $statement);
}

sub deliver
{
	my ($insert, $what) = @_;

	sql($insert);
	is(sql(q{SELECT dbopt_drain('180 s')}), 't', $what);
	return;
}

# look() writes down what its session is like; leave() leaves behind whatever
# it can, by the command in the event.
sql(q{
	CREATE ROLE app LOGIN REPLICATION;
	CREATE ROLE other;
	GRANT other, pg_read_all_stats TO app;
	SELECT pg_replication_origin_create('elsewhere');
	GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup, pg_replication_origin_session_is_setup TO app;
	ALTER ROLE app SET work_mem = '5 MB';
	CREATE EXTENSION dbopt CASCADE;
	CREATE TABLE events (id int PRIMARY KEY, event_type text NOT NULL, command text);
	SELECT dbopt_attach_events('events');
	CREATE TABLE seen (id int, pid int, state jsonb);
	CREATE TABLE memory (call int GENERATED ALWAYS AS IDENTITY, bytes bigint);
	CREATE TABLE numbers (n serial);
	CREATE TABLE place AS SELECT 1;
	GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
	GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app;
	REVOKE ALL ON ALL TABLES IN SCHEMA public FROM other;
	CREATE FUNCTION literal() RETURNS float8 LANGUAGE plpgsql AS
		$$BEGIN RETURN (SELECT extract(epoch FROM timestamptz '2026-01-01 00:00') FROM public.place); END$$;
	CREATE FUNCTION look(e events) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.seen SELECT e.id, pg_backend_pid(), jsonb_build_object(
			'settings', (SELECT jsonb_object_agg(name, setting) FROM pg_settings),
			'custom', nullif(current_setting('app.user', true), ''),
			'user', current_user, 'session_user', session_user,
			'temporary', (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
			'prepared', (SELECT count(*) FROM pg_prepared_statements),
			'cursors', (SELECT count(*) FROM pg_cursors),
			'locks', (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
			'literal', public.literal(),
			'slots', (SELECT count(*) FROM pg_replication_slots),
			'channels', (SELECT count(*) FROM pg_listening_channels()),
			'origin', pg_replication_origin_session_is_setup());
	END $$;
	CREATE FUNCTION leave(e events) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE e.command; END $$;
	SELECT dbopt_register_handler('look', 'LOOK', 'look(events)', run_as => 'app');
	SELECT dbopt_register_handler('leave', 'LEAVE', 'leave(events)', run_as => 'app', policy => 'event');
});

deliver(q{INSERT INTO events VALUES (1, 'LOOK')}, 'a session at first');
my $fresh = sql('SELECT state FROM seen WHERE id = 1');
like($fresh, qr/"work_mem": "5120"/, 'has the settings of its role');

my %left = (
	'a setting' => q{SET work_mem = '7 MB'},
	'a local setting' => q{SET LOCAL work_mem = '8 MB'},
	'a setting by function' => q{SELECT set_config('statement_timeout', '77', false)},
	'a setting of its own' => q{SELECT set_config('app.user', 'somebody', false)},
	'an application name' => q{SET application_name = 'mine'},
	'a search path' => q{SET search_path = pg_temp, pg_catalog},
	'an isolation level' => q{SET default_transaction_isolation = 'serializable'},
	'a time zone' => q{SELECT set_config('timezone', 'Asia/Tokyo', false), public.literal()},
	'a local time zone' => q{SELECT set_config('timezone', 'Asia/Tokyo', true), public.literal()},
	'a temporary replication slot' => q{SELECT pg_create_physical_replication_slot('brief', true, true)},
	'asynchronous commits' => q{SET synchronous_commit = off},
	'a role' => q{SET ROLE other},
	'a temporary table' => q{CREATE TEMPORARY TABLE seen (id int, pid int, state jsonb)},
	'a temporary function' => q{CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'},
	'a prepared statement' => q{PREPARE p AS SELECT 1},
	'a cursor' => q{DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10)},
	'a replication origin' => q{SELECT pg_replication_origin_session_setup('elsewhere')},
	'an advisory lock' => q{SELECT pg_advisory_lock(42), pg_advisory_lock(42), pg_advisory_lock_shared(43)},
);
my $id = 100;
foreach my $what (sort keys %left)
{
	$id++;
	sql("INSERT INTO events VALUES ($id, 'LEAVE', \$\$$left{$what}\$\$); INSERT INTO events VALUES ($id + 1000, 'LOOK')");
}
deliver('SELECT', 'handlers leave things behind');
is(sql(q{SELECT failures FROM dbopt_retry_stats() WHERE handler = 'leave'}), '0', 'none of them fails');

# One after the other, in the same session, which makes its plans anew each time.
foreach my $what (sort keys %left)
{
	$id++;
	sql('ALTER TABLE place SET (fillfactor = 99)');
	deliver("INSERT INTO events VALUES ($id, 'LEAVE', \$\$$left{$what}\$\$)", "$what is left");
	deliver("INSERT INTO events VALUES ($id + 1000, 'LOOK')", '... and another job comes');
	is(sql("SELECT state FROM seen WHERE id = $id + 1000"), $fresh, '... which sees nothing of it');
}
is(sql('SELECT count(DISTINCT pid) FROM seen'), '1', 'all in one session');
is(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), '0', 'no lock is left to others');

# Values of sequences are the session's.
deliver(q{INSERT INTO events VALUES (3001, 'LEAVE', $$SELECT nextval('numbers_n_seq')$$)}, 'a sequence is used');
deliver(q{INSERT INTO events VALUES (3002, 'LEAVE', $$SELECT lastval()$$)}, 'and asked for later');
is(sql(q{SELECT error_code FROM dbopt_dead_letters UNION SELECT error_code FROM dbopt_pending_retries}), '55000', 'there is no last value');
sql(q{SELECT dbopt_discard_dead_letters()});

# ---- memory ----------------------------------------------------------------

sql(q{CREATE FUNCTION fill(e jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (e ->> 'id')::int % 5 = 0 THEN
			RAISE EXCEPTION USING MESSAGE = repeat('x', 100000), ERRCODE = 'check_violation';
		ELSIF (e ->> 'id')::int % 100 = 1 THEN
			INSERT INTO memory (bytes) SELECT sum(total_bytes) FROM pg_backend_memory_contexts;
		END IF;
	END $$;
	SELECT dbopt_register_handler('fill', 'FILL.*', 'fill(jsonb)', run_as => 'app', chunk_size => 1);
	INSERT INTO events SELECT n, 'FILL.' || n % 7, repeat(md5(n::text), 100) FROM generate_series(10001, 14000) n});
is(sql(q{SELECT dbopt_drain('300 s')}), 't', 'thousands of events with large payloads and errors');
is(sql(q{SELECT count(*) FROM dbopt_dead_letters}), '800', 'some of which fail');
is(sql(q{SELECT count(*) FROM memory}), '40', '... which have looked at their memory');
cmp_ok(
	sql(q{SELECT (SELECT max(bytes) FROM memory WHERE call > 30) - (SELECT max(bytes) FROM memory WHERE call BETWEEN 5 AND 15)}),
	'<', 300_000, 'leave no memory behind');

$node->stop;
done_testing();
