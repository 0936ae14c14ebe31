# SPDX-License-Identifier: MIT
"""The benchmark's modules are found as its own scripts find them."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

if TYPE_CHECKING:
    from sections import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With this environment as the main interpreter's. PyCDS, the small environments and the programs of bench/micro are not there."""
    import machine
    import suite
    from sections import Interpreter, Place

    build = tmp_path_factory.mktemp("build")
    python = Interpreter("3.x", Path(sys.executable), machine.interpreter(Path(sys.executable)), failures={"pycds": "not today"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(build)  # so that it is left again
        suite.fresh_state(build / "state", [python])
        yield Place([python], build, build / "state", None, "quick", no_programs="not today")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The benchmark runs in one interpreter; what it compares is its own affair."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.once)
