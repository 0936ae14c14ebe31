# SPDX-License-Identifier: MIT
"""Rules: an engine whose class overrides allow() asks it before a module is handed out.

It is asked wherever an import passes: by C code for modules that are there (router.c), by the engine's importlib for those that are not, and by the engine's `sys.modules`, which is a
dict that leaves out what the code that looks may not have.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

# What imports on behalf of others, by the name of the module (its submodules are meant as well).
_HELPERS = frozenset({"importlib", "_frozen_importlib", "_frozen_importlib_external", "pkgutil", "runpy", "imp"})

_OURS = __name__.rpartition(".")[0]  # ladewerk._engine


def importer(engine: Any) -> str:
    """The name of the module whose code is running, beneath ours and what imports on behalf of others. Code that exec() runs in a dictionary belongs to whoever has called it."""
    frame: FrameType | None = sys._getframe(1)
    modules = engine.sys.modules
    inside = vars(engine.builtins)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.partition(".")[0] not in _HELPERS and name.rpartition(".")[0] != _OURS:
            if frame.f_builtins is not inside:
                if "__spec__" in frame.f_globals:
                    return name
            elif getattr(dict.get(modules, name), "__dict__", None) is frame.f_globals:
                return name
        frame = frame.f_back
    return ""


def guard(engine: Any) -> Callable[[str], None]:
    """What asks the rule of ENGINE: called with a name, it raises the ImportError."""
    def check(name: str) -> None:
        who = importer(engine)
        if not engine.allow(name, who):
            rule = f"{type(engine).__module__}.{type(engine).__qualname__}.allow"
            raise ImportError(f"{who or 'this code'} may not import {name}, says {rule}() of {engine!r}", name=name)
    return check


class Modules(dict[str, Any]):
    """`sys.modules` of an engine with a rule: reading is asked about. Code of the engine's importlib has been asked already."""

    _check: Callable[[str], None]
    _machinery: tuple[Any, ...]

    def _may(self, name: object) -> bool:
        if not isinstance(name, str) or any(sys._getframe(2).f_globals is space for space in self._machinery):
            return True
        try:
            self._check(name)
        except ImportError:
            return False
        return True

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if not any(sys._getframe(1).f_globals is space for space in self._machinery):
            self._check(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, default) if self._may(name) else default

    def setdefault(self, name: str, default: Any = None) -> Any:
        value = super().setdefault(name, default)
        if value is not default and not self._may(name):
            self._check(name)
        return value

    def pop(self, name: str, *default: Any) -> Any:
        if name in self and not self._may(name):
            self._check(name)
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        name = next(reversed(self), None)
        if name is not None and not self._may(name):
            self._check(name)
        return super().popitem()

    def copy(self) -> dict[str, Any]:
        return {name: value for name, value in super().items() if self._may(name)}

    def values(self) -> Any:
        return {name: value for name, value in super().items() if self._may(name)}.values()

    def items(self) -> Any:
        return {name: value for name, value in super().items() if self._may(name)}.items()

    def __or__(self, other: Any) -> Any:
        return {name: value for name, value in super().items() if self._may(name)} | other

    def __repr__(self) -> str:
        return repr(list(self))


def ruled_modules(engine: Any, given: dict[str, Any]) -> Modules:
    """GIVEN, for an engine that has its copy of importlib."""
    modules = Modules(given)
    modules._check = guard(engine)
    modules._machinery = (vars(engine._bootstrap), vars(engine._external))
    return modules
