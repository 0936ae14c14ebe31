# SPDX-License-Identifier: MIT
"""The routing table: which import state serves code, by how it came to run. Each row imports `probe` (or a module of its own), of which the process and the engine have a version each."""
from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import copy
import functools
import gc
import importlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
import types
import weakref

import pytest

import ladewerk
from ladewerk import _engines

HELPERS = '''
import sys


def statement():
    import probe
    return probe.WHOSE


def submodule():
    import probe_pkg.sub
    return probe_pkg.sub.WHOSE


def from_statement():
    from probe_pkg import sub
    return sub.WHOSE


def star():
    space = {}
    exec("from probe import *", space)
    return space["WHOSE"]


def by_builtin():
    return __import__("probe").WHOSE


def by_importlib():
    import importlib
    return importlib.import_module("probe").WHOSE


def by_pkgutil():
    import pkgutil
    return pkgutil.resolve_name("probe:WHOSE")


def by_runpy():
    import runpy
    return runpy.run_module("probe")["WHOSE"]


def by_resources():
    import importlib.resources
    return importlib.resources.files("probe_pkg").joinpath("whose.txt").read_text()


def by_find_spec():
    import importlib.util
    spec = importlib.util.find_spec("probe")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.again()


def by_pickle():
    import pickle
    return pickle.loads(b"cprobe\\nWHOSE\\n.")


def by_sys_modules():
    import probe
    return sys.modules["probe"].WHOSE


def by_inspect():
    import inspect, probe
    return inspect.getmodule(probe.again).WHOSE


def exec_plain():
    space = {}
    exec("import probe\\nWHOSE = probe.WHOSE", space)
    return space["WHOSE"]


def exec_own_builtins():
    space = {"__builtins__": {"__import__": __import__}}
    exec("import probe\\nWHOSE = probe.WHOSE", space)
    return space["WHOSE"]


def exec_own_builtins_module():
    import builtins
    space = {"__builtins__": builtins}
    exec("import probe\\nWHOSE = probe.WHOSE", space)
    return space["WHOSE"]


def eval_own_builtins():
    return eval("__import__('probe').WHOSE", {"__builtins__": {"__import__": __import__}})


def function_made_of_code():
    import types
    return types.FunctionType(statement.__code__, {})()


def in_class_body():
    class Body:
        import probe
        whose = probe.WHOSE
    return Body.whose


def in_lambda():
    return (lambda: __import__("probe").WHOSE)()


def in_comprehension():
    return [__import__(name).WHOSE for name in ["probe"]][0]


def in_thread():
    import threading
    result = []
    thread = threading.Thread(target=lambda: result.append(statement()))
    thread.start()
    thread.join()
    return result[0]


def in_pool():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(statement).result()


def in_task():
    import asyncio

    async def inner():
        await asyncio.sleep(0)
        return statement()

    async def outer():
        return await asyncio.create_task(inner())
    return asyncio.run(outer())


def generator():
    yield "begun"
    import probe
    yield probe.WHOSE


def in_generator():
    steps = generator()
    next(steps)
    return next(steps)


class Dying:
    seen = []

    def __del__(self):
        import probe
        self.seen.append(probe.WHOSE)


def in_del():
    Dying.seen.clear()
    Dying()
    return Dying.seen[0]


def in_context_run():
    import contextvars
    return contextvars.Context().run(statement)


def in_trace():
    seen = []

    def trace(frame, event, arg):
        sys.settrace(None)
        seen.append(statement())
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        (lambda: None)()
    finally:
        sys.settrace(before)
    return seen[0]


ROWS = [value for name, value in list(globals().items()) if type(value) is type(star) and value.__code__.co_argcount == 0 and name not in ("generator",)]
'''


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two trees with modules of the same names; the process imports from the one, the engine from the other."""
    base = tmp_path_factory.mktemp("routing")
    for whose in ("process", "engine"):
        top = base / whose
        (top / "probe_pkg").mkdir(parents=True)
        (top / "probe.py").write_text(f"WHOSE = {whose!r}\n\ndef again():\n    import probe\n    return probe.WHOSE\n")
        (top / "probe_pkg" / "__init__.py").write_text(f"WHOSE = {whose!r}\n")
        (top / "probe_pkg" / "sub.py").write_text(f"WHOSE = {whose!r}\n")
        (top / "probe_pkg" / "whose.txt").write_text(whose)
        (top / "routing_helpers.py").write_text(HELPERS)
    return base


@pytest.fixture
def process(trees, monkeypatch):
    """The process's version of the helpers, with nothing else of the tree imported."""
    monkeypatch.syspath_prepend(str(trees / "process"))
    yield importlib.import_module("routing_helpers")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("probe", "probe_pkg", "routing_helpers")]:
        del sys.modules[name]


