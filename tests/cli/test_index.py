# SPDX-License-Identifier: MIT
"""`ladewerk index`: what it stores is served, what it cannot do it says."""
from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time

import pytest


@pytest.fixture
def tree(shell):
    shell.write("src/alpha.py", "answer = 42\n")
    shell.write("src/pack/__init__.py")
    shell.write("src/pack/beta.py", "# coding: latin-1\nletter = '\xe4'\n".encode("latin-1"))
    shell.write("src/pack/deep/gamma.py", "import re\nbad = '\\d'\n")  # a SyntaxWarning for whoever compiles it
    shell.settle()
    return shell


def test_indexed_tree_is_served_at_the_first_run(tree):
    done = tree.ladewerk("index", "src")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 directories, 6 importable names, 4 sources in 1 root" in done.stdout and "4 compiled" in done.stdout and str(tree.cache) in done.stdout
    stats = tree.stats(f"import sys; sys.path.insert(0, {str(tree.cwd / 'src')!r})\nimport alpha, pack.beta, pack.deep.gamma\n"
                       "assert alpha.answer == 42 and pack.beta.letter == chr(0xe4)\nassert alpha.__file__ == alpha.__spec__.origin\n")
    assert stats["served"]["pack"] >= 3 and stats["served"]["compiled"] == 0
    assert not list(tree.cwd.rglob("__pycache__"))


def test_default_is_all_of_sys_path_but_not_the_working_directory(tree):
    """Asked for its roots only: reading all of an installation takes a while."""
    source, tree.cwd = tree.cwd / "src", tree.cwd / "src/pack"
    env = {"PYTHONPATH": os.pathsep.join([str(source), "/nonexistent", "/dev/null"])}
    done = tree.stock("-c", "import json\nfrom ladewerk import _index\nprint(json.dumps(_index._default_roots()))", env=env)
    roots = json.loads(done.stdout)
    assert str(source) in roots and str(tree.cwd) not in roots and all(map(os.path.isdir, roots))
    assert os.path.dirname(os.__file__) in roots


def test_code_comes_from_pyc_files_that_are_there(tree):
    tree.stock("-m", "compileall", "-q", "src", check=True)
    tree.settle()
    time.sleep(1.1)  # a .pyc knows whole seconds: younger ones are not believed
    facts = tree.json("index", "src")
    assert (facts["from_pyc"], facts["compiled"]) == (4, 0)


def test_sources_that_do_not_compile_are_named(tree):
    tree.write("src/broken.py", "def f(:\n")
    tree.write("src/nul.py", b"x = 1\0\n")
    tree.write("src/coding.py", "# coding: no-such-coding\n")
    for i in range(20):
        tree.write(f"src/bad{i}.py", "1 +\n")
    tree.settle()
    done = tree.ladewerk("index", "src")
    assert done.returncode == 0 and "23 sources that do not compile" in done.stdout and "13 more" in done.stdout
    facts = tree.json("index", "src")
    faults = {os.path.basename(fault["file"]): fault["error"] for fault in facts["not_compiled"]}
    assert len(faults) == 23 and faults["broken.py"].startswith("line 1:") and "no-such-coding" in faults["coding.py"]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_many_sources(shell, threads):
    """Beyond a hundred, worker processes compile."""
    for i in range(250):
        shell.write(f"src/m{i}.py", f"value = {i}\n")
    shell.write("src/m77.py", "value =\n")
    shell.settle()
    facts = shell.json("index", "src", "--threads", threads)
    assert (facts["compiled"], len(facts["not_compiled"])) == (249, 1)
    code = "import sys; sys.path.insert(0, 'src')\nfor i in range(250):\n  if i != 77: assert __import__(f'm{i}').value == i"
    code = code.replace("'src'", repr(str(shell.cwd / "src")))
    assert shell.stats(code)["served"]["pack"] >= 249


