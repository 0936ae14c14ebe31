#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs commands in turn (A B C, C A B, ...) and compares them pair by pair.

    pair.py [-n ROUNDS] 'COMMAND' 'COMMAND' ...

Each round runs every command once, in an order shuffled with a fixed seed; a command is divided by the first command of
the *same* round, and the median of those ratios is quoted. So a machine that slows down half-way slows both sides.

What is measured is what the parent sees of the whole process: wall time from the spawn to the reap, launcher and exit
included; CPU is user + system of the process and of every descendant it waited for (wait4).
"""
from __future__ import annotations

import argparse
import os
import random
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, AnyStr, TypeVar

from stats import ratios

Key = TypeVar("Key", bound=Hashable)

MINIMUM = 3  # rounds below which a median says nothing


class Failed(Exception):
    """A command that exited with an error, was killed or ran out of time; str() is one line for a report."""


@dataclass(frozen=True)
class Command:
    """One process to start. `fresh` is a directory emptied before every run, outside the measured time.

    With `discard` its output goes to /dev/null: what a program prints by the megabyte would be measured by where it is kept. `expected` is the
    exit status (negative: the signal) with which it does not fail.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    fresh: Path | None = None
    discard: bool = False
    expected: int = 0


@dataclass(frozen=True)
class Sample:
    wall_ms: float
    cpu_ms: float
    rss_mb: float
    out: str


def own_peak_mb() -> float:
    """Below this `rss_mb` of no sample is: the kernel keeps the peak of a process across exec, and that of what we start begins with ours."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def empty(directory: Path) -> None:
    """Makes it, or takes away what is in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)


def _why(status: int, err: str, timed_out: bool) -> str:
    code = os.waitstatus_to_exitcode(status)
    what = "ran out of time" if timed_out else f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    lines = [line for line in err.splitlines() if line.strip()]
    return f"{what}: {lines[-1].strip()}" if lines else what


def run(command: Command, timeout: float = 120.0) -> Sample:
    """Runs one command to its end. Standard output is handed back, standard error is quoted when it fails."""
    if command.fresh is not None:
        empty(command.fresh)
    with _output(command) as out, tempfile.TemporaryFile() as err:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, err.fileno(), 2),
        ]
        start = time.perf_counter_ns()
        pid = os.posix_spawnp(command.argv[0], command.argv, command.env, file_actions=actions, setpgroup=0)
        status, usage, timed_out = _reap(pid, timeout)
        wall = time.perf_counter_ns() - start
        err.seek(0)
        if not command.discard:
            out.seek(0)
        if timed_out or os.waitstatus_to_exitcode(status) != command.expected:
            raise Failed(_why(status, err.read().decode(errors="replace"), timed_out))
        return Sample(
            wall_ms=wall / 1e6,
            cpu_ms=(usage.ru_utime + usage.ru_stime) * 1e3,
            rss_mb=usage.ru_maxrss / 1024,
            out=out.read().decode(errors="replace"),
        )


def _output(command: Command) -> IO[bytes]:
    return open(os.devnull, "r+b") if command.discard else tempfile.TemporaryFile()


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _reap(pid: int, timeout: float) -> tuple[int, resource.struct_rusage, bool]:
    """Waits for `pid`; its whole process group dies when the time is up or when we are interrupted."""
    expired = []

    def expire(*_: object) -> None:
        expired.append(True)
        kill_group(pid)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        _, status, usage = os.wait4(pid, 0)
    except BaseException:
        kill_group(pid)
        os.wait4(pid, 0)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return status, usage, bool(expired)


def pipe(stream: IO[AnyStr] | None) -> IO[AnyStr]:
    """STREAM of a process that was started with a pipe there."""
    assert stream is not None
    return stream


def end(process: subprocess.Popen[str]) -> None:
    """Asks it to, and sees to it when it does not."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rounds(
    commands: Mapping[Key, Command],
    count: int,
    seed: int = 1,
    on_failure: Callable[[Key, Failed], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    seconds: float = float("inf"),
    around: Callable[[Key], AbstractContextManager[object]] = lambda key: nullcontext(),
    timeout: float = 120.0,
) -> dict[Key, list[Sample]]:
    """`count` rounds of every command, fewer (never below MINIMUM) when `seconds` are used up first.

    A command that fails is reported to `on_failure`, and has no samples at all. Each run happens inside a context of `around`,
    whose own time is not measured.
    """
    rng = random.Random(seed)
    deadline = time.monotonic() + seconds
    order = list(commands)
    samples: dict[Key, list[Sample]] = {key: [] for key in commands}
    for done in range(count):
        rng.shuffle(order)
        for key in list(order):
            try:
                with around(key):
                    samples[key].append(run(commands[key], timeout))
            except Failed as failure:
                if on_failure is None:
                    raise
                on_failure(key, failure)
                order.remove(key)
                del samples[key]
        progress(done + 1)
        if done + 1 >= MINIMUM and time.monotonic() > deadline:
            break
    return samples


def _row(name: str, samples: list[Sample], base: list[Sample]) -> str:
    columns = [name[:48].ljust(48)]
    for values, first in (([s.cpu_ms for s in samples], [s.cpu_ms for s in base]), ([s.wall_ms for s in samples], [s.wall_ms for s in base])):
        ratio = ratios(values, first)
        columns.append(f"{statistics.median(values):9.1f} ms {ratio.value:6.3f} [{ratio.low:.3f}, {ratio.high:.3f}]")
    return "  ".join(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--rounds", type=int, default=15)
    parser.add_argument("command", nargs="+", help="a command line; the first one is the base of the ratios")
    options = parser.parse_args()
    commands = {line: Command(tuple(shlex.split(line)), dict(os.environ)) for line in options.command}
    if options.rounds < 1:
        parser.error("-n needs a positive number")
    if not all(any(command.argv[:1]) for command in commands.values()):
        parser.error("a command line is empty")
    try:
        rounds(commands, 2)  # warm caches; also shows a command that does not run
        results = rounds(commands, options.rounds)
    except (Failed, OSError) as failure:
        sys.exit(f"pair.py: {failure}")
    print(f"{'':48}  {'CPU: median, of the first [95 %]':36}  wall")
    for line, samples in results.items():
        print(_row(line, samples, results[options.command[0]]))


if __name__ == "__main__":
    main()
