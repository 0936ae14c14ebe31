# SPDX-License-Identifier: MIT
"""An interpreter with its library, and environments of it, moved to another place: onto a slow disk, where all that a program reads is to be slow.

Programs go on finding everything below ROOT: the library because `pyvenv.cfg` names an interpreter that has it beside itself, their packages because they are
copied. What the interpreter links to (libc, OpenSSL) stays where it is.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEFT_OUT = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "dist-packages", "config-*", "*.a", "*.opt-?.pyc", "*.po")
_BLOCK = 4096

# What is to be copied: where the interpreter and its library are, and what of an environment's packages NAMES and whatever they need have brought.
_LOOK = """\
import json, os, re, sys, sysconfig
from importlib import metadata
todo, dists = sys.argv[1:], {}
while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    try:
        dist = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    if name not in dists:
        dists[name] = dist
        todo += [re.match(r"[\\w.-]+", need)[0] for need in dist.requires or () if "extra ==" not in need]
tops = {file.parts[0] for dist in dists.values() for file in dist.files or ()} - {"..", "__pycache__"}
executable = os.path.realpath(sys._base_executable)
print(json.dumps({
    "executable": executable, "version": sysconfig.get_python_version(), "library": sysconfig.get_path("stdlib"), "site": sysconfig.get_path("purelib"),
    "linked": [os.path.join(sysconfig.get_config_var("LIBDIR"), name) for name in {sysconfig.get_config_var("INSTSONAME")} if name and ".so" in name],
    "tops": sorted(tops),
}))
"""


class Immovable(Exception):
    """Why an interpreter cannot be moved; one line for a report."""


@dataclass(frozen=True)
class Environment:
    """NAME is that of its directory below the new root; the packages NEEDS, and what these need, are in it."""

    name: str
    python: Path
    needs: Sequence[str]


@dataclass(frozen=True)
class Copy:
    """A file or a directory, and where it is to be below the new root."""

    source: Path
    target: str

    def files(self) -> Iterator[os.stat_result]:
        if not self.source.is_dir():
            yield self.source.stat()
            return
        for top, directories, names in os.walk(self.source):
            out = _LEFT_OUT(top, [*directories, *names])
            directories[:] = [name for name in directories if name not in out]
            yield os.stat(top)
            for name in names:
                if name not in out:
                    yield os.stat(os.path.join(top, name))


class Plan:
    """What is copied for ENVIRONMENTS, all of the same interpreter."""

    def __init__(self, environments: Sequence[Environment]) -> None:
        looks = {env.name: _look(env) for env in environments}
        first = looks[environments[0].name]
        self.version, self.names = first["version"], list(looks)
        executable, library = Path(first["executable"]), f"lib/{Path(first['library']).name}"  # lib/python3.13t, too
        self.executable = f"python/bin/{executable.name}"
        self.copies = [Copy(executable, self.executable), Copy(Path(first["library"]), f"python/{library}")]
        self.copies += [Copy(Path(file), f"python/lib/{Path(file).name}") for file in first["linked"] if Path(file).is_file()]
        for name, look in looks.items():
            self.copies += [Copy(Path(look["site"]) / top, f"{name}/{library}/site-packages/{top}") for top in look["tops"]]
        for env in environments:
            if (launcher := env.python.with_name("ladewerk")).is_file():
                self.copies.append(Copy(launcher, f"{env.name}/bin/ladewerk"))
        sizes = [(copy.target, stat.st_size, stat.st_mtime_ns) for copy in self.copies for stat in copy.files()]
        self.files, self.bytes = len(sizes), sum(-(-size // _BLOCK) * _BLOCK for _, size, _ in sizes)
        self.stamp = hashlib.sha256(repr(sizes).encode()).hexdigest()

    def python(self, root: Path, name: str) -> Path:
        return root / name / "bin" / "python"

    def fill(self, root: Path) -> None:
        for copy in self.copies:
            target = root / copy.target
            target.parent.mkdir(parents=True, exist_ok=True)
            if copy.source.is_dir():
                shutil.copytree(copy.source, target, symlinks=True, ignore=_LEFT_OUT)
            else:
                shutil.copy2(copy.source, target)
        for name in self.names:
            self.python(root, name).parent.mkdir(parents=True, exist_ok=True)
            self.python(root, name).symlink_to(f"../../{self.executable}")
            config = f"home = {root}/python/bin\ninclude-system-site-packages = false\nversion = {self.version}\n"
            (root / name / "pyvenv.cfg").write_text(config)

    def check(self, root: Path, env: dict[str, str]) -> None:
        """Immovable, if what runs there reads its library elsewhere."""
        for name in self.names:
            done = subprocess.run([self.python(root, name), "-c", "import os; print(os.__file__)"], env=env, capture_output=True, text=True)
            if done.returncode or not Path(done.stdout.strip()).is_relative_to(root):
                raise Immovable("this interpreter's library cannot be moved to another place")


def _look(env: Environment) -> dict[str, Any]:
    done = subprocess.run([env.python, "-c", _LOOK, *env.needs], capture_output=True, text=True)
    if done.returncode:
        raise Immovable(f"the environment {env.name} cannot be looked into: {(done.stderr.splitlines() or ['no message'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
