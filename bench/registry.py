#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The registry's benchmark: look-ups while snapshots are replaced, beside other ways to share a table.

    python3 bench/registry.py [--quick] [--names 5000,50000,1000000] [--rounds N] [--ms MS] [--build DIR] [--tsv FILE]

Builds bench/micro and runs bench_registry, in which contenders take turns; README.md explains the figures.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stats import Median, ratios

CHECKOUT = Path(__file__).resolve().parent.parent
OURS = "ladewerk"


@dataclass(frozen=True)
class Sample:
    lookups: int
    wall_ns: int
    cpu_ns: int
    sleeps: int
    swaps: int

    @property
    def cpu(self) -> float:
        """CPU time of the readers for one look-up."""
        return self.cpu_ns / self.lookups

    @property
    def rate(self) -> float:
        """Look-ups a second of all readers, in millions."""
        return self.lookups / self.wall_ns * 1e3


Samples = dict[tuple[str, int, int], list[Sample]]


def parse(lines: Iterable[str]) -> Samples:
    samples: Samples = defaultdict(list)
    for line in lines:
        name, threads, swaps, _round, *numbers = line.rstrip("\n").split("\t")
        samples[name, int(threads), int(swaps)].append(Sample(*map(int, numbers)))
    return samples


def _text(median: Median, digits: int) -> str:
    return f"{median.value:.{digits}f} [{median.low:.{digits}f}, {median.high:.{digits}f}]"


def _scaling(samples: Samples, name: str, threads: int, swaps: int) -> str:
    if threads == 1:
        return ""
    return _text(ratios([s.rate for s in samples[name, threads, swaps]], [s.rate for s in samples[name, 1, swaps]]), 2)


def table(names: int, samples: Samples) -> list[str]:
    lines = [
        f"## {names:,} names",
        "",
        f"| | threads | swaps/s | CPU ns per look-up | of {OURS} | M look-ups/s | scaling | sleeps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for threads, swaps in sorted({key[1:] for key in samples}):
        ours = [s.cpu for s in samples[OURS, threads, swaps]]
        for name in dict.fromkeys(key[0] for key in samples):
            rows = samples[name, threads, swaps]
            cpu = [s.cpu for s in rows]
            cells = [
                name, str(threads), str(swaps), _text(Median.of(cpu), 1), _text(ratios(cpu, ours), 2),
                f"{Median.of([s.rate for s in rows]).value:.1f}", _scaling(samples, name, threads, swaps), str(sum(s.sleeps for s in rows)),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines + [""]


def build(where: Path) -> Path:
    cmake = ["cmake", "-S", str(CHECKOUT), "-B", str(where), "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DLADEWERK_BUILD_EXTENSION=OFF", "-DLADEWERK_BUILD_BENCH=ON"]
    for command in (cmake, ["cmake", "--build", str(where), "--target", "bench_registry"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"registry.py: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return where / "bench" / "micro" / "bench_registry"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--names", default="5000,50000,1000000")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--ms", type=int)
    parser.add_argument("--build", type=Path, default=CHECKOUT / "build-bench" / "micro")
    parser.add_argument("--tsv", type=Path, help="every sample goes there as well")
    options = parser.parse_args()
    rounds, ms = options.rounds or (5 if options.quick else 11), options.ms or (40 if options.quick else 200)
    program, every = build(options.build), ""
    print(f"# Look-ups in shared tables\n\n{rounds} rounds of {ms} ms, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before\n")
    for names in map(int, options.names.split(",")):
        out = subprocess.run([program, str(names), str(rounds), str(ms)], stdout=subprocess.PIPE, text=True, check=True).stdout
        every += "".join(f"{names}\t{line}\n" for line in out.splitlines())
        print("\n".join(table(names, parse(out.splitlines()))), flush=True)
    if options.tsv:
        options.tsv.write_text(every)


if __name__ == "__main__":
    main()
