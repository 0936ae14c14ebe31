# SPDX-License-Identifier: MIT
"""What a reload says."""
from __future__ import annotations

from dataclasses import dataclass, field


class ReloadError(ImportError):
    """Nothing was changed. ``name`` and ``path`` of the module that failed, ``line`` in it (None: not known), ``chain``: that module, who imports it, who
    imports that, ... The original exception is the ``__cause__``."""

    def __init__(self, text: str, *, name: str | None = None, path: str | None = None, line: int | None = None, chain: tuple[str, ...] = ()) -> None:
        super().__init__(text, name=name, path=path)
        self.text, self.line, self.chain = text, line, chain

    def again(self) -> ReloadError:
        """The same for another thread."""
        other = ReloadError(self.text, name=self.name, path=self.path, line=self.line, chain=self.chain)
        other.__cause__ = self.__cause__
        return other


@dataclass(frozen=True)
class Reloaded:
    """What a reload did. Names of modules, in the order of their execution."""

    changed: tuple[str, ...] = ()  # their sources had
    executed: tuple[str, ...] = ()  # these, new ones that they import, and who depends on them
    removed: tuple[str, ...] = ()  # their sources are gone
    skipped: dict[str, str] = field(default_factory=dict)  # changed, but never executed again: why
    duration: float = 0.0  # seconds
    replaced: tuple[str, ...] = ()  # in place: functions and classes that could not keep their identity

    def __bool__(self) -> bool:
        return bool(self.executed or self.removed)


def _line_in(path: str | None, error: BaseException) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def failure(name: str, path: str | None, error: BaseException, chain: tuple[str, ...]) -> ReloadError:
    """ERROR in module NAME, whose source is PATH. CHAIN: NAME, who imports it, who imports that."""
    line = _line_in(path, error)
    where = f" ({path}{f', line {line}' if line else ''})" if path else ""
    via = f"; imported by {', by '.join(chain[1:])}" if len(chain) > 1 else ""
    result = ReloadError(f"{name}{where}: {type(error).__name__}: {error}{via}; nothing was changed", name=name, path=path, line=line, chain=chain)
    result.__cause__ = error
    return result
