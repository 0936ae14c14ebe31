# SPDX-License-Identifier: MIT
"""The section `cold`: how much longer a program takes when nothing is in the page cache, and when each request to the disk takes 0.5 ms as well.

A cold run follows the eviction of everything, a warm run of the same command follows the cold one; their difference is the added time. All contenders take
turns as everywhere. What the measuring process itself has mapped (the interpreter's own pages) cannot be evicted; the row `python -c pass` shows what remains
of it. On the slow disk (slowdisk.py) lie the interpreter, its library, the programs and all caches; what the interpreter links to does not.

Where a daemon watches, it is started after the disk was mounted anew, or before everything is evicted: it has read the directories, and no code.
"""
from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import contenders
import daemon
import moved
import pair
import series
import slowdisk
import workloads
from contenders import Absent, Bench, Contender, Watched
from figures import Figure
from importing import goals, measuring, tables
from moved import Environment, Immovable
from pair import Failed
from plots import Line, Plot
from rows import Cell, Session, cells, describe, say
from sections import Effort, Place, Section
from slowdisk import Unavailable
from stats import Median
from tables import Row, Rows
from workloads import Program

_DROP = Path("/proc/sys/vm/drop_caches")
_CACHES = 200 * 2**20  # room on the slow disk for what contenders write, for each environment

_SHORT = "stock again pycds ladewerk-stat ladewerk-frozen interpreter"


@dataclass(frozen=True)
class Condition:
    """One way of being cold: who is measured, and what is done before each cold run."""

    session: Session
    usual: Bench  # that is not slow: a daemon's own start is to warm nothing of what a program reads
    roots: tuple[Path, ...]  # where a daemon watches
    forget: Callable[[], None]
    requests: Callable[[], int] | None = None  # to the disk, so far
    daemon_first: bool = False  # it is there before everything is forgotten
    disk: slowdisk.Check | None = None  # what a slow one has shown of itself


def evict() -> None:
    os.sync()  # dirty pages would stay
    _DROP.write_text("3")


def cannot_evict() -> str:
    try:
        evict()
    except OSError as error:
        return f"the page cache cannot be dropped ({error.strerror}): needs root, and a machine of its own"
    return ""


# --- conditions -------------------------------------------------------------------------------------------------------

