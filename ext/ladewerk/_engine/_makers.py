# SPDX-License-Identifier: MIT
"""Where the modules of an engine come from that it does not simply load: the process, other engines, or a maker of this file.

An engine's import system asks Supply.find() before it searches, and leaves loading to Supply.load(). What comes from the process is put into the engine's modules as it is:
no attribute of it is touched.

C modules that are neither the standard library's nor declare that they may be loaded more than once (3.12 and later; before, none can) exist once per process and file: what the process
or the first engine has loaded is what all others get. PyO3 and Cython refuse a second object or hand out the first one, and others have static variables without saying so.
Single-phase modules are loaded by CPython itself in each engine, which gives every engine a module object of its own with the same contents.
"""

import os
import sys
import weakref
from collections.abc import Callable, Mapping
from importlib.machinery import BuiltinImporter, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location, spec_from_loader
from io import BytesIO
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from _frozen_importlib import _DeadlockError, _ModuleLock  # type: ignore[attr-defined]

from ladewerk import _engines
from ladewerk._engine._exits import Exits
from ladewerk._engine._halves import follow
from ladewerk._engine._sharing import FIRST, OWN, Sharing, loaded_in_process, of_process
from ladewerk._outside import outside

# C modules that engines have loaded from files: the first object of each name and file. Those of which the process can have no second one are never let go, as CPython never
# unloads a library: else, once their engine has gone, nobody could import them any more.
_first: "weakref.WeakValueDictionary[tuple[str, str | None], ModuleType]" = weakref.WeakValueDictionary()
_kept: dict[tuple[str, str | None], ModuleType] = {}
# Their locks; of importlib, which knows when threads wait for each other.
_loading: dict[tuple[str, str | None], Any] = {}
os.register_at_fork(after_in_child=_loading.clear)

SINGLE, MULTI = 1, 2
_LEADING = ("__spec__", "__loader__", "__builtins__")
_Function = TypeVar("_Function", bound=Callable[..., Any])
_UNDECLARED, _NOT_SUPPORTED = -1, 0


def trimmed(function: _Function) -> _Function:
    """FUNCTION, which stands between importlib's functions: CPython cuts its frames out of tracebacks as it does theirs."""
    function.__code__ = function.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    return function


def _former(spec: ModuleSpec) -> ModuleType | None:
    """The object that this process has of the C module of SPEC, by whoever loaded it first."""
    module = loaded_in_process(spec.name)
    if module is not None and getattr(getattr(module, "__spec__", None), "origin", None) == spec.origin and _engines.module_kind(module) is not None:
        return module
    return _kept.get((spec.name, spec.origin)) or _first.get((spec.name, spec.origin))


def _is_c(spec: ModuleSpec) -> bool:
    """Whether SPEC is loaded by the stock loader of extension modules (of the process or of an engine) or of those that are built in."""
    loader = spec.loader if isinstance(spec.loader, type) else type(spec.loader)
    return loader.__name__ in ("ExtensionFileLoader", "BuiltinImporter") and loader.__module__.partition(".")[0] in ("_frozen_importlib_external", "_frozen_importlib", "importlib")


def _once_only(module: ModuleType) -> bool:
    """Whether the process has MODULE once: a multi-phase module that does not declare more."""
    kind = _engines.module_kind(module)
    return kind is not None and kind[0] == MULTI and kind[2] in (_UNDECLARED, _NOT_SUPPORTED)


def _is_single(module: ModuleType) -> bool:
    kind = _engines.module_kind(module)
    return kind is not None and kind[0] == SINGLE


def _dump(pickler: Any, obj: object, file: Any, protocol: int | None = None, *, fix_imports: bool = True, buffer_callback: Any = None) -> None:
    pickler(file, protocol, fix_imports=fix_imports, buffer_callback=buffer_callback).dump(obj)


def _dumps(pickler: Any, obj: object, protocol: int | None = None, *, fix_imports: bool = True, buffer_callback: Any = None) -> bytes:
    file = _BytesIO()  # type: ignore[name-defined]  # noqa: F821
    pickler(file, protocol, fix_imports=fix_imports, buffer_callback=buffer_callback).dump(obj)
    return file.getvalue()  # type: ignore[no-any-return]


