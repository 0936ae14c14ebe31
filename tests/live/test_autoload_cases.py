# SPDX-License-Identifier: MIT
"""Odd corners of ladewerk.Autoloader that Zeitwerk's own tests suggest. All cases run in one process, one after the other, each with a directory and modules of its own."""
import json
import textwrap

import pytest
from autoloading import PREAMBLE, RUN
from harness import Tree

CASES = {}


def case(files):
    """The function's docstring is what happens in the child, where the root holds FILES."""
    def add(function):
        CASES[function.__name__] = files, textwrap.dedent(function.__doc__)
        return function
    return add


RUNNER = """
import json, traceback
def forget():
    for loader in list(Autoloader._registered):
        loader.unregister()
    for name in [name for name in sys.modules if name not in known]:
        del sys.modules[name]
    sys.path[:], sys.meta_path[:] = path, finders
    Autoloader.default_logger = None
    importlib.invalidate_caches()
base, outcomes = root, {}
import json.tool, linecache, ladewerk._reload, ladewerk._autoload._loader
known, path, finders = set(sys.modules), sys.path[:], sys.meta_path[:]
for name, code in json.loads((base / "cases.json").read_text()).items():
    root = base / name
    linecache.cache[f"<{name}>"] = len(code), None, code.splitlines(True), f"<{name}>"
    seen.clear()
    try:
        exec(compile(code, f"<{name}>", "exec"), {**globals(), "root": root})
        outcomes[name] = ""
    except BaseException:
        outcomes[name] = traceback.format_exc()
    forget()
(base / "outcomes.json").write_text(json.dumps(outcomes))
"""
# root, write and at are of the case
HEAD = "def write(name, text=''):\n    p = root / name\n    p.parent.mkdir(parents=True, exist_ok=True)\n    p.write_text(text)\ndef at(name):\n    return str(root / name)\n" \
       "def make(*dirs, **settings):\n    loader = Autoloader(**settings)\n    for d in dirs or [root]:\n        loader.push_dir(d)\n    loader.enable_reloading()\n    return loader\n" \
       "def start(*dirs, **settings):\n    loader = make(*dirs, **settings)\n    loader.setup()\n    return loader\n"


@case({"shop/admin/role.py": "", "shop/hollow/junk/x.py": "", "shop/hollow/more/junk/y.py": ""})
def namespaces():
    """
    loader = make()
    loader.ignore(at("shop/**/junk"))
    loader.setup()
    import shop
    assert not hasattr(shop, "hollow"), "what it holds is below ignored directories"
    threads = [threading.Thread(target=lambda: seen.append(shop.admin)) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert seen == [sys.modules["shop.admin"]] * 8
    """


@case({"models/user.py": "X = 1\n", "models/admin/role.py": "X = 2\n", "shop/x.py": "", "jobs/clean.py": "X = 3\n"})
def collapsed_at_the_top():
    """
    loader = make()
    loader.collapse(at("models"), at("jobs"))
    loader.setup()
    import user, admin, clean
    assert (user.X, admin.role.X, clean.X) == (1, 2, 3) and user is sys.modules["models.user"]
    assert loader.module_expected_at(at("models")) == "" and loader.module_expected_at(at("models/admin/role.py")) == "admin.role"
    loader.reload(everything=True)
    assert not {"user", "models.user", "admin", "models.admin", "clean"} & set(sys.modules)
    loader.eager_load()
    assert {"models.user", "models.admin.role", "jobs.clean", "shop.x"} <= set(sys.modules)
    """


@case({"shop/models/user.py": "", "shop/models/deep/x.py": "", "shop/cart.py": ""})
def collapsed_and_not_eager():
    """
    loader = make()
    loader.collapse(at("shop/models"))
    loader.do_not_eager_load(at("shop/models"))
    loader.setup()
    for verb in (loader.eager_load, lambda: loader.eager_load_dir(at("shop")), lambda: loader.eager_load_namespace("shop")):
        verb()
        assert "shop.cart" in sys.modules and not {"shop.models.user", "shop.models.deep.x"} & set(sys.modules)
        loader.reload(everything=True)
    import shop
    assert shop.user and shop.deep.x
    """


