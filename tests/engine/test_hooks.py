# SPDX-License-Identifier: MIT
"""Finders, hooks and loaders that take an engine, those of PEP 302, and what a subclass may override: find_spec(), load(), allow()."""
from __future__ import annotations

import importlib.util
import builtins
import sys
import types

import pytest

import ladewerk


class Loader:
    """Of PEP 451, with an engine."""

    def create_module(self, spec, engine=None):
        module = types.ModuleType(spec.name)
        module.created_in = engine
        return module

    def exec_module(self, module, engine=None):
        module.executed_in = engine
        exec("def later():\n    import json\n    return json", vars(module))


class Finder:
    def __init__(self):
        self.seen = []

    def find_spec(self, fullname, path=None, target=None, engine=None):
        self.seen.append(engine)
        return importlib.util.spec_from_loader(fullname, Loader()) if fullname == "made_up" else None


class Plain:
    """As ever: it knows of no engine."""

    def find_spec(self, fullname, path=None, target=None):
        return importlib.util.spec_from_loader(fullname, self) if fullname == "made_up" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.plain = True


class Old:
    """Of PEP 302."""

    def find_module(self, fullname, path=None, engine=None):
        self.engine = engine
        return self if fullname in ("old_one", "old_bad") else None

    def load_module(self, fullname, path=None, engine=None):
        module = types.ModuleType(fullname)
        engine.modules[fullname] = module
        if fullname == "old_bad":
            raise ValueError
        module.word = "old"
        return module


def test_finder_and_loader_are_given_the_engine():
    finder = Finder()
    engine = ladewerk.ImportEngine(meta_path=[finder, *sys.meta_path])
    module = engine.import_module("made_up")
    assert (module.created_in, module.executed_in, finder.seen) == (engine, engine, [engine])
    assert engine.modules["made_up"] is module and module.__spec__.name == "made_up" and not module.__spec__._initializing
    assert module.later() is engine.modules["json"] and "made_up" not in sys.modules
    for reload in (engine.reload, engine.import_module("importlib").reload):
        del module.executed_in
        assert reload(module) is module is engine.modules["made_up"] and module.executed_in is engine
    engine.modules["made_up"] = None
    with pytest.raises(ImportError, match="not in sys.modules"):
        engine._bootstrap._exec(module.__spec__, module)


def test_modules_that_are_replaced(tmp_path):
    """Whatever kind of loader it has, a module goes where the import statement looks for it."""
    (tmp_path / "plain.py").write_text("def again():\n    import plain\n    return plain\n")
    engine = ladewerk.ImportEngine(path=[str(tmp_path), *sys.path], meta_path=[Finder(), Old(), *sys.meta_path])
    before = engine.modules
    engine.modules = dict(before)
    for name in ("made_up", "old_one", "plain", "_csv", "threading", "array"):
        before.pop(name, None)
        assert engine.import_module(name) is engine.modules[name] and name not in before
        assert engine.import_module(name) is engine.modules[name]
    assert engine.modules["plain"].again() is engine.modules["plain"]


def test_finders_that_know_of_no_engine_work_unchanged():
    engine = ladewerk.ImportEngine(meta_path=[Plain(), *sys.meta_path])
    assert engine.import_module("made_up").plain


class Importing:
    """A finder, and a hook, of the process that import something whenever they are asked."""

    def find_spec(self, fullname, path=None, target=None):
        import colorsys
        self.found = colorsys
        return None

    def hook(self, entry):
        self.find_spec(entry)
        raise ImportError


@pytest.mark.parametrize("how", ["with", "assigned"])
@pytest.mark.parametrize("where", ["meta_path", "path_hooks", "path_importer_cache"])
def test_what_a_finder_of_the_process_imports_is_the_process_s(how, where, monkeypatch):
    """Within `with engine:` and with the engine's `__import__` in place of the built-in as well: otherwise it would be asked for its own imports, and import them again, without end."""
    import colorsys
    finder = Importing()
    with_it = {"meta_path": {"meta_path": [finder, *sys.meta_path]}, "path_hooks": {"path_hooks": [finder.hook, *sys.path_hooks]},
               "path_importer_cache": {"path": ["importing:", *sys.path]}}
    engine = ladewerk.ImportEngine(**with_it[where])
    if where == "path_importer_cache":
        engine.path_importer_cache["importing:"] = finder
    if how == "with":
        with engine:
            import sched
    else:
        monkeypatch.setattr(builtins, "__import__", engine.__import__)
        import sched
        monkeypatch.undo()
    assert sched is engine.modules["sched"]
    assert finder.found is colorsys and "colorsys" not in engine.modules


