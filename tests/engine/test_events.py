# SPDX-License-Identifier: MIT
"""What `ladewerk.on_import()` hears of: of imports that stock Python makes, of those of the fast path, and of those of an engine."""

import builtins
import gc
import importlib
import importlib._bootstrap
import sys
import threading
import weakref
from types import SimpleNamespace

import pytest

import ladewerk
from collecting import freed

SOURCES = {
    "ev_pkg/__init__.py": "from . import sub\nfrom . import sub\n",
    "ev_pkg/sub.py": "VALUE = 1\n",
    "ev_pkg/late.py": "",
    "ev_broken.py": "import ev_pkg\n1 / 0\n",
    "ev_missing.py": "import ev_nowhere\n",
    "ev_plain.py": "import ev_pkg.sub\ndef again():\n    import ev_pkg.sub\n    from . import nothing\n",
    "ev_names/one.py": "",
    "ev_call.py": "import importlib\ndef late(name):\n    return importlib.import_module(name)\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, source in SOURCES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield str(tmp_path)
    for name in [name for name in sys.modules if name.startswith("ev_")]:
        del sys.modules[name]


@pytest.fixture(params=["stock", "fast", "installed while somebody listens", "engine"])
def state(request, tree):
    """The state whose imports are told of: how to import there, and how to listen."""
    active = ladewerk.stats()["active"]
    if request.param == "engine":
        engine = ladewerk.ImportEngine(path=[tree, *sys.path])
        yield SimpleNamespace(import_module=engine.import_module, modules=engine.modules, fast=False, on_import=lambda *a, **k: ladewerk.on_import(*a, engine=engine, **k))
        engine.close()
        return
    if request.param == "stock":
        ladewerk.uninstall()
    elif request.param == "fast" and not ladewerk.install():
        pytest.skip(ladewerk.stats()["reason"])

    def listen(*args, **kwargs):
        if request.param.startswith("installed"):
            ladewerk.uninstall()
        listening = ladewerk.on_import(*args, **kwargs)
        if request.param.startswith("installed") and not ladewerk.install():
            pytest.skip(ladewerk.stats()["reason"])
        return listening

    yield SimpleNamespace(import_module=importlib.import_module, modules=sys.modules, fast=request.param != "stock", on_import=listen)
    (ladewerk.install if active else ladewerk.uninstall)()


class Heard(list):
    """A callback that keeps the events about the modules of these tests."""

    def __call__(self, event):
        if event.importee.startswith("ev_"):
            self.append(event)

    def brief(self, *kinds):
        return [(event.kind, event.importee, event.importer) for event in self if not kinds or event.kind in kinds]


def test_a_package_and_its_module(state):
    heard = Heard()
    with state.on_import(heard):
        package = state.import_module("ev_pkg")
    me = __name__
    assert heard.brief() == [
        ("found", "ev_pkg", me), ("loading", "ev_pkg", me),
        ("found", "ev_pkg.sub", "ev_pkg"), ("loading", "ev_pkg.sub", "ev_pkg"), ("loaded", "ev_pkg.sub", "ev_pkg"),
        ("reused", "ev_pkg", "ev_pkg"), ("reused", "ev_pkg", "ev_pkg"),
        ("loaded", "ev_pkg", me),
    ]
    last = heard[-1]
    assert last.spec is package.__spec__ and last.thread == threading.get_ident() and last.error is None
    inner = next(event for event in heard if event.kind == "loaded")
    assert 0 < inner.duration < last.duration
    assert all(event.duration is None for event in heard if event.kind not in ("loaded", "failed"))


def test_failures(state):
    heard = Heard()
    with state.on_import(heard, kinds=["failed", "found"]):
        with pytest.raises(ZeroDivisionError) as broken:
            state.import_module("ev_broken")
        with pytest.raises(ModuleNotFoundError) as missing:
            state.import_module("ev_missing")
    failed = [event for event in heard if event.kind == "failed"]
    assert [(event.importee, event.importer) for event in failed] == [("ev_broken", __name__), ("ev_nowhere", "ev_missing"), ("ev_missing", __name__)]
    assert failed[0].error is broken.value and failed[0].spec.name == "ev_broken" and failed[0].duration > 0
    assert failed[1].error is missing.value is failed[2].error and failed[1].spec is None
    assert {event.kind for event in heard} == {"failed", "found"}


def test_statements_and_calls_for_what_is_there(state):
    plain, call = state.import_module("ev_plain"), state.import_module("ev_call")
    heard = Heard()
    with state.on_import(heard, kinds=["reused"]):
        with pytest.raises(ImportError):
            plain.again()
        assert call.late("ev_pkg.sub") is state.modules["ev_pkg.sub"]
    assert heard.brief() == [("reused", "ev_pkg.sub", "ev_plain"), ("reused", "ev_pkg.sub", "ev_call")]
    assert heard[0].spec is state.modules["ev_pkg.sub"].__spec__


def test_namespace_packages_and_foreign_finders(state, tree):
    heard = Heard()
    with state.on_import(heard, kinds=["loaded"]):
        state.import_module("ev_names.one")
    assert heard.brief() == [("loaded", "ev_names", __name__), ("loaded", "ev_names.one", __name__)]


def test_a_listener_that_raises_or_imports(state, monkeypatch):
    reported, order = [], []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def imports(event):
        order.append(event.importee)
        state.import_module("ev_pkg.late")

    def raises(event):
        raise KeyError(event.importee)

    heard = Heard()
    with state.on_import(imports, kinds=["loaded"]), state.on_import(raises, kinds=["loaded"]), state.on_import(heard, kinds=["loaded"]):
        state.import_module("ev_pkg")
    assert "ev_pkg" in order and "ev_pkg.late" not in order
    assert [problem.exc_type for problem in reported] == [KeyError] * len(order) and reported[0].object is raises
    assert ("loaded", "ev_pkg", __name__) in heard.brief()


def test_each_thread_is_told_of_its_own(state):
    heard = Heard()
    with state.on_import(heard, kinds=["loaded"]):
        thread = threading.Thread(target=lambda: state.import_module("ev_pkg"))
        thread.start()
        thread.join()
    assert {event.thread for event in heard} == {thread.ident}


def test_nobody_listens_any_more(state):
    heard = Heard()
    before = (importlib._bootstrap._load_unlocked, builtins.__import__)
    first, second = state.on_import(heard), state.on_import(heard, kinds=["loaded"])
    first.close()
    first.close()
    state.import_module("ev_pkg.sub")
    assert {event.kind for event in heard} == {"loaded"}
    second.close()
    heard.clear()
    state.import_module("ev_plain")
    assert heard == []
    assert (importlib._bootstrap._load_unlocked, builtins.__import__) == before


def test_the_fast_path_goes_on_while_somebody_listens(state):
    if not state.fast:
        pytest.skip("the fast path is not in use here")
    before = ladewerk.stats()
    with state.on_import(Heard()):
        state.import_module("ev_plain")
        after = ladewerk.stats()
    assert after["aside"]["patched"] == before["aside"]["patched"]
    assert sum(after["served"].values()) - sum(before["served"].values()) >= 3


def test_somebody_elses_wrapper_stays(state, monkeypatch):
    """What was put over ours is not thrown away, and ours within it tells nobody any more, or those who come later once."""
    heard = Heard()
    listening = ladewerk.on_import(heard, kinds=["reused"])
    inner = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda *args, **kwargs: inner(*args, **kwargs))
    outer = builtins.__import__
    listening.close()
    assert builtins.__import__ is outer
    import sys as again
    assert again is sys
    monkeypatch.undo()
    assert builtins.__import__ is inner
    ladewerk.on_import(heard, kinds=["reused"]).close()
    assert builtins.__import__ is not inner


