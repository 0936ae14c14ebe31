# SPDX-License-Identifier: MIT
"""ladewerk.Autoloader: what is loaded, when, and under which name.

The topics are those that an autoloader's own tests should have, after Zeitwerk's: push_dir and root_dirs, nested_root_dirs, explicit_namespace, descends_from_explicit_ns,
collapse, ignore, inflector, top_level, shadowed_files, overloaded, conflicting_directory, multiple, for_gem (for_package), require_interaction, exceptions, marshal,
load_file, eager_load (_dir, _namespace), cpath_expected_at, all_expected_cpaths are here; reloading, unload, unloadable_cpath, unregister, callbacks, on_setup, on_load, on_unload and logging
in test_autoload_life.py; reloads of what has changed in test_autoload_reload.py; more of all in test_autoload_cases.py; concurrency in test_autoload_threads.py. ruby_compatibility, cref and ancestors have no counterpart: those are properties of constants.
"""
import pytest

from autoloading import child, nursery  # noqa: F401

SHOP = {"shop/cart.py": "import shop\nclass Cart:\n    def item(self):\n        return shop.item.Item()\n", "shop/item.py": "class Item: pass\n"}


# --- loading without an import line ---

def test_a_module_is_loaded_at_its_first_use(child):
    child(SHOP, """
        loader = start()
        import shop
        assert loaded() == ["shop"]
        cart = shop.cart.Cart()
        assert loaded() == ["shop", "shop.cart"]
        assert type(cart.item()) is sys.modules["shop.item"].Item
    """)


def test_what_is_loaded_is_a_plain_attribute(child):
    child(SHOP, """
        start()
        import shop
        cart = shop.cart
        assert vars(shop)["cart"] is cart and type(shop) is types.ModuleType
        vars(shop)["__getattr__"] = None  # is not asked any more
        assert shop.cart is cart
    """)


def test_plain_imports_agree_in_every_order(child):
    child(SHOP, """
        loader = start()
        for first in ("import", "from", "attribute", "import_module"):
            def one(way, name):
                scope = {}
                if way == "import":
                    exec(f"import shop.{name}\\nm = shop.{name}", scope)
                elif way == "from":
                    exec(f"from shop import {name} as m", scope)
                elif way == "attribute":
                    exec(f"import shop\\nm = shop.{name}", scope)
                else:
                    return importlib.import_module(f"shop.{name}")
                return scope["m"]
            for name in ("cart", "item"):
                modules = [one(first, name), *(one(way, name) for way in ("import", "from", "attribute", "import_module"))]
                assert all(module is sys.modules[f"shop.{name}"] for module in modules), (first, name)
            loader.reload(everything=True)
    """)


def test_implicit_namespaces_are_namespace_packages(child):
    child({"shop/admin/role.py": ""}, """
        start()
        import shop
        role = shop.admin.role
        admin = sys.modules["shop.admin"]
        assert vars(shop)["admin"] is admin and vars(admin)["role"] is role
        assert type(admin.__path__).__name__.lstrip("_") == "NamespacePath" and list(admin.__path__) == [at("shop/admin")]
        assert admin.__file__ is None and admin.__spec__.loader is admin.__loader__ and type(admin.__loader__).__name__ in ("NamespaceLoader", "_NamespaceLoader")
    """)


def test_a_namespace_package_is_as_stock_has_it(child):
    child({"shop/cart.py": ""}, """
        sys.path.append(str(root))
        import shop
        stock = {name: type(value) for name, value in vars(shop).items()}
        del sys.modules["shop"], shop
        start()
        import shop
        ours = {name: type(value) for name, value in vars(shop).items() if name not in ("__getattr__", "__dir__")}
        assert ours == stock, (ours, stock)
    """)


def test_a_package_is_as_stock_has_it(child):
    child({"shop/__init__.py": "", "shop/cart.py": ""}, """
        sys.path.append(str(root))
        import shop
        stock = {name: type(value) for name, value in vars(shop).items() if name not in ("__builtins__",)}, type(shop.__spec__), shop.__spec__.cached
        del sys.modules["shop"], shop
        start()
        import shop
        ours = {name: type(value) for name, value in vars(shop).items() if name not in ("__getattr__", "__dir__", "__builtins__")}, type(shop.__spec__), shop.__spec__.cached
        assert ours == stock, (ours, stock)
    """)


def test_directories_without_anything_to_import_are_none(child):
    child({"shop/cart.py": "", "shop/static/logo.txt": "", "shop/deep/er/data.json": "", "shop/empty/": "", "shop/cache/__pycache__/x.py": "",
           "shop/web/node_modules/x.py": "", "shop/runs/__main__.py": "raise SystemExit(3)"}, """
        loader = start()
        import shop
        assert not {"static", "deep", "empty", "cache", "web", "runs"} & set(dir(shop)), dir(shop)
        error = raises(AttributeError, lambda: shop.static)
        assert str(error) == "module 'shop' has no attribute 'static'"
        loader.eager_load()
        assert loaded() == ["shop", "shop.cart"]
    """)


def test_deep_directories_are_packages_if_something_is_at_the_bottom(child):
    child({"shop/a/b/c/d.py": "X = 1"}, """
        start()
        import shop
        assert shop.a.b.c.d.X == 1
        assert loaded() == ["shop", "shop.a", "shop.a.b", "shop.a.b.c", "shop.a.b.c.d"]
    """)


def test_explicit_packages_run_their_body_first(child):
    child({"shop/__init__.py": "VERSION = 7\nimport shop\nEARLY = shop.cart.X", "shop/cart.py": "X = 1", "shop/admin/__init__.py": "Y = 2", "shop/admin/role.py": "Z = 3"}, """
        start()
        import shop
        assert (shop.VERSION, shop.EARLY) == (7, 1), "children are there while the body runs"
        assert (shop.admin.Y, shop.admin.role.Z) == (2, 3)
    """)


def test_a_package_with_functions_of_its_own(child):
    child({"shop/__init__.py": "def __getattr__(name):\n    if name == 'answer':\n        return 42\n    raise AttributeError('not ' + name)\ndef __dir__():\n    return ['answer']\n",
           "shop/cart.py": ""}, """
        start()
        import shop
        assert shop.answer == 42 and shop.cart.__name__ == "shop.cart"
        assert str(raises(AttributeError, lambda: shop.other)) == "not other"
        assert dir(shop) == ["answer", "cart"]
    """)


@pytest.mark.parametrize("body", ["from shop.real import __getattr__, __dir__\n",
                                  "import shop.real\nglobals().update({name: shop.real.__dict__[name] for name in ('__getattr__', '__dir__')})\n"])
