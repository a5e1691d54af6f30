#!/bin/bash
# Builds dbopt, installs it, and runs its tests in a throw-away server.
#
# usage: check.sh [lint|unit|regress|isolation|pgtap|exporter|tap]...     (default: all)
#
# Works on a copy of the tree, built with assertions, in a server of its own:
# see server.sh.  REGRESS, ISOLATION and TESTS choose tests within their
# suites.  On failure the logs are left in log/.  The last line is
# "N passed, N failed", counting single tests.
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(lint unit regress isolation pgtap exporter tap)
passed=0 failed=0 skipped=0

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

# Appends how the logs of failed files in test/t end, and keeps what their
# failed tests found instead.
add_tap_logs() {
	local test regress_log log=$1

	sed -n 's,^test/t/\([^ ]*\)\.pl .*(Wstat.*,\1,p' "$log" >"$log.files"
	while read -r test; do
		regress_log=$tree/tmp_check/log/regress_log_$test
		echo "regress_log_$test:"
		tail -n 20 "$regress_log"
		awk '/^\[[^]]*\]\([^)]*\) not ok / { left = 10; next } left-- > 0 && /#|ERROR|^error/' "$regress_log" >>"$details"
	done <"$log.files" >>"$log" 2>/dev/null
}

# tap_suite NAME COMMAND...: runs a command that writes $counts as tap.pl
# does.  None written, or none counted, is a failure.
tap_suite() {
	local name=$1 log=$logs/$1.log ok=0 bad=0 skips=0 status
	shift

	rm -f "$counts"
	run "$@" >"$log" 2>&1
	status=$?
	if [ -s "$counts" ]; then
		read -r ok bad skips <"$counts"
		tail -n +2 "$counts" >>"$failures"
	fi
	if [ "$bad" = 0 ] && { [ $status != 0 ] || [ $((ok + skips)) = 0 ]; }; then
		echo "check: $name ended with status $status after $ok tests" >>"$log"
		bad=1
	fi
	[ "$bad" = 0 ] || add_tap_logs "$log"
	report "$name" "$ok" "$bad" "$skips" "$log"
}