@case({"app/engines/a/x.py": "", "app/engines/ab/y.py": "", "app/main.py": "", "lib/z.py": ""})
def conflicts():
    """
    one = Autoloader()
    one.push_dir(root / "app")
    one.ignore(at("app/engines/*/"), at("app/engines/a"))
    two = Autoloader()
    two.push_dir(root / "app/engines/a")
    third = Autoloader()
    raises(Autoloader.LoaderConflict, third.push_dir, root / "app/engines/a")
    for other in (one, two, third):
        other.unregister()
    one = Autoloader()
    one.push_dir(root / "app")
    one.ignore(at("app/engines/a"))
    raises(Autoloader.LoaderConflict, Autoloader().push_dir, root / "app/engines/ab")  # begins as what is ignored does
    glob = Autoloader()
    glob.ignore(at("a*"))
    glob.push_dir(root)  # ignores what the other has, by a pattern
    raises(Autoloader.LoaderConflict, Autoloader().push_dir, root / "lib")
    """


@case({".hidden/user.py": "X = 1\n", ".hidden/.deep/x.py": "", ".hidden/.x.py": "", ".hidden/no-name.py": "", ".hidden/no-name/x.py": "", ".hidden/junk/deep/x.py": "", ".hidden/models/m.py": "", ".hidden/text.txt": ""})
def expected_names():
    """
    for namespace in (None, "host.plugins"):
        loader = Autoloader()
        loader.push_dir(pathlib.Path(at(".hidden")), namespace=namespace)
        loader.ignore(at(".hidden/junk"))
        loader.collapse(at(".hidden/models"))
        before = namespace + "." if namespace else ""
        expected = {"": namespace or "", "user.py": before + "user", ".deep": None, ".deep/x.py": None, ".x.py": None, "no-name.py": None, "no-name": None, "no-name/x.py": None, "junk": None,
                    "junk/deep": None, "junk/deep/x.py": None, "models": namespace or "", "models/m.py": before + "m", "text.txt": None}
        found = {name: loader.module_expected_at(root / ".hidden" / name) for name in expected}
        assert found == expected, {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]}
        assert loader.all_expected_modules() == {at(".hidden"): namespace or "", at(".hidden/user.py"): before + "user", at(".hidden/models/m.py"): before + "m"}
        loader.unregister()
    assert Autoloader().all_expected_modules() == {}
    loader = start(root / ".hidden")
    import user
    assert user.X == 1
    """


@case({"a/one.py": "", "a/sub/two.py": "", "b/shop/x.py": "", "b/shop/sub/y.py": "", "c/shop/z.py": "", "c/shop/x.py": "raise SystemExit(9)"})
def not_eager():
    """
    for reloading in (True, False):
        loader = Autoloader()
        for name in "abc":
            loader.push_dir(root / name)
        if reloading:
            loader.enable_reloading()
        loader.do_not_eager_load(at("a"), at("b/shop/sub"), at("c"))
        loader.setup()
        unready = Autoloader()
        unready.do_not_eager_load("/")
        Autoloader.eager_load_all()
        assert {"shop", "shop.x"} <= set(sys.modules) and not {"one", "sub.two", "shop.sub.y", "shop.z"} & set(sys.modules)
        import one, sub.two, shop
        assert shop.sub.y and shop.z, "they can be used all the same"
        loader.unload(), loader.unregister()
        del sub, shop
    loader = make(root / "a", root / "b", root / "c")
    loader.do_not_eager_load(at("a"), at("b/shop/sub"), at("c/shop/z.py"))
    loader.ignore(at("a/sub"), at("c"))
    loader.setup()
    loader.eager_load(force=True)
    assert {"one", "shop.x", "shop.sub.y"} <= set(sys.modules) and not {"sub", "shop.z"} & set(sys.modules), "force heeds what is ignored"
    """


@case({"c.py": "import __main__; __main__.seen.append('c')\n", "a/z.py": "import __main__; __main__.seen.append('z')\n", "a/b.py": "import __main__; __main__.seen.append('b')\n", "b/__init__.py": "import __main__; __main__.seen.append('B')\n",
       "b/y.py": "import __main__; __main__.seen.append('y')\n", "real/x.py": ""})
def eager_order():
    """
    import __main__
    __main__.seen = seen
    os.symlink(root / "real", root / "link")
    start().eager_load()
    assert seen == ["b", "z", "B", "y", "c"], seen
    assert "link.x" in sys.modules and "real.x" in sys.modules
    """


