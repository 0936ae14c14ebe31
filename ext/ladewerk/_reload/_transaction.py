# SPDX-License-Identifier: MIT
"""One reload, policy *replace* (*in place* rests on it: _inplace.py): new module objects, executed aside, put in the place of the old ones in one step."""
from __future__ import annotations

import builtins
import gc
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ladewerk import _live
from ._adapters import Adapter
from ._bindings import by_other_names, rebound, retired
from ._errors import failure
from ._execution import Execution
from ._plan import Plan
from ._sources import Sources, own

_bootstrap: Any = sys.modules["importlib._bootstrap"]
_MISSING: Any = object()
active: Transaction | None = None


class Transaction(Execution):
    """``begin()``, ``execute()``, then ``changes()`` for _live.swap(), and ``end()`` in any case; after the step ``commit()``."""

    def __init__(self, sources: Sources, plan: Plan) -> None:
        super().__init__(sources, plan)
        self._states: dict[str, Any] = {}
        self._collecting = False
        self.made: dict[str, bool] = {}  # empty until the step, which fills it
        self.replaced: tuple[str, ...] = ()  # in place: what did not keep its identity

    # --- begin, end ---

    def begin(self) -> None:
        global active
        self._before_hooks()
        active = self  # from here on there is something to end
        self._collecting = gc.isenabled()
        gc.disable()
        self._import_detour = _live.Detour(builtins.__import__)
        self._gcd_detour = _live.Detour(_bootstrap._gcd_import, True)
        for name, module in self.old.items():
            if name not in self.gone:
                self._aside.stand_in(module, name, self._class(module))
            self._show_child(name)
        self._aside.begin()
        builtins.__import__ = self._import_detour
        _bootstrap._gcd_import = self._gcd_detour

    def end(self) -> None:
        """All is to this thread what it is to others. May be called again, and by the child of another thread's fork."""
        global active
        if active is not self:
            return
        if self._import_detour is not None and builtins.__import__ is self._import_detour:
            builtins.__import__ = self._import_detour.original
        if self._gcd_detour is not None and _bootstrap._gcd_import is self._gcd_detour:
            _bootstrap._gcd_import = self._gcd_detour.original
        self._aside.end()
        made = bool(self.made)
        if not made:
            self._take_back()
        for adapter in reversed(self.plan.adapters):
            try:
                adapter.end(made)
            except Exception:  # the others' turn must come, and this must end
                sys.excepthook(*sys.exc_info())
        active = None
        if self._collecting:
            gc.enable()

    def _before_hooks(self) -> None:
        for name in self.plan.steps:
            hook = self.dicts.get(name, {}).get("__ladewerk_before_reload__")
            if hook is None:
                continue
            try:
                self._states[name] = hook()
            except Exception as error:
                raise failure(name, self._path(name), error, (name,)) from error

    def forget(self, name: str) -> None:
        """For adapters: module NAME, loaded and not executed again, is removed in the step, as if its source were gone."""
        self.plan.steps.pop(name, None)
        self.plan.removed[name] = None
        self.old[name] = sys.modules[name]
        self._goes(name)

    # --- executing ---

    def execute(self) -> None:
        """ReloadError: a body failed, or an adapter."""
        records, plan = self.sources.records, self.plan
        for adapter in plan.adapters:
            self._adapt(adapter, adapter.begin, self)
            self._execute_all(name for name in adapter.first() if name in plan.steps)
            self._adapt(adapter, adapter.started)
        # Their order is that in which imports were over. Whoever was over last had the others imported: so circles are entered where they were at first.
        self._execute_all(sorted(plan.steps, key=lambda each: records[each].order, reverse=True))
        self._after_hooks()
        for adapter in plan.adapters:
            self._adapt(adapter, adapter.executed)
        self._settle()

    def _adapt(self, adapter: Adapter, call: Callable[..., None], *args: Any) -> None:
        try:
            call(*args)
        except (Exception, SystemExit) as error:
            if self._failed is None:
                name, path = self._deepest(error) or (adapter.name, None)
                self._failed = failure(name, path, error, (name,))
            raise self._failed from self._failed.__cause__

    def _after_hooks(self) -> None:
        for name in self.plan.steps:
            hook = own(self.new.get(name), "__ladewerk_after_reload__")
            if hook is None:
                continue
            try:
                hook(self._states.get(name))
            except Exception as error:
                raise failure(name, self._path(name), error, (name,)) from error

    def _settle(self) -> None:
        """Where new modules have bound old ones (importlib.import_module() in foreign code, sys.modules[...]), they get the new."""
        replacements = {id(self.old[name]): self.new[name] for name in self.new if name in self.old}
        made = [vars(module) for module in map(self.new.__getitem__, self.order) if isinstance(module, ModuleType)]
        for names, key, other in _live.bound(made, replacements):
            names[key] = other

    # --- the step ---

    def final(self, name: str) -> Any:
        """What module NAME is after the step."""
        return self.new[name]

    def names(self) -> set[str]:
        """Of the modules that are replaced or removed."""
        return {*self.new, *self.gone} & self.old.keys()

    def changes(self) -> list[Any]:
        modules = sys.modules
        changes: list[Any] = [(self.made, "made", True)]
        for name in self.new:
            changes.append((modules, name, self.final(name)))
        for name in self.gone:
            changes.append((modules, name))
        for name in (*self.new, *self.gone):
            parent, _, child = name.rpartition(".")
            package = modules.get(parent) if parent and parent not in self.new and parent not in self.gone else None
            if not isinstance(package, ModuleType):
                continue
            names = object.__getattribute__(package, "__dict__")
            there = names.get(child, _MISSING)
            if name in self.gone:
                if there is self.old.get(name):
                    changes.append((names, child))
            elif there is _MISSING or there is self.old.get(name):
                changes.append((names, child, self.final(name)))
        for name in (*self.new, *self.gone):
            changes += by_other_names(self, name)
        changes += [*rebound(self), *self._retired()]
        for adapter in self.plan.adapters:
            changes += adapter.changes()
        return changes

    def _retired(self) -> list[Any]:
        """What old modules keep."""
        return retired(self)

    def commit(self) -> None:
        """After the step: what is known of the sources."""
        for name in self.order:
            step = self.plan.steps.get(name) or self.added.get(name)
            if step is not None and name in self.new:
                self.sources.executed(name, self.final(name), step.spec.origin if step.code is not None else "", step.source, step.code, step.imports, step.package)
        for name in self.plan.removed:
            self.sources.removed(name)
