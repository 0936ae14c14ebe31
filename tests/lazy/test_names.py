# SPDX-License-Identifier: MIT
"""Which statements may wait, and where their names are loaded: by tables, and in all modules that are installed, by what `ast`, `symtable` and `dis` say of them."""
from __future__ import annotations

import ast
import random
import symtable
import sys
import textwrap
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

import bytecode
import pytest
import whose

from ladewerk import _native

pytestmark = whose.ours


class Plan:
    """What may wait in CODE, and the sites of its names by code object."""

    def __init__(self, code: CodeType):
        self.code = code
        self.names, self.statements, sites = _native._lazy_plan(code) or (set(), (), [])
        self.sites = {id(inner): list(found) for inner, found in sites}

    def lines(self) -> list[int]:
        positions = list(self.code.co_positions())
        return [positions[statement[1]][0] for statement in self.statements]


def plan_of(source: str) -> Plan:
    return Plan(compile(textwrap.dedent(source), "module.py", "exec", dont_inherit=True))


# Statements that wait say so.
TABLE = {
    "plain": """
        import a  # waits
        import b.c  # waits
        import d as e  # waits
        import f.g.h as i  # waits
        a, b, e, i
    """,
    "from": """
        from a import b  # waits
        from a import c as d, e  # waits
        from a.b.c import f  # waits
        from . import g  # waits
        from ..h import i as j  # waits
    """,
    "several in one": """
        import a, b as c, d.e  # waits
        a, c, d
    """,
    "on several lines": """
        from a import (  # waits
            b,
            c,
        )
    """,
    "within if": """
        import sys  # waits
        if sys.version_info > (3,):
            import a  # waits
        elif sys.argv:
            from b import a  # waits
        else:
            import c as a  # waits
            from d import e  # waits
        a
    """,
    "used nowhere": """
        import a
        import b.c
        import d as e
        from f import g  # waits
    """,
    "used within only": """
        import a, b, c, d, e, f, g  # waits
        def function(x=a):
            return [b for _ in x]
        class C(c.C):
            d = d
            def method(self) -> e:
                return lambda: f
        async def other():
            async for x in y:
                yield g
    """,
    "used in texts only": """
        from __future__ import annotations
        import a
        x: a
    """,
    "star": """
        from a import *
        from b import c  # waits
    """,
    "future": """
        from __future__ import annotations
    """,
    "dunder, and what gettext installs": """
        from a import __version__
        from b import _
        from c import __private, _one, __x_  # waits
        from d import e, __all__
        from f import g as __file__
    """,
    "try": """
        try:
            import a
        except ImportError:
            import b
        try:
            from c import d
        finally:
            from e import f
        a, b
    """,
    "behind try": """
        try:
            x = 1
        except KeyError:
            x = 2
        import a  # waits
        a
    """,
    "with, for, while, match": """
        with x:
            import a
        for _ in x:
            import b
        while x:
            import c
        else:
            import d  # waits
        match x:
            case 1:
                import e  # waits
        import f  # waits
        a, b, c, d, e, f
    """,
    "functions and classes": """
        def f():
            import a
            return a
        class C:
            import b
            b
        import c  # waits
        c
    """,
    "bound otherwise": """
        import a, b, c, d, e, f, g, h, i, j, k, l, m
        import z  # waits
        a = 1
        def b(): pass
        class c: pass
        for d in x: pass
        with x as e: pass
        try: pass
        except Exception as f: pass
        del g
        (h := 1)
        [(i := 2) for _ in x]
        def function():
            global j
            j = 3
        class C:
            global k
            k = 4
        match x:
            case [l, *m]: pass
        a, b, c, d, e, f, g, h, i, j, k, l, m, z
    """,
    "bound in functions and classes": """
        import a, b, c  # waits
        def function(a):
            b = a
            del b
        class C:
            c = 1
            del c
        a, b, c
    """,
    "global without a change": """
        import a  # waits
        def function():
            global a
            return a
    """,
    "deleted in a function": """
        import a
        def function():
            global a
            del a
        a
    """,
    "loaded by __del__": """
        import a, b
        from c import d, e
        import f  # waits
        from g import h as i  # waits
        class C:
            def __del__(self):
                a.close(lambda: d)
                class D:
                    b.e
            def delete(self):
                f.close(i)
        e
    """,
    "submodules that are used by their names": """
        from .a import b
        from .c.d import e
        from .f import g  # waits
        from .h import h  # waits
        from ..i import j  # waits
        from k.l import m
        import n.o.p
        from .q import r  # waits
        from . import q  # waits
        del a
        def function():
            return c, d, f.x, k, l, n, p, q, i
        f = 1
    """,
    "one name is bound otherwise": """
        from a import b, c
        from d import c
        from e import b
        from f import g  # waits
        c = 1
    """,
    "an import in a function that is global": """
        import a
        def function():
            global a
            import a
        a
    """,
    "bound by a statement that may not wait": """
        import a
        try:
            from b import a
        except ImportError:
            pass
        from c import a
        a
    """,
    "several statements for one name": """
        import a.b  # waits
        import a.c  # waits
        from d import e  # waits
        from f import e  # waits
        a
    """,
    "one name twice": """
        from a import b as c, d as c
        c
    """,
    "annotations": """
        import a, b, c, d  # waits
        x: a.A = 1
        def f(y: b.B) -> c.C: pass
        class D:
            z: d.E
    """,
    "comprehensions": """
        import a, b, c  # waits
        [a for x in b if c]
        class C:
            y = [a for x in b if c]
            z = {a: b for x in c}
    """,
    "conditions that are known": """
        if False:
            import a
        if True:
            import b  # waits
        a, b
    """,
    "docstring and main": """
        '''Text.'''
        import a  # waits
        if __name__ == "__main__":
            a.main()
    """,
}
if sys.version_info >= (3, 12):
    TABLE["type parameters"] = """
        import a, b, c, d  # waits
        def f[T: a](x: T) -> b: pass
        class C[T: c]: y: d
        type X[T] = a
    """


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str):
    plan = plan_of(TABLE[name])
    expected = [number for number, line in enumerate(textwrap.dedent(TABLE[name]).splitlines(), 1) if line.endswith("# waits")]
    assert sorted(set(plan.lines())) == expected
    judge(plan)


