#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Newer interpreters than this machine has: a Debian tree of their own (debootstrap), entered by chroot. An
# interpreter alone would not do, it needs the C library it was built with. Nothing on this machine is changed; all
# mounts are made in a private namespace and end with its last process, so the tree is plain files: remove it to renew it.
set -euo pipefail

usage() {
	cat <<'END'
Usage: scripts/pythons-tree.sh [OPTIONS] check | make | run COMMAND...

  check   says why it cannot work here, if so
  make    makes the tree, or completes it: CPython 3.13, 3.14 and 3.15 with headers and test suites, a free-threaded
          build, a C compiler and what the tests need. Root, a network and 3 GB; about 12 minutes, then seconds.
  run     runs COMMAND in the tree. It starts in this checkout, which is mounted read-only at its own path;
          BUILD/in-tree is writable, /tmp is empty at the start and removed at the end

  --build-dir DIR   the build directory (default: build/)
  --tree DIR        where the tree is kept (default: BUILD/tree); several checkouts can share one
  --mirror URI      the Debian mirror (default: the first of this machine's package sources that has the suite)
  --suite NAME      Debian's suite (default: sid)
  --no-setup        do not install debootstrap if it is missing
END
}

build='' tree='' mirror='' suite=sid setup=1 verb=''
while (($#)); do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--build-dir) build=${2:?--build-dir needs a directory}; shift ;;
	--tree) tree=${2:?--tree needs a directory}; shift ;;
	--mirror) mirror=${2:?--mirror needs a URI}; shift ;;
	--suite) suite=${2:?--suite needs a name}; shift ;;
	--no-setup) setup='' ;;
	check | make | run) verb=$1; shift; break ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
