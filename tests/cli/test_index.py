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
from interpreters import once_but


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


@pytest.mark.once
def test_second_index_adds_to_the_first(tree):
    tree.write("other/delta.py")
    tree.settle()
    tree.json("index", "src")
    tree.json("index", "other")
    assert len(tree.files()) == 1
    paths = [str(tree.cwd / "src"), str(tree.cwd / "other")]
    assert tree.stats(f"import sys; sys.path[:0] = {paths}\nimport alpha, delta")["served"]["compiled"] == 0


@pytest.mark.once
def test_quiet(tree):
    tree.write("src/broken.py", "def f(:\n")
    done = tree.ladewerk("index", "--quiet", "src")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.once
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


@pytest.mark.once
@pytest.mark.parametrize("root", BAD_ROOTS, ids=lambda root: root[:20] or "empty")
def test_bad_root(tree, root):
    tree.write("file.txt")
    (tree.cwd / "dangling").symlink_to("nowhere")
    (tree.cwd / "loop").symlink_to("loop")
    done = tree.ladewerk("index", "src", root)
    assert (done.returncode, done.stdout) == (1, "")
    assert BAD_ROOTS[root] in done.stderr and done.stderr.count("\n") == 1 and root[:50] in done.stderr
    assert not tree.files()


@pytest.mark.once
def test_unreadable_root(powerless):
    powerless.write("closed/m.py")
    (powerless.cwd / "closed").chmod(0)
    done = powerless.ladewerk("index", "closed")
    (powerless.cwd / "closed").chmod(0o755)
    assert done.returncode == 1 and "closed: you may not read it" in done.stderr


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
def test_read_only_is_respected(tree):
    done = tree.ladewerk("index", "src", env={"LADEWERK_READONLY": "1"})
    assert done.returncode == 1 and "LADEWERK_READONLY is set" in done.stderr and not tree.cache.exists()


@pytest.mark.once
def test_full_disk(tree, small_disk):
    for i in range(60):
        tree.write(f"src/big{i}.py", f"text = {'x' * 4000!r} + '{i}'\n")
    tree.settle()
    done = tree.ladewerk("index", "src", env={"LADEWERK_CACHE": str(small_disk / "cache")})
    assert done.returncode == 1 and "no space left" in done.stderr and "LADEWERK_CACHE" in done.stderr
    assert not list(small_disk.glob("cache/*/*.lwi"))


@pytest.mark.once
def test_code_beyond_the_bound_does_not_stay_in_memory(tree):
    """It becomes segments, which the last write merges with the directories."""
    for i in range(30):
        tree.write(f"src/pack/more{i}.py", f"value = {i}\n")
    tree.settle()
    program = f"""
from ladewerk import _index, _native
for place, memory in ("one", 1), ("two", 256 << 20):
    builder = _native.Builder({str(tree.cwd)!r} + "/" + place, memory)
    bad = _index._build(builder, [{str(tree.cwd / "src")!r}], True, 1)
    builder.write()
    print(builder.stats()["spilled"], builder.stats()["compiled"], bad)
"""
    assert tree.stock("-c", program).stdout == "34 34 []\n0 34 []\n"
    one, two = (list(tree.cwd.glob(f"{place}/*/*.lwi")) for place in ("one", "two"))
    assert len(one) == len(two) == 1 and one[0].stat().st_size == two[0].stat().st_size
    tree.env["LADEWERK_CACHE"] = str(tree.cwd / "one")
    imports = ", ".join(f"pack.more{i}" for i in range(30))
    stats = tree.stats(f"import sys; sys.path.insert(0, {str(tree.cwd / 'src')!r})\nimport alpha, {imports}\nassert pack.more7.value == 7")
    assert stats["served"]["pack"] >= 32 and stats["served"]["compiled"] == 0


