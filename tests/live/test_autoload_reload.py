# SPDX-License-Identifier: MIT
"""Autoloader.reload(): what has changed and what depends on it, in one step or not at all; and ladewerk.reload() where autoloaders manage modules."""
import textwrap

import pytest
from autoloading import fresh  # noqa: F401

# Objects of before and after: same(old) and new(old) say which of them are still what they were.
FOLLOW = """
from ladewerk import ReloadError, Reloaded
def objects():
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("shop", "store", "host")}
def replaced(before):
    now = objects()
    return sorted(name for name in before if now.get(name) is not before[name])
def settled():  # what is written now is not too young to be believed
    import time
    end = time.time_ns() + 40_000_000
    while time.time_ns() < end:
        time.sleep(0.001)
"""


def follow(*code):
    return "".join(map(textwrap.dedent, (FOLLOW, *code)))


SHOP = {
    "shop/__init__.py": "V = 1\n",
    "shop/item.py": "PRICE = 4\nclass Item: pass\n",
    "shop/cart.py": "import shop\nTOTAL = shop.item.PRICE * 2\ndef later():\n    return shop.tax.RATE\n",
    "shop/order.py": "import shop\nclass Order(shop.item.Item): pass\ndef total():\n    return shop.cart.TOTAL\n",
    "shop/tax.py": "RATE = 19\n",
    "shop/deep/er/one.py": "X = 1\n",
    "shop/deep/er/two.py": "from . import one\nX = one.X\n",
}


def test_only_what_has_changed_and_what_depends_on_it(fresh):
    fresh(SHOP, follow("""
        loader = start()
        import shop
        loader.eager_load()
        settled()
        before = objects()
        assert not loader.reload()
        assert replaced(before) == []

        write("shop/item.py", "PRICE = 5\\nclass Item: pass\\n")  # used by attribute: in a body, and as a base
        done = loader.reload()
        assert replaced(before) == ["shop.cart", "shop.item", "shop.order"], replaced(before)
        assert done.changed == ("shop.item",) and done.executed[0] == "shop.item" and set(done.executed) == {"shop.item", "shop.cart", "shop.order"}
        assert shop.cart.TOTAL == 10 and issubclass(shop.order.Order, shop.item.Item) and shop.order.total() == 10 and shop is before["shop"]

        before = objects()
        write("shop/tax.py", "RATE = 7\\n")  # used in a function only, which looks it up when it runs
        loader.reload()
        assert replaced(before) == ["shop.tax"] and shop.cart.later() == 7

        before = objects()
        write("shop/deep/er/one.py", "X = 2\\n")  # imported relatively, below namespaces
        loader.reload()
        assert replaced(before) == ["shop.deep.er.one", "shop.deep.er.two"] and shop.deep.er.two.X == 2

        before = objects()
        write("shop/__init__.py", "V = 2\\n")
        loader.reload()
        assert replaced(before) == ["shop", "shop.cart", "shop.order"] and shop.V == 2, "the name in __main__ is bound to the new one"
        assert shop.item is before["shop.item"] and shop.deep.er.two.X == 2

        before = objects()
        assert loader.reload().executed == () and replaced(before) == []
    """))


def test_new_and_deleted_files(fresh):
    fresh({**SHOP, "shop/view.py": "import shop\ndef f():\n    return shop.fresh.X\n"}, follow("""
        loader = make()
        loader.on_unload(callback=lambda name, module, path: seen.append((name, module)))
        loader.setup()
        import shop
        loader.eager_load()
        settled()
        before = objects()
        raises(AttributeError, shop.view.f)
        write("shop/fresh.py", "X = 1\\n"), write("shop/brand/new.py", "X = 2\\n"), write("shop/view.py", "import shop\\nY = shop.fresh.X + shop.brand.new.X\\n")
        done = loader.reload()
        assert replaced(before) == ["shop.view"] and shop.view.Y == 3 and shop.brand.new.X == 2 and "shop.fresh" in sys.modules
        assert set(loader.unloadable_names()) >= {"shop.fresh", "shop.brand.new"}

        del seen[:]
        before = objects()
        os.remove(at("shop/tax.py"))
        import shutil
        shutil.rmtree(at("shop/deep"))
        done = loader.reload()
        assert set(done.removed) == {"shop.tax", "shop.deep", "shop.deep.er", "shop.deep.er.one", "shop.deep.er.two"}, done
        assert {name for name, _ in seen} == set(done.removed) and all(before[name] is module for name, module in seen)
        order = [name for name, _ in seen]
        assert order.index("shop.deep.er.one") < order.index("shop.deep.er") < order.index("shop.deep"), "modules before their packages"
        raises(AttributeError, lambda: shop.tax), raises(AttributeError, lambda: shop.deep)
        assert replaced(before) == sorted(done.removed) and not set(done.removed) & set(loader.unloadable_names())

        os.remove(at("shop/item.py"))  # which others still use
        before = objects()
        error = raises(ReloadError, loader.reload)
        assert type(error.__cause__) is AttributeError and error.name in ("shop.cart", "shop.order") and replaced(before) == [], error
        assert shop.item.PRICE == 4
    """))


