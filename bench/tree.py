#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Generates the source tree that the scanner is measured on: a monorepo, the same names and bytes for the same seed.

    tree.py ROOT [--entries N] [--directories N] [--no-caches] [--seed N]

N is exactly what a scan sees: the entries of all directories but `__pycache__`, `node_modules` and those whose names start
with a dot. These are there as well, to be left out, with Python files among what is in them; a scan that enters one finds
more sources than it should. About 14 entries and 8 modules a directory, unless --directories says otherwise; of a million entries most lie on
levels 5 to 7. --no-caches leaves out `__pycache__`, as where nothing has been imported yet:

    nine in ten   a package: modules, __init__.py, __pycache__, a README or some configuration, seldom an extension module
    a few         data or templates without any Python; scripts without an __init__.py
    one in 100    with node_modules as well; the root and some projects with .git

Every module can be imported with ROOT on sys.path and imports others: neighbours, and modules of packages that come earlier, so
that no cycle arises. Byte code files are empty (none is believed): what `compileall` would write depends on the interpreter.
All files carry one fixed modification time, old enough that no cache has to distrust it as too recent.

ROOT.stamp, beside the tree, tells what is in it; a tree with another stamp, or none, is made anew.
"""
from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from corpus import WRITTEN_AT, small_module

FORMAT = 1  # raise when the generated names or bytes change
PER_DIRECTORY = 14
WAYS = 6.5  # subdirectories of a directory that has any

_NOUNS = (
    "account", "address", "batch", "billing", "cache", "cart", "channel", "config", "contract", "country", "coupon", "crawler",
    "currency", "customer", "device", "email", "event", "export", "feature", "feed", "filter", "gateway", "graph", "group",
    "image", "import_job", "index", "inventory", "invoice", "language", "ledger", "locale", "market", "message", "metric", "model",
    "network", "notice", "order", "parser", "payment", "permission", "pipeline", "policy", "price", "product", "profile", "queue",
    "report", "request", "review", "route", "schema", "search", "session", "shipment", "signal", "storage", "tenant", "ticket",
    "token", "user", "vendor", "worker",
)  # fmt: skip
_ROLES = ("", "_utils", "_api", "_types", "_views", "_tasks", "_client", "_test")
_PACKAGE_EXTRAS = ("README.md", "config.yaml", "schema.json", "requirements.txt", "BUILD", "notes.txt", "py.typed", "Makefile")
_DATA_ENDINGS = (".json", ".yaml", ".txt", ".html", ".csv", ".sql", ".svg")
_EXTENSION = "_speedups.cpython-311-x86_64-linux-gnu.so"


@dataclass(frozen=True)
class Shape:
    entries: int = 1_000_000
    seed: int = 1
    directories: int = 0  # 0: one for each PER_DIRECTORY entries
    caches: bool = True  # byte code, in __pycache__

    def __repr__(self) -> str:
        """As it always was for what there always was: trees that are there stay as they are."""
        more = f", directories={self.directories}, caches={self.caches}" if self.directories or not self.caches else ""
        return f"Shape(entries={self.entries}, seed={self.seed}{more})"

    @property
    def fullness(self) -> float:
        """How many files a directory has, of what is usual. Two entries in each are no files to choose: a subdirectory, and __init__.py or what is as good."""
        return min(1.0, (self.entries / self.directories - 2) / (PER_DIRECTORY - 3)) if self.directories else 1.0


@dataclass
class Directory:
    """One directory of the plan; `others` counts files that are neither modules nor __init__.py."""

    number: int
    path: str  # from the root; "" is the root
    kind: str = "package"  # or "scripts", "data"
    modules: int = 0
    others: int = 0
    hidden: tuple[str, ...] = ()  # directories that no scan enters
    children: list[Directory] = field(default_factory=list)
    byte_code: bool = True

    @property
    def is_package(self) -> bool:
        return self.kind == "package"

    @property
    def caches(self) -> bool:
        return self.is_package and self.byte_code

    @property
    def entries(self) -> int:
        return self.is_package + self.caches + self.modules + self.others + len(self.hidden) + len(self.children)

    def module(self, number: int) -> str:
        return f"{_NOUNS[(self.number * 31 + number * 17) % len(_NOUNS)]}{_ROLES[(self.number + number * 3) % len(_ROLES)]}_{number}"

    @property
    def dotted(self) -> str:
        return self.path.replace("/", ".")


# --- the plan: which directories there are and how many files each has -------------------------------------------------

def _split(rng: random.Random, count: int, parts: int) -> list[int]:
    """`count` in `parts` uneven shares of at least 1."""
    weights = [rng.uniform(0.4, 1.6) for _ in range(parts)]
    shares = [1 + int((count - parts) * weight / sum(weights)) for weight in weights]
    shares[0] += count - sum(shares)
    return shares


def _grow(rng: random.Random, directory: Directory, count: int, plan: list[Directory]) -> None:
    """`count` directories below `directory`, parents before their children."""
    if not count:
        return
    parts = min(count, max(1, round(rng.gauss(WAYS, 1.5))))
    for number, share in enumerate(_split(rng, count, parts)):
        name = f"{_NOUNS[(directory.number * 13 + number * 29) % len(_NOUNS)]}s{number}"
        child = Directory(len(plan), f"{directory.path}/{name}".lstrip("/"))
        plan.append(child)
        directory.children.append(child)
        _grow(rng, child, share - 1, plan)


def _furnish(rng: random.Random, shape: Shape, directory: Directory) -> None:
    dice = rng.random()
    directory.kind = "scripts" if not directory.path or dice < 0.04 else "data" if dice < 0.1 and not directory.children else "package"
    modules = 0 if directory.kind == "data" else rng.randint(4, 13)
    directory.modules = modules and max(1, round(modules * shape.fullness))
    directory.others = round((rng.randint(6, 20) if directory.kind == "data" else rng.randint(0, 5)) * shape.fullness)
    directory.byte_code = shape.caches
    if rng.random() < 0.01:
        directory.hidden = ("node_modules",)
    if not directory.path or ("/" not in directory.path and rng.random() < 0.3):
        directory.hidden += (".git",)


def make_plan(shape: Shape) -> list[Directory]:
    """All directories, the root first; their entries add up to shape.entries."""
    rng = random.Random(f"{shape.seed}-plan")
    plan = [Directory(0, "")]
    _grow(rng, plan[0], (shape.directories or max(1, round(shape.entries / PER_DIRECTORY))) - 1, plan)
    for directory in plan:
        _furnish(rng, shape, directory)
    lacking = shape.entries - sum(directory.entries for directory in plan)
    while lacking:
        directory = rng.choice(plan)
        if lacking > 0 or directory.others:
            directory.others += 1 if lacking > 0 else -1
            lacking += -1 if lacking > 0 else 1
    return plan


# --- the files --------------------------------------------------------------------------------------------------------

def _write(at: int, name: str, text: str) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=at)
    if text:
        os.write(file, text.encode())
    os.utime(file, (WRITTEN_AT, WRITTEN_AT))
    os.close(file)


def _subdirectory(at: int, name: str) -> int:
    os.mkdir(name, 0o755, dir_fd=at)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)


def _imports(rng: random.Random, plan: list[Directory], directory: Directory, number: int) -> str:
    """Of neighbours with lower numbers and of directories that come earlier in the plan: there is always an order."""
    lines = []
    for neighbour in sorted({rng.randrange(number) for _ in range(rng.randrange(3))} if number else ()):
        name = directory.module(neighbour)
        lines.append(f"from .{name} import LIMIT as L{neighbour}" if directory.kind == "package" else f"import {directory.dotted}{'.' * bool(directory.path)}{name}")
    for _ in range(rng.randrange(3)):
        # Mostly from nearby, where the code of the same team is.
        near = rng.random() < 0.7
        other = plan[rng.randrange(max(0, directory.number - 40) if near else 0, directory.number)] if directory.number else directory
        if other is not directory and other.modules and other.path:
            lines.append(f"import {other.dotted}.{other.module(rng.randrange(other.modules))}")
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _module(rng: random.Random, plan: list[Directory], directory: Directory, number: int) -> str:
    head, body = small_module(rng, directory.module(number)).split("\n\n", 1)
    imports = _imports(rng, plan, directory, number)
    return f"{head}\n\n{imports}{bool(imports) * chr(10)}{body}"


def _write_modules(rng: random.Random, plan: list[Directory], directory: Directory, at: int) -> None:
    names = [f"{directory.module(number)}" for number in range(directory.modules)]
    for number, name in enumerate(names):
        _write(at, f"{name}.py", _module(rng, plan, directory, number))
    if directory.is_package:
        # Half of the packages gather what they offer.
        _write(at, "__init__.py", f"from .{names[0]} import LIMIT, NAMES\n" if rng.random() < 0.5 else "")
    if directory.caches:
        cache = _subdirectory(at, "__pycache__")
        for name in ("__init__", *names):
            _write(cache, f"{name}.cpython-311.pyc", "")
        os.close(cache)


def _write_others(rng: random.Random, directory: Directory, at: int) -> None:
    names = [f"record_{number:02}{rng.choice(_DATA_ENDINGS)}" for number in range(directory.others)]
    if directory.kind != "data":
        names[: len(_PACKAGE_EXTRAS)] = rng.sample(_PACKAGE_EXTRAS, min(len(names), len(_PACKAGE_EXTRAS)))
        if names and rng.random() < 0.05:
            names[0] = _EXTENSION
    for name in names:
        _write(at, name, f"{directory.dotted}: {name} {rng.randrange(1_000_000)}\n")


def _write_hidden(rng: random.Random, name: str, at: int) -> None:
    """A dozen packages of another language, or what a version control system keeps."""
    top = _subdirectory(at, name)
    files = ("package.json", "index.js", "binding.py") if name == "node_modules" else ("HEAD", "index", "hook.py")
    for number in range(rng.randint(4, 16)):
        inner = _subdirectory(top, f"{_NOUNS[number]}-{rng.randrange(100)}")
        for file in files:
            _write(inner, file, f"{number}\n")
        os.close(inner)
    os.close(top)


def _write_directory(shape: Shape, plan: list[Directory], directory: Directory, at: int) -> None:
    rng = random.Random(f"{shape.seed}-{directory.number}")
    if directory.modules:
        _write_modules(rng, plan, directory, at)
    _write_others(rng, directory, at)
    for name in directory.hidden:
        _write_hidden(rng, name, at)


def _write_tree(shape: Shape, plan: list[Directory], directory: Directory, at: int) -> None:
    _write_directory(shape, plan, directory, at)
    for child in directory.children:
        below = _subdirectory(at, child.path.rpartition("/")[2])
        _write_tree(shape, plan, child, below)
        os.close(below)


_work: tuple[Shape, list[Directory], Path]  # of the workers: inherited when they are forked


def _write_part(number: int) -> None:
    shape, plan, root = _work
    part = plan[number]
    (root / part.path).mkdir()
    at = os.open(root / part.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _write_tree(shape, plan, part, at)
    os.close(at)


def _parts(plan: list[Directory]) -> list[int]:
    """Subtrees of the second level: enough of them for workers to share."""
    return [child.number for top in plan[0].children for child in top.children]


def _write_all(shape: Shape, plan: list[Directory], root: Path) -> None:
    global _work
    _work = shape, plan, root
    for directory in (plan[0], *plan[0].children):
        (root / directory.path).mkdir(parents=True)
        at = os.open(root / directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _write_directory(shape, plan, directory, at)
        os.close(at)
    with get_context("fork").Pool(len(os.sched_getaffinity(0)), signal.signal, (signal.SIGTERM, signal.SIG_DFL)) as pool:
        for _ in pool.imap_unordered(_write_part, _parts(plan)):
            pass


def generate(root: Path, shape: Shape) -> bool:
    """Makes the tree unless it is there; whether it had to be made."""
    root = root.resolve()
    stamp, text = root.with_name(root.name + ".stamp"), f"format {FORMAT} {shape}\n"
    if root.is_dir() and stamp.is_file() and stamp.read_text() == text:
        return False
    if root.is_dir() and any(root.iterdir()) and not stamp.exists():
        raise FileExistsError(f"{root} holds something that was not made here; name another directory, or remove it")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text("being made\n")
    shutil.rmtree(root, ignore_errors=True)
    _write_all(shape, make_plan(shape), root)
    stamp.write_text(text)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--entries", type=int, default=Shape.entries)
    parser.add_argument("--directories", type=int, default=0, help="so many, with as many entries each as --entries makes (4 to 14)")
    parser.add_argument("--no-caches", action="store_true", help="no __pycache__")
    parser.add_argument("--seed", type=int, default=Shape.seed)
    options = parser.parse_args()
    if not 100 <= options.entries <= 10_000_000:
        parser.error("--entries: from 100 to 10,000,000")
    if options.directories and not 4 <= options.entries / options.directories <= PER_DIRECTORY:
        parser.error(f"--directories: from 4 to {PER_DIRECTORY} entries in each")
    try:
        made = generate(options.root, Shape(options.entries, options.seed, options.directories, not options.no_caches))
    except FileExistsError as error:
        sys.exit(f"tree.py: {error}")
    print(f"{options.entries} entries in {options.root}{'' if made else ', as before'}")


if __name__ == "__main__":
    main()
