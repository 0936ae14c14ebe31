# SPDX-License-Identifier: MIT
"""CPython's own import tests pass while engines live, within an engine, and with the engine's `__import__` in place of the built-in: whatever passes on stock."""
from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TESTS = ["test.test_importlib." + name for name in ("import_", "source", "builtin", "frozen", "extension", "test_api", "test_lazy", "test_locks", "test_namespace_pkgs",
                                                   "test_pkg_import", "test_spec", "test_util", "test_threaded_import")]
TESTS += ["test.test_import", "test.test_pkgutil", "test.test_runpy"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(MODE, tests): {test: outcome}, and what the tests said. LEFT_OUT: ids that `stock` need not run."""
    if not importlib.util.find_spec("test") or not importlib.util.find_spec("test.test_importlib"):
        pytest.skip("this interpreter comes without CPython's tests")
    base = tmp_path_factory.mktemp("suite")

    def run(mode, tests=TESTS, left_out=()):
        command = [sys.executable, "-W", "ignore", str(HERE / "suite.py"), mode, *tests]
        env = {**os.environ, "LADEWERK_CACHE": str(base / "cache"), "TMPDIR": str(base)}
        given = {"input": json.dumps(list(left_out))} if mode == "stock" else {"stdin": subprocess.DEVNULL}
        child = subprocess.run(command, cwd=base, env=env, **given, capture_output=True, text=True, timeout=600)
        assert child.returncode == 0, child.stderr[-3000:]
        return json.loads(child.stdout.splitlines()[-1]), child.stderr

    return run


MODES = {"routed": TESTS, "inside": TESTS, "builtin": TESTS if os.environ.get("LADEWERK_LONG") else ["test.test_importlib.import_", "test.test_import"]}


def run_in(mode, name):
    """Whether test NAME is one of those that MODE runs."""
    return name.startswith(tuple(tests + "." for tests in MODES[mode]))


@pytest.fixture(scope="module")
def found(run):
    """{mode: its outcomes, and what the tests said}."""
    found = {mode: run(mode, tests) for mode, tests in MODES.items()}
    for mode, (outcomes, _) in found.items():
        assert list(outcomes.values()).count("passed") > (700 if MODES[mode] is TESTS else 150), mode
    return found


@pytest.fixture(scope="module")
def stock(run, found):
    """Outcomes on stock of those that do not pass in every mode."""
    known = {name for outcomes, _ in found.values() for name in outcomes}
    passed = [{name for name in known if outcomes.get(name) == "passed" or not run_in(mode, name)} for mode, (outcomes, _) in found.items()]
    return run("stock", left_out=set.intersection(*passed))[0]


def exceptions(mode):
    lines = [line.split(None, 2) for line in (HERE / "suite_exceptions.txt").read_text().splitlines() if line and not line.startswith("#")]
    return [name for where, name, _ in lines if mode in where.split(",")]


def worse(reference, found, excepted=()):
    """Those that pass in REFERENCE and do not in FOUND, but for the patterns EXCEPTED."""
    names = {name for name, outcome in reference.items() if outcome == "passed" and found.get(name) != "passed"}
    return {name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in excepted)}


@pytest.mark.parametrize("mode", MODES)
def test_what_passes_on_stock(run, found, stock, mode):
    outcomes, said = found[mode]
    failed = {name for name in worse(stock, outcomes, exceptions(mode)) if run_in(mode, name)}
    if failed:  # some fail on stock as well if all the others have run before
        failed &= worse(run("stock")[0], outcomes)
    assert not failed, (sorted(failed), [line for line in said.splitlines() if line.startswith(("ERROR:", "FAIL:", "Fatal"))], said[-3000:])


def test_control_two_states(run, found):
    """Control: with an engine's `__import__` in place of the built-in, but the process's sys, tests fail."""
    names = ["test.test_importlib.import_"]
    outcomes, _ = run("broken", names)
    assert len([name for name in worse(found["routed"][0], outcomes) if name.startswith("test.test_importlib.import_")]) > 20
