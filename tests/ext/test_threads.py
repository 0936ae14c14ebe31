# SPDX-License-Identifier: MIT
"""Many threads import at once: the locks are CPython's own, so what can happen to a thread is what can happen to it under stock.

The storm (storm.py) imports a tree full of circles from eight threads. Its outcome is a matter of luck; the rules that every outcome obeys are
not, and hold under stock as well. Exceptions are compared by kind with those that stock raised.
"""

import collections
import json
import re
import signal
import subprocess
import sys
import sysconfig

import pytest

import storm
from harness import HERE, LONG, Tree, settle

ROUNDS = 1000 if LONG else 8
PATIENCE = 120  # seconds for a round; it takes less than one


def kinds(report):
    """The exceptions of a storm. What a circle raises passes through those who rest on it."""
    return {(where if where in ("absent", "sound") else "", *what) for where, *what in report["kinds"]}


class Forest(Tree):
    """The tree of the storm."""

    def __init__(self, base):
        super().__init__(base)
        storm.plant(self.root)
        settle()
        self.known = {}

    def storm(self, ladewerk=True, check=True, env={}, **options):
        result = self.run(None, HERE / "storm.py", json.dumps({"patience": PATIENCE, **options}), ladewerk=ladewerk, check=check, timeout=3600, env=env)
        return result.json() if check else result

    def stock(self, more=0, **options):
        """What stock had to say, in all its runs so far; one run MORE."""
        runs = self.known.setdefault(json.dumps(options, sort_keys=True), [])
        while len(runs) <= more:
            runs.append(self.storm(ladewerk=False, seed=len(runs), **options))
        return {"broken": [b for r in runs for b in r["broken"]], "kinds": set().union(*map(kinds, runs))}

    def compare(self, report, **options):
        """REPORT obeys the rules, and nothing was raised that stock does not raise. What is rare may take stock some more runs."""
        stock = self.stock(**options)
        assert not stock["broken"], "the rules are wrong"
        assert not report["broken"]
        seen = kinds(report)
        for more in range(1, 6):
            if seen <= stock["kinds"]:
                break
            stock = self.stock(more, **options)
        assert seen <= stock["kinds"]


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    return Forest(tmp_path_factory.mktemp("forest"))


def was_a_storm(report, rounds, runners=2):
    """Circles were met by several threads, which got into each other's way."""
    assert report["half"] > rounds and report["runners"] > runners * rounds
    assert {"circular", "failing", "absent"} <= {kind for kind, *_ in report["kinds"]}


def test_storm_while_learning(forest, tmp_path):
    """Nothing is in the cache: threads read .pyc files, or compile, and learn at once."""
    for pyc in forest.root.rglob("*.pyc"):
        pyc.unlink()
    report = forest.storm(rounds=3, env={"LADEWERK_CACHE": tmp_path})
    was_a_storm(report, 3)
    assert report["stats"]["fast_path"] and report["stats"]["served"]["compiled"] > 400
    forest.compare(report, rounds=ROUNDS)


@pytest.mark.parametrize("freshness", ["stat", "frozen"])
def test_storm(forest, freshness):
    for _ in range(2):
        settle()
        forest.storm(rounds=1)
    report = forest.storm(rounds=ROUNDS, env={"LADEWERK_FRESHNESS": freshness})
    was_a_storm(report, ROUNDS)
    assert report["stats"]["fast_path"] and report["stats"]["freshness"] == freshness
    assert report["stats"]["served"]["pack"] > 450 * ROUNDS
    assert report["stats"]["aside"]["initializing"] > ROUNDS  # somebody was in the way
    forest.compare(report, rounds=ROUNDS)


def test_storm_while_installed_and_uninstalled(forest):
    """Stock's function and ours exclude each other; uninstall() puts back what was there, whoever imports meanwhile."""
    report = forest.storm(rounds=ROUNDS, turncoat=True)
    was_a_storm(report, ROUNDS)
    assert report["turns"] > ROUNDS and report["stats"]["served"]["pack"] + report["stats"]["served"]["pyc"] > ROUNDS
    forest.compare(report, rounds=ROUNDS)


@pytest.mark.parametrize("ladewerk", [False, True], ids=["stock", "ladewerk"])
def test_storm_control_locks_dropped(forest, ladewerk):
    """Control: without module locks half modules are seen, and bodies run twice."""
    broken = "\n".join(forest.storm(ladewerk, rounds=2, control="drop_the_locks")["broken"])
    assert "half of" in broken


