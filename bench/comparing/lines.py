# SPDX-License-Identifier: MIT
"""What two sides say of one figure, and the table of all of them. The earlier side is divided by: above 1 the later one is slower."""
from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from figures import Figure
from stats import PAIRS, Median, Verdict, judge, judge_counts, quotient, reach
from tables import number, table


@dataclass(frozen=True)
class Line:
    """KEY and LABEL are the figure's; RATIO is later/earlier (none where something is zero); NOISE the A/A's, as far as there was one."""

    key: str
    label: str
    unit: str
    earlier: float
    later: float
    ratio: Median | None
    noise: Median | None
    verdict: Verdict
    second: Median | None = None  # the ratio, when it was measured once more because it was a difference

    @property
    def slower(self) -> bool:
        return self.verdict is Verdict.MORE


def of_figure(figure: Figure, second: Figure | None = None) -> Line:
    """Of a figure whose base is the earlier side. A difference that SECOND does not confirm is none; what was none stays none."""
    assert figure.base is not None and figure.verdict is not None
    verdict = figure.verdict
    if verdict not in (Verdict.LESS, Verdict.MORE):
        second = None
    elif second is not None and second.verdict is not verdict:
        verdict = Verdict.SAME
    before, after = (statistics.median(values) for values in (figure.base, figure.values))
    return Line(figure.key, figure.label, figure.unit, before, after, figure.ratio, figure.noise, verdict, second.ratio if second else None)


def claim(figure: Figure) -> Median:
    """What a report claims of a figure: its ratio, or where it has none, the figure itself."""
    return figure.ratio or figure.median


def of_two(earlier: Figure, later: Figure) -> Line:
    """Of the same figure in two reports, which nothing pairs: their claims are compared, ratios to stock where there are ones."""
    one, two = claim(earlier), claim(later)
    noise = _wider(earlier.noise, later.noise)
    positive = min(one.low, two.low) > 0
    ratio = quotient(two, one) if positive else None
    unit = "of its base" if later.ratio else later.unit
    return Line(later.key, later.label, unit, one.value, two.value, ratio, noise, _verdict(earlier, later, ratio, noise))


def _wider(one: Median | None, other: Median | None) -> Median | None:
    if one is None or other is None:
        return one or other
    return Median(one.value, min(one.low, other.low), max(one.high, other.high), min(one.n, other.n))


def _verdict(earlier: Figure, later: Figure, ratio: Median | None, noise: Median | None) -> Verdict:
    if later.counted:
        return judge_counts(later.values, earlier.values)
    if ratio:
        return judge(ratio, noise)
    one, two = claim(earlier), claim(later)  # nothing to divide by: their intervals say it
    if min(one.n, two.n) < PAIRS:
        return Verdict.FEW
    return Verdict.SAME if one.overlaps(two) else Verdict.MORE if two.value > one.value else Verdict.LESS


def interval(median: Median | None) -> str:
    return "" if median is None else f"[{median.low:.3f}, {median.high:.3f}]"


def _ratio(median: Median | None) -> str:
    return "" if median is None else f"{median.value:.3f} {interval(median)}"


def _noise(median: Median | None) -> str:
    return "" if median is None else f"±{reach(median):.3f}"


def _verdict_text(line: Line) -> str:
    text = f"**{line.verdict.value}**" if line.slower else line.verdict.value
    if line.second is None:
        return text
    confirmed = line.verdict in (Verdict.MORE, Verdict.LESS)
    return f"{text}, {'again' if confirmed else 'not confirmed'} when measured once more: {_ratio(line.second)}"


def lines_table(lines: Iterable[Line], earlier: str, later: str) -> str:
    """Markdown."""
    cells = (
        (line.label, line.unit, number(line.earlier), number(line.later), _ratio(line.ratio), _noise(line.noise), _verdict_text(line))
        for line in lines
    )
    return table(("", "unit", earlier, later, "ratio", "noise", "verdict"), cells)


def summary(lines: Sequence[Line]) -> str:
    """One sentence."""
    def count(*verdicts: Verdict) -> int:
        return sum(line.verdict in verdicts for line in lines)
    return (
        f"{len(lines)} figures: {count(Verdict.MORE)} slower or more, {count(Verdict.LESS)} faster or less, "
        f"{count(Verdict.SAME)} with no difference beyond the noise, {count(Verdict.FEW)} with too few rounds for a claim."
    )
