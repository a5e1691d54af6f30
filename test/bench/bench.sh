#!/bin/bash
# Measures dbopt in a throw-away server with real commits, and prints a table.
#
# usage: bench.sh [PART]...    (default: all, or what BENCH names)
#
# The parts are the names of the functions lines_... below.  ROUNDS (5) is how
# often each is measured; the table shows medians.  Every figure stands beside
# a reference measured in the same round.  Ends with status 1 if a part failed,
# whose figures are n/a; a goal that is missed is no failure.
set -uo pipefail

# shellcheck source=test/tools/server.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tools/server.sh"

rounds=${ROUNDS:-5}
failures=0
all_parts=(throughput marked failing latency types inserts pinned behind pooled counting idle memory scrape)
read -r -a parts <<<"${*:-${BENCH:-${all_parts[*]}}}"

# ---- tools ---------------------------------------------------------------

# sql STATEMENT...: each in a transaction of its own; prints bare values, and
# nothing for void.
sql() {
	local statement args=()

	for statement in "$@"; do
		args+=(-c "$statement")
	done
	psql -X -q -A -t -F ' ' -v ON_ERROR_STOP=1 -d bench "${args[@]}" 2>>"$logs/psql.log" | sed '/^$/d'
}

# record KEY REFERENCE VALUE: one round's result.
record() {
	printf '%s|%s|%s\n' "$1" "$2" "$3" >>"$work/results"
}

divide() {
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.6f\n", a / b }'
}

# deliver HANDLER TABLE EVENTS SESSIONS [CHUNK [ROLE]]: events a second.
deliver() {
	sql "CALL bench.deliver('bench.$1(bench.$2)', 'bench.$2', $3, $4, ${5:-NULL}, '${6:-bench}')"
}

# fill TABLE EVENTS: anew, after a checkpoint, so that none has to come while
# something is measured.
fill() {
	sql "TRUNCATE bench.$1" CHECKPOINT "SELECT bench.fill('bench.$1', $2)"
}

