# SPDX-License-Identifier: MIT
"""ladewerk.Autoloader among threads. Interleavings are forced by events; where something is waited for, so long that only a deadlock takes longer."""
import textwrap

import pytest
from autoloading import child, nursery  # noqa: F401

FORCED = """
    import time
    def wait(event):
        assert event.wait(60), "never came"
    def run(function, *args):
        def body():
            try:
                results.append(function(*args))
            except BaseException as error:
                results.append(error)
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        return thread
    def join(*threads):
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "deadlock"
    results = []
    sys.modules["gates"] = gates = types.ModuleType("gates")
    gates.inside, gates.go_on, gates.wait, gates.runs = threading.Event(), threading.Event(), wait, []
"""
SLOW = "import gates\ngates.runs.append(__name__)\ngates.inside.set()\ngates.wait(gates.go_on)\nX = 1\nclass Slow: pass\n"


def forced(*code):
    return "".join(map(textwrap.dedent, (FORCED, *code)))


def test_two_threads_use_a_module_for_the_first_time(child):
    child({"shop/slow.py": SLOW}, forced("""
        start()
        import shop
        first = run(lambda: shop.slow)
        wait(gates.inside)
        second, third = run(lambda: shop.slow.X), run(importlib.import_module, "shop.slow")
        assert results == []
        gates.go_on.set()
        join(first, second, third)
        assert gates.runs == ["shop.slow"]
        assert sorted(map(str, results)) == sorted(map(str, [shop.slow, 1, shop.slow]))
    """))


def test_the_control_of_first_uses(child):
    """Without the import lock the body runs twice: what the test above would notice."""
    child({"shop/slow.py": SLOW}, forced("""
        start()
        import shop
        from ladewerk._autoload import _hooks
        def fetch(table, node):
            spec = importlib.util.spec_from_file_location(node.module, node.file)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        _hooks.fetch = fetch
        first, second = run(lambda: shop.slow), run(lambda: shop.slow)
        while len(gates.runs) < 2:
            time.sleep(0.001)
        gates.go_on.set()
        join(first, second)
        assert gates.runs == ["shop.slow"] * 2 and results[0] is not results[1]
    """))


def test_a_body_that_puts_something_else_in_its_place_while_others_wait(child):
    child({"shop/mine.py": "import sys, types\nsys.modules['__main__'].another_waits()\nclass M(types.ModuleType):\n    X = 1\nsys.modules[__name__] = M(__name__)\n"}, """
        import _frozen_importlib, time
        start()
        import shop
        def another_waits():
            other.start()
            while not _frozen_importlib._module_locks["shop.mine"]().waiters:
                time.sleep(0.001)
        other = threading.Thread(target=lambda: seen.append(shop.mine))
        mine = shop.mine
        other.join()
        assert type(mine).__name__ == "M" and seen == [mine]
    """)


def test_nothing_of_ours_is_held_while_a_body_runs(child):
    child({"shop/slow.py": SLOW, "shop/cart.py": "X = 2", "shop/admin/role.py": "X = 3", "other/one.py": "X = 4"}, forced("""
        loader = start()
        import shop
        first = run(lambda: shop.slow)
        wait(gates.inside)
        def use():
            import other
            return shop.cart.X, shop.admin.role.X, other.one.X, len(ladewerk.registry()), sorted(loader.all_expected_modules().values())[-1], dir(shop)[-1]
        second = run(use)
        join(second)
        assert results == [(2, 3, 4, 7, "shop.slow", "slow")]
        gates.go_on.set()
        join(first)
    """))


def test_the_control_of_what_is_held(child):
    """With a lock of our own around the import the other thread waits for the body."""
    child({"shop/slow.py": SLOW, "shop/cart.py": "X = 2"}, forced("""
        loader = start()
        import shop
        from ladewerk._autoload import _hooks
        fetch, lock = _hooks.fetch, threading.RLock()
        def locked(table, node):
            with lock:
                return fetch(table, node)
        _hooks.fetch = locked
        first = run(lambda: shop.slow)
        wait(gates.inside)
        second = run(lambda: shop.cart.X)
        second.join(0.1)
        assert second.is_alive() and "shop.cart" not in sys.modules
        gates.go_on.set()
        join(first, second)
    """))


