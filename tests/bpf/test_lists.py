# SPDX-License-Identifier: MIT
"""Lists: JSON lines, CPython's importtime format, trees and tables, on events made by hand."""
from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from records import BEGIN_NS, BPF, CLASSES, MS, Player, Records
from test_formats import HOSTILE, STORIES, by_module, chance, lines, story

pytestmark = pytest.mark.once

TEXT, NUMBER, BOOL, NULL = str, int, bool, type(None)
CLOCK = dict.fromkeys((f"{c}_ns" for c in CLASSES), NUMBER)
EVENTS: dict[str, dict[str, Any]] = {
    "begin": {"version": NUMBER, "clock": TEXT, "begin_ns": NUMBER},
    "process": {"pid": NUMBER, "alive": BOOL},
    "import": {
        "module": TEXT, "importer": (TEXT, NULL), "pid": NUMBER, "tid": NUMBER, "id": NUMBER, "parent": (NUMBER, NULL), "depth": NUMBER, "begin_ns": NUMBER,
        "total_ns": NUMBER, "self_ns": NUMBER, "failed": (BOOL, NULL), "cut": BOOL, "outcome": (TEXT, NULL)},
    "lock_wait": {
        "kind": TEXT, "module": (TEXT, NULL), "importer": (TEXT, NULL), "pid": NUMBER, "tid": NUMBER, "holder_tid": (NUMBER, NULL), "waker_tid": (NUMBER, NULL),
        "begin_ns": NUMBER, "wait_ns": NUMBER, "queue_ns": NUMBER},
    "end": {
        "events": NUMBER, "lost": NUMBER, "hits": NUMBER, "switches": NUMBER, "program_ns": NUMBER, "overhead_ns": NUMBER, "senseless": NUMBER, "dropped": NUMBER,
        "end_ns": NUMBER},
}
OPTIONAL = {"ns_pid": NUMBER, "ns_tid": NUMBER, "total": dict, "self": dict, "target_cpu_ns": NUMBER, "overhead": float, "note": TEXT}


def fits(value: Any, types: Any) -> bool:
    """bool is an int for isinstance() only."""
    types = types if isinstance(types, tuple) else (types,)
    return type(value) in types and not (type(value) is int and value < 0)


def check_json(events: list[dict[str, Any]]) -> None:
    """Members and their types, as write_json.c has them; first and last lines; numbers that refer to each other."""
    assert events[0]["event"] == "begin" and events[-1]["event"] == "end"
    assert {event["event"] for event in events[1:-1]} <= {"process", "import", "lock_wait"}
    for event in events:
        members = EVENTS[event["event"]]
        assert members.keys() <= event.keys() <= members.keys() | OPTIONAL.keys() | {"event"}, event
        for name, value in event.items():
            assert name == "event" or fits(value, members.get(name) or OPTIONAL[name]), (name, value)
        for clock in (event.get("total"), event.get("self")):
            assert clock is None or (clock.keys() == CLOCK.keys() and all(fits(ns, NUMBER) for ns in clock.values()))
        assert event.get("kind") in (None, "module", "global", "gil", "other")
        assert event.get("self_ns", 0) <= event.get("total_ns", 0)
    imports = {event["id"]: event for event in events if event["event"] == "import"}
    assert len(imports) == sum(event["event"] == "import" for event in events)
    for event in imports.values():
        assert (event["parent"] is None) == (event["depth"] == 0)
        if event["parent"] is not None:
            parent = imports[event["parent"]]
            assert event["depth"] == parent["depth"] + 1 and event["tid"] == parent["tid"] and event["begin_ns"] >= parent["begin_ns"]


@pytest.fixture(scope="module", params=STORIES)
def records(request: pytest.FixtureRequest) -> Records:
    return STORIES[request.param]()


def test_json_is_as_it_says(player: Player, records: Records) -> None:
    check_json(lines(player, records))


def test_json_members_are_documented() -> None:
    page = (BPF / "OUTPUTS.md").read_text().split("## JSON lines")[1].split("\n## ")[0]
    rows = {row.split("|")[1].strip(" `"): row for row in page.splitlines() if row.startswith("| `")}
    for event, members in EVENTS.items():
        for member in members:
            assert f"`{member}`" in rows[event], (event, member)


