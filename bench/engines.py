#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What import engines cost, beside stock Python, subinterpreters and subprocesses: a section of run.sh, and engines.sh.

Every figure is of whole processes that take turns; a figure that a process has taken of itself is printed by it. Ratios are formed within a round.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import compared
import corpus
from pair import Command, Failed, Sample, rounds
from rows import say
from sections import Effort, Place, Section
from tables import Row

CACHED, MANY = 1_000_000, 50
WARM_UP = 2  # runs
PROGRAM = ("asyncio", "http.server", "xml.dom.minidom", "unittest.mock", "sqlite3", "concurrent.futures", "email.message", "decimal")
LOADED = ("logging.config", "json", "decimal", "dataclasses")  # what an engine of the memory section imports

# Imported, not run: so it is in an engine when an engine imports it.
LOOP = """\
import time


def load(names):
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for name in names:
        __import__(name)
    return time.perf_counter_ns() - wall, time.process_time_ns() - cpu


def cached(count):
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for _ in range(count):
        import time as again
    return time.perf_counter_ns() - wall, time.process_time_ns() - cpu
"""

ACTIVE = "import ladewerk\nassert ladewerk.install(), ladewerk.stats()['reason']\n"
INACTIVE = "import ladewerk\n"
GLOBAL = "import sys\nsys.path[1:1] = {path!r}\nimport loop\n"
INSIDE = "import sys\nengine = ladewerk.ImportEngine(path=[*{path!r}, *sys.path])\nloop = engine.import_module('loop')\n"
SAY = "print(*{what})\n"


@dataclass(frozen=True)
class Contender:
    key: str
    name: str
    source: str


def told(sample: Sample) -> float:
    """What the process has counted itself."""
    return float(sample.out.split()[1])


def cpu_outside(sample: Sample) -> float:
    return sample.cpu_ms


@dataclass(frozen=True)
class Load:
    """What contenders do, the first of which is the base. A figure is FIGURE / SCALE; TWICE: the base is measured twice."""

    part: str
    key: str
    title: str
    field: str
    unit: str
    contenders: Sequence[Contender]
    figure: Callable[[Sample], float] = told
    scale: float = 1.0
    added: bool = False
    twice: bool = True

    def all(self) -> list[Contender]:
        base = self.contenders[0]
        return [base, *([replace(base, key=compared.AGAIN, name=f"{base.name}, again")] if self.twice else []), *self.contenders[1:]]


def lookups(path: list[str], names: str, count: int) -> list[Contender]:
    """NAMES imported from PATH. The row of an engine comes after the same without, which is its base."""
    what = f"loop.load([{names!r}.format(i) for i in range({count})])"
    outside, inside, say = GLOBAL.format(path=path), INSIDE.format(path=path), SAY.format(what=what)
    return [
        Contender("ladewerk", "Ladewerk", ACTIVE + outside + say),
        Contender("ladewerk-beside", "Ladewerk, while there is an engine", ACTIVE + "idle = ladewerk.ImportEngine()\n" + outside + say),
        Contender("ladewerk-engine", "in an engine", ACTIVE + inside + say),
        Contender("stock", "stock", outside + say),
        Contender("ladewerk-engine-inactive", "in an engine, Ladewerk not active", INACTIVE + inside + say),
    ]


def cached(path: list[str]) -> list[Contender]:
    outside, inside, say = GLOBAL.format(path=path), INSIDE.format(path=path), SAY.format(what=f"loop.cached({CACHED})")
    return [
        Contender("stock", "stock", outside + say),
        Contender("ladewerk", "Ladewerk", ACTIVE + outside + say),
        Contender("ladewerk-beside", "Ladewerk, while there is an engine", ACTIVE + "idle = ladewerk.ImportEngine()\n" + outside + say),
        Contender("ladewerk-engine", "in an engine", ACTIVE + inside + say),
    ]


