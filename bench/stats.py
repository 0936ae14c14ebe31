# SPDX-License-Identifier: MIT
"""What samples say, and what they do not: medians with intervals, ratios pair by pair, noise, verdicts, slopes, agreement.

Every figure of every report comes from here. Pure functions of numbers; the order of two lists pairs them: item n of both is of
round n.
"""
from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from math import comb

PAIRS = 9  # a ratio of fewer claims nothing
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Median:
    """A median with its 95 % interval: the bootstrap's, and never less than that.

    The bootstrap's distribution is the exact one, of all n**n ways of drawing n of n values again (Efron 1979; Maritz and Jarrett
    1978), so that no random number is in it: the same samples have the same interval. With an even n the interval goes from that of the
    lower of the two middle values to that of the upper. Of some n it is too sure (of 13 values it has the true median 91 % of the time, whatever their
    distribution): there it ends one value further out at either end. Below six values it is the whole range, which has it less often.
    """

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Median:
        ordered = sorted(values)
        low, high = _interval(len(ordered))
        return cls(statistics.median(ordered), ordered[low], ordered[high], len(ordered))

    def scaled(self, factor: float) -> Median:
        """In another unit."""
        return Median(self.value * factor, self.low * factor, self.high * factor, self.n)

    def overlaps(self, other: Median) -> bool:
        return self.low <= other.high and other.low <= self.high


def _drawn(n: int, rank: int, middle: int) -> float:
    """Probability that the MIDDLE-th smallest of n values drawn again is among the RANK smallest of the n: by logarithms, since the ways of thousands of values
    are more than a float holds."""
    if rank == n:
        return 1.0
    yes, no, ways = math.log(rank / n), math.log1p(-rank / n), math.lgamma(n + 1)
    return math.fsum(math.exp(ways - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * yes + (n - k) * no) for k in range(middle, n + 1))


@cache
def _interval(n: int) -> tuple[int, int]:
    """Places in the sorted values where the interval ends."""
    if n < 6:
        return 0, n - 1
    tail = (1 - CONFIDENCE) / 2
    lower, upper = (n + 1) // 2, n // 2 + 1
    ranks = range(1, n + 1)  # the larger, the likelier
    low = ranks[bisect_right(ranks, tail, key=lambda rank: _drawn(n, rank, lower))]
    high = ranks[bisect_left(ranks, 1 - tail, key=lambda rank: _drawn(n, rank, upper))]
    while _covered(n, low, high) < CONFIDENCE:
        low, high = low - 1, high + 1
    return low - 1, high - 1


def _covered(n: int, low: int, high: int) -> float:
    """Probability that the true median of a continuous distribution lies between the LOW-th and the HIGH-th smallest of n values."""
    inside = sum(comb(n, k) for k in range(low, high))  # so many values are below it
    return inside / (1 << n)


def ratios(values: Sequence[float], base: Sequence[float]) -> Median:
    """Median of value/base, round by round."""
    return Median.of([value / other for value, other in zip(values, base, strict=True)])


def differences(values: Sequence[float], base: Sequence[float]) -> Median:
    """Median of value-base, round by round."""
    return Median.of([value - other for value, other in zip(values, base, strict=True)])


