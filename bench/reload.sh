#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/reload.sh [--quick] [--python PYTHON] [-n SAVES] [--only PART[,PART]]: save -> new code live, beside importlib.reload, IPython's autoreload, jurigged, hmr,
# and restarts by watchfiles; save -> the first line of a program that is started again. PART: save, alone (Ladewerk and nobody else), restart.
[ "${1-}" != --restart ] || set -- --only restart "${@:2}"
exec "$(dirname "${BASH_SOURCE[0]}")/section.sh" reload "$@"
