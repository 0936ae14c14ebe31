#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A rival of `ladewerk watch` at work, as watch.py wants it: watches a tree, and is told on standard input what to do.

    peer.py watchdog|watchfiles|watchman|inotifywait ROOT STATE

One JSON object a line each way. It says {"pid": ...} (of whoever watches) once everything is watched. Then

    {"do": "save", "files": [...], "saves": N, "pause_ms": M}   -> {"written_us": [...], "lost": N}
    {"do": "collect"}                                           -> {}
    {"do": "compare", "expected": FILE, "quiet_s": Q}           -> {"lost": N, "told": N, "last_s": S}

All ways of being told lead to told(). The clock is read there, first thing: how a program is told is part of what is measured, what it does then is not.
"""
from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

PATIENCE = 5.0  # s, for one save
ENOUGH = 5  # lost saves: it will not get better
LONGEST = 120.0  # s, until a storm has to be over


class Peer(ABC):
    def __init__(self, root: str, state: Path) -> None:
        self.root, self.state = root, state
        self.pid = os.getpid()
        self.awaited, self.when, self.last = "", 0, time.perf_counter_ns()
        self.known = threading.Event()
        self.seen: set[str] | None = None

    @abstractmethod
    def start(self) -> None:
        """Returns when everything is watched."""

    def told(self, path: str) -> None:
        self.last = time.perf_counter_ns()
        if path == self.awaited:
            self.when, self.awaited = self.last, ""
            self.known.set()
        if self.seen is not None:
            self.seen.add(path)

    def stop(self) -> None:
        pass


class Watchdog(Peer):
    """Without events of reading: in a tree of thousands of directories those of its own walk overflow the queue, upon which it walks again, for ever (7.1.0)."""

    def start(self) -> None:
        from watchdog import events
        from watchdog.observers.inotify import InotifyObserver

        peer = self

        class Handler(events.FileSystemEventHandler):
            def on_any_event(self, event) -> None:
                for path in (event.src_path, event.dest_path):
                    if path:
                        peer.told(path)

        kinds = [getattr(events, f"{what}{how}Event") for what in ("File", "Dir") for how in ("Created", "Modified", "Moved", "Deleted")]
        self.observer = InotifyObserver()
        self.observer.schedule(Handler(), self.root, recursive=True, event_filter=kinds)
        self.observer.start()


class Watchfiles(Peer):
    """watchfiles.watch() as it is, with its own delays; unrolled, because only so it can be told when everything is watched."""

    def start(self) -> None:
        from watchfiles.main import RustNotify

        self.watcher = RustNotify([self.root], False, False, 300, True, False)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        ended = threading.Event()
        while isinstance(changes := self.watcher.watch(1600, 50, 5000, ended), set) or changes == "timeout":
            for _, path in changes if isinstance(changes, set) else ():
                self.told(path)


class Watchman(Peer):
    """A server of its own, and a subscription over its socket."""

    def start(self) -> None:
        self.address = str(self.state / "watchman.sock")
        files = ("--sockname", self.address, "--logfile", str(self.state / "watchman.log"), "--pidfile", str(self.state / "watchman.pid"))
        self.server = subprocess.Popen(["watchman", "--foreground", "--no-save-state", *files], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.server.pid
        self.lines = self._connect().makefile("rw", encoding="utf-8", errors="surrogateescape")
        self._ask("watch", self.root)
        clock = self._ask("clock", self.root, {"sync_timeout": int(LONGEST * 1e3)})["clock"]
        self._ask("subscribe", self.root, "bench", {"fields": ["name"], "since": clock})
        threading.Thread(target=self.listen, daemon=True).start()

    def _connect(self) -> socket.socket:
        for _ in range(500):
            one = socket.socket(socket.AF_UNIX)
            try:
                one.connect(self.address)
                return one
            except OSError:
                one.close()
                time.sleep(0.01)
        raise RuntimeError("watchman's server does not come up")

    def _ask(self, *command: object) -> dict:
        self.lines.write(json.dumps(command) + "\n")
        self.lines.flush()
        while "subscription" in (answer := json.loads(self.lines.readline())) or "log" in answer:
            pass
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def listen(self) -> None:
        for line in self.lines:
            for name in json.loads(line).get("files", ()):
                self.told(f"{self.root}/{name}")

    def stop(self) -> None:
        self.server.terminate()
        self.server.wait()


class Inotifywait(Peer):
    def start(self) -> None:
        events = "modify,attrib,close_write,create,delete,move"
        self.process = subprocess.Popen(
            ["inotifywait", "-m", "-r", "-e", events, "--format", "%w%f", self.root],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="surrogateescape",
        )
        self.pid = self.process.pid
        said = ""
        while "Watches established" not in said:
            said = self.process.stderr.readline()
            if not said:
                raise RuntimeError("inotifywait has ended")
            if "limit" in said:
                raise RuntimeError(said.strip())
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        for line in self.process.stdout:
            self.told(line.rstrip("\n").replace("//", "/"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


PEERS = {"watchdog": Watchdog, "watchfiles": Watchfiles, "watchman": Watchman, "inotifywait": Inotifywait}


def save(peer: Peer, path: str, number: int) -> float | None:
    """us from before the write until it is told; None: it never was."""
    text = b"SAVED = %09d\n" % number
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    peer.known.clear()
    peer.awaited = path
    before = time.perf_counter_ns()
    os.write(file, text)
    os.close(file)
    return (peer.when - before) / 1e3 if peer.known.wait(PATIENCE) else None


def do_save(peer: Peer, order: dict) -> dict:
    rng = random.Random(1)
    found: list[float | None] = []
    for number in range(order["saves"]):
        if found.count(None) == ENOUGH:
            break
        time.sleep(rng.uniform(0, 2e-3 * order["pause_ms"]))
        found.append(save(peer, order["files"][number % len(order["files"])], number))
    return {"written_us": [round(us, 2) for us in found if us is not None], "lost": found.count(None)}


def do_collect(peer: Peer, order: dict) -> dict:
    peer.seen = set()
    return {}


def do_compare(peer: Peer, order: dict) -> dict:
    """Once it has been quiet for as long as is asked."""
    begun = time.perf_counter_ns()
    while (now := time.perf_counter_ns()) - max(peer.last, begun) < order["quiet_s"] * 1e9 and now - begun < LONGEST * 1e9:
        time.sleep(0.1)
    expected = Path(order["expected"]).read_text().splitlines()
    seen, peer.seen = peer.seen or set(), None
    return {"lost": sum(path not in seen for path in expected), "told": len(seen), "last_s": round(max(0, peer.last - begun) / 1e9, 3)}


DO = {"save": do_save, "collect": do_collect, "compare": do_compare}


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    name, root, state = sys.argv[1:]
    peer = PEERS[name](root, Path(state))
    try:
        peer.start()
        say({"pid": peer.pid})
        for line in sys.stdin:
            order = json.loads(line)
            say(DO[order["do"]](peer, order))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
    finally:
        peer.stop()
    # Threads of rivals that do not end are not waited for.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
