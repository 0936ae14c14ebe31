# SPDX-License-Identifier: MIT
"""What imports spend their time on, and who waits for whom: as `ladewerk trace` says, against what the program itself measured (waiting.py).

Waits are in the kernel's clock, so a busy machine makes them longer, not wrong: what it adds is on the program's own clock as well, as time ready.
"""
from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

here = Path(__file__).parent
SECONDS = 0.25  # of each wait in waiting.py

Record = dict[str, Any]


@dataclass
class Trace:
    measured: dict[str, Any]
    records: list[Record]

    def imported(self, module: str) -> Record:
        (one,) = [record for record in self.records if record["event"] == "import" and record["module"] == module]
        return one

    def waits(self, **facts: object) -> list[Record]:
        return [record for record in self.records if record["event"] == "lock_wait" and facts.items() <= record.items()]

    def share(self, module: str, kind: str) -> float:
        """Seconds of this kind."""
        return float(self.imported(module)["total"][f"{kind}_ns"]) / 1e9


def trace(tracer: str, where: Path, *options: str, parts: tuple[str, ...] = (), prefix: tuple[str, ...] = (), python: tuple[str, ...] = (sys.executable,)) -> Trace:
    modules, out = where / "modules", where / "trace.json"
    modules.mkdir(parents=True)
    program = [*python, str(here / "waiting.py"), str(modules), *parts]
    answer = subprocess.run([*prefix, tracer, "--json", *options, "-o", str(out), "--", *program], capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer
    return Trace(json.loads(answer.stdout), [json.loads(line) for line in out.read_text().splitlines()])


@pytest.fixture(scope="module")
def traced(tracer: str, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return trace(tracer, tmp_path_factory.mktemp("waits"), "--sched")


def test_nothing_is_lost_and_classes_add_up(traced: Trace) -> None:
    (end,) = [record for record in traced.records if record["event"] == "end"]
    assert end["lost"] == 0 and end["senseless"] == 0, end
    for record in traced.records:
        if record["event"] == "import" and not record["cut"]:
            assert sum(record["total"].values()) == pytest.approx(record["total_ns"], rel=0.001, abs=20_000), record


def difference(traced: Trace) -> float:
    """Between the sum of waits for one slow module and what seven threads measured, of that. Each wait names the module and the thread that imports it."""
    own = {int(tid): span for tid, span in traced.measured["waits"].items()}
    waits = traced.waits(kind="module", module="wait_slow")
    assert {wait["tid"] for wait in waits} == own.keys()
    assert {wait["holder_tid"] for wait in waits if wait["wait_ns"] >= 0.5 * SECONDS * 1e9} == {traced.measured["importer"]}
    # Once that one lets go of it, the lock goes from one of the others to the next, who on a busy machine wait for each other.
    assert {wait["holder_tid"] for wait in waits} <= {traced.measured["importer"], *own}
    assert sum(wait["wait_ns"] for wait in waits) >= 7 * 0.9 * SECONDS * 1e9
    # With what they were ready for, and what they waited for to go on when the lock was theirs. Before they looked at the clock they waited for the GIL, too.
    told = sum(
        wait["wait_ns"] + wait["queue_ns"]
        for tid, (begin, end) in own.items()
        for wait in traced.waits(tid=tid)
        if wait["kind"] in ("module", "gil") and begin <= wait["begin_ns"] <= end
    )
    measured: int = sum(end - begin for begin, end in own.values())
    return abs(told - measured) / measured


def compare(one: Callable[[int], Trace]) -> None:
    """Within 1 %, in one of a few rounds: threads that lose their processor between two waits have that on their own clock only."""
    differences: list[float] = []
    while not differences or differences[-1] > 0.01:
        assert len(differences) < 5, differences
        differences.append(difference(one(len(differences))))


def test_eight_threads_and_one_slow_module(tracer: str, traced: Trace, tmp_path: Path) -> None:
    compare(lambda round: trace(tracer, tmp_path / str(round), "--sched", parts=("slow",)) if round else traced)


def test_within_a_pid_namespace(tracer: str, tmp_path: Path) -> None:
    """Threads have the numbers there that they know themselves by."""
    prefix = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("a PID namespace cannot be made here")

    def one(round: int) -> Trace:
        traced = trace(tracer, tmp_path / str(round), "--sched", parts=("slow",), prefix=prefix)
        assert traced.measured["tid"] < 100
        return traced

    compare(one)


def test_with_ladewerk(tracer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own probes say what is waited for; imports that waited are there as well."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ladewerk = (str(Path(sys.executable).parent / "ladewerk"), "run")

    def one(round: int) -> Trace:
        traced = trace(tracer, tmp_path / str(round), "--sched", parts=("slow",), python=ladewerk)
        waited = [record for record in traced.records if record["event"] == "import" and record["module"] == "wait_slow" and record["outcome"] == "waited"]
        assert len(waited) == 7
        return traced

    compare(one)


@pytest.mark.parametrize("module, kind", [("wait_sleep", "sleep"), ("wait_cpu", "cpu"), ("wait_lock", "futex"), ("wait_global", "global"), ("wait_slow", "sleep")])
def test_programs_are_told_apart(traced: Trace, module: str, kind: str) -> None:
    """Of what is no wait for a processor all but a little is of the kind that it is."""
    total: dict[str, int] = traced.imported(module)["total"]
    busy = {name for name in ("cpu_ns", "queue_ns", "gil_ns") if name != f"{kind}_ns"}
    assert traced.share(module, kind) >= 0.99 * SECONDS
    others = sum(ns for name, ns in total.items() if name not in busy | {f"{kind}_ns"})
    assert others <= 0.1 * total[f"{kind}_ns"], total


def test_the_gil(traced: Trace) -> None:
    if not hasattr(sys, "_is_gil_enabled") or sys._is_gil_enabled():
        # Ready is what it is until it gets to want the GIL.
        assert traced.share("wait_gil", "gil") + traced.share("wait_gil", "queue") >= 0.9 * SECONDS
        assert traced.share("wait_gil", "futex") <= 0.1 * SECONDS
        told = sum(wait["wait_ns"] for wait in traced.waits(kind="gil", tid=traced.measured["tid"], importer="wait_gil"))
        assert told / 1e9 == pytest.approx(traced.share("wait_gil", "gil"), abs=0.01)


def test_ready_and_no_processor_free(traced: Trace) -> None:
    assert traced.share("wait_queue", "cpu") >= 0.99 * SECONDS
    assert traced.share("wait_queue", "queue") >= 0.1 * SECONDS


def test_the_global_lock(traced: Trace) -> None:
    (wait,) = (wait for wait in traced.waits(kind="global") if wait["wait_ns"] >= 0.9 * SECONDS * 1e9)
    assert wait["tid"] == traced.measured["tid"] and wait["holder_tid"] not in (None, wait["tid"])


def test_without_the_scheduler_there_are_no_waits(tracer: str, tmp_path: Path) -> None:
    """The control of this file."""
    plain = trace(tracer, tmp_path, "--no-sched", parts=("slow", "sleep"))
    assert plain.imported("wait_sleep") and "total" not in plain.imported("wait_sleep")
    assert plain.waits() == []


UNSEEN = """
import importlib, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
started, waiting = threading.Event(), []

def wait():
    started.wait()
    import unseen_before
    waiting.append(threading.get_native_id())
    importlib.import_module("unseen")

def release():
    while len(waiting) < 2 or any(Path(f"/proc/self/task/{tid}/syscall").read_text().split()[0] not in ("202", "98") for tid in waiting):
        time.sleep(0.001)

threads = [threading.Thread(target=wait) for _ in range(2)]
for thread in threads: thread.start()
importlib.import_module("unseen")
for thread in threads: thread.join()
print(threading.get_native_id(), *waiting)
"""


def test_waits_for_an_import_that_is_not_seen(tracer: str, tmp_path: Path) -> None:
    """No probe sees the outermost importlib.import_module(): neither whoever imports nor those who wait for it. But imports were seen a moment ago."""
    (tmp_path / "unseen.py").write_text("from __main__ import *\nstarted.set()\nrelease()\n")
    (tmp_path / "unseen_before.py").write_text("")
    out = tmp_path / "trace.json"
    answer = subprocess.run([tracer, "--json", "--sched", "-o", str(out), "--", sys.executable, "-c", UNSEEN, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer
    importer, *waiting = map(int, answer.stdout.split())
    waits = [record for line in out.read_text().splitlines() if (record := json.loads(line)).get("module") == "unseen" and record["event"] == "lock_wait"]
    assert {(wait["tid"], wait["holder_tid"], wait["kind"]) for wait in waits} == {(tid, importer, "module") for tid in waiting}


def blocked(pid: int) -> int:
    """Number of threads of a process that are in futex(2)."""
    return sum(path.read_text().split()[0] == "202" for path in Path(f"/proc/{pid}/task").glob("*/syscall"))


def start_hanging(where: Path) -> subprocess.Popen[str]:
    """A program of which, after a line, one thread imports `wait_forever` until the next line, and two wait for it."""
    (where / "wait_forever.py").write_text("import sys\nsys.stdin.readline()\n")
    program = (
        "import sys, threading\n"
        f"sys.path.insert(0, {str(where)!r})\n"
        "def statement(): import wait_forever\n"
        "sys.stdin.readline()\n"
        "threads = [threading.Thread(target=statement) for _ in range(3)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True)


def write_line(target: subprocess.Popen[str]) -> None:
    assert target.stdin
    target.stdin.write("\n")
    target.stdin.flush()


def hang(target: subprocess.Popen[str]) -> None:
    """The one that imports reads; the others wait for it, or for the GIL, but not for long."""
    write_line(target)
    deadline, looks = time.monotonic() + 60, 0
    while looks < 10:
        looks = looks + 1 if blocked(target.pid) == 3 else 0
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watch(tracer: str, target: subprocess.Popen[str], out: Path) -> subprocess.Popen[str]:
    watcher = subprocess.Popen([tracer, "--json", "--sched", "-p", str(target.pid), "-o", str(out)], stderr=subprocess.PIPE, text=True)
    assert watcher.stderr and "tracing" in watcher.stderr.readline()
    return watcher


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def forever(out: Path) -> tuple[set[int], dict[int, int]]:
    """Threads whose import of `wait_forever` is cut, and holder of each that waits for it."""
    hanging = [record for line in out.read_text().splitlines() if (record := json.loads(line)).get("module") == "wait_forever"]
    cut = {record["tid"] for record in hanging if record["event"] == "import" and record["cut"]}
    return cut, {record["tid"]: record["holder_tid"] for record in hanging if record["event"] == "lock_wait"}


only_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the number of futex(2) on x86-64")


@only_x86_64
def test_what_hangs_at_the_end(tracer: str, tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    target = start_hanging(tmp_path)
    watcher = watch(tracer, target, out)
    try:
        hang(target)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(60) == 0
    finally:
        end(watcher, target)
    cut, waits = forever(out)
    # Where there is no USDT, those who wait are within an import as well.
    assert len(waits) == 2 and len({*waits.values()}) == 1, waits
    assert {*waits.values()} <= cut - waits.keys(), (cut, waits)


@only_x86_64
def test_what_hangs_at_the_beginning(tracer: str, tmp_path: Path) -> None:
    """A program that hangs already is looked at: nothing of this passes a probe, nor leaves its CPU. The second time it goes on meanwhile."""
    out = tmp_path / "trace.json"
    target = start_hanging(tmp_path)
    try:
        hang(target)
        threads = {int(path.name) for path in Path(f"/proc/{target.pid}/task").iterdir()} - {target.pid}
        for goes_on in (False, True):
            watcher = watch(tracer, target, out)
            try:
                if goes_on:
                    write_line(target)
                else:
                    watcher.send_signal(signal.SIGINT)
                assert watcher.wait(60) == 0
            finally:
                end(watcher)
            _, waits = forever(out)
            assert len(waits) == 2 and {*waits.values()} == threads - waits.keys(), (threads, waits)
    finally:
        end(target)
