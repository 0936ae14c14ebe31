# SPDX-License-Identifier: MIT
"""Packages made of a string of bytes, each byte a choice: what imports can look like, as far as what comes of them does not depend on the order in which they happen.

Modules are in an order. What a module needs while it is executed is below it; what is above it (circles) is needed by its functions only. A module reads attributes of
others that it has asked for itself: who relies on the imports of others relies on their order. For the same reason modules of different packages have different names.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


class Choices:
    """One after the other; zeros when there are no more."""

    def __init__(self, data: bytes):
        self._left = iter(data)

    def below(self, limit: int) -> int:
        return next(self._left, 0) % limit

    def of(self, items: list[Item]) -> Item:
        return items[self.below(len(items))]

    def chance(self, percent: int) -> bool:
        return self.below(100) >= 100 - percent


@dataclass(eq=False)
class Module:
    name: str
    is_package: bool
    lines: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # which it binds, for others to take
    wanted: bool = False  # somebody imports it
    hidden: bool = False  # its package has something else under its name

    @property
    def parent(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.parent

    @property
    def file(self) -> str:
        return self.name.replace(".", "/") + ("/__init__.py" if self.is_package else ".py")

    def bind(self, names: Iterable[str]) -> None:
        self.names += [name for name in names if name not in self.names]


@dataclass
class Statement:
    """One that imports; what it binds, and what can be read then."""

    text: str
    binds: list[str]
    reads: list[str]


#: Every module binds these, and they are of the same kind in every module.
COMMON = ["v", "f", "K"]


class Program:
    """Modules, those that a main program imports, and what it looks at then. The same DATA gives the same choices, whatever else is wanted:

    FLAT: what is above is imported in functions, so that there are no circles.
    FAULT: one module fails.
    GUARDED: as if an import could not bind what is bound already.
    """

    def __init__(self, data: bytes, *, flat: bool = False, fault: bool = False, guarded: bool = False):
        self._choices, self._flat, self._fault, self._guarded, self._count = Choices(data), flat, fault, guarded, 0
        self._after = ""  # what is to stand behind a statement: it hides the submodule that the statement imports
        self.circles = self._choices.chance(40) and not fault
        self.modules = self._layout()
        for number, module in enumerate(self.modules):
            self._fill(module, self.modules[:number], self.modules[number + 1:])
        if fault:
            self._break(self.modules)
        self.roots = [module.name for module in self.modules if self._choices.chance(40)] or [self.modules[-1].name]
        self.looks = [self._look() for _ in range(self._choices.below(6))]

    @property
    def files(self) -> dict[str, str]:
        return {module.file: "\n".join(module.lines) + "\n" for module in self.modules}

    @property
    def names(self) -> dict[str, list[str]]:
        return {module.name: module.names for module in self.modules}

    def _layout(self) -> list[Module]:
        modules = []
        for number in range(1 + self._choices.below(3)):
            top = f"p{number}"
            modules += [Module(f"{top}.m{number}{i}", False) for i in range(1 + self._choices.below(3))]
            if self._choices.chance(25):
                modules += [Module(f"{top}.q{number}.s{number}", False), Module(f"{top}.q{number}", True)]
            modules.append(Module(top, True))
        return modules

    # --- a module ---

    def _fill(self, module: Module, below: list[Module], above: list[Module]) -> None:
        choices = self._choices
        if choices.chance(15):
            module.lines.append("from __future__ import annotations")
        module.lines += [f"v = {len(below)}", "def f(x=v): return x + v", "class K: k = v"]
        module.bind(COMMON)
        for _ in range(choices.below(5)):
            self._count += 1
            number = self._count
            if above and self.circles and choices.chance(25):
                self._import_above(module, choices.of(above), number)
            elif below:
                self._import_below(module, choices.of(below), number)
        if choices.chance(15):
            module.lines.append(f"__all__ = {[name for name in module.names if choices.chance(60)]}")

    def _import_above(self, module: Module, target: Module, number: int) -> None:
        """In a form that waits, or in a function. Only v, which nothing binds again, may be taken while the module is not complete."""
        alias = f"up{number}"
        text, read = self._choices.of([(f"import {target.name} as {alias}", f"{alias}.v"), (f"from {target.name} import v as {alias}", alias)])
        if self._choices.chance(40) or self._flat:
            module.lines += [f"def see{number}():", f"    {text}", f"    return {read}"]
        else:
            module.lines += [text, f"def see{number}(): return {read}"]
        module.bind([f"see{number}"])

    def _import_below(self, module: Module, target: Module, number: int) -> None:
        statement = self._statement(module, target, number)
        target.wanted = True
        place = self._choices.of([self._plain] * 8 + [self._if, self._if_else, self._try, self._finally, self._for, self._while, self._with, self._function,
                                                      self._bound_before, self._bound_after, self._deleted, self._global])
        if "*" in statement.text or (self._fault and place == self._try):
            place = self._plain
        if place in (self._bound_before, self._bound_after, self._deleted, self._global) and (statement.binds[0] in COMMON or module.name + "." + statement.binds[0] == target.name):
            place = self._plain
        if self._after:
            place = self._plain
        place(module, statement, number)
        if self._after:
            module.lines.append(self._after)
            module.bind([target.name.rpartition(".")[2]])
            self._after = ""

    def _statement(self, module: Module, target: Module, number: int) -> Statement:
        choices, alias, dotted = self._choices, f"n{number}", target.name
        last = dotted.rpartition(".")[2]
        name = choices.of(target.names)
        beside = target.parent == module.package and not target.hidden
        forms = [
            Statement(f"from {dotted} import {name} as {alias}", [alias], [alias]),
            Statement(f"from {dotted} import v as {alias}, f as {alias}f, K as {alias}K", [alias, f"{alias}f", f"{alias}K"], [alias, f"{alias}f(3)", f"{alias}K().k"]),
            Statement(f"from {dotted} import f, K", ["f", "K"], ["f(4)", "K.k"]),
        ]
        if target.parent.count(".") and f"{module.name}.".startswith(f"{target.parent}."):
            pass  # its package is not in the package above before it is complete: no path leads through it
        elif target.hidden:
            forms += [Statement(f"import {dotted}", [dotted.partition(".")[0]], [dotted]), Statement(f"import {dotted} as {alias}", [alias], [alias])]
        else:
            forms += [Statement(f"import {dotted}", [dotted.partition(".")[0]], [f"{dotted}.v", f"{dotted}.f(2)"]),
                      Statement(f"import {dotted} as {alias}", [alias], [f"{alias}.v", f"{alias}.K.k"])]
        if target.parent:
            forms.append(Statement(f"from {target.parent} import {last} as {alias}", [alias], [alias]))
        if target.parent and not target.hidden:
            forms.append(Statement(f"from {target.parent} import {last}", [last], [f"{last}.v"]))
        if beside:
            forms += [Statement(f"from . import {last}", [last], [f"{last}.f(5)"]), Statement(f"from .{last} import {name} as {alias}", [alias], [alias])]
        if not target.is_package and not self.circles and not (module.is_package and any(name[0] in "mq" for name in target.names)):
            forms.append(Statement(f"from {dotted} import *", ["v"], ["v"]))
        form = choices.of(forms)
        if beside and module.is_package and not target.is_package and not target.wanted and not self.circles and choices.chance(25):
            target.hidden = True
            if choices.chance(50):
                self._after = f"def {last}(): return 'mine'"
                return Statement(f"from .{last} import {name} as {alias}", [alias], [alias])
            return Statement(f"from .{last} import f as {last}", [last], [f"{last}(6)"])
        return form

    def _look(self) -> tuple[str, str, str]:
        module = self._choices.of(self.modules)
        return self._choices.of(["getattr", "import", "call", "dir", "vars", "star", "eval"]), module.name, self._choices.of(module.names)

    def _break(self, modules: list[Module]) -> None:
        place = self._choices.below(len(modules))
        faults = ["raise ValueError('fault')", "1 / 0", "undefined", "import missing"]
        if place:
            faults.append(f"from {modules[place - 1].name} import missing")
        modules[place].lines.append(self._choices.of(faults))
        if modules[place].lines[-1].startswith("from"):
            modules[place].bind(["missing"])

    # --- uses ---

    def _use(self, module: Module, read: str) -> None:
        """Something that reads, now or later."""
        self._count += 1
        name = f"u{self._count}"
        module.lines += self._choices.of([
            [f"{name} = {read}"],
            [f"def {name}(): return {read}"],
            [f"def {name}(x=1):", "    def inner(): return " + read, "    return inner()"],
            [f"class {name}:", f"    x = {read}"],
            [f"class {name}:", f"    def x(self): return {read}", f"{name} = {name}().x"],
            [f"class {name}:", f"    x: {read}"],
            [f"{name} = [{read} for _ in (1, 2)]"],
            [f"class {name}:", f"    x = [{read} for _ in (1, 2)]"],
            [f"def {name}(): return list({read} for _ in (1, 2))"],
            [f"{name} = lambda: ({read}, 1)"],
            [f"def {name}(x: {read} = 2) -> {read}: return x"],
            [f"def {name}():", "    try:", f"        return [1, 2, {read}]", "    finally:", "        pass"],
            [f"def {name}():", "    for i in (1, 2):", f"        x = i, {read}", "    return x"],
            [f"def {name}(): return globals()['v'], {read}"],
            [f"def {name}(): return eval({read!r})"],
            ["try:", f"    {name} = {read}", "finally:", "    pass"],
            [f"{name} = 1 if v < 0 else {read}"],
            [f"def {name}(x=lambda: {read}): return x()"],
        ])
        module.bind([name])

    def _bound(self, module: Module, statement: Statement) -> None:
        module.bind(statement.binds)
        for read in statement.reads:
            if self._choices.chance(60):
                self._use(module, read)

    # --- where statements stand ---

    def _write(self, module: Module, text: str, *binds: str) -> None:
        guard = f"if not {{{', '.join(map(repr, binds))}}} <= globals().keys(): " if self._guarded and binds else ""
        module.lines.append(guard + text)

    def _plain(self, module: Module, statement: Statement, number: int) -> None:
        self._write(module, statement.text, *(() if "*" in statement.text else statement.binds))
        self._bound(module, statement)

    def _within(self, module: Module, statement: Statement, head: list[str], tail: list[str] | None = None) -> None:
        module.lines += [*head, "    " + statement.text, *(tail or [])]
        self._bound(module, statement)

    def _if(self, module: Module, statement: Statement, number: int) -> None:
        self._within(module, statement, ["if v >= 0:"])

    def _if_else(self, module: Module, statement: Statement, number: int) -> None:
        other = self._choices.of(["{0} = None", "import nowhere as {0}", "from nowhere import {0}"])
        self._within(module, statement, ["if v < 0:", *("    " + other.format(name) for name in statement.binds), "else:"])

    def _try(self, module: Module, statement: Statement, number: int) -> None:
        self._within(module, statement, ["try:"], ["except ImportError:", *(f"    {name} = None" for name in statement.binds)])

    def _finally(self, module: Module, statement: Statement, number: int) -> None:
        self._within(module, statement, ["try:", "    pass", "finally:"])

    def _for(self, module: Module, statement: Statement, number: int) -> None:
        self._within(module, statement, ["for _ in (1, 2):"], self._choices.of([["    break"], []]))

    def _while(self, module: Module, statement: Statement, number: int) -> None:
        self._within(module, statement, ["while True:"], ["    break"])

    def _with(self, module: Module, statement: Statement, number: int) -> None:
        self._within(module, statement, ["with open('/dev/null'):"])

    def _function(self, module: Module, statement: Statement, number: int) -> None:
        module.lines += [f"def in{number}():", "    " + statement.text, f"    return {statement.reads[0]}"]
        module.bind([f"in{number}"])

    def _bound_before(self, module: Module, statement: Statement, number: int) -> None:
        if statement.binds[-1] not in module.names:
            module.lines.append(f"{statement.binds[-1]} = 'before'")
        self._plain(module, statement, number)

    def _bound_after(self, module: Module, statement: Statement, number: int) -> None:
        self._plain(module, statement, number)
        after: Callable[[str], str] = self._choices.of(["{} = 'after'", "def {}(): return 'after'", "for {} in (1, 2): pass", "class {}: pass"]).format
        module.lines.append(after(statement.binds[0]))

    def _deleted(self, module: Module, statement: Statement, number: int) -> None:
        self._write(module, statement.text, *statement.binds)
        module.lines.append(f"del {statement.binds[0]}")
        module.names = [name for name in module.names if name != statement.binds[0]]

    def _global(self, module: Module, statement: Statement, number: int) -> None:
        """A function binds it: at once, or never."""
        self._plain(module, statement, number)
        module.lines += [f"def set{number}():", f"    global {statement.binds[0]}", f"    {statement.binds[0]} = 'set'"]
        module.lines.append(self._choices.of([f"set{number}()", f"del set{number}"]))
