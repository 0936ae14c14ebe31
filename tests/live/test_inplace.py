# SPDX-License-Identifier: MIT
"""Policy "in place": each row of the table in ext/RELOAD.md, then failures, threads and memory. Modules are reloaded in this process, from a directory of the test's own."""
import gc
import pickle
import sys
import textwrap
import types
import weakref

import pytest
from ladewerk import Reloader, ReloadError


class Place:
    """A directory of modules, on sys.path."""

    def __init__(self, path):
        self.path = path
        self.reloader = Reloader([path], watch=False, policy="in place", patience=60)

    def write(self, files):
        for name, text in files.items():
            (self.path / f"{name}.py").write_text(textwrap.dedent(text))

    def load(self, **files):
        """Import them, and have them looked at; the module m."""
        self.write(files)
        for name in files:
            __import__(name)
        self.reloader.reload()
        return sys.modules["m"]

    def save(self, **files):
        self.write(files)
        return self.reloader.reload()

    def fails(self, **files):
        with pytest.raises(ReloadError) as caught:
            self.save(**files)
        return caught.value


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    place = Place(tmp_path)
    yield place
    place.reloader.close()
    for name in [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(tmp_path))]:
        del sys.modules[name]


# --- rows of the table: (row, old source of m, new source, what is true before, what then); old is a namespace of what BEFORE has bound ---

