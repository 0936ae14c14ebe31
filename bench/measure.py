#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the sections of the import benchmark and writes report.json and report.md; bench/run.sh prepares what it needs."""
from __future__ import annotations

import argparse
import ast
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import contenders
import corpus
import machine
import pair
import report
import workloads
from contenders import Bench, Contender, Workload
from pair import Command, Failed, Sample
from workloads import ImportLoop, Program

@dataclass(frozen=True)
class Effort:
    """How long a section may take: rounds, and the seconds after which a slow machine stops early (inf: never)."""

    rounds: int
    seconds: float


# What settles the medians, and a short look.
FULL = {
    "startup": Effort(100, 40), "paths": Effort(11, 100), "modules": Effort(25, 40), "programs": Effort(15, 60),
    "syscalls": Effort(1, 0), "hyperfine": Effort(8, 0),
}
QUICK = {
    "startup": Effort(30, 15), "paths": Effort(3, 30), "modules": Effort(7, 15), "programs": Effort(5, 15),
    "syscalls": Effort(1, 0), "hyperfine": Effort(3, 0),
}
WARM_UP = 1  # runs after the check, which is one as well: the first learns, the second shows that it has

Groups = Sequence[Sequence[Workload]]

_MODULES_TAIL = 'import sys; print("@modules", *sorted(sys.modules))\n'


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
    check: dict = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.workload.key, self.contender.key


@dataclass
class Session:
    """An environment under test, what is installed in it, and the rows already checked and warm, by their key."""

    bench: Bench
    installed: Mapping[str, str]
    ready: dict[tuple[str, str], Cell] = field(default_factory=dict)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cells(session: Session, section: str, loads: Iterable[Workload], rivals: Iterable[Contender]) -> list[Cell]:
    """All rows of a section, the ones that cannot run with their reason; what can run is checked and warm."""
    rows = [Cell(section, load, rival, n == 0) for load in loads for n, rival in enumerate(rivals)]
    for row in rows:
        if (ready := session.ready.get(row.key)) is not None:
            row.skipped, row.command, row.modules, row.check = ready.skipped, ready.command, ready.modules, dict(ready.check)
        else:
            prepare(session, row)
            session.ready[row.key] = row
    for row in rows:
        compare_modules(row, next(base for base in rows if base.base and base.workload is row.workload))
    return rows


def absent(load: Workload, installed: Mapping[str, str]) -> str:
    """Why the program itself cannot be imported."""
    needs = load.needs if isinstance(load, Program) else ""
    return f"{needs} is not installed" if needs and needs.lower() not in installed else ""


def prepare(session: Session, row: Cell) -> None:
    """Checks what a row imports and warms its caches; a row that fails says why and is left out."""
    bench = session.bench
    row.skipped = absent(row.workload, session.installed) or row.contender.missing(bench, row.workload)
    if row.skipped:
        return
    say(f"  prepare {row.workload.key}: {row.contender.label}")
    try:
        row.command = row.contender.command(bench, row.workload)
        seen = pair.run(row.contender.command(bench, row.workload, tail=_MODULES_TAIL + row.contender.tail))
        row.modules = frozenset(_tagged(seen.out, "@modules").split())
        row.check = {"modules": len(row.modules)}
        for _ in range(WARM_UP if row.contender.learns_once else 0):
            pair.run(row.command)
        if row.contender.tail and row.contender.learns_once:  # counters of a warm run
            warm = pair.run(row.contender.command(bench, row.workload, tail=row.contender.tail))
            row.check["stats"] = _counters(_tagged(warm.out, "@stats"))
    except (Failed, OSError) as failure:
        row.skipped = str(failure)


def _tagged(out: str, tag: str) -> str:
    """The rest of the last line of `out` that starts with `tag`."""
    lines = [line for line in out.splitlines() if line.startswith(tag + " ")]
    return lines[-1].removeprefix(tag + " ") if lines else ""


def _counters(text: str) -> dict:
    """The groups of counters in what ladewerk.stats() printed; its other entries describe this machine."""
    try:
        stats = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {}
    return {name: group for name, group in stats.items() if isinstance(group, (int, dict))} if isinstance(stats, dict) else {}


def compare_modules(row: Cell, base: Cell) -> None:
    """A contender that is fast because it imports less must not pass for fast."""
    if row.contender.complete and row.modules and base.modules:
        row.check["missing"] = sorted(base.modules - row.modules)


def time_rows(rows: list[Cell], effort: Effort) -> None:
    """Interleaved rounds over all rows given; every row can then be paired with every other one of them."""
    running = {row.key: row for row in rows if not row.skipped}

    def failed(key: tuple[str, str], failure: Failed) -> None:
        running[key].skipped = str(failure)

    commands = {key: row.command for key, row in running.items() if row.command}
    done = pair.rounds(commands, effort.rounds, on_failure=failed, progress=_ticker(effort.rounds), seconds=effort.seconds)
    for key, samples in done.items():
        running[key].samples = samples


