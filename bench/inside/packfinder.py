# SPDX-License-Identifier: MIT
"""The floor for Ladewerk's design: the code of exactly one program's modules in one mapped file, found by one look into a dict.

Nothing is validated, no listing is read, the collector is off, and unmarshalling is left to C, as Ladewerk leaves it. Who
keeps the import system's specs, locks and loaders, and executes the same module bodies, is not expected to get far below it.
packrecord.py writes the file.
"""
import gc
import marshal
import mmap
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader, PathFinder, SourceFileLoader


class PackLoader(SourceFileLoader):
    """A source file whose code is in the pack."""

    def exec_module(self, module):
        exec(marshal.loads(self.code), module.__dict__)


class PackFinder:
    find_distributions = PathFinder.find_distributions

    def __init__(self, table, codes):
        self.table = table
        self.codes = codes

    def find_spec(self, name, path=None, target=None):
        try:
            hit = self.table[name]
        except KeyError:  # never asked for while recording
            return PathFinder.find_spec(name, path, target)
        if hit is None:
            return None
        file, cached, package, start, end = hit
        if start is None:
            loader = file and ExtensionFileLoader(name, file)
        else:
            loader = PackLoader(name, file)
            loader.code = self.codes[start:end]
        spec = ModuleSpec(name, loader, origin=file)
        spec.submodule_search_locations = package
        if file is not None:
            spec.has_location = True
            spec.cached = cached
        return spec


def install(file):
    gc.disable()
    with open(file, "rb") as stream:
        pack = memoryview(mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ))
    codes = 8 + int.from_bytes(pack[:8], "little")
    # In PathFinder's place, not ahead of it: a name that is known to be absent is then found absent at once.
    sys.meta_path[sys.meta_path.index(PathFinder)] = PackFinder(marshal.loads(pack[8:codes]), pack[codes:])
