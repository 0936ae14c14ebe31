# SPDX-License-Identifier: MIT
"""Readers from outside: code that looks for names of a module in another way than by running it, and those who trace."""
from __future__ import annotations

import sys
import textwrap

import pytest
import whose

#: A module in which five names wait, and what they wait for.
FILES = {
    "m.py": """
        import alpha
        import beta as second
        import pack.deep
        from gamma import delta, epsilon as eps
        __version__ = "1"
        word = "word"
        def use():
            return alpha.value, second.value, pack.deep.value, delta, eps
        class Thing:
            def method(self): return delta
        """,
    "alpha.py": "value = 'alpha'",
    "beta.py": "value = 'beta'",
    "gamma.py": "delta = 'delta'\nepsilon = 'epsilon'\nother = 'other'",
    "pack/__init__.py": "",
    "pack/deep.py": "value = 'deep'",
}

#: fresh(): `m` imported anew. waiting(): names that are not in its dictionary (from 3.15 on: as what waits); raw(): that dictionary, of which nobody hears.
FRESH = """
import gc, sys, types, operator, functools
NAMES = {"alpha", "second", "pack", "delta", "eps"}
def fresh():
    for name in {"m", "alpha", "beta", "gamma", "pack", "pack.deep"} & set(sys.modules):
        del sys.modules[name]
    import m
    return m
def raw(m):
    return next(each for each in gc.get_referents(m) if type(each) is dict)
def waiting(m):
    return NAMES - {name for name, value in raw(m).items() if type(value).__name__ != "lazy_import"}
"""

ALL = "alpha second pack delta eps"

# What is done with the module m, and which names are resolved by it.
READERS = [
    ("m.alpha.value == 'alpha'", "alpha"),
    ("m.eps == 'epsilon'", "eps"),
    ("getattr(m, 'delta') == 'delta'", "delta"),
    ("getattr(m, 'nothing', 3) == 3", ""),
    ("hasattr(m, 'second')", "second"),
    ("operator.attrgetter('pack.deep.value')(m) == 'deep'", "pack"),
    ("types.ModuleType.__getattribute__(m, 'delta') == 'delta'", "delta"),
    ("__import__('m', fromlist=['delta']).delta == 'delta'", "delta"),
    ("m.word == 'word'", ""),
    ("m.__name__ == 'm'", ""),
    ("'alpha' in dir(m) and 'eps' in dir(m) and 'use' in dir(m)", ""),
    ("'eps' in m.__dir__()", ""),
    ("'eps' in m.__dict__", ALL),
    ("m.__dict__['eps'] == 'epsilon'", "eps"),
    ("m.__dict__.get('eps') == 'epsilon'", "eps"),
    ("m.__dict__.get('eps', None) == 'epsilon'", "eps"),
    ("m.__dict__.get('nothing', 1) == 1", ""),
    ("m.__dict__.get(*['eps']) == 'epsilon'", ALL),
    ("m.__dict__.get('e' + m.word[:0] + 'ps') == 'epsilon'", ALL),
    ("m.__dict__.setdefault('eps', 2) == 'epsilon'", "eps"),
    ("m.__dict__.update(x=1) is None", ""),
    ("m.__dict__.pop('eps') == 'epsilon' and not hasattr(m, 'eps')", "eps"),
    ("m.__dict__['__name__'] == 'm'", ""),
    ("vars(m)['eps'] == 'epsilon'", ALL),
    ("getattr(m, '__dict__')['eps'] == 'epsilon'", ALL),
    ("object.__getattribute__(m, '__dict__')['eps'] == 'epsilon'", ALL),
    ("types.ModuleType.__dict__['__dict__'].__get__(m)['eps'] == 'epsilon'", ALL),
    ("m.use.__globals__['eps'] == 'epsilon'", "eps"),
    ("dict(m.use.__globals__)['eps'] == 'epsilon'", ALL),
    ("m.use.__globals__['__name__'] == 'm'", ""),
    ("m.use.__globals__ is raw(m)", ALL),
    ("raw(m) is m.use.__globals__", ""),
    ("all(each.__globals__['__name__'] == 'm' for each in [m.use] * 100) and ([each.__globals__ for each in [m.use] * 100][-1]['eps'] == 'epsilon')", ALL),
    ("types.FunctionType.__globals__.__get__(m.use)['eps'] == 'epsilon'", ALL),
    ("m.Thing().method() == 'delta'", "delta"),
    ("m.use() == ('alpha', 'beta', 'deep', 'delta', 'epsilon')", ALL),
    ("eval('alpha', raw(m)).value == 'alpha'", "alpha"),
    ("eval(b'alpha', raw(m)).value == 'alpha'", "alpha"),
    ("eval(compile('[alpha for _ in range(2)]', 't', 'eval'), raw(m))[0].value == 'alpha'", "alpha"),
    ("eval('delta', {}, raw(m)) == 'delta'", "delta"),
    ("exec('def new():\\n return delta, word', raw(m)) is None and m.new() == ('delta', 'word')", "delta"),
    ("list(map(eval, ['delta'], [raw(m)])) == ['delta']", "delta"),
    ("eval('globals()[\"delta\"]', raw(m)) == 'delta'", "delta"),
    ("eval('sorted(globals())', raw(m))[-1] == 'word'", ALL),
    ("eval('locals()', raw(m)) is raw(m)", ALL),
    ("eval('vars()', raw(m)) is raw(m)", ALL),
    ("'delta' in eval('dir()', raw(m))", ""),
    ("eval('sys._getframe().f_globals[\"delta\"]', {**dict(sys=sys), 'x': 1} and raw(m), dict(sys=sys)) == 'delta'", "delta"),
    ("setattr(m, 'delta', 'mine') is None and m.delta == 'mine' and m.Thing().method() == 'mine'", "delta"),
]


