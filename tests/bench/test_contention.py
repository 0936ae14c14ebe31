# SPDX-License-Identifier: MIT
"""The section `contention`: its arithmetic on numbers whose answers are known, its own checks against programs that are wrong, and a run of a few modules."""
from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import machine
import pytest
from contention import locks, report, section, trees
from contention.latencies import bucket, histogram, percentiles_us, pooled
from pair import Failed
from sections import Effort, Interpreter, Place
from stats import enough, percentile
from tables import Row

STORM = section.STORM


# --- latencies ---


def test_buckets_are_six_percent_wide() -> None:
    rng = random.Random(1)
    for ns in [*range(5000), *(int(rng.lognormvariate(9, 4)) for _ in range(5000))]:
        least = bucket(ns)
        assert least <= ns <= least * (1 + 1 / 16) and bucket(least) == least


def test_pooled_percentiles_are_those_of_all_samples() -> None:
    rng = random.Random(2)
    times = array("Q", (int(rng.lognormvariate(11, 1)) for _ in range(4000)))
    counts = histogram(times[:1000]) + histogram(times[1000:])
    for share in (0.5, 0.99, 0.999, 1.0):
        assert pooled(counts, share) == pytest.approx(percentile(times, share), rel=0.032)


def test_percentiles_of_a_round_are_samples() -> None:
    assert percentiles_us(array("Q", range(1000, 1_001_000, 1000))) == {"p50_us": 500, "p99_us": 990, "p999_us": 999}


# --- what the tracer says ---


def test_sums_of_a_trace() -> None:
    wait = {"event": "lock_wait", "kind": "gil", "importer": "a", "wait_ns": 2_000_000, "queue_ns": 500_000}
    records = [
        {"event": "begin"},
        wait,
        {**wait, "importer": None},  # a thread that imports nothing: waits for others at the barrier
        {**wait, "kind": "module", "importer": None},  # for a module that is in sys.modules already
        {**wait, "kind": "global"},
        {**wait, "kind": "other"},
        {"event": "import", "module": "a"},
        {"event": "end", "lost": 3},
    ]
    assert locks.sums(map(json.dumps, records)) == {
        "module_ms": 2.5, "global_ms": 2.5, "gil_ms": 2.5, "other_ms": 2.5, "module_waits": 1, "global_waits": 1, "lost": 3,
    }


# --- the report ---


def rows_of(rounds: int, stock: float, ours: float) -> list[Row]:
    """Two contenders and a control, whose rounds differ, not their ratios."""
    python = Interpreter("3.11", Path(sys.executable), {"free_threaded": False})
    found = []
    for contender, factor in ((section.STOCK, stock), (section.AGAIN, stock * 1.01), (section.STAT, ours)):
        wall = [factor * (1 + number % 3) for number in range(rounds)]
        for threads in (1, 8):
            found.append({
                **section.described(python, trees.DIFFERENT, contender, threads), "imports": 100, "wall_ms": wall, "cpu_ms": wall,
                "p99_us": wall, "p50_us": wall, "p999_us": wall, "histogram_ns": {"1000": 99, "100000": 1}, "check": {"clock_ns": 40},
            })
    return found


def test_report_says_how_many_times_faster() -> None:
    text = report.part(rows_of(9, 10, 2.5))
    assert "4.00x [4.00, 4.00]" in text
    assert "| 8 | 5,000 | 4,950, 0.99x [0.99, 0.99] | 20,000, 4.00x [4.00, 4.00] ±0.01 |" in text
    assert "1.02 / 1.02 / -" in text  # 100 samples have no p99.9
    assert "different modules, 512 in all, spread over 16 path entries, n = 9" in text
    assert "no claim" not in text


def test_no_percentile_of_too_few_imports() -> None:
    """The 99th of 99 imports would be the longest of all."""
    assert enough(100, 0.99) and enough(1000, 0.999) and not enough(99, 0.99) and not enough(999, 0.999)
    rows = [{**row, "imports": 99} for row in rows_of(9, 10, 2.5)]
    assert "; p99" not in report.part(rows) and "; p99 4.00x" in report.part(rows_of(9, 10, 2.5))
    assert [plot.key for plot in report.plots(rows)] == ["contention-different-throughput-3.11"]


def test_what_looking_costs_is_said() -> None:
    """Beside the waits: how long the storm took with probes in it, and how long it takes without."""
    row = next(row for row in rows_of(9, 10, 2.5) if row["contender"] == "ladewerk-stat" and row["threads"] == 8)
    looked = {name: [1.0] for name in ("module_ms", "global_ms", "rest_ms", "cpu_ms")} | {"wall_ms": [7.5]}
    described = {key: row[key] for key in ("python", "kind", "kind_title", "threads", "contender", "label", "title")}
    text = report.part([*rows_of(9, 10, 2.5), {**described, "workload": "different-8-locks", "probes": looked}])
    assert text.splitlines()[-1].endswith("| 1.0 | 7.5 (5.0) |")


