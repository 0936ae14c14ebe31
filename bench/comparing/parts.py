# SPDX-License-Identifier: MIT
"""What is measured of two builds: the sections of a comparison, with the same workloads and contenders that bench/run.sh has.

Stock Python takes no part: both builds have the same one.
"""
from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import contenders
import instructions
import workloads
from calls import count_syscalls
from contenders import Contender, Workload
from importing import measuring
from pair import Command
from sections import EFFORTS, Effort, Place

Groups = Sequence[Sequence[Workload]]
Counter = Callable[[Command], float]


class Uncountable(Exception):
    """Nothing here can count that; str() says why."""


@dataclass(frozen=True)
class Measure:
    """A field of rows that becomes a figure. COUNTED: see figures.Figure."""

    field: str
    name: str
    unit: str
    counted: bool = False


@dataclass(frozen=True)
class Part:
    """LOADS are the workloads, those of a group in the same rounds; RIVALS the ways of starting."""

    key: str
    title: str
    measures: Sequence[Measure]
    efforts: Mapping[str, Effort]
    loads: Callable[[Place], Groups]
    rivals: Callable[[Place], Sequence[Contender]]
    counter: Callable[[Place], Counter] | None = None  # per module, and not timed. Uncountable: it cannot be
    needs: frozenset[str] = frozenset()  # of sections.NEEDS: `small`, which it is measured in then; `packages`, those of workloads.EVERYWHERE


def _efforts(*efforts: tuple[int, float]) -> dict[str, Effort]:
    """(rounds, seconds) of each."""
    return {name: Effort(*effort) for name, effort in zip(EFFORTS, efforts, strict=True)}


def _startup(place: Place) -> Sequence[Contender]:
    return contenders.those("off on enabled run-stat run-frozen", contenders.STARTUP)


def _both(place: Place) -> Sequence[Contender]:
    return contenders.those("ladewerk-stat ladewerk-frozen", contenders.PROGRAMS)


def _all(place: Place) -> Sequence[Contender]:
    """With the first run, where there is time."""
    return _both(place) if place.effort == "quick" else contenders.those("ladewerk-stat ladewerk-frozen ladewerk-learning", contenders.PROGRAMS)


def _paths(place: Place) -> Groups:
    loops = workloads.path_loops(measuring.trees(place))
    return [[loop for loop in loops if place.effort == "full" or loop.key in ("entries-1", "entries-1000")]]


def _oneline(place: Place) -> Groups:
    return [[workloads.oneline_loop(measuring.trees(place))]]


def _programs(place: Place) -> Groups:
    return [[load] for load in workloads.EVERYWHERE[: 1 if place.effort == "quick" else None]]


def _calls(place: Place) -> Counter:
    if shutil.which("strace") is None:
        raise Uncountable("strace not installed")
    file = place.state / "strace.txt"
    return lambda command: sum(count_syscalls(command, file).values())


def _instructions(place: Place) -> Counter:
    found = instructions.counter()
    if isinstance(found, str):
        raise Uncountable(found)
    return found[1]


_INSIDE = (Measure("inside_cpu_ms", "CPU of the imports", "ms"), Measure("inside_wall_ms", "wall of the imports", "ms"))
_PROCESS = (Measure("cpu_ms", "CPU", "ms"), Measure("wall_ms", "wall", "ms"))
_MEMORY = (Measure("rss_mb", "RSS", "MB"),)

# In the order of running.
PARTS = [
    Part(
        "startup", "Start-up", _PROCESS, _efforts((15, 15), (41, 60), (101, 180)), lambda place: [[workloads.PASS]], _startup,
        needs=frozenset({"small"})),
    Part("paths", "Modules behind many path entries", _INSIDE, _efforts((9, 30), (15, 60), (31, 240)), _paths, _both),
    Part("modules", "One-line modules in one package", _INSIDE, _efforts((9, 30), (21, 60), (41, 180)), _oneline, _both),
    Part(
        "programs", "Programs, whole process", (*_PROCESS, *_MEMORY), _efforts((9, 60), (15, 180), (31, 600)), _programs, _all,
        needs=frozenset({"packages"})),
    Part(
        "syscalls", "System calls per module", (Measure("calls", "system calls", "per module", counted=True),), _efforts((1, 60), (2, 60), (3, 120)),
        _oneline, _both, _calls),
    Part(
        "instructions", "Instructions per module", (Measure("instructions", "instructions", "per module", counted=True),),
        _efforts((1, 60), (2, 120), (3, 240)), _oneline, _both, _instructions),
]
