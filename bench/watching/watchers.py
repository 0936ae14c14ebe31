# SPDX-License-Identifier: MIT
"""Who takes part in bench/watch.sh, and how each is started. All do the same: they watch a tree, and tell of each file in it that is written to.

To add one, subclass Watcher, or write a class in peer.py, and list it in WATCHERS. `missing` says in a few words why it cannot run here; its
rows then carry those words instead of numbers.
"""
from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pair
from pair import Command, Failed
from scanning import scanners

START = 300.0  # s, at most, until everything is watched
ANSWER = 1800.0  # s, at most, for what a watcher is asked to do
_CPU_CLOCK = 2  # CPUCLOCK_SCHED, of <linux/posix-timers.h>


@dataclass(frozen=True)
class Where:
    """Where everything is."""

    programs: Path  # of bench/micro
    python: Path  # of the environment with Ladewerk
    peers: Path  # of the one with watchdog and watchfiles
    ladewerk: Path | None  # the command; None: could not be installed
    why_not: str
    state: Path  # of this run
    sockets: Path  # a directory with a short name: longer than 107 bytes no socket's may be

    @property
    def socket(self) -> Path:
        return self.sockets / "ladewerk"

    def env(self) -> dict[str, str]:
        """The same small environment for everyone."""
        return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.state / "home"), "LC_ALL": "C.UTF-8", "LADEWERK_WATCH": str(self.socket)}

    @property
    def suffixes(self) -> str:
        return _suffixes(self.python)

    def program(self, name: str, *arguments: str) -> Command:
        """One of bench/micro, as a client of the daemon."""
        return Command((str(self.programs / f"bench_{name}"), self.suffixes, *arguments), self.env())


@cache
def _suffixes(python: Path) -> str:
    code = "import importlib.machinery as m; print(*m.EXTENSION_SUFFIXES, sep=',')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


# --- what the kernel says about a process -----------------------------------------------------------------------------

def cpu_seconds(pid: int) -> float:
    """Of all its threads so far, also of those that have ended; not in ticks."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def memory_kib(pid: int) -> dict[str, int]:
    """Resident memory: all of it, the process's own, and that of shared memory; and the most that there was."""
    names = {"VmRSS": "rss", "RssAnon": "anonymous", "RssShmem": "shared", "VmHWM": "peak"}
    fields = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {names[words[0].rstrip(":")]: int(words[1]) for words in fields if words and words[0].rstrip(":") in names}


# --- watchers ---------------------------------------------------------------------------------------------------------

class Running(ABC):
    """One that is at work: everything is watched."""

    pid: int

    @abstractmethod
    def save(self, files: list[str], saves: int, pause_ms: int) -> dict[str, Any]:
        """written_us: of each save, from before the write until it is told; lost: how many never were."""

    def collect(self) -> None:
        """A storm is about to begin."""

    @abstractmethod
    def compare(self, expected: Path, quiet_s: float) -> dict[str, Any]:
        """It is over. Of the files named, how many it has not told of: lost."""

    def facts(self) -> dict[str, Any]:
        """What it says of itself."""
        return {}


class Watcher(ABC):
    """`key` is unique, `label` is the row's name in the report."""

    def __init__(self, key: str, label: str) -> None:
        self.key = key
        self.label = label

    @abstractmethod
    def missing(self, where: Where) -> str: ...

    @abstractmethod
    def watch(self, where: Where, *roots: Path) -> AbstractContextManager[Running]:
        """A context with a Running. Failed if it does not come up."""


