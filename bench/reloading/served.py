# SPDX-License-Identifier: MIT
"""A contender at work, in a process of its own that has little else in it: it is told on standard input what to save.

    python -m reloading.served CONTENDER ROOT COUNT
"""
from __future__ import annotations

import json
import os
import pathlib
import sys
import time

from reloading.reloaders import NAMES, OURS, begin


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


if __name__ == "__main__":
    serve(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]))
