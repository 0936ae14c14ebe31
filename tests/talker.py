# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from typing import Self

#: What the child executes.
LOOP = """
import sys, json, traceback
requests, answers = sys.stdin, sys.stdout
sys.stdout = sys.stderr
space = {}
for line in requests:
    space["result"] = None
    try:
        exec(compile(json.loads(line), "<request>", "exec"), space)
        answer = {"result": space["result"]}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    answers.write(json.dumps(answer) + "\\n")
    answers.flush()
"""


class Talker:
    """A long-lived child, COMMAND, that executes LOOP: pieces of code, each answered with the value of `result`."""

    def __init__(self, command: Sequence[object], env: Mapping[str, str], cwd: object) -> None:
        self.process = subprocess.Popen([str(word) for word in command], cwd=str(cwd), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, code: str) -> None:
        self.process.stdin.write(json.dumps(textwrap.dedent(code)) + "\n")
        self.process.stdin.flush()

    def receive(self) -> object:
        line = self.process.stdout.readline()
        assert line, f"the child died: {self.process.wait(10)}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def __call__(self, code: str) -> object:
        self.send(code)
        return self.receive()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
