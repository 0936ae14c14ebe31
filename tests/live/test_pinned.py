# SPDX-License-Identifier: MIT
"""Threads: one generation for who holds a pin or enters through one module, while reloads run. Each promise with the control that breaks it."""
import os
import sysconfig

import pytest
from reloading import run

LONG = os.environ.get("LADEWERK_LONG", "0") != "0"
RELOADS = 1000 if LONG else 200

FILES = {
    "c.py": "VERSION = 0\nclass Made:\n    VERSION = VERSION\n",
    "a.py": "from c import VERSION, Made\n",
    "b.py": "import c\nVERSION = c.VERSION\n",
    "pkg/__init__.py": "",
    "pkg/x.py": "from c import VERSION\n",
    "pkg/y.py": "from c import VERSION\n",
    "entry.py": "import time, a, b, pkg.x, pkg.y\ndef seen():\n    first = a.VERSION, pkg.x.VERSION\n    time.sleep(0)\n"
                "    return {*first, b.VERSION, pkg.y.VERSION, a.Made().VERSION}\n",
}

STORM = """
import a, b, entry
RELOADS = %d
violations, rounds, stop = [], [0] * 8, threading.Event()

def reader(number):
    while not stop.is_set():
        got = look()
        rounds[number] += 1
        if len(got) != 1:
            violations.append(got)
        time.sleep(0.0005)

threads = [threading.Thread(target=reader, args=(i,), daemon=True) for i in range(8)]
for thread in threads:
    thread.start()
refs, failed, version = [], 0, 0
for i in range(1, RELOADS + 1):
    if i %% 5 == 0:
        write("c.py", "VERSION = %%d\\nraise ValueError('half-way')\\n" %% i)
        try:
            R.reload()
        except ReloadError:
            failed += 1
    else:
        version = i
        write("c.py", "VERSION = %%d\\nclass Made:\\n    VERSION = VERSION\\n" %% i)
        assert R.reload().executed
    refs += [weakref.ref(mod(name)) for name in ("a", "b", "c", "entry", "pkg.x", "pkg.y")]
stop.set()
for thread in threads:
    thread.join()
assert failed == RELOADS // 5 and mod("b").VERSION == version
assert not violations, violations[:3]
assert all(rounds), rounds
gc.collect()
import sysconfig
if not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 14):  # free-threaded, 3.13 never frees modules once there are threads
    assert len({id(ref()) for ref in refs if ref() is not None}) == 6, "modules have leaked"
"""


def test_eight_pinned_readers_see_one_generation_while_reloads_and_failures_run(tree):
    run(tree, FILES, """
        def look():
            with pinned():
                first = mod("a").VERSION, mod("pkg.x").VERSION
                time.sleep(0)
                return {*first, mod("b").VERSION, mod("c").Made().VERSION, mod("c").VERSION, mod("pkg.y").VERSION}
        """ + _indent(STORM % RELOADS), timeout=300)


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="free-threaded, a reader may see the steps of a swap")
def test_eight_readers_who_enter_by_one_module_need_no_pin(tree):
    run(tree, FILES, """
        def look():
            return mod("entry").seen()
        """ + _indent(STORM % RELOADS), timeout=300)


def _indent(text):
    return text.replace("\n", "\n        ")


BETWEEN = """
    import a, b, entry
    half, go_on = threading.Event(), threading.Event()
    seen = []
    def reader():
        with {pin}:
            seen.append(mod("a").VERSION)
            half.set()
            go_on.wait(30)
            seen.append(mod("b").VERSION)
    thread = threading.Thread(target=reader)
    thread.start()
    half.wait(30)
    write("c.py", "VERSION = 1\\nclass Made: VERSION = 1\\n")
    done = []
    reloading = threading.Thread(target=lambda: done.append(R.reload()))
    reloading.start()
    {until}
    go_on.set()
    thread.join()
    reloading.join()
    assert mod("b").VERSION == 1 and len(done) == 1
    assert seen == {seen}, seen
"""
#: Until the swap waits for the pin: others that would enter have to wait.
CLOSED = """from ladewerk import _live
    from ladewerk._reload._pins import GATE
    def entered():
        pin = _live.Pin(GATE)
        if pin.try_enter():
            pin.__exit__()
            return True
    while entered():
        time.sleep(0.001)"""


@pytest.mark.parametrize("pin, until, seen", [
    pytest.param("pinned()", CLOSED, "[0, 0]", id="pinned"),
    pytest.param("__import__('contextlib').nullcontext()", "reloading.join()", "[0, 1]", id="control-without-a-pin"),
])
def test_a_swap_between_two_looks(tree, pin, until, seen):
    run(tree, FILES, BETWEEN.format(pin=pin, until=until, seen=seen))


