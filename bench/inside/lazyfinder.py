# SPDX-License-Identifier: MIT
"""The standard library's own laziness for every import: importlib.util.LazyLoader around each loader of a source file.

Extension modules are left alone: LazyLoader executes a module when an attribute is first looked at, which not all of them survive.
"""
import sys
from _frozen_importlib_external import PathFinder, SourceFileLoader
from importlib.util import LazyLoader


class LazyFinder:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = LazyLoader(spec.loader)
        return spec


def install():
    sys.meta_path[sys.meta_path.index(PathFinder)] = LazyFinder
