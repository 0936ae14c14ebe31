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

# What most programs never ask for, by the module that brings it: imported at its first use.
_LATER: dict[str, str] = {
    "Autoloader": "ladewerk._autoload",
    "GlobalImportEngine": "ladewerk.engine",
    "GlobalImportState": "ladewerk.engine",
    "ImportDenied": "ladewerk.engine",
    "ImportEngine": "ladewerk.engine",
    "ImportEvent": "ladewerk._engine._events",
    "Listening": "ladewerk._engine._events",
    "on_import": "ladewerk._engine._events",
    "sysengine": "ladewerk.engine",
    "registry": "ladewerk._autoload",
    "ReloadError": "ladewerk._reload",
    "Reloaded": "ladewerk._reload",
    "Reloader": "ladewerk._reload",
    "load_ipython_extension": "ladewerk._reload._ipython",
    "unload_ipython_extension": "ladewerk._reload._ipython",
    "pinned": "ladewerk._reload",
    "reload": "ladewerk._reload",
    "watch": "ladewerk._reload",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ladewerk._autoload import Autoloader, registry
    from ladewerk._engine._events import ImportEvent, Listening, on_import
    from ladewerk.engine import GlobalImportEngine, GlobalImportState, ImportDenied, ImportEngine, sysengine
    from ladewerk._reload._ipython import load_ipython_extension, unload_ipython_extension
    from ladewerk._reload import Reloaded, Reloader, ReloadError, pinned, reload, watch


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'ladewerk' has no attribute {name!r}")
    from importlib import import_module
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__all__ = [
    "__version__", "install", "stats", "uninstall",
    "Autoloader", "registry",
    "GlobalImportEngine", "GlobalImportState", "ImportDenied", "ImportEngine", "ImportEvent", "Listening", "on_import", "sysengine",
    "ReloadError", "Reloaded", "Reloader", "load_ipython_extension", "pinned", "reload", "unload_ipython_extension", "watch",
]
