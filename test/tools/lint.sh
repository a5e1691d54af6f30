#!/bin/bash
# Checks the source against the project's rules; prints TAP.
#
# usage: lint.sh            check
#        lint.sh indent     rewrite the C files with the formatter instead
#
# Each function named check_... below is one check: it prints what is wrong and
# fails if anything is.  Nothing is written to the tree but by indent.
# The checks are called by their names:
# shellcheck disable=SC2317
set -u

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
PG_CONFIG=${PG_CONFIG:-pg_config}
work=$(mktemp -d "${TMPDIR:-/tmp}/dbopt-lint.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

mapfile -t sources < <(find src -name '*.c' | sort)
mapfile -t headers < <(find src -name '*.h' | sort)
mapfile -t test_sources < <(find test -name '*.[ch]' | sort)
mapfile -t scripts < <(grep -rlIE '^#!.*[/ ](ba|da)?sh( |$)' .ci debian test 2>/dev/null | sort)
jobs=$(nproc 2>/dev/null || echo 2)

# Fails if its input has any line, and prints it.
none() {
	! grep .
}

# ---- compiling -----------------------------------------------------------

# build COMPILER TARGET: into a directory of its own.
build() {
	mkdir "$work/$1"
	tar --exclude='*.o' --exclude='*.bc' --exclude='*.so' -cf - Makefile dbopt.control sql src |
		tar -C "$work/$1" -xf -
	make -s -j "$jobs" -C "$work/$1" CC="$1" COPT=-Werror PG_CONFIG="$PG_CONFIG" "$2" >"$work/$1.log" 2>&1
}

check_gcc() {
	build gcc dbopt.so || { cat "$work/gcc.log"; return 1; }
}

# In continuous integration also the LLVM bitcode, where the server was built
# with it: the same compiler on the same source, which takes as long again.
check_clang() {
	local target=dbopt.so

	[ -z "${CI:-}" ] || target=all
	build clang "$target" || { cat "$work/clang.log"; return 1; }
}

# A header compiles after postgres.h (in policy/ c.h) and nothing else, twice.
check_headers_alone() {
	local include

	include=$("$PG_CONFIG" --includedir-server)
	mkdir "$work/precompiled"
	gcc -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Werror -D_GNU_SOURCE -Isrc -I"$include" \
		-x c-header -o "$work/precompiled/postgres.h.gch" "$include/postgres.h"
	export include work
	# shellcheck disable=SC2016  # expanded by the inner shell
	printf '%s\n' "${headers[@]}" | xargs -r -P "$jobs" -I '{}' bash -c '
		base=postgres.h
		[[ $1 != src/policy/* ]] || base=c.h
		printf "#include \"%s\"\n#include \"%s\"\n#include \"%s\"\n" "$base" "${1#src/}" "${1#src/}" |
			gcc -fsyntax-only -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Werror -D_GNU_SOURCE \
				-I"$work/precompiled" -Isrc -I"$include" -x c - 2>&1
	' _ '{}' | none
}

# ---- the formatter -------------------------------------------------------

# The typedefs in the debug information of our object files, as PostgreSQL's
# own list is made; those that our headers see, used yet or not; and those of
# the tests' C files.  The names left out are those that pgindent leaves out.
find_typedefs() {
	local file flags

	flags=(-g -w -c -D_GNU_SOURCE -Isrc -I"$("$PG_CONFIG" --includedir-server)")
	mkdir -p "$work/typedef"
	for file in "${test_sources[@]}"; do
		gcc "${flags[@]}" -I"$(dirname "$file")" -x c -o "$work/typedef/${file//\//_}.o" "$file" 2>/dev/null
	done
	printf '#include "%s"\n' postgres.h "${headers[@]#src/}" |
		gcc "${flags[@]}" -fno-eliminate-unused-debug-types -x c -o "$work/typedef/headers.o" - 2>/dev/null
	find "$work/gcc" "$work/typedef" -name '*.o' -exec objdump --dwarf=info {} + >"$work/dwarf" 2>/dev/null
	{
		grep -A3 DW_TAG_typedef "$work/dwarf" | awk '$2 == "DW_AT_name" { print $NF }'
		grep -ohwE 'DbOpt[A-Z][A-Za-z]*' "${sources[@]}" "${headers[@]}"
	} | grep -vxE 'abs|boolean|date|digit|interval|iterator|other|pointer|reference|string|timestamp|type|wrap' |
		sort -u >"$work/typedefs"
	[ -s "$work/dwarf" ]
}

# format FILE OUT: with what PostgreSQL's pgindent does around the formatter:
# comments that begin with dashes stay as they are, and a function's return
# type has one space before its asterisk.
format() {
	sed 's,/\*  *---,/*---kept,' "$1" >"$work/input"
	pg_bsd_indent "$work/input" "$work/output" -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 \
		-l79 -lp -lpl -nip -npro -sac -tpg -ts4 -U"$work/typedefs" 2>&1 || return 1
	sed -e 's,/\*---kept,/* ---,' -e 's,^\([A-Za-z_][^ \t]*\)[ \t][ \t]*\*$,\1 *,' "$work/output" >"$2"
}

check_format() {
	local file status=0

	find_typedefs || { echo "no typedefs found: the build with gcc failed"; return 1; }
	for file in "${sources[@]}" "${headers[@]}" "${test_sources[@]}"; do
		format "$file" "$work/formatted" || status=1
		diff -u "$file" "$work/formatted" || status=1
	done
	return "$status"
}

indent() {
	local file

	build gcc dbopt.so || { cat "$work/gcc.log"; return 1; }
	find_typedefs
	for file in "${sources[@]}" "${headers[@]}" "${test_sources[@]}"; do
		format "$file" "$work/formatted" || return 1
		cmp -s "$file" "$work/formatted" || { echo "$file"; cat "$work/formatted" >"$file"; }
	done
}

# ---- structure -----------------------------------------------------------

# A .c file includes postgres.h first (in policy/ c.h); headers never do.
check_first_include() {
	local file want first

	for file in "${sources[@]}"; do
		want=postgres.h
		[[ $file != src/policy/* ]] || want=c.h
		first=$(sed -n 's/^#[ \t]*include[ \t]*[<"]\([^>"]*\)[>"].*/\1/p' "$file" | head -n 1)
		[ "$first" = "$want" ] || echo "$file: the first include is \"$first\", not \"$want\""
	done | none && {
		[ ${#headers[@]} = 0 ] ||
			grep -HnE '^#[ \t]*include[ \t]*[<"](postgres|postgres_fe|c)\.h' "${headers[@]}" | none
	}
}

# api > engine > state > policy: includes point downwards or stay within a
# layer.  compat.h is for all but policy; dbopt.c may include everything.
check_ladder() {
	awk '
		function rank(path) {
			if (path ~ /^api\//) return 4
			if (path ~ /^engine\//) return 3
			if (path ~ /^state\//) return 2
			if (path ~ /^policy\//) return 1
			if (path == "compat.h") return 1.5
			if (path == "dbopt.c") return 9
			return 0
		}
		function exists(path,   line, found) {
			found = (getline line < ("src/" path)) >= 0
			close("src/" path)
			return found
		}
		/^#[ \t]*include[ \t]*"/ {
			from = FILENAME; sub(/^src\//, "", from)
			split($0, quoted, "\""); to = quoted[2]
			dir = from; if (!sub(/\/[^\/]*$/, "/", dir)) dir = ""
			if (dir != "" && exists(dir to))
				printf "%s:%d: write \"%s%s\", from src/ on\n", FILENAME, FNR, dir, to
			else if (exists(to)) {
				if (rank(from) == 0 || rank(to) == 0)
					printf "%s:%d: \"%s\" belongs to no layer\n", FILENAME, FNR, rank(to) ? from : to
				else if (rank(to) > rank(from))
					printf "%s:%d: includes \"%s\", which is above it\n", FILENAME, FNR, to
			}
		}' "${sources[@]}" "${headers[@]}" /dev/null | none
}

check_version_tests() {
	grep -rnw PG_VERSION_NUM src --include='*.[ch]' | grep -v '^src/compat\.h:' | none
}

check_pg_try() {
	grep -rnwE 'PG_(TRY|CATCH|FINALLY)' src --include='*.[ch]' | grep -v '^src/engine/exec\.c:' | none
}

# All modules loaded into a server share one space of global symbols.
check_symbols() {
	local objects

	mapfile -t objects < <(find "$work/gcc" -name '*.o')
	[ ${#objects[@]} -gt 0 ] || { echo "no object files: the build with gcc failed"; return 1; }
	nm -A -g --defined-only "${objects[@]}" | sed "s,^$work/gcc/,," |
		awk '$NF !~ /^(dbopt_.*|pg_finfo_dbopt_.*|_PG_init|Pg_magic_func)$/' | none
}

# A missing one would show only when the server loads the library.
check_undefined() {
	[ -d "$work/gcc/src" ] || return 1
	find "$work/gcc" -name '*.o' -exec nm -g {} + | awk '
		$NF ~ /^dbopt_/ { if ($(NF - 1) == "U") used[$NF]; else defined[$NF] }
		END { for (name in used) if (!(name in defined)) print name " is used and not defined" }' | sort | none
}

# No function over 80 lines, braces included; no C file over 500.
check_length() {
	awk '
		FNR == 1 { start = 0 }
		FNR == 501 { print FILENAME ": longer than 500 lines" }
		/^\{/ { start = FNR; name = previous }
		/^\}[ \t]*$/ && start {
			if (FNR - start + 1 > 80)
				printf "%s:%d: %d lines: %s\n", FILENAME, start, FNR - start + 1, name
			start = 0
		}
		/^[A-Za-z]/ { previous = $0 }' "${sources[@]}" "${headers[@]}" "${test_sources[@]}" /dev/null | none
}

# ---- text ----------------------------------------------------------------

check_leftovers() {
	local words='TO''DO|FIX''ME|X''XX|HA''CK'

	grep -rnwIE "$words" src sql test | none
}

# What has been released is what databases have: changes go into an upgrade.
check_frozen() {
	sha256sum --check --quiet <<-END
		3e8b4a2068b219b66fc1850360e2257626766e4a51f9ea608fb51bb6b444a5d2  sql/dbopt--1.0.sql
	END
}

check_whitespace() {
	grep -rnIE '[ 	]+$' Makefile dbopt.control src sql test .ci | none
}

# Tests wait for a condition, never for a time.  pg_sleep is for work that
# takes time, such a line has the word "handler", or ends in "-- work"; and for
# loops that look for a condition, up to a limit: "-- until the condition holds".
check_sleep() {
	{
		grep -rnIw pg_sleep test --include='*.sql' --include='*.spec' --include='*.pl' --include='*.pm' |
			grep -vwE 'handler|-- work|-- until the condition holds'
		grep -rnIE '\b(u?sleep|select\(undef)\b' test --include='*.pl' --include='*.pm' |
			grep -vE 'pg_sleep|test/tools/'
	} | none
}

check_shell() {
	shellcheck -x -P SCRIPTDIR "${scripts[@]}" test/tools/server.sh
}

check_perl() {
	local file lib

	lib=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/perl
	find test -name '*.p[lm]' | while read -r file; do
		perl -I "$lib" -I test/t -c "$file" 2>&1 | grep -v 'syntax OK$'
	done | none
}

# META.json is valid JSON, has what PGXN asks for, and names what is there.
check_meta() {
	perl -MJSON::PP -e '
		local $/;
		open my $fh, "<", "META.json" or die "META.json: $!\n";
		my $meta = decode_json(<$fh>);
		open $fh, "<", "dbopt.control" or die "dbopt.control: $!\n";
		my ($version) = <$fh> =~ /^default_version = \x27(.*)\x27/m;
		my $bad = 0;
		foreach (qw(name version abstract maintainer license provides meta-spec)) {
			print "META.json: $_ is missing\n" and $bad++ unless $meta->{$_};
		}
		my $mine = $meta->{provides}{dbopt};
		foreach ($meta->{version}, $mine->{version}) {
			print "META.json: version $_, but dbopt.control has $version\n" and $bad++
				unless /^\Q$version\E\.\d+$/;
		}
		print "META.json: no file $mine->{file}\n" and $bad++ unless -e $mine->{file};
		exit($bad ? 1 : 0);' 2>&1
}

# ---- main ----------------------------------------------------------------

if [ "${1:-}" = indent ]; then
	indent
	exit
fi

# The builds take longest: they run beside the rest.  What looks at object
# files waits for those of gcc.
checks=(
	"gcc:compiles with gcc, no warning"
	"clang:compiles with clang and to bitcode, no warning"
	"headers_alone:each header compiles alone"
	"format:formatted as pg_bsd_indent does"
	"first_include:postgres.h comes first, and never in a header"
	"ladder:includes point downwards"
	"version_tests:PG_VERSION_NUM only in compat.h"
	"pg_try:PG_TRY only in engine/exec.c"
	"symbols:global symbols begin with dbopt_"
	"undefined:no symbol of ours is missing"
	"length:functions up to 80 lines, files up to 500"
	"leftovers:no unfinished business"
	"frozen:released SQL scripts are as they were"
	"whitespace:no trailing white space"
	"sleep:no test waits for a time"
	"shell:shellcheck is content"
	"perl:Perl compiles"
	"meta:META.json is valid"
)

start_check() {
	{ "check_$1" >"$work/$1.out" 2>&1; echo $? >"$work/$1.status"; } &
}

start_check gcc
gcc_pid=$!
start_check clang
for check in headers_alone first_include ladder version_tests pg_try length leftovers frozen whitespace sleep shell perl meta; do
	start_check $check
done
wait $gcc_pid
start_check format
start_check symbols
start_check undefined
wait

echo "1..${#checks[@]}"
number=0 status=0
for check in "${checks[@]}"; do
	name=${check%%:*}
	number=$((number + 1))
	if [ "$(cat "$work/$name.status")" = 0 ]; then
		echo "ok $number - ${check#*:}"
	else
		echo "not ok $number - ${check#*:}"
		head -n 100 "$work/$name.out" | sed 's/^/# /'
		status=1
	fi
done
exit $status
