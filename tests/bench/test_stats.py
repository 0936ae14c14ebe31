# SPDX-License-Identifier: MIT
"""The arithmetic of every report, on samples whose answers are known."""
from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence

import pytest
from figures import Figure
from stats import Median, Verdict, apart, differences, extreme, judge, judge_counts, outliers, percentile, quotient, ratios, reach, slopes


def drawn_again(values: Sequence[float], share: float) -> float:
    """Which median so much of all n**n ways of drawing n of them again does not exceed. Counted out in full, ways that draw the same ones together."""
    n, found = len(values), Counter[float]()
    for draw in itertools.combinations_with_replacement(values, n):
        found[statistics.median(draw)] += math.factorial(n) // math.prod(map(math.factorial, Counter(draw).values()))
    seen = 0
    for median, ways in sorted(found.items()):
        seen += ways
        if seen > share * n**n:
            return median
    raise AssertionError


def test_interval_is_the_bootstraps() -> None:
    """At most 2.5 % of the medians drawn again lie outside at either end, and no narrower interval has that."""
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5, 2.0]
    found = Median.of(values)
    assert found.value == 3.0 and found.n == 9
    assert (found.low, found.high) == (drawn_again(values, 0.025), drawn_again(values, 0.975))


def test_interval_is_wider_where_the_bootstrap_is_too_sure() -> None:
    """The second and the sixth of seven values have the true median between them 7 times of 8."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert (drawn_again(values, 0.025), drawn_again(values, 0.975)) == (2.0, 6.0)
    assert (Median.of(values).low, Median.of(values).high) == (1.0, 7.0)


def test_interval_of_thousands_is_that_of_the_normal_distribution() -> None:
    """The ranks are n/2 and 1.96 times half the root of n to either side; 2**n is no float."""
    found = Median.of([float(value) for value in range(2_000)])
    assert found.value == 999.5
    assert abs(found.low - (1000 - 44)) <= 2 and abs(found.high - (1000 + 44)) <= 2


def test_even_counts_are_not_narrower() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5, 2.0, 8.0]
    found = Median.of(values)
    assert found.value == 3.25
    assert found.low <= drawn_again(values, 0.025) and drawn_again(values, 0.975) <= found.high


@pytest.mark.parametrize("n", range(1, 6))
def test_few_values_have_their_range(n: int) -> None:
    values = [float(k * k) for k in range(n)]
    found = Median.of(values)
    assert (found.low, found.high) == (values[0], values[-1])


@pytest.mark.parametrize("n", range(6, 60))
def test_true_median_is_inside_as_often_as_said(n: int) -> None:
    """95 % of the time, whatever the distribution: each value is above the true median as often as below, so that a coin decides."""
    ordered = Median.of(range(n))
    inside = sum(math.comb(n, below) for below in range(int(ordered.low) + 1, int(ordered.high) + 1)) / 2**n
    assert 0.95 <= inside <= 0.995


def test_order_says_nothing_of_a_median_and_all_of_a_ratio() -> None:
    base = [100.0, 200.0, 400.0, 100.0, 200.0, 400.0, 100.0, 200.0, 400.0]
    values = [value * 0.5 for value in base]
    assert Median.of(values) == Median.of(sorted(values))
    paired = ratios(values, base)
    assert (paired.value, paired.low, paired.high) == (0.5, 0.5, 0.5)
    assert ratios(values, sorted(base)).high > 0.5
    assert differences(values, base).value == -100
    with pytest.raises(ValueError):
        ratios(values, base[1:])


def test_percentile_is_one_of_the_values() -> None:
    values = [float(k) for k in range(1, 1001)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0, 0.0)] == [500, 990, 999, 1000, 1]
    assert percentile([7.0], 0.999) == 7


def test_outliers() -> None:
    assert outliers([10.0, 11.0, 9.0, 10.5, 9.5, 10.2, 25.0]) == 1
    assert outliers([10.0, 11.0, 9.0, 10.5, 9.5, 10.2, 14.0]) == 0
    assert outliers([10.0, 10.0, 10.0, 11.0]) == 0  # more than half are equal: nothing says how far is far


def test_no_claim_without_nine_pairs() -> None:
    base = [100.0 + k for k in range(9)]
    half = [value / 2 for value in base]
    assert judge(ratios(half[:8], base[:8])) is Verdict.FEW
    assert judge(ratios(half, base)) is Verdict.LESS
    assert judge(ratios(base, half)) is Verdict.MORE
    assert judge(ratios(base, base)) is Verdict.SAME


def test_no_claim_within_the_noise() -> None:
    """1 % less, where the same thing measured twice differs by up to 3 %."""
    rng = random.Random(1)
    base = [100.0] * 15
    again = [100.0 + rng.uniform(-3, 3) for _ in base]
    less = [99.0] * 15
    figure = Figure("x", "x", "ms", less, base)
    assert figure.verdict is Verdict.LESS
    assert Figure("x", "x", "ms", less, base, [100.0 + 3 * (-1) ** k for k in range(15)]).verdict is Verdict.SAME
    assert Figure("x", "x", "ms", [50.0] * 15, base, again).verdict is Verdict.LESS
    assert Figure("x", "x", "ms", less).verdict is None


def test_noise_has_no_direction() -> None:
    """Stock divided by itself was 0.95 to 1.01: it might as well have been the other way round."""
    assert judge(Median(1.03, 1.02, 1.04, 9), Median(0.98, 0.95, 1.01, 9)) is Verdict.SAME
    assert judge(Median(1.07, 1.06, 1.08, 9), Median(0.98, 0.95, 1.01, 9)) is Verdict.MORE
    assert judge(Median(-0.3, -0.4, -0.2, 9), Median(0.1, -0.1, 0.25, 9), 0) is Verdict.SAME


def test_noise_is_a_factor() -> None:
    """Where two measurements of the same are 1 to 2.5, a tenth is less all the same; a half is not."""
    noise = Median(1.4, 0.9, 2.5, 9)
    assert reach(noise) == 1.5 and reach(Median(0.7, 0.4, 1.1, 9)) == pytest.approx(1.5)
    assert judge(Median(0.1, 0.09, 0.11, 9), noise) is Verdict.LESS
    assert judge(Median(0.5, 0.45, 0.55, 9), noise) is Verdict.SAME
    assert judge(Median(0.5, 0.45, 0.55, 9), Median(1.0, 0.0, 9.0, 9)) is Verdict.SAME, "which reaches everywhere"
    assert reach(Median(0.1, -0.4, 0.2, 9), 0) == 0.4


def test_the_worst_is_no_surer_than_the_others() -> None:
    """That of the narrow interval has the greater median; the other may be greater yet."""
    narrow, wide = Median(0.89, 0.885, 0.895, 15), Median(0.88, 0.7, 0.95, 9)
    assert extreme([narrow, wide], max) == Median(0.89, 0.885, 0.95, 9)
    assert extreme([narrow, wide], min) == Median(0.88, 0.7, 0.895, 9)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_slopes(power: float) -> None:
    xs = [1, 10, 100, 1000]
    noise = [0.9, 1.0, 1.1]  # of a round: it moves the line, not its slope
    found = slopes(xs, [[factor * 5 * x**power for factor in noise] for x in xs])
    assert math.isclose(found.value, power, abs_tol=1e-9) and found.n == 3


@pytest.mark.parametrize(("n", "other"), [(5, 5), (7, 7), (6, 9), (9, 6), (1, 1)])
def test_apart_is_counted_out(n: int, other: int) -> None:
    """All ways in which the values of one and the other can be ordered are equally likely."""
    ways = disjoint = 0
    for ranks in itertools.combinations(range(n + other), n):
        ways += 1
        rest = sorted(set(range(n + other)) - set(ranks))
        disjoint += not Median.of(ranks).overlaps(Median.of(rest))
    assert apart(n, other) == pytest.approx(disjoint / ways)


def test_quotient() -> None:
    """Independent errors add like the sides of a right angle; the quotient the other way round is the reciprocal."""
    ten_percent = Median(2.0, 2.0 / 1.1, 2.0 * 1.1, 15)
    found = quotient(ten_percent, ten_percent)
    assert found.value == 1.0 and found.n == 15
    assert found.high == pytest.approx(math.exp(math.log(1.1) * math.sqrt(2))) and found.low == pytest.approx(1 / found.high)
    exact = Median(1.0, 1.0, 1.0, 9)
    there, back = quotient(ten_percent, exact), quotient(exact, ten_percent)
    assert (there.value, there.low, there.high, there.n) == pytest.approx((2.0, ten_percent.low, ten_percent.high, 9))
    assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))


def test_counts() -> None:
    assert judge_counts([12.01], [12.0, 12.02]) is Verdict.SAME
    assert judge_counts([13.0], [12.0]) is Verdict.MORE
    assert judge_counts([0.0], [2.0]) is Verdict.LESS
    assert judge_counts([0.01], [0.0]) is Verdict.SAME
    assert judge_counts([40_300.0, 39_900.0], [40_000.0]) is Verdict.SAME
    assert judge_counts([40_300.0, 40_250.0], [40_000.0]) is Verdict.MORE
