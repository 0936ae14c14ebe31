#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns report.json into Markdown.

    report.py REPORT.json > REPORT.md
"""
from __future__ import annotations

import json
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sections import Section
from stats import Median, differences, ratios

Row = dict
Document = dict


# --- finding rows ---------------------------------------------------------------------------------------------------

class Rows:
    """The rows of a report by section, workload and contender."""

    def __init__(self, document: Document) -> None:
        self.rows: list[Row] = document["rows"]

    def section(self, name: str) -> list[Row]:
        return [row for row in self.rows if row["section"] == name]

    def workloads(self, section: str) -> list[str]:
        return list(dict.fromkeys(row["workload"] for row in self.section(section)))

    def contenders(self, section: str, workload: str) -> dict[str, str]:
        """key -> label, in the order they were given."""
        return {row["contender"]: row["label"] for row in self.section(section) if row["workload"] == workload}

    def get(self, section: str, workload: str, contender: str) -> Row:
        for row in self.section(section):
            if row["workload"] == workload and row["contender"] == contender:
                return row
        return {"skipped": "not measured"}

    def base(self, section: str, workload: str) -> Row:
        return next(row for row in self.section(section) if row["workload"] == workload and row["base"])

    def title(self, section: str, workload: str) -> str:
        return self.base(section, workload)["title"]

    def ratio(self, field: str, of: tuple[str, str, str], to: tuple[str, str, str]) -> Median | None:
        """Round by round, `of` divided by `to`; both are (section, workload, contender)."""
        one, other = self.get(*of), self.get(*to)
        return ratios(one[field], other[field]) if field in one and field in other else None


# --- formatting -----------------------------------------------------------------------------------------------------

def table(head: Sequence[str], lines: Iterable[Sequence[str]], text: bool = False) -> str:
    """First column left, the others right unless they are text."""
    rule = ["---"] + ["---" if text else "--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"


def number(value: float) -> str:
    """Three significant digits or whole numbers, whichever says more."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def ratio_text(ratio: Median | None) -> str:
    return "" if ratio is None else f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def signed(difference: Median) -> str:
    return f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def median_text(row: Row, field: str, scale: float = 1.0) -> str:
    return number(statistics.median(row[field]) * scale) if field in row else ""


def why(row: Row) -> str:
    return f"*{row['skipped']}*".replace("|", "\\|")


def rounds_of(rows: Iterable[Row]) -> str:
    """", n = 15" for a heading; a range where a slow machine stopped early; nothing where nothing is timed."""
    counts = {len(row.get("wall_ms") or row.get("hyperfine", {}).get("wall_ms", ())) for row in rows} - {0}
    if not counts:
        return ""
    return f", n = {min(counts)}" + (f" to {max(counts)}" if len(counts) > 1 else "")


def total(counter: object) -> int | None:
    """Sum of a counter that is a number or a dict of such."""
    if isinstance(counter, bool) or not isinstance(counter, (int, dict)):
        return None
    if isinstance(counter, int):
        return counter
    return sum(total(value) or 0 for value in counter.values())


def served(row: Row) -> str:
    """Share of the imports that Ladewerk answered itself, from its own counters in a warm run."""
    stats = row.get("check", {}).get("stats")
    if not isinstance(stats, dict):
        return ""
    yes, no = total(stats.get("served")), total(stats.get("aside"))
    return "" if not yes or no is None else f"{100 * yes / (yes + no):.1f} %"


# --- parts ----------------------------------------------------------------------------------------------------------

def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def machine_lines(document: Document) -> list[tuple[str, str]]:
    box, python = document["machine"], document["python"]
    return [
        ("machine", f"{box['cpu']}, {box['cores']} cores{', virtual' if box['virtual'] else ''}, {box['memory_gib']} GiB"),
        ("system", f"{box['kernel']}, {box['filesystem']}" + (f", governor {box['governor']}" if box["governor"] else "")),
        ("python", f"{python['version']}, {python['compiler']}, configured for PGO: {_yes(python['pgo'])}, LTO: {_yes(python['lto'])}"
            + (", free-threaded" if python["free_threaded"] else "") + (", debug build" if python["debug"] else "")),
    ]


