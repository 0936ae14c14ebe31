# SPDX-License-Identifier: MIT
"""`ladewerk check`: import everything below roots or packages, in other processes, and say what is wrong with it.

Nothing under check is imported here. What files and directories say by themselves is in _check_names, who imports whom in _check_cycles.
A module that fails beside others is tried again alone, in a process of its own, and what it does there counts.
"""
from __future__ import annotations

import itertools
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ladewerk import _check_cycles, _index, _why
from ladewerk._check_names import ERROR, WARNING, Finding, Module, Names, Place, can_be_named
from ladewerk._check_pool import Answer, Job, Pool, Setup, Task
from ladewerk._check_worker import Edge
from ladewerk.cli import FAILED, OK, USAGE, complain

FORMAT = 1
SHARED = 100, 400  # modules that one process imports, at least and at most
PARTS = 4
READ = 500  # sources whose code one process reads
NAMED = 3  # of the modules that a finding concerns, in the text

FRAME = re.compile(r'^\s*File "(.+)", line (\d+) in ', re.MULTILINE)


class Misuse(Exception):
    """A target that is none: exit status 2."""


# --- what is under check ------------------------------------------------------------------------------------------------


@dataclass
class Target:
    given: str
    root: str | None  # a directory of the search path; None: wherever the name is found
    parts: tuple[str, ...]  # of the package or module; none: all of the root


@dataclass
class Scope:
    targets: list[Target]
    path: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)

    def roots(self) -> list[str]:
        return list(dict.fromkeys(target.root for target in self.targets if target.root))


def _is_package(directory: str) -> bool:
    return any(os.path.isfile(os.path.join(directory, "__init__" + suffix)) for suffix, _ in _why.SUFFIXES)


def _from_path(given: str) -> Target:
    """A directory that is a package, or a file, stands for the module that it is; any other directory is a root."""
    path = os.path.abspath(given)
    if not os.path.exists(path):
        raise Misuse(f"{given}: there is no such file or directory")
    parts: list[str] = []
    if not os.path.isdir(path):
        path, name = os.path.split(path)
        stem = name.removesuffix(".py")
        if stem == name or not (stem == "__init__" or can_be_named(stem)):
            raise Misuse(f"{given} is no module that could be imported")
        parts = [] if stem == "__init__" else [stem]
    while can_be_named(os.path.basename(path)) and _is_package(path):
        path, name = os.path.split(path)
        parts.insert(0, name)
    return Target(given, path, tuple(parts))


def _from_name(given: str) -> Target:
    if not all(part.isidentifier() for part in given.split(".")):
        raise Misuse(f"{given}: there is no such directory, and no module can have that name")
    return Target(given, None, tuple(given.split(".")))


def _target(given: str) -> Target:
    return _from_path(given) if os.sep in given or given.endswith(".py") or os.path.isdir(given) else _from_name(given)


def _search_path(targets: Sequence[Target]) -> list[str]:
    """Roots that are not on sys.path come first. The current directory is on it where it would be for `python -c`, if a name is to be found."""
    if any(target.root is None for target in targets):
        path = _why.user_path()
    else:
        path = sys.path if sys.flags.safe_path else sys.path[1:]
    entries = [os.path.abspath(entry) for entry in path if isinstance(entry, str)]
    roots = [target.root for target in targets if target.root and target.root not in entries]
    return list(dict.fromkeys([*roots, *entries]))


def _found(target: Target, path: Sequence[str]) -> list[str]:
    """Where the top-level package of a name is."""
    answers = _why.resolve(target.given, path)
    answer, top = answers[-1], answers[0]
    if answer.name != target.given or answer.kind is None:
        raise Misuse(f"{target.given}: there is no such directory, and no module of that name is found; `ladewerk why {target.given}` says where it was looked for")
    places = [location + os.sep for location in top.locations] or [top.file or ""]
    if not places[0] or answer.kind == "built-in":
        raise Misuse(f"{target.given} is built into the interpreter; there is nothing to check")
    return places


def _scope(given: Sequence[str]) -> Scope:
    scope = Scope([_target(one) for one in given])
    scope.path = _search_path(scope.targets)
    for target in scope.targets:
        if target.root is None:
            scope.inside += _found(target, scope.path)
        elif not target.parts:
            scope.inside.append(target.root.rstrip("/") + "/")
        else:
            top = os.path.join(target.root, target.parts[0])
            scope.inside.append(top + os.sep if os.path.isdir(top) else top + ".py")
    return scope


