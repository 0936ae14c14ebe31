# SPDX-License-Identifier: MIT
"""Runs the parts of the scanner's benchmark; as a command of its own it writes report.json and report.md, and bench/scan.sh prepares what it needs."""
from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cold
import compared
import machine
import pair
import running
import slowdisk
import tree
from calls import count_syscalls
from pair import Command, Failed, Sample
from rows import say
from scanning import scanners, tables
from scanning.scanners import Scanner, Where
from sections import Effort

PARTS = ("warm", "cold", "latency", "revalidate")
FULL = {"warm": Effort(11, 900), "cold": Effort(3, 1800), "latency": Effort(5, 900), "revalidate": Effort(25, 120)}
SHORT = {"warm": Effort(11, 20), "cold": Effort(3, 0), "latency": Effort(3, 0), "revalidate": Effort(21, 10)}  # where there is little time
QUICK = {"warm": Effort(5, 120), "cold": Effort(3, 0), "latency": Effort(3, 0), "revalidate": Effort(11, 30)}

ENTRIES, QUICK_ENTRIES = 1_000_000, 100_000
SLOW_ENTRIES, QUICK_SLOW_ENTRIES = 40_000, 20_000  # one thread: about 10 s, 5 s
COUNT_ENTRIES = 5_000  # small enough for strace
TIMEOUT = 600.0
INDEXING = 1800.0  # seconds; once, before re-validation

_STATS = frozenset({"statx", "newfstatat", "fstatat64", "stat", "lstat", "stat64", "lstat64"})


@dataclass
class Tree:
    """A generated tree, and what a scan of it must find."""

    root: Path
    shape: tree.Shape

    @cached_property
    def plan(self) -> list[tree.Directory]:
        return tree.make_plan(self.shape)

    @property
    def directories(self) -> list[Path]:
        return [self.root / directory.path for directory in self.plan]

    @property
    def sources(self) -> int:
        return sum(directory.modules + directory.is_package for directory in self.plan)


@dataclass
class Row:
    part: str
    scanner: Scanner
    skipped: str = ""
    sources: int | None = None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])  # that the scanner tells about itself
    samples: list[Sample] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    def json(self, python: str) -> dict[str, Any]:
        found = compared.row("scan", python, self.part, tables.TITLES[self.part], self.scanner.key, self.scanner.label, part=self.part)
        found |= {"base": self.scanner.key == tables.BASES[self.part], "sources": self.sources, **self.facts}
        if self.skipped:
            return {**found, "skipped": self.skipped}
        if self.samples:
            found["wall_ms"] = [round(s.wall_ms, 3) for s in self.samples]
            found["cpu_ms"] = [round(s.cpu_ms, 3) for s in self.samples]
        if inside := [1e3 * told["seconds"] for s in self.samples if "seconds" in (told := tell(s.out))]:
            found["inside_ms"] = [round(ms, 3) for ms in inside]
        if self.requests:
            found["requests"] = self.requests
        return found


def tell(out: str) -> dict[str, Any]:
    """The JSON object that a scanner printed; {} where it prints something else."""
    try:
        found = json.loads(out)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _take_note(row: Row, out: str) -> None:
    """Of what a scanner tells. Threads and backend depend on how long calls take: the timed runs come last and have the last word."""
    told = tell(out) if row.scanner.tells == "json" else {}
    row.facts |= {name: told[name] for name in ("entries", "directories", "syscalls", "threads", "backend") if name in told}


def _count_sources(row: Row, out: str) -> None:
    if row.scanner.tells:
        row.sources = tell(out).get("sources") if row.scanner.tells == "json" else out.count("\n")


def check(where: Where, row: Row, root: Path, sources: int) -> None:
    """One run that is not timed: does it work, and does it find what there is?"""
    row.skipped = row.skipped or row.scanner.missing(where)
    if row.skipped:
        return
    try:
        out = pair.run(row.scanner.command(where, root), TIMEOUT).out
    except (Failed, OSError) as failure:
        row.skipped = str(failure)
        return
    _take_note(row, out)
    _count_sources(row, out)
    if row.scanner.tells and row.sources != sources:
        row.skipped = f"found {row.sources} of {sources} sources: not timed"


