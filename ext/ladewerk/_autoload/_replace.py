# SPDX-License-Identifier: MIT
"""What autoloaders have to say in a reload of what has changed (ladewerk._reload): the tables of what directories hold now, other names of modules, callbacks.

The reloading thread sees the new tables from the beginning, so that a body that is executed aside is led to new files; all others see them with the step.
"""
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable

from ladewerk._autoload import _hooks, _tree, _unload
from ladewerk._autoload._errors import AutoloadError, ImportUnderWay
from ladewerk._autoload._tree import HIDDEN, MODULE, PACKAGE, ROOT, Node, Table
from ladewerk._reload._errors import Reloaded, ReloadError, failure
from ladewerk._reload._plan import Plan
from ladewerk._reload._share import Overtaken, Share

if TYPE_CHECKING:
    from ladewerk._autoload._loader import Autoloader


def reload(loader: "Autoloader") -> Reloaded:
    """Of what LOADER manages, and of what depends on it."""
    from ladewerk._reload import _of_process
    _tell_of_gone(loader)
    return _of_process().reload_for(loader)


def reload_everything(loader: "Autoloader") -> Reloaded:
    """Unload what LOADER manages."""
    return Reloaded(removed=_unload.plain_reload(loader))


def _tell_of_gone(loader: "Autoloader") -> None:
    """Modules that somebody has taken out of sys.modules."""
    table = loader._table
    for name, module in sorted(table.loaded.items(), reverse=True) if table else ():
        node = table.find(name) if table and name not in sys.modules else None
        if table and node and node.kind in (PACKAGE, MODULE) and table.loaded.pop(name, None) is not None:
            loader._call("unload", node.name, _unload.value_of(table, node, module), node.path)


def _set_up() -> "list[tuple[Autoloader, Table]]":
    from ladewerk._autoload._loader import Autoloader
    return [(loader, loader._table) for loader in Autoloader._registered if loader._table]


def _after_fork() -> None:
    """What another thread's reload was led to is nobody's in the child."""
    if not _tree.is_aside():
        _tree.set_aside(None)


os.register_at_fork(after_in_child=_after_fork)


