# SPDX-License-Identifier: MIT
"""What a run of a command comes to, and in what two of them differ."""
from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: What is compared, beside the registries of _lazy_probe.KINDS.
VISIBLE = ("status", "stdout", "stderr")
#: Whose values are not shown: they may be secrets.
HIDDEN = ("environment",)

SHOWN = 70  # characters of a line, or of a value

Key = tuple[tuple[str, ...], int]


class Difference(NamedTuple):
    kind: str
    key: str  # what differs; in two runs TEXT need not be the same
    text: str


@dataclass
class Process:
    """A Python process of the command, at its end; what _lazy_probe has written."""

    argv: list[str]
    lazy: dict[str, Any] | None
    bound: dict[str, list[str]]  # names in its modules, with a question mark those that wait
    entries: dict[str, list[tuple[str, str, tuple[str, ...]]]]


@dataclass
class Outcome:
    """STATUS as subprocess has it; None: it took too long, and was ended."""

    status: int | None
    stdout: bytes
    stderr: bytes
    processes: dict[Key, Process] = field(default_factory=dict)

    def modules(self) -> list[str]:
        """Loaded by any of its processes, in order."""
        return list(dict.fromkeys(name for process in self.processes.values() for name in process.bound))

    def wrote(self, kind: str) -> bytes:
        return self.stdout if kind == "stdout" else self.stderr


def keyed(processes: Sequence[Process]) -> dict[Key, Process]:
    """PROCESSES, in the order of their starts, by what they were started with; numbers in that (of descriptors, of processes) are not the same twice."""
    found: dict[Key, Process] = {}
    for process in processes:
        argv, number = tuple(re.sub(r"\d+", "#", word) for word in process.argv), 0
        while (argv, number) in found:
            number += 1
        found[argv, number] = process
    return found


# --- output -------------------------------------------------------------------------------------------------------------


def _without_numbers(line: bytes) -> bytes:
    return re.sub(rb"0x[0-9a-fA-F]+|\d+", b"#", line)


def _cut(line: bytes | None) -> str:
    if line is None:
        return "no such line"
    text = line.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _end_of(lines: Sequence[bytes]) -> str:
    """Of a traceback the last line says most."""
    last = next((line for line in reversed(lines) if line), None)
    return f", which ends with {_cut(last)}" if last else ""


class Output:
    """What is the same in all eager runs of one stream, and so is to be the same in a lazy one."""

    def __init__(self, samples: Sequence[bytes]) -> None:
        lines = [sample.split(b"\n") for sample in samples]
        self._lines: list[bytes] = lines[0]
        self._numbers = self._varying = self.unstable = False
        self._skipped: set[int] = set()
        if all(one == lines[0] for one in lines):
            return
        self._numbers = True
        lines = [[_without_numbers(line) for line in one] for one in lines]
        self._lines = lines[0]
        if len({len(one) for one in lines}) > 1:
            self.unstable = True
        else:
            self._skipped = {at for at, several in enumerate(zip(*lines)) if len(set(several)) > 1}
            self._varying = bool(self._skipped)

    def remark(self) -> str | None:
        """What is not compared, since it is not the same twice eagerly."""
        if self.unstable:
            return "has more or fewer lines each time, eagerly too: not compared"
        if self._varying:
            return f"is not the same twice, eagerly either: {len(self._skipped)} of {len(self._lines)} lines, and numbers, are not compared"
        return "has other numbers each time, eagerly too: they are not compared" if self._numbers else None

    def difference(self, data: bytes) -> str | None:
        if self.unstable:
            return None
        lines = data.split(b"\n")
        for at in range(max(len(lines), len(self._lines))):
            eager, lazy = (some[at] if at < len(some) else None for some in (self._lines, lines))
            if at not in self._skipped and eager != (_without_numbers(lazy) if self._numbers and lazy is not None else lazy):
                return f"line {at + 1}: {_cut(eager)} eagerly, {_cut(lines[at] if at < len(lines) else None)} lazily{_end_of(lines[at + 1:])}"
        return None


# --- registries ---------------------------------------------------------------------------------------------------------

Entries = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]  # values (several: registered several times), about


def _collected(process: Process, kind: str) -> Entries:
    found: Entries = {}
    for key, value, about in process.entries.get(kind, ()):
        found[key] = ((*found[key][0], value) if key in found else (value,), about)
    return found