def test_modules_become_packages_and_directories_come_and_go(fresh):
    fresh({"a/shop/cart.py": "X = 'module'", "a/shop/both.py": "X = 'a'", "a/shop/user.py": "import shop\nX = shop.cart.X\n", "b/other.py": ""}, follow("""
        loader = start(root / "a", root / "b")
        import shop
        loader.eager_load()
        settled()
        os.remove(at("a/shop/cart.py"))
        write("a/shop/cart/__init__.py", "X = 'package'\\n"), write("a/shop/cart/item.py", "Y = 1\\n")
        loader.reload()
        assert shop.cart.X == shop.user.X == "package" and shop.cart.item.Y == 1
        os.remove(at("a/shop/cart/__init__.py")), os.remove(at("a/shop/cart/item.py")), os.rmdir(at("a/shop/cart")) if not os.listdir(at("a/shop/cart")) else None
        write("a/shop/cart.py", "X = 'again'\\n")
        loader.reload()
        assert shop.cart.X == shop.user.X == "again" and not hasattr(shop.cart, "item") and "shop.cart.item" not in sys.modules

        write("b/shop/more.py", "X = 'more'\\n"), write("b/shop/both.py", "X = 'b'\\n")  # the same package in another root
        loader.reload()
        assert shop.more.X == "more" and shop.both.X == "a" and list(shop.__path__) == [at("a/shop"), at("b/shop")]
        os.remove(at("a/shop/both.py"))
        loader.reload()
        assert shop.both.X == "b"

        write("a/shop/sub/__init__.py", "A = 1\\n"), write("a/shop/sub/x.py", "X = 1\\n"), write("a/shop/lone.py", "")
        loader.reload()
        assert shop.sub.A == shop.sub.x.X == 1 and shop.lone
        os.remove(at("a/shop/sub/__init__.py"))
        loader.reload()
        assert not hasattr(shop.sub, "A") and shop.sub.x.X == 1, "a namespace now"
        os.remove(at("a/shop/sub/x.py")), os.remove(at("a/shop/lone.py")), os.mkdir(at("a/shop/lone"))
        loader.reload()
        assert not hasattr(shop, "sub") and not hasattr(shop, "lone"), "directories that hold nothing are none"
        write("a/shop/sub/__init__.py", "A = 22\\n"), write("a/shop/sub/x.py", "X = 22\\n")
        loader.reload()
        assert shop.sub.A == shop.sub.x.X == 22
        os.remove(at("a/shop/sub/x.py")), os.remove(at("a/shop/sub/__init__.py"))
        loader.reload()
        assert not hasattr(shop, "sub")
    """))


FAILURES = {
    "syntax": ("shop/item.py", "PRICE = (\n", SyntaxError, "shop.item", 1),
    "body": ("shop/item.py", "PRICE = 5\n\n1 / 0\n", ZeroDivisionError, "shop.item", 3),
    "dependant": ("shop/item.py", "PRICE = None\nclass Item: pass\n", TypeError, "shop.cart", 2),
    "name": ("shop/order.py", "import shop\nshop.nobody\n", AttributeError, "shop.order", 2),
}


def test_on_failure_nothing_has_changed(fresh):
    fresh(SHOP, follow(f"""
        FAILURES = {({key: (*rest[:2], rest[2].__name__, *rest[3:]) for key, rest in FAILURES.items()})!r}
        loader = make()
        live = {{}}  # as a registry that is kept by callbacks
        loader.on_load(callback=lambda name, module, path: live.__setitem__(name, module))
        loader.on_unload(callback=lambda name, module, path: live.pop(name))
        loader.setup()
        import shop
        loader.eager_load()
        settled()
        for kind, (path, text, error_type, name, line) in FAILURES.items():
            before, texts = objects(), {{each: open(at(each)).read() for each in ("shop/item.py", "shop/order.py")}}
            attributes, table = {{key: dict(vars(module)) for key, module in before.items()}}, loader._table
            write(path, text), write("shop/fresh.py", "")
            error = raises(ReloadError, loader.reload)
            assert (type(error.__cause__).__name__, error.name, error.line) == (error_type, name, line), (kind, error)
            assert objects() == before and {{key: dict(vars(module)) for key, module in before.items()}} == attributes and loader._table is table, kind
            assert live == before, kind
            raises(AttributeError, lambda: shop.fresh)
            for each, content in texts.items():
                write(each, content)
            os.remove(at("shop/fresh.py"))
            loader.reload()
            assert shop.cart.TOTAL == 8 and live == objects(), kind
    """))


