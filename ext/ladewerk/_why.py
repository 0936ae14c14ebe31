# SPDX-License-Identifier: MIT
"""`ladewerk why`: resolve a name as the import system would, but look at everything instead of stopping at the first hit.

Nothing is imported: a parent package contributes where its spec says that its submodules are. Directories are read by the rules of
importlib's FileFinder; zip files and other path entries are asked through their own finder.
"""
from __future__ import annotations

import difflib
import json
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import machinery
from typing import Any

from ladewerk import _native
from ladewerk.cli import FAILED, OK, USAGE, complain

SUFFIXES = (
    *((suffix, "extension") for suffix in machinery.EXTENSION_SUFFIXES),
    *((suffix, "source") for suffix in machinery.SOURCE_SUFFIXES),
    *((suffix, "bytecode") for suffix in machinery.BYTECODE_SUFFIXES),
)

ASIDE = {
    "patched": "a stock import class or function was replaced",
    "path_hooks": "sys.path_hooks holds a foreign hook ahead of the stock ones",
    "meta_path": "sys.meta_path is not as it should be",
    "sys_modules": "sys.modules is not a dict",
    "path": "the search path holds something it does not answer for",
    "name": "it does not answer for names like this one",
    "legacy_finder": "a finder without find_spec is in sys.meta_path",
    "system_error": "the system answered with an unexpected error",
    "builtin": "it is built in or frozen",
    "depth": "too many imports are within each other",
}


@dataclass
class Candidate:
    """One thing that the name could mean."""

    kind: str  # package, source, extension, bytecode, namespace portion, built-in, frozen, or the type of a foreign loader
    file: str | None
    entry: str | None  # of the path, where it was found
    locations: list[str] = field(default_factory=list)  # where submodules would be looked for: it is a package
    state: str = "shadowed"  # or wins, portion


@dataclass
class Answer:
    name: str
    path: list[str]  # entries looked at
    candidates: list[Candidate]
    kind: str | None = None  # None: nothing was found
    file: str | None = None
    locations: list[str] = field(default_factory=list)


# --- looking ------------------------------------------------------------------------------------------------------------


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory or "."))
    except OSError:
        return set()


def _in_directory(directory: str, tail: str, entry: str) -> Iterator[Candidate]:
    """What FileFinder could find in DIRECTORY, in its order."""
    names = _names(directory)
    base = os.path.join(directory, tail)
    is_directory = tail in names and os.path.isdir(base)
    found = False
    if is_directory:
        for suffix, _ in SUFFIXES:
            if os.path.isfile(file := os.path.join(base, "__init__" + suffix)):
                found = True
                yield Candidate("package", file, entry, [base])
    for suffix, kind in SUFFIXES:
        if tail + suffix in names and os.path.isfile(file := base + suffix):
            yield Candidate(kind, file, entry)
    if is_directory and not found:
        yield Candidate("namespace portion", None, entry, [base])


def _from_spec(spec: machinery.ModuleSpec, entry: str | None) -> Candidate:
    locations = list(spec.submodule_search_locations or ())
    if spec.loader is None:
        return Candidate("namespace portion", None, entry, locations)
    kind = "package" if locations else f"module of {type(spec.loader).__module__}.{type(spec.loader).__qualname__}"
    return Candidate(kind, spec.origin, entry, locations)


def _in_entry(entry: str, name: str) -> Iterator[Candidate]:
    finder = pkgutil.get_importer(entry)
    if type(finder) is machinery.FileFinder:
        yield from _in_directory(os.path.abspath(entry), name.rpartition(".")[2], entry)
    elif finder is not None:
        find_spec: Any = getattr(finder, "find_spec", None)
        if find_spec and (spec := find_spec(name)):
            yield _from_spec(spec, entry)


def _in_memory(name: str) -> Iterator[Candidate]:
    if machinery.BuiltinImporter.find_spec(name):
        yield Candidate("built-in", None, None)
    elif spec := machinery.FrozenImporter.find_spec(name):
        state = spec.loader_state
        yield Candidate("frozen", getattr(state, "filename", None), None, list(spec.submodule_search_locations or ()))


def _is_editable(finder: object) -> bool:
    """setuptools' finder of an editable install looks at files only; others might do anything when asked."""
    return "__editable__" in getattr(finder, "__module__", "") and hasattr(finder, "find_spec")


def _in_editable(name: str, path: Sequence[str] | None) -> Iterator[Candidate]:
    for finder in filter(_is_editable, sys.meta_path):
        if spec := finder.find_spec(name, path):
            yield _from_spec(spec, None)


def _decide(answer: Answer) -> None:
    """PathFinder's rule: the first thing with a loader; without any, all namespace portions together."""
    regular = [c for c in answer.candidates if c.kind != "namespace portion"]
    if regular:
        winner = regular[0]
        winner.state, answer.kind, answer.file, answer.locations = "wins", winner.kind, winner.file, winner.locations
        return
    for candidate in answer.candidates:
        candidate.state = "portion"
        answer.locations += candidate.locations
    if answer.candidates:
        answer.kind = "namespace package"


