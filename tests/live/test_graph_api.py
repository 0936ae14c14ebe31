# SPDX-License-Identifier: MIT
"""Graph and GraphBuilder: what the command does not show. Answers are the same from any number of threads, and arguments of any kind do no harm."""
from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time

import pytest

from ladewerk import _graph, _live


def write(root, **sources):
    for name, text in sources.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "tree"
    write(root, a="import pkg.b\nimport zlib", pkg__b="import c", c="import a", d="def f(): import c")
    (root / "pkg/__init__.py").write_text("")
    time.sleep(0.05)
    return root


def make(root, store=None):
    builder = _live.GraphBuilder([str(root)], store)
    for number, path in builder.gather(None) if builder.scan() else []:
        with open(path) as file:
            builder.put(number, _live.edges(compile(file.read(), path, "exec", dont_inherit=True)))
    return builder.finish()


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "cache"), "0123456789abcdef" * 2, "test", False, os.geteuid(), None


def test_questions(root):
    graph, error = make(root)
    assert error != 0  # there is no store
    assert [graph.node(number) for number in range(len(graph))] == [
        ("a", "module", f"{root}/a.py", "read"), ("c", "module", f"{root}/c.py", "read"), ("d", "module", f"{root}/d.py", "read"),
        ("pkg", "package", f"{root}/pkg/__init__.py", "read"), ("pkg.b", "module", f"{root}/pkg/b.py", "read"), ("zlib", "external", None, "read")]
    assert [(graph.name(number), graph.kind(number)) for number in range(len(graph))] == [graph.node(number)[:2] for number in range(len(graph))]
    assert graph.imports("a") == ["pkg.b", "zlib"] and graph.imports("a", True) == ["pkg.b", "zlib", "c", "pkg"]
    assert graph.importers("c") == ["d", "pkg.b"] and graph.importers("c", kinds=1) == ["pkg.b"] and graph.importers("c", transitive=True, kinds=1) == ["pkg.b", "a"]
    assert graph.importers("zlib", True) == ["a", "c", "d", "pkg.b"]
    assert graph.edges(graph.find("c"), back=True) == [(graph.find("d"), 8, 1), (graph.find("pkg.b"), 1, 1)]
    assert graph.reach(graph.find("a"), kinds=1)[0] == (graph.find("pkg.b"), graph.find("a"))
    assert graph.cycles() == [([0, 1, 4], [0, 4, 1])] and graph.cycles(2) == []


def test_what_it_is_asked(root):
    graph, _ = make(root)
    for name in ("", "nope", "a\0", "a.", "\udcff", "\ud800", "ä" * 5000, "pkg.b.c"):
        assert graph.find(name) == -1
        with pytest.raises(KeyError):
            graph.imports(name)
    for number in (-1, len(graph), 2**31, 2**62):
        for ask in (graph.node, graph.name, graph.kind, graph.edges, graph.reach):
            with pytest.raises(IndexError):
                ask(number)
    with pytest.raises(IndexError):
        graph.node(2**80)
    for wrong in (None, b"a", 1):
        with pytest.raises(TypeError):
            graph.find(wrong)
    assert graph.edges(0, kinds=0) == graph.cycles(0) == [] and graph.importers("c", kinds=2**32 - 1) == ["d", "pkg.b"]
    with pytest.raises(TypeError):
        type(graph)()


def test_what_a_builder_is_given(root, store):
    for wrong in ([], ["relative"], [""]):
        with pytest.raises(ValueError):
            _live.GraphBuilder(wrong)
    with pytest.raises(ValueError):
        _live.GraphBuilder([str(root), "a\0b"])
    with pytest.raises(TypeError):
        _live.GraphBuilder([1])
    with pytest.raises(ValueError):
        _live.GraphBuilder([str(root)], (store[0], "xyz", *store[2:]))
    builder = _live.GraphBuilder([str(root)], store)
    for ask in (lambda: builder.put(0, []), lambda: builder.gather(None), builder.finish, lambda: builder.observe("a", "b")):
        with pytest.raises(RuntimeError, match="scan"):
            ask()
    assert builder.stored() is None and builder.scan() == 5
    for wrong in ([1], [()], [(0, "a", None, "often", 1)], [(0, "a", ["b"], "module", 1)], [(0, "a", None, "module")]):
        with pytest.raises((TypeError, ValueError)):
            builder.put(0, wrong)
    with pytest.raises(IndexError):
        builder.put(5, [])
    with pytest.raises(TypeError):
        builder.put(0, ())
    # What no file can be called, or nobody writes, is left out.
    builder.put(0, [(0, "\ud800", None, "module", 1), (999, "x", None, "module", 1), (-1, "x", None, "module", 1), (0, "x" * 70000, None, "module", 1),
                    (0, "fine", ("a\0b", "\ud800", 5), "module", -7), (0, "many", tuple(f"n{i}" for i in range(150_000)), "typing", 2**31 - 1)])
    graph, error = builder.finish()
    assert error == 0 and graph.imports("a") == ["fine", "many"]
    with pytest.raises(RuntimeError, match="scan"):
        builder.finish()


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(OSError) as caught:
        _live.GraphBuilder([str(tmp_path), str(tmp_path / "missing")]).scan()
    assert caught.value.filename == str(tmp_path / "missing")


