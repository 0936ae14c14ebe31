# SPDX-License-Identifier: MIT
"""Ladewerk never resolves a module differently from stock: every module there is, and generated trees, path lists and mutations.

The judges (judge.py) are child processes; after each step each of them asks both finders the same questions:

    live      has seen every step: its facts are its own readings
    restarted is replaced from time to time: its facts come from the index that its predecessors wrote
    frozen    the same under freshness "frozen", told of changes by invalidate_caches()
    nobody    an unprivileged user, for whom chmod means something (root only)
"""

import json
import os
import pathlib
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from harness import HERE, LONG, environment, settle
from interpreters import COUNT, NUMBER, is_mine

NOBODY = 65534
EXTENSIONS = [s for s in __import__("_imp").extension_suffixes()]


class Judge:
    def __init__(self, cache, freshness="stat", uid=0, control=False):
        options = pickle.dumps({"freshness": freshness, "uid": uid, "control": control}).hex()
        env = environment(LADEWERK=None, LADEWERK_CACHE=cache, LADEWERK_STAT_WINDOW=0)
        self.process = subprocess.Popen([sys.executable, "-s", HERE / "judge.py", options], env=env, cwd="/",
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, method, **kwargs):
        pickle.dump((method, kwargs), self.process.stdin)
        self.process.stdin.flush()

    def receive(self):
        return pickle.load(self.process.stdout)

    def ask(self, method, **kwargs):
        self.send(method, **kwargs)
        return self.receive()

    def close(self):
        """Let it end in an orderly way: it stores what it has learnt."""
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        assert code == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


def explain(mismatches):
    lines = []
    for name, path, ours, stock in mismatches:
        lines.append(f"{name!r} on {path!r}")
        if not isinstance(ours, dict) or not isinstance(stock, dict):
            lines.append(f"  ladewerk: {ours}\n  stock:    {stock}")
        else:
            lines.extend(f"  {k}: ladewerk {ours.get(k)!r}, stock {stock.get(k)!r}" for k in {*ours, *stock} if ours.get(k) != stock.get(k))
    return "\n".join(lines)


# --- (a) everything there is ---


def importable(directory):
    """The names that files and directories of DIRECTORY could be imported by."""
    names = set()
    for entry in os.scandir(directory):
        stem, dot, suffix = entry.name.partition(".")
        if entry.is_dir() and not dot or dot + suffix in {*EXTENSIONS, ".py", ".pyc"}:
            names.add(stem)
    return names


def walk(root):
    """(package, names, path) of all modules below ROOT, whether a package would be imported or not; and names that do not exist."""
    todo = [("", root)]
    while todo:
        package, directory = todo.pop()
        names = sorted(importable(directory))
        yield package, [*names, "no_such_module"], [directory]
        for name in names:
            below = os.path.join(directory, name)
            if os.path.isdir(below) and name not in ("__pycache__", "site-packages"):
                todo.append((f"{package}.{name}".lstrip("."), below))


