# SPDX-License-Identifier: MIT
"""`ladewerk run --reload`: no change is lost, and a restart is a start."""
from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from again import PATIENCE, Again, is_alive, save, until
from watching import LONG
from ladewerk._rerun import entry_of
from ladewerk._rerun_watch import Looks, Places

FACTS = """\
import sys
there = set(sys.modules)
import os, json, random, signal, threading
FACTS = {
    "argv": sys.argv, "path": sys.path, "orig": sys.orig_argv, "flags": repr(sys.flags), "xoptions": sys._xoptions, "name": __name__, "file": globals().get("__file__"),
    "package": __package__, "spec": repr(__spec__).partition(" object at ")[::2][0] + repr(getattr(__spec__, "origin", None)), "main": sys.modules["__main__"].__dict__ is globals(), "names": sorted(globals()), "depth": len(sys._current_frames()),
    "cwd": os.getcwd(), "frame": str(sys._getframe().f_back and sys._getframe().f_back.f_code.co_name), "threads": len(os.listdir("/proc/self/task")),
    "signals": [str(signal.getsignal(n)) for n in signal.valid_signals()], "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "env": {k: v for k, v in os.environ.items() if k not in ("LADEWERK", "LADEWERK_LAZY", "_")}, "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) < 100), "children": os.path.exists("/proc/self/children"),
    "main_thread": threading.current_thread() is threading.main_thread(), "native": threading.main_thread().native_id == os.getpid(), "excepthook": sys.excepthook is sys.__excepthook__,
    "builtins": [hasattr(__import__("builtins"), name) for name in ("exit", "quit", "copyright")], "warnings": __import__("warnings").filters.__repr__(),
}
"""
APP = FACTS + """\
import helper
import good
print("start", json.dumps({"V": helper.V, "good": good.V, "warm": "good" in there, "facts": FACTS, "pid": os.getpid(), "random": random.random()}), flush=True)
if "once" not in sys.argv:
    signal.pause()
"""


@pytest.fixture
def place(shell):
    """A program, and a site-packages of its own."""
    shell.write("app.py", APP)
    shell.write("helper.py", "V = 0\n")
    shell.write("package/__init__.py")
    shell.write("package/__main__.py", APP)
    (shell.root / "site-packages").mkdir()
    (shell.root / "site-packages/good.py").write_text("V = 'good'\n")
    shell.env["PYTHONPATH"] = str(shell.root / "site-packages")
    shell.env["PYTHONDONTWRITEBYTECODE"] = "1"
    return shell


def versions():
    number = 0
    while True:
        number += 1
        yield number


def saver(again, name="helper.py"):
    """Saves one version after the other."""
    numbers = versions()
    return lambda: again.save(name, f"V = {next(numbers)}\n")


# --- words ---

def test_help_names_it(shell):
    said = shell.ladewerk("run", "--help").stdout
    for word in "--reload[=MODE]", "--reload-root", "--quiet", "ctrl-C", "SIGKILL":
        assert word in said


@pytest.mark.parametrize("words, says", [
    (["--reload"], "nothing to run"), (["--reload=often", "app.py"], "--reload takes restart or live"), (["--reload-root", "nowhere", "--reload", "app.py"], "takes a directory"),
    (["--reload-root", ".", "app.py"], "are for --reload"), (["--quiet", "app.py"], "are for --reload"), (["--reload", "--report", "app.py"], "one start"),
    (["--reload", "-"], "standard input"), (["--reload", "-S", "app.py"], "site"), (["--reload", "-O"], "needs a script"),
])
def test_wrong_words(shell, words, says):
    done = shell.ladewerk("run", *words)
    assert done.returncode == 2 and says in done.stderr and done.stderr.startswith("ladewerk: run: ") and done.stderr.count("\n") == 1


def test_entry():
    for words, entry in {
        ("app.py", "-m"): ("script", "app.py"), ("-Om", "shop", "x"): ("m", "shop"), ("-X", "dev", "-Werror", "-W", "x", "a"): ("script", "a"), ("-cpass",): ("c", "pass"),
        ("--check-hash-based-pycs", "always", "a"): ("script", "a"), ("-Xm", "b"): ("script", "b"),
    }.items():
        assert entry_of(list(words)) == entry


# --- a restart is a start ---

