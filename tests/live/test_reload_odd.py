# SPDX-License-Identifier: MIT
"""Reloads in odd company: modules that are not where an import would look, lazy ones, ones with classes of their own, and other threads that go on meanwhile."""
import pytest
from reloading import run

FILES = {"c.py": "VERSION = 1\n", "a.py": "from c import VERSION\n"}


def test_what_imports_pass_over_on_sys_path(tree):
    run(tree, FILES, """
        import a
        R.reload()
        sys.path += [[], None, 5, b"/nowhere"]
        write("c.py", "VERSION = 22\\n")
        assert set(R.reload().executed) == {"a", "c"} and mod("a").VERSION == 22
    """)


@pytest.mark.parametrize("watch", [True, False], ids=["watch", "stat"])
def test_modules_that_an_import_would_not_find_stay_where_they_are(tree, watch):
    """Their directory has left sys.path, or was never on it."""
    run(tree, {"on/first.py": "V = 1\n", "off/plugin.py": "V = 1\n", "off/decimal.py": "V = 1\n"}, """
        import importlib.util
        sys.path.insert(0, str(ROOT / "on"))
        import first
        sys.path.remove(str(ROOT / "on"))
        for name in ("plugin", "decimal"):
            spec = importlib.util.spec_from_file_location(name, ROOT / "off" / f"{name}.py")
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        del spec
        R.reload()
        write("on/beside.py", "")
        write("off/beside.py", "")
        assert not R.reload().removed and mod("decimal").V == 1
        for place, name in (("on", "first"), ("off", "plugin"), ("off", "decimal")):
            write(f"{place}/{name}.py", "V = 22\\n")
            done = R.reload()
            assert done.executed == (name,) and not done.removed and mod(name).V == 22, done
            assert mod(name).__file__ == str(ROOT / place / f"{name}.py")
            (ROOT / place / f"{name}.py").unlink()
            done = R.reload()
            assert done.removed == (name,) or name == "decimal", done
    """, watch=watch)


def test_what_is_imported_by_other_threads_meanwhile_is_not_left_behind(tree):
    run(tree, {**FILES, "late.py": "from c import VERSION\n", "later.py": "import late\nVERSION = late.VERSION\n", "steps.py": "__ladewerk_reload__ = False\n"}, """
        import a, steps
        steps.half, steps.go_on = threading.Event(), threading.Event()
        write("c.py", "import steps\\nVERSION = 22\\nsteps.half.set()\\nsteps.go_on.wait(30)\\n")
        done = []
        thread = threading.Thread(target=lambda: done.append(R.reload()))
        thread.start()
        steps.half.wait(30)
        import later
        assert later.VERSION == 1
        steps.go_on.set()
        thread.join()
        assert mod("a").VERSION == mod("late").VERSION == mod("later").VERSION == 22, (mod("late").VERSION, done)
        assert done[0].changed == ("c",) and done[0].executed == ("c", "a", "late", "later"), done
        assert not R.reload()
    """)


def test_modules_with_a_class_of_their_own(tree):
    run(tree, {"own.py": "import sys, types\nV = 1\nclass Own(types.ModuleType):\n    __eq__ = None\n    @property\n    def answer(self):\n        return self.V\n"
                         "    def __getattr__(self, name):\n        if name == 'dynamic':\n            return self.V\n        raise AttributeError(name)\n"
                         "sys.modules[__name__].__class__ = Own\nsys.modules[__name__].EXTRA = V\n",
               "pack/__init__.py": "import sys, types\nclass Own(types.ModuleType): pass\nsys.modules[__name__].__class__ = Own\n",
               "pack/child.py": "V = 1\n", "user.py": "import own, pack.child as child\nimport pack.child\nSEEN = own.answer, child.V, pack.child.V\n"}, """
        import own, user
        for i in (2, 3, 4):
            old = [mod("own"), type(mod("own"))]
            before = snapshot()
            write("own.py", (ROOT / "own.py").read_text().replace("V = %d" % (i - 1), "V = %d" % i) + "1 / 0\\n")
            fails()
            assert snapshot() == before and type(mod("own")) is old[1], "the old one was written to"
            write("own.py", (ROOT / "own.py").read_text().replace("1 / 0\\n", ""))
            write("pack/child.py", "V = %d\\n" % i)
            R.reload()
            assert mod("user").SEEN == (i, i, i), mod("user").SEEN
            assert type(mod("own")).__name__ == "Own" and type(mod("own")) is not old[1] and type(old[0]) is old[1]
            assert mod("own").answer == mod("own").dynamic == mod("own").EXTRA == i and old[0].answer == old[0].dynamic == old[0].EXTRA == i - 1
            assert type(mod("pack")).__name__ == "Own" and type(mod("pack")).__mro__[1] is types.ModuleType
    """)


