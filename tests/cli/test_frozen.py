# SPDX-License-Identifier: MIT
"""Artifacts: `ladewerk index --frozen` makes the same bytes everywhere, `ladewerk run --index` uses them, and nobody is served by one who should not be."""
from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from interpreters import once_but

from shell import STATS

KERNEL = os.environ.get("LADEWERK_REQUIRE_KERNEL", "0") != "0"

SOURCES = {
    "alpha.py": "import pack.beta\nanswer = 42\ndef f(x, y=(1, 2.5, 'some text', b'bytes')): return x in {'one', 'two', 3} or x in {(1, 'two'), 'three'}\n",
    "pack/__init__.py": "from . import beta\n",
    "pack/beta.py": "class B:\n    '''doc'''\n    def m(self): return super().m, 'a.b', __class__\n",
    "pack/deep/gamma.py": "value = [i for i in 'abc' if i not in {'a', 'b', 'not a name'}]\n",
    "pack/d\u00e9j\u00e0.py": "vu = '\u00e9', ' ', '', 'x'\n",
    "space/inner/leaf.py": "here = __file__\n",
    "broken.py": "def f(:\n",
    "data.txt": "no module\n",
}
USE = "import alpha, pack.deep.gamma, space.inner.leaf, pack.d\u00e9j\u00e0\nassert alpha.answer == 42\n"
SERVED = 7  # alpha, pack, pack.beta, pack.deep.gamma, leaf, déjà; pack.deep, space and inner are namespaces
CODE = 6


def write_tree(root: Path, names=SOURCES) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCES[name])
    return root


@pytest.fixture
def tree(shell):
    """work/src and its artifact, work/art."""
    write_tree(shell.cwd / "src")
    shell.settle()
    freeze(shell)
    shell.env["PYTHONPATH"] = str(shell.cwd / "src")
    return shell


def freeze(shell, out="art", *roots, status=0, env={}, **options):
    done = shell.ladewerk("index", "--frozen", "-o", out, *(roots or ["src"]), env=env, **options)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


