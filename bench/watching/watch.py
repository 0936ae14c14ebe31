# SPDX-License-Identifier: MIT
"""Runs the parts of the watchers' benchmark; as a command of its own it writes report.json and report.md, and bench/watch.sh prepares what it needs."""
from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import compared
import contenders
import corpus
import machine
import pair
import running
import tree
import workloads
from pair import Command, Failed
from rows import Session, cells, row_json, say, time_rows
from sections import Effort
from watching import tables, watchers
from watching.watchers import Watcher, Where

PARTS = ("arm", "save", "storm", "check", "startup", "crowd")
SESSIONS = ("arm", "save", "storm")  # one run of a watcher has all three
SHORT_PARTS = ("arm", "save", "check")  # where there is little time

DIRECTORIES, QUICK_DIRECTORIES, SHORT_DIRECTORIES = 100_000, 20_000, 10_000
PER_DIRECTORY = 7  # entries
STORM, QUICK_STORM = 50_000, 10_000
STORM_DIRECTORIES, STORM_PROCESSES = 2_000, 4
SAVED_FILES = 64
PAUSE_MS = 10  # between saves, on average
QUIET_S = 3.0  # without a word: a storm is over
TREE_WATCHES = 1.15  # of a tree's directories: with those that a scan leaves out
ATTACHED, WATCHING = (0, 1, 32, 150), (0, 1, 32, 100)
EXIT_DIRECTORIES = 60
ENTRIES = (1, 300, 1000)


@dataclass(frozen=True)
class Plan:
    """How often what is done."""

    rounds: int  # of sessions
    saves: int  # in each
    storms: int  # in so many of them
    check_rounds: int
    startup: Effort
    crowd_rounds: int
    writes: int  # in each
    exits: int
    seconds: float = math.inf  # of the sessions; a slow machine has fewer

    def with_rounds(self, n: int) -> Plan:
        """N of what takes long; as much within each."""
        return replace(self, rounds=n, storms=n, startup=Effort(n, math.inf), crowd_rounds=n, seconds=math.inf)


FULL = Plan(rounds=5, saves=250, storms=3, check_rounds=301, startup=Effort(25, 120), crowd_rounds=5, writes=400, exits=200)
QUICK = Plan(rounds=3, saves=100, storms=1, check_rounds=51, startup=Effort(7, 40), crowd_rounds=2, writes=150, exits=50)
SHORT = Plan(rounds=9, saves=25, storms=1, check_rounds=51, startup=Effort(9, 20), crowd_rounds=2, writes=100, exits=50, seconds=24)


@dataclass
class Bench:
    where: Where
    build: Path
    plan: Plan
    directories: int
    storm: int
    seed: int
    python: str = ""  # the interpreter's key
    rivals: Sequence[Watcher] = field(default_factory=lambda: watchers.WATCHERS)

    @cached_property
    def tree(self) -> Path:
        """Without byte code, as a checkout is: its directories would be as many again, and they are not of interest to anybody."""
        shape = tree.Shape(self.directories * PER_DIRECTORY, self.seed, self.directories, caches=False)
        root = self.build / f"tree-{self.directories}"
        say(f"  tree of {self.directories:,} directories, {shape.entries:,} entries")
        tree.generate(root, shape)
        return root

    @cached_property
    def some(self) -> list[str]:
        """Directories of the tree, chosen at random."""
        plan = tree.make_plan(tree.Shape(self.directories * PER_DIRECTORY, self.seed, self.directories, caches=False))
        return [str(self.tree / d.path) for d in random.Random(self.seed).sample(plan[1:], min(STORM_DIRECTORIES, len(plan) - 1)) if d.is_package]

    @property
    def saved(self) -> list[str]:
        return [f"{directory}/__init__.py" for directory in self.some[:SAVED_FILES]]

    @cached_property
    def corpus(self) -> corpus.Corpus:
        return corpus.generate(self.build / "corpus", corpus.Shape(seed=self.seed))

    def fields(self, name: str) -> Path:
        """A few directories with a file in each, that nothing else happens in."""
        root = self.where.state / name
        for number in range(EXIT_DIRECTORIES):
            (root / f"d{number}").mkdir(parents=True)
            (root / f"d{number}" / "module.py").write_text("#\n")
        return root


