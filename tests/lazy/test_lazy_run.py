# SPDX-License-Identifier: MIT
"""Names that wait: what registers them, what resolves them, what they are then; errors; the ends of modules, threads and processes."""
from __future__ import annotations

import sys

import pytest
import whose
from harness import settle

pytestmark = whose.ours

#: Modules that say when they are executed.
SPEAKING = {
    "alpha.py": "print('alpha')\nx = 1\ny = 2",
    "beta.py": "print('beta')\nx = 10",
    "pack/__init__.py": "print('pack')",
    "pack/one.py": "print('pack.one')\nvalue = 'one'",
    "pack/two.py": "print('pack.two')\nvalue = 'two'",
}


def test_statements(lazily):
    ended = lazily({**SPEAKING, "user.py": """
        import alpha, beta as b
        from alpha import x, y as z
        import pack.one
        import pack.two as two
        from pack import one
        def each(): return alpha, b, x, z, pack, two, one
        def only_x(): return x
    """}, """
        import user
        assert not loaded("alpha", "beta", "pack") and bound("user").isdisjoint({"alpha", "b", "x", "z", "pack", "two", "one"})
        assert user.only_x() == 1 and loaded("alpha") and "x" in bound("user") and "z" not in bound("user")
        alpha, b, x, z, pack, two, one = user.each()
        assert (alpha.__name__, b.__name__, x, z, pack.__name__, two.__name__, one.__name__) == ("alpha", "beta", 1, 2, "pack", "pack.two", "pack.one")
        assert pack.one is one and user.each() == (alpha, b, x, z, pack, two, one)
    """)
    assert ended.out.split() == ["alpha", "beta", "pack", "pack.one", "pack.two"]


def test_what_is_bound_at_once(lazily):
    lazily({**SPEAKING, "early.py": "import alpha\nalpha.x", "user.py": """
        import early, alpha
        from alpha import x, later
        from alpha import x as again, y
        import alpha as itself
        try:
            import beta
        except ImportError:
            pass
        import missing_builtin as open
        def f(): return later
    """, "missing_builtin.py": ""}, """
        import early
        early.alpha
        sys.modules["alpha"].__getattr__ = lambda name: name.upper()
        import user
        assert bound("user") > {"alpha", "x", "again", "y", "itself", "beta", "open"}   # loaded, in try, named as a builtin
        assert "later" not in bound("user") and user.f() == "LATER"
    """)


def test_the_last_statement_counts(lazily):
    lazily({**SPEAKING, "user.py": """
        from alpha import x
        from beta import x
        import pack.one
        import pack.two
        def get(): return x, pack.one.value, pack.two.value
    """, "mixed.py": """
        import pack
        import pack.one
        from beta import x as pack2
        from alpha import x as pack2
        def get(): return pack.one.value, pack2
    """}, """
        import user
        assert not loaded("alpha", "beta", "pack")
        assert user.get() == (10, "one", "two") and not loaded("alpha")
        import mixed
        assert mixed.get() == ("one", 1)
    """)


def test_parts_of_a_package_that_is_loaded(lazily):
    lazily({**SPEAKING, "user.py": "import pack\npack\nimport pack.one\nimport pack.two\nimport pack\ndef get(): return pack.one.value + pack.two.value"}, """
        import pack
        import user
        assert "pack" not in bound("user") and not loaded("pack.one", "pack.two")
        assert user.get() == "onetwo"
    """)


def test_missing_modules_are_missed_where_they_are_imported(alike):
    ended = alike({**SPEAKING, "a.py": "import pack.three", "b.py": "from pack.three import x", "c.py": "import nothing.at.all", "d.py": "from alpha import nothing",
                   "e.py": "from ..up import x", "f.py": "from . import x", "g.py": "import alpha.below"}, """
        import importlib, traceback
        import alpha
        for name in "abcdefg":
            try:
                importlib.import_module(name)
            except ImportError as error:
                print(name, error, error.name, error.path, [(entry.name, entry.lineno) for entry in traceback.extract_tb(error.__traceback__) if "importlib" not in entry.filename])
    """)
    assert ended.out.count("No module named") >= 4


