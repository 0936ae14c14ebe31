# SPDX-License-Identifier: MIT
"""Figures and plots of the import sections."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from figures import Figure
from importing.tables import pss_mb
from plots import Line, Plot
from series import bars, kind, ratio_bars
from stats import Median, differences
from tables import Row, Rows, by_python


def programs(key: str) -> Callable[[Sequence[Row]], list[Plot]]:
    return ratio_bars(f"{key}-cpu", "CPU of the whole process, of stock", "of stock (below 1 is less)", "cpu_ms",
                      ("again", "ladewerk-learning", "ladewerk-gc0", "ladewerk-unmarshal0"))


def startup(rows: Sequence[Row]) -> list[Plot]:
    main = Rows.of_main(rows)
    lines, _ = bars(main, "startup", lambda row, base: differences(row["wall_ms"], base["wall_ms"]))
    return [Plot("startup", "python -c pass: what it takes more", "", "wall ms more than without Ladewerk", lines, names=("",), mark=0.0)] if lines else []


def modules(rows: Sequence[Row]) -> list[Plot]:
    main = Rows.of_main(rows)
    each = 1000 / main.rows[0].get("count", 1)
    found = [Line.of(row["label"], [0], [Median.of(row["inside_wall_ms"]).scaled(each)], kind(row["contender"]))
             for row in main.section("modules") if row.get("inside_wall_ms") and row["contender"] not in ("again", "ladewerk-learning")]
    return [Plot("modules", main.rows[0]["title"], "", "us per module", found, names=("",))] if found else []


def paths(rows: Sequence[Row]) -> list[Plot]:
    """Cost against path entries; workloads are entries-N."""
    main = Rows.of_main(rows)
    loads = [load for load in main.workloads("paths") if load.removeprefix("entries-").isdigit()]
    xs, lines = [int(load.removeprefix("entries-")) for load in loads], []
    for key, label in {row["contender"]: row["label"] for row in main.section("paths")}.items():
        series = [main.get("paths", load, key).get("inside_wall_ms", ()) for load in loads]
        if all(series) and key not in ("again", "ladewerk-learning"):
            lines.append(Line.measured(label, xs, series, kind(key), slope=True))
    title = f"{main.rows[0].get('count', '')} modules, all behind so many path entries"
    return [Plot("paths", title, "path entries", "ms", lines, log_x=True, log_y=True)] if lines else []


def calls(rows: Sequence[Row]) -> list[Figure]:
    """Counted once: a figure of one value."""
    return [
        Figure("/".join((row.get("python", ""), "syscalls", row["workload"], row["contender"], "calls")), f"{row['title']}: {row['label']}", "calls",
               [round(sum(row["calls"].values(), 0.0), 3)], counted=True)
        for row in rows if "calls" in row
    ]


def memory(rows: Sequence[Row]) -> list[Figure]:
    """Looked at once: of one value, beside that of the base."""
    found = []
    for python, theirs in by_python(rows).items():
        for row in theirs.rows:
            if "children_kb" in row:
                base = theirs.base("memory", row["workload"])
                of = [pss_mb(base)] if row is not base and "children_kb" in base else None
                found.append(Figure("/".join((python, "memory", row["workload"], row["contender"], "pss_mb")), f"{row['title']}: {row['label']}", "MB", [pss_mb(row)], of))
    return found


def blocks(rows: Sequence[Row]) -> list[Figure]:
    """hyperfine's own samples: nothing pairs them."""
    return [
        Figure("/".join((row.get("python", ""), "hyperfine", row["workload"], row["contender"], "wall_ms")), f"{row['title']}: {row['label']}", "ms", row["hyperfine"]["wall_ms"])
        for row in rows if "hyperfine" in row
    ]
