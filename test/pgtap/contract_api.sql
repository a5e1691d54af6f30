-- The contract of events and handlers: names, types, rights; and a comment on
-- every object of the extension.
BEGIN;
SELECT no_plan();

-- Who may call a function, besides its owner: everybody, monitor, or nobody.
CREATE TEMP TABLE contract (function regprocedure, arguments text, result text, who text);
INSERT INTO contract VALUES
	('dbopt_uuid_v7()', '', 'uuid', 'everybody'),
	('dbopt_create_events(text, boolean)',
	 'name text DEFAULT ''events''::text, mark_processed boolean DEFAULT true', 'regclass', 'nobody'),
	('dbopt_attach_events(regclass, name)',
	 'events regclass, key_column name DEFAULT NULL::name', 'void', 'nobody'),
	('dbopt_detach_events(regclass)', 'events regclass', 'void', 'nobody'),
	('dbopt_register_handler(text, text, regprocedure, regclass, text, int, int, interval, int, text, boolean, regrole, boolean)',
	 'name text, event_type text, handler regprocedure, events regclass DEFAULT NULL::regclass,'
	 ' policy text DEFAULT ''event''::text, max_concurrency integer DEFAULT NULL::integer,'
	 ' chunk_size integer DEFAULT NULL::integer, timeout interval DEFAULT NULL::interval,'
	 ' priority integer DEFAULT 0, start_from text DEFAULT NULL::text, ordered boolean DEFAULT false,'
	 ' run_as regrole DEFAULT NULL::regrole, replace boolean DEFAULT false', 'void', 'nobody'),
	('dbopt_unregister_handler(text, boolean)', 'name text, discard boolean DEFAULT false', 'void', 'nobody'),
	('dbopt_pause_handler(text)', 'name text', 'void', 'nobody'),
	('dbopt_resume_handler(text)', 'name text', 'void', 'nobody'),
	('dbopt_replay(text, timestamptz)', 'handler text, since timestamp with time zone', 'bigint', 'nobody'),
	('dbopt_drain(interval)', 'timeout interval DEFAULT ''00:01:00''::interval', 'boolean', 'nobody'),
	('dbopt_pause()', '', 'void', 'nobody'),
	('dbopt_resume()', '', 'void', 'nobody'),
	('dbopt_delivered_before(integer)', 'source_id integer', 'bigint', 'monitor'),
	('dbopt_index_advice()', '', 'TABLE(index_name text, table_name regclass, finding text, detail text, statement text)', 'monitor'),
	('dbopt_slow_queries(integer)', 'top integer DEFAULT 20', 'TABLE(queryid bigint, role name, calls bigint, total_ms double precision, mean_ms double precision, rows bigint, tables regclass[], indexes text[], query text)', 'monitor'),
	('dbopt_estimate_indexes(regclass)', 'table_name regclass DEFAULT NULL::regclass, OUT name text, OUT table_name text, OUT rows bigint, OUT estimated_bytes bigint, OUT estimated_time interval, OUT reason text', 'SETOF record', 'monitor'),
	('dbopt_stamp()', '', 'trigger', 'everybody'),
	('dbopt_truncated()', '', 'trigger', 'everybody');

SELECT is(pg_get_function_arguments(function), arguments, function || ': arguments') FROM contract;
SELECT is(pg_get_function_result(function), result, function || ': result') FROM contract;

CREATE ROLE contract_everybody;
CREATE ROLE contract_monitor IN ROLE pg_monitor;
SELECT is(CASE WHEN has_function_privilege('contract_everybody', function, 'EXECUTE') THEN 'everybody'
		WHEN has_function_privilege('contract_monitor', function, 'EXECUTE') THEN 'monitor'
		ELSE 'nobody' END, who, function || ': who may call it')
  FROM contract;

-- The views.
SELECT columns_are('public', 'dbopt_sources',
	ARRAY['events', 'mark_processed', 'key_column', 'state', 'reason', 'delivered_before']);
SELECT columns_are('public', 'dbopt_handlers',
	ARRAY['name', 'event_type', 'handler', 'events', 'role', 'state', 'reason', 'policy', 'priority', 'paused',
		'max_concurrency', 'chunk_size', 'timeout', 'ordered', 'registered_at']);

-- The functions' names in the library and in SQL are the same; none finds
-- others by the caller's search path.
CREATE TEMP VIEW member AS
	SELECT classid, objid, pg_describe_object(classid, objid, 0) AS object
	  FROM pg_depend
	 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dbopt');
SELECT is_empty($$
	SELECT proname FROM pg_proc JOIN member ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid
	 WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND prosrc !~ '^dbopt_'
$$, 'C functions bear the name of the module');
SELECT is_empty($$
	SELECT proname FROM pg_proc JOIN member ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid
	 WHERE prosecdef
$$, 'no function is SECURITY DEFINER');

-- Tables are nobody's but the installer's, unless they only hold settings.
SELECT is_empty($$
	SELECT relname FROM pg_class JOIN member ON classid = 'pg_class'::regclass AND objid = pg_class.oid
	 WHERE relkind = 'r' AND (has_table_privilege('contract_everybody', pg_class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
		OR has_any_column_privilege('contract_everybody', pg_class.oid, 'INSERT, UPDATE'))
$$, 'no table may be written by everybody');

-- A comment on every object, every column of a view, and every column of a
-- table that people edit.
SELECT is_empty($$
	SELECT object FROM member
	 WHERE classid <> 'pg_type'::regclass AND obj_description(objid, classid::regclass::name) IS NULL
	   AND NOT (classid = 'pg_class'::regclass AND
		(SELECT relkind FROM pg_class WHERE oid = objid) IN ('S', 'i'))
$$, 'every object has a comment');
SELECT is_empty($$
	SELECT object, attname FROM member JOIN pg_class ON pg_class.oid = objid JOIN pg_attribute ON attrelid = objid
	 WHERE classid = 'pg_class'::regclass AND relkind = 'v' AND attnum > 0 AND NOT attisdropped
	   AND col_description(attrelid, attnum) IS NULL
$$, 'every column of a view has a comment');
SELECT is_empty($$
	SELECT attrelid::regclass, attname FROM pg_attribute
	 WHERE attrelid IN ('dbopt_retry_policy'::regclass, 'dbopt_retryable_error'::regclass, 'dbopt_index'::regclass)
	   AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL
$$, 'every column of a table that people edit has a comment');

-- What a dump must hold.
SELECT is_empty($$
	SELECT relname FROM pg_class JOIN member ON classid = 'pg_class'::regclass AND objid = pg_class.oid
	 WHERE relkind = 'r' AND pg_class.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'dbopt')
	   AND relname NOT IN ('dbopt_attempt', 'dbopt_build_rate') -- of this server alone
$$, 'every table is dumped');

SELECT * FROM finish();
ROLLBACK;
