# SPDX-License-Identifier: MIT
"""Submodules as attributes of their package, for who has not imported them: what statements of others that wait would have loaded by now."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import whose

#: As pygments is: `formatter` is an attribute of the package because a module beside it imports it, in the midst of other things.
PACKAGE = {
    "package/__init__.py": "",
    "package/formatter.py": "class Formatter: pass\n",
    "package/formats/__init__.py": "",
    "package/formats/terminal.py": "from package.formatter import Formatter\nclass Terminal(Formatter): pass\n",
    "package/aside.py": "",
}


@whose.ours
@pytest.mark.parametrize("mode", ["default", "all"])
def test_an_import_of_another_package_leads_there(lazily, alike, mode):
    files = {**PACKAGE, "user.py": "import package\nfrom package.formats.terminal import Terminal\ndef use(): return package.formatter.Formatter\ndef other(): return Terminal\n"}
    lazily(files, """
        import user
        assert not loaded("package", "package.formatter") and "Terminal" not in bound("user")
        assert user.use().__name__ == "Formatter" and loaded("package.formats.terminal")
        assert user.other().__mro__[1] is user.use()
    """, mode=mode)
    alike(files, "import user\nprint(user.use())\n", modes=(mode,))


def test_what_leads_elsewhere_goes_on_waiting(lazily):
    """Another name of the same module, and what no import would have loaded."""
    lazily({**PACKAGE, "bystander.py": "", "user.py": "import package, package.formats.terminal as terminal\nimport bystander\ndef use(): return package\ndef others(): return bystander, terminal\n"}, """
        import user
        package = user.use()
        assert not hasattr(package, "aside") and not hasattr(package, "nosuch") and not loaded("package.aside", "bystander")
        assert "bystander" not in bound("user")
    """)


def test_without_such_an_import_there_is_no_attribute(alike):
    """The control: the submodule is there, and nobody imports what would have loaded it."""
    alike({**PACKAGE, "user.py": "import package\ndef use(): return package.formatter\n"}, """
        import user
        try:
            user.use()
        except AttributeError as error:
            print(error)
    """, modes=("default", "all"))


#: A module of the package asks, while it is initialised, for another one, which statements elsewhere wait for.
HALF = {
    "half/__init__.py": "",
    "half/core.py": "import half\nHAS = hasattr(half, 'page')\n",
    "half/page.py": "",
    "half/parts.py": "",
    "half/inner.py": "from half import parts\nimport half\nHAS = hasattr(half, 'parts')\ndef use(): return parts\n",
}


@whose.ours
@pytest.mark.parametrize("mode", ["default", "all"])
@pytest.mark.parametrize("statement", ["from half import core, page", "from half import core\nfrom half import page", "from half import page, core"])
def test_a_module_that_is_initialised_finds_what_came_before(alike, lazily, mode, statement):
    """Whether the submodule has been imported by then is for the order of the statements to say, in whatever order they are resolved. The last one is the control."""
    files = {**HALF, "user.py": f"{statement}\ndef use(): return core.HAS\ndef other(): return page\n"}
    alike(files, "import user\nprint(user.use())\n", modes=(mode,))
    lazily(files, """
        import user
        assert not loaded("half", "half.core", "half.page")   # or nothing is tested
        user.use()
    """, mode=mode)


@whose.ours
def test_what_it_has_imported_itself_is_there(alike, lazily):
    """And what was registered first for a module, though another statement has it imported."""
    files = {**HALF, "user.py": "from half import inner\ndef use(): return inner.HAS\n"}
    alike(files, "import user\nprint(user.use())\n")
    late = {**HALF, "first.py": "from half import core\ndef use(): return core\n", "user.py": "from half import page\ndef use(): return page\n"}
    alike(late, "import first, user\nimport half.core\nprint(half.core.HAS, user.use().__name__)\n", modes=("default", "all"))


@whose.ours
@pytest.mark.parametrize("name", ["core", "deep.core"])
def test_nothing_is_imported_for_a_module_that_is_not_python(lazily, alike, name):
    """It imports `numbers` while it is initialised, which asks in its place: `page` would be imported, and would find it half made. First `page`, so that order does not forbid it."""
    spec = importlib.util.find_spec("_decimal")
    if not spec or not spec.has_location:
        pytest.skip("built into this interpreter")
    origin, above = Path(spec.origin), "half/" + name.rpartition(".")[0].replace(".", "/")
    native = f"half.{name.replace('core', '_decimal')}"
    files = {
        "half/__init__.py": "",
        above.rstrip("/") + "/__init__.py": "",
        "half/page.py": "import sys\nsys.stderr.write('page\\n')\n",
        "numbers.py": "import half\nclass Number: register = staticmethod(lambda cls: cls)\nRational = Number\nimport sys\nsys.stderr.write(f'{hasattr(half, \"page\")}\\n')\n",
        "user.py": f"from half import page\nfrom {native.rpartition('.')[0]} import _decimal\ndef use(): return _decimal\ndef other(): return page\n",
    }
    main = f"""
        import os, shutil
        shutil.copy({str(origin)!r}, os.path.join({above!r}, {origin.name!r}))
        import user
        assert "numbers" not in sys.modules and not loaded("half.page", {native!r})
        assert user.use() is sys.modules[{native!r}]
        assert user.other().__name__ == "half.page"
    """
    assert lazily(files, main).err == "False\npage\n"


@pytest.mark.parametrize("mode", ["default", "all"])
def test_what_is_imported_on_the_way_asks_for_others(alike, mode):
    """While a submodule is looked for, modules are executed that need submodules of other packages, which wait as well."""
    alike({"p/__init__.py": "", "p/sub.py": "import q\nvalue = q.thing.value", "q/__init__.py": "", "q/thing.py": "import r\nvalue = r.last.value", "r/__init__.py": "", "r/last.py": "value = 1",
           "b.py": "import r.last\nimport q.thing\nimport p.sub\ndef f(): return q.thing, p.sub, r.last", "user.py": "import p\ndef get(): return p.sub.value"},
          "import b, user\nprint(user.get())", modes=(mode,))


@whose.ours
def test_packages_that_ask_for_each_other(alike):
    """Round a circle, and for what is not there: that ends."""
    alike({"p/__init__.py": "", "p/sub.py": "import q\nother = getattr(q, 'sub', None) is None\nimport p\nown = hasattr(p, 'none'), hasattr(p, 'sub')",
           "q/__init__.py": "", "q/sub.py": "import p\nother = hasattr(p, 'none')\nvalue = 2",
           "b.py": "import q.sub\nimport p.sub\ndef f(): return q.sub, p.sub", "user.py": "import p\ndef get(): return p.sub"},
          "import b, user\nprint(user.get().other, user.get().own, hasattr(user.p, 'none'))")


RACE = """
    import threading, b
    results, barrier = [], threading.Barrier(6)
    def one():
        barrier.wait()
        try: results.append(b.get())
        except Exception as error: results.append(repr(error))
    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(results)
