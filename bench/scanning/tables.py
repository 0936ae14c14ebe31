# SPDX-License-Identifier: MIT
"""The rows of scan.py as Markdown, figures and plots; the report.json of bench/scan.sh as a report.

    python3 -m scanning.tables REPORT.json > REPORT.md      (in bench/)
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import compared
import series
from figures import Figure
from goals import Goal, goals_table
from head import Document, care, rivals_part, unrest
from plots import Plot
from report import show
from stats import ratios
from tables import Row, Rows, median_text, number, rounds_of, table, why

TITLES = {
    "warm": "Everything in memory",
    "cold": "Nothing in memory",
    "latency": "Each read takes half a millisecond",
    "revalidate": "Has any directory changed?",
    "library": "The C library and the bare loop in one process",
}
BASES = {"warm": "floor-2", "cold": "floor-2", "latency": "floor-64", "revalidate": "statloop-2"}

LEGEND = """\
Every row does the same: all `.py` files outside of `__pycache__`, `node_modules` and dot directories, with mtime and size; their number
is compared with what was generated before anything is timed. Whole processes, as their parent sees them; `inside` is what the scanner
itself reports, without an interpreter's start. `of the floor` is the median, round by round, of the wall time divided by that
of the floor's row named in the heading (below 1 is faster), with its 95 % interval; `CPU of the floor` is the same for the CPU time, which
neighbours disturb less; ± is how far the floor is from itself. `calls` are system calls per entry of the tree: by a scanner's own count, else by strace on a small tree, without
what it takes to start.
"""



# --- goals ------------------------------------------------------------------------------------------------------------

class Wanted(NamedTuple):
    """`of` and `to` are contenders (of several the fastest); the ratio is of/to, round by round."""

    text: str
    part: str
    of: tuple[str, ...]
    to: tuple[str, ...]
    wanted: str
    met: Callable[[float], bool]
    field: str = "wall_ms"


GOALS = [
    Wanted("warm, 2 threads: times as fast as fd -j2", "warm", ("fd-2",), ("ladewerk-auto-2",), ">= 1.9", lambda r: r >= 1.9),
    Wanted("the same, fd printing nothing", "warm", ("fd-2-silent",), ("ladewerk-auto-2",), ">= 1.9", lambda r: r >= 1.9),
    Wanted("warm, 2 threads: times as fast as bfs (the fastest of its rows)", "warm", ("bfs", "bfs-1", "bfs-2"), ("ladewerk-auto-2",), ">= 2.6", lambda r: r >= 2.6),
    Wanted("warm, 2 threads: the scanner alone, of the bare loop", "warm", ("driver-2",), ("floor-2",), "<= 1.1", lambda r: r <= 1.1),
    Wanted("warm: what it chooses itself, of the fastest backend it could have chosen", "warm", ("ladewerk-auto-auto",), ("ladewerk-pool-auto", "ladewerk-ring-auto"), "<= 1.05", lambda r: r <= 1.05),
    Wanted("cold: times as fast as fd -j16", "cold", ("fd-16",), ("ladewerk-auto-auto",), "> 1", lambda r: r > 1),
    Wanted("half a millisecond: times as fast as with one thread", "latency", ("ladewerk-pool-1",), ("ladewerk-auto-auto",), ">= 10", lambda r: r >= 10),
    Wanted("half a millisecond: times as fast as fd -j64", "latency", ("fd-64",), ("ladewerk-auto-auto",), "> 1", lambda r: r > 1),
    Wanted("re-validation, 2 threads, of the bare statx loop (inside both)", "revalidate", ("ladewerk-revalidate-2",), ("statloop-2",), "<= 1.2", lambda r: r <= 1.2, "inside_ms"),
]


def _fastest(rows: Rows, part: str, keys: Sequence[str], field: str) -> Row:
    """Of those that ran; else the first, which says why."""
    found = [rows.get(part, part, key) for key in keys]
    return min((row for row in found if field in row), key=lambda row: statistics.median(row[field]), default=found[0])


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Of the parts and contenders of this run."""
    main, found = compared.parts(Rows.of_main(rows).rows), []
    took_part = {(row["part"], row["contender"]) for row in main.rows}
    for goal in GOALS:
        if not all(any((goal.part, key) in took_part for key in keys) for keys in (goal.of, goal.to)):
            continue
        pair = [_fastest(main, goal.part, keys, goal.field) for keys in (goal.of, goal.to)]
        lacking = next((row for row in pair if goal.field not in row), None)
        reason = f"{lacking['label']}: {lacking['skipped']}" if lacking else ""
        ratio = None if lacking else ratios(pair[0][goal.field], pair[1][goal.field])
        found.append(Goal(f"scan, {goal.text}", goal.wanted, goal.met, ratio, why=reason))
    return found


# --- parts ------------------------------------------------------------------------------------------------------------

def _calls(row: Row) -> str:
    if row.get("syscalls") and row.get("entries"):
        return number(row["syscalls"] / row["entries"])
    return number(row["calls_per_entry"]) + (" and a ring" if row.get("ring") else "") if "calls_per_entry" in row else ""


