-- How far dbopt_estimate_indexes() is off, for a table of as many rows as
-- wanted:
--
--		psql -X -v rows=1000000 -f test/bench/index_estimate.sql
--
-- (-v methods=btree,hash leaves out the others)
-- in a database with dbopt; the schema dbopt_bench is made anew, and dropped.
-- Each index is estimated, built by the pool, which learns from it, dropped,
-- estimated again, and built by hand.  error: of the size, in per cent; first
-- and then: the estimated time, divided by the time taken.
\set QUIET on
SET client_min_messages = warning;
SET dbopt.index_inline_pages = 0;
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
VACUUM ANALYZE t;
CHECKPOINT;

CREATE TEMP TABLE declared (name text, method text, definition text);
INSERT INTO declared VALUES
	('t_id', 'btree', '(id)'),
	('t_uuid', 'btree', '(u)'),
	('t_ref', 'btree', '(ref)'),
	('t_status', 'btree', '(status)'),
	('t_name', 'btree', '(name)'),
	('t_deleted', 'btree', '(deleted)'),
	('t_numeric', 'btree', '(n)'),
	('t_email', 'btree', '(email COLLATE "C")'),
	('t_lower_including', 'btree', '(lower(email)) INCLUDE (id)'),
	('t_status_created_partial', 'btree', '(status, created DESC) WHERE deleted IS NULL'),
	('t_few_rows', 'btree', '(created) WHERE deleted IS NOT NULL'),
	('t_ref_status', 'btree', '(ref, status)'),
	('t_fillfactor', 'btree', '(name, email) WITH (fillfactor = 70)'),
	('t_hash', 'hash', 'USING hash (u)'),
	('t_brin', 'brin', 'USING brin (created)'),
	('t_trgm', 'gin', 'USING gin (name public.gin_trgm_ops)'),
	('t_trgm_expression', 'gin', 'USING gin (lower(name || '' '' || email) public.gin_trgm_ops)'),
	('t_tags', 'gin', 'USING gin (tags)'),
	('t_json', 'gin', 'USING gin (j)');
\if :{?methods}
DELETE FROM declared WHERE method <> ALL (string_to_array(:'methods', ','));
\endif
DELETE FROM dbopt_index WHERE table_name = 'dbopt_bench.t';
INSERT INTO dbopt_index (name, table_name, definition) SELECT name, 'dbopt_bench.t', definition FROM declared;
CREATE TEMP TABLE first AS SELECT * FROM dbopt_estimate_indexes('t');
CALL dbopt_ensure_indexes('t', true);
CALL dbopt_drop_indexes('t');
CREATE TEMP TABLE then_ AS SELECT * FROM dbopt_estimate_indexes('t');

CREATE TEMP TABLE taken (name text, began timestamptz, ended timestamptz);
SELECT format('INSERT INTO taken (name, began) VALUES (%L, clock_timestamp())', name) AS begin,
	format('CREATE INDEX CONCURRENTLY %I ON t %s', name, definition) AS build,
	'UPDATE taken SET ended = clock_timestamp() WHERE ended IS NULL' AS end
FROM declared ORDER BY name \gexec

SELECT d.name AS index, d.method, pg_size_pretty(pg_relation_size(d.name::regclass)) AS size,
	round(100.0 * f.estimated_bytes / pg_relation_size(d.name::regclass) - 100, 1) AS error,
	round(extract(epoch FROM t.ended - t.began), 3) AS seconds,
	round((extract(epoch FROM f.estimated_time) / extract(epoch FROM t.ended - t.began)), 2) AS first,
	round((extract(epoch FROM n.estimated_time) / extract(epoch FROM t.ended - t.began)), 2) AS then
FROM declared d JOIN first f USING (name) JOIN then_ n USING (name) JOIN taken t USING (name) ORDER BY d.method, d.name;
DELETE FROM dbopt_index WHERE table_name = 'dbopt_bench.t';
DROP SCHEMA dbopt_bench CASCADE;
