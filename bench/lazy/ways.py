# SPDX-License-Identifier: MIT
"""Who takes part: the same program, stock and with Ladewerk, eager and lazy."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import compared
from pair import Command

LANGUAGE = (3, 15)  # has lazy imports of its own


@dataclass(frozen=True)
class Way:
    """A row of the report. MODE is Ladewerk's (`ladewerk run --lazy=MODE`), "" eager; OPTIONS are the interpreter's."""

    key: str
    label: str
    ladewerk: bool = False
    mode: str = ""
    freshness: str = "stat"
    options: tuple[str, ...] = ()
    oldest: tuple[int, int] = (3, 11)

    def command(self, python: Path, argv: Sequence[str], env: Mapping[str, str], cache: Path, fresh: Path | None = None, report: Path | None = None) -> Command:
        """ARGV, a script and its arguments, by the interpreter PYTHON; CACHE is Ladewerk's, of this way and this program alone. REPORT: where Ladewerk is to write
        one."""
        if not self.ladewerk:
            return Command((str(python), *self.options, *argv), {**env, "LADEWERK": "0"}, fresh=fresh)
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = ("--freshness", self.freshness, *([f"--lazy={self.mode}"] if self.mode else []))
        if report:
            options += ("--report=json", "--report-file", str(report))
        ours = (str(python.with_name("ladewerk")), "run", *options)
        return Command((*ours, *argv), {**env, "LADEWERK_CACHE": str(cache), "LADEWERK_WATCH": "0"}, fresh=fresh)


STOCK = Way("stock", "stock")
AGAIN = Way(compared.AGAIN, "stock again (control)")
OWN_MODE = Way("language", "stock, -X lazy_imports=all", options=("-X", "lazy_imports=all"), oldest=LANGUAGE)
EAGER = Way("ladewerk-stat", "Ladewerk, eager", ladewerk=True)
DEFAULT = Way("ladewerk-default", "--lazy", ladewerk=True, mode="default")
OWN = Way("ladewerk-own", "--lazy=own", ladewerk=True, mode="own")
ALL = Way("ladewerk-all", "--lazy=all", ladewerk=True, mode="all")
FROZEN = Way("ladewerk-frozen-all", "--lazy=all, frozen", ladewerk=True, mode="all", freshness="frozen")

WAYS = [STOCK, AGAIN, OWN_MODE, EAGER, DEFAULT, OWN, ALL, FROZEN]
LAZY = [OWN_MODE, DEFAULT, OWN, ALL, FROZEN]
SHORT = [STOCK, AGAIN, EAGER, DEFAULT, ALL]  # where there is little time
STEADY = [STOCK, AGAIN, ALL]


@dataclass(frozen=True)
class Site:
    """An interpreter with its environments, made in this run or before. MISSING: why Ladewerk is not there."""

    key: str  # "3.11"
    version: tuple[int, int]
    state: Path  # of this run alone
    path: str  # of the caller's tools; the environment's own come first
    missing: str = ""
    failures: dict[str, str] = field(default_factory=dict)

    def env(self, python: Path) -> dict[str, str]:
        """The same small environment for everyone, and one home, so that what a program remembers it remembers in every way."""
        return {"PATH": f"{python.parent}:{self.path}", "HOME": str(self.state / "home"), "LANG": "C.UTF-8"}