@dataclass(eq=False)
class Row:
    part: str
    contender: str
    label: str
    skipped: str = ""
    found: dict[str, Any] = field(default_factory=dict[str, Any])

    def json(self, python: str) -> dict[str, Any]:
        base = self.contender == tables.BASES.get(self.part)
        head = {**compared.row("watch", python, self.part, tables.TITLES[self.part], self.contender, self.label, part=self.part), "base": base}
        return {**head, "skipped": self.skipped} if self.skipped else {**head, **self.found}

    def add(self, **samples: object) -> None:
        """One sample more of each."""
        for name, value in samples.items():
            self.found.setdefault(name, []).append(value)


# --- sessions: arm, save, storm ---------------------------------------------------------------------------------------

@dataclass
class Contest:
    """One watcher in the three sections of a session."""

    watcher: Watcher
    rows: dict[str, Row]

    @property
    def skipped(self) -> str:
        return next((row.skipped for row in self.rows.values() if row.skipped), "")

    def skip(self, why: str) -> None:
        for row in self.rows.values():
            row.skipped = why


def watches_missing(directories: int) -> str:
    """Nothing is raised here: it is the whole machine's."""
    limit, needed = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text()), math.ceil(directories * TREE_WATCHES)
    return "" if limit >= needed else f"fs.inotify.max_user_watches is {limit:,}; {needed:,} are needed: raise it (sysctl), or take a smaller tree (--directories)"


def contests(bench: Bench, only: Sequence[str]) -> list[Contest]:
    found = []
    for watcher in bench.rivals:
        contest = Contest(watcher, {name: Row(name, watcher.key, watcher.label) for name in SESSIONS if name in only})
        why = watcher.missing(bench.where) or ("" if "fanotify" in watcher.label else watches_missing(bench.directories))
        if why:
            contest.skip(why)
        found.append(contest)
    return found


def scan_row(bench: Bench, row: Row) -> None:
    """The same tree walked by the C library alone: what arming and indexing is compared with."""
    told = json.loads(pair.run(Command((str(bench.where.programs / "bench_scan"), str(bench.tree)), bench.where.env()), 600).out)
    row.add(wall_s=told["seconds"], cpu_s=told["cpu_seconds"], inside_cpu_s=told["cpu_seconds"])
    row.found["directories"] = told["directories"]


def storm(bench: Bench, running: watchers.Running, row: Row) -> None:
    running.collect()
    listed, expected = bench.where.state / "directories", bench.where.state / "expected"
    listed.write_text("".join(f"{path}\n" for path in bench.some))
    program, arguments = bench.where.programs / "bench_storm", f"{bench.storm} {STORM_PROCESSES}"
    command = f'"{program}" {arguments} <"{listed}" >"{expected}" 2>"{expected}.seconds"'
    try:
        pair.run(Command(("/bin/sh", "-c", command), bench.where.env()), 600)
        told = running.compare(expected, QUIET_S)
        row.add(lost=told["lost"], told=told["told"], settled_s=told["last_s"], storm_s=float(Path(f"{expected}.seconds").read_text()))
        row.found |= {name: told[name] for name in ("compared", "overflows") if name in told}
    finally:
        clear(bench)


def clear(bench: Bench) -> None:
    """What a storm has left."""
    for directory in map(Path, bench.some):
        for entry in list(os.scandir(directory)):
            if entry.name.startswith("storm_"):
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def session(bench: Bench, contest: Contest, with_storm: bool) -> None:
    before = time.monotonic()
    with contest.watcher.watch(bench.where, bench.tree) as running:
        wall, cpu, memory, facts = time.monotonic() - before, watchers.cpu_seconds(running.pid), watchers.memory_kib(running.pid), running.facts()
        if row := contest.rows.get("arm"):
            row.add(wall_s=round(wall, 4), cpu_s=round(cpu, 4), **{f"{name}_kib": value for name, value in memory.items()})
            row.add(**{name: facts[name] for name in ("first_seconds", "first_cpu_seconds", "index_bytes", "unwatched", "watches") if name in facts})
            row.found |= {name: facts[name] for name in ("directories", "sources") if name in facts}
        if row := contest.rows.get("save"):
            told = running.save(bench.saved, bench.plan.saves, PAUSE_MS)
            for name in ("written_us", "closed_us"):
                row.found.setdefault(name, []).extend(told.get(name, []))
            row.add(lost=told["lost"])
            row.found["replaced"] = row.found.get("replaced", 0) + told.get("replaced", 0)
        if with_storm and (row := contest.rows.get("storm")):
            storm(bench, running, row)


