# SPDX-License-Identifier: MIT
"""What tests of lazy imports share: programs of a few files, run in children that are forked from one process per mode, since a fork is cheaper than a start.

    def test_something(lazily, alike):
        lazily({"a.py": "import b\\ndef f(): return b.x", "b.py": "x = 1"}, '''
            import a
            assert "b" not in bound("a") and not loaded("b")   # it waits: the dictionary of the module as it is, which asking does not change
            assert a.f() == 1 and "b" in bound("a")
        ''')
        alike({"a.py": "import nothing"}, "import a")   # exit status, output and errors as with stock Python

The program is `__main__`, whose own imports are eager. What it needs of its own is imported by itself: the parent has only what any interpreter has at its start.
"""
from __future__ import annotations

import difflib
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ext"))

import whose  # noqa: E402
from harness import Tree  # noqa: E402

#: What a process is started with: stock Python; Ladewerk without lazy imports; its modes.
MODES = {
    "stock": {"LADEWERK": "0"},
    "eager": {"LADEWERK": "1", "LADEWERK_LAZY": "0"},
    "default": {"LADEWERK": "1", "LADEWERK_LAZY": "default"},
    "own": {"LADEWERK": "1", "LADEWERK_LAZY": "own"},
    "all": {"LADEWERK": "1", "LADEWERK_LAZY": "all"},
}

# Reads a line per program, and forks. The child leaves the loop, and goes on with its program as if it had been started with it.
NURSERY = """
import os, sys

def _next():
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            return eval(line)
        os.write(1, b"%d\\n" % os.waitpid(pid, 0)[1])
    os._exit(0)

def _begin(root, path, arguments, out, err):
    for number, file in enumerate((os.devnull, out, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(root)
    sys.path[0] = root
    sys.argv[:] = [path, *arguments]
    with open(path, encoding="utf-8") as file:
        return compile(file.read(), path, "exec")

exec(_begin(*_next()))
"""

# A module's dictionary as the collector finds it: who asks the module for it has all that waits resolved. From 3.15 on what waits is in it, as an object of its own.
# On one line, so that the program's own lines keep their numbers but for one.
PREAMBLE = """\
import gc, sys; bound = lambda name: {key for key, value in next(found for found in gc.get_referents(sys.modules[name]) if type(found) is dict).items() if type(value).__name__ != "lazy_import"}; loaded = lambda *names: [name for name in names if name in sys.modules]
"""


@dataclass
class Ended:
    """What a program left: its wait status (0: it ended well), and its output."""

    status: int
    out: str
    err: str


class Nursery:
    """A process, started with what ENVIRONMENT says, that has children run programs."""

    def __init__(self, base: Path, environment: dict[str, str]):
        self._tree, self._environment, self._process = Tree(base), environment, None

    def _start(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            env = self._tree.environment(self._environment["LADEWERK"] == "1", PYTHONPATH=None, **self._environment)
            self._process = subprocess.Popen(self._tree.command(NURSERY), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=self._tree.work, start_new_session=True)
        return self._process

    def run(self, root: Path, path: Path, arguments: tuple[str, ...] = ()) -> Ended:
        process, out, err = self._start(), path.with_suffix(".out"), path.with_suffix(".err")
        for file in out, err:
            file.write_bytes(b"")
        process.stdin.write(repr((str(root), str(path), arguments, str(out), str(err))).encode() + b"\n")
        process.stdin.flush()
        ended = select.select([process.stdout], [], [], 120)[0] and process.stdout.readline()
        if not ended:
            self.end()
        assert ended, f"it does not end\n{out.read_text()}\n{err.read_text()}"
        return Ended(int(ended), out.read_text(), err.read_text())

    def end(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None


class Programs:
    """Programs, and the processes that they are run from: one per environment, started when it is first needed."""

    def __init__(self, base: Path):
        self._base, self._count, self._nurseries = base, 0, {}

    def write(self, files: dict[str, str], main: str) -> tuple[Path, Path]:
        """FILES (text by name) in a directory of their own, and the program MAIN beside it."""
        self._count += 1
        root = self._base / f"program{self._count}"
        root.mkdir()
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        path = root.with_suffix(".py")
        path.write_text(textwrap.dedent(main))
        return root, path

    def start(self, mode: str, root: Path, path: Path, arguments: tuple[str, ...] = (), **env: str) -> Ended:
        """Run PATH, with ROOT at the head of sys.path, in MODE; ENV: more for the environment."""
        environment = {**MODES[mode], **env}
        key = tuple(sorted(environment.items()))
        if key not in self._nurseries:
            self._nurseries[key] = Nursery(self._base / f"nursery{len(self._nurseries)}", environment)
        return self._nurseries[key].run(root, path, arguments)

    def run(self, mode: str, files: dict[str, str], main: str, *arguments: str, **env: str) -> Ended:
        return self.start(mode, *self.write(files, main), arguments, **env)

    def end(self) -> None:
        for nursery in self._nurseries.values():
            nursery.end()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    programs = Programs(tmp_path_factory.mktemp("programs"))
    yield programs
    programs.end()


@pytest.fixture
def lazily(programs: Programs):
    """lazily(files, main, mode="all", **env): MAIN, which has `bound(module's name)` and `loaded(*names)`, ends well. What it left."""
    def run(files: dict[str, str], main: str, *arguments: str, mode: str = "all", **env: str) -> Ended:
        if whose.NOBODYS and mode not in ("stock", "eager"):
            pytest.skip(whose.WHY_NONE)
        ended = programs.run(mode, files, PREAMBLE + textwrap.dedent(main), *arguments, **env)
        assert ended.status == 0, f"status {ended.status}\n{ended.out}{ended.err}"
        return ended
    return run


@pytest.fixture
def alike(programs: Programs):
    """alike(files, main, modes=("all",), **env): MAIN ends, and prints, as with stock Python. What it left there."""
    def run(files: dict[str, str], main: str, *arguments: str, modes: tuple[str, ...] = ("all",), **env: str) -> Ended:
        root, path = programs.write(files, main)
        stock = programs.start("stock", root, path, arguments)
        for mode in modes:
            ended = programs.start(mode, root, path, arguments, **env)
            if ended != stock:
                texts = [f"status {e.status}\n{e.out}{e.err}".splitlines() for e in (stock, ended)]
                pytest.fail(f"{mode} differs from stock\n" + "\n".join(difflib.unified_diff(*texts, "stock", mode, lineterm="")), pytrace=False)
        return stock
    return run
