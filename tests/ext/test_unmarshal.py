# SPDX-License-Identifier: MIT
"""Code read by Ladewerk is what CPython's marshal makes of the same bytes, to the last bit, and so is every error."""

import sys
import sysconfig

import pytest

from harness import HERE, LONG
from interpreters import IS_MINE

#: Where the interpreter lends its maker of code objects (ext/unmarshal.c).
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
OURS = sys.version_info < (3, 13) and not FREE_THREADED

START = """
import json, marshal, random, sys, twins
from ladewerk import _native
first = twins.compare(marshal.dumps(compile("def f(a, *, b=(1, 2)): return a", "first.py", "exec")), "first")  # read both ways
base = twins.read_here()
def read_since():
    return None if base is None else twins.read_here() - base
"""


@pytest.fixture
def child(tree):
    """Run a child with START and CODE; the last expression printed as JSON."""
    if FREE_THREADED:
        pytest.skip("free-threaded: CPython reads, and makes one object of equal constants of all code")
    tree.env["PYTHONPATH"] = HERE

    def run(code, **kwargs):
        return tree.run(START + code, **kwargs).json()
    return run


#: Code objects without positions are made from another table of lines than the stream's.
OPTIONS = pytest.mark.parametrize("options", [(), ("-X", "no_debug_ranges")], ids=["default", "no positions"])


@OPTIONS
def test_the_standard_library(child, options):
    code = """
import os, pathlib, sysconfig
is_mine = IS_MINE
library, streams = pathlib.Path(sysconfig.get_path("stdlib")), []
for path in sorted(library.rglob("*.py")):
    if not {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts) and is_mine(str(path.relative_to(library))):
        streams.append((str(path), marshal.dumps(compile(path.read_bytes(), str(path), "exec", dont_inherit=True))))
base = twins.read_here()
assert len(streams) > 100 and all(twins.compare(data, path) for path, data in streams)
print(json.dumps([len(streams), read_since()]))
""".replace("IS_MINE", IS_MINE)
    streams, read = child(code, timeout=300, options=options)
    assert read == (streams if OURS else None)


def test_every_kind_of_constant(child):
    code = r'''
inf = "1e999"
sources = ["", "'one line'", "x = 0", "x = -1, 2**31, -2**31, 2**31 - 1, 2**63, -2**63, 2**900, -2**900, 10**400",
    f"x = 0.0, -0.0, {inf}, -{inf}, {inf} - {inf}, 0.1, 1j, -0.0j, {inf} * 1j", "x = b'', b'a', b'bytes', bytes, ..., None, True, False",
    "x = '', 'a', '\xe9', '\u20ac', 'name', 'not a name', '\\udc80 surrogate', '\U0001f600', 'a' * 300, " + repr("long" * 100),
    "d\xe9f = \u03b1\u03b2 = 1", "def f(x): return x in {1, 'two', b'three', (4, 5), 6.0, None}, x in {'q'}, ((), ((),), (1, (2, (3,))))",
    "def f(a, b=1, /, c=2, *d, e, f=3, **g):\n  'doc'\n  def h(): nonlocal a; a = c; return lambda: (a, d, g)\n  return h",
    "class A:\n  x: int = 1\n  def m(self): return super().m(), __class__\n  y = [i for i in range(3) for j in 'ab' if i]\n",
    "try:\n  f()\nexcept* OSError: pass\nelse:\n  g()\nfinally: h()", "async def f():\n  async with a as b: return [await x async for x in b]\n",
    "match x:\n  case {'a': 1, **r}: pass\n  case [1, *_]: pass\n", "x = 'same', 'same', ('same', 1000, 1000), 1000, 'not interned', 'not interned'",
    "\n".join(f"def f{i}(a{i}, same): return a{i}.same{i}, {i}.5, 'text {i}', ({i}, 'b{i}')" for i in range(400)),
    "x = (" + "(" * 60 + "1," + ")," * 60 + ")"]
for i, source in enumerate(sources):
    for optimize in 0, 2:
        assert twins.compare(marshal.dumps(compile(source, f"<{i}>", "exec", optimize=optimize)), i), i
print(json.dumps([2 * len(sources), read_since()]))
'''
    streams, read = child(code)
    assert read == (streams if OURS else None)


