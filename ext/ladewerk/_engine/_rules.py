# SPDX-License-Identifier: MIT
"""Rules: who may have which module of an engine. They are deny() and an allow() that the engine's class overrides; without any of them nobody asks.

They are asked wherever code can ask for a module by its name, there already or not: by C code for an import statement (router.c), by the functions of the engine's importlib, by the
engine's `sys.modules`, and for a submodule as an attribute of its package.

Who asks is found by looking at the stack (importers()), not by what a namespace says of itself. An engine is no sandbox: who has got hold of another module's namespace, of a frame, or
of ctypes or gc needs no import.
"""

import sys
import weakref
from _thread import RLock
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

# What imports on behalf of whoever calls it, by the name of the module (its submodules are meant as well).
_HELPERS = frozenset({"importlib", "_frozen_importlib", "_frozen_importlib_external", "pkgutil", "runpy", "imp", "zipimport", "pickle", "_compat_pickle", "pydoc"})

_OPTIMIZED = 1  # inspect.CO_OPTIMIZED: a function's code has it, that of a module's body and of exec() has not


class ImportDenied(ImportError):
    """A rule of the engine says that `importer` may not have the module `name`. `rule`: what says so."""

    importer: str
    rule: object


class Rule(NamedTuple):
    """What deny() was told."""

    names: tuple[str, ...]
    importers: tuple[str, ...]
    because: str | None

    def denies(self, name: str, importer: str) -> bool:
        return any(_matches(pattern, name) for pattern in self.names) and any(_matches(pattern, importer) for pattern in self.importers)

    def __str__(self) -> str:
        return f"deny({', '.join(map(repr, self.names))}, importers={self.importers!r})" + (f": {self.because}" if self.because else "")


def _matches(pattern: str, name: str) -> bool:
    """PATTERN is a name, which means what is below it as well; `a.*`, what is below a alone; or `*`."""
    below = pattern.endswith(".*")
    return pattern == "*" or name.startswith(pattern.removesuffix("*") if below else pattern + ".") or (name == pattern and not below)


# --- who asks ---


def _is_namespace_of(name: str, space: dict[str, Any], modules: dict[str, Any]) -> bool:
    """SPACE is that of module NAME: of the engine, or of the process."""
    return any(getattr(dict.get(known, name), "__dict__", None) is space for known in (modules, sys.modules))


def _is_helper(name: str) -> bool:
    return name.partition(".")[0] in _HELPERS or name == "ladewerk.engine" or name.startswith("ladewerk._engine")


def importers(modules: dict[str, Any], frame: FrameType | None) -> Iterator[str]:
    """The names of those for whom the code of FRAME asks, in an engine with MODULES: of the first module on the stack that does not ask for somebody else.

    A namespace that is no module's belongs to whoever runs code in it. A module's, in which exec() runs code although its body is done, to both of them.
    """
    while frame is not None:
        space, in_function = frame.f_globals, bool(frame.f_code.co_flags & _OPTIMIZED)
        name = space.get("__name__")
        if isinstance(name, str) and _is_namespace_of(name, space, modules) and not (in_function and _is_helper(name)):
            yield name
            if in_function or getattr(space.get("__spec__"), "_initializing", False):
                return
        frame = frame.f_back


# --- asking ---


class Rules:
    """The rules of one engine."""

    def __init__(self, engine: Any, modules: dict[str, Any]) -> None:
        self.denied: tuple[Rule, ...] = ()
        self._engine, self.modules = engine, modules
        self.kinds: weakref.WeakSet[type] = weakref.WeakSet()  # of packages that hand out submodules

    def check(self, name: str) -> None:
        """ImportDenied if code that has called this may not have module NAME."""
        for importer in tuple(importers(self.modules, sys._getframe(1))) or ("",):
            rule = self._against(name, importer)
            if rule is not None:
                error = ImportDenied(f"{importer or 'this code'} may not import {name}, says {rule} of {self._engine!r}", name=name)
                error.importer, error.rule = importer, rule
                raise error

    def may(self, name: object) -> bool:
        try:
            if isinstance(name, str):
                self.check(name)
        except ImportDenied:
            return False
        return True

    def _against(self, name: str, importer: str) -> object:
        for rule in self.denied:
            if rule.denies(name, importer):
                return rule
        if self._engine.allow(name, importer):
            return None
        return f"{type(self._engine).__module__}.{type(self._engine).__qualname__}.allow()"


