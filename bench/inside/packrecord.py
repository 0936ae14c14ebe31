# SPDX-License-Identifier: MIT
"""Writes what packfinder.py reads: start() before a program's imports, write() after them; never part of a timed run.

The file: length of the table (8 bytes, little-endian), the table, the modules' code one after the other, all marshalled.
The table: name -> (file, cached, package directories, start, end), None for a name that was looked for and is not there;
start and end are None where there is no code: extension modules and namespace packages (which have no file either).
"""
import marshal
import sys
from _frozen_importlib_external import ExtensionFileLoader, PathFinder

found = {}


class Recorder:
    """Takes PathFinder's place and remembers what it says."""

    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        found[name] = (spec, spec and spec.submodule_search_locations and list(spec.submodule_search_locations))
        return spec


def start():
    sys.meta_path[sys.meta_path.index(PathFinder)] = Recorder


def write(file):
    sys.meta_path[sys.meta_path.index(Recorder)] = PathFinder
    table, codes = {}, bytearray()
    for name, (spec, package) in found.items():
        if spec is None:
            table[name] = None
        elif spec.loader is None or isinstance(spec.loader, ExtensionFileLoader):
            table[name] = (spec.origin, None, package, None, None)
        else:
            begin = len(codes)
            codes += marshal.dumps(spec.loader.get_code(name))
            table[name] = (spec.origin, spec.cached, package, begin, len(codes))
    head = marshal.dumps(table)
    with open(file, "wb") as stream:
        stream.write(len(head).to_bytes(8, "little") + head + codes)