def test_other_threads_see_modules_with_a_class_of_their_own_as_they_were(tree):
    run(tree, {"own.py": "import sys, types, steps\nV = 1\nclass Own(types.ModuleType):\n    def __getattr__(self, name):\n        return name.upper(), self.V\n"
                         "    def __getattribute__(self, name):\n        return 'mine' if name == 'special' else super().__getattribute__(name)\n"
                         "    def __setattr__(self, name, value):\n        super().__setattr__(name, value + 1 if name == 'number' else value)\n"
                         "sys.modules[__name__].__class__ = Own\nsteps.half.set()\nsteps.go_on.wait(30)\n",
               "steps.py": "import threading\n__ladewerk_reload__ = False\nhalf, go_on = threading.Event(), threading.Event()\ngo_on.set()\n"}, """
        import own, steps
        steps.half.clear()
        steps.go_on.clear()
        write("own.py", (ROOT / "own.py").read_text().replace("V = 1", "V = 2"))
        thread = threading.Thread(target=R.reload)
        thread.start()
        assert steps.half.wait(30)
        old = own
        seen = own.special, own.any, own.V, isinstance(own, own.Own)
        own.number = 1
        assert old.number == 2
        steps.go_on.set()
        thread.join()
        assert seen == ("mine", ("ANY", 1), 1, True), seen
        assert mod("own").any == ("ANY", 2)
    """)


def test_what_a_source_imports_that_was_not_executed_does_not_count(tree):
    """A source is changed, the reload fails for another one, and it is put back: its module imports what it has imported all the time."""
    run(tree, {"c.py": "V = 1\n", "a.py": "import c\nV = c.V\n", "z.py": "import a\n"}, """
        import z
        for ahead in (False, True):
            R.reload()
            write("a.py", "import c\\nV = c.V + 0\\n")
            R.reload()
            write("a.py", "V = 5\\n")
            if ahead:
                R.plan_ahead()
            else:
                write("z.py", "import a\\n1 / 0\\n")
                assert fails().name == "z"
            write("a.py", "import c\\nV = c.V + 0\\n")
            write("z.py", "import a\\n")
            assert "a" not in R.reload().executed
            write("c.py", f"V = {2 + ahead}\\n")
            assert R.reload().executed[:2] == ("c", "a") and mod("a").V == 2 + ahead
    """)


def test_what_a_reload_of_others_was_told_is_left_for_the_watch(tree):
    """note() is what a watch asks."""
    run(tree, {"c.py": "V = 1\n", "z.py": "V = 1\n", "package/__init__.py": "", "package/late.py": "V = 1\n"}, """
        import c, z
        R.reload(), R.reload()
        assert R.note() is None
        write("c.py", "V = 22\\n")
        assert R.reload(["z"]).executed == ("z",) and mod("c").V == 1
        assert R.note() is True and R.reload().executed == ("c",) and mod("c").V == 22
        import package.late
        write("package/late.py", "V = 22\\n")
        R.reload(["z"])
        assert R.note() is True and "package.late" in R.reload().executed and mod("package.late").V == 22
        write("c.py", "1 / 0\\n")
        fails()
        assert R.note() is None, "what has failed is not tried again until it is saved"
        write("c.py", "V = 333\\n")
        assert R.note() is True and R.note() is True and R.reload() and R.note() is None
    """)


@pytest.mark.parametrize("said", ["from package import gone", "from . import gone", "from package.gone import X", "import package.gone as g"])
def test_who_imports_what_has_gone_makes_the_reload_fail(tree, said):
    """sys.modules still has it then, and an import statement looks there for what a package has not."""
    run(tree, {"package/__init__.py": "", "package/gone.py": "X = 1\n", "package/user.py": said + "\n"}, """
        import package.user
        for text in (None, "V = 1\\n"):  # the package stays, or is executed again
            R.reload()
            before = snapshot()
            (ROOT / "package/gone.py").rename(ROOT / "away")
            if text:
                write("package/__init__.py", text)
            assert fails().name == "package.user" and snapshot() == before
            (ROOT / "away").rename(ROOT / "package/gone.py")
            write("package/__init__.py", "")
    """)


