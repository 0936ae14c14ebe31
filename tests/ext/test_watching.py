# SPDX-License-Identifier: MIT
"""Freshness `watch`: no look at the file system, and yet nothing is stale, whoever changes it and however; by the program's own watch and by a daemon's."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

import changes
from changes import CHANGES, SLOW
from harness import LONG, STATS, Talker
from interpreters import once_but

LOOKUPS = 1_000_000 if LONG else 6_000
HERE = pathlib.Path(__file__).parent
PREPARE = f"import sys; sys.dont_write_bytecode = True; changes = {{}}; exec(open({str(HERE / 'changes.py')!r}).read(), changes)"


class Daemon:
    """`ladewerk watch` of a root, up to date."""

    def __init__(self, tree, *roots, options=()):
        self.tree, self.socket = tree, str(tree.base / "socket")
        self.env = {**tree.environment(False), "LADEWERK_WATCH": self.socket}
        self.process = subprocess.Popen([*tree.prefix, sys.executable, "-m", "ladewerk", "watch", *options, *map(str, roots)], env=self.env, stderr=subprocess.PIPE, text=True)
        self.said = self.process.stderr.readline()
        assert self.said.startswith("ladewerk: watching"), self.said + self.process.stderr.read()

    def status(self):
        done = subprocess.run([sys.executable, "-m", "ladewerk", "watch", "--status", "--json"], env=self.env, capture_output=True, text=True)
        return json.loads(done.stdout)

    def settle(self):
        """Until it has looked at everything again."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            status = self.status()
            if status["ready"] and not status["marked"]:
                return status
            time.sleep(0.05)
        raise AssertionError(status)

    def close(self, how="terminate"):
        getattr(self.process, how)()
        self.process.wait(30)
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.returncode is None:
            self.close()


#: The program itself, or a daemon: with the backend that is chosen, and with the other one.
WAYS = ["process", "daemon", "daemon-fanotify"]


@pytest.fixture(params=once_but(WAYS, "process", "daemon"))  # the backends differ in the daemon, which is C from end to end
def watched(tree, request):
    """Where a program's freshness comes from: what its environment is, and by whom it must say that it is told."""
    tree.by, _, backend = request.param.partition("-")
    tree.freshness = "watch" if tree.by == "process" else None
    if backend and os.geteuid() != 0:
        pytest.skip("fanotify needs root")
    tree.options = ["--backend", backend or "auto"]
    tree.env["LADEWERK_WATCH"] = "0" if tree.by == "process" else str(tree.base / "socket")
    yield tree


@pytest.fixture
def served(watched):
    """The same, with the daemon of watched.root where it takes one."""
    if watched.by == "process":
        yield watched
        return
    with Daemon(watched, watched.root, options=watched.options) as daemon:
        watched.daemon = daemon
        yield watched


def rounds(name):
    return max(4, LOOKUPS // (2 * len(WAYS) * len(CHANGES)) // SLOW.get(name, 1))


def set_up(tree, name):
    if name == "Checkout" and not shutil.which("git"):
        pytest.skip("no git")
    place = tree.root / "place"
    place.mkdir()
    change = CHANGES[name](place)
    tree.env["PYTHONPATH"] = str(change.path)
    return change


def told(stats, by):
    """What STATS says of those who tell of changes."""
    found = [watch for watch in stats["watch"] if watch["by"] == by]
    assert stats["freshness"] == "watch" and found, stats
    return found[0]


@pytest.mark.parametrize("name", CHANGES)
def test_changed_by_another_process(watched, name):
    change = set_up(watched, name)
    daemon = Daemon(watched, watched.root, options=watched.options) if watched.by == "daemon" else None
    try:
        with Talker(watched) as talker:
            talker(PREPARE)
            stale = []
            for n in range(1, rounds(name) + 1):
                change.change(n)
                expected = change.expect(n)
                found = talker(f"result = changes['ask']({list(expected)!r})")
                if found != expected:
                    stale.append((n, expected, found))
            stats = talker("import ladewerk; result = ladewerk.stats()")
    finally:
        if daemon:
            daemon.close()
    assert not stale, (len(stale), stale[:3])
    assert told(stats, watched.by)["checks"] >= rounds(name)


SAME = PREPARE + """
change = changes["CHANGES"][sys.argv[1]].__new__(changes["CHANGES"][sys.argv[1]])
change.__dict__.update(eval(sys.argv[2], {"PosixPath": changes["pathlib"].Path}))
stale = []
for n in range(1, int(sys.argv[3]) + 1):
    change.change(n)
    expected = change.expect(n)
    found = changes["ask"](expected)
    if found != expected:
        stale.append((n, expected, found))
assert not stale, (len(stale), stale[:3])
""" + STATS


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "WriteOpen"])
def test_changed_by_the_program_itself(watched, name):
    change = set_up(watched, name)
    daemon = Daemon(watched, watched.root, options=watched.options) if watched.by == "daemon" else None
    try:
        stats = watched.run(SAME, name, repr(vars(change)), rounds(name), timeout=3600).json()
    finally:
        if daemon:
            daemon.close()
    assert told(stats, watched.by)["checks"] >= rounds(name)


