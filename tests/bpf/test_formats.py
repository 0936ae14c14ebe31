# SPDX-License-Identifier: MIT
"""Output formats: what they make of events, and that they keep to what is published of them. The programs that read them are strict about different things: format_rules.py."""
from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from typing import Any

import pytest
from format_rules import check_chrome, check_folded, check_prometheus, check_speedscope
from records import BPF, MS, Player, Records

pytestmark = pytest.mark.once

HOSTILE = [b'ev;il"\n\\', b"\x1b[31mred\x1b[0m", b"\xff\xfe\xc0\xaf", "\u202eover\u2066\x85".encode(), b"{}=,#", b"x" * 255, " ".encode(), "ünï.ςοδε.模块".encode()]


def story() -> Records:
    """An application, another thread that waits for a module which a third one imports, and a failure."""
    r = Records()
    r.start(0, "app", "__main__", clock={"cpu": 5})
    r.start(1, "app.db", "app", clock={"cpu": 6})
    r.start(2, "slow", "app.views", tid=1101)
    r.start(2.5, "slow", "app.models", tid=1102)
    r.done(8, "slow", tid=1101)
    r.wait(3, "module", 5, module="slow", queue=0.5, waker=1101, tid=1102)
    r.done(9, "slow", tid=1102)
    r.done(11, "app.db", clock={"cpu": 8, "gil": 3, "disk": 5})
    r.start(11.25, "nope", "app", clock={"cpu": 8.25, "gil": 3, "disk": 5})
    r.done(11.5, "nope", failed=True, clock={"cpu": 8.5, "gil": 3, "disk": 5})
    r.done(12, "app", clock={"cpu": 9, "gil": 3, "disk": 5})
    return r


def greenlets() -> Records:
    """g1 begins before g2 and ends while g2 goes on, and so on, on stacks of their own."""
    r = Records()
    r.start(20, "g1", stack=0x1000)
    r.start(25, "g2", stack=0x9000)
    r.start(26, "g2.x", "g2", stack=0x8000)
    r.start(28, "g3", stack=0x20000)
    r.done(29, "g2.x", stack=0x8000)
    r.done(30, "g1", stack=0x1000)
    r.done(35, "g2", stack=0x9000)
    r.done(36, "g3", stack=0x20000)
    return r


def hostile() -> Records:
    r = Records()
    for number, name in enumerate(HOSTILE):
        r.start(number, name, HOSTILE[number - 1])
        r.done(number + 0.5, name, failed=number % 2 == 0)
        r.wait(number, "module", 0.25, module="", waker=1101)
    for name in (b"a\x01", b"a\x02", b"other", b""):
        r.start(50, name)
        r.done(51, name)
    return r


def chance(seed: int, steps: int) -> Records:
    """Threads that import at random: nested, failing, waiting, in the middle of something when the trace ends."""
    choose = random.Random(seed)
    r = Records()
    stacks: dict[int, list[str]] = {tid: [] for tid in range(1100, 1106)}
    for step in range(steps):
        tid = choose.choice(list(stacks))
        stack, at = stacks[tid], step / 8
        if stack and (len(stack) > 30 or choose.random() < 0.48):
            r.done(at, stack.pop(), tid=tid, failed=choose.random() < 0.1)
        elif stack and choose.random() < 0.2:
            r.wait(at - 0.05, choose.choice(("module", "gil", "global", "futex")), 0.03, queue=0.01, module=choose.choice(("", "m1")), waker=1100, tid=tid)
        else:
            stack.append(f"m{choose.randrange(40)}")
            r.start(at, stack[-1], stack[-2] if len(stack) > 1 else "", tid=tid)
    return r


STORIES = {"story": story, "greenlets": greenlets, "hostile": hostile, "nothing": Records, "chance": lambda: chance(1, 4000)}


@pytest.fixture(scope="module", params=STORIES)
def records(request: pytest.FixtureRequest) -> Records:
    return STORIES[request.param]()


def lines(player: Player, records: Records, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in player.play("json", records, **options)[0].splitlines()]


