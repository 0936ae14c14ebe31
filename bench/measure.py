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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cold
import contenders
import corpus
import machine
import pair
import report
import running
import workloads
from calls import count_syscalls
from contenders import Bench, Contender, Workload
from pair import Command, Failed
from rows import Effort, Session, cells, describe, row_json, say, tagged, time_rows
from workloads import ImportLoop, Program

Groups = Sequence[Sequence[Workload]]

CHILDREN = 16  # workers forked in the memory section

# What settles the medians, and a short look.
FULL = {
    "startup": Effort(100, 40), "paths": Effort(11, 100), "modules": Effort(25, 40), "programs": Effort(15, 75),
    "memory": Effort(1, 0), "cold": Effort(7, 150), "syscalls": Effort(1, 0), "hyperfine": Effort(8, 0),
}
QUICK = {
    "startup": Effort(30, 15), "paths": Effort(3, 30), "modules": Effort(7, 15), "programs": Effort(5, 15),
    "memory": Effort(1, 0), "cold": Effort(3, 0), "syscalls": Effort(1, 0), "hyperfine": Effort(3, 0),
}

def run_timed(session: Session, section: str, groups: Groups, rivals: list[Contender], effort: Effort) -> list[dict]:
    """One section; workloads of the same group share their rounds and can be compared with each other."""
    done = []
    for group in groups:
        rows = cells(session, section, group, rivals)
        say(f"  measure {', '.join(load.key for load in group)}: {effort.rounds} rounds")
        time_rows(rows, effort)
        done += [row_json(row) for row in rows]
    return done


def run_syscalls(session: Session, loads: list[ImportLoop], rivals: list[Contender]) -> list[dict]:
    """Calls of a run with all modules less those of a run with the first only, per further module."""
    result = []
    for row in cells(session, "syscalls", loads, rivals):
        if not row.skipped and shutil.which("strace") is None:
            row.skipped = "strace not installed"
        entry = describe(row)
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
    pair.run(row.contender.command(bench, load, 1))  # what so short a run learns is learnt
    first = count_syscalls(row.contender.command(bench, load, 1), file)  # which also loads the package and what serves it
    full = count_syscalls(row.contender.command(bench, load), file)
    each = {name: (full.get(name, 0) - first.get(name, 0)) / (load.count - 1) for name in {*full, *first}}
    return {name: round(calls, 3) for name, calls in sorted(each.items(), key=lambda item: -item[1]) if abs(calls) >= 0.005}


def run_hyperfine(session: Session, loads: list[Program], rivals: list[Contender], rounds: int) -> list[dict]:
    """The same whole commands through a second, independent instrument; its runs are blocks, not pairs."""
    result = []
    for row in cells(session, "hyperfine", loads, rivals):
        if not row.skipped and shutil.which("hyperfine") is None:
            row.skipped = "hyperfine not installed"
        entry = describe(row)
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


def run_memory(session: Session, load: Program, rivals: list[Contender]) -> list[dict]:
    """Workers forked after the program's imports; forked.py runs inside the program. Nothing is timed."""
    result = []
    for row in cells(session, "memory", [load], rivals):
        entry = describe(row)
        if not row.skipped:
            say(f"  fork {row.workload.key}: {row.contender.label}")
            tail = f"import forked; forked.run({CHILDREN}, {load.key!r}, {row.contender.mapped!r})\n"
            os.sync()  # pages of a cache just written would count as dirty
            try:
                out = pair.run(row.contender.command(session.bench, load, tail=tail)).out
                entry["parent_kb"] = ast.literal_eval(tagged(out, "@parent"))
                entry["children_kb"] = [ast.literal_eval(line[7:]) for line in out.splitlines() if line.startswith("@child ")]
            except Failed as failure:
                entry["skipped"] = str(failure)
        result.append(entry)
    return result


