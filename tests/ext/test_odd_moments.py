# SPDX-License-Identifier: MIT
"""Imports that begin in the middle of other imports, and imports that are cut off: what is left behind is what stock leaves.

Finalizers, signal handlers, callbacks and hooks can import anything at any moment, in the middle of our own code too.
"""

import re
import sys
import textwrap

import pytest

from harness import HERE, LONG, STATS

COUNT = 60  # modules that the program imports, and as many for whoever interrupts it

START = f"""
import faulthandler, gc, importlib, random, signal, sys, threading, time, weakref
sys.path.append({str(HERE)!r})
import storm
faulthandler.dump_traceback_later({600 if LONG else 60}, exit=True)
MAIN = ['main'] + [f'main.m{{i}}' for i in range({COUNT})]
ODD = [f'odd.o{{i}}' for i in range({COUNT})]
def forget(names):
    for name in names: sys.modules.pop(name, None)
def half():
    '''What is not whole in sys.modules.'''
    return [n for n, m in list(sys.modules.items()) if n.startswith(('main', 'odd')) and ('last' not in vars(m) or m.__spec__._initializing)]
def state(): return half(), storm.locks_left(), [s for n in ('main', 'odd') for s in sys.modules[n].__spec__._uninitialized_submodules if n in sys.modules]
def import_in_thread():
    '''A lock that was left held would be waited for.'''
    failed = []
    def one():
        for name in MAIN:
            try: importlib.import_module(name)
            except BaseException as error: failed.append(repr(error))
    thread = threading.Thread(target=one, daemon=True); thread.start(); thread.join(20)
    return failed, thread.is_alive()
"""


@pytest.fixture
def modules(tree):
    """Packages main and odd; the modules of main import each other and clean up objects, those of odd are whole or not there."""
    tree.write("main/__init__.py", "import sys\nlast = 1\n")
    tree.write("odd/__init__.py", "last = 1\n")
    for i in range(COUNT):
        before = f"from . import m{i // 2}\nfrom .m{i // 3} import last as _\n" if i else ""
        tree.write(f"main/m{i}.py", f"{before}class Garbage: pass\ngarbage = Garbage(); garbage.me = garbage\nlast = {i}\n")
        tree.write(f"odd/o{i}.py", f"first = {i}\nimport main\nlast = {i}\n")
    return tree


# --- who interrupts ---

INTERRUPT = START + """
import itertools, main, odd
turn, failures, happened, nested = itertools.count(), set(), 0, 0
def interrupt(*args):
    '''Always another name: in 3.11 a lock cannot be taken again while it is being taken.'''
    global happened, nested
    if nested > 4 or sys.is_finalizing(): return
    name = ODD[next(turn) % len(ODD)]
    nested += 1
    try:
        if sys.modules.get(name) is not None and not sys.modules[name].__spec__._initializing: del sys.modules[name]
        module = importlib.import_module(name)
        if 'last' not in vars(module) and not module.__spec__._initializing: failures.add(f'{name} is not whole')
    except KeyError: pass  # a third import had it deleted, or (3.11) the thread was waiting for another lock
    except BaseException as error: failures.add(repr(error))
    finally: nested -= 1
    happened += 1
class Collects:
    '''A collection amid an import, also where the interpreter would wait for more garbage.'''
    @staticmethod
    def find_spec(name, path=None, target=None):
        if next(turn) % 8 == 0: gc.collect()
busy = False
def once(*args):
    '''For hooks that would call themselves.'''
    global busy
    if not busy:
        busy = True
        try: interrupt()
        finally: busy = False
WHO
if gc.callbacks: sys.meta_path.insert(0, Collects)
for round in range(100 * ROUNDS):  # a machine that is fast is interrupted less often
    if round >= ROUNDS and happened > ENOUGH: break
    for name in MAIN:
        while True:
            try: module = importlib.import_module(name); break
            except KeyError: pass
        if 'last' not in vars(module): failures.add(f'{name} is not whole')
    forget(MAIN[1:])
END
if Collects in sys.meta_path: sys.meta_path.remove(Collects)
gc.callbacks.clear(); gc.set_threshold(700); gc.collect()
for name in MAIN + ODD: importlib.import_module(name)
print(sorted(failures), happened > ENOUGH, state(), import_in_thread())
"""

