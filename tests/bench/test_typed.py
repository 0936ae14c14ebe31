# SPDX-License-Identifier: MIT
"""The benchmark is clean under mypy --strict, but for what runs inside the programs that it measures (bench/mypy.ini)."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
BENCH = Path(__file__).resolve().parents[2] / "bench"


def mypy(cache: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "mypy", "--cache-dir", str(cache), "--config-file", str(BENCH / "mypy.ini"), *map(str, files)]
    return subprocess.run(argv, capture_output=True, text=True)


def test_types(tmp_path: Path) -> None:
    done = mypy(tmp_path / "cache", *BENCH.glob("*.py"), *BENCH.glob("*/*.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    # The control: the same options find what is wrong.
    (wrong := tmp_path / "wrong.py").write_text("import stats\n\n\ndef median(values):\n    return stats.Median.of(values).valeu\n")
    done = mypy(tmp_path / "cache", wrong)
    assert done.returncode == 1 and "no-untyped-def" in done.stdout, done.stdout + done.stderr
