# SPDX-License-Identifier: MIT
"""Static edges: which imports a code object would make, and when; against the syntax tree, and by executing what is said to be certain."""
from __future__ import annotations

import ast
import builtins
import dis
import opcode
import random
import subprocess
import sys
import textwrap
import types

import pytest

from ladewerk import _live


def edges(source, **options):
    return _live.edges(compile(textwrap.dedent(source), "x.py", "exec", dont_inherit=True, **options))


def kinds(source):
    """{imported name: kinds}; a statement in `finally` is compiled twice."""
    found = {}
    for _, name, fromlist, kind, _ in edges(source):
        found.setdefault(name or fromlist[0], set()).add(kind)
    return {name: "+".join(sorted(kinds)) for name, kinds in found.items()}


@pytest.mark.parametrize("line, edge", [
    ("import a", (0, "a", None)),
    ("import a.b as c", (0, "a.b", None)),
    ("from a import b, c as d", (0, "a", ("b", "c"))),
    ("from a.b import *", (0, "a.b", ("*",))),
    ("from . import x", (1, "", ("x",))),
    ("from ... import x", (3, "", ("x",))),
    ("from ..a.b import x", (2, "a.b", ("x",))),
    ("__import__('a.b')", (0, "a.b", None)),
    ("import_module('a')", (0, "a", None)),
    ("importlib.import_module('a.b')", (0, "a.b", None)),
    ("il.import_module('.a', __package__)", (1, "a", None)),
    ("il.import_module('..', __package__)", (2, "", None)),
])
def test_statements(line, edge):
    assert edges(f"pass\n{line}\n") == [(*edge, "module", 2)]
    assert edges(f"def f():\n    {line}\n") == [(*edge, "function", 2)] if "*" not in line else True


@pytest.mark.parametrize("line", ["import_module(name)", "import_module('.a')", "import_module('a', __package__)", "import_module('')", "other('a')", "__import__('a', x)",
                                  "__import__(name='a')", "importlib.import_module", "'import a'", "importlib.reload('a')"])
def test_what_is_none(line):
    assert edges(line) == []


CASES = {
    "straight": ("import a\nimport b", {"a": "module", "b": "module"}),
    "if": ("if x:\n import a\nelif y:\n import b\nelse:\n import c\nimport d", {"a": "conditional", "b": "conditional", "c": "conditional", "d": "module"}),
    "if at the end": ("if x:\n import a\nelse:\n import b", {"a": "conditional", "b": "conditional"}),
    "raise": ("if x:\n raise E\nimport a", {"a": "module"}),
    "assert": ("assert x, y\nimport a", {"a": "module"}),
    "for": ("for i in x:\n import a\nelse:\n import b\nimport c", {"a": "conditional", "b": "module", "c": "module"}),
    "break": ("for i in x:\n if i: break\nelse:\n import b\nimport c", {"b": "conditional", "c": "module"}),
    "while": ("while x:\n import a\nimport b", {"a": "conditional", "b": "module"}),
    "and": ("x and __import__('a')\nimport b", {"a": "conditional", "b": "module"}),
    "ternary": ("y = __import__('a') if x else __import__('b')\nimport c", {"a": "conditional", "b": "conditional", "c": "module"}),
    "match": ("match x:\n case 1:\n  import a\n case _:\n  import b\nimport c", {"a": "conditional", "b": "conditional", "c": "module"}),
    "except": ("try:\n import a\nexcept ImportError:\n import b\nelse:\n import c\nimport d",
               {"a": "conditional", "b": "conditional", "c": "conditional", "d": "module"}),
    "except pass": ("try:\n import a\n import b\nexcept ImportError:\n pass\nimport c", {"a": "conditional", "b": "conditional", "c": "module"}),
    "except at the end": ("try:\n import a\nexcept ImportError:\n a = None", {"a": "conditional"}),
    "except raise": ("try:\n import a\nexcept ImportError:\n raise E\nimport b", {"a": "module", "b": "module"}),
    "two excepts": ("try:\n import a\nexcept A:\n raise\nexcept B:\n import b\nimport c", {"a": "conditional", "b": "conditional", "c": "module"}),
    "finally": ("try:\n import a\nfinally:\n import b\nimport c", {"a": "module", "b": "conditional+module", "c": "module"}),
    "try in try": ("try:\n try:\n  import a\n except A:\n  raise\n import b\nexcept B:\n pass\nimport c", {"a": "conditional", "b": "conditional", "c": "module"}),
    "try in except": ("try:\n import a\nexcept A:\n try:\n  import b\n except B:\n  import c\nimport d",
                      {"a": "conditional", "b": "conditional", "c": "conditional", "d": "module"}),
    "except in a loop": ("for i in x:\n try:\n  import a\n except A:\n  continue\n import b\nimport c", {"a": "conditional", "b": "conditional", "c": "module"}),
    "with": ("with x:\n import a\nimport b", {"a": "conditional", "b": "module"}),
    "class": ("class A:\n import a\n if x:\n  import b\n def f(self):\n  import c\nimport d", {"a": "module", "b": "conditional", "c": "function", "d": "module"}),
    "class below if": ("if x:\n class A:\n  import a", {"a": "conditional"}),
    "class in a function": ("def f():\n class A:\n  import a", {"a": "function"}),
    "functions": ("def f():\n import a\nasync def g():\n import b\nh = lambda: __import__('c')", {"a": "function", "b": "function", "c": "function"}),
    "decorator": ("@__import__('a')\ndef f(x=__import__('b')): pass", {"a": "module", "b": "module"}),
    "comprehension": ("y = [i for i in x]\nz = {i: j for i in x if i}\nimport a", {"a": "module"}),
    "typing": ("if TYPE_CHECKING:\n import a\n from . import b\nelse:\n import c\nimport d", {"a": "typing", "b": "typing", "c": "conditional", "d": "module"}),
    "typing attribute": ("if t.TYPE_CHECKING:\n import a\n if x:\n  import b\nimport d", {"a": "typing", "b": "typing", "d": "module"}),
    "typing in a function": ("def f():\n if TYPE_CHECKING:\n  import a\n import b", {"a": "typing", "b": "function"}),
    "a function for typing": ("if TYPE_CHECKING:\n def f():\n  import a\n class A:\n  import b", {"a": "typing", "b": "typing"}),
    "not typing": ("if not TYPE_CHECKING:\n import a\nimport b", {"a": "conditional", "b": "module"}),
    "if False": ("if False:\n import a\nimport b", {"b": "module"}),
}
if sys.version_info >= (3, 12):
    CASES["generic class"] = ("class A[T]:\n import a\n def f[U](self):\n  import b", {"a": "module", "b": "function"})


