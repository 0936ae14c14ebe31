# SPDX-License-Identifier: MIT
"""Adapters of frameworks: when they are called, who sees what meanwhile, and what an error of theirs does."""
from reloading import run

FILES = {"a.py": "VERSION = 0\n", "b.py": "import a\nVERSION = a.VERSION\n", "c.py": "VERSION = 0\n", "spare.py": "VERSION = 0\n"}

ADAPTER = """
    import a, b, c, spare, look
    from ladewerk import _live
    from ladewerk._reload import _plan
    from ladewerk._reload._adapters import Adapter
    from ladewerk._reload._pins import GATE
    calls, fail = [], []

    class Fake(Adapter):
        name = "fake"
        def said(self, what):
            calls.append(what)
            if what in fail:
                raise ValueError(what)
        def dependants(self, sources, changed):
            return {"c"} if "a" in changed else set()
        def begin(self, transaction):
            self.said("begin")
        def first(self):
            return ["c"]
        def started(self):
            self.said("started")
        def executed(self):
            self.said("executed")
        def changes(self):
            return [(vars(spare), "VERSION", mod("a").VERSION + 100)]
        def end(self, made):
            calls.append(made)

    def others():
        # whether another thread may enter
        found = []
        def ask():
            pin = _live.Pin(GATE)
            entered = pin.try_enter()
            found.append(entered)
            if entered:
                pin.__exit__()
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return found[0]

    def version(number):
        write("a.py", f"import look\\nlook.calls.append('a')\\nVERSION = {number}\\n")
        write("c.py", f"import look\\nlook.calls.append('c')\\nlook.others.append(look.ask())\\nVERSION = {number}\\n")

    look.calls, look.ask, look.others = calls, others, []
    R.reload()
    _plan.adapters = lambda: [Fake()]
"""
FILES["look.py"] = "__ladewerk_reload__ = False\n"


def test_the_order_of_things(tree):
    """Its dependants are executed, what it names first; its changes are part of the step."""
    run(tree, FILES, ADAPTER + """
    write("a.py", "import look\\nlook.calls.append('a')\\nVERSION = 1\\n")
    write("c.py", "import look\\nlook.calls.append('c')\\nVERSION = 1\\n")
    assert set(R.reload().executed) == {"a", "b", "c"}
    assert calls == ["begin", "c", "started", "a", "executed", True], calls
    write("a.py", "VERSION = 2\\n")
    assert set(R.reload().executed) == {"a", "b", "c"}, "c is a dependant because the adapter says so"
    assert mod("spare").VERSION == 102
    """)


def test_an_error_undoes_everything(tree):
    run(tree, FILES, ADAPTER + """
    for number, what in enumerate(("begin", "started", "executed"), 1):
        version(number)
        fail[:] = [what]
        calls.clear()
        before = snapshot()
        error = fails()
        assert error.name == "fake" and "ValueError" in str(error) and isinstance(error.__cause__, ValueError), error
        assert calls[-2:] == [what, False], calls
        assert snapshot() == before and (mod("a").VERSION, mod("c").VERSION, mod("spare").VERSION) == (0, 0, 0)
        assert others(), "readers are back"
    fail.clear()
    write("b.py", "import a\\nVERSION = a.VERSION + None\\n")
    calls.clear()
    fails()
    assert calls[-1] is False and "executed" not in calls
    """)


def test_readers_are_out_while_bodies_run(tree):
    """...and whoever reloads may take a pin. The control: without an adapter, they are in."""
    run(tree, FILES, ADAPTER + """
    version(1)
    write("b.py", "import a, ladewerk\\nwith ladewerk.pinned():\\n    VERSION = a.VERSION\\n")
    R.reload()
    assert look.others == [False] and others() and mod("b").VERSION == 1
    _plan.adapters = lambda: []
    version(2)
    R.reload()
    assert look.others == [False, True]
    """)


def test_an_import_that_waits_for_a_pin_is_not_waited_for_long(tree):
    """It began when readers were out already: nobody gets in before the reload has given up."""
    run(tree, FILES, ADAPTER + """
    from ladewerk import _quiet
    _quiet.PATIENCE, R.patience = 600, 0.05
    def importing():
        with sys.modules["_frozen_importlib"]._ModuleLockManager("a"):
            inside.set()
            with pinned():
                seen.append(mod("a").VERSION)
    def ask():
        thread.start()
        inside.wait(60)
    look.ask, inside, seen, thread = ask, threading.Event(), [], threading.Thread(target=importing)
    version(1)
    assert "still being imported after 0.05 s: a; nothing was changed" == str(fails())
    thread.join(60)
    assert seen == [0]
    look.ask = list
    R.patience = 60
    R.reload()
    assert mod("a").VERSION == 1
    """)


def test_readers_who_stay_are_waited_for_before_anything_is_executed(tree):
    run(tree, FILES, ADAPTER + """
    R.patience = 0.01
    entered, leave = threading.Event(), threading.Event()
    def reader():
        with pinned():
            entered.set()
            leave.wait(60)
    thread = threading.Thread(target=reader)
    thread.start()
    entered.wait(60)
    version(1)
    assert "pinned()" in str(fails()) and not calls and mod("a").VERSION == 0
    leave.set()
    thread.join()
    R.patience = 60
    R.reload()
    assert mod("a").VERSION == 1 and calls[0] == "begin"
    """)


def test_removing_alone_is_a_step_too(tree):
    run(tree, FILES, ADAPTER + """
    (ROOT / "c.py").unlink()
    assert R.reload().removed == ("c",) and calls[-1] is True, calls
    """)
