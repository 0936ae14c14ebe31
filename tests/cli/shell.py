# SPDX-License-Identifier: MIT
"""How the tests here use what is installed beside this interpreter: from outside, as a user does."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest


def _script() -> Path:
    for directory in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (directory / "ladewerk").exists():
            return directory / "ladewerk"
    raise pytest.UsageError("no `ladewerk` beside this interpreter: install the package first")


SCRIPT = _script()
# The interpreter that the script takes, so that a comparison with it differs in nothing else.
PYTHON = next(path for name in (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python")
              if (path := SCRIPT.with_name(name)).exists())

STATS = "import ladewerk, json; print(json.dumps(ladewerk.stats()))"


@dataclass
class Shell:
    """Runs commands in a directory, with an environment of its own and an empty cache."""

    root: Path
    script: Path = SCRIPT
    python: Path = PYTHON
    env: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cwd = self.root / "work"
        self.cache = self.root / "cache"
        self.cwd.mkdir()
        # What the user's own programs share is not ours.
        runtime = self.root / "runtime"
        runtime.mkdir(0o700)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LADEWERK", "PYTHON", "COVERAGE"))}
        self.env = {**kept, "LADEWERK_CACHE": str(self.cache), "XDG_RUNTIME_DIR": str(runtime), **self.env}

    def write(self, name: str, text: str | bytes = "") -> Path:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def settle(self) -> None:
        """What was written just now could still change within one tick of the clock, and is not stored before that."""
        time.sleep(0.05)

    def _run(self, command: list[object], env: dict[str, str | None], **options: object) -> subprocess.CompletedProcess[str]:
        merged = {**self.env, **env}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [*self.prefix, *(os.fspath(word) if isinstance(word, Path) else word for word in command)],
            **{"cwd": self.cwd, "env": {k: v for k, v in merged.items() if v is not None}, "capture_output": True, "text": True,
               "errors": "surrogateescape", "timeout": 120, "stdin": None if "input" in options else subprocess.DEVNULL, **options})

    def ladewerk(self, *arguments: object, env: dict[str, str | None] = {}, **options: object) -> subprocess.CompletedProcess[str]:
        return self._run([self.script, *arguments], env, **options)

    def stock(self, *arguments: object, env: dict[str, str | None] = {}, **options: object) -> subprocess.CompletedProcess[str]:
        return self._run([self.python, *arguments], env, **options)

    def json(self, *arguments: object, status: int = 0, env: dict[str, str | None] = {}) -> dict:
        done = self.ladewerk(*arguments, "--json", env=env)
        assert done.returncode == status, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def stats(self, code: str = "", env: dict[str, str | None] = {}) -> dict:
        """The statistics of an accelerated start that runs CODE."""
        done = self.ladewerk("run", "-c", f"{code}\n{STATS}", env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def files(self) -> list[Path]:
        return sorted(self.cache.glob("*/*.lwi"))
