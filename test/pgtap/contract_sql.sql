-- The contract of what runs a caller's SQL.
BEGIN;
SELECT no_plan();

CREATE TEMP TABLE contract (function regprocedure, arguments text, kind "char");
INSERT INTO contract VALUES
	('dbopt_with_database_retry(text)', 'IN statement text', 'p'),
	('dbopt_with_transaction_retry(text, text)',
	 'IN statement text, IN isolation text DEFAULT ''serializable''::text', 'p'),
	('dbopt_with_connection(text, text[])', 'statement text, params text[] DEFAULT ''{}''::text[]', 'f'),
	('dbopt_with_transaction(text[], text)', 'statements text[], isolation text DEFAULT ''serializable''::text', 'f');

SELECT is(pg_get_function_arguments(function), arguments, function || ': arguments') FROM contract;
SELECT is(prokind, kind, function || ': kind') FROM contract JOIN pg_proc ON oid = function;
SELECT isnt(obj_description(function, 'pg_proc'), NULL, function || ': comment') FROM contract;
CREATE ROLE contract_nobody;
SELECT ok(has_function_privilege('contract_nobody', function, 'EXECUTE'), function || ': for everybody') FROM contract;

SELECT * FROM finish();
ROLLBACK;