def test_what_code_does_not_hold_is_left_to_marshal(child):
    code = """
values = [[1, 2], {"a": 1}, {1, 2}, 5, "text", None, (1, 2), StopIteration]
for value in values:
    ours, stocks = _native.unmarshal(marshal.dumps(value)), marshal.loads(marshal.dumps(value))
    assert type(ours) is type(stocks) and ours == stocks, value
code = compile("x = 1", "f", "exec")
for constant in [[1], {2: 3}, {4}, StopIteration]:
    assert twins.outcome(marshal.loads, marshal.dumps(code.replace(co_consts=(constant, None))))[0].co_consts[0] == constant
    assert _native.unmarshal(marshal.dumps(code.replace(co_consts=(constant, None)))).co_consts[0] == constant
for version in range(5):
    assert twins.compare(marshal.dumps(code, version), version)
deep = "x = 1"
nested = compile(deep, "f", "exec")
for i in range(300):
    nested = code.replace(co_consts=(nested, None))
assert twins.compare(marshal.dumps(nested), "deep")
print(json.dumps(read_since()))
"""
    assert child(code) == (5 if OURS else None)


def test_every_truncation(child):
    code = """
data = marshal.dumps(compile("class A:\\n  '''doc'''\\n  def f(self, x=(1, 2.5, 'a b', b'c', 2**70)): return x in {1, 'two'}\\n", "cut.py", "exec"))
assert not any([twins.compare(data[:n], n) for n in range(len(data))]) and twins.compare(data, "whole") and twins.compare(data + b"more", "more")
print(json.dumps(True))
"""
    assert child(code)


SEEDS = pytest.mark.parametrize("seed", range(40 if LONG else 4))


@SEEDS
def test_random_constants(child, seed):
    code = r"""
chance = random.Random(SEED)
def leaf():
    return chance.choice((
        lambda: chance.choice((None, True, False, ...)), lambda: chance.randrange(-300, 300), lambda: chance.randrange(-2**40, 2**40),
        lambda: chance.getrandbits(chance.randrange(1, 961)) * chance.choice((1, -1)), lambda: chance.choice((0.0, -0.0, 1e300, chance.random())),
        lambda: complex(chance.random(), -0.0), lambda: chance.randbytes(chance.randrange(40)),
        lambda: "".join(chance.choices("abc_ ", k=chance.randrange(12))), lambda: sys.intern("".join(chance.choices("abc", k=chance.randrange(5)))),
        lambda: "".join(chance.choices("a\xe9\u20ac\U0001f600\udc80", k=chance.randrange(300)))))()
def value(depth):
    items = lambda: (chance.choice(made) if made and chance.random() < 0.2 else value(depth - 1) for _ in range(chance.choice((0, 1, 2, 5, 300 if depth == 4 else 3))))
    made.append(leaf() if not depth or chance.random() < 0.5 else chance.choice((tuple, frozenset))(items()))
    return made[-1]
code = compile("x = 1", "f", "exec")
for i in range(300):
    made = []
    assert twins.compare(marshal.dumps(code.replace(co_consts=(value(4), value(4), made[0]))), i)
print(json.dumps(read_since()))
"""
    read = child(code.replace("SEED", repr(seed)))
    assert read == (300 if OURS else None)


@SEEDS
def test_damaged_constants(child, seed):
    """The same object or the same error. (Other damage makes code that CPython itself falls over: no references, nothing outside of the constants.)"""
    code = r"""
import resource
def constants(i):
    return (i, -2**31 + i, 2.5 + i, f"a {i}", f"\xe9\u20ac{i}", b"bytes%d" % i, 2**70 + i, -2**40 - i, 1j * i, f"name{i}", frozenset({i + 300, f"two{i}", (i + 400, i + 500)}),
        (None, True, ..., (f"x{i}", f"y{i}", 1000 + i)))
data = marshal.dumps(compile("x = 1", "f.py", "exec").replace(co_consts=(b"begin", *constants(1), *constants(2), b"finis")))
begin, end = data.index(b"begin") + 5, data.rindex(b"finis")
assert not any(byte & 0x7f == ord("r") for byte in data[begin:end])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), resource.RLIM_INFINITY))  # damaged sizes end in MemoryError, at once
chance, objects = random.Random(SEED), 0
for i in range(3000):
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(begin, end)
        damaged[at] = chance.choice((chance.randrange(256), damaged[at] ^ 0x80, damaged[at] ^ 1, ord(chance.choice("NTFS.Iiglysuat(){}<>ZzA)"))))
        damaged[at] ^= (damaged[at] & 0x7f == ord("r"))
    objects += twins.compare(bytes(damaged), (i, bytes(damaged)))
print(json.dumps(objects))
"""
    objects = child(code.replace("SEED", repr(seed)))
    assert 100 < objects < 2900, "the damage must matter, and not always"