def run_lines(document: Document) -> list[tuple[str, str]]:
    others = document["neighbours"]
    return [
        ("run", f"{document['started']}, {document['seconds']:.0f} s, seed {document['seed']}{', --quick' if document['quick'] else ''}"),
        ("neighbours", f"{100 * others['others']:.1f} % of the CPU used by others, {100 * others['stolen']:.1f} % stolen by the hypervisor"),
    ]


def machine_table(document: Document, tested: Iterable[tuple[str, str]]) -> str:
    return table(("", ""), [*machine_lines(document), *tested, *run_lines(document)], text=True)


def rivals_part(document: Document) -> str:
    """Of a benchmark whose rivals are programs."""
    return machine_table(document, [("Ladewerk", document["revision"] or "not installed"), ("others", ", ".join(document["versions"]))])


def machine_part(document: Document) -> str:
    packages = {name.lower(): version for name, version in document["python"]["packages"].items()}
    tested = [f"{name} {packages[name]}" for name in ("sympy", "django", "sqlalchemy", "twisted", "pandas", "boto3") if name in packages]
    return machine_table(document, [
        ("Ladewerk", " ".join(filter(None, (packages.get("ladewerk", "not installed"), document["revision"])))),
        ("programs", ", ".join(tested) or "none"),
        ("tools", ", ".join(version or f"{name} missing" for name, version in document["tools"].items())),
    ])


def unrest(document: Document) -> list[str]:
    """What may happen to any run."""
    found = []
    if document["neighbours"]["others"] + document["neighbours"]["stolen"] > 0.05:
        found.append("The machine was not idle: ratios and counts may still hold, absolute times and narrow differences do not.")
    if document["why_not"]:
        found.append(f"Ladewerk could not be installed: {document['why_not']}")
    return found


def care(found: Iterable[str]) -> str:
    return "Read with care:\n\n" + "\n".join(f"- {text}" for text in found) + "\n"


def warnings(document: Document) -> list[str]:
    """What makes this run less believable."""
    rows, found = Rows(document), unrest(document)
    if document["python"]["debug"]:
        found.append("The interpreter is a debug build.")
    if not document["python"]["pgo"]:
        found.append(
            "The interpreter was not configured with --enable-optimizations. Unless its distributor optimized it by other "
            "means, its Python code runs slower than most, which flatters whoever replaces Python code by C."
        )
    for section, workload, field in (("startup", "pass", "wall_ms"), *(("programs", w, "cpu_ms") for w in rows.workloads("programs"))):
        control = rows.ratio(field, (section, workload, "again"), (section, workload, "stock"))
        if control and abs(control.value - 1) > 0.02:
            found.append(f"{workload}: the control, the base measured twice, differs by {100 * (control.value - 1):+.1f} %.")
    for row in document["rows"]:
        if missing := row.get("check", {}).get("missing"):
            found.append(f"{row['title']}, {row['label']}: {len(missing)} modules of stock were not imported, among them {', '.join(missing[:3])}.")
    return list(dict.fromkeys(found))


def startup_part(rows: Rows) -> str:
    lines = []
    for row in rows.section("startup"):
        if "skipped" in row:
            lines.append((row["label"], why(row), "", "", ""))
            continue
        base = rows.base("startup", row["workload"])
        over = ["", ""] if row["base"] or "wall_ms" not in base else [
            signed(differences(row[field], base[field])) for field in ("wall_ms", "cpu_ms")
        ]
        lines.append((row["label"], median_text(row, "wall_ms"), over[0], median_text(row, "cpu_ms"), over[1]))
    return table(("command", "wall, ms", "over the first", "CPU, ms", "over the first"), lines)


