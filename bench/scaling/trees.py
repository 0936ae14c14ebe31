# SPDX-License-Identifier: MIT
"""Trees of so many modules that nobody imports, with a few among them that are."""
from __future__ import annotations

import shutil
from pathlib import Path

import corpus

FORMAT = 1  # raise when the generated names or bytes change
WANTED = 20
WANTED_NAME = "q{:02}.wanted"
_PER_PACKAGE = 50


def modules(root: Path, count: int) -> Path:
    """COUNT modules (at least 5 for each that is wanted) below ROOT, in packages of 50, unless they are there already; a half-written tree is
    replaced. All carry one fixed time that no cache has to distrust."""
    stamp = root.with_name(f"{root.name}.stamp")
    text = f"format {FORMAT}, {count} modules\n"
    if not (stamp.is_file() and stamp.read_text() == text):
        shutil.rmtree(root, ignore_errors=True)
        stamp.unlink(missing_ok=True)
        _write(root, count)
        stamp.write_text(text)
    return root


def _write(root: Path, count: int) -> None:
    each = min(_PER_PACKAGE, count // WANTED)
    left = count
    for number in range(WANTED):
        left -= _package(root / f"q{number:02}", ["wanted", *(f"m{i:02}" for i in range(each - 2))])
    for number in range(-(-left // _PER_PACKAGE)):
        left -= _package(root / f"p{number:05}", [f"m{i:02}" for i in range(min(_PER_PACKAGE, left) - 1)])


def _package(directory: Path, names: list[str]) -> int:
    """How many modules it is."""
    directory.mkdir(parents=True)
    for name in ("__init__", *names):
        corpus.write(directory / f"{name}.py", f'VALUE = "{name}"\n')
    return len(names) + 1
