# SPDX-License-Identifier: MIT
"""For tests of what is freed."""
import gc
import sys
import sysconfig

import pytest

# There, functions at the top of a module, classes and modules live for ever once a second thread was started.
IMMORTAL = bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and sys.version_info < (3, 14)
freed = pytest.mark.skipif(IMMORTAL, reason="free-threaded 3.13 makes what it shares between threads immortal")


def collect() -> None:
    """All garbage, and what becomes garbage by that."""
    gc.collect()
    gc.collect()
