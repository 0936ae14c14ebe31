# SPDX-License-Identifier: MIT
"""The scanner's benchmark as a section of run.sh."""
from __future__ import annotations

import math

import compared
from scanning import scan, scanners, tables
from scanning.scanners import Where
from sections import Effort, Place, Section
from tables import Row

# Of the whole section's seconds where there is little time.
SHARES = {"warm": 0.5, "revalidate": 0.2}


def _efforts(place: Place, effort: Effort) -> dict[str, Effort]:
    """As scan.sh has them, in proportion to the rounds."""
    known, whole = (scan.FULL, SECTION.efforts["full"]) if place.effort == "full" else (scan.SHORT, SECTION.efforts["headline"])
    return {
        part: Effort(math.ceil(each.rounds * effort.rounds / whole.rounds), min(each.seconds, SHARES.get(part, 1) * effort.seconds))
        for part, each in known.items()
    }


def run(place: Place, effort: Effort) -> list[Row]:
    full, main = place.effort == "full", place.main
    parts = [part for part in scan.PARTS if part in (place.parts.get("scan") or (scan.PARTS if full else scanners.SHORT))]
    if place.programs is None:
        return [compared.row("scan", main.key, part, tables.TITLES[part], "floor", "the bare loop", part=part, base=True, skipped=place.no_programs) for part in parts]
    where = scan.fresh(Where(place.programs, main.beside["bare"], None if main.missing else main.python.with_name("ladewerk"), main.missing, place.state / "scan"))
    entries, slow = (scan.ENTRIES, scan.SLOW_ENTRIES) if full else (scan.QUICK_ENTRIES, scan.QUICK_SLOW_ENTRIES)
    (build := place.build / "scanned").mkdir(exist_ok=True)
    rivals = scanners.RIVALS if full else {**scanners.RIVALS, **scanners.SHORT}
    bench = scan.Bench(where, build, _efforts(place, effort), build / f"tree-{entries}", entries, slow, place.seed, main.key, rivals)
    return list(scan.measure(bench, parts, counted=full))


SECTION = Section(
    "scan", "Scanning a source tree", {"headline": Effort(11, 35), "full": Effort(11, math.inf)}, run, tables.part, tables.plots, tables.figures, tables.goals,
    frozenset({"programs"}), scan.PARTS,
)
