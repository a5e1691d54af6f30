-- The contract of policies, circuit breakers, statistics and dead letters:
-- names, types, rights, comments.
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE contract (function regprocedure, arguments text, result text, who text);
INSERT INTO contract VALUES
	('dbopt_retry_delay(int, text, float8)',
	 'attempt integer, policy text DEFAULT ''default''::text, random double precision DEFAULT NULL::double precision',
	 'interval', 'everybody'),
	('dbopt_is_retryable(text, text, text)',
	 'sqlstate text, message text DEFAULT ''''::text, policy text DEFAULT ''default''::text',
	 'boolean', 'everybody'),
	('dbopt_circuit_breakers()',
	 'OUT name text, OUT state text, OUT consecutive_failures integer, OUT failure_threshold integer,'
	 ' OUT opened_at timestamp with time zone, OUT retry_at timestamp with time zone, OUT successes bigint,'
	 ' OUT failures bigint, OUT rejected bigint, OUT tripped bigint', 'SETOF record', 'monitor'),
	('dbopt_circuit_breaker_state(text)', 'name text', 'text', 'monitor'),
	('dbopt_reset_circuit_breaker(text)', 'name text DEFAULT NULL::text', 'integer', 'nobody'),
	('dbopt_trip_circuit_breaker(text)', 'name text', 'void', 'nobody'),
	('dbopt_retry_stats()',
	 'OUT handler text, OUT event_type text, OUT circuit_state text, OUT in_flight bigint, OUT attempts bigint,'
	 ' OUT successes bigint, OUT failures bigint, OUT retries bigint, OUT successes_after_retry bigint,'
	 ' OUT dead_letters bigint, OUT rejected bigint, OUT mean_ms double precision, OUT p50_ms double precision,'
	 ' OUT p95_ms double precision, OUT p99_ms double precision, OUT max_ms double precision,'
	 ' OUT last_error_code text, OUT last_error text, OUT last_error_at timestamp with time zone,'
	 ' OUT last_success_at timestamp with time zone, OUT stats_since timestamp with time zone',
	 'SETOF record', 'monitor'),
	('dbopt_backlog()',
	 'OUT handler text, OUT event_type text, OUT waiting bigint, OUT retrying bigint, OUT dead bigint,'
	 ' OUT oldest_waiting timestamp with time zone, OUT lag interval', 'SETOF record', 'monitor'),
	('dbopt_report()', '', 'text', 'monitor'),
	('dbopt_reset_stats()', '', 'void', 'nobody'),
	('dbopt_connection_stats()',
	 'OUT num_used integer, OUT num_free integer, OUT num_pending_acquires integer, OUT num_pending_creates integer,'
	 ' OUT utilization double precision, OUT pool_health text, OUT circuit_breaker_state text,'
	 ' OUT acquire_wait_mean_ms double precision, OUT acquire_wait_p99_ms double precision', 'record', 'monitor'),
	('dbopt_test_connection()', '', 'boolean', 'monitor'),
	('dbopt_metrics()', 'OUT name text, OUT kind text, OUT labels jsonb, OUT value double precision', 'SETOF record',
	 'monitor'),
	('dbopt_prometheus()', '', 'text', 'monitor'),
	('dbopt_health()', 'OUT check_name text, OUT status text, OUT detail text', 'SETOF record', 'monitor'),
	('dbopt_replay_dead_letters(text, text)', 'handler text DEFAULT NULL::text, event_id text DEFAULT NULL::text',
	 'bigint', 'nobody'),
	('dbopt_discard_dead_letters(text, text)', 'handler text DEFAULT NULL::text, event_id text DEFAULT NULL::text',
	 'bigint', 'nobody'),
	('dbopt_policy_guard()', '', 'trigger', 'nobody'),
	('dbopt_rule_guard()', '', 'trigger', 'nobody'),
	('dbopt_truncate_guard()', '', 'trigger', 'nobody');

SELECT is(pg_get_function_arguments(function), arguments, function || ': arguments and columns') FROM contract;
SELECT is(pg_get_function_result(function), result, function || ': result') FROM contract;
SELECT isnt(obj_description(function, 'pg_proc'), NULL, function || ': comment') FROM contract;
CREATE ROLE contract_nobody;
SELECT is(has_function_privilege('contract_nobody', function, 'EXECUTE'), who = 'everybody',
	function || ': for everybody?') FROM contract;
SELECT is(has_function_privilege('pg_monitor', function, 'EXECUTE'), who IN ('everybody', 'monitor'),
	function || ': for pg_monitor?') FROM contract;
SELECT is(prosecdef, false, function || ': runs as its caller') FROM contract JOIN pg_proc ON oid = function;
SELECT is(proparallel, 'u', function || ': kept out of parallel plans') FROM contract JOIN pg_proc ON oid = function;

SELECT columns_are('dbopt_pending_retries',
	ARRAY['handler', 'event_id', 'event_type', 'attempts', 'next_retry_at', 'error_code', 'error_message']);
SELECT columns_are('dbopt_dead_letters',
	ARRAY['handler', 'event_id', 'event_type', 'attempts', 'error_code', 'error_message', 'first_failed_at', 'failed_at']);
SELECT columns_are('dbopt_retry_policy',
	ARRAY['name', 'max_attempts', 'base_delay', 'max_delay', 'multiplier', 'jitter', 'adaptive', 'retry_unknown',
	      'failure_threshold', 'reset_timeout', 'half_open_trials', 'shipped', 'edited']);
SELECT columns_are('dbopt_retryable_error', ARRAY['policy', 'sqlstate', 'pattern', 'retryable', 'shipped', 'edited']);

CREATE TEMP TABLE relations AS
	SELECT unnest('{dbopt_pending_retries,dbopt_dead_letters,dbopt_retry_policy,dbopt_retryable_error}'::regclass[]) AS relation;
SELECT isnt(obj_description(relation, 'pg_class'), NULL, relation || ': comment') FROM relations;
SELECT isnt(col_description(relation, attnum), NULL, relation || '.' || attname || ': comment')
  FROM relations JOIN pg_attribute ON attrelid = relation WHERE attnum > 0;
SELECT is(has_table_privilege('contract_nobody', relation, 'SELECT'), relation::text LIKE '%retry%_%' AND relkind = 'r',
	relation || ': read by everybody?') FROM relations JOIN pg_class ON oid = relation;
SELECT ok(has_table_privilege('pg_monitor', relation, 'SELECT'), relation || ': read by pg_monitor') FROM relations;
SELECT ok(NOT has_table_privilege('pg_monitor', relation, 'INSERT, UPDATE, DELETE, TRUNCATE'), relation || ': written by the installer only')
  FROM relations;
SELECT ok('security_barrier=true' = ANY (reloptions), relation || ': lets nothing leak')
  FROM relations JOIN pg_class ON oid = relation WHERE relkind = 'v';
SELECT is(tgenabled, 'A', format('%s: %s runs for replicated rows, too', tgrelid::regclass, tgname))
  FROM relations JOIN pg_trigger ON tgrelid = relation WHERE NOT tgisinternal;

-- The shipped policies.
SELECT results_eq(
	'SELECT name, max_attempts, base_delay, max_delay, multiplier, jitter, adaptive, retry_unknown,
	        failure_threshold, reset_timeout, half_open_trials FROM dbopt_retry_policy WHERE shipped ORDER BY name',
	$$VALUES ('database', 3, '500 ms'::interval, '5 s'::interval, 2::float8, 'proportional', false, false, 5, '30 s'::interval, 1),
	         ('default', 5, '1 s', '30 s', 2, 'proportional', false, false, 5, '30 s', 1),
	         ('event', 5, '1 s', '30 s', 2, 'full', false, true, 5, '30 s', 1),
	         ('transaction', 5, '100 ms', '2 s', 2, 'proportional', false, false, 5, '30 s', 1)$$,
	'shipped policies');
SELECT is(count(*), 43::bigint, 'shipped rules') FROM dbopt_retryable_error WHERE shipped;

SELECT * FROM finish();
ROLLBACK;
