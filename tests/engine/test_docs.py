# SPDX-License-Identifier: MIT
"""ext/ENGINES.md: its programs run, and print what the page says."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "ext" / "ENGINES.md").read_text()


def run(at, *arguments):
    env = {**os.environ, "LADEWERK_CACHE": str(at / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.run([sys.executable, *arguments], cwd=at, env=env, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_the_tutorial(tmp_path):
    for name, source in re.findall(r"```python\n# ([\w/]+\.py)\n(.*?)```", PAGE, re.S):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    sessions = re.findall(r"```console\n\$ python (\w+\.py)\n(.*?)```", PAGE, re.S)
    assert [name for name, _ in sessions] == ["server.py", "shared.py", "told.py", "ruled.py", "replaced.py"]
    for name, expected in sessions:
        assert run(tmp_path, name) == expected, name


def test_the_first_example(tmp_path):
    for number, name in enumerate(("old", "new"), 1):
        (tmp_path / "libraries" / name).mkdir(parents=True)
        (tmp_path / "libraries" / name / "money.py").write_text(f"VERSION = {number}\n")
    run(tmp_path, "-c", re.search(r"```python\n(import sys\n.*?)```", PAGE, re.S)[1])
