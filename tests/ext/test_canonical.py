# SPDX-License-Identifier: MIT
"""Code in canonical form: the same bytes from every process, and nothing lost."""

import json
import sys
import sysconfig

import pytest

from harness import HERE, LONG
from interpreters import IS_MINE

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

#: Compile the standard library under names that say nothing of this place; print digests of marshal's form and of ours. DIRT comes first.
LIBRARY = """
import hashlib, json, marshal, os, pathlib, sys, warnings
warnings.simplefilter("ignore")
DIRT
from ladewerk import _native
library = pathlib.Path(os.__file__).parent
digest = lambda data: hashlib.sha256(data).hexdigest()
is_mine = IS_MINE
forms = {}
for path in sorted(library.rglob("*.py")):
    name = str(path.relative_to(library))
    if {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts) or not is_mine(name):
        continue
    try:
        raw = marshal.dumps(compile(path.read_bytes(), "0/" + name, "exec", dont_inherit=True))
    except SyntaxError:
        continue
    form = _native.canonical(raw)
    assert _native.canonical(form) == form, name
    forms[name] = digest(raw), digest(form)
print(json.dumps(forms))
""".replace("IS_MINE", IS_MINE)

#: What makes marshal's form differ: modules that were imported, strings that were interned, other references.
DIRT = """
import asyncio, decimal, email.mime.text, http.client, unittest, xml.dom.minidom, typing
for i in range(0x250): sys.intern(chr(i)); sys.intern(2 * chr(i))
kept = []
def intern_all(code):
    for value in code.co_consts:
        if isinstance(value, str): sys.intern(value)
        elif isinstance(value, frozenset): [sys.intern(item) for item in value if type(item) is str]
        elif hasattr(value, "co_consts"): intern_all(value)
    sys.intern(code.co_qualname)
for path in sorted(pathlib.Path(os.__file__).parent.glob("*.py"), reverse=True):
    try: kept.append(compile(path.read_bytes(), str(path), "exec", dont_inherit=True))
    except SyntaxError: continue
    intern_all(kept[-1])
"""


def forms(tree, dirt, **env):
    return tree.run(LIBRARY.replace("DIRT", dirt), timeout=600, env=env).json()


def test_the_same_from_every_process(tree):
    clean, dirty = forms(tree, "", PYTHONHASHSEED="1"), forms(tree, DIRT, PYTHONHASHSEED="77")
    assert len(clean) > 100 and clean.keys() == dirty.keys()
    assert [name for name in clean if clean[name][1] != dirty[name][1]] == []
    if not FREE_THREADED:  # there, all constants are interned
        assert any(clean[name][0] != dirty[name][0] for name in clean), "the control: marshal's own form"


#: Whether two graphs are the same but for what is shared: what is one object in A is one in B as well.
ALIKE = """
import json, marshal, random, struct, sys, sysconfig, types
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # equal constants of all code are made one object
from ladewerk import _native
FIELDS = [name for name in dir(types.CodeType) if name.startswith("co_") and not callable(getattr(types.CodeType, name)) and name != "co_lnotab"]
MADE = {"co_code", "co_varnames", "co_cellvars", "co_freevars", "_co_code_adaptive"}  # when asked for
def alike(a, b, seen):
    assert type(a) is type(b), (a, b)
    if id(a) in seen:
        assert seen[id(a)] is b or FREE_THREADED, (a, b)
        return
    seen[id(a)] = b
    keep.append(a)
    if isinstance(a, types.CodeType):
        for name in FIELDS:
            x, y = getattr(a, name), getattr(b, name)
            alike(x, y, {} if name in MADE else seen)
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b): alike(x, y, seen)
    elif isinstance(a, frozenset):
        assert len(a) == len(b)
        for x, y in zip(sorted(a, key=order), sorted(b, key=order)): alike(x, y, seen)
    elif isinstance(a, slice):
        alike((a.start, a.stop, a.step), (b.start, b.stop, b.step), seen)
    elif isinstance(a, float):
        assert struct.pack("d", a) == struct.pack("d", b)
    elif isinstance(a, complex):
        assert struct.pack("dd", a.real, a.imag) == struct.pack("dd", b.real, b.imag)
    else:
        assert a == b, (a, b)
def order(value):
    return type(value).__name__, repr(sorted(value, key=order) if isinstance(value, frozenset) else value)
keep = []
def check(code):
    raw = marshal.dumps(code)
    form = _native.canonical(raw)
    alike(marshal.loads(raw), marshal.loads(form), {})
    assert _native.canonical(form) == form
    alike(marshal.loads(form), _native.unmarshal(form), {})
    keep.clear()
    return form
"""


