# SPDX-License-Identifier: MIT
"""Threads that import in several engines at once: the rules of imports hold in each, and none waits for another."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import ladewerk
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ext"))

import storm  # noqa: E402

LONG = os.environ.get("LADEWERK_LONG", "0") != "0"
PATIENCE = 60


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    base = tmp_path_factory.mktemp("forest")
    storm.plant(base, count=200)
    return base


def storms(forest, rounds, *control):
    command = [sys.executable, str(Path(__file__).with_name("storms.py")), str(forest), str(rounds), "2", *control]
    child = subprocess.run(command, cwd=forest, env={**os.environ, "LADEWERK_CACHE": str(forest / "cache")}, capture_output=True, text=True, timeout=900)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])


def test_storms_in_engines_and_outside(forest):
    """Each body once in each engine; half a module to nobody but in a circle; no lock is left; circles end."""
    rounds = 100 if LONG else 3
    for report in storms(forest, rounds):
        assert not report["broken"], report
        assert report["half"] > rounds and report["runners"] > rounds
        assert {"circular", "failing", "absent"} <= {kind for kind, *_ in report["kinds"]}


def test_control_locks_of_one_engine_dropped(forest):
    """Control: an engine whose module locks are dropped breaks the rules, and it alone."""
    first, *others = storms(forest, 2, "drop_the_locks")
    assert "half of" in "\n".join(first["broken"])
    assert not any(report["broken"] for report in others), others


def test_state_is_replaced_while_others_import(tmp_path):
    """Modules, rules, listeners, exit functions, and whether imports are served at all."""
    command = [sys.executable, str(Path(__file__).with_name("changes.py")), str(tmp_path), "2000" if LONG else "100"]
    child = subprocess.run(command, cwd=tmp_path, env={**os.environ, "LADEWERK_CACHE": str(tmp_path / "cache")}, capture_output=True, text=True, timeout=900)
    assert (child.returncode, child.stderr) == (0, ""), child.stderr


# --- who waits for whom ---

SLOW = """
import engine_gate
if engine_gate.first():
    engine_gate.entered.set()
    assert engine_gate.go.wait(60)
"""


@pytest.fixture
def gate(monkeypatch):
    """A module that engines share: the first body that comes is held, others go on."""
    gate = types.ModuleType("engine_gate")
    gate.entered, gate.go = threading.Event(), threading.Event()
    gate.first = iter([True] + [False] * 9).__next__
    monkeypatch.setitem(sys.modules, "engine_gate", gate)
    return gate


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.001)


def waiting(engine, name):
    """How many threads wait for the lock of module NAME of ENGINE."""
    lock = engine._bootstrap._module_locks.get(name, lambda: None)()
    waiters = getattr(lock, "waiters", 0)
    return waiters if isinstance(waiters, int) else len(waiters)


def test_engines_do_not_wait_for_each_other(tmp_path, gate):
    """While a body of one engine is under way, another engine imports a module of that name. Control: a thread that wants it of the first engine waits."""
    (tmp_path / "engine_slow.py").write_text(SLOW)
    first, second = (ladewerk.ImportEngine(path=[str(tmp_path), *sys.path], share=["engine_gate"]) for _ in range(2))
    got = []
    threads = [threading.Thread(target=lambda: got.append(first.import_module("engine_slow"))) for _ in range(2)]
    try:
        threads[0].start()
        assert gate.entered.wait(PATIENCE)
        assert not gate.go.is_set() and second.import_module("engine_slow") is second.modules["engine_slow"] and not got
        threads[1].start()
        until(lambda: waiting(first, "engine_slow"))
        assert not got
    finally:
        gate.go.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert got[0] is got[1] is first.modules["engine_slow"] and got[0] is not second.modules["engine_slow"]


def test_with_is_of_one_thread(tmp_path):
    """`with engine:` in one thread says nothing to another. Control: in the thread itself it does."""
    (tmp_path / "engine_inside.py").write_text("")
    engine = ladewerk.ImportEngine(path=[str(tmp_path), *sys.path])
    entered, go, found = threading.Event(), threading.Event(), []

    def hold():
        with engine:
            entered.set()
            assert go.wait(PATIENCE)
            found.append(__import__("engine_inside"))

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(PATIENCE)
        with pytest.raises(ModuleNotFoundError):
            __import__("engine_inside")
    finally:
        go.set()
        thread.join(PATIENCE)
    assert found == [engine.modules["engine_inside"]] and "engine_inside" not in sys.modules
