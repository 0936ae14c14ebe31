# SPDX-License-Identifier: MIT
"""What `ladewerk check` says without importing: which file each name below the roots leads to, and what lost.

Every directory is read once, by the rules of importlib's FileFinder. The index would not do: it does not know of files that no import can reach.
"""
from __future__ import annotations

import keyword
import os
import sys
import sysconfig
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import machinery
from typing import Any

from ladewerk._why import SUFFIXES

ERROR, WARNING = "error", "warning"
PASSED_OVER = {"__pycache__", "node_modules", "site-packages", "dist-packages"}
TESTS = ("/test", "/test/__init__.py")  # the library's own tests are not missed, but a directory of that name is common
MERGING = (b"extend_path", b"declare_namespace")  # packages that look for portions of themselves elsewhere


@dataclass
class Finding:
    kind: str
    severity: str
    file: str
    line: int | None  # None: it is a directory
    text: str
    modules: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass
class Module:
    name: str
    file: str
    is_package: bool


@dataclass(frozen=True)
class Place:
    """A directory where submodules are looked for."""

    path: str
    root: str  # the path entry that it is below
    ours: bool  # what is in it is under check
    linked: bool = False  # it lies behind a link that is below the root


@dataclass(frozen=True)
class Candidate:
    """One thing that a name could mean in one place."""

    kind: str  # package, extension, source, bytecode, directory (without __init__), built-in, frozen, zip
    file: str
    place: Place
    directory: str | None = None  # where its submodules are

    @property
    def line(self) -> int | None:
        return None if self.kind == "directory" else 1

    def described(self) -> dict[str, str]:
        return {"kind": self.kind, "file": self.file}


MEMORY = Place("", "", False)


