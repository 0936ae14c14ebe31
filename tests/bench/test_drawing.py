# SPDX-License-Identifier: MIT
"""What is drawn, as far as that is arithmetic; with LADEWERK_LONG=1 for real, by the matplotlib that the benchmark installs."""
from __future__ import annotations

import os
import random
import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import drawing
import pytest
from drawing import Drawer, short, spread, styles, tick
from plots import KINDS, Line, Plot


@pytest.mark.parametrize(("wanted", "found"), [
    ([1, 5, 9], [1, 5, 9]),
    ([5, 5, 5], [4, 5, 6]),
    ([5, 5.4, 9], [4.7, 5.7, 9]),
    ([9.8, 10, 9.9], [8, 10, 9]),
    ([-3, 12], [0, 10]),
    ([0.2, 0.1], [1, 0]),
    ([], []),
])
def test_labels_are_pushed_apart(wanted: list[float], found: list[float]) -> None:
    assert spread(wanted, 1, 0, 10) == pytest.approx(found)


def test_labels_keep_their_order_and_their_distance() -> None:
    rng = random.Random(1)
    for count in range(1, 9):
        wanted = [rng.uniform(0, 10) for _ in range(count)]
        places = spread(wanted, 1, 0, 10)
        ordered = sorted(places)
        assert [places[n] for n in sorted(range(count), key=lambda n: wanted[n])] == ordered
        assert all(b - a > 1 - 1e-9 for a, b in zip(ordered, ordered[1:])) and -1e-9 < ordered[0] and ordered[-1] < 10 + 1e-9


def test_lines_of_a_kind_look_different() -> None:
    lines = [Line("", [], [], [], [], kind) for kind in KINDS for _ in range(3)]
    looks = styles(lines)
    assert len(set(map(str, looks))) == len(looks)
    assert {colour for colour, *_ in looks[:3]} <= set(drawing.COLOURS["ladewerk"])


def test_numbers_on_a_plot() -> None:
    assert [short(value) for value in (0, 0.5, 0.804, 12.34, 1234.5, 0.004)] == ["0", "0.50", "0.80", "12.3", "1,234", "0.004"]
    assert [tick(value) for value in (0.0, 10.0, 0.1, 2.5, 1000000)] == ["0", "10", "0.1", "2.5", "1,000,000"]


def test_nothing_to_draw_needs_nothing(tmp_path: Path) -> None:
    assert Drawer(tmp_path / "not there").draw([], tmp_path / "plots") == (frozenset(), "") and not (tmp_path / "plots").exists()


def test_what_cannot_draw_says_why(tmp_path: Path) -> None:
    """An interpreter without matplotlib."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'matplotlib'\" >&2\nexit 1\n")
    broken.chmod(0o755)
    drawn, why = Drawer(broken).draw([CURVES], tmp_path / "plots")
    assert not drawn and why == "matplotlib failed: ModuleNotFoundError: No module named 'matplotlib'"


CURVES = Plot(
    "curves", "Cost", "path entries", "ms",
    [Line("stock", [1, 10, 100], [1, 10, 100], [0.9, 9, 90], [1.1, 11, 110], "stock", "slope 1.00"), Line("ours", [1, 10, 100], [1, 1, 1], [1, 1, 1], [1, 1, 1], "ladewerk")],
    log_x=True, log_y=True)
BARS = Plot("bars", "Ratios", "", "of stock", [Line("ours", [0, 1], [0.8, 0.7], [0.79, 0.6], [0.81, 0.8], "ladewerk"), Line("theirs", [1], [0.9], [0.9], [0.9], "rival")], names=["a", "b"], mark=1.0)


@pytest.mark.skipif(os.environ.get("LADEWERK_LONG", "0") == "0", reason="installs matplotlib: LADEWERK_LONG=1")
def test_drawn_for_real(tmp_path: Path) -> None:
    drawer = Drawer.found(tmp_path / "build")
    broken = Plot("broken", "", "", "", [])
    drawn, why = drawer.draw([CURVES, broken, BARS], tmp_path / "plots")
    assert drawer.python and drawn == {"curves", "bars"} and "Error" in why
    for plot, said in ((CURVES, ("Cost", "stock: slope 1.00", "path entries")), (BARS, ("Ratios", "theirs", "of stock", "0.80"))):
        png = (tmp_path / f"plots/{plot.key}.png").read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        assert png[:4] == b"\x89PNG" and width == drawing.WIDTH * drawing.DPI and height > 300
        svg = ElementTree.parse(tmp_path / f"plots/{plot.key}.svg")
        texts = {"".join(node.itertext()).strip() for node in svg.iter("{http://www.w3.org/2000/svg}text")}
        assert texts.issuperset(said)
    before = (tmp_path / "plots/bars.svg").read_bytes()
    assert drawer.draw([BARS], tmp_path / "plots") == ({"bars"}, "") and (tmp_path / "plots/bars.svg").read_bytes() == before, "the same plot is the same file"