def _ticker(count: int) -> Callable[[int], None]:
    if not sys.stderr.isatty():
        return lambda done: None
    return lambda done: print(f"\r  round {done}/{count}", end="\n" if done == count else "\r", file=sys.stderr, flush=True)


def row_json(row: Cell) -> dict:
    result = {
        "section": row.section,
        "workload": row.workload.key,
        "title": row.workload.title,
        "contender": row.contender.key,
        "label": row.contender.label,
        "base": row.base,
        "check": row.check,
    }
    if isinstance(row.workload, ImportLoop):
        result["count"] = row.workload.count
    if row.skipped:
        return {**result, "skipped": row.skipped}
    result["wall_ms"] = [round(s.wall_ms, 4) for s in row.samples]
    result["cpu_ms"] = [round(s.cpu_ms, 4) for s in row.samples]
    result["rss_mb"] = [round(s.rss_mb, 1) for s in row.samples]
    timed = [inside for s in row.samples if (inside := workloads.inside(s.out)) is not None]
    if timed:
        result["inside_wall_ms"] = [round(t[0] / 1e6, 5) for t in timed]
        result["inside_cpu_ms"] = [round(t[1] / 1e6, 5) for t in timed]
    return result


def run_timed(session: Session, section: str, groups: Groups, rivals: list[Contender], effort: Effort) -> list[dict]:
    """One section; workloads of the same group share their rounds and can be compared with each other."""
    done = []
    for group in groups:
        rows = cells(session, section, group, rivals)
        say(f"  measure {', '.join(load.key for load in group)}: {effort.rounds} rounds")
        time_rows(rows, effort)
        done += [row_json(row) for row in rows]
    return done