def test_a_package_that_takes_over_the_functions_of_another(child, body):
    child({"shop/real/__init__.py": "", "shop/real/cart.py": "X = 'real'", "shop/real/item.py": "X = 'real'", "shop/again/__init__.py": body,
           "shop/again/cart.py": "X = 'again'", "shop/again/own.py": ""}, """
        loader = start()
        for _ in range(2):
            import shop.again
            assert (shop.again.cart.X, shop.real.cart.X) == ("again", "real")
            assert {"cart", "own"} <= set(dir(shop.again)) and "own" not in dir(shop.real)
            importlib.reload(shop.again)
            assert shop.again.own.__name__ == "shop.again.own"
            loader.reload(everything=True)
    """)


def test_a_package_that_puts_something_else_in_its_place(child):
    child({"shop/__init__.py": "import sys, types\nclass M(types.ModuleType): pass\nnew = M(__name__)\nnew.__dict__.update(vars(sys.modules[__name__]))\nsys.modules[__name__] = new\n",
           "shop/cart.py": "X = 1"}, """
        start()
        import shop
        assert type(shop).__name__ == "M" and shop.cart.X == 1
    """)


MINE = "import sys, types\nclass M(types.ModuleType):\n    X = 1\nsys.modules[__name__] = M(__name__)\n"


@pytest.mark.parametrize("plain", [False, True])
def test_modules_that_put_another_module_in_their_place(child, plain):
    """Old names of modules, of ours and of others, and modules with properties."""
    child({"shop/__init__.py": "", "shop/new.py": "X = 1", "shop/old.py": "import sys, shop.new\nsys.modules[__name__] = shop.new", "shop/mine.py": MINE,
           "shop/other.py": "import json, sys\nsys.modules[__name__] = json", "shop/bag/__init__.py": MINE}, f"""
        loader = start()
        import json, shop
        names = ["shop.old", "shop.mine", "shop.other", "shop.bag"]
        for generation in range(2):
            if {plain}:
                import shop.mine, shop.other, shop.old, shop.bag
            assert shop.old is shop.new and shop.other is json
            assert type(shop.mine).__name__ == type(shop.bag).__name__ == "M" and shop.mine.X == shop.bag.X == 1
            assert [sys.modules[name] for name in names] == [shop.old, shop.mine, shop.other, shop.bag]
            assert loader.unloadable_names() == ["shop", "shop.bag", "shop.mine", "shop.new", "shop.old", "shop.other"]
            loader.eager_load()
            before = shop.mine
            loader.reload(everything=True)
            assert loaded() == [] and sys.modules["json"] is json
            import shop
            assert shop.mine is not before
    """)


def test_lazy_modules_stay_lazy(child):
    """Neither a registry nor a reload has any use for their bodies, which would run under locks there."""
    child({"shop/__init__.py": "", "shop/slow.py": "import sys\nsys.modules['__main__'].seen.append('body')\nX = 1"}, """
        def put_off(name):
            spec = importlib.util.find_spec(name)
            spec.loader = importlib.util.LazyLoader(spec.loader)
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        loader = start()
        import shop
        module = put_off("shop.slow")
        assert loader.unloadable_names() == ["shop", "shop.slow"]
        assert ladewerk.registry().module("shop.slow") is module
        loader.reload(everything=True)
        assert seen == [], seen
        assert loaded() == [], loaded()
        import shop
        module = put_off("shop.slow")
        assert shop.slow.X == 1 and seen == ["body"]
    """)


def test_circular_uses_end_as_imports_do(child):
    child({"shop/a.py": "import shop\ndef f(): return shop.b.X\nY = shop.b.X + 1", "shop/b.py": "import shop\nX = 1\nfrom shop import a\nSEEN = sorted(n for n in vars(a) if len(n) == 1)"}, """
        start()
        import shop
        assert shop.a.Y == 2 and shop.b.SEEN == ["f"]
        assert vars(shop)["a"] is sys.modules["shop.a"]
    """)


def test_introspection(child):
    child({"shop/__init__.py": "'The shop.'\n", "shop/cart.py": "def f():\n    'It sells.'\n    return 1\n"}, """
        loader = start()
        import inspect, pydoc, rlcompleter, shop
        assert "cart" in dir(shop) and "cart" not in vars(shop)
        assert "shop.cart" in rlcompleter.Completer({"shop": shop}).global_matches("shop") or any(m.startswith("shop.cart") for m in rlcompleter.Completer({"shop": shop}).attr_matches("shop.c"))
        assert inspect.getsource(shop.cart.f).startswith("def f()") and inspect.getdoc(shop) == "The shop."
        assert "The shop." in pydoc.render_doc(shop) and "It sells." in pydoc.render_doc(shop.cart.f)
        assert inspect.getmodule(shop.cart.f) is shop.cart
        import pkgutil
        assert [m.name for m in pkgutil.iter_modules(shop.__path__)] == ["cart"]
        assert importlib.util.find_spec("shop.cart").origin == at("shop/cart.py")
        assert shop.__spec__.loader.get_source("shop") == "'The shop.'\\n"
    """)


def test_star_imports(child):
    child({"shop/__init__.py": "A = 1\n_b = 2\n", "shop/cart.py": "", "store/__init__.py": "__all__ = ['cart']\n", "store/cart.py": "X = 1"}, """
        start()
        scope = {}
        exec("from shop import *", scope)
        assert sorted(n for n in scope if n != "__builtins__") == ["A"]
        import shop.cart
        exec("from shop import *", scope)
        assert scope["cart"] is shop.cart
        exec("from store import *", scope)
        assert scope["cart"].X == 1
    """)


def test_tracebacks_show_the_users_lines(child):
    child({"shop/__init__.py": "import shop.cart\n", "shop/cart.py": "\nraise RuntimeError('boom')\n"}, """
        import traceback
        start()
        def frames():
            try:
                import shop
            except RuntimeError as error:
                return [(os.path.basename(f.filename), f.lineno) for f in traceback.extract_tb(error.__traceback__)][1:]
        assert frames() == [("__init__.py", 1), ("cart.py", 2)], frames()
        assert loaded() == []
    """)


def test_relative_imports_and_subpackages(child):
    child({"shop/cart.py": "from . import item\nfrom .admin.role import R\nfrom .admin import role\n", "shop/item.py": "", "shop/admin/role.py": "from .. import item\nR = item\n"}, """
        start()
        import shop
        assert shop.cart.R is shop.item and shop.cart.role is shop.admin.role
    """)


# --- require_interaction ---

