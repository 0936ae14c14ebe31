# SPDX-License-Identifier: MIT
"""Pickles name modules: the name is looked up where the code that calls pickle belongs, or, within `with engine:`, in that engine."""
from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys

import ladewerk
import pytest

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
THINGS = """
import copyreg
import enum
import io
import pickle


class Thing:
    class Inner:
        pass

    def __init__(self, word=None):
        self.word = word

    def method(self):
        return self.word


class Reduced:
    def __reduce__(self):
        return make, ("made",)


class Registered:
    pass


class Kind(enum.Enum):
    ONE = 1


def make(word):
    return Thing(word)


copyreg.pickle(Registered, lambda thing: (make, ("registered",)))
ALL = [Thing("word"), Thing.Inner(), Thing, make, Kind.ONE, Reduced(), Registered(), Thing("bound").method]


def dumps(thing, protocol):
    return pickle.dumps(thing, protocol)


def slow_dumps(thing, protocol):
    return pickle._dumps(thing, protocol)  # in Python


class InClass:
    dump, dumps, load, loads = pickle.dump, pickle.dumps, pickle.load, pickle.loads

    def there_and_back(self, thing):
        file = io.BytesIO()
        self.dump(thing, file, 4)
        file.seek(0)
        return self.loads(self.dumps(self.load(file), 4))


def pickled_by_table(how):
    # what becomes of a Thing by a pickler with a table of its own: of the class, of the object, or given to it later by the class, as multiprocessing's
    table = {Thing: lambda thing: (make, (how,))}
    class OfClass(pickle.Pickler):
        dispatch_table = table
    class Later(pickle.Pickler):
        def __init__(self, *args):
            super().__init__(*args)
            self.dispatch_table = table
    file = io.BytesIO()
    pickler = {"class": OfClass, "later": Later, "object": pickle.Pickler}[how](file)
    if how == "object":
        pickler.dispatch_table = table
    pickler.dump(Thing("unknown"))
    return pickle.loads(file.getvalue()).word


def loads(data):
    return pickle.loads(data)


def slow_loads(data):
    return pickle._loads(data)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    base = tmp_path_factory.mktemp("pickled")
    (base / "pickled_things.py").write_text(THINGS)
    return base


@pytest.fixture(scope="module")
def engines(source):
    """Two engines, each with its own module of one name."""
    return [ladewerk.ImportEngine(path=[str(source), *sys.path]) for _ in range(2)]


@pytest.fixture(scope="module")
def modules(engines):
    return [engine.import_module("pickled_things") for engine in engines]


def belongs(thing, module):
    """THING, or its class, is what MODULE has defined."""
    thing = getattr(thing, "__self__", thing)
    thing = thing if isinstance(thing, type) or callable(thing) else type(thing)
    found = module
    for name in thing.__qualname__.split("."):
        found = getattr(found, name)
    return found is thing


@pytest.mark.parametrize("kind", ["", "slow_"])
def test_inside_an_engine(modules, kind):
    """Called by code of an engine: there and back."""
    for module in modules:
        for protocol in PROTOCOLS:
            for thing in module.ALL:
                if protocol < 2 and getattr(thing, "__self__", None) is not None:
                    continue  # bound methods need getattr() by its own name; as outside
                data = getattr(module, kind + "dumps")(thing, protocol)
                assert belongs(getattr(module, kind + "loads")(data), module), (thing, protocol)


def test_tables_of_picklers(modules):
    """What a pickler is told goes ahead of copyreg's table."""
    for how in ("class", "later", "object"):
        assert modules[0].pickled_by_table(how) == how


def test_functions_of_pickle_in_a_class(modules):
    """They are no methods there, as outside."""
    assert belongs(modules[0].InClass().there_and_back(modules[0].Thing("word")), modules[0])


@pytest.mark.parametrize("kind", ["", "slow_"])
def test_from_one_engine_to_another(modules, kind):
    """What one has pickled is in the other an object of the other's class."""
    first, second = modules
    for thing in first.ALL:
        data = getattr(first, kind + "dumps")(thing, pickle.HIGHEST_PROTOCOL)
        found = getattr(second, kind + "loads")(data)
        assert belongs(found, second) and not belongs(found, first), thing


def test_outside_with_the_engine(engines, modules):
    """The process's own pickle, within `with engine:`."""
    for engine, module in zip(engines, modules):
        for dumps, loads in ((pickle.dumps, pickle.loads), (pickle._dumps, pickle._loads)):
            with engine:
                data = dumps(module.Thing("word"))
                found = loads(data)
            assert belongs(found, module) and found.word == "word"


def test_control_outside_without_the_engine(modules):
    """Control: without `with engine:` nobody finds the module."""
    for dumps, loads in ((pickle.dumps, pickle.loads), (pickle._dumps, pickle._loads)):
        with pytest.raises((pickle.PicklingError, ImportError)):
            dumps(modules[0].Thing())
        with pytest.raises(ModuleNotFoundError):
            loads(modules[0].dumps(modules[0].Thing(), 4))
    assert "pickled_things" not in sys.modules


def test_a_class_of_the_same_name_outside(source, modules, monkeypatch):
    """An object of an engine's class is not pickled as one of the process's class of the same name; one that was pickled becomes one, outside."""
    monkeypatch.syspath_prepend(str(source))
    own = importlib.import_module("pickled_things")
    try:
        with pytest.raises(pickle.PicklingError, match="not the same object"):
            pickle.dumps(modules[0].Thing())
        assert belongs(pickle.loads(modules[0].dumps(modules[0].Thing("word"), 4)), own)
        assert belongs(modules[0].loads(pickle.dumps(own.Thing("word"))), modules[0])
    finally:
        del sys.modules["pickled_things"]


def test_copies_need_no_name(modules):
    """copy asks the object's class, wherever it is called."""
    thing = modules[0].Thing([1])
    for found in (copy.copy(thing), copy.deepcopy(thing)):
        assert belongs(found, modules[0]) and found.word == [1]


POOL = """
import sys
import ladewerk

if __name__ == "__main__":
    engine = ladewerk.ImportEngine(path=[sys.path[0], *sys.path], own=sys.argv[1:])
    print(engine.import_module("pool_of_processes").answer("spawn"))
"""
POOL_MODULE = """
import concurrent.futures
import multiprocessing


def double(number):
    return 2 * number


def answer(method):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(double, 4).result()
"""


@pytest.mark.parametrize("own, expected", [(["concurrent"], (0, "8")), ([], (1, ""))])  # the second is the control: multiprocessing is the engine's, concurrent is shared
def test_pools_of_processes_that_are_started_anew(tmp_path, own, expected):
    """With a `concurrent` of the engine's own they take its functions."""
    (tmp_path / "main.py").write_text(POOL)
    (tmp_path / "pool_of_processes.py").write_text(POOL_MODULE)
    child = subprocess.run([sys.executable, str(tmp_path / "main.py"), *own], capture_output=True, text=True, timeout=120)
    assert (child.returncode, child.stdout.strip()) == expected, child.stderr
