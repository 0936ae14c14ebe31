# SPDX-License-Identifier: MIT
"""The modules that a reload looks after, what of their sources was executed, and which of them have changed since.

A source is known by its stamp (mtime, ctime, size, inode, device) and, once it was executed by us, by its content. A stamp taken within a tick of the last change
proves nothing (the file may change again without showing it): then contents are compared.
"""
from __future__ import annotations

import os
import stat
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from hashlib import blake2b
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from ladewerk import _live
from ladewerk._imports import NOTHING, Imports, imports_of
from ladewerk._outside import engine_of
from ._share import Share

RACY_NS = 30_000_000  # two of the slowest ticks, and some
SAVING = 0.1  # seconds that an empty source is not believed
Stamp = tuple[int, int, int, int, int]
_NAMESPACE_LOADERS = ("NamespaceLoader", "_NamespaceLoader")


class Record:
    """A module that is looked after."""

    __slots__ = ("name", "path", "stamp", "digest", "racy", "order", "code", "imports", "executed", "doubtful", "directory", "package", "why")

    def __init__(self, name: str, path: str, order: int) -> None:
        self.name, self.path, self.order = name, path, order
        self.stamp: Stamp | None = None
        self.digest: bytes | None = None  # of what was executed; None: not by us
        self.racy = False
        self.doubtful = False  # it may have changed between its import and our first look
        self.code: CodeType | None = None
        self.imports: Imports | None = None  # of the source that was read last
        self.executed: Imports | None = None  # of the one that was executed; None: not by us
        self.directory = os.path.dirname(path)
        self.package = ""
        self.why = ""  # it is never executed again; "": it is


def stamp_of(status: os.stat_result) -> Stamp:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def _racy(stamp: Stamp, now: int) -> bool:
    return max(stamp[0], stamp[1]) > now - RACY_NS and stamp[1] > now - RACY_NS


class Source(NamedTuple):
    data: bytes
    stamp: Stamp
    digest: bytes
    racy: bool


def read(path: str) -> Source:
    """Content and stamp that belong together, or a stamp that is not believed."""
    now = time.time_ns()
    with open(path, "rb", buffering=0) as file:
        before = stamp_of(os.fstat(file.fileno()))
        data = file.readall()
        after = stamp_of(os.fstat(file.fileno()))
    return Source(data, after, blake2b(data, digest_size=16).digest(), before != after or _racy(after, now))


def read_saved(path: str, size: int) -> Source:
    """The same, of a source that had SIZE bytes: it is empty while it is being saved, so wait a little for what comes."""
    source, end = read(path), time.monotonic() + SAVING
    while size and not source.data and time.monotonic() < end:
        time.sleep(0.001)
        source = read(path)
    return source


def _layout(pid: int | str) -> tuple[list[bytes], int]:
    """Where the address space of PID begins (shared by a parent and the child it forked, until exec), and its parent; ([], 0) if it may not be asked."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return [fields[23], fields[24], fields[25], fields[44], fields[47], fields[19]], int(fields[1])
    except (OSError, IndexError, ValueError):
        return [], 0


def _started_ns() -> int:
    """No module of this process was executed before. A child that was forked has modules of its parent, so its parent's start counts."""
    template = sys.modules.get("ladewerk._rerun_child")
    if template is not None and template.begun:
        return int(template.begun) - RACY_NS  # what it was forked from has nothing of what a reload looks after
    own, parent = _layout("self")
    if not own:
        return 0
    started = int(own[5])
    while parent > 1:
        above, next_parent = _layout(parent)
        if not above or above[:5] != own[:5]:
            break
        started, parent = int(above[5]), next_parent
    boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boot + started * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _foreign_directories() -> tuple[str, ...]:
    import sysconfig
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(os.path.join(path, "") for path in paths if path)


def _kind(spec: Any) -> str:
    """"source", "namespace", or what it is that is never executed again."""
    loader = getattr(spec, "loader", None)
    if type(loader) is SourceFileLoader:
        return "source"
    if getattr(spec, "submodule_search_locations", None) is not None and spec.origin is None and (loader is None or type(loader).__name__ in _NAMESPACE_LOADERS):
        return "namespace"
    if type(loader).__name__ == "ExtensionFileLoader":
        return "a C extension is never reloaded"
    return f"its loader is a {type(loader).__name__}"


def own(module: Any, name: str, default: Any = None) -> Any:
    """What MODULE itself has by this name: its __getattr__ is not asked, and a module that is lazy stays so."""
    names = object.__getattribute__(module, "__dict__") if isinstance(module, ModuleType) else {}
    return names.get(name, default)


