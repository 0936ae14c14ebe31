# SPDX-License-Identifier: MIT
"""`ladewerk run`: the program cannot tell, apart from being faster; its children are accelerated too."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import zipfile

import pytest

from shell import STATS

PROBE = """\
import json, sys, os
import helper, package.part
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "name": __name__, "file": globals().get("__file__"), "package": __package__,
    "spec": repr(__spec__), "loader": type(__loader__).__name__, "main": sys.modules["__main__"].__dict__ is globals(),
    "cached": globals().get("__cached__"), "flags": repr(sys.flags), "executable": sys.executable, "prefix": sys.prefix,
    "cwd": os.getcwd(), "helper": helper.__file__, "part": repr(package.part.__spec__), "xoptions": sys._xoptions,
    "stdin": sys.stdin.read() if "stdin" in sys.argv else None,
}))
"""


@pytest.fixture
def program(shell):
    shell.write("probe.py", PROBE)
    shell.write("helper.py", "def fail():\n    raise LookupError('helper')\n")
    shell.write("package/__init__.py")
    shell.write("package/__main__.py", PROBE)
    shell.write("package/part.py")
    shell.write("folder/__main__.py", PROBE)
    shell.write("folder/helper.py")
    shell.write("folder/package/__init__.py")
    shell.write("folder/package/part.py")
    with zipfile.ZipFile(shell.cwd / "app.zip", "w") as file:
        for name in ("__main__.py", "helper.py", "package/__init__.py", "package/part.py"):
            file.write(shell.cwd / "folder" / name, name)
    shell.write("broken.py", "def f(:\n")
    return shell


STARTS = {
    "script": ["probe.py"],
    "script with arguments": ["probe.py", "--freshness", "frozen", "-m", "x", "--", "-", "--help", "", "ä b"],
    "script by path": ["./package/../probe.py"],
    "module": ["-m", "probe", "-h"],
    "package": ["-m", "package", "--", "-c"],
    "code": ["-c", PROBE, "a", "-b"],
    "folder": ["folder", "1"],
    "zip": ["app.zip", "1"],
    "options": ["-O", "-B", "-X", "answer=42", "-W", "error", "probe.py", "-O"],
    "isolated": ["-I", "-c", "import sys; print(sys.flags, sys.path)"],
    "no environment": ["-E", "probe.py"],
    "no site": ["-S", "probe.py"],
    "safe path": ["-P", "-c", "import sys; print(sys.path)"],
    "exit status": ["-c", "import sys; sys.exit(42)"],
    "exit message": ["-c", "import sys; sys.exit('no more')"],
    "missing script": ["nothing.py"],
    "missing module": ["-m", "nothing_like_this"],
    "unknown option": ["--nothing"],
    "traceback": ["-c", "import helper\nhelper.fail()"],
    "syntax error in a module": ["-c", "import broken"],
    "syntax error in the script": ["broken.py"],
    "missing import": ["-c", "import nothing_like_this"],
    "missing submodule": ["-c", "import package.nothing"],
    "version": ["-VV"],
    "deprecations": ["-W", "error", "-X", "dev", "probe.py"],
}


def _seen(done):
    """What a user sees of a run. Addresses differ in any two."""
    return done.returncode, re.sub("0x[0-9a-f]+", "0x", done.stdout), done.stderr


@pytest.mark.parametrize("start", STARTS)
def test_program_cannot_tell(program, start):
    expected = program.stock(*STARTS[start])
    for attempt in ("first", "learnt"):
        done = program.ladewerk("run", *STARTS[start])
        assert _seen(done) == _seen(expected), attempt


def test_probe_can_tell_programs_apart(program):
    """The control of the test above."""
    assert program.stock("probe.py", "a").stdout != program.stock("probe.py", "b").stdout
    assert program.stock("-m", "probe").stdout != program.stock("probe.py").stdout


@pytest.mark.parametrize("words", [["-", "stdin"], ["probe.py", "stdin"]])
def test_standard_input_is_the_programs(program, words):
    text = "print('from stdin')\n" if words[0] == "-" else "data"
    expected = program.stock(*words, input=text)
    assert expected.returncode == 0 and _seen(program.ladewerk("run", *words, input=text)) == _seen(expected)


def test_python_m_ladewerk_is_the_same(program):
    expected = program.stock("probe.py", "-x", "--help")
    done = program.stock("-m", "ladewerk", "run", "probe.py", "-x", "--help")
    assert _seen(done) == _seen(expected)


def test_python_m_ladewerk_keeps_interpreter_options(program):
    code = "import sys; print(sys.flags, sys._xoptions)"
    options = ["-O", "-X", "dev", "-W", "ignore"]
    assert program.stock(*options, "-m", "ladewerk", "run", "-c", code).stdout == program.stock(*options, "-c", code).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
def test_death_by_signal_is_the_programs(shell, number):
    code = f"import os, signal; signal.signal({int(number)}, signal.SIG_DFL); os.kill(os.getpid(), {int(number)})"
    assert shell.ladewerk("run", "-c", code).returncode == -number


def test_pid_and_parent_stay(shell):
    """The launcher becomes the interpreter: supervisors signal the right process."""
    done = shell.ladewerk("run", "-c", "import os; print(os.getppid())")
    assert int(done.stdout) == os.getpid()


def test_second_run_is_served_from_the_cache(program):
    code = "import helper, package.part"
    program.settle()
    first = program.stats(code)
    program.settle()  # it created __pycache__ directories
    second, third = program.stats(code), program.stats(code)
    assert first["active"] and first["served"]["pack"] == 0 and first["reason"] is None
    assert second["served"]["pack"] >= 3 and third["served"]["pack"] >= 3 and third["session"]["listings_read"] == 0


def test_stock_is_not_accelerated(program):
    """The control of every test here that looks at statistics."""
    assert json.loads(program.stock("-c", STATS).stdout)["active"] is False


CHILDREN = {
    "subprocess": "import subprocess, sys; subprocess.run([sys.executable, '-c', CODE], check=True)",
    "os.system": "import os, sys, shlex; os.system(shlex.join([sys.executable, '-c', CODE]))",
    "exec": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', CODE])",
    "script with another interpreter name": "import subprocess, sys, os; subprocess.run([os.path.join(os.path.dirname(sys.executable), 'python'), '-c', CODE], check=True)",
}


@pytest.mark.parametrize("way", CHILDREN)
def test_children_are_accelerated(program, way):
    child = program.ladewerk("run", "-c", CHILDREN[way].replace("CODE", repr(f"import helper; {STATS}")))
    stats = json.loads(child.stdout)
    assert stats["active"] and sum(stats["served"].values()) > 0, child.stderr


MULTIPROCESSING = """\
import json, multiprocessing, sys