WHO = {
    "__del__": ("""
        gc.set_threshold(40)
        class Dies:
            def __del__(self): interrupt()
        def litter(phase, info):
            if phase == 'stop': a = Dies(); a.me = a
        gc.callbacks.append(litter)
    """, ""),
    "weakref callback": ("""
        gc.set_threshold(40)
        class Dies: pass
        watched = []
        def litter(phase, info):
            if phase == 'stop':
                a = Dies(); a.me = a; watched.append(weakref.ref(a, interrupt)); del watched[:-1000]
        gc.callbacks.append(litter)
    """, ""),
    "gc callback": ("gc.set_threshold(40); gc.callbacks.append(once)", ""),
    "signal handler": ("signal.signal(signal.SIGALRM, interrupt); signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)", "signal.setitimer(signal.ITIMER_REAL, 0)"),
    "signal handler in C code": ("""
        signal.signal(signal.SIGUSR1, interrupt)
        class Raises:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name.startswith('main'): signal.raise_signal(signal.SIGUSR1)
        sys.meta_path.insert(0, Raises)
    """, "sys.meta_path.remove(Raises)"),
    "trace function": ("""
        def trace(frame, event, arg):
            if event == 'call' and 'odd' not in frame.f_code.co_filename: once()
            return trace if frame.f_code.co_name == '<module>' else None
        sys.settrace(trace)
    """, "sys.settrace(None)"),
    "line trace function": ("""
        def trace(frame, event, arg):
            if 'main' in frame.f_code.co_filename: once(); return trace
        sys.settrace(trace)
    """, "sys.settrace(None)"),
    "profile function": ("""
        step = itertools.count()
        def profile(frame, event, arg):
            if next(step) % 3 == 0: once()
        sys.setprofile(profile)
    """, "sys.setprofile(None)"),
    "monitoring": ("""
        m = sys.monitoring; m.use_tool_id(3, 'odd'); step = itertools.count()
        def seen(*args):
            if next(step) % 3 == 0: once()
        for event in m.events.PY_START, m.events.PY_RETURN, m.events.CALL, m.events.C_RETURN: m.register_callback(3, event, seen)
        m.set_events(3, m.events.PY_START | m.events.PY_RETURN | m.events.CALL)
    """, "m.set_events(3, 0); m.free_tool_id(3)"),
    "audit hook": ("""
        watching = True
        def hook(event, args):
            if watching and event in ('import', 'exec', 'marshal.loads', 'open', 'compile', 'sys._getframe'): once()
        sys.addaudithook(hook)
    """, "watching = False"),
    "setting in the parent": ("""
        import types
        class Sees(types.ModuleType):
            def __setattr__(self, name, value): interrupt(); super().__setattr__(name, value); interrupt()
        main.__class__ = Sees
    """, "main.__class__ = types.ModuleType"),
    "path entries": ("""
        class Text(str):
            def __hash__(self): once(); return super().__hash__()
            def __eq__(self, other): once(); return super().__eq__(other)
        main.__path__[:] = [Text(p) for p in main.__path__]
    """, ""),
}


@pytest.mark.parametrize("who", WHO)
def test_import_from(modules, who):
    """Every import ends well, the interrupted and the interrupting one, and nothing is left behind."""
    if who == "monitoring" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with 3.12")
    start, end = (textwrap.dedent(part) for part in WHO[who])
    program = INTERRUPT.replace("WHO", start).replace("END", end).replace("ROUNDS", str(200 if LONG else 3)).replace("ENOUGH", "20")
    # Automatic collections are to happen amid imports, too; then with those postponed.
    for postponed in "0", None:
        out = modules.same(program, part=lambda r: (r.returncode, r.out), env={"LADEWERK_GC": postponed}).out
        assert out == "[] True ([], [], []) ([], False)\n"
        if not start.lstrip().startswith("gc."):
            break


def test_import_from_control(modules):
    """Control: an interrupting import that leaves half a module is noticed."""
    program = INTERRUPT.replace("WHO", "sys.modules[ODD[0]] = type(sys)('odd.o0'); sys.modules[ODD[0]].__spec__ = sys.modules['odd'].__spec__; interrupt = None")
    program = program.replace("END", "").replace("ROUNDS", "1").replace("ENOUGH", "20")
    assert modules.run(program).out == "[] False (['odd.o0'], [], []) ([], False)\n"


# --- imports that are cut off ---

