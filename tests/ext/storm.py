# SPDX-License-Identifier: MIT
"""A tree of modules that import each other in circles, and the child process in which threads import all of it at once.

plant() writes the tree. Run as a program this file imports it, round after round, from many threads (or greenlets) in random order, while every
module body tells a witness what it does and what it got. Which outcome a race has is up to the race, under stock Python too; what is
judged are the rules that every outcome obeys, worked out from the tree alone (class Rules), and the kinds of exceptions, which the test
compares with those that stock raised.
"""

import faulthandler
import gc
import importlib
import json
import os
import pathlib
import random
import re
import sys
import time
import types

# --- the tree ---


class Planter:
    """Grows {name: {"package": bool, "imports": [(target, style, guarded)], "fails": bool}}; later clusters import earlier ones."""

    STYLES = ["as", "plain", "from", "last", "call"]

    def __init__(self, seed, count):
        self.random = random.Random(seed)
        self.modules = {}
        clusters = [self.single, self.ring, self.calm_package, self.tangled_package, self.failing]
        weights = [6, 4, 3, 3, 1]
        while len(self.modules) < count:
            self.random.choices(clusters, weights)[0](len(self.modules))

    def add(self, name, package=False):
        """A module that imports up to three older ones."""
        older = list(self.modules)
        self.modules[name] = {"package": package, "imports": [], "fails": False}
        for target in self.random.sample(older, min(len(older), self.random.randrange(4))):
            self.link(name, target, self.random.random() < 0.92)
        return name

    def link(self, name, target, guarded=True):
        self.modules[name]["imports"].append((target, self.random.choice(self.STYLES), guarded))

    def guards(self):
        """Whether a cluster catches what goes wrong within it."""
        return self.random.random() < 0.7

    def single(self, n):
        self.add(f"m{n}")

    def ring(self, n):
        names = [self.add(f"m{n}_{i}") for i in range(self.random.randrange(2, 6))]
        guarded = self.guards()
        for name, following in zip(names, names[1:] + names[:1]):
            self.link(name, following, guarded)

    def family(self, n):
        top = self.add(f"p{n}", package=True)
        inner = self.add(f"p{n}.inner", package=True)
        return top, inner, [self.add(f"{where}.c{i}") for i in range(3) for where in (top, inner)]

    def calm_package(self, n):
        """Children import their parent and older siblings; no circle."""
        top, inner, children = self.family(n)
        for i, child in enumerate(children):
            self.link(child, top)
            if i:
                self.link(child, children[i - 1], self.guards())

    def tangled_package(self, n):
        """Parents import their children, who import them."""
        top, inner, children = self.family(n)
        guarded = self.guards()
        for child in children:
            self.link(child.rpartition(".")[0], child, guarded)
            self.link(child, self.random.choice([top, inner, *children]), guarded)
        self.link(top, inner, guarded)

    def failing(self, n):
        """One that always fails, one that rests on it, one that looks for what is not there."""
        self.modules[self.add(f"f{n}")]["fails"] = True
        self.link(self.add(f"m{n}_rests"), f"f{n}", guarded=False)
        self.link(self.add(f"m{n}_seeks"), f"absent{n}", guarded=self.guards())


def statement(name, target, style):
    """An import of TARGET in the body of NAME; leaves the module, or None where it cannot be told or must be complete, in `got`."""
    parent, _, leaf = target.rpartition(".")
    if style == "as":
        return f"import {target} as got"
    if style == "from" and parent:
        return f"from {'.' if name.rpartition('.')[0] == parent and '.' in name else parent} import {leaf} as got"
    if style == "last":
        return f"from {target} import last as got"
    if style == "call":
        return f"got = importlib.import_module({target!r})"
    return f"import {target}; got = sys.modules.get({target!r})"


def body(name, module):
    lines = ["import importlib, sys, witness", "witness.enter(__name__)", "first = 1"]
    for target, style, guarded in module["imports"]:
        what = [statement(name, target, style), f"witness.got(__name__, {target!r}, got)"]
        if guarded:
            what = ["try:", f"    {what[0]}", f"except Exception as error: witness.failed(__name__, {target!r}, error)", f"else: {what[1]}"]
        lines += ["witness.switch()", *what]
    lines += [f"raise ValueError('no {name}')"] if module["fails"] else []
    return "\n".join([*lines, "last = None", "witness.leave(__name__)", ""])


def plant(root, seed=0, count=500):
    """Write the tree below ROOT."""
    modules = Planter(seed, count).modules
    for name, module in modules.items():
        path = pathlib.Path(root, *name.split("."), "__init__.py") if module["package"] else pathlib.Path(root, *name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body(name, module))
    pathlib.Path(root, "tree.json").write_text(json.dumps(modules))


# --- the rules ---


