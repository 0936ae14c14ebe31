# SPDX-License-Identifier: MIT
"""Reports nobody has measured, whose answers are known."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tables import Row

FACTS = {"version": "3.11.9", "compiler": "GCC 13", "pgo": True, "lto": True, "free_threaded": False, "debug": False, "packages": {"sympy": "1.13", "ladewerk": "0.1.0"}}
MACHINE = {
    "cpu": "A processor", "cores": 2, "virtual": False, "memory_gib": 8.0, "kernel": "Linux 6.1 x86_64", "filesystem": "ext4", "governor": "performance",
    "cpufreq": None, "turbo": False, "threads_per_core": 1, "clocksource": "tsc", "container": None, "cpu_limit": None,
}


def row(section: str, workload: str, contender: str, python: str = "3.11", **more: Any) -> Row:
    return {
        "section": section, "python": python, "workload": workload, "title": workload.title(), "contender": contender, "label": contender.upper(),
        "base": contender == "stock", "check": {"modules": 7}, **more,
    }


def timed(section: str, workload: str, factors: dict[str, float], base: Sequence[float], python: str = "3.11", **more: Any) -> list[Row]:
    """Each contender takes its factor of the base, in every round."""
    return [
        row(section, workload, key, python, **{f"{kind}_ms": [value * factor for value in base] for kind in ("cpu", "wall", "inside_wall", "inside_cpu")}, **more)
        for key, factor in factors.items()
    ]


def document(rows: Sequence[Row], **changes: Any) -> dict[str, Any]:
    """Of an idle machine, a committed state, and the effort whose figures are quoted."""
    return {
        "format": 1, "started": "2030-01-02T03:04:05+00:00", "seconds": 600.0, "section_seconds": {}, "seed": 1, "quick": False, "effort": "headline",
        "command": "bench/run.sh", "revision": "0123abc", "why_not": "", "interrupted": "", "neighbours": {"load_before": 0.1, "others": 0.01, "stolen": 0.0},
        "machine": MACHINE, "python": FACTS, "pythons": {"3.11": {**FACTS, "missing": ""}}, "tools": {"hyperfine": None, "strace": "strace 6.1"}, "rows": list(rows), **changes,
    }