def test_a_body_that_waits_for_a_thread_that_uses_another_module(child):
    child({"shop/waits.py": "import gates, shop\ngates.thread = gates.run(lambda: shop.cart.X)\ngates.join(gates.thread)\n", "shop/cart.py": "X = 2"}, forced("""
        start()
        gates.run, gates.join = run, join
        import shop
        shop.waits
        assert results == [2]
    """))


def test_threads_that_use_each_others_modules(child):
    """CPython ends such a circle by showing one of the two a module that is not finished."""
    child({"shop/a.py": "import gates\ngates.meet.wait(60)\nimport shop.b\nX = 1", "shop/b.py": "import gates\ngates.meet.wait(60)\nimport shop.a\nX = 2"}, forced("""
        gates.meet = threading.Barrier(2)
        start()
        import shop
        join(run(lambda: shop.a.X), run(lambda: shop.b.X))
        assert sorted(results) == [1, 2]
    """))


def test_aliases_and_modules_at_once(child):
    child({"shop/models/slow.py": SLOW}, forced("""
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        threads = [run(importlib.import_module, "shop.slow")]
        wait(gates.inside)
        threads += [run(lambda: shop.slow), run(importlib.import_module, "shop.models.slow"), run(importlib.import_module, "shop.slow")]
        gates.go_on.set()
        join(*threads)
        assert gates.runs == ["shop.models.slow"] and len(set(map(id, results))) == 1
        assert results[0].__spec__.name == "shop.models.slow" and sys.modules["shop.slow"] is results[0]
    """))


RELOAD = """
    loader = start()
    import shop
    importing = run({use})
    wait(gates.inside)
    reloading = run(lambda: [loader.reload(everything=True), "reloaded"][1])
"""


@pytest.mark.parametrize("use", ['lambda: importlib.import_module("shop.slow").X', "lambda: shop.slow.X", 'lambda: __import__("shop.slow").slow.X',
                                 'lambda: __import__("shop", fromlist=["slow"]).slow.X'], ids=["import_module", "attribute", "import", "from"])
def test_a_reload_waits_for_imports_under_way(child, use):
    child({"shop/__init__.py": "", "shop/slow.py": SLOW}, forced(RELOAD.format(use=use), """
        reloading.join(0.1)
        assert results == [] and sys.modules["shop"] is shop
        gates.go_on.set()
        join(importing, reloading)
        assert sorted(map(str, results)) == ["1", "reloaded"], results
        assert sys.modules.get("shop") is not shop
    """))


def test_a_reload_waits_for_modules_that_are_not_managed_but_lie_in_a_package_that_is(child):
    child({"shop/__init__.py": "", "shop/slow.py": SLOW, "shop/cart.py": ""}, forced("""
        loader = make()
        loader.ignore(at("shop/slow.py"))
        loader.setup()
        import shop
        importing = run(importlib.import_module, "shop.slow")
        wait(gates.inside)
        reloading = run(loader.reload, True)
        reloading.join(0.1)
        assert reloading.is_alive() and sys.modules["shop"] is shop
        gates.go_on.set()
        join(importing, reloading)
        assert not [result for result in results if isinstance(result, BaseException)], results
    """))


@pytest.mark.parametrize("removed, error", [("pairs", "KeyError('shop.slow')"), ("[pair for pair in pairs if pair[0].module == 'shop']", "KeyError('shop')")], ids=["module", "package"])
def test_the_control_of_reloads(child, removed, error):
    """Without the wait an import under way loses its module, or its package."""
    child({"shop/__init__.py": "", "shop/slow.py": SLOW}, forced(f"""
        from ladewerk._autoload import _tree, _unload
        _unload._quiet_of = lambda table: _unload.Quiet(lambda name: False, ValueError)
        remove = _unload._remove
        _unload._remove = lambda table, pairs, graves: remove(table, {removed}, graves)
        loader = start()
        import shop
        importing = run(importlib.import_module, "shop.slow")
        wait(gates.inside)
        loader.reload(everything=True)
        gates.go_on.set()
        join(importing)
        assert list(map(repr, results)) == [{error!r}], results
    """))