def test_what_statements_say():
    plan = plan_of("""
        import a
        import b.c
        import d as e
        import f.g.h as i
        from j import k, l as m
        from .n import o
        from ... import p
        import q as q
        import rs.r as r
        import t.u as t
        a, b, e, i, q, r, t
    """)
    assert [statement[3:] for statement in plan.statements] == [
        (0, "a", ((None, "a"),), False),
        (0, "b.c", ((None, "b"),), False),
        (0, "d", ((None, "e"),), True),
        (0, "f.g.h", ((None, "i"),), True),
        (0, "j", (("k", "k"), ("l", "m")), False),
        (1, "n", (("o", "o"),), False),
        (3, "", (("p", "p"),), False),
        (0, "q", ((None, "q"),), False),
        (0, "rs.r", ((None, "r"),), True),
        (0, "t.u", ((None, "t"),), True),
    ]


@pytest.mark.parametrize("count", [300, 70_000])
def test_extended_arguments(count: int):
    """Names, constants and jumps that take more than a byte, and more than two."""
    names = [f"n{i}" for i in range(count)]
    half = count // 2
    source = [f"{name} = {name}_ = '{name}'" for name in names[:half]] + ["if n0:", "    import last.one as a", "    from late import b", "else:"]
    source += [f"    {name} = '{name}'" for name in names[half:]] + ["def f():", "    return a, b", "a, b"]
    plan = plan_of("\n".join(source))
    assert [statement[4] for statement in plan.statements] == ["last.one", "late"]
    judge(plan)