def sections(session: Session, trees: corpus.Corpus, programs: list[Program], efforts: Mapping[str, Effort]) -> dict[str, Callable[[], list[dict]]]:
    """Name -> what runs it, in the order of running."""
    start = Session(replace(session.bench, python=session.bench.small_python or session.bench.python), session.installed, session.failures)
    paths, oneline = workloads.path_loops(trees), workloads.oneline_loop(trees)
    fine = efforts["hyperfine"].rounds
    return {
        "startup": lambda: run_timed(start, "startup", [[workloads.PASS]], contenders.STARTUP, efforts["startup"]),
        "paths": lambda: run_timed(session, "paths", [paths], contenders.PATHS, efforts["paths"]),
        "modules": lambda: run_timed(session, "modules", [[oneline]], contenders.MODULES, efforts["modules"]),
        "programs": lambda: run_timed(session, "programs", [[p] for p in programs], contenders.PROGRAMS, efforts["programs"]),
        "memory": lambda: run_memory(session, workloads.SYMPY, contenders.MEMORY),
        "cold": lambda: cold.run(session, [p for p in programs if p in workloads.COLD], contenders.COLD, efforts["cold"]),
        "syscalls": lambda: run_syscalls(session, [*paths[:-1], oneline], contenders.SYSCALLS),
        "hyperfine": lambda: [
            *run_hyperfine(session, [p for p in programs if p in workloads.CROSS_CHECKED], contenders.HYPERFINE, fine),
            *run_hyperfine(start, [workloads.PASS], contenders.STARTUP, 5 * fine),
        ],
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="interpreter of the environment under test")
    parser.add_argument("--small-python", type=Path, help="interpreter of an environment with Ladewerk alone")
    parser.add_argument("--bare-python", type=Path, help="interpreter of an empty environment")
    parser.add_argument("--enabled-python", type=Path, help="interpreter of an environment after `ladewerk enable`")
    parser.add_argument("--pycds-python", type=Path, help="interpreter of an environment with the programs and PyCDS")
    parser.add_argument("--failed", action="append", default=[], metavar="NAME=WHY", help="what could not be installed")
    running.add_options(parser, FULL)
    keys = [program.key for program in workloads.PROGRAMS]
    parser.add_argument("--program", action="append", choices=keys, help="of the programs, this one; may be given more than once")
    return running.parsed(parser, argv)


def arrange(options: argparse.Namespace, failures: Mapping[str, str]) -> Bench:
    """A fresh state directory: nothing that an earlier run, or another build of Ladewerk, cached takes part."""
    state = options.build / "state"
    shutil.rmtree(state, ignore_errors=True)
    cwd = state / "cwd"
    cwd.mkdir(parents=True)
    (state / "home").mkdir()
    for name in ("dictfinder.py", "packfinder.py", "packrecord.py", "forked.py"):
        shutil.copy(Path(__file__).with_name(name), cwd)
    os.chdir(cwd)
    interpreters = (options.python, options.small_python, options.bare_python, options.enabled_python, options.pycds_python)
    return Bench(*interpreters, why_no_pycds=failures.get("pycds", ""), state=state, cwd=cwd)


def main() -> None:
    options = parse()
    run = running.Run(options)
    failures = dict(text.split("=", 1) for text in options.failed)
    bench = arrange(options, failures)
    say("corpus")
    trees = corpus.generate(options.build / "corpus", corpus.Shape(seed=options.seed))
    python = machine.interpreter(options.python)
    installed = {name.lower(): version for name, version in python["packages"].items()}
    efforts = dict(QUICK if options.quick else FULL)
    if options.runs:
        efforts = {name: Effort(options.runs, math.inf) for name in efforts}
    programs = [p for p in workloads.PROGRAMS if not options.program or p.key in options.program]
    session = Session(bench, installed, failures)
    for name, runner in sections(session, trees, programs, efforts).items():
        if not options.only or name in options.only:
            run.section(name, runner)
    run.write(report.markdown, {"python": python, "tools": machine.tools()})


if __name__ == "__main__":
    main()
