#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Do two runs on one machine agree? Says of every figure that both have whether its intervals overlap.

    agree.py REPORT.json REPORT.json

Exit status: 0 they agree, 1 more figures differ than chance explains, 2 nothing can be compared. Figures of fewer than 9 rounds claim nothing and take no part;
neither do absolute times when the machine was not idle.

How many may differ: of two intervals of the same truth a known share has nothing in common (stats.apart). Figures of a run depend on each other, since they share
rounds and bases; whatever the dependence, more than 20 times the expected number happens in less than one of 20 pairs of runs (Markov's inequality).
"""
from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comparing.lines import claim, interval
from comparing.reports import figures_of, read, remarks
from figures import Figure
from head import busy
from report import Unfit
from stats import PAIRS, Median, apart
from tables import number, table

CHANCE = 0.05  # how often two runs that measured the same truth may be said not to agree


@dataclass(frozen=True)
class Pair:
    key: str
    one: Median
    other: Median

    @property
    def overlaps(self) -> bool:
        return self.one.overlaps(self.other)


@dataclass(frozen=True)
class Agreement:
    """EXPECTED: how many of the pairs would not overlap if both runs had measured the same."""

    pairs: Sequence[Pair]
    expected: float

    @property
    def apart(self) -> list[Pair]:
        return [pair for pair in self.pairs if not pair.overlaps]

    @property
    def good(self) -> bool:
        return len(self.apart) * CHANCE <= self.expected


def agreement(one: Mapping[str, Figure], other: Mapping[str, Figure], absolute: bool = True) -> Agreement:
    """Of what both claim: ratios, and what stands alone if it is to be held ABSOLUTE. Counted figures have no intervals."""
    keys = [key for key in one if key in other and not one[key].counted and (absolute or one[key].ratio)]
    shared = [Pair(key, claim(one[key]), claim(other[key])) for key in keys]
    pairs = [pair for pair in shared if min(pair.one.n, pair.other.n) >= PAIRS]
    return Agreement(pairs, sum(apart(pair.one.n, pair.other.n) for pair in pairs))


def _value(median: Median) -> str:
    return f"{number(median.value) if abs(median.value) >= 10 else f'{median.value:.3f}'} {interval(median)}"


def markdown(found: Agreement) -> str:
    ordered = sorted(found.pairs, key=lambda pair: pair.overlaps)  # those that do not, first
    cells = ((pair.key, _value(pair.one), _value(pair.other), "yes" if pair.overlaps else "**no**") for pair in ordered)
    verdict = "The runs agree." if found.good else "The runs do not agree."
    return (
        table(("figure", "first run", "second run", "overlap"), cells)
        + f"\n{len(found.apart)} of {len(found.pairs)} pairs of intervals do not overlap; of the same truth {found.expected:.2f} would be expected not to, and "
        f"up to {found.expected / CHANCE:.0f} are put down to chance. {verdict}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) != 2 or any(word.startswith("-") for word in argv):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        one, other = (read(name) for name in argv)
        idle = not busy(one) and not busy(other)
        found = agreement(figures_of(one), figures_of(other), absolute=idle)
    except Unfit as why:
        print(f"agree.py: {why}", file=sys.stderr)
        return 2
    for remark in remarks(one, other):
        print(f"agree.py: {remark}", file=sys.stderr)
    if not idle:
        print("agree.py: so ratios are judged alone, no absolute times", file=sys.stderr)
    if not found.pairs:
        print("agree.py: the reports have no figure of enough rounds in common", file=sys.stderr)
        return 2
    print(markdown(found), end="")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
