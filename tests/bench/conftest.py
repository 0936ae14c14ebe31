# SPDX-License-Identifier: MIT
"""The benchmark's modules are found as its own scripts find them."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The benchmark runs in one interpreter; what it compares is its own affair."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.once)