HALF = """
    import steps, c, a
    steps.half, steps.go_on = threading.Event(), threading.Event()
    old = [mod("c")]
    write("c.py", "import steps\\nVERSION = 1\\nsteps.half.set()\\nsteps.go_on.wait(30)\\nclass Made: VERSION = 1\\n")
    os.utime(ROOT / "c.py", (1, 1))
    {reload}
    thread = threading.Thread(target=reload)
    thread.start()
    assert steps.half.wait(30)
    seen = mod("c").VERSION, mod("c").Made.VERSION, mod("a").VERSION, mod("c") is old[0]
    imported = __import__("c").VERSION
    steps.go_on.set()
    thread.join()
    assert mod("c").VERSION == mod("c").Made.VERSION == 1
    assert seen == {seen} and imported == seen[0], (seen, imported)
    assert mod("a").VERSION == {dependant}
"""


@pytest.mark.parametrize("reload, seen, dependant", [
    pytest.param("reload = R.reload", "(0, 0, 0, True)", 1, id="ladewerk"),
    pytest.param("import importlib\n    reload = lambda: importlib.reload(c)", "(1, 0, 0, True)", 0, id="control-importlib-reload"),
])
def test_nobody_sees_half_a_module(tree, reload, seen, dependant):
    run(tree, {**FILES, "steps.py": "__ladewerk_reload__ = False\n"}, HALF.format(reload=reload, seen=seen, dependant=dependant))


def test_an_old_module_sees_old_modules_through_a_package_that_stays(tree):
    """Control: the package itself has the new ones."""
    run(tree, FILES, """
        import entry
        old, package = [entry], mod("pkg")
        write("c.py", "VERSION = 1\\nclass Made: VERSION = 1\\n")
        R.reload()
        assert old[0].seen() == {0} and mod("entry").seen() == {1} and mod("pkg") is package and package.x.VERSION == 1
        write("pkg/x.py", "VERSION = 5\\n")
        R.reload()
        assert old[0].seen() == {0} and mod("pkg.x").VERSION == 5
    """)


def test_a_pin_held_too_long_is_an_error_and_nothing_changes(tree):
    run(tree, FILES, """
        import a, b
        R.patience = 0.05
        held, done = threading.Event(), threading.Event()
        def reader():
            with pinned():
                held.set()
                done.wait(30)
        thread = threading.Thread(target=reader)
        thread.start()
        held.wait(30)
        before = snapshot()
        write("c.py", "VERSION = 1\\nclass Made: VERSION = 1\\n")
        error = fails()
        assert "pinned()" in str(error) and snapshot() == before
        with pinned():
            pass  # it is open again
        done.set()
        thread.join()
        assert R.reload().changed == ("c",) and mod("b").VERSION == 1, "what could not be swapped is not forgotten"
    """)


def test_reload_inside_its_own_pin_is_an_error_at_once(tree):
    run(tree, FILES, """
        import a, asyncio
        write("c.py", "VERSION = 1\\nclass Made: VERSION = 1\\n")
        R.patience = 1e6
        with pinned():
            with pinned():
                assert "wait for itself" in str(fails())
            assert "wait for itself" in str(fails())
        async def task():
            async with pinned():
                await asyncio.to_thread(fails)
        asyncio.run(task())
        assert R.reload().changed == ("c",)
    """)


def test_reload_inside_a_module_body_is_an_error_at_once(tree):
    run(tree, FILES, """
        import a
        write("c.py", "import __main__\\nVERSION = 1\\nclass Made: pass\\nERROR = str(__main__.fails())\\n")
        R.reload()
        assert "within a reload" in mod("c").ERROR
    """)


def test_nested_pins_do_not_wait_for_the_swap_that_waits_for_them(tree):
    run(tree, FILES, """
        import a, b
        from ladewerk._reload._pins import GATE
        from ladewerk import _live
        write("c.py", "VERSION = 1\\nclass Made: VERSION = 1\\n")
        held, go_on, seen = threading.Event(), threading.Event(), []
        def reader():
            with pinned():
                held.set()
                go_on.wait(30)
                with pinned():
                    seen.append(mod("a").VERSION)
                seen.append(mod("b").VERSION)
        thread = threading.Thread(target=reader)
        thread.start()
        held.wait(30)
        reloading = threading.Thread(target=R.reload)
        reloading.start()
        while True:
            pin = _live.Pin(GATE)
            if not pin.try_enter():
                break
            pin.__exit__()
            time.sleep(0.001)
        go_on.set()
        thread.join()
        reloading.join()
        assert seen == [0, 0] and mod("a").VERSION == 1 and GATE.holds == 0
    """)