class Registry:
    """The entries of one kind that a process has at its end in all eager runs."""

    def __init__(self, kind: str, samples: Sequence[Process]) -> None:
        self._kind = kind
        several = [_collected(process, kind) for process in samples]
        self._unsteady = {key for one in several for key in one if any(other.get(key, (None,))[0] != one[key][0] for other in several)}
        self._entries = {key: entry for key, entry in several[0].items() if key not in self._unsteady}
        self._eager = samples[0].bound
        self.whole = all(kind in process.entries for process in samples)

    def differences(self, process: Process) -> list[Difference]:
        if not self.whole or self._kind not in process.entries:
            return []
        lazy = _collected(process, self._kind)
        found = [self._difference(key, values, lazy.get(key, ((),))[0]) for key, (values, about) in self._entries.items()
                 if values != lazy.get(key, ((),))[0] and self._matters(key, about, key in lazy, process)]
        return found + [self._difference(key, (), values) for key, (values, about) in lazy.items()
                        if key not in self._entries and key not in self._unsteady and not any(name in process.bound and name not in self._eager for name in about)]

    def _matters(self, key: str, about: tuple[str, ...], is_there: bool, process: Process) -> bool:
        if any(name in self._eager and name not in process.bound for name in about):
            return False  # nobody can miss it
        return is_there or self._kind != "patches" or not self._waits(key, process.bound)

    @staticmethod
    def _waits(key: str, bound: dict[str, list[str]]) -> bool:
        """KEY is a name in a module, or one in a class in a module, that is not imported yet."""
        parts = key.split(".")
        return any(f"?{parts[at]}" in bound.get(".".join(parts[:at]), ()) for at in range(1, len(parts)))

    def _difference(self, key: str, eager: tuple[str, ...], lazy: tuple[str, ...]) -> Difference:
        return Difference(self._kind, key, self._said(key, eager, lazy))

    def _said(self, key: str, eager: tuple[str, ...], lazy: tuple[str, ...]) -> str:
        if self._kind in HIDDEN and eager and lazy:
            return f"{key} has another value lazily"
        if not eager or not lazy:
            return f"{key}: {'eagerly' if eager else 'lazily'} only"
        if len(eager) != len(lazy):
            return f"{key}: {len(eager)} times eagerly, {len(lazy)} times lazily"
        return f"{key}: {', '.join(eager)[:SHOWN]} eagerly, {', '.join(lazy)[:SHOWN]} lazily"


# --- a whole run --------------------------------------------------------------------------------------------------------


class Baseline:
    """What eager runs of a command have in common."""

    def __init__(self, runs: Sequence[Outcome], kinds: Sequence[str]) -> None:
        self.status = runs[0].status
        self.steady = all(run.status == self.status for run in runs)
        self._output = {kind: Output([run.wrote(kind) for run in runs]) for kind in ("stdout", "stderr")}
        self._processes = {key: [run.processes[key] for run in runs] for key in runs[0].processes if all(key in run.processes for run in runs)}
        self._registries = {key: {kind: Registry(kind, samples) for kind in kinds} for key, samples in self._processes.items()}

    def remarks(self) -> list[str]:
        return [f"{kind} {text}" for kind, output in self._output.items() if (text := output.remark())]

    def differences(self, run: Outcome, allowed: Collection[str]) -> list[Difference]:
        found = []
        if run.status != self.status:
            found.append(Difference("status", "", f"{said(self.status)} eagerly, {said(run.status)} lazily"))
        found += [Difference(kind, "", text) for kind, output in self._output.items() if (text := output.difference(run.wrote(kind)))]
        for key, registries in self._registries.items():
            if (process := run.processes.get(key)) is not None:
                found += [one for registry in registries.values() for one in registry.differences(process)]
            elif run.status == self.status:
                found.append(Difference("processes", " ".join(key[0]), f"a process that runs eagerly does not lazily, or does not come to its end: {' '.join(key[0])[:SHOWN]}"))
        return [one for one in found if one.kind not in allowed]


def said(status: int | None) -> str:
    """STATUS in words."""
    return "it does not end" if status is None else f"exit status {status}" if status >= 0 else f"signal {-status}"