def _kill_later(process: subprocess.Popen[str], seconds: float) -> threading.Timer:
    """Whoever reads from it is not to wait for ever."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    return timer


class _Daemon(Running):
    def __init__(self, where: Where, process: subprocess.Popen[str], root: Path) -> None:
        self.where, self.process, self.root, self.pid = where, process, root, process.pid

    def status(self) -> dict[str, Any]:
        argv = (str(self.where.ladewerk), "watch", "--status", "--json")
        found: dict[str, Any] = json.loads(pair.run(Command(argv, self.where.env())).out)
        return found

    def facts(self) -> dict[str, Any]:
        status = self.status()
        names = ("backend", "directories", "sources", "index_bytes", "watches", "unwatched", "first_seconds", "first_cpu_seconds")
        return {name: status[name] for name in names}

    def save(self, files: list[str], saves: int, pause_ms: int) -> dict[str, Any]:
        return {**json.loads(pair.run(self.where.program("published", str(saves), str(pause_ms), *files), ANSWER).out), "lost": 0}

    def settle(self) -> None:
        """Until nothing is left to be looked at."""
        begun = time.monotonic()
        while (status := self.status())["marked"] or not status["ready"]:
            if time.monotonic() - begun > START:
                raise Failed(f"{status['marked']} directories are still to be looked at after {START:.0f} s")
            time.sleep(0.1)

    def compare(self, expected: Path, quiet_s: float) -> dict[str, Any]:
        """Nobody is told of files here. What programs are told is the index: it is compared with what there is, for the whole tree."""
        begun = time.monotonic()
        time.sleep(0.2)  # what has been in the queue until now is marked
        self.settle()
        seconds, before = time.monotonic() - begun, self.status()
        found = json.loads(pair.run(self.where.program("snapshot", str(self.root)), ANSWER).out)
        lost = sum(found[name] for name in ("unknown_sources", "wrong_sources", "unknown_directories", "wrong_directories"))
        return {"lost": lost, "told": found["sources"], "last_s": round(seconds, 3), "compared": found, "overflows": before["overflows"]}


class Ladewerk(Watcher):
    def __init__(self, backend: str, key: str = "", label: str = "") -> None:
        super().__init__(key or f"ladewerk-{backend}", f"Ladewerk, {backend}{label}")
        self.backend = backend

    def missing(self, where: Where) -> str:
        return "" if where.ladewerk else f"not installed: {where.why_not}"

    @contextmanager
    def watch(self, where: Where, *roots: Path) -> Iterator[_Daemon]:
        argv = (str(where.ladewerk), "watch", "--backend", self.backend, *map(str, roots))
        process = subprocess.Popen(argv, env=where.env(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            self._wait(process)
            yield _Daemon(where, process, roots[0])
        finally:
            pair.end(process)

    @staticmethod
    def _wait(process: subprocess.Popen[str]) -> None:
        timer = _kill_later(process, START)
        said = pair.pipe(process.stderr).readline()
        timer.cancel()
        if "watching" not in said:
            raise Failed(said.strip().removeprefix("ladewerk: watch: ") or "ended without a word")
        threading.Thread(target=pair.pipe(process.stderr).read, daemon=True).start()


class _Peer(Running):
    def __init__(self, process: subprocess.Popen[str], pid: int) -> None:
        self.process, self.pid = process, pid

    def ask(self, **order: object) -> dict[str, Any]:
        orders = pair.pipe(self.process.stdin)
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        return answer(self.process, ANSWER)

    def save(self, files: list[str], saves: int, pause_ms: int) -> dict[str, Any]:
        return self.ask(do="save", files=files, saves=saves, pause_ms=pause_ms)

    def collect(self) -> None:
        self.ask(do="collect")

    def compare(self, expected: Path, quiet_s: float) -> dict[str, Any]:
        return self.ask(do="compare", expected=str(expected), quiet_s=quiet_s)


def answer(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    timer = _kill_later(process, seconds)
    line = pair.pipe(process.stdout).readline()
    timer.cancel()
    if not line:
        raise Failed(f"ended, or was stopped after {seconds:.0f} s")
    found: dict[str, Any] = json.loads(line)
    if "error" in found:
        raise Failed(found["error"])
    return found


class Rival(Watcher):
    """One of peer.py. MODULE: of Python; PROGRAM, PACKAGE: a program, and Debian's name for it."""

    def __init__(self, key: str, label: str, module: str = "", program: str = "", package: str = "") -> None:
        super().__init__(key, label)
        self.module, self.program, self.package = module, program, package

    def missing(self, where: Where) -> str:
        if self.program:
            return "" if scanners.found(self.program) else f"{self.program} is not installed (Debian: {self.package})"
        return "" if version_of(where.peers, self.module) else f"{self.module} is not installed (PyPI: {self.module})"

    @contextmanager
    def watch(self, where: Where, *roots: Path) -> Iterator[_Peer]:
        argv = (str(where.peers), "-E", str(Path(__file__).with_name("peer.py")), self.key, str(roots[0]), str(where.sockets))
        process = subprocess.Popen(argv, env=where.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            yield _Peer(process, answer(process, START)["pid"])
        finally:
            # It ends what it has started when its input ends.
            pair.pipe(process.stdin).close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()


@cache
def version_of(python: Path, distribution: str) -> str:
    """"": not installed."""
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip()


LADEWERK = [Ladewerk("fanotify"), Ladewerk("inotify")]
WATCHERS: list[Watcher] = [
    *LADEWERK,
    Ladewerk("inotify", "again", ", again"),  # how far one is from itself is the noise
    Rival("watchman", "watchman", program="watchman", package="watchman"),
    Rival("watchdog", "watchdog (Python)", module="watchdog"),
    Rival("watchfiles", "watchfiles (Rust, Python)", module="watchfiles"),
    Rival("inotifywait", "inotifywait -m -r", program="inotifywait", package="inotify-tools"),
]
SHORT = [*WATCHERS[:3], Rival("watchdog", "watchdog (Python)", module="watchdog")]  # where there is little time: those who are quick



def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0]


def versions(where: Where) -> list[str]:
    found = [f"{name} {version_of(where.peers, name) or 'missing'}" for name in ("watchdog", "watchfiles")]
    found.append(f"watchman {scanners.version('watchman').removeprefix('watchman ')}" if scanners.found("watchman") else "watchman missing")
    # Its help is where it says which one it is.
    done = subprocess.run(["inotifywait", "--help"], capture_output=True, text=True) if scanners.found("inotifywait") else None
    return [*found, _first_line(done.stdout) if done else "inotifywait missing"]
