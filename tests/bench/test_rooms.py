# SPDX-License-Identifier: MIT
"""The benches that are commands as well: scan, watch, reload, trace, engines, graph and the registry. What is made of their rows, whose answers are known, and a tiny real
run of those that need no more than what the tests have."""
from __future__ import annotations

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import compared
import corpus
import engines
import graph
import machine
import pytest
import registry
import reloading.section
import scanning.section
import scanning.tables
import suite
import tracing.tables
import tracing.trace
import tree
import watching.section
import watching.tables
from reloading import reload
from reloading.reloaders import OURS
from scanning import scan, scanners
from sections import Effort, Interpreter, Place, Section
from tables import Row
from watching import watch, watchers

TEN = [10.0, 11, 12, 10, 11, 12, 10, 11, 12]  # of nine rounds
ROOMS = [scanning.section.SECTION, watching.section.SECTION, reloading.section.SECTION, tracing.trace.SECTION, engines.SECTION, graph.SECTION, registry.SECTION]


def times(factor: float, samples: list[float] = TEN) -> list[float]:
    return [factor * value for value in samples]


def keys(section: Section, rows: list[Row]) -> dict[str, float]:
    """Key -> ratio (or median) of all figures."""
    return {figure.key: round((figure.ratio or figure.median).value, 4) for figure in section.figures(rows)}


def said(section: Section, rows: list[Row]) -> dict[str, str]:
    """What is said of the goals."""
    return {goal.text: goal.verdict for goal in section.goals(rows)}


# --- contenders that do the same --------------------------------------------------------------------------------------

def contest(added: bool = False) -> list[Row]:
    def row(key: str, **more: Any) -> Row:
        return compared.row("engines", "3.11", "load", "A load", key, key.upper(), field="cpu_ms", unit="CPU ms", added=added, **more)

    return [
        row("stock", base=True, cpu_ms=TEN), row("again", cpu_ms=times(1.01)), row("ladewerk", cpu_ms=times(0.5)), row("same", cpu_ms=times(1.005)),
        row("gone", skipped="it is not | here"),
    ]


def test_contest() -> None:
    """Ratios, the noise beside them, what is no claim, and the reason of who did not run."""
    text = compared.part(contest())
    assert "A load, n = 9" in text and "| CPU ms | of the first |" in text
    assert "| LADEWERK | 5.50 | 0.500 [0.500, 0.500] ±0.010 |" in text
    assert "1.005 [1.005, 1.005] ±0.010 within the noise" in text
    assert "| GONE | *it is not \\| here* |" in text
    assert {figure.key: figure.ratio and figure.ratio.value for figure in compared.figures(contest())} == {
        "3.11/engines/load/stock/cpu_ms": None, "3.11/engines/load/ladewerk/cpu_ms": 0.5, "3.11/engines/load/same/cpu_ms": pytest.approx(1.005)}
    (plot,) = compared.plots(contest())
    assert [(line.label, line.kind, line.ys) for line in plot.lines] == [("STOCK", "stock", [11.0]), ("LADEWERK", "ladewerk", [5.5]), ("SAME", "rival", [pytest.approx(11.055)])]


def test_contest_of_what_is_more() -> None:
    assert "| LADEWERK | 5.50 | -5.50 [-6.00, -5.00] ±0.12 |" in compared.part(contest(added=True))


def test_contest_of_few_rounds_claims_nothing() -> None:
    rows = [{**row, "cpu_ms": row["cpu_ms"][:5]} if "cpu_ms" in row else row for row in contest()]
    assert "n = 5: no claims" in compared.part(rows) and "0.500 [0.500, 0.500] ±0.010 no claim" in compared.part(rows)


def test_contest_without_samples() -> None:
    """Of a contender of which nothing came; the others have their figures."""
    rows = [{**row, "cpu_ms": []} if row["contender"] == "same" else row for row in contest()]
    text = compared.part(rows)
    assert "| SAME | *no samples* |" in text and "| LADEWERK | 5.50 | 0.500" in text


def test_contest_that_nobody_took_part_in() -> None:
    rows = [compared.row("engines", "3.11", "load", "A load", "ladewerk", "Ladewerk", base=True, skipped="not built")]
    assert "*not built*" in compared.part(rows) and not compared.figures(rows) and not compared.plots(rows)


# --- scan -------------------------------------------------------------------------------------------------------------

