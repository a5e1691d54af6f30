-- Tables, handlers and measuring procedures of the benchmark.

SET client_min_messages = warning;

CREATE EXTENSION dbopt CASCADE;

-- Handlers run as an ordinary role.  The second one's commits do not wait for
-- the disk, where that would hide what is to be measured.
CREATE ROLE bench LOGIN;
CREATE ROLE bench_async LOGIN;
ALTER ROLE bench_async SET synchronous_commit = off;

CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO bench, bench_async;
ALTER DEFAULT PRIVILEGES IN SCHEMA bench GRANT SELECT, INSERT, UPDATE ON TABLES TO bench, bench_async;
ALTER DEFAULT PRIVILEGES IN SCHEMA bench GRANT USAGE, UPDATE ON SEQUENCES TO bench, bench_async;

-- ---- tables --------------------------------------------------------------

-- Vacuum comes when it is called, not in the middle of a measurement.
CREATE PROCEDURE bench.no_autovacuum(events regclass) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', events);
END $$;

-- What applications have on their events besides the primary key, and the index
-- on aggregates that dbopt_create_events() makes.
CREATE PROCEDURE bench.add_usual_indexes(events regclass) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE INDEX ON %s (event_type, event_timestamp DESC)', events);
	EXECUTE format('CREATE INDEX ON %s (organization_id, event_timestamp DESC) WHERE organization_id IS NOT NULL', events);
	EXECUTE format('CREATE INDEX ON %s (user_id, event_timestamp DESC) WHERE user_id IS NOT NULL', events);
	EXECUTE format('CREATE INDEX ON %s (correlation_id, event_timestamp) WHERE correlation_id IS NOT NULL', events);
	EXECUTE format('CREATE INDEX ON %s (event_timestamp) WHERE NOT processed', events);
END $$;

-- The same table as an application has it without dbopt.
CREATE PROCEDURE bench.create_plain(name text, model regclass) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE bench.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, model);
	EXECUTE format('ALTER TABLE bench.%I DROP COLUMN log_position, ADD PRIMARY KEY (id)', name);
END $$;

