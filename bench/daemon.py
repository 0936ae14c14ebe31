# SPDX-License-Identifier: MIT
"""A daemon of the bench's own, for the sections in which Ladewerk's `watch` takes part.

It is started as users do it, in the environment under test, with the backend that works best here.
"""
from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from contenders import Absent, Bench, Contender, Watched, ladewerk_missing
from pair import Failed
from watching import watchers

KEY, LABEL = "ladewerk-watch", "Ladewerk, watch"


def socket_path(stack: ExitStack) -> Path:
    """Where one can be, until STACK ends: a path that is short enough."""
    directory = Path(tempfile.mkdtemp(prefix="ladewerk-bench-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory / "ladewerk"


@contextmanager
def running(bench: Bench, socket: Path, *roots: Path) -> Iterator[None]:
    """ROOTS are watched. Failed: it does not come up."""
    python = bench.python
    where = watchers.Where(python.parent, python, python, python.with_name("ladewerk"), "", bench.state, socket.parent)
    assert where.socket == socket
    with watchers.Ladewerk("auto").watch(where, *roots):
        yield


def watched(stack: ExitStack, bench: Bench, *roots: Path) -> Contender:
    """The contender that has a daemon over ROOTS to attach to, which STACK ends; one that says why where there can be none."""
    if why := ladewerk_missing(bench):
        return Absent(KEY, LABEL, why)
    place = socket_path(stack)
    try:
        stack.enter_context(running(bench, place, *roots))
    except (Failed, OSError) as failure:
        return Absent(KEY, LABEL, f"no daemon: {failure}")
    return Watched(KEY, LABEL, place)
