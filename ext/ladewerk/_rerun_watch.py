# SPDX-License-Identifier: MIT
"""`ladewerk run --reload`, in the supervisor: which directories are watched, and whether a change in them concerns a process.

A directory is watched before anybody looks into it, and from then on for good: what changes after that is told, whoever runs meanwhile.
"""
from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from importlib.machinery import all_suffixes

from ladewerk import _live

SUFFIXES = tuple(sorted(all_suffixes(), key=len, reverse=True))
Stamp = tuple[int, ...]
Change = tuple[str, str]  # directory, name in it; "": all that is in it and below it, of directory "/": whatever there is


def module_of(name: str) -> str:
    """Of which module a file or directory NAME is the source, if it is one."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name[:-len(suffix)]
    return name


def can_be_imported(directory: str, name: str) -> bool:
    """Whether a file or directory of that NAME can: by name, and a file has a suffix."""
    stem = module_of(name)
    if stem != name:
        return stem.isidentifier()
    return name.isidentifier() and not name.startswith("__") and not os.path.isfile(os.path.join(directory, name))


class Looks:
    """What a process has looked for, and where."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.names: list[str] = []  # in their order
        self.tops: set[str] = set()  # directories of its sys.path
        self._wanted: dict[str, set[str]] = {}
        self._listed: set[str] = set()
        self._paths: dict[str, list[str]] = {"0": []}

    def path(self, number: str, top: bool, directories: list[str]) -> None:
        self._paths[number] = directories
        if top:
            self.tops.update(directories)

    def look(self, number: str, name: str, absent: list[str]) -> None:
        if absent:
            gone = set(absent)
            self.names = [each for each in self.names if each not in gone]
        self.names.append(name)
        tail = name.rpartition(".")[2]
        for directory in self._paths.get(number, ()):
            self._wanted.setdefault(directory, set()).add(tail)
            self._wanted.setdefault(f"{directory}/{tail}", set()).add("__init__")

    def into(self, directories: Iterable[str]) -> None:
        """Directories in which everything that can be imported counts: autoloaders list them."""
        self._listed.update(directories)

    def file(self, path: str) -> None:
        """A file of its own: the script."""
        self.files.add(path)

    def concerned(self, change: Change) -> bool:
        directory, name = change
        if name:
            if os.path.join(directory, name) in self.files or module_of(name) in self._wanted.get(directory, ()):
                return True
            return directory in self._listed and can_be_imported(directory, name)
        below = os.path.join(directory, "")
        return any(each == directory or each.startswith(below) for each in (*self._wanted, *self.files, *self._listed))


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _is_linked(entry: os.DirEntry[str]) -> bool:
    """It may be written to by another name, of which this directory's watch says nothing."""
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)


def _linked(directory: str) -> dict[str, Stamp | None]:
    try:
        with os.scandir(directory) as entries:
            return {entry.name: _stamp(entry.path) for entry in entries if entry.name.endswith(SUFFIXES) and _is_linked(entry)}
    except OSError:
        return {}


def _listed(directory: str) -> dict[str, Stamp | None]:
    """Everything in it that an import may look at."""
    try:
        return {name: _stamp(os.path.join(directory, name)) for name in os.listdir(directory) if name.endswith(SUFFIXES) or "." not in name}
    except OSError:
        return {}


class Places:
    """The watched directories: by the kernel's events, and where these are not to be had, or do not tell of all, by looking again (`look_again`)."""

    def __init__(self, polling: bool = False) -> None:
        self.why = ""  # there are no events
        self._events: _live.Events | None = None
        try:
            self._events = None if polling else _live.Events()
        except OSError as error:
            self.why = str(error)
        self._armed: set[str] = set()
        self._polled: dict[str, dict[str, Stamp | None]] = {}
        self._links: dict[str, dict[str, Stamp | None]] = {}
        self._missing: dict[str, str] = {}  # not there -> the directory above that is watched instead

    def fileno(self) -> int:
        return self._events.fileno() if self._events is not None else -1

    def must_look_again(self) -> bool:
        return bool(self._polled or any(self._links.values()))

    def known(self) -> Iterable[str]:
        return (*self._armed, *self._polled, *self._missing)

    def watch(self, directory: str, links: bool = True) -> None:
        """When it returns every later change in DIRECTORY is noticed. LINKS: of files that can be written to by other names, too."""
        if directory in self._armed and links and directory not in self._links:
            self._links[directory] = _linked(directory)
        if directory in self._armed or directory in self._polled:
            return
        self._missing.pop(directory, None)
        if self._events is not None and self._events.arm(directory):
            self._armed.add(directory)
            if links:
                self._links[directory] = _linked(directory)
        elif os.path.isdir(directory) or directory == "/":
            self._polled[directory] = _listed(directory)
        else:
            above = os.path.dirname(directory)
            self._missing[directory] = above
            self.watch(above, links=False)
            if os.path.isdir(directory):  # meanwhile
                self.watch(directory, links)

    def changes(self) -> list[Change]:
        """What the kernel has told."""
        if self._events is None:
            return []
        try:
            told = self._events.drain()
        except OSError:
            told = [(_live.Events.ALL, "", "")]
        found: list[Change] = []
        for kind, directory, name in told:
            if kind == _live.Events.ALL:
                found += self._begin_again("/")
            elif kind == _live.Events.SUBTREE:
                found += self._begin_again(directory)
            elif not name:
                found += self._begin_again(directory)
            else:
                found.append((directory, name))
                found += self._appeared(directory, name)
        return found

    def _begin_again(self, directory: str) -> Iterator[Change]:
        below = os.path.join(directory, "")
        lost = [each for each in self._armed if each == directory or each.startswith(below)]
        self._armed.difference_update(lost)
        for each in lost:
            self.watch(each, self._links.pop(each, None) is not None)
        yield directory, ""

    def _appeared(self, directory: str, name: str) -> Iterator[Change]:
        if directory in self._links and name.endswith(SUFFIXES):
            self._links[directory] = _linked(directory)
        path = os.path.join(directory, name)
        if path in self._missing:
            below = os.path.join(path, "")
            for each in [each for each in self._missing if each == path or each.startswith(below)]:
                self.watch(each)
            yield path, ""

    def look_again(self) -> list[Change]:
        """What stamps say."""
        found: list[Change] = []
        for directory, known in list(self._polled.items()):
            now = _listed(directory)
            found += ((directory, name) for name in {*known, *now} if known.get(name, ()) != now.get(name, ()))
            self._polled[directory] = now
            for change in [change for change in found if change[0] == directory]:
                found += self._appeared(*change)
        for directory, links in self._links.items():
            for name, stamp in links.items():
                now_is = _stamp(os.path.join(directory, name))
                if now_is != stamp:
                    links[name] = now_is
                    found.append((directory, name))
        return found


def being_written(changes: Iterable[Change]) -> bool:
    """A source among them is empty, or gone: that is how saving begins."""
    for directory, name in changes:
        if name.endswith(".py"):
            stamp = _stamp(os.path.join(directory, name))
            if (stamp is None or stamp[2] == 0) and os.path.isdir(directory):
                return True
    return False
