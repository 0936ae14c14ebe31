# SPDX-License-Identifier: MIT
"""Who takes part in bench/scan.sh, and how each is started. All do the same: every .py outside of __pycache__, node_modules and dot
directories, with its mtime and size.

To add one, list it in RIVALS and in the tables at the end of the file. `missing` says in a few words why it cannot run here; its
rows then carry those words instead of numbers.
"""
from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pair import Command


@dataclass(frozen=True)
class Where:
    """Where everything is."""

    programs: Path  # of bench/micro
    python: Path  # of an environment with nothing installed
    ladewerk: Path | None  # the command; None: could not be installed
    why_not: str
    state: Path  # of this run

    @property
    def empty(self) -> Path:
        """A directory with nothing in it."""
        return self.state / "empty"

    def env(self) -> dict[str, str]:
        """The same small environment for everyone. The locale is the one in which the rivals match names fastest."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.state / "home"), "LADEWERK_CACHE": str(self.state / "cache"), "LC_ALL": "C"}


@cache
def found(*programs: str) -> str:
    """The path of the first one there is on the caller's PATH, or ""."""
    return next(filter(None, map(shutil.which, programs)), "")


class Scanner(ABC):
    """`key` is unique, `label` is the row's name in the report."""

    tells = "json"  # what it prints: one JSON object with "sources", "lines" (one a source), or "" (nothing)

    def __init__(self, key: str, label: str) -> None:
        self.key = key
        self.label = label

    def missing(self, where: Where) -> str:
        return ""

    @abstractmethod
    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        """The command line that scans ROOT."""

    def command(self, where: Where, root: Path) -> Command:
        return Command(self.argv(where, root), where.env())

    def timed(self, where: Where, root: Path) -> Command:
        return Command(self.argv(where, root), where.env(), discard=self.tells != "json")


class Ours(Scanner):
    """A program of bench/micro."""

    def __init__(self, key: str, label: str, program: str, *options: str) -> None:
        super().__init__(key, label)
        self.program, self.options = f"bench_{program}", options

    def missing(self, where: Where) -> str:
        return "" if (where.programs / self.program).exists() else f"{self.program} is not there: this version has none"

    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        return str(where.programs / self.program), *self.options, str(root)


class Ladewerk(Scanner):
    """The command, interpreter's start included. Without options it chooses threads and backend itself."""

    def __init__(self, key: str, label: str, *options: str) -> None:
        super().__init__(key, label)
        self.options = options

    def missing(self, where: Where) -> str:
        return "" if where.ladewerk else f"not installed: {where.why_not}"

    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        return str(where.ladewerk), "index", "--dry-run", "--json", *self.options, str(root)


class Scandir(Scanner):
    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        return str(where.python), "-I", "-S", str(Path(__file__).with_name("walk.py")), str(root)


class Find(Scanner):
    """GNU find. Names are compared first: most entries are told by their name alone."""

    tells = "lines"
    program, package = "find", "findutils"
    WHAT = (
        *("-name", "*.py", "-type", "f", "-printf", "%T@ %s %p\\n"),
        *("-o", "-type", "d", "(", "-name", "__pycache__", "-o", "-name", "node_modules", "-o", "-name", ".?*", ")", "-prune"),
    )

    def missing(self, where: Where) -> str:
        return "" if found(self.program) else f"{self.program} is not installed (Debian: {self.package})"

    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        return found(self.program), str(root), *self.WHAT


class Bfs(Find):
    program, package = "bfs", "bfs"

    def __init__(self, key: str, label: str, *options: str) -> None:
        super().__init__(key, label)
        self.options = options

    def missing(self, where: Where) -> str:
        if (why := super().missing(where)) or not self.options:
            return why
        works = subprocess.run([found(self.program), *self.options, where.empty], capture_output=True).returncode == 0
        return "" if works else f"{version(self.program)} has no {self.options[0][:2]} (bfs 3.0 and later have)"

    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        return found(self.program), *self.options, str(root), *self.WHAT


class Fd(Scanner):
    """Cannot print times and sizes. A filter by time makes it ask for them: `date` lets all pass that are later, or none.

    Patterns come before it: no other entry is looked at (bench/scan.sh counts the calls). Ignore files are not looked for.
    """

    def __init__(self, key: str, label: str, threads: int, silent: bool = False) -> None:
        super().__init__(key, label)
        self.threads, self.silent = threads, silent
        self.tells = "" if silent else "lines"

    PROGRAM = ("fdfind", "fd")  # Debian's name first

    def missing(self, where: Where) -> str:
        return "" if found(*self.PROGRAM) else "fd is not installed (Debian: fd-find)"

    def argv(self, where: Where, root: Path) -> tuple[str, ...]:
        date = "2100-01-01" if self.silent else "1971-01-01"
        return (
            *(found(*self.PROGRAM), f"-j{self.threads}", "--no-ignore", "--exclude", "__pycache__", "--exclude", "node_modules"),
            *("--type", "f", "--changed-after", date, r"\.py$", str(root)),
        )


