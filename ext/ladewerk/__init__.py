# SPDX-License-Identifier: MIT
"""Fast, fresh and visible imports.

``ladewerk run app.py`` runs a program with accelerated imports; ``ladewerk enable`` does so for every start of this environment.
In a program: ``install()``, ``uninstall()``, ``stats()``.
"""

# This file runs at every accelerated start: it imports nothing but the extension.
from ladewerk._native import __version__, install, stats, uninstall

__all__ = ["__version__", "install", "stats", "uninstall"]