def middle_ratio(pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Median:
    """Of several (values, base): the median of their ratios in each round, and of those the median. Where each has rounds of its own, a
    round is of one number, not of one time."""
    series = [[value / other for value, other in zip(values, base, strict=True)] for values, base in pairs]
    return Median.of([statistics.median(found) for found in zip(*series)])


def extreme(found: Sequence[Median], pick: Callable[[Iterable[float]], float]) -> Median:
    """The largest (PICK is max) or the smallest of them: within its interval whenever each is within its own. The one with the extreme median alone would
    be surer than that: another one's interval may go further."""
    value, low, high = (pick(values) for values in zip(*((m.value, m.low, m.high) for m in found)))
    return Median(value, low, high, min(m.n for m in found))


def quotient(one: Median, other: Median) -> Median:
    """one/other of two medians that nothing pairs, such as those of two runs. Its interval is made of theirs (Zou and Donner's MOVER, 2008, on
    logarithms): the distances to the limits add like independent errors. Both have to be positive, limits and all."""
    value = math.log(one.value) - math.log(other.value)
    down = math.hypot(math.log(one.value) - math.log(one.low), math.log(other.high) - math.log(other.value))
    up = math.hypot(math.log(one.high) - math.log(one.value), math.log(other.value) - math.log(other.low))
    return Median(math.exp(value), math.exp(value - down), math.exp(value + up), min(one.n, other.n))


def apart(n: int, other: int) -> float:
    """How likely the intervals (Median.of) of N and of OTHER values of one and the same continuous distribution have nothing in common.

    Whatever distribution it is: the limits are order statistics, so that only ranks count. The h-th of one is below the l-th of the other when at
    least h of the h + l - 1 smallest of all are the one's.
    """
    (low, high), (other_low, other_high) = _interval(n), _interval(other)
    return _below(n, high + 1, other, other_low + 1) + _below(other, other_high + 1, n, low + 1)


def _below(n: int, rank: int, other: int, other_rank: int) -> float:
    """Probability that the RANK-th smallest of n values is below the OTHER_RANK-th smallest of the other ones."""
    first = rank + other_rank - 1
    ways = sum(comb(n, k) * comb(other, first - k) for k in range(rank, min(n, first) + 1))
    return ways / comb(n + other, first)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that SHARE (0 to 1) of all values do not exceed: one of them, never something between two (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def enough(count: int, share: float) -> bool:
    """Whether so many values have such a percentile: one that is not simply the last of them."""
    return math.ceil(round(share * count, 6)) < count


def outliers(values: Sequence[float]) -> int:
    """How many are further from the median than ten standard deviations, estimated from the median of the distances: hyperfine's definition."""
    middle = statistics.median(values)
    distances = [abs(value - middle) for value in values]
    return sum(1 for distance in distances if distance > 14.826 * statistics.median(distances) > 0)


class Verdict(Enum):
    LESS = "less"
    MORE = "more"
    SAME = "no difference beyond the noise"
    FEW = f"fewer than {PAIRS} pairs: no claim"


def reach(noise: Median, equal: float = 1.0) -> float:
    """How far above "the same" the interval of a measurement and itself (A/A) goes, either divided by the other (or subtracted, with EQUAL = 0): which
    one is is chance. As far below it goes as a factor: 1 is twice, and half."""
    if not equal:
        return max(abs(noise.low), abs(noise.high))
    return max(noise.high, 1 / noise.low if noise.low > 0 else math.inf) - 1


def judge(found: Median, noise: Median | None = None, equal: float = 1.0) -> Verdict:
    """Whether a ratio is a difference: its whole interval is on one side of 1, and further from it than NOISE, the ratio of a measurement to itself, reaches.

    The same of differences, with EQUAL = 0."""
    if found.n < PAIRS:
        return Verdict.FEW
    off = reach(noise, equal) if noise else 0.0
    low, high = (1 / (1 + off), 1 + off) if equal else (-off, off)
    return Verdict.LESS if found.high < low else Verdict.MORE if found.low > high else Verdict.SAME


SLACK = 0.005, 0.02  # by how much counts may differ by chance: in proportion, and of one


def judge_counts(values: Sequence[float], base: Sequence[float]) -> Verdict:
    """The same of counts, such as calls per module: VALUES lie above or below all of BASE, and further off than the start of a process varies."""
    proportion, least = SLACK
    slack = max(proportion * max(base), least)
    return Verdict.LESS if max(values) < min(base) - slack else Verdict.MORE if min(values) > max(base) + slack else Verdict.SAME


def slopes(xs: Sequence[float], series: Sequence[Sequence[float]]) -> Median:
    """By which power of x the cost grows: 0 not at all, 1 in proportion. SERIES[i] has the samples at XS[i]; a least-squares line through
    the logarithms of each round, and the median over the rounds."""
    places = [math.log(x) for x in xs]
    middle = statistics.fmean(places)
    spread = math.fsum((place - middle) ** 2 for place in places)
    found = []
    for costs in zip(*series, strict=True):
        logs = [math.log(cost) for cost in costs]
        found.append(math.fsum((place - middle) * cost for place, cost in zip(places, logs, strict=True)) / spread)
    return Median.of(found)