@pytest.mark.parametrize("words", [["app.py", "a", "-m"], ["-O", "-X", "answer=42", "-W", "error::UserWarning", "-m", "package", "-x"], ["-c", APP, "b"]], ids=["script", "module", "code"])
def test_a_restart_is_a_start(place, words):
    stock = json.loads(place.stock(*words, "once").stdout.partition("start ")[2])
    with Again(place, "--reload", *words, "once") as again:
        first = again.start()
        again.line("ladewerk: the program has ended (exit status 0); waiting for a change")
        warm = again.until(lambda said: said["warm"], saver(again))
    assert not first["warm"] and not stock["warm"]  # the control: without a template there is nothing
    for said in first, warm:
        assert said["facts"] == stock["facts"]
    assert warm["V"] > 0 and warm["random"] != first["random"] and warm["pid"] != first["pid"]


def test_it_ends_as_the_program_does(place):
    place.write("app.py", "import os, signal, sys, json, time\n"
                          "signal.signal(signal.SIGTERM, lambda n, f: sys.exit(7))\nsignal.signal(signal.SIGUSR1, lambda n, f: os.write(1, b'told\\n'))\n"
                          "signal.signal(signal.SIGHUP, lambda n, f: os.write(1, b'hup\\n'))\n"
                          "print('start', json.dumps({}), flush=True)\nwhile True: time.sleep(0.02)\n")
    with Again(place, "--reload", "app.py") as again:
        again.start()
        for number, says in (signal.SIGUSR1, "told"), (signal.SIGHUP, "hup"):  # and it goes on
            again.process.send_signal(number)
            again.line(says)
        assert again.end() == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_death_by_signal(place, number):
    with Again(place, "--reload", "app.py") as again:
        pid = again.start()["pid"]
        assert again.end(number) == -number
        assert not is_alive(pid)


def test_nobody_is_left_when_the_supervisor_is_killed(place):
    with Again(place, "--reload", "app.py") as again:
        pid = again.start()["pid"]
        assert again.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not is_alive(pid))
        while again.lines.get(timeout=PATIENCE) is not None:  # whoever had the pipe is gone
            pass


KILLS_ITS_GROUP = """\
import json, os, signal, subprocess, sys
import helper
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print("start", json.dumps({"V": helper.V, "child": child.pid, "group": os.getpgrp(), "its": os.getpgid(os.getppid())}), flush=True)
if helper.V == 1:
    os.killpg(0, signal.SIGKILL)
signal.pause()
"""


def keeper(supervisor, group):
    """The child of SUPERVISOR in GROUP."""
    with open(f"/proc/{supervisor}/task/{supervisor}/children") as file:
        return next((pid for pid in map(int, file.read().split()) if is_alive(pid) and os.getpgid(pid) == group), None)


def test_a_program_that_kills_its_own_group(place):
    """And the keeper with it. The next one has a group again, and ends with its children."""
    place.write("app.py", KILLS_ITS_GROUP)
    with Again(place, "--reload", "app.py") as again:
        first = again.start()
        os.kill(first["group"], signal.SIGKILL)  # the keeper alone: the group goes on to be that of the program
        until(lambda: keeper(again.process.pid, first["group"]) not in (None, first["group"]))
        again.save("helper.py", "V = 1\n")
        assert again.start()["group"] == first["group"] and not is_alive(first["child"])
        again.line("ladewerk: the program has ended (SIGKILL); waiting for a change")
        again.save("helper.py", "V = 2\n")
        second = again.start()
        assert second["group"] != second["its"]  # that of the supervisor
        again.save("helper.py", "V = 3\n")
        third = again.start()
        assert third["group"] == second["group"] and not is_alive(second["child"])
        assert again.end() == -signal.SIGTERM and not is_alive(third["child"])


