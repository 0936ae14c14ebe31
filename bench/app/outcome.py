# SPDX-License-Identifier: MIT
"""Does the program do the same in each way? Exit status, standard output and standard error, as far as stock Python repeats itself."""
from __future__ import annotations

import re
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from pair import Command, Failed, kill_group


@dataclass(frozen=True)
class Outcome:
    status: int  # negative: the signal
    out: bytes
    err: bytes
    ended: tuple[int, int] = field(default=(0, 0), compare=False)  # ns: when it was over (monotonic), and its CPU time, children included

    def words(self) -> str:
        return f"exit status {self.status}" if self.status >= 0 else f"killed by {signal.Signals(-self.status).name}"


class Alike(Enum):
    """How two runs of stock Python are alike. The value is what a report says of the comparison."""

    EXACT = "byte for byte, times such as 0.12s apart"
    NUMBERS = "but for numbers, which differ from run to run anyway"
    LINES = "which lines there are, not their order, and but for numbers: the order differs from run to run anyway"
    STATUS = "the exit status alone: the output differs from run to run anyway"


_NUMBER = re.compile(rb"0x[0-9a-fA-F]+|[0-9]+(?:[.:,][0-9]+)*")
_TIME = re.compile(rb"\b[0-9]+(?:\.[0-9]+)? ?(?:s|sec|secs|seconds?|ms|us|ns|milliseconds?|microseconds?)\b")
_LEVELS = list(Alike)


def _cpu_ns() -> int:
    """Of our children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(1e9 * (usage.ru_utime + usage.ru_stime))


def observe(command: Command, timeout: float) -> Outcome:
    """Failed when the time is up. Nothing else that we have started may end meanwhile: its CPU time would count."""
    before = _cpu_ns()
    process = subprocess.Popen(
        command.argv, env=dict(command.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        kill_group(process.pid)  # which may be gone: interrupted, communicate() waits a little for its end
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"did not end within {timeout:.0f} s; give it an option that makes it end (a server: check its configuration and exit), "
                         "or more time with --timeout") from None
        raise
    return Outcome(process.returncode, out, err, (time.monotonic_ns(), _cpu_ns() - before))


def _compared(text: bytes, level: Alike) -> bytes:
    """Without what may differ. A time that was measured always may: that three runs took 0.01s each does not make it part of what the program does."""
    return (_TIME if level is Alike.EXACT else _NUMBER).sub(b"#", text)


def looser(one: Alike, other: Alike) -> Alike:
    return max(one, other, key=_LEVELS.index)


def _seen(outcome: Outcome, level: Alike) -> tuple[object, ...]:
    if level is Alike.STATUS:
        return (outcome.status,)
    streams = [_compared(stream, level) for stream in (outcome.out, outcome.err)]
    if level is Alike.LINES:
        return (outcome.status, *(tuple(sorted(stream.splitlines())) for stream in streams))
    return (outcome.status, *streams)


def how_alike(outcomes: Sequence[Outcome]) -> Alike | None:
    """The strictest comparison that all runs of stock Python pass; None if not even the exit status is the same."""
    for level in _LEVELS:
        if len({_seen(outcome, level) for outcome in outcomes}) == 1:
            return level
    return None


def difference(stock: Outcome, other: Outcome, level: Alike) -> str:
    """What is not as with stock Python; '' if nothing is."""
    if stock.status != other.status:
        return f"{other.words()}, with stock Python {stock.words()}"
    if _seen(stock, level) == _seen(other, level):
        return ""
    for name, before, after in (("output", stock.out, other.out), ("error output", stock.err, other.err)):
        if _seen(Outcome(0, before, b""), level) != _seen(Outcome(0, after, b""), level):
            return f"{name} differs from stock Python's{_line(before, after, level)}"
    raise AssertionError("one of them differs")


def _line(before: bytes, after: bytes, level: Alike) -> str:
    """Where, for who wants to look."""
    if level is Alike.LINES:
        return ""
    for number, (one, other) in enumerate(zip(before.splitlines(), after.splitlines()), 1):
        if _compared(one, level) != _compared(other, level):
            return f" (line {number})"
    return f" (line {1 + min(before.count(bytes([10])), after.count(bytes([10])))})"
