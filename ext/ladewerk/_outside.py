# SPDX-License-Identifier: MIT
"""What is the process's business stays so within `with engine:`. Imports nothing that costs: the first use of an engine brings what there is to know."""
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import ContextVar, Token

KEY = "__ladewerk_engine__"  # in the dictionary of an engine's builtins: the engine

context: "ContextVar[Any] | None" = None  # what `with engine:` sets; None: there has been no engine yet
OUTSIDE = (None, None)  # what it is set to by outside()


class outside:
    """Within `with outside():` code that is no engine's imports for the process, and finds the process's modules, also within `with engine:` and with an engine's `__import__` in place
    of the built-in."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token: "Token[Any] | None" = None if context is None else context.set(OUTSIDE)

    def __exit__(self, *error: object) -> None:
        if context is not None and self._token is not None:
            context.reset(self._token)


def engine_of(module: ModuleType) -> Any:
    """The engine that has loaded MODULE, or None."""
    return engine_of_globals(vars(module))


def engine_of_globals(globals: "Mapping[str, Any]") -> Any:
    """The same of its dictionary."""
    builtins = globals.get("__builtins__")
    return builtins.get(KEY) if isinstance(builtins, dict) else None