def programs_part(rows: Rows) -> str:
    loads = rows.workloads("programs")
    parts = ["CPU of the whole process, of stock (below 1 is faster):\n", _matrix(
        rows, "programs", loads,
        lambda row, base: ratio_text(ratios(row["cpu_ms"], base["cpu_ms"])) if not row["base"] else "1",
    ), "CPU of Ladewerk, of others:\n", _yardsticks(rows, loads)]
    for load in loads:
        n = rounds_of(row for row in rows.section("programs") if row["workload"] == load)
        parts += [f"### {rows.title('programs', load)}{n}\n", _program_table(rows, load)]
    return "\n".join(parts)


def _yardsticks(rows: Rows, loads: Sequence[str]) -> str:
    lines = []
    for other in ("gc", "pycds", "pycds-gc", "packfloor"):
        for mode in ("ladewerk-stat", "ladewerk-frozen"):
            found = [rows.ratio("cpu_ms", ("programs", load, mode), ("programs", load, other)) for load in loads]
            labels = rows.contenders("programs", loads[0])
            if any(found):
                lines.append((f"{labels[mode]}, of {labels[other]}", *map(ratio_text, found)))
    return table(("", *(rows.title("programs", load) for load in loads)), lines)


def private_kb(row: Row) -> int | None:
    """Memory of a warm run that no other process shared with it: what is written to, and files that only it had mapped."""
    kb = row.get("check", {}).get("memory_kb", {})
    return kb["Private_Clean"] + kb["Private_Dirty"] if "Private_Dirty" in kb else None


def _private_text(row: Row) -> str:
    kb = private_kb(row)
    return "" if kb is None else f"{kb / 1024:.1f} ({row['check']['memory_kb'].get('Anonymous', 0) / 1024:.1f})"


def _program_table(rows: Rows, load: str) -> str:
    base, lines = rows.base("programs", load), []
    for row in rows.section("programs"):
        if row["workload"] != load:
            continue
        if "skipped" in row:
            lines.append((row["label"], why(row), *[""] * 7))
            continue
        of = {f: "" if row["base"] or f not in base else ratio_text(ratios(row[f], base[f])) for f in ("cpu_ms", "wall_ms")}
        lines.append((
            row["label"], median_text(row, "cpu_ms"), of["cpu_ms"], median_text(row, "wall_ms"), of["wall_ms"],
            median_text(row, "rss_mb"), _private_text(row), str(row["check"]["modules"]), served(row),
        ))
    return table(("", "CPU, ms", "of stock", "wall, ms", "of stock", "RSS, MB", "private (anonymous), MB", "modules", "served"), lines)


def _matrix(rows: Rows, section: str, loads: Sequence[str], cell: Callable[[Row, Row], str]) -> str:
    """Contenders down, workloads across; `cell` formats a row that has numbers."""
    lines = []
    for key, label in rows.contenders(section, loads[0]).items():
        line = [rows.get(section, load, key) for load in loads]
        reasons = {row.get("skipped") for row in line}
        if len(reasons) == 1 and None not in reasons:
            lines.append((label, why(line[0]), *[""] * (len(loads) - 1)))
            continue
        bases = [rows.base(section, load) for load in loads]
        lines.append((label, *(
            why(row) if "skipped" in row else "" if "skipped" in base else cell(row, base) for row, base in zip(line, bases)
        )))
    return table(("", *(rows.title(section, load) for load in loads)), lines)


def paths_part(rows: Rows) -> str:
    loads = rows.workloads("paths")

    def timed(field: str) -> Callable[[Row, Row], str]:
        def cell(row: Row, base: Row) -> str:
            faster = "" if row["base"] else f" ({number(ratios(base[field], row[field]).value)}x)"
            return median_text(row, field) + faster
        return cell

    count = rows.section("paths")[0]["count"]
    return (
        f"Wall ms for the {count} imports, timed inside, start-up excluded (times faster than stock):\n\n"
        + _matrix(rows, "paths", loads, timed("inside_wall_ms"))
        + "\nCPU ms of the whole process as its parent sees it (times faster than stock):\n\n"
        + _matrix(rows, "paths", loads, timed("cpu_ms"))
    )


