-- How far dbopt_rebuilt_bytes() is off, for a table of as many rows as wanted:
--
--		psql -X -v rows=1000000 -f test/bench/index_size.sql
--
-- in a database with dbopt; the schema dbopt_bench is made anew, and dropped.
\set QUIET on
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS dbopt_bench CASCADE;
CREATE SCHEMA dbopt_bench;
SET search_path = dbopt_bench, public;
CREATE TABLE t (id bigint, u uuid, ref int, status text, name text, created timestamptz, email text, j jsonb,
	tags text[], deleted timestamptz, n numeric);
INSERT INTO t
SELECT i, md5(i::text)::uuid, random() * :rows / 10, (ARRAY['active', 'inactive', 'pending'])[1 + floor(random() * random() * 3)],
	initcap(substr(md5((i % 5000)::text), 1, 3 + (i % 6))) || ' ' || initcap(substr(md5((i * 7)::text), 1, 4 + (i % 9))),
	now() - i * interval '1 s', substr(md5(i::text), 1, 6 + (i % 12)) || '@example' || i % 100 || '.com',
	jsonb_build_object('k', i % 1000, 'v', 'x' || i), ARRAY['t' || i % 50, 'u' || i % 1000],
	CASE WHEN i % 20 = 0 THEN now() END, i % 1000
FROM generate_series(1, :rows) i;
CREATE INDEX t_id ON t (id);
CREATE UNIQUE INDEX t_uuid ON t (u);
CREATE INDEX t_ref ON t (ref);
CREATE INDEX t_status ON t (status);
CREATE INDEX t_name ON t (name);
CREATE INDEX t_deleted ON t (deleted);
CREATE INDEX t_numeric ON t (n);
CREATE INDEX t_email ON t (email COLLATE "C");
CREATE INDEX t_lower_including ON t (lower(email)) INCLUDE (id);
CREATE INDEX t_status_created_partial ON t (status, created DESC) WHERE deleted IS NULL;
CREATE INDEX t_ref_status ON t (ref, status);
CREATE INDEX t_fillfactor ON t (name, email) WITH (fillfactor = 70);
CREATE INDEX t_hash ON t USING hash (u);
CREATE INDEX t_brin ON t USING brin (created);
CREATE INDEX t_trgm ON t USING gin (name gin_trgm_ops);
CREATE INDEX t_trgm_expression ON t USING gin (lower(name || ' ' || email) gin_trgm_ops);
CREATE INDEX t_tags ON t USING gin (tags);
CREATE INDEX t_json ON t USING gin (j);
ANALYZE t;
SELECT i.indexrelid::regclass AS index, m.amname AS method, pg_relation_size(i.indexrelid) AS bytes,
	dbopt_rebuilt_bytes(i.indexrelid) AS estimated,
	round(100.0 * dbopt_rebuilt_bytes(i.indexrelid) / pg_relation_size(i.indexrelid) - 100, 1) AS error_percent
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = 't'::regclass ORDER BY m.amname, i.indexrelid;
DROP SCHEMA dbopt_bench CASCADE;
