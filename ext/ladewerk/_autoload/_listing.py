# SPDX-License-Identifier: MIT
"""What lies in directories, as imports are told of it."""
import os
import sys
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from typing import Iterator

from ladewerk import _native

_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where we must not look
        return False


def _scan(path: str) -> list[tuple[str, bool, tuple[str, ...], bool]]:
    """The same where Ladewerk is not active."""
    names: dict[str, tuple[bool, tuple[str, ...], bool]] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            stem, dot, rest = entry.name.partition(".")
            if not stem or (dot and dot + rest not in _SUFFIXES) or _is_dir(entry) != (not dot):
                continue
            is_dir, suffixes, doubt = names.get(stem, (False, (), False))
            suffixes = (*suffixes, dot + rest) if dot else suffixes
            names[stem] = is_dir or not dot, tuple(sorted(suffixes, key=_SUFFIXES.index)), doubt or entry.is_symlink()
    return [(name, *rest) for name, rest in names.items()]


def _entries(path: str) -> list[tuple[str, bool, tuple[str, ...], bool]]:
    try:
        found = _native.listing(os.fsencode(path))
        return _scan(path) if found is None else found
    except OSError:
        return []


def listing(path: str) -> Iterator[tuple[str, bool, tuple[str, ...]]]:
    """Name, whether it is a directory, and the suffixes of its files in the order in which imports try them; by name."""
    for say in getattr(sys.modules.get("ladewerk._rerun_child"), "listing", ()):  # under `ladewerk run --reload`: what changes from here on counts
        say(path)
    for name, is_dir, suffixes, doubt in sorted(_entries(path)):
        if doubt:
            at = os.path.join(path, name)
            is_dir = is_dir and os.path.isdir(at)
            suffixes = tuple(suffix for suffix in suffixes if os.path.isfile(at + suffix))
        yield name, is_dir, suffixes
