# SPDX-License-Identifier: MIT
"""What is asked for, and by whom: the environment, `ladewerk enable`, the project."""
from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import ladewerk
from ladewerk._native import _lazy_settings

TABLE = "[tool.ladewerk.lazy]\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, of which nobody has said anything; two levels below its project."""
    for name in [name for name in os.environ if name.startswith("LADEWERK")]:
        monkeypatch.delenv(name)
    below = tmp_path / "src" / "shop"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path


def settings(use_env: bool = True) -> tuple[str, str, str]:
    found = _lazy_settings(use_env)
    return found["mode"], found["by"], found["reason"]


def test_not_asked(project):
    (project / "pyproject.toml").write_text(TABLE + "mode = 'all'")
    assert settings() == ("0", "", "")  # the project says how, not whether
    assert _lazy_settings(True)["project"] == ""


@pytest.mark.parametrize("value, mode", [("default", "default"), ("own", "own"), ("all", "all"), ("1", "default"), ("0", "0")])
def test_variable(project, monkeypatch, value, mode):
    monkeypatch.setenv("LADEWERK_LAZY", value)
    assert settings() == (mode, "LADEWERK_LAZY", "")
    assert settings(use_env=False) == ("0", "", "")


def test_odd_variable(project, monkeypatch):
    monkeypatch.setenv("LADEWERK_LAZY", "some")
    assert settings() == ("0", "LADEWERK_LAZY", "LADEWERK_LAZY says 'some', which is not default, own, all or 0")
    monkeypatch.setenv("LADEWERK_LAZY", "")
    assert settings() == ("0", "", "")


def test_project(project, monkeypatch):
    toml = project / "pyproject.toml"
    toml.write_text(TABLE + "mode = 'own'")
    monkeypatch.setenv("LADEWERK_LAZY", "1")
    assert settings() == ("own", str(toml), "") and _lazy_settings(True)["project"] == str(toml)
    monkeypatch.setenv("LADEWERK_LAZY", "default")  # who names a mode means it
    assert settings() == ("default", "LADEWERK_LAZY", "") and _lazy_settings(True)["project"] == str(toml)
    monkeypatch.setenv("LADEWERK_LAZY", "1")
    toml.write_text(TABLE + "mode = '0'")
    assert settings() == ("0", str(toml), "")
    toml.write_text(TABLE + "exclude = ['a']")
    assert settings() == ("default", "LADEWERK_LAZY", "") and _lazy_settings(True)["project"] == str(toml)


def test_nearest_project_with_the_table(project, monkeypatch):
    monkeypatch.setenv("LADEWERK_LAZY", "1")
    (project / "pyproject.toml").write_text(TABLE + "mode = 'all'")
    (project / "src/pyproject.toml").write_text("[project]\ndependencies = ['ladewerk']\n")
    (project / "src/shop/pyproject.toml").mkdir()
    assert settings()[0] == "all"
    (project / "src/pyproject.toml").write_text(TABLE + "mode = 'own'")
    assert settings()[0] == "own"
    monkeypatch.chdir(project)
    assert settings()[0] == "all"


@pytest.mark.parametrize("text, reason", [
    (TABLE + "mode = 'some'", "line 2: mode is default, own, all or 0"),
    (TABLE + "\nexclude = ['a b']", "line 3: there is more than one name in it"),
    ("[project]\nname = ladewerk'", "line 2: this is no TOML"),
    (TABLE + "\0", "line ?: there is a null character in it"),
])
def test_project_that_is_wrong(project, monkeypatch, text, reason):
    """What it excludes may be what the program needs: then everything is eager."""
    monkeypatch.setenv("LADEWERK_LAZY", "all")
    toml = project / "pyproject.toml"
    toml.write_text(text)
    assert settings() == ("0", "LADEWERK_LAZY", f"{toml}, {reason}") and _lazy_settings(True)["project"] == str(toml)
    toml.write_text(text.replace("ladewerk", "other"))  # none of our business
    assert settings() == ("all", "LADEWERK_LAZY", "")


def test_project_that_is_not_utf8(project, monkeypatch):
    monkeypatch.setenv("LADEWERK_LAZY", "all")
    toml = project / "pyproject.toml"
    toml.write_bytes(b"[project]\nauthors = 'Jos\xe9'\n[tool.ladewerk.lazy]\n")
    assert settings() == ("0", "LADEWERK_LAZY", f"{toml}, line 2: this is not UTF-8; save the file in that encoding")
    toml.write_bytes(toml.read_bytes().replace(b"ladewerk", b"other"))
    assert settings() == ("all", "LADEWERK_LAZY", "")


def test_pipe_for_a_project(project, monkeypatch):
    monkeypatch.setenv("LADEWERK_LAZY", "all")
    os.mkfifo(project / "pyproject.toml")
    assert settings() == ("all", "LADEWERK_LAZY", "")


def test_directory_that_is_gone(project, monkeypatch):
    monkeypatch.setenv("LADEWERK_LAZY", "all")
    os.rmdir(project / "src/shop")
    assert settings() == ("all", "LADEWERK_LAZY", "")


def test_enabled(project, monkeypatch):
    site = project / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    site.mkdir(parents=True)
    pth = site / "ladewerk_enabled.pth"
    pth.write_text("# This environment ...\n# lazy=own\n")
    if (Path(ladewerk.__file__).parents[1] / pth.name).exists():
        pytest.skip("the environment of the tests is enabled")
    monkeypatch.setattr(sys, "prefix", str(project))
    assert settings() == settings(use_env=False) == ("own", str(pth), "")
    monkeypatch.setenv("LADEWERK_LAZY", "0")
    assert settings() == ("0", "LADEWERK_LAZY", "")
    monkeypatch.delenv("LADEWERK_LAZY")
    pth.write_text("# This environment ...\n")
    assert settings() == ("0", "", "")
    pth.write_text("# This environment ...\n# lazy=1\n")
    (project / "pyproject.toml").write_text(TABLE + "mode = 'all'")
    assert settings() == ("all", str(project / "pyproject.toml"), "")


def test_further_rules(project, monkeypatch):
    monkeypatch.setenv("LADEWERK_LAZY", "all")
    monkeypatch.setenv("LADEWERK_LAZY_RULES", "eager a\nlazily b")
    mode, _, reason = settings()
    assert mode == "0" and '"lazily b": a rule begins with `eager` or `lazy`' in reason
    monkeypatch.setenv("LADEWERK_LAZY_RULES", "eager a\nlazy b")
    assert settings() == ("all", "LADEWERK_LAZY", "")


def test_shipped_rules():
    """Each with its reason, each once, and the extension has those of the file."""
    lines = (Path(ladewerk.__file__).parent / "lazy_rules.txt").read_text().splitlines()
    rules = [line.partition("#") for line in lines if not line.startswith("#") and line]
    assert "".join(rule.strip() + "\n" for rule, _, _ in rules) == _lazy_settings(False)["shipped"]
    names = [rule.strip() for rule, _, _ in rules]
    assert len(set(names)) == len(names) > 30
    assert all(re.fullmatch(r"eager (in |of |with )?[\w.]+ *", rule) for rule, _, _ in rules)
    assert all(reason.strip() for _, _, reason in rules), [rule for rule, _, reason in rules if not reason.strip()]
