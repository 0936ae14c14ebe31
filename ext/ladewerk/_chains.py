# SPDX-License-Identifier: MIT
"""What a module's body reaches by attributes of what it has imported: ``import shop``, then ``shop.item.PRICE``.

Read from its code object. Bodies of classes and comprehensions count, and so do functions whose name the body says: it may call them. What other functions
reach they look up when they run.
"""
from __future__ import annotations

import opcode
import re
import sys
from collections.abc import Iterable, Iterator
from types import CodeType

_OP = opcode.opmap
_OPTIMIZED = 1  # inspect.CO_OPTIMIZED: a function


def _one_of(*names: str) -> bytes:
    return b"[" + b"".join(re.escape(bytes([_OP[name]])) for name in names if _OP.get(name, 256) < 256) + b"]"


_NAMES = _one_of("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = _one_of("LOAD_ATTR", "LOAD_METHOD")
_BETWEEN = b"[\\0" + re.escape(bytes([_OP["EXTENDED_ARG"]])) + b"]*"  # cache entries, and high bits of arguments
_CHAIN = re.compile(_NAMES + b"(?:" + _BETWEEN + _ATTRIBUTES + b")*", re.DOTALL)
_EXTENDED = _OP["EXTENDED_ARG"]


def _argument(raw: bytes, at: int) -> int:
    """That of instruction AT, with the EXTENDED_ARGs before it."""
    value, shift = raw[2 * at + 1], 8
    while at and raw[2 * at - 2] == _EXTENDED:
        at -= 1
        value |= raw[2 * at + 1] << shift
        shift += 8
    return value


def _shift_of(source: str, name: str) -> int:
    """How many low bits of its argument an instruction keeps for other things."""
    code = compile(source, "", "exec")
    code = next((each for each in code.co_consts if isinstance(each, CodeType)), code)
    operations = code.co_code[::2]
    return 0 if _argument(code.co_code, operations.rindex(_OP[name])) == 1 else 1


_SHIFTS = {_OP["LOAD_GLOBAL"]: _shift_of("def f(): a; b", "LOAD_GLOBAL"), _OP["LOAD_ATTR"]: _shift_of("a.b", "LOAD_ATTR")}


def _said(code: CodeType) -> Iterator[list[str]]:
    """Names with the attributes that are asked of them at once."""
    raw, names = code.co_code, code.co_names
    for match in _CHAIN.finditer(raw[::2]):
        places = [at for at in range(match.start(), match.end()) if raw[2 * at] not in (0, _EXTENDED)]
        yield [names[_argument(raw, at) >> _SHIFTS.get(raw[2 * at], 0)] for at in places]


class _Reader:
    def __init__(self) -> None:
        self.chains: set[tuple[str, ...]] = set()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.functions: list[tuple[str, str, CodeType]] = []  # the class it is in or "", its name, its code

    def run(self, code: CodeType) -> None:
        """CODE is executed by the import, or may be."""
        for chain in _said(code):
            self.names.add(chain[0])
            self.attributes.update(chain[1:])
            self.chains.add(tuple(chain))
        for each in code.co_consts:
            if not isinstance(each, CodeType):
                continue
            if each.co_flags & _OPTIMIZED and not (each.co_name.startswith("<") and each.co_name != "<lambda>"):
                self.functions.append(("" if code.co_name == "<module>" else code.co_name, each.co_name, each))
            else:
                self.run(each)

    def run_called(self) -> None:
        """The functions that were named, and what they name; of classes that were, what making an object of one calls."""
        while True:
            called = [each for each in self.functions if self._is_called(*each)]
            if not called:
                return
            self.functions = [each for each in self.functions if each not in called]
            for _, _, code in called:
                self.run(code)

    def _is_called(self, of: str, name: str, code: CodeType) -> bool:
        return name in self.names or bool(of) and (name in self.attributes or (name.startswith("__") and of in self.names | self.attributes))


def chains_of(code: CodeType, bases: dict[str, str]) -> frozenset[str]:
    """Dotted names of what is reached; BASES are the names that the body binds by imports, and what they stand for."""
    bases = {name: module for name, module in bases.items() if module.partition(".")[0] not in sys.stdlib_module_names}
    if not bases:
        return frozenset()
    reader = _Reader()
    reader.run(code)
    reader.run_called()
    return frozenset(".".join((bases[chain[0]], *chain[1:])) for chain in reader.chains if len(chain) > 1 and chain[0] in bases)


def beginnings(chains: Iterable[str]) -> frozenset[str]:
    """Of dotted names, but for their first part: what is a module among them is for others to say."""
    return frozenset(chain[:at] for chain in chains for at in range(chain.find(".") + 1, len(chain) + 1) if at == len(chain) or chain[at] == ".")