def timed(prepare: str, body: str, count: int) -> str:
    """The median time of BODY, which ends up in `kept`."""
    return (f"import time\n{prepare}kept, times = [], []\nfor _ in range({count}):\n    cpu = time.process_time_ns()\n    {body}\n"
            "    times.append(time.process_time_ns() - cpu)\nprint('median', sorted(times)[len(times) // 2])\n")


SUBINTERPRETERS = "try:\n    import _interpreters as interpreters\nexcept ImportError:\n    import _xxsubinterpreters as interpreters\n"


def creation() -> list[Contender]:
    make = "kept.append(ladewerk.ImportEngine())"
    return [
        Contender("ladewerk-engine", "an engine", timed(ACTIVE + "ladewerk.ImportEngine()\n", make, 100)),
        Contender("ladewerk-engine-inactive", "an engine, Ladewerk not active", timed(INACTIVE + "ladewerk.ImportEngine()\n", make, 100)),
        Contender("ladewerk-engine-os", "an engine that has imported os", timed(ACTIVE + "ladewerk.ImportEngine()\n", "kept.append(ladewerk.ImportEngine()); kept[-1].import_module('os')", 100)),
        Contender("subinterpreter", "a subinterpreter", timed(SUBINTERPRETERS, "kept.append(interpreters.create())", 20) + "for each in kept:\n    interpreters.destroy(each)\n"),
    ]


def programs() -> list[Contender]:
    """The same imports, once or twice in a process: what the second costs is the difference to the first row of its kind."""
    imports = "".join(f"import {name}\n" for name in PROGRAM)
    engine = "engine = ladewerk.ImportEngine()\n" + "".join(f"engine.import_module({name!r})\n" for name in PROGRAM)
    own_path = "import sys\n"
    interpreter = "interpreters.run_string(interpreters.create(), {!r})\n"
    ends = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"  # the end of a process with subinterpreters is not what is measured
    return [
        Contender("stock", "stock", own_path + imports),
        Contender("ladewerk", "Ladewerk", ACTIVE + imports),
        Contender("ladewerk-engine", "Ladewerk, in an engine", ACTIVE + engine),
        Contender("ladewerk-both", "Ladewerk, outside and in an engine", ACTIVE + imports + engine),
        Contender("ladewerk-two", "Ladewerk, outside and in two", ACTIVE + imports + engine + engine.replace("engine", "second", 1).replace("engine.", "second.")),
        Contender("stock-subinterpreter", "stock, and in a subinterpreter", SUBINTERPRETERS + imports + interpreter.format(imports) + ends),
        Contender("stock-subprocess", "stock, and in a subprocess", imports + f"import subprocess, sys\nsubprocess.run([sys.executable, '-P', '-c', {imports!r}], check=True)\n"),
    ]


def memory() -> list[Contender]:
    """Private KB of so many."""
    head = ("import gc, re\ndef private():\n    gc.collect()\n"
            "    return sum(map(int, re.findall(r'^Private_\\w+: +(\\d+)', open('/proc/self/smaps_rollup').read(), re.M)))\n")
    loads = "; ".join(f"kept[-1].import_module({name!r})" for name in LOADED)

    def each(prepare: str, body: str) -> str:
        return head + prepare + f"kept = []\nfor _ in range(2):\n    {body}\nbefore = private()\nfor _ in range({MANY}):\n    {body}\nprint('KB', private() - before)\n"

    make, same = "kept.append(ladewerk.ImportEngine())", "".join(f"import {name}\n" for name in LOADED)
    run = f"kept.append(interpreters.create()); interpreters.run_string(kept[-1], {same!r})"
    ends = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    return [
        Contender("ladewerk-engine", "an engine", each(ACTIVE, make)),
        Contender("ladewerk-engine-loaded", f"an engine that has imported {', '.join(LOADED)}", each(ACTIVE, f"{make}; {loads}")),
        Contender("subinterpreter", "a subinterpreter", each(SUBINTERPRETERS, "kept.append(interpreters.create())") + ends),
        Contender("subinterpreter-loaded", "a subinterpreter that has imported the same", each(SUBINTERPRETERS, run) + ends),
    ]