def test_a_namespace_package_that_somebody_has_removed(tree):
    """Python itself has no answer then when it is asked for the __path__ of what is in it."""
    run(tree, {"space/inner/m.py": "V = 1\n", "c.py": "V = 1\n"}, """
        import c, space.inner.m
        del sys.modules["space"]
        R.reload()
        for version in (22, 333):
            write("c.py", f"V = {version}\\n")
            write("space/inner/m.py", f"V = {version}\\n")
            R.reload()
            assert mod("c").V == mod("space.inner.m").V == version
    """)


def test_lazy_modules_are_not_loaded_by_a_look(tree):
    run(tree, {**FILES, "lazy.py": "import builtins\nbuiltins.LOADED = True\nfrom c import VERSION\n", "broken.py": "1 / 0\n"}, """
        import builtins, importlib.util, a
        for name in ("lazy", "broken"):
            spec = importlib.util.find_spec(name)
            spec.loader = importlib.util.LazyLoader(spec.loader)
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        R.reload()
        write("c.py", "VERSION = 22\\n")
        R.reload()
        assert not hasattr(builtins, "LOADED"), "a reload has loaded it"
        lazy = mod("lazy")
        assert lazy.VERSION == 22
        write("c.py", "VERSION = 333\\n")
        assert "lazy" in R.reload().executed and mod("lazy").VERSION == 333
    """)


def test_getattr_of_modules_is_not_asked_for_our_names(tree):
    body = "from c import VERSION\ndef __getattr__(name):\n    if name.startswith('__ladewerk'):\n        raise KeyError(name)\n    raise AttributeError(name)\n"
    run(tree, {**FILES, "dynamic.py": body}, """
        import dynamic
        write("c.py", "VERSION = 22\\n")
        R.reload()
        assert mod("dynamic").VERSION == 22
    """)


@pytest.mark.parametrize("link", ["os.symlink", "os.link"])
def test_sources_that_have_another_name(tree, link):
    run(tree, FILES, """
        elsewhere = ROOT.parent / "elsewhere.py"
        (ROOT / "c.py").rename(elsewhere)
        %s(elsewhere, ROOT / "c.py")
        time.sleep(0.05)
        import a
        R.reload()
        R.reload(["c"])
        for i in (22, 33):
            time.sleep(0.05)
            R.reload()
            elsewhere.write_text("VERSION = %%d\\n" %% i)
            assert R.reload().changed == ("c",) and mod("a").VERSION == i
    """ % link)


def test_a_package_that_is_replaced_by_an_object_without_names(tree):
    run(tree, {"pack/__init__.py": "import sys\nclass Facade:\n    __slots__ = ('__path__', '__spec__', 'child')\n"
                                   "one = Facade()\none.__path__, one.__spec__ = __path__, __spec__\nsys.modules[__name__] = one\n",
               "pack/child.py": "V = 1\n"}, """
        import pack.child
        write("pack/child.py", "V = 22\\n")
        R.reload()
        assert mod("pack.child").V == 22
    """)


def test_proxies_in_main_are_left_alone(tree):
    run(tree, FILES, """
        class Proxy:
            @property
            def __class__(self):
                raise RuntimeError("working outside of a request")
        proxy = Proxy()
        import a
        write("c.py", "VERSION = 22\\n")
        R.reload()
        assert mod("a").VERSION == 22
    """)


def test_names_that_come_while_they_are_looked_at(tree):
    """Another thread binds names in a package, here at the worst moment."""
    run(tree, {"pack/__init__.py": "V = 1\n", "pack/child.py": ""}, """
        import pack.child
        names = vars(mod("pack"))
        class Name(str):
            def __format__(self, how):
                names[f"more{len(names)}"] = 1
                return str(self)
        names[Name("name")] = 1
        write("pack/__init__.py", "V = 22\\n")
        R.reload()
        assert mod("pack").V == 22
    """)


def test_what_a_thread_binds_while_the_swap_waits_is_kept(tree):
    run(tree, {**FILES, "c.py": "VERSION = 1\ndef function(): pass\n"}, """
        from c import function
        import a
        write("c.py", "VERSION = 22\\ndef function(): pass\\n")
        with_pin, go_on = threading.Event(), threading.Event()
        def reader():
            with pinned():
                with_pin.set()
                go_on.wait(30)
        threads = [threading.Thread(target=reader), threading.Thread(target=R.reload)]
        threads[0].start()
        with_pin.wait(30)
        threads[1].start()
        def entered():
            pin = pinned()
            if pin.try_enter():
                pin.__exit__()
                return True
        while entered():
            time.sleep(0.001)
        function = "mine"
        go_on.set()
        for thread in threads:
            thread.join()
        assert mod("a").VERSION == 22 and function == "mine", function
    """)


