-- Statistics of handlers that have not run: what they count is tested where
-- handlers run.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
DROP ROLE IF EXISTS regress_stats;
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
-- Rights.
CREATE ROLE regress_stats;
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
DROP FUNCTION stats_handler;
DROP TABLE stats_events;
DROP ROLE regress_stats;