def test_a_task_awaits_without_blocking_its_loop(tree):
    run(tree, FILES, """
        import asyncio
        from ladewerk._reload._pins import GATE
        GATE.close(0)
        order = []
        async def pinned_task():
            async with pinned():
                order.append("pinned")
                assert GATE.held() and GATE.holds == 1
        async def opener():
            for _ in range(5):
                await asyncio.sleep(0)
            order.append("open")
            GATE.open()
        async def main():
            await asyncio.gather(pinned_task(), opener())
            assert not GATE.held() and GATE.holds == 0
        asyncio.run(main())
        assert order == ["open", "pinned"], order
    """)


def test_a_task_that_outlives_the_pin_it_was_made_in(tree):
    run(tree, FILES, """
        import asyncio
        from ladewerk._reload._pins import GATE
        async def child(entered, leave):
            with pinned():
                entered.set()
                await leave.wait()
                assert GATE.held() and GATE.holds == 1
        async def late(leave):
            await leave.wait()
            assert not GATE.held(), "the hold whose context it was given has ended"
            with pinned():
                assert GATE.held() and GATE.holds == 1
        async def main():
            entered, leave, later = asyncio.Event(), asyncio.Event(), asyncio.Event()
            async with pinned():
                task, late_task = asyncio.create_task(child(entered, leave)), asyncio.create_task(late(later))
                await entered.wait()
            assert GATE.holds == 1, "the child holds it still"
            leave.set()
            await task
            assert GATE.holds == 0
            later.set()
            await late_task
            assert GATE.holds == 0
        asyncio.run(main())
    """)


def test_wsgi_asgi_and_executors(tree):
    run(tree, FILES, """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        from ladewerk._reload._pins import GATE
        closed = []
        class Body(list):
            def close(self):
                closed.append(GATE.holds)
        def app(environ, start_response):
            assert GATE.holds == 1
            return Body([b"x", b"y"])
        response = pinned.wsgi(app)({}, None)
        assert GATE.holds == 1 and list(response) == [b"x", b"y"] and GATE.holds == 0
        response.close()
        response = pinned.wsgi(app)({}, None)
        response.close()
        assert GATE.holds == 0 and closed == [0, 1]
        try:
            pinned.wsgi(lambda environ, start: 1 / 0)({}, None)
        except ZeroDivisionError:
            assert GATE.holds == 0
        held = []
        async def asgi(scope, receive, send):
            held.append(GATE.holds)
        for kind in ("http", "lifespan", "websocket"):
            asyncio.run(pinned.asgi(asgi)({"type": kind}, None, None))
        assert held == [1, 0, 0] and GATE.holds == 0
        with ThreadPoolExecutor(1) as pool:
            assert pinned.submit(pool, lambda: (GATE.held(), GATE.holds)).result() == (True, 1)
            go_on = threading.Event()
            with pinned():
                future = pinned.submit(pool, lambda: (go_on.wait(30), GATE.held(), GATE.holds))
                waiting = pinned.submit(pool, lambda: None)
            assert GATE.holds == 1, "the function has it"
            go_on.set()
            assert future.result() == (True, True, 1)
            waiting.result()
        assert GATE.holds == 0, "by the time the pool is shut down"
    """)


def test_a_fork_forgets_the_pins_of_other_threads(tree):
    run(tree, FILES, """
        import a, b, warnings
        warnings.simplefilter("ignore")
        from ladewerk._reload._pins import GATE
        held, done = threading.Event(), threading.Event()
        def reader():
            with pinned():
                held.set()
                done.wait(30)
        thread = threading.Thread(target=reader)
        thread.start()
        held.wait(30)
        R.reload()
        with pinned():
            assert GATE.holds == 2
            child = os.fork()
            if child == 0:
                os._exit(0 if GATE.holds == 1 and GATE.held() else 1)
        assert os.waitpid(child, 0)[1] == 0
        write("c.py", "VERSION = 1\\nclass Made: VERSION = 1\\n")
        child = os.fork()
        if child == 0:
            R.reload()
            os._exit(0 if mod("b").VERSION == 1 and GATE.holds == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
        done.set()
        thread.join()
        assert mod("b").VERSION == 0 and R.reload().changed == ("c",)
    """)


