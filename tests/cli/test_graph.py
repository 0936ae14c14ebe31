# SPDX-License-Identifier: MIT
"""`ladewerk graph`: answers from the sources as they are, whatever is stored."""
from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from interpreters import once_but
from watching import Daemon, until

GUIDE = Path(__file__).parents[2] / "ext" / "GRAPH.md"

TREE = {
    "app/__init__.py": "from . import a\n",
    "app/a.py": "import app.b\nimport os.path\nfrom lib import tool, VERSION\n",
    "app/b.py": "from app.a import x\ndef f():\n    import app.c\n",
    "app/c.py": "if TYPE_CHECKING:\n    import app.a\nif x:\n    import lib.tool\n",
    "lib/__init__.py": "VERSION = 1\n",
    "lib/tool.py": "",
    "space/part.py": "from space import other\nimport lib\n",
    "bad.py": "import (\n",
}


@pytest.fixture
def tree(shell):
    for name, text in TREE.items():
        shell.write(name, text)
    shell.settle()
    return shell


def lines(shell, *arguments, **options):
    done = shell.ladewerk("graph", *arguments, **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


def facts(shell, *arguments, **options):
    done = shell.ladewerk("graph", *arguments, "--format", "json", **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout)


def names(shell, *arguments, **options):
    found = facts(shell, *arguments, **options)
    return {side: [one["name"] for one in found[side]] for side in ("imports", "importers") if side in found}


def stored(shell):
    return sorted(shell.cache.glob("*/graph-*"))


def written(shell):
    return [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in stored(shell)]


def edges(shell, *arguments, **options):
    return {(edge["importer"], edge["imported"]) for edge in facts(shell, *arguments, **options)["edges"]}


EDGES = {("app", "app.a"), ("app.a", "app.b"), ("app.a", "os.path"), ("app.a", "lib.tool"), ("app.a", "lib"), ("app.b", "app.a"), ("app.b", "app.c"), ("app.c", "app.a"),
         ("app.c", "lib.tool"), ("space.part", "space"), ("space.part", "lib")}


# --- what is said -------------------------------------------------------------------------------------------------------


def test_all(tree):
    assert lines(tree) == ["        6  modules", "        2  packages", "        1  namespace packages", "        1  external names", "       11  imports of one by another",
                           "        1  cycles at import", f"left out   {tree.cwd}/bad.py does not compile"]
    assert edges(tree) == EDGES
    assert edges(tree, "--internal") == {edge for edge in EDGES if edge[1] != "os.path"}


def test_of(tree):
    assert lines(tree, "--of", "app.b") == [f"app.b is a module ({tree.cwd}/app/b.py)", "", "imports: 2", "  app.a  line 1", "  app.c  line 3, in a function", "",
                                            "imported by: 1", "  app.a  line 1"]
    assert lines(tree, "--of=lib.tool", "--importers")[2:] == ["imported by: 2", "  app.a  line 3", "  app.c  line 4, conditional"]
    assert lines(tree, "--of", "os.path") == ["os.path is not below the roots", "", "imports: 0", "", "imported by: 1", "  app.a  line 2"]
    assert lines(tree, "--of", "bad")[0] == f"bad is a module ({tree.cwd}/bad.py), which does not compile"
    assert lines(tree, "--of", "app.a", "--imports", "--internal")[3:] == ["  app.b     line 1", "  lib       line 3", "  lib.tool  line 3"]


def test_transitive(tree):
    assert names(tree, "--of", "app.c", "--transitive") == {"imports": ["lib.tool", "app", "lib", "app.a", "app.b", "os.path"], "importers": ["app.b", "app.a", "app"]}
    found = facts(tree, "--of", "lib.tool", "--importers", "--transitive", "--kind", "module")
    assert [(one["name"], one["via"]) for one in found["importers"]] == [("app.a", "lib.tool"), ("app", "app.a"), ("app.b", "app.a"), ("app.c", "app")]


def test_kinds(tree):
    assert names(tree, "--of", "app.c", "--imports") == {"imports": ["app.a", "lib.tool"]}
    assert names(tree, "--of", "app.c", "--imports", "--kind", "typing") == {"imports": ["app.a"]}
    assert names(tree, "--of", "app.b", "--imports", "--kind=module,conditional") == {"imports": ["app.a"]}
    assert facts(tree, "--of", "app.c")["imports"] == [
        {"name": "app.a", "kind": "module", "path": f"{tree.cwd}/app/a.py", "when": ["typing"], "line": 2},
        {"name": "lib.tool", "kind": "module", "path": f"{tree.cwd}/lib/tool.py", "when": ["conditional"], "line": 4}]


def test_cycles(tree):
    assert lines(tree, "--cycles") == ["1 cycle", "  app.a -> app.b -> app.a"]
    assert facts(tree, "--cycles", "--kind", "all")["cycles"] == [{"members": ["app.a", "app.b", "app.c"], "path": ["app.a", "app.b"]}]
    assert lines(tree, "--cycles", "--kind", "all") == ["1 cycle", "  app.a -> app.b -> app.a, and 1 more that import each other"]
    tree.write("app/b.py", "")
    assert lines(tree, "--cycles") == ["no cycles"]


def test_dot(tree):
    tree.write('we"ird\\.py', "import app")
    whole = lines(tree, "--format", "dot")
    assert whole[:3] == ["digraph imports {", "  rankdir=LR;", "  node [shape=box];"] and whole[-1] == "}"
    assert r'  "we\"ird\\" -> "app";' in whole and '  "os.path" [style=dashed];' in whole and '  "app.b" -> "app.c" [style=dotted];' in whole
    assert len([line for line in whole if "->" in line]) == len(EDGES) + 1
    part = lines(tree, "--format", "dot", "--of", "app.b")
    assert sorted(line for line in part if "->" in line) == ['  "app.a" -> "app.b";', '  "app.b" -> "app.a";', '  "app.b" -> "app.c" [style=dotted];']
    cycles = lines(tree, "--format", "dot", "--cycles")
    assert sorted(line for line in cycles if "->" in line) == ['  "app.a" -> "app.b";', '  "app.b" -> "app.a";']


def test_roots_in_order(tree):
    tree.write("over/lib/__init__.py", "import app\n")
    assert names(tree, "over", ".", "--of", "lib", "--imports") == {"imports": ["app"]}
    assert names(tree, ".", "over", "--of", "lib", "--imports") == {"imports": []}
    assert ("over.lib", "app") in edges(tree)


@pytest.mark.once
@pytest.mark.parametrize("arguments, status, text", [
    (["--of", "nope"], 1, "nope: there is no such module below"),
    (["--of", "a\udcff"], 1, "there is no such module"),
    (["--of", "", "--imports"], 2, "need --of NAME"),
    (["missing"], 1, "missing: there is no such directory"),
    (["bad.py"], 1, "bad.py: not a directory"),
    (["--imports"], 2, "need --of NAME"),
    (["--cycles", "--of", "app"], 2, "whole graph"),
    (["--kind", "often"], 2, "not 'often'"),
    (["--format", "xml"], 2, "invalid choice"),
    (["--of"], 2, "expected one argument"),
    (["--observed", "bad.py"], 1, "is no report"),
    (["--observed", "missing.json"], 1, "missing.json: No such file"),
])
def test_mistakes(tree, arguments, status, text):
    done = tree.ladewerk("graph", *arguments)
    assert done.returncode == status and done.stdout == "", done
    assert text in done.stderr and "Traceback" not in done.stderr


def test_both_parsers_agree(tree):
    """What argparse reads is what is read without it."""
    plain = tree.ladewerk("graph", ".", "--of", "app.a", "--transitive", "--kind", "module")
    argparsed = tree.ladewerk("graph", "--threads", "1", "--of", "app.a", "--transitive", "--kind", "module", "--", ".")
    assert plain.stdout == argparsed.stdout != "" and (plain.returncode, argparsed.returncode) == (0, 0)
    assert tree.ladewerk("graph", "--help").returncode == 0


# --- what is stored -----------------------------------------------------------------------------------------------------

CHANGES = {
    "edit": lambda shell: shell.write("app/c.py", "import space.part\n"),
    "an edit of the same size": lambda shell: shell.write("app/b.py", TREE["app/b.py"].replace("app.a", "app.d")),
    "an edit with its time put back": lambda shell: _put_back(shell, "app/b.py", TREE["app/b.py"].replace("app.a", "app.d")),
    "a new module": lambda shell: shell.write("lib/other.py", "import app\n"),
    "a new package beside a module": lambda shell: shell.write("app/c/__init__.py", "import new\n"),
    "what was external is there": lambda shell: shell.write("os/path.py", ""),
    "a name becomes a submodule": lambda shell: shell.write("lib/VERSION.py", ""),
    "a module goes": lambda shell: os.unlink(shell.cwd / "lib/tool.py"),
    "a package becomes a namespace": lambda shell: os.unlink(shell.cwd / "lib/__init__.py"),
    "a directory is renamed": lambda shell: os.rename(shell.cwd / "lib", shell.cwd / "bil"),
    "it compiles now": lambda shell: shell.write("bad.py", "import app\n"),
    "a link turns": lambda shell: (os.rename(shell.cwd / "lib", shell.cwd / "lib-1"), os.symlink("space", shell.cwd / "lib")),
}


def _put_back(shell, name, text):
    path = shell.cwd / name
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", once_but(CHANGES, "edit", "it compiles now"))
def test_each_change_is_seen(tree, change):
    """The answer is that of somebody who stores nothing, before, at once after a change, and later."""
    nothing = {"LADEWERK_CACHE": str(tree.root / "none"), "LADEWERK_READONLY": "1"}
    was = facts(tree)
    assert was == facts(tree) == facts(tree, env=nothing)
    assert len(stored(tree)) == 1
    CHANGES[change](tree)
    fresh = facts(tree, env=nothing)
    assert facts(tree) == fresh != was
    tree.settle()
    assert facts(tree) == facts(tree) == fresh
    assert not (tree.root / "none").exists()


# --- with a daemon ------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(tree):
    with Daemon(tree, tree.cwd, options=("--backend", "inotify")) as daemon:
        tree.env.update(daemon.env)
        yield tree


@pytest.mark.parametrize("change", once_but(CHANGES, "edit"))
def test_each_change_is_seen_by_a_daemon(watched, change):
    nothing = {"LADEWERK_CACHE": str(watched.root / "none"), "LADEWERK_READONLY": "1", "LADEWERK_WATCH": "0"}
    was = facts(watched)
    assert was == facts(watched) == facts(watched, env=nothing)
    CHANGES[change](watched)
    now = facts(watched)
    assert now == facts(watched, env=nothing) != was
    watched.settle()
    assert facts(watched) == facts(watched) == now


@pytest.mark.once
def test_edits_beside_a_daemon(watched):
    """Each question sees what was written just before it: sources and directories in turn."""
    for i in range(12):
        watched.write("app/c.py", f"import n{i % 10}\n")
        assert names(watched, "--of", "app.c", "--imports") == {"imports": [f"n{i % 10}"]}
        watched.write(f"lib/new_{i}.py", "import app.c\n")
        assert len(names(watched, "--of", "app.c", "--importers")["importers"]) == i + 2


def calls(shell, **env):
    """The files below the tree that a question asked for."""
    trace = shell.root / "trace"
    done = subprocess.run(["strace", "-f", "-e", "trace=statx,openat", "-o", trace, shell.script, "graph", "--of", "app.a"], cwd=shell.cwd, env={**shell.env, **env},
                          capture_output=True)
    if done.returncode:
        pytest.skip("strace is not allowed")
    return {name for name in ("a.py", "b.py", "tool.py", "part.py") if f', "{name}"' in trace.read_text()}


@pytest.mark.once
def test_a_daemon_spares_the_looks(watched):
    if not shutil.which("strace"):
        pytest.skip("no strace")
    facts(watched)
    assert calls(watched, LADEWERK_WATCH="0") == calls(watched, LADEWERK_FRESHNESS="stat") == {"a.py", "b.py", "tool.py", "part.py"}
    # It may be at work just now, or be looking at what has changed: then the program looks itself.
    assert until(lambda: facts(watched) and not calls(watched))


# --- more of what is stored ---------------------------------------------------------------------------------------------


def test_imports_of_one_module_alone(tree):
    """They rest on all directories, and on its source and theirs."""
    facts(tree)
    tree.write("app/b.py", "import lib\n")
    assert names(tree, "--of", "app.b", "--imports") == {"imports": ["lib"]}
    tree.write("lib/tool.py", "import app\n")
    assert names(tree, "--of", "app.c", "--imports") == {"imports": ["app.a", "lib.tool"]}
    os.unlink(tree.cwd / "lib/tool.py")
    assert facts(tree, "--of", "app.c", "--imports")["imports"][1]["kind"] == "external"
    tree.write("app/a.py", "broken (\n")  # in place: its directory does not tell
    assert facts(tree, "--of", "app.c", "--imports")["imports"][0]["state"] == "broken"
    tree.write("app/a.py", "import lib\n")
    assert "state" not in facts(tree, "--of", "app.c", "--imports")["imports"][0]


def compared(tree, *options):
    """The sources of which `ladewerk graph` asks whether they have changed."""
    trace = tree.root / "compared"
    command = ["strace", "-f", "-e", "trace=statx,newfstatat", "-o", trace, tree.script, "graph", *options]
    if subprocess.run(command, cwd=tree.cwd, env=tree.env, capture_output=True).returncode:
        pytest.skip("strace is not allowed")
    return set(re.findall(r'"(\w+)\.py"', trace.read_text()))


@pytest.mark.once
def test_imports_of_imports(tree):
    """They rest on the sources that can be reached, by statements of the kinds that count."""
    if not shutil.which("strace"):
        pytest.skip("no strace")
    question = "--of", "one", "--imports", "--transitive"
    for name, text in {"one": "import two\n", "two": "import three\nif x: import four\n", "three": "", "four": "", "five": "import one\n"}.items():
        tree.write(f"{name}.py", text)
    tree.settle()
    assert names(tree, *question) == {"imports": ["two", "four", "three"]}
    assert compared(tree, *question) == {"one", "two", "three", "four"}
    assert compared(tree, *question, "--kind", "module") == {"one", "two", "three"}
    assert compared(tree, "--of", "one", "--importers") > {"five"}
    tree.write("three.py", "import five\n")
    assert "five" in names(tree, *question)["imports"]
    tree.write("five.py", "import six\n")
    assert "six" in names(tree, *question)["imports"]


def test_a_stored_graph_is_used(tree):
    """Nothing is read or written when nothing has changed."""
    if not shutil.which("strace"):
        pytest.skip("no strace")
    facts(tree)
    before = written(tree)
    trace = tree.root / "trace"
    done = subprocess.run(["strace", "-f", "-e", "trace=openat,open", "-o", trace, tree.script, "graph", "--of", "app.a"], cwd=tree.cwd, env=tree.env, capture_output=True)
    if done.returncode:
        pytest.skip("strace is not allowed")
    opened = re.findall(r'"([^"]*)"(.*)', trace.read_text())
    below = [(path, flags) for path, flags in opened if path.startswith(str(tree.cwd)) and "O_PATH" not in flags]
    assert below == [] and written(tree) == before
    # The control: what is edited is opened.
    tree.write("app/a.py", "import sys\n")
    subprocess.run(["strace", "-f", "-e", "trace=openat,open", "-o", trace, tree.script, "graph", "--of", "app.a"], cwd=tree.cwd, env=tree.env, capture_output=True)
    assert f'"{tree.cwd}/app/a.py"' in trace.read_text() and f'"{tree.cwd}/app/b.py"' not in trace.read_text()


@pytest.mark.once
@pytest.mark.parametrize("damage", ["cut", "zero", "flip", "empty", "directory", "link", "others"])
def test_a_damaged_file_is_replaced(tree, damage):
    expected = facts(tree)
    path = stored(tree)[0]
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "directory":
        path.mkdir()
    elif damage == "link":
        path.with_name("elsewhere").write_bytes(data)
        path.symlink_to("elsewhere")
    else:
        if damage == "flip":
            for i in range(200, len(data), 97):
                data[i] ^= 4
        path.write_bytes({"cut": data[:len(data) // 2], "zero": bytes(len(data)), "flip": data, "empty": b"", "others": data}[damage])
        path.chmod(0o666 if damage == "others" else 0o600)
    done = tree.ladewerk("graph", "--format", "json")
    assert json.loads(done.stdout) == expected and done.returncode == 0
    assert ("nothing was stored" in done.stderr) == (damage == "directory"), done.stderr
    if damage != "directory":
        assert path.is_file() and not path.is_symlink()
        assert facts(tree) == expected


QUESTIONS = [("--of", "app.a"), ("--of", "app.a", "--imports"), ("--of", "app.a", "--importers", "--transitive"), ("--of", "app.b", "--importers", "--format", "dot"),
             ("--cycles",), ()]
SECTIONS = ["strings", "dirs", "sources", "nodes", "edges", "back", "raw"]


@pytest.mark.once
@pytest.mark.parametrize("question", range(len(QUESTIONS)))
def test_damage_anywhere_changes_no_answer(tree, question):
    """Each question reads some of the sections: damage in these is found before anything is said."""
    expected = lines(tree, *QUESTIONS[question])
    path = stored(tree)[0]
    good = path.read_bytes()
    replaced = []
    for i, section in enumerate(SECTIONS):
        offset, size = struct.unpack_from("<QQ", good, 40 + 24 * i)
        data = bytearray(good)
        data[offset + size - 1] ^= 1
        path.write_bytes(data)
        assert lines(tree, *QUESTIONS[question]) == expected, section
        replaced += [section] * (path.read_bytes() == good)
    assert set(SECTIONS[:3]) <= set(replaced)  # that there is damage at all: every question reads these


@pytest.mark.once
def test_no_cache(tree):
    expected = facts(tree)
    for env in ({"LADEWERK_CACHE": "relative"}, {"LADEWERK_READONLY": "1", "LADEWERK_CACHE": str(tree.root / "none")}, {"LADEWERK_CACHE": str(tree.cwd / "bad.py")}):
        done = tree.ladewerk("graph", "--format", "json", env=env)
        assert done.returncode == 0 and json.loads(done.stdout) == expected, (env, done.stderr)
    assert not (tree.root / "none").exists()


@pytest.mark.once
def test_full_disk(tree, small_disk):
    for i in range(300):
        tree.write(f"many/a_rather_long_name_of_a_module_{i}.py", "import one_external_name\n" * 3)
    tree.settle()
    done = tree.ladewerk("graph", "--of", "app.b", "--imports", env={"LADEWERK_CACHE": str(small_disk / "cache")})
    assert done.returncode == 0 and done.stdout.splitlines()[3:] == ["  app.a  line 1", "  app.c  line 3, in a function"]
    assert "nothing was stored (No space left on device)" in done.stderr
    assert [path.name for path in (small_disk / "cache").glob("*/*graph*")] == []


@pytest.mark.once
def test_unreadable(tree, no_power):
    """What cannot be read is left out; and is there as soon as it can be."""
    tree.prefix = no_power
    (tree.cwd / "lib").chmod(0o300)
    (tree.cwd / "app/c.py").chmod(0)
    try:
        assert names(tree, "--of", "app.c") == {"imports": [], "importers": ["app.b"]}
        assert lines(tree, "--of", "app.c")[0].endswith("which cannot be read")
        assert facts(tree, "--of", "lib")["kind"] == "namespace"  # which is what Python sees in a directory that it cannot list
        assert names(tree, "--of", "app.c") == {"imports": [], "importers": ["app.b"]}
    finally:
        (tree.cwd / "lib").chmod(0o755)
        (tree.cwd / "app/c.py").chmod(0o644)
    assert names(tree, "--of", "app.c") == {"imports": ["app.a", "lib.tool"], "importers": ["app.b"]}
    assert facts(tree, "--of", "lib")["kind"] == "package"


def test_code_that_is_kept_is_used(tree):
    """From the cache and from .pyc files: the same answer as from sources."""
    expected = facts(tree, env={"LADEWERK_CACHE": str(tree.root / "other")})
    assert tree.ladewerk("index", tree.cwd, "--quiet").returncode == 0
    assert facts(tree) == expected
    tree.stock("-m", "compileall", "-q", ".")
    assert facts(tree, env={"LADEWERK_CACHE": str(tree.root / "third")}) == expected


def test_a_pyc_of_other_code_is_not(tree):
    """A .pyc that the source does not belong to any more says nothing."""
    tree.stock("-m", "compileall", "-q", "app")
    _put_back(tree, "app/b.py", TREE["app/b.py"].replace("app.a", "app.d"))
    tree.settle()
    assert names(tree, "--of", "app.b", "--imports") == {"imports": ["app.c", "app.d"]}


# --- what was observed --------------------------------------------------------------------------------------------------


def test_observed(tree):
    tree.write("main.py", "import plugin_host\n")
    tree.write("plugin_host.py", "name = ['plug', 'in'] and 'plugin'\n__import__(name)\n")
    tree.write("plugin.py", "import json\n")
    tree.settle()
    assert names(tree, "--of", "plugin", "--importers") == {"importers": []}
    assert tree.ladewerk("run", "--report=json", "--report-file", "report.json", "main.py").returncode == 0
    found = facts(tree, "--of", "plugin", "--observed", "report.json")
    assert [(one["name"], one["when"]) for one in found["importers"]] == [("plugin_host", ["observed"])]
    assert [(one["name"], one["when"]) for one in found["imports"]] == [("json", ["module", "observed"])]
    # It is kept, until its source changes.
    tree.settle()
    assert names(tree, "--of", "plugin", "--importers") == {"importers": ["plugin_host"]}
    tree.write("plugin.py", "import os\n")
    assert names(tree, "--of", "plugin") == {"imports": ["os"], "importers": ["plugin_host"]}
    tree.write("plugin_host.py", "")
    assert names(tree, "--of", "plugin") == {"imports": ["os"], "importers": []}


# --- the guide ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not GUIDE.exists(), reason="the tests were taken out of the source tree")
def test_examples_of_the_guide(shell):
    text = GUIDE.read_text()
    for name, source in re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.S):
        shell.write(name, source)
    examples = re.findall(r"```console\n\$ ladewerk (.*?)\n(.*?)```", text, re.S)
    assert len(examples) == 3
    for command, expected in examples:
        done = shell.ladewerk(*command.split())
        assert done.stdout == expected.replace("...", str(shell.cwd)), command
    help_text = shell.ladewerk("graph", "--help").stdout
    for option in ("--of", "--imports", "--importers", "--transitive", "--cycles", "--internal", "--kind", "--format", "--observed"):
        assert option in text and option in help_text


def test_python_m(tree):
    done = tree.stock("-m", "ladewerk", "graph", "--cycles")
    assert done.stdout == "1 cycle\n  app.a -> app.b -> app.a\n"
