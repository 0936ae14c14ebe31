# SPDX-License-Identifier: MIT
"""`ladewerk run --reload`, in the supervisor: a template (see _rerun_child.py) as it is seen from outside."""
from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterable

from ._rerun_child import SIZE, join, parts, split
from ._rerun_watch import Looks, Places

HIGH = 200  # a program has its descriptors below


def _high(fd: int) -> int:
    """A number for FD that the program does not expect to be given."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH)
    except OSError:
        return fcntl.fcntl(fd, fcntl.F_DUPFD, 3)


class Rules:
    """What the supervisor was told of the program."""

    def __init__(self, words: list[str], roots: list[str], live: bool, mask: Iterable[int]) -> None:
        import sysconfig

        self.words, self.live, self.mask = words, live, mask
        self.roots = [os.path.join(os.path.abspath(root), "") for root in roots]
        paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        zipped = os.path.join(sys.base_prefix, sys.platlibdir, f"python{sys.version_info[0]}{sys.version_info[1]}.zip")
        self.foreign = [os.path.join(path, "") for path in (*paths, zipped) if path]


class Template:
    """A process that forks the program's. It has the modules that are asked for (`make`), or, bare, none."""

    def __init__(self, rules: Rules, places: Places) -> None:
        self._rules, self._places = rules, places
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.live: socket.socket | None = None
        live = None
        if rules.live:
            self.live, live = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._making = self.greeted = self.ready = self.ended = self.stale = False
        self.looks = Looks()  # its own, or the program's that was forked last
        self.own = Looks()  # what it was made from
        self.asked: set[str] = set()  # to have these
        self.loaded: set[str] = set()  # and has these
        self.spoilt: list[str] | None = None
        self.status = 0  # of its own end
        self.pid = os.fork()
        if not self.pid:
            try:
                self._become(control, report, live)
            finally:
                os._exit(126)
        for end in filter(None, (control, report, live)):
            end.close()
        self._send(join("rules", *rules.foreign))
        if rules.roots:
            self._send(join("roots", *rules.roots))

    def _become(self, *ends: socket.socket | None) -> None:
        fds = [_high(end.fileno()) if end is not None else -1 for end in ends]
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._rules.mask)
        os.environ["LADEWERK_RELOADED"] = ":".join(map(str, (os.getpid(), *fds)))
        try:
            os.execv(sys.executable, [sys.executable, *self._rules.words])
        except OSError as error:
            os.write(2, f"ladewerk: cannot execute {sys.executable}: {error.strerror}\n".encode())

    def _send(self, message: bytes) -> bool:
        with contextlib.suppress(OSError):
            self.control.send(message)
            return True
        return False

    def make(self, names: Iterable[str], without: Iterable[str]) -> None:
        """Have it import NAMES, of which it will say what came of it."""
        self.asked.update(names)
        self._making = True
        for message in (*parts("import", names), *parts("without", without), b"make"):
            self._send(message)

    def run(self, group: int) -> bool:
        """Have it fork; what is watched now needs not be asked for. False: it is dead."""
        if self.loaded and not self.own.names:
            self.own = self.looks
        self.looks = Looks()
        for message in (b"unknown", *parts("known", self._places.known())):
            self._send(message)
        return self._send(join("run", group))

    def tops(self) -> set[str]:
        """What it has that a program's own directory could hide."""
        return {name for name in self.loaded if "." not in name}

    # --- what it says ---

    def hear(self) -> list[str] | None:
        """The next message on the control socket: [pid, N] or [end, STATUS]; [] for others; None: it is gone."""
        try:
            message = self.control.recv(SIZE)
        except OSError:
            message = b""
        if not message:
            self.ended = True
            return None
        verb, *words = split(message)
        if verb == "hello":
            self.greeted = True
            for entry in words:
                self._places.watch(os.path.abspath(entry), links=False)
        elif verb == "loaded":
            self.loaded.update(words)
        elif verb == "ready":
            self.ready, self._making = True, False
        elif verb == "spoilt":
            self.spoilt = words
        else:
            return [verb, *words]
        return []

    def reports(self) -> bool:
        """Take in what it, or its program, looks for. True: there was something."""
        some = False
        while True:
            try:
                message = self.report.recv(SIZE, socket.MSG_DONTWAIT)
            except OSError:
                return some
            if not message:
                return some
            some = True
            self._take(*split(message))

    def _take(self, verb: str, *words: str) -> None:
        if verb == "look":
            self.looks.look(words[0], words[1], list(words[2:]))
            return
        wait, rest = words[0], list(words[1:])
        if verb == "path":
            number, top, *directories = rest
            self.looks.path(number, top == "1", directories)
        else:
            directories = rest
        if verb == "list":
            self.looks.into(directories)
        for directory in directories:
            self._places.watch(directory, links=not self._making)
        if wait != "0":
            with contextlib.suppress(OSError):
                self.report.send(wait.encode())

    def close(self) -> None:
        for end in filter(None, (self.control, self.report, self.live)):
            end.close()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                self.status = os.waitpid(self.pid, 0)[1]
            self.pid = 0
        self.ended = True