def rows_of(part: str, rivals: Sequence[Scanner]) -> list[Row]:
    return [Row(part, rival) for rival in rivals]


Around = Callable[[str], AbstractContextManager[object]]


def time_rows(rows: list[Row], commands: dict[str, Command], effort: Effort, around: Around = lambda key: nullcontext()) -> None:
    """Interleaved rounds; every row can then be paired with every other one."""
    running = {row.scanner.key: row for row in rows if not row.skipped}
    say(f"  measure {len(running)} of {len(rows)}: up to {effort.rounds} rounds")

    def failed(key: str, failure: Failed) -> None:
        running[key].skipped = str(failure)

    done = pair.rounds(
        {key: commands[key] for key in running}, effort.rounds, on_failure=failed, seconds=effort.seconds, around=around, timeout=TIMEOUT
    )
    for key, samples in done.items():
        running[key].samples = samples
        _take_note(running[key], samples[-1].out)


def timed(where: Where, rows: list[Row], target: Path) -> dict[str, Command]:
    return {row.scanner.key: row.scanner.timed(where, target) for row in rows}


# --- parts ------------------------------------------------------------------------------------------------------------

@dataclass
class Bench:
    where: Where
    build: Path
    efforts: Mapping[str, Effort]  # of each part
    root: Path  # of the big tree
    entries: int
    slow_entries: int
    seed: int
    python: str = ""  # the interpreter's key
    rivals: Mapping[str, Sequence[Scanner]] = field(default_factory=lambda: scanners.RIVALS)  # of each part

    def shape(self, entries: int) -> tree.Shape:
        return tree.Shape(entries, self.seed)

    def generated(self, root: Path, entries: int) -> Tree:
        found = Tree(root, self.shape(entries))
        say(f"  tree of {entries:,} entries")
        tree.generate(found.root, found.shape)
        return found

    @cached_property
    def big(self) -> Tree:
        return self.generated(self.root, self.entries)

    def checked(self, part: str) -> list[Row]:
        """Checked on the big tree, which is warm afterwards."""
        rows = rows_of(part, self.rivals[part])
        for row in rows:
            say(f"  check {row.scanner.label}")
            check(self.where, row, self.big.root, self.big.sources)
        return rows


def run_warm(bench: Bench) -> list[Row]:
    rows = bench.checked("warm")
    time_rows(rows, timed(bench.where, rows, bench.big.root), bench.efforts["warm"])
    return rows


def run_cold(bench: Bench) -> list[Row]:
    """Evicts what the whole machine has cached; the programs themselves are read again before the clock runs."""
    if why := cold.cannot_evict():
        return [replace(row, skipped=why) for row in rows_of("cold", bench.rivals["cold"])]
    rows = bench.checked("cold")
    idle = timed(bench.where, rows, bench.where.empty)

    @contextmanager
    def around(key: str) -> Iterator[None]:
        cold.evict()
        pair.run(idle[key])
        yield

    time_rows(rows, timed(bench.where, rows, bench.big.root), bench.efforts["cold"], around)
    return rows


def run_latency(bench: Bench) -> list[Row]:
    rows = rows_of("latency", bench.rivals["latency"])
    try:
        with slowdisk.SlowDisk(bench.build / "slow", bench.where.programs, slowdisk.of_tree(bench.shape(bench.slow_entries))) as disk:
            found = disk.check()
            about = {**asdict(found), "at_once": found.at_once, "holds": found.holds, "entries": bench.slow_entries, "clients": slowdisk.CLIENTS, "delay_us": slowdisk.DELAY_US}
            for row in rows:
                row.facts["disk"] = about
            say(f"  the disk: {found.one_ms:.2f} ms for one read; {slowdisk.CLIENTS} clients get {found.at_once:.0f} times as many")
            _time_slow(bench, rows, disk, bench.shape(bench.slow_entries))
    except slowdisk.Unavailable as reason:
        return [replace(row, skipped=str(reason), samples=[]) for row in rows]
    return rows


