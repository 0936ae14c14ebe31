# SPDX-License-Identifier: MIT
"""ImportEngine, and what it has in common with the engine that stands for the process's own state."""

import builtins
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MethodType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ladewerk import _engines
from ladewerk._engine._events import ImportEvent, on_import
from ladewerk._engine._halves import follow
from ladewerk._engine._hooks import search
from ladewerk._engine._loading import make, own_hook, set_finders
from ladewerk._engine._rules import Rule, Rules, add, put_modules
from ladewerk._engine._sharing import Sharing
from ladewerk._outside import OUTSIDE, engine_of_globals, outside

_Self = TypeVar("_Self", bound="Surface")


class Surface:
    """What can be asked of an import state, in terms of its copy of importlib."""

    modules: dict[str, Any]
    path: list[str]
    meta_path: list[Any]
    path_hooks: list[Any]
    path_importer_cache: dict[str, Any]
    name: str | None = None

    _bootstrap: Any
    _imp: Any

    def _check(self) -> None:
        """ImportError if there is no state any more."""

    def __import__(self, name: str, globals: Mapping[str, Any] | None = None, locals: Mapping[str, Any] | None = None, fromlist: Sequence[str] | None = (),
                   level: int = 0) -> ModuleType:
        """What an import statement calls. ``builtins.__import__ = engine.__import__`` sends the statements of the process's modules here."""
        self._check()
        if _engines.context.get() is OUTSIDE and builtins.__import__ == self.__import__ and not engine_of_globals(globals or {}):
            # A statement of a finder, or of what is shared.
            return importlib.__import__(name, globals, locals, fromlist or (), level)
        module: ModuleType = self._bootstrap.__import__(name, globals, locals, fromlist or (), level)
        return module

    def import_module(self, name: str, package: str | None = None) -> Any:
        """As importlib.import_module()."""
        self._check()
        level = len(name) - len(name.lstrip("."))
        if level and not package:
            raise TypeError(f"the 'package' argument is required to perform a relative import for {name!r}")
        return self._bootstrap._gcd_import(name[level:], package, level)

    def load_module(self, name: str) -> Any:
        """Find module NAME and execute it anew in a new module object, which takes the place of one that is there. Its parents are imported first."""
        parent = name.rpartition(".")[0]
        path = self.import_module(parent).__path__ if parent else None
        spec = self._bootstrap._find_spec(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = self._bootstrap._load(spec)
        if parent:
            setattr(self.modules[parent], name.rpartition(".")[2], module)
        return module

    def reload(self, module: ModuleType) -> Any:
        """As importlib.reload()."""
        return self.import_module("importlib").reload(module)

    def invalidate_caches(self) -> None:
        """As importlib.invalidate_caches()."""
        self._check()
        for finder in list(self.meta_path):
            if hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()

    def lock_held(self) -> bool:
        """Whether a thread holds the import lock of this state."""
        self._check()
        return bool(self._imp.lock_held())

    def acquire_lock(self) -> None:
        """Take it; the same thread may do so more than once."""
        self._check()
        self._imp.acquire_lock()

    def release_lock(self) -> None:
        """RuntimeError unless this thread holds it."""
        self._check()
        self._imp.release_lock()

    def extend_path(self, entries: Iterable["str | os.PathLike[str]"]) -> None:
        """Add directories to `path`, to the ``__path__`` of loaded packages that go on there, and forget what was known of them: one step, under the import lock."""
        if isinstance(entries, (str, bytes)):
            raise TypeError("extend_path() takes an iterable of directories, not one")
        wanted = list(dict.fromkeys(os.fspath(entry) for entry in entries))
        self.acquire_lock()
        try:
            added: dict[str, list[str]] = {"": [entry for entry in wanted if entry not in self.path]}
            lists: list[tuple[list[str], list[str]]] = [(self.path, added[""])]
            for name, module in sorted(list(self.modules.items()), key=lambda item: item[0].count(".")):
                parent, _, last = name.rpartition(".")
                path = getattr(module, "__path__", None)
                if type(path) is list and parent in added:
                    portions = [os.path.join(entry, last) for entry in added[parent]]
                    added[name] = [portion for portion in portions if portion not in path and os.path.isdir(portion)]
                    lists.append((path, added[name]))
            for path, more in lists:
                path.extend(more)
                for entry in more:
                    self.path_importer_cache.pop(entry, None)
            self.invalidate_caches()
        finally:
            self.release_lock()

    def run_path(self, path: "str | os.PathLike[str]", init_globals: dict[str, Any] | None = None, run_name: str | None = None) -> dict[str, Any]:
        """As runpy.run_path(), in this state. -> the globals."""
        done: dict[str, Any] = self.import_module("runpy").run_path(os.fspath(path), init_globals, run_name)
        return done

    def run_module(self, name: str, init_globals: dict[str, Any] | None = None, run_name: str | None = None, alter_sys: bool = False) -> dict[str, Any]:
        """As runpy.run_module(), in this state. -> the globals."""
        done: dict[str, Any] = self.import_module("runpy").run_module(name, init_globals, run_name, alter_sys)
        return done

    def _entry(self) -> "ImportEngine | None":
        """What the context says within `with`; None: the process."""
        return None

    def __enter__(self: _Self) -> _Self:
        self._check()
        _engines.entered()
        _engines.context.set((self._entry(), _engines.context.get()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        entry = _engines.context.get()
        if entry is None or entry[0] is not self._entry():
            raise RuntimeError(f"{self!r} is not what this thread or task has entered last")
        _engines.context.set(entry[1])


def _state(name: str, doc: str, own: Callable[["ImportEngine", Any], Any] = lambda engine, value: value) -> Any:
    """An attribute that is the name in the engine's sys. OWN: what is assigned there for a value."""
    def get(self: "ImportEngine") -> Any:
        self._check()
        return getattr(self.sys, name)

    def put(self: "ImportEngine", value: Any) -> None:
        self._check()
        setattr(self.sys, name, own(self, value))
    return property(get, put, doc=doc)


class _OfBoth(classmethod):  # type: ignore[type-arg]
    """A method of the class, and of an instance."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return MethodType(self.__func__, owner if instance is None else instance)


class ImportEngine(_engines.Engine, Surface):
    """Import state of its own in this process: what is imported here, and by what is imported here, is found on this path and kept in these modules.

    PATH, META_PATH and PATH_HOOKS are what to begin with, else copies of what the process has; importlib's own finders and hooks in them become the engine's. Modules named in SHARE, and
    all below them, are the process's; those in OWN are the engine's, although they would be shared. NAME is for repr() and errors.

    Threads: any. Dropping the last reference, or close(), frees what was imported.
    """

    def _from_engine(this: Any, other: Surface) -> "ImportEngine":
        """A copy of OTHER's state: a new engine, or taken over by the one it is asked of, which is returned. Modules are the same objects, lists and dicts are copies;
        what deny() was told holds here, too."""
        other._check()
        made: ImportEngine = this(share=getattr(other, "share", ()), own=getattr(other, "own", ())) if isinstance(this, type) else this
        made._check()
        with outside():
            made._take_over(other)
        return made

    if TYPE_CHECKING:
        @classmethod
        def from_engine(cls, other: Surface) -> "ImportEngine":
            """As _from_engine()."""
            return cls()
    else:
        from_engine = _OfBoth(_from_engine)

    # What _loading.make() sets, beside what _engines.Engine has.
    _supply: Any
    _rules: Rules | None = None
    _inside: Any
    _load_default: Callable[[Any], Any]

    def __init__(self, *, path: Iterable[str] | None = None, meta_path: Iterable[Any] | None = None, path_hooks: Iterable[Any] | None = None,
                 share: Iterable[str] = (), own: Iterable[str] = (), name: str | None = None) -> None:
        if any(isinstance(words, (str, bytes)) for words in (path, share, own)):
            raise TypeError("path, share and own are iterables of strings, not one")
        self.name = name
        self.share, self.own = frozenset(share), frozenset(own)
        make(self, ImportEngine, Sharing(self.share, self.own), self.import_module)
        self.path = list(sys.path if path is None else path)
        self.path_hooks = sys.path_hooks if path_hooks is None else list(path_hooks)
        set_finders(self, sys.meta_path if meta_path is None else meta_path)
        if type(self).on_import is not ImportEngine.on_import:
            on_import(self.on_import, engine=self)

    path = _state("path", "What sys.path is inside.")
    meta_path = _state("meta_path", "What sys.meta_path is inside.")
    path_hooks = _state("path_hooks", "What sys.path_hooks is inside.",
                        lambda engine, hooks: [own_hook(engine, hook) for hook in hooks])
    path_importer_cache = _state("path_importer_cache", "What sys.path_importer_cache is inside.")

    @property
    def modules(self) -> dict[str, Any]:
        """What sys.modules is inside."""
        self._check()
        modules: dict[str, Any] = _engines.Engine.modules.__get__(self) if self._rules is None else self.sys.modules  # type: ignore[attr-defined]
        return modules

    @modules.setter
    def modules(self, modules: dict[str, Any]) -> None:
        self._check()
        if self._rules is None:
            self.sys.modules = modules
        else:
            put_modules(self, modules)
        _engines.Engine.modules.__set__(self, modules)  # type: ignore[attr-defined]

    def allow(self, name: str, importer: str) -> bool:
        """Whether the module named IMPORTER ("" if its code is of none) may have module NAME, there already or not. False is an ImportError for it. To be overridden; else nobody asks."""
        return True

    def deny(self, *names: str, importers: str | Iterable[str] = "*", because: str | None = None) -> None:
        """From now on IMPORTERS may not have modules NAMES, there already or not: for them it is an ImportDenied, which is an ImportError and says BECAUSE.

        A name means what is below it as well, `a.*` what is below `a` alone, `*` everything.
        """
        self._check()
        add(self, Rule(names, (importers,) if isinstance(importers, str) else tuple(importers), because))

    def on_import(self, event: ImportEvent) -> None:
        """Something has happened in an import of this engine. To be overridden; else nobody is told, and nothing is spent on it."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        """The spec of module NAME along the engine's meta_path, or None. PATH: of the package, None at the top. To be overridden; else nobody asks."""
        self._check()
        return search(self, name, path, target)

    def load(self, spec: Any) -> Any:
        """The module of SPEC, made, executed and in `modules`. To be overridden; else nobody asks."""
        self._check()
        return self._load_default(spec)

    def _check(self) -> None:
        if getattr(self, "_find_and_load", None) is None:
            raise ImportError(f"{self!r} is closed")

    def _entry(self) -> "ImportEngine":
        return self

    def _take_over(self, other: Surface) -> None:
        self.path = list(other.path)
        self.path_hooks = other.path_hooks
        set_finders(self, other.meta_path)
        self.path_importer_cache.clear()
        kept: dict[str, Any] = {name: self.modules[name] for name in ("sys", "builtins", "_imp", "_frozen_importlib", "_frozen_importlib_external") if name in self.modules}
        theirs: Rules | None = getattr(other, "_rules", None)
        modules: dict[str, Any] = {**(other.modules if theirs is None else theirs.modules), **kept}
        for name, of in (("importlib._bootstrap", self._bootstrap), ("importlib._bootstrap_external", self._external)):
            if name in modules:
                modules[name] = of
        self.modules.clear()
        self.modules.update(modules)
        for name, module in modules.items():
            if name not in kept:
                follow(self, module, other if isinstance(other, ImportEngine) else None)
        if theirs is not None and theirs.denied:
            add(self, *theirs.denied)

    def close(self) -> None:
        """Exit functions of its modules run, then the modules go. Whoever uses the engine, or imports in what it has loaded, gets an ImportError. Idempotent."""
        supply = vars(self).pop("_supply", None)  # of those who call, in other threads or in an exit function, one closes
        if supply is None:
            return
        supply.close()
        modules = self.modules
        del self._find_and_load, self._wait, self._inside, self._load_default
        modules.clear()

    def __repr__(self) -> str:
        what = f"{self.name!r}" if self.name is not None else f"at {id(self):#x}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {what}>"


ImportEngine.__module__ = "ladewerk"
