# A throw-away PostgreSQL server with dbopt in it: to be sourced, with bash, by
# the programs in test/ that need one.
#
#	server_prepare		a temporary directory with a copy of the tree
#	server_install COPT	dbopt, built with COPT, in a copy of PostgreSQL
#	server_start [LINE]...	a running server; lines for postgresql.conf
#	server_stop
#	run COMMAND...		a command that a signal to us ends, too
#
# Neither the tree nor the system is changed.  All is in a temporary directory
# that belongs to the user who may run a server, which is the caller, or
# postgres when the caller is root; "${tester[@]}" before a command runs it as
# that user.  The server listens on a socket in that directory only, and psql
# and the like find it through their environment.  Everything is stopped and
# removed when the caller exits, for whatever reason.
#
# Sets top (the source tree), work, tree (the copy of it), logs, tester,
# bindir, pg_config, pgxs.
# shellcheck shell=bash
# shellcheck disable=SC2034  # some are for the caller

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
jobs=$(nproc 2>/dev/null || echo 2)
work='' child=''

# Gives up.  A program that counts tests has its own.
fatal() {
	echo "$*" >&2
	exit 1
}

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

# Stops the servers that were left behind below the temporary directory.  A
# server's working directory is its data directory: a stale file does no harm.
stop_servers() {
	local pidfile pid waited=0

	find "$work" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		pid=$(head -n 1 "$pidfile")
		[ "$(readlink "/proc/$pid/cwd")" = "${pidfile%/*}" ] || continue
		kill -QUIT "$pid"
		while kill -0 "$pid" 2>/dev/null && [ $waited -lt 100 ]; do
			sleep 0.1
			waited=$((waited + 1))
		done
	done
}

server_cleanup() {
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

server_prepare() {
	local name

	pg_config=$(command -v "${PG_CONFIG:-pg_config}") || fatal "there is no pg_config"
	work=$(mktemp -d "${TMPDIR:-/tmp}/dbopt.XXXXXX") || fatal "could not create a temporary directory"
	tree=$work/tree logs=$work/log
	mkdir "$tree" "$logs" "$work/tmp"
	tar -C "$top" --exclude=./.git --exclude=./log --exclude=./tmp_check --exclude=./test/unit/build \
		--exclude='*.o' --exclude='*.bc' --exclude='*.so' -cf - . | tar -C "$tree" -xf - || fatal "could not copy the tree"

	bindir=$("$pg_config" --bindir)
	tester=(env)
	if [ "$(id -u)" = 0 ]; then
		id postgres >/dev/null 2>&1 || fatal "the server refuses to run as root, and there is no user postgres"
		tester=(runuser -u postgres -- env)
	fi

	# Nothing of the caller's connection settings reaches the tests.
	for name in "${!PG@}"; do
		[[ $name = PG_TEST_* ]] || unset "$name"
	done
	unset MAKEFLAGS MAKELEVEL MFLAGS
	# Nor of his locale: those in Perl drop LC_ALL, and go by LANG.
	for name in "${!LC_@}"; do
		unset "$name"
	done
	export LC_ALL=C LANG=C.UTF-8 HOME=$work TMPDIR=$work/tmp PG_CONFIG=$pg_config
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

# The LLVM bitcode is left out: it makes no difference here, and takes long.
server_install() {
	copy_postgresql
	run make -s -j "$jobs" PG_CONFIG="$pg_config" with_llvm=no COPT="$1" all install >"$logs/build.log" 2>&1 || {
		tail -n 40 "$logs/build.log"
		fatal "the build failed"
	}
	give_to_tester
}

# What root has put there belongs to the user who runs the server.
give_to_tester() {
	[ "$(id -u)" != 0 ] || chown -R postgres "$work"
}

server_start() {
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
	[ $# = 0 ] || printf '%s\n' "$@" >>"$work/data/postgresql.conf"
	run "${tester[@]}" "$bindir/pg_ctl" -D "$work/data" -l "$logs/server.log" -w start \
		>"$logs/start.log" 2>&1 || { tail "$logs/server.log"; fatal "the server did not start"; }
}

server_stop() {
	run "${tester[@]}" "$bindir/pg_ctl" -D "$work/data" -m fast -w stop >"$logs/stop.log" 2>&1
}

trap server_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
