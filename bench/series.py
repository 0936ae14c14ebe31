# SPDX-License-Identifier: MIT
"""Figures and plots of the import sections, and of any other section whose rows have the same form."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from figures import Figure
from parts import pss_mb
from plots import Line, Plot
from stats import Median, differences, ratios
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
