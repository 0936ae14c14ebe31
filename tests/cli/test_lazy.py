# SPDX-License-Identifier: MIT
"""Asking for lazy imports: `run --lazy`, `enable --lazy`, a project's pyproject.toml, and what `doctor` says of it."""
from __future__ import annotations

import json
import sys
import sysconfig

import pytest

LAZY_HERE = sys.version_info >= (3, 15) or not sysconfig.get_config_var("Py_GIL_DISABLED")
ASKED = "import json, ladewerk; print(json.dumps(ladewerk.stats()['lazy']))"
TABLE = "[tool.ladewerk.lazy]\n"


def asked(done) -> tuple[str, str | None]:
    assert (done.returncode, done.stderr) == (0, "")
    lazy = json.loads(done.stdout)
    return lazy["mode"], lazy["reason"]


@pytest.mark.parametrize("way", ["launcher", "module"])
def test_run(shell, way):
    run = shell.ladewerk if way == "launcher" else lambda *words, **keywords: shell.stock("-m", "ladewerk", *words, **keywords)
    tell = ["-c", "import os; print(os.environ.get('LADEWERK_LAZY'))"]
    for option, value in (("--lazy", "1"), ("--lazy=default", "default"), ("--lazy=own", "own"), ("--lazy=all", "all"), ("--lazy=0", "0")):
        assert run("run", option, *tell).stdout == value + "\n"
    assert run("run", *tell).stdout == "None\n"
    assert run("run", *tell, env={"LADEWERK_LAZY": "own"}).stdout == "own\n"
    assert run("run", "-c", "import sys; print(sys.argv)", "--lazy=all").stdout == "['-c', '--lazy=all']\n"
    for option in "--lazy=", "--lazy=some", "--lazy=1":
        done = run("run", option, *tell)
        assert done.returncode == 2 and f"--lazy takes default, own, all or 0, not '{option[7:]}'" in done.stderr
    done = run("run", "--lazy", "--reload", "-c", "pass")
    assert done.returncode == 2 and "--lazy is not for --reload" in done.stderr


@pytest.mark.skipif(not LAZY_HERE, reason="this interpreter imports eagerly")
def test_modes_of_the_project(shell):
    shell.write("pyproject.toml", TABLE + "mode = 'own'\n")
    assert asked(shell.ladewerk("run", "--lazy", "-c", ASKED)) == ("own", None)
    assert asked(shell.ladewerk("run", "--lazy=all", "-c", ASKED)) == ("all", None)
    assert asked(shell.ladewerk("run", "-c", ASKED))[0] == "off"
    shell.write("pyproject.toml", TABLE + "mode = 'mine'\n")
    mode, reason = asked(shell.ladewerk("run", "--lazy=all", "-c", ASKED))
    assert mode == "off" and reason == f"{shell.cwd}/pyproject.toml, line 2: mode is default, own, all or 0"


def test_enable(environment):
    pth = environment.site / "ladewerk_enabled.pth"
    tell = "import json, sys; print(json.dumps(sys.modules['ladewerk._native']._lazy_settings(True)))"

    def told(**env):
        done = environment.stock("-c", tell, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        facts = json.loads(done.stdout)
        return facts["mode"], facts["by"]

    done = environment.ladewerk("enable", "--lazy=own")
    assert done.returncode == 0 and "and imports lazily" in done.stdout and "LADEWERK_LAZY=0" in done.stdout
    assert told() == ("own", str(pth))
    assert not LAZY_HERE or asked(environment.stock("-c", ASKED))[0] == asked(environment.ladewerk("run", "-c", ASKED))[0] == "own"
    assert told(LADEWERK_LAZY="all") == ("all", "LADEWERK_LAZY")
    assert told(LADEWERK_LAZY="0") == ("0", "LADEWERK_LAZY")
    assert environment.ladewerk("enable", "--lazy=own").stdout == f"enabled already ({pth})\n"
    assert environment.ladewerk("enable", "--lazy").returncode == 0
    assert told() == ("default", str(pth))
    toml = environment.write("pyproject.toml", TABLE + "mode = 'all'")
    assert told() == ("all", str(toml))
    toml.unlink()
    environment.ladewerk("enable")
    assert told() == ("0", "")
    environment.ladewerk("enable", "--lazy=all")
    assert environment.ladewerk("doctor").returncode == 0
    assert environment.ladewerk("disable").returncode == 0 and not pth.exists()
    assert environment.ladewerk("enable", "--lazy=some").returncode == 2


def findings(shell, status=0, **env):
    facts = shell.json("doctor", status=status, env=env)
    return [(finding["status"], finding["text"]) for finding in facts["findings"] if finding["topic"] == "lazy"]


@pytest.mark.skipif(not LAZY_HERE, reason="this interpreter imports eagerly")
def test_doctor(shell):
    [(status, text)] = findings(shell)
    assert status == "note" and text.startswith("no: `ladewerk run --lazy`")
    assert findings(shell, LADEWERK_LAZY="0") == [("note", "no, says LADEWERK_LAZY")]
    toml = shell.write("pyproject.toml", TABLE + "mode = 'own'\nexclude = ['a', 'in b']\n")
    [(status, how), (also, rules)] = findings(shell, LADEWERK_LAZY="1", LADEWERK_LAZY_RULES="eager c\n# d")
    assert status == also == "ok" and how.startswith(f"own, says {toml}: imports of the project")
    assert "lazy_rules.txt, " in rules and rules.endswith(f", 2 of {toml}, 1 of LADEWERK_LAZY_RULES")


def test_doctor_finds_what_is_wrong(shell):
    assert findings(shell, 1, LADEWERK_LAZY="some") == [("problem", "imports are eager: LADEWERK_LAZY says 'some', which is not default, own, all or 0")]
    toml = shell.write("pyproject.toml", TABLE + "exclude = 'a'\n")
    [(status, text)] = findings(shell, 1, LADEWERK_LAZY="all")
    assert status == "problem" and f"{toml}, line 2: exclude and include are arrays of strings; mend [tool.ladewerk.lazy] there" in text
    toml.write_text(TABLE + "exclude = ['a'\n")
    [(status, text)] = findings(shell, 1, LADEWERK_LAZY="all")
    assert status == "problem" and f"{toml} cannot be read (" in text and "at end of document)); mend it" in text