def _time_slow(bench: Bench, rows: list[Row], disk: slowdisk.SlowDisk, shape: tree.Shape) -> None:
    sources = Tree(disk.root, shape).sources
    for row in rows:
        # The first has brought the tree into memory: this is not what is timed.
        check(bench.where, row, disk.root, sources)
    by_key = {row.scanner.key: row for row in rows}

    @contextmanager
    def around(key: str) -> Iterator[None]:
        disk.forget()
        before = disk.requests()
        yield
        by_key[key].requests.append(disk.requests() - before)

    time_rows(rows, timed(bench.where, rows, disk.root), bench.efforts["latency"], around)


def run_revalidate(bench: Bench) -> list[Row]:
    """The bare loops are given a list of the directories, the others the root."""
    listed = bench.where.state / "directories"
    listed.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in bench.big.directories))
    rows = rows_of("revalidate", bench.rivals["revalidate"])
    commands = {}
    for row in rows:
        say(f"  check {row.scanner.label}")
        target = bench.big.root if isinstance(row.scanner, scanners.Ladewerk) else listed
        _check_revalidation(bench, row, target)
        commands[row.scanner.key] = row.scanner.timed(bench.where, target)
    time_rows(rows, commands, bench.efforts["revalidate"])
    return rows


_RESULT = re.compile(r"(.+?) +([\d.]+) +([\d.]+) +([\d.]+) +\[([\d.]+), ([\d.]+)\]")


def library_alone(bench: Bench) -> list[dict[str, Any]]:
    """What micro/revalidate.c measures: the C library and the loop in one process, in turns, on a tree of its own."""
    program = bench.where.programs / "bench_revalidate"
    env = {**bench.where.env(), "TMPDIR": str(bench.where.state)}

    def row(key: str, label: str, **more: object) -> dict[str, Any]:
        return compared.row("scan", bench.python, "library", tables.TITLES["library"], key, label, part="library", **more)

    say("  measure the library alone")
    try:
        out = pair.run(Command((str(program), str(len(bench.big.plan)), str(bench.efforts["revalidate"].rounds)), env), TIMEOUT).out
    except (Failed, OSError) as failure:
        return [row("ladewerk", "the C library", skipped=str(failure))]
    found = [match.groups() for line in out.splitlines() if (match := _RESULT.fullmatch(line))]
    names = ("loop_ms", "ours_ms", "ratio", "low", "high")
    return [row(f"ladewerk-{number}", what, medians=dict(zip(names, map(float, values)))) for number, (what, *values) in enumerate(found)]


def _check_revalidation(bench: Bench, row: Row, target: Path) -> None:
    row.skipped = row.scanner.missing(bench.where)
    if row.skipped:
        return
    try:
        if isinstance(row.scanner, scanners.Ladewerk):
            pair.run(row.scanner.command(bench.where, bench.where.empty))  # can it at all?
            _index(bench)
        _take_note(row, pair.run(row.scanner.command(bench.where, target), TIMEOUT).out)
    except (Failed, OSError) as failure:
        row.skipped = str(failure)
        return
    wanted = len(bench.big.plan)
    if row.facts.get("directories") != wanted:
        row.skipped = f"looked at {row.facts.get('directories')} of {wanted} directories: not timed"


def _index(bench: Bench) -> None:
    """An index of the big tree, in the cache of this run."""
    done = bench.where.state / "indexed"
    if not done.exists():
        say("  index the tree")
        pair.run(Command((str(bench.where.ladewerk), "index", "--quiet", str(bench.big.root)), bench.where.env(), discard=True), INDEXING)
        done.touch()


RUN = {"warm": run_warm, "cold": run_cold, "latency": run_latency, "revalidate": run_revalidate}


# --- what is counted --------------------------------------------------------------------------------------------------

