# SPDX-License-Identifier: MIT
"""Who takes part: one class per way of starting Python, one table per section at the end of the file.

To add a contender, write a subclass (or reuse one) and list it in the tables. `missing` says in a few words why it
cannot run here; its rows then carry those words instead of numbers.
"""
from __future__ import annotations

import marshal
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pair
from pair import Command, Failed
from sections import Interpreter, Place
from workloads import ImportLoop, Program

Workload = ImportLoop | Program


@dataclass(frozen=True)
class Bench:
    """Where everything is. `cwd` is the working directory of every run: it holds copies of the modules of ours that
    contenders import, and nothing else."""

    python: Path  # of the environment with the programs and Ladewerk
    small_python: Path | None  # of an environment with Ladewerk alone
    bare_python: Path | None  # of an environment with nothing installed
    enabled_python: Path | None  # of an environment with Ladewerk alone, after `ladewerk enable`
    pycds_python: Path | None  # of an environment with the programs and PyCDS
    why_no_pycds: str
    state: Path  # caches and prepared indexes of this run
    cwd: Path
    why_not: str = ""  # what went wrong when Ladewerk was installed

    def env(self, python: Path | None = None) -> dict[str, str]:
        """The same small environment for everyone, so that nothing of the caller's shell takes part."""
        return {
            "PATH": f"{(python or self.python).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.state / "home"),
            "LANG": "C.UTF-8",
        }

    def quiet(self) -> dict[str, str]:
        """For peers: Ladewerk's kill switch is pulled, whatever the environment has enabled."""
        return {**self.env(), "LADEWERK": "0"}


INSIDE = sorted(Path(__file__).with_name("inside").glob("*.py"))  # those modules of ours that are in `cwd`


def bench(place: Place, python: Interpreter) -> Bench:
    return Bench(
        python=python.python, small_python=python.beside.get("small"), bare_python=python.beside.get("bare"),
        enabled_python=python.beside.get("enabled"), pycds_python=python.beside.get("pycds"), why_no_pycds=python.failures.get("pycds", ""),
        state=place.state / python.key, cwd=place.state / "cwd", why_not=python.missing,
    )


class Contender(ABC):
    """`key` is unique in a section, `label` is the row's name in the report."""

    tail = ""  # code appended to a checking run, never to a timed one
    mapped = ""  # how the names of the files end that it maps its cache from
    complete = True  # imports everything that stock imports
    learns_once = True  # warm-up runs make sense

    def __init__(self, key: str, label: str) -> None:
        self.key = key
        self.label = label

    def missing(self, bench: Bench, workload: Workload) -> str:
        return ""

    @abstractmethod
    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        """The process to start; `count` cuts an ImportLoop to its first modules."""


class Stock(Contender):
    """Plain Python, with `options` of its own and `prefix` executed first."""

    def __init__(self, key: str, label: str, prefix: str = "", options: tuple[str, ...] = ()) -> None:
        super().__init__(key, label)
        self.prefix = prefix
        self.options = options

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        return Command((str(bench.python), *self.options, "-c", self.prefix + workload.code(count) + tail), bench.quiet())


class Lazy(Stock):
    """importlib.util.LazyLoader for every module: what the program does not use is never executed, and some of what it does breaks."""

    complete = False


class Zipped(Stock):
    """The program's installed packages in a zip file at the head of sys.path, as in a zipapp."""

    def __init__(self, key: str, label: str, deflated: bool) -> None:
        super().__init__(key, label)
        self.deflated = deflated

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        file = bench.state / f"{self.key}-{workload.key}.zip"
        if not file.exists():
            record = f"{workload.code()}import ziprecord; ziprecord.write({str(file)!r}, {self.deflated})\n"
            pair.run(Command((str(bench.python), "-c", record), bench.quiet()))
        prefix = f"import sys; sys.path.insert(0, {str(file)!r})\n"
        return Command((str(bench.python), "-c", prefix + workload.code(count) + tail), bench.quiet())


class Absent(Contender):
    """One that does not exist for any interpreter that can take part."""

    def __init__(self, key: str, label: str, why: str) -> None:
        super().__init__(key, label)
        self.why = why

    def missing(self, bench: Bench, workload: Workload) -> str:
        return self.why

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        raise Failed(self.why)


class DictFinder(Contender):
    """inside/dictfinder.py with a table built before the run; found first because it lies in the working directory."""

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        path = workload.path if isinstance(workload, ImportLoop) else ()
        file = bench.state / f"dictfinder-{workload.key}.marshal"
        if not file.exists():
            file.write_bytes(marshal.dumps(dictfinder_table([*path, *stock_path(bench)])))
        prefix = f"import dictfinder; dictfinder.install({str(file)!r})\n"
        return Command((str(bench.python), "-c", prefix + workload.code(count) + tail), bench.quiet())