CHILDREN = """\
import os, sys, json, signal, socket, subprocess
import helper
server = socket.create_server(("127.0.0.1", helper.PORT), reuse_port=False)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.SIG_%s); print('ready', flush=True); signal.pause(); signal.pause()"], stdout=subprocess.PIPE)
child.stdout.readline()
print("start", json.dumps({"child": child.pid, "port": server.getsockname()[1], "V": helper.V}), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("way", ["DFL", "IGN"])
def test_children_end_and_the_port_is_free(place, way):
    place.write("app.py", CHILDREN % way)
    place.write("helper.py", "V = 0\nPORT = 0\n")
    with Again(place, "--reload", "app.py", patch="rerun.PATIENCE = 1.0" if way == "IGN" else "") as again:
        first = again.start()
        again.save("helper.py", f"V = 1\nPORT = {first['port']}\n")
        if way == "IGN":
            again.line("ladewerk: not ended 1 s after SIGTERM: killed")
        second = again.start()
        assert second["port"] == first["port"] and second["child"] != first["child"] and not is_alive(first["child"])
        again.end()
        assert not is_alive(second["child"])


# --- the terminal ---

class Terminal:
    """COMMAND in a session of its own, with a terminal."""

    LOGIN = "import os, sys; os.login_tty(os.open(sys.argv[1], os.O_RDWR)); os.execv(sys.argv[2], sys.argv[2:])"

    def __init__(self, shell, *command):
        self.fd, other = pty.openpty()
        self.process = subprocess.Popen([str(shell.python), "-c", self.LOGIN, os.ttyname(other), *map(str, command)], cwd=shell.cwd, env={**shell.env, "PS1": "SH> ", "TERM": "dumb"})
        self.said, self.other = "", other

    def type(self, text):
        os.write(self.fd, text.encode())

    def read(self, wanted):
        end = time.monotonic() + PATIENCE
        while wanted not in self.said:
            assert select.select([self.fd], [], [], max(0.0, end - time.monotonic()))[0], self.said
            try:
                self.said += os.read(self.fd, 10000).decode()
            except OSError:
                break
        assert wanted in self.said, self.said
        self.said = self.said.partition(wanted)[2]

    def wait(self):
        os.close(self.other)
        try:
            while os.read(self.fd, 10000):
                pass
        except OSError:
            pass
        os.close(self.fd)
        return self.process.wait(PATIENCE)


@pytest.mark.parametrize("ends, status", [("raise", -signal.SIGINT), ("sys.exit(1)", 1)], ids=["interrupted", "caught"])
def test_the_terminal_is_the_programs(place, ends, status):
    place.write("app.py", f"import os, sys, time, helper\nassert os.tcgetpgrp(0) == os.getpgrp() and os.isatty(0)\ntry:\n    print('got', input('? '), helper.V, flush=True)\n    while True: time.sleep(0.02)\n"
                          f"except KeyboardInterrupt:\n    print('interrupted', flush=True)\n    {ends}\n")
    terminal = Terminal(place, place.script, "run", "--reload", "app.py")
    terminal.read("? ")
    terminal.type("one\n")
    terminal.read("got one 0")
    save(place, "helper.py", "V = 1\n")
    terminal.read("restarting: helper.py")
    terminal.read("? ")
    terminal.type("two\n")
    terminal.read("got two 1")
    terminal.type("\x03")
    terminal.read("interrupted")
    assert terminal.wait() == status


# What it does at ctrl-C: it saves, and then answers SIGUSR1, ends at SIGUSR2.
INTERRUPTED = """
import os, signal, sys, time, helper
def saved():
    with open("helper.tmp", "w") as file: file.write("V = 1\\n")
    os.rename("helper.tmp", "helper.py")
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"told"))
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(0))
try:
    print("up", helper.V, flush=True)
    while True: time.sleep(0.01)
except KeyboardInterrupt:
    saved()
    print("interrupted", flush=True)
    while True: time.sleep(0.01)
