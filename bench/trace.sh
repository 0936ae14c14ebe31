#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/trace.sh [--python PYTHON] [-n ROUNDS] [--quick] [--only SECTION[,SECTION]]: what `ladewerk trace` costs those who are traced, others, and itself; beside
# -X importtime, py-spy (PyPI) and bpftrace (if it is installed).
# Builds two environments in build-bench/: one with Ladewerk, one with a copy of the interpreter, which nobody else uses. Needs what tracing needs. SECTION: modules, sympy, cached,
# switches, attach.
set -euo pipefail
cd "$(dirname "$0")/.."
python=python3 rounds=21 only=
while [ $# -gt 0 ]; do
	case $1 in
	--python) python=$2; shift 2 ;;
	-n) rounds=$2; shift 2 ;;
	--quick) rounds=5; shift ;;
	--only) only=$2; shift 2 ;;
	*) sed -n 's/^# \{0,1\}//; 4,7p' "$0"; exit 2 ;;
	esac
done
tag=$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')
venv=${LADEWERK_BENCH_VENV:-build-bench/trace-$tag} target=build-bench/traced-$tag
if [ ! -x "$venv/bin/ladewerk-trace" ]; then
	"$python" -m venv "$venv"
	"$venv/bin/pip" -q install .
	"$venv/bin/pip" -q install py-spy || echo "py-spy could not be installed" >&2
fi
[ -x "$venv/bin/ladewerk-trace" ] || { echo "${0##*/}: ladewerk-trace was not built: clang, bpftool, libbpf or libelf is missing" >&2; exit 1; }
if [ ! -e "$target/installed" ]; then
	"$python" -m venv --copies --without-pip "$target"
	"$venv/bin/pip" --python "$target/bin/python3" -q install sympy
	touch "$target/installed"
fi
rivals=()
if [ -x "$venv/bin/py-spy" ]; then rivals+=(--py-spy "$venv/bin/py-spy"); fi
if bpftrace=$(command -v bpftrace); then rivals+=(--bpftrace "$bpftrace"); fi
PYTHONPATH=$PWD/bench exec "$venv/bin/python" -m tracing.trace -n "$rounds" --ladewerk-trace "$venv/bin/ladewerk-trace" --target "$target/bin/python3" "${rivals[@]}" ${only:+--only "$only"}