@contextmanager
def _dropped(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
    """Everything is where it is, and nothing of it in memory."""
    if why := cannot_evict():
        raise Unavailable(why)
    session = measuring.session(place)
    yield Condition(session, session.bench, _library(session.bench.python), evict, daemon_first=True)


@contextmanager
def _slow(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
    """All that programs read is on a disk that needs 0.5 ms for a request."""
    session = measuring.session(place)
    if place.programs is None:
        raise Unavailable(f"no slow disk: bench/micro could not be built: {place.no_programs}")
    plan = _plan(session.bench, loads)
    content = slowdisk.Content(plan.stamp, plan.bytes + len(plan.names) * _CACHES, 2 * plan.files + 5000, plan.fill)
    say("  the slow disk")
    with slowdisk.SlowDisk(place.build / "cold-disk", place.programs, content, writable=True, read_ahead=True) as disk:
        check = disk.check()
        bench = _on(disk.root, plan, session.bench)
        plan.check(disk.root, bench.quiet())
        yield Condition(replace(session, bench=bench, ready={}), session.bench, _library(bench.python), disk.forget, disk.requests, disk=check)


def _plan(bench: Bench, loads: Sequence[Program]) -> moved.Plan:
    needs = [name for load in loads for name in load.needs.split()]
    environments = [Environment("programs", bench.python, ["ladewerk", *needs])]
    if bench.pycds_python:
        environments.append(Environment("pycds", bench.pycds_python, ["code-data-share", *needs]))
    return moved.Plan(environments)


def _on(root: Path, plan: moved.Plan, bench: Bench) -> Bench:
    """The same environments on the slow disk, and the state with all caches."""
    state = root / "state"
    (state / "home").mkdir(parents=True, exist_ok=True)
    pycds = plan.python(root, "pycds") if bench.pycds_python else None
    return replace(bench, python=plan.python(root, "programs"), pycds_python=pycds, small_python=None, bare_python=None, enabled_python=None, state=state)


def _library(python: Path) -> tuple[Path, ...]:
    """The directories of its sys.path, for a daemon."""
    code = "import sys; print(*sys.path[1:], sep='\\n')"
    out = pair.run(pair.Command((str(python), "-c", code), {"LADEWERK": "0"})).out
    return tuple(path for line in out.splitlines() if (path := Path(line)).is_dir())


CONDITIONS: dict[str, Callable[[Place, Sequence[Program]], AbstractContextManager[Condition]]] = {"slow": _slow, "dropped": _dropped}


# --- measured ---------------------------------------------------------------------------------------------------------

def run(place: Place, effort: Effort) -> list[Row]:
    end, done = time.monotonic() + effort.seconds, {}
    loads = _loads(place)
    with ExitStack() as stack:
        *rivals, interpreter = _rivals(place)
        rivals += [Watched(daemon.KEY, daemon.LABEL, daemon.socket_path(stack)), interpreter]
        for load in loads:
            for n, rival in enumerate(rivals):
                cell = Cell("cold", load, rival, n == 0, python=place.main.key)
                done[cell.key] = {**describe(cell), "cold": {}, "cold_skipped": {}}
        asked = [key for key in CONDITIONS if key in (place.parts.get("cold") or CONDITIONS)]
        for key in CONDITIONS.keys() - set(asked):
            _missing(key, "not asked for", done)
        for n, key in enumerate(asked):
            seconds = max(0.0, end - time.monotonic()) / (len(asked) - n)
            _under(key, place, loads, rivals, replace(effort, seconds=seconds), done)
    return [_said(row) for row in done.values()]


def _loads(place: Place) -> Sequence[Program]:
    """Short efforts have one of them: nine rounds of both conditions take a minute and a half."""
    if place.effort == "full" or place.chosen:
        return measuring.programs(place, workloads.COLD)
    return measuring.programs(place, workloads.COLD)[-1:]


def _rivals(place: Place) -> list[Contender]:
    return contenders.COLD if place.effort == "full" else contenders.those(_SHORT, contenders.COLD)


def _said(row: Row) -> Row:
    """One that has no samples at all says why."""
    return row if row["cold"] else {**row, "skipped": "; ".join(dict.fromkeys(row["cold_skipped"].values()))}


def _missing(key: str, why: str, done: dict[tuple[str, str, str], Row]) -> None:
    for row in done.values():
        if key not in row["cold"]:
            row["cold_skipped"].setdefault(key, why)


def _under(
    key: str, place: Place, loads: Sequence[Program], rivals: Sequence[Contender], effort: Effort, done: dict[tuple[str, str, str], Row],
) -> None:
    """Fills in what the condition KEY has; or why it is missing, for every row that does not have it yet."""
    end = time.monotonic() + effort.seconds
    try:
        with CONDITIONS[key](place, loads) as condition:
            for n, load in enumerate(loads):
                seconds = max(0.0, end - time.monotonic()) / (len(loads) - n)
                for cell, samples in _measured(condition, key, load, rivals, replace(effort, seconds=seconds)):
                    row = done[cell.key]
                    row["check"] |= cell.check | ({"disk": asdict(condition.disk)} if condition.disk else {})
                    if cell.skipped:
                        row["cold_skipped"][key] = cell.skipped
                    else:
                        row["cold"][key] = samples
    except (Unavailable, Immovable, Failed, OSError) as reason:
        _missing(key, str(reason), done)


def _measured(condition: Condition, key: str, load: Program, rivals: Sequence[Contender], effort: Effort) -> list[tuple[Cell, dict[str, list[float]]]]:
    with ExitStack() as stack:  # who is to attach to a daemon learns with one
        rows = cells(condition.session, "cold", [load], [_attached(stack, condition, rival, load) for rival in rivals])
    say(f"  measure {load.key}, {key}: {effort.rounds} rounds")
    order = [row for row in rows if not row.skipped]
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {row.key: {} for row in rows}
    rng, deadline = random.Random(1), time.monotonic() + effort.seconds
    for done in range(effort.rounds):
        rng.shuffle(order)
        for row in list(order):
            try:
                for name, value in _measure_once(row, condition).items():
                    found[row.key].setdefault(name, []).append(value)
            except Failed as failure:
                row.skipped = str(failure)
                order.remove(row)
        if done + 1 >= pair.MINIMUM and time.monotonic() > deadline:
            break
    return [(row, found[row.key]) for row in rows]


def _measure_once(row: Cell, condition: Condition) -> dict[str, float]:
    """Wall ms of a cold run and of a warm one after it; the requests of the cold one where they are counted."""
    assert row.command is not None
    with _forgotten(condition, row.contender):
        before = condition.requests() if condition.requests else 0
        found = {"cold_ms": round(pair.run(row.command).wall_ms, 3)}
        if condition.requests:
            found["reads"] = condition.requests() - before
        return {**found, "warm_ms": round(pair.run(row.command).wall_ms, 3)}


@contextmanager
def _forgotten(condition: Condition, contender: Contender) -> Iterator[None]:
    with ExitStack() as stack:
        if condition.daemon_first and isinstance(contender, Watched):
            stack.enter_context(_daemon(condition, contender))
        condition.forget()
        if not condition.daemon_first and isinstance(contender, Watched):
            stack.enter_context(_daemon(condition, contender))
        yield


def _daemon(condition: Condition, contender: Watched) -> AbstractContextManager[None]:
    return daemon.running(condition.usual, contender.socket, *condition.roots)


def _attached(stack: ExitStack, condition: Condition, contender: Contender, load: Program) -> Contender:
    """With its daemon at work until STACK ends; one that says why where there can be none."""
    if isinstance(contender, Watched) and not contender.missing(condition.session.bench, load):
        try:
            stack.enter_context(_daemon(condition, contender))
        except (Failed, OSError) as failure:
            return Absent(contender.key, contender.label, f"no daemon: {failure}")
    return contender


# --- what its rows say ------------------------------------------------------------------------------------------------

def _flat(rows: Sequence[Row]) -> list[Row]:
    """A row for each condition, with the wall time of the cold run as its samples."""
    found = []
    for row in rows:
        for key, samples in row.get("cold", {}).items():
            title = f"{row['title']}, {tables.CONDITIONS[key]}"
            found.append({**row, "workload": f"{row['workload']}-{key}", "title": title, "cold_wall_ms": samples["cold_ms"]})
    return found


def part(rows: Sequence[Row]) -> str:
    checks = [slowdisk.Check(**row["check"]["disk"]) for row in rows if "disk" in row.get("check", {})]
    return "\n".join(filter(None, (tables.cold(rows), *map(_disk, checks[:1]))))


def _disk(check: slowdisk.Check) -> str:
    """What it has shown of itself; and whether that is what the headings say of it."""
    said = f"The slow disk answered one reader in {check.one_ms:.2f} ms, and {slowdisk.CLIENTS} of them {check.at_once:.0f} times as often"
    return said + (".\n" if check.holds else ": **not the disk of 0.5 ms a request that it is meant to be**; this machine had no time for it.\n")


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Of the cold run as a whole: what it adds may be nothing, and has no ratio then."""
    flat = _flat(rows)
    there = {row["workload"] for row in flat if row["base"]}
    return series.figures("cold_wall_ms")([row for row in flat if row["workload"] in there])


def plots(rows: Sequence[Row]) -> list[Plot]:
    """What cold caches and slow requests add, in ms; no place for a condition that there was not."""
    main = Rows.of_main(rows)
    cold = main.section("cold")
    places = [(load, key) for key in CONDITIONS for load in main.workloads("cold") if any(row["workload"] == load and key in row.get("cold", {}) for row in cold)]
    names = [f"{main.title('cold', load)}, {tables.CONDITIONS[key]}" for load, key in places]
    lines = []
    for contender, label in {row["contender"]: row["label"] for row in cold}.items():
        there = [(n, Median.of(found)) for n, (load, key) in enumerate(places) if (found := tables.added(main.get("cold", load, contender), key))]
        if there and contender != "again":
            lines.append(Line.of(label, [n for n, _ in there], [median for _, median in there], series.kind(contender)))
    return [Plot("cold", "What cold caches and slow requests add", "", "wall ms more than warm", lines, names=names)] if lines else []


SECTION = Section(
    "cold", "Cold and slow storage", {"headline": Effort(9, 90), "full": Effort(11, 600)}, run, part, plots, figures, goals.cold,
    needs=frozenset({"packages", "pycds", "programs"}), parts=tuple(CONDITIONS),
)
