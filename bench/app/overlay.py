# SPDX-License-Identifier: MIT
"""How the program is started in each way. Its environment stays as it is: all that is added lies in a directory that PYTHONPATH leads to, and start.py, which
is found there, hides it again."""
from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pair
from app.command import Program
from pair import Command, Failed

START = 300.0  # s, at most, until a daemon watches or an artifact is written
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Overlay:
    """DIRECTORY has start.py as `sitecustomize`, the probe, and Ladewerk, unless WHY_NOT says why there is none. STATE is of this run
    alone, and so is SOCKETS, whose name is short: longer than 107 bytes no socket's may be."""

    directory: Path
    state: Path
    sockets: Path
    environ: Mapping[str, str]  # the program's own, without a word about Ladewerk
    why_not: str = ""

    def environment(self, bench: str = "", **more: str) -> dict[str, str]:
        """Through the overlay. BENCH: what start.py is to do."""
        path = os.pathsep.join(filter(None, (str(self.directory), self.environ.get("PYTHONPATH"))))
        return {**self.environ, "PYTHONPATH": path, "LADEWERK": "0", **({"LADEWERK_BENCH": bench} if bench else {}), **more}

    def stock(self) -> dict[str, str]:
        """Without it. Ladewerk's kill switch is pulled, should the environment have it."""
        return {**self.environ, "LADEWERK": "0"}

    @property
    def socket(self) -> Path:
        return self.sockets / "ladewerk"

    @property
    def artifact(self) -> Path:
        return self.state / "artifact"

    def ladewerk(self, freshness: str, cache: str, bench: str = "") -> dict[str, str]:
        more = {"LADEWERK": "1", "LADEWERK_FRESHNESS": freshness, "LADEWERK_WATCH": str(self.socket) if freshness == "watch" else "0"}
        if freshness == "frozen" and self.artifact.exists():
            more["LADEWERK_INDEX"] = str(self.artifact)
        return self.environment(bench, LADEWERK_CACHE=str(self.cache(cache)), **more)

    def cache(self, name: str) -> Path:
        directory = self.state / "cache" / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory


def make(state: Path, sockets: Path, ladewerk: Path | None, why_not: str, environ: Mapping[str, str], python: str) -> Overlay:
    """LADEWERK: a directory with the package as it is installed."""
    directory = state / "overlay"
    directory.mkdir(parents=True)
    if ladewerk:
        shutil.copytree(ladewerk / "ladewerk", directory / "ladewerk", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ladewerk / "ladewerk_start.py", directory)
    shutil.copy(_HERE / "start.py", directory / "sitecustomize.py")
    shutil.copy(_HERE / "probe.py", directory)
    own = {name: value for name, value in environ.items() if not name.startswith("LADEWERK")}
    overlay = Overlay(directory, state, sockets, own, why_not)
    # A sitecustomize without byte code would be compiled at every start, and so would Ladewerk's.
    subprocess.run([python, "-m", "compileall", "-q", str(directory)], env=overlay.stock(), stdin=subprocess.DEVNULL, capture_output=True)
    return overlay


@dataclass(frozen=True)
class Way:
    """A row of the report. KEY is unique."""

    key: str
    label: str
    env: Mapping[str, str]
    options: tuple[str, ...] = ()  # for the interpreter
    fresh: Path | None = None
    skipped: str = ""
    base: bool = False
    report: Mapping[str, str] = field(default_factory=dict)  # the environment in which Ladewerk reports; empty: it is another's row

    def command(self, program: Program) -> Command:
        return Command(program.argv(*self.options), self.env, fresh=self.fresh)


def ways(overlay: Overlay, program: Program, no_watch: str, no_artifact: str) -> list[Way]:
    """NO_WATCH, NO_ARTIFACT: why there is none, or nothing."""
    found = [
        Way("stock", "stock", overlay.stock(), base=True),
        Way("again", "stock again (control)", overlay.stock()),
        Way("gc", "stock, gc.disable()", overlay.environment("gc")),
        _lazy(overlay, program),
    ]
    kinds = (("stat", "", ""), ("watch", " (a daemon over roots and libraries)", no_watch), ("frozen", _frozen_label(overlay), no_artifact))
    for mode, label, why in kinds:
        key = f"ladewerk-{mode}"
        report = overlay.ladewerk(mode, mode, f"report:{overlay.state / key}.json")
        found.append(Way(key, f"Ladewerk, {mode}{label}", overlay.ladewerk(mode, mode), skipped=overlay.why_not or why, report=report))
    first = overlay.cache("first")
    found.append(Way("ladewerk-first", "Ladewerk, first run (empty cache)", overlay.ladewerk("stat", "first"), fresh=first, skipped=overlay.why_not))
    for mode, key in (("default", "ladewerk-lazy"), ("own", "ladewerk-lazy-own"), ("all", "ladewerk-lazy-all")):
        env = {**overlay.ladewerk("stat", key), "LADEWERK_LAZY": mode}
        found.append(Way(key, f"Ladewerk, stat, --lazy={mode}", env, skipped=overlay.why_not))
    return found


def _frozen_label(overlay: Overlay) -> str:
    return " (artifact of the roots, the rest as learnt)" if overlay.artifact.exists() else " (as learnt)"


def _lazy(overlay: Overlay, program: Program) -> Way:
    option = ("-X", "lazy_imports=all")
    why = "" if program.python.version >= (3, 15, 0) else f"Python {program.python.key} has no -X lazy_imports (3.15 has)"
    return Way("lazy", "stock, -X lazy_imports=all", overlay.stock(), options=option, skipped=why)


# --- what `watch` and `frozen` need ---------------------------------------------------------------------------------------


def _tool(overlay: Overlay, program: Program, *arguments: str) -> Command:
    """A `ladewerk` command of the overlay, for the same interpreter with the same options (-O has code of its own)."""
    env = {**overlay.environment(), "LADEWERK_CACHE": str(overlay.cache("tools")), "LADEWERK_WATCH": str(overlay.socket)}
    return Command((program.python.executable, *program.options, "-m", "ladewerk", *arguments), env)


def write_artifact(overlay: Overlay, program: Program, roots: Sequence[Path]) -> str:
    """Of the program's own sources; what lies elsewhere is learnt by its first run. Why there is none, or nothing, also if there is nothing to be in it."""
    if overlay.why_not or not roots:
        return overlay.why_not
    try:
        pair.run(_tool(overlay, program, "index", "--frozen", "--quiet", "-o", str(overlay.artifact), *map(str, roots)), START)
    except (Failed, OSError) as failure:
        return f"no artifact: {failure}"
    return ""


@contextmanager
def daemon(overlay: Overlay, program: Program, roots: Sequence[Path]) -> Iterator[str]:
    """A daemon of the bench's own, for as long as the context lasts. Gives why there is none, or nothing."""
    if overlay.why_not:
        yield overlay.why_not
        return
    command = _tool(overlay, program, "watch", *map(str, roots))
    process = subprocess.Popen(command.argv, env=dict(command.env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(START, process.kill)
    timer.start()
    try:
        errors = pair.pipe(process.stderr)
        said = errors.readline()
        timer.cancel()
        threading.Thread(target=errors.read, daemon=True).start()
        yield "" if "watching" in said else "no daemon: " + (said.strip().removeprefix("ladewerk: watch: ") or "it ended without a word")
    finally:
        timer.cancel()
        pair.end(process)
