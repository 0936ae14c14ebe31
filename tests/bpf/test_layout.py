# SPDX-License-Identifier: MIT
"""What threads of this interpreter wait for, read off their frames from outside: the walk of bpf/walk.h, through process_vm_readv(2) instead of BPF."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

here = Path(__file__).parent
bpf = here.parent.parent / "bpf"

Answers = dict[str, dict[str, str]]


class Talker:
    """A program that answers lines with lines of JSON."""

    def __init__(self, *command: str | Path, cwd: Path | None = None) -> None:
        environment = dict(os.environ, LADEWERK="0", PYTHONUTF8="1")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", cwd=cwd, env=environment)

    def hear(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            pytest.fail(f"{self.process.args} ended: {errors}")
        return json.loads(line)

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> Any:
        self.tell(line)
        return self.hear()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("stand") / "stand"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-I", str(bpf)]
    subprocess.run(["cc", *flags, str(here / "tools" / "stand.c"), str(bpf / "layout.c"), "-o", str(program)], check=True)
    return program


@pytest.fixture
def talkers() -> Iterator[list[Talker]]:
    those: list[Talker] = []
    yield those
    for talker in those:
        talker.close()


def until(ask: Callable[[], Answers], expected: Answers) -> Answers:
    """Asks until everything EXPECTED is so; what was different, after a minute."""
    deadline = time.monotonic() + 60
    while True:
        answers = ask()
        wrong = {name: (answers.get(name), wanted) for name, wanted in expected.items() if not wanted.items() <= answers.get(name, {}).items()}
        if not wrong:
            return answers
        assert time.monotonic() < deadline, wrong
        time.sleep(0.02)


def test_what_threads_wait_for(stand: Path, tmp_path: Path, talkers: list[Talker]) -> None:
    package = tmp_path / "slöw"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("from __main__ import over\nover.wait()\n")
    (tmp_path / "new.py").touch()
    (tmp_path / "standing.py").write_text((here / "standing.py").read_text())
    target = Talker(sys.executable, tmp_path / "standing.py", cwd=tmp_path)
    talkers.append(target)
    facts = target.hear()
    looker = Talker(stand, str(target.process.pid), hex(facts["runtime"]), hex(facts["version"]))
    talkers.append(looker)
    numbers: dict[str, int] = {}

    def look() -> Answers:
        answers = looker.ask("")
        return {name: answers[str(number)] for name, number in numbers.items() if str(number) in answers}

    def module(name: str) -> dict[str, str]:
        return {"class": "module", "module": name, "top": "acquire"}

    lock = {"class": "futex", "module": ""}
    numbers.update(target.ask("modules"))
    expected: Answers = {"holder": lock, "searcher": lock, "later": lock, "main": {"class": "sleep"}}
    until(look, expected)
    numbers.update(target.ask("waiters"))
    expected |= {"waiter": module("slöw.inner"), "statement": module("slöw.inner"), "second": module("searched"), "sleeper": {"class": "sleep", "module": ""}}
    # Functions of other people that have the same names.
    expected |= {"other": {**lock, "top": "acquire"}, "context": {**lock, "top": "__enter__"}}
    until(look, expected)
    numbers.update(target.ask("global"))
    # The one is about to be found when the lock is taken, the other has not begun.
    expected |= {"keeper": lock, "newcomer": {"class": "global", "top": "_get_module_lock"}, "later": {"class": "global", "top": "__enter__"}}
    until(look, expected)
    if facts["gil"]:
        numbers.update(target.ask("gil"))
        expected |= {"spinner": {"class": "gil"}}
    until(look, expected)


@pytest.mark.once
def test_what_is_no_interpreter(stand: Path, talkers: list[Talker]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout
    child.stdout.read(1)
    try:
        answer = subprocess.run([stand, str(child.pid), "0x10", "0x030c"], capture_output=True, text=True)
        assert answer.returncode == 1 and "cannot be read" in answer.stderr, answer
    finally:
        child.kill()
        child.communicate()
    answer = subprocess.run([stand, str(child.pid), "0x10", "0x030c"], capture_output=True, text=True)
    assert answer.returncode == 1 and "No such process" in answer.stderr, answer


@pytest.mark.once
def test_memory_of_others_is_refused_with_the_remedy(stand: Path, no_power: list[str]) -> None:
    """Root without capabilities may not read the memory of root with them, and is told what it lacks."""
    if os.geteuid() != 0:
        pytest.skip("needs a process that has more rights")
    answer = subprocess.run([*no_power, str(stand), str(os.getpid()), "0x1000", "0x030c"], capture_output=True, text=True)
    assert answer.returncode == 1 and "CAP_SYS_PTRACE" in answer.stderr, answer
