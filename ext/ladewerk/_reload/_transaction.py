# SPDX-License-Identifier: MIT
"""One reload, policy *replace* (*in place* rests on it: _inplace.py): new module objects, executed aside, put in the place of the old ones in one step.

While bodies run, sys.modules has the old modules, and other threads see nothing of what goes on. The thread that reloads gets new modules from import statements and
importlib (Detour), and reads and writes new ones where it comes by an old one (StandIn): see ext/live/aside.c.
"""
from __future__ import annotations

import builtins
import gc
import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType, TracebackType, new_class
from typing import Any

from ladewerk import _live
from ladewerk._imports import NOTHING, Imports, imports_of
from ._adapters import Adapter, adapters
from ._errors import ReloadError
from ._sources import Record, Source, Sources, _kind, is_lazy, own, read_saved, usable

_bootstrap: Any = sys.modules["importlib._bootstrap"]
_MISSING: Any = object()


class Step:
    """A module that is to be executed: its new spec, and what its source says now. No code: a namespace package."""

    __slots__ = ("name", "spec", "code", "source", "imports", "package")

    def __init__(self, name: str, spec: Any, code: CodeType | None, source: Source | None, imports: Imports) -> None:
        self.name, self.spec, self.code, self.source, self.imports = name, spec, code, source, imports
        self.package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]


class Plan:
    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}  # by name
        self.changed: list[str] = []
        self.removed: list[str] = []
        self.skipped: dict[str, str] = {}
        self.touched: list[Record] = []  # these are skipped, too, if they have changed
        self.kept: set[str] = set()  # they depend on these, and have opted out
        self.adapters: list[Adapter] = []  # of the frameworks that are in use

    def __bool__(self) -> bool:
        return bool(self.steps or self.removed)


# --- planning ---


def _line_in(path: str | None, error: BaseException) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def failure(name: str, path: str | None, error: BaseException, chain: tuple[str, ...]) -> ReloadError:
    line = _line_in(path, error)
    where = f" ({path}{f', line {line}' if line else ''})" if path else ""
    via = f"; imported by {', by '.join(chain[1:])}" if len(chain) > 1 else ""
    result = ReloadError(f"{name}{where}: {type(error).__name__}: {error}{via}; nothing was changed", name=name, path=path, line=line, chain=chain)
    result.__cause__ = error
    return result


def step_for(name: str, spec: Any, source: Source | None = None, size: int = 0) -> Step:
    """Read (it had SIZE bytes, or SOURCE) and compile. OSError, SyntaxError, ValueError."""
    if _kind(spec) == "namespace":
        return Step(name, spec, None, None, NOTHING)
    if source is None:
        source = read_saved(spec.origin, size)
    code = compiled(name, spec.origin, source)
    return Step(name, spec, code, source, imports_of(code, name if spec.submodule_search_locations is not None else name.rpartition(".")[0]))


def compiled(name: str, path: str, source: Source) -> CodeType:
    code = SourceFileLoader(name, path).source_to_code(source.data, path)
    assert isinstance(code, CodeType)
    return code


def _search_path(name: str, plan: Plan) -> tuple[bool, Any]:
    """Where module NAME is looked for: (there is such a place, the path)."""
    parent = name.rpartition(".")[0]
    if not parent:
        return True, None
    if parent in plan.removed:
        return False, None
    if parent in plan.steps:
        path = plan.steps[parent].spec.submodule_search_locations
    elif sys.modules.get(parent) is None:  # somebody has removed the package alone
        path = []
    else:
        path = getattr(sys.modules.get(parent), "__path__", None)
    return path is not None, None if path is None else usable(path)


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


def make_plan(sources: Sources, suspects: set[str], forced: set[str]) -> Plan:
    """What must be executed because of SUSPECTS, if they have changed, and of FORCED. ReloadError: a source cannot be compiled."""
    plan = Plan()
    todo = sorted(suspects | forced, reverse=True)  # packages before what is in them
    done: set[str] = set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        record = sources.records.get(name)
        if record is None:
            if name in forced:
                plan.skipped[name] = _kind(own(sys.modules.get(name), "__spec__"))
                if plan.skipped[name] in ("source", "namespace"):
                    plan.skipped[name] = "it is not below the roots"
            continue
        if _plan_one(sources, record, plan, name in forced):
            inside = name + "."
            todo = sorted({*todo, *(each for each in sources.records if each.startswith(inside))} - done, reverse=True)
    _remove_empty(sources, plan)
    if plan:
        sources.complete_graph()
        plan.adapters = adapters()
        _add_dependants(sources, plan)
    return plan


