# SPDX-License-Identifier: MIT
"""What a reload is to do: which modules have changed, or are gone, and who depends on them. Nothing is executed for it, and nobody sees it."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

from ladewerk._imports import NOTHING, Imports, and_above, imports_of
from ._adapters import Adapter, adapters
from ._errors import failure
from ._finding import Finding, by_itself, in_place
from ._sources import Record, Source, Sources, _kind, own, read_saved, usable


class Step:
    """A module that is to be executed: its new spec, and what its source says now. No code: a namespace package."""

    __slots__ = ("name", "spec", "code", "source", "imports", "package")

    def __init__(self, name: str, spec: Any, code: CodeType | None, source: Source | None, imports: Imports) -> None:
        self.name, self.spec, self.code, self.source, self.imports = name, spec, code, source, imports
        self.package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]


class Plan:
    """What make_plan() says."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}  # by name
        self.changed: list[str] = []
        self.removed: dict[str, None] = {}
        self.skipped: dict[str, str] = {}
        self.touched: list[Record] = []  # these are skipped, too, if they have changed
        self.kept: set[str] = set()  # they depend on these, and have opted out
        self.adapters: list[Adapter] = []  # of the frameworks that are in use
        self.finding = Finding()

    def __bool__(self) -> bool:
        return bool(self.steps or self.removed)


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


class _Queue:
    """Names to look at, each once, in their order: packages before what is in them."""

    def __init__(self, names: set[str]) -> None:
        self._heap, self._met = list(names), set(names)
        self._inside: dict[str, list[str]] | None = None  # package -> whoever is looked after in it, at any depth
        heapify(self._heap)

    def __iter__(self) -> Iterator[str]:
        while self._heap:
            yield heappop(self._heap)

    def add_inside(self, name: str, sources: Sources) -> None:
        """Whoever is in package NAME, too."""
        if self._inside is None:
            self._inside = {}
            for each in sources.records:
                for above in and_above(each)[:-1]:
                    self._inside.setdefault(above, []).append(each)
        for each in self._inside.get(name, ()):
            if each not in self._met:
                self._met.add(each)
                heappush(self._heap, each)


def make_plan(sources: Sources, suspects: set[str], forced: set[str]) -> Plan:
    """What must be executed because of SUSPECTS, if they have changed, and of FORCED. ReloadError: a source cannot be compiled."""
    plan, queue = Plan(), _Queue(suspects | forced)
    for name in queue:
        record = sources.records.get(name)
        if record is None:
            if name in forced:
                plan.skipped[name] = _kind(own(sys.modules.get(name), "__spec__"))
                if plan.skipped[name] in ("source", "namespace"):
                    plan.skipped[name] = "it is not below the roots"
            continue
        if _plan_one(sources, record, plan, name in forced):
            queue.add_inside(name, sources)
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
            plan.removed[name] = None


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
    spec = plan.finding.find(name, path) if there and not sources.share.unfound(name) else None
    forced = forced or sources.share.restructured(name)
    if there and (spec is None or spec.origin != record.path) and by_itself(record, path):
        spec = in_place(record)
    if spec is None and path == [] and not record.path:
        return False
    if spec is None:
        plan.removed[name] = None
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
        raise failure(name, spec.origin, error, (name, *static_chain(sources, name))) from error
    plan.changed.append(name)
    return bool(spec.origin != record.path)


def _has_names(name: str) -> bool:
    """Whether more than nothing was executed."""
    inside = name + "."
    return any(not key.startswith("__") and inside + key not in sys.modules for key in list(getattr(sys.modules.get(name), "__dict__", ())))


def why_not(record: Record) -> str:
    return record.why or "__ladewerk_reload__ is False"


def _keeps(name: str) -> bool:
    return bool(own(sys.modules.get(name), "__ladewerk_reload__", True) is False)


def static_chain(sources: Sources, name: str) -> tuple[str, ...]:
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
        raise failure(name, record.path, error, (name, *static_chain(sources, name))) from error