def test_packages_imported_before_setup_are_managed_too(child):
    child({"shop/__init__.py": "", "shop/cart.py": "X = 1", "shop/admin/role.py": "X = 2"}, """
        sys.path.append(str(root))
        import shop, shop.admin
        loader = start()
        assert shop.cart.X == 1 and shop.admin.role.X == 2
        assert loader.unloadable("shop") and loader.unloadable("shop.admin")
    """)


def test_the_root_is_on_sys_path_once(child):
    child(SHOP, """
        loader = start()
        assert sys.path.count(str(root)) == 1
        loader.unregister()
        assert sys.path.count(str(root)) == 0
        sys.path.append(str(root))
        again = start()
        again.unregister()
        assert sys.path.count(str(root)) == 1, "what was there stays"
    """)


def test_deleting_from_sys_modules_loads_again(child):
    child(SHOP, """
        start()
        import shop
        first = shop.cart
        del sys.modules["shop.cart"]
        assert shop.cart is first, "as with any import"
        import shop.cart
        assert shop.cart is not first
        del shop.cart
        assert shop.cart is sys.modules["shop.cart"]
    """)


def test_importlib_reload_of_a_package(child):
    child({"shop/__init__.py": "X = 1\n", "shop/cart.py": ""}, """
        start()
        import shop
        cart = shop.cart
        write("shop/__init__.py", "X = 'two'\\n")
        assert importlib.reload(shop) is shop and shop.X == "two" and shop.cart is cart
        del shop.cart
        assert shop.cart is cart
    """)


def test_other_finders_ahead_are_heeded(child):
    child({"shop/__init__.py": "X = 1\n", "shop/cart.py": ""}, """
        start()
        class Noting:
            @staticmethod
            def find_spec(name, path=None, target=None):
                seen.append(name)
        sys.meta_path.insert(0, Noting)
        import shop
        shop.cart
        assert seen == ["shop", "shop.cart"]
        class Making:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == "shop.item":
                    return importlib.util.spec_from_loader(name, Making)
            create_module = staticmethod(lambda spec: None)
            exec_module = staticmethod(lambda module: setattr(module, "made", True))
        sys.meta_path.insert(0, Making)
        import shop.item
        assert shop.item.made
    """)


def test_foreign_modules_win_and_that_is_said(child):
    child({"calendar.py": "", "json/x.py": "", "only.py": "X = 1"}, """
        loader = start()
        import calendar, only
        assert not calendar.__file__.startswith(str(root)) and only.X == 1
        error = raises(Autoloader.NameClash, loader.load_file, at("calendar.py"))
        assert isinstance(error, ImportError) and at("calendar.py") in str(error) and calendar.__file__ in str(error)
        assert (at("calendar.py"), calendar.__file__) in loader.shadowed()
        assert at("json") in [path for path, by in loader.shadowed()]
    """)


# --- roots ---

def test_push_dir_wants_a_directory(child):
    child({"file.py": ""}, """
        loader = Autoloader()
        raises(NotADirectoryError, loader.push_dir, at("file.py"))
        raises(NotADirectoryError, loader.push_dir, at("missing"))
        raises(ValueError, loader.push_dir, root, "no name")
        raises(Autoloader.NamespaceConflict, loader.push_dir, root, types.ModuleType("plain"))
        loader.push_dir(root)
        loader.push_dir(os.path.relpath(root))
        assert loader.dirs == {str(root): ""}
        raises(ValueError, Autoloader, convention="ruby")
    """)


def test_a_root_with_a_namespace(child):
    child({"app/shop/__init__.py": "X = 1", "plugins/pay.py": "import shop\nY = shop.X", "plugins/deep/er.py": "Z = 3", "plugins/__init__.py": "raise SystemExit(4)"}, """
        loader = make(root / "app")
        loader.push_dir(root / "plugins", namespace="shop")
        loader.setup()
        import shop
        assert shop.pay.Y == 1 and shop.deep.er.Z == 3 and shop.pay.__name__ == "shop.pay"
        from shop.deep import er
        assert er is shop.deep.er
        loader.reload(everything=True)
        import shop
        assert shop.deep.er is not er and shop.pay.Y == 1
        assert loader.module_expected_at(at("plugins")) == "shop" and loader.module_expected_at(at("plugins/deep/er.py")) == "shop.deep.er"
    """)


def test_a_namespace_that_nobody_manages(child):
    child({"outer/host/__init__.py": "X = 1", "outer/host/own.py": "", "plugins/pay.py": "Y = 2"}, """
        sys.path.append(at("outer"))
        for early in (True, False):
            if early:
                import host
            loader = Autoloader()
            loader.push_dir(root / "plugins", namespace=host if early else "host")
            loader.enable_reloading()
            loader.setup()
            import host
            pay = host.pay
            assert pay.Y == 2 and pay is sys.modules["host.pay"]
            raises(AttributeError, lambda: host.own)
            assert not loader.unloadable("host") and loader.unloadable("host.pay")
            loader.reload(everything=True)
            assert sys.modules["host"] is host and host.pay is not pay
            loader.unload()
            raises(AttributeError, lambda: host.pay)
            loader.unregister()
            assert "__getattr__" not in vars(host)
            del sys.modules["host"], host
    """)


def test_a_deep_namespace_of_a_root(child):
    child({"app/shop/ext/own.py": "", "plugins/pay.py": "Y = 2"}, """
        loader = make(root / "app")
        loader.push_dir(root / "plugins", namespace="shop.ext")
        loader.setup()
        import shop
        assert shop.ext.pay.Y == 2 and shop.ext.own.__name__ == "shop.ext.own" and "pay" in dir(shop.ext)
    """)


def test_a_namespace_that_is_no_package(child):
    child({"app/shop/cart.py": "", "plugins/pay.py": "", "alone.py": ""}, """
        loader = make(root / "app")
        loader.push_dir(root / "plugins", namespace="shop.cart")
        error = raises(Autoloader.NamespaceConflict, loader.setup)
        assert "shop.cart" in str(error)
        loader.unregister()
        sys.path.append(str(root))
        import alone
        other = Autoloader()
        other.push_dir(root / "plugins", namespace="alone")
        raises(Autoloader.NamespaceConflict, other.setup)
        del sys.modules["alone"]
        other.setup()
        raises(Autoloader.NamespaceConflict, importlib.import_module, "alone")
        assert "alone" not in sys.modules
    """)


def test_nested_roots(child):
    child({"app/models/user.py": "X = 1", "app/models/concerns/tag.py": "X = 2", "app/other.py": ""}, """
        loader = start(root / "app", root / "app/models", root / "app/models/concerns")
        assert loader.all_expected_modules() == {at("app"): "", at("app/models"): "", at("app/models/concerns"): "",
            at("app/models/user.py"): "user", at("app/models/concerns/tag.py"): "tag", at("app/other.py"): "other"}
        loader.eager_load()
        assert loaded("user", "tag", "models", "other") == ["other", "tag", "user"]
        assert loader.module_expected_at(at("app/models/concerns/tag.py")) == "tag"
    """)


