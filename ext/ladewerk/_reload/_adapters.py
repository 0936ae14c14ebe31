# SPDX-License-Identifier: MIT
"""What frameworks keep of modules in registries of their own, seen by a reload.

    adapters()     those of the frameworks that are in use: a new one for each plan
    dependants()   (planning) whom the framework has led from one module to another without an import
    begin()        readers are out until the end; nothing has been executed: keep what there is, forget what modules that are executed again had registered
    first()        what is to be executed before all others
    started()      that has been
    executed()     everything has been: the framework is made to use the new modules. Last chance to fail
    changes()      for _live.swap()
    end(made)      the step was made; or not: everything of the framework's is as it was at begin()

Errors of begin(), started() and executed() undo the reload; the others do not fail. All of them run in the thread that reloads; end() may be called more than once, also if begin() was not,
and by the child of a fork.
"""
from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._sources import Sources
    from ._transaction import Transaction


def module(name: str) -> Any:
    """A framework's. (Not by an import statement: Ladewerk is typed, and frameworks may be or not, and be there or not.)"""
    return importlib.import_module(name)


class Adapter:
    """Does nothing."""

    name = ""  # of the framework, for errors

    def dependants(self, sources: Sources, changed: Iterable[str]) -> set[str]:
        return set()

    def begin(self, transaction: Transaction) -> None: ...

    def first(self) -> list[str]:
        return []

    def started(self) -> None: ...

    def executed(self) -> None: ...

    def changes(self) -> list[Any]:
        return []

    def end(self, made: bool) -> None: ...


def adapters() -> list[Adapter]:
    found: list[Adapter] = []
    if "django.apps" in sys.modules:
        from . import _django
        if _django.in_use():
            found.append(_django.Django())
    return found
