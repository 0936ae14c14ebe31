# SPDX-License-Identifier: MIT
"""Instructions that a command executes, counted by the processor (perf) or, where nobody lets it, by valgrind."""
from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from shutil import which

from pair import Command, Failed

Counter = Callable[[Command], int]

_PERF = ("perf", "stat", "-x,", "-e", "instructions:u")
_VALGRIND = ("valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null")


def _run(prefix: tuple[str, ...], command: Command) -> str:
    """What the tool says on standard error."""
    # Strings hash alike in every run, so that dicts collide alike.
    env = {**command.env, "PYTHONHASHSEED": "0"}
    tool = which(prefix[0]) or prefix[0]  # our path's, whatever the command's
    done = subprocess.run([tool, *prefix[1:], *command.argv], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600)
    if done.returncode != 0:
        raise Failed(f"{prefix[0]}: {(done.stderr.strip().splitlines() or [f'exit {done.returncode}'])[-1]}")
    return done.stderr


def by_perf(command: Command) -> int:
    """User-mode instructions of the process and its children."""
    for line in _run(_PERF, command).splitlines():
        value, _, rest = line.partition(",")
        if "instructions" in rest and value.isdigit():
            return int(value)
    raise Failed("perf: the processor does not count instructions here")


def by_valgrind(command: Command) -> int:
    """The same of processes that valgrind runs, those that end by replacing themselves not counted."""
    found = re.findall(r"Collected : (\d+)", _run(_VALGRIND, command))
    if not found:
        raise Failed("valgrind: it says nothing of instructions")
    return sum(map(int, found))


@cache
def counter() -> tuple[str, Counter] | str:
    """What can count here, and its name; or why nothing can."""
    reasons = []
    for name, count in (("perf", by_perf), ("valgrind", by_valgrind)):
        if which(name) is None:
            reasons.append(f"{name} not installed")
            continue
        try:
            count(Command((sys.executable, "-S", "-c", "")))
        except (Failed, OSError, subprocess.TimeoutExpired) as failure:
            reasons.append(str(failure))
        else:
            return name, count
    return "; ".join(reasons)