#: Raises at the N-th event of a profile function, for every N: each call and return that Python code can see is cut off once.
CUT = START + """
class Cut(BaseException): pass
sys.unraisablehook = lambda unraisable: None  # weakref callbacks are cut off as well
where, left, cut_off = None, [], 0
def cut(n):
    '''Import main.m5, cut off at event N. False when it was finished before.'''
    global where
    count, active = 0, True
    def profile(frame, event, arg):
        nonlocal count
        count += active
        if count == n and active:
            global where
            sys.setprofile(None)
            where = event, arg.__name__ if event.startswith('c_') else frame.f_code.co_name
            raise KIND
    where = None
    sys.setprofile(profile)
    try: importlib.import_module('main.m5'); active = False
    except KIND: active = False
    sys.setprofile(None)
    return where is not None
def tidy():
    '''A lock that was left is nobody's any more.'''
    importlib._bootstrap._module_locks.clear(); blocked = importlib._bootstrap._blocking_on
    (blocked if isinstance(blocked, dict) else blocked.data).clear()
    import _imp
    while _imp.lock_held(): _imp.release_lock()
for n in range(1, 100000):
    if not cut(n): break
    cut_off += 1
    held = sorted(set(storm.locks_left()))
    if held: left.append([where, [re.sub("'.*'", '', h) for h in held]])
    if half(): left.append([where, 'half'])
    tidy()
    forget(MAIN)
    if n % STEP == 0:
        module = importlib.import_module('main.m5'); assert module.last == 5 and not half()
        assert not storm.locks_left(), storm.locks_left()
        forget(MAIN)
import json
print(json.dumps([cut_off, left]))
"""


def leftovers(out):
    """What was left behind, by the place of the cut."""
    return {(event, name, str(what)) for (event, name), what in out[1]}


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "Cut"])
def test_import_is_cut_off_anywhere(modules, kind):
    """At whatever call or return it happens, a lock is left held only where stock leaves it (in its own lock methods), and never half a module."""
    program = "import re\n" + CUT.replace("KIND", kind).replace("STEP", "7")
    (_, stock), *others = [(which, result.json()) for which, result in modules.both(program)]
    assert stock[0] > 200
    for _, ours in others:
        assert ours[0] > 40
        assert leftovers(ours) <= leftovers(stock)
        assert not any("half" in what for *_, what in leftovers(ours))


def test_import_is_cut_off_control(modules):
    """Control: a lock and half a module that stay behind are noticed, wherever it happens."""
    program = CUT.replace("KIND", "KeyboardInterrupt").replace("STEP", "100000").replace("for n in range", """
class Spoils:
    @staticmethod
    def find_spec(name, path=None, target=None):
        sys.modules['odd.half'] = half_done; importlib._bootstrap._module_locks['odd.half'] = kept_ref
half_done = type(sys)('odd.half'); half_done.__spec__ = type('Spec', (), {'_initializing': True})
kept = importlib._bootstrap._get_module_lock('odd.half'); kept.acquire(); kept_ref = weakref.ref(kept)
sys.meta_path.insert(0, Spoils)
for n in range""", 1)
    left = leftovers(modules.run("import re\n" + program).json())
    assert any("half" in what for *_, what in left) and any("_ModuleLock" in what for *_, what in left)


INTERRUPTED = START + """
dice = random.Random(1)
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted, broken = 0, set()
deadline = time.monotonic() + SECONDS
import main, odd
while time.monotonic() < deadline:
    try:
        signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-5, 6e-3))
        for name in MAIN: importlib.import_module(name)
        for name in ODD: importlib.import_module(name)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt: interrupted += 1
    broken.update(half())
    forget(MAIN[1:]); forget(ODD)
signal.setitimer(signal.ITIMER_REAL, 0); signal.signal(signal.SIGALRM, signal.SIG_DFL)
for name in MAIN: assert importlib.import_module(name).last is not None
print(interrupted > 20, sorted(broken), state()[0])
"""


def test_keyboard_interrupt_at_any_moment(modules):
    """From a timer: no half module stays in sys.modules, and everything can be imported afterwards."""
    program = INTERRUPTED.replace("SECONDS", "30" if LONG else "0.8")
    assert modules.same(program, part=lambda r: (r.returncode, r.out)).out == "True [] []\n"


def test_interrupt_of_one_who_waits(tree):
    """The import is another thread's; whoever waits for it is interrupted, and the other one ends well."""
    tree.write("main/__init__.py", "last = 1\n")
    tree.write("odd/__init__.py", "last = 1\n")
    tree.write("main/slow.py", "import time\ntime.sleep(0.3)\nlast = 1\n")
    tree.same(START + """
import main, odd
first = threading.Thread(target=importlib.import_module, args=('main.slow',)); first.start(); time.sleep(0.1)
signal.signal(signal.SIGALRM, signal.default_int_handler); signal.setitimer(signal.ITIMER_REAL, 0.1)
start = time.monotonic()
try: import main.slow; print('imported')
except KeyboardInterrupt: print('interrupted')
first.join()
print(state(), sys.modules['main.slow'].last, main.slow.last)
""")


