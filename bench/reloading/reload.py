# SPDX-License-Identifier: MIT
"""Save -> new code live: Ladewerk beside what else reloads (reloaders.py); see reload.sh.

Contenders take turns, round by round, each in a process of its own that has the same modules loaded. One that loses saves by rename is timed with files written in
place. A save that is not live within some seconds is lost.
"""
from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from reloading.reloaders import CONTENDERS, NAMES, begin

MODULE = "import os, collections\nV = 1\n\ndef f():\n    return V\n\nclass C:\n    def g(self):\n        return V\n"
DEPENDANT = "import os, collections\nfrom hub import V\n" + "".join(f"\nclass C{i}:\n    def g(self):\n        return V\n" for i in range(20))
OURS = "ladewerk.watch"


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


# --- in the contender's process ---


def bodies(root: pathlib.Path) -> float:
    """The hub and its dependants, executed: what a reload of them cannot do without."""
    codes = [compile((root / f"{name}.py").read_bytes(), name, "exec") for name in NAMES[1:]]
    begun = time.perf_counter()
    for code in codes:
        exec(code, {"__name__": "body"})
    return time.perf_counter() - begun


def save(path: pathlib.Path, version: int, by_rename: bool) -> float:
    """When it began to be saved: the content is written before if it is renamed."""
    text = f"V = {version}\n"
    if not by_rename:
        begun = time.perf_counter()
        path.write_text(text)
        return begun
    new = path.with_suffix(".new")
    new.write_text(text)
    begun = time.perf_counter()
    new.rename(path)
    return begun


def soon(true) -> bool:
    """Some take dependants later than what has changed."""
    end = time.monotonic() + 1
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def serve(contender: str, root: pathlib.Path, count: int) -> None:
    """A line {"name", "version", "rename", "seconds"} in, one {"ms", "bodies", "live", "dependants"} out."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some of them talk

    def answer(**what):
        print(json.dumps(what), file=answers, flush=True)
    try:
        wait, version_of, end = begin(contender, root, count)
    except ImportError as error:
        answer(error=str(error))
        return
    answer(modules=len(sys.modules))
    for line in sys.stdin:
        order = json.loads(line)
        name, version = order["name"], order["version"]
        base = bodies(root) if name == "hub" and contender == OURS else 0
        begun = save(root / f"{name}.py", version, order["rename"])
        live = wait(name, version, order["seconds"])
        took = time.perf_counter() - begun
        answer(ms=1000 * took, bodies=1000 * base, live=live, dependants=live and name == "hub" and soon(lambda: version_of("dep7") == version))
    end()


# --- who asks them ---


class Contender:
    def __init__(self, name: str, count: int, top: str) -> None:
        self.name, self.told = name, CONTENDERS[name][1]
        self.root = pathlib.Path(tempfile.mkdtemp(dir=top))
        corpus(self.root, count)
        time.sleep(0.1)
        self.process = subprocess.Popen([sys.executable, "-m", "reloading.reload", "--serve", name, "--root", str(self.root), "--count", str(count)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "LADEWERK": "0"})
        self.first = json.loads(self.process.stdout.readline() or '{"error": "it has died"}')
        self.version = 0
        self.seconds = 20 if "restart" in name else 5
        self.samples: list[dict] = []

    def save(self, name: str, rename: bool) -> dict:
        self.version += 1
        self.process.stdin.write(json.dumps({"name": name, "version": self.version, "rename": rename, "seconds": self.seconds}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def try_out(self) -> None:
        """What it loses."""
        self.renames, self.writes = ([self.save("leaf", rename)["live"] for _ in range(3)] for rename in (True, False))
        self.dependants = self.save("hub", any(self.renames))["dependants"]

    def row(self) -> str:
        lost = [what for what, kept in (("saves by rename", all(self.renames)), ("saves in place", all(self.writes)), ("dependants", self.dependants)) if not kept]
        live = sorted(sample["ms"] for sample in self.samples if sample["live"])
        times = f"{statistics.median(live):.2f} | {live[max(0, -(-len(live) * 99 // 100) - 1)]:.2f}" if live else " | "
        return f"| {self.name} | {self.told} | {times} | {len(live)} of {len(self.samples)} | {', '.join(lost) or 'nothing'} |"

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(count: int, saves: int, names: list[str]) -> tuple[list[dict], list[dict]]:
    """Prints the tables; -> Ladewerk's samples for the leaf, and for the module with dependants."""
    with tempfile.TemporaryDirectory() as top:
        running = [Contender(name, count, top) for name in names]
        able = [contender for contender in running if "error" not in contender.first]
        for contender in able:
            contender.try_out()
        for number in range(saves):
            for contender in able:
                if contender.seconds < 20 or number % 20 == 0:
                    contender.samples.append(contender.save("leaf", any(contender.renames)))
        print(f"## {count} modules and 102 more\n\n| save of a leaf | is told | p50, ms | p99 | live | loses |\n|---|---|---|---|---|---|")
        for contender in running:
            print(contender.row() if contender in able else f"| {contender.name} | {contender.first['error']} | | | | |")
        ours = next(contender for contender in running if contender.name == OURS)
        hub = [ours.save("hub", True) for _ in range(max(20, saves // 5))]
        ratio = statistics.median(sample["ms"] / sample["bodies"] for sample in hub)
        print("\n| save of a module with 100 dependants | p50, ms | its 101 bodies | ratio, median | live |\n|---|---|---|---|---|")
        print(f"| {OURS} | {statistics.median(sample['ms'] for sample in hub):.2f} | {statistics.median(sample['bodies'] for sample in hub):.2f} | {ratio:.2f} | "
              f"{sum(sample['dependants'] for sample in hub)} of {len(hub)} |\n", flush=True)
        for contender in able:
            contender.end()
        return ours.samples, hub


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10000])
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--serve")
    parser.add_argument("--root", type=pathlib.Path)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.root, options.count)
        return
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.n} saves each (restarts: every 20th)\n")
    names = [OURS, *(name for name in options.only if name != OURS)]
    leaf = {count: measure(count, options.n, names)[0] for count in options.sizes}
    sizes = sorted(leaf)
    if len(sizes) > 1:
        small, large = leaf[sizes[0]], leaf[sizes[-1]]
        ratio = statistics.median(b["ms"] for b in large) / statistics.median(a["ms"] for a in small)
        print(f"{OURS}, leaf, {sizes[-1]} modules against {sizes[0]}: {ratio:.2f}; load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