# --- sys.modules ---


def _shown(rules: Rules, modules: dict[str, Any]) -> dict[str, Any]:
    """What stands in front of MODULES, less what the code that looks may not have. Its own storage is empty, for those who read that of a dict."""

    class _Modules(dict[str, Any]):
        __slots__ = ()

        def __getitem__(self, name: str) -> Any:
            value = modules[name]
            rules.check(name)
            return value

        def get(self, name: str, default: Any = None) -> Any:
            if name in modules:
                rules.check(name)
            return modules.get(name, default)

        def setdefault(self, name: str, default: Any = None) -> Any:
            rules.check(name)
            return modules.setdefault(name, default)

        def pop(self, name: str, *default: Any) -> Any:
            rules.check(name)
            return modules.pop(name, *default)

        def popitem(self) -> tuple[str, Any]:
            rules.check(next(reversed(modules), ""))
            return modules.popitem()

        def __setitem__(self, name: str, module: Any) -> None:
            modules[name] = module

        def __delitem__(self, name: str) -> None:
            del modules[name]

        def update(self, *args: Any, **kwargs: Any) -> None:
            modules.update(*args, **kwargs)

        def clear(self) -> None:
            modules.clear()

        def copy(self) -> dict[str, Any]:
            return {name: value for name, value in list(modules.items()) if rules.may(name)}

        def keys(self) -> Any:
            return self.copy().keys()

        def values(self) -> Any:
            return self.copy().values()

        def items(self) -> Any:
            return self.copy().items()

        def __iter__(self) -> Iterator[str]:
            return iter(self.copy())

        def __reversed__(self) -> Iterator[str]:
            return reversed(self.copy())

        def __len__(self) -> int:
            return len(self.copy())

        def __contains__(self, name: object) -> bool:
            return name in modules and rules.may(name)

        def __eq__(self, other: object) -> bool:
            return self is other or self.copy() == other

        def __or__(self, other: Any) -> Any:
            return self.copy() | other

        def __ror__(self, other: Any) -> Any:
            return other | self.copy()

        def __ior__(self, other: Any) -> Any:
            modules.update(other)
            return self

        def __repr__(self) -> str:
            return repr(self.copy())

    return _Modules()


def put_modules(engine: Any, modules: dict[str, Any]) -> None:
    """`sys.modules` of ENGINE, which has rules: MODULES, less what the code that looks may not have."""
    rules: Rules = engine._rules
    rules.modules = modules
    front = _shown(rules, modules)
    if type(modules) is dict:
        engine._inside.store(front, modules)
    engine.sys.modules = front


# --- submodules as attributes ---


def _attribute(rules: Rules, name: str) -> property:
    child = name.rpartition(".")[2]

    def get(package: Any) -> Any:
        try:
            value = vars(package)[child]
        except KeyError:
            raise AttributeError(f"module {package.__name__!r} has no attribute {child!r}", name=child, obj=package) from None
        if isinstance(value, ModuleType):
            rules.check(name)
        return value

    def put(package: Any, value: Any) -> None:
        vars(package)[child] = value

    def delete(package: Any) -> None:
        try:
            del vars(package)[child]
        except KeyError:
            raise AttributeError(child, name=child, obj=package) from None

    return property(get, put, delete)


def _asking_kind(kind: Any) -> type:
    """A subclass of KIND, a class of modules, for properties. From 3.14 on specialised code looks into a module's dictionary without a look at what its class has,
    unless the class has a `__getattribute__` of its own.
    """
    def look_up(package: Any, name: str) -> Any:
        return kind.__getattribute__(package, name)

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, **({"__getattribute__": look_up} if sys.version_info >= (3, 14) else {})})


