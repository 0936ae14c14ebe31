# SPDX-License-Identifier: MIT
"""Contenders that do the same in turns: their rows, and the table, the figures and the plot of each workload.

For sections in which one kind of sample is what each row is about. Besides what all rows have (tables.Row), such a row has `field`, the name of
these samples; `unit`, what a reader sees of them; and where what is more than the base's matters, not the ratio, `added`.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import series
from figures import Figure
from plots import Line, Plot
from stats import Median
from tables import Row, Rows, by_python, count_text, difference_to, number, table, why

AGAIN = "again"  # the key of the contender that is the base once more
BASE = ("nobody", "scan")  # what is not stock, and compared with as if it were


def row(section: str, python: str, workload: str, title: str, contender: str, label: str, **more: object) -> Row:
    """With what every row of every section has; MORE: its samples, or `skipped`."""
    head = {"section": section, "python": python, "workload": workload, "title": title, "contender": contender, "label": label}
    return {**head, "base": False, "check": {}, **more}


def parts(rows: Sequence[Row]) -> Rows:
    """Of a section whose rows say which `part` of it they are of, as if each part were a section."""
    return Rows([{**each, "section": each["part"]} for each in rows])


def groups(rows: Sequence[Row]) -> Iterator[tuple[Rows, list[Row]]]:
    """The rows of each workload, and all of its interpreter."""
    for theirs in by_python(rows).values():
        for workload in dict.fromkeys(each["workload"] for each in theirs.rows):
            yield theirs, [each for each in theirs.rows if each["workload"] == workload]


def kind(contender: str) -> str:
    """plots.Line.kind."""
    return "stock" if contender in BASE else "floor" if contender.startswith(("floor", "statloop", "driver")) else series.kind(contender.partition("-")[0])


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Of what each row is about."""
    return series.figures(*dict.fromkeys(each["field"] for each in rows if "field" in each))(rows)


# --- tables -----------------------------------------------------------------------------------------------------------

def reasons(group: Sequence[Row]) -> str:
    """Of a group of which nobody ran; else nothing."""
    return "" if any("skipped" not in each for each in group) else table(("", ""), [(each["label"], why(each)) for each in group])


def table_of(rows: Rows, group: Sequence[Row], columns: Mapping[str, Callable[[Row], str]] = {}) -> str:
    """One workload; COLUMNS are more of them, for rows that ran."""
    if text := reasons(group):
        return text
    first = next(each for each in group if "field" in each)
    field, lines = first["field"], []
    base = rows.base(first["section"], first["workload"])
    again = rows.get(first["section"], first["workload"], AGAIN)
    for each in group:
        if not each.get(field):
            lines.append([each["label"], why(each), *[""] * (1 + len(columns))])
            continue
        against = difference_to(each, base, again, field) if first.get("added") else rows.of_base(each, field)
        lines.append([each["label"], number(Median.of(each[field]).value), against, *(column(each) for column in columns.values())])
    return table(("", first["unit"], f"{'more than' if first.get('added') else 'of'} the first", *columns), lines)


def part(rows: Sequence[Row], columns: Mapping[str, Callable[[Row], str]] = {}) -> str:
    """A table for each workload."""
    texts, several = [], len(by_python(rows)) > 1
    for theirs, group in groups(rows):
        count = count_text(len(each.get(each.get("field", ""), ())) for each in group)
        texts += [f"### {group[0]['title']}{', Python ' + group[0]['python'] if several else ''}{count}\n", table_of(theirs, group, columns)]
    return "\n".join(texts)


# --- plots ------------------------------------------------------------------------------------------------------------

def bars(group: Sequence[Row], field: str, unit: str, scale: float = 1.0) -> list[Plot]:
    """A bar for each row of one workload that has FIELD; the base measured twice is none of them. None where there is but one."""
    shown = [each for each in group if each.get(field) and each["contender"] != AGAIN]
    lines = [Line.of(each["label"], [0], [Median.of(each[field]).scaled(scale)], kind(each["contender"])) for each in shown]
    key = "-".join((group[0]["section"], group[0]["workload"], group[0]["python"]))
    return [Plot(key, group[0]["title"], "", unit, lines, names=("",))] if len(lines) > 1 else []


def plots(rows: Sequence[Row]) -> list[Plot]:
    """Of each workload."""
    found = []
    for _, group in groups(rows):
        if first := next((each for each in group if "field" in each), None):
            found += bars(group, first["field"], first["unit"])
    return found
