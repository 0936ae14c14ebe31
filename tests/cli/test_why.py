# SPDX-License-Identifier: MIT
"""`ladewerk why`: it says what an import would do, without doing it."""
from __future__ import annotations

import importlib.machinery
import json
import os
import subprocess
import zipfile

import pytest


@pytest.fixture
def tree(shell):
    boom = "raise SystemExit('executed')\n"
    for name in ("one/both.py", "two/both.py", "one/ns/a.py", "two/ns/b.py", "one/mixed/x.py", "two/mixed/__init__.py", "one/form/__init__.py",
                 "one/form.py", "one/form/inner.py", "one/single.py", "one/pack/__init__.py", "one/pack/sub/__init__.py", "one/pack/sub/leaf.py"):
        shell.write(name, boom)
    shell.write("one/only.pyc", b"")
    shell.write(f"one/form{importlib.machinery.EXTENSION_SUFFIXES[0]}", b"")
    with zipfile.ZipFile(shell.cwd / "lib.zip", "w") as file:
        file.writestr("zipped.py", boom)
        file.writestr("zipack/__init__.py", boom)
        file.writestr("zipack/part.py", boom)
    shell.env["PYTHONPATH"] = os.pathsep.join(str(shell.cwd / part) for part in ("one", "two", "lib.zip"))
    shell.settle()
    return shell


def relative(shell, facts):
    return [(c["kind"], os.path.relpath(c["file"] or c["locations"][0], shell.cwd), c["state"]) for c in facts["candidates"]]


