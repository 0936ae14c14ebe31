# SPDX-License-Identifier: MIT
"""Whatever is attached to it, and however that ends, a program goes on as if nothing had been there; and however a program ends, the trace of it is whole."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT = 120
CYCLES = 100 if os.environ.get("LADEWERK_LONG") == "1" else 6
HERE = Path(__file__).parent
HAS_GREENLETS = bool(importlib.util.find_spec("greenlet"))
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
PARTS = {"plain", "failing", "nested", "dying_thread"} | ({"switching"} if HAS_GREENLETS else set()) | ({"forking", "executing"} if HAS_GIL else set())


@contextlib.contextmanager
def busy(*before: str) -> Iterator[subprocess.Popen[str]]:
    """The program that imports in every awkward way at once, having begun; or what starts it."""
    process = subprocess.Popen([*before, sys.executable, str(HERE / "busy.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ends_well(process: subprocess.Popen[str]) -> None:
    """It is asked to end, does, and has done everything it does."""
    out, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    done = json.loads(out.splitlines()[-1])
    assert done.keys() == PARTS and min(done.values()) > 0, done


def attach(tracer: list[str], pid: int, out: str | Path = os.devnull) -> subprocess.Popen[str]:
    process = subprocess.Popen([*tracer, "--json", "-o", str(out), "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    said = process.stderr.readline()
    assert "tracing" in said, said + process.communicate(timeout=WAIT)[1]
    return process


def links(pid: int) -> set[str]:
    """Kinds of BPF links that a process has."""
    texts = []
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # one that was open for a moment
            texts.append(path.read_text())
    return {kind for text in texts for kind in re.findall(r"^link_type:\s+(\w+)$", text, re.MULTILINE)}


# --- programs that go on ---


def ways(tracer: str) -> list[tuple[list[str], str]]:
    """How to attach, and the kind of link that makes. What kernels before 6.6 have is what a tracer uses that believes to be on one."""
    found = [([tracer, "--sched"], "uprobe_multi"), ([tracer, "--no-sched"], "uprobe_multi")]
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 6):
        return [(command, "perf") for command, _ in found]
    if shutil.which("setarch"):
        found.append((["setarch", "--uname-2.6", tracer, "--sched"], "perf"))
    return found


def test_attached_and_detached_under_load(tracer: str) -> None:
    """By turns asked to end, and killed; threads, greenlets, forks and execs are within imports all the time."""
    with busy() as target:
        assert target.stdout and target.stdout.readline() == "ready\n"
        for i in range(CYCLES):
            command, link = ways(tracer)[i // 2 % len(ways(tracer))]
            process = attach(command, target.pid)
            assert link in links(process.pid)
            process.send_signal(signal.SIGKILL if i % 2 else signal.SIGINT)
            process.communicate(timeout=WAIT)
            assert process.returncode == (-signal.SIGKILL if i % 2 else 0)
            assert target.poll() is None
        ends_well(target)


@contextlib.contextmanager
def uprobe_at_returns(symbol: str, pid: int) -> Iterator[None]:
    """Traps every return from a function of this interpreter, in process PID only."""
    pmu = Path("/sys/bus/event_source/devices/uprobe")
    mapped = [line.split(maxsplit=5)[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    path = next((path for path in mapped if "/libpython" in path), os.path.realpath(f"/proc/{pid}/exe"))

    def readelf(option: str) -> list[list[str]]:
        return [line.split() for line in subprocess.run(["readelf", "-W", option, path], check=True, capture_output=True, text=True).stdout.splitlines()]

    address = next(int(row[1], 16) for row in readelf("--dyn-syms") if row[-1:] == [symbol])
    loads = [[int(number, 16) for number in row[1:6]] for row in readelf("--program-headers") if row[:1] == ["LOAD"]]
    offset = next(at + address - start for at, start, _, size, _ in loads if start <= address < start + size)

    class Attributes(ctypes.Structure):
        _fields_ = [("type", ctypes.c_uint32), ("size", ctypes.c_uint32), ("config", ctypes.c_uint64), ("_1", ctypes.c_uint64 * 5),
                    ("path", ctypes.c_char_p), ("offset", ctypes.c_uint64), ("_2", ctypes.c_uint64 * 8)]

    bit = int((pmu / "format/retprobe").read_text().strip().removeprefix("config:"))
    attributes = Attributes(type=int((pmu / "type").read_text()), size=ctypes.sizeof(Attributes), config=1 << bit, path=os.fsencode(path), offset=offset)
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(298, ctypes.byref(attributes), pid, -1, -1, 8)  # perf_event_open, PERF_FLAG_FD_CLOEXEC
    # The probe is there before the call comes back, which may find the process dead of it.
    assert fd >= 0 or ctypes.get_errno() == errno.ESRCH, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        if fd >= 0:
            os.close(fd)


@pytest.mark.skipif(not HAS_GREENLETS or platform.machine() != "x86_64" or not shutil.which("readelf"), reason="needs greenlets, x86-64 and readelf")
def test_probes_at_returns_would_kill(tracer: str) -> None:
    """Control: what other tracers do, and this one does not. Greenlets come back in another order than they were called in, which the kernel takes for an attack."""
    with busy() as target:
        assert target.stdout and target.stdout.readline() == "ready\n"
        with uprobe_at_returns("PyImport_ImportModuleLevelObject", target.pid):
            assert target.wait(WAIT) == -signal.SIGILL


FLOOD = """
import importlib.util, sys
class Finder:
    find_spec = staticmethod(lambda name, path=None, target=None: importlib.util.spec_from_loader(name, Finder) if name == "flood" else None)
    create_module = exec_module = staticmethod(lambda about: None)
