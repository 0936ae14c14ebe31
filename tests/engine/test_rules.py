# SPDX-License-Identifier: MIT
"""deny() and allow(): no way of asking for a module by its name goes past a rule. The control of each: without the rule it gets the module."""

import contextlib
import sys
import threading

import pytest

import ladewerk
from ladewerk._engine import _rules

# Each is the body of a function in module `guest`, which may not have `forbidden` and all below it, and `pkg.hidden`.
WAYS = {
    "import": "import forbidden; return forbidden",
    "import as": "import forbidden as other; return other",
    "from import": "from forbidden import SECRET; return SECRET",
    "star": "space = {}; exec('from forbidden import *', globals(), space); return space['SECRET']",
    "submodule": "import forbidden.below; return forbidden.below",
    "__import__": "return __import__('forbidden')",
    "builtins.__import__": "import builtins; return builtins.__import__('forbidden', {}, {}, ['SECRET'], 0)",
    "import_module": "import importlib; return importlib.import_module('forbidden')",
    "import_module of a submodule": "import importlib; return importlib.import_module('.below', 'forbidden')",
    "importlib.__import__": "import importlib; return importlib.__import__('forbidden')",
    "bootstrap": "import importlib._bootstrap as b; return b._gcd_import('forbidden')",
    "bootstrap, found and loaded": "import importlib._bootstrap as b; return b._find_and_load('forbidden', b._gcd_import)",
    "find_spec": "import importlib.util as u; return u.module_from_spec(u.find_spec('forbidden.below'))",
    "find_spec of what is there": "import importlib.util as u; return u.find_spec('forbidden')",
    "bootstrap._find_spec": "import importlib._bootstrap as b; return b._find_spec('forbidden', None)",
    "a spec of one's own": "import importlib.util as u, host; s = u.spec_from_file_location('forbidden', host.FILE); return u.module_from_spec(s)",
    "sys.modules": "import host, sys; return sys.modules['forbidden']",
    "sys.modules.get": "import host, sys; return sys.modules.get('forbidden')",
    "sys.modules.pop": "import host, sys; return sys.modules.pop('forbidden')",
    "sys.modules.setdefault": "import host, sys; return sys.modules.setdefault('forbidden')",
    "sys.modules.items": "import host, sys; return dict(list(sys.modules.items()))['forbidden']",
    "sys.modules.values": "import host, sys; return [m for m in sys.modules.values() if m.__name__ == 'forbidden'][0]",
    "sys.modules.copy": "import host, sys; return sys.modules.copy()['forbidden']",
    "dict(sys.modules)": "import host, sys; return dict(sys.modules)['forbidden']",
    "{**sys.modules}": "import host, sys; return {**sys.modules}['forbidden']",
    "sys.modules | {}": "import host, sys; return (sys.modules | {})['forbidden']",
    "{} | sys.modules": "import host, sys; return ({} | sys.modules)['forbidden']",
    "dict.get": "import host, sys; return dict.__getitem__(sys.modules, 'forbidden')",
    "dict.values": "import host, sys; return [m for m in dict.values(sys.modules) if m.__name__ == 'forbidden'][0]",
    "sys.modules replaced": "import host, sys, importlib; sys.modules = {}; return importlib.import_module('forbidden')",
    "engine.modules": "import host; return __builtins__['__ladewerk_engine__'].modules['forbidden']",
    "relative": "from pkg.inner import relative; return relative()",
    "attribute of a package": "import pkg; return pkg.hidden",
    "attribute of a package, often": "import host, pkg; return host.often(lambda: pkg.hidden)",
    "from a package": "from pkg import hidden; return hidden",
    "dotted": "import pkg.hidden; return pkg.hidden",
    "getattr": "import pkg; return getattr(pkg, 'hidden')",
    "exec": "space = {}; exec('import forbidden', space); return space['forbidden']",
    "exec under another's name": "space = {'__name__': 'host'}; exec('import forbidden', space); return space['forbidden']",
    "exec in another's namespace": "import host; exec('import forbidden as found', vars(host)); return host.found",
    "eval in another's namespace": "import host; return eval('__import__(\"forbidden\")', vars(host))",
    "exec in the machinery's namespace": "import importlib._bootstrap as b; return eval('sys.modules[\"forbidden\"]', vars(b))",
    "exec with other builtins": "space = {'__builtins__': {**__builtins__}}; exec('import forbidden', space); return space['forbidden']",
    "exec with other builtins and a name": "space = {'__builtins__': dict(__builtins__), '__name__': 'host', '__spec__': None}; exec('import forbidden', space); return space['forbidden']",
    "a module of one's own making": "import sys, types; m = sys.modules['made'] = types.ModuleType('made'); exec('import forbidden', vars(m)); return m.forbidden",
    "a function of one's own making": "import types; return types.FunctionType(compile('lambda: __import__(\"forbidden\")', 'x', 'eval').co_consts[0], {'__builtins__': __builtins__})()",
    "pkgutil": "import pkgutil; return pkgutil.resolve_name('forbidden:SECRET')",
    "pkgutil.iter_modules": "import host, importlib.util as u, pkgutil; return u.module_from_spec([f for f, n, _ in pkgutil.iter_modules(host.PATH) if n == 'forbidden'][0].find_spec('forbidden'))",
    "runpy": "import runpy; return runpy.run_module('forbidden.below')['__name__']",
    "runpy under another's name": "import host, runpy; return runpy.run_path(host.IMPORTS, run_name='host')['forbidden']",
    "reload": "import host, importlib; return importlib.reload(host.forbidden)",
    "pickle": "import pickle; return pickle.loads(b'cforbidden\\nSECRET\\n.')",
    "pickle in Python": "import pickle; return pickle._loads(b'cforbidden\\nSECRET\\n.')",
    "generator": "return next(__import__(n) for n in ['forbidden'])",
    "map": "return list(map(__import__, ['forbidden']))[0]",
    "class body": "class Body:\n        import forbidden\n    return Body.forbidden",
}

