# SPDX-License-Identifier: MIT
"""What a program can see of an import is what stock Python shows: objects, attributes, exceptions, hooks, tools.

Most tests run one program three times, under stock, under Ladewerk while it learns, and from the cache, and compare all output.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import pytest

from harness import STATS, Tree, environment, settle

DESCRIBE = r"""
import importlib, re, sys
def show(value): print(re.sub('0x[0-9a-f]+', '', str(value)))
def describe(module):
    spec = module.__spec__
    show([type(module), module.__name__, getattr(module, '__file__', '-'), getattr(module, '__cached__', '-'), module.__package__,
          getattr(module, '__path__', '-'), module.__loader__, spec, spec.cached, spec.has_location, spec.parent, spec.loader_state,
          spec.loader is module.__loader__, list(vars(spec)), list(vars(module))])
def attempt(what):
    try: show(what())
    except BaseException as error: show([type(error).__name__, str(error), getattr(error, 'name', '-'), getattr(error, 'path', '-')])
def load(name): return lambda: importlib.import_module(name)
"""


def without_frozen_frames(result):
    """The text without the frames of the frozen importlib: a call of import_module() shows them, and ours takes the place of some."""
    err = re.sub(r'  File "<frozen importlib[^\n]*\n', "", result.err)
    return result.returncode, result.out, err


def package(tree):
    """A package with everything in it."""
    tree.write("pkg/__init__.py", "'''doc'''\nvalue = 1\n")
    tree.write("pkg/mod.py", "class Thing:\n    def method(self):\n        return 'source of it'\n\nvalue = 2\n")
    tree.write("pkg/sub/__init__.py", "")
    tree.write("pkg/sub/leaf.py", "from .. import mod\nfrom . import sibling\nfrom ..mod import value\n")
    tree.write("pkg/sub/sibling.py", "")
    tree.write("pkg/data.txt", "some data\n")
    tree.write("space/portion.py", "value = 3\n")
    return tree


# --- control ---


def test_the_programs_of_this_file_are_accelerated(any_tree):
    """Control: what all others rest on. The last run of those that are compared is served from the cache."""
    package(any_tree)
    program = "import pkg.sub.leaf, pkg.mod, space.portion"
    stats = any_tree.both(program + STATS)[-1][1].json()
    assert stats["active"] and stats["fast_path"] and stats["freshness"] == any_tree.freshness
    assert stats["served"]["pack"] >= 6 and stats["served"]["compiled"] == 0
    assert not any(count for reason, count in stats["aside"].items() if reason not in ("builtin", "initializing")), stats["aside"]
    assert "ladewerk" not in any_tree.run("import json, sys; print(*sys.modules)", ladewerk=False).out.split()


def test_comparison_notices_a_difference(tree):
    """Control: a program that shows Ladewerk is told apart."""
    with pytest.raises(pytest.fail.Exception, match="differs from stock"):
        tree.same("import json, sys; print('ladewerk._native' in sys.modules)")


# --- objects and attributes ---


def test_modules_specs_and_loaders(any_tree):
    """Types exactly (no subclasses), attributes and their order."""
    package(any_tree).same(DESCRIBE + """
import pkg.sub.leaf, pkg.mod, space.portion
for name in 'pkg', 'pkg.mod', 'pkg.sub', 'pkg.sub.leaf', 'space', 'space.portion':
    describe(sys.modules[name])
from importlib.machinery import SourceFileLoader, ModuleSpec
print(type(pkg.mod.__loader__) is SourceFileLoader, type(pkg.__spec__) is ModuleSpec, [n for n in sys.modules if n.startswith(('pkg', 'space'))])
""")


def test_loader_methods(any_tree):
    package(any_tree).same(DESCRIBE + """
import pkg.mod
for module in pkg, pkg.mod:
    loader, name = module.__loader__, module.__name__
    show([loader.get_filename(name), loader.is_package(name), loader.get_source(name), loader.get_data(module.__file__), loader.path_stats(module.__file__)['size'],
          loader.get_code(name).co_filename, loader.get_resource_reader(name)])
    show([loader.name, loader.path, vars(loader)])
""")


def test_extension_and_bytecode_only_modules(tree):
    tree.write("old.py", "value = 7\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", tree.root / "old.py"], check=True)
    os.unlink(tree.root / "old.py")
    tree.same(DESCRIBE + "import old, _heapq, _json\nfor m in old, _heapq, _json: describe(m)\nprint(old.value)")


def test_code_objects(any_tree):
    """File names, line numbers and docstrings of the code, also in nested functions."""
    package(any_tree).same("""
import pkg.mod
code = pkg.mod.Thing.method.__code__
print(code.co_filename, code.co_firstlineno, list(code.co_positions()), code.co_qualname, pkg.__doc__)
""")


def test_moved_tree_shows_new_file_names(tree):
    """The code of a copy names the copy's files, though its content is known under another path."""
    package(tree)
    tree.learn("import pkg.mod")
    os.rename(tree.root, tree.base / "moved")
    program = "import pkg.mod; print(pkg.mod.Thing.method.__code__.co_filename)"
    for _ in range(3):
        assert tree.run(program, env={"PYTHONPATH": tree.base / "moved"}).out == f"{tree.base}/moved/pkg/mod.py\n"
        settle()


def test_initializing_during_import(any_tree):
    any_tree.write("m.py", "import sys\nprint(__spec__._initializing, __name__ in sys.modules, sys.modules[__name__].__dict__ is globals(), list(globals()))\n")
    any_tree.same("import m; print(m.__spec__._initializing)")


# --- resolution ---


def test_order_in_one_directory(tree):
    """Package, extension, source, bytecode; a directory without __init__ last."""
    suffixes = __import__("_imp").extension_suffixes()
    for i, name in enumerate("abcdef"):
        forms = [f"{name}/__init__.py", *(name + s for s in suffixes), f"{name}.py", f"{name}.pyc", f"{name}/x.py"]
        for form in forms[i:]:
            tree.write(form)
    tree.same("import importlib.util, re\nfor name in 'abcdefg': print(re.sub('0x[0-9a-f]+', '', str(importlib.util.find_spec(name))))")


def test_namespace_loses_to_module_on_a_later_entry(tree):
    tree.write("n/x.py", at=tree.base / "first")
    tree.write("n.py", "value = 1")
    tree.env["PYTHONPATH"] = f"{tree.base}/first:{tree.root}"
    tree.same(DESCRIBE + "import n; describe(n); attempt(load('n.x'))")


def test_inner_directory_of_an_archive(tree):
    """An entry like lib.zip/inner is no missing directory."""
    tree.same(DESCRIBE + """
import zipfile
with zipfile.ZipFile('lib.zip', 'w') as z: z.writestr('inner/m.py', 'value = 1'); z.writestr('outer.py', 'value = 2')
import os; sys.path += [os.path.abspath('lib.zip/inner'), os.path.abspath('lib.zip')]
import m, outer; describe(m); describe(outer)
attempt(load('absent'))
""")


def test_relative_entries(tree):
    """Each stands for the directory it meant when it was first used, until invalidate_caches(); missing ones are looked at again then."""
    tree.write("two/b.py", "value = 2", at=tree.work)
    tree.same(DESCRIBE + """
import os, shutil
sys.path[:0] = ['one', 'two']
import b; describe(b)
attempt(load('a'))
os.mkdir('one'); open('one/a.py', 'w').close()
importlib.invalidate_caches()
attempt(load('a'))
os.mkdir('elsewhere'); os.chdir('elsewhere')
del sys.modules['a'], sys.modules['b']
attempt(load('a')); attempt(load('b'))
importlib.invalidate_caches()
for name in 'a', 'b': sys.modules.pop(name, None)
attempt(load('a')); attempt(load('b'))
for count in range(2):
    sys.path.extend(['/nowhere'] * 40)
    importlib.invalidate_caches(); os.chdir('..'); attempt(load('a')); attempt(load('b')); sys.modules.pop('a', None); sys.modules.pop('b', None)
    importlib.invalidate_caches(); os.chdir('elsewhere'); attempt(load('a')); attempt(load('b'))
os.chdir('..'); shutil.rmtree('one'); shutil.rmtree('elsewhere')
""")


def test_current_directory(tree):
    """'' is the current directory of that moment; also when it has been deleted."""
    tree.same(DESCRIBE + """
import os, shutil
assert sys.path[0] == ''
for name in 'x', 'y', 'x':
    os.makedirs(name, exist_ok=True); os.chdir(name)
    with open('here.py', 'w') as f: f.write(f'value = {name!r} * 3')
    importlib.invalidate_caches(); sys.modules.pop('here', None)
    import here; print(here.value, here.__file__)
    os.chdir('..')
attempt(lambda: (sys.modules.pop('here'), importlib.import_module('here')))
os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')
attempt(load('colorsys')); attempt(load('no_such_module'))
os.chdir(os.path.dirname(sys.path[1])); shutil.rmtree('work/x'); shutil.rmtree('work/y')
""")


def test_odd_entries(tree):
    """bytes, None, numbers, paths, subclasses of str; missing, files, slashes; and no list at all."""
    tree.write("m.py", "value = 1")
    tree.same(DESCRIBE + """
import pathlib
root = sys.path[1]
class S(str): pass
for odd in [root.encode()], [None, root], [42, root], [pathlib.Path(root)], [S(root)], [root + '/'], [root + '///'], ['/' + root], [root + '/m.py', root], ['/missing', root], \\
        [root + '/./'], ['\\0', root], ['x' * 5000, root], ['\\ud800', root], ['', root], []:
    for whole in odd, tuple(odd):
        saved, sys.path = sys.path, whole
        sys.modules.pop('m', None)
        try:
            attempt(load('m'))
            attempt(lambda: importlib.util.find_spec('m')) if 'm' not in sys.modules else describe(sys.modules['m'])
        finally: sys.path = saved
""".replace("import pathlib", "import pathlib, importlib.util"))


def test_changing_sys_path(tree):
    for i in range(3):
        tree.write("m.py", f"value = {i}", at=tree.base / f"d{i}")
    tree.same(DESCRIBE + """
base = sys.path[1].removesuffix('tree')
def value():
    sys.modules.pop('m', None)
    return importlib.import_module('m').value
attempt(value)
sys.path.append(base + 'd0'); attempt(value)
sys.path.insert(0, base + 'd1'); attempt(value)
sys.path[0] = base + 'd2'; attempt(value)
sys.path = [base + 'd1'] + sys.path; attempt(value)
del sys.path[0]; attempt(value)
sys.path.reverse(); attempt(value)
sys.path[:] = []; attempt(value)
""")


def test_odd_names(tree):
    """Case, Unicode, bytes that are no UTF-8, long names, empty components."""
    for name in "Case.py", "\u00e9.py", "fi.py", "n\udcff.py", "x-y.py":
        tree.write(name, "value = 1")
    tree.same(DESCRIBE + """
import \u00e9, \ufb01
describe(\u00e9); describe(\ufb01)
for name in 'case', 'Case', 'x-y', 'n\\udcff', 'n\\udcfe', '\\ud800', 'x' * 254, 'x' * 300, 'x' * 5000, 'a..b', 'Case.', 'Case..x', 'Case.py', 'a/b', '', 'nul\\0', ' ':
    attempt(lambda: ascii(importlib.import_module(name)))
attempt(lambda: importlib.import_module('.x')); attempt(lambda: __import__('')); attempt(lambda: __import__('.'))
""", env={"PYTHONIOENCODING": "utf-8:backslashreplace"})


