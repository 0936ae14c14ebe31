# SPDX-License-Identifier: MIT
"""An engine's imports come from the index that the whole process has: found, validated and loaded as the interpreter's are, and none of it twice."""
from __future__ import annotations

import pathlib
import sys
import sysconfig

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "ext"))


from harness import Tree, settle  # noqa: E402

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
PREAMBLE = """
import gc, importlib, json, os, pathlib, sys, threading, weakref
import ladewerk
root = pathlib.Path(os.environ["PYTHONPATH"])

def served():
    return {name: number for name, number in ladewerk.stats()["served"].items() if number}

def more(function):
    before = served()
    result = function()
    now = served()
    return result, {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0)}

def session():
    return ladewerk.stats()["session"]

"""


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    tree = Tree(tmp_path)
    tree.write("shop/__init__.py", "from shop import cart\nNAME = __name__\n")
    tree.write("shop/cart.py", "import shop\nfrom . import items\nTOTAL = items.COUNT + 1\n")
    tree.write("shop/items.py", "COUNT = 1\n")
    tree.write("alone.py", "VALUE = 1\ndef imports():\n    import shop.items\n    return shop.items\n")
    for portion in "ab":
        tree.write(f"{portion}/spaces/{portion}.py", f"NAME = {portion!r}\n")
    settle()
    return tree


def inside(tree: Tree, code: str, **more: object) -> None:
    tree.run(PREAMBLE + code, **more)  # type: ignore[no-untyped-call]


def learnt(tree: Tree) -> Tree:
    tree.learn("import shop, alone, shop.items")
    return tree


def test_engines_are_served_from_the_cache(tree):
    inside(learnt(tree), """if True:
        for number in range(3):
            engine = ladewerk.ImportEngine()
            module, how = more(lambda: engine.import_module("shop"))
            assert how == {"pack": 3}, how
            assert module.cart.TOTAL == 2 and engine.modules["shop.items"] is module.cart.items
            module, how = more(lambda: engine.import_module("alone"))
            assert how == {"pack": 1} and module.imports() is engine.modules["shop.items"], how
        assert not {"shop", "alone"} & {*sys.modules}
        assert ladewerk.stats()["engines"] == {"served": 3, "refused": 0, "reason": None}
    """)


def test_nothing_is_looked_up_twice(tree):
    """The second engine asks the file system what the interpreter's own import asks when all is known, and reads no directory."""
    inside(learnt(tree), """if True:
        def cost(function):
            before = session()
            function()
            return {name: number - before[name] for name, number in session().items() if isinstance(number, int) and number != before[name]}
        first = cost(lambda: ladewerk.ImportEngine().import_module("shop"))
        second = cost(lambda: ladewerk.ImportEngine().import_module("shop"))
        outside = cost(lambda: importlib.import_module("shop"))
        assert second.get("listings_read", 0) == second.get("listings_from_index", 0) == 0, second
        assert second["statx"] == outside["statx"] <= first["statx"], (first, second, outside)
        assert second["code_from_pack"] == 3, second
    """)


def test_an_engine_maps_and_opens_nothing(tree):
    inside(learnt(tree), """if True:
        def held():
            return len(os.listdir("/proc/self/fd")), sum("/index" in line or "/cache" in line for line in open("/proc/self/maps"))
        kept = [ladewerk.ImportEngine()]
        kept[0].import_module("shop")
        before = held()
        for _ in range(20):
            kept.append(ladewerk.ImportEngine())
            kept[-1].import_module("shop")
        assert held() == before, (before, held())
    """)


FACTS = """
def facts(module):
    spec = module.__spec__
    def kind(value):
        return type(value).__module__, type(value).__qualname__
    return {
        "order": list(vars(module))[:9], "file": module.__file__, "package": module.__package__, "path": list(getattr(module, "__path__", ())),
        "cached": spec.cached, "spec": {key: value if isinstance(value, (str, bool, list, type(None))) else kind(value) for key, value in vars(spec).items()},
        "kinds": [kind(module), kind(spec), kind(spec.loader)], "loader": vars(spec.loader), "same": module.__loader__ is spec.loader,
        "builtins": type(module.__builtins__).__name__, "own": module.__builtins__ is vars(engine.builtins),
        "instances": [isinstance(spec, machinery.ModuleSpec), isinstance(spec.loader, machinery.SourceFileLoader)],
    }
engine = ladewerk.ImportEngine()
machinery = engine.import_module("importlib.machinery")
names = ["shop", "shop.cart", "shop.items", "alone"]
for name in names:
    engine.import_module(name)
print(json.dumps([[name for name in engine.modules if name in names], [facts(engine.modules[name]) for name in names]]))
"""


