# SPDX-License-Identifier: MIT
"""What root directories hold: modules, their names, and who is shadowed.

A Table is what an autoloader has found since setup() or the last reload. It grows as packages are looked into, each once; it is replaced as a
whole, and what is in it never changes. Readers take no lock: entries are added under the import lock, CPython's own, while no foreign code runs.
"""
import _imp
import glob
import keyword
import os
import sys
import threading
import time
import unicodedata
from dataclasses import dataclass
from types import TracebackType
from typing import Callable, Iterable, Iterator, NamedTuple

from ladewerk._autoload._errors import ExpectedNameError, NamespaceConflict
from ladewerk._autoload._listing import listing

YOUNG_NS = 30_000_000  # what has changed so lately may change again without another stamp
ROOT, PACKAGE, MODULE, HIDDEN = "root", "package", "module", "hidden"


class ImportLock:
    """CPython's lock of the table of module locks, held for a few dictionary operations. It is re-entrant, and our only one."""

    def __enter__(self) -> None:
        _imp.acquire_lock()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _imp.release_lock()


class Node:
    """Something with a name: NAME is what it is expected as, MODULE the module behind it, SPOKEN the module's name without collapsed directories."""

    __slots__ = ("kind", "attr", "name", "spoken", "module", "file", "dirs", "parent", "children")

    def __init__(self, kind: str, attr: str, module: str, parent: "Node | None", stem: str = "", file: str | None = None,
                 dirs: Iterable[tuple[str, str]] = ()) -> None:
        def below(name: str) -> str:
            return f"{parent.spoken}.{name}" if parent and parent.spoken else name
        self.kind = kind
        self.attr = attr
        self.module = module
        self.parent = parent
        self.name = below(attr)
        self.spoken = below(stem or attr)
        self.file = file
        self.dirs = list(dirs)  # of a package: where its children are, and the package that these are modules of
        self.children: dict[str, Node] | None = None if self.dirs else {}

    @property
    def path(self) -> str:
        return self.file or self.dirs[0][0]


class _Candidate(NamedTuple):
    kind: str
    module: str
    file: str | None
    folder: str | None

    @property
    def path(self) -> str:
        return self.file or self.folder or ""


@dataclass(frozen=True)
class Rules:
    """What an autoloader was told, at setup() or a reload."""

    roots: tuple[tuple[str, str], ...]  # directory, namespace ("" for none)
    ignored: frozenset[str]
    collapsed: frozenset[str]
    inflect: Callable[[str, str], str] | None  # of the convention `class`


def expand(patterns: Iterable[str]) -> frozenset[str]:
    """The paths that patterns mean now; each means itself as well, there or not."""
    return frozenset(path for pattern in patterns for path in (pattern, *glob.glob(pattern, recursive=True)))


def is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def is_within(path: str, directories: Iterable[str]) -> bool:
    return any(is_below(path, directory) for directory in directories)


def is_ignored(path: str, root: str, ignored: Iterable[str]) -> bool:
    """Whether PATH, which belongs to ROOT, is ignored. A root below an ignored directory of another root is not."""
    return any(is_below(path, one) and is_below(one, root) for one in ignored)


def is_special(stem: str) -> bool:
    return stem.startswith("__") and stem.endswith("__")


def is_name(stem: str) -> bool:
    """Whether source can say it."""
    return stem.isidentifier() and not keyword.iskeyword(stem) and (stem.isascii() or unicodedata.normalize("NFKC", stem) == stem)