"""
SUPERVISOR = "from ladewerk import _rerun; %s; _rerun.main(['app.py'], roots=[], live=False, quiet=False)"
PATIENT, GOES_ON = "_rerun.PATIENCE = 600", "_rerun.PATIENCE = 1"
CONTROL = "_rerun.Supervisor._interrupted = property(lambda self: 0, lambda self, value: None)"  # it does not know when


def interrupted(place, variant):
    """A program that saves something at ctrl-C."""
    place.write("app.py", INTERRUPTED)
    terminal = Terminal(place, place.python, "-c", SUPERVISOR % variant)
    terminal.read("up 0")
    terminal.type("\x03")
    return terminal


def test_a_save_after_ctrl_c(place):
    """A program that ends is not started again because something was saved meanwhile."""
    terminal = interrupted(place, PATIENT)
    terminal.read("interrupted")
    begun, rounds = time.monotonic(), 0
    while rounds < 20 or time.monotonic() < begun + 0.5:  # a supervisor that passes signals on knows what was saved before, and has had its time to act
        os.kill(terminal.process.pid, signal.SIGUSR1)
        terminal.read("told")
        rounds += 1
    os.kill(terminal.process.pid, signal.SIGUSR2)
    assert terminal.wait() == 0


@pytest.mark.parametrize("variant", [GOES_ON, CONTROL], ids=["goes on", "control"])
def test_a_save_after_ctrl_c_of_a_program_that_goes_on(place, variant):
    """It is started again, a little later; where nobody waits any is."""
    terminal = interrupted(place, variant)
    terminal.read("restarting: helper.py")
    terminal.read("up 1")
    save(place, "helper.py", "V = 2\n")
    terminal.read("up 2")
    save(place, "app.py", "raise SystemExit(3)\n")
    terminal.read("waiting for a change")
    terminal.type("\x03")
    terminal.wait()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_job_control(place):
    place.write("app.py", "import time, helper\nprint('got', input('? '), helper.V, flush=True)\nwhile True: time.sleep(0.02)\n")
    terminal = Terminal(place, shutil.which("bash"), "--norc", "--noediting", "-i")
    terminal.read("SH> ")
    terminal.type(f"{place.script} run --reload app.py\n")
    terminal.read("? ")
    terminal.type("one\n")
    terminal.read("got one 0")
    terminal.type("\x1a")
    terminal.read("Stopped")
    terminal.read("SH> ")
    save(place, "helper.py", "V = 1\n")
    terminal.type("fg\n")
    terminal.read("restarting: helper.py")
    terminal.read("? ")
    terminal.type("two\n")
    terminal.read("got two 1")
    terminal.type("\x03")
    terminal.read("SH> ")
    terminal.type("echo status $?\n")
    terminal.read("status 130")
    terminal.type("exit\n")
    assert terminal.wait() == 0


# --- no change is lost ---

CHANGES_ITSELF = """\
import json, os, sys, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # what it has seen is said, however soon it is to end
import late
import ladewerk_once.helper as helper
if helper.V < 3:  # it has been read, and changes now
    with open("ladewerk_once/new", "w") as file: file.write(f"V = {helper.V + 1}\\n")
    os.rename("ladewerk_once/new", "ladewerk_once/helper.py")
print("start", json.dumps({"V": helper.V, "late": late.V}), flush=True)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
signal.pause()
"""
# What is asked for is answered at once, and watched only when the program has done what it does.
ARMS_LATE = """
import os
asked, watch = [], _rerun_watch.Places.watch
def later(self, directory, links=True):
    if directory.endswith("ladewerk_once") and not asked:
        asked.append(directory)
    elif asked and os.path.exists(directory + "/late.py") and open(directory + "/late.py").read() != "V = 0\\n":
        watch(self, asked[0], links)
    elif directory not in asked:
        watch(self, directory, links)