def _remove_empty(sources: Sources, plan: Plan) -> None:
    """Packages that hold nothing any more."""
    for name in list(plan.removed):
        while (name := name.rpartition(".")[0]) and name not in plan.removed and name in sources.records and sources.share.unfound(name):
            plan.removed.append(name)


def _plan_one(sources: Sources, record: Record, plan: Plan, forced: bool) -> bool:
    """True: where modules in it are found may have changed."""
    name = record.name
    if name not in sys.modules:
        sources.removed(name)
        return False
    if record.why or _keeps(name):
        if forced:
            plan.skipped[name] = why_not(record)
        elif sources.differs(record):
            plan.touched.append(record)
        return False
    there, path = _search_path(name, plan)
    spec = find_spec(name, path) if there and not sources.share.unfound(name) else None
    forced = forced or sources.share.restructured(name)
    if there and (spec is None or spec.origin != record.path) and _by_itself(record, path):
        spec = in_place(record)
    if spec is None and path == [] and not record.path:
        return False
    if spec is None:
        plan.removed.append(name)
        return True
    kind = _kind(spec)
    if kind not in ("source", "namespace"):
        plan.skipped[name] = kind
        return False
    if kind == "namespace" and not record.path and not forced:
        return False
    try:
        same_place, source = spec.origin == record.path, None
        size = record.stamp[2] if record.stamp is not None else 0
        if not size and _has_names(name):
            size = 1  # our first look at it fell into a save
        if same_place and not forced and record.digest is not None:
            source = read_saved(record.path, size)
            if source.digest == record.digest:
                sources.unchanged(record, source)
                return False
        elif same_place and not forced and not sources.differs(record):
            return False
        plan.steps[name] = step_for(name, spec, source, size)
    except (SyntaxError, ValueError, OSError) as error:
        raise failure(name, spec.origin, error, (name, *_static_chain(sources, name))) from error
    plan.changed.append(name)
    return bool(spec.origin != record.path)


def _by_itself(record: Record, path: Any) -> bool:
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


def _has_names(name: str) -> bool:
    """Whether more than nothing was executed."""
    inside = name + "."
    return any(not key.startswith("__") and inside + key not in sys.modules for key in list(getattr(sys.modules.get(name), "__dict__", ())))


def why_not(record: Record) -> str:
    return record.why or "__ladewerk_reload__ is False"


def _keeps(name: str) -> bool:
    return bool(own(sys.modules.get(name), "__ladewerk_reload__", True) is False)


def _static_chain(sources: Sources, name: str) -> tuple[str, ...]:
    """An importer of NAME, an importer of that, ..."""
    sources.complete_graph()
    chain: list[str] = []
    while True:
        importers = sorted({*sources.importers.get(name, ()), *sources.takers.get(name, ())} - {*chain, name}, key=lambda each: (each != "__main__", each))
        if not importers or len(chain) > 20:
            return tuple(chain)
        name = importers[-1] if importers[-1] not in chain else importers[0]
        chain.append(name)


def _add_dependants(sources: Sources, plan: Plan) -> None:
    for step in plan.steps.values():
        sources.set_imports(sources.records[step.name], step.imports)
    changed = {*plan.steps, *plan.removed}
    concerned = set(changed)
    while True:
        dependants = sources.dependants(changed).union(*(adapter.dependants(sources, concerned) for adapter in plan.adapters))
        new = [name for name in dependants if name not in plan.steps and name not in plan.removed and name in sources.records and name not in plan.kept]
        if not new:
            return
        for name in new:
            record = sources.records[name]
            if record.why or _keeps(name) or not record.path or sources.share.keeps(name):
                plan.kept.add(name)
                continue
            _add_dependant(sources, record, plan)
        changed = set(new)  # what the others lead to is among them
        concerned |= changed


