# SPDX-License-Identifier: MIT
"""Latencies of single imports: percentiles of each round, exactly, and a histogram of all rounds, in which 6 % wide buckets stand for what is in them."""
from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping

from stats import percentile

_FINE = 16  # buckets for each power of two

SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def bucket(ns: int) -> int:
    """The least of the numbers that are kept together with NS: its first five bits."""
    shift = max(0, ns.bit_length() - _FINE.bit_length())
    return ns >> shift << shift


def _middle(least: int) -> float:
    shift = max(0, least.bit_length() - _FINE.bit_length())
    return least + ((1 << shift) - 1) / 2


def histogram(times: array[int]) -> Counter[int]:
    """How many are in each bucket, by its least number."""
    found: Counter[int] = Counter()
    for ns, count in Counter(times).items():
        found[bucket(ns)] += count
    return found


def pooled(counts: Mapping[int, int], share: float) -> float:
    """The middle of the bucket that has the value which SHARE of all do not exceed: at most 3 % beside it. ns."""
    rank = share * sum(counts.values())
    seen = 0
    for least, count in sorted(counts.items()):
        seen += count
        if seen >= rank:
            return _middle(least)
    raise ValueError("no samples")


def percentiles_us(times: array[int]) -> dict[str, float]:
    ordered = sorted(times)
    return {f"{name}_us": round(percentile(ordered, share) / 1e3, 3) for name, share in SHARES.items()}
