# SPDX-License-Identifier: MIT
"""Autoloader: what a program says to it."""
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Iterator, NamedTuple, TypeAlias, TypeVar

from ladewerk import _native
from ladewerk._autoload import _errors, _hooks, _tree, _unload
from ladewerk._autoload._inflector import Inflector
from ladewerk._autoload._listing import listing
from ladewerk._autoload._tree import HIDDEN, MODULE, ROOT, ImportLock, Node, Rules, Table, is_below, is_within
from ladewerk._outside import outside

if TYPE_CHECKING:
    from ladewerk._reload import Reloaded

#: Called with the expected name, the module or class, and its path.
Callback: TypeAlias = Callable[[str, Any, str], object]
_Callback = TypeVar("_Callback", bound=Callback)
_Hook = TypeVar("_Hook", bound=Callable[[], object])


class Shadowed(NamedTuple):
    """A path that is not loaded, because its name is another's: a path, or what the import system says of where it comes from."""

    path: str
    by: str


class Autoloader:
    """Loads the modules below its root directories at their first use. ext/AUTOLOAD.md has the whole story."""

    ANY: ClassVar[str] = "*"
    #: For autoloaders without a logger of their own: a function of one string, or None.
    default_logger: ClassVar[Callable[[str], object] | None] = None

    Error = _errors.AutoloadError
    SetupRequired = _errors.SetupRequired
    ReloadingDisabled = _errors.ReloadingDisabled
    LoaderConflict = _errors.LoaderConflict
    NamespaceConflict = _errors.NamespaceConflict
    ExpectedNameError = _errors.ExpectedNameError
    NameClash = _errors.NameClash
    ImportUnderWay = _errors.ImportUnderWay
    Inflector = Inflector

    _registered: ClassVar[tuple["Autoloader", ...]] = ()
    _of_packages: ClassVar[dict[str, "Autoloader"]] = {}

    def __init__(self, tag: str | None = None, *, convention: str = "module") -> None:
        """CONVENTION: `module`: a file is a module of its name; `class`: it defines one class, which is what its package shows."""
        if convention not in ("module", "class"):
            raise ValueError(f"convention is {convention!r}, and neither 'module' nor 'class'")
        self.tag = tag or f"{id(self):x}"
        self.convention = convention
        self.inflector: Any = Inflector()  # or a function of the stem and the path
        self.logger: Callable[[str], object] | None = None
        self._roots: dict[str, str] = {}  # directory -> namespace
        self._ignored: list[str] = []
        self._collapsed: list[str] = []
        self._not_eager: list[str] = []
        self._callbacks: dict[tuple[str, str], tuple[Callback, ...]] = {}
        self._on_setup: tuple[Callable[[], object], ...] = ()
        self._reloading = False
        self._table: Table | None = None
        self._added: list[str] = []  # to sys.path

    def __repr__(self) -> str:
        return f"<Autoloader {self.tag}: {', '.join(self._roots)}>"

    @classmethod
    def for_package(cls, name: str, *, convention: str = "module") -> "Autoloader":
        """For the package NAME (its __name__) that calls, with the directories of its __path__ as roots. Always the same one."""
        known = cls._of_packages.get(name)
        if known:
            return known
        path = getattr(sys.modules.get(name), "__path__", None)
        if not path:
            raise _errors.NamespaceConflict(f"{name!r} is no package")
        loader = cls(name, convention=convention)
        for directory in list(path):
            loader.push_dir(directory, namespace=name)
        cls._of_packages[name] = loader
        return loader

    # --- what is told before setup() ---

    def push_dir(self, path: str | os.PathLike[str], namespace: str | ModuleType | None = None) -> None:
        """A root directory: what is in it is at the top level, or in NAMESPACE (a package or its name)."""
        directory = os.path.abspath(path)
        if not os.path.isdir(directory):
            raise NotADirectoryError(f"{directory} is no directory")
        if isinstance(namespace, ModuleType):
            if not hasattr(namespace, "__path__"):
                raise _errors.NamespaceConflict(f"{namespace.__name__!r} is no package")
            namespace = namespace.__name__
        if namespace is not None and not all(map(_tree.is_name, namespace.split("."))):
            raise ValueError(f"{namespace!r} is no name of a package")
        with ImportLock():
            for other in Autoloader._registered:
                clash = other._find_overlap(directory) if other is not self and not self._ignores(other) else None
                if clash:
                    raise _errors.LoaderConflict(f"{directory} overlaps {clash}, which the autoloader {other.tag} manages")
            self._roots[directory] = namespace or ""
            if self not in Autoloader._registered:
                Autoloader._registered += (self,)

    def _ignores(self, other: "Autoloader") -> bool:
        ignored = _tree.expand(self._ignored)
        return bool(other._roots) and all(is_within(root, ignored) for root in other._roots)

    def _find_overlap(self, directory: str) -> str | None:
        if is_within(directory, _tree.expand(self._ignored)):
            return None
        return next((root for root in self._roots if is_below(root, directory) or is_below(directory, root)), None)

    @property
    def dirs(self) -> dict[str, str]:
        """Root directories and their namespaces ("": the top level)."""
        return dict(self._roots)

    def ignore(self, *patterns: str | os.PathLike[str]) -> None:
        """Files and directories that are not managed; patterns are expanded at setup() and at each reload."""
        self._ignored += map(os.path.abspath, patterns)

    def collapse(self, *patterns: str | os.PathLike[str]) -> None:
        """Directories that are no namespaces: what is in them belongs to the one above. Patterns as for ignore()."""
        self._collapsed += map(os.path.abspath, patterns)

    def do_not_eager_load(self, *patterns: str | os.PathLike[str]) -> None:
        """Files and directories that eager_load() leaves out."""
        self._not_eager += map(os.path.abspath, patterns)

    def enable_reloading(self) -> None:
        """Allow reload(). Before setup()."""
        if self._table and not self._reloading:
            raise _errors.AutoloadError("enable_reloading() comes before setup()")
        self._reloading = True

    @property
    def reloading_enabled(self) -> bool:
        return self._reloading

    # --- callbacks ---

    def on_setup(self, callback: _Hook) -> _Hook:
        """Called after setup() (at once, if that has been) and after each reload."""
        if not callable(callback):
            raise TypeError(f"{callback!r} is no function")
        self._on_setup += (callback,)
        if self._table:
            callback()
        return callback

    def on_load(self, name: str = ANY, callback: Callback | None = None) -> Callable[[_Callback], _Callback]:
        """CALLBACK (or what is decorated) is called when NAME has been loaded: with the name, the module or class, and its path."""
        return self._register("load", name, callback)

    def on_unload(self, name: str = ANY, callback: Callback | None = None) -> Callable[[_Callback], _Callback]:
        """The same before it is unloaded."""
        return self._register("unload", name, callback)

    def _register(self, kind: str, name: str, callback: Callback | None) -> Callable[[_Callback], _Callback]:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no name: the callback is the second argument, or what is decorated")
        if name != self.ANY and not all(map(_tree.is_name, name.split("."))):
            raise ValueError(f"{name!r} is no name of a module or class")

        def add(function: _Callback) -> _Callback:
            with ImportLock():
                self._callbacks[kind, name] = (*self._callbacks.get((kind, name), ()), function)
            return function
        if callback:
            add(callback)
        return add

    def _call(self, kind: str, name: str, value: object, path: str, heard: list[Callback] | None = None) -> None:
        """HEARD gets those that have been told."""
        for callback in (*self._callbacks.get((kind, name), ()), *self._callbacks.get((kind, self.ANY), ())):
            callback(name, value, path)
            if heard is not None:
                heard.append(callback)

    def _tell(self, text: str) -> None:
        logger = self.logger or type(self).default_logger
        if logger:
            logger(f"autoloader {self.tag}: {text}")

    def _listens(self) -> bool:
        return bool(self._callbacks or self.logger or type(self).default_logger)

    # --- life ---

    def _rules(self) -> Rules:
        camelize = getattr(self.inflector, "camelize", self.inflector)
        inflect = camelize if self.convention == "class" else None
        order = {path: at for at, path in reversed(list(enumerate(_search_path())))}
        # At the top level the first on sys.path wins; what is not there yet will come to its end.
        roots = sorted(self._roots.items(), key=lambda root: len(sys.path) if root[1] else order.get(root[0], len(sys.path)))
        return Rules(tuple(roots), _tree.expand(self._ignored), _tree.expand(self._collapsed), inflect)

    def setup(self) -> None:
        """Begin. A second call does nothing."""
        if self._table:
            return
        _native.install()
        new = Table(self._rules())
        with outside():
            with ImportLock():
                if self._table:
                    return
                self._extend_sys_path()
                _hooks.replace(self, None, new)
                self._table = new
            _adopt(new)
        self._begun()

    def _extend_sys_path(self) -> None:
        for directory, namespace in self._roots.items():
            if not namespace and directory not in _search_path():
                sys.path.append(directory)
                self._added.append(directory)

    def _begun(self) -> None:
        self._tell(f"set up: {', '.join(self._roots)}")
        for callback in self._on_setup:
            callback()

    def _ready(self) -> Table:
        if not self._table:
            raise _errors.SetupRequired("setup() comes first")
        return self._table

    def reload(self, everything: bool = False) -> "Reloaded":
        """
        See anew what the root directories hold. What is loaded and has changed, and what depends on it, is executed aside and takes the place of the old in one step; what
        else is loaded stays. ReloadError: nothing was changed. EVERYTHING: unload all instead; what is used again is loaded again.
        """
        if not self._reloading:
            raise _errors.ReloadingDisabled("enable_reloading() comes first, before setup()")
        self._ready()
        from ladewerk._autoload import _replace  # who does not reload does without what it needs
        with outside():
            done = _replace.reload_everything(self) if everything else _replace.reload(self)
        self._begun()
        return done

    def unload(self) -> None:
        """Unload all; setup() begins anew."""
        self._ready()
        with outside():
            _unload.unload(self)

    def unregister(self) -> None:
        """Manage nothing any longer. What is loaded stays."""
        with outside():
            self._unregister()

    def _unregister(self) -> None:
        with ImportLock():
            table, self._table = self._table, None
            if table:
                _hooks.replace(self, table, None)
                _hooks.retire(table, None)
            Autoloader._registered = tuple(other for other in Autoloader._registered if other is not self)
            sys.path[:] = [path for path in sys.path if path not in self._added]
            self._added.clear()
        for name in [name for name, loader in Autoloader._of_packages.items() if loader is self]:
            del Autoloader._of_packages[name]
        for name, node in table.canon.items() if table else ():
            module = sys.modules.get(name)
            if node.kind != MODULE and isinstance(module, ModuleType) and not _hooks.nodes_of(name):
                _hooks.unhook(module)

    # --- loading ---

    def eager_load(self, force: bool = False) -> None:
        """Load everything, but for do_not_eager_load() unless FORCE."""
        table = self._ready()
        self._load(table.walk(), force)
        if not self._reloading:
            _hooks.settle(table)

    @classmethod
    def eager_load_all(cls, force: bool = False) -> None:
        """The same of all autoloaders that are set up."""
        for loader in Autoloader._registered:
            if loader._table:
                loader.eager_load(force)

    def eager_load_dir(self, path: str | os.PathLike[str]) -> None:
        """Load what is in a directory below a root."""
        table, directory = self._ready(), os.path.abspath(path)
        if not any(is_below(directory, root) for root in self._roots):
            raise _errors.AutoloadError(f"{directory} is below no root directory of {self!r}")
        self._load((node for node in table.walk() if is_below(node.path, directory)), False)

    def eager_load_namespace(self, namespace: str | ModuleType) -> None:
        """Load what is in a package."""
        table = self._ready()
        if not isinstance(namespace, (str, ModuleType)):
            raise TypeError(f"{namespace!r} is neither a package nor the name of one")
        name = namespace if isinstance(namespace, str) else namespace.__name__
        node = table.find_spoken(name)
        prefixes = (name + ".", (node.name if node else name) + ".")  # a module object of a collapsed package has its longer name
        self._load((other for other in table.walk() if other is node or other.name.startswith(prefixes)), False)

    def _load(self, nodes: Iterator[Node], force: bool) -> None:
        left_out = frozenset() if force else _tree.expand(self._not_eager)
        for node in nodes:
            if node.kind != ROOT and not is_within(node.path, left_out):
                self._load_node(node)

    def _load_node(self, node: Node) -> object:
        table = self._ready()
        value = _hooks.fetch(table, node)
        package = node.parent.module if node.parent else ""
        with outside():
            names = getattr(sys.modules.get(package), "__dict__", None)
        _hooks.bind(table, node, value, package, names)
        return value

    def load_file(self, path: str | os.PathLike[str]) -> Any:
        """Load the file at PATH; the module or class."""
        file = os.path.abspath(path)
        node = self._node_at(self._ready(), file)
        if not node or node.file != file:
            raise _errors.AutoloadError(f"{file} is no file that {self!r} manages")
        value = self._load_node(node)
        with outside():
            module = sys.modules.get(node.module)
        if node.kind == MODULE and module is not None and not _hooks.is_from(self._ready(), node, module):  # another autoloader's, of the same name
            raise _hooks.clash(node, module)
        return value

    # --- questions ---

    def _home_of(self, path: str) -> tuple[str, list[str]] | None:
        """The root directory PATH belongs to, and the names of directories and file below it."""
        root = max((root for root in self._roots if is_below(path, root)), key=len, default=None)
        return None if root is None else (root, [part for part in path[len(root):].split("/") if part])

    def _node_at(self, table: Table, path: str) -> Node | None:
        home = self._home_of(path)
        if not home:
            return None
        names = [*filter(None, self._roots[home[0]].split(".")), *home[1]]
        if not home[1]:
            return table.find(".".join(names))
        stem = names.pop().partition(".")[0]
        node = table.find(".".join(names if stem == "__init__" else [*names, stem]))
        return node if node and (node.file == path or any(path == directory for directory, _ in node.dirs)) else None

    def module_expected_at(self, path: str | os.PathLike[str]) -> str | None:
        """The name that a file or directory is expected to define; "" for a root at the top level. None: it is not managed."""
        place = os.path.abspath(path)
        if not os.path.exists(place):
            raise FileNotFoundError(f"there is no {place}")
        rules, home = self._rules(), self._home_of(place)
        if not home or _tree.is_ignored(place, home[0], rules.ignored):
            return None
        at, parts = home
        names = [*filter(None, self._roots[at].split("."))]
        for part in parts[:-1]:
            at = os.path.join(at, part)
            names += [] if at in rules.collapsed else [part]
        if parts:
            name = self._name_in(rules, at, parts[-1], place)
            if name is None:
                return None
            names += [name] if name else []
        return ".".join(names) if all(map(_tree.is_name, names)) else None

    def _name_in(self, rules: Rules, directory: str, entry: str, place: str) -> str | None:
        """What an entry adds to the name of its directory; None: nothing can be expected there."""
        if place in rules.collapsed:
            return ""
        stem, dot, suffix = entry.partition(".")
        for name, is_dir, suffixes in listing(directory):
            if name != stem or not (dot + suffix in suffixes if dot else is_dir):
                continue
            if _tree.is_special(name):
                return "" if name == "__init__" and dot else None
            if not dot:
                return name if Table(rules).holds(place) else None
            return rules.inflect(stem, place) if rules.inflect else stem
        return None

    def all_expected_modules(self) -> dict[str, str]:
        """Paths and the names they are expected to define."""
        table = self._table or Table(self._rules())
        expected = {}
        for node in table.walk():
            expected.update({directory: node.name for directory, _ in node.dirs})
            if node.file:
                expected[node.file] = node.name
        return expected

    def _node_named(self, table: Table, name: str) -> Node | None:
        parent, _, attr = name.rpartition(".")
        above = table.find_spoken(parent) if parent else table.canon.get("")
        found = table.children(above).get(attr) if above and above.kind != HIDDEN else None
        return found

    def unloadable(self, name: str) -> bool:
        """Whether a reload would unload it: it is managed, and loaded."""
        table = self._table
        node = self._node_named(table, name) if table else None
        return bool(self._reloading and table and node and node.module in sys.modules and _hooks.is_from(table, node, sys.modules[node.module]))

    def unloadable_names(self) -> list[str]:
        """All of these."""
        names = [node.name for node, _ in _unload.loaded_nodes(self._table) if node.kind != HIDDEN] if self._table and self._reloading else []
        return sorted(names)

    def shadowed(self) -> list[Shadowed]:
        """Files and directories that are not loaded because their names are others', with what is loaded instead."""
        table = self._table or Table(self._rules())
        elsewhere = [Shadowed(node.path, by) for node in table.walk() if node.parent and not node.parent.module for by in [_clash(table, node)] if by]
        return sorted([*map(Shadowed._make, table.losers.items()), *elsewhere])


def _search_path() -> list[str]:
    """sys.path in absolute paths. What is no str there, or is relative to a directory that has gone, is passed over, as imports do."""
    found = []
    for entry in list(sys.path):
        try:
            found += [os.path.abspath(entry)] if isinstance(entry, str) else []
        except OSError:
            pass
    return found


def _clash(table: Table, node: Node) -> str | None:
    """Where a name at the top level comes from, if not from NODE."""
    from importlib.util import find_spec
    module = sys.modules.get(node.module)
    if module is not None:
        spec = None if _hooks.is_from(table, node, module) else getattr(module, "__spec__", None)
        return None if spec is None else spec.origin or node.module
    spec = find_spec(node.module)
    if not spec or (_hooks.same_file(spec.origin, node.file) if node.file else not spec.has_location):
        return None
    return spec.origin or node.module


def _adopt(table: Table) -> None:
    """Packages that were imported before."""
    tops = {name.partition(".")[0] for name in list(table.canon)}
    for name, module in list(sys.modules.items()):
        node = table.find(name) if name.partition(".")[0] in tops else None
        if node and node.kind not in (MODULE, HIDDEN) and isinstance(module, ModuleType) and _hooks.is_from(table, node, module):
            _hooks.hook(module, name)
