# SPDX-License-Identifier: MIT
"""Fast, fresh and visible imports.

``ladewerk run app.py`` runs a program with accelerated imports; ``ladewerk enable`` does so for every start of this environment.
In a program: ``install()``, ``uninstall()``, ``stats()``.
"""

# It imports nothing but the extension, which may be there already.
import sys

from ladewerk._native import __version__, install, stats, uninstall
from ladewerk import _native

for _now in getattr(sys.modules.get("ladewerk_start"), "waiting", [])[:]:
    _now()  # the program's first import is this one

__all__ = ["__version__", "install", "stats", "uninstall"]
