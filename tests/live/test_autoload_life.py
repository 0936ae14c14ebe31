# SPDX-License-Identifier: MIT
"""ladewerk.Autoloader: setup, reload, unload, callbacks, loggers. (The topics are listed in test_autoload.py.)"""
import pytest
from autoloading import child, nursery  # noqa: F401

SHOP = {"shop/__init__.py": "V = 1\n", "shop/cart.py": "X = 1\n", "shop/item.py": "X = 1\n", "shop/admin/role.py": "X = 1\n"}


# --- setup ---

def test_setup_is_idempotent(child):
    child(SHOP, """
        loader = make()
        loader.on_setup(lambda: seen.append(1))
        loader.setup(), loader.setup()
        assert seen == [1] and len([finder for finder in sys.meta_path if type(finder).__module__ == "ladewerk._autoload._hooks"]) == 1
        import shop
        function = vars(shop)["__getattr__"]
        loader.setup()
        assert vars(shop)["__getattr__"] is function
    """)


def test_nothing_is_loaded_by_setup(child):
    child({"shop/__init__.py": "1 / 0", "top.py": "1 / 0"}, """
        loader = start()
        assert loaded("shop", "top") == [] and loader.unloadable_names() == []
    """)


def test_before_setup_nothing_is_managed(child):
    child(SHOP, """
        sys.path.append(str(root))
        loader = make()
        import shop
        raises(AttributeError, lambda: shop.cart)
        for verb in (loader.reload, loader.unload, loader.eager_load, lambda: loader.load_file(at("shop/cart.py"))):
            raises(Autoloader.SetupRequired, verb)
        assert issubclass(Autoloader.SetupRequired, Autoloader.Error)
        assert not loader.unloadable("shop.cart")
    """)


def test_enable_reloading_comes_before_setup(child):
    child(SHOP, """
        loader = Autoloader()
        loader.push_dir(root)
        loader.setup()
        raises(Autoloader.Error, loader.enable_reloading)
        raises(Autoloader.ReloadingDisabled, loader.reload)
        assert not loader.reloading_enabled
        import shop
        shop.cart
        assert not loader.unloadable("shop.cart") and loader.unloadable_names() == []
    """)


def test_on_setup(child):
    child(SHOP, """
        loader = make()
        @loader.on_setup
        def first():
            import shop
            seen.append(shop.cart.X)
        loader.on_setup(lambda: seen.append("second"))
        assert seen == []
        loader.setup()
        assert seen == [1, "second"]
        write("shop/cart.py", "X = 'two'\\n")
        loader.reload()
        assert seen == [1, "second", "two", "second"]
        loader.on_setup(lambda: seen.append("late"))
        assert seen[-1] == "late"
    """)


# --- reload, unload ---

def test_reload_sees_what_has_changed(child):
    child(SHOP, """
        loader = start()
        import shop
        first = shop.cart
        assert shop.V == 1 and first.X == 1
        write("shop/cart.py", "X = 'edited'\\n"), write("shop/__init__.py", "V = 'edited'\\n"), write("shop/new.py", "X = 'new'\\n"), write("shop/deep/er.py", "")
        os.remove(at("shop/item.py"))
        raises(AttributeError, lambda: shop.new)
        loader.reload(everything=True)
        assert loaded() == []
        assert shop.cart.X == "edited" and shop.cart is not first, "whoever has hold of the old package is led to the new modules"
        assert shop.V == 1
        import shop
        assert shop.V == "edited" and shop.new.X == "new" and shop.deep.er
        raises(AttributeError, lambda: shop.item)
        assert first.X == 1
    """)


def test_same_size_edits_within_a_second(child, request):
    if request.node.callspec.params["nursery"] == "stock":
        return  # freshness is stock's
    child({"shop/__init__.py": "V = 000\n", "shop/cart.py": "X = 000\n", "shop/deep/__init__.py": "W = 000\n"}, """
        loader = start()
        for i in range(100, 160):
            write("shop/__init__.py", f"V = {i}\\n"), write("shop/cart.py", f"X = {i}\\n"), write("shop/deep/__init__.py", f"W = {i}\\n")
            loader.reload()
            import shop
            assert (shop.V, shop.cart.X, shop.deep.W) == (i, i, i)
    """)


