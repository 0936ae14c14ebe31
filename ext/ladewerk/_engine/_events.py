# SPDX-License-Identifier: MIT
"""Who is told of imports: ``ladewerk.on_import()``, and the hook ``on_import`` of an engine's class."""

import sys
import weakref
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ladewerk import _native

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from ladewerk._engine._classes import Surface
    _Kind = Literal["found", "loading", "loaded", "failed", "reused"]

KINDS: "tuple[_Kind, ...]" = ("found", "loading", "loaded", "failed", "reused")


class ImportEvent(NamedTuple):
    """Something has happened in an import.

    ``found``: a finder has a spec. ``loading``: its loader begins. ``loaded`` and ``failed``: the import is over. ``reused``: the module was there.
    """

    kind: "_Kind"
    importee: str  #: name of the module
    importer: str | None  #: ``__name__`` of the code that imports, importlib's own left out
    spec: "ModuleSpec | None"  #: None: nothing was found, or the module has none
    duration: float | None  #: seconds from the beginning of the import to its end, with what it imported itself; of ``loaded`` and ``failed``
    thread: int  #: as threading.get_ident()
    error: BaseException | None  #: of ``failed``


class Listening:
    """One callback that is told of imports, until close() or the end of `with`."""

    def __init__(self, listeners: "Listeners", entry: object) -> None:
        self._listeners, self._entry = weakref.ref(listeners), entry

    def close(self) -> None:
        """No import that begins later is told. Idempotent; any thread."""
        listeners = self._listeners()
        if listeners is not None:
            listeners.remove(self._entry)
        self._entry = None

    def __enter__(self) -> "Listening":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Listeners:
    """Those who are told of the imports of one state. LISTEN is what `_native` has for it."""

    def __init__(self, listen: Callable[[Any, Any], object]) -> None:
        self._listen = listen
        self._lock = allocate_lock()
        self._entries: tuple[tuple[frozenset[str], Callable[[ImportEvent], object]], ...] = ()

    def add(self, callback: Callable[[ImportEvent], object], kinds: "Iterable[_Kind]") -> Listening:
        wanted = frozenset(kinds)
        if not callable(callback):
            raise TypeError(f"on_import() takes a callable, not {type(callback).__name__}")
        if not wanted <= set(KINDS):
            raise ValueError(f"there are no events {', '.join(sorted(wanted - set(KINDS)))}; there are {', '.join(KINDS)}")
        entry = (wanted, callback)
        with self._lock:
            self._set((*self._entries, entry))
        return Listening(self, entry)

    def remove(self, entry: object) -> None:
        with self._lock:
            rest = tuple(other for other in self._entries if other is not entry)
            if len(rest) < len(self._entries):
                self._set(rest)

    def _set(self, entries: tuple[tuple[frozenset[str], Callable[[ImportEvent], object]], ...]) -> None:
        kinds = frozenset[str]().union(*(wanted for wanted, _ in entries))
        self._listen(self._tell if entries else None, kinds)
        self._entries = entries

    def _tell(self, kind: "_Kind", importee: str, importer: str | None, spec: "ModuleSpec | None", ns: int, error: BaseException | None) -> None:
        event = ImportEvent(kind, importee, importer, spec, ns / 1e9 if kind in ("loaded", "failed") else None, get_ident(), error)
        for wanted, callback in self._entries:
            if kind in wanted:
                try:
                    callback(event)
                except BaseException as problem:
                    _report(problem, callback)


def _report(problem: BaseException, callback: object) -> None:
    """A listener's trouble is not the importer's."""
    hook: Any = sys.unraisablehook
    hook(SimpleNamespace(exc_type=type(problem), exc_value=problem, exc_traceback=problem.__traceback__, err_msg="Exception ignored in an import listener", object=callback))


_process = Listeners(_native.listen)


def listeners_of(engine: "Surface | None") -> Listeners:
    """Those of ENGINE; None, or the engine of the process's own state: those of the process."""
    inside = getattr(engine, "_inside", None)
    if inside is None:
        if engine is not None:
            engine._check()
        return _process
    found: Listeners = vars(engine).setdefault("_listeners", Listeners(inside.listen))
    return found


def on_import(callback: Callable[[ImportEvent], object], *, kinds: "Iterable[_Kind]" = KINDS, engine: "Surface | None" = None) -> Listening:
    """Have CALLBACK(event) called for imports of the process's own state, or of ENGINE. -> a handle with close(), usable in `with`.

    It is called by the thread that imports: at ``found`` and ``loading`` with the module's lock held, as finders and loaders are; else without. What it raises goes
    to sys.unraisablehook(), what it imports itself is not told. KINDS are the events wanted. While ``reused`` is one of them every import statement calls a function;
    without a listener there is no cost. Raises RuntimeError on an interpreter whose import system is not as known.
    """
    return listeners_of(engine).add(callback, kinds)


on_import.__module__ = ImportEvent.__module__ = Listening.__module__ = "ladewerk"
