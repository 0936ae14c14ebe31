# SPDX-License-Identifier: MIT
"""From what the probe and Ladewerk's own report wrote to rows: the split, the dearest imports, what goes with a statement, what laziness would save at most.

Rows are as everywhere (tables.py), of the sections `app-share`, `app-split`, `app-imports`, `app-drop`, `app-lazy`; samples are of the runs of one kind, in their order.
"""
from __future__ import annotations

import json
import linecache
import marshal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import Any

from app.graph import Graph, Node, Statement, Used, needed
from app.times import Times
from tables import Row

PHASES = ("find", "validate", "read", "unmarshal", "compile", "execute", "collect", "wait", "rest")
DEAREST, STATEMENTS = 25, 40  # rows that are kept
_LEAST = 0.005  # of the time of all imports: what is below is no row
_STATEMENT_WIDTH = 72


@dataclass(frozen=True)
class Shown:
    """How the name of a file is shown: relative to the ROOTS (the program's own), else to the LIBRARIES of the interpreter."""

    roots: Sequence[Path]
    libraries: Sequence[Path]

    def is_own(self, file: str) -> bool:
        path = Path(file)
        return not any(path.is_relative_to(library) for library in self.libraries) and any(path.is_relative_to(root) for root in self.roots)

    def place(self, file: str) -> str:
        if not file.startswith("/"):
            return file
        above = self.roots if self.is_own(file) else sorted(self.libraries, key=lambda library: -len(str(library)))
        return next((str(Path(file).relative_to(root)) for root in above if Path(file).is_relative_to(root)), Path(file).name)


def read_record(file: Path, ended: tuple[int, int]) -> dict[str, Any] | None:
    """What the probe wrote, and as `end` what came after that: wall and CPU ns, up to the moment and the CPU time with which the process ENDED. None if the probe wrote
    nothing."""
    try:
        with open(file, "rb") as stream:
            record: dict[str, Any] = marshal.load(stream)
            record["end"] = [max(0, then - said) for then, said in zip(ended, marshal.load(stream), strict=True)]
        return record
    except (OSError, EOFError, ValueError):
        return None


def read_report(file: Path) -> dict[str, Any] | None:
    """What Ladewerk wrote; None if it did not."""
    try:
        report: dict[str, Any] = json.loads(file.read_text())
        return report
    except (OSError, ValueError):
        return None


# --- the split -----------------------------------------------------------------------------------------------------------