@whose.ours
def test_which_names_a_reader_finds(lazily):
    """Each row in one process. The dictionary itself lacks them, which is the control: without the hooks nothing of this would be found."""
    lazily(FILES, FRESH + f"READERS = {READERS!r}" + """
from collections import Counter
failures = []
for text, resolved in READERS:
    m = fresh()
    missing = NAMES - waiting(m)
    if missing:
        failures.append(f"{text}: does not wait: {missing}")
        continue
    try:
        good = eval(text)
    except Exception as error:
        good = repr(error)
    if good is not True or NAMES - waiting(m) != set(resolved.split()) - ({"eps"} if "pop(" in text else set()):
        failures.append(f"{text}: {good}; resolved: {sorted(NAMES - waiting(m))}")
if failures:
    sys.exit("\\n".join(failures))
""")


@whose.ours
def test_star(lazily):
    lazily({**FILES, "all.py": "from m import *\nfound = sorted(name for name in globals() if name[0] != '_')",
            "some.py": "from listed import *", "listed.py": "__all__ = ['delta']\nfrom gamma import delta, other\ndef use(): return delta, other",
            "broken.py": "raise ZeroDivisionError", "late.py": "import broken\ndef use(): return broken"}, FRESH + """
m = fresh()
import all
assert set(all.found) == NAMES | {"word", "use", "Thing"}, all.found
assert not waiting(m)
fresh()
import some
assert some.delta == "delta" and "other" not in raw(sys.modules["listed"])
import late
assert "broken" not in raw(late)
try:
    exec("from late import *")
except ZeroDivisionError:
    pass
else:
    sys.exit("what cannot be imported is left out")
""")


@whose.ours
def test_errors_come_to_the_reader(lazily):
    lazily({"m.py": "import broken\nfrom empty import thing\ndef use(): return broken, thing", "broken.py": "1 / 0", "empty.py": ""}, FRESH + """
m = fresh()
for reader, error in ((lambda: m.broken, ZeroDivisionError), (lambda: hasattr(m, "broken"), ZeroDivisionError), (lambda: m.thing, ImportError),
                      (lambda: getattr(m, "thing", None), ImportError), (lambda: m.__dict__["broken"], ZeroDivisionError),
                      (lambda: eval("broken", raw(m)), ZeroDivisionError), (lambda: exec("print(thing)", raw(m)), ImportError)):
    try:
        reader()
    except error as caught:
        assert any("m.py, line" in note for note in caught.__notes__), caught.__notes__
    else:
        sys.exit("no error")
try:
    eval("nothing", raw(m))
except NameError as caught:
    assert caught.name == "nothing"
assert "broken" not in m.__dict__ and "broken" in dir(m)   # who wants all gets what there is
""")


def test_getattr_of_the_module_comes_second(lazily):
    lazily({**FILES, "own.py": """
        from gamma import delta
        def use(): return delta
        asked = []
        def __getattr__(name):
            asked.append(name)
            if name == "delta": raise AttributeError(name)
            return name.upper()
        def __dir__(): return ["own", *globals()]
        """}, FRESH + """
import own
assert own.delta == "delta" and own.asked == [] and own.other == "OTHER"
fresh()
del sys.modules["own"]
import own
assert "own" in dir(own) and "delta" in dir(own)   # its own __dir__ decides, and finds what it looks for
""")


@whose.ours
def test_subclasses_of_the_module_type(lazily):
    """Those that were made before imports became lazy, and later ones; with methods of their own, and by assignment to __class__."""
    lazily(FILES, FRESH + """
class Plain(types.ModuleType): pass
class Falls(types.ModuleType):
    def __getattr__(self, name): return "fallen " + name
class Looks(types.ModuleType):
    def __getattribute__(self, name): return super().__getattribute__(name)
    def __dir__(self): return super().__dir__() + ["mine"]
class Below(Falls): pass
for kind in Plain, Falls, Looks, Below:
    m = fresh()
    m.__class__ = kind
    assert m.delta == "delta" and NAMES - waiting(m) == {"delta"}, (kind, waiting(m))
    assert "eps" in dir(m) and NAMES - waiting(m) == {"delta"}
    assert issubclass(kind, Looks) == ("mine" in dir(m))
    assert not issubclass(kind, Falls) or m.nothing == "fallen nothing"
    assert m.__dict__["alpha"].value == "alpha"
""")


def test_what_is_led_elsewhere_is_what_it_was(alike):
    """Types, signatures, texts, pickles and errors of built-in functions and descriptors."""
    alike({}, """
import inspect, pickle, sys, types
for function in globals, locals, vars, dir, eval, exec, sys.settrace:
    print(function, type(function), function.__name__, function.__qualname__, function.__module__, function.__text_signature__, len(function.__doc__), function.__self__)
    print(pickle.loads(pickle.dumps(function)) is function, hash(function) == hash(function))
    try:
        print(inspect.signature(function))
    except ValueError as error:
        print(error)
for arguments in (), (1,), (1, 2), ("1", 2), ("1", {}, 3), ("1", None, None, None), ("(", {}), (None,):
    for function in globals, locals, vars, dir, eval, exec, sys.settrace:
        try:
            if function is not sys.settrace or len(arguments) != 1:
                result = function(*arguments)
                print(function.__name__, arguments, type(result).__name__)
        except Exception as error:
            print(function.__name__, arguments, type(error), error)
for keywords in {"x": 1}, {"source": "1"}, {"globals": {}}:
    for function in globals, vars, dir, eval, exec:
        try:
            print(function(**keywords))
        except Exception as error:
            print(function.__name__, keywords, type(error), error)
frame = sys._getframe()
for descriptor in types.ModuleType.__dict__["__dict__"], types.ModuleType.__dir__, types.ModuleType.__getattribute__, types.FunctionType.__globals__, type(frame).f_globals, type(frame).f_locals:
    print(descriptor, type(descriptor), descriptor.__name__, descriptor.__qualname__, descriptor.__doc__)
    for thing in 3, None, sys, print:
        try:
            print(type(descriptor.__get__(thing)))
        except Exception as error:
            print(type(error), error)
print(types.MemberDescriptorType, types.GetSetDescriptorType, types.MethodDescriptorType)
print(inspect.ismemberdescriptor(types.FunctionType.__globals__), inspect.isgetsetdescriptor(type(frame).f_globals))
class Slots:
    __slots__ = "a", "b"
slots = Slots()
slots.a = 1
print(slots.a, Slots.a.__get__(slots), Slots.a)
for attempt in "slots.b", "Slots.a.__get__(3)", "types.FunctionType.__globals__.__get__(3)":
    try:
        eval(attempt)
    except Exception as error:
        print(type(error), error)
def inner():
    x = 1
    return locals(), dir(), vars(), eval("x"), eval("x + y", {"y": 2, "x": 5})
print(inner(), frame.f_globals is globals(), frame.f_locals is globals() is locals() is vars())
class Body:
    a = 1
    names = dir()
    print(sorted(locals()), names, eval("a"))
try:
    sys.missing
except AttributeError as error:
    print(error, error.name, error.obj is sys)
""", modes=("default", "all"))


