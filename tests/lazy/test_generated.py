# SPDX-License-Identifier: MIT
"""Random packages, executed by stock Python and lazily: the same namespaces, results and errors. In two processes that live as long as the test."""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import random_packages
import whose
from harness import LONG, Talker, Tree
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from interpreters import COUNT

#: All interpreters of a run together.
EXAMPLES = 50_000 if LONG else 5_000

DATA = st.binary(min_size=300, max_size=300)

# Plain values of what modules bind: what a process can tell another.
TOLD = """
import sys, types, importlib

def told(value, depth=3):
    if isinstance(value, types.ModuleType):
        return "module " + value.__name__
    if isinstance(value, types.MethodType):
        return ["method", told(value.__func__, depth)]
    if isinstance(value, types.FunctionType):
        return ["function", value.__module__, value.__qualname__, [told(item, depth - 1) for item in value.__defaults__ or ()],
                annotations(value, depth - 1)] if depth else "function"
    if isinstance(value, type):
        return ["class", value.__module__, value.__qualname__, told({name: item for name, item in vars(value).items() if not name.startswith("__")}, depth - 1),
                annotations(value, depth - 1)] if depth else "class"
    if isinstance(value, (list, tuple)):
        return [told(item, depth) for item in value]
    if isinstance(value, dict):
        return {name: told(value[name], depth) for name in sorted(value)}
    return repr(value) if value is None or type(value) in (int, str, bool) else str(type(value))

def annotations(value, depth):
    try:
        return told(getattr(value, "__annotations__", {}), depth)
    except Exception as error:  # from 3.14 on they are evaluated when they are asked for
        return ["error", type(error).__name__, str(error)]

def attempt(function, *args):
    try:
        return told(function(*args))
    except Exception as error:
        return ["error", type(error).__name__, str(error)]

def look(how, name, what, names):
    module = importlib.import_module(name)
    if how == "getattr":
        return getattr(module, what)
    if how == "import":
        exec(f"from {name} import {what}", found := {})
        return found[what]
    if how == "call":
        value = getattr(module, what)
        return value() if isinstance(value, types.FunctionType) and not what.startswith("set") else value
    if how == "dir":
        return sorted(set(dir(module)) & set(names))
    if how == "vars":
        return {one: value for one, value in vars(module).items() if one in names}
    if how == "star":
        exec(f"from {name} import *", found := {})
        return {one: value for one, value in found.items() if one in names}
    return eval(what, vars(module))

def generated():
    return {name: module for name, module in sys.modules.items() if name[0] == "p" and name.partition(".")[0] in ("p0", "p1", "p2")}

def everything():
    "All that can be imported has been: what waits, and what functions import."
    seen = None
    while seen != (seen := set(generated())):
        for name in sorted(seen):
            list(vars(sys.modules[name]))
        calls()

def spaces():
    return {name: {key: told(value) for key, value in sorted(vars(module).items()) if not key.startswith("__") or key == "__all__"} for name, module in sorted(generated().items())}

def calls():
    return {name: {key: attempt(value) for key, value in sorted(vars(module).items()) if isinstance(value, types.FunctionType) and not key.startswith(("set", "up"))}
            for name, module in sorted(generated().items())}

def run(root, roots, looks, names):
    enter(root)
    try:
        return [[attempt(importlib.import_module, name) for name in roots], [attempt(look, *one, names[one[1]]) for one in looks], everything(), spaces(), calls()]
    finally:
        leave()

def first_error(name, keys):
    "Of the import of a module, or of what it has bound."
    told = attempt(importlib.import_module, name)
    for key in keys:
        if told[0] == "error":
            return [told]
        told = attempt(getattr, sys.modules[name], key)
    return [told] if told[0] == "error" else []

def faults(root, roots, names):
    "Each module by itself, and none after an error: which of the modules it leaves depends on the order of imports."
    enter(root)
    found = []
    try:
        for name in [*roots, *names]:
            found += first_error(name, names.get(name, ()))
            leave()
        return found
    finally:
        leave()

def enter(root):
    sys.path[0] = root
    sys.dont_write_bytecode = True

def leave():
    for name in generated():
        del sys.modules[name]
    sys.path_importer_cache.clear()
"""


