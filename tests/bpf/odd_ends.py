# SPDX-License-Identifier: MIT
"""Processes and threads that end in the middle of imports, each in another way, for test_safety.py. Prints what became of the processes, as JSON: {way: [number, wait status]}."""
from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading

import busy

DEPTH = 3
libc = ctypes.CDLL(None)
inside = threading.Event()


def within_imports(end: object, depth: int = DEPTH - 1) -> None:
    busy.import_new(lambda: within_imports(end, depth - 1) if depth else end())  # type: ignore[operator]


def execute() -> None:
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "import colorsys"])


def stay() -> None:
    inside.set()
    threading.Event().wait()


def leave() -> None:
    """The thread ends without its Python functions ever coming back."""
    libc.pthread_exit(None)


def thread(end: object) -> threading.Thread:
    started = threading.Thread(target=within_imports, args=(end,), daemon=True)
    started.start()
    return started


def exits() -> None:
    within_imports(lambda: os._exit(3))


def killed() -> None:
    within_imports(lambda: os.kill(os.getpid(), signal.SIGKILL))


def executes() -> None:
    within_imports(execute)


def thread_executes() -> None:
    """It has the number of the main thread afterwards."""
    thread(execute)
    threading.Event().wait()


def daemon_stays() -> None:
    """In its import when the interpreter is finalized."""
    thread(stay)
    inside.wait()


def thread_leaves() -> None:
    number = thread(leave).native_id
    while os.path.exists(f"/proc/self/task/{number}"):
        pass
    os._exit(4)


def main_thread_leaves() -> None:
    """The process goes on without it."""
    def survive() -> None:
        while open("/proc/self/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
            pass
        os._exit(5)

    threading.Thread(target=survive).start()
    within_imports(leave)


def interrupted() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        within_imports(lambda: signal.raise_signal(signal.SIGINT))
    except KeyboardInterrupt:
        os._exit(6)


WAYS = (exits, killed, executes, thread_executes, daemon_stays, thread_leaves, main_thread_leaves, interrupted)


def main() -> None:
    sys.meta_path.insert(0, busy.Finder)  # type: ignore[arg-type]
    became = {}
    for way in WAYS:
        child = os.fork()
        if not child:
            way()
            sys.stdout.flush()
            sys.exit(0)
        became[way.__name__] = child, os.waitpid(child, 0)[1]
    print(json.dumps(became))


if __name__ == "__main__":
    main()
