# SPDX-License-Identifier: MIT
"""The section about lazy imports: what is made of its rows, whose answers are known; tiny programs that are the same, or not."""
from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import suite
from environments import Unavailable
from lazy import checking, measuring, programs, section, steady, tables
from lazy.programs import EFFORTS, GROUPS, PROJECTS, TOOLS, Tool
from lazy.ways import AGAIN, ALL, DEFAULT, EAGER, OWN_MODE, STEADY, STOCK, WAYS, Site
from sections import Effort, Place
from tables import Row as Any_Row

TEN = [10.0, 11, 12, 10, 11, 12, 10, 11, 12]  # of nine rounds


# --- rows whose answers are known -------------------------------------------------------------------------------------

def program(load: str, group: str = "cli", **factors: float) -> list[dict[str, Any]]:
    """A program that takes FACTORS of stock; in a way without one it differs."""
    def row(way: Any) -> dict[str, Any]:
        about = {"section": "lazy", "python": "3.11", "workload": load, "title": f"{load} --help", "contender": way.key, "label": way.label, "base": way is STOCK, "group": group}
        factor = {STOCK.key: 1.0, AGAIN.key: 1.01, EAGER.key: 0.8, **{name.replace("_", "-"): value for name, value in factors.items()}}.get(way.key)
        if factor is None:
            return {**about, "skipped": "exit status 1, with stock Python exit status 0", "check": {"differs": True}}
        return {**about, "check": {"modules": 90 if way is EAGER else 30}, "cpu_ms": [factor * value for value in TEN], "wall_ms": [factor * value for value in TEN]}

    return [row(way) for way in (STOCK, AGAIN, EAGER, DEFAULT, ALL)]


def loop(name: str, factor: float) -> list[dict[str, Any]]:
    return [{
        "section": "lazy", "python": "3.11", "workload": f"steady-{name}", "title": name, "contender": way.key, "label": way.label, "base": way is STOCK, "group": "steady", "check": {},
        "inside_cpu_us": [value * (factor if way is ALL else 1.0) for value in TEN],
    } for way in STEADY]


def rows() -> list[dict[str, Any]]:
    return [
        *program("one", ladewerk_default=0.7, ladewerk_all=0.4), *program("two", ladewerk_default=0.82, ladewerk_all=0.2), *program("three", ladewerk_default=0.75, ladewerk_all=0.48),
        *program("site", "web", ladewerk_default=0.7), *loop("chaos", 1.002), *loop("nbody", 1.004), *loop("json", 1.1),
    ]


def test_tables() -> None:
    """The middle program, of stock and of eager Ladewerk; what differs is no figure, and its reason is said below."""
    text = tables.part(rows())
    assert "Command-line tools, n = 9" in text and "| `one --help` | 11.0 | 1.01 [1.01, 1.01] | 0.80 [0.80, 0.80] | 0.70 [0.70, 0.70] | 0.40 [0.40, 0.40] | 90 → 30 |" in text
    assert "| **median, of stock** |  | 1.010 [1.010, 1.010] | 0.800 [0.800, 0.800] | 0.750 [0.750, 0.750] | 0.400 [0.400, 0.400] |  |" in text
    assert "| `site --help` | 11.0 | 1.01 [1.01, 1.01] | 0.80 [0.80, 0.80] | 0.70 [0.70, 0.70] | *differs* | 90 |" in text
    assert "| `site --help` | --lazy=all | *exit status 1, with stock Python exit status 0* |" in text
    assert "| nbody | 11.0 | 1.004 [1.004, 1.004] ±0.000 |" in text and "| **median** |  | 1.004 [1.004, 1.004] ±0.000 |" in text