class PackFloor(Contender):
    """inside/packfinder.py with a file that packrecord.py wrote from one run of the program."""

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        file = bench.state / f"packfinder-{workload.key}.pack"
        if not file.exists():
            record = f"import packrecord; packrecord.start()\n{workload.code()}packrecord.write({str(file)!r})\n"
            pair.run(Command((str(bench.python), "-c", record), bench.quiet()))
        prefix = f"import packfinder; packfinder.install({str(file)!r})\n"
        # The collection at the interpreter's end is every program's: an accelerator of imports cannot spare it.
        return Command((str(bench.python), "-c", prefix + workload.code(count) + tail + "import gc; gc.enable()\n"), bench.quiet())


class PyCDS(Contender):
    """code-data-share as its README says: trace, dump, then every start maps the archive. It never looks at a source again."""

    mapped = ".img"

    def __init__(self, key: str, label: str, prefix: str = "") -> None:
        super().__init__(key, label)
        self.prefix = prefix

    def missing(self, bench: Bench, workload: Workload) -> str:
        return "" if bench.pycds_python else f"code-data-share is not installed{bench.why_no_pycds and f' ({bench.why_no_pycds})'}"

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        env = {**bench.env(bench.pycds_python), "PYCDSMODE": "SHARE", "PYCDSARCHIVE": str(pycds_archive(bench, workload))}
        return Command((str(bench.pycds_python), "-c", self.prefix + workload.code(count) + tail), env)


class Nothing(Contender):
    """Python that imports nothing: what no accelerator of imports can help."""

    complete = False

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        return Command((str(bench.python), "-c", "pass\n" + tail), bench.quiet())


