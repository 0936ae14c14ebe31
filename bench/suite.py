#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The import benchmark: stock Python, rivals, floors and Ladewerk, interleaved. bench/README.md explains the figures.

bench/run.sh finds a Python for this; everything else is prepared here.
"""
from __future__ import annotations

import argparse
import importlib
import math
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import cold
import contenders
import contention.section
import engines
import environments
import graph
import lazy.checking
import lazy.section
import machine
import pythons
import registry
import reloading.section
import report
import running
import scaling.section
import scanning.section
import series
import tracing.trace
import watching.section
import workloads
from drawing import Drawer
from environments import Environments, Unavailable
from importing import figures, goals, measuring, tables
from lazy.programs import TOOLS
from rows import say
from sections import EFFORTS, Effort, Interpreter, Place, Section, why_failed
from tables import Row

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
RESULTS = HERE / "results"

# What takes the whole command line when it is given: module.main(arguments), which returns the exit status.
MODES = {"--app": "app.__main__", "--compare": "compare"}


# --- the sections -----------------------------------------------------------------------------------------------------

def _efforts(quick: tuple[int, float] | None, headline: tuple[int, float] | None, full: tuple[int, float]) -> dict[str, Effort]:
    """(rounds, seconds) each."""
    return {name: Effort(*effort) for name, effort in zip(EFFORTS, (quick, headline, full), strict=True) if effort}


_PROGRAMS = frozenset({"packages", "pycds"})
_TIMES = ("cpu_ms", "wall_ms")
_INSIDE = series.figures("inside_wall_ms", "cpu_ms")

# In the order of running. A section of a room of its own is one line here.
SECTIONS: list[Section] = [
    Section(
        "startup", "Start-up", _efforts((20, 8), (60, 25), (100, 60)), measuring.run_startup, tables.startup,
        figures.startup, series.figures(*_TIMES), goals.startup, frozenset({"small"})),
    Section(
        "paths", "Modules behind many path entries", _efforts((3, 14), (9, 60), (11, 150)), measuring.run_paths, tables.paths,
        figures.paths, _INSIDE, goals.paths),
    Section(
        "modules", "One-line modules in one package", _efforts((5, 8), (25, 30), (25, 60)), measuring.run_modules, tables.modules,
        figures.modules, _INSIDE, goals.modules),
    Section(
        "programs", "Programs, whole process", _efforts((9, 50), (13, 220), (15, 900)), measuring.run_programs, tables.programs,
        figures.programs("programs"), series.figures(*_TIMES), goals.programs, _PROGRAMS),
    Section(
        "pythons", "Every interpreter", _efforts(None, (9, 80), (15, 400)), measuring.run_pythons, tables.pythons,
        figures.programs("pythons"), series.figures(*_TIMES), needs=frozenset({"everywhere"})),
    Section(
        "peers", "Peers", _efforts(None, (9, 55), (15, 200)), measuring.run_peers, tables.programs,
        figures.programs("peers"), series.figures(*_TIMES), needs=_PROGRAMS),
    Section(
        "memory", "Memory of 16 forked children", _efforts((1, 3), (1, 8), (1, 30)), measuring.run_memory, tables.memory,
        figures=figures.memory, goals=goals.memory, needs=_PROGRAMS),
    scaling.section.SECTION,
    cold.SECTION,
    contention.section.SECTION,
    Section(
        "syscalls", "System calls per module (strace -c)", _efforts((1, 5), (1, 15), (1, 60)), measuring.run_syscalls, tables.syscalls,
        figures=figures.calls, goals=goals.syscalls),
    Section(
        "hyperfine", "Cross-check with hyperfine", _efforts(None, (3, 20), (8, 300)), measuring.run_hyperfine, tables.hyperfine,
        figures=figures.blocks, needs=_PROGRAMS | {"small"}),
    scanning.section.SECTION,
    watching.section.SECTION,
    reloading.section.SECTION,
    tracing.trace.SECTION,
    engines.SECTION,
    graph.SECTION,
    registry.SECTION,
    lazy.section.SECTION,
]


# --- options ----------------------------------------------------------------------------------------------------------

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    keys = [section.key for section in SECTIONS]
    parser = argparse.ArgumentParser(
        prog="bench/run.sh", description="Measures what imports cost: stock Python, rivals, floors and Ladewerk, interleaved.",
        epilog="Other modes, each with a --help of its own: --app COMMAND measures a program of yours, --compare REVISION two states of this repository. "
        "hyperfine and strace are used when they are there, as is root for cold caches; what cannot run gets a row that says why. The machine should be idle.")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", dest="effort", action="store_const", const="quick", default="headline", help="a short look: 2 to 3 minutes once built")
    effort.add_argument("--full", dest="effort", action="store_const", const="full", help="everything (default: the headline set, at most 15 minutes)")
    parser.add_argument(
        "--only", action="extend", type=lambda text: text.split(","), metavar="SECTION[/PART]",
        help=f"these sections, with the effort that has them: {', '.join(keys)}; may be given more than once. Parts: "
        + ", ".join(f"{section.key}/{part}" for section in SECTIONS for part in section.parts))
    parser.add_argument(
        "--program", action="append", choices=sorted({*(program.key for program in workloads.PROGRAMS), *(tool.key for tool in TOOLS)}),
        metavar="PROGRAM", help=f"of the programs, this one; may be given more than once: {', '.join(program.key for program in workloads.PROGRAMS)}; "
        f"with --only lazy {', '.join(tool.key for tool in TOOLS)}")
    parser.add_argument(
        "--python", action="append", metavar="PYTHON",
        help="an interpreter; may be given more than once, the first is the main one (default: `python3`, then every other CPython from 3.11 on)")
    parser.add_argument("--venv", type=Path, metavar="DIR", help="use this environment as it is, with the Ladewerk and the programs it has")
    parser.add_argument("-n", "--runs", type=int, help="rounds in every section")
    parser.add_argument("--seed", type=int, default=1, help="of what is generated, and of the order (default: 1)")
    parser.add_argument("--build", type=Path, default=CHECKOUT / "build-bench", help="where environments and corpora are kept (default: build-bench/)")
    parser.add_argument("-o", "--output", type=Path, help="directory for report.md, report.json and plots (default: bench/results/DATE-pyVERSION/)")
    parser.add_argument("--no-plots", action="store_true", help="tables alone: matplotlib is not installed")
    parser.add_argument(
        "--check", action="store_true",
        help="with --only lazy: only compare each program with stock Python, in each mode and with each --python; exit status 1: one of them does not do the same")
    options = parser.parse_args(argv)
    known = {*keys, *(f"{section.key}/{part}" for section in SECTIONS for part in section.parts)}
    if unknown := set(options.only or ()) - known:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
    options.parts = {}
    for key, _, part in (word.partition("/") for word in options.only or ()):
        options.parts.setdefault(key, []).extend([part] * bool(part))
    options.only = list(options.parts)
    if options.runs is not None and options.runs < 1:
        parser.error("-n needs a positive number")
    if not options.only and set(options.program or ()) - {program.key for program in workloads.PROGRAMS}:
        parser.error("that program is one of the section lazy: --only lazy with it")
    if options.check and options.only != ["lazy"]:
        parser.error("--check is of one section: --only lazy with it")
    if options.venv and options.python:
        parser.error("--venv has a Python of its own: no --python with it")
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, value.absolute())  # not resolved: an interpreter's link *is* its environment
    return options


def chosen(options: argparse.Namespace) -> list[tuple[Section, Effort]]:
    """What runs, and how long. What is asked for by name and has no such effort gets the next greater one."""
    found = []
    for section in SECTIONS:
        if options.only and section.key not in options.only:
            continue
        greater = EFFORTS[EFFORTS.index(options.effort):] if options.only else [options.effort]
        if effort := next((section.efforts[name] for name in greater if name in section.efforts), None):
            found.append((section, Effort(options.runs, math.inf) if options.runs else effort))
    return found


# --- what is made ready -----------------------------------------------------------------------------------------------

def interpreters(options: argparse.Namespace) -> list[pythons.Found]:
    """The main one first."""
    try:
        if options.venv:
            if not (options.venv / "bin/python").exists():
                sys.exit(f"run.sh: {options.venv} is no environment: it has no bin/python")
            return [pythons.look(options.venv / "bin/python")]
        if options.python:
            return pythons.named(options.python)
    except pythons.Unfit as why:
        sys.exit(f"run.sh: {why if options.python else f'{options.venv}: {why}'}")
    if found := pythons.one_of_each(pythons.candidates()):
        return [found[0], *sorted(found[1:], key=pythons.age)]
    sys.exit("run.sh: no CPython {}.{} or newer was found; name one with --python".format(*pythons.OLDEST))


def prepare(found: pythons.Found, home: Environments, needs: frozenset[str], packages: Sequence[str], as_it_is: bool = False) -> Interpreter:
    """An interpreter in its environments, with what the sections need; what cannot be had is in its failures. AS_IT_IS: in one of the user's."""
    beside: dict[str, Path] = {}
    failures: dict[str, str] = {}

    def attempt(name: str, make: Callable[[], Path]) -> None:
        try:
            beside[name] = make()
        except Unavailable as why:
            failures[name] = str(why)
            say(f"Python {found.key}: {name}: {why}")

    attempt("bare", lambda: home.empty("bare"))
    if "bare" in failures:
        # Nothing of it can be measured: whatever the interpreter itself has installed would be as well.
        return Interpreter(found.key, found.python, no_packages(found), failures["bare"], {}, dict.fromkeys(packages, failures["bare"]))
    if as_it_is:
        failures["pycds"] = "--venv is left as it is"
        return Interpreter(found.key, found.python, machine.interpreter(found.python), "", beside, failures)
    python = home.empty("programs")
    failures |= {package.partition("==")[0]: why for package, why in home.packages("programs", packages).items()}
    if "pycds" in needs:
        attempt("pycds", lambda: home.twin("pycds", "programs", environments.PYCDS))
    attempt("ladewerk", lambda: home.ladewerk("programs"))
    beside.pop("ladewerk", None)
    if "small" in needs and "ladewerk" not in failures:
        attempt("small", lambda: home.ladewerk("small"))
        attempt("enabled", lambda: home.enabled("enabled"))
    return Interpreter(found.key, python, machine.interpreter(python), failures.get("ladewerk", ""), beside, failures)