class Autoloaded(Share):
    """OWNER: the autoloader that reloads, whose modules alone are looked at; None: all of them are, and what nobody manages, too."""

    def __init__(self, owner: "Autoloader | None") -> None:
        self._owner = owner
        self._pairs: list[tuple[Autoloader, Table, Table]] = []  # with the table in use and the one that comes
        self._all: list[tuple[Autoloader, Table, Table]] = []  # and those whose tables stay: their modules may depend on what is replaced
        self._loaders = [loader for loader, _ in _set_up() if loader._reloading]
        self._roots = tuple(os.path.join(root, "") for loader in self._loaders for root in loader._roots)
        self._managed = tuple(loader._table for loader in self._loaders if loader._table)
        self._told: list[tuple[Autoloader, Node, object]] = []  # of what goes
        self._made: list[tuple[Autoloader, Node, object]] = []  # and of what comes

    # --- tables ---

    def __enter__(self) -> "Autoloaded":
        if self._loaders:
            for finder in list(sys.meta_path):
                forget = getattr(finder, "invalidate_caches", None)
                if forget and finder is not PathFinder:  # whose directories are looked at one by one (_hooks._look_anew)
                    forget()
        try:
            self._look()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _look(self) -> None:
        those = _tree.in_use["tables"]
        for loader in self._loaders if self._owner is None else [self._owner]:
            old = loader._table
            if not old:
                continue
            loader._extend_sys_path()
            new = self._anew(loader, old)
            self._pairs.append((loader, old, new))
            those = _tree.replaced(old, new, those)
        mine = {loader for loader, _, _ in self._pairs}
        self._all = [*self._pairs, *((loader, table, table) for loader, table in _set_up() if loader not in mine)]
        if self._pairs:
            _tree.set_aside(those)

    def _anew(self, loader: "Autoloader", old: Table) -> Table:
        with self._as_it_asked():
            new = Table(loader._rules(), old)
        new.loaded, new.begun, new.stamps = dict(old.loaded), old.begun, old.stamps
        _hooks._loaders[new] = loader
        return new

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _tree.set_aside(None)
        for loader, old, new in self._pairs:
            _hooks._loaders.pop(old if loader._table is new else new, None)

    def _nodes(self, name: str) -> "list[tuple[Autoloader, Table, Node]]":
        """Of a module that is managed now."""
        found = ((loader, old, old.find(name)) for loader, old, _ in self._all)
        return [(loader, old, node) for loader, old, node in found if node and node.kind in (PACKAGE, MODULE)]

    # --- which modules ---

    def roots(self) -> tuple[str, ...]:
        return self._roots

    def has_autoloaders(self) -> bool:
        return bool(self._loaders)

    def source(self, name: str) -> str:
        nodes = (table.find(name) for table in self._managed)
        return next((node.file for node in nodes if node and node.file and node.file.endswith(".py")), "")

    def concerns(self, name: str) -> bool:
        return self._owner is None or any(node.kind != ROOT for _, old, new in self._pairs for table in (old, new) for node in [table.find(name)] if node)

    def keeps(self, name: str) -> bool:
        if self._owner is None:
            return False
        return not any(node.kind != ROOT for table in self._managed for node in [table.find(name)] if node)

    def restructured(self, name: str) -> bool:
        for _, old, new in self._pairs:
            was, now = old.find(name), new.find(name)
            if was and now and was.kind == now.kind == PACKAGE and was.dirs != now.dirs:
                return True
        return False

    def unfound(self, name: str) -> bool:
        nodes = self._nodes(name)
        if not nodes or any(node.file and os.path.isfile(node.file) for _, _, node in nodes) or any(table.find(name) for table in _tree.tables()):
            return False
        return not any(Table(table.rules).holds(directory) for _, table, node in nodes for directory, _ in node.dirs if os.path.isdir(directory))

    def canonical(self, name: str) -> str:
        for table in _tree.tables():
            node = table.find_spoken(name)
            if node and node.kind != ROOT:
                return node.module
        return name

    def others(self, name: str) -> Iterable[str]:
        found = set()
        for _, old, new in self._all:
            for node in (old.find(name), new.find(name)):
                if node and node.kind in (PACKAGE, MODULE):
                    found |= {node.spoken, node.name}
        return found - {name}

    def bindings(self, name: str) -> Iterable[tuple[str, str, str]]:
        found = []
        for _, table, node in self._nodes(name):
            package = node.parent.module if node.parent else ""
            if package and node.kind == MODULE and table.rules.inflect:
                found.append((package, node.attr, node.attr))
            elif package and node.spoken != node.module:
                found.append((package, node.attr, ""))
        return found

    def stamp(self, name: str) -> tuple[int, int, int, int, int] | None:
        return next((table.stamps[name] for table in self._managed if name in table.stamps), None)

    # --- the transaction ---

    @contextlib.contextmanager
    def _as_it_asked(self) -> Iterator[None]:
        """An autoloader's own error is its, and a ReloadError for who asked for a reload of all."""
        try:
            yield
        except AutoloadError as error:
            if self._owner is not None:
                raise
            raise ReloadError(f"{error}; nothing was changed") from error

    def _cannot_wait(self) -> Callable[[str], Exception]:
        return super()._cannot_wait() if self._owner is None else ImportUnderWay

    def changes(self) -> list[Any]:
        those = _tree.in_use["tables"]
        found: list[Any] = []
        for loader, old, new in self._pairs:
            if not _unload.is_current(loader, old):
                raise Overtaken(f"{loader!r} was set up or unloaded by another thread; nothing was changed")
            those = _tree.replaced(old, new, those)
            found.append((vars(loader), "_table", new))
        return [*found, (_tree.in_use, "tables", those)] if found else []

    def unloaded(self, plan: Plan) -> None:
        for name in sorted({*plan.steps, *plan.removed}, key=lambda each: each.count("."), reverse=True):
            for loader, table, node in self._nodes(name):
                module = sys.modules.get(name)
                if not _hooks.is_from(table, node, module):
                    continue
                value = _unload.value_of(table, node, module)
                heard: list[Any] = []
                try:
                    loader._call("unload", node.name, value, node.path, heard)
                except Exception as error:
                    if heard:
                        self._told.append((loader, node, value))
                    raise failure(name, node.file, error, (name,)) from error
                self._told.append((loader, node, value))

    def prepare(self, name: str, module: Any) -> None:
        if any(node.kind in (PACKAGE, ROOT) for _, node in _hooks.nodes_of(name)):
            _hooks.hook(module, name)

    def executed(self, name: str, module: Any, stays: bool) -> None:
        nodes = self._told_of(name)
        _hooks.check(nodes, name, module, module)
        for table, node in [] if stays else nodes:
            loader, heard = _hooks._loaders.get(table), list[Any]()
            made = [(loader, node, _unload.value_of(table, node, module))] if loader and node.kind in (PACKAGE, MODULE) else []
            try:
                _hooks.note(table, node, module, heard)
            except BaseException:
                self._made += made if heard else []
                raise
            self._made += made

    def took(self, name: str, module: Any) -> None:
        for table, node in self._told_of(name):
            _said(_hooks.note, table, node, module)

    @staticmethod
    def _told_of(name: str) -> list[tuple[Table, Node]]:
        """Who is told of module NAME."""
        return [(table, node) for table, node in _hooks.nodes_of(name) if node.kind != HIDDEN]

    def committed(self, plan: Plan) -> None:
        _tree.set_aside(None)
        for loader, old, new in self._pairs:
            _hooks.retire(old, new)
            for name, module in list(old.loaded.items()):
                new.loaded.setdefault(name, module)  # by other threads, meanwhile
        for _, _, table in self._all:
            for name in plan.removed:
                table.loaded.pop(name, None)
        for _, old, new in self._pairs:
            new.former = old.former | old.canon
        for loader, node, _ in self._told:
            _said(loader._tell, f"{node.name} unloaded")
        for loader in {id(loader): loader for loader, _, _ in (*self._told, *self._made)}.values() if self._owner is None else ():
            _said(loader._begun)

    def abandoned(self) -> None:
        _tree.set_aside(None)
        for loader, node, _ in self._made:
            loaded, module = loader._table.loaded if loader._table else {}, sys.modules.get(node.module)
            if module is None:
                loaded.pop(node.module, None)
            elif node.module in loaded:
                loaded[node.module] = module
        for kind, those in (("unload", self._made), ("load", self._told)):
            for loader, node, value in reversed(those):
                _said(loader._call, kind, node.name, value, node.path)


def _said(function: Callable[..., object], *words: object) -> None:
    """It cannot be undone by whoever fails now, and the others must hear of it."""
    try:
        function(*words)
    except Exception:
        sys.excepthook(*sys.exc_info())
