# SPDX-License-Identifier: MIT
"""The daemon is killed, stopped, overwhelmed and lost at any moment: a program never waits for it, is never told what no longer holds, and finds it again."""
from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time

import pytest

from watching import LONG, PREPARE, Daemon, Program, instances, until

pytestmark = pytest.mark.once

KILLS = 500 if LONG else 20


@pytest.fixture
def place(shell):
    """A root with a module."""
    root = shell.cwd / "place"
    root.mkdir()
    (root / "m.py").write_text("value = 0\n")
    return root


@pytest.fixture
def daemon(shell, place):
    with Daemon(shell, place) as daemon:
        yield daemon


@pytest.fixture
def program(shell, place, daemon):
    with Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        yield program


def write(place, n):
    (place / "m.py").write_text(f"value = {n}\n")


def has(program, n):
    """The module as it is now, and at once."""
    begun = time.monotonic()
    found = program.ask("m")
    assert found == {"m": n} and time.monotonic() - begun < 10, found  # it does not wait for a daemon; others may keep it from running


# --- kill -9 ---

CHANGING = PREPARE + """
import json, ladewerk, threading, time
change = changes["CHANGES"][sys.argv[1]](sys.argv[2])
sys.path.insert(0, str(change.path))
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
def daemon():
    return next((w for w in ladewerk.stats()["watch"] if w["by"] == "daemon"), {"reason": "none", "checks": 0, "distrusted": 0})
def round(n):
    change.change(n)
    expected = change.expect(n)
    found = changes["ask"](expected)
    if found != expected:
        stale.append((n, expected, found))
    attached.append(daemon()["reason"] is None)
def until_attached():
    until = time.monotonic() + 30
    while not attached[-1] and time.monotonic() < until:
        time.sleep(0.01)
        round(len(attached) + 1)
stale, attached = [], []
round(1)
until_attached()
print("ready", flush=True)
while not ended.is_set():
    round(len(attached) + 1)
until_attached()
returns = sum(now and not before for before, now in zip(attached, attached[1:]))
print(json.dumps({"rounds": len(attached), "stale": stale[:3], "back": attached[-1], "returns": returns, **daemon()}))
"""
KINDS = ["Write", "RenameOver", "Create", "ReplacePackage", "Flip", "Ancestor"]


def test_killed_at_any_moment(shell):
    """Programs change modules and import them all the time; none may ever miss a change."""
    top = shell.cwd / "top"
    script = shell.write("changing.py", CHANGING)
    for kind in KINDS:
        (top / kind).mkdir(parents=True)
    with contextlib.ExitStack() as ending, Daemon(shell, top) as daemon:
        programs = [ending.enter_context(changing(shell, script, kind, top / kind, daemon)) for kind in KINDS]
        for process in programs:
            assert process.stdout.readline() == "ready\n"
        kill_and_start(daemon)
        for process in programs:
            process.stdin.close()
        for kind, process in zip(KINDS, programs):
            found = json.loads(process.stdout.read().splitlines()[-1])
            assert process.wait(60) == 0
            assert not found["stale"] and found["rounds"] > KILLS, (kind, found)
            assert found["back"] and found["returns"] >= 1 and found["checks"] > found["distrusted"], json.dumps([kind, found])
        daemon.kill()


def kill_and_start(daemon):
    dice = random.Random(1)
    daemon.directly()
    for _ in range(KILLS):
        time.sleep(dice.uniform(0, 0.1))
        daemon.kill()
        time.sleep(dice.choice([0, 0, 0.02]))
        daemon.start(wait=dice.random() < 0.7)


