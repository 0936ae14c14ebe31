# SPDX-License-Identifier: MIT
"""`ladewerk run --report`: where the imports of this process spent their time.

The extension records (ext/observe.h) and calls `at_exit` when the interpreter ends. Until a format asks for more this module imports nothing that is not
there already: it runs within somebody else's program.
"""
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _ast
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ladewerk import _native
    from ladewerk._native import _Record as Record
else:
    _native = sys.modules["ladewerk._native"]  # `ladewerk` may be a module of the program

PHASES = {
    "execute": "module bodies, without what they import",
    "unmarshal": "code from its stored form",
    "find": "resolving names",
    "validate": "asking the file system whether that still holds",
    "compile": "code from source",
    "collect": "garbage collections",
    "wait": "for a module that another thread imports",
    "rest": "locks, specs, module objects, other finders",
}
OUTCOMES = {
    "pack": "from the cache",
    "pyc": "from a .pyc file, for the first time",
    "compiled": "from source, for the first time",
    "stock_loader": "found by Ladewerk, loaded by Python, as extension modules are",
    "builtin": "built in or frozen",
    "namespace": "packages without a file",
    "finder": "from another finder",
    "stock": "left to Python: patched functions, say",
    "waited": "begun by another thread",
    "failed": "raised an exception, as imports of optional modules do",
}
WIDTH = 100
TOP, BRANCHES, UNUSED = 15, 25, 10  # lines of the tables
EDGES = 40  # imports whose importers are read to see whether they use them


# --- what was recorded --------------------------------------------------------------------------------------------------


class Import:
    """One import. Times are ns; `own` is without, `whole` with what it imported itself."""

    __slots__ = ("name", "importer", "begun", "ended", "thread", "depth", "outcome", "phases", "inside", "own", "whole", "size", "parent", "children")

    def __init__(self, record: Record) -> None:
        self.name, self.importer, self.begun, self.ended, self.thread, self.depth, self.outcome, self.phases, self.inside = record
        self.own = sum(self.phases.values())
        self.whole = self.ended - self.begun
        self.size = 1
        self.parent: Import | None = None
        self.children: list[Import] = []

    def adopt(self, children: list[Import]) -> None:
        self.children = children
        for child in children:
            child.parent = self
            self.size += child.size


class Report:
    """The imports in the order in which they ended, and what they come to. LAZY: what _lazy_report.facts() says, or None."""

    def __init__(self, records: list[Record], ended: int) -> None:
        self.lazy: dict[str, Any] | None = None
        self.imports = _linked(records)
        self.roots = [item for item in self.imports if item.parent is None]
        self.total = sum(item.whole for item in self.roots)
        self.elapsed = ended - min((item.begun for item in self.imports), default=ended)
        self.threads = list(dict.fromkeys(item.thread for item in sorted(self.imports, key=lambda item: item.begun)))

    def phases(self) -> dict[str, int]:
        return {phase: sum(item.phases.get(phase, 0) for item in self.imports) for phase in PHASES}

    def outcomes(self) -> dict[str, int]:
        return {outcome: sum(item.outcome == outcome for item in self.imports) for outcome in OUTCOMES}


def _linked(records: list[Record]) -> list[Import]:
    """An import's children ended before it on the same thread, are deeper, and began within it."""
    imports = [Import(record) for record in records]
    orphans: dict[int, list[Import]] = {}
    for item in imports:
        waiting = orphans.setdefault(item.thread, [])
        first = len(waiting)
        while first and waiting[first - 1].depth > item.depth and waiting[first - 1].begun >= item.begun:
            first -= 1
        item.adopt(waiting[first:])
        waiting[first:] = [item]
    return imports


# --- not used by name ---------------------------------------------------------------------------------------------------


class Unused:
    def __init__(self, item: Import, bindings: list[Binding]) -> None:
        self.item, self.names, self.line = item, [binding.name for binding in bindings], bindings[0].line


def _nodes(tree: _ast.AST) -> Iterator[_ast.AST]:
    """All nodes but what only type checkers see, and docstrings."""
    import _ast

    stack: list[object] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, _ast.If) and "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", "")):
            stack.append(node.orelse)
        elif isinstance(node, _ast.AST) and not (isinstance(node, _ast.Expr) and isinstance(node.value, _ast.Constant)):
            yield node
            stack += [getattr(node, field, None) for field in node._fields]


def _words(text: str) -> set[str]:
    return set("".join(c if c.isidentifier() or c.isdigit() else " " for c in text).split())


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


