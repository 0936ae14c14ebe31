# SPDX-License-Identifier: MIT
"""What runs, on whom, and what becomes of it when something fails."""
from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cold
import pair
import pytest
import pythons
import report
import running
import suite
import workloads
from environments import Environments, Unavailable, directory, fingerprint, forget_another, last_error
from pythons import Found, Unfit
from sections import EFFORTS, NEEDS, Effort, Interpreter, Place, Section
from tables import Row

SUITE = Path(suite.__file__)


# --- options ----------------------------------------------------------------------------------------------------------

def keys(*argv: str) -> list[str]:
    return [section.key for section, _ in suite.chosen(suite.parse(argv))]


def test_sections_are_sound() -> None:
    """Each has a key of its own, known efforts that never shrink, and needs that somebody fulfils."""
    assert len({section.key for section in suite.SECTIONS}) == len(suite.SECTIONS)
    for section in suite.SECTIONS:
        assert set(section.efforts) <= set(EFFORTS) and "full" in section.efforts, section.key
        grown = [section.efforts[name] for name in EFFORTS if name in section.efforts]
        assert all(a.rounds <= b.rounds and a.seconds <= b.seconds for a, b in zip(grown, grown[1:])), section.key
        assert section.needs <= set(NEEDS), section.key


def test_efforts_leave_sections_out() -> None:
    everything = [section.key for section in suite.SECTIONS]
    assert keys("--full") == everything
    assert set(keys("--quick")) < set(keys()) <= set(everything)


def test_only() -> None:
    """In the order of running, whatever the order of asking; a section without that effort has the next greater one."""
    assert keys("--only", "modules,startup", "--only", "paths") == ["startup", "paths", "modules"]
    (section, effort), = suite.chosen(suite.parse(["--quick", "--only", "hyperfine"]))
    assert "quick" not in section.efforts and effort == section.efforts["headline"]
    assert keys("--quick") == [section.key for section in suite.SECTIONS if "quick" in section.efforts]


def test_rounds_are_what_was_asked_for() -> None:
    assert {effort for _, effort in suite.chosen(suite.parse(["-n", "7"]))} == {Effort(7, math.inf)}


@pytest.mark.parametrize("argv", [["--only", "nosuch"], ["-n", "0"], ["--quick", "--full"], ["--venv", "x", "--python", "y"], ["--program", "nosuch"]])
def test_nonsense_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        suite.parse(argv)
    assert end.value.code == 2
    assert "error" in capsys.readouterr().err


def test_places_that_cannot_be_written_are_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is measured, and without leaving anything behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="--build"):
        running.alone(tmp_path / "file/build")
    with pytest.raises(SystemExit, match="-o another"):
        running.check_output(tmp_path / "file/out")
    monkeypatch.setattr(Path, "exists", lambda path: os.stat("/nowhere/at/all") is None)  # as where nobody may look
    with pytest.raises(SystemExit, match="-o another"):
        running.check_output(tmp_path / "out")
    monkeypatch.undo()
    running.check_output(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("given", [("-n", "0", "true"), ("true", ""), ()])
def test_pairs_that_cannot_be_measured(given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["pair.py", *given])
    with pytest.raises(SystemExit) as ended:
        pair.main()
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err


def test_readme_has_every_section_and_file() -> None:
    text = (suite.HERE / "README.md").read_text()
    sections, files = text[text.index("## Sections"):], text[text.index("## Files"):]
    assert [section.key for section in suite.SECTIONS if f"`{section.key}`" not in sections] == []
    rooms = {path.parent.name + "/" for path in suite.HERE.glob("*/*.py")} - {"__pycache__/"}
    there = rooms | {path.name for kind in ("py", "sh", "ini", "txt") for path in suite.HERE.glob(f"*.{kind}")}
    assert len(there) > 40 and sorted(name for name in there if f"`{name}`" not in files) == []


def test_command_line_has_no_paths() -> None:
    assert suite.command_line(["--quick", "-o", "/home/somebody/out", "--python", "/opt/x/bin/python3.12"]) == "bench/run.sh --quick -o out --python python3.12"


def test_packages() -> None:
    assert suite.packages_of(workloads.PROGRAMS, ["sympy", "django"]) == ["sympy", "django"]
    every = suite.packages_of(workloads.PROGRAMS, ["sympy", "service"])
    assert every[0] == "sympy" and len(every) == len(set(every)) and "boto3" in every


# --- interpreters -----------------------------------------------------------------------------------------------------

@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[..., Path]:
    """Makes a program that says what an interpreter says of itself."""
    def make(name: str, version: tuple[int, int], free_threaded: bool = False, implementation: str = "cpython") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"implementation": implementation, "version": version, "free_threaded": free_threaded, "executable": str(file), "base": str(file)}
        file.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(facts)}\nEND\n")
        file.chmod(0o755)
        return file
    return make