def over_floor(row: Row, floor: Row, lock: Row) -> list[float]:
    """ms over the bodies alone, and over the bodies and CPython's module lock; round by round."""
    if "skipped" in floor:
        return []
    bodies = floor["inside_wall_ms"]
    found = [differences(row["inside_wall_ms"], bodies).value]
    if "skipped" not in lock:
        found.append(differences(row["inside_wall_ms"], [a + b for a, b in zip(bodies, lock["inside_wall_ms"], strict=True)]).value)
    return found


def modules_part(rows: Rows) -> str:
    lines = []
    for load in rows.workloads("modules"):
        base, floor, lock = (rows.get("modules", load, key) for key in (rows.base("modules", load)["contender"], "floor", "lock"))
        each = 1000 / base["count"]
        for row in rows.section("modules"):
            if "skipped" in row:
                lines.append((row["label"], why(row), *[""] * 6))
                continue
            over = "" if row in (floor, lock) else " / ".join(number(each * value) for value in over_floor(row, floor, lock))
            of = "" if row["base"] or "skipped" in base else ratio_text(ratios(row["inside_wall_ms"], base["inside_wall_ms"]))
            lines.append((
                row["label"], median_text(row, "inside_wall_ms", each), median_text(row, "inside_cpu_ms", each), over, of,
                median_text(row, "cpu_ms"), median_text(row, "wall_ms"), served(row),
            ))
    head = (
        "", "wall, us/module", "CPU, us/module", "over the floor / and lock, us", "wall, of stock",
        "process CPU, ms", "process wall, ms", "served",
    )
    return table(head, lines)


def memory_part(rows: Rows) -> str:
    lines = []
    for row in rows.section("memory"):
        if "skipped" in row:
            lines.append((row["label"], why(row), *[""] * 4))
            continue
        children, base = row["children_kb"], rows.base("memory", row["workload"])
        cache = [child["cache"] for child in children]
        total = _pss_mb(row)
        lines.append((
            row["label"],
            *(_median_mb(cache, *fields) for fields in (("Shared_Clean", "Shared_Dirty"), ("Private_Clean", "Private_Dirty"))),
            _median_mb([child["all"] for child in children], "Private_Clean", "Private_Dirty"),
            number(total), "" if row["base"] or "skipped" in base else f"{total / _pss_mb(base):.3f}",
        ))
    head = ("", "cache in a child: shared, MB", "private, MB", "all private of a child, MB", "PSS of all, MB", "of stock")
    return (
        "Children are forked after the imports; each imports the program once more, so that it reads the cache itself. Median of the "
        "children, taken while all are alive; PSS is the sum over parent and children.\n\n" + table(head, lines)
    )


def _median_mb(found: Sequence[dict[str, int]], *fields: str) -> str:
    return f"{statistics.median(sum(kb[field] for field in fields) for kb in found) / 1024:.2f}"


def _pss_mb(row: Row) -> float:
    return sum(kb["all"]["Pss"] for kb in (row["parent_kb"], *row["children_kb"])) / 1024


def shared_cache(rows: Rows) -> tuple[float, str] | None:
    """Of the pages of the cache that a child has in memory, the part that others have as well; the worst child."""
    found = []
    for row in rows.section("memory"):
        if row["contender"].startswith("ladewerk") and "skipped" not in row:
            for kb in (child["cache"] for child in row["children_kb"]):
                found.append((kb["Shared_Clean"] + kb["Shared_Dirty"]) / kb["Rss"] if kb["Rss"] else 0.0)
    return (min(found), "") if found else None


CONDITIONS = {"dropped": "caches dropped", "slow": "caches dropped and 0.5 ms per IO"}


def added(row: Row, condition: str) -> list[float] | None:
    """ms that a cold run took longer than the warm run after it."""
    found = row.get("cold", {}).get(condition)
    return [cold - warm for cold, warm in zip(found["cold_ms"], found["warm_ms"])] if found else None


def apart_from_interpreter(rows: Rows, row: Row, condition: str) -> list[float] | None:
    """The same without what an interpreter adds that imports nothing, round by round."""
    here, alone = added(row, condition), added(rows.get("cold", row["workload"], "interpreter"), condition)
    return [a - b for a, b in zip(here, alone, strict=True)] if here and alone else None


