# SPDX-License-Identifier: MIT
"""The section `cold`: how much longer a program takes when nothing is in the page cache, and when reading is slow as well.

A cold run follows the eviction of everything, a warm run of the same command follows the cold one; their difference is the
added time. All contenders take turns as everywhere. What the measuring process itself has mapped (the interpreter's own
pages) cannot be evicted; the row `python -c pass` shows what remains of it.
"""
from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pair
from contenders import Contender
from pair import Command, Failed
from rows import Cell, Effort, Session, cells, describe, say
from workloads import Program

_DROP = Path("/proc/sys/vm/drop_caches")
_V1, _V2 = Path("/sys/fs/cgroup/blkio"), Path("/sys/fs/cgroup")
READS_PER_SECOND = 2000  # 0.5 ms per IO


@dataclass
class Condition:
    """`group` is the control group whose processes are slowed down, None: nobody is."""

    key: str
    group: Path | None = None
    why_not: str = ""

    def wrap(self, command: Command) -> Command:
        """The command, started inside the group; the warm run has the same shell in front of it."""
        if self.group is None:
            return command
        argv = ("/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.group / "cgroup.procs"), *command.argv)
        return Command(argv, command.env, command.fresh)

    def reads(self) -> int | None:
        """IOs that the group has read so far; None where nobody counts."""
        if self.group is None:
            return None
        for file, pattern in (("blkio.throttle.io_serviced", r"^\S+ Read (\d+)$"), ("io.stat", r"\brios=(\d+)")):
            if (self.group / file).exists():
                return sum(map(int, re.findall(pattern, (self.group / file).read_text(), re.MULTILINE)))
        return None


def evict() -> None:
    os.sync()  # dirty pages would stay
    _DROP.write_text("3")


def cannot_evict() -> str:
    try:
        evict()
    except OSError as error:
        return f"the page cache cannot be dropped ({error.strerror}): needs root, and a machine of its own"
    return ""


def whole_disk(path: Path) -> str:
    """major:minor of the disk that `path` is on; limits are set for disks, not for partitions."""
    device = os.stat(path).st_dev
    entry = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    if not entry.exists():
        raise OSError(0, "the build directory is on no block device")
    return ((entry.parent if (entry / "partition").exists() else entry) / "dev").read_text().strip()


@contextmanager
def slow_reads(path: Path) -> Iterator[Path]:
    """A control group whose processes get READS_PER_SECOND reads from the disk of `path`. OSError: not here."""
    disk = whole_disk(path)
    if (_V1 / "cgroup.procs").exists():
        top, file, line = _V1, "blkio.throttle.read_iops_device", f"{disk} {READS_PER_SECOND}"
    else:
        top, file, line = _V2, "io.max", f"{disk} riops={READS_PER_SECOND}"
    group = top / f"import-bench-{os.getpid()}"
    group.mkdir()
    try:
        if not (group / file).exists():
            raise OSError(0, "control groups have no limit for reads here")
        (group / file).write_text(line)
        yield group
    finally:
        group.rmdir()


def conditions(stack: ExitStack, path: Path) -> list[Condition]:
    if why := cannot_evict():
        return [Condition("dropped", why_not=why), Condition("slow", why_not=why)]
    try:
        slow = Condition("slow", stack.enter_context(slow_reads(path)))
    except OSError as error:
        slow = Condition("slow", why_not=f"no slow reads: {error.strerror}; give --build a directory on a slow disk instead")
    return [Condition("dropped"), slow]


def _measure_once(row: Cell, condition: Condition) -> dict[str, float]:
    """Wall ms of a cold run and of a warm one after it; the IOs of the cold one where they are counted."""
    assert row.command is not None
    command = condition.wrap(row.command)
    evict()
    before = condition.reads()
    found = {"cold_ms": round(pair.run(command).wall_ms, 3)}
    if before is not None:
        found["reads"] = (condition.reads() or 0) - before
    return {**found, "warm_ms": round(pair.run(command).wall_ms, 3)}


def _measure(rows: list[Cell], condition: Condition, effort: Effort) -> dict[tuple[str, str], dict[str, list[float]]]:
    rng, deadline = random.Random(1), time.monotonic() + effort.seconds
    order = [row for row in rows if not row.skipped]
    found: dict[tuple[str, str], dict[str, list[float]]] = {row.key: {} for row in order}
    for done in range(effort.rounds):
        rng.shuffle(order)
        for row in order:
            for name, value in _measure_once(row, condition).items():
                found[row.key].setdefault(name, []).append(value)
        if done + 1 >= pair.MINIMUM and time.monotonic() > deadline:
            break
    return found


def run(session: Session, loads: list[Program], rivals: list[Contender], effort: Effort) -> list[dict]:
    done = []
    with ExitStack() as stack:
        ways = conditions(stack, session.bench.state)
        for load in loads:
            rows = cells(session, "cold", [load], rivals)
            entries = {row.key: {**describe(row), "cold": {}, "cold_skipped": {}} for row in rows}
            for way in ways:
                if not way.why_not:
                    say(f"  measure {load.key}, {way.key}: {effort.rounds} rounds")
                    try:
                        found = _measure(rows, way, effort)
                    except (Failed, OSError) as failure:
                        way = Condition(way.key, why_not=str(failure))
                for key, entry in entries.items():
                    if way.why_not:
                        entry["cold_skipped"][way.key] = way.why_not
                    elif key in found:
                        entry["cold"][way.key] = found[key]
            done += entries.values()
    return done