def main_one(python: Interpreter) -> Interpreter:
    """Without an environment of its own nothing can be measured at all."""
    if "bare" not in python.beside:
        sys.exit(f"run.sh: Python {python.key}: {python.missing}")
    return python


def no_packages(found: pythons.Found) -> dict[str, object]:
    return {**machine.interpreter(found.python), "packages": {}}


def packages_of(programs: Sequence[workloads.Program], keys: Sequence[str]) -> list[str]:
    """The distributions that these programs need, each once."""
    return list(dict.fromkeys(name for program in programs if program.key in keys for name in program.needs.split()))


def wanted(options: argparse.Namespace, needs: frozenset[str]) -> tuple[list[str], list[str]]:
    """Packages for the main interpreter, and for the others."""
    everywhere = packages_of(workloads.EVERYWHERE, options.program or [p.key for p in workloads.EVERYWHERE]) if "everywhere" in needs else []
    mine = packages_of(workloads.PROGRAMS, options.program or workloads.EFFORTS[options.effort]) if "packages" in needs else []
    return list(dict.fromkeys([*mine, *everywhere])), everywhere


def micro(options: argparse.Namespace, needs: frozenset[str]) -> tuple[Path | None, str]:
    """The programs of bench/micro, or why not."""
    if "programs" not in needs:
        return None, "not built for this run"
    try:
        return environments.bench_programs(CHECKOUT, options.build), ""
    except Unavailable as why:
        say(f"bench/micro: {why}")
        return None, str(why)