def stock_split(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """ms by phase, an item for each run."""
    found = {f"{phase}_ms": [sum(spent.get(phase, 0) for _, spent in record["imports"]) / 1e6 for record in records] for phase in PHASES}
    found["wait_ms"] = [ms + record["outside"] / 1e6 for ms, record in zip(found["wait_ms"], records, strict=True)]
    return found


def ladewerk_split(reports: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    return {f"{phase}_ms": [report["phases_ns"].get(phase, 0) / 1e6 for report in reports] for phase in PHASES}


def served(report: Mapping[str, Any]) -> tuple[int, int]:
    """Imports that Ladewerk answered, and all."""
    counts: Mapping[str, int] = report["outcomes"]
    return sum(counts.values()) - counts.get("stock", 0) - counts.get("finder", 0), sum(counts.values())


# --- the graph ---------------------------------------------------------------------------------------------------------------


def graph_of(record: Mapping[str, Any], times: Times) -> Graph:
    statements = [Statement(importer, file, line, inside, tuple(names)) for importer, file, line, inside, names in record["statements"]]
    return Graph(statements, list(dict.fromkeys([*times.wall, *record["modules"]])))


def used_of(record: Mapping[str, Any]) -> Used:
    """A module is native if its file is no Python, or if it has none and is no package without one: those have no code of their own."""
    python = tuple([*SOURCE_SUFFIXES, *BYTECODE_SUFFIXES])
    native = frozenset(name for name, file in record["modules"].items() if not file.endswith(python))
    return Used(frozenset(record["needed"]), frozenset((module, whom) for module, whom in record["helped"]), native)


# --- rows ----------------------------------------------------------------------------------------------------------------


class Analysis:
    """Of one program: RECORD is of the probe's run `graph`, TIMES of its runs `times`."""

    def __init__(self, record: Mapping[str, Any], times: Times, shown: Shown, common: Row) -> None:
        self.times, self.shown, self.common = times, shown, common
        self.blocks: Mapping[str, int] = record["blocks"]
        self.all_blocks: int = record["all_blocks"]
        self.graph = graph_of(record, times)
        self.dominated = self.graph.dominated()
        self.used = used_of(record)
        self.least = max(0.05, _LEAST * min(times.total()))

    def _named(self, statement: Statement) -> str:
        return f"{self.shown.place(statement.file)}:{statement.line}"

    def _said(self, statement: Statement) -> str:
        """The line of the source; where there is none, the modules that it names."""
        text = linecache.getline(statement.file, statement.line).strip() or "import " + ", ".join(statement.names)
        return text if len(text) <= _STATEMENT_WIDTH else text[:_STATEMENT_WIDTH - 3] + "..."

    def _saves(self, names: Sequence[str]) -> dict[str, list[float]]:
        share = sum(self.blocks.get(name, 0) for name in names) / max(self.all_blocks, 1)
        return self.times.saved(names, min(max(share, 0.0), 1.0))

    def _statement_row(self, section: str, statement: Statement, names: Sequence[str]) -> Row:
        return {
            **self.common, "section": section, "contender": self._named(statement), "label": self._said(statement), "base": False,
            "importer": statement.importer, "own": self.shown.is_own(statement.file), "inside": statement.inside, "modules": len(names), **self._saves(names),
        }

    def _dearest(self, rows: list[Row], field: str, count: int) -> list[Row]:
        """By the least that a row's modules took themselves: what others do with the machine makes runs longer, never shorter, and collections are chance."""
        found = [row for row in rows if min(row[field]) >= self.least]
        return sorted(found, key=lambda row: -min(row[field]))[:count]

    def whole(self, records: Sequence[Mapping[str, Any]]) -> Row:
        """All imports with the garbage collections within them, beside what went by from the program's begin to its end. RECORDS are those of the times."""
        return {
            **self.common, "section": "app-share", "contender": "stock", "label": "all imports", "base": True, "modules": len(self.times.wall),
            "imports_ms": [round(ms + record["collect"] / 1e6, 4) for ms, record in zip(self.times.total(), records, strict=True)],
            "elapsed_ms": [round(record["elapsed_ns"] / 1e6, 4) for record in records],
        }

    def imports(self) -> list[Row]:
        """The modules that take most by themselves, with the statement that asked for them first."""
        importers = self.graph.importers()
        rows = [{
            **self.common, "section": "app-imports", "contender": name, "label": name, "base": False,
            "statement": self._named(importers[name][0]) if importers[name] else "", **self.times.themselves([name], "self_"),
        } for name in self.times.wall]
        return self._dearest(rows, "self_ms", DEAREST)

    def drops(self) -> list[Row]:
        """What goes with each statement alone."""
        statements = {self._named(s): s for s in self.graph.statements}
        rows = [self._statement_row("app-drop", s, names) for s in statements.values() if (names := self.dominated[s])]
        kept = self._dearest(rows, "own_ms", STATEMENTS)
        kept_names = {row["contender"] for row in kept}
        for row in kept:
            above = (self._named(node) for node in self.graph.dominators(statements[row["contender"]]) if isinstance(node, Statement))
            row["within"] = next((name for name in above if name in kept_names), "")
        return kept

    def lazy(self) -> list[Row]:
        """All that need not have been imported, and the statements that would have to wait: the topmost of each branch."""
        wanted = needed(self.graph, self.used)
        spared = [name for name in self.times.wall if name not in wanted]
        waiting: set[Node] = {s for s in self.graph.statements if all(name not in wanted for name in s.names if name in self.graph.modules)}
        topmost = [s for s in self.graph.statements if s in waiting and not waiting & set(self.graph.dominators(s))]
        rows = [self._statement_row("app-lazy", s, [name for name in self.dominated[s] if name not in wanted]) for s in topmost]
        whole = {
            **self.common, "section": "app-lazy", "contender": "all", "label": "all imports that could wait", "base": True, "modules": len(spared),
            "of": len(self.times.wall), **self._saves(spared),
        }
        return [whole, *self._dearest(rows, "own_ms", STATEMENTS)]