def test_modules_are_as_without_ladewerk(tree):
    learnt(tree)
    with_index, without = (tree.run(PREAMBLE + FACTS, ladewerk=ladewerk).json() for ladewerk in (True, False))
    assert with_index == without
    for fact in with_index[1]:
        assert fact["own"] and fact["instances"] == [True, True], fact


def test_edits_are_seen_by_the_next_engine(tree):
    inside(learnt(tree), """if True:
        first = ladewerk.ImportEngine().import_module("shop.items")
        (root / "shop/items.py").write_text("COUNT = 2\\n")
        second = ladewerk.ImportEngine().import_module("shop.items")
        assert (first.COUNT, second.COUNT) == (1, 2)
        (root / "shop/new.py").write_text("")
        engine = ladewerk.ImportEngine()
        engine.import_module("shop.new")
        (root / "shop/new.py").unlink()
        try:
            ladewerk.ImportEngine().import_module("shop.new")
        except ModuleNotFoundError as error:
            assert error.name == "shop.new"
        else:
            raise AssertionError
    """)


def test_paths_are_the_engines_own(tree):
    tree.write("one/where.py", "HERE = 1\n")
    tree.write("two/where.py", "HERE = 2\n")
    inside(learnt(tree), """if True:
        engines = [ladewerk.ImportEngine(path=[str(root / each), *sys.path]) for each in ("one", "two")]
        assert [engine.import_module("where").HERE for engine in engines] == [1, 2]
        engine, how = ladewerk.ImportEngine(), {}
        for number, path in enumerate(["one", "two"], 1):
            engine.path.insert(0, str(root / path))
            module, how = more(lambda: engine.import_module("where"))
            assert module.HERE == number and sum(how.values()) == 1, how
            del engine.modules["where"]
        engine.import_module("sys").path = [str(root / "one")]
        module, how = more(lambda: engine.import_module("where"))
        assert module.HERE == 1 and sum(how.values()) == 1, how
        assert "where" not in sys.modules and not any("one" in entry or "two" in entry for entry in sys.path_importer_cache)
    """)


def test_namespace_packages(tree):
    inside(learnt(tree), """if True:
        engine = ladewerk.ImportEngine(path=[str(root / "a"), *sys.path])
        space = engine.import_module("spaces")
        assert engine.import_module("spaces.a").NAME == "a" and len(space.__path__) == 1
        engine.path.insert(0, str(root / "b"))
        module, how = more(lambda: engine.import_module("spaces.b"))
        assert module.NAME == "b" and len(space.__path__) == 2 and "spaces" not in sys.modules
        assert sum(how.values()) == 1 and "foreign_finder" not in how, how
    """)


def test_what_is_missing_is_proven(tree):
    inside(learnt(tree), """if True:
        engine = ladewerk.ImportEngine()
        def fails():
            try:
                engine.import_module("nothing_of_the_kind")
            except ModuleNotFoundError as error:
                return error
        error, how = more(fails)
        assert error.name == "nothing_of_the_kind" and how == {"miss": 1}, how
        assert str(error) == "No module named 'nothing_of_the_kind'"
    """)


@pytest.mark.parametrize("patch", [
    "engine.import_module('importlib.machinery').SourceFileLoader.get_data = lambda self, path: b'COUNT = 9'",
    "engine.import_module('importlib._bootstrap_external').cache_from_source = lambda path: None",
    "engine.path_hooks.insert(0, refuse)",
], ids=["loader", "function", "hook"])
def test_one_that_was_patched_goes_its_own_way(tree, patch):
    """Its import is its own affair; others, and the interpreter, go on from the index. The control: without the patch it is served."""
    code = """if True:
        def refuse(path):
            raise ImportError
        engine, other = ladewerk.ImportEngine(), ladewerk.ImportEngine()
        engine.import_module("alone")
        PATCH
        module, how = more(lambda: engine.import_module("shop.items"))
        print(json.dumps(how.get("pack", 0)))
        _, how = more(lambda: other.import_module("shop.items"))
        assert how["pack"] == 3, how
        _, how = more(lambda: importlib.import_module("shop.items"))
        assert how["pack"] == 3, how
    """
    learnt(tree)
    assert tree.run(PREAMBLE + code.replace("PATCH", patch)).json() == 0
    assert tree.run(PREAMBLE + code.replace("PATCH", "")).json() == 3


