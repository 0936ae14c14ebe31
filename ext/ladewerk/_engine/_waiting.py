# SPDX-License-Identifier: MIT
"""Who waits for which module lock, in all import states together.

importlib finds circles of threads that wait for each other's locks in its `_blocking_on`. Locks are of one state each, but threads go from one to another: a body in an engine asks for a
module of the process while that one's body asks for a module of the engine. So what the process's importlib has is given to all copies.
"""

import os
import sys
from typing import Any

from _frozen_importlib import _blocking_on  # type: ignore[attr-defined]


class Nesting:
    """For an engine of 3.11, whose `_blocking_on` has one lock per thread: an acquisition deletes the thread's when it is over, and one within another (an import by a finaliser that the
    collector calls, or by a signal handler) would delete that of the other, which then fails. Within one state it does; across states each acquisition by an engine puts back what was there.

    Threads: each touches what is its own, and what runs within a call here leaves things as it found them.
    """

    def __init__(self, data: dict[int, Any]) -> None:
        self.data = data
        self.get = data.get
        self._before: dict[int, tuple[Any, Any]] = {}  # thread: the lock that was there, and the same of the acquisition around this one
        self._stale: dict[int, Any] = {}  # in a child made by fork(): what threads that it has not waited for; others may get their numbers
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._stale = dict(self.data)

    def __setitem__(self, thread: int, lock: Any) -> None:
        there = self.data.get(thread)
        if there is not None and there is self._stale.get(thread):
            there = None
        self._before[thread] = there, self._before.get(thread)
        self.data[thread] = lock

    def __delitem__(self, thread: int) -> None:
        # No call: a signal handler that raises would come after it, and leave half of this undone.
        lock, around = self._before[thread]
        if around is None:
            del self._before[thread]
        else:
            self._before[thread] = around
        if lock is not None:
            self.data[thread] = lock
        elif thread in self.data:
            del self.data[thread]


# From 3.12 on each thread has a list, to which every acquisition adds its lock and removes no other.
blocking_on: Any = _blocking_on if sys.version_info >= (3, 12) else Nesting(_blocking_on)
