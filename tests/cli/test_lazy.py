# SPDX-License-Identifier: MIT
"""Asking for lazy imports: `run --lazy`, `enable --lazy`, a project's pyproject.toml, and what `doctor` says of it."""
from __future__ import annotations

import json
import os
import subprocess
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
    for option, value in (("--lazy", "1"), ("--lazy=default", "default"), ("--lazy=own", "own"), ("--lazy=all", "all"), ("--lazy=1", "1"), ("--lazy=0", "0")):
        assert run("run", option, *tell).stdout == value + "\n"
    assert run("run", *tell).stdout == "None\n"
    assert run("run", *tell, env={"LADEWERK_LAZY": "own"}).stdout == "own\n"
    assert run("run", "-c", "import sys; print(sys.argv)", "--lazy=all").stdout == "['-c', '--lazy=all']\n"
    for option in "--lazy=", "--lazy=some":
        done = run("run", option, *tell)
        assert done.returncode == 2 and f"--lazy takes default, own, all, 1 or 0, not '{option[7:]}'" in done.stderr
    done = run("run", "--lazy", "own", "-c", "pass")
    assert done.returncode == 2 and done.stderr == "ladewerk: run: there is no program 'own' here; for the mode of lazy imports write --lazy=own\n"
    shell.write("own", "print('the program own')")
    assert run("run", "--lazy", "own").stdout == "the program own\n"
    done = run("run", "--lazy", "--reload", "-c", "pass")
    assert done.returncode == 2 and "--lazy is not for --reload" in done.stderr


@pytest.mark.skipif(not LAZY_HERE, reason="this interpreter imports eagerly")
def test_modes_of_the_project(shell):
    shell.write("pyproject.toml", TABLE + "mode = 'own'\n")
    assert asked(shell.ladewerk("run", "--lazy", "-c", ASKED)) == ("own", None)
    assert asked(shell.ladewerk("run", "--lazy=all", "-c", ASKED)) == ("all", None)
    assert asked(shell.ladewerk("run", "-c", ASKED))[0] == "off"
    shell.write("pyproject.toml", TABLE + "mode = 'mine'\n")
    mode, reason = asked(shell.ladewerk("run", "-c", ASKED, env={"LADEWERK_LAZY": "all"}))
    assert mode == "off" and reason == f"{shell.cwd}/pyproject.toml, line 2: mode is default, own, all or 0"


@pytest.mark.skipif(not LAZY_HERE, reason="this interpreter imports eagerly")
@pytest.mark.parametrize("way", ["launcher", "module"])
def test_who_is_told_that_imports_are_eager(shell, way):
    """Who has typed `run --lazy`, in one line; not its children, and not who has a variable in the environment."""
    run = shell.ladewerk if way == "launcher" else lambda *words, **keywords: shell.stock("-m", "ladewerk", *words, **keywords)
    shell.write("pyproject.toml", TABLE + "mode = 'mine'\n")
    child = f"import json, subprocess, sys\ntry: import _xxsubinterpreters as subs\nexcept ImportError: import _interpreters as subs\nsubs.run_string(subs.create(), 'import json')\nsys.exit(subprocess.run([sys.executable, '-c', {ASKED!r}]).returncode)"
    said = f"ladewerk: run: imports are eager, despite --lazy: {shell.cwd}/pyproject.toml, line 2: mode is default, own, all or 0; `ladewerk doctor` says more\n"
    done = run("run", "--lazy", "-c", child)
    assert (done.returncode, done.stderr) == (0, said) and "line 2: mode is" in done.stdout
    assert run("run", "--lazy=0", "-c", child).stderr == run("run", "-c", child, env={"LADEWERK_LAZY": "all"}).stderr == ""
    assert run("run", "--lazy", "-c", "import json", env={"LADEWERK": "0"}).stderr == ""
    assert run("run", "--lazy", "-c", "import json", stderr=None, capture_output=False, preexec_fn=lambda: os.close(2)).returncode == 0  # nobody to tell
    (shell.cwd / "pyproject.toml").unlink()
    assert run("run", "--lazy", "-c", child, env={"LADEWERK_LAZY": "nonsense"}).stderr == ""
    done = run("run", "--lazy", "-c", child, env={"LADEWERK_LAZY_RULES": "nonsense"})
    assert done.stderr.startswith("ladewerk: run: imports are eager, despite --lazy: ") and 'of the rules, "nonsense"' in done.stderr
    assert "ladewerk: run: imports are eager, despite --lazy: python -v prints" in run("run", "--lazy", "-v", "-c", "import json").stderr


@pytest.mark.skipif(LAZY_HERE, reason="imports may be lazy here")
def test_a_build_without_lazy_imports_says_so(shell):
    assert shell.ladewerk("run", "--lazy", "-c", "import json").stderr.startswith("ladewerk: run: imports are eager, despite --lazy: this is a free-threaded build")
    assert shell.ladewerk("run", "-c", "import json", env={"LADEWERK_LAZY": "all"}).stderr == ""


