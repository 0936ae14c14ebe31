# SPDX-License-Identifier: MIT
"""Two revisions, or two reports: what is called a difference, what is not, and what cannot be compared."""
from __future__ import annotations

import itertools
import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import agree
import compare
import contenders
import corpus
import instructions
import machine
import pytest
import suite
import synthetic
from comparing import measuring, revisions
from comparing.lines import lines_table, of_figure, of_two, summary
from comparing.parts import PARTS
from comparing.reports import figures_of, keyed, read
from comparing.sides import SIDES, sessions
from figures import Figure
from pair import Command, Failed
from report import Unfit
from sections import Effort, Interpreter, Place
from stats import Verdict

ROUNDS = 15
MODULES = 2000


# --- two revisions ------------------------------------------------------------------------------------------------------

def timed_rows(rng: random.Random, more: float = 0.0, second: bool = False) -> list[dict[str, Any]]:
    """One-line modules at 10 us each with 3 % of noise, MORE us added to the checkout's; a slow round slows all of its sides."""
    weather = [1 + abs(rng.gauss(0, 0.1)) for _ in range(ROUNDS)]

    def samples(us: float) -> list[float]:
        return [MODULES * us / 1000 * slow * rng.gauss(1, 0.03) for slow in weather]

    rows = []
    for side in SIDES:
        ms = samples(10.0 + (more if side == "after" else 0.0))
        rows.append({
            "section": "modules", "python": "3.11", "side": side, "workload": "oneline", "title": "one-line modules", "contender": "ladewerk-stat",
            "label": "Ladewerk, stat", "base": True, "check": {}, "inside_cpu_ms": ms, "inside_wall_ms": ms, **({"second": True} if second else {}),
        })
    return rows


def verdicts(rows: list[dict[str, Any]]) -> set[Verdict]:
    return {line.verdict for line in measuring.lines(rows)}


@pytest.mark.parametrize("seed", range(20))
def test_slowed_build_is_caught(seed: int) -> None:
    """20 us for each import are 200 %; 1.5 us is 15 %, and five times the noise of a sample."""
    rng = random.Random(seed)
    for more in (20.0, 1.5):
        assert verdicts([*timed_rows(rng, more), *timed_rows(rng, more, second=True)]) == {Verdict.MORE}


def test_unslowed_build_is_not() -> None:
    """The control: of 300 pairs of equal builds the interval alone takes some for different; the noise beside it hardly any, a second measurement none."""
    rng = random.Random(1)
    once = [timed_rows(rng) for _ in range(300)]
    alone = [figure.ratio for rows in once for figure in measuring.figures(rows)]
    assert sum(ratio is not None and (ratio.low > 1 or ratio.high < 1) for ratio in alone) > 6
    assert sum(verdicts(rows) != {Verdict.SAME} for rows in once) <= 5
    assert all(verdicts([*rows, *timed_rows(rng, second=True)]) == {Verdict.SAME} for rows in once)


def test_faster_build_is_seen_as_well() -> None:
    rng = random.Random(1)
    found = measuring.lines([*timed_rows(rng, -2.0), *timed_rows(rng, -2.0, second=True)])
    assert {line.verdict for line in found} == {Verdict.LESS} and not any(line.slower for line in found)
    assert "2 faster or less" in summary(found) and "0 slower" in summary(found)


def test_difference_that_does_not_come_again_is_none() -> None:
    rng = random.Random(1)
    found = measuring.lines([*timed_rows(rng, 5.0), *timed_rows(rng, second=True)])
    assert {line.verdict for line in found} == {Verdict.SAME}
    assert "not confirmed when measured once more" in lines_table(found, "before", "after")


def test_difference_of_the_second_measurement_alone_is_none() -> None:
    """It was made because another figure of the same runs differed."""
    rng = random.Random(1)
    found = measuring.lines([*timed_rows(rng), *timed_rows(rng, 5.0, second=True)])
    assert {(line.verdict, line.second) for line in found} == {(Verdict.SAME, None)}
    assert "once more" not in lines_table(found, "before", "after")