def test_json_golden(player: Player) -> None:
    events = lines(player, story())
    wait = next(event for event in events if event["event"] == "lock_wait")
    assert wait == {
        "event": "lock_wait", "kind": "module", "module": "slow", "importer": "app.models", "pid": 1100, "tid": 1102, "holder_tid": 1101, "waker_tid": 1101,
        "begin_ns": BEGIN_NS + 3 * MS, "wait_ns": 5 * MS, "queue_ns": MS // 2}
    nope, app = events[-3], events[-2]
    assert (nope["module"], nope["importer"], nope["failed"], nope["depth"]) == ("nope", "app", True, 1)
    assert app == {
        "event": "import", "module": "app", "importer": "__main__", "pid": 1100, "tid": 1100, "id": 1, "parent": None, "depth": 0, "begin_ns": BEGIN_NS, "total_ns": 12 * MS,
        "self_ns": 1750000, "failed": False, "cut": False, "outcome": None,
        "total": {**dict.fromkeys(CLOCK, 0), "cpu_ns": 4 * MS, "gil_ns": 3 * MS, "disk_ns": 5 * MS}, "self": {**dict.fromkeys(CLOCK, 0), "cpu_ns": 1750000}}
    assert events[-1] == {
        "event": "end", "events": 30, "lost": 2, "hits": 40, "switches": 50, "program_ns": 10 * MS, "overhead_ns": 25 * MS, "target_cpu_ns": 1000 * MS, "overhead": 0.025,
        "senseless": 0, "dropped": 0, "end_ns": BEGIN_NS + 1000 * MS, "note": 'a "note"'}


def test_json_has_the_targets_own_numbers(player: Player) -> None:
    events = lines(player, story(), inner=True)
    check_json(events)
    wait = next(event for event in events if event["event"] == "lock_wait")
    assert (wait["pid"], wait["ns_pid"], wait["tid"], wait["ns_tid"]) == (1100, 100, 1102, 102)


@pytest.mark.parametrize("change", [
    {"self_ns": -1}, {"failed": 0}, {"kind": "gil"}, {"parent": 1}, {"self_ns": 10**15}, {"module": None}], ids=lambda change: next(iter(change)))
def test_the_rules_of_json_notice(player: Player, change: dict[str, Any]) -> None:
    """Control."""
    events = lines(player, story())
    check_json(events)
    next(event for event in events if event["event"] == "import").update(change)
    with pytest.raises((AssertionError, KeyError)):
        check_json(events)


# importtime


LINE = re.compile(r"import time: ( {0,8}\d+) \| ( {0,9}\d+) \| ((?:  )*)(.+)")


def tree_of(text: str) -> list[tuple[int, str, int, int]]:
    """Depth, name, self and cumulative microseconds of each line, read as tuna does it: a line's children are those before it that are one deeper, up to one that is not deeper."""
    first, *rest = text.splitlines()
    assert first == "import time: self [us] | cumulative | imported package"
    rows = []
    for line in rest:
        match = LINE.fullmatch(line)
        assert match and len(match[1]) >= 9 and len(match[2]) >= 10, line
        rows.append((len(match[3]) // 2, match[4], int(match[1]), int(match[2])))
    for at, (depth, _, self_us, cumulative) in enumerate(rows):
        assert at + 1 == len(rows) and depth == 0 or at + 1 < len(rows) and rows[at + 1][0] >= depth - 1, "a line without the one it is within"
        children = []
        for below in reversed(rows[:at]):
            if below[0] <= depth:
                break
            if below[0] == depth + 1:
                children.append(below)
        # Each is rounded up.
        assert self_us <= cumulative <= self_us + sum(child[3] for child in children) + 1
    return rows


@pytest.mark.parametrize("what", ["story", "nothing", "chance", "hostile"])
def test_importtime_is_a_tree(player: Player, what: str) -> None:
    records = STORIES[what]()
    out, errors = player.play("importtime", records)
    rows = tree_of(out)
    events = [event for event in lines(player, records) if event["event"] == "import"]
    assert Counter((depth, us) for depth, _, _, us in rows) == Counter((event["depth"], -(-event["total_ns"] // 1000)) for event in events)
    assert "lost events: 2" in errors and "overhead" in errors


def test_importtime_golden(player: Player) -> None:
    assert player.play("importtime", story())[0] == (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      6000 |       6000 | slow\n"
        "import time:      6500 |       6500 | slow\n"
        "import time:     10000 |      10000 |   app.db\n"
        "import time:       250 |        250 |   nope\n"
        "import time:      1750 |      12000 | app\n")


def test_importtime_rounds_up(player: Player) -> None:
    """As CPython does."""
    r = Records()
    r.start(0, "a")
    r.done(0.001001, "a")
    assert "        2 |          2 | a" in player.play("importtime", r)[0]


def test_importtime_of_greenlets_keeps_trees_together(player: Player) -> None:
    """A child that ends after its parent is above it all the same."""
    r = Records()
    r.start(0, "a", stack=0x9000)
    r.start(1, "b", stack=0x8000)
    r.done(2, "a", stack=0x9000)
    r.start(3, "c", stack=0x9000)
    r.done(4, "c", stack=0x9000)
    r.done(5, "b", stack=0x8000)
    out = player.play("importtime", r)[0]
    assert [line.rsplit("|", 1)[1] for line in out.splitlines()[1:]] == [" c", "   b", " a"]


def test_tuna_reads_importtime(player: Player, tmp_path: Path) -> None:
    tuna = pytest.importorskip("tuna._import_profile")
    path = tmp_path / "import.log"
    path.write_text(player.play("importtime", chance(3, 2000))[0], encoding="utf-8")
    tree = tuna.read_import_profile(str(path))

    def count(node: dict[str, Any]) -> int:
        return 1 + sum(count(child) for child in node.get("children", ()))

    assert count(tree) == len(path.read_text(encoding="utf-8").splitlines())


# Trees


def test_tree_golden(player: Player) -> None:
    assert player.play("tree", story())[0].split("\nmost contended")[0] == """\
process 1100, thread 1101
  total ms     self ms  module
     6.000       6.000  slow <- app.views

process 1100, thread 1102
  total ms     self ms  module
     6.500       6.500  slow <- app.models
                           5.000 ms for lock of slow, held by thread 1101

process 1100, thread 1100
  total ms     self ms      cpu    locks      gil    other  module
    12.000       1.750    1.750    0.000    0.000    0.000  app <- __main__
    10.000      10.000    2.000    0.000    3.000    5.000  ├─ app.db
     0.250       0.250    0.250    0.000    0.000    0.000  └─ nope [failed]
"""


def test_tree_stems(player: Player) -> None:
    r = Records()
    for at, name in enumerate(("a", "b", "c")):
        r.start(at, name)
    r.wait(3, "module", 0.5, module="x", waker=1101)
    r.done(4, "c")
    r.done(5, "b")
    r.start(6, "d")
    r.start(7, "e")
    out = player.play("tree", r)[0]
    assert [line[24:] for line in out.splitlines()[2:8]] == [
        "a [not over]", "├─ b", "│  └─ c", "│        0.500 ms for lock of x, held by thread 1101", "└─ d [not over]", "   └─ e [not over]"]


def test_what_is_listed_has_those_around_it(player: Player) -> None:
    for form in ("tree", "importtime"):
        out, _ = player.play(form, story(), globs=("app.*",))
        assert "app.db" in out and re.search(r" app( <- __main__)?\n", out) and "nope" not in out and " slow" not in out
        out, _ = player.play(form, story(), threshold=6.2)
        assert "app.db" in out and "nope" not in out and len(re.findall(r" slow( <- app.models)?\n", out)) == 1


# Tables


def test_table_golden(player: Player) -> None:
    out = player.play("table", story())[0]
    assert out == """\
   count  failed     self ms    total ms       cpu       gil      disk    waited  module <- importer
       2       0      12.500      12.500     0.000     0.000     0.000     5.000  slow <- app.views
       1       0      10.000      10.000     2.000     3.000     5.000     0.000  app.db <- app
       1       0       1.750      12.000     1.750     0.000     0.000     0.000  app <- __main__
       1       1       0.250       0.250     0.250     0.000     0.000     0.000  nope <- app

most contended modules
     waits  waited ms  longest ms  module
         1      5.000       5.000  slow, held by thread 1101

longest waits
 waited ms  for
     5.000  lock of slow: thread 1102, importing app.models, held by thread 1101

waits for module locks: 1, 5.000 ms together, the longest 5.000 ms
   <=   8.19 ms          1 ########################################

events: 30 (probes were hit 40 times, threads switched 50 times)
lost events: 2: what is said above is incomplete
overhead: about 25.000 ms of CPU time, 2.50 % of what the traced processes used
note: a "note"
"""


@pytest.mark.parametrize(("columns", "classes", "rest"), [(40, "", "cpu, gil, disk"), (80, "disk", "cpu, gil"), (90, "cpu disk", "gil"), (200, "cpu gil disk", "")])
def test_a_terminal_has_as_many_columns_as_have_room(player: Player, monkeypatch: pytest.MonkeyPatch, columns: int, classes: str, rest: str) -> None:
    """Those with the most time, and it is said what is left out; other columns are as in a file."""
    whole = player.play("table", story())[0]
    monkeypatch.setenv("PLAY_COLUMNS", str(columns))
    out = player.play("table", story())[0]
    heading, row = (line.split() for line in out.splitlines()[:2])
    assert heading == f"count failed self ms total ms {classes} waited module <- importer".split()
    assert len(row) == 8 + len(classes.split())
    assert columns < 80 or all(len(line) <= columns for line in out.split("\n\n")[0].splitlines())
    assert (f"\nno room here for {rest}: " in out) is bool(rest) and ("no room" in out) is bool(rest)
    assert out.split("\n\n")[1:] == whole.split("\n\n")[1:]


def test_table_adds_up(player: Player, records: Records) -> None:
    events = lines(player, records)
    rows = [line.split() for line in player.play("table", records)[0].split("\n\n")[0].splitlines()[1:]]
    assert sum(int(row[0]) for row in rows) == sum(event["event"] == "import" for event in events)
    assert sum(float(row[2]) for row in rows) == pytest.approx(sum(by_module(events, "self_ns").values()) / MS, abs=0.001 * len(rows))


def test_chains_are_told(player: Player) -> None:
    """1103 waits for b, whose importer waits for a."""
    r = Records()
    r.start(0, "a", tid=1101)
    r.start(0, "b", tid=1102)
    r.wait(2, "module", 5, module="a", waker=1101, tid=1102)
    r.wait(1, "module", 8, module="b", waker=1102, tid=1103)
    for form in ("tree", "table"):
        assert """
chains of holders
 waited ms  times
     8.000      1  thread 1103 -> lock of b, held by thread 1102 -> lock of a, held by thread 1101
""" in player.play(form, r)[0]
        assert "chains" not in player.play(form, r, threshold=8.5)[0] and "chains" not in player.play(form, r, globs=("a",))[0]
        assert "chains" in player.play(form, r, threshold=7.5, globs=("b",))[0]


@pytest.mark.parametrize("form", ["tree", "table", "importtime"])
def test_hostile_names_are_shown_without_control_characters(player: Player, form: str) -> None:
    out, _ = player.play(form, STORIES["hostile"]())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out)
    assert "ünï.ςοδε.模块" in out and "x" * 255 in out


def test_json_keeps_names_as_they_are(player: Player) -> None:
    modules = {event.get("module") for event in lines(player, STORIES["hostile"]())}
    assert {name.decode(errors="replace") for name in HOSTILE if name.isascii()} <= modules


def test_the_targets_own_numbers_are_shown(player: Player) -> None:
    for form in ("tree", "table"):
        assert "held by thread 1101 (101 inside)" in player.play(form, story(), inner=True)[0]
