# SPDX-License-Identifier: MIT
"""What a process of `ladewerk check` does: it imports the modules that it is told to, or reads their code, and reports on each.

Modules of the library that are loaded here could not be shadowed by one under check any more, so this imports only what is built in;
and it keeps its own names for what it needs, since a module body may replace anything.
"""
import faulthandler
import marshal
import os
import sys
from _frozen_importlib_external import SourceFileLoader, SourcelessFileLoader  # type: ignore[import-not-found, unused-ignore]

from ladewerk import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType
    from typing import Any

#: Asks where the main thread is. Nobody uses the last real-time signals.
ASK = 63
HIGH = 500  # descriptors from here on are ours; bodies that close all they know of seldom go so far
TEXT = 400
CO_OPTIMIZED = 1  # code of a function, as opposed to that of a module or class

Edge = tuple[int, int, str, tuple[str, ...]]  # line, level, name, what is taken from it

_write, _getpid, _exit, _import, _modules = os.write, os.getpid, os._exit, __import__, sys.modules


# --- the way back -------------------------------------------------------------------------------------------------------


def _high(descriptor: int) -> int:
    """A copy of DESCRIPTOR with a high number that no program executed by a body gets."""
    taken = []
    try:
        while (copy := os.dup(descriptor)) < HIGH:
            taken.append(copy)
        return copy
    except OSError:  # not that many allowed
        return taken.pop()
    finally:
        for number in taken:
            os.close(number)


def _sender(descriptor: int) -> "Callable[[Any], None]":
    def send(answer: "Any") -> None:
        data = marshal.dumps(answer)
        data = len(data).to_bytes(4, "little") + data
        try:
            while data:
                data = data[_write(descriptor, data):]
        except OSError:
            _exit(70)  # nobody listens any more
    return send


# --- importing ----------------------------------------------------------------------------------------------------------


def _line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= TEXT else words[:TEXT] + "..."


def _said(error: BaseException) -> str:
    try:
        return _line(str(error.msg if isinstance(error, SyntaxError) else error))
    except Exception:
        return "(its text cannot be had)"


def _frames(error: BaseException) -> list[tuple[str, int, str]]:
    """Outermost first, without our own."""
    frames = []
    trace = error.__traceback__ and error.__traceback__.tb_next
    while trace:
        code = trace.tb_frame.f_code
        frames.append((code.co_filename, trace.tb_lineno or 1, code.co_name))
        trace = trace.tb_next
    return frames


def _describe(error: BaseException, inside: tuple[str, ...]) -> "dict[str, Any]":
    try:
        return _facts(error, inside)
    except Exception:  # a class of exceptions may be anything
        return {"what": "import", "type": "BaseException", "text": "(an exception that nothing can be learnt of)", "trace": []}


def _facts(error: BaseException, inside: tuple[str, ...]) -> "dict[str, Any]":
    kind = type(error)
    frames = _frames(error)
    where = next(((file, line) for file, line, _ in reversed(frames) if file.startswith(inside)), None)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    found: "dict[str, Any]" = {"what": "import", "type": name, "text": _said(error), "trace": frames[-20:]}
    if isinstance(error, SyntaxError) and isinstance(error.filename, str) and error.filename.startswith(inside):
        where, found["what"] = (str(error.filename), error.lineno or 1), "syntax"
    elif not where and (isinstance(error, SyntaxError) or isinstance(error, ValueError) and "null bytes" in found["text"]):
        found["what"] = "syntax"  # it says so of no file, but nothing was executed
    elif isinstance(error, SystemExit):
        found["what"] = "exit"
    elif isinstance(error, PermissionError) and isinstance(error.filename, str) and error.filename.startswith(inside):
        where, found["what"] = (str(error.filename), 1), "unreadable"
    if where:
        found["file"], found["line"] = where
    return found