def _walk(scope: Scope, excluded: Sequence[str]) -> Names:
    names = Names(scope.path, scope.roots(), excluded)
    whole = {target.root for target in scope.targets if not target.parts}
    if whole:
        names.walk("", [Place(entry, entry, entry in whole) for entry in scope.path])
    for target in scope.targets:
        if target.parts:
            names.walk("", [Place(entry, entry, target.root in (None, entry)) for entry in scope.path], target.parts)
    names.say_compiled()
    return names


# --- importing it -------------------------------------------------------------------------------------------------------


def _cut(jobs: Sequence[Job], size: int, reading: bool = False) -> Iterator[Task]:
    for i in range(0, len(jobs), size):
        yield Task(list(jobs[i: i + size]), reading)


def _shared(jobs: Sequence[Job]) -> Iterator[Task]:
    """Packages stay together while they are small enough: what they need is imported once then."""
    size, gathered = _share(len(jobs)), list[Job]()
    for _, group in itertools.groupby(jobs, lambda job: job[0].partition(".")[0]):
        package = list(group)
        if gathered and len(gathered) + len(package) > size:
            yield Task(gathered)
            gathered = []
        gathered += package
        while len(gathered) > size:
            yield Task(gathered[:size])
            gathered = gathered[size:]
    if gathered:
        yield Task(gathered)