def test_callbacks(fresh):
    fresh(SHOP, follow("""
        loader = make(tag="main")
        note = lambda what: lambda name, module, path: seen.append((what, name, sys.modules.get(name) is module))
        loader.on_load(callback=note("load")), loader.on_unload(callback=note("unload"))
        loader.on_load("shop.item", lambda name, module, path: setattr(module, "PRICE", module.PRICE + 100))
        loader.on_setup(lambda: seen.append("setup"))
        loader.setup()
        import shop
        shop.cart, shop.order
        assert shop.cart.TOTAL == 208
        settled()
        del seen[:]
        write("shop/item.py", "PRICE = 5\\nclass Item: pass\\n")
        loader.reload()
        assert shop.cart.TOTAL == 210, "what depends on it sees what callbacks have done, as at a first load"
        kinds = [each if type(each) is str else each[:2] for each in seen]
        assert sorted(kinds[:3]) == [("unload", "shop.cart"), ("unload", "shop.item"), ("unload", "shop.order")], seen
        assert kinds[3] == ("load", "shop.item") and sorted(kinds[4:6]) == [("load", "shop.cart"), ("load", "shop.order")] and kinds[6:] == ["setup"], seen
        assert all(each[2] for each in seen[:3]), "before they have gone"

        loader.on_unload("shop.tax", lambda name, module, path: fails and 1 / 0)
        fails = [1]
        shop.tax
        before = objects()
        write("shop/tax.py", "RATE = 1\\n")
        error = raises(ReloadError, loader.reload)
        assert type(error.__cause__) is ZeroDivisionError and replaced(before) == [] and shop.tax.RATE == 19
        fails.clear()
        loader.reload()
        assert shop.tax.RATE == 1
        loader.on_load("shop.deep.er.one", lambda name, module, path: 1 / (module.X - 5))
        shop.deep.er.two
        write("shop/deep/er/one.py", "X = 5\\n")
        error = raises(ReloadError, loader.reload)
        assert type(error.__cause__) is ZeroDivisionError and error.name == "shop.deep.er.one"
        assert shop.deep.er.one.X == 1
    """))


def test_collapsed_directories(fresh):
    fresh({"shop/models/user.py": "NAME = 'a'\nclass User: pass\n", "shop/page.py": "import shop\nTITLE = shop.user.NAME\n", "shop/list.py": "from shop import user\nTITLE = user.NAME\n",
           "shop/far.py": "from shop.models.user import NAME\n", "shop/near.py": "from shop.user import NAME\n", "shop/models/group/__init__.py": "G = 1\n", "shop/models/group/m.py": "from . import G\n"}, follow("""
        loader = make()
        loader.collapse(at("shop/*s"))
        loader.setup()
        import shop, shop.user, shop.group.m
        loader.eager_load()
        settled()
        before = objects()
        write("shop/models/user.py", "NAME = 'b'\\nclass User: pass\\n")
        loader.reload()
        assert replaced(before) == ["shop.far", "shop.list", "shop.models.user", "shop.near", "shop.page", "shop.user"], replaced(before)
        assert shop.user is sys.modules["shop.user"] is sys.modules["shop.models.user"] is importlib.import_module("shop.user") is importlib.import_module("shop.models").user
        assert shop.page.TITLE == shop.list.TITLE == shop.far.NAME == shop.near.NAME == "b"
        assert shop.user.User.__module__ == "shop.models.user" and pickle.loads(pickle.dumps(shop.user.User)) is shop.user.User

        before = objects()
        write("shop/models/group/__init__.py", "G = 2\\n")
        loader.reload()
        assert shop.group is sys.modules["shop.group"] is sys.modules["shop.models.group"] is not before["shop.group"] and shop.group.m.G == 2
        assert sys.modules["shop.group.m"] is sys.modules["shop.models.group.m"] is shop.group.m

        write("shop/jobs/run.py", "X = 1\\n"), os.remove(at("shop/far.py")), os.remove(at("shop/near.py")), os.remove(at("shop/list.py"))
        write("shop/page.py", "import shop\\nTITLE = shop.run.X\\n")  # a directory that the pattern means now
        os.remove(at("shop/models/user.py"))
        loader.reload()
        assert shop.page.TITLE == 1 and shop.run is sys.modules["shop.jobs.run"] and not {"shop.user", "shop.models.user"} & set(sys.modules)
        raises(AttributeError, lambda: shop.user)
    """))