def run_sessions(bench: Bench, only: Sequence[str]) -> list[Row]:
    """Until the plan's rounds are done, or its seconds over."""
    rivals, rng = contests(bench, only), random.Random(bench.seed)
    floors = [Row("arm", key, f"scan of the same tree, nothing watched{text}") for key, text in (("scan", ""), (compared.AGAIN, ", again"))] if "arm" in only else []
    scan_row(bench, Row("arm", "", ""))  # which brings the tree into memory
    clear(bench)
    end = time.monotonic() + bench.plan.seconds
    order: list[Contest | Row] = [*rivals, *floors]
    storms = bench.plan.storms if "storm" in only else 0
    for number in range(bench.plan.rounds if {"arm", "save"} & set(only) else storms):
        rng.shuffle(order)
        for turn in order:
            if isinstance(turn, Row):
                scan_row(bench, turn)
            elif not turn.skipped:
                say(f"  round {number + 1}: {turn.watcher.label}")
                try:
                    session(bench, turn, number < storms)
                except (Failed, OSError) as failure:
                    turn.skip(str(failure))
        if time.monotonic() > end:
            break
    return [*floors, *(contest.rows[name] for name in SESSIONS if name in only for contest in rivals)]


# --- with a daemon on a small tree ------------------------------------------------------------------------------------

@contextmanager
def daemon(bench: Bench, watcher: watchers.Ladewerk, *roots: Path) -> Iterator[watchers.Running]:
    if why := watcher.missing(bench.where):
        raise Failed(why)
    with watcher.watch(bench.where, *roots) as running:
        yield running


def run_check(bench: Bench) -> list[Row]:
    rows, root = [], bench.fields("checked")
    for watcher in watchers.LADEWERK:
        row = Row("check", watcher.key, watcher.label)
        rows.append(row)
        try:
            with daemon(bench, watcher, root):
                say(f"  {row.label}")
                row.found = json.loads(pair.run(bench.where.program("freshcheck", str(root / "d0"), str(bench.plan.check_rounds)), 600).out)
        except (Failed, OSError) as failure:
            row.skipped = str(failure)
    return rows


def _crowd_rows(watcher: watchers.Ladewerk) -> dict[Row, int]:
    """By how many clients; with none once more, as a control."""
    rows = {Row("crowd", f"{watcher.key}-{count}", f"{watcher.label}: {count} clients of the daemon"): count for count in ATTACHED}
    return rows | {Row("crowd", f"{watcher.key}-again", f"{watcher.label}: 0 clients of the daemon, again"): 0}


def _write_once(bench: Bench, row: Row, kind: str, count: int, file: Path) -> None:
    if row.skipped:
        return
    try:
        told = json.loads(pair.run(bench.where.program("crowd", kind, str(count), str(file), str(bench.plan.writes)), 600).out)
    except (Failed, OSError) as failure:
        row.skipped = str(failure)
        return
    row.add(wall_us=told["wall_us"], cpu_us=told["cpu_us"])


def run_crowd(bench: Bench) -> list[Row]:
    """Rounds of all; the daemon is there in all of them, on a tree beside that of those who watch by themselves."""
    watched, alone_here = bench.fields("watched"), bench.fields("unwatched")
    rows: list[Row] = []
    for watcher in watchers.LADEWERK:
        attached, single = _crowd_rows(watcher), {}
        if watcher is watchers.LADEWERK[-1]:
            single = {Row("crowd", f"inotify-{count}", f"{count} processes with an inotify instance each" if count else "nobody watches"): count for count in WATCHING}
        exits = Row("exits", watcher.key, watcher.label)
        rows += [*attached, *single, exits]
        try:
            with daemon(bench, watcher, watched):
                say(f"  {watcher.label}")
                for _ in range(bench.plan.crowd_rounds):
                    for row, count in attached.items():
                        _write_once(bench, row, "attached", count, watched / "d0" / "module.py")
                    for row, count in single.items():
                        _write_once(bench, row, "inotify", count, alone_here / "d0" / "module.py")
                directories = [str(alone_here / f"d{number}") for number in range(EXIT_DIRECTORIES)]
                exits.found = json.loads(pair.run(bench.where.program("exits", str(bench.plan.exits), *directories), 600).out)
        except (Failed, OSError) as failure:
            for row in (*attached, *single, exits):
                row.skipped = str(failure)
    return rows


