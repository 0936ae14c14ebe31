# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What scan.sh and watch.sh share; sourced, with `checkout`, `python`, `build` (which becomes the one of this version of Python) set.
# Sets `version` and `log`.

say() { echo "$*" >&2; }

# need OPTION ARGUMENTS-LEFT
need() {
	[ "$2" -ge 2 ] || { echo "${0##*/}: $1 needs an argument; see --help" >&2; exit 2; }
}

# need_number OPTION ARGUMENTS-LEFT TEXT
need_number() {
	need "$1" "$2"
	case $3 in
	'' | *[!0-9]* | 0) echo "${0##*/}: $1 needs a positive number, not '$3'" >&2; exit 2 ;;
	esac
}

# What scan.sh and watch.sh take: SECTIONS of --only, and options of their own with a NUMBER or a WORD, which are handed on. Sets python, build, output,
# keep, and given: what is handed on.
# shellcheck disable=SC2034  # keep is the caller's
parse_options() { # SECTIONS NUMBERS WORDS ARGUMENTS...
	local sections=" $1 " numbers=" $2 --runs -n --seed " words=" $3 " name=${0##*/} section
	shift 3
	while [ $# -gt 0 ]; do
		case $1 in
		--quick) given+=("$1") ;;
		--only)
			need "$1" $#
			for section in ${2//,/ }; do
				[[ $sections == *" $section "* ]] || { echo "$name: no section $section; see --help" >&2; exit 2; }
				given+=("$1" "$section")
			done
			shift
			;;
		--python) need "$1" $#; python=$2; shift ;;
		--build) need "$1" $#; build=$2; shift ;;
		-o | --output) need "$1" $#; output=$2; shift ;;
		--keep) keep=1 ;;
		-h | --help) usage; exit 0 ;;
		*)
			if [[ $numbers == *" $1 "* ]]; then
				need_number "$1" $# "${2-}"
			elif [[ $words == *" $1 "* ]]; then
				need "$1" $#
			else
				echo "$name: unknown option $1; see --help" >&2
				exit 2
			fi
			given+=("$1" "$2")
			shift
			;;
		esac
		shift
	done
}

# The interpreter is checked, and gets a directory of its own.
begin() {
	# Nothing of the caller's Python or Ladewerk settings takes part.
	unset "${!PYTHON@}" "${!LADEWERK@}" VIRTUAL_ENV
	# shellcheck disable=SC2154  # python: see above
	version=$("$python" -c 'import sys; print("%d.%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", "")))') ||
		{ echo "${0##*/}: $python does not run" >&2; exit 1; }
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		{ echo "${0##*/}: $python is Python $version; 3.11 or newer is needed" >&2; exit 1; }
	build=$build/py$version
	mkdir -p "$build"
	log=$build/install.log
	: >"$log"
}

# An environment without pip and setuptools: their .pth files and finders would be timed as well.
make_env() { # NAME
	[ -x "$build/$1/bin/python" ] || "$python" -m venv --without-pip "$build/$1" >>"$log" 2>&1
}

need_env() { # NAME
	make_env "$1" || { echo "${0##*/}: cannot make an environment with $python -m venv; see $log" >&2; exit 1; }
}

# The one that installs into the others.
need_tools() {
	[ -x "$build/tools/bin/pip" ] || "$python" -m venv "$build/tools" >>"$log" 2>&1 ||
		{ echo "${0##*/}: $python has no ensurepip (Debian: python3-venv); see $log" >&2; exit 1; }
}

install_into() { # NAME WHAT...
	local into=$build/$1
	shift
	"$build/tools/bin/python" -m pip --python "$into/bin/python" install --quiet --disable-pip-version-check "$@" >>"$log" 2>&1
}

# What the wheel is built from, as one hash: it is built anew only when this changes.
fingerprint() {
	(
		shopt -s nullglob
		# shellcheck disable=SC2154  # checkout: see above
		cd "$checkout" || exit
		find core ext CMakeLists.txt pyproject.tom[l] README.m[d] -type f ! -path '*/__pycache__/*' -print0 |
			sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
	)
}

# The line of a log that tells most; nothing of this machine's paths goes into a report.
last_error() {
	local text
	text=$(grep -iE 'error|not found|neither' "$1" |
		grep -viE 'subprocess|encountered error|generation-failed|group|failed to build|hint:|note:' |
		sed 's/\x1b\[[0-9;]*m//g; s/^[^[:alnum:]]*//; s/^ERROR: //' | tail -1) || true
	echo "${text:-see its log in the build directory}" | sed "s|$checkout|the checkout|g; s|$build|the build directory|g"
}

# The programs of bench/micro, in $build/c.
build_programs() {
	command -v cmake >/dev/null || { echo "${0##*/}: no cmake (Debian: cmake)" >&2; exit 1; }
	say "building the programs of bench/micro"
	{
		cmake -S "$checkout" -B "$build/c" -DLADEWERK_BUILD_BENCH=ON -DLADEWERK_BUILD_EXTENSION=OFF
		cmake --build "$build/c"
	} >"$build/c.log" 2>&1 || { echo "${0##*/}: $(last_error "$build/c.log"); see $build/c.log" >&2; exit 1; }
}

# Prints nothing; installs the wheel in the environment NAME and leaves it in $build/wheel, or the reason in $build/why-not.
# What was made from an earlier one, OTHERS, is removed. Each NAME has its own memory of what it has.
build_wheel() { # NAME OTHERS...
	local name=$1 print other
	shift
	print=$(fingerprint)
	if [ "$(cat "$build/fingerprint-$name" 2>/dev/null)" = "$print" ]; then
		return
	fi
	rm -rf "$build/wheel" "$build/why-not"
	for other in "$@"; do
		rm -rf "${build:?}/$other"
	done
	say "building Ladewerk"
	if ! "$build/tools/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
		-w "$build/wheel" "$checkout" >"$build/wheel.log" 2>&1; then
		last_error "$build/wheel.log" >"$build/why-not"
	elif ! install_into "$name" --force-reinstall --no-deps "$build"/wheel/*.whl; then
		last_error "$log" >"$build/why-not"
	fi
	echo "$print" >"$build/fingerprint-$name"
}

revision() { git -C "$checkout" describe --always --dirty 2>/dev/null; }

# Ladewerk, or why there is none, as scan.py and watch.py want to be told: see parse_options().
give_wheel() { # NAME
	build_wheel "$1"
	if [ -s "$build/why-not" ]; then
		say "Ladewerk could not be installed: $(cat "$build/why-not")"
		given+=(--why-not "$(cat "$build/why-not")")
	else
		given+=(--ladewerk "$build/$1/bin/ladewerk")
	fi
	local what
	if what=$(revision); then given+=(--revision "$what"); fi
}

# Runs a benchmark, and shows its report. It has daemons to end or a disk to take away: so we wait for it when we are ended.
measure_and_show() { # NAME COMMAND...
	local pid
	# shellcheck disable=SC2154  # here: the caller's
	output=${output:-$here/results/$(date -u +%Y-%m-%dT%H%M%SZ)-$1}
	shift
	mkdir -p "$output"
	PYTHONPATH=$here "$@" --programs "$build/c/bench/micro" --output "$output" "${given[@]}" &
	pid=$!
	# shellcheck disable=SC2064  # now
	trap "kill -TERM $pid 2>/dev/null; wait $pid || true; exit 130" INT TERM HUP
	wait "$pid"
	trap - INT TERM HUP
	cat "$output/report.md"
	say "written: $output/report.md and report.json"
}
