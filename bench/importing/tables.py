# SPDX-License-Identifier: MIT
"""The tables of the import sections: programs, paths, modules, startup, memory, cold, syscalls, hyperfine."""
from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from stats import Median, differences, outliers, quotient, ratios
from tables import (
    Cell, Row, Rows, by_python, count_text, difference_to, each_python, escaped, matrix, median_text, number, ratio_text, rounds_of, rss_text, same_contenders, served,
    signed, table, times_text, why,
)


@each_python
def startup(rows: Rows) -> str:
    lines = []
    for row in rows.section("startup"):
        if "skipped" in row:
            lines.append((row["label"], why(row), "", "", ""))
            continue
        base, again = rows.base("startup", row["workload"]), rows.get("startup", row["workload"], "again")
        over = [difference_to(row, base, again, field) for field in ("wall_ms", "cpu_ms")]
        lines.append((row["label"], median_text(row, "wall_ms"), over[0], median_text(row, "cpu_ms"), over[1]))
    return table(("command", "wall, ms", "over the first", "CPU, ms", "over the first"), lines)


@each_python
def programs(rows: Rows) -> str:
    """Of any section whose rows are programs as whole processes."""
    section = rows.rows[0]["section"]
    loads = rows.workloads(section)
    parts = []
    for group in same_contenders(rows, section):
        parts += ["CPU of the whole process, of stock (below 1 is less):\n", matrix(rows, section, group, lambda row, base: rows.of_base(row, "cpu_ms"))]
    if yardsticks := _yardsticks(rows, section, loads):
        parts += ["CPU of Ladewerk, of others:\n", yardsticks]
    for load in loads:
        n = rounds_of(row for row in rows.section(section) if row["workload"] == load)
        parts += [f"### {rows.title(section, load)}{n}\n", _program_table(rows, section, load)]
    return "\n".join(parts)


def pythons(rows: Sequence[Row]) -> str:
    """All interpreters beside each other; each has a base of its own, and the first one's base is everybody's yardstick."""
    found = by_python(rows)
    first = next(iter(found))
    head = ("", "", "CPU, ms", "of stock", f"of stock on {first}", "wall, ms", "of stock", "served")
    tables = []
    for load in found[first].workloads("pythons"):
        yardstick = found[first].base("pythons", load)
        lines = [
            (python, row["label"], *_beside(theirs, row, yardstick))
            for python, theirs in found.items() for row in theirs.section("pythons") if row["workload"] == load
        ]
        title = found[first].title("pythons", load)
        tables.append(f"### {title}{rounds_of(row for row in rows if row['workload'] == load)}\n\n{table(head, lines)}")
    return "\n".join(tables)


def _beside(rows: Rows, row: Row, yardstick: Row) -> list[str]:
    if "skipped" in row:
        return [why(row), *[""] * 5]
    there = "cpu_ms" in yardstick and len(yardstick["cpu_ms"]) == len(row["cpu_ms"]) and row is not yardstick
    of_first = ratio_text(ratios(row["cpu_ms"], yardstick["cpu_ms"])) if there else ""
    return [median_text(row, "cpu_ms"), rows.of_base(row, "cpu_ms"), of_first, median_text(row, "wall_ms"), rows.of_base(row, "wall_ms"), served(row)]


def _yardsticks(rows: Rows, section: str, loads: Sequence[str]) -> str:
    lines, labels = [], {row["contender"]: row["label"] for row in rows.section(section)}
    for other in ("gc", "pycds", "pycds-gc", "packfloor"):
        for mode in ("ladewerk-stat", "ladewerk-frozen"):
            found = [rows.ratio("cpu_ms", (section, load, mode), (section, load, other)) for load in loads]
            if any(found):
                noise = [rows.noise(rows.get(section, load, mode), "cpu_ms") if ratio else None for ratio, load in zip(found, loads, strict=True)]
                lines.append((f"{labels[mode]}, of {labels[other]}", *map(ratio_text, found, noise)))
    return table(("", *(rows.title(section, load) for load in loads)), lines) if lines else ""


def private_kb(row: Row) -> int | None:
    """Memory of a warm run that no other process shared with it: what is written to, and files that only it had mapped."""
    kb = row.get("check", {}).get("memory_kb", {})
    return kb["Private_Clean"] + kb["Private_Dirty"] if "Private_Dirty" in kb else None


def _private_text(row: Row) -> str:
    kb = private_kb(row)
    return "" if kb is None else f"{kb / 1024:.1f} ({row['check']['memory_kb'].get('Anonymous', 0) / 1024:.1f})"


def _program_table(rows: Rows, section: str, load: str) -> str:
    lines = []
    for row in rows.section(section):
        if row["workload"] != load:
            continue
        if "skipped" in row:
            lines.append((row["label"], why(row), *[""] * 7))
            continue
        lines.append((
            row["label"], median_text(row, "cpu_ms"), rows.of_base(row, "cpu_ms"), median_text(row, "wall_ms"), rows.of_base(row, "wall_ms"),
            rss_text(row), _private_text(row), str(row["check"].get("modules", "")), served(row),
        ))
    return table(("", "CPU, ms", "of stock", "wall, ms", "of stock", "RSS, MB", "private (anonymous), MB", "modules", "served"), lines)


