# SPDX-License-Identifier: MIT
"""What threads waited for while they imported, by class of lock: told by the program's own probes (storm.py's Locks), and by `ladewerk trace` from outside.

Sums over all threads. The probes see the locks of the import system; what is left of a thread's time when these and its CPU time are taken away was spent on the GIL, a
processor that was not free, the disk or a sleep, which they cannot tell apart. The tracer can.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pair import Command

def probed(storm: Mapping[str, Any]) -> dict[str, float]:
    """ms of one storm; `rest`: see above."""
    locks = storm["locks"]
    waited = locks["module"]["ns"] + locks["global"]["ns"]
    found = {f"{kind}_ms": locks[kind]["ns"] / 1e6 for kind in locks}
    found |= {f"{kind}_waits": locks[kind]["waits"] for kind in locks}
    found["wall_ms"] = storm["wall_ns"] / 1e6
    found |= {"cpu_ms": storm["threads_cpu_ns"] / 1e6, "rest_ms": max(0, storm["threads_ns"] - storm["threads_cpu_ns"] - waited) / 1e6}
    return {name: round(value, 3) for name, value in found.items()}


def tracing(command: Command, program: Path, out: Path) -> Command:
    """COMMAND, traced by PROGRAM."""
    return Command((str(program), "--json", "--sched", "-q", "-o", str(out), "--", *command.argv), command.env)


def sums(lines: Iterable[str]) -> dict[str, float]:
    """Of the JSON lines of a trace. Waits for module locks and the global lock are all from imports; others only if an import was under way in their thread."""
    found = dict.fromkeys(("module_ms", "global_ms", "gil_ms", "other_ms", "module_waits", "global_waits", "lost"), 0.0)
    for record in map(json.loads, lines):
        if record["event"] == "end":
            found["lost"] = record["lost"]
        elif record["event"] == "lock_wait" and (record["kind"] in ("module", "global") or record["importer"] is not None):
            kind = record["kind"]
            found[f"{kind}_ms"] += (record["wait_ns"] + record["queue_ns"]) / 1e6
            if f"{kind}_waits" in found:
                found[f"{kind}_waits"] += 1
    return {name: round(value, 3) for name, value in found.items()}