def test_pickles_and_copies(alike):
    alike({**FILES, "shapes.py": """
        import enum
        from collections import namedtuple
        from dataclasses import dataclass
        from gamma import delta
        Point = namedtuple("Point", "x y")
        class Colour(enum.Enum):
            RED = 1
        @dataclass
        class Box:
            size: int = 1
            label: str = "x"
        def area(): return delta
        """, "again.py": "from shapes import Point, Box, Colour, area\ndef use(): return Point, Box, Colour, area"}, """
import copy, pickle, again, shapes, m
things = [shapes.Point(1, 2), shapes.Colour.RED, shapes.Box(3), shapes.area, m.use, m.Thing, m.eps, again.Point, again.area]
for thing in things:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(thing, protocol)) == thing
    print(pickle.loads(pickle._dumps(thing)) == thing, pickle._loads(pickle.dumps(thing)) == thing, copy.copy(thing) == copy.deepcopy(thing) == thing)
def nowhere(): pass
nowhere.__module__ = None
nowhere.__qualname__ = nowhere.__name__ = "delta"   # all modules are asked for it
try:
    pickle.dumps(nowhere)
except Exception as error:
    print(type(error))
for thing in m, shapes.__dict__:
    try:
        print(len(pickle.dumps(thing)))
    except TypeError as error:
        print(error)
""")


@whose.ours
def test_classes_of_the_standard_library_that_look_at_their_module(alike, lazily):
    files = {**FILES, "shapes.py": """
        from __future__ import annotations
        import dataclasses as dc
        import enum
        import typing
        import alpha
        from collections import namedtuple, OrderedDict
        from dataclasses import dataclass, field, InitVar
        from gamma import delta
        from typing import ClassVar, NamedTuple, Optional, TypedDict
        Point = namedtuple("Point", "x y")
        Made = dc.make_dataclass("Made", [("x", int), ("y", "Optional[int]", None)])
        @dataclass
        class Box:
            size: int
            kinds: ClassVar[OrderedDict] = None
            others: typing.ClassVar[int] = 3
            start: InitVar[int] = 7
            later: dc.InitVar[Optional[str]] = None
            label: Optional[str] = field(default=delta)
            def __post_init__(self, start, later): self.sum = self.size + start
        @dataclass(frozen=True, order=True, slots=True)
        class Slotted:
            json: int = 3
            delta: str = "own"
        class Pair(NamedTuple):
            a: int
            b: Optional[str] = None
        class Record(TypedDict):
            a: OrderedDict
        class Colour(enum.Flag):
            RED = enum.auto()
            BLUE = enum.auto()
        Later = enum.Enum("Later", "A B")
        @enum.global_enum
        class Spread(enum.IntFlag):
            ONE = 1
        def use(): return alpha.value
        """}
    alike(files, """
import dataclasses, inspect, shapes, typing
print([(f.name, f.type, f._field_type) for f in dataclasses.fields(shapes.Box)], shapes.Box(2), shapes.Box(1, 2, 3).sum)
print(shapes.Slotted(), shapes.Slotted(5) > shapes.Slotted(4), shapes.Pair(1), shapes.Colour.RED | shapes.Colour.BLUE, shapes.Later.A, shapes.ONE, shapes.Made(1))
print([each.__module__ for each in (shapes.Point, shapes.Made, shapes.Box, shapes.Pair, shapes.Record, shapes.Colour, shapes.Later)])
for each in shapes.Box, shapes.Slotted, shapes.Pair, shapes.Record, shapes.use:
    print(sorted(typing.get_type_hints(each).items()), inspect.get_annotations(each, eval_str=True), inspect.signature(each))
print(sorted(name for name in vars(shapes) if name[0] != "_"))
""")
    lazily(files, FRESH + """
import shapes
assert shapes.Box(1).label == "delta"
assert "alpha" not in raw(shapes) and "namedtuple" in raw(shapes), sorted(raw(shapes))
""")


@whose.ours
def test_type_hints_resolve_what_they_mention(lazily):
    lazily({**FILES, "hints.py": """
        from __future__ import annotations
        import alpha
        import beta as second
        from gamma import delta
        from kinds import Kind, Other
        def f(x: Kind) -> Kind: return alpha, second, delta, Other
        class C:
            x: Kind
            def method(self, y: Kind): pass
        """, "kinds.py": "class Kind: pass\nclass Other: pass"}, FRESH + """
import inspect, typing, hints
inspect.signature(hints.f), inspect.signature(hints.C.method), inspect.get_annotations(hints.f), inspect.get_annotations(hints.C)
assert not raw(hints).keys() & {"alpha", "second", "delta", "Kind", "Other"}, sorted(raw(hints))
Kind = inspect.signature(hints.f, eval_str=True).return_annotation
assert Kind.__name__ == "Kind" and raw(hints).keys() & {"alpha", "second", "delta", "Kind", "Other"} == {"Kind"}
assert typing.get_type_hints(hints.f) == {"x": Kind, "return": Kind} and typing.get_type_hints(hints.C) == {"x": Kind} and typing.get_type_hints(hints.C.method) == {"y": Kind}
if sys.version_info < (3, 14):
    assert "delta" not in raw(hints), sorted(raw(hints))
""")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are new in 3.12")
def test_type_hints_of_what_has_type_parameters(alike):
    """Here typing goes on with copies of the dictionary."""
    alike({**FILES, "generic.py": """
        from __future__ import annotations
        from kinds import Kind, Other
        class C[T]:
            x: Kind
            y: T
        class D(C[int]):
            z: Other
        def f[T](x: Kind, y: T) -> Other: return Kind, Other
        type A[T] = list[Kind]
        """, "kinds.py": "class Kind: pass\nclass Other: pass"}, """
import generic, inspect, typing
for each in generic.C, generic.D, generic.f:
    try:
        print(typing.get_type_hints(each), inspect.get_annotations(each, eval_str=True))
    except Exception as error:
        print(type(error), error)
print(generic.A.__value__)
""")


