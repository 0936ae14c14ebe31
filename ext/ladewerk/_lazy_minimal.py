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


class Narrow:
    """From packages to rules. WILL_DO is asked about lists of rules ("NAME", "of NAME", "in NAME")."""

    MANY = 4  # modules below a package for which a line each is still better than one for the package

    def __init__(self, names: Collection[str], will_do: Callable[[Sequence[str]], bool]) -> None:
        self._names, self._will_do = names, will_do

    def rules(self, packages: Sequence[str]) -> list[str]:
        """As narrow as they can be, one package after the other."""
        found = list(packages)
        for package in packages:
            others = [rule for rule in found if rule != package]
            found = others + self._one(package, others)
        return found

    def _one(self, package: str, others: Sequence[str]) -> list[str]:
        for kind in ("of ", "in "):
            if self._will_do([*others, kind + package]):
                return self._below(kind, package, others)
        return [package]

    def _below(self, kind: str, name: str, others: Sequence[str]) -> list[str]:
        candidates = [kind + child for child in children(name, self._names)]
        if not candidates or not self._will_do([*others, *candidates]):
            return [kind + name]
        few = minimal(candidates, lambda some: self._will_do([*others, *some]))
        if len(few) > self.MANY:
            return [kind + name]
        found: list[str] = []
        for at, one in enumerate(few):
            found += self._below(kind, one.removeprefix(kind), [*others, *found, *few[at + 1:]])
        return found if len(found) <= self.MANY else [kind + name]