@pytest.mark.parametrize("ladewerk", [False, True], ids=["stock", "ladewerk"])
def test_storm_control_deadlock(forest, ladewerk):
    """Control: a thread that waits for ever is noticed."""
    result = forest.storm(ladewerk, check=False, rounds=5, control="forget_to_release", patience=3)
    assert result.returncode == 1 and "Timeout" in result.err and "in acquire" in result.err


def test_storm_control_binding(forest):
    """Control: a submodule that was not bound in its parent is noticed."""
    assert any("not bound" in b for b in forest.storm(False, rounds=1, control="forget_to_bind")["broken"])


def test_storm_control_exceptions(forest):
    """Control: an exception that stock does not raise is noticed."""
    report = forest.storm(rounds=1, control="fail_strangely")
    with pytest.raises(AssertionError, match="strange"):
        forest.compare(report, rounds=1)


AMID = """
import faulthandler, importlib, importlib._bootstrap as b, sys, threading, time
faulthandler.dump_traceback_later(30, exit=True)
import ladewerk
before = sys.meta_path[:], sys.path_hooks[:], b._find_and_load
class Parks:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'pkg.found_late': sys.park()
parked = threading.Semaphore(0); go = threading.Event()
def park():
    if not go.is_set(): parked.release(); go.wait()
sys.park = park
assert ladewerk.install()
sys.meta_path.insert(0, Parks)
told, threads = {}, []
def one(name):
    try: told[name] = importlib.import_module(name).value
    except BaseException as error: told[name] = repr(error)
def start(*names):
    for name in names: threads.append(threading.Thread(target=one, args=(name,))); threads[-1].start()
start('pkg.in_body', 'bad'); parked.acquire(); parked.acquire()
start('pkg.in_body', 'bad'); time.sleep(0.02)  # these wait
start('pkg.found_late'); parked.acquire()  # has the import lock meanwhile
CHANGE
go.set()
for t in threads: t.join()
sys.meta_path.remove(Parks)
for name in sorted(told): print(name, told[name], name in sys.modules)
import pkg
print(pkg.in_body.after.value, sys.modules['pkg.in_body'].after is pkg.after)
ladewerk.uninstall()
assert (sys.meta_path, sys.path_hooks, b._find_and_load) == before and not ladewerk.stats()['active']
"""


@pytest.mark.parametrize("change", ["ladewerk.uninstall()", "ladewerk.uninstall(); ladewerk.install()", "pass"])
def test_uninstall_amid_imports_of_other_threads(any_tree, change):
    """One thread is in a module body, one asks a finder, one is about to fail, some wait for these: all end as if nothing had happened."""
    any_tree.write("pkg/__init__.py")
    any_tree.write("pkg/in_body.py", "import sys; sys.park()\nfrom . import after\nvalue = 1\n")
    any_tree.write("pkg/after.py", "value = 2\n")
    any_tree.write("pkg/found_late.py", "from .after import value\n")
    any_tree.write("bad.py", "import sys; sys.park()\nimport pkg.after\nraise ValueError(pkg.after.value)\n")
    settle()
    program = AMID.replace("CHANGE", change)
    for _ in range(2):
        result = any_tree.run(program, ladewerk=False, env={"LADEWERK": None})
        told = [line for line in result.out.splitlines() if not line.startswith("bad")]
        assert told == ["pkg.found_late 2 True", "pkg.in_body 1 True", "2 True"]
        # Who waited for a module that fails is handed it by most versions of stock Python, too.
        assert re.search(r"^bad (ValueError\(2\)|AttributeError.*) False$", result.out, re.M)


# --- fork ---

FORKS = f"""
import importlib, os, random, signal, sys, threading, time
sys.path.append({str(HERE)!r})
import storm
sys.setswitchinterval(1e-4)
over = False
def churn(mine):
    dice = random.Random(mine)
    names = [f'churn.t{{mine}}_{{i}}' for i in range(20)]
    while not over:
        for name in dice.sample(names, len(names)): importlib.import_module(name)
        for name in names: sys.modules.pop(name, None)
def descend(generation):
    '''The child imports what it needs, and has children.'''
    signal.alarm(30)
    for i in range(15):
        module = importlib.import_module(f'fresh.g{{generation}}_{{i}}')
        assert module.value == i and module.__spec__._initializing is False
    assert not [lock for lock in storm.locks_left() if 'fresh' in lock]
    if generation < 2: assert beget(generation + 1) == 0
    thread = threading.Thread(target=importlib.import_module, args=('fresh.in_thread',)); thread.start(); thread.join()
    assert sys.modules['fresh.in_thread'].value == 7
def beget(generation):
    pid = os.fork()
    if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try: descend(generation); os._exit(0)
    except BaseException: import traceback; traceback.print_exc(); os._exit(1)
"""


