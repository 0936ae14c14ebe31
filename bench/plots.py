# SPDX-License-Identifier: MIT
"""What a plot shows. bench/drawing.py makes PNG and SVG of it."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stats import PAIRS, Median, slopes

KINDS = ("ladewerk", "stock", "rival", "floor", "other")


@dataclass(frozen=True)
class Line:
    """Medians with their intervals; a point each, or a bar each where the plot has names instead of numbers."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    kind: str = "other"  # of KINDS: the same colours in every plot
    note: str = ""  # said in the legend alone, as a slope is
    few: bool = False  # of too few rounds for a claim

    @classmethod
    def of(cls, label: str, xs: Sequence[float], found: Sequence[Median], kind: str = "other", note: str = "") -> Line:
        return cls(label, xs, [m.value for m in found], [m.low for m in found], [m.high for m in found], kind, note, any(m.n < PAIRS for m in found))

    @classmethod
    def measured(cls, label: str, xs: Sequence[float], series: Sequence[Sequence[float]], kind: str = "other", slope: bool = False) -> Line:
        """SERIES[i] has the samples at XS[i]; with SLOPE all are of the same rounds, xs and samples positive, and the legend has it."""
        return cls.of(label, xs, [Median.of(samples) for samples in series], kind, slope_text(slopes(xs, series)) if slope and len(xs) > 1 else "")


def slope_text(slope: Median) -> str:
    value, low, high = (f"{round(found, 2) + 0.0:.2f}" for found in (slope.value, slope.low, slope.high))  # no minus before nothing
    return f"slope {value} [{low}, {high}]"


@dataclass(frozen=True)
class Plot:
    """KEY is the file's name. With NAMES the xs are 0, 1, ...: groups of bars."""

    key: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    names: Sequence[str] = ()
    mark: float | None = None  # a thin line at this y, as 1 is for ratios

    @property
    def few(self) -> str:
        """What a plot of too few rounds says below its axis: titles fill the width."""
        return f" (some of fewer than {PAIRS} rounds: no claims)" if any(line.few for line in self.lines) else ""
