# SPDX-License-Identifier: MIT
"""Curves: their arithmetic on rows whose answers are known, and one tiny run of each."""
from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path

import corpus
import pair
import pytest
import stats
from pair import Command, Failed
from scaling import curves, lookups, processes, reloads, section, trees
from scaling.curves import CURVES, row_of
from sections import Effort, Place
from tables import Row

ROUNDS = 9
XS = (1, 10, 100)


def made(curve: str = "entries", **powers: float) -> list[Row]:
    """Each contender's cost is 50 * x**power, a little more in every round; its `again` is 2 % off, to and fro."""
    rows = []
    for contender, power in {"stock": 1.0, "again": 1.0, **powers}.items():
        for x in XS:
            noise = [(1 + 0.01 * k) * (1 + (0.02 * (-1) ** k if contender == "again" else 0)) for k in range(ROUNDS)]
            samples = {CURVES[curve].field: [50 * x**power * factor for factor in noise], "count": 100}
            rows.append(row_of("3.11", curve, x, (contender, contender.upper()), contender == "stock", samples))
    return json.loads(json.dumps(rows))  # as an old report has them


def test_slopes_are_the_powers_they_were_made_with() -> None:
    lines = {line.label: line for plot in curves.plots(made(frozen=0.0)) for line in plot.lines}
    assert set(lines) == {"STOCK", "FROZEN"}  # the control is no line
    assert lines["STOCK"].note == "slope 1.00 [1.00, 1.00]" and lines["FROZEN"].note == "slope 0.00 [0.00, 0.00]"
    assert [math.isclose(y, 50 * 1.04 * x * 1000 / 100) for x, y in zip(XS, lines["STOCK"].ys)] == [True] * 3  # us, of one of the 100


def test_table_has_slope_growth_and_ratio() -> None:
    text = curves.part(made(frozen=0.0))
    assert "| FROZEN | 520 | 520 | 520 | 0.00 [0.00, 0.00] | 1.000 [1.000, 1.000] | 0.010 [0.010, 0.010] ±0.020 |" in text
    assert "| STOCK | 520 | 5200 | 52000 | 1.00 [1.00, 1.00] | 100.0 [100.0, 100.0] |  |" in text
    assert "n = 9" in text and "no claim" not in text


def test_few_rounds_claim_nothing() -> None:
    """Neither slope nor growth nor ratio; and so says the plot."""
    rows = [{**row, **{field: row[field][:8] for field in ("inside_cpu_ms",)}} for row in made(frozen=0.0)]
    line = next(line for line in curves.part(rows).splitlines() if line.startswith("| FROZEN |"))
    assert line.count("no claim") == 3
    assert [bool(plot.few) for some in (rows, made(frozen=0.0)) for plot in curves.plots(some)] == [True, False]


def test_whole_processes_are_not_divided() -> None:
    text = curves.part(made("indexed"))
    assert "| STOCK | 52.0 | 520 | 5200 |" in text


def test_a_reason_stands_where_samples_are_missing() -> None:
    gone = [row_of("3.11", "entries", x, ("watch", "WATCH"), False, {"skipped": "no daemon | here"}) for x in XS]
    rows = [*made(frozen=0.0), *gone]
    assert "| WATCH | *no daemon \\| here* |" in curves.part(rows)
    assert "WATCH" not in str(curves.plots(rows)) and "watch" not in str(curves.figures(rows))


def test_a_curve_of_reasons_alone() -> None:
    rows = [row_of("3.11", "lookup", 1, ("", "all"), True, {"skipped": "no compiler"})]
    assert "*no compiler*" in curves.part(rows)
    assert curves.plots(rows) == [] and curves.figures(rows) == []


def test_figures_have_their_noise_and_keys_of_their_own() -> None:
    found = curves.figures([*made(frozen=0.0), *made("indexed", frozen=0.5)])
    keys = [figure.key for figure in found]
    assert len(set(keys)) == len(keys) and "3.11/scaling/entries-100/frozen/inside_cpu_ms" in keys
    last = next(figure for figure in found if figure.key == "3.11/scaling/entries-100/frozen/inside_cpu_ms")
    assert last.verdict is stats.Verdict.LESS and last.noise and 0.02 <= last.noise.high - 1 < 0.021


def test_a_curve_that_fails_does_not_take_the_others_with_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(place: Place, effort: Effort) -> list[Row]:
        raise Failed("no such thing")

    monkeypatch.setattr(section, "_PARTS", [("entries", broken, 0.5), ("indexed", lambda place, effort: made("indexed"), 1.0)])
    rows = section.run(place, Effort(3, 60))
    assert rows[0]["skipped"] == "no such thing" and rows[0]["curve"] == "entries"
    assert {row["curve"] for row in rows[1:]} == {"indexed"} and curves.part(rows)


# --- what is generated ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("count", [100, 1000, 1075])
def test_trees_have_so_many_modules(tmp_path: Path, count: int) -> None:
    root = trees.modules(tmp_path / "tree", count)
    assert len(list(root.glob("*/*.py"))) == count
    for number in range(trees.WANTED):
        assert (root / trees.WANTED_NAME.format(number).replace(".", "/")).with_suffix(".py").is_file()


