#!/bin/bash
# Builds dbopt, installs it, and runs its tests in a throw-away server.
#
# usage: check.sh [lint|unit|regress|isolation|pgtap|tap]...     (default: all)
#
# Works on a copy of the tree, built with assertions and installed into a copy
# of PostgreSQL: neither the tree nor the system is changed.  All of it is in a
# temporary directory that belongs to the user who may run a server, which is
# the caller, or postgres when the caller is root; the server listens on a
# socket in that directory only.
#
# REGRESS, ISOLATION and TESTS choose tests within their suites.  On failure
# the logs are left in log/.  The last line is "N passed, N failed", counting
# single tests.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(lint unit regress isolation pgtap tap)
jobs=$(nproc 2>/dev/null || echo 2)

passed=0 failed=0 skipped=0
work='' child=''

# ---- running and stopping ------------------------------------------------

# Runs a command in a process group of its own, so that a signal to us can be
# passed on to all of it.
run() {
	local status

	setsid "$@" </dev/null &
	child=$!
	wait "$child"
	status=$?
	child=''
	return $status
}

stop_servers() {
	local pidfile

	find "$work" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		kill -QUIT "$(head -n 1 "$pidfile")" 2>/dev/null
	done
}

cleanup() {
	local status=$? waited=0

	trap '' INT TERM HUP
	if [ -n "$child" ]; then
		kill -TERM -- "-$child" 2>/dev/null
		while kill -0 -- "-$child" 2>/dev/null && [ $waited -lt 50 ]; do
			sleep 0.1
			waited=$((waited + 1))
		done
		kill -KILL -- "-$child" 2>/dev/null
	fi
	if [ -n "$work" ]; then
		stop_servers
		rm -rf "$work" 2>/dev/null || { sleep 1; rm -rf "$work"; }
	fi
	exit $status
}

# Gives up before any test could run.
fatal() {
	echo "check: $*" >&2
	echo "$passed passed, $((failed + 1)) failed"
	exit 1
}

# ---- counting ------------------------------------------------------------

# report NAME PASSED FAILED SKIPPED LOG: adds one suite's result.
report() {
	passed=$((passed + $2))
	failed=$((failed + $3))
	skipped=$((skipped + $4))
	printf '%-10s %d passed, %d failed%s  (%d s)\n' "$1:" "$2" "$3" \
		"$([ "$4" = 0 ] || echo ", $4 skipped")" $((SECONDS - started))
	if [ "$3" != 0 ]; then
		echo "--- $1: end of its output"
		tail -n 60 "$5"
		echo "---"
	fi
}

# Appends the end of what a failed test in test/t wrote about its servers.
add_tap_logs() {
	local test log=$1

	sed -n 's,^test/t/\([^ ]*\)\.pl .*(Wstat.*,\1,p' "$log" | while read -r test; do
		echo "regress_log_$test:"
		tail -n 20 "$tree/tmp_check/log/regress_log_$test"
	done >"$log.tail" 2>/dev/null
	cat "$log.tail" >>"$log"
	rm -f "$log.tail"
}

# tap_suite NAME COMMAND...: runs a command that writes $counts as tap.pl
# does.  None written, or none counted, is a failure.
tap_suite() {
	local name=$1 log=$logs/$1.log ok=0 bad=0 skips=0 status
	shift

	rm -f "$counts"
	run "$@" >"$log" 2>&1
	status=$?
	[ ! -s "$counts" ] || read -r ok bad skips <"$counts"
	if [ "$bad" = 0 ] && { [ $status != 0 ] || [ $((ok + skips)) = 0 ]; }; then
		echo "check: $name ended with status $status after $ok tests" >>"$log"
		bad=1
	fi
	[ "$bad" = 0 ] || add_tap_logs "$log"
	report "$name" "$ok" "$bad" "$skips" "$log"
}

# regress_suite NAME EXPECTED-TESTS COMMAND...: the same for pg_regress and
# pg_isolation_regress, of PostgreSQL 15 ("test x ... ok") and later (TAP).
# A test that was asked for and has no result is a failure.
regress_suite() {
	local name=$1 expected=$2 log=$logs/$1.log ok bad status
	shift 2

	run "$@" >"$log" 2>&1
	status=$?
	ok=$(grep -cE '^ok +[0-9]+|\.\.\. ok( |$)' "$log")
	bad=$(grep -cE '^not ok +[0-9]+|\.\.\. (FAILED|failed)' "$log")
	[ $((ok + bad)) -ge "$expected" ] || bad=$((expected - ok))
	[ $status = 0 ] || [ "$bad" != 0 ] || bad=1
	if [ "$bad" != 0 ] && [ -e "$tree/regression.diffs" ]; then
		cat "$tree/regression.diffs" >>"$log"
	fi
	report "$name" "$ok" "$bad" 0 "$log"
}

