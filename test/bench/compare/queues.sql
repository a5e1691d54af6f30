-- What the other queues need in the database, and those that are plain SQL.

CREATE SCHEMA compare;

-- ---- PgQ: a consumer in PL/pgSQL that guards each event --------------------

CREATE EXTENSION pgq;

CREATE FUNCTION compare.noop(event_id bigint, data text) RETURNS void LANGUAGE plpgsql AS $$BEGIN END$$;

-- Runs what one tick has; a failed event is retried by PgQ itself.
CREATE PROCEDURE compare.pgq_batch(INOUT events bigint DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	batch constant bigint := pgq.next_batch('bench', 'bench');
	event record;
BEGIN
	events := NULL;
	IF batch IS NULL THEN
		RETURN;
	END IF;
	events := 0;
	FOR event IN SELECT ev_id, ev_data FROM pgq.get_batch_events(batch) LOOP
		BEGIN
			PERFORM compare.noop(event.ev_id, event.ev_data);
		EXCEPTION WHEN OTHERS THEN
			PERFORM pgq.event_retry(batch, event.ev_id, 1);
		END;
		events := events + 1;
	END LOOP;
	PERFORM pgq.finish_batch(batch);
	COMMIT;
END $$;

-- Events a second, in ticks of so many.
CREATE PROCEDURE compare.pgq(total bigint, tick bigint, INOUT per_second float8 DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	batch bigint;
	done bigint := 0;
BEGIN
	PERFORM pgq.create_queue('bench'), pgq.register_consumer('bench', 'bench');
	COMMIT;
	PERFORM pgq.force_tick('bench');
	PERFORM pgq.ticker('bench');
	COMMIT;
	FOR i IN 1 .. total / tick LOOP
		PERFORM pgq.insert_event('bench', 'THING.CHANGED', '{"n": 1}') FROM generate_series(1, tick);
		COMMIT;
		PERFORM pgq.force_tick('bench');
		PERFORM pgq.ticker('bench');
		COMMIT;
	END LOOP;
	started := clock_timestamp();
	WHILE done < total LOOP
		CALL compare.pgq_batch(batch);
		IF batch IS NULL THEN
			RAISE 'PgQ gave % of % events', done, total;
		END IF;
		done := done + batch;
		COMMIT;
	END LOOP;
	per_second := total / extract(epoch FROM clock_timestamp() - started);
	PERFORM pgq.unregister_consumer('bench', 'bench'), pgq.drop_queue('bench');
	COMMIT;
END $$;

-- ---- a loop over the events table, as many write it by hand ----------------

CREATE TABLE compare.events (LIKE bench.marked_plain INCLUDING ALL);

CREATE FUNCTION compare.noop(event compare.events) RETURNS void LANGUAGE plpgsql AS $$BEGIN END$$;

CREATE PROCEDURE compare.skip_locked(total bigint, INOUT per_second float8 DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	started constant timestamptz := clock_timestamp();
	event compare.events;
	done bigint := 0;
	before bigint;
BEGIN
	LOOP
		before := done;
		FOR event IN SELECT * FROM compare.events WHERE NOT processed ORDER BY event_timestamp LIMIT 100
			FOR UPDATE SKIP LOCKED
		LOOP
			BEGIN
				PERFORM compare.noop(event);
				UPDATE compare.events SET processed = true, processed_at = clock_timestamp() WHERE id = event.id;
			EXCEPTION WHEN OTHERS THEN
				UPDATE compare.events SET retry_count = retry_count + 1 WHERE id = event.id;
			END;
			done := done + 1;
		END LOOP;
		COMMIT;
		EXIT WHEN done = before;
	END LOOP;
	per_second := done / extract(epoch FROM clock_timestamp() - started);
END $$;
