#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plots of a report, each as PNG and SVG."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Medians with their intervals; a point each, or a bar each where the plot has names instead of numbers."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    kind: str = "other"  # "ladewerk", "stock", "rival" or "floor": the same colour in every plot


@dataclass(frozen=True)
class Plot:
    """KEY is the file's name. With NAMES the xs are 0, 1, ...: groups of bars."""

    key: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    names: Sequence[str] = ()