def test_the_convention_class(fresh):
    fresh({"shop/cart.py": "class Cart: X = 1\n", "shop/big_cart.py": "import shop\nclass BigCart(shop.Cart): pass\n", "shop/from_cart.py": "from shop import Cart\nclass FromCart(Cart): pass\n",
           "shop/other.py": "import shop\nclass Other:\n    def cart(self):\n        return shop.Cart\n"}, follow("""
        loader = make(convention="class")
        loader.on_unload("shop.Cart", lambda name, value, path: seen.append(value)), loader.on_load("shop.Cart", lambda name, value, path: seen.append(value))
        loader.setup()
        import shop
        loader.eager_load()
        olds = [shop.Cart]
        settled()
        before = objects()
        write("shop/cart.py", "class Cart: X = 2\\n")
        loader.reload()
        assert replaced(before) == ["shop.big_cart", "shop.cart", "shop.from_cart"] and shop.Cart.X == 2 and shop.Other().cart() is shop.Cart
        assert shop.BigCart.__mro__[1] is shop.FromCart.__mro__[1] is shop.Cart is sys.modules["shop.cart"].Cart is not olds[0]
        assert seen == [*olds, *olds, shop.Cart], seen

        before, cart = objects(), shop.Cart
        write("shop/cart.py", "class Basket: X = 3\\n")
        error = raises(ReloadError, loader.reload)
        assert type(error.__cause__) is Autoloader.ExpectedNameError and replaced(before) == [] and shop.Cart is cart
        write("shop/cart.py", "class Cart: X = 2\\n"), write("shop/new_one.py", "import shop\\nclass NewOne(shop.Cart): pass\\n")
        loader.reload()
        assert shop.NewOne.X == 2
    """))


def test_several_autoloaders_and_what_nobody_manages(fresh):
    fresh({"a/shop/cart.py": "X = 1\n", "b/store/list.py": "import shop\nX = shop.cart.X\n", "c/host/__init__.py": "import ladewerk\nloader = ladewerk.Autoloader.for_package(__name__)\nloader.enable_reloading()\nloader.setup()\n",
           "c/host/tool.py": "X = 1\n", "c/plain.py": "RUNS = []\nimport shop\nfrom shop import cart\nfrom shop.cart import X\nRUNS.append(1)\n", "p/pay.py": "X = 1\n",
           "f/fix/page.py": "import shop\nclass Page: X = shop.cart.X\n", "f/fix/models/user.py": "import shop\nclass User: X = shop.cart.X\n"}, follow("""
        sys.path.append(at("c"))
        a, b = start(root / "a"), make(root / "b")
        b.push_dir(root / "p", namespace="host.plugins")
        write("c/host/plugins/__init__.py")
        b.setup()
        import shop, store, host, plain
        store.list, host.tool, host.plugins.pay
        settled()
        before, runs, extra = objects(), plain.RUNS, plain
        write("a/shop/cart.py", "X = 2\\n"), write("c/host/tool.py", "X = 2\\n"), write("p/pay.py", "X = 2\\n")
        a.reload()
        assert replaced(before) == ["shop.cart", "store.list"] and store.list.X == 2, "what another manages depends on it"
        assert plain is extra and plain.RUNS is runs == [1] and plain.X == 2 and plain.cart is shop.cart, "what nobody manages is not executed again, but led to the new"
        b.reload()
        assert replaced(before) == ["host.plugins.pay", "shop.cart", "store.list"] and host.plugins.pay.X == 2 and host.tool.X == 1
        host.loader.reload()
        assert host.tool.X == 2 and host is before["host"]
        write("c/host/fresh.py", "X = 1\\n")
        host.loader.reload()
        assert host.fresh.X == 1

        fixed = Autoloader(convention="class")  # without enable_reloading()
        fixed.push_dir(root / "f")
        fixed.collapse(at("f/fix/models"))
        fixed.setup()
        import fix
        firsts = [fix.Page, fix.User]
        write("a/shop/cart.py", "X = 3\\n")
        a.reload()
        assert firsts == [fix.Page, fix.User] and fix.Page.X == 2, "it is not executed again by others' reload"
        write("a/shop/cart.py", "X = 4\\n")
        ladewerk.reload()
        assert fix.Page.X == 4 and fix.Page is sys.modules["fix.page"].Page and fix.User.X == 4 and fix.User is sys.modules["fix.models.user"].User
    """))


