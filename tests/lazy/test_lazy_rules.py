# SPDX-License-Identifier: MIT
"""Modes and rules in programs that run; LADEWERK_LAZY_RULES stands for a pyproject.toml."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
import whose

PACKAGES = {
    "one/__init__.py": "from one import inner\nimport two\nfrom two import part as other\nimport json\ndef use(): return inner, two, other, json",
    "one/inner.py": "import two.part\nfrom . import late\ndef use(): return two, late",
    "one/late.py": "",
    "two/__init__.py": "",
    "two/part.py": "",
}

SHOW = """
import one, sys
print(*sorted(n for n in ("inner", "two", "other", "json") if n not in bound("one")))
"""


@pytest.fixture
def waits(lazily):
    def run(mode: str, rules: str = "", main: str = SHOW, files: dict[str, str] = PACKAGES) -> list[str]:
        return lazily(files, main, mode=mode, LADEWERK_LAZY_RULES=rules).out.split()
    return run


def test_modes(waits):
    assert waits("default") == ["json", "other", "two"]
    assert waits("all") == ["inner", "json", "other", "two"]
    assert waits("eager") == []


@whose.some
def test_the_users_own(tmp_path):
    """Where the program is started says what is the user's own; so this one is not forked from another."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "one/__init__.py").write_text("import one.inner\ndef use(): return one")
    (tmp_path / "one/inner.py").write_text("")
    env = {**os.environ, "LADEWERK": "1", "LADEWERK_LAZY": "own", "LADEWERK_CACHE": str(tmp_path / "cache")}
    loaded = "import sys, one; print('one.inner' in sys.modules)"
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {loaded}"
    for cwd, eager in (tmp_path, False), (tmp_path / "other", True):
        assert subprocess.run([sys.executable, "-P", "-c", program], env=env, cwd=cwd, capture_output=True, text=True).stdout == f"{eager}\n"


def test_rules(waits):
    assert waits("all", "eager two") == ["inner", "json"]
    assert waits("all", "eager in two") == ["inner", "json", "other", "two"]
    assert waits("all", "eager of two.part") == ["inner", "json", "two"]
    assert waits("all", "eager in one") == []
    assert waits("all", "eager of one") == ["json", "other", "two"]
    assert waits("all", "eager in one\nlazy in one") == ["inner", "json", "other", "two"]
    assert waits("default", "eager in *") == []


@pytest.mark.parametrize("rule", ["two", "json", "two.part", "one"])
def test_importers_that_are_wholly_eager(waits, rule):
    assert waits("all", f"eager with {rule}") == []


@pytest.mark.parametrize("line", ["try:\n    import three\nexcept ImportError: pass", "import three", "from three import x", "import three.y as z\nz"])
def test_importers_that_import_it_in_any_way(waits, line):
    files = {"one.py": f"import json\n{line}\ndef use(): return json", "three/__init__.py": "x = 1", "three/y.py": ""}
    main = "import one\nprint(*{'json'} - bound('one'))"
    assert waits("all", "", main, files) == ["json"]
    assert waits("all", "eager with three", main, files) == []
    assert waits("all", "eager with three.other", main, files) == ["json"]


def test_shipped_rules(waits):
    """A module that protoc has written needs others to be imported although it never names them."""
    files = {
        "google/protobuf/__init__.py": "", "google/protobuf/descriptor_pool.py": "known = set()",
        "google/protobuf/timestamp_pb2.py": "from google.protobuf import descriptor_pool as _pool\n_pool.known.add('timestamp')",
        "shop_pb2.py": "from google.protobuf import descriptor_pool as _pool\nfrom google.protobuf import timestamp_pb2 as google_timestamp\n"
                       "assert 'timestamp' in _pool.known\n",
    }
    main = "import shop_pb2\nprint('good')"
    assert waits("all", "", main, files) == ["good"]
    with pytest.raises(AssertionError, match="AssertionError"):
        waits("all", "lazy with google.protobuf", main, files)


@whose.none
@pytest.mark.parametrize("mode", ["default", "own", "all"])
def test_where_nothing_is_lazy_the_reason_is_told(programs, mode):
    ended = programs.run(mode, PACKAGES, "import one, ladewerk\nprint(sorted(vars(one).keys() & {'inner', 'two', 'other', 'json'}), ladewerk.stats()['lazy'])")
    nothing = {"mode": "off", "reason": "this is a free-threaded build, whose threads have code of their own", "registered": 0, "resolved": 0, "eager": 0}
    assert ended.out == f"['inner', 'json', 'other', 'two'] {nothing}\n", ended


def test_a_finder_that_makes_loaders_lazy(alike):
    """From 3.13 on LazyLoader imports threading when it is first used, and threading imports itertools: stock Python has loaded that by then."""
    alike({"early.py": "import itertools\ndef use(): return itertools\n"}, """
        import sys
        import early
        from importlib import util
        from importlib.machinery import BuiltinImporter, PathFinder

        class Loader(util.LazyLoader):
            def exec_module(self, module):
                (self.loader if module.__name__ == "threading" else super()).exec_module(module)

        class Finder:
            def find_spec(name, path=None, target=None):
                spec = {"itertools": BuiltinImporter, "threading": PathFinder}[name].find_spec(name) if name in ("itertools", "threading") else None
                if spec:
                    spec.loader = Loader(spec.loader)
                return spec

        sys.meta_path.insert(0, Finder)
        import threading
        print(threading.RLock.__name__, early.use().__name__)
    """, modes=("default", "all"))
