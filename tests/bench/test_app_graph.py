# SPDX-License-Identifier: MIT
"""What goes when a statement goes, and what laziness would spare: on graphs whose answers are counted out."""
from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from app.graph import Graph, Node, Statement, Used, needed, packages, summed


def statement(importer: str, line: int, *names: str) -> Statement:
    return Statement(importer, f"/{importer}.py", line, False, names)


def reached(statements: Sequence[Statement], modules: set[str], without: Statement | None) -> set[str]:
    """Modules that the program imports, the long way round."""
    found, stack = set(), ["__main__"]
    while stack:
        name = stack.pop()
        if name in found or name not in modules:
            continue
        found.add(name)
        stack += packages(name)[:1]
        stack += [target for s in statements if s.importer == name and s is not without for target in s.names]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_dominated_is_what_cannot_be_reached_otherwise(seed: int) -> None:
    rng = random.Random(seed)
    names = ["__main__", *(rng.choice(["p.", "p.q.", "r.", ""]) + f"m{n}" for n in range(rng.randint(2, 12))), "p", "p.q", "r"]
    statements = [statement(rng.choice(names), n, *rng.sample(names, rng.randint(1, 3))) for n in range(rng.randint(1, 25))]
    modules = reached(statements, set(names), None)
    graph = Graph([s for s in statements if s.importer in modules], sorted(modules, key=lambda name: name != "__main__"))
    dominated = graph.dominated()
    for one in graph.statements:
        assert set(dominated[one]) == modules - reached(statements, modules, one), one


def test_cumulative_time_is_not_what_is_saved() -> None:
    """A diamond: `shared` is imported within `a`, and stays if `a` goes."""
    a, b = statement("__main__", 1, "a"), statement("__main__", 2, "b")
    graph = Graph([a, b, statement("a", 1, "shared", "own"), statement("b", 1, "shared")], ["__main__", "a", "b", "shared", "own"])
    dominated = graph.dominated()
    assert set(dominated[a]) == {"a", "own"} and set(dominated[b]) == {"b"}
    assert graph.dominators("own") == [statement("a", 1, "shared", "own"), "a", a, "__main__"]
    assert graph.dominators("shared") == ["__main__"]
    times = {"a": [1.0, 2.0], "own": [10.0, 20.0], "shared": [100.0, 100.0]}
    assert summed(dominated[a], times, 2) == [11.0, 22.0]


def test_two_statements_for_one_module_save_nothing_alone() -> None:
    first, second = statement("__main__", 1, "m"), statement("__main__", 2, "m")
    dominated: dict[Node, list[str]] = Graph([first, second], ["__main__", "m"]).dominated()
    assert dominated[first] == dominated[second] == [] and set(dominated["__main__"]) == {"__main__", "m"}


def test_a_module_that_no_statement_leads_to_is_nobodys() -> None:
    """Imported by the interpreter, or from C: no statement is said to be able to spare it."""
    lone = statement("__main__", 1, "m")
    dominated = Graph([lone], ["__main__", "m", "odd", "odd.part"]).dominated()
    assert dominated[lone] == ["m"]
    assert set(dominated["odd.part"]) == {"odd.part", "odd"}


def test_cycles_end() -> None:
    into = statement("__main__", 1, "x")
    ring = [statement("x", 1, "y"), statement("y", 1, "z"), statement("z", 1, "x")]
    assert set(Graph([into, *ring], ["__main__", "x", "y", "z"]).dominated()[into]) == {"x", "y", "z"}
    assert set(Graph(ring, ["x", "y", "z"]).dominated()["x"]) == {"x", "y", "z"}  # nobody leads there: the first one it is


def test_needed_is_what_runs_and_what_that_needs() -> None:
    """`helper` helped to import `used`, so it is needed; `mixin` only helped `unused`."""
    graph = Graph(
        [statement("__main__", 1, "used", "unused", "pack.part"), statement("used", 1, "helper", "fast"), statement("unused", 1, "mixin", "slow")],
        ["__main__", "used", "unused", "helper", "mixin", "pack", "pack.part", "fast", "slow"])
    used = Used(frozenset({"used", "pack.part"}), frozenset({("helper", "used"), ("mixin", "unused")}), frozenset({"fast", "slow"}))
    assert needed(graph, used) == {"__main__", "used", "helper", "pack", "pack.part", "fast"}
