# SPDX-License-Identifier: MIT
"""Rows found again, and made into Markdown. What every report's tables have in common."""
from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stats import PAIRS, Median, Verdict, differences, judge, ratios, reach

# One line of a table with its raw samples, as JSON has it. Always: section, python (the interpreter's key), workload, title, contender,
# label (both are what a reader sees), base (bool: others are divided by it). A row that could not run has `skipped`, the reason, and no samples.
# Samples are lists in the order of the rounds, named with their unit: cpu_ms, wall_ms, inside_wall_ms, rss_mb, ...
Row = dict[str, Any]
Cell = Callable[[Row, Row], str]  # of a row that has numbers, and of its base


# --- finding rows ---------------------------------------------------------------------------------------------------

class Rows:
    """Rows of one interpreter by section, workload and contender."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    @classmethod
    def of_main(cls, rows: Sequence[Row]) -> Rows:
        """Those of the first interpreter."""
        return next(iter(by_python(rows).values()), cls([]))

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
        return str(self.base(section, workload)["title"])

    def ratio(self, field: str, of: tuple[str, str, str], to: tuple[str, str, str]) -> Median | None:
        """Round by round, `of` divided by `to`; both are (section, workload, contender)."""
        one, other = self.get(*of), self.get(*to)
        return ratios(one[field], other[field]) if field in one and field in other else None

    def noise(self, row: Row, field: str) -> Median | None:
        """The base of the row's workload measured twice: the ratio that says nothing."""
        section, load = row["section"], row["workload"]
        return self.ratio(field, (section, load, "again"), (section, load, self.base(section, load)["contender"]))

    def of_base(self, row: Row, field: str) -> str:
        """The row's ratio to its base, with noise and verdict; "1" for the base, nothing where there is none."""
        base = self.base(row["section"], row["workload"])
        if field not in row or field not in base:
            return ""
        noise = None if row["contender"] == "again" else self.noise(row, field)
        return "1" if row is base else ratio_text(ratios(row[field], base[field]), noise)


def by_python(rows: Iterable[Row]) -> dict[str, Rows]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get("python", ""), []).append(row)
    return {python: Rows(theirs) for python, theirs in found.items()}


def each_python(part: Callable[[Rows], str]) -> Callable[[Sequence[Row]], str]:
    """A section's part, said of each of its interpreters; with a heading where there are several."""
    def all_of_them(rows: Sequence[Row]) -> str:
        found = by_python(rows)
        return "\n".join(f"### CPython {python}\n\n{part(theirs)}" if len(found) > 1 else part(theirs) for python, theirs in found.items())
    return all_of_them


# --- formatting -----------------------------------------------------------------------------------------------------

def table(head: Sequence[str], lines: Iterable[Sequence[str]], text: bool = False) -> str:
    """First column left, the others right unless they are text."""
    rule = ["---"] + ["---" if text else "--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines)) + "\n"


def number(value: float) -> str:
    """Three significant digits or whole numbers, whichever says more."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


WORDS = {Verdict.FEW: " no claim", Verdict.SAME: " within the noise", Verdict.LESS: "", Verdict.MORE: ""}


def said(found: Median, noise: Median | None = None, equal: float = 1) -> str:
    """In words, what is no claim; nothing of what is one."""
    return WORDS[judge(found, noise, equal)]


def _reach(noise: Median | None, equal: float, digits: int) -> str:
    return "" if noise is None else f" ±{reach(noise, equal):.{digits}f}"


def ratio_text(ratio: Median | None, noise: Median | None = None, verdict: Verdict | None = None) -> str:
    """`0.861 [0.858, 0.866] ±0.004`: median, interval, noise; and in words what is no claim. VERDICT: where it is not that of all ratios."""
    if ratio is None:
        return ""
    words = WORDS[verdict] if verdict else said(ratio, noise)
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]{_reach(noise, 1, 3)}{words}"


def times_text(times: Median, noise: Median | None = None) -> str:
    """The same of what is so many times as much."""
    return f"{number(times.value)}x [{number(times.low)}, {number(times.high)}]{_reach(noise, 1, 2)}{said(times, noise)}"


def signed(difference: Median, noise: Median | None = None) -> str:
    """The same of a difference."""
    found = f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"{found}{_reach(noise, 0, 2)}{said(difference, noise, 0)}"


def median_text(row: Row, field: str, scale: float = 1.0) -> str:
    return number(statistics.median(row[field]) * scale) if field in row else ""


def rss_text(row: Row) -> str:
    """A process that is no larger than the benchmark itself cannot be told from it: what is started has its starter's peak from the beginning."""
    known = "rss_mb" not in row or min(row["rss_mb"]) > 1.05 * row.get("rss_floor_mb", 0.0)
    return median_text(row, "rss_mb") if known else f"at most {median_text(row, 'rss_mb')}"


def escaped(text: str) -> str:
    """Within a cell."""
    return text.replace("|", "\\|")


def why(row: Row) -> str:
    """There are no figures."""
    return f"*{escaped(row.get('skipped', 'no samples'))}*"


def count_text(counts: Iterable[int]) -> str:
    """", n = 15" for a heading; a range where a slow machine stopped early, and what too few are good for."""
    found = set(counts) - {0}
    if not found:
        return ""
    return f", n = {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "") + (": no claims" if max(found) < PAIRS else "")


def rounds_of(rows: Iterable[Row]) -> str:
    return count_text(len(row.get("wall_ms") or row.get("hyperfine", {}).get("wall_ms", ())) for row in rows)


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


def same_contenders(rows: Rows, section: str) -> list[list[str]]:
    """The workloads of a section, those that the same contenders ran together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for load in rows.workloads(section):
        who = tuple(row["label"] for row in rows.section(section) if row["workload"] == load)
        groups.setdefault(who, []).append(load)
    return list(groups.values())


def matrix(rows: Rows, section: str, loads: Sequence[str], cell: Cell) -> str:
    """Contenders down, workloads across."""
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


def difference_to(row: Row, base: Row, again: Row, field: str) -> str:
    """What the row takes more than its base, with noise and verdict."""
    if row["base"] or field not in base:
        return ""
    noise = differences(again[field], base[field]) if field in again and row is not again else None
    return signed(differences(row[field], base[field]), noise)
