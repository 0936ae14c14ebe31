# SPDX-License-Identifier: MIT
"""fork() while other threads import what names wait for: it waits for them, so that no child waits for a lock of nobody's.

Children that do not end are killed by their own alarm: so ends the control, in which nobody waits for the other thread.
"""
from __future__ import annotations

import os
import signal

import pytest
import whose

pytestmark = whose.ours

GATE = "import threading\ninside, go, third = threading.Event(), threading.Event(), threading.Event()"
LAZILY = "import slow\ndef get(): return slow.value"
EAGERLY = "def get():\n    import slow\n    return slow.value"

# slow.py says when it is being executed, and goes on after a while, or when it is told to.
SLOW = "import gate, time\ngate.inside.set()\ngate.go.wait({})\nvalue = 7"
FILES = {"gate.py": GATE, "slow.py": SLOW.format(0.2), "user.py": LAZILY}
STUCK = {**FILES, "slow.py": SLOW.format(20)}

# begin() has a thread call user.get(), and returns when it is at it. fork(child): the exit code of a child that ends with what child() returns; or less than nothing: the
# signal that killed it.
PROGRAM = """
import os, signal, threading, time, warnings
import gate, user
gate.inside
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: of forks beside threads, with the number of the process

def fork(child, seconds=10):
    pid = os.fork()
    if not pid:
        signal.alarm(seconds)
        os._exit(child())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def start(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread

def begin():
    thread = start(user.get)
    gate.inside.wait(60)
    return thread

def taken(function, *args):
    began = time.monotonic()
    return function(*args), time.monotonic() - began
"""


@pytest.mark.parametrize(("text", "expected"), [(LAZILY, 7), (EAGERLY, -signal.SIGALRM)], ids=["lazily", "control"])
def test_a_first_use_in_another_thread(lazily, text, expected):
    lazily({**FILES, "user.py": text}, PROGRAM + f"thread = begin()\nassert fork(user.get, {10 if expected > 0 else 1}) == {expected}\nthread.join()\nassert user.get() == 7")


LOCKING = """
    import os, threading
    lock = threading.Lock()
    class Hooks:
        def install(self): os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    Hooks().install()
    def hold():
        def holding():
            with lock:
                time.sleep(0.3)
                print("held:", lock.locked())
        import time
        threading.Thread(target=holding).start()
        time.sleep(0.1)
"""

# What is taken before a fork, by functions that are registered for it, modules may need to be imported; and they may register such functions. slow.py, what the program does
# first, and between begin() and the fork.
MEANWHILE = {
    "loggers": ("time.sleep(0.2)\nlog = logging.getLogger(__name__)", "import logging", ""),
    "logging": ("time.sleep(0.1)\nlog = logging.getLogger(__name__)", "", ""),
    "logging at first": ("logging.INFO\ngate.inside.set()\ntime.sleep(0.2)\nlog = logging.getLogger(__name__)", "", ""),
    "logging elsewhere": ("time.sleep(0.2)\nlog = logging.getLogger(__name__)", "", "import logging"),
    "pools": ("time.sleep(0.1)\npool = concurrent.futures.thread.ThreadPoolExecutor()", "", ""),
    "a lock": ("time.sleep(0.2)\nwith locking.lock: pass", "import locking", ""),
    "a lock from now on": ("time.sleep(0.1)\nlocking.hold()", "", ""),
    "a lock elsewhere": ("time.sleep(0.2)\nwith locking.lock: pass", "", "import locking"),
}


@pytest.mark.parametrize("case", MEANWHILE)
def test_what_is_registered_for_forks(alike, case):
    slow, before, between = MEANWHILE[case]
    slow = f"import gate, time, logging, concurrent.futures.thread, locking\ngate.inside.set() if 'inside' not in {slow!r} else None\n{slow}\nvalue = 7"
    alike({**FILES, "slow.py": slow, "locking.py": LOCKING}, f"{before}\n{PROGRAM}\nthread = begin()\n{between}\nprint(fork(user.get), flush=True)\nthread.join()", modes=("default", "all"))


def test_a_first_use_that_begins_during_a_fork(alike):
    """It waits in turn."""
    alike(FILES, PROGRAM + """
begun = threading.Event()
os.register_at_fork(before=lambda: (begun.set(), time.sleep(0.05)))
thread = start(lambda: (begun.wait(), user.get()))
print(fork(user.get))
thread.join()
""")


