-- What dbopt_index_advice() finds and what it leaves alone; what needs
-- pg_stat_statements is in test/t.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
DROP SCHEMA IF EXISTS "adv ice" CASCADE;
DROP ROLE IF EXISTS regress_advice;
RESET client_min_messages;
CREATE SCHEMA "adv ice";
SET search_path = "adv ice", public;
CREATE VIEW advice AS SELECT * FROM dbopt_index_advice() WHERE table_name::text !~ '^public\.';

-- Nothing to say about a table that is in order.
CREATE TABLE owner (id int PRIMARY KEY, code int UNIQUE, part int, UNIQUE (code, part));
SELECT * FROM advice;

-- Unused indexes, those that are used, and those that are needed anyway.
CREATE TABLE used (id int PRIMARY KEY, "a b" int, c int NOT NULL, d int, e text, f int REFERENCES owner, r tsrange,
	EXCLUDE USING gist (r WITH &&));
CREATE INDEX "used ""A" ON used ("a b");
CREATE INDEX used_c ON used (c);
CREATE INDEX used_partial ON used (d) WHERE d > 0;
CREATE INDEX used_trgm ON used USING gin (e gin_trgm_ops);
CREATE INDEX used_trgm_idle ON used USING gin (lower(e) gin_trgm_ops);
CREATE INDEX used_f ON used (f);
CREATE UNIQUE INDEX used_identity ON used (c, d);
CREATE UNIQUE INDEX used_replica ON used (c, id);
ALTER TABLE used REPLICA IDENTITY USING INDEX used_replica;
INSERT INTO used (id, "a b", c, d, e) SELECT i, i, i, i, 'text ' || i FROM generate_series(1, 2000) i;
SET enable_seqscan = off;
SELECT count(*) FROM used WHERE d = 7 AND d > 0;
SELECT count(*) FROM used WHERE e LIKE '%ext 1999%';
RESET enable_seqscan;
SELECT pg_stat_force_next_flush();
SELECT index_name, table_name, finding, statement FROM advice WHERE finding = 'unused' ORDER BY index_name;
-- the age of the statistics is told
SELECT detail ~ '^no scan since \d{4}-\d\d-\d\d .* \((\d+ days? )?\d\d:\d\d:\d\d ago\), when .*; it takes \d+ [kM]?B' AS detail
  FROM advice WHERE index_name = 'used_c' AND finding = 'unused';
SELECT statement FROM advice WHERE index_name = 'used "A' \gexec
SELECT count(*) FROM advice WHERE index_name = 'used "A';
DROP TABLE used;

-- Duplicates.
CREATE TABLE twice (id int PRIMARY KEY, a int, b text, c varchar(10), UNIQUE (a, b));
CREATE INDEX twice_b1 ON twice (b);
CREATE INDEX twice_b2 ON twice (b);
CREATE INDEX twice_b_c ON twice (b COLLATE "C");
CREATE INDEX twice_b_pattern ON twice (b text_pattern_ops);
CREATE INDEX twice_b_desc ON twice (b DESC NULLS LAST);
CREATE INDEX twice_b_hash ON twice USING hash (b);
CREATE INDEX twice_b_part ON twice (b) WHERE a > 1;
CREATE INDEX twice_b_part_same ON twice (b) WHERE a > 1;
CREATE INDEX twice_b_part_other ON twice (b) WHERE a > 2;
CREATE INDEX twice_lower ON twice (lower(b));
CREATE INDEX twice_lower_same ON twice (lower(b));
CREATE INDEX twice_upper ON twice (upper(b));
CREATE INDEX twice_trgm ON twice USING gin (b gin_trgm_ops);
CREATE INDEX twice_trgm_same ON twice USING gin (b gin_trgm_ops);
CREATE INDEX twice_trgm_gist ON twice USING gist (b gist_trgm_ops);
CREATE INDEX twice_trgm_gist_32 ON twice USING gist (b gist_trgm_ops(siglen=32));
CREATE INDEX twice_id ON twice (id);
CREATE UNIQUE INDEX twice_id_unique ON twice (id);
ALTER TABLE twice ADD CONSTRAINT "again a b" UNIQUE (a, b);
ALTER TABLE twice ADD CONSTRAINT deferred UNIQUE (a, b) DEFERRABLE;
CREATE UNIQUE INDEX twice_nulls ON twice (a, b) NULLS NOT DISTINCT;
CREATE INDEX twice_incl ON twice (c) INCLUDE (a);
CREATE INDEX twice_incl_same ON twice (c) INCLUDE (a);
SELECT index_name, table_name, regexp_replace(detail, '; it takes.*', '') AS detail, statement
  FROM advice WHERE finding = 'duplicate' ORDER BY index_name;
