# SPDX-License-Identifier: MIT
"""What tracing costs: `ladewerk trace` beside -X importtime, bpftrace and py-spy; trace.sh prepares what it needs.

Whole processes take turns, in an order shuffled in each round; a target counts its own CPU time, in which the probes are; ratios and differences are formed within a round. A
tracer is started and ended anew for each run of a target.
"""
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import corpus
import machine
from pair import Command, Failed, Sample, rounds
from stats import Median, differences, ratios
from tracing.tracers import Bpftrace, Floor, ImportTime, Ladewerk, Nobody, PySpy, TracedCommand, Tracer, Watcher
from workloads import SYMPY, inside, oneline_loop, timed

SECTIONS = ("modules", "sympy", "cached", "switches", "attach")
CACHED, TURNS = 1_000_000, 20_000

# Two threads wake each other: as many switches as there can be, by the locks whose waits take most to tell apart.
TURN = """\
import threading
def turns(count):
    ask, answer = threading.Lock(), threading.Lock()
    ask.acquire(), answer.acquire()
    def other():
        for _ in range(count):
            ask.acquire()
            answer.release()
    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(count):
        ask.release()
        answer.acquire()
    thread.join()
"""


@dataclass(frozen=True)
class Load:
    """What a target does; CODE prints what it took."""

    title: str
    code: str
    per: int  # of how many things a figure is
    unit: str
    scale: float  # ns
    imports: int = 0  # a tracer of imports must see so many at least
    added: bool = False  # what is more than without a tracer matters, not the ratio


@dataclass
class Row:
    watcher: Watcher
    samples: list[Sample]
    missing: str = ""
    seen: int = 0  # imports, in one run that was not timed

    @property
    def cpu(self) -> list[float]:
        return [inside(sample.out)[1] for sample in self.samples]

    @property
    def all_cpu_ms(self) -> list[float]:
        """Target and tracer. Some tracers are the target's parent, and in its figure already."""
        own = [run.cpu_ms for run in self.watcher.seen] if isinstance(self.watcher, Tracer) else [0.0] * len(self.samples)
        return [sample.cpu_ms + mine for sample, mine in zip(self.samples, own, strict=True)]


@dataclass(frozen=True)
class Place:
    """Where everything is. TARGET: an interpreter that nobody else uses, so that nobody else is traced."""

    target: Path
    env: Mapping[str, str]
    out: Path
    count: int


# --- runs ---


def measured(place: Place, load: Load, watchers: Iterable[Watcher], python: Path | None = None) -> list[Row]:
    rows = {watcher.name: Row(watcher, []) for watcher in watchers}
    argv = (str(python or place.target), "-I", "-c", load.code)
    commands = {name: Command(row.watcher.wrapped(argv, place.out), place.env) for name, row in rows.items()}

    def around(name: str) -> AbstractContextManager[None]:
        return rows[name].watcher.beside(place.out)

    def fails(name: str, failure: Failed) -> None:
        rows[name].missing, rows[name].samples = str(failure), []

    rounds(dict.fromkeys(["byte code"], Command(argv, place.env)), 1)
    for name, command in list(commands.items()):
        rounds({name: command}, 1, on_failure=fails, around=around)
        row = rows[name]
        if not row.missing and row.watcher.sees_imports and load.imports:
            row.seen = row.watcher.imports(place.out)
            if row.seen < load.imports:
                row.missing = f"saw {row.seen} of {load.imports} imports"
        if isinstance(row.watcher, Tracer):
            row.watcher.seen.clear()
    done = rounds({name: command for name, command in commands.items() if not rows[name].missing}, place.count, on_failure=fails, around=around)
    for name, samples in done.items():
        rows[name].samples = samples
    return list(rows.values())


