# SPDX-License-Identifier: MIT
"""The processes of `ladewerk check`. Each gets a list of modules and reports on one after the other; where one dies or hangs, the module
that it was at is known, and another process goes on behind that one.

A process is in a session of its own: what bodies have started ends with it.
"""
from __future__ import annotations

import marshal
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ladewerk._check_worker import ASK
from ladewerk.cli import Failure

START = 60.0  # seconds that an interpreter may take to come up
DUMP = 5.0  # to say where it hangs
TICK = 0.1  # how long a death may go unnoticed if a child that lives keeps the pipes open
TAIL = 1 << 12  # of what is written to standard error
DUMPED = 1 << 20  # of what faulthandler says
CHUNKS = 64  # read in one go; some bodies never stop writing

Job = tuple[str, str]  # module, file


@dataclass
class Task:
    """Jobs for one process. READING: nothing is executed."""

    jobs: list[Job]
    reading: bool = False


@dataclass
class Setup:
    path: list[str]  # sys.path
    inside: tuple[str, ...]  # what the files begin with that lines are wanted of
    timeout: float  # for one module; 0: none


# A job's answer: "loaded", origin; "read", edges; "failed", {...}; "died", how, what it has said, by whom; "hung", what it has said, by whom.
Answer = tuple[Any, ...]
Result = tuple[Task, Job, Answer]


def _environment() -> dict[str, str]:
    return {**os.environ, "LADEWERK": "0" if os.environ.get("LADEWERK") == "0" else "1"}


def _order(task: Task, setup: Setup) -> int:
    """A file in memory: a pipe would fill up, and wait for a process that does not come up."""
    order = os.memfd_create("ladewerk check")
    with open(order, "wb", closefd=False) as file:
        marshal.dump((task.reading, task.jobs, setup.path, setup.inside), file)
    return order