@case({"app/shop/__init__.py": "", "app/shop/cart.py": "", "app/shop/deep/__init__.py": "", "app/shop/deep/a.py": "", "app/shop/deep/er/b.py": "", "app/shop/deep.py": "raise SystemExit(9)", "app/shop/junk/j.py": "1/0",
       "app/other/o.py": "1/0", "app/nested/n.py": "", "app/.hid/h.py": "1/0", "app/shop/text.txt": ""})
def eager_directories():
    """
    loader = make(root / "app", root / "app/nested")
    loader.ignore(at("app/shop/junk"))
    loader.do_not_eager_load(at("app/shop/deep"))
    loader.setup()
    loader.eager_load_dir(pathlib.Path(at("app/shop")))
    assert loaded() == ["shop", "shop.cart"], loaded()
    loader.eager_load_dir(at("app/shop/deep/er"))
    assert not {"shop.deep.a", "shop.deep.er.b"} & set(sys.modules), "it is left out"
    loader.eager_load_dir(at("app/shop/junk"))
    loader.eager_load_dir(at("app/nested"))
    assert "n" in sys.modules
    raises(Autoloader.Error, loader.eager_load_dir, root / "elsewhere")
    loader.reload(everything=True)
    loader.eager_load_dir(at("app/shop"))
    assert loaded() == ["shop", "shop.cart"] and "n" not in sys.modules and "o" not in sys.modules, "nor what is in other directories"
    """


@case({"shop/top/__init__.py": "", "shop/top/in_it.py": "", "shop/top/some/deep.py": ""})
def eager_below_what_is_left_out():
    """
    loader = make()
    loader.do_not_eager_load(at("shop/top/__init__.py"), at("shop/top/in_it.py"))
    loader.setup()
    loader.eager_load_dir(at("shop"))
    assert {"shop.top", "shop.top.some.deep"} <= set(sys.modules) and "shop.top.in_it" not in sys.modules, "a package is loaded for what is in it"
    """


@case({"shop/cart.py": "class Cart: pass\n"})
def inflectors_that_give_no_name():
    """
    for wrong in (None, 5, "Shop.Cart", "a b", ""):
        loader = make(convention="class")
        loader.inflector = lambda stem, path: wrong
        loader.setup()
        raises(Autoloader.ExpectedNameError, loader.eager_load)
        loader.unregister()
        sys.modules.pop("shop", None)
    """


@case({"app/shop/a.py": "import __main__; __main__.loader.eager_load_dir(__main__.at('app/shop')); X = 1\n", "app/shop/b.py": ""})
def eager_recursively():
    """
    import __main__
    loader = __main__.loader = make(root / "app")
    __main__.at = at
    loader.setup()
    loader.eager_load_dir(at("app/shop"))
    assert loaded() == ["shop", "shop.a", "shop.b"] and sys.modules["shop.a"].X == 1
    """


@case({"a/shop/x.py": "", "b/shop/y.py": "", "b/shop/bad.py": "1/0", "c/z.py": "", "d/shop/other.py": "", "a/top.py": "", "a/shop/x/": "", "b/shop/plugins/__init__.py": ""})
def eager_namespaces():
    """
    loader = make(root / "a", root / "b")
    loader.push_dir(root / "c", namespace="shop.plugins")
    loader.ignore(at("b/shop/bad.py"))
    loader.setup()
    other = start(root / "d")
    import shop
    loader.eager_load_namespace(shop)
    assert {"shop.x", "shop.y", "shop.plugins.z"} <= set(sys.modules) and not {"top", "shop.other"} & set(sys.modules), "what another manages is its own business"
    loader.eager_load_namespace(shop), loader.eager_load_namespace(sys.modules["json"])
    for nothing in (5, None, object()):
        raises(TypeError, loader.eager_load_namespace, nothing)
    other.eager_load_namespace("shop")
    assert "shop.other" in sys.modules
    """


@case({"a/shop/__init__.py": "V = 1\n", "a/shop/x.py": "X = 1\n", "b/shop/y.py": "import shop\nX = shop.V + shop.x.X\n", "b/shop/x.py": "raise SystemExit(9)"})
def packages_of_several_autoloaders():
    """
    a, b = start(root / "a"), start(root / "b")
    import shop
    assert shop.y.X == 2 and shop.x.X == 1
    write("a/shop/__init__.py", "V = 5\\n")
    a.reload()
    import shop as now
    assert now.y.X == 6 and shop.y.X == 2 and now is not shop, "who holds the old package sees what it had"
    """