def test_few_rounds_claim_nothing() -> None:
    assert "4.00x [4.00, 4.00] ±0.01 no claim" in report.part(rows_of(8, 10, 2.5))


def test_less_than_the_noise_is_no_difference() -> None:
    assert "±0.01 within the noise" in report.part(rows_of(9, 10, 10.05))


def test_figures_and_plots() -> None:
    rows = rows_of(9, 10, 2.5)
    figures = {figure.key: figure for figure in section.SECTION.figures(rows)}
    assert len(figures) == 6  # two contenders, with two numbers of threads; the p99 of one of these
    ours = figures["3.11/contention/different-8/ladewerk-stat/wall_ms"]
    assert ours.ratio and ours.ratio.value == 0.25 and ours.noise and ours.noise.value == pytest.approx(1.01)
    throughput, p99 = report.plots(rows)
    assert [(line.label, line.xs, line.ys) for line in throughput.lines] == [("stock", [1, 8], [5000, 5000]), ("Ladewerk, stat", [1, 8], [20000, 20000])]
    assert p99.lines[1].ys == [5, 5]


def test_a_gil_that_is_back_is_said() -> None:
    """Whoever imports an extension module that needs it measures another thing."""
    rows = [{**row, "python": "3.13t", "check": {"clock_ns": 40, "gil": row["contender"] == "ladewerk-stat"}} for row in rows_of(9, 10, 2.5)]
    text = report.part(rows)
    assert text.count("switched the GIL on") == 1 and "Ladewerk, stat: something that was imported has switched the GIL on." in text
    assert "switched" not in report.part([{**row, "python": "3.13"} for row in rows])


def test_what_could_not_run_says_why() -> None:
    python = Interpreter("3.13t", Path(sys.executable), {"free_threaded": True}, missing="no compiler")
    row = {**section.described(python, trees.DIFFERENT, section.STAT, 8), "skipped": "no compiler"}
    waits = {**section.described(python, trees.DIFFERENT, section.STAT, 8, "-locks"), "skipped": "no compiler"}
    text = report.part([*rows_of(9, 10, 2.5), row, waits])
    assert "Ladewerk, stat: *no compiler*" in text and "| 3.13t | different | 8 | Ladewerk, stat | *no compiler* |" in text


# --- storms ---


def storm(tmp_path: Path, body: str, *options: str, threads: int = 2) -> subprocess.CompletedProcess[str]:
    """One module of this BODY, imported by all threads at once."""
    (tmp_path / "one.py").write_text(body)
    storms = {str(threads): {"path": [str(tmp_path)], "turns": [["one"]], "once": ["one"]}}
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"split": False, "there": False, "reload": None, "storms": storms}))
    command = [sys.executable, "-P", str(STORM), str(plan), str(tmp_path / "samples"), str(threads), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={"LADEWERK": "0"})


def test_a_storm_that_is_right(tmp_path: Path) -> None:
    done = storm(tmp_path, "executed(__name__)\nDONE = __name__\n")
    assert done.returncode == 0, done
    (said,) = json.loads(done.stdout)["storms"]
    assert (said["threads"], said["imports"]) == (2, 2)
    times = array("Q", (tmp_path / "samples").read_bytes())
    assert len(times) == 2 and sum(times) == said["threads_ns"]


@pytest.mark.parametrize("body, why", [
    ("executed(__name__)\nexecuted(__name__)\nDONE = __name__\n", "executed more than once ['one']"),
    ("DONE = __name__\n", "not at all {'one'}"),
    ("executed('two')\nexecuted(__name__)\nDONE = __name__\n", "uncalled for {'two'}"),
    ("executed(__name__)\n", "no attribute 'DONE'"),
    ("executed(__name__)\nDONE = 'two'\n", "one is another module: two"),
    ("executed(__name__)\n1 / 0\n", "ZeroDivisionError"),
])
def test_a_storm_that_is_wrong_fails(tmp_path: Path, body: str, why: str) -> None:
    done = storm(tmp_path, body)
    assert done.returncode == 1 and why in done.stderr, done


