# SPDX-License-Identifier: MIT
"""How packages get the names that are loaded at their first use, and how imports of managed modules are noticed.

A package that is managed has a __getattr__ and a __dir__ (PEP 562) in its dictionary: they are asked for what is not there yet, and never for
what is. A finder ahead of all others puts them there before the package's body runs: it takes what the others find, with a loader around theirs
that steps out of the way before the body runs. Modules that nobody wants to hear of, and that have no children, it leaves alone.
"""
import os
import sys
import time
from importlib.machinery import ModuleSpec, NamespaceLoader, SourceFileLoader
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Callable, Sequence

from ladewerk import _native
from ladewerk._autoload import _tree
from ladewerk._autoload._errors import ExpectedNameError, NameClash, NamespaceConflict
from ladewerk._autoload._tree import HIDDEN, MODULE, PACKAGE, ROOT, ImportLock, Node, Table
from ladewerk._outside import outside

if TYPE_CHECKING:
    from ladewerk._autoload._loader import Autoloader

_MISSING = object()
_bootstrap: Any = sys.modules["_frozen_importlib"]  # importlib._bootstrap
_loaders: dict[Table, "Autoloader"] = {}


def _unseen(function: Callable[..., Any]) -> Callable[..., Any]:
    """As part of the import system: the import statement leaves its frames out of tracebacks."""
    assert isinstance(function, FunctionType)
    function.__code__ = function.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    return function


def nodes_of(module: str) -> list[tuple[Table, Node]]:
    """Who manages the module of that name."""
    found = ((table, table.find(module)) for table in _tree.tables())
    return [(table, node) for table, node in found if node]


def names_of(module: object) -> dict[str, Any]:
    """What is in a module; nothing is in what has no dictionary. Lazy modules (importlib.util.LazyLoader) are not loaded by it, as by any other look at them."""
    names: dict[str, Any] = object.__getattribute__(module, "__dict__") if isinstance(module, ModuleType) else getattr(module, "__dict__", {})
    return names


def initializing(module: object) -> bool:
    return bool(getattr(names_of(module).get("__spec__"), "_initializing", False))


def same_file(path: str | None, other: str | None) -> bool:
    if path == other or not path or not other:
        return path == other
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def is_from(table: Table, node: Node, module: object) -> bool:
    """Whether MODULE is what NODE stands for. (What a module has put in its own place is believed.)"""
    if node.kind == ROOT or not isinstance(module, ModuleType):
        return True
    if node.module in table.begun and getattr(names_of(module).get("__spec__"), "name", None) != node.module:
        return True  # no import of that name has made it: another module, or one made by hand
    return same_file(node.file, names_of(module).get("__file__"))


# --- packages ---

def _child(package: str, attr: str) -> tuple[Table, Node] | None:
    for table, node in nodes_of(package):
        child = table.children(node).get(attr) if node.kind != HIDDEN else None
        if child:
            return table, child
    return None


def _import(name: str) -> Any:
    """
    The module of that name. Where CPython does not wait for a package that another thread is loading (3.11, 3.12, early 3.13), the package is out of
    sys.modules for an instant at the end: a KeyError for whoever imports a module of it just then. What has been loaded by then is there when it is
    asked for again, and nothing else has begun.
    """
    packages = [name[:at] for at, letter in enumerate(name) if letter == "."]
    for _ in range(20):
        try:
            return __import__(name, None, None, ("__name__",))
        except KeyError as error:
            if list(error.args[:1]) not in [[package] for package in packages]:
                raise
    return __import__(name, None, None, ("__name__",))


def clash(node: Node, module: object) -> NameClash:
    there = getattr(module, "__file__", None) or "a namespace package"
    return NameClash(f"{node.module} is {there}, and not {node.path}", name=node.module, path=node.path)