def test_optimised_code_is_kept_apart(tree):
    tree.write("src/asserting.py", "assert not __debug__, 'debug'\n")
    tree.settle()
    assert tree.stock("-O", "-m", "ladewerk", "index", "src").returncode == 0
    code = f"import sys; sys.path.insert(0, {str(tree.cwd / 'src')!r})\nimport asserting"
    assert tree.ladewerk("run", "-O", "-c", code).returncode == 0
    assert "AssertionError" in tree.ladewerk("run", "-c", code).stderr


def test_second_index_adds_to_the_first(tree):
    tree.write("other/delta.py")
    tree.settle()
    tree.json("index", "src")
    tree.json("index", "other")
    assert len(tree.files()) == 1
    paths = [str(tree.cwd / "src"), str(tree.cwd / "other")]
    assert tree.stats(f"import sys; sys.path[:0] = {paths}\nimport alpha, delta")["served"]["compiled"] == 0


def test_quiet(tree):
    tree.write("src/broken.py", "def f(:\n")
    done = tree.ladewerk("index", "--quiet", "src")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_progress_is_for_terminals_only(tree):
    primary, secondary = os.openpty()
    done = tree.ladewerk("index", "src", capture_output=False, stdout=subprocess.PIPE, stderr=secondary)
    os.close(secondary)
    shown = os.read(primary, 65536) if done.returncode == 0 else b""
    os.close(primary)
    assert b"\x1b[K" in shown and b"Traceback" not in shown
    assert "\x1b" not in done.stdout


BAD_ROOTS = {"missing": "there is no such directory", "file.txt": "not a directory", "file.txt/below": "not a directory",
             "x" * 5000: "too long", "dangling": "there is no such directory", "loop": "symbolic links", "": "there is no such directory"}


@pytest.mark.parametrize("root", BAD_ROOTS, ids=lambda root: root[:20] or "empty")
def test_bad_root(tree, root):
    tree.write("file.txt")
    (tree.cwd / "dangling").symlink_to("nowhere")
    (tree.cwd / "loop").symlink_to("loop")
    done = tree.ladewerk("index", "src", root)
    assert (done.returncode, done.stdout) == (1, "")
    assert BAD_ROOTS[root] in done.stderr and done.stderr.count("\n") == 1 and root[:50] in done.stderr
    assert not tree.files()


def test_unreadable_root(powerless):
    powerless.write("closed/m.py")
    (powerless.cwd / "closed").chmod(0)
    done = powerless.ladewerk("index", "closed")
    (powerless.cwd / "closed").chmod(0o755)
    assert done.returncode == 1 and "closed: you may not read it" in done.stderr


def test_unreadable_below_a_root_is_left_out(powerless):
    powerless.write("src/closed/m.py")
    powerless.write("src/open.py")
    powerless.write("src/secret.py").chmod(0)
    (powerless.cwd / "src/closed").chmod(0)
    powerless.settle()
    done = powerless.ladewerk("index", "src")
    (powerless.cwd / "src/closed").chmod(0o755)
    assert done.returncode == 0 and "1 directory that cannot be read" in done.stdout, done.stderr


def test_names_that_are_not_utf8(shell):
    root = os.fsencode(shell.cwd) + b"/caf\xe9"
    os.mkdir(root)
    for name in (b"plain.py", b"caf\xe9.py", "\u00e9t\u00e9.py".encode(), b"broken\xff.py"):
        with open(root + b"/" + name, "wb") as file:
            file.write(b"x = 1\n" if name != b"broken\xff.py" else b"x =\n")
    shell.settle()
    done = shell.ladewerk("index", os.fsdecode(root))
    assert done.returncode == 0 and "3 compiled" in done.stdout and "Traceback" not in done.stderr
    facts = shell.json("index", os.fsdecode(root))
    assert facts["roots"] == [os.fsdecode(root)]
    code = f"import sys; sys.path.insert(0, {os.fsdecode(root)!r})\nimport plain, \u00e9t\u00e9; __import__('caf\\udce9')"
    assert shell.stats(code)["served"]["pack"] >= 3


