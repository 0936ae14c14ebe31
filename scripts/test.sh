#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Sets up whatever is missing and runs every test: C (plain, under sanitizers, fuzzing) and Python (the installed
# package, with several interpreters at once). A failed step does not stop the others. The runners' own summaries
# come last; the logs are kept.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/common.sh
. "$here/common.sh"

usage() {
	cat <<'END'
Usage: scripts/test.sh [OPTIONS]

Installs what is missing (see scripts/setup.sh), builds, and runs all tests. Build directories and virtual
environments are kept, so a second run takes a fraction of the first.

  --quick           only the plain C build and the first interpreter
  --c-only          only C: plain, AddressSanitizer, ThreadSanitizer, fuzz targets
  --python-only     only Python: the package is built, installed and tested with each interpreter
  --python PATH     test with this interpreter (may be repeated). Default: one of each minor version from 3.11 on,
                    as listed by scripts/setup.sh --list
  --all-pythons     then make a tree with CPython 3.13, 3.14, 3.15 and a free-threaded build (scripts/pythons-tree.sh;
                    root, a network, 3 GB and 12 minutes the first time) and run the Python tests and the plain C
                    build in it as well, with the other settings that are given here; --python is not for the tree
  --tree DIR        --all-pythons with the tree in DIR (default: BUILD/tree)
  --together N      run N steps at once, of those that bear it (default: one more than there are processors, since tests wait a lot)
  --cpython-suite   also run CPython's own import tests with each interpreter (scripts/cpython-tests.sh)
  --long            long settings: more rounds in the tests (LADEWERK_LONG=1), 3 minutes for each fuzz target
  --no-setup        do not install anything with apt-get
  --build-dir DIR   where everything is built (default: build/)

Environment: LADEWERK_REQUIRE_KERNEL=1 lets tests fail that would be skipped because this kernel lacks something.
Exit code: 0 if everything passed.
END
}

build='' quick='' run_c=1 run_python=1 suite='' setup=1 all_pythons='' tree='' together=$(($(nproc) + 1))
pythons=()
while (($#)); do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--quick) quick=1 ;;
	--c-only) run_python='' ;;
	--python-only) run_c='' ;;
	--python) pythons+=("${2:?--python needs a path}"); shift ;;
	--all-pythons) all_pythons=1 ;;
	--tree) all_pythons=1 tree=${2:?--tree needs a directory}; shift ;;
	--cpython-suite) suite=1 ;;
	--long) export LADEWERK_LONG=1 ;;
	--together) together=${2:?--together needs a number}; shift ;;
	--no-setup) setup='' ;;
	--build-dir) build=${2:?--build-dir needs a directory}; shift ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done
[[ $together =~ ^[1-9][0-9]?$ ]] || { say "test: --together needs a number from 1 to 99"; exit 2; }
[[ $run_c || $run_python ]] || { say "test: --c-only and --python-only exclude each other"; exit 2; }

build=$(realpath -m "${build:-$here/../build}")
clean_environment
in_tree=("$here/pythons-tree.sh" --build-dir "$build" --tree "${tree:-$build/tree}")
[[ $setup ]] || in_tree+=(--no-setup)
[[ ! $all_pythons ]] || "${in_tree[@]}" check
logs=$build/logs
rm -rf "$logs"
mkdir -p "$logs"
jobs=$(nproc)

steps=() failed=() skipped=()

# record NAME CODE: how a step went, for the end and for whoever started this. 77 is skipped.
record() {
	steps+=("$1")
	case $2 in
	0) ;;
	77) skipped+=("$1") ;;
	*) failed+=("$1") ;;
	esac
	printf '%s\t%s\n' "$1" "$2" >>"$logs/results"
}

declare -A running=() begun=() # by process: the step; by step: when

# begin NAME COMMAND...: start it with its output in a log; finish() waits for it.
begin() {
	local name=$1 log=$logs/$1.log
	shift
	say "test: $name ..."
	begun[$name]=$SECONDS
	set -m # a process group of its own, in which interrupts are not ignored
	(set -e; "$@") >"$log" 2>&1 </dev/null &
	set +m
	running[$!]=$name
}