class Ladewerk(Contender):
    """`ladewerk run`; with `learning`, every run starts with an empty cache."""

    tail = 'import ladewerk; print("@stats", ladewerk.stats())\n'
    mapped = ".lwi"

    def __init__(
        self, key: str, label: str, freshness: str = "stat", learning: bool = False, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(key, label)
        self.freshness = freshness
        self.options = options or {}
        self.learning = learning
        self.learns_once = not learning

    def missing(self, bench: Bench, workload: Workload) -> str:
        return ladewerk_missing(bench)

    def cache(self, bench: Bench, workload: Workload) -> Path:
        directory = bench.state / "cache" / f"{self.key}-{workload.key}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        cache = self.cache(bench, workload)
        env = {**bench.env(), "LADEWERK_CACHE": str(cache), **self.options}
        code = workload.code(count) + tail
        argv = (*self.launcher(bench), "--freshness", self.freshness, "-c", code)
        return Command(argv, env, fresh=cache if self.learning else None)

    def launcher(self, bench: Bench) -> tuple[str, ...]:
        return (str(bench.python.with_name("ladewerk")), "run")


class LadewerkModule(Ladewerk):
    """The same through `python -m ladewerk`, for the start-up section."""

    def launcher(self, bench: Bench) -> tuple[str, ...]:
        return (str(bench.python), "-m", "ladewerk", "run")


class Watched(Ladewerk):
    """`ladewerk run` as it is, with a daemon of the bench's own at SOCKET to attach to."""

    def __init__(self, key: str, label: str, socket: Path) -> None:
        super().__init__(key, label, options={"LADEWERK_WATCH": str(socket)})
        self.socket = socket

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        command = super().command(bench, workload, count, tail)
        at = command.argv.index("--freshness")
        return Command((*command.argv[:at], *command.argv[at + 2 :]), command.env, command.fresh)


class LadewerkVariable(Ladewerk):
    """Plain `python` with LADEWERK set to `value` (None: unset): what the shipped .pth costs without the launcher."""

    def __init__(self, key: str, label: str, value: str | None) -> None:
        super().__init__(key, label)
        self.value = value
        self.tail = Ladewerk.tail if value else ""

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        env = {**bench.env(), "LADEWERK_CACHE": str(self.cache(bench, workload))}
        if self.value is not None:
            env["LADEWERK"] = self.value
        return Command((str(bench.python), "-c", workload.code(count) + tail), env)


class LadewerkEnabled(Ladewerk):
    """Plain `python` of an environment in which `ladewerk enable` was run."""

    def missing(self, bench: Bench, workload: Workload) -> str:
        if bench.enabled_python is None:
            return ladewerk_missing(bench) or "`ladewerk enable` failed, or --venv was given, which is left as it is"
        return ""

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        env = {**bench.env(bench.enabled_python), "LADEWERK_CACHE": str(self.cache(bench, workload))}
        return Command((str(bench.enabled_python), "-c", workload.code(count) + tail), env)


class Bare(Contender):
    """Python of an environment in which nothing was ever installed: the base of the start-up section."""

    def missing(self, bench: Bench, workload: Workload) -> str:
        return "" if bench.bare_python else "no empty environment"

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        return Command((str(bench.bare_python), "-c", workload.code(count) + tail), bench.env(bench.bare_python))


class Floor(Contender):
    """The same code objects executed without any import machinery."""

    complete = False

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        assert isinstance(workload, ImportLoop)
        file = bench.state / f"floor-{workload.key}.marshal"
        if not file.exists():
            listing = file.with_suffix(".sources")
            listing.write_bytes(marshal.dumps([(name, str(source)) for name, source in workload.sources()]))
            record = f"import floorrecord; floorrecord.write({str(listing)!r}, {str(file)!r})"
            pair.run(Command((str(bench.python), "-c", record), bench.quiet()))
        return Command((str(bench.python), "-c", workload.floor_code(file)), bench.quiet())


class ModuleLock(Contender):
    """CPython's per-module lock taken and dropped, nothing else."""

    complete = False

    def command(self, bench: Bench, workload: Workload, count: int | None = None, tail: str = "") -> Command:
        assert isinstance(workload, ImportLoop)
        return Command((str(bench.python), "-c", workload.lock_code()), bench.quiet())


@cache
def ladewerk_missing(bench: Bench) -> str:
    """Why Ladewerk cannot take part, from its own words where it has any."""
    launcher = bench.python.with_name("ladewerk")
    if not launcher.exists():
        return f"ladewerk is not installed{bench.why_not and f' ({bench.why_not})'}"
    env = {**bench.env(), "LADEWERK_CACHE": str(bench.state / "cache" / "probe")}
    try:
        probe = subprocess.run([launcher, "run", "-c", "pass"], env=env, cwd=bench.cwd, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`ladewerk run -c pass` failed: {error}"
    if probe.returncode != 0:
        lines = [line for line in probe.stderr.splitlines() if line.strip()] or ["no message"]
        return f"`ladewerk run -c pass` exits {probe.returncode}: {lines[-1].strip()}"
    return ""


@cache
def stock_path(bench: Bench) -> tuple[str, ...]:
    """sys.path of the interpreter under test, without the working directory."""
    code = "import sys; print(*sys.path[1:], sep='\\n')"
    out = subprocess.run([bench.python, "-c", code], env=bench.quiet(), cwd=bench.cwd, check=True, capture_output=True, text=True)
    return tuple(out.stdout.splitlines())


def dictfinder_table(path: list[str]) -> dict[str, tuple[str, str | None] | None]:
    """name -> (file, package directory or None), from one walk per path entry; None: extension, left to stock."""
    table: dict[str, tuple[str, str | None] | None] = {}
    for entry in path:
        for top, dirs, files in os.walk(entry):
            inner = os.path.relpath(top, entry)
            prefix = "" if inner == "." else inner.replace(os.sep, ".") + "."
            dirs[:] = [name for name in dirs if name.isidentifier() and _add_package(table, prefix + name, f"{top}/{name}")]
            extensions = {name.partition(".")[0] for name in files if name.endswith(".so")}  # any interpreter's
            for stem in extensions - {"__init__"}:
                table.setdefault(prefix + stem, None)
            for stem in (name[:-3] for name in files if name.endswith(".py") and name != "__init__.py"):
                table.setdefault(prefix + stem, (f"{top}/{stem}.py", None))
    return table


def _add_package(table: dict[str, tuple[str, str | None] | None], name: str, directory: str) -> bool:
    """Enters a regular package; false when it is none, or when an earlier path entry has the name already."""
    file = f"{directory}/__init__.py"
    if not os.path.exists(file):
        return False
    return table.setdefault(name, (file, directory)) == (file, directory)


def pycds_archive(bench: Bench, workload: Workload) -> Path:
    """The archive for a program, made when it is first asked for.

    The program itself leads the list of modules: dumping imports what is listed, and some modules can only be imported by
    a program that has configured them (django), or in its order. Without that line they would be missing in the archive.
    """
    directory = bench.state / "pycds" / workload.key
    archive, listing = directory / "program.img", directory / "modules.lst"
    if archive.exists():
        return archive
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "traced_program.py").write_text(workload.code())
    python, env = str(bench.pycds_python), bench.env(bench.pycds_python)
    pair.run(Command((python, "-c", workload.code()), {**env, "PYCDSMODE": "TRACE", "PYCDSLIST": str(listing)}))
    listing.write_text("traced_program\n" + listing.read_text())
    dump = f"import sys; sys.path.insert(0, {str(directory)!r}); import cds.dump; cds.dump.run_dump({str(listing)!r}, {str(archive)!r})"
    pair.run(Command((python, "-c", dump), env))
    return archive


_STOCK = Stock("stock", "stock")
_AGAIN = Stock("again", "stock again (control)")
_GC = Stock("gc", "stock, gc.disable()", "import gc; gc.disable()\n")
_FROZEN_OFF = Stock("frozen-off", "stock, -X frozen_modules=off", options=("-X", "frozen_modules=off"))
_DICT = DictFinder("dictfinder", "naive dict finder")
_LADEWERK = [
    Ladewerk("ladewerk-stat", "Ladewerk, stat"),
    Ladewerk("ladewerk-frozen", "Ladewerk, frozen", "frozen"),
    Ladewerk("ladewerk-learning", "Ladewerk, first run (empty cache)", learning=True),
]

_PYCDS = PyCDS("pycds", "PyCDS 0.1.0 (validates nothing)")
_FLOOR = PackFloor("packfloor", "floor: packed code, trivial finder, collector off")

# The first of each list is the base of the ratios.
PATHS: list[Contender] = [_STOCK, _AGAIN, _DICT, *_LADEWERK, Floor("floor", "floor: exec alone")]
MODULES: list[Contender] = [
    _STOCK, _AGAIN, _DICT, *_LADEWERK,
    Floor("floor", "floor: exec alone"), ModuleLock("lock", "floor: CPython's module lock alone"),
]
PROGRAMS: list[Contender] = [
    _STOCK, _AGAIN, _GC, _DICT, _PYCDS, PyCDS("pycds-gc", "PyCDS 0.1.0, gc.disable()", "import gc; gc.disable()\n"), *_LADEWERK,
    Ladewerk("ladewerk-gc0", "Ladewerk, stat, LADEWERK_GC=0", options={"LADEWERK_GC": "0"}),
    Ladewerk("ladewerk-unmarshal0", "Ladewerk, stat, LADEWERK_UNMARSHAL=0", options={"LADEWERK_UNMARSHAL": "0"}),
    _FLOOR,
]
PEERS: list[Contender] = [
    _STOCK, _AGAIN, _GC, _DICT, _PYCDS,
    Lazy("lazy", "importlib.util.LazyLoader for all imports", "import lazyfinder; lazyfinder.install()\n"),
    Zipped("zip-stored", "zipimport, byte code, stored", False),
    Zipped("zip-deflated", "zipimport, byte code, deflated", True),
    _FROZEN_OFF,
    Stock("frozen-on", "stock, -X frozen_modules=on", options=("-X", "frozen_modules=on")),
    Absent("oxidized", "oxidized_importer", "its last release, 0.6.0, is for CPython up to 3.10; Ladewerk needs 3.11"),
    *_LADEWERK[:2],
]
PYTHONS: list[Contender] = [_STOCK, _AGAIN, _GC, *_LADEWERK[:2]]
MEMORY: list[Contender] = [_STOCK, _PYCDS, *_LADEWERK[:2]]
COLD: list[Contender] = [
    _STOCK, _AGAIN, _FROZEN_OFF, _DICT, _PYCDS, *_LADEWERK[:2], Nothing("interpreter", "python -c pass"),
]
HYPERFINE: list[Contender] = [_STOCK, _AGAIN, _GC, _DICT, *_LADEWERK[:2]]
SYSCALLS: list[Contender] = [_STOCK, _DICT, *_LADEWERK[:2]]
STARTUP: list[Contender] = [
    Bare("stock", "python -c pass, Ladewerk not installed"),
    Bare("again", "the same again (control)"),
    LadewerkVariable("off", "python -c pass, installed, not enabled", None),
    LadewerkVariable("on", "LADEWERK=1 python -c pass", "1"),
    LadewerkEnabled("enabled", "python -c pass after `ladewerk enable`"),
    Ladewerk("run-stat", "ladewerk run -c pass"),
    Ladewerk("run-frozen", "ladewerk run --freshness frozen -c pass", "frozen"),
    LadewerkModule("module", "python -m ladewerk run -c pass"),
]


def those(keys: str, table: Sequence[Contender]) -> list[Contender]:
    """Of a table, in its order."""
    return [contender for contender in table if contender.key in keys.split()]
