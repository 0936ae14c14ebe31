# SPDX-License-Identifier: MIT
"""One reload, policy *in place*: executed aside like *replace*, and then modules, functions and classes that are there take the contents of the new ones.

    1. twins         what is which (_twins.py); nothing is changed
    2. rewriting     what new bodies have made refers to the old ones instead of their new twins (_rewrite.py); only this reload knows it
    3. the step      _live.swap(): names of modules, attributes of classes, contents of functions, all or nothing

2 and 3 happen while readers with a pin are kept out.
"""
from __future__ import annotations

import abc
import collections.abc
import functools
import gc
import sys
import types
import weakref
from types import FrameType, FunctionType, ModuleType
from typing import Any

from ladewerk import _live
from ._errors import ReloadError
from ._rewrite import Rewriter
from ._transaction import Transaction
from ._twins import OWN_NAMES, Twins, bases_of, defined, flags_of, module_of, mro_of, names_of, of_layout, qualname_of, rebasable, same

_abc: Any = sys.modules["_abc"]
_Names = dict[str, Any]
GENERATIONS = "t" not in sys.abiflags  # free-threaded, the collector has none

# The interpreter's frames borrow the global names of their function. A function that is given others keeps those that it had.
_former: weakref.WeakKeyDictionary[FunctionType, list[_Names]] = weakref.WeakKeyDictionary()


def _keep_globals(function: FunctionType) -> None:
    kept = _former.setdefault(function, [])
    if not any(each is function.__globals__ for each in kept):
        kept.append(function.__globals__)


def _frames_in(new: dict[str, _Names]) -> bool:
    """Whether a thread runs in one of these modules."""
    ids = {id(names) for names in new.values()}
    for top in sys._current_frames().values():
        frame: FrameType | None = top
        while frame is not None:
            if id(frame.f_globals) in ids:
                return True
            frame = frame.f_back
    return False


class _Bell(abc.ABC):
    """To register a class with it has every ABC look again at what it has said no to."""


def _answer_again() -> None:
    """ABCs are to look again at which methods a class has."""
    for each in vars(collections.abc).values():
        if isinstance(each, abc.ABCMeta):
            _abc._reset_caches(each)
    _Bell.register(type("Ring", (), {}))