def test_reload_of_all(fresh):
    """ladewerk.reload() does what the autoloaders' own would."""
    fresh({**SHOP, "shop/models/user.py": "import shop\nRATE = shop.tax.RATE\n", "plain.py": "import shop\nX = shop.item.PRICE\n"}, follow("""
        loader = make()
        loader.collapse(at("shop/models"))
        loader.on_load(callback=lambda name, module, path: seen.append(name)), loader.on_unload(callback=lambda name, module, path: seen.append("-" + name))
        loader.setup()
        import shop, plain
        loader.eager_load()
        settled()
        assert not ladewerk.reload()
        before = objects()
        del seen[:]
        write("shop/tax.py", "RATE = 7\\n"), write("shop/fresh.py", "X = 1\\n")
        done = ladewerk.reload()
        assert replaced(before) == ["shop.models.user", "shop.tax"] and shop.user.RATE == 7 and shop.user is sys.modules["shop.models.user"] and shop.fresh.X == 1
        assert seen == ["-shop.user", "-shop.tax", "shop.tax", "shop.user", "shop.fresh"], seen
        write("shop/__init__.py", "V = 2\\n"), write("shop/item.py", "PRICE = 6\\nclass Item: pass\\n")
        ladewerk.reload()
        assert plain.X == 6 and shop.V == 2 and shop.cart.TOTAL == 12 and shop.user.RATE == 7
        assert "__getattr__" in vars(shop) and loader.unloadable("shop.user")
        before = objects()
        write("shop/tax.py", "RATE = (\\n"), write("shop/late.py", "")
        raises(ReloadError, ladewerk.reload)
        assert replaced(before) == [] and not hasattr(shop, "late")
        write("shop/tax.py", "RATE = 888\\n")
        loader.reload()
        assert shop.user.RATE == 888 and hasattr(shop, "late")
        loader.reload(everything=True)
        assert loaded() == [], loaded()
        import shop
        assert shop.user.RATE == 888
        write("shop/tax.py", "RATE = 9999\\n")
        ladewerk.reload()
        assert shop.user.RATE == 9999
    """))


LIVE = """
        live, fails = [], set()
        loader = make()
        loader.on_load("*", lambda name, module, path: live.append(module))
        loader.on_load("*", lambda name, module, path: name == "shop.item" and "load" in fails and 1 / 0)
        loader.on_unload("*", lambda name, module, path: live.remove(module))
        loader.on_unload("*", lambda name, module, path: name == "shop.item" and "unload" in fails and 1 / 0)
        def is_live():
            return sorted(map(id, live)) == sorted(id(sys.modules[name]) for name in loader.unloadable_names())
"""


def test_a_callback_fails_after_another_has_been_told(fresh):
    """What that one keeps has what is live, all the same."""
    fresh(SHOP, follow(LIVE, """
        loader.setup()
        import shop
        shop.cart, shop.order
        settled()
        assert is_live() and len(live) == 4
        before = objects()
        for kind in ("unload", "load"):
            write("shop/item.py", f"PRICE = 8\\nKIND = {kind!r}\\nclass Item: pass\\n")
            fails.add(kind)
            error = raises(ReloadError, loader.reload)
            assert type(error.__cause__) is ZeroDivisionError and error.name == "shop.item"
            fails.clear()
            assert replaced(before) == [] and is_live(), (kind, live)
        loader.reload()
        assert shop.cart.TOTAL == 16 and is_live()
    """))


def test_in_place_with_files_that_come_and_go(fresh):
    """Modules, classes and the names for them stay, and so does what callbacks were given."""
    fresh({**SHOP, "shop/models/user.py": "import shop\nRATE = shop.tax.RATE\n", "store/http.py": "class Http:\n    def get(self):\n        return 1\n"}, follow(LIVE, """
        classes = Autoloader(convention="class")
        loader.ignore(at("store"))
        loader.collapse(at("shop/models"))
        classes.push_dir(root / "store", namespace="web")
        classes.enable_reloading()
        sys.modules["web"] = web = types.ModuleType("web")
        web.__path__ = []
        loader.setup(), classes.setup()
        import shop.user
        shop.cart, shop.order
        settled()
        before, user, Http, Item, order = objects(), shop.user, web.Http, shop.item.Item, shop.order.Order()
        assert is_live() and len(live) == 6
        http = Http()
        write("shop/item.py", "PRICE = 55\\nclass Item: VALUE = 55\\n"), write("shop/__init__.py", "V = 22\\n"), write("shop/tax.py", "RATE = 777\\n")
        write("store/http.py", "class Http:\\n    def get(self):\\n        return 22\\n")
        ladewerk.reload(policy="in place")
        assert replaced(before) == [] and is_live()
        assert (shop.V, shop.item.PRICE, shop.cart.TOTAL, shop.user.RATE, user.RATE, order.VALUE) == (22, 55, 110, 777, 777, 55) and shop.item.Item is Item
        assert web.Http is sys.modules["web.http"].Http is Http and http.get() == 22
        write("shop/fresh.py", "X = 3\\n"), write("shop/item.py", "PRICE = 5\\n1 / 0\\n")
        raises(ReloadError, lambda: ladewerk.reload(policy="in place"))
        assert replaced(before) == [] and is_live() and shop.item.PRICE == 55 and not hasattr(shop, "fresh")
        write("shop/item.py", "import shop\\nPRICE = shop.fresh.X\\nclass Item: VALUE = 4\\n")
        ladewerk.reload(policy="in place")
        assert replaced(before) == [] and is_live() and (shop.cart.TOTAL, order.VALUE) == (6, 4)
        os.remove(at("shop/tax.py")), os.remove(at("shop/models/user.py"))
        ladewerk.reload(policy="in place")
        assert is_live() and not hasattr(shop, "tax") and not hasattr(shop, "user") and "shop.user" not in sys.modules
    """))


