#!/bin/bash
# Shows dbopt at work on real input, in a throw-away server: see server.sh.
#
# The input is this machine's package history, the lines of Debian's
# /var/log/dpkg.log; where there is none, the changes of files in this
# repository's history, in the same form.  Every line is an event of its
# package, and four handlers in test/demo/handlers.sql get them: one succeeds,
# one meets locks, one meets bad data, one needs a service that is down at
# first.  Fails unless what they have written is what plain SQL computes.
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

patience=60

fatal() {
	echo "demo: $*" >&2
	exit 1
}

# ---- the input -----------------------------------------------------------

# The log files, oldest first, compressed or not.
dpkg_logs() {
	local file

	printf '%s\n' /var/log/dpkg.log* | sort -rV | while read -r file; do
		[ ! -r "$file" ] || zcat -f -- "$file"
	done
}

# Lines of dpkg's log as tab-separated rows of the table "history".
dpkg_history() {
	dpkg_logs | awk -v OFS='\t' '
		$3 == "status" { state = $4; name = $5; version = $6 }
		$3 ~ /^(install|upgrade)$/ { state = "\\N"; name = $4; version = $6 }
		$3 ~ /^(configure|trigproc|remove|purge|disappear)$/ { state = "\\N"; name = $4; version = $5 }
		$3 ~ /^(status|install|upgrade|configure|trigproc|remove|purge|disappear)$/ {
			architecture = name
			if (!sub(/^[^:]*:/, "", architecture)) architecture = "\\N"
			if (version == "" || version == "<none>") version = "\\N"
			print ++line, $1 " " $2, $3, name, architecture, version, state
		}'
}

# The repository's history in the same form: a file is a package.
git_history() {
	git -c safe.directory="$top" -C "$top" log --reverse --no-renames --name-status --format='commit %h %cI' |
		awk -F '\t' -v OFS='\t' '
			BEGIN { action["A"] = "install"; action["M"] = "upgrade"; action["D"] = "remove" }
			/^commit / { split($0, word, " "); version = word[2]; at = word[3] }
			$1 in action {
				gsub(/\\/, "\\\\", $2)
				state = $1 == "D" ? "not-installed" : "installed"
				print ++line, at, action[$1], $2, "\\N", version, "\\N"
				print ++line, at, "status", $2, "\\N", version, state
			}'
}

# Has the history enough for a breaker to open?
is_enough() {
	[ "$(cut -f 3 "$history" | grep -cx install)" -ge 20 ]
}

read_history() {
	history=$work/history.tsv
	origin='/var/log/dpkg.log*'
	dpkg_history >"$history"
	if ! is_enough; then
		origin="this repository's history"
		git_history >"$history" 2>/dev/null
	fi
	is_enough || fatal "there is no history to run on: neither in /var/log/dpkg.log* nor in a git repository"
}

# ---- the server ----------------------------------------------------------

# psql_file FILE: runs one of test/demo.
psql_file() {
	run "${tester[@]}" psql -X -q -v ON_ERROR_STOP=1 -f "test/demo/$1"
}

# sql STATEMENT: prints its result, columns separated by blanks.
sql() {
	"${tester[@]}" psql -X -q -A -t -F ' ' -v ON_ERROR_STOP=1 -c "$1" </dev/null
}

# Everything up to the events.
prepare() {
	{
		psql_file setup.sql && psql_file handlers.sql && sql "\\copy history FROM '$history'" &&
			psql_file lock.sql && psql_file checks.sql
	} || fatal "the demo could not be set up"
}

# ---- watching ------------------------------------------------------------

# Prints a line if it says something new.
progress() {
	local numbers

	numbers=$(sql "
		SELECT s.successes, b.waiting, b.retrying, b.dead, dbopt_circuit_breaker_state('announce')
		FROM (SELECT sum(successes) AS successes FROM dbopt_retry_stats()) s,
			(SELECT sum(waiting) AS waiting, sum(retrying) AS retrying, sum(dead) AS dead
			FROM dbopt_backlog()) b") || fatal "the server does not answer"
	[ "$numbers" != "$shown" ] || return 0
	shown=$numbers
	# shellcheck disable=SC2086  # five words
	printf '%10.1f %10d %8d %9d %13d   %s\n' "$(seconds)" $numbers
}

seconds() {
	awk -v since="$began" -v now="${EPOCHREALTIME/,/.}" 'BEGIN { print now - since }'
}

# watch CONDITION: shows progress until an SQL expression is true.
watch() {
	local deadline=$((SECONDS + patience))

	progress
	while [ "$(sql "SELECT $1")" != t ]; do
		if [ $SECONDS -ge $deadline ]; then
			sql 'SELECT handler, event_type, waiting, retrying, dead FROM dbopt_backlog()' >&2
			tail -n 20 "$logs/server.log" >&2
			fatal "waited $patience seconds in vain for: $1"
		fi
		sleep 0.4
		progress
	done
}

# The lines become events while the handlers are at work already.
deliver() {
	local loader

	began=${EPOCHREALTIME/,/.} shown=''
	printf '%10s %10s %8s %9s %13s   %s\n' seconds delivered waiting retrying 'dead letters' 'breaker of "announce"'
	"${tester[@]}" psql -X -q -v ON_ERROR_STOP=1 -f test/demo/load.sql </dev/null 2>"$logs/load.log" &
	loader=$!

	watch "(SELECT tripped >= 2 FROM dbopt_circuit_breakers() WHERE name = 'announce')"
	echo '           the breaker has opened, and again after a trial: the service starts'
	sql 'UPDATE service SET up = true'
	wait $loader || { cat "$logs/load.log" >&2; fatal "the events could not be written"; }
	watch "(SELECT sum(waiting) = 0 FROM dbopt_backlog() WHERE handler = 'count')"
	echo '           nothing waits for "count" but what is locked: the locks go'
	sql "COMMIT PREPARED 'audit'"
	watch "dbopt_drain('200 ms')"
	progress
}

# ---- main ----------------------------------------------------------------

began=$SECONDS
server_prepare
echo "1. Building dbopt, and starting a server in $work"
server_install -Werror
read_history
give_to_tester
# shellcheck disable=SC2119  # no settings of its own
server_start
prepare
sql "SELECT '   PostgreSQL ' || current_setting('server_version') || ', ready after $((SECONDS - began)) s'"

sql "SELECT format('2. %s lines of %s packages, from %s', count(*), count(DISTINCT package), \$\$$origin\$\$) FROM history"
cat <<-'TEXT'
	   project   keeps a table of each package's state
	   count     counts each package's lines; one package in twenty is locked by somebody else
	   number    reads the number that versions begin with; some do not
	   announce  calls a service that is down
TEXT
echo '3. Delivering'
deliver
echo
psql_file report.sql
[ "$(sql 'SELECT sum(different) FROM checks')" = 0 ] || fatal "the handlers' results are not those of plain SQL"
echo "Everything is as it should be.  The server is stopped and removed."
