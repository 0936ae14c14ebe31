# SPDX-License-Identifier: MIT
"""Module bodies are executed aside.

While they run, sys.modules has the old modules, and other threads see nothing of what goes on. The thread that reloads gets new modules from import statements and
importlib (Detour), and reads and writes new ones where it comes by an old one (StandIn): see ext/live/aside.c.
"""
from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType, TracebackType, new_class
from typing import Any

from ladewerk import _live
from ._errors import ReloadError, failure
from ._finding import Finding
from ._plan import Plan, Step, static_chain, step_for
from ._sources import Sources, _kind, is_lazy, own

_bootstrap: Any = sys.modules["importlib._bootstrap"]
_MISSING: Any = object()


def _class_for(own_class: Any) -> type | None:
    """What a module whose class is not ModuleType has for a class meanwhile: to other threads like its own. None: there can be none."""
    def get(self: Any, name: str) -> Any:
        found = _live.instead(self, name)
        return own_class.__getattribute__(self, name) if found is None else found[0]

    def put(self: Any, name: str, value: Any) -> None:
        if not _live.set_instead(self, name, value):
            own_class.__setattr__(self, name, value)

    def remove(self: Any, name: str) -> None:
        if not _live.set_instead(self, name):
            own_class.__delattr__(self, name)

    body = {"__slots__": (), "__eq__": object.__eq__, "__hash__": object.__hash__, "__getattribute__": get, "__setattr__": put, "__delattr__": remove,
            "__module__": own_class.__module__, "__qualname__": own_class.__qualname__}
    try:
        return new_class(own_class.__name__, (own_class,), exec_body=lambda names: names.update(body))
    except Exception:
        return None


