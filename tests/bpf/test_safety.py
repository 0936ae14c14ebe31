# SPDX-License-Identifier: MIT
"""Whatever is attached to it, and however that ends, a program goes on as if nothing had been there."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

WAIT = 120
CYCLES = 100 if os.environ.get("LADEWERK_LONG") == "1" else 6


def attach(tracer: str, pid: int) -> subprocess.Popen[str]:
    process = subprocess.Popen([tracer, "--json", "-o", os.devnull, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    said = process.stderr.readline()
    assert "tracing" in said, said + process.communicate(timeout=WAIT)[1]
    return process


def test_attached_and_detached_under_load(tracer: str) -> None:
    """By turns asked to end, and killed; threads, greenlets, forks and execs are within imports all the time."""
    busy = subprocess.Popen([sys.executable, str(Path(__file__).with_name("busy.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert busy.stdout.readline() == "ready\n"
        for i in range(CYCLES):
            process = attach(tracer, busy.pid)
            process.send_signal(signal.SIGKILL if i % 2 else signal.SIGINT)
            process.communicate(timeout=WAIT)
            assert process.returncode == (-signal.SIGKILL if i % 2 else 0)
            assert busy.poll() is None
        out, _ = busy.communicate(timeout=WAIT)
    finally:
        busy.kill()
    assert busy.returncode == 0
    done = json.loads(out.splitlines()[-1])
    assert {"plain", "failing", "nested", "dying_thread", "switching", "forking"} <= done.keys() and min(done.values()) > 0, done


def test_everything_at_once_from_the_start(tracer: str) -> None:
    """As a command: all its imports are traced, none of their ends is left over, and it ends as it would have."""
    traced = subprocess.Popen([tracer, "--json", "--", sys.executable, str(Path(__file__).with_name("busy.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines, imports = [], 0
    for line in traced.stdout:
        lines.append(line)
        imports += line.startswith('{"event":"import","module":"busy')
        if imports == 1000:
            break
    out, _ = traced.communicate(timeout=WAIT)
    lines += out.splitlines()
    assert traced.returncode == 0
    events = [json.loads(line) for line in lines if line.startswith('{"event"')]
    assert max(event["depth"] for event in events if event["event"] == "import") >= 200
    assert events[-1]["event"] == "end" and events[-1]["lost"] == 0, events[-1]
