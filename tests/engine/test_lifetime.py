# SPDX-License-Identifier: MIT
"""An engine that nobody holds is freed, with all that it imported; while it lives, exits, forks and threads find it in order."""
from __future__ import annotations

import atexit
import gc
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import pytest

import ladewerk
from collecting import collect, freed

LONG = os.environ.get("LADEWERK_LONG") == "1"

PACKAGE = {
    "shop/__init__.py": "from shop.cart import Cart\nimport shop.cart\n",
    "shop/cart.py": """
        import dataclasses
        import enum
        import logging
        from shop import prices

        log = logging.getLogger(__name__)

        class Kind(enum.Enum):
            SMALL = 1

        @dataclasses.dataclass
        class Cart:
            kind: Kind = Kind.SMALL
            def total(self):
                from shop import prices
                return prices.of(self)
    """,
    "shop/prices.py": "import shop\ndef of(cart):\n    return cart.kind.value\n",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("tree")
    for name, text in PACKAGE.items():
        file = root / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return root


def new_engine(*first: pathlib.Path, **more: Any) -> Any:
    return ladewerk.ImportEngine(path=[*map(str, first), *sys.path], **more)


def execute(engine: Any, code: str) -> dict[str, Any]:
    """The namespace of CODE, executed as a module of ENGINE would be."""
    namespace = {"__builtins__": vars(engine.import_module("builtins")), "__name__": "probe"}
    exec(textwrap.dedent(code), namespace)
    return namespace


@freed
def test_dropped_engines_are_freed_with_all_they_imported(tree):
    """Engine, modules, functions, classes and instances of many engines; and what is counted does not grow."""
    alive: list[weakref.ref[Any]] = []

    def use_one() -> None:
        engine = new_engine(tree)
        shop = engine.import_module("shop")
        cart = shop.Cart()
        assert cart.total() == 1
        alive.extend(map(weakref.ref, [engine, shop, cart, shop.Cart, shop.cart.prices.of, engine.modules["logging"]]))

    def objects_after(count: int) -> int:
        for _ in range(count):
            use_one()
        collect()
        assert len(alive) == 6 * count and [ref() for ref in alive if ref() is not None] == []
        alive.clear()
        return len(gc.get_objects())
    many = 1000 if LONG else 30
    before = objects_after(5)
    assert objects_after(many) - before < many  # one object of each engine would be too much


# What is done inside an engine before it is dropped: each of it leads to a registry of the process, a table in a C module, or a thread.
USES = {
    "atexit": "import atexit; atexit.register(lambda: None)",
    "logging": "import logging; logging.getLogger('a.b').addHandler(logging.NullHandler())",
    "at_fork": "import os; os.register_at_fork(before=lambda: None, after_in_child=lambda: None)",
    "random": "import random, secrets, tempfile; random.random()",
    "finalize": "import weakref, collections\nclass C: pass\nc = C(); weakref.finalize(c, print); weakref.finalize(C, print)",
    "thread": "import threading\nt = threading.Thread(target=lambda: None); t.start(); t.join()",
    "executor": "import concurrent.futures\nwith concurrent.futures.ThreadPoolExecutor(1) as pool: pool.submit(lambda: 1).result()",
    "local": "import threading\nlocal = threading.local(); local.value = lambda: local",
    "asyncio": "import asyncio\nasync def main(): await asyncio.sleep(0)\nasyncio.run(main())",
    "abc": "import collections.abc, abc\nclass A(abc.ABC): pass\nA.register(dict); isinstance({}, A)\n@collections.abc.Mapping.register\nclass B: pass",
    "copyreg": "import copyreg, pickle, copy\nclass C: pass\ncopyreg.pickle(C, lambda c: (C, ())); copy.deepcopy(C())",
    "csv": "import csv\nclass D(csv.excel): pass\ncsv.register_dialect('mine', D)",
    "sqlite3": "import sqlite3\nclass C: pass\nsqlite3.register_adapter(C, str); sqlite3.register_converter('c', lambda b: C())",
    "re": "import re\nre.sub('(a)', r'\\\\1', 'a')",
    "strptime": "import datetime\ndatetime.datetime.strptime('2020', '%Y')",
    "json": "import json\ntry: json.loads('{')\nexcept ValueError as error: kept = error",
    "ctypes": "import ctypes, ctypes.util",
    "decimal": "import decimal, numbers\nassert isinstance(decimal.Decimal(1), numbers.Number)",
    "lru_cache": "import functools\n@functools.lru_cache\ndef f(x): return lambda: x\nf(1)",
    "singledispatch": "import functools\n@functools.singledispatch\ndef f(x): pass\n@f.register\ndef g(x: int): pass",
    "typing": "import typing\nT = typing.TypeVar('T')\nclass G(typing.Generic[T]): pass\nG[int]; typing.Optional[G]; typing.Protocol",
    "warnings": "import warnings\nwith warnings.catch_warnings(): warnings.simplefilter('ignore'); warnings.warn('w')",
    "elementtree": "import xml.etree.ElementTree as e\ne.fromstring('<a><b/></a>').find('b')",
    "generator": "def g():\n    yield\nit = g(); next(it)",
    "frame": "import sys\ntry: 1 / 0\nexcept ZeroDivisionError as error: kept = error; frame = sys._getframe()",
    "multiprocessing": "import multiprocessing.util, multiprocessing.pool",
    "mock": "import unittest.mock, inspect, ast, traceback\ntraceback.format_stack()",
    "pathlib": "import pathlib, importlib.metadata, importlib.resources, zoneinfo, socket, ssl, subprocess, http.client",
}


@freed
@pytest.mark.parametrize("use", USES)
def test_what_it_did_does_not_keep_it(use):
    engine = new_engine()
    execute(engine, USES[use])
    ref = weakref.ref(engine)
    del engine
    collect()
    assert ref() is None


@freed
def test_control_the_process_s_own_registry_keeps_it():
    """What would be without an engine's own atexit: the test above can fail."""
    engine = new_engine()
    function = execute(engine, "def function(): pass")["function"]
    ref = weakref.ref(engine)
    del engine
    atexit.register(function)
    del function
    collect()
    kept = ref() is not None
    if kept:
        atexit.unregister(_function_of(ref()))
    collect()
    assert kept and ref() is None


def _function_of(engine: Any) -> Any:
    """The function `function` that runs with the builtins of ENGINE."""
    builtins = vars(engine.import_module("builtins"))
    return next(found for found in gc.get_objects() if type(found) is type(collect) and found.__name__ == "function" and found.__builtins__ is builtins)


# --- exit functions ---

@freed
def test_exit_functions_run_once_in_reverse_when_the_engine_is_freed():
    done: list[object] = []
    engine = new_engine()
    inside = execute(engine, "import atexit")["atexit"]
    assert inside is not atexit and inside.register(done.append, 1) == done.append
    inside.register(done.append, 2)
    inside.register(done.append, 3)
    inside.unregister(done.clear)
    assert inside._ncallbacks() == 3 and done == []
    del engine, inside
    collect()
    assert done == [3, 2, 1]


def test_exit_functions_run_when_it_is_closed_whatever_one_raises(monkeypatch):
    done: list[object] = []
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_type))
    engine = new_engine()
    execute(engine, """
        import atexit
        def late():
            import json
            done.append(json)
        def run(done_):
            global done
            done = done_
            atexit.register(done.append, "first")
            atexit.register(lambda: 1 / 0)
            atexit.register(late)
    """)["run"](done)
    engine.close()
    assert len(done) == 2 and done[1] == "first" and done[0] is not sys.modules.get("json")
    assert reported == [ZeroDivisionError]
    engine.close()
    del engine
    collect()
    assert len(done) == 2


