# SPDX-License-Identifier: MIT
"""Who watches while others import: `ladewerk trace` and its rivals; trace.py times what they watch.

    Tracer      a process beside the target, which runs while the target does: `ladewerk trace`, bpftrace
    Wrapper     another command line for the target: -X importtime, py-spy

Both say how many imports they saw: who sees less is not faster.
"""
from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pair import Failed, pipe

PATIENCE = 60.0  # seconds within which a tracer is ready, and has ended


@dataclass(frozen=True)
class Seen:
    """One run of a tracer beside a target."""

    attach_ms: float  # from its start until it says that its probes are in place
    detach_ms: float  # from the signal that ends it until it has ended
    cpu_ms: float  # its own, from start to end
    peak_kib: int  # of its memory
    maps_kib: int  # of the kernel, for its BPF maps
    imports: int
    lost: int


class Watcher(ABC):
    """KEY is unique among those who take turns, NAME is the row's in the report."""

    key: str
    name: str
    sees_imports = True

    def wrapped(self, argv: tuple[str, ...], out: Path) -> tuple[str, ...]:
        """The command line of a target that runs ARGV; what was seen goes to OUT."""
        return argv

    @contextmanager
    def beside(self, out: Path, pid: int | None = None) -> Iterator[None]:
        """Surroundings of a run. PID: a target that is running already, else what is started of the target's interpreter."""
        yield

    @abstractmethod
    def imports(self, out: Path) -> int:
        """How many imports OUT tells of."""


class Nobody(Watcher):
    sees_imports = False

    def __init__(self, key: str = "nobody", name: str = "nobody") -> None:
        self.key, self.name = key, name

    def imports(self, out: Path) -> int:
        return 0


# --- other command lines ---


class ImportTime(Watcher):
    """What it writes goes to standard error, which the target's parent keeps in a file."""

    key, name = "importtime", "-X importtime"

    def wrapped(self, argv: tuple[str, ...], out: Path) -> tuple[str, ...]:
        return ("/bin/sh", "-c", 'out=$1; shift; exec "$@" 2>"$out"', "sh", str(out), argv[0], "-X", "importtime", *argv[1:])

    def imports(self, out: Path) -> int:
        return sum(line.startswith("import time:") for line in out.read_text().splitlines()[1:])


class PySpy(Watcher):
    """A sampler: it sees no imports, but is what one takes first to a start that is slow."""

    key, name, sees_imports = "py-spy", "py-spy, 100 samples a second", False

    def __init__(self, program: Path) -> None:
        self.program = program

    def wrapped(self, argv: tuple[str, ...], out: Path) -> tuple[str, ...]:
        return (str(self.program), "record", "--rate", "100", "--format", "raw", "--output", str(out), "--", *argv)

    def imports(self, out: Path) -> int:
        return 0


class TracedCommand(Watcher):
    """`ladewerk trace COMMAND`: stopped at exec until its probes are in place."""

    def __init__(self, program: Path, *options: str) -> None:
        self.program, self.options = program, options
        self.key, self.name = "ladewerk-command", " ".join(("ladewerk trace", *options, "COMMAND"))

    def wrapped(self, argv: tuple[str, ...], out: Path) -> tuple[str, ...]:
        return (str(self.program), "--json", "-o", str(out), *self.options, "--", *argv)

    def imports(self, out: Path) -> int:
        return _json_end(out)[0]


# --- processes beside the target ---


