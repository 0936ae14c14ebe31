# SPDX-License-Identifier: MIT
"""The section `contention`: threads import different modules, the same slow one, a diamond of packages, what is there already, and while another thread reloads.

A run is one process of one contender with one kind of storm, for every number of threads, in an order shuffled in each round and the same for all contenders. Every
run checks what it has imported (storm.py); a contender that fails has no samples.
"""
from __future__ import annotations

import json
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import contenders
import pair
import series
from contenders import Bench
from contention import locks, report, trees
from contention.latencies import histogram, percentiles_us
from contention.trees import Kind
from figures import Figure
from pair import Command, Failed, Sample
from rows import say
from sections import Effort, Interpreter, Place, Section
from tables import Row
from tracing.trace import why_not

T = TypeVar("T")

KEY = "contention"
TRIES = 4
PATIENCE = 60  # seconds: a run takes one or two; threads that wait for each other would take for ever
STORM = Path(__file__).with_name("storm.py")

FEW = (1, 8, 64)
THREADS = {"quick": FEW, "headline": trees.THREADS, "full": trees.THREADS}
THREADS_BESIDE = {"headline": FEW, "full": trees.THREADS}  # of interpreters but the main one
LOCKS = {"quick": (8,), "headline": (8,), "full": (8, 64)}  # numbers of threads whose waits are looked into
LOOKS = {"quick": 1, "headline": 3, "full": 9}  # how often
TAIL = 8  # number of threads whose p99 is a figure


@dataclass(frozen=True)
class Contender:
    key: str
    label: str
    variables: Mapping[str, str]
    options: tuple[str, ...] = ()

    @property
    def is_ladewerk(self) -> bool:
        return self.variables["LADEWERK"] == "1"


def _ladewerk(freshness: str) -> Contender:
    return Contender(f"ladewerk-{freshness}", f"Ladewerk, {freshness}", {"LADEWERK": "1", "LADEWERK_FRESHNESS": freshness}, ("reload-by=ladewerk",))


_OFF = {"LADEWERK": "0"}
STOCK, AGAIN = Contender("stock", "stock", _OFF), Contender("again", "stock again (control)", _OFF)
GC = Contender("gc", "stock, gc.disable()", _OFF, ("gc-off",))
STAT, FROZEN = _ladewerk("stat"), _ladewerk("frozen")


def rivals(kind: Kind, effort: str) -> list[Contender]:
    """The first is the base."""
    return [STOCK, AGAIN, *([GC] if kind is trees.DIFFERENT and effort != "quick" else []), STAT, FROZEN]


@dataclass(frozen=True)
class Site:
    """One interpreter, and where its runs leave things."""

    python: Interpreter
    bench: Bench
    plans: Mapping[str, Path]
    state: Path
    missing: str  # why Ladewerk cannot take part; "": it can
    untraced: str  # why `ladewerk trace` cannot

    @classmethod
    def of(cls, place: Place, python: Interpreter, plans: Mapping[str, Path]) -> Site:
        bench = contenders.bench(place, python)
        (state := bench.state / KEY).mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(python, bench, plans, state, contenders.ladewerk_missing(bench), why_not(python, _tracer(python), "--sched"))

    @property
    def trace(self) -> Path:
        return self.state / "trace.json"

    def samples(self, contender: Contender) -> Path:
        return self.state / f"samples-{contender.key}"

    def command(self, kind: Kind, contender: Contender, counts: Iterable[int], *options: str) -> Command:
        what = (str(STORM), str(self.plans[kind.key]), str(self.samples(contender)), ",".join(map(str, counts)))
        env = {**self.bench.env(), "LADEWERK_CACHE": str(self.state), **contender.variables}
        return Command((str(self.python.python), "-P", *what, *contender.options, *options), env)

    def traced(self, command: Command) -> Command:
        return locks.tracing(command, _tracer(self.python), self.trace)


def _tracer(python: Interpreter) -> Path:
    return python.python.with_name("ladewerk-trace")


