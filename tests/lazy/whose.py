# SPDX-License-Identifier: MIT
"""Whose lazy imports this interpreter has: Ladewerk's own, those of the language, or nobody's. What tests of them are marked by."""
from __future__ import annotations

import sys
import sysconfig

import pytest

LANGUAGE = sys.version_info >= (3, 15)
NOBODYS = bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and not LANGUAGE
WHY_NONE = "a free-threaded build has no lazy imports"

#: Of what holds wherever imports are lazy; of what is so on Ladewerk's own only; of what is so where there are none.
some = pytest.mark.skipif(NOBODYS, reason=WHY_NONE)
ours = pytest.mark.skipif(NOBODYS or LANGUAGE, reason=WHY_NONE if NOBODYS else "this version has lazy imports of its own")
none = pytest.mark.skipif(not NOBODYS, reason="imports are lazy here")
