# SPDX-License-Identifier: MIT
"""Programs whose `answer` is the same in an engine as outside: {name: {file: source}}. `main` is imported; names of the modules are no others'."""
from __future__ import annotations

CASES: dict[str, dict[str, str]] = {}


def case(name: str, text: str) -> None:
    """A program as text; `--- FILE` begins a file."""
    parts = [part.partition("\n") for part in text.split("--- ")[1:]]
    CASES[name] = {file.strip(): source for file, _, source in parts}


# --- relative ---

case("relative", """
--- main.py
from rel_pkg.deep.inner import answer
--- rel_pkg/__init__.py
base = "base"
--- rel_pkg/near.py
from . import base
from .deep import name
near = base + name
--- rel_pkg/deep/__init__.py
name = "deep"
--- rel_pkg/deep/side.py
what = "side"
--- rel_pkg/deep/inner.py
from . import name, side
from .side import what
from .. import base, near
from ..near import near as again
answer = [name, what, base, near.near, again, __package__, __spec__.parent, side.__name__, near.__name__]
""")

case("relative beyond the top", """
--- main.py
answer = []
for statement in ("from . import x", "from .. import x", "from ...over import x"):
    try:
        exec(statement)
    except ImportError as error:
        answer.append((type(error), str(error)))
try:
    from rel_top.low import nothing
except ImportError as error:
    answer.append(str(error))
--- rel_top/__init__.py
--- rel_top/low.py
from ... import nothing
""")

case("relative in a function called later", """
--- main.py
import rel_late
answer = rel_late.call() + [rel_late.other.__name__]
--- rel_late/__init__.py
def call():
    from . import other
    from .other import word
    return [other.word, word]
--- rel_late/other.py
word = "later"
""")

# --- star ---

case("star", """
--- main.py
from star_all import *
from star_plain import *
from star_pkg import *
answer = [sorted(name for name in globals() if name.startswith(("a", "b", "_c", "sub")) and name != "answer"), sub.word]
--- star_all.py
__all__ = ["a1", "_c"]
a1 = a2 = _c = _d = 1
--- star_plain.py
b1 = _b2 = 1
--- star_pkg/__init__.py
__all__ = ["sub"]
--- star_pkg/sub.py
word = "a submodule, by __all__"
""")

case("star without what __all__ promises", """
--- main.py
answer = []
for name in ("star_bad", "star_bad_pkg"):
    try:
        exec(f"from {name} import *")
    except AttributeError as error:
        answer.append(str(error))
--- star_bad.py
__all__ = ["missing"]
--- star_bad_pkg/__init__.py
__all__ = ["missing"]
""")

# --- circular ---

case("circle of modules", """
--- main.py
import cir_a
answer = [cir_a.b.a is cir_a, cir_a.late, cir_a.b.late()]
--- cir_a.py
import cir_b as b
late = "set after"
--- cir_b.py
import cir_a as a
def late():
    from cir_a import late
    return late
""")

case("circle by from, with a submodule that is being imported", """
--- main.py
import cir_pkg
answer = [cir_pkg.one.two is cir_pkg.two, cir_pkg.two.one.__name__, cir_pkg.two.as_one is cir_pkg.one]
--- cir_pkg/__init__.py
from . import one
from . import two
--- cir_pkg/one.py
from cir_pkg import two
import cir_pkg.two as as_two
--- cir_pkg/two.py
from cir_pkg import one
import cir_pkg.one as as_one
""")

case("circle in which a name is not there yet", """
--- main.py
import re
answer = []
try:
    import cir_half
except ImportError as error:
    answer.append((error.name, re.sub(r"\\(/.*?\\)", "", str(error))))
import sys
answer.append([name for name in ("cir_half", "cir_other") if name in sys.modules])
--- cir_half.py
from cir_other import x
y = 1
--- cir_other.py
from cir_half import y
x = 1
""")

# --- namespace packages ---

case("namespace package over two directories", """
--- main.py
import os, sys
here = os.path.dirname(__file__)
sys.path[1:1] = [os.path.join(here, "first"), os.path.join(here, "second")]
from spaced import one, two
import spaced
answer = [one.word, two.word, type(spaced.__path__).__name__, len(spaced.__path__), spaced.__file__ if hasattr(spaced, "__file__") else None]
sys.path.append(os.path.join(here, "third"))
from spaced import three
answer += [three.word, len(spaced.__path__)]
--- first/spaced/one.py
word = 1
--- second/spaced/two.py
word = 2
--- third/spaced/three.py
word = 3
""")

# --- lazy ---

case("LazyLoader", """
--- main.py
import importlib.util, sys
spec = importlib.util.find_spec("lazy_mod")
spec.loader = importlib.util.LazyLoader(spec.loader)
module = importlib.util.module_from_spec(spec)
sys.modules["lazy_mod"] = module
spec.loader.exec_module(module)
answer = ["lazy_said" in sys.modules]
answer += [module.word, "lazy_said" in sys.modules]
import lazy_mod
answer.append(lazy_mod is module)
--- lazy_mod.py
import lazy_said
from lazy_said import word
--- lazy_said.py
word = "at the first use"
""")