def test_one_of_each_kind(tmp_path: Path, interpreter: Callable[..., Path]) -> None:
    """`python3` of the PATH is first, each kind is there once, and whoever cannot take part is passed over."""
    interpreter("a/python3", (3, 12))
    interpreter("a/python3.12", (3, 12))
    interpreter("b/python3.13", (3, 13))
    interpreter("b/python3.13t", (3, 13), True)
    interpreter("b/python3.10", (3, 10))
    interpreter("b/python3.11", (3, 11), implementation="pypy")
    interpreter("b/python3-config", (3, 14))
    interpreter("pyenv/versions/3.15.0/bin/python3", (3, 15))
    broken = tmp_path / "b/python3.14"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    broken.chmod(0o755)
    environ = {"PATH": f"{tmp_path}/b:{tmp_path}/a", "PYENV_ROOT": f"{tmp_path}/pyenv", "HOME": str(tmp_path)}
    ours = [path for path in pythons.candidates(environ) if path.is_relative_to(tmp_path)]
    found = pythons.one_of_each(ours)
    assert [python.key for python in found] == ["3.12", "3.13", "3.13t", "3.15"]
    assert found[0].python == tmp_path / "a/python3"


def test_a_home_where_nobody_may_look_has_no_interpreters(tmp_path: Path) -> None:
    assert list(pythons.candidates({"PATH": str(tmp_path), "PYENV_ROOT": "/" + 300 * "x"})) == list(pythons.candidates({"PATH": "", "HOME": str(tmp_path)}))


def test_others_are_in_order() -> None:
    found = [Found(key, Path(), Path()) for key in ("3.13t", "3.9", "3.12", "3.13")]
    assert [python.key for python in sorted(found, key=pythons.age)] == ["3.9", "3.12", "3.13", "3.13t"]


def test_named_interpreters(tmp_path: Path, interpreter: Callable[..., Path]) -> None:
    new, again, old = interpreter("x", (3, 13)), interpreter("y", (3, 13)), interpreter("z", (3, 9))
    assert [python.key for python in pythons.named([str(new)])] == ["3.13"]
    for commands, why in (([new, again], "second"), ([old], "3.11 or newer"), ([tmp_path / "none"], "does not run")):
        with pytest.raises(Unfit, match=why):
            pythons.named(map(str, commands))


def test_who_does_not_run_is_quoted_where_it_tells(tmp_path: Path) -> None:
    """A shim says what it misses in its first line, a traceback in its last."""
    python = tmp_path / "python3"
    for status, says in ((127, "first"), (1, "last")):
        python.write_text(f"#!/bin/sh\nprintf ' first\\nmiddle\\nlast\\n' >&2\nexit {status}\n")
        python.chmod(0o755)
        with pytest.raises(Unfit, match=f"run: {says}$"):
            pythons.look(python)


