# SPDX-License-Identifier: MIT
"""The smallest set that will do, found by trying: delta debugging (ddmin; Zeller and Hildebrandt 2002), and names of modules, coarse before fine."""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence


def minimal(items: Sequence[str], will_do: Callable[[Sequence[str]], bool]) -> list[str]:
    """Of ITEMS, all of which will do, as few as will: none of them can be left out. In the order of ITEMS."""
    rest, parts = list(items), 2
    while len(rest) > 1:
        size = -(-len(rest) // parts)
        chunks = [rest[at:at + size] for at in range(0, len(rest), size)]
        others = [[item for item in rest if item not in chunk] for chunk in chunks] if len(chunks) > 2 else []
        if (found := next((chunk for chunk in chunks if will_do(chunk)), None)) is not None:
            rest, parts = found, 2
        elif (found := next((other for other in others if will_do(other)), None)) is not None:
            rest, parts = found, max(len(chunks) - 1, 2)
        elif len(chunks) == len(rest):
            break
        else:
            parts = min(2 * parts, len(rest))
    return rest


def tops(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def children(name: str, names: Collection[str]) -> list[str]:
    """What of NAMES, or of what they are below, is directly below NAME."""
    depth = name.count(".") + 2
    return list(dict.fromkeys(".".join(one.split(".")[:depth]) for one in names if one.startswith(name + ".")))


#: Modules below a package for which a line each is still better than one for the package.
MANY = 4
#: How often a command may be run to find these, for each time that their number can be halved: two of four take some 20 in all.
RUNS = 6


def rules(names: Collection[str], will_do: Callable[[Sequence[str]], bool]) -> list[str] | None:
    """
    Which imports among modules called NAMES must be eager, as few and narrow rules: "of NAME", imports of it; where these would be many, "in NAME", those that it makes.
    None: not even all of them will do.
    """
    found = _of_kind("of ", names, will_do)
    if found is not None and len(found) > MANY:
        makers = _of_kind("in ", names, will_do)
        found = makers if makers is not None and len(makers) < len(found) else found
    return found


def _of_kind(kind: str, names: Collection[str], will_do: Callable[[Sequence[str]], bool]) -> list[str] | None:
    candidates = [kind + name for name in tops(names)]
    if not candidates or not will_do(candidates):
        return None
    found = minimal(candidates, will_do)
    for rule in list(found):
        others = [one for one in found if one != rule]
        found = others + _below(kind, rule.removeprefix(kind), names, lambda some: will_do([*others, *some]))
    return found


class _TooDear(Exception):
    pass


def _at_most(runs: int, will_do: Callable[[Sequence[str]], bool]) -> Callable[[Sequence[str]], bool]:
    def counted(some: Sequence[str]) -> bool:
        nonlocal runs
        runs -= 1
        if runs < 0:
            raise _TooDear
        return will_do(some)
    return counted


def _below(kind: str, name: str, names: Collection[str], will_do: Callable[[Sequence[str]], bool]) -> list[str]:
    """NAME, or modules below it where few of these will do: many take many runs to find, and are given up before."""
    candidates = [kind + child for child in children(name, names)]
    if not candidates or not will_do(candidates):
        return [kind + name]
    try:
        few = minimal(candidates, _at_most(RUNS * len(candidates).bit_length(), will_do))
    except _TooDear:
        return [kind + name]
    found: list[str] = []
    for at, rule in enumerate(few):
        others = [*found, *few[at + 1:]]
        found += _below(kind, rule.removeprefix(kind), names, lambda some: will_do([*others, *some]))
    return found if len(found) <= MANY else [kind + name]
