# SPDX-License-Identifier: MIT
"""What tracing costs: `ladewerk trace` beside -X importtime, bpftrace and py-spy; a section of run.sh, and trace.sh.

Whole processes take turns, in an order shuffled in each round; a target counts its own CPU time, in which the probes are; ratios and differences are formed within a round. A
tracer is started and ended anew for each run of a target.
"""
from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import compared
import corpus
from environments import Environments, Unavailable, beside
from pair import Command, Failed, Sample, pipe, rounds
from rows import say
from sections import Effort, Interpreter, Place, Section
from tables import Row
from tracing import tables
from tracing.tracers import Bpftrace, Floor, ImportTime, Ladewerk, Nobody, PySpy, TracedCommand, Tracer, Watcher
from workloads import SYMPY, inside, oneline_loop, timed

PARTS = ("modules", "sympy", "cached", "switches", "attach")
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

    key: str
    title: str
    code: str
    per: int  # of how many things a figure is
    field: str
    unit: str
    scale: float  # ns
    imports: int = 0  # a tracer of imports must see so many at least
    added: bool = False  # what is more than without a tracer matters, not the ratio


@dataclass
class Turn:
    """A watcher's runs."""

    watcher: Watcher
    samples: list[Sample]
    missing: str = ""
    seen: int = 0  # imports, in one run that was not timed

    @property
    def all_cpu_ms(self) -> list[float]:
        """Target and tracer. Some tracers are the target's parent, and in its figure already."""
        own = [run.cpu_ms for run in self.watcher.seen] if isinstance(self.watcher, Tracer) else [0.0] * len(self.samples)
        return [sample.cpu_ms + mine for sample, mine in zip(self.samples, own, strict=True)]


@dataclass(frozen=True)
class Ground:
    """Where everything is. TARGET: an interpreter that nobody else uses, so that nobody else is traced; PYTHON: another one."""

    key: str  # of the interpreter
    target: Path
    python: Path
    program: Path  # ladewerk-trace
    rivals: Mapping[str, Path]
    env: Mapping[str, str]
    state: Path
    effort: Effort  # of each load
    full: bool
    seed: int

    @property
    def out(self) -> Path:
        return self.state / "seen"


# --- runs ---


def turns(ground: Ground, load: Load, watchers: Iterable[Watcher], python: Path | None = None) -> list[Turn]:
    found = {watcher.key: Turn(watcher, []) for watcher in watchers}
    argv = (str(python or ground.target), "-I", "-c", load.code)
    commands = {key: Command(turn.watcher.wrapped(argv, ground.out), ground.env) for key, turn in found.items()}

    def around(key: str) -> AbstractContextManager[None]:
        return found[key].watcher.beside(ground.out)

    def fails(key: str, failure: Failed) -> None:
        found[key].missing, found[key].samples = str(failure), []

    rounds(dict.fromkeys(["byte code"], Command(argv, ground.env)), 1)
    for key, command in commands.items():
        rounds({key: command}, 1, on_failure=fails, around=around)
        turn = found[key]
        if not turn.missing and turn.watcher.sees_imports and load.imports:
            turn.seen = turn.watcher.imports(ground.out)
            if turn.seen < load.imports:
                turn.missing = f"saw {turn.seen} of {load.imports} imports"
        if isinstance(turn.watcher, Tracer):
            turn.watcher.seen.clear()
    able = {key: command for key, command in commands.items() if not found[key].missing}
    for key, samples in rounds(able, ground.effort.rounds, ground.seed, on_failure=fails, around=around, seconds=ground.effort.seconds).items():
        found[key].samples = samples
    return list(found.values())


def _cpu_ns(sample: Sample) -> float:
    """As the target counted it. One that did not would have ended with an error."""
    took = inside(sample.out)
    assert took is not None
    return took[1]


