# SPDX-License-Identifier: MIT
"""Runs within the program, in untimed runs: what importing costs stock Python, by module, by phase and by statement, and what is used of it.

start.py executes this text under the name of importlib's file. It is careful to import nothing that the interpreter does not have already. Three kinds, each a
run of its own, because the more is asked the more the asking costs:

    times    per import: wall and CPU time without the imports within it. One wrapper; about a microsecond and a half
    split    per import: wall time by phase
    graph    every import statement that was executed, with its place; which modules' code ran after they had been imported, and on whose behalf

The result is a file in marshal's format, written when the interpreter ends; a program that ends by os._exit() or a signal leaves none.
"""
import atexit
import builtins
import gc
import marshal
import sys
from _frozen_importlib import ModuleSpec
from _thread import get_ident
from posix import getpid
from posix import times as times_of_processes
from time import monotonic_ns, process_time_ns, thread_time_ns

import _frozen_importlib as bootstrap
import _frozen_importlib_external as external
import _imp

loaded_before = frozenset(sys.modules)


def begin(kind, file):
    result = {"times": times, "split": split, "graph": graph}[kind]()
    begun, pid = monotonic_ns(), getpid()

    def write():
        if getpid() != pid:
            return  # a child by fork ends like its parent
        record = result()
        record.update(kind=kind, elapsed_ns=monotonic_ns() - begun)
        with open(file, "wb") as stream:
            marshal.dump(record, stream)
            children = times_of_processes()
            marshal.dump((monotonic_ns(), process_time_ns() + int(1e9 * (children[2] + children[3]))), stream)

    atexit.register(write)  # the first to be registered is the last to be called


# --- times ---------------------------------------------------------------------------------------------------------------


def times():
    """imports: (name, wall ns, CPU ns, objects), all without what was imported within, in the order in which they ended; failed ones too. Objects are what the
    collector counts: containers allocated, less those given back. Garbage collections are nobody's: which import sets one off is chance. They are told apart:
    collections: (objects since the beginning, wall ns, CPU ns, whether the count set it off, not the program), and the wall ns of those within imports."""
    original = bootstrap._find_and_load
    imports, collections = [], []  # flat: what is kept here is not counted
    stacks, collected, before = {}, [0], [0]

    def count():
        return gc.get_count()[0] + before[0]

    def _find_and_load(name, import_):
        stack = stacks.setdefault(get_ident(), [])
        inner = [0, 0, 0]
        stack.append(inner)
        objects, cpu, wall = count(), thread_time_ns(), monotonic_ns()
        try:
            return original(name, import_)
        finally:
            wall, cpu, objects = monotonic_ns() - wall, thread_time_ns() - cpu, count() - objects
            stack.pop()
            imports.extend((name, wall - inner[0], cpu - inner[1], objects - inner[2]))
            if stack:
                add(stack[-1], wall, cpu, objects)

    def add(inner, wall, cpu, objects):
        inner[0] += wall
        inner[1] += cpu
        inner[2] += objects

    begun = []

    def collecting(phase, info):
        now = monotonic_ns(), thread_time_ns()
        if phase == "start":
            young = gc.get_count()[0]  # which is nought afterwards
            before[0] += young
            begun[:] = (*now, gc.isenabled() and young > gc.get_threshold()[0])
        elif begun:
            wall, cpu, automatic = now[0] - begun[0], now[1] - begun[1], begun[2]
            collections.extend((before[0], wall, cpu, automatic))
            stack = stacks.get(get_ident())
            if stack:
                add(stack[-1], wall, cpu, 0)
                collected[0] += wall
            begun.clear()

    bootstrap._find_and_load = _find_and_load
    gc.callbacks.append(collecting)

    def result():
        gc.callbacks.remove(collecting)
        return {"objects": count(), "imports": in_fours(imports), "collections": in_fours(collections), "collect": collected[0]}

    def in_fours(values):
        return list(zip(*[iter(values)] * 4))

    return result


# --- split ---------------------------------------------------------------------------------------------------------------


class Clock:
    """Of a thread: what the innermost import spends in which phase. Its base is what happens outside of any import: waiting, at most."""

    __slots__ = ("stack", "mark")

    def __init__(self):
        self.stack = [["rest", {}]]  # [phase, ns by phase]
        self.mark = monotonic_ns()

    def stop(self):
        now = monotonic_ns()
        span = self.stack[-1]
        span[1][span[0]] = span[1].get(span[0], 0) + now - self.mark
        self.mark = now

    def enter(self, phase):
        self.stop()
        before = self.stack[-1][0]
        self.stack[-1][0] = phase
        return before


