# SPDX-License-Identifier: MIT
"""References to new functions, classes and modules become references to their twins, wherever new modules lead to them: policy *in place*.

What can be changed is changed where it is (lists, dictionaries, sets, closures, attributes of objects); what cannot (tuples, bound methods, generic aliases)
is made anew. Only what new bodies have made refers to new twins, so nothing else is ever changed. Objects of foreign classes are looked into, and those in them, no
further: there is no end to where they lead.
"""
from __future__ import annotations

import functools
import gc
import operator
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from ladewerk import _live
from ._twins import LEAVES, Side, flags_of, is_class, mro_of, names_of

FOREIGN = 2  # objects of foreign classes that are looked into, one in another
_MISSING: Any = object()


def _inert(values: Iterable[Any]) -> bool:
    """Nothing but numbers, strings and the like: large tables are to cost little."""
    return LEAVES.issuperset(map(id, map(type, values)))


class Rewriter:
    """``value(x)`` is what stands for X; ``finish()`` when all has been given to it."""

    def __init__(self, instead: Callable[[Any], Any], new: Side) -> None:
        self._instead, self._new = instead, new
        self._seen: dict[int, tuple[Any, Any]] = {}  # id -> (object, what stands for it)
        self._todo: list[tuple[Any, int]] = []
        self._level = 0  # foreign objects above the one in hand
        self.functions: dict[int, FunctionType] = {}  # by id
        self._slots: dict[int, list[Any]] = {}  # by the id of a class of something that is seen
        self._class_cells: dict[int, CellType] = {}  # by the cell that is seen (and so kept)
        self.instances: list[tuple[Any, type]] = []  # whose class has a twin

    def value(self, value: Any) -> Any:
        if id(type(value)) in LEAVES:
            return value
        twin = self._instead(value)
        if twin is not value:
            return twin
        known = self._seen.get(id(value))
        if known is not None:
            return known[1]
        self._seen[id(value)] = value, value
        make = _MAKERS.get(id(type(value)))
        if make is not None:
            made = make(self, value)
        elif issubclass(type(value), (tuple, frozenset)):  # not isinstance(): proxies may answer that with an error
            made = self._members(value)
        else:
            self._todo.append((value, self._level))
            return value
        if made is not value:
            self._seen[id(value)] = value, made
        return made

    def finish(self) -> None:
        while self._todo:
            value, self._level = self._todo.pop()
            self._look_into(value)
        self._level = 0

    def each(self, values: Iterable[Any]) -> list[Any]:
        return [self.value(each) for each in values]

    # --- made anew ---

    def _members(self, value: Any) -> Any:
        self._instance(value)
        members = list(tuple.__iter__(value) if isinstance(value, tuple) else frozenset.__iter__(value))
        made = members if _inert(members) else self.each(members)
        if all(map(operator.is_, members, made)):
            return value
        base: Any = tuple if isinstance(value, tuple) else frozenset
        return base.__new__(self._instead(type(value)), made)

    def _method(self, value: MethodType) -> Any:
        function, of = self.value(value.__func__), self.value(value.__self__)
        return value if function is value.__func__ and of is value.__self__ else MethodType(function, of)

    def _alias(self, value: types.GenericAlias) -> Any:
        origin, arguments = self.value(value.__origin__), self.value(value.__args__)
        return value if origin is value.__origin__ and arguments is value.__args__ else types.GenericAlias(origin, arguments)

    def _union(self, value: Any) -> Any:
        arguments = self.value(value.__args__)
        return value if arguments is value.__args__ else functools.reduce(operator.or_, arguments)

    def _static(self, value: Any) -> Any:
        function = self.value(value.__func__)
        if function is not value.__func__:
            value.__init__(function)
        return value

    def _reference(self, value: Any) -> Any:
        referent = value()
        twin = referent if referent is None else self._instead(referent)
        return value if twin is referent or value.__callback__ is not None else weakref.ref(twin)

    # --- changed where they are ---

    def _look_into(self, value: Any) -> None:
        kind = type(value)
        look = _LOOKERS.get(id(kind)) or next((_LOOKERS[id(base)] for base in _OPEN if issubclass(kind, base)), None)
        if look is not None:
            look(self, value)
        elif is_class(value):
            self._class(value)
            return
        elif issubclass(kind, ModuleType):
            return
        if id(kind) not in _PLAIN:
            self._object(value)

    def _dict(self, names: dict[Any, Any]) -> None:
        self.names(names)
        if isinstance(names, defaultdict):
            names.default_factory = self.value(names.default_factory)

    def names(self, names: dict[Any, Any]) -> None:
        """What a dictionary has."""
        base: Any = OrderedDict if isinstance(names, OrderedDict) else dict
        items = list(base.items(names))
        if _inert(list(base.keys(names))):
            for key, before in [] if _inert(list(base.values(names))) else items:
                after = self.value(before)
                if after is not before:
                    base.__setitem__(names, key, after)
            return
        made = [(self.value(key), self.value(value)) for key, value in items]
        if any(before[0] is not after[0] for before, after in zip(items, made)):
            base.clear(names)
            items = [(_MISSING, _MISSING)] * len(made)
        for (_, before), (key, after) in zip(items, made):
            if before is not after:
                base.__setitem__(names, key, after)

    def _list(self, value: Any) -> None:
        base: Any = list if issubclass(type(value), list) else deque
        members = list(base.__iter__(value))
        for at, each in enumerate([] if _inert(members) else members):
            made = self.value(each)
            if made is not each:
                base.__setitem__(value, at, made)

    def _set(self, value: set[Any]) -> None:
        members = list(set.__iter__(value))
        for each in [] if _inert(members) else members:
            made = self.value(each)
            if made is not each:
                set.discard(value, each)
                set.add(value, made)

    def _cell(self, cell: CellType) -> None:
        try:
            before = cell.cell_contents
        except ValueError:
            return
        made = self.value(before)
        if made is not before:
            cell.cell_contents = made

    def function(self, function: FunctionType) -> None:
        """What a function refers to, besides its global names. Not for foreign ones, unless somebody's call has made them."""
        if id(function) in self.functions or (not self._new.owns(function, 0) and "<locals>" not in function.__qualname__):
            return
        self.functions[id(function)] = function
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            if name == "__class__":
                self._seen[id(cell)] = cell, cell  # see closure()
        names = function.__globals__, getattr(function, "__builtins__", None)
        for each in gc.get_referents(function):
            if type(each) is dict:
                if each is not names[0] and each is not names[1]:
                    self.value(each)  # attributes, defaults, annotations
            elif type(each) is tuple:
                self._part(function, each)
            elif type(each) is FunctionType:
                self.value(each)  # __annotate__

    def _part(self, function: FunctionType, part: tuple[Any, ...]) -> None:
        """Its closure, defaults, type parameters, or annotations that nobody has looked at."""
        made = self.value(part)
        if made is part:
            return
        if part is function.__defaults__:
            function.__defaults__ = made
        elif part is getattr(function, "__type_params__", None):
            function.__type_params__ = made  # type: ignore[attr-defined, unused-ignore]
        else:
            self.value(function.__annotations__)

    def closure(self, function: FunctionType) -> tuple[CellType, ...] | None:
        """What FUNCTION's is to be, for super(), where it is of a class with a twin. Its own is left alone: whoever elsewhere has the new class can go on to use it."""
        if not function.__closure__:
            return None
        names, own = function.__code__.co_freevars, function.__closure__
        made = tuple(self._class_cell(cell) if name == "__class__" else cell for name, cell in zip(names, own))
        return None if all(map(operator.is_, own, made)) else made

    def _class_cell(self, cell: CellType) -> CellType:
        known = self._class_cells.get(id(cell))
        if known is None:
            try:
                twin = self._instead(cell.cell_contents)
                known = cell if twin is cell.cell_contents else CellType(twin)
            except ValueError:
                known = cell
            self._class_cells[id(cell)] = known
        return known

    def _class(self, cls: type) -> None:
        """A class without twin: what it has. (One with a twin is that one's business; a foreign one is nobody's.)"""
        if not self._new.owns(cls):
            return
        self._instance(cls)
        for name, value in list(names_of(cls).items()):
            made = self.value(value)
            if made is not value:
                type.__setattr__(cls, name, made)

    def _property(self, value: property) -> None:
        before = value.fget, value.fset, value.fdel
        made = tuple(self.each(before))
        if not all(map(operator.is_, before, made)):
            name = getattr(value, "__name__", None) if hasattr(property, "__name__") else None
            set_parts: Any = property.__init__
            set_parts(value, *made, value.__doc__)  # (not the old function's)
            if name is not None:
                value.__name__ = name  # type: ignore[attr-defined, unused-ignore]

    def _partial(self, value: functools.partial[Any]) -> None:
        before = value.func, value.args
        made = tuple(self.each(before))
        self.value(value.keywords)
        if not all(map(operator.is_, before, made)):
            value.__setstate__((*made, value.keywords, vars(value)))  # type: ignore[attr-defined]

    def _weak(self, value: Any) -> None:
        if isinstance(value, weakref.WeakSet):
            for each in list(value):
                if self._instead(each) is not each:
                    value.discard(each)
                    value.add(self._instead(each))
        else:
            for key, each in list(value.items()):
                made = self.value(each)
                if self._instead(key) is not key:
                    del value[key]
                if self._instead(key) is not key or made is not each:
                    value[self._instead(key)] = made

    def _instance(self, value: Any) -> None:
        twin = self._instead(type(value))
        if twin is not type(value):
            self.instances.append((value, twin))

    def _object(self, value: Any) -> None:
        """Attributes, and whatever else it refers to."""
        self._instance(value)
        if not self._new.owns(type(value)):
            if self._level >= FOREIGN:
                return
            self._level += 1
        try:
            names = object.__getattribute__(value, "__dict__")
        except Exception:  # it has none, or says so in its own way
            names = None
        if type(names) is dict:
            self.names(names)
        for member in self._slots_of(type(value)):
            self._slot(value, member)
        for each in gc.get_referents(value):
            if each is not type(value) and each is not names:
                self.value(each)

    def _slots_of(self, cls: type) -> list[Any]:
        """Not those of built-in classes."""
        known = self._slots.get(id(cls))
        if known is None:
            those = [each for base in mro_of(cls) if flags_of(base) & 1 << 9 for each in list(names_of(base).values())]
            known = self._slots[id(cls)] = [each for each in those if type(each) is types.MemberDescriptorType]
        return known

    def _slot(self, value: Any, member: Any) -> None:
        try:
            before = member.__get__(value)
            made = self.value(before)
            if made is not before:
                member.__set__(value, made)
        except AttributeError:
            pass

    def adopt(self) -> None:
        """The instances get the class that stays."""
        for value, twin in self.instances:
            if type(value) is not twin:
                _live.set_class(value, twin)


