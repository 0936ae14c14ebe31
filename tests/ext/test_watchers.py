# SPDX-License-Identifier: MIT
"""Whether the import system was changed is noticed at once, with a watcher of dictionaries, or without one when others have them all."""

import sys

import pytest

#: Takes what is free of the eight watchers that an interpreter has; `taken` is how many that were.
TAKE_WATCHERS = """
import ctypes
watch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(lambda *args: 0)
taken = 0
try:
    while True:
        if ctypes.pythonapi.PyDict_AddWatcher(watch) < 0:
            break
        taken += 1
except RuntimeError:
    pass
"""

PROGRAM = """
import importlib, importlib._bootstrap as bootstrap, json, sys
import ladewerk
assert ladewerk.install()
import first
stock = bootstrap._load_unlocked
bootstrap._load_unlocked = lambda *args: stock(*args)  # from now on stock decides
import second
bootstrap._load_unlocked = stock
import third
sys.path_importer_cache.clear()
import fourth
from importlib.machinery import FileFinder, SourceFileLoader
class Odd(FileFinder):
    def find_spec(self, name, target=None):
        odd.append(name)
        return super().find_spec(name, target)
odd = []
path = first.__file__.rpartition("/")[0]
sys.path_importer_cache[path] = Odd(path, (SourceFileLoader, [".py"]))
import fifth
stats = ladewerk.stats()
print(json.dumps([stats["aside"]["patched"], odd, stats["served"]["pack"] + stats["served"]["pyc"] + stats["served"]["compiled"]]))
"""


@pytest.fixture
def modules(tree):
    for name in ("first", "second", "third", "fourth", "fifth"):
        tree.write(f"{name}.py", f"'''{name}'''\n")
    tree.env["LADEWERK"] = None
    return tree


def test_changes_are_noticed(modules):
    patched, odd, served = modules.run(PROGRAM).json()
    assert patched and odd == ["fifth"] and served >= 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 every dict has a version")
def test_changes_are_noticed_without_a_watcher(modules):
    program = f"{TAKE_WATCHERS}\nassert 0 < taken <= 8, taken\n{PROGRAM}"
    patched, odd, served = modules.run(program).json()
    assert patched and odd == ["fifth"] and served >= 3
