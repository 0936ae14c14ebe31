# SPDX-License-Identifier: MIT
"""Programs run as under stock Python, whatever state the cache, the environment or the tree is in."""
from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from interpreters import once_but

from shell import PYTHON, STATS, Shell

CODE = "import mod, pack.sub; print(mod.value, pack.sub.value)"


@pytest.fixture
def program(shell):
    shell.write("mod.py", "value = 1\n")
    shell.write("pack/__init__.py")
    shell.write("pack/sub.py", "value = 2\n")
    shell.settle()
    return shell


def runs(shell, env={}, times=2):
    """It runs as it should; returns the statistics of the last run."""
    for _ in range(times):
        done = shell.ladewerk("run", "-c", f"{CODE}\n{STATS}", env=env)
        lines = done.stdout.splitlines()
        assert (done.returncode, lines[0], done.stderr) == (0, "1 2", ""), done.stderr
    return json.loads(lines[1])


# --- the cache ----------------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("place", ["relative", "/proc/nowhere", "/dev/null", "/dev/null/below", "/" + "x" * 300, "/" + "/".join(["y" * 200] * 25)],
                         ids=["relative", "proc", "device", "below a device", "long name", "long path"])
def test_impossible_place(program, place):
    stats = runs(program, {"LADEWERK_CACHE": place})
    assert stats["active"] and stats["cache"] is None and stats["reason"]


@pytest.mark.once
def test_place_is_a_file(program):
    program.cache.write_text("mine")
    assert runs(program)["reason"]
    assert program.cache.read_text() == "mine"
    done = program.ladewerk("index", ".")
    assert done.returncode == 1 and str(program.cache) in done.stderr and "Traceback" not in done.stderr


@pytest.mark.once
def test_place_is_a_dangling_link(program):
    program.cache.symlink_to("nowhere")
    runs(program)


def test_place_with_a_name_that_is_not_utf8(program):
    program.cache = Path(os.fsdecode(os.fsencode(program.root) + b"/caf\xe9"))
    env = {"LADEWERK_CACHE": os.fspath(program.cache)}
    assert runs(program, env)["served"]["pack"] > 0
    done = program.ladewerk("index", ".", env=env)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert program.ladewerk("doctor", env=env).returncode == 0


def test_no_home(program):
    runs(program, {"LADEWERK_CACHE": None, "HOME": None, "XDG_CACHE_HOME": str(program.cache)})
    assert program.cache.is_dir()
    runs(program, {"LADEWERK_CACHE": None, "HOME": "/nonexistent", "XDG_CACHE_HOME": None})
    runs(program, {"LADEWERK_CACHE": "", "HOME": "", "XDG_CACHE_HOME": str(program.cache)})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give files away")
def test_cache_of_somebody_else(program):
    runs(program)
    before = program.files()
    for path in (program.cache, *program.cache.rglob("*")):
        os.chown(path, 12345, 12345)
    stats = runs(program)
    assert "belongs to uid 12345" in stats["reason"] and stats["served"]["pack"] == 0
    assert program.files() == before
    done = program.ladewerk("index", ".")
    assert done.returncode == 1 and "belongs to uid 12345" in done.stderr
    assert runs(program, {"LADEWERK_TRUST_UID": "12345"})["served"]["pack"] > 0


def test_unwritable_place(powerless):
    powerless.write("mod.py", "value = 1\n")
    powerless.write("pack/__init__.py")
    powerless.write("pack/sub.py", "value = 2\n")
    closed = powerless.root / "closed"
    closed.mkdir(mode=0o500)
    env = {"LADEWERK_CACHE": str(closed / "cache")}
    assert "cannot be created" in runs(powerless, env)["reason"]
    done = powerless.ladewerk("index", ".", env=env)
    assert done.returncode == 1 and "cannot be created" in done.stderr


def _truncate(data):
    return data[: len(data) // 2]


def _flip(data):
    spoilt = bytearray(data)
    for _ in range(50):
        spoilt[random.Random(7).randrange(len(spoilt))] ^= 255
        spoilt[random.Random(_).randrange(len(spoilt))] ^= 16
    return bytes(spoilt)


@pytest.mark.once
@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: b"x", lambda data: bytes(len(data)), _truncate, _flip, lambda data: data + b"more",
                                   lambda data: data[::-1]], ids=["empty", "short", "zeroes", "truncated", "flipped", "longer", "reversed"])
def test_spoilt_files(program, spoil):
    runs(program)
    assert program.files()
    for file in program.files():
        file.write_bytes(spoil(file.read_bytes()))
    runs(program)
    assert program.ladewerk("index", ".").returncode == 0
    assert runs(program)["session"]["index_files_refused"] == 0


@pytest.mark.once
@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path), lambda path: path.symlink_to("/etc/passwd")],
                         ids=["directory", "fifo", "link"])
def test_odd_things_in_place_of_files(program, make):
    runs(program)
    for file in program.files():
        file.unlink()
        make(file)
    runs(program)