@case({"app/shop/x.py": "", "app/engine/y.py": "Y = 1\n", "app/models.py": "M = 1\n", "app/models/user.py": "U = 1\n"})
def nested_roots():
    """
    loader = make(root / "app", root / "app/engine", root / "app/models")
    loader.ignore(at("app"))
    loader.setup()
    assert set(loader.all_expected_modules().values()) == {"", "user", "y"}, "a root below an ignored one is a root all the same"
    loader.eager_load()
    import y, user
    assert y.Y == user.U == 1 and loader.module_expected_at(at("app/engine/y.py")) == "y" and loader.module_expected_at(at("app/shop/x.py")) is None and "shop" not in sys.modules
    loader.unload(), loader.unregister()
    loader = start(root / "app", root / "app/models")
    import models, user
    assert models.M == 1 and user.U == 1 and not hasattr(models, "user")
    assert "models.user" not in loader.all_expected_modules().values() and loader.module_expected_at(at("app/models")) == ""
    """


@case({"lib/gem/__init__.py": "import ladewerk\nloader = ladewerk.Autoloader.for_package(__name__)\nagain = ladewerk.Autoloader.for_package(__name__)\nloader.setup()\n", "lib/gem/version.py": "VERSION = '1'\n", "lib/gem/cli/main.py": "X = 1\n",
       "lib/script.py": "", "lib/text/readme.txt": ""})
def packages_of_libraries():
    """
    os.symlink(root / "lib", root / "linked")
    sys.path.append(at("linked"))
    import gem
    assert gem.loader is gem.again and gem.version.VERSION == "1" and gem.cli.main.X == 1 and gem.loader.dirs == {at("linked/gem"): "gem"}
    assert gem.loader.module_expected_at(at("linked/gem/version.py")) == "gem.version" and "script" not in gem.loader.all_expected_modules().values()
    gem.loader.eager_load()
    """


@case({"app/shop/x.py": "", "app/shop/junk/j.py": "", "app/shop/shadow.py": "X = 'module'\n", "app/shop/shadow/__init__.py": "X = 'package'\n", "app/.hid/h.py": "", "app/.f.py": "", "other/o.py": "", "off/p.py": "", "lib/pay.py": "X = 1\n",
       "app/top.py": "X = 1\n"})
def files_to_load():
    """
    loader = make(root / "app", root / "off")
    loader.push_dir(root / "lib", namespace="shop")
    loader.ignore(at("app/shop/junk"), at("off"))
    loader.setup()
    assert loader.load_file(pathlib.Path(at("app/top.py"))) is sys.modules["top"] and loader.load_file(at("lib/pay.py")) is sys.modules["shop.pay"]
    for name in ("app/none.py", "app/shop/junk/j.py", "app/.hid/h.py", "app/.f.py", "other/o.py", "off/p.py", "app/shop/shadow.py"):
        raises(Autoloader.Error, loader.load_file, at(name))
    assert loader.load_file(at("app/shop/shadow/__init__.py")).X == "package"
    raises(Autoloader.Error, loader.load_file, at("app/shop"))
    """


@case({"shop/a.py": "", "shop/bad.py": "1/0\n"})
def callbacks_are_checked():
    """
    loader = make()
    for register in (loader.on_load, loader.on_unload):
        for name in (5, None, b"shop"):
            raises(TypeError, register, name, print)
        for name in ("", "no name", "shop.", ".shop", "a..b", "shop.class"):
            raises(ValueError, register, name, print)
    loader.on_unload("shop.bad", lambda name, module, path: seen.append(name)), loader.on_unload(callback=lambda name, module, path: seen.append("any " + name))
    loader.on_unload("shop.a", lambda name, module, path: seen.append("first")), loader.on_unload("shop.a", lambda name, module, path: seen.append("second"))
    loader.setup()
    import shop
    raises(ZeroDivisionError, lambda: shop.bad)
    shop.a
    loader.reload(everything=True)
    assert seen == ["first", "second", "any shop.a", "any shop"], "none for what could not be loaded, and it is not tried again"
    loader.enable_reloading()  # a second time, also after setup()
    raises(TypeError, loader.on_setup, 5)
    """


