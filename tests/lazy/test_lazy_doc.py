# SPDX-License-Identifier: MIT
"""ext/LAZY.md tells the truth: its example, its table of rules, and the tests that it names."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import whose

from ladewerk._native import _lazy_project

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "ext" / "LAZY.md").read_text()


def test_rules_of_the_page():
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert [_lazy_project(example)[:2] for example in examples] == [(True, "own"), (True, "own")]
    assert _lazy_project(examples[1])[2] == "eager somelib\neager in otherlib.plugins\neager of thirdlib.registry\neager with fourthlib\nlazy numpy\n"


def test_tests_of_the_page_exist():
    named = set(re.findall(r"`(lazy/test_\w+\.py)::(test_\w+)`", PAGE))
    rows = re.findall(r"^\|.*\|$", PAGE.partition("## What differs")[2].partition("##")[0], re.MULTILINE)[2:]
    assert len(rows) > 10 and all("::test_" in row.rsplit("|", 2)[1] for row in rows)
    for file, name in named:
        assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE), (file, name)


def write_example(tmp_path):
    """The sources of the page, and the environment of its commands."""
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LADEWERK", "PYTHON"))}
    return env | {"LADEWERK_CACHE": str(tmp_path / "cache"), "PYTHONPATH": "."}  # so that paths are short, as on the page


@whose.ours
def test_the_example(tmp_path):
    env = write_example(tmp_path)
    excluded = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    runs = [(run.start(), *run.groups()) for run in re.finditer(r"```console\n\$ ladewerk run (\S+) (.*?)\n(.*?)```", PAGE, re.DOTALL)]
    assert len(runs) == 4
    for at, option, words, said in runs:
        if at > excluded.start():
            (tmp_path / "pyproject.toml").write_text(excluded[1])
        command = [sys.executable, "-m", "ladewerk", "run", option, *words.split()]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        text = (done.stdout + done.stderr).replace(f"{tmp_path}/", "")
        assert text.endswith(said), text


@pytest.mark.once
@whose.ours
def test_the_example_checked(tmp_path):
    """Word for word, but for the number of runs, which is up to the modules of the interpreter, and what 3.13 imports to print a traceback."""
    env = write_example(tmp_path)
    (tmp_path / "shop_xml.py").touch()
    words, said = re.search(r"```console\n\$ ladewerk (lazy-check .*?)\n(.*?)```", PAGE, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-m", "ladewerk", *words.split()], cwd=tmp_path, env=env, capture_output=True, text=True)
    found = done.stdout.replace("  modules         collections.abc: lazily only\n", "")
    assert re.sub(r"\d+ runs", "runs", found) == re.sub(r"\d+ runs", "runs", said)
    (tmp_path / "pyproject.toml").write_text(said[said.index("[tool"):])
    assert subprocess.run([sys.executable, "-m", "ladewerk", "lazy-check", "--", "-m", "shop"], cwd=tmp_path, env=env, capture_output=True).returncode == 0