def test_cache_that_vanishes_while_running(program):
    done = program.ladewerk("run", "-c", f"import mod, shutil; shutil.rmtree({str(program.cache)!r}); import pack.sub; print(pack.sub.value)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@pytest.mark.once
def test_full_disk(program, small_disk):
    for i in range(40):
        program.write(f"big{i}.py", f"text = {'x' * 4000!r} + '{i}'\n")
    program.settle()
    code = f"for i in range(40): __import__(f'big{{i}}')\n{STATS}"
    for _ in range(2):
        done = program.ladewerk("run", "-c", code, env={"LADEWERK_CACHE": str(small_disk / "cache")})
        assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["active"]


def test_read_only(program):
    assert runs(program, {"LADEWERK_READONLY": "1"})["active"] and not program.cache.exists()


# --- the tree -----------------------------------------------------------------------------------------------------------


def same_as_stock(shell, *words, **options):
    expected = shell.stock(*words, **options)
    for _ in range(2):
        done = shell.ladewerk("run", *words, **options)
        assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    return expected


def test_unreadable_directory_on_the_path(powerless):
    powerless.write("closed/mod.py")
    powerless.write("open/mod.py", "print('open')\n")
    (powerless.cwd / "closed").chmod(0)
    env = {"PYTHONPATH": os.pathsep.join(str(powerless.cwd / part) for part in ("closed", "open"))}
    assert same_as_stock(powerless, "-c", "import mod", env=env).stdout == "open\n"
    (powerless.cwd / "closed").chmod(0o755)


def test_unreadable_source(powerless):
    """Stock shows frames of importlib here (it cuts them out of an ImportError only); fewer of them are ours to show."""
    powerless.write("mod.py").chmod(0)
    seen = [[line for line in run("-c", "import mod").stderr.splitlines() if "<frozen importlib" not in line]
            for run in (powerless.stock, lambda *words: powerless.ladewerk("run", *words))]
    assert seen[0] == seen[1] and seen[0][-1].startswith("PermissionError")


def test_vanished_entries_on_the_path(program):
    env = {"PYTHONPATH": "/nonexistent:/dev/null:relative:::" + "x" * 5000 + ":" + "/".join(["y" * 200] * 25)}
    assert same_as_stock(program, "-c", CODE, env=env).stdout == "1 2\n"


def test_working_directory_that_is_gone(program):
    gone = program.cwd / "gone"
    gone.mkdir()
    code = f"import os, subprocess, sys; os.rmdir({str(gone)!r}); subprocess.run([sys.executable, '-c', 'import json; print(json.__name__)'])"
    assert same_as_stock(program, "-c", f"import os; os.makedirs({str(gone)!r}, exist_ok=True); os.chdir({str(gone)!r})\n{code}").stdout == "json\n"


def test_names_that_are_not_utf8(shell):
    root = os.fsencode(shell.cwd) + b"/caf\xe9"
    os.mkdir(root)
    with open(root + b"/mod.py", "wb") as file:
        file.write(b"print(ascii(__file__))\nraise ValueError(1)\n")
    same_as_stock(shell, os.fsdecode(root + b"/mod.py"))
    done = same_as_stock(shell, "-c", "import mod", env={"PYTHONPATH": os.fsdecode(root)})
    assert "udce9" in done.stdout and "ValueError" in done.stderr


@pytest.mark.parametrize("length", once_but([4000, 4090, 4095, 4096, 4200], 4095))
def test_longest_paths(shell, length):
    """Path entries around the kernel's limit of 4096 bytes, terminator included."""
    part = "/" + "p" * 199
    entry = str(shell.cwd) + part * ((length - len(str(shell.cwd))) // 200)
    entry += "/" + "q" * (length - len(entry) - 1) if length - len(entry) > 1 else ""
    fd = os.open("/", os.O_RDONLY)
    for name in entry.split("/")[1:]:
        try:
            os.mkdir(name, dir_fd=fd)
        except FileExistsError:
            pass
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("m.py", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w") as file:
        file.write("print('there')\n")
    os.close(fd)
    same_as_stock(shell, "-c", f"import sys; sys.path.insert(0, {entry!r})\ntry:\n import m\nexcept ImportError: print('not found')")


def test_program_as_another_user():
    """With a cache that belongs to root: it is believed, and not written to."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to become another user")
    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o755)
        shell = Shell(root)
        shell.write("mod.py", "value = 1\n")
        shell.write("pack/__init__.py")
        shell.write("pack/sub.py", "value = 2\n")
        shell.settle()
        runs(shell)
        as_other = {"user": 65534, "group": 65534, "extra_groups": []}
        try:
            shell.stock("-c", "pass", **as_other)
        except PermissionError:
            pytest.skip(f"{PYTHON} cannot be executed by other users")
        done = shell.ladewerk("run", "-c", f"{CODE}\n{STATS}", **as_other)
        assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "1 2", "")
        assert json.loads(done.stdout.splitlines()[1])["session"]["segments_written"] == 0
    finally:
        shutil.rmtree(root)