# The processes of the server whose title has a pattern in it.
server_pids() {
	local pid

	for pid in $(ps -o pid= --ppid "$(head -n 1 "$work/data/postmaster.pid")"); do
		! { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q "$1" || echo "$pid"
	done
}

# ---- throughput ----------------------------------------------------------

lines_throughput() {
	cat <<-'END'
		throughput_1|plain log, 1 session, to SELECT count(handler(e))|events/s|ratio >= 0.6
		throughput_2|plain log, 2 sessions|events/s|
		throughput_4|plain log, 4 sessions|events/s|
	END
}

setup_throughput() {
	sql "SELECT bench.fill('bench.log', 200000)"
}

round_throughput() {
	local reference value sessions

	reference=$(sql "CALL bench.run('SELECT count(bench.noop(e)) FROM bench.log e', 200000)") || return
	for sessions in 1 2 4; do
		value=$(deliver noop log 200000 $sessions) || return
		record throughput_$sessions "$reference" "$value"
	done
}

lines_marked() {
	echo 'marked|mark_processed, 1 session, to UPDATE ... SET processed|events/s|ratio >= 0.8'
}

round_marked() {
	local reference value update

	update='UPDATE bench.marked SET processed = true, processed_at = clock_timestamp(), retry_count = 0,
		error_message = NULL WHERE NOT processed'
	fill marked 200000 || return
	reference=$(sql "CALL bench.run('$update', 200000)") || return
	fill marked 200000 || return
	value=$(deliver noop marked 200000 1) || return
	record marked "$reference" "$value"
}

lines_failing() {
	echo 'failing|every event fails once, 1 session, to no failure|events/s|value >= 50000'
}

setup_failing() {
	sql "SELECT bench.fill('bench.failing', 100000)"
}

round_failing() {
	local reference value failed

	reference=$(deliver noop failing 100000 1) || return
	sql 'ALTER SEQUENCE bench.failed RESTART' \
		"CALL bench.register('failing', 'bench.fail_once(bench.failing)', 'bench.failing', 1, policy => 'bench')" || return
	value=$(sql "CALL bench.go('failing', 100000)") || return
	failed=$(sql "SELECT failures FROM dbopt_retry_stats() WHERE handler = 'failing'")
	sql "CALL bench.unregister('failing')" || return
	[ "$failed" -ge 99000 ] || { echo "only $failed events failed" >>"$logs/psql.log"; return 1; }
	record failing "$reference" "$value"
}

# ---- latency -------------------------------------------------------------

# latency TABLE TYPES: at 100 inserts a second for 10 s; p50, p95, p99, and p50
# from the commit record on.
latency() {
	sql 'CALL bench.forget_latency()' "CALL bench.write('bench.$1', 1000, $2)" "CALL bench.latency('bench.$1')"
}

# The same of a client that is told by NOTIFY.
notified_latency() {
	local listener

	{
		coproc perl "$tree/test/bench/listen.pl" 2>>"$logs/psql.log"
	} 2>/dev/null
	listener=$COPROC_PID
	read -r -t 10 -u "${COPROC[0]}" || return
	latency notified 1
	kill "$listener" 2>/dev/null
	wait "$listener" 2>/dev/null
	true
}

# record_latency PREFIX REFERENCES VALUES: the four quantiles of each.
record_latency() {
	local references values names=(p50 p95 p99 flush) i

	read -r -a references <<<"$2"
	read -r -a values <<<"$3"
	[ ${#references[@]} = 4 ] && [ ${#values[@]} = 4 ] || return
	for i in 0 1 2 3; do
		record "$1_${names[i]}" "${references[i]}" "${values[i]}"
	done
}

# start_noting TABLE TYPES: registers the handler and warms it up.
start_noting() {
	sql "SELECT dbopt_register_handler('$1', '*', 'bench.note(bench.$1)', 'bench.$1', start_from => 'now', run_as => 'bench')" \
		"SELECT bench.fill('bench.$1', $2, $2)" "SELECT dbopt_drain('1 min')" | grep -qx t
}

lines_latency() {
	cat <<-'END'
		latency_p50|end of COMMIT to handler, p50, to LISTEN/NOTIFY client|ms|value <= 0.5
		latency_p95|p95|ms|
		latency_p99|p99|ms|value <= 2
		latency_flush|p50 from the commit record, which is flushed then|ms|
	END
}

setup_latency() {
	start_noting latency 1
}

round_latency() {
	local references values

	references=$(notified_latency) || return
	values=$(latency latency 1) || return
	record_latency latency "$references" "$values"
}

lines_types() {
	cat <<-'END'
		types_p50|1,000 event types, handler for *: p50, to LISTEN/NOTIFY|ms|value <= 0.5
		types_p95|p95|ms|
		types_p99|p99|ms|value <= 2
	END
}

setup_types() {
	start_noting types 1000
}

round_types() {
	local references values

	references=$(notified_latency) || return
	values=$(latency types 1000) || return
	record_latency types "$references" "$values"
}

# ---- inserts -------------------------------------------------------------

lines_inserts() {
	cat <<-'END'
		insert_async|insert, only a primary key, synchronous_commit off|us|ratio <= 1.10
		insert_usual_async|insert, the usual 7 indexes, synchronous_commit off|us|ratio <= 1.10
		insert_usual|insert, the usual 7 indexes|us|ratio <= 1.10
		insert_handler|insert, the usual 7 indexes, a handler at work|us|
	END
}

setup_inserts() {
	local table

	for table in inserts inserts_plain marked marked_plain; do
		cat >"$work/$table.sql" <<-SQL
			INSERT INTO bench.$table (event_type, aggregate_type, aggregate_id, data, user_id, organization_id, correlation_id)
			VALUES ('THING.CHANGED', 'thing', '00000000-0000-4000-8000-000000000001', '{"n": 1, "state": "changed"}',
				'00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000003', 'c');
		SQL
	done
	sql "SELECT bench.fill('bench.marked_plain', 50000)"
	fill marked 50000
}

# insert_time TABLE SETTING: microseconds of one insert by one client.
insert_time() {
	local rate

	rate=$(PGOPTIONS="-c synchronous_commit=$2" pgbench -n -M prepared -T 1 -f "$work/$1.sql" bench 2>>"$logs/psql.log" |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p')
	[ -n "$rate" ] && divide 1000000 "$rate"
}

# record_inserts KEY REFERENCE-TABLE TABLE SETTING: in turns, since the disk's
# speed changes from one second to the next.
record_inserts() {
	local reference value

	for _ in 1 2 3 4; do
		reference=$(insert_time "$2" "$4") && value=$(insert_time "$3" "$4") || return
		record "$1" "$reference" "$value"
	done
}

round_inserts() {
	record_inserts insert_async inserts_plain inserts off &&
		record_inserts insert_usual_async marked_plain marked off &&
		record_inserts insert_usual marked_plain marked on || return
	sql "SELECT dbopt_register_handler('inserts', '*', 'bench.noop(bench.marked)', 'bench.marked', run_as => 'bench')" \
		"SELECT dbopt_drain('1 min')" >/dev/null
	record_inserts insert_handler marked_plain marked on
	sql "CALL bench.unregister('inserts')"
}

# ---- a held horizon, a long history --------------------------------------

lines_pinned() {
	cat <<-'END'
		pinned_single|horizon pinned, 100,000 hand-outs with chunk_size 1, to not pinned|events/s|ratio >= 0.95
		pinned_after|plain log after that, horizon still pinned|events/s|ratio >= 0.95
	END
}

# pinned_rates: 100,000 events one by one, then 200,000 with the usual chunks.
pinned_rates() {
	fill pinned 100000 &&
		sql "CALL bench.register('pinned', 'bench.noop(bench.pinned)', 'bench.pinned', 1, 1, 'bench_async')" \
			"CALL bench.go('pinned', 100000)" \
			"SELECT dbopt_pause_handler('pinned')" \
			"SELECT dbopt_register_handler('pinned', '*', 'bench.noop(bench.pinned)', 'bench.pinned', max_concurrency => 1,
				run_as => 'bench_async', replace => true)" \
			"SELECT bench.fill('bench.pinned', 200000)" \
			"CALL bench.go('pinned', 200000)" \
			"CALL bench.unregister('pinned')" | tr '\n' ' '
}

vacuum_queue() {
	sql 'VACUUM dbopt_cursor_version' 'VACUUM dbopt_chunk' 'VACUUM dbopt_retry_queue'
}

round_pinned() {
	local free pinned

	vacuum_queue
	free=$(pinned_rates) || return
	vacuum_queue
	sql "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'pin'" >/dev/null || return
	pinned=$(pinned_rates)
	sql "ROLLBACK PREPARED 'pin'"
	read -r -a free <<<"$free"
	read -r -a pinned <<<"$pinned"
	[ ${#free[@]} = 2 ] && [ ${#pinned[@]} = 2 ] || return
	record pinned_single "${free[0]}" "${pinned[0]}"
	record pinned_after "${free[1]}" "${pinned[1]}"
}

lines_behind() {
	echo 'behind|1,000,000 delivered events behind the cursor, to none|events/s|ratio >= 0.95'
}

setup_behind() {
	sql "SELECT bench.fill('bench.million', 1000000)" \
		"CALL bench.register('million', 'bench.noop(bench.million)', 'bench.million', 1)" \
		"CALL bench.go('million', 1000000)"
}

round_behind() {
	local reference value

	fill short 200000 || return
	reference=$(deliver noop short 200000 1) || return
	sql "SELECT dbopt_pause_handler('million')" "SELECT bench.fill('bench.million', 200000)" || return
	value=$(sql "CALL bench.go('million', 200000)") || return
	record behind "$reference" "$value"
}

# ---- callers' SQL --------------------------------------------------------

lines_pooled() {
	cat <<-'END'
		pooled_persistent|dbopt_with_connection('SELECT 1'), to dblink on a connection that is kept|us|ratio <= 1
		pooled_connecting|the same, to dblink connecting each time|us|ratio <= 0.05
		pooled_plain|the same, to plain EXECUTE|us|
		pooled_two|2 callers at a time, to dblink on connections that are kept|calls/s|ratio >= 1
		pooled_parallel|4 callers at a time, to dblink on connections that are kept|calls/s|ratio >= 1
		pooled_rows|result of 1,000,000 rows, to dblink on a connection that is kept|rows/s|ratio >= 1
	END
}

# Tables that other parts have filled are vacuumed here, not by autovacuum while
# calls are timed.
setup_pooled() {
	sql 'CREATE EXTENSION IF NOT EXISTS dblink' "SELECT bench.connect()" 'VACUUM ANALYZE' >/dev/null || return
	echo "SELECT bench.connect(); SELECT count(*) FROM dbopt_with_connection('SELECT 1')" >"$work/pooled.sql"
	echo "SELECT bench.connect(); SELECT count(*) FROM dblink('bench', 'SELECT 1') AS x (a int)" >"$work/dblink.sql"
}

# call_rate SCRIPT CLIENTS: calls a second of all of them, each with a
# connection of dblink's own; over long enough that where the kernel puts the
# processes at first does not decide.
call_rate() {
	pgbench -n -c "$2" -j 2 -T 3 -f "$work/$1.sql" bench 2>>"$logs/psql.log" |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

round_pooled() {
	local value reference rows='SELECT i AS id, md5(i::text) AS text FROM generate_series(1, 1000000) i'

	value=$(sql "SELECT bench.call_time(\$\$SELECT 1 FROM dbopt_with_connection('SELECT 1')\$\$, 5000)") || return
	reference=$(sql 'SELECT bench.connect()' \
		"SELECT bench.call_time(\$\$SELECT 1 FROM dblink('bench', 'SELECT 1') AS x (a int)\$\$, 5000)") || return
	record pooled_persistent "$reference" "$value"
	reference=$(sql "SELECT bench.call_time(format('SELECT 1 FROM dblink(%L, ''SELECT 1'') AS x (a int)', bench.here()), 100)") || return
	record pooled_connecting "$reference" "$value"
	record pooled_plain "$(sql "SELECT bench.call_time('SELECT 1', 5000)")" "$value"
	value=$(call_rate pooled 2) && reference=$(call_rate dblink 2) || return
	record pooled_two "$reference" "$value"
	value=$(call_rate pooled 4) && reference=$(call_rate dblink 4) || return
	record pooled_parallel "$reference" "$value"
	value=$(sql "CALL bench.run(format('SELECT count(*) FROM dbopt_with_connection(%L)', '$rows'), 1000000)") || return
	reference=$(sql 'SELECT bench.connect()' \
		"CALL bench.run(format('SELECT count(*) FROM dblink(''bench'', %L) AS x (id int, text text)', '$rows'), 1000000)") || return
	record pooled_rows "$reference" "$value"
}

# ---- counting ------------------------------------------------------------

lines_counting() {
	cat <<-'END'
		counting_chunks|plain log, 1 session, to a build that does not count|events/s|ratio >= 0.99
		counting_single|with chunk_size 1, to a build that does not count|events/s|ratio >= 0.99
	END
}

# The same library with the functions that count replaced when it is linked.
setup_counting() {
	local objects

	objects=$(cd "$tree" && echo src/*.o src/*/*.o)
	cp "$(pg_config --pkglibdir)/dbopt.so" "$work/counting.so"
	make -s -C "$tree" PG_CONFIG="$PG_CONFIG" with_llvm=no MODULE_big=uncounted OBJS="$objects test/bench/uncounted.o" \
		SHLIB_LINK='-Wl,--wrap=dbopt_tally_time -Wl,--wrap=dbopt_tally_times -Wl,--wrap=dbopt_stats_add -Wl,--wrap=dbopt_stats_mean_time' \
		uncounted.so >>"$logs/build.log" 2>&1 || return
	cp "$tree/uncounted.so" "$work/uncounted.so"
	sql "SELECT bench.fill('bench.short', 200000)"
}

# use_library NAME: from the next start on, which is now.
use_library() {
	server_stop || return
	cp "$work/$1.so" "$(pg_config --pkglibdir)/dbopt.so"
	run "${tester[@]}" "$bindir/pg_ctl" -D "$work/data" -l "$logs/server.log" -w start >>"$logs/start.log" 2>&1
}

# drain_rates: events a second by the clock on the wall, with the usual chunks
# (the median of three) and with chunks of one event.
drain_rates() {
	local i

	sql "SELECT dbopt_drain('30 s')" >/dev/null
	for i in 1 2 3; do
		sql "CALL bench.drain('bench.noop(bench.short)', 'bench.short', 200000)" || return
	done | sort -g | sed -n 2p
	fill short 20000
	sql "CALL bench.drain('bench.noop(bench.short)', 'bench.short', 20000, 1)" || return
	fill short 200000
}

# Each of the two comes first in turn: the second finds more dead rows in
# dbopt's tables.
round_counting() {
	local library rates reference value

	for library in $( ((round % 2)) && echo uncounted counting || echo counting uncounted); do
		use_library "$library" || return
		rates=$(drain_rates)
		[ "$library" = counting ] && value=$rates || reference=$rates
	done
	use_library counting || return
	read -r -a reference <<<"${reference//$'\n'/ }"
	read -r -a value <<<"${value//$'\n'/ }"
	[ ${#reference[@]} = 2 ] && [ ${#value[@]} = 2 ] || return
	record counting_chunks "${reference[0]}" "${value[0]}"
	record counting_single "${reference[1]}" "${value[1]}"
}

# ---- at rest -------------------------------------------------------------

lines_idle() {
	cat <<-'END'
		idle_transactions|idle for 10 s: transactions in the database|count|value <= 0
		idle_switches|context switches of our processes, to the server's own|count|value <= 10
	END
}

# A handler that has delivered something, and nothing else about.
setup_idle() {
	sql 'ALTER SYSTEM SET autovacuum = off' 'SELECT pg_reload_conf()' &&
		sql "SELECT dbopt_register_handler('idle', '*', 'bench.noop(bench.short)', 'bench.short', start_from => 'now', run_as => 'bench')" \
			"SELECT bench.fill('bench.short', 1)" "SELECT dbopt_drain('1 min')"
}

transactions() {
	psql -X -A -t -d postgres -c "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'bench'"
}

# switches PATTERN: context switches so far of the processes found by it.
switches() {
	local pid

	for pid in $(server_pids "$1"); do
		sed -n 's/.*voluntary_ctxt_switches:[^0-9]*//p' "/proc/$pid/status"
	done | awk '{ sum += $1 } END { print sum + 0 }'
}

own='checkpointer\|background writer\|walwriter\|logical replication launcher'

round_idle() {
	local transactions own_switches our_switches

	sleep 3
	[ "$(server_pids dbopt | wc -l)" -ge 3 ] || return
	transactions=$(transactions) own_switches=$(switches "$own") our_switches=$(switches dbopt)
	sleep 10
	record idle_transactions '' $(($(transactions) - transactions))
	record idle_switches $(($(switches "$own") - own_switches)) $(($(switches dbopt) - our_switches))
}

lines_memory() {
	cat <<-'END'
		memory_session|resident memory, not shared: a warm session, to a backend|MB|
		memory_scheduler|the scheduler, to the logical replication launcher|MB|
		memory_launcher|the launcher, to the logical replication launcher|MB|
	END
}

# A session that has run 200,000 events and is still warm; a backend that does
# the same is the reference.
setup_memory() {
	fill short 200000 &&
		sql "CALL bench.register('memory', 'bench.noop(bench.short)', 'bench.short', 1)" \
			"CALL bench.go('memory', 200000)"
}

# memory PID: private resident memory in MB, libraries included.
memory() {
	[ -n "$1" ] && awk '/^Rss(Anon|File):/ { sum += $2 } END { printf "%.3f\n", sum / 1024 }' "/proc/$1/status"
}

# worked_session: the process id of the one that has done most.
worked_session() {
	sql 'SELECT pid FROM dbopt_pool_sessions() WHERE jobs_done > 0 ORDER BY jobs_done DESC LIMIT 1'
}

round_memory() {
	local backend own session

	coproc psql -X -q -A -t -d bench 2>>"$logs/psql.log"
	echo 'SELECT count(bench.noop(e)) FROM bench.short e; SELECT pg_backend_pid();' >&"${COPROC[1]}"
	read -r -u "${COPROC[0]}" && read -r -u "${COPROC[0]}" backend || return
	session=$(memory "$(worked_session)") || return
	record memory_session "$(memory "$backend")" "$session"
	echo '\q' >&"${COPROC[1]}"
	wait "$COPROC_PID"
	own=$(memory "$(server_pids 'logical replication launcher')")
	record memory_scheduler "$own" "$(memory "$(server_pids 'dbopt scheduler' | head -n 1)")"
	record memory_launcher "$own" "$(memory "$(server_pids 'dbopt launcher')")"
}

# ---- watching ------------------------------------------------------------

lines_scrape() {
	cat <<-'END'
		scrape_text|100 handlers: dbopt_prometheus(), to all of pg_stat_all_tables|ms|value <= 5
		scrape_rows|dbopt_metrics()|ms|
		scrape_health|dbopt_health(), with 100 cursors|ms|
	END
}

# 100 handlers, each with a cursor and something delivered.
setup_scrape() {
	sql 'TRUNCATE bench.short' "SELECT dbopt_register_handler('scrape ' || n, 'THING.CHANGED.' || n, 'bench.noop(bench.short)',
			'bench.short', start_from => 'now', run_as => 'bench') FROM generate_series(0, 99) n" \
		"SELECT bench.fill('bench.short', 1000, 100)" "SELECT dbopt_drain('1 min')" | grep -qx t
}

# call_time QUERY: milliseconds of one call.
call_time() {
	sql "CALL bench.time_calls('$1', 50)"
}

round_scrape() {
	local reference text rows health

	reference=$(call_time 'SELECT count(s) FROM pg_stat_all_tables s') &&
		text=$(call_time 'SELECT length(dbopt_prometheus())') &&
		rows=$(call_time 'SELECT count(m) FROM dbopt_metrics() m') &&
		health=$(call_time 'SELECT count(h) FROM dbopt_health() h') || return
	record scrape_text "$reference" "$text"
	record scrape_rows "$reference" "$rows"
	record scrape_health "$reference" "$health"
}

# ---- main ----------------------------------------------------------------

start_server() {
	server_prepare
	give_to_tester
	server_install ''
	server_start 'fsync = on' 'wal_level = replica' 'shared_buffers = 1GB' 'max_wal_size = 16GB' \
		'checkpoint_timeout = 1h' 'jit = off' 'track_commit_timestamp = on' \
		'dbopt.pool_min = 4' 'dbopt.pool_max = 8'
	{
		psql -X -q -c 'CREATE DATABASE bench' &&
			psql -X -q -d bench -v ON_ERROR_STOP=1 -f test/bench/schema.sql >/dev/null
	} || fatal "the database could not be set up"
	sql "SELECT dbopt_drain('30 s')" | grep -qx t || fatal "dbopt is not running"
}

# run_part NAME: all rounds of it.  What fails is told, and leaves the rest
# without a figure.
run_part() {
	local round

	printf '%s:' "$1" >&2
	if ! declare -F "setup_$1" >/dev/null || "setup_$1" >/dev/null; then
		for ((round = 1; round <= rounds; round++)); do
			printf ' %d' "$round" >&2
			"round_$1" || break
		done
	else
		round=0
	fi
	if [ "$round" -le "$rounds" ]; then
		failures=$((failures + 1))
		printf ' failed\n' >&2
		tail -n 5 "$logs/psql.log" >&2
	else
		printf ' (%d s)\n' $((SECONDS - started)) >&2
	fi
	sql 'CALL bench.clean_up()'
}

describe() {
	printf '%s, %s cores, %s, Linux %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
		"$(awk '/^MemTotal/ { printf "%d GB RAM", $2 / 1024 / 1024 + 0.5 }' /proc/meminfo)" "$(uname -r | cut -d. -f1,2)"
	psql -X -A -t -c "SELECT 'PostgreSQL ' || current_setting('server_version')"
	echo "medians of $rounds rounds"
}

for part in "${parts[@]}"; do
	declare -F "lines_$part" >/dev/null || fatal "there is no part \"$part\"; the parts are: ${all_parts[*]}"
done
start_server
: >"$work/results"
for part in "${parts[@]}"; do
	"lines_$part" >>"$work/lines"
	started=$SECONDS
	run_part "$part"
done
describe
(cd "$work" && psql -X -q -P pager=off -P footer=off -f "$tree/test/bench/report.sql")
[ $failures = 0 ]
