# SPDX-License-Identifier: MIT
"""Whatever happened to a tree while it was indexed, and before: once it is quiet, the index says what a walk says.

A process makes, renames, replaces and removes directories and files while `ladewerk index` runs again and again into one cache. Then it stops,
the tree is indexed once more, and each directory that ever was is asked, in `frozen`, for each name that ever was: the answers must be those of a fresh
FileFinder, and none of these directories may have been read for it. (What links lead to may: not every link is followed.)
"""
from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

NAMES = [f"n{i}" for i in range(12)]
SUFFIXES = [".py", ".py", ".py", ".pyc", ".txt", ""]

CHANGE = """
import os, random, shutil, sys
root, seed, names, suffixes = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(), sys.argv[4].split(",")
choose = random.Random(seed)

def somewhere():
    place = root
    while choose.random() < 0.7:
        inside = [entry.path for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
        if not inside:
            break
        place = choose.choice(inside)
    return place

def change():
    place, name = somewhere(), choose.choice(names)
    path, what = os.path.join(place, name), choose.randrange(12)
    if what < 4:
        with open(path + choose.choice(suffixes), "w") as file:
            file.write("x = %d\\n" % choose.randrange(10 ** choose.randrange(1, 9)))
    elif what < 7:
        os.mkdir(path)
        if choose.random() < 0.5:
            open(path + "/__init__.py", "w").close()
    elif what == 7:
        os.rename(path, os.path.join(somewhere(), choose.choice(names)))
    elif what == 8:
        os.remove(path + choose.choice(suffixes))
    elif what == 9:
        inside = [entry.path for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
        if len(inside) > 3:
            shutil.rmtree(choose.choice(inside))
    elif what == 10:
        os.symlink(os.path.relpath(somewhere(), place), path)
    else:
        os.symlink(choose.choice(names) + ".py", path + ".py")

while True:
    try:
        change()
    except OSError:
        pass
"""

ASK = """
import json, sys
from importlib.machinery import FileFinder
places, names, stock = json.load(sys.stdin)
if stock:
    import importlib._bootstrap_external as external
    details = external._get_supported_file_loaders()
    find = lambda place, name: FileFinder(place, *details).find_spec(name)
else:
    # What serves imports stands before PathFinder, to whom it leaves what it cannot judge (links that lead to themselves).
    import ladewerk
    number = [getattr(finder, "__name__", "") for finder in sys.meta_path].index("PathFinder")
    ours, theirs = sys.meta_path[number - 1:number + 1]
    aside = lambda: sum(ladewerk.stats()["aside"].values())
    def find(place, name):
        before = aside()
        spec = ours.find_spec(name, [place])
        return spec if aside() == before else theirs.find_spec(name, [place])
read = 0
if not stock:
    before = ladewerk.stats()["session"]["listings_read"]
    assert not any(find(place, "absent") for place in places)
    read = ladewerk.stats()["session"]["listings_read"] - before
answers = []
for place in places:
    for name in names:
        spec = find(place, name)
        answers.append(spec and [spec.origin, spec.submodule_search_locations is not None and sorted(spec.submodule_search_locations)])
print(json.dumps([answers, read]))
"""


def ask(shell, places: list[str], stock: bool) -> tuple[list[object], int]:
    command = [shell.python, "-c", ASK] if stock else [shell.script, "run", "--freshness", "frozen", "-c", ASK]
    done = subprocess.run(command, input=json.dumps([places, NAMES, stock]), capture_output=True, text=True, cwd=shell.cwd, env=shell.env)
    assert done.returncode == 0, done.stderr
    answers, read = json.loads(done.stdout)
    return answers, read


def walk(root: Path) -> set[str]:
    """What `index` enters: no directory behind a second link, none that lies on the way."""
    return {str(place) for place, _, _ in os.walk(root)}


@pytest.mark.parametrize("seed", range(20 if os.environ.get("LADEWERK_LONG") else 3))
def test_index_equals_a_walk_once_it_is_quiet(shell, seed):
    root = shell.cwd / "tree"
    root.mkdir()
    choose, ever, found = random.Random(seed), set(), 0
    for round in range(3):
        changer = subprocess.Popen([sys.executable, "-c", CHANGE, root, str(100 * seed + round), " ".join(NAMES), ",".join(SUFFIXES)])
        try:
            until = time.monotonic() + choose.uniform(0.5, 1.5)
            while time.monotonic() < until:
                done = shell.ladewerk("index", root, "--quiet", "--threads", choose.choice("124"))
                assert (done.returncode, done.stderr) == (0, "")
                ever |= walk(root)
        finally:
            changer.kill()
            changer.wait()
        time.sleep(0.05)
        ever |= walk(root)
        facts = shell.json("index", root)
        assert facts["unreadable"] == 0 and facts["vanished"] == 0
        # Directories that are gone are no longer known, so they would be looked for; so would those that are now behind a second link.
        places = sorted(place for place in ever if os.path.isdir(place) and os.path.realpath(place) == place)
        expected, _ = ask(shell, places, stock=True)
        answers, read = ask(shell, places, stock=False)
        found += sum(answer is not None for answer in expected)
        for number, (answer, right) in enumerate(zip(answers, expected, strict=True)):
            assert answer == right, (places[number // len(NAMES)], NAMES[number % len(NAMES)])
        assert read == 0, "answers came from the index"
    assert found > 100 and len(ever) > 20


def test_control_an_index_that_is_not_renewed_is_found_out(shell):
    """The same comparison fails where the last index is missing."""
    root = shell.cwd / "tree"
    for i in range(10):
        shell.write(f"tree/n{i}/n{i}.py")
    shell.settle()
    shell.json("index", root)
    (root / "n3/n3.py").rename(root / "n3/n4.py")
    places = sorted(walk(root))
    expected, answers = ask(shell, places, stock=True)[0], ask(shell, places, stock=False)[0]
    assert answers != expected
    shell.settle()
    shell.json("index", root)
    assert ask(shell, places, stock=False) == (expected, 0)
