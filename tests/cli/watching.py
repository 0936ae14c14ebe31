# SPDX-License-Identifier: MIT
"""`ladewerk watch` under test: a daemon that is started, asked, stopped, killed and started again."""
from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from shell import Shell
from talker import LOOP, Talker

LONG = os.environ.get("LADEWERK_LONG", "0") != "0"
CHANGES = Path(__file__).resolve().parents[1] / "ext" / "changes.py"
# What a program needs to change files, and to import them anew.
PREPARE = f"import sys; sys.dont_write_bytecode = True; changes = {{}}; exec(open({str(CHANGES)!r}).read(), changes)"


def until(condition: Callable[[], object], seconds: float = 20) -> object:
    """What CONDITION gives, once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return found


def instances(pid: int) -> list[int]:
    """The descriptors of PID that are inotify instances."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:inotify":
                found.append(int(fd))
    return found


class Daemon:
    """One of SHELL's user, for ROOTS. Programs with self.env find it. A second one has another NAME."""

    def __init__(self, shell: Shell, *roots: object, name: str = "socket", options: tuple[str, ...] = (), prefix: tuple[object, ...] = (),
                 env: dict[str, str] = {}, start: bool = True) -> None:
        self.shell, self.socket = shell, shell.root / name
        self.env: dict[str, str | None] = {"LADEWERK_WATCH": str(self.socket)}
        self.command = [*map(str, prefix), str(shell.script), "watch", *options, *map(str, roots)]
        self.more = env
        self.process: subprocess.Popen[str] | None = None
        self.said = ""
        if start:
            self.start()

    def start(self, wait: bool = True) -> None:
        self.process = subprocess.Popen(self.command, cwd=self.shell.cwd, env={**self.shell.env, **self.env, **self.more}, stdin=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until everything has been read."""
        self.said = self.process.stderr.readline()
        assert self.said.startswith("ladewerk: watching"), self.said + self.process.stderr.read()

    def directly(self) -> None:
        """From now on without the interpreter that only checks what it is told: it becomes this program in the end."""
        pid = self.process.pid
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        self.command = [os.readlink(f"/proc/{pid}/exe"), *map(os.fsdecode, words[1:])]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.reap()

    def reap(self) -> tuple[int, str]:
        status = self.process.wait(30)
        said = self.process.stderr.read()
        self.process.stderr.close()
        self.process = None
        return status, said

    def close(self) -> None:
        if not self.process:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        status, said = self.reap()
        assert status == 0, said

    def status(self) -> dict:
        return self.shell.json("watch", "--status", env=self.env)

    def settle(self) -> dict:
        """Until it has looked at everything again."""
        def settled() -> dict | None:
            status = self.status()
            return status if status["ready"] and not status["marked"] else None
        found = until(settled, 30)
        assert isinstance(found, dict)
        return found

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc[0] and self.process:
            self.signal(signal.SIGCONT)
            self.kill()
        self.close()


class Program(Talker):
    """One with Ladewerk."""

    def __init__(self, shell: Shell, *paths: object, prefix: tuple[object, ...] = (), env: dict[str, str | None] = {}, prepare: bool = True) -> None:
        merged = {**shell.env, "PYTHONPATH": os.pathsep.join(map(str, paths)), "LADEWERK": "1", **env}
        super().__init__([*prefix, shell.python, "-P", "-c", LOOP], {name: value for name, value in merged.items() if value is not None}, shell.cwd)
        if prepare:
            self(PREPARE)

    def ask(self, *names: str) -> object:
        """What modules hold, imported anew; None: there is no such module."""
        return self(f"result = changes['ask']({list(names)!r})")

    def daemon(self) -> dict:
        """What is said of the daemon."""
        watch = self("import ladewerk; result = ladewerk.stats()['watch']")
        assert isinstance(watch, list)
        return next(w for w in watch if w["by"] == "daemon")

    def is_attached(self) -> bool:
        """After an import, which is when it would attach."""
        self.ask("no_such_module")
        return self.daemon()["reason"] is None

    def unlooked(self, name: str) -> bool:
        """Whether NAME, which has been imported before, is imported again without a look at the file system."""
        return bool(self(f"""
import ladewerk
def statx(): return ladewerk.stats()["session"]["statx"]
before = statx()
changes["ask"]([{name!r}])
result = statx() == before
"""))
