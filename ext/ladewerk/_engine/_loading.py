# SPDX-License-Identifier: MIT
"""What an import engine consists of: copies of importlib's two modules that work on state of their own, and the modules that lead to it.

CPython's frozen code of importlib is executed once more, with the engine's `builtins`: so all its functions belong to the engine. They work on the engine's `sys` and `_imp`, which are
put into them as the interpreter puts its own into the first copy at its start.
"""

import _imp
import _thread
import _warnings
import _weakref
import builtins
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, ModuleType
from typing import Any
from zipimport import zipimporter

from ladewerk import _engines, _native
from ladewerk._engine._halves import wait_elsewhere
from ladewerk._engine._hooks import Hook, ask, execute, is_plain, load, own_entry_finder, search
from ladewerk._engine._makers import Supply, trimmed
from ladewerk._engine._rules import activate
from ladewerk._engine._sharing import FIRST, PROCESS, Sharing, loaded_in_process
from ladewerk._engine._waiting import blocking_on
from ladewerk._outside import KEY

# Modules whose names begin so may be given to an engine without a search.
_GIVEN = frozenset(name.partition(".")[0] for name in (*PROCESS, *FIRST, *sys.builtin_module_names, "_pickle"))

_PROCESS_FINDERS = {"ladewerk._native.Finder", "ladewerk._autoload._hooks.Finder"}
_STOCK = {"BuiltinImporter": "_bootstrap", "FrozenImporter": "_bootstrap", "PathFinder": "_external"}

_frozen: dict[str, Any] = {}
_locks: "weakref.WeakSet[ImportLock]" = weakref.WeakSet()


class ImportLock:
    """The import lock of one engine. Taken and released twice in each import: what _imp has are the lock's own methods."""

    def __init__(self) -> None:
        self._lock: Any = _thread.RLock()
        self.acquire, self.release = self._lock.acquire, self._lock.release  # release: RuntimeError unless this thread holds it
        _locks.add(self)

    def held(self) -> bool:
        """Whether any thread holds it."""
        if self._lock._is_owned():
            return True
        free = self.acquire(blocking=False)
        if free:
            self.release()
        return not free

    def forked(self) -> None:
        """In a child: other threads do not exist."""
        if not self._lock._is_owned():
            self._lock._at_fork_reinit()


def _forked() -> None:
    for lock in list(_locks):
        lock.forked()


os.register_at_fork(after_in_child=_forked)


def _copy_of_importlib(name: str, own_builtins: ModuleType) -> ModuleType:
    if name not in _frozen:
        _frozen[name] = _imp.get_frozen_object(name)
    module = ModuleType(name)
    vars(module)["__builtins__"] = vars(own_builtins)
    exec(_frozen[name], vars(module))
    return module


def _own_builtins() -> ModuleType:
    module = ModuleType("builtins", builtins.__doc__)
    vars(module).update(vars(builtins))
    vars(module).pop(KEY, None)
    return module


def _own_imp(lock: ImportLock) -> ModuleType:
    module = ModuleType("_imp", _imp.__doc__)
    vars(module).update(vars(_imp))
    vars(module).update(acquire_lock=lock.acquire, release_lock=lock.release, lock_held=lock.held)  # which keeps the lock alive, too
    return module


def _connect(engine: Any) -> None:
    """Put into the copies what the interpreter puts into its own at its start."""
    bootstrap, external = engine._bootstrap, engine._external
    for module in (bootstrap, external):
        module.sys, module._imp, module._warnings, module._weakref, module._thread = engine.sys, engine._imp, _warnings, _weakref, _thread
    bootstrap._bootstrap_external = external
    external._bootstrap = bootstrap
    bootstrap._blocking_on = blocking_on
    for module, importer in ((bootstrap, bootstrap.FrozenImporter), (external, bootstrap.FrozenImporter), (engine._imp, bootstrap.BuiltinImporter),
                             (engine.builtins, bootstrap.BuiltinImporter), (engine.sys, bootstrap.BuiltinImporter)):
        module.__spec__, module.__loader__ = bootstrap.ModuleSpec(module.__name__, importer, origin="frozen" if importer is bootstrap.FrozenImporter else "built-in"), importer