# Ctrl-C, or whoever ends this, ends what it has begun.
stop() {
	local process
	for process in "${!running[@]}"; do
		kill -s TERM -- "-$process" 2>/dev/null || true
	done
	exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

# finish: the end of one of the steps that run.
finish() {
	local process code=0 name log
	wait -n -p process "${!running[@]}" || code=$?
	name=${running[$process]}
	log=$logs/$name.log
	unset "running[$process]"
	record "$name" "$code"
	case $code in
	0) say "test: $name passed in $((SECONDS - begun[$name])) s" ;;
	77) say "test: $name skipped: $(tail -n 1 "$log")" ;;
	*)
		say "test: $name FAILED after $((SECONDS - begun[$name])) s ($log)"
		# Should there be no time for more. The end of the log comes at the end.
		grep -E '^(FAILED|ERROR) |\((Failed|Timeout|SEGFAULT)\)|(^|[^[:alpha:]])error:' "$log" | tail -n 20 >&2 || true
		;;
	esac
}

# finish_all: the end of all that runs.
finish_all() {
	while ((${#running[@]})); do
		finish
	done
}

# step NAME COMMAND...: alone.
step() {
	finish_all
	begin "$@"
	finish
}

# beside NAME COMMAND...: with others, as soon as fewer than $together run.
beside() {
	((${#running[@]} < together)) || finish
	begin "$@"
}

# c_build DIR OPTION...
c_build() {
	local dir=$1
	shift
	# A checkout that has moved cannot use its old build directory.
	grep -qsxF "CMAKE_HOME_DIRECTORY:INTERNAL=$repo" "$dir/CMakeCache.txt" || rm -rf "$dir"
	cmake -S "$repo" -B "$dir" -G Ninja -DLADEWERK_WERROR=ON -DLADEWERK_BUILD_EXTENSION=OFF "$@"
	cmake --build "$dir"
}

# The sanitizers of older compilers do not start where the kernel randomizes more address bits than they expect.
fixed_addresses=()
if setarch -R true 2>/dev/null; then
	fixed_addresses=(setarch -R)
fi

# c_tests DIR OPTION...
c_tests() {
	c_build "$@"
	"${fixed_addresses[@]}" ctest --test-dir "$1" --output-on-failure --no-tests=error -j "$jobs"
}

# The plain build is what is shipped, without assertions; the others check them as well.
checked=("-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O2 -g")

# The library is instrumented too: a fuzzer that sees no branch of it finds nothing.
fuzz() {
	local target
	if ! command -v clang >/dev/null; then
		echo "no clang"
		return 77
	fi
	local options=(-DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS=-fsanitize=fuzzer-no-link -DLADEWERK_BUILD_FUZZERS=ON
		-DLADEWERK_SANITIZE=address "${checked[@]}")
	if [[ ! ${LADEWERK_LONG-} ]]; then
		c_tests "$build/c-fuzz" "${options[@]}"
		return
	fi
	c_build "$build/c-fuzz" "${options[@]}"
	for target in "$build"/c-fuzz/tests/fuzz_*; do
		[[ -x $target ]] || continue
		mkdir -p "$build/corpus/${target##*/}"
		(cd "$logs" && "${fixed_addresses[@]}" "$target" -max_total_time=180 -timeout=10 -rss_limit_mb=1024 \
			"$build/corpus/${target##*/}")
	done
}

# What no other step configures: benchmarks, no io_uring, and a project that takes this one in.
c_options() {
	local dir=$build/consumer
	c_build "$build/c-options" -DLADEWERK_BUILD_BENCH=ON -DLADEWERK_URING_LIBRARY=OFF
	"$build/c-options/bench/micro/bench_lookup" 40 5
	"$build/c-options/bench/micro/bench_registry" 500 1 2
	rm -rf "$dir"
	mkdir -p "$dir"
	cat >"$dir/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C)
set(LADEWERK_BUILD_EXTENSION OFF)
set(LADEWERK_WERROR ON)
add_subdirectory($repo ladewerk)
add_executable(consumer main.c)
target_link_libraries(consumer PRIVATE ladewerk::core)
END
	cat >"$dir/main.c" <<'END'
#include "hash.h"
int main(int argc, char **argv) { int unused; return (int)lw_hash64(*argv, 1) == argc; } /* our warnings are not theirs */
END
	cmake -S "$dir" -B "$dir/build" -G Ninja
	cmake --build "$dir/build"
}

# package PYTHON: the source distribution is complete, and an editable installation works.
package() {
	local id dir venv
	local -a requires
	id=$(interpreter_id "$1")
	dir=$build/package-$id
	venv=$dir/venv
	rm -rf "$dir"
	make_venv "$1" "$venv"
	mapfile -t requires < <(build_requires "$venv/bin/python")
	pip_install "$venv" "${requires[@]}"
	cd "$repo"
	"$venv/bin/python" -c 'import sys
from scikit_build_core.build import build_sdist
build_sdist(sys.argv[1])' "$dir"
	tar -xzf "$dir"/ladewerk-*.tar.gz -C "$dir"
	cd "$dir"
	PATH=$venv/bin:$PATH pip_install "$venv" --no-deps --no-build-isolation -e "$(echo "$dir"/ladewerk-*/)"
	LADEWERK_CACHE=$dir/cache "$venv/bin/ladewerk" run -c 'import decimal, ladewerk; assert ladewerk.stats()["active"], ladewerk.stats()'
}

# pytest_in DIR OPTION...: DIR is made. The checkout may be read-only.
pytest_in() {
	mkdir "$1" && cd "$1" &&
		XDG_CACHE_HOME=$1/cache pytest --color=no --durations=30 -o cache_dir="$1/pytest-cache" "${@:2}"
}

# python_tests PYTHON SHARE [OPTION...]: the package as a user gets it; pytest has the options. SHARE: see tests/interpreters.py. The working
# directory is an empty one and pytest is started as a program, so that nothing of the checkout but the tests themselves can be imported; that
# is checked as well. In two halves at once, since most tests wait for children; the log has one after the other. Tracing comes after both: while
# probes are in an interpreter, CPython itself stumbles over odd names (bpf/README.md).
python_tests() {
	local id venv work code=0 python=$1 share=$2
	shift 2
	id=$(interpreter_id "$python")
	venv=$build/venv-$id
	work=$build/run-$id
	make_venv "$python" "$venv"
	if [[ -f $repo/tests/requirements.txt ]]; then
		pip_install "$venv" -r "$repo/tests/requirements.txt"
	else
		pip_install "$venv" pytest hypothesis
	fi
	# Greenlets are compiled: not every interpreter has each of the wheels, and tests that need them are skipped then.
	grep -v '^#' "$repo/tests/requirements-greenlets.txt" | while read -r package; do
		pip_install "$venv" --only-binary :all: "$package" || echo "no $package for this interpreter"
	done
	# Two versions of two libraries, for import engines to keep apart; what is marked `once` needs the second.
	local -a libraries=()
	(($# == 0)) || libraries=(sqlalchemy)
	"$venv/bin/python" "$repo/tests/engine/libraries.py" "$build/libraries-$id" "${libraries[@]}"
	install_ladewerk "$python" "$venv"
	rm -rf "$work"
	mkdir -p "$work"
	cd "$work"
	"$venv/bin/python" -I -c 'import ladewerk, os, sys
where = os.path.realpath(ladewerk.__file__)
if not where.startswith(os.path.realpath(sys.prefix)): sys.exit("not the installed package: " + where)'
	export LADEWERK_SHARE=$share LADEWERK_LIBRARIES=$build/libraries-$id PATH=$venv/bin:$PATH
	pytest_in "$work/ext" "$@" "$repo/tests/ext" >"$work/ext.log" 2>&1 &
	pytest_in "$work/rest" "$@" "$repo/tests/live" "$repo/tests/cli" "$repo/tests/engine" "$repo/tests/lazy" || code=$?
	wait $! || code=$?
	cat "$work/ext.log"
	pytest_in "$work/bpf" "$@" "$repo/tests/bpf" || code=$?
	# Of the benchmark, which no interpreter but the first has to test. By itself: its modules have names that helpers of other tests have as well.
	(($# > 0)) || pytest_in "$work/bench" "$repo/tests/bench" || code=$?
	return "$code"
}

# tree_tests OPTION...: this script in the tree. Its steps become steps of this run, so that its own summary, which
# it prints to its standard output, is not needed unless it ended without any.
tree_tests() {
	local inner=$build/in-tree/logs name code ended=0 before=${#failed[@]}
	local log=$logs/test@tree.log
	rm -rf "$inner"
	say "test: in the tree ($*):"
	# shellcheck disable=SC2094 # both append
	"${in_tree[@]}" run scripts/test.sh --no-setup --build-dir "$build/in-tree" "$@" \
		2>&1 >>"$log" </dev/null | tee -a "$log" >&2 || ended=$?
	if [[ -e $inner/results ]]; then
		while IFS=$'\t' read -r name code; do
			cp "$inner/$name.log" "$logs/$name@tree.log"
			record "$name@tree" "$code"
		done <"$inner/results"
	fi
	((ended == 0 || ${#failed[@]} > before)) || record test@tree "$ended"
}

cpython_suite() { "$here/cpython-tests.sh" --build-dir "$build" "$1"; }

# The part of a log that its runner ends with.
summary() {
	case $1 in
	c-*) sed -n '/% tests passed/,$p' "$logs/$1.log" ;;
	python-*) grep -E '^=+ .* in [0-9.]+s.* =+$' "$logs/$1.log" ;;
	cpython-*) tail -n 2 "$logs/$1.log" ;;
	esac
}

if [[ $setup ]]; then
	"$here/setup.sh"
fi

if [[ $run_c ]]; then
	# Alone: what some of these tests see is what happens on the whole machine.
	step c-plain c_tests "$build/c-plain" -DLADEWERK_BUILD_TESTS=ON
	if [[ ! $quick ]]; then
		# Races are for c-thread, which sees memory that is used after it was freed as well; with --long, for both.
		step c-address c_tests "$build/c-address" "${checked[@]}" -DLADEWERK_BUILD_TESTS=ON -DLADEWERK_SANITIZE=address -DLADEWERK_TEST_RACES="${LADEWERK_LONG:-OFF}"
	fi
fi
if [[ $run_python ]]; then
	if ((${#pythons[@]} == 0)); then
		mapfile -t pythons < <("$here/setup.sh" --list | awk -F '\t' '!seen[$1]++ { print $3 }')
	fi
	((${#pythons[@]})) || { say "test: no CPython >= 3.11 with headers was found"; exit 1; }
	if [[ $quick ]]; then
		pythons=("${pythons[0]}")
	fi
	others=() number=0
	for python in "${pythons[@]}"; do
		number=$((number + 1)) share=1/1
		[[ ${LADEWERK_LONG-} ]] || share=$number/${#pythons[@]}
		beside "python-$(interpreter_id "$python")" python_tests "$python" "$share" "${others[@]}"
		# What does not depend on the interpreter is tested with the first one; with --long, with each.
		[[ ${LADEWERK_LONG-} ]] || others=(-m "not once")
	done
fi
if [[ ! $quick ]]; then
	# The long ones first, so that these fill the gaps.
	if [[ $run_c ]]; then
		beside c-thread c_tests "$build/c-thread" "${checked[@]}" -DLADEWERK_BUILD_TESTS=ON -DLADEWERK_SANITIZE=thread
		beside c-fuzz fuzz
		beside c-options c_options
	fi
	[[ ! $run_python ]] || beside package package "${pythons[0]}"
fi
finish_all
if [[ $run_python ]]; then
	if [[ $suite ]]; then
		for python in "${pythons[@]}"; do
			step "cpython-$(interpreter_id "$python")" cpython_suite "$python"
		done
	fi
fi

if [[ $all_pythons ]]; then
	step tree "${in_tree[@]}" make
	if [[ " ${failed[*]-} " != *" tree "* ]]; then
		# No interpreter takes part in the C tests: once, for the newer compiler and C library, is enough.
		[[ ! $run_c ]] || tree_tests --c-only --quick
		[[ ! $run_python ]] || tree_tests --python-only ${quick:+--quick} ${suite:+--cpython-suite}
	fi
fi

for name in "${failed[@]}"; do
	printf '\n==== %s failed; the end of its log:\n' "$name"
	tail -n 300 "$logs/$name.log"
done
printf '\n%d steps: %d failed (%s), %d skipped (%s)\n' \
	"${#steps[@]}" "${#failed[@]}" "${failed[*]-}" "${#skipped[@]}" "${skipped[*]-}"
# pytest's come last.
for kind in cpython c python; do
	for name in "${steps[@]}"; do
		if [[ $name == "$kind"-* ]] && text=$(summary "$name") && [[ $text ]]; then
			printf '\n%s:\n%s\n' "$name" "$text"
		fi
	done
done
((${#failed[@]} == 0))
