#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What import engines cost, beside stock Python, subinterpreters and subprocesses; engines.sh prepares what it needs.

Every figure is of whole processes that take turns; a figure that a process has taken of itself is printed by it. Ratios are formed within a round.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import corpus
from pair import Command, Failed, Sample, rounds
from stats import Median, differences, ratios

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
class Row:
    name: str
    source: str
    per: int = 1  # of how many things the figure is

    def command(self, env: dict[str, str]) -> Command:
        return Command((sys.executable, "-P", "-c", self.source), env)


def cpu_inside(sample: Sample) -> float:
    """ns that the process has counted itself."""
    return float(sample.out.split()[1])


def cpu_outside(sample: Sample) -> float:
    return sample.cpu_ms


def lookups(path: list[str], names: str, count: int) -> list[Row]:
    """NAMES imported from PATH. The row of an engine comes after the same without, which is its base."""
    what = f"loop.load([{names!r}.format(i) for i in range({count})])"
    outside, inside, say = GLOBAL.format(path=path), INSIDE.format(path=path), SAY.format(what=what)
    return [
        Row("Ladewerk", ACTIVE + outside + say, count),
        Row("Ladewerk, while there is an engine", ACTIVE + "idle = ladewerk.ImportEngine()\n" + outside + say, count),
        Row("in an engine", ACTIVE + inside + say, count),
        Row("stock", outside + say, count),
        Row("in an engine, Ladewerk not active", INACTIVE + inside + say, count),
    ]


def cached(path: list[str]) -> list[Row]:
    count = 1_000_000
    outside, inside, say = GLOBAL.format(path=path), INSIDE.format(path=path), SAY.format(what=f"loop.cached({count})")
    return [
        Row("stock", outside + say, count),
        Row("Ladewerk", ACTIVE + outside + say, count),
        Row("Ladewerk, while there is an engine", ACTIVE + "idle = ladewerk.ImportEngine()\n" + outside + say, count),
        Row("in an engine", ACTIVE + inside + say, count),
    ]


def timed(prepare: str, body: str, count: int) -> str:
    """The median time of BODY, which ends up in `kept`."""
    return (f"import time\n{prepare}kept, times = [], []\nfor _ in range({count}):\n    cpu = time.process_time_ns()\n    {body}\n"
            "    times.append(time.process_time_ns() - cpu)\nprint('median', sorted(times)[len(times) // 2])\n")


SUBINTERPRETERS = "try:\n    import _interpreters as interpreters\nexcept ImportError:\n    import _xxsubinterpreters as interpreters\n"


def creation() -> list[Row]:
    make = "kept.append(ladewerk.ImportEngine())"
    return [
        Row("an engine", timed(ACTIVE + "ladewerk.ImportEngine()\n", make, 100)),
        Row("an engine, Ladewerk not active", timed(INACTIVE + "ladewerk.ImportEngine()\n", make, 100)),
        Row("an engine that has imported os", timed(ACTIVE + "ladewerk.ImportEngine()\n", "kept.append(ladewerk.ImportEngine()); kept[-1].import_module('os')", 100)),
        Row("a subinterpreter", timed(SUBINTERPRETERS, "kept.append(interpreters.create())", 20) + "for each in kept:\n    interpreters.destroy(each)\n"),
    ]


def programs() -> list[Row]:
    """The same imports, once or twice in a process: what the second costs is the difference to the first row of its kind."""
    imports = "".join(f"import {name}\n" for name in PROGRAM)
    engine = "engine = ladewerk.ImportEngine()\n" + "".join(f"engine.import_module({name!r})\n" for name in PROGRAM)
    own_path = "import sys\n"
    interpreter = "interpreters.run_string(interpreters.create(), {!r})\n"
    ends = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"  # the end of a process with subinterpreters is not what is measured
    return [
        Row("stock", own_path + imports),
        Row("Ladewerk", ACTIVE + imports),
        Row("Ladewerk, in an engine", ACTIVE + engine),
        Row("Ladewerk, outside and in an engine", ACTIVE + imports + engine),
        Row("Ladewerk, outside and in two", ACTIVE + imports + engine + engine.replace("engine", "second", 1).replace("engine.", "second.")),
        Row("stock, and in a subinterpreter", SUBINTERPRETERS + imports + interpreter.format(imports) + ends),
        Row("stock, and in a subprocess", imports + f"import subprocess, sys\nsubprocess.run([sys.executable, '-P', '-c', {imports!r}], check=True)\n"),
    ]