@contextlib.contextmanager
def changing(shell, script, kind, place, daemon):
    """The program above. It does not outlive the test, however that ends."""
    process = subprocess.Popen([shell.script, "run", script, kind, place], env={**shell.env, **daemon.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in process.stdin, process.stdout:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def test_finds_it_again(shell, place, daemon, program):
    for n in range(1, 4):
        daemon.kill()
        write(place, n)
        has(program, n)
        assert program.daemon()["reason"]
        write(place, n + 10)  # nobody is there to see it
        daemon.start()
        has(program, n + 10)
        until(program.is_attached)
        write(place, n + 20)
        has(program, n + 20)


def test_ended_and_started_again(shell, place, daemon, program):
    """The same with a daemon that ends as it should."""
    daemon.close()
    write(place, 1)
    has(program, 1)
    daemon.start()
    until(program.is_attached)
    write(place, 2)
    has(program, 2)


def test_dead_daemons_socket(shell, place, daemon, program):
    daemon.kill()
    assert daemon.socket.is_socket()
    with Program(shell, place, env=daemon.env) as late:
        has(late, 0)
    assert shell.ladewerk("watch", "--status", env=daemon.env).returncode == 1
    daemon.start()  # in its place
    until(program.is_attached)


def test_socket_removed(shell, place, daemon, program):
    """Who is attached stays so; who comes later finds nobody, and then the next daemon."""
    daemon.socket.unlink()
    write(place, 1)
    has(program, 1)
    assert program.is_attached()
    with Program(shell, place, env=daemon.env) as late:
        has(late, 1)
    daemon.kill()
    daemon.start()
    until(program.is_attached)


def test_somebody_else_listens(shell, place, daemon, program):
    """One that answers nothing, and one that answers nonsense."""
    daemon.kill()
    daemon.socket.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(str(daemon.socket))
        mute.listen(8)
        write(place, 1)
        for n in range(2, 5):
            has(program, n - 1)
            with Program(shell, place, env=daemon.env) as late:
                has(late, n - 1)
            write(place, n)
        mute.setblocking(False)
        answered = 0
        for n in range(10, 20):
            with contextlib.suppress(BlockingIOError, BrokenPipeError), mute.accept()[0] as peer:  # some of them have ended
                peer.send(b"LWATTACH" * 100)
                answered += 1
                time.sleep(0.15)
            write(place, n)
            has(program, n)
            assert not program.is_attached()
        assert answered


# --- stopped and overwhelmed ---

def test_stopped(shell, place, daemon, program):
    daemon.signal(signal.SIGSTOP)
    for n in range(1, 20):
        write(place, n)
        has(program, n)
    with Program(shell, place, env=daemon.env) as late:  # it has asked, and there is no answer
        has(late, 19)
        write(place, 20)
        has(late, 20)
        daemon.signal(signal.SIGCONT)
        until(late.is_attached)
        write(place, 21)
        has(late, 21)
        has(program, 21)


def test_queue_overflows(shell, place, daemon, program):
    """More events than it takes, while nobody reads them."""
    limit = int(open("/proc/sys/fs/inotify/max_queued_events").read())
    daemon.signal(signal.SIGSTOP)
    files = [(place / name).open("wb", buffering=0) for name in ("a", "b")]
    for i in range(limit + 100):
        files[i % 2].write(b"#")
    write(place, 1)
    (place / "new.py").write_text("value = 1\n")
    daemon.signal(signal.SIGCONT)
    has(program, 1)
    assert program.ask("new") == {"new": 1}
    status = daemon.settle()
    assert status["overflows"] == 1 or status["backend"] != "inotify"
    if status["overflows"]:
        assert any("max_queued_events" in f["text"] for f in shell.json("doctor", env=daemon.env)["findings"] if f["topic"] == "daemon")
    until(program.is_attached)
    until(lambda: program.unlooked("new"))
    write(place, 2)
    has(program, 2)


def test_journal_fills(shell, place, daemon, program):
    """More is told than it has room for: a megabyte, of directories with long paths that go."""
    far = place.joinpath(*["d" * 200] * 15)
    for n in range(500):
        (far / str(n)).mkdir(parents=True)
    before = daemon.settle()["journals"]
    until(program.is_attached)
    for n in range(500):
        (far / str(n)).rmdir()
        if n % 100 == 99:
            write(place, n)
            has(program, n)
    after = daemon.settle()
    assert after["journals"] > before and after["overflows"] == 0
    until(program.is_attached)
    for n in range(5):
        write(place, n)
        has(program, n)


# --- what programs do with what they have ---

FORK = """
import os, json
def told(expected):
    found = changes["ask"](["m"])["m"]
    return None if found == expected else (expected, found)
def write(n):
    with open(sys.argv[1] if len(sys.argv) > 1 else place, "w") as file:
        file.write(f"value = {n}\\n")
place = %r
wrong = []
for n in range(100, 115):
    write(n)
    wrong.append(told(n))
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = [told(n)]
        for i in range(3):
            write(n * 10 + i)
            mine.append(told(n * 10 + i))
        os.write(w, json.dumps(mine).encode())
        os._exit(0)
    os.close(w)
    with open(r) as file:
        wrong += json.loads(file.read())
    os.waitpid(pid, 0)
    wrong.append(told(n * 10 + 2))
result = [w for w in wrong if w]
"""


def test_forked(shell, place, daemon, program):
    assert program(FORK % str(place / "m.py")) == []
    assert program.is_attached()
    # The children's connections have gone with them, and the parent's has not.
    assert until(lambda: daemon.status()["clients"] == 1)


def test_child_attaches_itself(shell, place, daemon, program):
    code = """
import os, time, ladewerk, json
r, w = os.pipe()
pid = os.fork()
if pid == 0:
    until = time.monotonic() + 5
    reason = ""
    while reason is not None and time.monotonic() < until:
        changes["ask"](["m"])
        reason = [d["reason"] for d in ladewerk.stats()["watch"] if d["by"] == "daemon"][0]
        time.sleep(0.02)
    os.write(w, json.dumps(reason).encode())
    os._exit(0)
os.close(w)
with open(r) as file:
    result = json.loads(file.read())
os.waitpid(pid, 0)
"""
    assert program(code) is None
    assert program.is_attached()


def test_descriptors_closed_and_used_again(shell, place, daemon, program):
    """As daemonisers do it. Nobody's descriptors are touched: neither ours by chance, nor those that have our numbers now."""
    code = f"""
import os, socket
os.closerange(3, 10000)
pairs = [socket.socketpair() for _ in range(10)]
pipes = [os.pipe() for _ in range(10)]
numbers = sorted(fd for pipe in pipes for fd in pipe) + sorted(s.fileno() for pair in pairs for s in pair)
before = [os.fstat(fd)[:2] for fd in numbers]
wrong = []
for n in range(50):
    with open({str(place / 'm.py')!r}, "w") as file:
        file.write(f"value = {{n}}\\n")
    found = changes["ask"](["m"])["m"]
    if found != n:
        wrong.append((n, found))
for (a, b), (r, w) in zip(pairs, pipes):
    a.send(b"x"); os.write(w, b"y")
    assert b.recv(1) == b"x" and os.read(r, 1) == b"y"
result = [wrong, before == [os.fstat(fd)[:2] for fd in numbers]]
"""
    assert program(code) == [[], True]
    until(program.is_attached)
    write(place, 99)
    has(program, 99)


# A busy daemon may answer later.
ATTACHES = """
import importlib, ladewerk, os, sys, time
def attaches():
    until = time.monotonic() + 30
    while [d["reason"] for d in ladewerk.stats()["watch"] if d["by"] == "daemon"] != [None] and time.monotonic() < until:
        time.sleep(0.01)
        try:
            importlib.import_module("no_such_module")
        except ImportError:
            pass
    return time.monotonic() < until
"""


@pytest.mark.parametrize("off", range(4))
def test_descriptors_closed_and_used_by_ourselves(shell, place, daemon, off):
    """The program watches as well: what it opens to attach again may have the numbers of what it watched by."""
    (shell.cwd / "elsewhere").mkdir()
    other = shell.cwd / "elsewhere" / "other.py"
    other.write_text("value = 0\n")
    with Program(shell, place, other.parent, env={**daemon.env, "LADEWERK_FRESHNESS": "watch"}) as program:
        until(program.is_attached)
        assert program.ask("m", "other") == {"m": 0, "other": 0}
        held = max(instances(program.process.pid)) - 3 - off  # so that the next to be opened, or one soon after, has the number of the own watch
        time.sleep(0.3)  # who has lost the daemon just after it was found waits before it asks again
        program(f"import os; os.closerange(3, 10000); held = [os.open('/', os.O_RDONLY) for _ in range({held})]")
        for n in range(1, 30):
            write(place, n)
            other.write_text(f"value = {n}\n")
            assert program.ask("m", "other") == {"m": n, "other": n}
        until(program.is_attached)
        assert program(f"result = [os.fstat(fd).st_ino for fd in held]") == [os.stat("/").st_ino] * held
        watch = program("import ladewerk; result = ladewerk.stats()['watch']")
        assert ["was closed by the program" in (w["reason"] or "") for w in watch if w["by"] == "process"] == [True]
        # Nobody has taken from the daemon's queue what is the daemon's.
        with Program(shell, place, env=daemon.env) as witness:
            until(witness.is_attached)
            for n in range(30, 60):
                assert program.ask("m") == {"m": n - 1} and witness.ask("m") == {"m": n - 1}
                write(place, n)
                assert program.ask("m") == {"m": n} and witness.ask("m") == {"m": n}


def test_exec(shell, place, daemon):
    """What is executed inherits nothing. (It runs without Ladewerk, whose own descriptors would be taken for inherited ones.)"""
    code = ATTACHES + """

LIST = '''
import os
for fd in os.listdir("/proc/self/fd"):
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if int(fd) > 2 and not name.startswith("/proc/"):
        print(name)
'''
assert attaches()
print("attached:", flush=True)
exec(LIST)
print("executed:", flush=True)
sys.stdout.flush()
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", LIST])
"""
    done = shell.ladewerk("run", shell.write("execs.py", code), env=daemon.env)
    assert done.returncode == 0, done.stderr
    attached, executed = done.stdout.split("executed:\n")
    assert "inotify" in attached or "fanotify" in attached
    assert executed == ""


def test_exec_attaches_itself(shell, place, daemon):
    code = ATTACHES + """
assert attaches()
if sys.argv[1:] != ["again"]:
    os.execv(sys.executable, [sys.executable, sys.argv[0], "again"])
print("again")
"""
    done = shell.ladewerk("run", shell.write("execs.py", code), env=daemon.env)
    assert (done.returncode, done.stdout) == (0, "again\n"), done.stderr
