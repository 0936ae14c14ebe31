# SPDX-License-Identifier: MIT
"""Each rival of the peers imports what it says it imports, the way it says; the program is a small package of this environment."""
from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import contenders
import pair
import pytest
from contenders import Contender
from importing import measuring
from rows import Cell, cells, row_json
from sections import Effort, Interpreter, Place
from workloads import ImportLoop, Program, inside

LOAD = Program("pluggy", "pluggy", "import pluggy\nassert pluggy.PluginManager('x').get_plugins() == set()\n", "pluggy")
WHERE = "print('@file', pluggy.__file__, type(pluggy.__spec__.loader).__name__)\n"


@pytest.fixture(scope="module")
def rows(place: Place) -> dict[str, Cell]:
    return {cell.contender.key: cell for cell in cells(measuring.session(place), "peers", [LOAD], contenders.PEERS)}


def rival(key: str) -> Contender:
    return next(contender for contender in contenders.PEERS if contender.key == key)


def where(place: Place, key: str) -> list[str]:
    bench = measuring.session(place).bench
    return pair.run(rival(key).command(bench, LOAD, tail=WHERE)).out.split()


def test_who_runs_and_who_says_why(rows: dict[str, Cell]) -> None:
    skipped = {key: cell.skipped for key, cell in rows.items() if cell.skipped}
    assert set(skipped) == {"pycds", "oxidized"}
    assert "not today" in skipped["pycds"] and "3.10" in skipped["oxidized"]


def test_nobody_imports_less(rows: dict[str, Cell]) -> None:
    for key in ("again", "gc", "dictfinder", "zip-stored", "zip-deflated", "frozen-on", "ladewerk-stat"):
        assert rows[key].check["missing"] == [], key
    assert "missing" not in rows["lazy"].check  # whose business it is


@pytest.mark.parametrize("key", ["zip-stored", "zip-deflated"])
def test_zip_files_are_imported_from(place: Place, rows: dict[str, Cell], key: str) -> None:
    _, file, loader = where(place, key)
    assert ".zip/pluggy/__init__.pyc" in file and loader == "zipimporter"


def test_zip_files_differ(place: Place, rows: dict[str, Cell]) -> None:
    stored, deflated = (next(place.state.glob(f"*/zip-{kind}-pluggy.zip")).stat().st_size for kind in ("stored", "deflated"))
    assert deflated < 0.8 * stored


def test_lazy_imports_are_lazy(place: Place, rows: dict[str, Cell]) -> None:
    """An import that nobody uses executes nothing; the control is stock."""
    code = Program("lazy", "lazy", "import pluggy\nimport sys\nprint('@ran', 'pluggy._manager' in sys.modules)\n", "pluggy")
    bench = measuring.session(place).bench
    ran = {key: pair.run(rival(key).command(bench, code)).out.strip() for key in ("stock", "lazy")}
    assert ran == {"stock": "@ran True", "lazy": "@ran False"}


def test_frozen_modules(place: Place) -> None:
    code = Program("frozen", "frozen", "import os\nprint(type(os.__spec__.loader) is type, os.__spec__.origin)\n")
    bench = measuring.session(place).bench
    on, off = (pair.run(rival(f"frozen-{way}").command(bench, code)).out for way in ("on", "off"))
    assert on == "True frozen\n" and off.startswith("False")


def test_rows_of_several_interpreters_share_their_rounds(place: Place) -> None:
    """Each interpreter has its own base, and its own samples."""
    sessions = [measuring.session(place), measuring._session(measuring.session(place).bench, Interpreter("3.y", Path(sys.executable), place.main.facts), 1)]
    found = measuring.timed(sessions, "pythons", [[LOAD]], contenders.PYTHONS[:2], Effort(2, 60))
    assert [(row["python"], row["contender"], row["base"]) for row in found] == [
        ("3.x", "stock", True), ("3.x", "again", False), ("3.y", "stock", True), ("3.y", "again", False)]
    assert len({tuple(row["wall_ms"]) for row in found}) == 4 and all(len(row["wall_ms"]) == 2 for row in found)


def test_interpreter_without_programs_says_so(place: Place) -> None:
    absent = Interpreter("3.z", Path(sys.executable), {**place.main.facts, "packages": {}}, "no compiler", failures={"pluggy": "no network"})
    cell = next(iter(cells(measuring.session(place, absent), "pythons", [LOAD], contenders.PYTHONS)))
    assert cell.skipped == "pluggy is not installed (no network)"
    assert row_json(cell)["skipped"] == cell.skipped


def test_the_floor_has_code_of_the_interpreter_that_is_measured(place: Place, tmp_path: Path) -> None:
    """With -O, which no other here has, there is no assert in it."""
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry/floor_0.py").write_text("assert False\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -O "$@"\n')
    python.chmod(0o755)
    loop = ImportLoop("one", "one", str(tmp_path / "entry"), 0, 1, "floor_{}", 1)
    bench = replace(measuring.session(place).bench, python=python, state=tmp_path)
    floor = next(contender for contender in contenders.PATHS if contender.key == "floor")
    assert inside(pair.run(floor.command(bench, loop)).out)
    (tmp_path / "floor-one.marshal").unlink()
    with pytest.raises(pair.Failed, match="AssertionError"):
        pair.run(floor.command(replace(bench, python=Path(sys.executable)), loop))