def _chosen(row: Row) -> str:
    return " ".join(str(row[name]) for name in ("threads", "backend") if name in row)


def _line(rows: Rows, row: Row, extra: Callable[[Row], list[str]]) -> list[str]:
    if "skipped" in row:
        return [row["label"], why(row), *[""] * (7 + len(extra(row)))]
    return [
        row["label"], f"{row['sources']:,}" if row.get("sources") is not None else "", median_text(row, "wall_ms"), median_text(row, "cpu_ms"),
        median_text(row, "inside_ms"), rows.of_base(row, "wall_ms"), rows.of_base(row, "cpu_ms"), _calls(row), _chosen(row), *extra(row),
    ]


def _table(rows: Rows, part: str, heads: Sequence[str] = (), extra: Callable[[Row], list[str]] = lambda row: []) -> str:
    head = ("", "sources", "wall, ms", "CPU, ms", "inside, ms", f"of the floor, {BASES[part].rpartition('-')[2]} threads", "CPU of the floor", "calls", "threads, backend", *heads)
    return table(head, [_line(rows, row, extra) for row in rows.section(part)])


def _requests(row: Row) -> list[str]:
    return [f"{statistics.median(row['requests']):,.0f}" if row.get("requests") else ""]


def _disk(rows: Sequence[Row]) -> str:
    notes = next((row["disk"] for row in rows if "disk" in row), None)
    if notes is None:
        return ""
    return (
        f"{notes['entries']:,} entries. The disk, with random reads of 4 KiB: {notes['one_ms']:.2f} ms a read for one client ({notes['delay_us'] / 1000} ms of it made on purpose); "
        f"{notes['clients']} clients at once get {notes['at_once']:.0f} times as many reads a second"
        + (", and then the processors are what limits them" if notes["at_once"] < 0.9 * notes["clients"] else "") + ". "
        + ("" if notes["holds"] else "**This is not the disk that was wanted.** ")
        + "CPU is that of the scanner; what the disk itself takes of the same processors is not in it. `requests` are reads that the disk answered.\n"
    )


def _directories(rows: Rows) -> str:
    return f"{rows.section('revalidate')[0]['tree_directories']:,} directories, none has changed. The goal is judged by `inside`.\n"


def _library_alone(rows: Sequence[Row]) -> str:
    """What micro/revalidate.c told."""
    lines = []
    for row in rows:
        if "skipped" in row:
            lines.append((row["label"], why(row), "", ""))
            continue
        told = row["medians"]
        lines.append((row["label"], number(told["loop_ms"]), number(told["ours_ms"]), f"{told['ratio']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"))
    return "In turns, on a tree of its own with as many directories (medians; in brackets the extremes).\n\n" + table(("", "the loop, ms", "ours, ms", "of the loop"), lines)


def _part(rows: Rows, part: str) -> str:
    found = rows.section(part)
    if part == "latency":
        return _disk(found) + "\n" + _table(rows, part, ("requests",), _requests)
    if part == "revalidate":
        return f"{_directories(rows)}\n{_table(rows, part)}"
    if part == "library":
        return _library_alone(found)
    return f"{found[0]['tree_entries']:,} entries.\n\n" + _table(rows, part)


def part(rows: Sequence[Row]) -> str:
    """Of all parts that ran."""
    of, texts = compared.parts(rows), [LEGEND]
    for each, title in TITLES.items():
        if found := of.section(each):
            texts += [f"### {title}{rounds_of(found)}\n", compared.reasons(found) or _part(of, each)]
    return "\n".join(texts)


# --- figures and plots ------------------------------------------------------------------------------------------------

def figures(rows: Sequence[Row]) -> list[Figure]:
    return [*series.figures("wall_ms")([row for row in rows if row["workload"] != "revalidate"]),
            *series.figures("inside_ms")([row for row in rows if row["workload"] == "revalidate"])]


def plots(rows: Sequence[Row]) -> list[Plot]:
    return [plot for _, group in compared.groups(rows)
            for plot in (compared.bars(group, "inside_ms", "ms inside") if group[0]["workload"] == "revalidate" else compared.bars(group, "wall_ms", "wall ms"))]


# --- the whole --------------------------------------------------------------------------------------------------------

def warnings(document: Document) -> list[str]:
    found = unrest(document)
    for row in document["rows"]:
        if row.get("stats_per_source", 1) < 1 and not row.get("ring"):
            found.append(f"{row['label']} asked for times and size of {100 * row['stats_per_source']:.0f} % of the sources only: its row is not the same work.")
        if not row.get("disk", {}).get("holds", True):
            found.append("The slow disk did not behave as wanted; see its section.")
    return list(dict.fromkeys(found))


def markdown(document: Document) -> str:
    parts = ["# Scanner benchmark\n", rivals_part(document), *([care(found)] if (found := warnings(document)) else []), part(document["rows"]), "## Goals\n", goals_table(goals(document["rows"]))]
    return "\n".join(parts)


if __name__ == "__main__":
    show(markdown, __doc__)
