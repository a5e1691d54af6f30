#!/bin/bash
# How long writers wait while indexes are built: by nobody, by dbopt, and by a
# plain CREATE INDEX for contrast; in a throw-away server with real commits.
#
# usage: writers.sh
#
# ROWS (2,000,000) are in the table, CLIENTS (4) write to it, RATE (200)
# transactions a second, for DURATION seconds (120), in which all builds must be
# done.  What a transaction takes counts from when it was due.  Each transaction inserts a row and updates one of the client's own.
set -uo pipefail

# shellcheck source=test/tools/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tools/server.sh"

rows=${ROWS:-2000000} clients=${CLIENTS:-4} rate=${RATE:-200} duration=${DURATION:-120}

sql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 -d bench -c "$1" 2>>"$logs/psql.log" || { tail "$logs/psql.log"; fatal "$1"; }
}

indexes="
	('things_id', '(id)'),
	('things_name', '(lower(name))'),
	('things_kind', '(kind, created DESC) INCLUDE (id) WHERE kind <> ''gone'''),
	('things_trgm', 'USING gin (name public.gin_trgm_ops)')"

start_server() {
	server_prepare
	give_to_tester
	server_install ''
	server_start 'fsync = on' 'wal_level = replica' 'shared_buffers = 1GB' 'max_wal_size = 16GB' 'checkpoint_timeout = 1h'
	psql -X -q -c 'CREATE DATABASE bench'
	sql 'CREATE EXTENSION dbopt CASCADE' >/dev/null
	sql "CREATE TABLE declared (name text, definition text); INSERT INTO declared VALUES $indexes"
	cat >"$work/write.sql" <<-SQL
		\\set id 1 + :client_id + $clients * random(0, $rows / $clients - 1)
		BEGIN;
		INSERT INTO things VALUES ($rows + 1, 'new thing', 'new', now(), 0);
		UPDATE things SET n = n + 1 WHERE id = :id;
		COMMIT;
	SQL
}

# A table anew, with an index that the updates go by.
fill() {
	sql 'DROP TABLE IF EXISTS things'
	sql 'CREATE TABLE things (id bigint, name text, kind text, created timestamptz, n int) WITH (fillfactor = 90)'
	sql "INSERT INTO things SELECT i, initcap(md5((i % 5000)::text)), (ARRAY['new', 'old', 'gone'])[1 + i % 3],
		now() - i * interval '1 s', 0 FROM generate_series(1, $rows) i"
	sql 'CREATE INDEX found ON things (id)'
	sql 'VACUUM ANALYZE things'
	sql 'CHECKPOINT'
}

build_nothing() {
	true
}

build_dbopt() {
	sql "DELETE FROM dbopt_index WHERE table_name = 'things'"
	sql "INSERT INTO dbopt_index (name, table_name, definition) SELECT name, 'things', definition FROM declared"
	sql "CALL dbopt_ensure_indexes('things', true)"
}

build_plain() {
	local statement

	while read -r statement; do
		sql "$statement"
	done < <(sql "SELECT format('CREATE INDEX %I ON things %s', name, definition) FROM declared")
}

# measure NAME: writers for the whole time, and the builds a second after they
# began; what each transaction took is in microseconds in pgbench's logs.
measure() {
	local started ended seconds built

	fill
	rm -f "$work"/pgbench_log.*
	(cd "$work" && exec pgbench -n -c "$clients" -j 2 -R "$rate" -T "$duration" -l -f "$work/write.sql" bench) \
		>"$logs/pgbench.log" 2>&1 &
	child=$!
	sleep 1
	started=$(date +%s.%N)
	"build_$1"
	ended=$(date +%s.%N)
	seconds=$(awk -v a="$started" -v b="$ended" 'BEGIN { print b - a }')
	kill -0 "$child" 2>/dev/null || fatal "the builds took $seconds s, longer than the writers: raise DURATION"
	wait "$child" || { tail "$logs/pgbench.log"; fatal "pgbench failed"; }
	child=''
	built=$(sql "SELECT count(*) FROM pg_index WHERE indrelid = 'things'::regclass AND indisvalid")
	[ "$1" = nothing ] || [ "$built" = 5 ] || fatal "only $((built - 1)) indexes were built"
	cat "$work"/pgbench_log.* | awk '{ print $3 }' | sort -n | awk -v name="$1" -v seconds="$seconds" '
		{ took[NR] = $1 / 1000; sum += $1 / 1000 }
		END {
			printf "%-10s %8.1f %8d %8.2f %8.1f %8.1f %9.1f\n", name, seconds, NR, sum / NR,
				took[int(NR * 0.99) + 1], took[int(NR * 0.999) + 1], took[NR]
		}'
}

start_server
printf '%-10s %8s %8s %8s %8s %8s %9s\n' build seconds writes mean_ms p99_ms p999_ms longest_ms
for name in nothing dbopt plain; do
	measure $name
done
