# SPDX-License-Identifier: MIT
"""The report on a program: report.json to Markdown, and its figures.

    python3 -m app.page REPORT.json > REPORT.md
"""
from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from app.analysis import PHASES
from figures import Figure
from head import care, machine_table, unrest
from report import show
from stats import Median
from tables import Row, Rows, count_text, escaped, number, rss_text, table, why

SHOWN = 15  # lines of a table of statements
CHANCE = 0.1  # of what is saved: less is not worth a word
Document = dict[str, Any]


def of_section(rows: Sequence[Row], section: str) -> list[Row]:
    return [row for row in rows if row["section"] == section]


def interval(values: Sequence[float]) -> str:
    found = Median.of(values)
    return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"


def code(text: str) -> str:
    return "`" + escaped(text).replace("`", "'") + "`"


# --- figures -------------------------------------------------------------------------------------------------------------


def figures(rows: Sequence[Row]) -> list[Figure]:
    """CPU and wall of each way, divided by stock's."""
    timed = {row["contender"]: row for row in of_section(rows, "app") if "skipped" not in row}
    base, again = timed.get("stock"), timed.get("again")
    if base is None:
        return []
    return [
        Figure(f"{row['python']}/app/{name}/{field}", f"{row['label']}: {what} of the whole process", "ms", row[field], base[field],
               again[field] if again else None)
        for name, row in timed.items() if name not in ("stock", "again") for field, what in (("cpu_ms", "CPU"), ("wall_ms", "wall time"))
    ]


# --- parts ---------------------------------------------------------------------------------------------------------------


def timing_part(rows: Sequence[Row]) -> str:
    """Whole processes; each ratio with the noise and, where it is none, that it is no claim."""
    found, lines = Rows(rows), []
    for row in found.section("app"):
        if "skipped" in row:
            lines.append((row["label"], why(row), "", "", "", ""))
            continue
        cells = [text for field in ("wall_ms", "cpu_ms") for text in (number(statistics.median(row[field])), found.of_base(row, field))]
        lines.append((row["label"], *cells, rss_text(row)))
    return table(("", "wall ms", "of stock", "CPU ms", "of stock", "RSS, MB"), lines)


def _served(rows: Sequence[Row]) -> str:
    parts = [f"{row['label']}: {row['served']} of {row['imports']}" for row in of_section(rows, "app-split") if "served" in row]
    return f"Imports that Ladewerk answered itself: {'; '.join(parts)}.\n" if parts else ""


def share_text(row: Row) -> str:
    if statistics.median(row["imports_ms"]) > statistics.median(row["elapsed_ms"]):
        return (f"With stock Python {row['modules']} imports take {interval(row['imports_ms'])} ms, summed over threads that import at the same time and wait for each other; "
                f"the program takes {interval(row['elapsed_ms'])} ms, the start of the interpreter left out.\n")
    share = Median.of([ms / elapsed for ms, elapsed in zip(row["imports_ms"], row["elapsed_ms"], strict=True)])
    return (f"With stock Python {row['modules']} imports take {interval(row['imports_ms'])} ms of {interval(row['elapsed_ms'])} ms, the start of the interpreter "
            f"left out: {100 * share.value:.0f} %. No accelerator of imports can save more.\n")


def quickest(row: Row) -> list[float]:
    """The phases of the run that took least."""
    runs = zip(*(row[f"{phase}_ms"] for phase in PHASES), strict=True)
    return list(min(runs, key=sum))


def split_part(rows: Sequence[Row]) -> str:
    lines = []
    for row in of_section(rows, "app-split"):
        if "skipped" in row:
            lines.append((row["label"], why(row), *[""] * len(PHASES)))
            continue
        values = quickest(row)
        lines.append((row["label"], *(number(value) if value else "" for value in values), number(sum(values))))
    return (
        "ms, of the quickest of several runs with probes in them, which are not timed: they show where the time goes, the table above how much it is. `validate`: is what was found "
        "still what it was; `collect`: garbage collections within imports; `wait`: for locks that other threads hold; `execute`: bodies of modules, "
        "and the loading of extension modules; `rest`: locks, specs, module objects, other finders. Ladewerk reads while it unmarshals.\n\n"
        + table(("", *PHASES, "all"), lines) + "\n" + _served(rows)
    )


def why_not(rows: Sequence[Row], section: str) -> str:
    return "\n".join(why(row) + "\n" for row in of_section(rows, section) if "skipped" in row)


def imports_part(rows: Sequence[Row]) -> str:
    if skipped := why_not(rows, "app-imports"):
        return skipped
    lines = [(code(row["contender"]), row["statement"], number(statistics.median(row["self_ms"])), number(statistics.median(row["self_cpu_ms"])))
             for row in of_section(rows, "app-imports")]
    return "Of each module by itself, without what it imports and without garbage collections (which import sets one off is chance); stock Python.\n\n" + table(
        ("module", "first asked for at", "wall ms", "CPU ms"), lines, text=True)


