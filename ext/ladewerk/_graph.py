# SPDX-License-Identifier: MIT
"""`ladewerk graph`: the graph is C; here are the sources that nobody has compiled yet, and what is printed.

A question about a graph that is stored and holds takes a few milliseconds, so nothing is imported here that it does not need.
"""
from __future__ import annotations

import os
import sys

from ladewerk import _live, _native
from ladewerk.cli import OK, Failure, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

FORMAT = 1  # of the JSON
FORMATS = ("text", "json", "dot")
KINDS = _live.EDGE_KINDS
ALL = (1 << len(KINDS)) - 1
NEVER = 1 << KINDS.index("typing")
AT_IMPORT = 1 << KINDS.index("module")
WORDS = {"module": "", "conditional": "conditional", "lazy": "lazy", "function": "in a function", "typing": "for type checkers", "observed": "observed"}
KNOWN = {"package": "a package", "namespace": "a namespace package", "module": "a module", "extension": "an extension module", "bytecode": "a module without source",
         "external": "not below the roots"}


# --- making the graph ---------------------------------------------------------------------------------------------------


def _store() -> tuple[str, str, str, bool, int, int | None] | None:
    """Where it is stored; None: there is no place, and everything is read each time."""
    env = {} if sys.flags.ignore_environment else os.environ
    try:
        place, key, about = _native.place()
        if place is None:
            return None
        trusted = env.get("LADEWERK_TRUST_UID", "")
        owner = os.stat(sys.prefix).st_uid
    except (OSError, RuntimeError, ValueError):
        return None
    readonly = env.get("LADEWERK_READONLY", "0") not in ("", "0")
    return place, key, about, readonly, owner, int(trusted) if trusted.isascii() and trusted.isdigit() and len(trusted) < 10 else None


def _pyc_tail() -> str | None:
    tag, optimize = sys.implementation.cache_tag, sys.flags.optimize
    return None if sys.pycache_prefix or not tag else f".{tag}{f'.opt-{optimize}' if optimize else ''}.pyc"


def read(job: tuple[int, str]) -> tuple[int, list[Any] | None, bool]:
    """The edges of a source: number, edges or None, could it be read?"""
    import warnings

    number, path = job
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError:
        return number, None, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for whoever imports it
            return number, _live.edges(compile(source, path, "exec", dont_inherit=True)), True
    except Exception:  # besides SyntaxError: null bytes, too deep
        return number, None, True


def build(builder: _live.GraphBuilder, threads: int, observed: Iterable[tuple[str, str]] = ()) -> tuple[_live.Graph, int]:
    """A new graph, and the errno that kept it from being stored."""
    try:
        left = builder.gather(_pyc_tail()) if builder.scan(threads) else []
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    if left:
        from ladewerk._index import compile_all

        for number, edges, readable in compile_all(left, threads, read):
            builder.put(number, edges, readable)
    for importer, imported in observed:
        builder.observe(importer, imported)
    return builder.finish()


def _can_be_read(graph: _live.Graph, sides: Iterable[bool]) -> bool:
    """Whether what GRAPH says of imports, and BACK of importers, is all there: the file is read as far as it is needed, and may be damaged further on."""
    try:
        for back in sides if len(graph) else ():
            graph.edges(0, back)
    except OSError:
        return False
    return True


def load(roots: Sequence[str], threads: int = 0, observed: Iterable[tuple[str, str]] | None = None, only: str | None = None,
         sides: Iterable[bool] = (False, True), kinds: int = 0) -> _live.Graph:
    """The graph of ROOTS (absolute paths), as the tree is now. ONLY: as far as the imports of this module go; with KINDS also whom these import by statements
    of such kinds, and so on. SIDES: False for imports, True for importers."""
    store = _store()
    builder = _live.GraphBuilder(list(roots), store)
    env = {} if sys.flags.ignore_environment else os.environ
    daemon = env.get("LADEWERK_FRESHNESS", "watch") == "watch"
    if observed is None:
        found = builder.stored(threads, only, daemon, not sys.flags.ignore_environment, kinds)
        if found is not None and _can_be_read(found, sides):
            return found
    graph, error = build(builder, threads, observed or ())
    if error and store and not store[3]:
        complain(f"graph: nothing was stored ({os.strerror(error)}), so the next question takes as long")
    return graph


# --- command line -------------------------------------------------------------------------------------------------------


class Options:
    def __init__(self) -> None:
        self.roots: list[str] = []
        self.of: str | None = None
        self.imports = self.importers = self.transitive = self.cycles = self.internal = False
        self.format = "text"
        self.kinds: int | None = None
        self.threads = 0
        self.observed: list[str] = []


def kinds_of(text: str) -> int:
    """ValueError: no such kind."""
    if text == "all":
        return ALL
    bits = 0
    for word in text.split(","):
        if word not in KINDS:
            raise ValueError(f"--kind takes {', '.join(KINDS)} (several, with commas between them) or all, not '{word}'")
        bits |= 1 << KINDS.index(word)
    return bits


