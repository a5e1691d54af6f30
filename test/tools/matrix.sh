#!/bin/bash
# Runs the tests with the PostgreSQL versions of other Debian releases.
#
# usage: matrix.sh [RELEASE]...    (as root; default: trixie sid)
#
# Each release is installed into a directory of its own with debootstrap, once
# where MATRIX_DIR is set, else into a temporary one.  What is mounted there is
# seen by our processes alone and goes with them; no service is started.
# CHECKS chooses among the suites of check.sh, and "upgrade": pg_upgrade from
# the PostgreSQL of this system's release (upgrade.sh).  Ends with a line for
# each release, and status 1 if something failed.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
mirror=${MIRROR:-http://deb.debian.org/debian}
checks=${CHECKS:-regress isolation pgtap tap upgrade}
dir=${MATRIX_DIR:-}
failed=0

[ "$(id -u)" = 0 ] || {
	echo "matrix: debootstrap and chroot need root" >&2
	exit 1
}
command -v debootstrap >/dev/null || apt-get -y -q install debootstrap >/dev/null || exit 1
if [ -z "$dir" ]; then
	dir=$(mktemp -d) || exit 1
	trap 'rm -rf --one-file-system "$dir"' EXIT
	trap 'exit 1' INT TERM
fi
mkdir -p "$dir" || exit 1

# The release's files, without a service that would start, nor a check of how
# old a frozen mirror is.
install_release() {
	local root=$1 release=$2

	[ -e "$root/etc/debian_version" ] ||
		debootstrap --variant=minbase --include=make,ca-certificates "$release" "$root" "$mirror" || return
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod +x "$root/usr/sbin/policy-rc.d"
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90matrix"
	rm -rf "$root/srv/dbopt"
	mkdir -p "$root/srv/dbopt"
	tar -C "$top" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' -cf - . | tar -C "$root/srv/dbopt" -xf -
}

# In namespaces of its own.
inside() {
	# shellcheck disable=SC2016  # expanded inside
	unshare --mount --pid --fork --kill-child bash -c '
		mount -t proc proc "$0/proc"
		mkdir -p "$0/dev/shm"
		mount -t tmpfs tmpfs "$0/dev/shm"
		chroot "$@"' "$1" "$@"
}

# The tests; prints the version and the counts.
check_release() {
	local root=$1 log=$2 version

	# shellcheck disable=SC2016  # expanded inside
	inside "$root" bash -c '
		apt-get update -q &&
		version=$(apt-cache depends postgresql | sed -n "s/.*Depends: postgresql-//p") &&
		cd /srv/dbopt && PG_VERSION=$version test/tools/check.sh '"${checks/upgrade/}" >"$log" 2>&1
	version=$(inside "$root" pg_config --version)
	grep -E '^[a-z]+: +[0-9]+ passed' "$log" | sed "s/^/  /"
	echo "${version:-PostgreSQL ?}: $(tail -n 1 "$log")"
	tail -n 1 "$log" | grep -q ', 0 failed$' || {
		failed=1
		grep -E '^not ok|\.\.\. FAILED|error:' "$log" | head -n 40
	}
}

# With the older version's packages in the same place.
upgrade_release() {
	local root=$1 log=$2 list=/etc/apt/sources.list.d/older.list older

	# shellcheck source=/dev/null
	older=$(. /etc/os-release && echo "$VERSION_CODENAME")
	echo "deb $mirror $older main" >"$root$list"
	# shellcheck disable=SC2016  # expanded inside
	inside "$root" bash -c '
		apt-get update -q
		old=$(apt-cache policy postgresql | sed -n "s/^ *\([0-9]*\)+.*/\1/p" | sort -n | head -n 1)
		new=$(apt-cache depends postgresql | sed -n "s/.*Depends: postgresql-//p")
		DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends \
			"postgresql-$old" "postgresql-server-dev-$old"
		rm -f '"$list"'
		bash /srv/dbopt/test/tools/upgrade.sh "$old" "$new"' >"$log" 2>&1 || failed=1
	grep -E '^(not )?ok .* - pg_upgrade|^not ok' "$log" || tail -n 5 "$log"
}

[ $# -gt 0 ] || set -- trixie sid
for release in "$@"; do
	echo "$release:"
	install_release "$dir/$release" "$release" >"$dir/$release.log" 2>&1 || {
		tail -n 5 "$dir/$release.log"
		failed=1
		continue
	}
	[ "$checks" = upgrade ] || check_release "$dir/$release" "$dir/$release.log"
	[[ " $checks " != *" upgrade "* ]] || upgrade_release "$dir/$release" "$dir/$release.upgrade.log"
done
exit $failed
