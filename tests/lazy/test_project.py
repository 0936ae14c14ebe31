# SPDX-License-Identifier: MIT
"""[tool.ladewerk.lazy] of pyproject.toml: read as tomllib reads it."""
from __future__ import annotations

import random
import tomllib

import pytest

from ladewerk._native import _lazy_project

TABLE = "[tool.ladewerk.lazy]\n"


def by_tomllib(text: str) -> tuple[bool, str | None, str]:
    """What it should make of TEXT."""
    table = tomllib.loads(text).get("tool", {}).get("ladewerk", {}).get("lazy")
    if table is None:
        return False, None, ""
    lines = [f"eager {name}\n" for name in table.get("exclude", ())] + [f"lazy {name}\n" for name in table.get("include", ())]
    return True, table.get("mode"), "".join(lines)


FORMS = {
    "nothing": "",
    "no end of line": "# ladewerk",
    "another table": "[tool.ladewerk]\nquick = true\n[tool.other.lazy]\nmode = 'x'\n[lazy]\nmode = 3",
    "all": TABLE + 'mode = "own"\nexclude = ["pkg", "in pkg", "of pkg.mod", "with numba"]\ninclude = ["of pkg.mod.other"]\n',
    "included first": TABLE + 'include = ["a"]\nexclude = ["a.b", \'in c\']',
    "an empty table": TABLE,
    "a table above": "[tool.ladewerk]\nlazy.mode = 'all'\nlazy.exclude = ['a']\n",
    "from the top": "tool.ladewerk.lazy.mode = 'all'\n[tool.ladewerk.other]\nmode = 1",
    "inline": "[tool]\nladewerk = { lazy = { mode = 'all', exclude = [ 'a' , 'b' ] }, other.mode = 3 }\n",
    "inline and dotted": "tool = { ladewerk.lazy.mode = 'all', x = [{ mode = 1 }] }",
    "quoted keys": "[ tool . \"ladewerk\" . 'lazy' ]\n\"mode\" = 'own'\n'exclude' = [\"\"\"a\"\"\", '''in b''']",
    "escaped keys": '["\\u0074ool".ladewerk.lazy]\nmode = "o\\u0077n"\nexclude = ["\\U00000061", "caf\\u00e9", "caf\u00e9.\u5409"]',
    "over lines": TABLE + 'exclude = [ # why\n  "a", # ] "no\n\n\t"b"\n  , "c",\n]\r\nmode = "default" # "all"\r\n',
    "another order": "[tool.ladewerk.lazy.x]\n".replace(".x", "") + "mode='0'\n[project]\nname = 'a'\n[[tool.x]]\nmode = 1\n[tool.y.lazy]\nexclude = 3",
    "in a string": '[project]\ntext = """\n[tool.ladewerk.lazy]\nmode = "all"\n"""\nmore = \'\'\'[tool.ladewerk.lazy]\n\\\'\'\'\n',
    "long strings": 'a = """x\\\n   \n  y ""quoted"" \\""" ladewerk"""""\nb = \'\'\'\'\'x\'\'\'\'\'\n' + TABLE + "mode = '''\nall'''",
    "values": "a = 1_000\nb = 0x1f\nc = 1979-05-27 07:32:00-08:00 # x\nd = [1, [2, 'x', {e = 1.5e3, f = inf}], \n]\ng = true\nh = {}\ni = []\nj = nan\n" + TABLE + "mode = 'own'",
    "names alike": "[tool.ladewerk.lazy2]\nmode = 1\n[tool.ladewerk-lazy]\nmode = 2\n[tools.ladewerk.lazy]\nmode = 3\n[x.tool.ladewerk.lazy]\nmode = 4",
    "an array of others": "[[tool.x]]\nladewerk.lazy = 3\n[[a]]\n[[a.b]]\nmode = 1\n",
    "a dotted table below": "[tool]\nladewerk.lazy = { include = ['a', 'b',\n] }".replace(",\n]", "]"),
    "empty lists": TABLE + "exclude = []\ninclude = [ # none\n]",
    "strings in arrays in the table above": "[tool.ladewerk]\nexclude = ['x']\nlazy = {exclude = ['y']}\ninclude = 4",
}


@pytest.mark.once
@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    assert _lazy_project(FORMS[form]) == by_tomllib(FORMS[form])


