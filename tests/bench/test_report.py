# SPDX-License-Identifier: MIT
"""What a report says, of samples whose answers are known."""
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import headline
import importing.figures
import importing.goals
import importing.tables
import pytest
import report
import series
import suite
from drawing import Drawer
from figures import Figure
from goals import Goal, goals_table
from head import warnings
from sections import Section
from stats import Median, Verdict
from synthetic import FACTS, document, row, timed
from tables import Row, count_text, ratio_text, signed

ROUNDS = [100.0 + k for k in range(9)]
QUIET, NOISY = ({"load_before": 0.1, "others": others, "stolen": 0.0} for others in (0.01, 0.2))
SAME = [99.0, 101.0] * 4 + [100.0]  # noise of 1 %


def programs(base: Sequence[float] = ROUNDS, python: str = "3.11") -> list[Row]:
    """Three programs, Ladewerk at 0.8, 0.7 and 0.6 of stock."""
    return [
        one for place, load in enumerate(("alpha", "beta", "gamma"))
        for one in timed("programs", load, {"stock": 1, "again": 1.002, "gc": 0.9, "ladewerk-stat": 0.8 - place / 10}, base, python)
    ]


def line_of(text: str, begin: str) -> list[str]:
    """The cells of the first line of a table that begins so."""
    return next([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(f"| {begin}"))


# --- what is said of one number ---------------------------------------------------------------------------------------

def test_ratio_has_noise_and_verdict_beside_it() -> None:
    clear, noise = Median(0.8, 0.79, 0.81, 9), Median(1.001, 0.996, 1.003, 9)
    assert ratio_text(clear, noise) == "0.800 [0.790, 0.810] ±0.004"
    assert ratio_text(clear) == "0.800 [0.790, 0.810]"
    assert ratio_text(Median(0.998, 0.99, 1.002, 9), noise).endswith("±0.004 within the noise")
    assert ratio_text(Median(0.994, 0.993, 0.9955, 9), noise).endswith("±0.004")
    assert ratio_text(Median(0.8, 0.79, 0.81, 8), noise).endswith("no claim")
    assert ratio_text(None) == ""


def test_difference_is_judged_against_nothing() -> None:
    assert signed(Median(0.3, 0.2, 0.4, 9), Median(0.0, -0.1, 0.05, 9)) == "+0.30 [+0.20, +0.40] ±0.10"
    assert signed(Median(0.3, 0.08, 0.4, 9), Median(0.0, -0.1, 0.09, 9)).endswith("within the noise")
    assert signed(Median(-0.3, -0.4, -0.2, 9)) == "-0.30 [-0.40, -0.20]"
    assert signed(Median(0.3, 0.2, 0.4, 5)).endswith("no claim")


def test_too_few_rounds_are_said_in_the_heading() -> None:
    assert count_text([15, 15, 0]) == ", n = 15"
    assert count_text([9, 15]) == ", n = 9 to 15"
    assert count_text([5]) == ", n = 5: no claims"
    assert count_text([0]) == ""


@pytest.mark.parametrize(("found", "verdict"), [
    (Median(0.7, 0.69, 0.71, 9), "met"),
    (Median(0.9, 0.89, 0.91, 9), "**missed**"),
    (Median(0.79, 0.78, 0.81, 9), "open: within the interval"),
    (Median(0.7, 0.69, 0.71, 8), "no claim, n = 8"),
    (0.8, "met"),
    (0.81, "**missed**"),
    (None, "not measured: no network"),
])
def test_goal_is_met_by_the_whole_interval(found: Median | float | None, verdict: str) -> None:
    goal = Goal("a text", "<= 0.80", lambda v: v <= 0.8, found, "sympy", "no network")
    assert goal.verdict == verdict
    assert line_of(goals_table([goal]), "a text")[-1] == verdict


# --- figures, plots and goals of rows ---------------------------------------------------------------------------------

def test_figures_of_rows() -> None:
    rows = [*programs(), row("programs", "alpha", "pycds", skipped="not here"), *programs(python="3.12")]
    figures = {figure.key: figure for figure in series.figures("cpu_ms", "rss_mb")(rows)}
    assert len(figures) == 2 * 3 * 3, "stock, gc and stat; the control and what was skipped are none"
    stat = figures["3.11/programs/beta/ladewerk-stat/cpu_ms"]
    assert stat.ratio and stat.ratio.value == pytest.approx(0.7) and stat.unit == "ms"
    assert stat.noise and stat.noise.value == pytest.approx(1.002) and stat.verdict is Verdict.LESS
    assert figures["3.12/programs/beta/stock/cpu_ms"].ratio is None


def test_figures_of_what_was_looked_at_once() -> None:
    kb = {"Pss": 1024}
    rows = [row("memory", "alpha", key, parent_kb={"all": kb}, children_kb=[{"all": kb}] * children) for key, children in (("stock", 3), ("ladewerk-stat", 1))]
    stock, stat = importing.figures.memory([*rows, row("memory", "alpha", "pycds", skipped="not here")])
    assert stock.values == [4] and stock.ratio is None
    assert stat.values == [2] and stat.ratio and stat.ratio.value == 0.5 and stat.verdict is Verdict.FEW
    [calls] = importing.figures.calls([row("syscalls", "oneline", "stock", calls={"openat": 1.5, "read": 2.25}), row("syscalls", "oneline", "gc", skipped="no strace")])
    [block] = importing.figures.blocks([row("hyperfine", "alpha", "gc", hyperfine={"wall_ms": [1.0, 2.0]}), row("hyperfine", "alpha", "stock", skipped="no hyperfine")])
    assert block.values == [1.0, 2.0] and block.ratio is None and block.place == ("3.11", "hyperfine", "alpha", "gc", "wall_ms")
    assert calls.values == [3.75] and calls.key == "3.11/syscalls/oneline/stock/calls"


def test_hyperfine_has_a_control_as_well() -> None:
    """Nothing pairs its blocks: what stock's own two differ by is no difference, however narrow their intervals are."""
    walls = {"stock": 100.0, "again": 110.0, "gc": 95.0, "ladewerk-stat": 50.0}
    rows = [row("hyperfine", "alpha", key, hyperfine={"wall_ms": [wall + k / 10 for k in range(9)]}) for key, wall in walls.items()]
    gc, ours = (line_of(importing.tables.hyperfine(rows), who)[-1] for who in ("GC", "LADEWERK-STAT"))
    assert gc.endswith("within the noise)") and "0.950 [" in gc and "±0.1" in gc
    assert "0.502 [" in ours and "±0.1" in ours and "noise" not in ours


def test_plot_of_paths_has_slopes() -> None:
    rows = [one for count in (1, 10, 100) for one in timed("paths", f"entries-{count}", {"stock": count, "ladewerk-stat": 0.5}, ROUNDS, count=200)]
    [plot] = importing.figures.paths([*rows, *timed("paths", "entries-spread", {"stock": 1}, ROUNDS)])
    notes = {line.label: line.note for line in plot.lines}
    assert notes == {"STOCK": "slope 1.00 [1.00, 1.00]", "LADEWERK-STAT": "slope 0.00 [0.00, 0.00]"}
    assert plot.lines[0].xs == [1, 10, 100] and plot.lines[0].kind == "stock"


def test_bars_leave_out_who_did_not_run() -> None:
    rows = [*programs(), row("programs", "alpha", "pycds", skipped="not here"), *timed("programs", "beta", {"pycds": 0.85}, ROUNDS)]
    [plot] = importing.figures.programs("programs")(rows)
    lines = {line.label: line for line in plot.lines}
    assert plot.names == ["Alpha", "Beta", "Gamma"] and plot.mark == 1
    assert "STOCK" not in lines, "it is what the others are divided by"
    assert lines["PYCDS"].xs == [1] and lines["PYCDS"].ys == [pytest.approx(0.85)]


def test_plots_of_several_interpreters_are_several() -> None:
    plots = importing.figures.programs("pythons")([*programs(), *programs(python="3.13t")])
    assert [plot.key for plot in plots] == ["pythons-cpu-3.11", "pythons-cpu-3.13t"]


def test_goals_of_programs() -> None:
    goals = {goal.text: goal for goal in importing.goals.programs(programs())}
    middle, worst = (goals[f"programs, `stat`: process CPU of stock, {which}"] for which in ("median", "worst"))
    assert isinstance(middle.found, Median) and middle.found.value == pytest.approx(0.7) and middle.verdict == "met"
    assert isinstance(worst.found, Median) and worst.found.value == pytest.approx(0.8) and worst.where == "alpha"
    assert goals["programs, `frozen`: process CPU of stock, median"].verdict == "not measured"


def test_parts_of_several_interpreters_have_headings() -> None:
    assert "CPython" not in importing.tables.programs(programs())
    text = importing.tables.programs([*programs(), *programs(python="3.12")])
    assert text.index("### CPython 3.11") < text.index("### CPython 3.12")
    assert line_of(text, "LADEWERK-STAT")[1:] == ["0.800 [0.800, 0.800] ±0.002", "0.700 [0.700, 0.700] ±0.002", "0.600 [0.600, 0.600] ±0.002"]


# --- the headline -----------------------------------------------------------------------------------------------------

def figures_of(rows: Sequence[Row]) -> list[Figure]:
    return report.all_figures(rows, suite.SECTIONS)


def test_headline_table() -> None:
    more = timed("paths", "entries-1000", {"stock": 1, "ladewerk-stat": 0.02}, ROUNDS, count=200)
    text = headline.table_of(figures_of([*more, *programs()]))
    assert text.splitlines()[0] == "| of stock; below 1 is less | stock | stock, `gc.disable()` | Ladewerk, stat |"
    assert line_of(text, "beta") == ["beta: CPU of the process", "104 ms", "0.900 [0.900, 0.900] ±0.002", "0.700 [0.700, 0.700] ±0.002"]
    assert line_of(text, "median of these 3")[-1] == "0.700 [0.700, 0.700] ±0.002"
    assert line_of(text, "200 modules behind")[-1] == "0.020 [0.020, 0.020]"
    assert [line[2:7] for line in text.splitlines()[2:]] == ["alpha", "beta:", "gamma", "media", "200 m"], "programs first"
    assert headline.table_of([]) == ""


def test_other_interpreters_have_lines_of_their_own() -> None:
    others = [{**one, "section": "pythons"} for python in ("3.11", "3.13t") for one in programs([2 * value for value in ROUNDS], python)]
    text = headline.table_of(figures_of([*others, *programs()]))
    assert line_of(text, "alpha")[1] == "104 ms" and line_of(text, "3.13t: alpha")[1] == "208 ms"
    assert len(text.splitlines()) == 2 + 3 + 1 + 3, "the main one's are those of the section of programs"


def test_figures_that_stand_alone_have_a_table_of_their_own() -> None:
    saved = Figure("3.11/watch/save/ladewerk-inotify/written_us", "inotify: a save, until it is known", "us", [50.0] * 9)
    check = Figure("3.11/watch/check/ladewerk-inotify/client_ns", "inotify: a check | of the poll", "ns", [150.0] * 9, [100.0] * 9, SAME)
    text = headline.table_of([saved, check, Figure("3.11/watch/check/other/client_ns", "other", "ns", [1.0])])
    assert line_of(text, "inotify: a save")[1:] == ["50.0 [50.0, 50.0] us", ""]
    assert "| inotify: a check \\| of the poll | 150 [150, 150] ns | 1.500 [1.500, 1.500] ±0.010 |" in text and "other" not in text
    few = Figure(saved.key, saved.label, saved.unit, saved.values[:8])
    [reason] = headline.refusals(document(programs()), [*figures_of(programs()), few])
    assert "fewer than 9 rounds: inotify: a save" in reason


def test_headline_plot_is_of_the_main_interpreters_programs() -> None:
    others = [{**one, "section": "pythons", "python": "3.13t"} for one in programs()]
    [plot] = headline.plot_of(figures_of([*programs(), *others]))
    assert plot.names == ["alpha", "beta", "gamma"]
    assert {line.label: line.ys for line in plot.lines} == {"stock, gc.disable()": pytest.approx([0.9] * 3), "Ladewerk, stat": pytest.approx([0.8, 0.7, 0.6])}
    assert headline.plot_of([]) == headline.plot_of(figures_of(others)) == []


def test_headline_claims_nothing_of_few_rounds() -> None:
    assert line_of(headline.table_of(figures_of(programs(ROUNDS[:5]))), "alpha")[-1].endswith("no claim")


@pytest.mark.parametrize(("changes", "says"), [
    ({"effort": "quick"}, "--quick"),
    ({"neighbours": {"load_before": 3, "others": 0.2, "stolen": 0.1}}, "others used 30.0 %"),
    ({"section_neighbours": {"programs": NOISY, "watch": NOISY}}, "others used 20.0 % of the machine in section `programs`"),
    ({"revision": "0123abc-dirty"}, "uncommitted"),
    ({"revision": ""}, "revision"),
    ({"interrupted": "terminated"}, "before its end"),
    ({"why_not": "no compiler"}, "no compiler"),
    ({"rows": programs(ROUNDS[:8])}, "fewer than 9 rounds: alpha: CPU of the process; beta"),
    ({"rows": []}, "no section `programs`"),
])
def test_what_is_not_to_be_quoted(changes: dict[str, Any], says: str) -> None:
    good = document(programs())
    assert headline.refusals(good, figures_of(good["rows"])) == []
    assert headline.refusals({**good, "section_neighbours": {"programs": QUIET, "watch": NOISY}}, figures_of(good["rows"])) == [], "of what is not in it"
    found = {**good, **changes}
    [reason] = headline.refusals(found, figures_of(found["rows"]))
    assert says in reason


def test_what_stands_alone_is_quoted_of_idle_sections_only() -> None:
    """No ratio to anything of the same round takes away what others did."""
    saved = Figure("3.11/watch/save/ladewerk-inotify/written_us", "inotify: a save", "us", [50.0] * 9)
    figures = [*figures_of(programs()), saved]
    quiet, noisy = ({"section_neighbours": {"programs": QUIET, "watch": watch}} for watch in (QUIET, NOISY))
    assert "inotify: a save" in headline.text_of(document(programs(), **quiet), figures, "")
    text = headline.text_of(document(programs(), **noisy), figures, "")
    assert "inotify" not in text and "beta: CPU" in text and "at most 1.0 %" in text


def quote(tmp_path: Path, found: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "report/plots").mkdir(parents=True, exist_ok=True)
    (tmp_path / "report/report.json").write_text(json.dumps(found))
    (tmp_path / "report/plots/headline.svg").write_text("<svg/>")
    command = [sys.executable, "-B", headline.__file__, tmp_path / "report", "--readme", tmp_path / "README.md", "--plot", tmp_path / "its.svg"]
    return subprocess.run(command, capture_output=True, text=True)


def test_readme_gets_what_may_be_quoted(tmp_path: Path) -> None:
    """Between its marks, again and again; what may not be quoted changes nothing."""
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{headline.BEGIN}\nold\n{headline.END}\n\nAfter\n")
    assert quote(tmp_path, document(programs())).returncode == 0
    text = readme.read_text()
    assert text.startswith("# Before\n\n" + headline.BEGIN) and text.endswith(headline.END + "\n\nAfter\n") and "old" not in text
    for said in ("2030-01-02", "`bench/run.sh`", "0123abc", "A processor, 2 cores", "CPython 3.11.9", "(its.svg)", "| beta: CPU of the process | 104 ms |", "at most 1.0 %"):
        assert said in text
    assert (tmp_path / "its.svg").read_text() == "<svg/>"
    refused = quote(tmp_path, document(programs(), effort="quick", revision="x-dirty"))
    assert refused.returncode == 1 and "--quick; the checkout had uncommitted changes" in refused.stderr
    assert readme.read_text() == text
    assert quote(tmp_path, document(programs())).returncode == 0 and readme.read_text() == text
    readme.write_text("no marks")
    assert quote(tmp_path, document(programs())).returncode == 1 and readme.read_text() == "no marks"


@pytest.mark.parametrize("text, why", [(None, "No such file"), ("x", "is not JSON"), ("[]", "is no report"), ("{}", "is no report")])
def test_what_is_no_report(text: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message for the user, from every command that reads one. (test_readme_gets_what_may_be_quoted is the control.)"""
    file = tmp_path / "report.json"
    if text is not None:
        file.write_text(text)
    for main, given in ((report.main, file), (headline.main, tmp_path), (lambda: report.show(str, None), file)):
        monkeypatch.setattr(sys, "argv", ["it", str(given)])
        with pytest.raises(SystemExit, match=why):
            main()


def test_readme_of_this_checkout_has_the_marks() -> None:
    assert "\nwhat is new\n" in headline.put((headline.CHECKOUT / "README.md").read_text(), "what is new")


# --- the whole --------------------------------------------------------------------------------------------------------

def written(found: dict[str, Any], sections: Sequence[Section] = suite.SECTIONS, **how: Any) -> str:
    return report.markdown(found, sections, **how)


def test_report() -> None:
    text = written(document([*programs(), row("syscalls", "oneline", "stock", skipped="strace | not installed")]))
    places = [text.index(part) for part in ("A processor, 2 cores", "`bench/run.sh`", "## Headline", "## Goals", "## Programs, whole process, n = 9", "## System calls")]
    assert places == sorted(places)
    assert "Read with care" not in text and "*strace \\| not installed*" in text and "no plots" not in text


@pytest.mark.parametrize(("changes", "says"), [
    ({"neighbours": {"load_before": 3, "others": 0.2, "stolen": 0.0}}, "not idle"),
    ({"section_neighbours": {"programs": QUIET, "watch": NOISY}}, "not idle (watch 20 %)"),
    ({"revision": "0123abc-dirty"}, "uncommitted"),
    ({"interrupted": "terminated"}, "terminated"),
    ({"why_not": "no compiler"}, "no compiler"),
    ({"pythons": {"3.11": {**FACTS, "debug": True}}}, "debug build"),
    ({"pythons": {"3.11": {**FACTS, "pgo": False}}}, "--enable-optimizations"),
    ({"rows": timed("programs", "alpha", {"stock": 1, "again": 1.03, "gc": 0.9}, ROUNDS)}, "alpha, cpu_ms, 3.11: the control, the base measured twice, differs by +3.0 %"),
    ({"rows": [row("programs", "alpha", key, check={"missing": list("abcde")}) for key in ("stock", "gc", "pycds")]}, "Alpha: stock imported a, b, c and 2 more; not so STOCK, GC, PYCDS."),
])
def test_what_makes_a_report_less_believable(changes: dict[str, Any], says: str) -> None:
    found = document(programs()) | changes
    assert not warnings(document(programs()), figures_of(programs()))
    said = warnings(found, figures_of(found["rows"]))
    assert any(says in text for text in said)
    assert f"- {said[0]}" in written(found)


def test_of_many_controls_that_are_off_the_worst_are_said() -> None:
    rows = [one for load, by in (("a", 1.1), ("b", 1.5), ("c", 1.2), ("d", 1.3), ("e", 1.001)) for one in timed("programs", load, {"stock": 1, "again": by, "gc": 0.9}, ROUNDS)]
    said = [text for text in warnings(document(rows), series.figures("cpu_ms")(rows)) if "control" in text]
    assert [text.partition(",")[2].partition(",")[0] for text in said[:3]] == [" b", " d", " c"]
    assert said[3:] == ["1 more of 5 controls: by more than 2 %."]


def test_old_report_is_shown_anew() -> None:
    """From before there were several interpreters, efforts and commands."""
    found = document([{name: value for name, value in one.items() if name != "python"} for one in programs()])
    for name in ("pythons", "effort", "command", "interrupted", "tools"):
        del found[name]
    text = written(found)
    assert "3.11.9" in text and line_of(text, "median of these 3")[-1] == "0.700 [0.700, 0.700] ±0.002"


def breaks(rows: Sequence[Row]) -> list[Any]:
    raise KeyError("cpu_ms")


def test_section_that_cannot_be_shown_costs_no_other() -> None:
    broken = Section("programs", "Broken", {}, lambda place, effort: [], lambda rows: str(breaks(rows)), breaks, breaks, breaks)
    whole = Section("paths", "Whole", {}, lambda place, effort: [], lambda rows: "it is here")
    rows = [*programs(), row("paths", "w", "stock"), row("paths", "", "", skipped="ended by a signal")]
    text = written(document(rows), [broken, whole], drawn={"broken"})
    assert "KeyError" in text and "it is here" in text and "ended by a signal" in text


def test_plots_are_shown_or_their_absence_is_explained(tmp_path: Path) -> None:
    text = written(document(programs()), drawn={"headline", "programs-cpu"})
    assert "[![CPU of the whole process, of stock](plots/programs-cpu.png)](plots/programs-cpu.svg)" in text and "(plots/headline.png)" in text
    text = written(document(programs()), drawn={"headline"}, undrawn="a reason")
    assert "plots/programs-cpu" not in text and "(plots/headline.png)" in text and "There are not all plots: a reason." in text
    text = report.illustrated(suite.SECTIONS, tmp_path, Drawer(None, "no network"))(document(programs()))
    assert "There are no plots: no network." in text and "plots/" not in text
    assert "plots" not in report.illustrated(suite.SECTIONS, tmp_path, Drawer(None))(document(programs()))
