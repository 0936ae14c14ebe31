# SPDX-License-Identifier: MIT
"""Threads that each block somewhere else: imports, locks, the GIL. Told what to do, and asked who they are, through standard input and output.

The program that test_layout.py looks at from outside. Thread numbers are printed as JSON, {name: number}.
"""
from __future__ import annotations

import _imp
import ctypes
import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import threading
import time
import types

numbers: dict[str, int] = {}
over = threading.Event()  # everybody goes home
late = threading.Event()  # the global lock is taken


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The module `searched` is found, and not made until the end: it is not in sys.modules meanwhile."""

    def find_spec(self, name: str, path: object, target: types.ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == "searched" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        over.wait()

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class Finders(list):  # type: ignore[type-arg]
    """The thread `later` comes to the first finder when the global lock is taken: importlib asks each of them under that lock, and gets the next one without."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        if threading.get_native_id() == numbers.get("later"):
            late.wait()
        return super().__iter__()


class Impostor:
    """Functions that have the names of importlib's."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()

    def acquire(self) -> None:
        self.lock.acquire()

    def __enter__(self) -> None:
        self.lock.acquire()

    def _find_and_load(self, name: str) -> None:
        self.acquire()


impostors = [Impostor(), Impostor()]


def attempt(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError:
        pass


def hold_global_lock() -> None:
    _imp.acquire_lock()
    late.set()
    over.wait()
    _imp.release_lock()


def spin() -> None:
    while not over.is_set():
        time.sleep(0)


def start(name: str, function: object, *arguments: object) -> None:
    def run() -> None:
        numbers[name] = threading.get_native_id()
        ready.set()
        function(*arguments)  # type: ignore[operator]

    ready = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    ready.wait()


def enter(impostor: Impostor) -> None:
    impostor.__enter__()


def main() -> None:
    sys.meta_path = Finders([Finder(), *sys.meta_path])
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    numbers["main"] = threading.get_native_id()
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(json.dumps({"runtime": runtime, "version": sys.version_info[0] << 8 | sys.version_info[1], "gil": gil}), flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "modules":
            start("holder", attempt, "slöw.inner")
            start("searcher", attempt, "searched")
            start("later", attempt, "late")
        elif word == "waiters":
            start("waiter", attempt, "slöw.inner")
            start("statement", exec, "import slöw.inner")
            start("second", attempt, "searched")
            start("sleeper", time.sleep, 1000)
            start("other", impostors[0]._find_and_load, "slow")
            start("context", enter, impostors[1])
        elif word == "global":
            start("keeper", hold_global_lock)
            start("newcomer", attempt, "new")
        elif word == "gil":
            start("spinner", spin)
            print(json.dumps(numbers), flush=True)
            # A foreign function that keeps the GIL, until there is something to read.
            byte = ctypes.create_string_buffer(1)
            ctypes.PyDLL(None).read(0, byte, 1)
            continue
        print(json.dumps(numbers), flush=True)
    over.set()
    for impostor in impostors:
        impostor.lock.release()


main()
