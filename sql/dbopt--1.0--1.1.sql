/* dbopt--1.0--1.1.sql */

-- complain if the script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION dbopt UPDATE TO '1.1'" to load this file. \quit

--
-- Operators are found in pg_catalog alone.  With the search path that a script
-- has, one in the extension's schema comes first if it fits better, whoever has
-- put it there: the views that have operators on different types are made anew.
--

SET LOCAL search_path = pg_catalog, pg_temp;

CREATE OR REPLACE VIEW @extschema@.dbopt_user_index AS
	SELECT i.indexrelid AS index_oid,
		i.indrelid AS table_oid,
		c.relname::text AS index_name,
		pg_catalog.format('%I.%I', n.nspname, c.relname) AS qualified_name,
		m.amname::text AS method,
		c.relkind = 'I' AS partitioned,
		c.relispartition AS attached,
		i.indisvalid AND i.indisready AND i.indislive AS valid,
		i.indisunique AS is_unique,
		pg_catalog.concat_ws(' ', i.indisunique, i.indimmediate, i.indnullsnotdistinct) AS uniqueness,
		i.indisexclusion AS is_exclusion,
		i.indisprimary OR i.indisunique OR i.indisexclusion OR i.indisreplident OR (
			i.indnatts = 3 AND k.keys[2] = 'log_position' AND EXISTS (
				SELECT FROM @extschema@.dbopt_source s
				 WHERE s.events_oid IN (i.indrelid, pg_catalog.pg_partition_root(i.indrelid)))) AS needed,
		i.indisprimary OR i.indisreplident OR EXISTS (
			SELECT FROM pg_catalog.pg_constraint f
			 WHERE f.conindid = i.indexrelid AND f.contype = 'f') AS referenced,
		(SELECT o.conname::text FROM pg_catalog.pg_constraint o
		  WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x')) AS constraint_name,
		k.keys, k.columns, k.opclasses, k.directions, k.included,
		coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
		CASE c.relkind
			WHEN 'I' THEN (SELECT pg_catalog.sum(pg_catalog.pg_stat_get_numscans(p.relid))
							 FROM pg_catalog.pg_partition_tree(i.indexrelid) p WHERE p.isleaf)::bigint
			ELSE pg_catalog.pg_stat_get_numscans(i.indexrelid)
		END AS scans,
		CASE c.relkind
			WHEN 'I' THEN (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(p.relid))
							 FROM pg_catalog.pg_partition_tree(i.indexrelid) p WHERE p.isleaf)::bigint
			ELSE pg_catalog.pg_relation_size(i.indexrelid)
		END AS bytes
	  FROM pg_catalog.pg_index i
	  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
	  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
	  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	  JOIN pg_catalog.pg_am m ON m.oid = c.relam
	 CROSS JOIN LATERAL (
		SELECT pg_catalog.array_agg(pg_catalog.concat_ws(' ',
					pg_catalog.pg_get_indexdef(i.indexrelid, p, false),
					CASE WHEN i.indcollation[p - 1] <> coalesce(b.attcollation, 0)
						THEN 'COLLATE ' || i.indcollation[p - 1]::pg_catalog.regcollation END,
					CASE WHEN NOT o.opcdefault OR a.attoptions IS NOT NULL
						THEN pg_catalog.format('%I.%I', o.opcnamespace::pg_catalog.regnamespace::text, o.opcname) END,
					'(' || pg_catalog.array_to_string(a.attoptions, ', ') || ')') ORDER BY p)
				FILTER (WHERE p <= i.indnkeyatts) AS keys,
			pg_catalog.array_agg(i.indkey[p - 1] ORDER BY p) FILTER (WHERE p <= i.indnkeyatts) AS columns,
			pg_catalog.array_agg(i.indclass[p - 1] ORDER BY p) FILTER (WHERE p <= i.indnkeyatts) AS opclasses,
			pg_catalog.array_agg(i.indoption[p - 1] ORDER BY p) FILTER (WHERE p <= i.indnkeyatts) AS directions,
			coalesce(pg_catalog.array_agg(i.indkey[p - 1] ORDER BY i.indkey[p - 1])
				FILTER (WHERE p > i.indnkeyatts), '{}') AS included
		  FROM pg_catalog.generate_series(1, i.indnatts) p
		  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = p
		  LEFT JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[p - 1] AND p <= i.indnkeyatts
		  LEFT JOIN pg_catalog.pg_attribute b
			ON b.attrelid = i.indrelid AND b.attnum = i.indkey[p - 1] AND b.attnum <> 0) k
	 WHERE t.relkind IN ('r', 'p', 'm')
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
						WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indrelid AND d.deptype = 'e');