def fetch(table: Table, node: Node) -> object:
    """The module or class NODE stands for, imported if need be."""
    try:
        with outside():
            module = _import(node.module)
            # An import that has waited for another thread's gives what was there before; the body may have put something else there.
            if not _tree.is_aside():  # (in a reload that would be the old one)
                module, was = sys.modules.get(node.module, module), module
                while module is not was and initializing(module):  # unloaded meanwhile, and another thread is loading it anew
                    was = _import(node.module)
                    module = sys.modules.get(node.module, was)
    except AttributeError as error:  # would mean that there is no such name
        raise ImportError(f"{node.module} cannot be loaded: {error}", name=node.module, path=node.file) from error
    if not any(is_from(home, other, module) for home, other in [(table, node), *nodes_of(node.module)]):
        raise clash(node, module)
    if node.kind != MODULE or not table.rules.inflect:
        return module
    value = getattr(module, node.attr, _MISSING)
    if value is not _MISSING:
        return value
    if initializing(module):
        raise ImportError(f"{node.name} is not there yet: {node.module} is being imported (most likely a circular use)", name=node.module,
                          path=node.file)
    raise _unexpected(node)


def bind(table: Table, node: Node, value: object, package: str | None = None, names: dict[str, Any] | None = None) -> None:
    """
    Let later uses find VALUE without us, unless the module has been unloaded meanwhile. NAMES is the dictionary of the package. (An alias is not put
    into sys.modules here: an import of it that is under way would take it for something that it has to load.)
    """
    if _tree.is_aside():
        return  # others are not to see it yet
    with ImportLock(), outside():
        module: Any = sys.modules.get(node.module)
        if table not in _tree.tables() or initializing(module) or not (value is module or names_of(module).get(node.attr) is value):
            return
        still_there = bool(package) and names_of(sys.modules.get(package or "")) is names
        if names is not None and still_there:
            names.setdefault(node.attr, value)


def hook(module: ModuleType, package: str) -> None:
    """Give a package its names. Again after its body has run, which may have defined the same functions."""
    names = vars(module)
    _extend_path(module, package)
    inner, inner_dir = names.get("__getattr__"), names.get("__dir__")
    if getattr(inner, "ladewerk_package", None) != package:  # another package's, where one takes over all that another has
        def __getattr__(attr: str) -> object:
            found = _child(package, attr)
            if found:
                value = fetch(*found)
                bind(*found, value, package, names)
                return value
            if inner:
                return inner(attr)
            raise AttributeError(f"module {package!r} has no attribute {attr!r}")
        __getattr__.__dict__.update(ladewerk_inner=inner, ladewerk_package=package)
        names["__getattr__"] = __getattr__
    if getattr(inner_dir, "ladewerk_package", None) != package:
        def __dir__() -> list[str]:
            known = set(inner_dir() if inner_dir else names)
            for table, node in nodes_of(package):
                known.update(table.children(node) if node.kind != HIDDEN else ())
            return sorted(known)
        __dir__.__dict__.update(ladewerk_inner=inner_dir, ladewerk_package=package)
        names["__dir__"] = __dir__


def unhook(module: ModuleType) -> None:
    names = vars(module)
    for name in ("__getattr__", "__dir__"):
        function = names.get(name)
        if not hasattr(function, "ladewerk_inner"):
            continue
        if getattr(function, "ladewerk_inner"):
            names[name] = getattr(function, "ladewerk_inner")
        else:
            del names[name]


def settle(table: Table) -> None:
    """Packages that have all their children need no function any more: without one the interpreter reads attributes of modules faster still."""
    with ImportLock():
        for package, node in list(table.canon.items()):
            module = sys.modules.get(package)
            names = names_of(module)
            wanted = {attr for other, there in nodes_of(package) for attr in (other.children(there) if there.kind != HIDDEN else ())}
            plain = getattr(names.get("__getattr__"), "ladewerk_inner", module) is None  # ours, and nobody's behind it
            if plain and node.kind in (ROOT, PACKAGE) and wanted <= names.keys():
                del names["__getattr__"]