class Judges:
    """Stock Python and Ladewerk with all lazy, and a directory for what they are given."""

    def __init__(self, base: Path):
        self.base, self._count, self._tree = base, 0, Tree(base)
        self._talkers = {which: Talker(self._tree, which == "lazy", LADEWERK_LAZY="all" if which == "lazy" else None) for which in ("stock", "lazy")}
        for talker in self._talkers.values():
            talker(TOLD)

    def write(self, program: random_packages.Program) -> Path:
        self._count += 1
        root = self.base / f"program{self._count}"
        for name, text in program.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    def ask(self, code: dict[str, str]) -> dict[str, object]:
        """CODE by who is to execute it; at the same time."""
        for which, text in code.items():
            self._talkers[which].send(text)
        return {which: self._talkers[which].receive() for which in code}

    def compare(self, lazy: random_packages.Program, stock: random_packages.Program) -> None:
        """LAZY, imported lazily, gives what STOCK gives, which is the same program but for circles."""
        roots = [self.write(lazy), self.write(stock) if stock is not lazy else None]
        rest = f"{lazy.roots!r}, {lazy.looks!r}, {lazy.names!r})"
        told = self.ask({"lazy": f"result = run({str(roots[0])!r}, {rest}", "stock": f"result = run({str(roots[1] or roots[0])!r}, {rest}"})
        for root in filter(None, roots):
            shutil.rmtree(root)
        for module, space in told["lazy"][3].items():
            told["lazy"][3][module] = {name: value for name, value in space.items() if not name.startswith("up")}
        assert without_places(told["lazy"], roots) == without_places(told["stock"], roots), files(lazy)

    def compare_faults(self, program: random_packages.Program) -> None:
        root = self.write(program)
        told = self.ask({which: f"result = faults({str(root)!r}, {program.roots!r}, {program.names!r})" for which in ("lazy", "stock")})
        shutil.rmtree(root)
        assert told["lazy"] and all(error in told["stock"] for error in told["lazy"]), (told, files(program))

    def end(self) -> None:
        for talker in self._talkers.values():
            talker.close()


def without_places(value: object, roots: list[Path | None]) -> object:
    """VALUE without the directories in the messages of import errors."""
    text = repr(value)
    for root in filter(None, roots):
        text = text.replace(str(root), "")
    return text


def files(program: random_packages.Program) -> str:
    return "".join(f"\n# {name}\n{text}" for name, text in program.files.items()) + f"\n# {program.roots} {program.looks}"


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judges]:
    judges = Judges(tmp_path_factory.mktemp("generated"))
    yield judges
    judges.end()


def examples(count: int):
    """COUNT of them. What fails is made small only if there is time."""
    return settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, *([Phase.shrink] if LONG else [])])


@whose.ours
def test_same_namespaces_and_results(judges: Judges):
    @seed(int(os.environ.get("LADEWERK_SEED", "11")))
    @examples(EXAMPLES // COUNT)
    @given(DATA)
    def check(data: bytes) -> None:
        program = random_packages.Program(data)
        judges.compare(program, random_packages.Program(data, flat=True) if program.circles else program)

    check()


@whose.some
def test_same_errors(judges: Judges):
    @seed(12)
    @examples(EXAMPLES // COUNT // 10)
    @given(DATA)
    def check(data: bytes) -> None:
        judges.compare_faults(random_packages.Program(data, fault=True))

    check()


@whose.ours
def test_control(judges: Judges):
    """Imports that do not bind what is bound already are found to differ."""
    @seed(13)
    @examples(500)
    @given(DATA)
    def check(data: bytes) -> None:
        judges.compare(random_packages.Program(data, flat=True, guarded=True), random_packages.Program(data, flat=True))

    with pytest.raises(AssertionError):
        check()
