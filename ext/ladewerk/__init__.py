# SPDX-License-Identifier: MIT
"""Fast, fresh and visible imports.

``ladewerk run app.py`` runs a program with accelerated imports; ``ladewerk enable`` does so for every start of this environment.
In a program: ``install()``, ``uninstall()``, ``stats()``.
"""

# This file runs in every accelerated program: it imports nothing but the extension.
import sys

from ladewerk._native import __version__, install, stats, uninstall

if "ladewerk_start" in sys.modules:
    sys.modules["ladewerk_start"].now()  # the program's first import is this one

__all__ = ["__version__", "install", "stats", "uninstall"]
