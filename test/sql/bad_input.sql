-- What is refused, with which SQLSTATE and hint; nothing is left half done.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt CASCADE;
CREATE EXTENSION dbopt CASCADE;
CREATE SCHEMA bad_test;
SET search_path = bad_test, public;
SET lc_messages = 'C';
CREATE ROLE bad_test_user LOGIN;
CREATE ROLE bad_test_group NOLOGIN;
CREATE ROLE bad_test_super SUPERUSER LOGIN;
GRANT USAGE, CREATE ON SCHEMA bad_test TO bad_test_user;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO bad_test_user;
RESET client_min_messages;

CREATE TABLE raised (function name, code text);
GRANT INSERT ON raised TO PUBLIC;
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	INSERT INTO bad_test.raised VALUES (substring(statement FROM '(dbopt_\w+)\('), SQLSTATE);
	RETURN SQLSTATE || ': ' || SQLERRM || coalesce(' / ' || nullif(hint, ''), '');
END $$;
-- Whatever dbopt adds to tables or keeps itself, in shared memory too.
CREATE FUNCTION traces() RETURNS TABLE (sources bigint, handlers bigint, databases bigint, triggers bigint, columns bigint,
	statistics bigint, breakers bigint)
LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM dbopt_source), (SELECT count(*) FROM dbopt_handler),
		(SELECT count(*) FROM dbopt_database),
		(SELECT count(*) FROM pg_trigger WHERE tgname IN ('dbopt_stamp', 'dbopt_truncated')),
		(SELECT count(*) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
		  WHERE attname = 'log_position' AND relnamespace = 'bad_test'::regnamespace AND relkind IN ('r', 'p')),
		(SELECT count(*) FROM dbopt_retry_stats()), (SELECT count(*) FROM dbopt_circuit_breakers())
$$;
\pset format unaligned
\pset tuples_only on

-- dbopt_create_events
CREATE TABLE taken (a int);
SELECT try($$SELECT dbopt_create_events(NULL)$$);
SELECT try($$SELECT dbopt_create_events('x', NULL)$$);
SELECT try($$SELECT dbopt_create_events('')$$);
SELECT try($$SELECT dbopt_create_events('a.b.c.d')$$);
SELECT try($$SELECT dbopt_create_events('elsewhere.public.events')$$);
SELECT try($$SELECT dbopt_create_events('two words')$$);
SELECT try($$SELECT dbopt_create_events('no_such_schema.events')$$);
SELECT try($$SELECT dbopt_create_events('pg_temp.events')$$);
SELECT try($$SELECT dbopt_create_events('pg_catalog.events')$$);
SELECT try($$SELECT dbopt_create_events('taken')$$);
SELECT * FROM traces();

-- dbopt_attach_events: not a table that can be attached
CREATE VIEW a_view AS SELECT 1 AS id, 'a'::text AS event_type;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id, 'a'::text AS event_type;
CREATE FOREIGN DATA WRAPPER bad_test_wrapper;
CREATE SERVER bad_test_server FOREIGN DATA WRAPPER bad_test_wrapper;
CREATE FOREIGN TABLE a_foreign (id int, event_type text) SERVER bad_test_server;
CREATE TEMPORARY TABLE a_temporary (id int PRIMARY KEY, event_type text);
CREATE UNLOGGED TABLE an_unlogged (id int PRIMARY KEY, event_type text);
CREATE SEQUENCE a_sequence;
CREATE TYPE a_type AS (id int, event_type text);
CREATE TABLE a_typed OF a_type (PRIMARY KEY (id));
CREATE TABLE a_parent (id int PRIMARY KEY, event_type text);
CREATE TABLE a_child (PRIMARY KEY (id)) INHERITS (a_parent);
CREATE TABLE a_root (id int PRIMARY KEY, event_type text) PARTITION BY RANGE (id);
CREATE TABLE a_partition PARTITION OF a_root FOR VALUES FROM (0) TO (10);
CREATE UNLOGGED TABLE unlogged_partition PARTITION OF a_root FOR VALUES FROM (10) TO (20);
CREATE TABLE forced (id int PRIMARY KEY, event_type text);
ALTER TABLE forced FORCE ROW LEVEL SECURITY;
SELECT try($$SELECT dbopt_attach_events(NULL)$$);
SELECT try($$SELECT dbopt_attach_events('nothing')$$);
SELECT try($$SELECT dbopt_attach_events(1::regclass)$$);
SELECT try($$SELECT dbopt_attach_events('a_view')$$);
SELECT try($$SELECT dbopt_attach_events('a_matview')$$);
SELECT try($$SELECT dbopt_attach_events('a_foreign')$$);
SELECT try($$SELECT dbopt_attach_events('a_temporary')$$);
SELECT try($$SELECT dbopt_attach_events('an_unlogged')$$);
SELECT try($$SELECT dbopt_attach_events('a_sequence')$$);
SELECT try($$SELECT dbopt_attach_events('a_type')$$);
SELECT try($$SELECT dbopt_attach_events('forced_pkey')$$);
SELECT try($$SELECT dbopt_attach_events('a_typed')$$);
SELECT try($$SELECT dbopt_attach_events('a_parent')$$);
SELECT try($$SELECT dbopt_attach_events('a_child')$$);
SELECT try($$SELECT dbopt_attach_events('a_partition')$$);
SELECT try($$SELECT dbopt_attach_events('a_root')$$);
SELECT try($$SELECT dbopt_attach_events('forced')$$);
SELECT try($$SELECT dbopt_attach_events('pg_class')$$);
SELECT try($$SELECT dbopt_attach_events('information_schema.sql_features')$$);
SELECT try($$SELECT dbopt_attach_events('dbopt_handler')$$);
SELECT * FROM traces();