@OPTIONS
def test_nothing_is_lost_or_kept(child, options):
    """Streams that are read, or break off anywhere, cost as many objects and references as under stock (whose errors do lose some)."""
    code = """
import gc
marker = sys.intern("a_name_that_is_met_nowhere_else")
data = marshal.dumps(compile(f"def f({marker}, x=(1, 2, 3.5)): return {marker}.{marker}, x in {{1, 'two', 2**80}}", "f.py", "exec"))
def census():
    gc.collect()
    return len(gc.get_objects()), sys.getrefcount(marker), sys.getallocatedblocks()
def growth(read):
    for cut in range(len(data) + 1):
        twins.outcome(read, data[:cut])
    before = census()
    for _ in range(20):
        twins.outcome(read, data)
        for cut in range(0, len(data), 3):
            twins.outcome(read, data[:cut])
    return [now - then for now, then in zip(census(), before)]
print(json.dumps([growth(marshal.loads), growth(_native.unmarshal)]))
"""
    stocks, ours = child(code, options=options)  # 20 rounds
    assert all(abs(ours - stock) <= 5 for ours, stock in zip(ours, stocks)), (ours, stocks)


AUDIT = """
import sys
events = []
def hook(event, args):
    if event == "marshal.loads":
        events.append(type(args[0]).__name__)
        VETO
sys.addaudithook(hook)
"""


def test_audit_events_are_those_of_stock(tree):
    """One marshal.loads for each module, also for those that are left to CPython."""
    tree.write("a.py", "import b, c, d\n")
    tree.write("b.py", "def f(): pass\n")
    tree.write("c.py", f"x = {10 ** 500}\n")
    tree.write("d.py", "def f(): pass\n")
    code = AUDIT.replace("VETO", "") + "import a\nprint(events)"
    tree.run("import a", ladewerk=False)  # leaves the .pyc files
    stock = tree.run(code, ladewerk=False).out
    tree.learn("import a")
    assert tree.run(code).out == stock == f"{['bytes'] * 4}\n"


@pytest.mark.parametrize("veto", ["raise RuntimeError('no')", "if len(events) == 2: raise RuntimeError('no')", "raise KeyboardInterrupt('no')"])
def test_a_veto_is_final(tree, veto):
    tree.write("a.py", "x = 1\n")
    tree.write("b.py", "x = 1\n")
    code = AUDIT.replace("VETO", veto) + """
for name in "ab":
    try: __import__(name); print(name, "imported")
    except BaseException as error: print(name, repr(error))
print(len(events), [name in sys.modules for name in "ab"])
"""
    tree.run("import a, b", ladewerk=False)
    stock = tree.run(code, ladewerk=False).out
    tree.learn("import a, b")
    assert tree.run(code).out == stock


def test_uninstall_forgets_the_strings(child):
    code = """
import ladewerk
name = "a_name_that_is_met_nowhere_else"
data = marshal.dumps(compile(f"def {name}(): pass", "f.py", "exec"))
count = sys.getrefcount(sys.intern(name))
def read():
    assert twins.compare(data, name)
    return sys.getrefcount(sys.intern(name)) - count
counts = [read(), read()]
ladewerk.uninstall()
counts += [sys.getrefcount(sys.intern(name)) - count, read(), bool(ladewerk.install()), read()]
print(json.dumps(counts))
"""
    first, again, forgotten, *_ = child(code)
    assert first == again
    if sys.version_info < (3, 12):  # since then they are immortal
        assert forgotten == first - 1


def test_can_be_switched_off(tree):
    tree.write("some.py", "x = 1\n")
    code = "import some, json, ladewerk; print(json.dumps(ladewerk.stats()['unmarshal']))"
    tree.learn(code)
    on, off = tree.run(code).json(), tree.run(code, env={"LADEWERK_UNMARSHAL": "0"}).json()
    assert off == {"modules": 0, "reason": "switched off by LADEWERK_UNMARSHAL=0"}
    assert on["reason"] is None if OURS else "as 3.11 and 3.12 do" in on["reason"]


def test_modules_are_read_by_it(tree):
    """The first is read both ways and not counted."""
    for i in range(5):
        tree.write(f"m{i}.py", f"def f{i}(): return {i}\n")
    code = "import m0, m1, m2, m3, m4, json, ladewerk; print(json.dumps(ladewerk.stats()['unmarshal']['modules']))"
    tree.learn(code)
    modules = tree.run(code).json()
    assert modules >= 4 if OURS else modules == 0
