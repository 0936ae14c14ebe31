# SPDX-License-Identifier: MIT
"""C modules in engines: who has an object of its own, who shares one, and whose functions find which."""
from __future__ import annotations

import _frozen_importlib
import importlib.machinery
import os
import pathlib
import subprocess
import sys
import sysconfig
import threading
import time
import types
import weakref
from typing import Any

import pytest

import ladewerk
from collecting import IMMORTAL, collect

KINDS = ("declared", "silent", "once", "single", "sized", "refusing")
HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """kinds.c, compiled."""
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        pytest.skip("there are no headers where this interpreter says they are")
    file = tmp_path_factory.mktemp("kinds") / "kinds.so"
    subprocess.run([(sysconfig.get_config_var("CC") or "cc").split()[0], "-shared", "-fPIC", "-O0", "-I", sysconfig.get_path("include"), "-I", sysconfig.get_path("platinclude"),
                    str(HERE / "kinds.c"), "-o", str(file)], check=True)
    return file


@pytest.fixture
def tree(tmp_path: pathlib.Path, library: pathlib.Path) -> pathlib.Path:
    """A directory with modules that nobody has loaded, although the statics of the library are those of the process."""
    for kind in (*KINDS, "generated"):
        (tmp_path / f"{kind}{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(library.read_bytes())
    (tmp_path / "partner.py").write_text("import sys\nMODULES = sys.modules\ndef load(module, name): return module.load(name)\n")
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_leaks() -> Any:
    """The process's modules have none of these afterwards."""
    yield
    assert not {*KINDS, "generated", "partner", "holder"} & {*sys.modules}


def new_engine(tree: pathlib.Path, **more: Any) -> Any:
    return ladewerk.ImportEngine(path=[str(tree), *sys.path], **more)


def modules_of(tree: pathlib.Path, name: str, count: int = 2, **more: Any) -> tuple[list[Any], list[Any]]:
    engines = [new_engine(tree, **more) for _ in range(count)]
    return engines, [engine.import_module(name) for engine in engines]


def assert_freed(tree: pathlib.Path, name: str, **more: Any) -> None:
    """The module's object goes with the engine."""
    first, second = modules_of(tree, name, **more)[1]
    before = first.freed()
    ref = weakref.ref(second)
    del second
    collect()
    assert IMMORTAL or (ref() is None and first.freed() > before)


def test_a_module_that_declares_it_is_each_engines_own(tree):
    engines, (first, second) = modules_of(tree, "declared")
    assert (first is second) == (sys.version_info < (3, 12))
    assert all(engine.modules["declared"] is module for engine, module in zip(engines, [first, second]))
    if sys.version_info >= (3, 12):
        del engines, first, second
        assert_freed(tree, "declared")


def test_a_module_that_does_not_is_one_per_file(tree, tmp_path_factory, library):
    engines, (first, second) = modules_of(tree, "silent")
    assert first is second and first.partner is engines[0].modules["partner"]
    other = tmp_path_factory.mktemp("other")
    (other / f"silent{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(library.read_bytes())
    (other / "partner.py").write_text("VERSION = 2\n")
    third = new_engine(other).import_module("silent")
    assert third is not first and third.partner.VERSION == 2


def test_engines_load_a_file_one_after_the_other(tree):
    """Two threads in two engines; the one that comes second waits while the first executes the module, and gets its object."""
    executing, idents = [], []

    def partner_begins():
        executing.append(threading.get_ident())
        until = time.monotonic() + 60
        while len(executing) == 1 and not any(_frozen_importlib._blocking_on.get(ident) for ident in idents):
            assert time.monotonic() < until
            time.sleep(0.001)

    def load(engine):
        idents.append(threading.get_ident())
        engine.import_module("silent")
    (tree / "partner.py").write_text("import begins\nbegins.begins()\n")
    begins = types.ModuleType("begins")
    begins.begins = partner_begins
    engines = [new_engine(tree) for _ in range(2)]
    for engine in engines:
        engine.modules["begins"] = begins
    threads = [threading.Thread(target=load, args=[engine]) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first, second = (engine.modules["silent"] for engine in engines)
    assert first is second and len(executing) == 1


def test_own_objects_are_given_on_request(tree):
    engines, (first, second) = modules_of(tree, "silent", own=["silent"])
    assert first is not second
    assert [module.partner.MODULES for module in (first, second)] == [engine.modules for engine in engines]
    del engines, first, second
    assert_freed(tree, "silent", own=["silent"])


def test_the_processs_object_is_given_if_it_has_one(tree, monkeypatch):
    monkeypatch.syspath_prepend(str(tree))
    import silent  # type: ignore[import-not-found]
    try:
        assert modules_of(tree, "silent")[1] == [silent, silent]
        assert silent.partner is sys.modules["partner"]
        assert modules_of(tree, "silent", 1, own=["silent"])[1] != [silent]
    finally:
        del sys.modules["silent"], sys.modules["partner"]


def test_a_module_that_refuses_a_second_object_is_shared(tree):
    first, second = modules_of(tree, "once")[1]
    assert first is second
    engine = new_engine(tree, own=["once"])
    with pytest.raises(ImportError, match="once per process"):
        engine.import_module("once")
    assert "once" not in engine.modules


def test_an_init_function_that_refuses_to_be_called_again(tree):
    """All have the one module that there is."""
    engines, modules = modules_of(tree, "refusing", 3)
    assert modules == [modules[0]] * 3 and modules[0].find() is modules[0]
    assert all(engine.modules["refusing"] is modules[0] for engine in engines)
    with pytest.raises(ImportError, match="once per process"):
        new_engine(tree, own=["refusing"]).import_module("refusing")


@pytest.mark.parametrize("name", KINDS)
def test_the_engine_that_was_first_goes(tree, name):
    """With its Python modules, although C code of the process stays; and others can import it after that."""
    engine = new_engine(tree)
    module = engine.import_module(name)
    engine.import_module("fractions")
    kept = id(module)
    refs = [weakref.ref(engine.modules["fractions"]), weakref.ref(engine)]
    vars(module).pop("partner", None)  # of the engine: what C code has imported, it keeps
    del engine, module
    collect()
    assert IMMORTAL or not any(ref() for ref in refs)
    later = new_engine(tree)
    module = later.import_module(name)
    assert later.modules[name] is module and module.__name__ == module.__spec__.name == name
    if name in ("silent", "once", "refusing"):
        assert id(module) == kept
        assert type(module.__loader__) is importlib.machinery.ExtensionFileLoader and module.__spec__.loader is module.__loader__
        assert module.__file__ == module.__spec__.origin == str(tree / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}")


@pytest.mark.parametrize("name", ["single", "sized"])
def test_single_phase_modules_find_the_first(tree, name):
    """Each engine has a module object; the C code goes on with the one it had."""
    engines, modules = modules_of(tree, name, 3)
    assert len(set(map(id, modules))) == 3
    assert [module.find() for module in modules] == [modules[0]] * 3
    if name == "single":
        assert all(module.contents is modules[0].contents for module in modules)


@pytest.mark.parametrize("name", ["single", "sized"])
def test_control_without_repair_they_find_the_last(tree, name, monkeypatch):
    from ladewerk._engine import _makers

    class Broken:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(ladewerk._engines, attribute)  # type: ignore[attr-defined]

        def restore_state(self, known: object, state: object) -> bool:
            return False
    monkeypatch.setattr(_makers, "_engines", Broken())
    modules = modules_of(tree, name)[1]
    assert modules[0].find() is modules[1]


@pytest.mark.parametrize("name", ["single", "sized"])
def test_single_phase_modules_are_nobodys_own(tree, name):
    found = new_engine(tree).import_module(name)
    engine = new_engine(tree, own=[name])
    for _ in range(2):
        with pytest.raises(ImportError, match="one object only"):
            engine.import_module(name)
        assert name not in engine.modules
    assert found.find() is found


@pytest.mark.parametrize("name", ["declared", "silent", "single", "sized"])
def test_c_code_imports_for_whoever_calls_it(tree, name):
    """PyImport_ImportModule(), called by a function of an engine, also where the module object is shared."""
    for engine in (new_engine(tree), new_engine(tree)):
        module, partner = engine.import_module(name), engine.import_module("partner")
        assert partner.load(module, "partner") is partner
        assert partner.load(module, "colorsys") is engine.modules["colorsys"] is not sys.modules.get("colorsys")


HOLDER = """
import sys, generated
STATE = sys.modules
API = generated.make(STATE)
def whose(way):
    if way == "capsule":
        return generated.capsule("holder.API")
    return getattr(generated, way)("holder").STATE
"""
WAYS = ["statement", "from_statement", "PyImport_Import", "PyImport_ImportModule", "PyImport_GetModule", "PyImport_AddModule", "capsule"]


def test_what_cython_writes_imports_for_whoever_calls_it(tree):
    """One object for all, whose functions get what the calling function's state has: a module, or what a capsule in it leads to. What it enters itself is taken out again."""
    (tree / "holder.py").write_text(HOLDER)
    engines = [new_engine(tree) for _ in range(2)]
    holders = [engine.import_module("holder") for engine in engines]
    assert holders[0].generated is holders[1].generated is engines[1].modules["generated"] and "generated" not in sys.modules
    for way in WAYS:
        assert [holder.whose(way) is engine.modules for engine, holder in zip(engines, holders)] == [True, True], way
    generated = holders[0].generated
    for way in WAYS:  # from here, by `with`
        with engines[1]:
            found = getattr(generated, way)("holder.API" if way == "capsule" else "holder")
            assert (found if way == "capsule" else found.STATE) is engines[1].modules, way
    for way in ("statement", "PyImport_Import", "PyImport_ImportModule", "capsule"):  # and the control: from here, which has none
        with pytest.raises(ImportError):
            getattr(generated, way)("holder.API" if way == "capsule" else "holder")
    assert generated.PyImport_GetModule("holder") is None


def test_some_modules_cannot_be_an_engines_own():
    for name in ("threading", "_signal", "sys", "ladewerk._native"):
        with pytest.raises(ValueError, match="there is one in a process"):
            ladewerk.ImportEngine(own=[name])


def test_share_and_own_overrule_the_table(tree):
    assert ladewerk.ImportEngine(share=["json"]).import_module("json.decoder") is __import__("json.decoder").decoder
    assert ladewerk.ImportEngine(share=["json"], own=["json"]).import_module("json") is not __import__("json")
    assert ladewerk.ImportEngine(own=["zoneinfo"] if sys.version_info >= (3, 12) else ["concurrent"]).import_module("concurrent") is not None
    assert ladewerk.ImportEngine(own=["concurrent"]).import_module("concurrent.futures") is not __import__("concurrent.futures").futures


# --- C modules of the standard library that work with Python modules ---

def test_pickle_looks_into_the_engines_copyreg():
    engine = ladewerk.ImportEngine()
    pickle, copyreg = engine.import_module("pickle"), engine.import_module("copyreg")

    class Point:
        pass
    copyreg.pickle(Point, lambda point: (str, ("of the engine",)))
    import io
    file = io.BytesIO()
    pickle.dump(Point(), file)
    assert pickle.loads(pickle.dumps(Point())) == pickle.loads(file.getvalue()) == "of the engine"
    assert pickle.Pickler(io.BytesIO()).dispatch_table is copyreg.dispatch_table if sys.version_info < (3, 12) else True
    import pickle as processs
    with pytest.raises(Exception, match="local object|Can't"):
        processs.dumps(Point())


def test_pickles_name_the_engines_modules(tree):
    engine = new_engine(tree)
    (tree / "shapes.py").write_text("class Circle:\n    radius = 1\n")
    (tree / "copying.py").write_text("import pickle\ndef copy(thing): return pickle.loads(pickle.dumps(thing))\n")
    copying, shapes = engine.import_module("copying"), engine.import_module("shapes")
    copy = copying.copy(shapes.Circle())
    assert type(copy) is shapes.Circle and "shapes" not in sys.modules
    with engine:  # C functions, called by code of the process
        data = copying.pickle.dumps(shapes.Circle())
        assert type(copying.pickle.loads(data)) is shapes.Circle
    with pytest.raises(ModuleNotFoundError):
        copying.pickle.loads(data)


def test_numbers_and_sequences_of_c_are_known_to_the_engines_abstract_types():
    engine = ladewerk.ImportEngine()
    decimal, numbers, array = map(engine.import_module, ("decimal", "numbers", "array"))
    abc = engine.import_module("collections.abc")
    assert numbers is not __import__("numbers")
    assert isinstance(decimal.Decimal(1), numbers.Number) and isinstance(array.array("i"), abc.MutableSequence)
    assert isinstance(decimal.getcontext().flags, abc.MutableMapping)
    assert decimal.Decimal is __import__("decimal").Decimal


def test_registries_of_c_modules_are_the_engines():
    engine = ladewerk.ImportEngine()
    csv = engine.import_module("csv")

    class Semicolons(csv.excel):  # type: ignore[misc, name-defined]
        delimiter = ";"
    csv.register_dialect("semicolons", Semicolons)
    assert "semicolons" in csv.list_dialects() and "semicolons" not in __import__("csv").list_dialects()


def test_attributes_of_shared_modules_are_left_alone():
    import _socket
    import _struct
    import asyncio
    modules = [_socket, _struct, asyncio, asyncio.events]
    before = [dict(vars(module)) for module in modules]
    engine = ladewerk.ImportEngine()
    for module in modules:
        assert engine.import_module(module.__name__) is module
    assert [dict(vars(module)) for module in modules] == before


def test_types_of_posix_can_be_called():
    """The C code of os.stat_result() asks for module posix, which is the engine's own, and takes its state."""
    engine = ladewerk.ImportEngine()
    os_, pickle = engine.import_module("os"), engine.import_module("pickle")
    exec("def again(os, pickle):\n    found = os.stat('.')\n    return found, os.stat_result(tuple(found)), pickle.loads(pickle.dumps(found))",
         space := {"__builtins__": vars(engine.import_module("builtins"))})
    found, called, loaded = space["again"](os_, pickle)
    assert tuple(found) == tuple(called) == tuple(loaded) and type(found) is type(called) is type(loaded) is os_.stat_result
