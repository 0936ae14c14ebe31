#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The few figures that a reader should see first; and they, with one plot, put into the README.

    headline.py REPORT_DIR     of a report that may be quoted: all of it, on an idle machine, of a committed state
"""
from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import head
import series
from figures import Figure
from plots import Line, Plot
from stats import PAIRS, Median, Verdict, middle_ratio
from tables import escaped, number, ratio_text, table

CHECKOUT = Path(__file__).resolve().parent.parent

BASE = "stock"
COLUMNS = {  # contenders, in this order, as far as they were measured
    "gc": "stock, `gc.disable()`", "dictfinder": "naive dict finder", "pycds": "PyCDS",
    "ladewerk-stat": "Ladewerk, stat", "ladewerk-watch": "Ladewerk, watch", "ladewerk-frozen": "Ladewerk, frozen",
}
# Which figures, by section/workload/field, in this order, and what is said of them; {} is the workload.
CHOSEN = {
    "programs/*/cpu_ms": "{}: CPU of the process",
    "paths/entries-1000/inside_wall_ms": "200 modules behind 1000 path entries",
    "modules/oneline/inside_wall_ms": "2000 one-line modules of a package",
    "syscalls/oneline/calls": "system calls per module of a package",
    "contention/different-8/wall_ms": "8 threads import different modules",
    "contention/different-8/p99_us": "the same: p99 of an import",
    "contention/slow-8/p99_us": "8 threads import the same slow modules: p99",
    "pythons/*/cpu_ms": "{}: CPU of the process",
}
# Those that others are not beside, by section/workload/contender/field.
ALONE = (
    "scan/warm/fd-2/wall_ms", "scan/warm/ladewerk-auto-2/wall_ms", "watch/save/ladewerk-*/written_us", "watch/check/ladewerk-*/client_ns", "reload/leaf*/ladewerk/ms",
)
SECTION = "programs"  # whose rows have a middle, too
PLOT = "headline"  # its key
DRAWN = ("gc", "pycds", "ladewerk-stat", "ladewerk-watch", "ladewerk-frozen")

BEGIN, END = "<!-- begin: made by bench/headline.py -->", "<!-- end: made by bench/headline.py -->"


# --- the table --------------------------------------------------------------------------------------------------------

Groups = dict[tuple[str, str], dict[str, Figure]]  # (interpreter, text) -> contender -> figure


def groups_of(figures: Sequence[Figure]) -> Groups:
    """Those for the table; the first one where several sections say the same."""
    found: Groups = {}
    for pattern, text in CHOSEN.items():
        for figure in figures:
            python, section, load, contender, field = figure.place
            if fnmatchcase(f"{section}/{load}/{field}", pattern) and (contender == BASE or contender in COLUMNS):
                found.setdefault((python, text.format(load)), {}).setdefault(contender, figure)
    return {key: group for key, group in found.items() if set(group) != {BASE}}


def _sections(groups: Groups) -> set[str]:
    return {figure.place[1] for group in groups.values() for figure in group.values()}


def _alone(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for pattern in ALONE for figure in figures if fnmatchcase("/".join(figure.place[1:]), pattern)]


def _value(figure: Figure) -> str:
    found = figure.median
    return f"{number(found.value)} {figure.unit}"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return ratio_text(figure.ratio, figure.noise, figure.verdict) if figure.ratio else _value(figure)


def _of_base(group: dict[str, Figure]) -> str:
    """What ratios are of."""
    if BASE in group:
        return _value(group[BASE])
    return next((f"{number(Median.of(figure.base).value)} {figure.unit}" for figure in group.values() if figure.base), "")


def _middle(groups: Sequence[dict[str, Figure]], contender: str) -> str:
    """Of the programs, round by round; the noise is the middle of theirs."""
    found = [figure for group in groups if (figure := group.get(contender)) and figure.base]
    if len(found) < len(groups):
        return ""
    again = [(figure.again, figure.base) for figure in found if figure.again and figure.base]
    noise = middle_ratio(again) if len(again) == len(found) else None
    return ratio_text(middle_ratio([(figure.values, figure.base) for figure in found if figure.base]), noise)


def table_of(figures: Sequence[Figure]) -> str:
    """Ratios to stock with their intervals, noise and verdicts, and what stands alone; empty where there is neither."""
    return "\n".join(filter(None, (_ratios_table(groups_of(figures)), _alone_table(_alone(figures)))))


def _ratios_table(groups: Groups) -> str:
    if not groups:
        return ""
    main = next(python for python, _ in groups)
    columns = [key for key in COLUMNS if any(key in group for group in groups.values())]
    programs = [group for (python, _), group in groups.items() if python == main and all(figure.place[1] == SECTION for figure in group.values())]
    lines = [
        (text if python == main else f"{python}: {text}", _of_base(group), *(_cell(group.get(key)) for key in columns))
        for (python, text), group in groups.items()
    ]
    if len(programs) > 2:
        lines.insert(len(programs), (f"median of these {len(programs)}", "", *(_middle(programs, key) for key in columns)))
    return table(("of stock; below 1 is less", "stock", *(COLUMNS[key] for key in columns)), lines)


def _alone_table(figures: Sequence[Figure]) -> str:
    lines = []
    for figure in figures:
        found = figure.median
        measured = f"{number(found.value)} [{number(found.low)}, {number(found.high)}] {figure.unit}"
        lines.append((escaped(figure.label), measured, ratio_text(figure.ratio, figure.noise, figure.verdict)))
    return table(("", "median", "of its base"), lines) if lines else ""


# --- the plot ---------------------------------------------------------------------------------------------------------

def plot_of(figures: Sequence[Figure]) -> list[Plot]:
    """The main interpreter's programs; none where none was measured."""
    theirs = [figure for figure in figures if figure.place[1] == SECTION and figure.place[4] == "cpu_ms"]
    theirs = [figure for figure in theirs if figure.place[0] == theirs[0].place[0]]
    names = list(dict.fromkeys(figure.place[2] for figure in theirs))
    lines = []
    for contender in DRAWN:
        found = [(names.index(figure.place[2]), figure.ratio) for figure in theirs if figure.place[3] == contender]
        there = [(place, ratio) for place, ratio in found if ratio]
        if there:
            label = COLUMNS[contender].replace("`", "")
            lines.append(Line.of(label, [place for place, _ in there], [ratio for _, ratio in there], series.kind(contender)))
    return [Plot(PLOT, "CPU of whole programs, as a part of stock Python's", "", "of stock (below 1 is less)", lines, names=names, mark=1.0)] if lines else []


