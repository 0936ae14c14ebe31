# SPDX-License-Identifier: MIT
"""The section `lazy`."""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import environments
import pythons
from environments import Environments, Unavailable
from lazy import measuring, steady, tables
from lazy.programs import EFFORTS, GROUPS, TOOLS, Tool
from lazy.steady import LOOPS, Loop
from lazy.ways import LANGUAGE, SHORT, WAYS, Site
from sections import Effort, Place, Section
from tables import Row

PARTS = (*GROUPS, "steady")
_PATH = "/usr/local/bin:/usr/bin:/bin"


def chosen(place: Place) -> tuple[list[Tool], list[Loop]]:
    """What was asked for, by name or by kind; else what the effort has."""
    parts = place.parts.get("lazy", ())
    if place.chosen:
        return [tool for tool in TOOLS if tool.key in place.chosen], []
    full = place.effort == "full"
    tools = [tool for tool in TOOLS if (tool.group in parts if parts else tool.key in EFFORTS["full" if full else "headline"])]
    loops = [loop for loop in LOOPS if ("steady" in parts if parts else full or loop.key in steady.SHORT)]
    return tools, loops


def sites(place: Place) -> list[tuple[Site, Environments]]:
    """The main interpreter, and beside it the first that has lazy imports of its own, if there is one."""
    main = pythons.look(place.main.python)
    found = [main]
    if _version(main) < LANGUAGE:
        found += [other for other in sorted(pythons.one_of_each(pythons.candidates()), key=pythons.age) if _version(other) >= LANGUAGE and other.key[-1] != "t"][:1]
    return [site_of(place, python) for python in found]


def _version(python: pythons.Found) -> tuple[int, int]:
    major, minor = python.key.rstrip("t").split(".")
    return int(major), int(minor)


def site_of(place: Place, python: pythons.Found) -> tuple[Site, Environments]:
    """An interpreter, which may be none of PLACE, and where its environments are made."""
    home = Environments(python.base, environments.directory(place.build, python.key, python.base), environments.CHECKOUT)
    state = place.state / "lazy" / python.key
    (state / "home").mkdir(parents=True, exist_ok=True)
    known = {each.key: each.missing for each in place.pythons}
    return Site(python.key, _version(python), state, _PATH, known[python.key] if python.key in known else _missing(home)), home


def _missing(home: Environments) -> str:
    """Why Ladewerk cannot be had."""
    try:
        home.wheel()
    except Unavailable as why:
        return str(why)
    return ""


def run(place: Place, effort: Effort) -> list[Row]:
    """Programs that are left share the seconds that are left."""
    tools, loops = chosen(place)
    ways = WAYS if place.effort == "full" or place.chosen else SHORT
    work: list[Callable[[Effort], list[Row]]] = []
    for site, home in sites(place):
        work += [partial(measuring.measure, site, home, tool, ways, place.seed) for tool in tools]
        work += [partial(steady.measure, site, home, loop, place.seed) for loop in loops]
    end, rows = time.monotonic() + effort.seconds, []
    for done, each in enumerate(work):
        rows += each(replace(effort, seconds=max(0.0, end - time.monotonic()) / (len(work) - done)))
    return rows


SECTION = Section(
    "lazy", "Lazy imports", {"headline": Effort(9, 30), "full": Effort(15, math.inf)}, run, tables.part, tables.plots, tables.figures, tables.goals, parts=PARTS)
