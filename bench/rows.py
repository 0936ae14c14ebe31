# SPDX-License-Identifier: MIT
"""A row of the report: a contender on a workload; checked, warmed, timed in turns with the others, and written down."""
from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pair
import workloads
from contenders import Bench, Contender, Workload
from pair import Command, Failed, Sample
from sections import Effort
from workloads import ImportLoop, Program


WARM_UP = 1  # runs after the check, which is one as well: the first learns, the second shows that it has

_MODULES_TAIL = 'import sys; print("@modules", *sorted(sys.modules))\n'
_MEMORY_TAIL = 'print("@memory", *open("/proc/self/smaps_rollup").read().split("\\n")[1:])\n'


@dataclass
class Cell:
    """One row of the report: a contender on a workload."""

    section: str
    workload: Workload
    contender: Contender
    base: bool
    skipped: str = ""
    command: Command | None = None
    modules: frozenset[str] = frozenset()
    check: dict[str, Any] = field(default_factory=dict[str, Any])
    samples: list[Sample] = field(default_factory=list)
    python: str = ""  # the interpreter's key

    @property
    def key(self) -> tuple[str, str, str]:
        return self.python, self.workload.key, self.contender.key


@dataclass
class Session:
    """An environment under test, what is installed in it or why it is not, and the rows already checked and warm, by their key."""

    bench: Bench
    installed: Mapping[str, str]
    failures: Mapping[str, str]
    ready: dict[tuple[str, str, str], Cell] = field(default_factory=dict)
    python: str = ""  # the interpreter's key
    seed: int = 1  # of the order in a round


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cells(session: Session, section: str, loads: Iterable[Workload], rivals: Iterable[Contender]) -> list[Cell]:
    """All rows of a section, the ones that cannot run with their reason; what can run is checked and warm."""
    rows = [Cell(section, load, rival, n == 0, python=session.python) for load in loads for n, rival in enumerate(rivals)]
    for row in rows:
        if (ready := session.ready.get(row.key)) is not None:
            row.skipped, row.command, row.modules, row.check = ready.skipped, ready.command, ready.modules, dict(ready.check)
        else:
            prepare(session, row)
            session.ready[row.key] = row
    for row in rows:
        compare_modules(row, next(base for base in rows if base.base and base.workload is row.workload))
    return rows


def absent(load: Workload, session: Session) -> str:
    """Why the program itself cannot be imported."""
    needs = load.needs.split() if isinstance(load, Program) else []
    missing = [name for name in needs if name not in session.installed]
    return "; ".join(f"{name} is not installed" + (f" ({why})" if (why := session.failures.get(name)) else "") for name in missing)


def prepare(session: Session, row: Cell) -> None:
    """Checks what a row imports and warms its caches; a row that fails says why and is left out."""
    bench = session.bench
    row.skipped = absent(row.workload, session) or row.contender.missing(bench, row.workload)
    if row.skipped:
        return
    say(f"  prepare {row.workload.key}: {row.contender.label}")
    try:
        row.command = row.contender.command(bench, row.workload)
        seen = pair.run(row.contender.command(bench, row.workload, tail=_MODULES_TAIL + row.contender.tail))
        row.modules = frozenset(tagged(seen.out, "@modules").split())
        row.check = {"modules": len(row.modules)}
        for _ in range(WARM_UP if row.contender.learns_once else 0):
            pair.run(row.command)
        if row.contender.learns_once:
            check_warm(bench, row)
    except (Failed, OSError) as failure:
        row.skipped = str(failure)


def check_warm(bench: Bench, row: Cell) -> None:
    """Counters and memory of a warm run; its memory is looked at before anything else is imported."""
    memory = _MEMORY_TAIL if isinstance(row.workload, Program) else ""
    if not (tail := memory + row.contender.tail):
        return
    warm = pair.run(row.contender.command(bench, row.workload, tail=tail))
    if row.contender.tail:
        row.check["stats"] = _counters(tagged(warm.out, "@stats"))
    if memory:
        row.check["memory_kb"] = {name: int(kb) for name, kb in re.findall(r"(\w+): +(\d+) kB", tagged(warm.out, "@memory"))}


def tagged(out: str, tag: str) -> str:
    """The rest of the last line of `out` that starts with `tag`."""
    lines = [line for line in out.splitlines() if line.startswith(tag + " ")]
    return lines[-1].removeprefix(tag + " ") if lines else ""


def _counters(text: str) -> dict[str, Any]:
    """The groups of counters in what ladewerk.stats() printed; its other entries describe this machine."""
    try:
        stats = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return {name: group for name, group in stats.items() if isinstance(group, (int, dict))} if isinstance(stats, dict) else {}


def compare_modules(row: Cell, base: Cell) -> None:
    """A contender that is fast because it imports less must not pass for fast."""
    if row.contender.complete and row.modules and base.modules:
        # Ladewerk's start-up module, imported by its .pth file, is in some environments only.
        row.check["missing"] = sorted(base.modules - row.modules - {"ladewerk_start"})


def time_rows(rows: list[Cell], effort: Effort, seed: int = 1) -> None:
    """Interleaved rounds over all rows given; every row can then be paired with every other one of them."""
    running = {row.key: row for row in rows if not row.skipped}

    def failed(key: tuple[str, str, str], failure: Failed) -> None:
        running[key].skipped = str(failure)

    commands = {key: row.command for key, row in running.items() if row.command}
    done = pair.rounds(commands, effort.rounds, seed, on_failure=failed, progress=_ticker(effort.rounds), seconds=effort.seconds)
    for key, samples in done.items():
        running[key].samples = samples


def _ticker(count: int) -> Callable[[int], None]:
    if not sys.stderr.isatty():
        return lambda done: None
    return lambda done: print(f"\r  round {done}/{count}", end="\n" if done == count else "\r", file=sys.stderr, flush=True)


def describe(row: Cell) -> dict[str, Any]:
    """What a row is about, without samples."""
    result = {
        "section": row.section,
        "python": row.python,
        "workload": row.workload.key,
        "title": row.workload.title,
        "contender": row.contender.key,
        "label": row.contender.label,
        "base": row.base,
        "check": row.check,
    }
    if isinstance(row.workload, ImportLoop):
        result["count"] = row.workload.count
    return {**result, "skipped": row.skipped} if row.skipped else result


def row_json(row: Cell) -> dict[str, Any]:
    result = describe(row)
    if row.skipped:
        return result
    result["wall_ms"] = [round(s.wall_ms, 4) for s in row.samples]
    result["cpu_ms"] = [round(s.cpu_ms, 4) for s in row.samples]
    result["rss_mb"] = [round(s.rss_mb, 1) for s in row.samples]
    result["rss_floor_mb"] = round(pair.own_peak_mb(), 1)
    timed = [inside for s in row.samples if (inside := workloads.inside(s.out)) is not None]
    if timed:
        result["inside_wall_ms"] = [round(t[0] / 1e6, 5) for t in timed]
        result["inside_cpu_ms"] = [round(t[1] / 1e6, 5) for t in timed]
    return result