# ---- preparation ---------------------------------------------------------

prepare() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/dbopt.XXXXXX") || fatal "could not create a temporary directory"
	tree=$work/tree logs=$work/log counts=$work/counts
	mkdir "$tree" "$logs" "$work/tmp"
	tar -C "$top" --exclude=./.git --exclude=./log --exclude=./tmp_check --exclude='*.o' --exclude='*.bc' \
		--exclude='*.so' -cf - . | tar -C "$tree" -xf - || fatal "could not copy the tree"

	bindir=$("$pg_config" --bindir)
	tester=(env)
	if [ "$(id -u)" = 0 ]; then
		id postgres >/dev/null 2>&1 || fatal "the server refuses to run as root, and there is no user postgres"
		tester=(runuser -u postgres -- env)
	fi

	# Nothing of the caller's connection settings reaches the tests.
	unset "${!PG@}"
	unset MAKEFLAGS MAKELEVEL MFLAGS
	export LC_ALL=C HOME=$work TMPDIR=$work/tmp PG_CONFIG=$pg_config
	export PGHOST=$work PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
	cd "$tree" || exit 1
}

# A copy of PostgreSQL to install into.  Its programs find their files by the
# way from bindir, so the paths stay as they are below the copy's root; what is
# only read is linked.
copy_postgresql() {
	local dir

	prefix=$work/pg
	for dir in pkglibdir sharedir pkgincludedir; do
		dir=$("$pg_config" --$dir)
		mkdir -p "$prefix$dir"
		cp -rsf "$dir/." "$prefix$dir/" || fatal "could not copy $dir"
	done
	rm -rf "$prefix$bindir"
	mkdir -p "$prefix$bindir"
	cp -rL "$bindir/." "$prefix$bindir/" || fatal "could not copy $bindir"
	[ -e "$prefix$bindir/pg_config" ] || cp -L "$pg_config" "$prefix$bindir/" || fatal "could not copy pg_config"

	bindir=$prefix$bindir
	pg_config=$bindir/pg_config
	pgxs=$("$pg_config" --pgxs)
	pgxs=${pgxs%/src/makefiles/pgxs.mk}
	[[ $pgxs == "$prefix"/* ]] || fatal "the copy of PostgreSQL in $prefix does not find its own files"
	rm -f "$("$pg_config" --pkglibdir)/dbopt.so" "$("$pg_config" --sharedir)"/extension/dbopt*
	export PATH=$bindir:$PATH PG_CONFIG=$pg_config
}

# Assertions are worth having in our module, though the server has none.  The
# LLVM bitcode is left to lint.
build_and_install() {
	run make -s -j "$jobs" with_llvm=no COPT='-Werror -DUSE_ASSERT_CHECKING' all install \
		>"$logs/build.log" 2>&1 || {
		tail -n 40 "$logs/build.log"
		fatal "the build failed"
	}
}

give_to_tester() {
	[ "$(id -u)" != 0 ] || chown -R postgres "$work"
}

start_server() {
	[ ! -d "$work/data" ] || return 0
	run "${tester[@]}" "$bindir/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --no-locale -N \
		>"$logs/initdb.log" 2>&1 || { tail "$logs/initdb.log"; fatal "initdb failed"; }
	cat >>"$work/data/postgresql.conf" <<-CONF
		shared_preload_libraries = 'dbopt'
		listen_addresses = ''
		unix_socket_directories = '$work'
		max_worker_processes = 32
		max_prepared_transactions = 50
		wal_level = logical
		fsync = off
		log_line_prefix = '%m [%p] %b %q%a '
	CONF
	run "${tester[@]}" "$bindir/pg_ctl" -D "$work/data" -l "$logs/server.log" -w start \
		>"$logs/start.log" 2>&1 || { tail "$logs/server.log"; fatal "the server did not start"; }
}

# A server that crashed and recovered in between has failed, too.
check_server() {
	[ -d "$work/data" ] || return 0
	run "${tester[@]}" "$bindir/pg_ctl" -D "$work/data" -m fast -w stop >"$logs/stop.log" 2>&1
	local stopped=$?

	if [ $stopped != 0 ] || grep -qE 'PANIC:|TRAP:|was terminated by signal' "$logs/server.log"; then
		report server 0 1 0 "$logs/server.log"
	else
		report server 1 0 0 "$logs/server.log"
	fi
}

# ---- the suites ----------------------------------------------------------

suite_lint() {
	tap_suite lint perl test/tools/tap.pl --counts "$counts" --exec bash test/tools/lint.sh
}

suite_unit() {
	[ -e test/unit/Makefile ] || return 0
	tap_suite unit make -s -C test/unit PG_CONFIG="$pg_config" \
		PROVE="perl $tree/test/tools/tap.pl --counts $counts" check
}

# names DIRECTORY SUFFIX: the tests of a directory, without their suffix.
names() {
	local file

	for file in "test/$1"/*."$2"; do
		[ ! -e "$file" ] || basename "$file" ".$2"
	done
}

suite_regress() {
	local tests

	read -r -a tests <<<"${REGRESS:-$(names sql sql | tr '\n' ' ')}"
	[ ${#tests[@]} -gt 0 ] || return 0
	start_server
	regress_suite regress ${#tests[@]} "${tester[@]}" "$pgxs/src/test/regress/pg_regress" \
		--inputdir=test --bindir="$bindir" --dbname=contrib_regression "${tests[@]}"
}

suite_isolation() {
	local tests

	read -r -a tests <<<"${ISOLATION:-$(names specs spec | tr '\n' ' ')}"
	[ ${#tests[@]} -gt 0 ] || return 0
	start_server
	rm -f regression.diffs
	regress_suite isolation ${#tests[@]} "${tester[@]}" "$pgxs/src/test/isolation/pg_isolation_regress" \
		--inputdir=test --outputdir=. --bindir="$bindir" --dbname=isolation_regression "${tests[@]}"
}

# The tests find the extensions pgtap and dbopt in their database.
suite_pgtap() {
	local tests=(test/pgtap/*.sql)

	[ -z "${TESTS:-}" ] || read -r -a tests <<<"$TESTS"
	[ -e "${tests[0]}" ] || return 0
	start_server
	run "${tester[@]}" psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE DATABASE pgtap' -c '\c pgtap' \
		-c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION dbopt CASCADE' >"$logs/pgtap.log" 2>&1 || {
		report pgtap 0 1 0 "$logs/pgtap.log"
		return
	}
	tap_suite pgtap "${tester[@]}" PGDATABASE=pgtap perl test/tools/tap.pl --counts "$counts" \
		--exec 'psql -X -q -A -t -P pager=off -v ON_ERROR_STOP=1 -f' "${tests[@]}"
}

suite_tap() {
	local tests=(test/t/*.pl)

	if [ -n "${TESTS:-}" ]; then
		read -r -a tests <<<"$TESTS"
		tests=("${tests[@]/#t\//test/t/}")
	fi
	[ -e "${tests[0]}" ] || return 0
	tap_suite tap "${tester[@]}" -u PGHOST -u PGPORT -u PGUSER -u PGDATABASE TESTDIR="$tree" \
		TESTDATADIR="$tree/tmp_check" TESTLOGDIR="$tree/tmp_check/log" \
		PG_REGRESS="$pgxs/src/test/regress/pg_regress" PERL5LIB="$pgxs/src/test/perl" \
		perl test/tools/tap.pl --counts "$counts" --jobs 2 "${tests[@]}"
}

# ---- main ----------------------------------------------------------------

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

PG_CONFIG=$PG_CONFIG "$top/test/tools/install-deps.sh" || fatal "what the tests need could not be installed"
pg_config=$(command -v "$PG_CONFIG")
[ ! -e "$top/log" ] || rm -rf "$top/log"
prepare
if [ "${suites[*]}" != lint ] && [ "${suites[*]}" != unit ]; then
	copy_postgresql
	build_and_install
fi
give_to_tester
for suite in "${suites[@]}"; do
	started=$SECONDS
	"suite_$suite"
done
started=$SECONDS
check_server

if [ $((passed + failed)) = 0 ]; then
	fatal "no test was run"
fi
if [ $failed != 0 ]; then
	cp -r "$logs" "$top/log" 2>/dev/null && cp -r tmp_check/log "$top/log/tap" 2>/dev/null
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
