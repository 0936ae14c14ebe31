# SPDX-License-Identifier: MIT
"""What those who manage modules (autoloaders) have to say in a reload. This one only waits for imports under way; ladewerk._autoload._replace has theirs.

One Share is made for each transaction, and used by its thread only:

    roots, stamp, has_autoloaders    at any time
    with share:          what the reload itself is led to is as it will be; others see nothing of it
        plan             concerns, keeps, restructured, unfound, canonical, others
        settle, unloaded before anything is executed: waits for imports under way, tells of what goes
        prepare, executed    before and after each body
        hold             no import of what is replaced is under way, and none begins; changes are part of the step; release
        took, committed  after the step
    abandoned            nothing was changed
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ladewerk._quiet import Quiet
from ._errors import ReloadError

if TYPE_CHECKING:
    from ._sources import Stamp
    from ._plan import Plan


class Overtaken(ReloadError):
    """Another thread was faster: look again."""


class Share:
    """By default: nobody manages anything."""

    _quiet: tuple[set[str], Quiet] | None = None

    def __enter__(self) -> Share:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    # --- which modules ---

    def roots(self) -> tuple[str, ...]:
        """Directories that are looked after, wherever they are; each ends with a separator."""
        return ()

    def has_autoloaders(self) -> bool:
        """Whether a new file may be of interest although nobody has imported it."""
        return False

    def source(self, name: str) -> str:
        """The .py file of module NAME; "": not known."""
        return ""

    def concerns(self, name: str) -> bool:
        """Whether this reload looks if module NAME has changed."""
        return True

    def keeps(self, name: str) -> bool:
        """Whether NAME is not executed again although it depends on what has changed."""
        return False

    def restructured(self, name: str) -> bool:
        """Whether package NAME has got or lost directories: it is made anew, executed or not."""
        return False

    def unfound(self, name: str) -> bool:
        """Whether there is no package NAME any more, although a directory of that name is there."""
        return False

    def canonical(self, name: str) -> str:
        """The name of the module that an import of NAME gives."""
        return name

    def others(self, name: str) -> Iterable[str]:
        """The names beside its own by which a source may speak of module NAME, or of what it defines; sys.modules may have it by some of them."""
        return ()

    def bindings(self, name: str) -> Iterable[tuple[str, str, str]]:
        """Where module NAME is bound beside its own package: package, attribute, and "" or the name in the module that is bound there."""
        return ()

    def stamp(self, name: str) -> Stamp | None:
        """Of NAME's source, taken before it was read for the first time, if that proves what was executed."""
        return None

    # --- the transaction ---

    def settle(self, names: Iterable[str]) -> None:
        """Wait until no import of NAMES, or of what is in them, is under way, for a time. ReloadError: it does not end, or is this thread's."""
        self._quiet_of(names).settle()

    def hurry(self, names: Iterable[str], seconds: float) -> None:
        """Others wait for us: settle(NAMES) and hold(NAMES) take so long from now, and no longer."""
        self._quiet_of(names).give(seconds)

    def _quiet_of(self, names: Iterable[str]) -> Quiet:
        """The one for these names: however often it is asked, it waits for so long in all."""
        wanted = {each for name in names for each in (name, *self.others(name))}
        if self._quiet is None or self._quiet[0] != wanted:
            self._quiet = wanted, Quiet(wanted.__contains__, self._cannot_wait())
        return self._quiet[1]

    def _cannot_wait(self) -> Callable[[str], Exception]:
        """What settle() and hold() raise."""
        return lambda text: ReloadError(f"{text}; nothing was changed")

    def unloaded(self, plan: Plan) -> None:
        """Tell of what is to go. ReloadError: somebody has failed."""

    def prepare(self, name: str, module: Any) -> None:
        """MODULE is there, and its body has not run."""

    def executed(self, name: str, module: Any, stays: bool) -> None:
        """Its body has run. An exception is one of the body. STAYS: what was there by this name takes its contents with the step, and took() will tell."""

    def took(self, name: str, module: Any) -> None:
        """After the step: MODULE, which was there before, has new contents."""

    def hold(self, names: Iterable[str]) -> bool:
        """Keep others from importing NAMES until release(); False: somebody does."""
        return self._quiet_of(names).hold()

    def changes(self) -> list[Any]:
        """For the step: what is known of modules. Between hold() and release(). Overtaken: another thread has changed it."""
        return []

    def release(self) -> None:
        """After hold(), whatever came of it; again after an interrupt."""
        if self._quiet is not None:
            self._quiet[1].release()

    def committed(self, plan: Plan) -> None:
        """The step has been made."""

    def abandoned(self) -> None:
        """It was not: what unloaded() and executed() have told is not so."""


def make(owner: Any) -> Share:
    """Of one autoloader's reload, or (None) of all."""
    if "ladewerk._autoload._loader" not in sys.modules:
        return Share()
    from ladewerk._autoload._replace import Autoloaded
    return Autoloaded(owner)
