# SPDX-License-Identifier: MIT
"""CPython's own tests of what looks into modules, with lazy imports in the process and the tests: what passes on stock. All that import anything: scripts/cpython-tests.sh --lazy."""
from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import whose

HERE = Path(__file__).resolve().parent
TESTS = ["test.test_" + name for name in ("module", "import", "pkgutil", "runpy", "zipimport", "typing", "dataclasses", "functools", "enum", "inspect", "dis", "marshal", "copy", "collections",
                                    "contextlib", "types", "pprint", "bdb")]

pytestmark = [whose.ours, pytest.mark.skipif(not importlib.util.find_spec("test") or not importlib.util.find_spec("test.test_module"), reason="this interpreter comes without CPython's tests")]


def outcomes(base: Path, left_out: list[str], **env: str) -> tuple[dict[str, str], str]:
    """{test: passed, skipped or failed}, less those LEFT_OUT, and what the tests said."""
    command = [sys.executable, "-W", "ignore", str(HERE.parent / "engine/suite.py"), "stock", *TESTS]
    child = subprocess.run(command, cwd=base, env={**os.environ, "LADEWERK_CACHE": str(base / "cache"), "TMPDIR": str(base), **env}, input=json.dumps(left_out),
                           capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr[-3000:]
    return json.loads(child.stdout.splitlines()[-1]), child.stderr


def is_excepted(mode: str, name: str) -> bool:
    """Here, or for Ladewerk as it is without lazy imports."""
    version = "%d.%d" % sys.version_info[:2]
    mine = {"*", version} | {one + at for one in ("lazy", "lazy-" + mode) for at in ("", "@" + version)}
    files = HERE / "suite_exceptions.txt", HERE.parents[1] / "scripts/cpython-exceptions.txt"
    lines = [line.split(None, 2) for file in files for line in file.read_text().splitlines() if not line.startswith("#")]
    return any(fnmatch.fnmatchcase(name, pattern) for where, pattern, _ in lines if mine & set(where.split(",")))


@pytest.mark.parametrize("mode", ["default", "all"])
def test_what_passes_on_stock(tmp_path: Path, mode: str):
    found, said = outcomes(tmp_path, [], LADEWERK="1", LADEWERK_LAZY=mode)
    failed = {name for name, outcome in found.items() if outcome != "passed" and not is_excepted(mode, name)}
    assert list(found.values()).count("passed") > 1500 > len(failed)
    stock, _ = outcomes(tmp_path, list(found.keys() - failed), LADEWERK="0")
    worse = {name for name in failed if stock.get(name) == "passed"}
    assert not worse, (sorted(worse), said[-3000:])
    assert stock.keys() <= failed, "without lazy imports there are more tests"