def test_the_old_or_the_new(child):
    """
    Imports while modules are unloaded again and again: each finds what there was or loads what there is. (Import statements are of modules whose package stays:
    on most interpreters CPython itself fails when one thread imports a package and another a module of it.)
    """
    child({"app/shop/__init__.py": "V = 1", "app/shop/cart.py": "import shop\nX = 1", "app/shop/admin/role.py": "import shop\nX = 1", "app/shop/models/user.py": "X = 1",
           "stays/host/__init__.py": "", "plugins/pay.py": "X = 1", "plugins/ship.py": "from host import pay\nX = pay.X"}, forced("""
        sys.setswitchinterval(1e-5)
        sys.path.append(at("stays"))
        import host
        loader = make(root / "app")
        loader.push_dir(root / "plugins", namespace="host")
        loader.collapse(at("app/shop/models"))
        loader.setup()
        import shop
        stop = threading.Event()
        def statement():
            import host.pay
            import host.ship as ship
            from host import pay as again
            return host.pay.X + ship.X + again.X
        def attribute():
            return shop.cart.X + shop.admin.role.X + shop.user.X
        def module():
            return sum(importlib.import_module(name).X for name in ("host.pay", "host.ship", "host.pay"))
        counts = [0] * 4
        def repeat(number, function):
            while not stop.is_set():
                assert function() == 3
                counts[number] += 1
        threads = [run(repeat, *pair) for pair in enumerate((statement, attribute, module, attribute))]
        reloads = 0
        while not results and (reloads < 150 or min(counts) < 20):
            loader.reload(everything=True)
            reloads += 1
        stop.set()
        join(*threads)
        assert results == [None] * 4, results
    """))


def test_a_package_that_is_out_of_sight_for_an_instant(child):
    """As CPython has it, between loading a package and waiting for it: see _import()."""
    child({"shop/cart.py": "X = 1", "shop/models/user.py": "X = 2", "shop/bad.py": "import __main__\n__main__.seen.append(1)\nraise KeyError('else')"}, """
        import __main__
        __main__.seen = seen
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        class Unlucky:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name not in seen and name.startswith("shop."):
                    seen.append(name)
                    raise KeyError("shop")
        sys.meta_path.insert(0, Unlucky)
        assert shop.cart.X == 1 and shop.user.X == 2
        raises(KeyError, importlib.import_module, "shop.bad")
        del seen[:]
        error = raises(KeyError, lambda: shop.bad)
        assert error.args == ("else",) and seen == ["shop.bad", 1], "a body's own error is its own"
    """)


def test_loaded_anew_behind_an_import(child):
    """Between the end of an import and the look at sys.modules another thread may unload the module and begin to load it again."""
    child({"shop/__init__.py": "", "shop/cart.py": "X = 1"}, """
        from ladewerk._autoload import _hooks
        loader = make()
        loader.setup()
        import shop
        real, half = _hooks._import, types.ModuleType("shop.cart")
        half.__spec__ = importlib.util.spec_from_loader("shop.cart", None)
        half.__spec__._initializing = True
        calls = []
        def overtaken(name):
            calls.append(name)
            if len(calls) == 1:
                module = real(name)
                sys.modules[name] = half
                return module
            if sys.modules[name] is half:
                del sys.modules[name]  # here it would wait until the other thread has done so
            return real(name)
        _hooks._import = overtaken
        assert shop.cart.X == 1 and shop.cart is not half and calls == ["shop.cart"] * 2, calls
    """)


def test_concurrent_reloads(child):
    child({"shop/__init__.py": "", "shop/cart.py": "X = 1"}, forced("""
        loader = make()
        loader.on_unload("shop.cart", lambda name, value, path: seen.append(value))
        loader.setup()
        import shop
        def several():
            for i in range(20):
                loader.reload(everything=True)
                assert shop.cart.X == 1
        join(*[run(several) for i in range(3)])
        assert results == [None] * 3, results
        assert loader.unloadable("shop.cart") and shop.cart is sys.modules["shop.cart"]
    """))


TWO_RELOADS = """
    from ladewerk._autoload import _tree, _unload
    loader = make()
    inside, go_on = threading.Event(), threading.Event()
    def slowly(name, value, path):
        if threading.current_thread() is not threading.main_thread():
            inside.set(), wait(go_on)
    loader.on_unload("shop.cart", slowly)
    loader.setup()
    import shop
    shop.cart
    other = run(loader.reload, True)
    wait(inside)
"""


def test_a_reload_comes_between_anothers_beginning_and_end(child):
    child({"shop/cart.py": "X = 1"}, forced(TWO_RELOADS, """
        loader.reload(everything=True)
        go_on.set()
        join(other)
        assert type(results[0]) is ladewerk.Reloaded and _tree.tables() == (loader._table,)
    """))


