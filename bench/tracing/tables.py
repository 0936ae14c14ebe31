# SPDX-License-Identifier: MIT
"""The rows of trace.py as tables, goals, figures and plots."""
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import compared
from figures import Figure
from goals import Goal, at_most
from stats import Median, differences, ratios
from tables import Row, Rows, count_text, number, table, why

ATTACH = {"attach_ms": "attach, ms", "detach_ms": "detach, ms", "cpu_ms": "CPU of the tracer, ms", "peak_mib": "peak memory, MiB", "maps_mib": "kernel maps, MiB"}


# --- goals ------------------------------------------------------------------------------------------------------------

Found = Callable[[Row, Row], Median]  # of a row, and of nobody's


def _ratio(row: Row, nobody: Row) -> Median:
    return ratios(row[row["field"]], nobody[row["field"]])


def _more(row: Row, nobody: Row) -> Median:
    return differences(row[row["field"]], nobody[row["field"]])


def _own(field: str) -> Found:
    return lambda row, nobody: Median.of(row[field])


_GOALS: list[tuple[str, str, str, float, Found]] = [
    ("spans: CPU us more per module", "modules", "ladewerk-no-sched", 2, _more),
    ("spans: CPU of sympy, ratio", "sympy", "ladewerk-no-sched", 1.015, _ratio),
    ("with sched: CPU of sympy, ratio", "sympy", "ladewerk", 1.025, _ratio),
    ("with sched: cached imports, ratio", "cached", "ladewerk", 1.02, _ratio),
    ("with sched: attach, ms", "attach", "ladewerk", 150, _own("attach_ms")),
    ("with sched: detach, ms", "attach", "ladewerk", 300, _own("detach_ms")),
    ("with sched: peak memory of the loader, MiB", "attach", "ladewerk", 20, _own("peak_mib")),
    ("with sched: kernel maps, MiB", "attach", "ladewerk", 16, _own("maps_mib")),
]


def goals(rows: Sequence[Row]) -> list[Goal]:
    main, found = Rows.of_main(rows), []
    for text, workload, contender, most, of in _GOALS:
        row, nobody = (main.get("trace", workload, who) for who in (contender, "nobody"))
        if workload in main.workloads("trace"):
            lacking = row.get("skipped") or (nobody.get("skipped", "") if workload != "attach" else "")
            found.append(Goal(f"tracing, {text}", f"<= {most:g}", at_most(most), None if lacking else of(row, nobody), why=lacking))
    return found


# --- tables -----------------------------------------------------------------------------------------------------------

def _interval(found: Median) -> str:
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"


def _attach(rows: Sequence[Row]) -> str:
    lines = [
        [row["label"], why(row), *[""] * (len(ATTACH) - 1)] if "skipped" in row else [row["label"], *(_interval(Median.of(row[field])) for field in ATTACH)]
        for row in rows
    ]
    return f"### {rows[0]['title']}{count_text(len(row.get('attach_ms', ())) for row in rows)}\n\n" + table(("", *ATTACH.values()), lines)


COLUMNS = {
    "target and tracer, CPU ms": lambda row: number(statistics.median(row["all_cpu_ms"])),
    "imports seen": lambda row: str(row["imports"] or ""),
    "lost": lambda row: str(row.get("lost", "")),
}


def part(rows: Sequence[Row]) -> str:
    others, attaching = [row for row in rows if row["workload"] != "attach"], [row for row in rows if row["workload"] == "attach"]
    return "\n".join(filter(None, (compared.part(others, COLUMNS) if others else "", _attach(attaching) if attaching else "")))


def figures(rows: Sequence[Row]) -> list[Figure]:
    attaching = [row for row in rows if row["workload"] == "attach" and "skipped" not in row]
    return [*compared.figures(rows), *(
        Figure(f"{row['python']}/trace/attach/{row['contender']}/{field}", f"{row['label']}: {text}", text.rpartition(", ")[2], row[field])
        for row in attaching for field, text in ATTACH.items()
    )]