@pytest.mark.parametrize("watched", ["process", "daemon"], indirect=True)
def test_right_to_search_is_taken_away(watched, no_power):
    """And given back. What lies below a directory that may not be searched is not there."""
    watched.prefix = no_power
    path = watched.write("p/sub/m.py", "value = 0\n")
    package, names = watched.root / "p", ["p.sub.m"]
    daemon = Daemon(watched, watched.root, options=watched.options) if watched.by == "daemon" else None
    try:
        with Talker(watched) as talker, Talker(watched, ladewerk=False) as stock:
            talker(PREPARE), stock(PREPARE)
            for n in range(1, 40):
                package.chmod(0o755)
                path.write_text(f"value = {n}\n")
                package.chmod(0o600 if n % 2 else 0o755)
                forgetful = f"__import__('importlib').invalidate_caches(); result = changes['ask']({names!r})"
                expected = {"p.sub.m": None if n % 2 else n}
                assert (talker(f"result = changes['ask']({names!r})"), stock(forgetful)) == (expected, expected), n
            stats = talker("import ladewerk; result = ladewerk.stats()")
    finally:
        package.chmod(0o755)
        if daemon:
            daemon.close()
    assert told(stats, watched.by)["checks"] >= 39


UNCHANGED = PREPARE + """
import ladewerk, time
def statx(): return ladewerk.stats()["session"]["statx"]
names = [f"m{i}" for i in range(20)] + ["p.a", "p.b"]
changes["ask"](names)
def looks():
    before = statx()
    for i in range(10):
        changes["ask"](names)
    return statx() - before
counts, until = [looks()], time.monotonic() + float(sys.argv[1])
while min(counts) and time.monotonic() < until:
    time.sleep(0.01)
    counts.append(looks())
print(min(counts))
""" + STATS


def modules(tree):
    for i in range(20):
        tree.write(f"m{i}.py", f"value = {i}\n")
    for name in "a", "b":
        tree.write(f"p/{name}.py", "value = 1\n")
    tree.write("p/__init__.py", "")


@pytest.mark.parametrize("watched", ["process", "daemon"], indirect=True)  # fanotify sees the whole file system, which others change meanwhile
def test_unchanged_files_are_not_looked_at(served):
    """The working directory, which the daemon does not watch, is left out of sys.path; the library comes after the root."""
    modules(served)
    if served.by == "daemon":
        served.daemon.settle()
    # Others may come and go in a directory above, and a daemon may be kept waiting: then the queue is not empty, and imports look for themselves. Not for ever.
    result = served.run(UNCHANGED, 30, options=["-P"])
    assert result.out.splitlines()[0] == "0"
    assert told(result.json(), served.by)["checks"] >= 200


def test_the_same_in_stat(tree):
    """The control."""
    modules(tree)
    assert int(tree.run(UNCHANGED, 0.1, options=["-P"]).out.splitlines()[0]) >= 200


# --- what a program does with its descriptors, and what it does not know of ---