-- ... columns and keys
CREATE TABLE no_key (id int NOT NULL, event_type text);
CREATE TABLE no_type (id int PRIMARY KEY);
CREATE TABLE type_int (id int PRIMARY KEY, event_type int);
CREATE TABLE type_generated (id int PRIMARY KEY, a text, event_type text GENERATED ALWAYS AS (upper(a)) STORED);
CREATE TABLE key_date (id date PRIMARY KEY, event_type text);
CREATE TABLE key_char (id char(5) PRIMARY KEY, event_type text);
CREATE DOMAIN a_domain AS int;
CREATE TABLE key_domain (id a_domain PRIMARY KEY, event_type text);
CREATE TABLE key_type (event_type text PRIMARY KEY);
CREATE TABLE composite (id int, at date, nullable int, event_type text, PRIMARY KEY (id, at));
CREATE TABLE position_text (id int PRIMARY KEY, event_type text, log_position text);
CREATE TABLE position_identity (id int PRIMARY KEY, event_type text, log_position bigint GENERATED ALWAYS AS IDENTITY);
CREATE TABLE other_trigger (id int PRIMARY KEY, event_type text);
CREATE TRIGGER dbopt_stamp BEFORE UPDATE ON other_trigger FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT try($$SELECT dbopt_attach_events('no_key')$$);
SELECT try($$SELECT dbopt_attach_events('no_key', 'id')$$);
SELECT try($$SELECT dbopt_attach_events('no_type')$$);
SELECT try($$SELECT dbopt_attach_events('type_int')$$);
SELECT try($$SELECT dbopt_attach_events('type_generated')$$);
SELECT try($$SELECT dbopt_attach_events('key_date')$$);
SELECT try($$SELECT dbopt_attach_events('key_char')$$);
SELECT try($$SELECT dbopt_attach_events('key_domain')$$);
SELECT try($$SELECT dbopt_attach_events('key_type')$$);
SELECT try($$SELECT dbopt_attach_events('composite')$$);
SELECT try($$SELECT dbopt_attach_events('composite', 'no_such')$$);
SELECT try($$SELECT dbopt_attach_events('composite', 'ctid')$$);
SELECT try($$SELECT dbopt_attach_events('composite', 'nullable')$$);
SELECT try($$SELECT dbopt_attach_events('composite', 'at')$$);
SELECT try($$SELECT dbopt_attach_events('position_text')$$);
SELECT try($$SELECT dbopt_attach_events('position_identity')$$);
SELECT try($$SELECT dbopt_attach_events('other_trigger')$$);
CREATE TABLE fitting (id int PRIMARY KEY, event_type text);
SELECT try($$SELECT dbopt_attach_events('fitting', 'event_type')$$);
SET ROLE bad_test_user;
SELECT try($$SELECT dbopt_attach_events('bad_test.fitting')$$);
SELECT try($$SELECT dbopt_detach_events('bad_test.fitting')$$);
RESET ROLE;
SELECT try($$SELECT dbopt_detach_events('fitting')$$);
SELECT try($$SELECT dbopt_detach_events('a_view')$$);
SELECT try($$SELECT dbopt_detach_events(NULL)$$);
SELECT * FROM traces();