class Listing:
    """One directory, read once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files: dict[str, list[tuple[int, str]]] = {}  # stem: place of the suffix in FileFinder's order, file name
        self.directories: set[str] = set()
        self.links: set[str] = set()  # among the directories
        self.broken: list[str] = []  # links that lead nowhere
        self.error: OSError | None = None
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self._add(entry)
        except OSError as error:
            self.error = error

    def _add(self, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if name in PASSED_OVER or name.startswith("."):
            return
        if _is_directory(entry):
            self.directories.add(name)
            if entry.is_symlink():
                self.links.add(name)
            return
        for i, (suffix, kind) in enumerate(SUFFIXES):
            if name.endswith(suffix) and len(name) > len(suffix):
                if _is_file(entry):
                    # A shared library that an extension needs may have any name.
                    stem = name[: -len(suffix)]
                    if kind == "source" or "." not in stem:
                        self.files.setdefault(stem, []).append((i, name))
                elif entry.is_symlink():
                    self.broken.append(name)
                return

    def is_environment(self) -> bool:
        return os.path.exists(os.path.join(self.path, "pyvenv.cfg"))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def can_be_named(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name


def _why_not(name: str) -> str:
    if "." in name:
        return "import takes the dot for the one between a package and a module"
    if keyword.iskeyword(name):
        return f"{name} is a keyword"
    if name.isidentifier():
        return f"import statements spell it {unicodedata.normalize('NFKC', name)} (NFKC)"
    return "its name is no identifier"


def _merges(candidate: Candidate) -> bool:
    """Whether a package looks for more of itself elsewhere, as pkgutil-style and pkg_resources-style namespaces do."""
    if candidate.kind != "package" or not candidate.file.endswith(".py"):
        return False
    try:
        with open(candidate.file, "rb") as file:
            text = file.read(1 << 16)
    except OSError:
        return False
    return any(word in text for word in MERGING)


def _library() -> tuple[str, ...]:
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.dirname(os.path.realpath(os.__file__)), os.path.dirname(os.__file__)}
    paths |= {os.path.join(path, "lib-dynload") for path in paths}
    return tuple(sorted(paths))


class Names:
    """Walks what is under check. Modules and findings gather in it."""

    def __init__(self, path: Sequence[str], roots: Sequence[str], excluded: Sequence[str]) -> None:
        self.path, self.roots, self.patterns = list(path), set(roots), [pattern.rstrip("/") for pattern in excluded]
        self.entries = {os.path.abspath(entry) for entry in path}
        self.library = _library()
        self.listings: dict[str, Listing] = {}
        self.modules: dict[str, Module] = {}
        self.mains: dict[str, Module] = {}  # by file: they are compiled, not imported
        self.findings: dict[tuple[str, str, str], Finding] = {}
        self.compiled: dict[str, list[tuple[str, Candidate, Candidate]]] = {}  # by directory: module, extension, source
        self.links_left = 0

    # --- reading ---

    def listing(self, path: str) -> Listing:
        found = self.listings.get(path)
        if not found:
            found = self.listings[path] = Listing(path)
        return found

    def _is_excluded(self, path: str, root: str, name: str) -> bool:
        if not self.patterns:
            return False
        below = os.path.relpath(path, root)
        forms = below, name, os.path.basename(path)
        return any(fnmatchcase(form, pattern) for pattern in self.patterns for form in forms)

    def _is_left_out(self, candidate: Candidate, name: str) -> bool:
        return any(self._is_excluded(path, candidate.place.root, name) for path in (candidate.file, candidate.directory) if path)

    def _candidates(self, place: Place, name: str, full: str) -> Iterator[Candidate]:
        """In FileFinder's order."""
        listing = self.listing(place.path)
        if isinstance(listing.error, NotADirectoryError):
            yield from self._foreign(place, full)
            return
        base = os.path.join(place.path, name)
        initial: list[Candidate] = []
        if name in listing.directories:
            initial = [Candidate("package", file, place, base) for file in self._initials(base)]
            yield from initial
        for i, file in sorted(listing.files.get(name, ())):
            yield Candidate(SUFFIXES[i][1], os.path.join(place.path, file), place)
        if name in listing.directories and not initial and not self._is_apart(base):
            yield Candidate("directory", base, place, base)

    def _initials(self, directory: str) -> Iterator[str]:
        listing = self.listing(directory)
        if listing.error:  # a directory that may be entered but not read
            yield from (file for suffix, _ in SUFFIXES if os.path.isfile(file := os.path.join(directory, "__init__" + suffix)))
        else:
            yield from (os.path.join(directory, file) for _, file in sorted(listing.files.get("__init__", ())))

    def _is_apart(self, directory: str) -> bool:
        """Where a search path begins, or another environment, names begin anew."""
        return os.path.abspath(directory) in self.entries or self.listing(directory).is_environment()

    @staticmethod
    def _foreign(place: Place, full: str) -> Iterator[Candidate]:
        """A zip file: its own finder knows."""
        import pkgutil

        finder: Any = pkgutil.get_importer(place.path) if os.path.exists(place.path) else None
        if finder and type(finder) is not machinery.FileFinder and hasattr(finder, "find_spec") and (spec := finder.find_spec(full)):
            if spec.loader and spec.origin:
                yield Candidate("zip", spec.origin, place)

    @staticmethod
    def _in_memory(name: str) -> Iterator[Candidate]:
        if machinery.BuiltinImporter.find_spec(name):
            yield Candidate("built-in", name, MEMORY)
        elif machinery.FrozenImporter.find_spec(name):
            yield Candidate("frozen", name, MEMORY)

    # --- walking ---

    def walk(self, prefix: str, places: Sequence[Place], only: tuple[str, ...] = ()) -> int:
        """Everything below package PREFIX ("": top level), whose directories are PLACES. ONLY: the parts of the name that is meant. Returns how much there is."""
        before = len(self.modules) + len(self.mains)
        if not only:
            for place in places:
                if place.ours:
                    self._look_around(prefix, place)
        names = sorted({only[0]} if only else self._names(places))
        if not only:
            self._look_for_clashes(prefix, names, places)
        for name in names:
            if can_be_named(name):
                self._decide(prefix + name, name, places, only[1:])
        return len(self.modules) + len(self.mains) - before

    def _names(self, places: Iterable[Place]) -> set[str]:
        names: set[str] = set()
        for place in places:
            if place.ours:
                listing = self.listing(place.path)
                names |= listing.directories | listing.files.keys()
        return names - {"__init__", "__main__"}

    def _look_around(self, prefix: str, place: Place) -> None:
        """What there is to say about a directory, whatever its modules are."""
        listing = self.listing(place.path)
        if listing.error:
            self._say(Finding("unreadable", ERROR, place.path, None, f"the directory cannot be read: {listing.error.strerror}", [prefix[:-1]] if prefix else []))
        for name in listing.broken:
            file = os.path.join(place.path, name)
            if not self._is_excluded(file, place.root, prefix + name.partition(".")[0]):
                self._say(Finding("unreadable", ERROR, file, 1, "the link leads nowhere"))
        for _, name in listing.files.get("__main__", ())[:1]:
            file = os.path.join(place.path, name)
            if not self._is_excluded(file, place.root, prefix + "__main__"):
                self.mains[file] = Module(prefix + "__main__", file, False)
        for stem, files in listing.files.items():
            if not can_be_named(stem) and SUFFIXES[min(files)[0]][1] == "source":
                self._say_unnamed(prefix, stem, os.path.join(place.path, min(files)[1]), place)
        for name in listing.directories:
            if not can_be_named(name):
                self._say_unnamed_directory(prefix, name, place)

    def _look_for_clashes(self, prefix: str, names: Sequence[str], places: Sequence[Place]) -> None:
        """Names that are one on other file systems, or to import statements."""
        same: dict[str, list[str]] = {}
        for name in names:
            if name.isidentifier():
                same.setdefault(unicodedata.normalize("NFKC", name).casefold(), []).append(name)
        for group in same.values():
            files = [file for name in group if (file := self._first(prefix, name, places))] if len(group) > 1 else []
            if len(files) < 2:
                continue
            folded = len({unicodedata.normalize("NFKC", name) for name in group}) < len(group)
            why = "import statements make them one (NFKC)" if folded else "where file names have no case they are one"
            self._say(Finding("clash", ERROR, files[-1].file, files[-1].line, f"{' and '.join(group)} differ in writing only: {why}",
                              [prefix + name for name in group], {"files": [one.file for one in files]}))

    def _first(self, prefix: str, name: str, places: Sequence[Place]) -> Candidate | None:
        """The first thing of that name under check."""
        for place in places:
            if place.ours:
                for candidate in self._candidates(place, name, prefix + name):
                    if not self._is_left_out(candidate, prefix + name) and (candidate.kind != "directory" or self._sources(candidate.file)):
                        return candidate
        return None

    def _decide(self, full: str, name: str, places: Sequence[Place], only: tuple[str, ...]) -> None:
        """Which candidate wins; PathFinder's rule."""
        candidates = [c for place in places for c in self._candidates(place, name, full)]
        if not any(c.place.ours for c in candidates):
            return
        if "." not in full:
            candidates = [*self._in_memory(full), *candidates]
        regular = [c for c in candidates if c.kind != "directory"]
        if not regular:
            self._descend(full, candidates, only)
            return
        winner = regular[0]
        merged = [c for c in candidates if c.kind == "directory" or _merges(c)] if len(candidates) > 1 and _merges(winner) else []
        self._say_losers(full, winner, [c for c in candidates if c is not winner and c not in merged])
        if not winner.place.ours or self._is_left_out(winner, full):
            if not any(c.place.ours for c in merged):
                return
        elif not only:
            self.modules[full] = Module(full, winner.file, winner.kind == "package")
        if winner.directory:
            self._descend(full, merged or [winner], only)

    def _descend(self, full: str, candidates: Sequence[Candidate], only: tuple[str, ...]) -> None:
        places = []
        for candidate in candidates:
            place, directory = candidate.place, candidate.directory or ""
            if place.ours and self._is_excluded(directory, place.root, full):
                continue
            linked = os.path.islink(directory)
            if place.ours and linked and (place.linked or self._is_loop(directory, place)):
                self.links_left += 1
                continue
            places.append(Place(directory, place.root, place.ours, place.linked or linked))
        if places:
            self.walk(full + ".", places, only)

    @staticmethod
    def _is_loop(link: str, place: Place) -> bool:
        real, here = os.path.realpath(link), os.path.realpath(place.path)
        return here == real or here.startswith(real.rstrip("/") + "/")

    def _sources(self, directory: str) -> int:
        """How many sources there are in a directory that no import reaches, and below it."""
        count, left, seen = 0, [directory], set[str]()
        while left:
            listing = self.listing(here := left.pop())
            real = os.path.realpath(here)
            if real not in seen and not self._is_apart(here):
                seen.add(real)
                count += sum(SUFFIXES[min(files)[0]][1] != "bytecode" for files in listing.files.values())
                left += [os.path.join(here, name) for name in listing.directories - listing.links]
        return count

    # --- what there is to say ---

    def _say(self, finding: Finding) -> None:
        self.findings.setdefault((finding.kind, finding.file, finding.text), finding)

    def _say_unnamed(self, prefix: str, stem: str, file: str, place: Place) -> None:
        if not self._is_excluded(file, place.root, prefix + stem):
            self._say(Finding("unnameable", WARNING, file, 1, f"no import statement can name it: {_why_not(stem)}"))

    def _say_unnamed_directory(self, prefix: str, name: str, place: Place) -> None:
        path = os.path.join(place.path, name)
        if not self._is_excluded(path, place.root, prefix + name) and (count := self._sources(path)):
            self._say(Finding("unnameable", WARNING, path, None, f"no import statement can name what is in it ({_files(count)}): {_why_not(name)}"))

    def _is_library(self, candidate: Candidate) -> bool:
        return candidate.place is MEMORY or candidate.place.root in self.library

    def _kind(self, winner: Candidate, loser: Candidate) -> tuple[str, str]:
        """The kind of finding, and how bad it is."""
        if self._is_library(winner) != self._is_library(loser):
            return "stdlib", WARNING if winner.file.endswith(TESTS) or loser.file.endswith(TESTS) else ERROR
        if loser.kind == "directory":
            return "masked", ERROR if loser.place.ours else WARNING
        if winner.place.path != loser.place.path and winner.place.root in self.roots and loser.place.root in self.roots:
            return "clash", ERROR
        return "shadowed", ERROR if loser.place.ours else WARNING

    def _counts(self, winner: Candidate, loser: Candidate, full: str) -> bool:
        """Whether a loser is worth a word: not what is nobody's, what is meant to be there, or what holds no module."""
        if not (winner.place.ours or loser.place.ours) or (self._is_library(winner) and self._is_library(loser)):
            return False
        if self._is_left_out(loser if loser.place.ours else winner, full):
            return False
        if loser.kind == "directory":
            return bool(self._sources(loser.file)) and not (self._is_library(winner) and not loser.place.ours)
        if loser.kind == "bytecode" and loser.place == winner.place:
            return False
        return winner.place is MEMORY or loser.place is MEMORY or not _same(winner.file, loser.file)

    def _say_losers(self, full: str, winner: Candidate, losers: Sequence[Candidate]) -> None:
        groups: dict[tuple[str, str], list[Candidate]] = {}
        for loser in losers:
            if _is_compiled(winner, loser):
                if not self._is_left_out(loser, full):
                    self.compiled.setdefault(os.path.dirname(loser.file), []).append((full, winner, loser))
            elif self._counts(winner, loser, full):
                groups.setdefault(self._kind(winner, loser), []).append(loser)
        for (kind, severity), group in groups.items():
            at = next((c for c in group if c.place.ours), winner)
            self._say(Finding(kind, severity, at.file, at.line, self._verdict(full, kind, winner, group), [full],
                              {"winner": winner.described(), "losers": [c.described() for c in group]}))

    def say_compiled(self) -> None:
        """Sources that were compiled ahead of time are often shipped, and then many: one finding for each directory."""
        for modules in self.compiled.values():
            modules.sort(key=lambda module: module[2].file)
            full, winner, loser = modules[0]
            more = len(modules) - 1
            text = f"{full} is {winner.file}, which hides {loser.file}" + (f"; so it is with {more} more in this directory" if more else "")
            pairs = [{"module": name, "winner": won.described(), "losers": [lost.described()]} for name, won, lost in modules]
            self._say(Finding("shadowed", WARNING, loser.file, 1, text, [name for name, _, _ in modules],
                              {"winner": winner.described(), "losers": [loser.described()], "all": pairs}))
        self.compiled.clear()

    def _verdict(self, full: str, kind: str, winner: Candidate, losers: Sequence[Candidate]) -> str:
        lost = ", ".join(c.file if c.place is not MEMORY else f"the {c.kind} one" for c in losers)
        won = f"the {winner.kind} module of Python" if winner.place is MEMORY else winner.file
        if kind == "masked":
            count = sum(self._sources(c.file) for c in losers)
            return f"{full} is {won}, so what is in {lost} ({_files(count)}) cannot be imported: a directory without __init__ loses to any module"
        if kind == "stdlib":
            which = "hides the library's" if self._is_library(losers[0]) else "is the library's, and hides"
            return f"{full} is {won}, which {which} {lost}" if not self._is_library(winner) else f"{full} is {won}, which hides {lost}"
        return f"{full} is {won}, which hides {lost}"


def _is_compiled(winner: Candidate, loser: Candidate) -> bool:
    """An extension module, or package, hides the source that it may have been made from."""
    return (winner.place.ours and winner.place == loser.place and loser.file.endswith(".py")
            and winner.file.endswith(tuple(machinery.EXTENSION_SUFFIXES)) and os.path.dirname(winner.file) == os.path.dirname(loser.file))


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
