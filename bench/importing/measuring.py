# SPDX-License-Identifier: MIT
"""The sections about imports by whole processes: start-up, modules behind path entries, one-line modules, programs, system calls, memory, hyperfine."""
from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import contenders
import corpus
import pair
import workloads
from calls import count_syscalls
from contenders import Bench, Contender, Workload
from pair import Command, Failed
from rows import Cell, Session, cells, describe, row_json, say, tagged, time_rows
from sections import Effort, Interpreter, Place
from tables import Row
from workloads import ImportLoop, Program

Groups = Sequence[Sequence[Workload]]  # workloads of a group share their rounds

CHILDREN = 16  # workers forked in the memory section


# --- what sections share ----------------------------------------------------------------------------------------------

def session(place: Place, python: Interpreter | None = None) -> Session:
    """Of the main interpreter unless told otherwise; what was checked and warmed by one section is not again by another."""
    python = python or place.main
    key = f"session-{python.key}"
    found: Session | None = place.kept.get(key)
    if found is None:
        found = place.kept[key] = _session(contenders.bench(place, python), python, place.seed)
    return found


def _session(bench: Bench, python: Interpreter, seed: int) -> Session:
    installed = {name.lower(): version for name, version in python.facts["packages"].items()}
    return Session(bench, installed, python.failures, python=python.key, seed=seed)


def small_session(place: Place) -> Session:
    """In the environment with Ladewerk alone."""
    found: Session | None = place.kept.get("session-small")
    if found is None:
        usual = session(place)
        small = replace(usual.bench, python=usual.bench.small_python or usual.bench.python)
        found = place.kept["session-small"] = replace(usual, bench=small, ready={})
    return found


def trees(place: Place) -> corpus.Corpus:
    """The generated path entries and modules."""
    found: corpus.Corpus | None = place.kept.get("corpus")
    if found is None:
        say("corpus")
        found = place.kept["corpus"] = corpus.generate(place.build / "corpus", corpus.Shape(seed=place.seed))
    return found


def programs(place: Place, fitting: Sequence[Program] = workloads.PROGRAMS) -> list[Program]:
    """Of FITTING those that the user has chosen, or that the effort has."""
    keys = place.chosen or workloads.EFFORTS[place.effort]
    return [program for program in fitting if program.key in keys]


def timed(sessions: Sequence[Session], section: str, groups: Groups, rivals: Sequence[Contender], effort: Effort) -> list[Row]:
    """One section; all cells of a group, of all sessions, share their rounds and can be compared with each other. Groups that are left share
    the seconds that are left."""
    end, done = time.monotonic() + effort.seconds, []
    for n, group in enumerate(groups):
        rows = [row for session in sessions for row in cells(session, section, group, rivals)]
        seconds = max(0.0, end - time.monotonic()) / (len(groups) - n)
        say(f"  measure {', '.join(load.key for load in group)}: {effort.rounds} rounds")
        time_rows(rows, replace(effort, seconds=seconds), sessions[0].seed)
        done += [row_json(row) for row in rows]
    return done


# --- timed ------------------------------------------------------------------------------------------------------------

def run_startup(place: Place, effort: Effort) -> list[Row]:
    return timed([small_session(place)], "startup", [[workloads.PASS]], contenders.STARTUP, effort)


def run_paths(place: Place, effort: Effort) -> list[Row]:
    """Short efforts have fewer path entries in between, and leave out who learns: that takes as long as stock."""
    loops = workloads.path_loops(trees(place))
    short = {"quick": ("entries-1", "entries-1000"), "headline": ("entries-1", "entries-300", "entries-1000")}.get(place.effort)
    rivals = contenders.PATHS
    if short:
        loops = [loop for loop in loops if loop.key in short]
        rivals = contenders.those("stock again dictfinder ladewerk-stat ladewerk-frozen floor", contenders.PATHS)
    return timed([session(place)], "paths", [loops], rivals, effort)


def run_modules(place: Place, effort: Effort) -> list[Row]:
    return timed([session(place)], "modules", [[workloads.oneline_loop(trees(place))]], contenders.MODULES, effort)


_PROGRAM_RIVALS = {
    "quick": "stock again gc pycds ladewerk-stat ladewerk-frozen",
    "headline": "stock again gc dictfinder pycds pycds-gc ladewerk-stat ladewerk-frozen packfloor",
}


