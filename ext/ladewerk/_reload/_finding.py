# SPDX-License-Identifier: MIT
"""Where a module is found now, as an import would find it."""
from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from ._sources import Record, own

_bootstrap: Any = sys.modules["importlib._bootstrap"]


class Finding:
    """Finds modules for one plan, or for the bodies of one transaction. One thread at a time.

    Finders may have kept what was in the directories, so they are told to forget it: once, since to forget it for each module would list a directory again for each
    of those that it has. What changes while a plan is made is a change for the next one.
    """

    def __init__(self) -> None:
        self._forgotten: set[Any] = set()  # entries of paths
        self._asked = False  # those of sys.meta_path have forgotten, too

    def find(self, name: str, path: Any) -> Any:
        """The spec that an import would find now; None: none."""
        self._forget(sys.path if path is None else path)
        spec = _bootstrap._find_spec(name, path)
        loader: Any = getattr(spec, "loader", None)
        if hasattr(type(loader), "ladewerk_inner"):  # an autoloader's: it has its say by Share
            spec.loader = loader.ladewerk_inner
        return spec

    def find_again(self, name: str, path: Any) -> Any:
        """The same; what is not found is looked for once more in what the directories have by now: a body may have written it."""
        found = self.find(name, path)
        if found is not None:
            return found
        self._forgotten.clear()
        self._asked = False
        return self.find(name, path)

    def _forget(self, path: Any) -> None:
        if not self._asked:
            self._asked = True
            for finder in list(sys.meta_path):
                forget = getattr(finder, "invalidate_caches", None)
                if forget is not None and finder is not PathFinder:  # whose own would go through all directories there are
                    forget()
        for entry in path:
            if isinstance(entry, str) and entry not in self._forgotten:  # imports pass over all else
                self._forgotten.add(entry)
                forget = getattr(sys.path_importer_cache.get(entry), "invalidate_caches", None)
                if forget is not None:
                    forget()


def by_itself(record: Record, path: Any) -> bool:
    """Whether its source is there, in a directory that an import does not look into: it has left sys.path, or somebody has loaded it from its file."""
    if not record.path or not os.path.isfile(record.path):
        return False
    directory = os.path.dirname(record.directory) if record.package == record.name else record.directory
    return all(os.path.abspath(os.fsdecode(each)) != directory for each in (sys.path if path is None else path) if isinstance(each, (str, bytes)))


def in_place(record: Record) -> ModuleSpec:
    """To execute it where it was found before."""
    old = own(sys.modules.get(record.name), "__spec__")
    spec = ModuleSpec(record.name, SourceFileLoader(record.name, record.path), origin=record.path, is_package=record.package == record.name)
    spec.has_location = True
    spec.cached = getattr(old, "cached", None)
    if record.package == record.name:
        spec.submodule_search_locations = list(getattr(old, "submodule_search_locations", None) or [])
    return spec