def test_a_namespace_in_several_roots_is_one(child):
    child({"a/shop/cart.py": "X = 'a'", "a/shop/both.py": "X = 'a'", "b/shop/item.py": "X = 'b'", "b/shop/both.py": "X = 'b'"}, """
        for order in ("ab", "ba"):
            loader = start(*(root / name for name in order))
            import shop
            assert (shop.cart.X, shop.item.X, shop.both.X) == ("a", "b", order[0])
            assert list(shop.__path__) == [at(f"{name}/shop") for name in order]
            assert loader.shadowed() == [(at(f"{order[1]}/shop/both.py"), at(f"{order[0]}/shop/both.py"))]
            loader.unload()
            loader.unregister()
    """)


def test_roots_that_are_on_sys_path_in_another_order(child):
    child({"a/shop/both.py": "X = 'a'", "b/shop/both.py": "X = 'b'", "a/top.py": "X = 'a'", "b/top.py": "X = 'b'"}, """
        sys.path[:0] = [at("b"), at("a")]
        loader = start(root / "a", root / "b")
        import shop, top
        assert (shop.both.X, top.X) == ("b", "b"), "as imports have it"
        assert loader.shadowed() == [(at("a/shop/both.py"), at("b/shop/both.py")), (at("a/top.py"), at("b/top.py"))]
        loader.eager_load()
    """)


def test_entries_of_sys_path_that_lead_nowhere(child):
    """They are nothing to imports, and nothing to autoloaders."""
    child({"shop/cart.py": "X = 1"}, """
        import tempfile
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)
        sys.path[:0] = ["", None, 5, os.fsencode(root), "relative"]
        loader = start()
        import shop
        assert shop.cart.X == 1 and sys.path[-1] == str(root)
        loader.reload(everything=True)
        import shop
        assert shop.cart.X == 1 and sys.path.count(str(root)) == 1
    """)


def test_a_root_that_is_on_sys_path_by_another_name(child):
    child({"real/shop/__init__.py": "V = 1", "real/shop/cart.py": "X = 1", "real/store/x.py": "X = 2"}, """
        os.symlink(root / "real", root / "link")
        sys.path.insert(0, at("link"))
        loader = start(root / "real")
        import shop, store
        assert (shop.cart.X, store.x.X) == (1, 2) and shop.cart is sys.modules["shop.cart"]
        loader.eager_load()
        assert loader.unloadable_names() == ["shop", "shop.cart", "store", "store.x"] and loader.shadowed() == []
        loader.reload(everything=True)
        assert loaded("shop", "store") == []
    """)


def test_a_directory_with_brackets(child):
    child({"x[1]/shop/cart.py": "X = 1", "x[1]/shop/old.py": ""}, """
        loader = make(root / "x[1]")
        loader.ignore(at("x[1]/shop/old.py"))
        loader.setup()
        import shop
        assert shop.cart.X == 1 and "old" not in dir(shop)
    """)


def test_an_explicit_package_in_one_root_and_an_implicit_in_another(child):
    child({"a/shop/__init__.py": "V = 1", "a/shop/cart.py": "X = 'a'", "b/shop/item.py": "X = 'b'", "b/shop/sub/x.py": "X = 'sub'"}, """
        for order in ("ab", "ba"):
            loader = start(*(root / name for name in order))
            import shop
            assert (shop.V, shop.cart.X, shop.item.X, shop.sub.x.X) == (1, "a", "b", "sub")
            import shop.sub.x
            assert loader.shadowed() == []
            loader.unload()
            loader.unregister()
    """)


def test_two_explicit_packages(child):
    child({"a/shop/__init__.py": "V = 'a'", "b/shop/__init__.py": "V = 'b'", "b/shop/item.py": "X = 1"}, """
        loader = start(root / "a", root / "b")
        import shop
        assert shop.V == "a" and shop.item.X == 1
        assert loader.shadowed() == [(at("b/shop/__init__.py"), at("a/shop/__init__.py"))]
    """)


def test_a_module_beside_a_directory(child):
    child({"shop/cart.py": "X = 'module'", "shop/cart/item.py": "", "shop/deal.py": "X = 'module'", "shop/deal/__init__.py": "X = 'package'"}, """
        loader = start()
        import shop
        assert (shop.cart.X, shop.deal.X) == ("module", "package"), "as Python has it"
        assert loader.shadowed() == [(at("shop/cart"), at("shop/cart.py")), (at("shop/deal.py"), at("shop/deal/__init__.py"))]
        loader.eager_load()
        assert loaded() == ["shop", "shop.cart", "shop.deal"]
    """)


def test_bytecode_and_names_that_cannot_be_said(child):
    child({"shop/cart.py": "X = 1", "shop/my-script.py": "raise SystemExit(5)", "shop/class.py": "raise SystemExit(6)", "shop/a.b.py": "", "shop/9.py": "", "shop/x/": ""}, """
        import py_compile
        py_compile.compile(at("shop/cart.py"), at("shop/old.pyc"))
        loader = start()
        import shop
        assert shop.old.X == 1
        assert sorted(loader.all_expected_modules()) == [str(root), at("shop"), at("shop/cart.py"), at("shop/old.pyc")]
        assert loader.module_expected_at(at("shop/my-script.py")) is None
        loader.eager_load()
    """)


def test_links(child):
    child({"real/shop/cart.py": "X = 1"}, """
        os.symlink(root / "real", root / "link")
        os.symlink(at("real/shop/cart.py"), at("real/shop/alias.py"))
        os.symlink(at("nowhere.py"), at("real/shop/dangling.py"))
        os.symlink(at("real/shop"), at("real/linked"))
        loader = start(root / "link")
        import shop, linked
        assert shop.cart.X == 1 and shop.alias.X == 1 and linked.cart.X == 1
        assert "dangling" not in dir(shop)
        assert shop.cart.__file__ == at("link/shop/cart.py")
    """)


def test_links_that_lead_nowhere(child):
    """They are nothing, and what lies beside them is there."""
    child({"shop/cart.py": "X = 1"}, """
        os.symlink("loop", root / "shop/loop")
        os.symlink("round.py", root / "shop/round.py")
        os.symlink("missing", root / "shop/gone")
        loader = start()
        import shop
        assert shop.cart.X == 1 and sorted(loader.all_expected_modules().values()) == ["", "shop", "shop.cart"]
    """)


