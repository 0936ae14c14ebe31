# SPDX-License-Identifier: MIT
"""Every module of the standard library in an engine: what is the engine's own and what is the process's, as ext/ENGINES-STDLIB.md says, and nothing of it is left over.

LADEWERK_UPDATE=1 writes this version's column of the page instead of comparing it.
"""
from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

import ladewerk

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent.parent / "ext" / "ENGINES-STDLIB.md"
VERSION = "%d.%d" % sys.version_info[:2]


def run(program: str, *args: str) -> Any:
    """What PROGRAM writes to the descriptor in its first argument: JSON."""
    reader, writer = os.pipe()
    with open(reader) as answer:
        process = subprocess.Popen([sys.executable, "-I", "-c", program, str(writer), *args], pass_fds=[writer], stderr=subprocess.PIPE, text=True)
        os.close(writer)
        said = answer.read()
        errors = process.communicate()[1]
    assert process.returncode == 0, errors
    return json.loads(said)


PROGRAM = (HERE / "stdlib_modules.py").read_text()


@pytest.fixture(scope="module")
def census() -> Any:
    return run(PROGRAM)


def kinds(census: Any) -> dict[str, str]:
    """What the page says of each module."""
    found = dict(census["imported"])
    for name, answer in census["own"].items():
        if answer == "refused":
            found[name] = "shared, own refused"
    return found


def test_every_module_is_imported(census):
    """What an engine cannot import, the process cannot import either, for the same reason."""
    assert {name: errors for name, errors in census["failed"].items() if errors[0] != errors[1]} == {}
    assert len(census["imported"]) > 500


def test_the_process_gains_what_is_shared_and_nothing_else(census):
    shared = {name for name, kind in census["imported"].items() if kind == "shared"}
    assert set(census["gained"]) - shared - set(census["explained"]) == set()


def test_control_without_the_table_the_process_gains_more():
    """The same with an engine that takes modules from the process that the table calls isolated."""
    broken = PROGRAM.replace("engine = ImportEngine()", "engine = ImportEngine(share=['mailbox'])", 1)
    census = run(broken)
    assert census["imported"]["mailbox"] == "shared" and "mailbox" in census["gained"]


def test_nothing_is_left(census):
    """The engine had all of the standard library in it: no module of its own outlives it."""
    assert census["marked"] > 300
    assert census["alive"] == []


def test_control_shared_registries_keep_an_engine_alive():
    """The same without an engine's own atexit and os.register_at_fork()."""
    broken = PROGRAM.replace("import ladewerk\n", "import ladewerk\nfrom ladewerk._engine import _exits\n_exits.Exits.modules = lambda self: {name: __import__(name) for name in ('atexit', 'posix')}\n", 1)
    assert "logging" in run(broken)["alive"]


def test_own_objects_are_given_or_refused(census):
    """own=[name] gives an object of the engine's own, or an error; never the shared one."""
    assert set(census["own"].values()) <= {"own", "refused", "another name"}, census["own"]
    assert {name for name, answer in census["own"].items() if answer == "refused"} >= {"threading", "_signal", "_thread"}
    assert {"_struct", "_heapq", "math"} <= {name for name, answer in census["own"].items() if answer == "own"}


# --- the page ---

HEAD = """# The standard library in an engine

What `import NAME` gives inside an engine, per version of Python:

| | |
|---|---|
| isolated | an object of the engine's own |
| shared | the process's object; `ImportEngine(own=["NAME"])` gives one of the engine's own |
| shared, own refused | the process's object, whatever is asked for: there is one in a process (`ValueError` when the engine is made), or its C code knows one object only (`ImportError`) |
| (nothing) | this version has no such module, or not on Linux |

A row is for a package and all that is in it, except what has a row of its own. What is isolated does not appear in the process's `sys.modules`; what is shared does, with what it
imports itself. The reasons are in `ladewerk/_engine/_sharing.py`. This page is written by `tests/engine/test_stdlib.py`, which imports all of it into an engine and compares.

"""


def rows(table: dict[str, str]) -> dict[str, str]:
    """TABLE without what its package's row says already."""
    return {name: kind for name, kind in table.items() if not any(table.get(package) == kind for package in nearest(name, table))}


def nearest(name: str, table: dict[str, str]) -> list[str]:
    """The package in TABLE that NAME is in, the innermost, if there is one."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name in table:
            return [name]
    return []


def read_page() -> dict[str, dict[str, str]]:
    """Name -> version -> kind."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    start = next(number for number, line in enumerate(lines) if line.startswith("| module |"))
    versions = [cell.strip() for cell in lines[start].strip("|").split("|")][1:]
    page = {}
    for line in lines[start + 1:]:
        name, *cells = (cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|"))
        page[name.strip("`")] = {version: cell for version, cell in zip(versions, cells) if cell}
    return page


def write_page(page: dict[str, dict[str, str]]) -> None:
    versions = sorted({version for cells in page.values() for version in cells}, key=lambda version: int(version.split(".")[1]))
    lines = ["| module | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    lines += [f"| `{name}` | " + " | ".join(cells.get(version, "") for version in versions) + " |" for name, cells in sorted(page.items()) if cells]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n")


def test_the_page_says_so(census):
    found = kinds(census)
    if os.environ.get("LADEWERK_UPDATE") == "1":
        page = read_page() if PAGE.exists() else {}
        for cells in page.values():
            cells.pop(VERSION, None)
        for name, kind in rows(found).items():
            page.setdefault(name, {})[VERSION] = kind
        write_page(page)
    page = {name: cells[VERSION] for name, cells in read_page().items() if VERSION in cells}
    if not page:
        pytest.skip(f"the page has no column for {VERSION}")
    # A patch release may have modules that the page does not know: they are to be isolated.
    said = {name: page[name] if name in page else page[nearest(name, page)[0]] if nearest(name, page) else "isolated" for name in found}
    assert {name: (kind, said[name]) for name, kind in found.items() if said[name] != kind} == {}
