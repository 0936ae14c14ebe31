# SPDX-License-Identifier: MIT
"""Two versions of one library in one process, used by 4 threads at once.

    two_versions.py LIBRARIES NAME OLD NEW [without]

LIBRARIES/NAME-OLD and -NEW are the versions; `shop` below plugins/ is the program that uses them, of one name in both. "without": the control, with
sys.path in place of engines. Prints {check: None or what failed}.
"""
from __future__ import annotations

import importlib
import json
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ladewerk

PLUGINS = Path(__file__).with_name("plugins")
ROUNDS = 15
PATIENCE = 60  # seconds that a thread waits for the others


class Version:
    """One version, and the program that uses it."""

    def __init__(self, libraries: Path, name: str, version: str, *, isolated: bool) -> None:
        self.version = version
        self.tree = str(libraries / f"{name}-{version}")
        own = [self.tree, str(PLUGINS / f"{name}-{version}"), str(PLUGINS / name)]
        if isolated:
            self.engine = ladewerk.ImportEngine(path=[*own, *sys.path], name=f"{name}-{version}")
            self.modules = self.engine.modules
            self.shop = self.engine.import_module("shop")
        else:
            sys.path[:0] = own
            self.modules = sys.modules
            self.shop = importlib.import_module("shop")

    def of_the_tree(self) -> dict[str, object]:
        """Its modules that were loaded from the version's directory."""
        return {name: module for name, module in list(self.modules.items()) if (getattr(module, "__file__", None) or "").startswith(self.tree + "/")}


class Checks:
    def __init__(self, libraries: Path, name: str, versions: list[str], *, isolated: bool) -> None:
        self.name = name
        self.before = set(sys.modules)
        self.versions = [Version(libraries, name, each, isolated=isolated) for each in versions]
        self.answers = self._used_at_once()

    def _used_at_once(self) -> list[list[str]]:
        """Each version by two threads; no thread begins a round before all have ended theirs."""
        turn = threading.Barrier(2 * len(self.versions), timeout=PATIENCE)

        def use(version: Version) -> list[str]:
            try:
                return version.shop.work(turn.wait, ROUNDS)
            except Exception:
                turn.abort()
                return [traceback.format_exc()]

        with ThreadPoolExecutor(2 * len(self.versions)) as pool:
            return list(pool.map(use, self.versions * 2))

    def check_answers(self) -> None:
        for version, answers in zip(self.versions * 2, self.answers):
            assert len(answers) == ROUNDS and all(f"{each}.".startswith(version.version + ".") for each in answers), (version.version, *answers)

    def check_program(self) -> None:
        """The module `shop` of each, and what it has defined, is its own."""
        first, second = self.versions
        assert first.shop is not second.shop and (first.shop.VERSION, second.shop.VERSION) == (first.version, second.version)

    def check_modules(self) -> None:
        """Each has loaded the library from its directory, nothing of it from the other's, and no module is in both."""
        first, second = self.versions
        for version, other in ((first, second), (second, first)):
            assert len(version.of_the_tree()) > 50, len(version.of_the_tree())
            foreign = [name for name, module in list(version.modules.items()) if (getattr(module, "__file__", None) or "").startswith(other.tree + "/")]
            assert not foreign, foreign
        assert not {id(each) for each in first.of_the_tree().values()} & {id(each) for each in second.of_the_tree().values()}

    def check_process(self) -> None:
        """Nothing of either is among the process's own modules."""
        new = [name for name in set(sys.modules) - self.before if name.partition(".")[0] in {self.name, "shop", "store", "urls", "asgiref", "sqlparse"}]
        assert not new, new

    def run(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for name in [each for each in dir(self) if each.startswith("check_")]:
            try:
                found[name] = getattr(self, name)()
            except Exception:
                found[name] = traceback.format_exc()
        return found


def main(libraries: str, name: str, old: str, new: str, *options: str) -> None:
    print(json.dumps(Checks(Path(libraries), name, [old, new], isolated="without" not in options).run()))


if __name__ == "__main__":
    main(*sys.argv[1:])