@pytest.mark.parametrize("freshness", ["stat", "watch", "frozen"])
def test_freshness(child, tree, freshness, request):
    if request.node.callspec.params["nursery"] == "stock":
        return
    child(SHOP, f"""
        assert ladewerk.install(freshness={freshness!r})
        loader = start()
        import shop
        loader.eager_load()
        for i in range(20):
            write("shop/__init__.py", f"V = {{i + 100}}\\n"), write("shop/cart.py", f"X = {{i + 100}}\\n"), write(f"shop/new{{i}}.py", f"X = {{i}}\\n"), write(f"shop/sub{{i}}/x.py")
            loader.reload()
            import shop
            assert (shop.V, shop.cart.X, getattr(shop, f"new{{i}}").X) == (i + 100, i + 100, i) and getattr(shop, f"sub{{i}}").x
    """)


def test_same_size_edits_of_classes(child, request):
    if request.node.callspec.params["nursery"] == "stock":
        return
    child({"shop/cart.py": "class Cart: X = 000\n"}, """
        loader = start(convention="class")
        for i in range(100, 130):
            write("shop/cart.py", f"class Cart: X = {i}\\n")
            loader.reload(everything=True)
            import shop
            assert shop.Cart.X == i
    """)


def test_modules_become_packages_and_back(child):
    child({"shop/cart.py": "X = 'module'"}, """
        loader = start()
        import shop
        assert shop.cart.X == "module"
        os.remove(at("shop/cart.py"))
        write("shop/cart/__init__.py", "X = 'package'"), write("shop/cart/item.py", "Y = 1")
        loader.reload()
        assert shop.cart.X == "package" and shop.cart.item.Y == 1
        os.remove(at("shop/cart/__init__.py"))
        loader.reload()
        assert not hasattr(shop.cart, "X") and shop.cart.item.Y == 1
        os.remove(at("shop/cart/item.py"))
        write("shop/cart.py", "X = 'module again'")
        loader.reload()
        assert shop.cart.X == "module again" and not hasattr(shop.cart, "item")
    """)


def test_deleted_roots(child):
    child({"a/one.py": "", "b/two.py": "X = 1"}, """
        import shutil
        loader = start(root / "a", root / "b")
        loader.eager_load()
        shutil.rmtree(root / "b")
        loader.reload()
        loader.eager_load()
        assert "one" in sys.modules and "two" not in sys.modules
        assert at("b") not in loader.all_expected_modules() and loader.dirs == {at("a"): "", at("b"): ""}
        write("b/two.py", "X = 2")
        loader.reload()
        loader.eager_load()
        assert sys.modules["two"].X == 2
        shutil.rmtree(root / "a"), shutil.rmtree(root / "b")
        loader.reload()
        assert loader.all_expected_modules() == {}
    """)


def test_recovery_after_a_failed_load(child):
    child(SHOP, """
        loader = start()
        import shop
        for text, kind in (("X = 1 / 0\\n", ZeroDivisionError), ("def f(:\\n", SyntaxError), ("import nobody_knows\\n", ModuleNotFoundError)):
            write("shop/cart.py", text)
            loader.reload(everything=True)
            raises(kind, lambda: shop.cart)
            raises(kind, loader.eager_load)
            assert "shop.cart" not in sys.modules and "cart" not in vars(sys.modules["shop"])
        write("shop/cart.py", "X = 'mended'\\n")
        loader.reload(everything=True)
        assert shop.cart.X == "mended"
        write("shop/__init__.py", "def f(:\\n")
        loader.reload(everything=True)
        raises(SyntaxError, importlib.import_module, "shop")
        write("shop/__init__.py", "V = 'mended'\\n")
        loader.reload(everything=True)
        import shop
        assert shop.V == "mended" and shop.cart.X == "mended"
    """)


def test_a_reload_that_cannot_begin_changes_nothing(child):
    child({"shop/cart.py": "X = 1", "plug/x.py": ""}, """
        loader = start()
        import shop
        cart = shop.cart
        write("top.py")
        loader.push_dir(root / "plug", namespace="shop.cart")
        raises(Autoloader.NamespaceConflict, loader.reload)
        assert shop.cart is cart is sys.modules["shop.cart"] and loader.unloadable("shop.cart")
    """)


