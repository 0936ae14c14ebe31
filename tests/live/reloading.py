# SPDX-License-Identifier: MIT
"""Programs that reload: what their children begin with, and how they are run."""
import textwrap

from harness import settle

PRELUDE = """\
import gc, os, pathlib, sys, threading, time, types, weakref
import ladewerk
from ladewerk import Reloader, ReloadError, pinned
ROOT = pathlib.Path(os.environ["PYTHONPATH"])
R = Reloader([ROOT], patience=60, watch=WATCH)

def write(name, text):
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

def replace(name, text):
    new = ROOT / (name + ".new")
    new.write_text(text)
    new.rename(ROOT / name)

def fails(reload=None):
    try:
        (reload or R.reload)()
    except ReloadError as error:
        return error
    raise AssertionError("it did not fail")

def mod(name):
    return sys.modules[name]

def snapshot():
    return {name: (id(module), {key: id(value) for key, value in vars(module).items()}) for name, module in sys.modules.items()
            if str(getattr(module, "__file__", "")).startswith(str(ROOT))}
"""


def run(tree, files, code, ladewerk=True, watch=True, timeout=60, **more):
    """FILES below the tree's root, then CODE in a child."""
    for name, text in files.items():
        tree.write(name, text)
    settle()
    settle()
    return tree.run(PRELUDE.replace("WATCH", str(watch)) + textwrap.dedent(code), ladewerk=ladewerk, timeout=timeout, **more)
