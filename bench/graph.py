# SPDX-License-Identifier: MIT
"""How long a question about the import graph takes, the whole process, beside a start of the interpreter that does nothing: a section of run.sh, and graph.sh."""
from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import compared
import pair
from pair import Command, Failed, rounds
from rows import say
from sections import Effort, Place, Section
from tables import Row, median_text
from watching import watch, watchers

MODULES, SHORT_MODULES = 50_000, 5_000
QUESTIONS = {
    "imports": "--of p00.s10.m10 --imports",
    "importers": "--of p00.s10.m10 --importers",
    "transitive": "--of p00.s10.m10 --importers --transitive --kind module",
    "cycles": "--cycles",
}
PARTS = ("alone", "daemon")  # without a daemon, and with one
INDEXING = 600.0  # seconds; once


@dataclass(frozen=True)
class Tree:
    """Modules of packages of packages, each of which imports six that come before it."""

    root: Path
    modules: int
    seed: int

    @property
    def names(self) -> list[str]:
        return [f"p{i // 1000:02}.s{i // 50 % 20:02}.m{i % 50:02}" for i in range(self.modules)]

    def write(self) -> None:
        rng, names = random.Random(self.seed), self.names
        shutil.rmtree(self.root, ignore_errors=True)
        for package in dict.fromkeys(name.rpartition(".")[0] for name in names):
            directory = self.root.joinpath(*package.split("."))
            directory.mkdir(parents=True)
            for place in (directory, directory.parent):
                (place / "__init__.py").touch()
        for number, name in enumerate(names):
            lines = ["import os, sys", "from collections import deque"]
            for j in range(6):
                target = names[rng.randrange(max(number, 1))]
                package, _, last = target.rpartition(".")
                lines.append(rng.choice([f"import {target}", f"from {target} import x as x{j}", f"from {package} import {last}"]))
            (self.root.joinpath(*name.split(".")).with_suffix(".py")).write_text("\n".join([*lines, "x = 1", ""]))


def kept(place: Place) -> Tree:
    """Made once."""
    tree = Tree(place.build / "graphed", MODULES if place.effort == "full" else SHORT_MODULES, place.seed)
    stamp, text = place.build / "graphed.stamp", f"1 {tree.modules} {tree.seed}\n"
    if not stamp.exists() or stamp.read_text() != text:
        say(f"  tree of {tree.modules:,} modules")
        stamp.unlink(missing_ok=True)
        tree.write()
        stamp.write_text(text)
    return tree


def ask(place: Place, part: str, tree: Tree, env: dict[str, str], effort: Effort) -> list[Row]:
    """In turns: the interpreter alone, twice, and every question."""
    title = f"A question about {tree.modules:,} modules, {'no daemon' if part == 'alone' else '`ladewerk watch` beside it'}"
    nothing = (str(place.main.python), "-P", "-c", "pass")
    argv: dict[str, tuple[str, ...]] = {"stock": nothing, compared.AGAIN: nothing}
    argv |= {f"ladewerk-{key}": (str(place.main.python.with_name("ladewerk")), "graph", str(tree.root), *text.split()) for key, text in QUESTIONS.items()}
    labels = {"stock": "python -P -c pass", compared.AGAIN: "python -P -c pass, again", **{f"ladewerk-{key}": f"ladewerk graph {text}" for key, text in QUESTIONS.items()}}
    rows = {key: compared.row("graph", place.main.key, part, title, key, label, base=key == "stock", part=part, field="wall_ms", unit="wall ms", added=True) for key, label in labels.items()}
    commands = {key: Command(words, env, discard=True) for key, words in argv.items()}

    def fails(key: str, failure: Failed) -> None:
        rows[key]["skipped"] = str(failure)

    rounds(commands, 1, on_failure=fails)
    able = {key: command for key, command in commands.items() if "skipped" not in rows[key]}
    for key, samples in rounds(able, effort.rounds, place.seed, on_failure=fails, seconds=effort.seconds).items():
        rows[key]["wall_ms"], rows[key]["cpu_ms"] = [round(s.wall_ms, 4) for s in samples], [round(s.cpu_ms, 4) for s in samples]
    return list(rows.values())


def run(place: Place, effort: Effort) -> list[Row]:
    wanted, main = place.parts.get("graph") or PARTS, place.main
    if main.missing:
        return [compared.row("graph", main.key, part, "A question", "ladewerk", "ladewerk graph", base=True, skipped=main.missing) for part in wanted]
    rows, tree = [], kept(place)
    with watch.sockets() as sockets:
        where = watch.fresh(watchers.Where(place.build, main.python, main.python, main.python.with_name("ladewerk"), "", place.state / "graph", sockets))
        env = {**where.env(), "LADEWERK_CACHE": str(where.state / "cache")}
        say("  the graph is made")
        pair.run(Command((str(where.ladewerk), "graph", str(tree.root)), {**env, "LADEWERK_WATCH": "0"}, discard=True), INDEXING)
        each = replace(effort, seconds=effort.seconds / len(wanted))
        if "alone" in wanted:
            rows += ask(place, "alone", tree, {**env, "LADEWERK_WATCH": "0"}, each)
        if "daemon" in wanted:
            try:
                with watchers.Ladewerk("auto").watch(where, tree.root):
                    rows += ask(place, "daemon", tree, env, each)
            except (Failed, OSError) as failure:
                rows.append(compared.row("graph", main.key, "daemon", "A question, `ladewerk watch` beside it", "ladewerk", "ladewerk graph", base=True, skipped=str(failure)))
    return rows


def part(rows: Sequence[Row]) -> str:
    return compared.part(rows, {"CPU ms": lambda row: median_text(row, "cpu_ms")})


SECTION = Section("graph", "The import graph", {"full": Effort(21, math.inf)}, run, part, compared.plots, compared.figures, parts=PARTS)
