# SPDX-License-Identifier: MIT
"""Which function or class of new modules is which of the old: policy *in place*. Looks, and changes nothing.

Twins are found by name: what module and class have by the same name, of the same kind and ``__qualname__``, both defined by these modules; then what these
are made of (the function in a staticmethod, a property, an lru_cache; those in closures of decorators; members of classes and enums). A class that cannot
take the contents of its twin has none, and neither has what is in it.
"""
from __future__ import annotations

import enum
import functools
import operator
import sys
from collections.abc import Callable, Iterable
from types import (BuiltinFunctionType, CodeType, CoroutineType, FrameType, FunctionType, GeneratorType, GetSetDescriptorType, MemberDescriptorType,
                   MethodDescriptorType, ModuleType, WrapperDescriptorType)
from typing import Any

from ladewerk import _live

LRU = type(functools.lru_cache(maxsize=1)(lambda: None))
# Of these, parts that are functions have twins; the object itself is new.
_PARTS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools.partial: ("func",),
    functools.partialmethod: ("func",),
    functools.singledispatchmethod: ("func", "dispatcher"),
}
# Types are told apart by their ids: a metaclass may have an __eq__ of its own, and no __hash__.
# Of these nothing has a twin, and they refer to nothing that has.
LEAVES = frozenset(map(id, (int, str, bytes, float, complex, bool, type(None), type(Ellipsis), CodeType, BuiltinFunctionType, MemberDescriptorType,
                    GetSetDescriptorType, WrapperDescriptorType, MethodDescriptorType, FrameType, GeneratorType, CoroutineType)))
_CALLED = frozenset((id(FunctionType), id(LRU)))
# What others have told a class (registrations): never taken from another.
OWN_NAMES = frozenset(("_abc_impl",))
# Bits of __flags__ that say how instances are made and what they are: all but those that come and go.
_LAYOUT_FLAGS = 0b1111_1111_1100_0000_0100_0000_1111_1100
_MEMBER, _GETSET = type(FunctionType.__closure__), type(FunctionType.__code__)
_mro = type.__dict__["mro"]
# What classes say of themselves, past a __getattribute__ of their metaclass.
mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
bases_of: Callable[[type], tuple[type, ...]] = type.__dict__["__bases__"].__get__
names_of: Callable[[type], Any] = type.__dict__["__dict__"].__get__
qualname_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_basicsize, _itemsize, _dictoffset, _weakrefoffset = (type.__dict__[name].__get__ for name in ("__basicsize__", "__itemsize__", "__dictoffset__", "__weakrefoffset__"))
flags_of: Callable[[type], int] = type.__dict__["__flags__"].__get__


def layout(cls: type) -> tuple[Any, ...]:
    """What must be the same for instances of one to be instances of another."""
    names = names_of(cls)
    slots = sorted([name for name, value in names.items() if type(value) is _MEMBER]) if id(_MEMBER) in map(id, map(type, list(names.values()))) else []
    fields = getattr(cls, "_fields", None) if issubclass(cls, tuple) else None  # of a NamedTuple
    return _basicsize(cls), _itemsize(cls), _dictoffset(cls), _weakrefoffset(cls), flags_of(cls) & _LAYOUT_FLAGS, slots, fields


def is_class(value: Any) -> bool:
    """Not isinstance(): proxies may answer that with an error."""
    return issubclass(type(value), type)


def same(some: tuple[type, ...], others: tuple[type, ...]) -> bool:
    """Whether these are the same classes: a metaclass may answer ``==`` as it likes."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def module_of(cls: type) -> str:
    """What CLASS says, if it is a name at all."""
    name = names_of(cls).get("__module__")
    return name if type(name) is str else ""


def of_layout(value: Any) -> bool:
    return type(value) is _MEMBER or type(value) is _GETSET


def cells(function: FunctionType) -> dict[str, Any]:
    """What its free variables are, where they are something."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            pass
    return found


