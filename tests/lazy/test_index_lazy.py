# SPDX-License-Identifier: MIT
"""`ladewerk index --lazy`: programs that import lazily find code that is ready, in the cache and in artifacts."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import whose

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from shell import Shell  # noqa: E402

from ladewerk import _native  # noqa: E402

pytestmark = whose.ours

FILES = {
    "first.py": "import json\nimport second, third\ndef f(): return json, second.x, third.y\n",
    "second.py": "x = 1\n",
    "third.py": "from second import x as y\nimport first\n",
}
#: Where its code came from, what waited and what was learnt.
PROGRAM = """\
import json, sys
from ladewerk import _native
_native.flush()
before = _native.stats()
import first
waits = [name for name in ("second", "third") if name not in sys.modules]
first.f()
_native.flush()
stats = _native.stats()
learnt, learnt_before = (each["session"]["learnt_files"] for each in (stats, before))
print(json.dumps([stats["served"]["pack"] - before["served"]["pack"], waits, learnt - learnt_before, stats["index"] and stats["index"]["reason"]]))
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """With src/, that is imported: one file has a .pyc, two have none."""
    shell = Shell(tmp_path)
    for name, text in FILES.items():
        shell.write(f"src/{name}", text)
    shell.env["PYTHONPATH"] = str(shell.cwd / "src")
    shell.settle()
    assert shell.stock("-c", "import second").returncode == 0
    shell.settle()
    return shell


def run(shell: Shell, *options: str) -> list:
    done = shell.ladewerk("run", *options, "-c", PROGRAM, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_cache(shell: Shell):
    facts = shell.json("index", "--lazy", "src")
    assert facts["lazy"] and (facts["from_pyc"], facts["compiled"]) == (1, 2)
    served, waits, learnt, _ = run(shell, "--lazy=all")
    assert served == 3 and waits == ["second", "third"] and learnt == 0
    # Eager programs have a cache of their own.
    served, waits, learnt, _ = run(shell)
    assert served == 0 and waits == [] and learnt == 3
    assert not shell.json("index", "src")["lazy"] and len({path.parent for path in shell.files()}) == 2
    # By the environment, too; and nothing is made twice.
    again = shell.json("index", "src", env={"LADEWERK_LAZY": "own"})
    assert again["lazy"] and (again["from_pyc"], again["compiled"]) == (0, 0) and run(shell, "--lazy=all") == [3, ["second", "third"], 0, None]


def test_control(shell: Shell):
    """Without an index it is learnt."""
    assert run(shell, "--lazy=all") == [0, ["second", "third"], 3, None]


def test_modules_that_are_eager_by_rule(shell: Shell):
    """Their code is the compiler's, in the cache of lazy programs, too; where the rule is not, it is made ready."""
    consts = "import first; print(len(first.f.__code__.co_consts))"
    for rules, count in ("eager in first", "1"), ("eager in first", "1"), ("", "2"), ("", "2"):
        done = shell.ladewerk("run", "--lazy=all", "-c", consts, env={"LADEWERK_LAZY_RULES": rules})
        assert (done.stdout, done.stderr) == (f"{count}\n", "")


def eager_by_rule() -> str:
    """A package of which the shipped rules say that all its imports are eager."""
    return next(line.split()[-1] for line in _native._lazy_settings(False)["shipped"].splitlines() if line.startswith("eager in ") and "." not in line)


def test_modules_that_are_eager_by_shipped_rules(shell: Shell):
    """As when a program learns them: the code of these is the compiler's, wherever it comes from; that of others is ready."""
    package = eager_by_rule()
    text = "import json\ndef f(): return json\n"
    for name in f"src/{package}/__init__.py", f"src/{package}/below.py", f"src/{package}_not.py", f"elsewhere/{package}/__init__.py":
        shell.write(name, text)
    shell.write("pyproject.toml", f"[tool.ladewerk.lazy]\nmode = '0'\nexclude = ['in {package}_not']\n")  # says nothing to an index that is for all
    shell.settle()
    shell.stock("-m", "compileall", "-q", f"src/{package}/below.py")
    shell.settle()
    tell = f"import {package}, {package}.below, {package}_not as other; print(*(len(each.f.__code__.co_consts) for each in ({package}, {package}.below, other)))"
    assert shell.json("index", "--lazy", "src", "elsewhere")["lazy"]
    assert shell.json("index", "--frozen", "--lazy", "-o", "artifact", "src")["lazy"]
    (shell.cwd / "pyproject.toml").unlink()
    for options in [], ["--index", "artifact"]:
        counted = f"{tell}; import ladewerk; print(ladewerk.stats()['served']['pack'] >= 3)"
        done = shell.ladewerk("run", "--lazy=all", *options, "-c", counted, env={"LADEWERK_READONLY": "1"})
        assert (done.stdout, done.stderr) == ("1 1 2\nTrue\n", ""), options


def test_artifacts(shell: Shell):
    """The same bytes, from processes that hash as they like; for programs that import lazily only."""
    for out, seed in ("one", "1"), ("two", "2"):
        assert shell.json("index", "--frozen", "--lazy", "-o", out, "src", env={"PYTHONHASHSEED": seed})["lazy"]
    assert (shell.cwd / "one/index.lwi").read_bytes() == (shell.cwd / "two/index.lwi").read_bytes()
    served, waits, learnt, reason = run(shell, "--lazy=all", "--index", "one")
    assert served == 3 and waits == ["second", "third"] and (learnt, reason) == (0, None)
    assert "other settings" in run(shell, "--index", "one")[3]
    assert not shell.json("index", "--frozen", "-o", "eager", "src")["lazy"]
    served, waits, _, reason = run(shell, "--lazy=all", "--index", "eager")
    assert waits == ["second", "third"] and "--lazy" in reason
