# SPDX-License-Identifier: MIT
"""Waiting until certain modules are not being imported, and keeping it so for a moment.

An import holds its module's lock from before its first look at sys.modules until after its last. Owners come and go: the import lock, under which locks are made,
keeps new locks from being made; those that are there and nobody's stay so, because what a lock guards its owner with is held. Only locks of imports under way
are there, so this costs what is being imported, not what is loaded.
"""
from __future__ import annotations

import _imp
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from operator import call
from typing import Any

_bootstrap: Any = sys.modules["_frozen_importlib"]  # importlib._bootstrap

#: Seconds for which imports under way are waited for.
PATIENCE = 60.0


def _locks_below(is_one: Callable[[str], bool]) -> list[Any]:
    """The locks of imports of modules that are concerned, or of what is in them."""
    def is_ours(name: str) -> bool:
        while name:
            if is_one(name):
                return True
            name = name.rpartition(".")[0]
        return False
    found = [reference() for name, reference in list(getattr(_bootstrap, "_module_locks", {}).items()) if isinstance(name, str) and is_ours(name)]
    return [lock for lock in found if lock is not None and hasattr(lock, "lock") and hasattr(lock, "owner")]


def _take(locks: list[Any], got: list[bool]) -> bool:
    """Keep LOCKS from being taken; False if one is. Waits for nobody: a thread that is about to take one may be waiting for the import lock. GOT: which it has."""
    got.extend(map(call, [partial(lock.lock.acquire, False) for lock in locks]))
    return all(got) and all(lock.owner is None for lock in locks)


class Quiet:
    """For what is_one(name) says is concerned, and for what is in it: no import of it is under way. ERROR: what is raised where that cannot be.

    Between hold() and release() this thread has the import lock. What is taken or given back is so in one call of C, together with the note of it: no signal's
    handler comes in between, and release() may be called again after an interrupt, and in any case.
    """

    def __init__(self, is_one: Callable[[str], bool], error: Callable[[str], Exception]) -> None:
        self._is_one, self._error = is_one, error
        self._begun, self._patience = time.monotonic(), PATIENCE
        self._locks: list[Any] = []
        self._got: list[bool] = []  # which of them are held
        self._import_lock: list[Callable[[], None]] = []  # what gives it back

    def give(self, seconds: float) -> None:
        """So long from now, and no longer."""
        self._begun, self._patience = time.monotonic(), seconds

    def hold(self) -> bool:
        """False: an import is under way. The error: it is this thread's, or does not end. Only True leaves something to release()."""
        quiet = False
        take: list[Callable[[], None]] = [partial(self._import_lock.append, _imp.release_lock), _imp.acquire_lock]
        try:
            any(map(call, take))
            self._locks = _locks_below(self._is_one)
            quiet = _take(self._locks, self._got)
            me = getattr(_bootstrap, "_thread", threading).get_ident()  # the one that importlib uses
            mine = sorted(lock.name for lock in self._locks if lock.owner == me)
            names = sorted(lock.name for lock in self._locks if lock.owner is not None)
        except BaseException:
            self.release()
            raise
        if quiet:
            return True
        self.release()
        if mine:
            raise self._error(f"{', '.join(mine)} cannot be replaced or unloaded: this thread is importing it")
        if time.monotonic() - self._begun > self._patience:
            raise self._error(f"still being imported after {self._patience:g} s: {', '.join(names)}")
        return False

    def release(self) -> None:
        """After hold(), whatever came of it."""
        guards = [lock.lock.release for lock, got in zip(self._locks, self._got) if got]
        any(map(call, [*guards, self._got.clear, *self._import_lock, self._import_lock.clear]))
        self._locks = []

    def wait(self) -> None:
        """hold(), as soon as it can be."""
        while not self.hold():
            waited = time.monotonic() - self._begun
            time.sleep(min(0.0002 + waited / 10, 0.002))  # often: where others import all the time there are short gaps only

    def settle(self) -> None:
        """wait(), and hold nothing."""
        try:
            self.wait()
        finally:
            try:  # (no call before it: an interrupt comes where a call begins or ends)
                self.release()
            except BaseException:
                self.release()
                raise
