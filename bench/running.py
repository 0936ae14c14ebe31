# SPDX-License-Identifier: MIT
"""One run of a benchmark: options that all have, its sections and how long they took, and the two files that come of it."""
from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import machine
from rows import say


def add_options(parser: argparse.ArgumentParser, sections: Iterable[str]) -> None:
    parser.add_argument("--why-not", default="", help="what went wrong when Ladewerk was installed")
    parser.add_argument("--revision", default="", help="what was built, for the report")
    parser.add_argument("--build", type=Path, required=True, help="directory for trees, caches and whatever else is made")
    parser.add_argument("--output", type=Path, required=True, help="directory for report.json and report.md")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-n", "--runs", type=int, help="rounds in every section")
    parser.add_argument("--only", action="append", choices=list(sections), help="this section; may be given more than once")
    parser.add_argument("--seed", type=int, default=1)


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """With absolute paths. Not resolved: an interpreter's link *is* its environment."""
    options = parser.parse_args(argv)
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, value.absolute())
    return options


class Ended(SystemExit):
    """Somebody ends us."""


def program() -> str:
    """What the user has started: run.sh starts suite.py, scan.sh scan.py."""
    name = Path(sys.argv[0]).name
    return "run.sh" if name == "suite.py" else name.replace(".py", ".sh")


def end_in_order() -> None:
    """What was started and mounted is ended and taken away as well when somebody ends us."""
    name = program()

    def end(number: int, frame: object) -> None:
        raise Ended(f"{name}: {'hung up' if number == signal.SIGHUP else 'terminated'}")

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def alone(build: Path) -> int:
    """A lock, until it is closed: two runs would take away each other's trees and disks. SystemExit: somebody has it, or nothing can be written there."""
    try:
        build.mkdir(parents=True, exist_ok=True)
        file = os.open(build / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        sys.exit(f"{program()}: nothing can be written into the build directory {build}: {error.strerror}; give --build another one")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"{program()}: another run uses this build directory; give --build another one")
    return file


def check_output(output: Path) -> None:
    """SystemExit: no report can be written into OUTPUT, which is better known before a quarter of an hour than after it."""
    try:
        new = not output.exists()
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"\n")
        if new:
            output.rmdir()
    except OSError as error:
        sys.exit(f"{program()}: nothing can be written into {output}: {error.strerror}; give -o another directory")


class Run:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.started, self.clock, self.neighbours = datetime.now(timezone.utc), time.monotonic(), machine.Neighbours()
        self.rows: list[dict[str, Any]] = []
        self.seconds: dict[str, float] = {}
        self.section_neighbours: dict[str, dict[str, Any]] = {}

    def section(self, name: str, rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
        say(name)
        before, neighbours = time.monotonic(), machine.Neighbours()
        try:
            self.rows.extend(rows())
        finally:
            self.seconds[name], self.section_neighbours[name] = round(time.monotonic() - before, 1), neighbours.report()

    def document(self, more: Mapping[str, object]) -> dict[str, Any]:
        options = self.options
        return {
            "format": 1,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.clock, 1),
            "section_seconds": self.seconds,
            "seed": options.seed,
            "quick": options.quick,
            "revision": options.revision,
            "why_not": options.why_not,
            "neighbours": self.neighbours.report(),
            "section_neighbours": self.section_neighbours,
            "machine": machine.machine(options.build),
            **more,
            "rows": self.rows,
        }

    def write(self, markdown: Callable[[dict[str, Any]], str], more: Mapping[str, object], names: Mapping[str, str] = {}) -> None:
        """report.json and report.md. Error messages quote paths, and where the build directory lies is nobody's business; NAMES are those of others."""
        text = json.dumps(self.document(more), indent=1)
        for path, name in {f"{self.options.build}/": "", **names}.items():
            text = text.replace(path, name)
        output = self.options.output
        try:
            output.mkdir(parents=True, exist_ok=True)
            (output / "report.json").write_text(text + "\n")
            (output / "report.md").write_text(markdown(json.loads(text)))
        except OSError as error:
            kept = Path(tempfile.mkdtemp(prefix="ladewerk-report-"), "report.json")
            kept.write_text(text + "\n")
            sys.exit(f"{program()}: {output}: {error.strerror}; what was measured is in {kept}")
