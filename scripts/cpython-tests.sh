#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# CPython's own import tests, stock against Ladewerk: whatever passes without Ladewerk must pass with it.
# Two equal venvs of one interpreter; in one of them Ladewerk is installed and enabled, so that it is active from
# interpreter start in the tests and in every child they start. What fails on stock (root, containers) does not count.
set -euo pipefail

usage() {
	cat <<'END'
Usage: scripts/cpython-tests.sh [OPTIONS] PYTHON [TEST...]

Runs CPython's import tests with PYTHON, without and with Ladewerk, and prints every test that only fails with it.
TEST...: these test files instead. Known differences are listed with a reason in scripts/cpython-exceptions.txt, those
within engines in tests/engine/suite_exceptions.txt, those of lazy imports in tests/lazy/suite_exceptions.txt.
Exit code: 0 none, 1 some, 2 it could not be run, 77 PYTHON comes without its tests (skipped).

  --engines routed  instead: with an import engine in every process from its start, while the tests run in none
  --engines inside  instead: within an engine of one process, one test file after another
  --engines builtin instead: the same, with the engine's `__import__` in place of the built-in
  --lazy[=MODE]     instead: with lazy imports in every process, those of the tests included; default (unless said
                    otherwise), own or all
  --build-dir DIR   where everything is kept (default: build/); results of stock are reused
  --again           do not reuse the results of stock
  --stock-only      run stock only, and show what fails
  --jobs N          test processes at a time (default: the number of processors)
END
}

# Importing, what reads or starts modules, and where import meets threads, fork and interpreters.
tests=(test_importlib test_import test_imp test_pkgutil test_runpy test_zipimport test_zipimport_support
	test_threaded_import test_namespace_pkgs test_frozen test_module test_pyclbr test_modulefinder test_reprlib
	test_site test_cmd_line test_cmd_line_script test_py_compile test_compileall
	test_inspect test_pickle test_traceback test_linecache test_doctest test_audit
	test_atexit test_fork1 test_threading test_threadedtempfile test_interpreters test__interpreters)

build='' again='' stock_only='' engines='' lazy='' jobs=$(nproc) python='' chosen=()
while (($#)); do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--engines)
		engines=${2:?--engines needs a word}
		[[ $engines == @(routed|inside|builtin) ]] || { usage >&2; exit 2; }
		shift
		;;
	--lazy) lazy=default ;;
	--lazy=*)
		lazy=${1#*=}
		[[ $lazy == @(default|own|all) ]] || { usage >&2; exit 2; }
		;;
	--build-dir) build=${2:?--build-dir needs a directory}; shift ;;
	--jobs) jobs=${2:?--jobs needs a number}; shift ;;
	--again) again=1 ;;
	--stock-only) stock_only=1 ;;
	-*) usage >&2; exit 2 ;;
	*) if [[ $python ]]; then chosen+=("$1"); else python=$1; fi ;;
	esac
	shift
done
[[ $python && ! ($engines && $lazy) ]] || { usage >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath -m "${build:-$here/../build}")
# shellcheck source=scripts/common.sh
. "$here/common.sh"
clean_environment
python=$("$python" -I -c 'import os, sys; print(os.path.realpath(sys.executable))')
work=$build/cpython-$(interpreter_id "$python")
mkdir -p "$work"

# Which of the tests this version has (some were packages of their own, some moved into others).
mapfile -t present < <("$python" -I - test_importlib "${chosen[@]-${tests[@]}}" <<'END'
import importlib.util, sys
for name in dict.fromkeys(sys.argv[1:]):
    try:
        found = importlib.util.find_spec("test." + name)
    except ModuleNotFoundError:  # where it is no package
        continue
    if found:
        print(name)
END
)
if [[ " ${present[*]} " != *" test_importlib "* ]]; then
	say "cpython-tests: $python comes without its tests (Debian packs them as libpython3.X-testsuite): skipped"
	exit 77
fi
[[ ${chosen[*]} == '' || " ${chosen[*]} " == *" test_importlib "* ]] || present=("${present[@]:1}")
[[ ${present[*]} ]] || { say "cpython-tests: $python has none of these tests"; exit 2; }

# Nothing may be left in the installation but bytecode, which any import by this user may write.
stdlib=$("$python" -I -c 'import os; print(os.path.dirname(os.__file__))') # sysconfig is wrong in some free-threaded builds
check_untouched() {
	local written
	written=$(find "$stdlib" -xdev -newer "$1" ! -type d ! -name '*.pyc' | head)
	[[ ! $written ]] || { say "cpython-tests: files were written into the installation:" "$written"; exit 2; }
}