if sys.version_info < (3, 15):
    WAYS["load_module of a loader"] = (
        "import host, warnings\n    with warnings.catch_warnings():\n        warnings.simplefilter('ignore')\n        return type(host.__loader__)('forbidden', host.FILE).load_module('forbidden')")

SPOIL = {"sys.modules.pop", "sys.modules replaced", "sys.modules.setdefault", "runpy under another's name", "load_module of a loader"}
NOT_THERE = ["import", "from import", "__import__", "import_module", "find_spec", "bootstrap._find_spec", "pkgutil", "exec", "runpy"]


@pytest.fixture(scope="module", autouse=True, params=["stock", "fast"])
def way_of_importing(request):
    """By the engine's copy of importlib, or from the cache."""
    active = ladewerk.stats()["active"]
    if request.param == "stock":
        ladewerk.uninstall()
    elif not ladewerk.install():
        pytest.skip(ladewerk.stats()["reason"])
    yield
    (ladewerk.install if active else ladewerk.uninstall)()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("rules")
    sources = {
        "forbidden/__init__.py": "SECRET = 'secret'\n",
        "forbidden/below.py": "",
        "host.py": f"import forbidden\nPATH = [{str(root)!r}]\nFILE = {str(root / 'forbidden/__init__.py')!r}\nIMPORTS = {str(root / 'imports.txt')!r}\n"
                   "def give():\n    import forbidden\n    return forbidden\n"
                   "def often(function):\n    for _ in range(100):\n        try:\n            found = function()\n        except ImportError as error:\n            found = error\n"
                   "    if isinstance(found, Exception):\n        raise found\n    return found\n",
        "imports.txt": "import forbidden\n",
        "pkg/__init__.py": "from . import hidden, open\n",
        "pkg/hidden.py": "", "pkg/open.py": "",
        "pkg/inner.py": "def relative():\n    from . import hidden\n    return hidden\n",
        "guest.py": "".join(f"def way{number}():\n    {body}\n\n" for number, body in enumerate(WAYS.values())),
    }
    for name, source in sources.items():
        file = root / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    return str(root)


class Ruled(ladewerk.ImportEngine):
    def allow(self, name, importer):
        return not (importer in ("guest", "pkg.inner") and (name == "pkg.hidden" or name.partition(".")[0] == "forbidden"))


def by_deny(path):
    engine = ladewerk.ImportEngine(path=path)
    engine.deny("forbidden", "pkg.hidden", importers=["guest", "pkg.inner"], because="it is a guest")
    return engine


def by_deny_later(path):
    """The modules are there when the rule comes."""
    engine = ladewerk.ImportEngine(path=path)
    for name in ("importlib.util", "forbidden.below", "pkg", "host", "guest"):
        engine.import_module(name)
    engine.deny("forbidden", "pkg.hidden", importers=["guest", "pkg.inner"], because="it is a guest")
    return engine


RULES = {"allow": lambda path: Ruled(path=path), "deny": by_deny, "deny, later": by_deny_later}


def denied(error):
    """runpy has an ImportError of its own."""
    return error if isinstance(error, ladewerk.ImportDenied) else error.__cause__


def way(engine, name):
    return getattr(engine.import_module("guest"), f"way{list(WAYS).index(name)}")


@pytest.mark.parametrize("name", WAYS)
def test_control_without_a_rule(tree, name):
    engine = ladewerk.ImportEngine(path=[tree, *sys.path])
    engine.import_module("host")
    assert way(engine, name)() is not None
    engine.close()


