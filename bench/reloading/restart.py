# SPDX-License-Identifier: MIT
"""Save -> the restarted program's first line: `ladewerk run --reload`, watchfiles, and stock Python started anew at once.

The program imports a framework and a module of its own, which is saved (by a rename). Contenders take turns, in an order shuffled in each round.
"""
from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

import compared
from pair import Failed, pipe
from rows import say
from tables import Row

APP = """\
import sys
warm = "{first}" in sys.modules
{imports}
import helper
print("first line", helper.V, warm, flush=True)
import signal
signal.pause()
"""

# What programs import; the first of each tells whether it was there already.
PROGRAMS = (("json",), ("asyncio", "http.server"), ("sqlalchemy.orm",), ("sqlalchemy.orm", "django.db.models", "django.http", "django.template"))


class Contender:
    """COMMAND watches ROOT/app.py and starts it. Without WATCHES nobody does: it is app.py, and we end it and start it again."""

    def __init__(self, root: pathlib.Path, command: Sequence[str], watches: bool) -> None:
        self.root, self.command, self.watches, self.version = root, command, watches, 0
        self.start()

    def start(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LADEWERK"))}
        self.process = subprocess.Popen(self.command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
                                        stderr=subprocess.DEVNULL, env=env)
        self.first_line()

    def first_line(self) -> bool:
        """Of the version that was saved last. -> whether its modules were there already."""
        while True:
            line = pipe(self.process.stdout).readline()
            if not line:
                raise Failed("it has ended")
            if line.startswith(f"first line {self.version} "):
                return line.split()[3] == "True"

    def save(self) -> tuple[float, bool]:
        self.version += 1
        new = self.root / "new~"
        new.write_text(f"V = {self.version}{' ' * self.version}\n")  # of another size: stock Python takes the .pyc of a save within the same second
        begun = time.perf_counter()
        new.rename(self.root / "helper.py")
        if not self.watches:
            self.end()
            self.start()
            return 1000 * (time.perf_counter() - begun), False
        warm = self.first_line()
        return 1000 * (time.perf_counter() - begun), warm

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        pipe(self.process.stdout).close()


def contenders(top: pathlib.Path, imports: Sequence[str], which: Mapping[str, tuple[Sequence[str], bool]]) -> dict[str, Contender]:
    made = {}
    for key, (command, watches) in which.items():
        (root := top / key).mkdir(parents=True)
        (root / "app.py").write_text(APP.format(first=imports[0], imports="\n".join(f"import {each}" for each in imports)))
        (root / "helper.py").write_text("V = 0\n")
        made[key] = Contender(root, command, watches)
    return made


def time_saves(running: Mapping[str, Contender], count: int, rng: random.Random) -> dict[str, list[float]]:
    end = time.monotonic() + 60
    while not running["ladewerk-run"].save()[1] and time.monotonic() < end:
        time.sleep(1)
    samples: dict[str, list[float]] = {key: [] for key in running}
    order = list(running)
    for _ in range(count):
        rng.shuffle(order)
        for key in order:
            samples[key].append(round(running[key].save()[0], 4))
            time.sleep(0.1)
    return samples


LABELS = {"stock": "stock, started anew at once", compared.AGAIN: "stock, again", "ladewerk-run": "ladewerk run --reload", "watchfiles": "watchfiles"}


def measure(key: str, python: pathlib.Path, watchfiles: pathlib.Path, top: pathlib.Path, imports: Sequence[str], count: int, seed: int, why_not: Mapping[str, str]) -> list[Row]:
    """WHY_NOT: of contenders, by their key. PYTHON has what is imported, and `ladewerk` beside it."""
    text, stock = ", ".join(imports), ((str(python), "app.py"), False)
    which = {
        "stock": stock, compared.AGAIN: stock,
        "ladewerk-run": ((str(python.with_name("ladewerk")), "run", "--reload", "app.py"), True),
        "watchfiles": ((str(watchfiles), f"{python} app.py", "."), True),
    }
    title = f"A save, until the first line of a program that imports {text}"
    rows = {name: compared.row("reload", key, f"restart-{imports[0]}-{len(imports)}", title, name, label, base=name == "stock", field="ms", unit="ms")
            for name, label in LABELS.items()}
    for name, why in why_not.items():
        rows[name]["skipped"] = why
        del which[name]
    if "ladewerk-run" not in which:
        return list(rows.values())
    say(f"  restarts of a program that imports {text}")
    running = contenders(top, imports, which)
    try:
        for name, ms in time_saves(running, count, random.Random(seed)).items():
            rows[name]["ms"] = ms
    finally:
        for contender in running.values():
            contender.end()
    return list(rows.values())
