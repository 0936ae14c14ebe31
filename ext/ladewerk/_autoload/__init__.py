# SPDX-License-Identifier: MIT
"""Modules that are loaded at their first use: ladewerk.Autoloader, ladewerk.registry()."""
from ladewerk._autoload._inflector import Inflector
from ladewerk._autoload._loader import Autoloader, Shadowed
from ladewerk._autoload._registry import Entry, NotLoaded, Registry, registry

__all__ = ["Autoloader", "Entry", "Inflector", "NotLoaded", "Registry", "Shadowed", "registry"]