@pytest.mark.once
@pytest.mark.parametrize("text, line, complaint", [
    (TABLE + "mode = 'some'", 2, "mode is default, own, all or 0"),
    (TABLE + "mode = '1'", 2, "mode is"),
    (TABLE + "mode = ''", 2, "mode is"),
    (TABLE + "mode = true", 2, "mode is"),
    (TABLE + "mode = ['all']", 2, "mode is"),
    (TABLE + "mode = {a = 1}", 2, "mode is"),
    (TABLE + "mode = 'all\\u0000'", 2, "mode is"),
    (TABLE + "exclude = 'a'", 2, "arrays of strings"),
    (TABLE + "exclude = 3", 2, "arrays of strings"),
    (TABLE + "exclude = {}", 2, "arrays of strings"),
    (TABLE + "\nexclude = ['a',\n3]", 4, "arrays of strings"),
    (TABLE + "exclude = [['a']]", 2, "arrays of strings"),
    (TABLE + "exclude = ['a b']", 2, "more than one name"),
    (TABLE + "exclude = ['']", 2, "name of a module is missing"),
    (TABLE + "exclude = ['in']", 2, "name of a module is missing"),
    (TABLE + "exclude = ['a\\nb']", 2, "no name of a module"),
    (TABLE + 'exclude = ["a\\neager b"]', 2, "no name of a module"),
    (TABLE + "exclude = ['a#b']", 2, "no name of a module"),
    (TABLE + 'exclude = ["a\\u0000"]', 2, "no name of a module"),
    (TABLE + "include = ['a-b']", 2, "no name of a module"),
    (TABLE + "exclude = ['a']\nexclude = ['b']", 3, "set already"),
    (TABLE + "excludes = ['a']", 2, "no such setting"),
    (TABLE + "mode.x = 'a'", 2, "no such setting"),
    ("[tool.ladewerk.lazy.mode]", 1, "is a table"),
    ("[[tool.ladewerk.lazy]]", 1, "is a table"),
    ("[tool.ladewerk]\nlazy = true", 2, "is a table"),
    ("[tool.ladewerk]\nlazy = ['a']", 2, "is a table"),
    (TABLE + "mode = 'all' 'own'", 2, "no TOML"),
    (TABLE + "mode 'all'", 2, "no TOML"),
    (TABLE + "mode = 'all", 2, "no TOML"),
    (TABLE + "mode = \"\\q\"", 2, "no TOML"),
    (TABLE + "mode = \"\\ud800\"", 2, "no TOML"),
    (TABLE + "mode =", 2, "mode is"),
    ("a =", 1, "no TOML"),
    (TABLE + "exclude = ['a' 'b']", 2, "no TOML"),
    (TABLE + "exclude = ['a'", 2, "no TOML"),
    ("[tool.ladewerk.lazy", 1, "no TOML"),
    ("[tool.ladewerk.lazy] mode = 'all'", 1, "no TOML"),
    ("a = '''x", 1, "no TOML"),
    ("a = " + "[" * 200, 1, "nested too deep"),
    ("a = " + "{b=" * 200, 1, "nested too deep"),
])
def test_what_is_wrong(text, line, complaint):
    with pytest.raises(ValueError) as caught:
        _lazy_project(text)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"line {line}: ")


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.once
def test_what_is_no_utf8():
    """Of bytes that are none, and of those that are nearly some, what Python's decoder refuses is refused; with the line."""
    dice, refused = random.Random(5), 0
    parts = [bytes([byte]) for byte in (0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff)]
    parts += ["\u00e9".encode(), "\u20ac".encode(), "\ud7ff".encode(), "\ue000".encode(), "\U0001f600".encode(), "\U0010ffff".encode()]
    for _ in range(5_000):
        some = b"".join(dice.choices(parts, k=dice.randrange(4)))
        if is_utf8(some):
            assert _lazy_project(b"# " + some + b"\n" + TABLE.encode())[0]
            continue
        refused += 1
        with pytest.raises(ValueError, match="^line 2: this is not UTF-8; save the file in that encoding$"):
            _lazy_project(b"\n# " + some + b"\n" + TABLE.encode())
    assert 1000 < refused < 4900


# --- documents made at random -------------------------------------------------------------------------------------------


def a_string(dice: random.Random, text: str) -> str:
    if dice.random() < 0.2:
        return '"' + "".join(f"\\u{ord(c):04x}" if dice.random() < 0.3 else c for c in text) + '"'
    quote = dice.choice(['"', "'", '"""', "'''", '"""\n'])
    return quote + text + quote.strip()


