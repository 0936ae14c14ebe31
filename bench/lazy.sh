#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/lazy.sh [--quick] [--python PYTHON] [-n ROUNDS] [--only PART[,PART]] [--program NAME]: real programs from PyPI in normal use, stock and with eager and
# lazy imports, each compared with stock before it is timed; loops of pyperformance's benchmarks in a process with lazy imports. PART: cli, web, test, numeric, steady.
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" lazy "$@"