@pytest.fixture
def child(tree):
    def run(code, **kwargs):
        return tree.run(ALIKE + code, **kwargs).json()
    return run


def test_nothing_of_the_standard_library_is_lost(child):
    code = """
import os, pathlib, warnings
warnings.simplefilter("ignore")
is_mine = IS_MINE
library, count = pathlib.Path(os.__file__).parent, 0
for path in sorted(library.rglob("*.py")):
    if not {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts) and is_mine(str(path.relative_to(library))):
        for optimize in (0, 2) if count % 20 == 0 else (0,):
            check(compile(path.read_bytes(), str(path), "exec", dont_inherit=True, optimize=optimize))
        count += 1
print(json.dumps(count))
""".replace("IS_MINE", IS_MINE)
    assert child(code, timeout=300) > 100


def test_every_kind_of_constant(child):
    code = r'''
inf = "1e999"
sources = ["", "'one line'", "x = 0", "x = -1, 2**31, -2**31, 2**31 - 1, 2**63, -2**63, 2**900, -2**900, 10**400",
    f"x = 0.0, -0.0, {inf}, -{inf}, {inf} - {inf}, 0.1, 1j, -0.0j, {inf} * 1j", "x = b'', b'a', b'bytes', bytes, ..., None, True, False",
    "x = '', 'a', '\xe9', '\u20ac', 'name', 'not a name', '\\udc80 surrogate', '\U0001f600', ' ', '.', 'a' * 300, " + repr("long" * 100),
    "d\xe9f = \u03b1\u03b2 = \xe9 = '\xe9'", "def f(x): return x in {1, 'two', b'three', (4, 5), 6.0, None, '\xe9', ' '}, x in {'q'}, ((), ((),), (1, (2, (3,))))",
    "def f(x): return x in {'one', 'two', 3}\ndef g(x): return x in {3, 'two', 'one'}, x in {'two', 3}",
    "class A:\n  x: int = 1\n  def m(self): return super().m(), __class__\n  y = [i for i in range(3) for j in 'ab' if i]\n  z = q[1:2], q[::3], q['a':]\n",
    "try:\n  f()\nexcept* OSError: pass\nelse:\n  g()\nfinally: h()", "async def f():\n  async with a as b: return [await x async for x in b]\n",
    "class Outer:\n  class Inner:\n    def f(self): return 'Outer.Inner.f', 'Outer.Inner'\n",
    "x = (" + "(" * 60 + "1," + ")," * 60 + ")"]
for i, source in enumerate(sources):
    for optimize in 0, 2:
        check(compile(source, f"<{i}>", "exec", optimize=optimize))
print(json.dumps(len(sources)))
'''
    assert child(code) > 10


