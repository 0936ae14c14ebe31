# SPDX-License-Identifier: MIT
"""What tests of `ladewerk trace` share: the program, and whether this machine can trace at all.

Without the rights or the kernel for it a test is skipped, with what the program says is missing; with LADEWERK_REQUIRE_KERNEL=1 it fails.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from records import Player, build


@pytest.fixture(scope="session")
def trace_program() -> str:
    """Path of the installed `ladewerk-trace`."""
    beside = Path(sys.executable).parent / "ladewerk-trace"
    program = str(beside) if beside.exists() else shutil.which("ladewerk-trace")
    if not program:
        _refuse("ladewerk-trace was not built: clang, bpftool, libbpf or libelf was missing")
    return program


@pytest.fixture(scope="session")
def tracer(trace_program: str) -> str:
    """The same, where tracing works."""
    answer = subprocess.run([trace_program, "--check"], capture_output=True, text=True)
    if answer.returncode == 77:
        _refuse(answer.stderr.strip())
    assert answer.returncode == 0, answer
    return trace_program


@pytest.fixture
def own_python(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the interpreter, and its environment: probes belong to a file, and this one no other process executes. (A shared libpython is everybody's.)"""
    copy = tmp_path / "python"
    shutil.copy(sys.executable, copy)
    return copy, {**os.environ, "PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib"}


@pytest.fixture(scope="session")
def player(tmp_path_factory: pytest.TempPathFactory) -> Player:
    """What puts records that were made by hand into output formats."""
    where = tmp_path_factory.mktemp("play")
    return Player(build(where), where)


def _refuse(why: str) -> None:
    (pytest.fail if os.environ.get("LADEWERK_REQUIRE_KERNEL") == "1" else pytest.skip)(why)
