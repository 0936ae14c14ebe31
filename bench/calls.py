# SPDX-License-Identifier: MIT
"""System calls of a command, counted by strace."""
from __future__ import annotations

import subprocess
from pathlib import Path

from pair import Command, Failed


def count_syscalls(command: Command, file: Path) -> dict[str, int]:
    """Calls by name, of the process and all its children."""
    argv = ["strace", "-f", "-c", "-U", "name,calls", "-o", str(file), *command.argv]
    done = subprocess.run(argv, env=dict(command.env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300)
    if done.returncode != 0:
        raise Failed(f"strace: {(done.stderr.splitlines() or ['exit %d' % done.returncode])[-1]}")
    calls = {}
    for line in file.read_text().splitlines():
        name, _, number = line.strip().partition(" ")
        if number.strip().isdigit() and name != "total":
            calls[name] = int(number)
    return calls
