# SPDX-License-Identifier: MIT
"""The storm of tests/ext/storm.py in several engines of one process and outside, all at once.

    storms.py ROOT ROUNDS ENGINES [CONTROL]

CONTROL breaks the first engine. Prints what each witness has to say; the last one is outside.
"""
from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ladewerk

PATIENCE = 120


def main(root: str, rounds: str, count: str, control: str | None = None) -> None:
    sys.setrecursionlimit(5000)
    here = [root, str(Path(__file__).resolve().parents[1] / "ext")]
    engines = [ladewerk.ImportEngine(path=[*here, *sys.path]) for _ in range(int(count))]
    sys.path[:0] = here
    import storm

    storms = [engine.import_module("storm") for engine in engines] + [storm]

    def run(number: int) -> dict[str, object]:
        broken = control if number == 0 else None
        return storms[number].storm(root, rounds=int(rounds), threads=4, seed=number, control=broken, patience=PATIENCE)

    with ThreadPoolExecutor(len(storms)) as pool:
        reports = list(pool.map(run, range(len(storms))))
    print(json.dumps(reports))


if __name__ == "__main__":
    main(*sys.argv[1:])
