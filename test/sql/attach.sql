-- Attaching tables of all fitting shapes, and detaching them.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt CASCADE;
CREATE EXTENSION dbopt CASCADE;
SELECT dbopt_pause();
CREATE SCHEMA attach_test;
SET search_path = attach_test, public;
RESET client_min_messages;

-- Keys of every type; rows that were there before are at position 0.
CREATE TABLE by_uuid (id uuid PRIMARY KEY, event_type text);
CREATE TABLE by_bigint (n bigint PRIMARY KEY, event_type text NOT NULL, processed boolean);
CREATE TABLE by_int (nr int PRIMARY KEY, event_type varchar(50));
CREATE TABLE by_text (k text PRIMARY KEY, event_type varchar);
CREATE TABLE by_varchar ("The ""Key" varchar(20) PRIMARY KEY, event_type text, processed text);
INSERT INTO by_bigint VALUES (1, 'OLD');
SELECT dbopt_attach_events('by_uuid');
SELECT dbopt_attach_events('by_bigint');
SELECT dbopt_attach_events('by_int', 'nr');
SELECT dbopt_attach_events('by_text');
SELECT dbopt_attach_events('by_varchar');
SELECT * FROM dbopt_sources ORDER BY events COLLATE "C";
SELECT indexdef FROM pg_indexes
 WHERE schemaname = 'attach_test' AND indexname LIKE 'idx\_events\_log%'
 ORDER BY tablename COLLATE "C";
-- Every trigger fires always; the columns are in the order the engine counts on.
SELECT tgrelid::regclass AS events, tgname, tgenabled,
	(SELECT string_agg(attname, ', ' ORDER BY place)
	   FROM unnest(tgattr::int2[]) WITH ORDINALITY AS c(number, place)
	   JOIN pg_attribute ON attrelid = tgrelid AND attnum = number) AS columns
  FROM pg_trigger WHERE tgname IN ('dbopt_stamp', 'dbopt_truncated') ORDER BY 1, 2;
INSERT INTO by_bigint VALUES (2, 'NEW');
SELECT n, log_position > 0 AS stamped FROM by_bigint ORDER BY n;
-- A stamp is not to be had by writing one.
INSERT INTO by_bigint (n, event_type, log_position) VALUES (3, 'NEW', 1000000000000);
UPDATE by_bigint SET log_position = 1000000000000 WHERE n = 2;
SELECT n, log_position < 1000000000000 AS ours FROM by_bigint WHERE n > 1 ORDER BY n;