def test_the_control_of_concurrent_reloads(child):
    """Without a look at who was faster two generations are in use."""
    child({"shop/cart.py": "X = 1"}, forced(TWO_RELOADS, """
        loader.reload(everything=True)
        _unload.is_current = lambda loader, table: True
        go_on.set()
        join(other)
        assert len(_tree.tables()) == 2, _tree.tables()
    """))


def test_a_lock_that_somebody_has_in_hand(child):
    """Whoever is about to take it takes it before or after, and not while modules are removed."""
    child({"shop/cart.py": "X = 1"}, forced("""
        from ladewerk._autoload import _unload
        loader = start()
        import shop
        shop.cart
        lock = sys.modules["_frozen_importlib"]._get_module_lock("shop.cart")
        remove, taken = _unload._remove, []
        def slowly(*args):
            threads.append(run(lambda: lock.acquire() and (taken.append(1), lock.release())))
            threads[0].join(0.1)
            assert not taken and lock.owner is None
            return remove(*args)
        threads = []
        _unload._remove = slowly
        loader.reload(everything=True)
        join(*threads)
        assert loaded() == [] and taken == [1]
    """))


def test_the_control_of_locks_in_hand(child):
    child({"shop/cart.py": "X = 1"}, forced("""
        from ladewerk import _quiet
        from ladewerk._autoload import _unload
        _quiet._take = lambda locks, got: True  # does not look
        loader = start()
        import shop
        shop.cart
        lock = sys.modules["_frozen_importlib"]._get_module_lock("shop.cart")
        remove, taken = _unload._remove, threading.Event()
        def slowly(*args):
            run(lambda: lock.acquire() and (taken.set(), lock.release()))
            wait(taken)
            return remove(*args)
        _unload._remove = slowly
        loader.reload(everything=True)
    """))


def test_an_alias_is_not_made_known_while_it_is_imported(child):
    """An import that finds its own name in sys.modules after asking the finders loads what is there once more."""
    child({"shop/models/user.py": "import gates\ngates.runs.append(1)\nX = 1"}, forced("""
        from ladewerk._autoload import _hooks
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        find = _hooks.Finder._find_alias
        def slowly(self, name):
            spec = find(self, name)
            if spec:
                shop.user  # as another thread may do at this moment
            return spec
        _hooks.Finder._find_alias = slowly
        importlib.import_module("shop.user")
        assert gates.runs == [1] and sys.modules["shop.user"] is sys.modules["shop.models.user"] is shop.user
    """))


def test_the_control_of_aliases(child):
    child({"shop/models/user.py": "import gates\ngates.runs.append(1)\nX = 1"}, forced("""
        from ladewerk._autoload import _hooks
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        find = _hooks.Finder._find_alias
        def early(self, name):
            spec = find(self, name)
            if spec:
                sys.modules.setdefault("shop.user", shop.user)
            return spec
        _hooks.Finder._find_alias = early
        importlib.import_module("shop.user")
        assert gates.runs == [1, 1]
    """))


def test_a_body_must_not_unload_itself(child):
    child({"shop/cart.py": "import __main__\ntry:\n    __main__.loader.reload(everything=True)\nexcept __main__.Autoloader.ImportUnderWay as error:\n    __main__.seen.append(str(error))\n"}, """
        import __main__
        __main__.__dict__.update(globals())
        loader = __main__.loader = start()
        import shop
        assert shop.cart is sys.modules["shop.cart"]
        assert seen == ["shop.cart cannot be replaced or unloaded: this thread is importing it"], seen
    """)


def test_a_reload_gives_up_in_the_end(child):
    child({"shop/slow.py": SLOW}, forced("""
        from ladewerk import _quiet
        _quiet.PATIENCE = 0.05
        loader = start()
        import shop
        importing = run(lambda: shop.slow.X)
        wait(gates.inside)
        error = raises(Autoloader.ImportUnderWay, loader.reload, True)
        assert "shop.slow" in str(error) and sys.modules["shop"] is shop
        gates.go_on.set()
        join(importing)
        assert results == [1]
        loader.reload(everything=True)
    """))


