# SPDX-License-Identifier: MIT
"""Which interpreters are there: the `python3` that a shell would start, then every other CPython from 3.11 on, one of each kind."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

OLDEST = (3, 11)

_ASK = """\
import json, sys, sysconfig
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": sys.version_info[:2],
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "executable": sys.executable,
    "base": getattr(sys, "_base_executable", None) or sys.executable,
}))
"""


class Unfit(Exception):
    """An interpreter that cannot take part; str() says why."""


@dataclass(frozen=True)
class Found:
    """An interpreter: its kind ("3.11", "3.13t"), how it is started, and the one that its environment, if it is one, was made from."""

    key: str
    python: Path
    base: Path


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LADEWERK"))}


def look(command: str | Path) -> Found:
    """What COMMAND starts. Unfit: nothing, or nothing for us."""
    try:
        done = subprocess.run([command, "-c", _ASK], capture_output=True, text=True, timeout=60, env=_environment())
    except OSError as error:
        raise Unfit(f"it does not run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Unfit("it does not run: no answer for a minute") from None
    try:
        facts = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["no message"]
        telling = 0 if done.returncode == 127 else -1  # a shim that finds nothing says so first, a traceback last
        raise Unfit(f"it does not run: {lines[telling].strip()}") from None
    version = tuple(facts["version"])
    if facts["implementation"] != "cpython":
        raise Unfit(f"it is {facts['implementation']}; CPython is needed")
    if version < OLDEST:
        raise Unfit("it is Python {}.{}; {}.{} or newer is needed".format(*version, *OLDEST))
    # A link is not resolved: it may be what makes an environment of it.
    return Found("{}.{}".format(*version) + "t" * facts["free_threaded"], Path(facts["executable"]), Path(facts["base"]))


def _listed(directory: Path) -> list[str]:
    """Nothing where there is none, or where we may not look."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


_NAME = re.compile(r"python3(\.\d+t?)?")


def _named(directory: Path) -> list[Path]:
    """The interpreters of a directory, the newest first."""
    names = [name for name in _listed(directory) if _NAME.fullmatch(name)]

    def newest(name: str) -> tuple[int, str]:
        return -int("0" + name.removeprefix("python3").strip(".t")), name

    return [directory / name for name in sorted(names, key=newest)]


def candidates(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Where interpreters are looked for, in order: PATH, pyenv's versions, /usr/bin and /usr/local/bin."""
    path = environ.get("PATH", os.defpath)
    if first := shutil.which("python3", path=path):
        yield Path(first)
    for directory in filter(None, path.split(os.pathsep)):
        yield from _named(Path(directory))
    home = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "/"), ".pyenv"))
    for version in sorted(_listed(home / "versions"), reverse=True):
        yield home / "versions" / version / "bin/python3"
    for other in ("/usr/local/bin", "/usr/bin"):
        yield from _named(Path(other))


def one_of_each(commands: Iterable[Path]) -> list[Found]:
    """The first of each kind, in order; whoever is unfit is passed over."""
    seen: set[Path] = set()
    found: dict[str, Found] = {}
    for command in commands:
        real = command.resolve()
        if real in seen:
            continue
        seen.add(real)
        try:
            python = look(command)
        except Unfit:
            continue
        found.setdefault(python.key, python)
    return list(found.values())


def age(python: Found) -> tuple[int, str]:
    """To sort by, the oldest version first."""
    return int(python.key.partition(".")[2].rstrip("t")), python.key


def named(commands: Iterable[str]) -> list[Found]:
    """Those that a user has named. Unfit: one of them is, or two are of one kind."""
    found: dict[str, Found] = {}
    for command in commands:
        try:
            python = look(command)
        except Unfit as why:
            raise Unfit(f"{command}: {why}") from None
        if python.key in found:
            raise Unfit(f"{command}: a second Python {python.key}; one of each minor version can take part")
        found[python.key] = python
    return list(found.values())