EXTENSION = f"one/form{importlib.machinery.EXTENSION_SUFFIXES[0]}"
FOUND = {
    "both": ("source", [("source", "one/both.py", "wins"), ("source", "two/both.py", "shadowed")]),
    "ns": ("namespace package", [("namespace portion", "one/ns", "portion"), ("namespace portion", "two/ns", "portion")]),
    "ns.b": ("source", [("source", "two/ns/b.py", "wins")]),
    "mixed": ("package", [("namespace portion", "one/mixed", "shadowed"), ("package", "two/mixed/__init__.py", "wins")]),
    "form": ("package", [("package", "one/form/__init__.py", "wins"), ("extension", EXTENSION, "shadowed"), ("source", "one/form.py", "shadowed")]),
    "only": ("bytecode", [("bytecode", "one/only.pyc", "wins")]),
    "pack.sub.leaf": ("source", [("source", "one/pack/sub/leaf.py", "wins")]),
    "zipped": ("module of zipimport.zipimporter", [("module of zipimport.zipimporter", "lib.zip/zipped.py", "wins")]),
    "zipack": ("package", [("package", "lib.zip/zipack/__init__.py", "wins")]),
    "zipack.part": ("module of zipimport.zipimporter", [("module of zipimport.zipimporter", "lib.zip/zipack/part.py", "wins")]),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(tree, name):
    kind, candidates = FOUND[name]
    facts = tree.json("why", name)
    assert (facts["found"], facts["kind"], relative(tree, facts)) == (True, kind, candidates)
    text = tree.ladewerk("why", name)
    assert text.returncode == 0 and text.stdout.startswith(f"{name} is ") and text.stderr == ""


@pytest.mark.parametrize("name", [*(name for name in FOUND if "." not in name), "json", "os", "sys", "zlib", "xml"])
def test_agrees_with_the_import_system(tree, name):
    code = f"import importlib.util, json; s = importlib.util.find_spec({name!r}); print(json.dumps([s.origin, list(s.submodule_search_locations or ())]))"
    origin, locations = json.loads(tree.stock("-c", code).stdout)
    facts = tree.json("why", name)
    assert facts["locations"] == locations
    if facts["kind"] in ("built-in", "frozen"):
        assert origin == facts["kind"]
    else:
        assert facts["file"] == origin


def test_working_directory_comes_first(tree):
    tree.write("json.py")
    facts = tree.json("why", "json")
    assert facts["file"] == str(tree.cwd / "json.py")
    assert [c["state"] for c in facts["candidates"]] == ["wins", "shadowed"]
    assert tree.json("why", "json", env={"PYTHONSAFEPATH": "1"})["file"] != str(tree.cwd / "json.py")


def test_nothing_is_executed_and_nothing_is_stored(tree):
    assert tree.json("why", "pack.sub.leaf")["found"]
    assert "executed" in tree.stock("-c", "import pack").stderr  # the control
    assert not tree.cache.exists()


MISSING = {
    "singel": ("missing    singel", "single"),
    "pack.sup": ("missing    pack.sup", "pack.sub"),
    "pack.sub.leaf.x": ("pack.sub.leaf, which is", None),
    "nothing_like_this.at.all": ("missing    nothing_like_this", None),
    "jsn": ("missing    jsn", "json"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", MISSING)
def test_missing(tree, name):
    text, near = MISSING[name]
    done = tree.ladewerk("why", name)
    assert done.returncode == 1 and done.stdout.startswith(f"{name} is not found") and text in done.stdout
    assert near is None or near in tree.json("why", name, status=1)["near"]


def test_put_into_sys_modules(shell):
    done = shell.ladewerk("why", "os.path")
    assert done.returncode == 0 and "posixpath" in done.stdout


@pytest.mark.once
@pytest.mark.parametrize("name", ["a.py", "src/a", "", ".a", "a..b", "a."])
def test_not_a_name(shell, name):
    done = shell.ladewerk("why", name)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1


def test_what_ladewerk_would_do(tree):
    assert "to read a directory" in tree.json("why", "single")["ladewerk"]["text"]
    tree.ladewerk("index", "one", "two")
    known = tree.json("why", "single", env={"PYTHONSAFEPATH": "1"})["ladewerk"]
    assert known == {"serves": True, "text": "serves it; the directories are in its index"}
    assert tree.json("why", "sys")["ladewerk"]["serves"] is False
    off = tree.json("why", "single", env={"LADEWERK": "0"})["ladewerk"]
    assert not off["serves"] and "LADEWERK=0" in off["text"]
    odd = tree.json("why", "single", env={"LADEWERK_FRESHNESS": "odd"})["ladewerk"]
    assert not odd["serves"] and "odd" in odd["text"]


def test_foreign_finders_are_named_not_asked(tree):
    tree.write("hook/sitecustomize.py", """\
import sys
class Loud:
    def find_spec(self, name, path=None, target=None):
        if name == "single": raise SystemExit("asked")
sys.meta_path.insert(0, Loud())
""")
    tree.env["PYTHONPATH"] += os.pathsep + str(tree.cwd / "hook")
    facts = tree.json("why", "single")
    assert "sitecustomize.Loud" in facts["asked_first"] and facts["found"]
    assert "sitecustomize.Loud is asked first" in tree.ladewerk("why", "single").stdout


def test_editable_install(tree):
    tree.write("project/edited.py", "raise SystemExit('executed')\n")
    tree.write("hook/__editable___edited_finder.py", f"""\
import sys
from importlib.util import spec_from_file_location
class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "edited": return spec_from_file_location(name, {str(tree.cwd / 'project/edited.py')!r})
sys.meta_path.append(_EditableFinder)
""")
    tree.write("hook/sitecustomize.py", "import __editable___edited_finder\n")
    tree.env["PYTHONPATH"] += os.pathsep + str(tree.cwd / "hook")
    facts = tree.json("why", "edited")
    assert facts["found"] and facts["file"] == str(tree.cwd / "project/edited.py")
    assert facts["ladewerk"] == {"serves": False, "text": "leaves it to the finders behind it"}


def test_reader_that_goes_away(shell):
    done = subprocess.run(f"{shell.script} why json | true", shell=True, cwd=shell.cwd, env=shell.env, capture_output=True, text=True)
    assert done.stderr == ""


def test_names_beyond_ascii(shell):
    shell.write("\u00e9t\u00e9.py")
    done = shell.ladewerk("why", "\u00e9t\u00e9", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert "Traceback" not in done.stderr and done.returncode in (0, 1)
    assert shell.json("why", "\u00e9t\u00e9")["found"]
