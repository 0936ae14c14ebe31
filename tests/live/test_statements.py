# SPDX-License-Identifier: MIT
"""What code objects say of modules: import statements, what they bind, dotted names; against the syntax tree."""
from __future__ import annotations

import ast
import random
import sys
import textwrap

import pytest
from ladewerk import _live
from ladewerk._imports import absolute, imports_of


def code_of(source):
    return compile(textwrap.dedent(source), "x.py", "exec", dont_inherit=True)


SOURCE = """
import a, b.c
import d.e as f
from . import g as h, i
from ..j import *
if TYPE_CHECKING:
    from k import l
try:
    import m
except ImportError:
    m = None
class C:
    from n import o
    def method(self):
        from p import q
        class D:
            import r
x = [lambda: __import__("s") for _ in ()]
import_module("t")
"""
BODY = [(0, "a", None, (("a", "a"),), False), (0, "b.c", None, (("b.c", "b"),), False), (0, "d.e", None, (("d.e", "f"),), False), (1, "", ("g", "i"), (("g", "h"), ("i", "i")), False),
        (2, "j", ("*",), (), False), (0, "k", ("l",), (("l", "l"),), False), (0, "m", None, (("m", "m"),), False), (0, "n", ("o",), (("o", "o"),), False)]
FUNCTIONS = [(0, "p", ("q",), (), True), (0, "r", None, (("r", "r"),), True)]


def test_statements_stand_as_they_are_written():
    key = repr  # None is not less than a tuple
    assert sorted(_live.statements(code_of(SOURCE)), key=key) == sorted(BODY + FUNCTIONS, key=key)
    assert sorted(_live.statements(code_of(SOURCE), False), key=key) == sorted(BODY, key=key)


def test_type_parameters_run_in_place():
    if sys.version_info < (3, 12):
        pytest.skip("no type parameters")
    assert _live.statements(code_of("class C[T]:\n    from a import b\n"), False) == [(0, "a", ("b",), (("b", "b"),), False)]


def test_names_and_constants_beyond_255():
    many = "".join(f"v{i} = 'c{i}'\n" for i in range(70000))
    assert _live.statements(code_of(f"{many}import a.b\nfrom .c import d as e, f\nfrom g import *\n")) == [
        (0, "a.b", None, (("a.b", "a"),), False), (1, "c", ("d", "f"), (("d", "e"), ("f", "f")), False), (0, "g", ("*",), (), False)]


def test_imports_by_full_names():
    found = imports_of(code_of(SOURCE), "top.mid")
    assert found.modules == {"a", "b", "b.c", "d", "d.e", "top.j", "m"} and found.stars == ("top.j",)
    assert found.names == {("top.mid", "g"), ("top.mid", "i"), ("k", "l"), ("n", "o")}
    assert set(found.bindings) == {("top.mid", "g", "h"), ("top.mid", "i", "i"), ("k", "l", "l"), ("n", "o", "o")}


@pytest.mark.parametrize("level, name, package, full", [(0, "a.b", "", "a.b"), (1, "", "p", "p"), (1, "a", "p.q", "p.q.a"), (2, "a", "p.q", "p.a"), (2, "a", "p", None), (1, "a", "", None)])
def test_relative_names(level, name, package, full):
    assert absolute(level, name, package) == full


def test_dotted_names():
    source = """
        import a, b
        a.b.c()
        a.x = a.y.z + (1).real
        def f(arg, b):
            local = a.in_function
            print(b.parameter, arg.nobody, local, b.parameter.more)
            def inner():
                return b.closure
            return [a.comprehension for each in arg if each.nobody]
        class C(a.Base):
            field = b.in_class
        other.nobody
        f(a, b).nobody
    """
    assert _live.dotted(code_of(source), {"a", "b"}) == {"a.b", "a.b.c", "a.y", "a.y.z", "a.in_function", "b.parameter", "b.parameter.more", "b.closure", "a.comprehension",
                                                         "a.Base", "b.in_class"}
    assert _live.dotted(code_of(source), set()) == set()


def chain(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) and parts else None


def said_by_tree(tree):
    statements, bound, chains, tops = set(), set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            statements |= {(0, alias.name, None) for alias in node.names}
            tops |= {alias.name.partition(".")[0] for alias in node.names}
            bound |= {(alias.name, alias.asname or alias.name.partition(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            statements.add((node.level, node.module or "", tuple(alias.name for alias in node.names)))
            bound |= {(alias.name, alias.asname or alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute):
            chains.add(chain(node))
    return statements, bound, {each for each in chains - {None} if each.partition(".")[0] in tops}, tops


def test_whole_library():
    """What the syntax tree has, in what lies around, but for what the compiler leaves out: code that cannot run, annotations of local variables."""
    library = sorted({module.__file__ for module in list(sys.modules.values()) if (getattr(module, "__file__", None) or "").endswith(".py")})
    expected = missing = 0
    for path in random.Random(3).sample(library, min(len(library), 120)):
        with open(path, "rb") as file:
            source = file.read()
        statements, bound, chains, tops = said_by_tree(ast.parse(source))
        code = compile(source, path, "exec", dont_inherit=True)
        found, dotted = _live.statements(code), _live.dotted(code, tops)
        short = {each[:3] for each in found}
        assert short <= statements and {pair for each in found for pair in each[3]} <= bound and dotted <= chains, path
        assert [each for each in found if not each[4]] == _live.statements(code, False), path
        expected += len(statements) + len(chains)
        missing += len(statements - short) + len(chains - dotted)
    assert expected > 1000 and missing < expected / 10, (expected, missing)


@pytest.mark.parametrize("ask", [lambda: _live.statements("import a"), lambda: _live.dotted("a.b", {"a"}), lambda: _live.dotted(code_of("a.b"), ["a"])])
def test_what_is_no_code(ask):
    with pytest.raises(TypeError):
        ask()
