# SPDX-License-Identifier: MIT
"""The section `scaling`."""
from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from pair import Failed
from scaling import curves, lookups, processes, reloads
from sections import Effort, Place, Section
from tables import Row

# In the order of running: the curve, what measures it, what share of the seconds that are left it may take.
_PARTS: list[tuple[str, Callable[[Place, Effort], list[Row]], float]] = [
    ("reload", reloads.run, 0.15), ("lookup", lookups.run, 0.2), ("entries", processes.entries, 0.35), ("indexed", processes.indexed, 0.45),
    ("loaded", processes.loaded, 1.0),
]


def run(place: Place, effort: Effort) -> list[Row]:
    """A curve that cannot be measured has a row that says why; the others are measured all the same."""
    end, rows = time.monotonic() + effort.seconds, []
    asked = place.parts.get(curves.SECTION) or [curve for curve, *_ in _PARTS]
    for curve, part, share in (one for one in _PARTS if one[0] in asked):
        try:
            rows += part(place, replace(effort, seconds=share * max(0.0, end - time.monotonic())))
        except (Failed, OSError, subprocess.SubprocessError) as failure:
            rows.append(curves.row_of(place.main.key, curve, 1, ("", "all"), True, {"skipped": str(failure)}))
    return rows


SECTION = Section(
    curves.SECTION, "Scaling", {"quick": Effort(3, 20), "headline": Effort(9, 80), "full": Effort(15, 900)}, run, curves.part, curves.plots, curves.figures,
    needs=frozenset({"programs"}), parts=[curve for curve, *_ in _PARTS],
)
