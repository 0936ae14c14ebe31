# SPDX-License-Identifier: MIT
"""The stubs say what the extension has, and the package is clean under mypy --strict."""
import subprocess
import sys

import pytest
from interpreters import once_but

pytest.importorskip("mypy")


@pytest.mark.parametrize("command", once_but([["mypy", "--strict", "-p", "ladewerk"], ["mypy.stubtest", "ladewerk"]], ["mypy.stubtest", "ladewerk"]), ids=" ".join)
def test_types(command, tmp_path):
    done = subprocess.run([sys.executable, "-P", "-m", *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
