#!/bin/bash
# Unpacks Debian packages into a directory: their programs can be run from
# there, and no service is installed or started.
#
# usage: unpack.sh DIRECTORY PACKAGE...
set -euo pipefail

dir=$1
shift

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

mkdir -p "$dir/packages"
cd "$dir/packages"
# Lists that are missing or too old are fetched.
apt-get -q download "$@" || { as_root apt-get -q update && apt-get -q download "$@"; }
for package in ./*.deb; do
	dpkg-deb -x "$package" "$dir"
done
rm -r "$dir/packages"
