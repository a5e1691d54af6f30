#!/bin/bash
# Measures dbopt with many handlers, event types and waiting events: how fast
# it starts, and that its processes' memory stays flat.  Prints a table.
#
# usage: scale.sh
#
# HANDLERS (1000), TYPES (10000) and EVENTS (1000000) say how many, SESSIONS (2)
# how many deliver.  Works in a throw-away server, without assertions.
set -uo pipefail

# shellcheck source=test/tools/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tools/server.sh"

handlers=${HANDLERS:-1000}
types=${TYPES:-10000}
events=${EVENTS:-1000000}
sessions=${SESSIONS:-2}

sql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 -d postgres -c "$1" || fatal "failed: $1"
}

# The processes of a type, by number.
pids() {
	sql "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dbopt $1'"
}

# The largest private memory of a process of a type now, in MB: what it has
# allocated itself, not its part of the shared memory.
memory() {
	local pid

	for pid in $(pids "$1"); do
		awk '/^RssAnon/ { print $2 / 1024 }' "/proc/$pid/status"
	done | sort -n | tail -n 1
}

now() {
	date +%s.%N
}

since() {
	awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'
}

# Waits until a query gives true.
await() {
	local tries=0

	until [ "$(sql "$1")" = t ]; do
		tries=$((tries + 1))
		[ $tries -lt 20000 ] || fatal "waited too long for: $1"
		[ -z "${2:-}" ] || "$2"
	done
}

line() {
	printf '%-58s %12s\n' "$1" "$2"
}

# Notes the highest memory seen while events are delivered.
peak_scheduler=0 peak_session=0
sample() {
	local value

	value=$(memory scheduler)
	peak_scheduler=$(awk -v a="$peak_scheduler" -v b="${value:-0}" 'BEGIN { print (b > a ? b : a) }')
	value=$(memory session)
	peak_session=$(awk -v a="$peak_session" -v b="${value:-0}" 'BEGIN { print (b > a ? b : a) }')
}

server_prepare
server_install ''
server_start "dbopt.max_handlers = $((handlers + 10))" \
	"dbopt.pool_max = $sessions" "dbopt.pool_min = $sessions" "max_wal_size = '4GB'" "shared_buffers = '256MB'" "autovacuum = off"

# Each handler has its share of the event types, by the beginning of their names.
sql "CREATE EXTENSION dbopt CASCADE"
sql "SELECT dbopt_pause()"
sql "CREATE TABLE log (id bigint PRIMARY KEY, event_type text NOT NULL)"
sql "CREATE FUNCTION handle(log) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'"
sql "SET dbopt.index_inline_pages = 1000000; SELECT dbopt_attach_events('log')" >/dev/null
sql "INSERT INTO log SELECT n, 'H' || n % $handlers || '.' || n % $types FROM generate_series(1, $events) n"
started=$(now)
sql "SELECT count(dbopt_register_handler('h' || n, 'H' || n || '.*', 'handle(log)', start_from => 'beginning')) FROM generate_series(0, $handlers - 1) n" >/dev/null
line "$handlers handlers registered, s" "$(since "$started")"
sql 'VACUUM ANALYZE log'
server_stop || fatal 'the server did not stop'
server_restart() {
	run "${tester[@]}" "$bindir/pg_ctl" -w -D "$work/data" -l "$logs/server.log" start >/dev/null || fatal 'the server did not start'
}

server_restart
await "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler'"
sample
line 'memory of the scheduler, paused, MB' "$peak_scheduler"
started=$(now)
sql 'SELECT dbopt_resume()'
await "SELECT sum(successes) > 0 FROM dbopt_retry_stats()"
line "first of $events events in $types types delivered after, s" "$(since "$started")"
await "SELECT sum(successes) >= $events * 0.1 FROM dbopt_retry_stats()" sample
line 'memory of the scheduler, 10% delivered, MB' "$(memory scheduler)"
line 'memory of a session, 10% delivered, MB' "$(memory session)"
await "SELECT sum(successes) >= $events FROM dbopt_retry_stats()" sample
line 'all delivered after, s' "$(since "$started")"
line 'memory of the scheduler, all delivered, MB' "$(memory scheduler)"
line 'memory of a session, all delivered, MB' "$(memory session)"
line 'memory of the scheduler, highest, MB' "$peak_scheduler"
line 'memory of a session, highest, MB' "$peak_session"
line 'cursors' "$(sql 'SELECT count(*) FROM dbopt_cursor')"

server_stop || fatal 'the server did not stop'
server_restart
started=$(now)
sql "INSERT INTO log VALUES (0, 'H1.1')"
await "SELECT sum(successes) > $events FROM dbopt_retry_stats()"
line 'restarted with nothing waiting: an event delivered after, s' "$(since "$started")"
sql "SELECT dbopt_drain('5min')" >/dev/null
scheduler=$(pids scheduler)
before=$(awk '{ print $14 + $15 }' "/proc/$scheduler/stat")
sql "SELECT count(*) FROM (SELECT dbopt_pause_handler('h5'), dbopt_resume_handler('h5')) x" >/dev/null
sql "SELECT dbopt_drain('5min')" >/dev/null
after=$(awk '{ print $14 + $15 }' "/proc/$scheduler/stat")
line "CPU of the scheduler for a changed handler, ms" "$(((after - before) * 10))"
started=$(now)
sql "BEGIN; UPDATE dbopt_database SET database_oid = 1; SELECT dbopt_resume(); COMMIT" >/dev/null
line 'taken over as after a restore, s' "$(since "$started")"
server_stop || fatal 'the server did not stop'
