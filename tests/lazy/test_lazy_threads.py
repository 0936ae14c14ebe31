# SPDX-License-Identifier: MIT
"""Threads that resolve the same names and different ones, at the same time: each module is executed once, and everybody sees all of it.

32 threads go through a barrier and use names of one module in orders of their own, which wait for attributes of modules that sleep while they are executed; then all
modules are let go of, and must be gone. Every name is contested. The control is the same without the locks of modules: it fails.
"""
from __future__ import annotations

import os

import pytest
import whose

pytestmark = whose.ours

MODULES, THREADS, NAMES_EACH = 8, 32, 4
ROUNDS = 1000 if os.environ.get("LADEWERK_LONG") else 32  # 32 names in a round: 1,024 are resolved, each by 32 threads

FILES = {f"m{k}.py": "import time\ntimes.append(1)\nearly = object()\ntime.sleep(0.002)\nlate = object()\ndef last(): return late\n".replace("times.append(1)", "count = globals().get('count', 0) + 1")
         for k in range(MODULES)}
FILES["user.py"] = "".join(f"from m{k} import early as e{k}, late as l{k}, last as f{k}\nimport m{k} as i{k}\n" for k in range(MODULES)) + "uses = [" + ", ".join(
    f"lambda: (i{k}, e{k}, l{k}, f{k})" for k in range(MODULES)) + "]\n"

PROGRAM = f"""
import gc, sys, threading, weakref
import importlib._bootstrap as bootstrap
import ladewerk

class Unlocked:
    def acquire(self): return True
    def release(self): pass

def wrong(got, start):
    # what this thread has seen that is not so
    if not isinstance(got, list):
        return repr(got)
    for step, (module, early, late, last) in enumerate(got):
        k = (start + step) % {MODULES}
        if module is not sys.modules[f"m{{k}}"] or early is not module.early or late is not module.late or last is not module.last or last() is not late or module.count != 1:
            return f"m{{k}}: {{(module, early, late, last)}}"

def one_round(user):
    results, barrier = [None] * {THREADS}, threading.Barrier({THREADS})
    def run(start):
        barrier.wait()
        try:
            results[start] = [user.uses[(start + step) % {MODULES}]() for step in range({MODULES})]
        except BaseException as error:
            results[start] = error
    threads = [threading.Thread(target=run, args=(start,)) for start in range({THREADS})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found for found in map(wrong, results, range({THREADS})) if found]

def whole_round(locked):
    import user
    names = ["user"] + [f"m{{k}}" for k in range({MODULES})]
    assert not any(name in sys.modules for name in names[1:])
    stock = bootstrap._get_module_lock
    if not locked:
        bootstrap._get_module_lock = lambda name: Unlocked()
    try:
        found = one_round(user)
    finally:
        bootstrap._get_module_lock = stock
    alive = [weakref.ref(sys.modules.pop(name)) for name in names if name in sys.modules]
    del user
    gc.collect()
    return found or [repr(ref()) for ref in alive if ref() is not None]

sys.setswitchinterval(1e-5)
"""


def test_the_same_names_at_once(lazily):
    lazily(FILES, PROGRAM + f"""
before = ladewerk.stats()["lazy"]["resolved"]
for number in range({ROUNDS}):
    found = whole_round(locked=True)
    assert not found, (number, found)
assert ladewerk.stats()["lazy"]["resolved"] - before >= {ROUNDS * MODULES * NAMES_EACH}
""")


def test_without_locks_that_goes_wrong(lazily):
    lazily(FILES, PROGRAM + """
assert any(whole_round(locked=False) for number in range(200))
""")


def test_circles_of_threads(lazily):
    """Two threads begin at the two ends of a circle of modules: both come through, as with imports (whose locks notice a deadlock)."""
    lazily({"a.py": "import time\ntime.sleep(0.001)\nfrom b import g\ndef f(): return 'f'\ndef call(): return g()",
            "b.py": "import time\ntime.sleep(0.001)\nfrom a import f\ndef g(): return 'g'\ndef call(): return f()",
            "ends.py": "import a, b\none = lambda: a.call()\ntwo = lambda: b.call()"}, """
        import threading, gc
        for number in range(50):
            import ends
            results, barrier = {}, threading.Barrier(2)
            def run(name):
                barrier.wait()
                results[name] = getattr(ends, name)()
            threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            assert results == {"one": "g", "two": "f"}, results
            for name in "a", "b", "ends": del sys.modules[name]
    """)


TAKEN = {"pkg/__init__.py": "from .sub import sub\ndef get(): return sub()", "pkg/sub.py": "from .impl import sub", "pkg/impl.py": "import time, pkg\nseen = hasattr(pkg, 'sub')\ntime.sleep(0.3)\ndef sub(): return seen"}


def test_what_is_taken_of_a_submodule_by_its_name(alike):
    """The submodule itself is not seen there, neither by other threads nor by what is executed for it."""
    alike(TAKEN, """
        import pkg, threading, time
        results = []
        def one():
            try: results.append(pkg.get())
            except Exception as error: results.append(repr(error))
        threads = [threading.Thread(target=one) for _ in range(2)]
        threads[0].start()
        time.sleep(0.15)
        threads[1].start()
        for thread in threads: thread.join()
        print(results)
    """)


@pytest.mark.parametrize("get", ["user.slow.value", "user.get()", "pkg.slow.value"])
def test_greenlets_that_ask_at_once(alike, get):
    """gevent's share a thread, and take turns while one of them imports."""
    pytest.importorskip("gevent")
    slow = "import time\ntime.sleep(0.1)\nvalue = 7"
    alike({"slow.py": slow, "user.py": "import slow\ndef get(): return slow.value", "pkg/__init__.py": "", "pkg/slow.py": slow, "aside.py": "import pkg.slow\ndef f(): return pkg.slow"}, f"""
        from gevent import monkey; monkey.patch_all()
        import gevent, aside, pkg, user
        jobs = [gevent.spawn(lambda: {get}) for _ in range(3)]
        gevent.joinall(jobs)
        print([job.value for job in jobs])
    """)