def _pickler_with(process: Any, copyreg: ModuleType) -> type:
    """The Pickler of PROCESS, a _pickle, that looks into COPYREG where it has no other table: C code takes the one it is given last, but for one of its class."""
    def init(self: Any, file: Any, protocol: int | None = None, fix_imports: bool = True, buffer_callback: Any = None) -> None:
        process.Pickler.__init__(self, file, protocol, fix_imports, buffer_callback)
        if not hasattr(self, "dispatch_table"):
            self.dispatch_table = copyreg.dispatch_table

    init.__annotations__ = {}  # its signature is the C type's
    return type("Pickler", (process.Pickler,), {"__module__": "_pickle", "__init__": init})


def _pickle_with(process: ModuleType, copyreg: ModuleType, own_builtins: ModuleType) -> ModuleType:
    """_pickle where it has static types (3.11) and looks into the process's copyreg: what pickles by default looks into COPYREG, as a module with OWN_BUILTINS."""
    module = ModuleType(process.__name__, process.__doc__)
    pickler = _pickler_with(process, copyreg)
    vars(module).update(vars(process))
    vars(module).update(Pickler=pickler, _BytesIO=BytesIO, __builtins__=vars(own_builtins))
    for name, function in (("dump", _dump), ("dumps", _dumps)):
        # With the engine's builtins in its globals it is the engine's, and so is what it has C code import.
        clone = FunctionType(function.__code__, vars(module), name, function.__defaults__)
        clone.__kwdefaults__, clone.__doc__, clone.__module__, clone.__qualname__ = function.__kwdefaults__, getattr(process, name).__doc__, "_pickle", name
        setattr(module, name, MethodType(clone, pickler))  # a function in Python would be a method as an attribute of somebody's class
    return module


def _lead_here(module: ModuleType) -> tuple[object, ...]:
    """What of the contents of MODULE, one of C, leads to the state that it was imported in."""
    return tuple(vars(module).get(name) for name in _LEADING)


def _lead_to(module: ModuleType, values: tuple[object, ...]) -> None:
    for name, value in zip(_LEADING, values):
        if value is None:
            vars(module).pop(name, None)
        else:
            vars(module)[name] = value


def _keep(module: ModuleType, spec: ModuleSpec) -> None:
    """MODULE, which an engine has loaded by SPEC, stays for good: the process's it is, and keeps nothing of that engine but what its own C code has imported."""
    own: ModuleSpec | None
    if spec.loader is not None and isinstance(spec.loader, type):
        own = spec_from_loader(spec.name, BuiltinImporter, origin=spec.origin)
    else:
        places = spec.submodule_search_locations
        own = spec_from_file_location(spec.name, spec.origin, loader=ExtensionFileLoader(spec.name, spec.origin or ""),
                                      submodule_search_locations=None if places is None else list(places))
    _lead_to(module, (own, own and own.loader, None))
    _kept[spec.name, spec.origin] = module


def _withdraw(spec: ModuleSpec, before: object) -> None:
    """Cython's modules enter themselves into the interpreter's dictionary, past the router: what was loaded by SPEC is not the process's, which had BEFORE or None."""
    there = loaded_in_process(spec.name)
    if there is None or there is before or getattr(there, "__spec__", None) is not spec:
        return
    with outside():
        if before is None:
            del sys.modules[spec.name]
        else:
            sys.modules[spec.name] = before  # type: ignore[assignment]


@trimmed
def _load_withdrawn(spec: ModuleSpec, stock: Callable[[ModuleSpec], ModuleType]) -> ModuleType:
    before = loaded_in_process(spec.name)
    try:
        return stock(spec)
    finally:
        _withdraw(spec, before)


_re_is_bound = False


def _bind_re() -> None:
    """Once: let the C code of re, which keeps the function that it finds when the first template is expanded (3.12 and later), find the process's."""
    global _re_is_bound
    if _re_is_bound:
        return
    re = of_process("re")
    with outside():
        re.sub("(.)", r"\\1", "x")
    _re_is_bound = True