def test_first_uses_before_and_during_a_fork(alike):
    """One that begins while the fork waits for others does not use up what the next one, during the fork, is to wait."""
    alike({**FILES, "slow.py": SLOW.format(0.4), "short.py": "import time\ntime.sleep(0.3)\nvalue = 5", "second.py": "value = 1",
           "user.py": LAZILY + "\nimport second, short\ndef get_second(): return second.value\ndef get_short(): return short.value"}, PROGRAM + """
begun = threading.Event()
os.register_at_fork(before=lambda: (begun.set(), time.sleep(0.02)))
def other():
    time.sleep(0.1)
    user.get_second()
    begun.wait()
    user.get_short()
threads = [begin(), start(other)]
print(fork(user.get_short))
for thread in threads: thread.join()
""")


def test_a_first_use_that_the_fork_waits_for(lazily):
    """A function that is called before forks waits for another thread, which uses names for the first time: it waits once, briefly, for the fork that waits for it."""
    files = {f"m{n}.py": "value = 1" for n in range(50)}
    lazily({**FILES, **files, "user.py": "".join(f"import m{n}\n" for n in range(50)) + "def get():\n    return [" + ", ".join(f"m{n}.value" for n in range(50)) + "]"}, PROGRAM + """
begun, done = threading.Event(), threading.Event()
os.register_at_fork(before=lambda: (begun.set(), done.wait()))
thread = start(lambda: (begun.wait(), user.get(), done.set()))
code, seconds = taken(fork, lambda: 7)
assert code == 7 and seconds < 3, seconds  # 50 times a tenth of a second
""")


def test_a_module_that_waits_for_the_thread_that_forks(lazily):
    """The fork goes on after a while; the next one does not wait for that module again. What the thread was at is nobody's work in the child, which may bind the name."""
    lazily({**STUCK, "user.py": LAZILY + "\nimport other\ndef get_other(): return other.value", "other.py": "value = 2"}, PROGRAM + """
def bind():
    user.slow = user
    dir(user)  # who looks finds it bound: it does not wait any more
    del user.slow
    return 3 + hasattr(user, "slow")

thread = begin()
code, first = taken(fork, user.get_other)
assert code == 2 and first < 10, first
for child, expected in (user.get_other, 2), (bind, 3):
    code, again = taken(fork, child)
    assert code == expected and again < first / 2, (first, again)
gate.go.set()
thread.join()
assert user.get() == 7
""")


def test_what_is_given_up(lazily):
    """A use within one that was given up, and one that began later, are waited for."""
    lazily({**STUCK, "outer.py": "import gate, user\ngate.third.set()\ngate.go.wait()\nvalue = user.get()", "slow.py": SLOW.format(0.2).replace("gate.go", "gate.third.clear()\ngate.third"),
            "late.py": "import time, gate\ngate.third.set()\ntime.sleep(0.3)\nvalue = 5", "user.py": LAZILY + "\nimport outer, late\ndef get_outer(): return outer.value\ndef get_late(): return late.value"},
           PROGRAM + """
threads = [start(user.get_outer)]
gate.third.wait()
assert fork(lambda: 3) == 3  # in vain
gate.go.set()
gate.inside.wait()
assert fork(user.get) == 7
gate.third.clear()
threads.append(start(user.get_late))
gate.third.wait()
assert fork(user.get_late) == 5
for thread in threads: thread.join()
""")


@pytest.mark.parametrize("how", ["a name", "a statement"])
def test_a_fork_amid_an_import(lazily, how):
    """Whoever forks while it imports itself waits for nobody: the other may be waiting for it."""
    use = "user.fork()" if how == "a name" else "__import__('forks').status"
    lazily({**STUCK, "user.py": LAZILY + "\nimport forks\ndef fork(): return forks.status",
            "forks.py": "import os\npid = os.fork()\nif not pid: os._exit(5)\nstatus = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"}, PROGRAM + f"""
thread = begin()
code, seconds = taken(lambda: {use})
assert code == 5 and seconds < 0.4, seconds  # what is given up takes half a second
gate.go.set()
thread.join()
""")


def test_descendants(alike):
    """Each has a thread that uses a name when it forks, and its child uses the same."""
    alike({**FILES, **{f"slow{n}.py": f"import time, user\nuser.inside[{n}].set()\ntime.sleep(0.1)\nvalue = {n}" for n in range(3)},
           "user.py": LAZILY + "\nimport threading\ninside = [threading.Event() for _ in range(3)]" + "".join(f"\nimport slow{n}\ndef get{n}(): return slow{n}.value" for n in range(3))},
          PROGRAM + """
def descend(n=0):
    if n == 3:
        return user.get()
    use = getattr(user, f"get{n}")
    start(use)
    user.inside[n].wait()
    return fork(lambda: use() - n + descend(n + 1))
thread = begin()
print(descend())
""")