@pytest.fixture
def shared_package(tmp_path, monkeypatch):
    """A package that imports among its own modules, of the process; loaded by nobody yet."""
    (tmp_path / "shared_star").mkdir()
    (tmp_path / "shared_star" / "__init__.py").write_text("from .names import *\nfrom .names import __all__\n")
    (tmp_path / "shared_star" / "names.py").write_text("import colorsys\n__all__ = ['colorsys']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "shared_star"
    for name in ("shared_star", "shared_star.names"):
        sys.modules.pop(name, None)


def test_what_a_shared_module_imports_is_the_process_s(shared_package, monkeypatch):
    """With the engine's `__import__` in place of the built-in as well: otherwise a shared package that is loaded would be asked of the process again, half loaded as it is."""
    import colorsys
    engine = ladewerk.ImportEngine(share=[shared_package])
    monkeypatch.setattr(builtins, "__import__", engine.__import__)
    import shared_star
    monkeypatch.undo()
    assert shared_star is sys.modules["shared_star"] is engine.modules["shared_star"]
    assert shared_star.colorsys is colorsys and "colorsys" not in engine.modules


def test_a_finder_of_the_process_that_imports_into_the_engine(tmp_path, monkeypatch):
    """The modules it loads by import_module() are the engine's, and so is what their statements import."""
    (tmp_path / "fetched.py").write_text("import colorsys\n")

    class Fetching:
        def find_spec(self, fullname, path=None, target=None):
            if fullname == "sched":
                engine.import_module("fetched")

    engine = ladewerk.ImportEngine(path=[str(tmp_path), *sys.path], meta_path=[Fetching(), *sys.meta_path])
    monkeypatch.setattr(builtins, "__import__", engine.__import__)
    engine.builtins.__import__ = engine.__import__
    import sched
    monkeypatch.undo()
    assert sched is engine.modules["sched"]
    assert engine.modules["fetched"].colorsys is engine.modules["colorsys"] is not sys.modules.get("colorsys")


def test_control_what_no_finder_imports_is_the_engine_s(monkeypatch):
    """Control: the same function, not asked as a finder."""
    import colorsys
    engine = ladewerk.ImportEngine()
    finder = Importing()
    with engine:
        finder.find_spec("sched")
    assert finder.found is engine.modules["colorsys"] is not colorsys


def test_finders_and_loaders_of_pep_302():
    old = Old()
    engine = ladewerk.ImportEngine(meta_path=[old, *sys.meta_path])
    module = engine.import_module("old_one")
    assert module.word == "old" and old.engine is engine and module.__spec__.loader is old and module.__loader__ is old
    del old.engine
    again = engine.reload(module)
    assert again is engine.modules["old_one"] and again is not module and old.engine is engine
    with pytest.raises(ValueError):
        engine.import_module("old_bad")
    assert "old_bad" not in engine.modules and not {"old_one", "old_bad"} & {*sys.modules}


class Entry:
    """A finder of a path entry."""

    def find_spec(self, fullname, target=None, engine=None):
        return importlib.util.spec_from_loader(fullname, Loader(), origin=repr(engine)) if fullname == "made_up" else None


class OldEntry:
    def find_module(self, fullname, engine=None):
        return Old() if fullname == "old_one" else None


@pytest.mark.parametrize("way", ["given", "assigned", "appended", "no hook"])
def test_hooks_and_finders_of_path_entries(way):
    seen = []

    def hook(entry, engine=None):
        seen.append((entry, engine))
        if entry == "made up:":
            return Entry()
        if entry == "old:":
            return OldEntry()
        raise ImportError

    hooks = [*sys.path_hooks, hook]
    engine = ladewerk.ImportEngine(path=["made up:", "old:", *sys.path], path_hooks=hooks if way == "given" else None)
    if way == "assigned":
        engine.path_hooks = hooks
    elif way == "appended":
        engine.path_hooks.append(hook)
    elif way == "no hook":
        engine.path_importer_cache.update({"made up:": Entry(), "old:": OldEntry()})
    assert (hook in engine.path_hooks) == (way != "no hook")
    assert engine.import_module("made_up").executed_in is engine and engine.import_module("old_one").word == "old"
    assert way == "no hook" or ("made up:", engine) in seen and ("old:", engine) in seen
    assert engine.import_module("textwrap") is not importlib.import_module("textwrap")
    engine.invalidate_caches()


def test_a_path_entry_that_nobody_knows():
    engine = ladewerk.ImportEngine(path=["/not/there", *sys.path])
    engine.path_importer_cache["/not/there"] = None
    assert engine.import_module("textwrap").dedent


def test_find_spec_and_load_overridden(tmp_path):
    (tmp_path / "plain.py").write_text("import textwrap\n")

    class Traced(ladewerk.ImportEngine):
        found, loaded = [], []

        def find_spec(self, name, path, target=None):
            if name == "made_up":
                return importlib.util.spec_from_loader(name, Loader())
            self.found.append(name)
            return super().find_spec(name, path, target)

        def load(self, spec):
            self.loaded.append(spec.name)
            return super().load(spec)

    engine = Traced(path=[str(tmp_path), *sys.path])
    plain = engine.import_module("plain")
    assert plain.textwrap is engine.modules["textwrap"] and engine.import_module("made_up").executed_in is engine
    assert Traced.found[:2] == ["plain", "textwrap"] and {"plain", "textwrap", "made_up"} <= {*Traced.loaded} and "made_up" not in Traced.found


# --- rules ---

WAYS = {
    "import": "import banned",
    "as": "import banned as b",
    "from": "from banned import word",
    "star": "from banned import *",
    "in exec": "exec('import banned')",
    "in exec with globals of its own": "exec('import banned', {'__name__': 'innocent'})",
    "in exec with builtins of its own": "exec('import banned', {'__builtins__': {'__import__': __import__}})",
    "in eval": "eval('__import__(\"banned\")')",
    "__import__": "__import__('banned')",
    "importlib.import_module": "import importlib\nimportlib.import_module('banned')",
    "importlib._bootstrap": "import importlib._bootstrap as b\nb._gcd_import('banned')",
    "_frozen_importlib": "import _frozen_importlib as b\nb._find_and_load('banned', b._gcd_import)",
    "sys.modules": "import sys\nsys.modules['banned']",
    "sys.modules.get": "import sys\nif sys.modules.get('banned') is None: raise ImportError(name='banned')",
    "sys.modules.values": "import sys\nif not any(getattr(m, '__name__', None) == 'banned' for m in sys.modules.values()): raise ImportError(name='banned')",
    "sys.modules.items": "import sys\nif 'banned' not in [name for name, _ in sys.modules.items()]: raise ImportError(name='banned')",
    "sys.modules.copy": "import sys\nif 'banned' not in sys.modules.copy(): raise ImportError(name='banned')",
    "sys.modules.pop": "import sys\nsys.modules.pop('banned')",
    "sys.modules.setdefault": "import sys\nsys.modules.setdefault('banned', 1).word",
    "pkgutil": "import pkgutil\npkgutil.resolve_name('banned:word')",
    "runpy": "import runpy\nrunpy.run_module('banned.sub')",
    "a submodule": "import banned.sub",
    "pickle": "import pickle\npickle.loads(b'cbanned\\nword\\n.')",
    "a thread": "import threading\ne = []\nt = threading.Thread(target=lambda: way(e))\ndef way(e):\n    try:\n        import banned\n    except ImportError as x:\n        e.append(x)\n"
                "t.start()\nt.join()\nif e: raise e[0]",
}


@pytest.fixture(scope="module")
def ruled_tree(tmp_path_factory):
    top = tmp_path_factory.mktemp("ruled")
    (top / "banned").mkdir()
    (top / "banned" / "__init__.py").write_text("word = 'secret'\n")
    (top / "banned" / "sub.py").write_text("")
    (top / "trusted.py").write_text("import banned\nword = banned.word\n")
    for number, source in enumerate(WAYS.values()):
        (top / f"guest{number}.py").write_text(source + "\n")
    return top


class Ruled(ladewerk.ImportEngine):
    def allow(self, name, importer):
        return name.partition(".")[0] != "banned" or not importer.startswith(("guest", "innocent"))


@pytest.mark.parametrize("there", [False, True], ids=["not there", "there already"])
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_holds(ruled_tree, way, there):
    """And the control: without the rule the same program gets the module."""
    guest = f"guest{list(WAYS).index(way)}"
    if "sys.modules" in way and not there:
        return  # nothing to be got
    for kind in (Ruled, ladewerk.ImportEngine):
        engine = kind(path=[str(ruled_tree), *sys.path], name="ruled")
        if there:
            assert engine.import_module("trusted").word == "secret"
        if kind is Ruled:
            with pytest.raises(ImportError) as raised:
                engine.import_module(guest)
            assert raised.value.name in ("banned", "banned.sub") or "banned" in str(raised.value)
            if raised.value.msg:
                assert "Ruled.allow" in str(raised.value) and guest in str(raised.value) and "'ruled'" in str(raised.value)
        else:
            engine.import_module(guest)


def test_a_rule_does_not_disturb_others(ruled_tree):
    engine = Ruled(path=[str(ruled_tree), *sys.path])
    assert engine.import_module("trusted").word == "secret" and engine.import_module("banned").word == "secret"
    for name in ("json", "logging", "dataclasses", "unittest.mock"):
        engine.import_module(name)
    assert engine.import_module("json").loads("[1]") == [1] and "banned" in engine.modules


def test_on_import_overridden():
    class Listening(ladewerk.ImportEngine):
        def on_import(self, event):
            seen.append((event.kind, event.importee, event.importer))

    seen: list = []
    engine = Listening()
    engine.import_module("textwrap")
    assert ("loading", "textwrap", __name__) in seen and ("loaded", "textwrap", __name__) in seen and ("loaded", "re", "textwrap") in seen
    seen.clear()
    engine.import_module("json.decoder")
    assert ("found", "json", __name__) in seen and ("loaded", "json.scanner", "json.decoder") in seen
    with pytest.raises(ModuleNotFoundError):
        engine.import_module("none_of_the_kind")
    assert ("failed", "none_of_the_kind", __name__) in seen
