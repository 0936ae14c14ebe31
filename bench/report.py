#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns report.json into Markdown.

    report.py REPORT.json > REPORT.md
"""
from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from goals import goals_table
from sections import Section
from tables import Row, Rows, rounds_of, table, why

Document = dict[str, Any]
T = TypeVar("T")


# --- parts ----------------------------------------------------------------------------------------------------------

def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def machine_lines(document: Document) -> list[tuple[str, str]]:
    box, python = document["machine"], document["python"]
    return [
        ("machine", f"{box['cpu']}, {box['cores']} cores{', virtual' if box['virtual'] else ''}, {box['memory_gib']} GiB"),
        ("system", f"{box['kernel']}, {box['filesystem']}" + (f", governor {box['governor']}" if box["governor"] else "")),
        ("python", f"{python['version']}, {python['compiler']}, configured for PGO: {_yes(python['pgo'])}, LTO: {_yes(python['lto'])}"
            + (", free-threaded" if python["free_threaded"] else "") + (", debug build" if python["debug"] else "")),
    ]


def run_lines(document: Document) -> list[tuple[str, str]]:
    others = document["neighbours"]
    return [
        ("run", f"{document['started']}, {document['seconds']:.0f} s, seed {document['seed']}{', --quick' if document['quick'] else ''}"),
        ("neighbours", f"{100 * others['others']:.1f} % of the CPU used by others, {100 * others['stolen']:.1f} % stolen by the hypervisor"),
    ]


def machine_table(document: Document, tested: Iterable[tuple[str, str]]) -> str:
    return table(("", ""), [*machine_lines(document), *tested, *run_lines(document)], text=True)


def rivals_part(document: Document) -> str:
    """Of a benchmark whose rivals are programs."""
    return machine_table(document, [("Ladewerk", document["revision"] or "not installed"), ("others", ", ".join(document["versions"]))])


def machine_part(document: Document) -> str:
    packages = {name.lower(): version for name, version in document["python"]["packages"].items()}
    tested = [f"{name} {packages[name]}" for name in ("sympy", "django", "sqlalchemy", "twisted", "pandas", "boto3") if name in packages]
    return machine_table(document, [
        ("Ladewerk", " ".join(filter(None, (packages.get("ladewerk", "not installed"), document["revision"])))),
        ("programs", ", ".join(tested) or "none"),
        ("tools", ", ".join(version or f"{name} missing" for name, version in document["tools"].items())),
    ])


def unrest(document: Document) -> list[str]:
    """What may happen to any run."""
    found = []
    if document["neighbours"]["others"] + document["neighbours"]["stolen"] > 0.05:
        found.append("The machine was not idle: ratios and counts may still hold, absolute times and narrow differences do not.")
    if document.get("interrupted"):
        found.append("The run was interrupted: what came after is missing, and so is what was being measured.")
    if document["why_not"]:
        found.append(f"Ladewerk could not be installed: {document['why_not']}")
    return found


def care(found: Iterable[str]) -> str:
    return "Read with care:\n\n" + "\n".join(f"- {text}" for text in found) + "\n"


def warnings(document: Document) -> list[str]:
    """What makes this run less believable."""
    rows, found = Rows(document["rows"]), unrest(document)
    if document["python"]["debug"]:
        found.append("The interpreter is a debug build.")
    if not document["python"]["pgo"]:
        found.append(
            "The interpreter was not configured with --enable-optimizations. Unless its distributor optimized it by other "
            "means, its Python code runs slower than most, which flatters whoever replaces Python code by C."
        )
    for section, workload, field in (("startup", "pass", "wall_ms"), *(("programs", w, "cpu_ms") for w in rows.workloads("programs"))):
        control = rows.ratio(field, (section, workload, "again"), (section, workload, "stock"))
        if control and abs(control.value - 1) > 0.02:
            found.append(f"{workload}: the control, the base measured twice, differs by {100 * (control.value - 1):+.1f} %.")
    for row in document["rows"]:
        if missing := row.get("check", {}).get("missing"):
            found.append(f"{row['title']}, {row['label']}: {len(missing)} modules of stock were not imported, among them {', '.join(missing[:3])}.")
    return list(dict.fromkeys(found))


# --- the whole ------------------------------------------------------------------------------------------------------

LEGEND = """\
Contenders take turns; every ratio or difference is formed with the base *of the same round*, its median quoted with the
95 % interval of the median (below 6 rounds: the range). `bench/README.md` says what each figure means.
"""


def markdown(document: Document, sections: Iterable[Section]) -> str:
    measured = [(section, theirs) for section in sections if (theirs := [row for row in document["rows"] if row["section"] == section.key])]
    found = ["# Import benchmark\n", machine_part(document), LEGEND]
    if unsure := warnings(document):
        found.append(care(unsure))
    found += ["## Goals\n", goals_table([goal for section, rows in measured for goal in said_of(section.goals, rows)])]
    for section, rows in measured:
        found += [f"## {section.title}{rounds_of(rows)}\n", section_text(section, rows)]
    return "\n".join(found)


def ran(rows: Iterable[Row]) -> list[Row]:
    """Without those that sections.why_failed() made."""
    return [row for row in rows if row["contender"]]


def said_of(of: Callable[[Sequence[Row]], list[T]], rows: Sequence[Row]) -> list[T]:
    """What a section says of its rows; what cannot be said of half a section costs nobody the rest of a report."""
    try:
        return of(ran(rows))
    except Exception:
        traceback.print_exc()
        return []


def section_text(section: Section, rows: Sequence[Row]) -> str:
    """The part of a section, and why it failed."""
    failed = [f"The section failed: {why(row)}\n" for row in rows if not row["contender"]]
    try:
        return "\n".join([*failed, section.part(ran(rows))] if ran(rows) else failed)
    except Exception as error:
        traceback.print_exc()
        return "\n".join([*failed, f"*Its tables cannot be made: {type(error).__name__}: {error}*\n"])


def show(markdown: Callable[[Document], str], usage: str | None) -> None:
    """The report of the file that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(usage)
    print(markdown(json.loads(Path(sys.argv[1]).read_text())), end="")


if __name__ == "__main__":
    import suite  # which imports this module

    show(lambda document: markdown(document, suite.SECTIONS), __doc__)
