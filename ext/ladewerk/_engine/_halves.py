# SPDX-License-Identifier: MIT
"""Modules of the process that an engine was given half made, in a circle: what becomes of them in the process becomes of them in the engine.

Within one state importlib itself takes a module away whose body fails, and enters what the body has put in its place. Here it would do so in the process alone, and the engine would keep
the half module for good. So the spec of such a module tells when its import is over: importlib and Ladewerk both say it by setting `_initializing`, when they have changed the process's
modules and still hold the module's lock.
"""

import weakref
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ladewerk import _engines
from ladewerk._engine._sharing import loaded_in_process

_HOLDERS = "_ladewerk_engines"  # in the dictionary of the spec: weak references to engines


def is_half(module: Any) -> bool:
    """Whether the body of MODULE is being executed."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def follow(engine: Any, module: ModuleType) -> None:
    """ENGINE has MODULE of the process among its modules, and has it as the process has it when its import is over. Without effect on one that is whole.

    Threads: the one that executes the body waits for this one, or is this one.
    """
    spec = module.__spec__ if is_half(module) else None
    if type(spec) is ModuleSpec:
        vars(spec)[_HOLDERS] = []
        spec.__class__ = _Told
    if type(spec) is _Told:
        vars(spec)[_HOLDERS].append(weakref.ref(engine))


class _Told(ModuleSpec):
    """The spec of such a module, until its import is over."""

    @property
    def _initializing(self) -> bool:
        return bool(vars(self)["_initializing"])

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        if not value:  # who sees that it is over must not find what was there before
            for holder in vars(self).pop(_HOLDERS, ()):
                _settle(holder(), self)
            self.__class__ = ModuleSpec  # type: ignore[assignment]
        vars(self)["_initializing"] = value


_Told.__name__, _Told.__qualname__ = ModuleSpec.__name__, ModuleSpec.__qualname__  # for repr()


def _settle(engine: Any, spec: ModuleSpec) -> None:
    """Whatever ENGINE, if it is still there, has by SPEC is what the process has by that name."""
    modules: Any = {} if engine is None else _engines.Engine.modules.__get__(engine)  # type: ignore[attr-defined]
    now, module = loaded_in_process(spec.name), modules.get(spec.name)
    if module is None or module is now or getattr(module, "__spec__", None) is not spec:
        return
    parent, _, child = spec.name.rpartition(".")
    names: dict[str, Any] = getattr(modules.get(parent), "__dict__", {})
    for held, key in ((modules, spec.name), (names, child)):
        if held.get(key) is not module:
            continue
        if now is None:
            held.pop(key, None)
        else:
            held[key] = now