@pytest.mark.parametrize("rule", RULES)
def test_no_way_goes_past_the_rule(tree, rule):
    """In an engine in which `host` may have what `guest` may not, and has it."""
    past, engine = [], None
    for name in WAYS:
        if engine is None:
            engine = RULES[rule]([tree, *sys.path])
            engine.import_module("host")
        try:
            past.append((name, way(engine, name)()))
        except ImportError as raised:
            error = denied(raised)
            assert error.importer in ("guest", "pkg.inner") and error.name.startswith(("forbidden", "pkg")), name
        except (KeyError, IndexError):  # it is left out
            assert "modules" in name or name.startswith("dict."), name
        if name in SPOIL:
            engine.close()
            engine = None
    assert past == []


@pytest.mark.parametrize("name", NOT_THERE)
def test_modules_that_are_not_there_yet(tree, name):
    engine = by_deny([tree, *sys.path])
    with pytest.raises(ImportError) as raised:
        way(engine, name)()
    assert denied(raised.value).importer == "guest"
    assert "forbidden" not in engine.modules
    engine.close()


def test_the_error_names_the_rule_and_the_importer(tree):
    for engine, rule in ((by_deny([tree]), "deny('forbidden', 'pkg.hidden', importers=('guest', 'pkg.inner')): it is a guest"), (Ruled(path=[tree], name="mine"), "Ruled.allow()")):
        with pytest.raises(ImportError) as raised:
            way(engine, "import")()
        assert rule in str(raised.value) and str(raised.value).startswith("guest may not import forbidden, says ") and repr(engine) in str(raised.value)
        assert not isinstance(raised.value, ModuleNotFoundError)


def test_others_may(tree):
    engine = by_deny([tree])
    assert engine.import_module("host").give() is engine.import_module("forbidden")
    assert engine.import_module("pkg").hidden is engine.modules["pkg.hidden"]
    assert engine.import_module("pkg").open.__name__ == "pkg.open"
    with pytest.raises(AttributeError):
        engine.import_module("pkg").nothing
    engine.import_module("pkg").hidden = 5
    assert engine.import_module("pkg").hidden == 5
    engine.close()


def test_what_is_called_by_a_guest_may_have_what_it_needs(tree):
    engine = by_deny([tree])
    guest = engine.import_module("guest")
    host = engine.import_module("host")
    guest.give = host.give
    exec("def ask():\n    return give()", vars(guest))
    assert guest.ask() is engine.modules["forbidden"]
    engine.close()


def test_everybody(tree):
    engine = ladewerk.ImportEngine(path=[tree])
    engine.deny("forbidden.*")
    assert engine.import_module("forbidden").SECRET
    with pytest.raises(ladewerk.ImportDenied):
        engine.import_module("forbidden.below")
    with engine, pytest.raises(ladewerk.ImportDenied):
        import forbidden.below  # noqa: F401
    engine.close()


def test_the_process_has_no_rules(tree, monkeypatch):
    engine = by_deny([tree])
    monkeypatch.syspath_prepend(tree)
    import pkg
    assert type(pkg) is type(sys) and pkg.hidden
    engine.import_module("pkg")
    assert type(pkg) is type(sys)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pkg", "forbidden")]:
        del sys.modules[name]
    engine.close()


@pytest.mark.parametrize("lock", [threading.RLock(), contextlib.nullcontext()], ids=["", "control"])
def test_rules_that_two_threads_add_at_once(lock, monkeypatch):
    """Both hold. The other thread comes while the first is putting the first rule in; in the control it does not wait."""
    engine, came, turns = ladewerk.ImportEngine(), threading.Event(), not isinstance(lock, contextlib.nullcontext)
    other = threading.Thread(target=engine.deny, args=("colorsys",))
    activate = _rules.activate

    class Seen:
        def __enter__(self):
            if threading.current_thread() is other:
                came.set()
            lock.__enter__()

        def __exit__(self, *error):
            lock.__exit__(*error)

    def interrupted(*args):
        if threading.current_thread() is not other:
            other.start()
            assert came.wait(60)
            if not turns:
                other.join(60)
        return activate(*args)

    monkeypatch.setattr(_rules, "_adding", Seen())
    monkeypatch.setattr(_rules, "activate", interrupted)
    engine.deny("this")
    other.join(60)
    monkeypatch.undo()
    copy = ladewerk.ImportEngine.from_engine(engine)

    def holds(name):
        with contextlib.suppress(ladewerk.ImportDenied):
            copy.import_module(name)
            return False
        return True

    assert holds("this") and holds("colorsys") == turns