def test_on_setup_that_fails_undoes_nothing(fresh):
    """It is told after the step: other callbacks are called, too."""
    fresh(SHOP, follow("""
        loader = start()
        import shop
        shop.cart, shop.tax
        reloader, gone, told = ladewerk.Reloader(), [], []
        reloader.on_unload(lambda name, module: gone.append(name))
        settled()
        reloader.reload()
        sys.excepthook = lambda *what: told.append(what[0])
        loader.on_setup(lambda: shop.item.PRICE == 55 and 1 / 0)
        loader.on_setup(lambda: seen.append(shop.item.PRICE))
        write("shop/item.py", "PRICE = 55\\nclass Item: pass\\n"), os.remove(at("shop/tax.py"))
        done = reloader.reload()
        assert done.removed == ("shop.tax",) and shop.cart.TOTAL == 110 and gone == ["shop.tax"] and told == [ZeroDivisionError]
        assert not reloader.reload()
    """))


def test_a_body_that_meddles_with_its_own_reload(fresh):
    """It fails, or it is as if it were not: nothing is unloaded under a reload's feet, and the reload ends."""
    fresh(SHOP, follow("""
        import builtins, gc
        from ladewerk._reload._share import Overtaken
        loader = builtins.LOADER = start()
        builtins.ROOT = root
        import shop
        shop.cart
        settled()
        loader.reload()
        before, importer = objects(), builtins.__import__
        for call in ("reload(everything=True)", "unload()", "reload()", "unregister(), LOADER.push_dir(ROOT), LOADER.setup()"):
            write("shop/item.py", f"PRICE = 8\\nclass Item: pass\\nLOADER.{call}\\n")
            error = raises(Overtaken if "setup" in call else ReloadError, loader.reload)
            assert "nothing was changed" in str(error), error
            assert replaced(before) == [] and shop.cart.TOTAL == 8 and gc.isenabled() and builtins.__import__ is importer
        write("shop/item.py", "PRICE = 9\\nclass Item: pass\\n")
        loader.reload()
        assert shop.cart.TOTAL == 18
    """))


@pytest.mark.parametrize("watch", [True, False], ids=["told", "looked"])
def test_a_namespace_package_gets_a_file_of_its_own(fresh, watch):
    """Managed or not, with modules loaded from it or none; and loses it again."""
    fresh({"app/shop/deep/a.py": "X = 1\n", "plain/store/full/a.py": "X = 1\n", "plain/store/bare/a.py": ""}, follow(f"""
        loader = start(root / "app")
        reloader = ladewerk.Reloader(watch={watch})
        sys.path.append(at("plain"))
        import shop.deep.a, store.full.a, store.bare
        settled()
        reloader.reload()
        for policy in "replace", "in place":
            for value in 1, 22, None:
                for name in "app/shop/deep", "plain/store/full", "plain/store/bare":
                    write(name + "/__init__.py", f"V = {{value}}\\n") if value else os.remove(at(name + "/__init__.py"))
                done = reloader.reload(policy=policy)
                assert {{*done.changed}} == {{"shop.deep", "store.full", "store.bare"}}, done
                assert [getattr(each, "V", None) for each in (shop.deep, store.full, store.bare)] == [value] * 3
                assert shop.deep.a.X == store.full.a.X == 1
    """))


def test_a_first_import_that_is_undone_is_another_autoloaders(fresh):
    fresh({"app/shop/cart.py": "X = 1\n", "lib/store/one.py": "X = 1\n"}, follow("""
        loader, other = make(root / "app"), make(root / "lib")
        other.on_load("*", lambda name, module, path: seen.append("+" + name))
        other.on_unload("*", lambda name, module, path: seen.append("-" + name))
        loader.setup(), other.setup()
        import shop
        shop.cart
        settled()
        write("app/shop/cart.py", "import store\\nX = store.one.X\\n1 / 0\\n")
        raises(ReloadError, loader.reload)
        assert seen == ["+store", "+store.one", "-store.one", "-store"] and other.unloadable_names() == [], seen
        other.reload(), other.reload(everything=True)
        assert len(seen) == 4, seen
    """))


