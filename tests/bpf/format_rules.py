# SPDX-License-Identifier: MIT
"""Rules of published formats, as far as their readers rely on them. Each function raises AssertionError for what breaks one."""
from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

Number = (int, float)


def _nests(spans: list[tuple[float, float]]) -> bool:
    """Whether of any two spans that overlap one lies within the other."""
    open_ends: list[float] = []
    for begin, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_ends and open_ends[-1] <= begin:
            open_ends.pop()
        if open_ends and end > open_ends[-1]:
            return False
        open_ends.append(end)
    return True


def check_chrome(document: dict[str, Any]) -> None:
    """Trace Event Format, the JSON object form: phases M, X, b, e, s and f; slices of a thread nest, halves and arrows have their other ends."""
    assert isinstance(document["traceEvents"], list)
    assert document.get("displayTimeUnit", "ms") in ("ms", "ns")
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    halves: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    named = set()
    for event in document["traceEvents"]:
        lane = event["pid"], event["tid"]
        assert all(isinstance(number, int) for number in lane) and isinstance(event["name"], str), event
        assert isinstance(event.get("args", {}), dict)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and isinstance(event["args"]["name"], str)
            named.add((event["name"], lane))
            continue
        assert isinstance(event["ts"], Number) and isinstance(event["cat"], str), event
        assert ("thread_name", lane) in named, "a lane without a name"
        if event["ph"] == "X":
            assert isinstance(event["dur"], Number) and event["dur"] >= 0, event
            lanes[lane].append((round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)))
        else:
            assert event["ph"] in "besf" and isinstance(event["id"], str), event
            halves[event["ph"] in "be" and "async" or "flow", event["id"]].append(event)
    assert all(_nests(spans) for spans in lanes.values())
    for (kind, _), pair in halves.items():
        assert [half["ph"] for half in pair] == (["b", "e"] if kind == "async" else ["s", "f"]), pair
        assert pair[0]["ts"] <= pair[1]["ts"]
        for half in pair if kind == "flow" else ():
            at = round(half["ts"] * 1000)
            assert half["ph"] == "s" or half["bp"] == "e"
            assert any(begin <= at <= end for begin, end in lanes[half["pid"], half["tid"]]), "an arrow that begins or ends nowhere"


def check_speedscope(document: dict[str, Any]) -> None:
    """https://www.speedscope.app/file-format-schema.json, evented profiles; and what its importer refuses: times that go back, frames that close out of order or never."""
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = document["shared"]["frames"]
    assert all(isinstance(frame["name"], str) and set(frame) <= {"name", "file", "line", "col"} for frame in frames)
    assert isinstance(document.get("name", ""), str) and isinstance(document.get("exporter", ""), str)
    for profile in document["profiles"]:
        assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "events"}
        assert profile["type"] == "evented" and profile["unit"] in ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes")
        stack: list[int] = []
        at = profile["startValue"]
        for event in profile["events"]:
            assert set(event) == {"type", "frame", "at"} and 0 <= event["frame"] < len(frames), event
            assert at <= event["at"] <= profile["endValue"], "out of order"
            at = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
            else:
                assert event["type"] == "C" and stack and stack.pop() == event["frame"], "closed out of order"
        assert not stack, "left open"


def check_folded(text: str) -> dict[tuple[str, ...], int]:
    """As flamegraph.pl reads them: frames, a space, a number. Stacks and their numbers."""
    stacks: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([^\x00-\x1f\x7f]+) (\d+)", line)
        assert match, line
        frames = tuple(match[1].split(";"))
        assert all(frames), line
        stacks[frames] = stacks.get(frames, 0) + int(match[2])
    return stacks


_LABELS = re.compile(r'(?:([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)")(?:,|$)')
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def check_prometheus(text: str) -> Series:
    """Text format 0.0.4: HELP and TYPE before samples of a name, all samples of a name together, no series twice, histograms that add up. Series and their values."""
    assert text.endswith("\n")
    types: dict[str, str] = {}
    closed: set[str] = set()
    family = ""
    series: Series = {}
    for line in text.splitlines():
        if line.startswith("# HELP ") or line.startswith("# TYPE "):
            word, name, rest = line[2:].split(" ", 2)
            if name != family:
                assert name not in closed, "a name that comes twice"
                closed.add(family := name)
            if word == "TYPE":
                assert rest in ("counter", "gauge", "histogram", "summary", "untyped") and name not in types
                types[name] = rest
            continue
        if line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        name, inside, value = match[1], match[2] or "", match[3]
        labels = tuple(_LABELS.findall(inside))
        assert ",".join(f'{label}="{text}"' for label, text in labels) == inside, line
        assert name == family or (types[family] == "histogram" and name in (f"{family}_{end}" for end in ("bucket", "sum", "count"))), line
        assert (name, labels) not in series, f"twice: {line}"
        series[name, labels] = float(value)
    for name, kind in types.items():
        if kind == "histogram":
            _check_histogram(name, series)
        else:
            assert kind != "counter" or name.endswith("_total")
    return series


def _check_histogram(name: str, series: Series) -> None:
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = defaultdict(list)
    for (metric, labels), value in series.items():
        if metric == f"{name}_bucket":
            buckets[tuple(label for label in labels if label[0] != "le")].append((float(dict(labels)["le"]), value))
    assert buckets
    for labels, counted in buckets.items():
        assert counted == sorted(counted), "bounds and counts must rise"
        assert [value for _, value in counted] == sorted(value for _, value in counted)
        assert counted[-1] == (float("inf"), series[f"{name}_count", labels])
        assert (f"{name}_sum", labels) in series
