# SPDX-License-Identifier: MIT
"""What a plan asks the file system, counted: a directory is listed a few times for all of its modules, not once for each."""
from reloading import run

MODULES = 300
FILES = {"flat/__init__.py": "", **{f"flat/m{number}.py": "" for number in range(MODULES)}}

PROGRAM = f"""
import collections, importlib, shutil
import ladewerk._reload._finding as finding
MODULES = {MODULES}
listed = collections.Counter()
sys.addaudithook(lambda event, arguments: listed.update([event]) if event in ("os.listdir", "os.scandir") else None)
for number in range(MODULES):
    importlib.import_module(f"flat.m{{number}}")
FEW = 10
searches, find = [], finding.Finding.find
finding.Finding.find = lambda self, name, path: searches.append(name) or find(self, name, path)

def reload():
    listed.clear(), searches.clear()
    return R.reload()

def all_looked_for():
    assert len(searches) > MODULES / 2, len(searches)  # else few lists say nothing

def before_the_first_look():
    write("flat/another.py", "")
    reload()
    all_looked_for()

def size_after_many():
    names = set(filter(lambda name: name.startswith("flat"), sys.modules))
    R._sources.unsure |= names  # as if they were written just before
    assert len(R.reload(names).executed) == len(names) and len(R._sources.unsure) < 10
    return sys.getsizeof(R._sources.unsure)
"""

CHECKS = """
before_the_first_look()
assert 0 < listed.total() < FEW, listed
assert size_after_many() < 1000, "to go through a set takes as long as when it was largest"
R._everything = True  # as after the kernel's queue has overflowed
R._sources.rearm()
write("flat/and_another.py", "")
reload(), all_looked_for()
assert 0 < listed.total() < FEW, listed
(ROOT / "flat").rename(ROOT / "gone")
assert len(reload().removed) == MODULES + 1 and listed.total() < FEW, listed
(ROOT / "gone").rename(ROOT / "flat")
write("flat/all.py", "".join(f"from flat import m{number}\\n" for number in range(MODULES)))
write("alone.py", "V = 1\\n")
import alone
reload()
write("alone.py", "V = 2\\nimport flat.all\\n")
assert len(reload().executed) == MODULES + 3 and listed.total() < FEW, listed
"""

# Whoever forgets for each module what was in its directory lists it for each.
CONTROL = """
forget = finding.Finding._forget
def always(self, path):
    self.__init__()
    forget(self, path)
finding.Finding._forget = always
before_the_first_look()
assert listed.total() > MODULES / 2, listed
R._sources.shrink = lambda: None
assert size_after_many() > 1000
"""

# A body may write a module and import it while the clock of its file system stands still.
WRITTEN = """
import ladewerk._reload._finding as finding
write("maker.py", "V = 1\\n")
import maker
R.reload()
write("maker.py", '''
import os, pathlib
here = pathlib.Path(__file__).parent
before = os.stat(here)
for number in range(3):
    (here / f"made{number}.py").write_text(f"V = {number}")
    os.utime(here, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert __import__(f"made{number}").V == number
''')
"""


def test_a_directory_is_listed_once_for_all_of_its_modules(tree):
    run(tree, FILES, PROGRAM + CHECKS, ladewerk=False)


def test_control(tree):
    run(tree, FILES, PROGRAM + CONTROL, ladewerk=False)


def test_a_body_writes_what_it_imports(tree):
    run(tree, {}, WRITTEN + "assert len(R.reload().executed) == 4", ladewerk=False)


def test_a_body_writes_what_it_imports_control(tree):
    run(tree, {}, WRITTEN + "finding.Finding.find_again = finding.Finding.find\nassert fails().name == 'maker'", ladewerk=False)
