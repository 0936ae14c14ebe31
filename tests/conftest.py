# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

# In a shell's background jobs interrupts are ignored, and what is ignored is ignored by children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_power(tmp_path: Path) -> list[str]:
    """What to put before a command so that permissions count, even if the tests run as root."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("runs as root, and there is no setpriv to give up capabilities with")
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
    probe = tmp_path / "probe"
    probe.touch(0)
    if subprocess.run([*prefix, "cat", probe], capture_output=True).returncode == 0:
        pytest.skip("capabilities cannot be given up here")
    return prefix