def is_lazy(module: Any) -> bool:
    """By importlib.util.LazyLoader, and not loaded yet."""
    return type(module).__name__ == "_LazyModule" and type(module).__module__ == "importlib.util"


def usable(path: Any) -> Any:
    """PATH, the __path__ of a package. That of a namespace package asks the package above, which somebody may have removed: then what it had last."""
    try:
        iter(path)
    except Exception:
        return list(getattr(path, "_path", ()))
    return path


def entries(path: Any) -> list[str]:
    return [each for each in usable(path) if isinstance(each, str)]


class Sources:
    """What is looked after. One thread at a time (the reloader's lock)."""

    def __init__(self, roots: Iterable[str | os.PathLike[str]] | None) -> None:
        self.roots = None if roots is None else tuple(os.path.join(os.path.abspath(root), "") for root in roots)
        self._foreign = _foreign_directories()
        self.share = Share()  # of the transaction under way
        self.records: dict[str, Record] = {}
        self._seen: dict[str, Any] = {}  # all of sys.modules: weak references where they can be had
        self._by_path: dict[str, set[str]] = {}
        self._by_directory: dict[str, dict[str, set[str]]] = {}  # modules that are found in it, by the last part of their names: their own, and other entries of their parent's path
        self.importers: dict[str, set[str]] = {}  # of a module's name or all of its names
        self.takers: dict[str, dict[str, set[str]]] = {}  # m -> importer -> the n in its `from m import n`
        self._without_imports: set[str] = set()
        self.aliases: dict[str, set[str]] = {}  # names under which sys.modules has had a module beside its own
        self.odd: set[str] = set()  # never executed again
        self.new_files = False  # of late, where sources may be found, that no module is known to have
        self.unsure: set[str] = set()  # their stamps prove nothing (yet)
        self._order = 0
        self._modules: dict[str, Any] = {}  # sys.modules as we saw it last, and its version then; None: to be looked at again
        self._version: bytes | None = None
        self._looked_ns = _started_ns()
        self._listings: dict[str, tuple[Stamp, bool]] = {}
        self._linked: set[str] = set()  # their sources have other names, too: what is written by those is told to nobody
        self.arm: Callable[[str], bool] = lambda directory: False
        self._armed: set[str] = set()

    # --- which ---

    def below_roots(self, path: str) -> bool:
        if self.roots is not None:
            return path.startswith(self.roots)
        if path.startswith(self.share.roots()):
            return True
        return not path.startswith(self._foreign) and "/site-packages/" not in path and "/dist-packages/" not in path and os.path.isabs(path)

    def meet(self) -> None:
        """Look at what sys.modules has that we have not seen."""
        now, modules = time.time_ns(), sys.modules
        version: bytes | None = _live.version(modules)
        if version != self._version or modules is not self._modules:
            for name in _live.strangers(modules, self._seen):
                module = modules.get(name)
                if is_lazy(module):
                    version = None  # it becomes another without being replaced
                else:
                    self._meet_one(name, module, now)
            self._modules, self._version = modules, version
        self._looked_ns = now - RACY_NS

    def has_strangers(self) -> bool:
        """Whether meet() would find something."""
        return self.seen_all() is None and bool(_live.strangers(sys.modules, self._seen))

    def seen_all(self) -> bytes | None:
        """The version of sys.modules if it has nothing that we have not seen."""
        return self._version if sys.modules is self._modules and _live.version(self._modules) == self._version else None

    def swapped(self, before: bytes, after: bytes) -> None:
        """A swap, and nothing else, has brought sys.modules from one version to the other; what it did is in executed() and removed()."""
        if self._version == before:
            self._version = after

    def _meet_one(self, name: str, module: Any, now: int) -> None:
        self._see(name, module)
        record = self._record(name, module)
        if record is None:
            self._forget(name)
            return
        self._keep(record)
        self._look(record, now)

    def _see(self, name: str, module: Any) -> None:
        try:
            self._seen[name] = weakref.ref(module)
        except TypeError:
            self._seen[name] = module

    def _record(self, name: str, module: Any) -> Record | None:
        if name.partition(".")[0] == "ladewerk" or not isinstance(module, ModuleType):
            return None
        spec = own(module, "__spec__")
        if name == "__main__":
            path = own(module, "__file__")
            if not isinstance(path, str):
                return self._odd(name, "", "__main__ is never executed again")
            return self._odd(name, os.path.abspath(path), "__main__ is never executed again") if self.below_roots(os.path.abspath(path)) else None
        if spec is None and own(module, "__name__") == name and self.share.source(name):
            return self._in_its_place(name, self.share.source(name))
        if spec is None or getattr(spec, "name", None) != name:
            self.aliases.setdefault(str(getattr(spec, "name", "")), set()).add(name)
            return None
        kind = _kind(spec)
        if kind == "namespace":
            portions = [path for path in entries(spec.submodule_search_locations) if self.below_roots(os.path.join(path, ""))]
            if not portions:
                return None
            record = self._new(name, "")
            record.directory = os.path.dirname(portions[0])
            record.package = name
            return record
        path = getattr(spec, "origin", None)
        if not isinstance(path, str) or not self.below_roots(path):
            return None
        if kind != "source":
            return self._odd(name, path, kind)
        record = self._new(name, path)
        record.package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        return record

    def _in_its_place(self, name: str, path: str) -> Record:
        """A module that its body has put in the place of the one that an import has made: who manages it knows its source."""
        record = self._new(name, path)
        record.package = name if os.path.basename(path).startswith("__init__.") else name.rpartition(".")[0]
        return record

    def _new(self, name: str, path: str) -> Record:
        self._order += 1
        return Record(name, path, self._order)

    def _odd(self, name: str, path: str, why: str) -> Record:
        record = self._new(name, path)
        record.why = why
        record.package = str(own(sys.modules.get(name), "__package__") or "")
        return record

    def _look(self, record: Record, now: int) -> None:
        """The first look at a module that others executed, some time since our last one."""
        self._find_in(record)
        if not record.path:
            return
        self._note_links(record)
        try:
            record.stamp = stamp_of(os.stat(record.path))
        except OSError:
            record.doubtful = True
            self.unsure.add(record.name)
            return
        record.doubtful = record.stamp[1] > self._looked_ns and not record.why and self.share.stamp(record.name) != record.stamp
        record.racy = _racy(record.stamp, now)
        if record.doubtful or record.racy:
            self.unsure.add(record.name)

    def _find_in(self, record: Record) -> None:
        """Its directories, from here on."""
        for directory in self._directories(record):
            self._by_directory.setdefault(directory, {}).setdefault(record.name.rpartition(".")[2], set()).add(record.name)
            self._arm(directory)

    def _in(self, directory: str) -> set[str]:
        """All that are found in DIRECTORY, and are still looked after."""
        return self.records.keys() & set().union(*self._by_directory.get(directory, {}).values())

    def _directories(self, record: Record) -> list[str]:
        """Where another module of this name may appear."""
        above = sys.modules.get(record.name.rpartition(".")[0]) if "." in record.name else None
        path = own(above, "__path__") if isinstance(above, ModuleType) else getattr(above, "__path__", None) if above is not None else sys.path if "." not in record.name else None
        found = [record.directory] if record.directory else []
        if path is not None:
            found += [entry for entry in (os.path.abspath(each) for each in entries(path)) if self.below_roots(os.path.join(entry, "")) and entry not in found]
        if os.path.basename(record.path).startswith("__init__."):
            found += [os.path.dirname(record.directory)]
        if not record.path:  # a namespace package, which may get an __init__.py
            found += [entry for entry in map(os.path.abspath, entries(own(sys.modules.get(record.name), "__path__", []))) if self.below_roots(os.path.join(entry, "")) and entry not in found]
        return found

    def _arm(self, directory: str) -> None:
        if directory not in self._armed and self.arm(directory):
            self._armed.add(directory)

    def _note_links(self, record: Record) -> None:
        try:
            status = os.lstat(record.path)
            linked = stat.S_ISLNK(status.st_mode) or status.st_nlink > 1
        except OSError:
            linked = False
        (self._linked.add if linked else self._linked.discard)(record.name)

    def has_links(self) -> bool:
        return bool(self._linked)

    def linked(self) -> set[str]:
        """Suspects among those."""
        return {name for name in self._linked if self._suspicious(self.records[name])}

    def rearm(self) -> None:
        self._armed.clear()
        self._listings.clear()
        for directory in self._by_directory:
            self._arm(directory)

    def _keep(self, record: Record) -> None:
        self._forget(record.name)
        self.records[record.name] = record
        if record.why:
            self.odd.add(record.name)
        if record.path:
            self._by_path.setdefault(record.path, set()).add(record.name)
            self._without_imports.add(record.name)

    def _forget(self, name: str) -> None:
        old = self.records.pop(name, None)
        if old is None:
            return
        self._unlink(old)
        self._without_imports.discard(name)
        self.unsure.discard(name)
        self._linked.discard(name)
        self.odd.discard(name)
        self._by_path.get(old.path, set()).discard(name)

    # --- the graph ---

    def _unlink(self, record: Record) -> None:
        if record.imports is None:
            return
        for module in record.imports.modules:
            self.importers.get(module, set()).discard(record.name)
        for module, _ in record.imports.names:
            self.takers.get(module, {}).pop(record.name, None)
        for module, name in record.imports.names:
            self.importers.get(f"{module}.{name}", set()).discard(record.name)
        for reached in record.imports.chains:
            self.importers.get(reached, set()).discard(record.name)

    def set_imports(self, record: Record, imports: Imports) -> None:
        self._unlink(record)
        record.imports = imports
        self._without_imports.discard(record.name)
        for module in imports.modules:
            self.importers.setdefault(module, set()).add(record.name)
        for module, name in imports.names:
            self.takers.setdefault(module, {}).setdefault(record.name, set()).add(name)
            self.importers.setdefault(f"{module}.{name}", set()).add(record.name)
        for reached in imports.chains:
            self.importers.setdefault(reached, set()).add(record.name)

    def complete_graph(self) -> None:
        """Read the imports of all that have none yet."""
        for name in list(self._without_imports):
            record = self.records.get(name)
            if record is None:
                self._without_imports.discard(name)
                continue
            self.set_imports(record, self._imports(record))
        self._without_imports.clear()  # going through a set takes as long as when it was largest

    def _imports(self, record: Record) -> Imports:
        try:
            if record.why:
                if not record.path.endswith(".py"):
                    return NOTHING
                return imports_of(compile(read(record.path).data, record.path, "exec", dont_inherit=True), record.package)
            code = SourceFileLoader(record.name, record.path).get_code(record.name)
        except (OSError, SyntaxError, ValueError, ImportError):
            return NOTHING
        return imports_of(code, record.package) if code is not None else NOTHING

    def dependants(self, changed: Iterable[str]) -> set[str]:
        """Who must be executed again because of CHANGED: all that import them, and so on."""
        todo, found = list(changed), set(changed)
        direct = set(found)
        while todo:
            name = todo.pop()
            more: set[str] = set()
            for said in (name, *self.share.others(name), *self.aliases.get(name, ())):
                more |= self.importers.get(said, set())
                for importer, names in self.takers.get(said, {}).items():
                    if name in direct or any(self.share.canonical(f"{said}.{each}") not in sys.modules for each in names):
                        more.add(importer)
            for importer in more - found:
                found.add(importer)
                todo.append(importer)
        return found - direct

    def imported_meanwhile(self, executed: Iterable[str]) -> set[str]:
        """Modules that other threads began to import while EXECUTED were made, and that depend on them: theirs may be the old ones."""
        last = self._order
        self.meet()
        if self._order == last:
            return set()
        self.complete_graph()
        late = {name for name in self.dependants(executed) if name in self.records and self.records[name].order > last and not self.records[name].why}
        for name in late:
            self.records[name].digest = b""  # what was executed is not what it should have been
            self.unsure.add(name)
        return late

    # --- what has changed ---

    def suspects(self) -> set[str]:
        """By stamps: every source, every directory."""
        found = {name for name, record in self.records.items() if self._suspicious(record)}
        for directory in self._by_directory:
            found |= self._listed(directory)
        return found

    def _suspicious(self, record: Record) -> bool:
        if not record.path:
            return True
        try:
            stamp = stamp_of(os.stat(record.path))
        except OSError:
            return True
        return stamp != record.stamp or record.racy or record.doubtful

    def _listed(self, directory: str) -> set[str]:
        """Whom a change of the names in DIRECTORY may concern."""
        now = time.time_ns()
        try:
            stamp = stamp_of(os.stat(directory))
        except OSError:
            self._listings.pop(directory, None)
            return self._in(directory)
        known = self._listings.get(directory)
        self._listings[directory] = (stamp, _racy(stamp, now))
        if known is not None and known[0] == stamp and not known[1]:
            return set()
        return self._in(directory)

    def told(self, events: list[tuple[int, str, str]]) -> set[str] | None:
        """Whom EVENTS may concern; None: anybody."""
        found: set[str] = set()
        self.new_files = False
        for kind, directory, name in events:
            if kind == _live.Events.ALL:
                return None
            if kind == _live.Events.SUBTREE:
                below = os.path.join(directory, "")
                self._armed = {each for each in self._armed if each != directory and not each.startswith(below)}
                for each in self._by_directory:
                    if each == directory or each.startswith(below):
                        found |= self._in(each)
                        self._arm(each)
                continue
            if not name:
                found |= self._in(directory)
                continue
            if name.startswith("__pycache__"):
                continue
            path = os.path.join(directory, name)
            found |= self._by_path.get(path, set())
            self.new_files |= kind == _live.Events.NAMES and path not in self._by_path and (name.endswith(".py") or "." not in name)
            if kind == _live.Events.NAMES:
                concerned = self._by_directory.get(directory, {})
                found |= concerned.get(name.partition(".")[0], set()) | concerned.get(os.path.basename(directory), set())
        return self.records.keys() & found

    def named(self, changed: Iterable[Any]) -> set[str]:
        """What the user means by names, modules and paths."""
        found: set[str] = set()
        for each in changed:
            if isinstance(each, ModuleType):
                if engine_of(each) is not None:
                    raise ValueError(f"module {each.__name__} is {engine_of(each)!r}'s; engine.reload() executes it again")
                each = each.__name__
            text = os.fspath(each)
            if not isinstance(each, str) or os.sep in text or text.endswith(".py"):
                path = os.path.abspath(text)
                names = {name for name in self._by_path.get(path, set())}
                if not names:
                    raise ValueError(f"no module that is loaded and looked after comes from {path}")
                found |= names
            elif text not in sys.modules:
                raise ValueError(f"module {text} is not loaded")
            else:
                found.add(text)
        return found

    # --- after a swap ---

    def executed(self, name: str, module: Any, path: str, source: Source | None, code: CodeType | None, imports: Imports, package: str) -> None:
        old = self.records.get(name)
        same_place = old is not None and bool(path) and old.path == path and not old.why
        record = old if old is not None and same_place else self._new(name, path)
        if old is not None:
            record.order = old.order
        record.package, record.doubtful = package, False
        known = source is not None and same_place and record.stamp == source.stamp  # so it is the same file, with the same links
        if source is not None:
            record.stamp, record.digest, record.racy = source.stamp, source.digest, source.racy
            record.code = code
        elif not path:
            portions = entries(getattr(module, "__path__", []))
            record.directory = os.path.dirname(portions[0]) if portions else ""
        self._see(name, module)
        if record is not old:
            self._keep(record)
        if record.imports is not imports:
            self.set_imports(record, imports)
        record.executed = imports
        if path and not known:
            self._note_links(record)
        if record.racy:
            self.unsure.add(name)
        else:
            self.unsure.discard(name)
        if same_place and record.directory in self._armed:
            return
        self._find_in(record)

    def removed(self, name: str) -> None:
        self._forget(name)
        self._seen.pop(name, None)

    def shrink(self) -> None:
        """To go through a set takes as long as when it was largest, and all modules that were written just before are in this one."""
        self.unsure = set(self.unsure)

    # --- looking again ---

    def differs(self, record: Record) -> bool:
        """By its stamp, or because nothing is known of it."""
        if record.doubtful or record.racy or record.stamp is None:
            return True
        try:
            return stamp_of(os.stat(record.path)) != record.stamp
        except OSError:
            return True

    def unchanged(self, record: Record, source: Source) -> None:
        """Its content is what was executed."""
        record.stamp, record.racy, record.doubtful = source.stamp, source.racy, False
        if record.executed is not None and record.imports is not record.executed:
            self.set_imports(record, record.executed)  # another content was read meanwhile, and not executed
        self._note_links(record)
        if not source.racy:
            self.unsure.discard(record.name)

    def looked_again(self, record: Record) -> bool:
        """For what is never executed again: its change is told once. True: it is one."""
        try:
            status = os.stat(record.path)
        except OSError:
            return False
        stamp = stamp_of(status)
        changed = record.stamp is not None and stamp != record.stamp
        record.stamp, record.racy, record.doubtful = stamp, False, False
        self.unsure.discard(record.name)
        return changed

    def being_written(self, name: str) -> bool:
        """Its source is empty, and was not."""
        record = self.records.get(name)
        if record is None or not record.path or record.stamp is None or record.stamp[2] == 0:
            return False
        try:
            return os.stat(record.path).st_size == 0
        except OSError:
            return True  # removed, perhaps to be written anew
