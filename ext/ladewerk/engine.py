# SPDX-License-Identifier: MIT
"""Import engines under the names of PEP 406."""

from ladewerk._engine._classes import ImportEngine
from ladewerk._engine._global import GlobalImportEngine, sysengine

GlobalImportState = GlobalImportEngine

__all__ = ["GlobalImportEngine", "GlobalImportState", "ImportEngine", "sysengine"]
