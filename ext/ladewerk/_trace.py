# SPDX-License-Identifier: MIT
"""`ladewerk trace`: a program of its own (ladewerk-trace), which the launcher executes without Python. Here it is found, and asked what it can do."""
from __future__ import annotations

import os
import subprocess
import sys
import sysconfig

from ladewerk.cli import CANNOT_EXECUTE, FAILED, OK, complain

IMPOSSIBLE = 77
_PROGRAM = "ladewerk-trace"
MISSING = "this build of Ladewerk cannot trace: clang, bpftool, libbpf or libelf was missing when it was built; install clang, bpftool, libbpf-dev and libelf-dev, and reinstall it"


def program() -> str | None:
    """Path of the program; None if it was not built. Never one that PATH names: it is run as root."""
    for directory in (os.path.dirname(sys.executable or ""), sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user")):
        path = os.path.join(directory, _PROGRAM)
        if directory and os.access(path, os.X_OK):
            return path
    return None


def check() -> tuple[int, str]:
    """Status and answer of `ladewerk trace --check`: OK and what can be traced, IMPOSSIBLE or FAILED and why not."""
    path = program()
    if not path:
        return FAILED, MISSING
    try:
        done = subprocess.run([path, "--check"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return FAILED, str(error)
    said = os.fsdecode(done.stdout or done.stderr).strip().removeprefix("ladewerk trace: ")
    return done.returncode if done.returncode in (OK, IMPOSSIBLE) else FAILED, said or f"it ended with status {done.returncode}"


def main(arguments: list[str]) -> int:
    path = program()
    if not path:
        complain(f"trace: {MISSING}")
        return FAILED
    try:
        os.execv(path, [_PROGRAM, *arguments])
    except OSError as error:
        complain(f"cannot execute {path}: {error.strerror}")
        return CANNOT_EXECUTE