FLAGS = ("imports", "importers", "transitive", "cycles", "internal")


def quick(words: list[str]) -> Options | None:
    """The command line, if it is a plain one; else argparse reads it, and complains."""
    options, rest = Options(), list(words)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if not word.startswith("-") and not equals:
            options.roots.append(word)
        elif word[2:] in FLAGS and not equals:
            setattr(options, word[2:], True)
        elif word in ("--of", "--format", "--kind"):
            if not equals and (not rest or rest[0].startswith("-")):
                return None
            value = value if equals else rest.pop(0)
            try:
                setattr(options, "kinds" if word == "--kind" else word[2:], kinds_of(value) if word == "--kind" else value)
            except ValueError:
                return None
        else:
            return None
    return None if misuse(options) or options.format not in FORMATS else options


def misuse(options: Any) -> str | None:
    if options.cycles and (options.of or options.imports or options.importers or options.transitive):
        return "--cycles is about the whole graph: it goes with none of --of, --imports, --importers and --transitive"
    if not options.of and (options.imports or options.importers or options.transitive):
        return "--imports, --importers and --transitive need --of NAME"
    return None


def _roots(given: Sequence[str]) -> list[str]:
    roots = []
    for root in given or ["."]:
        path = os.path.abspath(root)
        if not os.path.isdir(path):
            raise Failure(f"{root}: {'not a directory' if os.path.exists(path) else 'there is no such directory'}")
        roots.append(path)
    return list(dict.fromkeys(roots))


def _observed(paths: Sequence[str]) -> list[tuple[str, str]]:
    import json

    pairs: dict[tuple[str, str], None] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
            for one in report["imports"]:
                if isinstance(one["importer"], str) and isinstance(one["name"], str) and one["outcome"] != "failed":
                    pairs[one["importer"], one["name"]] = None
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise Failure(f"{path} is no report; `ladewerk run --report=json` writes one") from None
    return [pair for pair in pairs if all(name and "\0" not in name and all(name.split(".")) and len(name) < 1000 for name in pair)]


# --- what is said -------------------------------------------------------------------------------------------------------


def _when(kinds: int) -> list[str]:
    return [kind for bit, kind in enumerate(KINDS) if kinds >> bit & 1]


def _words(kinds: int) -> str:
    words = [WORDS[kind] for kind in _when(kinds)]
    # What happens in any case needs no word, nor what may happen besides.
    return "" if not words[0] and words[-1] != "observed" else "; ".join(word for word in words if word)


def kinds_meant(options: Any) -> int:
    usual = AT_IMPORT if options.cycles else ALL & ~NEVER if options.transitive else ALL
    return usual if options.kinds is None else options.kinds


class View:
    """A graph, and what of it was asked for."""

    def __init__(self, graph: _live.Graph, roots: list[str], options: Any) -> None:
        self.graph, self.roots, self.options = graph, roots, options
        self.kinds = kinds_meant(options)

    def shown(self, number: int) -> bool:
        return not self.options.internal or self.graph.kind(number) != "external"

    def number(self) -> int:
        number = self.graph.find(self.options.of)
        if number < 0:
            raise Failure(f"{self.options.of}: there is no such module below {', '.join(self.roots)}, and nothing there imports one")
        return number

    def sides(self) -> list[tuple[str, bool]]:
        both = self.options.imports == self.options.importers
        return [(title, back) for title, back in (("imports", False), ("importers", True)) if both or getattr(self.options, title)]

    def related(self, number: int, back: bool) -> list[tuple[int, int, int, int]]:
        """node, kinds, line, the one that it was reached by"""
        if self.options.transitive:
            found = [(node, 0, 0, via) for node, via in self.graph.reach(number, back, self.kinds)]
        else:
            found = [(node, kinds, line, number) for node, kinds, line in self.graph.edges(number, back, self.kinds)]
        return [one for one in found if self.shown(one[0])]


def _text_of(view: View) -> None:
    number = view.number()
    graph = view.graph
    name, kind, path, state = graph.node(number)
    print(f"{name} is {KNOWN[kind]}{f' ({path})' if path else ''}{'' if state == 'read' else ', which cannot be read' if state == 'unreadable' else ', which does not compile'}")
    for title, back in view.sides():
        rows = view.related(number, back)
        print(f"\n{'imported by' if back else 'imports'}{', directly or not' if view.options.transitive else ''}: {len(rows):,}")
        width = max((len(graph.name(row[0])) for row in rows[:1000]), default=0)
        out = []
        for node, kinds, line, via in rows:
            remarks = [f"through {graph.name(via)}" if via != number else ""] if view.options.transitive else [f"line {line}" if line else "", _words(kinds)]
            if graph.kind(node) == "external":
                remarks.append("external")
            out.append(f"  {graph.name(node):{width}}  {', '.join(filter(None, remarks))}".rstrip())
        if out:
            print("\n".join(out))