def scanned(ladewerk: float = 1.05, **fd: Any) -> list[Row]:
    def row(key: str, factor: float, part: str = "warm") -> Row:
        row = scan.Row(part, scanners.Ours(key, key.upper(), "floor")).json("3.11")
        return {**row, "tree_entries": 100, "tree_directories": 7, **{name: times(factor) for name in ("wall_ms", "cpu_ms", "inside_ms")}}

    return [
        row("floor-2", 1), row("again", 1.01), row("driver-2", 1.02), row("ladewerk-auto-2", ladewerk), {**row("fd-2", 2.1), **fd},
        row("statloop-2", 1, "revalidate"), row("ladewerk-revalidate-2", 1.3, "revalidate"),
    ]


def test_scan() -> None:
    section, rows = scanning.section.SECTION, scanned()
    assert "| LADEWERK-AUTO-2 |  | 11.6 | 11.6 | 11.6 | 1.050 [1.050, 1.050] ±0.010 |" in section.part(rows)
    assert keys(section, rows)["3.11/scan/warm/ladewerk-auto-2/wall_ms"] == 1.05
    assert keys(section, rows)["3.11/scan/revalidate/ladewerk-revalidate-2/inside_ms"] == 1.3
    assert [plot.key for plot in section.plots(rows)] == ["scan-warm-3.11", "scan-revalidate-3.11"]


def test_goals_of_a_scan() -> None:
    """Twice as fast as fd is met, 1.3 times the floor is missed; nothing is said of who did not take part, and the reason of who could not."""
    found = said(scanning.section.SECTION, scanned())
    assert found == {
        "scan, warm, 2 threads: times as fast as fd -j2": "met", "scan, warm, 2 threads: the scanner alone, of the bare loop": "met",
        "scan, re-validation, 2 threads, of the bare statx loop (inside both)": "**missed**"}
    assert said(scanning.section.SECTION, scanned(ladewerk=1.2))["scan, warm, 2 threads: times as fast as fd -j2"] == "**missed**"
    without = [{name: value for name, value in row.items() if name != "wall_ms"} if "skipped" in row else row for row in scanned(skipped="fd is not installed")]
    assert "fd is not installed" in said(scanning.section.SECTION, without)["scan, warm, 2 threads: times as fast as fd -j2"]


# --- watch ------------------------------------------------------------------------------------------------------------

ABOUT = {"tree": {"directories": 1000, "entries": 7000}, "storm": {"files": 5, "processes": 2, "directories": 3}, "pause_ms": 10}


def watched() -> list[Row]:
    def row(part: str, key: str, **found: Any) -> Row:
        return {**watch.Row(part, key, key.upper(), found=found).json("3.11"), "about": ABOUT}

    armed = {"rss_kib": [9000.0] * 9, "shared_kib": [0.0] * 9, "peak_kib": [9000.0] * 9, "wall_s": TEN, "cpu_s": times(2)}
    return [
        row("arm", "scan", wall_s=TEN, cpu_s=TEN, inside_cpu_s=TEN, directories=1000), row("arm", "again", wall_s=TEN, cpu_s=TEN, inside_cpu_s=times(1.02), directories=1000),
        row("arm", "ladewerk-inotify", **armed, first_cpu_seconds=times(1.5), index_bytes=[2**20] * 9),
        row("save", "ladewerk-inotify", written_us=[50.0] * 98 + [3000.0] * 2, closed_us=[40.0] * 100, lost=[0]),
        row("check", "ladewerk-inotify", poll_ns=TEN, client_ns=times(1.8), poll_again_ns=times(1.01), own_poll_ns=TEN, own_ns=times(1.7), own_poll_again_ns=times(1.03), attach_ns=times(1000)),
        row("storm", "ladewerk-inotify", lost=[0, 1], storm_s=[1.0, 1.0], settled_s=[1.0, 1.0]),
    ]


def test_watch() -> None:
    section, rows = watching.section.SECTION, watched()
    text = section.part(rows)
    assert "1,000 directories, 7,000 entries" in text and "| LADEWERK-INOTIFY | 0.05 | 3.00 | 3.00 |" in text
    assert "1.800 [1.800, 1.800] ±0.010" in text and "1.700 [1.700, 1.700] ±0.030" in text
    assert keys(section, rows) == {
        "3.11/watch/arm/ladewerk-inotify/inside_cpu_s": 1.5, "3.11/watch/save/ladewerk-inotify/written_us": 50.0, "3.11/watch/check/ladewerk-inotify/client_ns": 1.8}
    found = said(section, rows)
    assert found["watch, inotify: save -> published, p50, ms"] == "met" and found["watch, inotify: save -> published, p99, ms"] == "**missed**"
    assert found["watch, inotify: lost in a storm"] == "**missed**" and found["watch, inotify: a client's check, of the bare poll"] == "met"
    assert {plot.key for plot in section.plots(rows)} == {"watch-arm-3.11"}