case("module with __getattr__", """
--- main.py
import lazy_attr, sys
answer = ["lazy_attr.late" in sys.modules, lazy_attr.late.word]
from lazy_attr import other
answer.append(other)
--- lazy_attr/__init__.py
def __getattr__(name):
    import importlib
    if name == "other":
        return "other"
    if name == "late":
        return importlib.import_module(".late", __name__)
    raise AttributeError(name)
--- lazy_attr/late.py
word = "late"
""")

# --- reload ---

case("reload", """
--- main.py
import importlib, sys
import rel_mod
first = rel_mod.made
answer = [importlib.reload(rel_mod) is rel_mod, rel_mod.made is first, rel_mod.count]
del sys.modules["rel_mod"]
try:
    importlib.reload(rel_mod)
except ImportError as error:
    answer.append(str(error))
import rel_mod as again
answer.append(again is rel_mod)
--- rel_mod.py
count = globals().get("count", 0) + 1
made = object()
""")

# --- what module bodies do ---

case("bodies that fail", """
--- main.py
import sys
answer = []
for name in ("fail_raises", "fail_syntax", "fail_pkg.bad", "fail_missing", "fail_pkg.nowhere", "fail_mod.sub"):
    try:
        __import__(name)
    except Exception as error:
        answer.append((type(error).__name__, getattr(error, "name", None), getattr(error, "lineno", None)))
answer.append(sorted(name for name in sys.modules if name.startswith("fail_")))
--- fail_raises.py
import fail_kept
1 / 0
--- fail_kept.py
--- fail_syntax.py
x = 1
def (
--- fail_pkg/__init__.py
--- fail_pkg/bad.py
raise ValueError
--- fail_mod.py
""")

case("modules that replace or remove themselves", """
--- main.py
import sys, types
import self_other, self_pkg.sub
answer = [self_other.word, type(sys.modules["self_other"]).__name__, self_pkg.sub]
try:
    import self_gone
except Exception as error:
    answer.append((type(error).__name__, str(error)))
sys.modules["self_none"] = None
try:
    import self_none
except ImportError as error:
    answer.append((type(error).__name__, str(error)))
--- self_other.py
import sys
class Other:
    word = "another"
sys.modules[__name__] = Other()
--- self_pkg/__init__.py
--- self_pkg/sub.py
import sys
sys.modules[__name__] = "a string"
--- self_gone.py
import sys
del sys.modules[__name__]
--- self_none.py
""")

case("attributes of modules", """
--- main.py
import attr_pkg.mod, os
here = os.path.dirname(__file__)
answer = [__name__, __package__, __spec__.name, type(__loader__).__name__, os.path.relpath(__file__, here)]
for module in (attr_pkg, attr_pkg.mod):
    answer += [module.__name__, module.__package__, module.__spec__.name, module.__spec__.parent, type(module.__loader__).__name__, type(module).__name__,
               os.path.relpath(module.__file__, here), os.path.relpath(module.__spec__.cached, here), module.__spec__.has_location, repr(module).replace(here, "")]
answer.append([os.path.relpath(each, here) for each in attr_pkg.__path__])
--- attr_pkg/__init__.py
--- attr_pkg/mod.py
""")

case("__import__ and exec", """
--- main.py
import builtins
answer = [__import__("imp_pkg.sub").__name__, __import__("imp_pkg.sub", fromlist=["x"]).__name__, __import__("imp_pkg.sub", None, None, ["*"], 0).__name__]
answer.append(__import__("sub", {"__package__": "imp_pkg"}, None, ["word"], 1).word)
for wrong in (lambda: __import__(1), lambda: __import__(""), lambda: __import__("x", level=-1), lambda: __import__("x", {}, level=1), lambda: __import__("x", level=1, globals={"__name__": "no.x"})):
    try:
        wrong()
    except Exception as error:
        answer.append((type(error).__name__, str(error)))
space = {"__name__": "imp_pkg", "__path__": []}
exec("from .sub import word; import imp_pkg.sub as whole", space)
answer += [space["word"], space["whole"].__name__, eval("__import__('imp_pkg').sub.word")]
answer.append(builtins.__import__("imp_pkg") is __import__("imp_pkg"))
--- imp_pkg/__init__.py
--- imp_pkg/sub.py
word = "sub"
""")

# --- finders ---