def test_errors_at_first_use(lazily):
    ended = lazily({"bad.py": "1/0", "worse.py": "import absent_module", "half.py": "x = 1", "user.py": """
        import bad
        from worse import x
        from half import y
        def one():
            return 1, (
                bad)
        def two(): return x
        def three(): return y
    """}, """
        import traceback, user
        def of(function, kind):
            try:
                function()
            except kind as error:
                return error, [(entry.name, entry.lineno) for entry in traceback.extract_tb(error.__traceback__)][1:]
        for round in range(2):   # it goes on waiting, and the next use tries again
            error, entries = of(user.one, ZeroDivisionError)
            assert error.__notes__ == [f"imported lazily by {user.__file__}, line 2"] and error.__context__ is None, error.__notes__
            assert entries[0] == ("one", 7) and entries[-1] == ("<module>", 1), entries
            assert not loaded("bad") and loaded("user")
        error, _ = of(user.two, ModuleNotFoundError)
        assert error.name == "absent_module" and error.__notes__ == [f"imported lazily by {user.__file__}, line 3"]
        error, entries = of(user.three, ImportError)
        assert str(error) == f"cannot import name 'y' from 'half' ({sys.modules['half'].__file__})" and error.name == "half" and entries == [("three", 9)], (error, entries)
        sys.modules["half"].y = 5
        assert user.three() == 5
        with open("bad.py", "w") as file:
            file.write("z = 3\\n# longer than before: nobody takes it for what was there")
        import importlib
        importlib.invalidate_caches()
        assert user.one()[1].z == 3
    """)
    assert ended.err == ""


def test_submodules_and_names(alike):
    """A package that hands out what its submodules define under their own names, in several ways."""
    alike({
        "p/__init__.py": "from .bar import bar\nfrom .core import config\nfrom other import thing\nfrom . import sub\nimport p.deep.leaf as leaf",
        "p/bar.py": "def bar(): return 'bar'\nextra = 1",
        "p/core.py": "from p.config import config",
        "p/config.py": "config = {'a': 1}",
        "p/thing.py": "it = 'submodule'",
        "p/sub.py": "value = 'sub'",
        "p/deep/__init__.py": "", "p/deep/leaf.py": "value = 'leaf'",
        "other.py": "thing = 'of other'",
    }, """
        import p
        import p.bar, p.sub
        from p.bar import extra
        from p.config import config
        print(p.bar(), extra, p.config, config is p.config, p.sub.value, p.leaf.value)
        import p.thing
        print(p.thing.it)
        import importlib
        print(importlib.import_module("p.bar").extra, type(p.bar).__name__)
    """)


def test_circles(alike):
    alike({
        "a.py": "from b import g\ndef f(): return 'f'\ndef call(): return g()",
        "b.py": "import a\nfrom c import h\ndef g(): return a.f() + h()",
        "c.py": "import a, b\ndef h(): return a.f.__name__ + b.g.__name__",
        "pk/__init__.py": "from .x import X\nfrom .y import Y",
        "pk/x.py": "class X: other = property(lambda self: y.Y)\nfrom . import y",
        "pk/y.py": "from .x import X\nclass Y(X): pass",
    }, """
        import a
        print(a.call())
        import pk
        print(pk.Y().other is pk.Y, pk.Y.__mro__)
    """)


def test_rebinding_and_deleting(lazily):
    lazily({**SPEAKING, "user.py": "import alpha, beta\nfrom alpha import x\ndef get(): return alpha, beta\ndef give(): return x"}, """
        import user
        user.alpha = "mine"
        assert user.get()[0] == "mine" and not loaded("alpha")
        user.get()
        del user.beta
        try:
            user.get()
        except NameError as error:
            assert error.name == "beta"
        else:
            raise AssertionError("a name that was deleted is there again")
        user.x = 7
        assert user.give() == 7 and not loaded("alpha")
    """)


def test_code_that_runs_elsewhere(lazily):
    """Names belong to the module: its functions with other globals have none of them, and what is made of its code imports eagerly."""
    lazily({**SPEAKING, "user.py": "import alpha\nimport sys\ncode = sys._getframe().f_code\ndef get(): return alpha"}, """
        import marshal, types, user
        elsewhere = types.FunctionType(user.get.__code__, {"__name__": "user"})
        try:
            elsewhere()
        except NameError as error:
            assert error.name == "alpha"
        else:
            raise AssertionError("a name of another module was resolved")
        namespace = {"__name__": "elsewhere"}
        exec(marshal.loads(marshal.dumps(user.code)), namespace)
        assert namespace["alpha"] is sys.modules["alpha"] and namespace["get"]() is namespace["alpha"]
        namespace = {"__name__": "elsewhere"}
        exec(user.code, namespace)
        assert namespace["alpha"] is sys.modules["alpha"] and not loaded("beta")
    """)


