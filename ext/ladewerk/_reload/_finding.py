# SPDX-License-Identifier: MIT
"""Where a module is found now, as an import would find it."""
from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from ._sources import Record, own

_bootstrap: Any = sys.modules["importlib._bootstrap"]


def find_spec(name: str, path: Any) -> Any:
    """What an import would find now. Finders may have kept what was in the directories."""
    for finder in list(sys.meta_path):
        forget = getattr(finder, "invalidate_caches", None)
        if forget is not None and finder is not PathFinder:  # whose own would go through all directories there are
            forget()
    for entry in sys.path if path is None else path:
        forget = getattr(sys.path_importer_cache.get(entry), "invalidate_caches", None)
        if forget is not None:
            forget()
    spec = _bootstrap._find_spec(name, path)
    loader: Any = getattr(spec, "loader", None)
    if hasattr(type(loader), "ladewerk_inner"):  # an autoloader's: it has its say by Share
        spec.loader = loader.ladewerk_inner
    return spec


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
