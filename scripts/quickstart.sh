#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# From a fresh checkout to numbers: installs what is missing, builds, and compares real programs with and without
# Ladewerk in a virtual environment of its own.
set -euo pipefail

usage() {
	cat <<'END'
Usage: scripts/quickstart.sh [OPTIONS]

Builds Ladewerk and installs it with sympy, django, sqlalchemy and twisted from PyPI into a virtual environment
(build/quickstart); runs a small program of each with and without Ladewerk and shows what it makes of them.

  --python PATH     the interpreter (default: the first one of scripts/setup.sh --list)
  --rounds N        runs of each (default: 9)
  --build-dir DIR   where it is built (default: build/)
END
}

build='' python='' rounds=9
while (($#)); do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--python) python=${2:?--python needs a path}; shift ;;
	--rounds) rounds=${2:?--rounds needs a number}; shift ;;
	--build-dir) build=${2:?--build-dir needs a directory}; shift ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -m "${build:-$here/../build}")
# shellcheck source=scripts/common.sh
. "$here/common.sh"
clean_environment

"$here/setup.sh"
if [[ ! $python ]]; then
	python=$("$here/setup.sh" --list | awk -F '\t' 'NR == 1 { print $3 }')
fi
[[ $python ]] || { say "quickstart: no CPython >= 3.11 with headers was found"; exit 1; }

venv=$build/quickstart
if [[ $(cat "$venv/made-by" 2>/dev/null) != "$python" ]]; then
	rm -rf "$venv"
fi
say "quickstart: building and installing into $venv ($("$python" --version))"
make_venv "$python" "$venv"
printf '%s\n' "$python" >"$venv/made-by"
pip_install "$venv" sympy django sqlalchemy twisted
pip_install "$venv" --force-reinstall --no-deps "$repo"

say "quickstart: running each program $((2 * (rounds + 2))) times"
LADEWERK_CACHE=$venv/cache "$venv/bin/python" "$here/compare.py" --rounds "$rounds" "$venv"

cat <<END

With your own program, in its own virtual environment:
    python -m pip install $repo
    ladewerk run your_program.py     # the first run learns, from the second on it is fast
    ladewerk enable                  # if you like it: from now on plain \`python\` does the same (undo: ladewerk disable)
END