@pytest.fixture
def engine(trees, process):
    return ladewerk.ImportEngine(path=[str(trees / "engine"), *sys.path], name="routed")


@pytest.fixture
def inside(engine):
    return engine.import_module("routing_helpers")


def leaked():
    return [name for name in sys.modules if name.partition(".")[0] in ("probe", "probe_pkg")]


_space: dict = {"__name__": "routing_helpers"}
exec(compile(HELPERS, "routing_helpers", "exec"), _space)
NAMES = [row.__name__ for row in _space["ROWS"]]


@pytest.mark.parametrize("name", NAMES)
def test_code_of_an_engine_stays_there(inside, process, name):
    """And the control: the same function of the process stays in the process."""
    assert getattr(inside, name)() == "engine"
    assert not leaked()
    assert getattr(process, name)() == "process"
    assert getattr(inside, name)() == "engine"


def run_in_thread(function):
    results: queue.Queue = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(function()))
    thread.start()
    thread.join(60)
    return results.get(timeout=60)


def by_signal(function):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(function()))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    return seen[0]


def by_weakref(function):
    class Gone:
        pass
    seen, gone = [], Gone()
    kept = weakref.ref(gone, lambda _: seen.append(function()))
    del gone
    gc.collect()
    assert kept() is None
    return seen[0]


def by_loop(function):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(None, function)
    return asyncio.run(main())


CALLERS = {
    "plainly": lambda function: function(),
    "partial": lambda function: functools.partial(function)(),
    "map": lambda function: next(map(lambda _: function(), [0])),
    "C code that sorts": lambda function: [function() for _ in sorted([0], key=lambda _: function())][0],
    "thread": run_in_thread,
    "pool": lambda function: concurrent.futures.ThreadPoolExecutor(1).submit(function).result(60),
    "context": lambda function: contextvars.Context().run(function),
    "signal": by_signal,
    "weakref": by_weakref,
    "event loop": by_loop,
}


@pytest.mark.parametrize("caller", CALLERS)
def test_whoever_calls(engine, inside, process, caller):
    """A function stays in the engine that it was defined in, also within another engine's `with`."""
    with ladewerk.ImportEngine(path=[]):
        assert CALLERS[caller](inside.statement) == "engine"
    assert CALLERS[caller](process.statement) == "process"


def test_with_sends_the_processs_code_to_the_engine(engine, process):
    """For as long as it lasts, in this thread, also by C code without a frame of its own; an engine's own code is not diverted."""
    with engine as entered:
        assert entered is engine
        assert process.statement() == process.by_importlib() == process.by_builtin() == "engine"
        assert process.from_statement() == process.submodule() == "engine"
        assert pickle.loads(b"cprobe\nWHOSE\n.") == "engine"
        assert eval("__import__('probe').WHOSE", {"__builtins__": {"__import__": __import__}}) == "engine"
        assert run_in_thread(process.statement) == "process"
        with ladewerk.sysengine:
            assert process.statement() == "process"
        assert process.statement() == "engine"
    assert process.statement() == "process"


