# SPDX-License-Identifier: MIT
"""Taking modules out of a running program, while other threads import.

An import looks for its package in sys.modules before its body runs and again afterwards, and for the module itself too: whatever goes meanwhile
is a KeyError for it. It holds the module's lock from before the first look until after the last. So nothing is removed while somebody owns the lock
of a module that would go, or of one below (_quiet.py). Then all is removed in one step, children first.
"""
import importlib
import sys
from typing import TYPE_CHECKING, Any

from ladewerk._autoload import _hooks, _tree
from ladewerk._autoload._errors import ImportUnderWay
from ladewerk._autoload._tree import HIDDEN, MODULE, ROOT, Node, Table
from ladewerk._quiet import Quiet

if TYPE_CHECKING:
    from ladewerk._autoload._loader import Autoloader


def _invalidate_caches() -> None:
    """importlib.invalidate_caches(). It is a KeyError of CPython's where two threads forget the same path entry at once: what is left is forgotten the next time."""
    for _ in range(20):
        try:
            return importlib.invalidate_caches()
        except KeyError:
            pass
    return importlib.invalidate_caches()


def plain_reload(loader: "Autoloader") -> tuple[str, ...]:
    """Unload everything, and begin anew with what the directories hold now: Zeitwerk's way. -> the names of what was unloaded."""
    _invalidate_caches()
    new = Table(loader._rules())
    loader._extend_sys_path()
    return _withdraw(loader, new)


def unload(loader: "Autoloader") -> None:
    _withdraw(loader, None)


def _quiet_of(table: Table) -> Quiet:
    def is_managed(name: str) -> bool:
        node = table.canon.get(name) or table.spoken.get(name)
        return bool(node and node.kind != ROOT)
    return Quiet(is_managed, ImportUnderWay)


def is_shared(table: Table, node: Node) -> bool:
    """Whether another autoloader has loaded something in this package."""
    prefix = node.module + "."
    others = [other for other in _tree.tables() if other is not table and node.kind != MODULE and node.module in other.canon]
    return any(name.startswith(prefix) and name in sys.modules for other in others for name in list(other.canon))


def loaded_nodes(table: Table) -> list[tuple[Node, Any]]:
    """What is loaded, with its module (None: it has gone from sys.modules, and nobody knows it); children first."""
    # After a reload of what has changed the table has not been asked for all that is loaded.
    known = {name: node for name in list(sys.modules) for node in [table.find(name)] if node}
    found = []
    for name, node in (table.canon | known).items():
        module = sys.modules.get(name, table.loaded.get(name))
        if node.kind != ROOT and (module is not None or name in table.loaded) and _hooks.is_from(table, node, module) and not is_shared(table, node):
            found.append((node, module))
    return sorted(found, key=lambda pair: pair[0].module.count("."), reverse=True)


def value_of(table: Table, node: Node, module: object) -> object:
    return _hooks.names_of(module).get(node.attr) if node.kind == MODULE and table.rules.inflect else module


def _unbind(name: str, attr: str, values: tuple[object, ...], graves: list[object]) -> None:
    names = _hooks.names_of(sys.modules.get(name))
    if any(names.get(attr) is value for value in values if value is not None):
        graves.append(names.pop(attr))


def _remove(table: Table, pairs: list[tuple[Node, Any]], graves: list[object]) -> None:
    """Out of the packages first, so that whoever has hold of one is led to us; then out of sys.modules."""
    for node, module in pairs:
        values = (module, value_of(table, node, module))
        home, _, tail = node.module.rpartition(".")
        _unbind(home, tail, values, graves)
        if node.parent:
            _unbind(node.parent.module, node.attr, values, graves)
    for node, module in pairs:
        for name in (node.spoken, node.module) if node.kind != HIDDEN else (node.module,):
            if sys.modules.get(name) is module and module is not None:
                graves.append(sys.modules.pop(name))


def is_current(loader: "Autoloader", table: Table) -> bool:
    """Whether no other thread has replaced it. Under the import lock."""
    return loader._table is table


def _withdraw(loader: "Autoloader", new: Table | None) -> tuple[str, ...]:
    if _tree.is_aside():
        raise ImportUnderWay(f"{loader!r} cannot unload: this thread reloads")
    told: set[str] = set()
    graves: list[object] = []  # what is dropped may run code of its own: not before the lock is released
    while True:
        old = loader._table
        if old is None:
            return ()
        for node, module in loaded_nodes(old):
            if node.kind != HIDDEN and node.module not in told:
                told.add(node.module)
                loader._call("unload", node.name, value_of(old, node, module), node.path)
        quiet = _quiet_of(old)
        try:
            quiet.wait()
            pairs = loaded_nodes(old)
            if not is_current(loader, old):
                told.clear()  # somebody else has unloaded them
                continue
            if any(node.kind != HIDDEN and node.module not in told for node, _ in pairs):
                continue
            _remove(old, pairs, graves)
            _hooks.replace(loader, old, new)
            loader._table = new
            _hooks.retire(old, new)
            break
        finally:
            try:
                quiet.release()
            except BaseException:  # an interrupt
                quiet.release()
                raise
    for node, _ in pairs:
        if node.kind != HIDDEN:
            loader._tell(f"{node.name} unloaded")
    graves.clear()
    return tuple(node.name for node, _ in pairs if node.kind != HIDDEN)
