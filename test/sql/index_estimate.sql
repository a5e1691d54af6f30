-- What declared indexes are going to take, held against what they take.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
DROP SCHEMA IF EXISTS estimate CASCADE;
DROP ROLE IF EXISTS regress_estimate;
RESET client_min_messages;
CREATE SCHEMA estimate;
SET search_path = estimate, public;

CREATE TABLE goods (id bigint, code uuid, kind text, shop int, name text, sold timestamptz, tags text[], features jsonb,
	price numeric);
INSERT INTO goods
SELECT i, md5(i::text)::uuid, (ARRAY['book', 'film', 'game'])[1 + (i % 7) / 3], i % 2000,
	initcap(substr(md5((i % 3000)::text), 1, 3 + i % 6)) || ' ' || substr(md5((i * 7)::text), 1, 4 + i % 9),
	CASE WHEN i % 5 = 0 THEN timestamptz '2025-01-01' + i * interval '1 minute' END,
	ARRAY['t' || i % 50, 'u' || i % 1000], jsonb_build_object('k', i % 1000, 'v', 'x' || i), i % 1000
  FROM generate_series(1, 40000) i;
ANALYZE goods;
INSERT INTO dbopt_index (name, table_name, definition, is_unique) VALUES
	('goods_id', 'estimate.goods', '(id)', true),
	('goods_code', 'estimate.goods', '(code)', false),
	('goods_kind', 'estimate.goods', '(kind)', false),
	('goods_shop_kind', 'estimate.goods', '(shop, kind DESC)', false),
	('goods_name', 'estimate.goods', '(lower(name)) INCLUDE (price)', false),
	('goods_loose', 'estimate.goods', '(name) WITH (fillfactor = 50)', false),
	('goods_sold', 'estimate.goods', '(sold) WHERE sold IS NOT NULL', false),
	('goods_hash', 'estimate.goods', 'USING hash (code)', false),
	('goods_brin', 'estimate.goods', 'USING brin (id)', false),
	('goods_trgm', 'estimate.goods', 'USING gin (name gin_trgm_ops)', false),
	('goods_tags', 'estimate.goods', 'USING gin (tags)', false),
	('goods_features', 'estimate.goods', 'USING gin (features)', false);
CREATE TABLE guess AS SELECT * FROM dbopt_estimate_indexes('goods');
SELECT name, table_name, abs(rows - CASE name WHEN 'goods_sold' THEN 8000 ELSE 40000 END) < 800 AS rows,
	estimated_time > '0' AND estimated_time < '1 min' AS time
  FROM guess ORDER BY name COLLATE "C";

-- Nothing was built by that; then it is.
SELECT count(*) FROM pg_indexes WHERE schemaname = 'estimate';
SET dbopt.index_inline_pages = 100000;
CALL dbopt_ensure_indexes('goods');
RESET dbopt.index_inline_pages;
SELECT g.name, m.amname AS method,
	abs(100.0 * g.estimated_bytes / pg_relation_size(c.oid) - 100) <= CASE m.amname WHEN 'gin' THEN 25 ELSE 15 END AS fits
  FROM guess g LEFT JOIN pg_class c ON c.relname = g.name LEFT JOIN pg_am m ON m.oid = c.relam
 ORDER BY g.name COLLATE "C";

-- Those that are there are estimated, too; of all tables, or of one.
SELECT count(*) FROM dbopt_estimate_indexes() WHERE table_name = 'estimate.goods';
SELECT count(*) FROM dbopt_estimate_indexes('guess');

-- Partitions are added up; one may have its columns in another order.
CREATE TABLE sales (id int, gone text, at date, shop text) PARTITION BY RANGE (at);
ALTER TABLE sales DROP COLUMN gone;
CREATE TABLE sales_1 PARTITION OF sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE sales_2 (shop text, at date NOT NULL, id int);
ALTER TABLE sales ATTACH PARTITION sales_2 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO sales SELECT i, date '2024-01-01' + i % 700, 'shop ' || i FROM generate_series(1, 20000) i;
ANALYZE sales_1, sales_2;
INSERT INTO dbopt_index VALUES ('sales_shop', 'estimate.sales', '(shop, id)');
CREATE TABLE parts AS SELECT * FROM dbopt_estimate_indexes('sales');
SET dbopt.index_inline_pages = 100000;
CALL dbopt_ensure_indexes('sales');
RESET dbopt.index_inline_pages;
SELECT name, rows, 100.0 * estimated_bytes / (SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree('sales_shop')) BETWEEN 85 AND 115 AS fits
  FROM parts;