def test_watch(fresh):
    fresh(SHOP, follow("""
        loader = start()
        import shop
        loader.eager_load()
        settled()
        told = []
        def until(condition):
            import time
            end = time.monotonic() + 60
            while not condition():
                assert time.monotonic() < end, told
                time.sleep(0.002)
        with ladewerk.watch(told.append):
            write("shop/item.py", "PRICE = 6\\nclass Item: pass\\n")
            until(lambda: shop.cart.TOTAL == 12)
            write("shop/cart.py", "import shop\\nTOTAL = shop.fresh.X\\n")
            until(lambda: told and type(told[-1]) is ReloadError)
            assert shop.cart.TOTAL == 12
            write("shop/fresh.py", "X = 77\\n")  # what it was waiting for
            until(lambda: shop.cart.TOTAL == 77)
            write("shop/alone.py", "X = 1\\n")
            until(lambda: hasattr(shop, "alone"))
            os.remove(at("shop/alone.py"))
            until(lambda: not hasattr(shop, "alone"))
    """))


def test_a_fork_while_another_thread_reloads(fresh):
    fresh({"shop/cart.py": "X = 1\n", "shop/item.py": "X = 1\n"}, follow("""
        loader = make()
        inside, go_on = threading.Event(), threading.Event()
        loader.on_load("shop.cart", lambda name, module, path: module.X == 2 and (inside.set(), go_on.wait(60)))
        loader.setup()
        import shop
        shop.cart
        settled()
        write("shop/cart.py", "X = 2\\n"), write("shop/fresh.py", "X = 3\\n")
        other = threading.Thread(target=loader.reload)
        other.start()
        assert inside.wait(60)
        pid = os.fork()
        if not pid:
            try:
                assert shop.cart.X == 1 and not hasattr(shop, "fresh")
                inside.set(), go_on.set()
                loader.reload()
                assert shop.cart.X == 2 and shop.fresh.X == 3 and shop.item.X == 1
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        go_on.set()
        other.join(60)
        assert shop.cart.X == 2 and shop.fresh.X == 3
    """))


def test_pins_and_threads(fresh):
    fresh(SHOP, follow("""
        loader = start()
        import shop
        shop.cart
        settled()
        write("shop/item.py", "PRICE = 5\\nclass Item: pass\\n")
        with ladewerk.pinned():
            raises(ReloadError, loader.reload)
            other = threading.Thread(target=loader.reload)
            other.start()
            assert shop.cart.TOTAL == 8 and shop.item.PRICE == 4, "the swap waits for pins"
        other.join(60)
        assert not other.is_alive() and shop.cart.TOTAL == 10
        fails = []
        stop = threading.Event()
        def read():
            while not stop.is_set():
                with ladewerk.pinned():
                    if shop.cart.TOTAL != 2 * shop.item.PRICE:
                        fails.append((shop.cart.TOTAL, shop.item.PRICE))
        threads = [threading.Thread(target=read) for _ in range(3)]
        [thread.start() for thread in threads]
        for price in range(100, 115):
            write("shop/item.py", f"PRICE = {price}\\nclass Item: pass\\n")
            loader.reload()
            assert shop.cart.TOTAL == 2 * price
        stop.set()
        [thread.join(60) for thread in threads]
        assert fails == []
        import gc, weakref
        references = []
        for price in range(5):
            references += [weakref.ref(shop.item), weakref.ref(shop.cart)]
            write("shop/item.py", f"PRICE = {price}\\nclass Item: pass\\n")
            loader.reload()
        gc.collect()
        assert [reference() for reference in references] == [None] * 10
    """))


def test_the_control_of_attributes(fresh):
    """Without what is reached by attributes a dependant keeps the old value: what the first test would notice."""
    fresh(SHOP, follow("""
        from ladewerk import _imports
        _imports.chains_of = lambda code, bases: frozenset()
        loader = start()
        import shop
        shop.cart
        settled()
        write("shop/item.py", "PRICE = 5\\nclass Item: pass\\n")
        loader.reload()
        assert (shop.item.PRICE, shop.cart.TOTAL) == (5, 8)
    """))


def test_circles_are_entered_where_they_were(fresh):
    fresh({"shop/item.py": "PRICE = 1\n", "shop/a.py": "import shop\nX = shop.item.PRICE\nZ = shop.b.Y\n", "shop/b.py": "import shop\nY = shop.a.X\n"}, follow("""
        loader = start()
        import shop
        assert shop.a.Z == 1
        settled()
        for price in (22, 333):
            write("shop/item.py", f"PRICE = {price}\\n")
            loader.reload()
            assert (shop.a.X, shop.b.Y, shop.a.Z) == (price, price, price)
    """))


def test_modules_that_put_another_in_their_place(fresh):
    fresh({"shop/item.py": "PRICE = 1\n", "shop/mine.py": "import shop, sys, types\nclass M(types.ModuleType):\n    X = shop.item.PRICE\nsys.modules[__name__] = M(__name__)\n",
           "shop/old.py": "import shop, sys\nsys.modules[__name__] = shop.item\n", "shop/other.py": "import json, sys\nsys.modules[__name__] = json\n"}, follow("""
        loader = start()
        import json, shop
        loader.eager_load()
        assert shop.mine.X == 1 and shop.old is shop.item and shop.other is json
        settled()
        for price in (22, 333):
            write("shop/item.py", f"PRICE = {price}\\n")
            loader.reload()
            assert shop.mine.X == shop.item.PRICE == price and shop.old is shop.item is sys.modules["shop.old"] and shop.other is json and type(json) is types.ModuleType
        write("shop/mine.py", "X = 4444\\n")
        loader.reload()
        assert shop.mine.X == 4444 and type(shop.mine) is types.ModuleType
    """))