sys.meta_path.insert(0, Finder)
print(flush=True)
while True:
    import flood
    del sys.modules["flood"]
"""


def test_a_target_that_is_faster_than_its_tracer(tracer: str) -> None:
    """It is still heard that the trace is to end. One CPU for both, of which the tracer gets a tenth."""
    cpu = {min(os.sched_getaffinity(0))}
    target = subprocess.Popen([sys.executable, "-S", "-c", FLOOD], stdout=subprocess.PIPE, text=True)
    try:
        assert target.stdout and target.stdout.readline()
        process = attach([tracer, "--no-sched"], target.pid)
        for one in target, process:
            os.sched_setaffinity(one.pid, cpu)
        os.setpriority(os.PRIO_PROCESS, process.pid, 10)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=WAIT)
        assert process.returncode == 0 and target.poll() is None
    finally:
        target.kill()
        target.communicate()


def test_everything_at_once_from_the_start(tracer: str, tmp_path: Path) -> None:
    """As a command: all its imports are traced, none of their ends is left over, and it ends as it would have."""
    out = tmp_path / "trace.json"
    with busy(tracer, "--json", "-o", str(out), "--") as traced:
        assert traced.stdout and traced.stdout.readline() == "ready\n"
        deadline = time.monotonic() + WAIT
        while out.read_text().count('"module":"busy') < 1000:
            assert traced.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        ends_well(traced)
    *events, end = [json.loads(line) for line in out.read_text().splitlines()]
    assert max(event["depth"] for event in events if event["event"] == "import") >= 200
    assert end["lost"] == 0 and end["senseless"] == 0, end


# --- programs that end ---


def test_a_target_that_is_killed(tracer: str, tmp_path: Path) -> None:
    """With it the trace ends, and says what was open."""
    out = tmp_path / "trace.json"
    with busy() as target:
        assert target.stdout and target.stdout.readline() == "ready\n"
        process = attach([tracer], target.pid, out)
        target.kill()
        target.wait()
        _, said = process.communicate(timeout=WAIT)
    assert process.returncode == 0, said
    *events, end = [json.loads(line) for line in out.read_text().splitlines()]
    assert end["event"] == "end" and end["lost"] == 0
    assert all(event["failed"] is None for event in events if event["event"] == "import" and event["cut"])


@pytest.mark.parametrize("sched", ["--sched", "--no-sched"])
def test_ends_in_the_middle_of_imports(tracer: str, tmp_path: Path, sched: str) -> None:
    """Of processes and threads (odd_ends.py): they end as they would have, and what was open is told once, as cut."""
    out = tmp_path / "trace.json"
    done = subprocess.run([tracer, sched, "--json", "-o", str(out), "--", sys.executable, str(HERE / "odd_ends.py")], capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0, done
    became: dict[str, list[int]] = json.loads(done.stdout)
    assert {way: status for way, (_, status) in became.items()} == {
        "exits": 3 << 8, "killed": signal.SIGKILL, "executes": 0, "thread_executes": 0, "daemon_stays": 0, "thread_leaves": 4 << 8, "main_thread_leaves": 5 << 8, "interrupted": 6 << 8}
    *events, end = [json.loads(line) for line in out.read_text().splitlines()]
    assert end["lost"] == 0 and end["senseless"] == 0 and end["dropped"] == 0
    imports = [event for event in events if event["event"] == "import"]
    for way, (pid, _) in became.items():
        own = [event for event in imports if event["pid"] == pid and event["module"].startswith("busy")]
        assert [(event["module"], event["depth"]) for event in own] == [("busy2", 2), ("busy1", 1), ("busy0", 0)], way
        assert all((event["failed"], event["cut"]) == ((True, False) if way == "interrupted" else (None, True)) for event in own), way
        assert {event["tid"] != pid for event in own} == {way in ("thread_executes", "daemon_stays", "thread_leaves")}, way
        after = [event for event in imports if event["pid"] == pid and event["module"] == "colorsys"]
        assert [(event["depth"], event["tid"], event["cut"]) for event in after] == ([(0, pid, False)] if "executes" in way else []), way


BRIEF = """
import os
for i in range(30):
    child = os.fork()
    if not child:
        # Every third has a child instead, which does it.
        if i % 3 or not (grandchild := os.fork()):
            import colorsys
            os._exit(0)
        os.waitpid(grandchild, 0)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("sched", ["--sched", "--no-sched"])
def test_processes_that_live_for_one_import(tracer: str, sched: str) -> None:
    """They are gone when the tracer hears of them."""
    done = subprocess.run([tracer, sched, "--json", "--module", "colorsys", "--", sys.executable, "-S", "-c", BRIEF], capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 0, done
    *events, end = [json.loads(line) for line in done.stdout.splitlines()]
    imports = [event for event in events if event["event"] == "import"]
    assert len(imports) == len({event["pid"] for event in imports}) == 30 and not any(event["cut"] for event in imports)
    assert end["lost"] == 0
