# SPDX-License-Identifier: MIT
"""Turns the report.json of bench/scan.sh into Markdown.

    python3 -m scanning.tables REPORT.json > REPORT.md      (in bench/)
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from head import Document, care, rivals_part, unrest
from report import show
from stats import ratios
from tables import Row, Rows, median_text, number, ratio_text, rounds_of, table, why

TITLES = {
    "warm": "Everything in memory",
    "cold": "Nothing in memory",
    "latency": "Each read takes half a millisecond",
    "revalidate": "Has any directory changed?",
}
BASES = {"warm": "floor-2", "cold": "floor-2", "latency": "floor-64", "revalidate": "statloop-2"}

LEGEND = """\
Every row does the same: all `.py` files outside of `__pycache__`, `node_modules` and dot directories, with mtime and size; their number
is compared with what was generated before anything is timed. Whole processes, as their parent sees them; `inside` is what the scanner
itself reports, without an interpreter's start. `of the floor` is the median, round by round, of the wall time divided by that
of the floor's row named in the heading (below 1 is faster), with its 95 % interval; `CPU of the floor` is the same for the CPU time, which
neighbours disturb less. `calls` are system calls per entry of the tree: by a scanner's own count, else by strace on a small tree, without
what it takes to start.
"""



# --- goals ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Goal:
    """`of` and `to` are contenders (of several the fastest); the ratio is of/to, round by round."""

    text: str
    section: str
    of: tuple[str, ...]
    to: tuple[str, ...]
    goal: str
    met: Callable[[float], bool]
    field: str = "wall_ms"


GOALS = [
    Goal("warm, 2 threads: times as fast as fd -j2", "warm", ("fd-2",), ("ladewerk-auto-2",), ">= 1.9", lambda r: r >= 1.9),
    Goal("the same, fd printing nothing", "warm", ("fd-2-silent",), ("ladewerk-auto-2",), ">= 1.9", lambda r: r >= 1.9),
    Goal("warm, 2 threads: times as fast as bfs (the fastest of its rows)", "warm", ("bfs", "bfs-1", "bfs-2"), ("ladewerk-auto-2",), ">= 2.6", lambda r: r >= 2.6),
    Goal("warm, 2 threads: the scanner alone, of the bare loop", "warm", ("driver-2",), ("floor-2",), "<= 1.1", lambda r: r <= 1.1),
    Goal("warm: what it chooses itself, of the fastest backend it could have chosen", "warm", ("ladewerk-auto-auto",), ("ladewerk-pool-auto", "ladewerk-ring-auto"), "<= 1.05", lambda r: r <= 1.05),
    Goal("cold: times as fast as fd -j16", "cold", ("fd-16",), ("ladewerk-auto-auto",), "> 1", lambda r: r > 1),
    Goal("half a millisecond: times as fast as with one thread", "latency", ("ladewerk-pool-1",), ("ladewerk-auto-auto",), ">= 10", lambda r: r >= 10),
    Goal("half a millisecond: times as fast as fd -j64", "latency", ("fd-64",), ("ladewerk-auto-auto",), "> 1", lambda r: r > 1),
    Goal("re-validation, 2 threads, of the bare statx loop (inside both)", "revalidate", ("ladewerk-revalidate-2",), ("statloop-2",), "<= 1.2", lambda r: r <= 1.2, "inside_ms"),
]


def _fastest(rows: Rows, section: str, keys: Sequence[str], field: str) -> Row:
    """Of those that ran; else the first, which says why."""
    found = [rows.get(section, section, key) for key in keys]
    return min((row for row in found if field in row), key=lambda row: statistics.median(row[field]), default=found[0])


def _judge(rows: Rows, goal: Goal) -> tuple[str, str]:
    of, to = (_fastest(rows, goal.section, keys, goal.field) for keys in (goal.of, goal.to))
    for row in (of, to):
        if goal.field not in row:
            return "", f"not measured: {row.get('label', 'not in this run')}" + (f": {row['skipped']}" if "label" in row else "")
    ratio = ratios(of[goal.field], to[goal.field])
    return ratio_text(ratio), "met" if goal.met(ratio.value) else "**missed**"


def goals_part(rows: Rows) -> str:
    lines = []
    for goal in GOALS:
        if rows.section(goal.section):
            found, verdict = _judge(rows, goal)
            lines.append((goal.text, goal.goal, found, verdict.replace("|", "\\|")))
    return table(("", "goal", "measured [95 %]", ""), lines)


# --- sections ---------------------------------------------------------------------------------------------------------

def _calls(row: Row) -> str:
    if row.get("syscalls") and row.get("entries"):
        return number(row["syscalls"] / row["entries"])
    return number(row["calls_per_entry"]) + (" and a ring" if row.get("ring") else "") if "calls_per_entry" in row else ""


def _chosen(row: Row) -> str:
    return " ".join(str(row[name]) for name in ("threads", "backend") if name in row)


def _line(row: Row, base: Row, extra: Callable[[Row], list[str]]) -> list[str]:
    if "skipped" in row:
        return [row["label"], why(row), *[""] * (7 + len(extra(base)))]
    wall, cpu = ("1" if row is base else ratio_text(ratios(row[name], base[name]) if name in base else None) for name in ("wall_ms", "cpu_ms"))
    return [
        row["label"], f"{row['sources']:,}" if row.get("sources") is not None else "", median_text(row, "wall_ms"), median_text(row, "cpu_ms"),
        median_text(row, "inside_ms"), wall, cpu, _calls(row), _chosen(row), *extra(row),
    ]


def _section(rows: Rows, section: str, heads: Sequence[str] = (), extra: Callable[[Row], list[str]] = lambda row: []) -> str:
    base = rows.get(section, section, BASES[section])
    head = ("", "sources", "wall, ms", "CPU, ms", "inside, ms", f"of the floor, {BASES[section].rpartition('-')[2]} threads", "CPU of the floor", "calls", "threads, backend", *heads)
    return table(head, [_line(row, base, extra) for row in rows.section(section)])


def _requests(row: Row) -> list[str]:
    return [f"{statistics.median(row['requests']):,.0f}" if row.get("requests") else ""]


def _disk(notes: dict) -> str:
    if "why_not" in notes:
        return notes["why_not"] + ".\n"
    return (
        f"{notes['entries']:,} entries. The disk, with random reads of 4 KiB: {notes['one_ms']:.2f} ms a read for one client ({notes['delay_us'] / 1000} ms of it made on purpose); "
        f"{notes['clients']} clients at once get {notes['at_once']:.0f} times as many reads a second"
        + (", and then the processors are what limits them" if notes["at_once"] < 0.9 * notes["clients"] else "") + ". "
        + ("" if notes["holds"] else "**This is not the disk that was wanted.** ")
        + "CPU is that of the scanner; what the disk itself takes of the same processors is not in it. `requests` are reads that the disk answered.\n"
    )


def _directories(rows: Rows) -> str:
    found = {row["directories"] for row in rows.section("revalidate") if "directories" in row}
    return f"{max(found):,} directories, none has changed. The goal is judged by `inside`.\n" if found else ""


def _library_alone(found: Sequence[dict]) -> str:
    """What micro/revalidate.c told."""
    lines = [(line["what"], number(line["loop_ms"]), number(line["ours_ms"]), f"{line['ratio']:.3f} [{line['low']:.3f}, {line['high']:.3f}]") for line in found]
    head = "The C library and the same loop in one process, in turns, on a tree of its own with as many directories (medians; in brackets the extremes):\n\n"
    return head + table(("", "the loop, ms", "ours, ms", "of the loop"), lines) if lines else ""


def section_part(document: Document, rows: Rows, section: str) -> str:
    if section == "latency":
        return _disk(document["notes"].get("latency", {"why_not": "not run"})) + "\n" + _section(rows, section, ("requests",), _requests)
    if section == "revalidate":
        parts = (_directories(rows), _section(rows, section), _library_alone(document["notes"].get("revalidate", ())))
        return "\n".join(filter(None, parts))
    return f"{document['entries']:,} entries.\n\n" + _section(rows, section)


# --- the whole --------------------------------------------------------------------------------------------------------

def warnings(document: Document) -> list[str]:
    found = unrest(document)
    for row in document["rows"]:
        if row.get("stats_per_source", 1) < 1 and not row.get("ring"):
            found.append(f"{row['label']} asked for times and size of {100 * row['stats_per_source']:.0f} % of the sources only: its row is not the same work.")
    if not document["notes"].get("latency", {}).get("holds", True):
        found.append("The slow disk did not behave as wanted; see its section.")
    return list(dict.fromkeys(found))


def markdown(document: Document) -> str:
    rows = Rows(document["rows"])
    parts = ["# Scanner benchmark\n", rivals_part(document), LEGEND]
    if found := warnings(document):
        parts.append(care(found))
    for section, title in TITLES.items():
        if rows.section(section):
            parts += [f"## {title}{rounds_of(rows.section(section))}\n", section_part(document, rows, section)]
    return "\n".join([*parts, "## Goals\n", goals_part(rows)])


if __name__ == "__main__":
    show(markdown, __doc__)