def test_stored(root, store):
    assert make(root, store)[1] == 0
    builder = _live.GraphBuilder([str(root)], store)
    graph = builder.stored()
    assert graph.imports("a") == ["pkg.b", "zlib"]
    write(root, c="import pkg")
    # The graph that somebody has stays what it was.
    assert builder.stored() is None and graph.imports("c") == ["a"]
    assert builder.stored(2, "a").imports("a") == ["pkg.b", "zlib"] and builder.stored(1, "c") is None
    time.sleep(0.05)
    assert builder.scan() == 1
    assert _live.GraphBuilder([str(root), str(root / "pkg")], store).stored() is None


def test_undecodable_names(tmp_path):
    root = os.fsencode(tmp_path) + b"/tree\xff"
    os.mkdir(root)
    with open(root + b"/m\xfe.py", "w") as file:
        file.write("import a")
    time.sleep(0.05)
    graph, _ = make(os.fsdecode(root))
    assert graph.imports(os.fsdecode(b"m\xfe")) == ["a"] and graph.node(graph.find("m\udcfe"))[2] == os.fsdecode(root + b"/m\xfe.py")


def test_from_many_threads(root, store):
    """The first to ask reads what is needed, any number may be first."""
    make(root, store)
    for _ in range(30):
        graph = _live.GraphBuilder([str(root)], store).stored()
        barrier, answers = threading.Barrier(6), []

        def ask(graph=graph, barrier=barrier, answers=answers):
            barrier.wait()
            answers.append((graph.importers("c", True), graph.imports("a", True), graph.cycles(), len(graph)))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [(["d", "pkg.b", "a"], ["pkg.b", "zlib", "c", "pkg"], [([0, 1, 4], [0, 4, 1])], 6)] * 6


def test_one_builder_from_many_threads(root, store):
    """It does its work, or says that another thread is at it; and is good afterwards."""
    builder = _live.GraphBuilder([str(root)], store)
    barrier, wrong = threading.Barrier(6), []

    def work():
        barrier.wait()
        for _ in range(20):
            for step in (builder.scan, lambda: builder.gather(None), lambda: builder.put(0, []), builder.finish, builder.stored):
                try:
                    step()
                except RuntimeError as error:
                    if "another thread" not in str(error) and "scan() comes first" not in str(error):
                        wrong.append(error)
                except Exception as error:
                    wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert make(root, store)[0].imports("c") == ["a"]


def test_no_leaks(root, store):
    """What is made again and again does not grow: blocks that the interpreter has handed out. The control keeps what it is given."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("blocks are not counted alike without the GIL")
    code = compile("import a, b\nfrom c import d\ndef f(): import e", "x", "exec")

    def use():
        graph, _ = make(root, store)
        graph.importers("c", True), graph.cycles(), graph.reach(0), graph.edges(0)
        for wrong in (lambda: graph.imports("nope"), lambda: graph.node(99), lambda: _live.GraphBuilder([1]), lambda: _live.GraphBuilder([str(root)], ("a",) * 6)):
            try:
                wrong()
            except Exception:
                pass
        return _live.edges(code)

    def grown(kept):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(100):
            kept(use())
        gc.collect()
        return sys.getallocatedblocks() - before

    grown(id)
    assert min(grown(id) for _ in range(5)) < 100  # for each round: less than one
    assert grown([].append) >= 300


def test_load(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LADEWERK_CACHE", str(tmp_path / "place"))
    assert _graph.load([str(root)]).importers("c") == ["d", "pkg.b"]
    write(root, e="import c")
    assert _graph.load([str(root)]).importers("c") == ["d", "e", "pkg.b"]


MEMORY = """
import _testcapi, sys
from ladewerk import _live
root = sys.argv[1]
first = _live.GraphBuilder([root])
first.scan()
codes = [compile(open(path).read(), path, "exec") for number, path in first.gather(None)]

def use():
    builder = _live.GraphBuilder([root])
    builder.scan()
    builder.gather(None)
    for number, code in enumerate(codes):
        builder.put(number, _live.edges(code))
    graph, _ = builder.finish()
    for number in range(len(graph)):
        graph.node(number), graph.edges(number), graph.edges(number, True), graph.reach(number), graph.reach(number, True), graph.kind(number)
    return graph.imports("a", True), graph.importers("c"), graph.cycles(63)

expected = use()
failed = 0
for start in range(1, 600):
    found = None
    _testcapi.set_nomemory(start, start + 1)
    try:
        found = use()
    except MemoryError:
        failed += 1
    finally:
        _testcapi.remove_mem_hooks()
    assert found in (None, expected), start
assert failed > 100, failed
"""


def test_without_memory(root):
    """Each allocation in turn fails: a MemoryError, and nothing else."""
    pytest.importorskip("_testcapi")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("allocations fail in other threads as well")
    done = subprocess.run([sys.executable, "-c", MEMORY, str(root)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