def test_push_dir_and_ignore_take_effect_with_the_next_reload(child):
    child({"a/one.py": "", "b/two.py": "", "a/three.py": ""}, """
        loader = start(root / "a")
        loader.push_dir(root / "b")
        loader.ignore(at("a/three.py"))
        assert at("b/two.py") not in loader.all_expected_modules()
        loader.reload()
        assert at("b/two.py") in loader.all_expected_modules() and at("a/three.py") not in loader.all_expected_modules()
        loader.eager_load()
        assert "two" in sys.modules
    """)


def test_unload(child):
    child(SHOP, """
        loader = start()
        import shop
        loader.eager_load()
        names = loader.unloadable_names()
        assert names == ["shop", "shop.admin", "shop.admin.role", "shop.cart", "shop.item"]
        loader.unload()
        assert loaded() == [] and not {"cart", "admin", "item"} & set(vars(shop))
        raises(AttributeError, lambda: shop.cart)
        raises(Autoloader.SetupRequired, loader.reload)
        assert not [finder for finder in sys.meta_path if type(finder).__module__ == "ladewerk._autoload._hooks"]
        loader.setup()
        assert shop.cart is sys.modules["shop.cart"]
    """)


def test_only_what_is_managed_is_unloaded(child):
    child({**SHOP, "shop/old.py": "", "lib/json_like.py": ""}, """
        sys.path.append(at("lib"))
        loader = make()
        loader.ignore(at("shop/old.py"), at("lib"))
        loader.setup()
        import shop.old, shop.cart, json_like, json
        sys.modules["shop.fake"] = fake = types.ModuleType("shop.fake")
        loader.reload(everything=True)
        assert loaded() == ["shop.fake", "shop.old"] and "json_like" in sys.modules
    """)


def test_a_module_from_elsewhere_is_not_unloaded(child):
    child(SHOP, """
        loader = start()
        import shop
        mine = types.ModuleType("shop.cart")
        sys.modules["shop.cart"] = mine
        assert not loader.unloadable("shop.cart")
        loader.reload(everything=True)
        assert sys.modules["shop.cart"] is mine
    """)


def test_unloadable(child):
    child({"shop/cart.py": "", "shop/models/user.py": ""}, """
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        assert not loader.unloadable("shop") and not loader.unloadable("shop.cart") and not loader.unloadable("json")
        import shop
        shop.cart, shop.user
        assert loader.unloadable("shop") and loader.unloadable("shop.cart") and loader.unloadable("shop.user") and not loader.unloadable("shop.nobody")
        assert loader.unloadable_names() == ["shop", "shop.cart", "shop.user"]
        loader.reload(everything=True)
        assert not loader.unloadable("shop.cart")
    """)


def test_unregister(child):
    child(SHOP, """
        loader = start()
        import shop
        cart = shop.cart
        loader.unregister()
        assert shop.cart is cart and sys.modules["shop"] is shop and "__getattr__" not in vars(shop)
        raises(AttributeError, lambda: shop.item)
        again = start()
        assert again.dirs == loader.dirs and shop.item.X == 1
    """)


def test_nothing_of_an_old_generation_stays(child):
    child(SHOP, """
        import gc, weakref
        loader = start()
        for i in range(5):
            import shop
            loader.eager_load()
            seen += [weakref.ref(shop), weakref.ref(shop.cart), weakref.ref(shop.admin)]
            del shop
            loader.reload(everything=True)
        gc.collect()
        assert [reference() for reference in seen] == [None] * 15
    """)


# --- callbacks ---

