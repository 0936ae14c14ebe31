# SPDX-License-Identifier: MIT
"""`ladewerk watch`: the command, and what becomes of its roots while it runs."""
from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from watching import LONG, PREPARE, Daemon, Program, instances, until

pytestmark = pytest.mark.once

PROGRAMS = 150
NUMBERS = {"pid", "directories", "sources", "index_bytes", "armed", "watches", "events", "overflows", "unwatched", "marked", "folds", "bases", "generation",
           "journal_bytes", "journals", "clients", "attached", "turned_away", "rss_kib"}
TIMES = {"first_seconds", "first_cpu_seconds", "fold_seconds", "fold_cpu_seconds", "up_seconds", "events_per_second"}
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place(shell):
    """A root with a package."""
    root = shell.cwd / "place"
    (root / "p").mkdir(parents=True)
    for name in "m.py", "p/__init__.py", "p/a.py":
        (root / name).write_text("value = 0\n")
    return root


@pytest.fixture
def daemon(shell, place):
    """By inotify, which counts what is armed now; tests/ext/test_watching.py has all backends."""
    with Daemon(shell, place, options=("--backend", "inotify")) as daemon:
        yield daemon


def troubles(status):
    return [root["trouble"] for root in status["roots"]]


def knows(status):
    return status["directories"], status["sources"], status["armed"]


def as_a_fresh_one(daemon, root):
    """It knows what a second daemon finds that has just read everything, and that is what there is."""
    tree = [(path, names) for path, _, names in os.walk(root)]
    count = len(tree), sum(name.endswith(".py") for _, names in tree for name in names), len(tree)
    until(lambda: daemon.settle()["armed"] == count[0])
    with Daemon(daemon.shell, root, name="second", options=("--backend", "inotify")) as second:
        assert knows(second.settle()) == count
    # What a delta replaces counts twice; a subtree that is removed makes a new base.
    (root / "gone").mkdir()
    until(lambda: daemon.settle()["armed"] == count[0] + 1)
    (root / "gone").rmdir()
    until(lambda: daemon.settle()["armed"] == count[0])
    assert knows(daemon.settle()) == count


# --- words ---

