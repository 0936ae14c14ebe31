# SPDX-License-Identifier: MIT
"""What an engine's modules register for the end, and for forks.

The process's registries hold what is registered for ever, so logging alone (`atexit.register(shutdown)`, `os.register_at_fork(...)`) would keep its engine alive. Inside an engine
`atexit` is a module of its own, and `posix` (so `os`) has a register_at_fork() of its own; both put functions into the engine's Exits, which the process knows weakly.

An engine's exit functions run once, last registered first: when it is closed, when it is freed, or at the interpreter's end, whichever comes first. What they raise is
reported as unraisable and the others run. At the interpreter's end those of one engine run together, where the first that it registered would have run.

Threads: any. Each change of what is registered is one operation of a dict or a list. What compares functions runs other code, so it looks at a copy.
"""

import _imp
import atexit
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, TypeVar

from ladewerk._engine._sharing import of_process

_Function = TypeVar("_Function", bound=Callable[..., object])


def _report(function: object, error: BaseException) -> None:
    sys.unraisablehook(SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=error.__traceback__, err_msg="Exception ignored in", object=function))


def _copy(module: ModuleType, **replaced: object) -> ModuleType:
    """A module object of an engine's own, with what MODULE of the process has in it, but for REPLACED."""
    copy = ModuleType(module.__name__, module.__doc__)
    vars(copy).update(vars(module))
    vars(copy).update(replaced)
    return copy


def _second(module: ModuleType, **replaced: object) -> ModuleType:
    """The same of MODULE, which is built in, for one whose C code asks for a module of its name and takes its state: it has one."""
    spec = module.__spec__
    assert spec is not None
    second = _imp.create_builtin(spec)
    _imp.exec_builtin(second)
    vars(second).clear()
    vars(second).update(vars(module))
    vars(second).update(replaced)
    return second


class Exits:
    """What the modules of ENGINE have registered."""

    def __init__(self, engine: Any = None) -> None:
        self._engine = engine
        self._at_exit: dict[object, tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = {}  # the keys mean nothing
        self._at_fork: dict[str, list[Callable[[], object]]] = {"before": [], "after_in_child": [], "after_in_parent": []}
        self._known = False
        _live[id(self)] = self

    def register(self, function: _Function, /, *args: Any, **kwargs: Any) -> _Function:
        """atexit.register() of the engine."""
        if not callable(function):
            raise TypeError("the first argument must be callable")
        if not self._known:
            self._known = True
            _at_exit_of(self)
        self._at_exit[object()] = (function, args, kwargs)
        return function

    def unregister(self, function: object, /) -> None:
        """atexit.unregister() of the engine."""
        for key, entry in self._at_exit.copy().items():
            if entry[0] == function:
                self._at_exit.pop(key, None)

    def run(self) -> None:
        """Run the exit functions, and those that they register."""
        while True:
            try:
                _, (function, args, kwargs) = self._at_exit.popitem()
            except KeyError:  # no more
                return
            try:
                with self._inside(function):
                    function(*args, **kwargs)
            except BaseException as error:  # as atexit does
                _report(function, error)

    def _inside(self, function: object) -> AbstractContextManager[object]:
        """What FUNCTION is called in: one that is not Python's cannot be seen to be the engine's."""
        if isinstance(function, FunctionType) or getattr(self._engine, "_find_and_load", None) is None:
            return nullcontext()
        return self._engine  # type: ignore[no-any-return]

    def clear(self) -> None:
        """Forget the exit functions."""
        self._at_exit.clear()

    def count(self) -> int:
        """How many exit functions there are."""
        return len(self._at_exit)

    def register_at_fork(self, **functions: Callable[[], object]) -> None:
        """os.register_at_fork() of the engine."""
        if not functions:
            raise TypeError("At least one argument is required.")
        for when, function in functions.items():
            if when not in self._at_fork:
                raise TypeError(f"register_at_fork() got an unexpected keyword argument '{when}'")
            if not callable(function):
                raise TypeError(f"'{when}' must be callable, not {type(function).__name__}")
        for when, function in functions.items():
            self._at_fork[when].append(function)

    def forked(self, when: str) -> None:
        """Run what was registered for WHEN, in the order that os.register_at_fork() promises."""
        functions = self._at_fork[when][:]
        for function in reversed(functions) if when == "before" else functions:
            try:
                with self._inside(function):
                    function()
            except BaseException as error:  # as the interpreter does
                _report(function, error)

    def close(self) -> None:
        """The end of the engine: its exit functions run, and nothing is called at a fork any more."""
        self.run()
        for functions in self._at_fork.values():
            functions.clear()

    def __del__(self) -> None:
        # The collector calls it while all of the engine's objects are still whole.
        self.close()

    def modules(self) -> Mapping[str, ModuleType]:
        """The modules that lead here, of the engine's own."""
        return _Made(
            atexit=lambda: _copy(of_process("atexit"), register=self.register, unregister=self.unregister, _clear=self.clear, _run_exitfuncs=self.run, _ncallbacks=self.count),
            posix=lambda: _second(of_process("posix"), register_at_fork=self.register_at_fork),
        )


class _Made(dict[str, Any]):
    """Modules by name, made when they are first asked for (within the lock of the module)."""

    def __getitem__(self, name: str) -> ModuleType:
        module: ModuleType | Callable[[], ModuleType] = super().__getitem__(name)
        if not isinstance(module, ModuleType):
            self[name] = module = module()
        return module


# In the order in which they were made.
_live: "weakref.WeakValueDictionary[int, Exits]" = weakref.WeakValueDictionary()


def _at_exit_of(exits: Exits) -> None:
    """Let the process's atexit run EXITS, if it is there by then."""
    weak = weakref.ref(exits)

    def run() -> None:
        there = weak()
        if there is not None:
            there.run()
    weakref.finalize(exits, atexit.unregister, run).atexit = False
    atexit.register(run)


def _forked(when: str) -> None:
    """Run what engines have registered."""
    engines = [exits for weak in _live.valuerefs() if (exits := weak()) is not None]
    for exits in reversed(engines) if when == "before" else engines:
        exits.forked(when)


os.register_at_fork(before=lambda: _forked("before"), after_in_child=lambda: _forked("after_in_child"), after_in_parent=lambda: _forked("after_in_parent"))