class Side:
    """The old modules, or the new: their names, and what they have defined."""

    def __init__(self, modules: dict[str, dict[str, Any]]) -> None:
        self.modules = modules
        self._ids = {id(names) for names in modules.values()}
        self._classes: dict[int, tuple[type, bool]] = {}

    def owns(self, value: Any, depth: int = 3) -> bool:
        """Whether the bodies of these modules have made VALUE, a function or class; wrappers from elsewhere by what they wrap."""
        if type(value) is FunctionType:
            if id(value.__globals__) in self._ids or value.__module__ in self.modules:
                return True
            return depth > 0 and any(self.owns(each, depth - 1) for each in cells(value).values())
        if is_class(value):
            return self._owns_class(value)
        return type(value) is LRU and self.owns(getattr(value, "__wrapped__", None))

    def _owns_class(self, cls: type) -> bool:
        known = self._classes.get(id(cls))
        if known is None:
            known = self._classes[id(cls)] = cls, module_of(cls) in self.modules or any(self._made(each) for each in list(names_of(cls).values()))
        return known[1]

    def _made(self, value: Any) -> bool:
        return type(value) is FunctionType and id(value.__globals__) in self._ids

    def find(self, cls: type) -> Any:
        """What these modules have by the name that CLASS was defined by."""
        names: Any = self.modules.get(module_of(cls))
        found: Any = None
        for part in qualname_of(cls).split("."):
            found = names.get(part) if names is not None else None
            names = names_of(found) if is_class(found) else None
        return found