def test_with_and_a_c_function_in_a_shared_pool(engine, process):
    """A C function has no builtins of an engine: the context that it runs in says where it belongs to."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(importlib.import_module, "probe").result(60).WHOSE == "process"
        with engine:
            context = contextvars.copy_context()
        assert pool.submit(context.run, __import__, "probe").result(60).WHOSE == "engine"
        assert pool.submit(__import__, "probe").result(60).WHOSE == "process"


def test_with_is_left_by_tasks_alone(engine, process):
    """Tasks that interleave: each has its own."""
    seen = []

    async def task(state, ready, go_on):
        with state:
            ready.set()
            await go_on.wait()
            seen.append(process.statement())

    async def main():
        events = [asyncio.Event() for _ in range(3)]
        tasks = [asyncio.create_task(task(engine, events[0], events[2])), asyncio.create_task(task(ladewerk.sysengine, events[1], events[2]))]
        await events[0].wait()
        await events[1].wait()
        seen.append(process.statement())
        events[2].set()
        await asyncio.gather(*tasks)
    asyncio.run(main())
    assert seen == ["process", "engine", "process"]


def test_with_is_left_in_order(engine):
    other = ladewerk.ImportEngine()
    engine.__enter__()
    with other:
        with pytest.raises(RuntimeError, match="entered last"):
            engine.__exit__(None, None, None)
    engine.__exit__(None, None, None)
    assert _engines.current() is None
    with pytest.raises(RuntimeError, match="entered last"):
        engine.__exit__(None, None, None)


def test_with_that_fails_is_left(engine, process):
    with pytest.raises(ModuleNotFoundError), engine:
        importlib.import_module("not_there_at_all")
    assert process.statement() == "process"


def test_assigned_to_builtins(engine, process, monkeypatch):
    import builtins
    monkeypatch.setattr(builtins, "__import__", engine.__import__)
    assert process.statement() == process.submodule() == process.from_statement() == "engine"
    assert not leaked()
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["statement", "submodule", "from_statement", "by_builtin", "by_importlib", "by_pickle"])
def test_an_engine_that_is_made_while_the_builtin_is_replaced(trees, process, monkeypatch, name):
    """By a function in Python, as tracers and lazy importers do: it belongs to the process, and the engine has nothing to do with it."""
    import builtins
    stock, seen = builtins.__import__, []

    def replaced(what, *args, **more):
        seen.append(what)
        return stock(what, *args, **more)
    monkeypatch.setattr(builtins, "__import__", replaced)
    inside = ladewerk.ImportEngine(path=[str(trees / "engine"), *sys.path]).import_module("routing_helpers")
    assert getattr(inside, name)() == "engine"
    assert not leaked()
    assert process.statement() == "process" and "probe" in seen
    monkeypatch.undo()


def test_engines_do_not_mix(trees, process):
    """Two engines of one path have a module each, and call into each other without mixing."""
    one, two = (ladewerk.ImportEngine(path=[str(trees / "engine"), *sys.path]) for _ in range(2))
    first, second = (engine.import_module("routing_helpers") for engine in (one, two))
    first.other = second.statement
    assert first.other() == "engine" and "probe" in two.modules and "probe" not in one.modules
    first.statement()
    assert one.modules["probe"] is not two.modules["probe"]


def test_the_interpreters_dictionary(engine, inside, process):
    """It is still a dict with all that it had; its methods answer for whoever asks, C code and Python code alike."""
    modules = sys.modules
    assert isinstance(modules, dict) and "sys" in modules and modules["sys"] is sys and modules.get("sys") is sys
    assert len(modules) == len(list(modules)) == len(modules.keys()) == len(dict(modules)) == len(modules.copy())
    assert modules.get("none such") is None and modules.get("none such", 3) == 3
    with pytest.raises(KeyError) as raised:
        modules["none such"]
    assert raised.value.args == ("none such",)
    with pytest.raises(KeyError) as raised:
        modules[("a", "b")]
    assert raised.value.args == (("a", "b"),)
    with pytest.raises(TypeError):
        modules.get()
    modules["routing test"] = 1
    assert modules.pop("routing test") == 1 and modules.pop("routing test", 2) == 2 and modules.setdefault("routing test", 3) == 3
    del modules["routing test"]
    assert (modules | {"x": 1})["x"] == 1 and "x" not in modules and ({"x": 1} | modules)["sys"] is sys
    modules |= {"routing test": 4}
    assert sys.modules is modules and modules["routing test"] == 4
    modules.update({"routing test": 5})
    assert dict(modules.items()).pop("routing test") == 5 and list(reversed(modules))[0] == "routing test"
    del modules["routing test"]
    assert modules == dict(modules) and repr(modules).startswith("{")
    with engine:
        assert dict(modules) == engine.modules and list(modules) == list(engine.modules) and len(modules) == len(engine.modules) and modules == engine.modules
        assert "routing_helpers" in modules and modules["routing_helpers"] is inside and repr(modules) == repr(engine.modules)
        modules["routing test"] = 6
        assert engine.modules.pop("routing test") == 6 and modules.pop("routing test", None) is None
        assert (modules | {})["routing_helpers"] is inside
    assert modules["routing_helpers"] is process


def test_an_exception_on_its_way_is_kept(inside):
    """Looking for the engine does not swallow what is being raised."""
    space = {"__builtins__": {"__import__": __import__, "ValueError": ValueError}}
    with pytest.raises(ValueError, match="kept"):
        exec("try:\n    raise ValueError('kept')\nfinally:\n    import sys", space)


class StrangeKey(str):
    def __eq__(self, other):
        raise ValueError("compared")

    def __hash__(self):
        return hash("__ladewerk_engine__")


@pytest.mark.parametrize("given", [types.MappingProxyType({}), {StrangeKey("x"): 1}], ids=["no dict", "a key that raises"])
def test_builtins_that_cannot_be_looked_into(engine, inside, process, given):
    """They belong to nobody: the caller decides. Nothing is raised for it."""
    got = "modules.get('routing_helpers')"
    by_given = functools.partial(eval, got, {"__builtins__": given, "modules": sys.modules})
    assert by_given() is process
    with engine:
        assert by_given() is inside
    inside.given, inside.modules = given, sys.modules
    exec(f"def by_given():\n    return eval({got!r}, {{'__builtins__': given, 'modules': modules}})", vars(inside))
    assert inside.by_given() is inside


def test_copies_of_the_interpreters_dictionary(engine, process):
    """Are plain dicts, for code that was written when it was one."""
    for made in (copy.copy(sys.modules), sys.modules.copy(), sys.modules | {}, {**sys.modules}):
        assert type(made) is dict and made == dict(sys.modules)
    assert sys.modules.fromkeys("ab", 1) == type(sys.modules).fromkeys("ab", 1) == {"a": 1, "b": 1}
    assert sys.modules.fromkeys(["a"]) == {"a": None}
    with engine:
        assert copy.copy(sys.modules) == engine.modules


ENDS = """
import atexit, gc, sys, threading
import ladewerk
engine = ladewerk.ImportEngine(path=[sys.argv[1], *sys.path])
helpers = engine.import_module("routing_helpers")
atexit.register(lambda: print("atexit", helpers.statement()))
class Kept:
    def __del__(self, statement=helpers.statement):
        print("end", statement())
helpers.kept = Kept()
engine.__enter__()
print(sys.modules["routing_helpers"] is helpers)
"""


def test_the_interpreter_ends_with_engines(trees):
    """Within `with` of one; what runs at exit still belongs to it."""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", ENDS, str(trees / "engine")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["True", "atexit engine"]), done
    assert "Traceback" not in done.stderr or "end" in done.stdout, done.stderr