class Binding:
    """A name, and whether it is bound for others (or says that it is not to be used here)."""

    def __init__(self, name: str, alias: _ast.alias, lines: list[str], line: int) -> None:
        self.name, self.line = name, line
        self.intended = alias.name == "*" or alias.asname == alias.name or not name.strip("_") or any("noqa" in text for text in lines)


class Source:
    """What the source of a module binds by import statements, and which names it uses."""

    def __init__(self, text: str, package: str) -> None:
        import _ast

        self.package, self.lines = package, text.splitlines()
        self.bound: dict[str, list[Binding]] = {}  # because of the import of which module
        self.used: set[str] = set()
        for node in _nodes(compile(text, "<source>", "exec", _ast.PyCF_ONLY_AST, True)):
            if isinstance(node, (_ast.Import, _ast.ImportFrom)):
                self._read(node)
            elif isinstance(node, _ast.Name) and not isinstance(node.ctx, _ast.Store):
                self.used.add(node.id)
            elif isinstance(node, _ast.AugAssign) and isinstance(node.target, _ast.Name):
                self.used.add(node.target.id)
            elif isinstance(node, _ast.Constant) and isinstance(node.value, str):
                self.used |= _words(node.value)  # __all__, annotations, getattr()

    def _base(self, node: _ast.ImportFrom) -> str:
        parents = self.package.split(".")
        parents = parents[:len(parents) - node.level + 1] if node.level else []
        return ".".join([*parents, *([node.module] if node.module else [])])

    def _read(self, node: _ast.Import | _ast.ImportFrom) -> None:
        import _ast

        base = "" if isinstance(node, _ast.Import) else self._base(node)
        lines = self.lines[node.lineno - 1:node.end_lineno]
        for alias in node.names:
            first = alias.name if base else alias.name.partition(".")[0]
            binding = Binding(alias.asname or first, alias, lines, node.lineno)
            for module in _with_parents(f"{base}.{alias.name}" if base else alias.name):
                self.bound.setdefault(module, []).append(binding)

    def unused(self, module: str) -> list[Binding]:
        """What the import of MODULE bound, if none of it is used; else nothing."""
        bindings = self.bound.get(module, [])
        return [] if any(binding.name in self.used or binding.intended for binding in bindings) else bindings


def _source(importer: str) -> Source | None:
    """None where nothing can be told: a package (it imports for others), no source, a module that looks at its names by other means."""
    try:
        module = sys.modules[importer]
        if hasattr(module, "__path__"):
            return None
        spec = module.__spec__
        text = module.__loader__.get_source(spec.name if spec else importer)  # type: ignore[union-attr]
        source = Source(text, module.__package__ or "")
    except Exception:  # somebody else's loader, somebody else's source
        return None
    return None if source.used & {"globals", "locals", "vars", "eval", "exec", "dir"} else source


def unused(report: Report) -> list[Unused]:
    """The dearest imports whose importer does not use what it bound."""
    import warnings

    threshold = max(1_000_000, report.total // 100)
    edges: dict[tuple[str, str], Import] = {}
    for item in sorted(report.imports, key=lambda item: -item.whole)[:EDGES]:
        if item.importer and not item.inside and item.whole >= threshold and item.outcome != "failed":  # an engine's modules are not in sys.modules
            edges.setdefault((item.importer, item.name), item)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the sources were shown when they were compiled
        sources = {importer: _source(importer) for importer, _ in edges}
    found = []
    for (importer, name), item in edges.items():
        source = sources[importer]
        if source and (bindings := source.unused(name)):
            found.append(Unused(item, bindings))
    return found


# --- text ---------------------------------------------------------------------------------------------------------------


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.2f}"


