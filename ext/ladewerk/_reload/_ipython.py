# SPDX-License-Identifier: MIT
"""``%load_ext ladewerk``: before each cell, what was saved is reloaded, in place unless ``%ladewerk replace`` says otherwise."""
from __future__ import annotations

import sys
from typing import Any

from ._errors import ReloadError
from ._reloader import Reloader, check_policy


class _Notebook:
    """What the extension has done to a shell."""

    def __init__(self, shell: Any) -> None:
        self.reloader = Reloader(policy="in place")
        self.on = True
        self.before_cell()
        shell.events.register("pre_run_cell", self.before_cell)
        if hasattr(shell, "register_magic_function"):
            shell.register_magic_function(self.magic, "line", "ladewerk")

    def before_cell(self, info: Any = None) -> None:
        if not self.on:
            return
        try:
            self.reloader.reload()
        except ReloadError as error:
            print(f"ladewerk: {error}", file=sys.stderr)

    def magic(self, line: str) -> None:
        """%ladewerk in place | replace | off: what happens before each cell from now on."""
        word = line.strip()
        if word != "off":
            self.reloader.policy = check_policy(word)
        self.on = word != "off"

    def leave(self, shell: Any) -> None:
        shell.events.unregister("pre_run_cell", self.before_cell)
        if hasattr(shell, "magics_manager"):
            shell.magics_manager.magics["line"].pop("ladewerk", None)
        self.reloader.close()


_notebooks: dict[int, _Notebook] = {}


def load_ipython_extension(shell: Any) -> None:
    if id(shell) not in _notebooks:
        _notebooks[id(shell)] = _Notebook(shell)


def unload_ipython_extension(shell: Any) -> None:
    notebook = _notebooks.pop(id(shell), None)
    if notebook is not None:
        notebook.leave(shell)
