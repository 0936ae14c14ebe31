# SPDX-License-Identifier: MIT
"""Learn as you go: what a run found out is there for the next one, however the run ended, whoever ran beside it, and nothing is written twice."""

import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness import STATS, settle

ROOT = os.geteuid() == 0
KERNEL = os.environ.get("LADEWERK_REQUIRE_KERNEL", "0") != "0"
LAUNCHER = pathlib.Path(sys.executable).with_name("ladewerk")
ALL = "import app, json, ladewerk"  # with what STATS needs
SEGMENTS, SEGMENTS_MAX = 8, 512  # core/store.h: beyond that an appender compacts; nothing is appended
SOURCE = ("pack", "pyc", "compiled")

#: In a child: imports have fallen quiet, and it was time to store (core/learn.h).
QUIET = """
def fall_quiet():
    import json, ladewerk, os, time
    end = time.monotonic() + 10
    while time.monotonic() < end:
        stats = ladewerk.stats()
        if stats["session"]["write_errors"] or stats["session"]["learnt_files"] >= stats["served"]["pyc"] + stats["served"]["compiled"]:
            return
        time.sleep(0.02)
        try:
            import there_is_no_such_module
        except ImportError:
            pass
    os._exit(99)  # imports fell quiet, and nothing was stored
"""


@pytest.fixture
def program(tree):
    """`import app` runs modules, a package, a namespace package and an extension module."""
    for n in range(10):
        tree.write(f"mod{n}.py", f"value = {n}\n")
        tree.write(f"pack/sub/part{n}.py", f"value = {n}\n")
    tree.write("pack/__init__.py")
    tree.write("pack/sub/__init__.py")
    tree.write("space/inner.py", "value = 1\n")
    tree.write("app.py", "import _ctypes, _json, space.inner\n" + "".join(f"import mod{n}, pack.sub.part{n}\n" for n in range(10)))
    settle()
    return tree


def files(tree):
    return sorted(path for path in tree.cache.glob("*/*.lwi") if not path.name.startswith("."))


def state(tree):
    """All there is in the cache. A file that came and went shows in its directory's time."""
    found = {}
    for path in sorted([tree.cache, *tree.cache.rglob("*")]):
        st = path.lstat()
        found[str(path)] = (st.st_mode, st.st_size, st.st_ino, st.st_mtime_ns, path.read_bytes() if path.is_file() else None)
    return found


def stats(tree, code=ALL, **kwargs):
    return tree.run(code + STATS, **kwargs).json()


def made(served):
    """Source modules that had to be read from .pyc files or compiled."""
    return served["pyc"] + served["compiled"]


def all_served(tree, code=ALL, **kwargs):
    """CODE in a new process is served everything from the cache, which is in order. Returns how many modules that were."""
    found = stats(tree, code, **kwargs)
    served, session = found["served"], found["session"]
    assert found["active"] and found["reason"] is None
    assert made(served) == 0, served
    assert (session["index_files_refused"], session["damaged"], session["dropped"], session["write_errors"]) == (0, 0, 0, 0)
    return served["pack"]


def doctor(tree, status=None, **env):
    """What `ladewerk doctor` finds: topic -> text."""
    done = subprocess.run([LAUNCHER, "doctor", "--json"], env=tree.environment(**env), cwd=tree.work, text=True, capture_output=True, timeout=60)
    return {found["topic"]: found["text"] for found in json.loads(done.stdout)["findings"] if status in (None, found["status"])}


def complaints(tree):
    """The cache is in order: nothing here."""
    return {topic: text for topic, text in doctor(tree, "problem").items() if topic in ("cache", "key", "trial")}


# --- first, second, third ---