def test_name_errors_of_others(lazily):
    """A NameError that a load meets, and does not raise, is not answered by loading again."""
    lazily({**SPEAKING, "user.py": """
        import alpha
        class Namespace(dict):
            def __getitem__(self, name):
                raise NameError(name, name=name) if name == "alpha" else KeyError(name)
        class Meta(type):
            def __prepare__(*args): return Namespace()
        def make():
            class Made(metaclass=Meta):
                alpha
        def get(): return alpha
    """}, """
        import user
        for round in range(2):
            try:
                user.make()
            except NameError as error:
                assert error.name == "alpha"
            else:
                raise AssertionError("no NameError")
            user.get()
    """)


def test_listeners(lazily):
    """Whoever listens to imports hears of those that waited when they are made, also while builtins.__import__ is wrapped for him."""
    lazily({**SPEAKING, "user.py": "import alpha\ndef get(): return alpha"}, """
        import ladewerk
        told = []
        with ladewerk.on_import(lambda event: told.append((event.kind, event.importee, event.importer)), kinds=["loaded", "reused"]):
            import user
            assert not loaded("alpha")
            user.get()
        assert [entry for entry in told if entry[1] in ("user", "alpha")] == [("loaded", "user", "__main__"), ("loaded", "alpha", "user")], told
    """)


def test_engines(lazily):
    """Imports of an engine are eager; names of the process's modules go on waiting beside it."""
    lazily({**SPEAKING, "user.py": "import alpha\ndef get(): return alpha"}, """
        import ladewerk, user
        engine = ladewerk.ImportEngine(path=sys.path, name="other")
        inner = engine.import_module("user")
        assert inner is not user and "alpha" in vars(inner) and inner.alpha.x == 1 and not loaded("alpha")
        assert user.get() is sys.modules["alpha"] and user.get() is not inner.get()
    """)


def test_reloader(lazily):
    """What is reloaded is executed eagerly, with names that waited in it, or in those that import it, as they were."""
    lazily({**SPEAKING, "shop.py": "import alpha\nfrom prices import price\ndef get(): return alpha.x, price", "prices.py": "price = 1"}, """
        import ladewerk, os, pathlib, time
        reloader = ladewerk.Reloader(roots=[os.getcwd()], watch=False)
        import shop
        assert not loaded("alpha", "prices")
        time.sleep(0.05)
        pathlib.Path("shop.py").write_text("import alpha, beta\\nfrom prices import price\\ndef get(): return alpha.x, price, beta.x, 'again'\\n")
        assert reloader.reload().changed == ("shop",)
        assert shop.get() == (1, 1, 10, "again")
        time.sleep(0.05)
        pathlib.Path("prices.py").write_text("price = 'another'\\n")
        assert reloader.reload().changed == ("prices",) and shop.get() == (1, "another", 10, "again")
    """)


def test_the_cache(programs, tmp_path):
    """Code for lazy programs is learnt at the first run, under a key of its own: the second finds it, and an eager one none of it."""
    root, path = programs.write({**SPEAKING, "user.py": "import alpha\ndef get(): return alpha"}, """
        import ladewerk, sys
        from ladewerk import _native
        import user
        served = ladewerk.stats()["served"]
        print("alpha" not in sys.modules, user.get().x, len(user.get.__code__.co_consts) > 1, served["pack"], served["compiled"], served["pyc"])
        print(_native.place()[1])
    """)
    settle()  # what is too young is not stored
    settle()
    runs = [programs.start(mode, root, path, LADEWERK_CACHE=str(tmp_path), NUMBER=str(number)).out.splitlines()   # each from a process of its own
            for number, mode in enumerate(("all", "all", "eager", "eager", "own"))]
    lazy, eager = "True 1 True", "False 1 False"
    assert [run[-2].rsplit(" ", 3)[0] for run in runs[:4]] == [lazy, lazy, eager, eager], runs
    for number in 1, 3:
        assert runs[number][-2].endswith(" 0 0") and int(runs[number][-2].split()[3]) >= 1, runs
    keys = [run[-1] for run in runs]
    assert keys[0] == keys[1] == keys[4] != keys[2] == keys[3]


