# SPDX-License-Identifier: MIT
"""Figures and bars of any section whose rows are contenders beside a base: samples in lists that are named with their unit."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from figures import Figure
from plots import Line, Plot
from stats import Median, ratios
from tables import Row, Rows, by_python

UNITS = {"ms": "ms", "us": "us", "ns": "ns", "s": "s", "mb": "MB", "kb": "kB"}


def figures(*fields: str) -> Callable[[Sequence[Row]], list[Figure]]:
    """A figure for each row and each of FIELDS that it has; the contender `again` is the noise of the others, not one of them."""
    def of(rows: Sequence[Row]) -> list[Figure]:
        return [_figure(theirs, row, field) for theirs in by_python(rows).values() for row in theirs.rows
                for field in fields if row["contender"] != "again" and row.get(field)]
    return of


def _figure(rows: Rows, row: Row, field: str) -> Figure:
    section, load = row["section"], row["workload"]
    base, again = rows.base(section, load), rows.get(section, load, "again")
    key = "/".join((row.get("python", ""), section, load, row["contender"], field))
    of = None if row is base else base.get(field)
    return Figure(key, f"{row['title']}: {row['label']}", UNITS[field.rpartition("_")[2]], row[field], of, again.get(field))


def kind(contender: str) -> str:
    """Of a line or bar: see plots.KINDS."""
    if contender in ("floor", "packfloor", "lock", "interpreter"):
        return "floor"
    if contender.startswith("ladewerk") or contender in ("off", "on", "enabled", "run-stat", "run-frozen", "module"):
        return "ladewerk"
    return "stock" if contender in ("stock", "again") else "rival"


def bars(rows: Rows, section: str, found: Callable[[Row, Row], Median], leave_out: Sequence[str] = ()) -> tuple[list[Line], list[str]]:
    """A line for each contender, a place for each workload; of FOUND(row, base). Rows without samples have no bar. The titles as well."""
    loads, lines = rows.workloads(section), []
    for key, label in {row["contender"]: row["label"] for row in rows.section(section)}.items():
        pairs = [(place, rows.get(section, load, key), rows.base(section, load)) for place, load in enumerate(loads)]
        there = [(place, found(row, base)) for place, row, base in pairs if "wall_ms" in row and "wall_ms" in base and not row["base"]]
        if there and key not in leave_out:
            lines.append(Line.of(label, [place for place, _ in there], [median for _, median in there], kind(key)))
    return lines, [rows.title(section, load) for load in loads]


def _ratio_of(field: str) -> Callable[[Row, Row], Median]:
    return lambda row, base: ratios(row[field], base[field])


def ratio_bars(key: str, title: str, y: str, field: str, leave_out: Sequence[str] = ()) -> Callable[[Sequence[Row]], list[Plot]]:
    """Ratios to the base of each workload, as bars."""
    def plots(rows: Sequence[Row]) -> list[Plot]:
        found, those = [], by_python(rows)
        for python, theirs in those.items():
            lines, names = bars(theirs, theirs.rows[0]["section"], _ratio_of(field), leave_out)
            its_key, its_title = (key, title) if len(those) == 1 else (f"{key}-{python}", f"{title}: CPython {python}")
            if lines:
                found.append(Plot(its_key, its_title, "", y, lines, names=names, mark=1.0))
        return found
    return plots