def retire(old: Table, new: Table | None) -> None:
    """Packages that are not the autoloader's, but had modules of it, are left as they were; those that have some now get them."""
    for package, directory in old.added:
        path = getattr(sys.modules.get(package), "__path__", None)
        if new and directory in [there for root in new.roots if root.module == package for there, _ in root.dirs]:
            new.added.append((package, directory))
        elif isinstance(path, list) and directory in path:
            path.remove(directory)
    for root in old.roots:
        module = sys.modules.get(root.module)
        if isinstance(module, ModuleType) and root.module and not nodes_of(root.module):
            unhook(module)
    for root in new.roots if new else []:
        module = sys.modules.get(root.module)
        if isinstance(module, ModuleType) and root.module:
            hook(module, root.module)


def _extend_path(module: ModuleType, package: str) -> None:
    """Imports look in all directories in which the package's children are."""
    wanted = [(table, directory) for table, node in nodes_of(package) for directory, home in node.dirs if home == package]
    path = getattr(module, "__path__", None)
    missing = [(table, directory) for table, directory in wanted if path is None or directory not in path]
    if not missing:
        return
    if path is None:
        raise NamespaceConflict(f"{package!r} is no package, and {missing[0][1]} cannot be part of it")
    if not isinstance(path, list):
        path = list(path)
        setattr(module, "__path__", path)
    for table, directory in missing:
        path.append(directory)
        table.added.append((package, directory))


# --- imports ---

def _look_anew(table: Table, node: Node, path: Any) -> None:
    """Before an import looks for NODE: what finders know of its directory may be of before the last reload, and the stamp of its source says what will be executed."""
    place = node.file if node.kind == MODULE else node.dirs[0][0] if node.kind == PACKAGE else None
    if not place:
        return
    directory = os.path.dirname(place)
    if directory not in table.looked_at:
        table.looked_at.add(directory)
        forget = getattr(sys.path_importer_cache.get(directory), "invalidate_caches", None)
        if forget:
            forget()
    if hasattr(path, "append") and directory not in path and _belongs(node, directory):
        path.append(directory)  # it was no part of the package when that was loaded
    if node.file and node.module not in sys.modules:
        try:
            status, now = os.stat(node.file), time.time_ns()
        except OSError:
            return
        if status.st_ctime_ns < now - _tree.YOUNG_NS:
            table.stamps[node.module] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
        else:
            table.stamps.pop(node.module, None)


def _belongs(node: Node, directory: str) -> bool:
    """Whether modules of the package above are to be found in DIRECTORY."""
    return bool(node.parent and node.parent.module) and (directory, node.module.rpartition(".")[0]) in (node.parent.dirs if node.parent else ())


def _unexpected(node: Node) -> ExpectedNameError:
    return ExpectedNameError(f"{node.file} should define {node.attr}, and does not", name=node.module, path=node.file)


@_unseen
def _run(inner: Any, spec: ModuleSpec, module: ModuleType) -> None:
    """The module's body, from the code that Ladewerk would take."""
    code = None
    if type(inner) is SourceFileLoader and spec.origin:
        entry = os.path.dirname(spec.origin)
        if spec.submodule_search_locations is not None:
            entry = os.path.dirname(entry)
        code = _native.source_code(spec.name, entry, spec.origin, inner, spec.cached)
    if code is None:
        inner.exec_module(module)
    else:
        _bootstrap._call_with_frames_removed(exec, code, vars(module))


def take(nodes: list[tuple[Table, Node]], name: str, module: ModuleType, now: Any) -> None:
    """The body of MODULE has run, and it is NOW: whoever wants to know is told."""
    check(nodes, name, module, now)
    for table, node in nodes:
        note(table, node, now)


def check(nodes: list[tuple[Table, Node]], name: str, module: ModuleType, now: Any) -> None:
    """ExpectedNameError; and a package gets its names."""
    for table, node in nodes:
        if node.kind == MODULE and table.rules.inflect and not hasattr(now, node.attr):
            raise _unexpected(node)
    if hasattr(module, "__path__") and isinstance(now, ModuleType) and (now is module or hasattr(now, "__path__")):
        hook(now, name)