def test_what_is_no_module():
    def function():
        import a
        return a
    assert _native._lazy_plan(function.__code__) is None
    assert _native._lazy_plan(compile("1", "", "eval")) is None
    awaits = compile("import a\nawait a", "", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert _native._lazy_plan(awaits) is None
    for odd in None, "import a", b"":
        with pytest.raises(TypeError):
            _native._lazy_plan(odd)


def test_tables_that_make_no_sense():
    """An exception table that no compiler writes gives no sites, and no crash."""
    code = compile("import a\ntry:\n    a(b)\nexcept a.C:\n    a(1, 2, a)\nwith a:\n    a", "", "exec")
    assert Plan(code).names == {"a"}
    source = random.Random(11)
    for _ in range(3000):
        table = bytearray(code.co_exceptiontable)
        for _ in range(source.randrange(1, 4)):
            table[source.randrange(len(table))] = source.randrange(256)
        judge_loads(Plan(code.replace(co_exceptiontable=bytes(table[:source.randrange(len(table) + 1)]))), strict=False)
    arguments = bytearray(code.co_code)
    for _ in range(3000):
        changed = arguments[:]
        changed[2 * source.randrange(len(arguments) // 2) + 1] = source.randrange(256)
        _native._lazy_plan(code.replace(co_code=bytes(changed)))


# --- what is measured by ---

class Statement(NamedTuple):
    line: int
    module: str
    names: tuple[str, ...]
    plain: bool  # not `from`
    implied: frozenset[str]  # names of submodules that it would bind in a package
    top: bool  # executed once at most, and not where an exception is handled


def statements_of(body: list[ast.stmt], top: bool = True) -> Iterator[Statement]:
    """Import statements of a module's own code; one for each part of `import a, b`."""
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Statement(node.lineno, alias.name, (alias.asname or alias.name.partition(".")[0],), True, frozenset(alias.name.split(".")[1:]), top)
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            implied = frozenset((parts[1:], parts[:1], [])[min(node.level, 2)])
            yield Statement(node.lineno, node.module or "", tuple(alias.asname or alias.name for alias in node.names), False, implied, top and node.module != "__future__")
        elif isinstance(node, ast.Match):
            for case in node.cases:
                yield from statements_of(case.body, top)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            # What stands behind a loop, or behind what may be handled, is as good as behind the statement.
            behind = top and not getattr(node, "finalbody", ())
            yield from statements_of(getattr(node, "body", []), top and isinstance(node, ast.If))
            yield from statements_of(getattr(node, "orelse", []), behind)
            yield from statements_of(getattr(node, "finalbody", []), False)
            for handler in getattr(node, "handlers", []):
                yield from statements_of(handler.body, False)


def changed_names(table: symtable.SymbolTable, top: bool = True) -> Iterator[str]:
    """Global names that are bound, in a module or within it, by anything but the module's own import statements."""
    for symbol in table.get_symbols():
        is_global = top or symbol.is_declared_global()
        if is_global and (symbol.is_assigned() or (symbol.is_imported() and not top)):
            yield symbol.get_name()
    for child in table.get_children():
        yield from changed_names(child, False)


def global_names(module: CodeType, verb: str) -> set[str]:
    """Those that instructions called so store or delete, in a module or within it."""
    return {code.co_names[step.arg] for code in bytecode.within(module) for step in bytecode.steps(code)
            if step.name == verb + "_GLOBAL" or (step.name == verb + "_NAME" and code is module)}


def is_reserved(name: str) -> bool:
    return name == "_" or (name.startswith("__") and name.endswith("__") and len(name) > 4)


def judge_source(plan: Plan, source: bytes, path: str) -> None:
    """What the compiler's own tables, and the tree, say of the statements."""
    positions = list(plan.code.co_positions())
    compiled = {positions[step.begin][0] for step in bytecode.steps(plan.code) if step.name == "IMPORT_NAME"}
    used = {name for code in bytecode.within(plan.code) for step in bytecode.steps(code) if (name := bytecode.loaded(code, step))}
    changed = set(changed_names(symtable.symtable(source, path, "exec")))
    finalisers = [inner for code in bytecode.within(plan.code) if code.co_name == "__del__" for inner in bytecode.within(code)]
    changed |= {name for code in finalisers for step in bytecode.steps(code) if (name := bytecode.loaded(code, step))}
    needed = (used | global_names(plan.code, "DELETE")) - global_names(plan.code, "STORE")
    waits = {item for item in statements_of(ast.parse(source, path).body) if item.line in compiled}
    eager: set[Statement] = set()
    while found := {item for item in waits if not item.top or "*" in item.names or len(set(item.names)) < len(item.names) or any(map(is_reserved, item.names))
                    or not changed.isdisjoint(item.names) or not needed.isdisjoint(item.implied) or (item.plain and not used.issuperset(item.names))}:
        waits -= found
        eager |= found
        changed.update(name for item in found for name in item.names)
    found_lines = sorted((line, statement[4], tuple(name for _, name in statement[5])) for line, statement in zip(plan.lines(), plan.statements, strict=True))
    assert found_lines == sorted((item.line, item.module, item.names) for item in waits), path


def judge_loads(plan: Plan, strict: bool = True) -> int:
    """Each load of a name that waits has a site, of the depth that dis computes, sure where it must have been loaded before; nothing else has. How many."""
    count = 0
    for code in bytecode.within(plan.code):
        found = plan.sites.get(id(code), [])
        count += len(found)
        if not plan.names.intersection(code.co_names):
            assert not found
            continue
        if not strict:
            continue
        depth, before, expected, met = bytecode.depths(code), None, [], set()
        entered = {step.target for step in bytecode.steps(code)} | {entry.target // 2 for entry in bytecode.dis._parse_exception_table(code)}
        statements = {statement[0] for statement in plan.statements} if code is plan.code else set()
        for step in bytecode.steps(code):
            if step.begin in entered or step.begin in statements:
                met.clear()
            if (name := bytecode.loaded(code, step)) in plan.names:
                first = before if step.name == "LOAD_FROM_DICT_OR_GLOBALS" else step
                expected.append((first.begin, step.end, depth[first.begin], name in met))
                if step.name == "LOAD_GLOBAL" or code is plan.code:
                    met.add(name)
            before = step
        assert found == expected, code
    return count


def judge_statements(plan: Plan) -> None:
    """Each statement is what stands there, from an empty stack, where no exception is handled."""
    table = bytecode.dis._parse_exception_table(plan.code)
    depth = bytecode.depths(plan.code)
    inside = bytecode.steps(plan.code)
    for begin, name, end, level, module, binds, _ in plan.statements:
        parts = [step for step in inside_of(inside, begin, end)]
        assert depth[begin] == 0 and not any(entry.start // 2 < end and begin < entry.end // 2 for entry in table)
        assert [step.name for step in parts[:3]] in (["LOAD_CONST", "LOAD_CONST", "IMPORT_NAME"], ["LOAD_SMALL_INT", "LOAD_CONST", "IMPORT_NAME"])
        assert (parts[2].begin, plan.code.co_names[parts[2].arg]) == (name, module) and parts[-1].end == end
        assert (parts[0].arg if parts[0].name == "LOAD_SMALL_INT" else plan.code.co_consts[parts[0].arg]) == level
        assert [plan.code.co_names[step.arg] for step in parts if step.name in ("STORE_NAME", "STORE_GLOBAL")] == [bound for _, bound in binds]
        assert {step.name for step in parts[3:]} <= {"STORE_NAME", "STORE_GLOBAL", "IMPORT_FROM", "POP_TOP", "SWAP"} and depth.get(end, 0) == 0


def inside_of(steps: Iterator[bytecode.Step], begin: int, end: int) -> Iterator[bytecode.Step]:
    """Those between, of an iterator that goes on behind them."""
    for step in steps:
        if step.begin >= begin:
            yield step
        if step.end >= end:
            return


def judge(plan: Plan) -> int:
    judge_statements(plan)
    return judge_loads(plan)


def test_all_that_is_installed():
    modules = sites = statements = 0
    for path in bytecode.installed():
        if found := bytecode.compiled(path):
            source, code = found
            plan = Plan(code)
            judge_source(plan, source, str(path))
            sites += judge(plan)
            modules, statements = modules + 1, statements + len(plan.statements)
    print(modules, statements, sites)
    assert modules > 20 and statements > 200 and sites > 500


@pytest.mark.parametrize("change", ["a load without a site", "a depth", "an end", "a site of nothing", "a load that is sure"])
def test_control(change: str):
    """What judges would see it."""
    plan = plan_of("import a\ndef f(x): return [x, a, a.b(x, a)]")
    judge(plan)
    sites = plan.sites[id(next(code for code in bytecode.within(plan.code) if code.co_name == "f"))]
    begin, end, depth, sure = sites[1]
    sites[1:2] = {"a load without a site": [], "a depth": [(begin, end, depth - 1, sure)], "an end": [(begin, end + 1, depth, sure)],
                  "a site of nothing": [sites[1], (end, end + 1, depth, sure)], "a load that is sure": [(begin, end, depth, not sure)]}[change]
    with pytest.raises(AssertionError):
        judge(plan)
