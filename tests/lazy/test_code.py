# SPDX-License-Identifier: MIT
"""The code that is made for lazy imports (ext/lazy_emit.c): what there is of the compiler's stays where it is, and unarmed it does what the compiler's does."""
from __future__ import annotations

import collections
import dis
import gc
import itertools
import marshal
import random
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

import bytecode
import pytest
import whose
from harness import LONG, environment
from interpreters import IS_MINE

from ladewerk import _native

pytestmark = whose.ours

LEFT_OUT = {"EXTENDED_ARG", "CACHE", "NOT_TAKEN"}


NOTHING = ("ladewerk.lazy", 1, (), (-1, ()))


def is_left(made: CodeType) -> bool:
    """Nothing was done to it."""
    return made.co_consts[-1] == NOTHING


def made_of(source: str) -> tuple[CodeType, CodeType]:
    """SOURCE as the compiler compiles it, and made ready, which it must be."""
    code = compile(textwrap.dedent(source), "module.py", "exec", dont_inherit=True)
    made = _native._lazy_transform(code)
    assert not is_left(made)
    return code, made


# --- by what it is: each part of the code, measured by dis ---

class Parts:
    """A code object: its instructions by where they begin, what covers each unit, its places."""

    def __init__(self, code: CodeType):
        self.code, self.units = code, len(code.co_code) // 2
        self.steps = {step.begin: step for step in bytecode.steps(code)}
        self.places = list(code.co_positions())
        self.handler: list[tuple[int, int, bool] | None] = [None] * self.units
        behind = 0
        for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
            assert behind <= entry.start // 2 < entry.end // 2 <= self.units and entry.target // 2 in self.steps, entry
            behind = entry.end // 2
            self.handler[entry.start // 2:behind] = [(entry.target // 2, entry.depth, entry.lasti)] * (behind - entry.start // 2)
        assert len(self.places) == self.units

    def run(self, begin: int, end: int) -> list[bytecode.Step]:
        """The instructions from BEGIN to END."""
        found = []
        while begin < end:
            found.append(self.steps[begin])
            begin = found[-1].end
        assert begin == end
        return found


def judge_attributes(code: CodeType, made: CodeType) -> None:
    for name in ("argcount", "posonlyargcount", "kwonlyargcount", "nlocals", "flags", "names", "varnames", "freevars", "cellvars", "filename", "name", "qualname", "firstlineno"):
        assert getattr(code, f"co_{name}") == getattr(made, f"co_{name}"), name
    for was, now in zip(code.co_consts, made.co_consts):
        assert type(was) is type(now) and (isinstance(was, CodeType) or was is now)
    assert set(made.co_consts[len(code.co_consts):]) <= {b"", made.co_consts[-1]}


def judge_statement(was: Parts, now: Parts, begin: int, end: int, slot: int) -> int:
    """The jump in its place leads to its block, which is over at the unit returned."""
    lead, *rest = now.run(begin, end)
    assert lead.name == "JUMP_FORWARD" and {step.name for step in rest} <= {"NOP"} and lead.target is not None and lead.target >= was.units
    names, at = [], lead.target
    while not names or "JUMP" not in names[-1]:
        names.append(now.steps[at].name)
        at = now.steps[at].end
    at += at < now.units and now.steps[at].name == "NOT_TAKEN"
    assert names == ["LOAD_CONST", *(["TO_BOOL"] if sys.version_info >= (3, 13) else []), "POP_JUMP_FORWARD_IF_TRUE" if sys.version_info < (3, 12) else "POP_JUMP_IF_TRUE"]
    assert now.steps[lead.target].arg == slot and now.code.co_consts[slot] == b""
    copy = slice(2 * at, 2 * (at + end - begin))
    assert now.code.co_code[copy] == was.code.co_code[2 * begin:2 * end]
    branch = next(step for step in now.steps.values() if step.begin >= lead.target and step.target is not None)
    assert branch.target == at + end - begin
    assert now.places[at:branch.target] == was.places[begin:end] and set(now.places[lead.target:at]) == {was.places[begin]}
    assert not any(now.handler[lead.target:branch.target])
    return branch.target


def judge_way_back(was: Parts, now: Parts, at: int, end: int, begins: set[int]) -> None:
    """From AT on, it goes on where it goes on from END: there, or (3.11) the rest of the line is copied, up to another line or statement."""
    line, to = was.places[end - 1][0], end
    while sys.version_info < (3, 12) and was.places[to][0] == line and to not in begins:
        if was.steps[to].name == "JUMP_FORWARD":
            to = was.steps[to].target or 0
            continue
        assert was.steps[to][2:] == now.steps[at][2:] and now.places[at] == was.places[to]
        if was.steps[to].name == "RETURN_VALUE":
            return
        to, at = was.steps[to].end, now.steps[at].end
    if now.steps[at].name == "JUMP_BACKWARD_NO_INTERRUPT":
        assert now.steps[at].target == to and now.places[at] == was.places[end - 1]
    else:
        assert to in begins and now.steps[to].target == at  # the block of the next one


def judge_handler(was: Parts, now: Parts, begin: int, end: int, depth: int, slot: int) -> int:
    """The load has a handler of its own, that goes on as it should. Where that begins."""
    assert len(set(now.handler[begin:end])) == 1 and now.handler[begin] is not None
    target, its_depth, lasti = now.handler[begin] or (0, 0, False)
    assert (its_depth, lasti) == (depth, True) and target >= was.units
    steps, at = [], target
    while not steps or steps[-1].name != "RERAISE":
        steps.append(now.steps[at])
        at = steps[-1].end
    load = [step[2:] for step in was.run(begin, end)] if sys.version_info[:2] == (3, 12) else []
    again = slice(len(steps) - 2 - len(load), len(steps) - 2)
    assert [step[2:] for step in steps[again]] == load
    del steps[again]
    shown = [(step.name, step.arg) for step in steps if step.name not in LEFT_OUT]
    compare = {(3, 11): 2, (3, 12): 40}.get(sys.version_info[:2], 88)
    branch = "POP_JUMP_FORWARD_IF_FALSE" if sys.version_info < (3, 12) else "POP_JUMP_IF_FALSE"
    names = ["COPY", "LOAD_CONST", "COMPARE_OP", branch, "POP_TOP", "POP_TOP", "JUMP_BACKWARD_NO_INTERRUPT", "RERAISE"]
    assert [name for name, _ in shown] == names and shown[:3] == [("COPY", 1), ("LOAD_CONST", slot), ("COMPARE_OP", compare)] and shown[-1][1] == 1
    by_name = {step.name: step for step in steps}
    assert by_name[branch].target == by_name["RERAISE"].begin and by_name["JUMP_BACKWARD_NO_INTERRUPT"].target == (end if load else begin)
    assert set(now.places[target:at]) == {was.places[end - 1]} and set(now.handler[target:at]) == {was.handler[begin]}
    return target


def judge_rest(was: Parts, now: Parts, changed: list[tuple[int, int]]) -> None:
    """All bytes outside of CHANGED, all places; and all is reached with the stack that it was reached with, which has the room that it needs."""
    at = 0
    for begin, end in [*changed, (was.units, was.units)]:
        assert was.code.co_code[2 * at:2 * begin] == now.code.co_code[2 * at:2 * begin]
        at = end
    assert was.places == now.places[:was.units]
    before, after = bytecode.depths(was.code), bytecode.depths(now.code)
    inside = {unit for begin, end in changed for unit in range(begin, end)}
    lost = [unit for unit in before if unit not in after and unit not in inside]
    assert sys.version_info < (3, 12) or not lost  # what is copied as the rest of a line, or followed
    assert {unit: depth for unit, depth in before.items() if unit not in inside and unit not in lost} == {unit: depth for unit, depth in after.items() if unit < was.units and unit not in inside}
    assert all(max(depth, depth + now.steps[unit].effect(False)) <= now.code.co_stacksize for unit, depth in after.items())


def judge_code(code: CodeType, made: CodeType, sites: list[tuple[int, int, int, bool]], statements: tuple[Any, ...], slots: list[int], pending: int) -> None:
    was, now = Parts(code), Parts(made)
    judge_attributes(code, made)
    judge_rest(was, now, [statement[:1] + statement[2:3] for statement in statements])
    ends = {}
    for statement, slot in zip(statements, slots, strict=True):
        ends[statement[2]] = judge_statement(was, now, statement[0], statement[2], slot)
    for end, at in ends.items():
        judge_way_back(was, now, at, end, {begin for begin, *_ in statements})
    covered = set()
    for begin, end, depth, sure in sites:
        if not sure:
            covered.update(range(begin, end))
            judge_handler(was, now, begin, end, depth, pending)
    assert all(was.handler[unit] == now.handler[unit] for unit in range(was.units) if unit not in covered)


def judge(code: CodeType, made: CodeType) -> int:
    """MADE is what it should be of CODE, a module's. How many loads have handlers."""
    names, statements, found = _native._lazy_plan(code) or (set(), (), [])
    sites = {id(inner): list(loads) for inner, loads in found}
    kind, form, described, tree = made.co_consts[-1]
    assert (kind, form, len(described)) == ("ladewerk.lazy", 1, len(statements))
    lines = list(code.co_positions())
    for (begin, _, _, level, module, binds, as_), (_, *rest) in zip(statements, described, strict=True):
        assert rest == [level, module, binds, as_, lines[begin][0]]
    todo = [(code, made, tree)]
    while todo:
        was, now, (pending, within) = todo.pop()
        own = statements if was is code else ()
        judge_code(was, now, sites.pop(id(was), []), own, [item[0] for item in described] if own else [], pending)
        todo += [(was.co_consts[i], now.co_consts[i], inner) for i, inner in within]
        same = set(range(len(was.co_consts))) - {i for i, _ in within}
        assert all(was.co_consts[i] is now.co_consts[i] for i in same)
    assert not sites
    return sum(len(loads) for _, loads in found)


def test_all_that_is_installed():
    """Structure, and what others read: marshal, Ladewerk's own reader, the canonical form."""
    modules = sites = 0
    for path in bytecode.installed():
        found = bytecode.compiled(path)
        made = _native._lazy_transform(found[1]) if found else None
        if not found or is_left(made):
            continue
        sites += judge(found[1], made)
        modules += 1
        stored = marshal.dumps(made)
        if marshal.loads(stored) == marshal.loads(stored):  # no NaN is in it
            assert marshal.loads(stored) == _native.unmarshal(stored) == marshal.loads(_native.canonical(stored)) == made, path
    print(modules, sites)
    assert modules > 20 and sites > 500


SMALL = """
    import a, b
    def f(x):
        try:
            return [x, a.b(x), b, a]
        except a.Error:
            with b:
                a
"""


def change(made: CodeType, what: str) -> CodeType:
    """MADE with a mistake in it."""
    raw, entries = bytearray(made.co_code), bytearray(made.co_exceptiontable)
    inner = next(i for i, constant in enumerate(made.co_consts) if isinstance(constant, CodeType))
    if what == "a byte":
        raw[2] ^= 1
    elif what == "a way back":
        raw[-1] += 1
    elif what == "a slot":
        raw[2 * next(bytecode.steps(made)).end + 1] += 0
        return made.replace(co_consts=(*made.co_consts[:-2], 0, made.co_consts[-1]))
    else:
        function = made.co_consts[inner]
        raw, entries = bytearray(function.co_code), bytearray(function.co_exceptiontable)
        if what == "an entry":
            entries[2] += 1
        elif what == "a place":
            function = function.replace(co_linetable=function.co_linetable[:-2] + bytes([function.co_linetable[-2] ^ 8, function.co_linetable[-1]]))
        elif what == "a stack":
            function = function.replace(co_stacksize=2)
        elif what == "a handler":
            raw[-1] += 1
        function = function.replace(co_code=bytes(raw), co_exceptiontable=bytes(entries))
        return made.replace(co_consts=(*made.co_consts[:inner], function, *made.co_consts[inner + 1:]))
    return made.replace(co_code=bytes(raw))


@pytest.mark.parametrize("what", ["a byte", "a way back", "a slot", "an entry", "a place", "a stack", "a handler"])
def test_control(what: str):
    """What judges would see it."""
    code, made = made_of(SMALL)
    judge(code, made)
    with pytest.raises((AssertionError, KeyError)):
        judge(code, change(made, what))


def test_large_modules():
    """Slots, jumps and places that take two bytes, and three."""
    for count in (300, 70_000) if LONG else (300, 12_000):
        many = "\n".join(f"x = {number}.5" for number in range(count))
        code, made = made_of(f"import a\n{many}\nimport b, c\ndef f():\n  return a, b\n{many}\nimport d\nd(c, 1); a")
        assert judge(code, made) > 3
        steps = list(bytecode.steps(made))
        assert max(step.arg for step in steps if step.name.startswith("JUMP")) > (1 << 16 if count > 300 else 1 << 8)
    names = ", ".join(f"a{number}" for number in range(400))
    judge(*made_of(f"from m import ({names})\na1, a399"))


def test_what_is_left_as_it_is():
    """It says that there is nothing, and is all else that it was. What is ready stays so."""
    for source in "x = 1", "import a", "def f():\n    import a\n    return a", "from a import *", "[x for x in y]":
        code = compile(source, "", "exec")
        made = _native._lazy_transform(code)
        assert made.co_consts == (*code.co_consts, NOTHING) and made.replace(co_consts=code.co_consts) == code.replace()
        assert _native._lazy_transform(made) is made
    _, made = made_of(SMALL)
    assert _native._lazy_transform(made) is made
    with pytest.raises(TypeError):
        _native._lazy_transform("import a")


def test_tables_that_make_no_sense():
    """Code that no compiler has made comes out as it went in, or as code; nothing crashes."""
    code, _ = made_of(SMALL)
    source = random.Random(12)
    for _ in range(3000):
        changes = {}
        for name in source.sample(["co_code", "co_exceptiontable", "co_linetable"], source.randrange(1, 3)):
            table = bytearray(getattr(code, name))
            for _ in range(source.randrange(1, 4)):
                at = source.randrange(len(table) or 1)
                if table:
                    table[at | 1 if name == "co_code" else at] = source.randrange(256)
            changes[name] = bytes(table) if name == "co_code" else bytes(table[:source.randrange(len(table) + 1)])
        assert isinstance(_native._lazy_transform(code.replace(**changes)), CodeType)


def test_replace_and_dis():
    code, made = made_of(SMALL)
    other = made.replace(co_name="other", co_firstlineno=made.co_firstlineno)
    assert other.co_consts == made.co_consts and other.co_code == made.co_code
    text = dis.Bytecode(made).dis()
    assert "JUMP_BACKWARD_NO_INTERRUPT" in text and "RERAISE" in dis.Bytecode(next(item for item in made.co_consts if isinstance(item, CodeType))).dis()
    assert {line for *_, line in made.co_lines()} == {line for *_, line in code.co_lines()}
    assert list(dis.findlinestarts(made))[:1] == list(dis.findlinestarts(code))[:1]


def test_references():
    """Nothing is kept, and nothing given away: blocks of memory, and references to what code shares."""
    code, _ = made_of(SMALL)
    watched = [code, code.co_names, code.co_consts, code.co_filename, code.co_consts[2], marshal]
    def rounds(count: int) -> tuple[int, list[int]]:
        for _ in range(count):
            _native._lazy_transform(code)
        gc.collect()
        return sys.getallocatedblocks(), [sys.getrefcount(item) for item in watched]
    rounds(100)
    blocks, references = rounds(100)
    more_blocks, more_references = rounds(1000)
    assert more_references == references and more_blocks - blocks < 200


# --- by what it does, unarmed ---

PROGRAMS = {
    "lines": """
        import json
        import re, math
        x = 1
        json, re, math
    """,
    "on one line": """
        import json; import re; x = json
        re
    """,
    "one of two waits": """
        import json, typing
        import json as j, abc, re as r, struct as s; x = 1
        from os import path; from json import *
        json, j, r, s, path
    """,
    "calls in a line": """
        import json, math, re
        def f(): return json
        def g(x): return x
        [f(), g(math), re, g(g(re)), math]
        class C:
            def __getitem__(self, x): return f()
            @property
            def p(self): return g(1)
        c = C(); [c[1], math, c.p, re, json]
    """,
    "the last is an import": """
        x = [1]
        import json, re
        def f(): return json, re
        if x: import math
        math
    """,
    "ends with imports": """
        def f(): return json, re
        x = f
        import json, re
    """,
    "branches": """
        import json
        if json:
            import re
        else:
            import math as m
        if not json: import math
        elif re: import abc
        x = re; math, abc
    """,
    "errors": """
        from os import (
            path,
            getpid,
        )
        path, getpid
        def f():
            return (1, nothing +
                2)
        try:
            f()
        except NameError:
            x = 1
        def g():
            with open("/dev/null") as a:
                path; nothing
        try: g()
        except NameError: pass
        class C:
            try:
                a = path
                b = nothing
            except NameError: c = 2
            finally: d = 3
        for i in range(2): getpid
        f()
    """,
    "an import that fails": """
        import json
        def f(): return nowhere, json
        from json import (
            loads, nothing_of_it)
        nothing_of_it, loads
    """,
    "a module that is not there": """
        import json
        import xml.nowhere.at_all as nowhere
        nowhere
    """,
    "generators": """
        import math, json
        def g():
            for i in range(3):
                x = yield math.sqrt(i), json
        async def a():
            async for i in b(): yield json
        list(g())
        [math for i in (1, 2) if json]
        class C:
            x = [math for i in (1, 2)]
            y = [(i, lambda: i) for i in (1, 2)]
            z = sorted(locals())
        names = [sorted(locals()) for i in (1, 2)]
        more = sorted(globals())
    """,
    "dotted": """
        import json as j
        import xml.dom as d
        import xml.dom.minidom
        def f():
            j; d
            return xml
        f()
        import re
        def h(): re
    """,
}

#: With a handler at each load of a name that is not there at all.
MISSING = {
    "in a function": """
        def f(x):
            return [x,
                nothing.x]
        f(1)
    """,
    "in with": """
        import io
        with io.StringIO() as f:
            try:
                nothing
            finally:
                x = 1
    """,
    "in a handler": """
        try:
            1 / 0
        except ZeroDivisionError:
            nothing
    """,
    "in a class": """
        class C:
            def f(self): nothing
            x = nothing
    """,
    "in a generator": """
        def g(x):
            try:
                yield 1
                yield from [nothing]
            except NameError:
                yield 2
            yield nothing
        x = [*g(1)]
    """,
    "not caught": """
        try:
            nothing
        except nothing:
            pass
    """,
}
MISSING = {f"missing {name}": "if __name__ == 'other': import nothing\n" + textwrap.dedent(text) for name, text in MISSING.items()}
ALL = {**{name: textwrap.dedent(text) for name, text in PROGRAMS.items()}, **MISSING}


class Events:
    """What a program tells tracers: of lines and calls, and what it leaves."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def settrace(self, code: CodeType) -> None:
        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code.co_filename != "module.py":
                return None
            shown = (argument[0], str(argument[1])) if event == "exception" else None
            self.events.append((frame.f_code.co_name, event, frame.f_lineno, shown))
            return trace
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            self.execute(code)
        finally:
            sys.settrace(before)

    def setprofile(self, code: CodeType) -> None:
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument: self.events.append((frame.f_code.co_name, event)) if frame.f_code.co_filename == "module.py" else None)
        try:
            self.execute(code)
        finally:
            sys.setprofile(before)

    def monitoring(self, code: CodeType, within: tuple[str, ...] = (), anywhere: tuple[str, ...] = ()) -> None:
        """Events of CODE and what is in it, and events that can only be had of all code."""
        monitoring = sys.monitoring
        within = within or ("LINE", "PY_START", "PY_RETURN", "PY_YIELD", "PY_RESUME", "CALL")
        anywhere = anywhere or ("PY_UNWIND", "RAISE")
        kinds = (*within, *anywhere)
        def note(kind: str) -> Callable[..., None]:
            return lambda code, *rest: self.events.append((code.co_name, kind, rest[0] if kind == "LINE" else None)) if code.co_filename == "module.py" else None
        tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
        monitoring.use_tool_id(tool, "test")
        for kind in kinds:
            monitoring.register_callback(tool, getattr(monitoring.events, kind), note(kind))
        for inner in bytecode.within(code):
            monitoring.set_local_events(tool, inner, sum(getattr(monitoring.events, kind) for kind in within))
        monitoring.set_events(tool, sum(getattr(monitoring.events, kind) for kind in anywhere))
        try:
            self.execute(code)
        finally:
            monitoring.set_events(tool, 0)
            for kind in kinds:
                monitoring.register_callback(tool, getattr(monitoring.events, kind), None)
            monitoring.free_tool_id(tool)

    def nothing(self, code: CodeType) -> None:
        self.execute(code)

    def execute(self, code: CodeType) -> None:
        namespace: dict[str, Any] = {"__name__": "module"}
        try:
            exec(code, namespace)
        except Exception as error:
            self.events.append("".join(traceback.format_exception(error)).partition("exec(code, namespace)")[2])
            self.events.append([(frame.f_lineno, line) for frame, line in traceback.walk_tb(error.__traceback__)][1:])
        self.events.append({name: type(value).__name__ if hasattr(value, "__dict__") else repr(value) for name, value in namespace.items() if name != "__builtins__"})


TRACERS = ["nothing", "settrace", "setprofile"] + (["monitoring"] if sys.version_info >= (3, 12) else [])


@pytest.mark.parametrize("tracer", TRACERS)
def test_unarmed(tracer: str):
    """Namespaces, tracebacks, and what tracers are told."""
    for name, source in ALL.items():
        told = []
        code = compile(source, "module.py", "exec", dont_inherit=True)
        made = _native._lazy_transform(code)
        left = name == "on one line" and sys.version_info < (3, 12)
        assert is_left(made) == left, name
        for each in code, made:
            events = Events()
            getattr(events, tracer)(each)
            told.append(events.events)
        assert told[0] == told[1], name
        assert len(told[0]) > (1 if tracer == "nothing" else 3) or "Error" not in source


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_what_monitoring_sees_more():
    """Of an exception that no name waits for; the rest is the same. And jumps, at statements."""
    left = {"PY_UNWIND", "RAISE", "RERAISE", "EXCEPTION_HANDLED"}
    for name, source in ALL.items():
        told = []
        code = compile(source, "module.py", "exec", dont_inherit=True)
        for each in code, _native._lazy_transform(code):
            events = Events()
            events.monitoring(each, ("JUMP",), tuple(left))
            told.append([event[1] for event in events.events if isinstance(event, tuple)])
        stock, lazy = map(collections.Counter, told)
        more = lazy - stock
        assert not stock - lazy and set(more) <= {"JUMP", "RERAISE", "EXCEPTION_HANDLED"} and more["RERAISE"] == more["EXCEPTION_HANDLED"] <= lazy["RAISE"], name
        assert more["RERAISE"] or name not in MISSING, (name, more)


JUMPS = """
import json
x = 1
import re, math
if x:
    from os import path
y = [json, re]
for i in (1, 2):
    z = math
try:
    json.nothing
except AttributeError:
    try:
        path.nothing
    except AttributeError:
        for i in (1, 2):
            w = path
        with open("/dev/null"):
            w = [re, re.nothing]
    finally:
        math
def f():
    with open("/dev/null"):
        v = path
    try:
        v = json
    except path:
        re
    return v
f()
"""


def jump(code: CodeType, name: str, line: int, to: int) -> list[object]:
    """What comes of it when a debugger leads code NAME from LINE to another one."""
    seen: list[object] = []
    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != "module.py":
            return None
        seen.append((event, frame.f_lineno))
        if event == "line" and frame.f_lineno == line and frame.f_code.co_name == name and ("to", to) not in seen:
            seen.append(("to", to))
            try:
                frame.f_lineno = to
            except ValueError as error:
                seen.append(str(error))
        return trace
    namespace: dict[str, Any] = {"__name__": "module"}
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(code, namespace)
    except Exception as error:
        seen.append(repr(error))
    finally:
        sys.settrace(before)
    return [*seen, sorted(namespace)]


def test_jumps():
    """frame.f_lineno may be set to what it may be set to in the code of the compiler, and then the same happens."""
    code, made = made_of(JUMPS)
    count = JUMPS.count("\n")
    for name, lines in ("<module>", range(2, count + 1)), ("f", range(22, 29)):
        for line, to in itertools.product(lines, lines):
            assert jump(code, name, line, to) == jump(made, name, line, to), (name, line, to)


EXECUTE = """
import importlib.machinery, importlib.util, io, os, sys, types, warnings
from ladewerk import _native
is_mine, left_out = MINE, {"antigravity", "this", "idlelib", "tkinter", "turtle", "turtledemo", "lib2to3", "test", "ensurepip", "msilib", "__phello__", "__hello__", "site", "_pyrepl"}
packages = "asyncio concurrent.futures email email.mime json http logging xml.dom xml.etree multiprocessing unittest importlib urllib encodings".split()

def names():
    yield from sorted(set(sys.stdlib_module_names) - left_out)
    for package in packages:
        folder = os.path.join(os.path.dirname(os.__file__), *package.split("."))
        yield from sorted(f"{package}.{name[:-3]}" for name in os.listdir(folder) if name.endswith(".py") and not name.startswith("__"))

def execute(spec, code):
    module = importlib.util.module_from_spec(spec)
    try:
        exec(code, module.__dict__)
    except Exception as error:
        module.error = repr(error)
    return sorted((name, type(value).__name__) for name, value in vars(module).items())

def outcome(spec, code):  # in a process of its own: some change what is elsewhere
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, repr(execute(spec, code)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = file.read()
    os.wait()
    return found

def look(name):
    spec = importlib.util.find_spec(name)
    if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:  # setuptools answers for distutils
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = spec.loader.get_code(name)
        stock, lazy = outcome(spec, code), outcome(spec, _native._lazy_transform(code))
    assert stock and stock == lazy, (name, stock, lazy)
    return 1

print(sum(look(name) for name in names() if is_mine(name) and (ALL or len(name) % 2)), flush=True)
os._exit(0)
"""


def test_execution():
    """Modules of the standard library, executed in both ways, have the same in them."""
    done = subprocess.run([sys.executable, "-c", EXECUTE.replace("MINE", IS_MINE).replace("ALL", str(LONG))], env=environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > 20


def test_armed(lazily):
    """Objects of ours in code: whoever reads, copies or stores it gets code that works."""
    lazily({"m.py": "import json, re\ndef f(x): return json.dumps(re.sub('a', 'b', x))\ndef g(): import json; return json"}, """
        import marshal, types
        import m
        code = m.f.__code__
        assert not {"json", "re"} & bound("m")
        assert hash(code) == hash(code) and code == code.replace() and code in {code.replace()} and repr(code.co_consts)
        for stored in marshal.dumps(code), marshal.dumps(code.replace(co_name="other")):
            plain = marshal.loads(stored)
            assert all(isinstance(constant, (str, bytes, type(None))) for constant in plain.co_consts)
            try:
                types.FunctionType(plain, {})("a")
            except NameError as error:
                assert error.name == "json"
            else:
                assert False
            import json, re
            assert types.FunctionType(plain, {"json": json, "re": re})("a") == '"b"'
        assert not {"json", "re"} & bound("m")
        assert types.FunctionType(code.replace(co_name="other"), m.f.__globals__)("a") == '"b"' and {"json", "re"} <= bound("m")
    """)
