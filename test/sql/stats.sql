-- Statistics of handlers: before they ran, after it, and who sees what.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
DROP ROLE IF EXISTS regress_stats, regress_stats_handler;
RESET client_min_messages;
CREATE TABLE stats_events (id int PRIMARY KEY, event_type text NOT NULL);
SELECT dbopt_attach_events('stats_events');
CREATE FUNCTION stats_handler(stats_events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dbopt_register_handler('stats a', 'A.*', 'stats_handler(stats_events)', 'stats_events');
SELECT dbopt_register_handler('stats b', '*', 'stats_handler(stats_events)', 'stats_events');
\x on
SELECT handler, event_type, circuit_state, in_flight, attempts, successes, failures, retries,
       successes_after_retry, dead_letters, rejected, mean_ms, p50_ms, p95_ms, p99_ms, max_ms,
       last_error_code, last_error, last_error_at, last_success_at
  FROM dbopt_retry_stats() WHERE handler LIKE 'stats %' ORDER BY handler;
\x off
SELECT dbopt_trip_circuit_breaker('stats a');
SELECT dbopt_reset_stats();
SELECT handler, circuit_state, stats_since IS NOT NULL AS since FROM dbopt_retry_stats() WHERE handler = 'stats a';
SELECT dbopt_reset_circuit_breaker('stats a');

-- What handlers that run are counted for: good events, bad ones, and ones that
-- succeed at the second attempt.
CREATE TABLE stats_seen (id int PRIMARY KEY);
SELECT format('CREATE SEQUENCE stats_late_%s', i) FROM generate_series(24, 27) i \gexec
CREATE FUNCTION stats_runner(stats_events) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF $1.event_type = 'RUN.bad' THEN
		RAISE EXCEPTION 'private data of event %', $1.id USING ERRCODE = '22000';
	ELSIF $1.event_type = 'RUN.late' AND nextval('stats_late_' || $1.id) = 1 THEN
		RAISE EXCEPTION 'not yet' USING ERRCODE = '40001';
	END IF;
	INSERT INTO stats_seen VALUES ($1.id);
END $$;
INSERT INTO dbopt_retry_policy (name, base_delay, failure_threshold) VALUES ('stats', '1 ms', 1000);
CREATE ROLE regress_stats_handler LOGIN;
GRANT SELECT ON stats_events TO regress_stats_handler;
GRANT INSERT ON stats_seen TO regress_stats_handler;
GRANT USAGE ON SEQUENCE stats_late_24, stats_late_25, stats_late_26, stats_late_27 TO regress_stats_handler;
SELECT dbopt_register_handler('stats run', 'RUN.*', 'stats_runner(stats_events)', 'stats_events',
	policy => 'stats', run_as => 'regress_stats_handler', chunk_size => 1, max_concurrency => 1);
INSERT INTO stats_events SELECT i, CASE WHEN i <= 20 THEN 'RUN.good' WHEN i <= 23 THEN 'RUN.bad' ELSE 'RUN.late' END
  FROM generate_series(1, 27) i;
SELECT dbopt_drain('30 s');
SELECT count(*) FROM stats_seen;
SELECT in_flight, attempts, successes, failures, retries, successes_after_retry, dead_letters, rejected
  FROM dbopt_retry_stats() WHERE handler = 'stats run';
SELECT mean_ms > 0 AS mean, p50_ms > 0 AS p50, p50_ms <= p95_ms AS p95, p95_ms <= p99_ms AS p99, p99_ms <= max_ms AS max,
       stats_since < last_error_at AS error, stats_since < last_success_at AS success
  FROM dbopt_retry_stats() WHERE handler = 'stats run';
SELECT event_id, event_type, attempts, error_code, error_message FROM dbopt_dead_letters WHERE handler = 'stats run' ORDER BY event_id;
SELECT event_type, waiting, retrying, dead, oldest_waiting, lag FROM dbopt_backlog() WHERE handler = 'stats run' ORDER BY event_type;
-- Replayed, they fail again, and count again.
SELECT dbopt_replay_dead_letters('stats run');
SELECT dbopt_drain('30 s');
SELECT attempts, failures, retries, dead_letters, last_error_code, left(last_error, 12) AS last_error
  FROM dbopt_retry_stats() WHERE handler = 'stats run';
-- The last error is for members of the handler's role and pg_read_all_stats.
CREATE ROLE regress_stats;
GRANT EXECUTE ON FUNCTION dbopt_retry_stats TO regress_stats;
SET ROLE regress_stats;
SELECT last_error_code, last_error, last_error_at IS NOT NULL AS at FROM dbopt_retry_stats() WHERE handler = 'stats run';
RESET ROLE;
GRANT regress_stats_handler TO regress_stats;
SET ROLE regress_stats;
SELECT last_error_code, left(last_error, 12) AS last_error FROM dbopt_retry_stats() WHERE handler = 'stats run';
RESET ROLE;
REVOKE regress_stats_handler FROM regress_stats;
REVOKE EXECUTE ON FUNCTION dbopt_retry_stats FROM regress_stats;
SELECT dbopt_reset_stats();
SELECT attempts, failures, mean_ms, max_ms, last_error_code, last_error_at, last_success_at FROM dbopt_retry_stats() WHERE handler = 'stats run';
SELECT dbopt_unregister_handler('stats run', discard => true);
DELETE FROM dbopt_retry_policy WHERE name = 'stats';

-- Rights.
SET ROLE regress_stats;
SELECT count(*) FROM dbopt_retry_stats();
SELECT count(*) FROM dbopt_backlog();
SELECT dbopt_reset_stats();
RESET ROLE;
GRANT pg_monitor TO regress_stats;
SET ROLE regress_stats;
SELECT count(*) >= 2 AS some FROM dbopt_retry_stats();
SELECT count(*) >= 2 AS some FROM dbopt_backlog();
SELECT dbopt_reset_stats();
RESET ROLE;
SELECT dbopt_unregister_handler('stats a'), dbopt_unregister_handler('stats b');
SELECT handler FROM dbopt_retry_stats() WHERE handler LIKE 'stats %';
SELECT dbopt_detach_events('stats_events');
DROP FUNCTION stats_handler, stats_runner;
DROP TABLE stats_events, stats_seen;
DROP SEQUENCE stats_late_24, stats_late_25, stats_late_26, stats_late_27;
DROP ROLE regress_stats, regress_stats_handler;
