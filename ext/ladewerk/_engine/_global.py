# SPDX-License-Identifier: MIT
"""The engine that stands for the process's own import state."""

import _frozen_importlib
import _imp
import sys
from functools import wraps
from typing import Any

from ladewerk._engine._classes import Surface
from ladewerk._outside import outside


def _name(name: str) -> Any:
    def get(self: Surface) -> Any:
        return getattr(sys, name)

    def put(self: Surface, value: Any) -> None:
        setattr(sys, name, value)
    return property(get, put, doc=f"sys.{name}.")


def _of_process(name: str) -> Any:
    """A method of Surface, for the process within `with engine:` as well."""
    method = getattr(Surface, name)

    @wraps(method)
    def call(self: Surface, *args: Any, **kwargs: Any) -> Any:
        with outside():
            return method(self, *args, **kwargs)
    return call


class GlobalImportEngine(Surface):
    """The process's own import state: what is assigned here is assigned to `sys`.

    Methods mean the process within `with engine:`, too; `modules` is `sys.modules`, which goes by who looks.
    """

    name = "sys"
    modules = _name("modules")
    path = _name("path")
    meta_path = _name("meta_path")
    path_hooks = _name("path_hooks")
    path_importer_cache = _name("path_importer_cache")

    __import__ = _of_process("__import__")
    import_module, load_module, reload = map(_of_process, ("import_module", "load_module", "reload"))
    extend_path, run_path, run_module = map(_of_process, ("extend_path", "run_path", "run_module"))

    _bootstrap: Any = _frozen_importlib  # no import statements in methods: our __import__ may be what they call
    _imp: Any = _imp

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}>"


GlobalImportEngine.__module__ = "ladewerk"
sysengine = GlobalImportEngine()
