# SPDX-License-Identifier: MIT
"""What goes with an import beside its own time: collections and the program's end. Counted out, and counted in programs that drop it for real."""
from __future__ import annotations

import gc
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import pair
import pytest
from app import command, outcome, overlay, page
from app.analysis import read_record
from app.times import NEAR, SURE, Collection, Times, dearest_chance, spared
from pair import Command
from stats import differences


def record(collections: list[tuple[int, int, int, bool]], objects: int = 1000) -> dict[str, Any]:
    """Of a probe: two modules, 10 and 100 ms, of which the first counts 300 objects."""
    imports = [("b", 100_000_000, 90_000_000, 50), ("a", 10_000_000, 9_000_000, 300)]
    return {"imports": imports, "collections": collections, "objects": objects, "end": [40_000_000, 20_000_000]}


def test_the_last_collections_go() -> None:
    """They are as many objects from the end as go; what the program asks for itself stays, with less to look at."""
    collections = [Collection(900, 1.0, 1.0), Collection(500, 30.0, 20.0), Collection(200, 4.0, 2.0), Collection(100, 0.4, 0.2), Collection(50, 8.0, 6.0, automatic=False)]
    assert spared(collections, 0, 0.0) == (0.0, 0.0)
    assert spared(collections, 150, 0.25) == (0.4 + 2.0, 0.2 + 1.5)
    assert spared(collections, 501, 0.0) == (34.4, 22.2)
    assert spared(collections, -5, 0.0) == (0.0, 0.0)


def test_what_is_saved_is_the_sum_of_three() -> None:
    times = Times.of([record([(750, 5_000_000, 4_000_000, True), (100, 7_000_000, 6_000_000, True)])] * 2)
    saved = times.saved(["a"], 0.1)
    assert saved["own_cpu_ms"] == [9.0, 9.0] and saved["collected_cpu_ms"] == [4.0, 4.0] and saved["end_cpu_ms"] == [2.0, 2.0]
    assert saved["saves_cpu_ms"] == [15.0, 15.0] and saved["saves_ms"] == [10 + 5 + 4.0] * 2
    assert times.saved(["b"], 0.0)["saves_ms"] == [100.0, 100.0]
    assert times.total() == [110.0, 110.0]


@pytest.mark.parametrize(("left", "objects", "chance"), [
    (300, 1000, 0.0),  # goes
    (790, 1000, 0.0),
    (810, 1000, 5.0),  # may go
    (1240, 1000, 5.0),
    (1260, 1000, 0.0),  # stays
])
def test_what_cannot_be_told(left: int, objects: int, chance: float) -> None:
    assert dearest_chance([Collection(left, 9.0, 5.0), Collection(left, 1.0, 1.0)], objects) == chance
    assert dearest_chance([Collection(left, 9.0, 5.0, automatic=False)], objects) == 0.0
    near = Collection(left, 9.0, 5.0, near=True)  # is it there at all?
    assert dearest_chance([near], objects) == (5.0 if left < objects * SURE else 0.0)


def test_near_is_a_part_of_the_program() -> None:
    at = [round(1000 * (1 - share * NEAR)) for share in (2.0, 0.5)]
    (run,) = Times.of([record([(count, 1, 1, True) for count in at])]).collections
    assert [one.near for one in run] == [False, True]


def test_chance_is_said_where_it_matters() -> None:
    row = {"saves_cpu_ms": [20.0] * 3, "own_cpu_ms": [5.0] * 3, "collected_cpu_ms": [13.0] * 3, "end_cpu_ms": [2.0] * 3, "chance_cpu_ms": [12.0] * 3}
    assert page.parts_text(row) == "5.00 + 13.0 + 2.00"
    assert "12.0 ms" in page.chance_text(row) and not page.chance_text({**row, "chance_cpu_ms": [1.0] * 3})


# --- programs that drop it -------------------------------------------------------------------------------------------------

_KEPT = "kept = [[n] for n in range({})]\n"
_SAID = "import gc\ncounts = gc.get_stats()\nprint([found['collections'] for found in counts])\n"


def _program(directory: Path, dropped: int, before: int, after: int) -> None:
    """It imports what counts so many objects between two modules; without.py does not."""
    for name, count in (("first", before), ("dropped", dropped), ("last", after)):
        (directory / f"{name}.py").write_text(_KEPT.format(count))
    for name, text in (("app", "import first\nimport dropped\nimport last\n"), ("without", "import first\nimport last\n")):
        (directory / f"{name}.py").write_text(text + _SAID)


def _probe(directory: Path, kind: str) -> dict[str, Any]:
    python = command.ask(sys.executable, os.environ)
    state = directory / kind
    made = overlay.make(state, directory, None, "none", os.environ, python.executable)
    file = state / "record"
    found = outcome.observe(Command((python.executable, str(directory / "app.py")), made.environment(f"probe:{kind}:{file}")), 60)
    assert found.status == 0, found.err
    result = read_record(file, found.ended)
    assert result
    return result


def _collections(directory: Path, name: str) -> list[int]:
    """By generation, without a probe."""
    done = outcome.observe(Command((sys.executable, str(directory / f"{name}.py")), {**os.environ, "LADEWERK": "0"}), 60)
    found: list[int] = json.loads(done.out)
    return found


@pytest.mark.parametrize(("dropped", "before", "after"), [(30_000, 20_000, 20_000), (60_000, 10_000, 40_000), (15_000, 90_000, 5_000), (4_000, 100_000, 30_000)])
def test_as_many_collections_go_as_predicted(tmp_path: Path, dropped: int, before: int, after: int) -> None:
    """Counted, so how fast the machine is does not matter: one young collection may be the probe's."""
    _program(tmp_path, dropped, before, after)
    times = Times.of([_probe(tmp_path, "times")])
    count = times.objects["dropped"][0]
    assert count == pytest.approx(dropped, rel=0.02)
    alike = [Collection(one.left, 1.0, 1.0, one.automatic) for one in times.collections[0]]
    predicted, _ = spared(alike, count, 0.0)
    less = sum(_collections(tmp_path, "app")) - sum(_collections(tmp_path, "without"))
    assert abs(less - predicted) <= 1 and predicted >= dropped // gc.get_threshold()[0] - 1 > 0


def test_the_share_in_the_end_is_of_the_blocks(tmp_path: Path) -> None:
    _program(tmp_path, 60_000, 30_000, 30_000)
    graph = _probe(tmp_path, "graph")
    each = graph["blocks"]["first"] / 30_000
    assert graph["blocks"]["dropped"] == pytest.approx(60_000 * each, rel=0.01)
    assert 120_000 * each < graph["all_blocks"] < 120_000 * each + 60_000