CREATE OR REPLACE VIEW @extschema@.dbopt_foreign_key AS
	SELECT f.oid AS constraint_oid,
		f.conname::text AS constraint_name,
		f.conrelid AS table_oid,
		f.confrelid AS referenced_oid,
		f.conkey AS columns,
		(SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.place)
		   FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY u(attnum, place)
		   JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = u.attnum) AS column_names,
		ARRAY(SELECT x.index_oid FROM @extschema@.dbopt_user_index x
			   WHERE x.table_oid = f.conrelid AND x.valid
				 AND (x.predicate = '' OR
					pg_catalog.string_to_array(pg_catalog.btrim(x.predicate, '()'), ') AND (') <@ ARRAY(
						SELECT pg_catalog.format('%I IS NOT NULL', a.attname) FROM pg_catalog.pg_attribute a
						 WHERE a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)))
				 AND f.conkey <@ CASE x.method
						WHEN 'btree' THEN x.columns[1:pg_catalog.cardinality(f.conkey)]
						WHEN 'brin' THEN '{}'
						ELSE x.columns END
				 AND NOT EXISTS (
					SELECT FROM ROWS FROM (pg_catalog.unnest(f.conkey), pg_catalog.unnest(f.conpfeqop)) u(attnum, operator)
					 WHERE NOT EXISTS (
						SELECT FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_amop o ON o.amopfamily = c.opcfamily
						 WHERE c.oid = x.opclasses[pg_catalog.array_position(x.columns, u.attnum)]
						   AND o.amopopr = u.operator))
			   ORDER BY x.needed DESC, x.scans DESC, pg_catalog.cardinality(x.keys), x.index_oid) AS indexes
	  FROM pg_catalog.pg_constraint f
	 WHERE f.contype = 'f' AND f.conparentid = 0
	   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
						WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = f.conrelid AND d.deptype = 'e');

CREATE OR REPLACE VIEW @extschema@.dbopt_user_column AS
	SELECT a.attrelid AS table_oid,
		a.attname AS column_name,
		a.attnum AS column_number,
		(SELECT CASE WHEN s.stadistinct < 0 THEN -1 / s.stadistinct::float8
					ELSE greatest(t.reltuples, 1) / nullif(s.stadistinct, 0)::float8 END
		   FROM pg_catalog.pg_statistic s
		  WHERE s.starelid = a.attrelid AND s.staattnum = a.attnum
		  ORDER BY s.stainherit DESC LIMIT 1) AS rows_a_value,
		t.reltuples AS table_rows,
		EXISTS (SELECT FROM pg_catalog.pg_statistic s
				 WHERE s.starelid = a.attrelid AND s.staattnum = a.attnum) AS analyzed
	  FROM pg_catalog.pg_attribute a
	  JOIN pg_catalog.pg_class t ON t.oid = a.attrelid
	  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
	 WHERE t.relkind IN ('r', 'p', 'm') AND a.attnum > 0 AND NOT a.attisdropped
	   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
						WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = t.oid AND d.deptype = 'e');

COMMENT ON COLUMN @extschema@.dbopt_user_column.analyzed IS 'whether there are statistics of it, as ANALYZE makes them';

--
-- Advice: what version 1.0 got wrong
--

