# SPDX-License-Identifier: MIT
"""What tests of autoloaders share: a child process that has a root directory and says what went wrong in it."""
import json
import os
import select
import signal
import subprocess
import textwrap

import pytest
from harness import Tree

PREAMBLE = """
import importlib.util, os, pathlib, pickle, sys, threading, types
import ladewerk
from ladewerk import Autoloader

root = pathlib.Path(sys.argv[1])
seen = []

def write(name, text="", at=None):
    path = (at or root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)

def make(*dirs, **settings):
    loader = Autoloader(**settings)
    for path in dirs or [root]:
        loader.push_dir(path)
    loader.enable_reloading()
    return loader

def start(*dirs, **settings):
    loader = make(*dirs, **settings)
    loader.setup()
    return loader

def raises(kind, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except BaseException as error:
        assert type(error) is kind, f"{type(error).__name__}: {error}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")

def loaded(*tops):
    return sorted(name for name in sys.modules if name.partition(".")[0] in (tops or ("shop",)))

def at(name):
    return str(root / name)
"""


# With the lines of the test in tracebacks.
RUN = """
import linecache, sys, traceback
sys.excepthook = traceback.print_exception
linecache.cache["<test>"] = len(sys.argv[2]), None, sys.argv[2].splitlines(True), "<test>"
exec(compile(sys.argv[2], "<test>", "exec"), globals())
"""


# Forks a child for each line that it reads: what a test executes, in a process that has imported ladewerk and nothing of an application.
NURSERY = """
import importlib.util, json, linecache, os, pathlib, pickle, sys, threading, traceback, types
import ladewerk
from ladewerk import Autoloader

def _next_test():
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if not pid:
            return json.loads(line)
        os.write(1, f"{os.waitpid(pid, 0)[1]}\\n".encode())
    sys.exit()

def _begin(where, root, code, work, output):
    nothing, told = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
    for number, descriptor in enumerate((nothing, told, told)):
        os.dup2(descriptor, number)
    os.chdir(work)
    sys.path.insert(1, where)
    sys.argv[1:] = [root, code]

_begin(*_next_test())
""" + RUN


class Nursery:
    """A process that has children run tests."""

    def __init__(self, base, ladewerk):
        self._tree, self._ladewerk, self._process = Tree(base), ladewerk, None

    def run(self, tree, code):
        """CODE, in a child of its own; fails with what it has printed if it fails."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(self._tree.command(NURSERY), env=self._tree.environment(self._ladewerk), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             cwd=self._tree.work, start_new_session=True)
        output = tree.base / "output"
        self._process.stdin.write(json.dumps([str(tree.root), str(tree.base / "app"), code, str(tree.work), str(output)]).encode() + b"\n")
        self._process.stdin.flush()
        ended = select.select([self._process.stdout], [], [], 120)[0] and self._process.stdout.readline()
        if not ended:
            self.end()
        assert ended and int(ended) == 0, f"status {ended or 'none: it does not end'}\n{output.read_text() if output.exists() else ''}"

    def end(self):
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


@pytest.fixture(scope="session", params=["active", "stock"])
def nursery(request, tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), request.param == "active")
    yield nursery
    nursery.end()


def _grow(tree, files):
    root = tree.base / "app"
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        if name.endswith("/"):
            (root / name).mkdir(parents=True, exist_ok=True)
        else:
            tree.write(name, text, at=root)
    return root


@pytest.fixture
def child(nursery, tree):
    """child({file: text}, code): runs CODE after the preamble, where the root holds these files."""
    def run(files, code):
        _grow(tree, files)
        nursery.run(tree, PREAMBLE + textwrap.dedent(code))
    return run


@pytest.fixture(params=["active", "stock"])
def fresh(request, tree):
    """The same in a process that has been started after the files were written."""
    def run(files, code, **kwargs):
        root = _grow(tree, files)
        return tree.run(RUN, str(root), PREAMBLE + textwrap.dedent(code), ladewerk=request.param == "active", **kwargs)
    return run
