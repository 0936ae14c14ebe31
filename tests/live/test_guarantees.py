# SPDX-License-Identifier: MIT
"""What is promised to threads is numbered, and each promise has a test and a control that exist."""
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "ext" / "GUARANTEES.md"
ROWS = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if re.match(r"\| \d", line)]


def missing(text):
    """Those of the tests that TEXT names that are not there."""
    found = []
    for path, function in re.findall(r"`([a-z]+/\w+\.\w+)(?:::(\w+)(?:\[[^`]*\])?)?`", text):
        source = TESTS / path
        if not source.exists() or (function and not re.search(rf"^(async )?def {function}\(", source.read_text(), re.MULTILINE)):
            found.append((path, function))
    return found


def test_promises_are_numbered():
    assert [int(row[0]) for row in ROWS] == list(range(1, len(ROWS) + 1))


def test_each_has_a_test_and_a_control():
    for number, _, tests, control in ROWS:
        assert re.search(r"`[a-z]+/\w+\.\w+", tests) and control, number
        assert not missing(tests + control), (number, missing(tests + control))


def test_control():
    """Control: a name that is not there is noticed."""
    assert missing("`live/test_guarantees.py::test_nothing`, `race/nothing.c`") == [("live/test_guarantees.py", "test_nothing"), ("race/nothing.c", "")]
    assert not missing("`live/test_guarantees.py::test_control[x]`, `race/store.c`")