def work(queue):
    import helper, ladewerk
    queue.put(ladewerk.stats())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(json.dumps(queue.get(timeout=60)))
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_multiprocessing_is_accelerated(program, method):
    program.write("parallel.py", MULTIPROCESSING)
    for _ in range(2):
        done = program.ladewerk("run", "parallel.py", method)
        stats = json.loads(done.stdout)
        assert stats["active"] and sum(stats["served"].values()) > 0
        assert done.stderr == ""


def test_kill_switch_wins(program):
    code = "import json, sys, os; print('ladewerk._native' in sys.modules, os.environ['LADEWERK'])"
    for command in (program.ladewerk("run", "-c", code, env={"LADEWERK": "0"}),
                    program.stock("-m", "ladewerk", "run", "-c", code, env={"LADEWERK": "0"})):
        assert command.stdout.split() == ["False", "0"]
    assert not program.cache.exists()


def test_a_file_of_the_same_name_is_the_programs(program):
    """`ladewerk.py` in the script's directory, and finders and __import__ functions of the program, have nothing to do with us."""
    program.write("ladewerk.py", """
import builtins, sys
print("body runs as", __name__)
asked = []
class Finder:
    def find_spec(name, path=None, target=None): asked.append(name)
sys.meta_path.insert(0, Finder)
original = builtins.__import__
builtins.__import__ = lambda name, *a, **k: (asked.append(name), original(name, *a, **k))[1]
import colorsys
print(sorted({name for name in asked if "ladewerk" in name}), "ladewerk" in sys.modules)
""")
    done = program.ladewerk("run", "ladewerk.py")
    assert (done.stdout, done.stderr) == ("body runs as __main__\n[] False\n", "")
    done = program.ladewerk("run", "-c", "import json, sys; print('ladewerk' in sys.modules, 'ladewerk._native' in sys.modules)")
    assert done.stdout == "False True\n"


def test_empty_counts_as_not_set(program):
    done = program.stock("-c", "import json, sys; print('ladewerk._native' in sys.modules)", env={"LADEWERK": ""})
    assert done.stdout == "False\n"


def test_on_by_the_environment_alone(program):
    assert json.loads(program.stock("-c", STATS, env={"LADEWERK": "1"}).stdout)["active"] is True


@pytest.mark.parametrize("option", ["-E", "-I", "-S"])
def test_stock_where_the_environment_or_site_is_refused(program, option):
    code = "import json, sys; print([type(finder).__module__ for finder in sys.meta_path])"
    done = program.ladewerk("run", option, "-c", code)
    assert done.returncode == 0 and "ladewerk" not in done.stdout
    assert "ladewerk" in program.ladewerk("run", "-c", code).stdout


@pytest.mark.parametrize("words", [["--freshness", "frozen"], ["--freshness=frozen"], ["--freshness", "stat", "--freshness=frozen"]])
@pytest.mark.parametrize("by", ["launcher", "module"])
def test_freshness(program, words, by):
    command = ["run", *words, "-c", STATS]
    done = program.ladewerk(*command) if by == "launcher" else program.stock("-m", "ladewerk", *command)
    assert json.loads(done.stdout)["freshness"] == "frozen", done.stderr


