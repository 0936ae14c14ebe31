#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/trace.sh [--quick] [--python PYTHON] [-n ROUNDS] [--only PART[,PART]]: what `ladewerk trace` costs those who are traced, others, and itself; beside
# -X importtime, py-spy (PyPI) and bpftrace (if it is installed). Needs what tracing needs. PART: modules, sympy, cached, switches, attach.
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" trace "$@"