# --- the README -------------------------------------------------------------------------------------------------------

def refusals(document: head.Document, figures: Sequence[Figure]) -> list[str]:
    """Why a report is not to be quoted."""
    found = []
    if (document.get("effort") or ("quick" if document["quick"] else "headline")) == "quick":
        found.append("it was made with --quick")
    if document.get("interrupted"):
        found.append("it was ended before its end")
    groups = groups_of(figures)
    sections = _sections(groups)
    for name, share in head.busy(document, sections).items():
        found.append(f"others used {100 * share:.1f} % of the machine {f'in section `{name}`' if name else 'meanwhile'}")
    if not document["revision"]:
        found.append("nobody knows of which revision it is")
    elif document["revision"].endswith("-dirty"):
        found.append("the checkout had uncommitted changes")
    if document["why_not"]:
        found.append(f"Ladewerk took no part: {document['why_not']}")
    if SECTION not in sections:
        found.append(f"it has no section `{SECTION}`")
    few = [text for (_, text), group in groups.items() if any(figure.verdict is Verdict.FEW for figure in group.values())]
    few += [figure.label for figure in _alone(figures) if len(figure.values) < PAIRS]
    if few:
        found.append(f"fewer than {PAIRS} rounds: {'; '.join(dict.fromkeys(few))}")
    return found


def _quotable(document: head.Document, figures: Sequence[Figure]) -> list[Figure]:
    """Without what stands alone and was measured while others used the machine: nothing in its round tells."""
    busy = head.busy(document)
    alone = {figure.key for figure in _alone(figures) if busy.keys() & {"", figure.place[1]}}
    return [figure for figure in figures if figure.key not in alone]


def text_of(document: head.Document, figures: Sequence[Figure], plot: str) -> str:
    """What the README shows, PLOT being the way from there to it."""
    python = next(iter(head.pythons(document).values()))
    figures = _quotable(document, figures)
    sections = _sections(groups_of(figures)) | {figure.place[1] for figure in _alone(figures)}
    others = max(head.shares(document, sections).values())
    return "\n".join([
        BEGIN, "## How fast\n",
        f"Measured on {document['started'][:10]} by `{document.get('command', 'bench/run.sh')}` at revision {document['revision']}: CPython {python['version']}, "
        f"{head.machine_text(document)}, {document['machine']['kernel']}; others used at most {100 * others:.1f} % of the machine in any of its sections. Median of the ratios within a round [95 % interval] "
        "±noise (stock measured twice); what is within the noise is said to be. [What each figure means](bench/README.md).\n",
        table_of(figures),
        f"![CPU time of whole programs, as a part of stock's]({plot})\n",
        END,
    ])


def put(readme: str, text: str) -> str:
    """README with TEXT instead of what is between the marks. ValueError: it has no such marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} ... {END}")
    return before + text + after


def main() -> None:
    import drawing
    import report
    import suite

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="REPORT_DIR", help="where report.json and its plots are")
    parser.add_argument("--readme", type=Path, default=CHECKOUT / "README.md", help="default: that of the checkout")
    parser.add_argument("--plot", type=Path, default=CHECKOUT / "bench/headline.svg", help="where its plot goes (default: bench/headline.svg)")
    options = parser.parse_args()
    try:
        document = report.modern(report.load(options.report / "report.json"))
    except report.Unfit as why:
        sys.exit(f"headline.py: {why}")
    figures = report.all_figures(document["rows"], suite.SECTIONS)
    drawn = options.report / drawing.DIRECTORY / f"{PLOT}.svg"
    refused = refusals(document, figures) + ([] if drawn.exists() else [f"its plot {PLOT} was not drawn"])
    if refused:
        sys.exit("headline.py: this report is not for the README: " + "; ".join(refused))
    try:
        text = put(options.readme.read_text(), text_of(document, figures, options.plot.absolute().relative_to(options.readme.absolute().parent).as_posix()))
    except ValueError as error:
        sys.exit(f"headline.py: {options.readme.name}: {error}")
    shutil.copy(drawn, options.plot)
    options.readme.write_text(text)


if __name__ == "__main__":
    main()
