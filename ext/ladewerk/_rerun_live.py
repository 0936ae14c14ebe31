# SPDX-License-Identifier: MIT
"""`ladewerk run --reload=live`, in the program: a thread that reloads when the supervisor says that sources have changed."""
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from ladewerk import Reloaded, ReloadError

SIZE = 1 << 17


def _modules_from(path: str) -> list[ModuleType]:
    from types import ModuleType

    found = []
    for module in list(sys.modules.values()):
        names = vars(module) if isinstance(module, ModuleType) else {}
        if names.get("__file__") == path or getattr(names.get("__spec__"), "origin", None) == path:
            found.append(module)
    return found


def _why_not(path: str, done: Reloaded) -> str | None:
    """Why what has changed at PATH is not in what was DONE; None: it is, or need not be."""
    from importlib.machinery import SourceFileLoader

    modules = _modules_from(path)
    if not modules:
        return "an import had looked for it" if os.path.exists(path) and not done else None
    for module in modules:
        if module.__name__ == "__main__":
            return "it is the program itself"
        if vars(module).get("__ladewerk_reload__") is False:
            return "it has opted out of reloads"
        if type(getattr(module, "__loader__", None)) is not SourceFileLoader:
            return "it is not a source that can be executed again"
    return None


def _describe(error: ReloadError) -> str:
    where = "" if error.path is None else f"{error.path}:{error.line}: " if error.line else f"{error.path}: "
    return f"not reloaded: {where}{error}"


def serve(fd: int, roots: tuple[str, ...]) -> None:
    """For each message, the paths that have changed: reload, and answer `loud TEXT`, `quiet` or `restart WHY`."""
    reloader = None
    while True:
        try:
            message = os.read(fd, SIZE)
        except OSError:
            return
        if not message:
            return
        paths = [os.fsdecode(path) for path in message.split(b"\0")]
        from ladewerk import Reloader, ReloadError

        if reloader is None:
            reloader = Reloader(roots or None)
        try:
            done = reloader.reload()
        except ReloadError as error:
            answer = "loud", _describe(error)
        except BaseException as error:  # a finder's, or a body's that is no Exception
            answer = "loud", f"not reloaded: {type(error).__name__}: {error}"
        else:
            why = next((f"{path}: {why}" for path in paths if (why := _why_not(path, done))), None)
            if why is not None:
                answer = "restart", why
            elif done:
                answer = "loud", f"reloaded {', '.join((*done.executed, *(f'{name} (removed)' for name in done.removed)))}"
            else:
                answer = "quiet", ""
        try:
            os.write(fd, "\0".join(answer).encode(errors="surrogateescape"))
        except OSError:
            return
