# SPDX-License-Identifier: MIT
"""`ladewerk doctor`: no false alarm, no silence where something is wrong, and each problem comes with its remedy."""
from __future__ import annotations

import os
import signal
import subprocess

import pytest


def findings(facts, topic, status=None):
    return [f["text"] for f in facts["findings"] if f["topic"] == topic and status in (None, f["status"])]


def problems(facts):
    return [f["text"] for f in facts["findings"] if f["status"] == "problem"]


def test_healthy(shell):
    done = shell.ladewerk("doctor")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "no problem found" and all(line.split()[0] in ("ok", "note") for line in lines[:-2])
    facts = shell.json("doctor")
    assert {"version", "interpreter", "imports", "start-up", "enabled", "trial", "freshness", "cache", "key", "kernel", "io_uring", "tracing"} \
        <= {f["topic"] for f in facts["findings"]}
    assert findings(facts, "cache") == [str(shell.cache)]


def test_healthy_while_active(shell):
    """Our own replacement of the import function is no stranger."""
    assert problems(shell.json("doctor", env={"LADEWERK": "1"})) == []


VARIABLES = {
    "LADEWERK_CASH": ("x", "did you mean LADEWERK_CACHE?"),
    "LADEWERK_FRESHNESS": ("fresh", "is not stat, watch or frozen"),
    "LADEWERK_STAT_WINDOW": ("soon", "is not a whole number"),
    "LADEWERK_TRUST_UID": ("me", "is not a whole number"),
    "LADEWERK_CACHE": ("relative/path", "is not an absolute path"),
    "LADEWERK_WATCH": ("relative/path", "is neither an absolute path nor 0"),
}


@pytest.mark.once
@pytest.mark.parametrize("name", VARIABLES)
def test_odd_variable(shell, name):
    value, text = VARIABLES[name]
    facts = shell.json("doctor", status=1, env={name: value})
    assert any(name in found and text in found for found in findings(facts, "variable", "problem"))


def test_variables_in_force(shell):
    facts = shell.json("doctor", env={"LADEWERK_FRESHNESS": "frozen", "LADEWERK_STAT_WINDOW": "0", "LADEWERK_READONLY": "0"})
    assert findings(facts, "variable", "ok") == [f"LADEWERK_CACHE={shell.cache}", "LADEWERK_FRESHNESS=frozen", "LADEWERK_READONLY=0", "LADEWERK_STAT_WINDOW=0"]
    assert findings(facts, "freshness", "note")[0].startswith("frozen")


def test_switched_off(shell):
    facts = shell.json("doctor", env={"LADEWERK": "0"})
    assert "LADEWERK=0" in findings(facts, "trial", "note")[0]


@pytest.mark.parametrize("option", ["-E", "-I"])
def test_variables_are_ignored(shell, option, monkeypatch):
    done = shell.stock(option, "-m", "ladewerk", "doctor", env={"HOME": str(shell.root)})
    assert done.returncode == 0 and "LADEWERK_CACHE is ignored" in done.stdout and "`ladewerk enable` serves them" in done.stdout
    assert str(shell.root / ".cache/ladewerk") in done.stdout


# --- the cache ----------------------------------------------------------------------------------------------------------


def test_nothing_stored_yet(shell):
    facts = shell.json("doctor", env={"LADEWERK": "0"})
    assert "nothing is stored" in findings(facts, "key", "note")[0]


def test_what_is_stored(shell):
    for _ in range(2):
        shell.stats("import email.message, tabnanny")
    text = findings(shell.json("doctor"), "key", "ok")[0]
    assert f"mode {0o700:o}" in text and " MB, of " in text


def test_no_place_at_all(shell):
    facts = shell.json("doctor", status=1, env={"LADEWERK_CACHE": None, "HOME": "/nonexistent", "XDG_CACHE_HOME": None})
    if os.path.isdir(f"/run/user/{os.geteuid()}"):
        pytest.skip("there is a /run/user directory")
    assert any("set LADEWERK_CACHE" in text for text in problems(facts))


@pytest.mark.once
def test_cache_that_others_may_write_to(shell):
    shell.stats()
    key = next(shell.cache.iterdir())
    key.chmod(0o777)
    facts = shell.json("doctor", status=1)
    assert any("chmod go-w" in text for text in problems(facts))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give files away")
@pytest.mark.once
def test_cache_of_somebody_else(shell):
    shell.stats()
    os.chown(shell.cache, 12345, 12345)
    facts = shell.json("doctor", status=1)
    assert any("belongs to uid 12345" in text and "LADEWERK_TRUST_UID" in text for text in problems(facts))
    assert problems(shell.json("doctor", env={"LADEWERK_TRUST_UID": "12345"})) == []


@pytest.mark.once
def test_damaged_file(shell):
    shell.ladewerk("index", shell.write("src/m.py").parent)
    for file in shell.files():
        file.write_bytes(b"LWINDEX\n" + bytes(9000))
    facts = shell.json("doctor", status=1)
    assert any("`ladewerk index` replaces it" in text for text in problems(facts))
    assert shell.ladewerk("index", "src").returncode == 0
    assert problems(shell.json("doctor")) == []


