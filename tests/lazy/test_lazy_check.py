# SPDX-License-Identifier: MIT
"""`ladewerk lazy-check`: it sees what differs and nothing else, and finds what must be eager: all of that, and no more."""
from __future__ import annotations

import itertools
import json
import marshal
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ladewerk import _lazy_minimal, _lazy_probe
from ladewerk._lazy_outcome import Baseline, Outcome, Output, Process, Registry, keyed

# --- the smallest set ---------------------------------------------------------------------------------------------------


@pytest.mark.once
def test_nothing_can_be_left_out_of_what_is_found():
    chance = random.Random(11)
    for _ in range(300):
        items = [f"m{n}" for n in range(chance.randint(1, 40))]
        enough = [set(chance.sample(items, min(len(items), chance.randint(1, 4)))) for _ in range(chance.randint(1, 3))]

        def will_do(some):
            return any(one <= set(some) for one in enough)

        found = _lazy_minimal.minimal(items, will_do)
        assert will_do(found) and set(found) in enough and found == [item for item in items if item in found]
        assert not any(will_do([item for item in found if item != out]) for out in found)


@pytest.mark.once
def test_few_runs_for_one_of_many():
    runs = []
    items = [f"m{n}" for n in range(512)]
    assert _lazy_minimal.minimal(items, lambda some: runs.append(1) or "m300" in some) == ["m300"]
    assert len(runs) <= 2 * 9


NAMES = ["a", "a.x", "a.x.p", "a.x.q", "a.y", "b", "b.z", *(f"c.m{n}" for n in range(9)), "c", "d", "e"]


@pytest.mark.once
@pytest.mark.parametrize("needed, expected", [
    (["of a.x.q"], ["of a.x.q"]),
    (["of a"], ["of a"]),  # that of the package itself is not to be had by its modules
    (["of a.x", "of a.y"], ["of a.x", "of a.y"]),
    (["of a.x.p", "of b.z"], ["of a.x.p", "of b.z"]),
    ([f"of c.m{n}" for n in range(9)], ["of c"]),  # one line is better than nine
    (["in b.z"], ["in b.z"]),
    (["nothing"], None),
])
def test_packages_become_modules_where_these_will_do(needed, expected):
    def will_do(rules):
        """What `b.z` imports are all the packages: a rule for each would be needed, or one for it."""
        said = [rule.split() for rule in rules]
        if needed == ["in b.z"] and set(_lazy_minimal.tops(NAMES)) <= {name for kind, name in said if kind == "of"}:
            return True
        return all(any(one.split()[0] == kind and (one.split()[-1] + ".").startswith(name + ".") for kind, name in said) for one in needed)

    found = _lazy_minimal.rules(NAMES, will_do)
    assert found == expected if expected is None else sorted(found) == expected


# --- output -------------------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("samples, lazy, differs", [
    (["a\nb\n"] * 2, "a\nb\n", False),
    (["a\nb\n"] * 2, "a\nc\n", True),
    (["a\nb\n"] * 2, "a\n", True),
    (["a\n"] * 2, "a\nb\n", True),
    (["in 1.25 s\nend\n", "in 0.9 s\nend\n"], "in 17.0 s\nend\n", False),
    (["in 1.25 s\nend\n", "in 0.9 s\nend\n"], "in 17.0 s\nbad\n", True),
    (["<at 0x7f10>\n", "<at 0x55aa>\n"], "<at 0xdead>\n", False),
    (["12 a\nx\n", "12 b\nx\n"], "12 c\nx\n", False),  # the line is another one each time
    (["12 a\nx\n", "12 b\nx\n"], "12 c\ny\n", True),
    (["a\nb\n", "a\n"], "c\n", False),
    (["1\n"] * 2, "2\n", True),  # numbers count where they are the same each time
])
def test_output_is_compared_as_far_as_it_is_the_same_each_time(samples, lazy, differs):
    output = Output([one.encode() for one in samples])
    assert (output.difference(lazy.encode()) is not None) is differs
    assert (output.remark() is None) is (len(set(samples)) == 1)


# --- registries ---------------------------------------------------------------------------------------------------------


def _process(entries, modules, kind="abc", argv=("python", "app.py")):
    return Process([*argv], None, {name: names for name, names in modules.items()}, {kind: entries})