@pytest.mark.parametrize("case", CASES)
def test_when(case):
    source, expected = CASES[case]
    assert kinds(source) == expected


def test_wide_arguments():
    """Names and jumps beyond 255 need EXTENDED_ARG."""
    lines = [f"import m{i}" for i in range(1000)] + ["if x:", *(f" import n{i}" for i in range(1000)), "import last"]
    found = kinds("\n".join(lines))
    assert len(found) == 2001
    assert all(kind == ("conditional" if name[0] == "n" else "module") for name, kind in found.items())


def test_lines_and_optimisation():
    source = '"""Doc."""\n\n\nimport a\nassert __import__("b")\nif __debug__:\n    import c\n'
    assert [(name, line) for _, name, _, _, line in edges(source, optimize=0)] == [("a", 4), ("b", 5), ("c", 7)]
    assert [(name, line) for _, name, _, _, line in edges(source, optimize=2)] == [("a", 4)]


def test_after_it_ran():
    """The interpreter rewrites code while it runs; what is asked for is what was compiled."""
    source = "for i in range(100):\n import sys\n from os import path as p\n x = i + 1\nimport os"
    code = compile(source, "x", "exec")
    before = _live.edges(code)
    for _ in range(20):
        exec(code, {})
    assert _live.edges(code) == before and len(before) == 3