def _clean(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _cut(text: str, width: int) -> str:
    """At its front: the end of a module's name tells more."""
    text = _clean(text)
    return text if len(text) <= width else "..." + text[3 - width:]


def _head(report: Report) -> Iterator[str]:
    version = ".".join(map(str, sys.version_info[:3]))
    command = " ".join(map(_clean, sys.orig_argv[1:]))
    about = f" (pid {os.getpid()}, Python {version}, {_native.stats()['freshness'] or 'inactive'})"
    room = WIDTH - len("ladewerk report: ") - len(about)
    yield f"ladewerk report: {command if len(command) <= room else command[:room - 3] + '...'}{about}"
    yield ""
    count = len(report.imports)
    many = len(report.threads) > 1
    yield f"{count} import{'s' * (count != 1)}{f' on {len(report.threads)} threads' * many} took {_ms(report.total)} ms{' together' * many}; " \
          f"{_ms(report.elapsed)} ms went by from the first one to the end of the program"


def _phase_table(report: Report) -> Iterator[str]:
    yield f"{'phase':<10} {'self ms':>10} {'share':>7}"
    phases = report.phases()
    whole = sum(phases.values()) or 1
    for phase, ns in sorted(phases.items(), key=lambda item: -item[1]):
        if ns:
            yield f"{phase:<10} {_ms(ns):>10} {100 * ns / whole:5.1f} %  {'#' * round(20 * ns / whole):<20}  {PHASES[phase]}"


def _outcome_table(report: Report) -> Iterator[str]:
    yield f"{'served':<13} {'imports':>7} {'self ms':>10}"
    for outcome, count in report.outcomes().items():
        if count:
            ns = sum(item.own for item in report.imports if item.outcome == outcome)
            yield f"{outcome:<13} {count:>7} {_ms(ns):>10}  {OUTCOMES[outcome]}"


def _self_table(report: Report) -> Iterator[str]:
    yield f"{'self ms':>10} {'total ms':>10}  {'served':<12}  {'module':<34}  importer"
    for item in sorted(report.imports, key=lambda item: -item.own)[:TOP]:
        yield f"{_ms(item.own):>10} {_ms(item.whole):>10}  {item.outcome:<12}  {_cut(item.name, 34):<34}  {_cut(item.importer or '-', 26)}"


def _branches(report: Report) -> set[int]:
    """The dearest imports. Whatever is among them, its parent is too."""
    dearest = sorted(report.imports, key=lambda item: (-item.whole, item.depth))[:BRANCHES]
    return {id(item) for item in dearest if item.whole * 100 >= report.total}


def _tree_table(report: Report) -> Iterator[str]:
    shown = _branches(report)
    yield f"{'total ms':>10} {'self ms':>10} {'share':>7} {'imports':>8}  subtree"
    stack = [(item, 0) for item in sorted(report.roots, key=lambda item: item.whole)]
    while stack:
        item, level = stack.pop()
        if id(item) not in shown:
            continue
        name = "  " * min(level, 15) + item.name
        yield f"{_ms(item.whole):>10} {_ms(item.own):>10} {100 * item.whole / (report.total or 1):5.1f} % {item.size:>8}  {_cut(name, WIDTH - 40)}"
        stack += [(child, level + 1) for child in sorted(item.children, key=lambda child: child.whole)]


def _unused_table(report: Report) -> Iterator[str]:
    found = unused(report)[:UNUSED]
    if found:
        yield f"{'total ms':>10}  not used by name in its importer (others may need it, or what its import does)"
    for one in found:
        where = f"in {_cut(one.item.importer or '', 34)}, line {one.line}"
        yield f"{_ms(one.item.whole):>10}  {_cut(one.item.name, WIDTH - 14 - len(where))}  {where}"


def as_text(report: Report) -> Iterator[str]:
    yield from _head(report)
    if not report.imports:
        return
    for table in (_phase_table, _outcome_table, _self_table, _tree_table, _unused_table):
        lines = list(table(report))
        if lines:
            yield from ("", *lines)
    for lines in _lazy_report().tables(report.lazy, report.total) if report.lazy else ():
        if lines:
            yield from ("", *lines)


# --- as Python's own -X importtime --------------------------------------------------------------------------------------


def _us(ns: int) -> int:
    return -(-ns // 1000)


def as_importtime(report: Report) -> Iterator[str]:
    yield "import time: self [us] | cumulative | imported package"
    for item in report.imports:
        if item.outcome == "waited":
            continue  # Python counts imports, and this is somebody else's
        yield f"import time: {_us(item.own):9} | {_us(item.whole):10} | {'  ' * item.depth}{item.name}"


# --- JSON, Chrome -------------------------------------------------------------------------------------------------------


def _json_lines(value: dict[str, Any], long: str) -> Iterator[str]:
    """VALUE, with an item of its list LONG on each line."""
    import json

    items = value.pop(long)
    yield json.dumps(value)[:-1] + f', "{long}": ['
    for number, item in enumerate(items, 1):
        yield json.dumps(item) + "," * (number < len(items))
    yield "]}"


def as_json(report: Report) -> Iterator[str]:
    numbers = {id(item): number for number, item in enumerate(report.imports)}
    origin = min((item.begun for item in report.imports), default=0)
    return _json_lines({
        "format": 1,
        "ladewerk": _native.__version__,
        "python": sys.version,
        "argv": sys.orig_argv,
        "pid": os.getpid(),
        "begun_ns": origin,
        "elapsed_ns": report.elapsed,
        "total_ns": report.total,
        "phases_ns": report.phases(),
        "outcomes": report.outcomes(),
        "stats": _native.stats(),
        "unused": [{"module": one.item.name, "importer": one.item.importer, "names": one.names, "line": one.line, "cumulative_ns": one.item.whole}
                   for one in unused(report)],
        "lazy": report.lazy,
        "imports": [{"name": item.name, "importer": item.importer, "parent": numbers[id(item.parent)] if item.parent else None, "thread": item.thread,
                     "depth": item.depth, "begun_ns": item.begun - origin, "cumulative_ns": item.whole, "self_ns": item.own,
                     "outcome": item.outcome, "phases_ns": item.phases} for item in report.imports],
    }, "imports")


def as_chrome(report: Report) -> Iterator[str]:
    """Trace Event Format, which Perfetto and chrome://tracing read. Times are us."""
    pid = os.getpid()
    number = {thread: pid + n for n, thread in enumerate(report.threads)}  # viewers take 32 bits; the first one to import is the main thread, as a rule
    events: list[dict[str, object]] = [{"name": "process_name", "ph": "M", "pid": pid, "args": {"name": " ".join(sys.orig_argv)}}]
    for thread, tid in number.items():
        events.append({"name": "thread_name", "ph": "M", "pid": pid, "tid": tid, "args": {"name": f"thread {thread:#x}"}})
    for item in report.imports:
        events.append({"name": item.name, "cat": "import", "ph": "X", "ts": item.begun / 1000, "dur": item.whole / 1000, "pid": pid, "tid": number[item.thread],
                       "args": {"importer": item.importer, "outcome": item.outcome, "self_us": item.own / 1000,
                                **{f"{phase}_us": ns / 1000 for phase, ns in item.phases.items()}}})
    return _json_lines({"displayTimeUnit": "ms", "traceEvents": events}, "traceEvents")


FORMATS = {"text": as_text, "importtime": as_importtime, "json": as_json, "chrome": as_chrome}


# --- lazy imports -------------------------------------------------------------------------------------------------------


def _lazy_report() -> Any:
    """ladewerk._lazy_report, from beside us: `ladewerk` may be a module of the program."""
    name = "ladewerk._lazy_report"
    if name not in sys.modules:
        finder, load = sys.modules["_frozen_importlib_external"].PathFinder, sys.modules["_frozen_importlib"]._load
        load(finder.find_spec(name, [__file__.rpartition("/")[0]]))
    return sys.modules[name]


def _lazy(imports: list[Import]) -> dict[str, Any] | None:
    """None: nobody has asked for lazy imports."""
    settings = _native.stats()["lazy"]
    if settings["mode"] == "off" and not settings["reason"]:
        return None
    census = _native.lazy_census()  # before anything else is imported here
    return _lazy_report().facts(imports, census, settings)  # type: ignore[no-any-return]


# --- at exit ------------------------------------------------------------------------------------------------------------


def _bytes(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _say(lines: Iterable[str]) -> None:
    """To stderr, past its buffer: what could not be written from there would change the exit status."""
    data = memoryview(_bytes(lines))
    try:
        if sys.__stderr__:
            sys.__stderr__.flush()
            while data:
                data = data[os.write(sys.__stderr__.fileno(), data):]
    except (OSError, ValueError):
        pass  # there is nobody to tell


def _save(path: str, lines: Iterable[str]) -> None:
    data = _bytes(lines)
    with open(path, "wb") as file:
        file.write(data)
    _say([f"ladewerk: the report is in {path}"])


def at_exit(setting: str, records: list[Record]) -> None:
    """SETTING is LADEWERK_REPORT as it was at the start: "PID:FORMAT:PATH". Never raises: the program has ended, and its exit status stands."""
    try:
        import time

        _, form, path = setting.split(":", 2)
        report = Report(records, time.monotonic_ns())
        if form in ("text", "json"):
            report.lazy = _lazy(report.imports)
        lines = FORMATS[form](report)
        if path:
            _save(path, lines)
        else:
            _say(lines)
    except OSError as error:
        _say([f"ladewerk: the report cannot be written to {error.filename or path}: {error.strerror}"])
    except Exception as error:
        _say([f"ladewerk: there is no report: {type(error).__name__}: {error}"])