def test_code_in_portions_after_a_check(tree):
    """What a segment has without code must not hide what an earlier one has with it."""
    tree.json("index", "src")
    for i in range(20):
        tree.write(f"src/more{i}.py", f"value = {i}\n")
    tree.settle()
    program = f"""
from ladewerk import _index, _native
builder = _native.Builder(None, 1)
builder.revalidate([{str(tree.cwd / 'src')!r}])
bad = _index._gather(builder, True, 1, 0)
builder.write()
print(builder.stats()["spilled"], builder.stats()["compiled"], bad)
"""
    assert tree.stock("-c", program).stdout == "20 20 []\n"
    facts = tree.json("index", "src")
    assert (facts["known"], facts["compiled"]) == (24, 0)


def test_what_is_new_is_read_by_the_same_rules(tree):
    """One link on the way down, even where a check finds the first one later: links to each other would multiply."""
    tree.write("src/far/near.py")
    (tree.cwd / "src/pack/second").symlink_to("../far")
    (tree.cwd / "src/a").mkdir()
    tree.settle()
    known = tree.json("index", "src")["directories"]
    for new in ("first", "later"):
        if new == "first":
            (tree.cwd / "src/a/first").symlink_to("../pack")  # and there are pack, pack/deep, and what must be left alone
        else:
            (tree.cwd / "src/pack/later").mkdir()  # known as a/first/later as well
            (tree.cwd / "src/pack/later/third").symlink_to("../../far")
        tree.settle()
        tree.json("index", "--revalidate", "src")
        checked, scanned = (tree.json("index", "--dry-run", *more, "src")["directories"] for more in (["--revalidate"], []))
        assert checked == scanned > known


def test_pycache_prefix_that_is_no_utf8(tree):
    program = "import sys; sys.pycache_prefix = '/tmp/\\udcff'; from ladewerk import _native; print(_native.Builder().scan([sys.argv[1]])['sources'])"
    assert tree.stock("-c", program, tree.cwd / "src").stdout == "4\n"


def test_without_stderr(tree):
    assert subprocess.run([tree.script, "index", "src"], cwd=tree.cwd, env=tree.env, preexec_fn=lambda: os.close(2)).returncode == 0


@pytest.mark.once
@pytest.mark.parametrize("work", ["scan(roots, 1)", "scan(roots)", "measure(roots)", "measure(roots, 0, 'auto', True)"])
def test_interrupt_while_directories_are_read(tree, work):
    """The walk takes as long as the disk does; it must not be waited for."""
    program = f"""
import signal, sys
from ladewerk import _native
roots, builder = [sys.argv[1]] * 100000, _native.Builder()
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    builder.{work}
except KeyboardInterrupt:
    print(0 < builder.progress < 900000)
"""
    assert tree.stock("-c", program, tree.cwd / "src").stdout == "True\n"


@pytest.mark.parametrize("delay", once_but([0.3, 0.4, 0.5, 1], 0.5))  # while the processes that compile begin, and when they are at work
def test_interrupt(shell, delay):
    for i in range(300):
        shell.write(f"src/m{i}.py", "x = [" + "a + b, " * 10000 + "]\n")  # takes a while to compile
    process = subprocess.Popen([shell.script, "index", "src"], cwd=shell.cwd, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "ladewerk: interrupted\n" and output == ""
    assert not shell.files()


@pytest.fixture
def lock(tree):
    """Of a cache with one file that wants a change, taken by somebody else."""
    tree.json("index", "src")
    tree.write("src/later.py")
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


@pytest.mark.once
def test_interrupt_while_another_process_has_the_lock(tree, lock):
    before = tree.files()
    process = start_waiting(tree, lock, tree.script, "index", "src")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=5)
    assert (process.returncode, output, errors) == (130, "", "ladewerk: interrupted\n")
    assert tree.files() == before


def test_other_signals_do_not_end_the_waiting(tree, lock):
    program = """
import os, signal
from ladewerk import _native
signal.signal(signal.SIGUSR1, lambda *_: print("signal", flush=True))
builder = _native.Builder()
builder.scan([os.path.abspath("src")])
builder.write()
print("written")
"""
    process = start_waiting(tree, lock, tree.python, "-c", program)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "signal\n" and process.poll() is None
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert process.communicate(timeout=5) == ("written\n", "") and process.returncode == 0