def times_less(stock: list[float] | None, here: list[float] | None) -> float | None:
    """Median of the time added to stock, divided by the median added here; a single round may well have added nothing."""
    if not stock or not here or (divisor := statistics.median(here)) <= 0:
        return None
    return statistics.median(stock) / divisor


def _cold_cells(rows: Rows, row: Row, condition: str) -> list[str]:
    here, base = added(row, condition), rows.base("cold", row["workload"])
    if here is None:
        return [f"*{row['cold_skipped'].get(condition, '')}*".replace("|", "\\|"), "", "", "", ""]
    reads = row["cold"][condition].get("reads")
    cells = [signed(Median.of(here)), _times_text(row, times_less(added(base, condition), here))]
    if row["contender"] != "interpreter" and (apart := apart_from_interpreter(rows, row, condition)):
        cells += [signed(Median.of(apart)), _times_text(row, times_less(apart_from_interpreter(rows, base, condition), apart))]
    return [*cells, *[""] * (4 - len(cells)), number(statistics.median(reads)) if reads else ""]


def _times_text(row: Row, times: float | None) -> str:
    return "" if row["base"] or times is None else f"{times:.1f}x"


def cold_part(rows: Rows) -> str:
    parts = ["Wall ms that a run without anything in the page cache takes longer than a warm one, and how many times less than stock that is.\n"]
    head = ("", "added, ms", "less than stock", "interpreter apart, ms", "less than stock", "reads")
    for load in rows.workloads("cold"):
        found = [row for row in rows.section("cold") if row["workload"] == load]
        for condition, name in CONDITIONS.items():
            runs = [len(row["cold"][condition]["cold_ms"]) for row in found if condition in row["cold"]]
            lines = [(row["label"], *([why(row), *[""] * 4] if "skipped" in row else _cold_cells(rows, row, condition))) for row in found]
            parts += [f"### {rows.title('cold', load)}, {name}" + (f", n = {min(runs)}" if runs else "") + "\n", table(head, lines)]
    return "\n".join(parts)


def syscalls_part(rows: Rows) -> str:
    loads = rows.workloads("syscalls")
    parts = [_matrix(rows, "syscalls", loads, lambda row, base: f"{sum(row['calls'].values()):.2f}"), "Which ones, per module:\n"]
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


def hyperfine_part(rows: Rows) -> str:
    def cell(row: Row, base: Row) -> str:
        wall, first = (statistics.median(r["hyperfine"]["wall_ms"]) for r in (row, base))
        return number(wall) + ("" if row["base"] else f" ({wall / first:.3f})")

    return "Median wall ms (of the first row's median):\n\n" + "\n".join(
        _matrix(rows, "hyperfine", loads, cell) for loads in _same_contenders(rows, "hyperfine")
    )