def _plain(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None  # marshal takes no subclasses


def _origin(name: str) -> tuple[str | None, str | None] | None:
    """Where NAME was loaded from, by its spec and by itself; None for what is no ordinary module of that name."""
    module = _modules.get(name)
    if type(module) is not type(sys):
        return None
    spec: "Any" = vars(module).get("__spec__")
    if type(spec).__name__ != "ModuleSpec" or spec.name != name:
        return None
    return _plain(spec.origin), _plain(vars(module).get("__file__"))


def _load(name: str, inside: tuple[str, ...], failed: "dict[str, Any]") -> object:
    """A module of a package that has FAILED would have the package executed again, each time."""
    above = name
    while above := above.rpartition(".")[0]:
        if above in failed:
            return failed[above]
    try:
        _import(name)
        return "loaded", _origin(name)
    except BaseException as error:
        answer = failed[name] = "failed", _describe(error, inside)
        return answer


# --- reading ------------------------------------------------------------------------------------------------------------


class _Opcodes:
    """The few instructions that import statements are told by. dis would do, but takes longer than the imports."""

    def __init__(self) -> None:
        from opcode import opmap

        def numbers(*names: str) -> frozenset[int]:
            return frozenset(opmap[name] for name in names if name in opmap)

        self.imports, self.extended = opmap["IMPORT_NAME"], opmap["EXTENDED_ARG"]
        self.const, self.number, self.name, self.attribute = opmap["LOAD_CONST"], opmap.get("LOAD_SMALL_INT", -1), opmap["LOAD_NAME"], opmap["LOAD_ATTR"]
        self.compare = opmap["COMPARE_OP"]
        self.jumps = numbers("POP_JUMP_IF_FALSE", "POP_JUMP_FORWARD_IF_FALSE")
        self.left_out = numbers("CACHE", "EXTENDED_ARG", "TO_BOOL", "NOT_TAKEN", "PRECALL")
        self.attribute_shift = 1 if sys.version_info >= (3, 12) else 0
        self.import_shift = 2 if sys.version_info >= (3, 15) else 0  # the lowest bit: a lazy one


def _decoded(code: bytes, opcodes: _Opcodes) -> "Iterator[tuple[int, int, int]]":
    """Place, opcode and argument of every instruction that counts."""
    high = 0
    for i in range(0, len(code), 2):
        op = code[i]
        if op in opcodes.left_out:
            high = (high | code[i + 1]) << 8 if op == opcodes.extended else high
        else:
            yield i, op, high | code[i + 1]
            high = 0


def _target(code: bytes, place: int, argument: int) -> int:
    """Where the jump at PLACE leads; it counts from behind its caches."""
    place += 2
    while place < len(code) and code[place] == 0:
        place += 2
    return place + 2 * argument


def _imports(code: "CodeType", opcodes: _Opcodes) -> "Iterator[Edge]":
    """The import statements that run when CODE, a module's or that of a class in it, does. Those for type checkers, and for `python -m`, do not."""
    raw, names, consts = code.co_code, code.co_names, code.co_consts
    before = last = (0, -1, 0)
    until = 0
    lines = None
    for one in _decoded(raw, opcodes) if opcodes.imports in raw[::2] else ():
        place, op, argument = one
        if op in opcodes.jumps:
            kind, what = last[1:]
            typing = (kind == opcodes.name and names[what] == "TYPE_CHECKING"
                      or kind == opcodes.attribute and names[what >> opcodes.attribute_shift] == "TYPE_CHECKING")
            if typing or kind == opcodes.compare and before[1] == opcodes.const and consts[before[2]] == "__main__":
                until = max(until, _target(raw, place, argument))
        elif op == opcodes.imports and place >= until and not (opcodes.import_shift and argument & 1):
            level = consts[before[2]] if before[1] == opcodes.const else before[2] if before[1] == opcodes.number else 0
            taken = consts[last[2]] if last[1] == opcodes.const else None
            lines = lines or [line for line in code.co_lines() if line[2]]
            line = next((number for start, end, number in lines if start <= place < end), None) or code.co_firstlineno
            yield line, level, names[argument >> opcodes.import_shift], taken or ()
        before, last = last, one
    for const in consts:
        if isinstance(const, type(code)) and not const.co_flags & CO_OPTIMIZED:
            yield from _imports(const, opcodes)


def _code(name: str, file: str) -> "CodeType | None":
    loader = SourceFileLoader if file.endswith(".py") else SourcelessFileLoader if file.endswith(".pyc") else None
    return loader(name, file).get_code(name) if loader else None


def _read(name: str, file: str, inside: tuple[str, ...], opcodes: _Opcodes) -> object:
    try:
        code = _code(name, file)
    except BaseException as error:
        return "failed", _describe(error, inside)
    try:
        return "read", list(_imports(code, opcodes)) if code else []
    except Exception:  # code that no compiler has made
        return "read", []


# --- the process --------------------------------------------------------------------------------------------------------


def _order(descriptor: int) -> "Any":
    with open(descriptor, "rb") as file:
        file.seek(0)
        return marshal.load(file)


def _end() -> None:
    """Without what bodies have registered: threads, atexit and destructors are the program's business."""
    try:
        _native.flush()
    finally:
        _exit(0)


def main(order: int, answers: int, dump: int) -> None:
    reading, jobs, path, inside = _order(order)
    sink, told = _high(answers), _high(dump)
    os.close(answers)
    os.close(dump)
    faulthandler.enable(told, all_threads=False)
    faulthandler.register(ASK, told, all_threads=False)
    send, own = _sender(sink), _getpid()
    send("ready")
    if not reading:
        sys.path[:] = path
    opcodes = _Opcodes() if reading else None
    failed: "dict[str, Any]" = {}
    for name, file in jobs:
        answer = _read(name, file, inside, opcodes) if opcodes else _load(name, inside, failed)
        if _getpid() != own:
            _exit(0)  # a body has forked, and its child came here
        send(answer)
    _end()