def test_very_long_paths(tree):
    """Up to and beyond PATH_MAX."""
    tree.same(DESCRIBE + """
import os, shutil
name = 'd' * 200
depth = 0
root = os.getcwd()
while depth < 25:
    os.mkdir(name); os.chdir(name); depth += 1
    open('m.py', 'w').close()
    sys.path[:] = [os.path.join(root, *[name] * depth)]; sys.modules.pop('m', None)
    attempt(lambda: importlib.import_module('m').__name__)
while depth:
    os.unlink('m.py'); os.chdir('..'); shutil.rmtree(name); depth -= 1
""")


def test_import_of_something_deep(any_tree):
    """Parents first; all are bound; __import__ and fromlist."""
    any_tree.write("a/__init__.py", "print(__name__)")
    any_tree.write("a/b/__init__.py", "print(__name__)")
    any_tree.write("a/b/c.py", "print(__name__)")
    any_tree.write("a/b/d.py", "print(__name__)")
    any_tree.same(DESCRIBE + """
import a.b.c; print(a.b.c)
show(__import__('a.b.c')); show(__import__('a.b', fromlist=['c', 'd', 'e']))
attempt(load('a.b.e')); attempt(load('a.b.c.d')); attempt(load('a.x.y')); attempt(load('no.x'))
from a.b import c as it, d; from a.b import *
try: from a.b import nothing
except ImportError as error: show([error, error.name, error.path, error.__cause__, error.__suppress_context__])
""")


# --- exceptions ---

# With import_module() instead of the statement, and with a KeyError of the machinery itself, its frames are shown: ours takes the place of some.
FAILING = {
    "absent": "import absent_module",
    "absent below": "import pkg.absent",
    "not a package": "import pkg.mod.x",
    "not a package, extension": "import _json.x",
    "syntax": "import broken_syntax",
    "null byte": "import null_byte",
    "encoding": "import bad_encoding",
    "body": "import raises",
    "nested": "import outer",
    "nested in a package": "import pkgs.inner",
    "name": "from pkg import nothing",
    "circular": "import circle",
    "circular attribute": "import ring",
    "none": "import sys; sys.modules['pkg.mod'] = None\nimport pkg.mod",
    "none above": "import sys; sys.modules['pkg'] = None\nimport pkg.mod",
    "relative": "from . import x",
    "exit": "import exits",
    "interrupt": "import interrupts",
    "chain": "try:\n    import raises\nexcept Exception:\n    import broken_syntax",
    "bad bytecode": "import bad_bytecode",
    "vanishing": "import vanishing",
    "recursion": "import deep0",
    "lambda": "(lambda: __import__('raises'))()",
    "exec": "exec('import raises')",
    "class": "class C:\n    import raises",
    "from": "from pkgs import inner",
    "star": "from pkgs import *",
}


def failing_modules(tree):
    package(tree)
    tree.write("broken_syntax.py", "value = 1\n)\n")
    tree.write("null_byte.py", "value = '\0'\n")
    tree.write("bad_encoding.py", b"value = '\xff'\n")
    tree.write("raises.py", "def f():\n    1 / 0\n\nf()\n")
    tree.write("outer.py", "import middle\n")
    tree.write("middle.py", "def f():\n    import raises\n\nf()\n")
    tree.write("pkgs/__init__.py", "__all__ = ['inner']\n")
    tree.write("pkgs/inner.py", "raise KeyError('inner')\n")
    tree.write("circle.py", "from circle2 import x\ny = 1\n")
    tree.write("circle2.py", "from circle import y\nx = 1\n")
    tree.write("ring.py", "import ring2\n")
    tree.write("ring2.py", "import ring\nring.absent\n")
    tree.write("exits.py", "raise SystemExit('over')\n")
    tree.write("interrupts.py", "raise KeyboardInterrupt\n")
    tree.write("bad_bytecode.pyc", b"\0" * 40)
    tree.write("vanishing.py", "import sys\ndel sys.modules[__name__]\n")
    for i in range(3):
        tree.write(f"deep{i}.py", f"import deep{i + 1}\n")
    tree.write("deep3.py", "raise RuntimeError('at the bottom') from KeyError('cause')\n")


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    tree = Tree(tmp_path_factory.mktemp("failing"))
    failing_modules(tree)
    settle()
    return tree


@pytest.mark.parametrize("what", FAILING)
def test_tracebacks(failing, what):
    """The text on stderr, exit code included: no frame of ours, none missing."""
    tree = failing
    code = "def main():\n    " + FAILING[what].replace("\n", "\n    ") + "\nmain()\n" if what != "star" else FAILING[what]
    script = tree.write("script.py", code, at=tree.base)
    result = tree.same(None, script, check=False, part=without_frozen_frames if what == "vanishing" else None)
    assert result.returncode != 0 and result.err


@pytest.mark.parametrize("what", FAILING)
def test_exceptions_as_objects(failing, what):
    """Type, arguments, name, path, cause and context, the frames of the traceback; what is left in sys.modules; again."""
    failing.same(DESCRIBE + f"""
import traceback
code = {FAILING[what]!r}
def chain(error):
    while error is not None:
        show([type(error), error.args if not isinstance(error, KeyError) else str(error), getattr(error, 'name', '-'), getattr(error, 'path', '-'), error.__suppress_context__,
              [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__) if 'frozen' not in f.filename]])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
before = set(sys.modules)
for attempts in range(2):
    try: exec(compile(code, 'program', 'exec'), {{'__name__': 'program'}})
    except BaseException as error: chain(error)
    print(sorted(set(sys.modules) - before))
""")


def test_tracebacks_of_import_module(failing):
    """Frames of the frozen importlib apart."""
    for name in "raises", "pkgs.inner", "outer", "broken_syntax", "absent.x":
        failing.same(f"import importlib; importlib.import_module({name!r})", check=False, part=without_frozen_frames)


def test_unreadable_source():
    """A source file that may not be read is the loader's to complain about; root becomes somebody else for it."""
    with tempfile.TemporaryDirectory() as base:
        os.chmod(base, 0o755)
        tree = Tree(base)
        os.chmod(tree.write("m.py", "value = 1"), 0)
        result = tree.same(DESCRIBE + """
import os
if os.geteuid() == 0: os.seteuid(65534)
attempt(load('m'))
""", part=without_frozen_frames)
        assert "PermissionError" in result.out


def test_failed_import_keeps_what_it_imported(any_tree):
    any_tree.write("p/__init__.py", "import p.a, helper\nraise ValueError('late')\n")
    any_tree.write("p/a.py", "")
    any_tree.write("helper.py", "")
    any_tree.same(DESCRIBE + "attempt(load('p')); print([n for n in ('p', 'p.a', 'helper') if n in sys.modules]); attempt(load('p.a')); attempt(load('p'))")


# --- modules that do odd things ---

ODD_MODULES = {
    "replaces itself": "import sys\nclass R: value = 5\nsys.modules[__name__] = R\n",
    "replaces itself by a module": "import sys, types\nsys.modules[__name__] = types.ModuleType('other')\n",
    "deletes itself": "import sys\ndel sys.modules[__name__]\n",
    "none instead of itself": "import sys\nsys.modules[__name__] = None\n",
    "changes its spec": "__spec__.name = 'other'\n__spec__.cached = 'x'\n",
    "deletes its spec": "del __spec__, __loader__, __file__\n",
    "changes its path": "__path__ = ['/nowhere']\n",
    "changes its name": "__name__ = 'changed'\n",
    "imports itself": "import m\nprint(m, __spec__._initializing)\n",
    "imports itself again": "import sys\nif 'again' not in sys.modules:\n    sys.modules['again'] = None\n    sys.modules.pop(__name__)\n    import m\n    sys.modules[__name__] = m\n",
    "new sys.modules": "import sys\nsys.modules = dict(sys.modules)\n",
    "getattr": "def __getattr__(name): return name * 2\n",
    "fails after replacing": "import sys\nsys.modules[__name__] = sys\nraise ValueError\n",
    "fails after deleting": "import sys\ndel sys.modules[__name__]\nraise ValueError\n",
}


@pytest.mark.parametrize("what", ODD_MODULES)
def test_module_that(tree, what):
    tree.write("m.py", ODD_MODULES[what])
    tree.write("p/__init__.py", "from . import m\n")
    tree.write("p/m.py", ODD_MODULES[what].replace("import m", "import p.m as m"))
    tree.same(DESCRIBE + """
for name in 'm', 'p.m', 'p':
    attempt(load(name)); attempt(lambda: sys.modules[name]); attempt(lambda: sys.modules[name].value)
    attempt(lambda: __import__(name)); attempt(lambda: importlib.util.find_spec(name))
attempt(lambda: vars(sys.modules['p']).keys())
""".replace("import importlib,", "import importlib, importlib.util,"))


def test_circular_imports(any_tree):
    """What is half there is shown half; messages included."""
    any_tree.write("p/__init__.py", "from . import a\n")
    any_tree.write("p/a.py", "import p.b\nx = 1\n")
    any_tree.write("p/b.py", """
        import sys
        import p.a, p
        def attempt(what):
            try: print(what())
            except Exception as error: print(type(error).__name__, error)
        attempt(lambda: p.a)
        attempt(lambda: p.a.x)
        attempt(lambda: p.c)
        attempt(lambda: sys.modules['p.a'].x)
        attempt(lambda: exec('from p.a import x'))
        attempt(lambda: exec('from p import a'))
        attempt(lambda: exec('from . import a', globals()))
        attempt(lambda: exec('import p.a as it; print(it)'))
        print(p.__spec__._initializing, p.__spec__._uninitialized_submodules, sys.modules['p.a'].__spec__._initializing)
    """)
    any_tree.same("import p; print(p.a.x, p.__spec__._uninitialized_submodules)")


def test_reload_and_import_again(any_tree):
    package(any_tree).same(DESCRIBE + """
import pkg.mod, space.portion, space
for module in pkg, pkg.mod, space.portion, space:
    module.kept = True
    attempt(lambda: importlib.reload(module) is module); describe(module)
one = sys.modules.pop('pkg.mod')
import pkg.mod; print(pkg.mod is one, one.__name__); describe(pkg.mod)
del sys.modules['pkg']
attempt(load('pkg.sub'))
attempt(lambda: importlib.reload(one))
""")


def test_parent_that_takes_no_attribute(tree):
    """A warning, no error."""
    tree.write("p/__init__.py", "import sys\nclass Closed:\n    __slots__ = ()\n    __path__ = __path__\n    __spec__ = __spec__\nsys.modules[__name__] = Closed()\n")
    tree.write("p/m.py", "")
    tree.same(DESCRIBE + """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    attempt(load('p.m'))
print([(w.category, str(w.message)) for w in caught])
with warnings.catch_warnings():
    warnings.simplefilter('error'); del sys.modules['p.m']
    attempt(load('p.m'))
print('p.m' in sys.modules)
""")


def test_parent_without_spec_or_path(tree):
    tree.write("p/m.py", "value = 1")
    tree.same(DESCRIBE + """
import types
for attributes in {}, {'__path__': []}, {'__path__': [sys.path[1] + '/p']}, {'__path__': None}, {'__path__': (sys.path[1] + '/p',)}, {'__path__': iter([sys.path[1] + '/p'])}, \\
        {'__path__': sys.path[1] + '/p'}, {'__path__': [sys.path[1] + '/p'], '__spec__': None}:
    sys.modules.pop('p.m', None)
    parent = sys.modules['p'] = types.ModuleType('p')
    vars(parent).update(attributes)
    attempt(load('p.m'))
    del parent.__spec__
    sys.modules.pop('p.m', None)
    attempt(load('p.m'))
""")


