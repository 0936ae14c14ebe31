# SPDX-License-Identifier: MIT
"""What `ladewerk run --report` says of lazy imports: what was never materialised and what that would have cost, what was materialised by whom, and what was eager.

Within somebody else's program, at its end: imports nothing that is not there already.
"""
from __future__ import annotations

import os
import sys
import time
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _ast
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    from ladewerk import _lazy_measure, _native, _report
    from ladewerk._native import _LazyName as Row

    _Facts: TypeAlias = dict[str, Any]
else:
    _native = sys.modules["ladewerk._native"]
    _report = sys.modules.get("ladewerk._report")  # which has loaded this

TOP = 15  # lines of a table
EDGES = 60  # imports whose importers are read
PATIENCE = 60.0  # seconds for the measurement
KILLED = 9


def _namespace(name: str) -> dict[str, Any]:
    """That of a module as it is: looking resolves nothing. Proxies may say that they are modules, which isinstance() believes."""
    module: Any = sys.modules.get(name)
    return _native._namespace(module) if issubclass(type(module), ModuleType) else {}


# --- what was never materialised ----------------------------------------------------------------------------------------


def _left_out(row: Row) -> str | None:
    """The module that ROW's name waits for, if it is not loaded."""
    _, _, _, module, attribute, _, state, _, _, _ = row
    if state != "waits":
        return None
    if module not in sys.modules:
        return module
    if not attribute or attribute in _namespace(module) or f"{module}.{attribute}" in sys.modules:
        return None
    return f"{module}.{attribute}"


def _never(census: Sequence[Row]) -> list[_Facts]:
    """One for each module, with the first statement that would have imported it, in the order of these."""
    found: dict[str, _Facts] = {}
    for row in census:
        if (name := _left_out(row)) is not None:
            one = found.setdefault(name, {"module": name, "importer": row[0], "file": row[1], "line": row[2], "names": [], "ns": None, "modules": None})
            if row[4] and name == row[3] and row[4] not in one["names"]:
                one["names"].append(row[4])
    return list(found.values())


def _loaded() -> list[str]:
    """Names that an import statement could load, in the order in which they were."""
    return [name for name in sys.modules if isinstance(name, str) and getattr(_namespace(name).get("__spec__"), "name", None) == name and name != "__main__"]


