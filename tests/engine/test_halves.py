# SPDX-License-Identifier: MIT
"""Modules of another state that an engine was given half made, in a circle or in a copy of that state, and that fail afterwards or put another in their place."""
from __future__ import annotations

import importlib
import sys
import threading
import time
import types

import _frozen_importlib
import ladewerk
import pytest

from ladewerk._engine import _halves, _makers

PATIENCE = 60
INNER = "import halves_pack.outer\nhalf = halves_pack.outer\nassert not hasattr(half, 'last')\n"
OUTER = "import sys\nsys.modules['halves_gate'].circle()\nlast = None\n"


@pytest.fixture(params=["served", "by importlib"])
def gate(request, tmp_path, monkeypatch):
    """An engine that shares `halves_pack.outer`, whose body asks the engine for `halves_inner`, whose body asks for it, and then does what gate.then does."""
    (tmp_path / "halves_pack").mkdir()
    for name, text in (("halves_pack/__init__", ""), ("halves_pack/outer", OUTER), ("halves_inner", INNER)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    before = ladewerk.stats()["fast_path"]
    (ladewerk.install if request.param == "served" else ladewerk.uninstall)()
    gate = types.ModuleType("halves_gate")
    gate.engine, gate.then = ladewerk.ImportEngine(share=["halves_pack.outer"]), lambda: None

    def circle():
        gate.engine.import_module("halves_inner")
        gate.then()

    gate.circle = circle
    monkeypatch.setitem(sys.modules, "halves_gate", gate)
    yield gate
    (ladewerk.install if before else ladewerk.uninstall)()
    for name in [name for name in sys.modules if name.startswith("halves_pack")]:
        del sys.modules[name]


def fail():
    raise ValueError("at the end")


def until_somebody_waits(bootstrap, name):
    """For the lock of module NAME, in the state with BOOTSTRAP."""
    lock = bootstrap._module_locks[name]()
    end = time.monotonic() + PATIENCE
    while not lock.waiters:
        assert time.monotonic() < end
        time.sleep(0.001)


def whole(gate):
    """What the engine's code gets of it now."""
    gate.then = lambda: None
    got = gate.engine.import_module("halves_pack.outer")
    return hasattr(got, "last") and sys.modules["halves_pack.outer"] is got and gate.engine.modules["halves_pack"].outer is got


def test_a_module_that_fails_afterwards_is_not_kept(gate):
    gate.then = fail
    with pytest.raises(ValueError, match="at the end"):
        importlib.import_module("halves_pack.outer")
    assert "halves_pack.outer" not in gate.engine.modules and not hasattr(gate.engine.modules["halves_pack"], "outer")
    assert whole(gate)


def test_what_is_put_in_its_place_is_the_engine_s_as_well(gate):
    other = types.SimpleNamespace(last=None)
    gate.then = lambda: sys.modules.update({"halves_pack.outer": other})
    assert importlib.import_module("halves_pack.outer") is other
    assert whole(gate)


def test_a_whole_one_stays(gate):
    got = importlib.import_module("halves_pack.outer")
    assert gate.engine.modules["halves_inner"].half is got and whole(gate)
    assert type(got.__spec__) is importlib.machinery.ModuleSpec and got.__spec__._initializing is False
    assert not [name for name in vars(got.__spec__) if "ladewerk" in name]


def test_control_a_half_module_is_kept(gate, monkeypatch):
    monkeypatch.setattr(_makers, "follow", lambda *of: None)
    gate.then = fail
    with pytest.raises(ValueError, match="at the end"):
        importlib.import_module("halves_pack.outer")
    assert not whole(gate)


def test_who_waits_for_one_that_fails_gets_a_new_one(gate):
    """As importlib does within one state: it looks once more when it has waited."""
    half, waiting, got = threading.Event(), threading.Event(), []

    def then():
        half.set()
        assert waiting.wait(PATIENCE)
        gate.then = lambda: None
        fail()

    def execute():
        with pytest.raises(ValueError, match="at the end"):
            importlib.import_module("halves_pack.outer")

    gate.then = then
    threads = [threading.Thread(target=execute), threading.Thread(target=lambda: got.append(gate.engine.import_module("halves_pack.outer")))]
    threads[0].start()
    assert half.wait(PATIENCE)
    threads[1].start()
    until_somebody_waits(_frozen_importlib, "halves_pack.outer")
    waiting.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert hasattr(got[0], "last") and got[0] is sys.modules["halves_pack.outer"]


@pytest.mark.parametrize("of", ["process", "engine"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_copy_of_a_state_in_which_a_module_is_executed(gate, tmp_path, of, fails):
    """Who imports it in the copy waits for it, and has a new one if it fails. Control: a copy of its modules alone is handed the half one."""
    (tmp_path / "halves_pack" / "copied.py").write_text("import sys\nsys.modules['halves_gate'].at()\nlast = None\n")
    state = ladewerk.sysengine if of == "process" else ladewerk.ImportEngine()
    begun, go, got = threading.Event(), threading.Event(), []

    def at():
        gate.at = lambda: None
        begun.set()
        assert go.wait(PATIENCE)
        if fails:
            fail()

    def execute():
        try:
            state.import_module("halves_pack.copied")
        except ValueError:
            assert fails

    gate.at = at
    if of == "engine":
        state.modules["halves_gate"] = gate
    threads = [threading.Thread(target=execute)]
    threads[0].start()
    assert begun.wait(PATIENCE)
    copy, control = ladewerk.ImportEngine.from_engine(state), ladewerk.ImportEngine()
    control.modules.update(copy.modules)
    assert not hasattr(control.import_module("halves_pack.copied"), "last")
    threads.append(threading.Thread(target=lambda: got.append(copy.import_module("halves_pack.copied"))))
    threads[1].start()
    until_somebody_waits(state._bootstrap, "halves_pack.copied")
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert hasattr(got[0], "last") and copy.modules["halves_pack.copied"] is got[0]
    assert (state.modules.get("halves_pack.copied") is got[0]) is not fails


def test_a_half_module_that_is_copied_back(gate, tmp_path):
    """To the state that executes it: nobody waits for himself."""
    (tmp_path / "halves_pack" / "copied.py").write_text("import sys\nsys.modules['halves_gate'].at()\nlast = None\n")
    state, got = ladewerk.ImportEngine(), []

    def at():
        copy = ladewerk.ImportEngine.from_engine(state)
        for taken in (copy, state):
            state.from_engine(taken)
        got.extend(engine.import_module("halves_pack.copied") for engine in (copy, state))

    gate.at, state.modules["halves_gate"] = at, gate
    assert got == [] and [state.import_module("halves_pack.copied")] * 2 == got


@pytest.mark.once
@pytest.mark.parametrize("first", [False, True])
def test_an_import_that_fails_while_an_engine_begins_to_follow_it(monkeypatch, first):
    """FIRST: nobody else follows it."""
    module, engines = types.ModuleType("halves_alone"), [ladewerk.ImportEngine() for _ in range(2)]
    spec = module.__spec__ = importlib.machinery.ModuleSpec("halves_alone", None)
    spec._initializing = True
    for engine in engines:
        engine.modules["halves_alone"] = module
    if not first:
        _halves.follow(engines[0], module, None)
    real = _halves.weakref.ref

    def ref(engine):
        spec._initializing = False
        return real(engine)

    monkeypatch.setattr(_halves, "weakref", types.SimpleNamespace(ref=ref))
    _halves.follow(engines[1], module, None)
    assert [("halves_alone" in engine.modules) for engine in engines] == [first, False]
    assert type(spec) is importlib.machinery.ModuleSpec and not [name for name in vars(spec) if "ladewerk" in name]