# regress_suite NAME COMMAND...: runs pg_regress or pg_isolation_regress on the
# tests in the caller's array "tests", and counts what PostgreSQL 15 ("test x
# ... ok") and later versions (TAP) print.  A test without a result is a
# failure.  One without expected output would end the whole run: it is compared
# with an empty file.
regress_suite() {
	local name=$1 log=$logs/$1.log ok bad status test
	shift

	for test in "${tests[@]}"; do
		[ -e "expected/$test.out" ] || "${tester[@]}" touch "expected/$test.out"
	done
	run "$@" >"$log" 2>&1
	status=$?
	ok=$(grep -cE '^ok +[0-9]+|\.\.\. ok( |$)' "$log")
	bad=$(grep -cE '^not ok +[0-9]+|\.\.\. (FAILED|failed)' "$log")
	grep -E '^not ok +[0-9]+|\.\.\. (FAILED|failed)' "$log" >>"$failures"
	[ $((ok + bad)) -ge ${#tests[@]} ] || bad=$((${#tests[@]} - ok))
	[ $status = 0 ] || [ "$bad" != 0 ] || bad=1
	if [ "$bad" != 0 ] && [ -e "$tree/regression.diffs" ]; then
		cat "$tree/regression.diffs" >>"$log"
	fi
	report "$name" "$ok" "$bad" 0 "$log"
}

# ---- the suites ----------------------------------------------------------

# What autovacuum does to tables, and which transactions it is in meanwhile, is
# not for tests to depend on.
need_server() {
	[ -d "$work/data" ] || server_start 'autovacuum = off'
}

# A server that crashed and recovered in between has failed, too.
check_server() {
	[ -d "$work/data" ] || return 0
	if ! server_stop || grep -qE 'PANIC:|TRAP:|was terminated by signal' "$logs/server.log"; then
		report server 0 1 0 "$logs/server.log"
	else
		report server 1 0 0 "$logs/server.log"
	fi
}

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

# files DIRECTORY SUFFIX: the same with it, or those that TESTS names, with or
# without the leading test/.
files() {
	local file chosen

	if [ -z "${TESTS:-}" ]; then
		for file in "test/$1"/*."$2"; do
			[ ! -e "$file" ] || echo "$file"
		done
	else
		read -r -a chosen <<<"$TESTS"
		for file in "${chosen[@]#test/}"; do
			[[ $file != *."$2" ]] || echo "test/$file"
		done
	fi
}

suite_regress() {
	local tests

	read -r -a tests <<<"${REGRESS:-$(names sql sql | tr '\n' ' ')}"
	[ ${#tests[@]} -gt 0 ] || return 0
	need_server
	regress_suite regress "${tester[@]}" "$pgxs/src/test/regress/pg_regress" \
		--inputdir=test --bindir="$bindir" --dbname=contrib_regression "${tests[@]}"
}

suite_isolation() {
	local tests

	read -r -a tests <<<"${ISOLATION:-$(names specs spec | tr '\n' ' ')}"
	[ ${#tests[@]} -gt 0 ] || return 0
	need_server
	run make -s -C test/module PG_CONFIG="$pg_config" with_llvm=no COPT=-Werror install >"$logs/module.log" 2>&1 || {
		report isolation 0 1 0 "$logs/module.log"
		return
	}
	rm -f regression.diffs
	regress_suite isolation "${tester[@]}" "$pgxs/src/test/isolation/pg_isolation_regress" \
		--inputdir=test --outputdir=. --bindir="$bindir" --dbname=isolation_regression "${tests[@]}"
}

# The tests find the extensions pgtap and dbopt in their database.
suite_pgtap() {
	local tests

	mapfile -t tests < <(files pgtap sql)
	[ ${#tests[@]} -gt 0 ] || return 0
	need_server
	run "${tester[@]}" psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE DATABASE pgtap' -c '\c pgtap' \
		-c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION dbopt CASCADE' >"$logs/pgtap.log" 2>&1 || {
		report pgtap 0 1 0 "$logs/pgtap.log"
		return
	}
	tap_suite pgtap "${tester[@]}" PGDATABASE=pgtap perl test/tools/tap.pl --counts "$counts" \
		--exec 'psql -X -q -A -t -P pager=off -v ON_ERROR_STOP=1 -f' "${tests[@]}"
}

suite_exporter() {
	local dir=$work/prometheus

	need_server
	test/tools/unpack.sh "$dir" prometheus-postgres-exporter prometheus >"$logs/unpack.log" 2>&1
	give_to_tester
	tap_suite exporter "${tester[@]}" PATH="$dir/usr/bin:$PATH" \
		perl test/tools/tap.pl --counts "$counts" --exec bash test/tools/exporter.sh
}

suite_tap() {
	local tests

	mapfile -t tests < <(files t pl)
	[ ${#tests[@]} -gt 0 ] || return 0
	tap_suite tap "${tester[@]}" -u PGHOST -u PGPORT -u PGUSER -u PGDATABASE TESTDIR="$tree" \
		TESTDATADIR="$tree/tmp_check" TESTLOGDIR="$tree/tmp_check/log" \
		PG_REGRESS="$pgxs/src/test/regress/pg_regress" PERL5LIB="$pgxs/src/test/perl" \
		perl test/tools/tap.pl --counts "$counts" --jobs 2 --exec 'perl -Itest/t -MSuperuser -MClosedPipes' "${tests[@]}"
}

# ---- main ----------------------------------------------------------------

# Only lint needs the tools of developers.
purpose=server
[[ " ${suites[*]} " != *" lint "* ]] || purpose=tests
"$top/test/tools/install-deps.sh" $purpose || fatal "what the tests need could not be installed"
[ ! -e "$top/log" ] || rm -rf "$top/log"
server_prepare
counts=$work/counts failures=$work/failures details=$work/details
touch "$failures" "$details"
if [ "${suites[*]}" != lint ] && [ "${suites[*]}" != unit ]; then
	server_install '-Werror -DUSE_ASSERT_CHECKING'
fi
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
	cp -r "$logs" "$top/log" 2>/dev/null && {
		cp -r results "$top/log/results"
		cp -r tmp_check/log "$top/log/tap"
	} 2>/dev/null
fi
# Once more, where whoever sees only the end of the output finds it.
cat <(head -n 12 "$details") <(head -n 8 "$failures") | cut -c 1-200
[ $skipped = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