_rerun_watch.Places.watch = later
"""


@pytest.mark.parametrize("patch", ["", ARMS_LATE], ids=["", "control"])
def test_a_change_while_it_starts(place, patch):
    place.write("app.py", CHANGES_ITSELF)
    place.write("late.py", "V = 0\n")
    place.write("ladewerk_once/helper.py", "V = 0\n")
    with Again(place, "--reload", "app.py", patch=patch) as again:
        seen = [again.start() for _ in range(1 if patch else 4)]
        again.save("late.py", "V = 1\n")
        last = again.start()
        assert last["late"] == 1
        assert [said["V"] for said in seen] == ([0] if patch else [0, 1, 2, 3]), again.all
        why = [line for line in again.all if "restarting" in line]
        # The control: nobody noticed that helper.py had changed; it is another file's change that brings it to light.
        assert ("helper.py" in why[0]) == (not patch), why


def test_failures_wait_for_a_change(place):
    place.write("app.py", APP.replace("import helper\n", "import helper\ntry:\n    import extra\nexcept ImportError:\n    extra = None\n").replace('"V": helper.V', '"V": helper.V, "extra": extra is not None'))
    with Again(place, "--reload", "app.py") as again:
        assert again.start()["extra"] is False
        again.save("helper.py", "V = (\n")
        again.line("SyntaxError")
        again.line("ladewerk: the program has ended (exit status 1); waiting for a change")
        again.save("helper.py", "")  # as it is while it is being saved
        again.save("helper.py", "V = 2\n")
        while (said := again.line("start ", "AttributeError")).startswith("Attr"):
            pass
        assert json.loads(said[6:])["V"] == 2
        again.save("extra.py", "")  # what an import has not found
        while not again.start()["extra"]:  # one with V = 2 may have been started twice: it was saved while it started
            pass
        (place.cwd / "unrelated.py").write_text("")
        (place.cwd / "extra.txt").write_text("")
        for number in range(30):
            again.save("helper.py", f"V = {number + 10}\n")
            time.sleep(0.005)
        while again.start()["V"] != 39:
            pass
        assert not any("unrelated" in line or "extra.txt" in line for line in again.all)
        (place.cwd / "app.py").rename(place.cwd / "gone.py")
        again.line("ladewerk: the program has ended (exit status 2)")
        (place.cwd / "gone.py").rename(place.cwd / "app.py")
        assert again.start()["V"] == 39


AUTOLOADS = """\
import json, signal
import ladewerk
loader = ladewerk.Autoloader()
loader.push_dir("tree")
loader.setup()
import shop
print("start", json.dumps({"X": shop.cart.X, "has": sorted(loader.all_expected_modules().values())}), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("patch", ["", "_rerun_watch.Looks.into = lambda self, directories: None"], ids=["", "control"])
def test_new_files_below_autoloaders(place, patch):
    """They list directories: nobody has looked for a file that comes, and yet it is a module now."""
    place.write("app.py", AUTOLOADS)
    place.write("tree/shop/cart.py", "X = 0\n")
    with Again(place, "--reload", "app.py", patch=patch) as again:
        assert again.start()["has"] == ["", "shop", "shop.cart"]
        again.save("tree/shop/LICENSE", "")
        again.save("tree/shop/fresh.py", "")
        if patch:
            again.save("tree/shop/cart.py", "X = 1\n")
            assert again.start()["X"] == 1 and next(line for line in again.all if "restarting" in line) == "ladewerk: restarting: tree/shop/cart.py"
            return
        assert again.start()["has"] == ["", "shop", "shop.cart", "shop.fresh"]
        (place.cwd / "tree/shop/deep").mkdir()
        again.start()
        again.save("tree/shop/deep/one.py", "")
        assert again.start()["has"] == ["", "shop", "shop.cart", "shop.deep", "shop.deep.one", "shop.fresh"]
        (place.cwd / "tree/shop/fresh.py").unlink()
        assert "shop.fresh" not in again.start()["has"]
        assert not any("LICENSE" in line for line in again.all)


def test_saves_at_any_moment(place):
    """While it ends, starts, imports, is settled upon: the last one is always started."""
    numbers, chance = versions(), random.Random(7)
    with Again(place, "--reload", "app.py") as again:
        again.start()
        for _ in range(40 if LONG else 3):
            for _ in range(chance.randrange(1, 8)):
                last = next(numbers)
                again.save("helper.py", f"V = {last}\n")
                time.sleep(chance.choice((0, 0.001, 0.004, 0.006, 0.01, 0.02, 0.04)))
            while again.start()["V"] != last:
                pass


def test_without_events(place):
    """It looks again and again, says so, and finds the same."""
    patch = "class Events:\n    def __init__(self): raise OSError('none is left')\nclass live: pass\nlive.Events = Events\n_rerun_watch._live = live"
    with Again(place, "--reload", "app.py", patch=patch) as again:
        again.line("ladewerk: the kernel does not tell of changes (none is left)")
        again.start()
        again.save("helper.py", "V = 1\n")
        assert again.start()["V"] == 1
        again.save("good.py", "V = 'own'\n")  # a new file
        assert again.start()["good"] == "own"


def test_quiet(place):
    with Again(place, "--reload", "--quiet", "app.py") as again:
        again.start()
        again.save("helper.py", "V = 1\n")
        assert again.start()["V"] == 1
        assert not [line for line in again.all if line.startswith("ladewerk:")]


def test_roots(place):
    """With roots of its own, what lies elsewhere is not looked after, and what lies in site-packages can be."""
    with Again(place, "--reload", "--reload-root", place.root / "site-packages", "app.py") as again:
        again.start()
        again.save("helper.py", "V = 1\n")
        again.save(str(place.root / "site-packages/good.py"), "V = 'better'\n")
        said = again.start()
        assert (said["V"], said["good"]) == (1, "better")
        assert len([line for line in again.all if "restarting" in line]) == 1


# --- the template ---

ODD = {
    "threads": "import threading, time\nthreading.Thread(target=time.sleep, args=[1000], daemon=True).start()\n", "handles": "import signal\nsignal.signal(signal.SIGUSR2, lambda *a: None)\n",
    "writes": "print('written', flush=True)\n", "opens": "file = open(__file__)\n", "walks": "import os\nos.chdir('/')\n", "masks": "import os\nos.umask(0o077)\n",
    "extends": "import sys\nsys.path.append('/nowhere')\n", "needs": "import threads\n", "pulls": "import inner\n", "fails": "import fine\nraise ImportError('no')\n",
}
MANY = "import sys\nthere = sorted(name for name in sys.modules if name in %r)\nimport json, signal\n" \
       "import fine, sub.part\nfor name in %r:\n    try: __import__(name)\n    except ImportError: pass\nimport helper, os\n" \
       "os.chdir(os.path.dirname(os.path.abspath(__file__)))\nprint('start', json.dumps({'there': there, 'V': helper.V}), flush=True)\nsignal.pause()\n"


def test_what_leaves_traces_is_imported_by_the_program(place):
    for name, text in {**ODD, "fine": "", "sub/__init__": "", "sub/part": ""}.items():
        path = place.root / f"site-packages/{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (place.root / "src").mkdir()
    (place.root / "src/inner.py").write_text("")  # below the roots, and imported by what is not
    place.env["PYTHONPATH"] += f":{place.root / 'src'}"
    place.write("app.py", MANY % ([*ODD, "fine", "sub.part", "inner"], list(ODD)))
    with Again(place, "--reload", "app.py") as again:
        assert again.start()["there"] == []

        def complete(said):  # a template may have been made when half of it was imported: nothing else was for a while
            assert set(said["there"]) <= {"fine", "sub.part"}
            return said["there"] == ["fine", "sub.part"]

        again.until(complete, saver(again))


ONE_BY_ONE = """
import os, signal, sys, threading, time
from ladewerk._rerun_child import effects
for name, text in %r.items():
    if not (pid := os.fork()):
        before = effects()
        assert effects() == before
        space = {"__file__": os.__file__}
        exec(text, space)
        os._exit(42 if effects() != before else 43)
    print(name, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_traces_are_seen(shell):
    """Each by itself, and nothing where there is nothing."""
    alone = {name: text for name, text in ODD.items() if name not in ("needs", "pulls", "fails", "writes")} | {"nothing": "import decimal"}
    done = shell.stock("-c", ONE_BY_ONE % alone)
    said = dict(line.split() for line in done.stdout.splitlines())
    assert said == {name: "43" if name == "nothing" else "42" for name in alone}, done.stderr


@pytest.mark.parametrize("patch", ["", "_rerun_template.Template.stale = property(lambda self: False, lambda self, value: None)"], ids=["", "control"])
def test_what_changes_elsewhere_is_not_stale(place, patch):
    with Again(place, "--reload", "app.py", patch=patch) as again:
        again.start()
        save = saver(again)
        assert again.until(lambda said: said["warm"], save)["good"] == "good"
        again.save(str(place.root / "site-packages/good.py"), "V = 'better'\n")
        save()
        assert again.start()["good"] == ("good" if patch else "better")
        if patch:
            return
        assert again.until(lambda said: said["warm"], save)["good"] == "better"
        again.save("good.py", "V = 'own'\n")  # hides that one
        assert again.start()["good"] == "own"
        (place.cwd / "good.py").unlink()
        assert again.start()["good"] == "better"


# --- live ---

def test_live(place):
    place.write("app.py", "import json, os, signal, sys, time\nimport helper, keeps, user\nsignal.signal(signal.SIGUSR1, lambda n, f: os.write(1, f'now {helper.V} {user.W}\\n'.encode()))\n"
                          "print('start', json.dumps({'V': helper.V, 'K': keeps.K, 'pid': os.getpid()}), flush=True)\nwhile True: time.sleep(0.02)\n")
    place.write("keeps.py", "__ladewerk_reload__ = False\nK = 0\n")
    place.write("user.py", "from helper import V as W\n")
    with Again(place, "--reload=live", "app.py") as again:
        pid = again.start()["pid"]

        def now():
            again.process.send_signal(signal.SIGUSR1)
            return again.line("now")

        assert now() == "now 0 0"
        again.save("helper.py", "V = 1\n")
        assert again.line("ladewerk: ") == "ladewerk: reloaded helper, user"
        assert now() == "now 1 1"
        again.save("helper.py", "V = 2\n1 / 0\n")
        assert re.match(r"ladewerk: not reloaded: .*/helper.py:2: .*division by zero", again.line("ladewerk: "))
        assert now() == "now 1 1"
        again.save("helper.py", "V = 3\n")
        assert again.line("ladewerk: ") == "ladewerk: reloaded helper, user"
        again.save("keeps.py", "__ladewerk_reload__ = False\nK = 1\n")
        assert "opted out" in again.line("ladewerk: restarting")
        said = again.start()
        assert (said["V"], said["K"]) == (3, 1) and said["pid"] != pid
        again.save("helper.py", "V = 4\n")
        assert again.line("ladewerk: ") == "ladewerk: reloaded helper, user"
        (place.cwd / "app.py").touch()
        again.line("ladewerk: restarting: app.py")
        assert again.start()["V"] == 4


# --- places ---

@pytest.fixture(params=[False, True], ids=["told", "polled"])
def places(request):
    return Places(polling=request.param)


def seen(places):
    return {*places.changes(), *places.look_again()}


def test_places_tell_of_whatever_is_done(places, tmp_path):
    directory = str(tmp_path / "a/b")
    places.watch(directory)  # does not exist yet
    os.makedirs(directory)
    while not any(name == "" or path.endswith("/a") or name in ("a", "b") for path, name in seen(places)):
        pass
    assert directory in places.known()
    path = tmp_path / "a/b/m.py"
    for change in (lambda: path.write_text("1"), lambda: path.write_text("12"), lambda: (path.parent / "n").write_text("123") and (path.parent / "n").rename(path), path.unlink, lambda: path.mkdir()):
        change()
        assert (directory, "m.py") in seen(places)
        assert not places.changes()


def test_places_see_links(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there/m.py").write_text("1")
    (tmp_path / "here/m.py").symlink_to(tmp_path / "there/m.py")
    os.link(tmp_path / "there/m.py", tmp_path / "here/n.py")
    places = Places()
    places.watch(str(tmp_path / "here"), links=False)
    assert not places.must_look_again()  # nobody's sources yet
    places.watch(str(tmp_path / "here"))
    assert places.must_look_again() and not seen(places)
    (tmp_path / "there/m.py").write_text("12")
    assert {name for _, name in seen(places)} >= {"m.py", "n.py"}


def test_places_that_are_moved(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    places = Places()
    places.watch(str(tmp_path / "a/b"))
    (tmp_path / "a").rename(tmp_path / "c")
    looks = Looks()
    looks.path("1", True, [str(tmp_path / "a/b")])
    looks.look("1", "m", [])
    assert any(map(looks.concerned, seen(places)))
    (tmp_path / "a/b").mkdir(parents=True)
    seen(places)
    (tmp_path / "a/b/m.py").write_text("")
    assert any(map(looks.concerned, seen(places)))


def test_looks():
    looks = Looks()
    looks.path("1", True, ["/r"])
    for name in "shop", "json":
        looks.look("1", name, [])
    looks.path("2", False, ["/r/shop"])
    looks.look("2", "shop.cart", ["json"])
    looks.file("/r/app")
    for change in ("/r", "shop.py"), ("/r", "json.py"), ("/r", "json"), ("/r/shop", "__init__.py"), ("/r/shop", "cart.py"), ("/r", "app"), ("/r/shop", ""), ("/", ""):
        assert looks.concerned(change), change
    for change in ("/r", "cart.py"), ("/r", "shop.py~"), ("/r", ".shop.py.swp"), ("/r", "shop.txt"), ("/r/shop", "json.py"), ("/q", ""), ("/r", "__pycache__"):
        assert not looks.concerned(change), change
    assert looks.names == ["shop", "shop.cart"]
    looks.into(["/tree"])
    for change in ("/tree", "any.py"), ("/tree", "any"), ("/tree", "__init__.py"), ("/tree", ""):
        assert looks.concerned(change), change
    for change in ("/tree", "any.txt"), ("/tree", "my-script.py"), ("/tree", "__pycache__"), ("/tree", ".any.py.swp"), ("/tree/any", "x.py"):
        assert not looks.concerned(change), change