def test_installed_and_uninstalled_while_there_are_engines(tree):
    inside(learnt(tree), """if True:
        assert not ladewerk.stats()["active"]
        engine = ladewerk.ImportEngine()
        assert engine.import_module("alone").VALUE == 1 and not served()
        assert ladewerk.install() and ladewerk.stats()["fast_path"], ladewerk.stats()["reason"]
        _, how = more(lambda: engine.import_module("shop"))
        assert how == {"pack": 3}, how
        _, how = more(lambda: importlib.import_module("shop"))
        assert how == {"pack": 3}, how
        ladewerk.uninstall()
        _, how = more(lambda: ladewerk.ImportEngine().import_module("shop"))
        assert not how, how
        del sys.modules["shop"], sys.modules["shop.cart"], sys.modules["shop.items"]
        _, how = more(lambda: importlib.import_module("shop"))
        assert not how, how
        assert ladewerk.install() and ladewerk.stats()["fast_path"]
        _, how = more(lambda: ladewerk.ImportEngine().import_module("shop"))
        assert how == {"pack": 3}, how
    """, env={"LADEWERK": None})


def test_uninstalled_in_a_module_body(tree):
    tree.write("ends.py", "import ladewerk\nladewerk.uninstall()\nimport shop\n")
    inside(learnt(tree), """if True:
        engine = ladewerk.ImportEngine()
        engine.import_module("ends")
        importlib.import_module("alone")
        assert "shop" in engine.modules and not ladewerk.stats()["active"]
    """)


def test_reloads_and_autoloaders_of_the_interpreter_go_on(tree):
    """They look into sys.modules, which is of another type since there was an engine."""
    inside(learnt(tree), """if True:
        engine = ladewerk.ImportEngine()
        engine.import_module("shop")
        import shop.items
        (root / "shop/items.py").write_text("COUNT = 7\\n")
        done = ladewerk.Reloader([root]).reload()
        assert done and "shop.items" in sys.modules
        assert sys.modules["shop.items"].COUNT == 7 and engine.modules["shop.items"].COUNT == 1
    """)


def test_reloads_and_autoloaders_are_the_processs_within_an_engine(tree):
    """`with engine:` is for imports that code of nobody's engine makes by itself; what the process's reloads and autoloaders load is the process's."""
    tree.write("auto/far/near.py", "VALUE = 1\n")
    tree.write("auto/far/later.py", "VALUE = 1\n")
    settle()
    inside(learnt(tree), """if True:
        import shop.items, alone
        reloader = ladewerk.Reloader([root])
        loader = ladewerk.Autoloader()
        loader.push_dir(root / "auto")
        loader.enable_reloading()
        engine = ladewerk.ImportEngine()
        with engine:
            loader.setup()
        import far
        engine.path.append(str(root / "auto"))
        own = [engine.import_module(name) for name in ("far.near", "shop.items")]
        assert not any("ladewerk" in type(finder).__module__ and "autoload" in type(finder).__module__ for finder in ladewerk.ImportEngine().meta_path)
        (root / "fresh.py").write_text("")
        (root / "shop/items.py").write_text("import fresh, alone\\nCOUNT = 7\\n")
        (root / "auto/far/near.py").write_text("VALUE = 2\\n")
        with engine:
            assert far.near.VALUE == 2
            assert "shop.items" in reloader.reload().executed
            (root / "auto/far/near.py").write_text("VALUE = 3\\n")
            assert loader.reload().executed == ("far.near",)
            loader.eager_load()
            assert ladewerk.registry().module("far.later").__name__ == "far.later" and "far.later" not in engine.modules
        items = sys.modules["shop.items"]
        assert items.COUNT == 7 and items.fresh is sys.modules["fresh"] and items.alone is sys.modules["alone"], items
        assert far.near is sys.modules["far.near"] and far.near.VALUE == 3 and far.later is sys.modules["far.later"]
        assert [engine.modules[module.__name__] for module in own] == own and own[1].COUNT == 1
        assert not {"fresh", "alone", "far.later"} & {*engine.modules}, [*engine.modules]
        with engine:
            loader.unload()
        assert "far.near" not in sys.modules and engine.modules["far.near"] is own[0]
    """)


