# SPDX-License-Identifier: MIT
"""Threads that import at the same time: the program under test. It runs without the benchmark's other modules.

    storm.py PLAN SAMPLES THREADS[,THREADS...] [OPTION...]

PLAN is a file of trees.py. For each number of THREADS, in this order, so many threads meet, import the modules of their part, meet again for the next part,
and so on. Modules count their executions, and a thread looks, after each import, whether the module is there to its last line: where anything is wrong, the
program fails.

SAMPLES gets the latency of every import in ns, as an array of unsigned 64 bit integers. A line of JSON on standard output says the rest:
{"storms": [one for each number of threads, in the order given], "gil": ..., "clock_ns": ..., "stats": ladewerk.stats() or null}.

Options: `gc-off`; `probes`: see Locks, nothing is timed then; `reload-by=ladewerk` or `reload-by=importlib`: who reloads, if the plan wants it.
"""
# Nothing here imports what is not there yet: Ladewerk, which is activated by the first import that does, shall find the locks as Locks leaves them.
import _imp
import sys
from _frozen_importlib import _ModuleLock
from _thread import get_ident
from time import perf_counter_ns, process_time_ns, thread_time_ns

PAUSE = 0.002  # seconds between two reloads


def within_importlib(function):
    """FUNCTION, whose frame passes for one of importlib's that takes a lock: `ladewerk trace` knows by frames what a thread waits for, and may look at the same time."""
    function.__code__ = function.__code__.replace(co_filename=_ModuleLock.release.__code__.co_filename, co_name="__enter__")
    return function


class Locks:
    """Waits for the locks of the import system: (class, thread, ns) each, of calls that found the lock taken by another thread.

    What wraps `_ModuleLock.acquire` sees the locks of modules, what wraps `_imp.acquire_lock` the one for all imports; Ladewerk takes the same locks by the same
    names. A wait lasts until the thread goes on, so waiting for the GIL after it is part of it.
    """

    def __init__(self):
        self.waits = []
        self._module_locks()
        self._global_lock()

    def _module_locks(self):
        acquire, waits = _ModuleLock.acquire, self.waits

        def acquire_module_lock(lock):
            if lock.owner is None or lock.owner == get_ident():
                return acquire(lock)
            began = perf_counter_ns()
            try:
                return acquire(lock)
            finally:
                waits.append(("module", get_ident(), perf_counter_ns() - began))

        _ModuleLock.acquire = within_importlib(acquire_module_lock)

    def _global_lock(self):
        acquire, release, waits = _imp.acquire_lock, _imp.release_lock, self.waits
        crowd = []  # threads that have the lock or want it, as often as they do. One may have got it, and not the GIL, so that nobody knows yet

        def acquire_lock():
            mine = get_ident()
            taken = any(other != mine for other in crowd[:])
            crowd.append(mine)
            began = perf_counter_ns()
            acquire()
            if taken:
                waits.append(("global", mine, perf_counter_ns() - began))

        def release_lock():
            if get_ident() in crowd:
                crowd.remove(get_ident())
            release()

        _imp.acquire_lock, _imp.release_lock = within_importlib(acquire_lock), release_lock

    def take(self, threads):
        """What THREADS have waited for since the last call."""
        waits = self.waits[:]
        self.waits.clear()
        found = {}
        for kind in ("module", "global"):
            times = [ns for what, thread, ns in waits if what == kind and thread in threads]
            found[kind] = {"waits": len(times), "ns": sum(times), "longest_ns": max(times, default=0)}
        return found


class Reloads:
    """Saves a module, and reloads it and those that use it, again and again in a thread of its own, between begin() and end()."""

    def __init__(self, what, by):
        import importlib
        self.file, self.names, self.version, self.error = what["file"], [what["module"], *what["users"]], 0, ""
        sys.dont_write_bytecode = True  # else importlib.reload() takes the .pyc of the last save within a second
        sys.path.append(what["directory"])
        self._save()
        for name in self.names:
            importlib.import_module(name)
        if by == "ladewerk":
            import ladewerk
            self.reload = ladewerk.Reloader(roots=[what["directory"]]).reload
            self.reload()  # looks at what is there
        else:
            self.reload = lambda: [importlib.reload(sys.modules[name]) for name in self.names]

    def _save(self):
        self.version += 1
        with open(self.file, "w") as file:
            file.write(f"VALUE = {self.version}\n")

    def _once(self):
        self._save()
        self.reload()
        for name in self.names:
            if sys.modules[name].VALUE != self.version:
                raise AssertionError(f"{name} is of version {sys.modules[name].VALUE}, not {self.version}")

    def _run(self):
        try:
            self._once()
            self.going.set()
            while not self.ending.wait(PAUSE):
                self._once()
        except BaseException as error:
            self.error = f"reload: {type(error).__name__}: {error}"
            self.going.set()

    def begin(self):
        """Returns after the first reload."""
        import threading
        self.ending, self.going = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.going.wait()
        self.before = self.version

    def end(self):
        """How many there were since begin() returned."""
        self.ending.set()
        self.thread.join()
        if self.error:
            sys.exit(self.error)
        return self.version - self.before


