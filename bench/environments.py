# SPDX-License-Identifier: MIT
"""Environments of one interpreter, made once and kept: empty ones, ones with the wheel of a checkout, ones with programs from PyPI.

    environments.py --python PYTHON --build DIR home | micro | empty NAME | ladewerk NAME | packages NAME PACKAGE...

prints, for scan.sh and watch.sh, where that is: the environments' directory, the programs of bench/micro, an environment's interpreter. Exit status 1: why there
is none. Nothing of an environment's packages is printed but what could not be installed.

No environment has pip or setuptools in it: their .pth files and finders would be timed as well. A pip beside them installs into them.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pythons
from rows import say
from sections import Place

CHECKOUT = Path(__file__).resolve().parents[1]
PYCDS = "code-data-share==0.1.0"
_PATIENCE = ("--disable-pip-version-check", "--retries", "1", "--timeout", "20")  # of pip


class Unavailable(Exception):
    """What cannot be made or installed here; str() is one line for a report, without a path of this machine."""


_TELLS = re.compile("error|not found|neither|no module named", re.IGNORECASE)
_TELLS_NOTHING = re.compile("subprocess|encountered error|generation-failed|group|failed to build|hint:|note:|retrying", re.IGNORECASE)


_UNREACHABLE = re.compile("NewConnectionError|ConnectTimeoutError|NameResolutionError")


def last_error(log: str) -> str:
    """The line of a tool's output that tells most."""
    lines = [line for line in log.splitlines() if _TELLS.search(line) and not _TELLS_NOTHING.search(line)]
    if not lines:
        return "see install.log in the build directory"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])
    alone = " (the package index cannot be reached)" if _UNREACHABLE.search(log) and "No matching distribution" in plain else ""
    return re.sub(r"^\W*(ERROR: )?", "", plain).strip() + alone