@whose.ours
def test_inspect_and_help(alike):
    alike({**FILES, "sub.py": "import m\nfrom gamma import delta as renamed\nclass Child(m.Thing):\n    'A child.'\n    def second(self): return renamed, m"}, """
import inspect, io, pydoc, sub, m
print([(name, type(value).__name__) for name, value in inspect.getmembers(m) if name not in ("__builtins__", "__cached__", "__loader__", "__spec__")])
print([(name, type(value).__name__) for name, value in inspect.getmembers_static(m) if name not in ("__builtins__", "__cached__", "__loader__", "__spec__")])
closure = inspect.getclosurevars(m.use)
print(sorted(closure.globals.items(), key=str), closure.builtins, sorted(closure.unbound), inspect.signature(m.use), inspect.getsource(m.use), inspect.getsourcelines(m.Thing), inspect.getfile(sub))
print(inspect.getmodule(m.use), inspect.getmodule(sub.Child), inspect.getattr_static(m, "delta"), inspect.getattr_static(sub, "renamed"), inspect.getmro(sub.Child))
print(pydoc.render_doc(m), pydoc.render_doc(sub), pydoc.resolve("m.delta"), pydoc.locate("sub.renamed"))
print(inspect.unwrap(m.use) is m.use, inspect.isfunction(m.use), inspect.getdoc(sub.Child), inspect.classify_class_attrs(sub.Child)[0])
""")


@whose.ours
def test_patching(alike, lazily):
    files = {**FILES, "app.py": "from gamma import delta, other\nimport alpha\nimport beta\ndef run(): return delta, other, alpha.value, beta.value"}
    alike(files, """
import app
from unittest import mock
with mock.patch("app.delta", "patched"), mock.patch("app.alpha.value", 1):
    print(app.run())
print(app.run())
@mock.patch.object(app, "other")
def test(other): return app.other is other, app.run()[1] is other
print(test(), app.run())
with mock.patch.dict("app.__dict__", delta="in the dictionary", new=1):
    print(app.run(), app.new)
print(app.run(), hasattr(app, "new"))
with mock.patch("app.missing", create=True) as new:
    print(app.missing is new)
try:
    mock.patch("app.missing").start()
except AttributeError as error:
    print(error)
with mock.patch.multiple("app", delta=1, beta=mock.DEFAULT) as given:
    print(app.run()[0], given["beta"] is app.beta)
print(app.run(), mock.create_autospec(app).run is not app.run)
app.delta = "set"
print(app.run())
del app.delta
try:
    app.run()
except NameError as error:
    print(error)
""")
    lazily(files, FRESH + """
import app
from unittest import mock
with mock.patch("app.delta", "patched"):
    assert raw(app).keys() & {"delta", "other", "alpha", "beta"} == {"delta"}
    assert app.run() == ("patched", "other", "alpha", "beta")
assert app.run()[0] == "delta"
""")


def test_monkeypatch(lazily):
    pytest.importorskip("pytest")
    lazily(FILES, FRESH + """
import pytest
m = fresh()
with pytest.MonkeyPatch.context() as monkey:
    monkey.setattr(m, "delta", "mine")
    monkey.setattr("m.alpha.value", "mine")
    monkey.delattr(m, "eps")
    monkey.setitem(m.__dict__, "second", 5)
    assert m.delta == m.alpha.value == "mine" and not hasattr(m, "eps") and m.second == 5
assert m.use() == ("alpha", "beta", "deep", "delta", "epsilon")
""")


def test_doctest_and_unittest(alike):
    alike({**FILES, "documented.py": """
        '''
        >>> delta, alpha.value
        ('delta', 'alpha')
        '''
        import alpha
        import beta
        from gamma import delta, other
        from m import use
        def f():
            '''
            >>> f()
            ('beta', 'other')
            >>> delta.upper()
            'DELTA'
            >>> missing
            Traceback (most recent call last):
            NameError: name 'missing' is not defined
            '''
            return beta.value, other
        def g(): return use()
        """, "test_it.py": """
        import unittest
        from unittest import TestCase, mock
        from gamma import delta
        import alpha
        def load_tests(loader, tests, pattern):
            import doctest, documented
            tests.addTests(doctest.DocTestSuite(documented))
            return tests
        class Case(TestCase):
            def test_it(self): self.assertEqual((delta, alpha.value), ("delta", "alpha"))
            def test_mock(self):
                with mock.patch(__name__ + ".delta", 3): self.assertEqual(delta, 3)
        """}, """
import doctest, io, unittest, documented, test_it
print(doctest.testmod(documented, verbose=False), doctest.testmod(documented, globs=None, extraglobs={"missing": 1}, raise_on_error=False, report=False).attempted)
result = unittest.TestResult()
unittest.defaultTestLoader.loadTestsFromModule(test_it).run(result)
print(result.testsRun, result.failures, result.errors)
unittest.defaultTestLoader.loadTestsFromName("test_it.Case.test_it").run(result)
print(result.testsRun, result.failures, result.errors)
""")


