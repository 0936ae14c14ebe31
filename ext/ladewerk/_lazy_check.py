# SPDX-License-Identifier: MIT
"""`ladewerk lazy-check`: a command is run eagerly and lazily, and if that makes a difference, what must be eager is found by running it with less and less of that.

What is visible from outside is compared, and what its processes have registered by their ends (_lazy_probe.py, _lazy_outcome.py).
"""
from __future__ import annotations

import json
import marshal
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from typing import IO, Any

from ladewerk import _index, _lazy_minimal, _lazy_outcome, _lazy_probe, _lazy_session
from ladewerk._lazy_outcome import Baseline, Difference, Outcome, Process
from ladewerk.cli import FAILED, OK, Failure

FORMAT = 1
KINDS = (*_lazy_outcome.VISIBLE, "processes", *_lazy_probe.KINDS)
PATIENCE = 60.0, 10  # what may take no longer eagerly may take that long, or so many times as long, lazily
SHOWN = 5  # differences of one kind, in the text
NOT_TO_BE_EXCLUDED = {"__main__", "__mp_main__", "sys", "builtins", "ladewerk", "ladewerk_start", "sitecustomize", "usercustomize"}


# --- one run ------------------------------------------------------------------------------------------------------------


def words_of(command: Sequence[str]) -> list[str]:
    """COMMAND as it is executed: programs of this environment come first, and what only an interpreter can execute is given to this one."""
    first = command[0]
    beside = os.path.join(os.path.dirname(sys.executable), first)
    if first.startswith("-") or (first.endswith(".py") and os.path.isfile(first) and not os.access(first, os.X_OK)):
        return [sys.executable, *command]
    if "/" not in first and os.access(beside, os.X_OK):
        return [beside, *command[1:]]
    if found := shutil.which(first):
        return [found, *command[1:]]
    if os.path.isfile(first):
        return [sys.executable, *command]
    raise Failure(f"there is no command {first}, neither beside {sys.executable} nor on PATH")


def _processes(place: str) -> list[Process]:
    """What has been written into PLACE, in the order of their starts."""
    found = []
    for name in os.listdir(place):
        if not name.endswith(".tmp"):
            with open(os.path.join(place, name), "rb") as file:
                facts = marshal.load(file)
            if facts.pop("format") == _lazy_probe.FORMAT:
                found.append(facts)
    found.sort(key=lambda facts: facts.pop("begun"))
    return [Process(**facts) for facts in found]


class Command:
    """What is run again and again: in this directory, with an empty standard input and output that is no terminal."""

    def __init__(self, words: Sequence[str], mode: str | None) -> None:
        asked = os.environ.get("LADEWERK_LAZY", "0")
        self.words, self.runs = words_of(words), 0
        self._mode = mode or ("1" if asked == "0" else asked)  # "1": the project says which
        self._given = words[0]
        self._environment = {"PYTHONHASHSEED": "0", **os.environ, "LADEWERK": "1"}
        self._rules = os.environ.get("LADEWERK_LAZY_RULES", "")
        self.patience: float | None = None

    def eagerly(self) -> Outcome:
        return self._run("0", ())

    def lazily(self, eager: Sequence[str] = (), *, apart: bool = False) -> Outcome:
        """With rules for what EAGER names: "NAME", "in NAME", "of NAME". APART: of `from a import b, c` b waits although c may not, so that c is found to be the one."""
        return self._run(self._mode, [f"eager {rule}" for rule in eager] + ["apart"] * apart)

    def _run(self, mode: str, further: Sequence[str]) -> Outcome:
        self.runs += 1
        rules = "".join(f"{rule}\n" for rule in [self._rules, *further] if rule)
        with tempfile.TemporaryDirectory(prefix="ladewerk-lazy-check-") as place, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            environment = {**self._environment, "LADEWERK_LAZY": mode, "LADEWERK_LAZY_CHECK": place, **({"LADEWERK_LAZY_RULES": rules} if rules else {})}
            status = self._status(environment, out, err)
            out.seek(0)
            err.seek(0)
            return Outcome(status, out.read(), err.read(), _lazy_outcome.keyed(_processes(place)))

    def _status(self, environment: dict[str, str], out: IO[bytes], err: IO[bytes]) -> int | None:
        try:
            with _lazy_session.Session(self.words, environment, out, err) as session:
                return session.wait(self.patience)
        except OSError as error:
            raise Failure(f"cannot execute {self._given}: {error.strerror}") from None


# --- the check ----------------------------------------------------------------------------------------------------------