def test_what_is_not_an_event(state):
    with pytest.raises(ValueError, match="no events ended"):
        ladewerk.on_import(print, kinds=["ended"])
    with pytest.raises(TypeError, match="callable"):
        ladewerk.on_import(None)


def test_an_engine_and_the_process_hear_of_their_own(tree):
    here, there = Heard(), Heard()
    engine = ladewerk.ImportEngine(path=[tree, *sys.path])
    with ladewerk.on_import(here), ladewerk.on_import(there, engine=engine):
        engine.import_module("ev_plain")
        assert here == [] and ("loaded", "ev_plain", __name__) in there.brief()
        there.clear()
        importlib.import_module("ev_plain")
        assert there == [] and ("loaded", "ev_plain", __name__) in here.brief()
        here.clear()
        with engine:
            import ev_pkg
        assert here == [] and ev_pkg is engine.modules["ev_pkg"]
    engine.close()


def test_what_a_rule_refuses_has_failed(tree):
    """Once, however it is asked for, and whether it is there or not; looking into sys.modules is no import."""
    heard = Heard()
    with ladewerk.on_import(heard, kinds=["failed"], engine=(engine := ladewerk.ImportEngine(path=[tree, *sys.path]))):
        call = engine.import_module("ev_call")
        engine.deny("ev_pkg.sub", "ev_plain", importers=["ev_call"])
        for there in (False, True):
            for name in ("ev_pkg.sub", "ev_plain"):
                if there:
                    engine.import_module(name)
                heard.clear()
                with pytest.raises(ladewerk.ImportDenied) as denied:
                    call.late(name)
                assert heard.brief() == [("failed", name, "ev_call")] and heard[0].error is denied.value and heard[0].spec is None
        heard.clear()
        with pytest.raises(ladewerk.ImportDenied):
            exec("import ev_plain", vars(call))
        assert heard.brief() == [("failed", "ev_plain", "ev_call")]
        assert call.__builtins__["__import__"] is __import__ and "ev_plain" in engine.modules
        assert len(heard) == 1
    engine.close()


