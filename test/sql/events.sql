-- Creating event tables, and their keys.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt CASCADE;
CREATE EXTENSION dbopt CASCADE;
SELECT dbopt_pause();
CREATE SCHEMA events_test;
SET search_path = events_test, public;
RESET client_min_messages;

-- RFC 9562, version 7: version, variant, and order within a session.
SELECT bool_and(substr(u::text, 15, 1) = '7') AS version,
	bool_and(substr(u::text, 20, 1) IN ('8', '9', 'a', 'b')) AS variant,
	count(DISTINCT u) AS distinct_values
  FROM (SELECT dbopt_uuid_v7() AS u FROM generate_series(1, 5000)) s;
CREATE TABLE uuids AS SELECT n, dbopt_uuid_v7() AS u FROM generate_series(1, 5000) n;
SELECT count(*) AS out_of_order FROM uuids a JOIN uuids b ON b.n = a.n + 1 WHERE b.u <= a.u;
-- Its first 48 bits are milliseconds since 1970.
SELECT abs(extract(epoch FROM clock_timestamp()) * 1000
	- ('x0000' || translate(left(dbopt_uuid_v7()::text, 13), '-', ''))::bit(64)::bigint) < 60000 AS is_now;

-- The default table.
SELECT dbopt_create_events();
-- From 18 on the server has the function itself.
SELECT column_default IN ('dbopt_uuid_v7()', 'uuidv7()') AS uuid_v7
  FROM information_schema.columns WHERE table_schema = 'events_test' AND table_name = 'events' AND column_name = 'id';
BEGIN;
ALTER TABLE events ALTER id DROP DEFAULT;
\d events
ROLLBACK;
SELECT * FROM dbopt_sources;
INSERT INTO events (event_type, aggregate_type, aggregate_id, data)
VALUES ('USER.CREATED', 'user', '00000000-0000-0000-0000-000000000001', '{}')
RETURNING event_type, aggregate_version, metadata, tags, version, event_timestamp = now() AS at_now,
	created_at = now() AS created_now, processed, retry_count, log_position > 0 AS stamped;
-- It is nobody's but the caller's.
SELECT count(*) AS members FROM pg_depend
 WHERE objid = 'events'::regclass AND deptype = 'e';

-- A plain log has no column processed.
SELECT dbopt_create_events('plain', false);
SELECT count(*) AS marks FROM pg_attribute
 WHERE attrelid = 'plain'::regclass
   AND attname IN ('processed', 'processed_at', 'retry_count', 'error_message');

-- Odd names: read as identifiers.
CREATE SCHEMA "Odd ""Schema";
SELECT dbopt_create_events('"Odd ""Schema"."My Events; DROP TABLE events"');
SELECT dbopt_create_events('Folded');
SELECT dbopt_create_events('"Ereignisse ä"', mark_processed => false);
SELECT events, mark_processed, key_column, state FROM dbopt_sources ORDER BY events COLLATE "C";

-- Created by an ordinary role, for itself.
CREATE ROLE events_test_user;
GRANT EXECUTE ON FUNCTION dbopt_create_events(text, boolean) TO events_test_user;
CREATE SCHEMA own AUTHORIZATION events_test_user;
SET ROLE events_test_user;
SELECT dbopt_create_events('own.events');
SELECT dbopt_create_events('events_test.more');
SELECT * FROM dbopt_sources;
SELECT * FROM dbopt_source;
RESET ROLE;
SELECT relowner::regrole FROM pg_class WHERE oid = 'own.events'::regclass;

-- Nothing is left of what failed, or was rolled back.
SELECT to_regclass('events_test.more');
BEGIN;
SELECT dbopt_create_events('gone');
ROLLBACK;
SELECT to_regclass('gone');
SELECT count(*) FROM dbopt_source WHERE events_name IN ('gone', 'more');

-- Dropping the extension leaves tables and inserts alone.
SET client_min_messages = warning;
SELECT dbopt_drain();
DROP EXTENSION dbopt CASCADE;
INSERT INTO events (id, event_type, aggregate_type, aggregate_id, data)
VALUES (gen_random_uuid(), 'USER.CREATED', 'user', '00000000-0000-0000-0000-000000000001', '{}');
SELECT count(*) FROM events;
-- Installed again, the table is attached again, with the index that is there.
CREATE EXTENSION dbopt;
SELECT dbopt_attach_events('events');
SELECT events, state FROM dbopt_sources;
SELECT count(*) FROM pg_index WHERE indrelid = 'events'::regclass AND indexrelid::regclass::text LIKE 'idx_events_log%';

SELECT dbopt_drain();
DROP EXTENSION dbopt CASCADE;
DROP SCHEMA events_test, "Odd ""Schema", own CASCADE;
DROP ROLE events_test_user;