def split():
    """imports: (name, ns by phase). outside: ns that threads waited for locks outside of their own imports."""
    clocks, imports = {}, []
    original = bootstrap._find_and_load

    def clock():
        me = get_ident()
        found = clocks.get(me)
        if found is None:
            found = clocks[me] = Clock()
        return found

    def in_phase(phase, function):
        def timed(*args, **kwargs):
            mine = clock()
            before = mine.enter(phase)
            try:
                return function(*args, **kwargs)
            finally:
                mine.enter(before)
        return timed

    def _find_and_load(name, import_):
        mine = clock()
        mine.stop()
        mine.stack.append(["rest", {}])
        try:
            return original(name, import_)
        finally:
            mine.stop()
            imports.append((name, mine.stack.pop()[1]))

    def wait(acquire, is_anothers):
        waiting = in_phase("wait", acquire)

        def acquired(*args):
            return waiting(*args) if is_anothers(*args) else acquire(*args)
        return acquired

    remove = bootstrap._call_with_frames_removed
    in_body = in_phase("execute", remove)
    bodies = (exec, _imp.create_dynamic, _imp.exec_dynamic, _imp.create_builtin, _imp.exec_builtin)  # of modules, and what those in C have instead

    def _call_with_frames_removed(f, *args, **kwds):
        return (in_body if f in bodies else remove)(f, *args, **kwds)

    bootstrap._find_and_load = _find_and_load
    bootstrap._call_with_frames_removed = _call_with_frames_removed
    bootstrap.FrozenImporter.exec_module = staticmethod(in_phase("execute", bootstrap.FrozenImporter.exec_module))
    bootstrap._find_spec = in_phase("find", bootstrap._find_spec)
    external.FileLoader.get_data = in_phase("read", external.FileLoader.get_data)
    external.SourceFileLoader.path_stats = in_phase("validate", external.SourceFileLoader.path_stats)
    external.SourceLoader.source_to_code = in_phase("compile", external.SourceLoader.source_to_code)
    external._compile_bytecode = in_phase("unmarshal", external._compile_bytecode)
    lock = bootstrap._ModuleLock
    lock.acquire = wait(lock.acquire, lambda self: self.owner is not None and self.owner != get_ident())
    _imp.acquire_lock = wait(_imp.acquire_lock, _imp.lock_held)

    def collecting(phase, info):
        mine = clock()
        if phase == "start":
            collecting.before = mine.enter("collect")
        elif collecting.before is not None:
            mine.enter(collecting.before)
            collecting.before = None

    collecting.before = None
    gc.callbacks.append(collecting)

    def result():
        gc.callbacks.remove(collecting)
        outside = sum(mine.stack[0][1].get("wait", 0) for mine in clocks.values())
        return {"imports": [(name, dict(spent)) for name, spent in imports], "outside": outside}

    return result


# --- graph ---------------------------------------------------------------------------------------------------------------


def is_importlib(frame):
    return frame.f_code.co_filename.startswith("<frozen importlib") or str(frame.f_globals.get("__name__")).partition(".")[0] == "importlib"


def user_frame(depth):
    """The innermost frame that is not importlib's; None: the interpreter itself imports."""
    try:
        frame = sys._getframe(depth + 1)
    except ValueError:
        return None
    while frame is not None and is_importlib(frame):
        frame = frame.f_back
    return frame


def asking_frame(depth):
    """The one with the statement. An extension module has none, and the frame there is that of who loads it, within importlib: then the statement that asked for
    it is meant. None: the interpreter itself imports."""
    try:
        frame = sys._getframe(depth + 1)
    except ValueError:
        return None
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
        frame = frame.f_back
    return frame


def base_of(name, globals, level):
    """The absolute name of what a statement imports from; None if it has none."""
    if not level:
        return name
    try:
        spec = globals.get("__spec__")
        package = globals.get("__package__") or (spec and spec.parent) or globals["__name__"].rpartition(".")[0]
        return bootstrap._resolve_name(name, package, level)
    except (AttributeError, ImportError, KeyError, TypeError):
        return None


class Statements:
    """Those that were executed: importer, file, line, whether in a function; and the modules that each one names."""

    def __init__(self):
        self.targets = {}  # (importer, file, line, within a function) -> names
        self.seen = {}  # id of a code object -> it, and which of its instructions with which names

    def is_new(self, code, *what):
        kept, known = self.seen.setdefault(id(code), (code, set()))
        if what in known:
            return False
        known.add(what)
        return True

    def add(self, frame, names):
        if frame is None:
            key = ("", "", 0, False)
        else:
            code = frame.f_code
            key = (str(frame.f_globals.get("__name__")), code.co_filename, frame.f_lineno, code.co_name != "<module>")
        self.targets.setdefault(key, set()).update(names)