def parts_text(row: Row) -> str:
    """Of CPU time, the medians: the modules themselves + collections + end."""
    return " + ".join(number(statistics.median(row[field])) for field in ("own_cpu_ms", "collected_cpu_ms", "end_cpu_ms"))


def chance_text(row: Row) -> str:
    """What is worth a word, if it is."""
    chance, saves = statistics.median(row["chance_cpu_ms"]), statistics.median(row["saves_cpu_ms"])
    return f"{number(chance)} ms by chance" if chance > CHANCE * saves else ""


def _statements(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows[:SHOWN]:
        notes = [f"part of {row['within']}"] if row.get("within") else []
        notes += ["in a function"] if row["inside"] else []
        notes += filter(None, [chance_text(row)])
        lines.append((row["contender"], code(row["label"]), interval(row["saves_ms"]), interval(row["saves_cpu_ms"]), parts_text(row), str(row["modules"]), "; ".join(notes)))
    more = f"\n{len(rows) - SHOWN} more are in report.json.\n" if len(rows) > SHOWN else ""
    return table(("at", "statement", "wall ms", "CPU ms", "of which", "modules", ""), lines, text=True) + more


def drop_part(rows: Sequence[Row]) -> str:
    """The program's own statements first: those its author can drop."""
    found = of_section(rows, "app-drop")
    if skipped := why_not(rows, "app-drop"):
        return skipped
    own, others = [row for row in found if row["own"]], [row for row in found if not row["own"]]
    parts = ["If this one statement went, the modules that nothing else leads to would not be imported. Of the CPU time: their own, added up for each run + the garbage collections of the "
             "whole program that fewer objects would not set off + their share in taking everything down at its end. By chance: that much one collection takes of "
             "which cannot be told whether it goes. An extension module that imports from C what is "
             "there already is not seen to.\n"]
    for name, some in (("In the program's own files", own), ("In packages", others)):
        if some:
            parts += [f"### {name}\n", _statements(some)]
    return "\n".join(parts) if found else "No statement leads to anything worth mentioning.\n"


def lazy_part(rows: Sequence[Row]) -> str:
    found = of_section(rows, "app-lazy")
    if not found:
        return ""
    whole, *some = found
    if not whole["of"]:
        return "Nothing is imported.\n"
    listed = [sum(values) for values in zip(*(row["saves_ms"] for row in some), strict=True)] or [0.0] * len(whole["saves_ms"])
    rest = max(0.0, statistics.median(whole["saves_ms"]) - statistics.median(listed))
    text = (
        f"Of {whole['of']} modules, {whole['modules']} are imported by statements at the top of other modules, and none of their code is run later (but by imports of such "
        "modules): without them "
        f"{interval(whole['saves_ms'])} ms of wall time, {interval(whole['saves_cpu_ms'])} ms of CPU would be saved, at most: a use of a "
        "constant or an exception of a module is not seen.\n"
    )
    if some:
        text += f"\nStatements that could wait for what they import; {number(rest)} ms more are what several statements lead to, and small ones.\n\n" + _statements(some)
    return text


PARTS: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "app": ("The whole program", timing_part),
    "app-split": ("Where the time of its imports goes", split_part),
    "app-imports": ("The dearest modules", imports_part),
    "app-drop": ("What one import less would save", drop_part),
    "app-lazy": ("What lazy imports would save, at most", lazy_part),
}


def _about(document: Document) -> list[tuple[str, str]]:
    app = document["app"]
    return [
        ("program", code(app["command"])),
        ("does", app["does"]),
        ("Ladewerk", app["ladewerk"]),
        ("roots", ", ".join(app["roots"]) or "none"),
    ]


def _runs(rows: Sequence[Row]) -> str:
    """How many samples a row has, for a heading."""
    return count_text(len(values) for row in rows for name, values in row.items() if name.endswith("_ms"))


def markdown(document: Document) -> str:
    rows: list[Row] = document["rows"]
    parts = ["# Imports of a program\n", machine_table(document, _about(document))]
    if found := [*unrest(document), *document["app"]["notes"]]:
        parts.append(care(found))
    parts += [share_text(row) for row in of_section(rows, "app-share")]
    parts.append("Ways take turns; every ratio is formed with stock's run *of the same round*, its median quoted with the 95 % interval of the median and, after the "
                 "±, what the control is off by at most.\n")
    for section, (title, part) in PARTS.items():
        if found := of_section(rows, section):
            parts += [f"## {title}{_runs(found)}\n", part(rows)]
    return "\n".join(parts)


if __name__ == "__main__":
    show(markdown, __doc__)
