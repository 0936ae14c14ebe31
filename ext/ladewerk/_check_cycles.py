# SPDX-License-Identifier: MIT
"""Circular imports among modules, from the import statements that run when they are imported."""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from ladewerk._check_worker import Edge

LOOKED_AT = 100  # modules of a component that the shortest way is sought from: some components have thousands

Graph = dict[str, dict[str, int]]  # importer: {imported: line}


def parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _base(importer: str, is_package: bool, level: int, name: str) -> str | None:
    """The absolute name; None if it is beyond the top."""
    if not level:
        return name
    parts = importer.split(".")
    kept = len(parts) - level + is_package
    if kept <= 0:
        return None
    return ".".join([*parts[:kept], *([name] if name else [])])


def _direct(importer: str, edge: Edge, is_package: bool, known: Mapping[str, bool]) -> Iterator[str]:
    """What the statement names. A package above the importer counts only where something of its own is taken from it."""
    _, level, name, taken = edge
    base = _base(importer, is_package, level, name)
    if base is None:
        return
    above = base == importer or importer.startswith(base + ".")
    if not taken and not above:
        yield base
    for part in taken:
        if f"{base}.{part}" in known:
            yield f"{base}.{part}"
        elif base != importer:
            yield base


def build(read: Mapping[str, Iterable[Edge]], known: Mapping[str, bool]) -> Graph:
    """KNOWN: the modules under check, and whether they are packages."""
    graph: Graph = {}
    for importer, edges in sorted(read.items()):
        own = {importer, *parents(importer)}
        targets = graph.setdefault(importer, {})
        for edge in edges:
            for target in _direct(importer, edge, known[importer], known):
                # The packages above it are executed first, but for those that the importer is in.
                for one in target, *(parent for parent in parents(target) if parent not in own):
                    if one in known and one != importer:
                        targets.setdefault(one, edge[0])
    return graph


def components(graph: Graph) -> Iterator[list[str]]:
    """Tarjan's strongly connected components of more than one module; without recursion, for chains are long."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    for start in graph:
        if start in number:
            continue
        work = [(start, iter(sorted(graph[start])))]
        number[start] = low[start] = len(number)
        path.append(start)
        on_path.add(start)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in graph:
                    continue
                if target not in number:
                    number[target] = low[target] = len(number)
                    path.append(target)
                    on_path.add(target)
                    work.append((target, iter(sorted(graph[target]))))
                    break
                if target in on_path:
                    low[node] = min(low[node], number[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    found = [path.pop()]
                    while found[-1] != node:
                        found.append(path.pop())
                    on_path.difference_update(found)
                    if len(found) > 1:
                        yield sorted(found)


def shortest(graph: Graph, members: list[str]) -> list[str]:
    """The shortest way from one of MEMBERS back to it, its first module by name in front; among equals the first by name."""
    inside, best = set(members), list[str]()
    for start in members[:LOOKED_AT]:
        before = {start: start}
        queue = deque([start])
        while queue and start not in (seen := graph[node := queue.popleft()]):
            for target in sorted(seen):
                if target in inside and target not in before:
                    before[target] = node
                    queue.append(target)
        way = [node]
        while way[-1] != start:
            way.append(before[way[-1]])
        if not best or len(way) < len(best):
            best = way[::-1]
        if len(best) == 2:
            break
    return best