class Supply:
    """What one engine gets from elsewhere. IMPORT_MODULE imports into the engine."""

    def __init__(self, import_module: Callable[[str], Any], sharing: Sharing) -> None:
        self.sharing = sharing
        self._engine = getattr(import_module, "__self__", None)
        self.exits = Exits(self._engine)
        self._import = import_module
        self.made: Mapping[str, ModuleType] = self.exits.modules()

    @trimmed
    def find(self, name: str) -> ModuleSpec | None:
        """The spec of module NAME if no search is to be made for it: load() gives it. Errors are those of an import by the process."""
        if name in FIRST:
            self._import(FIRST[name])
        module = self._given(name)
        if module is None:
            return None
        spec = getattr(module, "__spec__", None)
        return spec if spec is not None and spec.name == name else ModuleSpec(name, None)

    @trimmed
    def load(self, spec: ModuleSpec, stock: Callable[[ModuleSpec], ModuleType], modules: dict[str, Any]) -> ModuleType:
        """The module of SPEC, in MODULES: one that find() gave, one of the process, or what STOCK (the engine's `_load_unlocked`) loads."""
        module = self._given(spec.name)
        if module is None and self.sharing.shares_found(spec):
            module = of_process(spec.name)
            self._adopted(spec.name, module)
        if module is None:
            return self._load_c(spec, stock, modules) if _is_c(spec) else stock(spec)
        modules[spec.name] = module
        follow(self._engine, module, None)
        return module

    def close(self) -> None:
        """The engine ends: its exit functions run."""
        self.exits.close()

    @trimmed
    def _given(self, name: str) -> ModuleType | None:
        """NAME if it is known without a search."""
        if name in self.made:
            return self.made[name]
        if sys.version_info < (3, 12) and name == "_pickle" and not self.sharing.asked(name) and "_pickle" not in self.sharing.share:
            return _pickle_with(of_process(name), self._import("copyreg"), self._import("builtins"))
        if not self.sharing.shares(name):
            return None
        module = of_process(name)
        self._adopted(name, module)
        return module

    def _adopted(self, name: str, module: ModuleType) -> None:
        """MODULE of the process comes into this engine: tell the engine's modules what the process's were told when it was loaded."""
        if name == "_decimal":
            self._import("numbers").Number.register(module.Decimal)
            self._import("collections.abc").MutableMapping.register(type(module.Context().flags))
        elif name == "array":
            self._import("collections.abc").MutableSequence.register(module.array)
        elif name == "_sre":
            _bind_re()

    @trimmed
    def _load_c(self, spec: ModuleSpec, stock: Callable[[ModuleSpec], ModuleType], modules: dict[str, Any]) -> ModuleType:
        """A C module that is not taken from the process. Engines have locks of their own, the C code of one file has one state: it is loaded by one thread at a time."""
        lock = _loading.setdefault((spec.name, spec.origin), _ModuleLock(spec.name))
        try:
            lock.acquire()
        except _DeadlockError:  # the one who loads it waits for us: go on as importlib does
            return self._load_c_alone(spec, stock, modules)
        try:
            return self._load_c_alone(spec, stock, modules)
        finally:
            lock.release()

    @trimmed
    def _load_c_alone(self, spec: ModuleSpec, stock: Callable[[ModuleSpec], ModuleType], modules: dict[str, Any]) -> ModuleType:
        former, asked = _former(spec), self.sharing.asked(spec.name)
        one = not asked and spec.name not in OWN
        if former is not None and one and _once_only(former):
            modules[spec.name] = former
            return former
        module = _load_withdrawn(spec, stock) if former is None else self._load_again(former, spec, stock)
        if module is former:
            modules.setdefault(spec.name, module)
        kind = _engines.module_kind(module if former is None else former)
        single = kind is not None and kind[0] == SINGLE
        if former is None and (single or one and _once_only(module)):
            _keep(module, spec)
        elif former is None and kind is not None:
            _first[spec.name, spec.origin] = module
        if asked and kind is not None and single and kind[1] != 0:
            modules.pop(spec.name, None)
            raise ImportError(f"{spec.name} cannot have objects of its own in an engine: its C code knows one object only", name=spec.name, path=spec.origin)
        return module

    @trimmed
    def _load_again(self, former: ModuleType, spec: ModuleSpec, stock: Callable[[ModuleSpec], ModuleType]) -> ModuleType:
        """Another object of the C module of FORMER, or FORMER if there is none: its C code may refuse a second one, or give the first."""
        state, leading = _engines.state_of(former), _lead_here(former)
        try:
            return _load_withdrawn(spec, stock)
        except ImportError:
            if self.sharing.asked(spec.name) or not _is_single(former):
                raise
            return former
        finally:
            if state is not None:
                _engines.restore_state(former, state)
            _lead_to(former, leading)