USAGE = {
    "nothing": ([], "nothing to run"),
    "freshness only": (["--freshness", "stat"], "nothing to run"),
    "odd freshness": (["--freshness", "fresh", "x.py"], "--freshness takes stat, watch or frozen, not 'fresh'"),
    "odd freshness with =": (["--freshness=", "x.py"], "--freshness takes stat, watch or frozen, not ''"),
    "freshness without a mode": (["--freshness"], "--freshness takes stat, watch or frozen, not ''"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(shell, case):
    words, text = USAGE[case]
    launcher = shell.ladewerk("run", *words)
    module = shell.stock("-m", "ladewerk", "run", *words)
    assert (launcher.returncode, launcher.stdout) == (2, "")
    assert text in launcher.stderr and launcher.stderr.count("\n") == 1
    assert (module.returncode, module.stdout, module.stderr) == (2, "", launcher.stderr)


@pytest.mark.parametrize("what", ["command", "environment"])
def test_launcher_called_through_a_link(shell, what):
    """A link to the command runs its environment; an environment reached through a link stays there, as with its python."""
    show = "import json, sys; print(sys.prefix, sys.executable, 'ladewerk._native' in sys.modules)"
    link = shell.cwd / "link"
    if what == "command":
        link.symlink_to(shell.script)
        expected = shell.stock("-c", show, env={"LADEWERK": "1"})
    else:
        link.symlink_to(shell.script.parent.parent)
        shell.python = link / shell.script.parent.name / shell.python.name
        expected = shell.stock("-c", show, env={"LADEWERK": "1"})
        link = link / shell.script.parent.name / "ladewerk"
    shell.script = link
    done = shell.ladewerk("run", "-c", show)
    assert (done.stdout, done.stderr) == (expected.stdout, "") and "True" in done.stdout


def test_launcher_without_an_interpreter_beside_it(shell, tmp_path):
    lonely = tmp_path / "bin"
    lonely.mkdir()
    shutil.copy(shell.script, lonely)
    shell.script = lonely / "ladewerk"
    found = shell.ladewerk("run", "-c", f"import sys; print(sys.argv)\n{STATS}", "-x", env={"PATH": str(shell.python.parent)})
    assert found.stdout.splitlines()[0] == "['-c', '-x']" and json.loads(found.stdout.splitlines()[1])["active"], found.stderr
    missing = shell.ladewerk("run", "-c", "pass", env={"PATH": str(lonely)})
    assert missing.returncode == 127 and "cannot execute python" in missing.stderr


def test_launcher_with_a_broken_interpreter_beside_it(shell, tmp_path):
    odd = tmp_path / "bin"
    odd.mkdir()
    shutil.copy(shell.script, odd)
    (odd / shell.python.name).write_bytes(b"\x7fELF, but not really")
    (odd / shell.python.name).chmod(0o755)
    shell.script = odd / "ladewerk"
    done = shell.ladewerk("run", "-c", "pass")
    assert done.returncode == 126 and "cannot execute" in done.stderr


@pytest.mark.parametrize("words", [[], ["run"], ["index"], ["why"], ["doctor"], ["enable"], ["disable"]])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(shell, words, option):
    done = shell.ladewerk(*words, option)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: ladewerk {' '.join(words)}".rstrip())
    assert "exit status" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert not shell.cache.exists()


def test_version(shell):
    words = shell.ladewerk("--version").stdout.split()
    assert words[0] == "ladewerk" and words[1] == shell.stock("-c", "import ladewerk; print(ladewerk.__version__)").stdout.strip()


@pytest.mark.parametrize("words", [[], ["nothing"], ["--nothing"], ["index", "--nothing"], ["why"], ["why", "a", "b"], ["doctor", "x"], ["enable", "x"],
                                   ["index", "--threads", "0"], ["index", "--threads", "many"]])
def test_wrong_command_line(shell, words):
    done = shell.ladewerk(*words)
    assert (done.returncode, done.stdout) == (2, "") and "usage: ladewerk" in done.stderr


def test_files_in_the_working_directory_do_not_disturb_the_commands(shell):
    for name in ("json", "argparse", "ladewerk", "difflib", "site"):
        shell.write(f"{name}.py", "raise SystemExit('taken from the working directory')\n")
    assert shell.ladewerk("--version").returncode == 0
    assert shell.json("why", "email")["found"]




def test_output_that_cannot_be_written(shell):
    with open("/dev/full", "w") as full:
        done = shell.ladewerk("why", "json", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr == "ladewerk: why: [Errno 28] No space left on device\n"
    closed = subprocess.run(f"{shell.script} why json >&- 2>&-", shell=True, cwd=shell.cwd, env=shell.env)
    assert closed.returncode == 0
