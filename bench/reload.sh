#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/reload.sh [--python PYTHON] [-n SAVES] [--quick] [--only ROW]: save -> new code live, beside importlib.reload, IPython's autoreload, jurigged, hmr, and
# restarts by watchfiles.
# bench/reload.sh --restart [...]: save -> the first line of a program that is started again, beside watchfiles and stock Python.
# Builds an environment in build-bench/reload-PYTHON (network: PyPI, for the others, SQLAlchemy and Django; the row of one that is missing says so).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=bench/venv.sh
. bench/venv.sh
python=python3 saves= sizes="100 10000" restart= only=()
while [ $# -gt 0 ]; do
	case $1 in
	--python) python=$2; shift 2 ;;
	-n) saves=$2; shift 2 ;;
	--quick) saves=${saves:-50} sizes="100 1000"; shift ;;
	--restart) restart=1; shift ;;
	--only) only+=("$2"); shift 2 ;;
	*) sed -n 's/^# \{0,1\}//; 4,7p' "$0"; exit 2 ;;
	esac
done
environment reload ipython jurigged hmr watchfiles
export PYTHONPATH=$PWD/bench
if [ -n "$restart" ]; then
	"$venv/bin/python" -c 'import watchfiles, sqlalchemy, django' 2>/dev/null ||
		"$venv/bin/pip" -q install watchfiles sqlalchemy django || echo "watchfiles, SQLAlchemy and Django could not be installed" >&2
	exec "$venv/bin/python" -m reloading.restart -n "${saves:-30}"
fi
exec "$venv/bin/python" -m reloading.reload -n "${saves:-200}" --sizes $sizes ${only:+--only "${only[@]}"}