def circles(edges):
    """{name: number of its strongly connected component}, and the set of the numbers of those that are circles (Tarjan)."""
    index, low, stack, of, circular = {}, {}, [], {}, set()

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for following in edges[name]:
            if following not in index:
                visit(following)
            if following not in of:
                low[name] = min(low[name], low[following])
        if low[name] == index[name]:
            size = len(stack) - stack.index(name)
            for member in stack[-size:]:
                of[member] = index[name]
            del stack[-size:]
            if size > 1 or name in edges[name]:
                circular.add(index[name])

    for name in edges:
        if name not in index:
            visit(name)
    return of, circular


class Rules:
    """What holds of every outcome.

    A thread waits for a module that another one is importing, unless that would be a deadlock: then the other one waits, perhaps by
    way of others, for a module that this thread is importing. Each of these waits follows an import in the tree, so the module and one that
    this thread is importing lie on one circle of imports (a submodule imports its parent). Only there may half a module be seen, and
    only there may a deadlock be told, which spoils whoever does not catch it.
    """

    def __init__(self, modules):
        self.modules = modules
        edges = {name: [t for t, _, _ in m["imports"] if t in modules] for name, m in modules.items()}
        for name in modules:
            if "." in name:
                edges[name].append(name.rpartition(".")[0])
        self.circle, self.circular = circles(edges)
        self.body_fails, self.import_fails = set(), set()
        while self.close():
            pass

    def close(self):
        """One more step of what may fail because something else may."""
        before = len(self.body_fails), len(self.import_fails)
        for name, module in self.modules.items():
            if module["fails"] or any(not guarded and (t in self.import_fails or t not in self.modules) for t, _, guarded in module["imports"]):
                self.body_fails.add(name)
            if name in self.body_fails or self.circle[name] in self.circular or name.rpartition(".")[0] in self.import_fails:
                self.import_fails.add(name)
        return before != (len(self.body_fails), len(self.import_fails))

    def may_be_half(self, stack, target):
        """A failing module is handed to those who waited for it, by most versions of stock Python."""
        return target in self.body_fails or any(self.circle[target] == self.circle[name] for name in stack)

    def kind(self, target):
        if target not in self.modules:
            return "absent"
        return "circular" if self.circle[target] in self.circular else "failing" if target in self.import_fails else "sound"


# --- the witness ---


class Witness(types.ModuleType):
    """The module `witness` of the bodies."""

    def __init__(self, rules, switch, local):
        super().__init__("witness")
        self.rules, self.pause, self.local = rules, switch, local
        self.broken = []  # rules, as text
        self.kinds = set()  # of exceptions
        self.half = 0  # half modules that were seen
        self.runners = set()
        self.start_round()

    def start_round(self):
        self.begun = {name: [] for name in self.rules.modules}
        self.ended = {name: [] for name in self.rules.modules}

    def stack(self, importer):
        """The modules that this thread is executing; what is above IMPORTER failed."""
        stack = self.local.__dict__.setdefault("stack", [])
        while stack and stack[-1] != importer:
            stack.pop()
        return stack

    def enter(self, name):
        self.begun[name].append(None)  # where there is no GIL, += loses some
        self.local.__dict__.setdefault("stack", []).append(name)
        self.runners.add(id(self.local.stack))

    def leave(self, name):
        self.ended[name].append(None)
        self.stack(name).pop()

    def switch(self):
        self.pause()

    def got(self, importer, target, module):
        if module is None or "last" in vars(module):
            return
        self.half += 1
        stack = self.stack(importer)
        if not self.rules.may_be_half(stack, target):
            self.broken.append(f"half of {target} handed to {importer}, within {stack}")

    def failed(self, importer, target, error):
        kind = self.rules.kind(target)
        text = re.sub(r"0x[0-9a-f]+|\d+", "N", re.sub(r"'[^']*'", "'...'", str(error)))
        text = re.sub(r"\(.*\)", "(...)", text).replace("partially initialized module ", "")  # gone once its import has failed
        self.kinds.add((kind, type(error).__name__, text))
        stack = self.stack(importer)
        if kind == "sound" and not (isinstance(error, ImportError) and self.rules.may_be_half(stack, target)):
            self.broken.append(f"{target} failed for {importer}, within {stack}: {error!r}")

    def end_round(self):
        for name in self.rules.modules:
            self.judge(name, sys.modules.get(name), len(self.begun[name]), len(self.ended[name]))

    def judge(self, name, module, begun, ended):
        """What one round has left of a module."""
        rules, tell = self.rules, self.broken.append
        if name not in rules.import_fails and (begun, ended) != (1, 1):
            tell(f"{name} was begun {begun} times and ended {ended} times")
        if ended > 1 or (name not in rules.body_fails and begun != ended):
            tell(f"{name} was executed {begun} times, {ended} times to its end")
        if (module is not None) != (ended > 0):
            tell(f"{name}: executed {ended} times, in sys.modules: {module}")
        if module is None:
            return
        if "last" not in vars(module) or module.__spec__._initializing or module.__spec__._uninitialized_submodules:
            tell(f"{name} was left unfinished: {vars(module.__spec__)}")
        parent, _, leaf = name.rpartition(".")
        if parent and parent not in rules.body_fails and getattr(sys.modules[parent], leaf, None) is not module:
            tell(f"{name} is not bound in its parent")