def _text_cycles(view: View) -> None:
    cycles = view.graph.cycles(view.kinds)
    print("no cycles" if not cycles else "1 cycle" if len(cycles) == 1 else f"{len(cycles):,} cycles")
    for members, path in cycles:
        names = [view.graph.name(node) for node in path]
        more = len(members) - len(path)
        print(f"  {' -> '.join([*names, *names[:1]])}" + (f", and {more:,} more that import each other" if more else ""))


def _text_all(view: View) -> None:
    graph = view.graph
    counts: dict[str, int] = {}
    bad = []
    edges = 0
    for number in range(len(graph)):
        _, kind, path, state = graph.node(number)
        counts[kind] = counts.get(kind, 0) + 1
        edges += sum(view.shown(node) for node, _, _ in graph.edges(number, False, view.kinds))
        if state != "read":
            bad.append(f"{path} {'cannot be read' if state == 'unreadable' else 'does not compile'}")
    names = {"module": "modules", "package": "packages", "namespace": "namespace packages", "extension": "extension modules", "bytecode": "modules without source",
             "external": "external names"}
    print("\n".join(f"{counts[kind]:>9,}  {text}" for kind, text in names.items() if kind in counts and (kind != "external" or not view.options.internal)))
    print(f"{edges:>9,}  imports of one by another\n{len(graph.cycles(AT_IMPORT)):>9,}  cycles at import")
    for line in bad:
        print(f"left out   {line}")


def _json_node(view: View, number: int) -> dict[str, object]:
    name, kind, path, state = view.graph.node(number)
    return {"name": name, "kind": kind, "path": path, **({} if state == "read" else {"state": state})}


def _facts(view: View) -> dict[str, object]:
    graph = view.graph
    if view.options.cycles:
        return {"cycles": [{"members": [graph.name(node) for node in members], "path": [graph.name(node) for node in path]}
                           for members, path in graph.cycles(view.kinds)]}
    if view.options.of:
        number = view.number()
        facts = _json_node(view, number)
        for title, back in view.sides():
            facts[title] = [{**_json_node(view, node), **({"via": graph.name(via)} if view.options.transitive else {"when": _when(kinds), "line": line or None})}
                            for node, kinds, line, via in view.related(number, back)]
        return facts
    shown = [number for number in range(len(graph)) if view.shown(number)]
    return {"modules": [_json_node(view, number) for number in shown],
            "edges": [{"importer": graph.name(number), "imported": graph.name(node), "when": _when(kinds), "line": line or None}
                      for number in shown for node, kinds, line in graph.edges(number, False, view.kinds) if view.shown(node)]}


def _json(view: View) -> None:
    import json

    print(json.dumps({"format": FORMAT, "ladewerk": _native.__version__, "roots": view.roots, **_facts(view)}, indent=1))


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


STYLES = {"module": "", "conditional": " [style=dashed]", "lazy": " [style=dashed]", "function": " [style=dotted]", "typing": " [style=dotted, color=gray]",
          "observed": " [color=blue]"}


def _dot_parts(view: View) -> tuple[list[int], set[tuple[int, int]] | None]:
    """The nodes, and the edges between them if not all of these are meant."""
    graph = view.graph
    if view.options.cycles:
        return [node for members, _ in graph.cycles(view.kinds) for node in members], None
    if not view.options.of:
        return [number for number in range(len(graph)) if view.shown(number)], None
    number = view.number()
    found = {number: None}
    direct = set()
    for _, back in view.sides():
        for node, _, _, _ in view.related(number, back):
            found[node] = None
            direct.add((node, number) if back else (number, node))
    return list(found), None if view.options.transitive else direct


def _dot(view: View) -> None:
    graph = view.graph
    nodes, direct = _dot_parts(view)
    known = set(nodes)
    print("digraph imports {\n  rankdir=LR;\n  node [shape=box];")
    for number in sorted(nodes):
        name, kind, _, _ = graph.node(number)
        print(f"  {_quoted(name)}{' [style=dashed]' if kind == 'external' else ''};")
    for number in sorted(nodes):
        for node, kinds, _ in graph.edges(number, False, view.kinds):
            if node in known and (direct is None or (number, node) in direct):
                print(f"  {_quoted(graph.name(number))} -> {_quoted(graph.name(node))}{STYLES[_when(kinds)[0]]};")
    print("}")


def main(options: Any) -> int:
    roots = _roots(options.roots)
    alone = options.of if options.imports and not options.importers and all(part.isidentifier() for part in options.of.split(".")) else None
    further = kinds_meant(options) if options.transitive else 0
    asked = {False, True} if options.imports == options.importers else {options.importers}
    sides = asked | {False} if options.format == "dot" else asked if options.of else {False}
    view = View(load(roots, options.threads, _observed(options.observed) if options.observed else None, alone, sides, further), roots, options)
    if options.format == "json":
        _json(view)
    elif options.format == "dot":
        _dot(view)
    elif options.cycles:
        _text_cycles(view)
    elif options.of:
        _text_of(view)
    else:
        _text_all(view)
    return OK
