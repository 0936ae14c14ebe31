#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares two revisions of this repository, or two reports.

    bench/run.sh --compare REV [options]     builds REV and this checkout, and measures both in the same rounds
    compare.py REPORT.json REPORT.json       figures of two runs, the earlier one first
    compare.py REPORT.json                   shows the report of a comparison anew

Exit status: 0; 1 with --fail-on-slower, when a figure is slower beyond the noise; 2 when nothing could be compared, or not often enough for a claim; 130 when the run ended early.
"""
from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import environments
import machine
import pythons
import report
import running
import suite
from comparing import measuring, reports, revisions
from comparing.lines import Line, lines_table, of_two, summary
from comparing.parts import PARTS, Part
from comparing.sides import Trees, sessions, sides_of
from head import care, machine_table, unrest
from pythons import Found
from rows import say
from sections import Effort, Place
from stats import Verdict
from tables import Row, why

SLEEP = "LADEWERK_BENCH_SLEEP"  # microseconds that every import served by the checkout's build takes longer: to see that it is noticed
CHECKOUT = suite.CHECKOUT


# --- options ------------------------------------------------------------------------------------------------------------

def parse(argv: Sequence[str]) -> argparse.Namespace:
    keys = [part.key for part in PARTS]
    parser = argparse.ArgumentParser(prog="bench/run.sh" if "--compare" in argv else "compare.py", description=__doc__.partition("\n")[0])
    parser.add_argument("reports", nargs="*", metavar="REPORT.json", help="two reports of bench/run.sh, or one of a comparison")
    parser.add_argument("--compare", metavar="REV", help="any name that git has for a revision of this repository")
    parser.add_argument("--fail-on-slower", action="store_true", help="exit status 1 when a figure is slower beyond the noise")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", dest="effort", action="store_const", const="quick", default="headline", help="about 2 minutes once built")
    effort.add_argument("--full", dest="effort", action="store_const", const="full", help="more rounds, programs and path entries")
    parser.add_argument("--only", action="extend", type=lambda text: text.split(","), metavar="SECTION", help=f"of {', '.join(keys)}; may be given more than once")
    parser.add_argument("--python", action="append", metavar="PYTHON", help="an interpreter; may be given more than once (default: `python3`)")
    parser.add_argument("-n", "--runs", type=int, help="rounds in every section that is timed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", type=Path, default=CHECKOUT / "build-bench", help="where environments and corpora are kept (default: build-bench/)")
    parser.add_argument("-o", "--output", type=Path, help="directory for report.md and report.json (default: bench/results/DATE-compare/)")
    options = running.parsed(parser, list(argv))
    if (options.compare is None) == (not options.reports) or len(options.reports) > 2:
        parser.error("either --compare REV, or one or two reports")
    if unknown := set(options.only or ()) - set(keys):
        parser.error(f"no section {', '.join(sorted(unknown))}; a comparison has {', '.join(keys)}")
    if options.runs is not None and options.runs < 1:
        parser.error("-n needs a positive number")
    return options


def settings(environ: os._Environ[str] | dict[str, str] = os.environ) -> dict[str, str]:
    """What the checkout's wheel is built with. ValueError: a sleep that is no number."""
    sleep = environ.get(SLEEP, "")
    if not sleep:
        return {}
    if not sleep.isdecimal():
        raise ValueError(f"{SLEEP} is a number of microseconds, not {sleep!r}")
    return {f"cmake.define.{SLEEP}": sleep}


# --- two revisions ------------------------------------------------------------------------------------------------------

def interpreters(options: argparse.Namespace) -> list[Found]:
    """Those that were named, or the one that a shell would start. pythons.Unfit: there is none."""
    found = pythons.named(options.python) if options.python else pythons.one_of_each(pythons.candidates())[:1]
    if not found:
        raise pythons.Unfit("no CPython {}.{} or newer was found; name one with --python".format(*pythons.OLDEST))
    return found


def effort_of(part: Part, options: argparse.Namespace) -> Effort:
    """What is counted needs no more rounds because somebody wants more of them."""
    return Effort(options.runs, float("inf")) if options.runs and not part.counter else part.efforts[options.effort]


def failed(part: Part, python: str, reason: str) -> Row:
    """The row of a section that cannot run at all."""
    return {
        "section": part.key, "python": python, "side": "after", "workload": "", "title": part.title, "contender": "", "label": "the whole section",
        "base": False, "check": {}, "skipped": reason,
    }


def measure_python(found: Found, options: argparse.Namespace, trees: Trees, run: running.Run) -> dict[str, Any]:
    """All sections of one interpreter, into RUN; its facts."""
    parts = [part for part in PARTS if not options.only or part.key in options.only]
    home = options.build / "compare"
    sides = sides_of(found, home, trees, frozenset().union(*(part.needs for part in parts)))
    place = Place(sides, options.build, home / "state", None, options.effort, options.seed)
    suite.fresh_state(place.state, sides)
    missing = {side.key: side.missing for side in sides if side.missing}
    for part in parts:
        if missing:
            run.rows.append(failed(part, found.key, "; ".join(f"{side}: {reason}" for side, reason in missing.items())))
            continue
        try:
            run.section(part.key, lambda: measuring.measure(part, place, sessions(place, sides, "small" in part.needs), effort_of(part, options)))
        except Exception as error:  # a section that fails says so, and the others go on
            run.rows.append(failed(part, found.key, f"{type(error).__name__}: {error}"))
    return dict(sides[-1].facts)


