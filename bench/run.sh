#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The import benchmark: stock Python, rivals, floors and Ladewerk, interleaved. bench/README.md explains the figures.
set -euo pipefail

usage() {
	cat <<-END
	usage: bench/run.sh [options]

	  --quick           fewer rounds: a short look (about 8 minutes once built; the full run takes about 25)
	  --only SECTION    startup, paths, modules, programs, memory, cold, syscalls or hyperfine; may be given more than once
	  --program NAME    of the programs, this one: ${programs[*]} service; may be given more than once
	  -n, --runs N      N rounds in every section
	  --python PYTHON   interpreter the environments are made from (default: python3)
	  --venv DIR        use this environment as it is, with the Ladewerk and the programs it has
	  --build DIR       where environments, corpus and caches are kept (default: build-bench/ in the checkout)
	  -o DIR            where report.md and report.json go (default: bench/results/DATE-pyVERSION/)
	  --seed N          seed of the corpus (default: 1)
	  -h, --help

	Needs Python 3.11 or newer with venv and ensurepip. hyperfine and strace (Debian packages of the same names) are used
	when they are there; what cannot run gets a row that says why. The machine should be idle.
	END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$here")
programs=(sympy django sqlalchemy twisted pandas boto3)
pycds=code-data-share==0.1.0

python=python3 venv='' build=$checkout/build-bench output='' measure=()

# shellcheck source=bench/environments.sh
. "$here/environments.sh"

while [ $# -gt 0 ]; do
	case $1 in
	--quick) measure+=("$1") ;;
	--only)
		need "$1" $#
		case $2 in
		startup | paths | modules | programs | memory | cold | syscalls | hyperfine) measure+=("$1" "$2") ;;
		*) echo "run.sh: no section $2; see --help" >&2; exit 2 ;;
		esac
		shift
		;;
	--program)
		need "$1" $#
		case " ${programs[*]} service " in
		*" $2 "*) measure+=("$1" "$2") ;;
		*) echo "run.sh: no program $2; see --help" >&2; exit 2 ;;
		esac
		shift
		;;
	-n | --runs | --seed)
		need_number "$1" $# "${2-}"
		measure+=("$1" "$2")
		shift
		;;
	--python) need "$1" $#; python=$2; shift ;;
	--venv) need "$1" $#; venv=$2; shift ;;
	--build) need "$1" $#; build=$2; shift ;;
	-o | --output) need "$1" $#; output=$2; shift ;;
	-h | --help) usage; exit 0 ;;
	*) echo "run.sh: unknown option $1; see --help" >&2; exit 2 ;;
	esac
	shift
done

[ -z "$venv" ] || python=$venv/bin/python
begin

# Environments with Ladewerk alone, for the start-up section; one of them enabled.
small_envs() {
	local name
	for name in small enabled; do
		if [ ! -x "$build/$name/bin/ladewerk" ]; then
			make_env "$name" && install_into "$name" --no-deps "$build"/wheel/*.whl || return
		fi
	done
	measure+=(--small-python "$build/small/bin/python")
	if "$build/enabled/bin/ladewerk" enable >>"$log" 2>&1; then
		measure+=(--enabled-python "$build/enabled/bin/python")
	fi
}

# PyCDS disturbs whoever shares its environment (its .pth file imports it at every start): a twin of `programs`, the same versions.
pycds_env() {
	local pins
	pins=$("$build/tools/bin/python" -m pip --python "$build/programs/bin/python" freeze 2>>"$log" | grep -v '^ladewerk ') || return
	if [ "$(cat "$build/installed-pycds" 2>/dev/null)" != "$pins" ]; then
		say "installing PyCDS and the programs once more, beside it"
		: >"$log.pip"
		rm -rf "$build/pycds"
		if make_env pycds && log=$log.pip install_into pycds --only-binary :all: "$pycds"; then
			echo "$pins" >"$build/pins.txt"
			install_into pycds --only-binary :all: -r "$build/pins.txt" || return
		else
			rm -rf "$build/pycds"
			last_error "$log.pip" >"$build/why-no-pycds"
		fi
		echo "$pins" >"$build/installed-pycds"
	fi
	if [ -x "$build/pycds/bin/python" ]; then
		measure+=(--pycds-python "$build/pycds/bin/python")
	else
		measure+=(--failed "pycds=$(cat "$build/why-no-pycds")")
	fi
}

need_env bare
measure+=(--bare-python "$build/bare/bin/python")
if [ -n "$venv" ]; then
	measure+=(--python "$venv/bin/python")
else
	make_env programs
	need_tools
	for program in "${programs[@]}"; do
		[ -e "$build/installed-$program" ] && continue
		say "installing $program"
		: >"$log.pip"
		# A program that cannot be installed, or would have to be compiled first, gets a row that says so.
		if log=$log.pip install_into programs --only-binary :all: "$program"; then
			touch "$build/installed-$program"
		else
			measure+=(--failed "$program=$(last_error "$log.pip")")
		fi
	done
	pycds_env || say "no environment for PyCDS; see $log"
	build_wheel programs small enabled
	if [ -s "$build/why-not" ]; then
		rm -f "$build/programs/bin/ladewerk"
		say "Ladewerk could not be installed: $(cat "$build/why-not")"
		measure+=(--why-not "$(cat "$build/why-not")")
	else
		small_envs || say "no environments for the start-up section; see $log"
	fi
	measure+=(--python "$build/programs/bin/python")
	if revision=$(revision); then measure+=(--revision "$revision"); fi
fi

output=${output:-$here/results/$(date -u +%Y-%m-%dT%H%M%SZ)-py$version}
mkdir -p "$output"
"$build/bare/bin/python" "$here/measure.py" --build "$build" --output "$output" "${measure[@]}"
cat "$output/report.md"
say "written: $output/report.md and report.json"
