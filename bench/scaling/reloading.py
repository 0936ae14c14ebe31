# SPDX-License-Identifier: MIT
"""In a process of its own: loads modules, then reloads one whenever it is told to. scaling/reloads.py asks.

    reloading.py WAY ROOT SIZE LEAF

A line in: save and reload once. A line out: wall ns, CPU ns, of the reload alone; 1 if the module is new. First of all, a line when all is loaded, or why not.
"""
from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def told() -> Callable[[], object]:
    """importlib.reload() of the one module, which somebody has to name."""
    return lambda: importlib.reload(sys.modules["leaf"])


def compared() -> Callable[[], object]:
    """What anybody writes who is not told: all sources are compared, those with another time are reloaded."""
    known: dict[str, int] = {}

    def changed() -> list[ModuleType]:
        found = []
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and file.endswith(".py"):
                now = os.stat(file).st_mtime_ns
                if known.setdefault(name, now) != now:
                    known[name] = now
                    found.append(module)
        return found

    changed()
    return lambda: [importlib.reload(module) for module in changed()]


def ladewerk() -> Callable[[], object]:
    """ladewerk.reload(), which is told nothing."""
    import ladewerk
    ladewerk.reload()
    return ladewerk.reload


WAYS = {"told": told, "again": told, "compared": compared, "ladewerk": ladewerk}


def save(leaf: Path, value: int) -> None:
    new = leaf.with_suffix(".new")
    new.write_text(f"VALUE = {value}\n")
    new.rename(leaf)


def main(way: str, root: str, size: str, leaf: str) -> None:
    sys.dont_write_bytecode = True  # else importlib.reload() takes that of the last save within a second
    file = Path(leaf)
    save(file, 0)
    sys.path[:0] = [root, str(file.parent)]
    for number in range(int(size)):
        importlib.import_module(f"one.m{number:04}")
    importlib.import_module("leaf")
    try:
        reload = WAYS[way]()
    except ImportError as error:
        print(f"@not {error}", flush=True)
        return
    print("@loaded", flush=True)
    for value, _ in enumerate(sys.stdin, 1):
        save(file, value)
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        reload()
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        print(wall, cpu, int(sys.modules["leaf"].VALUE == value), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