-- Adds n events of a number of types in one transaction; aggregate_version
-- numbers them in their order.
CREATE FUNCTION bench.fill(events regclass, n bigint, types int DEFAULT 1) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format(
		'INSERT INTO %s (event_type, aggregate_type, aggregate_id, aggregate_version, data, user_id, organization_id, correlation_id)
		 SELECT format(''THING.CHANGED.%%s'', i %% $2), ''thing'', md5((i %% 5000)::text)::uuid, i,
			jsonb_build_object(''n'', i, ''name'', ''thing '' || i, ''state'', ''changed''),
			md5((i %% 100)::text)::uuid, md5((i %% 10)::text)::uuid, md5(i::text)
		 FROM generate_series(1, $1) i', events) USING n, types;
END $$;

CREATE FUNCTION bench.seconds_since(since timestamptz) RETURNS float8
LANGUAGE sql VOLATILE AS $$ SELECT extract(epoch FROM clock_timestamp() - since)::float8 $$;

CREATE FUNCTION bench.nap(ms float8) RETURNS void
LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(ms / 1000); END $$; -- work

-- ---- measuring -----------------------------------------------------------

-- Runs a statement and commits; gives units of work a second.
CREATE PROCEDURE bench.run(statement text, units bigint, INOUT per_second float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
BEGIN
	EXECUTE statement;
	COMMIT;
	per_second := units / bench.seconds_since(started);
END $$;

-- Runs a query so often; gives milliseconds a time.
CREATE PROCEDURE bench.time_calls(query text, calls int, INOUT ms float8 DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
BEGIN
	FOR i IN 1 .. calls LOOP
		EXECUTE query;
	END LOOP;
	ms := bench.seconds_since(started) * 1000 / calls;
END $$;

-- Registers a handler that waits, and lets its sessions start.
CREATE PROCEDURE bench.register(handler text, function regprocedure, events regclass, concurrency int,
	chunk int DEFAULT NULL, role text DEFAULT 'bench', policy text DEFAULT 'event')
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dbopt_register_handler(handler, '*', function, events, policy, concurrency, chunk,
		start_from => 'beginning', run_as => role::regrole);
	PERFORM dbopt_pause_handler(handler);
	COMMIT;
	FOR i IN 1 .. 25 LOOP
		EXIT WHEN (SELECT count(*) > 0 AND bool_and(s.state <> 'starting') FROM dbopt_pool_sessions() s
			WHERE s.role::text = register.role);
		PERFORM bench.nap(20);
	END LOOP;
END $$;

-- Lets a handler go and waits until it has delivered that many events more;
-- gives events a second, from the end of dbopt_resume_handler()'s transaction
-- to the last chunk's.
CREATE PROCEDURE bench.go(handler text, events bigint, INOUT per_second float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	before bigint;
	stats record;
BEGIN
	SELECT coalesce(sum(s.successes), 0) INTO before FROM dbopt_retry_stats() s WHERE s.handler = go.handler;
	PERFORM dbopt_resume_handler(handler);
	COMMIT;
	started := clock_timestamp();
	LOOP
		SELECT s.successes, s.dead_letters, s.last_success_at INTO stats
		FROM dbopt_retry_stats() s WHERE s.handler = go.handler;
		EXIT WHEN stats.successes >= before + events;
		IF bench.seconds_since(started) > 300 THEN
			RAISE 'only % of % events were delivered', stats.successes - before, events;
		END IF;
		PERFORM bench.nap(20);
	END LOOP;
	IF stats.successes > before + events OR stats.dead_letters > 0 THEN
		RAISE '% events delivered, % given up, of %', stats.successes - before, stats.dead_letters, events;
	END IF;
	per_second := events / extract(epoch FROM stats.last_success_at - started);
END $$;

CREATE PROCEDURE bench.unregister(handler text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dbopt_unregister_handler(handler, true);
	COMMIT;
END $$;

-- All three: delivers what waits in a table to a new handler.
CREATE PROCEDURE bench.deliver(function regprocedure, events regclass, n bigint, concurrency int,
	chunk int DEFAULT NULL, role text DEFAULT 'bench', INOUT per_second float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	handler constant text := 'bench.' || clock_timestamp();
BEGIN
	CALL bench.register(handler, function, events, concurrency, chunk, role);
	CALL bench.go(handler, n, per_second);
	CALL bench.unregister(handler);
END $$;

-- The same by the clock on the wall, for libraries that do not count.
CREATE PROCEDURE bench.drain(function regprocedure, events regclass, n bigint, chunk int DEFAULT NULL,
	INOUT per_second float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	handler constant text := 'bench.' || clock_timestamp();
	started timestamptz;
BEGIN
	CALL bench.register(handler, function, events, 1, chunk, 'bench_async');
	PERFORM dbopt_resume_handler(handler);
	COMMIT;
	started := clock_timestamp();
	IF NOT dbopt_drain('5 min') THEN
		RAISE 'not all events were delivered';
	END IF;
	per_second := n / bench.seconds_since(started);
	CALL bench.unregister(handler);
END $$;

-- ---- callers' SQL --------------------------------------------------------

-- How to connect to this database, for dblink.
CREATE FUNCTION bench.here() RETURNS text LANGUAGE sql AS $$
	SELECT format('dbname=%s host=%s port=%s', current_database(),
		current_setting('unix_socket_directories'), current_setting('port'))
$$;

-- Connects dblink, unless it is connected.
CREATE FUNCTION bench.connect() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF 'bench' = ANY (dblink_get_connections()) THEN
		RETURN;
	END IF;
	PERFORM dblink_connect('bench', bench.here());
END $$;

-- Microseconds that a call takes, of n.
CREATE FUNCTION bench.call_time(statement text, n int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
BEGIN
	FOR i IN 1 .. 10 LOOP
		EXECUTE statement;
	END LOOP;
	started := clock_timestamp();
	FOR i IN 1 .. n LOOP
		EXECUTE statement;
	END LOOP;
	RETURN bench.seconds_since(started) * 1000000 / n;
END $$;

-- After a part has failed, nothing of it is left for the next one.
CREATE PROCEDURE bench.clean_up() LANGUAGE plpgsql AS $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT h.name FROM dbopt_handlers h LOOP
		PERFORM dbopt_unregister_handler(name, true);
	END LOOP;
END $$;

-- ---- latency -------------------------------------------------------------

-- When events were written (the end of their COMMIT) and when their handler
-- started.
CREATE TABLE bench.written (id uuid, at timestamptz);
CREATE TABLE bench.seen (id uuid, at timestamptz);

-- Inserts n events, each in a transaction of its own, 100 a second.
CREATE PROCEDURE bench.write(events regclass, n int, types int DEFAULT 1) LANGUAGE plpgsql AS $$
DECLARE
	statement constant text := format(
		'INSERT INTO %s (event_type, aggregate_type, aggregate_id, data)
		 VALUES (format(''THING.CHANGED.%%s'', $1 %% $2), ''thing'', md5($1::text)::uuid, jsonb_build_object(''n'', $1))
		 RETURNING id', events);
	started constant timestamptz := clock_timestamp();
	ids uuid[] := '{}';
	times timestamptz[] := '{}';
	new_id uuid;
BEGIN
	FOR i IN 1 .. n LOOP
		EXECUTE statement INTO new_id USING i, types;
		COMMIT;
		times[i] := clock_timestamp();
		ids[i] := new_id;
		PERFORM bench.nap(greatest(i * 10 - bench.seconds_since(started) * 1000, 1));
	END LOOP;
	INSERT INTO bench.written SELECT * FROM unnest(ids, times);
END $$;

CREATE PROCEDURE bench.forget_latency() LANGUAGE sql AS $$ TRUNCATE bench.written, bench.seen $$;

-- Waits until all that was written has been seen; gives quantiles in ms, and
-- the median from the commit record on, which the flush to disk follows.
CREATE PROCEDURE bench.latency(events regclass, INOUT p50 float8 DEFAULT NULL, INOUT p95 float8 DEFAULT NULL,
	INOUT p99 float8 DEFAULT NULL, INOUT p50_with_flush float8 DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
	missing bigint;
BEGIN
	LOOP
		SELECT count(*) INTO missing FROM bench.written w WHERE NOT EXISTS (SELECT FROM bench.seen s WHERE s.id = w.id);
		EXIT WHEN missing = 0;
		IF bench.seconds_since(started) > 10 THEN
			RAISE '% events were not delivered', missing;
		END IF;
		PERFORM bench.nap(100);
		COMMIT;
	END LOOP;
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.95) WITHIN GROUP (ORDER BY ms),
		percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
	INTO p50, p95, p99
	FROM (SELECT extract(epoch FROM s.at - w.at) * 1000 AS ms FROM bench.written w JOIN bench.seen s USING (id)) l;
	EXECUTE format(
		'SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM s.at - pg_xact_commit_timestamp(e.xmin)) * 1000)
		 FROM %s e JOIN bench.written w USING (id) JOIN bench.seen s USING (id)', events) INTO p50_with_flush;
END $$;

-- ---- what is measured ----------------------------------------------------

SELECT dbopt_create_events('bench.log', false);
SELECT dbopt_create_events('bench.failing', false);
SELECT dbopt_create_events('bench.pinned', false);
SELECT dbopt_create_events('bench.million', false);
SELECT dbopt_create_events('bench.short', false);
SELECT dbopt_create_events('bench.latency', false);
SELECT dbopt_create_events('bench.types', false);
SELECT dbopt_create_events('bench.marked', true);
CALL bench.add_usual_indexes('bench.marked');
CALL bench.create_plain('inserts_plain', 'bench.log');
CALL bench.create_plain('inserts', 'bench.log');
SELECT dbopt_attach_events('bench.inserts');
CALL bench.create_plain('marked_plain', 'bench.marked');
CREATE INDEX ON bench.marked_plain (aggregate_type, aggregate_id, aggregate_version, event_timestamp DESC);
CALL bench.add_usual_indexes('bench.marked_plain');
CALL bench.create_plain('notified', 'bench.latency');

DO $do$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{log,failing,pinned,million,short,latency,types,inserts,marked}'::text[] LOOP
		CALL bench.no_autovacuum(('bench.' || name)::regclass);
		EXECUTE format('CREATE FUNCTION bench.noop(e bench.%I) RETURNS void LANGUAGE plpgsql AS $$BEGIN END$$', name);
	END LOOP;
	FOREACH name IN ARRAY '{latency,types,notified}'::text[] LOOP
		EXECUTE format('CREATE FUNCTION bench.note(e bench.%I) RETURNS void LANGUAGE plpgsql AS $$
			BEGIN
				INSERT INTO bench.seen VALUES (e.id, clock_timestamp());
			END $$', name);
	END LOOP;
END $do$;

-- Fails the first time for each event.  Events come first in the order of
-- aggregate_version, and what a sequence is set to is not rolled back.
CREATE SEQUENCE bench.failed;
CREATE FUNCTION bench.fail_once(e bench.failing) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	ignored bigint;
BEGIN
	IF e.aggregate_version > coalesce(pg_sequence_last_value('bench.failed'), 0) THEN
		ignored := setval('bench.failed', e.aggregate_version);
		RAISE 'not yet';
	END IF;
END $$;
INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, multiplier, jitter, retry_unknown, failure_threshold)
VALUES ('bench', 100, '1 ms', '1 ms', 1, 'none', true, 2147483647);

-- The reference for latency: the application is told by NOTIFY.
CREATE FUNCTION bench.notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_notify('bench', NEW.id::text);
	RETURN NULL;
END $$;
CREATE TRIGGER notify AFTER INSERT ON bench.notified FOR EACH ROW EXECUTE FUNCTION bench.notify();
