# SPDX-License-Identifier: MIT
"""What a module's body imports, read from its code object: the one place that a reload asks.

Bodies of functions are left out: what they import they look up each time they run.
"""
from __future__ import annotations

import opcode
from types import CodeType
from typing import NamedTuple

from ._chains import beginnings, chains_of

_OP = opcode.opmap
_NAME, _FROM, _EXTENDED, _CONST = _OP["IMPORT_NAME"], _OP["IMPORT_FROM"], _OP["EXTENDED_ARG"], _OP["LOAD_CONST"]
_SMALL = _OP.get("LOAD_SMALL_INT", -1)
_STORES = {_OP[name] for name in ("STORE_NAME", "STORE_GLOBAL")}
_OPTIMIZED = 1  # inspect.CO_OPTIMIZED: a function


class Imports(NamedTuple):
    modules: frozenset[str]  # whose name is bound, or all of whose names: import m, import m.n (both), from m import *
    names: frozenset[tuple[str, str]]  # from m import n
    bindings: tuple[tuple[str, str, str], ...]  # from m import n as k: (m, n, k)
    stars: tuple[str, ...]
    chains: frozenset[str] = frozenset()  # reached by attributes (_chains.py): what may be modules


def _argument(code: bytes, at: int) -> int:
    """That of the instruction at AT, with the EXTENDED_ARGs before it."""
    value, shift, at = code[at + 1], 8, at - 2
    while at >= 0 and code[at] == _EXTENDED:
        value |= code[at + 1] << shift
        shift, at = shift + 8, at - 2
    return value


def _start(code: bytes, at: int) -> int:
    while at >= 2 and code[at - 2] == _EXTENDED:
        at -= 2
    return at


def _second_name() -> int:
    code = compile("import a, b", "", "exec").co_code
    return _argument(code, 2 * code[::2].rindex(_NAME))


_SHIFT = 0 if _second_name() == 1 else 2  # 3.15 keeps flags in the low bits


def _constant(code: CodeType, raw: bytes, at: int) -> object:
    if raw[at] == _SMALL:
        return _argument(raw, at)
    return code.co_consts[_argument(raw, at)] if raw[at] == _CONST else None


def _absolute(name: str, level: object, package: str) -> str | None:
    if not isinstance(level, int) or level <= 0:
        return name
    base = package.rsplit(".", level - 1)
    if len(base) < level or not base[0]:
        return None  # beyond the top: an error when it is run
    return f"{base[0]}.{name}" if name else base[0]


def _body(code: CodeType, package: str, modules: set[str], names: set[tuple[str, str]], bindings: list[tuple[str, str, str]], stars: list[str],
          bases: dict[str, str]) -> None:
    raw = code.co_code
    operations = raw[::2]
    at = operations.find(_NAME)
    while at >= 0:
        place = 2 * at
        load = _start(raw, place) - 2  # fromlist, and before it level
        fromlist = _constant(code, raw, load)
        level = _constant(code, raw, _start(raw, load) - 2)
        name = _absolute(code.co_names[_argument(raw, place) >> _SHIFT], level, package)
        if name is None:
            pass
        elif not isinstance(fromlist, tuple):
            parts = name.split(".")
            modules.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
            alias = _first_store(code, raw, place + 2)
            bases[alias] = parts[0] if alias == parts[0] else name
        elif "*" in fromlist:
            modules.add(name)
            stars.append(name)
        else:
            names.update((name, each) for each in fromlist)
            _stored(code, raw, place + 2, name, bindings)
        at = operations.find(_NAME, at + 1)
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and (not constant.co_flags & _OPTIMIZED or constant.co_name.startswith("<generic parameters of ")):
            _body(constant, package, modules, names, bindings, stars, bases)


def _first_store(code: CodeType, raw: bytes, at: int) -> str:
    """The name that is given to what `import` has imported."""
    while at < len(raw) and raw[at] not in _STORES:
        at += 2
    return code.co_names[_argument(raw, at)] if at < len(raw) else ""


def _stored(code: CodeType, raw: bytes, at: int, module: str, bindings: list[tuple[str, str, str]]) -> None:
    """IMPORT_FROM n, STORE k, ... from AT on."""
    wanted = None
    while at < len(raw):
        if raw[at] == _FROM:
            wanted = code.co_names[_argument(raw, at)]
        elif raw[at] in _STORES and wanted is not None:
            bindings.append((module, wanted, code.co_names[_argument(raw, at)]))
            wanted = None
        elif raw[at] != _EXTENDED:
            return
        at += 2


def imports_of(code: CodeType, package: str) -> Imports:
    """CODE is a module's; PACKAGE is what its relative imports are relative to."""
    modules: set[str] = set()
    names: set[tuple[str, str]] = set()
    bindings: list[tuple[str, str, str]] = []
    stars: list[str] = []
    bases: dict[str, str] = {}
    _body(code, package, modules, names, bindings, stars, bases)
    bases.update((alias, f"{module}.{name}") for module, name, alias in bindings)
    return Imports(frozenset(modules), frozenset(names), tuple(bindings), tuple(stars), beginnings(chains_of(code, bases)))


NOTHING = Imports(frozenset(), frozenset(), (), ())