def _look(name: str, path: Sequence[str]) -> Answer:
    entries = [entry for entry in path if isinstance(entry, str)]
    candidates = [*_in_memory(name), *(c for entry in entries for c in _in_entry(entry, name)), *_in_editable(name, path)]
    answer = Answer(name, entries, candidates)
    _decide(answer)
    return answer


def resolve(name: str, path: Sequence[str]) -> list[Answer]:
    """One answer per part of NAME; the last one is short of NAME if something on the way is missing or no package."""
    answers: list[Answer] = []
    parts = name.split(".")
    for i in range(len(parts)):
        answer = _look(".".join(parts[: i + 1]), answers[-1].locations if answers else path)
        answers.append(answer)
        if answer.kind is None or not answer.locations:
            break
    return answers


def user_path() -> list[str]:
    """sys.path as `python -c` has it here. The launcher starts us without the current directory, lest files there break us."""
    hidden = sys.flags.safe_path and not sys.flags.isolated and not os.environ.get("PYTHONSAFEPATH")
    return [os.getcwd(), *sys.path] if hidden else list(sys.path)


# --- other finders, and ours --------------------------------------------------------------------------------------------


def _label(finder: object) -> str:
    kind = finder if isinstance(finder, type) else type(finder)
    return f"{kind.__module__}.{kind.__qualname__}"


def finders() -> tuple[list[str], list[str]]:
    """Foreign finders ahead of PathFinder, and behind it."""
    first: list[str] = []
    last: list[str] = []
    into = first
    for finder in sys.meta_path:
        if finder is machinery.PathFinder:
            into = last
        elif finder not in (machinery.BuiltinImporter, machinery.FrozenImporter) and type(finder).__module__ != _native.__name__:
            into.append(_label(finder))
    return first, last


def _counts(which: str) -> dict[str, int]:
    return dict(_native.stats()[which])  # type: ignore[literal-required]


def _ours() -> Any:
    return next((finder for finder in sys.meta_path if type(finder).__module__ == _native.__name__), None)


def _frozen_index() -> str | None:
    """The artifact that is the truth, if there is one."""
    stats = _native.stats()
    index = stats["index"]
    return index["path"] if index and index["roots"] and index["freshness"] == "frozen" else None


def _by_artifact(answer: Answer, spec: machinery.ModuleSpec | None) -> str | None:
    """What is said of a name that is another thing in the artifact than in the files."""
    index = _frozen_index()
    if not index or (spec is not None and (spec.origin or None) == answer.file):
        return None
    if spec is None:
        return f"does not find it: it is not in {index}, which is the truth (frozen); build that again, or use --freshness stat" if answer.kind else None
    where = spec.origin or ", ".join(spec.submodule_search_locations or ())
    return f"takes {where}, because {index} is the truth (frozen); build that again, or use --freshness stat"


def _frozen_note(answers: Sequence[Answer]) -> str | None:
    """What an artifact says of a name that the files do not hold."""
    if answers[-1].kind is not None or not os.environ.get("LADEWERK_INDEX"):
        return None
    serves, text = ladewerk_view(answers[-1], answers[-2].locations if len(answers) > 1 else None)
    return f"Ladewerk {text}" if serves else None


def ladewerk_view(answer: Answer, path: Sequence[str] | None) -> tuple[bool, str]:
    """Whether Ladewerk would serve it, and a remark. It is asked for the spec, so nothing is executed; nothing is stored either."""
    if answer.candidates and answer.candidates[0].kind in ("built-in", "frozen"):
        return False, "not its business: the interpreter holds it in memory"
    os.environ["LADEWERK_READONLY"] = "1"
    try:
        installed = _native.install()
    except ValueError as error:
        return False, f"does not run here: {error}"
    if not installed:
        return False, f"does not run here: {_native.stats()['reason']}"
    aside, session = _counts("aside"), _counts("session")
    spec = _ours().find_spec(answer.name, path)
    for reason, count in _counts("aside").items():
        if count > aside[reason]:
            return False, f"leaves it to stock Python: {ASIDE.get(reason, reason)}"
    if text := _by_artifact(answer, spec):
        return spec is not None, text
    if spec is None:
        return False, "leaves it to the finders behind it"
    if _counts("session")["listings_read"] > session["listings_read"]:
        return True, "serves it, but has to read a directory that is not in its index yet"
    return True, "serves it; the directories are in its index"


# --- not found ----------------------------------------------------------------------------------------------------------


def near_misses(answer: Answer) -> list[str]:
    known = {module.name for module in pkgutil.iter_modules(answer.path)}
    if "." not in answer.name:
        known.update(sys.stdlib_module_names)
    parent, dot, tail = answer.name.rpartition(".")
    return [parent + dot + near for near in difflib.get_close_matches(tail, known, 3)]


def _excuse(name: str, answers: Sequence[Answer]) -> str | None:
    """A name that no search finds, but an import does: put into sys.modules by other code."""
    module = sys.modules.get(name)
    if module is None or answers[-1].name == name and answers[-1].kind:
        return None
    return f"{name} is put into sys.modules by other code; at this moment it is {getattr(module, '__name__', module)}" \
           f" ({getattr(module, '__file__', 'no file')})"