def _share(count: int) -> int:
    """How many modules one process imports. It follows from the tree alone: a module may depend on what was imported before it, and no finding on the machine."""
    return max(SHARED[0], min(SHARED[1], -(-count // PARTS)))


@dataclass
class Trial:
    """What has become of the modules."""

    pool: Pool
    outcomes: dict[str, Answer] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)  # it was the first one of its process
    read: dict[str, list[Edge]] = field(default_factory=dict)
    unread: dict[str, Answer] = field(default_factory=dict)  # by file
    done: int = 0

    def run(self, tasks: Iterable[Task]) -> None:
        for task, (name, file), answer in self.pool.run(tasks):
            if not task.reading:
                self.outcomes[name] = answer
                if task.jobs[0][0] == name:
                    self.alone.add(name)
            elif answer[0] == "read":
                self.read[name] = answer[1]
            else:
                self.unread[file] = answer
            self.done += 1

    def doubtful(self) -> list[str]:
        return [name for name, answer in sorted(self.outcomes.items()) if answer[0] in ("failed", "died") and name not in self.alone]


def _cause(name: str, answer: Answer, files: dict[str, str]) -> tuple[object, ...]:
    """Modules that fail for the same reason have the same."""
    if answer[0] != "failed":
        return answer[0], answer[-1]
    about = answer[1]
    return about["what"], about.get("file", files[name]), about.get("line", 1), about["type"], about["text"]


def _confirm(trial: Trial, files: dict[str, str]) -> None:
    """Try doubtful modules again alone: first one for each cause, then all whose cause was not met again."""
    def causes(names: Iterable[str]) -> dict[tuple[object, ...], list[str]]:
        found: dict[tuple[object, ...], list[str]] = {}
        for name in names:
            found.setdefault(_cause(name, trial.outcomes[name], files), []).append(name)
        return found

    def known() -> set[tuple[object, ...]]:
        return {_cause(name, trial.outcomes[name], files) for name in trial.alone if trial.outcomes[name][0] in ("failed", "died")}

    groups, sure = causes(trial.doubtful()), known()
    first = [next((name for name in names if files[name] == cause[1]), names[0]) for cause, names in groups.items() if cause not in sure]
    trial.run(_cut([(name, files[name]) for name in first], 1))
    sure = known()
    rest = [name for cause, names in causes(trial.doubtful()).items() if cause not in sure for name in names]
    trial.run(_cut([(name, files[name]) for name in rest], 1))


def _try(names: Names, scope: Scope, *, workers: int, isolate: bool, timeout: float, quiet: bool) -> Trial:
    files = {name: module.file for name, module in sorted(names.modules.items())}
    jobs = list(files.items())
    reading = [*jobs, *((module.name, file) for file, module in sorted(names.mains.items()))]
    trial = Trial(Pool(Setup(scope.path, tuple(scope.inside), timeout), workers))
    with _index._progress(quiet, lambda: f"importing: {trial.done:,} of {len(jobs) + len(reading):,}"):
        trial.run([*(_cut(jobs, 1) if isolate else _shared(jobs)), *_cut(reading, READ, reading=True)])
        _confirm(trial, files)
    return trial


# --- findings -----------------------------------------------------------------------------------------------------------


def _where(said: str, inside: tuple[str, ...]) -> tuple[str, int] | None:
    """The innermost frame inside, of what faulthandler has written."""
    said = said.partition("C stack trace (most recent call first)")[0]  # which 3.14 and later add
    start = max(said.rfind("(most recent call first)"), 0)
    return next(((file, int(line)) for file, line in FRAME.findall(said, start) if file.startswith(inside)), None)


def _death(status: int, said: str) -> str:
    if status >= 0:
        return f"it ended the process, with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    fatal = re.findall(r"^Fatal Python error: (.+)$", said, re.MULTILINE)
    hint = f" ({fatal[-1]})" if fatal else " (out of memory?)" if name == "SIGKILL" else ""
    return f"the process died of {name}{hint}"


def _blamed(name: str, silent: set[str], graph: _check_cycles.Graph) -> str:
    """Of modules whose process died without a word the one that the others need: a package above, or what is imported."""
    seen = {name}
    while True:
        needed = [*sorted(_check_cycles.parents(name)), *sorted(graph.get(name, ()), key=lambda other: (graph[name][other], other))]
        following = next((other for other in needed if other in silent and other not in seen), None)
        if following is None:
            return name
        seen.add(name := following)


def _from_answer(module: Module, answer: Answer, setup: Setup) -> Finding | None:
    """What befell MODULE, which is to blame where the answer does not say who is."""
    if answer[0] == "failed":
        about = answer[1]
        text = f"{about['type']}: {about['text']}" if about["text"] else about["type"]
        trace = [{"file": file, "line": line, "name": name} for file, line, name in about["trace"]]
        return Finding(about["what"], ERROR, about.get("file", module.file), about.get("line", 1), text, [module.name],
                       {"exception": {"type": about["type"], "text": about["text"]}, "trace": trace})
    if answer[0] in ("died", "hung"):
        file, line = _where(answer[-2], setup.inside) or (module.file, 1)
        kind, text = ("crash", _death(answer[1], answer[2])) if answer[0] == "died" else ("timeout", f"it takes more than {setup.timeout:g} s")
        return Finding(kind, ERROR, file, line, text, [module.name])
    return None


def _elsewhere(module: Module, origin: tuple[str | None, str | None]) -> Finding | None:
    """A module of that name was loaded, but from another file: by a finder ahead, by a package that changes its __path__, or at the start."""
    spec, own = origin
    if spec in (None, "built-in", "frozen") or module.file in (spec, own):
        return None
    assert spec
    try:
        if os.path.samefile(spec, module.file):
            return None
    except OSError:
        pass
    return Finding("shadowed", ERROR, module.file, 1, f"{module.name} is loaded from {spec}, which hides {module.file}", [module.name],
                   {"winner": {"kind": "loaded", "file": spec}, "losers": [{"kind": "source", "file": module.file}]})


def _merge(findings: Iterable[Finding]) -> list[Finding]:
    """One for each cause."""
    merged: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        same = merged.setdefault((finding.kind, finding.file, finding.line, finding.text), finding)
        same.modules = list(dict.fromkeys([*same.modules, *finding.modules]))
    return list(merged.values())


def _chain(graph: _check_cycles.Graph, members: list[str], modules: dict[str, Module]) -> Finding:
    way = _check_cycles.shortest(graph, members)
    steps = [{"module": one, "imports": other, "file": modules[one].file, "line": graph[one][other]} for one, other in zip(way, [*way[1:], way[0]])]
    chain = " -> ".join([way[0], *(f"{step['imports']} ({step['file']}:{step['line']})" for step in steps)])
    more = f"; {len(members)} modules import each other in circles here" if len(members) > len(way) else ""
    return Finding("circular", WARNING, modules[way[0]].file, graph[way[0]][way[1]], chain + more, members, {"chain": steps})


def _graph(trial: Trial, names: Names) -> _check_cycles.Graph:
    read = {name: edges for name, edges in trial.read.items() if name in names.modules}
    return _check_cycles.build(read, {name: module.is_package for name, module in names.modules.items()})


def _judge(trial: Trial, names: Names) -> list[Finding]:
    found = list(names.findings.values())
    graph = _graph(trial, names)
    by_file = {module.file: module for module in (*names.modules.values(), *names.mains.values())}
    setup = trial.pool.setup
    silent = {name for name, answer in trial.outcomes.items() if answer[0] in ("died", "hung") and not _where(answer[-2], setup.inside)}
    failures = []
    for name, answer in sorted(trial.outcomes.items()):
        finding = _from_answer(names.modules[_blamed(name, silent, graph) if name in silent else name], answer, setup)
        if finding:
            finding.modules = [name]
        failures.append(finding)
    failures += [_from_answer(by_file[file], answer, setup) for file, answer in sorted(trial.unread.items())]
    merged = _merge(finding for finding in failures if finding)
    for finding in merged:
        own = by_file.get(finding.file)
        finding.more["module"] = own.name if own else None
        finding.modules.sort(key=lambda name: (not own or name != own.name, name))
    loaded = ((name, answer[1]) for name, answer in trial.outcomes.items() if answer[0] == "loaded" and answer[1])
    elsewhere = [_elsewhere(names.modules[name], origin) for name, origin in loaded]
    found += [*merged, *(finding for finding in elsewhere if finding), *(_chain(graph, members, names.modules) for members in _check_cycles.components(graph))]
    return sorted(found, key=lambda finding: (finding.file, finding.line or 0, finding.kind, finding.text))


# --- reports ------------------------------------------------------------------------------------------------------------


@dataclass
class Summary:
    modules: int
    imported: int
    failed: int
    compiled: int
    errors: int
    warnings: int
    allowed: int
    links_left: int


def _also(finding: Finding) -> str:
    if "module" not in finding.more:
        return ""
    rest = [name for name in finding.modules if name != finding.more["module"]]
    if not rest:
        return ""
    more = f" and {len(rest) - NAMED} more" if len(rest) > NAMED else ""
    return f" [fails with it: {', '.join(rest[:NAMED])}{more}]"


def _print(findings: Sequence[Finding], summary: Summary, quiet: bool) -> None:
    here = os.getcwd().rstrip("/") + "/"
    for finding in findings:
        place = finding.file + (f":{finding.line}" if finding.line else "")
        mild = " (warning)" if finding.severity == WARNING else ""
        print(f"{place}: {finding.kind}{mild}: {finding.text}{_also(finding)}".replace(here, ""))
    if quiet:
        return
    count = _index._count
    extra = f", {summary.compiled:,} __main__ compiled only" if summary.compiled else ""
    allowed = f", {summary.allowed:,} allowed" if summary.allowed else ""
    left = f"; {count(summary.links_left, 'link', 'links')} to directories left out" if summary.links_left else ""
    print(f"{count(summary.modules, 'module', 'modules')}: {summary.imported:,} imported, {summary.failed:,} failed{extra}; "
          f"{count(summary.errors, 'error', 'errors')}, {count(summary.warnings, 'warning', 'warnings')}{allowed}{left}")


def _as_json(findings: Sequence[Finding], summary: Summary, scope: Scope) -> str:
    listed = [{"kind": one.kind, "severity": one.severity, "file": one.file, "line": one.line, "text": one.text, "modules": one.modules, **one.more}
              for one in findings]
    return json.dumps({"format": FORMAT, "targets": [target.given for target in scope.targets], "path": scope.path, **vars(summary), "findings": listed}, indent=2)


# --- the command --------------------------------------------------------------------------------------------------------


def _take_standard_descriptors() -> None:
    """Where one is closed, a pipe of ours would get its number, and lose it to the standard input of a process."""
    while (taken := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(taken)


@contextmanager
def _ends_with_us() -> Iterator[None]:
    """Whoever ends this process (a CI that cancels a job) ends those that it has started."""
    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(given: Sequence[str], *, workers: int, isolate: bool, allow: Sequence[str], strict: bool, as_json: bool, quiet: bool, timeout: float,
         exclude: Sequence[str]) -> int:
    try:
        scope = _scope(given)
    except Misuse as misuse:
        complain(f"check: {misuse}")
        return USAGE
    _take_standard_descriptors()
    names = _walk(scope, exclude)
    with _ends_with_us():
        trial = _try(names, scope, workers=workers or len(os.sched_getaffinity(0)), isolate=isolate, timeout=timeout, quiet=quiet or as_json)
    findings = _judge(trial, names)
    shown = [finding for finding in findings if finding.kind not in allow]
    errors = sum(finding.severity == ERROR for finding in shown)
    loaded = sum(answer[0] == "loaded" for answer in trial.outcomes.values())
    summary = Summary(len(names.modules), loaded, len(names.modules) - loaded, len(names.mains), errors, len(shown) - errors, len(findings) - len(shown),
                      names.links_left)
    if as_json:
        print(_as_json(shown, summary, scope))
    else:
        _print(shown, summary, quiet)
    return FAILED if errors or (strict and shown) else OK