def test_threads_whose_ident_is_used_again(alike):
    """In a child a new thread gets the ident of one that was lost, which was resolving a name. In a grandchild by that thread the name is there all the same."""
    alike({**FILES, "slow.py": "import gate, time, sys\ngate.inside.set()\nif sys.argv[1:]: gate.go.wait(20)\nvalue = 7"}, PROGRAM + """
import sys, types
sys.argv.append("wait")
def grandchild():
    sys.modules["slow"] = types.SimpleNamespace(value=4)
    return hasattr(user, "slow")
def child():
    codes = []
    thread = start(lambda: codes.append(fork(grandchild)))
    thread.join()
    return codes[0]
thread = begin()
print(fork(child))
gate.go.set()
""")


def test_signals(lazily):
    """A handler runs while a fork waits; what it raises is raised there."""
    lazily({**FILES, "slow.py": "import gate\ngate.inside.set()\nwhile not gate.go.wait(0.001): pass\nvalue = 7"}, PROGRAM + """
def handler(*args): raise InterruptedError("here")
signal.signal(signal.SIGALRM, handler)
thread = begin()
signal.setitimer(signal.ITIMER_REAL, 0.1)
began = time.monotonic()
try: os.fork()
except InterruptedError as error: assert str(error) == "here"
else: raise AssertionError("forked")
assert time.monotonic() - began < 4  # it is given up after five
gate.go.set()
thread.join()
assert fork(user.get) == 7
""")


@pytest.mark.parametrize("mode", ["default", "all"])
def test_pools_in_threads(lazily, mode):
    """Threads that fork while others import. If nobody waits, two of three such programs never end."""
    lazily({}, f"""
        import multiprocessing, threading

        def make():
            with multiprocessing.get_context("fork").Pool(1):
                pass

        for _ in range({20 if os.environ.get("LADEWERK_LONG") else 1}):
            threads = [threading.Thread(target=make) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    """, mode=mode)


def test_forks_are_as_they_were(alike):
    """Names, text and errors of the functions."""
    alike(FILES, """
import os, posix, pickle
print(os.fork, os.forkpty, os.fork is posix.fork, os.fork.__module__, os.fork.__doc__, os.fork.__text_signature__, pickle.loads(pickle.dumps(os.fork)) is os.fork)
for arguments in (1,), (1, 2):
    try: os.fork(*arguments)
    except TypeError as error: print(error)
pid, fd = os.forkpty()
if not pid: os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import sys, resource
sys.addaudithook(lambda event, args: event == "os.fork" and 1 / 0)
try: os.fork()
except ZeroDivisionError: print("refused")
""")


def test_a_use_that_waits_for_one_fork_while_another_begins(lazily):
    """It begins when none is under way, not when the first has ended."""
    lazily({"gate.py": GATE, "slow.py": "import time\ntime.sleep(0.3)\nvalue = 7", "user.py": LAZILY}, PROGRAM + """
os.register_at_fork(before=lambda: time.sleep(0.07))
codes = []
def forking(delay):
    time.sleep(delay)
    codes.append(fork(user.get, 3))
def using():
    time.sleep(0.02)
    user.get()
threads = [start(lambda: forking(0)), start(lambda: forking(0.04)), start(using)]
for thread in threads: thread.join()
assert codes == [7, 7], codes
""")


def test_uses_without_end(lazily):
    """Each fails at once, and is tried again: a fork does not wait for the last of them, whoever comes next."""
    lazily({"gate.py": GATE, "bad.py": "raise ValueError", "user.py": "import bad\ndef get():\n    try: return bad.x\n    except ValueError: return 1"}, PROGRAM + """
over = []
def trying():
    while not over: user.get()
threads = [start(trying) for _ in range(4)]
time.sleep(0.1)
code, seconds = taken(fork, lambda: 3)
over.append(1)
for thread in threads: thread.join()
assert code == 3 and seconds < 20, (code, seconds)
""")


def test_functions_called_after_a_fork(lazily):
    """They may wait for threads that use names for the first time: that fork is over."""
    count = 20
    files = {"gate.py": GATE, **{f"m{i}.py": "" for i in range(count)}}
    files["user.py"] = "".join(f"import m{i}\n" for i in range(count)) + f"get = [{', '.join(f'lambda: m{i}' for i in range(count))}]"
    lazily(files, PROGRAM + """
def after():
    for get in user.get:
        thread = start(get)
        thread.join()
os.register_at_fork(after_in_parent=after)
code, seconds = taken(fork, lambda: 3)
assert code == 3 and seconds < 1, (code, seconds)
""")