def roots():
    """The standard library and the installed packages: the path of a fresh interpreter."""
    out = subprocess.run([sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"], env=environment(), stdout=subprocess.PIPE, check=True)
    return [path for path in json.loads(out.stdout) if os.path.isdir(path)]


@pytest.fixture(scope="module")
def everything():
    questions = [question for root in roots() for question in walk(root)]
    tops = sorted({name for package, names, _ in questions if not package for name in names})
    return questions + [("", tops, None), ("", tops, roots())]


@pytest.mark.parametrize("freshness", ["stat", "frozen"])
def test_every_installed_module(everything, freshness, tmp_path):
    """The standard library and all installed packages: first read from the file system, then from the index."""
    for start in "cold", "warm":
        judge = Judge(tmp_path, freshness)
        report = judge.ask("walk", questions=everything)
        judge.close()
        assert not report["mismatches"], f"{start}: {explain(report['mismatches'])}"
        assert report["aside"] == 0, report["by_reason"]
        assert report["queries"] == sum(len(names) for _, names, _ in everything) and report["found"] > 1000
        assert (report["session"]["listings_from_index"] > 10) == (start == "warm"), report["session"]
    print(f"{report['queries']} questions, {report['found']} modules")


# --- (b) generated trees, paths and mutations ---

ROOTS = 4
NAMES = ["a", "b", "A", "\xe9", "n\udcff", "__init__"]  # \udcff: a byte that is no UTF-8
SUFFIXES = [".py", ".py", ".py", ".pyc", EXTENSIONS[0], EXTENSIONS[-1], "", "", ".x.py", ".txt"]
MODES = [0o000, 0o111, 0o444, 0o644, 0o755]
MANY = 40

STEPS = ["write", "write", "write", "rewrite", "replace", "mkdir", "package", "package", "turn", "remove", "remove", "rename", "rename", "old", "old_parent",
         "stealth", "symlink", "symlink", "hardlink", "chmod", "zip", "swap", "link_root", "insert", "insert", "insert", "drop", "edit", "many", "chdir", "settle",
         "restart", "forget"]
STEP = st.tuples(st.sampled_from(STEPS), st.integers(0, 1023), st.integers(0, 1023))


class Playground:
    """The tree and the path list that steps change."""

    def __init__(self, base):
        self.base = base
        self.tree = os.path.join(base, "tree")
        if os.path.isdir(self.tree):
            self.wipe(self.tree)
        os.mkdir(self.tree)
        os.chmod(self.tree, 0o755)
        self.roots = [os.path.join(self.tree, f"r{i}") for i in range(ROOTS)]
        for root in self.roots:
            os.mkdir(root)
            os.chmod(root, 0o755)
        self.cwd = self.tree
        self.entries = self.roots[:3]
        self.in_place = self.by_argument = False
        self.prepare = self.forget = False
        self.count = 0

    def wipe(self, path):
        subprocess.run(["chmod", "-R", "u+rwx", path], stderr=subprocess.DEVNULL, check=False) if os.geteuid() else None
        shutil.rmtree(path)

    # where a step strikes

    def directory(self, a):
        root = self.roots[a % ROOTS]
        depth = a // ROOTS % 4
        if depth == 0 or depth == 1:
            return root
        inner = os.path.join(root, NAMES[a // 16 % 3])
        return inner if depth == 2 else os.path.join(inner, NAMES[a // 64 % 3])

    def target(self, a, b):
        return os.path.join(self.directory(a), NAMES[b % len(NAMES)] + SUFFIXES[b // len(NAMES) % len(SUFFIXES)])

    def existing(self, a, b):
        """Something that is there, if the directory has anything."""
        directory = self.directory(a)
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        return os.path.join(directory, names[b % len(names)]) if names else self.target(a, b)

    def text(self):
        self.count += 1
        return f"version = '{self.count:06}'\n"

    # steps

    def write(self, a, b):
        pathlib.Path(self.target(a, b)).write_text(self.text())

    def rewrite(self, a, b):
        with open(self.existing(a, b), "r+") as file:
            file.write(self.text())

    def replace(self, a, b):
        path = self.existing(a, b)
        aside = os.path.join(self.tree, "aside")
        pathlib.Path(aside).write_text(self.text())
        os.rename(aside, path)

    def mkdir(self, a, b):
        os.mkdir(os.path.join(self.directory(a), NAMES[b % len(NAMES)]))

    def package(self, a, b):
        path = os.path.join(self.directory(a), NAMES[b % 3])
        os.makedirs(path, exist_ok=True)
        suffix = [".py", ".py", ".py", ".pyc", EXTENSIONS[0], ".so.py", ""][b // 3 % 7]
        pathlib.Path(path, "__init__" + suffix).write_text(self.text())

    def turn(self, a, b):
        """Module to package, package to module."""
        path = os.path.join(self.directory(a), NAMES[b % 3])
        if os.path.isdir(path):
            shutil.rmtree(path)
            pathlib.Path(path + ".py").write_text(self.text())
        else:
            os.unlink(path + ".py")
            os.mkdir(path)
            pathlib.Path(path, "__init__.py").write_text(self.text())

    def remove(self, a, b):
        path = self.existing(a, b)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def rename(self, a, b):
        os.rename(self.existing(a, b), self.target(b, a))

    def old(self, a, b):
        os.utime(self.existing(a, b), ns=(10**18 + a, 10**18 + b))

    def old_parent(self, a, b):
        os.utime(self.directory(a), ns=(10**18, 10**18 + b * 10**9))

    def stealth(self, a, b):
        """A change of the directory whose times are put back."""
        directory = self.directory(a)
        before = os.stat(directory)
        path = self.target(a, b)
        if os.path.exists(path):
            os.unlink(path)
        else:
            pathlib.Path(path).write_text(self.text())
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))

    def symlink(self, a, b):
        """To something, to nothing, to itself; relative or not."""
        link = self.target(a, b)
        to = [self.existing(b, a), os.path.basename(self.target(b, a)), "..", self.directory(b), "nowhere", os.path.basename(link)][(a + b) % 21 % 6]
        os.symlink(to, link)

    def hardlink(self, a, b):
        os.link(self.existing(a, b), self.target(b, a))

    def chmod(self, a, b):
        os.chmod(self.existing(a, b) if b & 1 else self.directory(a), MODES[b // 2 % len(MODES)])

    def zip(self, a, b):
        self.prepare = True  # zipimporter remembers, and is the same object on both sides
        path = os.path.join(self.tree, "z.zip")
        if os.path.isdir(path):
            shutil.rmtree(path)
        if b % 4 == 0:
            os.mkdir(path)
            return
        with zipfile.ZipFile(path, "w") as archive:
            for name in "a.py", "b/__init__.py", "b/a.py", "inner/A.py", "inner/b/a.py":
                archive.writestr(name, self.text())

    def swap(self, a, b):
        one, other = self.roots[a % ROOTS], self.roots[b % ROOTS]
        aside = os.path.join(self.tree, "aside")
        os.rename(one, aside)
        if one != other:
            os.rename(other, one)
        if b & 64 or one == other:
            os.rename(aside, other)
        else:
            shutil.rmtree(aside) if not os.path.islink(aside) else os.unlink(aside)

    def link_root(self, a, b):
        root = self.roots[a % ROOTS]
        if os.path.islink(root) or os.path.isfile(root):
            os.unlink(root)
            os.mkdir(root)
        else:
            aside = os.path.join(self.tree, f"moved{b % 2}")
            if os.path.lexists(aside):
                shutil.rmtree(aside)
            os.rename(root, aside)
            if b % 8 == 0:
                pathlib.Path(root).write_text("")
            else:
                os.symlink([aside, os.path.basename(aside), "nowhere", root][b // 8 % 4 if b % 5 == 0 else b % 2], root)

    def entry(self, a):
        root = self.roots[a % ROOTS]
        zipped = os.path.join(self.tree, "z.zip")
        return [root, root, root, root + "/", root + "///", "/" + root, root.replace("/tree", "//tree/."), os.path.basename(root), "./" + os.path.basename(root),
                "../tree/" + os.path.basename(root), "", ".", self.tree + "/missing", self.tree + "/missing/deep", zipped, zipped + "/inner", root + "/a", root + "/a.py", zipped + "/b", zipped + "/nowhere",
                root.encode(), None, 42, self.tree + "/n\udcff", root + "/../r0"][a // ROOTS % 25]

    def insert(self, a, b):
        entry = self.entry(a)
        self.entries.insert(b % (len(self.entries) + 1), entry)
        self.in_place = bool(b & 64)

    def drop(self, a, b):
        if len(self.entries) > 1:
            del self.entries[a % len(self.entries)]
        del self.entries[MANY + 5:]
        self.in_place = True

    def edit(self, a, b):
        if a % 3 == 0:
            self.entries.reverse()
        elif a % 3 == 1:
            self.entries[a % len(self.entries)] = self.roots[b % ROOTS]
        else:
            self.by_argument = not self.by_argument
        self.in_place = True

    def many(self, a, b):
        """So many entries that a table of names is used; or few again."""
        if len(self.entries) > MANY:
            self.entries = self.roots[: 1 + b % ROOTS]
            return
        padding = []
        for i in range(MANY):
            directory = os.path.join(self.base, "padding", f"p{i}")
            padding.append(directory)
        at = a % (MANY + 1)
        self.entries = padding[:at] + self.entries + padding[at:]

    def chdir(self, a, b):
        cwd = self.directory(a) if b % 2 else self.tree
        if os.path.isdir(cwd) and os.access(cwd, os.X_OK) and os.stat(cwd).st_mode & 1:
            self.cwd = cwd

    def settle(self, a, b):
        settle()


def is_for_others():
    """Whether who becomes another user can import what is tested (a checkout in root's own home cannot be entered)."""
    code = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); import ladewerk"
    return subprocess.run([sys.executable, "-s", "-c", code], cwd="/", env=environment(LADEWERK="0"), capture_output=True).returncode == 0


class Panel:
    """The judges, and what they have said so far."""

    def __init__(self, base, control=False):
        self.base = base
        self.control = control
        self.kinds = {"live": {}, "restarted": {}, "frozen": {"freshness": "frozen"}}
        if os.geteuid() == 0 and is_for_others():
            self.kinds["nobody"] = {"uid": NOBODY}
        if control:
            self.kinds = {"live": {}}
        self.judges, self.reasons = {}, {}
        self.steps = self.queries = self.aside = self.found = self.from_index = 0
        for kind in self.kinds:
            self.start(kind)

    def cache(self, kind):
        return os.path.join(self.base, f"cache-{kind}")

    def start(self, kind):
        cache = self.cache(kind)
        os.makedirs(cache, mode=0o700, exist_ok=True)
        if "uid" in self.kinds[kind]:
            os.chown(cache, NOBODY, NOBODY)
        self.judges[kind] = Judge(cache, control=self.control, **self.kinds[kind])

    def restart(self):
        for kind in "restarted", "frozen":
            if kind in self.judges:
                self.judges.pop(kind).close()
                self.start(kind)

    def look(self, ground, history):
        usable = os.path.isdir(ground.cwd) and all(os.stat(p).st_mode & 1 for p in [ground.cwd, *map(str, pathlib.Path(ground.cwd).parents)])
        if not usable:
            ground.cwd = ground.tree
        question = {"cwd": ground.cwd, "entries": list(ground.entries), "in_place": ground.in_place, "by_argument": ground.by_argument,
                    "tops": NAMES[:5], "subs": NAMES[:2], "prepare": ground.prepare, "forget": ground.forget}
        # What stock's finders remember until invalidate_caches(), and we ask them: the directory of a relative entry, the inside of an archive.
        question["prepare"] |= any(isinstance(entry, str) and entry and (entry[0] != "/" or ".zip" in entry) for entry in ground.entries)
        ground.prepare = ground.forget = False
        for judge in self.judges.values():
            judge.send("look", **question)
        wrong = []
        for kind, judge in self.judges.items():
            report = judge.receive()
            self.queries += report["queries"]
            self.aside += report["aside"]
            self.found += report["found"]
            self.reasons.update({kind: report["by_reason"]})
            self.from_index += report["session"]["listings_from_index"]
            if report["mismatches"]:
                wrong.append(f"{kind}: {explain(report['mismatches'])}")
        assert not wrong, "\n".join([*wrong, f"cwd {ground.cwd}, entries {ground.entries}", "after:", *map(str, history)])

    def play(self, program):
        try:
            self.play_steps(program)
        except BaseException:
            # What the judges know must not spoil the shrinking of the failure.
            for kind, judge in self.judges.items():
                judge.kill()
                shutil.rmtree(self.cache(kind))  # it holds the mark of a start that died
                self.start(kind)
            raise

    def play_steps(self, program):
        ground = Playground(self.base)
        history = []
        for name, a, b in program:
            if name == "restart":
                # Let it learn first: what is too young is not stored.
                settle()
                self.look(ground, history)
                self.restart()
            elif name == "forget":
                ground.forget = True
            else:
                try:
                    getattr(ground, name)(a, b)
                except OSError as error:
                    name = f"{name} ({error.strerror})"  # as a step, nothing happened
            history.append((name, a, b))
            self.steps += 1
            self.look(ground, history)

    def close(self):
        for judge in self.judges.values():
            judge.close()


@pytest.fixture
def base():
    # Not pytest's directory: the unprivileged judge must be able to get there.
    path = tempfile.mkdtemp(prefix="ladewerk-differential-")
    os.chmod(path, 0o755)
    for i in range(MANY):
        directory = pathlib.Path(path, "padding", f"p{i}")
        if i % 10 != 3:  # some are missing
            directory.mkdir(parents=True)
            (directory / f"only{i}.py").write_text("")
    yield path
    subprocess.run(["chmod", "-R", "u+rwx", path], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(path)


PROGRAM = 50  # steps
ENOUGH = 100_000 if LONG else 2_000 // COUNT


def test_generated_programs(base, capsys):
    """Whatever is done to files and paths, both finders agree after every step."""
    panel = Panel(base)

    @seed(random.SystemRandom().random() if LONG else NUMBER)
    @settings(max_examples=ENOUGH // PROGRAM + 1, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(STEP, min_size=PROGRAM, max_size=PROGRAM))
    def run(program):
        panel.play(program)

    try:
        run()
    finally:
        panel.close()
    with capsys.disabled():
        print(f" [{panel.steps} steps, {panel.queries} questions, {panel.found} found, {panel.aside} aside]", end="")
    assert panel.steps >= ENOUGH
    assert panel.found > panel.queries / 10, "the trees are too empty to prove anything"
    assert panel.from_index > ENOUGH // 5, "the index was hardly ever used"
    assert panel.aside < panel.queries * 0.05, panel.reasons


def test_generated_programs_catch_a_finder_that_is_not_fresh(base):
    """Control: the same programs find a finder that remembers."""
    panel = Panel(base, control=True)
    rng = random.Random(1)
    try:
        with pytest.raises(AssertionError, match="live"):
            for _ in range(20):
                panel.play([(rng.choice(STEPS), rng.randrange(1024), rng.randrange(1024)) for _ in range(PROGRAM)])
    finally:
        panel.close()


# --- (c) imports ---

# What waits for a user, opens a browser or a window, or is a test (the import of many of them has side effects).
SKIP = re.compile(r"(^|\.)(__main__|tests?|testing|conftest|setup|__pycache__|idlelib|tkinter|turtle|turtledemo|antigravity|this|lib2to3|.*_tests?|test_.*|ladewerk|pip)(\.|$)")
SOME = 100  # modules of a package, unless LADEWERK_LONG=1


def groups():
    """[(title, [module names])]: the standard library, and each installed package that this interpreter is to import."""
    standard, *others = roots()
    found = {}
    for root in roots():
        for package, names, _ in walk(root):
            for name in names[:-1]:  # the last one does not exist
                full = f"{package}.{name}" if package else name
                top = full.partition(".")[0]
                if full.isascii() and full.replace(".", "").isidentifier() and not SKIP.search(full) and not full.endswith("__init__"):
                    found.setdefault("standard library" if root.startswith(sys.base_prefix) and "site-packages" not in root else top, []).append(full)
    for title, names in sorted(found.items()):
        if len(names) > SOME and not LONG and title != "standard library":
            names = random.Random(0).sample(names, SOME)
        if title == "standard library" or is_mine(title):
            yield title, names


def import_group(base, title, names):
    """Import NAMES under stock, learning, from the cache and frozen. The differences as text, and the counts of the last run."""
    directory = pathlib.Path(base, re.sub(r"\W", "_", title))
    directory.mkdir()
    listing = directory / "names.json"
    listing.write_text(json.dumps(names))
    seen = {}
    for which, ladewerk, freshness in [("stock", False, None), ("cold", True, "stat"), ("warm", True, "stat"), ("frozen", True, "frozen")]:
        out = directory / which
        env = environment(ladewerk, LADEWERK_CACHE=directory / "cache", LADEWERK_FRESHNESS=freshness, HOME=directory, PYTHONHASHSEED=0)
        with open(directory / "log", "w") as log:
            child = subprocess.run([sys.executable, "-P", HERE / "import_all.py", listing, out], env=env, cwd=directory, timeout=300,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert child.returncode == 0, f"{title}, {which}: {(directory / 'log').read_text()[-2000:]}"
        seen[which], stats = json.loads(out.read_text())
    if "unicodedata" not in seen["stock"]["modules"]:
        # The compiler imports it, for "\N{...}". In the cold run it compiles what an installer has compiled within the second in which it wrote the source: stock believes that.
        seen["cold"]["modules"].pop("unicodedata", None)
        seen["cold"]["order"] = [name for name in seen["cold"]["order"] if name != "unicodedata"]
    different = []
    for which in "cold", "warm", "frozen":
        for part in "outcomes", "modules", "order":
            ours, stock = seen[which][part], seen["stock"][part]
            if part == "order":
                if ours != stock:
                    different.append(f"{which}: the order of sys.modules: {[pair for pair in zip(ours, stock) if pair[0] != pair[1]][:3]}")
                continue
            for name in sorted({*ours, *stock}):
                one, other = ours.get(name, "absent"), stock.get(name, "absent")
                if isinstance(one, dict) and isinstance(other, dict):
                    one, other = [{k: d[k] for k in d if one[k] != other[k]} for d in (one, other)]
                if one != other:
                    different.append(f"{which}, {part}: {name}: ladewerk {str(one)[:400]}, stock {str(other)[:400]}")
    return different, stats


def test_imports_of_everything_installed(tmp_path, capsys):
    """The same modules with the same attributes, or the same exceptions: learning, from the cache, and frozen."""
    work = list(groups())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda group: import_group(tmp_path, *group), work))
    wrong = [f"{title}: {text}" for (title, _), (different, _) in zip(work, results) for text in different]
    served = {kind: sum(stats["served"][kind] for _, stats in results) for kind in results[0][1]["served"]}
    with capsys.disabled():
        print(f" [{sum(len(names) for _, names in work)} names, frozen: {served['pack']} from the pack, {served['compiled']} compiled]", end="")
    assert not wrong, "\n".join(wrong[:20])
    assert served["pack"] > 0.9 * (served["pack"] + served["pyc"] + served["compiled"]), served