def home_of(found: pythons.Found, options: argparse.Namespace) -> Environments:
    return Environments(found.python, environments.directory(options.build, found.key, found.base), CHECKOUT)


def make_place(options: argparse.Namespace, needs: frozenset[str]) -> Place:
    """Everything that sections are given, the working directory included."""
    main, *others = interpreters(options)
    mine, everywhere = wanted(options, needs)
    ready = [main_one(prepare(main, home_of(main, options), needs, mine, as_it_is=bool(options.venv)))]
    if needs & {"pythons", "everywhere"} and (options.effort != "quick" or options.python):
        ready += [prepare(other, home_of(other, options), frozenset(), everywhere) for other in others]
    elif options.python and others:
        say(f"these sections are of one interpreter: Python {main.key} alone takes part")
    programs, no_programs = micro(options, needs)
    state = options.build / "state"
    fresh_state(state, ready)
    return Place(ready, options.build, state, programs, options.effort, options.seed, no_programs, options.program or (), options.parts)


def fresh_state(state: Path, ready: Sequence[Interpreter]) -> None:
    """Nothing that an earlier run, or another build of Ladewerk, cached takes part."""
    shutil.rmtree(state, ignore_errors=True)
    for python in ready:
        (state / python.key / "home").mkdir(parents=True)
    (state / "cwd").mkdir()
    for file in contenders.INSIDE:
        shutil.copy(file, state / "cwd")
    os.chdir(state / "cwd")


