# SPDX-License-Identifier: MIT
"""Which processes are in a process group or a session."""
from __future__ import annotations

import os


def _facts(pid: str) -> tuple[bytes, int, int]:
    """State, group and session."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
    return state, int(group), int(session)


def alive_in(number: int, *, session: bool = False) -> list[int]:
    """In the group NUMBER, or in that session; the dead apart."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, *both = _facts(name)
        except (OSError, ValueError):
            continue  # it has ended
        if both[session] == number and state not in (b"Z", b"X"):
            found.append(int(name))
    return found
