# SPDX-License-Identifier: MIT
"""Reloads: ordered, all or nothing, thread-safe. See ext/RELOAD.md."""
from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ._errors import Reloaded, ReloadError
from ._pins import pinned
from ._reloader import Reloader
from ._watching import Watch

_default: Reloader | None = None
_mutex = threading.Lock()


def _of_process() -> Reloader:
    global _default
    with _mutex:
        if _default is None:
            _default = Reloader()
        return _default


def reload(changed: Iterable[Any] | None = None, policy: str = "replace") -> Reloaded:
    """``Reloader().reload()`` with the one that the process shares. POLICY: "replace" or "in place"."""
    return _of_process().reload(changed, policy)


def watch(on_change: Callable[[Reloaded | ReloadError], object] | None = None, *, roots: Iterable[str | os.PathLike[str]] | None = None,
          patience: float = 5.0, policy: str = "replace") -> Watch:
    """Reload when sources are saved, in a thread of its own, until ``stop()``. ON_CHANGE is given what came of it; without, it is logged (logger ``ladewerk``)."""
    own = roots is not None or patience != 5.0 or policy != "replace"
    return Watch(Reloader(roots, patience, policy=policy) if own else _of_process(), on_change, own)


__all__ = ["ReloadError", "Reloaded", "Reloader", "Watch", "pinned", "reload", "watch"]