@pytest.mark.once
@pytest.mark.parametrize("eager, lazy, expected", [
    ([("k", "v", ())], [("k", "v", ())], []),
    ([("k", "v", ())], [], ["k: eagerly only"]),
    ([], [("k", "v", ())], ["k: lazily only"]),
    ([("k", "v", ())], [("k", "w", ())], ["k: v eagerly, w lazily"]),
    ([("k", "", ()), ("k", "", ())], [("k", "", ())], ["k: 2 times eagerly, 1 times lazily"]),
    ([("k", "v", ("left.out",))], [], []),  # nobody can miss it
    ([("k", "v", ("loaded", "left.out"))], [], []),
    ([("k", "v", ("loaded",))], [], ["k: eagerly only"]),
    ([], [("k", "v", ("loaded",))], ["k: lazily only"]),
    ([], [("k", "v", ("lazily.loaded",))], []),  # to print a traceback, say
])
def test_entries_count_where_what_they_are_about_is_loaded(eager, lazy, expected):
    registry = Registry("abc", [_process(eager, {"loaded": [], "left.out": []})])
    assert [one.text for one in registry.differences(_process(lazy, {"loaded": [], "lazily.loaded": []}))] == expected


@pytest.mark.once
def test_names_that_wait_are_no_patches():
    patches = [(f"m.{name}", "other.it", ("m",)) for name in ("f", "g", "h", "C.i", "D.i")]
    eager = _process(patches, {"m": ["f", "g", "h", "C", "D"]}, "patches")
    lazy = _process([], {"m": ["?f", "g", "C", "?D"]}, "patches")  # g and C.i are what they were before they were patched, h was put there
    assert [one.key for one in Registry("patches", [eager]).differences(lazy)] == ["m.g", "m.h", "m.C.i"]


@pytest.mark.once
def test_what_is_not_the_same_twice_eagerly_is_left_out():
    runs = [_process([("steady", "1", ()), ("unsteady", value, ())], {}) for value in "xy"]
    registry = Registry("abc", runs)
    assert [one.key for one in registry.differences(_process([("unsteady", "z", ())], {}))] == ["steady"]
    assert registry.differences(_process([("steady", "1", ())], {})) == []


@pytest.mark.once
def test_processes_are_told_apart_by_what_started_them():
    runs = [Outcome(0, b"", b"", keyed([_process([("k", value, ())], {}, argv=argv) for value, argv in zip("abc", (["p", "fd=3"], ["q"], ["p", f"fd={n}"]))])) for n in (4, 77)]
    baseline = Baseline(runs[:1], ["abc"])
    assert baseline.differences(runs[1], ()) == []
    del runs[1].processes[("p", "fd=#"), 1]
    assert [one.kind for one in baseline.differences(runs[1], ())] == ["processes"] and baseline.differences(runs[1], ("processes",)) == []


@pytest.mark.once
@pytest.mark.parametrize("status, text", [(0, None), (3, "exit status 0 eagerly, exit status 3 lazily"), (-11, "exit status 0 eagerly, signal 11 lazily"),
                                          (None, "exit status 0 eagerly, it does not end lazily")])
def test_status(status, text):
    differences = Baseline([Outcome(0, b"", b"")], []).differences(Outcome(status, b"", b""), ())
    assert [one.text for one in differences] == ([text] if text else [])


# --- what a process says of itself --------------------------------------------------------------------------------------