def test_restricted_builtins_stay_with_the_importer(any_tree):
    """Templates and sandboxes execute code with builtins of their own; what that imports gets the real ones."""
    any_tree.write("victim.py", "import builtins\nprint(__builtins__ is vars(builtins), list(range(3)))\n")
    any_tree.same("exec('import victim', {'__builtins__': {'__import__': __import__, 'print': print}})")


@pytest.mark.parametrize("depth, limit, stack", [(60, 0, 0), (400, 0, 0), (200, 0, 1024), (1000, 100000, 0)])
def test_deep_chains_of_imports(any_tree, depth, limit, stack):
    """Each module imports the next one: it works, or it is a RecursionError, where stock needs no more stack than there is."""
    for i in range(depth):
        any_tree.write(f"deep{i}.py", f"import deep{i + 1}\n" if i < depth - 1 else "print('bottom')\n")
    settle()
    program = f"""
import sys, threading
if {limit}: sys.setrecursionlimit({limit})
def go():
    try: import deep0
    except RecursionError: print('RecursionError', any(name.startswith('deep') for name in sys.modules))
if {stack}:
    threading.stack_size({stack} * 1024)
thread = threading.Thread(target=go) if {stack} else None
if thread: thread.start(); thread.join()
else: go()
"""
    expected = any_tree.run(program, ladewerk=False).out
    for _ in range(3):
        out = any_tree.run(program).out
        assert out == expected or out == "bottom\n"


def test_sys_modules_replaced_by_the_body(any_tree):
    any_tree.write("one.py", "import sys, types\nsys.modules = dict(sys.modules)\nsys.modules[__name__] = types.ModuleType('replaced')\n")
    any_tree.write("two.py", "import sys\nclass D(dict): pass\nsys.modules = D(sys.modules)\n")
    any_tree.write("p/__init__.py")
    any_tree.write("p/three.py", "import sys\nsys.modules = dict(sys.modules)\nraise ValueError\n")
    any_tree.same(DESCRIBE + """
for name in 'one', 'p.three', 'two':
    attempt(load(name)); show([name in sys.modules, list(sys.modules)[-1], type(sys.modules)])
""")


# --- finders and hooks ---

FINDER = DESCRIBE + """
import importlib.util, importlib.machinery, os
from importlib.machinery import PathFinder
asked = []
class Finder:
    def __init__(self, *serves, tag=''): self.serves, self.tag = serves, tag
    def find_spec(self, name, path=None, target=None):
        asked.append((self.tag, name, path if path is None else list(path), target))
        if name in self.serves: return importlib.util.spec_from_loader(name, self, origin='finder')
    def create_module(self, spec): return None
    def exec_module(self, module): module.served_by = self.tag
def at_path_finder(): return sys.meta_path.index(PathFinder)
def mine(): return [x for x in asked if x[1].partition('.')[0] in ('pkg', 'space', 'extra', 'absent')]
"""


def test_finder_ahead(any_tree):
    """At position 0: asked for everything, in order, and it may serve."""
    package(any_tree).same(FINDER + """
sys.meta_path.insert(0, Finder('extra', 'pkg.mod', tag='first'))
sys.meta_path.insert(1, Finder('extra', 'pkg.sub', tag='second'))
import pkg.mod, extra, pkg.sub, space.portion
describe(pkg.mod); describe(extra); describe(pkg.sub); attempt(load('absent.x'))
for x in mine(): show(x)
""")


DELEGATING = DESCRIBE + """
import importlib.util, os
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
class Finder:
    def __init__(self, change=lambda spec: None): self.change, self.made = change, []
    def find_spec(self, name, path=None, target=None):
        spec = self.find(name, path)
        if spec and name.partition('.')[0] in ('pkg', 'space', 'vendored', 'moved'):
            self.made.append(spec)
            return self.change(spec) or spec
    def find(self, name, path): return PathFinder.find_spec(name, path)
class Vendoring(Finder):
    def find(self, name, path): return PathFinder.find_spec(name, [os.path.join(ROOT, 'pkg')] if name == 'vendored' else path)
class Editable(Finder):
    def find(self, name, path):
        base = os.path.join(path[0] if path else ROOT, name.rpartition('.')[2].replace('moved', 'mod'))
        for file in os.path.join(base, '__init__.py'), base + '.py':
            if os.path.exists(file): return importlib.util.spec_from_file_location((name + 'x')[:-1], file)
def go(finder, *names, where=0):
    sys.meta_path.insert(where, finder)
    for name in names: attempt(load(name))
    for name in names:
        if name in sys.modules: describe(sys.modules[name])
    show([any(module.__spec__ is spec for module in list(sys.modules.values()) if hasattr(module, '__spec__')) for spec in finder.made])
    show([vars(spec) for spec in finder.made])
    show([sys.modules[name].__name__ is sys.modules[name].__spec__.name for name in names if name in sys.modules])
"""


def delegating(tree):
    package(tree)
    tree.write("pkg/vendored/__init__.py", "from vendored import part\n")
    tree.write("pkg/vendored/part.py", "raised = RuntimeError(__name__)\n")
    return DELEGATING.replace("ROOT", repr(str(tree.root)))


@pytest.mark.parametrize("program", [
    "go(Finder(), 'pkg.mod', 'pkg.sub.leaf', 'space.portion', 'pkg.absent')",
    "go(Finder(), 'pkg.mod', 'pkg.sub.leaf', where=sys.meta_path.index(PathFinder))",
    "go(Vendoring(), 'vendored', 'pkg.vendored')",
    "go(Editable(), 'pkg.mod', 'pkg.sub.leaf')",
])
def test_finders_that_find_as_path_finder_does(any_tree, program):
    """Vendored packages under another name, editable installations: modules by the finder's own specs, with code from the cache."""
    program = delegating(any_tree) + program
    any_tree.same(program)
    served = json.loads(any_tree.run(program + STATS).out.splitlines()[-1])["served"]
    assert served["pack"] >= 3 and served["foreign_finder"] == ("'space." in program), served  # a namespace package has no file


@pytest.mark.parametrize("change", {
    "a loader of its own": "spec.loader = type('Own', (SourceFileLoader,), {})(spec.name, spec.origin)",
    "what only this loader does": "spec.loader.get_data = lambda path: b'value = 99'; spec.loader.path_stats = lambda path: {'mtime': 1, 'size': 2}",
    "a loader of another name": "spec.loader.name = spec.name + 'x'",
    "a loader of another file": "spec.loader.path = os.path.join(os.path.dirname(spec.origin), 'data.txt')",
    "another origin": "spec.origin = 'elsewhere'",
    "no file": "spec.has_location = False",
    "a state": "spec.loader_state = 'state'",
    "another cached": "spec.cached = 'some.pyc'",
    "more attributes": "spec.more = 1",
    "a spec of its own": "return type('Own', (ModuleSpec,), {})(spec.name, spec.loader, origin=spec.origin, is_package=spec.submodule_search_locations is not None)",
    "no package": "spec.submodule_search_locations = None",
    "another package": "spec.submodule_search_locations = [os.path.join(ROOT, 'pkg', 'sub')]",
    "a longer package": "spec.submodule_search_locations = (spec.submodule_search_locations or []) + ['x']",
    "modules under way": "spec._uninitialized_submodules.append('x')",
    "no name": "del spec.name",
    "no origin": "spec.origin = None",
    "a name that is none": "spec.name = type('Text', (str,), {})(spec.name)",
    "a patch": "SourceFileLoader.get_code = lambda self, name: compile('value = 98', '?', 'exec')",
}.items(), ids=lambda change: change[0])
def test_finders_that_find_something_else(any_tree, change):
    """All of it is stock's, and no more of it from the cache than stock would have."""
    program = delegating(any_tree) + f"def change(spec):\n    {change[1]}\ngo(Finder(change), 'pkg', 'pkg.mod', 'pkg.sub.leaf')\nprint(getattr(sys.modules.get('pkg.mod'), 'value', 0))"
    program = program.replace("ROOT", repr(str(any_tree.root)))
    any_tree.same(program)
    if change[0] != "a patch":  # which json would notice, too
        served = json.loads(any_tree.run(program + STATS).out.splitlines()[-1])["served"]
        assert served["foreign_finder"] >= 1, served


@pytest.mark.parametrize("change", [
    "spec.loader = SourceFileLoader('pkg.mod', os.path.join(ROOT, 'pkg', 'sub', 'sibling.py'))", "spec.loader.path = spec.loader.path.replace('mod', 'none')",
    "spec.submodule_search_locations = ['/x']", "spec.cached = '/tmp/x.pyc'", "spec.name = 'pkg.two'", "spec.origin = None", "spec.origin = object", "spec.more = 1",
])
def test_specs_that_change_behind_a_finder(any_tree, change):
    """Between the finder's answer and the module: by what is called meanwhile (and, in the same way, by other threads)."""
    any_tree.same(delegating(any_tree) + f"""
class Changing(list):
    def append(self, child):
        spec = finder.made[-1]
        {change.replace("ROOT", repr(str(any_tree.root)))}
        super().append(child)
import pkg
pkg.__spec__._uninitialized_submodules = Changing()
finder = Finder()
sys.meta_path.insert(0, finder)
attempt(load('pkg.mod'))
if 'pkg.mod' in sys.modules: attempt(lambda: describe(sys.modules['pkg.mod'])); print(vars(sys.modules['pkg.mod']).get('value'))
""")


@pytest.mark.parametrize("new", ["dict(sys.modules)", "type('Modules', (dict,), {})(sys.modules)"])
@pytest.mark.parametrize("how", ["PathFinder.find_spec(name, path)", "None"])
def test_sys_modules_replaced_by_a_finder(any_tree, new, how):
    package(any_tree).same(DELEGATING + f"""
class Replacing(Finder):
    def find(self, name, path):
        if name.startswith('pkg'): sys.modules = {new}
        return {how}
sys.meta_path.insert(0, Replacing())
for name in 'pkg', 'pkg.mod', 'pkg.sub.leaf': attempt(load(name)); print(name in sys.modules)
""")


@pytest.mark.parametrize("new", ["dict(sys.modules)", "type('Modules', (dict,), {})(sys.modules)"])
def test_sys_modules_replaced_by_the_parent(any_tree, new):
    any_tree.write("p/__init__.py", f"import sys\nsys.modules = {new}\n")
    any_tree.write("p/m.py", "value = 1\n")
    any_tree.same(DESCRIBE + "attempt(load('p.m')); show([name in sys.modules for name in ('p', 'p.m')]); describe(sys.modules['p.m'])")


def test_new_module_that_was_replaced(any_tree):
    """importlib makes modules by a function that may be another one."""
    package(any_tree).same("""
import importlib._bootstrap as b, sys
original = b._new_module
def new(name): module = original(name); module.extra = 1; return module
b._new_module = new
import pkg.mod; print(pkg.mod.extra)
""")


def test_specs_with_keys_that_compare_as_they_like(any_tree):
    any_tree.same(delegating(any_tree) + """
class Text(str):
    def __eq__(self, other): print('asked'); return 1 / 0
    __hash__ = str.__hash__
def change(spec): vars(spec)[Text('loader_state')] = vars(spec).pop('loader_state')
sys.meta_path.insert(0, Finder(change))
attempt(load('pkg.mod')); print(getattr(sys.modules.get('pkg.mod'), 'value', None))
""")


def test_what_a_finder_has_found_and_another_name_has(any_tree):
    """Files are found by the names of modules; a finder may call them otherwise."""
    any_tree.same(delegating(any_tree) + "go(Editable(), 'pkg.moved'); print(sys.modules['pkg.moved'].value)")


