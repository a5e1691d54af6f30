-- Registering handlers, changing and removing them.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt CASCADE;
CREATE EXTENSION dbopt CASCADE;
CREATE SCHEMA handlers_test;
SET search_path = handlers_test, public;
SELECT dbopt_create_events();
SELECT dbopt_pause();
RESET client_min_messages;

-- One row, a batch of rows, or the row as JSON.
CREATE FUNCTION on_row(e events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION on_batch(e events[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION on_batch_variadic(VARIADIC e events[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "on JSON; --"(e jsonb) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';
SELECT dbopt_register_handler('row', 'USER.CREATED', 'on_row(events)');
SELECT dbopt_register_handler('batch', 'USER.*', 'on_batch(events[])', max_concurrency => 3, chunk_size => 10,
	timeout => '1 min', priority => -5, policy => 'transaction');
SELECT dbopt_register_handler('variadic', 'V.*', 'on_batch_variadic(events[])', ordered => true);
SELECT dbopt_register_handler('json ä "quoted"', '*', '"on JSON; --"(jsonb)', start_from => 'now');
SELECT name, event_type, handler, events, role, state, reason, policy, priority, paused, max_concurrency,
	chunk_size, timeout, ordered FROM dbopt_handlers ORDER BY name COLLATE "C";
SELECT name, argument_kind, start_position, start_holes FROM dbopt_handler
 WHERE name <> 'json ä "quoted"' ORDER BY name COLLATE "C";

-- "now": what has committed is not for it; what runs is, ourselves included.
SELECT dbopt_create_events('log', false);
CREATE FUNCTION on_log(e log) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
BEGIN;
INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
VALUES ('A', 'a', '00000000-0000-0000-0000-000000000001', '{}');
SELECT dbopt_register_handler('log', '*', 'on_log(log)', events => 'log');
SELECT log_position > start_position OR log_position = ANY (start_holes) AS will_be_delivered
  FROM log, dbopt_handler h WHERE h.name = 'log';
COMMIT;
INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
VALUES ('A', 'a', '00000000-0000-0000-0000-000000000001', '{}');
SELECT dbopt_register_handler('log 2', '*', 'on_log(log)', events => 'log');
SELECT count(*) FILTER (WHERE log_position > start_position OR log_position = ANY (start_holes)) AS will_be_delivered
  FROM log, dbopt_handler h WHERE h.name = 'log 2';
SELECT dbopt_register_handler('log 3', '*', 'on_log(log)', events => 'log', start_from => 'beginning');
SELECT start_position, start_holes FROM dbopt_handler WHERE name = 'log 3';

-- replace keeps id, place, and pause.
SELECT handler_id AS id, start_position AS position FROM dbopt_handler WHERE name = 'log' \gset
SELECT dbopt_pause_handler('log');
SELECT dbopt_register_handler('log', 'B.*', '"on JSON; --"(jsonb)', events => 'log', start_from => 'beginning',
	priority => 7, replace => true);
SELECT handler_id = :id AS same_id, start_position = :position AS same_place, event_type, argument_kind,
	priority, paused FROM dbopt_handler WHERE name = 'log';
SELECT dbopt_register_handler('log', 'B.*', '"on JSON; --"(jsonb)', events => 'events', replace => true);
SELECT dbopt_register_handler('new', 'NEW', '"on JSON; --"(jsonb)', events => 'log', replace => true);
SELECT dbopt_register_handler('row', 'USER.*', 'on_row(events)', events => 'events', replace => true);

-- Pausing and resuming.
SELECT dbopt_pause_handler('row');
SELECT paused FROM dbopt_handlers WHERE name = 'row';
SELECT dbopt_resume_handler('row');
SELECT paused FROM dbopt_handlers WHERE name = 'row';
SELECT paused FROM dbopt_database;
SELECT dbopt_resume();
SELECT paused FROM dbopt_database;
SELECT dbopt_pause();

-- Roles.
CREATE ROLE handlers_test_app LOGIN;
CREATE ROLE handlers_test_owner LOGIN;
CREATE ROLE handlers_test_other LOGIN;
GRANT USAGE, CREATE ON SCHEMA handlers_test TO handlers_test_app, handlers_test_owner, handlers_test_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO handlers_test_app, handlers_test_owner, handlers_test_other;
GRANT SELECT ON log TO handlers_test_app;
SET ROLE handlers_test_app;
CREATE FUNCTION on_app(e jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dbopt_register_handler('app', '*', 'on_app(jsonb)', events => 'log');
RESET ROLE;
SELECT role FROM dbopt_handlers WHERE name = 'app';
-- A superuser's handler for somebody else.
SELECT dbopt_register_handler('for app', '*', 'on_app(jsonb)', events => 'log', run_as => 'handlers_test_app');
SELECT role FROM dbopt_handlers WHERE name = 'for app';
-- Who may change it: members of its role, the owner of its table.
SET ROLE handlers_test_other;
SELECT dbopt_pause_handler('app');
SELECT dbopt_resume_handler('app');
SELECT dbopt_replay('app', 'yesterday');
SELECT dbopt_unregister_handler('app');
RESET ROLE;
ALTER TABLE log OWNER TO handlers_test_owner;
SET ROLE handlers_test_owner;
SELECT dbopt_pause_handler('app');
RESET ROLE;
SET ROLE handlers_test_app;
SELECT dbopt_resume_handler('app');
SELECT dbopt_unregister_handler('app');
RESET ROLE;

-- Without EXECUTE nothing goes; the views are the monitors'.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM handlers_test_app;
SET ROLE handlers_test_app;
SELECT dbopt_pause();
SELECT dbopt_unregister_handler('for app');
SELECT count(*) FROM dbopt_handlers;
SELECT * FROM dbopt_handler;
RESET ROLE;
GRANT pg_monitor TO handlers_test_app;
SET ROLE handlers_test_app;
SELECT count(*) > 0 AS handlers FROM dbopt_handlers;
SELECT events, delivered_before IS NOT NULL AS known FROM dbopt_sources ORDER BY events COLLATE "C";
RESET ROLE;

-- Replay: a plain log, from a moment on.
SELECT dbopt_resume();
SELECT dbopt_drain('1 min');
SELECT dbopt_pause();
CREATE VIEW place AS
	SELECT v.* FROM dbopt_cursor_version v JOIN dbopt_cursor USING (cursor_id) JOIN dbopt_handler USING (handler_id)
	 WHERE name = 'log 3';
SELECT last_position >= (SELECT max(log_position) FROM log) AS passed, holes FROM place;
UPDATE log SET created_at = 'yesterday' WHERE log_position = (SELECT min(log_position) FROM log);
SELECT dbopt_replay('log 3', now() - interval '1 hour');
SELECT last_position + 1 = (SELECT max(log_position) FROM log) AS at_second, last_key, holes FROM place;
SELECT dbopt_replay('log 3', '-infinity');
SELECT last_position + 1 = (SELECT min(log_position) FROM log) AS at_first FROM place;
SELECT dbopt_replay('log 3', 'infinity');
SELECT dbopt_replay('row', 'yesterday');
-- What waits from there on comes again by itself, and is not kept twice.
SELECT handler_id AS id3 FROM dbopt_handler WHERE name = 'log 3' \gset
UPDATE dbopt_cursor_version SET last_position = (SELECT max(log_position) FROM log)
 WHERE cursor_id = (SELECT cursor_id FROM place);
INSERT INTO dbopt_retry_queue SELECT :id3, log_position, id, event_type, 1, now(), now(), now(), NULL, NULL FROM log;
INSERT INTO dbopt_dead_letter VALUES (:id3, 1, 'x', 'A', 1, NULL, NULL, now(), now());
SELECT dbopt_replay('log 3', now() - interval '1 hour');
SELECT count(*) FROM dbopt_retry_queue WHERE handler_id = :id3;
SELECT count(*) FROM dbopt_dead_letter WHERE handler_id = :id3;

-- Unregistering: what waits needs to be given up.
SELECT dbopt_unregister_handler('log 3');
DELETE FROM dbopt_retry_queue;
SELECT dbopt_unregister_handler('log 3');
SELECT count(*) FROM dbopt_handlers WHERE name = 'log 3';
SELECT dbopt_unregister_handler('log 3', discard => true);
SELECT count(*) FROM dbopt_handlers WHERE name = 'log 3';
SELECT (SELECT count(*) FROM dbopt_retry_queue) AS retries, (SELECT count(*) FROM dbopt_dead_letter) AS dead,
	(SELECT count(*) FROM dbopt_cursor WHERE handler_id = :id3) AS cursors,
	(SELECT count(*) FROM dbopt_cursor_version WHERE cursor_id NOT IN (SELECT cursor_id FROM dbopt_cursor)) AS versions;
SELECT dbopt_unregister_handler('log 3');

-- What becomes of functions and roles is noticed.
ALTER FUNCTION on_app(jsonb) RENAME TO on_app_renamed;
ALTER ROLE handlers_test_app RENAME TO handlers_test_renamed;
DROP FUNCTION on_row(events);
SELECT dbopt_resume();
SELECT dbopt_pause();
SELECT name, handler, role, state, reason FROM dbopt_handlers
 WHERE name IN ('for app', 'row') ORDER BY name COLLATE "C";
ALTER ROLE handlers_test_renamed RENAME TO handlers_test_app;
-- Another function of the same name is not it.
CREATE FUNCTION on_row(e events) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dbopt_resume_handler('row');
SELECT dbopt_resume();
SELECT dbopt_pause();
SELECT state FROM dbopt_handlers WHERE name = 'row';
SELECT dbopt_register_handler('row', 'USER.CREATED', 'on_row(events)', events => 'events', replace => true);
SELECT state, reason FROM dbopt_handlers WHERE name = 'row';

-- A table that was dropped: its handlers can be removed, and then it is forgotten.
DROP TABLE log CASCADE;
SELECT dbopt_resume();
SELECT dbopt_pause();
SELECT events, state, reason FROM dbopt_sources WHERE events = 'handlers_test.log';
SELECT name, state, reason FROM dbopt_handlers WHERE events = 'handlers_test.log' ORDER BY name COLLATE "C";
SELECT dbopt_unregister_handler(name) FROM dbopt_handlers WHERE events = 'handlers_test.log';
SELECT events, state FROM dbopt_sources;

SET client_min_messages = warning;
SELECT dbopt_drain();
DROP EXTENSION dbopt CASCADE;
DROP SCHEMA handlers_test CASCADE;
DROP OWNED BY handlers_test_app, handlers_test_owner, handlers_test_other;
DROP ROLE handlers_test_app, handlers_test_owner, handlers_test_other;
