# SPDX-License-Identifier: MIT
"""Cold and slow storage: what becomes of rows without root, tiny runs under conditions of the test's own, and the slow disk itself where there can be one."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cold
import contenders
import moved
import pytest
import slowdisk
import workloads
from cold import Condition
from importing import goals, measuring, tables
from sections import Effort, Place
from slowdisk import Unavailable
from stats import PAIRS
from tables import Row
from workloads import Program

LOAD = Program("pluggy", "pluggy", "import pluggy\n", "pluggy")
DELAYFS = Path(cold.__file__).with_name("micro") / "delayfs.c"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "COLD", [LOAD])
    monkeypatch.setattr(measuring, "programs", lambda place, fitting: list(fitting))
    monkeypatch.setattr(cold, "_SHORT", "stock again pycds interpreter")


def test_without_root_every_row_says_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def never(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
        raise Unavailable("needs root")
        yield

    monkeypatch.setattr(cold, "CONDITIONS", {"slow": never, "dropped": never})
    rows = cold.run(place, Effort(3, 60))
    assert [row["contender"] for row in rows] == ["stock", "again", "pycds", "ladewerk-watch", "interpreter"]
    assert {row["skipped"] for row in rows} == {"needs root"} and not any(row["cold"] for row in rows)
    assert cold.part(rows).count("*needs root*") == 2 * len(rows)
    assert cold.plots(rows) == cold.figures(rows) == []


def test_tiny_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is forgotten before each cold run, once, and not before a warm one; one that cannot run says why, and so does a daemon that does not come up."""
    forgotten = []

    @contextmanager
    def condition(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
        session = measuring.session(place)
        yield Condition(session, session.bench, (Path("/nonexistent/directory"),), lambda: forgotten.append(1), lambda: 7 * len(forgotten))

    monkeypatch.setattr(cold, "CONDITIONS", {"dropped": condition})
    rows = {row["contender"]: row for row in json.loads(json.dumps(cold.run(place, Effort(2, 60))))}
    there = [key for key, row in rows.items() if row["cold"]]
    assert {"stock", "again", "interpreter"} <= set(there) and "not today" in rows["pycds"]["skipped"]
    for key in there:
        samples = rows[key]["cold"]["dropped"]
        assert {name: len(values) for name, values in samples.items()} == {"cold_ms": 2, "warm_ms": 2, "reads": 2}
        assert samples["reads"] == [0, 0]  # counted after everything was forgotten
    assert len(forgotten) == 2 * len(there)
    assert rows["stock"]["check"]["modules"] > rows["interpreter"]["check"]["modules"]


def test_a_condition_that_breaks_off_leaves_the_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def works(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
        session = measuring.session(place)
        yield Condition(session, session.bench, (), lambda: None)

    @contextmanager
    def breaks(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
        def forget() -> None:
            raise Unavailable("somebody keeps it")

        session = measuring.session(place)
        yield Condition(session, session.bench, (), forget)

    monkeypatch.setattr(cold, "CONDITIONS", {"slow": breaks, "dropped": works})
    stock = cold.run(place, Effort(1, 60))[0]
    assert set(stock["cold"]) == {"dropped"} and stock["cold_skipped"] == {"slow": "somebody keeps it"} and "skipped" not in stock


def test_one_condition_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fails(place: Place, loads: Sequence[Program]) -> Iterator[Condition]:
        raise Unavailable("tried")
        yield

    monkeypatch.setattr(cold, "CONDITIONS", {"slow": fails, "dropped": fails})
    stock = cold.run(replace(place, parts={"cold": ["dropped"]}), Effort(1, 60))[0]
    assert stock["cold_skipped"] == {"slow": "not asked for", "dropped": "tried"}


# --- what rows say ----------------------------------------------------------------------------------------------------

def made(n: int = PAIRS, **added: float) -> list[Row]:
    """Contenders that need 100 ms warm, and so many more when cold; a little more in every round."""
    rows = []
    for contender, more in {"stock": 800.0, "again": 808.0, "interpreter": 0.0, **added}.items():
        samples = {"warm_ms": [100.0] * n, "cold_ms": [100 + more + k for k in range(n)], "reads": [40] * n}
        rows.append({
            "section": "cold", "python": "3.11", "workload": "django", "title": "django", "contender": contender, "label": contender.upper(),
            "base": contender == "stock", "check": {"disk": {"one_ms": 0.64, "all_ms": 1.28}}, "cold": {"slow": samples}, "cold_skipped": {"dropped": "no root"}})
    return rows


def test_times_less_has_an_interval() -> None:
    found = tables.times_less([800.0, 810, 790] * 3, [80.0, 81, 79] * 3)
    assert found and found.value == 10 and found.low < 10 < found.high and found.n == 9
    assert tables.times_less([800.0], [0.0]) is None and tables.times_less(None, [1.0]) is None


def test_a_disk_that_is_another_is_said() -> None:
    rows = made()
    for row in rows:
        row["check"]["disk"]["one_ms"] = 1.4
    assert "not the disk" in cold.part(rows) and "not the disk" not in cold.part(made())


def line_of(text: str, contender: str) -> str:
    """Of the condition that has figures."""
    return next(line for line in text.splitlines() if line.startswith(f"| {contender.upper()} |") and "no root" not in line)


def test_times_less_are_judged_as_ratios_are() -> None:
    """Beside the noise of stock measured again; of few rounds no claim."""
    some = {"ladewerk-frozen": 80.0, "ladewerk-stat": 802.0}
    many, few = (tables.cold(made(n, **some)) for n in (PAIRS, 3))
    frozen, stat, again = (line_of(many, name) for name in ("ladewerk-frozen", "ladewerk-stat", "again"))
    assert "within the noise" in stat and "±" in stat and "within" not in frozen and "±" in frozen and "±" not in again
    assert "no claim |" in line_of(few, "ladewerk-frozen")


def test_goals_claim_nothing_of_few_rounds() -> None:
    many, few = ({goal.text: goal.verdict for goal in goals.cold(made(n, **{"ladewerk-frozen": 80.0}))} for n in (PAIRS, 3))
    text = next(text for text in many if "frozen" in text and "0.5 ms" in text and "apart" not in text)
    assert many[text] == "met" and few[text] == "no claim, n = 3"


def test_part_plots_and_figures() -> None:
    rows = made(**{"ladewerk-frozen": 80.0})
    text = cold.part(rows)
    assert "answered one reader in 0.64 ms, and 64 of them 32 times as often" in text and text.count("*no root*") == 4
    (plot,) = cold.plots(rows)
    assert plot.names == ["django, 0.5 ms per request"] and "AGAIN" not in [line.label for line in plot.lines]
    figures = {figure.key: figure for figure in cold.figures(rows)}
    frozen = figures["3.11/cold/django-slow/ladewerk-frozen/cold_wall_ms"]
    assert frozen.ratio and 0.19 < frozen.ratio.value < 0.21 and frozen.noise and frozen.verdict
    assert frozen.verdict.name == "LESS" and len(figures) == 3


# --- what lies on the slow disk ---------------------------------------------------------------------------------------

def test_copies_leave_out_what_nobody_imports(tmp_path: Path) -> None:
    for file in ("a.py", "__pycache__/a.cpython-311.pyc", "__pycache__/a.cpython-311.opt-1.pyc", "tests/t.py", "site-packages/x.py", "sub/b.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("x" * 5000)
    found = list(moved.Copy(tmp_path, "x").files())
    assert sum(stat.st_size == 5000 for stat in found) == 3 and len(found) == 3 + 3  # directories count


def test_an_environment_is_moved_with_its_interpreter(place: Place, tmp_path: Path) -> None:
    """It runs from there, with the library and the package; without its library in place that is found out."""
    if not os.environ.get("LADEWERK_LONG"):
        pytest.skip("copies a whole library: LADEWERK_LONG=1")
    plan = moved.Plan([moved.Environment("programs", place.main.python, ["pluggy"])])
    root = tmp_path / "root"
    plan.fill(root)
    assert plan.bytes > 1e6 and plan.files > 500
    env = contenders.bench(place, place.main).quiet()
    plan.check(root, env)
    code = "import pluggy, json; print(pluggy.__file__, json.__file__, sep='\\n')"
    out = subprocess.run([plan.python(root, "programs"), "-c", code], env=env, check=True, capture_output=True, text=True).stdout.split()
    assert all(Path(file).is_relative_to(root) for file in out)
    shutil.rmtree(root / "python" / "lib")
    with pytest.raises(moved.Immovable):
        plan.check(root, env)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bench_delayfs, built here."""
    where = tmp_path_factory.mktemp("programs")
    if os.geteuid() != 0 or shutil.which("cc") is None:
        pytest.skip("a slow disk needs root and a C compiler")
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", DELAYFS, "-o", where / "bench_delayfs"], check=True)
    return where


def test_slow_disk(programs: Path, tmp_path: Path) -> None:
    """What was put there is there, what is written stays as long as the disk; each read after forgetting is a request, none is before."""
    def fill(root: Path) -> None:
        root.mkdir()
        for number in range(20):
            (root / f"f{number}").write_bytes(bytes([number]) * 5000)

    try:
        with slowdisk.SlowDisk(tmp_path, programs, slowdisk.Content("test", 8 << 20, 100, fill), writable=True, read_ahead=True) as disk:
            new = os.urandom(300_000)
            (disk.root / "new").write_bytes(new)
            for _ in range(2):
                disk.forget()
                before = disk.requests()
                assert [(disk.root / f"f{n}").read_bytes() for n in range(20)] == [bytes([n]) * 5000 for n in range(20)]
                first = disk.requests()
                assert first - before >= 20
                for number in range(20):
                    (disk.root / f"f{number}").read_bytes()
                assert disk.requests() == first and (disk.root / "new").read_bytes() == new
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not os.path.ismount(tmp_path / "slow") and not os.path.ismount(tmp_path / "tree")
    assert not (tmp_path / "used").exists()