def test_finding_and_running(alike):
    alike({**FILES, "again.py": "from gamma import delta\nimport alpha\nimport beta\ncount = globals().get('count', 0) + 1\ndef use(): return delta, alpha.value, beta.value",
           "prog.py": "import alpha\nfrom gamma import delta\nprint(__name__, alpha.value, delta)\ndef f(): return delta"}, """
import importlib, pkgutil, runpy, sys, types, again, m
print(pkgutil.resolve_name("m:delta"), pkgutil.resolve_name("m.eps"), pkgutil.resolve_name("m:pack.deep.value"), pkgutil.resolve_name("pack.deep:value"))
print(importlib.reload(again) is again, again.count, again.use(), importlib.reload(again).use(), again.count)
print(sorted(name for name in runpy.run_module("prog") if name[0] != "_"), sorted(name for name in runpy.run_path(sys.modules["m"].__file__) if name[0] != "_"))
print(importlib.import_module("m").eps, sys.modules["m"].delta, importlib.util.find_spec("pack.deep").name)
new = types.ModuleType("new")
exec(compile(open(m.__file__).read(), m.__file__, "exec"), new.__dict__)
print(new.use(), sorted(name for name in new.__dict__ if name[0] != "_"))
spec = importlib.util.spec_from_file_location("other", m.__file__)
other = importlib.util.module_from_spec(spec)
spec.loader.exec_module(other)
print(other.use(), other.delta)
lazy = importlib.util.spec_from_file_location("lazy", m.__file__, loader=importlib.util.LazyLoader(importlib.machinery.SourceFileLoader("lazy", m.__file__)))
module = importlib.util.module_from_spec(lazy)
lazy.loader.exec_module(module)
print(module.delta, module.use())
""")


def test_reload_with_an_import_that_has_gone(alike):
    """What the old text imported stays in the dictionary."""
    alike({**FILES, "again.py": "import alpha\nfrom gamma import delta\ndef use(): return alpha.value, delta"}, """
import importlib, time, os, again
with open(again.__file__, "w") as file:
    file.write("print(alpha.value)\\nfrom gamma import other as delta\\ndef use(): return alpha.value, delta, 'a longer text'")
importlib.invalidate_caches()
print(importlib.reload(again).use())
with open(again.__file__, "w") as file:
    file.write("import alpha\\nfrom gamma import delta\\ndef use(): return alpha.value, delta")
""")


def test_logging_and_warnings(alike):
    alike({**FILES, "loud.py": """
        import logging
        import logging.handlers
        import warnings
        from gamma import delta
        import alpha
        log = logging.getLogger(__name__)
        def shout():
            log.warning("shouting %s", delta)
            warnings.warn("a warning", DeprecationWarning, stacklevel=1)
            warnings.warn("another", UserWarning, stacklevel=2)
            try:
                alpha.nothing
            except AttributeError:
                log.exception("caught")
        """}, """
import logging, sys, warnings, loud
warnings.simplefilter("always")
logging.basicConfig(stream=sys.stdout, format="%(name)s %(funcName)s %(lineno)d %(filename)s %(message)s")
loud.shout()
print(sorted(name for name in vars(loud) if name[0] != "_"), loud.__warningregistry__.get("version") is not None)
""")


@whose.ours
def test_tracebacks_keep_names_waiting(lazily):
    lazily({**FILES, "fails.py": "import alpha\ndef fail(): raise ValueError('here')\ndef use(): return alpha"}, FRESH + """
import fails, traceback
try:
    fails.fail()
except ValueError as error:
    assert "raise ValueError('here')" in "".join(traceback.format_exception(error))
    traceback.extract_tb(error.__traceback__), traceback.extract_stack()
    assert "alpha" not in raw(fails)
    traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "alpha" not in raw(fails)
    assert error.__traceback__.tb_next.tb_frame.f_globals["alpha"].value == "alpha"
import inspect
assert inspect.getsource(fresh().use) and len(waiting(sys.modules["m"])) == 5
""")


@whose.ours
def test_names_in_suggestions(alike):
    alike({**FILES, "typo.py": "import alpha\ndef f(): return alpah\ndef use(): return alpha"}, """
import sys, traceback, typo, m
for function in typo.f, lambda: m.detla:
    try:
        function()
    except (NameError, AttributeError) as error:
        print("".join(traceback.format_exception(error)))
if sys.version_info >= (3, 12):   # before, the interpreter reads the dictionary itself
    typo.f()
""")


@whose.ours
def test_globals_of_a_module_body(alike):
    """A body that reads its own names: what has been imported so far is there."""
    alike({**FILES, "body.py": """
        import sys
        import alpha
        print(sorted(n for n in globals() if n[0] != "_"), sorted(n for n in dir() if n[0] != "_"), sorted(n for n in vars() if n[0] != "_"))
        from gamma import delta
        print("delta" in locals(), "other" in globals(), eval("delta"), [each for each in ("alpha", "delta") if each in globals()])
        from gamma import other
        exec("new = other")
        globals()["direct"] = 1
        globals().update(more=2)
        import beta
        me = sys.modules[__name__]
        print(me.beta.value, getattr(me, "other"), sys._getframe().f_globals["alpha"].value, new, direct, more, len(sys._getframe().f_locals))
        def deep(): return [globals()[name] for name in ("delta", "other")], sys._getframe(1).f_globals.get("beta")
        print(deep())
        class Body:
            print(sorted(n for n in locals() if n[0] != "_"), delta, sorted(n for n in dir() if n[0] != "_"))
            from gamma import delta as inner
        def use(): return alpha, delta, other, beta
        """}, "import body\nprint(sorted(n for n in vars(body) if n[0] != '_'))")


def test_code_objects(alike, lazily):
    files = {**FILES, "code.py": "import json\n"}
    alike({**FILES}, """
import copy, dis, gc, inspect, marshal, types, m
code = m.use.__code__
copied = types.FunctionType(marshal.loads(marshal.dumps(code)), m.__dict__)
print(copied(), types.FunctionType(code.replace(co_name="renamed"), dict(m.__dict__))(), eval(code, vars(m)))
print(code.co_names, code.co_varnames, code.co_firstlineno, code == m.use.__code__, hash(code) == hash(code), code.co_argcount)
print([line for _, _, line in code.co_lines() if line] [:1], len(dis.code_info(code)) > 0)
""")
    pytest.importorskip("cloudpickle")
    alike({**FILES, "made.py": "from gamma import delta\nimport alpha\ndef maker(x):\n    return lambda: (x, delta, alpha.value)\nclass Outer:\n    def method(self):\n        return [delta for _ in range(2)]"}, """
import cloudpickle, pickle, subprocess, sys, made
made_up = pickle.loads(cloudpickle.dumps(made.maker(3)))   # by value, with the globals that it mentions
print(made_up(), sorted(made_up.__globals__.keys() - {"__builtins__"}))
cloudpickle.register_pickle_by_value(made)
data = cloudpickle.dumps((made.Outer, made.maker))
print(subprocess.run([sys.executable, "-c", "import pickle, sys; Outer, maker = pickle.load(sys.stdin.buffer); print(Outer().method(), maker(1)())"], input=data, capture_output=True, check=True).stdout)
""")