class _Worker:
    """One process and what it has said so far."""

    def __init__(self, task: Task, setup: Setup) -> None:
        from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

        self.task, self.setup = task, setup
        self.position = -1  # of the job it is at; not up yet
        self.data, self.tail = b"", b""
        order = _order(task, setup)
        self.dump = os.memfd_create("ladewerk check")  # what faulthandler says
        self.answers, theirs = os.pipe()
        code = f"from ladewerk._check_worker import main; main({order}, {theirs}, {self.dump})"
        try:
            self.process = subprocess.Popen([sys.executable, *_args_from_interpreter_flags(), "-P", "-c", code], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(order, theirs, self.dump), env=_environment(),
                                            start_new_session=True)
        except OSError as error:
            os.close(self.answers)
            os.close(self.dump)
            raise Failure(f"cannot start {sys.executable}: {error.strerror}") from None
        finally:
            os.close(order)
            os.close(theirs)
        assert self.process.stderr
        self.errors = self.process.stderr.fileno()
        self.open = {self.answers, self.errors}
        self.since = time.monotonic()
        for descriptor in self.open:
            os.set_blocking(descriptor, False)
        try:  # modules that crash are what is looked for; nobody needs their memory
            resource.prlimit(self.process.pid, resource.RLIMIT_CORE, (0, resource.prlimit(self.process.pid, resource.RLIMIT_CORE)[1]))
        except OSError:
            pass

    def read(self, descriptor: int) -> None:
        """What has come by now."""
        for _ in range(CHUNKS):
            if (data := self._take(descriptor)) is None:
                return
            if not data:
                self.open.discard(descriptor)
                return
            if descriptor == self.answers:
                self.data += data
            else:
                self.tail = (self.tail + data)[-TAIL:]

    def read_all(self) -> None:
        for descriptor in list(self.open):
            self.read(descriptor)

    def _take(self, descriptor: int) -> bytes | None:
        """b"" at the end, None if there is nothing yet."""
        try:
            return os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return None

    def messages(self) -> Iterator[Any]:
        while len(self.data) >= 4 and len(self.data) >= (end := 4 + int.from_bytes(self.data[:4], "little")):
            message, self.data = marshal.loads(self.data[4:end]), self.data[end:]
            yield message

    def results(self) -> Iterator[Result]:
        for message in self.messages():
            self.since = time.monotonic()
            if self.position >= 0:
                yield self.task, self.task.jobs[self.position], tuple(message)
            self.position += 1

    def is_done(self) -> bool:
        return self.position == len(self.task.jobs)

    def is_dead(self) -> bool:
        """It stays a zombie, so that its number, and its group's, is nobody else's."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def is_late(self) -> bool:
        limit = START if self.position < 0 else self.setup.timeout
        return bool(limit) and time.monotonic() - self.since > limit

    def dumped(self, start: int = 0) -> str:
        return os.fsdecode(os.pread(self.dump, DUMPED, start))

    def where_it_hangs(self) -> str:
        """What faulthandler says, which ends with the outermost frame: our own."""
        before = os.fstat(self.dump).st_size
        os.kill(self.process.pid, ASK)
        until = time.monotonic() + DUMP
        while 'File "<string>", line 1 in <module>' not in (said := self.dumped(before)) and time.monotonic() < until and not self.is_dead():
            time.sleep(0.01)
            self.read_all()
        return said

    def end(self) -> int:
        """Its exit status, or the negative number of the signal."""
        if self.is_done():  # it is about to go by itself, and may have something to store
            until = time.monotonic() + START
            while time.monotonic() < until and not self.is_dead():
                time.sleep(0.001)
        self.kill()
        return self.process.returncode

    def kill(self) -> None:
        if self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it has not come so far as to have a group, or has other rights now
            self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        os.close(self.answers)
        os.close(self.dump)
        assert self.process.stderr
        self.process.stderr.close()


def _cannot_start(worker: _Worker, why: str) -> Failure:
    lines = [line for line in os.fsdecode(worker.tail).splitlines() if line.strip()]
    return Failure(f"{sys.executable} {why} before it came to the modules" + (f": {lines[-1]}" if lines else ""))


class Pool:
    def __init__(self, setup: Setup, slots: int) -> None:
        self.setup, self.slots = setup, slots
        self.active: list[_Worker] = []
        self.waiting: deque[Task] = deque()

    def run(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """In the order in which they come."""
        self.waiting.extend(tasks)
        try:
            while self.waiting or self.active:
                while self.waiting and len(self.active) < self.slots:
                    self.active.append(_Worker(self.waiting.popleft(), self.setup))
                self._listen()
                for worker in list(self.active):
                    yield from worker.results()
                    yield from self._judge(worker)
        finally:
            for worker in self.active:
                worker.close()
            self.active.clear()

    def _listen(self) -> None:
        listeners = {descriptor: worker for worker in self.active for descriptor in worker.open}
        poll = select.poll()
        for descriptor in listeners:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(TICK * 1000):
            listeners[descriptor].read(descriptor)

    def _judge(self, worker: _Worker) -> Iterator[Result]:
        """Whether it has ended, died or takes too long; if not, nothing."""
        if worker.is_done():
            worker.end()
        elif worker.is_dead():
            worker.read_all()
            yield from worker.results()
            if not worker.is_done():
                yield from self._dead(worker)
        elif worker.is_late():
            yield from self._late(worker)
        else:
            return
        self.active.remove(worker)
        worker.close()

    def _dead(self, worker: _Worker) -> Iterator[Result]:
        if worker.position < 0:
            raise _cannot_start(worker, "ended")
        yield from self._go_on(worker, ("died", worker.end(), worker.dumped()))

    def _late(self, worker: _Worker) -> Iterator[Result]:
        at = worker.position
        if at < 0:
            raise _cannot_start(worker, f"took more than {START:.0f} s")
        said = worker.where_it_hangs()
        worker.kill()
        worker.read_all()
        yield from worker.results()
        if worker.position == at:
            yield from self._go_on(worker, ("hung", said))
        elif rest := worker.task.jobs[worker.position:]:  # it has come to an end at the last moment
            self.waiting.appendleft(Task(rest, worker.task.reading))

    def _go_on(self, worker: _Worker, answer: Answer) -> Iterator[Result]:
        """The modules of a package whose body ends the process would end the next one: they share its fate."""
        task, at = worker.task, worker.position
        owner = task.jobs[at][0]
        rest = list(task.jobs[at + 1:])
        yield task, task.jobs[at], (*answer, owner)
        while rest and not task.reading and rest[0][0].startswith(owner + "."):
            yield task, rest.pop(0), (*answer, owner)
        if rest:
            self.waiting.appendleft(Task(rest, task.reading))
