#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/reload.sh [--python PYTHON] [-n SAVES] [--quick]: save -> new code live, beside importlib.reload, IPython's autoreload, jurigged, hmr, and
# restarts by watchfiles. Builds an environment in build-bench/reload-PYTHON (network: PyPI, for those; the row of one that is missing says so).
set -euo pipefail
cd "$(dirname "$0")/.."
python=python3 saves=200 sizes="100 10000"
while [ $# -gt 0 ]; do
	case $1 in
	--python) python=$2; shift 2 ;;
	-n) saves=$2; shift 2 ;;
	--quick) saves=50 sizes="100 1000"; shift ;;
	*) sed -n 's/^# \{0,1\}//; 4,5p' "$0"; exit 2 ;;
	esac
done
tag=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
venv=${LADEWERK_BENCH_VENV:-build-bench/reload-$tag}
if [ ! -x "$venv/bin/python" ]; then
	"$python" -m venv "$venv"
	"$venv/bin/pip" -q install .
	for rival in ipython jurigged hmr watchfiles; do
		"$venv/bin/pip" -q install "$rival" || echo "$rival could not be installed" >&2
	done
fi
exec "$venv/bin/python" bench/reload.py -n "$saves" --sizes $sizes
