#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# bench/section.sh SECTION [--quick] [--only PART[,PART]] [OPTION...]: one section of run.sh, with all that it has; --quick: as short as in a run of all of
# them. Options are those of run.sh.
set -euo pipefail

section=$1 effort=--full parts=() options=()
shift
while [ $# -gt 0 ]; do
	case $1 in
	--quick) effort= ;;
	-h | --help)
		sed -n '4,/^exec/ { s/^# \{0,1\}//p }' "$(dirname "${BASH_SOURCE[0]}")/$section.sh"
		echo 'The other options are those of bench/run.sh; --quick: as short as in a run of all sections.'
		exit 0
		;;
	--only)
		[ $# -gt 1 ] || { echo "$section: --only needs an argument; see --help" >&2; exit 2; }
		for part in ${2//,/ }; do parts+=(--only "$section/$part"); done
		shift
		;;
	*) options+=("$1") ;;
	esac
	shift
done
[ ${#parts[@]} -gt 0 ] || parts=(--only "$section")
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" ${effort:+"$effort"} "${parts[@]}" ${options[@]+"${options[@]}"}