-- what a foreign key points to stays, whichever is older
CREATE TABLE refers (a int, b text, FOREIGN KEY (a, b) REFERENCES twice (a, b));
SELECT index_name, statement FROM advice WHERE finding = 'duplicate' AND index_name ~ '^twice_a_b|again' ORDER BY index_name;
DROP TABLE twice, refers;

-- Covered by a longer one.
CREATE TABLE covered (id int PRIMARY KEY, a int, b int, c text, d int, e int);
CREATE INDEX cover_abc ON covered (a, b DESC, c) INCLUDE (d);
CREATE INDEX covered_a ON covered (a);
CREATE INDEX covered_a_desc ON covered (a DESC);
CREATE INDEX covered_ab ON covered (a, b DESC);
CREATE INDEX covered_ab_back ON covered (a DESC, b);
CREATE INDEX covered_incl ON covered (a) INCLUDE (c, d);
CREATE INDEX not_order ON covered (b, a);
CREATE INDEX not_direction ON covered (a, b);
CREATE INDEX not_nulls ON covered (a NULLS FIRST);
CREATE INDEX not_included ON covered (a) INCLUDE (e);
CREATE INDEX not_partial ON covered (a) WHERE d = 1;
CREATE INDEX not_hash ON covered USING hash (a);
CREATE INDEX not_brin ON covered USING brin (a);
CREATE UNIQUE INDEX not_unique ON covered (a) WHERE d = 2;
CREATE INDEX cover_partial ON covered (a, b) WHERE d = 3;
CREATE INDEX covered_partial ON covered (a) WHERE d = 3;
CREATE INDEX cover_expression ON covered (lower(c), a);
CREATE INDEX covered_expression ON covered (lower(c));
CREATE INDEX not_collation ON covered (lower(c) COLLATE "C");
CREATE INDEX not_gin_trgm ON covered USING gin (c gin_trgm_ops);
CREATE INDEX not_gin_prefix ON covered USING gin (c gin_trgm_ops, lower(c) gin_trgm_ops);
CREATE INDEX covered_id ON covered (id);
CREATE INDEX id_more ON covered (id, a);
SELECT index_name, table_name, regexp_replace(detail, ' \(.*', '') AS by, statement
  FROM advice WHERE finding = 'covered' ORDER BY index_name;
-- each covers the other: the one with fewer scans goes
CREATE INDEX mutual_1 ON covered (d, e);
CREATE INDEX mutual_2 ON covered (d DESC, e DESC);
SET enable_seqscan = off;
SELECT count(*) FROM covered WHERE d = 1;
RESET enable_seqscan;
SELECT pg_stat_force_next_flush();
SELECT count(*) AS one, bool_and(x.idx_scan = 0) AS unused
  FROM advice a JOIN pg_stat_user_indexes x ON x.indexrelname = a.index_name
 WHERE finding = 'covered' AND index_name ~ '^mutual';
-- when the longer one is unused and this one is not, that is the one to drop
DROP INDEX mutual_1, mutual_2;
CREATE INDEX short_used ON covered (e);
SET enable_seqscan = off;
SELECT count(*) FROM covered WHERE e = 1;
RESET enable_seqscan;
CREATE INDEX long_unused ON covered (e, d, c);
SELECT pg_stat_force_next_flush();
SELECT index_name, finding FROM advice WHERE index_name IN ('short_used', 'long_unused') ORDER BY 1, 2;
DROP TABLE covered;

-- Invalid ones: what a failed build leaves, and a partition without its part.
CREATE TABLE broken (a int);
INSERT INTO broken VALUES (1), (1);
CREATE UNIQUE INDEX CONCURRENTLY broken_a ON broken (a);
DELETE FROM broken WHERE ctid = '(0,1)';
SELECT index_name, table_name, finding, statement FROM advice WHERE table_name = 'broken'::regclass;
SELECT statement FROM advice WHERE index_name = 'broken_a' \gexec
SELECT * FROM advice WHERE table_name = 'broken'::regclass;
INSERT INTO broken VALUES (2);
ALTER INDEX broken_a RENAME TO broken_a_ccnew;
CREATE INDEX dbopt_new_01234567_a ON broken (a);
UPDATE pg_index SET indisvalid = false WHERE indrelid = 'broken'::regclass;
SELECT index_name, finding, statement FROM advice WHERE table_name = 'broken'::regclass ORDER BY 1;
DROP TABLE broken;
CREATE TABLE parts (a int, b int, c int) PARTITION BY RANGE (a);
CREATE TABLE part1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE "part 2" PARTITION OF parts FOR VALUES FROM (10) TO (20);
CREATE INDEX parts_b ON ONLY parts (b DESC, a) INCLUDE (c) WHERE b > 5;
CREATE INDEX part1_b ON part1 (b DESC, a) INCLUDE (c) WHERE b > 5;
SELECT index_name, table_name, regexp_replace(statement, '_\d+', '_N', 'g') AS statement
  FROM advice WHERE finding = 'invalid' ORDER BY detail DESC;