def test_deepest_paths(shell):
    """A tree that goes down to the limit of the kernel, and beyond."""
    fd = os.open(shell.cwd, os.O_RDONLY)
    name = "d" * 200
    for _ in range(25):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        os.close(os.open("m.py", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    shell.settle()
    done = shell.ladewerk("index", ".")
    assert done.returncode == 0 and "Traceback" not in done.stderr
    path = shell.cwd
    for _ in range(18):
        path /= name
    assert shell.stats(f"import sys; sys.path.insert(0, {str(path)!r})\nimport m")["served"]["pack"] >= 1


def test_read_only_is_respected(tree):
    done = tree.ladewerk("index", "src", env={"LADEWERK_READONLY": "1"})
    assert done.returncode == 1 and "LADEWERK_READONLY is set" in done.stderr and not tree.cache.exists()


def test_full_disk(tree, small_disk):
    for i in range(60):
        tree.write(f"src/big{i}.py", f"text = {'x' * 4000!r} + '{i}'\n")
    tree.settle()
    done = tree.ladewerk("index", "src", env={"LADEWERK_CACHE": str(small_disk / "cache")})
    assert done.returncode == 1 and "no space left" in done.stderr and "LADEWERK_CACHE" in done.stderr
    assert not list(small_disk.glob("cache/*/*.lwi"))


def test_code_beyond_the_bound_does_not_stay_in_memory(tree):
    """It becomes segments, which the last write merges with the directories."""
    for i in range(30):
        tree.write(f"src/pack/more{i}.py", f"value = {i}\n")
    tree.settle()
    program = f"""
from ladewerk import _index, _native
for memory in {{'memory': 1}}, {{}}:
    builder = _native.Builder(**memory)
    bad = _index._build(builder, [{str(tree.cwd / "src")!r}], True, 1)
    builder.write()
    print(builder.stats()["spilled"], builder.stats()["compiled"], bad)
"""
    assert tree.stock("-c", program).stdout == "34 34 []\n0 34 []\n"
    assert len(tree.files()) == 1
    imports = ", ".join(f"pack.more{i}" for i in range(30))
    stats = tree.stats(f"import sys; sys.path.insert(0, {str(tree.cwd / 'src')!r})\nimport alpha, {imports}\nassert pack.more7.value == 7")
    assert stats["served"]["pack"] >= 32 and stats["served"]["compiled"] == 0


def test_interrupt(shell):
    for i in range(300):
        shell.write(f"src/m{i}.py", "x = [" + "a + b, " * 10000 + "]\n")  # takes a while to compile
    process = subprocess.Popen([shell.script, "index", "src"], cwd=shell.cwd, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "ladewerk: interrupted\n" and output == ""
    assert not shell.files()


@pytest.fixture
def lock(tree):
    """Of a cache with one file, taken by somebody else."""
    tree.json("index", "src")
    with tree.files()[0].with_name("lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def start_waiting(tree, lock, *command):
    process = subprocess.Popen(command, cwd=tree.cwd, env=tree.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    number, until = os.fstat(lock.fileno()).st_ino, time.monotonic() + 20
    with open("/proc/locks") as locks:
        while not any("->" in line and f":{number} " in line for line in locks) and time.monotonic() < until:
            time.sleep(0.05)
            locks.seek(0)
    return process


def test_interrupt_while_another_process_has_the_lock(tree, lock):
    before = tree.files()
    process = start_waiting(tree, lock, tree.script, "index", "src")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=5)
    assert (process.returncode, output, errors) == (130, "", "ladewerk: interrupted\n")
    assert tree.files() == before


def test_other_signals_do_not_end_the_waiting(tree, lock):
    program = """
import signal
from ladewerk import _native
signal.signal(signal.SIGUSR1, lambda *_: print("signal", flush=True))
_native.Builder().write()
print("written")
"""
    process = start_waiting(tree, lock, tree.python, "-c", program)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "signal\n" and process.poll() is None
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert process.communicate(timeout=5) == ("written\n", "") and process.returncode == 0


def test_reader_that_goes_away(tree):
    done = subprocess.run(f"{tree.script} index src --json | true", shell=True, cwd=tree.cwd, env=tree.env, capture_output=True, text=True)
    assert done.stderr == ""
