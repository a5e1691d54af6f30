-- Indexes: what is declared, what it becomes in the tables that there are, and
-- what is refused.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt, pg_trgm CASCADE;
DROP SCHEMA IF EXISTS indexes CASCADE;
RESET client_min_messages;
CREATE SCHEMA indexes;
SET search_path = indexes, public;

-- The tables as an application may have them: some complete, one without a
-- column, one with other types, one partitioned; one is not there.
CREATE TYPE account_status AS ENUM ('active', 'blocked');
CREATE TABLE organizations (
	id uuid PRIMARY KEY, name text NOT NULL, domain text, status text NOT NULL,
	created_at timestamptz NOT NULL, deleted_at timestamptz, extra int);
CREATE TABLE users (
	id bigint PRIMARY KEY, email varchar(200), first_name varchar(50), status account_status,
	role text, last_login_at timestamptz);
CREATE TABLE events (
	id uuid, event_type text, aggregate_type text, aggregate_id uuid, aggregate_version bigint,
	organization_id uuid, user_id uuid, correlation_id text, event_timestamp timestamptz NOT NULL,
	PRIMARY KEY (id, event_timestamp)) PARTITION BY RANGE (event_timestamp);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE TABLE api_keys (id int, name text, user_id int, is_active boolean, expires_at date, last_used_at timestamptz);
INSERT INTO organizations
SELECT gen_random_uuid(), 'Organization ' || i, 'org' || i || '.example', 'active', '2025-01-01', NULL, i
  FROM generate_series(1, 100) i;

-- A name that is taken, an index of another shape, and one left half built.
CREATE TABLE idx_api_keys_expires ();
CREATE INDEX idx_users_status_role ON users (role);
CREATE INDEX idx_organizations_domain ON organizations (domain) WHERE domain IS NOT NULL;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_organizations_domain'::regclass;

-- What is left to the pool is seen as it is queued, and taken back.
BEGIN;
CREATE EXTENSION dbopt SCHEMA indexes CASCADE;
SELECT name, table_name, status, reason FROM dbopt_index_status();
SELECT indexname, regexp_replace(indexdef, '.* USING ', '') AS definition FROM pg_indexes
 WHERE schemaname = 'indexes' AND indexname LIKE 'idx\_%' ORDER BY indexname;

SELECT name, state FROM dbopt_index_state WHERE NOT built;
DELETE FROM dbopt_index_state WHERE state = 'queued';

-- Sizes and scans come with those that exist; progress with a build.
SELECT count(*), bool_and(size_bytes > 0), bool_and(scans IS NOT NULL), count(progress), count(last_error)
  FROM dbopt_index_status() WHERE status = 'valid';
COMMIT;
SELECT name, status, reason FROM dbopt_index_status() WHERE status NOT IN ('valid', 'inapplicable');

-- The indexes are the tables', not the extension's.
SELECT count(*) FROM pg_depend
 WHERE deptype = 'e' AND objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'organizations'::regclass);

-- Own rows.  Whatever CREATE INDEX takes can be declared.
CREATE TABLE "My Table" ("Key" int, body text, area box, tags text[]);
CREATE INDEX "select" ON "My Table" ("Key");
INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES
	('select', '"My Table"', '("Key")', false),
	('my_unique', 'indexes."My Table"', '("Key" DESC NULLS LAST, body COLLATE "C") NULLS NOT DISTINCT WITH (fillfactor = 70)', true),
	('my_gist', '"My Table"', 'USING gist (area)', false),
	('my_gin', '"My Table"', 'USING gin (tags, to_tsvector(''simple'', body))', false),
	('my_brin', '"My Table"', 'USING brin ("Key") WITH (pages_per_range = 4) -- a comment', false),
	('my_expression', '"My Table"', '((body || '';'')) WHERE "Key" > 0 AND NOT "Key" = 7;', false);
SELECT name, status, reason FROM dbopt_index_status() WHERE table_name ~ 'My Table';