def test_who_asks_for_names_keeps_nothing(alike):
    """dir(), locals() and the like do not make what local variables refer to live longer."""
    alike({**FILES, "keeps.py": """
        import alpha
        import weakref
        class Thing: pass
        def ask(question):
            thing = Thing()
            alive = weakref.ref(thing)
            question()
            del thing
            return alive() is None
        def own():
            thing = Thing()
            alive = weakref.ref(thing)
            dir(), eval("1"), globals()["__name__"]
            del thing
            return alive() is None
        def use(): return alpha
        print(own(), [ask(each) for each in (dir, globals, lambda: None)])
        """}, "import keeps\nprint(keeps.own())")


# --- tracing ------------------------------------------------------------------------------------------------------------

TRACER = """
import sys, os, threading
events = []
def tracer(frame, event, arg):
    name = os.path.basename(frame.f_code.co_filename)
    if name in ("m.py", "alpha.py", "beta.py", "gamma.py", "deep.py", "late.py", "__init__.py"):
        events.append((name, frame.f_code.co_name, frame.f_lineno, event, type(arg[1]).__name__ if event == "exception" else ""))
    return tracer
"""


@whose.ours
def test_whoever_traces_sees_what_stock_python_does(alike):
    """From the start, and set when names wait already; by settrace() of both modules; profilers trace no lines."""
    late = {**FILES, "late.py": "import m\nfrom gamma import other\ndef run():\n    for i in range(2):\n        print(m.use(), other, i)\n    try:\n        missing\n    except NameError as error:\n        print(error)\n"}
    for begin in ("sys.settrace(tracer)\nimport late\nlate.run()\nsys.settrace(None)",
                  "import late\nsys.settrace(tracer)\nlate.run()\nsys.settrace(None)",
                  "import late\nlate.run()\nsys.settrace(tracer)\nlate.run()\nsys.settrace(None)",
                  "import late\nthreading.settrace(tracer)\nthread = threading.Thread(target=late.run)\nthread.start()\nthread.join()"):
        alike(late, TRACER + begin + "\nfor event in events: print(event)", modes=("default", "all"))


@whose.ours
def test_tracing_ends_waiting(lazily):
    lazily(FILES, FRESH + """
m = fresh()
sys.settrace(None)
sys.setprofile(lambda *arguments: None)
assert len(waiting(m)) == 5
sys.setprofile(None)
sys.settrace(lambda *arguments: None)
sys.settrace(None)
assert not waiting(m)
assert not waiting(fresh())   # somebody has traced: what is imported from now on is eager
""")


@whose.ours
@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_monitoring(alike, lazily):
    alike({**FILES}, """
import os, sys
import m
monitoring, events = sys.monitoring, sys.monitoring.events
seen = []
def of(code, *rest):
    name = os.path.basename(code.co_filename)
    if name == "m.py":
        seen.append((code.co_name, *(type(each).__name__ if isinstance(each, BaseException) else 0 for each in rest[1:]), rest[0] if len(rest) == 1 else ""))
monitoring.use_tool_id(monitoring.DEBUGGER_ID, "test")
for event in (events.LINE, events.RAISE, events.EXCEPTION_HANDLED, events.PY_START):
    monitoring.register_callback(monitoring.DEBUGGER_ID, event, of)
monitoring.set_events(monitoring.DEBUGGER_ID, events.LINE | events.RAISE | events.EXCEPTION_HANDLED | events.PY_START)
m.use()
m.Thing().method()
monitoring.set_events(monitoring.DEBUGGER_ID, 0)
for each in seen: print(each)
""")
    lazily(FILES, FRESH + """
monitoring, events = sys.monitoring, sys.monitoring.events
m = fresh()
monitoring.use_tool_id(monitoring.PROFILER_ID, "test")
monitoring.set_events(monitoring.PROFILER_ID, events.CALL | events.PY_START | events.PY_RETURN)
assert len(waiting(m)) == 5   # calls alone
monitoring.set_local_events(monitoring.PROFILER_ID, m.use.__code__, events.LINE)
assert not waiting(m) and not waiting(fresh())
import cProfile
""")


def test_profilers(lazily):
    lazily(FILES, FRESH + """
import cProfile, pstats, io
m = fresh()
profile = cProfile.Profile()
assert profile.runcall(m.use) == ("alpha", "beta", "deep", "delta", "epsilon") and not waiting(m)
text = io.StringIO()
pstats.Stats(profile, stream=text).print_stats()
assert "(use)" in text.getvalue()
""")


def test_debugger(alike):
    """pdb, at a break point within a function whose names wait."""
    alike({**FILES, "late.py": "from gamma import delta\nimport alpha\ndef run(stop):\n    stop()\n    x = delta\n    return x, alpha.value\n"}, """
import io, pdb, late, os, re
commands = "u\\np delta\\np alpha.value\\nn\\nn\\np x\\nargs\\nwhatis delta\\n!y = alpha.value\\npp sorted(k for k in globals() if k[0] != '_')\\nw\\nb late:6\\nc\\np y\\nc\\n"
out = io.StringIO()
debugger = pdb.Pdb(stdin=io.StringIO(commands), stdout=out, nosigint=True, readrc=False)
print(late.run(debugger.set_trace))
print(re.sub(r"0x[0-9a-f]+", "0x", out.getvalue()))
""")


@pytest.mark.parametrize("core", ["ctrace", "pytrace", "sysmon"])
def test_coverage(alike, core):
    """Lines and branches of all modules, by each of its ways to trace."""
    pytest.importorskip("coverage")
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring is new in 3.12")
    alike({**FILES, "late.py": "import m\nfrom gamma import other\ndef run(x):\n    if x:\n        return m.use(), other\n    return alpha\ntry:\n    run(0)\nexcept NameError:\n    pass\n"}, f"""
import os
os.environ["COVERAGE_CORE"] = {core!r}
import coverage, contextlib, io
cover = coverage.Coverage(data_file=None, branch={core != 'sysmon'}, config_file=False)
cover.start()
import late
late.run(1)
cover.stop()
print(late.run(1))
data = cover.get_data()
for file in sorted(data.measured_files()):
    if os.path.basename(file) in ("late.py", "m.py", "alpha.py", "gamma.py", "deep.py"):
        print(os.path.basename(file), sorted(data.lines(file)), sorted(data.arcs(file) or ()), cover.analysis2(file)[3])
""")


