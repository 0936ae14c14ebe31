# SPDX-License-Identifier: MIT
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ext"))

from harness import Tree  # noqa: E402


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)
