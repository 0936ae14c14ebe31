# SPDX-License-Identifier: MIT
"""A figure: one named quantity with its raw samples. Headlines, comparisons of two revisions, and whether two runs agree are made of these alone."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stats import Median, Verdict, judge, judge_counts, ratios


@dataclass(frozen=True)
class Figure:
    """KEY names it over all reports ("3.11/programs/sympy/ladewerk-stat/cpu_ms"); less is better.

    VALUES, BASE and AGAIN are of the same rounds: the samples, what they are divided by (none: the figure stands alone), and BASE
    measured once more (A/A), whose ratio to BASE is the noise. COUNTED: such as calls or instructions, so that few values are enough to say
    whether it differs.
    """

    key: str
    label: str
    unit: str
    values: Sequence[float]
    base: Sequence[float] | None = None
    again: Sequence[float] | None = None
    counted: bool = False

    @property
    def place(self) -> tuple[str, str, str, str, str]:
        """Interpreter, section, workload (a slash may be in it, and it may be missing), contender, field."""
        python, section, *load, contender, field = self.key.split("/")
        return python, section, "/".join(load), contender, field

    @property
    def median(self) -> Median:
        return Median.of(self.values)

    @property
    def ratio(self) -> Median | None:
        """None where there is nothing to divide by: no base, or nothing in it."""
        return ratios(self.values, self.base) if self.base and all(self.base) else None

    @property
    def noise(self) -> Median | None:
        return ratios(self.again, self.base) if self.again and self.base and all(self.base) else None

    @property
    def verdict(self) -> Verdict | None:
        """Of the ratio; None without one."""
        if self.counted and self.base:
            return judge_counts(self.values, [*self.base, *(self.again or ())])
        ratio = self.ratio
        return judge(ratio, self.noise) if ratio else None
