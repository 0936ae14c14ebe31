# SPDX-License-Identifier: MIT
"""Two versions of SQLAlchemy, and of Django, each in an engine of one process, answer queries of 4 threads at once."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import libraries
import pytest

HERE = Path(__file__).resolve().parent
LIBRARIES = {"sqlalchemy": ("1.4", "2.0"), "django": ("4.2", "5.2")}
CHECKS = {"check_answers", "check_modules", "check_process", "check_program"}


@pytest.fixture(scope="module")
def trees() -> Path:
    try:
        return libraries.directory()
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"the libraries are not there and could not be installed: {getattr(error, 'stderr', error)}"[-300:])


def run(tmp_path: Path, trees: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(HERE / "two_versions.py"), str(trees), name, *LIBRARIES[name], *options]
    return subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=300, env={**os.environ, "LADEWERK_CACHE": str(tmp_path / "cache")})


@pytest.mark.parametrize("name", LIBRARIES)
def test_two_versions(tmp_path, trees, name):
    child = run(tmp_path, trees, name)
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout.splitlines()[-1]) == dict.fromkeys(CHECKS)


def test_control_without_engines(tmp_path, trees):
    """Control: with sys.path changed in between, the second program is the first again, and its answers are of the wrong version."""
    child = run(tmp_path, trees, "sqlalchemy", "without")
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.splitlines()[-1])
    assert all(found[name] for name in ("check_answers", "check_program", "check_modules", "check_process")), found