def answer(contender: Contender, sample: Sample) -> dict[str, Any]:
    """What a run said. Failed: it is not what it is said to be."""
    said: dict[str, Any] = json.loads(sample.out.splitlines()[-1])
    if contender.is_ladewerk and not (said["stats"] and said["stats"]["active"]):
        raise Failed(f"Ladewerk was not active: {said['stats'] and said['stats']['reason']}")
    return said


@dataclass
class Cell:
    """A contender with so many threads: lists in the order of the rounds."""

    imports: int = 0
    samples: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def take(self, storm: Mapping[str, Any], times: array[int]) -> None:
        self.imports = storm["imports"]
        values = {"wall_ms": storm["wall_ns"] / 1e6, "cpu_ms": storm["cpu_ns"] / 1e6, **percentiles_us(times), "max_us": max(times) / 1e3}
        if storm["reloads"] is not None:
            values["reloads"] = storm["reloads"]
        for name, value in values.items():
            self.samples.setdefault(name, []).append(round(value, 4))
        self.counts += histogram(times)


def tried(run: Callable[[], T], failures: list[str]) -> T:
    """What RUN returns, of which a few may fail: stock itself does, now and then, where there is no GIL (a package that has just been executed is not in sys.modules
    for a moment). FAILURES get what is not raised."""
    for _ in range(TRIES - 1):
        try:
            return run()
        except Failed as failure:
            failures.append(str(failure))
    return run()


@dataclass
class Runner:
    """A contender on its way through the rounds."""

    contender: Contender
    skipped: str
    cells: dict[int, Cell] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def run(self, command: Command, file: Path | None = None) -> None:
        """COMMAND, which leaves its samples in FILE; without, they are not looked at."""
        def once() -> None:
            said = answer(self.contender, pair.run(command, PATIENCE))
            if file:
                self._take(said, file)

        try:
            tried(once, self.failures)
        except Failed as failure:
            self.skipped = str(failure)

    def _take(self, said: Mapping[str, Any], file: Path) -> None:
        with file.open("rb") as stream:
            for storm in said["storms"]:
                times = array("Q")
                times.fromfile(stream, storm["imports"])
                self.cells.setdefault(storm["threads"], Cell()).take(storm, times)
        self.check = {"gil": said["gil"], "clock_ns": said["clock_ns"], **({"aside": said["stats"]["aside"]} if self.contender.is_ladewerk else {})}


class Measurement:
    """One kind of storm on one interpreter."""

    def __init__(self, site: Site, kind: Kind, place: Place) -> None:
        self.site, self.kind = site, kind
        self.counts = (THREADS if site.python is place.main else THREADS_BESIDE)[place.effort]
        self.rng = random.Random(f"{place.seed}-{kind.key}")
        self.runners = {one.key: Runner(one, site.missing if one.is_ladewerk else "") for one in rivals(kind, place.effort)}

    def _round(self, runners: Sequence[Runner], timed: bool = True) -> None:
        order = self.rng.sample(self.counts, len(self.counts))
        for runner in self.rng.sample(runners, len(runners)):
            if not runner.skipped:
                runner.run(self.site.command(self.kind, runner.contender, order), self.site.samples(runner.contender) if timed else None)

    def warm(self) -> None:
        """Byte code is written, Ladewerk learns, and shows that it has."""
        for key in ("stock", "ladewerk-stat", "ladewerk-stat", "ladewerk-frozen"):
            self._round([self.runners[key]], timed=False)

    def measure(self, effort: Effort) -> None:
        until = time.monotonic() + effort.seconds
        for done in range(effort.rounds):
            self._round(list(self.runners.values()))
            if done + 1 >= pair.MINIMUM and time.monotonic() > until:
                break

    def rows(self) -> list[Row]:
        return [self._row(runner, count) for count in self.counts for runner in self.runners.values()]

    def _row(self, runner: Runner, count: int) -> Row:
        row = described(self.site.python, self.kind, runner.contender, count)
        if runner.skipped:
            return {**row, "skipped": runner.skipped}
        cell = runner.cells[count]
        if runner.failures:
            row["failures"] = runner.failures
        counts = {str(least): cell.counts[least] for least in sorted(cell.counts)}
        return {**row, "imports": cell.imports, "check": runner.check, **cell.samples, "histogram_ns": counts}