class Execution:
    """What one thread sees of the modules of a plan, and their bodies, executed when it asks for them. Between its owner's ``begin()`` and ``end()``."""

    def __init__(self, sources: Sources, plan: Plan) -> None:
        self.sources, self.plan, self.share = sources, plan, sources.share
        self.new: dict[str, Any] = {}
        self.order: list[str] = []
        self.added: dict[str, Step] = {}  # loaded for the first time, below the roots
        found = ((name, sys.modules.get(name)) for name in (*plan.steps, *plan.removed))
        self.old: dict[str, Any] = {name: module for name, module in found if module is not None}
        self.dicts = {name: vars(module) for name, module in self.old.items() if isinstance(module, ModuleType)}
        self._stack: list[str] = []
        self._finding = Finding()
        self._placed: list[str] = []  # in sys.modules already: they were not there before
        self.gone: set[str] = set()
        self._names_gone: dict[int, list[str]] = {}  # by the id of what is removed (and kept in self.old)
        for name in plan.removed:
            self._goes(name)
        self._failed: ReloadError | None = None
        self._concerned: set[str] = set()  # names of what is replaced, removed, or loaded for the first time
        for name in (*plan.steps, *plan.removed):
            self._concern(name)
        self._aside = _live.Aside(self._shown, self._import, self._gcd_import, self._concerned)
        self._import_detour: _live.Detour | None = None
        self._gcd_detour: _live.Detour | None = None
        self._classes: dict[int, type | None] = {}  # of modules with a class of their own

    def _goes(self, name: str) -> None:
        """What self.old has by NAME is removed."""
        self.gone.add(name)
        if name in self.old:
            self._names_gone.setdefault(id(self.old[name]), []).append(name)

    # --- what this thread sees ---

    def _class(self, module: Any) -> type | None:
        if type(module) is ModuleType or not isinstance(module, ModuleType) or type(module) is self._aside.StandIn or is_lazy(module):
            return None
        if id(module) not in self._classes:
            self._classes[id(module)] = _class_for(type(module))
        return self._classes[id(module)]

    def _show_child(self, name: str) -> None:
        """To this thread the parent, if it stays, has the new module, or none."""
        parent, _, child = name.rpartition(".")
        package = sys.modules.get(parent) if parent and parent not in self.plan.steps and parent not in self.gone else None
        if isinstance(package, ModuleType) and object.__getattribute__(package, "__dict__").get(child, self.old.get(name)) is self.old.get(name):
            self._aside.replace_child(package, child, name, self._class(package))
        for parent, child, defined in self.share.bindings(name):
            package = sys.modules.get(parent) if parent not in self.plan.steps and parent not in self.gone else None
            if isinstance(package, ModuleType):
                self._aside.replace_child(package, child, f"{name}:{defined}", self._class(package))

    def _concern(self, name: str) -> None:
        self._concerned.update((name, *self.share.others(name), *self.sources.aliases.get(name, ())))

    def _shown(self, name: str) -> Any:
        """What this thread has instead: a module, or what one defines (``module:name``)."""
        name, _, defined = name.partition(":")
        if name in self.gone:
            parent, _, child = name.rpartition(".")
            raise AttributeError(f"module {parent!r} has no attribute {defined or child!r}", name=defined or child, obj=sys.modules.get(parent))
        module = self.get(name)
        if not defined:
            return module
        value = own(module, defined, _MISSING)
        if value is _MISSING:
            raise ImportError(f"{defined} is not there yet: {name} is being imported (most likely a circular use)", name=name, path=self._path(name))
        return value

    def _path(self, name: str) -> str | None:
        step = self.plan.steps.get(name) or self.added.get(name)
        return step.spec.origin if step is not None else None

    # --- what import gives ---

    def get(self, name: str) -> Any:
        """Module NAME as this reload has it; executed if it must be."""
        name = self.share.canonical(name)
        module = self.new.get(name, _MISSING)
        if module is not _MISSING:
            return module
        if name in self.gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in self.plan.steps:
            return self._load(name, self.plan.steps[name])
        module = sys.modules.get(name, _MISSING)
        if module is not _MISSING and module is not None and not self._is_of_gone(name, module):
            return module
        return self._first_import(name)

    def _is_of_gone(self, name: str, module: Any) -> bool:
        """Whether MODULE is removed, and NAME is another name that it had (Share)."""
        return any(name in self.share.others(each) for each in self._names_gone.get(id(module), ()))

    def _first_import(self, name: str) -> Any:
        parent = name.rpartition(".")[0]
        path = None
        if parent:
            package = self.get(parent)
            if name in self.new:
                return self.new[name]
            path = getattr(package, "__path__", None)
            if path is None:
                raise ModuleNotFoundError(f"No module named {name!r}; {parent!r} is not a package", name=name)
        if sys.modules.get(name, _MISSING) is None:
            return self._original_gcd(name)
        spec = self._finding.find_again(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        origin = spec.origin if _kind(spec) == "source" else next(iter(spec.submodule_search_locations or ()), None) if _kind(spec) == "namespace" else None
        if origin is None or not self.sources.below_roots(origin):
            return self._original_gcd(name)
        step = step_for(name, spec)
        self.added[name] = step
        return self._load(name, step)

    def _original_gcd(self, name: str) -> Any:
        assert self._gcd_detour is not None
        return self._gcd_detour.original(name)

    def _concerns(self, name: str) -> bool:
        """Whether importing NAME may give something else than sys.modules has."""
        if sys.modules.get(name) is None:
            return True
        while name:
            if self.share.canonical(name) in self._concerned:
                return True
            name = name.rpartition(".")[0]
        return False

    def _import(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        """builtins.__import__ for this thread."""
        assert self._import_detour is not None
        try:
            full = _bootstrap._resolve_name(name, _bootstrap._calc___package__(globals), level) if level > 0 else name
        except Exception:
            full = ""
        if not isinstance(full, str) or not full or not (self._concerns(full) or any(self._concerns(f"{full}.{each}") for each in fromlist or () if isinstance(each, str))):
            return self._import_detour.original(name, globals, locals, fromlist, level)
        module = self.get_all(full)
        if fromlist:
            self._from(full, module, fromlist)
            return module
        if level == 0:
            return self.get(full.partition(".")[0])
        return self._import_detour.original(name, globals, locals, fromlist, level)

    def get_all(self, name: str) -> Any:
        """The packages above NAME first, as an import does."""
        end = name.find(".")
        while end >= 0:
            self.get(name[:end])
            end = name.find(".", end + 1)
        return self.get(name)

    def _from(self, full: str, module: Any, fromlist: Iterable[Any]) -> None:
        """Submodules that ``from package import ...`` names."""
        if not hasattr(module, "__path__"):
            return
        for each in fromlist:
            if each == "*":
                self._from(full, module, [one for one in getattr(module, "__all__", ()) if one != "*"])
            elif isinstance(each, str) and not hasattr(module, each):
                try:
                    self.get(f"{full}.{each}")
                except ModuleNotFoundError as error:
                    if error.name != f"{full}.{each}":
                        raise
                    if error.name in self.gone:  # the import statement would look into sys.modules, which has it until the step
                        raise ImportError(f"cannot import name {each!r} from {full!r}", name=full) from None

    def _gcd_import(self, name: str, package: Any = None, level: int = 0) -> Any:
        """importlib._bootstrap._gcd_import for this thread."""
        assert self._gcd_detour is not None
        try:
            _bootstrap._sanity_check(name, package, level)
            full = _bootstrap._resolve_name(name, package, level) if level > 0 else name
        except Exception:
            full = ""
        if not full or not self._concerns(full):
            return self._gcd_detour.original(name, package, level)
        return self.get_all(full)

    # --- executing ---

    def _execute_all(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self.get_all(name)
            except (Exception, SystemExit) as error:
                if self._failed is None:
                    raise failure(name, self._path(name), error, (name, *static_chain(self.sources, name))) from error
            if self._failed is not None:
                raise self._failed

    def _load(self, name: str, step: Step) -> Any:
        parent = name.rpartition(".")[0]
        if parent:
            self.get(parent)
            if name in self.new:
                return self.new[name]
        if sys.modules.get(name) is not None:
            return self._execute(name, step, sys.modules[name])
        with _bootstrap._ModuleLockManager(name):  # as at any first import, so that other threads wait for it
            there = sys.modules.get(name)
            if there is None:
                return self._execute(name, step, None)
        if name not in self.plan.steps:  # another thread was faster
            self.added.pop(name, None)
            return there
        return self._execute(name, step, there)

    def _execute(self, name: str, step: Step, before: Any) -> Any:
        """BEFORE is what sys.modules has, and keeps meanwhile; None: nothing, so that it has the new module as at any first import."""
        parent, _, child = name.rpartition(".")
        module = _bootstrap.module_from_spec(step.spec)
        if before is None:
            sys.modules[name] = before = module
            self._placed.append(name)
        elif name not in self.old:  # somebody has put it there since we planned
            if isinstance(before, ModuleType) and not self._is_of_gone(name, before):
                self.dicts[name] = object.__getattribute__(before, "__dict__")
            self.old[name] = before
            self._aside.stand_in(before, name, self._class(before))
        self.new[name] = module
        if name not in self.plan.steps:  # these are concerned from the beginning
            self._concern(name)
        if step.spec.submodule_search_locations is not None:
            self._inherit_children(name, module)
        self.share.prepare(name, module)
        step.spec._initializing = True
        self._stack.append(name)
        try:
            if step.code is not None:
                exec(step.code, vars(module))
        except BaseException as error:
            self._fail(name, step, error)
            raise
        finally:
            self._stack.pop()
            step.spec._initializing = False
            replaced = sys.modules.get(name)
            if replaced is not before and before is not module:  # the body has put something else there: that is its module
                sys.modules[name] = before
        if replaced is not before and replaced is not None:
            self.new[name] = module = replaced
        self._stack.append(name)
        try:
            self.share.executed(name, module, self._stays(name, module))
        except BaseException as error:
            self._fail(name, step, error)
            raise
        finally:
            self._stack.pop()
        self.order.append(name)
        if parent in self.new:
            setattr(self.new[parent], child, module)
        if name in self._placed:
            self._bind_placed(parent, child, module)
        if parent and parent not in self.new:
            self._show_child(name)
        return module

    def _stays(self, name: str, module: Any) -> bool:
        """Whether NAME stays what it is, and takes what MODULE has."""
        return False

    def _bind_placed(self, parent: str, child: str, module: Any) -> None:
        """For other threads that import it."""
        package = sys.modules.get(parent)
        if isinstance(package, ModuleType):
            object.__getattribute__(package, "__dict__").setdefault(child, module)

    def _take_back(self) -> None:
        """What was imported for the first time was not."""
        for name in self._placed:
            module, (parent, _, child) = self.new.get(name), name.rpartition(".")
            if module is not None and sys.modules.get(name) is module:
                del sys.modules[name]
            package = sys.modules.get(parent)
            names = object.__getattribute__(package, "__dict__") if isinstance(package, ModuleType) else {}
            if module is not None and names.get(child) is module:
                del names[child]
        self._placed.clear()

    def _inherit_children(self, name: str, module: Any) -> None:
        """A new package has the submodules that stay, as the old one has."""
        old = self.dicts.get(name)
        if old is None:
            return
        for attribute, value in list(old.items()):
            full = f"{name}.{attribute}"
            if sys.modules.get(full, _MISSING) is value and full not in self.plan.steps and full not in self.gone:
                setattr(module, attribute, value)

    def _fail(self, name: str, step: Step, error: BaseException) -> None:
        module = self.new.pop(name)
        if name in self._placed:
            self._placed.remove(name)
            if sys.modules.get(name) is module:
                del sys.modules[name]
        if name in self.added:
            del self.added[name]
        if self._failed is None and isinstance(error, (Exception, SystemExit)) and (name in self.plan.steps or any(each in self.plan.steps for each in self._stack)):
            if name not in self.plan.steps:
                return  # a new module: whoever imports it may do without
            chain = tuple(reversed(self._stack))
            at, path, cause = name, step.spec.origin, error
            deepest = self._deepest(error)
            if deepest is not None and deepest[0] != name:
                at, path = deepest
                chain = (at, *chain)
            self._failed = failure(at, path, cause, chain + static_chain(self.sources, chain[-1]))

    def _deepest(self, error: BaseException) -> tuple[str, str] | None:
        """The new module, first imported here, in whose body ERROR arose."""
        traceback: TracebackType | None = error.__traceback__
        found = None
        while traceback is not None:
            frame = traceback.tb_frame
            if frame.f_code.co_name == "<module>":
                found = (str(frame.f_globals.get("__name__")), frame.f_code.co_filename)
            traceback = traceback.tb_next
        return found
