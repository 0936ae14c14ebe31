# SPDX-License-Identifier: MIT
"""What a command line starts: which interpreter, with which options, on which program. What cannot be measured is refused, with the remedy."""
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PYTHON = re.compile(r"python(\d+(\.\d+)?)?t?d?$")
_TAKE_A_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_RUNNERS = ("uv", "poetry", "pipenv", "pdm", "hatch", "conda", "tox", "nox", "rye", "pixi")

# What the interpreter says of itself. The base one is what an environment was made from: Ladewerk is built with it.
_ASK = """\
import importlib.util, json, os, platform, site, sys, sysconfig
ladewerk = importlib.util.find_spec("ladewerk")
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": sys.version_info[:3],
    "executable": sys.executable,
    "base": getattr(sys, "_base_executable", None) or sys.executable,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "libraries": [path for path in dict.fromkeys([os.path.dirname(os.__file__), *site.getsitepackages()]) if os.path.isdir(path)],
    "ladewerk": ladewerk.origin if ladewerk else None,
}))
"""


class Refused(Exception):
    """str() says what cannot be measured, and what to do."""


@dataclass(frozen=True)
class Interpreter:
    """As it described itself. LIBRARIES: its standard library and site-packages."""

    executable: str
    base: str
    version: tuple[int, int, int]
    free_threaded: bool
    libraries: tuple[str, ...]
    ladewerk: str | None  # in its own environment

    @property
    def key(self) -> str:
        return f"{self.version[0]}.{self.version[1]}{'t' if self.free_threaded else ''}"


@dataclass(frozen=True)
class Program:
    """TEXT is what the user typed. OPTIONS are the interpreter's; ARGUMENTS begin with the script, -m, -c or a directory."""

    text: str
    python: Interpreter
    options: tuple[str, ...]
    arguments: tuple[str, ...]

    def argv(self, *more: str) -> tuple[str, ...]:
        """With MORE options for the interpreter."""
        return (self.python.executable, *self.options, *more, *self.arguments)

    @property
    def own_directory(self) -> Path | None:
        """Where its first modules are looked for: sys.path[0] of its process; None for -c, whose text is all there is."""
        first = self.arguments[0]
        if first == "-c":
            return None
        path = Path.cwd() if first == "-m" else Path(first).resolve()
        return path if path.is_dir() else path.parent


def parse(text: str, environ: Mapping[str, str] = os.environ) -> Program:
    """TEXT as a shell would split it. Refused."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Refused(f"{text!r} is no command line ({error}); quote it as for a shell") from None
    if not words:
        raise Refused("the command line is empty; for instance --app 'python app.py'")
    if "=" in words[0] and words[0].partition("=")[0].isidentifier():
        raise Refused(f"{words[0]} is a setting, no program; put it in front of bench/run.sh: {words[0]} bench/run.sh --app ...")
    python, rest = _interpreter_and_rest(words, environ)
    options, arguments = _divided(rest)
    _check_options(options, arguments)
    return Program(text, ask(python, environ), options, arguments)


def check_file(program: Program) -> None:
    """Refused: a slip of the pen, before anything is built for it."""
    first = program.arguments[0]
    if not first.startswith("-") and not Path(first).exists():
        raise Refused(f"there is no file {first} here")


def _interpreter_and_rest(words: list[str], environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The Python that WORDS lead to, and what it is given."""
    found = shutil.which(words[0], path=environ.get("PATH"))
    if found is None:
        raise Refused(f"{words[0]} is not found, or cannot be executed; for a script that is no program: 'python {words[0]} ...'")
    name = Path(found).name
    if _PYTHON.match(name):
        return found, words[1:]
    if name in _RUNNERS:
        raise Refused(f"{name} starts Python somewhere else; give the command that it starts: the environment's own bin/python, or a script in its bin/")
    line = shebang(Path(found))
    if line is None or not line or not _PYTHON.match(Path(line[0]).name):
        raise Refused(f"{words[0]} is neither Python nor a script that begins with #! and a Python; give the command that it ends up with, "
                      "for instance 'python -m package ...'")
    python = shutil.which(line[0], path=environ.get("PATH"))
    if python is None:
        raise Refused(f"{words[0]} begins with #! of {line[0]}, which is not there; give the Python: 'python {found} ...'")
    return python, [*line[1:], found, *words[1:]]


def shebang(file: Path) -> list[str] | None:
    """Interpreter and options that the first line of FILE asks for, `env` and pip's long form for long paths seen through; None without."""
    with open(file, "rb") as stream:
        head = stream.read(4096)
    if not head.startswith(b"#!"):
        return None
    lines = head.decode(errors="replace").splitlines()
    words = lines[0][2:].split(None, 1)
    if words[:1] == ["/bin/sh"] and len(lines) > 1 and (long := re.match(r"""'''exec' ("[^"]+"|\S+) (.*)"\$0" "\$@"$""", lines[1])):
        return [long[1].strip('"'), *shlex.split(long[2])]
    if words and Path(words[0]).name == "env":
        rest = words[1] if len(words) > 1 else ""
        return shlex.split(rest.removeprefix("-S"))
    return words


def _divided(rest: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options of the interpreter, and from its program on. -m and -c belong to the program, also at the end of joined options (-Im)."""
    at = 0
    while at < len(rest):
        word = rest[at]
        if word == "-" or not word.startswith("-"):
            break
        if word.startswith("--"):
            at += 1 + (word in _TAKE_A_VALUE)
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter in "mc":
                value = [word[place + 1:]] if word[place + 1:] else []
                before = [word[:place]] if place > 1 else []
                return (*rest[:at], *before), (f"-{letter}", *value, *rest[at + 1:])
            if letter in "WX":
                at += place + 1 == len(word)  # its value is the next word
                break
        at += 1
    return tuple(rest[:at]), tuple(rest[at:])


def _check_options(options: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    if not arguments or arguments[0] == "-":
        raise Refused("an interpreter that reads its program from a terminal or a pipe cannot be measured; write the program into a file")
    flags = {letter for word in options if not word.startswith(("--", "-W", "-X")) for letter in word[1:]}
    if hidden := sorted(flags & {"I", "E", "S"}):
        names = " and ".join(f"-{letter}" for letter in hidden)
        raise Refused(f"under {names} Python does not see what the benchmark puts beside the program; measure it without, or install Ladewerk into a copy "
                      "of its environment, `ladewerk enable` it there, and compare the two: bench/pair.py 'COMMAND' 'COMMAND'")


def ask(python: str, environ: Mapping[str, str]) -> Interpreter:
    """What the interpreter says of itself; so a shim (pyenv, asdf) is seen through. Refused if it cannot take part."""
    try:
        done = subprocess.run([python, "-c", _ASK], env={**environ, "LADEWERK": "0"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        facts = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        raise Refused(f"{python} does not run; try: {python} -c pass") from None
    version = ".".join(map(str, facts["version"]))
    if facts["implementation"] != "CPython" or facts["version"] < [3, 11]:
        raise Refused(f"{python} is {facts['implementation']} {version}; Ladewerk is for CPython 3.11 and newer: start the program with one")
    return Interpreter(facts["executable"], facts["base"], tuple(facts["version"]), facts["free_threaded"], tuple(facts["libraries"]), facts["ladewerk"])
