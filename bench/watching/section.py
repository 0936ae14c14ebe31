# SPDX-License-Identifier: MIT
"""The watchers' benchmark as a section of run.sh."""
from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import compared
from environments import Unavailable, beside
from sections import Effort, Place, Section
from tables import Row
from watching import tables, watch, watchers
from watching.watchers import Where


def _peers(place: Place) -> Path:
    """The environment of the rivals that are Python packages. Whoever is not in it says so in his row."""
    try:
        environments = beside(place)
        python = environments.empty("peers")
        environments.packages("peers", [rival.module for rival in watchers.WATCHERS if isinstance(rival, watchers.Rival) and rival.module])
    except Unavailable:
        return place.main.beside["bare"]
    return python


def _plan(place: Place, effort: Effort) -> watch.Plan:
    """That of watch.sh, or the short one, with as many rounds of sessions as the effort has; of everything, where somebody has asked for a number."""
    plan = watch.FULL if place.effort == "full" else watch.SHORT
    if effort not in SECTION.efforts.values():
        return plan.with_rounds(effort.rounds)
    return replace(plan, rounds=effort.rounds)


def run(place: Place, effort: Effort) -> list[Row]:
    full, main = place.effort == "full", place.main
    wanted = place.parts.get("watch") or (watch.PARTS if full else watch.SHORT_PARTS)
    parts = [part for part in watch.PARTS if part in wanted]
    if place.programs is None:
        return [compared.row("watch", main.key, part, tables.TITLES[part], "ladewerk", "Ladewerk", part=part, base=True, skipped=place.no_programs) for part in parts]
    with watch.sockets() as sockets:
        ladewerk = None if main.missing else main.python.with_name("ladewerk")
        where = watch.fresh(Where(place.programs, main.python, _peers(place), ladewerk, main.missing, place.state / "watch", sockets))
        directories, storm = (watch.DIRECTORIES, watch.STORM) if full else (watch.SHORT_DIRECTORIES, watch.QUICK_STORM)
        (build := place.build / "watched").mkdir(exist_ok=True)
        rivals = watchers.WATCHERS if full else watchers.SHORT
        bench = watch.Bench(where, build, _plan(place, effort), directories, storm, place.seed, main.key, rivals)
        return list(watch.measure(bench, parts))


SECTION = Section(
    "watch", "Watching a source tree", {"headline": Effort(9, 30), "full": Effort(9, math.inf)}, run, tables.part, tables.plots, tables.figures, tables.goals,
    frozenset({"programs"}), watch.PARTS,
)
