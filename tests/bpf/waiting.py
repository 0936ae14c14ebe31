# SPDX-License-Identifier: MIT
"""Imports that each spend their time on something else, for test_waits.py. Arguments: a directory for modules, and which (all of them). Prints what the program itself measured, as JSON."""
from __future__ import annotations

import _imp
import ctypes
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

directory = Path(sys.argv[1])
sys.path.insert(0, str(directory))
SECONDS = 0.25
measured: dict[str, object] = {"tid": threading.get_native_id()}
started = threading.Event()
held = threading.Lock()

modules = {
    "wait_slow": "from __main__ import *\nstarted.set()\nwait_for_waiters()\ntime.sleep(SECONDS)\n",
    "wait_sleep": "from __main__ import *\ntime.sleep(SECONDS)\n",
    "wait_cpu": "from __main__ import *\nspin()\n",
    "wait_queue": "from __main__ import *\nspin()\n",
    "wait_lock": "from __main__ import *\nstarted.set()\nheld.acquire()\n",
    "wait_gil": "from __main__ import *\nstarted.set()\ntaken.wait()\n",
    "wait_global": "from __main__ import *\nstarted.set()\n",
}
# Statements: the interpreter has no probe for the outermost importlib.import_module().
for name, text in modules.items():
    (directory / f"{name}.py").write_text(text)
importlib.invalidate_caches()


arrived: list[int] = []  # numbers of threads that are about to wait


def wait_until_blocked(tid: int) -> None:
    """Until a thread is in futex(2), whose number is 202 or 98."""
    while Path(f"/proc/self/task/{tid}/syscall").read_text().split()[0] not in ("202", "98"):
        time.sleep(0.001)


def wait_for_waiters() -> None:
    while len(arrived) < 7:
        time.sleep(0.001)
    for tid in arrived:
        wait_until_blocked(tid)


def spin() -> None:
    end = time.thread_time() + SECONDS
    while time.thread_time() < end:
        pass


def thread(function: object, *arguments: object) -> threading.Thread:
    one = threading.Thread(target=function, args=arguments)  # type: ignore[arg-type]
    one.start()
    return one


def slow() -> None:
    """Seven threads wait for a module that another one has begun to import: from when to when, they say themselves."""
    waits: dict[int, tuple[int, int]] = {}

    def importer() -> None:
        measured["importer"] = threading.get_native_id()
        import wait_slow  # noqa: F401

    def waiter() -> None:
        started.wait()
        begin = time.monotonic_ns()
        arrived.append(threading.get_native_id())
        import wait_slow  # noqa: F401
        waits[threading.get_native_id()] = begin, time.monotonic_ns()

    threads = [thread(waiter) for _ in range(7)] + [thread(importer)]
    for one in threads:
        one.join()
    measured["waits"] = waits


def lock() -> None:
    def holder() -> None:
        started.wait()
        wait_until_blocked(threading.main_thread().native_id or 0)
        time.sleep(SECONDS)
        held.release()

    started.clear()
    held.acquire()
    one = thread(holder)
    import wait_lock  # noqa: F401
    one.join()


class Taken:
    """An event in C: it is set without the GIL being given up afterwards."""

    def __init__(self) -> None:
        self.ends = os.pipe()

    def wait(self) -> None:
        os.read(self.ends[0], 1)


taken = Taken()


def gil() -> None:
    """The GIL is taken, the import comes back from a system call and wants it, and then only it is given up."""
    keeping = ctypes.PyDLL(None)

    def holder() -> None:
        started.wait()
        keeping.write(taken.ends[1], b".", 1)
        keeping.usleep(int(SECONDS * 1e6))

    started.clear()
    previous = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    one = thread(holder)
    import wait_gil  # noqa: F401
    sys.setswitchinterval(previous)
    one.join()


def global_lock() -> None:
    about = threading.Event()

    def holder() -> None:
        _imp.acquire_lock()
        started.set()
        about.wait()
        wait_until_blocked(threading.main_thread().native_id or 0)
        time.sleep(SECONDS)
        _imp.release_lock()

    started.clear()
    one = thread(holder)
    started.wait()
    about.set()
    import wait_global  # noqa: F401
    one.join()


def queue() -> None:
    """Two processes, one CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    rival = subprocess.Popen([sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    assert rival.stdout
    rival.stdout.read(1)
    import wait_queue  # noqa: F401
    rival.kill()
    rival.wait()
    os.sched_setaffinity(0, allowed)


def sleep() -> None:
    import wait_sleep  # noqa: F401


def cpu() -> None:
    import wait_cpu  # noqa: F401


if __name__ == "__main__":
    parts = [slow, sleep, cpu, lock, gil, global_lock, queue]
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        parts.remove(gil)
    for part in parts:
        if part.__name__ in (sys.argv[2:] or [part.__name__]):
            part()
    print(json.dumps(measured))