def memory() -> list[Row]:
    """Private KB per piece."""
    head = ("import gc, re\ndef private():\n    gc.collect()\n"
            "    return sum(map(int, re.findall(r'^Private_\\w+: +(\\d+)', open('/proc/self/smaps_rollup').read(), re.M)))\n")
    count = 50
    loads = "; ".join(f"kept[-1].import_module({name!r})" for name in LOADED)

    def each(prepare: str, body: str) -> str:
        return head + prepare + f"kept = []\nfor _ in range(2):\n    {body}\nbefore = private()\nfor _ in range({count}):\n    {body}\nprint('KB', private() - before)\n"

    make, same = "kept.append(ladewerk.ImportEngine())", "".join(f"import {name}\n" for name in LOADED)
    run = f"kept.append(interpreters.create()); interpreters.run_string(kept[-1], {same!r})"
    ends = "import os, sys\nsys.stdout.flush()\nos._exit(0)\n"
    return [
        Row("an engine", each(ACTIVE, make), count),
        Row(f"an engine that has imported {', '.join(LOADED)}", each(ACTIVE, f"{make}; {loads}"), count),
        Row("a subinterpreter", each(SUBINTERPRETERS, "kept.append(interpreters.create())") + ends, count),
        Row("a subinterpreter that has imported the same", each(SUBINTERPRETERS, run) + ends, count),
    ]


def show(title: str, unit: str, rows: list[Row], env: dict[str, str], count: int, figure: Callable[[Sample], float], scale: float, added: bool = False) -> None:
    """A table of ROWS; FIGURE / per / SCALE in UNIT. The first row is the base of the ratios; ADDED: and what is more than it."""
    missing: dict[Row, str] = {}
    commands = {row: row.command(env) for row in rows}

    def fails(row: Row, failure: Failed) -> None:
        missing[row] = str(failure)

    rounds(commands, 3, on_failure=fails)  # what can be learnt is learnt, byte code is there
    samples = rounds({row: command for row, command in commands.items() if row not in missing}, count, on_failure=fails)
    print(f"\n| {title} | {unit} | of the first [95 %] |{' more than the first |' if added else ''}\n|---|---|---|{'---|' if added else ''}")
    base = [figure(sample) / rows[0].per / scale for sample in samples[rows[0]]]
    for row in rows:
        if row in missing:
            print(f"| {row.name} | | {missing[row]} |{' |' if added else ''}")
            continue
        values = [figure(sample) / row.per / scale for sample in samples[row]]
        ratio = ratios(values, base)
        more = f" {differences(values, base).value:.3g} |" if added else ""
        print(f"| {row.name} | {Median.of(values).value:.3g} | {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] |{more}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=15, help="rounds")
    parser.add_argument("--only", default="lookup,cached,create,programs,memory")
    options = parser.parse_args()
    only = options.only.split(",")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.n} rounds")
    with tempfile.TemporaryDirectory() as top:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LADEWERK"))}
        env["LADEWERK_CACHE"], env["LADEWERK_WATCH"] = f"{top}/cache", "0"
        Path(top, "loop.py").write_text(LOOP)
        trees = corpus.generate(Path(top, "corpus"), corpus.Shape(entries=300))
        if "lookup" in only:
            entries = [str(trees.entry(i)) for i in range(trees.shape.entries)]
            show("2000 one-line modules of a package", "us each", lookups([top, str(trees.oneline_root)], trees.ONELINE, trees.shape.oneline), env, options.n,
                 cpu_inside, 1e3)
            show("200 modules behind 300 path entries", "us each", lookups([top, *entries], trees.BEHIND, trees.shape.modules), env, options.n, cpu_inside, 1e3)
        if "cached" in only:
            show("`import time`, which is there", "ns", cached([top]), env, options.n, cpu_inside, 1)
        if "create" in only:
            show("made", "us", creation(), env, options.n, cpu_inside, 1e3)
        if "programs" in only:
            show(f"a program that imports {', '.join(PROGRAM)}", "CPU ms, whole process", programs(), env, options.n, cpu_outside, 1, added=True)
        if "memory" in only:
            show("private memory of one of 50", "KB", memory(), env, 3, cpu_inside, 1)


if __name__ == "__main__":
    main()
