# SPDX-License-Identifier: MIT
"""Who held the lock that a thread waited for, in rounds of contention: what the trace says against what the modules themselves wrote down."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROUNDS = 1000 if os.environ.get("LADEWERK_LONG") == "1" else 100

# Modules r<round>_<number> sleep a little, some import others of lower numbers (by a function that no probe sees), and write down who executed them and from when
# to when.
PROGRAM = '''
import importlib.abc, importlib.util, json, random, sys, threading, time

ROUNDS, THREADS, MODULES = int(sys.argv[1]), 6, 4
written = {}

class Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name.startswith("r") and "_" in name else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        begin = time.monotonic_ns()
        round_, number = module.__name__[1:].split("_")
        choose = random.Random(module.__name__)
        fails = choose.choice((0, 0, 0, 1, 2))
        time.sleep(choose.random() / 250)
        if int(number) and choose.random() < 0.6:
            try:
                importlib.import_module(f"r{round_}_{choose.randrange(int(number))}")
            except ValueError:
                pass
        time.sleep(choose.random() / 250)
        before = written.setdefault(module.__name__, [])
        before.append((threading.get_native_id(), begin, time.monotonic_ns()))
        if len(before) <= fails:
            raise ValueError

sys.meta_path.insert(0, Modules())
barrier = threading.Barrier(THREADS)

def work(seed):
    choose = random.Random(seed)
    for round_ in range(ROUNDS):
        barrier.wait()
        for number in choose.sample(range(MODULES), 3):
            time.sleep(choose.random() / 1000)
            try:
                __import__(f"r{round_}_{number}")
            except ValueError:
                pass

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
json.dump(written, sys.stdout)
'''


def test_every_wait_is_blamed_on_who_held_the_lock(tracer: str, tmp_path: Path) -> None:
    """
    Of the waits that began while a module was executed, each was for the thread that executed it. But for very few: a thread without an import of its own can take the
    lock between a wake-up and the turn of the one that was woken, and pass it on before that is told.
    """
    log = tmp_path / "trace.json"
    command = [tracer, "--sched", "--json", "-o", str(log), "--", sys.executable, "-c", PROGRAM, str(ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    written: dict[str, list[list[int]]] = json.loads(done.stdout)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["event"] == "end" and events[-1]["lost"] == 0
    waits = [event for event in events if event["event"] == "lock_wait" and event["module"] in written]
    truth = [(event, tid) for event in waits for tid, begin, end in written[event["module"]] if begin <= event["begin_ns"] <= end]
    wrong = [(event, tid) for event, tid in truth if event["holder_tid"] != tid]
    sure = [event for event, _ in truth]
    assert len(sure) > ROUNDS
    assert len(wrong) <= len(sure) // 200, (len(wrong), len(sure), wrong[:3])
    # Who woke them is often another one: that would not have done.
    assert sum(event["waker_tid"] != event["holder_tid"] for event in sure) > len(sure) // 20