@case({"shop/shape.py": "import shop\nclass Shape:\n    kinds = []\n    def __init_subclass__(cls): Shape.kinds.append(cls.__name__)\nshop.square, shop.circle\n", "shop/square.py": "from shop import shape\nclass Square(shape.Shape): pass\n",
       "shop/circle.py": "import shop\nclass Circle(shop.shape.Shape): pass\n"})
def a_base_that_loads_what_is_derived_from_it():
    """
    loader = start()
    import shop
    for first in ("shape", "square", "circle"):
        getattr(shop, first)
        assert sorted(shop.shape.Shape.kinds) == ["Circle", "Square"], first
        write("shop/circle.py", "import shop\\nclass Circle(shop.shape.Shape): pass\\n#" + first)
        loader.reload()
        assert sorted(shop.shape.Shape.kinds) == ["Circle", "Square"] and issubclass(shop.circle.Circle, shop.shape.Shape) and shop.square.Square.__mro__[1] is shop.shape.Shape
        loader.reload(everything=True)
        import shop
    """


@case({"größe/übung.py": "X = 1\n", "größe/λόγος/ιδέα.py": "class Ιδέα: X = 2\n", "größe/Ωμέγα/__init__.py": "X = 3\n"})
def names_beyond_ascii():
    """
    loader = start(root / "größe")
    import übung, λόγος, Ωμέγα
    assert (übung.X, λόγος.ιδέα.Ιδέα.X, Ωμέγα.X) == (1, 2, 3)
    write("größe/übung.py", "X = 9\\n")
    loader.reload()
    assert sys.modules["übung"].X == 9
    """


@case({"a/one.py": "import two\nX = two.X\n", "b/two.py": "X = 1\n", "b/one.py": "raise SystemExit(9)", "c/json.py": "raise SystemExit(9)"})
def several_autoloaders():
    """
    import json
    a, b, c = start(root / "a"), start(root / "b"), start(root / "c")
    import one
    assert one.X == 1 and (at("b/one.py"), one.__file__) in b.shadowed() and (at("c/json.py"), json.__file__) in c.shadowed()
    b.eager_load()
    assert sys.modules["one"] is one
    raises(Autoloader.NameClash, b.load_file, at("b/one.py")), raises(Autoloader.NameClash, c.load_file, at("c/json.py"))
    assert a.dirs == {at("a"): ""} and repr(a).endswith(f"{at('a')}>") and Autoloader(tag="x").tag == "x" and a.tag != b.tag
    """


@case({"shop/__init__.py": "import __main__\nshop = __import__('shop')\n__main__.seen.append(hasattr(shop, 'nobody'))\nfrom shop import cart\nX = cart.X\n", "shop/cart.py": "import shop\nX = 1\nfrom shop import cart as me\nassert me is shop.cart\n"})
def oneself():
    """
    import __main__
    __main__.seen = seen
    loader = start()
    import shop
    assert shop.X == 1 and seen == [False]
    """


@case({"shop/a.py": "X = 1\n", "shop/b.py": "raise ValueError\n", "shop/deep/c.py": "X = 1\n"})
def unloading():
    """
    loader = start()
    import shop
    shop.a, shop.deep.c
    raises(ValueError, lambda: shop.b)
    del sys.modules["shop.a"]
    loader.unload()
    assert loaded() == [] and loader.unloadable_names() == [] and not loader.unloadable("shop")
    raises(Autoloader.SetupRequired, loader.unload)
    write("shop/b.py", "X = 2\\n")
    loader.setup()
    import shop
    assert shop.b.X == 2 and shop.a.X == 1
    loader.unregister()
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "ladewerk._autoload._hooks"] and Autoloader._registered == ()
    """


@pytest.fixture(scope="module", params=["active", "stock"])
def outcomes(request, tmp_path_factory):
    tree = Tree(tmp_path_factory.mktemp("cases"))
    root = tree.base / "app"
    for name, (files, _) in CASES.items():
        for path, text in files.items():
            if path.endswith("/"):
                (root / name / path).mkdir(parents=True, exist_ok=True)
            else:
                tree.write(f"{name}/{path}", text, at=root)
    (root / "cases.json").write_text(json.dumps({name: HEAD + code for name, (_, code) in CASES.items()}))
    tree.run(RUN, str(root), PREAMBLE + RUNNER, ladewerk=request.param == "active", env={"PYTHONUTF8": "1"})
    return json.loads((root / "outcomes.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_case(outcomes, name):
    assert not outcomes[name], outcomes[name]
