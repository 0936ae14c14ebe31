# SPDX-License-Identifier: MIT
"""The sides of a comparison, each with its environments.

`before` is the revision and `after` the checkout; `again` is the revision's environment once more, with caches of its own: the A/A control.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import suite
import workloads
from environments import Environments, directory
from importing import measuring
from pythons import Found
from rows import Session
from sections import Interpreter, Place

SIDES = ("before", "again", "after")


@dataclass(frozen=True)
class Trees:
    """The source trees of both builds. SETTINGS are the checkout's alone, as Environments has them."""

    before: Path
    after: Path
    settings: Mapping[str, str]


def sides_of(found: Found, build: Path, trees: Trees, needs: frozenset[str]) -> list[Interpreter]:
    """One interpreter, once for each of SIDES. What could not be made is in the failures of each."""
    home = directory(build, found.key, found.base)
    before = Environments(found.python, home / "prior", trees.before)  # paths of one length: some of it ends up in memory
    after = Environments(found.python, home / "after", trees.after, trees.settings)
    wanted = suite.packages_of(workloads.EVERYWHERE, [program.key for program in workloads.EVERYWHERE]) if "packages" in needs else []
    one = suite.prepare(found, before, needs, wanted)
    other = suite.prepare(found, after, needs, [f"{name}=={version}" for name, version in one.facts["packages"].items() if name.lower() in wanted])
    return [replace(one, key=key_of(found.key, "before")), replace(one, key=key_of(found.key, "again")), replace(other, key=key_of(found.key, "after"))]


def key_of(python: str, side: str) -> str:
    """The key that a side goes by while it is measured: its caches lie in a directory of that name."""
    return f"{python}-{side}"


def parted(key: str) -> tuple[str, str]:
    """(interpreter, side) of such a key."""
    python, _, side = key.rpartition("-")
    return python, side


def sessions(place: Place, sides: Sequence[Interpreter], small: bool) -> list[Session]:
    """What the sides are measured in: SMALL, the environments with Ladewerk alone, if all have one."""
    usual = [measuring.session(place, side) for side in sides]
    if not small or any("small" not in side.beside for side in sides):
        return usual
    return [replace(one, bench=replace(one.bench, python=side.beside["small"]), ready={}) for one, side in zip(usual, sides, strict=True)]