def test_an_environment_has_an_interpreter(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no bin/python"):
        suite.interpreters(suite.parse(["--venv", str(tmp_path)]))


def test_this_interpreter() -> None:
    found = pythons.look(sys.executable)
    assert found.key.startswith("{}.{}".format(*sys.version_info[:2])) and found.python.exists()


# --- environments -----------------------------------------------------------------------------------------------------

def test_last_error_is_the_one_that_tells() -> None:
    log = (
        "Collecting x\nWARNING: Retrying after connection broken by error\n\x1b[31mERROR: Could not find a version that satisfies x\x1b[0m\n"
        "ERROR: No matching distribution: x not found\nnote: This error originates from a subprocess\n"
    )
    assert last_error(log) == "No matching distribution: x not found"
    assert "install.log" in last_error("all is well")
    alone = "WARNING: Retrying (...) after connection broken by 'NewConnectionError(...)': /simple/x/\nERROR: No matching distribution found for x\n"
    assert last_error(alone) == "No matching distribution found for x (the package index cannot be reached)"


def test_two_interpreters_of_one_kind_share_no_environments(tmp_path: Path) -> None:
    """The control: the same one by another name does."""
    (tmp_path / "link").symlink_to(sys.executable)
    ours = directory(tmp_path, "3.11", sys.executable)
    assert ours == directory(tmp_path, "3.11", tmp_path / "link")
    assert ours != directory(tmp_path, "3.11", "/opt/another/bin/python3") and ours.name.startswith("py3.11-")


def test_fingerprint_changes_with_what_is_built(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    source = tmp_path / "core/a.c"
    source.write_text("int a;")
    first = fingerprint(tmp_path)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/b.py").write_text("x = 1")
    assert fingerprint(tmp_path) == first
    assert fingerprint(tmp_path, {"cmake.define.X": "1"}) != first
    source.write_text("int b;")
    assert fingerprint(tmp_path) != first


def test_what_was_built_elsewhere_is_built_again(tmp_path: Path) -> None:
    cache = tmp_path / "build/CMakeCache.txt"
    for home, place, stays in ((tmp_path, cache.parent, True), (tmp_path / "x", cache.parent, False), (tmp_path, tmp_path / "x", False)):
        cache.parent.mkdir(exist_ok=True)
        cache.write_text(f"A:STRING=b\nCMAKE_HOME_DIRECTORY:INTERNAL={home}\nCMAKE_CACHEFILE_DIR:INTERNAL={place}\n")
        forget_another(cache.parent, tmp_path)
        assert cache.exists() is stays
    forget_another(tmp_path / "none", tmp_path)


# --- what cannot be had -----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Poor(Environments):
    """Environments on a machine that lacks what MISSING names; nothing is installed at all."""

    missing: tuple[str, ...] = ()

    def _or_not(self, what: str) -> Path:
        if what in self.missing:
            raise Unavailable(f"no {what} today")
        return Path(sys.executable)

    def empty(self, name: str) -> Path:
        return self._or_not("venv")

    def ladewerk(self, name: str) -> Path:
        return self._or_not("compiler")

    def enabled(self, name: str) -> Path:
        return self._or_not("compiler")

    def twin(self, name: str, of: str, *more: str) -> Path:
        return self._or_not("network")

    def packages(self, name: str, wanted: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(wanted, "no network today") if "network" in self.missing else {}


FOUND = Found("3.11", Path(sys.executable), Path(sys.executable))
EVERYTHING = frozenset({"small", "pycds", "packages"})


def prepared(tmp_path: Path, *missing: str) -> Interpreter:
    return suite.prepare(FOUND, Poor(Path(sys.executable), tmp_path, tmp_path, {}, missing), EVERYTHING, ["sympy"])


def test_nothing_is_missing(tmp_path: Path) -> None:
    """The control."""
    python = prepared(tmp_path)
    assert set(python.beside) == {"bare", "small", "enabled", "pycds"} and not python.failures and not python.missing


def test_no_network(tmp_path: Path) -> None:
    python = prepared(tmp_path, "network")
    assert python.failures == {"sympy": "no network today", "pycds": "no network today"} and not python.missing
    assert "small" in suite.main_one(python).beside


def test_no_compiler(tmp_path: Path) -> None:
    """Then everybody else can still be measured."""
    python = prepared(tmp_path, "compiler")
    assert python.missing == "no compiler today" and set(python.beside) == {"bare", "pycds"}


def test_no_environments(tmp_path: Path) -> None:
    """An interpreter of which nothing can be measured: of the main one that is an end, another one has rows that say so."""
    python = prepared(tmp_path, "venv")
    assert python.failures == {"sympy": "no venv today"} and python.facts["packages"] == {} and not python.beside
    with pytest.raises(SystemExit, match="no venv today"):
        suite.main_one(python)


@dataclass(frozen=True)
class Piped(Environments):
    """Environments whose tools do nothing but leave what they would; only the interpreters of LENDERS have ensurepip."""

    lenders: tuple[str, ...] = ()
    ran: list[list[str]] = field(default_factory=list)

    def run(self, argv: Sequence[str | Path], what: str) -> None:
        words = [str(word) for word in argv]
        self.ran.append(words)
        if words[1:3] == ["-m", "venv"]:
            made = Path(words[-1], "bin")
            made.mkdir(parents=True, exist_ok=True)
            (made / "python").touch()
            if "--without-pip" not in words:
                if words[0] not in self.lenders:
                    raise Unavailable(f"{what}: no ensurepip")
                (made / "pip").touch()


def test_pip_is_lent(tmp_path: Path) -> None:
    """By the interpreter that runs the benchmark, to one without ensurepip: then it must be told whom it is for, and know it."""
    home = Piped(Path("/opt/poor/bin/python3"), tmp_path, tmp_path, lenders=(sys.executable,))
    assert home.packages("programs", ["sympy", "django"]) == {}
    lent, mine = str(tmp_path / "tools-lent/bin/python"), str(tmp_path / "programs/bin/python")
    assert [words[0] for words in home.ran] == ["/opt/poor/bin/python3", sys.executable, lent, lent, lent]
    assert home.ran[2][-2:] == ["--upgrade", "pip"]
    assert all(words[words.index("--python") + 1] == mine for words in home.ran[3:])


def test_pip_of_its_own(tmp_path: Path) -> None:
    """The control."""
    home = Piped(Path("/opt/rich/bin/python3"), tmp_path, tmp_path, lenders=("/opt/rich/bin/python3", sys.executable))
    assert home.packages("programs", ["sympy"]) == {}
    assert [words[0] for words in home.ran] == ["/opt/rich/bin/python3", str(tmp_path / "tools/bin/python")]


def test_no_pip_at_all(tmp_path: Path) -> None:
    """The reason has the remedy, and another run looks again."""
    home = Piped(Path("/opt/poor/bin/python3"), tmp_path, tmp_path)
    for _ in range(2):
        assert "no pip" in (why := home.packages("programs", ["sympy"])["sympy"]) and "python3-venv" in why
    assert not (tmp_path / "tools-lent").exists()


def test_errors_have_no_paths(tmp_path: Path) -> None:
    python = tmp_path / "secret/python3"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$0: No module named venv"; exit 1\n')
    python.chmod(0o755)
    with pytest.raises(Unavailable, match=r"python3-venv\): python3: No module named venv$"):
        Environments(python, tmp_path / "build", tmp_path).empty("bare")


# --- a run ------------------------------------------------------------------------------------------------------------

PYTHON = Interpreter("3.11", Path(sys.executable), {"packages": {}, "free_threaded": False})


def section(key: str, run: Callable[[Place, Effort], list[Row]]) -> Section:
    return Section(key, key.title(), {"full": Effort(1, 1)}, run, lambda rows: "\n".join(row["label"] for row in rows))


def good(place: Place, effort: Effort) -> list[Row]:
    return [{"section": "good", "python": "3.11", "workload": "w", "title": "w", "contender": "c", "label": "it ran", "base": True, "check": {}}]


def bad(place: Place, effort: Effort) -> list[Row]:
    raise ZeroDivisionError("by nothing")


def quits(place: Place, effort: Effort) -> list[Row]:
    sys.exit("no disk")


@pytest.fixture
def run(tmp_path: Path) -> running.Run:
    options = suite.parse(["--build", str(tmp_path)])
    return running.Run(options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place([PYTHON], tmp_path, tmp_path / "state", None, "full")


def test_what_was_measured_is_kept_when_it_cannot_be_written(run: running.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run.options.output, run.options.quick, run.options.revision, run.options.why_not = tmp_path / "file" / "out", True, "", ""
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="ladewerk-report-"):
        run.write(lambda document: "", {})
    (kept,) = tmp_path.glob("ladewerk-report-*/report.json")
    assert json.loads(kept.read_text())["rows"] == []


def test_failing_section_is_a_row(run: running.Run, place: Place) -> None:
    wanted = [section("bad", bad), section("quits", quits), section("good", good)]
    for one in wanted:
        suite.run_section(run, one, place, Effort(1, 1))
    assert [row.get("skipped") for row in run.rows] == ["ZeroDivisionError: by nothing", "SystemExit: no disk", None]
    assert set(run.seconds) == {"bad", "quits", "good"}
    texts = [report.section_text(one, [row for row in run.rows if row["section"] == one.key]) for one in wanted]
    assert "by nothing" in texts[0] and "no disk" in texts[1] and texts[2] == "it ran"


def test_a_section_with_nothing_to_measure_says_so(run: running.Run, place: Place) -> None:
    suite.run_section(run, section("none", lambda place, effort: []), place, Effort(1, 1))
    suite.run_section(run, section("good", good), place, Effort(1, 1))
    assert [row["section"] for row in run.rows if "nothing to measure" in row.get("skipped", "")] == ["none"]


@pytest.mark.parametrize(("effort", "chosen", "expected"), [
    ("quick", (), ["sympy"]), ("headline", (), ["django"]), ("full", (), ["sympy", "django"]), ("quick", ("django",), ["django"]), ("quick", ("pandas",), [])])
def test_who_starts_cold(place: Place, effort: str, chosen: tuple[str, ...], expected: list[str]) -> None:
    """Whatever the effort installs."""
    assert [load.key for load in cold._loads(replace(place, effort=effort, chosen=chosen))] == expected


def test_tables_that_fail_cost_no_report(place: Place) -> None:
    broken = Section("good", "Good", {}, good, lambda rows: str(1 // 0))
    assert "ZeroDivisionError" in report.section_text(broken, good(place, Effort(1, 1)))


def test_whoever_ends_us_is_not_a_failing_section(run: running.Run, place: Place) -> None:
    def ended(place: Place, effort: Effort) -> list[Row]:
        raise running.Ended("terminated")

    with pytest.raises(running.Ended):
        suite.run_section(run, section("ended", ended), place, Effort(1, 1))
    assert run.rows == []


# --- for real ---------------------------------------------------------------------------------------------------------

def start(tmp_path: Path, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-B", str(SUITE), "--venv", sys.prefix, "--build", str(tmp_path / "build"), "-o", str(tmp_path / "out"), "--no-plots", *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_real_run(tmp_path: Path) -> None:
    """Start-up alone, once, in this environment: rows with samples, rows with reasons, a report of both, and no path of this machine."""
    done = start(tmp_path, "--only", "startup", "-n", "1")
    out, err = done.communicate(timeout=300)
    assert done.returncode == 0, err
    text = (tmp_path / "out/report.json").read_text()
    document = json.loads(text)
    rows = {row["contender"]: row for row in document["rows"]}
    assert {"stock", "again", "run-stat", "enabled"} <= set(rows)
    for key in ("stock", "again", "run-stat"):
        assert len(rows[key]["wall_ms"]) == 1 and rows[key]["python"] == document["rows"][0]["python"]
    assert "--venv" in rows["enabled"]["skipped"]
    assert str(tmp_path) not in text
    assert document["command"].startswith("bench/run.sh --venv") and document["machine"]["kernel"].startswith("Linux")
    assert out == (tmp_path / "out/report.md").read_text() and "Start-up" in out


def test_what_there_is_when_interrupted(tmp_path: Path) -> None:
    """Ended while it measures, it writes down what it has."""
    run = start(tmp_path, "--only", "startup", "-n", "100000")
    assert run.stderr is not None
    for line in run.stderr:
        if "measure" in line:
            break
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=300)
    assert run.returncode == 130, err
    assert json.loads((tmp_path / "out/report.json").read_text())["interrupted"] == "interrupted"
    assert os.path.exists(tmp_path / "out/report.md")