def test_what_a_thread_has_fetched_is_not_bound_after_an_unload(child):
    child({"shop/cart.py": "class Cart: pass\n", "shop/item.py": "class Item: pass\n", "shop/__init__.py": ""}, forced("""
        loader = start(convention="class")
        import shop
        from ladewerk._autoload import _hooks
        bind, fetched, go_on = _hooks.bind, threading.Event(), threading.Event()
        def late(*args):
            fetched.set(), wait(go_on)
            return bind(*args)
        _hooks.bind = late
        thread = run(lambda: shop.Cart)
        wait(fetched)
        _hooks.bind = bind
        loader.reload(everything=True)
        import shop as new
        go_on.set()
        join(thread)
        assert "Cart" not in vars(shop) and "Cart" not in vars(new)
        assert new.Cart is not results[0] and shop.Cart is new.Cart
    """))


def test_the_control_of_late_bindings(child):
    child({"shop/cart.py": "class Cart: pass\n", "shop/__init__.py": ""}, forced("""
        loader = start(convention="class")
        import shop
        from ladewerk._autoload import _hooks
        fetched, go_on = threading.Event(), threading.Event()
        def careless(table, node, value, package, names):
            fetched.set(), wait(go_on)
            names[node.attr] = value
        bind, _hooks.bind = _hooks.bind, careless
        thread = run(lambda: shop.Cart)
        wait(fetched)
        _hooks.bind = bind
        loader.reload(everything=True)
        go_on.set()
        join(thread)
        import shop as new
        assert shop.Cart is results[0] and new.Cart is not results[0], "a class of old stays"
    """))


def test_setup_by_several_threads(child):
    child({"shop/cart.py": "X = 1"}, forced("""
        from ladewerk._autoload import _tree
        loader, barrier = make(), threading.Barrier(4)
        loader.on_setup(lambda: seen.append(1))
        def begin():
            barrier.wait(60)
            loader.setup()
            import shop
            return shop.cart.X
        join(*[run(begin) for i in range(4)])
        assert results == [1] * 4 and seen == [1] and _tree.tables() == (loader._table,) and sys.path.count(str(root)) == 1
    """))


def test_a_registry_is_asked_while_others_load(child):
    child({f"shop/m{i}.py": f"X = {i}" for i in range(12)}, forced("""
        loader = start()
        import shop
        def load():
            for i in range(12):
                getattr(shop, f"m{i}")
        def ask():
            before = 0
            while before < 12:
                registry = ladewerk.registry()
                loaded = [name for name in registry if name != "shop" and registry.module(name) is not registry.NotLoaded]
                assert all(registry.module(name).X == int(name[6:]) for name in loaded) and len(loaded) >= before
                before = len(loaded)
                time.sleep(0.001)
            return "all"
        join(*[run(ask), run(ask), run(load)])
        assert sorted(map(str, results)) == ["None", "all", "all"], results
    """))


def test_fork(child):
    child({"shop/cart.py": "X = 1", "shop/item.py": "X = 2"}, """
        loader = start()
        import shop
        shop.cart
        pid = os.fork()
        if not pid:
            try:
                assert shop.item.X == 2
                loader.reload(everything=True)
                assert shop.cart.X == 1
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert "shop.item" not in sys.modules
    """)


# --- reloads of what has changed ---

SLOW_SHOP = {"shop/__init__.py": "", "shop/slow.py": SLOW, "shop/base.py": "X = 1\n", "shop/user.py": "import shop\nX = shop.base.X\n"}


@pytest.mark.parametrize("changed, text", [("shop/slow.py", SLOW.replace("X = 1", "X = 22")), ("shop/__init__.py", "V = 2\n")], ids=["module", "package"])
def test_a_reload_of_what_has_changed_waits_for_imports_under_way(child, changed, text):
    child(SLOW_SHOP, forced(f"""
        loader = start()
        import shop
        importing = run(lambda: shop.slow.X)
        wait(gates.inside)
        write({changed!r}, {text!r})
        reloading = run(lambda: [loader.reload(), "reloaded"][1])
        reloading.join(0.1)
        assert results == [] and sys.modules["shop"] is shop, results
        gates.go_on.set()
        join(importing, reloading)
        assert sorted(map(str, results)) in (["1", "reloaded"], ["22", "reloaded"]), results  # the thread gets there before or after the step
        assert (shop.slow.X, getattr(shop, "V", 2)) == ({"22, 2" if "slow" in changed else "1, 2"})
    """))


