# SPDX-License-Identifier: MIT
"""Automatic garbage collections wait for the end of an import, within bounds, and the program's own settings are obeyed."""

import sys
import sysconfig

import pytest

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
pytestmark = pytest.mark.skipif(FREE_THREADED, reason="free-threaded: the collector is left alone")

GRANT, SPAN = 64 * 1024, 512 * 1024  # ext/collector.c

#: Counts the automatic collections of a child; `seen` is the list of their generations.
WATCH = """
import gc, sys
seen = []
gc.callbacks.append(lambda phase, info: seen.append(info["generation"]) if phase == "start" else None)
"""


#: The end of a module: what ran until then.
DURING = "import __main__\nduring = list(getattr(__main__, 'seen', ()))\n"


def fill(n):
    """Source of a module whose body allocates N containers that stay."""
    return f"kept = [[] for _ in range({n})]\n"


@pytest.fixture
def report(tree):
    """Run a child with WATCH and CODE; the last expression printed as JSON."""
    def run(code, **env):
        return tree.run(f"{WATCH}\n{code}", env=env).json()
    return run


def nested(tree, inner, n=20_000):
    """`import outer` imports INNER modules of N containers each."""
    for i in range(inner):
        tree.write(f"inner{i}.py", fill(n))
    tree.write("outer.py", "".join(f"import inner{i}\n" for i in range(inner)) + DURING)


def test_none_runs_while_modules_are_imported(tree, report):
    nested(tree, 5)
    code = "import outer, json; print(json.dumps(outer.during))"
    assert report(code) == []
    assert len(report(code, LADEWERK_GC="0")) > 5, "the control"


def test_what_was_postponed_comes_soon_after(tree, report):
    nested(tree, 3)
    assert report("import outer; del seen[:]; kept = [[] for _ in range(20_000)]; import json; print(json.dumps(seen))")


def test_settings_are_what_they_were(tree, report):
    tree.write("asks.py", "import gc\nfound = (gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks))\n")
    code = "before = (gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)); import asks, json; print(json.dumps(asks.found == before))"
    assert report(code) is True


def test_count_is_in_order_afterwards(tree, report):
    nested(tree, 2)
    count, threshold = report("import outer; found = gc.get_count()[0], gc.get_threshold()[0]; import json; print(json.dumps(found))")
    assert 0 <= count <= threshold + 50


def test_bodies_collect_disable_and_enable_as_they_like(tree, report):
    tree.write("collects.py", """
        import gc, weakref
        class Loop: pass
        loop = Loop(); loop.self = loop; gone = weakref.ref(loop); del loop
        gc.collect()
        alive = gone() is not None
        """)
    tree.write("disables.py", "import gc\ngc.disable()\n")
    tree.write("sets.py", "import gc\ngc.set_threshold(123, 4, 5)\n")
    code = "import collects, disables; off = not gc.isenabled(); gc.enable(); import sets, json; print(json.dumps([collects.alive, off, gc.get_threshold()]))"
    assert report(code) == [False, True, [123, 4, 5]]


@pytest.mark.parametrize("threshold", [0, 1_000_000, 2**31 - 1])
def test_unusual_thresholds_are_obeyed(tree, report, threshold):
    n = 20_000
    for i in range(2 * SPAN // n):
        tree.write(f"inner{i}.py", fill(n) + "del kept\n")
    tree.write("outer.py", "".join(f"import inner{i}\n" for i in range(2 * SPAN // n)) + DURING)
    code = f"gc.collect(); gc.set_threshold({threshold}, 10, 10); del seen[:]; import outer, json; print(json.dumps(outer.during))"
    assert report(code) == []


def test_nothing_is_granted_to_a_program_that_has_switched_it_off(tree, report):
    tree.write("asks.py", "import gc\nfound = gc.get_count()[0]\n")
    assert report("gc.disable(); import asks, json; print(json.dumps(asks.found))") >= 0
    assert report("import asks, json; print(json.dumps(asks.found))") < 0, "the control"


def test_a_body_that_goes_on_and_on_is_collected(tree, report):
    """A server that is started by an import."""
    tree.write("server.py", f"import gc\nbefore = len(gc.callbacks)\n{fill(GRANT // 2)}\nimport __main__\nearly = len(__main__.seen)\n{fill(GRANT * 3)}\nlate = len(__main__.seen)\n")
    assert (lambda early, late: early == 0 and late > 0)(*report("import server, json; print(json.dumps([server.early, server.late]))"))


def test_garbage_of_many_imports_is_bounded(tree, report):
    """Cycles that nobody needs are collected after SPAN allocations at the latest, however many imports extend the grant."""
    n = 20_000
    for i in range(2 * SPAN // n):
        tree.write(f"inner{i}.py", f"for _ in range({n}):\n    loop = []\n    loop.append(loop)\n")
    tree.write("outer.py", "import gc\nmost = 0\n" + "".join(
        f"import inner{i}\nmost = max(most, len(gc.get_objects()))\n" for i in range(2 * SPAN // n)))
    most = report("import outer, json; print(json.dumps(outer.most))")
    assert GRANT < most < SPAN + 4 * GRANT


def test_an_exception_ends_it(tree, report):
    tree.write("fails.py", fill(20_000) + "raise ValueError\n")
    code = """
try:
    import fails
except ValueError:
    pass
import json; print(json.dumps(gc.get_count()[0]))
"""
    assert report(code) >= 0


def test_install_and_uninstall_within_an_import(tree, report):
    tree.write("toggles.py", "import ladewerk\nladewerk.uninstall()\nladewerk.install()\nimport inner\nladewerk.uninstall()\n")
    tree.write("inner.py", fill(20_000))
    tree.write("later.py", fill(20_000) + DURING)
    code = "import toggles, ladewerk; ladewerk.install(); gc.collect(); del seen[:]; import later, json; print(json.dumps([later.during, gc.get_count()[0] >= 0]))"
    assert report(code) == [[], True]


def test_stats_say_so(tree):
    nested(tree, 1)
    code = "import outer, ladewerk, json; print(json.dumps(ladewerk.stats()['collector']))"
    assert tree.run(code).json() == {"postponed": pytest.approx(2, abs=2), "reason": None}
    off = tree.run(code, env={"LADEWERK_GC": "0"}).json()
    assert off["postponed"] == 0 and "LADEWERK_GC=0" in off["reason"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no isolated subinterpreters")
def test_every_interpreter_has_its_own(tree, report):
    nested(tree, 3)
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
one = interpreters.create()
interpreters.run_string(one, '''
import ladewerk, gc
assert ladewerk.install(), ladewerk.stats()["reason"]
import outer
assert 0 <= gc.get_count()[0] <= gc.get_threshold()[0] + 50, gc.get_count()
assert ladewerk.stats()["collector"]["postponed"] > 0
''')
interpreters.destroy(one)
import outer, json; print(json.dumps(seen.count(0)))
"""
    assert report(code) == 0
