# SPDX-License-Identifier: MIT
"""`ladewerk check`: every kind of finding, and nothing said of what is as it should be. Cases that can share a tree share one run."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import zipfile
from importlib import machinery
from pathlib import Path
from random import Random

import pytest
from interpreters import once_but

from ladewerk.cli import FINDINGS
from shell import Shell

GUIDE = Path(__file__).parents[2] / "ext" / "CHECK.md"
EXTENSION = machinery.EXTENSION_SUFFIXES[0]


class Checked:
    """What one run said of one tree."""

    def __init__(self, shell, *arguments, status, env={}):
        self.shell = shell
        self.report = shell.json("check", *arguments, status=status, env=env)
        self.findings = self.report["findings"]

    def relative(self, file):
        return os.path.relpath(file, self.shell.cwd)

    def all(self):
        return {(one["kind"], self.relative(one["file"]), one["line"]) for one in self.findings}

    def one(self, kind, file, line=None):
        found = [one for one in self.findings if (one["kind"], self.relative(one["file"])) == (kind, file) and line in (None, one["line"])]
        assert len(found) == 1, (kind, file, self.all())
        return found[0]


def shell_in(factory, name):
    return Shell(factory.mktemp(name))


# --- nothing to find ----------------------------------------------------------------------------------------------------

CLEAN = {
    "src/shop/__init__.py": "from shop import cart\nVERSION = 1\n",
    "src/shop/cart.py": "from . import prices\nfrom .prices import TAX\n",  # packages that import their submodules are no circle
    "src/shop/prices.py": "import shop.deep.sub\nimport json\nTAX = 1\n",
    "src/shop/deep/__init__.py": "",
    "src/shop/deep/sub.py": "def f():\n    import shop.prices\n",
    "src/shop/__main__.py": "open('executed', 'w')\n",
    "src/shop/data/a.txt": "",
    "src/shop/cart/b.txt": "",  # a directory without sources beside a module
    "src/shop/my-data/c.txt": "",
    "src/shop/.hidden/x.py": "raise ValueError\n",
    "src/shop/node_modules/x.py": "raise ValueError\n",
    "src/venv/pyvenv.cfg": "",
    "src/venv/lib/x.py": "raise ValueError\n",
    "src/space/portion.py": "",
    "src/loud.py": "import os, sys\nprint('said', flush=True)\nos.write(1, b'said')\nos.write(2, b'said')\nassert sys.stdin.read() == ''\nsys.stdout = None\n",
    "src/forks.py": "import os\nif os.fork() == 0:\n    forked = True\n",
    "src/leaves_work.py": "import atexit, threading, time\natexit.register(open, 'executed', 'w')\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n",
    "src/replaces.py": "import sys, types\nsys.modules[__name__] = types.SimpleNamespace()\n",
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    shell = shell_in(tmp_path_factory, "clean")
    for name, text in CLEAN.items():
        shell.write(name, text)
    (shell.cwd / "src/shop/loop").symlink_to("..")
    return shell


def test_a_clean_tree_has_no_findings(clean):
    checked = Checked(clean, "src", "--strict", status=0)
    assert checked.findings == []
    report = checked.report
    assert (report["format"], report["modules"], report["imported"], report["failed"], report["compiled"], report["errors"], report["warnings"]) == (1, 10, 10, 0, 1, 0, 0)
    assert report["path"][0] == str(clean.cwd / "src") and report["links_left"] == 1


def test_text_of_a_clean_tree(clean):
    done = clean.ladewerk("check", "src")
    assert (done.returncode, done.stdout, done.stderr) == (0, "10 modules: 10 imported, 0 failed, 1 __main__ compiled only; 0 errors, 0 warnings; 1 link to directories left out\n", "")
    assert clean.ladewerk("check", "src", "--quiet").stdout == ""
    assert not (clean.cwd / "executed").exists()


@pytest.mark.once
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_descriptors(clean, closed):
    done = subprocess.run(f"{clean.script} check src {closed}", shell=True, cwd=clean.cwd, env=clean.env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and ("1>&-" in closed or "10 imported, 0 failed" in done.stdout)


# --- what fails ---------------------------------------------------------------------------------------------------------

FAILING = {
    "src/shop/__init__.py": "",
    "src/shop/missing.py": "import os\nimport nothing_like_this\n",
    "src/shop/uses.py": "import shop.missing\n",
    "src/shop/uses_too.py": "def f():\n    from shop import uses\n\nf()\n",
    "src/shop/boom.py": "def f():\n    raise ValueError('one\\n two')\n\n\nf()\n",
    "src/shop/outside.py": "import json\n\njson.loads('{')\n",
    "src/shop/syn.py": "x = 1\ny = (\n",
    "src/shop/uses_syn.py": "import shop.syn\n",
    "src/shop/evals.py": "\neval('1 +')\n",
    "src/shop/leaves.py": "import sys\nsys.exit(3)\n",
    "src/shop/interrupts.py": "raise KeyboardInterrupt\n",
    "src/shop/gone.py": "import os\nos._exit(0)\n",
    "src/shop/aims_at_gone.py": "import shop.missing_not, os\nimport shop.gone\n",
    "src/shop/missing_not.py": "from shop import gone\n",
    "src/shop/killed.py": "import os, threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n\ndef f():\n    os.kill(os.getpid(), 11)\n\n\nf()\n",
    "src/shop/uses_killed.py": "import shop.killed\n",
    "src/shop/nul.py": b"x = '\0'\n",
    "src/shop/latin.py": b"x = '\xe9'\n",
    "src/shop/mute.py": "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute\n",
    "src/shop/odd.py": "class Meta(type):\n    @property\n    def __module__(cls): raise ValueError\nclass Odd(Exception, metaclass=Meta): pass\nraise Odd\n",
    "src/shop/surrogate.py": "raise ValueError('\\udcff')\n",
    "src/shop/__main__.py": "def f(:\n",
    "src/shop/pack/__init__.py": "raise RuntimeError('no')\n",
    "src/shop/pack/a.py": "",
    "src/shop/pack/b.py": "class\n",
    "src/shop/dies/__init__.py": "import os\nos.kill(os.getpid(), 9)\n",
    "src/shop/dies/a.py": "",
    "src/shop/dies/deep/b.py": "class\n",
    "src/shop/dies_too.py": "",
    "src/shop/wall.py": "import sys\nsys.modules['zzz'] = None\n",
    "src/zzz.py": "",
    f"src/bad{EXTENSION}": b"no library",
}

FOUND = {
    ("import", "src/shop/missing.py", 2): (["shop.missing", "shop.uses", "shop.uses_too"], "ModuleNotFoundError: No module named 'nothing_like_this'"),
    ("import", "src/shop/boom.py", 2): (["shop.boom"], "ValueError: one two"),
    ("import", "src/shop/outside.py", 3): (["shop.outside"], "json.decoder.JSONDecodeError: "),
    ("syntax", "src/shop/syn.py", 2): (["shop.syn", "shop.uses_syn"], "SyntaxError: "),
    ("import", "src/shop/evals.py", 2): (["shop.evals"], "SyntaxError: "),
    ("exit", "src/shop/leaves.py", 2): (["shop.leaves"], "SystemExit: 3"),
    ("import", "src/shop/interrupts.py", 1): (["shop.interrupts"], "KeyboardInterrupt"),
    ("crash", "src/shop/gone.py", 1): (["shop.gone", "shop.aims_at_gone", "shop.missing_not"], "it ended the process, with status 0"),
    ("crash", "src/shop/killed.py", 5): (["shop.killed", "shop.uses_killed"], "the process died of SIGSEGV"),
    ("syntax", "src/shop/nul.py", 1): (["shop.nul"], ""),
    ("syntax", "src/shop/latin.py", 1): (["shop.latin"], "SyntaxError: "),
    ("import", "src/shop/mute.py", 3): (["shop.mute"], "shop.mute.Mute: (its text"),
    ("import", "src/shop/odd.py", 1): (["shop.odd"], "BaseException: "),
    ("import", "src/shop/surrogate.py", 1): (["shop.surrogate"], "ValueError: \udcff"),
    ("syntax", "src/shop/__main__.py", 1): (["shop.__main__"], "SyntaxError: "),
    ("import", "src/shop/pack/__init__.py", 1): (["shop.pack", "shop.pack.a", "shop.pack.b"], "RuntimeError: no"),
    ("syntax", "src/shop/pack/b.py", 1): (["shop.pack.b"], "SyntaxError: "),
    ("crash", "src/shop/dies/__init__.py", 1): (["shop.dies", "shop.dies.a", "shop.dies.deep.b"], "the process died of SIGKILL (out of memory?)"),
    ("syntax", "src/shop/dies/deep/b.py", 1): (["shop.dies.deep.b"], "SyntaxError: "),
    ("import", f"src/bad{EXTENSION}", 1): (["bad"], "ImportError: "),
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    shell = shell_in(tmp_path_factory, "failing")
    for name, text in FAILING.items():
        shell.write(name, text)
    return Checked(shell, "src", "-j2", status=1)


@pytest.mark.parametrize("where", FOUND, ids=lambda where: f"{where[0]}-{os.path.basename(where[1])}")
def test_failure(failing, where):
    modules, text = FOUND[where]
    found = failing.one(*where)
    assert (found["modules"], found["severity"]) == (modules, "error") and found["text"].startswith(text)


def test_no_failure_is_made_up(failing):
    """zzz fails beside shop.wall, but not alone; what comes after a crash is tried, too."""
    assert failing.all() == set(FOUND)
    failed = {name for modules, _ in FOUND.values() for name in modules if name != "shop.__main__"}
    assert failing.report["failed"] == len(failed) and failing.report["imported"] == failing.report["modules"] - len(failed)
    assert failing.shell.stock("-c", "import shop.wall, zzz", env={"PYTHONPATH": "src"}).returncode == 1  # the control


def test_traceback_in_json(failing):
    found = failing.one("import", "src/shop/missing.py")
    assert found["module"] == "shop.missing" and found["exception"]["type"] == "ModuleNotFoundError"
    last = found["trace"][-1]
    assert (failing.relative(last["file"]), last["line"], last["name"]) == ("src/shop/missing.py", 2, "<module>")
    assert failing.one("import", "src/shop/outside.py")["trace"][-1]["file"].endswith("decoder.py")


def test_text_and_its_independence_of_processes(failing):
    runs = [failing.shell.ladewerk("check", "src", *options) for options in (["-j1"], ["-j3"], ["--isolate"])]
    assert {run.returncode for run in runs} == {1} and {run.stderr for run in runs} == {""}
    assert len({run.stdout for run in runs}) == 1
    *lines, summary = runs[0].stdout.splitlines()
    assert len(lines) == len(FOUND) and lines == sorted(lines, key=lambda line: line.split(": ")[0].split(":")[0])
    assert "src/shop/missing.py:2: import: ModuleNotFoundError: No module named 'nothing_like_this' [fails with it: shop.uses, shop.uses_too]" in lines
    assert "src/shop/surrogate.py:1: import: ValueError: \\udcff" in lines
    assert summary == f"31 modules: 4 imported, 27 failed, 1 __main__ compiled only; {len(FOUND)} errors, 0 warnings"


def test_a_failing_module_may_be_allowed(failing):
    options = [f"--allow={kind}" for kind in ("import", "syntax", "exit", "crash")]
    done = failing.shell.ladewerk("check", "src", *options)
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and f"{len(FOUND)} allowed" in done.stdout
    rest = failing.shell.ladewerk("check", "src", *options[:3])
    assert rest.returncode == 1 and {line.split(": ")[1] for line in rest.stdout.splitlines()[:-1]} == {"crash"}


def test_a_package_that_fails_is_not_executed_for_each_of_its_modules(shell):
    shell.write("src/fails/__init__.py", "import os\nopen(os.environ['TOLD'], 'a').write('.')\nraise ValueError\n")
    for i in range(10):
        shell.write(f"src/fails/m{i}.py")
    told = shell.root / "told"
    report = shell.json("check", "src", status=1, env={"TOLD": str(told)})
    assert len(report["findings"]) == 1 and len(report["findings"][0]["modules"]) == 11 and told.read_text() == "."
    told.write_text("")
    isolated = shell.json("check", "src", "--isolate", status=1, env={"TOLD": str(told)})
    assert isolated["findings"] == report["findings"] and told.read_text() == 11 * "."  # the control


def test_module_that_hangs(shell):
    shell.write("src/hangs.py", "import os\n\ndef f():\n    while True:\n        os.write(2, bytes(100000))\n\n\nf()\n")
    shell.write("src/later.py", "raise ValueError\n")
    checked = Checked(shell, "src", "--timeout", "3", "-j1", status=1)
    assert checked.all() == {("timeout", "src/hangs.py", checked.one("timeout", "src/hangs.py")["line"]), ("import", "src/later.py", 1)}
    found = checked.one("timeout", "src/hangs.py")
    assert found["line"] in (4, 5) and found["text"] == "it takes more than 3 s"


def test_modules_may_profit_from_each_other_but_not_when_isolated(shell):
    shell.write("src/pack/__init__.py")
    shell.write("src/pack/sub.py", "X = 1\n")
    shell.write("src/user.py", "import pack\npack.sub.X\n")
    assert Checked(shell, "src", status=0).findings == []
    assert Checked(shell, "src", "--isolate", status=1).all() == {("import", "src/user.py", 2)}


def test_what_cannot_be_read(powerless):
    powerless.write("src/closed/x.py").parent.chmod(0)
    powerless.write("src/secret.py").chmod(0)
    powerless.write("src/uses.py", "import secret\n")
    (powerless.cwd / "src/dangling.py").symlink_to("nowhere")
    (powerless.cwd / "src/.#lock.py").symlink_to("nowhere")
    try:
        checked = Checked(powerless, "src", status=1)
    finally:
        (powerless.cwd / "src/closed").chmod(0o755)
    assert checked.all() == {("unreadable", "src/closed", None), ("unreadable", "src/secret.py", 1), ("unreadable", "src/dangling.py", 1)}
    assert checked.one("unreadable", "src/secret.py")["modules"] == ["secret", "uses"]
    powerless.cwd.joinpath("src/secret.py").chmod(0o644)
    powerless.cwd.joinpath("src/dangling.py").unlink()
    assert Checked(powerless, "src", status=0).findings == []  # the control


# --- processes ----------------------------------------------------------------------------------------------------------

TELLS = "import os\nopen(os.environ['TOLD'], 'a').write(f'{os.getpid()} {os.getppid()} %s\\n')\n"


def test_nothing_is_imported_by_the_command_itself(shell):
    for i in range(3):
        shell.write(f"src/m{i}.py", TELLS.replace("%s", "{active}").replace("import os\n", "import os, ladewerk\nactive = ladewerk.stats()['active']\n"))
    told = shell.root / "told"

    def lines(status=0, **env):
        told.write_text("")
        assert shell.ladewerk("check", "src", "--isolate", env={"TOLD": str(told), **env}).returncode == status
        return [line.split() for line in told.read_text().splitlines()]

    found = lines()
    workers, parents = {line[0] for line in found}, {line[1] for line in found}
    assert len(workers) == 3 and len(parents) == 1 and not workers & parents
    assert {line[2] for line in found} == {"True"}
    assert {line[2] for line in lines(LADEWERK="0")} == {"False"}  # the control


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_bodies_start_ends(shell):
    told = shell.root / "told"
    shell.write("src/starts.py", "import os, subprocess\nopen(os.environ['TOLD'], 'w').write(str(subprocess.Popen(['sleep', '1000']).pid))\n")
    done = shell.stock("-c", "import starts", env={"TOLD": str(told), "PYTHONPATH": "src"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, capture_output=False)
    assert done.returncode == 0 and is_running(pid := int(told.read_text()))  # the control
    os.kill(pid, signal.SIGKILL)
    assert shell.ladewerk("check", "src", env={"TOLD": str(told)}).returncode == 0
    wait_until(lambda: not is_running(int(told.read_text())))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_nothing_is_left_behind(shell, number, status):
    told = shell.root / "told"
    shell.write("src/hangs.py", "import os, time\nopen(os.environ['TOLD'], 'w').write(f'{os.getpid()}.')\ntime.sleep(1000)\n")
    process = subprocess.Popen([shell.script, "check", "src"], cwd=shell.cwd, env={**shell.env, "TOLD": str(told)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: told.exists() and told.read_text().endswith("."))
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status and output == b"" and b"Traceback" not in errors
    assert not is_running(told.read_text()[:-1])


def test_interpreter_that_does_not_start(shell):
    shell.write("hook/sitecustomize.py", "import os, sys\nif '-c' in sys.orig_argv:\n    print('not today', file=sys.stderr, flush=True)\n    os._exit(9)\n")
    shell.write("src/fine.py")
    done = shell.ladewerk("check", "src", env={"PYTHONPATH": str(shell.cwd / "hook")})
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1 and "not today" in done.stderr


# --- names --------------------------------------------------------------------------------------------------------------

EXTENDS = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"

NAMED = {
    "one/both.py": "", "two/both.py": "raise ValueError\n",
    "one/pack/__init__.py": "", "two/pack/__init__.py": "", "two/pack/lost.py": "raise ValueError\n",
    "one/mixed/x.py": "raise ValueError\n", "one/mixed/regular/__init__.py": "raise ValueError\n", "two/mixed/__init__.py": "",
    "one/turned/__init__.py": "", "two/turned/y.py": "raise ValueError\n",
    "one/form.py": "", "one/form/z.py": "raise ValueError\n",
    "one/duo/__init__.py": "", "one/duo.py": "raise ValueError\n",
    f"one/fast{EXTENSION}": b"", "one/fast.py": "",
    "one/space/a.py": "", "two/space/b.py": "",
    "one/joined/__init__.py": EXTENDS, "one/joined/a.py": "", "two/joined/__init__.py": EXTENDS, "two/joined/b.py": "raise ValueError('is met')\n",
    "one/Case.py": "", "one/case.py": "",
    "one/\ufb01le.py": "", "one/file.py": "",
    "one/\ufb02at.py": "",
    "one/my-script.py": "", "one/class.py": "", "one/a.b.py": "", "one/2nd.py": "",
    "one/my-dir/x.py": "", "one/my-dir/deep/y.py": "",
    "one/random.py": "", "one/time.py": "raise ValueError\n",
    "one/dis.py": "X = 1\n", "one/uses_dis.py": "import dis\ndis.X\n",
    "one/foreign.py": "", "lib/foreign.py": "raise ValueError\n",
    "one/zipped.py": "",
    "one/inner/nested.py": "",  # a root within a root: loaded by one name
    "one/legacy.pyc": b"", "one/legacy.py": "",
}

NAME_FINDINGS = {
    ("clash", "two/both.py", 1): ("error", "one/both.py", ["two/both.py"]),
    ("clash", "two/pack/__init__.py", 1): ("error", "one/pack/__init__.py", ["two/pack/__init__.py"]),
    ("masked", "one/mixed", None): ("error", "two/mixed/__init__.py", ["one/mixed"]),
    ("masked", "two/turned", None): ("error", "one/turned/__init__.py", ["two/turned"]),
    ("masked", "one/form", None): ("error", "one/form.py", ["one/form"]),
    ("shadowed", "one/duo.py", 1): ("error", "one/duo/__init__.py", ["one/duo.py"]),
    ("shadowed", "one/fast.py", 1): ("warning", f"one/fast{EXTENSION}", ["one/fast.py"]),
    ("import", f"one/fast{EXTENSION}", 1): ("error", None, None),
    ("import", "two/joined/b.py", 1): ("error", None, None),
    ("clash", "one/case.py", 1): ("error", None, None),
    ("clash", "one/\ufb01le.py", 1): ("error", None, None),
    ("unnameable", "one/\ufb01le.py", 1): ("warning", None, None),
    ("unnameable", "one/\ufb02at.py", 1): ("warning", None, None),
    ("unnameable", "one/my-script.py", 1): ("warning", None, None),
    ("unnameable", "one/class.py", 1): ("warning", None, None),
    ("unnameable", "one/a.b.py", 1): ("warning", None, None),
    ("unnameable", "one/2nd.py", 1): ("warning", None, None),
    ("unnameable", "one/my-dir", None): ("warning", None, None),
    ("stdlib", "one/random.py", 1): ("error", "one/random.py", None),
    ("stdlib", "one/dis.py", 1): ("error", "one/dis.py", None),
    ("stdlib", "one/time.py", 1): ("error", None, ["one/time.py"]),
    ("shadowed", "one/foreign.py", 1): ("warning", "one/foreign.py", ["lib/foreign.py"]),
    ("shadowed", "one/zipped.py", 1): ("warning", "one/zipped.py", ["lib.zip/zipped.py"]),
}


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    shell = shell_in(tmp_path_factory, "named")
    for name, text in NAMED.items():
        shell.write(name, text)
    with zipfile.ZipFile(shell.cwd / "lib.zip", "w") as file:
        file.writestr("zipped.py", "raise ValueError\n")
    shell.env["PYTHONPATH"] = os.pathsep.join(str(shell.cwd / name) for name in ("lib", "lib.zip"))
    return Checked(shell, "one", "two", "one/inner", status=1)


@pytest.mark.once
@pytest.mark.parametrize("where", NAME_FINDINGS, ids=lambda where: f"{where[0]}-{where[1].encode('ascii', 'replace').decode()}".replace("/", "-"))
def test_name(named, where):
    severity, winner, losers = NAME_FINDINGS[where]
    kind, file, line = where
    found = named.one(kind, file, line)
    assert found["severity"] == severity
    if winner:
        assert named.relative(found["winner"]["file"]) == winner
    if losers:
        assert [named.relative(one["file"]) for one in found["losers"]] == losers


@pytest.mark.once
def test_nothing_else_is_said_of_names(named):
    assert named.all() == set(NAME_FINDINGS)


@pytest.mark.once
def test_names_in_json_and_text(named):
    assert named.one("stdlib", "one/random.py")["losers"][0]["file"].endswith("/random.py")
    assert named.one("stdlib", "one/time.py")["winner"]["kind"] == "built-in"
    assert named.one("unnameable", "one/my-dir")["text"].startswith("no import statement can name what is in it (2 files)")
    assert [named.relative(file) for file in named.one("clash", "one/case.py")["files"]] == ["one/Case.py", "one/case.py"]
    done = named.shell.ladewerk("check", "one", "two", "one/inner", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode == 1 and "one/duo.py:1: shadowed: duo is one/duo/__init__.py, which hides one/duo.py\n" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.once
def test_excluded_names(named):
    patterns = ["[!dr]*.py", "mixed", "turned", "form", "pack", "my-dir"]
    checked = Checked(named.shell, "one", "two", *(f"--exclude={pattern}" for pattern in patterns), status=1)
    assert checked.all() == {("stdlib", "one/random.py", 1), ("stdlib", "one/dis.py", 1), ("shadowed", "one/duo.py", 1), ("import", f"one/fast{EXTENSION}", 1)}
    assert ("shadowed", "one/duo.py", 1) not in Checked(named.shell, "one", "--exclude", "duo.py", status=1).all()


@pytest.mark.once
def test_bytes_that_are_no_name(shell):
    os.makedirs(shell.cwd / "src")
    Path(os.fsdecode(os.fsencode(shell.cwd / "src") + b"/\xff.py")).touch()
    assert [one["kind"] for one in Checked(shell, "src", "--strict", status=1).findings] == ["unnameable"]
    assert shell.ladewerk("check", "src").stdout.startswith("src/\\udcff.py:1: unnameable (warning)")


def test_an_earlier_entry_of_the_path_wins(shell):
    shell.write("lib/late.py")
    shell.write("src/late.py", "raise ValueError\n")
    shell.write("src/other.py")
    lib, src = str(shell.cwd / "lib"), str(shell.cwd / "src")
    behind = Checked(shell, "src", status=1, env={"PYTHONPATH": f"{lib}:{src}"})
    assert behind.all() == {("shadowed", "src/late.py", 1)} and behind.report["modules"] == 1
    assert behind.one("shadowed", "src/late.py")["severity"] == "error"
    first = Checked(shell, "src", status=1, env={"PYTHONPATH": f"{src}:{lib}"})
    assert first.all() == {("import", "src/late.py", 1), ("shadowed", "src/late.py", 1)}


def test_what_is_loaded_from_elsewhere(shell):
    """By a package that changes where its modules are: only the import tells."""
    shell.write("src/pack/__init__.py", "import os\n__path__.insert(0, os.path.join(os.path.dirname(__file__), 'other-place'))\n")
    shell.write("src/pack/x.py", "raise ValueError\n")
    shell.write("src/pack/y.py")
    shell.write("src/pack/other-place/x.py")
    checked = Checked(shell, "src", "--allow", "unnameable", status=1)
    assert checked.all() == {("shadowed", "src/pack/x.py", 1)}
    assert checked.relative(checked.one("shadowed", "src/pack/x.py")["winner"]["file"]) == "src/pack/other-place/x.py"


SAYS = "import os\nwith open(os.environ['TOLD'], 'a') as file:\n    file.write(f'{__name__} {__file__}\\n')\n"

STOCK = """\
import importlib, itertools, os
for depth in 1, 2, 3:
    for parts in itertools.product(('pa', 'pb'), repeat=depth):
        try:
            importlib.import_module('.'.join(parts))
        except ImportError:
            pass