def test_watch_sees_what_is_written_by_another_name(tree):
    run(tree, FILES, """
        elsewhere = ROOT.parent / "elsewhere.py"
        (ROOT / "c.py").rename(elsewhere)
        os.symlink(elsewhere, ROOT / "c.py")
        import a, queue
        told = queue.Queue()
        with ladewerk.watch(told.put, roots=[ROOT]):
            elsewhere.write_text("VERSION = 22\\n")
            end = time.monotonic() + 30
            while mod("a").VERSION != 22:
                assert time.monotonic() < end
                time.sleep(0.01)
    """)


def test_what_other_threads_imported_meanwhile_and_cannot_be_executed_again(tree):
    run(tree, {**FILES, "c.py": "VERSION = OLD = 1\n", "late.py": "from c import OLD\n", "steps.py": "__ladewerk_reload__ = False\n"}, """
        import a, steps
        steps.half, steps.go_on = threading.Event(), threading.Event()
        write("c.py", "import steps\\nVERSION = 22\\nsteps.half.set()\\nsteps.go_on.wait(30)\\n")
        failed = []
        thread = threading.Thread(target=lambda: failed.append(fails()))
        thread.start()
        steps.half.wait(30)
        import late
        steps.go_on.set()
        thread.join()
        assert failed[0].name == "late" and "nothing was changed" not in str(failed[0]) and "c, a" in str(failed[0]), failed
        assert mod("a").VERSION == 22
        assert fails().name == "late", "not forgotten"
        write("late.py", "from c import VERSION\\n")
        assert R.reload().executed == ("late",) and mod("late").VERSION == 22
    """)


def test_an_interrupt_is_for_the_thread_that_was_interrupted(tree):
    """Those who share its reload lead the next one."""
    run(tree, {**FILES, "steps.py": "__ladewerk_reload__ = False\n"}, """
        import a, steps
        steps.half, steps.go_on = threading.Event(), threading.Event()
        write("c.py", "import steps\\nVERSION = 2\\nsteps.half.set()\\nsteps.go_on.wait(30)\\n")
        first = threading.Thread(target=R.reload)
        first.start()
        steps.half.wait(30)
        write("c.py", "VERSION = 333\\nimport steps\\nsteps.interrupt()\\n")
        def interrupt():
            steps.interrupt = lambda: None
            raise KeyboardInterrupt
        steps.interrupt = interrupt
        ended = []
        def share():
            try:
                ended.append(R.reload())
            except BaseException as error:
                ended.append(error)
        threads = [threading.Thread(target=share) for _ in range(3)]
        for thread in threads:
            thread.start()
        while True:
            with R._mutex:
                if R._waiting and len(R._mutex._waiters) == 2:
                    break
            time.sleep(0.001)
        steps.go_on.set()
        for thread in (first, *threads):
            thread.join()
        assert sorted(type(each).__name__ for each in ended) == ["KeyboardInterrupt", "Reloaded", "Reloaded"] and mod("a").VERSION == 333, ended
    """)


def test_a_signal_handler_that_reloads_while_its_thread_waits_for_its_turn(tree):
    run(tree, {**FILES, "steps.py": "__ladewerk_reload__ = False\n"}, """
        import a, signal, steps
        steps.half, steps.go_on = threading.Event(), threading.Event()
        write("c.py", "import steps\\nVERSION = 22\\nsteps.half.set()\\nsteps.go_on.wait(30)\\n")
        first = threading.Thread(target=R.reload)
        first.start()
        steps.half.wait(30)
        errors = []
        def handler(number, frame):
            errors.append(str(fails()))
            steps.go_on.set()
        signal.signal(signal.SIGUSR1, handler)
        main = threading.main_thread().ident
        def send():
            while True:
                with R._mutex:
                    if R._waiting:
                        break
                time.sleep(0.001)
            signal.pthread_kill(main, signal.SIGUSR1)
        sender = threading.Thread(target=send)
        sender.start()
        R.reload()
        first.join()
        sender.join()
        assert "within a reload" in errors[0] and mod("a").VERSION == 22
    """)


