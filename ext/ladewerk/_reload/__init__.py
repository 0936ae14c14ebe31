# SPDX-License-Identifier: MIT
"""Reloads: ordered, all or nothing, thread-safe. See ext/RELOAD.md."""
from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from ._errors import Reloaded, ReloadError
from ._pins import pinned
from ._reloader import Reloader

_default: Reloader | None = None
_mutex = threading.Lock()


def _of_process() -> Reloader:
    global _default
    with _mutex:
        if _default is None:
            _default = Reloader()
        return _default


def reload(changed: Iterable[Any] | None = None, policy: str = "replace") -> Reloaded:
    """``Reloader().reload()`` with the one that the process shares."""
    return _of_process().reload(changed, policy)


__all__ = ["ReloadError", "Reloaded", "Reloader", "pinned", "reload"]
