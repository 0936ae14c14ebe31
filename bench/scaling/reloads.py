# SPDX-License-Identifier: MIT
"""The curve `reload`: a module that was saved is reloaded, with so many others loaded. A process for each way and size, asked in turns (reloading.py)."""
from __future__ import annotations

import random
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import corpus
import pair
from contenders import Bench, ladewerk_missing
from importing import measuring
from pair import Failed
from rows import say
from scaling.curves import row_of
from sections import Effort, Place
from tables import Row

SIZES = {"quick": (10, 1000), "headline": (10, 100, 1000, 10_000), "full": (10, 100, 1000, 5000, 20_000)}
SAVES = 3  # in each round; their median is a sample
_PATIENCE = 120.0  # s
_SCRIPT = Path(__file__).with_name("reloading.py")
# way -> label; the first is the base
WAYS = {
    "told": "importlib.reload(), told which module", "again": "the same again (control)",
    "compared": "all sources compared, importlib.reload()", "ladewerk": "ladewerk.reload()",
}


@dataclass
class Asked:
    """A process of reloading.py, which is killed if it does not answer."""

    way: str
    size: int
    process: subprocess.Popen[str]
    skipped: str = ""
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def line(self) -> str:
        timer = threading.Timer(_PATIENCE, self.process.kill)
        timer.start()
        try:
            return pair.pipe(self.process.stdout).readline().strip()
        finally:
            timer.cancel()

    def reload(self) -> tuple[int, int]:
        """(wall, CPU) in ns. Failed: it has ended, or serves the old module."""
        orders = pair.pipe(self.process.stdin)
        try:
            orders.write("\n")
            orders.flush()
        except OSError as error:
            raise Failed("the process has ended") from error
        words = self.line().split()
        if len(words) != 3:
            raise Failed("the process has ended")
        if words[2] != "1":
            raise Failed("after a reload the old module was there: not timed")
        return int(words[0]), int(words[1])

    def sample(self) -> None:
        taken = [self.reload() for _ in range(SAVES)]
        for times, of in ((self.wall_ms, 0), (self.cpu_ms, 1)):
            times.append(round(statistics.median(each[of] for each in taken) / 1e6, 5))


def _start(stack: ExitStack, bench: Bench, root: Path, way: str, size: int) -> Asked:
    leaf = bench.state / "reloads" / f"{way}-{size}" / "leaf.py"
    leaf.parent.mkdir(parents=True)
    argv = (str(bench.python), str(_SCRIPT), way, str(root), str(size), str(leaf))
    process = stack.enter_context(subprocess.Popen(argv, env=bench.quiet(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
    stack.callback(process.terminate)
    return Asked(way, size, process)


def run(place: Place, effort: Effort) -> list[Row]:
    bench, sizes = measuring.session(place).bench, SIZES[place.effort]
    tree = corpus.generate(place.build / "scaling-reload", corpus.Shape(place.seed, 1, 1, max(sizes)))
    with ExitStack() as stack:
        asked = [_start(stack, bench, tree.oneline_root, way, size) for way in WAYS for size in sizes]
        missing = ladewerk_missing(bench)
        for one in asked:
            said = one.line()
            if said != "@loaded":
                one.skipped = missing if one.way == "ladewerk" and missing else said.removeprefix("@not ") or "the process has ended"
        say(f"  measure reloads: {effort.rounds} rounds")
        _take_turns([one for one in asked if not one.skipped], effort, place.seed)
    return [_row(place, one) for one in asked]


def _take_turns(order: Sequence[Asked], effort: Effort, seed: int) -> None:
    rng, end, able = random.Random(seed), time.monotonic() + effort.seconds, list(order)
    for done in range(effort.rounds):
        rng.shuffle(able)
        for one in list(able):
            try:
                one.sample()
            except Failed as failure:
                one.skipped = str(failure)
                able.remove(one)
        if done + 1 >= pair.MINIMUM and time.monotonic() > end:
            break


def _row(place: Place, one: Asked) -> Row:
    more: Row = {"skipped": one.skipped} if one.skipped else {"cpu_ms": one.cpu_ms, "wall_ms": one.wall_ms}
    return row_of(place.main.key, "reload", one.size, (one.way, WAYS[one.way]), one.way == next(iter(WAYS)), more)