def test_an_exit_function_may_close_the_engine():
    done: list[str] = []
    engine = new_engine()
    register = engine.import_module("atexit").register
    register(lambda: done.append("first"))
    register(engine.close)
    engine.close()
    assert done == ["first"]
    with pytest.raises(ImportError, match="is closed"):
        engine.modules


def test_exit_functions_of_c_import_into_the_engine(tmp_path):
    """A C function has no frame: it runs as within `with engine:`."""
    (tmp_path / "last_words.py").write_text("DONE = True\n")
    engine = new_engine(tmp_path)
    execute(engine, "import atexit, pickle; atexit.register(pickle.loads, b'clast_words\\nDONE\\n.')")
    modules = engine.modules
    engine._supply.exits.run()
    assert modules["last_words"].DONE and "last_words" not in sys.modules


@freed
def test_an_unregistered_function_does_not_run():
    done: list[object] = []
    engine = new_engine()
    inside = engine.import_module("atexit")
    inside.register(done.append, 1)
    inside.unregister(done.append)
    del engine, inside
    collect()
    assert done == []


def test_what_is_registered_while_another_function_is_unregistered_runs():
    """And is not looked at. Comparing functions runs code, so other threads register theirs meanwhile: here the comparison itself does."""
    done: list[str] = []
    comparisons: list[object] = []
    engine = ladewerk.ImportEngine()
    inside = engine.import_module("atexit")

    class Compared:
        def __eq__(self, other: object) -> bool:
            comparisons.append(other)
            if len(comparisons) < 10:
                inside.register(done.append, "registered meanwhile")
            return other is self

        def __call__(self) -> None:
            done.append("unregistered")

    compared = inside.register(Compared())
    inside.unregister(compared)
    assert comparisons == [compared]
    engine.close()
    assert done == ["registered meanwhile"]


