# SPDX-License-Identifier: MIT
"""Which modules of an engine are the process's own objects, and why.

Of a Python module an engine has its own copy, unless its name is in PROCESS: what the interpreter itself holds, or there is one of per process or thread. A C module of the
standard library is shared unless its name is in OWN: objects of its own would give an engine types of its own for plain data (a Decimal, a deque, a compiled
pattern of the host would not be one inside), and it has nothing to isolate. In OWN is what keeps objects of Python modules: registries and the like.
A C module from elsewhere is the engine's own if it declares that it may be loaded more than once, else the process has one object per file.
"""

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from os.path import dirname, join
from types import ModuleType

import _frozen_importlib
from _frozen_importlib import _DeadlockError  # type: ignore[attr-defined]

from ladewerk import _engines, _outside
from ladewerk._outside import outside

_outside.context = _engines.context

# Name (its submodules are meant as well) and reason.
PROCESS: dict[str, str] = {
    "zipimport": "its importer is a path hook of the interpreter",
    "_distutils_hack": "an importer of the environment",
    "_strptime": "the C code of datetime keeps the first one",
    "abc": "a class cannot have base classes with two kinds of ABCMeta",
    "ast": "adds attributes to the parser's types, of which there is one set",
    "asyncio": "the running loop and the task belong to the thread",
    "concurrent": "asyncio asks for its Future",
    "ctypes": "adds attributes to types of C and keeps a table of pointer types there",
    "encodings": "a registry of the interpreter",
    "ladewerk": "Ladewerk itself",
    "ladewerk_start": "Ladewerk itself",
    "multiprocessing.dummy": "keeps a table at the current thread",
    "readline": "there is one terminal",
    "rlcompleter": "there is one terminal",
    "site": "running it again would run all .pth files again",
    "_sitebuiltins": "the interpreter's exit() and help()",
    "sitecustomize": "runs once, at the start",
    "usercustomize": "runs once, at the start",
    "threading": "the interpreter joins the threads of one copy",
    "warnings": "its filters are the interpreter's",
    "zoneinfo": "time zones are plain data",
}
if sys.version_info < (3, 13):
    PROCESS["xml.etree"] = "its C module keeps its state in one place (3.11), or what a second object refers to for ever (3.12)"

# C modules of the standard library that an engine has objects of its own of.
OWN: dict[str, str] = {
    "_csv": "keeps dialects, which csv registers",
    "_sqlite3": "keeps adapters and converters, which sqlite3 registers",
}
if sys.version_info >= (3, 12):
    OWN["_pickle"] = "keeps the tables of copyreg"
if sys.version_info >= (3, 13):
    OWN["_elementtree"] = "keeps factories, which xml.etree.ElementTree registers"
if sys.version_info >= (3, 14):
    OWN["_zstd"] = "keeps types that compression.zstd registers"

# What must be there first: outside, the interpreter has imported it at its start.
FIRST: dict[str, str] = {"genericpath": "os"}


def covers(names: Iterable[str], name: str) -> bool:
    """Whether NAME or a package it is in is among NAMES (a set or dict)."""
    while name not in names:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return False
    return True


def of_process(name: str) -> ModuleType:
    """Module NAME of the process, imported there if need be. Errors are those of the import. In a circle of threads that wait for each other it is not initialised, as an import statement
    has it there.
    """
    with outside():
        there = sys.modules.get(name)
        try:
            return import_module(name)
        except _DeadlockError:
            if there is None or sys.modules.get(name) is not there:  # it was another module's circle
                raise
            return there


def wait_in_process(name: str) -> None:
    """Until the process has initialised module NAME, which is there; in a circle, not."""
    with outside():
        _frozen_importlib._lock_unlock_module(name)  # type: ignore[attr-defined]


def loaded_in_process(name: str) -> ModuleType | None:
    """Module NAME of the process if it is there."""
    with outside():
        return sys.modules.get(name)


_extensions: dict[str, str] = {}


def extensions() -> dict[str, str]:
    """The standard library's extension modules: name and file. Where there is no such directory, all of them are built in."""
    if not _extensions:
        directory = join(dirname(os.__file__), "lib-dynload")
        try:
            files = os.listdir(directory)
        except OSError:
            files = []
        for file in files:
            for suffix in EXTENSION_SUFFIXES:
                if file.endswith(suffix):
                    _extensions.setdefault(file.removesuffix(suffix), join(directory, file))
                    break
    return _extensions


# What an engine cannot have copies of: they would take signal handlers, threads, open files or the collector away from the process.
NEVER_OWN = {
    "__main__", "_io", "_signal", "_thread", "_tracemalloc", "_warnings", "_weakref", "atexit", "builtins", "encodings", "faulthandler", "gc", "ladewerk", "marshal", "posix", "sys",
    "threading", "zipimport",
}
if sys.version_info < (3, 12):
    NEVER_OWN.add("_zoneinfo")  # made from a definition, but with static variables


class Sharing:
    """The rules of one engine. SHARE and OWN are names, submodules included, that overrule what is above; OWN overrules SHARE. ValueError: OWN names what is in NEVER_OWN."""

    def __init__(self, share: Iterable[str] = (), own: Iterable[str] = ()) -> None:
        self.share = frozenset(share)
        self.own = frozenset(own)
        for name in sorted(self.own):
            if covers(NEVER_OWN, name):
                raise ValueError(f"{name} cannot be an engine's own: there is one in a process")

    def asked(self, name: str) -> bool:
        """Whether an own copy was asked for."""
        return covers(self.own, name)

    def shares(self, name: str) -> bool:
        """Whether NAME is the process's, whatever a search along the engine's path would find."""
        if self.asked(name):
            return False
        return covers(self.share, name) or covers(PROCESS, name) or (name in sys.builtin_module_names and name not in OWN)

    def shares_found(self, spec: ModuleSpec) -> bool:
        """Whether what a search has found is an extension module of the standard library that is shared."""
        return spec.name not in OWN and not self.asked(spec.name) and spec.origin is not None and extensions().get(spec.name) == spec.origin