# By the id of the type.
_MAKERS: dict[int, Callable[[Rewriter, Any], Any]] = {
    id(MethodType): Rewriter._method,
    id(types.GenericAlias): Rewriter._alias,
    id(types.UnionType): Rewriter._union,
    id(staticmethod): Rewriter._static,
    id(classmethod): Rewriter._static,
    id(weakref.ReferenceType): Rewriter._reference,
}
_LOOKERS: dict[int, Callable[[Rewriter, Any], None]] = {
    id(dict): Rewriter._dict,
    id(FunctionType): Rewriter.function,
    id(CellType): Rewriter._cell,
    id(list): Rewriter._list,
    id(deque): Rewriter._list,
    id(set): Rewriter._set,
    id(property): Rewriter._property,
    id(functools.partial): Rewriter._partial,
    id(weakref.WeakSet): Rewriter._weak,
    id(weakref.WeakKeyDictionary): Rewriter._weak,
    id(weakref.WeakValueDictionary): Rewriter._weak,
}
_OPEN: tuple[type, ...] = (dict, list, set, deque, property)  # of which classes that inherit from them are looked into in the same way
_PLAIN = frozenset(map(id, (dict, list, set, deque, defaultdict, OrderedDict, FunctionType, CellType, property, functools.partial,
                    weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)))
