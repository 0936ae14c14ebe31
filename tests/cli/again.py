# SPDX-License-Identifier: MIT
"""`ladewerk run --reload` under test: what the program and the supervisor say, line by line."""
from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any, Self

from shell import Shell

PATIENCE = 60


class Again:
    """The program WORDS under a supervisor. PATCH: Python code that is executed in the supervisor first, with `rerun` as ladewerk._rerun (controls).
    Lines are those of stdout and stderr, in the order in which they came."""

    def __init__(self, shell: Shell, *words: object, patch: str = "", env: dict[str, str] = {}, script: object = None) -> None:
        run = ["run", *map(str, words)]
        code = f"import sys; from ladewerk import _rerun as rerun, _rerun_template, _rerun_watch\n{patch}\nfrom ladewerk.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [str(shell.python), "-P", "-c", code, *run] if patch else [str(script or shell.script), *run]
        self.shell = shell
        self.process = subprocess.Popen(command, cwd=shell.cwd, env={**shell.env, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.all: list[str] = []
        threading.Thread(target=self._read, args=[self.process.stdout], daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self, *starts: str) -> str:
        """The next one that begins like one of these."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {starts} after:\n" + "\n".join(self.all)) from None
            assert line is not None, f"it ended without {starts}, after:\n" + "\n".join(self.all)
            self.all.append(line)
            if line.startswith(starts):
                return line

    def start(self) -> dict[str, Any]:
        """What the next start of the program says of itself."""
        return json.loads(self.line("start ").partition(" ")[2])

    def save(self, name: str, text: str) -> Path:
        return save(self.shell, name, text)

    def until(self, condition: Any, save: Any) -> dict[str, Any]:
        """Start it again, by SAVE, until CONDITION is true of a start: templates are made when nothing else is to be done."""
        end, pause = time.monotonic() + PATIENCE, 0.5
        while True:
            save()
            said = self.start()
            if condition(said):
                return said
            assert time.monotonic() < end, self.all[-3:]
            time.sleep(pause)  # the supervisor waits for quiet
            pause *= 2

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
        self.process.wait()


def save(shell: Shell, name: str, text: str) -> Path:
    """As editors do, and in one event: what begins and ends a write may be two changes to who looks in between."""
    new = shell.cwd / (name + "~")
    new.write_text(text)
    new.rename(shell.cwd / name)
    return shell.cwd / name


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
