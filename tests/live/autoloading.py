# SPDX-License-Identifier: MIT
"""What tests of autoloaders share: a child process that has a root directory and says what went wrong in it."""
import textwrap

import pytest

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


@pytest.fixture(params=["active", "stock"])
def child(request, tree):
    """child({file: text}, code): runs CODE after the preamble, where the root holds these files."""
    def run(files, code, **kwargs):
        root = tree.base / "app"
        root.mkdir(exist_ok=True)
        for name, text in files.items():
            if name.endswith("/"):
                (root / name).mkdir(parents=True, exist_ok=True)
            else:
                tree.write(name, text, at=root)
        return tree.run(RUN, str(root), PREAMBLE + textwrap.dedent(code), ladewerk=request.param == "active", **kwargs)
    return run
