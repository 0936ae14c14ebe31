# SPDX-License-Identifier: MIT
"""What is divided among the interpreters that are tested, so that each need not do all of it.

`scripts/test.sh` says which part is whose: LADEWERK_SHARE=2/3 is the second of three. Without it, and with --long, each does everything.
"""
from __future__ import annotations

import os
import zlib
from collections.abc import Iterable

import pytest

NUMBER, COUNT = map(int, os.environ.get("LADEWERK_SHARE", "1/1").split("/"))

#: A function as source, for children: whether what has this NAME is for this interpreter. By name, since not every interpreter has the same modules.
IS_MINE = f"lambda name: __import__('zlib').crc32(name.encode()) % {COUNT} == {NUMBER - 1}"


def is_mine(name: str) -> bool:
    return zlib.crc32(name.encode()) % COUNT == NUMBER - 1


def once_but(cases: Iterable[object], *each: object) -> list[object]:
    """CASES to parametrize with, of which interpreters other than the first have EACH only."""
    return [case if case in each else pytest.param(case, marks=pytest.mark.once) for case in cases]
