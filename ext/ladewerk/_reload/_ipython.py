# SPDX-License-Identifier: MIT
"""``%load_ext ladewerk``: before each cell, what was saved is reloaded, and the notebook's names follow."""
from __future__ import annotations

import sys
from typing import Any

from ._errors import ReloadError
from ._reloader import Reloader

_hooks: dict[int, tuple[Any, Reloader]] = {}


def load_ipython_extension(shell: Any) -> None:
    if id(shell) in _hooks:
        return
    reloader = Reloader()

    def before_cell(info: Any = None) -> None:
        try:
            reloader.reload()
        except ReloadError as error:
            print(f"ladewerk: {error}", file=sys.stderr)

    before_cell()
    shell.events.register("pre_run_cell", before_cell)
    _hooks[id(shell)] = before_cell, reloader


def unload_ipython_extension(shell: Any) -> None:
    before_cell, reloader = _hooks.pop(id(shell), (None, None))
    if before_cell is not None and reloader is not None:
        shell.events.unregister("pre_run_cell", before_cell)
        reloader.close()