class Check:
    """DIFFERENCES: what a lazy run has that eager runs do not, each time. RULES: what must be eager, or None where that was not found; WHY_NOT says why."""

    def __init__(self, command: Command, allowed: Collection[str]) -> None:
        self._command, self._allowed = command, allowed
        self.kinds = [kind for kind in _lazy_probe.KINDS if kind not in allowed]
        self.doing = "running it eagerly"
        self.lazy: Outcome | None = None
        self.differences: list[Difference] = []
        self.rules: list[str] | None = None
        self.why_not: str | None = None
        self._tried: dict[frozenset[str], bool] = {}

    def eagerly(self) -> None:
        """What a program has on its first run (it compiles, it makes files) it need not have on the second: two that agree will do, and else three."""
        begun = time.monotonic()
        runs = [self._command.eagerly(), self._command.eagerly()]
        self._command.patience = max(PATIENCE[0], (time.monotonic() - begun) / 2 * PATIENCE[1])
        if not self._agree(runs[0], runs[1]):
            runs.append(self._command.eagerly())
        if len(runs) == 3 and self._agree(runs[1], runs[2]):
            del runs[0]
        self.eager, self.baseline = runs[-1], Baseline(runs, self.kinds)
        if not self.baseline.steady:
            raise Failure("run eagerly, it does not end the same way twice: exit status " + ", ".join(str(run.status) for run in runs))

    def _agree(self, one: Outcome, other: Outcome) -> bool:
        return (one.stdout, one.stderr) == (other.stdout, other.stderr) and not Baseline([one], self.kinds).differences(other, self._allowed)

    def lazily(self) -> None:
        self.doing = "running it lazily"
        self.lazy = self._command.lazily()
        self.differences = self._of(self.lazy)
        if self.differences:  # each time? And with a store that has the code in its lazy form
            again = {(one.kind, one.key) for one in self._of(self._command.lazily())}
            self.differences = [one for one in self.differences if (one.kind, one.key) in again]

    def _of(self, run: Outcome) -> list[Difference]:
        return self.baseline.differences(run, self._allowed)

    def will_do(self, rules: Sequence[str]) -> bool:
        """With RULES there is no difference left, even if they are for nothing but what they name."""
        key = frozenset(rules)
        if key not in self._tried:
            self._tried[key] = not self._of(self._command.lazily(rules, apart=True))
        return self._tried[key]

    def find(self) -> None:
        """The smallest set that must be eager: none of it can be left out."""
        names = [name for name in self.eager.modules() if name.partition(".")[0] not in NOT_TO_BE_EXCLUDED and name.isascii()]
        self.doing = f"run {{}}: which of {len(_lazy_minimal.tops(names))} packages must be eager"
        found = _lazy_minimal.rules(names, self.will_do)
        if found is None:
            self.why_not = "it is not the same either if every package is eager: no rule helps"
            return
        if not self._of(self._command.lazily(found)):  # as they will be in pyproject.toml
            self.rules = found
        else:
            self.why_not = f"eager {', eager '.join(found)} did, and did not when it was tried again: what this command does is not the same each time"

    def progress(self) -> str:
        return self.doing.format(self._command.runs)


# --- what is said -------------------------------------------------------------------------------------------------------


def _mode(run: Outcome) -> tuple[str | None, str | None]:
    """That of RUN, or why nothing was lazy."""
    if not run.processes:
        return None, "no Python of this environment came to an ordinary end in it, so nobody knows whether anything was lazy, nor what was registered"
    settings = [process.lazy for process in run.processes.values() if process.lazy]
    if modes := [setting["mode"] for setting in settings if setting["mode"] != "off"]:
        return modes[0], None
    reasons = [setting["reason"] for setting in settings if setting["reason"]]
    otherwise = 'the mode of the project is "0"; --mode says another' if settings else "Ladewerk was not active"
    return None, f"nothing was lazy: {reasons[0] if reasons else otherwise}"


def _toml(rules: Sequence[str], mode: str | None) -> list[str]:
    lines = ["[tool.ladewerk.lazy]"]
    if mode:
        lines.append(f'mode = "{mode}"')
    return [*lines, f"exclude = [{', '.join(json.dumps(rule) for rule in rules)}]"]


def _print_differences(differences: Sequence[Difference]) -> None:
    for kind in dict.fromkeys(one.kind for one in differences):
        several = [one.text for one in differences if one.kind == kind]
        for text in several[:SHOWN]:
            print(f"  {kind:<14}  {text}")
        if len(several) > SHOWN:
            print(f"  {kind:<14}  and {len(several) - SHOWN} more")


def _print(check: Check, runs: int, mode: str | None, inactive: str | None) -> None:
    for remark in check.baseline.remarks():
        print(f"note: {remark}")
    if inactive:
        print(f"not checked: {inactive}")
    lazily = f"lazily (mode {mode})" if mode else "lazily"
    if not check.differences and not inactive:
        count = len(check.eager.processes)
        print(f"the same, {lazily}: {_lazy_outcome.said(check.baseline.status)}, output, and what {count} Python process{'es' * (count != 1)} registered")
    if not check.differences:
        return
    print(f"not the same, {lazily}:")
    _print_differences(check.differences)
    if check.rules is not None:
        print(f"\nthe same, with this in pyproject.toml ({runs} runs; none of it can be left out):\n")
        print("\n".join(_toml(check.rules, mode)))
    elif check.why_not:
        print(f"\n{check.why_not}")


def _facts(check: Check, command: Command, mode: str | None, inactive: str | None) -> dict[str, Any]:
    return {"format": FORMAT, "command": command.words, "mode": mode, "same": not check.differences, "inactive": inactive, "notes": check.baseline.remarks(),
            "differences": [one._asdict() for one in check.differences], "exclude": check.rules, "why_not": check.why_not, "runs": command.runs}


def main(words: Sequence[str], mode: str | None, *, allowed: Collection[str], find: bool, as_json: bool, quiet: bool) -> int:
    if os.environ.get("LADEWERK") == "0":
        raise Failure("LADEWERK=0 switches Ladewerk off, and with it lazy imports")
    command = Command(words, mode)
    check = Check(command, allowed)
    with _index._progress(quiet, check.progress), _lazy_session.ends_with_us():
        check.eagerly()
        check.lazily()
        assert check.lazy
        if check.differences and find:
            check.find()
    used, inactive = _mode(check.lazy)
    if as_json:
        print(json.dumps(_facts(check, command, used, inactive), indent=2))
    else:
        _print(check, command.runs, used, inactive)
    return FAILED if check.differences or inactive else OK