def _same_contenders(rows: Rows, section: str) -> list[list[str]]:
    """The workloads of a section, those that the same contenders ran together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for load in rows.workloads(section):
        who = tuple(row["label"] for row in rows.section(section) if row["workload"] == load)
        groups.setdefault(who, []).append(load)
    return list(groups.values())


# --- goals ----------------------------------------------------------------------------------------------------------

def goals_part(rows: Rows) -> str:
    lines = []
    for text, goal, measure, met in GOALS:
        found = measure(rows)
        if found is None:
            lines.append((text, goal, "", "not measured"))
            continue
        value, where = found if isinstance(found, tuple) else (found, "")
        lines.append((text, goal, number(value) + (f" ({where})" if where else ""), "met" if met(value) else "**missed**"))
    return table(("", "goal", "measured", ""), lines)


def _faster_behind(contender: str) -> Callable[[Rows], float | None]:
    def measure(rows: Rows) -> float | None:
        ratio = rows.ratio("inside_wall_ms", ("paths", "entries-1000", "stock"), ("paths", "entries-1000", contender))
        return ratio.value if ratio else None
    return measure


def _thousand_to_one(rows: Rows) -> float | None:
    ratio = rows.ratio("inside_wall_ms", ("paths", "entries-1000", "ladewerk-frozen"), ("paths", "entries-1", "ladewerk-frozen"))
    return ratio.value if ratio else None


def _over_floor_and_lock(contender: str) -> Callable[[Rows], float | None]:
    def measure(rows: Rows) -> float | None:
        row, floor, lock = (rows.get("modules", "oneline", key) for key in (contender, "floor", "lock"))
        if "skipped" in row or "skipped" in floor or "skipped" in lock:
            return None
        return over_floor(row, floor, lock)[-1] * 1000 / row["count"]
    return measure


def _calls(contender: str) -> Callable[[Rows], float | None]:
    def measure(rows: Rows) -> float | None:
        row = rows.get("syscalls", "oneline", contender)
        return sum(row["calls"].values(), 0.0) if "calls" in row else None
    return measure


def _cpu(contender: str, base: str) -> Callable[[Rows], list[tuple[float, str]]]:
    """(ratio of the process CPU, program) for every program that both ran."""
    def measure(rows: Rows) -> list[tuple[float, str]]:
        found = [(rows.ratio("cpu_ms", ("programs", w, contender), ("programs", w, base)), w) for w in rows.workloads("programs")]
        return [(ratio.value, w) for ratio, w in found if ratio]
    return measure


def _rss(contender: str) -> Callable[[Rows], list[tuple[float, str]]]:
    def measure(rows: Rows) -> list[tuple[float, str]]:
        found = [(rows.ratio("rss_mb", ("programs", w, contender), ("programs", w, "stock")), w) for w in rows.workloads("programs")]
        return [(ratio.value, w) for ratio, w in found if ratio]
    return measure


def _private(contender: str) -> Callable[[Rows], list[tuple[float, str]]]:
    def measure(rows: Rows) -> list[tuple[float, str]]:
        pairs = [(*(private_kb(rows.get("programs", w, who)) for who in (contender, "stock")), w) for w in rows.workloads("programs")]
        return [(here / stock, w) for here, stock, w in pairs if here and stock]
    return measure


def _times_less(contender: str, condition: str, apart: bool) -> Callable[[Rows], list[tuple[float, str]]]:
    def measure(rows: Rows) -> list[tuple[float, str]]:
        found = []
        for load in rows.workloads("cold"):
            pair = [rows.get("cold", load, who) for who in ("stock", contender)]
            stock, here = (apart_from_interpreter(rows, row, condition) if apart else added(row, condition) for row in pair)
            if (times := times_less(stock, here)) is not None:
                found.append((times, load))
        return found
    return measure


Found = tuple[float, str]  # a value, and the program that it belongs to


def worst(of: Callable[[Rows], list[Found]], pick: Callable[[list[Found]], Found] = max) -> Callable[[Rows], Found | None]:
    return lambda rows: pick(found) if (found := of(rows)) else None


def median(of: Callable[[Rows], list[Found]]) -> Callable[[Rows], float | None]:
    return lambda rows: statistics.median(value for value, _ in found) if (found := of(rows)) else None


def _startup(contender: str) -> Callable[[Rows], float | None]:
    def measure(rows: Rows) -> float | None:
        row, base = rows.get("startup", "pass", contender), rows.get("startup", "pass", "stock")
        return None if "skipped" in row or "skipped" in base else differences(row["wall_ms"], base["wall_ms"]).value
    return measure


Goal = tuple[str, str, Callable[[Rows], float | Found | None], Callable[[float], bool]]


def _program_goals(mode: str) -> list[Goal]:
    key, text = f"ladewerk-{mode}", f"programs, `{mode}`: process CPU"
    return [
        (f"{text} of stock, median", "<= 0.80", median(_cpu(key, "stock")), lambda v: v <= 0.80),
        (f"{text} of stock, worst", "<= 0.90", worst(_cpu(key, "stock")), lambda v: v <= 0.90),
        (f"{text} of stock with `gc.disable()`, worst", "< 1", worst(_cpu(key, "gc")), lambda v: v < 1),
        (f"{text} of PyCDS, worst", "<= 1", worst(_cpu(key, "pycds")), lambda v: v <= 1),
        (f"{text} of the floor for this design, worst", "<= 1.1", worst(_cpu(key, "packfloor")), lambda v: v <= 1.1),
        (f"programs, `{mode}`: RSS of stock, worst", "<= 1.1", worst(_rss(key)), lambda v: v <= 1.1),
        (f"programs, `{mode}`: private memory of stock, worst", "<= 1.1", worst(_private(key)), lambda v: v <= 1.1),
    ]


def _cold_goals(mode: str, times: int) -> list[Goal]:
    return [(
        f"{name}, `{mode}`: time added{', interpreter apart' * apart}, times less than stock, worst", f">= {times}",
        worst(_times_less(f"ladewerk-{mode}", condition, apart), min), lambda v: v >= times,
    ) for condition, name in CONDITIONS.items() for apart in (False, True)]


_ONE_LINE = "one-line module, over executing it, CPython's module lock apart"

GOALS: list[Goal] = [
    ("200 modules behind 1000 path entries, `stat`: times faster than stock", ">= 50", _faster_behind("ladewerk-stat"), lambda v: v >= 50),
    ("the same, `frozen`: 1000 entries against 1", "<= 1.1", _thousand_to_one, lambda v: v <= 1.1),
    (f"{_ONE_LINE}, `stat`: us", "<= 5", _over_floor_and_lock("ladewerk-stat"), lambda v: v <= 5),
    (f"{_ONE_LINE}, `frozen`: us", "<= 3", _over_floor_and_lock("ladewerk-frozen"), lambda v: v <= 3),
    ("system calls per submodule, `stat`", "<= 2", _calls("ladewerk-stat"), lambda v: v <= 2.005),
    ("system calls per submodule, `frozen`", "0", _calls("ladewerk-frozen"), lambda v: v < 0.02),
    *_program_goals("stat"),
    *_program_goals("frozen"),
    ("16 forked children: part of the cache's pages that they share, worst", ">= 0.99", shared_cache, lambda v: v >= 0.99),
    *_cold_goals("stat", 3),
    *_cold_goals("frozen", 8),
    ("`ladewerk run -c pass` over `python -c pass`: wall ms", "<= 3", _startup("run-stat"), lambda v: v <= 3),
    ("`python -c pass` with Ladewerk enabled, over without: wall ms", "<= 0.5", _startup("enabled"), lambda v: v <= 0.5),
]


# --- the whole ------------------------------------------------------------------------------------------------------

LEGEND = """\
Contenders take turns; every ratio or difference is formed with the base *of the same round*, its median quoted with the
95 % interval of the median (below 6 rounds: the range). `bench/README.md` says what each figure means.
"""


def markdown(document: Document, sections: Iterable[Section]) -> str:
    rows = Rows(document)
    parts = ["# Import benchmark\n", machine_part(document), LEGEND]
    if found := warnings(document):
        parts.append(care(found))
    parts += ["## Goals\n", goals_part(rows)]
    for section in sections:
        if own := rows.section(section.key):
            parts += [f"## {section.title}{rounds_of(own)}\n", section_text(section, own)]
    return "\n".join(parts)


def section_text(section: Section, rows: Sequence[Row]) -> str:
    """A section that failed, or whose tables cannot be made, costs nobody the rest of a report."""
    failed = [f"The section failed: {why(row)}\n" for row in rows if not row["contender"]]
    done = [row for row in rows if row["contender"]]
    try:
        return "\n".join([*failed, section.part(done)] if done else failed)
    except Exception as error:
        traceback.print_exc()
        return "\n".join([*failed, f"*Its tables cannot be made: {type(error).__name__}: {error}*\n"])


def show(markdown: Callable[[Document], str], usage: str | None) -> None:
    """The report of the file that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(usage)
    print(markdown(json.loads(Path(sys.argv[1]).read_text())), end="")


if __name__ == "__main__":
    import suite  # which imports this module

    show(lambda document: markdown(document, suite.SECTIONS), __doc__)
