# SPDX-License-Identifier: MIT
"""Modules of the standard library, each imported by a process that has imported nothing else: lazily they have what they have with stock Python."""
from __future__ import annotations

from harness import LONG
from interpreters import COUNT, NUMBER

# Not for us: what talks, draws, tests, or hands out the import system's functions.
APART = ("antigravity", "this", "idlelib", "turtle", "tkinter", "lib2to3", "test", "ensurepip", "importlib._bootstrap", "asyncio.windows", "multiprocessing.popen", "msilib")

# A child per module: what it binds, as text.
PROGRAM = """
import importlib.util, os, pkgutil, sys, types, warnings
warnings.simplefilter("ignore")

def names():
    for top in sorted(sys.stdlib_module_names):
        if top[0] != "_" and not top.startswith(APART):
            yield top
            if hasattr(spec := importlib.util.find_spec(top), "submodule_search_locations") and spec.submodule_search_locations:
                for item in pkgutil.iter_modules(spec.submodule_search_locations, top + "."):
                    if "__main__" not in item.name and "test" not in item.name and not item.name.startswith(APART):
                        yield item.name

def told(value):
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, (type, types.FunctionType)):
        return f"{type(value).__name__} {value.__module__}.{value.__qualname__}"
    return type(value).__name__

def space(name):
    try:
        module = importlib.import_module(name)
        return {key: told(getattr(module, key)) for key in list(vars(module)) if key not in ("__builtins__", "__cached__", "__loader__", "__spec__", "__warningregistry__")}
    except ImportError as error:
        return str(error)

for name in names():
    if CHOSEN(name):
        if not (pid := os.fork()):
            print((name, space(name)), flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, name
"""


def test_modules_have_what_they_have_with_stock_python(programs):
    each = 1 if LONG else 4
    chosen = f"CHOSEN = lambda name: (hash := __import__('zlib').crc32(name.encode())) % {COUNT} == {NUMBER - 1} and hash // {COUNT} % {each} == 0 or name in ('ctypes', 'ctypes._endian')\n"
    root, path = programs.write({}, f"APART = {APART}\n{chosen}{PROGRAM}")
    spaces = {}
    for mode in "stock", "all":
        ended = programs.start(mode, root, path)
        assert ended.status == 0, ended.err
        spaces[mode] = dict(map(eval, ended.out.splitlines()))
    assert spaces["all"].keys() == spaces["stock"].keys() and {"ctypes", "ctypes._endian"} < spaces["all"].keys()
    differ = {}
    for name, stock in spaces["stock"].items():
        lazy = spaces["all"][name]
        if isinstance(stock, dict) and isinstance(lazy, dict):
            # Its star takes of a package that is complete by then.
            lazy = {key: value for key, value in lazy.items() if key in stock or name != "ctypes._endian"}
            # Submodules that only imports by others have put there.
            stock = {key: value for key, value in stock.items() if key in lazy or value != f"module {name}.{key}"}
        if stock != lazy:
            differ[name] = set(stock.items()) ^ set(lazy.items()) if isinstance(stock, dict) and isinstance(lazy, dict) else (stock, lazy)
    assert not differ