def test_a_package_that_no_start_knows(environment):
    """The package is found, by PYTHONPATH say, and the file is not by which starts of the interpreter find it."""
    pth = environment.site / "ladewerk.pth"
    pth.rename(aside := pth.with_suffix(".aside"))
    try:
        done = environment.stock("-m", "ladewerk", "run", "--lazy", "-c", "print(1)")
    finally:
        aside.rename(pth)
    assert (done.returncode, done.stdout) == (0, "1\n") and done.stderr.startswith("ladewerk: run: nothing is accelerated: ladewerk.pth is not in the site-packages")


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
    done = environment.ladewerk("enable", "--lazy=0")  # the same as without
    assert done.returncode == 0 and "lazily" not in done.stdout and told() == ("0", "")
    assert environment.ladewerk("enable").stdout == f"enabled already ({pth})\n"
    environment.ladewerk("enable", "--lazy=all")
    assert environment.ladewerk("doctor").returncode == 0
    assert environment.ladewerk("disable").returncode == 0 and not pth.exists()
    assert environment.ladewerk("enable", "--lazy=some").returncode == 2
    assert environment.ladewerk("enable", "--lazy=1").returncode == 0 and told() == ("default", str(pth))


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
    assert shell.json("doctor", status=1, env={"LADEWERK_LAZY": "some"})["problems"] == 1  # told once
    assert findings(shell, 1, LADEWERK_LAZY="some") == [("note", "imports are eager: LADEWERK_LAZY says 'some', which is not default, own, all or 0")]
    toml = shell.write("pyproject.toml", TABLE + "exclude = 'a'\n")
    [(status, text)] = findings(shell, 1, LADEWERK_LAZY="all")
    assert status == "problem" and f"{toml}, line 2: exclude and include are arrays of strings; mend [tool.ladewerk.lazy] there" in text
    toml.write_text(TABLE + "exclude = ['a'\n")
    [(status, text)] = findings(shell, 1, LADEWERK_LAZY="all")
    assert status == "problem" and f"{toml} cannot be read (" in text and "at end of document)); mend it" in text
    toml.write_bytes(b"# Jos\xe9\n" + TABLE.encode())
    [(status, text)] = findings(shell, 1, LADEWERK_LAZY="all")
    assert (status, text) == ("problem", f"imports are eager: {toml}, line 1: this is not UTF-8; save the file in that encoding")


@pytest.mark.skipif(not LAZY_HERE or sys.version_info >= (3, 15), reason="modules of all loaders are lazy, or none")
def test_entries_of_the_path(shell):
    """What a relative one finds is stock Python's to load, so its imports are eager; the empty one is as good as the directory."""
    shell.write("mod.py", "import json\ndef use(): return json\n")
    for entry, there in ("''", False), (repr(str(shell.cwd)), False), ("'.'", True):
        tell = f"import sys; sys.path[0] = {entry}; import mod; print('json' in sys.modules)"
        assert shell.ladewerk("run", "--lazy=all", "-c", tell).stdout == f"{there}\n", entry


@pytest.mark.skipif(not LAZY_HERE, reason="this interpreter imports eagerly")
def test_modes_that_share_a_cache(shell):
    """Programs of different modes, two at a time, while the sources change, in their length or not: each has the modules of its start."""
    shell.env["PYTHONDONTWRITEBYTECODE"] = "1"  # stock Python believes a .pyc of the same second and size
    shell.write("app.py", "import one, two\nprint(one.total(), two.total())\n")
    forms = {"from": "from two import V as v\ndef total(): return [V, v]", "module": "import two\ndef total(): return [V, two.V]", "none": "import two\ndef total(): return [V]"}
    modes = ["--lazy=all", "--lazy=0", "--lazy=own", "--lazy=default"]
    for number, (mode, other, form) in enumerate(zip(modes * 3, (modes[1:] + modes[:1]) * 3, list(forms) * 4)):
        shell.write("two.py", f"V = {number + 10}\ndef total(): return [V]\n")
        if number % 2:
            shell.write("one.py", f"V = {number + 10}\n{forms[form]}\n")
            said = f"{[number + 10] * (1 if form == 'none' else 2)} {[number + 10]}\n"
        else:
            shell.write("one.py", "import json\nfrom two import total as other\ndef total(): return json.dumps(other())\n")
            said = f"{[number + 10]} {[number + 10]}\n"
        both = [subprocess.Popen([shell.script, "run", option, "app.py"], cwd=shell.cwd, env=shell.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for option in (mode, other)]
        for process in both:
            assert process.communicate(timeout=60) == (said, ""), (number, mode, other)


@pytest.mark.skipif(not LAZY_HERE, reason="this interpreter imports eagerly")
def test_nowhere_to_keep_code(powerless):
    """Imports wait all the same."""
    powerless.write("mod.py", "import json\ndef use(): return json\n")
    tell = "import mod, sys, ladewerk; print('json' in sys.modules, ladewerk.stats()['lazy']['mode'], 'nothing is kept' in ladewerk.stats()['reason'])"
    (powerless.root / "closed").mkdir(0o555)
    for env in {"LADEWERK_CACHE": str(powerless.root / "closed/cache")}, {"LADEWERK_CACHE": None, "XDG_CACHE_HOME": None, "HOME": str(powerless.root / "closed")}:
        for _ in range(2):
            done = powerless.ladewerk("run", "--lazy=all", "-c", tell, env=env)
            assert (done.returncode, done.stdout, done.stderr) == (0, "False all True\n", "")