class Table:
    def __init__(self, rules: Rules, old: "Table | None" = None) -> None:
        """OLD: the one before, if only what has changed is to be looked for."""
        self.rules = rules
        self.canon: dict[str, Node] = {}  # by module
        self.spoken: dict[str, Node] = {}
        self.roots: list[Node] = []
        self.losers: dict[str, str] = {}  # path -> the winner's
        self.added: list[tuple[str, str]] = []  # packages and the directories that were added to their __path__
        self.loaded: dict[str, object] = {}  # by module: what was seen to be loaded
        self.former: dict[str, Node] = {}  # what the tables before knew: of what is still loaded the file may have gone since, before anybody has looked here
        self.begun: set[str] = set()  # modules of which an import has begun
        self.stamps: dict[str, tuple[int, int, int, int, int]] = {}  # of their sources, before they were read, where these cannot have changed meanwhile
        self.looked_at: set[str] = set()  # directories in which finders have looked since the last reload
        self._tops: set[str] | None = None  # of the names of all that is managed; None: not known yet
        self._directories = frozenset(path for path, _ in rules.roots)
        self._importable: dict[str, str] = {}  # directories, and a file because of which they are packages, or ""
        self._known: dict[str, str] = {}  # the same, of before
        self._inits: dict[str, tuple[tuple[int, int, int, int], str | None]] = {}  # directories, their stamps, and the __init__ files that they had then
        self._peeked: dict[str, list[tuple[str, bool, tuple[str, ...]]]] = {}  # what directories hold that have not been looked into
        if old:
            self._follow(old)
        by_namespace: dict[str, list[tuple[str, str]]] = {}
        for path, namespace in rules.roots:
            if os.path.isdir(path) and path not in rules.ignored:  # what is ignored above it concerns the root there
                by_namespace.setdefault(namespace, []).append((path, namespace))
        for namespace in sorted(by_namespace, key=lambda name: (bool(name), name.count("."))):
            self._add_root(namespace, by_namespace[namespace])
        self._tops = {name.partition(".")[0] for name in (*self.canon, *self.spoken)}

    def _add_root(self, namespace: str, dirs: list[tuple[str, str]]) -> None:
        node = self.find(namespace) or self.spoken.get(namespace) if namespace else None
        if node and node.kind == MODULE:
            raise NamespaceConflict(f"{namespace!r} is no package, but the module {node.file}")
        if not node and namespace in sys.modules and not hasattr(sys.modules[namespace], "__path__"):
            raise NamespaceConflict(f"{namespace!r} is no package, and {dirs[0][0]} cannot be part of it")
        if node:
            node.dirs += [(path, node.module) for path, _ in dirs]
            return
        root = Node(ROOT, namespace, namespace, None, dirs=dirs)
        self.roots.append(root)
        self.canon[namespace] = self.spoken[namespace] = root
        self.children(root)

    def find(self, module: str) -> Node | None:
        """By the name of the module; packages on the way are looked into."""
        if self._tops is not None and module.partition(".")[0] not in self._tops:
            return None  # most imports of a program are none of ours
        node = self.canon.get(module)
        parent = module.rpartition(".")[0]
        if node or not parent:
            return node
        above = self.find_spoken(parent)
        if above:
            self.children(above)
        node = self.canon.get(module)
        if not node and module in sys.modules:
            node = self.former.get(module)
            return node if node and node.kind in (PACKAGE, MODULE) else None
        return node

    def find_spoken(self, name: str) -> Node | None:
        """By another name of the module, which a collapsed directory gives it."""
        return self.find(name) or self.spoken.get(name)

    def children(self, node: Node) -> dict[str, Node]:
        if node.children is None:
            self._look_into(node)
        assert node.children is not None
        return node.children

    def walk(self) -> Iterator[Node]:
        """All nodes with a name, parents first."""
        todo = self.roots[::-1]
        while todo:
            node = todo.pop()
            yield node
            todo += reversed(list(self.children(node).values()))

    # --- looking into directories ---

    def _peek(self, directory: str) -> list[tuple[str, bool, tuple[str, ...]]]:
        found = self._peeked.get(directory)
        if found is None:
            found = self._peeked[directory] = list(listing(directory))
        return found

    def holds(self, directory: str) -> bool:
        """Whether anything below can be imported."""
        if directory not in self._importable:
            self._importable[directory] = self._find_importable(directory)
        return bool(self._importable[directory])

    def _find_importable(self, directory: str) -> str:
        """A file in it, or below, that can be imported; "": there is none."""
        before = self._known.get(directory, "")
        if before and os.path.isfile(before):
            return before
        start = directory.rstrip("/") + "/"
        return next((found for name, is_dir, suffixes in self._peek(directory) for found in [self._importable_at(start + name, name, is_dir, suffixes)] if found), "")

    def _follow(self, old: "Table") -> None:
        """What OLD has found need not be looked for again while it is there, if the rules are the same."""
        self._inits = old._inits
        if (self.rules.ignored, self._directories) == (old.rules.ignored, old._directories):
            self._known = old._known | old._importable

    def _find_init(self, directory: str) -> str | None:
        now, status = time.time_ns(), os.stat(directory)
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        known = self._inits.get(directory)
        if known and known[0] == stamp and (not known[1] or os.path.isfile(known[1])):
            return known[1]
        init = self._read_init(directory)
        if stamp[1] < now - YOUNG_NS:
            self._inits[directory] = stamp, init
        else:
            self._inits.pop(directory, None)
        return init

    def _read_init(self, directory: str) -> str | None:
        suffixes = next((suffixes for name, _, suffixes in self._peek(directory) if name == "__init__"), ())
        return f"{directory}/__init__{suffixes[0]}" if suffixes else None

    def _importable_at(self, path: str, name: str, is_dir: bool, suffixes: tuple[str, ...]) -> str:
        nameable = name == "__init__" or (is_name(name) and not is_special(name))
        found = [path + suffix for suffix in suffixes if path + suffix not in self.rules.ignored] if nameable else []
        if found:
            return found[0]
        return self._importable[path] if is_dir and self._is_entered(path, name) and self.holds(path) else ""

    def _is_entered(self, path: str, name: str) -> bool:
        return is_name(name) and not is_special(name) and name != "node_modules" and path not in self.rules.ignored and path not in self._directories

    def _collect(self, directory: str, package: str, found: dict[str, list[_Candidate]], folded: list[tuple[str, str]]) -> None:
        found_there = self._peek(directory)
        self._peeked.pop(directory, None)
        start, home = directory.rstrip("/") + "/", package + "." if package else ""
        for stem, is_dir, suffixes in found_there:
            path, module = start + stem, home + stem
            if not is_name(stem) or is_special(stem):
                continue
            candidates = []
            if is_dir and self._is_entered(path, stem):
                if path in self.rules.collapsed:
                    folded.append((path, module))
                elif self.holds(path):
                    candidates.append(_Candidate(PACKAGE, module, self._find_init(path), path))
            candidates += [_Candidate(MODULE, module, path + suffix, None) for suffix in suffixes if path + suffix not in self.rules.ignored]
            candidates.sort(key=lambda candidate: candidate.file is None)  # a directory without __init__ comes last
            if candidates:
                found.setdefault(stem, []).extend(candidates)

    def _look_into(self, node: Node) -> None:
        found: dict[str, list[_Candidate]] = {}
        hidden, todo = [], list(node.dirs)
        while todo:  # what the directories hold themselves comes before what collapsed ones hold
            folded: list[tuple[str, str]] = []
            for directory, package in todo:
                self._collect(directory, package, found, folded)
            hidden += [Node(HIDDEN, "", module, None, file=self._find_init(directory), dirs=[(directory, module)]) for directory, module in folded]
            todo = folded
        children: dict[str, Node] = {}
        losers: dict[str, str] = {}
        for stem, candidates in found.items():
            self._choose(node, stem, candidates, children, losers)
        with ImportLock():
            if node.children is not None:
                return  # another thread was faster
            for child in (*children.values(), *hidden):
                self.canon.setdefault(child.module, child)
                if child.kind != HIDDEN:
                    self.spoken.setdefault(child.spoken, child)
            for child in hidden:
                child.children = {}
            self.losers.update(losers)
            node.children = children

    def _choose(self, node: Node, stem: str, candidates: list[_Candidate], children: dict[str, Node], losers: dict[str, str]) -> None:
        winner = next((candidate for candidate in candidates if candidate.file), candidates[0])
        attr, dirs = stem, []
        if winner.kind == MODULE and self.rules.inflect:
            attr = self.rules.inflect(stem, winner.path)
            if not isinstance(attr, str) or not is_name(attr):
                raise ExpectedNameError(f"{winner.file}: the inflector gives it the name {attr!r}, which is none", name=winner.module, path=winner.file)
        if winner.kind == PACKAGE:
            packages = [winner, *(other for other in candidates if other.folder and other is not winner)]
            dirs = [(other.folder or "", other.module) for other in packages]
        child = Node(winner.kind, attr, winner.module, node, stem, winner.file, dirs)
        for other in candidates:
            if other is not winner and (other.file or winner.kind == MODULE):
                losers[other.path] = winner.path
        if attr in children:
            losers[child.path] = children[attr].path
        else:
            children[attr] = child