def _add_dependant(sources: Sources, record: Record, plan: Plan) -> None:
    name = record.name
    if sys.modules.get(name) is None:  # somebody has removed it: whoever imports it gets it anew
        sources.removed(name)
        return
    spec = in_place(record)
    try:
        if record.code is not None and not record.racy and not sources.differs(record):
            code, source = record.code, Source(b"", record.stamp or (0, 0, 0, 0, 0), record.digest or b"", record.racy)
            plan.steps[name] = Step(name, spec, code, source, record.imports or NOTHING)
        else:
            plan.steps[name] = step_for(name, spec)
            sources.set_imports(record, plan.steps[name].imports)
    except (SyntaxError, ValueError, OSError) as error:
        raise failure(name, record.path, error, (name, *_static_chain(sources, name))) from error


# --- executing ---


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


active: Transaction | None = None


class Transaction:
    """``execute()``, then ``changes()`` for _live.swap(), and ``end()`` in any case."""

    def __init__(self, sources: Sources, plan: Plan) -> None:
        self.sources, self.plan, self.share = sources, plan, sources.share
        self.new: dict[str, Any] = {}
        self.order: list[str] = []
        self.added: dict[str, Step] = {}  # loaded for the first time, below the roots
        found = ((name, sys.modules.get(name)) for name in (*plan.steps, *plan.removed))
        self.old: dict[str, Any] = {name: module for name, module in found if module is not None}
        self._dicts = {name: vars(module) for name, module in self.old.items() if isinstance(module, ModuleType)}
        self._states: dict[str, Any] = {}
        self._stack: list[str] = []
        self._placed: list[str] = []  # in sys.modules already: they were not there before
        self._gone = set(plan.removed)
        self._failed: ReloadError | None = None
        self._concerned: set[str] = set()  # names of what is replaced, removed, or loaded for the first time
        for name in (*plan.steps, *plan.removed):
            self._concern(name)
        self._aside = _live.Aside(self._shown, self._import, self._gcd_import, self._concerned)
        self._import_detour: _live.Detour | None = None
        self._gcd_detour: _live.Detour | None = None
        self._collecting = False
        self._classes: dict[int, type | None] = {}  # of modules with a class of their own
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
            if name not in self._gone:
                self._aside.stand_in(module, name, self._class(module))
            self._show_child(name)
        self._aside.begin()
        builtins.__import__ = self._import_detour
        _bootstrap._gcd_import = self._gcd_detour

    def _class(self, module: Any) -> type | None:
        if type(module) is ModuleType or not isinstance(module, ModuleType) or type(module) is self._aside.StandIn or is_lazy(module):
            return None
        if id(module) not in self._classes:
            self._classes[id(module)] = _class_for(type(module))
        return self._classes[id(module)]

    def _show_child(self, name: str) -> None:
        """To this thread the parent, if it stays, has the new module, or none."""
        parent, _, child = name.rpartition(".")
        package = sys.modules.get(parent) if parent and parent not in self.plan.steps and parent not in self._gone else None
        if isinstance(package, ModuleType) and object.__getattribute__(package, "__dict__").get(child, self.old.get(name)) is self.old.get(name):
            self._aside.replace_child(package, child, name, self._class(package))
        for parent, child, defined in self.share.bindings(name):
            package = sys.modules.get(parent) if parent not in self.plan.steps and parent not in self._gone else None
            if isinstance(package, ModuleType):
                self._aside.replace_child(package, child, f"{name}:{defined}", self._class(package))

    def _concern(self, name: str) -> None:
        self._concerned.update((name, *self.share.others(name), *self.sources.aliases.get(name, ())))

    def _shown(self, name: str) -> Any:
        """What this thread has instead: a module, or what one defines (``module:name``)."""
        name, _, defined = name.partition(":")
        if name in self._gone:
            parent, _, child = name.rpartition(".")
            raise AttributeError(f"module {parent!r} has no attribute {defined or child!r}", name=defined or child, obj=sys.modules.get(parent))
        module = self.get(name)
        if not defined:
            return module
        value = own(module, defined, _MISSING)
        if value is _MISSING:
            raise ImportError(f"{defined} is not there yet: {name} is being imported (most likely a circular use)", name=name, path=self._path(name))
        return value

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
            hook = self._dicts.get(name, {}).get("__ladewerk_before_reload__")
            if hook is None:
                continue
            try:
                self._states[name] = hook()
            except Exception as error:
                raise failure(name, self._path(name), error, (name,)) from error

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
        if name in self._gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in self.plan.steps:
            return self._load(name, self.plan.steps[name])
        module = sys.modules.get(name, _MISSING)
        if module is not _MISSING and module is not None and not self._is_of_gone(name, module):
            return module
        return self._first_import(name)

    def _is_of_gone(self, name: str, module: Any) -> bool:
        """Whether MODULE is removed, and NAME is another name that it had (Share)."""
        return any(module is self.old.get(each) and name in self.share.others(each) for each in self._gone)

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
        spec = find_spec(name, path)
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
                    if error.name in self._gone:  # the import statement would look into sys.modules, which has it until the step
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

    def forget(self, name: str) -> None:
        """For adapters: module NAME, loaded and not executed again, is removed in the step, as if its source were gone."""
        self.plan.steps.pop(name, None)
        self.plan.removed.append(name)
        self._gone.add(name)
        self.old[name] = sys.modules[name]

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

    def _execute_all(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                self.get_all(name)
            except (Exception, SystemExit) as error:
                if self._failed is None:
                    raise failure(name, self._path(name), error, (name, *_static_chain(self.sources, name))) from error
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
                self._dicts[name] = object.__getattribute__(before, "__dict__")
            self.old[name] = before
            self._aside.stand_in(before, name, self._class(before))
        self.new[name] = module
        self._concern(name)
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
        old = self._dicts.get(name)
        if old is None or not hasattr(module, "__path__"):
            return
        for attribute, value in list(old.items()):
            full = f"{name}.{attribute}"
            if sys.modules.get(full, _MISSING) is value and full not in self.plan.steps and full not in self._gone:
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
            self._failed = failure(at, path, cause, chain + _static_chain(self.sources, chain[-1]))

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
        return {*self.new, *self._gone} & self.old.keys()

    def changes(self) -> list[Any]:
        modules = sys.modules
        changes: list[Any] = [(self.made, "made", True)]
        for name in self.new:
            changes.append((modules, name, self.final(name)))
        for name in self._gone:
            changes.append((modules, name))
        for name in (*self.new, *self._gone):
            parent, _, child = name.rpartition(".")
            package = modules.get(parent) if parent and parent not in self.new and parent not in self._gone else None
            if not isinstance(package, ModuleType):
                continue
            names = object.__getattribute__(package, "__dict__")
            there = names.get(child, _MISSING)
            if name in self._gone:
                if there is self.old.get(name):
                    changes.append((names, child))
            elif there is _MISSING or there is self.old.get(name):
                changes.append((names, child, self.final(name)))
        for name in (*self.new, *self._gone):
            self._change_bindings(name, changes)
        self._rebind(changes)
        self._retire(changes)
        for adapter in self.plan.adapters:
            changes += adapter.changes()
        return changes

    def _change_bindings(self, name: str, changes: list[Any]) -> None:
        """Where a module is known by other names, or what it defines is bound in a package (Share)."""
        old, new = self.old.get(name, _MISSING), self.final(name) if name in self.new else _MISSING
        for alias in self.share.others(name):
            if sys.modules.get(alias, _MISSING) is old and old is not _MISSING and alias not in self.new:
                changes.append((sys.modules, alias) if new is _MISSING or self.share.canonical(alias) != name else (sys.modules, alias, new))
        for alias in self.sources.aliases.get(name, set()) - self.new.keys() - self._gone if new is not _MISSING else ():
            if sys.modules.get(alias, _MISSING) is old:
                changes.append((sys.modules, alias, new))
                self._change_in_parent(alias, old, new, changes)
        for parent, child, defined in self.share.bindings(name):
            package = sys.modules.get(parent)
            if not isinstance(package, ModuleType) or parent in self.new or parent in self._gone or (name in self._gone and f"{parent}.{child}" in self.new):
                continue
            names = object.__getattribute__(package, "__dict__")
            was = self._dicts.get(name, {}).get(defined, _MISSING) if defined else old
            now = own(self.new[name], defined, _MISSING) if defined and new is not _MISSING else new
            if was is not _MISSING and names.get(child, _MISSING) is was:
                changes.append((names, child) if now is _MISSING else (names, child, now))

    def _change_in_parent(self, name: str, old: Any, new: Any, changes: list[Any]) -> None:
        parent, _, child = name.rpartition(".")
        package = sys.modules.get(parent)
        if isinstance(package, ModuleType) and parent not in self.new and parent not in self._gone:
            names = object.__getattribute__(package, "__dict__")
            if names.get(child, _MISSING) is old:
                changes.append((names, child, new))

    def _rebind(self, changes: list[Any]) -> None:
        """Names in modules that are not executed again."""
        for name in sorted(self.sources.odd | self.plan.kept):
            record, module = self.sources.records.get(name), sys.modules.get(name)
            if record is not None and isinstance(module, ModuleType):
                self._rebind_in(name, record, object.__getattribute__(module, "__dict__"), changes)

    def _rebind_in(self, name: str, record: Record, names: dict[str, Any], changes: list[Any]) -> None:
        wanted: dict[str, Any] = {}
        by_identity = {id(self.old[each]): self.final(each) for each in self.new if each in self.old}
        for key, value in list(names.items()):
            other = by_identity.get(id(value))
            if other is None:
                other = self._same_definition(value)
            if other is not None and other is not value:
                wanted[key] = other
        imports = record.imports or NOTHING
        for source, attribute, alias in imports.bindings:
            if source not in self.new or source not in self._dicts or alias in wanted or f"{source}.{attribute}" in self.old:
                continue
            before = self._dicts[source].get(attribute, _MISSING)
            if before is _MISSING or names.get(alias, _MISSING) is not before:
                continue
            after = getattr(self.new[source], attribute, _MISSING)
            if after is _MISSING:
                error = ImportError(f"cannot import name {attribute!r} from {source!r}", name=source)
                raise failure(name, record.path, error, (name,)) from error
            wanted[alias] = after
        for source in imports.stars:
            self._rebind_star(source, names, wanted, changes)
        changes += [(names, key, value) for key, value in wanted.items()]

    def _same_definition(self, value: Any) -> Any:
        """The new function or class of the same name, if VALUE is one that a replaced module defined and has."""
        if not issubclass(type(value), (type, type(failure))):  # not isinstance(): proxies may answer that with an error
            return None
        module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
        if not isinstance(module, str) or not isinstance(name, str) or module not in self.new or self._dicts.get(module, {}).get(name) is not value:
            return None
        return getattr(self.new[module], name, None)

    def _rebind_star(self, source: str, names: dict[str, Any], wanted: dict[str, Any], changes: list[Any]) -> None:
        if source not in self.new or source not in self._dicts:
            return
        old, new = self._dicts[source], vars(self.new[source])
        for key, value in list(old.items()):
            if not key.startswith("_") and names.get(key, _MISSING) is value and key not in new:
                changes.append((names, key))
        for key in new.get("__all__", [key for key in new if not key.startswith("_")]):
            if key in new and key not in wanted and (key not in names or names[key] is old.get(key, _MISSING)):
                wanted[key] = new[key]

    def _retire(self, changes: list[Any]) -> None:
        """Old modules keep old children: a package that stays, and that an old module has bound by `import package.child`, is for it a copy with what it had."""
        copies: dict[int, ModuleType] = {}
        stay: dict[str, ModuleType] = {}
        for name in (*self.new, *self._gone):
            parent = name.rpartition(".")[0]
            while parent:
                package = sys.modules.get(parent)
                if parent not in self.new and parent not in self._gone and isinstance(package, ModuleType):
                    stay[parent] = package
                parent = parent.rpartition(".")[0]
        if not stay:
            return
        packages = {id(package): name for name, package in stay.items()}
        changes += [(names, key, self._copy(name, stay, copies)) for names, key, name in _live.bound(list(self._dicts.values()), packages)]

    def _copy(self, name: str, stay: dict[str, ModuleType], copies: dict[int, ModuleType]) -> ModuleType:
        package = stay[name]
        copy = copies.get(id(package))
        if copy is None:
            copy = copies[id(package)] = ModuleType(name)
            vars(copy).update(object.__getattribute__(package, "__dict__"))
            inside = name + "."
            for below in stay:
                if below.startswith(inside) and "." not in below[len(inside):]:
                    child = below[len(inside):]
                    if vars(copy).get(child) is stay[below]:
                        vars(copy)[child] = self._copy(below, stay, copies)
        return copy

    def commit(self) -> None:
        """After the step: what is known of the sources."""
        for name in self.order:
            step = self.plan.steps.get(name) or self.added.get(name)
            if step is not None and name in self.new:
                self.sources.executed(name, self.final(name), step.spec.origin if step.code is not None else "", step.source, step.code, step.imports, step.package)
        for name in self.plan.removed:
            self.sources.removed(name)