# --- the life of the hooks ----------------------------------------------------------------------------------------------

@whose.ours
def test_uninstall(lazily):
    """Names that wait go on to do so, and are found."""
    lazily(FILES, FRESH + """
import ladewerk
m = fresh()
ladewerk.uninstall()
assert m.delta == "delta" and NAMES - waiting(m) == {"delta"} and "eps" in dir(m) and m.__dict__["eps"] == "epsilon"
assert not waiting(fresh())
ladewerk.install()
assert m.use()[0] == "alpha"
""")


@whose.ours
def test_without_lazy_imports_nothing_is_led_elsewhere(programs):
    """Which file the module type's function for attributes, and the one of globals(), are in: the interpreter's; ours where imports are lazy."""
    program = """
import ctypes, sys
def file_of(address):
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(text, 16) for text in line.split()[0].split("-"))
            if begin <= address < end:
                return "_native" in line
def pointer(address):
    return ctypes.c_void_p.from_address(address).value
getattro = 18 * 8   # in a type: the slot tp_getattro
method = pointer(id(globals) + 16)   # its definition, whose second field is the function
print(file_of(pointer(id(type(sys)) + getattro)), file_of(pointer(method + 8)))
"""
    assert [programs.run(mode, {}, program).out.split() for mode in ("stock", "eager", "default", "all")] == [["False"] * 2] * 2 + [["True"] * 2] * 2


@whose.ours
def test_interpreters(lazily):
    """A subinterpreter without lazy imports goes on to the stock functions, and one with its own has its own names."""
    lazily(FILES, FRESH + textwrap.dedent("""
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            import _interpreters as interpreters
        m = fresh()
        text = '''
        import sys
        sys.path.insert(0, %r)
        import ladewerk
        import m, types
        assert "delta" in dir(m) and m.delta == "delta" and m.__dict__["eps"] == "epsilon" and m.use.__globals__ is m.__dict__
        class Sub(types.ModuleType):
            def __getattr__(self, name): return name
        m.__class__ = Sub
        assert m.nothing == "nothing" and eval("alpha", m.__dict__).value == "alpha" and m.use()[1] == "beta"
        ''' % sys.path[0]
        import textwrap
        for _ in range(3):
            one = interpreters.create()
            failed = interpreters.run_string(one, textwrap.dedent(text))
            interpreters.destroy(one)
            assert not failed, failed
            assert len(waiting(m)) == 5 and "delta" in dir(m)
        assert m.delta == "delta"
    """))


@whose.ours
def test_threads_read_from_outside(lazily):
    """Many threads, one of each kind of reader, on the same names."""
    lazily(FILES, FRESH + """
import threading
sys.setswitchinterval(1e-6)
readers = [lambda m: m.delta, lambda m: m.__dict__["delta"], lambda m: m.use()[3], lambda m: eval("delta", m.__dict__), lambda m: m.use.__globals__["delta"],
           lambda m: "delta" in dir(m) and "delta", lambda m: vars(m)["delta"], lambda m: getattr(m, "delta")]
for _ in range(60):
    m, found, barrier = fresh(), [], threading.Barrier(len(readers))
    def run(reader):
        barrier.wait()
        found.append(reader(m))
    threads = [threading.Thread(target=run, args=(reader,)) for reader in readers]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert found == ["delta"] * len(readers), found
""")


def test_nothing_leaks(lazily):
    lazily(FILES, FRESH + """
import weakref
def once():
    m = fresh()
    dir(m), m.delta, m.__dict__.get("eps"), m.use.__globals__, eval("alpha", m.__dict__), m.use()
    return weakref.ref(m)
once()
gc.collect()
before = [len(gc.get_objects()), [sys.getrefcount(each) for each in (types.ModuleType.__dict__["__dict__"], globals, dir, eval, types.FunctionType.__globals__, None.__class__)]]
references = [once() for _ in range(50)]
fresh()
for name in "m", "alpha", "beta", "gamma", "pack", "pack.deep":
    sys.modules.pop(name, None)
del name
gc.collect()
assert not any(reference() for reference in references)
del references
after = [len(gc.get_objects()), [sys.getrefcount(each) for each in (types.ModuleType.__dict__["__dict__"], globals, dir, eval, types.FunctionType.__globals__, None.__class__)]]
assert after[0] - before[0] < 60 and before[1] == after[1], (before, after)
""")


# --- submodules of packages ---------------------------------------------------------------------------------------------

PACKAGE = {
    "shop/__init__.py": "from .api import buy\nfrom . import money\n__all__ = ['buy']",
    "shop/api.py": "from . import cart\ndef buy(): return cart.Cart",
    "shop/cart.py": "from .shelf import Shelf\nfrom .money.coin import Coin\nclass Cart:\n    def use(self): return Shelf, Coin",
    "shop/shelf.py": "class Shelf: pass",
    "shop/spare.py": "print('nobody imports this')",
    "shop/money/__init__.py": "",
    "shop/money/coin.py": "class Coin: pass",
    "other.py": "import shop.spare\nimport shop\ndef use(): return shop.spare",
    "broken/__init__.py": "from .bad import x\ndef use(): return x",
    "broken/bad.py": "from . import good\n1 / 0\nx = good",
    "broken/good.py": "",
}