def test_a_module_of_an_engine_is_not_reloaded_for_the_process(tree):
    """Its namesake would be executed in its place."""
    inside(learnt(tree), """if True:
        import alone
        engine = ladewerk.ImportEngine(name="it")
        own = engine.import_module("alone")
        try:
            ladewerk.reload([own])
        except ValueError as error:
            assert "'it'" in str(error) and "engine.reload()" in str(error), error
        else:
            raise AssertionError
        assert sys.modules["alone"] is alone and engine.reload(own) is own
    """)


def test_threads_fill_one_engine_and_many(tree):
    for number in range(40):
        tree.write(f"many/m{number}.py", f"import many.m{number + 1}\nVALUE = {number}\n" if number < 39 else "VALUE = 39\n")
    tree.write("many/__init__.py")
    settle()
    tree.learn("import many.m0")
    inside(tree, """if True:
        engines = [ladewerk.ImportEngine() for _ in range(4)]
        errors, start = [], threading.Barrier(8)
        def work(engine, first):
            start.wait(60)
            try:
                for number in range(40):
                    assert engine.import_module(f"many.m{(first + number) % 40}").VALUE == (first + number) % 40
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=work, args=(engines[number % 4], number * 5)) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join(60)
        assert not errors and not any(thread.is_alive() for thread in threads), errors
        assert all(sum(name.startswith("many.m") for name in engine.modules) == 40 for engine in engines)
        modules = {id(engine.modules["many.m7"]) for engine in engines}
        assert len(modules) == 4 and "many" not in sys.modules
        assert ladewerk.stats()["engines"]["served"] == 4 and served()["pack"] >= 4 * 41, served()
    """)


@pytest.mark.parametrize("kept", [0, 1], ids=["gone", "control-one-is-kept"])
def test_an_engine_that_goes_takes_its_state_along(tree, kept):
    inside(learnt(tree), f"""if True:
        keep = []
        def one():
            engine = ladewerk.ImportEngine()
            engine.import_module("shop")
            return weakref.ref(engine), weakref.ref(engine.modules["shop"]), engine
        for _ in range(3): one()
        refs = []
        def census():
            gc.collect()
            before = len(gc.get_objects())
            for number in range(20):
                engine, module, strong = one()
                refs.append((engine, module))
                if number < {kept}:
                    keep.append(strong)
            del strong
            gc.collect()
            return len(gc.get_objects()) - before
        census()
        more = census() - 40  # the weak references themselves, and their tuples
        alive = sum(ref() is not None for pair in refs for ref in pair)
        assert alive == 4 * {kept}, alive
        assert (more > 100) == bool({kept}), more
    """)


def test_finders_of_others_are_asked_as_they_like(tree):
    """On the fast path, too: with the engine if they take one, by PEP 302 if they know no other way."""
    inside(learnt(tree), """if True:
        asked = []
        class Plain:
            def find_spec(self, fullname, path=None, target=None):
                asked.append(("plain", fullname))
        class Wants:
            @staticmethod
            def find_spec(fullname, path=None, target=None, *, engine=None):
                asked.append((engine, fullname))
        class Captures:
            def find_spec(self, fullname, path=None, target=None, engine=None):
                asked.append((lambda: engine)() and ("captures", fullname))
        class Old:
            def find_module(self, fullname, path=None):
                asked.append(("old", fullname))
        class Called:
            class find_spec:
                def __call__(self, fullname, path, target, engine):
                    asked.append(("called", engine.name, fullname))
            find_spec = find_spec()
        engine = ladewerk.ImportEngine(name="it")
        engine.meta_path[:0] = [Plain(), Wants, Captures(), Old(), Called()]
        _, how = more(lambda: engine.import_module("shop.items"))
        assert how["pack"] == 3, how
        assert asked[:5] == [("plain", "shop"), (engine, "shop"), ("captures", "shop"), ("old", "shop"), ("called", "it", "shop")], asked
        assert len(asked) == 15
    """)