-- What dbopt itself has left is dropped; REINDEX would make it last.
CREATE OR REPLACE FUNCTION @extschema@.dbopt_advice_invalid()
	RETURNS TABLE (index_name text, table_name regclass, finding text, detail text, statement text)
	LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT x.index_name, x.table_oid, 'invalid',
		format('no query uses it, while it takes %s and work at every write: its build failed or was cancelled',
			pg_size_pretty(x.bytes)),
		CASE WHEN x.index_name ~ '^dbopt_(new|old)_|_cc(new|old)[0-9]*$' THEN @extschema@.dbopt_drop_statement(x)
			ELSE format('REINDEX INDEX CONCURRENTLY %s', x.qualified_name) END
	  FROM @extschema@.dbopt_user_index x
	 WHERE NOT x.valid AND NOT x.partitioned
	   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p
						WHERE p.datname = current_database() AND p.relid = x.table_oid AND p.index_relid IN (0, x.index_oid))
	UNION ALL
	SELECT x.index_name, x.table_oid, 'invalid',
		format('no query on the whole table uses it: partition %s lacks its part', t.oid::regclass),
		concat(CASE WHEN y.index_oid IS NULL THEN
			format(E'CREATE %sINDEX %s%s ON %s%s;\n', CASE WHEN x.is_unique THEN 'UNIQUE ' END,
				CASE t.relkind WHEN 'r' THEN 'CONCURRENTLY ' END, quote_ident(p.name), t.oid::regclass, p.definition) END,
			format('ALTER INDEX %s ATTACH PARTITION %s', x.qualified_name,
				coalesce(y.qualified_name, format('%s.%I', t.relnamespace::regnamespace, p.name))))
	  FROM @extschema@.dbopt_user_index x
	  JOIN pg_inherits h ON h.inhparent = x.table_oid
	  JOIN pg_class t ON t.oid = h.inhrelid AND t.relkind IN ('r', 'p')
	  LEFT JOIN @extschema@.dbopt_user_index y ON y.table_oid = t.oid AND y.valid AND NOT y.attached
	   AND (y.method, y.keys, y.directions, y.included, y.predicate, y.uniqueness)
		 = (x.method, x.keys, x.directions, x.included, x.predicate, x.uniqueness)
	 CROSS JOIN LATERAL (
		SELECT left(t.relname, 40) || '_' || x.index_oid AS name,
			substr(pg_get_indexdef(x.index_oid), 1 + length(format('CREATE %sINDEX %I ON ONLY %s',
				CASE WHEN x.is_unique THEN 'UNIQUE ' END, x.index_name, x.table_oid::regclass))) AS definition) p
	 WHERE NOT x.valid AND x.partitioned
	   AND NOT EXISTS (SELECT FROM pg_inherits a JOIN pg_index i ON i.indexrelid = a.inhrelid
						WHERE a.inhparent = x.index_oid AND i.indrelid = t.oid)
	$$;

COMMENT ON FUNCTION @extschema@.dbopt_rebuilt_bytes(regclass) IS
	'how many bytes an index would take if it were built anew, by the statistics of ANALYZE and a sample of the table, as doc/indexes.md says; NULL: it is no index with storage, or is locked, or an expression of it fails';

-- Without statistics an estimate is too rough to call an index bloated.
CREATE OR REPLACE FUNCTION @extschema@.dbopt_advice_bloated()
	RETURNS TABLE (index_name text, table_name regclass, finding text, detail text, statement text)
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT n.relname, i.indrelid, 'bloated',
		format('it takes %s, and built anew about %s%s', pg_size_pretty(s.bytes), pg_size_pretty(coalesce(m.bytes, e.bytes)),
			CASE WHEN m.bytes IS NULL THEN ' (estimated)' ELSE ' (by pgstattuple)' END),
		format('REINDEX INDEX CONCURRENTLY %s', i.indexrelid::regclass)
	  FROM pg_index i
	  JOIN pg_class n ON n.oid = i.indexrelid AND n.relkind = 'i'
	  JOIN pg_am a ON a.oid = n.relam AND a.amname = 'btree'
	 CROSS JOIN LATERAL (SELECT pg_relation_size(i.indexrelid) AS bytes) s
	 CROSS JOIN LATERAL (
		SELECT CASE WHEN s.bytes >= 1048576 AND i.indisvalid THEN @extschema@.dbopt_rebuilt_bytes(i.indexrelid) END AS bytes) e
	 CROSS JOIN LATERAL (
		SELECT CASE WHEN s.bytes > 2 * e.bytes THEN @extschema@.dbopt_measured_bytes(i.indexrelid) END AS bytes) m
	 WHERE EXISTS (SELECT FROM @extschema@.dbopt_user_column c WHERE c.table_oid = i.indrelid AND c.analyzed)
	   AND s.bytes > 2 * e.bytes AND s.bytes > 2 * coalesce(m.bytes, e.bytes)
	$$;