ROWS = {
    "module": ("A = 1\nB = 1\n", "A = 2\nC = 3\n", "names = vars(m)", "names is vars(m) and m.A == 2 and m.C == 3 and not hasattr(m, 'B')"),
    "function": ("def f(a=1, *, b=2):\n    'one'\n    return a, b\nf.mark = 1\ng = 1\n", "def f(x: int = 3, *, y=4, z=5) -> str:\n    'two'\n    return x, y, z, g\nf.tag = 2\ng = 7\n",
                 "f = m.f", "f is m.f and f() == (3, 4, 5, 7) and f.__doc__ == 'two' and f.tag == 2 and not hasattr(f, 'mark')"
                 " and set(f.__annotations__) == {'x', 'return'} and f.__globals__ is vars(m)"),
    "new function": ("A = 1\n", "A = 1\ndef f():\n    return A\n", "", "m.f() == 1 and m.f.__globals__ is vars(m) and setattr(m, 'A', 5) is None and m.f() == 5"),
    "lambda": ("f = lambda: 1\n", "f = lambda: 2\n", "f = m.f", "f is m.f and f() == 2"),
    "generator function": ("def f():\n    yield 1\n    yield 1\n", "def f():\n    return 2\n", "f = m.f; g = f(); next(g)", "next(g) == 1 and f() == 2 and f is m.f"),
    "function of other modules": ("from user import f\n", "from user import g as f\n", "u = sys.modules['user']; f = m.f", "f() == 'f' and m.f() == 'g' and u.f is f"),
    "closure": ("def make(n):\n    def inner():\n        return n\n    return inner\nf = make(1)\n", "def make(n):\n    k = 10\n    def inner():\n        return n + k\n    return inner\nf = make(2)\n",
                "f = m.f; mine = m.make(5)", "f is m.f and f() == 12 and mine() == 5 and m.make(5)() == 15"),
    "wraps": ("import user\n@user.deco\ndef f():\n    return 1\n", "import user\n@user.deco\ndef f():\n    return 2\n", "f = m.f; inner = f.__wrapped__",
              "f is m.f and f() == (2,) and f.__wrapped__ is inner and inner() == 2"),
    "decorator without wraps": ("import user\n@user.bare\ndef f():\n    return 1\n", "import user\n@user.bare\ndef f():\n    return 2\n", "f = m.f", "f is m.f and f() == [2]"),
    "decorator added": ("def f():\n    return 1\n", "import user\n@user.deco\ndef f():\n    return 2\n", "f = m.f", "f is m.f and f() == (2,)"),
    "decorator removed": ("import user\n@user.deco\ndef f():\n    return 1\n", "def f():\n    return 2\n", "f = m.f", "f is m.f and f() == 2"),
    "decorator that is an object": ("import user\n@user.Deco\ndef f():\n    return 1\n", "import user\n@user.Deco\ndef f():\n    return 2\n", "f = m.f", "m.f() == 2 and f() == 2"),
    "lru_cache": ("import functools\n@functools.lru_cache(8)\ndef f(x):\n    return x\n", "import functools\n@functools.lru_cache(8)\ndef f(x):\n    return x + 1\n",
                  "f = m.f; assert f(1) == 1", "f is m.f and f.cache_info().currsize == 0 and f(1) == 2"),
    "lru_cache of another size": ("import functools\n@functools.lru_cache(8)\ndef f(x):\n    return x\n", "import functools\n@functools.lru_cache(9)\ndef f(x):\n    return x + 1\n",
                                  "f = m.f", "f is not m.f and f(1) == 1 and m.f(1) == 2 and done.replaced == ('m.f',)"),
    "singledispatch": ("import functools\n@functools.singledispatch\ndef f(x):\n    return 1\n@f.register(str)\ndef s(x):\n    return 's1'\n@f.register(list)\ndef l(x):\n    return 'l1'\n",
                       "import functools\n@functools.singledispatch\ndef f(x):\n    return 2\n@f.register(str)\ndef s(x):\n    return 's2'\n",
                       "f = m.f; f.register(dict, lambda x: 'mine'); f([]); f('')", "f is m.f and f(0) == 2 and f('') == 's2' and f([]) == 2 and f({}) == 'mine'"),
    "singledispatchmethod": ("import functools\nclass C:\n    @functools.singledispatchmethod\n    def f(self, x):\n        return 1\n",
                             "import functools\nclass C:\n    @functools.singledispatchmethod\n    def f(self, x):\n        return 2\n    @f.register\n    def _(self, x: str):\n        return 's'\n",
                             "c = m.C()", "c.f(1) == 2 and c.f('') == 's'"),
    "partial": ("import functools\ndef f(x):\n    return x\np = functools.partial(f, 1)\n", "import functools\ndef f(x):\n    return x + 1\np = functools.partial(f, 5)\n",
                "p = m.p", "p() == 2 and m.p() == 6 and m.p.func is m.f is p.func"),
    "bound method": ("class C:\n    def f(self):\n        return 1\nc = C()\nf = c.f\n", "class C:\n    def f(self):\n        return 2\nc = C()\nf = c.f\n",
                     "f = m.f; g = m.C().f", "f() == g() == m.f() == 2 and m.f.__self__ is m.c and type(m.c) is m.C"),
    "coroutine": ("async def f():\n    return 1\n", "async def f():\n    return 2\n", "f = m.f; c = f()", "end(c) == 1 and end(f()) == 2"),
    "class": ("class C:\n    A = 1\n    B = 1\n    def f(self):\n        return 1\n    def gone(self):\n        pass\n", "class C:\n    A = 2\n    def f(self):\n        return 2\n    def __len__(self):\n        return 7\n",
              "C = m.C; c = C(); f = C.f", "C is m.C and isinstance(c, m.C) and c.A == 2 and c.f() == 2 and f is C.f and len(c) == 7 and not hasattr(c, 'B') and not hasattr(c, 'gone')"),
    "class, special method removed": ("class C:\n    def __len__(self):\n        return 0\n    def __eq__(self, other):\n        return True\n", "class C:\n    pass\n",
                                      "import collections.abc; c = m.C(); assert not c and isinstance(c, collections.abc.Sized)",
                                      "bool(c) and hash(c) and c != 1 and not isinstance(c, collections.abc.Sized) and isinstance(c, collections.abc.Hashable)"),
    "class, __new__ added": ("class C:\n    pass\n", "class C:\n    def __new__(cls):\n        self = super().__new__(cls)\n        self.made = 1\n        return self\n",
                             "C = m.C", "C is m.C and C().made == 1"),
    "class, __new__ removed": ("class C:\n    def __new__(cls, x):\n        return super().__new__(cls)\n", "class C:\n    def __init__(self, x):\n        self.x = x\n",
                               "C = m.C; c = C(1)", "C is not m.C and m.C(3).x == 3 and type(c) is C and done.replaced == ('m.C',)"),
    "super": ("class B:\n    def f(self):\n        return 1\nclass C(B):\n    def f(self):\n        return super().f(), __class__\n", "class B:\n    def f(self):\n        return 2\nclass C(B):\n    def f(self):\n        return super().f(), __class__, 3\n",
              "C = m.C; c = C()", "c.f() == (2, C, 3) and m.C().f() == (2, C, 3)"),
    "staticmethod": ("class C:\n    @staticmethod\n    def f():\n        return 1\n", "class C:\n    @staticmethod\n    def f():\n        return 2\n", "f = m.C.f", "f() == 2 and m.C.f is f"),
    "classmethod": ("class C:\n    @classmethod\n    def f(cls):\n        return cls, 1\n", "class C:\n    @classmethod\n    def f(cls):\n        return cls, 2\n", "f = m.C.f", "f() == m.C.f() == (m.C, 2)"),
    "method becomes static": ("class C:\n    def f(self):\n        return 1\n", "class C:\n    @staticmethod\n    def f():\n        return 2\n", "c = m.C()", "c.f() == 2"),
    "property": ("class C:\n    @property\n    def p(self):\n        return 1\n", "class C:\n    @property\n    def p(self):\n        'two'\n        return 2\n    @p.setter\n    def p(self, value):\n        self.v = value\n",
                 "c = m.C(); get = m.C.p.fget", "c.p == 2 and m.C.p.fget is get and m.C.p.__doc__ == 'two' and setattr(c, 'p', 9) is None and c.v == 9"),
    "cached_property": ("import functools\nclass C:\n    @functools.cached_property\n    def p(self):\n        return 1\n", "import functools\nclass C:\n    @functools.cached_property\n    def p(self):\n        return 2\n",
                        "c, d = m.C(), m.C(); c.p", "c.p == 1 and d.p == 2 and m.C.p.func.__globals__ is vars(m)"),
    "descriptor": ("class D:\n    def __set_name__(self, owner, name):\n        self.owner, self.name = owner, name\n    def __get__(self, c, cls):\n        return 1, self.owner\nclass C:\n    d = D()\n",
                   "class D:\n    def __set_name__(self, owner, name):\n        self.owner, self.name = owner, name\n    def __get__(self, c, cls):\n        return 2, self.owner\nclass C:\n    d = D()\n    e = D()\n",
                   "c = m.C()", "c.d == c.e == (2, m.C) and type(vars(m.C)['e']) is m.D"),
    "nested class": ("class C:\n    class N:\n        X = 1\n", "class C:\n    class N:\n        X = 2\n", "N = m.C.N; n = N()", "m.C.N is N and n.X == 2"),
    "slots, same": ("class C:\n    __slots__ = ('a', 'b')\n    def f(self):\n        return 1\n", "class C:\n    __slots__ = ('a', 'b')\n    def f(self):\n        return 2, self.a\n",
                    "c = m.C(); c.a = 5", "type(c) is m.C and c.f() == (2, 5) and not done.replaced"),
    "slots, changed": ("class C:\n    __slots__ = ('a',)\n    def f(self):\n        return 1\n", "class C:\n    __slots__ = ('a', 'b')\n    def f(self):\n        return 2\n",
                       "C = m.C; c = C(); c.a = 5", "m.C is not C and c.f() == 1 and type(c) is C and m.C().f() == 2 and done.replaced == ('m.C',)"),
    "bases, mixin added": ("class A:\n    pass\nclass X:\n    def x(self):\n        return 1\nclass C(A):\n    pass\n", "class A:\n    pass\nclass X:\n    def x(self):\n        return 2\nclass C(X, A):\n    pass\n",
                           "C = m.C; c = C()", "m.C is C and c.x() == 2 and C.__mro__ == (C, m.X, m.A, object) and isinstance(c, m.X) and C in m.X.__subclasses__()"),
    "bases, removed": ("class A:\n    pass\nclass X:\n    def x(self):\n        return 1\nclass C(A, X):\n    pass\n", "class A:\n    pass\nclass X:\n    pass\nclass C(A):\n    pass\n",
                       "C = m.C; c = C()", "m.C is C and not hasattr(c, 'x') and not isinstance(c, m.X) and C.__bases__ == (m.A,)"),
    "bases, first one for a plain class": ("class A:\n    pass\nclass C:\n    pass\n", "class A:\n    pass\nclass C(A):\n    pass\n",
                                           "A, C = m.A, m.C; c = C()", "m.A is A and m.C is not C and type(c) is C and issubclass(m.C, A) and done.replaced == ('m.C',)"),
    "bases of other layout": ("class C:\n    pass\n", "class C(dict):\n    pass\n", "C = m.C", "m.C is not C and m.C(a=1)['a'] == 1"),
    "base replaced": ("class B:\n    __slots__ = ('a',)\nclass C(B):\n    X = 1\n", "class B:\n    __slots__ = ('a', 'b')\nclass C(B):\n    X = 2\n",
                      "B, C = m.B, m.C; c = C()", "m.B is not B and m.C is not C and c.X == 1 and m.C().X == 2 and issubclass(m.C, m.B)"),
    "new class of a base that stays": ("class B:\n    pass\n", "class B:\n    def f(self):\n        return 2\nclass C(B):\n    pass\n", "B = m.B", "m.B is B and C_is_of(m.C, B) and m.C().f() == 2"),
    "new class of a base with slots": ("class A:\n    __slots__ = ('a',)\nclass B(A):\n    __slots__ = ('b',)\n", "class A:\n    __slots__ = ('a',)\nclass B(A):\n    __slots__ = ('b',)\nclass C(B):\n    pass\n",
                                       "A, B = m.A, m.B", "m.C.__mro__ == (m.C, m.B, m.A, object) and m.C().__class__ is m.C"),
    "metaclass, same": ("class M(type):\n    def f(cls):\n        return 1\nclass C(metaclass=M):\n    pass\n", "class M(type):\n    def f(cls):\n        return 2\nclass C(metaclass=M):\n    X = 2\n",
                        "M, C = m.M, m.C", "m.M is M and m.C is C and type(C) is M and C.f() == 2 and C.X == 2"),
    "metaclass, new class": ("class M(type):\n    pass\n", "class M(type):\n    pass\nclass C(metaclass=M):\n    pass\n", "M = m.M", "m.M is M and type(m.C) is M"),
    "metaclass, changed": ("class M(type):\n    pass\nclass C:\n    pass\n", "class M(type):\n    pass\nclass C(metaclass=M):\n    pass\n", "C = m.C", "m.C is not C and type(m.C) is m.M and done.replaced == ('m.C',)"),
    "metaclass with a property": ("class M(type):\n    X = property(lambda cls: 5)\nclass C(metaclass=M):\n    X = 1\n", "class M(type):\n    X = property(lambda cls: 5)\nclass C(metaclass=M):\n    X = 2\n",
                                  "C = m.C", "m.C is C and C.X == 5 and C().X == 2"),
    "subclass elsewhere": ("class B:\n    X = 1\n    def f(self):\n        return 1\n", "class B:\n    X = 2\n    def f(self):\n        return 2\n    def __call__(self):\n        return 3\n",
                           "class S(m.B):\n    def f(self):\n        return super().f(), self.X\ns = S()", "s.f() == (2, 2) and isinstance(s, m.B) and s() == 3 and S().f() == (2, 2)"),
    "instances elsewhere": ("class C:\n    X = 1\nkept = [C()]\n", "class C:\n    X = 2\nkept = [C(), {'a': (C(),)}]\n", "c = m.kept[0]; many = [m.C() for _ in range(3)]",
                            "c.X == 2 and {each.X for each in many} == {2} and all(isinstance(each, m.C) for each in (m.kept[0], m.kept[1]['a'][0]))"),
    "Enum": ("import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\n    C = 3\n    def f(self):\n        return 1\n", "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 20\n    D = 4\n    def f(self):\n        return 2\n",
             "E = m.E; a, b, c = E", "m.E is E and E.A is a and E(1) is a and a.f() == 2 and E.B is not b and E(20) is E.B and E.B.f() == 2 and list(E) == [a, E.B, E.D]"
             " and not hasattr(E, 'C') and all(isinstance(each, E) for each in (*E, b, c)) and E['D'] is E.D and E.B.__class__ is E and pickle.loads(pickle.dumps(E.D)) is E.D"),
    "IntFlag": ("import enum\nclass F(enum.IntFlag):\n    A = 1\n    B = 2\n", "import enum\nclass F(enum.IntFlag):\n    A = 1\n    B = 2\n    C = 4\n", "F = m.F; both = F.A | F.B",
                "m.F is F and F(3) == both and (F.A | F.C) == 5 and type(F.A | F.C) is F and F.C in F(7)"),
    "dataclass": ("import dataclasses\n@dataclasses.dataclass\nclass D:\n    a: int\n", "import dataclasses\n@dataclasses.dataclass(order=True)\nclass D:\n    a: int\n    b: 'list' = dataclasses.field(default_factory=list)\n",
                  "D = m.D; d = D(1)", "m.D is D and D(1, [2]).b == [2] and D(1) < D(2) and [f.name for f in dataclasses.fields(D)] == ['a', 'b'] and isinstance(d, m.D) and d.a == 1"),
    "dataclass with slots": ("import dataclasses\n@dataclasses.dataclass(slots=True)\nclass D:\n    a: int\n    def f(self):\n        return 1\n", "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass D:\n    a: int\n    def f(self):\n        return 2\n",
                             "D = m.D; d = D(1)", "m.D is D and d.f() == 2 and D(4).a == 4 and repr(d) == 'D(a=1)'"),
    "dataclass with slots, changed": ("import dataclasses\n@dataclasses.dataclass(slots=True)\nclass D:\n    a: int\n", "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass D:\n    a: int\n    b: int = 0\n",
                                      "D = m.D; d = D(1)", "m.D is not D and m.D(1).b == 0 and d.a == 1 and done.replaced == ('m.D',)"),
    "NamedTuple": ("import typing\nclass P(typing.NamedTuple):\n    x: int\n    def f(self):\n        return 1\n", "import typing\nclass P(typing.NamedTuple):\n    x: int\n    def f(self):\n        return 2\norigin = P(0)\n",
                   "P = m.P; p = P(1)", "m.P is P and p.f() == 2 and p.x == 1 and type(m.origin) is P and m.P(3) == (3,)"),
    "NamedTuple, other fields": ("import collections\nP = collections.namedtuple('P', 'x')\n", "import collections\nP = collections.namedtuple('P', 'x y')\n", "P = m.P; p = P(1)",
                                 "m.P is not P and p == (1,) and m.P(1, 2).y == 2 and done.replaced == ('m.P',)"),
    "ABC": ("import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n@A.register\nclass V:\n    pass\n", "import abc\nclass A(abc.ABC):\n    def f(self):\n        return 2\nclass V:\n    pass\n@A.register\nclass W:\n    pass\n",
            "A = m.A; A.register(complex); isinstance(1, A), isinstance(1j, A)", "m.A is A and A().f() == 2 and isinstance(1j, A) and isinstance(m.W(), A) and not isinstance(1, A)"),
    "ABC, method becomes abstract": ("import abc\nclass A(abc.ABC):\n    def f(self):\n        return 1\n", "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n", "A = m.A; A()", "raises(TypeError, m.A)"),
    "Protocol": ("import typing\n@typing.runtime_checkable\nclass P(typing.Protocol):\n    def f(self): ...\n", "import typing\n@typing.runtime_checkable\nclass P(typing.Protocol):\n    def g(self): ...\n",
                 "class G:\n    def g(self): pass\nclass F:\n    def f(self): pass\nassert isinstance(F(), m.P) and not isinstance(G(), m.P); P = m.P", "m.P is P and isinstance(G(), P) and not isinstance(F(), P)"),
    "generics": ("import typing\nT = typing.TypeVar('T')\nclass Box(typing.Generic[T]):\n    X = 1\nalias = typing.List[Box[int]]\nother = list[Box]\nunion = Box | None\n",
                 "import typing\nT = typing.TypeVar('T')\nclass Box(typing.Generic[T]):\n    X = 2\nalias = typing.Dict[str, Box[int]]\nother = list[Box]\nunion = Box | None\n",
                 "Box = m.Box; b = Box[int]()", "m.Box is Box and b.X == 2 and m.alias.__args__[1].__origin__ is Box and m.other.__args__ == (Box,) and m.union.__args__[0] is Box and Box.__parameters__ == (m.T,)"),
    "annotations": ("class C: pass\ndef f(c: C) -> C: ...\n", "class C: pass\nclass D: pass\ndef f(c: C, d: D = None) -> list[C]: ...\n", "C = m.C",
                    "typing.get_type_hints(m.f) == {'c': C, 'd': m.D, 'return': list[C]}"),
    "exceptions": ("class E(Exception):\n    pass\ndef f():\n    raise E(1)\n", "class E(Exception):\n    code = 2\ndef f():\n    raise E(2)\n", "E = m.E; e = E(0)", "raises(E, m.f) and e.code == 2 and m.E is E"),
    "registries": ("class C: pass\ndef f(): pass\nby_name = {'C': C, 'f': f}\nlisted = [C, (f, [C])]\nunique = {C, f}\nkeys = {C: 1, (C, f): 2}\nfrozen = frozenset([C])\n",
                   "class C: pass\ndef f(): return 2\nby_name = {'C': C, 'f': f}\nlisted = [C, (f, [C])]\nunique = {C, f}\nkeys = {C: 1, (C, f): 2}\nfrozen = frozenset([C])\n",
                   "C, f = m.C, m.f", "m.by_name == {'C': C, 'f': f} and m.listed == [C, (f, [C])] and m.unique == {C, f} and m.keys == {C: 1, (C, f): 2} and m.frozen == {C}"),
    "weak registries": ("import weakref\nclass C: pass\nkinds = weakref.WeakSet([C])\ndata = weakref.WeakKeyDictionary({C: 1})\nref = weakref.ref(C)\n",
                        "import weakref\nclass C: X = 2\nkinds = weakref.WeakSet([C])\ndata = weakref.WeakKeyDictionary({C: 2})\nref = weakref.ref(C)\n",
                          "C = m.C; ref = weakref.ref(C)", "ref() is C and list(m.kinds) == [C] and m.data[C] == 2 and m.ref() is C and C.X == 2"),
    "plugins by __init_subclass__": ("import user\nclass P(user.Plugin):\n    X = 1\n", "import user\nclass P(user.Plugin):\n    X = 2\n", "P = m.P; u = sys.modules['user']",
                                     "u.Plugin.known == {'P': P} and u.Plugin.listed == [P] and collect() and u.Plugin.__subclasses__() == [P] and P.X == 2"),
    "defaults": ("class C: pass\ndef f(a=C, *, b=[C]): return a, b\n", "class C: pass\ndef f(a=C, *, b=[C]): return b, a\n", "C = m.C; f = m.f", "f() == ([C], C)"),
    "alias": ("class A: pass\nclass B: pass\nImpl = A\n", "class A: pass\nclass B: pass\nImpl = B\n", "A, B = m.A, m.B", "m.A is A and m.B is B and m.Impl is B"),
    "function becomes class": ("def f():\n    return 1\n", "class f:\n    X = 2\n", "f = m.f", "f() == 1 and m.f().X == 2 and done.replaced == ('m.f',)"),
    "class becomes function": ("class f:\n    X = 1\n", "def f():\n    return 2\n", "f = m.f", "f.X == 1 and m.f() == 2 and done.replaced == ('m.f',)"),
    "pickle": ("class C:\n    X = 1\ndef f(): pass\n", "class C:\n    X = 2\ndef f(): pass\n", "c = pickle.dumps(m.C()); f = pickle.dumps(m.f)",
               "pickle.loads(c).X == 2 and pickle.loads(f) is m.f and pickle.loads(pickle.dumps(m.C())).__class__ is m.C"),
    "self-reference": ("class C: pass\n", "class C: pass\nC.other = C\nC.loop = [C]\nC.loop.append(C.loop)\n", "C = m.C", "C.other is C and C.loop[0] is C and C.loop[1] is C.loop"),
}
USER = """
    import functools
    def f(): return 'f'
    def g(): return 'g'
    def deco(function):
        @functools.wraps(function)
        def wrapper(*args): return (function(*args),)
        return wrapper
    def bare(function):
        def wrapper(*args): return [function(*args)]
        return wrapper
    class Deco:
        def __init__(self, function): functools.update_wrapper(self, function)
        def __call__(self): return self.__wrapped__()
    class Plugin:
        known, listed = {}, []
        def __init_subclass__(cls):
            cls.known[cls.__name__] = cls
            cls.listed.append(cls)
"""


def _raises(error, call):
    with pytest.raises(error):
        call()
    return True


def _end(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


def _space():
    import dataclasses
    import typing
    return {"sys": sys, "pickle": pickle, "weakref": weakref, "dataclasses": dataclasses, "typing": typing, "raises": _raises, "end": _end,
            "collect": lambda: gc.collect() >= 0, "C_is_of": lambda cls, base: cls.__bases__ == (base,) and cls in base.__subclasses__()}


def _check(place, row):
    old, new, before, then = ROWS[row]
    space = {"m": place.load(user=USER, m=old), **_space()}
    exec(before, space)
    space["done"] = place.save(m=new)
    assert space["done"].executed == ("m",)
    assert sys.modules["m"] is space["m"]
    gc.collect()
    assert eval(then, space), then


@pytest.mark.parametrize("row", ROWS)
def test_row(place, row):
    _check(place, row)
