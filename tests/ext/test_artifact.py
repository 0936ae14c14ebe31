# SPDX-License-Identifier: MIT
"""Programs that are served from an artifact (`ladewerk index --frozen`): as under stock, however they ask. The command line's side is in cli/test_frozen.py."""

import os
import subprocess
import sys

import pytest

from harness import Talker


@pytest.fixture
def frozen(tree):
    """A tree whose children are served from an artifact of it: call it to build that (anew)."""
    def freeze(*roots):
        art = tree.base / "art"
        command = [sys.executable, "-m", "ladewerk", "index", "--quiet", "--frozen", "-o", art, *(roots or [tree.root])]
        subprocess.run(command, env=tree.environment(False), check=True, cwd=tree.work)
        tree.env["LADEWERK_INDEX"] = art
        tree.env["LADEWERK_FRESHNESS"] = None
        return tree
    return freeze


def test_as_under_stock(tree, frozen):
    """File names of all code, also of what is within; sources, tracebacks, warnings, pickles, reloads."""
    tree.write("pkg/__init__.py", "from . import a\nfrom .a import *\n")
    tree.write("pkg/a.py", '''
        """doc"""
        import functools, sys, warnings
        def outer(x):
            def inner(y): return [lambda: (x, y, z) for z in "ab"]
            class Local:
                def method(self): return (i for i in range(3))
            return inner, Local
        class Pickled:
            def __reduce__(self): return Pickled, ()
        def fail(): raise ValueError(sys._getframe().f_code.co_filename)
        def warn(): warnings.warn("careful", stacklevel=1)
        constants = ' ', '', 'a', 'é', {'not a name', 'two'} == frozenset({'two', 'not a name'}), 1e999 - 1e999 != 0, 2**70
        ''')
    code = """
        import inspect, importlib, pickle, pkg, sys, traceback, types, warnings
        warnings.simplefilter("always")
        def names(code, depth=0):
            print(" " * depth, code.co_name, code.co_qualname, code.co_filename, code.co_firstlineno)
            for value in code.co_consts:
                if isinstance(value, types.CodeType): names(value, depth + 1)
        for f in pkg.a.outer, pkg.a.fail: names(f.__code__)
        inner, Local = pkg.a.outer(1)
        print(inspect.getsource(inner), inspect.getsource(Local), inspect.getsourcefile(pkg.a), pkg.a.constants)
        print(pickle.loads(pickle.dumps(pkg.a.Pickled())).__class__.__module__)
        try: pkg.a.fail()
        except ValueError: print(traceback.format_exc())
        pkg.a.warn()
        print(importlib.reload(pkg.a).__spec__.origin, getattr(pkg.a, "__cached__", None), pkg.a.__doc__)
        """
    frozen()
    tree.same(code, warm=False)


def test_freshness_may_change_at_run_time(tree, frozen):
    tree.write("a.py", "x = 1\n")
    frozen()
    tree.write("a.py", "x = 2\n")
    tree.write("b.py", "x = 'new'\n")
    with Talker(tree) as child:
        ask = "import sys\nsys.modules.pop('a', None), sys.modules.pop('b', None)\nimport a\ntry: import b\nexcept ImportError: b = None\nresult = a.x, b and b.x"
        child("import ladewerk")
        for _ in range(2):
            assert child(ask) == [1, None]
            assert child("result = ladewerk.install(freshness='stat'), ladewerk.stats()['freshness']") == [True, "stat"]
            assert child(ask) == [2, "new"]
            assert child("result = ladewerk.install(), ladewerk.stats()['index']['freshness']") == [True, "frozen"], "which an artifact makes the default"


def test_invalidate_caches_is_heard(tree, frozen):
    tree.write("a.py", "x = 1\n")
    tree.write("b.py", "x = 1\n")
    frozen()
    tree.write("b.py", "x = 2\n")
    tree.write("c.py", "x = 3\n")
    with Talker(tree) as child:
        assert child("import a\ntry: import c\nexcept ImportError: result = a.x") == 1
        assert child("import importlib; importlib.invalidate_caches()\nimport b, c\nresult = b.x, c.x") == [2, 3]


def test_many_path_entries(tree, frozen):
    """Their table is merged once and then comes from the cache, as long as the artifact is the same."""
    entries = [tree.root / f"entry{i}" for i in range(300)]
    for i, entry in enumerate(entries):
        tree.write("only.py" if i == 250 else f"m{i}.py", f"x = {i}\n", at=entry)
    frozen()
    tree.env["PYTHONPATH"] = os.pathsep.join(map(str, [*entries, tree.root / "nowhere"]))
    code = """
        import only, json, ladewerk
        try: import missing
        except ImportError: missing = None
        print(json.dumps([only.x, ladewerk.stats()["session"], missing is not None]))
        """
    tree.learn(code)
    x, session, missing = tree.run(code).json()
    assert x == 250 and not missing and session["listings_from_index"] < 100 and session["segments_written"] == 0
    tree.write("missing.py", "", at=entries[7])
    assert tree.run(code).json()[::2] == [250, False]
    frozen()
    assert tree.run(code).json()[::2] == [250, True]


def test_forks_and_threads(tree, frozen):
    for i in range(20):
        tree.write(f"m{i}.py", f"x = {i}\n")
    frozen()
    code = """
        import os, sys, threading
        def work(): assert [__import__(f"m{i}").x for i in range(20)] == list(range(20))
        pid = os.fork()  # before the threads: what a thread holds at a fork is held for ever in the child, with stock importlib as with ours
        threads = [threading.Thread(target=work) for _ in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        work()
        if pid: print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else: os._exit(0)
        """
    assert tree.run(code).out.strip().endswith("0")


def test_subprocesses_with_other_flags_go_without(tree, frozen):
    """-O is another key: its children run, and say so."""
    tree.write("a.py", "assert False\n")
    frozen()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-O', '-c', 'import a, ladewerk; print(ladewerk.stats()[\"index\"][\"reason\"])'], check=True)"
    assert "another interpreter or other settings" in tree.run(code).out
