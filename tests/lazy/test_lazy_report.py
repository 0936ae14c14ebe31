# SPDX-License-Identifier: MIT
"""`ladewerk run --report` with lazy imports: what never came to be and what that saved, what did and because of whom, what did not wait and why."""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import whose

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from shell import Shell  # noqa: E402

FILES = {
    "app.py": "import shop\nshop.main()\n",
    "shop.py": """\
import time, os, sys
from slow import thing
from other import thing as second
import failing
import left.out
from used import value
try:
    import tried
except ImportError:
    tried = None
import excluded
from stars import *
from left import inner
import bound

def unused():
    return thing, second, failing, left, inner

def main():
    if "clear" in sys.argv:
        sys.modules["proxy"] = type("Proxy", (), {"__class__": type(sys)})()
        os.chdir("/")
        os.environ.clear()
    print(value, excluded.value,
          tried)
""",
    "slow.py": "import time, shared\ntime.sleep(0.05)\nthing = 1\n",
    "other.py": "import shared\nthing = 2\n",
    "shared.py": "import time\ntime.sleep(0.02)\nuse = time\n",
    "failing.py": "import sys\nif not sys.argv[0]:\n    raise RuntimeError('not where it is measured')\n",
    "left/__init__.py": "",
    "left/out.py": "",
    "left/inner.py": "",
    "used.py": "import time\ntime.sleep(0.01)\nvalue = 3\n",
    "tried.py": "",
    "excluded.py": "import time\ntime.sleep(0.01)\nvalue = 4\n",
    "bound.py": "import time\ntime.sleep(0.01)\n",
    "stars.py": "import time\ntime.sleep(0.01)\nstar = 5\n",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Shell(tmp_path_factory.mktemp("report"))
    for name, text in FILES.items():
        project.write(name, text)
    project.settle()
    return project


def run(project, *words, mode="all", **options):
    done = project.ladewerk("run", *words, env={"LADEWERK_LAZY": mode, "LADEWERK_LAZY_RULES": "eager of excluded"}, **options)
    assert done.returncode == 0 and done.stdout.startswith("3 4 "), done
    return done


def facts(project, *words, mode="all"):
    path = project.root / "report.json"
    run(project, "--report=json", "--report-file", path, "app.py", *words, mode=mode)
    found = json.loads(path.read_text())
    path.unlink()
    return found["lazy"]


@pytest.fixture(scope="module")
def lazy(project):
    return facts(project)


def line_of(text):
    """Of a line of shop.py."""
    return FILES["shop.py"].splitlines().index(text) + 1


@whose.ours
def test_what_was_never_materialised(project, lazy):
    never = {one["module"]: one for one in lazy["never"] if one["importer"] == "shop"}
    assert list(never) == ["slow", "other", "failing", "left.out", "left"]
    assert [one["line"] for one in never.values()] == [line_of(text) for text in (
        "from slow import thing", "from other import thing as second", "import failing", "import left.out", "from left import inner")]
    assert {one["file"] for one in never.values()} == {str(project.cwd / "shop.py")} and never["left"]["names"] == ["inner"]


@whose.ours
def test_what_that_would_have_cost(lazy):
    never = {one["module"]: one for one in lazy["never"]}
    assert never["slow"]["ns"] >= 70_000_000 and never["slow"]["modules"] == 2  # with `shared`, which is charged to the first
    assert never["other"]["ns"] > 0 and never["other"]["modules"] == 1
    assert never["failing"]["ns"] is None and never["failing"]["modules"] is None
    assert never["left.out"]["modules"] == 2 and never["left"]["modules"] == 1  # left.inner


@whose.ours
def test_what_was_materialised_and_by_whom(project, lazy):
    (used,) = [one for one in lazy["materialised"] if one["importer"] == "shop" and one["module"] == "used"]
    assert (used["attribute"], used["name"], used["line"]) == ("value", "value", line_of("from used import value")) and used["ns"] >= 10_000_000
    assert used["by"] == {"file": str(project.cwd / "shop.py"), "line": line_of("    print(value, excluded.value,")}
    assert lazy["mode"] == "all" and lazy["reason"] is None and lazy["registered"] > lazy["resolved"] >= 1


@whose.ours
def test_what_was_eager_and_why(lazy):
    eager = {one["module"]: one for one in lazy["eager_imports"] if one["importer"] in ("shop", "__main__")}
    assert eager["shop"]["why"] == "in the program itself" and eager["shop"]["line"] == 1
    assert eager["excluded"]["why"] == "by the mode or a rule" and eager["excluded"]["cumulative_ns"] >= 10_000_000
    assert eager["stars"]["why"] == "from ... import *" and eager["tried"]["why"] == "in a try statement"
    assert not eager.keys() & {"used", "slow"}


def test_eagerly_there_is_nothing_to_say(project):
    """The control."""
    assert facts(project, mode="0") is None
    assert "materialised" not in run(project, "--report", "app.py", mode="0").stderr


def test_why_there_are_none(project):
    """Somebody has asked for them, in a way that is not understood."""
    assert facts(project, mode="odd")["reason"]
    assert re.search(r"^lazy imports: none, because .*odd", run(project, "--report", "app.py", mode="odd").stderr, re.M)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="this one tells more")
