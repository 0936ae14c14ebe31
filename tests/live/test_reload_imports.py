# SPDX-License-Identifier: MIT
"""A reload while another thread imports for the first time what it would execute: it waits, or the module becomes half of one version, half of the other."""
import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, sys, threading, types
root, policy, fails, control = sys.argv[1], sys.argv[2], sys.argv[3] == "fails", sys.argv[4] == "control"
sys.path.insert(0, root)
gates = sys.modules["gates"] = types.ModuleType("gates")
gates.inside, gates.go_on, gates.fails = threading.Event(), threading.Event(), fails
OLD = '''import gates, threading
A = 1
if threading.current_thread().name == "importer":
    gates.inside.set()
    gates.go_on.wait(60)
    if gates.fails: raise ValueError
B = 1
'''
def save(text):
    with open(os.path.join(root, "slow.tmp"), "w") as file: file.write(text)
    os.rename(os.path.join(root, "slow.tmp"), os.path.join(root, "slow.py"))
def load():
    try: import slow
    except ValueError: pass
import ladewerk
from ladewerk._autoload import _replace, _unload
reloader = ladewerk.Reloader([root])
hold = _unload.Quiet.hold
def held(self):
    found = hold(self)
    if found is None: gates.go_on.set()  # the import has been seen, and may end
    return found
_unload.Quiet.hold = held
if control:
    _replace.Autoloaded.settle = lambda self, names: None
    _replace.Autoloaded.hold = lambda self, names: True
save(OLD)
importer = threading.Thread(target=load, name="importer")
importer.start()
gates.inside.wait(60)
reloader.reload(policy=policy)
save(OLD.replace("A = 1", "A = 22").replace("B = 1", "B = 22"))
reloader.reload(policy=policy)
gates.go_on.set()
importer.join(60)
reloader.reload(policy=policy)
slow = sys.modules.get("slow")
print(json.dumps(slow and [slow.A, slow.B]))
"""


def left(path, *args):
    env = {**os.environ, "LADEWERK": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, path, *args], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("policy", ["replace", "in place"])
@pytest.mark.parametrize("ends", ["ends", "fails"])
def test_a_first_import_under_way(tmp_path, policy, ends):
    assert left(tmp_path, policy, ends, "") == [22, 22]


def test_the_control_of_first_imports(tmp_path):
    """Control: without the wait the old body goes on in the new module, or its failure removes the new one."""
    assert left(tmp_path, "in place", "ends", "control") == [22, 1]