def note(table: Table, node: Node, module: object, heard: list[Any] | None = None) -> None:
    """A module has been loaded: whoever wants to know is told. With CPython's lock of that module, and none of ours. HEARD gets the callbacks that have been called."""
    loader = _loaders.get(table)
    value = getattr(module, node.attr) if node.kind == MODULE and table.rules.inflect else module
    table.loaded[node.module] = module
    if loader and node.kind in (PACKAGE, MODULE):
        loader._tell(f"{node.name} loaded from {node.path}")
        loader._call("load", node.name, value, node.path, heard)


class _Loader:
    """Around the loader of a managed module, until its body runs."""

    def __init__(self, inner: Any, nodes: list[tuple[Table, Node]]) -> None:
        self._inner = inner
        self._nodes = nodes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def ladewerk_inner(self) -> Any:
        """The loader behind it."""
        return self._inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._inner.create_module(spec)
        return module

    @_unseen
    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec
        spec.loader = module.__loader__ = self._inner
        package = spec.submodule_search_locations is not None
        if package or any(node.kind == ROOT for _, node in self._nodes):
            hook(module, spec.name)
        if package:
            if not spec.has_location and not hasattr(module, "__file__"):
                setattr(module, "__file__", None)  # as stock has it for namespace packages
        _run(self._inner, spec, module)
        take(self._nodes, spec.name, module, sys.modules.get(spec.name, module))


class _AliasSpec(ModuleSpec):
    """While an alias is imported its spec is the module's: relative imports go by the module's own package."""

    true_parent = ""

    @property
    def parent(self) -> str:
        return self.true_parent


class _Alias:
    """Imports a module under the name that it has without its collapsed directories: the module itself."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: _AliasSpec) -> ModuleType:
        module: ModuleType = _import(self._name)
        self._spec = module.__spec__
        spec.true_parent = self._spec.parent or "" if self._spec else ""
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class Finder:
    """Ahead of all others on sys.meta_path."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        nodes = nodes_of(fullname)
        if not nodes:
            return self._find_alias(fullname)
        for table, node in nodes:
            table.begun.add(node.module)
            _look_anew(table, node, path)
        if not any(node.kind in (PACKAGE, ROOT) or _is_wanted(table, node) for table, node in nodes):
            return None
        spec = self._ask_others(fullname, path, target)
        if not spec:
            return None
        if not any(_is_spec_of(node, spec) for _, node in nodes):
            return None
        nodes = [(table, node) for table, node in nodes if node.kind != HIDDEN]
        inner: Any = spec.loader
        if inner is None:  # a namespace package; stock would make the same
            inner = NamespaceLoader.__new__(NamespaceLoader)
            inner._path = spec.submodule_search_locations
        spec.loader = _Loader(inner, nodes)  # type: ignore[assignment]
        return spec

    def _find_alias(self, name: str) -> ModuleSpec | None:
        for table in _tree.tables():
            node = table.find_spoken(name)
            if node and node.kind != ROOT:
                return _AliasSpec(name, _Alias(node.module), origin=node.file)  # type: ignore[arg-type]
        return None

    def _ask_others(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        for finder in finders[finders.index(self) + 1:] if self in finders else finders:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find else None
            if spec:
                return spec
        return None


def _is_spec_of(node: Node, spec: ModuleSpec) -> bool:
    if node.kind in (ROOT, HIDDEN):
        return node.kind == ROOT
    return same_file(node.file, spec.origin) if node.file else not spec.has_location and spec.submodule_search_locations is not None


def _is_wanted(table: Table, node: Node) -> bool:
    loader = _loaders.get(table)
    return node.kind == MODULE and (table.rules.inflect is not None or (loader is not None and loader._listens()))


_finder = Finder()


def replace(loader: "Autoloader", old: Table | None, new: Table | None) -> None:
    """Under the import lock: from now on the names are those of NEW."""
    if new:
        _loaders[new] = loader
    _tree.replace(old, new)
    if old:
        _loaders.pop(old, None)
    if not _tree.tables():
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not _finder]
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
