# SPDX-License-Identifier: MIT
"""Import engines under the names of PEP 406."""

from ladewerk._engine._classes import ImportEngine
from ladewerk._engine._global import GlobalImportEngine, sysengine
from ladewerk._engine._rules import ImportDenied

GlobalImportState = GlobalImportEngine

__all__ = ["GlobalImportEngine", "GlobalImportState", "ImportDenied", "ImportEngine", "sysengine"]