@pytest.mark.parametrize("freshness", ["stat", "frozen"])
def test_first_run_learns_second_is_served(program, freshness):
    """One run is enough; directories that it created files in (__pycache__) are learnt by the second."""
    program.freshness = freshness
    first = stats(program)
    assert first["served"]["pack"] == 0 and made(first["served"]) >= 24
    settle()
    second = stats(program)
    assert second["served"]["pack"] == made(first["served"]) and made(second["served"]) == 0
    assert {k: second["served"][k] for k in ("stock_loader", "namespace")} == {k: first["served"][k] for k in ("stock_loader", "namespace")}


@pytest.mark.parametrize("freshness", ["stat", "frozen"])
def test_nothing_new_nothing_written(program, freshness):
    """From the third run on no file of the cache is touched, nor is one created and removed."""
    program.freshness = freshness
    program.learn(ALL)
    settle()
    stats(program)  # another text is another entry point: what it touches is noted once
    before = state(program)
    for _ in range(3):
        settle()
        found = stats(program)
        assert found["session"]["segments_written"] == found["session"]["listings_read"] == 0
    assert state(program) == before


def test_nothing_new_nothing_written_control(program):
    """Control: a run that learns one module shows, and so does a file that came and went."""
    program.learn(ALL)
    before = state(program)
    program.run("import app, colorsys")
    after = state(program)
    assert after != before
    (program.cache / "temporary").write_text("")
    (program.cache / "temporary").unlink()
    assert state(program) != after


def test_nothing_imported_nothing_written(program):
    """A program without imports does not even make a cache. Control: one that imports does."""
    script = program.write("script.py", "pass\n")  # since 3.13 -c imports linecache
    program.run(None, script)
    assert not program.cache.exists()
    script.write_text("import json\n")
    program.run(None, script)
    assert program.cache.exists()


# --- how a process ends ---

ENDS = {
    "exit": "raise SystemExit(0)",
    "exception": "raise RuntimeError('the end')",
    "os._exit": "os._exit(0)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "abort": "os.abort()",
    "exec": "os.execv(sys.executable, [sys.executable, '-S', '-c', ''])",
}


@pytest.mark.parametrize("end", ENDS)
def test_process_that_ends_when_imports_are_quiet_has_learnt(program, end):
    """However it ends."""
    assert program.run(f"import os, signal, sys, time\n{QUIET}\n{ALL}\nfall_quiet()\n{ENDS[end]}", check=False).returncode != 99
    assert all_served(program) >= 24


@pytest.mark.parametrize("end", ["exit", "exception"])
def test_orderly_end_has_learnt_at_once(program, end):
    program.run(f"{ALL}\n{ENDS[end]}", check=False)
    assert all_served(program) >= 24


@pytest.mark.parametrize("end", ["SIGKILL", "os._exit", "abort"])
def test_process_that_ends_amid_imports_spoils_nothing(program, end):
    """It ends in a module body: what was learnt before is served, the next run learns the rest."""
    program.learn(ALL)
    program.write("deadly.py", f"import os, signal, time, colorsys, chunk_of_it\nif os.environ.get('DIE'):\n    {ENDS[end]}\n")
    program.write("chunk_of_it.py", "value = 1")
    settle()
    known = all_served(program)
    program.run(f"{ALL}, deadly", env={"DIE": 1}, check=False)
    assert all_served(program) == known
    settle()
    program.run(f"{ALL}, deadly")
    settle()
    assert all_served(program, f"{ALL}, deadly") >= known + 3


def test_process_that_ends_amid_imports_control(program):
    """Control of this section: what was not stored is not there."""
    program.learn("import json, ladewerk")
    program.write("deadly.py", "import os, app\nos._exit(0)\n")
    settle()
    program.run("import deadly")
    assert made(stats(program)["served"]) >= 24


