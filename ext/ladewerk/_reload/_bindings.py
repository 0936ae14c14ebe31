# SPDX-License-Identifier: MIT
"""The step's changes beside sys.modules and the packages: names in modules that are not executed again, and what old modules keep."""
from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ladewerk import _live
from ladewerk._imports import NOTHING
from ._errors import failure
from ._sources import Record, own

if TYPE_CHECKING:
    from ._transaction import Transaction

_MISSING: Any = object()


def by_other_names(transaction: Transaction, name: str) -> list[Any]:
    """Where a module is known by other names, or what it defines is bound in a package (Share)."""
    changes: list[Any] = []
    old, new = transaction.old.get(name, _MISSING), transaction.final(name) if name in transaction.new else _MISSING
    for alias in transaction.share.others(name):
        if sys.modules.get(alias, _MISSING) is old and old is not _MISSING and alias not in transaction.new:
            changes.append((sys.modules, alias) if new is _MISSING or transaction.share.canonical(alias) != name else (sys.modules, alias, new))
    for alias in transaction.sources.aliases.get(name, ()) if new is not _MISSING else ():
        if alias not in transaction.new and alias not in transaction.gone and sys.modules.get(alias, _MISSING) is old:
            changes.append((sys.modules, alias, new))
            changes += _in_parent(transaction, alias, old, new)
    for parent, child, defined in transaction.share.bindings(name):
        package = sys.modules.get(parent)
        if not isinstance(package, ModuleType) or parent in transaction.new or parent in transaction.gone or (name in transaction.gone and f"{parent}.{child}" in transaction.new):
            continue
        names = object.__getattribute__(package, "__dict__")
        was = transaction.dicts.get(name, {}).get(defined, _MISSING) if defined else old
        now = own(transaction.new[name], defined, _MISSING) if defined and new is not _MISSING else new
        if was is not _MISSING and names.get(child, _MISSING) is was:
            changes.append((names, child) if now is _MISSING else (names, child, now))
    return changes


def _in_parent(transaction: Transaction, name: str, old: Any, new: Any) -> list[Any]:
    parent, _, child = name.rpartition(".")
    package = sys.modules.get(parent)
    if isinstance(package, ModuleType) and parent not in transaction.new and parent not in transaction.gone:
        names = object.__getattribute__(package, "__dict__")
        if names.get(child, _MISSING) is old:
            return [(names, child, new)]
    return []


def rebound(transaction: Transaction) -> list[Any]:
    """Names in modules that are not executed again. ReloadError: one that such a module imports is gone."""
    changes: list[Any] = []
    replacements = {id(transaction.old[each]): transaction.final(each) for each in transaction.new if each in transaction.old}
    for name in sorted(transaction.sources.odd | transaction.plan.kept):
        record, module = transaction.sources.records.get(name), sys.modules.get(name)
        if record is not None and isinstance(module, ModuleType):
            changes += _rebound_in(transaction, record, object.__getattribute__(module, "__dict__"), replacements)
    return changes


def _rebound_in(transaction: Transaction, record: Record, names: dict[str, Any], replacements: dict[int, Any]) -> list[Any]:
    """In the module of RECORD, which has NAMES. REPLACEMENTS: id of a module -> the one that takes its place."""
    changes: list[Any] = []
    wanted: dict[str, Any] = {}
    for key, value in list(names.items()):
        other = replacements.get(id(value))
        if other is None:
            other = _same_definition(transaction, value)
        if other is not None and other is not value:
            wanted[key] = other
    imports = record.imports or NOTHING
    for source, attribute, alias in imports.bindings:
        if source not in transaction.new or source not in transaction.dicts or alias in wanted or f"{source}.{attribute}" in transaction.old:
            continue
        before = transaction.dicts[source].get(attribute, _MISSING)
        if before is _MISSING or names.get(alias, _MISSING) is not before:
            continue
        after = getattr(transaction.new[source], attribute, _MISSING)
        if after is _MISSING:
            error = ImportError(f"cannot import name {attribute!r} from {source!r}", name=source)
            raise failure(record.name, record.path, error, (record.name,)) from error
        wanted[alias] = after
    for source in imports.stars:
        changes += _rebound_star(transaction, source, names, wanted)
    return changes + [(names, key, value) for key, value in wanted.items()]


def _same_definition(transaction: Transaction, value: Any) -> Any:
    """The new function or class of the same name, if VALUE is one that a replaced module defined and has."""
    if not issubclass(type(value), (type, type(failure))):  # not isinstance(): proxies may answer that with an error
        return None
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in transaction.new or transaction.dicts.get(module, {}).get(name) is not value:
        return None
    return getattr(transaction.new[module], name, None)


def _rebound_star(transaction: Transaction, source: str, names: dict[str, Any], wanted: dict[str, Any]) -> list[Any]:
    """Of `from SOURCE import *`: WANTED gets what is to be bound; -> the changes for what is gone."""
    changes: list[Any] = []
    if source not in transaction.new or source not in transaction.dicts:
        return changes
    old, new = transaction.dicts[source], vars(transaction.new[source])
    for key, value in list(old.items()):
        if not key.startswith("_") and names.get(key, _MISSING) is value and key not in new:
            changes.append((names, key))
    for key in new.get("__all__", [key for key in new if not key.startswith("_")]):
        if key in new and key not in wanted and (key not in names or names[key] is old.get(key, _MISSING)):
            wanted[key] = new[key]
    return changes


def retired(transaction: Transaction) -> list[Any]:
    """Old modules keep old children: a package that stays, and that an old module has bound by `import package.child`, is for it a copy with what it had."""
    copies: dict[int, ModuleType] = {}
    stay: dict[str, ModuleType] = {}
    for name in (*transaction.new, *transaction.gone):
        parent = name.rpartition(".")[0]
        while parent:
            package = sys.modules.get(parent)
            if parent not in transaction.new and parent not in transaction.gone and isinstance(package, ModuleType):
                stay[parent] = package
            parent = parent.rpartition(".")[0]
    if not stay:
        return []
    packages = {id(package): name for name, package in stay.items()}
    return [(names, key, _copy(name, stay, copies)) for names, key, name in _live.bound(list(transaction.dicts.values()), packages)]


def _copy(name: str, stay: dict[str, ModuleType], copies: dict[int, ModuleType]) -> ModuleType:
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
                    vars(copy)[child] = _copy(below, stay, copies)
    return copy
