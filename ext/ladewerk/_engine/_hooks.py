# SPDX-License-Identifier: MIT
"""How an engine asks finders, hooks and loaders: with itself, where they take an `engine`; those of PEP 302 as well as those of PEP 451.

A method takes an engine if one of its parameters is named so. That is read off its code object, so nothing is kept. Everything else is called as importlib calls it.
"""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any
from zipimport import zipimporter

from ladewerk._engine._makers import trimmed
from ladewerk._outside import outside


def takes_engine(function: Any) -> bool:
    """Whether FUNCTION, a function, method or callable object in Python, has a parameter `engine`."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None) or getattr(getattr(type(function), "__call__", None), "__code__", None)
    return code is not None and "engine" in code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]


def is_own(engine: Any, finder: Any) -> bool:
    """Whether FINDER is code of the engine, and to be asked as importlib asks: what it imports is the engine's anyhow."""
    find_spec = getattr(finder, "find_spec", None)
    own = getattr(getattr(find_spec, "__func__", find_spec), "__builtins__", None) is vars(engine.builtins)
    return own and not takes_engine(find_spec)


def call(engine: Any, function: Callable[..., Any], *args: Any) -> Any:
    """FUNCTION(*ARGS), and the engine if it takes one."""
    return function(*args, engine=engine) if takes_engine(function) else function(*args)


def ask(engine: Any, finder: Any, name: str, *args: Any) -> Any:
    """The spec that FINDER has of module NAME, or None. ARGS: the path and the module to be reloaded, for one of the meta path; the latter, for one of a path entry.

    What code of the process imports meanwhile is the process's: it would have to find itself what it needs to find anything.
    """
    with outside():
        return _ask(engine, finder, name, *args)


def _ask(engine: Any, finder: Any, name: str, *args: Any) -> Any:
    find_spec = getattr(finder, "find_spec", None)
    if find_spec is not None:
        return call(engine, find_spec, name, *args)
    find_module = getattr(finder, "find_module", None)
    if find_module is None:
        return None
    loader = call(engine, find_module, name, *args[:-1])
    return None if loader is None else engine._bootstrap.spec_from_loader(name, loader)


class EntryFinder:
    """A finder of a path entry as importlib calls them, for one of the process: it may take an engine, be of PEP 302, or import. It says that it is of the class of the one it stands for."""

    def __init__(self, engine: Any, finder: Any) -> None:
        self._engine, self._finder = engine, finder

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._finder)

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> Any:
        return ask(self._engine, self._finder, fullname, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def own_entry_finder(engine: Any, finder: Any) -> Any:
    """What stands for FINDER, which path_importer_cache has of an entry."""
    if finder is None or isinstance(finder, EntryFinder) or type(finder) is zipimporter or is_own(engine, finder):
        return finder
    if not hasattr(finder, "find_spec") and hasattr(finder, "find_loader"):  # 3.11 knows what to do with it; newer versions do not
        return finder
    return EntryFinder(engine, finder)


class Hook:
    """A path hook as importlib calls them. It is equal to the one that it stands for."""

    def __init__(self, engine: Any, hook: Callable[..., Any]) -> None:
        self._engine, self._hook = engine, hook

    def __call__(self, entry: str) -> Any:
        """Errors are the hook's."""
        with outside():
            finder = call(self._engine, self._hook, entry)
        return own_entry_finder(self._engine, finder)

    def __eq__(self, other: object) -> bool:
        return self._hook == (other._hook if isinstance(other, Hook) else other)

    def __hash__(self) -> int:
        return hash(self._hook)


def is_plain(loader: Any) -> bool:
    """Whether importlib itself can have LOADER load, or says what is wrong with it."""
    exec_module = getattr(loader, "exec_module", None)
    if exec_module is None:
        return not hasattr(loader, "load_module")
    return not takes_engine(exec_module) and not takes_engine(getattr(loader, "create_module", None))


@trimmed
def load(engine: Any, spec: Any, modules: dict[str, Any]) -> Any:
    """Load SPEC by a loader that is not plain: what importlib's `_load_unlocked` does, within the module's lock."""
    loader = spec.loader
    if not hasattr(loader, "exec_module"):
        return _load_by_name(engine, spec, modules)
    module = call(engine, loader.create_module, spec) if hasattr(loader, "create_module") else None
    if module is None:
        module = ModuleType(spec.name)
    engine._bootstrap._init_module_attrs(spec, module)
    if isinstance(module, ModuleType):
        vars(module).setdefault("__builtins__", vars(engine.builtins))
    spec._initializing = True
    try:
        modules[spec.name] = module
        try:
            call(engine, loader.exec_module, module)
        except BaseException:
            modules.pop(spec.name, None)
            raise
        module = modules.pop(spec.name)  # it may have put another one there
        modules[spec.name] = module
    finally:
        spec._initializing = False
    return module


@trimmed
def _load_by_name(engine: Any, spec: Any, modules: dict[str, Any]) -> Any:
    """By `load_module(fullname, path=None, engine=None)` of PEP 302."""
    known = spec.name in modules
    load_module = spec.loader.load_module
    try:
        module = call(engine, load_module, spec.name)
    except BaseException:
        if not known:
            modules.pop(spec.name, None)
        raise
    module = modules.setdefault(spec.name, module)
    engine._bootstrap._init_module_attrs(spec, module)
    return module


@trimmed
def execute(engine: Any, spec: Any, module: Any, modules: dict[str, Any]) -> Any:
    """Execute MODULE anew by a loader that is not plain: what importlib's `_exec` does for reload()."""
    name = spec.name
    with engine._bootstrap._ModuleLockManager(name):
        if modules.get(name) is not module:
            raise ImportError(f"module {name!r} not in sys.modules", name=name)
        try:
            engine._bootstrap._init_module_attrs(spec, module, override=True)
            if hasattr(spec.loader, "exec_module"):
                call(engine, spec.loader.exec_module, module)
            else:
                call(engine, spec.loader.load_module, name)
        finally:
            module = modules.pop(name)  # it may have put another one there
            modules[name] = module
    return module


@trimmed
def search(engine: Any, name: str, path: Any, target: Any = None) -> Any:
    """What importlib's `_find_spec` does, by ask(): the spec of module NAME along the engine's meta path, or None."""
    sys = engine.sys
    if sys.meta_path is None:
        raise ImportError("sys.meta_path is None, Python is likely shutting down")
    if not sys.meta_path:
        warnings.warn("sys.meta_path is empty", ImportWarning)
    is_reload = name in sys.modules
    for finder in list(sys.meta_path):
        with engine._bootstrap._ImportLockContext():
            spec = ask(engine, finder, name, path, target)
        if spec is not None:
            # The finder may have imported the module itself.
            module = None if is_reload else sys.modules.get(name)
            there = getattr(module, "__spec__", None)
            return spec if there is None else there
    return None