# Those in use ("tables"), replaced as a whole. A dictionary, so that a reload's step can do that.
in_use: dict[str, tuple[Table, ...]] = {"tables": ()}
# Those that one thread sees instead, while it reloads: its identity, and they.
_aside: tuple[int, tuple[Table, ...]] | None = None


def tables() -> tuple[Table, ...]:
    aside = _aside
    return in_use["tables"] if aside is None or aside[0] != threading.get_ident() else aside[1]


def set_aside(those: tuple[Table, ...] | None) -> None:
    """From here on this thread sees THOSE; None: what all see. One thread at a time."""
    global _aside
    _aside = None if those is None else (threading.get_ident(), those)


def is_aside() -> bool:
    """Whether this thread reloads."""
    aside = _aside
    return aside is not None and aside[0] == threading.get_ident()


def replaced(old: Table | None, new: Table | None, those: tuple[Table, ...]) -> tuple[Table, ...]:
    """THOSE with NEW in the place of OLD."""
    kept = [table for table in those if table is not old]
    at = those.index(old) if old in those and old else len(kept)
    return (*kept[:at], *([new] if new else []), *kept[at:])


def replace(old: Table | None, new: Table | None) -> None:
    """Under the import lock."""
    in_use["tables"] = replaced(old, new, in_use["tables"])
