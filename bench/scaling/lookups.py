# SPDX-License-Identifier: MIT
"""Curves of the C library's registry beside other tables (micro/registry.c): against names, and against threads."""
from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pair
import registry
from pair import Command, Failed
from rows import say
from scaling.curves import row_of
from sections import Effort, Place
from tables import Row

NAMES = {"quick": (100, 10_000), "headline": (100, 1000, 10_000, 100_000), "full": (100, 1000, 10_000, 100_000, 1_000_000)}
THREADS = (1, 2, 8)  # those of micro/registry.c
_MS = 5  # of each sample: some 50,000 look-ups
BASE = ("mutex", "mutex and hash table")
# As micro/registry.c names them -> (key, label)
_WHO = {
    "mutex + hash": BASE, "rwlock + hash": ("rwlock", "rwlock and hash table"), "rculfhash (memb)": ("rculfhash", "liburcu's rculfhash"),
    "PyDict (GIL)": ("dict", "dict of dicts, with the GIL"), "ladewerk": ("ladewerk", "Ladewerk"),
    "ladewerk, delta in front": ("ladewerk-delta", "Ladewerk, a delta in front"), "enter and exit alone": ("floor", "floor: enter and exit alone"),
}
_AGAIN = ("again", f"{BASE[1]} again (control)")

Samples = dict[tuple[tuple[str, str], int, int], list[registry.Sample]]  # by contender, threads, names


def _run(program: Path, names: int, first: int, *contender: str) -> registry.Samples:
    """One round, in which another one begins each time."""
    out = pair.run(Command((str(program), str(names), "1", str(_MS), str(first), *contender), {"PATH": "/usr/bin:/bin"}), 600).out
    return registry.parse(out.splitlines())


def _measure(program: Path, sizes: Sequence[int], effort: Effort, seed: int) -> Samples:
    """Sizes take turns; within one of them contenders do, in one process. The base is measured in a process more."""
    found: Samples = {}
    rng, end = random.Random(seed), time.monotonic() + effort.seconds
    order = list(sizes)
    base = next(name for name, who in _WHO.items() if who == BASE)
    for done in range(effort.rounds):
        rng.shuffle(order)
        for names in order:
            for seen, again in ((_run(program, names, done), False), (_run(program, names, done, base), True)):
                for (name, threads, swaps), samples in seen.items():
                    if swaps == 0 and name in _WHO:  # the program's own control is of Ladewerk, not of the base
                        found.setdefault((_AGAIN if again else _WHO[name], threads, names), []).extend(samples)
        if done + 1 >= pair.MINIMUM and time.monotonic() > end:
            break
    return found


def _row(place: Place, curve: str, x: int, who: tuple[str, str], samples: Sequence[registry.Sample]) -> Row:
    more = {"cpu_ns": [round(s.cpu, 3) for s in samples], "wall_ns": [round(s.wall_ns / s.lookups, 3) for s in samples]}
    return row_of(place.main.key, curve, x, who, who == BASE, more)


def run(place: Place, effort: Effort) -> list[Row]:
    """The curve `lookup`, with one thread, and `threads`, with the most names."""
    sizes = NAMES[place.effort]
    program = place.programs / "bench_registry" if place.programs else None
    if program is None:
        return _skipped(place, sizes, f"bench/micro could not be built: {place.no_programs}")
    say(f"  measure look-ups: {effort.rounds} rounds")
    try:
        found = _measure(program, sizes, effort, place.seed)
    except (Failed, OSError) as failure:
        return _skipped(place, sizes, str(failure))
    lookup = [_row(place, "lookup", names, who, samples) for (who, threads, names), samples in found.items() if threads == 1]
    return lookup + [_row(place, "threads", threads, who, samples) for (who, threads, names), samples in found.items() if names == max(sizes)]


def _skipped(place: Place, sizes: Sequence[int], why: str) -> list[Row]:
    places = [*(("lookup", names) for names in sizes), *(("threads", threads) for threads in THREADS)]
    return [row_of(place.main.key, curve, x, who, who == BASE, {"skipped": why}) for curve, x in places for who in (BASE, _WHO["ladewerk"])]