def count_calls(bench: Bench, rivals: Sequence[Scanner]) -> dict[str, dict[str, Any]]:
    """For each scanner, by strace: calls per entry, and how many times it asks for a file's times and size for each source; what it
    takes to start is left out. What goes through a ring is not seen."""
    if shutil.which("strace") is None:
        return {}
    small = bench.generated(bench.build / "small", COUNT_ENTRIES)
    found = {}
    for scanner in rivals:
        if scanner.missing(bench.where):
            continue
        say(f"  count {scanner.label}")
        try:
            found[scanner.key] = _count(bench.where, scanner, small)
        except (Failed, OSError, subprocess.TimeoutExpired):
            continue  # its row says why
    return found


def _count(where: Where, scanner: Scanner, small: Tree) -> dict[str, Any]:
    file = where.state / "strace.txt"
    command = scanner.command(where, small.root)
    pair.run(command)
    idle, full = count_syscalls(scanner.command(where, where.empty), file), count_syscalls(command, file)
    calls = {name: full.get(name, 0) - idle.get(name, 0) for name in {*idle, *full}}
    return {
        "calls_per_entry": round(sum(calls.values()) / small.shape.entries, 3),
        "stats_per_source": round(sum(calls.get(name, 0) for name in _STATS) / small.sources, 3),
        "ring": "io_uring_enter" in full,
    }


# --- the run ----------------------------------------------------------------------------------------------------------

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="directory with the programs of bench/micro")
    parser.add_argument("--bare-python", type=Path, required=True, help="interpreter of an empty environment")
    parser.add_argument("--ladewerk", type=Path, help="the command under test")
    parser.add_argument("--entries", type=int, help="of the tree that is warm, cold and re-validated")
    parser.add_argument("--tree", type=Path, help="where that tree is, or is to be made (default: in the build directory)")
    running.add_options(parser, PARTS)
    return running.parsed(parser, argv)


def fresh(where: Where) -> Where:
    """Nothing that an earlier run cached takes part."""
    shutil.rmtree(where.state, ignore_errors=True)
    where.empty.mkdir(parents=True)
    (where.state / "home").mkdir()
    return where


def measure(bench: Bench, parts: Sequence[str], counted: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of these parts; COUNTED: with their system calls."""
    rivals = {scanner.key: scanner for part in parts if part != "revalidate" for scanner in bench.rivals[part]}
    calls = count_calls(bench, list(rivals.values())) if counted else {}
    for part in parts:
        say(f"  {tables.TITLES[part]}")
        for row in RUN[part](bench):
            told = calls.get(row.scanner.key, {}) if part != "revalidate" else {}
            yield {**row.json(bench.python), "tree_entries": bench.entries, "tree_directories": len(bench.big.plan) if part == "revalidate" else None, **told}
        if part == "revalidate":
            yield from library_alone(bench)


def main() -> None:
    options = parse()
    running.end_in_order()
    with ExitStack() as stack:
        stack.callback(os.close, running.alone(options.build))
        running.check_output(options.output)
        run, where = running.Run(options), fresh(Where(options.programs, options.bare_python, options.ladewerk, options.why_not, options.build / "state"))
        slowdisk.clean(options.build / "slow")
        efforts = dict(QUICK if options.quick else FULL)
        if options.runs:
            efforts = {name: Effort(options.runs, math.inf) for name in efforts}
        entries, slow = options.entries or (QUICK_ENTRIES if options.quick else ENTRIES), QUICK_SLOW_ENTRIES if options.quick else SLOW_ENTRIES
        python = machine.interpreter(options.bare_python)
        bench = Bench(where, options.build, efforts, options.tree or options.build / f"tree-{entries}", entries, slow, options.seed, machine.key(python))
        run.section("scan", lambda: measure(bench, [part for part in PARTS if not options.only or part in options.only]))
    run.write(tables.markdown, {"python": python, "versions": scanners.versions()}, {str(bench.root): "the tree"})


if __name__ == "__main__":
    main()