@whose.ours
def test_submodules_that_the_packages_own_imports_load(alike, lazily):
    """`import shop` is enough for shop.shelf, which shop.cart imports."""
    alike(PACKAGE, """
import shop
print(shop.shelf.Shelf.__name__, shop.money.coin.Coin.__name__, shop.cart.Cart.__name__, shop.api.buy.__name__)
for missing in "spare", "nothing", "__nothing__", "_nothing", "no thing":
    print(missing, hasattr(shop, missing), getattr(shop, missing, None))
try:
    shop.spare
except AttributeError as error:
    print(error)
""")
    alike(PACKAGE, """
import shop
print(hasattr(shop, "spare"))
import other
print(hasattr(shop, "spare"), shop.spare is other.use())
""", modes=("default", "all"))
    alike(PACKAGE, """
import shop
from shop import shelf, spare
import shop.money.coin as coin
print(shelf.Shelf is shop.shelf.Shelf, coin.Coin, shop.money.coin is coin)
del shop.shelf
print(hasattr(shop, "shelf"))
""")
    lazily(PACKAGE, """
import sys, shop
assert not loaded("shop.api", "shop.cart", "shop.shelf", "shop.money")
assert not hasattr(shop, "nothing") and not hasattr(shop, "__wrapped__")
assert not loaded("shop.api", "shop.cart", "shop.shelf", "shop.money")   # there is no such file, so nobody would have loaded it
assert shop.api and not loaded("shop.cart", "shop.money")
import other
assert shop.spare and loaded("shop.spare") and not loaded("shop.cart", "shop.money")   # a name waits for this one
from shop import money   # importlib asks first whether the package has it
assert not loaded("shop.cart", "shop.shelf")
assert shop.shelf and loaded("shop.cart", "shop.shelf")
""")
    files = {"elsewhere.py": "from paint.brushes.fine import Fine\ndef use(): return Fine", "paint/__init__.py": "", "paint/brush.py": "", "paint/oil.py": "",
             "paint/brushes/__init__.py": "", "paint/brushes/fine.py": "from paint.brush import __name__ as name\nimport paint.brush\nclass Fine: brush = paint.brush\ndef use(): return paint"}
    alike(files, """
import paint
print(hasattr(paint, "brush"))
import elsewhere   # an import of something below the package, which waits in default mode, too
print(paint.brush.__name__, hasattr(paint, "oil"))
""", modes=("default", "all"))
    lazily(PACKAGE, """
import sys
try:
    import broken
    broken.good
except ZeroDivisionError:
    sys.exit("an error that nobody asked for")
except AttributeError:
    pass
""")


# --- what CPython asks of its own lazy imports --------------------------------------------------------------------------

def test_targets_that_make_their_attributes(alike):
    """A module's __getattr__ is asked when the name is used; what it raises, and warns of, comes to the user."""
    alike({"dynamic.py": """
        import warnings
        asked = []
        def __getattr__(name):
            if name == "__path__": raise AttributeError(name)
            asked.append(name)
            if name == "bad": raise ValueError(name)
            if name == "missing": raise AttributeError(name)
            if name == "old": warnings.warn("old is old", UserWarning)
            return "made " + name
        """, "pack/__init__.py": "def __getattr__(name):\n    if name == 'made': return 'made'\n    raise AttributeError(name)", "pack/real.py": "x = 1",
        "user.py": "from dynamic import made, old\nfrom pack import made as other, real\ndef use(): return made, old, other, real.x",
        "bad.py": "from dynamic import bad\ndef use(): return bad", "missing.py": "from dynamic import missing\ndef use(): return missing"}, """
import warnings
with warnings.catch_warnings(record=True) as log:
    warnings.simplefilter("always")
    import user
    print(user.use(), user.made, user.other, user.real.__name__, [str(each.message) for each in log])
for name in "bad", "missing":
    try:
        print(__import__(name).use())
    except Exception as error:
        print(type(error), error)
import dynamic
print(dynamic.made, dynamic.anything, sorted(set(dynamic.asked)))
""")


@whose.ours
def test_names_that_clash(alike):
    """Submodules, variables and attributes of one name; modules that were removed from sys.modules; children that were deleted."""
    alike({
        "first/__init__.py": "from first.bar import Bar\nbar = 'variable'\ndef use(): return Bar, bar", "first/bar.py": "Bar = 'Bar'",
        "second/__init__.py": "bar = 'variable'\nfrom second import bar\ndef use(): return bar", "second/bar.py": "Bar = 'Bar'",
        "versioned/__init__.py": "from versioned.__version__ import __version__, copyright\ndef use(): return copyright", "versioned/__version__.py": "__version__ = '1.0'\ncopyright = 'c'",
        "same/__init__.py": "from .same import same\ndef use(): return same", "same/same.py": "def same(): return 'function'",
        "deep/__init__.py": "", "deep/a/__init__.py": "", "deep/a/b.py": "x = 'b'", "deep/a/c.py": "x = 'c'", "deep/d.py": "x = 'd'",
        "parts.py": "import deep.a.b\nimport deep.d\nimport deep.a.c as last\nfrom deep import a\ndef use(): return deep.a.b.x, deep.d.x, last.x, a.b.x, a.c.x",
        "siblings.py": "import deep.d\nimport deep.a.c\ndef use(): return deep.a.c.x, deep.d.x",
    }, """
import sys, first, second, versioned, same, parts, siblings
print(first.bar, first.use(), second.bar.Bar, second.use() is sys.modules["second.bar"], versioned.__version__, versioned.use(), same.same(), same.use()())
print(parts.use(), siblings.use(), parts.deep is siblings.deep, sorted(n for n in vars(parts) if n[0] != "_"))
import deep
del deep.d
print(hasattr(deep, "d"), "deep.d" in sys.modules)
before = sys.modules.pop("deep.a.b")
import deep.a.b
print(deep.a.b is before, parts.deep.a.b is deep.a.b)
""")


def test_globals_that_are_changed_under_running_code(alike):
    """Loads that have specialised meet a name that has come, gone or changed."""
    alike({**FILES, "changing.py": """
        import alpha
        import beta
        class Plain: value = 1
        plain = Plain()
        def run():
            total = []
            for _ in range(40):
                total.append(plain.value)
            return set(total)
        def late(): return [beta.value for _ in range(40)][-1]
        print(run())
        globals()["plain"] = globals()["alpha"]
        print(run(), late())
        globals()["beta"] = Plain
        print(late())
        del globals()["beta"]
        try:
            late()
        except NameError as error:
            print(error)
        """}, "import changing\nprint(changing.run())\nchanging.plain = changing.Plain\nprint(changing.run())")