def test_whole_library():
    """The statements that the syntax tree has, in what lies around, but for the few below a test that the compiler knows the outcome of."""
    library = sorted({module.__file__ for module in list(sys.modules.values()) if (getattr(module, "__file__", None) or "").endswith(".py")})
    total = missing = 0
    for path in random.Random(3).sample(library, min(len(library), 120)):
        with open(path, "rb") as file:
            source = file.read()
        expected = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                expected |= {(0, alias.name, None) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                expected.add((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        found = {edge[:3] for edge in _live.edges(compile(source, path, "exec", dont_inherit=True))}
        assert all(fromlist is None for _, _, fromlist in found - expected), path  # calls
        total += len(expected)
        missing += len(expected - found)
    assert total > 100 and missing < total / 100


def _program(rng, depth=0):
    """A random body: imports of names of its own in all kinds of statements."""
    lines = []
    for _ in range(rng.randrange(1, 4)):
        form = rng.randrange(10) if depth < 4 else 0
        inner = lambda: [f" {line}" for line in _program(rng, depth + 1)]  # noqa: E731
        if form < 3:
            lines.append(f"import m{rng.randrange(10**9)}")
        elif form == 3:
            lines += ["if flip():", *inner(), *(["else:", *inner()] if rng.random() < 0.5 else [])]
        elif form == 4:
            lines += ["for i in range(die()):", *inner(), *([" if flip(): break"] if rng.random() < 0.5 else []), *(["else:", *inner()] if rng.random() < 0.3 else [])]
        elif form == 5:
            handler = rng.choice([["except KeyError:", *inner()], ["except KeyError:", " raise"], ["except KeyError:", " pass"]])
            lines += ["try:", " fail()", *inner(), *handler, *(["else:", *inner()] if rng.random() < 0.4 else []), *(["finally:", *inner()] if rng.random() < 0.3 else [])]
        elif form == 6:
            lines += ["try:", *inner(), " fail()", "finally:", *inner()]
        elif form == 7:
            lines += [f"class C{rng.randrange(10**9)}:", *inner()]
        elif form == 8:
            lines += ["with manager():", " fail()", *inner()]
        else:
            lines += ["while flip():", *inner()]
    return lines


def test_what_is_certain_happens():
    """Random programs are run many times, with imports that may fail: whenever the body ends, all that is called `module` has been tried. The control: not all
    the rest has."""
    rng = random.Random(17)
    completed = missed = certain = 0

    class Manager:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            return rng.random() < 0.5

    def fail():
        if rng.random() < 0.2:
            raise KeyError

    for _ in range(400):
        code = compile("\n".join(_program(rng)), "x", "exec")
        found = {}
        for _, name, _, kind, _ in _live.edges(code):
            found.setdefault(name, set()).add(kind)
        for _ in range(8):
            tried = set()

            def record(name, *_):
                tried.add(name)
                if rng.random() < 0.02:
                    raise KeyError
                return types

            namespace = {"flip": lambda: rng.random() < 0.5, "die": lambda: rng.randrange(3), "fail": fail, "manager": Manager,
                         "__builtins__": {**vars(builtins), "__import__": record}, "__name__": "x"}
            try:
                exec(code, namespace)
            except KeyError:
                continue
            completed += 1
            for name, kinds_ in found.items():
                if "module" in kinds_:
                    certain += 1
                    assert name in tried
                missed += name not in tried
    assert completed > 500 and certain > 500 and missed > 500


def _nested(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _without_caches():
    entries = opcode._inline_cache_entries
    return [number for name, number in opcode.opmap.items()
            if 0 < number < 256 and not (entries[number] if isinstance(entries, list) else entries.get(name, 0)) and not name.startswith(("INSTRUMENTED", "ENTER_EXEC"))]


def test_damaged_code():
    """No compiler made it: some edges or an error, and no crash. Nothing of it is executed. (Instructions with caches stay what they are: CPython itself reads
    beyond the end of code that claims more of them than there are.)"""
    rng = random.Random(5)
    base = compile("\n".join(source for source, _ in CASES.values()), "x", "exec")
    plain = _without_caches()
    codes = [(code, [instruction.offset for instruction in dis.get_instructions(code)]) for code in _nested(base)]
    read = 0
    for _ in range(3000):
        victim, offsets = rng.choice(codes[:1] + codes)
        data, table = bytearray(victim.co_code), bytearray(victim.co_exceptiontable)
        for _ in range(rng.randrange(1, 8)):
            at = rng.choice(offsets)
            data[at + 1] = rng.randrange(256)
            if data[at] in plain and rng.random() < 0.7:
                data[at] = rng.choice(plain)
            if table:
                table[rng.randrange(len(table))] = rng.randrange(256)
        changed = {"co_code": bytes(data), "co_exceptiontable": bytes(table)}
        if rng.random() < 0.3:
            changed["co_names"] = victim.co_names[:rng.randrange(len(victim.co_names) + 1)]
            changed["co_consts"] = tuple(rng.sample(victim.co_consts, rng.randrange(len(victim.co_consts) + 1)))
        try:
            damaged = victim.replace(**changed)
        except ValueError:
            continue
        found = _live.edges(damaged)
        read += 1
        assert all(level >= 0 and isinstance(name, str) for level, name, *_ in _live.statements(damaged))
        assert all("." in name for name in _live.dotted(damaged, {*victim.co_names, *victim.co_varnames}))
        assert all(level >= 0 and isinstance(name, str) and kind in _live.EDGE_KINDS for level, name, _, kind, _ in found)
    assert read > 500


def test_deep_code():
    """Code in code in code: an error that can be caught, before the stack ends."""
    code = compile("def f(): pass", "x", "exec")
    for _ in range(100_000):
        code = code.replace(co_consts=tuple(code if isinstance(constant, types.CodeType) else constant for constant in code.co_consts))
    for ask in _live.edges, _live.statements, lambda code: _live.dotted(code, set()):
        with pytest.raises(RecursionError):
            ask(code)


def test_no_code():
    with pytest.raises(TypeError, match="code object"):
        _live.edges("import a")


def test_many_threads():
    """The first to ask reads the table of opcodes; any number may be first."""
    source = textwrap.dedent("""
        import threading
        from ladewerk import _live
        code = compile("import a, b\\nif x:\\n import c", "x", "exec")
        barrier, results = threading.Barrier(8), []
        def ask():
            barrier.wait()
            results.append(_live.edges(code))
        threads = [threading.Thread(target=ask) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(results) == 8 and all(result == results[0] and len(result) == 3 for result in results)
    """)
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", source], timeout=60).returncode == 0
