-- What there is to see at the end.
\pset footer off
\pset linestyle ascii
\pset null -
\echo '4. dbopt_retry_stats()'
SELECT handler, attempts, successes, failures, retries,
	successes_after_retry AS retried_ok, dead_letters AS dead,
	round(mean_ms::numeric, 3) AS mean_ms, round(p99_ms::numeric, 3) AS p99_ms
FROM dbopt_retry_stats()
ORDER BY handler;

\echo '5. dbopt_circuit_breakers()'
SELECT name, state, consecutive_failures AS in_a_row, failure_threshold AS threshold, successes,
	failures, rejected, tripped
FROM dbopt_circuit_breakers()
ORDER BY name;

SELECT '6. ' || count(*) || ' dead letters' ||
	CASE WHEN count(*) > 5 THEN '; five of them:' ELSE '' END AS heading
FROM dbopt_dead_letters \gset
\echo :heading
SELECT d.handler, e.data ->> 'package' AS package, d.error_code AS code, d.error_message
FROM dbopt_dead_letters d JOIN package_events e ON e.id::text = d.event_id
ORDER BY d.failed_at, d.event_id
LIMIT 5;

\echo '7. What the handlers have written is what plain SQL computes from the same events'
SELECT checked, expected, found, different, CASE different WHEN 0 THEN 'ok' ELSE 'WRONG' END AS result
FROM checks
ORDER BY number;