# --- forks ---

def in_child(function: Any) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.write(writer, function().encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return said


@freed
def test_fork_functions_of_live_engines_run_in_order(tree):
    done: list[str] = []
    engines = [new_engine(tree) for _ in range(2)]
    gone = new_engine()
    for number, engine in enumerate([*engines, gone]):
        inside = execute(engine, "import os")["os"]
        for letter in "ab":
            name = f"{number}{letter}"
            inside.register_at_fork(before=lambda name=name: done.append(f"before {name}"), after_in_child=lambda name=name: done.append(f"child {name}"),
                                    after_in_parent=lambda name=name: done.append(f"parent {name}"))
    del gone, engine, inside
    collect()
    before = ["before 1b", "before 1a", "before 0b", "before 0a"]
    assert in_child(lambda: " ".join(done)) == " ".join([*before, "child 0a", "child 0b", "child 1a", "child 1b"])
    assert done == [*before, "parent 0a", "parent 0b", "parent 1a", "parent 1b"]
    with pytest.raises(TypeError):
        execute(engines[0], "import os")["os"].register_at_fork()
    with pytest.raises(TypeError):
        execute(engines[0], "import os")["os"].register_at_fork(before=1)


def test_an_engine_works_in_a_forked_child(tree):
    engine = new_engine(tree)
    engine.import_module("logging")
    assert in_child(lambda: str(engine.import_module("shop").Cart().total()) + engine.import_module("fractions").__name__) == "1fractions"
    assert "fractions" not in engine.modules


# --- the interpreter's end ---

END = """
import os, sys, threading
import ladewerk
tree = sys.argv[1]
engines = [ladewerk.ImportEngine(path=[tree, *sys.path]) for _ in range(5)]
for number, engine in enumerate(engines):
    engine.import_module("shop").Cart().total()
    namespace = {"__builtins__": vars(engine.import_module("builtins")), "number": number}
    exec('''
import atexit, logging, threading, weakref
def last():
    import string
    print("exit", number, string.digits[number], flush=True)
atexit.register(last)
class Late:
    def __del__(self):
        pass
late = Late()
stop = threading.Event()
daemon = threading.Thread(target=stop.wait, daemon=True)
daemon.start()
''', namespace)
threading.Thread(target=lambda: engines[0].import_module("fractions")).start()
print("main ends", flush=True)
"""


def test_the_interpreter_ends_with_live_engines(tree):
    done = subprocess.run([sys.executable, "-I", "-X", "dev", "-c", END, str(tree)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == ["main ends", *(f"exit {number} {number}" for number in reversed(range(5))), ""]


# --- threads ---

@freed
def test_threads_make_use_and_drop_engines(tree):
    alive: list[weakref.ref[Any]] = []
    errors: list[BaseException] = []
    workers, rounds = (8, 10) if LONG else (4, 3)
    start = threading.Barrier(workers)

    def work() -> None:
        try:
            start.wait(60)
            for _ in range(rounds):
                engine = new_engine(tree)
                shop = engine.import_module("shop")
                assert shop.Cart().total() == 1 and engine.modules["shop"] is shop and shop.cart is engine.import_module("shop.cart")
                alive.append(weakref.ref(engine))
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    collect()
    assert len(alive) == workers * rounds and [ref() for ref in alive if ref() is not None] == []


def test_threads_share_an_engine(tree):
    """Eight threads import the same modules of one engine at once: one object each, made once."""
    engine = new_engine(tree)
    start = threading.Barrier(8)
    got: list[Any] = []

    def work() -> None:
        start.wait(60)
        got.append([engine.import_module(name) for name in ("shop", "shop.cart", "email.message", "json")])
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and all(row[i] is got[0][i] for row in got for i in range(4))


# --- subinterpreters ---

SUB = """
import ladewerk
engine = ladewerk.ImportEngine()
module = engine.import_module("string")
import string
assert module is not string
import logging
assert engine.import_module("logging") is not logging
"""

INTERPRETERS = """
import sys
import ladewerk
engine = ladewerk.ImportEngine()
engine.import_module("logging")
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
for _ in range(2):
    number = interpreters.create()
    failed = interpreters.run_string(number, sys.argv[1])
    assert failed is None, failed
    interpreters.destroy(number)
engine.import_module("fractions")
print("done")
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a GIL of their own came with 3.12")
def test_engines_in_subinterpreters():
    done = subprocess.run([sys.executable, "-I", "-c", INTERPRETERS, SUB], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
