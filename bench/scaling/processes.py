# SPDX-License-Identifier: MIT
"""Curves of whole processes that import: with many path entries, with an index of many modules, with many modules loaded."""
from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import contenders
import corpus
import daemon
import pair
import workloads
from contenders import Contender
from importing import measuring
from pair import Command
from rows import Cell, Session, cells, row_json, say, time_rows
from scaling import trees
from scaling.curves import row_of
from sections import Effort, Place
from tables import Row
from workloads import ImportLoop

ENTRIES = {"quick": (1, 1000), "headline": (1, 30, 300, 2000), "full": (1, 3, 10, 30, 100, 300, 1000, 2000)}
INDEXED = {"quick": (100, 10_000), "headline": (100, 1000, 10_000, 100_000), "full": (100, 1000, 10_000, 100_000, 1_000_000)}
LOADED = {"quick": (10, 1000), "headline": (10, 100, 1000, 5000), "full": (10, 100, 1000, 5000, 20_000)}
BEHIND = 40  # modules that are imported in the last path entry
BATCH = 50  # modules that are imported when so many are loaded; in LOADED there is room for them between one and the next

_KEYS = "stock again dictfinder ladewerk-stat ladewerk-frozen"


def _rivals(*more: Contender) -> list[Contender]:
    return [*contenders.those(_KEYS, contenders.PATHS), *more]


def _session(place: Place) -> Session:
    """Trees of our own: nothing of what other sections have warmed is meant."""
    return replace(measuring.session(place), ready={})


def _rows(curve: str, place: Place, x_of: dict[str, int], timed: Sequence[Cell]) -> list[Row]:
    """A cell each, at the x of its workload."""
    found = []
    for cell in timed:
        who = (cell.contender.key, cell.contender.label)
        found.append(row_of(place.main.key, curve, x_of[cell.workload.key], who, cell.base, row_json(cell)))
    return found


# --- path entries -----------------------------------------------------------------------------------------------------

def entries(place: Place, effort: Effort) -> list[Row]:
    """All modules are in the last entry: each of those before it has to be asked, or known not to have them."""
    xs = ENTRIES[place.effort]
    tree = corpus.generate(place.build / "scaling-entries", corpus.Shape(place.seed, max(ENTRIES["full"]), BEHIND, 1))
    loops = [replace(loop, key=f"scaling-{loop.key}") for loop in workloads.path_loops(tree, xs)[:-1]]
    session = _session(place)
    with ExitStack() as stack:
        rows = cells(session, "scaling", loops, _rivals(daemon.watched(stack, session.bench, tree.entries_root)))
        say(f"  measure path entries: {effort.rounds} rounds")
        time_rows(rows, effort)
    return _rows("entries", place, {loop.key: x for loop, x in zip(loops, xs, strict=True)}, rows)


# --- modules that are indexed -----------------------------------------------------------------------------------------

def indexed(place: Place, effort: Effort) -> list[Row]:
    """Trees of N modules, of which a process imports trees.WANTED: what the others cost it. The start of the interpreter is in it."""
    session, rows = _session(place), []
    xs = INDEXED[place.effort]
    with ExitStack() as stack:
        for x in xs:
            say(f"  tree of {x:,} modules")
            root = trees.modules(place.build / "scaling-indexed" / str(x), x)
            loop = ImportLoop(f"scaling-indexed-{x}", f"{x:,} modules indexed", corpus.literal(root), 0, 1, trees.WANTED_NAME, trees.WANTED)
            rivals = _rivals(daemon.watched(stack, session.bench, root))
            _index(session.bench, loop, root, [rival for rival in rivals if isinstance(rival, contenders.Ladewerk)])
            rows += cells(session, "scaling", [loop], rivals)
        say(f"  measure modules indexed: {effort.rounds} rounds")
        time_rows(rows, effort)
    return _rows("indexed", place, {f"scaling-indexed-{x}": x for x in xs}, rows)


def _index(bench: contenders.Bench, loop: ImportLoop, root: Path, ours: Sequence[contenders.Ladewerk]) -> None:
    """All of the tree, into the caches of OURS; it is read once."""
    if contenders.ladewerk_missing(bench):
        return
    first, *others = (contender.cache(bench, loop) for contender in ours)
    env = {**bench.env(), "LADEWERK_CACHE": str(first), "LADEWERK_WATCH": "0"}
    pair.run(Command((str(bench.python.with_name("ladewerk")), "index", "--quiet", str(root)), env, discard=True), 1800)
    for other in others:
        shutil.copytree(first, other, dirs_exist_ok=True)


# --- modules that are loaded ------------------------------------------------------------------------------------------

_GROWING = """\
import sys, time
sys.path[1:1] = [{root!r}]
import one
at = 0
for size in {sizes!r}:
    while at < size:
        __import__({name!r}.format(at))
        at += 1
    names = [{name!r}.format(i) for i in range(at, at + {batch})]
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for name in names:
        __import__(name)
    cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    at += {batch}
    print("@loaded", size, wall, cpu)
"""


@dataclass(frozen=True)
class Growing(ImportLoop):
    """One process that loads more and more modules by the contender's own imports, and times BATCH of them whenever there are as many as SIZES says."""

    sizes: tuple[int, ...] = ()

    def code(self, count: int | None = None) -> str:
        return _GROWING.format(root=self.path[0], sizes=self.sizes, name=self.name, batch=BATCH)


def loaded_times(out: str) -> dict[int, tuple[int, int]]:
    """size -> (wall, CPU) in ns, as a Growing process prints them."""
    lines = (line.split()[1:] for line in out.splitlines() if line.startswith("@loaded "))
    return {int(size): (int(wall), int(cpu)) for size, wall, cpu in lines}


def loaded(place: Place, effort: Effort) -> list[Row]:
    sizes = LOADED[place.effort]
    most = max(sizes) + BATCH
    tree = corpus.generate(place.build / "scaling-loaded", corpus.Shape(place.seed, 1, 1, most))
    loop = Growing("scaling-loaded", "modules loaded", tree.oneline_pattern, 0, 1, tree.ONELINE, most, sizes)
    gc = contenders.those("gc", contenders.PROGRAMS)
    rows = cells(_session(place), "scaling", [loop], _rivals(*gc))
    say(f"  measure modules loaded: {effort.rounds} rounds")
    time_rows(rows, effort)
    return [row for cell in rows for row in _by_size(place, cell, sizes)]


def _by_size(place: Place, cell: Cell, sizes: Sequence[int]) -> list[Row]:
    """A row for each size, of the same processes."""
    times = [loaded_times(sample.out) for sample in cell.samples]
    more = {name: value for name, value in row_json(replace(cell, samples=[])).items() if name in ("check", "skipped")}
    found = []
    for size in sizes:
        samples = {} if cell.skipped else {
            "count": BATCH,
            "inside_wall_ms": [round(each[size][0] / 1e6, 5) for each in times],
            "inside_cpu_ms": [round(each[size][1] / 1e6, 5) for each in times],
        }
        found.append(row_of(place.main.key, "loaded", size, (cell.contender.key, cell.contender.label), cell.base, {**more, **samples}))
    return found
