#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws plots, each as PNG and SVG.

matplotlib is in an environment of its own, in which a Drawer starts this file; nothing else of the benchmark needs it.
"""
from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from environments import Environments, Unavailable, directory, last_error
from plots import Line, Plot
from rows import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIRECTORY = "plots"
_HERE = Path(__file__).resolve().parent
_PINS = _HERE / "drawing.txt"


# --- of the benchmark -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Drawer:
    """PYTHON has matplotlib; None: nothing can be drawn, for the reason WHY."""

    python: Path | None
    why: str = ""

    @classmethod
    def found(cls, build: Path) -> Drawer:
        """With an environment in BUILD, which the first who draws makes."""
        try:
            return cls(_prepared(build))
        except Unavailable as why:
            say(f"no plots: {why}")
            return cls(None, str(why))

    def draw(self, plots: Sequence[Plot], where: Path) -> tuple[frozenset[str], str]:
        """KEY.png and KEY.svg of each in WHERE, as far as that can be done: the keys of those that are there, and why others are not."""
        if self.python is None or not plots:
            return frozenset(), self.why
        where.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(plot) for plot in plots])
        done = subprocess.run([self.python, "-Es", __file__, where], input=text, capture_output=True, text=True, errors="replace")
        drawn = frozenset(done.stdout.split())
        if done.returncode == 0:
            return drawn, ""
        say(done.stderr)
        return drawn, f"matplotlib failed: {last_error(done.stderr).replace(f'{where}/', '')}"


def _prepared(build: Path) -> Path:
    kind = f"{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags}"
    home = Environments(Path(sys.executable), directory(build, kind, sys.executable), _HERE.parent)
    python, stamp = home.empty("drawing"), home.build / "drawing.pins"
    if not stamp.exists() or stamp.read_text() != _PINS.read_text():
        say("installing matplotlib, which draws the plots")
        home.install("drawing", "--only-binary", ":all:", "-r", _PINS)
        stamp.write_text(_PINS.read_text())
    return python


def markdown(plot: Plot) -> str:
    """Shows it, once it is drawn beside the report."""
    return f"[![{plot.title}]({DIRECTORY}/{plot.key}.png)]({DIRECTORY}/{plot.key}.svg)\n"


# --- how it looks -----------------------------------------------------------------------------------------------------

WIDTH = 8.0  # inches, at 100 pixels each: what a page shows
DPI = 200
INK, GRID, PAPER = "#1f2328", "#d0d7de", "#ffffff"  # paper is opaque: ink stays readable where a page is dark
# Okabe and Ito's colours, and shades of them: told apart with every kind of colour vision, and by marker and dash without any.
COLOURS: Mapping[str, Sequence[str]] = {
    "ladewerk": ("#0072b2", "#56b4e9", "#003a5d", "#7f9fd0"),
    "stock": ("#4d555e", "#a0a8b0"),
    "rival": ("#d55e00", "#e69f00", "#8a3d00", "#b58900", "#f0b080"),
    "floor": ("#009e73", "#66c2a4"),
    "other": ("#cc79a7", "#7d3c64", "#999933"),
}
MARKERS = "os^DvPX*<>"
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
BAR = 0.17  # inches
SETTINGS = {
    "font.family": ["DejaVu Sans", "Verdana", "sans-serif"], "font.size": 9, "axes.titlesize": 11, "svg.fonttype": "none", "svg.hashsalt": "plots",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "figure.facecolor": PAPER, "axes.facecolor": PAPER, "legend.frameon": False,
}


def styles(lines: Sequence[Line]) -> list[tuple[str, str, Any]]:
    """(colour, marker, dash) of each: colours by kind, another one for each line of a kind as far as they go."""
    seen: dict[str, int] = {}
    found = []
    for place, line in enumerate(lines):
        shades, nth = COLOURS[line.kind], seen.get(line.kind, 0)
        seen[line.kind] = nth + 1
        found.append((shades[nth % len(shades)], MARKERS[place % len(MARKERS)], DASHES[nth % len(DASHES)]))
    return found


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places in the order of WANTED, at least APART from each other and as near to them as that allows (least squares: those that
    would be too near lie around their common mean); within LOW to HIGH as far as that is wide enough."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    heaps: list[tuple[float, int]] = []  # sum and number of those that lie side by side, each as the first of them would lie
    for rank, n in enumerate(order):
        heaps.append((wanted[n] - rank * apart, 1))
        while len(heaps) > 1 and heaps[-2][0] / heaps[-2][1] > heaps[-1][0] / heaps[-1][1]:
            total, count = heaps.pop()
            heaps[-1] = heaps[-1][0] + total, heaps[-1][1] + count
    firsts = [total / count for total, count in heaps for _ in range(count)]
    last = high - (len(wanted) - 1) * apart
    found = list(wanted)
    for rank, (n, first) in enumerate(zip(order, firsts, strict=True)):
        found[n] = max(low, min(first, last)) + rank * apart
    return found


def tick(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def short(value: float) -> str:
    """At the end of a bar."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.1g}"


# --- within that environment ------------------------------------------------------------------------------------------

def _errors(line: Line) -> list[list[float]]:
    """What the intervals reach below and above."""
    return [[y - low for y, low in zip(line.ys, line.low)], [high - y for y, high in zip(line.ys, line.high)]]


def _curves(axes: Axes, plot: Plot) -> None:
    for line, (colour, marker, dash) in zip(plot.lines, styles(plot.lines)):
        axes.errorbar(line.xs, line.ys, yerr=_errors(line), color=colour, marker=marker, markersize=4.5, linestyle=dash, linewidth=1.6, capsize=2.5,
                      elinewidth=0.9, label=f"{line.label}: {line.note}" if line.note else line.label)
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    elif all(low >= 0 for line in plot.lines for low in line.low):
        axes.set_ylim(bottom=0)
    _ticks(axes, plot)
    if plot.mark is not None:
        axes.axhline(plot.mark, color=INK, linewidth=0.8)
    axes.set_xlabel(plot.x + plot.few)
    axes.set_ylabel(plot.y)
    axes.grid(True)