def test_help(shell):
    done = shell.ladewerk("watch", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in "--backend", "--status", "fanotify", "inotify", "rescan", "LADEWERK_WATCH", "Type=notify", "ListenSequentialPacket=", "max_user_watches":
        assert word in done.stdout
    assert "watch " in shell.ladewerk("--help").stdout


@pytest.mark.parametrize("words, says", [
    ([], "which directories"),
    (["--status", "here"], "takes no ROOT"),
    (["--json", "here"], "--json is for --status"),
    (["--backend", "magic", "here"], "invalid choice"),
    (["--threads", "none", "here"], "--threads"),
    (["--frequently", "here"], "unrecognized"),
])
def test_wrong_usage(shell, words, says):
    (shell.cwd / "here").mkdir()
    done = shell.ladewerk("watch", *words)
    assert done.returncode == 2 and says in done.stderr and not done.stdout


@pytest.mark.parametrize("make, says", [(None, "no such directory"), (Path.touch, "not a directory")])
def test_wrong_root(shell, make, says):
    if make:
        make(shell.cwd / "here")
    done = shell.ladewerk("watch", "here")
    assert done.returncode == 1 and says in done.stderr and "here" in done.stderr


def test_too_many_roots(shell):
    roots = [shell.cwd / f"r{i}" for i in range(257)]
    for root in roots:
        root.mkdir()
    done = shell.ladewerk("watch", *roots, env={"LADEWERK_WATCH": str(shell.root / "socket")}, timeout=20)
    assert done.returncode == 1 and "256" in done.stderr


def test_too_long_roots(shell):
    """What a daemon says to programs is one message."""
    roots = [shell.cwd / f"{i:0200}" / ("r" * 200) for i in range(180)]
    for root in roots:
        root.mkdir(parents=True)
    env = {"LADEWERK_WATCH": str(shell.root / "socket")}
    done = shell.ladewerk("watch", *roots, env=env, timeout=20)
    assert done.returncode == 1 and "too long" in done.stderr
    fit = roots[:64 * 1024 // (len(str(roots[0])) + 32)]
    with Daemon(shell, *fit) as daemon:
        assert [root["path"] for root in daemon.status()["roots"]] == [str(root) for root in fit]
        for root in fit[0], fit[-1]:
            with Program(shell, root, env=daemon.env) as program:
                until(program.is_attached)
                (root / "m.py").write_text("value = 0\n")
                until(lambda: program.ask("m") == {"m": 0} and program.unlooked("m"))


def test_not_wanted(shell, place):
    done = shell.ladewerk("watch", place, env={"LADEWERK_WATCH": "0"})
    assert done.returncode == 1 and "LADEWERK_WATCH=0" in done.stderr


def test_no_place_for_a_socket(shell, place):
    for path in shell.root / "nowhere" / "socket", shell.root / ("x" * 120):
        done = shell.ladewerk("watch", place, env={"LADEWERK_WATCH": str(path)})
        assert done.returncode == 1 and done.stderr.startswith("ladewerk: watch: ") and "LADEWERK_WATCH" in done.stderr, done.stderr


# --- status ---

def test_status_without_a_daemon(shell):
    env = {"LADEWERK_WATCH": str(shell.root / "socket")}
    done = shell.ladewerk("watch", "--status", env=env)
    assert (done.returncode, done.stderr) == (1, "") and "no daemon runs" in done.stdout
    assert shell.json("watch", "--status", status=1, env=env) is None


def test_status(shell, place, daemon):
    status = daemon.settle()
    assert set(status) == {"ready", "roots", "backend", "why", "unwatched_because", "trouble"} | NUMBERS | TIMES
    assert status["roots"] == [{"path": str(place), "trouble": None}]
    assert status["ready"] is True and status["backend"] in ("fanotify", "inotify") and status["backend"] in status["why"]
    assert (status["directories"], status["sources"], status["armed"]) == (2, 3, 2)
    assert status["pid"] == daemon.process.pid and status["rss_kib"] > 100
    assert all(isinstance(status[name], int) and status[name] >= 0 for name in NUMBERS)
    assert all(isinstance(status[name], float) and status[name] >= 0 for name in TIMES)
    (place / "m.py").write_text("value = 1\n")
    later = until(lambda: (s := daemon.status())["events"] > status["events"] and s)
    assert later["generation"] > status["generation"]


def test_status_in_words(shell, place, daemon):
    daemon.settle()
    done = shell.ladewerk("watch", "--status", env=daemon.env)
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines) == ["root", "state", "backend", "index", "events", "generation", "snapshots", "clients", "memory", "process"]
    assert lines["root"] == str(place) and lines["state"] == "up to date" and lines["index"].startswith("2 directories, 3 sources")


def doctor(shell, env, status=0):
    """What it says of the daemon, and of who tells of changes: (topic, status, text)."""
    facts = shell.json("doctor", status=status, env=env)
    return [(f["topic"], f["status"], f["text"]) for f in facts["findings"] if f["topic"] in ("daemon", "watch")]


def test_doctor(shell, place, daemon):
    daemon.settle()
    # It does not wait for an answer any longer than other programs do.
    found = until(lambda: (found := doctor(shell, daemon.env)) and found[0] == ("watch", "ok", "the daemon tells of changes (inotify)") and found)
    assert found[1:] == [("daemon", "ok", f"process {daemon.process.pid} watches 2 directories below {place} (inotify)")]
    shutil.rmtree(place)
    until(lambda: troubles(daemon.status()) != [None])
    assert ("daemon", "problem", f"{place} is not watched: No such file or directory") in doctor(shell, daemon.env, status=1)
    daemon.signal(signal.SIGSTOP)
    assert any(status == "problem" and "end it, and start it again" in text for _, status, text in doctor(shell, daemon.env, status=1))


def test_doctor_without_a_daemon(shell, daemon):
    assert doctor(shell, {"LADEWERK_WATCH": str(shell.root / "nobody")}) == []
    assert [(topic, status) for topic, status, _ in doctor(shell, {"LADEWERK_WATCH": "0"})] == [("daemon", "note")]
    found = doctor(shell, {"LADEWERK_WATCH": "0", "LADEWERK_FRESHNESS": "watch"})
    assert found[0][0] == "watch" and found[0][2].startswith("the program itself")


def test_clients_are_counted(shell, place, daemon):
    with Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        assert daemon.status()["clients"] == 1
    assert until(lambda: daemon.status()["clients"] == 0)
    assert daemon.status()["attached"] == 1


def test_odd_names(shell):
    root = shell.cwd / 'a "b" \\ \t ä'
    root.mkdir()
    (root / "m.py").write_text("value = 0\n")
    with Daemon(shell, root) as daemon, Program(shell, root, env=daemon.env) as program:
        assert daemon.status()["roots"][0]["path"] == str(root)
        until(program.is_attached)
        assert program.ask("m") == {"m": 0}


# --- coming and going ---

def test_second_daemon_is_refused(shell, place, daemon):
    done = shell.ladewerk("watch", place, env=daemon.env)
    assert done.returncode == 2 and "another daemon" in done.stderr and "LADEWERK_WATCH" in done.stderr
    assert daemon.status()["ready"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_in_good_order(shell, place, number):
    daemon = Daemon(shell, place)
    assert daemon.socket.is_socket() and daemon.socket.stat().st_mode & 0o077 == 0
    daemon.signal(number)
    assert daemon.reap() == (0, "")
    assert not daemon.socket.exists()


def test_says_when_it_is_ready(shell, place, tmp_path):
    """systemd's Type=notify, by both kinds of address."""
    for address in str(tmp_path / "notify"), f"\0{tmp_path}/notify":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address)
            listener.settimeout(20)
            with Daemon(shell, place, env={"NOTIFY_SOCKET": address.replace("\0", "@")}):
                assert listener.recv(100) == b"READY=1"
            assert listener.recv(100) == b"STOPPING=1"


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_socket_activation(shell, place):
    """The socket is systemd's: who asks before there is a daemon waits in it, and it stays when the daemon ends."""
    path = shell.root / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(8)
        command = [shell.python, "-c", ACTIVATE, str(listener.fileno())]
        for _ in range(2):
            process = subprocess.Popen([*command, shell.script, "watch", place], env={**shell.env, "LADEWERK_WATCH": str(path)}, pass_fds=[listener.fileno()],
                                       stderr=subprocess.PIPE, text=True)
            assert process.stderr.readline().startswith("ladewerk: watching")
            with Program(shell, place, env={"LADEWERK_WATCH": str(path)}) as program:
                until(program.is_attached)
            process.terminate()
            assert process.wait(20) == 0
            process.stderr.close()
            assert path.is_socket()


def test_socket_of_another_kind(shell, place):
    """As ListenStream= would make it: nobody could connect."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(shell.root / "socket"))
        listener.listen(8)
        done = subprocess.run([shell.python, "-c", ACTIVATE, str(listener.fileno()), shell.script, "watch", place], env=shell.env, pass_fds=[listener.fileno()],
                              capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "ListenSequentialPacket=" in done.stderr


# --- roots ---

def test_root_vanishes_and_comes_back(shell, place, daemon):
    with Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        for n in range(1, 4):
            shutil.rmtree(place)
            assert program.ask("m") == {"m": None}
            until(lambda: troubles(daemon.status()) == ["No such file or directory"])
            place.mkdir()
            (place / "m.py").write_text(f"value = {n}\n")
            assert program.ask("m") == {"m": n}
            until(lambda: troubles(daemon.settle()) == [None])
            assert (daemon.settle()["directories"], daemon.settle()["sources"]) == (1, 1)
            (place / "m.py").write_text(f"value = {n + 10}\n")
            assert program.ask("m") == {"m": n + 10}
        until(program.is_attached)


def test_root_is_moved_away_and_back(shell, place, daemon):
    with Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        for n in range(1, 4):
            place.rename(place.with_name("away"))
            assert program.ask("m", "p.a") == {"m": None, "p.a": None}
            (place.with_name("away") / "m.py").write_text(f"value = {n}\n")
            place.with_name("away").rename(place)
            assert program.ask("m", "p.a") == {"m": n, "p.a": 0}
    until(lambda: troubles(daemon.settle()) == [None])
    as_a_fresh_one(daemon, place)


def test_unreadable(powerless, shell):
    """A directory that may not be read, and a root that may not."""
    root = shell.cwd / "root"
    (root / "p").mkdir(parents=True)
    (root / "m.py").write_text("value = 0\n")
    (root / "p" / "__init__.py").write_text("value = 1\n")
    (root / "p").chmod(0)
    with Daemon(shell, root, prefix=tuple(shell.prefix)) as daemon:
        status = daemon.settle()
        assert status["ready"] and status["unwatched"] == 1 and status["directories"] == 1, status
        with Program(shell, root, prefix=tuple(shell.prefix), env=daemon.env) as program:
            until(program.is_attached)
            assert program("""
try:
    import p
    result = getattr(p, "value", None)
except PermissionError:
    result = "barred"
""") in (None, "barred")
            (root / "p").chmod(0o755)
            assert program.ask("p", "m") == {"p": 1, "m": 0}
            until(program.is_attached)
            root.chmod(0)
            assert program.ask("m") == {"m": None}
        until(lambda: "not permitted" in (troubles(daemon.settle())[0] or ""))
        with Program(shell, root, prefix=tuple(shell.prefix), env={**daemon.env, "LADEWERK_FRESHNESS": "watch"}) as program:
            assert program.ask("m") == {"m": None}
            until(lambda: program.ask("m") and "none of its roots" in (program.daemon()["reason"] or ""))
            root.chmod(0o755)
            assert program.ask("m") == {"m": 0}
            until(lambda: troubles(daemon.settle()) == [None])
            until(program.is_attached)
        with Program(shell, root, prefix=tuple(shell.prefix), env=daemon.env) as program:
            until(program.is_attached)
            assert program.ask("m", "p") == {"m": 0, "p": 1}
    root.chmod(0)
    done = shell.ladewerk("watch", root, env=daemon.env)
    assert done.returncode == 1 and "may not read" in done.stderr
    root.chmod(0o755)


@contextlib.contextmanager
def mounted(kind, source, target, *options):
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", kind, *options, source, target], capture_output=True).returncode:
        pytest.skip(f"needs the right to mount {kind}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", target], check=True)


def is_quiet(daemon):
    """Whether it reads nothing for a while. It does where somebody mounts something, as others may."""
    before = daemon.settle()["folds"]
    time.sleep(2.5)
    return daemon.settle()["folds"] == before


def test_file_system_without_events(shell, place):
    """An overlay: it says so, and programs compare with what is there; what is below its surface is changed unseen by any event."""
    lower, upper, work, merged = (shell.root / name for name in ("lower", "upper", "work2", "merged"))
    for directory in lower, upper, work, merged:
        directory.mkdir()
    (lower / "m.py").write_text("value = 1\n")
    with mounted("overlay", "overlay", merged, "-o", f"lowerdir={lower},upperdir={upper},workdir={work}"):
        with Daemon(shell, merged, place, options=("--backend", "inotify")) as daemon:
            said = daemon.process.stderr.readline()
            assert str(merged) in said and "not every change" in said
            first = daemon.settle()
            assert "not every change" in troubles(first)[0] and troubles(first)[1] is None and first["directories"] == 2
            with Program(shell, merged, place, env=daemon.env) as program:
                until(program.is_attached)
                for n in range(2, 10):
                    (merged / "m.py").write_text(f"value = {n}\n")
                    assert program.ask("m") == {"m": n}
                    (place / "q.py").write_text(f"value = {n}\n")
                    assert program.ask("q") == {"q": n}
            assert any(is_quiet(daemon) for _ in range(10)), "what cannot be watched is not read again and again"


@NEEDS_ROOT
def test_mounted_over(shell, place, daemon, tmp_path):
    with Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        for target in place / "p", place:
            before = {"m": 0, "p.a": 0}
            assert program.ask(*before) == before
            with mounted("tmpfs", "tmpfs", target):
                assert program.ask("p.a") == {"p.a": None}
                (place / "p").mkdir(exist_ok=True)
                (place / "p" / "a.py").write_text("value = 5\n")
                assert program.ask("p.a") == {"p.a": 5}
                until(lambda: daemon.settle()["roots"])
                (place / "p" / "a.py").write_text("value = 6\n")
                assert program.ask("p.a") == {"p.a": 6}
            assert program.ask(*before) == before
            (place / "p" / "a.py").write_text("value = 7\n")
            assert program.ask("p.a") == {"p.a": 7}
            (place / "p" / "a.py").write_text("value = 0\n")
    until(lambda: troubles(daemon.settle()) == [None])
    time.sleep(1.2)
    as_a_fresh_one(daemon, place)


@NEEDS_ROOT
@pytest.mark.parametrize("backend", ["inotify", "fanotify"])
def test_mounted_later(shell, place, tmp_path, backend):
    """Programs that come when something has been mounted in a root rely on what they are told of it."""
    with Daemon(shell, place, options=("--backend", backend)) as daemon:
        before = daemon.settle()["folds"]
        with mounted("tmpfs", "tmpfs", place / "p"):
            (place / "p" / "__init__.py").touch()
            (place / "p" / "a.py").write_text("value = 1\n")
            until(lambda: daemon.settle()["folds"] > before)
            for _ in range(3):  # until its code is in the cache, and is taken without a look
                shell.settle()
                with Program(shell, place, env=daemon.env) as program:
                    until(program.is_attached)
                    assert program.ask("p.a") == {"p.a": 1}
            with Program(shell, place, env=daemon.env) as program:
                until(program.is_attached)
                for n in range(1, 5):
                    (place / "p" / "a.py").write_text(f"value = {n}\n")
                    assert program.ask("p.a") == {"p.a": n}


@NEEDS_ROOT
def test_mounted_over_a_target(shell):
    """On the way to a root behind links: where one of them leads, and where the next one lies."""
    top = shell.cwd / "deploy"
    release(top, 0), release(top, 1)
    (top / "hop").mkdir()
    (top / "hop" / "next").symlink_to("../r0")
    (top / "current").symlink_to("hop/next")
    root = top / "current" / "lib"
    with Daemon(shell, root) as daemon:
        def attached():
            until(lambda: troubles(daemon.settle()) == [None])
            program = Program(shell, root, env=daemon.env)
            until(program.is_attached)
            assert program.ask("m") == {"m": 0}
            return program
        for target in top / "r0", top / "hop":
            with attached() as program, mounted("tmpfs", "tmpfs", target):
                assert program.ask("m") == {"m": None}, target
        with attached() as program, mounted("tmpfs", "tmpfs", top / "hop"):
            daemon.signal(signal.SIGSTOP)
            (top / "hop" / "next").symlink_to("../r1")
            assert program.ask("m") == {"m": 1}
            daemon.signal(signal.SIGCONT)
        # Nobody tells of what is below the mount while it is there; a program that has looked there is told that it went.
        with mounted("tmpfs", "tmpfs", top / "hop"):
            (top / "hop" / "next").symlink_to("../r1")
            until(lambda: troubles(daemon.settle()) == [None])
            with Program(shell, root, env=daemon.env) as program:
                until(program.is_attached)
                assert program.ask("m") == {"m": 1}
                subprocess.run(["umount", top / "hop"], check=True)
                assert program.ask("m") == {"m": 0}
                subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top / "hop"], check=True)
                assert program.ask("m") == {"m": None}


@NEEDS_ROOT
def test_mounted_while_it_answers(shell, place):
    """The daemon has answered, and has not seen yet what was mounted before the answer is taken."""
    with Daemon(shell, place, options=("--backend", "inotify")) as daemon:
        daemon.signal(signal.SIGSTOP)
        with Program(shell, place, env=daemon.env) as program:  # it has asked
            assert not program.is_attached()
            daemon.signal(signal.SIGCONT)
            until(lambda: daemon.status()["attached"] == 1)
            daemon.signal(signal.SIGSTOP)
            with mounted("tmpfs", "tmpfs", place / "p"):
                assert program.ask("p.a") == {"p.a": None}
                daemon.signal(signal.SIGCONT)
        # And if it was mounted before the program asked: then the daemon looks first.
        daemon.signal(signal.SIGSTOP)
        with mounted("tmpfs", "tmpfs", place / "p"), Program(shell, place, env=daemon.env) as program:
            daemon.signal(signal.SIGCONT)
            assert program.ask("p.a") == {"p.a": None}
            until(program.is_attached)
            assert program.ask("p.a") == {"p.a": None}


def release(top, n):
    (top / f"r{n}" / "lib").mkdir(parents=True)
    (top / f"r{n}" / "lib" / "m.py").write_text(f"value = {n}\n")


def test_link_on_the_way(shell):
    """A root behind a link that is turned, as deployments do."""
    top = shell.cwd / "deploy"
    for n in range(6):
        release(top, n)
    (top / "current").symlink_to("r0")
    root = top / "current" / "lib"
    with Daemon(shell, root, options=("--backend", "inotify")) as daemon, Program(shell, root, env=daemon.env) as program:
        until(program.is_attached)
        for n in range(1, 6):
            (top / "next").symlink_to(f"r{n}")
            (top / "next").rename(top / "current")
            assert program.ask("m") == {"m": n}
            until(lambda: daemon.settle()["sources"] == 1)
            (top / f"r{n}" / "lib" / "m.py").write_text(f"value = {n + 100}\n")
            assert program.ask("m") == {"m": n + 100}
        until(program.is_attached)
        until(lambda: troubles(daemon.settle()) == [None])
        as_a_fresh_one(daemon, root)


def test_directories_made_and_removed(shell, place, daemon):
    """What it knows in the end is what there is."""
    dice = random.Random(3)
    for _ in range(20 if LONG else 3):
        for n in range(200):
            path = place.joinpath(*(f"d{dice.randrange(4)}" for _ in range(dice.randrange(1, 5))))
            what = dice.randrange(4)
            if what < 2:
                path.mkdir(parents=True, exist_ok=True)
                (path / f"m{n % 5}.py").write_text(f"value = {n}\n")
            elif what == 2:
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                with contextlib.suppress(OSError):
                    path.rename(place / f"d{dice.randrange(4)}")
        as_a_fresh_one(daemon, place)


# --- limits ---

LIMITED = """
import os, sys
with open("/proc/sys/user/max_inotify_watches", "w") as file:
    file.write(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_no_watches_left(shell, place):
    """What is beyond the limit is compared with what is there, and the remedy is named."""
    for n in range(60):
        (place / f"q{n}").mkdir()
        (place / f"q{n}" / "m.py").write_text("value = 0\n")
    prefix = ("unshare", "-Ur", shell.python, "-c", LIMITED, "40")
    if subprocess.run([*prefix, "/bin/true"], capture_output=True).returncode:
        pytest.skip("user namespaces are not to be had")
    with Daemon(shell, place, prefix=prefix, options=("--backend", "inotify")) as daemon:
        status = daemon.status()
        assert status["unwatched"] >= 20 and "max_user_watches" in status["unwatched_because"] and status["directories"] + status["unwatched"] == 62
        assert "max_user_watches" in daemon.process.stderr.readline()
        assert "max_user_watches" in shell.ladewerk("watch", "--status", env=daemon.env).stdout
        assert any(status == "problem" and "max_user_watches" in text for _, status, text in doctor(shell, daemon.env, status=1))
        with Program(shell, place, env=daemon.env) as program:
            for n in range(1, 4):
                for q in range(60):
                    (place / f"q{q}" / "m.py").write_text(f"value = {n}\n")
                names = [f"q{q}.m" for q in range(60)]
                assert program.ask(*names) == dict.fromkeys(names, n)


def is_same(pid, fd, other, other_fd):
    """Whether these are one open file, kcmp(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall({"x86_64": 312, "aarch64": 272}[os.uname().machine], pid, other, 0, fd, other_fd)
    if result < 0:
        pytest.skip(f"kcmp: {os.strerror(ctypes.get_errno())}")
    return result == 0


MANY = f"""
import ladewerk, os, time
def daemon():
    return next(d["reason"] for d in ladewerk.stats()["watch"] if d["by"] == "daemon")
def child():
    until = time.monotonic() + 60
    while daemon() is not None and time.monotonic() < until:
        changes["ask"](["m"])
        time.sleep(0.05)
    os.write(attached[1], b"a" if daemon() is None else b"-")
    os.read(go[0], 1)
    os.write(fresh[1], b"f" if changes["ask"](["m"]) == {{"m": 1}} else b"-")
attached, go, fresh = os.pipe(), os.pipe(), os.pipe()
pids = []
for _ in range({PROGRAMS}):
    pids.append(os.fork())
    if pids[-1] == 0:
        try:
            child()
        finally:
            os._exit(0)
result = b"".join(os.read(attached[0], 1) for _ in range({PROGRAMS})).decode(), pids
"""


def test_many_programs(shell, place, daemon):
    """
    150 at once, each with a connection of its own. None has an inotify instance: what they have is the daemon's. So every other program can still watch files, a write has one
    watcher, however many programs there are, and none of them takes watches down when it ends.
    """
    with Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        attached, pids = program(MANY)
        assert attached == "a" * PROGRAMS
        assert daemon.status()["clients"] == PROGRAMS + 1
        mine, = instances(daemon.process.pid)
        for pid in pids:
            theirs, = instances(pid)
            assert is_same(daemon.process.pid, mine, pid, theirs)
        (place / "m.py").write_text("value = 1\n")
        assert program(f"os.write(go[1], bytes({PROGRAMS})); result = b''.join(os.read(fresh[0], 1) for _ in range({PROGRAMS})).decode()") == "f" * PROGRAMS
        until(lambda: daemon.status()["clients"] == 1)
    with Program(shell, place, env={"LADEWERK_WATCH": "0", "LADEWERK_FRESHNESS": "watch"}) as control:
        assert control.ask("m") == {"m": 1}
        own, = instances(control.process.pid)
        assert not is_same(daemon.process.pid, mine, control.process.pid, own)


INSTANCES = 20  # that a user may have, here

LIMITED_INSTANCES = """
import os, sys
with open("/proc/sys/user/max_inotify_instances", "w") as file:
    file.write(sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
"""

WATCHES_ITSELF = PREPARE + """
import json, ladewerk
changes["ask"](["m"])
print(json.dumps(next(w for w in ladewerk.stats()["watch"] if w["by"] == "process")), flush=True)
sys.stdin.readline()
print(changes["ask"](["m"])["m"], flush=True)
"""

CROWD = f"""
import ctypes, json, os, subprocess, sys
libc = ctypes.CDLL(None)
def take():
    return [fd for fd in (libc.inotify_init1(os.O_CLOEXEC) for _ in range({INSTANCES})) if fd >= 0]
def give_back(taken):
    for fd in taken:
        os.close(fd)
    return len(taken)
def free():
    return give_back(take())
def start():
    return subprocess.Popen([sys.executable, "-P", "-c", {WATCHES_ITSELF!r}], env={{**os.environ, "LADEWERK_FRESHNESS": "watch"}}, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
def reason(program):
    return json.loads(program.stdout.readline())["reason"]
"""


@pytest.fixture
def limited(shell, place):
    """A program in a user namespace with a limit of its own."""
    prefix = ("unshare", "-Ur", shell.python, "-c", LIMITED_INSTANCES, INSTANCES)
    if subprocess.run([*map(str, prefix), "/bin/true"], capture_output=True).returncode:
        pytest.skip("user namespaces are not to be had")
    with Program(shell, place, prefix=prefix, env={"LADEWERK_WATCH": "0"}) as program:
        program(CROWD)
        if program("result = free()") < INSTANCES:
            pytest.skip("other programs of this user have taken the instances")
        yield program


def test_many_programs_without_a_daemon(place, limited):
    """150 that watch for themselves take half of the user's instances: the others are for editors and the like, and who finds none compares."""
    left, reasons = limited(f"crowd = [start() for _ in range({PROGRAMS})]; reasons = [reason(p) for p in crowd]; result = free(), reasons")
    refused = [reason for reason in reasons if reason and "max_user_instances" in reason and "`ladewerk watch`" in reason]
    assert (left, len(refused)) == (INSTANCES // 2, PROGRAMS - INSTANCES // 2)
    (place / "m.py").write_text("value = 1\n")
    assert limited("result = [p.communicate('\\n')[0] for p in crowd]") == ["1\n"] * PROGRAMS
    assert limited("result = free()") == INSTANCES


def test_who_gets_no_instance_takes_no_share(place, limited):
    """All instances are taken, by others: programs that find none do not keep those from watching who come when there are some again."""
    assert limited("others = take(); crowd = []; result = len(others), free()") == [INSTANCES, 0]
    # One after the other: each has a share for a moment.
    reasons = [limited("crowd.append(start()); result = reason(crowd[-1])") for _ in range(INSTANCES)]
    assert all("end programs that watch files" in reason for reason in reasons), reasons
    limited("give_back(others)")
    assert "max_user_instances" not in (limited("late = start(); crowd.append(late); result = reason(late)") or "")
    assert limited("result = [p.communicate('\\n')[0] for p in crowd]") == ["0\n"] * (INSTANCES + 1)


@pytest.mark.parametrize("backend", ["inotify", "fanotify"])
def test_storm(shell, place, backend):
    """50,000 files are made as fast as can be: none is missed, neither now nor in the end."""
    if backend == "fanotify" and not LONG:
        pytest.skip("takes its time: LADEWERK_LONG=1, as root")
    paths = [place / f"d{n % 50}" / f"m{n}.py" for n in range(50_000)]
    with Daemon(shell, place, options=("--backend", backend)) as daemon, Program(shell, place, env=daemon.env) as program:
        until(program.is_attached)
        for n in range(50):
            (place / f"d{n}").mkdir()
        for n, path in enumerate(paths):
            path.write_bytes(b"value = %d\n" % n)
            if n % 10_000 == 9_999:
                assert program.ask(f"d{n % 50}.m{n}") == {f"d{n % 50}.m{n}": n}
        some = {f"d{n % 50}.m{n}": n for n in range(0, 50_000, 501)}
        assert program.ask(*some) == some
        # What a delta replaces counts twice: all are in it, and in the end, when a subtree has gone, there is one base.
        (place / "gone").mkdir()
        until(lambda: daemon.settle()["directories"] >= 53)
        (place / "gone").rmdir()
        until(lambda: (daemon.settle()["directories"], daemon.status()["sources"]) == (52, 50_003), 60)
        with Program(shell, place, env=daemon.env) as late:
            until(late.is_attached)
            assert late.ask(*some) == some


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_more_programs_than_descriptors(shell, place):
    """Who is too much is turned away, and costs the daemon nothing from then on."""
    with contextlib.ExitStack() as crowd, Daemon(shell, place, prefix=("sh", "-c", 'ulimit -n 50; exec "$@"', "sh")) as daemon:
        for _ in range(60):
            peer = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            peer.connect(str(daemon.socket))
        pid = daemon.process.pid
        until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= 50)
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - before < 0.3
        done = shell.ladewerk("watch", "--status", env=daemon.env)
        assert done.returncode == 1 and "ulimit -n" in done.stderr
        # One that insists; others, who were turned away at their start, do not ask again.
        with Program(shell, place, env={**daemon.env, "LADEWERK_FRESHNESS": "watch"}) as program:
            (place / "m.py").write_text("value = 1\n")
            assert program.ask("m") == {"m": 1}
            crowd.close()
            until(program.is_attached)
        assert daemon.status()["turned_away"] >= 10
        assert "ulimit -n" in shell.ladewerk("watch", "--status", env=daemon.env).stdout
        assert any("ulimit -n" in f["text"] for f in shell.json("doctor", status=1, env=daemon.env)["findings"] if f["status"] == "problem")


# --- strangers ---

@NEEDS_ROOT
def test_another_user_is_refused(shell, place, daemon):
    """Even one who may connect."""
    setpriv = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    if subprocess.run([*setpriv, "true"], capture_output=True).returncode:
        pytest.skip("cannot become another user")
    daemon.socket.chmod(0o777)
    open_up(daemon.socket)
    ask = """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
try:
    s.send(b"LWATTACH" + b"\\1\\0\\0\\0\\1\\0\\0\\0" + bytes(48))
    print(len(s.recv(65536)))
except OSError as error:
    print(0)
"""
    done = subprocess.run([*setpriv, "/usr/bin/python3", "-c", ask, daemon.socket], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
    mine = subprocess.run(["/usr/bin/python3", "-c", ask, daemon.socket], capture_output=True, text=True)
    assert int(mine.stdout) > 100, "control"
    assert daemon.status()["attached"] == 0


def open_up(path):
    """So that another user can come to PATH."""
    for directory in path.parents:
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & 1:
            directory.chmod(directory.stat().st_mode | 0o011)


@NEEDS_ROOT
def test_another_mount_namespace_is_not_served(shell, place, daemon):
    """The same paths may be other files there."""
    unshare = ("unshare", "-m")
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not to be had")
    with Program(shell, place, prefix=unshare, env={**daemon.env, "LADEWERK_FRESHNESS": "watch"}) as program:
        program.ask("m")
        assert not program.is_attached()
        for n in range(1, 4):
            (place / "m.py").write_text(f"value = {n}\n")
            assert program.ask("m") == {"m": n}
    with Program(shell, place, env={**daemon.env, "LADEWERK_FRESHNESS": "watch"}) as program:
        until(program.is_attached)
    assert daemon.status()["attached"] == 1


def test_other_backend(shell, place):
    """With `rescan` nothing is promised."""
    with Daemon(shell, place, options=("--backend", "rescan")) as daemon:
        status = daemon.settle()
        assert status["backend"] == "rescan" and troubles(status) != [None]
        with Program(shell, place, env=daemon.env) as program:
            for n in range(1, 4):
                (place / "m.py").write_text(f"value = {n}\n")
                assert program.ask("m") == {"m": n}
            assert not any(w["by"] == "daemon" and w["reason"] is None for w in program("import ladewerk; result = ladewerk.stats()['watch']"))
