# SPDX-License-Identifier: MIT
"""What the import sections are to reach, by the main interpreter."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from goals import Goal
from importing.tables import CONDITIONS, added, apart_from_interpreter, over_floor, private_kb, shared_cache, times_less
from stats import Median, differences, extreme, middle_ratio
from tables import Row, Rows

Found = tuple[Median | float, str]  # what was measured, and of which program
Worst = tuple[Median | float | None, str]  # the one that decides; None: there is none

_ONE_LINE = "one-line module, over executing it, CPython's module lock apart"


def startup(rows: Sequence[Row]) -> list[Goal]:
    main = Rows.of_main(rows)

    def over(contender: str) -> Median | None:
        row, base = (main.get("startup", "pass", key) for key in (contender, "stock"))
        return differences(row["wall_ms"], base["wall_ms"]) if "wall_ms" in row and "wall_ms" in base else None

    return [
        Goal("`ladewerk run -c pass` over `python -c pass`: wall ms", "<= 3", lambda v: v <= 3, over("run-stat")),
        Goal("`python -c pass` with Ladewerk enabled, over without: wall ms", "<= 0.5", lambda v: v <= 0.5, over("enabled")),
    ]


def paths(rows: Sequence[Row]) -> list[Goal]:
    main, field = Rows.of_main(rows), "inside_wall_ms"
    stat, frozen = (("paths", "entries-1000", f"ladewerk-{mode}") for mode in ("stat", "frozen"))
    faster = main.ratio(field, ("paths", "entries-1000", "stock"), stat)
    thousand = main.ratio(field, frozen, ("paths", "entries-1", "ladewerk-frozen"))
    return [
        Goal("200 modules behind 1000 path entries, `stat`: times faster than stock", ">= 50", lambda v: v >= 50, faster),
        Goal("the same, `frozen`: 1000 entries against 1", "<= 1.1", lambda v: v <= 1.1, thousand),
    ]


def modules(rows: Sequence[Row]) -> list[Goal]:
    main = Rows.of_main(rows)

    def over(contender: str) -> Median | None:
        row, floor, lock = (main.get("modules", "oneline", key) for key in (contender, "floor", "lock"))
        if "skipped" in row or "skipped" in floor or "skipped" in lock:
            return None
        return over_floor(row, floor, lock)[-1].scaled(1000 / row["count"])

    return [
        Goal(f"{_ONE_LINE}, `stat`: us", "<= 5", lambda v: v <= 5, over("ladewerk-stat")),
        Goal(f"{_ONE_LINE}, `frozen`: us", "<= 3", lambda v: v <= 3, over("ladewerk-frozen")),
    ]


def syscalls(rows: Sequence[Row]) -> list[Goal]:
    def calls(contender: str) -> float | None:
        row = Rows.of_main(rows).get("syscalls", "oneline", contender)
        return round(sum(row["calls"].values(), 0.0), 2) if "calls" in row else None

    return [
        Goal("system calls per submodule, `stat`", "<= 2", lambda v: v <= 2, calls("ladewerk-stat")),
        Goal("system calls per submodule, `frozen`", "0", lambda v: v < 0.02, calls("ladewerk-frozen")),  # what the run itself takes, shared out
    ]


def memory(rows: Sequence[Row]) -> list[Goal]:
    text = "16 forked children, looked at once: part of the cache's pages that they share, worst"
    return [Goal(text, ">= 0.99", lambda v: v >= 0.99, shared_cache(Rows.of_main(rows)))]


def programs(rows: Sequence[Row]) -> list[Goal]:
    main = Rows.of_main(rows)
    return [goal for mode in ("stat", "frozen") for goal in _programs(main, f"ladewerk-{mode}", f"programs, `{mode}`")]


def _programs(rows: Rows, key: str, name: str) -> list[Goal]:
    def worst(field: str, base: str) -> Worst:
        return _extreme(_of(rows, field, key, base), max)

    def goal(text: str, wanted: str, met: Callable[[float], bool], found: Worst) -> Goal:
        return Goal(f"{name}: {text}", wanted, met, *found)

    return [
        Goal(f"{name}: process CPU of stock, median", "<= 0.80", lambda v: v <= 0.80, _middle(rows, "cpu_ms", key, "stock")),
        goal("process CPU of stock, worst", "<= 0.90", lambda v: v <= 0.90, worst("cpu_ms", "stock")),
        goal("process CPU of stock with `gc.disable()`, worst", "< 1", lambda v: v < 1, worst("cpu_ms", "gc")),
        goal("process CPU of PyCDS, worst", "<= 1", lambda v: v <= 1, worst("cpu_ms", "pycds")),
        goal("process CPU of the floor for this design, worst", "<= 1.1", lambda v: v <= 1.1, worst("cpu_ms", "packfloor")),
        goal("RSS of stock, worst", "<= 1.1", lambda v: v <= 1.1, worst("rss_mb", "stock")),
        goal("private memory of stock, looked at once, worst", "<= 1.1", lambda v: v <= 1.1, _extreme(_private(rows, key), max)),
    ]


def _of(rows: Rows, field: str, key: str, base: str) -> list[Found]:
    """Of every program that both ran."""
    found = [(rows.ratio(field, ("programs", load, key), ("programs", load, base)), load) for load in rows.workloads("programs")]
    return [(ratio, load) for ratio, load in found if ratio]


def _middle(rows: Rows, field: str, key: str, base: str) -> Median | None:
    pairs = [[rows.get("programs", load, who).get(field) for who in (key, base)] for load in rows.workloads("programs")]
    found = [(of, to) for of, to in pairs if of and to]
    return middle_ratio(found) if found else None


def _private(rows: Rows, key: str) -> list[Found]:
    found: list[Found] = []
    for load in rows.workloads("programs"):
        here, stock = (private_kb(rows.get("programs", load, who)) for who in (key, "stock"))
        if here and stock:
            found.append((here / stock, load))
    return found


def _extreme(found: Sequence[Found], pick: Callable[..., Any]) -> Worst:
    """The worst of them, and whose it is."""
    if not found:
        return None, ""
    worst, whose = pick(found, key=lambda one: one[0].value if isinstance(one[0], Median) else one[0])
    medians = [median for median, _ in found if isinstance(median, Median)]
    return extreme(medians, pick) if isinstance(worst, Median) else worst, whose


def _at_least(bound: float) -> Callable[[float], bool]:
    return lambda value: value >= bound


def cold(rows: Sequence[Row]) -> list[Goal]:
    main = Rows.of_main(rows)
    return [
        Goal(
            f"{name}, `{mode}`: time added{', interpreter apart' * apart}, times less than stock, worst", f">= {times}",
            _at_least(times), *_extreme(_times_less(main, f"ladewerk-{mode}", condition, apart), min),
        )
        for mode, times in (("stat", 3), ("frozen", 8)) for condition, name in CONDITIONS.items() for apart in (False, True)
    ]


def _times_less(rows: Rows, contender: str, condition: str, apart: bool) -> list[Found]:
    found: list[Found] = []
    for load in rows.workloads("cold"):
        pair = [rows.get("cold", load, who) for who in ("stock", contender)]
        stock, here = (apart_from_interpreter(rows, row, condition) if apart else added(row, condition) for row in pair)
        if (times := times_less(stock, here)) is not None:
            found.append((times, load))
    return found