def _hear_interrupts() -> None:
    """They end a tracer; whoever starts this in the background has them ignored, and what is ignored is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Tracer(Watcher):
    seen: list[Seen] = field(default_factory=list)

    @abstractmethod
    def command(self, out: Path, pid: int | None) -> list[str]: ...

    @abstractmethod
    def ready(self, process: subprocess.Popen[str], out: Path) -> None:
        """Returns when its probes are in place."""

    def lost(self, out: Path) -> int:
        return 0

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _end_of(self, pid: int) -> tuple[int, resource.struct_rusage]:
        waiting = select.poll()
        with open(os.pidfd_open(pid), "rb", buffering=0) as end:
            waiting.register(end, select.POLLIN)
            if not waiting.poll(PATIENCE * 1000):
                raise Failed(f"{self.name} does not end")
        return os.wait4(pid, 0)[1:]

    @contextmanager
    def beside(self, out: Path, pid: int | None = None) -> Iterator[None]:
        out.unlink(missing_ok=True)
        began = time.perf_counter()
        process = subprocess.Popen(self.command(out, pid), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment(), preexec_fn=_hear_interrupts)
        try:
            self.ready(process, out)
            attached = time.perf_counter()
            yield
            peak, maps = peak_kib(process.pid), maps_kib(process.pid)
            asked = time.perf_counter()
            process.send_signal(signal.SIGINT)
            status, usage = self._end_of(process.pid)
            ended = time.perf_counter()
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
            pipe(process.stderr).close()
        if process.returncode:
            raise Failed(f"{self.name} ended with {process.returncode}")
        cpu = (usage.ru_utime + usage.ru_stime) * 1e3
        self.seen.append(Seen((attached - began) * 1e3, (ended - asked) * 1e3, cpu, peak, maps, self.imports(out), self.lost(out)))


class Ladewerk(Tracer):
    """PYTHON: the target's interpreter, whose every process is traced; nobody else should use it meanwhile."""

    def __init__(self, program: Path, python: Path, *options: str) -> None:
        super().__init__()
        self.program, self.python, self.options = program, python, options
        self.key, self.name = "ladewerk" + "".join(options).replace("--", "-"), " ".join(("ladewerk trace", *options))

    def command(self, out: Path, pid: int | None) -> list[str]:
        whom = ["--binary", str(self.python)] if pid is None else ["--pid", str(pid)]
        return [str(self.program), "--json", "-o", str(out), *self.options, *whom]

    def ready(self, process: subprocess.Popen[str], out: Path) -> None:
        said = ""
        while "tracing," not in said:
            before, said = said, pipe(process.stderr).readline()
            if not said:
                raise Failed(before.strip() or f"{self.name} ended before it was ready")

    def imports(self, out: Path) -> int:
        return _json_end(out)[0]

    def lost(self, out: Path) -> int:
        return _json_end(out)[1]


class Floor(Ladewerk):
    """Traces another process of the same interpreter: the target runs into the probes, and nothing is said of it."""

    sees_imports = False

    def __init__(self, program: Path, python: Path, other: int) -> None:
        super().__init__(program, python, "--no-sched")
        self.other, self.key, self.name = other, "floor", "floor: probes, and another process is traced"

    def command(self, out: Path, pid: int | None) -> list[str]:
        return super().command(out, self.other)


def _json_end(out: Path) -> tuple[int, int]:
    """Imports and lost events of JSON lines."""
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return sum(line["event"] == "import" for line in lines), lines[-1]["lost"]


class Bpftrace(Tracer):
    """The same USDT probes, and a line for each import, as the five lines do it that one would write."""

    key, name = "bpftrace", "bpftrace, the same USDT probes"
    # Probes are put in place in turn: when the first and the last one have come, all are there.
    SCRIPT = """
interval:ms:5 {{ printf("first\\n"); }}
usdt:{python}:python:import__find__load__start {{ @began[tid, str(arg0)] = nsecs; }}
usdt:{python}:python:import__find__load__done {{ printf("import %s %d %d %d\\n", str(arg0), tid, arg1, nsecs - @began[tid, str(arg0)]); delete(@began[tid, str(arg0)]); }}
interval:ms:5 {{ printf("last\\n"); }}
END {{ clear(@began); }}
"""

    def __init__(self, program: Path, python: Path) -> None:
        super().__init__()
        self.program, self.python = program, python

    def command(self, out: Path, pid: int | None) -> list[str]:
        return [str(self.program), "-B", "line", *(() if pid is None else ("-p", str(pid))), "-o", str(out), "-e", self.SCRIPT.format(python=self.python)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "BPFTRACE_MAP_KEYS_MAX": "16384", "BPFTRACE_STRLEN": "120"}

    def ready(self, process: subprocess.Popen[str], out: Path) -> None:
        until = time.monotonic() + PATIENCE
        while not (out.exists() and {"first", "last"} <= set(out.read_text().splitlines())):
            if process.poll() is not None or time.monotonic() > until:
                raise Failed(f"{self.name}: {(pipe(process.stderr).readline() or 'not ready').strip()}" if process.returncode is not None else f"{self.name} was not ready in time")
            time.sleep(0.002)

    def imports(self, out: Path) -> int:
        return sum(line.startswith("import ") for line in out.read_text().splitlines())


# --- what the kernel says of a tracer ---


def peak_kib(pid: int) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def maps_kib(pid: int) -> int:
    """Memory of the kernel for the BPF maps that PID has descriptors of."""
    maps: dict[str, int] = {}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            facts = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if "map_id" in facts:
            maps[facts["map_id"]] = int(facts["memlock"])
    return sum(maps.values()) // 1024
