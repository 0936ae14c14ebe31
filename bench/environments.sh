# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What scan.sh and watch.sh share; sourced, with `here`, `checkout`, `python`, `build` set.

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

# What environments.py prints: where what is asked for is, or, with status 1, why there is none.
environments() { # WHAT...
	# shellcheck disable=SC2154  # here, python: the caller's
	"$python" -B "$here/environments.py" --python "$python" --build "$kept" "$@"
}

# require NAME WHAT...: sets the variable NAME to where that is; without it there is nothing to be measured.
require() {
	local found
	found=$(environments "${@:2}") || { echo "${0##*/}: $found" >&2; exit 1; }
	printf -v "$1" %s "$found"
}

# The interpreter is checked, and gets a directory of its own, which becomes `build`.
begin() {
	# Nothing of the caller's Python or Ladewerk settings takes part.
	unset "${!PYTHON@}" "${!LADEWERK@}" VIRTUAL_ENV
	kept=$build
	require build home
}

# Ladewerk in the environment NAME, or why there is none, as scanning and watching want to be told: see parse_options().
give_wheel() { # NAME
	local found
	if found=$(environments ladewerk "$1"); then
		given+=(--ladewerk "${found%/*}/ladewerk")
	else
		say "Ladewerk could not be installed: $found"
		given+=(--why-not "$found")
	fi
	# shellcheck disable=SC2154  # checkout: the caller's
	if found=$(git -C "$checkout" describe --always --dirty 2>/dev/null); then given+=(--revision "$found"); fi
}

# Runs a benchmark, and shows its report. It has daemons to end or a disk to take away: so we wait for it when we are ended.
measure_and_show() { # NAME COMMAND...
	local pid
	output=${output:-$here/results/$(date -u +%Y-%m-%dT%H%M%SZ)-$1}
	shift
	mkdir -p "$output"
	# shellcheck disable=SC2154  # micro: the caller's
	PYTHONPATH=$here "$@" --programs "$micro" --output "$output" "${given[@]}" &
	pid=$!
	# shellcheck disable=SC2064  # now
	trap "kill -TERM $pid 2>/dev/null; wait $pid || true; exit 130" INT TERM HUP
	wait "$pid"
	trap - INT TERM HUP
	cat "$output/report.md"
	say "written: $output/report.md and report.json"
}