def fingerprint(checkout: Path, settings: Mapping[str, str] = {}) -> str:
    """Of what a wheel is made from, and how. It is built anew only when this changes."""
    found = hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode())
    files = [checkout / name for name in ("CMakeLists.txt", "pyproject.toml", "README.md")]
    for top in ("core", "ext", "bpf"):
        files += [file for file in (checkout / top).rglob("*") if "__pycache__" not in file.parts]
    for file in sorted(file for file in files if file.is_file()):
        found.update(f"{file.relative_to(checkout)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return found.hexdigest()


def revision(checkout: Path) -> str:
    """Empty where there is no git."""
    try:
        done = subprocess.run(["git", "-C", checkout, "describe", "--always", "--dirty"], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def directory(build: Path, key: str, base: str | Path) -> Path:
    """For the environments of an interpreter of kind KEY. Two of one kind, such as the distribution's and pyenv's, never share any."""
    return build / f"py{key}-{hashlib.sha256(os.path.realpath(base).encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Environments:
    """Those of PYTHON in BUILD, a directory of its own; CHECKOUT is what the wheel is built from, with SETTINGS ("cmake.define.X": "1")."""

    python: Path
    build: Path
    checkout: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    # --- running tools --------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str | Path], what: str) -> None:
        """Unavailable: it failed; all that it said is in the log."""
        self.build.mkdir(parents=True, exist_ok=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LADEWERK", "VIRTUAL_ENV"))}
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env)
        except OSError as error:
            raise Unavailable(f"{what}: {error.strerror}") from None
        with open(self.build / "install.log", "a") as log:
            log.write(f"$ {' '.join(map(str, argv))}\n{done.stdout}")
        if done.returncode != 0:
            raise Unavailable(f"{what}: {last_error(self._without_paths(done.stdout))}")

    def _without_paths(self, text: str) -> str:
        """Where things lie here is nobody's business."""
        for path, name in ((self.python, self.python.name), (self.build, "the build directory"), (self.checkout, "the checkout")):
            if path.is_absolute():
                text = text.replace(str(path), name)
        return text

    def _pip(self, what: str, python: Path, *arguments: str | Path) -> None:
        """pip for PYTHON, an environment's."""
        self.run([self._tools(), "-m", "pip", *_PATIENCE, "--python", python, *arguments], what)

    def _tools(self) -> Path:
        """An interpreter with pip: of our own kind, or, where that has no ensurepip, the one that runs the benchmark, with a pip that knows newer ones."""
        own, lent = self.build / "tools", self.build / "tools-lent"
        for tools in (own, lent):
            if (tools / "bin/pip").exists():
                return tools / "bin/python"
        with suppress(Unavailable):
            self.run([self.python, "-m", "venv", own], "no ensurepip")
        return own / "bin/python" if (own / "bin/pip").exists() else self._lent(lent)

    def _lent(self, tools: Path) -> Path:
        say(f"no pip for {self.build.name}: that of the Python that runs the benchmark is used")
        python = tools / "bin/python"
        try:
            self.run([sys.executable, "-m", "venv", tools], "none of the Python that runs the benchmark either")
            self.run([python, "-m", "pip", *_PATIENCE, "install", "--quiet", "--upgrade", "pip"], "none can be fetched for it")
        except Unavailable as failure:
            shutil.rmtree(tools, ignore_errors=True)
            raise Unavailable(f"this Python has no pip, and {failure}; install its ensurepip (Debian: python3-venv)") from None
        return python

    # --- environments ---------------------------------------------------------------------------------------------

    def empty(self, name: str) -> Path:
        """The interpreter of the environment NAME, which is made unless it is there."""
        python = self.build / name / "bin/python"
        if not python.exists():
            self.run([self.python, "-m", "venv", "--without-pip", self.build / name], "no environment can be made (Debian: python3-venv)")
        return python

    def install(self, name: str, *what: str | Path) -> None:
        """Into NAME, which is there, whatever pip takes."""
        self._pip("pip", self.build / name / "bin/python", "install", "--quiet", *what)

    def wheel(self) -> Path:
        """The wheel of the checkout as it is now."""
        directory, stamp = self.build / "wheel", self.build / "wheel.fingerprint"
        made_from = fingerprint(self.checkout, self.settings)
        if not stamp.exists() or stamp.read_text() != made_from:
            say(f"building Ladewerk for {self.build.name}")
            stamp.unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            settings = [f"--config-settings={name}={value}" for name, value in self.settings.items()]
            self._pip("it cannot be built", self.empty("bare"), "wheel", "--quiet", "--no-deps", *settings, "-w", directory, self.checkout)
            stamp.write_text(made_from)
        return next(directory.glob("*.whl"))

    def ladewerk(self, name: str) -> Path:
        """The interpreter of the environment NAME with this checkout's Ladewerk in it, whatever else it has."""
        python, wheel = self.empty(name), self.wheel()
        # Its command begins with the path of the environment, which somebody may have moved.
        stamp, made_from = self.build / f"{name}.ladewerk", f"{(self.build / 'wheel.fingerprint').read_text()} {self.build}"
        if not stamp.exists() or stamp.read_text() != made_from:
            self.install(name, "--force-reinstall", "--no-deps", wheel)
            stamp.write_text(made_from)
        return python

    def enabled(self, name: str) -> Path:
        """The same, after `ladewerk enable`."""
        python = self.ladewerk(name)
        self.run([python.with_name("ladewerk"), "enable"], "`ladewerk enable` failed")
        return python

    def packages(self, name: str, wanted: Iterable[str]) -> dict[str, str]:
        """Installs what is not there; what cannot be installed, or would have to be compiled first, with the reason."""
        stamp = self.build / f"{name}.packages"
        there = set(stamp.read_text().split()) if stamp.exists() else set()
        failures = {}
        for package in wanted:
            if package in there:
                continue
            say(f"installing {package} for {self.build.name}")
            try:
                self.install(name, "--only-binary", ":all:", package)
            except Unavailable as why:
                failures[package] = str(why)
            else:
                there.add(package)
                stamp.write_text("\n".join(sorted(there)))
        return failures

    def twin(self, name: str, of: str, *more: str) -> Path:
        """An environment with MORE and the packages of OF, the same versions, but not Ladewerk."""
        wanted = sorted(f"{package}=={version}" for package, version in self.versions(of).items() if package != "ladewerk")
        stamp, text = self.build / f"{name}.twin", "\n".join([*more, *wanted])
        if not stamp.exists() or stamp.read_text() != text:
            say(f"installing {', '.join(more)} and the programs once more, beside it, for {self.build.name}")
            shutil.rmtree(self.build / name, ignore_errors=True)
            self.empty(name)
            for part in (more, wanted):
                if part:
                    self.install(name, "--only-binary", ":all:", *part)
            stamp.write_text(text)
        return self.build / name / "bin/python"

    def versions(self, name: str) -> dict[str, str]:
        ask = "import json; from importlib import metadata; print(json.dumps({d.name.lower(): d.version for d in metadata.distributions()}))"
        done = subprocess.run([self.build / name / "bin/python", "-c", ask], check=True, capture_output=True, text=True)
        found: dict[str, str] = json.loads(done.stdout)
        return found


def forget_another(build: Path, checkout: Path) -> None:
    """What CMake has made in BUILD it goes on with only where both lay before."""
    try:
        cache = (build / "CMakeCache.txt").read_text()
    except OSError:
        return
    for name, place in (("CMAKE_HOME_DIRECTORY", checkout), ("CMAKE_CACHEFILE_DIR", build)):
        found = re.search(f"^{name}:INTERNAL=(.*)$", cache, re.MULTILINE)
        if found is None or os.path.realpath(found[1]) != os.path.realpath(place):
            shutil.rmtree(build, ignore_errors=True)


def bench_programs(checkout: Path, build: Path) -> Path:
    """The directory with the programs of bench/micro, built. Unavailable: why not."""
    if shutil.which("cmake") is None:
        raise Unavailable("no cmake (Debian: cmake)")
    say("building the programs of bench/micro")
    tools = Environments(Path(), build, checkout)
    forget_another(build / "c", checkout)
    tools.run(["cmake", "-S", checkout, "-B", build / "c", "-DLADEWERK_BUILD_BENCH=ON", "-DLADEWERK_BUILD_EXTENSION=OFF"], "not configured")
    tools.run(["cmake", "--build", build / "c"], "not built")
    return build / "c/bench/micro"


def beside(place: Place) -> Environments:
    """Those of the main interpreter, for a section that needs one more."""
    return Environments(place.main.python, directory(place.build, place.main.key, place.main.python), CHECKOUT)


def _asked(home: Environments, kept: Path, what: str, names: Sequence[str]) -> str:
    match what, *names:
        case ["home"]:
            home.build.mkdir(parents=True, exist_ok=True)
            return str(home.build)
        case ["micro"]:
            return str(bench_programs(CHECKOUT, kept))
        case ["empty", name]:
            return str(home.empty(name))
        case ["ladewerk", name]:
            return str(home.ladewerk(name))
        case ["packages", name, *wanted]:
            return "\n".join(f"{package}: {why}" for package, why in home.packages(name, wanted).items())
    sys.exit(__doc__)


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--python", required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("what")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    try:
        found, kept = pythons.look(options.python), options.build.absolute()
        print(_asked(Environments(found.python, directory(kept, found.key, found.base), CHECKOUT), kept, options.what, options.names))
    except (Unavailable, pythons.Unfit) as why:
        print(why)
        sys.exit(1)


if __name__ == "__main__":
    main()
