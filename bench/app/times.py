# SPDX-License-Identifier: MIT
"""What modules take: by themselves, and what goes with them in the garbage collections of the whole program and in its end.

Collections are set off by a count of objects: without some modules the program comes to each of them later by as many objects as theirs, and ends before it comes to
the last ones. So it is these that are saved, wherever they happen to be: one with all the program's objects, or none at all. What the program has asked for itself
goes on, with less to look at. Its end, when everything is taken down, and the kernel's part of that, is shared by the blocks of memory that there are.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.graph import summed

SURE = 1.25  # by this factor the objects that go with an import may be other than counted: who takes their place?
NEAR = 0.01  # of a program's objects: a collection that is as near to its end need not be there the next time


@dataclass(frozen=True)
class Collection:
    left: int  # objects that were counted from its beginning to the program's end
    wall: float
    cpu: float
    automatic: bool = True  # set off by the count
    near: bool = False  # to the program's end


def _of_run(record: Mapping[str, Any]) -> list[Collection]:
    objects = record["objects"]
    return [Collection(objects - at, wall / 1e6, cpu / 1e6, automatic, objects - at < NEAR * objects) for at, wall, cpu, automatic in record["collections"]]


def spared(collections: Iterable[Collection], objects: float, share: float) -> tuple[float, float]:
    """Wall and CPU ms of what would not be collected if OBJECTS less were counted, a SHARE of all."""
    parts = [(1.0 if one.left < objects else 0.0) if one.automatic else share for one in collections]
    return sum(one.wall * part for one, part in zip(collections, parts)), sum(one.cpu * part for one, part in zip(collections, parts))


def dearest_chance(collections: Iterable[Collection], objects: float) -> float:
    """CPU ms of the dearest collection of which cannot be told whether it goes."""
    return max((one.cpu for one in collections if one.automatic and one.left < objects * SURE and (one.near or one.left > objects / SURE)), default=0.0)


@dataclass(frozen=True)
class Times:
    """ms and objects of each module by itself, a list with an item for each run; the collections of each run, and what its end took."""

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]
    objects: Mapping[str, Sequence[float]]
    collections: Sequence[Sequence[Collection]]
    end_wall: Sequence[float]
    end_cpu: Sequence[float]

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Times:
        """RECORDS of the probe, with `end`: wall and CPU ns from its last word to the end of the process."""
        wall: dict[str, list[float]] = {}
        cpu: dict[str, list[float]] = {}
        objects: dict[str, list[float]] = {}
        for n, record in enumerate(records):
            for name, wall_ns, cpu_ns, count in reversed(record["imports"]):  # importers before what they import
                for found, value in ((wall, wall_ns / 1e6), (cpu, cpu_ns / 1e6), (objects, count)):
                    found.setdefault(name, [0.0] * len(records))[n] += value
        ends = [[ns / 1e6 for ns in record["end"]] for record in records]
        return cls(wall, cpu, objects, [_of_run(record) for record in records], [end[0] for end in ends], [end[1] for end in ends])

    @property
    def rounds(self) -> int:
        return len(self.collections)

    def total(self) -> list[float]:
        return summed(self.wall, self.wall, self.rounds)

    def themselves(self, names: Sequence[str], prefix: str) -> dict[str, list[float]]:
        return {f"{prefix}ms": _rounded(summed(names, self.wall, self.rounds)), f"{prefix}cpu_ms": _rounded(summed(names, self.cpu, self.rounds))}

    def saved(self, names: Sequence[str], share: float) -> dict[str, list[float]]:
        """What a program without them saves, if they have SHARE of all blocks; its three parts; and what of it is chance: see dearest_chance()."""
        counts = summed(names, self.objects, self.rounds)
        gone = [spared(run, count, share) for run, count in zip(self.collections, counts, strict=True)]
        found = {
            **self.themselves(names, "own_"),
            "collected_ms": [wall for wall, _ in gone], "collected_cpu_ms": [cpu for _, cpu in gone],
            "end_ms": [share * ms for ms in self.end_wall], "end_cpu_ms": [share * ms for ms in self.end_cpu],
            "chance_cpu_ms": [dearest_chance(run, count) for run, count in zip(self.collections, counts, strict=True)],
        }
        for unit in ("ms", "cpu_ms"):
            found[f"saves_{unit}"] = [sum(parts) for parts in zip(*(found[f"{part}_{unit}"] for part in ("own", "collected", "end")), strict=True)]
        return {name: _rounded(values) for name, values in found.items()}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]