def test_the_control_of_reloads_of_what_has_changed(child):
    """Without the wait the reload is over while the body still runs, and the import ends in another module than it has begun."""
    child(SLOW_SHOP, forced(f"""
        from ladewerk._autoload import _replace, _tree
        _replace.Autoloaded.settle = lambda self, names: None
        _replace.Autoloaded.hold = lambda self, names: True
        loader = start()
        import shop
        importing = run(lambda: shop.slow.X)
        wait(gates.inside)
        write("shop/slow.py", "X = 22\\n")
        loader.reload()
        assert gates.runs == ["shop.slow"] and sys.modules["shop.slow"].X == 22
        gates.go_on.set()
        join(importing)
        assert results == [22], "what it has executed is not what it gets"
    """))


def test_a_body_must_not_replace_itself(child):
    child({"shop/cart.py": "import __main__\nfrom pathlib import Path\nPath(__file__).write_text('X = 2')\ntry:\n    __main__.loader.reload()\nexcept __main__.Autoloader.ImportUnderWay as error:\n    __main__.seen.append(str(error))\n"}, """
        import __main__
        __main__.__dict__.update(globals())
        loader = __main__.loader = start()
        import shop
        assert shop.cart is sys.modules["shop.cart"] and not hasattr(shop.cart, "X")
        assert seen == ["shop.cart cannot be replaced or unloaded: this thread is importing it"], seen
        loader.reload()
        assert shop.cart.X == 2
    """)


def test_first_uses_while_files_are_edited(child):
    """
    Threads that load, use and import while what they use is replaced again and again: nobody gets an error, or a module of another name, and in the end all is new.
    (What is loaded for the first time while a reload runs is executed again after the step, so that only what had been loaded is of one generation throughout.)
    """
    child({"shop/__init__.py": "", "shop/base.py": "X = 0\n", **{f"shop/user{i}.py": "import shop\nX = shop.base.X\n" for i in range(4)}, "shop/models/m.py": "import shop\nX = shop.base.X\n", "shop/late0.py": "import shop\nX = shop.base.X\n"}, forced("""
        sys.setswitchinterval(1e-5)
        loader = make()
        loader.collapse(at("shop/models"))
        loader.setup()
        import shop
        stop, counts, latest = threading.Event(), [0] * 3, [0]
        def progress():
            before, deadline = counts[:], time.monotonic() + 60
            while not results and not all(now > then for now, then in zip(counts, before)) and time.monotonic() < deadline:
                time.sleep(0.0005)
        def repeat(number):
            while not stop.is_set():
                with ladewerk.pinned():
                    package = sys.modules["shop"]
                    assert len({package.base.X, *(getattr(package, f"user{i}").X for i in range(4)), package.m.X}) == 1
                    assert package.m is importlib.import_module("shop.m") is importlib.import_module("shop.models.m")
                    late = f"late{latest[0]}"
                    assert getattr(package, late).X >= 0 and importlib.import_module(f"shop.{late}").__name__ == f"shop.{late}"
                counts[number] += 1
        threads = [run(repeat, number) for number in range(3)]
        progress()
        for edit in range(1, 20):
            if results:
                break
            write("shop/base.py", f"X = {edit}\\n")
            write(f"shop/late{edit}.py", "import shop\\nX = shop.base.X\\n")
            if edit % 5 == 0:
                write("shop/__init__.py", f"V = {edit}\\n")
            loader.reload()
            latest[0] = edit
            progress()
        stop.set()
        join(*threads)
        assert results == [None] * 3, results
        shop = sys.modules["shop"]
        assert shop.user0.X == shop.base.X == shop.m.X == 19 and all(getattr(shop, f"late{edit}").X == 19 for edit in range(1, 20))
    """))


def test_a_whole_unload_overtakes_a_reload(child):
    child({"shop/cart.py": "X = 1", "shop/item.py": "X = 1"}, forced("""
        loader = make()
        inside, go_on = threading.Event(), threading.Event()
        def slowly(name, module, path):
            if threading.current_thread() is not threading.main_thread():
                inside.set(), wait(go_on)
        loader.on_load("shop.cart", slowly)
        loader.setup()
        import shop
        shop.cart, shop.item
        write("shop/cart.py", "X = 22")
        other = run(loader.reload)
        wait(inside)
        loader.reload(everything=True)
        assert loaded() == []
        go_on.set()
        join(other)
        assert type(results[0]) is ladewerk.Reloaded and loaded() == [], "what is unloaded stays so"
        assert __import__("shop").cart.X == 22 and __import__("ladewerk._autoload._tree", fromlist=["x"]).tables() == (loader._table,)
    """))