def test_goals() -> None:
    """0.4 of 0.8 is half; the slowest is the one that takes more than eager Ladewerk; a program that differs is counted, and named."""
    found = {goal.text: goal for goal in tables.goals(rows())}
    of_eager, of_stock = found["`--lazy=all`, the median of 3 command-line tools: CPU of eager Ladewerk"], found["`--lazy=all`, the median of 3 command-line tools: CPU of stock"]
    assert (of_eager.found.value, of_eager.verdict) == (pytest.approx(0.5), "met") and (of_stock.found.value, of_stock.verdict) == (pytest.approx(0.4), "met")  # type: ignore[union-attr]
    slowest = found["lazy, the worst program: CPU of eager Ladewerk"]
    assert slowest.verdict == "**missed**" and slowest.where == "two, ladewerk-default"
    assert found["`--lazy`: programs of 4 that differ from stock"].verdict == "met"
    assert (differ := found["`--lazy=all`: programs of 4 that differ from stock"]).verdict == "**missed**" and differ.where == "site"
    assert found["steady state, the median of 3 loops: CPU of stock"].verdict == "met"
    assert {goal.verdict for goal in tables.goals(loop("slow", 1.02))} == {"**missed**"}


def test_a_program_that_is_not_there() -> None:
    """Its reason is in the table, and in no goal."""
    gone = [{**{name: value for name, value in row.items() if not name.endswith("_ms")}, "skipped": "it is not installed"} for row in program("one")]
    gone = [{**row, "check": {}} for row in gone]
    assert "| `one --help` | *it is not installed* |" in tables.part(gone)
    assert {goal.verdict for goal in tables.goals(gone)} == {"not measured"} and not tables.figures(gone) and not tables.plots(gone)


def test_figures_and_plots() -> None:
    keys = {figure.key: round(figure.ratio.value, 3) for figure in tables.figures(rows()) if figure.ratio}
    assert keys["3.11/lazy/one/ladewerk-all/cpu_ms"] == 0.4 and keys["3.11/lazy/steady-json/ladewerk-all/inside_cpu_us"] == 1.1
    cli, web = tables.plots(rows())
    assert cli.names == ["one", "two", "three"] and "--lazy=all" in {line.label for line in cli.lines} and "--lazy=all" not in {line.label for line in web.lines}


# --- the programs -----------------------------------------------------------------------------------------------------

def test_programs_are_sound() -> None:
    """Keys are unique, projects are there and used, groups are known; enough of them for what is said of the middle one."""
    assert len({tool.key for tool in TOOLS}) == len(TOOLS) >= 25 and {tool.group for tool in TOOLS} == set(GROUPS)
    assert {tool.project for tool in TOOLS} - {""} == {path.name for path in PROJECTS.iterdir()}
    assert set(EFFORTS["headline"]) <= {tool.key for tool in TOOLS} and len(steady.LOOPS) >= 10
    for name in {tool.environment for tool in TOOLS}:
        assert len({tuple(tool.packages) for tool in TOOLS if tool.environment == name}) == 1, name


def test_chosen(place: Place) -> None:
    def keys(**changes: Any) -> tuple[int, int]:
        tools, loops = section.chosen(replace(place, **changes))
        return len(tools), len(loops)

    assert keys(effort="full") == (len(TOOLS), len(steady.LOOPS)) and keys(effort="headline") == (len(EFFORTS["headline"]), len(steady.SHORT))
    assert keys(effort="full", parts={"lazy": ["steady"]}) == (0, len(steady.LOOPS)) and keys(parts={"lazy": ["web", "test"]})[1] == 0
    assert keys(chosen=["poetry", "sympy"]) == (2, 0)
    with pytest.raises(SystemExit):
        suite.parse(["--program", "poetry"])
    assert suite.parse(["--program", "poetry", "--only", "lazy"]).program == ["poetry"]


# --- real runs --------------------------------------------------------------------------------------------------------

@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "home").mkdir()
    return Site("3.x", (3, 11), tmp_path, "/usr/bin:/bin")


def run(site: Site, monkeypatch: pytest.MonkeyPatch, source: str, status: int = 0) -> dict[str, Any_Row]:
    """The rows of a script, by this interpreter, stock and with eager Ladewerk."""
    project = site.state / "projects/sample"
    project.mkdir(parents=True)
    (project / "sample.py").write_text(source)
    (project / "beside.py").write_text("value = 7\n")
    monkeypatch.setattr(measuring, "PROJECTS", project.parent)
    monkeypatch.setattr(measuring, "installed", lambda *_: Path(sys.executable))
    tool = Tool("sample", "cli", ("sample.py", "{out}"), (), "sample", status=status)
    found = measuring.measure(site, None, tool, [STOCK, AGAIN, OWN_MODE, EAGER], 1, Effort(1, 60.0))  # type: ignore[arg-type]
    return {row["contender"]: row for row in found}