def waited_for():
    """The module locks that importlib knows threads to wait for, once for each; of an import engine's, where it is asked in one."""
    bootstrap = importlib._bootstrap
    blocked = bootstrap._blocking_on  # has those of the process and of all engines
    values = [v() if callable(v) else [v] for v in dict(blocked if isinstance(blocked, dict) else blocked.data).values()]
    return [lock for v in values if v for lock in list(v) if type(lock) is bootstrap._ModuleLock]


def locks_left():
    """What importlib still knows of locks when nobody imports; of an import engine's, where it is asked in one."""
    import _imp
    held = [repr(lock) for ref in list(importlib._bootstrap._module_locks.values()) if (lock := ref()) is not None and lock.count]
    left = held + [repr(lock) for lock in waited_for()] + (["the import lock"] if _imp.lock_held() else [])
    return [re.sub(r" at \d+", "", text) for text in left]


# --- controls: what the rules must notice ---


def drop_the_locks():
    lock = importlib._bootstrap._ModuleLock
    lock.acquire = lambda self: True
    lock.release = lambda self: None


def forget_to_release():
    lock = importlib._bootstrap._ModuleLock
    release = lock.release
    lock.release = lambda self: None if self.waiters else release(self)


def forget_to_bind():
    importlib._bootstrap.setattr = lambda *args: None


def fail_strangely():
    class Strange:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.startswith("absent"):
                raise OSError("strange")
    sys.meta_path.insert(0, Strange)


def share_an_identity():
    bootstrap = importlib._bootstrap
    bootstrap._thread = types.SimpleNamespace(**{**vars(bootstrap._thread), "get_ident": lambda: 1})


CONTROLS = {f.__name__: f for f in (drop_the_locks, forget_to_release, forget_to_bind, fail_strangely, share_an_identity)}


# --- the storm ---


class Turncoat:
    """Meanwhile installs and uninstalls Ladewerk."""

    def __init__(self, dice):
        import ladewerk
        import threading
        self.ladewerk, self.dice, self.turns, self.over = ladewerk, dice, 0, False
        ladewerk.uninstall()
        self.before = self.parts()
        self.thread = threading.Thread(target=self.turn)
        self.thread.start()

    @staticmethod
    def parts():
        return sys.meta_path[:], sys.path_hooks[:], importlib._bootstrap._find_and_load

    def turn(self):
        while not self.over:
            self.ladewerk.uninstall() if self.turns % 2 else self.ladewerk.install()
            self.turns += 1
            time.sleep(self.dice.choice([0, 1e-4, 1e-3, 1e-2]))

    def end(self):
        """What is not as it was."""
        self.over = True
        self.thread.join()
        self.ladewerk.uninstall()
        return [] if self.parts() == self.before else [f"uninstall() left {self.parts()}, not {self.before}"]


def storm(root, *, rounds, threads=8, seed=0, green=False, control=None, turncoat=False, patience=60, interval=1e-4):
    """Import the whole tree ROUNDS times. Returns what the witness has to say."""
    if green:
        from gevent import monkey
        monkey.patch_all()
    import threading

    rules = Rules(json.loads(pathlib.Path(root, "tree.json").read_text()))
    dice = random.Random(seed)
    local = threading.local()
    pauses = [0, 0, 0, 1e-5]
    pause = lambda: dice.random() < 0.5 and time.sleep(dice.choice(pauses))
    witness = sys.modules["witness"] = Witness(rules, pause, local)
    if control:
        CONTROLS[control]()
    sys.setswitchinterval(interval)
    names = [*rules.modules, *sorted({t for m in rules.modules.values() for t, _, _ in m["imports"]} - set(rules.modules))]
    turncoat = Turncoat(random.Random(seed)) if turncoat else None

    def import_all(order, gate):
        local.stack = []
        gate.wait()
        for name in order:
            try:
                module = importlib.import_module(name)
            except Exception as error:
                witness.failed(None, name, error)
            else:
                witness.got(None, name, module)

    for _ in range(rounds):
        faulthandler.dump_traceback_later(patience, exit=True)
        gate = threading.Barrier(threads)
        crowd = [threading.Thread(target=import_all, args=(dice.sample(names, len(names)), gate)) for _ in range(threads)]
        witness.start_round()
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        witness.end_round()
        witness.broken += [f"left behind: {lock}" for lock in locks_left()]
        for name in rules.modules:
            sys.modules.pop(name, None)
        gc.collect()
    if turncoat:
        witness.broken += turncoat.end()
    faulthandler.cancel_dump_traceback_later()
    return {"broken": witness.broken[:20], "kinds": sorted(witness.kinds), "half": witness.half, "runners": len(witness.runners),
            "turns": turncoat and turncoat.turns}


def main():
    sys.setrecursionlimit(5000)
    report = storm(os.environ["PYTHONPATH"], **json.loads(sys.argv[1]))
    import ladewerk
    print(json.dumps({**report, "stats": ladewerk.stats()}))


if __name__ == "__main__":
    main()