def run_programs(place: Place, effort: Effort) -> list[Row]:
    short = _PROGRAM_RIVALS.get(place.effort)
    rivals = contenders.those(short, contenders.PROGRAMS) if short else contenders.PROGRAMS
    return timed([session(place)], "programs", [[program] for program in programs(place)], rivals, effort)


def run_pythons(place: Place, effort: Effort) -> list[Row]:
    """Every interpreter in the same rounds."""
    fitting = workloads.EVERYWHERE if place.effort == "full" or place.chosen else workloads.EVERYWHERE[:1]
    loads = [load for load in fitting if not place.chosen or load.key in place.chosen]
    return timed([session(place, python) for python in place.pythons], "pythons", [[load] for load in loads], contenders.PYTHONS, effort)


def run_peers(place: Place, effort: Effort) -> list[Row]:
    """In short, without those that differ little from one that is there."""
    loads, rivals = workloads.USED, contenders.PEERS
    if place.effort != "full":
        loads, rivals = loads[:1], [rival for rival in rivals if rival.key not in ("zip-stored", "frozen-on")]
    return timed([session(place)], "peers", [[load] for load in loads], rivals, effort)


# --- counted, and looked at -------------------------------------------------------------------------------------------

def run_syscalls(place: Place, effort: Effort) -> list[Row]:
    """Calls of a run with all modules less those of a run with the first only, per further module."""
    result = []
    here, loops = session(place), workloads.path_loops(trees(place))[:-1]
    if place.effort != "full":
        loops = loops[:2]  # tracing makes calls slow, and stock makes a thousand for each module behind a thousand entries
    for row in cells(here, "syscalls", [*loops, workloads.oneline_loop(trees(place))], contenders.SYSCALLS):
        if not row.skipped and shutil.which("strace") is None:
            row.skipped = "strace not installed"
        entry = describe(row)
        if not row.skipped:
            say(f"  count {row.workload.key}: {row.contender.label}")
            try:
                entry["calls"] = _calls_per_module(here.bench, row)
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


def run_hyperfine(place: Place, effort: Effort) -> list[Row]:
    """The same whole commands through a second, independent instrument; its runs are blocks, not pairs."""
    return [
        *_fine(session(place), programs(place, workloads.CROSS_CHECKED.get(place.effort, workloads.COLD)), contenders.HYPERFINE, effort.rounds),
        *_fine(small_session(place), [workloads.PASS], contenders.STARTUP, 5 * effort.rounds),
    ]


def _fine(session: Session, loads: Sequence[Program], rivals: Sequence[Contender], rounds: int) -> list[Row]:
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


def _hyperfine(command: Command, file: Path, rounds: int) -> dict[str, Any]:
    argv = ["hyperfine", "-N", "--style", "none", "--warmup", "1", "--runs", str(max(2, rounds)), "--export-json", str(file)]
    done = subprocess.run([*argv, shlex.join(command.argv)], env=dict(command.env), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"hyperfine: {(done.stderr.splitlines() or ['exit %d' % done.returncode])[-1]}")
    found = json.loads(file.read_text())["results"][0]
    return {
        "wall_ms": [round(t * 1e3, 4) for t in found["times"]],
        "cpu_mean_ms": round((found["user"] + found["system"]) * 1e3, 4),
    }


def run_memory(place: Place, effort: Effort) -> list[Row]:
    """Workers forked after the program's imports; forked.py runs inside the program. Nothing is timed."""
    result, here, load = [], session(place), workloads.SYMPY
    for row in cells(here, "memory", [load], contenders.MEMORY):
        entry = describe(row)
        if not row.skipped:
            say(f"  fork {row.workload.key}: {row.contender.label}")
            tail = f"import forked; forked.run({CHILDREN}, {load.key!r}, {row.contender.mapped!r})\n"
            os.sync()  # pages of a cache just written would count as dirty
            try:
                out = pair.run(row.contender.command(here.bench, load, tail=tail)).out
                entry["parent_kb"] = ast.literal_eval(tagged(out, "@parent"))
                entry["children_kb"] = [ast.literal_eval(line[7:]) for line in out.splitlines() if line.startswith("@child ")]
            except Failed as failure:
                entry["skipped"] = str(failure)
        result.append(entry)
    return result