def parts(storm, split, threads):
    """For each thread, its part of each turn: SPLIT: modules that are nobody else's; else all of them, each thread beginning with another one."""
    turns = storm["turns"]
    if total := storm.get("imports"):  # of all threads; the same modules again and again
        turns = [turn * max(1, total // (len(turn) * threads)) for turn in turns]
    if split:
        return [[turn[mine::threads] for turn in turns] for mine in range(threads)]
    return [[turn[mine % len(turn):] + turn[:mine % len(turn)] for turn in turns] for mine in range(threads)]


class Storm:
    """So many threads, and what came of them."""

    def __init__(self, storm, split, threads):
        import threading
        from array import array
        self.storm, self.parts = storm, parts(storm, split, threads)
        self.spent = [array("Q") for _ in self.parts]
        self.spans = [[] for _ in self.parts]
        self.cpu_ns = [0] * threads
        self.idents = set()
        self.errors = []
        self.meeting = threading.Barrier(threads)
        self.workers = [threading.Thread(target=self._thread, args=(mine,)) for mine in range(threads)]

    def _import(self, names, spent):
        modules = sys.modules
        for name in names:
            began = perf_counter_ns()
            __import__(name)
            spent.append(perf_counter_ns() - began)
            if modules[name].DONE != name:
                raise AssertionError(f"{name} is another module: {modules[name].DONE}")

    def _thread(self, mine):
        self.idents.add(get_ident())
        try:
            for turn in self.parts[mine]:
                self.meeting.wait()
                began, cpu = perf_counter_ns(), thread_time_ns()
                self._import(turn, self.spent[mine])
                self.cpu_ns[mine] += thread_time_ns() - cpu
                self.spans[mine].append((began, perf_counter_ns()))
        except BaseException as error:  # the first one breaks the barrier for the others
            self.errors.append(f"{type(error).__name__}: {error}")
            self.meeting.abort()

    def run(self):
        import gc
        gc.collect()
        cpu = process_time_ns()
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.join()
        self.process_ns = process_time_ns() - cpu
        if self.errors:
            sys.exit(f"{len(self.parts)} threads: {self.errors[0]}")

    def check(self, executed):
        """Every module's body has run once."""
        wanted = self.storm["once"]
        if sorted(executed) != sorted(wanted):
            twice = [name for name in set(executed) if executed.count(name) > 1]
            sys.exit(f"{len(self.parts)} threads: executed more than once {twice}, not at all {set(wanted) - set(executed)}, uncalled for {set(executed) - set(wanted)}")

    def result(self):
        return {
            "threads": len(self.parts),
            "imports": sum(map(len, self.spent)),
            "wall_ns": sum(max(end for _, end in turn) - min(begin for begin, _ in turn) for turn in zip(*self.spans)),
            "cpu_ns": self.process_ns,
            "threads_ns": sum(map(sum, self.spent)),
            "threads_cpu_ns": sum(self.cpu_ns),
        }


class Program:
    def __init__(self, plan, locks, reload_by):
        import builtins
        self.plan, self.locks = plan, locks
        self.executed = []
        builtins.executed = self.executed.append  # what modules call
        self.reloads = Reloads(plan["reload"], reload_by) if plan["reload"] else None

    def storm(self, threads):
        """The latencies of each thread, and what else is to be said."""
        storm = self.plan["storms"][str(threads)]
        sys.path[0:0] = storm["path"]
        if self.plan["there"]:  # modules are imported by one thread beforehand
            Storm({"turns": storm["turns"]}, False, 1).run()
        this = Storm(storm, self.plan["split"], threads)
        if self.reloads:
            self.reloads.begin()
        if self.locks:
            self.locks.take(())
        this.run()
        locks = self.locks.take(this.idents) if self.locks else None
        count = self.reloads.end() if self.reloads else None
        del sys.path[:len(storm["path"])]  # not before: whoever reloads looks through it
        this.check(self.executed)
        self.executed.clear()
        return this.spent, {**this.result(), "locks": locks, "reloads": count}


def clock_ns():
    """What two looks at the clock take: as much is in each latency."""
    return sorted(-perf_counter_ns() + perf_counter_ns() for _ in range(1001))[500]


def stats():
    """ladewerk.stats(), if it is active."""
    native = sys.modules.get("ladewerk._native")
    return native.stats() if native else None


def main():
    file, samples, counts, *options = sys.argv[1:]
    locks = Locks() if "probes" in options else None
    import gc
    import json
    with open(file) as stream:
        plan = json.load(stream)
    if "gc-off" in options:
        gc.disable()
    program = Program(plan, locks, "ladewerk" if "reload-by=ladewerk" in options else "importlib")
    storms = []
    with open(samples, "wb") as out:
        for count in map(int, counts.split(",")):
            spent, storm = program.storm(count)
            storms.append(storm)
            for times in spent:
                times.tofile(out)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(json.dumps({"storms": storms, "gil": gil, "clock_ns": clock_ns(), "stats": stats()}))


if __name__ == "__main__":
    main()