@each_python
def paths(rows: Rows) -> str:
    loads = rows.workloads("paths")

    def timed(field: str) -> Cell:
        def cell(row: Row, base: Row) -> str:
            if row["base"]:
                return median_text(row, field)
            again = rows.get("paths", row["workload"], "again")
            noise = ratios(base[field], again[field]) if field in again and row is not again else None
            return f"{median_text(row, field)} ({times_text(ratios(base[field], row[field]), noise)})"
        return cell

    count = rows.section("paths")[0]["count"]
    return (
        f"Wall ms for the {count} imports, timed inside, start-up excluded (times faster than stock):\n\n"
        + matrix(rows, "paths", loads, timed("inside_wall_ms"))
        + "\nCPU ms of the whole process as its parent sees it (times faster than stock):\n\n"
        + matrix(rows, "paths", loads, timed("cpu_ms"))
    )


def over_floor(row: Row, floor: Row, lock: Row) -> list[Median]:
    """ms over the bodies alone, and over the bodies and CPython's module lock; round by round."""
    if "skipped" in floor:
        return []
    bodies = floor["inside_wall_ms"]
    found = [differences(row["inside_wall_ms"], bodies)]
    if "skipped" not in lock:
        found.append(differences(row["inside_wall_ms"], [a + b for a, b in zip(bodies, lock["inside_wall_ms"], strict=True)]))
    return found


@each_python
def modules(rows: Rows) -> str:
    lines = []
    for load in rows.workloads("modules"):
        base, floor, lock = (rows.get("modules", load, key) for key in (rows.base("modules", load)["contender"], "floor", "lock"))
        each = 1000 / base["count"]
        for row in rows.section("modules"):
            if "skipped" in row:
                lines.append((row["label"], why(row), *[""] * 6))
                continue
            over = "" if row in (floor, lock) else " / ".join(number(each * value.value) for value in over_floor(row, floor, lock))
            lines.append((
                row["label"], median_text(row, "inside_wall_ms", each), median_text(row, "inside_cpu_ms", each), over, rows.of_base(row, "inside_wall_ms"),
                median_text(row, "cpu_ms"), median_text(row, "wall_ms"), served(row),
            ))
    head = (
        "", "wall, us/module", "CPU, us/module", "over the floor / and lock, us", "wall, of stock",
        "process CPU, ms", "process wall, ms", "served",
    )
    return table(head, lines)


@each_python
def memory(rows: Rows) -> str:
    lines = []
    for row in rows.section("memory"):
        if "skipped" in row:
            lines.append((row["label"], why(row), *[""] * 4))
            continue
        children, base = row["children_kb"], rows.base("memory", row["workload"])
        cache = [child["cache"] for child in children]
        total = pss_mb(row)
        lines.append((
            row["label"],
            *(_median_mb(cache, *fields) for fields in (("Shared_Clean", "Shared_Dirty"), ("Private_Clean", "Private_Dirty"))),
            _median_mb([child["all"] for child in children], "Private_Clean", "Private_Dirty"),
            number(total), "" if row["base"] or "skipped" in base else f"{total / pss_mb(base):.3f}",
        ))
    head = ("", "cache in a child: shared, MB", "private, MB", "all private of a child, MB", "PSS of all, MB", "of stock")
    return (
        "Children are forked after the imports; each imports the program once more, so that it reads the cache itself. Looked at once; median of the "
        "children, taken while all are alive; PSS is the sum over parent and children.\n\n" + table(head, lines)
    )


def _median_mb(found: Sequence[dict[str, int]], *fields: str) -> str:
    return f"{statistics.median(sum(kb[field] for field in fields) for kb in found) / 1024:.2f}"


def pss_mb(row: Row) -> float:
    kib: int = sum(kb["all"]["Pss"] for kb in (row["parent_kb"], *row["children_kb"]))
    return kib / 1024


def shared_cache(rows: Rows) -> float | None:
    """Of the pages of the cache that a child has in memory, the part that others have as well; the worst child."""
    found = []
    for row in rows.section("memory"):
        if row["contender"].startswith("ladewerk") and "skipped" not in row:
            for kb in (child["cache"] for child in row["children_kb"]):
                found.append((kb["Shared_Clean"] + kb["Shared_Dirty"]) / kb["Rss"] if kb["Rss"] else 0.0)
    return min(found, default=None)


CONDITIONS = {"dropped": "caches dropped", "slow": "0.5 ms per request"}


def added(row: Row, condition: str) -> list[float] | None:
    """ms that a cold run took longer than the warm run after it."""
    found = row.get("cold", {}).get(condition)
    return [cold - warm for cold, warm in zip(found["cold_ms"], found["warm_ms"])] if found else None