\set ECHO none
SELECT regexp_split_to_table(statement, E';\n') FROM advice WHERE finding = 'invalid' \gexec
\set ECHO all
SELECT count(*) FROM advice WHERE finding = 'invalid';
-- unused: the whole of it, not its parts
SELECT index_name, table_name, finding, statement FROM advice WHERE table_name::text ~ 'part';
INSERT INTO parts SELECT i % 20, i, i FROM generate_series(1, 2000) i;
SET enable_seqscan = off;
SELECT count(*) FROM parts WHERE a = 1 AND b > 1900;
RESET enable_seqscan;
SELECT pg_stat_force_next_flush();
SELECT index_name, table_name, finding, statement FROM advice WHERE table_name::text ~ 'part';

-- Foreign keys.
CREATE TABLE keys (
	none int CONSTRAINT "none at all" REFERENCES owner,
	plain int CONSTRAINT plain REFERENCES owner,
	second int CONSTRAINT second REFERENCES owner,
	not_null int CONSTRAINT not_null REFERENCES owner,
	partial int CONSTRAINT partial REFERENCES owner,
	hashed int CONSTRAINT hashed REFERENCES owner,
	brin int CONSTRAINT brin REFERENCES owner,
	expression int CONSTRAINT expression REFERENCES owner,
	"x 1" int, y int, z int, v int, w int,
	CONSTRAINT pair FOREIGN KEY ("x 1", y) REFERENCES owner (code, part),
	CONSTRAINT pair_none FOREIGN KEY (y, z) REFERENCES owner (code, part),
	CONSTRAINT pair_partial FOREIGN KEY (v, w) REFERENCES owner (code, part));
CREATE INDEX ON keys (plain, w);
CREATE INDEX ON keys (w, second);
CREATE INDEX ON keys (not_null) WHERE not_null IS NOT NULL;
CREATE INDEX ON keys (partial) WHERE w > 0;
CREATE INDEX ON keys USING hash (hashed);
CREATE INDEX ON keys USING brin (brin);
CREATE INDEX ON keys ((expression + 0));
CREATE INDEX ON keys (y, "x 1", w);
CREATE INDEX ON keys (v, w) WHERE v IS NOT NULL AND w IS NOT NULL;
SELECT index_name, table_name, substring(detail, 'key (.*):') COLLATE "C" AS key, statement
  FROM advice WHERE finding = 'foreign_key' ORDER BY key;
CREATE TABLE part_keys (a int, b int REFERENCES owner, c int REFERENCES owner) PARTITION BY LIST (a);
CREATE TABLE part_keys_1 PARTITION OF part_keys FOR VALUES IN (1);
CREATE INDEX ON part_keys (c);
SELECT index_name, table_name, statement FROM advice WHERE finding = 'foreign_key' AND table_name::text ~ 'part_keys';
SELECT statement FROM advice WHERE finding = 'foreign_key' ORDER BY statement COLLATE "C" \gexec
SELECT count(*) FROM advice WHERE finding = 'foreign_key';
-- an index that a foreign key needs is neither unused nor covered by one that is
SELECT index_name, finding FROM advice WHERE table_name = 'part_keys'::regclass;
CREATE INDEX part_keys_c_a ON part_keys (c, a);
SELECT index_name, finding FROM advice WHERE table_name = 'part_keys'::regclass ORDER BY 1;
DROP TABLE keys, part_keys, parts;

-- Large sequential scans.
CREATE TABLE large (id int PRIMARY KEY, a int, b text);
CREATE TABLE small (LIKE large);
CREATE TABLE rarely (LIKE large);
INSERT INTO large SELECT i, i % 1000, 'some text' FROM generate_series(1, 30000) i;
INSERT INTO small SELECT i, i % 1000, 'some text' FROM generate_series(1, 1000) i;
INSERT INTO rarely TABLE large;
ANALYZE large, small, rarely;
SELECT sum((SELECT count(*) FROM large WHERE a = i) + (SELECT count(*) FROM small WHERE a = i)) FROM generate_series(1, 20) i;
SELECT count(*) FROM rarely WHERE a = 1;
SELECT pg_stat_force_next_flush();
SELECT index_name, table_name, finding, regexp_replace(detail, 'of \d+ kB', 'of N kB') AS detail, statement
  FROM advice WHERE finding = 'sequential_scans';