def test_the_language_tells_less(project):
    said = run(project, "--report", "app.py").stderr
    assert "lazy imports, mode all: the language's own" in said and "never materialised" not in said


@whose.ours
def test_text(project):
    said = run(project, "--report", "app.py").stderr
    assert re.search(r"^lazy imports, mode all: \d+ names waited; used: \d+$", said, re.M)
    assert re.search(r"^never materialised: \d+ modules that would have cost \d+\.\d\d ms, 1 that could not be measured$", said, re.M)
    assert re.search(r"^ +\d+\.\d\d +2  slow +shop:2$", said, re.M) and re.search(r"^ +\? +\?  failing +shop:4$", said, re.M)
    assert re.search(r"^ +\d+\.\d\d  used\.value +shop:6 +\S*shop\.py:\d+$", said, re.M)
    assert re.search(r"^ +\d+\.\d\d  stars +shop:12 +from \.\.\. import \*$", said, re.M)
    assert re.search(rf"^ +\d+\.\d\d  bound +shop:{line_of('import bound')} +name unused, or bound otherwise$", said, re.M)  # the longest of reasons: whole
    assert max(map(len, said.splitlines())) <= 100


@whose.ours
@pytest.mark.once
def test_names_that_are_long():
    """They lose their beginnings; lines and reasons lose nothing."""
    from ladewerk import _report  # noqa: F401, which _lazy_report takes from sys.modules
    from ladewerk import _lazy_report

    long = ".".join(["package"] * 12)
    one = {"module": f"{long}.target", "importer": f"{long}.shop", "line": 12345, "file": f"/{long}/file.py", "names": [], "ns": 9, "modules": 1, "attribute": None,
           "by": {"file": f"/{long}/user.py", "line": 67890}, "why": "name unused, or bound otherwise", "cumulative_ns": 9}
    settings = {"mode": "all", "reason": None, "registered": 1, "resolved": 1}
    lines = [line for table in _lazy_report.tables({**settings, "never": [one], "materialised": [one], "eager_imports": [one]}, 1) for line in table]
    rows = [line for line in lines if "target" in line]
    assert len(rows) == 3 and all("shop:12345" in row for row in rows) and rows[1].endswith("user.py:67890") and rows[2].endswith("  name unused, or bound otherwise")
    assert max(map(len, lines)) <= 100


@whose.ours
def test_the_program_may_have_changed_its_surroundings(project):
    slow = next(one for one in facts(project, "clear")["never"] if one["module"] == "slow")
    assert slow["ns"] is None or slow["ns"] >= 70_000_000


@whose.ours
def test_a_module_that_ends_the_measurement_leaves_what_came_before(project):
    project.write("failing.py", "import os, sys\nif not sys.argv[0]:\n    os._exit(3)\n")
    try:
        project.settle()
        never = {one["module"]: one["ns"] for one in facts(project)["never"]}
        assert never["slow"] >= 70_000_000 and never["failing"] is None and never["left.out"] is None
    finally:
        project.write("failing.py", FILES["failing.py"])