def test_probes_see_waits_for_modules(tmp_path: Path) -> None:
    """The body does not end before somebody waits for it."""
    body = """\
import _frozen_importlib, time
executed(__name__)
lock, end = _frozen_importlib._module_locks[__name__](), time.monotonic() + 60
while not lock.waiters and time.monotonic() < end:
    time.sleep(0.001)
DONE = __name__
"""
    (said,) = json.loads(storm(tmp_path, body, "probes", threads=3).stdout)["storms"]
    found = locks.probed(said)
    assert 1 <= found["module_waits"] <= 2 and found["module_ms"] > 0
    (quiet,) = json.loads(storm(tmp_path, "executed(__name__)\nDONE = __name__\n", "probes", threads=1).stdout)["storms"]
    assert locks.probed(quiet)["module_waits"] == locks.probed(quiet)["global_waits"] == 0


GLOBAL = f"""\
import sys
sys.path.insert(0, {str(STORM.parent)!r})
import storm, _imp, threading, time
locks = storm.Locks()
_imp.acquire_lock()
_imp.acquire_lock()
other = threading.Thread(target=lambda: (_imp.acquire_lock(), _imp.release_lock()), daemon=True)
other.start()
def waits():
    frame = sys._current_frames()[other.ident]
    return "taken" in frame.f_locals and "began" in frame.f_locals
while not waits():
    time.sleep(0.001)
_imp.release_lock()
_imp.release_lock()
other.join()
_imp.acquire_lock()
_imp.release_lock()
found = locks.take({{other.ident}})
print(found["global"]["waits"], found["module"]["waits"], found["global"]["ns"] > 0, locks.take({{other.ident}})["global"]["waits"])
"""


def test_probes_see_waits_for_the_import_lock() -> None:
    done = subprocess.run([sys.executable, "-c", GLOBAL], capture_output=True, text=True, timeout=120, env={"LADEWERK": "0"})
    assert done.stdout.split() == ["1", "0", "True", "0"], done


# --- a run ---


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"THREADS": (1, 3), "MODULES": 24, "KEPT": 4, "CACHED_IMPORTS": 96, "SLOW": 1, "SLOW_SECONDS": 0.001, "DIAMONDS": 2}.items():
        monkeypatch.setattr(trees, name, value)
    monkeypatch.setattr(section, "THREADS", {"headline": (1, 3)})
    monkeypatch.setattr(section, "LOCKS", {"headline": (3,)})
    monkeypatch.setattr(section, "LOOKS", {"headline": 1})


def place(tmp_path: Path, missing: str) -> Place:
    python = Interpreter("main", Path(sys.executable), machine.interpreter(Path(sys.executable)), missing)
    (tmp_path / "state/cwd").mkdir(parents=True)
    return Place([python], tmp_path / "build", tmp_path / "state", None, "headline")


def test_a_small_run(tmp_path: Path, small: None) -> None:
    why = "" if importlib.util.find_spec("ladewerk") else "not installed"
    rows: list[Row] = section.run(place(tmp_path, why), Effort(2, 60))
    timed = [row for row in rows if "wall_ms" in row]
    kinds = {(row["kind"], row["contender"], row["threads"]) for row in timed}
    ours = [] if why else ["ladewerk-stat", "ladewerk-frozen"]
    assert kinds >= {(kind.key, contender, threads) for kind in trees.KINDS for contender in ("stock", "again", *ours) for threads in (1, 3)}
    assert {row["imports"] for row in timed if row["kind"] == "different"} == {24}
    assert {row["imports"] for row in timed if row["kind"] == "there"} == {96}
    assert {(row["threads"], row["imports"]) for row in timed if row["kind"] == "diamond"} == {(1, 8), (3, 24)}
    for row in timed:
        assert len(row["wall_ms"]) == len(row["p99_us"]) == 2 and sum(row["histogram_ns"].values()) == 2 * row["imports"]
        assert not any(count for why, count in row["check"].get("aside", {}).items() if why not in ("builtin", "initializing")), row
    skipped: dict[str, Any] = {row["workload"]: row["skipped"] for row in rows if "skipped" in row and row["contender"] == "stock"}
    assert set(skipped) <= {"free-threaded"}
    probes = [row["probes"] for row in rows if "probes" in row]
    assert len(probes) == 4 * (1 + len(ours))
    text = report.part(rows)
    assert "What threads waited for" in text and ("not installed" in text) == bool(why)
    json.dumps(rows)


@pytest.mark.parametrize("failing, result", [(0, "right"), (3, "right"), (4, "wrong")])
def test_failed_runs_are_made_again_and_kept(failing: int, result: str) -> None:
    answers = iter([*["wrong"] * failing, *["right"] * 4])

    def run() -> str:
        if (found := next(answers)) == "wrong":
            raise Failed(found)
        return found

    failures: list[str] = []
    try:
        assert section.tried(run, failures) == result
    except Failed as failure:
        assert str(failure) == result
    assert failures == ["wrong"] * min(failing, 3)
