#!/bin/bash
# Installs what the tests need and is missing; silent when nothing is.
#
# usage: install-deps.sh [bench|server]    (with what the benchmark needs
#                                          besides; without what lint needs)
#
# A tool counts as present when it can be run, wherever it came from.  Debian
# packages are installed as root or through sudo.  Set PG_VERSION to choose
# the server's major version where none is installed yet.
set -euo pipefail

PG_CONFIG=${PG_CONFIG:-pg_config}
purpose=${1:-tests}
drop_in=/etc/postgresql-common/createcluster.d/dbopt-check.conf

pg_dir() {
	"$PG_CONFIG" "--$1" 2>/dev/null || true
}

# The server's major version: that of PG_CONFIG, else the one asked for.
major=$("$PG_CONFIG" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p' || true)
if [ -z "$major" ] || [ ! -e "$(pg_dir includedir-server)/postgres.h" ]; then
	major=${PG_VERSION:-${major:-15}}
fi

# Prints the packages that are missing, one a line.
missing() {
	local perl_ok='use IPC::Run; use TAP::Harness; use Test::More; use Time::HiRes; use JSON::PP'

	command -v gcc >/dev/null || echo gcc
	command -v objdump >/dev/null || echo binutils
	[ -e /usr/include/stdio.h ] || echo libc6-dev
	[ "$purpose" = server ] || command -v clang >/dev/null || echo clang
	[ "$purpose" = server ] || command -v shellcheck >/dev/null || echo shellcheck
	[ "$purpose" = server ] || command -v pg_bsd_indent >/dev/null || echo pg-bsd-indent
	command -v perl >/dev/null || echo perl
	perl -e "$perl_ok" 2>/dev/null || printf '%s\n' perl libipc-run-perl
	# The server's package brings PGXS, but not the headers.
	[ -e "$(pg_dir includedir-server)/postgres.h" ] || echo "postgresql-server-dev-$major"
	[ -x "$(pg_dir bindir)/postgres" ] || echo "postgresql-$major"
	[ -e "$(pg_dir sharedir)/extension/pg_trgm.control" ] || echo "postgresql-$major"
	[ -e "$(pg_dir sharedir)/extension/pgtap.control" ] || echo "postgresql-$major-pgtap"
	[ "$purpose" != bench ] || perl -e "use DBI; use DBD::Pg" 2>/dev/null || echo libdbd-pg-perl
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# Runs apt-get quietly; its output appears only if it fails twice.
apt() {
	local log

	log=$(mktemp)
	if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" >"$log" 2>&1 </dev/null; then
		sleep 3
		if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" >"$log" 2>&1 </dev/null; then
			tail -n 30 "$log" >&2
			rm -f "$log"
			return 1
		fi
	fi
	rm -f "$log"
}

mapfile -t packages < <(missing | sort -u)
[ ${#packages[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "install-deps: missing: ${packages[*]} (names of Debian packages); this system has no apt-get to install them with" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
	echo "install-deps: run as root, or with sudo installed: apt-get install ${packages[*]}" >&2
	exit 1
fi

echo "installing ${packages[*]}"
# The server package would create and start a cluster that nobody asked for.
if [ ! -e "$drop_in" ]; then
	trap 'as_root rm -f "$drop_in"' EXIT
	trap 'exit 130' INT TERM
	as_root mkdir -p "${drop_in%/*}"
	echo 'create_main_cluster = false' | as_root tee "$drop_in" >/dev/null
fi
apt update
apt install --no-install-recommends "${packages[@]}"

mapfile -t packages < <(missing | sort -u)
if [ ${#packages[@]} -gt 0 ]; then
	echo "install-deps: still missing after installation: ${packages[*]} (PG_CONFIG=$PG_CONFIG)" >&2
	exit 1
fi