def test_names_are_those_that_imports_find(child):
    """Random trees: what an autoloader loads is what stock imports find when they are asked for every name that could be there."""
    child({}, """
        import random
        bytecode = importlib._bootstrap_external._code_to_timestamp_pyc(compile("", "x.py", "exec"))
        sys.dont_write_bytecode = True
        def grow(at, depth, chance):
            at.mkdir()
            for name in "abc":
                if chance.random() < 0.4:
                    suffix = chance.choice([".py", ".py", ".pyc", ".txt", "-x.py"])
                    (at / (name + suffix)).write_bytes(bytecode if suffix == ".pyc" else b"")
                if depth and chance.random() < 0.6:
                    grow(at / name, depth - 1, chance)
            if depth < 3 and chance.random() < 0.3:
                (at / "__init__.py").write_bytes(b"")
        def could_be(at, name=""):
            for stem in sorted({path.name.partition(".")[0] for path in at.iterdir()}):
                yield f"{name}{stem}"
                if (at / stem).is_dir():
                    yield from could_be(at / stem, f"{name}{stem}.")
        def what(name):
            try:
                spec = importlib.util.find_spec(name)
            except ModuleNotFoundError:
                return None
            return spec and (spec.origin or tuple(spec.submodule_search_locations))
        compared = 0
        for seed in range(60):
            tree = root / str(seed)
            grow(tree, 3, random.Random(seed))
            loader = Autoloader()
            loader.push_dir(tree)
            expected = {name: path for path, name in loader.all_expected_modules().items() if name}  # of packages the __init__ comes last
            shadowed = {path for path, by in loader.shadowed()}
            sys.path.append(str(tree))
            importlib.invalidate_caches()
            found = {name: what(name) for name in could_be(tree) if name.rpartition(".")[2] in ("a", "b", "c")}
            holding = {name: path for name, path in found.items() if path and (type(path) is str or name in expected)}
            assert {name: path if os.path.isfile(path) else (path,) for name, path in expected.items()} == holding, seed
            for name in set(found) - set(holding):  # namespace packages that hold nothing
                assert not found[name] or not [other for other in holding if other.startswith(name + ".")], (seed, name)
            files = {str(path) for path in tree.rglob("[abc].py*")}
            assert files - set(loader.all_expected_modules()) == {path for path in files if any(path == other or path.startswith(other + "/") for other in shadowed)}, seed
            compared += len(holding)
            sys.path.pop()
            for name in loaded("a", "b", "c"):
                del sys.modules[name]
            loader.unregister()
        assert compared > 500
    """)


# --- ignore, collapse ---

def test_ignored_files_and_directories(child):
    child({"shop/cart.py": "", "shop/old.py": "X = 1", "shop/junk/a.py": "", "shop/only/ignored.py": "", "shop/tests/x.py": ""}, """
        loader = make()
        loader.ignore(at("shop/old.py"), root / "shop/junk")
        loader.ignore(at("shop/only/*"), at("**/tests"))
        loader.setup()
        import shop
        assert [name for name in dir(shop) if not name.startswith("_")] == ["cart"]
        for name in ("old", "junk", "only", "tests"):
            raises(AttributeError, getattr, shop, name)
        import shop.old
        assert shop.old.X == 1, "a plain import is nobody's business"
        assert not loader.unloadable("shop.old") and loader.module_expected_at(at("shop/old.py")) is None
        assert loader.module_expected_at(at("shop/junk/a.py")) is None
        raises(Autoloader.Error, loader.load_file, at("shop/old.py"))
    """)


def test_ignore_patterns_are_expanded_at_each_reload(child):
    child({"shop/cart.py": ""}, """
        loader = make()
        loader.ignore(at("shop/*_test.py"))
        loader.setup()
        import shop
        assert "cart" in dir(shop)
        write("shop/cart_test.py"), write("shop/more.py")
        loader.reload()
        assert "cart_test" not in dir(shop) and "more" in dir(shop)
    """)


def test_an_ignored_root_holds_nothing(child):
    child(SHOP, """
        loader = make()
        loader.ignore(root)
        loader.setup()
        assert loader.all_expected_modules() == {} and loader.module_expected_at(root) is None
        loader.eager_load()
        assert loaded() == []
    """)


def test_collapse_patterns_are_expanded_at_each_reload(child):
    child({"shop/a_models/x.py": "X = 1"}, """
        loader = make()
        loader.collapse(at("shop/*_models"))
        loader.setup()
        import shop
        assert shop.x.X == 1
        write("shop/b_models/y.py", "X = 2"), write("shop/a_models/deep_models/z.py", "")
        loader.reload()
        assert shop.y.X == 2 and shop.deep_models.z
    """)


def test_a_collapsed_directory_is_no_namespace(child):
    child({"shop/models/user.py": "from . import group\nfrom .group import G\nclass User: pass\n", "shop/models/group.py": "G = 1\n"}, """
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        user = shop.user
        import shop.models.user, shop.user
        from shop import user as third
        assert user is shop.models.user is shop.user is third is sys.modules["shop.user"] is sys.modules["shop.models.user"]
        assert user.__spec__.name == "shop.models.user" and user.G == 1
        assert pickle.loads(pickle.dumps(user.User)) is user.User
        assert loader.all_expected_modules() == {str(root): "", at("shop"): "shop", at("shop/models/user.py"): "shop.user", at("shop/models/group.py"): "shop.group"}
        assert loader.module_expected_at(at("shop/models")) == "shop" and loader.module_expected_at(at("shop/models/user.py")) == "shop.user"
    """)


def test_a_collapsed_directory_with_an_init_file_is_unloaded_too(child):
    child({"shop/__init__.py": "", "shop/models/__init__.py": "NUMBER = 1", "shop/models/user.py": "from . import NUMBER"}, """
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        for number in (1, 2, 3):
            import shop
            assert shop.user.NUMBER == number and shop.user.__name__ == "shop.models.user"
            write("shop/models/__init__.py", f"NUMBER = {number + 1}  #" + "-" * number)
            loader.reload(everything=True)
            assert loaded() == []
    """)


def test_collapsed_modules_agree_in_every_order(child):
    child({"shop/models/user.py": ""}, """
        import itertools
        loader = make()
        loader.collapse(at("shop/*"))
        loader.setup()
        ways = {"attribute": lambda: __import__("shop").user, "long": lambda: importlib.import_module("shop.models.user"), "short": lambda: importlib.import_module("shop.user"),
                "from": lambda: __import__("shop", fromlist=["user"]).user}
        for order in itertools.permutations(ways):
            modules = [ways[way]() for way in order]
            assert len(set(map(id, modules))) == 1, order
            spec = modules[0].__spec__
            assert spec.name == "shop.models.user" and not spec._initializing
            loader.reload(everything=True)
            assert loaded() == [], loaded()
    """)


