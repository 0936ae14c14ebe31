# SPDX-License-Identifier: MIT
"""ImportEngine, GlobalImportEngine and sysengine: what they have, and what it does."""
from __future__ import annotations

import gc
import importlib
import sys
import threading
import types
import weakref

import pytest

import ladewerk
from collecting import IMMORTAL, freed
from ladewerk import engine as names


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    top = tmp_path_factory.mktemp("api")
    for name, source in {
        "api_one.py": "count = globals().get('count', 0) + 1\ndef later():\n    import api_pkg.sub\n    return api_pkg.sub\n",
        "api_pkg/__init__.py": "import sys\nargv = sys.argv\n",
        "api_pkg/sub.py": "from . import argv\nname = __name__\n",
        "more/api_pkg/added.py": "name = __name__\n",
        "more/api_two.py": "",
        "script.py": "import api_one\nwhose = __name__, api_one\n",
    }.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(source)
    return top


@pytest.fixture
def engine(tree):
    before = set(sys.modules)
    yield ladewerk.ImportEngine(path=[str(tree), *sys.path], name="api")
    assert not [name for name in set(sys.modules) - before if name.startswith("api_")]


def test_names():
    assert names.ImportEngine is ladewerk.ImportEngine and names.sysengine is ladewerk.sysengine
    assert names.GlobalImportEngine is names.GlobalImportState is ladewerk.GlobalImportEngine is ladewerk.GlobalImportState
    assert isinstance(ladewerk.sysengine, ladewerk.GlobalImportEngine) and ladewerk.engine is names


def test_state_is_its_own(engine):
    for name in ("modules", "path", "meta_path", "path_hooks", "path_importer_cache"):
        own = getattr(engine, name)
        assert own is getattr(engine.sys, name) and own is not getattr(sys, name), name
    assert "api" in repr(engine) and engine.name == "api" and "api_one" not in engine.modules


@pytest.mark.parametrize("words", [{"path": "json"}, {"share": "json"}, {"own": b"json"}], ids=str)
def test_one_string_is_no_list_of_them(words):
    with pytest.raises(TypeError, match="iterables of strings, not one"):
        ladewerk.ImportEngine(**words)


def test_import_module(engine):
    sub = engine.import_module("api_pkg.sub")
    assert sub is engine.import_module(".sub", "api_pkg") is engine.modules["api_pkg"].sub is engine.import_module("api_one").later()
    with pytest.raises(TypeError):
        engine.import_module(".sub")
    with pytest.raises(ModuleNotFoundError) as raised:
        engine.import_module("api_none")
    assert raised.value.name == "api_none"
    with pytest.raises(ModuleNotFoundError):
        engine.import_module("api_one.none")


def test_dunder_import(engine):
    assert engine.__import__("api_pkg.sub") is engine.modules["api_pkg"]
    assert engine.__import__("api_pkg", None, None, ("sub",)) is engine.modules["api_pkg"]
    assert engine.__import__("sub", {"__package__": "api_pkg", "__name__": "api_pkg"}, None, ("name",), 1).name == "api_pkg.sub"


def test_load_module_and_reload(engine):
    first = engine.import_module("api_one")
    assert engine.reload(first) is first and first.count == 2
    second = engine.load_module("api_one")
    assert second is not first and second.count == 1 and engine.modules["api_one"] is second
    sub = engine.load_module("api_pkg.sub")
    assert engine.modules["api_pkg"].sub is sub
    with pytest.raises(ModuleNotFoundError):
        engine.load_module("api_none")


def test_from_engine(engine):
    one = engine.import_module("api_one")
    copy = ladewerk.ImportEngine.from_engine(engine)
    assert copy.modules["api_one"] is one and copy.path == engine.path and copy.path is not engine.path
    assert copy.sys is not engine.sys and copy.modules["sys"] is copy.sys
    del copy.modules["api_one"]
    assert copy.import_module("api_one") is not one and engine.modules["api_one"] is one
    other = ladewerk.ImportEngine(path=[])
    assert other.from_engine(engine) is other and other.modules["api_one"] is one


def test_what_was_denied_is_denied_to_a_copy(engine):
    engine.import_module("api_one")
    engine.deny("api_one", "colorsys", importers=__name__)
    taken = ladewerk.ImportEngine(path=[])
    for copy in (ladewerk.ImportEngine.from_engine(engine), taken.from_engine(engine)):
        for name in ("api_one", "colorsys"):
            with pytest.raises(ladewerk.ImportDenied):
                copy.import_module(name)
        assert copy.import_module("sched") and "sched" not in engine.modules
    engine.deny("sched")
    assert copy.import_module("sched")