def described(python: Interpreter, kind: Kind, contender: Contender, threads: int, more: str = "") -> Row:
    return {
        "section": KEY, "python": python.key, "workload": f"{kind.key}-{threads}{more}", "title": f"{kind.title}: {threads} threads",
        "contender": contender.key, "label": contender.label, "base": contender is STOCK, "check": {}, "kind": kind.key, "kind_title": kind.title, "threads": threads,
    }


def chosen(place: Place) -> list[Interpreter]:
    """The main interpreter; the first one without a GIL as well, unless there is little time; all, if there is enough."""
    others = [python for python in place.pythons if python is not place.main]
    if place.effort == "full":
        return [place.main, *others]
    return [place.main, *[python for python in others if python.free_threaded][:place.effort == "headline"]]


def _without(place: Place) -> list[Row]:
    """A row that says so if nobody runs without a GIL."""
    if place.effort == "quick" or any(python.free_threaded for python in place.pythons):
        return []
    return [{
        "section": KEY, "python": "", "workload": "free-threaded", "title": "without a GIL", "contender": "stock", "label": "stock", "base": True, "check": {},
        "skipped": "no free-threaded Python (3.13t or later) was found; --python names one",
    }]


def _look(site: Site, kind: Kind, contender: Contender, count: int) -> dict[str, dict[str, float]]:
    """What threads waited for, once; by who says so. Nothing is timed."""
    command = site.command(kind, contender, [count], "probes")
    said = tried(lambda: answer(contender, pair.run(command if site.untraced else site.traced(command), PATIENCE)), [])
    found = {"probes": locks.probed(said["storms"][0])}
    return found if site.untraced else {**found, "traced": locks.sums(site.trace.read_text().splitlines())}


def _waits(site: Site, kind: Kind, contender: Contender, count: int, looks: int) -> Row:
    row = {**described(site.python, kind, contender, count, "-locks"), "why_not_traced": site.untraced}
    if contender.is_ladewerk and site.missing:
        return {**row, "skipped": site.missing}
    try:
        found = [_look(site, kind, contender, count) for _ in range(looks)]
    except Failed as failure:
        return {**row, "skipped": str(failure)}
    return {**row, **{who: {name: [one[who][name] for one in found] for name in found[0][who]} for who in found[0]}}


def _measured(site: Site, kind: Kind, place: Place, effort: Effort) -> list[Row]:
    until = time.monotonic() + effort.seconds
    measurement = Measurement(site, kind, place)
    measurement.warm()
    counts = () if kind is trees.THERE else LOCKS[place.effort]
    waits = [_waits(site, kind, contender, count, LOOKS[place.effort]) for contender in (STOCK, STAT, FROZEN) for count in counts]
    measurement.measure(Effort(effort.rounds, until - time.monotonic()))
    return measurement.rows() + waits


def _weight(kind: Kind) -> int:
    """Of the time: modules that differ are the most, and one contender more imports them."""
    return 2 if kind is trees.DIFFERENT else 1


def run(place: Place, effort: Effort) -> list[Row]:
    until = time.monotonic() + effort.seconds
    plans = trees.generate(place.build / KEY, place.seed)
    sites = [Site.of(place, python, plans) for python in chosen(place)]
    parts = [(site, kind) for site in sites for kind in trees.KINDS if place.effort != "quick" or kind is not trees.THERE]
    rows = []
    for done, (site, kind) in enumerate(parts):
        say(f"  {site.python.key}: {kind.title}")
        left = sum(_weight(other) for _, other in parts[done:])
        share = (until - time.monotonic()) * _weight(kind) / left
        rows += _measured(site, kind, place, Effort(effort.rounds, share))
    return rows + _without(place)


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Tails are noisy: one for each kind of storm is enough for whoever compares reports."""
    tails = [row for row in rows if row.get("threads") == TAIL and row["kind"] != trees.THERE.key]
    return [*series.figures("wall_ms")(rows), *series.figures("p99_us")(tails)]


SECTION = Section(
    KEY,
    "Many threads",
    {"quick": Effort(9, 30), "headline": Effort(9, 145), "full": Effort(21, float("inf"))},
    run,
    report.part,
    report.plots,
    figures,
    needs=frozenset({"pythons"}),
)
