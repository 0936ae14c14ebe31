#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Look-ups in shared tables while snapshots are replaced, beside other ways to share a table: a section of run.sh.

    python3 bench/registry.py [--quick] [OPTION...]      with options of run.sh

Runs bench_registry of bench/micro, in which contenders take turns; README.md explains the figures.
"""
from __future__ import annotations

import math
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import compared
import series
from plots import Line, Plot
from rows import say
from sections import Effort, Place, Section
from stats import Median, ratios
from tables import Row, Rows, by_python, count_text, number, ratio_text, table, why

OURS = "ladewerk"
LABELS = {compared.AGAIN: f"{OURS}, again"}
PARTS = ("5000", "50000", "1000000")  # names
MS = 200  # of a round


@dataclass(frozen=True)
class Sample:
    lookups: int
    wall_ns: int
    cpu_ns: int
    sleeps: int
    swaps: int

    @property
    def cpu(self) -> float:
        """CPU time of the readers for one look-up."""
        return self.cpu_ns / self.lookups

    @property
    def rate(self) -> float:
        """Look-ups a second of all readers, in millions."""
        return self.lookups / self.wall_ns * 1e3


Samples = dict[tuple[str, int, int], list[Sample]]


def parse(lines: Iterable[str]) -> Samples:
    samples: Samples = defaultdict(list)
    for line in lines:
        name, threads, swaps, _round, *numbers = line.rstrip("\n").split("\t")
        samples[name, int(threads), int(swaps)].append(Sample(*map(int, numbers)))
    return samples


def rows_of(python: str, names: int, samples: Samples) -> list[Row]:
    """A row for each table, with so many threads and swaps a second; ours is the base."""
    rows = []
    for (name, threads, swaps), found in samples.items():
        workload = f"{names}-names-{threads}-threads-{swaps}-swaps"
        title = f"{names:,} names, {threads} thread{'s' * (threads > 1)}, {swaps} swaps a second"
        row = compared.row("registry", python, workload, title, re.sub(r"[^a-z]+", "-", name.lower()).strip("-"), LABELS.get(name, name), base=name == OURS, names=names, threads=threads, swaps=swaps)
        rows.append({**row, "cpu_ns": [round(s.cpu, 3) for s in found], "rate": [round(s.rate, 4) for s in found], "sleeps": sum(s.sleeps for s in found)})
    return rows


def run(place: Place, effort: Effort) -> list[Row]:
    python, rows = place.main.key, []
    for names in place.parts.get("registry") or PARTS:
        say(f"  {int(names):,} names")
        why_not = place.no_programs
        if place.programs is not None:
            done = subprocess.run([place.programs / "bench_registry", names, str(effort.rounds), str(MS)], capture_output=True, text=True)
            if done.returncode == 0:
                rows += rows_of(python, int(names), parse(done.stdout.splitlines()))
                continue
            why_not = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        rows.append(compared.row("registry", python, f"{names}-names", f"{int(names):,} names", OURS, OURS, base=True, names=int(names), skipped=why_not))
    return rows


# --- what is said of them ---------------------------------------------------------------------------------------------

def _scaling(rows: Rows, row: Row) -> str:
    """Look-ups a second, of one thread's in the same round."""
    if row["threads"] == 1:
        return ""
    alone = rows.get("registry", f"{row['names']}-names-1-threads-{row['swaps']}-swaps", row["contender"])
    return ratio_text(ratios(row["rate"], alone["rate"])) if "rate" in alone else ""


def _table(rows: Rows, names: int) -> str:
    lines = []
    for row in sorted((row for row in rows.rows if row["names"] == names), key=lambda row: (row.get("threads", 0), row.get("swaps", 0))):
        if "skipped" in row:
            lines.append([row["label"], why(row), *[""] * 6])
            continue
        cpu, rate = (number(Median.of(row[field]).value) for field in ("cpu_ns", "rate"))
        lines.append([row["label"], str(row["threads"]), str(row["swaps"]), cpu, rows.of_base(row, "cpu_ns"), rate, _scaling(rows, row), str(row["sleeps"])])
    return table(("", "threads", "swaps/s", "CPU ns per look-up", f"of {OURS}", "M look-ups/s", "scaling", "sleeps"), lines)


def part(rows: Sequence[Row]) -> str:
    texts = []
    for theirs in by_python(rows).values():
        for names in dict.fromkeys(row["names"] for row in theirs.rows):
            count = count_text(len(row.get("cpu_ns", ())) for row in theirs.rows if row["names"] == names)
            texts += [f"### {names:,} names{count}\n", _table(theirs, names)]
    return "\n".join(texts)


def plots(rows: Sequence[Row]) -> list[Plot]:
    """Against the names, with one thread and nobody who replaces anything."""
    alone = [row for row in rows if row.get("threads") == 1 and row.get("swaps") == 0]
    by_label: dict[tuple[str, str], list[Row]] = {}
    for row in (row for row in alone if row["contender"] != compared.AGAIN):
        by_label.setdefault((row["label"], row["contender"]), []).append(row)
    lines = [Line.measured(label, [row["names"] for row in theirs], [row["cpu_ns"] for row in theirs], compared.kind(key)) for (label, key), theirs in by_label.items()]
    return [Plot("registry", "A look-up, one thread, nothing replaced", "names", "CPU ns", lines, log_x=True)] if any(len(line.xs) > 1 for line in lines) else []


SECTION = Section(
    "registry", "Look-ups in shared tables", {"full": Effort(11, math.inf)}, run, part, plots, series.figures("cpu_ns"), needs=frozenset({"programs"}), parts=PARTS)