def test_files_that_come_and_go(lazily):
    """A file that was made a moment ago is found; one that was removed is missed at its use, or at the statement after invalidate_caches()."""
    lazily({**SPEAKING, "first.py": "import alpha\ndef get(): return alpha", "second.py": "import fresh, beta\ndef get(): return fresh, beta", "third.py": "import beta\ndef get(): return beta"}, """
        import importlib, os, pathlib, first
        pathlib.Path("fresh.py").write_text("x = 'fresh'")
        os.unlink("beta.py")
        def misses(function, *args):
            try:
                function(*args)
            except ModuleNotFoundError as error:
                return error.name == "beta"
        try:
            import second
        except ModuleNotFoundError as error:
            assert error.name == "beta"
        else:
            assert misses(second.get)
        importlib.invalidate_caches()
        assert misses(importlib.import_module, "third")
        pathlib.Path("beta.py").write_text("x = 'back'")
        import third
        assert third.get().x == "back" and importlib.import_module("fresh").x == "fresh"
    """)


def test_modules_go(lazily):
    """Nothing keeps a module, or its dictionary, that was let go of; what is kept of it goes on working."""
    lazily({**SPEAKING, "user.py": "import alpha\nfrom beta import x\nclass Mark: pass\nmark = Mark()\ndef get(): return alpha"}, """
        import gc, weakref
        for kept in (False, True):
            import user
            module, mark, get = weakref.ref(user), weakref.ref(user.mark), user.get
            if not kept:
                get = None
            del user, sys.modules["user"]
            gc.collect()
            assert module() is None and (mark() is not None) == kept
            if kept:
                assert get().__name__ == "alpha"   # the function has the dictionary
        get = None
        gc.collect()
        assert mark() is None
        for round in range(300):   # more than the table holds without looking for those that have gone
            import user
            del user, sys.modules["user"]
        gc.collect()
        import tracemalloc
        for run in range(2):
            tracemalloc.start()
            for round in range(100):
                import user
                del user, sys.modules["user"]
                gc.collect(0)
            gc.collect()
            used = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
        assert used < 150_000, used   # those that the table has not looked for yet, which are 32 at most: all 100 would be twice that
    """)


def test_a_fork(lazily):
    lazily({**SPEAKING, "user.py": "import alpha\nimport beta\ndef get(): return alpha.x + beta.x"}, """
        import os, user
        pid = os.fork()
        if not pid:
            os._exit(user.get())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11 and not loaded("alpha")
        assert user.get() == 11
    """)


def test_the_end_of_the_interpreter(alike):
    """What is first used at exit is imported then, as an import statement there would be. What a __del__ names did not wait: nothing can be imported any more."""
    ended = alike({**SPEAKING, "user.py": """
        import atexit, alpha, beta, pack
        from beta import x
        def at_exit(): print("exit", alpha.x)
        atexit.register(at_exit)
        class Late:
            def __del__(self):
                print("late", pack.__name__, x)
        late = Late()
    """}, """
        import alpha, pack, user
        user.cycle = user
    """)
    assert ended.out.endswith("exit 1\nlate pack 10\n"), ended.out


def test_what_is_imported_too_late(lazily):
    """By what a __del__ calls, once modules are let go of."""
    ended = lazily({**SPEAKING, "user.py": """
        import alpha
        def use(): return alpha.x
        class Late:
            def __del__(self, errors=(ImportError, NameError)):
                try:
                    use()
                except errors:
                    print("too late")
        late = Late()
    """}, """
        import user
        user.cycle = user
    """)
    assert ended.out == "too late\n", ended


def test_submodules_that_a_package_uses_by_name(alike):
    """Importing a submodule binds it in its package, which counts on it."""
    alike({
        "one/__init__.py": "from .part import x\ndel part\n", "one/part.py": "x = 1\n",
        "two/__init__.py": "from .part import x\ndef use(): return part.y, x\n", "two/part.py": "x = 1\ny = 2\n",
        "three/__init__.py": "import three.part\nfrom three.part import x\ndef use(): return part.y, x, three.part.x\n", "three/part.py": "x = 1\ny = 2\n",
        "four/__init__.py": "from .input import x\nread = input.x\n", "four/input.py": "x = 1\n",
    }, """
        import one, two, three, four
        print(hasattr(one, "part"), one.x, two.use(), three.use(), four.read)
    """, modes=("default", "own", "all"))


def test_after_uninstall(lazily):
    lazily({**SPEAKING, "user.py": "import alpha\ndef get(): return alpha", "second.py": "import beta"}, """
        import ladewerk, user
        ladewerk.uninstall()
        import second
        assert loaded("beta") and user.get().x == 1   # nothing new waits; what waits goes on to do so
        assert ladewerk.stats()["lazy"]["mode"] == "off"
        ladewerk.install()
        assert ladewerk.stats()["lazy"]["mode"] == "all"
    """)


