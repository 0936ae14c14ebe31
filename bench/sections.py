# SPDX-License-Identifier: MIT
"""What a section of the benchmark is: one question, who answers it, what it says of the samples. bench/suite.py lists them all."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import Figure
from goals import Goal
from plots import Plot
from tables import Row

EFFORTS = ("quick", "headline", "full")  # 2 to 3 minutes, at most 15, everything


@dataclass(frozen=True)
class Effort:
    """How long a section may take, preparations included: rounds, and the seconds after which a slow machine stops early (inf: never)."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Interpreter:
    """One Python that takes part, in an environment of its own. FACTS are machine.interpreter()'s, of that environment.

    BESIDE has the interpreters of its other environments, as far as they are needed and could be made: `bare` has nothing installed,
    `small` Ladewerk alone, `enabled` the same after `ladewerk enable`, `pycds` the programs and PyCDS. What is not there, an environment
    or a package, has its reason in FAILURES.
    """

    key: str  # "3.11", "3.13t"
    python: Path
    facts: Mapping[str, Any]
    missing: str = ""  # why Ladewerk is not installed there
    beside: Mapping[str, Path] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def free_threaded(self) -> bool:
        return bool(self.facts["free_threaded"])


@dataclass(frozen=True)
class Place:
    """What a section is given. Nothing outside of BUILD and STATE is written to. The working directory is STATE/cwd, with copies of those
    modules of ours that contenders import (contenders.INSIDE), and nothing else."""

    pythons: Sequence[Interpreter]  # the first is the main one; the others where a section compares interpreters
    build: Path  # kept for the next run: corpora, images
    state: Path  # of this run alone: caches
    programs: Path | None  # of bench/micro, built
    effort: str  # one of EFFORTS
    seed: int = 1
    no_programs: str = ""  # why there are none of bench/micro
    chosen: Sequence[str] = ()  # of the programs (workloads.PROGRAMS), these alone, whatever the effort
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # section -> of its parts, these alone, whatever the effort
    kept: dict[str, Any] = field(default_factory=dict)  # what one section has made and another one can use

    @property
    def main(self) -> Interpreter:
        return self.pythons[0]


# What is made ready before the first section, when a section that runs needs it.
NEEDS = {
    "programs": "those of bench/micro, built",
    "pythons": "Ladewerk in an environment of every interpreter, not of the main one alone; with --quick of those that were named",
    "packages": "in the main interpreter's environment, the packages of workloads.PROGRAMS that the effort has",
    "everywhere": "in every interpreter's environment, the packages of workloads.EVERYWHERE",
    "small": "the environments `small` and `enabled` of the main interpreter",
    "pycds": "the environment `pycds` of the main interpreter",
}


def nothing(rows: Sequence[Row]) -> list[Any]:
    return []


@dataclass(frozen=True)
class Section:
    """RUN measures; PART, PLOTS, FIGURES and GOALS are functions of its rows alone, so that an old report.json can be shown anew."""

    key: str
    title: str
    efforts: Mapping[str, Effort]  # where an effort is not in it, the section is left out
    run: Callable[[Place, Effort], list[Row]]
    part: Callable[[Sequence[Row]], str]  # Markdown, below a heading with the title
    plots: Callable[[Sequence[Row]], list[Plot]] = nothing
    figures: Callable[[Sequence[Row]], list[Figure]] = nothing
    goals: Callable[[Sequence[Row]], list[Goal]] = nothing
    needs: frozenset[str] = field(default_factory=frozenset)  # of NEEDS
    parts: Sequence[str] = ()  # --only KEY/PART


def why_failed(section: Section, python: str, reason: str) -> Row:
    """The row of a section that did not get to its rows, or to the end of them: it has no contender."""
    return {
        "section": section.key, "python": python, "workload": "", "title": section.title, "contender": "", "label": "the whole section",
        "base": False, "check": {}, "skipped": reason,
    }
