# SPDX-License-Identifier: MIT
"""Circles of two threads that wait for each other's module: within the process, through an engine and the process, and through two engines.

    circles.py DIRECTORY [CONTROL]

One thread imports `first`, whose body asks for `second` by an import statement; another imports `second`, whose body asks for `first` in each of WAYS. Who asks last is said by the case.
If `first` has got half of `second`, which is right in a circle, a third thread asks for it in the same way.
With CONTROL each engine knows of its own waiting alone, as plain copies of importlib would. Prints what each got: {place: {way and who is last: "stuck" or [first's, second's, the third's]}}.
"""
from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import _frozen_importlib
import ladewerk

PATIENCE = 60

BODY = """
import sys
circle = sys.circle
circle.begin({number})
try:
    {line}
except RuntimeError as error:
    got = error
circle.note({number}, got)
last = None
"""


class Process:
    """The process's state, by importlib alone."""

    _bootstrap = _frozen_importlib
    import_module = staticmethod(importlib.import_module)
    __import__ = staticmethod(importlib.__import__)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def statement(state, name):
    """What an import statement does, in code of no engine."""
    with state:
        return __import__(name)


WAYS = {"statement": statement, "import_module": lambda state, name: state.import_module(name), "__import__": lambda state, name: state.__import__(name)}


def waited_for(state, name):
    """Whether a thread waits for the lock of module NAME. It does so only after it has found no circle."""
    lock = state._bootstrap._module_locks.get(name, lambda: None)()
    return bool(lock and lock.waiters)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.001)


class Circle:
    """One of them. STATES: of first and second. ASK: how the body of `first` asks, a line of code that makes `got`; the third asks in its state, or in that of `second` if the
    body had to ask there. WAY: how that of `second` asks. LAST: who asks last, 0 or 1."""

    def __init__(self, directory, label, states, ask, way, last):
        self.names = [f"{label}_{way}_{last}_{name}" for name in ("first", "second")]
        self.states, self.way, self.last = states, WAYS[way], last
        self.begun, self.got = threading.Barrier(2, timeout=PATIENCE), ["nothing"] * 3
        self.thirds = states["circle" in ask]
        self.third = threading.Thread(target=self.ask_third, daemon=True)
        for number, line in enumerate((ask.format(self.names[1]), "got = circle.ask(0)")):
            Path(directory, self.names[number] + ".py").write_text(BODY.format(number=number, line=line))

    def begin(self, number):
        """Called by both bodies; goes on when it is their turn to ask."""
        self.begun.wait()
        if number == self.last:
            until(lambda: waited_for(self.states[number], self.names[number]))

    def ask(self, number):
        return (WAYS["statement"] if number else self.way)(self.states[number], self.names[number])

    def note(self, number, got):
        self.got[number] = type(got).__name__ if isinstance(got, Exception) else "whole" if hasattr(got, "last") else "half"
        if number == 0 and self.got[0] == "half":
            self.third.start()
            until(lambda: waited_for(self.states[1], self.names[1]) or not self.third.is_alive())

    def ask_third(self):
        self.note(2, self.way(self.thirds, self.names[1]))

    def run(self):
        """-> what the two got, or "stuck"."""
        sys.circle = self
        threads = [threading.Thread(target=state.import_module, args=(name,), daemon=True) for state, name in zip(self.states, self.names)]
        for thread in threads:
            thread.start()

        def ended():
            return not any(thread.is_alive() for thread in [*threads, self.third])

        def stuck():  # the third, too, is waited for, but comes after the first
            return all(map(waited_for, self.states, self.names)) and self.got[0] == "nothing"

        until(lambda: ended() or stuck())
        return self.got if ended() else "stuck"


def main(directory, control=None):
    sys.path.insert(0, directory)
    process = Process()
    shared = [f"shared_{way}_{last}_second" for way in WAYS for last in (0, 1)]
    one, other = ladewerk.ImportEngine(share=shared), ladewerk.ImportEngine()
    if control:
        for engine in (one, other):
            engine._bootstrap._blocking_on = type(_frozen_importlib._blocking_on)()
    places = {"process": ([process, process], "import {} as got"), "shared": ([one, process], "import {} as got"), "engines": ([one, other], "got = circle.ask(1)")}
    report = {}
    for place, (states, ask) in places.items():
        report[place] = {f"{way} {last}": Circle(directory, place, states, ask, way, last).run() for way in WAYS for last in (0, 1)}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # of the control, threads wait for ever