def test_from_the_processs_state():
    copy = ladewerk.ImportEngine.from_engine(ladewerk.sysengine)
    assert copy.modules["json" if "json" in sys.modules else "os"] is sys.modules["json" if "json" in sys.modules else "os"]
    assert copy.path == sys.path and copy.path is not sys.path and copy.modules["sys"] is copy.sys is not sys
    before = set(sys.modules)
    copy.modules.pop("colorsys", None)
    assert copy.import_module("colorsys").rgb_to_hls
    assert set(sys.modules) == before


def test_extend_path(engine, tree):
    package = engine.import_module("api_pkg")
    with pytest.raises(ModuleNotFoundError):
        engine.import_module("api_pkg.added")
    with pytest.raises(ModuleNotFoundError):
        engine.import_module("api_two")
    engine.extend_path([tree / "more"])
    engine.extend_path([tree / "more"])
    assert engine.import_module("api_pkg.added").name == "api_pkg.added" and engine.import_module("api_two")
    assert package.__path__ == [str(tree / "api_pkg"), str(tree / "more" / "api_pkg")] and engine.path.count(str(tree / "more")) == 1
    with pytest.raises(TypeError):
        engine.extend_path("more")


def test_import_lock(engine):
    other = ladewerk.ImportEngine()
    assert not engine.lock_held()
    engine.acquire_lock()
    engine.acquire_lock()
    seen = []
    thread = threading.Thread(target=lambda: seen.append((engine.lock_held(), other.lock_held(), engine.import_module("_imp").lock_held())))
    thread.start()
    thread.join(60)
    assert seen == [(True, False, True)]
    engine.release_lock()
    engine.release_lock()
    assert not engine.lock_held()
    with pytest.raises(RuntimeError):
        engine.release_lock()


def test_run(engine, tree):
    assert engine.run_path(tree / "script.py")["whose"] == ("<run_path>", engine.modules["api_one"])
    assert engine.run_module("script", run_name="named")["whose"] == ("named", engine.modules["api_one"])
    assert engine.run_module("api_pkg.sub", {"given": 1})["given"] == 1


def test_sysengine_writes_through():
    state, path = ladewerk.sysengine, sys.path
    assert state.path is sys.path and state.modules is sys.modules and state.meta_path is sys.meta_path
    try:
        state.path = [*path, "nowhere"]
        assert sys.path[-1] == "nowhere" and sys.path is state.path
    finally:
        sys.path = path
    assert state.import_module("json") is importlib.import_module("json") and state.__import__("json") is sys.modules["json"]
    state.invalidate_caches()
    state.acquire_lock()
    assert state.lock_held()
    state.release_lock()


def test_sys_inside(engine):
    inside = engine.import_module("sys")
    assert inside is engine.sys and type(inside) is types.ModuleType and inside.version == sys.version and inside.stdout is sys.stdout
    assert {*dir(sys)} <= {*dir(inside)} | {"lazy_modules"}
    inside.api_test = 1
    assert sys.api_test == 1
    sys.api_test = 2
    assert inside.api_test == 2
    del inside.api_test
    assert not hasattr(sys, "api_test") and not hasattr(inside, "api_test")


def test_close(engine):
    one = engine.import_module("api_one")
    gone = weakref.ref(engine.import_module("api_pkg"))
    engine.close()
    engine.close()
    gc.collect()
    assert gone() is None or IMMORTAL
    for use in (lambda: engine.import_module("api_one"), lambda: engine.modules, lambda: engine.path, lambda: engine.__enter__(), one.later,
                lambda: ladewerk.ImportEngine.from_engine(engine), lambda: engine.__import__("api_one"), lambda: engine.load_module("api_one")):
        with pytest.raises(ImportError, match="is closed"):
            use()
    assert "api" in repr(engine)


@freed
def test_dropped(engine, tree):
    """And the control: one that is kept by a function of its modules is not gone."""
    for kept in (False, True):
        other = ladewerk.ImportEngine(path=[str(tree), *sys.path])
        refs = weakref.ref(other), weakref.ref(other.import_module("api_pkg.sub"))
        function = other.import_module("api_one").later
        if not kept:
            del function
        del other
        gc.collect()
        assert [ref() is not None for ref in refs] == [kept, kept]
