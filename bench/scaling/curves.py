# SPDX-License-Identifier: MIT
"""What a curve is, and what its rows say: tables with slopes, log-log plots, figures.

A row is one contender at one x, with `curve` and `x` beside what every row has; all rows of a curve are of the same rounds.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import series
from figures import Figure
from plots import Line, Plot
from stats import PAIRS, Median, Verdict, ratios, slopes
from tables import WORDS, Row, Rows, count_text, each_python, number, ratio_text, table, why

SECTION = "scaling"


@dataclass(frozen=True)
class Curve:
    """FIELD of a row has the samples; SCALE makes them the unit that is shown, with EACH for one of the row's `count`."""

    title: str
    x: str
    y: str
    field: str
    scale: float = 1.0
    each: bool = False

    def costs(self, row: Row) -> list[float]:
        each = self.scale / (row["count"] if self.each else 1)
        return [value * each for value in row[self.field]]


CURVES = {
    "entries": Curve("Path entries", "path entries, the module in the last one", "CPU us per import", "inside_cpu_ms", 1000, each=True),
    "indexed": Curve("Modules that are indexed: a process that imports 20 of them", "modules indexed", "CPU ms of the process", "cpu_ms"),
    "lookup": Curve("Names in the table: one look-up, in C", "names", "CPU ns per look-up", "cpu_ns"),
    "threads": Curve("Threads that look up at the same time", "threads", "ns of wall time per look-up, all threads together", "wall_ns"),
    "loaded": Curve("Modules that are loaded: one more import", "modules loaded", "CPU us per import", "inside_cpu_ms", 1000, each=True),
    "reload": Curve("Modules that are loaded: the reload of one that was saved", "modules loaded", "CPU ms per reload", "cpu_ms"),
}


def row_of(python: str, curve: str, x: int, contender: tuple[str, str], base: bool, more: Row) -> Row:
    """CONTENDER is (key, label); MORE has the samples, or why there are none."""
    key, label = contender
    title = f"{CURVES[curve].title}, {x:,}"
    head = {"section": SECTION, "python": python, "workload": f"{curve}-{x}", "title": title, "contender": key, "label": label, "base": base}
    return {"check": {}, **more, **head, "curve": curve, "x": x}


def _of(rows: Iterable[Row], curve: str) -> list[Row]:
    return [row for row in rows if row.get("curve") == curve]


def _lines(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Of a curve: the rows of each contender, by x; the base is the first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (not row["base"], row["x"])):
        found.setdefault(row["contender"], []).append(row)
    return found


def _few(found: Median) -> str:
    return WORDS[Verdict.FEW] if found.n < PAIRS else ""


def _slope(found: Median) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]{_few(found)}"


def _growth(found: Median) -> str:
    """With few digits where it is large."""
    digits = 3 if found.value < 10 else 1
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]{_few(found)}"


def _cells(curve: Curve, line: Sequence[Row], xs: Sequence[int], last_base: Row, again: Row) -> list[str]:
    """A place for each x, then the slope, the growth from first to last, the last one's ratio to the base, which was measured AGAIN."""
    costs = {row["x"]: curve.costs(row) for row in line if curve.field in row}
    reasons = {row["x"]: why(row) for row in line if "skipped" in row}
    if not costs:
        return [next(iter(reasons.values()), ""), *[""] * (len(xs) + 2)]
    places = [number(Median.of(costs[x]).value) if x in costs else reasons.get(x, "") for x in xs]
    grown = [""] * 2
    if len(costs) > 1:
        first, last = min(costs), max(costs)
        grown = [_slope(slopes(list(costs), list(costs.values()))), _growth(ratios(costs[last], costs[first]))]
    of_base = ""
    if line[-1] is not last_base and xs[-1] in costs and curve.field in last_base:
        noise = ratios(again[curve.field], last_base[curve.field]) if curve.field in again and again is not line[-1] else None
        of_base = ratio_text(ratios(costs[xs[-1]], curve.costs(last_base)), noise)
    return [*places, *grown, of_base]


def _table(name: str, rows: list[Row]) -> str:
    curve, lines = CURVES[name], _lines(rows)
    xs = sorted({row["x"] for row in rows})
    last_base = next(row for row in rows if row["base"] and row["x"] == xs[-1])
    again = next((row for row in rows if row["contender"] == "again" and row["x"] == xs[-1]), {})
    counts = [len(row[curve.field]) for row in rows if curve.field in row]
    head = ("", *(f"{x:,}" for x in xs), "slope", f"{xs[-1]:,} against {xs[0]:,}", f"at {xs[-1]:,}, of {last_base['label']}")
    body = table(head, [(line[0]["label"], *_cells(curve, line, xs, last_base, again)) for line in lines.values()])
    return f"### {curve.title}{count_text(counts)}\n\n{curve.y}, against {curve.x}:\n\n{body}"


@each_python
def part(rows: Rows) -> str:
    found = ["A slope is the power of x by which the cost grows. 0: it costs the same however many there are; 1: in proportion. Intervals are over the rounds.\n"]
    return "\n".join([*found, *(_table(name, here) for name in CURVES if (here := _of(rows.rows, name)))])


def plots(rows: Sequence[Row]) -> list[Plot]:
    """A log-log plot of each curve of the first interpreter, slopes in the legend."""
    found = []
    main = Rows.of_main(rows).rows
    for name, curve in CURVES.items():
        lines = []
        for contender, line in _lines(row for row in _of(main, name) if curve.field in row).items():
            if contender != "again":
                costs = [curve.costs(row) for row in line]
                lines.append(Line.measured(line[0]["label"], [row["x"] for row in line], costs, series.kind(contender), slope=True))
        if lines:
            found.append(Plot(f"scaling-{name}", curve.title, curve.x, curve.y, lines, log_x=True, log_y=True))
    return found


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One for each contender at each x."""
    return [figure for name, curve in CURVES.items() for figure in series.figures(curve.field)(_of(rows, name))]