def measured(ground: Ground, load: Load, watchers: Iterable[Watcher], python: Path | None = None) -> list[Row]:
    """Nobody first, who is the base."""
    say(f"  {load.title}")
    rows = []
    for turn in turns(ground, load, [Nobody(), Nobody(compared.AGAIN, "nobody, again"), *watchers], python):
        row = _row(ground, load.key, load.title, turn.watcher)
        row |= {"base": turn.watcher.key == "nobody", "field": load.field, "unit": load.unit, "added": load.added}
        if turn.missing:
            row["skipped"] = turn.missing
        else:
            row[load.field] = [round(_cpu_ns(sample) / load.per / load.scale, 5) for sample in turn.samples]
            row |= {"all_cpu_ms": [round(ms, 3) for ms in turn.all_cpu_ms], "imports": turn.seen}
            if isinstance(turn.watcher, Ladewerk):
                row["lost"] = sum(run.lost for run in turn.watcher.seen)
        rows.append(row)
    return rows


def _row(ground: Ground, workload: str, title: str, watcher: Watcher) -> Row:
    return compared.row("trace", ground.key, workload, title, watcher.key, watcher.name)


# --- starting and ending a tracer ---


class Idle:
    """A process with sympy in it, that waits."""

    def __init__(self, ground: Ground) -> None:
        self.process = subprocess.Popen([str(ground.target), "-I", "-c", f"{SYMPY.text}print(flush=True)\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ground.env)
        pipe(self.process.stdout).readline()

    def __enter__(self) -> int:
        return self.process.pid

    def __exit__(self, *_: object) -> None:
        self.process.communicate(b"\n")


def attached(ground: Ground, tracers: list[Tracer]) -> list[Turn]:
    """Nobody imports: only they themselves count."""
    found = [Turn(tracer, []) for tracer in tracers]
    with Idle(ground) as pid:
        end = time.monotonic() + ground.effort.seconds
        for turn in range(ground.effort.rounds):
            if time.monotonic() > end:
                break
            for each in found[turn % len(found):] + found[:turn % len(found)]:
                try:
                    if not each.missing:
                        with each.watcher.beside(ground.out, pid):
                            pass
                except (Failed, OSError) as failure:
                    each.missing = str(failure)
    return found


# --- parts of the section ---


def _spans(ground: Ground) -> Ladewerk:
    return Ladewerk(ground.program, ground.target, "--no-sched")


def _all(ground: Ground) -> Ladewerk:
    return Ladewerk(ground.program, ground.target)


def _rivals(ground: Ground) -> list[Watcher]:
    found: list[Watcher] = [ImportTime()]
    if "bpftrace" in ground.rivals:
        found.append(Bpftrace(ground.rivals["bpftrace"], ground.target))
    if "py-spy" in ground.rivals:
        found.append(PySpy(ground.rivals["py-spy"]))
    return found


def _others(ground: Ground, idle: int) -> list[Watcher]:
    """Where there is time."""
    return [TracedCommand(ground.program), Floor(ground.program, ground.target, idle), *_rivals(ground)] if ground.full else []


def modules(ground: Ground) -> list[Row]:
    loop = oneline_loop(corpus.generate(ground.state / "corpus", corpus.Shape(entries=1, modules=1)))
    load = Load("modules", loop.title, loop.code(), loop.count, "inside_cpu_us", "CPU us each", 1e3, loop.count + 1, added=True)
    with Idle(ground) as idle:
        return measured(ground, load, [_spans(ground), _all(ground), *(_others(ground, idle) or [ImportTime()])])


def sympy(ground: Ground) -> list[Row]:
    load = Load("sympy", "import sympy", timed("", SYMPY.text), 1, "inside_cpu_ms", "CPU ms", 1e6, 400)
    with Idle(ground) as idle:
        return measured(ground, load, [_spans(ground), _all(ground), *_others(ground, idle)])


def cached(ground: Ground) -> list[Row]:
    code = timed("import os", f"for _ in range({CACHED}):\n    import os")
    return measured(ground, Load("cached", "`import os`, which is there", code, CACHED, "inside_cpu_ns", "CPU ns", 1), [_spans(ground), _all(ground), ImportTime()])


def switches(ground: Ground) -> list[Row]:
    """What the part that sees every switch of the machine costs those who switch."""
    package = ground.state / "switches"
    package.mkdir()
    (package / "turning.py").write_text(TURN)
    (package / "during.py").write_text(f"import turning\nturning.turns({TURNS})\n")
    path = f"import sys\nsys.path.insert(0, {str(package)!r})\nimport turning"
    plain, during = timed(path, f"turning.turns({TURNS})"), timed(path, "import during")
    rows = []
    for key, how, code, python in (("elsewhere", "not traced", plain, ground.python), ("idle", "traced, nothing is being imported", plain, None), ("during", "traced, within an import", during, None)):
        load = Load(f"switches-{key}", f"Two threads that wake each other: {how}", code, TURNS, "inside_cpu_us", "CPU us a round", 1e3, added=True)
        rows += measured(ground, load, [_spans(ground), _all(ground)], python)
    return rows


def attach(ground: Ground) -> list[Row]:
    title, rows = "To a process with sympy, which waits", []
    say(f"  {title}")
    for turn in attached(ground, [_spans(ground), _all(ground), *(rival for rival in _rivals(ground) if isinstance(rival, Tracer))]):
        row = _row(ground, "attach", title, turn.watcher)
        if turn.missing:
            row["skipped"] = turn.missing
        else:
            seen = turn.watcher.seen if isinstance(turn.watcher, Tracer) else []
            row |= {"attach_ms": [run.attach_ms for run in seen], "detach_ms": [run.detach_ms for run in seen], "cpu_ms": [run.cpu_ms for run in seen]}
            row |= {"peak_mib": [run.peak_kib / 1024 for run in seen], "maps_mib": [run.maps_kib / 1024 for run in seen]}
        rows.append(row)
    return rows


MEASURE = {"modules": modules, "sympy": sympy, "cached": cached, "switches": switches, "attach": attach}
SHORT = ("modules", "sympy", "attach")  # where there is little time


# --- what has to be there ---


def _target(place: Place, environments: Environments) -> Path:
    """A copy of the interpreter, with sympy."""
    python = environments.build / "traced/bin/python3"
    if not python.exists():
        subprocess.run([place.main.python, "-m", "venv", "--copies", "--without-pip", python.parents[1]], check=True, capture_output=True)
    if why := environments.packages("traced", ["sympy"]):
        raise Unavailable(why["sympy"])
    return python.resolve()


def _found(place: Place, environments: Environments) -> dict[str, Path]:
    """Rivals that there are; where there is time for them."""
    found: dict[str, Path] = {}
    if place.effort != "full":
        return found
    environments.empty("peers")
    if not environments.packages("peers", ["py-spy"]):
        found["py-spy"] = environments.build / "peers/bin/py-spy"
    if bpftrace := shutil.which("bpftrace"):
        found["bpftrace"] = Path(bpftrace)
    return found


def why_not(main: Interpreter, program: Path, sched: str = "--no-sched") -> str:
    """Why imports of this interpreter cannot be traced, in the tracer's own words where it has any; SCHED: with the scheduler's part, or without."""
    if main.missing or not program.exists():
        return main.missing or "ladewerk-trace was not built: clang, bpftool, libbpf or libelf is missing"
    done = subprocess.run([program, "--json", "-o", "/dev/null", sched, "--", main.python, "-I", "-c", "pass"], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed without a word"])[0].removeprefix("ladewerk: trace: ")


def run(place: Place, effort: Effort) -> list[Row]:
    """The parts that were asked for; else what the effort has time for."""
    wanted = place.parts.get("trace") or (PARTS if place.effort == "full" else SHORT)
    main, program = place.main, place.main.python.with_name("ladewerk-trace")
    try:
        if why := why_not(main, program):
            raise Unavailable(why)
        environments = beside(place)
        target, rivals = _target(place, environments), _found(place, environments)
    except Unavailable as reason:
        return [compared.row("trace", main.key, each, each, "ladewerk", "ladewerk trace", base=True, skipped=str(reason)) for each in wanted]
    (state := place.state / "trace").mkdir(parents=True)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(state)}
    ground = Ground(main.key, target, main.python, program, rivals, env, state, replace(effort, seconds=effort.seconds / 2), place.effort == "full", place.seed)
    return [row for each in PARTS if each in wanted for row in MEASURE[each](ground)]


SECTION = Section("trace", "Tracing imports", {"headline": Effort(9, 40), "full": Effort(21, math.inf)}, run, tables.part, compared.plots, tables.figures, tables.goals, parts=PARTS)
