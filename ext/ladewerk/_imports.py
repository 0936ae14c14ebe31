# SPDX-License-Identifier: MIT
"""What a module imports, by its full names, read from its code object: for reloads and for the registry."""
from __future__ import annotations

from types import CodeType
from typing import NamedTuple

from ladewerk import _live
from ladewerk._chains import beginnings, chains_of


class Imports(NamedTuple):
    """What the body of a module imports. Bodies of functions are left out: what they import they look up each time they run."""

    modules: frozenset[str]  # whose name is bound, or all of whose names: import m, import m.n (both), from m import *
    names: frozenset[tuple[str, str]]  # from m import n
    bindings: tuple[tuple[str, str, str], ...]  # from m import n as k: (m, n, k)
    stars: tuple[str, ...]
    chains: frozenset[str] = frozenset()  # reached by attributes (_chains.py): what may be modules


NOTHING = Imports(frozenset(), frozenset(), (), ())


def absolute(level: int, name: str, package: str) -> str | None:
    """The full name of what an import of LEVEL dots and NAME means in PACKAGE; None: it is beyond the top, an error when it is run."""
    if not level:
        return name
    base = package.rsplit(".", level - 1)
    if len(base) < level or not base[0]:
        return None
    return f"{base[0]}.{name}" if name else base[0]


def and_above(name: str) -> list[str]:
    """NAME, and the packages above it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def imports_of(code: CodeType, package: str) -> Imports:
    """CODE is a module's; PACKAGE is what its relative imports are relative to."""
    modules: set[str] = set()
    names: set[tuple[str, str]] = set()
    bindings: list[tuple[str, str, str]] = []
    stars: list[str] = []
    bases: dict[str, str] = {}
    for level, said, fromlist, bound, _ in _live.statements(code, False):
        name = absolute(level, said, package)
        if name is None:
            continue
        if fromlist is None:
            modules.update(and_above(name))
            bases.update((alias, name if alias != name.partition(".")[0] else alias) for _, alias in bound)
        elif "*" in fromlist:
            modules.add(name)
            stars.append(name)
        else:
            names.update((name, each) for each in fromlist)
            bindings += ((name, each, alias) for each, alias in bound)
            bases.update((alias, f"{name}.{each}") for each, alias in bound)
    return Imports(frozenset(modules), frozenset(names), tuple(bindings), tuple(stars), beginnings(chains_of(code, bases)))
