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


def _hold(locks: list[Any]) -> list[Any] | None:
    """Keep LOCKS from being taken; None if one is. Waits for nobody: a thread that is about to take one may be waiting for the import lock."""
    held: list[Any] = []
    free = False
    try:
        for lock in locks:
            if not lock.lock.acquire(False):
                break
            held.append(lock.lock)
            if lock.owner is not None:
                break
        else:
            free = True
    finally:  # after an interrupt, too
        if not free:
            for guard in held:
                guard.release()
    return held if free else None


class Quiet:
    """For what is_one(name) says is concerned, and for what is in it: no import of it is under way. ERROR: what is raised where that cannot be."""

    def __init__(self, is_one: Callable[[str], bool], error: Callable[[str], Exception]) -> None:
        self._is_one, self._error = is_one, error
        self._begun, self._patience = time.monotonic(), PATIENCE

    def give(self, seconds: float) -> None:
        """So long from now, and no longer."""
        self._begun, self._patience = time.monotonic(), seconds

    def hold(self) -> list[Any] | None:
        """With the import lock held: what go_on() is to let go of. None: an import is under way. The error: it is this thread's, or does not end."""
        _imp.acquire_lock()
        try:
            locks = _locks_below(self._is_one)
            held = _hold(locks)
            if held is not None:
                return held
            me = getattr(_bootstrap, "_thread", threading).get_ident()  # the one that importlib uses
            mine = sorted(lock.name for lock in locks if lock.owner == me)
            names = sorted(lock.name for lock in locks if lock.owner is not None)
        except BaseException:
            _imp.release_lock()
            raise
        del locks
        _imp.release_lock()
        if mine:
            raise self._error(f"{', '.join(mine)} cannot be replaced or unloaded: this thread is importing it")
        if time.monotonic() - self._begun > self._patience:
            raise self._error(f"still being imported after {self._patience:g} s: {', '.join(names)}")
        return None

    def wait(self) -> list[Any]:
        """hold(), as soon as it can be."""
        while (held := self.hold()) is None:
            waited = time.monotonic() - self._begun
            time.sleep(min(0.0002 + waited / 10, 0.002))  # often: where others import all the time there are short gaps only
        return held


def go_on(held: list[Any]) -> None:
    try:
        for guard in held:
            guard.release()
    finally:
        _imp.release_lock()