def test_files_that_change_behind_a_finder(tree):
    """Freshness is that of any import: what is there when it is found."""
    program = delegating(tree) + "go(Finder(), 'pkg.mod'); print(sys.modules['pkg.mod'].value)"
    tree.same(program)
    tree.write("pkg/mod.py", "value = 'another one'\n")
    settle()
    assert "another one" in tree.same(program).out


@pytest.mark.parametrize("where", ["at_path_finder()", "at_path_finder() + 1", "len(sys.meta_path)", "1"])
def test_finder_anywhere(any_tree, where):
    """Directly ahead of PathFinder, behind it (editable installs), at the end: asked in its turn, after a proven miss as well."""
    package(any_tree).same(FINDER + f"""
sys.meta_path.insert({where}, Finder('extra', 'extra.x', 'pkg', 'pkg.absent', tag='it'))
attempt(load('extra')); attempt(load('pkg')); attempt(load('pkg.mod')); attempt(load('pkg.absent')); attempt(load('space.portion')); attempt(load('absent'))
describe(sys.modules['pkg'])
attempt(lambda: importlib.util.find_spec('space')); attempt(lambda: importlib.util.find_spec('absent2'))
for x in mine(): show(x)
""")


def test_finder_added_by_the_parent(any_tree):
    """A package that adds a finder for its own submodules (vendored packages do)."""
    any_tree.write("p/__init__.py", FINDER + "sys.meta_path.append(Finder('p.virtual', 'p.virtual.deep', tag='parent'))\n")
    any_tree.same("import p.virtual; print(p.virtual.served_by)\nimport sys; [sys.modules.pop(n) for n in list(sys.modules) if n[:1] == 'p' and n[1:2] in ('', '.')]"
                  "\ntry: import p.virtual.deep\nexcept ImportError as e: print(e)")


def test_finder_that_is_added_by_the_parent_ahead(any_tree):
    any_tree.write("p/__init__.py", FINDER + "sys.meta_path.insert(0, Finder('p.m', tag='parent'))\n")
    any_tree.write("p/m.py", "served_by = 'file'\n")
    any_tree.same("import p.m; print(p.m.served_by)")


def test_parent_that_patches_the_loader(any_tree):
    """What a package patches holds for the submodule that is being imported."""
    any_tree.write("p/__init__.py", """
        from importlib.machinery import SourceFileLoader
        original = SourceFileLoader.get_data
        SourceFileLoader.get_data = lambda self, path: original(self, path).replace(b'one', b'two') if path.endswith('.py') else original(self, path)
        SourceFileLoader._cache_bytecode = lambda *args: None
        SourceFileLoader.path_stats = lambda self, path: {'mtime': 1, 'size': 2}
    """)
    any_tree.write("p/m.py", "value = 'one'\n")
    any_tree.same("import p.m; print(p.m.value)", env={"PYTHONDONTWRITEBYTECODE": "1"})


def test_finder_with_side_effects(any_tree):
    """A finder that imports the module itself while it is asked; one that changes sys.meta_path; one that raises."""
    package(any_tree).same(FINDER + """
class Importing(Finder):
    def find_spec(self, name, path=None, target=None):
        if name == 'pkg.mod' and not self.serves:
            self.serves = True
            importlib.import_module('pkg.mod'); asked.append('imported')
class Changing(Finder):
    def find_spec(self, name, path=None, target=None):
        if name == 'pkg.sub': sys.meta_path.remove(self)
class Raising(Finder):
    def find_spec(self, name, path=None, target=None):
        if name == 'space': raise RuntimeError('from the finder')
class Importer2(Finder):
    def find_spec(self, name, path=None, target=None):
        if name == 'extra':
            import types; m = sys.modules['extra'] = types.ModuleType('extra'); m.__spec__ = importlib.util.spec_from_loader('extra', self)
            return importlib.util.spec_from_loader('extra', None, is_package=True)
sys.meta_path[:0] = [Importing(), Changing(), Raising(), Importer2()]
for name in 'pkg.mod', 'pkg.sub', 'space', 'extra': attempt(load(name))
describe(sys.modules['pkg.mod']); print(asked)
""")


def test_path_finder_removed_or_replaced(any_tree):
    """Without PathFinder no path is searched; with another in its place, that one decides. Then all as before."""
    package(any_tree).same(FINDER + """
class Mine(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        asked.append(('mine', name))
        return None if name == 'pkg.mod' else super().find_spec(name, path, target)
saved = sys.meta_path[:]
sys.meta_path.remove(PathFinder)
attempt(load('pkg')); attempt(lambda: importlib.util.find_spec('pkg')); attempt(load('sys')); attempt(load('_frozen_importlib'))
sys.meta_path.append(Mine)
attempt(load('pkg')); attempt(load('pkg.mod')); attempt(load('pkg.sub')); print(asked)
import warnings; warnings.simplefilter('ignore')
sys.meta_path[:] = []
attempt(load('space')); attempt(lambda: importlib.util.find_spec('space'))
sys.meta_path = saved
attempt(load('pkg.mod')); attempt(load('space.portion'))
sys.meta_path = tuple(saved)
attempt(load('pkg.sub.leaf'))
""")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="find_module() is gone")
def test_legacy_finder(tree):
    package(tree).same(FINDER + """
import types, warnings; warnings.simplefilter('ignore')
class Legacy:
    def find_module(self, name, path=None): asked.append(name); return self if name == 'extra' else None
    def load_module(self, name): m = sys.modules[name] = types.ModuleType(name); m.__loader__ = self; return m
sys.meta_path.insert(0, Legacy())
attempt(load('extra')); attempt(load('pkg.mod')); print(asked)
""")


def test_path_hooks(any_tree):
    """A hook behind the stock ones may claim what is no directory; one ahead of them decides about everything."""
    package(any_tree).same(FINDER + """
def hook(entry):
    asked.append(entry)
    if entry.startswith('special:'): return Finder('extra', 'space', tag=entry)
    raise ImportError
sys.path_hooks.append(hook)
sys.path.append('special:1'); sys.path.insert(0, 'special:0')
attempt(load('extra')); attempt(load('pkg.mod')); attempt(load('absent'))
class Portion(Finder):
    def find_spec(self, name, target=None):
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True); spec.submodule_search_locations = ['special:portion']; return spec if name == 'space' else None
sys.path_importer_cache['special:1'] = Portion()
sys.path_importer_cache['special:0'] = None
import space; print(list(space.__path__))
def first(entry):
    asked.append('first')
    if entry.endswith('/tree'): return Finder('mine', tag='hook')
    raise ImportError
sys.path_hooks.insert(0, first); sys.path_importer_cache.clear()
for name in 'pkg', 'pkg.mod', 'pkg.sub', 'space': sys.modules.pop(name, None)
attempt(load('pkg')); attempt(load('mine'))
sys.path_hooks.clear(); sys.path_importer_cache.clear()
attempt(load('pkg'))
print([x for x in asked if isinstance(x, tuple)])
""")


# A hook ahead of the stock ones, which says what it is asked for. What it claims: `claims`, entry -> finder.
AHEAD = FINDER + """
import shutil, sys
from importlib.machinery import FileFinder, SourceFileLoader
root = sys.path[1]
importlib.invalidate_caches()  # it may import something itself
claims, hooked = {}, []
def hook(entry):
    hooked.append(entry)
    if entry not in claims: raise ImportError
    return claims[entry](entry)
sys.path_hooks.insert(0, hook); sys.path_importer_cache.clear()
plain = sys.path_hooks[-1]
class Text(SourceFileLoader):
    def get_data(self, path): return b"value = 'other'" if path.endswith('mod.py') else super().get_data(path)
other = FileFinder.path_hook((Text, ['.py']))
def again(*names):
    for name in [m for m in sys.modules if m.partition('.')[0] in ('pkg', 'space', 'extra')]: del sys.modules[name]
    for name in names or ('pkg', 'pkg.mod', 'pkg.sub.leaf', 'space.portion', 'absent', 'pkg.absent', 'extra'): attempt(load(name))
    print([getattr(sys.modules.get(name), 'value', None) for name in ('pkg.mod', 'space.portion', 'extra')], hooked, asked)
    hooked.clear(); asked.clear()
"""

