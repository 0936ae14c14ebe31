# SPDX-License-Identifier: MIT
"""What the tests in this directory share: child processes with and without Ladewerk, and a tree of modules to play with.

A test runs programs of its own in children: the interpreter that runs pytest must be able to judge the one under test.
"""

import difflib
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import pytest
import talker

LONG = os.environ.get("LADEWERK_LONG", "0") != "0"
HERE = pathlib.Path(__file__).resolve().parent

#: File time stamps move in ticks; what is younger than two of the slowest ticks is not stored (core/stamp.h).
SETTLE = 0.03


def environment(ladewerk=False, **more):
    """A clean environment; LADEWERK=1 or 0. What is None is removed."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("LADEWERK", "PYTHON", "COV", "PYTEST")) and k != "VIRTUAL_ENV"}
    env["LADEWERK"] = "1" if ladewerk else "0"
    env.update({k: str(v) for k, v in more.items() if v is not None})
    return {k: v for k, v in env.items() if k not in more or more[k] is not None}


def settle():
    """Let time stamps become old enough to be believed."""
    time.sleep(SETTLE)


class Result:
    """What a child left: returncode, out, err (text)."""

    def __init__(self, process):
        self.returncode = process.returncode
        self.out = process.stdout
        self.err = process.stderr

    def json(self):
        """The last line of its output."""
        assert self.out.strip(), f"no output; stderr: {self.err}"
        return json.loads(self.out.splitlines()[-1])


class Tree:
    """A directory of modules (self.root, on the children's sys.path) and a cache of its own."""

    def __init__(self, base):
        self.base = pathlib.Path(base)
        self.root = self.base / "tree"
        self.root.mkdir(parents=True, exist_ok=True)
        self.cache = self.base / "cache"
        self.work = self.base / "work"  # the working directory
        self.work.mkdir(exist_ok=True)
        self.runtime = self.base / "runtime"  # what the programs of a user share
        self.runtime.mkdir(0o700, exist_ok=True)
        self.freshness = "stat"
        self.env = {}
        self.prefix = []  # of every command

    def write(self, name, text="", at=None):
        """Write a file (text is dedented); returns its path."""
        path = (at or self.root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(textwrap.dedent(text))
        return path

    def environment(self, ladewerk=True, **env):
        settings = {"LADEWERK_CACHE": self.cache, "LADEWERK_FRESHNESS": self.freshness, "PYTHONPATH": self.root, "XDG_RUNTIME_DIR": self.runtime}
        return environment(ladewerk, **{**settings, **self.env, **env})

    def command(self, code, *args, options=()):
        return [*self.prefix, sys.executable, *options, *(["-c", textwrap.dedent(code)] if code is not None else []), *map(str, args)]

    def run(self, code, *args, ladewerk=True, options=(), check=True, cwd=None, timeout=60, env=None):
        """Run CODE (None: OPTIONS and ARGS say what) in a child."""
        process = subprocess.run(self.command(code, *args, options=options), env=self.environment(ladewerk, **(env or {})), text=True,
                                 capture_output=True, cwd=cwd or self.work, timeout=timeout, stdin=subprocess.DEVNULL)
        if check:
            assert process.returncode == 0, f"exit code {process.returncode}\n{process.stdout}\n{process.stderr}"
        return Result(process)

    def both(self, code, *args, warm=True, **kwargs):
        """Run CODE under stock and under Ladewerk: learning, then (WARM) from the cache. [(which, Result), ...], stock first."""
        settle()
        runs = [("stock", self.run(code, *args, ladewerk=False, **kwargs))]
        settle()  # what it has written is not too young to be stored by the next one
        runs.append(("cold", self.run(code, *args, **kwargs)))
        if warm:
            runs.append(("warm", self.run(code, *args, **kwargs)))
        return runs

    def same(self, code, *args, part=None, **kwargs):
        """CODE prints and ends as under stock; returns what it printed. PART(Result) selects what is compared."""
        part = part or (lambda result: (result.returncode, result.out, result.err))
        (_, stock), *others = self.both(code, *args, **kwargs)
        for which, result in others:
            if part(result) != part(stock):
                texts = [("\n".join(map(str, part(r)))).splitlines() for r in (stock, result)]
                pytest.fail(f"{which} differs from stock\n" + "\n".join(difflib.unified_diff(*texts, "stock", which, n=0, lineterm="")), pytrace=False)
        return stock

    def learn(self, code, **kwargs):
        """Run CODE until everything is in the cache."""
        settle()
        self.run(code, **kwargs)
        settle()
        return self.run(code, **kwargs)


STATS = "\nimport json as _json, ladewerk as _ladewerk; print(_json.dumps(_ladewerk.stats()))\n"


class Talker(talker.Talker):
    """One with Ladewerk, or without."""

    def __init__(self, tree, ladewerk=True, options=(), **env):
        super().__init__(tree.command(None, options=(*options, "-c", talker.LOOP)), tree.environment(ladewerk, **env), tree.work)