def test_watch_survives_what_is_no_reload_error(tree):
    run(tree, FILES, """
        import a, queue
        told = queue.Queue()
        with ladewerk.watch(told.put, roots=[ROOT]) as watch:
            write("c.py", "class Skipped(BaseException): pass\\nraise Skipped('all of it')\\n")
            error = told.get(timeout=30)
            while "all of it" not in str(error):
                error = told.get(timeout=30)
            assert isinstance(error, ReloadError) and mod("a").VERSION == 1
            write("c.py", "VERSION = 22\\n")
            end = time.monotonic() + 30
            while mod("a").VERSION != 22:
                assert time.monotonic() < end
                time.sleep(0.01)
    """)


def test_a_child_that_leaves_a_watch_does_not_stop_its_parents(tree):
    run(tree, FILES, """
        import a, select, warnings
        warnings.simplefilter("ignore")
        with ladewerk.watch(lambda what: None, roots=[ROOT]) as watch:
            child = os.fork()
            if child == 0:
                try:
                    watch.stop()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert not select.select([watch._awake], [], [], 0)[0], "its thread would reload for ever"
    """)


def test_watches_give_their_instances_back(tree):
    run(tree, FILES, """
        def instances():
            return sum(os.path.islink(f"/proc/self/fd/{fd}") and "inotify" in os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        import a
        R.reload()
        before = instances()
        for _ in range(3):
            with ladewerk.watch(roots=[ROOT]):
                assert instances() == before + 1
        assert instances() == before
        other = Reloader([ROOT])
        other.reload()
        del other
        gc.collect()
        assert instances() == before
    """)


def test_pins_left_in_another_order_than_entered(tree):
    run(tree, FILES, """
        from ladewerk._reload._pins import GATE
        def part():
            with pinned():
                yield
                with pinned():
                    assert GATE.held()
                yield
        one, two = part(), part()
        next(one), next(two)
        one.close()
        assert GATE.holds == 1 and GATE.held(), "the second has it still"
        assert "wait for itself" in str(fails())
        next(two)
        two.close()
        assert GATE.holds == 0 and not GATE.held()
    """)


INTERRUPTED = """
import _imp, builtins, importlib._bootstrap as bootstrap
from ladewerk._reload._pins import GATE
import a, pack.child
before = builtins.__import__, bootstrap._gcd_import
OURS = tuple(os.path.join("ladewerk", "_reload", name) for name in ("_reloader.py", "_plan.py", "_finding.py", "_transaction.py", "_execution.py", "_bindings.py", "_share.py")) + (os.path.join("ladewerk", "_quiet.py"),)

def interrupt_at(wanted):
    \"\"\"As a signal does: where a function begins and where a call ends. False: it was over before.\"\"\"
    count = 0
    def profile(frame, event, arg):
        nonlocal count
        if frame.f_code.co_filename.endswith(OURS) and event in ("call", "return", "c_return"):
            count += 1
            if count == wanted:
                raise KeyboardInterrupt
    sys.setprofile(profile)
    try:
        R.reload()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return count >= wanted

wanted = int(os.environ["FIRST"])
rounds = 0
while True:
    for name in ("c", "pack/__init__"):
        write(name + ".py", "VERSION = %d\\nimport fresh\\n" % wanted)
    sys.modules.pop("fresh", None)
    cut = interrupt_at(wanted)
    state = builtins.__import__, bootstrap._gcd_import
    assert state == before and gc.isenabled(), (wanted, state)
    assert not _imp.lock_held(), (wanted, "nobody can import")
    assert all(type(mod(name)) is types.ModuleType for name in ("a", "c", "pack", "pack.child")), wanted
    pin = pinned()
    assert pin.try_enter(), (wanted, "the gate is closed")
    pin.__exit__()
    assert mod("a").VERSION == mod("c").VERSION, wanted
    R.reload()
    assert mod("a").VERSION == mod("c").VERSION == mod("pack").VERSION == wanted and mod("pack").child is mod("pack.child"), wanted
    rounds += 1
    if not cut:
        break
    wanted += int(os.environ["STEP"])
assert rounds > 20, rounds
"""


@pytest.mark.parametrize("first", range(4))
def test_an_interrupt_at_any_moment_of_a_reload(tree, first):
    run(tree, {**FILES, "pack/__init__.py": "VERSION = 0\n", "pack/child.py": "", "fresh.py": ""}, INTERRUPTED, watch=False, timeout=120, env={"FIRST": 1 + first, "STEP": 4})