def test_rounds_that_were_asked_for(place: Place) -> None:
    """-n is the number of all that takes long; else plans are as they stand, with rounds enough for a claim."""
    efforts = watching.section.SECTION.efforts
    for name, effort in efforts.items():
        here = replace(place, effort=name)
        assert watching.section._plan(here, effort).rounds == 9 and watching.section._plan(here, effort).startup.rounds >= 9
        asked = watching.section._plan(here, Effort(2, math.inf))
        assert (asked.rounds, asked.storms, asked.startup, asked.crowd_rounds) == (2, 2, Effort(2, math.inf), 2)
    assert scanning.section._efforts(replace(place, effort="full"), Effort(22, math.inf))["revalidate"].rounds == 2 * scan.FULL["revalidate"].rounds


# --- reload -----------------------------------------------------------------------------------------------------------

def reloaded(**more: Any) -> list[Row]:
    def row(count: int, key: str, ms: list[float]) -> Row:
        row = compared.row("reload", "3.11", f"leaf-{count}", "A save", key, key, count=count, told="nothing")
        return {**row, "base": key == "ladewerk", "ms": ms, "tried": 9, "loses": [], **more}

    return [row(100, "ladewerk", TEN), row(100, "again", times(1.02)), row(2000, "ladewerk", times(1.5)), row(2000, "jurigged", times(6)[:4])]


def test_reload() -> None:
    """Saves that were lost leave no pairs; the most modules against the fewest are pairs, for all sizes take turns."""
    section, rows = reloading.section.SECTION, reloaded()
    text = section.part(rows)
    assert "| jurigged | nothing | 60.0 | - | 4 of 9 | nothing |" in text.replace("63.0 | -", "60.0 | -"), "four saves have no p99"
    assert "2,000 modules loaded, of 100: 1.500 [1.500, 1.500] ±0.020" in text
    assert keys(section, rows) == {"3.11/reload/leaf-100/ladewerk/ms": 11.0, "3.11/reload/leaf-2000/ladewerk/ms": 16.5, "3.11/reload/leaf-2000/ladewerk/ms-of-leaf-100": 1.5}
    rows[2]["ms"] = rows[2]["ms"][:8]
    assert "3.11/reload/leaf-2000/ladewerk/ms-of-leaf-100" not in keys(section, rows)
    rows[0]["ms"] = rows[0]["ms"][1:]  # as many, but of other rounds
    assert "3.11/reload/leaf-2000/ladewerk/ms-of-leaf-100" not in keys(section, rows)


def test_restarts() -> None:
    """Beside saves, a table of their own; stock is the base."""
    def row(key: str, **more: Any) -> Row:
        return compared.row("reload", "3.11", "restart-json-1", "A save, until the first line", key, key, base=key == "stock", field="ms", unit="ms", **more)

    rows = [*reloaded(), row("stock", ms=TEN), row("again", ms=times(1.01)), row("ladewerk-run", ms=times(0.4)), row("watchfiles", skipped="no network")]
    section = reloading.section.SECTION
    assert "| ladewerk-run | 4.40 | 0.400 [0.400, 0.400] ±0.010 |" in section.part(rows) and "*no network*" in section.part(rows)
    assert keys(section, rows)["3.11/reload/restart-json-1/ladewerk-run/ms"] == 0.4
    assert [plot.key for plot in section.plots(rows)] == ["reload", "reload-restart-json-1-3.11"]


def test_goals_of_a_reload_are_of_the_most_modules() -> None:
    assert said(reloading.section.SECTION, reloaded()) == {
        "a save, until its code is live, 2,000 modules loaded: p50, ms": "**missed**", "a save, until its code is live, 2,000 modules loaded: p99, ms": "not measured: 9 saves have none"}


# --- trace ------------------------------------------------------------------------------------------------------------

