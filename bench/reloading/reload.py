# SPDX-License-Identifier: MIT
"""Save -> new code live: Ladewerk beside what else reloads (reloaders.py).

Contenders take turns, in an order shuffled in each round, each in a process of its own that has the same modules loaded. One that loses saves by rename is timed with
files written in place. A save that is not live within some seconds is lost.
"""
from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import compared
from pair import pipe
from reloading.reloaders import CONTENDERS, OURS
from rows import say
from tables import Row

MODULE = "import os, collections\nV = 1\n\ndef f():\n    return V\n\nclass C:\n    def g(self):\n        return V\n"
DEPENDANT = "import os, collections\nfrom hub import V\n" + "".join(f"\nclass C{i}:\n    def g(self):\n        return V\n" for i in range(20))
BENCH = pathlib.Path(__file__).resolve().parents[1]


def corpus(root: pathlib.Path, count: int) -> None:
    for package in range(count // 100):
        (root / f"p{package}").mkdir()
        (root / f"p{package}/__init__.py").touch()
        for module in range(99):
            (root / f"p{package}/m{module}.py").write_text(MODULE)
    for name in ("leaf", "hub"):
        (root / f"{name}.py").write_text("V = 0\n")
    for dependant in range(100):
        (root / f"dep{dependant}.py").write_text(DEPENDANT)


@dataclass(frozen=True)
class Ground:
    """Where everything is. PYTHONS: the interpreter with each contender; WHY_NOT: of those that are not there."""

    key: str
    pythons: Mapping[str, pathlib.Path]
    why_not: Mapping[str, str]
    state: pathlib.Path
    seed: int


class Contender:
    """KEY: NAME, or another one of the same."""

    def __init__(self, ground: Ground, key: str, name: str, count: int) -> None:
        self.key, self.name, self.count = key, name, count
        self.version, self.seconds = 0, 20 if "restart" in name else 5
        self.samples: list[dict[str, Any]] = []
        self.hub: list[dict[str, Any]] = []
        self.process: subprocess.Popen[str] | None = None
        self.why_not = ground.why_not.get(name, "")
        if not self.why_not:
            self._start(ground)

    def _start(self, ground: Ground) -> None:
        root = ground.state / f"{self.key}-{self.count}"
        root.mkdir()
        corpus(root, self.count)
        time.sleep(0.1)  # files that were written just now may be distrusted
        command = [str(ground.pythons[self.name]), "-m", "reloading.served", self.name, str(root), str(self.count)]
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(ground.state), "LADEWERK": "0", "PYTHONPATH": str(BENCH)}
        self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.why_not = json.loads(pipe(self.process.stdout).readline() or '{"error": "it has died"}').get("error", "")

    def save(self, name: str, rename: bool) -> dict[str, Any]:
        self.version += 1
        assert self.process is not None
        orders = pipe(self.process.stdin)
        orders.write(json.dumps({"name": name, "version": self.version, "rename": rename, "seconds": self.seconds}) + "\n")
        orders.flush()
        found: dict[str, Any] = json.loads(pipe(self.process.stdout).readline() or '{"ms": 0, "bodies": 0, "live": false, "dependants": false}')
        return found

    def try_out(self) -> None:
        """What it loses."""
        self.renames, self.writes = ([self.save("leaf", rename)["live"] for _ in range(3)] for rename in (True, False))
        self.dependants = self.save("hub", any(self.renames))["dependants"]

    def loses(self) -> list[str]:
        return [what for what, kept in (("saves by rename", all(self.renames)), ("saves in place", all(self.writes)), ("dependants", self.dependants)) if not kept]

    def row(self, ground: Ground) -> Row:
        """Of saves of the leaf."""
        label, title = f"{self.name}, again" if self.key == compared.AGAIN else self.name, f"A save of a leaf, {self.count:,} modules and 102 more"
        row = compared.row("reload", ground.key, f"leaf-{self.count}", title, "ladewerk" if self.key == OURS else self.key, label, count=self.count)
        row |= {"base": self.key == OURS, "told": CONTENDERS[self.name][1]}
        if self.why_not:
            return {**row, "skipped": self.why_not}
        live = [round(sample["ms"], 4) for sample in self.samples if sample["live"]]
        return {**row, "ms": live, "tried": len(self.samples), "loses": self.loses()}

    def hub_row(self, ground: Ground) -> Row:
        title = f"A save of a module with 100 dependants, {self.count:,} modules"
        row = compared.row("reload", ground.key, f"hub-{self.count}", title, "ladewerk", self.name, base=True, count=self.count)
        if self.why_not:
            return {**row, "skipped": self.why_not}
        live = [sample for sample in self.hub if sample["dependants"]]
        return {**row, "ms": [round(sample["ms"], 4) for sample in live], "bodies_ms": [round(sample["bodies"], 4) for sample in live], "tried": len(self.hub)}

    def end(self) -> None:
        if self.process is not None:
            pipe(self.process.stdin).close()
            self.process.wait()
            pipe(self.process.stdout).close()


def turns(contenders: Sequence[Contender], saves: int, seconds: float, rng: random.Random) -> None:
    """Of all sizes at once. SAVES rounds, or as many as there is time for; a restart takes long, and has every 20th only."""
    order, end = list(contenders), time.monotonic() + seconds
    for number in range(saves):
        rng.shuffle(order)
        for contender in order:
            if contender.seconds < 20 or number % 20 == 0:
                contender.samples.append(contender.save("leaf", any(contender.renames)))
        if time.monotonic() > end:
            return


def measure(ground: Ground, names: Sequence[str], sizes: Sequence[int], saves: int, seconds: float) -> list[Row]:
    """Ladewerk twice, the second time as its own control."""
    who = [(OURS, OURS), (compared.AGAIN, OURS), *((name, name) for name in names if name != OURS)]
    contenders: list[Contender] = []
    try:
        for count in sizes:
            for key, name in who:
                say(f"  {name}, {count} modules")
                contenders.append(Contender(ground, key, name, count))
        able = [contender for contender in contenders if not contender.why_not]
        for contender in able:
            contender.try_out()
        turns(able, saves, seconds, random.Random(ground.seed))
        hubs = [contender for contender in contenders if contender.key == OURS]
        for _ in range(max(9, saves // 5)):
            for contender in hubs:
                if not contender.why_not:
                    contender.hub.append(contender.save("hub", True))
        return [*(contender.row(ground) for contender in contenders), *(contender.hub_row(ground) for contender in hubs)]
    finally:
        for contender in contenders:
            contender.end()
