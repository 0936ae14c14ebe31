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

import _frozen_importlib
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


# --- circles of threads through several states ---


def circles(tmp_path, *control):
    child = subprocess.run([sys.executable, str(Path(__file__).with_name("circles.py")), str(tmp_path), *control], capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_circles_through_states_end_as_within_the_process(tmp_path):
    """A body in an engine asks for a module that another thread executes in the process (or in another engine), whose body asks for the first one: each gets, or is told, what
    it would be if both were the process's. Who asks for the half module by then waits until it is whole."""
    report = circles(tmp_path)
    assert report["process"]["statement 0"] == ["half", "whole", "whole"] and report["process"]["statement 1"][:2] == ["whole", "half"]
    assert report["shared"] == report["engines"] == report["process"]


def test_control_circles_of_engines_that_know_of_their_own_waiting_alone(tmp_path):
    report = circles(tmp_path, "control")
    assert {*report["shared"].values(), *report["engines"].values()} == {"stuck"} and "stuck" not in report["process"].values()


def acquire_within(outer, inner):
    """Take a module lock of INNER while one of OUTER is being taken, as a finaliser does that imports. -> what importlib still has of this thread."""
    one, other = (state._ModuleLock("engine_" + name) for state, name in ((outer, "outer"), (inner, "inner")))
    real = one.lock

    class Interrupted:
        def __enter__(self):
            other.acquire()
            other.release()
            return real.__enter__()

        def __exit__(self, *error):
            return real.__exit__(*error)

    one.lock = Interrupted()
    one.acquire()
    one.release()
    return _frozen_importlib._blocking_on.get(threading.get_ident())


def test_a_lock_is_taken_while_another_state_s_is(monkeypatch):
    engine, other = (ladewerk.ImportEngine()._bootstrap for _ in range(2))
    for outer, inner in ((engine, _frozen_importlib), (_frozen_importlib, engine), (engine, other), (engine, engine)):
        assert not acquire_within(outer, inner)
    if sys.version_info < (3, 12):  # control: with the process's own dict it fails, as within the process
        monkeypatch.setattr(engine, "_blocking_on", _frozen_importlib._blocking_on)
        for outer, inner in ((engine, _frozen_importlib), (_frozen_importlib, engine), (_frozen_importlib, _frozen_importlib)):
            with pytest.raises(KeyError):
                acquire_within(outer, inner)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a thread has a list, which goes with it")
def test_what_a_thread_waited_for_that_a_forked_child_has_not_is_forgotten():
    """Another thread of the child may get its number. Control: what is there without a fork is put back."""
    lock, waiting, me = ladewerk.ImportEngine()._bootstrap._ModuleLock("engine_forked"), _frozen_importlib._blocking_on, threading.get_ident()

    def after_an_acquisition():
        lock.acquire()
        lock.release()
        return waiting.pop(me, None)

    waiting[me] = former = object()
    child = os.fork()
    if not child:
        os._exit(after_an_acquisition() is not None)
    assert after_an_acquisition() is former
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