def test_an_alias_is_imported_while_its_module_is(child):
    child({"shop/models/user.py": "import shop.user\nimport sys\nassert sys.modules['shop.user'] is sys.modules[__name__]\nfrom . import group\n", "shop/models/group.py": ""}, """
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop.user
        assert shop.user is sys.modules["shop.models.user"] and shop.user.__spec__.name == "shop.models.user"
    """)


def test_nested_and_merged_collapsed_directories(child):
    child({"shop/a/b/x.py": "X = 1", "shop/a/y.py": "X = 2", "shop/a/admin/role.py": "X = 3", "shop/admin/page.py": "X = 4", "shop/c/z.py": "X = 5", "shop/z.py": "X = 'natural'"}, """
        loader = make()
        loader.collapse(at("shop/a"), at("shop/a/b"), at("shop/c"))
        loader.setup()
        import shop
        assert (shop.x.X, shop.y.X, shop.admin.role.X, shop.admin.page.X, shop.z.X) == (1, 2, 3, 4, "natural")
        import shop.admin.role, shop.a.admin.role
        assert shop.a.admin.role is shop.admin.role
        assert loader.shadowed() == [(at("shop/c/z.py"), at("shop/z.py"))]
    """)


def test_a_namespace_that_is_in_a_collapsed_directory_only(child):
    child({"shop/a/admin/role.py": "from . import page\nX = 3", "shop/a/admin/page.py": "", "shop/a/admin/__init__.py": "V = 1"}, """
        loader = make()
        loader.collapse(at("shop/a"))
        loader.setup()
        import shop.admin.role
        assert shop.admin.role is sys.modules["shop.a.admin.role"] and shop.admin is sys.modules["shop.a.admin"] and shop.admin.V == 1
        assert shop.admin.page is sys.modules["shop.a.admin.page"]
        loader.reload(everything=True)
        import shop
        assert shop.admin.role.X == 3 and loaded() == ["shop", "shop.a", "shop.a.admin", "shop.a.admin.page", "shop.a.admin.role"]
    """)


# --- the convention `class` ---

CLASSES = {"shop/http_client.py": "class HTTPClient:\n    def cart(self):\n        import shop\n        return shop.Cart()\n", "shop/cart.py": "class Cart: pass\n",
           "shop/admin/role.py": "class Role: pass\n"}


def test_classes(child):
    child(CLASSES, """
        loader = make(convention="class")
        loader.inflector.inflect({"http_client": "HTTPClient"})
        loader.setup()
        import shop
        assert shop.HTTPClient().cart().__class__ is shop.Cart and vars(shop)["Cart"] is shop.Cart
        assert shop.admin.Role.__module__ == "shop.admin.role"
        assert loader.all_expected_modules()[at("shop/http_client.py")] == "shop.HTTPClient" == loader.module_expected_at(at("shop/http_client.py"))
        import shop.http_client
        assert shop.http_client.HTTPClient is shop.HTTPClient
        from shop import Cart
        assert Cart is shop.Cart and loader.load_file(at("shop/cart.py")) is Cart
        first = shop.HTTPClient
        loader.reload(everything=True)
        assert not {"HTTPClient", "http_client", "Cart"} & set(vars(shop))
        assert shop.HTTPClient is not first and "HTTPClient" in dir(shop)
    """)


def test_inflectors(child):
    child(CLASSES, """
        inflector = Autoloader.Inflector({"odd": "Even"}, acronyms=("HTTP", "API"))
        assert [inflector.camelize(stem, "") for stem in ("http_client", "cart", "odd", "my_api_v2", "x", "_hidden")] == ["HTTPClient", "Cart", "Even", "MyAPIV2", "X", "Hidden"]
        loader = make(convention="class")
        loader.inflector = lambda stem, path: seen.append(path) or {"http_client": "HTTPClient"}.get(stem, stem.title())
        loader.setup()
        import shop
        assert shop.HTTPClient and shop.Cart and at("shop/cart.py") in seen
    """)


def test_a_name_that_is_not_defined(child):
    child({"shop/cart.py": "class Basket: pass\n", "shop/good.py": "class Good: pass\n"}, """
        loader = start(convention="class")
        import shop
        error = raises(Autoloader.ExpectedNameError, lambda: shop.Cart)
        assert isinstance(error, ImportError) and error.name == "shop.cart" and error.path == at("shop/cart.py") and "Cart" in str(error)
        raises(Autoloader.ExpectedNameError, importlib.import_module, "shop.cart")
        assert loaded() == ["shop"] and not {"cart", "Cart"} & set(vars(shop)), "nothing half stays"
        raises(Autoloader.ExpectedNameError, loader.eager_load)
        write("shop/cart.py", "class Cart:\\n    pass\\n")
        assert shop.Cart.__name__ == "Cart" and shop.Good
    """)


def test_a_class_that_is_not_there_yet(child):
    child({"shop/a.py": "import shop\nclass A(shop.B): pass\n", "shop/b.py": "import shop\nshop.A\nclass B: pass\n"}, """
        start(convention="class")
        import shop
        error = raises(ImportError, lambda: shop.A)
        assert "circular" in str(error) and loaded() == ["shop"]
    """)


def test_an_inflector_that_gives_no_name(child):
    child({"shop/cart.py": ""}, """
        loader = make(convention="class")
        loader.inflector = lambda stem, path: "no name"
        loader.setup()
        raises(Autoloader.ExpectedNameError, loader.eager_load)
    """)


# --- several autoloaders ---

def test_overlapping_roots_are_a_conflict(child):
    child({"foo/x.py": "", "foobar/y.py": "", "foo/sub/z.py": "", "lib/app/x.py": ""}, """
        one = make(root / "foo")
        two = Autoloader()
        for path in (root / "foo", root / "foo/sub", root):
            error = raises(Autoloader.LoaderConflict, two.push_dir, path)
            assert at("foo") in str(error)
        two.push_dir(root / "foobar")
        assert two.dirs == {at("foobar"): ""}
        one.unregister()
        two.push_dir(root / "foo")
    """)


def test_what_is_ignored_does_not_conflict(child):
    child({"app/x.py": "", "app/engine/y.py": ""}, """
        one = Autoloader()
        one.push_dir(root / "app")
        one.ignore(root / "app/engine")
        two = Autoloader()
        two.push_dir(root / "app/engine")
        two.ignore(root / "app/engine/more")
        three = Autoloader()
        three.ignore(root / "app")
        three.push_dir(root)
        one.setup(), two.setup(), three.setup()
        import x, y
        assert one.module_expected_at(at("app/engine/y.py")) is None and two.module_expected_at(at("app/engine/y.py")) == "y"
    """)