def test_trace() -> None:
    def row(workload: str, key: str, **more: Any) -> Row:
        return compared.row("trace", "3.11", workload, workload, key, key, **{"base": key == "nobody", "imports": 9, "all_cpu_ms": TEN, **more})

    def imports(workload: str, field: str, spans: float) -> list[Row]:
        about = {"field": field, "unit": field, "added": workload == "modules"}
        return [row(workload, "nobody", **about, **{field: TEN}), row(workload, "ladewerk-no-sched", **about, lost=0, **{field: times(spans)})]

    attach = {"attach_ms": times(10), "detach_ms": times(10), "cpu_ms": TEN, "peak_mib": TEN, "maps_mib": TEN}
    rows = [*imports("modules", "inside_cpu_us", 1.1), *imports("sympy", "inside_cpu_ms", 1.1), row("attach", "ladewerk", **attach), row("attach", "bpftrace", skipped="no bpftrace")]
    section = tracing.trace.SECTION
    found = said(section, rows)
    assert found["tracing, spans: CPU us more per module"] == "met" and found["tracing, spans: CPU of sympy, ratio"] == "**missed**"
    assert found["tracing, with sched: attach, ms"] == "met" and found["tracing, with sched: CPU of sympy, ratio"].startswith("not measured")
    assert "| bpftrace | *no bpftrace* |" in section.part(rows) and "| ladewerk | 110 [100, 120] |" in section.part(rows)
    assert keys(section, rows)["3.11/trace/attach/ladewerk/attach_ms"] == 110 and keys(section, rows)["3.11/trace/sympy/ladewerk-no-sched/inside_cpu_ms"] == 1.1


# --- registry ---------------------------------------------------------------------------------------------------------

def test_registry() -> None:
    """Lines of bench_registry: name, threads, swaps, round, look-ups, wall, CPU, sleeps, swaps made."""
    lines = [
        f"{name}\t{threads}\t0\t{number}\t1000\t{wall}\t{cpu}\t1\t0"
        for number in range(9) for name, cpu in (("ladewerk", 50_000), ("enter and exit alone", 25_000)) for threads, wall in ((1, 100_000), (2, 50_000))
    ]
    rows = registry.rows_of("3.11", 5000, registry.parse(lines))
    text = registry.SECTION.part(rows)
    assert "### 5,000 names, n = 9" in text and "| ladewerk | 2 | 0 | 50.0 | 1 | 20.0 | 2.000 [2.000, 2.000] | 9 |" in text
    assert keys(registry.SECTION, rows)["3.11/registry/5000-names-1-threads-0-swaps/enter-and-exit-alone/cpu_ns"] == 0.5


# --- all of them ------------------------------------------------------------------------------------------------------

def test_parts_are_chosen() -> None:
    options = suite.parse(["--only", "trace/modules,scan", "--only", "trace/attach"])
    assert options.parts == {"trace": ["modules", "attach"], "scan": []} and [section.key for section, _ in suite.chosen(options)] == ["scan", "trace"]
    with pytest.raises(SystemExit):
        suite.parse(["--only", "trace/nosuch"])


