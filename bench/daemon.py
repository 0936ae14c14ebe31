# SPDX-License-Identifier: MIT
"""A daemon of the bench's own, for the sections in which Ladewerk's `watch` takes part."""
from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from contenders import Absent, Bench, Contender, Watched, ladewerk_missing
from pair import Failed
from watching import watchers

KEY, LABEL = "ladewerk-watch", "Ladewerk, watch"


def watched(stack: ExitStack, bench: Bench, *roots: Path) -> Contender:
    """The contender that has a daemon over ROOTS to attach to, which STACK ends; one that says why where there can be none."""
    if why := ladewerk_missing(bench):
        return Absent(KEY, LABEL, why)
    sockets = Path(tempfile.mkdtemp(prefix="ladewerk-bench-"))
    stack.callback(shutil.rmtree, sockets, ignore_errors=True)
    python = bench.python
    where = watchers.Where(python.parent, python, python, python.with_name("ladewerk"), "", bench.state, sockets)
    try:
        stack.enter_context(watchers.Ladewerk("auto").watch(where, *roots))
    except (Failed, OSError) as failure:
        return Absent(KEY, LABEL, f"no daemon: {failure}")
    return Watched(KEY, LABEL, where.socket)