def test_a_tree_is_made_once_and_replaced_when_it_is_not_whole(tmp_path: Path) -> None:
    root = trees.modules(tmp_path / "tree", 100)
    (root / "mine").touch()
    assert trees.modules(root, 100) == root and (root / "mine").exists()
    (tmp_path / "tree.stamp").unlink()
    trees.modules(root, 100)
    assert not (root / "mine").exists()


def test_growing_process_has_loaded_what_it_says(tmp_path: Path) -> None:
    """So many before each batch, and the batch besides; all are modules of their own."""
    tree = corpus.generate(tmp_path, corpus.Shape(1, 1, 1, 250))
    loop = processes.Growing("x", "x", tree.oneline_pattern, 0, 1, tree.ONELINE, 250, (5, 60, 200))
    count = 'print("@count", sum(name.startswith("one.m") for name in sys.modules))\n'
    code = loop.code().replace('    print("@loaded"', '    print("@count", sum(name.startswith("one.m") for name in sys.modules))\n    print("@loaded"')
    out = pair.run(Command((sys.executable, "-c", code + count), {"LADEWERK": "0"})).out
    times = processes.loaded_times(out)
    assert list(times) == [5, 60, 200] and all(wall > 0 and cpu > 0 for wall, cpu in times.values())
    counts = [int(line.split()[1]) for line in out.splitlines() if line.startswith("@count")]
    batch = processes.BATCH
    assert counts[:3] == [5 + batch, 60 + batch, 200 + batch]


def test_batches_have_room() -> None:
    for sizes in processes.LOADED.values():
        assert all(small + processes.BATCH <= large for small, large in zip(sizes, sizes[1:]))


# --- tiny runs --------------------------------------------------------------------------------------------------------

def test_entries(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ENTRIES", {"quick": (1, 3), "full": (3,)})
    rows = processes.entries(place, Effort(2, 60))
    assert {row["x"] for row in rows} == {1, 3} and {row["contender"] for row in rows} >= {"stock", "again", "dictfinder", "ladewerk-stat", "ladewerk-watch"}
    there = [row for row in rows if "skipped" not in row]
    assert {"stock", "again", "dictfinder"} <= {row["contender"] for row in there}
    assert all(len(row["inside_cpu_ms"]) == 2 and row["count"] == processes.BEHIND and row["check"]["missing"] == [] for row in there)


def test_reloads(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way has the new module each time, or its row says that it has not."""
    monkeypatch.setattr(reloads, "SIZES", {"quick": (3,)})
    rows = {row["contender"]: row for row in reloads.run(place, Effort(2, 60))}
    assert set(rows) == set(reloads.WAYS)
    assert [rows[way].get("skipped") for way in reloads.WAYS] == [None] * 4
    assert all(len(row["cpu_ms"]) == 2 for row in rows.values())


def test_a_reload_that_serves_the_old_module_is_not_timed(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The control: a way that does nothing."""
    script = tmp_path / "reloading.py"
    script.write_text(reloads._SCRIPT.read_text().replace("return lambda: importlib.reload(sys.modules[\"leaf\"])", "return lambda: None"))
    monkeypatch.setattr(reloads, "_SCRIPT", script)
    monkeypatch.setattr(reloads, "WAYS", {"told": "told"})
    monkeypatch.setattr(reloads, "SIZES", {"quick": (4,)})
    (row,) = reloads.run(place, Effort(1, 60))
    assert "the old module" in row["skipped"] and "cpu_ms" not in row


def test_lookups_without_the_programs(place: Place) -> None:
    rows = lookups.run(place, Effort(3, 60))
    assert {row["curve"] for row in rows} == {"lookup", "threads"} and all("not today" in row["skipped"] for row in rows)
    assert curves.part(rows)


def test_lookups(place: Place, tmp_path: Path) -> None:
    """What the program prints becomes the samples of one thread, and of most names; with swaps, and its own control, are another question."""
    program = tmp_path / "bench_registry"
    program.write_text(f"#!{sys.executable}\n" + '''import sys
names = int(sys.argv[1])
print(sys.argv[4], file=open(sys.argv[0] + ".first", "a"))
for who in sys.argv[5:] or ["ladewerk", "again", "mutex + hash"]:
    for threads in (1, 2, 8):
        for swaps in (0, 100):
            print(who, threads, swaps, 0, 1000, 1000 * names // threads, 1000 * names * (1 + swaps), 0, swaps, sep="\\t")
''')
    os.chmod(program, 0o755)
    rows = lookups.run(Place(place.pythons, place.build, place.state, tmp_path, "quick"), Effort(3, 60))
    lookup = {(row["x"], row["contender"]): row["cpu_ns"] for row in rows if row["curve"] == "lookup"}
    assert set(lookup) == {(x, who) for x in lookups.NAMES["quick"] for who in ("ladewerk", "mutex", "again")}
    assert all(samples == [x] * 3 for (x, _), samples in lookup.items())
    threads = {row["x"]: row["wall_ns"] for row in rows if row["curve"] == "threads" and row["contender"] == "ladewerk"}
    assert threads == {n: [10_000 / n] * 3 for n in lookups.THREADS}
    firsts = Path(f"{program}.first").read_text().split()
    assert [firsts.count(str(n)) for n in range(3)] == [2 * len(lookups.NAMES["quick"])] * 3, "another one begins in each round"
