# SPDX-License-Identifier: MIT
"""What is served is what is there: edits of every kind, new files that shadow, the window for long paths, frozen, and content under a new stamp."""

import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from harness import LONG, STATS, Talker, Tree, settle

ROUNDS = 2000 if LONG else 200
IMPORT = "import sys; sys.modules.pop('m', None); import m; result = m.value"


def versions(count):
    """Texts of one size."""
    return [f"value = {n}\n" for n in range(100_000, 100_000 + count)]


def wait_for_new_second():
    time.sleep(1 - time.time() % 1)


# --- same size, same second ---


@pytest.mark.parametrize("in_between", [0, 0.001, 0.03])
def test_edit_of_same_size_in_same_second_is_seen(tree, in_between):
    """Each round: edit, import. A long-lived process, .pyc files written as usual."""
    stale = 0
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child:
        for n, text in enumerate(versions(ROUNDS // 3)):
            tree.write("m.py", text)
            time.sleep(in_between if n < 60 else 0)
            stale += child(IMPORT) != 100_000 + n
    assert stale == 0


def test_edit_of_same_size_in_same_second_control(tree):
    """Control: the same rounds catch stock Python serving old code."""
    stale = 0
    with Talker(tree, ladewerk=False) as child:
        for n, text in enumerate(versions(50)):
            tree.write("m.py", text)
            stale += child("import importlib; importlib.invalidate_caches()\n" + IMPORT) != 100_000 + n
    assert stale > 0


def test_edit_between_fresh_processes_is_seen(tree):
    """Edit, start; edit, start: from .pyc files and from the cache, within one second."""
    for n, text in enumerate(versions(40 if LONG else 12)):
        tree.write("m.py", text)
        if n % 3 == 0:
            settle()  # now and then old enough to be stored
        assert tree.run("import m; print(m.value)").out == f"{100_000 + n}\n"
        assert tree.run("import m; print(m.value)").out == f"{100_000 + n}\n"


def test_edit_between_fresh_processes_control(tree):
    """Control: stock serves old code there."""
    wait_for_new_second()
    stale = 0
    for n, text in enumerate(versions(6)):
        tree.write("m.py", text)
        stale += tree.run("import m; print(m.value)", ladewerk=False).out != f"{100_000 + n}\n"
    assert stale > 0


def test_edit_while_it_is_imported(tree):
    """A module body that replaces its own file: the next import sees the new one."""
    tree.write("m.py", """
        import pathlib
        value = 1
        pathlib.Path(__file__).write_text("value = 2")
    """)
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child:
        assert child(IMPORT) == 1
        assert child(IMPORT) == 2
    assert tree.run("import m; print(m.value)").out == "2\n"


def test_edit_between_reading_and_storing(tree):
    """What changes before it is stored is not stored under its old stamp."""
    tree.env["PYTHONDONTWRITEBYTECODE"] = "1"  # a .pyc is believed by other rules
    tree.write("m.py", "value = 1\n")
    settle()
    tree.run("""
        import os, m
        st = os.stat(m.__file__)
        with open(m.__file__, 'w') as f: f.write('value = 2\\n')
        os.utime(m.__file__, ns=(st.st_atime_ns, st.st_mtime_ns))
        import colorsys  # the imports fall quiet again
    """)
    assert tree.run("import m; print(m.value)").out == "2\n"


# --- replaced, moved, dated back ---


def replaced_by_rename(tree, text):
    tree.write("new", text)
    os.rename(tree.root / "new", tree.root / "m.py")


def dated_back(tree, text):
    """An older file of the same size is put there: an unpacked archive, cp -p."""
    tree.write("m.py", text)
    os.utime(tree.root / "m.py", (1_000_000_000, 1_000_000_000 - int(text.split()[-1])))


def dated_ahead(tree, text):
    tree.write("m.py", text)
    os.utime(tree.root / "m.py", (4_000_000_000, 4_000_000_000 + int(text.split()[-1])))


def far_ahead(tree, text):
    tree.write("m.py", text)
    os.utime(tree.root / "m.py", (2**33, 2**33 + int(text.split()[-1])))


def dated_as_before(tree, text):
    """The size is the same, too."""
    before = os.stat(tree.root / "m.py")
    tree.write("m.py", text)
    os.utime(tree.root / "m.py", ns=(before.st_atime_ns, before.st_mtime_ns))


def dated_as_before_in_whole_seconds(tree, text):
    """What an archive or a synchronizing tool leaves."""
    tree.write("m.py", text)
    os.utime(tree.root / "m.py", (10**9, 10**9))


def through_a_hard_link(tree, text):
    other = tree.base / "other.py"
    if not other.exists():
        os.link(tree.root / "m.py", other)
    other.write_text(text)


def tree_replaced(tree, text):
    shutil.rmtree(tree.root)
    tree.root.mkdir()
    tree.write("m.py", text)


def tree_renamed(tree, text):
    aside = tree.base / f"aside{time.monotonic_ns()}"
    os.rename(tree.root, aside)
    tree.root.mkdir()
    tree.write("m.py", text)


def tree_becomes_a_link(tree, text):
    other = tree.base / f"other{time.monotonic_ns()}"
    other.mkdir()
    tree.write("m.py", text, at=other)
    if tree.root.is_symlink():
        tree.root.unlink()
    else:
        shutil.rmtree(tree.root)
    tree.root.symlink_to(other)


def through_a_link(tree, text):
    target = tree.base / "target.py"
    target.write_text(text)
    if not (tree.root / "m.py").is_symlink():
        (tree.root / "m.py").unlink()
        (tree.root / "m.py").symlink_to(target)


CHANGES = [replaced_by_rename, dated_back, dated_ahead, far_ahead, dated_as_before, dated_as_before_in_whole_seconds, through_a_hard_link, tree_replaced, tree_renamed, tree_becomes_a_link,
           through_a_link]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pause", [False, True])
def test_change_is_seen(tree, change, pause):
    """In a running process, with nothing but the import to notice it, and by the next one."""
    tree.write("m.py", "value = 100\n")
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child:
        for n in range(100, 104):
            if n > 100:
                change(tree, f"value = {n}\n")
            if pause:
                settle()
            assert child(IMPORT) == n
            if pause:
                assert tree.run("import m; print(m.value)").out == f"{n}\n"


@pytest.mark.parametrize("known", ["known", "unknown", "indexed"])
def test_bytecode_of_what_was_there_before_is_never_learnt(tree, known):
    """A same-size edit with its mtime put back: stock Python takes the old .pyc for as long as it is there."""
    tree.write("m.py", "value = 1\n")
    os.utime(tree.root / "m.py", (10**9, 10**9))
    settle()
    program = "import m; print(m.value)"
    assert tree.run(program, ladewerk=False).out == "1\n"
    if known == "known":
        tree.learn("import m")
    time.sleep(0.1)
    tree.write("m.py", "value = 2\n")
    os.utime(tree.root / "m.py", (10**9, 10**9))
    settle()
    assert tree.run(program, ladewerk=False).out == "1\n"  # control: stock is stale
    if known == "indexed":
        tree.run(None, "-m", "ladewerk", "index", "--quiet", tree.root)
    assert tree.run(program).out == "2\n"
    assert tree.run(program).out == "2\n"
    if known != "indexed":
        assert tree.run(program, ladewerk=False).out == "2\n"  # its .pyc has been renewed
    os.utime(tree.root / "m.py")
    assert tree.run(program).out == "2\n"


def test_times_in_the_future_cost_nothing(tree):
    """Clocks of a host and its guests differ: what is dated ahead is learnt like anything else."""
    for name in "a.py", "p/__init__.py", "p/b.py":
        os.utime(tree.write(name, "value = 1\n"), (2**32, 2**32))
    for directory in tree.root, tree.root / "p":
        os.utime(directory, (2**32, 2**32))
    stats = tree.learn("import a, p.b" + STATS).json()
    assert stats["served"]["pack"] >= 3 and stats["served"]["compiled"] == 0


def test_frozen_believes_nothing_older_than_a_refused_file(tree):
    """What was refused may have held what replaced it."""
    tree.freshness = "frozen"
    tree.write("m.py", "value = 1\n")
    tree.learn("import m")
    first = set(tree.cache.glob("*/*.lwi"))
    tree.write("m.py", "value = 2\n")
    tree.write("new.py")
    settle()
    assert tree.run("import m; print(m.value)").out == "1\n"  # control: frozen
    tree.freshness = "stat"
    tree.learn("import m, new")
    tree.freshness = "frozen"
    assert tree.run("import m, new; print(m.value)").out == "2\n"
    for file in set(tree.cache.glob("*/*.lwi")) - first:
        os.truncate(file, 5000)
    result = tree.run("import m, new; print(m.value)" + STATS)
    assert result.out.startswith("2\n") and result.json()["freshness"] == "stat"


def test_old_process_does_not_overrule_what_was_stored_since(tree):
    """`frozen` believes the newest fact: it must not be one that is older than it looks."""
    tree.freshness = "frozen"
    tree.write("a.py", "value = 1\n")
    tree.write("p/__init__.py")
    settle()
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child:
        child("import a, p")
        os.unlink(tree.root / "a.py")
        tree.write("a.py", "value = 2\n")
        tree.write("zzb.py")
        settle()
        tree.run(None, "-m", "ladewerk", "index", "--quiet", tree.root)
        assert tree.run("import a, zzb; print(a.value)").out == "2\n"
    assert tree.run("import a, zzb; print(a.value)").out == "2\n"


def test_link_that_is_turned_and_turned_back(tree):
    """What was compiled while `current` led to release 2 is not remembered as release 1's."""
    for n in 1, 2:
        tree.write(f"release{n}/m.py", f"value = {n}\n")
    os.symlink("release1", tree.root / "current")
    tree.env = {"PYTHONPATH": tree.root / "current", "PYTHONDONTWRITEBYTECODE": "1"}
    settle()
    racing = tree.run(f"""
import os, sys
def point(to): os.symlink(to, {str(tree.base / "new")!r}); os.replace({str(tree.base / "new")!r}, {str(tree.root / "current")!r})
def hook(event, args):
    if event == 'open' and isinstance(args[0], str) and args[0].endswith('/m.py'): point('release2')
sys.addaudithook(hook)
import m
point('release1')
print(m.value)
""")
    assert racing.out == "2\n"  # as under stock
    for _ in range(3):
        assert tree.run("import m; print(m.value)").out == "1\n"
        settle()


IMAGE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static int inside(const char *path) { const char *root = getenv("IMAGE"); return root && !strncmp(path, root, strlen(root)); }

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict st)
{
	int (*next)(int, const char *, int, unsigned, struct statx *) = dlsym(RTLD_NEXT, "statx");
	int result = next(fd, path, flags, mask, st);
	char name[64], opened[4096] = "";
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	if (result == 0 && !*path && readlink(name, opened, sizeof opened - 1) > 0)
		path = opened;
	if (result == 0 && inside(path)) {
		st->stx_mtime.tv_sec = st->stx_ctime.tv_sec = 1000000000;
		st->stx_mtime.tv_nsec = st->stx_ctime.tv_nsec = 0;
	}
	return result;
}

int statfs64(const char *path, struct statfs64 *fs)
{
	int (*next)(const char *, struct statfs64 *) = dlsym(RTLD_NEXT, "statfs64");
	int result = next(path, fs);
	if (inside(path) && getenv("READ_ONLY"))
		fs->f_flags |= ST_RDONLY;
	return result;
}
"""


@pytest.fixture(scope="module")
def image_library(tmp_path_factory):
    """A library to preload: what lies below $IMAGE has the times of an image, one whole second for everything."""
    base = tmp_path_factory.mktemp("image")
    (base / "image.c").write_text(IMAGE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", base / "image.so", base / "image.c"], check=True)
    return base / "image.so"


@pytest.mark.parametrize("entries", [1, 40])
@pytest.mark.parametrize("read_only", [True, False])
def test_image_that_replaces_an_image(tree, image_library, entries, read_only):
    """Reproducible images: same sizes, inodes and times. On a read-only file system the content is compared. Control: elsewhere the stamp is believed."""
    tree.env = {"LD_PRELOAD": image_library, "IMAGE": tree.root, "READ_ONLY": "1" if read_only else None,
                "PYTHONPATH": ":".join([str(tree.root), *(f"/nowhere{i}" for i in range(entries - 1))]), "PYTHONDONTWRITEBYTECODE": "1"}
    tree.write("m.py", "value = 1\n")
    tree.write("old.py")
    program = "import m, importlib.util; print(m.value, *(name for name in ('old', 'new') if importlib.util.find_spec(name)))"
    assert tree.learn(program + STATS).out.startswith("1 old\n")
    files = sorted(tree.cache.glob("*/*.lwi"))
    served = tree.run(program + STATS).json()["served"]
    assert served["pack"] + served["pyc"] >= 1 and served["compiled"] == 0
    assert sorted(tree.cache.glob("*/*.lwi")) == files  # nothing new, nothing written
    (tree.root / "m.py").write_text("value = 2\n")
    os.rename(tree.root / "old.py", tree.root / "new.py")
    settle()
    assert tree.run(program).out == ("2 new\n" if read_only else "1 new\n")  # that old.py is gone shows in any case


def test_index_of_an_image_that_replaces_an_image(tree, image_library):
    """`ladewerk index` after the change says what is there now, for `frozen` too."""
    tree.env = {"LD_PRELOAD": image_library, "IMAGE": tree.root, "READ_ONLY": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    index = f"""
        from ladewerk import _index
        _index.main([{str(tree.root)!r}], quiet=True, as_json=False, threads=1, backend="auto", dry_run=False, with_stats=False, revalidate=False)
    """
    tree.write("m.py", "value = 1\n")
    tree.write("old.py")
    settle()
    tree.run(index, ladewerk=False)
    (tree.root / "m.py").write_text("value = 2\n")
    os.rename(tree.root / "old.py", tree.root / "new.py")
    settle()
    tree.run(index, ladewerk=False)
    tree.freshness = "frozen"
    assert tree.run("import m, importlib.util; print(m.value, *(name for name in ('old', 'new') if importlib.util.find_spec(name)))").out == "2 new\n"


def test_frozen_sees_a_change_by_invalidate_caches_only(tree):
    """The index is the truth until the program says that files have changed."""
    tree.freshness = "frozen"
    tree.write("m.py", "value = 1\n")
    tree.learn("import m")
    with Talker(tree) as child:
        assert child(IMPORT) == 1
        tree.write("m.py", "value = 22\n")
        tree.write("new.py", "value = 3\n")
        assert child(IMPORT) == 1
        assert child("""
            try: import new; result = 'found'
            except ModuleNotFoundError: result = 'absent'
        """) == "absent"
        child("import importlib; importlib.invalidate_caches()")
        assert child(IMPORT) == 22
        assert child("import new; result = new.value") == 3


def test_mode_that_forbids_reading(powerless):
    """Unreadable, then readable again: as stock says."""
    tree = powerless
    tree.write("p/m.py", "value = 1\n")
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child:
        code = """
            import sys; sys.modules.pop('p.m', None); sys.modules.pop('p', None)
            try: import p.m; result = p.m.value
            except ImportError as error: result = str(error)
        """
        assert child(code) == 1
        os.chmod(tree.root / "p", 0)
        assert child(code) == "No module named 'p.m'"
        os.chmod(tree.root / "p", 0o755)
        assert child(code) == 1


def test_source_that_may_not_be_read_beside_its_bytecode(powerless):
    """Stock runs a .pyc without reading its source. We would not believe one that is hardly younger, but have nothing better."""
    source = powerless.write("m.py", "value = 1\n")
    powerless.run("import m", ladewerk=False)  # leaves the .pyc
    source.chmod(0)
    code = "import m; print(m.value, m.__file__)"
    powerless.same(code)
    next((powerless.root / "__pycache__").glob("m.*.pyc")).unlink()
    shutil.rmtree(powerless.cache)
    result = powerless.same(f"try: {code}\nexcept Exception as error: print(type(error), error)")
    assert "PermissionError" in result.out


def test_deleted_and_restored(tree):
    """A file, a package and a whole root come and go."""
    code = """
        import sys
        for name in list(sys.modules):
            if name.partition('.')[0] in ('m', 'p'): del sys.modules[name]
        result = []
        for name in 'm', 'p.m':
            try: result.append(__import__(name, fromlist=['value']).value)
            except ModuleNotFoundError as error: result.append(error.name)
    """
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child:
        for pause in [False, True, False]:
            assert child(code) == ["m", "p"]
            tree.write("m.py", "value = 1\n")
            tree.write("p/__init__.py", "")
            tree.write("p/m.py", "value = 2\n")
            if pause:
                settle()
            assert child(code) == [1, 2]
            os.unlink(tree.root / "p/m.py")
            assert child(code) == [1, "p.m"]
            shutil.rmtree(tree.root)
            assert child(code) == ["m", "p"]
            tree.root.mkdir()


# --- files that shadow ---

SHADOWS = {
    "extension beside source": lambda tree: shutil.copy(extension(), tree.root / ("m" + os.path.basename(extension()).partition("_heapq")[2])),
    "package beside source": lambda tree: tree.write("m/__init__.py", "value = 2"),
    "earlier entry": lambda tree: tree.write("m.py", "value = 2", at=tree.base / "first"),
    "package on earlier entry": lambda tree: tree.write("m/__init__.py", "value = 2", at=tree.base / "first"),
    "entry that did not exist": lambda tree: tree.write("m.py", "value = 2", at=tree.base / "absent"),
    "source instead of namespace": lambda tree: tree.write("n.py", "value = 2"),
    "init in namespace": lambda tree: tree.write("n/__init__.py", "value = 2"),
    "bytecode only, then source": lambda tree: tree.write("b.py", "value = 2"),
}


def extension():
    """Some extension module of the standard library that is a file, or None."""
    out = subprocess.run([sys.executable, "-c", "import _heapq; print(getattr(_heapq, '__file__', ''))"], capture_output=True, text=True, check=True).stdout.strip()
    return out or None


@pytest.mark.parametrize("shadow", SHADOWS)
@pytest.mark.parametrize("pause", [False, True])
def test_new_file_that_shadows(tree, shadow, pause):
    """The next import finds what stock would find; the process has looked before."""
    if shadow == "extension beside source" and not extension():
        pytest.skip("_heapq is built in")
    (tree.base / "first").mkdir()
    tree.write("m.py", "value = 1")
    tree.write("n/x.py", "")
    tree.write("b.py", "value = 1")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", tree.root / "b.py"], check=True)
    os.unlink(tree.root / "b.py")
    path = os.pathsep.join(map(str, [tree.base / "first", tree.base / "absent", tree.root]))
    code = """
        import importlib.util, re, sys
        result = []
        for name in 'm', 'n', 'b':
            sys.modules.pop(name, None)
            result.append(str(importlib.util.find_spec(name)))
            try: result.append(str(__import__(name).__spec__))
            except ImportError as error: result.append(str(error).partition('(')[0])
        result = [re.sub('0x[0-9a-f]+', '', text) for text in result]
    """
    ask_stock = "import importlib; importlib.invalidate_caches()\n" + textwrap.dedent(code)
    with Talker(tree, LADEWERK_STAT_WINDOW=0, PYTHONPATH=path) as child, Talker(tree, ladewerk=False, PYTHONPATH=path) as stock:
        before = child(code)
        assert before == stock(ask_stock)
        if pause:
            settle()
            child(code)
        SHADOWS[shadow](tree)
        after = child(code)
        assert after == stock(ask_stock)
        assert after != before


# --- the window for long paths ---


@pytest.fixture
def long_path(tree):
    """40 entries; module m in the last one."""
    entries = [tree.base / f"entry{i}" for i in range(40)]
    for i, entry in enumerate(entries):
        tree.write(f"only{i}.py", "", at=entry)
    tree.write("m.py", "value = 1\n", at=entries[-1])
    tree.entries = entries
    tree.env = {"PYTHONPATH": os.pathsep.join(map(str, entries))}
    settle()
    return tree


HOUR = 3_600_000


@pytest.mark.parametrize("window, value", [(0, 2), (HOUR, 1)])
def test_window(long_path, window, value):
    """A new file ahead of a hit: seen at once without a window, later with one."""
    with Talker(long_path, LADEWERK_STAT_WINDOW=window) as child:
        assert child(IMPORT) == 1
        long_path.write("m.py", "value = 2\n", at=long_path.entries[3])
        assert child(IMPORT) == value


def test_window_ends(long_path):
    """By time."""
    with Talker(long_path, LADEWERK_STAT_WINDOW=50) as child:
        assert child(IMPORT) == 1
        long_path.write("m.py", "value = 2\n", at=long_path.entries[3])
        time.sleep(0.06)
        assert child(IMPORT) == 2


def test_invalidate_caches_ends_the_window(long_path):
    with Talker(long_path, LADEWERK_STAT_WINDOW=HOUR) as child:
        assert child(IMPORT) == 1
        long_path.write("m.py", "value = 2\n", at=long_path.entries[3])
        child("import importlib; importlib.invalidate_caches()")
        assert child(IMPORT) == 2


def test_a_miss_ends_the_window(long_path):
    """A name is absent only after all entries have been compared."""
    with Talker(long_path, LADEWERK_STAT_WINDOW=HOUR) as child:
        assert child(IMPORT) == 1
        long_path.write("new.py", "value = 3\n", at=long_path.entries[7])
        assert child("import new; result = new.value") == 3


def test_the_file_itself_has_no_window(long_path):
    """Neither its content nor that it is there."""
    with Talker(long_path, LADEWERK_STAT_WINDOW=HOUR) as child:
        assert child(IMPORT) == 1
        long_path.write("m.py", "value = 5\n", at=long_path.entries[-1])
        assert child(IMPORT) == 5
        os.unlink(long_path.entries[-1] / "m.py")
        assert child("""
            import sys; sys.modules.pop('m', None)
            try: import m; result = 'found'
            except ModuleNotFoundError: result = 'absent'
        """) == "absent"


def test_namespace_portions_have_no_window(long_path):
    """An answer that rests on many entries compares them all."""
    long_path.write("n/x.py", "", at=long_path.entries[20])
    with Talker(long_path, LADEWERK_STAT_WINDOW=HOUR) as child:
        code = "import importlib.util; result = list(importlib.util.find_spec('n').submodule_search_locations)"
        assert child(code) == [str(long_path.entries[20] / "n")]
        long_path.write("n/y.py", "", at=long_path.entries[5])
        assert child(code) == [str(long_path.entries[i] / "n") for i in (5, 20)]


def test_stored_table_of_a_long_path_is_compared(long_path):
    """A table of names from the index holds only while its directories do."""
    long_path.learn("import m")
    assert long_path.run("import m; print(m.value)").out == "1\n"
    long_path.write("m.py", "value = 2\n", at=long_path.entries[0])
    assert long_path.run("import m; print(m.value)", env={"LADEWERK_STAT_WINDOW": HOUR}).out == "2\n"
    settle()
    os.unlink(long_path.entries[0] / "m.py")
    assert long_path.run("import m; print(m.value)").out == "1\n"


# --- frozen ---


def system_calls(tree, code):
    """What the child does between two marks: [line of strace]."""
    log = tree.base / "strace"
    subprocess.run(["strace", "-f", "-o", log, *tree.command(code, options=["-P"])], env=tree.environment(True), cwd=tree.work, check=True, capture_output=True, timeout=60)
    lines = log.read_text().splitlines()
    start, end = [n for n, line in enumerate(lines) if "access" in line and '"/mark/"' in line]
    return lines[start + 1:end]


MARKED = "import os, json\nos.access('/mark/', 0)\nimport p.m, p.q.r\nos.access('/mark/', 0)"


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
@pytest.mark.parametrize("freshness", ["frozen", "stat"])
def test_frozen_makes_no_system_call_for_packed_modules(tree, freshness):
    """Under stat (control) the same imports are seen."""
    for name in "p/__init__.py", "p/m.py", "p/q/__init__.py", "p/q/r.py":
        tree.write(name, "value = 1\n")
    tree.freshness = freshness
    tree.learn(MARKED)
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    memory = re.compile(r"\d+ +(brk|mmap|munmap|madvise|mremap|mprotect|futex|geteuid)\(")
    calls = [line for line in system_calls(tree, MARKED) if not memory.match(line)]
    assert (calls == []) == (freshness == "frozen"), calls
    if freshness == "stat":
        assert all("statx(" in line for line in calls), calls  # not opened, not read


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
@pytest.mark.parametrize("size", [10, 40_000])
def test_code_is_given_back_by_what_is_mapped(tree, size):
    """Small modules share pages: hundreds of them cost no call. Big ones (control) do."""
    names = [f"m{n}" for n in range(100)]
    for n, name in enumerate(names):
        tree.write(f"p/{name}.py", f"value = {chr(97 + n % 26) * size!r}\n")
    tree.write("p/__init__.py")
    code = f"import os, json\nos.access('/mark/', 0)\nimport {', '.join('p.' + name for name in names)}\nos.access('/mark/', 0)"
    tree.learn(code)
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    files = len(list(tree.cache.glob("*/*.lwi")))  # how many is a matter of how long it took to learn
    calls = sum("MADV_DONTNEED" in line for line in system_calls(tree, code))
    # Per mebibyte, one for each file that holds code.
    assert calls <= 1 if size == 10 else 3 <= calls <= 12 * files, (calls, files)


# --- the same content under another stamp ---


def touched(tree):
    for path in tree.root.rglob("*.py"):
        os.utime(path)


def copied(tree):
    subprocess.run(["cp", "-a", tree.root, tree.base / "copy"], check=True)
    shutil.rmtree(tree.root)
    os.rename(tree.base / "copy", tree.root)


def rewritten(tree):
    for path in tree.root.rglob("*.py"):
        path.write_bytes(path.read_bytes())


@pytest.mark.parametrize("how", [touched, copied, rewritten])
def test_same_content_under_another_stamp_is_served(tree, how):
    """Image pulls, clones and cache restores: the code still comes from the pack, and the next process finds the stamps right."""
    for i in range(5):
        tree.write(f"m{i}.py", f"value = {i}\n")
    program = "import m0, m1, m2, m3, m4"
    tree.learn(program)
    stats = tree.run(program + STATS).json()
    assert stats["session"]["code_same_content"] == 0 and stats["served"]["pack"] >= 5
    how(tree)
    settle()
    stats = tree.run(program + STATS).json()
    assert stats["session"]["code_same_content"] == 5
    assert stats["served"]["compiled"] == 0
    stats = tree.run(program + STATS).json()
    assert stats["session"]["code_same_content"] == 0 and stats["served"]["pack"] >= 5


def test_other_content_under_another_stamp_is_not_served(tree):
    """Control: one byte differs."""
    tree.write("m.py", "value = 1\n")
    tree.learn("import m")
    tree.write("m.py", "value = 2\n")
    settle()
    result = tree.run("import m; print(m.value)" + STATS)
    assert result.out.startswith("2\n") and result.json()["session"]["code_same_content"] == 0


# --- at random ---


def test_random_edits_against_stock(tree):
    """Whatever happens to a handful of modules, a running Ladewerk and a fresh stock import agree on every value."""
    rng = random.Random(7)
    names = ["a", "b", "c"]
    program = """
        import sys
        for name in list(sys.modules):
            if name[:1] in 'abc' and name.partition('.')[0] in ('a', 'b', 'c'): del sys.modules[name]
        result = {}
        for name in 'a', 'b', 'c', 'a.b', 'b.c':
            try: result[name] = getattr(__import__(name, fromlist=['value']), 'value', 'namespace')
            except ImportError as error: result[name] = str(error)
    """
    stock_program = "import importlib; importlib.invalidate_caches()\n" + textwrap.dedent(program)
    # Stock must not believe its .pyc files: it writes none.
    with Talker(tree, LADEWERK_STAT_WINDOW=0) as child, Talker(tree, ladewerk=False, PYTHONPYCACHEPREFIX=tree.base / "nowhere", PYTHONDONTWRITEBYTECODE=1) as stock:
        for n in range(1000 if LONG else 150):
            name = rng.choice(names)
            path = tree.root / rng.choice([f"{name}.py", f"{name}/__init__.py", f"{name}/{rng.choice(names)}.py"])
            action = rng.randrange(6)
            if action < 3:
                tree.write(path.relative_to(tree.root), f"value = {1000 + n}\n")
            elif action == 3 and path.exists():
                path.unlink()
            elif action == 4 and (tree.root / name).is_dir():
                shutil.rmtree(tree.root / name)
            elif action == 5:
                settle()
            assert child(program) == stock(stock_program), n