def count_syscalls(command: Command, file: Path) -> dict[str, int]:
    """Calls by name, of the process and all its children."""
    argv = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(file), *command.argv]
    done = subprocess.run(argv, env=dict(command.env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300)
    if done.returncode != 0:
        raise Failed(f"strace: {(done.stderr.splitlines() or ['exit %d' % done.returncode])[-1]}")
    calls = {}
    for line in file.read_text().splitlines():
        name, _, number = line.strip().partition(" ")
        if number.strip().isdigit() and name != "total":
            calls[name] = int(number)
    return calls


def run_syscalls(session: Session, loads: list[ImportLoop], rivals: list[Contender]) -> list[dict]:
    """Calls of a run with all modules less those of a run with none, per module."""
    result = []
    for row in cells(session, "syscalls", loads, rivals):
        if not row.skipped and shutil.which("strace") is None:
            row.skipped = "strace not installed"
        entry = row_json(row)
        for name in ("wall_ms", "cpu_ms", "rss_mb", "inside_wall_ms", "inside_cpu_ms"):
            entry.pop(name, None)
        if not row.skipped:
            say(f"  count {row.workload.key}: {row.contender.label}")
            try:
                entry["calls"] = _calls_per_module(session.bench, row)
            except (Failed, OSError, subprocess.TimeoutExpired) as failure:
                entry["skipped"] = str(failure)
        result.append(entry)
    return result


def _calls_per_module(bench: Bench, row: Cell) -> dict[str, float]:
    load = row.workload
    assert isinstance(load, ImportLoop)
    file = bench.state / "strace.txt"
    pair.run(row.contender.command(bench, load, 0))  # what a run without modules learns is learnt
    none = count_syscalls(row.contender.command(bench, load, 0), file)
    full = count_syscalls(row.contender.command(bench, load), file)
    each = {name: (full.get(name, 0) - none.get(name, 0)) / load.count for name in {*full, *none}}
    return {name: round(calls, 3) for name, calls in sorted(each.items(), key=lambda item: -item[1]) if abs(calls) >= 0.005}


def run_hyperfine(session: Session, loads: list[Program], rivals: list[Contender], rounds: int) -> list[dict]:
    """The same whole commands through a second, independent instrument; its runs are blocks, not pairs."""
    result = []
    for row in cells(session, "hyperfine", loads, rivals):
        if not row.skipped and shutil.which("hyperfine") is None:
            row.skipped = "hyperfine not installed"
        entry = row_json(row)
        for name in ("wall_ms", "cpu_ms", "rss_mb"):
            entry.pop(name, None)
        if not row.skipped and row.command:
            try:
                entry["hyperfine"] = _hyperfine(row.command, session.bench.state / "hyperfine.json", rounds)
            except Failed as failure:
                entry["skipped"] = str(failure)
        result.append(entry)
    return result


def _hyperfine(command: Command, file: Path, rounds: int) -> dict:
    argv = ["hyperfine", "-N", "--style", "none", "--warmup", "1", "--runs", str(max(2, rounds)), "--export-json", str(file)]
    done = subprocess.run([*argv, shlex.join(command.argv)], env=dict(command.env), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"hyperfine: {(done.stderr.splitlines() or ['exit %d' % done.returncode])[-1]}")
    found = json.loads(file.read_text())["results"][0]
    return {
        "wall_ms": [round(t * 1e3, 4) for t in found["times"]],
        "cpu_mean_ms": round((found["user"] + found["system"]) * 1e3, 4),
    }


def sections(session: Session, trees: corpus.Corpus, efforts: Mapping[str, Effort]) -> dict[str, Callable[[], list[dict]]]:
    """Name -> what runs it, in the order of running."""
    start = Session(replace(session.bench, python=session.bench.small_python or session.bench.python), session.installed)
    paths, oneline, programs = workloads.path_loops(trees), workloads.oneline_loop(trees), workloads.PROGRAMS
    fine = efforts["hyperfine"].rounds
    return {
        "startup": lambda: run_timed(start, "startup", [[workloads.PASS]], contenders.STARTUP, efforts["startup"]),
        "paths": lambda: run_timed(session, "paths", [paths], contenders.PATHS, efforts["paths"]),
        "modules": lambda: run_timed(session, "modules", [[oneline]], contenders.MODULES, efforts["modules"]),
        "programs": lambda: run_timed(session, "programs", [[p] for p in programs], contenders.PROGRAMS, efforts["programs"]),
        "syscalls": lambda: run_syscalls(session, [*paths[:-1], oneline], contenders.SYSCALLS),
        "hyperfine": lambda: [
            *run_hyperfine(session, programs, contenders.HYPERFINE, fine),
            *run_hyperfine(start, [workloads.PASS], contenders.STARTUP, 5 * fine),
        ],
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of the environment under test")
    parser.add_argument("--small-python", type=Path, help="interpreter of an environment with Ladewerk alone")
    parser.add_argument("--bare-python", type=Path, help="interpreter of an empty environment")
    parser.add_argument("--enabled-python", type=Path, help="interpreter of an environment after `ladewerk enable`")
    parser.add_argument("--why-not", default="", help="what went wrong when Ladewerk was installed")
    parser.add_argument("--revision", default="", help="what was built, for the report")
    parser.add_argument("--build", type=Path, required=True, help="directory for corpus, caches and indexes")
    parser.add_argument("--output", type=Path, required=True, help="directory for report.json and report.md")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, help="rounds in every section")
    parser.add_argument("--only", action="append", choices=FULL, help="this section; may be given more than once")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def arrange(options: argparse.Namespace) -> Bench:
    """A fresh state directory: nothing that an earlier run, or another build of Ladewerk, cached takes part."""
    state = options.build / "state"
    shutil.rmtree(state, ignore_errors=True)
    cwd = state / "cwd"
    cwd.mkdir(parents=True)
    (state / "home").mkdir()
    shutil.copy(Path(__file__).with_name("dictfinder.py"), cwd)
    os.chdir(cwd)
    interpreters = (options.python, options.small_python, options.bare_python, options.enabled_python)
    return Bench(*interpreters, state=state, cwd=cwd)


def main() -> None:
    options = parse()
    for name in ("python", "small_python", "bare_python", "enabled_python", "build", "output"):
        if (path := getattr(options, name)) is not None:
            setattr(options, name, path.absolute())  # not resolve(): an interpreter's link *is* its environment
    started, clock, neighbours = datetime.now(timezone.utc), time.monotonic(), machine.Neighbours()
    bench = arrange(options)
    say("corpus")
    trees = corpus.generate(options.build / "corpus", corpus.Shape(seed=options.seed))
    python = machine.interpreter(options.python)
    installed = {name.lower(): version for name, version in python["packages"].items()}
    efforts = dict(QUICK if options.quick else FULL)
    if options.runs:
        efforts = {name: Effort(options.runs, math.inf) for name in efforts}
    rows: list[dict] = []
    seconds: dict[str, float] = {}
    for name, runner in sections(Session(bench, installed), trees, efforts).items():
        if options.only and name not in options.only:
            continue
        say(name)
        before = time.monotonic()
        rows += runner()
        seconds[name] = round(time.monotonic() - before, 1)
    document = {
        "format": 1,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 1),
        "section_seconds": seconds,
        "seed": options.seed,
        "quick": options.quick,
        "revision": options.revision,
        "why_not": options.why_not,
        "neighbours": neighbours.report(),
        "machine": machine.machine(bench.state),
        "python": python,
        "tools": machine.tools(),
        "rows": rows,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    # Error messages quote paths; where the build directory lies is nobody's business.
    text = json.dumps(document, indent=1).replace(f"{options.build}/", "")
    (options.output / "report.json").write_text(text + "\n")
    (options.output / "report.md").write_text(report.markdown(json.loads(text)))


if __name__ == "__main__":
    main()
