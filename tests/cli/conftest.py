# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from shell import PYTHON, SCRIPT, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def powerless(shell: Shell, no_power: list[str]) -> Shell:
    shell.prefix = no_power
    return shell


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system with room for next to nothing."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="session")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("environment") / "env"
    venv.create(place, with_pip=False, symlinks=True)
    target = Path(subprocess.run([place / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                 capture_output=True, text=True, check=True).stdout.strip())
    installed = subprocess.run([PYTHON, "-P", "-c", "import ladewerk, os; print(os.path.dirname(ladewerk.__file__))"],
                               capture_output=True, text=True, check=True).stdout.strip()
    shutil.copytree(installed, target / "ladewerk", ignore=shutil.ignore_patterns("__pycache__"))
    for name in "ladewerk.pth", "ladewerk_start.py":
        shutil.copy(Path(installed).parent / name, target)
    shutil.copy(SCRIPT, place / "bin")
    return place


@pytest.fixture
def environment(_environment: Path, tmp_path: Path):
    """A throw-away virtual environment with Ladewerk in it: a Shell whose `site` is its site-packages."""
    python = next((_environment / "bin").glob("python3.*"))
    shell = Shell(tmp_path, script=_environment / "bin/ladewerk", python=python)
    shell.site = next(_environment.glob("lib/python3.*/site-packages"))
    yield shell
    shell.site.joinpath("ladewerk_enabled.pth").unlink(missing_ok=True)
