# SPDX-License-Identifier: MIT
"""Save -> the restarted program's first line: `ladewerk run --reload`, watchfiles, and stock Python started anew at once; see reload.sh --restart.

The program imports a framework and a module of its own, which is saved (by a rename). Contenders take turns, round by round.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

APP = """\
import sys
warm = "{first}" in sys.modules
{imports}
import helper
print("first line", helper.V, warm, flush=True)
import signal
signal.pause()
"""


class Contender:
    """COMMAND watches ROOT/app.py and starts it; None: nobody watches, we end it and start it again."""

    def __init__(self, root: pathlib.Path, command: list[str] | None) -> None:
        self.root, self.command, self.version = root, command, 0
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = self.command or [sys.executable, "app.py"]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LADEWERK"))}
        self.process = subprocess.Popen(command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
                                        stderr=subprocess.DEVNULL, env=env)
        self.first_line()

    def first_line(self) -> bool:
        """Of the version that was saved last. -> whether its modules were there already."""
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"{self.command or 'stock'} has ended")
            if line.startswith(f"first line {self.version} "):
                return line.split()[3] == "True"

    def save(self) -> tuple[float, bool]:
        self.version += 1
        new = self.root / "new~"
        new.write_text(f"V = {self.version}{' ' * self.version}\n")  # of another size: stock Python takes the .pyc of a save within the same second
        begun = time.perf_counter()
        new.rename(self.root / "helper.py")
        if not self.command:
            self.end()
            self.start()
            return 1000 * (time.perf_counter() - begun), False
        warm = self.first_line()
        return 1000 * (time.perf_counter() - begun), warm

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        self.process.stdout.close()


def contenders(top: pathlib.Path, imports: list[str], which: dict[str, list[str] | None]) -> dict[str, Contender]:
    made = {}
    for number, (name, command) in enumerate(which.items()):
        root = top / str(number)
        root.mkdir()
        (root / "app.py").write_text(APP.format(first=imports[0], imports="\n".join(f"import {each}" for each in imports)))
        (root / "helper.py").write_text("V = 0\n")
        made[name] = Contender(root, command)
    return made


def missing(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode != 0


def measure(running: dict[str, Contender], imports: str, count: int) -> None:
    end = time.monotonic() + 60
    while not running["ladewerk run --reload"].save()[1] and time.monotonic() < end:
        time.sleep(1)
    samples: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(count):
        for name, contender in running.items():
            samples[name].append(contender.save()[0])
            time.sleep(0.1)
    stock = statistics.median(samples["stock, started anew at once"])
    for name, times in samples.items():
        print(f"| {name} | {imports} | {statistics.median(times):.1f} | {max(times):.1f} | {statistics.median(times) / stock:.2f} |", flush=True)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # the contenders are in sessions of their own
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=30)
    options = parser.parse_args()
    here = pathlib.Path(sys.executable).parent
    which: dict[str, list[str] | None] = {"ladewerk run --reload": [str(here / "ladewerk"), "run", "--reload", "app.py"], "stock, started anew at once": None}
    if missing("watchfiles"):
        print("watchfiles is not installed: no row of it\n")
    else:
        which["watchfiles"] = [str(here / "watchfiles"), f"{sys.executable} app.py", "."]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, n {options.n}\n")
    print("| save -> first line, ms | the program imports | p50 | max | to stock |\n|---|---|---|---|---|")
    for imports in (["json"], ["asyncio", "http.server"], ["sqlalchemy.orm"], ["sqlalchemy.orm", "django.db.models", "django.http", "django.template"]):
        if any(missing(each) for each in imports):
            print(f"| | {', '.join(imports)} | not installed | | |")
            continue
        with tempfile.TemporaryDirectory() as top:
            running = contenders(pathlib.Path(top), imports, which)
            try:
                measure(running, ", ".join(imports), options.n)
            finally:
                for contender in running.values():
                    contender.end()


if __name__ == "__main__":
    main()
