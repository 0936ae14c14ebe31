#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Usage: tests/model/run.sh [DIR]
#
# Has spin search every interleaving of the models in this directory: each must hold in all its settings, and fail as each of its mutants. Works in DIR
# (default: a temporary one). Exit code 77: spin is not installed (a failure with LADEWERK_REQUIRE_KERNEL=1).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
for tool in spin gcc; do
	command -v "$tool" >/dev/null && continue
	echo "model: skipped: $tool is not installed (on Debian: apt-get install $tool)"
	[[ ${LADEWERK_REQUIRE_KERNEL:-0} == 0 ]] || exit 1
	exit 77
done
if (($#)); then
	mkdir -p "$1"
	cd "$1"
else
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	cd "$scratch"
fi

# search LEVEL MODEL OPTION...: what the search says, in ./result. LEVEL: of optimization.
search() {
	local level=$1 model=$2
	shift 2
	rm -f pan pan.*
	spin -a "$@" "$here/$model.pml" >result
	gcc "$level" -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=3000 -o pan pan.c
	./pan -m1000000 >result
}

# A search that was cut short has shown nothing.
holds() {
	search -O2 "$@"
	if ! grep -q 'errors: 0$' result || grep -qiE 'max search depth|search not completed|out of memory|memory limit' result; then
		cat result
		echo "model: $* DOES NOT HOLD"
		return 1
	fi
	echo "model: $* holds in all of $(awk '/states, stored/ { print $1 }' result) states"
}

# A mutant is found soon: compiling takes longer than searching.
fails() {
	search -O0 "$@"
	if ! grep -q 'assertion violated' result; then
		cat result
		echo "model: $* was NOT caught"
		return 1
	fi
	echo "model: $* is caught: $(grep -m 1 'assertion violated' result)"
}

failed=0

# refuses MODEL COUNT OPTION...: each of the mutants that the model lists, of which there are COUNT at least.
refuses() {
	local model=$1 least=$2 mutant
	local -a mutants
	shift 2
	mapfile -t mutants < <(sed -n 's/^ \* *\([A-Z_]*\)  .*/\1/p' "$here/$model.pml")
	((${#mutants[@]} >= least)) || { echo "model: the list of the mutants of $model was not found"; failed=1; }
	for mutant in "${mutants[@]}"; do
		fails "$model" "-D$mutant" "$@" || failed=1
	done
}

one=(-DREADERS=1 -DROUNDS=2 -DPUBLICATIONS=4 -DADDRESSES=4)
two=(-DREADERS=2 -DROUNDS=1 -DPUBLICATIONS=3 -DADDRESSES=3)
long=(-DREADERS=2 -DROUNDS=1 -DPUBLICATIONS=5 -DADDRESSES=3)
holds registry "${one[@]}" || failed=1
holds registry "${two[@]}" || failed=1
[[ ! ${LADEWERK_LONG-} ]] || holds registry "${long[@]}" || failed=1
refuses registry 8 "${one[@]}"

holds journal || failed=1
holds journal -DKILLS=1 -DCHANGES=1 -DCHECKS=3 || failed=1
holds journal -DKILLS=1 -DCHANGES=2 -DCHECKS=1 || failed=1
[[ ! ${LADEWERK_LONG-} ]] || holds journal -DCHANGES=3 -DCHECKS=3 || failed=1
[[ ! ${LADEWERK_LONG-} ]] || holds journal -DKILLS=1 -DCHANGES=2 -DCHECKS=2 || failed=1
refuses journal 9
exit "$failed"
