# SPDX-License-Identifier: MIT
"""What a source says it imports, and which names it reaches through what it imports."""
import ast
import os
from typing import NamedTuple


class Said(NamedTuple):
    """Imports as (level, module, names or None), and dotted names that begin with a global one."""

    imports: tuple[tuple[int, str, tuple[str, ...] | None], ...] = ()
    chains: frozenset[str] = frozenset()


_known: dict[str, tuple[tuple[int, int, int], Said]] = {}


def _chain(node: ast.expr) -> str | None:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) and parts else None


def _imports_of(path: str) -> Said:
    """Of the source at PATH; nothing if it cannot be read or compiled."""
    try:
        stat = os.stat(path)
        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
        known = _known.get(path)
        if known and known[0] == stamp:
            return known[1]
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: it is too deep for the parser
        return Said()
    imports: list[tuple[int, str, tuple[str, ...] | None]] = []
    chains = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Attribute):
            chain = _chain(node)
            if chain:
                chains.add(chain)
    said = Said(tuple(imports), frozenset(chains))
    _known[path] = stamp, said
    return said