case("finders and hooks of its own", """
--- main.py
import importlib, importlib.abc, importlib.machinery, importlib.util, sys, types
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("made_"):
            return importlib.util.spec_from_loader(name, Loader(), origin="nowhere")
class Loader(importlib.abc.Loader):
    def exec_module(self, module):
        module.word = module.__name__.upper()
sys.meta_path.insert(0, Finder)
import made_up
answer = [made_up.word, importlib.util.find_spec("made_too").origin, made_up.__spec__.loader.__class__.__name__]
sys.meta_path.remove(Finder)
try:
    import made_more
except ModuleNotFoundError as error:
    answer.append(error.name)
def hook(entry):
    if entry != "a place":
        raise ImportError
    answer.append(entry)
    return Finder
sys.path_hooks.insert(0, hook)
sys.path.append("a place")
import made_last
answer += [made_last.word, "a place" in sys.path_importer_cache]
sys.path.remove("a place")
sys.path_hooks.remove(hook)
del sys.path_importer_cache["a place"]
answer += [importlib.machinery.PathFinder.find_spec("main").name, importlib.util.find_spec("no_such_thing")]
""")

case("zip archives", """
--- main.py
import os, sys, zipfile
archive = os.path.join(os.path.dirname(__file__), "zipped.zip")
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("zip_mod.py", "import zip_pkg.sub\\nword = zip_pkg.sub.word")
    file.writestr("zip_pkg/__init__.py", "")
    file.writestr("zip_pkg/sub.py", "word = 'zipped'")
sys.path.append(archive)
import zip_mod
answer = [zip_mod.word, type(zip_mod.__loader__).__name__]
sys.path.remove(archive)
""")

# --- the library that finds modules by name ---

case("pkgutil, runpy, resources, inspect", """
--- main.py
import importlib.resources, inspect, linecache, pkgutil, runpy, sys, traceback
import lib_pkg
answer = [sorted(each.name for each in pkgutil.walk_packages(lib_pkg.__path__, "lib_pkg.")), pkgutil.resolve_name("lib_pkg.sub:Thing").__qualname__]
answer += [pkgutil.get_data("lib_pkg", "data.txt"), importlib.resources.files("lib_pkg").joinpath("data.txt").read_text(), importlib.resources.files(lib_pkg).name]
answer.append(runpy.run_module("lib_pkg.alone")["word"])
answer.append(runpy.run_module("lib_pkg", alter_sys=True)["ran"])
answer += [inspect.getsource(lib_pkg.sub.Thing), inspect.getmodule(lib_pkg.sub.Thing) is lib_pkg.sub]
try:
    lib_pkg.sub.fails()
except ZeroDivisionError as error:
    answer.append([(each.name, each.line) for each in traceback.extract_tb(error.__traceback__)])
--- lib_pkg/__init__.py
--- lib_pkg/__main__.py
import sys
from lib_pkg.sub import Thing
ran = [__name__, Thing.word, sys.modules[__name__].__dict__ is globals()]
--- lib_pkg/sub.py
class Thing:
    word = "thing"
def fails():
    1 / 0
--- lib_pkg/alone.py
from .sub import Thing
word = [__name__, Thing.word]
--- lib_pkg/data.txt
some data
""")

case("dataclasses, typing, enum, mock, copy", """
--- main.py
import copy, dataclasses, enum, typing, unittest.mock
import lib_mod
@dataclasses.dataclass
class Point:
    x: "int"
    kind: "typing.ClassVar[int]" = 1
answer = [repr(Point(2)), [field.name for field in dataclasses.fields(Point)], typing.get_type_hints(lib_mod.f), typing.get_type_hints(Point)["x"]]
with unittest.mock.patch("lib_mod.word", "patched"):
    answer.append(lib_mod.word)
answer += [lib_mod.word, copy.deepcopy(lib_mod.Kind.ONE) is lib_mod.Kind.ONE, copy.copy(Point(3)).x]
--- lib_mod.py
import enum, typing
word = "word"
Kind = enum.Enum("Kind", "ONE TWO")
def f(x: "typing.List[int]") -> "str": pass
""")

# --- later and elsewhere ---

case("generators, coroutines, threads, callbacks", """
--- main.py
import asyncio, concurrent.futures, contextlib, functools, threading, weakref
import late_list
answer = []
def generator():
    import late_gen
    yield late_gen.__name__
    from late_gen import word
    yield word
answer += list(generator())
async def coroutine():
    await asyncio.sleep(0)
    import late_task
    return late_task.__name__
async def both():
    return await asyncio.gather(asyncio.create_task(coroutine()), coroutine())
answer += asyncio.run(both())
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    answer += pool.map(lambda name: __import__(name).__name__, ["late_pool", "late_gen"])
thread = threading.Thread(target=lambda: exec("import late_thread; answer.append(late_thread.__name__)", globals()))
thread.start()
thread.join()
class Dies:
    def __del__(self):
        import late_del
        answer.append(late_del.__name__)
Dies()
answer += sorted([3, 1, 2], key=lambda number: -number if __import__("late_key") else 0)
answer += [functools.reduce(lambda a, b: a + __import__(b).word, ["late_gen"], 0), late_list.names]
--- late_list.py
import sys
names = sorted(name for name in sys.modules if name.startswith("late_"))
--- late_gen.py
word = 1
--- late_task.py
--- late_pool.py
--- late_thread.py
--- late_del.py
--- late_key.py
""")