# Tests send themselves SIGINT, which what a shell starts in the background ignores.
in_home() { env --default-signal=INT -u XDG_CACHE_HOME HOME="$work/home" "$@"; }

# `python -m test` within an engine; in one process, since its workers would be outside.
within='import ladewerk, sys
sys.argv[0] = "-m"
engine = ladewerk.ImportEngine()
'$([[ $engines != builtin ]] || echo 'import builtins; builtins.__import__ = engine.builtins.__import__ = engine.__import__')'
engine.run_module("test", run_name="__main__", alter_sys=True)'

# run NAME VENV: the tests in $work/VENV, results to $work/NAME.xml
run() {
	local name=$1 venv=$2 start=$SECONDS
	local -a start_tests=(-m test -j "$jobs")
	# They take apart C state of the process, and end it where that is not what they expect: in a process of their own only.
	[[ $name != @(inside|builtin) ]] || start_tests=(-c "$within" --ignore 'test.test_import.SinglephaseInitTests.*')
	rm -rf "$work/$name.xml" "$work/tmp"
	mkdir -p "$work/tmp" "$work/home"
	touch "$work/stamp"
	say "cpython-tests: $name, ${#present[@]} test files"
	# Its exit code tells nothing: tests may fail on stock, and the comparison sees every result there is or is not.
	(cd "$work/tmp" && in_home "$work/$venv/bin/python" "${start_tests[@]}" --timeout 600 \
		--tempdir "$work/tmp" --junit-xml "$work/$name.xml" "${present[@]}") </dev/null >"$work/$name.log" 2>&1 || :
	check_untouched "$work/stamp"
	[[ -s $work/$name.xml ]] || { tail -n 50 "$work/$name.log" >&2; say "cpython-tests: no results from $name"; exit 2; }
	say "cpython-tests: $name took $((SECONDS - start)) s"
}

# Stock is run once per interpreter and list of tests.
key="home $python $(stat -L -c '%s %Y' "$python") ${present[*]}"
if [[ $again || ! -s $work/stock.xml || $(cat "$work/stock.key" 2>/dev/null) != "$key" ]]; then
	make_venv "$python" "$work/stock"
	rm -f "$work/stock.key"
	run stock stock
	printf '%s\n' "$key" >"$work/stock.key"
fi
if [[ $stock_only ]]; then
	exec "$python" -I "$here/cpython_results.py" "$work/stock.xml"
fi

make_venv "$python" "$work/ladewerk"
install_ladewerk "$python" "$work/ladewerk"
"$work/ladewerk/bin/ladewerk" enable ${lazy:+"--lazy=$lazy"} >&2
engine_pth=$("$work/ladewerk/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_engine.pth
rm -f "$engine_pth"
[[ $engines != routed ]] || echo 'import ladewerk; ladewerk.an_engine = ladewerk.ImportEngine()' >"$engine_pth"
# The cache is in a home of its own: isolated children (-I) look at nothing else.
rm -rf "$work/home"
mkdir "$work/home"
# With everything known beforehand, as much as possible is served instead of learned.
in_home "$work/ladewerk/bin/ladewerk" index --quiet ${lazy:+--lazy}
"$work/ladewerk/bin/python" -c 'import ladewerk, decimal
found = ladewerk.stats()
found["served"] or exit("not active")
found["lazy"]["mode"] == '"'${lazy:-off}'"' or exit("not lazy: %(mode)s %(reason)s" % found["lazy"])' ||
	{ say "cpython-tests: Ladewerk is not active in its venv"; exit 2; }
how=${engines:-${lazy:+lazy-$lazy}}
run "${how:-ladewerk}" ladewerk
died=$(find "$work/home" -name 'start-*')
[[ ! $died ]] || { say "cpython-tests: a start died inside of Ladewerk, which then stayed out of the way:" "$died"; exit 1; }
exceptions=(--exceptions "$here/cpython-exceptions.txt")
# What is excepted there as "routed" is for another __import__ in place of the built-in: here it stays.
[[ $engines != @(inside|builtin) ]] || exceptions+=(--mode "$engines" --exceptions "$here/../tests/engine/suite_exceptions.txt")
[[ ! $lazy ]] || exceptions+=(--mode lazy --mode "$how" --exceptions "$here/../tests/lazy/suite_exceptions.txt")
"$python" -I "$here/cpython_results.py" "${exceptions[@]}" "$work/stock.xml" "$work/${how:-ladewerk}.xml"