def test_the_same_program_is_timed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its project as working directory, an empty directory for what it writes, and ends as it is expected to; 3.15's mode is not for older ones."""
    source = "import os, sys, beside\nprint(os.listdir(sys.argv[1]), beside.value, sorted(os.listdir()))\nopen(sys.argv[1] + '/written', 'w').close()\nsys.exit(3)\n"
    found = run(site, monkeypatch, source, 3)
    assert list(found) == ["stock", "again", "ladewerk-stat"] and all(len(row["cpu_ms"]) == 1 for row in found.values()), found
    assert found["stock"]["check"] == {"compared": "byte for byte, times such as 0.12s apart"} and found["ladewerk-stat"]["check"]["modules"] >= 1


def test_what_is_eager_is_not_timed_as_lazy() -> None:
    assert measuring.off({"lazy": {"mode": "all", "reason": "the interpreter is not known"}}, ALL) == "the interpreter is not known"
    assert not measuring.off({"lazy": {"mode": "all", "reason": None}}, ALL) and not measuring.off({"lazy": {"reason": "off"}}, EAGER) and not measuring.off({}, ALL)


def test_another_program_is_not_timed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints under Ladewerk is not what it prints without."""
    found = run(site, monkeypatch, "import os\nprint('LADEWERK_CACHE' in os.environ)\n")
    assert len(found["stock"]["cpu_ms"]) == 1 and "cpu_ms" not in found["ladewerk-stat"]
    assert found["ladewerk-stat"]["skipped"] == "output differs from stock Python's (line 1)" and found["ladewerk-stat"]["check"] == {"differs": True}


DIFFERENT = "import os, sys, beside\nprint('LADEWERK_CACHE' in os.environ, open(os.path.join(sys.argv[1], 'a'), 'x'))\n"


def check(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> int:
    """The exit status of a check of scripts, by this interpreter."""
    for name, source in sources.items():
        (project := tmp_path / name).mkdir()
        (project / "sample.py").write_text(source)
        (project / "beside.py").write_text("")
    monkeypatch.setattr(measuring, "PROJECTS", tmp_path)
    monkeypatch.setattr(measuring, "installed", lambda *_: Path(sys.executable))
    monkeypatch.setattr(section, "_missing", lambda home: "")
    monkeypatch.setattr(section, "TOOLS", [Tool(name, "cli", ("sample.py", "{out}"), (), name, env={"SAID": "two words"}) for name in sources])
    monkeypatch.setattr(checking, "COMPARED", [DEFAULT, ALL])
    return checking.run(replace(place, chosen=list(sources)))


def test_a_check_says_what_differs(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """And how to find out why, in a command that a shell can execute; a set of strings is printed in the same order each time."""
    assert check(place, tmp_path, monkeypatch, same="import beside\nprint(set('abcdef'))\n") == 0
    assert "the same (byte for byte, times such as 0.12s apart); in --lazy=all " in capfd.readouterr().out
    assert check(place, tmp_path, monkeypatch, differs=DIFFERENT) == 1
    lines = capfd.readouterr().out.splitlines()
    assert sum("output differs from stock Python's (line 1)" in line for line in lines) == 2 and sum(line.endswith("0 of 1 programs do the same as with stock Python") for line in lines) == 2
    (command,) = (line.partition("cd ")[2] for line in lines if "lazy-check --mode all" in line)
    done = subprocess.run(["sh", "-c", f"cd {command}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "the same" in done.stdout, done  # there both runs are Ladewerk's, and each begins with an empty directory


def test_a_check_of_nothing_proves_nothing() -> None:
    """What cannot be installed is said and counts nowhere; what was not lazy, or not the same, counts as wrong."""
    tool = Tool("one", "cli", ("one",), ())
    way_rows: dict[str, Any] = {way.key: {"check": {}, "skipped": "one is not installed"} for way in checking.COMPARED}
    tally = checking.Tally()
    assert checking.judge(tally, tool, None, way_rows) == ["not compared: one is not installed"] and not tally.proved and not tally.wrong
    assert checking.summary(tally, 1)[-1] == "not compared: one: one is not installed" and "--lazy=all: 0 of 0 programs do the same as with stock Python" in checking.summary(tally, 1)
    work = measuring.Work(tool, Site("3.x", (3, 11), Path("/s"), "/bin"), Path("/env/bin/python"), Path("/w"), Path("/out"))
    eager = {**{key: {"check": {}} for key in way_rows}, ALL.key: {"check": {}, "skipped": "not known"}}
    assert checking.judge(tally, tool, work, eager) == ["--lazy=all: nothing was lazy: not known"] and tally.wrong == 1 and not tally.proved


def test_a_check_is_of_this_section() -> None:
    with pytest.raises(SystemExit):
        suite.parse(["--check"])
    assert suite.parse(["--check", "--only", "lazy"]).check


def test_a_program_that_fails_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(site, monkeypatch, "raise SystemExit('no such luck')\n")
    assert {row["skipped"] for row in found.values()} == {"with stock Python it ends with exit status 1: no such luck"}


def test_a_package_that_cannot_be_had_is_said(site: Site) -> None:
    class Home:
        def empty(self, name: str) -> Path:
            return Path(sys.executable)

        def packages(self, name: str, wanted: Any) -> dict[str, str]:
            return dict.fromkeys(wanted, "pip: no such package")

    with pytest.raises(Unavailable, match=r"one is not installed \(pip: no such package\)"):
        measuring.installed(site, Home(), "lazy-one", ["one"])  # type: ignore[arg-type]


BENCHMARK = """\
import pyperf


