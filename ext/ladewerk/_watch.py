# SPDX-License-Identifier: MIT
"""`ladewerk watch`: the daemon is a program of its own (_watchd); here its arguments are checked, and its status is printed."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

from ladewerk import _index, _native
from ladewerk.cli import FAILED, OK, Failure

_OTHER = 2  # watchd.c
RAISE_DESCRIPTORS = "raise the daemon's limit (ulimit -n, LimitNOFILE=)"


def _program() -> str:
    path = os.path.join(os.path.dirname(os.path.abspath(_native.__file__)), "_watchd")
    if not os.access(path, os.X_OK):
        raise Failure(f"{path} is missing or may not be executed; install Ladewerk again")
    return path


def _suffixes() -> list[str]:
    return [word for suffix in EXTENSION_SUFFIXES for word in ("--suffix", suffix)]


def _watch(given: Sequence[str], backend: str, threads: int) -> int:
    roots = [root.rstrip("/") for root in _index._given_roots(given, "nothing is watched")]
    argv = ["ladewerk-watch", "--backend", backend, "--threads", str(threads), *_suffixes(), "--", *roots]
    sys.stdout.flush()
    os.execv(_program(), argv)


def status() -> dict[str, Any] | None:
    """What the daemon says of itself; None if there is none."""
    # As programs do that this interpreter starts with the same options.
    env = {name: value for name, value in os.environ.items() if name != "LADEWERK_WATCH" or not sys.flags.ignore_environment}
    done = subprocess.run([_program(), "--status", *_suffixes()], env=env, capture_output=True)
    if done.returncode == _OTHER:
        return None
    if done.returncode != OK:
        raise Failure(os.fsdecode(done.stderr).strip().removeprefix("ladewerk: watch: ") or "the daemon does not answer")
    facts: dict[str, Any] = json.loads(os.fsdecode(done.stdout))
    return facts


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    mib = 1 << 20
    lines = [("root", root["path"] + (f"  NOT WATCHED: {root['trouble']}" if root["trouble"] else "")) for root in facts["roots"]]
    lines += [
        ("state", "up to date" if facts["ready"] and not facts["marked"] else f"{facts['marked']:,} to be looked at again" if facts["ready"] else "reading"),
        ("backend", facts["why"]),
        ("index", f"{facts['directories']:,} directories, {facts['sources']:,} sources, {facts['index_bytes'] / mib:.1f} MiB"),
        ("events", f"{facts['events']:,}, {facts['events_per_second']:,.1f} per second, queue overflowed {facts['overflows']:,} times"),
        ("generation", f"{facts['generation']:,}, journal {facts['journal_bytes'] / mib:.2f} MiB (number {facts['journals']:,})"),
        ("snapshots", f"{facts['folds']:,} (whole: {facts['bases']:,}); the first took {facts['first_seconds']:.2f} s, {facts['first_cpu_seconds']:.2f} s of CPU; "
                      f"the last {facts['fold_seconds']:.3f} s"),
        ("clients", f"{facts['clients']:,} now, {facts['attached']:,} so far"),
        ("memory", f"{facts['rss_kib'] / 1024:.1f} MiB resident"),
        ("process", f"{facts['pid']}, for {_age(facts['up_seconds'])}"),
    ]
    if facts["unwatched"]:
        lines.append(("unwatched", f"{facts['unwatched']:,} directories: {facts['unwatched_because']}"))
    if facts["turned_away"]:
        lines.append(("turned away", f"{facts['turned_away']:,} programs, for want of descriptors; {RAISE_DESCRIPTORS}"))
    if facts["trouble"]:
        lines.append(("trouble", f"the last snapshot could not be made: {facts['trouble']}"))
    return lines


def _status(as_json: bool) -> int:
    facts = status()
    if as_json:
        print(json.dumps(facts))
    elif facts is None:
        print("no daemon runs for this interpreter; `ladewerk watch ROOT...` is one")
    else:
        for topic, text in _lines(facts):
            print(f"{topic:<11} {text}")
    return OK if facts else FAILED


def main(roots: Sequence[str], *, backend: str, threads: int, ask: bool, as_json: bool) -> int:
    return _status(as_json) if ask else _watch(roots, backend, threads)