def compare_revisions(options: argparse.Namespace) -> dict[str, Any]:
    """The document of the comparison. revisions.Unknown, pythons.Unfit, ValueError: why it cannot be made."""
    slowed = settings()
    commit = revisions.resolve(CHECKOUT, options.compare)
    pythons_found = interpreters(options)
    trees = Trees(revisions.extract(CHECKOUT, commit, options.build / "compare" / "source"), CHECKOUT, slowed)
    options.quick, options.why_not, options.revision = options.effort == "quick", "", environments.revision(CHECKOUT)
    run, interrupted = running.Run(options), ""
    facts = {found.key: machine.interpreter(found.python) for found in pythons_found}
    try:
        for found in pythons_found:
            facts[found.key] = measure_python(found, options, trees, run)
    except (KeyboardInterrupt, SystemExit) as end:
        interrupted = str(end) or "interrupted"
    comparison = {
        "before": revisions.describe(CHECKOUT, commit), "commit": commit, "after": options.revision, "slowed_us": int(next(iter(slowed.values()), 0)),
        "same": environments.fingerprint(trees.before) == environments.fingerprint(trees.after) and not slowed,
    }
    more = {"comparison": comparison, "effort": options.effort, "pythons": facts, "interrupted": interrupted, "command": suite.command_line(sys.argv[1:])}
    run.write(markdown, more)
    return report.load(str(options.output / "report.json"))


# --- the report ---------------------------------------------------------------------------------------------------------

def _head(document: dict[str, Any]) -> str:
    comparison = document["comparison"]
    return machine_table(document, [("before", comparison["before"]), ("after", f"this checkout, {comparison['after']}")])


def _cares(document: dict[str, Any]) -> list[str]:
    comparison, found = document["comparison"], unrest(document)
    if comparison["same"]:
        found.append("Both sides are built from the same sources: what differs is noise.")
    if comparison["slowed_us"]:
        found.append(f"The checkout was slowed on purpose: {comparison['slowed_us']} us for each import that it serves ({SLEEP}).")
    return found


def _sections(rows: Sequence[Row]) -> list[str]:
    parts = []
    for python in dict.fromkeys(row["python"] for row in rows):
        for part in PARTS:
            theirs = [row for row in rows if (row["python"], row["section"]) == (python, part.key)]
            if not theirs:
                continue
            found = measuring.lines(theirs)
            rounds = {len(row[part.measures[0].field]) for row in theirs if part.measures[0].field in row}
            parts.append(f"## CPython {python}: {part.title}{report_rounds(rounds)}\n")
            if found:
                parts.append(lines_table(found, "before", "after"))
            parts += [f"{row['title']}, {row['label']}, {row['side']}: {why(row)}\n" for row in theirs if "skipped" in row]
    return parts


def report_rounds(rounds: set[int]) -> str:
    return f", n = {min(rounds)}" + (f" to {max(rounds)}" if len(rounds) > 1 else "") if rounds else ""


LEGEND = """\
A ratio is after / before, formed within a round, its median quoted with the 95 % interval; above 1 the checkout is slower. Noise is how far from 1
the interval of before / before goes, measured twice in the same rounds. A difference lies wholly beyond the noise, and does so again in rounds of its own. Calls and instructions are
counted: they differ when all counts do, by more than 0.5 %.
"""


def markdown(document: dict[str, Any]) -> str:
    found = measuring.lines(document["rows"])
    cares = _cares(document)
    head = ["# Two revisions\n", _head(document), LEGEND, *([care(cares)] if cares else []), f"{summary(found)}\n"]
    return "\n".join([*head, *_sections(document["rows"])])


# --- commands -----------------------------------------------------------------------------------------------------------

def compare_reports(names: Sequence[str]) -> tuple[str, list[Line]]:
    """Markdown, and its lines. report.Unfit: they cannot be compared."""
    one, other = (reports.read(name) for name in names)
    earlier, later = reports.figures_of(one), reports.figures_of(other)
    found = [of_two(earlier[key], figure) for key, figure in later.items() if key in earlier]
    if not found:
        raise report.Unfit("the reports have no figure in common")
    remarks = [f"- {text[0].upper()}{text[1:]}." for text in reports.remarks(one, other)]
    left = len(later) + len(earlier) - 2 * len(found)
    rest = f"{left} figures are in one of the reports only.\n" if left else ""
    return "\n".join([*remarks, "", lines_table(found, "first", "second"), summary(found), rest]), found


def shown_anew(name: str) -> tuple[str, list[Line]]:
    document = report.load(name)
    if "comparison" not in document:
        raise report.Unfit(f"{name} is no comparison; give two reports, or show it with report.py")
    return markdown(document), measuring.lines(document["rows"])


def revisions_compared(options: argparse.Namespace) -> tuple[str, list[Line], bool]:
    """Markdown, its lines, and whether all was measured."""
    options.output = options.output or suite.RESULTS / f"{datetime.now(timezone.utc):%Y-%m-%dT%H%M%SZ}-compare"
    running.end_in_order()
    with ExitStack() as stack:
        stack.callback(os.close, running.alone(options.build))
        running.check_output(options.output)
        document = compare_revisions(options)
    say(f"written: {options.output}/report.md and report.json")
    return markdown(document), measuring.lines(document["rows"]), not document["interrupted"]


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        if options.compare is not None:
            text, found, whole = revisions_compared(options)
        else:
            whole = True
            text, found = shown_anew(*options.reports) if len(options.reports) == 1 else compare_reports(options.reports)
    except (revisions.Unknown, pythons.Unfit, report.Unfit, ValueError) as why_not:
        print(f"{'run.sh: --compare' if options.compare is not None else 'compare.py'}: {why_not}", file=sys.stderr)
        return 2
    print(text, end="")
    if not whole:
        return 130
    if all(line.verdict is Verdict.FEW for line in found):
        return 2
    return 1 if options.fail_on_slower and any(line.slower for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())