def work(loops):
    start = pyperf.perf_counter()
    for _ in range(loops):
        sum(range(1000))
    return pyperf.perf_counter() - start


if __name__ == "__main__":
    runner = pyperf.Runner()
    runner.argparser.add_argument("kind")
    options = runner.parse_args()
    runner.bench_time_func(f"{options.kind}-timed", work)
    runner.bench_func(f"{options.kind}-called", sum, [1, 2])
"""


def test_loops(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark is a module that a script imports; what it says is CPU time of a loop, and of all its parts together."""
    environment = site.state / "environment"
    there = environment / "lib/python3.x/site-packages/pyperformance/data-files/benchmarks/bm_sample"
    there.mkdir(parents=True)
    (there / "run_benchmark.py").write_text(BENCHMARK)
    (environment / "bin").mkdir()
    (python := environment / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(steady, "installed", lambda *_: python)
    monkeypatch.setattr(steady, "STEADY", [STOCK, AGAIN])
    found = steady.measure(site, None, steady.Loop("sample", 50, arguments=("kind",)), 1, Effort(2, 60.0))  # type: ignore[arg-type]
    assert [len(row["inside_cpu_us"]) for row in found] == [2, 2] and all(0.1 < value < 10_000 for row in found for value in row["inside_cpu_us"]), found
    (gone, _) = steady.measure(site, None, steady.Loop("nosuch", 1), 1, Effort(1, 60.0))  # type: ignore[arg-type]
    assert gone["skipped"] == "this pyperformance has no such benchmark"


def test_ways_are_told_apart(site: Site) -> None:
    """Only Ladewerk's ways are Ladewerk's; each has a cache of its own."""
    commands = {way.key: way.command(Path("/env/bin/python"), ["/env/bin/tool", "x"], site.env(Path("/env/bin/python")), site.state / way.key) for way in WAYS}
    assert commands["stock"].argv == ("/env/bin/python", "/env/bin/tool", "x") and commands["stock"].env["LADEWERK"] == "0"
    assert commands["language"].argv[1:3] == ("-X", "lazy_imports=all")
    assert commands["ladewerk-all"].argv == ("/env/bin/ladewerk", "run", "--freshness", "stat", "--lazy=all", "/env/bin/tool", "x")
    assert "--lazy" not in " ".join(commands["ladewerk-stat"].argv)
    caches = [command.env["LADEWERK_CACHE"] for key, command in commands.items() if key.startswith("ladewerk")]
    assert len(set(caches)) == len(caches) == 5
    assert programs.TOOLS[0].environment == "lazy-poetry"
