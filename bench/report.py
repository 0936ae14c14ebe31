#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns report.json into Markdown.

    report.py REPORT.json > REPORT.md
"""
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import parts
import targets
from goals import goals_table
from tables import Rows, rounds_of, table

Document = dict[str, Any]


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
        if missing := row["check"].get("missing"):
            found.append(f"{row['title']}, {row['label']}: {len(missing)} modules of stock were not imported, among them {', '.join(missing[:3])}.")
    return list(dict.fromkeys(found))


# --- the whole ------------------------------------------------------------------------------------------------------

PARTS = {
    "programs": ("Programs, whole process", parts.programs),
    "paths": ("Modules behind many path entries", parts.paths),
    "modules": ("One-line modules in one package", parts.modules),
    "startup": ("Start-up", parts.startup),
    "memory": ("Memory of 16 forked children", parts.memory),
    "cold": ("Cold caches", parts.cold),
    "syscalls": ("System calls per module (strace -c)", parts.syscalls),
    "hyperfine": ("Cross-check with hyperfine", parts.hyperfine),
}
GOALS = (targets.paths, targets.modules, targets.syscalls, targets.programs, targets.memory, targets.cold, targets.startup)

LEGEND = """\
Contenders take turns; every ratio or difference is formed with the base *of the same round*, its median quoted with the
95 % interval of the median (below 6 rounds: the range). `bench/README.md` says what each figure means.
"""


def markdown(document: Document) -> str:
    rows = document["rows"]
    found = ["# Import benchmark\n", machine_part(document), LEGEND]
    if unsure := warnings(document):
        found.append(care(unsure))
    found += ["## Goals\n", goals_table([goal for of in GOALS for goal in of(rows)])]
    for section, (title, part) in PARTS.items():
        if theirs := [row for row in rows if row["section"] == section]:
            found += [f"## {title}{rounds_of(theirs)}\n", part(theirs)]
    return "\n".join(found)


def show(markdown: Callable[[Document], str], usage: str | None) -> None:
    """The report of the file that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(usage)
    print(markdown(json.loads(Path(sys.argv[1]).read_text())), end="")


if __name__ == "__main__":
    show(markdown, __doc__)
