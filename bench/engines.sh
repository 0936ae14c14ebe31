#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/engines.sh [--python PYTHON] [-n ROUNDS] [--quick] [--only SECTION[,SECTION]]: what import engines cost: lookups inside and outside, cached imports, making
# one, the second program in the same process; beside stock Python, subinterpreters and subprocesses.
# Builds an environment in build-bench/engines-PYTHON; SECTION: lookup, cached, create, programs, memory.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=bench/venv.sh
. bench/venv.sh
python=python3 rounds=15 only=
while [ $# -gt 0 ]; do
	case $1 in
	--python) python=$2; shift 2 ;;
	-n) rounds=$2; shift 2 ;;
	--quick) rounds=5; shift ;;
	--only) only=$2; shift 2 ;;
	*) sed -n 's/^# \{0,1\}//; 4,6p' "$0"; exit 2 ;;
	esac
done
environment engines
exec "$venv/bin/python" bench/engines.py -n "$rounds" ${only:+--only "$only"}
