#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What building and testing needs: finds out what is missing, installs only that, and finds the interpreters.
# Everything is probed by use (compile a line, start a command), never by asking the package database: what was
# installed by other means counts too, and a machine that has everything needs neither root nor a network.
set -euo pipefail

usage() {
	cat <<'END'
Usage: scripts/setup.sh [--needed | --check | --list]

Installs what building and testing Ladewerk needs on Debian 12 or newer (and what derives from it), with
apt-get and only if something is missing, then lists the Python interpreters that can be tested with.

  --needed   install only what nothing works without; some tests will be skipped
  --check    install nothing; say what is missing (exit code 1 if something needed is)
  --list     install nothing; print the usable interpreters, one a line: tag, version, path (tab-separated).
             CPython >= 3.11 with headers and venv, from PATH, /usr/bin, /usr/local/bin, pyenv and /opt/*/bin.
             Of one minor version the system's comes first, then the newest. Tag is 3.13, or 3.13t where free-threaded.
END
}

say() { printf '%s\n' "setup: $*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

# A header is there if the compiler finds it.
has_header() { printf '#include <%s>\n' "$1" | gcc -E -x c - >/dev/null 2>&1; }

has_cmake() { have cmake && printf '3.25\n%s\n' "$(cmake --version | awk 'NR == 1 { print $3 }')" | sort -C -V; }

has_fuzzer() {
	local scratch ok=1
	have clang || return 1
	scratch=$(mktemp -d)
	echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { (void)d; (void)n; return 0; }' >"$scratch/f.c"
	clang -fsanitize=fuzzer,address "$scratch/f.c" -o "$scratch/f" >/dev/null 2>&1 && ok=0
	rm -rf "$scratch"
	return "$ok"
}

# Debian's own interpreter: the one that must always be testable.
system_python() { /usr/bin/python3 -c "$1" >/dev/null 2>&1; }
has_python_dev() { system_python 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'; }
has_python_venv() { system_python 'import ensurepip, venv'; }

# Packages that are missing, one a line.
missing_needed() {
	have gcc || echo gcc
	has_header stdio.h || echo libc6-dev
	has_cmake || echo cmake
	have ninja || echo ninja-build
	have pkg-config || echo pkgconf
	have git || echo git
	has_header xxhash.h || echo libxxhash-dev
	has_header criterion/criterion.h || echo libcriterion-dev
	[[ -x /usr/bin/python3 ]] || echo python3
	has_python_dev || echo python3-dev
	has_python_venv || echo python3-venv
}

# Without these something is left out (io_uring, probes, tracing, fuzzing, models, file systems to watch, system call counts, measurements) and said to be.
missing_wanted() {
	has_header liburing.h || echo liburing-dev
	has_header sys/sdt.h || echo systemtap-sdt-dev
	have strace || echo strace
	have hyperfine || echo hyperfine
	have spin || echo spin
	have mkfs.xfs || echo xfsprogs
	have mkfs.btrfs || echo btrfs-progs
	has_header urcu/rculfhash.h || echo liburcu-dev
	has_header bpf/libbpf.h || echo libbpf-dev
	has_header gelf.h || echo libelf-dev
	have bpftool || [[ -x /usr/sbin/bpftool ]] || echo bpftool
	have clang || echo clang
	have clang && ! has_fuzzer && echo "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
	return 0
}

as_root() {
	if [[ $(id -u) == 0 ]]; then
		"$@"
	elif have sudo; then
		sudo "$@"
	else
		say "not root and no sudo; run as root: $*"
		return 1
	fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null >&2
}

# One update and one install; the list is asked for again afterwards, since clang decides the name of its run-time library.
install_missing() {
	local -a needed wanted=()
	mapfile -t needed < <(missing_needed)
	[[ ${1-} == --needed ]] || mapfile -t wanted < <(missing_wanted)
	((${#needed[@]} + ${#wanted[@]})) || return 0
	if ! have apt-get; then
		say "missing: ${needed[*]} ${wanted[*]} (Debian's names), and there is no apt-get here"
		return "$((${#needed[@]} > 0))"
	fi
	say "installing ${needed[*]} ${wanted[*]}"
	as_root apt-get -qq update >&2 || say "apt-get update failed; trying with the lists that are there"
	if ((${#needed[@]})); then
		apt_install "${needed[@]}"
	fi
	if ((${#wanted[@]})); then
		apt_install "${wanted[@]}" || say "could not install all of: ${wanted[*]}"
		mapfile -t wanted < <(missing_wanted)
		if ((${#wanted[@]})); then
			apt_install "${wanted[@]}" || say "could not install ${wanted[*]}: some tests will be skipped"
		fi
	fi
	mapfile -t needed < <(missing_needed)
	((${#needed[@]} == 0)) || { say "still missing: ${needed[*]}"; return 1; }
}

# What the probed interpreter says of itself: sort key, tag, version, path; or why it will not do (exit code 3).
# sys.executable is the real program even where the command was a pyenv shim.
PROBE='
import os, sys
if sys.implementation.name != "cpython": sys.exit("not CPython")
if sys.version_info < (3, 11): sys.exit(3)
import sysconfig
major, minor, micro = sys.version_info[:3]
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
path = os.path.realpath(sys.executable)
if not os.path.exists(sysconfig.get_path("include", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}) + "/Python.h"):
    sys.exit("no Python.h")
try:
    import ensurepip, venv
except ImportError:
    sys.exit("no venv or ensurepip")
key = "%02d.%02d%s.%d.%03d" % (major, minor, free, not path.startswith("/usr/bin/"), 999 - micro)
print(key, "%d.%d%s" % (major, minor, free), sys.version.split()[0], path, sep="\t")
'

candidates() {
	local minor
	for minor in 11 12 13 14 15; do
		type -aP "python3.$minor" "python3.${minor}t" "python3.$minor-nogil" || :
		printf '%s\n' /usr/bin/python3."$minor"{,t,-nogil} /usr/local/bin/python3."$minor"{,t}
	done
	type -aP python3 || :
	printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3 /opt/*/bin/python3
}

list_interpreters() {
	local path answer seen='|'
	candidates | awk '!seen[$0]++' | while read -r path; do
		[[ -x $path ]] || continue
		# A shim of a version that is not selected fails to start: its interpreter is found in its own place.
		if ! answer=$(cd / && "$path" -I -c "$PROBE" 2>&1); then
			case $answer in 'no '*) say "$path is left out: $answer" ;; esac
			continue
		fi
		[[ $seen == *"|${answer##*$'\t'}|"* ]] && continue
		seen+="${answer##*$'\t'}|"
		printf '%s\n' "$answer"
	done | sort | cut -f2-
}

main() {
	local -a lacking
	case ${1-} in
	-h | --help) usage ;;
	--list) list_interpreters ;;
	--check)
		mapfile -t lacking < <(missing_wanted)
		((${#lacking[@]} == 0)) || say "wanted: ${lacking[*]}"
		mapfile -t lacking < <(missing_needed)
		((${#lacking[@]} == 0)) || { say "needed: ${lacking[*]}"; return 1; }
		say "everything needed is there"
		;;
	'' | --needed)
		install_missing "$@"
		say "interpreters:"
		list_interpreters >&2
		;;
	*)
		usage >&2
		return 2
		;;
	esac
}

main "$@"