-- Partitioned by time, with a composite key.
CREATE TABLE parts (id uuid NOT NULL DEFAULT dbopt_uuid_v7(), event_type text, at timestamptz NOT NULL,
	PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
INSERT INTO parts (event_type, at) VALUES ('A', '2020-06-01');
SELECT dbopt_attach_events('parts', 'id');
-- A partition made later, and one attached later, with its columns in another order.
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE TABLE parts_3 (at timestamptz NOT NULL, log_position bigint NOT NULL DEFAULT 0, event_type text, id uuid NOT NULL);
ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');
INSERT INTO parts (event_type, at) VALUES ('A', '2020-06-02'), ('A', '2021-06-02'), ('A', '2022-06-02');
SELECT tableoid::regclass, log_position > 0 AS stamped FROM parts ORDER BY at;
SELECT tgrelid::regclass, tgenabled FROM pg_trigger WHERE tgname = 'dbopt_stamp' AND tgrelid::regclass::text LIKE 'parts%' ORDER BY 1;
SELECT tablename, indexdef ~ 'event_type COLLATE "C", log_position, id' AS log_index
  FROM pg_indexes WHERE tablename LIKE 'parts%' AND indexdef ~ 'log_position' ORDER BY 1;
-- The same key twice is not an event's identity.
CREATE TABLE twice (LIKE parts INCLUDING DEFAULTS, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
ALTER TABLE twice DROP COLUMN log_position;
CREATE TABLE twice_1 PARTITION OF twice DEFAULT;
INSERT INTO twice VALUES ('00000000-0000-0000-0000-000000000001', 'A', '2020-01-01'),
	('00000000-0000-0000-0000-000000000001', 'A', '2020-01-02');
SELECT dbopt_attach_events('twice', 'id');

-- A table that is not small: the index is left to be built, by us here, since
-- the pool builds none in a database that is paused.
SET dbopt.index_inline_pages = 0;
CREATE TABLE large (id bigint PRIMARY KEY, event_type text);
INSERT INTO large SELECT n, 'A' FROM generate_series(1, 1000) n;
SELECT dbopt_attach_events('large');
SELECT state, reason FROM dbopt_sources WHERE events = 'attach_test.large';
CREATE INDEX CONCURRENTLY ON attach_test.large (event_type COLLATE pg_catalog."C", log_position, id);
BEGIN;
SELECT dbopt_resume();
SELECT dbopt_pause();
COMMIT;
SELECT state, reason FROM dbopt_sources WHERE events = 'attach_test.large';
-- The same with partitions: those made later follow.
CREATE TABLE large_parts (id bigint NOT NULL, event_type text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE large_1 PARTITION OF large_parts FOR VALUES FROM (0) TO (1000);
CREATE TABLE large_2 PARTITION OF large_parts FOR VALUES FROM (1000) TO (2000);
INSERT INTO large_parts SELECT n, 'A' FROM generate_series(1, 1500) n;
SELECT dbopt_attach_events('large_parts');
CREATE TABLE large_3 PARTITION OF large_parts FOR VALUES FROM (2000) TO (3000);
CREATE INDEX CONCURRENTLY ON attach_test.large_1 (event_type COLLATE pg_catalog."C", log_position, id);
BEGIN;
SELECT dbopt_resume();
SELECT dbopt_pause();
COMMIT;
SELECT state, reason FROM dbopt_sources WHERE events = 'attach_test.large_parts';
CREATE INDEX CONCURRENTLY ON attach_test.large_2 (event_type COLLATE pg_catalog."C", log_position, id);
BEGIN;
SELECT dbopt_resume();
SELECT dbopt_pause();
COMMIT;
SELECT state, reason FROM dbopt_sources WHERE events = 'attach_test.large_parts';
ALTER INDEX attach_test.idx_events_log6 ATTACH PARTITION attach_test.large_1_event_type_log_position_id_idx;
ALTER INDEX attach_test.idx_events_log6 ATTACH PARTITION attach_test.large_2_event_type_log_position_id_idx;
BEGIN;
SELECT dbopt_resume();
SELECT dbopt_pause();
COMMIT;
SELECT state, reason FROM dbopt_sources WHERE events = 'attach_test.large_parts';
RESET dbopt.index_inline_pages;

-- What becomes of a table is noticed: renamed, broken, mended, dropped.
ALTER TABLE by_int RENAME TO renamed;
ALTER TABLE renamed RENAME nr TO number;
ALTER TABLE by_text DISABLE TRIGGER dbopt_stamp;
ALTER TABLE by_uuid FORCE ROW LEVEL SECURITY;
DROP TABLE large;
SELECT dbopt_resume();
SELECT dbopt_pause();
SELECT events, key_column, state, reason FROM dbopt_sources
 WHERE events ~ 'renamed|by_text|by_uuid|by_int|large$' ORDER BY events COLLATE "C";
ALTER TABLE by_text ENABLE ALWAYS TRIGGER dbopt_stamp;
ALTER TABLE by_uuid NO FORCE ROW LEVEL SECURITY;
SELECT dbopt_resume();
SELECT dbopt_pause();
SELECT events, state, reason FROM dbopt_sources WHERE state <> 'ready';

-- TRUNCATE forgets what waited.
CREATE FUNCTION handle(e by_bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dbopt_register_handler('truncated', '*', 'handle(by_bigint)', 'by_bigint');
INSERT INTO dbopt_retry_queue
SELECT handler_id, 5, '1', 'OLD', 1, now(), now(), now(), NULL, NULL FROM dbopt_handler;
INSERT INTO dbopt_dead_letter
SELECT handler_id, 6, '2', 'OLD', 1, NULL, NULL, now(), now() FROM dbopt_handler;
BEGIN;
TRUNCATE by_bigint;
SELECT (SELECT count(*) FROM dbopt_retry_queue) AS retries, (SELECT count(*) FROM dbopt_dead_letter) AS dead;
ROLLBACK;
SELECT (SELECT count(*) FROM dbopt_retry_queue) AS retries, (SELECT count(*) FROM dbopt_dead_letter) AS dead;
TRUNCATE by_bigint;
SELECT (SELECT count(*) FROM dbopt_retry_queue) AS retries, (SELECT count(*) FROM dbopt_dead_letter) AS dead;
-- The same trigger on a table of somebody's own forgets nothing.
CREATE TABLE foreign_to_us (a int);
CREATE TRIGGER t AFTER TRUNCATE ON foreign_to_us EXECUTE FUNCTION dbopt_truncated('1');
TRUNCATE foreign_to_us;

-- Detaching: not while handlers count on it; the column stays.
SELECT dbopt_detach_events('by_bigint');
SELECT dbopt_unregister_handler('truncated');
SELECT dbopt_detach_events('by_bigint');
\d by_bigint
INSERT INTO by_bigint VALUES (9, 'LATER');
SELECT log_position FROM by_bigint;
SELECT dbopt_attach_events('by_bigint');
SELECT dbopt_detach_events('parts');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dbopt%' AND tgrelid::regclass::text LIKE 'parts%';
SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'parts%' AND indexdef ~ 'log_position';
-- Values of another cluster are not positions here.
SELECT dbopt_detach_events('by_bigint');
UPDATE by_bigint SET log_position = 1000000000000;
SELECT dbopt_attach_events('by_bigint');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'dbopt%' AND tgrelid = 'by_bigint'::regclass;

-- The settings of the caller are as before.
SHOW search_path;
SHOW lock_timeout;

SET client_min_messages = warning;
SELECT dbopt_drain();
DROP EXTENSION dbopt CASCADE;
DROP SCHEMA attach_test CASCADE;