def apart_from_interpreter(rows: Rows, row: Row, condition: str) -> list[float] | None:
    """The same without what an interpreter adds that imports nothing, round by round."""
    here = added(row, condition)
    alone = added(rows.get("cold", row["workload"], "interpreter"), condition) if here else None
    return [a - b for a, b in zip(here, alone, strict=True)] if here and alone else None


def times_less(stock: list[float] | None, here: list[float] | None) -> Median | None:
    """The median of the time added to stock, divided by the median added here: a single round may well have added nothing. The interval is what the two
    medians' own allow, wider than one of pairs would be."""
    if not stock or not here:
        return None
    one, other = Median.of(stock), Median.of(here)
    if other.value <= 0:
        return None
    high = one.high / other.low if other.low > 0 else math.inf
    return Median(one.value / other.value, max(0.0, one.low) / other.high, high, other.n)


def _cold_cells(rows: Rows, row: Row, condition: str) -> list[str]:
    here, base = added(row, condition), rows.base("cold", row["workload"])
    if here is None:
        return [f"*{escaped(row['cold_skipped'].get(condition, ''))}*", "", "", "", ""]
    reads = row["cold"][condition].get("reads")
    again = rows.get("cold", row["workload"], "again")
    cells = [signed(Median.of(here)), _times_text(row, added(base, condition), here, added(again, condition))]
    if row["contender"] != "interpreter" and (apart := apart_from_interpreter(rows, row, condition)):
        cells += [signed(Median.of(apart)), _times_text(row, *(apart_from_interpreter(rows, each, condition) for each in (base, row, again)))]
    return [*cells, *[""] * (4 - len(cells)), number(statistics.median(reads)) if reads else ""]


def _times_text(row: Row, stock: list[float] | None, here: list[float] | None, again: list[float] | None) -> str:
    """How many times less than STOCK was added HERE; stock measured AGAIN is the noise."""
    times, noise = times_less(stock, here), times_less(stock, again)
    return "" if row["base"] or times is None else times_text(times, None if row["contender"] == "again" else noise)


@each_python
def cold(rows: Rows) -> str:
    parts = ["Wall ms that a run without anything in memory takes longer than a warm one, and how many times less than stock that is.\n"]
    head = ("", "added, ms", "times less than stock", "interpreter apart, ms", "times less than stock", "requests")
    for load in rows.workloads("cold"):
        found = [row for row in rows.section("cold") if row["workload"] == load]
        for condition, name in CONDITIONS.items():
            runs = [len(row["cold"][condition]["cold_ms"]) for row in found if condition in row["cold"]]
            lines = [(row["label"], *([why(row), *[""] * 4] if "skipped" in row else _cold_cells(rows, row, condition))) for row in found]
            parts += [f"### {rows.title('cold', load)}, {name}" + count_text(runs) + "\n", table(head, lines)]
    return "\n".join(parts)


@each_python
def syscalls(rows: Rows) -> str:
    loads = rows.workloads("syscalls")
    parts = [matrix(rows, "syscalls", loads, lambda row, base: f"{sum(row['calls'].values()):.2f}"), "Which ones, per module:\n"]
    lines = []
    for row in rows.section("syscalls"):
        if "calls" in row and row["workload"] in (loads[0], loads[-1]):
            calls = ", ".join(f"{name} {each:.2f}" for name, each in row["calls"].items() if abs(each) >= 0.05)
            lines.append((row["title"], row["label"], calls or "none"))
    parts.append(table(("", "", ""), lines, text=True))
    if own := _own_statx(rows):
        parts += [
            "`stat` re-validates a long path at most once in 10 ms, and strace makes every call take many times as long: above "
            "32 entries its count is too high. statx per import by Ladewerk's own counter, not traced:\n", own,
        ]
    return "\n".join(parts)


def _own_statx(rows: Rows) -> str:
    """The counter of a warm run, divided by the modules; empty where it is not known."""
    row = [rows.get("syscalls", load, "ladewerk-stat") for load in rows.workloads("syscalls")]
    counts = [r.get("check", {}).get("stats", {}).get("session", {}).get("statx") for r in row]
    if None in counts:
        return ""
    line = ("Ladewerk, stat", *(f"{count / r['count']:.2f}" for count, r in zip(counts, row)))
    return table(("", *(r["title"] for r in row)), [line])


@each_python
def hyperfine(rows: Rows) -> str:
    def cell(row: Row, base: Row) -> str:
        wall, first = (Median.of(r["hyperfine"]["wall_ms"]) for r in (row, base))
        far, again = outliers(row["hyperfine"]["wall_ms"]), rows.get("hyperfine", row["workload"], "again")
        noise = None if "skipped" in again or row is again else quotient(Median.of(again["hyperfine"]["wall_ms"]), first)
        return number(wall.value) + ("" if row["base"] else f" ({ratio_text(quotient(wall, first), noise)})") + (f", {far} outlier{'s' * (far > 1)}" if far else "")

    return "Median wall ms (of the first row's median: nothing pairs them), one warm-up run each; outliers are as hyperfine defines them:\n\n" + "\n".join(
        matrix(rows, "hyperfine", loads, cell) for loads in same_contenders(rows, "hyperfine")
    )
