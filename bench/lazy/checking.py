# SPDX-License-Identifier: MIT
"""Does every program do the same in each mode as with stock Python? They are compared as they are before they are timed, and nothing is timed.

What differs is printed with the command that finds out why. So is what could not be compared, which is no difference, but no proof either.
"""
from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import pythons
from environments import Environments
from lazy import measuring, section
from lazy.measuring import Work
from lazy.programs import Tool
from lazy.ways import ALL, DEFAULT, OWN, Site, Way
from sections import Place
from tables import Row

COMPARED = [DEFAULT, OWN, ALL]


@dataclass
class Tally:
    """Of one interpreter: the programs that do the same, by mode; in how many cases one does not, or was not lazy; those that could not be compared, and why."""

    same: dict[str, list[str]] = field(default_factory=lambda: {way.label: [] for way in COMPARED})
    wrong: int = 0
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def proved(self) -> bool:
        return not self.wrong and any(self.same.values())


def run(place: Place) -> int:
    """The exit status: 1 where something differs, was not lazy, or nothing could be compared."""
    tools, _ = section.chosen(place)
    return 0 if all([_interpreter(*section.site_of(place, pythons.look(python.python)), tools) for python in place.pythons]) else 1


def _interpreter(site: Site, home: Environments, tools: Sequence[Tool]) -> bool:
    tally = Tally()
    for tool in tools:
        work, rows = measuring.compare(site, home, tool, COMPARED, [ALL])
        for line in judge(tally, tool, work, rows):
            print(f"Python {site.key}: {tool.key}: {line}", flush=True)
    for line in summary(tally, len(tools)):
        print(f"Python {site.key}: {line}", flush=True)
    return tally.proved


def judge(tally: Tally, tool: Tool, work: Work | None, rows: dict[str, Row]) -> list[str]:
    """What is to be said of a program; TALLY is brought up to date."""
    skipped = {way.key: str(rows[way.key]["skipped"]) for way in COMPARED if "skipped" in rows[way.key]}
    if work is None or work.site.missing:
        tally.absent[tool.key] = next(iter(skipped.values()))
        return [f"not compared: {tally.absent[tool.key]}"]
    lines = []
    for way in COMPARED:
        if way.key not in skipped:
            tally.same[way.label].append(tool.key)
        else:
            tally.wrong += 1
            differs = rows[way.key]["check"].get("differs")
            lines += [f"{way.label}: {skipped[way.key]}" if differs else f"{way.label}: nothing was lazy: {skipped[way.key]}"]
            lines += [f"  {search(work, way)}"] if differs else []
    return lines or [f"the same ({work.alike.value}); {_waiting(rows[ALL.key])}"]


def _waiting(row: Row) -> str:
    """That imports did wait, without which sameness says nothing. A program that ends by os._exit(), or executes another, has no report."""
    lazy = row["check"].get("lazy")
    return f"in {ALL.label} {lazy['registered'] - lazy['resolved']} of {lazy['registered']} names waited to its end" if lazy else "there is no report of its imports"


def search(work: Work, way: Way) -> str:
    """The command that finds what must be eager, for a shell."""
    argv = [str(work.python), *work.argv()]
    if str(work.out) in argv:  # empty before each run, as in ours
        out = shlex.quote(str(work.out))
        argv = ["sh", "-c", f"rm -rf {out} && mkdir {out} && exec {shlex.join(argv)}"]
    environment = [f"{name}={value}" for name, value in {**work.site.env(work.python), **work.tool.env}.items()]
    return f"cd {shlex.quote(str(work.cwd))} && " + shlex.join(["env", "-i", *environment, str(work.python.with_name("ladewerk")), "lazy-check", "--mode", way.mode, "--", *argv])


def summary(tally: Tally, programs: int) -> list[str]:
    """A line for each way, and one for each reason why programs are not in it."""
    compared = programs - len(tally.absent)
    lines = [f"{label}: {len(same)} of {compared} programs do the same as with stock Python" for label, same in tally.same.items()]
    return lines + [f"not compared: {key}: {why}" for key, why in tally.absent.items()]