@pytest.mark.once
def test_reader_that_goes_away(tree):
    done = subprocess.run(f"{tree.script} index src --json | true", shell=True, cwd=tree.cwd, env=tree.env, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.once
def test_dry_run_stores_nothing(tree):
    done = tree.ladewerk("index", "--dry-run", "src")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 directories, 6 importable names, 4 sources in 1 root" in done.stdout and "nothing was stored" in done.stdout
    assert not tree.cache.exists() and not list(tree.cwd.rglob("__pycache__"))


@pytest.mark.once
def test_dry_run_as_json(tree):
    tree.write("src/readme.txt")
    facts = tree.json("index", "--dry-run", "src", "--threads", "2")
    known = {"entries": 7, "directories": 3, "modules": 6, "sources": 4, "threads": 2, "backend": "pool"}
    assert {key: facts[key] for key in known} == known
    # Of each directory: openat, statx, getdents64 twice, close; of each source: statx.
    assert facts["syscalls"] == 3 * 5 + 4
    assert facts["seconds"] > 0 and facts["cpu_seconds"] > 0 and facts["roots"] == [str(tree.cwd / "src")]


@pytest.mark.once
def test_dry_run_needs_no_cache(tree):
    tree.cache.write_text("in the way")
    env = {"LADEWERK_READONLY": "1"}
    assert tree.ladewerk("index", "--dry-run", "src", env=env).returncode == 0
    assert tree.ladewerk("index", "src", env=env).returncode == 1
    done = tree.ladewerk("index", "--dry-run", "nowhere")
    assert done.returncode == 1 and "nowhere: there is no such directory" in done.stderr


def test_stats_say_what_a_module_takes(tree):
    """The same facts, whether they are stored or only measured."""
    dry, stored = (tree.json("index", "src", "--stats", *more) for more in (["--dry-run"], []))
    for key in ("fact_bytes", "string_bytes", "bytes_per_module", "bytes_per_module_without_names"):
        assert dry[key] == stored[key], key
    # Records: 32 bytes for a directory, 12 for a name, 40 for a source.
    assert dry["fact_bytes"] == 3 * 32 + 6 * 12 + 4 * 40
    assert dry["bytes_per_module_without_names"] == pytest.approx(dry["fact_bytes"] / 6)
    text = tree.ladewerk("index", "src", "--stats").stdout
    assert "bytes per importable name" in text and "system calls" in text


@pytest.mark.once
def test_second_index_reads_nothing_and_writes_nothing(tree):
    first = tree.json("index", "src")
    assert (first["known"], first["compiled"]) == (0, 4)
    stored, = tree.files()
    before = stored.stat().st_mtime_ns
    second = tree.json("index", "src")
    assert (second["known"], second["compiled"], second["from_pyc"], second["skipped"]) == (4, 0, 0, 0)
    assert tree.files() == [stored] and stored.stat().st_mtime_ns == before
    tree.write("src/pack/beta.py", "letter = 'b'\n")
    tree.settle()
    third = tree.json("index", "src")
    assert (third["known"], third["compiled"]) == (3, 1) and tree.files() != [stored]
    stats = tree.stats(f"import sys; sys.path.insert(0, {str(tree.cwd / 'src')!r})\nimport alpha, pack.beta, pack.deep.gamma\nassert pack.beta.letter == 'b'\n")
    assert stats["served"]["pack"] >= 3 and stats["served"]["compiled"] == 0


@pytest.mark.once
def test_index_mends_what_is_damaged(tree):
    tree.json("index", "src")
    stored, = tree.files()
    data = bytearray(stored.read_bytes())
    data[data.index(b"answer")] ^= 1  # in the code of alpha
    stored.write_bytes(data)
    facts = tree.json("index", "src")
    assert (facts["known"] < 4, facts["known"] + facts["compiled"]) == (True, 4)
    stats = tree.stats(f"import sys; sys.path.insert(0, {str(tree.cwd / 'src')!r})\nimport alpha\nassert alpha.answer == 42\n")
    assert stats["session"]["damaged"] == 0 and stats["served"]["compiled"] == 0


@pytest.mark.once
def test_what_is_gone_is_forgotten(tree):
    """`frozen` believes what is stored: so what was deleted must not be."""
    tree.write("src/.venv/lib/site/hidden.py", "x = 1\n")
    tree.settle()
    tree.json("index", "src", "src/.venv/lib/site")
    frozen = {"LADEWERK_FRESHNESS": "frozen"}
    program = ("import sys; from importlib.util import find_spec as f; src = {!r}\n"
               "sys.path[:0] = [src + '/pack/deep', src + '/.venv/lib/site', src]\nprint([bool(f(name)) for name in ('alpha', 'gamma', 'hidden', 'pack')])")
    program = program.format(str(tree.cwd / "src"))
    for name in "src/alpha.py", "src/pack/deep/gamma.py":
        tree.cwd.joinpath(name).unlink()
    tree.cwd.joinpath("src/pack/deep").rmdir()
    tree.settle()
    assert tree.ladewerk("run", "-c", program, env=frozen).stdout == "[True, True, True, True]\n", "frozen does not look"
    tree.json("index", "src")
    assert tree.ladewerk("run", "-c", program, env=frozen).stdout == "[False, False, True, True]\n"


def forbid_ring():
    """In the child before exec: io_uring is refused from now on, whoever asks."""
    import ctypes
    import struct

    setup, allow, refuse = 425, 0x7FFF0000, 0x00050000 | 1
    code = b"".join(struct.pack("HBBI", *one) for one in [(0x20, 0, 0, 0), (0x15, 0, 1, setup), (0x06, 0, 0, refuse), (0x06, 0, 0, allow)])
    program = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HP", 4, ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0


@pytest.mark.once
@pytest.mark.parametrize("backend", ["auto", "pool", "ring"])
def test_backends_find_the_same(tree, backend):
    facts = tree.json("index", "src", "--backend", backend)
    assert (facts["directories"], facts["modules"], facts["sources"], facts["compiled"]) == (3, 6, 4, 4)
    assert facts["backend"] == ("ring" if backend == "ring" else "pool") and (facts["why"] == "") == (backend != "ring")


@pytest.mark.once
def test_a_ring_that_is_refused(tree):
    done = tree.ladewerk("index", "src", "--backend", "ring", preexec_fn=forbid_ring)
    assert done.returncode == 1 and not tree.files()
    assert "io_uring" in done.stderr and "seccomp" in done.stderr and done.stderr.endswith("; --backend pool does without\n")
    assert tree.ladewerk("index", "src", "--backend", "auto", preexec_fn=forbid_ring).returncode == 0 and tree.files()
    done = tree.ladewerk("index", "--frozen", "-o", "artifact", "src", "--backend", "ring", preexec_fn=forbid_ring)
    assert done.returncode == 1 and "seccomp" in done.stderr and not tree.cwd.joinpath("artifact").exists()


@pytest.mark.once
def test_revalidate_reads_what_has_changed(tree):
    assert "nothing: the cache knows no directory" in tree.ladewerk("index", "--revalidate").stdout
    tree.json("index", "src")
    unchanged = tree.json("index", "--revalidate")
    assert (unchanged["directories"], unchanged["unchanged"], unchanged["changed"], unchanged["syscalls"]) == (3, 3, 0, 3), "one call for each"
    assert len(tree.files()) == 1
    tree.write("src/pack/late.py", "value = 1\n")
    tree.write("src/fresh/__init__.py")
    tree.write("src/fresh/inner/leaf.py", "value = 2\n")
    tree.cwd.joinpath("src/pack/deep/gamma.py").unlink()
    tree.cwd.joinpath("src/pack/deep").rmdir()
    tree.settle()
    dry = tree.json("index", "--revalidate", "--dry-run")
    assert len(tree.files()) == 1 and dry["cache"] is None
    facts = tree.json("index", "--revalidate", "src")
    for answer in dry, facts:
        assert [answer[key] for key in ("directories", "unchanged", "changed", "vanished", "found")] == [3, 0, 3, 1, 1]
    assert facts["compiled"] == 3 and len(tree.files()) == 2
    program = ("import sys; from importlib.util import find_spec as f; sys.path.insert(0, {!r})\nimport alpha, pack.beta, pack.late, fresh.inner.leaf\n"
               "import ladewerk; s = ladewerk.stats(); assert s['served']['compiled'] == 0, s\nprint(pack.late.value, fresh.inner.leaf.value, f('pack.deep'))")
    for mode in "stat", "frozen":
        done = tree.ladewerk("run", "--freshness", mode, "-c", program.format(str(tree.cwd / "src")))
        assert done.stdout == "1 2 None\n", done.stderr
    again = tree.json("index", "--revalidate", "src")
    assert (again["changed"], again["unchanged"], again["compiled"]) == (0, again["directories"], 0)


@pytest.mark.once
def test_revalidate_keeps_to_its_roots(tree):
    tree.write("other/m.py")
    tree.settle()
    tree.json("index", "src", "other")
    tree.write("other/n.py")
    tree.settle()
    assert tree.json("index", "--revalidate", "src")["changed"] == 0
    assert tree.json("index", "--revalidate", "other")["changed"] == 1
    done = tree.ladewerk("index", "--revalidate", "nowhere")
    assert done.returncode == 1 and "there is no such directory" in done.stderr


@pytest.mark.once
@pytest.mark.parametrize("backend", ["pool", "ring"])
def test_revalidate_by_either_backend(tree, backend):
    tree.json("index", "src")
    facts = tree.json("index", "--revalidate", "--backend", backend, "--threads", "2")
    assert (facts["unchanged"], facts["backend"]) == (3, backend)
    if backend == "ring":
        done = tree.ladewerk("index", "--revalidate", "--backend", "ring", preexec_fn=forbid_ring)
        assert done.returncode == 1 and "seccomp" in done.stderr and "--backend pool does without" in done.stderr


@pytest.mark.once
def test_roots_within_roots_are_read_once(tree):
    tree.write("src/.venv/site/dep.py")
    tree.cwd.joinpath("src/way").symlink_to("pack")
    tree.settle()
    roots = ["src", "src/pack", "src/.venv/site", "src/way"]
    facts = tree.json("index", *roots)
    assert facts["roots"] == [str(tree.cwd / root) for root in roots]
    # alpha; beta, __init__ and gamma, and again behind the link, by the walk and as a root; dep.
    assert (facts["sources"], facts["compiled"]) == (1 + 3 + 3 + 3 + 1, 11)
    assert tree.json("index", "src", "src/pack", "--dry-run")["sources"] == 7


@pytest.mark.once
def test_directories_made_while_others_settle_are_found(tree):
    """Their parent was read too early, and is read again: what is new in it is walked. (On a machine that is busy it may be read late enough: another one is made, then.)"""
    program = """
import os, sys, time
from ladewerk import _native
top = sys.argv[1]
os.makedirs(top + "/a"); open(top + "/m.py", "w").close()
builder = _native.Builder()
builder.scan([os.path.abspath(top)])
os.makedirs(top + "/a/b/c"); open(top + "/a/b/c/m.py", "w").close()
time.sleep(0.1)
print(len(builder.gather()))
builder.write()
time.sleep(0.1)
print(_native.Builder().revalidate([os.path.abspath(top)])["directories"])
"""
    assert any(tree.stock("-c", program, f"fresh{i}").stdout.split() == ["2", "4"] for i in range(20))
