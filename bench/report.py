#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns report.json into Markdown, and into plots.

    report.py REPORT.json > REPORT.md    an old report as it would be written today
    report.py REPORT.json -o DIR         report.md and plots, into DIR
"""
from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import drawing
import headline
from drawing import Drawer
from figures import Figure
from goals import goals_table
from head import Document, care, machine_part, pythons, warnings
from plots import Plot
from rows import say
from sections import Section
from tables import Row, rounds_of, why

LEGEND = """\
Contenders take turns; every ratio or difference is formed with the base *of the same round*. `0.861 [0.858, 0.866] ±0.004`: the median of
those, its 95 % interval, and the noise: as far from 1 (from 0, of a difference) goes the interval of the base measured twice. Fewer than 9 rounds claim nothing, and
what is not wholly outside of the noise is no difference; both are said. `bench/README.md` says what each figure means.
"""

Made = TypeVar("Made")


class Unfit(Exception):
    """No report, or none that has figures; str() says why."""


def load(name: str | Path) -> Document:
    """A report.json of any kind. Unfit: it is none."""
    try:
        with open(name) as file:
            document = json.load(file)
    except OSError as error:
        raise Unfit(f"{name}: {error.strerror}") from None
    except ValueError:
        raise Unfit(f"{name} is not JSON") from None
    if not isinstance(document, dict) or "rows" not in document or "machine" not in document:
        raise Unfit(f"{name} is no report of bench/run.sh")
    return document


def own(section: Section, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """A section's rows; and the ones that say why it failed."""
    theirs = [row for row in rows if row["section"] == section.key]
    return [row for row in theirs if row["contender"]], [row for row in theirs if not row["contender"]]


def made(section: Section, rows: Sequence[Row], make: Callable[[Sequence[Row]], list[Made]]) -> list[Made]:
    """What a section makes of its rows; nothing when it has none, or stumbles over them: that costs nobody the rest of a report."""
    done, _ = own(section, rows)
    try:
        return make(done) if done else []
    except Exception:
        say(f"{section.key}:")
        traceback.print_exc()
        return []


def all_figures(rows: Sequence[Row], sections: Sequence[Section]) -> list[Figure]:
    return [figure for section in sections for figure in made(section, rows, section.figures)]


def all_plots(rows: Sequence[Row], sections: Sequence[Section]) -> list[Plot]:
    top = headline.plot_of(all_figures(rows, sections))
    return top + [plot for section in sections for plot in made(section, rows, section.plots)]


def section_text(section: Section, rows: Sequence[Row]) -> str:
    """Its tables; why there are none, or not all."""
    done, failed = own(section, rows)
    texts = [f"The section failed: {why(row)}\n" for row in failed]
    try:
        return "\n".join([*texts, section.part(done)] if done else texts)
    except Exception as error:
        traceback.print_exc()
        return "\n".join([*texts, f"*Its tables cannot be made: {type(error).__name__}: {error}*\n"])


def shown(plots: Sequence[Plot], drawn: Collection[str]) -> list[str]:
    """As far as they were drawn."""
    return [drawing.markdown(plot) for plot in plots if plot.key in drawn]


def modern(document: Document) -> Document:
    """Rows of a report from before there were several interpreters say whose they are; sections that only it has are left out."""
    key = next(iter(pythons(document)))
    return {**document, "rows": [{"python": key, **row} for row in document["rows"]]}


def markdown(document: Document, sections: Sequence[Section], drawn: Collection[str] = (), undrawn: str = "") -> str:
    """DRAWN: keys of the plots that are there; UNDRAWN: why others are not."""
    document = modern(document)
    rows = document["rows"]
    figures = all_figures(rows, sections)
    found = ["# Import benchmark\n", machine_part(document), LEGEND]
    if top := headline.table_of(figures):
        found += ["## Headline\n", top, *shown(headline.plot_of(figures), drawn)]
    if unsure := warnings(document, figures):
        found.append(care(unsure))
    if goals := [goal for section in sections for goal in made(section, rows, section.goals)]:
        found += ["## Goals\n", goals_table(goals)]
    if undrawn:
        found.append(f"There are {'not all' if drawn else 'no'} plots: {undrawn}.\n")
    for section in sections:
        done, failed = own(section, rows)
        if done or failed:
            found += [f"## {section.title}{rounds_of(done)}\n", section_text(section, rows), *shown(made(section, rows, section.plots), drawn)]
    return "\n".join(found)


def illustrated(sections: Sequence[Section], output: Path, drawer: Drawer) -> Callable[[Document], str]:
    """Draws a document's plots into OUTPUT, and says in Markdown what is in it."""
    def make(document: Document) -> str:
        drawn, undrawn = drawer.draw(all_plots(modern(document)["rows"], sections), output / drawing.DIRECTORY)
        return markdown(document, sections, drawn, undrawn)
    return make


def show(markdown: Callable[[Document], str], usage: str | None) -> None:
    """The report of the file that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(usage)
    try:
        print(markdown(load(sys.argv[1])), end="")
    except Unfit as why:
        sys.exit(str(why))


def main() -> None:
    import suite  # which imports this module

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.json")
    parser.add_argument("-o", "--output", type=Path, help="where report.md and plots go; without: Markdown to standard output")
    parser.add_argument("--build", type=Path, default=suite.CHECKOUT / "build-bench", help="where what draws the plots is kept (default: build-bench/)")
    options = parser.parse_args()
    try:
        document = load(options.report)
    except Unfit as why:
        sys.exit(f"report.py: {why}")
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "report.md").write_text(illustrated(suite.SECTIONS, options.output, Drawer.found(options.build.absolute()))(document))
    else:
        print(markdown(document, suite.SECTIONS), end="")


if __name__ == "__main__":
    main()
