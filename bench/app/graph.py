# SPDX-License-Identifier: MIT
"""What goes when one import statement goes: the modules that nothing else leads to.

Nodes are modules and the statements that were executed; a statement leads to the modules that it names, a module to its statements and to its packages. A
statement *dominates* what can be reached from the program through it alone, which is what would no longer be imported without it: Cooper, Harvey and Kennedy,
"A Simple, Fast Dominance Algorithm" (2001). Times are rounds: a list per module, item n of all is of run n.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

ROOT = 0


@dataclass(frozen=True)
class Statement:
    """An import statement, or a call that imports (importlib.import_module()), at its place; several on one line are one."""

    importer: str
    file: str
    line: int
    inside: bool  # within a function: executed when that is called
    names: tuple[str, ...]  # modules that it names, their packages left out


Node = str | Statement


def packages(name: str) -> list[str]:
    """Those that a module is in, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


class Graph:
    """MODULES: all that were imported, or tried to be, in an order in which importers come before what they import where that is known."""

    def __init__(self, statements: Iterable[Statement], modules: Collection[str]) -> None:
        self.modules = frozenset(modules)
        self.numbers: dict[Node, int] = {}
        self.nodes: list[Node] = [""]
        self.follows: list[list[int]] = [[]]
        for name in modules:
            self._number(name)
        for name in modules:
            if (parent := name.rpartition(".")[0]) in self.modules:
                self._lead(name, parent)
        for statement in statements:
            self._add(statement)
        self._reach_all()
        self.dominator = _dominators(self.follows)

    def _number(self, node: Node) -> int:
        if node not in self.numbers:
            self.numbers[node] = len(self.nodes)
            self.nodes.append(node)
            self.follows.append([])
        return self.numbers[node]

    def _lead(self, node: Node, to: Node) -> None:
        self.follows[self._number(node)].append(self._number(to))

    def _add(self, statement: Statement) -> None:
        names = [name for name in statement.names if name in self.modules and name != statement.importer]
        if not statement.importer:
            self.follows[ROOT] += [self._number(name) for name in names]
        elif names:
            self._lead(statement.importer, statement)
            for name in names:
                self._lead(statement, name)

    def _reach_all(self) -> None:
        """What no known statement leads to hangs on the root: __main__, what was there before the program, what was imported by ways of its own."""
        led_to = {number for follows in self.follows for number in follows}
        reached: set[int] = {ROOT}
        for number in [*(n for n in range(1, len(self.nodes)) if n not in led_to), *range(1, len(self.nodes))]:
            if number not in reached:
                self.follows[ROOT].append(number)
                self._reach(number, reached)

    def _reach(self, number: int, reached: set[int]) -> None:
        reached.add(number)
        stack = [number]
        while stack:
            for follower in self.follows[stack.pop()]:
                if follower not in reached:
                    reached.add(follower)
                    stack.append(follower)

    @property
    def statements(self) -> list[Statement]:
        return [node for node in self.nodes if isinstance(node, Statement)]

    def dominated(self) -> dict[Node, list[str]]:
        """Of each node the modules that it dominates, itself among them."""
        found: dict[Node, list[str]] = {node: [] for node in self.nodes}
        for number, node in enumerate(self.nodes):
            if node in self.modules:
                assert isinstance(node, str)
                above = number
                while above != ROOT:
                    found[self.nodes[above]].append(node)
                    above = self.dominator[above]
        return found

    def dominators(self, node: Node) -> list[Node]:
        """From the nearest one up, the root left out."""
        found = []
        above = self.dominator[self.numbers[node]]
        while above != ROOT:
            found.append(self.nodes[above])
            above = self.dominator[above]
        return found

    def importers(self) -> dict[str, list[Statement]]:
        """Of each module the statements that name it."""
        found: dict[str, list[Statement]] = {name: [] for name in self.modules}
        for statement in self.statements:
            for name in statement.names:
                if name in found:
                    found[name].append(statement)
        return found


def _order(follows: Sequence[Sequence[int]]) -> list[int]:
    """Depth first from the root, each node after all that it leads to, reversed."""
    seen, order = {ROOT}, []
    stack = [(ROOT, iter(follows[ROOT]))]
    while stack:
        number, rest = stack[-1]
        for follower in rest:
            if follower not in seen:
                seen.add(follower)
                stack.append((follower, iter(follows[follower])))
                break
        else:
            order.append(number)
            stack.pop()
    return order[::-1]


def _dominators(follows: Sequence[Sequence[int]]) -> list[int]:
    """The nearest dominator of each node; all must be reachable from the root."""
    order = _order(follows)
    place = {number: n for n, number in enumerate(order)}
    before: list[list[int]] = [[] for _ in follows]
    for number, followers in enumerate(follows):
        for follower in followers:
            before[follower].append(number)
    nearest = [-1] * len(follows)
    nearest[ROOT] = ROOT

    def common(one: int, other: int) -> int:
        while one != other:
            while place[one] > place[other]:
                one = nearest[one]
            while place[other] > place[one]:
                other = nearest[other]
        return one

    changed = True
    while changed:
        changed = False
        for number in order[1:]:
            found = -1
            for other in before[number]:
                if nearest[other] >= 0:
                    found = other if found < 0 else common(found, other)
            if nearest[number] != found:
                nearest[number], changed = found, True
    return nearest


@dataclass(frozen=True)
class Used:
    """Which modules were used once they had been imported: NEEDED, outside of any import; HELPED, (module, for whom), while another one was being imported. Used
    is a module whose code runs, or which is asked for where it cannot wait (in a function, by importlib.import_module())."""

    needed: frozenset[str]
    helped: frozenset[tuple[str, str]]
    native: frozenset[str] = field(default_factory=frozenset)  # whose code cannot be seen to run: extension modules, built-in ones


def needed(graph: Graph, used: Used) -> frozenset[str]:
    """The modules that would be imported even if every import waited for its module's first use; the others need not be.

    A module that helped to import another one is needed if that one is, and so are its packages, and a native module if one of its importers is. Use of
    data alone (a constant, an exception to be caught) is not seen: so what is left is what laziness saves at most.
    """
    wanted: dict[str, list[str]] = {}
    for module, whom in used.helped:
        wanted.setdefault(whom, []).append(module)
    for statement in graph.statements:
        wanted.setdefault(statement.importer, []).extend(name for name in statement.names if name in used.native)
    found: set[str] = set()
    stack = ["__main__", *used.needed]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += [*packages(name), *wanted.get(name, ())]
    return frozenset(found)


def summed(names: Iterable[str], times: Mapping[str, Sequence[float]], rounds: int) -> list[float]:
    """Round by round, what the modules took by themselves."""
    result = [0.0] * rounds
    for name in names:
        for n, value in enumerate(times.get(name, ())):
            result[n] += value
    return result
