#!/bin/bash
# Brings a cluster of an older PostgreSQL with dbopt at work to a newer one by
# pg_upgrade, and prints TAP.
#
# usage: upgrade.sh OLD NEW    (major versions, whose packages are installed with
#                               their server headers; as root, in a system that
#                               may be thrown away: dbopt is installed into both)
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
old=/usr/lib/postgresql/$1/bin new=/usr/lib/postgresql/$2/bin
work=$(mktemp -d) || exit 1
tests=0 failed=0
holders=()
export PGHOST=$work PGPORT=5432 PGUSER=postgres PGDATABASE=app

as_postgres() {
	(cd "$work" && runuser -u postgres -- "$@")
}

stop_servers() {
	local data

	[ ${#holders[@]} = 0 ] || kill "${holders[@]}" 2>/dev/null
	for data in old new; do
		[ ! -e "$work/$data/postmaster.pid" ] || as_postgres "$new/pg_ctl" -D "$work/$data" -m immediate stop >/dev/null
	done
	rm -rf "$work"
}
trap stop_servers EXIT

sql() {
	as_postgres "$new/psql" -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"
}

# is EXPECTED QUERY NAME: what a query gives.
is() {
	local got

	got=$(sql "$2")
	tests=$((tests + 1))
	if [ "$got" = "$1" ]; then
		echo "ok $tests - $3"
	else
		failed=$((failed + 1))
		echo "not ok $tests - $3"
		echo "# got \"$got\", expected \"$1\""
	fi
}

# becomes QUERY NAME: true within a minute.
becomes() {
	local rounds=0

	until [ "$(sql "$1")" = t ] || [ $((rounds++)) = 600 ]; do
		sleep 0.1 # until the condition holds
	done
	is t "$1" "$2"
}

# hold STATEMENT...: a session that keeps what it has until the server stops.
hold() {
	local statement arguments=()

	for statement in "$@"; do
		arguments+=(-c "$statement")
	done
	as_postgres "$new/psql" -X -q "${arguments[@]}" -c 'SELECT pg_sleep(3600) -- held' >/dev/null 2>&1 &
	holders+=($!)
}

build() {
	rm -rf "$work/tree"
	cp -r "$top" "$work/tree"
	find "$work/tree" -name '*.o' -delete
	make -s -C "$work/tree" PG_CONFIG="$1/pg_config" with_llvm=no all install >"$work/build.log" 2>&1 || {
		tail -n 20 "$work/build.log" >&2
		exit 1
	}
}

create() {
	as_postgres "$1/initdb" -D "$2" -U postgres -k --locale=C.UTF-8 >/dev/null || exit 1
	printf '%s\n' "shared_preload_libraries = 'dbopt'" "listen_addresses = ''" "unix_socket_directories = '$work'" \
		"max_worker_processes = 16" >>"$2/postgresql.conf"
}

start() {
	as_postgres "$1/pg_ctl" -w -s -D "$2" -l "$work/server.log" start || {
		tail -n 20 "$work/server.log" >&2
		exit 1
	}
}

chmod 755 "$work"
build "$old"
build "$new"
chown postgres "$work"
create "$old" "$work/old"
create "$new" "$work/new"

# Delivered, waiting, in flight, retrying and given up, with a transaction that
# was open when they were.
start "$old" "$work/old"
PGDATABASE=postgres sql 'CREATE DATABASE app' || exit 1
sql "CREATE EXTENSION dbopt CASCADE" || exit 1
sql "SELECT dbopt_create_events('log', false), dbopt_create_events('marked', true)" >/dev/null || exit 1
sql "
	CREATE TABLE seen (handler text, id uuid);
	CREATE TABLE switches (failing boolean);
	INSERT INTO switches VALUES (true);
	INSERT INTO dbopt_retry_policy (name, max_attempts, base_delay, max_delay, jitter, retry_unknown)
		VALUES ('again', 1000, '1 s', '1 s', 'none', true);
	CREATE FUNCTION see(e log) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (''see'', e.id)';
	CREATE FUNCTION mark(e marked) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (''mark'', e.id)';
	CREATE FUNCTION fail(e log) RETURNS void LANGUAGE plpgsql AS '
	BEGIN
		INSERT INTO seen VALUES (''fail'', e.id);
		IF (SELECT failing FROM switches) THEN RAISE ''later''; END IF;
	END';
	CREATE FUNCTION slow(e log) RETURNS void LANGUAGE plpgsql AS '
	BEGIN
		INSERT INTO seen VALUES (''slow'', e.id);
		PERFORM pg_advisory_xact_lock(1);
	END';
	CREATE FUNCTION die(e log) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE division_by_zero; END';
	CREATE FUNCTION write() RETURNS void LANGUAGE sql AS '
		INSERT INTO log (event_type, aggregate_type, aggregate_id, data)
			SELECT t, ''a'', dbopt_uuid_v7(), ''{}'' FROM unnest(''{A,FAIL,DIE,SLOW}''::text[]) t, generate_series(1, 5);
		INSERT INTO marked (event_type, aggregate_type, aggregate_id, data)
			SELECT ''A'', ''a'', dbopt_uuid_v7(), ''{}'' FROM generate_series(1, 5)';
	SELECT dbopt_register_handler('see', '*', 'see(log)', events => 'log'),
		dbopt_register_handler('fail', 'FAIL', 'fail(log)', events => 'log', policy => 'again'),
		dbopt_register_handler('die', 'DIE', 'die(log)', events => 'log'),
		dbopt_register_handler('slow', 'SLOW', 'slow(log)', events => 'log'),
		dbopt_register_handler('mark', '*', 'mark(marked)', events => 'marked')" >/dev/null || exit 1
hold "SELECT pg_advisory_lock(1)"
hold "BEGIN" "INSERT INTO log (event_type, aggregate_type, aggregate_id, data) VALUES ('A', 'a', dbopt_uuid_v7(), '{}')"
becomes "SELECT count(*) = 2 FROM pg_stat_activity WHERE wait_event = 'PgSleep'" 'two sessions are open'
sql "SELECT write()" >/dev/null || exit 1
becomes "SELECT (SELECT count(*) FROM seen) = 25 AND (SELECT count(*) FROM dbopt_pending_retries) = 5
	AND (SELECT count(*) FROM dbopt_dead_letters) = 5
	AND (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) > 0" "delivered, in flight, retrying and given up by $1"
sql "SELECT dbopt_pause()" >/dev/null
sql "SELECT write()" >/dev/null
is 't|t' "SELECT (SELECT count(*) FROM dbopt_chunk) > 0, count(*) > 0 FROM dbopt_cursor_version WHERE cardinality(holes) > 0" 'there are a chunk and a hole'
as_postgres "$old/pg_ctl" -w -s -D "$work/old" -m fast stop

as_postgres "$new/pg_upgrade" -b "$old" -B "$new" -d "$work/old" -D "$work/new" -U postgres >"$work/upgrade.log" 2>&1
status=$?
tests=$((tests + 1))
if [ $status = 0 ]; then
	echo "ok $tests - pg_upgrade from $1 to $2"
else
	failed=$((failed + 1))
	echo "not ok $tests - pg_upgrade from $1 to $2"
	tail -n 20 "$work/upgrade.log" >&2
fi

start "$new" "$work/new"
becomes "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dbopt scheduler' AND datname = 'app'" 'there is a scheduler'
is 25 'SELECT count(*) FROM seen' 'nothing runs yet'
is critical "SELECT status FROM dbopt_health() WHERE check_name = 'positions'" 'the health says why'
is t "SELECT pg_read_file('$work/server.log') ~ 'dbopt does not run in database \"app\": it was restored or copied'" '... and the log'
sql 'UPDATE switches SET failing = false' && sql 'SELECT dbopt_resume()' >/dev/null
sql 'SELECT write()' >/dev/null
is t "SELECT dbopt_drain('60 s')" 'delivered after dbopt_resume()'
is '60|15|15|15' "SELECT count(*) FILTER (WHERE handler = 'see'), count(*) FILTER (WHERE handler = 'fail'),
	count(*) FILTER (WHERE handler = 'slow'), count(*) FILTER (WHERE handler = 'mark') FROM seen" 'all events'
is 't' 'SELECT count(*) = count(DISTINCT (handler, id)) FROM seen' '... once'
is '15' 'SELECT count(*) FROM dbopt_dead_letters' 'dead letters are there'
is '0' "SELECT count(*) FROM marked WHERE NOT processed" 'events are marked'
echo "1..$tests"
[ $failed = 0 ]
