# SPDX-License-Identifier: MIT
"""Measures a part on all sides in turn, measures once more what differs, and makes figures of the rows.

A row of a comparison has its `side`, beside what every row has; of a second measurement `second` as well.
"""
from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable, Sequence

import pair
from comparing.lines import Line, of_figure
from comparing.parts import PARTS, Counter, Measure, Part, Uncountable
from comparing.sides import SIDES, parted
from figures import Figure
from importing import measuring
from pair import Failed
from rows import Cell, Session, cells, describe, say
from sections import Effort, Place
from stats import Verdict
from tables import Row
from workloads import ImportLoop

Key = tuple[str, str, str, str]  # interpreter, section, workload, contender


def key_of(row: Row) -> Key:
    return row["python"], row["section"], row["workload"], row["contender"]


def _sided(rows: Iterable[Row], **more: bool) -> list[Row]:
    """Rows that were measured with a side as their interpreter."""
    return [{**row, "python": python, "side": side, **more} for row in rows for python, side in [parted(row["python"])]]


# --- measuring ----------------------------------------------------------------------------------------------------------

def measure(part: Part, place: Place, sessions: Sequence[Session], effort: Effort) -> list[Row]:
    """All rows of PART, on the sides that SESSIONS are of."""
    if part.counter:
        return _counted(part, place, sessions, effort)
    rows = _sided(measuring.timed(sessions, part.key, part.loads(place), part.rivals(place), effort))
    return rows + _second(part, place, sessions, effort, rows)


def _second(part: Part, place: Place, sessions: Sequence[Session], effort: Effort, rows: Sequence[Row]) -> list[Row]:
    """What differs, measured once more in rounds of its own: of many figures some differ by chance, but hardly the same ones twice."""
    differing = {tuple(line.key.split("/")[2:4]) for line in lines(rows) if line.verdict in (Verdict.LESS, Verdict.MORE)}
    if not differing:
        return []
    loads, names = ({key[n] for key in differing} for n in (0, 1))
    say(f"  once more, since it differs: {', '.join(sorted(loads))}")
    groups = [[load for load in group if load.key in loads] for group in part.loads(place)]
    rivals = [rival for rival in part.rivals(place) if rival.key in names]
    return _sided(measuring.timed(sessions, part.key, [group for group in groups if group], rivals, effort), second=True)


def _counted(part: Part, place: Place, sessions: Sequence[Session], effort: Effort) -> list[Row]:
    measure, = part.measures
    found = [cell for session in sessions for group in part.loads(place) for cell in cells(session, part.key, group, part.rivals(place))]
    samples: dict[int, list[float]] = {n: [] for n in range(len(found))}
    try:
        assert part.counter
        count = part.counter(place)
    except Uncountable as why:
        return _sided({**describe(cell), "skipped": str(why)} for cell in found)
    order, rng = list(samples), random.Random(place.seed)
    for _ in range(effort.rounds):
        rng.shuffle(order)
        for n in order:
            if not found[n].skipped:
                _count(found[n], place, sessions, count, samples[n])
    return _sided({**describe(cell), **({} if cell.skipped else {measure.field: samples[n]})} for n, cell in enumerate(found))


def _count(cell: Cell, place: Place, sessions: Sequence[Session], count: Counter, samples: list[float]) -> None:
    """Of a run with all modules less that of a run with the first, per further module."""
    bench, load = next(session.bench for session in sessions if session.python == cell.python), cell.workload
    assert isinstance(load, ImportLoop)
    say(f"  count {load.key}: {cell.python}, {cell.contender.label}")
    try:
        few = cell.contender.command(bench, load, 1)
        pair.run(few)  # what so short a run learns is learnt
        samples.append(round((count(cell.contender.command(bench, load)) - count(few)) / (load.count - 1), 3))
    except (Failed, OSError, subprocess.TimeoutExpired) as failure:
        cell.skipped = str(failure)


# --- figures ------------------------------------------------------------------------------------------------------------

def _figure(rows: dict[str, Row], measure: Measure) -> Figure | None:
    """Of the rows of all sides."""
    before, again, after = (rows.get(side, {}).get(measure.field) for side in SIDES)
    if not before or not after:
        return None
    row = rows["after"]
    key = "/".join((*key_of(row), measure.field))
    return Figure(key, f"{row['title']}: {row['label']}, {measure.name}", measure.unit, after, before, again, counted=measure.counted)


def figures(rows: Iterable[Row], second: bool = False) -> list[Figure]:
    """The checkout's, with the revision as their base; or those of what was measured once more."""
    found: dict[Key, dict[str, Row]] = {}
    for row in rows:
        if row.get("second", False) == second and "skipped" not in row:
            found.setdefault(key_of(row), {})[row["side"]] = row
    measures = {part.key: part.measures for part in PARTS}
    each = (_figure(sides, measure) for key, sides in found.items() for measure in measures.get(key[1], ()))
    return [figure for figure in each if figure]


def lines(rows: Sequence[Row]) -> list[Line]:
    """What the figures say of all rows; of a figure that differed only if it does so twice."""
    twice = {figure.key: figure for figure in figures(rows, second=True)}
    return [of_figure(figure, twice.get(figure.key)) for figure in figures(rows)]
