# SPDX-License-Identifier: MIT
"""ladewerk.registry(): paths, names, modules and what they import, as they are at one moment."""
import os
import sys
from importlib.machinery import SOURCE_SUFFIXES
from types import MappingProxyType
from typing import Any, Final, Iterator, Mapping, NamedTuple

from ladewerk._autoload import _hooks, _tree
from ladewerk._autoload._imports import _imports_of
from ladewerk._autoload._tree import HIDDEN, ROOT


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
        said = _imports_of(entry.path)
        package = entry.module if entry.directories else entry.module.rpartition(".")[0]
        found = set()
        tops = set()
        for level, module, names in said.imports:
            if level:
                above = package.rsplit(".", level - 1)[0] if level > 1 else package
                module = f"{above}.{module}" if module else above
            if names is None:
                tops.add(module.partition(".")[0])
            for full in [module] if names is None else [f"{module}.{name}" for name in names]:
                found.add(self._managed(full))
        for chain in said.chains:
            if chain.partition(".")[0] in tops:
                found.add(self._managed(chain))
        return frozenset(found - {None, entry.name})  # type: ignore[arg-type]

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
    modules = dict(sys.modules)
    entries: dict[str, Entry] = {}
    for table, node in nodes:
        module = modules.get(node.module)
        loaded = module is not None and not _hooks.initializing(module) and _hooks.is_from(table, node, module)
        directories = tuple(directory for directory, _ in node.dirs)
        entries.setdefault(node.name, Entry(node.name, node.module, node.path, directories, module if loaded else NotLoaded))
    return Registry(entries)