def by_module(events: list[dict[str, Any]], what: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for event in events:
        if event["event"] == "import":
            sums[event["module"] or "?"] += event[what]
    return sums


def waits_of(events: list[dict[str, Any]]) -> int:
    return sum(event["wait_ns"] + event["queue_ns"] for event in events if event["event"] == "lock_wait")


# Chrome


def test_chrome_is_valid_and_complete(player: Player, records: Records) -> None:
    """Every import and every wait is there, as long as it was."""
    document = json.loads(player.play("chrome", records)[0])
    check_chrome(document)
    assert document["otherData"]["events"] == 30 and document["otherData"]["lost"] == 2 and document["otherData"]["overhead_ns"] == 25 * MS
    sums: Counter[str] = Counter()
    for event in document["traceEvents"]:
        if event["ph"] == "X":
            sums[event["name"] if event["cat"] == "import" else ""] += round(event["dur"] * 1000)
        elif event["ph"] in "be":
            sums[event["name"]] += round(event["ts"] * 1000) * (1 if event["ph"] == "e" else -1)
    events = lines(player, records)
    waits = sums.pop("", 0)
    assert sums == by_module(events, "total_ns")
    assert waits == waits_of(events)


def test_chrome_says_who_held_the_lock(player: Player) -> None:
    events = json.loads(player.play("chrome", story())[0])["traceEvents"]
    wait = next(event for event in events if event.get("cat") == "wait" and event["ph"] == "X")
    assert (wait["name"], wait["tid"], wait["ts"], wait["dur"]) == ("lock of slow", 1102, 1003000, 5500)
    assert wait["args"] == {"kind": "module", "wait_ns": 5 * MS, "queue_ns": MS // 2, "holder_tid": 1101, "waker_tid": 1101}
    assert [(event["tid"], event["ts"]) for event in events if event["ph"] in "sf"] == [(1102, 1003000), (1101, 1003000)]


def holder() -> Records:
    """Thread 1102 waits for the GIL while thread 1101 imports `small` within `big`; and again when it imports `late`, which ends before the wait is told."""
    r = Records()
    r.start(0, "big", tid=1101)
    r.start(1, "small", tid=1101)
    r.start(1, "app", tid=1102)
    r.wait(2, "gil", 4, waker=1101, tid=1102)
    r.done(7, "small", tid=1101)
    r.done(20, "big", tid=1101)
    r.start(30, "late", tid=1101)
    r.done(36, "late", tid=1101)
    r.wait(31, "gil", 6, waker=1101, tid=1102)
    r.done(40, "app", tid=1102)
    return r


@pytest.mark.parametrize(("options", "arrows"), [
    ({}, [2, 31]), ({"globs": ("app", "big")}, [2]), ({"globs": ("app", "late")}, [31]), ({"globs": ("app",)}, []), ({"globs": ("big", "small", "late")}, []), ({"threshold": 5}, [31]),
], ids=str)
def test_chrome_draws_arrows_to_what_it_draws(player: Player, options: dict[str, Any], arrows: list[int]) -> None:
    """Not to imports that are left out, wherever the arrow's import is short or not asked for."""
    document = json.loads(player.play("chrome", holder(), **options)[0])
    check_chrome(document)
    assert [event["ts"] // 1000 - 1000 for event in document["traceEvents"] if event["ph"] == "s"] == arrows


@pytest.mark.parametrize("options", [{"threshold": 1}, {"globs": ("m1", "m2*")}], ids=str)
def test_chrome_is_valid_with_parts_left_out(player: Player, options: dict[str, Any]) -> None:
    check_chrome(json.loads(player.play("chrome", chance(3, 4000), **options)[0]))


def test_chrome_puts_what_crosses_elsewhere(player: Player) -> None:
    events = json.loads(player.play("chrome", greenlets())[0])["traceEvents"]
    assert {event["name"] for event in events if event["ph"] == "b"} == {"g1", "g2", "g2.x"}
    assert {event["name"] for event in events if event["ph"] == "X"} == {"g3"}


def test_chrome_puts_what_never_ends_elsewhere_if_it_crosses(player: Player) -> None:
    """`a` is left when `c` begins at its place; `b` within it ends later than that, and `a` never."""
    r = Records()
    r.start(0, "a", stack=0x1000)
    r.start(5, "b", stack=0xf00)
    r.start(10, "c", stack=0x1000)
    r.done(15, "c", stack=0x1000)
    r.done(20, "b", stack=0xf00)
    document = json.loads(player.play("chrome", r)[0])
    check_chrome(document)
    assert [event["name"] for event in document["traceEvents"] if event["ph"] == "b"] == ["a"]


@pytest.mark.parametrize("seed", [9, 15, 45])
def test_greenlets_at_random(player: Player, seed: int) -> None:
    """Four stacks, of which some have imports that are not over at the end."""
    choose = random.Random(seed)
    r = Records()
    stacks: list[list[str]] = [[] for _ in range(4)]
    for step in range(200):
        which = choose.randrange(4)
        stack, base = stacks[which], 0x1000000 * (which + 1)
        if stack and (len(stack) > 20 or choose.random() < 0.5):
            name = stack.pop()
            r.done(step, name, stack=base - 0x100 * len(stack))
        else:
            stack.append(f"m{choose.randrange(12)}")
            r.start(step, stack[-1], stack=base - 0x100 * (len(stack) - 1))
    check_chrome(json.loads(player.play("chrome", r)[0]))
    check_speedscope(json.loads(player.play("speedscope", r)[0]))


def test_chrome_has_the_targets_own_numbers(player: Player) -> None:
    events = json.loads(player.play("chrome", story(), inner=True)[0])["traceEvents"]
    assert [event["args"]["name"] for event in events if event["ph"] == "M"][:3] == [
        "process 1100 (100 inside)", "main thread 1100 (100 inside)", "thread 1101 (101 inside)"]


@pytest.mark.parametrize("broken", [
    [("X", 1, 5, {}), ("X", 3, 5, {})],
    [("b", 1, 0, {"id": "1"})],
    [("X", 1, 5, {}), ("s", 2, 0, {"id": "1"}), ("f", 7, 0, {"id": "1", "bp": "e"})],
], ids=["crossing", "half", "arrow"])
def test_the_rules_notice(broken: list[tuple[str, int, int, dict[str, str]]]) -> None:
    """Control: a lane that does not nest, an asynchronous event without its end, and an arrow to nowhere are noticed."""
    name = {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "x"}}
    events = [{"ph": phase, "pid": 1, "tid": 1, "name": "x", "cat": "x", "ts": at, "dur": dur, **more} for phase, at, dur, more in broken]
    with pytest.raises(AssertionError):
        check_chrome({"traceEvents": [name, *events]})


# speedscope


def test_speedscope_is_valid_and_complete(player: Player, records: Records) -> None:
    document = json.loads(player.play("speedscope", records)[0])
    check_speedscope(document)
    assert document["ladewerk"]["lost"] == 2
    names = [frame["name"] for frame in document["shared"]["frames"]]
    sums: Counter[str] = Counter()
    waits = 0
    for profile in document["profiles"]:
        for event in profile["events"]:
            name, at = names[event["frame"]], event["at"] * (1 if event["type"] == "C" else -1)
            if name.startswith(("[lock of ", "[a module's lock]", "[global import lock]", "[GIL]", "[another lock]")):
                waits += at
            else:
                sums[name] += at
    events = lines(player, records)
    assert sums == by_module(events, "total_ns")
    assert waits == waits_of(events)


def test_speedscope_opens_again_what_goes_on(player: Player) -> None:
    document = json.loads(player.play("speedscope", greenlets())[0])
    names = [frame["name"] for frame in document["shared"]["frames"]]
    (profile,) = document["profiles"]
    at30 = [(event["type"], names[event["frame"]]) for event in profile["events"] if event["at"] == 30 * MS]
    assert (profile["startValue"], profile["endValue"]) == (20 * MS, 36 * MS)
    assert at30 == [("C", "g3"), ("C", "g2"), ("C", "g1"), ("O", "g2"), ("O", "g3")]


def test_an_end_that_was_lost_is_not_drawn_late(player: Player) -> None:
    """`gone` has lasted until its place on the stack was used again; what came after it is not beneath it, although that is told first."""
    r = Records()
    r.start(0, "gone", stack=0x1000)
    r.start(10, "next", stack=0x1000)
    r.done(20, "next", stack=0x1000)
    document = json.loads(player.play("speedscope", r)[0])
    names = [frame["name"] for frame in document["shared"]["frames"]]
    assert [(event["type"], names[event["frame"]], event["at"] // MS) for event in document["profiles"][0]["events"]] == [
        ("O", "gone", 0), ("C", "gone", 10), ("O", "next", 10), ("C", "next", 20)]


def test_speedscope_has_the_targets_own_numbers(player: Player) -> None:
    names = [profile["name"] for profile in json.loads(player.play("speedscope", story(), inner=True)[0])["profiles"]]
    assert names[0] == "process 1100 (100 inside), thread 1101 (101 inside)"


@pytest.mark.parametrize(("broken", "words"), [
    ([("O", 0, 1), ("O", 1, 2), ("C", 0, 3), ("C", 1, 4)], "closed out of order"),
    ([("O", 0, 1), ("C", 0, 1), ("O", 1, 0), ("C", 1, 2)], "out of order"),
    ([("O", 0, 1)], "left open"),
    ([("O", 0, 1), ("C", 0, 11)], "out of order"),
], ids=["crossing", "backwards", "open", "beyond"])
def test_the_rules_of_speedscope_notice(broken: list[tuple[str, int, int]], words: str) -> None:
    """Control: frames that close out of order or never, and times that go back or past the end, are noticed."""
    def document(events: list[tuple[str, int, int]]) -> dict[str, Any]:
        written = [{"type": kind, "frame": frame, "at": at} for kind, frame, at in events]
        return {"$schema": "https://www.speedscope.app/file-format-schema.json", "shared": {"frames": [{"name": "a"}, {"name": "b"}]},
            "profiles": [{"type": "evented", "name": "x", "unit": "nanoseconds", "startValue": 0, "endValue": 10, "events": written}]}
    check_speedscope(document([("O", 0, 1), ("O", 1, 2), ("C", 1, 3), ("C", 0, 4)]))
    with pytest.raises(AssertionError, match=f"^{words}"):
        check_speedscope(document(broken))


# Folded stacks


def test_folded_adds_up(player: Player, records: Records) -> None:
    """The sum of all lines is the sum of all self times; the ending is on stderr, lest it be a stack."""
    out, errors = player.play("folded", records)
    stacks = check_folded(out)
    assert sum(stacks.values()) == sum(by_module(lines(player, records), "self_ns").values())
    assert "lost events: 2" in errors and "25.000 ms" in errors


def test_folded_golden(player: Player) -> None:
    assert player.play("folded", story())[0] == (
        "app 1750000\n"
        "app;app.db 2000000\n"
        "slow 12500000\n"
        "app;app.db;[GIL] 3000000\n"
        "app;app.db;[disk] 5000000\n"
        "app;nope 250000\n")


def test_folded_gives_what_is_left_out_to_the_importer(player: Player) -> None:
    """Waits stay waits; outermost imports that are left out are nobody's."""
    assert player.play("folded", story(), globs=("app",))[0] == "app 4000000\napp;[GIL] 3000000\napp;[disk] 5000000\n"
    assert player.play("folded", story(), threshold=5.2)[0] == player.play("folded", story())[0].replace("app;nope 250000\n", "").replace("app 1750000", "app 2000000")
    assert player.play("folded", story(), globs=("nope",))[0] == "app;nope 250000\n"


@pytest.mark.parametrize("seed", [1, 5])
def test_folded_adds_up_with_short_ones_left_out(player: Player, seed: int) -> None:
    records = chance(seed, 2000)
    stacks = check_folded(player.play("folded", records, threshold=3)[0])
    outermost = {event["id"]: event["total_ns"] for event in lines(player, records) if event["event"] == "import" and event["depth"] == 0}
    whole = check_folded(player.play("folded", records)[0])
    assert sum(whole.values()) == sum(outermost.values())
    assert {frames[0] for frames in whole} > {frames[0] for frames in stacks} or set(whole) > set(stacks)
    for outer in {frames[0] for frames in stacks}:
        assert sum(ns for frames, ns in stacks.items() if frames[0] == outer) == sum(ns for frames, ns in whole.items() if frames[0] == outer)


# Prometheus


def test_prometheus_is_valid(player: Player, records: Records) -> None:
    out, _ = player.play("prometheus", records)
    series = check_prometheus(out)
    events = lines(player, records)
    imports = [event for event in events if event["event"] == "import"]
    assert series["ladewerk_import_seconds_count", ()] == len(imports)
    assert series["ladewerk_import_seconds_sum", ()] == pytest.approx(sum(event["total_ns"] for event in imports) / 1e9)
    for metric, expected in (("imports_total", len(imports)), ("import_failures_total", sum(event["failed"] is True for event in imports)),
            ("import_self_seconds_total", sum(event["self_ns"] for event in imports) / 1e9)):
        assert sum(value for (name, _), value in series.items() if name == f"ladewerk_{metric}") == pytest.approx(expected)
    waits = Counter(event["kind"] for event in events if event["event"] == "lock_wait")
    for kind in ("module", "global", "gil", "other"):
        assert series["ladewerk_import_lock_wait_seconds_count", (("kind", kind),)] == waits[kind]
    assert series["ladewerk_trace_lost_events_total", ()] == 2 and series["ladewerk_trace_overhead_seconds_total", ()] == 0.025


def test_prometheus_golden(player: Player) -> None:
    out, _ = player.play("prometheus", story())
    assert [line for line in out.splitlines() if line.startswith(("ladewerk_imports_total", "ladewerk_import_lock_waited", "ladewerk_import_class"))] == [
        'ladewerk_imports_total{module="slow"} 2',
        'ladewerk_imports_total{module="app.db"} 1',
        'ladewerk_imports_total{module="app"} 1',
        'ladewerk_imports_total{module="nope"} 1',
        'ladewerk_imports_total{module="other"} 0',
        'ladewerk_import_lock_waited_seconds_total{module="slow"} 0.005000000',
        'ladewerk_import_lock_waited_seconds_total{module="app.db"} 0.000000000',
        'ladewerk_import_lock_waited_seconds_total{module="app"} 0.000000000',
        'ladewerk_import_lock_waited_seconds_total{module="nope"} 0.000000000',
        'ladewerk_import_lock_waited_seconds_total{module="other"} 0.000000000',
        'ladewerk_import_class_seconds_total{class="cpu"} 0.004000000',
        'ladewerk_import_class_seconds_total{class="queue"} 0.000000000',
        'ladewerk_import_class_seconds_total{class="module"} 0.000000000',
        'ladewerk_import_class_seconds_total{class="global"} 0.000000000',
        'ladewerk_import_class_seconds_total{class="gil"} 0.003000000',
        'ladewerk_import_class_seconds_total{class="futex"} 0.000000000',
        'ladewerk_import_class_seconds_total{class="disk"} 0.005000000',
        'ladewerk_import_class_seconds_total{class="sleep"} 0.000000000',
    ]


@pytest.mark.parametrize("labels", [0, 3])
def test_prometheus_labels_are_bounded(player: Player, labels: int) -> None:
    records = chance(2, 1000)
    series = check_prometheus(player.play("prometheus", records, labels=labels)[0])
    modules = [dict(where)["module"] for (name, where) in series if name == "ladewerk_imports_total"]
    self_ns = by_module(lines(player, records), "self_ns")
    assert modules == [module for module, _ in self_ns.most_common(labels)] + ["other"]


def test_prometheus_names_that_would_be_the_same_are_one(player: Player) -> None:
    modules = [dict(where)["module"] for (name, where) in check_prometheus(player.play("prometheus", hostile())[0]) if name == "ladewerk_imports_total"]
    assert modules.count("other") == 1 and "a?" not in modules
    assert {"{}=,#", " ", "ünï.ςοδε.模块"} <= set(modules)


def test_the_rules_of_prometheus_notice() -> None:
    """Control."""
    good = '# HELP x y\n# TYPE x histogram\nx_bucket{le="1"} 1\nx_bucket{le="+Inf"} 2\nx_sum 3\nx_count 2\n'
    check_prometheus(good)
    for broken in (good.replace('1"} 1', '1"} 3'), good.replace("x_count 2", "x_count 3"), good + "x_count 2\n", good + good, good.replace('le="1"', 'le="1\\x"'), good + "z 1\n"):
        with pytest.raises(AssertionError):
            check_prometheus(broken)


# All of them


@pytest.mark.parametrize("form", ["chrome", "speedscope", "folded"])
def test_what_is_short_or_not_asked_for_is_left_out(player: Player, form: str) -> None:
    long, _ = player.play(form, story(), threshold=5.2)
    assert "nope" not in long and "app.db" in long and "[lock of" not in long and '"lock of' not in long
    chosen, _ = player.play(form, story(), globs=("slo*", "nope"))
    assert "slow" in chosen and "nope" in chosen and "app.db" not in chosen.replace('"importer":"app.db"', "")


def test_the_page_has_every_metric_and_every_format(player: Player) -> None:
    page = (BPF / "OUTPUTS.md").read_text()
    section = page.split("\n## Prometheus\n")[1]
    out, _ = player.play("prometheus", story())
    metrics = {line.split()[2].removeprefix("ladewerk_") for line in out.splitlines() if line.startswith("# TYPE ")}
    assert metrics == set(re.findall(r"`([a-z_]+)`", "\n".join(line.partition("|")[2].partition("|")[0] for line in section.splitlines() if "_" in line and line.startswith("| `"))))
    options = set(re.findall(r'option = "([a-z]+)"', "".join(path.read_text() for path in BPF.glob("write_*.c"))))
    assert options | {"live"} == set(re.findall(r"^\| `--([a-z]+)` ", page, re.M))


@pytest.mark.skipif(os.environ.get("LADEWERK_LONG") != "1", reason="with LADEWERK_LONG=1")
def test_many_stories(player: Player) -> None:
    for seed in range(20):
        records = chance(seed, 5000)
        test_chrome_is_valid_and_complete(player, records)
        test_speedscope_is_valid_and_complete(player, records)
        test_folded_adds_up(player, records)
        test_prometheus_is_valid(player, records)