def test_unwritable_place(powerless):
    (powerless.root / "closed").mkdir(mode=0o500)
    facts = powerless.json("doctor", status=1, env={"LADEWERK_CACHE": str(powerless.root / "closed/cache")})
    assert any("cannot be created" in text for text in problems(facts))


@pytest.mark.once
def test_full_disk(shell, small_disk):
    facts = shell.json("doctor", status=1, env={"LADEWERK_CACHE": str(small_disk / "cache")})
    assert any("are free" in text for text in findings(facts, "space", "problem"))


# --- starts that die ----------------------------------------------------------------------------------------------------

def test_start_that_died(environment):
    """The very first start is killed as soon as Ladewerk works: it leaves its mark, and the next one runs without Ladewerk."""
    environment.write("killer.py", "import os\nos.kill(os.getpid(), 9)\n")
    environment.write("program.py", "import killer\n")  # not -c, which imports linecache since 3.13
    assert environment.ladewerk("run", "program.py").returncode == -signal.SIGKILL
    assert environment.stats()["active"] is False
    facts = environment.json("doctor", status=1)
    assert any("--reset" in text for text in findings(facts, "trial", "problem"))
    index = environment.ladewerk("index", ".")
    assert index.returncode == 1 and "--reset" in index.stderr
    done = environment.ladewerk("doctor", "--reset")
    assert done.returncode == 0 and done.stdout.startswith("removed 1 mark of starts that died")
    assert environment.stats()["active"] is True


def test_reset_without_marks(shell):
    assert shell.ladewerk("doctor", "--reset").stdout.startswith("there were no marks")
    assert "no marks" in shell.json("doctor", "--reset")["reset"]


def test_trial_that_crashes(shell):
    shell.write("hook/sitecustomize.py", "import os, sys\nif '-c' in sys.orig_argv: os.abort()\n")
    facts = shell.json("doctor", status=1, env={"PYTHONPATH": str(shell.cwd / "hook")})
    assert any("SIGABRT" in text and "LADEWERK=0" in text for text in findings(facts, "trial", "problem"))


# --- company ------------------------------------------------------------------------------------------------------------


def test_foreign_finders_are_named(shell):
    shell.write("hook/sitecustomize.py", """\
import sys
class Early:
    def find_spec(self, name, path=None, target=None): pass
class Late(Early): pass
sys.meta_path.insert(0, Early())
sys.meta_path.append(Late())
""")
    facts = shell.json("doctor", env={"PYTHONPATH": str(shell.cwd / "hook")})
    ahead, behind = findings(facts, "finders", "note")
    assert "sitecustomize.Early" in ahead and "sitecustomize.Late" in behind


PATCHES = {
    "a stock import class or function was replaced": """\
from importlib.machinery import FileFinder
original = FileFinder.find_spec
FileFinder.find_spec = lambda self, name, target=None: original(self, name, target)
""",
    "sys.path_hooks holds a foreign hook": "import sys\ndef hook(path): raise ImportError\nsys.path_hooks.insert(0, hook)",
}


@pytest.mark.parametrize("text", PATCHES)
def test_patched_import_system(shell, text):
    """By something that runs after Ladewerk's start, as an agent does."""
    shell.write("hook/usercustomize.py", "")
    shell.write("hook/sitecustomize.py", PATCHES[text])
    facts = shell.json("doctor", status=1, env={"PYTHONPATH": str(shell.cwd / "hook")})
    assert any(text in found or "not ones that Ladewerk was verified" in found or "sys.path_hooks" in found for found in findings(facts, "trial", "problem")), facts


ENGINES = {
    "served": ("", "ok", "import engines are served from the cache as the process is"),
    "not to be had": ("import sys\nsys.modules['ladewerk._engines'] = None\n", "note", "no import engine can be made: ModuleNotFoundError: "),
    "not as verified": ("""\
import _imp
original = _imp.get_frozen_object
def changed(name, *rest):
    code = original(name, *rest)
    if name != "_frozen_importlib":
        return code
    return code.replace(co_consts=tuple(each.replace(co_consts=(*each.co_consts, "changed")) if getattr(each, "co_name", "") == "_find_spec" else each for each in code.co_consts))
_imp.get_frozen_object = changed
""", "note", "imports of import engines are left to CPython: the engine's import functions are not ones that Ladewerk was verified against"),
}


@pytest.mark.parametrize("case", ENGINES)
def test_engines(shell, case):
    text, status, found = ENGINES[case]
    shell.write("hook/usercustomize.py", "")
    shell.write("hook/sitecustomize.py", text)
    facts = shell.json("doctor", env={"PYTHONPATH": str(shell.cwd / "hook")})
    assert [(one["status"], one["text"][:len(found)]) for one in facts["findings"] if one["topic"] == "engines"] == [(status, found)]


def test_shipped_start_up_file_is_missed(environment):
    environment.site.joinpath("ladewerk.pth").rename(environment.root / "away")
    try:
        facts = environment.json("doctor", status=1)
    finally:
        (environment.root / "away").rename(environment.site / "ladewerk.pth")
    assert any("reinstall" in text for text in findings(facts, "start-up", "problem"))


@pytest.mark.once
def test_reader_that_goes_away(shell):
    done = subprocess.run(f"{shell.script} doctor | true", shell=True, cwd=shell.cwd, env=shell.env, capture_output=True, text=True)
    assert done.stderr == ""