def graph():
    """statements: (importer, file, line, within a function, names). modules: name -> file or ''. needed: used outside of any import. helped: (module,
    for whom): used while another module was being imported. Used is a module whose code runs, or which is asked for where it cannot wait: by a
    function (or a class), or by importlib.import_module(). blocks: of memory, name -> how many more there were after its import, without what was imported
    within; and how many there are in the end."""
    statements, stacks = Statements(), {}
    blocks, inner_blocks = {}, {}
    needed, helped = set(), set()
    original, import_statement, gcd_import = bootstrap._find_and_load, builtins.__import__, bootstrap._gcd_import

    def stack_of_thread():
        return stacks.setdefault(get_ident(), [])

    def use(module, who):
        if not who:
            needed.add(module)
        elif who != module:
            helped.add((module, who))

    def use_now(names):
        who = importing()
        for name in names:
            use(name, who)

    def __import__(name, globals=None, locals=None, fromlist=(), level=0):
        frame = asking_frame(1)
        if frame is None:  # the interpreter itself imports: runpy, for -m
            return import_statement(name, globals, locals, fromlist, level)
        names, in_function = tuple(fromlist or ()), frame.f_code.co_name != "<module>"
        if not statements.is_new(frame.f_code, frame.f_lasti, name, names, level, in_function and importing()):
            return import_statement(name, globals, locals, fromlist, level)
        statements.add(frame, ())  # in the order in which they begin
        stack = stack_of_thread()
        stack.append(None)  # whatever is loaded directly below was asked for by this statement
        try:
            return import_statement(name, globals, locals, fromlist, level)
        finally:
            stack.pop()
            base = base_of(name, globals or {}, level)
            if base:
                if "*" in names:
                    names = (*names, *(word for word in getattr(sys.modules.get(base), "__all__", ()) if isinstance(word, str)))
                targets = [base, *(f"{base}.{word}" for word in names if f"{base}.{word}" in sys.modules)]
                statements.add(frame, targets)
                if in_function:
                    use_now(targets)

    def _gcd_import(name, package=None, level=0):  # importlib.import_module()
        frame = user_frame(1)
        if not isinstance(name, str) or frame is None or not statements.is_new(frame.f_code, frame.f_lasti, name, package, level, importing()):
            return gcd_import(name, package, level)
        statements.add(frame, ())
        stack = stack_of_thread()
        stack.append(None)
        try:
            return gcd_import(name, package, level)
        finally:
            stack.pop()
            base = base_of(name, {"__package__": package}, level)
            if base:
                statements.add(frame, [base])
                use_now([base])

    def _find_and_load(name, import_):
        stack = stack_of_thread()
        above = stack[-1] if stack else ""
        # Who asks for a module asks for its packages; anything else was asked for by C.
        if above is not None and not above.startswith(name + "."):
            statements.add(user_frame(1), [name])
        stack.append(name)
        within = inner_blocks.setdefault(get_ident(), [0])
        within.append(0)
        before = sys.getallocatedblocks()
        try:
            return original(name, import_)
        finally:
            more = sys.getallocatedblocks() - before
            blocks[name] = blocks.get(name, 0) + more - within.pop()
            within[-1] += more
            stack.pop()
            if name == "threading" and profile is not None and name in sys.modules:
                sys.modules[name].setprofile(profile)

    def importing():
        """What this thread is importing; '' for nothing."""
        for name in reversed(stacks.get(get_ident(), ())):
            if name is not None:
                return name
        return ""

    main_thread, begun, ending = get_ident(), [], []

    def runs(frame):
        """Code begins to run. True if nothing more is to be known of it."""
        code, module = frame.f_code, frame.f_globals.get("__name__")
        if ending or code.co_filename.startswith("<frozen importlib") or type(module) is not str:
            return True
        if code.co_name == "<module>":
            if module == "__main__":
                begun.append(True)
            return False
        if begun and frame.f_back is None and get_ident() == main_thread:
            ending.append(True)  # the program is over: what is called now (atexit) was asked for by the modules themselves
            return True
        who = importing()
        use(module, who)
        return not who

    builtins.__import__ = __import__
    bootstrap._gcd_import = _gcd_import
    bootstrap._find_and_load = _find_and_load
    profile = None
    if hasattr(sys, "monitoring"):
        stop = monitor(runs)
    else:
        def profile(frame, event, argument):
            if event == "call":
                runs(frame)

        def stop():
            sys.setprofile(None)
            if "threading" in sys.modules:
                sys.modules["threading"].setprofile(None)
        sys.setprofile(profile)

    def result():
        all_blocks = sys.getallocatedblocks()
        stop()
        builtins.__import__ = import_statement
        modules = {name: file_of(module) for name, module in list(sys.modules.items()) if name not in loaded_before}
        known = set(modules)
        return {
            "statements": [(*key, sorted(names)) for key, names in statements.targets.items()],
            "modules": modules,
            "needed": sorted(known & needed),
            "helped": sorted(pair for pair in helped if pair[0] in known),
            "blocks": dict(blocks),
            "all_blocks": all_blocks,
        }

    return result


def monitor(runs):
    """sys.monitoring (3.12 and newer): a code object is no longer looked at when all is known of it."""
    monitoring = sys.monitoring
    tool = next((number for number in (3, 4, 2) if monitoring.get_tool(number) is None), None)
    if tool is None:
        raise RuntimeError("the program uses all of sys.monitoring's tools")
    disable = monitoring.DISABLE

    def started(code, offset):
        return disable if runs(sys._getframe(1)) else None

    monitoring.use_tool_id(tool, "imports")
    monitoring.register_callback(tool, monitoring.events.PY_START, started)
    monitoring.set_events(tool, monitoring.events.PY_START)

    def stop():
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.PY_START, None)
        monitoring.free_tool_id(tool)

    return stop


def file_of(module):
    spec = getattr(module, "__spec__", None)
    origin = spec.origin if type(spec) is ModuleSpec and spec.has_location else None
    return origin if isinstance(origin, str) else ""