def test_killed_at_any_moment(program):
    """Whenever it comes, SIGKILL leaves a cache that is believed as a whole: nothing that was there is lost."""
    program.learn(ALL)
    known = all_served(program)
    rng = random.Random(1)
    for n in range(16):
        for m in range(4):
            program.write(f"new{n}_{m}.py", f"value = {'x' * 2000!r}")
    settle()
    for n in range(16):
        code = f"{ALL}\n" + "".join(f"import new{n}_{m}\n" for m in range(4))
        child = subprocess.Popen(program.command(code), env=program.environment(), cwd=program.work)
        time.sleep(rng.uniform(0.01, 0.09))
        child.kill()
        child.wait()
    assert all_served(program) == known
    assert not complaints(program)


def test_killed_amid_storing(program):
    """The kernel ends it halfway through a cache file: the half file is no cache file."""
    program.learn(ALL)
    known = all_served(program)
    names = [path.name for path in files(program)]
    program.write("big.py", f"value = {os.urandom(40_000).hex()!r}")
    settle()
    code = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        import big
    """
    done = program.run(code, env={"PYTHONDONTWRITEBYTECODE": 1}, check=False)
    left = list(program.cache.glob("*/.tmp-*"))
    assert done.returncode == -signal.SIGXFSZ and [path.stat().st_size for path in left] == [20_000]
    assert set(names) <= {path.name for path in files(program)}
    assert all_served(program) == known
    assert not complaints(program)


def test_temporary_file_is_not_believed(program):
    """Not even if it is whole and wears the newest name: it was never given its final one."""
    program.learn(ALL)
    for path in files(program):
        path.rename(path.with_name(f".tmp-{path.name}"))
    found = stats(program, env={"LADEWERK_READONLY": 1})
    assert found["served"]["pack"] == found["session"]["index_files"] == 0


#: As a script or server begins: a statement for each. It never sees a second quiet moment.
STATEMENTS = "import os\n" + "".join(f"import mod{n}\n" for n in range(8)) + "os._exit(0)\n"
STATEMENTS_SERVED = "import json, ladewerk, " + ", ".join(f"mod{n}" for n in range(8))


def test_every_sudden_end_has_learnt_something(program):
    """A program that always ends right after its imports is served in the end: each run stores what one statement imported, at least."""
    program.learn("import json, ladewerk")
    for _ in range(12):
        program.run(STATEMENTS)
    assert all_served(program, STATEMENTS_SERVED, env={"LADEWERK_READONLY": 1}) >= 8


def test_sudden_end_loses_the_tail_of_the_first_run_only(program):
    """The second run has nothing but that tail to learn, the third is served; on a busy machine learning takes its time, and the tail is longer."""
    program.learn("import json, ladewerk")
    for _ in range(8):
        program.run(STATEMENTS)
    assert all_served(program, STATEMENTS_SERVED, env={"LADEWERK_READONLY": 1}) >= 8


# --- many at once ---

MANY = 32
TOGETHER = """
    import sys
    number = int(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.read()
    import app, json, ladewerk
    for n in range(number, number + 4):
        __import__(f"wide{n}")
    for n in range(5):
        __import__(f"own{number}_{n}")
"""


def everything(count):
    """What COUNT of these have imported."""
    return f"""{ALL}
for number in range({count}):
    for n in range(number, number + 4):
        assert __import__(f"wide{{n}}").value == n
    for n in range(5):
        assert __import__(f"own{{number}}_{{n}}").value == number * 100 + n
"""


def together(tree, code, count=MANY):
    """COUNT processes that import at the same time."""
    reader, writer = os.pipe()
    children = [subprocess.Popen(tree.command(code, n), env=tree.environment(), cwd=tree.work, stdin=reader, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True) for n in range(count)]
    os.close(reader)
    assert {child.stdout.readline() for child in children} == {"ready\n"}
    os.close(writer)
    assert [(child.communicate(timeout=120)[0], child.returncode) for child in children] == [("", 0)] * count


@pytest.fixture
def crowd(program):
    for n in range(MANY + 4):
        program.write(f"wide{n}.py", f"value = {n}\n")
        for m in range(5):
            program.write(f"own{n}_{m}.py", f"value = {n * 100 + m}\n")
    settle()
    return program


def test_many_processes_learn_at_once(crowd):
    """Each has modules of its own and shares others: nothing is lost, nothing is damaged, and few files remain."""
    together(crowd, TOGETHER)
    assert len(files(crowd)) < SEGMENTS_MAX and not list(crowd.cache.glob("*/.tmp-*"))
    assert all_served(crowd, everything(MANY)) >= 24 + MANY * 6 + 3
    settle()
    crowd.run("import colorsys")  # learns, and finds nobody in its way
    assert len(files(crowd)) <= SEGMENTS + 1
    assert all_served(crowd, everything(MANY)) >= 24 + MANY * 6 + 3
    assert not complaints(crowd)


def test_many_processes_learn_at_once_control(crowd):
    """Control: a file that is lost is noticed."""
    together(crowd, TOGETHER, 3)
    missed = 0
    for path in files(crowd):
        path.rename(crowd.base / "aside")
        missed += made(stats(crowd, everything(3), env={"LADEWERK_READONLY": 1})["served"]) > 0
        (crowd.base / "aside").rename(path)
    assert missed > 0
    assert all_served(crowd, everything(3)) >= 24 + 3 * 6 + 3


def test_same_program_many_times_at_once(program):
    """All learn the same: it is stored, and once compacted it takes the room of one."""
    program.learn(ALL)
    alone = sum(path.stat().st_size for path in files(program))
    shutil.rmtree(program.cache)
    together(program, f"import sys; print('ready', flush=True); sys.stdin.read()\n{ALL}")
    settle()
    program.run("import colorsys")
    assert all_served(program) >= 24
    assert len(files(program)) <= SEGMENTS + 1 and sum(path.stat().st_size for path in files(program)) < 3 * alone


# --- nowhere to write ---

#: Says something on both streams, and fails.
SPEAKS = "import sys, app, fresh\nprint(app.mod7.value, fresh.value)\nprint('so it is', file=sys.stderr)\nsys.exit(3)\n"


def need_kernel(what):
    if KERNEL:
        pytest.fail(what)
    pytest.skip(what)


@contextlib.contextmanager
def mounted(place, *options):
    done = subprocess.run(["mount", *options, place], capture_output=True, text=True) if ROOT else None
    if done is None or done.returncode:
        need_kernel("needs the right to mount: " + (done.stderr.strip() if done else "not root"))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def without_write_permission(tree):
    places = [tree.cache, *(path for path in tree.cache.iterdir())]
    for path in places:
        path.chmod(0o500)
    try:
        yield {}
    finally:
        for path in places:
            path.chmod(0o700)


@contextlib.contextmanager
def on_read_only_mount(tree):
    with mounted(tree.cache, "--bind", tree.cache):
        if subprocess.run(["mount", "-o", "remount,bind,ro", tree.cache]).returncode:
            need_kernel("no read-only mounts here")
        yield {}


@contextlib.contextmanager
def with_the_variable(tree):
    yield {"LADEWERK_READONLY": 1}


READ_ONLY = [without_write_permission, on_read_only_mount, with_the_variable]


def unaffected(tree, code=SPEAKS, **env):
    """CODE ends and prints as under stock."""
    expected = tree.run(code, ladewerk=False, check=False)
    for _ in range(2):
        found = tree.run(code, check=False, env=env)
        assert (found.returncode, found.out, found.err) == (expected.returncode, expected.out, expected.err)


@pytest.mark.parametrize("read_only", READ_ONLY)
def test_read_only_cache(program, read_only):
    """What is there is served, what is new is not learnt, nothing is written, and the program cannot tell. `ladewerk doctor` can, of the variable."""
    program.learn(ALL)
    program.write("fresh.py", "value = 'fresh'")
    settle()
    with read_only(program) as env:
        before = state(program)
        unaffected(program, **env)
        found = stats(program, f"import fresh\n{ALL}", env=env)
        if read_only is with_the_variable:
            assert f"{program.cache}, only read (LADEWERK_READONLY)" in doctor(program, **env)["cache"]
        assert state(program) == before
    assert found["served"]["pack"] >= 24 and made(found["served"]) == 1 and found["session"]["segments_written"] == 0
    program.run("import fresh")  # control: this is what it would have written
    assert state(program) != before


def test_read_only_mount_is_counted(program):
    """A write that fails shows in stats(), and `ladewerk doctor` tells of it."""
    program.learn(ALL)
    program.write("fresh.py", "value = 'fresh'")
    settle()
    with on_read_only_mount(program):
        found = stats(program, f"{QUIET}\nimport fresh, json, ladewerk\nfall_quiet()")
        told = complaints(program)
    assert found["session"]["write_errors"] >= 1 and found["session"]["last_write_error"] == os.strerror(errno.EROFS)
    assert os.strerror(errno.EROFS) in told["cache"]


@pytest.mark.parametrize("read_only", [on_read_only_mount, with_the_variable])
def test_read_only_and_empty(program, read_only):
    """Nothing there, nothing to be written: nothing is left behind."""
    program.write("fresh.py", "value = 'fresh'")
    program.cache.mkdir(mode=0o700)
    settle()
    with read_only(program) as env:
        unaffected(program, **env)
        found = stats(program, env=env)
        assert list(program.cache.iterdir()) == []
    assert found["active"] and found["reason"] and found["cache"] is None


def test_full_disk(program):
    """What does not fit is not learnt and no ruins are left; what fitted stays; stats() names the error."""
    program.learn(ALL)
    for n in range(30):
        program.write(f"bulk{n}.py", f"value = {os.urandom(3000).hex()!r}")
    program.write("fresh.py", "import " + ", ".join(f"bulk{n}" for n in range(30)) + "\nvalue = len(bulk0.value)")
    size = sum(path.stat().st_size for path in files(program))
    settle()
    kept = program.base / "kept"
    program.cache.rename(kept)
    program.cache.mkdir(mode=0o700)
    with mounted(program.cache, "-t", "tmpfs", "-o", f"mode=700,size={size + 65536 >> 10}k", "tmpfs"):
        shutil.copytree(kept, program.cache, dirs_exist_ok=True)
        known = all_served(program)
        before = state(program)
        unaffected(program)
        found = stats(program, f"{QUIET}\n{ALL}, fresh\nfall_quiet()")
        assert found["session"]["write_errors"] >= 1 and found["session"]["last_write_error"] == os.strerror(errno.ENOSPC)
        assert {path for path in before if path.endswith(".lwi")} <= set(state(program)) and not list(program.cache.glob("*/.tmp-*"))
        assert all_served(program) == known and made(found["served"]) == 31


def test_file_size_limit(program):
    """As with a full disk: the program goes on, the file it could not finish is removed, stats() names the error."""
    program.env["PYTHONDONTWRITEBYTECODE"] = "1"
    program.learn(ALL)
    before = state(program)
    program.write("fresh.py", f"value = {os.urandom(40_000).hex()!r}")
    settle()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    unaffected(program, limit + SPEAKS)
    found = stats(program, f"{QUIET}\n{ALL}, fresh\n{limit}\nfall_quiet()\nimport colorsys\nfall_quiet()")
    assert found["session"]["write_errors"] >= 1 and found["session"]["last_write_error"] == os.strerror(errno.EFBIG)
    assert set(state(program)) >= set(before) and not list(program.cache.glob("*/.tmp-*"))
    all_served(program)


# --- fork, processes, threads ---


@pytest.fixture
def family(program):
    for who in ("child", "parent"):
        for n in range(5):
            program.write(f"of_{who}/m{n}.py", f"value = {n}\n")
        program.write(f"of_{who}/__init__.py", f"from of_{who} import m0, m1, m2, m3, m4\n")
    settle()
    return program


FAMILY = f"{ALL}, of_child, of_parent"


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit()"])
def test_parent_and_forked_child_both_learn(family, end):
    """Different modules, neither of them lost, whichever way the child ends."""
    family.run(f"""{QUIET}
import os, sys, app, json, ladewerk
if not (child := os.fork()):
    import of_child
    {"" if "exit()" in end else "fall_quiet()"}
    {end}
import of_parent
os.waitpid(child, 0)
""")
    assert all_served(family, FAMILY) >= 24 + 12


def test_what_was_learnt_before_a_fork_is_stored_by_it(family):
    """Once, by the parent: it lives on if all processes end suddenly. (In a module's body: imports have not fallen quiet.)"""
    family.write("forks.py", """
import os, signal, app, json, ladewerk, of_parent
written = ladewerk.stats()["session"]["segments_written"]
if not (child := os.fork()):
    assert ladewerk.stats()["session"]["segments_written"] == written + 1
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
""")
    settle()
    family.run("import forks")
    assert all_served(family, f"{ALL}, of_parent") >= 24 + 6


def test_child_writes_nothing_of_its_parent(family):
    """What the parent stored at the fork is not stored again when its children end. (In a module's body, as above.)"""
    family.write("forks.py", """
import os, sys, app, json, ladewerk, of_parent
def state():
    return sorted(os.listdir(cache)), os.stat(cache).st_mtime_ns
cache = ladewerk.stats()["cache"]
early = state()
reader, writer = os.pipe()
children = []
for _ in range(5):
    if not (child := os.fork()):
        os.close(writer)
        os.read(reader, 1)  # until the parent has looked
        import atexit
        atexit._run_exitfuncs(); ladewerk._native.flush()
        os._exit(0)
    children.append(child)
after = state()
os.close(writer)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert state() == after != early
""")
    settle()
    family.run("import forks")
    assert all_served(family, f"{ALL}, of_parent") >= 24 + 6


WORK = """
import json, multiprocessing, sys

def work(pipe):
    import ladewerk
    before = ladewerk.stats()["served"]
    import of_child
    pipe.send((before, ladewerk.stats()["served"]))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,))
    process.start()
    print(json.dumps(ours.recv()))
    process.join(60)
    sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_learns(family, method):
    """Under `ladewerk run`: workers, which end by os._exit, are served what those of earlier runs imported."""
    family.write("parallel.py", WORK)
    settle()
    for _ in range(6):
        done = subprocess.run([LAUNCHER, "run", family.root / "parallel.py", method], env=family.environment(False, LADEWERK=None), cwd=family.work,
                              text=True, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        before, after = json.loads(done.stdout)
        if made(after) == made(before):
            break
        settle()
    assert (after["pack"] - before["pack"], made(after) - made(before)) == (6, 0)


def test_threads_learn(family):
    """All of what eight threads import at once."""
    for n in range(8):
        for m in range(6):
            family.write(f"thread{n}_{m}.py", f"import mod{m}, of_parent.m{m % 5}\nvalue = {n}")
    settle()
    names = [f"thread{n}_{m}" for n in range(8) for m in range(6)]
    family.run(f"""
import json, ladewerk, sys, threading
sys.setswitchinterval(1e-5)
barrier = threading.Barrier(8)
def work(n):
    barrier.wait()
    for m in range(6):
        __import__(f"thread{{n}}_{{m}}")
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
import app
assert set(sys.modules) >= set({names})
""")
    assert all_served(family, f"{ALL}, {', '.join(names)}") >= 24 + 48


def test_thread_amid_an_import_does_not_hold_up_the_end(family):
    """A daemon thread hangs in a module body: the process ends at once, and what is done has been learnt."""
    family.write("hangs.py", "import of_child, threading, time\nthreading.hung.set()\ntime.sleep(60)\n")
    settle()
    begun = time.monotonic()
    family.run("""
import threading, app, json, ladewerk
threading.hung = threading.Event()
threading.Thread(target=__import__, args=("hangs",), daemon=True).start()
threading.hung.wait()
""")
    assert time.monotonic() - begun < 10
    assert all_served(family, f"{ALL}, of_child") >= 24 + 6


# --- what changes ---


def edited(tree):
    tree.write("mod3.py", "value = 'new'\n")


def edited_in_package(tree):
    tree.write("pack/__init__.py", "from .sub import part3\nvalue = 'new'\n")


def added_and_used(tree):
    tree.write("extra.py", "value = 'new'\n")
    tree.write("app.py", (tree.root / "app.py").read_text() + "import extra\n")


def added_package(tree):
    tree.write("pack/more/__init__.py", "value = 'new'\n")
    tree.write("app.py", (tree.root / "app.py").read_text() + "import pack.more\n")


def replaced_by_a_package(tree):
    (tree.root / "mod3.py").unlink()
    tree.write("mod3/__init__.py", "value = 'new'\n")


@pytest.mark.parametrize("change, count, where", [(edited, 1, "app.mod3"), (edited_in_package, 1, "app.pack"), (added_and_used, 2, "app.extra"),
                                                  (added_package, 2, "app.pack.more"), (replaced_by_a_package, 1, "app.mod3")])
def test_change_is_learnt(program, change, count, where):
    """The next run has the new content and learns just that; the one after it is served again; then nothing is written."""
    code = f"{ALL}\nassert {where}.value == 'new'"
    program.learn(ALL)
    known = all_served(program)
    change(program)
    settle()
    first = stats(program, code)
    assert made(first["served"]) == count
    settle()
    program.run(code)  # directories that have a new __pycache__
    assert all_served(program, code) >= known
    before = state(program)
    program.run(code)
    assert state(program) == before


# --- how much of a program ---

#: An independent count: whatever executes a module's body or loads an extension module raises an audit event.
METER = """
import atexit, json, os, sys
import ladewerk
begun = ladewerk.stats()
bodies = []

def watch(event, args):
    if event == "exec" and getattr(args[0], "co_name", "") == "<module>" and os.path.isfile(args[0].co_filename):
        bodies.append(args[0].co_filename)
    elif event == "import" and args[1]:
        bodies.append(args[1])

@atexit.register
def report():
    found = ladewerk.stats()
    for kind in ("served", "aside"):
        for name, count in begun[kind].items():
            found[kind][name] -= count
    with open(os.environ["REPORT"], "w") as file:
        json.dump({**found, "bodies": bodies, "finders": [repr(finder) for finder in sys.meta_path]}, file)

sys.addaudithook(watch)
"""

STANDARD = "import argparse, asyncio, csv, decimal, email.message, http.client, logging.config, sqlite3, unittest.mock, xml.dom.minidom\n"


@pytest.fixture
def measure(program):
    """RUN(*OPTIONS): how the imports of a program were served when it was known: (share of what was executed, Result, statistics)."""
    program.write("sitecustomize.py", METER)
    # Of every installed plugin pytest loads all modules itself; how many those are is not the program's doing.
    program.env = {"REPORT": program.base / "report.json", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": 1}

    def run(*options):
        for _ in range(3):
            settle()
            result = program.run(None, options=options)
        found = json.loads(program.env["REPORT"].read_text())
        served = found["served"]
        count = sum(served[kind] for kind in SOURCE) + served["stock_loader"]
        assert made(served) == 0 and len(found["bodies"]) > 100
        return count / len(found["bodies"]), result, found

    return run


def test_share_with_setuptools(program, measure):
    """Its finder comes first and answers for distutils; it brings copies of other packages with finders of their own."""
    program.write("prog.py", f"{STANDARD}import setuptools, setuptools.command.build_py, distutils.core, app\nprint(distutils.__file__)")
    share, result, found = measure(program.root / "prog.py")
    assert "setuptools" in result.out and "_distutils_hack" in found["finders"][0]
    assert share >= 0.95, found


def test_share_with_pytest(program, measure):
    """It loads test modules and conftest.py itself, because it rewrites their assertions."""
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", program.root / "suite"]
    for n in range(4):
        program.write(f"suite/test_it{n}.py", f"import mod{n}, pack.sub.part{n}\ndef test_it():\n    value = mod{n}.value\n    assert value == {n}\n")
    program.write("suite/conftest.py", f"{STANDARD}import app\n")
    wrong = program.write("suite/test_wrong.py", "import mod2\ndef test_it():\n    value = mod2.value\n    assert value == 3\n")
    assert "assert 2 == 3" in program.run(None, options=command, check=False).out  # rewritten
    wrong.unlink()
    share, result, found = measure(*command)
    assert "4 passed" in result.out and found["served"]["foreign_finder"] >= 5
    assert share >= 0.95, found


def test_share_with_coverage(program, measure):
    """It measures the lines of what it is served."""
    program.write("prog.py", f"{STANDARD}import app\nprint(app.mod7.value)\n")
    report = ["-m", "coverage", "json", "-q", "-o", "-"]
    program.run(None, options=["-m", "coverage", "run", f"--source={program.root}", program.root / "prog.py"], ladewerk=False)
    expected = {name: facts["executed_lines"] for name, facts in program.run(None, options=report, ladewerk=False).json()["files"].items()}
    share, result, found = measure("-m", "coverage", "run", f"--source={program.root}", program.root / "prog.py")
    lines = {name: facts["executed_lines"] for name, facts in program.run(None, options=report, ladewerk=False).json()["files"].items()}
    assert result.out == "7\n" and lines == expected and lines
    assert share >= 0.95, found


def test_share_with_wrapt(program, measure):
    """Its finder comes first and looks up every module that a hook waits for."""
    program.write("prog.py", f"""import wrapt
seen = []
for name in ("mod3", "pack.sub.part4", "decimal"):
    wrapt.register_post_import_hook(lambda module: seen.append(module.__name__), name)
{STANDARD}import app
print(*seen)
""")
    share, result, found = measure(program.root / "prog.py")
    assert result.out.split() == ["decimal", "mod3", "pack.sub.part4"] and "wrapt" in found["finders"][0]
    assert share >= 0.95, found


def test_share_with_all_of_them(program, measure):
    """In one process."""
    program.write("suite/test_it.py", f"""
        import distutils.core, setuptools, sys, wrapt
        def test_it():
            seen = []
            wrapt.register_post_import_hook(lambda module: seen.append(module.__name__), "mod3")
            import app
            assert seen == ["mod3"] and "coverage" in sys.modules
    """)
    program.write("suite/conftest.py", STANDARD)
    share, result, found = measure("-m", "coverage", "run", f"--source={program.root}", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                                             program.root / "suite")
    assert "1 passed" in result.out
    assert share >= 0.95, found


def test_share_control(program, measure):
    """Control: the share falls when imports are left to stock Python, and when a finder of somebody else answers them with a loader of its own."""
    patch = "import importlib.machinery as m\nold = m.PathFinder.find_spec\nm.PathFinder.find_spec = lambda *a, **k: old(*a, **k)\n"
    program.write("prog.py", f"{patch}{STANDARD}import app\n")
    assert measure(program.root / "prog.py")[0] < 0.5
    program.write("prog.py", f"""import sys, importlib.machinery
class Loader(importlib.machinery.SourceFileLoader): pass
class Finder:
    @staticmethod
    def find_spec(*args):
        spec = importlib.machinery.PathFinder.find_spec(*args)
        if spec and type(spec.loader) is importlib.machinery.SourceFileLoader: spec.loader = Loader(spec.name, spec.origin)
        return spec
sys.meta_path.insert(0, Finder)
{STANDARD}import app
""")
    assert measure(program.root / "prog.py")[0] < 0.5
