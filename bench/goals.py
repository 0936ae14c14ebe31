# SPDX-License-Identifier: MIT
"""A goal: what was to be reached, what a section's rows say of it, and whether that is enough to say it was reached."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stats import PAIRS, Median
from tables import escaped, number, table


def at_most(limit: float) -> Callable[[float], bool]:
    return lambda found: found <= limit


@dataclass(frozen=True)
class Goal:
    """FOUND is a median with its interval, or what was counted; None: it was not measured, and WHY has the reason."""

    text: str
    wanted: str  # as a reader sees it: "<= 0.80"
    met: Callable[[float], bool]
    found: Median | float | None
    where: str = ""  # what decided, as the program that is the worst
    why: str = ""

    @property
    def verdict(self) -> str:
        """A goal is met or missed when the whole interval is."""
        if self.found is None:
            return "not measured" if self.why in ("", "not measured") else f"not measured: {self.why}"
        if not isinstance(self.found, Median):
            return "met" if self.met(self.found) else "**missed**"
        if self.found.n < PAIRS:
            return f"no claim, n = {self.found.n}"
        ends = {self.met(self.found.low), self.met(self.found.high)}
        return "open: within the interval" if len(ends) == 2 else "met" if True in ends else "**missed**"


def _found(goal: Goal) -> str:
    found = goal.found
    if found is None:
        return ""
    value = f"{number(found.value)} [{number(found.low)}, {number(found.high)}]" if isinstance(found, Median) else number(found)
    return value + (f" ({goal.where})" if goal.where else "")


def goals_table(goals: Sequence[Goal]) -> str:
    return table(("", "goal", "measured", ""), [(goal.text, goal.wanted, _found(goal), escaped(goal.verdict)) for goal in goals])
