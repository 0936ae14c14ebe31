#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Runs inside the tree (see pythons-tree.sh): installs the interpreters and what the tests need. What is there is
# found out by use, as in setup.sh; a complete tree is left as it is.
set -euo pipefail

usage() { say "Usage: scripts/pythons-tree.sh run scripts/pythons-tree-fill.sh [--check]"; }

say() { printf '%s\n' "$*" >&2; }

here=$(cd "$(dirname "$0")" && pwd)
versions=(3.13 3.14 3.15)
free_threaded=3.13 # the version that is built where no package has one

# The tag, version and path of each interpreter, and whether it comes with its tests.
interpreters() {
	local tag version path
	"$here/setup.sh" --list 2>/dev/null | while IFS=$'\t' read -r tag version path; do
		printf '%s %s\n' "$tag" "$("$path" -I -c 'from importlib.util import find_spec
print("tests" if find_spec("test.test_importlib") else "no-tests")')"
	done
}

# What is missing, one a line.
lacking() {
	local found version
	found=$(interpreters)
	for version in "${versions[@]}"; do
		grep -qx "$version tests" <<<"$found" || echo "CPython $version with headers and tests"
	done
	grep -qxE '[0-9.]+t tests' <<<"$found" || echo "a free-threaded CPython with headers and tests"
	"$here/setup.sh" --check >/dev/null 2>&1 || echo "a C compiler and what the C tests need"
	[[ -e /usr/include/liburing.h ]] || echo liburing
	command -v strace >/dev/null || echo strace
}

check() {
	local missing
	missing=$(lacking)
	[[ ! $missing ]] || { say "missing in the tree:" "$missing"; return 1; }
}

install_packages() { apt-get -qq -y install "$@" </dev/null; }

packages_of() {
	local version
	for version in "${versions[@]}"; do
		printf '%s\n' "python$version"{,-dev,-venv} "libpython$version-testsuite"
	done
}

has_free_threaded() {
	local found
	found=$(interpreters)
	grep -qxE '[0-9.]+t tests' <<<"$found"
}

# Distributions differ in how they name it, and in whether headers and tests come with it.
packaged_free_threaded() {
	local package
	local -a names
	for package in python3.1{5,4,3}{-nogil,t}; do
		mapfile -t names < <(apt-cache --names-only search "^(lib)?${package//./\\.}(-dev|-venv|-testsuite)?$" | awk '{ print $1 }')
		((${#names[@]})) || continue
		install_packages "${names[@]}" && has_free_threaded && return
	done
	return 1
}

# The newest source that can be had, in the working directory: an archive in motion lists some that are gone.
download_source() {
	local version
	for version in $(apt-cache showsrc "python$free_threaded" | awk '/^Version:/ { print $2 }' | sort -Vru); do
		apt-get -qq source --download-only "python$free_threaded=$version" && return
		rm -f -- python*
	done
	say "the source of python$free_threaded could not be had"
	return 1
}

# Debian's patches are left out: they move site-packages and do not know the "t" of lib/python3.13t, so that virtual
# environments look for their packages where none are.
build_free_threaded() {
	local prefix=/opt/python${free_threaded}t
	say "building a free-threaded CPython $free_threaded"
	install_packages make xz-utils libssl-dev zlib1g-dev libffi-dev libbz2-dev liblzma-dev libsqlite3-dev
	cd "$(mktemp -d)"
	download_source
	tar -xf python*.orig.tar.* --strip-components=1
	./configure -q --disable-gil --prefix="$prefix"
	make -s -j "$(nproc)"
	rm -rf "$prefix"
	make -s install
}

fill() {
	local -a packages
	apt-get -qq update
	mapfile -t packages < <(packages_of)
	install_packages ca-certificates strace liburing-dev "${packages[@]}"
	"$here/setup.sh" --needed
	has_free_threaded || packaged_free_threaded || (build_free_threaded)
	apt-get clean
}

case ${1-} in
'') fill ;;
--check) check ;;
*) usage; exit 2 ;;
esac
