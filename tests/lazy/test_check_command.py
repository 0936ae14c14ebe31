# SPDX-License-Identifier: MIT
"""`ladewerk lazy-check` from outside: programs that are the same lazily, programs that are not, and what then has to be eager, which is tried."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import whose

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from shell import Shell  # noqa: E402

# app (the program, whose own imports are eager) -> shop -> plugins, odds, pure. Nobody uses what `plugins.codec` binds: it is imported for what it registers.
FILES = {
    "app.py": "import sys\nimport shop.main\nshop.main.main(sys.argv[1:])\n",
    "shop/__init__.py": "",
    "shop/__main__.py": "import sys\nimport shop.main\nshop.main.main(sys.argv[1:])\n",
    "shop/main.py": """\
import sys
import time
from plugins.codec import NAME
from plugins.hook import install
from pure.numbers import value
from shop.inner import Base, implementations
from shop.late import Implementation

def used():
    return NAME, install, Implementation, Base

def main(words):
    for word in words:
        COMMANDS[word]()

def codec():
    print("one" if "odd".encode("odd") == b"one" else "other")

def clean():
    print(value())

def classes():
    print(implementations())

def clock():
    print("took", time.perf_counter_ns(), "ns")

def count():
    with open("count", "a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())

def lines():
    print("line\\n" * count())

def status():
    sys.exit(count())

def child():
    import subprocess
    print(subprocess.run([sys.executable, "-m", "shop", "codec", "clean"], stderr=subprocess.PIPE).returncode)

COMMANDS = {"child": child, "codec": codec, "clean": clean, "classes": classes, "clock": clock, "lines": lines, "status": status}
""",
    "shop/inner.py": "class Base: pass\ndef implementations(): return [one.__name__ for one in Base.__subclasses__()]\n",
    "shop/late.py": "from shop.inner import Base\nclass Implementation(Base): pass\n",
    "plugins/__init__.py": "",
    "plugins/codec.py": """\
import codecs
NAME = "odd"
def search(name):
    return codecs.CodecInfo(lambda text, errors="strict": (b"one", len(text)), None) if name == NAME else None
codecs.register(search)
""",
    "plugins/hook.py": "import atexit\ndef install(): atexit.register(print, 'bye')\n",
    "plugins/other.py": "",
    "pure/__init__.py": "",
    "pure/numbers.py": "def value(): return 42\n",
}


class Project(Shell):
    def check(self, *words, status, mode="all", **options):
        done = self.ladewerk("lazy-check", *(["--mode", mode] if mode else []), *words, **options)
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    def facts(self, *words, status, **options):
        return json.loads(self.check("--json", *words, status=status, **options).stdout)


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    for name, text in FILES.items():
        project.write(name, text)
    project.settle()
    return project


@whose.some
@pytest.mark.parametrize("command", [["app.py", "clean"], ["--", "-m", "shop", "clean"], ["python", "app.py", "clean"]], ids=" ".join)
def test_the_same(project, command):
    facts = project.facts("--allow", "codecs", *command, status=0)
    assert facts["same"] and facts["mode"] == "all" and facts["inactive"] is None and facts["exclude"] is None and facts["runs"] == 3


@whose.some
def test_what_must_be_eager_is_found_and_will_do(project):
    done = project.check("app.py", "codec", status=1)
    assert "LookupError" in done.stdout and "plugins.codec.search: eagerly only" in done.stdout
    lines = done.stdout[done.stdout.index("[tool.ladewerk.lazy]"):]
    assert lines == '[tool.ladewerk.lazy]\nmode = "all"\nexclude = ["of plugins.codec"]\n'
    project.write("pyproject.toml", lines)
    facts = project.facts("app.py", "codec", status=0, mode=None)
    assert facts["same"] and facts["mode"] == "all"


@whose.some
def test_several_packages(project):
    """`Base` has the subclass only if that was loaded, which is within one package: another mode than the default."""
    facts = project.facts("app.py", "codec", "classes", status=1)
    assert sorted(facts["exclude"]) == ["of plugins.codec", "of shop.late"]
    assert {"status", "stdout", "stderr", "codecs"} <= {one["kind"] for one in facts["differences"]}
    assert project.facts("app.py", "classes", status=1, mode="default")["exclude"] == ["of plugins.codec"]


@whose.some
def test_children(project):
    """One that differs is seen by what it has registered, whatever its parent makes of it."""
    facts = project.facts("--allow", "stdout", "--no-search", "--", "-c", "import shop.main as m; m.main(['child']); m.NAME", status=1)
    assert [(one["kind"], one["key"]) for one in facts["differences"]] == [("codecs", "the search function plugins.codec.search")]


@whose.some
def test_what_is_allowed_is_not_compared(project):
    assert project.facts("app.py", "clean", status=1)["differences"][0]["kind"] == "codecs"
    assert project.facts("--allow", "codecs", "app.py", "clean", status=0)["same"]


@whose.some
def test_not_searched_for(project):
    facts = project.facts("--no-search", "app.py", "codec", status=1)
    assert facts["differences"] and facts["exclude"] is None and facts["runs"] == 4


@whose.none
def test_a_build_without_lazy_imports(project):
    done = project.check("app.py", "clean", status=1)
    assert done.stdout.startswith("not checked: nothing was lazy: this is a free-threaded build")


@whose.some
@pytest.mark.once
@pytest.mark.parametrize("word, note", [("clock", "stdout has other numbers each time"), ("lines", "stdout has more or fewer lines each time")])
def test_what_is_not_the_same_twice_is_said(project, word, note):
    facts = project.facts("--allow", "codecs", "app.py", "clean", word, status=0)
    assert facts["notes"][0].startswith(note)


@whose.ours
@pytest.mark.parametrize("statement", ["from plugins import other, codec as odd", "from plugins import codec as odd, other"])
def test_which_of_the_names_of_a_statement(project, statement):
    """Both are the same statement's, and it waits for neither or both: the one that has to be eager is named, whichever comes first."""
    project.write("shop/main.py", FILES["shop/main.py"].replace("from plugins.codec import NAME", f"{statement}\nNAME = 'odd'").replace("NAME, install,", "odd, other, install,"))
    facts = project.facts("app.py", "codec", status=1)
    assert facts["exclude"] == ["of plugins.codec"]


@whose.some
@pytest.mark.once
def test_no_rule_helps(project):
    """The program looks at the mode itself."""
    project.write("odd.py", "import os\nprint(os.environ['LADEWERK_LAZY'])\n")
    facts = project.facts("odd.py", status=1)
    assert facts["exclude"] is None and facts["why_not"].endswith("no rule helps")
    assert "no rule helps" in project.check("odd.py", status=1).stdout


@whose.some
@pytest.mark.once
def test_what_helps_once_and_not_again(project):
    """Each run counts: the search takes some, and the last one tries its result again."""
    project.write("odd.py", "import os, json\nlazy, rules = os.environ['LADEWERK_LAZY'] != '0', os.environ.get('LADEWERK_LAZY_RULES')\n"
                            "seen = os.path.exists('json') and 'eager of json\\n' == rules\nif rules == 'eager of json\\napart\\n': open('json', 'w')\n"
                            "print('other' if lazy and (seen or not rules or 'eager of json\\n' not in rules) else 'one')\n")
    facts = project.facts("odd.py", status=1)
    assert facts["exclude"] is None and facts["why_not"].startswith("eager of json did, and did not")


@pytest.mark.once
def test_a_status_that_is_not_the_same_twice(project):
    done = project.check("--allow", "codecs", "app.py", "status", status=1)
    assert done.stderr.startswith("ladewerk: lazy-check: run eagerly, it does not end the same way twice: ") and not done.stdout


@pytest.mark.once
def test_nothing_is_lazy(project):
    """Whoever asks a command in vain must not take it for checked."""
    assert project.check("--", "ls", "app.py", status=1).stdout.startswith("not checked: no Python of this environment came to an ordinary end in it")
    assert project.facts("ls", "app.py", status=1)["inactive"].startswith("no Python of this environment")
    assert project.check("--", "-E", "app.py", "clean", status=1).stdout == "not checked: nothing was lazy: Ladewerk was not active\n"
    project.write("pyproject.toml", "[tool.ladewerk.lazy]\nmode = '0'\n")
    assert 'the mode of the project is "0"; --mode says another\n' in project.check("app.py", "clean", status=1, mode=None).stdout


@pytest.mark.once
@pytest.mark.parametrize("words, status, text", [
    ([], 2, "ladewerk: lazy-check: which command?"),
    (["--"], 2, "ladewerk: lazy-check: which command?"),
    (["--mode", "some", "app.py"], 2, "invalid choice: 'some'"),
    (["--allow", "some", "app.py"], 2, "invalid choice: 'some'"),
    (["no-such-command"], 1, "ladewerk: lazy-check: there is no command no-such-command"),
])
def test_misuse(project, words, status, text):
    done = project.ladewerk("lazy-check", *words)
    assert (done.returncode, done.stdout) == (status, "") and text in done.stderr


@pytest.mark.once
def test_switched_off(project):
    assert "LADEWERK=0 switches Ladewerk off" in project.check("app.py", status=1, env={"LADEWERK": "0"}).stderr


def has_ended(pid: str) -> bool:
    """In the end."""
    state, deadline = Path("/proc", pid, "stat"), time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if state.read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.once
def test_what_takes_too_long_is_ended_with_its_children(tmp_path, monkeypatch):
    from ladewerk._lazy_check import Command
    from ladewerk._lazy_session import Session

    (tmp_path / "child.py").write_text("import os, pathlib, time\npathlib.Path(__file__).with_name('new').write_text(str(os.getpid()))\n"
                                       "os.rename(pathlib.Path(__file__).with_name('new'), pathlib.Path(__file__).with_name('pid'))\ntime.sleep(600)\n")
    def late(session, seconds):
        """The time is up when the child runs."""
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        return False

    monkeypatch.setattr(Session, "_is_over", late)
    command = Command(["-c", f"import subprocess, sys\nsubprocess.run([sys.executable, {str(tmp_path / 'child.py')!r}])"], "all")
    command.patience = 1.0
    assert command.eagerly().status is None
    assert has_ended((tmp_path / "pid").read_text())


@pytest.mark.once
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_ends_the_command_ends_what_it_runs(project, number, status):
    """A program that hangs, with children in its process group and in one of their own."""
    project.write("hang.py", "import os, subprocess, sys, time\nsleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
                             "pids = [os.getpid(), subprocess.Popen(sleep).pid, subprocess.Popen(sleep, preexec_fn=os.setpgrp).pid]\n"
                             "with open('new', 'w') as file: print(*pids, file=file)\nos.rename('new', 'pids')\ntime.sleep(600)\n")
    command = subprocess.Popen([project.script, "lazy-check", "--", "hang.py"], cwd=project.cwd, env=project.env, stderr=subprocess.PIPE,
                               preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)])
    pids, deadline = project.cwd / "pids", time.monotonic() + 60
    while not pids.exists():
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.01)
    command.send_signal(number)
    said = command.communicate(timeout=60)[1]
    assert (command.returncode, said) == (status, b"ladewerk: interrupted\n" if number == signal.SIGINT else b"")
    assert len(pids.read_text().split()) == 3 and all(map(has_ended, pids.read_text().split()))


@pytest.mark.once
def test_kinds_are_those_of_the_command_line():
    from ladewerk import _lazy_check, cli

    assert _lazy_check.KINDS == cli.LAZY_KINDS and all(f"  {kind}" in cli._LAZY_CHECK_END or kind in ("stderr",) for kind in cli.LAZY_KINDS)