# For each kind: what is done, and what is found of it.
REGISTER = {
    "codecs": ("import codecs\ncodecs.register(odd)\ncodecs.register_error('odd', odd)", ["the search function __main__.odd", "the error handler 'odd'"]),
    "atexit": ("import atexit, threading\natexit.register(odd, 1)\n@atexit.register\ndef other(): pass\natexit.unregister(other)\nthreading._register_atexit(list)",
               ["__main__.odd", "builtins.list"]),
    "warnings": ("import warnings\nwarnings.filterwarnings('error', 'odd', ImportWarning)", ["error odd builtins.ImportWarning"]),
    "abc": ("import collections.abc\ncollections.abc.Sequence.register(Odd)", ["__main__.Odd as a collections.abc.Sequence"]),
    "singledispatch": ("import functools\nodds = functools.singledispatch(odd)\nodds.register(int, odd)", ["__main__.odd of builtins.object", "__main__.odd of builtins.int"]),
    "tables": ("import copyreg, urllib.parse, shutil\ncopyreg.pickle(Odd, odd)\nurllib.parse.uses_netloc.append('odd')\nshutil.register_archive_format('odd', odd)",
               ["__main__.Odd in copyreg.dispatch_table", "'odd' in urllib.parse.uses_netloc", "'odd' in shutil._ARCHIVE_FORMATS"]),
    "mimetypes": ("import mimetypes\nmimetypes.add_type('a/odd', '.odd')", [".odd"]),
    "logging": ("import logging\nlogging.getLogger('odd').setLevel(7)\nlogging.addLevelName(7, 'ODD')", ["the logger odd"]),
    "signals": ("import signal\nsignal.signal(signal.SIGUSR1, odd)", ["signal 10"]),
    "hooks": ("import sys, gc\nsys.excepthook = odd\nsys.meta_path.append(Odd)\ngc.callbacks.append(odd)",
              ["sys.excepthook", "__main__.Odd in sys.meta_path", "__main__.odd in gc.callbacks"]),
    "environment": ("import os\nos.environ['ODD'] = '1'", ["ODD"]),
    "settings": ("import sys, socket, decimal, csv\nsys.path.append('/odd')\nsys.setrecursionlimit(1234)\nsocket.setdefaulttimeout(7)\ndecimal.getcontext().prec = 7\ncsv.field_size_limit(7)",
                 ["'/odd' in sys.path", "the recursion limit", "the default timeout of sockets", "the decimal context", "the field size limit of csv"]),
    "modules": ("import sys, json\nsys.modules['odd.name'] = json\nsys.modules['odder'] = Odd\nclass Proxy: __class__ = type(sys)\nsys.modules['oddest'] = Proxy()", ["odd.name", "odder", "oddest"]),
    "patches": ("import json, io\njson.dumps = odd\njson.JSONEncoder.default = odd\njson.odd = odd",
                ["json.dumps", "json.encoder.JSONEncoder.default", "json.odd"]),
}
WITH = "import codecs, atexit, threading, warnings, collections.abc, functools, copyreg, urllib.parse, shutil, mimetypes, logging, signal, os, socket, decimal, csv, json, io, gc\n" \
    "mimetypes.init()\ndef odd(*arguments): pass\nclass Odd: pass\nif 0: other = dumps = odds = None\n"


def _snapshot(place: Path, code: str) -> Process:
    place.mkdir()
    path = place.parent / "program.py"
    path.write_text(code)
    env = {**os.environ, "LADEWERK": "1", "LADEWERK_LAZY": "0", "LADEWERK_LAZY_CHECK": str(place), "LADEWERK_CACHE": str(place.parent / "cache")}
    done = subprocess.run([sys.executable, "-P", path], env=env, capture_output=True, text=True, cwd=place.parent, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (file,) = place.iterdir()
    facts = marshal.loads(file.read_bytes())
    return Process(facts["argv"], facts["lazy"], facts["bound"], facts["entries"])


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Of one program that does nothing of it, twice, and of one that does it all."""
    base = tmp_path_factory.mktemp("snapshots")
    return [_snapshot(base / str(n), WITH + code) for n, code in enumerate(["", "", "\n".join(does for does, _ in REGISTER.values())])]


def test_every_kind_is_read(snapshots):
    assert REGISTER.keys() == _lazy_probe.KINDS.keys() == snapshots[0].entries.keys() == snapshots[2].entries.keys()


@pytest.mark.parametrize("kind", REGISTER)
def test_what_was_registered_is_seen(snapshots, kind):
    before, again, after = snapshots
    assert Registry(kind, [before]).differences(again) == []
    found = {one.key for one in Registry(kind, [before]).differences(after)}
    assert set(REGISTER[kind][1]) <= found, found
    back = {one.key for one in Registry(kind, [after]).differences(before)}
    assert set(REGISTER[kind][1]) - {"odd.name"} <= back, back  # which nobody can miss where there is no `odd`


def test_nothing_is_loaded_for_it(snapshots, tmp_path):
    """Neither the modules it looks at nor what it needs itself."""
    bare = _snapshot(tmp_path / "place", "")
    assert not bare.bound.keys() & {"logging", "decimal", "mimetypes", "asyncio", "multiprocessing.context", "re", "functools", "typing", "ladewerk"}
    assert bare.bound["posixpath"] and "ladewerk._lazy_probe" in bare.bound
