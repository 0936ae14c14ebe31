# SPDX-License-Identifier: MIT
"""A program that imports in every awkward way at once, until its standard input ends; then it says what it did, as JSON, and ends with status 0.

Modules come from a finder of its own, so that each import is a first one and costs nothing else.
"""
from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading

try:
    import greenlet
except ImportError:
    greenlet = None  # type: ignore[assignment]

NESTING = 200
bodies: dict[str, object] = {}
fresh = itertools.count()
done: dict[str, int] = {}
over = threading.Event()


class Finder:
    """Knows what is in `bodies`: a function that is called as the module's body, or None."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None):
        return importlib.util.spec_from_loader(name, Finder) if name in bodies else None

    @staticmethod
    def create_module(spec: object) -> None:
        return None

    @staticmethod
    def exec_module(module) -> None:
        body = bodies[module.__name__]
        if body:
            body()


def import_new(body: object = None) -> None:
    name = f"busy{next(fresh)}"
    bodies[name] = body
    try:
        __import__(name)
    finally:
        del bodies[name]
        sys.modules.pop(name, None)


def plain() -> None:
    for _ in range(20):
        import_new()


def failing() -> None:
    def fail() -> None:
        raise ValueError

    for _ in range(5):
        try:
            import_new(fail)
        except ValueError:
            pass


def nested(depth: int = NESTING) -> None:
    import_new(lambda: nested(depth - 1) if depth else None)


def dying_thread() -> None:
    thread = threading.Thread(target=import_new, args=(sys.exit,))
    thread.start()
    thread.join()


def forking() -> None:
    """A child that ends in the middle of its parent's import, and one that goes on importing."""

    def fork() -> None:
        child = os.fork()
        if not child:
            import_new()
            os._exit(0)
        os.waitpid(child, 0)

    import_new(fork)


def executing() -> None:
    """Exec in the middle of an import, in a child."""
    child = os.fork()
    if not child:
        try:
            import_new(lambda: os.execv("/bin/true", ["true"]))
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)


def switching() -> None:
    """Greenlets that leave their imports in another order than they entered them."""
    hub = greenlet.getcurrent()

    def importing() -> None:
        import_new(lambda: (hub.switch(), import_new(), hub.switch()))

    waiting = [greenlet.greenlet(importing) for _ in range(8)]
    for _ in range(3):
        for one in waiting:
            one.switch()


def again(*what) -> None:
    """Until it is over, and once at least."""
    while True:
        for one in what:
            one()
            done[one.__name__] = done.get(one.__name__, 0) + 1
        if over.is_set():
            break


def main() -> None:
    sys.setrecursionlimit(100_000)
    threading.stack_size(64 << 20)
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    everything = (plain, failing, nested, dying_thread, *([switching] if greenlet else []))
    threads = [threading.Thread(target=again, args=(what,)) for what in everything]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    # Forks are the main thread's: in a child no other thread lives. Where threads hold locks without a GIL, the child of such a process may hang.
    reader = threading.Thread(target=lambda: (sys.stdin.read(), over.set()))
    reader.start()
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        again(forking, executing)
    for thread in [*threads, reader]:
        thread.join()
    print(json.dumps(done))


if __name__ == "__main__":
    main()
