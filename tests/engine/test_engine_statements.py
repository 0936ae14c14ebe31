# SPDX-License-Identifier: MIT
"""What programs do inside an engine is what they do outside: relative, star and circular imports, namespace packages, lazy modules, reloads, finders, and
the parts of the standard library that look for modules by name."""
from __future__ import annotations

import importlib
import sys

import ladewerk
import pytest
from statements import CASES


def write(base, files):
    for name, source in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def outside(base):
    """The answer in the process's own state, which is afterwards what it was."""
    before, path = set(sys.modules), sys.path[:]
    sys.path.insert(0, str(base))
    importlib.invalidate_caches()
    try:
        return importlib.import_module("main").answer
    finally:
        sys.path[:] = path
        for name in own_modules(base, sys.modules) - before:
            del sys.modules[name]


def inside(base):
    """The answer in an engine; nothing of it may be among the process's modules."""
    before, path = set(sys.modules), sys.path[:]
    engine = ladewerk.ImportEngine(path=[str(base), *sys.path])
    answer = engine.import_module("main").answer
    assert "main" in engine.modules
    assert not own_modules(base, sys.modules) - before
    assert sys.path == path
    return answer


def own_modules(base, modules):
    """The names of those that are of the program."""
    tops = {path.stem for path in base.iterdir()} | {path.name for part in base.iterdir() if part.is_dir() for path in part.iterdir()}
    return {name for name in list(modules) if name.partition(".")[0] in tops | {"made_up", "made_last", "zip_mod", "zip_pkg"}}


@pytest.mark.parametrize("name", CASES)
def test_the_same_inside(tmp_path, name):
    write(tmp_path, CASES[name])
    assert repr(inside(tmp_path)) == repr(outside(tmp_path))


@pytest.mark.parametrize("first", ["inside", "outside"])
def test_a_module_of_one_is_not_the_others(tmp_path, first):
    """Whoever imports a name first: a module is executed once in each."""
    write(tmp_path, {"main.py": "import sys\nanswer = (object(), sys.modules)\n"})
    answers = {}
    for where in (inside, outside) if first == "inside" else (outside, inside):
        answers[where] = where(tmp_path)
    assert answers[inside][0] is not answers[outside][0] and answers[inside][1] is not answers[outside][1] and answers[outside][1] is sys.modules