# --- the run ----------------------------------------------------------------------------------------------------------

def run_section(run: running.Run, section: Section, place: Place, effort: Effort) -> None:
    """A section that fails, or has nothing to measure, has a row that says so, and the others go on."""
    before = len(run.rows)
    try:
        run.section(section.key, lambda: section.run(place, effort))
        if len(run.rows) == before:
            run.rows.append(why_failed(section, place.main.key, "nothing to measure: none of the programs of this run takes part here"))
    except running.Ended:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        text = str(error).strip().splitlines()
        run.rows.append(why_failed(section, place.main.key, f"{type(error).__name__}: {text[0]}" if text else type(error).__name__))


def command_line(argv: Sequence[str]) -> str:
    """What made the report, without paths."""
    return shlex.join(["bench/run.sh", *(Path(word).name if word.startswith("/") else word for word in argv)])


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    for option, module in MODES.items():
        if any(word == option or word.startswith(f"{option}=") for word in argv):
            sys.exit(importlib.import_module(module).main(argv))
    options = parse(argv)
    running.end_in_order()
    with ExitStack() as stack:
        stack.callback(os.close, running.alone(options.build))
        if options.check:
            sys.exit(lazy.checking.run(make_place(options, frozenset({"pythons"} if options.python else ()))))
        running.check_output(options.output or RESULTS)
        work = chosen(options)
        place = make_place(options, frozenset().union(*(section.needs for section, _ in work)))
        drawer = Drawer(None) if options.no_plots else Drawer.found(options.build)
        run, interrupted = running.Run(with_facts(options, place)), ""
        try:
            for section, effort in work:
                run_section(run, section, place, effort)
        except (KeyboardInterrupt, SystemExit) as end:
            interrupted = str(end) or "interrupted"
        run.write(report.illustrated(SECTIONS, options.output, drawer), {**facts(place, argv), "interrupted": interrupted})
    print((options.output / "report.md").read_text(), end="")
    say(f"written: {options.output}/report.md and report.json")
    if interrupted:
        sys.exit(130)


def with_facts(options: argparse.Namespace, place: Place) -> argparse.Namespace:
    """What running.Run wants to be told."""
    options.quick, options.revision, options.why_not = place.effort == "quick", environments.revision(CHECKOUT), place.main.missing
    options.output = options.output or RESULTS / f"{datetime.now(timezone.utc):%Y-%m-%dT%H%M%SZ}-py{place.main.key}"
    return options


def facts(place: Place, argv: Sequence[str]) -> dict[str, object]:
    """Of a run, for the head of its report."""
    return {
        "command": command_line(argv),
        "effort": place.effort,
        "python": place.main.facts,
        "pythons": {python.key: {**python.facts, "missing": python.missing} for python in place.pythons},
        "tools": machine.tools(),
    }


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before there was anything to write down
        sys.exit(130)