ODD = PREPARE + """
import json, ladewerk, os, socket, threading
place = changes["pathlib"].Path(sys.argv[1])
wrong = []
def told(n, write=True):
    if write:
        (place / "m.py").write_text(f"value = {n}\\n")
    found = changes["ask"](["m"])["m"]
    if found != n:
        wrong.append((n, found))
told(0)
"""

CLOSED = ODD + """
os.closerange(3, 10000)
pairs, pipes = [socket.socketpair() for _ in range(10)], [os.pipe() for _ in range(10)]
numbers = [fd for pipe in pipes for fd in pipe] + [s.fileno() for pair in pairs for s in pair]
before = [os.fstat(fd)[:2] for fd in numbers]
for n in range(1, 50):
    told(n)
for (a, b), (r, w) in zip(pairs, pipes):
    a.send(b"x"); os.write(w, b"y")
    assert b.recv(1) == b"x" and os.read(r, 1) == b"y"
assert not wrong, wrong
assert before == [os.fstat(fd)[:2] for fd in numbers]
""" + STATS


@pytest.mark.parametrize("watched", ["process"], indirect=True)  # a daemon's: tests/cli/test_watch_crash.py
def test_descriptors_closed_and_used_again(watched):
    """Nobody's descriptors are touched."""
    watched.write("m.py")
    stats = watched.run(CLOSED, watched.root).json()
    assert "was closed by the program" in told(stats, "process")["reason"]


FORKED = ODD + """
for n in range(1, 20):
    (place / "m.py").write_text(f"value = {n}\\n")
    if n % 2:
        told(n, write=False)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        told(n, write=False)
        for i in range(3):
            told(n * 100 + i)
        os.write(w, json.dumps(wrong).encode())
        os._exit(0)
    os.close(w)
    wrong += json.load(open(r))
    os.waitpid(pid, 0)
    told(n * 100 + 2, write=False)
assert not wrong, wrong
""" + STATS


@pytest.mark.parametrize("watched", ["process"], indirect=True)
def test_forked_children_leave_the_queue_alone(watched):
    """They take nothing out of it that the parent has not read, and believe nothing of it themselves."""
    watched.write("m.py")
    stats = watched.run(FORKED, watched.root).json()
    assert told(stats, "process")["checks"] >= 20


OVERFLOWS = ODD + """
limit = int(open("/proc/sys/fs/inotify/max_queued_events").read())
for n in range(1, 4):
    files = [(place / name).open("wb", buffering=0) for name in ("a", "b")]
    for i in range(limit + 100):
        files[i % 2].write(b"#")
    told(n)
    (place / f"new{n}.py").write_text("value = 1\\n")
    assert changes["ask"]([f"new{n}"]) == {f"new{n}": 1}
    told(n + 10)
assert not wrong, wrong
""" + STATS


@pytest.mark.parametrize("watched", ["process"], indirect=True)
def test_queue_overflows(watched):
    watched.write("m.py")
    stats = watched.run(OVERFLOWS, watched.root).json()
    assert told(stats, "process")["checks"] > told(stats, "process")["distrusted"]


MOUNTED = ODD + """
import subprocess
(place / "m.py").write_text("value = 0\\n")
for n in range(1, 5):
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        told(None, write=False)
        told(n)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    told(0, write=False)
assert not wrong, wrong
""" + STATS


@pytest.mark.parametrize("watched", ["process"], indirect=True)
def test_mounted_over(watched):
    """In a mount namespace of its own, which ends with the program."""
    watched.prefix = ["unshare", "-m"]
    if os.geteuid() != 0 or subprocess.run([*watched.prefix, "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not to be had")
    watched.write("place/m.py")
    stats = watched.run(MOUNTED, watched.root / "place", env={"PYTHONPATH": watched.root / "place"}).json()
    assert told(stats, "process")["checks"] >= 10


@pytest.mark.parametrize("watched", ["process", "daemon"], indirect=True)
def test_no_thread_is_started(served):
    served.write("m.py")
    result = served.run(ODD + "told(1); print(len(os.listdir('/proc/self/task')), wrong)" + STATS, served.root)
    assert result.out.splitlines()[0] == "1 []" and told(result.json(), served.by)["checks"]