def show(load: Load, rows: list[Row]) -> None:
    """The first row is the base."""
    base = rows[0].cpu
    print(f"\n| {load.title} | {load.unit} | {'more than with nobody' if load.added else 'of nobody'} [95 %] | target and tracer, CPU ms | imports seen | lost |\n|---|---|---|---|---|---|")
    for row in rows:
        if row.missing:
            print(f"| {row.watcher.name} | | {row.missing} | | | |")
            continue
        values = [ns / load.per / load.scale for ns in row.cpu]
        if load.added:
            found = differences(values, [ns / load.per / load.scale for ns in base])
            text = f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        else:
            text = ratio_text(ratios(row.cpu, base))
        lost = sum(run.lost for run in row.watcher.seen) if isinstance(row.watcher, Ladewerk) else ""
        print(f"| {row.watcher.name} | {Median.of(values).value:.4g} | {text} | {statistics.median(row.all_cpu_ms):.4g} | {row.seen or ''} | {lost} |", flush=True)


def ratio_text(ratio: Median) -> str:
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


# --- starting and ending a tracer ---


class Idle:
    """A process with sympy in it, that waits."""

    def __init__(self, place: Place) -> None:
        self.process = subprocess.Popen([str(place.target), "-I", "-c", f"{SYMPY.text}print(flush=True)\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=place.env)
        self.process.stdout.readline()

    def __enter__(self) -> int:
        return self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.communicate(b"\n")


def attached(place: Place, tracers: list[Tracer]) -> list[Row]:
    """Nobody imports: only they themselves count."""
    rows = [Row(tracer, []) for tracer in tracers]
    with Idle(place) as pid:
        for turn in range(place.count):
            for row in rows[turn % len(rows):] + rows[:turn % len(rows)]:
                try:
                    if not row.missing:
                        with row.watcher.beside(place.out, pid):
                            pass
                except (Failed, OSError) as failure:
                    row.missing = str(failure)
    return rows


def show_attached(rows: list[Row]) -> None:
    print("\n| to a process with sympy, which waits | attach, ms | detach, ms | CPU of the tracer, ms | peak memory, MiB | kernel maps, MiB |\n|---|---|---|---|---|---|")
    for row in rows:
        if row.missing:
            print(f"| {row.watcher.name} | {row.missing} | | | | |")
            continue
        figures = [Median.of([value(run) for run in row.watcher.seen]) for value in FIGURES]
        print(f"| {row.watcher.name} | " + " | ".join(f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]" for figure in figures) + " |", flush=True)


FIGURES = (
    lambda run: run.attach_ms,
    lambda run: run.detach_ms,
    lambda run: run.cpu_ms,
    lambda run: run.peak_kib / 1024,
    lambda run: run.maps_kib / 1024,
)


# --- goals ---


class Goals:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def judge(self, what: str, row: Row, most: float, found: Callable[[Row], Median]) -> None:
        if row.missing:
            self.lines.append(f"| {what} | <= {most:g} | | not measured: {row.missing} |")
            return
        value = found(row)
        verdict = "met" if value.high <= most else "**missed**" if value.low > most else "not decided: it is within the interval"
        self.lines.append(f"| {what} | <= {most:g} | {value.value:.4g} [{value.low:.4g}, {value.high:.4g}] | {verdict} |")

    def show(self) -> None:
        if self.lines:
            print("\n| goal | | measured [95 %] | |\n|---|---|---|---|")
            print(*self.lines, sep="\n")


def more_us(base: Row, load: Load) -> Callable[[Row], Median]:
    return lambda row: differences([ns / load.per / 1e3 for ns in row.cpu], [ns / load.per / 1e3 for ns in base.cpu])


def times(base: Row) -> Callable[[Row], Median]:
    return lambda row: ratios(row.cpu, base.cpu)


def of_runs(figure: Callable[..., float]) -> Callable[[Row], Median]:
    return lambda row: Median.of([figure(run) for run in row.watcher.seen])


# --- sections ---


class Bench:
    def __init__(self, options: argparse.Namespace, place: Place) -> None:
        self.options, self.place, self.goals = options, place, Goals()

    def controls(self, idle: int) -> list[Watcher]:
        return [Nobody("nobody, again"), Floor(self.options.ladewerk_trace, self.place.target, idle)]

    def spans(self) -> Ladewerk:
        return Ladewerk(self.options.ladewerk_trace, self.place.target, "--no-sched")

    def all(self) -> Ladewerk:
        return Ladewerk(self.options.ladewerk_trace, self.place.target)

    def rivals(self) -> list[Watcher]:
        found: list[Watcher] = [ImportTime()]
        if self.options.bpftrace:
            found.append(Bpftrace(self.options.bpftrace, self.place.target))
        if self.options.py_spy:
            found.append(PySpy(self.options.py_spy))
        return found

    def table(self, load: Load, watchers: list[Watcher], python: Path | None = None) -> list[Row]:
        rows = measured(self.place, load, [Nobody(), *watchers], python)
        show(load, rows)
        return rows

    def modules(self, top: Path) -> None:
        loop = oneline_loop(corpus.generate(top / "corpus", corpus.Shape(entries=1, modules=1)))
        load = Load(loop.title, loop.code(), loop.count, "CPU us each", 1e3, loop.count + 1, added=True)
        with Idle(self.place) as idle:
            nobody, spans, *_ = self.table(load, [self.spans(), self.all(), *self.controls(idle), *self.rivals()])
        self.goals.judge("spans: CPU us per module", spans, 2, more_us(nobody, load))

    def sympy(self, top: Path) -> None:
        load = Load("import sympy", timed("", SYMPY.text), 1, "CPU ms", 1e6, 400)
        with Idle(self.place) as idle:
            command = TracedCommand(self.options.ladewerk_trace)
            nobody, spans, everything, *_ = self.table(load, [self.spans(), self.all(), command, *self.controls(idle), *self.rivals()])
        self.goals.judge("spans: CPU of sympy, ratio", spans, 1.015, times(nobody))
        self.goals.judge("with sched: CPU of sympy, ratio", everything, 1.025, times(nobody))

    def cached(self, top: Path) -> None:
        load = Load("`import os`, which is there", timed("import os", f"for _ in range({CACHED}):\n    import os"), CACHED, "CPU ns", 1)
        nobody, _, everything, *_ = self.table(load, [self.spans(), self.all(), Nobody("nobody, again"), ImportTime()])
        self.goals.judge("cached imports, ratio", everything, 1.02, times(nobody))

    def switches(self, top: Path) -> None:
        """What the part that sees every switch of the machine costs those who switch."""
        package = top / "switches"
        package.mkdir()
        (package / "turning.py").write_text(TURN)
        (package / "during.py").write_text(f"import turning\nturning.turns({TURNS})\n")
        path = f"import sys\nsys.path.insert(0, {str(package)!r})\nimport turning"
        plain, during = timed(path, f"turning.turns({TURNS})"), timed(path, "import during")
        for title, code, python in (("not traced", plain, Path(sys.executable)), ("traced, nothing is being imported", plain, None), ("traced, within an import", during, None)):
            load = Load(f"two threads that wake each other: {title}", code, TURNS, "CPU us a round", 1e3, added=True)
            self.table(load, [self.spans(), self.all()], python)

    def attach(self, top: Path) -> None:
        rivals = [watcher for watcher in self.rivals() if isinstance(watcher, Tracer)]
        rows = attached(self.place, [self.spans(), self.all(), *rivals])
        show_attached(rows)
        for what, most, figure in (("attach, ms", 150, FIGURES[0]), ("detach, ms", 300, FIGURES[1]), ("peak memory of the loader, MiB", 20, FIGURES[3]), ("kernel maps, MiB", 16, FIGURES[4])):
            self.goals.judge(f"{what}, with sched", rows[1], most, of_runs(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=21, help="rounds")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--ladewerk-trace", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True, help="an interpreter of its own file, with sympy")
    parser.add_argument("--bpftrace", type=Path)
    parser.add_argument("--py-spy", type=Path)
    options = parser.parse_args()
    only = options.only.split(",")
    if unknown := set(only) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    version = subprocess.run([str(options.target), "-VV"], capture_output=True, text=True, check=True).stdout.split("(")[0].strip()
    neighbours = machine.Neighbours()
    print(f"{version}, Linux {os.uname().release}, {os.cpu_count()} cores, {options.n} rounds")
    with tempfile.TemporaryDirectory() as top:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LADEWERK"))}
        bench = Bench(options, Place(options.target.resolve(), env, Path(top, "seen"), options.n))
        for section in only:
            getattr(bench, section)(Path(top))
        bench.goals.show()
    others = neighbours.report()
    print(f"\nOf the processors, others took {others['others']:.0%}, the hypervisor {others['stolen']:.0%}; load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