DROP TABLE large, small, rarely;

-- Bloated ones: an estimate, and what pgstattuple measures.
CREATE TABLE bloat (id int, a text, b int, c timestamptz) WITH (autovacuum_enabled = off);
CREATE INDEX bloat_id ON bloat (id);
CREATE INDEX bloat_half ON bloat (a) WITH (fillfactor = 50);
INSERT INTO bloat SELECT i, md5(i::text), i % 10, now() FROM generate_series(1, 100000) i;
DELETE FROM bloat WHERE id % 10 <> 0;
VACUUM ANALYZE bloat;
CREATE INDEX bloat_dense ON bloat (a, id, c, (b + 1));
CREATE INDEX bloat_gin ON bloat USING gin (a gin_trgm_ops);
SELECT index_name, table_name, finding, regexp_replace(detail, '\d+ [kM]B', 'N', 'g') AS detail, statement
  FROM advice WHERE finding = 'bloated' ORDER BY index_name;
CREATE SCHEMA "mea sure";
CREATE EXTENSION pgstattuple SCHEMA "mea sure";
SELECT index_name, regexp_replace(detail, '\d+ [kM]B', 'N', 'g') AS detail FROM advice WHERE finding = 'bloated' ORDER BY index_name;
SELECT statement FROM advice WHERE finding = 'bloated' \gexec
SELECT count(*) FROM advice WHERE finding = 'bloated';
-- estimates of indexes just built, in per cent of what they take
SELECT indexrelid::regclass AS index, round(100.0 * dbopt_rebuilt_bytes(indexrelid) / pg_relation_size(indexrelid)) BETWEEN 85 AND 115 AS fits
  FROM pg_index WHERE indrelid = 'bloat'::regclass AND indexrelid <> 'bloat_gin'::regclass ORDER BY 1;
-- one whose expression fails spoils nothing, and what it says is not told
CREATE TABLE spoilt AS SELECT i AS a FROM generate_series(1, 60000) i;
CREATE FUNCTION spoil(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE INDEX spoilt_a ON spoilt ("adv ice".spoil(a));
CREATE OR REPLACE FUNCTION spoil(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RAISE 'secret %', $1; END$$;
ANALYZE spoilt (a);
SELECT dbopt_rebuilt_bytes('spoilt_a');
SELECT count(*) FROM advice WHERE finding = 'bloated';
DROP TABLE spoilt;
DROP FUNCTION spoil;
SET client_min_messages = warning;
DROP SCHEMA "mea sure" CASCADE;
RESET client_min_messages;
DROP TABLE bloat;
-- nor is one called bloated of which there are no statistics
CREATE TABLE unknown (a int) WITH (autovacuum_enabled = off);
CREATE INDEX unknown_a ON unknown (a);
INSERT INTO unknown SELECT generate_series(1, 200000);
REINDEX TABLE unknown;
SELECT pg_relation_size('unknown_a') > 2 * dbopt_rebuilt_bytes('unknown_a') AS guess;
SELECT index_name FROM advice WHERE finding = 'bloated';
DROP TABLE unknown;

-- The log index of an events table is needed for delivery, and neither unused
-- nor covered.
CREATE TABLE adv_events (id bigint PRIMARY KEY, event_type text NOT NULL);
SELECT dbopt_attach_events('adv_events');
CREATE INDEX adv_events_longer ON adv_events (event_type COLLATE "C", log_position, id) INCLUDE (event_type);
CREATE INDEX adv_events_type ON adv_events (event_type);
SELECT index_name, finding, statement FROM advice WHERE table_name = 'adv_events'::regclass ORDER BY 1, 2;
SELECT dbopt_detach_events('adv_events');
DROP TABLE adv_events;

-- Nothing of the system's or of extensions'.
SELECT DISTINCT table_name FROM dbopt_index_advice() WHERE table_name::text ~ 'dbopt_|pg_';

-- Rights.
CREATE ROLE regress_advice;
GRANT USAGE ON SCHEMA "adv ice" TO regress_advice;
SET ROLE regress_advice;
SELECT count(*) FROM dbopt_index_advice();
RESET ROLE;
CREATE TABLE monitored (id int PRIMARY KEY, a int REFERENCES owner);
GRANT pg_monitor TO regress_advice;
SET ROLE regress_advice;
SELECT table_name, finding FROM dbopt_index_advice() WHERE table_name = 'monitored'::regclass;
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA "adv ice" CASCADE;
DROP ROLE regress_advice;