@cache
def version(*programs: str) -> str:
    """The first line about itself of the first one there is."""
    done = subprocess.run([found(*programs), "--version"], capture_output=True, text=True) if found(*programs) else None
    return done.stdout.splitlines()[0].strip() if done and done.stdout else f"{programs[-1]} missing"


def versions() -> list[str]:
    return [version("bfs"), version(*Fd.PROGRAM), version("find"), version("strace")]


# --- the rows of each section -----------------------------------------------------------------------------------------

FLOORS = [Ours(f"floor-{n}", f"floor: the bare loop, {n} thread{'s' * (n > 1)}", "floor", "--threads", str(n)) for n in (1, 2, 64)]
FLOOR_1, FLOOR_2, FLOOR_64 = FLOORS
DRIVERS = [
    Ours("driver-1", "scanner alone, C driver, 1 thread", "scan", "--threads", "1"),
    Ours("driver-2", "scanner alone, C driver, 2 threads", "scan", "--threads", "2"),
    Ours("driver-auto", "scanner alone, C driver, auto", "scan"),
]


def _ladewerk(backend: str, threads: int) -> Ladewerk:
    options = (("--threads", str(threads)) if threads else ()) + (("--backend", backend) if backend != "auto" else ())
    label = f"Ladewerk, {'auto: hybrid' if backend == 'auto' else backend}, {threads or 'auto'} thread{'s' * (threads != 1)}"
    return Ladewerk(f"ladewerk-{backend}-{threads or 'auto'}", label, *options)


def _fd(threads: int, silent: bool = False) -> Fd:
    return Fd(f"fd-{threads}{'-silent' * silent}", f"fd -j{threads}{', prints nothing' * silent}", threads, silent)


BFS = [Bfs("bfs", "bfs"), Bfs("bfs-1", "bfs -j1", "-j1"), Bfs("bfs-2", "bfs -j2", "-j2")]
FIND, SCANDIR = Find("find", "GNU find"), Scandir("scandir", "Python, os.scandir")

# The base of each part once more: how far it is from itself is the noise.
AGAIN_2, AGAIN_64 = (Ours("again", f"floor: the bare loop, {n} threads, again", "floor", "--threads", str(n)) for n in (2, 64))

WARM = [
    FLOOR_2, AGAIN_2, FLOOR_1, FLOOR_64, *DRIVERS,
    *(_ladewerk(backend, threads) for backend in ("auto", "pool", "ring") for threads in (1, 2, 0)),
    _fd(1), _fd(2), _fd(2, silent=True), *BFS, FIND, SCANDIR,
]
_COLD = [
    DRIVERS[0], DRIVERS[2],
    *(_ladewerk(backend, threads) for backend, threads in (("auto", 0), ("auto", 1), ("auto", 2), ("pool", 1), ("pool", 0), ("pool", 64), ("ring", 1), ("ring", 0))),
    _fd(1), _fd(2), _fd(16), _fd(64), *BFS, FIND, SCANDIR,
]
COLD = [FLOOR_2, AGAIN_2, FLOOR_1, FLOOR_64, *_COLD]
LATENCY = [FLOOR_2, FLOOR_1, FLOOR_64, AGAIN_64, *_COLD]

# Re-validation. The loops are given a list of directories instead of a root.
REVALIDATE = [
    *(Ours(f"statloop-{n}", f"floor: the bare statx loop, {n} thread{'s' * (n > 1)}", "statloop", "--threads", str(n)) for n in (2, 1, 64)),
    Ours("again", "floor: the bare statx loop, 2 threads, again", "statloop", "--threads", "2"),
    Ladewerk("ladewerk-revalidate-2", "Ladewerk, 2 threads", "--revalidate", "--threads", "2"),
    Ladewerk("ladewerk-revalidate-auto", "Ladewerk, auto", "--revalidate"),
]

RIVALS = {"warm": WARM, "cold": COLD, "latency": LATENCY, "revalidate": REVALIDATE}

# Where there is little time.
SHORT = {
    "warm": [FLOOR_2, AGAIN_2, DRIVERS[1], _ladewerk("auto", 2), _ladewerk("auto", 0), _fd(2), BFS[0], SCANDIR],
    "revalidate": [rival for rival in REVALIDATE if rival.key in ("statloop-2", "again", "ladewerk-revalidate-2")],
}