@pytest.mark.parametrize("given, wanted", [
    ((), "--full --only trace"), (("--quick", "-n", "3"), "--only trace -n 3"), (("--only", "modules,attach", "--python", "a b"), "--full --only trace/modules --only trace/attach --python a b"),
])
def test_a_section_is_a_command(given: tuple[str, ...], wanted: str, tmp_path: Path) -> None:
    """section.sh hands on to run.sh what it is given."""
    shutil.copy(Path(suite.HERE, "section.sh"), tmp_path)
    (tmp_path / "run.sh").write_text('#!/bin/sh\necho "$*"\n')
    (tmp_path / "run.sh").chmod(0o755)
    done = subprocess.run([tmp_path / "section.sh", "trace", *given], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == wanted


@pytest.mark.parametrize("name", ["trace", "engines", "reload", "lazy", "graph", "registry"])
def test_help_of_a_section(name: str) -> None:
    """Of its own, which names its parts."""
    done = subprocess.run([Path(suite.HERE, f"{name}.sh"), "--help"], capture_output=True, text=True, check=True)
    (parts,) = (section.parts for section in suite.SECTIONS if section.key == name)
    assert done.stdout.startswith(f"bench/{name}.sh [") and all(part in done.stdout for part in parts)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """With the interpreter that runs the tests, and Ladewerk in it; without programs of bench/micro."""
    python = Path(sys.executable)
    for name in ("build", "state"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "state")
    main = Interpreter(machine.key(machine.interpreter(python)), python, machine.interpreter(python), beside={"bare": python})
    return Place([main], tmp_path / "build", tmp_path / "state", None, "headline", no_programs="no cmake")


@pytest.mark.parametrize("section", [scanning.section.SECTION, watching.section.SECTION, registry.SECTION], ids=lambda section: section.key)
def test_without_programs(section: Section, place: Place) -> None:
    """A row for each part, with the reason."""
    rows = section.run(place, Effort(1, 1))
    assert rows and {row["skipped"] for row in rows} == {"no cmake"} and "no cmake" in section.part(rows) and not section.figures(rows)


@pytest.mark.parametrize("section", [engines.SECTION, graph.SECTION, tracing.trace.SECTION], ids=lambda section: section.key)
def test_without_ladewerk(section: Section, place: Place) -> None:
    rows = section.run(replace(place, pythons=[replace(place.main, missing="it cannot be built")]), Effort(1, 1))
    assert rows and {row["skipped"] for row in rows} == {"it cannot be built"} and "it cannot be built" in section.part(rows)


# --- tiny real runs ---------------------------------------------------------------------------------------------------

def measured(rows: list[Row], field: str) -> dict[str, int]:
    """Contender -> samples."""
    return {row["contender"]: len(row.get(field, ())) for row in rows}


def test_engines_for_real(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "WARM_UP", 1)
    monkeypatch.setattr(engines, "CACHED", 1000)
    rows = engines.run(replace(place, parts={"engines": ["cached"]}), Effort(1, 60))
    assert measured(rows, "inside_cpu_ns") == dict.fromkeys(("stock", "again", "ladewerk", "ladewerk-beside", "ladewerk-engine"), 1), rows


def test_reload_for_real(place: Place) -> None:
    """Whoever is not there says so; the others' saves come to life."""
    names = [OURS, "importlib.reload", "hmr"]
    ground = reload.Ground("3.11", dict.fromkeys(names, place.main.python), {"hmr": "hmr is not for this Python"}, place.state, 1)
    rows = reload.measure(ground, names, [100], 2, 60.0)
    assert measured(rows, "ms") == {"ladewerk": 9, "again": 2, "importlib.reload": 2, "hmr": 0}, rows
    assert {row["contender"]: row["loses"] for row in rows if "loses" in row} == {"ladewerk": [], "again": [], "importlib.reload": ["dependants"]}
    assert "hmr is not for this Python" in reloading.section.SECTION.part(rows)


def test_scan_for_real(place: Place) -> None:
    """Without the bare loops: their rows say so. Who finds what the tree has is timed."""
    where = scan.fresh(scanners.Where(place.build / "none", place.main.python, place.main.python.with_name("ladewerk"), "", place.state / "scan"))
    rivals = {"warm": [scanners.FLOOR_2, *(each for each in scanners.SHORT["warm"] if each.key in ("ladewerk-auto-2", "scandir"))]}
    bench = scan.Bench(where, place.build, {"warm": Effort(2, 60)}, place.build / "tree", 300, 300, 1, "3.11", rivals)
    rows = list(scan.measure(bench, ["warm"], counted=False))
    assert measured(rows, "wall_ms") == {"floor-2": 0, "ladewerk-auto-2": 2, "scandir": 2}, rows
    assert {row["sources"] for row in rows if "wall_ms" in row} == {bench.big.sources} and "skipped" in rows[0]


def test_watched_start_for_real(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon, and a program that is its client."""
    monkeypatch.setattr(watch, "ENTRIES", (1,))
    with watch.sockets() as sockets:
        where = watch.fresh(watchers.Where(place.build, place.main.python, place.main.python, place.main.python.with_name("ladewerk"), "", place.state / "watch", sockets))
        bench = watch.Bench(where, place.build, replace(watch.SHORT, startup=Effort(1, 60)), 100, 10, 1, "3.11")
        bench.__dict__["corpus"] = corpus.generate(place.build / "corpus", corpus.Shape(entries=1, modules=3, oneline=1))
        rows = watch.run_startup(bench)
    assert [row["freshness_by"] for row in rows] == ["['daemon']"] * len(rows) and {row["section"] for row in rows} == {"watch"}
    assert measured(rows, "wall_ms") == dict.fromkeys(("stock", "again", "stat", "watch", "frozen"), 1), rows


def test_who_is_no_client_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a write takes with clients attached, in the rows of a crowd, says nothing of that."""
    monkeypatch.setattr(watching.tables, "unrest", lambda document: [])
    crowd = {"part": "crowd", "attached": [310.4, 169.0]}
    assert watching.tables.warnings({"rows": [crowd, {"part": "startup", "freshness_by": "['daemon']"}]}) == []
    assert "by nobody" in watching.tables.warnings({"rows": [crowd, {"part": "startup", "freshness_by": ""}]})[0]


def test_graph_for_real(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "SHORT_MODULES", 600)
    rows = graph.run(replace(place, parts={"graph": ["alone"]}), Effort(1, 60))
    assert set(measured(rows, "wall_ms").values()) == {1} and len(rows) == 2 + len(graph.QUESTIONS), rows