class Twins:
    """``of(new)`` is the old one that takes its contents, or None."""

    def __init__(self, old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]], refused: set[int]) -> None:
        self.old, self.new = Side(old), Side(new)
        self._refused = refused  # ids of new classes that must have none
        self._by_id: dict[int, tuple[Any, Any]] = {}
        self._taken: set[int] = set()
        self._decided: set[int] = set()
        self._module_globals: dict[int, bool] = {}
        self._parts: dict[int, tuple[str, ...] | None] = {}  # by the type's id
        self.functions: list[tuple[FunctionType, FunctionType]] = []  # (old, new)
        self.classes: list[tuple[type, type]] = []  # bases first
        self.caches: list[tuple[Any, Any]] = []
        self.members: list[tuple[Any, Any]] = []  # of enums
        self.replaced: list[str] = []
        self.bases: dict[int, tuple[type, ...]] = {}  # by the old class: what it has from then on, where that changes
        for name in new:
            self._by_name(old[name], new[name])
        for name in new:
            self._note_replaced(name)

    def of(self, new: Any) -> Any:
        pair = self._by_id.get(id(new))
        return None if pair is None else pair[1]

    def instead(self, new: Any) -> Any:
        """The twin, or NEW."""
        pair = self._by_id.get(id(new))
        return new if pair is None else pair[1]

    def bases_instead(self, new: type) -> tuple[type, ...]:
        """The bases of NEW, twins for those that have one."""
        return tuple([self.instead(each) for each in bases_of(new)])

    def link(self, old: Any, new: Any) -> None:
        self._by_id[id(new)] = new, old
        self._taken.add(id(old))

    def _by_name(self, old: Any, new: Any) -> None:
        for name, value in list(new.items()):
            if id(type(value)) not in LEAVES and name in old and name not in OWN_NAMES:
                self._pair(old[name], value)

    def _note_replaced(self, module: str) -> None:
        new = self.new.modules[module]
        for name, value in self.old.modules[module].items():
            kept = id(value) in self._taken or new.get(name, value) is value
            if not kept and is_class(value) and module_of(value) == module:
                self.replaced.append(f"{module}.{qualname_of(value)}")
            elif not kept and id(type(value)) in _CALLED and value.__module__ == module:
                self.replaced.append(f"{module}.{value.__qualname__}")

    def _pair(self, old: Any, new: Any) -> None:
        if old is new or id(new) in self._by_id or id(old) in self._taken:
            return
        if type(old) is type(new) is FunctionType:
            self._pair_functions(old, new)
        elif is_class(new) and is_class(old):
            self._pair_classes(old, new)
        elif type(old) is not type(new):
            return
        elif type(new) is LRU:
            self._pair_caches(old, new)
        else:
            self._pair_parts(old, new)

    def _pair_functions(self, old: FunctionType, new: FunctionType) -> None:
        if old.__qualname__ != new.__qualname__ or not self.old.owns(old) or not self.new.owns(new) or not self._of_module(old):
            return
        self.link(old, new)
        self.functions.append((old, new))
        if old.__closure__ and new.__closure__:
            self._by_name(cells(old), cells(new))
        wrapped = getattr(new, "__wrapped__", None)
        if wrapped is not None:
            self._pair(getattr(old, "__wrapped__", None), wrapped)

    def _pair_caches(self, old: Any, new: Any) -> None:
        before, after = getattr(old, "__wrapped__", None), getattr(new, "__wrapped__", None)
        if not hasattr(old, "cache_parameters") or not hasattr(new, "cache_parameters") or old.cache_parameters() != new.cache_parameters():
            return
        self._pair(before, after)
        if self.of(after) is before and before is not None:
            self.link(old, new)
            self.caches.append((old, new))

    def _pair_parts(self, old: Any, new: Any) -> None:
        parts = self._parts_of(type(new))
        if parts is not None:
            for part in parts:
                self._pair(getattr(old, part, None), getattr(new, part, None))
            return
        if issubclass(type(new), ModuleType):
            return
        try:  # a decorator that is an object
            before, after = object.__getattribute__(old, "__dict__"), object.__getattribute__(new, "__dict__")
        except Exception:
            return
        if type(before) is dict and type(after) is dict and "__wrapped__" in before and "__wrapped__" in after:
            self._pair(before["__wrapped__"], after["__wrapped__"])

    def _parts_of(self, kind: type) -> tuple[str, ...] | None:
        if id(kind) not in self._parts:
            self._parts[id(kind)] = next((parts for base, parts in _PARTS.items() if issubclass(kind, base)), None)
        return self._parts[id(kind)]

    def _of_module(self, function: FunctionType) -> bool:
        """Whether its global names are a module's. Those of a function that exec() has made may be its own: frames borrow them."""
        names = function.__globals__
        known = self._module_globals.get(id(names))
        if known is None:
            known = self._module_globals[id(names)] = _are_of_module(names)
        return known

    # --- classes ---

    def _pair_classes(self, old: type, new: type) -> None:
        if id(new) in self._decided:
            return
        self._decided.add(id(new))
        if qualname_of(old) != qualname_of(new) or module_of(old) != module_of(new) or not self.old.owns(old) or not self.new.owns(new):
            return
        for each in (*bases_of(new), type(new)):
            if each is not object and each is not type:
                self._decide(each)
        for before, after in zip(bases_of(old), bases_of(new)):  # that have no name of their own: class P(namedtuple("P", ...))
            self._pair(before, after)
        if id(new) in self._refused or self.instead(type(new)) is not type(old) or layout(old) != layout(new) or not self._same_maker(old, new):
            return
        bases = self.bases_instead(new)
        if not same(bases, bases_of(old)):
            if not rebasable(old, bases):
                return
            self.bases[id(old)] = bases
        self.link(old, new)
        self.classes.append((old, new))
        self._by_name(names_of(old), names_of(new))
        if isinstance(new, enum.EnumMeta):
            self._pair_members(old, new)

    def _decide(self, new: type) -> None:
        """Find the twin of a class of the new modules, if it has one."""
        if id(new) not in self._decided and self.new.owns(new):
            old = self.old.find(new)
            if is_class(old) and self.new.find(new) is new:
                self._pair(old, new)

    @staticmethod
    def _same_maker(old: type, new: type) -> bool:
        """CPython does not find the way back from a ``__new__`` to none."""
        return "__new__" not in names_of(old) or "__new__" in names_of(new)

    def _pair_members(self, old: Any, new: Any) -> None:
        for name, member in new.__members__.items():
            before = old.__members__.get(name)
            if before is None or member.name != name or not self._same_value(before, member):
                continue
            self.link(before, member)
            self.members.append((before, member))

    def _same_value(self, old: Any, new: Any) -> bool:
        try:
            return self.instead(type(new._value_)) is type(old._value_) and bool(old._value_ == new._value_)
        except Exception:
            return False


def _are_of_module(names: dict[str, Any]) -> bool:
    name = names.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    return issubclass(type(module), ModuleType) and object.__getattribute__(module, "__dict__") is names


def rebasable(cls: type, bases: tuple[type, ...]) -> bool:
    plain: Callable[..., Any] = getattr(type(cls), "mro")
    return plain is _mro and _live.can_rebase(cls, bases)


def defined(names: Iterable[Any], owns: Callable[[Any], bool], found: dict[int, type]) -> dict[int, type]:
    """The classes among NAMES, and in these, that are owned."""
    for each in names:
        if id(type(each)) not in LEAVES and is_class(each) and id(each) not in found and owns(each):
            found[id(each)] = each
            defined(list(names_of(each).values()), owns, found)
    return found
