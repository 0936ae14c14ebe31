# SPDX-License-Identifier: MIT
"""Half-made modules that an engine has of another state: those of the process that it was given in a circle, and those that from_engine() has found being executed.

Within one state importlib waits for a module's lock, takes a module away whose body fails, and enters what the body has put in its place. Here it would do so in the other state alone: the
engine would hand out the half module at once, and keep it for good. So who imports it in the engine waits in the other state; and the spec of such a module tells when its import is
over: importlib and Ladewerk both say it by setting `_initializing`, when they have changed the other state's modules and still hold the module's lock.
"""

import weakref
from typing import Any

from ladewerk import _engines
from ladewerk._engine._sharing import loaded_in_process, wait_in_process

_HOLDERS = "_ladewerk_engines"  # in the dictionary of the spec: [(weak reference to an engine, the state that it has the module of)]; a state is an engine, or None: the process


def _half(module: Any) -> Any:
    """The spec of MODULE if its body is being executed, else None. Lazy modules and proxies are not woken."""
    try:
        spec = object.__getattribute__(module, "__dict__").get("__spec__")
    except Exception:  # anything may be among the modules
        return None
    return spec if getattr(spec, "_initializing", False) else None


def follow(engine: Any, module: Any, state: Any) -> None:
    """ENGINE has MODULE of STATE among its modules: if it is half made, then from when its import is over on as STATE has it.

    Threads: any.
    """
    spec = _half(module)
    if spec is None or state is engine:
        return
    kind = type(spec)
    try:
        holders = vars(spec).setdefault(_HOLDERS, [])
        if any(of is engine for _, of in holders):  # who has it of ENGINE: it is back where it came from, and followed there
            return
        holders.append((weakref.ref(engine), state))
        if not _tells(kind):
            spec.__class__ = type(kind.__name__, (kind,), {"__slots__": (), "__module__": kind.__module__, "_initializing": _initializing})
    except TypeError:  # a spec of somebody's, of another layout
        return
    if not spec._initializing:  # meanwhile it has ended, perhaps without us
        _settle_for(engine, state, spec)
        _end(spec)


def wait_elsewhere(engine: Any, module: Any) -> None:
    """If ENGINE has MODULE half made of another state: until its body is done there; in a circle, not."""
    spec = _half(module)
    for holder, state in () if spec is None else tuple(getattr(spec, "__dict__", {}).get(_HOLDERS, ())):
        if holder() is engine:
            (wait_in_process if state is None else getattr(state, "_wait", wait_in_process))(spec.name)


def _say(spec: Any, value: bool) -> None:
    if not value:  # who sees that it is over must not find what was there before
        _settle(spec)
    vars(spec)["_initializing"] = value
    if not value:
        _end(spec)


# What the class of the spec of such a module has until its import is over.
_initializing = property(lambda spec: vars(spec)["_initializing"], _say)


def _tells(kind: type) -> bool:
    return vars(kind).get("_initializing") is _initializing


def _end(spec: Any) -> None:
    """The import is over; some may have begun to follow while that was said."""
    _settle(spec)
    vars(spec).pop(_HOLDERS, None)
    kind = type(spec)
    if _tells(kind):
        spec.__class__ = kind.__base__


def _settle(spec: Any) -> None:
    for holder, state in tuple(vars(spec).get(_HOLDERS, ())):
        engine = holder()
        if engine is not None:
            _settle_for(engine, state, spec)


def _settle_for(engine: Any, state: Any, spec: Any) -> None:
    _settle_in(_stored(engine), spec, loaded_in_process(spec.name) if state is None else _stored(state).get(spec.name))


def _stored(engine: Any) -> dict[str, Any]:
    modules: dict[str, Any] = _engines.Engine.modules.__get__(engine)  # type: ignore[attr-defined]
    return modules


def _settle_in(modules: dict[str, Any], spec: Any, now: Any) -> None:
    """What is in MODULES by SPEC becomes NOW, or goes, and with it the name in its package."""
    name: str = spec.name
    module = modules.get(name)
    if module is None or module is now or getattr(module, "__spec__", None) is not spec:
        return
    parent, _, child = name.rpartition(".")
    names: dict[str, Any] = getattr(modules.get(parent), "__dict__", {})
    for held, key in ((modules, name), (names, child)):
        if held.get(key) is not module:
            continue
        if now is None:
            held.pop(key, None)
        else:
            held[key] = now