# --- reports ------------------------------------------------------------------------------------------------------------


def _line(mark: str, text: str, kind: str = "") -> str:
    return f"  {mark:<10} {text}" + (f"  ({kind})" if kind else "")


def _whereabouts(candidate: Candidate) -> str:
    if candidate.kind == "built-in":
        return "in the interpreter"
    if candidate.kind == "frozen":
        return "in the interpreter" + (f"; {candidate.file} is not read" if candidate.file else "")
    return candidate.file or ", ".join(candidate.locations)


def _summary(answer: Answer) -> str:
    if answer.kind == "namespace package":
        return f"a namespace package of {len(answer.locations)} portion{'s' * (len(answer.locations) > 1)}"
    if answer.kind in ("built-in", "frozen"):
        return f"a {answer.kind} {'package' if answer.locations else 'module'}"
    return f"{answer.file} ({answer.kind})"


def _path_name(answers: Sequence[Answer], i: int) -> str:
    return f"{answers[i - 1].name}.__path__" if i else "sys.path"


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _print_found(answers: Sequence[Answer], served: str, first: Iterable[str]) -> None:
    answer = answers[-1]
    print(f"{answer.name} is {_summary(answer)}\n")
    for parent in answers[:-1]:
        print(_line("parent", f"{parent.name} is {_summary(parent)}"))
    print(_line("looked in", f"{_entries(len(answer.path))} of {_path_name(answers, len(answers) - 1)}"))
    for candidate in answer.candidates:
        print(_line(candidate.state, _whereabouts(candidate), candidate.kind))
    print(_line("Ladewerk", served))
    for finder in first:
        print(_line("before", f"{finder} is asked first; that was not done here"))


def _print_missing(name: str, answers: Sequence[Answer], near: Sequence[str], notes: Sequence[str]) -> None:
    answer = answers[-1]
    print(f"{name} is not found\n")
    for parent in answers[:-1]:
        print(_line("parent", f"{parent.name} is {_summary(parent)}"))
    if answer.kind:
        print(_line("stops at", f"{answer.name}, which is {_summary(answer)} and no package"))
    else:
        print(_line("missing", answer.name))
        for entry in answer.path:
            print(_line("looked in", (entry or ".") + ("" if os.path.exists(entry or ".") else "  (does not exist)")))
    if near:
        print(_line("perhaps", " or ".join(near)))
    for note in notes:
        print(_line("note", note))


def _missing_notes(answers: Sequence[Answer], first: Sequence[str], last: Sequence[str]) -> list[str]:
    notes = []
    if len(answers) > 1:
        notes.append(f"what {answers[0].name} does when it is imported (a changed __path__, entries in sys.modules) is not known here")
    if others := [*first, *last]:
        notes.append(f"other finders may know it, and were not asked: {', '.join(others)}")
    return notes


def _as_json(name: str, answers: Sequence[Answer], **more: object) -> str:
    answer = answers[-1]
    found = answer.name == name and answer.kind is not None
    facts = {
        "name": name, "found": found, "kind": answer.kind if found else None, "file": answer.file if found else None,
        "locations": answer.locations if found else [],
        "parents": [{"name": a.name, "kind": a.kind, "file": a.file, "locations": a.locations} for a in answers if a.name != name],
        "path": answer.path, "candidates": [vars(candidate) for candidate in answer.candidates],
    }
    return json.dumps(facts | more, indent=2)


# --- the command --------------------------------------------------------------------------------------------------------


def _misuse(name: str) -> str | None:
    if os.sep in name or name.endswith(".py"):
        stem = os.path.splitext(os.path.basename(name.rstrip(os.sep)))[0]
        return f"'{name}' is a file name; give the name of a module, such as {stem or 'yaml'}"
    if not name or not all(name.split(".")):
        return f"'{name}' is not the name of a module"
    return None


def main(name: str, *, as_json: bool) -> int:
    if wrong := _misuse(name):
        complain(f"why: {wrong}")
        return USAGE
    sys.path[:] = user_path()
    answers = resolve(name, sys.path)
    first, last = finders()
    found = answers[-1].name == name and answers[-1].kind is not None
    if found:
        serves, served = ladewerk_view(answers[-1], answers[-2].locations if len(answers) > 1 else None)
        if as_json:
            print(_as_json(name, answers, ladewerk={"serves": serves, "text": served}, asked_first=first, asked_last=last))
        else:
            _print_found(answers, served, first)
        return OK
    excuse = _excuse(name, answers)
    near = near_misses(answers[-1]) if answers[-1].kind is None else []
    notes = [excuse] if excuse else _missing_notes(answers, first, last)
    if text := _frozen_note(answers):
        notes.append(text)
    if as_json:
        print(_as_json(name, answers, near=near, notes=notes, asked_first=first, asked_last=last))
    elif excuse:
        print(excuse)
    else:
        _print_missing(name, answers, near, notes)
    return OK if excuse else FAILED