PARTS = ("lookup", "cached", "create", "programs", "memory")
SHORT = ("lookup-package", "create")  # loads where there is little time


def loads(top: Path, trees: corpus.Corpus) -> list[Load]:
    """TOP has loop.py."""
    entries, own = [str(trees.entry(i)) for i in range(trees.shape.entries)], [str(top)]
    us, shape = "CPU us each", trees.shape
    return [
        Load("lookup", "lookup-package", f"{shape.oneline} one-line modules of a package", "inside_cpu_us", us,
             lookups([*own, str(trees.oneline_root)], trees.ONELINE, shape.oneline), scale=1e3 * shape.oneline),
        Load("lookup", "lookup-entries", f"{shape.modules} modules behind {shape.entries} path entries", "inside_cpu_us", us,
             lookups([*own, *entries], trees.BEHIND, shape.modules), scale=1e3 * shape.modules),
        Load("cached", "cached", "`import time`, which is there", "inside_cpu_ns", "CPU ns", cached(own), scale=CACHED),
        Load("create", "create", "Made", "inside_cpu_us", "CPU us", creation(), scale=1e3),
        Load("programs", "programs", f"A program that imports {', '.join(PROGRAM)}", "cpu_ms", "CPU ms, whole process", programs(), cpu_outside, added=True),
        Load("memory", "memory", f"Private memory of one of {MANY}", "private_kb", "KB", memory(), scale=MANY, twice=False),
    ]


def measure(python: Path, key: str, load: Load, env: dict[str, str], effort: Effort, seed: int) -> list[Row]:
    say(f"  {load.title}")
    rows = {each.key: compared.row("engines", key, load.key, load.title, each.key, each.name, field=load.field, unit=load.unit, added=load.added) for each in load.all()}
    rows[load.contenders[0].key]["base"] = True
    commands = {each.key: Command((str(python), "-P", "-c", each.source), env) for each in load.all()}

    def fails(name: str, failure: Failed) -> None:
        rows[name]["skipped"] = str(failure)

    for _ in range(WARM_UP):  # what can be learnt is learnt, byte code is there
        rounds({name: command for name, command in commands.items() if "skipped" not in rows[name]}, 1, on_failure=fails)
    able = {name: command for name, command in commands.items() if "skipped" not in rows[name]}
    for name, samples in rounds(able, effort.rounds, seed, on_failure=fails, seconds=effort.seconds).items():
        rows[name][load.field] = [round(load.figure(sample) / load.scale, 5) for sample in samples]
    return list(rows.values())


def run(place: Place, effort: Effort) -> list[Row]:
    """The parts that were asked for; else what the effort has time for."""
    only = place.parts.get("engines", ())
    if why := place.main.missing:
        return [compared.row("engines", place.main.key, part, f"Import engines: {part}", "ladewerk", "Ladewerk", base=True, skipped=why) for part in only or PARTS]
    (top := place.state / "engines").mkdir(parents=True)
    (top / "loop.py").write_text(LOOP)
    trees = corpus.generate(place.build / "corpus-engines", corpus.Shape(seed=place.seed, entries=300))
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(top), "LADEWERK_CACHE": str(top / "cache"), "LADEWERK_WATCH": "0"}
    wanted = [load for load in loads(top, trees) if (load.part in only if only else place.effort == "full" or load.key in SHORT)]
    each = replace(effort, seconds=effort.seconds / len(wanted))
    return [row for load in wanted for row in measure(place.main.python, place.main.key, load, env, each, place.seed)]


SECTION = Section("engines", "Import engines", {"headline": Effort(9, 10), "full": Effort(15, math.inf)}, run, compared.part, compared.plots, compared.figures, parts=PARTS)