class Telling(ladewerk.ImportEngine):
    """Told by the hook of its class; it finds and loads in a way of its own."""

    def __init__(self, **settings):
        self.heard = Heard()
        super().__init__(**settings)

    def on_import(self, event):
        self.heard(event)

    def find_spec(self, name, path, target=None):
        return super().find_spec(name, path, target)

    def load(self, spec):
        return super().load(spec)


def test_the_hook_of_a_class(tree):
    engine = Telling(path=[tree, *sys.path])
    engine.import_module("ev_pkg.late")
    assert engine.heard.brief("found", "loaded", "failed") == [
        ("found", "ev_pkg", __name__), ("found", "ev_pkg.sub", "ev_pkg"), ("loaded", "ev_pkg.sub", "ev_pkg"), ("loaded", "ev_pkg", __name__),
        ("found", "ev_pkg.late", __name__), ("loaded", "ev_pkg.late", __name__)]
    with pytest.raises(ImportError):
        engine.import_module("ev_missing")
    assert engine.heard.brief("failed") == [("failed", "ev_nowhere", "ev_missing"), ("failed", "ev_missing", __name__)]
    engine.close()


@freed
def test_an_engine_that_somebody_listens_to_is_freed(tree):
    engine = Telling(path=[tree, *sys.path])
    engine.deny("ev_broken", importers="ev_plain")
    engine.import_module("ev_pkg")
    listening = ladewerk.on_import(print, engine=engine, kinds=["failed"])
    gone = [weakref.ref(engine), weakref.ref(engine.modules["ev_pkg"])]
    del engine
    for _ in range(4):
        gc.collect()
    if sys.version_info < (3, 13) or sys._is_gil_enabled():
        assert [ref() for ref in gone] == [None, None]
    listening.close()