def test_autoloaders_share_a_namespace(child):
    child({"a/shop/cart.py": "X = 'a'", "b/shop/item.py": "X = 'b'", "b/shop/sub/x.py": ""}, """
        a, b = start(root / "a"), start(root / "b")
        import shop
        cart, item = shop.cart, shop.item
        assert (cart.X, item.X) == ("a", "b") and {"cart", "item", "sub"} <= set(dir(shop))
        a.reload(everything=True)
        assert sys.modules["shop"] is shop and shop.item is item and shop.cart is not cart
        b.reload(everything=True)
        assert shop.item is not item
        a.unload()
        raises(AttributeError, lambda: shop.cart)
        assert shop.item.X == "b" and "cart" not in dir(shop)
    """)


def test_reloads_of_one_leave_the_other_alone(child):
    child({"a/one.py": "", "b/two.py": "", "b/pack/x.py": ""}, """
        a, b = start(root / "a"), start(root / "b")
        import one, two, pack.x
        a.reload(everything=True)
        assert "one" not in sys.modules and sys.modules["two"] is two and sys.modules["pack.x"] is pack.x
        assert b.unloadable("two") and not a.unloadable("two")
    """)


def test_for_package(child):
    child({"lib/gem/__init__.py": "import ladewerk\nloader = ladewerk.Autoloader.for_package(__name__)\nloader.setup()\nimport gem\nEARLY = gem.tool.X\n", "lib/gem/tool.py": "X = 1",
           "lib/gem/sub/more.py": "X = 2"}, """
        sys.path.append(at("lib"))
        import gem
        assert gem.EARLY == 1 and gem.sub.more.X == 2
        assert Autoloader.for_package("gem") is gem.loader and gem.loader.tag == "gem" and gem.loader.dirs == {at("lib/gem"): "gem"}
        raises(Autoloader.NamespaceConflict, Autoloader.for_package, "os")
        raises(Autoloader.NamespaceConflict, Autoloader.for_package, "missing")
        raises(Autoloader.ReloadingDisabled, gem.loader.reload)
        assert not gem.loader.unloadable("gem.tool")
        gem.loader.unregister()
        assert Autoloader.for_package("gem") is not gem.loader
    """)


def test_for_package_within_another_distribution(child):
    child({"one/host/__init__.py": "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n", "two/host/ext/__init__.py": "import ladewerk\n"
           "loader = ladewerk.Autoloader.for_package(__name__)\nloader.enable_reloading()\nloader.setup()\n", "two/host/ext/tool.py": "X = 1"}, """
        sys.path += [at("one"), at("two")]
        write("two/host/__init__.py", "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\\n")
        import host.ext
        tool = host.ext.tool
        assert tool.X == 1 and tool.__name__ == "host.ext.tool" and host.ext.loader.unloadable_names() == ["host.ext.tool"]
        ext = host.ext
        ext.loader.reload(everything=True)
        assert host.ext is ext and ext.tool is not tool
    """)


# --- exceptions, marshal ---

def test_a_failed_load_can_be_repeated(child):
    child({"shop/cart.py": "import shop.item\nraise ValueError('boom')", "shop/item.py": "", "shop/bad.py": "def f(:\n", "shop/attr.py": "import shop\nshop.cart_missing\n",
           "shop/gone.py": "import no_such_module\n"}, """
        start()
        import shop
        assert str(raises(ValueError, lambda: shop.cart)) == "boom"
        assert loaded() == ["shop", "shop.item"] and "cart" not in vars(shop)
        raises(ValueError, lambda: shop.cart)
        assert raises(SyntaxError, lambda: shop.bad).filename == at("shop/bad.py")
        assert raises(ModuleNotFoundError, lambda: shop.gone).name == "no_such_module"
        error = raises(ImportError, lambda: shop.attr)
        assert type(error.__cause__) is AttributeError and error.name == "shop.attr"
        raises(ImportError, hasattr, shop, "attr")
        write("shop/cart.py", "X = 1\\n"), write("shop/bad.py", "X = 22\\n")
        assert shop.cart.X == 1 and shop.bad.X == 22
    """)


def test_a_package_whose_body_fails(child):
    child({"shop/__init__.py": "import shop\nshop.cart\nraise ValueError('boom')", "shop/cart.py": "X = 1"}, """
        start()
        raises(ValueError, importlib.import_module, "shop")
        assert loaded() == ["shop.cart"], "as stock has it: what it has imported stays"
        write("shop/__init__.py", "V = 1\\n")
        import shop
        assert shop.V == 1 and shop.cart is sys.modules["shop.cart"]
    """)


def test_a_file_that_has_gone(child):
    child(SHOP, """
        loader = start()
        import shop
        os.remove(at("shop/cart.py"))
        importlib.invalidate_caches()
        assert raises(ModuleNotFoundError, lambda: shop.cart).name == "shop.cart"
        loader.reload()
        raises(AttributeError, lambda: shop.cart)
    """)


def test_unpickling_loads(child):
    child({"shop/admin/role.py": "class Role:\n    x = 1\n", "shop/models/user.py": "class User: pass\n"}, """
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        data = pickle.dumps([shop.admin.role.Role(), shop.user.User()])
        loader.reload(everything=True)
        assert loaded() == []
        role, user = pickle.loads(data)
        assert type(role) is __import__("shop").admin.role.Role and type(user) is __import__("shop").user.User
    """)


# --- load_file, eager_load ---

def test_load_file(child):
    child({"shop/__init__.py": "", "shop/cart.py": "X = 1", "shop/a/x.py": "X = 2", "shop/readme.txt": ""}, """
        loader = make()
        raises(Autoloader.SetupRequired, loader.load_file, at("shop/cart.py"))
        loader.collapse(at("shop/a"))
        loader.setup()
        assert loader.load_file(at("shop/cart.py")).X == 1 and vars(sys.modules["shop"])["cart"].X == 1
        assert loader.load_file(root / "shop/a/x.py") is sys.modules["shop.a.x"]
        assert loader.load_file(at("shop/__init__.py")) is sys.modules["shop"]
        for name in ("shop/readme.txt", "shop/none.py", "../x.py"):
            raises(Autoloader.Error, loader.load_file, at(name))
    """)


EAGER = {"shop/__init__.py": "import __main__; __main__.seen.append('shop')", "shop/cart.py": "", "shop/admin/role.py": "", "shop/admin_tools/x.py": "", "shop/junk/bad.py": "1 / 0", "top.py": ""}


