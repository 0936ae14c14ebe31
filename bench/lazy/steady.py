# SPDX-License-Identifier: MIT
"""Steady state: loops of pyperformance's benchmarks, in a process whose imports were lazy.

Each benchmark is a module that a script imports, so that its own code and all that it imports has what lazy imports put there. inside/pyperf.py runs its loops.
"""
from __future__ import annotations

import shutil

from dataclasses import dataclass
from pathlib import Path

import pair
from environments import Environments, Unavailable
from lazy.measuring import LEARNING, installed
from lazy.ways import STEADY, STOCK, Site, Way
from pair import Command, Failed
from rows import say
from sections import Effort
from tables import Row

HOME = "lazy-steady"
_INSIDE = Path(__file__).with_name("inside")
_GUARDS = ('if __name__ == "__main__":', "if __name__ == '__main__':")


@dataclass(frozen=True)
class Loop:
    """The benchmark KEY of pyperformance, with PACKAGES beside it; LOOPS so that one value takes a tenth of a second."""

    key: str
    loops: int
    packages: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


LOOPS = [
    Loop("chameleon", 10, ("chameleon",)), Loop("chaos", 2), Loop("comprehensions", 8000), Loop("deepcopy", 100), Loop("deltablue", 30), Loop("django_template", 3, ("django",)),
    Loop("genshi", 3, ("genshi",), ("xml",)), Loop("html5lib", 2, ("html5lib",)), Loop("json_dumps", 10), Loop("logging", 1000, arguments=("simple",)),
    Loop("regex_compile", 1), Loop("richards", 3), Loop("sqlglot_v2", 80, ("sqlglot",), ("parse",)), Loop("sympy", 1, ("sympy",), ("str",)),
    Loop("typing_runtime_protocols", 200), Loop("xml_etree", 1, arguments=("generate",)),
]
SHORT = ("deltablue",)


def prepare(loop: Loop, python: Path, directory: Path) -> Path:
    """The script to start, in DIRECTORY. Unavailable: this pyperformance has no such benchmark."""
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    there = site / f"pyperformance/data-files/benchmarks/bm_{loop.key}"
    if not (there / "run_benchmark.py").exists():
        raise Unavailable("this pyperformance has no such benchmark")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(there, directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "run_benchmark.py").rename(module := directory / f"bm_{loop.key}.py")
    text = module.read_text()
    for guard in _GUARDS:
        text = text.replace(guard, "if True:")
    module.write_text(text)
    (directory / "main.py").write_text(f"import bm_{loop.key}\n")
    shutil.copy(_INSIDE / "pyperf.py", directory)
    return directory / "main.py"


def command(site: Site, way: Way, loop: Loop, python: Path, script: Path) -> Command:
    env = {**site.env(python), "LADEWERK_BENCH_LOOPS": str(loop.loops)}
    return way.command(python, (str(script), *loop.arguments), env, site.state / "cache" / f"{way.key}-steady-{loop.key}")


def measure(site: Site, home: Environments, loop: Loop, seed: int, effort: Effort) -> list[Row]:
    """A row for each way."""
    common = {"section": "lazy", "python": site.key, "workload": f"steady-{loop.key}", "title": loop.key, "group": "steady", "check": {}}
    rows: dict[str, Row] = {way.key: {**common, "contender": way.key, "label": way.label, "base": way is STOCK} for way in STEADY}
    say(f"  Python {site.key}: loops of {loop.key}")
    try:
        python = installed(site, home, HOME, ("pyperformance", *loop.packages))
        script = prepare(loop, python, site.state / "steady" / loop.key)
    except Unavailable as why:
        return [{**row, "skipped": str(why)} for row in rows.values()]

    def fails(key: str, failure: Failed) -> None:
        rows[key]["skipped"] = str(failure)

    for way in STEADY:
        if way.ladewerk and site.missing:
            rows[way.key]["skipped"] = site.missing
    commands = {way.key: command(site, way, loop, python, script) for way in STEADY if "skipped" not in rows[way.key]}
    pair.rounds(commands, LEARNING, on_failure=fails)  # what can be learnt is learnt, byte code is there
    able = {key: each for key, each in commands.items() if "skipped" not in rows[key]}
    for key, samples in pair.rounds(able, effort.rounds, seed, on_failure=fails, seconds=effort.seconds).items():
        rows[key]["inside_cpu_us"] = [round(sum(float(line.split()[-1]) for line in sample.out.splitlines() if line.startswith("@loop ")), 4) for sample in samples]
    return list(rows.values())
