# SPDX-License-Identifier: MIT
"""ladewerk.registry(): paths, names, modules and what they import, as they are at one moment."""
import os
import sys
from importlib.machinery import SOURCE_SUFFIXES
from types import MappingProxyType
from typing import Any, Final, Iterator, Mapping, NamedTuple

from ladewerk import _live
from ladewerk._autoload import _hooks, _tree
from ladewerk._imports import absolute
from ladewerk._autoload._tree import HIDDEN, ROOT
from ladewerk._outside import outside


class _NotLoaded:
    """In the place of a module that is not loaded."""

    def __repr__(self) -> str:
        return "NotLoaded"

    def __bool__(self) -> bool:
        return False


NotLoaded: Final = _NotLoaded()


class Entry(NamedTuple):
    """NAME as it is expected, the MODULE's own name, where it is (a namespace package: its directories), and the module object or NotLoaded."""

    name: str
    module: str
    path: str
    directories: tuple[str, ...]
    object: Any


class _Said(NamedTuple):
    """What a source says: imports as (level, name, names or None), and the dotted names by which it reaches something through what it imports."""

    imports: tuple[tuple[int, str, tuple[str, ...] | None], ...] = ()
    dotted: frozenset[str] = frozenset()


_known: dict[str, tuple[tuple[int, int, int], _Said]] = {}  # by path; with mtime, size, inode


def _said_by(path: str) -> _Said:
    """By the source at PATH; nothing if it cannot be read or compiled."""
    try:
        stat = os.stat(path)
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
        known = _known.get(path)
        if known and known[0] == stamp:
            return known[1]
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: it is too deep for the parser
        return _Said()
    statements = _live.statements(code)
    tops = {name.partition(".")[0] for _, name, fromlist, _, _ in statements if fromlist is None}
    said = _Said(tuple((level, name, fromlist) for level, name, fromlist, _, _ in statements), frozenset(_live.dotted(code, tops)))
    _known[path] = stamp, said
    return said


class Registry:
    """What the autoloaders that are set up manage. It never changes: ask for another one."""

    NotLoaded = NotLoaded

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = MappingProxyType(dict(entries))
        self._by_path = {place: entry.name for entry in entries.values() for place in (entry.path, *entry.directories)}
        self._by_module = {entry.module: entry.name for entry in entries.values()}
        self._imports: dict[str, frozenset[str]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def name_of(self, path: str | os.PathLike[str]) -> str | None:
        """The name of the file or directory at PATH."""
        return self._by_path.get(os.path.abspath(path))

    def path_of(self, name: str) -> str:
        """The file of NAME; for a namespace package its (first) directory. KeyError if there is none."""
        return self._entries[name].path

    def module(self, name: str) -> Any:
        """The module object of NAME (in the convention `class` that in which the class is), or NotLoaded. KeyError if there is none."""
        return self._entries[name].object

    def imports(self, name: str) -> frozenset[str]:
        """The names that the source of NAME imports, or reaches through a package it imports. KeyError if there is none."""
        entry = self._entries[name]
        if name not in self._imports:
            self._imports[name] = self._ask(entry)
        return self._imports[name]

    def importers(self, name: str) -> frozenset[str]:
        """The names whose sources import NAME."""
        self._entries[name]
        return frozenset(other for other in self._entries if name in self.imports(other))

    def _ask(self, entry: Entry) -> frozenset[str]:
        if not entry.path.endswith(tuple(SOURCE_SUFFIXES)):
            return frozenset()
        said = _said_by(entry.path)
        package = entry.module if entry.directories else entry.module.rpartition(".")[0]
        named = set(said.dotted)
        for level, name, fromlist in said.imports:
            module = absolute(level, name, package)
            if module is not None:
                named.update([module] if fromlist is None else [f"{module}.{each}" for each in fromlist])
        return frozenset(found for found in map(self._managed, named) if found is not None) - {entry.name}

    def _managed(self, dotted: str) -> str | None:
        """The longest beginning that is a name."""
        while dotted:
            if dotted in self._entries:
                return dotted
            if dotted in self._by_module:
                return self._by_module[dotted]
            dotted = dotted.rpartition(".")[0]
        return None


def registry() -> Registry:
    """What all autoloaders that are set up manage, as it is now."""
    tables = _tree.tables()
    nodes = [(table, node) for table in tables for node in table.walk() if node.kind not in (ROOT, HIDDEN)]
    with outside():
        modules = dict(sys.modules)
    entries: dict[str, Entry] = {}
    for table, node in nodes:
        module = modules.get(node.module)
        loaded = module is not None and not _hooks.initializing(module) and _hooks.is_from(table, node, module)
        directories = tuple(directory for directory, _ in node.dirs)
        entries.setdefault(node.name, Entry(node.name, node.module, node.path, directories, module if loaded else NotLoaded))
    return Registry(entries)