def a_value(dice: random.Random, depth: int = 0) -> str:
    kind = dice.randrange(6 if depth < 3 else 4)
    if kind < 2:
        return dice.choice(["1", "-2.5e7", "0xFF", "true", "1979-05-27T07:32:00Z", "07:32:00", "nan", "1_0"])
    if kind < 4:
        return a_string(dice, dice.choice(["", "x", "[tool.ladewerk.lazy]", "# no", "a = b", "{", "]"]))
    if kind == 4:
        space = dice.choice(["", " ", "\n", " # ]}\n"])
        return "[" + space + ("," + space).join(a_value(dice, depth + 1) for _ in range(dice.randrange(3))) + space + "]"
    names = dice.sample(["mode", "exclude", "tool", "ladewerk", "lazy", "x"], dice.randrange(3))
    return "{" + ", ".join(f"{name} = {dice.randrange(9)}" for name in names) + "}"


def some_settings(dice: random.Random) -> list[str]:
    settings = []
    if dice.random() < 0.7:
        settings.append("mode = " + a_string(dice, dice.choice(["default", "own", "all", "0"])))
    for name in "exclude", "include":
        if dice.random() < 0.7:
            space = dice.choice(["", " ", "\n\t", " # '\n"])
            items = [a_string(dice, dice.choice(["a", "in a.b", "of \u00e9t\u00e9", "with c_1", "*"])) for _ in range(dice.randrange(4))]
            settings.append(f"{name} = [" + space + ("," + space).join(items) + space + "]")
    dice.shuffle(settings)
    return settings


def a_document(dice: random.Random) -> str:
    """In one of the forms that the table may have, among others."""
    top = [f"x{i} = {a_value(dice)}" for i in range(dice.randrange(4))]
    tables = []
    for i in range(dice.randrange(4)):
        tables.append(dice.choice([f"[t{i}]", f"[tool.t{i}]", f"[[tool.u{i}]]", f"[tool.ladewerk.t{i}]", f"[ tool . 'lazy' . t{i} ]"]))
        tables += [f"{key} = {a_value(dice)}" for key in dice.sample(["mode", "exclude", "include", "lazy", "'tool.ladewerk.lazy'"], dice.randrange(4))]
    settings = some_settings(dice)
    forms = [
        [*top, *tables, "[tool.ladewerk.lazy]", *settings],
        [*top, "[tool.ladewerk.lazy]", *settings, *tables],
        [*top, *tables, "[tool.ladewerk]", *(f"lazy . {setting}  # x" for setting in settings)],
        [*top, *(f"tool.ladewerk.'lazy'.{setting}" for setting in settings), "[other]", *top],
        [*top, *tables, "[tool.ladewerk]", "lazy = {" + ", ".join(settings) + "}"],
    ]
    return dice.choice(["\n", "\r\n", "\n\n"]).join(dice.choice(forms)) + dice.choice(["", "\n", " # end"])


@pytest.mark.once
def test_random_documents():
    read = 0
    for seed in range(3000):
        text = a_document(random.Random(seed))
        try:
            expected = by_tomllib(text)
        except tomllib.TOMLDecodeError:
            continue
        read += expected[0]
        assert _lazy_project(text) == expected, text
    assert read > 1500


TOKENS = [TABLE, "[", "]", "{", "}", "=", '"', "'", '"""', "'''", "\n", "\\", "\\u00e9", "\\x41", "exclude", "include", "mode", "tool", "ladewerk", "lazy", ".", ",", " ", "#",
          "a", "'a'", '"of b.c"', "exclude = [", "mode = 'all'\n", "\r\n", "\u00e9", "1", "[[", "]]"]


def taken(text: str) -> tuple[bool, str | None, str] | None:
    try:
        return _lazy_project(text)
    except ValueError:
        return None


@pytest.mark.once
def test_documents_that_make_no_sense():
    """What tomllib refuses may be refused or not; what it accepts is read as it reads it, unless it is none of the three settings."""
    dice, both = random.Random(11), 0
    for _ in range(30_000):
        text = "".join(dice.choices(TOKENS, k=dice.randint(1, 25)))
        found = taken(text)
        try:
            expected = by_tomllib(text)
        except (tomllib.TOMLDecodeError, AttributeError, TypeError):
            continue
        both += found is not None
        assert found in (None, expected), text
    assert both > 100