def run_startup(bench: Bench) -> list[dict[str, Any]]:
    def skipped(why: str) -> list[dict[str, Any]]:
        return [Row("startup", "watch", "Ladewerk, watch", why).json(bench.python)]

    if bench.where.ladewerk is None:
        return skipped(f"not installed: {bench.where.why_not}")
    place = contenders.Bench(bench.where.python, None, None, None, None, "", bench.where.state, Path.cwd())
    loops = workloads.path_loops(bench.corpus, ENTRIES)[:-1]
    watched = contenders.Watched("watch", "Ladewerk, watch", bench.where.socket)
    rivals = [
        contenders.Stock("stock", "stock"), contenders.Stock(compared.AGAIN, "stock, again"), contenders.Ladewerk("stat", "Ladewerk, stat"), watched,
        contenders.Ladewerk("frozen", "Ladewerk, frozen", "frozen"),
    ]
    with ExitStack() as stack:
        try:
            # The best that works, as a user gets it.
            stack.enter_context(daemon(bench, watchers.Ladewerk("auto"), bench.corpus.entries_root))
        except (Failed, OSError) as failure:
            return skipped(str(failure))
        attached = _how_attached(bench, place, loops[-1], watched)
        rows = cells(Session(place, {}, {}), "startup", loops, rivals)
        say(f"  measure {len(rows)}: up to {bench.plan.startup.rounds} rounds")
        time_rows(rows, bench.plan.startup)
    return [{**row_json(row), "section": "watch", "python": bench.python, "part": "startup", "freshness_by": attached} for row in rows]


def _how_attached(bench: Bench, place: contenders.Bench, loop: workloads.ImportLoop, rival: contenders.Watched) -> str:
    """By whom freshness is looked after, in the program's own words."""
    tail = 'import ladewerk; print("@watch", [w["by"] for w in ladewerk.stats()["watch"] if not w["reason"]])\n'
    out = pair.run(rival.command(place, loop, tail=tail)).out
    return next((line.removeprefix("@watch ") for line in out.splitlines() if line.startswith("@watch ")), "")


# --- the run ----------------------------------------------------------------------------------------------------------

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="directory with the programs of bench/micro")
    parser.add_argument("--python", type=Path, required=True, help="interpreter of the environment with Ladewerk")
    parser.add_argument("--peers-python", type=Path, required=True, help="interpreter of the environment with the rivals that are Python packages")
    parser.add_argument("--ladewerk", type=Path, help="the command under test")
    parser.add_argument("--directories", type=int, help="of the tree that is watched")
    running.add_options(parser, PARTS)
    return running.parsed(parser, argv)


def planned(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    return plan.with_rounds(options.runs) if options.runs else plan


def fresh(where: Where) -> Where:
    """Nothing that an earlier run left takes part."""
    shutil.rmtree(where.state, ignore_errors=True)
    (where.state / "home").mkdir(parents=True)
    return where


@contextmanager
def sockets() -> Iterator[Path]:
    """A directory with a short name."""
    directory = Path(tempfile.mkdtemp(prefix="ladewerk-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


RUN: dict[str, Callable[[Bench], Sequence[Row | dict[str, Any]]]] = {"check": run_check, "startup": run_startup, "crowd": run_crowd}


def measure(bench: Bench, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of these parts, with what was done."""
    about = {
        "tree": {"directories": bench.directories, "entries": bench.directories * PER_DIRECTORY},
        "storm": {"files": bench.storm, "processes": STORM_PROCESSES, "directories": STORM_DIRECTORIES},
        "pause_ms": PAUSE_MS,
    }
    found: list[Row | dict[str, Any]] = []
    if together := [name for name in SESSIONS if name in parts]:
        found += run_sessions(bench, together)
    for name in parts:
        if name in RUN:
            say(f"  {tables.TITLES[name]}")
            found += RUN[name](bench)
    return ({**(row.json(bench.python) if isinstance(row, Row) else row), "about": about} for row in found)


def main() -> None:
    options = parse()
    running.end_in_order()
    with ExitStack() as stack:
        stack.callback(os.close, running.alone(options.build))
        running.check_output(options.output)
        run, python = running.Run(options), machine.interpreter(options.python)
        place = stack.enter_context(sockets())
        where = fresh(Where(options.programs, options.python, options.peers_python, options.ladewerk, options.why_not, options.build / "state", place))
        os.chdir(where.state / "home")  # where there is nothing to import
        directories = options.directories or (QUICK_DIRECTORIES if options.quick else DIRECTORIES)
        bench = Bench(where, options.build, planned(options), directories, QUICK_STORM if options.quick else STORM, options.seed, machine.key(python))
        run.section("watch", lambda: measure(bench, [part for part in PARTS if not options.only or part in options.only]))
    run.write(tables.markdown, {"python": python, "versions": watchers.versions(where)})


if __name__ == "__main__":
    main()
