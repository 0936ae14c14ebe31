# SPDX-License-Identifier: MIT
"""Code objects, read with what the interpreter's own modules `dis` and `opcode` say: what the C code is measured by."""
from __future__ import annotations

import dis
import opcode
import site
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from harness import LONG
from interpreters import is_mine

_by_name = opcode._inline_cache_entries  # type: ignore[attr-defined]
CACHES = {number: (_by_name.get(name, 0) if isinstance(_by_name, Mapping) else _by_name[number]) for name, number in opcode.opmap.items() if number < 256}
GOES_AWAY = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"}
LOADS = {"LOAD_NAME": 0, "LOAD_GLOBAL": 1, "LOAD_FROM_DICT_OR_GLOBALS": 0}  # and by how much the number of the name is shifted


class Step(NamedTuple):
    """An instruction; in code units, with its EXTENDED_ARGs and its caches."""

    begin: int
    end: int
    op: int
    name: str
    arg: int

    @property
    def target(self) -> int | None:
        if self.op not in dis.hasjrel or self.name == "END_ASYNC_FOR":
            return None
        return self.end - self.arg if "BACKWARD" in self.name else self.end + self.arg

    def effect(self, jump: bool) -> int:
        if self.name == "RETURN_GENERATOR":
            return 1  # of which older versions of dis know nothing
        return dis.stack_effect(self.op, self.arg if self.op >= dis.HAVE_ARGUMENT else None, jump=jump)


def steps(code: CodeType) -> Iterator[Step]:
    raw, at, begin, arg = code.co_code, 0, 0, 0
    while at < len(raw) // 2:
        op, arg = raw[2 * at], arg << 8 | raw[2 * at + 1]
        at += 1 + CACHES.get(op, 0)
        if op == dis.EXTENDED_ARG:
            continue
        yield Step(begin, at, op, dis.opname[op], arg)
        begin, arg = at, 0


def depths(code: CodeType) -> dict[int, int]:
    """How many values are on the stack before each instruction that can be reached, by its beginning."""
    known = {step.begin: step for step in steps(code)}
    found: dict[int, int] = {}
    todo = [(0, 0)] + [(entry.target // 2, entry.depth + entry.lasti + 1) for entry in dis._parse_exception_table(code)]  # type: ignore[attr-defined]
    while todo:
        at, depth = todo.pop()
        assert found.setdefault(at, depth) == depth, (at, depth, found[at])
        step = known[at]
        more = [] if step.name in GOES_AWAY else [(step.end, depth + step.effect(False))]
        if step.target is not None:
            more.append((step.target, depth + step.effect(True)))
        todo += [(unit, depth) for unit, depth in more if found.get(unit) != depth]
    return found


def within(code: CodeType) -> Iterator[CodeType]:
    """CODE and all that is in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from within(constant)


def loaded(code: CodeType, step: Step) -> str | None:
    """The global name that it may load."""
    return code.co_names[step.arg >> LOADS[step.name]] if step.name in LOADS else None


def installed() -> Iterator[Path]:
    """Files of the standard library and of what is installed: this interpreter's share, and of that a part unless LADEWERK_LONG says all."""
    standard = Path(sysconfig.get_path("stdlib"))
    for root in [standard, *map(Path, site.getsitepackages())]:
        for path in sorted(root.rglob("*.py")):
            inner = path.relative_to(root).as_posix()
            own = "site-packages" in inner or "dist-packages" in inner or "/bad" in inner
            if not own and is_mine(inner) and (LONG or len(inner) % (4 if root == standard else 32) == 0):
                yield path


def compiled(path: Path) -> tuple[bytes, CodeType] | None:
    source = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return source, compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