"""


def grow(random, shell, place, depth):
    for name in "pa", "pb":
        if random.random() < 0.35:
            shell.write(f"{place}/{name}.py", SAYS)
        if random.random() < 0.65:
            if random.random() < 0.4:
                shell.write(f"{place}/{name}/__init__.py", SAYS)
            if depth < 3:
                grow(random, shell, f"{place}/{name}", depth + 1)


def is_named(file, findings):
    """Whether a finding names FILE, or a directory or package that it is in, as one that loses."""
    lost = [one["file"].removesuffix("/__init__.py") for finding in findings for one in finding["losers"]]
    return any(file == one or file.startswith(one + "/") for one in lost)


@pytest.mark.parametrize("seed", once_but(range(10), 0, 1, 2))
def test_grown_trees(shell, seed):
    """Exactly what stock Python can import is imported, from the same files; of every other source it is said what hides it."""
    roots = ["one", "two", "three"]
    for root in roots:
        (shell.cwd / root).mkdir()
        grow(Random(f"{seed} {root}"), shell, root, 1)
    told = {}
    for who in "check", "stock":
        told[who] = shell.root / who
        told[who].touch()
    assert shell.stock("-c", STOCK, env={"PYTHONPATH": ":".join(str(shell.cwd / root) for root in roots), "TOLD": str(told["stock"])}).returncode == 0
    done = shell.ladewerk("check", *roots, "--json", env={"TOLD": str(told["check"])})
    report = json.loads(done.stdout)
    imported = sorted(set(told["check"].read_text().splitlines()))
    assert imported == sorted(told["stock"].read_text().splitlines()) and report["modules"] == report["imported"] == len(imported)
    files = {line.split(" ", 1)[1] for line in imported}
    silent = [str(file) for root in roots for file in (shell.cwd / root).rglob("*.py") if str(file) not in files and not is_named(str(file), report["findings"])]
    assert silent == []
    assert {one["kind"] for one in report["findings"]} <= {"shadowed", "clash", "masked"}


# --- circles ------------------------------------------------------------------------------------------------------------

GUARDED = "from typing import TYPE_CHECKING\nimport typing\n"

#: name: source of a and b, and the lines of the circle, if it is one.
CIRCLES = {
    "plain": ("import {p}.b\n", "\nimport {p}.a\n", [1, 2]),
    "from_import": ("from {p} import b\n", "from {p}.a import *\n", [1, 1]),
    "relative": ("from . import b\n", "from .a import X\n", None),
    "relative_late": ("X = 1\nfrom . import b\n", "from .a import X\n", [2, 1]),
    "conditional": ("try:\n    import {p}.b\nexcept ImportError:\n    pass\n", "import sys\nif sys:\n    import {p}.a\n", [2, 3]),
    "in_class": ("class A:\n    class B:\n        import {p}.b\n", "import {p}.a\n", [3, 1]),
    "function": ("def f():\n    import {p}.b\n", "import {p}.a\n", []),
    "method": ("class A:\n    def f(self):\n        import {p}.b\n", "import {p}.a\n", []),
    "type_checking": (GUARDED + "if TYPE_CHECKING:\n    import {p}.b\n", "import {p}.a\n", []),
    "typing_type_checking": (GUARDED + "if typing.TYPE_CHECKING:\n    import {p}.b\n", "import {p}.a\n", []),
    "not_type_checking": (GUARDED + "if not TYPE_CHECKING:\n    import {p}.b\n", "import {p}.a\n", [4, 1]),
    "else_type_checking": (GUARDED + "if TYPE_CHECKING:\n    import os\nelse:\n    import {p}.b\n", "import {p}.a\n", [6, 1]),
    "main": ("if __name__ == '__main__':\n    import {p}.b\n", "import {p}.a\n", []),
    "many_names": ("".join(f"v{i} = {i}.5\n" for i in range(300)) + "import {p}.b\n", "import {p}.a\n", [301, 1]),
    "many_names_guarded": ("".join(f"v{i} = {i}.5\n" for i in range(300)) + GUARDED + "if TYPE_CHECKING:\n    import {p}.b\n", "import {p}.a\n", []),
}


@pytest.fixture(scope="module")
def circles(tmp_path_factory):
    shell = shell_in(tmp_path_factory, "circles")
    for name, (a, b, _) in CIRCLES.items():
        shell.write(f"src/{name}/__init__.py")
        shell.write(f"src/{name}/a.py", a.format(p=name))
        shell.write(f"src/{name}/b.py", b.format(p=name))
    shell.write("src/ring/__init__.py", "X = 1\nfrom ring import one\n")
    shell.write("src/ring/one.py", "import ring.two\n")
    shell.write("src/ring/two.py", "import ring.three, ring.four\n")
    shell.write("src/ring/three.py", "import ring.one\nimport ring.four\n")
    shell.write("src/ring/four.py", "import ring.two\n")
    shell.write("src/own/__init__.py", "X = 1\nimport own.sub\n")
    shell.write("src/own/sub.py", "from own import X\n")
    shell.write("src/apart/__init__.py", "import apart.sub\n")
    shell.write("src/apart/sub.py", "import apart\nimport apart.other\nfrom . import other\n")
    shell.write("src/apart/other.py")
    shell.write("src/lone/__init__.py", "raise ValueError\n")
    shell.write("src/lone/a.py", "import lone.b\n")
    shell.write("src/lone/b.py", "import lone.a\n")
    return Checked(shell, "src", "--allow", "import", status=0)


@pytest.mark.parametrize("name", CIRCLES)
def test_circle(circles, name):
    lines = CIRCLES[name][2]
    found = [one for one in circles.findings if one["modules"][0].startswith(f"{name}.")]
    if lines is None:  # this one fails to import as well
        lines = [1, 1]
    assert [[step["line"] for step in one["chain"]] for one in found] == ([lines] if lines else [])
    for one in found:
        assert (one["kind"], one["severity"], one["line"]) == ("circular", "warning", lines[0])
        assert [(step["module"], step["imports"]) for step in one["chain"]] == [(f"{name}.a", f"{name}.b"), (f"{name}.b", f"{name}.a")]


def test_circles_of_more(circles):
    about = {one["modules"][0].partition(".")[0]: one for one in circles.findings}
    assert set(about) == {"ring", "own", "lone"} | {name for name, case in CIRCLES.items() if case[2] != []}
    assert about["ring"]["modules"] == ["ring.four", "ring.one", "ring.three", "ring.two"] and len(about["ring"]["chain"]) == 2
    assert [step["module"] for step in about["own"]["chain"]] == ["own", "own.sub"]
    assert about["lone"]["modules"] == ["lone.a", "lone.b"]  # nothing was executed for it


def test_circles_fail_if_asked(circles):
    assert circles.shell.ladewerk("check", "src/ring").returncode == 0
    strict = circles.shell.ladewerk("check", "src/ring", "--strict")
    assert strict.returncode == 1
    assert strict.stdout.splitlines()[0] == ("src/ring/four.py:1: circular (warning): ring.four -> ring.two (src/ring/four.py:1) -> ring.four (src/ring/two.py:1)"
                                             "; 4 modules import each other in circles here")


# --- targets and options ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    shell = shell_in(tmp_path_factory, "project")
    for name in ("src/shop/__init__.py", "src/shop/cart/__init__.py", "src/shop/other.py", "src/tests/conftest.py", "lib/tool/__init__.py", "lib/tool/sub.py", "lib/single.py"):
        shell.write(name)
    for name in ("src/shop/cart/bad.py", "src/shop/legacy/__init__.py", "src/shop/legacy/deep/worse.py", "src/tests/test_cart.py"):
        shell.write(name, "raise ValueError\n")
    shell.env["PYTHONPATH"] = str(shell.cwd / "lib")
    return shell


ALL = {"src/shop/cart/bad.py", "src/shop/legacy/__init__.py", "src/tests/test_cart.py"}
TARGETS = {
    ("src",): (8, ALL),
    ("src", "src"): (8, ALL),
    ("src", "lib"): (11, ALL),
    ("src/shop",): (6, {"src/shop/cart/bad.py", "src/shop/legacy/__init__.py"}),
    ("src/shop/cart",): (2, {"src/shop/cart/bad.py"}),
    ("src/shop/cart/bad.py",): (1, {"src/shop/cart/bad.py"}),
    ("src/shop/cart/__init__.py", "src/shop/other.py"): (3, {"src/shop/cart/bad.py"}),
    ("tool",): (2, set()),
    ("tool.sub",): (1, set()),
    ("tool.sub", "single", "json.decoder", "lib/single.py"): (3, set()),
    ("src", "--exclude", "bad.py", "--exclude", "legacy", "--exclude", "tests"): (3, set()),
    ("src", "--exclude", "shop/cart/*", "--exclude", "shop.legacy", "--exclude", "test_*"): (3, set()),
    ("src", "--exclude", "shop/legacy/", "--exclude", "nothing", "--exclude", "shop/legac"): (6, {"src/shop/cart/bad.py", "src/tests/test_cart.py"}),
}


@pytest.mark.once
@pytest.mark.parametrize("arguments", TARGETS, ids=" ".join)
def test_target(project, arguments):
    modules, files = TARGETS[arguments]
    checked = Checked(project, *arguments, status=bool(files))
    assert {file for _, file, _ in checked.all()} == files and checked.report["modules"] == modules


@pytest.mark.once
def test_name_in_the_current_directory(project):
    done = project.ladewerk("check", "shop.cart", cwd=project.cwd / "src")
    assert done.returncode == 1 and done.stdout.startswith("shop/cart/bad.py:1: import: ValueError\n2 modules: ")


MISUSE = {
    "none": [], "missing": ["nothing_like_this"], "missing path": ["src/nothing"], "missing file": ["nothing.py"], "built in": ["sys"], "no name": ["a-b"],
    "no source": ["src/../lib/../work"], "kind": ["src", "--allow", "odd"], "jobs": ["src", "-j", "0"], "timeout": ["src", "--timeout", "soon"],
    "negative": ["src", "--timeout", "-1"], "format": ["src", "--format", "xml"], "option": ["src", "--odd"], "nameless": ["src/x-y.py"],
}


@pytest.mark.once
@pytest.mark.parametrize("case", MISUSE)
def test_misuse(project, case):
    project.write("src/x-y.py")
    done = project.ladewerk("check", *MISUSE[case])
    project.cwd.joinpath("src/x-y.py").unlink()
    assert (done.returncode, done.stdout) == (2, "") and done.stderr and "Traceback" not in done.stderr


def test_help_names_all_kinds(shell):
    done = shell.ladewerk("check", "--help")
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 110
    assert set(FINDINGS) <= set(re.findall(r"^  (\w+)[*+]? ", done.stdout, re.MULTILINE))
    assert "  check " in shell.ladewerk("--help").stdout


# --- the guide ----------------------------------------------------------------------------------------------------------


def test_the_guide_tells_the_truth(shell):
    text = GUIDE.read_text()
    for name, source in re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL):
        shell.write(name, f"# {name}\n{source}".partition("\n")[2])
    command, _, said = re.search(r"```console\n\$ ladewerk (.*?)\n(.*?)```", text, re.DOTALL).group(1, 0, 2)
    done = shell.ladewerk(*command.split())
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 1)
    assert set(FINDINGS) == set(re.findall(r"^\| `(\w+)` \| (?:error|warning)", text, re.MULTILINE))
    report = shell.json(*command.split(), status=1)
    for key in {*report, *(key for one in report["findings"] for key in one)}:
        assert f"`{key}`" in text, key