def test_somebody_elses_import(lazily):
    """Whoever has replaced builtins.__import__ decides what import statements do; he is also asked when a name is resolved."""
    lazily({**SPEAKING, "user.py": "import alpha\nalpha", "earlier.py": "import beta\ndef get(): return beta"}, """
        import builtins, earlier
        asked, stock = [], builtins.__import__
        def mine(name, *args, **kwargs):
            if name in ("user", "alpha", "beta"): asked.append(name)
            return stock(name, *args, **kwargs)
        builtins.__import__ = mine
        import user
        assert loaded("alpha") and "alpha" in bound("user")
        earlier.get()
        assert asked == ["user", "alpha", "beta"], asked
    """)


def test_reload(lazily):
    lazily({**SPEAKING, "user.py": "import alpha\nfrom beta import x\ndef get(): return alpha.x, x"}, """
        import importlib, user
        assert not loaded("alpha")
        importlib.reload(user)
        assert user.get() == (1, 10)
    """)


def test_the_census(lazily):
    lazily({**SPEAKING, "bad.py": "1/0", "user.py": "import alpha\nfrom beta import x as y\nimport pack.one\nimport bad\ndef get(): return alpha\ndef fail(): return bad, pack, y"}, """
        from ladewerk import _native
        import ladewerk
        _native.record(True)
        import user
        before = ladewerk.stats()["lazy"]
        user.get()
        user.y = 3
        user.y
        try:
            user.fail()
        except ZeroDivisionError:
            pass
        records = {record[5]: record for record in _native.lazy_census() if record[0] == "user"}
        assert list(records) == ["alpha", "y", "pack", "bad"]
        file = user.__file__
        assert records["alpha"][:9] == ("user", file, 1, "alpha", None, "alpha", "resolved", file, 5) and records["alpha"][9] > 0
        assert records["y"][:6] == ("user", file, 2, "beta", "x", "y") and records["y"][6] in ("waits", "overwritten")
        assert records["pack"][:10] == ("user", file, 3, "pack.one", None, "pack", "waits", None, None, 0)
        assert records["bad"][6:9] == ("failed", file, 6)
        after = ladewerk.stats()["lazy"]
        assert after["resolved"] == before["resolved"] + 1 and before["registered"] >= 4 and before["reason"] is None
        _native.record(False)
    """)


def test_what_is_switched_off(programs):
    for mode, reason in (("0", None), ("nonsense", "LADEWERK_LAZY says 'nonsense', which is not default, own, all or 0")):
        ended = programs.run("all", SPEAKING, f"""
            import ladewerk
            found = ladewerk.stats()["lazy"]
            assert found == {{"mode": "off", "reason": {reason!r}, "registered": 0, "resolved": 0, "eager": 0}}, found
        """, LADEWERK_LAZY=mode)
        assert ended.status == 0, ended.err


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a GIL of their own came with 3.12")
def test_interpreters(lazily):
    lazily({**SPEAKING, "user.py": "import alpha\ndef get(): return alpha.x"}, """
        import threading
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        program = f'''if True:
            import sys
            sys.path.insert(0, {sys.path[0]!r})
            import ladewerk
            ladewerk.install()
            assert ladewerk.stats()["lazy"]["mode"] == "all", ladewerk.stats()
            import user
            assert "alpha" not in sys.modules and user.get() == 1
        '''
        def run():
            one = interpreters.create()
            failed = interpreters.run_string(one, program)
            assert failed is None, failed
            interpreters.destroy(one)
        def collect():
            try:
                run()
            except BaseException as error:
                errors.append(error)
        errors = []
        for round in range(2):
            threads = [threading.Thread(target=collect) for _ in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        assert not errors, errors
        import user
        assert user.get() == 1
    """)


@pytest.mark.parametrize("package, look", [
    ("from .retry import base\ndef retry(): return 1", "print(p.retry(), p.base, p.retry()); import p.retry; print(p.retry())"),
    ("retry = None\nfrom .retry import base", "print(p.retry, p.base, p.retry)"),
    ("from .retry import base\nfrom q import retry", "p.base; print(p.retry)"),
    ("from q import retry\nfrom .retry import base", "print(p.retry); p.base; print(p.retry)"),
    ("import p.retry as r\ndef retry(): return 1", "r = p.r; print(r, p.retry())"),
], ids=["function", "before", "import after", "import before", "as"])
def test_names_of_submodules(alike, package: str, look: str):
    """What a package binds behind the import of a submodule of that name stays, though the submodule is imported later."""
    alike({"p/__init__.py": package + "\n", "p/retry.py": "base = 1\n", "q.py": "retry = 2\n"}, f"import p\n{look}")