def own_finder(engine: Any, finder: Any) -> Any:
    """What stands for FINDER, of the process or any engine, in ENGINE's meta_path: its own where it is importlib's; None: ours, which is put in anyway, or an autoloader's, which
    knows the process's modules only."""
    if type(finder) is _native.Inside or f"{type(finder).__module__}.{type(finder).__name__}" in _PROCESS_FINDERS:
        return None
    if isinstance(finder, type) and finder.__name__ in _STOCK and finder.__module__.partition(".")[0] in ("_frozen_importlib", "_frozen_importlib_external", "importlib"):
        return getattr(getattr(engine, _STOCK[finder.__name__]), finder.__name__)
    return finder


def own_hook(engine: Any, hook: Any) -> Any:
    """The same for path_hooks."""
    if getattr(hook, "__qualname__", "") == "FileFinder.path_hook.<locals>.path_hook_for_FileFinder" and getattr(hook, "__code__", hook) is not hook:
        cells = [cell.cell_contents for cell in hook.__closure__ or ()]
        if any(isinstance(cell, type) and cell.__name__ == "FileFinder" for cell in cells):
            return engine._hook
    return hook if hook is zipimporter or isinstance(hook, Hook) and hook._engine is engine else Hook(engine, hook._hook if isinstance(hook, Hook) else hook)


def set_finders(engine: Any, finders: Iterable[Any]) -> None:
    """ENGINE's meta_path: FINDERS, with its own for importlib's, and ours ahead of PathFinder."""
    meta_path: list[Any] = []
    for finder in finders:
        own = own_finder(engine, finder)
        if own is engine._external.PathFinder:
            meta_path.append(engine._inside)
        if own is not None:
            meta_path.append(own)
    engine.sys.meta_path = meta_path


