# SPDX-License-Identifier: MIT
"""``watch()``: a thread that reloads when sources are saved."""
from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from ._errors import Reloaded, ReloadError
from ._reloader import Reloader

SELECTABLE = 1024  # descriptors from here on are nothing for select()
SETTLE = 0.001  # seconds without an event: a save is a truncation and one or more writes
PLANNING = 0.01  # for plans that may have to be thrown away
WRITING = 0.1  # for a file that is empty or gone at that moment
AGAIN = 0.5  # where the kernel does not tell, after readers did not let go, and for directories that nobody has asked the kernel about yet


def _log(what: Reloaded | ReloadError) -> None:
    import logging
    logger = logging.getLogger("ladewerk")
    if isinstance(what, ReloadError):
        logger.error("%s", what, exc_info=what.__cause__)
    else:
        logger.info("reloaded %s (%.1f ms)", ", ".join((*what.executed, *what.removed)), 1000 * what.duration)


class Watch:
    """What ``ladewerk.watch()`` returns: ``stop()`` it, or use it as a context manager. When it is there, every later save will be seen."""

    def __init__(self, reloader: Reloader, on_change: Callable[[Reloaded | ReloadError], object] | None, own: bool = False) -> None:
        self.reloader, self._own = reloader, own  # OWN: nobody else reloads with it
        self._on_change = on_change or _log
        self._pid = os.getpid()
        self._stopping = self._by_itself = False
        reloader.prepare()
        self._awake, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="ladewerk.watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No reload begins after it has returned; from ON_CHANGE itself, too."""
        if self._stopping:
            return
        self._by_itself = threading.current_thread() is self._thread
        self._stopping = True
        if os.getpid() != self._pid:  # a child: the thread and the pipe's other end are its parent's
            self._close()
            return
        os.write(self._wake, b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # --- the thread ---

    def _run(self) -> None:
        again = self._reload()  # what was saved before
        while not self._stopping:
            due = again or not self.reloader.told_of_all()
            told = self._wait(AGAIN)
            if self._stopping:
                break
            if told or not due:  # what was imported since may be saved where the kernel has not been asked to tell: look, which costs next to nothing
                due = self._settled()
            if due and not self._stopping:
                again = self._reload()
        if self._by_itself:
            self._close()

    def _close(self) -> None:
        os.close(self._awake)
        os.close(self._wake)
        if self._own:
            self.reloader.close()

    def _wait(self, timeout: float | None) -> bool:
        """True: the kernel has told of something."""
        told = self.reloader.fileno()
        fds = [self._awake, told] if told >= 0 else [self._awake]
        if timeout is not None and timeout <= SETTLE and max(fds) < SELECTABLE:  # poll() would wait for whole milliseconds
            return told in select.select(fds, [], [], timeout)[0]
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(None if timeout is None else 1000 * timeout)
        return any(fd == told for fd, _ in ready)

    def _settled(self) -> bool:
        """Wait until whoever saves has finished, within bounds. Whether there is something to reload."""
        try:
            return self._waited()
        except Exception:  # a foreign object's, that was asked what it is: the reload meets it, too, and says so
            return True

    def _waited(self) -> bool:
        end = time.monotonic() + WRITING
        noted, planning = self.reloader.note(), 0.0
        found, told = noted is not None, time.monotonic()
        while found and not self._stopping and time.monotonic() < end:
            if noted and planning < PLANNING:
                begun = time.monotonic()
                self.reloader.plan_ahead()
                planning += time.monotonic() - begun
            if not self._wait(max(0.0, told + SETTLE - time.monotonic())) and noted is not False:
                break
            now, told = self.reloader.note(), time.monotonic()
            noted = noted if now is None and noted is not False else not self.reloader.writing()
        return found

    def _reload(self) -> bool:
        """True: once more, soon."""
        try:
            done = self.reloader.reload()
        except ReloadError as error:
            self._tell(error)
            return error.name is None
        except BaseException as error:  # a finder's, or a body's that is no Exception: this thread goes on
            other = ReloadError(f"{type(error).__name__}: {error}")
            other.__cause__ = error
            self._tell(other)
            return False
        if done or done.skipped:
            self._tell(done)
        return False

    def _tell(self, what: Reloaded | ReloadError) -> None:
        try:
            self._on_change(what)
        except Exception:
            import logging
            logging.getLogger("ladewerk").exception("on_change")