def test_the_control_of_forks(tree):
    """Control: a child that is not told of its fork goes on counting pins of threads that it does not have."""
    run(tree, FILES, """
        import ctypes, warnings
        warnings.simplefilter("ignore")
        from ladewerk._reload._pins import GATE
        held, done = threading.Event(), threading.Event()
        def reader():
            with pinned():
                held.set()
                done.wait(30)
        thread = threading.Thread(target=reader)
        thread.start()
        held.wait(30)
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            os._exit(3 if GATE.holds == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        done.set()
        thread.join()
    """)


def test_a_fork_while_another_thread_reloads(tree):
    run(tree, {**FILES, "steps.py": "__ladewerk_reload__ = False\n"}, """
        import a, b, steps, warnings, builtins
        warnings.simplefilter("ignore")
        original = builtins.__import__
        steps.half, steps.go_on = threading.Event(), threading.Event()
        write("c.py", "import steps\\nVERSION = 1\\nsteps.half.set()\\nsteps.go_on.wait(30)\\nclass Made: VERSION = 1\\n")
        thread = threading.Thread(target=R.reload)
        thread.start()
        steps.half.wait(30)
        child = os.fork()
        if child == 0:
            assert builtins.__import__ is original and type(mod("c")) is types.ModuleType and gc.isenabled()
            write("c2.py", "")
            steps.half.clear()
            steps.go_on.set()
            R.reload()
            os._exit(0 if mod("b").VERSION == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        steps.go_on.set()
        thread.join()
        assert mod("b").VERSION == 1
    """)


def test_concurrent_reloads_share_one(tree):
    run(tree, {**FILES, "steps.py": "__ladewerk_reload__ = False\nruns = 0\n"}, """
        import a, b, steps
        steps.half, steps.go_on = threading.Event(), threading.Event()
        write("c.py", "import steps\\nsteps.runs += 1\\nVERSION = 1\\nsteps.half.set()\\nsteps.go_on.wait(30)\\nclass Made: VERSION = 1\\n")
        first = threading.Thread(target=R.reload)
        first.start()
        steps.half.wait(30)
        write("c.py", "import steps\\nsteps.runs += 1\\nVERSION = 2\\nclass Made: VERSION = 2\\n")
        results = []
        others = [threading.Thread(target=lambda: results.append(R.reload())) for _ in range(6)]
        for other in others:
            other.start()
        while True:
            with R._mutex:
                if R._waiting and len(R._mutex._waiters) == 5:
                    break
            time.sleep(0.001)
        steps.go_on.set()
        for thread in (first, *others):
            thread.join()
        assert steps.runs == 2, "one for the first, one for the six"
        assert len({id(result) for result in results}) == 1 and results[0].changed == ("c",) and mod("b").VERSION == 2
        write("c.py", "1 / 0\\n")
        errors = []
        others = [threading.Thread(target=lambda: errors.append(fails())) for _ in range(6)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert len(errors) == len({id(error) for error in errors}) == 6 and all(isinstance(error.__cause__, ZeroDivisionError) for error in errors)
    """)


def test_other_threads_import_while_reloads_run(tree):
    """Function-level imports, first imports and removals in other threads: none fails, none waits for ever.

    (A body that runs while another thread removes its module from sys.modules does not find itself there, as under stock.)
    """
    run(tree, {**FILES, **{f"lazy/m{i}.py": "import c, sys\nVERSION = c.VERSION\nSELF = getattr(sys.modules.get(__name__), '__name__', None)\n" for i in range(40)}, "lazy/__init__.py": ""}, """
        import a, b, entry, importlib
        stop, errors, done = threading.Event(), [], [0] * 4
        def importer(number):
            try:
                while not stop.is_set():
                    for i in range(number, 40, 4):
                        name = f"lazy.m{i}"
                        module = importlib.import_module(name)
                        exec(f"from lazy import m{i}; import lazy.m{i} as again; assert again.SELF in ('{name}', None), again.SELF", {})
                        sys.modules.pop(name, None)
                    done[number] += 1
            except BaseException as error:
                errors.append(error)
                raise
        threads = [threading.Thread(target=importer, args=(i,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        for i in range(1, 41):
            write("c.py", "VERSION = %d\\nclass Made: VERSION = VERSION\\n" % i)
            R.reload()
            assert mod("b").VERSION == mod("a").VERSION == i
        while not all(done) and not errors:
            time.sleep(0.001)
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors, errors[0]
        assert type(mod("c")) is types.ModuleType and type(mod("lazy")) is types.ModuleType
        R.reload()
    """)
