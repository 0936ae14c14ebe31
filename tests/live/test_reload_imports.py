# SPDX-License-Identifier: MIT
"""A reload while another thread imports for the first time what it would execute: it waits, or the module becomes half of one version, half of the other."""
import json
import os
import subprocess
import sys

import pytest
from reloading import run

PROGRAM = """
import json, os, sys, threading, types
root, policy, fails, control, fast = sys.argv[1], sys.argv[2], sys.argv[3] == "fails", sys.argv[4] == "control", sys.argv[5:] == ["fast"]
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
if fast: ladewerk.install()
from ladewerk import _quiet
from ladewerk._reload import _share
reloader = ladewerk.Reloader([root])
hold = _quiet.Quiet.hold
def held(self):
    found = hold(self)
    if not found: gates.go_on.set()  # the import has been seen, and may end
    return found
_quiet.Quiet.hold = held
if control:
    _share.Share.settle = lambda self, names: None
    _share.Share.hold = lambda self, names: True
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
assert "ladewerk._autoload" not in sys.modules  # who has no autoloader does not pay for one
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
    assert left(tmp_path, policy, ends, "", "fast" if policy == "in place" else "") == [22, 22]


def test_the_control_of_first_imports(tmp_path):
    """Control: without the wait the old body goes on in the new module, or its failure removes the new one."""
    assert left(tmp_path, "in place", "ends", "control") == [22, 1]


ENDLESS = {"helper.py": "V = 1\n", "other.py": "V = 5\n",
           "endless.py": "import __main__, helper\n__main__.inside.set()\n__main__.end.wait(60)\n"}


def test_a_body_that_does_not_return(tree):
    """A reload that would execute it again gives up, and says whom it has waited for. Meanwhile it holds nothing: imports, pins and other threads go on."""
    run(tree, ENDLESS, """
        import importlib
        from ladewerk import _quiet
        inside, end = threading.Event(), threading.Event()
        body = threading.Thread(target=importlib.import_module, args=["endless"])
        body.start()
        assert inside.wait(60)
        R.reload()
        write("helper.py", "V = 1234\\n")
        waited, hold = [], _quiet.Quiet.hold
        def held(self):
            found = hold(self)
            assert not found
            if len(waited) == 2:
                self._begun -= _quiet.PATIENCE
            elif not waited:
                meanwhile = threading.Thread(target=others)
                meanwhile.start()
                meanwhile.join(60)
            waited.append(gc.isenabled())
            return False
        def others():
            with pinned():
                importlib.import_module("other")
                importlib.import_module("helper")
                done.append(sys.modules["other"].V + sys.modules["helper"].V)
        done = []
        _quiet.Quiet.hold = held
        before = snapshot()
        error = fails()
        assert str(error) == "still being imported after 60 s: endless; nothing was changed", error
        assert done == [6] and waited == 3 * [True]
        _quiet.Quiet.hold = hold
        after = {name: what for name, what in snapshot().items() if name != "other"}
        assert before == after, (before, after)
        end.set()
        body.join(60)
        again = R.reload()
        assert {"helper", "endless"} == set(again.executed), again
        assert mod("helper").V == 1234 and mod("endless").helper is mod("helper")
    """)
