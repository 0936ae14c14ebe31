# SPDX-License-Identifier: MIT
"""One program: what it does in each way is compared with stock, then the ways take turns."""
from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pair
from app import outcome
from app.outcome import Alike, Outcome
from environments import Environments, Unavailable
from lazy.programs import PROJECTS, Tool
from lazy.ways import STOCK, WAYS, Site, Way
from pair import Command, Failed
from rows import say
from sections import Effort
from tables import Row

CHECKS = 3  # runs of stock Python that say how far the program repeats itself
LEARNING = 2  # runs of each way that are compared: the first one learns, the second shows what it has learnt
TIMEOUT = 120.0
SAME_ORDER = {"PYTHONHASHSEED": "0"}


@dataclass
class Work:
    """A program in its environment, with a copy of its project, where all its runs take place one after the other."""

    tool: Tool
    site: Site
    python: Path
    cwd: Path
    out: Path  # emptied before each run
    stock: Outcome = Outcome(0, b"", b"")
    alike: Alike = Alike.EXACT

    def argv(self) -> list[str]:
        first, *rest = self.tool.argv
        script = self.python.with_name(first)
        return [str(script if script.exists() else first), *(word.replace("{out}", str(self.out)) for word in rest)]

    def command(self, way: Way, report: Path | None = None) -> Command:
        """It ends as stock does, or fails."""
        env = {**self.site.env(self.python), **self.tool.env}
        cache = self.site.state / "cache" / f"{way.key}-{self.tool.key}"
        return replace(way.command(self.python, self.argv(), env, cache, self.out, report), expected=self.tool.status)

    def observe(self, way: Way, report: Path | None = None) -> Outcome:
        """Failed: the time is up. Sets of strings have the same order each time: what is printed in it can be compared."""
        pair.empty(self.out)
        command = self.command(way, report)
        with chdir(self.cwd):
            return outcome.observe(replace(command, env={**command.env, **SAME_ORDER}), TIMEOUT)

    def look(self) -> None:
        """What stock Python does, and how far it repeats itself. The first run writes byte code, and whatever the program keeps. Unavailable."""
        outcomes = [self.observe(STOCK) for _ in range(CHECKS + 1)][1:]
        self.stock = outcomes[0]
        if self.stock.status != self.tool.status:
            raise Unavailable(f"with stock Python it ends with {self.stock.words()}: {_last(self.stock)}")
        alike = outcome.how_alike(outcomes)
        if alike is None:
            raise Unavailable("with stock Python it ends differently from run to run")
        self.alike = alike

    def differs(self, way: Way) -> str:
        """How it is not the same program, or nothing. Before a way is blamed stock is asked again: what differs there only seldom is no difference."""
        for _ in range(LEARNING):
            try:
                found = self.observe(way)
            except Failed as failure:
                return str(failure)
            if outcome.difference(self.stock, found, self.alike):
                again = [self.stock, *(self.observe(STOCK) for _ in range(CHECKS))]
                self.alike = outcome.looser(self.alike, outcome.how_alike(again) or self.alike)
            if why := outcome.difference(self.stock, found, self.alike):
                return f"{why}: {_last(found)}" if found.status != self.stock.status else why
        return ""

    def reported(self, way: Way) -> dict[str, Any]:
        """What Ladewerk says of a run: how many modules it imported, and names that wait. Nothing where it did not get to say anything: programs execute others."""
        file = self.site.state / "report.json"
        file.unlink(missing_ok=True)
        try:
            self.observe(way, file)
            report = json.loads(file.read_text())
        except (Failed, OSError, ValueError):
            return {}
        return {"modules": len(report["imports"]), "lazy": report["stats"].get("lazy")}


def _last(found: Outcome) -> str:
    """What a program says at its end."""
    return found.err.decode(errors="replace").strip().rpartition("\n")[2].strip()


def installed(site: Site, home: Environments, environment: str, packages: Sequence[str]) -> Path:
    """The interpreter of an environment with PACKAGES, and Ladewerk if there is one. Unavailable."""
    python = home.empty(environment)
    if failures := home.packages(environment, packages):
        raise Unavailable("; ".join(f"{package} is not installed ({why})" for package, why in failures.items()))
    if not site.missing:
        home.ladewerk(environment)
    return python


def prepare(site: Site, tool: Tool, python: Path) -> Work:
    """The program, ready to run. Unavailable."""
    work = Work(tool, site, python, site.state / "work" / tool.key, site.state / "out" / tool.key)
    pair.empty(work.cwd)
    if tool.project:
        shutil.copytree(PROJECTS / tool.project, work.cwd, dirs_exist_ok=True)
    work.look()
    return work


def off(check: Mapping[str, Any], way: Way) -> str:
    """Why nothing was lazy that should have been; what is eager in truth is not timed as lazy."""
    return str(check["lazy"]["reason"] or "") if way.mode and check.get("lazy") else ""


def compare(site: Site, home: Environments, tool: Tool, ways: list[Way], reported: Sequence[Way] = WAYS) -> tuple[Work | None, dict[str, Row]]:
    """The program, if it could be run, and a row for each way that there is for this interpreter: whether it does the same as stock in it, and, of those
    REPORTED, what Ladewerk says of it: that takes as long as some runs."""
    say(f"  Python {site.key}: {tool.key}")
    ways = [way for way in ways if site.version >= way.oldest]
    common = {"section": "lazy", "python": site.key, "workload": tool.key, "title": tool.title, "group": tool.group, "check": {}}
    rows: dict[str, Row] = {way.key: {**common, "contender": way.key, "label": way.label, "base": way is STOCK} for way in ways}
    try:
        work = prepare(site, tool, installed(site, home, tool.environment, tool.packages))
        for way in ways:
            if way.ladewerk and site.missing:
                rows[way.key]["skipped"] = site.missing
            elif why := work.differs(way):
                rows[way.key].update(skipped=why, check={"differs": True})
            else:
                rows[way.key]["check"] = {"compared": work.alike.value, **(work.reported(way) if way.ladewerk and way in reported else {})}
                if why := off(rows[way.key]["check"], way):
                    rows[way.key]["skipped"] = why
    except (Unavailable, Failed, OSError) as failure:
        return None, {key: {**row, "skipped": str(failure)} for key, row in rows.items()}
    return work, rows


def measure(site: Site, home: Environments, tool: Tool, ways: list[Way], seed: int, effort: Effort) -> list[Row]:
    """The rows, with the times of the ways that do the same."""
    work, rows = compare(site, home, tool, ways)
    if work is None:
        return list(rows.values())
    commands = {way.key: work.command(way) for way in ways if "skipped" not in rows.get(way.key, {"skipped": "not there"})}

    def fails(key: str, failure: Failed) -> None:
        rows[key]["skipped"] = str(failure)

    samples = pair.rounds(commands, effort.rounds, seed, on_failure=fails, seconds=effort.seconds, around=lambda key: chdir(work.cwd), timeout=TIMEOUT)
    for key, found in samples.items():
        rows[key]["cpu_ms"] = [round(sample.cpu_ms, 4) for sample in found]
        rows[key]["wall_ms"] = [round(sample.wall_ms, 4) for sample in found]
    return list(rows.values())