def test_on_load(child):
    child({**SHOP, "shop/models/user.py": ""}, """
        loader = make()
        loader.collapse(at("shop/models"))
        note = lambda which: lambda name, value, path: seen.append((which, name, value.__name__, os.path.relpath(path, root)))
        loader.on_load(callback=note("any"))
        loader.on_load("shop.cart", note("first"))
        loader.on_load("shop.cart")(note("second"))
        @loader.on_load(Autoloader.ANY)
        def noted(name, value, path):
            pass
        loader.setup()
        import shop
        assert seen == [("any", "shop", "shop", "shop/__init__.py")]
        del seen[:]
        shop.cart, shop.cart
        assert seen == [("first", "shop.cart", "shop.cart", "shop/cart.py"), ("second", "shop.cart", "shop.cart", "shop/cart.py"), ("any", "shop.cart", "shop.cart", "shop/cart.py")]
        del seen[:]
        import shop.admin.role
        shop.user
        assert seen == [("any", "shop.admin", "shop.admin", "shop/admin"), ("any", "shop.admin.role", "shop.admin.role", "shop/admin/role.py"), ("any", "shop.user", "shop.models.user", "shop/models/user.py")]
        del seen[:]
        loader.reload(everything=True)
        assert seen == []
        __import__("shop").cart
        assert [name for _, name, *_ in seen] == ["shop", "shop.cart", "shop.cart", "shop.cart"], "those registered survive a reload"
    """)


def test_on_load_of_classes(child):
    child({"shop/http_client.py": "class HTTPClient: pass"}, """
        loader = make(convention="class")
        loader.inflector.inflect({"http_client": "HTTPClient"})
        loader.on_load("shop.HTTPClient", lambda name, value, path: seen.append(value))
        loader.on_unload("shop.HTTPClient", lambda name, value, path: seen.append(value))
        loader.setup()
        import shop.http_client
        first = shop.HTTPClient
        assert seen == [first] and isinstance(first, type)
        loader.reload(everything=True)
        assert seen == [first, first]
    """)


def test_children_are_there_when_a_package_is_told_of(child):
    child(SHOP, """
        loader = make()
        loader.on_load("shop", lambda name, value, path: seen.append(value.cart.X))
        loader.on_load("shop.cart", lambda name, value, path: seen.append(__import__("shop").item.X + 10))
        loader.on_load("shop.cart", lambda name, value, path: seen.append(__import__("shop").cart is value))
        loader.setup()
        import shop
        assert seen == [11, True, 1], "re-entrant"
    """)


def test_a_callback_that_fails(child):
    child(SHOP, """
        loader = make()
        loader.on_load("shop.cart", lambda name, value, path: seen.append(1) or 1 / (len(seen) - 1))
        loader.setup()
        import shop
        raises(ZeroDivisionError, lambda: shop.cart)
        assert loaded() == ["shop"] and "cart" not in vars(shop)
        assert shop.cart.X == 1 and len(seen) == 2
    """)


def test_on_unload(child):
    child(SHOP, """
        loader = make()
        note = lambda which: lambda name, value, path: seen.append((which, name, value is not None and sys.modules.get(name) is value))
        loader.on_unload(callback=note("any"))
        loader.on_unload("shop.cart", note("cart"))
        loader.on_unload("shop.nobody", note("nobody"))
        loader.setup()
        import shop
        shop.cart, shop.admin
        loader.reload(everything=True)
        assert seen == [("any", "shop.admin", True), ("cart", "shop.cart", True), ("any", "shop.cart", True), ("any", "shop", True)], seen
        del seen[:]
        loader.reload(everything=True)
        assert seen == []
        import shop
        loader.unload()
        assert seen == [("any", "shop", True)]
    """)


def test_on_unload_runs_when_the_module_has_gone(child):
    child(SHOP, """
        loader = make()
        loader.on_unload("shop.cart", lambda name, value, path: seen.append(value))
        loader.setup()
        import shop
        cart = shop.cart
        del sys.modules["shop.cart"], shop.cart
        loader.reload(everything=True)
        assert seen == [cart]
        loader.reload(everything=True)
        assert len(seen) == 1
    """)


def test_on_unload_may_load(child):
    child(SHOP, """
        loader = make()
        loader.on_unload("shop.cart", lambda name, value, path: seen.append(("cart", __import__("shop").item.X)))
        loader.on_unload("shop.item", lambda name, value, path: seen.append("item"))
        loader.setup()
        import shop
        shop.cart
        loader.reload(everything=True)
        assert seen == [("cart", 1), "item"] and loaded() == [], "what a callback loads is unloaded and told of as well"
    """)


