#!/bin/bash
# Measures dbopt beside the job queues that a user would pick instead, in one
# throw-away server with real commits, and prints a table.
#
# usage: compare.sh     (ROUNDS=5)
#
# Each round measures every one of them with a handler that does nothing.  The
# others come as packages (npm, Debian) into the temporary directory, but for
# PgQ, which is installed: all it takes is network, root rights and npm.
set -uo pipefail

# shellcheck source=test/tools/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tools/server.sh"

rounds=${ROUNDS:-5}
npm_packages=(node@22 graphile-worker@0.18.0 pg-boss@12.38.0 pg@8)

# sql STATEMENT...: each in a transaction of its own; prints bare values.
sql() {
	local statement args=()

	for statement in "$@"; do
		args+=(-c "$statement")
	done
	psql -X -q -A -t -v ON_ERROR_STOP=1 "${args[@]}" 2>>"$logs/psql.log" | sed '/^$/d'
}

# record WHAT EVENTS-A-SECOND
record() {
	[ -n "$2" ] || { tail -n 25 "$logs/psql.log" >&2; fatal "\"$1\" gave no figure"; }
	printf '%s|%s\n' "$1" "$2" >>"$work/results"
}

node() {
	"$work/npm/node_modules/.bin/node" "$work/npm/$1" "${@:2}" 2>>"$logs/psql.log" | tail -n 1
}

install_queues() {
	local major

	major=$("$pg_config" --version | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
	[ -e "$("$pg_config" --sharedir)/extension/pgq.control" ] ||
		apt-get install -y -q "postgresql-$major-pgq3" >"$work/apt.log" 2>&1 || fatal "PgQ could not be installed"
	mkdir "$work/npm"
	cp "$tree"/test/bench/compare/*.mjs "$work/npm/"
	(cd "$work/npm" && npm init -y && npm install --no-audit --no-fund "${npm_packages[@]}") \
		>"$work/npm.log" 2>&1 || { tail -n 20 "$work/npm.log" >&2; fatal "the npm packages could not be installed"; }
}

start_server() {
	server_install ''
	give_to_tester
	server_start 'fsync = on' 'shared_buffers = 1GB' 'max_wal_size = 16GB' 'checkpoint_timeout = 1h' 'jit = off' \
		'dbopt.pool_min = 4' 'dbopt.pool_max = 8'
	export PGDATABASE=bench
	{
		psql -X -q -d postgres -c 'CREATE DATABASE bench' &&
			psql -X -q -v ON_ERROR_STOP=1 -f test/bench/schema.sql &&
			psql -X -q -v ON_ERROR_STOP=1 -f test/bench/compare/queues.sql
	} >/dev/null || fatal "the database could not be set up"
	sql "SELECT dbopt_drain('30 s')" | grep -qx t || fatal "dbopt is not running"
}

# ---- what is measured ----------------------------------------------------

measure_dbopt() {
	sql 'TRUNCATE bench.log, bench.marked' "SELECT bench.fill('bench.log', 200000)" \
		"SELECT bench.fill('bench.marked', 100000)" CHECKPOINT >/dev/null
	record 'dbopt, plain log, 1 session' "$(sql "CALL bench.deliver('bench.noop(bench.log)', 'bench.log', 200000, 1)")"
	record 'dbopt, plain log, 2 sessions' "$(sql "CALL bench.deliver('bench.noop(bench.log)', 'bench.log', 200000, 2)")"
	record 'dbopt, mark_processed with 7 indexes, 1 session' \
		"$(sql "CALL bench.deliver('bench.noop(bench.marked)', 'bench.marked', 100000, 1)")"
}

measure_graphile() {
	local processes

	for processes in 1 2; do
		sql "SELECT graphile_worker.add_jobs(array_agg(json_populate_record(NULL::graphile_worker.job_spec,
			'{\"identifier\": \"noop\", \"payload\": {\"n\": 1}}'))) FROM generate_series(1, 50000)" CHECKPOINT >/dev/null
		record "graphile-worker, $processes process(es)" "$(node graphile.mjs 50000 $processes)"
	done
}

measure_pgboss() {
	local processes

	for processes in 1 2; do
		record "pg-boss, batches of 1,000, $processes process(es)" "$(node pgboss.mjs 30000 $processes)"
	done
}

measure_pgq() {
	record 'PgQ, guarded call, ticks of 500' "$(sql 'CALL compare.pgq(50000, 500)')"
	record 'PgQ, guarded call, ticks of 50,000' "$(sql 'CALL compare.pgq(100000, 50000)')"
}

measure_loop() {
	sql 'TRUNCATE compare.events' "SELECT bench.fill('compare.events', 20000)" 'ANALYZE compare.events' CHECKPOINT >/dev/null
	record 'SKIP LOCKED loop in PL/pgSQL, guarded call' "$(sql 'CALL compare.skip_locked(20000)')"
}

# ---- main ----------------------------------------------------------------

[ ! -e ~/.npmrc ] || export NPM_CONFIG_USERCONFIG=~/.npmrc # HOME will be another
server_prepare
install_queues
start_server
node graphile.mjs 0 1 >/dev/null # creates its schema
: >"$work/results"
for ((round = 1; round <= rounds; round++)); do
	printf ' %d' "$round" >&2
	for queue in dbopt graphile pgboss pgq loop; do
		"measure_$queue"
	done
done
printf '\n' >&2
psql -X -q -d bench -c 'CREATE TEMP TABLE result (what text, rate float8)' \
	-c "\\copy result FROM '$work/results' WITH (DELIMITER '|')" \
	-c "SELECT what, to_char(percentile_cont(0.5) WITHIN GROUP (ORDER BY rate), 'FM999,999,999') AS \"events/s\",
			round((percentile_cont(0.5) WITHIN GROUP (ORDER BY rate) / max(percentile_cont(0.5) WITHIN GROUP (ORDER BY rate))
				FILTER (WHERE what LIKE 'graphile-worker%') OVER ())::numeric, 2) AS \"to graphile-worker's best\"
		FROM result GROUP BY what ORDER BY min(rate) DESC"
