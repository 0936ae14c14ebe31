#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/engines.sh [--quick] [--python PYTHON] [-n ROUNDS] [--only PART[,PART]]: what import engines cost: lookups inside and outside, cached imports, making
# one, the second program in the same process; beside stock Python, subinterpreters and subprocesses. PART: lookup, cached, create, programs, memory.
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" engines "$@"
