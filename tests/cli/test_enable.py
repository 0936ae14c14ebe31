# SPDX-License-Identifier: MIT
"""`ladewerk enable` and `disable`, in an environment that may be spoilt."""
from __future__ import annotations

import json
import os
import stat

import pytest

from shell import STATS

ACTIVE = "import json, sys; print('ladewerk._native' in sys.modules and sys.modules['ladewerk._native'].stats()['active'])"


def active(shell, *options, **keywords):
    done = shell.stock(*options, "-c", ACTIVE, **keywords)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip() == "True"


def test_enable_and_disable(environment):
    pth = environment.site / "ladewerk_enabled.pth"
    assert not active(environment)
    done = environment.ladewerk("enable")
    assert done.returncode == 0 and done.stdout.startswith("enabled: ") and str(pth) in done.stdout
    assert active(environment)
    again = environment.ladewerk("enable")
    assert again.returncode == 0 and again.stdout == f"enabled already ({pth})\n"
    done = environment.ladewerk("disable")
    assert done.returncode == 0 and done.stdout.startswith("disabled: ")
    assert not active(environment) and not list(environment.site.glob("*enabled*"))
    again = environment.ladewerk("disable")
    assert (again.returncode, again.stdout) == (0, "not enabled: nothing to do\n")


def test_kill_switch(environment):
    environment.ladewerk("enable")
    assert not active(environment, env={"LADEWERK": "0"})
    assert not active(environment, "-I", env={"LADEWERK": "0"})


def test_isolated_starts_are_accelerated_but_believe_no_variable(environment):
    environment.ladewerk("enable")
    done = environment.stock("-I", "-c", STATS, env={"HOME": str(environment.root), "LADEWERK_FRESHNESS": "frozen"})
    stats = json.loads(done.stdout)
    assert stats["active"] and stats["freshness"] == "stat" and stats["cache"].startswith(str(environment.root / ".cache/ladewerk"))
    assert active(environment, "-E", env={"HOME": str(environment.root)})


def test_no_site_no_ladewerk(environment):
    environment.ladewerk("enable")
    assert not active(environment, "-S")


@pytest.mark.parametrize("options", [[], ["-X", "dev"], ["-X", "importtime"]], ids=" ".join)
def test_a_program_that_begins_with_us(environment, options):
    """In development mode the loader of the extension imports a codec first of all."""
    done = environment.stock(*options, "-c", "import ladewerk; print(ladewerk.stats()['active'])", env={"LADEWERK": "1"})
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_nothing_is_deprecated(environment):
    environment.ladewerk("enable")
    assert active(environment, "-W", "error", "-X", "dev")


@pytest.mark.parametrize("left", ["nothing", "an empty directory", "half of it"])
def test_package_that_is_gone(environment, left):
    """pip does not remove what `enable` wrote: it must then be without effect, and silent."""
    environment.ladewerk("enable")
    package, away = environment.site / "ladewerk", environment.root / "away"
    package.rename(away)
    try:
        if left != "nothing":
            package.mkdir()
        if left == "half of it":
            (package / "__init__.py").write_bytes((away / "__init__.py").read_bytes())
        assert not active(environment)
    finally:
        if left != "nothing":
            for path in sorted(package.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            package.rmdir()
        away.rename(package)
    assert active(environment)


def test_older_file_is_renewed(environment):
    pth = environment.site / "ladewerk_enabled.pth"
    pth.write_text("import sys\n")
    facts = environment.json("doctor", status=1)
    assert any("run `ladewerk enable` again" in f["text"] for f in facts["findings"] if f["topic"] == "enabled")
    assert environment.ladewerk("enable").stdout.startswith("enabled: ")
    assert environment.json("doctor")["problems"] == 0


def test_doctor_knows(environment):
    assert [f["status"] for f in environment.json("doctor")["findings"] if f["topic"] == "enabled"] == ["note"]
    environment.ladewerk("enable")
    assert [f["status"] for f in environment.json("doctor")["findings"] if f["topic"] == "enabled"] == ["ok"]


def test_everybody_may_read_it(environment):
    environment.ladewerk("enable", preexec_fn=lambda: os.umask(0o077))
    assert stat.S_IMODE((environment.site / "ladewerk_enabled.pth").stat().st_mode) == 0o644


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_unwritable_site_packages(environment, no_power, command):
    environment.prefix = no_power
    if command == "disable":
        environment.ladewerk("enable")
    before = sorted(environment.site.iterdir())
    environment.site.chmod(0o555)
    try:
        done = environment.ladewerk(command)
    finally:
        environment.site.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(environment.site / "ladewerk_enabled.pth") in done.stderr and "virtual environment" in done.stderr and done.stderr.count("\n") == 1
    assert sorted(environment.site.iterdir()) == before


def test_virtual_environment_on_top_of_an_enabled_one(environment, tmp_path):
    """`disable` in the upper one must not reach into the lower one, and must not claim success."""
    environment.ladewerk("enable")
    upper = tmp_path / "upper"
    environment.stock("-m", "venv", "--without-pip", upper, check=True)
    site = next(upper.glob("lib/python3.*/site-packages"))
    (site / "lower.pth").write_text(f"import site; site.addsitedir({str(environment.site)!r})\n")
    environment.python = next((upper / "bin").glob("python3.*"))
    assert active(environment)
    done = environment.stock("-m", "ladewerk", "disable")
    assert done.returncode in (0, 1) and (environment.site / "ladewerk_enabled.pth").exists()