def _spawn(mode: str, order: int, answers: int) -> int:
    """A process that measures, in a group of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LADEWERK_REPORT") and name != "LADEWERK_LAZY_CHECK"}
    environment.update(LADEWERK="1", LADEWERK_LAZY=mode)
    program = __file__.rpartition("/")[0] + "/_lazy_measure.py"
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    words = [sys.executable, *["-O"] * sys.flags.optimize, program, str(order), str(answers)]
    return os.posix_spawn(sys.executable, words, environment, file_actions=nothing, setpgroup=0)


def _wait(process: int) -> None:
    deadline = time.monotonic() + PATIENCE
    try:
        while os.waitpid(process, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(process, KILLED)
                os.waitpid(process, 0)
                return
            time.sleep(0.005)
    except ChildProcessError:
        pass  # the program has children waited for


def _run(mode: str, order: bytes, count: int) -> list[_lazy_measure.Answer]:
    """As many answers as there were before it ended."""
    import marshal

    files = [os.memfd_create("ladewerk", 0), os.memfd_create("ladewerk", 0)]
    try:
        os.write(files[0], order)
        os.lseek(files[0], 0, os.SEEK_SET)
        _wait(_spawn(mode, *files))
        os.lseek(files[1], 0, os.SEEK_SET)
        found = []
        with open(files[1], "rb", closefd=False) as file:
            for _ in range(count):
                found.append(marshal.load(file))
    except (OSError, EOFError, ValueError):
        pass
    finally:
        for number in files:
            os.close(number)
    return found


def _measure(mode: str, never: Sequence[_Facts]) -> None:
    """Twice: the first time reads and learns code."""
    import marshal

    targets = [(one["module"], one["names"]) for one in never]
    order: _lazy_measure.Order = [str(entry) for entry in sys.path], _loaded(), targets
    answers: list[_lazy_measure.Answer] = []
    for _ in range(2 if targets else 0):
        answers = _run(mode, marshal.dumps(order), len(targets))
    for one, (ns, modules, good) in zip(never, answers):
        if good:
            one["ns"], one["modules"] = ns, modules


# --- what was, and by whom ----------------------------------------------------------------------------------------------


def _materialised(census: Sequence[Row]) -> list[_Facts]:
    return [{"module": module, "attribute": attribute, "name": name, "importer": importer, "file": file, "line": line, "by": {"file": user, "line": user_line}, "ns": ns}
            for importer, file, line, module, attribute, name, state, user, user_line, ns in sorted(census, key=lambda row: -row[9]) if state == "resolved"]


# --- what was eager -----------------------------------------------------------------------------------------------------


def _statements(body: Iterable[_ast.AST], why: str | None = None) -> Iterator[tuple[_ast.Import | _ast.ImportFrom, str | None]]:
    """Import statements that run when the module does, and what there is about their places that keeps them from waiting."""
    import _ast

    places = {_ast.Try: "in a try statement", getattr(_ast, "TryStar", _ast.Try): "in a try statement", _ast.With: "in a with statement", _ast.For: "in a loop",
              _ast.While: "in a loop", _ast.ClassDef: "in a class"}
    for node in body:
        if isinstance(node, (_ast.Import, _ast.ImportFrom)):
            star = any(alias.name == "*" for alias in node.names)
            yield node, why or ("from ... import *" if star else None)
        elif isinstance(node, _ast.If) and "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", "")):
            yield from _statements(node.orelse, why)
        elif not isinstance(node, (_ast.FunctionDef, _ast.AsyncFunctionDef)):
            for field in ("body", "handlers", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, ()), why or places.get(type(node)))


def _waiting_lines(code: Any) -> set[int]:
    """Of the statements that may wait by their form."""
    plan = _native._lazy_plan(code)
    lines = [line for line in code.co_lines() if line[2] is not None]
    return {number for statement in (plan[1] if plan else ()) for start, end, number in lines if start <= 2 * statement[0] < end}


def _bases(node: _ast.Import | _ast.ImportFrom, package: str) -> list[str]:
    """The modules that NODE imports: `from a import b` may mean a.b."""
    import _ast

    if isinstance(node, _ast.Import):
        return [alias.name for alias in node.names]
    parents = package.split(".")
    parents = parents[:len(parents) - node.level + 1] if node.level else []
    base = ".".join([*parents, *([node.module] if node.module else [])])
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def _read(importer: str) -> dict[str, tuple[int, str]]:
    """Line and reason for each module that IMPORTER imports when it is executed. Empty: its source cannot be had."""
    import _ast

    own = _namespace(importer)
    try:
        spec = own.get("__spec__")
        text = own["__loader__"].get_source(spec.name if spec else importer)
        tree: Any = compile(text, "<source>", "exec", _ast.PyCF_ONLY_AST, True)
        waiting = _waiting_lines(compile(text, "<source>", "exec", 0, True))
    except Exception:  # somebody else's loader, somebody else's source
        return {}
    found: dict[str, tuple[int, str]] = {}
    for node, why in _statements(tree.body):
        if why is None:
            why = "in the program itself" if importer == "__main__" else "by the mode or a rule" if node.lineno in waiting else "name unused, or bound otherwise"
        for base in _bases(node, own.get("__package__") or ""):
            for module in _report._with_parents(base):
                found.setdefault(module, (node.lineno, why))
    return found


def _eager(imports: Sequence[_report.Import], census: Sequence[Row]) -> list[_Facts]:
    """The dearest imports by statements that did not wait. What was imported at first use of a name is no such; nor what functions import when they are called."""
    used = {above for row in census if row[6] == "resolved" for above in _report._with_parents(f"{row[3]}.{row[4]}" if row[4] else row[3])}
    read: dict[str, dict[str, tuple[int, str]]] = {}
    found: list[_Facts] = []
    for item in sorted(imports, key=lambda item: -item.whole)[:EDGES]:
        if item.importer and not item.inside and item.outcome != "failed" and item.name not in used:
            if item.importer not in read:
                read[item.importer] = _read(item.importer)
            if where := read[item.importer].get(item.name):
                found.append({"module": item.name, "importer": item.importer, "line": where[0], "why": where[1], "cumulative_ns": item.whole})
    return found


# --- all of it ----------------------------------------------------------------------------------------------------------


def facts(imports: Sequence[_report.Import], census: Sequence[Row], settings: _Facts) -> _Facts:
    """For the JSON report, and the tables. CENSUS was taken before this module was loaded."""
    import warnings

    if settings["reason"]:
        return {**settings, "never": [], "materialised": [], "eager_imports": []}
    never = _never(census)
    _measure(settings["mode"], never)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the sources were shown when they were compiled
        eager = _eager(imports, census)
    return {**settings, "never": never, "materialised": _materialised(census), "eager_imports": eager}


def _place(where: str | None, line: int | None, width: int) -> str:
    """A module or a file, and its line, which is never cut."""
    number = f":{line or '?'}"
    return _report._cut(where or "?", width - len(number)) + number


def _never_table(never: Sequence[_Facts]) -> Iterator[str]:
    if not never:
        return
    measured = [one["ns"] for one in never if one["ns"] is not None]
    yield f"never materialised: {len(measured)} module{'s' * (len(measured) != 1)} that would have cost {_report._ms(sum(measured))} ms" \
          f"{f', {len(never) - len(measured)} that could not be measured' * (len(measured) < len(never))}"
    yield "(measured in a process of its own: after what was loaded here, in the order of their statements)"
    yield f"{'cost ms':>10} {'modules':>8}  {'module':<34}  imported by"
    for one in sorted(never, key=lambda one: -(one["ns"] or 0))[:TOP]:
        cost = _report._ms(one["ns"]) if one["ns"] is not None else "?"
        yield f"{cost:>10} {one['modules'] if one['modules'] is not None else '?':>8}  {_report._cut(one['module'], 34):<34}  {_place(one['importer'], one['line'], 43)}"


def _materialised_table(rows: Sequence[_Facts]) -> Iterator[str]:
    if rows:
        yield f"{'total ms':>10}  {'materialised':<28}  {'imported by':<24}  by the use in"
    for one in rows[:TOP]:
        name = f"{one['module']}.{one['attribute']}" if one["attribute"] else one["module"]
        yield f"{_report._ms(one['ns']):>10}  {_report._cut(name, 28):<28}  {_place(one['importer'], one['line'], 24):<24}  {_place(one['by']['file'], one['by']['line'], 32)}"


def _eager_table(rows: Sequence[_Facts]) -> Iterator[str]:
    if rows:
        yield f"{'total ms':>10}  {'eager':<28}  {'imported by':<24}  why"
    for one in rows[:TOP]:
        yield f"{_report._ms(one['cumulative_ns']):>10}  {_report._cut(one['module'], 28):<28}  {_place(one['importer'], one['line'], 24):<24}  {one['why']}"


def tables(lazy: _Facts, total: int) -> Iterator[list[str]]:
    """TOTAL: ns of all imports; what took less than a hundredth of it is not shown among what was eager."""
    if lazy["reason"]:
        yield [f"lazy imports: none, because {lazy['reason']}"]
        return
    if hasattr(sys, "set_lazy_imports"):  # 3.15
        yield [f"lazy imports, mode {lazy['mode']}: the language's own, which does not tell what waited and who used it"]
    else:
        yield [f"lazy imports, mode {lazy['mode']}: {lazy['registered']} names waited; used: {lazy['resolved']}"]
    yield list(_never_table(lazy["never"]))
    yield list(_materialised_table(lazy["materialised"]))
    yield list(_eager_table([one for one in lazy["eager_imports"] if one["cumulative_ns"] * 100 >= total]))
