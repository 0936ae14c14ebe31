# SPDX-License-Identifier: MIT
"""`ladewerk run --reload`, in the supervisor: the process group that the program and its children run in, and the terminal.

A *keeper*, a fork of the supervisor, leads the group for as long as the supervisor lives: so all starts of the program share one group, which has the terminal, and what the
terminal sends (ctrl-C, ctrl-Z) reaches the program as it does without a supervisor. The keeper tells the supervisor of it. If the supervisor is killed, it ends the group.
A program that kills its own group (`os.killpg(0, SIGKILL)`) kills the keeper, too: then there is another.
"""
from __future__ import annotations

import contextlib
import os
import select
import signal

from ladewerk import _processes

ANSWER = b"\0"  # no signal's number
_TOLD = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_DEAF = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE)


def _keep(life: int, told: int) -> None:
    """The keeper, until the supervisor is gone."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    for number in _DEAF:
        signal.signal(number, signal.SIG_IGN)
    for number in _TOLD:
        signal.signal(number, lambda number, frame: None)
    for number in (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):  # it stops with the program, and the supervisor with it
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(wake)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > 2 and fd not in (life, told, awake, wake):
            with contextlib.suppress(OSError):
                os.close(fd)
    os.set_blocking(awake, False)
    os.write(told, ANSWER)
    poll = select.poll()
    poll.register(life)
    poll.register(awake, select.POLLIN)
    while True:
        asked = life in [fd for fd, _ in poll.poll()]
        with contextlib.suppress(BlockingIOError):
            os.write(told, os.read(awake, 100))
        if asked and os.read(life, 1):
            os.write(told, ANSWER)
        elif asked:
            os.killpg(0, signal.SIGTERM)
            os._exit(0)


class Group:
    """Of the program. Signals that the terminal has sent to it can be read from `fileno()`, a byte each."""

    def __init__(self) -> None:
        self._terminal = False
        self._start(0)

    def _start(self, group: int) -> None:
        """In a process with one thread. All signals are blocked until the keeper is one. GROUP: it joins that one, if somebody is left in it."""
        here, life = os.pipe2(os.O_CLOEXEC)
        self._told, told = os.pipe2(os.O_CLOEXEC)
        self._life = life
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._keeper = os.fork()
        if not self._keeper:
            try:
                try:
                    os.setpgid(0, group)
                except PermissionError:
                    os.setpgid(0, 0)
                os.close(life)
                _keep(here, told)
            finally:
                os._exit(1)
        os.close(here)
        os.close(told)
        os.read(self._told, 1)  # its signals are as they should be
        self.pid = os.getpgid(self._keeper)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _start_again(self) -> None:
        """The keeper has been killed."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._keeper, 0)
        os.close(self._life)
        os.close(self._told)
        before = self.pid
        self._start(before)
        with contextlib.suppress(OSError):
            if self._terminal and self.pid != before and os.tcgetpgrp(0) == before:
                os.tcsetpgrp(0, self.pid)

    def fileno(self) -> int:
        return self._told

    def told(self) -> bytes:
        said = os.read(self._told, 100)
        if not said:
            self._start_again()
        return said.replace(ANSWER, b"")

    def told_by_now(self) -> bytes:
        """All that was sent before this call, to whomever in the group it was delivered first."""
        said = b""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._life, b"?")
        poll = select.poll()
        poll.register(self._told, select.POLLIN)
        while ANSWER not in said and poll.poll(1000):  # it may have been stopped
            some = os.read(self._told, 100)
            if not some:
                self._start_again()
                break
            said += some
        return said.replace(ANSWER, b"")

    # --- the terminal ---

    def take_terminal(self) -> None:
        """If it is ours to give. (In a pipeline the others need it.)"""
        with contextlib.suppress(OSError):
            if os.isatty(0) and os.isatty(1) and os.tcgetpgrp(0) == os.getpgrp():
                os.tcsetpgrp(0, self.pid)
                self._terminal = True

    def give_terminal_back(self) -> None:
        with contextlib.suppress(OSError):
            if self._terminal and os.tcgetpgrp(0) == self.pid:
                os.tcsetpgrp(0, os.getpgrp())
        self._terminal = False

    def has_stopped(self) -> bool:
        """Ctrl-Z, and nobody has been told of it yet."""
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self._keeper, os.WNOHANG | os.WUNTRACED)
            return pid == self._keeper and os.WIFSTOPPED(status)
        return False

    def stop_with_it(self) -> None:
        """SIGCONT, the shell's, has us go on."""
        self.give_terminal_back()
        os.kill(os.getpid(), signal.SIGSTOP)

    def go_on(self) -> None:
        """In the foreground or not, as the shell says."""
        self.take_terminal()
        self.signal(signal.SIGCONT)

    # --- the end of a program ---

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def members(self) -> list[int]:
        """Who is in it, the keeper and the dead apart."""
        return [pid for pid in _processes.alive_in(self.pid) if pid != self._keeper]

    def kill(self) -> None:
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.give_terminal_back()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._keeper, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._keeper, 0)
        os.close(self._life)
        os.close(self._told)
