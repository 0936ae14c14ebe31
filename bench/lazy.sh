#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/lazy.sh [--quick] [--check] [--python PYTHON] [-n ROUNDS] [--only PART[,PART]] [--program NAME]: real programs from PyPI in normal use, stock and with eager and
# lazy imports, each compared with stock before it is timed; loops of pyperformance's benchmarks in a process with lazy imports. PART: cli, start, web, test, numeric,
# steady.
# --check: they are compared and not timed, with each --python that is given; exit status 1: one of them does not do the same.
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" lazy "$@"
