-- The contract of the session pool's functions.
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE contract (function regprocedure, arguments text, result text);
INSERT INTO contract VALUES
	('dbopt_pool_stats()',
	 'OUT environment text, OUT used integer, OUT free integer, OUT total integer, OUT waiting integer,'
	 ' OUT min integer, OUT max integer, OUT utilization double precision, OUT health text', 'record'),
	('dbopt_pool_sessions()',
	 'OUT pid integer, OUT role text, OUT state text, OUT job text, OUT handler text,'
	 ' OUT since timestamp with time zone, OUT jobs_done bigint', 'SETOF record'),
	('dbopt_pool_events()', 'OUT event text, OUT count bigint', 'SETOF record');

SELECT is(pg_get_function_arguments(function), arguments, function || ': arguments and columns') FROM contract;
SELECT is(pg_get_function_result(function), result, function || ': result') FROM contract;
SELECT isnt(obj_description(function, 'pg_proc'), NULL, function || ': comment') FROM contract;
CREATE ROLE contract_nobody;
SELECT ok(NOT has_function_privilege('contract_nobody', function, 'EXECUTE'), function || ': not for everybody') FROM contract;
SELECT ok(has_function_privilege('pg_monitor', function, 'EXECUTE'), function || ': for pg_monitor') FROM contract;

SELECT results_eq(
	'SELECT environment, min, max, waiting, health FROM dbopt_pool_stats()',
	$$VALUES ('development', 1, 5, 0, 'healthy')$$,
	'the limits are those of the environment');
SELECT results_eq(
	'SELECT event FROM dbopt_pool_events()',
	$$VALUES ('acquireRequest'), ('acquireSuccess'), ('acquireFail'), ('release'), ('createRequest'), ('createSuccess'),
	         ('createFail'), ('destroyRequest'), ('destroySuccess'), ('destroyFail'), ('error')$$,
	'the events of the pool');
SELECT is((SELECT count(*) FROM dbopt_pool_sessions()), (SELECT total::bigint FROM dbopt_pool_stats()),
	'sessions and their number');

SELECT * FROM finish();
ROLLBACK;