"""


@pytest.mark.parametrize("mode", ["default", "all"])
@pytest.mark.parametrize("get", ["p.sub.value", "getattr(p, 'sub', None) is not None"])
@pytest.mark.parametrize("way", ["imported", pytest.param("on the way", marks=whose.ours)])
def test_threads_that_ask_at_once(alike, mode, get, way):
    """Whoever is not the first waits for that one."""
    files = {"p/__init__.py": "", "p/sub.py": "import time\ntime.sleep(0.1)\nvalue = 1", "a.py": "import p.sub\ndef f(): return p.sub", "b.py": f"import p\nimport a\ndef get(): return {get}"}
    if way == "on the way":
        files |= {"p/__init__.py": "from .core import f", "p/core.py": "import p.sub\ndef f(): return p.sub", "a.py": ""}
    alike(files, RACE, modes=(mode,))


def test_a_thread_that_nothing_is_owed(alike):
    """Another one imports the submodule by a statement: who asks meanwhile does not wait for it, as with stock Python."""
    alike({"p/__init__.py": "", "p/sub.py": "import gate\ngate.inside.set()\ngate.go.wait(20)", "b.py": "import q.thing\ndef f(): return q.thing", "q/__init__.py": "", "q/thing.py": "",
           "gate.py": "import threading\ninside, go = threading.Event(), threading.Event()"}, """
        import b, gate, p, threading
        def statement(): import p.sub
        thread = threading.Thread(target=statement)
        thread.start()
        gate.inside.wait(20)
        print(hasattr(p, "sub"))
        gate.go.set()
        thread.join()
        print(hasattr(p, "sub"))
    """)


def test_the_end_of_the_stack(alike):
    """That it has come says nothing about the submodule."""
    alike({"p/__init__.py": "", "p/sub.py": "import json.decoder, decimal\nvalue = 7", "a.py": "import p.sub\ndef f(): return p.sub",
           "b.py": "import p, a\ndef get(depth):\n    if depth: return get(depth - 1)\n    return p.sub.value"}, """
        import b, sys
        found = set()
        sys.setrecursionlimit(300)
        for depth in range(299, 100, -1):
            try: found.add(str(b.get(depth)))
            except Exception as error: found.add(type(error).__name__)
        print(sorted(found))
    """)
