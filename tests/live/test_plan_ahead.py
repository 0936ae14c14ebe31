# SPDX-License-Identifier: MIT
"""Planned while ``watch()`` waits for more: the plan is used if nothing has happened since, and only then."""
import sysconfig

import pytest
from reloading import run

pytestmark = pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there nothing tells that sys.modules is the same, so nothing is planned ahead")

FILES = {"c.py": "V = 0\n", "a.py": "from c import V\n", "late.py": "from c import V\n", "app.py": "__ladewerk_reload__ = False\nimport a, c\n"}

PROGRAM = """
import app
import ladewerk._reload._reloader as reloader
reloader.AHEAD = 60
planned, made = reloader.Reloader._planned, []
make_plan = reloader.make_plan
reloader.make_plan = lambda *arguments: made.append(1) or make_plan(*arguments)
version = 0

def save():
    global version
    version += 1
    replace("c.py", f"V = {version}\\n")

def ahead():
    R.reload()
    save()
    R.plan_ahead()
    del made[:]
    return R._ahead

def used():
    assert ahead() is not None and R.reload().executed == ("c", "a") and not made
    assert mod("a").V == version

def saved_again():
    ahead(), save(), R.reload()
    assert mod("c").V == mod("a").V == version

def dependant_imported():
    sys.modules.pop("late", None)
    R.reload(), save(), R.plan_ahead()
    import late
    assert "late" in R.reload().executed and mod("late").V == version

def dependant_saved():
    ahead()
    replace("a.py", f"from c import V\\nW = {version}\\n")
    R.reload()
    assert mod("a").W == version

def told_in_between():  # the event is taken from the queue by somebody else
    ahead(), save(), R.note(), R.note(), R.reload()
    assert mod("c").V == version

def broken():
    R.reload()
    replace("c.py", "V = = 1\\n")
    R.plan_ahead()
    assert R._ahead is None and fails().name == "c"
    save(), R.reload()

def too_old():
    ahead()
    reloader.AHEAD = 0
    assert R.reload() and made and mod("c").V == version
    reloader.AHEAD = 60

def skipped_once():
    R.reload()
    replace("app.py", f"__ladewerk_reload__ = False\\nimport a, c\\nX = {version}\\n")
    R.plan_ahead(), save(), R.plan_ahead()
    assert "app" in R.reload().skipped and "app" not in R.reload().skipped

def always(self, suspects):
    plan = self._ahead.plan if self._ahead else keep.pop() if keep else make_plan(self._sources, suspects, set())
    self._ahead = None
    return plan

CHECKS = [used, saved_again, dependant_imported, dependant_saved, told_in_between, broken, too_old, skipped_once]
for check in CHECKS:
    check()
"""

# Whoever believes a plan whatever has happened fails.
CONTROL = """
keep = []
plan_ahead = reloader.Reloader.plan_ahead
def remember(self):
    plan_ahead(self)
    if self._ahead:
        keep[:] = [self._ahead.plan]
reloader.Reloader.plan_ahead, reloader.Reloader._planned = remember, always
for check in saved_again, dependant_imported, dependant_saved, told_in_between:
    try:
        check()
    except AssertionError:
        pass
    else:
        raise SystemExit(f"{check.__name__} does not notice")
"""


def test_a_plan_made_ahead_is_used_while_it_is_true(tree):
    run(tree, FILES, PROGRAM + CONTROL)