def family(tree):
    for generation in range(3):
        for i in range(15):
            tree.write(f"fresh/g{generation}_{i}.py", f"from . import in_all\nvalue = {i}\n")
    tree.write("fresh/__init__.py", "")
    tree.write("fresh/in_all.py", "")
    tree.write("fresh/in_thread.py", "value = 7\n")
    tree.write("churn/__init__.py")
    for thread in range(4):
        for i in range(20):
            tree.write(f"churn/t{thread}_{i}.py", "import time; time.sleep(0)\nvalue = 1\n")


@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="children of free-threaded stock Python hang, too")
def test_fork_while_other_threads_import(any_tree):
    """No lock of Ladewerk is held in the child, nothing is half there: it imports, has threads and children."""
    family(any_tree)
    count = 300 if LONG else 15
    any_tree.same(FORKS + f"""
threads = [threading.Thread(target=churn, args=(i,)) for i in range(4)]
for t in threads: t.start()
codes = {{beget(0) for _ in range({count})}}
over = True
for t in threads: t.join()
print(codes, storm.locks_left())
""", options=["-W", "ignore"], timeout=600)


def test_fork_control(tree):
    """Control: what another thread was importing at the fork stays locked in the child, under stock too; a child that hangs is noticed."""
    family(tree)
    tree.write("fresh/in_all.py", "import sys\nif hasattr(sys, 'gate'): sys.gate[0].set(); sys.gate[1].wait()\n")
    out = tree.same(FORKS + """
sys.gate = threading.Event(), threading.Event()
thread = threading.Thread(target=importlib.import_module, args=('fresh.in_all',)); thread.start()
sys.gate[0].wait()
alarm, signal.alarm = signal.alarm, lambda seconds: alarm(1)
print(beget(2)); sys.gate[1].set(); thread.join()
""", options=["-W", "ignore"]).out
    assert out == f"{-signal.SIGALRM}\n"


@pytest.mark.parametrize("forker", ["main", "thread"])
def test_fork_inside_a_module_body(any_tree, forker):
    """In the body of a package, for which other threads wait: parent and child both finish it, and each sees all of it."""
    family(any_tree)
    any_tree.write("forks/__init__.py", """
        import os, sys, time
        import storm
        from . import before
        sys.begun.set()
        end = time.monotonic() + 60
        while len([lock for lock in storm.waited_for() if lock.name == 'forks']) < 3:  # the others come
            assert time.monotonic() < end
            time.sleep(0.001)
        pid = os.fork()
        from . import after
        from .after import value
        import fresh.g0_0
    """)
    any_tree.write("forks/before.py", "value = 1\n")
    any_tree.write("forks/after.py", "import forks\nvalue = forks.before.value + 1\n")
    any_tree.same(FORKS + f"""
def work():
    import forks, forks.after
    told = [forks.value, forks.after is sys.modules['forks.after'], 'pid' in vars(forks), fresh_is_there(), forks.__spec__._initializing]
    if forks.pid == 0:
        try: descend(1); os.write(1, f'child {{told}} {{storm.locks_left()}}\\n'.encode()); os._exit(0)
        except BaseException: import traceback; traceback.print_exc(); os._exit(1)
    return [*told, os.waitstatus_to_exitcode(os.waitpid(forks.pid, 0)[1])]
def fresh_is_there(): return sys.modules['fresh.g0_0'].value == 0
def wait():
    sys.begun.wait()
    import forks
    assert forks.value == 2
sys.begun = threading.Event()
waiters = [threading.Thread(target=wait) for _ in range(3)]
for t in waiters: t.start()
if {forker == 'main'}: told = work()
else:
    result = []; thread = threading.Thread(target=lambda: result.append(work())); thread.start(); thread.join(); told = result
for t in waiters: t.join()
print(told, storm.locks_left(), flush=True)
""", options=["-W", "ignore"])


# --- the end of the process ---

LAST = """
import atexit, importlib, os, random, sys, threading, time
names = [f'churn.t{t}_{i}' for t in range(4) for i in range(20)]
sys.setswitchinterval(1e-4)
started = threading.Barrier(9)
def forever(seed):
    dice = random.Random(seed)
    for n in range(10 ** 9):
        try: importlib.import_module(dice.choice(names))
        except KeyError: pass  # another thread has just popped it
        if n == 20: started.wait()
        sys.modules.pop(dice.choice(names), None)
for seed in range(8): threading.Thread(target=forever, args=(seed,), daemon=True).start()
started.wait()
"""