-- dbopt_register_handler: before anything is attached, and with several tables
CREATE FUNCTION on_json(e jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT try($$SELECT dbopt_register_handler('h', '*', 'on_json(jsonb)')$$);
SELECT try($$SELECT dbopt_register_handler('h', '*', 'on_json(jsonb)', events => 'fitting')$$);
SELECT dbopt_attach_events('fitting');
SELECT try($$SELECT dbopt_attach_events('fitting')$$);
CREATE TABLE marked (id int PRIMARY KEY, event_type text, processed boolean);
SELECT dbopt_attach_events('marked');
SELECT dbopt_pause();
SELECT try($$SELECT dbopt_register_handler('h', '*', 'on_json(jsonb)')$$);
SELECT try($$SELECT dbopt_register_handler('h', '*', 'on_json(jsonb)', events => 'no_key')$$);
SELECT try($$SELECT dbopt_register_handler('h', '*', 'on_json(jsonb)', events => 1::regclass)$$);

-- ... arguments
CREATE FUNCTION register(name text DEFAULT 'h', event_type text DEFAULT '*', handler text DEFAULT 'on_json(jsonb)',
	more text DEFAULT 'priority => 0', events text DEFAULT 'fitting') RETURNS text LANGUAGE sql AS $$
	SELECT try(format('SELECT dbopt_register_handler(%L, %L, %L, %L, %s)', name, event_type, handler, events, more))
$$;
SELECT register(name => NULL);
SELECT register(name => '');
SELECT register(name => E' \t');
SELECT register(name => repeat('ä', 32));
SELECT register(name => 'database');
SELECT register(name => 'overall');
SELECT register(event_type => NULL);
SELECT register(event_type => '');
SELECT register(event_type => '   ');
SELECT register(event_type => '*.CREATED');
SELECT register(event_type => 'A*B*');
SELECT register(event_type => '**');
SELECT register(handler => NULL);
SELECT register(handler => 'no_such(jsonb)');
SELECT try($$SELECT dbopt_register_handler('h', '*', 1::regprocedure, 'fitting')$$);
SELECT register(more => $$policy => 'no_such'$$);
SELECT register(more => 'max_concurrency => 0');
SELECT register(more => 'max_concurrency => -1');
SELECT register(more => 'chunk_size => 0');
SELECT register(more => $$timeout => '0'$$);
SELECT register(more => $$timeout => '-1 s'$$);
SELECT register(more => $$timeout => '100 years'$$);
SELECT register(more => $$start_from => 'yesterday'$$);
SELECT register(more => $$start_from => ''$$);
SELECT register(more => 'ordered => true');
SELECT register(more => 'run_as => 1::regrole');
SELECT register(more => $$run_as => 'bad_test_nobody'$$);

-- ... functions that cannot handle these events
CREATE PROCEDURE a_procedure(e jsonb) LANGUAGE plpgsql AS 'BEGIN END';
CREATE AGGREGATE an_aggregate(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
CREATE FUNCTION a_set(e jsonb) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION a_table(e jsonb) RETURNS TABLE (a int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION no_argument() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION two_arguments(e jsonb, b int DEFAULT 1) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION other_row(e marked) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION any_row(e anyelement) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION a_record(e record) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION plain_json(e json) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION pg_temp.temporary(e jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT register(handler => 'a_procedure(jsonb)');
SELECT register(handler => 'an_aggregate(jsonb)');
SELECT register(handler => 'ntile(int)');
SELECT register(handler => 'a_set(jsonb)');
SELECT register(handler => 'a_table(jsonb)');
SELECT register(handler => 'no_argument()');
SELECT register(handler => 'two_arguments(jsonb, int)');
SELECT register(handler => 'other_row(marked)');
SELECT register(handler => 'any_row(anyelement)');
SELECT register(handler => 'a_record(record)');
SELECT register(handler => 'plain_json(json)');
SELECT regexp_replace(register(handler => 'pg_temp.temporary(jsonb)'), 'pg_temp_\d+\.', '');
-- Where it is in no search path, the hint says where the table is.
SET search_path = public;
SELECT bad_test.try($$SELECT dbopt_register_handler('h', '*', 'bad_test.no_argument()', events => 'bad_test.fitting')$$);
SET search_path = bad_test, public;

-- ... rights
CREATE FUNCTION others(e jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
REVOKE EXECUTE ON FUNCTION others(jsonb) FROM PUBLIC;
ALTER FUNCTION on_json(jsonb) OWNER TO bad_test_user;
-- A superuser does not run what somebody else can change.
SELECT register();
SELECT register(more => $$run_as => 'bad_test_super'$$);
SELECT register(handler => 'others(jsonb)', more => $$run_as => 'bad_test_user'$$);
SELECT register(handler => 'on_json(jsonb)', more => $$run_as => 'bad_test_user'$$);
SELECT register(more => $$run_as => 'bad_test_group'$$) = CASE WHEN current_setting('server_version_num')::int < 170000
	THEN '55000: role "bad_test_group" is not permitted to log in / Run ALTER ROLE bad_test_group LOGIN; it needs no password.'
	ELSE '42501: permission denied for table "fitting" / Run GRANT SELECT ON fitting TO bad_test_group.' END;
SET ROLE bad_test_user;
SELECT register(handler => 'others(jsonb)', events => 'fitting');
SELECT register(more => $$run_as => 'bad_test_super'$$);
SELECT register(more => $$run_as => 'postgres'$$);
SELECT register();
RESET ROLE;
GRANT SELECT ON fitting, marked TO bad_test_user;
SET ROLE bad_test_user;
SELECT register(events => 'marked');
RESET ROLE;
SELECT current_database() AS db \gset
REVOKE CONNECT ON DATABASE :"db" FROM PUBLIC;
SET ROLE bad_test_user;
SELECT register();
RESET ROLE;
GRANT CONNECT ON DATABASE :"db" TO PUBLIC;
ALTER TABLE fitting ENABLE ROW LEVEL SECURITY;
CREATE POLICY late ON fitting USING (id > 5);
SET ROLE bad_test_user;
SELECT register();
RESET ROLE;
ALTER TABLE fitting DISABLE ROW LEVEL SECURITY;
SELECT * FROM traces();

-- ... names and patterns that are taken
SET ROLE bad_test_user;
SELECT register();
SELECT register();
RESET ROLE;
SELECT register(name => 'h2');
ALTER FUNCTION on_json(jsonb) OWNER TO CURRENT_USER;
SELECT register(name => 'h2');
SELECT register(name => 'm', event_type => 'A.*', events => 'marked');
SELECT register(name => 'm2', event_type => 'A.*', events => 'marked');
SELECT register(name => 'm2', event_type => 'A.B', events => 'marked');
SELECT register(name => 'm2', event_type => 'A.*', events => 'marked', more => 'replace => true');
-- Somebody else's handler is not replaced.
SELECT register(name => 'mine', handler => 'others(jsonb)');
SET ROLE bad_test_user;
SELECT register(name => 'mine', more => 'replace => true');
RESET ROLE;
SELECT * FROM traces();

-- The others
SELECT try($$SELECT dbopt_unregister_handler('no such')$$);
SELECT try($$SELECT dbopt_unregister_handler(NULL)$$);
SELECT try($$SELECT dbopt_pause_handler('no such')$$);
SELECT try($$SELECT dbopt_pause_handler(NULL)$$);
SELECT try($$SELECT dbopt_resume_handler('no such')$$);
SELECT try($$SELECT dbopt_resume_handler(NULL)$$);
SELECT try($$SELECT dbopt_replay('no such', now())$$);
SELECT try($$SELECT dbopt_replay(NULL, now())$$);
SELECT try($$SELECT dbopt_replay('h', NULL)$$);
SELECT try($$SELECT dbopt_replay('h', now())$$);
SELECT try($$SELECT dbopt_replay('m', now())$$);
SELECT try($$SELECT dbopt_drain(NULL)$$);
SELECT try($$INSERT INTO fitting VALUES (1, 'A')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT try($$SELECT dbopt_drain('1 s')$$);
SELECT try($$SELECT dbopt_unregister_handler('h')$$);
COMMIT;
BEGIN;
INSERT INTO fitting VALUES (2, 'A');
SELECT try($$SELECT dbopt_drain('1 s')$$);
ROLLBACK;
BEGIN;
SELECT dbopt_pause_handler('h');
SELECT try($$SELECT dbopt_drain('1 s')$$);
ROLLBACK;
SELECT try($$SELECT dbopt_drain('1 s')$$);
SELECT try($$CREATE TRIGGER t BEFORE INSERT ON taken FOR EACH ROW EXECUTE FUNCTION dbopt_stamp('1')$$);
SELECT try($$INSERT INTO taken VALUES (1)$$);
SELECT try($$SELECT dbopt_truncated()$$);
SELECT * FROM traces();

-- What dbopt raises is in the comment of the function; where an argument names
-- nothing that there is, PostgreSQL says so.
SELECT DISTINCT function, code FROM raised
 WHERE function IS NOT NULL AND code NOT IN ('42P01', '42883')
   AND NOT EXISTS (SELECT FROM pg_proc
					WHERE proname = function AND (prorettype = 'trigger'::regtype OR obj_description(oid, 'pg_proc') LIKE '%' || code || '%'))
 ORDER BY 1, 2;
SELECT count(DISTINCT function) > 8 AND count(DISTINCT code) > 15 FROM raised;

SET client_min_messages = warning;
SELECT dbopt_drain();
DROP EXTENSION dbopt CASCADE;
DROP SCHEMA bad_test CASCADE;
DROP FOREIGN DATA WRAPPER bad_test_wrapper CASCADE;
DROP OWNED BY bad_test_user;
DROP ROLE bad_test_user, bad_test_group, bad_test_super;
