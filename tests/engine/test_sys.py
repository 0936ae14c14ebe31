# SPDX-License-Identifier: MIT
"""An engine's sys: its import state is its own, all else is the process's, in both directions; and modules are what they are without engines."""
from __future__ import annotations

import gc
import importlib.util
import io
import subprocess
import sys
import types
import weakref

import ladewerk
import pytest


@pytest.fixture(scope="module")
def engines():
    return [ladewerk.ImportEngine() for _ in range(2)]


@pytest.fixture
def everywhere(engines):
    """The process's sys and those of two engines; what a test sets is gone after it."""
    yield [sys, *(engine.sys for engine in engines)]
    for name in ("lw_word", "lw_other"):
        if hasattr(sys, name):
            delattr(sys, name)


def test_it_is_a_module(engines):
    for engine in engines:
        assert type(engine.sys) is types.ModuleType and engine.sys.__name__ == "sys" and engine.import_module("sys") is engine.sys


@pytest.mark.parametrize("where", range(3))
def test_what_is_assigned_in_one_is_assigned_in_all(everywhere, where):
    there = everywhere[where]
    there.lw_word = "first"
    assert [each.lw_word for each in everywhere] == ["first"] * 3
    for number, each in enumerate(everywhere):
        each.lw_word = number
        assert [each.lw_word for each in everywhere] == [number] * 3
    del there.lw_word
    assert not any(hasattr(each, "lw_word") for each in everywhere)
    with pytest.raises(AttributeError):
        del there.lw_word


def test_streams_and_hooks(everywhere):
    stdout, hook = sys.stdout, sys.excepthook
    for there in everywhere:
        there.stdout = stream = io.StringIO()
        there.excepthook = print
        try:
            print("written")
            assert all(each.stdout is stream and each.excepthook is print for each in everywhere)
        finally:
            there.stdout, there.excepthook = stdout, hook
        assert stream.getvalue() == "written\n"
        assert all(each.stdout is stdout and each.excepthook is hook for each in everywhere)


def test_what_was_replaced_is_not_kept(everywhere):
    class Value:
        pass

    for there in everywhere:
        there.lw_word = Value()
        gone = weakref.ref(there.lw_word)
        everywhere[0].lw_word = None
        gc.collect()
        assert gone() is None


def test_the_import_state_is_its_own(everywhere):
    for name in ("modules", "path", "meta_path", "path_hooks", "path_importer_cache"):
        assert len({id(getattr(each, name)) for each in everywhere}) == 3, name
    before = sys.path[:]
    everywhere[1].path = ["elsewhere"]
    everywhere[2].path.append("nowhere")
    assert sys.path == before and "nowhere" not in everywhere[1].path


# --- modules of the process are what they were ---


def test_ways_to_assign_to_modules(engines):
    """Also those that go past overrides: importlib.util.LazyLoader does."""
    class Doubling(types.ModuleType):
        def __setattr__(self, name, value):
            super().__setattr__(name, value * 2)

    for module in (types.ModuleType("plain"), Doubling("doubling")):
        object.__setattr__(module, "x", 1)
        assert module.x == 1
        types.ModuleType.__setattr__(module, "x", 2)
        assert module.x == 2
        object.__delattr__(module, "x")
        module.x = 2
        assert module.x == (4 if type(module) is Doubling else 2)
        del module.x
        with pytest.raises(AttributeError):
            del module.x


def test_lazy_modules(engines, tmp_path):
    (tmp_path / "lw_lazy.py").write_text("word = 1\n")
    spec = importlib.util.spec_from_file_location("lw_lazy", tmp_path / "lw_lazy.py")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert type(module) is not types.ModuleType and module.word == 1 and type(module) is types.ModuleType


INTERPRETERS = """
import ladewerk
engine = ladewerk.ImportEngine()
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
for _ in range(2):
    made = interpreters.create()
    interpreters.run_string(made, "import sys, json; sys.lw_word = 1; import importlib.util")
    interpreters.destroy(made)
import sys
assert not hasattr(sys, "lw_word") and not hasattr(engine.sys, "lw_word")
print("well")
"""


def test_interpreters_can_be_made(tmp_path):
    child = subprocess.run([sys.executable, "-c", INTERPRETERS], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (child.returncode, child.stdout) == (0, "well\n"), child.stderr