ENDS = {
    "the program ends": "",
    "sys.exit() in a body": "import exits",
    "an exception": "raise SystemExit(0) from ValueError()",
    "an import at exit": "atexit.register(importlib.import_module, 'fresh.in_thread')",
    "an import after that": "class Last:\n    def __del__(self):\n        try: import fresh.in_all\n        except BaseException: pass\nsys.last = Last()",
}


def ends(tree, code, ladewerk=True, timeout=20):
    """Runs CODE in several processes at once; how they ended: exit codes, and what goes wrong."""
    command, env = tree.command(LAST + code), tree.environment(ladewerk)
    children = [subprocess.Popen(command, env=env, cwd=tree.work, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) for _ in range(4)]
    seen = collections.Counter()
    try:
        for child in children:
            try:
                err = child.communicate(timeout=timeout)[1]
                seen["crash" if child.returncode < 0 or "Fatal" in err else child.returncode] += 1
            except subprocess.TimeoutExpired:
                seen["hang"] += 1
    finally:
        for child in children:
            child.kill()
            child.communicate()
    return seen


# Where stock itself ends badly now and then, as often as the machine's load has it (3.12.1: 2 crashes in 400 such ends when idle, 18 in 240
# beside other work; free-threaded 3.13: 6 hangs in 20). Elsewhere not once is forgiven that stock does not show.
ENDS_BADLY = sys.version_info[:2] == (3, 12) or not getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.mark.parametrize("end", ENDS)
def test_daemon_threads_import_at_shutdown(tree, end):
    """No crash and no hang but those of stock."""
    family(tree)
    tree.write("exits.py", "import sys, time; time.sleep(0.01); sys.exit()\n")
    tree.learn("import fresh.in_thread, fresh.in_all\n" + "".join(f"import churn.t{t}_{i}\n" for t in range(4) for i in range(20)))
    seen, stock = collections.Counter(), {0}
    for _ in range(50 if LONG else 3):
        seen += ends(tree, ENDS[end])
    if ENDS_BADLY:
        assert seen.keys() <= {0, "crash", "hang"} and seen[0] >= seen.total() / 2, seen
        return
    for _ in range(30):
        if seen.keys() <= stock:
            break
        stock |= ends(tree, ENDS[end], ladewerk=False).keys()
    assert seen.keys() <= stock


@pytest.mark.parametrize("code, timeout, end", [("os.abort()", 20, "crash"), ("threading.Thread(target=time.sleep, args=(60,)).start()", 1, "hang")])
def test_daemon_threads_control(tree, code, timeout, end):
    """Control: a death and a hang are noticed."""
    family(tree)
    assert ends(tree, code, timeout=timeout).keys() == {end}


# --- a thread waits for its disk ---


@pytest.fixture(scope="module")
def moments_library(tmp_path_factory):
    library = tmp_path_factory.mktemp("moments") / "moments.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", library, HERE / "moments.c", "-ldl", "-pthread"], check=True)
    return library


def at_each_moment(tree, library, **env):
    """While a thread is inside and waits for its disk, others call us, whichever moment it came in at (moments.py)."""
    tree.write("pkg/__init__.py")
    tree.write("pkg/m.py")
    tree.write("pkg/other.py")
    (tree.base / "slowdisk").mkdir()
    tree.learn("import pkg.m")
    return tree.run(None, HERE / "moments.py", env={"LD_PRELOAD": library, "SLOWDISK": tree.base / "slowdisk", "SOURCES": tree.root / "pkg", **env}).json()


def test_nobody_waits_for_the_disk_of_another_thread(tree, moments_library):
    """Nobody keeps the GIL while he waits for one who waits for a disk: threads that ask nothing of us go on."""
    seen = at_each_moment(tree, moments_library)
    assert all(seen["moments"].values()) and seen["moments"]["compile"] >= 5, seen
    assert not seen["waited"], seen


def test_nobody_waits_control(tree, moments_library):
    """Control: a lock that is waited for with the GIL held."""
    assert at_each_moment(tree, moments_library, CONTROL="1")["waited"]


def test_somebody_begins_to_listen_during_an_install(tree, moments_library):
    """A listener has wrappers in importlib, and install() looks for the stock functions: while it waits for the session both go on."""
    seen = at_each_moment(tree, moments_library, LISTEN="1")
    assert seen == {"under_way": [True], "refused": []}