CLAIMS = {
    "nothing": "",
    "a package's directory": "claims[root + '/pkg'] = other",
    "the root": "claims[root] = other",
    "by plain finders": "claims[root] = claims[root + '/pkg/sub'] = plain",
    "by a subclass": "claims[root + '/pkg'] = type('Sub', (FileFinder,), {}).path_hook((SourceFileLoader, ['.py']))",
    "by a finder": "claims[root + '/pkg'] = lambda entry: Finder('pkg.mod', 'pkg.sub', tag=entry)",
    "by nothing": "claims[root + '/pkg'] = lambda entry: None",
    "an entry that is no directory": "claims['special:'] = lambda entry: Finder('extra', tag=entry)\nsys.path.append('special:')",
    "no directory, by a plain finder": "claims['special:'] = lambda entry: plain(root + '/pkg')\nsys.path.insert(0, 'special:')",
    "another directory": "claims[root + '/space'] = lambda entry: plain(root + '/pkg')\nsys.path.insert(0, root + '/space')",
    "with an error": "def fail(entry): raise ValueError(entry)\nclaims[root + '/pkg/sub'] = fail",
    "sys.path itself": "def grow(entry):\n    if 'special:' not in sys.path: sys.path.append('special:')\n    raise ImportError\nclaims[root] = grow",
    "relative entries": "os.chdir(root); sys.path[1:2] = ['', 'pkg']; claims['pkg'] = other",
    "what is missing": "sys.path.insert(0, root + '/later')",
    "an empty list": "sys.path_hooks.clear()",
    "the stock ones alone": "sys.path_hooks.remove(hook)",
    "a tuple": "sys.path_hooks = tuple(sys.path_hooks)",
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_hooks_ahead(tree, claim):
    """Whoever is ahead of the stock hooks is asked for each entry once, in its turn; what sys.path_importer_cache holds then decides."""
    package(tree).same(f"""{AHEAD}
{CLAIMS[claim]}
again(); again()
if hook in sys.path_hooks: print(sorted(k.removeprefix(root) for k in sys.path_importer_cache if k.startswith((root, 'special:', 'pkg'))))
os.mkdir(root + '/later')
with open(root + '/later/extra.py', 'w') as file: file.write('value = 5')
again()
importlib.invalidate_caches(); again()
claims[root + '/pkg'] = other; sys.path_importer_cache.clear(); again()
sys.path_hooks = [h for h in sys.path_hooks if h is not hook]; again()
shutil.rmtree(root + '/later')
""")


@pytest.mark.parametrize("cleared", ["", "sys.path_importer_cache.clear()"], ids=["kept", "cleared"])
def test_hooks_that_come_later(tree, cleared):
    """Entries that were searched before have their finders, and are not put to the hook; others are, those that nobody has come to yet too."""
    tree.write("early.py", "value = 'early'\n")
    tree.write("late.py", "value = 'late'\n")
    tree.write("more/greet.tpl", "value = 'template'\n")
    tree.write("pack/__init__.py", "")
    tree.write("pack/one.py", "value = 1\n")
    tree.write("pack/two.py", "value = 2\n")
    kept = tree.same(f"""
import sys, importlib
from importlib.machinery import FileFinder, SourceFileLoader
root = sys.path[1]
sys.path.append(root + '/more')
import early, pack.one
class Loader(SourceFileLoader): pass
hook = FileFinder.path_hook((Loader, ['.tpl']))
asked = []
def asks(entry): asked.append(entry); return hook(entry)
sys.path_hooks.insert(0, asks)
{cleared}
for name in 'greet', 'late', 'pack.two', 'absent':
    try: print(importlib.import_module(name).value)
    except ImportError as error: print(error)
print([entry for entry in asked if entry.startswith(root)])
""").out
    assert ("late" in kept.splitlines()) == (not cleared), kept


@pytest.mark.parametrize("change", ["finder.find_spec = lambda name, target=None: None if name == 'secret' else type(finder).find_spec(finder, name, target)",
                                    "finder._fill_cache = lambda: (type(finder)._fill_cache(finder), finder._path_cache.discard('secret.py'))", ""], ids=["find_spec", "_fill_cache", "control"])
def test_finders_with_methods_of_their_own(any_tree, change):
    any_tree.write("secret.py", "value = 1\n")
    out = any_tree.same(f"""
import sys
from importlib.machinery import FileFinder
root = sys.path[1]
finder = sys.path_importer_cache[root] = sys.path_hooks[-1](root)
{change}
try: import secret; print(secret.value)
except ImportError as error: print(error)
""").out
    assert out == ("No module named 'secret'\n" if change else "1\n")


@pytest.mark.parametrize("does", [
    "sys.meta_path.append(Late())",
    "sys.meta_path.insert(sys.meta_path.index(self) + 1, Late())",
    "sys.meta_path.insert(0, Late())",
    "sys.meta_path.remove(self)",
    "sys.meta_path.remove(PathFinder)",
    "sys.meta_path.clear()",
    "sys.meta_path = [Late()]",
])
def test_what_finders_do_to_the_list_of_them(any_tree, does):
    """Stock walks along the list itself, or from some release on along a copy of it."""
    any_tree.write("plain.py", "served_by = 'nobody'\n")
    any_tree.same(FINDER + f"""
class Late:
    def find_spec(self, name, path=None, target=None):
        asked.append(('late', name))
        if name in ('virtual', 'plain'): return importlib.util.spec_from_loader(name, Finder(tag='late'))
class Changes:
    done = False
    def find_spec(self, name, path=None, target=None):
        asked.append(('changes', name))
        if not self.done:
            self.done = True
            {does}
class Behind:
    def find_spec(self, name, path=None, target=None): asked.append(('behind', name))
saved = sys.meta_path
for name in ('virtual', 'plain'):
    sys.meta_path = [Changes(), Behind(), *saved]
    del asked[:]
    try: print(__import__(name).served_by)
    except ImportError as error: print(error)
    print(asked)
    sys.meta_path = saved
""")


def test_finders_that_patch(any_tree):
    """What a finder has patched while it was asked counts for the module that it was asked for."""
    any_tree.write("one.py", "")
    any_tree.write("two.py", "")
    any_tree.same("""
import sys
from importlib.machinery import SourceFileLoader
class Patches:
    def find_spec(self, name, path=None, target=None):
        sys.meta_path.remove(self)
        sys.meta_path.append(self)
        original = SourceFileLoader.exec_module
        def exec_module(loader, module):
            print('patched', module.__name__)
            original(loader, module)
        SourceFileLoader.exec_module = exec_module
sys.meta_path.insert(0, Patches())
import one, two
""")


def test_finder_of_another_directory(any_tree):
    """A plain FileFinder in the place of another one, but for another directory."""
    any_tree.write("one/first.py", "")
    any_tree.write("one/place.py", "where = 'here'")
    any_tree.write("other/place.py", "where = 'there'")
    assert any_tree.same("""
import sys
root = sys.path[1]
sys.path.insert(0, root + '/one')
import first
sys.path_importer_cache[root + '/one'] = sys.path_hooks[-1](root + '/other')
import place
print(place.where)
""").out == "there\n"


def test_finders_with_properties(any_tree):
    """Looked at as often as by stock."""
    any_tree.write("one.py", "")
    any_tree.same("""
import sys
class Odd:
    @property
    def find_spec(self): print('looked at'); return lambda *args: None
sys.meta_path.insert(0, Odd())
import one
""")


@pytest.mark.parametrize("call", ["import absent", "importlib.util.find_spec('absent')"])
def test_path_that_a_finalizer_empties(any_tree, call):
    """While something is allocated for the search; up to 3.11 the collector runs then."""
    any_tree.same(f"""
import gc, importlib.util, os, sys
from importlib.machinery import FrozenImporter
class Seen: pass
class Remembers:
    @staticmethod
    def find_spec(name, path=None, target=None): seen.append(Seen()); seen.append(Seen())
class Empties:
    def __del__(self): sys.path.clear()
seen = []
sys.meta_path.insert(sys.meta_path.index(FrozenImporter) + 1, Remembers)
def call():
    {call}
try: call()
except ImportError: pass
for threshold in range(60):
    gc.disable(); gc.collect()
    sys.path[:] = ['/absent%d_%d' % (threshold, i) for i in range(3000)]
    empties = Empties(); empties.itself = empties; del empties
    gc.set_threshold(threshold + 1, 1000, 1000)
    gc.enable()
    try: call()
    except ImportError: pass
    gc.disable()
print('done', flush=True)
os._exit(0)
""", env={"LADEWERK_GC": "0"})


def test_spec_that_a_finalizer_changes(any_tree):
    """While it is looked at, up to 3.11."""
    any_tree.write("box/__init__.py", "")
    any_tree.same("""
import gc, importlib.util, os, sys
root = sys.path[1]
class Changes:
    def __init__(self, spec): self.spec, self.itself = spec, self
    def __del__(self):
        self.spec.submodule_search_locations = None
        junk.extend(b'\\xff' * (60 + i % 40) for i in range(50))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'box':
            gc.disable()
            spec = importlib.util.spec_from_file_location(name, ''.join([root, '/box/__init__.py']))
            spec.__dict__
            Changes(spec); kept.extend({} for i in range(200))
            gc.set_threshold(1, 1000, 1000); gc.enable()
            return spec
junk, kept = [], []
sys.meta_path.insert(0, Finder())
for i in range(20):
    sys.modules.pop('box', None)
    try: import box
    except Exception as error: pass
    gc.disable()
print('done', flush=True)
os._exit(0)
""", env={"LADEWERK_GC": "0", "PYTHONMALLOC": "debug"})


def test_finders_of_entries_are_told_the_target(any_tree):
    package(any_tree).same(FINDER + """
class OfEntry(Finder):
    def find_spec(self, name, target=None): return super().find_spec(name, None, target)
def hook(entry):
    if entry == 'special:': return OfEntry('extra')
    raise ImportError
sys.path_hooks.append(hook); sys.path.insert(0, 'special:')
import extra, pkg
importlib.reload(extra); importlib.reload(pkg)
print(importlib.util.find_spec('extra').origin, asked)
""")


def test_importer_cache_entries(any_tree):
    """What sys.path_importer_cache holds for an entry decides: a FileFinder with other loaders, a subclass, a foreign object."""
    package(any_tree).same(FINDER + """
from importlib.machinery import FileFinder, SourceFileLoader
root = sys.path[1]
class Sub(FileFinder): pass
class Text(SourceFileLoader):
    def get_data(self, path): return b'value = "text"'
for finder in FileFinder(root, (Text, ['.txt', '.py'])), Sub(root, (SourceFileLoader, ['.py'])), Finder('pkg', tag='cache'), FileFinder('/nowhere', (SourceFileLoader, ['.py'])), None:
    for name in list(sys.modules):
        if name.partition('.')[0] == 'pkg': del sys.modules[name]
    sys.path_importer_cache[root] = finder
    if finder is None: continue  # stock believes it, we look: see the next test
    attempt(load('pkg')); attempt(lambda: importlib.util.find_spec('pkg'))
    attempt(lambda: describe(sys.modules['pkg']))
""")


def test_exchanged_finder_in_a_long_path(any_tree):
    """More than 32 entries are searched by a table: it notices what happens to sys.path_importer_cache, too."""
    any_tree.write("first.py")
    any_tree.write("b.py", "who = 'directory'\n")
    any_tree.same(FINDER + """
import os, pkgutil
from importlib.machinery import FileFinder, SourceFileLoader
base = os.path.abspath('.')
for i in range(40): os.makedirs(f'{base}/e{i}', exist_ok=True)
sys.path[1:1] = [f'{base}/e{i}' for i in range(40)]
import first
for entry in sys.path: pkgutil.get_importer(entry)
attempt(load('missing'))
class Mine(FileFinder):
    def find_spec(self, name, target=None):
        return importlib.util.spec_from_loader(name, Finder('b', tag='mine')) if name == 'b' else super().find_spec(name, target)
sys.path_importer_cache[f'{base}/e3'] = Mine(f'{base}/e3', (SourceFileLoader, ['.py']))
attempt(lambda: importlib.import_module('b').served_by)
""")


def test_directory_that_appears_is_found(tree):
    """Better than stock, which remembers a missing directory until invalidate_caches()."""
    code = DESCRIBE + "import os\nsys.path.append(os.path.abspath('later'))\nattempt(load('m')); os.mkdir('later'); open('later/m.py', 'w').close(); attempt(load('m'))"
    assert tree.run(code).out.splitlines()[1].startswith("<module 'm'")


PATCHES = {
    "SourceFileLoader.get_data": "lambda self, path: open(path, 'rb').read().replace(b'value = 2', b'value = 9') if path.endswith('.py') else original(self, path)",
    "SourceFileLoader.source_to_code": "lambda self, data, path, **k: original(self, data.replace(b'value = 2', b'value = 9'), path, **k)",
    "SourceFileLoader.get_code": "lambda self, name: compile('value = 9', 'patched', 'exec')",
    "SourceFileLoader.exec_module": "lambda self, module: module.__dict__.update(value=9)",
    "SourceFileLoader.create_module": "lambda self, spec: __import__('types').ModuleType('made')",
    "FileFinder.find_spec": "lambda self, name, target=None: None",
    "PathFinder.find_spec": "classmethod(lambda cls, name, path=None, target=None: None)",
}


@pytest.mark.parametrize("patch", PATCHES)
def test_patched_methods(any_tree, patch):
    """The patch is heeded, and counted; when it is undone the fast way comes back."""
    package(any_tree)
    program = DESCRIBE + f"""
import pkg, importlib.util
from importlib.machinery import *
owner, name = {patch.partition(".")[0]}, {patch.partition(".")[2]!r}
own = name in vars(owner)
saved = vars(owner).get(name)
original = getattr(owner, name)
setattr(owner, name, {PATCHES[patch]})
attempt(lambda: importlib.import_module('pkg.mod').value)
if own: setattr(owner, name, saved)
else: delattr(owner, name)
sys.modules.pop('pkg.mod', None)
attempt(lambda: importlib.import_module('pkg.mod').value)
"""
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    any_tree.same(program, env=env)
    counts = any_tree.run("import ladewerk\n" + program.replace("\nif own", "\nduring = ladewerk.stats()\nif own") + "\nafter = ladewerk.stats()\n"
                          "import json; print(json.dumps([during['aside']['patched'], after['aside']['patched'], after['served']['pack'] + after['served']['compiled'] "
                          "- during['served']['pack'] - during['served']['compiled']]))", env=env).json()
    assert counts[0] > 0 and counts[1] == counts[0] and counts[2] == 1


#: What somebody leaves on SourceFileLoader or a base of it, and whether it may change how modules are loaded.
ADDED = {
    "_LoaderBasics.__implemented__": ("object()", False),  # zope.interface does this to every class it is asked about
    "_LoaderBasics.__providedBy__": ("property(lambda self: 1 / 0)", False),
    "SourceLoader.__provides__": ("object()", False),
    "SourceFileLoader.__getattribute__": ("lambda self, name: object.__getattribute__(self, name)", True),
    "SourceFileLoader.exec_module": ("lambda self, module: super(type(self), self).exec_module(module)", True),
    "SourceLoader.__init__": ("object.__init__", True),
    "SourceFileLoader.path": ("property(lambda self: self.p, lambda self, p: setattr(self, 'p', p))", True),
    "ModuleSpec.origin": ("property(lambda self: self.o, lambda self, o: setattr(self, 'o', o))", True),
}


@pytest.mark.parametrize("attribute", ADDED)
def test_attributes_added_to_stock_classes(any_tree, attribute):
    package(any_tree)
    value, matters = ADDED[attribute]
    owner, name = attribute.split(".")
    program = f"""
import colorsys, importlib, _frozen_importlib_external as e, _frozen_importlib as b
owner = getattr(e, {owner!r}, None) or getattr(b, {owner!r})
own = {name!r} in vars(owner)
setattr(owner, {name!r}, {value})
import pkg.mod
print(pkg.mod.value, pkg.mod.__file__, type(pkg.mod.__loader__), pkg.mod.__spec__.origin)
"""
    any_tree.same(program)
    aside = any_tree.run(program + "import ladewerk, json; print(json.dumps(ladewerk.stats()['aside']['patched']))").json()
    assert (aside > 0) == matters


#: As a sitecustomize may do, and whether Ladewerk is right to stay out of the way.
EARLY = {
    "SourceFileLoader.get_code = lambda self, name: None": True,
    "SourceFileLoader.get_code = SourcelessFileLoader.get_code": True,
    "SourceFileLoader.__new__ = lambda cls, *a: object.__new__(cls)": True,
    "SourceFileLoader.exec_module = len": True,
    "ModuleSpec.__setattr__ = lambda self, name, value: object.__setattr__(self, name, value)": True,
    "ModuleSpec.parent = property(lambda self: '')": True,
    "PathFinder.find_spec = classmethod(lambda cls, name, path=None, target=None: None)": True,
    "import importlib._bootstrap as b; b._find_and_load = lambda name, i: None": True,
    "import importlib._bootstrap as b, functools; b._lock_unlock_module = functools.partial(b._lock_unlock_module)": False,
    "SourceFileLoader.__implemented__ = len": False,
    "pass": False,
}


@pytest.mark.parametrize("patch", EARLY)
def test_patches_from_before_our_time(tree, patch):
    code = f"""
import ladewerk, json
from importlib.machinery import *
{patch}
print(json.dumps([ladewerk.install(), ladewerk.stats()['active'], ladewerk.stats()['reason']]), flush=True)
import os
os._exit(0)
"""
    installed, active, reason = tree.run(code, ladewerk=False, env={"LADEWERK": None}).json()
    assert installed == active == (not EARLY[patch])
    assert (reason is not None) == EARLY[patch]


def test_wrapped_uninstalled_and_installed_again(tree):
    """Who wraps our functions keeps them; they lead to the stock ones, not in a circle."""
    tree.write("slow.py", "import time, __main__\n__main__.begun.set()\ntime.sleep(0.1)\n")
    assert tree.run("""
        import importlib._bootstrap as b, ladewerk, threading
        for name in ("_lock_unlock_module", "_find_and_load"):
            def wrap(*args, inner=getattr(b, name)):
                return inner(*args)
            setattr(b, name, wrap)
        ladewerk.uninstall()
        ladewerk.install()
        begun = threading.Event()
        thread = threading.Thread(target=__import__, args=("slow",))
        thread.start()
        begun.wait()
        import slow
        thread.join()
        print(slow.__name__)
        """).out == "slow\n"


def test_uninstalled_while_somebody_walks_along_meta_path(tree):
    tree.write("m.py", "value = 1\n")
    code = """
        import sys, ladewerk
        ladewerk.install()
        for finder in sys.meta_path:
            if type(finder).__name__ == "Finder":
                ladewerk.uninstall()
            spec = finder.find_spec("m", None)
            if spec:
                break
        print(spec.origin[-4:])
        """
    assert tree.run(code).out == "m.py\n"


def test_exchanged_base_class(any_tree):
    package(any_tree).same("""
from importlib.machinery import SourceFileLoader as S
import pkg
class Mixin(S.__bases__[0]):
    def exec_module(self, module):
        print('mixin executes', module.__name__); super().exec_module(module)
S.__bases__ = (Mixin,) + S.__bases__[1:]
import pkg.mod
""")


def test_patched_functions(any_tree):
    """Module-level functions of the frozen importlib."""
    package(any_tree).same(DESCRIBE + """
import importlib._bootstrap as b, importlib._bootstrap_external as e
original = e.cache_from_source
e.cache_from_source = lambda path, *a, **k: '/nowhere/patched.pyc'
import pkg; print(pkg.__spec__.cached)
e.cache_from_source = original
unlocked = b._load_unlocked
calls = []
b._load_unlocked = lambda spec: (calls.append(spec.name), unlocked(spec))[1]
import pkg.mod; print(calls)
b._load_unlocked = unlocked
import pkg.sub; print(calls, pkg.sub.__spec__.cached)
""")


def test_suffix_lists_extended(any_tree):
    any_tree.write("m.foo", "value = 1\n")
    package(any_tree).same(DESCRIBE + """
import importlib.machinery
importlib.machinery.SOURCE_SUFFIXES.append('.foo'); sys.path_importer_cache.clear()
attempt(load('m')); attempt(load('pkg.mod'))
""")


def test_import_function_replaced(any_tree):
    package(any_tree).same("""
import builtins, colorsys  # a first import: the one that activates Ladewerk
original, calls = builtins.__import__, []
builtins.__import__ = lambda name, *a, **k: (calls.append(name), original(name, *a, **k))[1]
import pkg.sub.leaf, space.portion
builtins.__import__ = original
print([name for name in calls if name not in ('_io', '')])  # the Python code of the stock loader imports, too
""")


def test_wrapping_find_and_load(any_tree):
    """Some tracers wrap importlib._bootstrap._find_and_load; ours or stock's is called then."""
    package(any_tree).same("""
import importlib._bootstrap as b, importlib
original, calls = b._find_and_load, []
b._find_and_load = lambda name, import_: (calls.append(name), original(name, import_))[1]
import pkg.mod; importlib.import_module('pkg.sub.leaf')
print(calls)
""")


# --- namespaces ---


def test_namespace_packages(any_tree):
    """PEP 420 over two entries, recomputed when the path changes; iterated, reloaded, extended."""
    any_tree.write("ns/a.py", "value = 1")
    any_tree.write("ns/deep/x.py", "")
    any_tree.write("ns/b.py", "value = 2", at=any_tree.base / "other")
    any_tree.write("ns/deep/y.py", "", at=any_tree.base / "other")
    any_tree.same(DESCRIBE + """
import ns.a, ns.deep.x, pkgutil
other = sys.path[1].replace('/tree', '/other')
describe(ns); describe(ns.deep); attempt(load('ns.b')); attempt(load('ns.deep.y'))
sys.path.append(other)
attempt(load('ns.b')); attempt(load('ns.deep.y')); show(list(ns.__path__)); show(list(ns.deep.__path__))
show([m.name for m in pkgutil.walk_packages(ns.__path__, 'ns.')])
sys.path.remove(other); sys.modules.pop('ns.b'); attempt(load('ns.b'))
ns.__path__.append(other + '/ns'); attempt(load('ns.b')); attempt(load('ns.c'))
ns.__path__ = [other + '/ns']; sys.modules.pop('ns.b'); attempt(load('ns.b'))
""")


@pytest.mark.parametrize("line", ["__path__ = __import__('pkgutil').extend_path(__path__, __name__)", "__import__('pkg_resources').declare_namespace(__name__)"])
def test_old_namespace_packages(any_tree, line):
    if "pkg_resources" in line and any_tree.run("import warnings; warnings.simplefilter('ignore'); import pkg_resources", check=False, ladewerk=False).returncode:
        pytest.skip("no pkg_resources")
    for place, name in (any_tree.root, "a"), (any_tree.base / "other", "b"):
        any_tree.write("ns/__init__.py", line + "\n", at=place)
        any_tree.write(f"ns/{name}.py", "", at=place)
    any_tree.env["PYTHONPATH"] = f"{any_tree.root}:{any_tree.base}/other"
    any_tree.same(DESCRIBE + "import warnings; warnings.simplefilter('ignore')\nimport ns.a, ns.b; describe(ns); describe(ns.b); attempt(load('ns.c'))")


def test_pth_files(any_tree):
    package(any_tree)
    site = any_tree.base / "site"
    any_tree.write("here.pth", f"{any_tree.root}/pkg\nimport sys; sys.from_pth = True\n", at=site)
    any_tree.same(f"import site, sys; site.addsitedir({str(site)!r}); import mod; print(mod.__file__, sys.from_pth)")


# --- tools that look at modules ---


def test_inspect_and_linecache(any_tree):
    package(any_tree).same("""
import inspect, linecache, pkg.mod
print(inspect.getsource(pkg.mod.Thing), inspect.getsourcefile(pkg.mod), inspect.getmodule(pkg.mod.Thing.method), linecache.getline(pkg.mod.__file__, 2))
print(inspect.getdoc(pkg), inspect.getabsfile(pkg), inspect.getsourcelines(pkg.mod.Thing.method))
""")


def test_resources(any_tree):
    package(any_tree).same("""
import importlib.resources as r, pkgutil
print(r.files('pkg').joinpath('data.txt').read_text(), sorted(p.name for p in r.files('pkg').iterdir() if p.name != '__pycache__'))
import pkg; print(r.files(pkg)); print(pkgutil.get_data('pkg', 'data.txt'))
print(r.files('space'))
with r.as_file(r.files('pkg') / 'data.txt') as p: print(p)
""")


def test_metadata_lists_each_distribution_once(any_tree):
    any_tree.write("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    any_tree.write("thing-1.0.dist-info/entry_points.txt", "[group]\nname = pkg.mod:value\n")
    package(any_tree).same("""
import importlib.metadata as m, sys
print(m.version('thing'), sorted(d.metadata['Name'] for d in m.distributions() if d.metadata['Name'] != 'ladewerk'))
print([e.load() for e in m.entry_points(group='group')])
print([hasattr(f, 'find_distributions') for f in sys.meta_path if type(f).__module__ != 'ladewerk._native'])
""")


def test_pkgutil(any_tree):
    package(any_tree).same("""
import pkgutil, sys, re
for m in pkgutil.iter_modules([sys.path[1]]): print(m)
for m in pkgutil.walk_packages([sys.path[1]]): print(m.name, m.ispkg)
import pkg
print([m.name for m in pkgutil.iter_modules(pkg.__path__, 'pkg.')], pkgutil.resolve_name('pkg.mod:Thing.method').__qualname__)
for name in 'pkg.mod', 'space': print(re.sub('0x[0-9a-f]+', '', str(pkgutil.find_loader(name) if sys.version_info < (3, 12) else pkgutil.resolve_name(name))))
""", env={"PYTHONWARNINGS": "ignore"})


@pytest.mark.parametrize("arguments", [["-m", "runme"], ["-m", "runme.other"], ["-m", "absent"], ["-m", "pkg"], ["-m", "runme.absent"]])
def test_running_modules(any_tree, arguments):
    any_tree.write("runme/__init__.py", "print('package', __name__)\n")
    any_tree.write("runme/__main__.py", "import sys\nprint(__name__, __file__, __package__, __spec__.name, __cached__, sys.argv)\nfrom . import other\n")
    any_tree.write("runme/other.py", "print(__name__)\n")
    package(any_tree).same(None, options=arguments, check=False, part=without_frozen_frames)


def test_runpy(any_tree):
    package(any_tree).same("""
import runpy, sys
print(sorted(runpy.run_module('pkg.mod')), runpy.run_module('pkg.mod', alter_sys=True, run_name='x')['__name__'])
print(sorted(runpy.run_path(sys.path[1] + '/pkg/mod.py')))
""")


def test_zipapp(any_tree):
    any_tree.write("__main__.py", "import helper, pkg.mod, sys\nprint(helper.value, helper.__file__, type(helper.__loader__), pkg.mod.value)\n", at=any_tree.base / "app")
    any_tree.write("helper.py", "value = 4\n", at=any_tree.base / "app")
    subprocess.run([sys.executable, "-m", "zipapp", any_tree.base / "app", "-o", any_tree.base / "app.pyz"], check=True)
    package(any_tree).same(None, any_tree.base / "app.pyz")


def test_pickle(any_tree):
    package(any_tree).same("""
import pickle, copy, pkg.mod
thing = pickle.loads(pickle.dumps(pkg.mod.Thing()))
print(type(thing) is pkg.mod.Thing, thing.method(), pickle.loads(pickle.dumps(pkg.mod.Thing)) is pkg.mod.Thing, copy.deepcopy(thing).method())
""")
    any_tree.same("import pickle; print(pickle.loads(b'cpkg.mod\\nThing\\n.'))")


def test_coverage(tree):
    """The same lines, from packed code as well."""
    pytest.importorskip("coverage")
    package(tree)
    script = tree.write("script.py", "import pkg.mod, pkg.sub.leaf\nif pkg.mod.value == 3:\n    print('never')\npkg.mod.Thing().method()\n", at=tree.base)
    seen = []
    for ladewerk in False, True, True, True:
        settle()
        tree.run(None, options=["-m", "coverage", "run", f"--data-file={tree.base}/data", f"--source={tree.base}", script], ladewerk=ladewerk)
        tree.run(None, options=["-m", "coverage", "json", f"--data-file={tree.base}/data", "-o", tree.base / "report.json"], ladewerk=False)
        report = json.loads((tree.base / "report.json").read_text())
        seen.append({name: entry["executed_lines"] for name, entry in report["files"].items()})
    assert len(seen[0]) >= 5 and all(other == seen[0] for other in seen[1:])


def test_pytest_rewrites_assertions(tree):
    """Its finder goes first, and explains what failed."""
    tree.write("test_it.py", "import pkg.mod\ndef test_it():\n    assert pkg.mod.value == 3\n", at=tree.work)
    tree.write("plugin.py", "import pytest\npytest.register_assert_rewrite('pkg.mod')\n")
    package(tree)
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "plugin", "--no-header"]
    for ladewerk in False, True, True:
        result = tree.run(None, options=arguments, ladewerk=ladewerk, check=False)
        assert result.returncode == 1 and "assert 2 == 3" in result.out and "where 2 = " in result.out, result.out + result.err
        settle()


def test_doctest_and_unittest(tree):
    package(tree)
    tree.write("documented.py", "'''\n>>> 1 + 1\n3\n'''\n")
    tree.same(None, options=["-m", "doctest", tree.root / "documented.py"], check=False)
    tree.write("test_u.py", "import unittest, pkg.mod\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(pkg.mod.value, 3)\n")
    tree.same(None, options=["-m", "unittest", "test_u"], check=False, part=lambda r: (r.returncode, re.sub(r"in [0-9.]+s", "", r.err)))


# --- options of the interpreter ---


def test_importtime(tree):
    """The same modules in the same order."""
    package(tree)
    names = lambda result: [line.rpartition("|")[2].strip() for line in result.err.splitlines() if line.startswith("import time:") and "ladewerk" not in line]
    result = tree.same("import pkg.sub.leaf, space.portion, colorsys", options=["-X", "importtime"], part=lambda r: [n for n in names(r) if n.startswith(("pkg", "space", "colorsys"))])
    assert "pkg.sub.leaf" in names(result)


def test_verbose_steps_aside(tree):
    package(tree)
    result = tree.run("import pkg.mod" + STATS, options=["-v"])
    assert not result.json()["active"] and "-v" in result.json()["reason"]
    assert re.search(r"import 'pkg.mod' #", result.err)


def test_audit_events(any_tree):
    """import and exec as under stock; compile where something is compiled."""
    package(any_tree)
    program = """
import sys, types
events = []
def hook(name, args):
    if name == 'import': events.append([name, args[0]])
    if name == 'exec' and isinstance(args[0], types.CodeType): events.append([name, args[0].co_filename])
sys.addaudithook(hook)
import pkg.sub.leaf, pkg.mod, space.portion
try: import pkg.absent
except ImportError: pass
for event in events: print(event)
"""
    out = any_tree.same(program).out
    assert "'import', 'pkg.sub.leaf'" in out and out.count("'exec'") == 6


def test_audit_hook_that_refuses(tree):
    """An exception from the hook ends the import as under stock."""
    package(tree).same(DESCRIBE + """
def hook(name, args):
    if name == 'import' and args[0] == 'pkg.mod': raise RuntimeError('refused')
    if name == 'exec' and getattr(args[0], 'co_filename', '').endswith('sibling.py'): raise RuntimeError('not executed')
sys.addaudithook(hook)
attempt(load('pkg.mod'))
try: import pkg.mod
except RuntimeError as error: print(error)
attempt(load('pkg.sub.sibling')); print('pkg.sub.sibling' in sys.modules)
""")


def test_optimization_levels_have_their_own_code(tree):
    tree.write("m.py", "'''doc'''\ndef f(): 'doc'\nasserted = False\ntry:\n    assert False\nexcept AssertionError:\n    asserted = True\n")
    settle()
    for _ in range(3):
        for options, expected in ([], "True doc doc"), (["-O"], "False doc doc"), (["-OO"], "False None None"):
            assert tree.run("import m; print(m.asserted, m.__doc__, m.f.__doc__)", options=options).out == expected + "\n"
        settle()


def test_positions_option_has_its_own_code(tree):
    package(tree)
    program = "import pkg.mod; print(len(set(pkg.mod.Thing.method.__code__.co_positions())) > 1 and next(pkg.mod.Thing.method.__code__.co_positions())[2] is not None)"
    settle()
    for _ in range(3):
        assert tree.run(program, env={"PYTHONDONTWRITEBYTECODE": "1"}).out == "True\n"
        assert tree.run(program, options=["-X", "no_debug_ranges"], env={"PYTHONDONTWRITEBYTECODE": "1"}).out == "False\n"
        settle()


def written(tree):
    return sorted(str(path.relative_to(tree.base)) for path in tree.base.rglob("*.pyc"))


@pytest.mark.parametrize("how", ["option", "variable", "run time"])
def test_dont_write_bytecode(tree, how):
    package(tree)
    tree.run("import pkg.mod" if how != "run time" else "import sys; sys.dont_write_bytecode = True\nimport pkg.mod",
             options=["-B"] if how == "option" else [], env={"PYTHONDONTWRITEBYTECODE": "1" if how == "variable" else None})
    assert written(tree) == []
    tree.run("import pkg.mod", ladewerk=False)  # control
    assert len(written(tree)) == 2


def test_bytecode_is_written_as_by_stock(tmp_path):
    """The same files with the same content."""
    trees = []
    for name, ladewerk in ("a", False), ("b", True):
        tree = package(Tree(tmp_path / name / "x"))
        for path in tree.root.rglob("*.py"):
            os.utime(path, (1_500_000_000, 1_500_000_000))
        tree.run("import pkg.sub.leaf", ladewerk=ladewerk)
        trees.append(tree)
    assert written(trees[0]) == written(trees[1]) != []
    for name in written(trees[0]):
        one, other = ((tree.base / name).read_bytes() for tree in trees)
        assert one[:16] == other[:16]
        assert one.replace(b"/a/", b"/b/") == other


def test_pycache_prefix(tree):
    package(tree).same(DESCRIBE + "import pkg.mod; describe(pkg.mod); sys.pycache_prefix = '/elsewhere'\nimport pkg.sub; describe(pkg.sub)\nsys.pycache_prefix = None\nimport space.portion; describe(space.portion)",
                       env={"PYTHONPYCACHEPREFIX": tree.base / "prefix"})
    assert not list(tree.root.rglob("mod*.pyc")) and list((tree.base / "prefix").rglob("mod*.pyc"))


def test_pycache_prefix_changed_by_the_program(any_tree):
    """Where the program has moved its bytecode there is none yet: the module is compiled, with the warnings of that."""
    any_tree.write("m.py", "value = 1 is 1\n")
    any_tree.same("""
import os, shutil, sys
print(os.path.exists('moved'))
sys.pycache_prefix = os.path.abspath('moved')
import m; print(m.__spec__.cached, os.path.exists(m.__spec__.cached))
shutil.rmtree('moved')
""")
    assert "SyntaxWarning" in any_tree.run("import sys; sys.pycache_prefix = 'moved'; sys.dont_write_bytecode = True; import m").err


def test_cache_tag_none(tree):
    package(tree).same(DESCRIBE + "sys.implementation.cache_tag = None\nimport pkg.mod; describe(pkg.mod)")


def test_no_room_for_bytecode(any_tree):
    """A read-only tree: here __pycache__ is a file."""
    package(any_tree)
    any_tree.write("pkg/__pycache__", "no directory")
    any_tree.same(DESCRIBE + "import pkg.mod; describe(pkg.mod)")
    assert any_tree.run("import pkg.mod" + STATS).json()["served"]["pack"] >= 2


@pytest.mark.parametrize("mode", ["checked-hash", "unchecked-hash"])
@pytest.mark.parametrize("option", [None, "always", "never"])
def test_hash_based_bytecode(tree, mode, option):
    """Flags in the file and the option decide, as under stock: an unchecked one is served though the source has changed."""
    tree.write("m.py", "value = 'old'\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "--invalidation-mode", mode, tree.root], check=True, env=environment())
    options = ["--check-hash-based-pycs", option] if option else []
    program = "import m; print(m.value)"
    tree.same(program, options=options)
    tree.write("m.py", "value = 'new'\n")
    tree.write("m2.py", "")
    pyc = next(tree.root.rglob("m.*.pyc"))
    content = pyc.read_bytes()
    settle()
    for ladewerk in False, True, True, True:
        pyc.write_bytes(content)
        expected = "old" if option == "never" or (mode == "unchecked-hash" and option != "always") else "new"
        assert tree.run(program, options=options, ladewerk=ladewerk).out == expected + "\n"
        settle()


def test_source_date_epoch(tree):
    """Tools write hash-based files then; the interpreter itself does not care."""
    tree.write("m.py", "value = 1\n")
    env = {"SOURCE_DATE_EPOCH": "1000000000"}
    tree.run(None, options=["-m", "py_compile", tree.root / "m.py"], env=env)
    tree.same("import m; print(m.value, open(m.__spec__.cached, 'rb').read(8))", env=env)
    tree.write("m.py", "value = 2\n")
    tree.same("import m; print(m.value)", env=env)


@pytest.mark.parametrize("options", [["-I"], ["-E"], ["-s"], ["-P"], ["-S"], ["-b"], ["-X", "dev"], ["-X", "frozen_modules=off"], ["-X", "utf8"], ["-W", "error"]])
def test_interpreter_options(tree, options):
    package(tree).same(DESCRIBE + f"sys.path.insert(0, {str(tree.root)!r})\nimport pkg.sub.leaf, space.portion, json; describe(pkg.sub.leaf); print([n for n in sys.modules if 'pkg' in n])",
                       options=options)


# --- threads, forks, interpreters ---

THREADS = DESCRIBE + """
import threading
def together(*names, times=1):
    barrier, results = threading.Barrier(len(names) * times), []
    def one(name):
        barrier.wait()
        def again():
            try: return importlib.import_module(name)
            except RuntimeError as error:  # package and submodule at once: stock may raise it as well, most often where there is no GIL
                if type(error).__name__ != '_DeadlockError': raise
                return again()
        try: module = again(); results.append((name, module is sys.modules[name], sorted(k for k in vars(module) if k[0] != '_')))
        except BaseException as error: results.append((name, type(error).__name__, str(error)))
    threads = [threading.Thread(target=one, args=(name,)) for name in names for _ in range(times)]
    for t in threads: t.start()
    for t in threads: t.join()
    return sorted(results, key=str)
def forget(*names):
    for name in list(sys.modules):
        if name.partition('.')[0] in names: del sys.modules[name]
"""


def test_threads_import_the_same_module(any_tree):
    """It runs once, and nobody sees half of it."""
    any_tree.write("slow.py", "import time, sys\nsys.runs = getattr(sys, 'runs', 0) + 1\nfirst = 1\ntime.sleep(0.01)\nlast = 2\n")
    any_tree.write("p/__init__.py", "import time\ntime.sleep(0.005)\nfrom . import slow\n")
    any_tree.write("p/slow.py", "import time\ntime.sleep(0.005)\nlast = 1\n")
    any_tree.same(THREADS + """
for _ in range(5):
    print(together('slow', times=8), sys.runs, together('p', 'p.slow', times=4)); forget('slow', 'p')
""")


def test_threads_import_different_modules(any_tree):
    for i in range(40):
        any_tree.write(f"m{i}.py", f"import base, m{i * 7 % 40 if i * 7 % 40 < i else i // 2}\nvalue = {i}\n" if i else "import base\n")
    any_tree.write("base.py", "value = 0\n")
    any_tree.same(THREADS + "for _ in range(10):\n    results = together(*[f'm{i}' for i in range(40)]); print(len(results), [r for r in results if r[1] is not True]); forget('base', *[f'm{i}' for i in range(40)])")


@pytest.mark.parametrize("style", ["import {}", "from {} import value"])
def test_threads_import_a_cycle(any_tree, style):
    """a imports b, b imports a, from two threads: it ends, with the messages of stock."""
    any_tree.write("a.py", f"import time\nvalue = 1\ntime.sleep(0.002)\n{style.format('b')}\n")
    any_tree.write("b.py", f"import time\nvalue = 2\ntime.sleep(0.002)\n{style.format('a')}\n")
    any_tree.same(THREADS + "for _ in range(20):\n    print([r[:2] for r in together('a', 'b', times=2)]); forget('a', 'b')")


def test_failing_import_in_threads(any_tree):
    any_tree.write("bad.py", "import time\ntime.sleep(0.01)\nraise ValueError('bad')\n")
    any_tree.same(THREADS + "print(together('bad', 'absent', times=6), 'bad' in sys.modules)")


def test_fork_during_import(any_tree):
    """The child of a module body, and the child of another thread while a module is being imported."""
    package(any_tree)
    any_tree.write("forks.py", """
        import os
        pid = os.fork()
        import pkg.mod
        if pid == 0:
            try:
                import pkg.sub.leaf
                os._exit(7)
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """)
    any_tree.write("slow.py", "import time\ntime.sleep(0.05)\n")
    any_tree.same(THREADS + """
import forks, os
print(forks.pid > 0)
thread = threading.Thread(target=load('slow')); thread.start()
import time; time.sleep(0.01)
pid = os.fork()
if pid == 0:
    try:
        import space.portion
        os._exit(8)
    finally: os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); thread.join()
""", options=["-W", "ignore"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tree, method):
    package(tree)
    script = tree.write("script.py", f"""
        import multiprocessing as mp
        def work(name):
            import importlib
            return importlib.import_module(name).__name__
        if __name__ == '__main__':
            with mp.get_context('{method}').Pool(2) as pool:
                print(pool.map(work, ['pkg.mod', 'pkg.sub.leaf', 'space.portion', 'colorsys']))
    """, at=tree.base)
    tree.same(None, script)


def test_subinterpreters(any_tree):
    """Each has its own finder; all share the cache."""
    package(any_tree)
    any_tree.same(f"""
try: import _interpreters as i
except ImportError: import _xxsubinterpreters as i
import pkg.mod
code = '''import sys; sys.path.append({str(any_tree.root)!r})
import pkg.mod, pkg.sub.leaf, space.portion, json
assert type(pkg.mod.__loader__).__name__ == 'SourceFileLoader' and pkg.mod.value == 2
try: import absent
except ImportError: print('done', flush=True)
'''
ids = [i.create() for _ in range(3)]
for n in ids:
    for _ in range(2): i.run_string(n, code)
for n in ids: i.destroy(n)
import pkg.sub.leaf; print(pkg.sub.leaf.value)
""")


def test_import_from_del_signal_and_trace(any_tree):
    """In the middle of our own code, too."""
    package(any_tree)
    for i in range(60):
        any_tree.write(f"m{i}.py", f"value = {i}\n")
    any_tree.same("""
import gc, signal, sys, importlib
gc.set_threshold(1)
def load(name):
    while True:
        try: return importlib.import_module(name)
        except KeyError: pass  # some versions forget that a thread may wait for two locks
class Cycle:
    def __init__(self, n): self.me, self.n = self, n
    def __del__(self): load(f'm{self.n % 20}')
count = 0
def handler(*args):
    global count
    count += 1
    load(f'm{20 + count % 20}')
signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
def trace(frame, event, arg):
    if frame.f_code.co_filename.endswith('m45.py'): load('m55')
sys.settrace(trace)
for round in range(15):
    for n in range(60):
        Cycle(n)
        assert load(f'm{n}').value == n
    for n in range(60): sys.modules.pop(f'm{n}', None)
signal.setitimer(signal.ITIMER_REAL, 0); sys.settrace(None); gc.set_threshold(700)
gc.collect(); import pkg.sub.leaf; print('m55' in sys.modules, pkg.sub.leaf.value)
""", part=lambda r: (r.returncode, r.out))


def test_import_at_shutdown(any_tree):
    """From atexit, from __del__ of what dies last, from a daemon thread."""
    package(any_tree).same("""
import atexit, sys, threading, time
atexit.register(lambda: print(__import__('pkg.mod').mod.value))
class Last:
    def __del__(self):
        try: import space.portion; print('imported')
        except BaseException as error: print('no')
sys.last = Last()
def forever():
    while True:
        sys.modules.pop('colorsys', None); import colorsys
threading.Thread(target=forever, daemon=True).start(); time.sleep(0.02)
""", part=lambda r: (r.returncode, r.out.split("\n")[0]))


def test_interrupt_while_the_lock_is_released(any_tree):
    """The import was another thread's; ours waited, and is interrupted as it lets go."""
    any_tree.write("slow.py", "import time\ntime.sleep(0.3)\n")
    any_tree.same("""
import sys, threading, time
class Slow:
    def find_spec(name, path=None, target=None):
        if name == 'slow': time.sleep(0.3)
sys.meta_path.insert(0, Slow)
def tracer(frame, event, arg):
    if event == 'call' and frame.f_code.co_name == 'release' and 'importlib' in frame.f_code.co_filename:
        sys.settrace(None)
        raise KeyboardInterrupt
def first():
    import slow
def second():
    time.sleep(0.1); sys.settrace(tracer)
    try: import slow
    except BaseException as error: print(type(error))
    finally: sys.settrace(None)
threads = [threading.Thread(target=f, daemon=True) for f in (first, second)]
for thread in threads: thread.start()
for thread in threads: thread.join(5)
print('end', flush=True)
import os; os._exit(0)
""")


# --- install and uninstall ---

INSTALL = """
import sys, importlib, importlib._bootstrap as b, types
before = sys.meta_path[:], sys.path_hooks[:], b._find_and_load
"""


def test_uninstall_restores_everything(tree):
    package(tree)
    out = tree.run(INSTALL + """
import ladewerk
assert not ladewerk.stats()['active']
for _ in range(3):
    assert ladewerk.install() is True and ladewerk.stats()['active']
    assert len(sys.meta_path) == len(before[0]) + 1 and b._find_and_load is not before[2]
    import pkg.mod
    ladewerk.uninstall()
    assert (sys.meta_path, sys.path_hooks, b._find_and_load) == before and not ladewerk.stats()['active']
    del sys.modules['pkg.mod']
    import pkg.mod, pkg.sub.leaf
    assert isinstance(b._find_and_load, types.FunctionType)
ladewerk.uninstall()
print('done')
""", ladewerk=False, env={"LADEWERK": None})
    assert out.out == "done\n"


def test_install_is_idempotent(tree):
    out = tree.run(INSTALL + """
import ladewerk
replaced = b._find_and_load
for freshness in 'stat', 'frozen', None:
    assert ladewerk.install(freshness=freshness) and b._find_and_load is replaced
    assert sum(type(f).__module__ == 'ladewerk._native' for f in sys.meta_path) == 1
    assert ladewerk.stats()['freshness'] == (freshness or 'stat')
for wrong in 'watched', '':
    try: ladewerk.install(freshness=wrong); print('accepted', wrong)
    except ValueError: pass
print('done')
""")
    assert out.out == "done\n"


def test_uninstall_in_the_middle_of_an_import(tree):
    tree.write("m.py", "import ladewerk; ladewerk.uninstall(); import colorsys\nvalue = 1\n")
    tree.write("n.py", "import ladewerk; ladewerk.install(); import wave, colorsys\nvalue = 1\n")
    assert tree.run("import m, n; print(m.value, n.value); import ladewerk; print(ladewerk.stats()['active'])", options=["-W", "ignore"]).out == "1 1\nTrue\n"


def test_bad_arguments(tree):
    """Said, not ignored; what is active stays so."""
    out = tree.run("""
import ladewerk
for arguments in {'freshness': 5}, {'freshness': 'never'}, {'cache': 'a\\0b'}, {'cache': b'x'}, {'cache': '/elsewhere'}, {'unknown': 1}:
    try: print(ladewerk.install(**arguments))
    except Exception as error: print(type(error).__name__, error)
print(ladewerk.install(cache=%r), ladewerk.stats()['active'])
""" % str(tree.cache)).out.splitlines()
    assert [line.split()[0] for line in out] == ["TypeError", "ValueError", "ValueError", "TypeError", "ValueError", "TypeError", "True"]
    assert str(tree.cache) in out[4] and out[-1] == "True True"


def test_install_again_and_again_leaks_nothing(tree):
    assert tree.run("""
import gc, ladewerk, sys
def cycle():
    ladewerk.uninstall(); ladewerk.install()
for _ in range(10): cycle()
import importlib._bootstrap as b
gc.collect(); before = len(gc.get_objects()); references = sys.getrefcount(ladewerk._native)
for _ in range(500): cycle()
gc.collect(); print(len(gc.get_objects()) - before < 20, sys.getrefcount(ladewerk._native) - references < 20)
""").out == "True True\n"


def test_kill_switch(tree):
    assert tree.run("import json, sys; print('ladewerk._native' in sys.modules)", env={"LADEWERK": "0"}).out == "False\n"
    assert tree.run("import ladewerk; print(ladewerk.install(), ladewerk.stats()['active'])", env={"LADEWERK": "0"}).out == "False False\n"