PLACES = {
    "module": ({}, "shop.item", "def of():\n    return shop.item.Item\n", "shop.item"),
    "class": ({"convention": "class"}, "shop.Item", "def of():\n    return shop.Item\n", "shop.Item"),
}


@pytest.mark.parametrize("convention", PLACES)
def test_in_place_who_listens_is_given_what_stays(fresh, convention):
    settings, name, of, value = PLACES[convention]
    fresh({"shop/__init__.py": "V = 1\nclass Own: pass\n", "shop/item.py": "class Item:\n    X = 1\n", "shop/late.py": "class Late: pass\n",
           "shop/order.py": "import shop\n" + of + "class Order(of()): pass\n"}, follow(f"""
        from ladewerk import Reloader
        loader, R, told = make(**{settings}), Reloader([root], policy="in place"), []
        loader.on_load(callback=lambda name, value, path: told.append((name, value)))
        loader.setup()
        import shop
        def item(): return {value}
        def Item(): return item() if isinstance(item(), type) else item().Item
        import shop.order
        settled()
        R.reload()
        R.reload()
        before, kept, cls, Order = objects(), item(), Item(), sys.modules["shop.order"].Order
        for version in (22, 333):
            told.clear()
            write("shop/item.py", f"class Item:\\n    X = {{version}}\\n")
            assert "shop.item" in R.reload().executed
            assert item() is kept and Item() is cls and cls.X == version and Order.X == version and replaced(before) == [], replaced(before)
            assert ({name!r}, kept) in told, told
            assert loader._table.loaded["shop.item"] is before["shop.item"]
        told.clear()
        write("shop/__init__.py", "V = 2\\nclass Own: pass\\n")
        assert R.reload().executed[0] == "shop" and replaced(before) == [] and ("shop", shop) in told
        assert shop.V == 2 and {{"V", "Own", "late" if {convention!r} == "module" else "Late"}} <= set(dir(shop)), dir(shop)
        late = shop.late if {convention!r} == "module" else shop.Late
        assert late in vars(shop).values(), "it is found without us from then on"
        write("shop/item.py", "class Item:\\n    X = 4444\\n1 / 0\\n")
        raises(ReloadError, R.reload)
        assert Item() is cls and cls.X == 333 and loader._table.loaded["shop.item"] is before["shop.item"] and replaced(before) == []
    """))


@pytest.mark.parametrize("everything", (False, True))
def test_files_that_go_after_reloads_that_found_nothing(fresh, everything):
    """Directories are looked into when somebody asks: by then the file has gone, and what is loaded is still known."""
    fresh({"shop/__init__.py": "", "shop/item.py": "class Item: pass\n", "shop/deep/one.py": "class One: pass\n"}, follow(f"""
        loader, told = make(convention="class"), []
        loader.on_unload(callback=lambda name, value, path: told.append(name))
        loader.setup()
        import shop
        shop.Item, shop.deep.One
        settled()
        assert not loader.reload() and not loader.reload()
        os.unlink(root / "shop/item.py")
        os.unlink(root / "shop/deep/one.py")
        loader.reload(everything={everything})
        import shop
        assert not hasattr(shop, "Item") and not {{"shop.item", "shop.deep.one"}} & sys.modules.keys()
        assert {{"shop.Item", "shop.deep.One"}} <= set(told), told
    """))


@pytest.mark.parametrize("policy", ("replace", "in place"))
def test_out_of_a_collapsed_directory(fresh, policy):
    """While one has gone a reload fails; what comes by the same name is another module."""
    fresh({"shop/__init__.py": "", "shop/models/item.py": "class Item:\n    X = 1\n", "shop/user.py": "from shop.item import Item\nclass User(Item): pass\n"}, follow(f"""
        from ladewerk import Reloader
        loader, R = make(), Reloader([root], policy={policy!r})
        loader.collapse(root / "shop/models")
        loader.setup()
        import shop, shop.user
        settled()
        R.reload(), R.reload()
        before = objects()
        os.unlink(root / "shop/models/item.py")
        raises(ReloadError, R.reload)
        assert replaced(before) == []
        write("shop/item.py", "class Item:\\n    X = 4\\n")
        assert "shop.models.item" in R.reload().removed and "shop.models.item" not in sys.modules
        assert shop.item is sys.modules["shop.item"] and shop.item.__spec__.name == "shop.item" and shop.item.Item.X == shop.user.User.X == 4
    """))