@pytest.mark.parametrize("where", ["meta_path", "path_hooks"])
def test_what_a_finder_of_the_process_imports_is_the_processs(tree, where):
    """Within `with engine:` as well, and on the fast path."""
    tree.write("needed.py")
    settle()
    inside(learnt(tree), f"""if True:
        found = []
        class Importing:
            def find_spec(self, fullname, path=None, target=None):
                import needed
                found.append(needed)
        def hook(entry):
            if entry != "somewhere":
                raise ImportError
            import needed
            found.append(needed)
            return Importing()
        engine = ladewerk.ImportEngine(path=[*sys.path] if {where == "meta_path"} else ["somewhere", *sys.path])
        if {where == "meta_path"}:
            engine.meta_path.insert(0, Importing())
        else:
            engine.path_hooks = [hook, *engine.path_hooks]
        with engine:
            assert engine.import_module("alone") is engine.modules["alone"]
        import needed
        assert set(found) == {{needed}} and "needed" not in engine.modules, len(found)
        assert {where == "meta_path"} or isinstance(engine.path_importer_cache["somewhere"], Importing)
    """)


@pytest.mark.parametrize("ruled", ["engine.deny('alone', importers='shop')", "engine = Asking()", ""], ids=["deny", "allow", "control"])
def test_rules_leave_engines_to_the_cache(tree, ruled):
    """And hold for what comes from it: a package asks before it hands out a submodule, also one that another thread or import has brought."""
    tree.write("shop/guest.py", "import shop\ndef items():\n    return shop.items\n")
    settle()
    tree.learn("import shop.guest, alone")
    how = '"find_spec"' if FREE_THREADED else '"pack"'  # there, the engine's importlib loads what our finder has found
    inside(tree, f"""if True:
        class Asking(ladewerk.ImportEngine):
            def allow(self, name, importer):
                return True
        engine = ladewerk.ImportEngine()
        {ruled}
        _, how = more(lambda: engine.import_module("shop.guest"))
        assert how == {{{how if ruled else '"pack"'}: 4}}, how
        items = engine.import_module("shop.guest").items
        assert items() is engine.modules["shop.items"]
        engine.deny("shop.items", importers="shop.guest")
        try:
            items()
        except ladewerk.ImportDenied as error:
            assert error.importer == "shop.guest"
        else:
            raise AssertionError
        _, how = more(lambda: engine.import_module("alone"))
        assert how == {{{how}: 1}} and engine.modules["alone"].VALUE == 1, how
        with ladewerk.on_import(lambda event: None, engine=engine):
            del engine.modules["alone"]
            _, how = more(lambda: engine.import_module("alone"))
            assert how == {{{how}: 1}}, how
        del engine.modules["alone"]
        _, how = more(lambda: engine.import_module("alone"))
        assert how == {{{how}: 1}}, how
        engine.modules = dict(engine.modules)
        assert "alone" in engine.modules
        del engine.modules["alone"]
        _, how = more(lambda: engine.import_module("alone"))
        assert how == {{{how}: 1}} and "alone" in engine.modules, how
    """)


@pytest.mark.parametrize("active", [True, False], ids=["fast", "stock"])
def test_sysengine_is_the_process_within_an_engine(tree, active):
    inside(learnt(tree), f"""if True:
        {"" if active else "ladewerk.uninstall()"}
        engine = ladewerk.ImportEngine()
        engine.import_module("alone")
        with engine:
            own = ladewerk.sysengine.import_module("shop.items")
            assert own is ladewerk.sysengine.__import__("shop.items", fromlist=["COUNT"])
            copy = ladewerk.ImportEngine.from_engine(ladewerk.sysengine)
            again = ladewerk.sysengine.load_module("shop.items")
            assert ladewerk.sysengine.run_module("alone")["VALUE"] == 1
            import shop.cart
        assert "shop" in sys.modules and sys.modules["shop.items"] is again is not own and "alone" not in sys.modules
        assert copy.modules["shop.items"] is own and "alone" not in copy.modules
        assert shop.items is engine.modules["shop.items"] not in (own, again)
    """)
