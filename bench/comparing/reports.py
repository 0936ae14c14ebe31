# SPDX-License-Identifier: MIT
"""The figures of a report.json, by their keys; what a reader must know before two of them are compared."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from figures import Figure
from head import Document, busy
from report import Unfit, all_figures, load


def read(name: str) -> Document:
    """One with figures of its own."""
    document = load(name)
    if "comparison" in document:
        raise Unfit(f"{name} is itself a comparison; give two reports of bench/run.sh without --compare")
    return document


def keyed(figures: Iterable[Figure]) -> dict[str, Figure]:
    """By key. ValueError: two have the same one, so that a comparison could take one for the other."""
    found: dict[str, Figure] = {}
    for figure in figures:
        if found.setdefault(figure.key, figure) is not figure:
            raise ValueError(f"two figures have the key {figure.key}")
    return found


def figures_of(document: Document) -> dict[str, Figure]:
    """Those of all sections that there are today."""
    import suite  # which has comparisons as one of its modes

    return keyed(all_figures(document["rows"], suite.SECTIONS))


def remarks(one: Document, other: Document) -> Iterator[str]:
    """What makes a comparison of two reports less believable."""
    for name, text in (("machine", "of different machines"), ("effort", "of different efforts"), ("seed", "of different corpora")):
        if one.get(name) != other.get(name):
            yield f"the reports are {text}"
    if one["python"]["version"] != other["python"]["version"]:
        yield "the reports are of different versions of Python"
    for document, which in ((one, "first"), (other, "second")):
        if busy(document):
            yield f"the machine was not idle during the {which} run"