def make(engine: Any, base: type, sharing: Sharing, import_module: Callable[[str], Any]) -> None:
    """Fill in ENGINE, a new _engines.Engine, but for its path, meta_path and path_hooks. BASE: the class whose methods are the defaults; what is not overridden is not called."""
    _engines.route()
    _native.routed(_engines)
    engine.builtins = _own_builtins()
    engine._bootstrap = _copy_of_importlib("_frozen_importlib", engine.builtins)
    engine._external = _copy_of_importlib("_frozen_importlib_external", engine.builtins)
    lock = ImportLock()
    engine._imp = _own_imp(lock)
    engine.sys = _engines.make_sys()
    _connect(engine)
    if type(builtins.__import__) is not BuiltinFunctionType:  # somebody has replaced it by a function in Python, whose imports are the process's
        engine.builtins.__import__ = engine._bootstrap.__import__
    overrides = {name for name in ("allow", "find_spec", "load") if getattr(type(engine), name) is not getattr(base, name)}
    modules: dict[str, Any] = {}
    modules.update({"sys": engine.sys, "builtins": engine.builtins, "_frozen_importlib": engine._bootstrap,
                    "_frozen_importlib_external": engine._external, "_imp": engine._imp})
    program = loaded_in_process("__main__")
    if program is not None:
        modules["__main__"] = program  # there from the start, as outside: runpy puts others in its place
    engine.sys.modules, engine.sys.path_importer_cache = modules, {}
    engine._hook = engine._external.FileFinder.path_hook(*engine._external._get_supported_file_loaders())
    engine.sys.path, engine.sys.meta_path, engine.sys.path_hooks = [], [], [zipimporter, engine._hook]
    if hasattr(sys, "lazy_modules"):  # 3.15
        engine.sys.lazy_modules = type(sys.lazy_modules)()
    supply = Supply(import_module, sharing)
    engine._supply = supply
    bootstrap = engine._bootstrap
    stock_load, stock_exec, stock_module, stock_wait = bootstrap._load_unlocked, bootstrap._exec, bootstrap.module_from_spec, bootstrap._lock_unlock_module
    stock_find_and_load = bootstrap._find_and_load
    stock_is_initializing: Any = getattr(bootstrap, "_is_initializing", None)

    def modules_now() -> Any:
        """What its import statements are served from: another may have been assigned."""
        return _engines.Engine.modules.__get__(engine)  # type: ignore[attr-defined]

    @trimmed
    def find_spec(name: str, path: Any, target: Any = None) -> Any:
        given = supply.find(name)
        if given is not None:
            return given
        return engine.find_spec(name, path, target) if "find_spec" in overrides else search(engine, name, path, target)

    @trimmed
    def load_plain(spec: Any) -> Any:
        return stock_load(spec) if is_plain(spec.loader) else load(engine, spec, modules_now())

    @trimmed
    def load_own(spec: Any) -> Any:
        return engine.load(spec) if "load" in overrides else supply.load(spec, load_plain, modules_now())

    @trimmed
    def exec_own(spec: Any, module: Any) -> Any:
        return stock_exec(spec, module) if is_plain(spec.loader) else execute(engine, spec, module, modules_now())

    @trimmed
    def wait(name: str) -> None:
        """Until module NAME, which is there, is initialised; a thread of another state may be at it."""
        stock_wait(name)
        wait_elsewhere(engine, modules_now().get(name))

    @trimmed
    def find_and_load(name: str, import_: Any) -> Any:
        """Importlib looks at the modules once more when it has waited for who is at one of them, which may have failed."""
        wait_elsewhere(engine, modules_now().get(name))
        return stock_find_and_load(name, import_)

    @trimmed
    def is_initializing(module: Any) -> Any:
        """Of 3.15, where importlib asks this and then waits for a lock of the engine without wait()."""
        under_way = stock_is_initializing(module)
        if under_way:
            wait_elsewhere(engine, module)
        return under_way

    @trimmed
    def path_hooks(entry: str) -> Any:
        """As importlib's, but that hooks which were put into the list take an engine as well."""
        if engine.sys.path_hooks is not None and not engine.sys.path_hooks:
            warnings.warn("sys.path_hooks is empty", ImportWarning)
        for hook in engine.sys.path_hooks:
            try:
                return own_hook(engine, hook)(entry)
            except ImportError:
                continue
        return None

    stock_entry_finder, file_finder = engine._external.PathFinder._path_importer_cache.__func__, engine._external.FileFinder

    @trimmed
    def path_importer_cache(cls: Any, entry: str) -> Any:
        """As importlib's, but that finders which were put into the dictionary take an engine as well."""
        finder = stock_entry_finder(cls, entry)
        return finder if type(finder) is file_finder else own_entry_finder(engine, finder)

    engine._load_default = lambda spec: supply.load(spec, load_plain, modules_now())

    def module_from_spec(spec: Any) -> Any:
        module = stock_module(spec)
        if isinstance(module, ModuleType):  # whatever loader runs its body, its code is of this engine
            vars(module).setdefault("__builtins__", vars(engine.builtins))
        return module

    own = {"_find_spec": find_spec, "_load_unlocked": load_own, "_exec": exec_own, "module_from_spec": module_from_spec, "_lock_unlock_module": wait}
    if stock_is_initializing:
        own["_is_initializing"] = is_initializing
    given = _GIVEN | {name.partition(".")[0] for name in (*supply.made, *sharing.share)}
    inside = _native.Inside(find_and_load, vars(engine.sys), vars(bootstrap), vars(engine._external), vars(engine.builtins), own,
                            supply.find, given, lambda finder, name, path: ask(engine, finder, name, path, None),
                            {"_path_hooks": staticmethod(path_hooks), "_path_importer_cache": classmethod(path_importer_cache)})
    engine._inside = inside
    if overrides & {"find_spec", "load"}:
        inside.step_aside()
    bootstrap._find_and_load = engine._find_and_load = inside
    engine._wait = wait
    _engines.Engine.modules.__set__(engine, modules)  # type: ignore[attr-defined]
    vars(engine.builtins)[KEY] = engine
    if "allow" in overrides:
        activate(engine, modules)
