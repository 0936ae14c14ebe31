# SPDX-License-Identifier: MIT
"""The step itself: all of it or nothing, and what it refuses."""
import subprocess
import sys
import sysconfig
import types

import pytest
from ladewerk import _live

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_values_change_keys_come_and_go():
    a, b = {"x": 1, "y": 2}, {}
    _live.swap([(a, "x", 10), (a, "y"), (b, "new", 3), (b, "never there")], {})
    assert a == {"x": 10} and b == {"new": 3}


@pytest.mark.parametrize("wrong", [("x", "y", 1), ({}, 1, 2), ({},), ({}, "a", 1, 2), [{}, "a", 1], (types.MappingProxyType({}), "a", 1)])
def test_what_is_no_change_changes_nothing(wrong):
    names = {"a": 1}
    with pytest.raises(TypeError):
        _live.swap([(names, "a", 2), (names, "b", 2), wrong], {})
    assert names == {"a": 1}


def test_no_python_code_runs_before_the_end():
    seen, names = [], {}

    class Dying:
        def __del__(self):
            seen.append(dict(names))

    names.update(a=Dying(), b=Dying(), c=1)
    _live.swap([(names, "a", 1), (names, "b"), (names, "c", 2), (names, "d", 3)], {})
    assert seen == [{"a": 1, "c": 2, "d": 3}] * 2


MEMORY = """
import _testcapi
from ladewerk import _live
failed = 0
for start in range(1, 40):
    first, second = {"a": 1, "gone": 1}, {}
    changes = [(first, "a", 2), (first, "gone"), *((second, f"k{i}", i) for i in range(200))]
    before, watched = dict(first), {}
    _live.version(watched)
    _testcapi.set_nomemory(start, 0)
    try:
        _live.swap(changes, watched)
        ok = True
    except MemoryError:
        ok = False
    finally:
        _testcapi.remove_mem_hooks()
    failed += not ok
    assert (first, second) == (({"a": 2}, {f"k{i}": i for i in range(200)}) if ok else (before, {})), start
assert failed > 3, failed
"""


def test_without_memory_nothing_has_changed():
    pytest.importorskip("_testcapi")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_strangers_are_new_names_and_other_modules():
    import weakref
    kept, old, new = types.ModuleType("kept"), types.ModuleType("m"), types.ModuleType("m")
    known = {"kept": weakref.ref(kept), "m": weakref.ref(old), "odd": 5}
    assert _live.strangers({"kept": kept, "m": new, "odd": 5, "fresh": kept, 7: kept}, known) == ["m", "fresh"]


def test_a_pin_is_entered_once_and_only_for_a_gate():
    gate = _live.Gate()
    pin = _live.Pin(gate)
    with pin:
        with pytest.raises(RuntimeError):
            pin.__enter__()
        assert gate.holds == 1
    with pytest.raises(TypeError):
        _live.Pin(object())
    with pytest.raises(RuntimeError):
        _live.Pin.__new__(_live.Pin).__enter__()
    forgotten = _live.Pin(gate)
    forgotten.__enter__()
    del forgotten
    assert gate.holds == 0, "who never leaves holds nothing for ever"
    assert gate.close(0) and not _live.Pin(gate).try_enter()
    with pytest.raises(RuntimeError):
        gate.close(0)
    gate.open()


CHANGES = ["names['new'] = 1", "names['a'] = 2", "del names['a']", "names.pop('a')", "names.popitem()", "names.clear()", "names.update(b=1)", "names.setdefault('b', 1)", "names |= {'b': 1}"]


@pytest.mark.parametrize("how", CHANGES)
def test_a_dict_that_changes_has_another_version(how):
    names = {"a": 1}
    before = _live.version(names)
    assert FREE_THREADED or _live.version(names) == before
    names["a"], "a" in names, list(names)
    assert FREE_THREADED or _live.version(names) == before
    exec(how, {"names": names})
    assert _live.version(names) != before


@pytest.mark.skipif(FREE_THREADED, reason="there every version is a new one")
def test_a_swap_says_which_versions_it_lies_between():
    names, other = {"a": 1}, {}
    before = _live.version(names)
    assert _live.swap([(other, "x", 1)], names) == (before, before)
    first, second = _live.swap([(names, "a", 2)], names)
    assert first == before != second == _live.version(names)


def test_only_dicts_have_versions():
    with pytest.raises(TypeError):
        _live.version([])
    with pytest.raises(TypeError):
        _live.swap([], [])