def used(shell, code=USE, *more, index="art", env={}, learns=False):
    """The statistics of a run with the artifact; what is not in it is not served from a cache, if it LEARNS nothing."""
    env = {"LADEWERK_READONLY": None if learns else "1", **env}
    done = shell.ladewerk("run", "--index", index, *more, "-c", f"{code}\n{STATS}", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def used_by_another(shell, freshness=None, index=None, env={}):
    """The same as another user, without the launcher, which looks for an interpreter that this user can execute."""
    shell.prefix = AS_1234
    done = shell.stock("-c", USE + STATS, env={**NOBODYS, "LADEWERK": "1", "LADEWERK_INDEX": index or str(shell.cwd / "art"), "LADEWERK_FRESHNESS": freshness, **env})
    shell.prefix = []
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def contents(artifact: Path) -> dict[str, bytes]:
    return {path.name: os.readlink(path).encode() if path.is_symlink() else path.read_bytes() for path in artifact.iterdir()}


def same(one: Path, other: Path) -> bool:
    return contents(one) == contents(other)


# --- the same bytes -----------------------------------------------------------------------------------------------------


def elsewhere(shell, place: str, names=SOURCES) -> Path:
    """A second working directory with the same sources."""
    root = shell.root / place
    write_tree(root / "src", names)
    return root


def test_holds_what_it_should(tree):
    art = tree.cwd / "art"
    assert sorted(p.name for p in art.iterdir()) == ["about", "index.lwi", "root0"]
    assert os.readlink(art / "root0") == "../src"
    data = (art / "index.lwi").read_bytes()
    assert data[:8] == b"LWINDEX\n" and str(tree.root).encode() not in data
    assert int.from_bytes(data[40:48], "little") == 0, "no time"
    assert [oct(p.stat().st_mode & 0o777) for p in (art, art / "index.lwi", art / "about")] == ["0o755", "0o644", "0o644"]


def test_same_in_another_place_on_another_day_in_another_order(tree):
    """Other inodes, time stamps, order of creation, depth, umask, threads, seeds, time zone; a __pycache__ here and none there."""
    names = list(SOURCES)
    random.Random(5).shuffle(names)
    other = elsewhere(tree, "a/deeper/place", names)
    for path in other.rglob("*"):
        os.utime(path, (1, 86400 * 365))
    tree.stock("-m", "compileall", "-q", "src")
    assert list((tree.cwd / "src").rglob("__pycache__"))
    freeze(tree)
    done = tree.ladewerk("index", "--frozen", "-o", "art", "src", "--threads", "4", cwd=other, umask=0o077,
                         env={"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "LADEWERK_CACHE": None})
    assert done.returncode == 0, done.stderr
    assert same(tree.cwd / "art", other / "art")


@pytest.mark.once
def test_same_by_another_user(tree):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs to become another user")
    open_way(tree.root)
    other = elsewhere(tree, "theirs")
    for path in (other, *other.rglob("*")):
        os.chown(path, 1234, 1234)
    (other / "src/pack/beta.py").chmod(0o600)
    tree.prefix = AS_1234
    done = tree.stock("-m", "ladewerk", "index", "--frozen", "-o", "art", "src", cwd=other, env=NOBODYS)
    assert done.returncode == 0, done.stderr
    assert same(tree.cwd / "art", other / "art") and (other / "art/index.lwi").stat().st_uid == 1234


def test_same_from_one_process_and_from_many(shell):
    """With what the worker processes have imported before; the control without the canonical form differs."""
    for i in range(250):
        shell.write(f"src/m{i}.py", f"import json, os, email.message as same{i}\ndef f{i}(self, data, *args): return self.x{i}, data in {{'json', 'two', {i}}}, 'same', ' '\nclass A{i}:\n  class B: pass\n")
    one, many = (freeze(shell, out, "src", "--threads", n) and shell.cwd / out for out, n in (("one", "1"), ("many", "4")))
    assert same(one, many)
    control = f"""
import marshal, sys
from ladewerk import _frozen, _native
class Raw:
    def __getattr__(self, name): return bytes if name == "canonical" else getattr(_native, name)
_frozen._native = Raw()
keep = [compile("def f(self, data, json, same): 'two'", "x", "exec") for i in range(sys.argv[1] == "raw2")]
keep += [sys.intern(text) for text in (" ", "x", *(f"A{{i}}.B" for i in range(250))) if sys.argv[1] == "raw2"]
_frozen.main(["src"], sys.argv[1], quiet=True, as_json=False, threads=1, backend="pool")
"""
    env = {"PYTHONHASHSEED": "1"}
    for out in "raw1", "raw2":
        done = shell.stock("-c", control, out, env=env)
        assert done.returncode == 0, done.stderr
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # there, all constants are interned
        assert not same(shell.cwd / "raw1", shell.cwd / "raw2"), "the control: marshal's own form"


@pytest.mark.once
def test_rebuilding_changes_nothing(tree):
    before = contents(tree.cwd / "art")
    freeze(tree)
    assert contents(tree.cwd / "art") == before


@pytest.mark.once
@pytest.mark.parametrize("out", ["src/art", "src/.art", "src/pack/art"])
def test_an_artifact_in_its_own_root_is_no_part_of_it(tree, out):
    """Whether it is there already or not, and although it holds links back."""
    freeze(tree, out)
    first = contents(tree.cwd / out)
    freeze(tree, out)
    assert contents(tree.cwd / out) == first
    assert first["index.lwi"] == contents(tree.cwd / "art")["index.lwi"]
    assert used(tree, index=out)["served"]["pack"] >= CODE


def test_changed_input_changes_it(tree):
    before = contents(tree.cwd / "art")["index.lwi"]
    tree.write("src/alpha.py", SOURCES["alpha.py"] + "#")
    freeze(tree)
    assert contents(tree.cwd / "art")["index.lwi"] != before


@pytest.mark.parametrize("limit", ["0", "640", "100000"])
def test_limit_of_literals_does_not_change_it(tree, limit):
    tree.write("src/long.py", "x = " + "7" * 1000)  # compiles by default
    tree.write("src/longer.py", "x = " + "7" * 5000)  # does not
    freeze(tree)
    freeze(tree, "other", env={"PYTHONINTMAXSTRDIGITS": limit})
    assert contents(tree.cwd / "art") == contents(tree.cwd / "other")


def test_what_does_not_compile_is_said(tree):
    facts = tree.json("index", "--frozen", "-o", "art", "src")
    assert [os.path.basename(fault["file"]) for fault in facts["not_compiled"]] == ["broken.py"]
    assert (facts["compiled"], facts["sources"], facts["roots"]) == (CODE, CODE + 1, [str(tree.cwd / "src")])
    assert "1 source that does not compile" in freeze(tree).stdout
    assert "SyntaxError" in tree.ladewerk("run", "--index", "art", "-c", "import broken").stderr


# --- using it -----------------------------------------------------------------------------------------------------------


def test_serves_frozen_by_default(tree):
    stats = used(tree)
    index = stats["index"]
    assert index == {"path": str(tree.cwd / "art"), "roots": [str(tree.cwd / "src")], "files": CODE, "reason": None, "freshness": "frozen"}
    assert (stats["freshness"], stats["index"]["freshness"], stats["served"]["pack"]) == ("stat", "frozen", CODE)


def test_code_is_that_of_the_source(tree):
    code = "import alpha, pack.beta as b, traceback\nprint(alpha.__file__, alpha.f.__code__.co_filename, b.B.m.__code__.co_filename, getattr(alpha, '__cached__', 0))\n" \
        "try: alpha.f([])\nexcept TypeError: traceback.print_exc(file=__import__('sys').stdout)"
    assert tree.ladewerk("run", "--index", "art", "-c", code).stdout == tree.stock("-B", "-c", code).stdout != ""


def test_edits_are_for_stat_to_see(tree):
    tree.write("src/alpha.py", SOURCES["alpha.py"].replace("42", "43"))
    tree.write("src/fresh.py", "")
    tree.settle()
    asks = "import alpha, sys\nprint(alpha.answer)\ntry: import fresh\nexcept ImportError: print('none')"
    run = lambda *options, **more: tree.ladewerk("run", "--index", "art", *options, "-c", asks, **more).stdout.split()
    assert run() == ["42", "none"]
    assert run("--freshness", "stat") == ["43"]
    assert run(env={"LADEWERK_FRESHNESS": "stat"}) == ["43"]
    assert run() == ["42", "none"], "what stat has learnt is no truth in frozen"
    assert run("--freshness", "frozen", env={"LADEWERK_FRESHNESS": "stat"}) == ["42", "none"]


@pytest.mark.parametrize("entries", [1, 40])  # a list that is searched entry by entry, one that has a table
def test_what_lies_elsewhere_is_not_frozen_unasked(tree, entries):
    """What was learnt is no truth because an artifact is used. The control asks for it, and gets the old one."""
    tree.write("lib/elsewhere.py", "value = 1\n")
    tree.write("lib/package/__init__.py")
    for i in range(1, entries):
        tree.write(f"more/{i}/only{i}.py")
    tree.settle()
    tree.env["PYTHONPATH"] = os.pathsep.join([str(tree.cwd / "src"), *(str(tree.cwd / f"more/{i}") for i in range(1, entries)), str(tree.cwd / "lib")])
    asks = "import alpha, elsewhere\nfrom importlib.util import find_spec\nprint(alpha.answer, elsewhere.value, bool(find_spec('package.late')), bool(find_spec('late')))"
    run = lambda *options: tree.ladewerk("run", "--index", "art", *options, "-c", asks).stdout
    assert {run() for _ in range(3)} == {"42 1 False False\n"}
    tree.write("lib/elsewhere.py", "value = 2\n")
    tree.write("src/alpha.py", "answer = 1\n")
    for name in "lib/package/late.py", "lib/late.py", "src/pack/late.py":
        tree.write(name)
    tree.settle()
    assert run("--freshness", "frozen").split()[:2] == ["42", "1"]
    assert run() == "42 2 True True\n"
    assert run("--freshness", "stat") == "1 2 True True\n"


def test_a_way_out_of_a_root_is_elsewhere(tree):
    """`src/../lib` begins like the root and is none of it. The control, below the root, is frozen."""
    code = """
import importlib, sys, time
sys.path[:0] = [{0!r} + "/src/../lib", {0!r} + "/src/pack"]
import alpha, known, beta
for place in "lib", "src/pack":
    open(f"{0}/{{place}}/late_{{place[:3]}}.py", "w").close()
time.sleep(0.05)
import late_lib
try: import late_src
except ImportError: print("frozen")
""".format(str(tree.cwd))
    tree.write("lib/known.py")
    tree.settle()
    done = tree.ladewerk("run", "--index", "art", "-c", code)
    assert (done.stdout, done.returncode) == ("frozen\n", 0), done.stderr


@pytest.mark.parametrize("freshness", ["stat", "frozen", None])
def test_a_link_may_lead_elsewhere_by_now(shell, freshness):
    """Whatever the mode: a linked package is what it is now, with all that is in it. The control is no link."""
    for v in "1", "2":
        for name in "pkg/__init__", "pkg/sub", "pkg/deep/__init__", "pkg/deep/leaf", "file":
            shell.write(f"v{v}/{name}.py", f"v = {v}\n")
    shutil.copytree(shell.cwd / "v1/pkg", shell.cwd / "src/real")
    for name in "pkg", "file.py":
        (shell.cwd / "src" / name).symlink_to(f"../v1/{name}")
    shell.settle()
    freeze(shell)
    shell.env["PYTHONPATH"] = str(shell.cwd / "src")
    code = "import pkg.sub, pkg.deep.leaf, file, real.sub\nimport sys; sys.path += [sys.path[1] + tail for tail in ('/pkg', '/pkg/deep')]\nimport sub, leaf\nprint(sub.v, leaf.v, pkg.v, pkg.sub.v, pkg.deep.v, pkg.deep.leaf.v, file.v, real.v, real.sub.v)"
    options = ["--freshness", freshness] if freshness else []
    run = lambda: [shell.ladewerk("run", "--index", "art", *options, "-c", code).stdout.split() for _ in range(2)]
    assert run() == [["1"] * 9] * 2
    for name in "pkg", "file.py":
        (shell.cwd / "src" / name).unlink()
        (shell.cwd / "src" / name).symlink_to(f"../v2/{name}")
    shutil.rmtree(shell.cwd / "src/real")
    shutil.copytree(shell.cwd / "v2/pkg", shell.cwd / "src/real")
    assert run() == [["2"] * 7 + (["2"] * 2 if freshness == "stat" else ["1"] * 2)] * 2


def test_stat_knows_what_is_unchanged_by_its_content_once(tree):
    code = USE + "from ladewerk import _native; _native.flush()"
    first, second, third = (used(tree, code, "--freshness", "stat", learns=True) for _ in range(3))
    assert first["session"]["code_same_content"] == CODE
    assert first["session"]["learnt_files"] >= CODE
    assert second["session"]["code_same_content"] == 0 and second["served"]["pack"] >= CODE and third["session"]["learnt_files"] == 0
    assert third["session"]["listings_read"] == 0
    shutil.rmtree(tree.cache)
    os.rename(tree.cwd / "src", tree.cwd / "src.old")
    shutil.copytree(tree.cwd / "src.old", tree.cwd / "src", copy_function=shutil.copy)  # a new checkout
    assert used(tree, USE, "--freshness", "stat")["session"]["code_same_content"] == CODE


def test_nothing_below_its_roots_is_learnt_in_frozen(tree):
    tree.write("src/.hidden/late.py", "x = 1\n")
    tree.settle()
    code = USE + f"import sys; sys.path.append({str(tree.cwd / 'src/.hidden')!r}); import late; print(late.x)"
    run = lambda: tree.ladewerk("run", "--index", "art", "-c", code).stdout.split()[-1]
    assert run() == "1"
    used(tree, code, learns=True)
    stats = used(tree, code)
    held = (str(tree.cwd / "src").encode())
    assert not any(held in path.read_bytes() for path in tree.files())
    assert stats["session"]["listings_read"] == 1, "what it does not hold is read"
    tree.write("src/.hidden/late.py", "x = 2\n")
    tree.settle()
    assert run() == "2"
    # Learnt in stat, it is compared in frozen.
    assert tree.ladewerk("run", "-c", code).stdout.split()[-1] == "2"
    assert any(held in path.read_bytes() for path in tree.files())
    tree.write("src/.hidden/late.py", "x = 3\n")
    tree.write("src/.hidden/later.py", "")
    tree.settle()
    assert tree.ladewerk("run", "--index", "art", "-c", code + "\nimport later; print(late.x)").stdout.split()[-1] == "3"


def test_no_system_call_for_a_submodule(shell):
    """What 1 more package of 40 modules costs, by strace; stat is the control."""
    if not shutil.which("strace"):
        pytest.skip("there is no strace")
    for p in range(2):
        shell.write(f"src/p{p}/__init__.py")
        for m in range(40):
            shell.write(f"src/p{p}/m{m}.py", f"x = {m}\n")
    shell.settle()
    freeze(shell)
    env = {"PYTHONPATH": str(shell.cwd / "src"), "LADEWERK": "1", "LADEWERK_INDEX": str(shell.cwd / "art"), "LADEWERK_READONLY": "1"}

    def calls(packages: int, freshness: str) -> int:
        code = f"import os; os.getpgid(0)\nfor p in range({packages}):\n  for m in range(40): __import__(f'p{{p}}.m{{m}}')\nos.getpgid(0); os._exit(0)"
        trace = shell.root / "trace"
        done = shell.stock("-P", "-c", code, env={**env, "LADEWERK_FRESHNESS": freshness})
        assert done.returncode == 0, done.stderr
        prefix, shell.prefix = shell.prefix, ["strace", "-f", "-o", str(trace)]
        try:
            shell.stock("-P", "-c", code, env={**env, "LADEWERK_FRESHNESS": freshness})
        finally:
            shell.prefix = prefix
        text = trace.read_text()
        parts = re.split(r"getpgid\(0\) += ", text)
        assert len(parts) == 3, text[-2000:]
        # Memory is the interpreter's business.
        return sum(not re.search(r"^\d+ +(mmap|munmap|brk|madvise|mprotect|futex)\(", line) for line in parts[1].splitlines()[1:-1])

    assert calls(2, "frozen") - calls(1, "frozen") == 0
    assert calls(2, "stat") - calls(1, "stat") >= 40, "the control"


def test_several_roots_and_roots_within_roots(tree):
    tree.write("src/.venv/lib/dep.py", "x = 'dep'\n")
    tree.write("other/extra.py", "x = 'extra'\n")
    freeze(tree, "many", "other", "src", "src/.venv/lib", "src/pack")
    assert [os.readlink(tree.cwd / f"many/root{i}") for i in range(4)] == ["../other", "../src", "../src/.venv/lib", "../src/pack"]
    env = {"PYTHONPATH": os.pathsep.join(str(tree.cwd / root) for root in ("src", "other", "src/.venv/lib"))}
    stats = used(tree, USE + "import dep, extra", index="many", env=env)
    assert stats["served"]["pack"] == CODE + 2 and stats["index"]["files"] == CODE + 2


# --- moving it ----------------------------------------------------------------------------------------------------------


def test_moves_with_its_roots(tree):
    target = tree.root / "moved" / "here"
    target.parent.mkdir()
    tree.cwd.rename(target)
    tree.cwd = target
    stats = used(tree, USE, env={"PYTHONPATH": str(target / "src")})
    assert stats["served"]["pack"] == CODE and stats["index"]["roots"] == [str(target / "src")]


def test_a_long_list_with_an_entry_behind_a_link(shell):
    """What lies behind a link below a root is compared, in a table as well; what is frozen beside it is not."""
    shell.write("v1/old.py")
    shell.write("v2/new.py")
    for i in range(40):
        shell.write(f"src/e{i}/only{i}.py")
    os.symlink("../v1", shell.cwd / "src/current")
    shell.settle()
    freeze(shell)
    shell.env["PYTHONPATH"] = os.pathsep.join([*(str(shell.cwd / f"src/e{i}") for i in range(40)), str(shell.cwd / "src/current")])
    asks = "def there(name):\n try: __import__(name)\n except ImportError: return 0\n return 1\nprint(*map(there, ('old', 'new', 'only7', 'late')))"
    run = lambda: shell.ladewerk("run", "--index", "art", "-c", asks).stdout.split()
    assert [run() for _ in range(2)] == [["1", "0", "1", "0"]] * 2
    flips = asks.replace("print(", "import os; __import__('old'); os.remove('src/current'); os.symlink('../v2', 'src/current'); open('src/e3/late.py', 'w').close()\nprint(")
    done = shell.ladewerk("run", "--index", "art", "-c", flips, env={"LADEWERK_STAT_WINDOW": "0"})
    assert done.stdout.split() == ["1", "1", "1", "0"], "while the program runs"
    assert [run() for _ in range(2)] == [["0", "1", "1", "0"]] * 2


def test_is_led_elsewhere_by_its_link(tree):
    shutil.move(tree.cwd / "src", tree.root / "sources")
    gone = used(tree, "")
    assert gone["index"]["roots"] == [] and "ln -sfn" in gone["index"]["reason"] and gone["index"]["freshness"] == "stat"
    subprocess.run(["ln", "-sfn", tree.root / "sources", tree.cwd / "art/root0"], check=True)
    assert used(tree, USE, env={"PYTHONPATH": str(tree.root / "sources")})["served"]["pack"] == CODE


def test_is_known_by_every_path_that_leads_there(tree):
    """Through a link to the tree, by its real path, and where a `..` behind a link means something else than it says."""
    (tree.root / "link").symlink_to(tree.cwd)
    by_link = tree.root / "link"
    for path in by_link / "src", tree.cwd / "src":
        stats = used(tree, USE, index=str(by_link / "art"), env={"PYTHONPATH": str(path)})
        assert stats["served"]["pack"] == CODE, path
    # root0 is ../src: as text, that of DIR reached through this link would be the wrong directory.
    (tree.root / "x").mkdir()
    write_tree(tree.root / "x/src").joinpath("alpha.py").write_text("answer = 42\nwrong = True\n")
    (tree.root / "x/art").symlink_to(tree.cwd / "art")
    code = "import alpha; assert alpha.wrong"
    stats = used(tree, code, index=str(tree.root / "x/art"), env={"PYTHONPATH": str(tree.root / "x/src")})
    assert stats["index"]["roots"] == [str(tree.cwd / "src")]


def test_children_inherit_it_and_the_working_directory_does_not_matter(tree):
    code = f"import os, subprocess, sys; os.chdir('/'); print(subprocess.run([sys.executable, '-c', {USE + STATS!r}], capture_output=True, text=True).stdout)"
    done = tree.ladewerk("run", "--index", "art", "-c", code)
    stats = json.loads(done.stdout)
    assert (stats["index"]["freshness"], stats["index"]["files"], stats["session"]["code_same_content"]) == ("frozen", CODE, 0)
    assert stats["index"]["roots"] == [str(tree.cwd / "src")]
    relative = tree.stock("-c", STATS, env={"LADEWERK": "1", "LADEWERK_INDEX": "art"})
    stats = json.loads(relative.stdout)
    assert stats["index"]["roots"] == [] and "absolute" in stats["index"]["reason"] and stats["index"]["freshness"] == "stat"
    for option in "-E", "-I":
        done = tree.ladewerk("run", "--index", "art", option, "-c", "import ladewerk; print(ladewerk.stats()['index'])")
        assert done.stdout.strip() == "None"


# --- what is wrong with it ----------------------------------------------------------------------------------------------


def damage(path: Path, at: int, data: bytes) -> None:
    """In a new file: the old one may be mapped."""
    content = bytearray(path.read_bytes())
    content[at:at + len(data)] = data
    path.unlink()
    path.write_bytes(content)


def replace_root(link: Path, target: object) -> None:
    link.unlink()
    link.symlink_to(target)


WRONG = {
    "truncated": (lambda art: os.truncate(art / "index.lwi", 5000), "truncated"),
    "empty": (lambda art: os.truncate(art / "index.lwi", 0), "truncated"),
    "head": (lambda art: damage(art / "index.lwi", 60, b"\xff"), "the head is damaged"),
    "no index": (lambda art: damage(art / "index.lwi", 0, b"x"), "not an index file"),
    "another version": (lambda art: damage(art / "index.lwi", 8, b"\x63"), "another format version"),
    "a link": (lambda art: (os.rename(art / "index.lwi", art.parent / "x.lwi"), os.symlink("../x.lwi", art / "index.lwi")), "a link"),
    "a directory": (lambda art: (os.remove(art / "index.lwi"), os.mkdir(art / "index.lwi")), "not a regular file"),
    "writable": (lambda art: os.chmod(art / "index.lwi", 0o666), "chmod go-w"),
    "in a writable place": (lambda art: os.chmod(art, 0o775), "chmod go-w"),
    "a loop": (lambda art: replace_root(art / "root0", "root0"), "left out"),
    "a file": (lambda art: replace_root(art / "root0", "about"), "no directory"),
    "missing": (lambda art: replace_root(art / "root0", "nowhere"), "ln -sfn"),
    "no link": (lambda art: os.remove(art / "root0"), "no such link"),
}


@pytest.mark.parametrize("which", once_but(WRONG, "truncated", "missing"))
def test_a_wrong_one_is_not_used_and_the_program_runs(tree, which):
    spoil, says = WRONG[which]
    spoil(tree.cwd / "art")
    env = {"LADEWERK": "1", "LADEWERK_INDEX": str(tree.cwd / "art")}
    done = tree.stock("-c", USE + STATS, env=env)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)
    assert stats["active"] and stats["index"]["roots"] == [] and says in stats["index"]["reason"] and stats["index"]["freshness"] == "stat"
    findings = [f for f in json.loads(tree.ladewerk("doctor", "--json", env=env).stdout)["findings"] if f["topic"] == "index"]
    assert [f["status"] for f in findings] == ["problem"] and says in findings[0]["text"]


def test_another_interpreter_is_refused(tree):
    done = tree.ladewerk("run", "--index", "art", "-O", "-c", STATS)
    assert "another interpreter" in json.loads(done.stdout)["index"]["reason"]


def test_a_damaged_block_costs_a_module_and_no_more(tree):
    path = tree.cwd / "art/index.lwi"
    data = path.read_bytes()
    at = data.index(b"some text")
    damage(path, at, b"SOME")
    stats = used(tree, USE + "assert alpha.f.__defaults__[0][2] == 'some text'")
    assert stats["session"]["damaged"] >= 1 and stats["index"]["roots"]
    findings = json.loads(tree.ladewerk("doctor", "--json", env={"LADEWERK_INDEX": str(tree.cwd / "art")}).stdout)["findings"]
    assert any(f["topic"] == "index" and f["status"] == "ok" and str(tree.cwd / "src") in f["text"] for f in findings)


def test_absolute_links_and_odd_roots(tree):
    """Of several roots those that can be used are; the others are said."""
    tree.write("other/extra.py")
    freeze(tree, "many", "src", "other")
    replace_root(tree.cwd / "many/root1", "/nonexistent")
    replace_root(tree.cwd / "many/root0", tree.cwd / "src")
    stats = used(tree, index="many")
    assert stats["index"]["roots"] == [str(tree.cwd / "src"), None] and "root1" in stats["index"]["reason"] and stats["served"]["pack"] == CODE


@pytest.mark.parametrize("command", ["launcher", "module"])
def test_run_without_an_artifact_is_wrong_usage(tree, command):
    run = tree.ladewerk if command == "launcher" else lambda *words: tree.stock("-m", "ladewerk", *words)
    (tree.cwd / "empty").mkdir()
    for place in "nowhere", "empty", "src/alpha.py", "":
        done = run("run", "--index", place, "-c", "print(1)")
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("ladewerk: run: --index") and "--frozen" in done.stderr
    done = run("run", "--index=art", "-c", USE + STATS)
    assert json.loads(done.stdout)["served"]["pack"] == CODE


@pytest.mark.once
def test_frozen_usage(shell):
    shell.write("src/a.py")
    shell.write("full/file.txt")
    shell.write("half/index.lwi", "x")
    shell.write("half/more.txt")
    (shell.cwd / "link").symlink_to("elsewhere")
    (shell.cwd / "same").symlink_to("src")
    for words, status, says in [
        (["--frozen", "src"], 2, "-o DIR"), (["--frozen", "-o", "out"], 2, "ROOTs"), (["-o", "out", "src"], 2, "--frozen"),
        (["--frozen", "-o", "full", "src"], 1, "something else (file.txt)"), (["--frozen", "-o", "half", "src"], 1, "something else (more.txt)"),
        (["--frozen", "-o", "link", "src"], 1, "is a link"), (["--frozen", "-o", "src/a.py", "src"], 1, "cannot write"),
        (["--frozen", "-o", "no/where", "src"], 1, "make it first"), (["--frozen", "-o", "out", "src", "same"], 1, "the same directory"),
        (["--frozen", "-o", "out", "nowhere"], 1, "no such directory"),
    ]:
        done = shell.ladewerk("index", *words)
        assert (done.returncode, done.stdout) == (status, "") and says in done.stderr and done.stderr.count("\n") == 1, (words, done)
    assert sorted(os.listdir(shell.cwd)) == ["full", "half", "link", "same", "src"]
    assert sorted(os.listdir(shell.cwd / "full")) == ["file.txt"]


@pytest.mark.once
def test_cannot_take_the_place_of_a_mount(shell, small_disk):
    shell.write("src/a.py")
    done = freeze(shell, str(small_disk), status=1)
    assert "is a mount point" in done.stderr and "give a directory in it" in done.stderr
    assert os.listdir(small_disk) == [] and not list(small_disk.parent.glob("*.tmp-*"))


@pytest.mark.once
def test_is_made_beside_its_place(powerless):
    """A directory of one's own is not enough."""
    powerless.write("above/src/a.py")
    (powerless.cwd / "above/art").mkdir()
    (powerless.cwd / "above").chmod(0o555)
    done = freeze(powerless, "above/art", "above/src", status=1)
    (powerless.cwd / "above").chmod(0o755)
    assert "cannot write beside" in done.stderr and "above/art" in done.stderr


@pytest.mark.once
def test_file_names_must_be_what_they_are_elsewhere(tree):
    done = freeze(tree, "ascii", status=1, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert "PYTHONUTF8=1" in done.stderr and not (tree.cwd / "ascii").exists()


@pytest.mark.once
def test_nothing_is_left_of_one_that_fails(small_disk, shell):
    shell.write("src/big.py", "x = '''" + "".join(random.Random(1).choices("abcdefgh", k=200_000)) + "'''\n")
    shell.write("src/small.py")
    place = small_disk / "art"
    shell.write("little/small.py")
    freeze(shell, str(place), "little")
    before = contents(place)
    done = freeze(shell, str(place), "src", status=1)
    assert "no space left" in done.stderr and contents(place) == before and os.listdir(small_disk) == ["art"]


@pytest.mark.once
def test_a_reader_never_sees_half_of_one(tree):
    """Swapped again and again while others open it: always one or the other, never none."""
    write_tree(tree.cwd / "src2").joinpath("alpha.py").write_text("answer = 42\n")
    freeze(tree, "b", "src2")
    loop = f"import os, ctypes, time\nlibc = ctypes.CDLL(None)\nend = time.time() + 3\n" \
        f"while time.time() < end: libc.renameat2(-100, {os.fsencode(tree.cwd / 'art')!r}, -100, {os.fsencode(tree.cwd / 'b')!r}, 2)"
    swapper = subprocess.Popen([sys.executable, "-c", loop])
    seen = set()
    while swapper.poll() is None:
        index = used(tree, "")["index"]
        assert index["reason"] is None
        seen.add((index["files"], index["roots"][0]))
    assert seen <= {(CODE, str(tree.cwd / "src")), (CODE, str(tree.cwd / "src2"))}


def test_why_and_doctor_say_what_frozen_answers(tree):
    env = {"LADEWERK_INDEX": str(tree.cwd / "art")}
    assert "serves it" in tree.ladewerk("why", "alpha", env=env).stdout
    (tree.cwd / "src/pack/beta.py").unlink()
    tree.write("src/fresh.py")
    gone = tree.ladewerk("why", "pack.beta", env=env)
    assert gone.returncode == 1 and "takes" in gone.stdout and "frozen" in gone.stdout
    assert "is the truth (frozen)" in tree.ladewerk("why", "fresh", env=env).stdout
    assert "serves it" in tree.ladewerk("why", "fresh", env={**env, "LADEWERK_FRESHNESS": "stat"}).stdout
    findings = json.loads(tree.ladewerk("doctor", "--json", env={"LADEWERK_INDEX": "art"}).stdout)["findings"]
    assert any(f["topic"] == "variable" and f["status"] == "problem" and "absolute" in f["text"] for f in findings)


# --- in containers ------------------------------------------------------------------------------------------------------

# Another user, who can reach the interpreter wherever it is installed.
READ = "-all,+dac_read_search"
AS_1234 = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", f"--bounding-set={READ}", f"--inh-caps={READ}", f"--ambient-caps={READ}", "--"]


NOBODYS = {"HOME": "/nonexistent", "LADEWERK_CACHE": None, "XDG_CACHE_HOME": None}


def open_way(path: Path) -> None:
    """Other users may go there."""
    for above in (path, *path.parents):
        if above.stat().st_uid == os.geteuid() and str(above) != "/":
            above.chmod(above.stat().st_mode | 0o055)


def mount(*words: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs the right to mount")
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        (pytest.fail if KERNEL else pytest.skip)(f"cannot mount: {done.stderr}")


@pytest.fixture
def overlay(tree):
    """An image: the tree and its artifact in a lower layer. Calling it mounts it anew, as a fresh container does, at a new place."""
    open_way(tree.root)
    mounts = []

    def start(*options: str) -> Path:
        place = tree.root / f"container{len(mounts)}"
        for part in "up", "work", "merged":
            (place / part).mkdir(parents=True)
        mount("-t", "overlay", "-o", ",".join([f"lowerdir={tree.cwd}", f"upperdir={place}/up", f"workdir={place}/work", *options]), "overlay", place / "merged")
        mounts.append(place / "merged")
        return place / "merged"
    yield start
    for place in mounts:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("freshness", ["frozen", "stat"])
@pytest.mark.parametrize("who", ["root", "another"])
def test_in_a_container(tree, overlay, freshness, who):
    """A fresh overlay mount (another st_dev), another user, no home."""
    if who == "another" and not shutil.which("setpriv"):
        pytest.skip("there is no setpriv")
    devices = set()
    for i in range(2):
        merged = overlay()
        devices.add((merged / "src/alpha.py").stat().st_dev)
        env = {**NOBODYS, "PYTHONPATH": str(merged / "src")}
        if who == "another":
            stats = used_by_another(tree, freshness, str(merged / "art"), env=env)
        else:
            stats = used(tree, USE, "--freshness", freshness, index=str(merged / "art"), env=env)
        assert stats["cache"] is None and stats["index"]["roots"] == [str(merged / "src")]
        same_content = stats["session"]["code_same_content"]
        assert (stats["served"]["pack"], same_content) == (CODE, 0) if freshness == "frozen" else same_content == CODE
    assert len(devices) == 2


def test_is_rebuilt_in_an_upper_layer(tree, overlay):
    """Directories of a lower layer cannot change places."""
    merged = overlay()
    (merged / "src/alpha.py").write_text("answer = 42\nnew = 1\n")
    (merged / "other").mkdir()
    done = tree.ladewerk("index", "--frozen", "-o", "art", "src", "other", cwd=merged)
    assert done.returncode == 0, done.stderr
    code = USE + "assert alpha.new"
    assert used(tree, code, index=str(merged / "art"), env={"PYTHONPATH": str(merged / "src")})["index"]["files"] == CODE
    assert sorted(os.listdir(merged)) == ["art", "other", "src"] and sorted(os.listdir(merged / "art")) == ["about", "index.lwi", "root0", "root1"]
    done = tree.ladewerk("index", "--frozen", "-o", "art", "src", cwd=merged)
    assert done.returncode == 0 and sorted(os.listdir(merged / "art")) == ["about", "index.lwi", "root0"]


def test_mounted_read_only(tree):
    place = tree.root / "readonly"
    place.mkdir()
    mount("--bind", tree.cwd, place)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        stats = used(tree, USE, index=str(place / "art"), env={"PYTHONPATH": str(place / "src")})
        assert stats["served"]["pack"] == CODE
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_whoever_is_not_believed_is_not_served(tree):
    """Another user's artifact of sources that are not that user's; of that user's own sources it is used; LADEWERK_TRUST_UID believes."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs to become another user")
    open_way(tree.root)
    for path in (tree.cwd / "art").iterdir():
        os.chown(path, 4321, 4321, follow_symlinks=False)
    os.chown(tree.cwd / "art", 4321, 4321)
    refused = used_by_another(tree)["index"]
    assert refused["roots"] == [] and "belongs to uid 4321" in refused["reason"] and "LADEWERK_TRUST_UID=4321" in refused["reason"]
    assert used_by_another(tree, env={"LADEWERK_TRUST_UID": "4321"})["served"]["pack"] == CODE
    assert used(tree, env=NOBODYS)["index"]["roots"] == [], "not by root either"
    os.chown(tree.cwd / "src", 4321, 4321)
    assert used_by_another(tree)["served"]["pack"] == CODE
    assert used(tree, env=NOBODYS)["served"]["pack"] == CODE, "who runs these sources runs what they are made to be"
    (tree.cwd / "art/root0").unlink()
    (tree.cwd / "art/root0").symlink_to(os.path.dirname(os.__file__))
    hostile = used(tree, "", env=NOBODYS)["index"]
    assert hostile["roots"] == [], "the library is not theirs"