if [[ $verb == run ]]; then
	(($#)) || { usage >&2; exit 2; }
elif [[ ! $verb ]] || (($#)); then
	usage >&2
	exit 2
fi

here=$(cd "$(dirname "$0")" && pwd -P)
build=$(realpath -m "${build:-$here/../build}")
tree=$(realpath -m "${tree:-$build/tree}")
# shellcheck source=scripts/common.sh
. "$here/common.sh"
root=$tree/root
writable=$build/in-tree
scratch=''
trap '[[ ! $scratch ]] || rm -rf --one-file-system "$scratch"' EXIT

die() { say "pythons-tree: $*"; exit 1; }

check() {
	[[ $(id -u) == 0 ]] || die "a tree of another Debian is entered with mount and chroot: run as root, or with sudo"
	unshare --mount true 2>/dev/null || die "this container allows no mount namespace (CAP_SYS_ADMIN is missing)"
	if [[ $verb == make && ! -d $root ]]; then
		command -v apt-get >/dev/null || die "only Debian and what derives from it can make the tree: there is no apt-get here"
	fi
}

# What the environment may carry into the tree: the way to the network, and settings of the tests.
kept_environment() {
	local name
	for name in $(compgen -e); do
		case ${name,,} in
		http_proxy | https_proxy | ftp_proxy | all_proxy | no_proxy | pip_* | ssl_cert_* | requests_ca_bundle | \
			curl_ca_bundle | ladewerk_* | term) printf '%s=%s\0' "$name" "${!name}" ;;
		esac
	done
}

# Runs in the namespace. Not recursive: where the tree lies in the checkout, it is not shown in itself.
# shellcheck disable=SC2016
mount_and_enter='
set -eu
root=$1 tmp=$2 repo=$3 writable=$4
shift 4
for dir in proc sys dev; do mount --rbind "/$dir" "$root/$dir"; done
mount --bind "$tmp" "$root/tmp"
mkdir -p "$root$repo"
mount --bind "$repo" "$root$repo"
mount -o remount,bind,ro "$root$repo"
mkdir -p "$root$writable"
mount --bind "$writable" "$root$writable"
exec chroot "$root" "$@"'

# enter COMMAND...
enter() {
	local code=0
	local -a environment
	mapfile -d '' -t environment < <(kept_environment)
	mkdir -p "$writable"
	scratch=$(mktemp -d "$tree/tmp.XXXXXX")
	chmod 1777 "$scratch"
	unshare --mount sh -c "$mount_and_enter" sh "$root" "$scratch" "$repo" "$writable" \
		/usr/bin/env -i -C "$repo" HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${environment[@]}" "$@" || code=$?
	rm -rf --one-file-system "$scratch"
	scratch=''
	return "$code"
}

need_debootstrap() {
	command -v debootstrap >/dev/null && return
	[[ $setup ]] || die "debootstrap is missing: apt-get install debootstrap"
	say "pythons-tree: installing debootstrap"
	apt-get -qq update >&2 || say "apt-get update failed; trying with the lists that are there"
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install debootstrap </dev/null >&2 ||
		die "debootstrap could not be installed"
}

# Where this machine's packages come from: URI and suite, one a line. A file of mirrors (cloud images) is read.
sources() {
	local uri release
	# Without that option only those are listed that have been updated from.
	# shellcheck disable=SC2016 # these are apt's own names
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk '!seen[$0]++' |
		while read -r uri release; do
			case $uri in
			mirror+file:*)
				uri=${uri#mirror+file:}
				awk -v release="$release" '/^[a-z]+:/ { print $1, release }' "${uri%/}"
				;;
			*) printf '%s %s\n' "${uri%/}" "$release" ;;
			esac
		done
}

# has_suite URI SUITE: apt's own downloader asks, so that its proxies and credentials apply.
has_suite() {
	local answer code=0
	answer=$(mktemp)
	/usr/lib/apt/apt-helper -qq -o Acquire::Retries=0 download-file "${1%/}/dists/$2/InRelease" "$answer" >/dev/null 2>&1 || code=$?
	rm -f "$answer"
	return "$code"
}

find_mirror() {
	local line uri release reached=''
	local -a lines
	if [[ $mirror ]]; then
		has_suite "$mirror" "$suite" || die "$mirror cannot be reached, or has no $suite"
		return
	fi
	mapfile -t lines < <(sources)
	((${#lines[@]})) || die "apt has no package sources here; name a Debian mirror with --mirror"
	for line in "${lines[@]}"; do
		read -r uri release <<<"$line"
		if has_suite "$uri" "$suite"; then
			mirror=$uri
			return
		fi
		[[ $reached ]] || { has_suite "$uri" "$release" && reached=1; }
	done
	[[ $reached ]] || die "no network: none of this machine's package sources can be reached"
	die "none of this machine's package sources has $suite; name a Debian mirror with --mirror"
}

# Made under another name, so that an interrupted one is never taken for a tree.
bootstrap() {
	need_debootstrap
	find_mirror
	say "pythons-tree: $suite from $mirror into $root"
	rm -rf --one-file-system "$tree/partial"
	unshare --mount debootstrap --variant=minbase "$suite" "$tree/partial" "$mirror" >&2 ||
		die "debootstrap failed; more in $tree/partial/debootstrap/debootstrap.log"
	rm -f "$tree"/partial/etc/apt/sources.list.d/*
	printf '%s '"$mirror $suite main"'\n' deb deb-src >"$tree/partial/etc/apt/sources.list"
	mv "$tree/partial" "$root"
}

# This machine's way to the network: names, certificates, proxies, package index.
copy_settings() {
	local file
	for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
		[[ ! -e $file ]] || cp -L --remove-destination "$file" "$root$file"
	done
	file=${XDG_CONFIG_HOME:-${HOME-/root}/.config}/pip/pip.conf
	[[ ! -e $file ]] || install -D -m 644 "$file" "$root/etc/xdg/pip/pip.conf"
	mkdir -p "$root/etc/ssl/certs"
	cp -rL /etc/ssl/certs/. "$root/etc/ssl/certs" 2>/dev/null || : # dangling links
	# A mirror that lags behind is no danger for a tree that only tests are run in.
	{
		printf '%s\n' 'Acquire::Check-Valid-Until "false";' 'Acquire::Retries "3";' 'APT::Install-Recommends "false";'
		apt-config dump | grep -E '^Acquire::(http|https|ftp)::' || :
	} >"$root/etc/apt/apt.conf.d/90ladewerk"
}

fill() { enter scripts/pythons-tree-fill.sh "$@"; }

make_tree() {
	local lock
	mkdir -p "$tree"
	exec {lock}>"$tree/lock"
	flock -n "$lock" || { say "pythons-tree: waiting for another one that makes $tree"; flock "$lock"; }
	[[ -d $root ]] || bootstrap
	copy_settings
	if ! fill --check >/dev/null 2>&1; then
		fill || die "the tree could not be completed"
		copy_settings # certificates: the tree's own packages have put theirs there
		fill --check || die "the tree is not complete"
	fi
	say "pythons-tree: complete in $tree"
}

case $verb in
check) check ;;
make)
	check
	make_tree
	;;
run)
	check
	[[ -d $root ]] || die "there is no tree in $tree; make it first"
	enter "$@"
	;;
esac
