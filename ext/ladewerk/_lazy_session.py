# SPDX-License-Identifier: MIT
"""A command in a session of its own, that ends with all that it has started there, and with whoever runs it: it would be in the way of the next run, and of the user."""
from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import IO

from ladewerk import _processes

PATIENCE = 10.0  # seconds for what was killed to go
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Ending:
    """What SIGINT, SIGTERM and SIGHUP do here: an exception, and while something is being started, that when it can be ended again."""

    def __init__(self) -> None:
        self.late: int | None = None
        self._held = False

    def come(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self.late = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def come_late(self) -> None:
        if self.late is not None:
            number, self.late = self.late, None
            self.come(number, None)


_ending = _Ending()


@contextlib.contextmanager
def ends_with_us() -> Iterator[None]:
    """In the main thread. Signals that are ignored stay so."""
    before = {number: handler for number in _ENDING if (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler)}
    for number in before:
        signal.signal(number, _ending.come)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Session:
    """WORDS, executed with an empty standard input. Used as a context manager: nothing of it is left behind it, but what has gone into a session of its own."""

    def __init__(self, words: Sequence[str], environment: dict[str, str], out: IO[bytes], err: IO[bytes]) -> None:
        self._words, self._environment, self._out, self._err = words, environment, out, err

    def __enter__(self) -> Session:
        with _ending.held():
            self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err, env=self._environment, start_new_session=True)
        return self

    def wait(self, seconds: float | None) -> int | None:
        """Its status; None: it takes longer."""
        _ending.come_late()
        return self._end() if self._is_over(seconds) else None

    def _is_over(self, seconds: float | None) -> bool:
        """Whether it has ended. It is not reaped: its number stays that of the session, which nobody else can have."""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(None if seconds is None else seconds * 1000))
        finally:
            os.close(pidfd)

    def _end(self) -> int:
        if self._process.returncode is None:
            self._kill()
        return self._process.wait()

    def _kill(self) -> None:
        """Until nobody is left, since they may start others meanwhile. Who is somebody else's, or waits for a disk, is given up."""
        deadline = time.monotonic() + PATIENCE
        while (left := _processes.alive_in(self._process.pid, session=True)) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def __exit__(self, *error: object) -> None:
        with _ending.held():
            self._end()