def guard_attribute(rules: Rules, own_builtins: dict[str, Any], name: str) -> None:
    """Have the package that module NAME is in, if it is the engine's own, ask before it hands NAME out as an attribute: its class gets a property, which comes before what is bound."""
    parent, _, child = name.rpartition(".")
    package = rules.modules.get(parent) if parent else None
    if not isinstance(package, ModuleType) or vars(package).get("__builtins__") is not own_builtins:
        return
    kind = type(package)
    if kind not in rules.kinds:
        kind = _asking_kind(kind)
        try:
            package.__class__ = kind
        except TypeError:  # of another layout
            return
    rules.kinds.add(kind)
    if child not in vars(kind):
        setattr(kind, child, _attribute(rules, name))


# --- putting them in ---


def _replace(engine: Any, name: str, wrapped: Callable[..., Any]) -> None:
    """importlib._bootstrap.NAME of ENGINE, also where modules of its importlib have taken the name from there."""
    was = getattr(engine._bootstrap, name)
    for module in (engine._bootstrap, *(module for key, module in list(engine._rules.modules.items()) if key.partition(".")[0] in _HELPERS)):
        if getattr(module, "__dict__", {}).get(name) is was:
            setattr(module, name, wrapped)


_adding = RLock()


def add(engine: Any, *more: Rule) -> None:
    """From now on MORE hold in ENGINE as well. Any thread."""
    with _adding:
        rules: Rules = engine._rules or activate(engine, engine.modules)
        rules.denied = (*rules.denied, *more)


def activate(engine: Any, modules: dict[str, Any]) -> Rules:
    """From now on the rules of ENGINE, whose modules are in MODULES, are asked. Once for an engine."""
    rules: Rules = Rules(engine, modules)
    engine._rules = rules
    bootstrap, own_builtins, check, inside = engine._bootstrap, vars(engine.builtins), rules.check, engine._inside
    find_and_load, find_spec, module_from_spec, load = engine._find_and_load, bootstrap._find_spec, bootstrap.module_from_spec, bootstrap._load_unlocked

    def begin(name: str) -> None:
        try:
            check(name)
        except ImportDenied as error:
            inside.failed(name, error.importer or None, error)
            raise

    def asking_find_and_load(name: str, import_: Any, **more: Any) -> Any:
        begin(name)
        return find_and_load(name, import_, **more)

    def asking_find_spec(name: str, path: Any, target: Any = None) -> Any:
        check(name)
        return find_spec(name, path, target)

    def asking_module_from_spec(spec: Any) -> Any:
        check(spec.name)
        return module_from_spec(spec)

    def asking_load(spec: Any) -> Any:
        check(spec.name)
        guard_attribute(rules, own_builtins, spec.name)
        module = load(spec)
        guard_attribute(rules, own_builtins, spec.name)  # the package may have become another meanwhile
        return module

    replaced: dict[str, Callable[..., Any]] = {"_find_spec": asking_find_spec, "module_from_spec": asking_module_from_spec, "_load_unlocked": asking_load}
    inside.rule(lambda name: guard_attribute(rules, own_builtins, name), {name: (getattr(bootstrap, name), wrapped) for name, wrapped in replaced.items()})
    for name, wrapped in replaced.items():
        _replace(engine, name, wrapped)
    # With the engine's builtins it is code of the engine, which it has to be: what it calls goes by who is running.
    space = {"__builtins__": own_builtins, "__name__": __name__}
    bootstrap._find_and_load = engine._find_and_load = FunctionType(asking_find_and_load.__code__, space, "_find_and_load", None, asking_find_and_load.__closure__)
    for name in list(modules):
        guard_attribute(rules, own_builtins, name)
    put_modules(engine, modules)
    engine._guard = begin
    return rules


ImportDenied.__module__ = "ladewerk"