def _ticks(axes: Axes, plot: Plot) -> None:
    """The xs themselves, where they are few; on a logarithmic y axis within a decade as many as on any other; numbers as people write them."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

    low, high = axes.get_ylim()
    if plot.log_y and high < 8 * low:
        axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_minor_formatter(NullFormatter())
    xs = sorted({x for line in plot.lines for x in line.xs})
    if plot.log_x and len(xs) <= 8:
        axes.set_xticks(xs)
        axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def _direct_labels(axes: Axes, plot: Plot) -> None:
    """At the right ends, as far apart as letters are high; the axes must have their final place."""
    box = axes.get_window_extent()
    ends = [(line.xs[-1], line.ys[-1]) for line in plot.lines]
    heights = [(axes.transData.transform(end)[1] - box.y0) / box.height for end in ends]
    places = spread(heights, 12 * axes.figure.dpi / 72 / box.height, 0, 1)
    for line, (colour, *_), end, place in zip(plot.lines, styles(plot.lines), ends, places):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}
        axes.annotate(line.label, end, xytext=(1.02, place), textcoords="axes fraction", color=_dark(colour), va="center", fontsize=8.5,
                      annotation_clip=False, arrowprops=leader)


def _dark(colour: str) -> str:
    """For letters, which are thin: at least half as dark again."""
    parts = [int(colour[n:n + 2], 16) for n in (1, 3, 5)]
    factor = min(1.0, 330 / max(1, sum(parts)))
    return "#" + "".join(f"{int(part * factor):02x}" for part in parts)


def _bars(axes: Axes, plot: Plot) -> None:
    """Groups of bars that lie, the first name on top; dots instead where a logarithm has no zero to begin at."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FuncFormatter

    count = len(plot.lines)
    for nth, (line, (colour, marker, _)) in enumerate(zip(plot.lines, styles(plot.lines))):
        places = [x + (nth - (count - 1) / 2) / (count + 1) for x in line.xs]
        error = {"ecolor": INK, "elinewidth": 0.9, "capsize": 1.8}
        if plot.log_y:
            axes.errorbar(line.ys, places, xerr=_errors(line), color=colour, marker=marker, linestyle="", label=line.label, **error)
        else:
            drawn = axes.barh(places, line.ys, height=0.86 / (count + 1), xerr=_errors(line), color=colour, label=line.label, error_kw=error)
            for part in (*drawn.errorbar[1], *drawn.errorbar[2]):
                part.set_path_effects([withStroke(linewidth=2, foreground=PAPER)])  # to be seen upon dark bars
        for place, y, high in zip(places, line.ys, line.high):
            axes.annotate(short(y), (max(y, high), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5)
    if plot.log_y:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    if _says_itself(plot):
        axes.set_yticks([(nth - (count - 1) / 2) / (count + 1) for nth in range(count)], [line.label for line in plot.lines])
        axes.tick_params(axis="y", length=0)
    else:
        axes.set_yticks(range(len(plot.names)), plot.names)
    axes.set_ylim(len(plot.names) - 0.5, -0.5)
    axes.margins(x=0.08)
    if plot.mark is not None:
        axes.axvline(plot.mark, color=INK, linewidth=0.8)
    axes.set_xlabel(plot.y + plot.few)
    axes.grid(True, axis="x")


def _says_itself(plot: Plot) -> bool:
    """One group of bars: each has its name beside it."""
    return len(plot.names) == 1 and all(list(line.xs) == [0] for line in plot.lines)


def _legend(plot: Plot) -> bool:
    return any(line.note for line in plot.lines) or bool(plot.names) and not _says_itself(plot)


def _height(plot: Plot) -> float:
    """Inches."""
    legend = 0.17 * math.ceil(len(plot.lines) / 2) if _legend(plot) else 0
    return legend + (1.1 + BAR * (len(plot.lines) + 1) * len(plot.names) if plot.names else 4.2)


def _figure(plot: Plot) -> Figure:
    """Direct labels where a line has an end; a legend for bars, and for what is to be said of lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, _height(plot)), layout="constrained")
    axes = figure.add_subplot()
    (_bars if plot.names else _curves)(axes, plot)
    axes.set_title(plot.title, loc="left", fontweight="bold")
    if _legend(plot):
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)
    if not plot.names:
        widest = max(len(line.label) for line in plot.lines)
        figure.get_layout_engine().set(rect=(0, 0, 1 - 0.0088 * min(widest, 40) - 0.02, 1))
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        _direct_labels(axes, plot)
    return figure


def main() -> None:
    """Reads plots as JSON from standard input, and writes the keys of those that it has drawn, which have no blanks in them, to standard output."""
    import matplotlib

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it has DejaVu Sans with it; the others are for who looks at an SVG
    matplotlib.use("agg")
    matplotlib.rcParams.update(SETTINGS)
    where, failed = Path(sys.argv[1]), False
    for fields in json.load(sys.stdin):
        plot = Plot(**{**fields, "lines": [Line(**line) for line in fields["lines"]]})
        try:
            _figure(plot).savefig(where / f"{plot.key}.png", dpi=DPI)
            _figure(plot).savefig(where / f"{plot.key}.svg", metadata={"Date": None})
            print(plot.key)
        except Exception:  # one that cannot be drawn costs nobody the others
            print(f"{plot.key}:", file=sys.stderr)
            traceback.print_exc()
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
