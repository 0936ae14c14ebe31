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


def trees(name: str) -> Path:
    """The directory with the versions of library NAME."""
    try:
        return libraries.directory(name)
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"the libraries are not there and could not be installed: {getattr(error, 'stderr', error)}"[-300:])


def run(tmp_path: Path, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(HERE / "two_versions.py"), str(trees(name)), name, *LIBRARIES[name], *options]
    return subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=300, env={**os.environ, "LADEWERK_CACHE": str(tmp_path / "cache")})


def stock_error(tmp_path: Path, name: str) -> str | None:
    """What a version says that cannot be imported without engines either."""
    for version in LIBRARIES[name]:
        code = f"import sys; sys.path.insert(0, {str(trees(name) / f'{name}-{version}')!r}); import {name}"
        child = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, text=True, capture_output=True, timeout=300)
        if child.returncode:
            return f"{name} {version}: {child.stderr.splitlines()[-1]}"
    return None


# SQLAlchemy has C modules, which differ with the interpreter; Django is Python only.
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.once if name == "django" else ()) for name in LIBRARIES])
def test_two_versions(tmp_path, name):
    child = run(tmp_path, name)
    if child.returncode and (error := stock_error(tmp_path, name)):
        pytest.skip(f"not for this version of Python: {error}")
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout.splitlines()[-1]) == dict.fromkeys(CHECKS)


def test_control_without_engines(tmp_path):
    """Control: with sys.path changed in between, the second program is the first again, and its answers are of the wrong version."""
    child = run(tmp_path, "sqlalchemy", "without")
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.splitlines()[-1])
    assert all(found[name] for name in ("check_answers", "check_program", "check_modules", "check_process")), found