def test_what_differs_between_processes_one_by_one(child):
    """Each of the differences that the head of canonical.c names, made by hand: marshal's form differs, ours does not."""
    code = r'''
held = []
def referenced(code):
    held.extend([code, code.co_consts, *code.co_consts, code.co_linetable])
    return code
def fresh(value):
    """An equal value of which nothing is shared or interned."""
    if isinstance(value, str) and len(value) > 1: return "".join(list(value))
    if isinstance(value, frozenset): return frozenset([fresh(item) for item in value])
    return value
def rebuilt(code, each=lambda value: value):
    return code.replace(co_consts=tuple(x.replace(co_consts=tuple(map(each, x.co_consts))) if hasattr(x, "co_consts") else x for x in code.co_consts))
def unshared(code):
    return rebuilt(code, fresh)
def interned(code):
    sys.intern(" "), sys.intern("."), sys.intern("\xe9")
    return code
sets = "def f(x): return x in {'some text', 'more text', 3}\ndef g(x): return x in {3, 'more text', 'some text'}, 4.5\n"
results = {}
for name, change, source in [("references", referenced, "x = 'some text', 1.5, 70000\n"), ("sets", unshared, sets),
                             ("single", interned, "x = f(' '), f('.'), f('\xe9')")]:
    before = marshal.dumps(rebuilt(compile(source, "f", "exec")) if change is unshared else compile(source, "f", "exec"))
    canonical = _native.canonical(before)
    after = marshal.dumps(change(compile(source, "f", "exec")))
    results[name] = [before == after, canonical == _native.canonical(after)]
print(json.dumps(results))
'''
    results = child(code)
    assert all(same for _, same in results.values()), results
    if not FREE_THREADED:
        assert not results["references"][0] and not results["sets"][0], "the control"


def test_what_code_does_not_hold_is_refused(child):
    code = r"""
code = compile("x = 1", "f", "exec")
wrong = [marshal.dumps(code.replace(co_consts=(value, None))) for value in ([1], {2: 3}, {4}, StopIteration)]
data = marshal.dumps(code)
wrong += [b"", data + b"more", marshal.dumps(code, 0)[:-1], b"r\0\0\0\0", b"\xa9\x01r\0\0\0\0", b"\xce", b")\xff", b"(\xff\xff\xff\xff", b"z\xff", b"l\0\0\0\x80", b">\xff\xff\xff\x7f"]
wrong += [data[:n] for n in range(len(data))]
nested = code
for i in range(2000): nested = (nested,)
wrong.append(b")\x01" * 5000 + b"N")
errors = 0
for stream in wrong:
    try: _native.canonical(stream)
    except ValueError: errors += 1
    else: raise AssertionError(stream[:50])
try: _native.canonical("text")
except TypeError: errors += 1
print(json.dumps(errors == len(wrong) + 1))
"""
    assert child(code) is True


@pytest.mark.parametrize("seed", range(20 if LONG else 3))
def test_damage_is_harmless(child, seed):
    """Any damage ends in ValueError or in bytes, which are canonical then."""
    code = r"""
data = marshal.dumps(compile("class A:\n  'doc'\n  def f(self, x=(1, 2.5, 'a b', b'c', 2**70)): return x in {1, 'two', (3, 'three')}, x in {'q', 'r'}\n", "cut.py", "exec"))
chance, good = random.Random(SEED), 0
for i in range(20000):
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data))
        damaged[at] = chance.choice((chance.randrange(256), damaged[at] ^ 0x80, damaged[at] ^ 1, ord(chance.choice("NTF.iglysuatr():>cAzZ"))))
    try: form = _native.canonical(bytes(damaged))
    except ValueError: continue
    assert _native.canonical(form) == form
    good += 1
print(json.dumps(good))
"""
    assert 1000 < child(code.replace("SEED", repr(seed))) < 19000


def test_nothing_is_kept(child):
    code = """
import gc
data = marshal.dumps(compile("def f(x=(1, 'two')): return x in {'a b', 'c d', 3}", "f.py", "exec"))
def blocks():
    gc.collect()
    return sys.getallocatedblocks()
for cut in range(len(data) + 1):
    try: _native.canonical(data[:cut])
    except ValueError: pass
before = blocks()
for i in range(20 * len(data)):
    try: _native.canonical(data[:i % (len(data) + 1)])
    except ValueError: pass
print(json.dumps(blocks() - before))
"""
    assert abs(child(code)) < 20