-- A table that is empty, has no statistics, or is not there.
CREATE TABLE bare (a int, b text);
INSERT INTO dbopt_index VALUES ('bare_a', 'estimate.bare', '(a)'), ('bare_b', 'estimate.bare', 'USING gin (b gin_trgm_ops)'),
	('nothing_a', 'estimate.nothing', '(a)');
SELECT name, rows, estimated_bytes, estimated_time < '1 s' AS time FROM dbopt_estimate_indexes('bare') ORDER BY 1;
INSERT INTO bare SELECT i, 'text ' || i FROM generate_series(1, 1000) i;
INSERT INTO bare VALUES (NULL, NULL), (1, ''), (2, repeat('long ', 100000));
SELECT name, rows > 0 AS rows, estimated_bytes > 0 AS bytes, estimated_time < '10 s' AS time
  FROM dbopt_estimate_indexes('bare') ORDER BY 1;
SELECT count(*) FROM dbopt_estimate_indexes() WHERE name = 'nothing_a';

-- What is stored in another way in the index, or not at all; keys without an
-- equality; what a row is not to be had without.
CREATE TABLE odd (relation name, spot point, tags text[], filler text);
INSERT INTO odd SELECT 'rel ' || i, point(i, i % 100), CASE WHEN i % 20 = 0 THEN ARRAY['t' || i % 7] WHEN i % 20 = 1 THEN '{}' END, 'filler'
  FROM generate_series(1, 100000) i;
ANALYZE odd;
INSERT INTO dbopt_index VALUES ('odd_relation', 'estimate.odd', '(relation)'), ('odd_spot', 'estimate.odd', 'USING gist (spot)'),
	('odd_tags', 'estimate.odd', 'USING gin (tags)');
CREATE TABLE odd_guess AS SELECT * FROM dbopt_estimate_indexes('odd');
SET dbopt.index_inline_pages = 100000;
CALL dbopt_ensure_indexes('odd');
RESET dbopt.index_inline_pages;
SELECT name, reason, abs(100.0 * estimated_bytes / pg_relation_size(name::regclass) - 100) <= CASE name WHEN 'odd_relation' THEN 15 ELSE 50 END AS fits
  FROM odd_guess ORDER BY name COLLATE "C";

-- An expression that makes much of a row is not run for all of the sample.
CREATE SEQUENCE swellings;
CREATE FUNCTION swell(int) RETURNS text[] IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('estimate.swellings');
	RETURN ARRAY[repeat($1::text, 500000)];
END $$;
CREATE TABLE swollen AS SELECT i % 10 AS a FROM generate_series(1, 1000) i;
INSERT INTO dbopt_index VALUES ('swollen_a', 'estimate.swollen', 'USING gin (estimate.swell(a))');
SELECT rows > 0 AS rows, estimated_time < '1 min' AS time, reason FROM dbopt_estimate_indexes('swollen');
SELECT last_value < 300 AS few FROM swellings;

-- An expression is run as the table's owner, and can do nothing else.
CREATE ROLE regress_estimate;
GRANT CREATE, USAGE ON SCHEMA estimate TO regress_estimate;
SET ROLE regress_estimate;
CREATE TABLE trap (a int);
INSERT INTO trap SELECT generate_series(1, 10);
CREATE FUNCTION spring(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	IF current_user <> 'regress_estimate' THEN RAISE WARNING 'running as %', current_user; END IF;
	RETURN $1;
END $$;
RESET ROLE;
INSERT INTO dbopt_index VALUES ('trap_a', 'estimate.trap', '(estimate.spring(a)) WHERE estimate.spring(a) > 0');
SELECT name, rows > 0 AS rows FROM dbopt_estimate_indexes('trap');
SET ROLE regress_estimate;
CREATE OR REPLACE FUNCTION spring(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN RAISE 'this row has no key'; END $$;
RESET ROLE;
SELECT name, rows, estimated_bytes, estimated_time, reason FROM dbopt_estimate_indexes('trap');

-- Rights.
SET ROLE regress_estimate;
SELECT * FROM dbopt_estimate_indexes();
RESET ROLE;
GRANT pg_monitor TO regress_estimate;
SET ROLE regress_estimate;
SELECT count(*) > 10 FROM dbopt_estimate_indexes() WHERE table_name ~ '^estimate';
INSERT INTO dbopt_build_rate VALUES ('btree', 5, 1, 1);
RESET ROLE;

SET client_min_messages = warning;
DELETE FROM dbopt_index WHERE table_name ~ '^estimate';
DROP SCHEMA estimate CASCADE;
DROP OWNED BY regress_estimate;
DROP ROLE regress_estimate;
