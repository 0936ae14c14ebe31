# SPDX-License-Identifier: MIT
"""The C side of import engines."""

from contextvars import ContextVar
from types import ModuleType
from typing import Any

from typing_extensions import disjoint_base

_api: Any
context: ContextVar[Any]

@disjoint_base
class Engine:
    """One import state. ladewerk.ImportEngine is what users make."""

    modules: dict[str, Any]
    sys: Any
    builtins: Any
    _imp: Any
    _bootstrap: Any
    _external: Any
    _find_and_load: Any
    _wait: Any
    _guard: Any

def current() -> Any: ...
def entered() -> None: ...
def make_sys() -> Any: ...
def module_kind(object: object, /) -> tuple[int, int, int] | None: ...
def restore_state(object: ModuleType, module: ModuleType, /) -> bool: ...
def route() -> None: ...
def state_of(object: object, /) -> ModuleType | None: ...