CREATE FUNCTION @extschema@.dbopt_declared_table(table_name text) RETURNS oid
	AS 'MODULE_PATHNAME', 'dbopt_declared_table'
	LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.dbopt_declared_table(text) IS
	'the table that a table_name of dbopt_index means; NULL: there is none';
REVOKE ALL ON FUNCTION @extschema@.dbopt_declared_table(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_declared_table(text) TO pg_monitor;

CREATE OR REPLACE FUNCTION @extschema@.dbopt_slow_queries(top integer DEFAULT 20)
	RETURNS TABLE (queryid bigint, role name, calls bigint, total_ms float8, mean_ms float8, rows bigint,
		tables regclass[], indexes text[], query text)
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT s.queryid, s.role, s.calls, s.total_ms, s.mean_ms, s.rows, t.tables,
		ARRAY(SELECT i.name::text FROM @extschema@.dbopt_index i
			   WHERE @extschema@.dbopt_declared_table(i.table_name) = ANY (t.tables)
			  ORDER BY 1),
		s.query
	  FROM (SELECT * FROM @extschema@.dbopt_statements(false) ORDER BY total_ms DESC LIMIT top) s
	 CROSS JOIN LATERAL (
		SELECT ARRAY(SELECT DISTINCT d::regclass
					   FROM @extschema@.dbopt_statement_columns(s.query) u
					  CROSS JOIN @extschema@.dbopt_named_tables(u.schema_name, u.table_name) d) AS tables) t
	 ORDER BY s.total_ms DESC
	$$;

--
-- Indexes: what they will take
--

CREATE TABLE @extschema@.dbopt_build_rate (
	method text NOT NULL,
	magnitude integer NOT NULL,
	builds bigint NOT NULL,
	factor float8 NOT NULL,
	PRIMARY KEY (method, magnitude)
);
COMMENT ON TABLE @extschema@.dbopt_build_rate IS
	'how much longer builds of indexes have taken on this server than was reckoned, for dbopt_estimate_indexes(); not dumped, since another server has other rates';
COMMENT ON COLUMN @extschema@.dbopt_build_rate.method IS
	'the access method';
COMMENT ON COLUMN @extschema@.dbopt_build_rate.magnitude IS
	'how many digits the number of the tables'' rows has';
COMMENT ON COLUMN @extschema@.dbopt_build_rate.builds IS
	'how many builds have been learned from';
COMMENT ON COLUMN @extschema@.dbopt_build_rate.factor IS
	'the time that the builds took, divided by the reckoned time: a geometric mean in which the newest ones weigh most';

CREATE FUNCTION @extschema@.dbopt_estimate_indexes(
		table_name regclass DEFAULT NULL,
		OUT name text, OUT table_name text, OUT rows bigint,
		OUT estimated_bytes bigint, OUT estimated_time interval, OUT reason text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dbopt_estimate_indexes'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dbopt_estimate_indexes(regclass) IS
	'what the declared indexes that apply would take if they were built now, also those that are there: the rows that each holds, its size, and the time of a concurrent build that waits for no other transaction. By the statistics of ANALYZE, a sample of the table, and the builds of this server so far; doc/indexes.md tells how far it is off. table_name NULL: of all tables. rows, estimated_bytes and estimated_time are NULL where there is no estimate, and reason says why. Nothing is built, and nothing is locked but for reading';
REVOKE ALL ON FUNCTION @extschema@.dbopt_estimate_indexes(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_estimate_indexes(regclass) TO pg_monitor;

--
-- Indexes: what was done for a declaration as it was then
--

ALTER TABLE @extschema@.dbopt_index_state
	ADD COLUMN declaration bigint NOT NULL DEFAULT 0,
	ADD COLUMN table_oid oid NOT NULL DEFAULT 0,
	ADD COLUMN definition text,
	ADD COLUMN began_without boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN @extschema@.dbopt_index_state.declaration IS
	'a hash of the declaration that the last attempt was made for, whose failure counts for that one alone; 0: unknown';
COMMENT ON COLUMN @extschema@.dbopt_index_state.table_oid IS
	'the table that the last attempt was made on; 0: unknown';
COMMENT ON COLUMN @extschema@.dbopt_index_state.definition IS
	'CREATE INDEX as it would make the index that was built, by which it is known after a restore; NULL: unknown';
COMMENT ON COLUMN @extschema@.dbopt_index_state.began_without IS
	'whether an attempt that has not ended began without a valid index of that name: one that is there when its session has gone was built by it';

CREATE FUNCTION @extschema@.dbopt_note_indexes() RETURNS void
	AS 'MODULE_PATHNAME', 'dbopt_note_indexes' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
SELECT @extschema@.dbopt_note_indexes();
DROP FUNCTION @extschema@.dbopt_note_indexes();

--
-- Watching
--

CREATE FUNCTION @extschema@.dbopt_health(
		OUT check_name text, OUT status text, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dbopt_health'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 16;
COMMENT ON FUNCTION @extschema@.dbopt_health() IS
	'how delivery is in this database: a row for each check with its status (healthy, degraded, critical) and the figures or names behind it; the last row, overall, has the worst status. scheduler: critical when it has been missing for 60 s; probation: degraded after a crash, until what may have caused it has run; pool: as in dbopt_pool_stats(); worker_slots: degraded when a session that is needed finds no slot, critical when there is no session at all; paused: degraded when the database or a handler is; breakers: degraded when one is not closed, critical when all are or the one named database; retry_storm: a handler of whose recent attempts 50 per cent (degraded) or 90 per cent (critical) have failed, the last within 60 s; handlers: degraded when a handler or table is not ready, or a handler has no slot (dbopt.max_handlers), critical when no handler or no table is ready; backlog: age of the oldest event that waits or retry that is overdue, degraded from dbopt.health_backlog_age, critical from ten times that; positions: critical in a restored or copied database until dbopt_resume(), and when new events would come before delivered ones; dead_letters: degraded from dbopt.health_dead_letters, critical from a hundred times that; indexes: degraded when a declared one has failed or is invalid; long_transactions: degraded from dbopt.health_transaction_age, critical from ten times that for one that has written; clock: degraded when it has gone back by 5 s, critical by 1 h. No column is ever NULL. Errors: 55000 not preloaded';
REVOKE ALL ON FUNCTION @extschema@.dbopt_health() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_health() TO pg_monitor;

CREATE FUNCTION @extschema@.dbopt_report()
	RETURNS text
	AS 'MODULE_PATHNAME', 'dbopt_report'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dbopt_report() IS
	'one self-contained HTML page about this database, in ASCII: health, the last hour minute by minute, handlers, circuit breakers, pool, declared indexes, dead letters; times in the session''s time zone. Texts of errors only for members of the handler''s role and of pg_read_all_stats. The hour begins anew when the server starts. Errors: 55000 not preloaded';
REVOKE ALL ON FUNCTION @extschema@.dbopt_report() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_report() TO pg_monitor;

COMMENT ON FUNCTION @extschema@.dbopt_pool_events() IS
	'what has happened to this database''s pool sessions since the server started: acquired for a job, released after it, created, destroyed; destroyFail: told to go, and still there after dbopt.shutdown_timeout (at least 1 s), when it is terminated; error: died at work. Errors: 55000 not preloaded';

CREATE FUNCTION @extschema@.dbopt_connection_stats(
		OUT num_used integer, OUT num_free integer,
		OUT num_pending_acquires integer, OUT num_pending_creates integer,
		OUT utilization float8, OUT pool_health text,
		OUT circuit_breaker_state text,
		OUT acquire_wait_mean_ms float8, OUT acquire_wait_p99_ms float8)
	RETURNS record
	AS 'MODULE_PATHNAME', 'dbopt_connection_stats'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dbopt_connection_stats() IS
	'this database''s pool at this moment, under the names that applications know: sessions used and free; jobs and callers that wait for one; sessions that are starting; utilization in per cent of the maximum; health of the pool, as in dbopt_pool_stats(); state of the circuit breaker named database; how long callers have waited for a session since the server started, mean and 99th percentile in milliseconds, NULL when none has been served. Errors: 55000 not preloaded';
REVOKE ALL ON FUNCTION @extschema@.dbopt_connection_stats() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_connection_stats() TO pg_monitor;

CREATE FUNCTION @extschema@.dbopt_test_connection() RETURNS boolean
	AS 'MODULE_PATHNAME', 'dbopt_test_connection'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dbopt_test_connection() IS
	'whether a pool session of the caller''s role answers, within dbopt.pool_acquire_timeout; when it does not, a NOTICE tells why. Never NULL. Errors: 55000 not preloaded, 57014 cancelled';
REVOKE ALL ON FUNCTION @extschema@.dbopt_test_connection() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_test_connection() TO pg_monitor;

CREATE FUNCTION @extschema@.dbopt_metrics(
		OUT name text, OUT kind text, OUT labels jsonb, OUT value float8)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'dbopt_metrics'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 500;
COMMENT ON FUNCTION @extschema@.dbopt_metrics() IS
	'what is measured in this database, read from shared memory: counters (since dbopt_reset_stats(), those of pool and breakers since the server started), gauges and histograms. A histogram is several rows, whose names end in .bucket (cumulative, the label le is the upper bound), .sum and .count; its unit is seconds. labels: environment, datname, and handler, event or le. No column is ever NULL. Errors: 55000 not preloaded';
REVOKE ALL ON FUNCTION @extschema@.dbopt_metrics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_metrics() TO pg_monitor;

CREATE FUNCTION @extschema@.dbopt_prometheus() RETURNS text
	AS 'MODULE_PATHNAME', 'dbopt_prometheus'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.dbopt_prometheus() IS
	'dbopt_metrics() in the text format of Prometheus: dots in names are underscores, counters end in _total. The format is UTF-8: set client_encoding so. Never NULL. Errors: 55000 not preloaded';
REVOKE ALL ON FUNCTION @extschema@.dbopt_prometheus() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.dbopt_prometheus() TO pg_monitor;

--
-- Comments that tell all errors
--

COMMENT ON FUNCTION @extschema@.dbopt_create_events(text, boolean) IS
	'creates a table for events, owned by the caller, and attaches it; name is an identifier, with schema or quotes where needed; mark_processed: with the columns processed, processed_at, retry_count and error_message, which dbopt keeps up to date; errors: 42P07 the name is taken, 42601, 42602, 3F000 and 0A000 it is no name, or of no schema of this database, 42809 the table would be temporary, 42501 the caller may not create it, 22004 an argument is NULL, 55000 a restored database before dbopt_resume()';

COMMENT ON FUNCTION @extschema@.dbopt_attach_events(regclass, name) IS
	'makes a table of the caller a source of events: adds the column log_position, two triggers and the log index, under a lock_timeout of 3 s unless one is set; key_column NULL: the primary key, which must have one column; rows that are there already are at the beginning of the log; on a large table the index is left to be built, and the view dbopt_sources tells how; errors: 42501 not the owner, 42809 not a table that can be attached, 42710 attached already, or another trigger has the name, 42703, 42804, 42P16 and 0A000 a column or key is missing, of a wrong type or generated, 22023 key_column is not the primary key, 23505 two rows have the same key, 22004 events is NULL, 55P03 somebody else has it locked, 55000 row level security is forced on its owner, its log_position is not of this database, or a restored database before dbopt_resume()';

COMMENT ON FUNCTION @extschema@.dbopt_detach_events(regclass) IS
	'undoes dbopt_attach_events(): removes triggers and log index, and forgets how far events were delivered; the column log_position stays, and can be dropped; errors: 42501 not the owner, 42704 not attached, 42809 not a table, 2BP01 handlers are still registered on it, 22004 events is NULL, 55000 a restored database before dbopt_resume(), 55P03 somebody else has it locked';

COMMENT ON FUNCTION @extschema@.dbopt_register_handler(text, text, regprocedure, regclass, text, int, int, interval, int, text, boolean, regrole, boolean) IS
	'has a function called for every event of a type; event_type: exact, or ending in *; handler: a function of one row of the events table, an array of its rows, or jsonb; events NULL: the only attached table; max_concurrency NULL: no limit but the pool''s; chunk_size in events, NULL: dbopt.chunk_size; timeout for one call, NULL: none; start_from: now or beginning, NULL: beginning on a mark_processed table, where it counts for types that no handler has had yet, else now; run_as NULL: the caller; replace: change the handler of this name, which keeps its place in the log, retries and statistics, and ignores start_from; errors: 22004 a required argument is NULL, 22023 a value is out of range, 42622 and 42939 the name is too long or reserved, 42710 the name or pattern is taken, 42704 no such policy, 42P08 events is NULL and several tables are attached, 42809 and 42P13 not a function that can handle these events, 42703 and 42804 ordered, and a column is missing or of a wrong type, 42501 a right is missing, 55000 not preloaded, the table is not attached, replace for a handler of another table, the role cannot log in, or a restored database before dbopt_resume()';

COMMENT ON FUNCTION @extschema@.dbopt_unregister_handler(text, boolean) IS
	'removes a handler with its place in the log; discard: also while it has retries waiting, dead letters or events in flight, which are given up; waits for a chunk that is running; errors: 42704 no such handler, 42501 not a member of its role nor owner of its table, 55000 something is pending and discard is not set, 55006 it was called by the handler itself, 22004 name is NULL, 25001 not READ COMMITTED';

COMMENT ON FUNCTION @extschema@.dbopt_pause_handler(text) IS
	'hands out nothing more to a handler, until dbopt_resume_handler(); what is running ends; errors: 42704 no such handler, 42501 not a member of its role nor owner of its table, 22004 name is NULL';

COMMENT ON FUNCTION @extschema@.dbopt_resume_handler(text) IS
	'ends dbopt_pause_handler(): the handler goes on where it stopped; one that is broken is tried again; errors: 42704, 42501 and 22004 as there';

COMMENT ON FUNCTION @extschema@.dbopt_replay(text, timestamptz) IS
	'delivers again from the first event on whose created_at (or event_timestamp, where there is no created_at) is not before since, in log order; a column without time zone is taken in the session''s; retries and dead letters from there on are forgotten; returns how many events it has had already and gets again; errors: 42704 no such handler, 42501 not a member of its role nor owner of its table, 42703 no such column, 55000 a mark_processed table, events in flight, or a restored database before dbopt_resume(), 25001 not READ COMMITTED, 22004 an argument is NULL';

COMMENT ON FUNCTION @extschema@.dbopt_drain(interval) IS
	'waits until every event that was committed before the call is delivered, waits as a dead letter, or is held back because its handler, table or database is paused or broken; waits for retries, too; returns false when the timeout is over, or a retry is due only after it; errors: 55000 not preloaded, or called by a handler, 25001 not READ COMMITTED, or the transaction itself has written events or changed handlers, 22004 timeout is NULL, 21000 two events that wait have the same key and log position';

COMMENT ON FUNCTION @extschema@.dbopt_pause() IS
	'hands out nothing more in this database, until dbopt_resume(); what is running ends; errors: 55000 a restored database before dbopt_resume()';

COMMENT ON FUNCTION @extschema@.dbopt_with_connection(text, text[]) IS
	'runs SQL in a pool session of the caller''s role, in a transaction of its own that commits or fails by itself; each row of the last statement''s result is one jsonb object, statements without a result give none; params are bound to $1, $2, ..., and get their types from where they stand; errors are those of the statement, and: 2D000 transaction control, 22004 NULL, 22023 empty, 0A000 COPY with the client, 42P02 another number of parameters, 42601 parameters for several statements, 53300 no session in time, with the reason, 57P03 the circuit breaker database is open, 08006 the session has gone, 40P01 it waits for its own caller, 42501 in a security-restricted operation, 25000 in a parallel one, 55000 not preloaded, in recovery, or the role cannot log in';

COMMENT ON SEQUENCE @extschema@.dbopt_source_source_id_seq IS 'ids of attached tables';
COMMENT ON SEQUENCE @extschema@.dbopt_handler_handler_id_seq IS 'ids of handlers';
COMMENT ON SEQUENCE @extschema@.dbopt_cursor_cursor_id_seq IS 'ids of cursors';

COMMENT ON COLUMN @extschema@.dbopt_handlers.policy IS
	'the name of its retry policy; where there is none of that name, the policy event counts';

COMMENT ON FUNCTION @extschema@.dbopt_pool_sessions() IS
	'this database''s pool sessions: pid (NULL until it has started), role (NULL when it was dropped), state (starting, idle, busy, stopping), job (deliver: new events; leftover: a chunk that another session has left; retry; suspects: of a crash; index and log index: a build; sql: of a caller) and handler, both NULL unless busy; builds and callers have no handler; since: start of the state; jobs_done: jobs finished. Errors: 55000 not preloaded';

--
-- What only dbopt reads and writes.  There are no policies: nobody but the
-- owner reaches a row, also where GRANT ... ON ALL TABLES gave the right to.
--

ALTER TABLE @extschema@.dbopt_database ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_source ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_handler ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_cursor ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_cursor_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_retry_queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_dead_letter ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_ordered ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_index_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.dbopt_build_rate ENABLE ROW LEVEL SECURITY;

--
-- Dump and restore
--

-- Until dbopt_resume() the OID in a restored row is that of another role.
CREATE OR REPLACE VIEW @extschema@.dbopt_pending_retries WITH (security_barrier) AS
	SELECT h.name AS handler, r.event_key AS event_id, r.event_type,
		r.attempts, r.next_retry_at,
		CASE WHEN v.visible THEN r.error_code END AS error_code,
		CASE WHEN v.visible THEN r.error_message END AS error_message
	FROM @extschema@.dbopt_retry_queue r
		JOIN @extschema@.dbopt_handler h USING (handler_id),
		LATERAL (SELECT (pg_catalog.pg_has_role(h.role_oid, 'USAGE') AND pg_catalog.pg_get_userbyid(h.role_oid) = h.role_name)
			OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS visible) v;

CREATE OR REPLACE VIEW @extschema@.dbopt_dead_letters WITH (security_barrier) AS
	SELECT h.name AS handler, d.event_key AS event_id, d.event_type,
		d.attempts,
		CASE WHEN v.visible THEN d.error_code END AS error_code,
		CASE WHEN v.visible THEN d.error_message END AS error_message,
		d.first_failed_at, d.failed_at
	FROM @extschema@.dbopt_dead_letter d
		JOIN @extschema@.dbopt_handler h USING (handler_id),
		LATERAL (SELECT (pg_catalog.pg_has_role(h.role_oid, 'USAGE') AND pg_catalog.pg_get_userbyid(h.role_oid) = h.role_name)
			OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS visible) v;

-- A dump may be restored over the database that it was made of.  The default
-- gives the row that is there its value, for older snapshots as well.
ALTER TABLE @extschema@.dbopt_database
	ADD COLUMN table_oid oid DEFAULT '@extschema@.dbopt_database'::regclass::oid;
ALTER TABLE @extschema@.dbopt_database ALTER COLUMN table_oid DROP DEFAULT;
COMMENT ON COLUMN @extschema@.dbopt_database.table_oid IS
	'the OID of this table where the row was written; another one in a database that was restored over itself';

-- pg_restore --jobs loads the tables of an extension in any order.
ALTER TABLE @extschema@.dbopt_handler DROP CONSTRAINT dbopt_handler_source_id_fkey;