class InPlace(Transaction):
    """``_transact`` uses it as it uses any Transaction."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._staying: dict[str, ModuleType] = {}  # modules that take the contents of new ones
        self._module_classes: dict[str, type] = {}
        self._rewritten: list[Any] | None = None
        self._begun = True  # something that a body has begun may still run, with the new module's names

    def final(self, name: str) -> Any:
        return self._staying.get(name, self.new.get(name))

    def _stays(self, name: str, module: Any) -> bool:
        return isinstance(module, ModuleType) and name in self.dicts

    def _retired(self) -> list[Any]:
        """Modules that stay have nothing old."""
        return []

    def changes(self) -> list[Any]:
        try:
            return self._changes()
        except ReloadError:
            raise
        except Exception as error:  # of a foreign object, asked what it is or has
            raise ReloadError(f"{type(error).__name__}: {error}; nothing was changed") from error

    def _changes(self) -> list[Any]:
        if self._rewritten is None:
            self._rewritten = self._rewrite()
        return [*self._rewritten, *super().changes()]

    def _rewrite(self) -> list[Any]:
        """Once: afterwards new bodies refer to what is there already."""
        self._staying = {name: module for name, module in self.old.items() if name in self.dicts and isinstance(self.new.get(name), ModuleType)}
        old = {name: self.dicts[name] for name in self._staying}
        new = {name: object.__getattribute__(self.new[name], "__dict__") for name in self._staying}
        made = _Young(new, self._collecting and GENERATIONS)
        twins, rebased = _twins(old, new, made.classes)
        for name, module in self._staying.items():
            twins.link(module, self.new[name])
            twins.link(old[name], new[name])  # what globals() has given
        added = [object.__getattribute__(module, "__dict__") for name, module in self.new.items() if name not in new and isinstance(module, ModuleType)]
        rewriter = _rewrite(twins, [*new.values(), *added], made, {id(names): old[name] for name, names in new.items()})
        self._begun = not (self._collecting and GENERATIONS) or made.generators or _frames_in(new)
        self._module_classes = {name: twins.instead(type(self.new[name])) for name in new}
        self.replaced = tuple(twins.replaced)
        changes = [(cls, bases) for cls, bases in rebased]
        for name in new:
            changes += _entries(old[name], new[name])
        return changes + _of_twins(twins, rewriter)

    def end(self) -> None:
        super().end()
        if not self.made:
            self._forget()

    def commit(self) -> None:
        super().commit()
        for name, cls in self._module_classes.items():
            if type(self._staying[name]) is not cls:
                object.__setattr__(self._staying[name], "__class__", cls)
        self._forget()
        for name in self.order:
            if name in self._staying:
                self.share.took(name, self._staying[name])

    def _forget(self) -> None:
        """New modules that others stand for are no more; whoever still runs in them keeps their names."""
        for name in self._staying:
            new = self.new.pop(name, None)
            if new is not None and not self._begun:
                object.__getattribute__(new, "__dict__").clear()


def collect_young() -> None:
    """What was made aside, and has a twin, goes: its classes are not to be met in ``__subclasses__()`` of others. Costs what is young, not what there is."""
    if gc.isenabled() and GENERATIONS:
        gc.collect(1)


# By the id of the type.
_FRAMES = {id(types.GeneratorType): "gi_frame", id(types.CoroutineType): "cr_frame", id(types.AsyncGeneratorType): "ag_frame"}
_CONTAINERS = frozenset(map(id, (list, dict, set)))


class _Young:
    """Functions and instances that bodies have made, wherever they are: while bodies run nothing is collected, so all of it is in the youngest generation.

    Empty where the program does without automatic collections, or the collector has no generations: then there is only what new modules lead to.
    """

    def __init__(self, new: dict[str, _Names], generations: bool) -> None:
        self.functions: list[FunctionType] = []
        self.classes: list[type] = []
        self.others: list[Any] = []
        self.generators = False  # that have begun, or may
        ids = {id(names) for names in new.values()}
        foreign: set[int] = set()  # ids of types of whose instances nothing is to be known
        for each in gc.get_objects(generation=0) if generations else ():
            kind = type(each)
            if id(kind) in foreign:
                continue
            if kind is FunctionType:
                if id(each.__globals__) in ids:
                    self.functions.append(each)
            elif id(kind) in _FRAMES:
                frame = getattr(each, _FRAMES[id(kind)])
                self.generators |= frame is not None and id(frame.f_globals) in ids
            elif issubclass(kind, type):
                if module_of(each) in new and "<locals>" in qualname_of(each):
                    self.classes.append(each)
            elif module_of(kind) in new:
                self.others.append(each)
            else:
                foreign.add(id(kind))


def _twins(old: dict[str, _Names], new: dict[str, _Names], local: list[type]) -> tuple[Twins, list[tuple[type, tuple[type, ...]]]]:
    """And classes without twin that get a base that stays."""
    refused: set[int] = set()
    while True:
        twins, rebased, again = Twins(old, new, refused), [], False
        classes: dict[int, type] = {id(each): each for each in local}
        for names in new.values():
            defined(list(names.values()), twins.new.owns, classes)
        for cls in classes.values():
            if twins.of(cls) is not None:
                continue
            bases = twins.bases_instead(cls)
            if same(bases, bases_of(cls)):
                continue
            if rebasable(cls, bases):
                rebased.append((cls, bases))
            else:
                refused |= {id(each) for each in bases_of(cls) if twins.of(each) is not None}
                again = True
        if not again:
            return twins, rebased


def _rewrite(twins: Twins, dicts: list[_Names], made: _Young, globals_of: dict[int, _Names]) -> Rewriter:
    rewriter = Rewriter(twins.instead, twins.new)
    for names in dicts:
        rewriter.names(names)
    for _, function in twins.functions:
        rewriter.function(function)
    above: dict[int, type] = {}
    for _, cls in twins.classes:
        rewriter.each(names_of(cls).values())
        above.update((id(base), base) for base in mro_of(cls) if base is not cls and base is not object)
    for base in above.values():
        if not twins.new.owns(base) and flags_of(base) & 1 << 9:
            _registries(rewriter, twins, base)
    for _, other in (*twins.caches, *twins.members):
        rewriter.names(vars(other))
    for function in made.functions:
        rewriter.function(function)
    rewriter.each(made.classes)
    rewriter.each(made.others)
    rewriter.finish()
    rewriter.adopt()
    linked = {id(function) for _, function in twins.functions}
    for function in {**rewriter.functions, **{id(each): each for each in made.functions}}.values():
        globals_then = globals_of.get(id(function.__globals__))
        closure = rewriter.closure(function) if id(function) not in linked else None
        if globals_then is not None or closure is not None:
            _keep_globals(function)
            _live.set_globals(function, function.__globals__ if globals_then is None else globals_then, *([closure] if closure is not None else []))
    for before, function in twins.functions:
        _keep_registrations(before, function, twins)
    return rewriter


def _registries(rewriter: Rewriter, twins: Twins, base: type) -> None:
    """Containers in which a base class, elsewhere, notes who inherits from it."""
    for container in list(names_of(base).values()):
        if type(container) is list:
            there = set(map(id, container))
            for at, each in reversed(list(enumerate(container))):  # not remove(): a metaclass may take one class for another
                if twins.of(each) is not None and id(twins.of(each)) in there:
                    del container[at]
        if id(type(container)) in _CONTAINERS:
            rewriter.value(container)


def _keep_registrations(old: FunctionType, new: FunctionType, twins: Twins) -> None:
    """A singledispatch function keeps what modules that are not executed again have registered."""
    registry = getattr(new, "registry", None)
    if type(registry) is not types.MappingProxyType or not hasattr(new, "dispatch"):
        return
    for cls, implementation in list(getattr(old, "registry", {}).items()):
        if cls not in registry and not twins.old.owns(implementation):
            new.register(cls, implementation)  # type: ignore[attr-defined]
    new._clear_cache()  # type: ignore[attr-defined]


# --- the step ---


def _names(names: Any) -> dict[str, Any]:
    """Those of a dictionary that a program can say."""
    return {name: value for name, value in list(names.items()) if type(name) is str}


def _entries(old: _Names, new: _Names) -> list[Any]:
    """OLD gets to have what NEW has."""
    before, after = _names(old), _names(new)
    changes: list[Any] = [(old, name, value) for name, value in after.items() if name not in before or before[name] is not value]
    return changes + [(old, name) for name in before if name not in after]


def _of_twins(twins: Twins, rewriter: Rewriter) -> list[Any]:
    changes: list[Any] = [(cls, twins.bases[id(cls)]) for cls, _ in twins.classes if id(cls) in twins.bases]
    calls: list[Any] = []
    methods = bool(twins.bases)
    for cls, new in twins.classes:
        attributes = _attributes(cls, new, rewriter)
        changes += attributes
        methods |= any(len(each) == 2 or each[1] not in names_of(cls) for each in attributes)
        if isinstance(cls, abc.ABCMeta):
            calls.append((functools.partial(_abc._reset_caches, cls),))
            for reference in _abc._get_dump(new)[0]:
                if reference() is not None:
                    calls.append((functools.partial(_abc._abc_register, cls, twins.instead(reference())),))
    for before, after in twins.functions:
        if before.__globals__ is not after.__globals__:
            _keep_globals(before)
        closure = rewriter.closure(after)
        changes.append((before, after) if closure is None else (before, after, closure))
    for member, other in twins.members:
        changes += _entries(vars(member), vars(other))
    for cache, other in twins.caches:
        changes += _entries(vars(cache), vars(other))
        calls.append((cache.cache_clear,))
    return changes + calls + ([(_answer_again,)] if methods else [])


def _attributes(cls: type, new: type, rewriter: Rewriter) -> list[Any]:
    """CLS gets to have what its twin has."""
    before, after = names_of(cls), names_of(new)
    changes: list[Any] = []
    for name, value in list(after.items()):
        if type(name) is str and name not in OWN_NAMES and name != "__module__" and not of_layout(value):
            value = rewriter.value(value)
            if before.get(name, changes) is not value:
                changes.append((cls, name, value))
    return changes + [(cls, name) for name, value in list(before.items())
                      if name not in after and type(name) is str and name not in OWN_NAMES and not of_layout(value)]
