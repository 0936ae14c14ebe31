# SPDX-License-Identifier: MIT
"""What is imported: the code each contender runs, as the text of a `-c` argument.

An `ImportLoop` times its own loop, start-up excluded, and prints the two durations; it can be cut to zero modules, so
that a count of one run less the other belongs to the modules alone. A `Program` prints nothing and is only ever judged
from outside.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corpus import Corpus

_TIMED = """\
import sys, time
{prepare}
wall, cpu = time.perf_counter_ns(), time.process_time_ns()
{loop}
cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
print("@inside", wall, cpu)
"""


def timed(prepare: str, body: str) -> str:
    """BODY, and what it took, which inside() reads; PREPARE is not in it."""
    return _TIMED.format(prepare=prepare, loop=body)


_NAMES = "names = [{name!r}.format(i) for i in range({count})]"

_PATH = "sys.path[1:1] = [{entry!r}.format(i) for i in range({first}, {last})]\n" + _NAMES

_IMPORT = """\
for name in names:
    __import__(name)"""

# The same code objects with no machinery at all: a fresh module, its code unmarshalled from memory, executed.
_FLOOR_PREPARE = """\
import marshal
with open({blobs!r}, "rb") as stream:
    blobs = marshal.load(stream)
module = type(sys)"""
_FLOOR = """\
for name, blob in blobs:
    sys.modules[name] = fresh = module(name)
    exec(marshal.loads(blob), fresh.__dict__)"""

# CPython takes and drops a lock per module whoever finds it; nobody who keeps its guarantees gets below this.
_LOCK_PREPARE = "import _frozen_importlib\nlock = _frozen_importlib._ModuleLockManager\n" + _NAMES
_LOCK = """\
for name in names:
    with lock(name):
        pass"""


@dataclass(frozen=True)
class ImportLoop:
    """Modules `name`.format(0 ... count-1) imported through path entries `entry`.format(first ... last-1)."""

    key: str
    title: str
    entry: str
    first: int
    last: int
    name: str
    count: int

    @property
    def path(self) -> list[str]:
        return [self.entry.format(i) for i in range(self.first, self.last)]

    @property
    def names(self) -> list[str]:
        return [self.name.format(i) for i in range(self.count)]

    def code(self, count: int | None = None) -> str:
        count = self.count if count is None else count
        prepare = _PATH.format(entry=self.entry, first=self.first, last=self.last, name=self.name, count=count)
        return timed(prepare, _IMPORT)

    def floor_code(self, blobs: Path) -> str:
        return timed(_FLOOR_PREPARE.format(blobs=str(blobs)), _FLOOR)

    def lock_code(self) -> str:
        return timed(_LOCK_PREPARE.format(name=self.name, count=self.count), _LOCK)

    def sources(self) -> list[tuple[str, Path]]:
        """(module, its file) for every imported name, for the floor; every one of them is a plain source file."""
        found = {}
        for entry in reversed(self.path):
            for name in self.names:
                file = Path(entry, *name.split(".")).with_suffix(".py")
                if file.is_file():
                    found[name] = file
        return [(name, found[name]) for name in self.names]


@dataclass(frozen=True)
class Program:
    key: str
    title: str
    text: str
    needs: str = ""  # the distributions it comes from

    def code(self, count: int | None = None) -> str:
        return self.text


def inside(out: str) -> tuple[float, float] | None:
    """(wall, CPU) in ns that an ImportLoop printed."""
    for line in out.splitlines():
        if line.startswith("@inside "):
            wall, cpu = line.split()[1:]
            return float(wall), float(cpu)
    return None


def path_loops(corpus: Corpus, counts: Sequence[int] = (1, 50, 300, 1000)) -> list[ImportLoop]:
    shape = corpus.shape
    loops = []
    for count in counts:
        title = "1 path entry" if count == 1 else f"{count} path entries"
        loops.append(ImportLoop(
            f"entries-{count}", title, corpus.entry_pattern, shape.entries - count, shape.entries,
            corpus.BEHIND, shape.modules,
        ))
    title = f"{shape.entries} path entries, modules spread over them"
    spread = ImportLoop("entries-spread", title, corpus.entry_pattern, 0, shape.entries, corpus.SPREAD, shape.modules)
    return [*loops, spread]


def oneline_loop(corpus: Corpus) -> ImportLoop:
    count = corpus.shape.oneline
    title = f"{count} one-line modules in one package"
    return ImportLoop("oneline", title, corpus.oneline_pattern, 0, 1, corpus.ONELINE, count)


_DJANGO = """\
from django.conf import settings
settings.configure(
    SECRET_KEY="bench",
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
        "django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles",
    ],
)
import django
django.setup()
from django.contrib import admin
admin.site.urls
"""

_SYMPY_USED = """\
import sympy
x = sympy.Symbol("x")
assert sympy.integrate(x**2 * sympy.exp(x), x).subs(x, 0) == 2
"""

_BOTO3 = """\
import boto3
session = boto3.session.Session(aws_access_key_id="bench", aws_secret_access_key="bench", region_name="us-east-1")
session.client("s3")
"""

# More than 2000 modules in one process, as a service that has grown for years has them.
_SERVICE = _DJANGO + _BOTO3 + """\
import django.core.management, django.test
import pandas
import sqlalchemy.dialects.postgresql, sqlalchemy.orm
import sympy.physics.mechanics, sympy.physics.units, sympy.stats
import twisted.internet.endpoints, twisted.internet.reactor, twisted.web.client, twisted.web.server
"""

SYMPY = Program("sympy", "sympy", "import sympy\n", "sympy")
_DJANGO_ADMIN = Program("django", "django (setup with admin)", _DJANGO, "django")
_SQLALCHEMY = Program("sqlalchemy", "sqlalchemy.orm", "import sqlalchemy.orm\n", "sqlalchemy")
_TWISTED = Program("twisted", "twisted.web.server", "import twisted.web.server\n", "twisted")

PROGRAMS = [
    SYMPY, _DJANGO_ADMIN, _SQLALCHEMY, _TWISTED,
    Program("pandas", "pandas", "import pandas\n", "pandas"),
    Program("boto3", "boto3 (session, s3 client)", _BOTO3, "boto3"),
    Program("service", "all six in one service", _SERVICE, "boto3 django pandas sqlalchemy sympy twisted"),
]
# Which of them an effort has, by their keys.
EFFORTS: dict[str, tuple[str, ...]] = {
    "quick": ("sympy",), "headline": ("sympy", "django", "pandas", "boto3"), "full": tuple(program.key for program in PROGRAMS),
}
EVERYWHERE = [SYMPY, _DJANGO_ADMIN]  # on every interpreter
# For peers, among whom is one that imports only what is used.
USED = [Program("sympy-used", "sympy, and an integral", _SYMPY_USED, "sympy"), _DJANGO_ADMIN]
COLD = [SYMPY, _DJANGO_ADMIN]
CROSS_CHECKED = {"headline": [SYMPY, _DJANGO_ADMIN], "full": [SYMPY, _DJANGO_ADMIN, _SQLALCHEMY, _TWISTED]}  # by hyperfine

PASS = Program("pass", "python -c pass", "pass\n")