TOO_DEEP = START + """
import main, odd
forget(MAIN); import main
limits, ends, broken, locks = 0, set(), set(), set()
def frames(n=0):
    frame = sys._getframe()
    while frame: n, frame = n + 1, frame.f_back
    return n
for more in range(5, MOST):
    before = sys.getrecursionlimit(); sys.setrecursionlimit(frames() + more)
    try: importlib.import_module('main.m59'); end = 'imported'
    except RecursionError: end = 'too deep'
    except BaseException as error: end = repr(error)
    finally: sys.setrecursionlimit(before)
    ends.add(end); broken.update(half())
    if end == 'imported': break
    if not storm.locks_left():
        thread = import_in_thread()
        if thread != ([], False): broken.add(str(thread))
    forget(MAIN[1:])
    importlib._bootstrap._module_locks.clear()
print(sorted(ends), sorted(broken))
"""


def test_recursion_error_anywhere(modules):
    """Nested imports meet the recursion limit at every depth: no half module, no exception of another kind, and the next attempt ends well."""
    assert modules.same(TOO_DEEP.replace("MOST", "400")).out == "['imported', 'too deep'] []\n"


# --- what is told of an import ---


def importtime(result, names):
    """[(nesting, name), ...] of -X importtime, for what matters."""
    lines = [re.fullmatch(r"import time:\s+\d+ \|\s+\d+ \| ( *)(\S+)", line) for line in result.err.splitlines()]
    return [(len(m[1]), m[2]) for m in lines if m and m[2].partition(".")[0] in names]


PROGRAM = """
import space.portion
def later():
    import main.m5
try: import main.bad
except ValueError: pass
try: import main.absent
except ImportError: pass
later()
import odd.o3, circle_a
"""


@pytest.fixture
def told(modules):
    modules.write("main/bad.py", "from . import m1\nraise ValueError\n")
    modules.write("space/portion.py", "import main\n")
    modules.write("circle_a.py", "import circle_b\n")
    modules.write("circle_b.py", "import circle_a\nimport main.m20\n")
    return modules


def test_importtime_nesting(told):
    """The same names, as deep within each other, in the same order: failing, circular and nested imports too."""
    names = {"main", "odd", "space", "circle_a", "circle_b"}
    result = told.same(PROGRAM, options=["-X", "importtime"], part=lambda r: importtime(r, names))
    nested = importtime(result, names)
    assert len(nested) > 15 and max(depth for depth, _ in nested) >= 8
    assert (0, "circle_a") in nested and (2, "circle_b") in nested


def test_importtime_is_ours(told):
    """What is compared is what Ladewerk served."""
    stats = told.learn(PROGRAM + STATS, options=["-X", "importtime"]).json()
    assert stats["fast_path"] and stats["served"]["pack"] > 15


def test_verbose(told):
    """python -v tells the same of the same modules (Ladewerk steps aside)."""
    def imports(result):
        lines = re.findall(r"^(?:# code object from|# trying|# \S+ matches|import '(?:main|odd|space|circle)).*", result.err, re.M)
        return [re.sub("0x[0-9a-f]+", "", line) for line in lines if re.search(r"\b(main|odd|space|circle)", line) and "ladewerk" not in line]
    told.run(PROGRAM, ladewerk=False)
    result = told.same(PROGRAM, options=["-v"], part=imports)
    assert len(imports(result)) > 30


DEPTH = START + """
import traceback
def frames(error): return [(pathlib.Path(f.filename).name, f.name, f.lineno) for f in traceback.extract_tb(error.__traceback__) if 'importlib' not in f.filename]
import pathlib
def one():
    try:
        import main.deep
    except ZeroDivisionError as error: print(frames(error), flush=True)
one()
thread = threading.Thread(target=one); thread.start(); thread.join()
class Dies:
    def __del__(self): one()
Dies()
signal.signal(signal.SIGALRM, lambda *args: one()); signal.raise_signal(signal.SIGALRM)
"""


def test_tracebacks_without_our_frames(modules):
    """From a thread, a finalizer and a signal handler: the lines of the importers, and nothing between them."""
    modules.write("main/deep.py", "from .deeper import value\n")
    modules.write("main/deeper.py", "def inner():\n    import main.deepest\ninner()\n")
    modules.write("main/deepest.py", "\n1 / 0\n")
    out = modules.same(DEPTH).out
    assert out.count("deepest.py") == 4 and "native" not in out and "ladewerk" not in out