def test_eager_load(child):
    child(EAGER, """
        loader = make()
        raises(Autoloader.SetupRequired, loader.eager_load)
        loader.do_not_eager_load(at("shop/junk"))
        loader.setup()
        loader.eager_load()
        loader.eager_load()
        everything = ["shop", "shop.admin", "shop.admin.role", "shop.admin_tools", "shop.admin_tools.x", "shop.cart", "top"]
        assert loaded("shop", "top") == everything and seen == ["shop"]
        assert {"cart", "admin", "admin_tools"} <= set(vars(sys.modules["shop"]))
        raises(ZeroDivisionError, loader.eager_load, force=True)
        loader.reload(everything=True)
        assert loaded("shop", "top") == []
        Autoloader.eager_load_all()
        assert loaded("shop", "top") == everything
    """)


def test_packages_that_are_complete_for_good_are_left_alone(child):
    child({"shop/cart.py": "", "shop/admin/role.py": "", "shop/own/__init__.py": "def __getattr__(name):\n    return name\n", "shop/own/x.py": "", "store/a.py": "", "store/b.py": ""}, """
        loader = Autoloader()
        loader.push_dir(root)
        loader.do_not_eager_load(at("store/b.py"))
        loader.setup()
        loader.eager_load()
        import shop, store
        assert "__getattr__" not in vars(shop) and "__getattr__" not in vars(shop.admin) and shop.own.anything == "anything"
        assert dir(shop)[-3:] == ["admin", "cart", "own"] and "__getattr__" in vars(store) and store.b
        raises(AttributeError, lambda: shop.nobody)
        loader.unload()
        loader.setup()
        import shop
        assert shop.admin.role and "__getattr__" in vars(shop)
        loader.unload(), loader.unregister()
        loader = start()
        loader.eager_load()
        assert "__getattr__" in vars(sys.modules["shop"]), "a reload may bring new ones"
    """)


def test_eager_load_dir(child):
    child(EAGER, """
        loader = make()
        raises(Autoloader.SetupRequired, loader.eager_load_dir, at("shop"))
        loader.setup()
        loader.eager_load_dir(at("shop/admin"))
        assert loaded("shop", "top") == ["shop", "shop.admin", "shop.admin.role"]
        raises(Autoloader.Error, loader.eager_load_dir, root.parent)
        loader.do_not_eager_load(at("shop/junk"))
        loader.eager_load_dir(root / "shop")
        assert "shop.cart" in loaded() and "top" not in sys.modules
        loader.eager_load_dir(root)
        assert "top" in sys.modules
    """)


def test_eager_load_namespace(child):
    child(EAGER, """
        loader = make()
        raises(Autoloader.SetupRequired, loader.eager_load_namespace, "shop")
        loader.setup()
        loader.eager_load_namespace("shop.admin")
        assert loaded("shop", "top") == ["shop", "shop.admin", "shop.admin.role"]
        loader.do_not_eager_load(at("shop/junk"))
        import shop
        loader.eager_load_namespace(shop)
        assert "shop.cart" in loaded() and "top" not in sys.modules
        loader.eager_load_namespace("nobody"), loader.eager_load_namespace("sho")
    """)


def test_eager_load_with_namespaces_collapsed_and_nested_directories(child):
    child({"app/shop/models/user.py": "", "app/shop/models/deep/x.py": "", "app/shop/cart.py": "", "plugins/pay.py": "", "plugins/far/off.py": "", "app/nested/top.py": "", "host/__init__.py": ""}, """
        sys.path.append(str(root))
        loader = make(root / "app", root / "app/nested")
        loader.push_dir(root / "plugins", namespace="host.plugins")
        loader.collapse(at("app/shop/models"))
        write("host/plugins/__init__.py")
        loader.setup()
        loader.eager_load_dir(root / "app/shop/models")
        assert {"shop.models.user", "shop.models.deep", "shop.models.deep.x"} <= set(loaded()) and "shop.cart" not in sys.modules
        loader.reload(everything=True)
        loader.eager_load_namespace("shop.deep")
        assert "shop.models.deep.x" in sys.modules and "shop.models.user" not in sys.modules
        loader.eager_load_namespace("host")
        assert {"host", "host.plugins", "host.plugins.pay", "host.plugins.far.off"} <= set(sys.modules) and "top" not in sys.modules
        loader.eager_load_dir(root / "app")
        assert "shop.cart" in sys.modules and sys.modules["host.plugins"].far.off
        loader.eager_load()
        assert "top" in sys.modules and "nested" not in sys.modules
    """)


# --- questions ---

def test_module_expected_at(child):
    child({"app/shop/__init__.py": "", "app/shop/cart.py": "", "app/shop/data.txt": "", "app/shop/empty/": "", "app/shop/deep/x.py": "", "app/shop/main/__main__.py": "", "lib/y.py": "", "other/z.py": ""}, """
        loader = Autoloader()
        loader.push_dir(root / "app")
        loader.push_dir(root / "lib", namespace="shop.lib")
        expected = {"app": "", "app/shop": "shop", "app/shop/__init__.py": "shop", "app/shop/cart.py": "shop.cart", "app/shop/data.txt": None, "app/shop/empty": None,
                    "app/shop/deep": "shop.deep", "app/shop/deep/x.py": "shop.deep.x", "app/shop/main": None, "app/shop/main/__main__.py": None, "lib": "shop.lib", "lib/y.py": "shop.lib.y", "other/z.py": None}
        assert {path: loader.module_expected_at(at(path)) for path in expected} == expected
        raises(FileNotFoundError, loader.module_expected_at, at("app/shop/none.py"))
        assert loader.all_expected_modules()[at("lib/y.py")] == "shop.lib.y", "before setup()"
        assert "shop" not in sys.modules and str(root / "app") not in sys.path
    """)


def test_nothing_is_walked_twice(child, request):
    if request.node.callspec.params["nursery"] == "stock":
        return
    child({f"shop/p{i}/m{j}.py": "" for i in range(5) for j in range(5)}, """
        import time
        sys.dont_write_bytecode = True  # a new __pycache__ changes its directory
        time.sleep(0.1)  # what is too young is looked at again
        loader = start()
        read = lambda: ladewerk.stats()["session"]["listings_read"]
        raises(ModuleNotFoundError, importlib.import_module, "nobody")  # sys.path has been read
        before = read()
        loader.eager_load()
        assert read() - before <= 6, "shop and its five"
        before = read()
        loader.all_expected_modules(), loader.shadowed(), ladewerk.registry(), dir(__import__("shop"))
        assert read() == before
    """)