def test_noise_is_no_difference() -> None:
    """An interval that lies above 1, but within what the same build differs from itself."""
    base, slow = [1.0] * 9, [1.03] * 9
    assert of_figure(Figure("k", "l", "ms", slow, base, [1.05] * 9)).verdict is Verdict.SAME
    assert of_figure(Figure("k", "l", "ms", slow, base, [1.0] * 9)).verdict is Verdict.MORE


def test_few_rounds_claim_nothing() -> None:
    assert of_figure(Figure("k", "l", "ms", [9.0] * 8, [1.0] * 8, [1.0] * 8)).verdict is Verdict.FEW


def test_counted_figures_need_no_rounds() -> None:
    """And may be zero, which nothing can be divided by."""
    line = of_figure(Figure("k", "l", "per module", [2.0], [0.0], [0.0], counted=True))
    assert line.verdict is Verdict.MORE and line.ratio is None
    assert "**more**" in lines_table([line], "before", "after")


def test_what_did_not_run_on_one_side_is_no_figure() -> None:
    rows = timed_rows(random.Random(1))
    rows[0] = {key: value for key, value in rows[0].items() if not key.startswith("inside")} | {"skipped": "it is gone"}
    assert measuring.lines(rows) == []


def comparison(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The document of a comparison."""
    return {**synthetic.document(rows), "comparison": {"before": "v1", "commit": "0" * 40, "after": "v2", "slowed_us": 0, "same": False}, **more}


@pytest.mark.parametrize(("more", "status"), [(20.0, 1), (0.0, 0)])
def test_fail_on_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: float, status: int) -> None:
    rng, file = random.Random(2), tmp_path / "report.json"
    file.write_text(json.dumps(comparison([*timed_rows(rng, more), *timed_rows(rng, more, second=True)])))
    assert compare.main([str(file)]) == 0
    assert compare.main([str(file), "--fail-on-slower"]) == status
    out = capsys.readouterr().out
    assert ("**more**" in out) == bool(status) and "## CPython 3.11: One-line modules in one package, n = 15" in out


def test_report_says_what_makes_it_doubtful() -> None:
    document = comparison([{**timed_rows(random.Random(1))[0], "skipped": "it broke"}], interrupted="interrupted")
    document["comparison"] |= {"same": True, "slowed_us": 20}
    text = compare.markdown(document)
    for said in ("it broke", "the same sources", "20 us for each import", "ended before its end"):
        assert said in text


# --- two reports --------------------------------------------------------------------------------------------------------

def report_of(rng: random.Random, cost: Callable[[int], float] = lambda n: 1.0, rounds: int = ROUNDS) -> dict[str, Any]:
    """Of two interpreters and ten workloads in three sections; Ladewerk takes COST(n) times half of stock's time."""
    rows: list[dict[str, Any]] = []
    for python, (n, (section, load)) in itertools.product(("3.11", "3.12"), enumerate(itertools.product(("startup", "programs", "modules"), "abcdefghij"))):
        for contender, share in (("stock", 1.0), ("again", 1.0), ("ladewerk-stat", 0.5 * cost(n))):
            ms = [10 * share * rng.gauss(1, 0.02) for _ in range(rounds)]
            rows.append({
                "section": section, "python": python, "workload": load, "title": load, "contender": contender, "label": contender, "check": {},
                "base": contender == "stock", "cpu_ms": ms, "wall_ms": [rng.gauss(1, 0.02) * value for value in ms], "inside_wall_ms": ms,
            })
    return synthetic.document(rows)


def written(file: Path, document: dict[str, Any]) -> str:
    file.write_text(json.dumps(document))
    return str(file)


def test_keys_of_figures() -> None:
    """Unique over all sections and interpreters; they say where a figure is from, and change neither with titles nor with the order of rows."""
    document = report_of(random.Random(1))
    found = figures_of(document)
    assert len(found) == 2 * 2 * 2 * 30  # interpreters, fields, contenders but the control, workloads
    for key in found:
        python, section, *_ = key.split("/")
        assert python in ("3.11", "3.12") and section in [known.key for known in suite.SECTIONS] and " " not in key
    renamed = [{**row, "title": "another", "label": "another"} for row in reversed(document["rows"])]
    assert figures_of({**document, "rows": renamed}).keys() == found.keys()


def test_two_figures_of_one_key_are_refused() -> None:
    figure = Figure("3.11/a/b", "", "ms", [1.0])
    assert keyed([figure]) == {"3.11/a/b": figure}
    with pytest.raises(ValueError, match="3.11/a/b"):
        keyed([figure, replace(figure, label="other")])


def test_two_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second machine is three times as slow, which cancels out of all ratios; one workload really is slower."""
    rng = random.Random(4)
    one, other = report_of(rng), report_of(rng, lambda n: 1.2 if n == 7 else 1.0)
    for row in other["rows"]:
        row |= {field: [3 * value for value in row[field]] for field in ("cpu_ms", "wall_ms", "inside_wall_ms")}
    names = [written(tmp_path / "one.json", one), written(tmp_path / "other.json", other)]
    assert compare.main(names) == 0
    assert compare.main([*names, "--fail-on-slower"]) == 1
    capsys.readouterr()
    found = [of_two(figures_of(one)[key], figure) for key, figure in figures_of(other).items()]
    slower = {line.key for line in found if line.slower and "stat" in line.key}
    assert slower == {f"{python}/startup/h/ladewerk-stat/{field}" for python in ("3.11", "3.12") for field in ("cpu_ms", "wall_ms")}


def test_nothing_to_divide_by() -> None:
    """Waits that there were none of, in one report: the intervals decide."""
    none, some = (Figure("k", "l", "ms", [value] * 9) for value in (0.0, 3.0))
    assert of_two(none, some).verdict is Verdict.MORE and of_two(some, none).verdict is Verdict.LESS and of_two(none, none).verdict is Verdict.SAME
    assert of_two(none, some).ratio is None
    few = replace(none, values=[0.0] * 8)
    assert of_two(few, some).verdict is Verdict.FEW


def test_runs_of_one_machine_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(5)
    names = [written(tmp_path / f"{n}.json", report_of(rng)) for n in range(2)]
    assert agree.main(names) == 0
    out = capsys.readouterr().out
    assert "The runs agree." in out and "of 240 pairs" in out


def test_load_is_no_disagreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half as fast under load: ratios hold. The control: the same of an idle machine is a disagreement."""
    rng = random.Random(8)
    one, other = report_of(rng), report_of(rng)
    for row in other["rows"]:
        row |= {field: [2 * value for value in row[field]] for field in ("cpu_ms", "wall_ms", "inside_wall_ms")}
    names = [written(tmp_path / "one.json", one), written(tmp_path / "other.json", other)]
    assert agree.main(names) == 1
    written(tmp_path / "other.json", {**other, "neighbours": {**other["neighbours"], "others": 0.5}})
    assert agree.main(names) == 0
    assert "of 120 pairs" in capsys.readouterr().out


def test_runs_that_differ_do_not_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: a third of the workloads is 10 % slower in one of them."""
    rng = random.Random(5)
    names = [written(tmp_path / "one.json", report_of(rng)), written(tmp_path / "other.json", report_of(rng, lambda n: 1.1 if n % 3 == 0 else 1.0))]
    assert agree.main(names) == 1
    assert "The runs do not agree." in capsys.readouterr().out


def test_expected_number_is_what_happens() -> None:
    rng = random.Random(6)

    def figures() -> dict[str, Figure]:
        return {str(n): Figure(str(n), "", "ms", [rng.expovariate(1) for _ in range(21)]) for n in range(2000)}

    found = agree.agreement(figures(), figures())
    assert found.expected / 2 < len(found.apart) < found.expected * 2


def test_few_rounds_do_not_agree_or_disagree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(7)
    names = [written(tmp_path / f"{n}.json", report_of(rng, rounds=8)) for n in range(2)]
    assert agree.main(names) == 2
    assert "enough rounds" in capsys.readouterr().err


def test_no_reports(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    for name, why in ((tmp_path / "none.json", "No such file"), (other, "no report"), (Path(__file__), "not JSON")):
        with pytest.raises(Unfit, match=why):
            read(str(name))
    with pytest.raises(Unfit, match="itself a comparison"):
        read(written(tmp_path / "comparison.json", comparison([])))
    assert compare.main([str(other), str(other)]) == 2
    assert agree.main([str(other)]) == 2


# --- options and revisions ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv", [
    [], ["a.json", "b.json", "c.json"], ["--compare", "HEAD", "a.json"], ["--compare", "HEAD", "--only", "scan"], ["--compare", "HEAD", "-n", "0"],
])
def test_nonsense_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        compare.parse(argv)
    assert end.value.code == 2 and "error" in capsys.readouterr().err


def test_sleep() -> None:
    assert compare.settings({}) == {} == compare.settings({"LADEWERK_BENCH_SLEEP": ""})
    assert compare.settings({"LADEWERK_BENCH_SLEEP": "20"}) == {"cmake.define.LADEWERK_BENCH_SLEEP": "20"}
    with pytest.raises(ValueError, match="microseconds"):
        compare.settings({"LADEWERK_BENCH_SLEEP": "a while"})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git not installed")
    tree = tmp_path_factory.mktemp("repository")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tree, "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments], check=True)

    git("init", "-q")
    (tree / "room").mkdir()
    for text in ("as before", "as committed"):
        (tree / "room/file").write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", text)
    (tree / "room/file").write_text("edited")
    return tree


def test_revision_as_it_was(repository: Path, tmp_path: Path) -> None:
    """Without what is not committed, and without a trace in the repository; a tree that has it already is left as it is."""
    def state() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in repository.rglob("*") if file.is_file()}

    before = state()
    second, first = (revisions.resolve(repository, name) for name in ("HEAD", "HEAD~1"))
    tree = revisions.extract(repository, second, tmp_path / "tree")
    assert (tree / "room/file").read_text() == "as committed"
    (tree / "built").touch()
    assert (revisions.extract(repository, second, tree) / "built").exists()
    assert (revisions.extract(repository, first, tree) / "room/file").read_text() == "as before" and not (tree / "built").exists()
    assert state() == before


def test_no_such_revision(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nosuch", "--all", ""):
        with pytest.raises(revisions.Unknown, match="no revision"):
            revisions.resolve(repository, name)
    with pytest.raises(revisions.Unknown, match="no git repository"):
        revisions.resolve(repository / "room", "HEAD")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(revisions.Unknown, match="not a git repository"):
        revisions.resolve(tmp_path, "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(revisions.Unknown, match="git is not installed"):
        revisions.resolve(repository, "HEAD")


# --- instructions -------------------------------------------------------------------------------------------------------

def tool(directory: Path, name: str, text: str, status: int = 0) -> None:
    """A program NAME that says TEXT on standard error."""
    file = directory / name
    file.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}' >&2\nexit {status}\n")
    file.chmod(0o755)


def test_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What perf and valgrind say; and why neither says anything."""
    monkeypatch.setenv("PATH", str(tmp_path))
    command = Command(("true",))

    def count() -> Sequence[object] | str:
        instructions.counter.cache_clear()
        found = instructions.counter()
        return found if isinstance(found, str) else (found[0], found[1](command))

    assert count() == "perf not installed; valgrind not installed"
    tool(tmp_path, "valgrind", "==7== Collected : 1200\n==8== Collected : 34")
    assert count() == ("valgrind", 1234)
    tool(tmp_path, "perf", "<not supported>,,instructions:u,0,100.00,,")
    assert count() == ("valgrind", 1234)
    tool(tmp_path, "perf", "5678,,instructions:u,99,100.00,,")
    assert count() == ("perf", 5678)
    tool(tmp_path, "perf", "no access", status=1)
    tool(tmp_path, "valgrind", "broken", status=1)
    assert count() == "perf: no access; valgrind: broken"
    with pytest.raises(Failed, match="broken"):
        instructions.by_valgrind(command)
    instructions.counter.cache_clear()


# --- a run --------------------------------------------------------------------------------------------------------------

def test_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sides of this environment, for real: same modules, rounds in common, nothing to claim."""
    python = Path(sys.executable)
    if not python.with_name("ladewerk").exists():
        pytest.skip("ladewerk not installed here")
    facts = machine.interpreter(python)
    sides = [Interpreter(f"3.11-{side}", python, facts) for side in SIDES]
    place = Place(sides, tmp_path, tmp_path / "state", None, "quick")
    place.kept["corpus"] = corpus.generate(tmp_path / "corpus", corpus.Shape(entries=2, modules=2, oneline=10))
    monkeypatch.chdir(tmp_path)
    suite.fresh_state(place.state, sides)
    part = next(part for part in PARTS if part.key == "modules")
    short = replace(part, rivals=lambda place: contenders.those("ladewerk-stat", contenders.PROGRAMS))
    rows = measuring.measure(short, place, sessions(place, sides, small=False), Effort(2, math.inf))
    assert [(row["python"], row["side"], row.get("skipped")) for row in rows] == [("3.11", side, None) for side in SIDES]
    assert {row["check"]["modules"] for row in rows} == {rows[0]["check"]["modules"]}
    found = measuring.lines(rows)
    assert {line.key.rpartition("/")[2] for line in found} == {"inside_cpu_ms", "inside_wall_ms"}
    assert {line.verdict for line in found} == {Verdict.FEW}


@pytest.fixture
def prepared(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command line that compares HEAD of a small repository with what is in it; both sides are this environment, whatever they would be built from."""
    python = Path(sys.executable)
    monkeypatch.setattr(compare, "CHECKOUT", repository)
    monkeypatch.setattr(suite, "prepare", lambda found, *_: Interpreter(found.key, python, machine.interpreter(python)))
    monkeypatch.chdir(tmp_path)
    return ["--compare", "HEAD", "--python", sys.executable, "--only", "startup", "-n", "1", "--build", str(tmp_path / "build"), "-o", str(tmp_path / "out")]


def test_whole_comparison(prepared: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot run says why; the report is what was printed, and can be shown anew."""
    if not Path(sys.executable).with_name("ladewerk").exists():
        pytest.skip("ladewerk not installed here")
    assert compare.main([*prepared, "--fail-on-slower"]) == 2
    out = capsys.readouterr().out
    assert "ladewerk run -c pass, CPU" in out and "`ladewerk enable` failed" in out and "fewer than 9 pairs" in out
    assert (tmp_path / "out/report.md").read_text() == out
    assert compare.main([str(tmp_path / "out/report.json")]) == 2
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(("end", "status", "said"), [(KeyboardInterrupt, 130, "interrupted"), (RuntimeError("it broke"), 2, "RuntimeError: it broke")])
def test_end_within_a_section(
    prepared: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: BaseException, status: int, said: str,
) -> None:
    """There is a report of what there is, with the reason in it."""
    def measure(*_: object) -> None:
        raise end

    monkeypatch.setattr(measuring, "measure", measure)
    assert compare.main(prepared) == status
    assert said in (tmp_path / "out/report.md").read_text() == capsys.readouterr().out


def test_no_such_revision_is_said(prepared: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([word.replace("HEAD", "nosuch") for word in prepared]) == 2
    assert capsys.readouterr().err == "run.sh: --compare: no revision nosuch in this repository\n"