def test_an_unload_callback_that_fails_stops_the_reload(child):
    child(SHOP, """
        loader = make()
        loader.on_unload("shop.cart", lambda name, value, path: 1 / 0)
        loader.setup()
        import shop
        cart = shop.cart
        raises(ZeroDivisionError, loader.reload, True)
        assert shop.cart is cart is sys.modules["shop.cart"]
    """)


def test_loggers(child):
    child(SHOP, """
        loader = make(tag="main")
        loader.logger = seen.append
        loader.setup()
        import shop
        shop.cart
        loader.reload(everything=True)
        assert seen == [f"autoloader main: set up: {root}", f"autoloader main: shop loaded from {at('shop/__init__.py')}", f"autoloader main: shop.cart loaded from {at('shop/cart.py')}",
                        "autoloader main: shop.cart unloaded", "autoloader main: shop unloaded", f"autoloader main: set up: {root}"], seen
        loader.logger = None
        Autoloader.default_logger = seen.clear() or (lambda text: seen.append(text))
        __import__("shop").item
        assert len(seen) == 2 and repr(loader) == f"<Autoloader main: {root}>"
    """)


# --- the registry ---

APP = {"shop/__init__.py": "", "shop/cart.py": "import shop\nfrom . import item\nfrom shop.admin.role import Role\ndef f():\n    return shop.user.User\n", "shop/item.py": "import json\n",
       "shop/admin/role.py": "from .. import item as i\nclass Role: pass\n", "shop/models/user.py": "class User: pass\n", "shop/broken.py": "def f(:\n"}


def test_registry(child):
    child(APP, """
        loader = make()
        loader.collapse(at("shop/models"))
        assert len(ladewerk.registry()) == 0
        loader.setup()
        import shop
        registry = ladewerk.registry()
        assert sorted(registry) == ["shop", "shop.admin", "shop.admin.role", "shop.broken", "shop.cart", "shop.item", "shop.user"] and len(registry) == 7
        assert registry.name_of(at("shop/models/user.py")) == "shop.user" and registry.path_of("shop.user") == at("shop/models/user.py")
        assert registry.name_of(at("shop/admin")) == "shop.admin" and registry.path_of("shop.admin") == at("shop/admin") and registry.name_of(at("none.py")) is None
        assert registry.name_of(at("shop")) == "shop" == registry.name_of(at("shop/__init__.py"))
        assert registry.module("shop") is shop and registry.module("shop.cart") is registry.NotLoaded and not registry.NotLoaded
        raises(KeyError, registry.module, "shop.nobody"), raises(KeyError, registry.imports, "nobody"), raises(KeyError, registry.importers, "nobody")
        assert "shop.cart" in registry and "json" not in registry
        shop.item
        assert registry.module("shop.item") is registry.NotLoaded, "a snapshot does not change"
        assert ladewerk.registry().module("shop.item") is shop.item
        assert [entry.module for entry in registry.entries() if entry.name == "shop.user"] == ["shop.models.user"]
    """)


def test_registry_imports(child):
    child(APP, """
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        registry = ladewerk.registry()
        assert registry.imports("shop.cart") == {"shop", "shop.item", "shop.admin.role", "shop.user"}
        assert registry.imports("shop.item") == set() == registry.imports("shop.admin") == registry.imports("shop.broken")
        assert registry.imports("shop.admin.role") == {"shop.item"}
        assert registry.importers("shop.item") == {"shop.cart", "shop.admin.role"} and registry.importers("shop.broken") == set()
        assert "shop.cart" not in sys.modules
        write("shop/item.py", "import shop.broken\\n")
        assert ladewerk.registry().imports("shop.item") == {"shop.broken"} and registry.imports("shop.item") == set()
    """)


def test_the_registry_goes_past_sources_that_are_too_deep_for_the_parser(child):
    child({"shop/a.py": "import shop.c", "shop/sum.py": "import shop.c\nX = " + "+".join(["1"] * 30000), "shop/nested.py": "import shop.c\nX = " + "-" * 30000 + "1", "shop/c.py": ""}, """
        start()
        registry = ladewerk.registry()
        assert "shop.a" in registry.importers("shop.c")
    """)