-- Each difference is seen.
CREATE FUNCTION compare(is_unique boolean, declared text, existing text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM dbopt_index WHERE name = 'compared';
	EXECUTE 'DROP INDEX IF EXISTS compared';
	EXECUTE 'CREATE ' || CASE WHEN existing ~ '^UNIQUE' THEN 'UNIQUE ' ELSE '' END ||
		'INDEX compared ON "My Table" ' || replace(existing, 'UNIQUE', '');
	INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('compared', '"My Table"', declared, is_unique);
	RETURN (SELECT status || coalesce(': ' || reason, '') FROM dbopt_index_status() WHERE name = 'compared');
END $$;
SET client_min_messages = warning;
SELECT compare(false, '("Key")', '("Key")');
SELECT compare(false, '("Key")', 'USING hash ("Key")');
SELECT compare(false, '("Key")', 'UNIQUE ("Key")');
SELECT compare(true, '("Key")', '("Key")');
SELECT compare(true, '("Key")', 'UNIQUE ("Key") NULLS NOT DISTINCT');
SELECT compare(false, '("Key")', '(body)');
SELECT compare(false, '("Key")', '("Key", body)');
SELECT compare(false, '("Key") INCLUDE (body)', '("Key") INCLUDE (tags)');
SELECT compare(false, '("Key") INCLUDE (body)', '("Key", body)');
SELECT compare(false, '("Key" DESC)', '("Key")');
SELECT compare(false, '("Key" DESC)', '("Key" DESC NULLS LAST)');
SELECT compare(false, '(body)', '(body COLLATE "C")');
SELECT compare(false, '(body)', '(body text_pattern_ops)');
SELECT compare(false, 'USING gist (body gist_trgm_ops(siglen=32))', 'USING gist (body gist_trgm_ops(siglen=64))');
SELECT compare(false, 'USING gist (body gist_trgm_ops(siglen=32))', 'USING gist (body gist_trgm_ops)');
SELECT compare(false, 'USING gist (body gist_trgm_ops(siglen=32))', 'USING gist (body gist_trgm_ops(siglen=32))');
SELECT compare(false, '((body))', '(body)');
SELECT compare(false, '(lower(body))', '(upper(body))');
SELECT compare(false, '(lower(body))', '(lower(body))');
SELECT compare(false, '("Key") WHERE body IS NULL', '("Key")');
SELECT compare(false, '("Key") WHERE body = ''a'' OR body = ''b''', '("Key") WHERE body = ''a'' OR body = ''b''');
SELECT compare(false, '("Key") WHERE "Key" > 1 + 1', '("Key") WHERE "Key" > 2');
SELECT compare(false, '("Key") WHERE "Key" > 3', '("Key") WHERE "Key" > 2');
SELECT compare(false, '("Key") WITH (fillfactor = 70)', '("Key")');
DELETE FROM dbopt_index WHERE name = 'compared';
RESET client_min_messages;

-- What is refused, with the parser's words and the place in the definition.
\set VERBOSITY default
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '(name');
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '(name text_ops text_ops)');
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '(name) WHERE name = ''x');
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '');
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '(name); DROP TABLE organizations');
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '.users (email)');
INSERT INTO dbopt_index VALUES ('bad', 'organizations', '(name) ; (name)');
INSERT INTO dbopt_index (name, table_name, definition, alternatives) VALUES ('bad', 'organizations', '(name)', '{(x}');
SET standard_conforming_strings = off;
SET escape_string_warning = off;
INSERT INTO dbopt_index VALUES ('backslash', 'organizations', $$(name) WHERE name <> '\'$$);
RESET standard_conforming_strings;
RESET escape_string_warning;
SELECT status FROM dbopt_index_status() WHERE name = 'backslash';

INSERT INTO dbopt_index VALUES ('', 'organizations', '(name)');
INSERT INTO dbopt_index VALUES (repeat('n', 64), 'organizations', '(name)');
INSERT INTO dbopt_index VALUES ('dbopt_mine', 'organizations', '(name)');
INSERT INTO dbopt_index VALUES ('pg_mine', 'organizations', '(name)');
INSERT INTO dbopt_index VALUES ('mine_ccnew', 'organizations', '(name)');
INSERT INTO dbopt_index VALUES ('mine_ccold12', 'organizations', '(name)');
INSERT INTO dbopt_index VALUES ('bad', '', '(name)');
INSERT INTO dbopt_index VALUES ('bad', 'organizations; DROP TABLE users', '(name)');
INSERT INTO dbopt_index VALUES ('bad', 'a.b.c', '(name)');
INSERT INTO dbopt_index VALUES ('bad', repeat('t', 64), '(name)');
INSERT INTO dbopt_index VALUES ('bad', '"unfinished', '(name)');
INSERT INTO dbopt_index VALUES ('bad', 'pg_catalog.pg_class', '(relname)');
CREATE VIEW a_view AS SELECT 1 AS a;
CREATE TEMP TABLE a_temporary_table (a int);
SELECT nspname AS temporary FROM pg_namespace WHERE oid = pg_my_temp_schema() \gset
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE a_foreign_table (a int) SERVER nowhere;
CREATE MATERIALIZED VIEW a_materialized_view AS SELECT 1 AS a;
INSERT INTO dbopt_index VALUES ('bad', 'a_view', '(a)');
INSERT INTO dbopt_index VALUES ('bad', :'temporary' || '.a_temporary_table', '(a)');
INSERT INTO dbopt_index VALUES ('bad', 'a_foreign_table', '(a)');
INSERT INTO dbopt_index VALUES ('bad', 'idx_users_status_role', '(a)');
INSERT INTO dbopt_index VALUES ('good', 'a_materialized_view', '(a)');

-- What is not there at present may come.
INSERT INTO dbopt_index VALUES ('no_column', 'organizations', '(colour)');
INSERT INTO dbopt_index VALUES ('no_opclass', 'organizations', '(name no_ops)');
INSERT INTO dbopt_index VALUES ('no_function', 'organizations', '(no_function(name))');
INSERT INTO dbopt_index VALUES ('no_method', 'organizations', 'USING nothing (name)');
INSERT INTO dbopt_index VALUES ('aggregate', 'organizations', '(max(name))');
INSERT INTO dbopt_index VALUES ('subquery', 'organizations', '((SELECT 1))');
INSERT INTO dbopt_index VALUES ('no_include', 'organizations', '(name) INCLUDE (lower(name))');
INSERT INTO dbopt_index VALUES ('no_table', 'no_table', '(name)');
INSERT INTO dbopt_index VALUES ('no_order', 'organizations', 'USING gin (name gin_trgm_ops DESC)');
INSERT INTO dbopt_index VALUES ('no_nulls', 'organizations', 'USING hash (name NULLS FIRST)');
INSERT INTO dbopt_index VALUES ('no_second', 'organizations', 'USING hash (name, domain)');
INSERT INTO dbopt_index VALUES ('no_included', 'organizations', 'USING hash (name) INCLUDE (domain)');
INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('no_unique', 'organizations', 'USING hash (name)', true);
INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES ('no_partition_key', 'events', '(id)', true);
INSERT INTO dbopt_index VALUES ('no_immutable', 'organizations', '(age(created_at))');
INSERT INTO dbopt_index VALUES ('no_immutable_where', 'organizations', '(name) WHERE created_at > now() - interval ''1 month''');
INSERT INTO dbopt_index VALUES ('no_parameter', 'organizations', '(name) WITH (fillfactor = 5)');
INSERT INTO dbopt_index VALUES ('no_such_parameter', 'organizations', '(name) WITH (colour = red)');
INSERT INTO dbopt_index VALUES ('no_system', 'organizations', '(ctid)');
INSERT INTO dbopt_index VALUES ('no_system_expression', 'organizations', '((name || tableoid::text))');
INSERT INTO dbopt_index VALUES ('no_system_where', 'organizations', '(name) WHERE xmin::text > ''1''');
INSERT INTO dbopt_index VALUES ('no_collation', 'organizations', '(extra COLLATE "C")');
CREATE TABLE collated (a text COLLATE "C", b text COLLATE "POSIX");
INSERT INTO dbopt_index VALUES ('no_one_collation', 'collated', '((a || b))');
INSERT INTO dbopt_index VALUES ('no_included_collation', 'organizations', '(name) INCLUDE (domain COLLATE "C")');
INSERT INTO dbopt_index VALUES ('no_included_opclass', 'organizations', '(name) INCLUDE (domain text_ops)');
INSERT INTO dbopt_index VALUES ('no_included_order', 'organizations', '(name) INCLUDE (domain DESC)');
INSERT INTO dbopt_index VALUES ('no_included_nulls', 'organizations', '(name) INCLUDE (domain NULLS FIRST)');
INSERT INTO dbopt_index VALUES ('no_opclass_parameter', 'organizations', '(name text_ops(siglen = 4))');
INSERT INTO dbopt_index VALUES ('no_such_opclass_parameter', 'organizations', 'USING gist (name gist_trgm_ops(colour = 1))');
INSERT INTO dbopt_index VALUES ('no_opclass_parameter_so_small', 'organizations', 'USING gist (name gist_trgm_ops(siglen = 0))');
INSERT INTO dbopt_index VALUES ('no_record', 'organizations', '((ROW(name, domain)))');
INSERT INTO dbopt_index VALUES ('no_default_opclass', 'organizations', '((to_json(name)))');
INSERT INTO dbopt_index SELECT 'no_room', 'organizations', '(' || repeat('name, ', 32) || 'name)';
SELECT name, status, reason FROM dbopt_index_status() WHERE name ~ '^(no_|aggregate|subquery|good)';
ALTER TABLE organizations ADD COLUMN colour text;
SELECT status FROM dbopt_index_status() WHERE name = 'no_column';
SELECT count(*) FROM dbopt_estimate_indexes() WHERE name = 'no_immutable';
DELETE FROM dbopt_index WHERE name ~ '^(no_|aggregate|subquery|good|backslash)';

-- An injection through a name is a name.
CREATE TABLE "x (a); DROP TABLE users; --" (a int);
INSERT INTO dbopt_index VALUES ('"; DROP TABLE users; --', '"x (a); DROP TABLE users; --"', '(a)');
SELECT status, to_regclass('users') AS still_there FROM dbopt_index_status() WHERE table_name ~ 'DROP';

-- A name that an index of another table has.
CREATE TABLE elsewhere (a int);
CREATE INDEX of_elsewhere ON elsewhere (a);
INSERT INTO dbopt_index VALUES ('of_elsewhere', 'organizations', '(name)');
SELECT status, reason FROM dbopt_index_status() WHERE name = 'of_elsewhere';
DROP INDEX of_elsewhere;
SELECT status FROM dbopt_index_status() WHERE name = 'of_elsewhere';
DELETE FROM dbopt_index WHERE name = 'of_elsewhere';

-- A constant runs functions of whoever made its type, and nobody else's rights.
CREATE ROLE index_springer;
GRANT USAGE, CREATE ON SCHEMA indexes TO index_springer;
GRANT INSERT ON dbopt_index TO index_springer;
SET ROLE index_springer;
CREATE TABLE sprung (a int);
CREATE FUNCTION spring(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'index_springer' THEN RAISE WARNING 'running as %', current_user; END IF;
	RETURN true;
END $$;
CREATE DOMAIN spring_domain AS text CHECK (indexes.spring(VALUE));
CREATE TYPE spring_type AS (x spring_domain);
INSERT INTO dbopt_index VALUES ('sprung_a', 'sprung', $$(a) WHERE '(x)'::indexes.spring_type IS NOT NULL$$);
RESET ROLE;
SELECT count(*) FROM dbopt_index_status() WHERE name = 'sprung_a' AND status = 'missing';
CALL dbopt_ensure_indexes('sprung');
SELECT status FROM dbopt_index_status() WHERE name = 'sprung_a';
DELETE FROM dbopt_index WHERE name = 'sprung_a';
DROP OWNED BY index_springer;
DROP ROLE index_springer;

-- Shipped rows can be edited, not deleted.
DELETE FROM dbopt_index WHERE name = 'idx_users_email_lower';
UPDATE dbopt_index SET name = 'mine' WHERE name = 'idx_users_email_lower';
TRUNCATE dbopt_index;
UPDATE dbopt_index SET enabled = false WHERE name = 'idx_users_email_lower'
	RETURNING enabled, shipped, edited;
SELECT status, reason FROM dbopt_index_status() WHERE name = 'idx_users_email_lower';
INSERT INTO dbopt_index (name, table_name, definition, shipped) VALUES ('pretender', 'users', '(id)', true)
	RETURNING shipped, edited;

-- Who declares an index for a table must own it, then and later.
CREATE ROLE index_author;
CREATE ROLE index_other;
GRANT USAGE, CREATE ON SCHEMA indexes TO index_author;
GRANT SELECT, INSERT, UPDATE, DELETE ON dbopt_index TO index_author;
SET ROLE index_author;
CREATE TABLE authors_table (a int);
INSERT INTO dbopt_index VALUES ('stolen', 'users', '(id)');
INSERT INTO dbopt_index (name, table_name, definition, author) VALUES ('authors', 'authors_table', '(a)', NULL),
	('not_born', 'unborn', '(a)', 'index_other') RETURNING author;
UPDATE dbopt_index SET definition = '(name)' WHERE name = 'idx_organizations_domain';
RESET ROLE;
SELECT author_oid = 'index_author'::regrole AS is_author FROM dbopt_index WHERE name = 'authors';
CREATE TABLE unborn (a int);
SELECT name, status, reason FROM dbopt_index_status() WHERE name IN ('authors', 'not_born');
ALTER TABLE authors_table OWNER TO index_other;
ALTER TABLE unborn OWNER TO index_author;
SELECT name, status, reason FROM dbopt_index_status() WHERE name IN ('authors', 'not_born');
-- What a superuser has built for him is what he might build himself.
SET client_min_messages = warning;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE index_space LOCATION '';
RESET client_min_messages;
CREATE TABLE placed (a int);
ALTER TABLE placed OWNER TO index_author;
SET ROLE index_author;
INSERT INTO dbopt_index VALUES ('placed_here', 'placed', '(a) TABLESPACE index_space'),
	('placed_nowhere', 'placed', '(a) TABLESPACE index_nowhere');
RESET ROLE;
SELECT name, status, reason FROM dbopt_index_status() WHERE name ~ '^placed';
GRANT CREATE ON TABLESPACE index_space TO index_author;
SELECT name, status, reason FROM dbopt_index_status() WHERE name = 'placed_here';
REVOKE CREATE ON SCHEMA indexes FROM index_author;
SELECT name, status, reason FROM dbopt_index_status() WHERE name = 'placed_here';
GRANT CREATE ON SCHEMA indexes TO index_author;
DELETE FROM dbopt_index WHERE name ~ '^placed';
DROP TABLE placed;
DROP OWNED BY index_author, index_other;
DROP ROLE index_author, index_other;
DROP TABLESPACE index_space;
CREATE TABLE authors_table (a int);
SELECT name, status, reason FROM dbopt_index_status() WHERE name = 'authors';

-- Analysis runs nobody's functions as whoever asks for the status.
CREATE ROLE index_trap;
GRANT CREATE, USAGE ON SCHEMA indexes TO index_trap;
SET ROLE index_trap;
CREATE TABLE trap (a text, b int);
CREATE FUNCTION who(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN RAISE NOTICE 'running as %', current_user; RETURN true; END $$;
CREATE FUNCTION trap(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT CASE WHEN indexes.who(1) THEN $1 ELSE 0 END';
CREATE INDEX springs ON trap (b);
RESET ROLE;
INSERT INTO dbopt_index VALUES ('springs', 'trap', '(indexes.trap(b))');
SELECT name, status, reason FROM dbopt_index_status() WHERE name = 'springs';
DELETE FROM dbopt_index WHERE name = 'springs';
DROP OWNED BY index_trap;
DROP ROLE index_trap;

-- DROP EXTENSION leaves the indexes where they are, and says so.
SELECT count(*) AS built FROM dbopt_index_state JOIN pg_class c ON c.oid = index_oid WHERE built;
DROP EXTENSION dbopt;
SELECT count(*) FROM pg_indexes WHERE schemaname = 'indexes' AND indexname LIKE 'idx\_%';
SET client_min_messages = warning;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP TABLE a_temporary_table;
DROP SCHEMA indexes CASCADE;
