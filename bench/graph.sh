#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/graph.sh [--quick] [--python PYTHON] [-n ROUNDS] [--only PART[,PART]]: how long a question about the import graph of 50,000 modules takes, the whole
# process, beside a start of the interpreter that does nothing. PART: alone, daemon (with `ladewerk watch` beside it).
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" graph "$@"
