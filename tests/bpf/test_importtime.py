# SPDX-License-Identifier: MIT
"""`ladewerk trace` against the interpreter's own -X importtime, and its lists of programs that really run."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_lists import check_json, tree_of

MODULES = 520


def make_modules(where: Path) -> None:
    """m0 imports m1 and m2, these import m3 to m6, and so on; every tenth asks for one that does not exist."""
    for number in range(MODULES):
        body = "".join(f"import m{child}\n" for child in (2 * number + 1, 2 * number + 2) if child < MODULES)
        if number % 10 == 0:
            body += f"try:\n    import missing{number}\nexcept ImportError:\n    pass\n"
        (where / f"m{number}.py").write_text(body)


def run(tracer: str, *arguments: object, code: str, path: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [tracer, *map(str, arguments), "--", sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done
    return done


def names(text: str) -> list[tuple[int, str]]:
    return [(depth, name) for depth, name, _, _ in tree_of(text)]


def importtime_of(stderr: str) -> str:
    return "".join(line for line in stderr.splitlines(keepends=True) if line.startswith("import time:"))


@pytest.mark.parametrize("sched", [(), ("--no-sched",)], ids=["sched", "no-sched"])
def test_order_and_depth_are_the_interpreters(tracer: str, tmp_path: Path, sched: tuple[str, ...]) -> None:
    """Every import that -X importtime writes, in its order and at its depth, and no other."""
    make_modules(tmp_path)
    log = tmp_path / "trace.log"
    done = run(tracer, *sched, "--importtime", "-o", log, code="import m0, json.decoder", path=tmp_path, options=("-X", "importtime"))
    ours, theirs = names(log.read_text()), names(importtime_of(done.stderr))
    assert len(theirs) > MODULES + MODULES // 10
    assert ours == theirs
    assert "# lost events: 0\n" in done.stderr


def test_json_of_threads_that_import_the_same(tracer: str, tmp_path: Path) -> None:
    """Lines of a real trace keep to the rules, and every wait for the module was for the thread that imported it."""
    (tmp_path / "slow.py").write_text("import threading, __main__\n__main__.importer = threading.get_native_id()\n__main__.everybody_waits()\n")
    code = """
import threading, time

def stands_still(thread):
    return open(f"/proc/self/task/{thread.native_id}/stat").read().rsplit(")", 1)[1].split()[0] == "S"

def everybody_waits():
    others = [thread for thread in threads if thread is not threading.current_thread()]
    barrier.wait()
    # Several times in a row, and the GIL is free in between: none of them waits for that.
    still, deadline = 0, time.monotonic() + 60
    while still < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
        still = still + 1 if all(stands_still(thread) for thread in others) else 0

def work(first):
    if not first:
        barrier.wait()
    import slow

barrier = threading.Barrier(8)
threads = [threading.Thread(target=work, args=(i == 0,)) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(importer)
"""
    log = tmp_path / "trace.json"
    done = run(tracer, "--sched", "--json", "-o", log, code=code, path=tmp_path)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    check_json(events)
    importer = int(done.stdout)
    waits = [event for event in events if event["event"] == "lock_wait" and event["module"] == "slow"]
    assert {event["kind"] for event in waits} == {"module"}
    assert len({event["tid"] for event in waits}) == 7 and importer not in {event["tid"] for event in waits}
    assert {event["holder_tid"] for event in waits} == {importer}
    whole = next(event for event in events if event.get("module") == "slow" and event["event"] == "import" and event["tid"] == importer)
    assert whole["depth"] == 0 and whole["failed"] is False
