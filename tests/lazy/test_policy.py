# SPDX-License-Identifier: MIT
"""Modes and rules: which imports may wait."""
from __future__ import annotations

import random

import pytest

from ladewerk._native import _lazy_ask

ROOTS = ("/home/me/shop/", "/srv")


def may_wait(mode: str, rules: str, importer: str, target: str, name: str | None = None, file: str = "/usr/lib/python3.11/x.py") -> bool:
    return _lazy_ask(mode, rules, ROOTS, ((importer, file, target, name),))[0][0]


@pytest.mark.parametrize("mode, own, across, within, within_own", [
    ("0", False, False, False, False),
    ("default", True, True, False, False),
    ("1", True, True, False, False),
    ("", True, True, False, False),
    ("own", True, True, False, True),
    ("all", True, True, True, True),
])
def test_modes(mode, own, across, within, within_own):
    mine = "/home/me/shop/src/shop/cart.py"
    assert may_wait(mode, "", "shop.cart", "json", file=mine) is own
    assert may_wait(mode, "", "flask.app", "json") is across
    assert may_wait(mode, "", "flask.app", "flask.cli", "main") is within
    assert may_wait(mode, "", "flask", "flask") is within
    assert may_wait(mode, "", "flask", "flask_login") is across
    assert may_wait(mode, "", "shop.cart", "shop", "money", file=mine) is within_own


@pytest.mark.parametrize("mode", ["default ", "yes", "ALL", "2"])
def test_no_other_modes(mode):
    with pytest.raises(ValueError, match="there is no mode"):
        may_wait(mode, "", "a", "b")


@pytest.mark.parametrize("file, own", [
    ("/home/me/shop/app.py", True),
    ("/home/me/shop/src/shop/__init__.py", True),
    ("/home/me/shopping/app.py", False),
    ("/home/me/shop", False),
    ("/srv/x/y.py", True),
    ("/srv/venv/lib/python3.12/site-packages/flask/app.py", False),
    ("/srv/python/lib/python3.13t/json/decoder.py", False),
    ("/srv/python3.app/json.py", True),
    ("/srv/lib/python3/dist-packages/yaml.py", False),
    ("srv/x.py", False),
    ("", False),
])
def test_the_users_own(file, own):
    assert _lazy_ask("own", "", ROOTS, (("m", file, "json", None),))[0][2] is own
    assert _lazy_ask("own", "", ("/",), (("m", "/app/x.py", "json", None),))[0][2]
    assert not _lazy_ask("own", "", (), (("m", "/app/x.py", "json", None),))[0][2]


RULES = """
# a comment
eager numpy            # and all below it
eager in django.db
eager of yaml.reader\r
\teager with numba
lazy in numpy.testing
eager of café.bar
"""


@pytest.mark.parametrize("importer, target, name, expected", [
    ("app", "numpy", None, False),
    ("app", "numpy.linalg", None, False),
    ("app", "numpyro", None, True),
    ("numpy.core", "os", None, False),
    ("numpy.testing", "os", None, True),
    ("numpy.testing.private", "os", None, True),
    ("numpy.testing", "numpy", None, False),  # whoever is imported has a say as well
    ("django.db.models", "json", None, False),
    ("django.dbs", "json", None, True),
    ("app", "django.db", None, True),
    ("app", "yaml", None, True),
    ("app", "yaml.reader", None, False),
    ("app", "yaml", "reader", False),  # from yaml import reader
    ("app", "yaml", "load", True),
    ("yaml.reader", "codecs", None, True),
    ("app", "numba", None, True),  # `with` says nothing of the import itself
    ("app", "caf\u00e9", "bar", False),
    ("app", "x" * 600, "y", False),  # longer than any name that a rule is looked up for
])
def test_rules(importer, target, name, expected):
    assert may_wait("all", RULES, importer, target, name) is expected


def test_importers_that_are_wholly_eager():
    [(_, never, _, _)] = _lazy_ask("all", RULES, (), (("django.db.x", "", "os", None),))
    assert never
    asked = _lazy_ask("all", RULES + "lazy with numba.core", (), tuple(("m", "", name, None) for name in ("numba", "numba.core.types", "numba.x", "num")))
    assert [taints for *_, taints in asked] == [True, False, True, False]
    asked = _lazy_ask("all", "eager with a.b", (), (("m", "", "a", "b"), ("m", "", "a", "c"), ("m", "", "a.b", "c")))
    assert [taints for *_, taints in asked] == [True, False, True]


def test_later_lines_win():
    assert may_wait("all", "eager a\nlazy a", "m", "a.b")
    assert not may_wait("all", "lazy a\neager a", "m", "a.b")
    assert may_wait("all", "eager a.b\nlazy a", "m", "a.b")  # not the longer name
    assert not may_wait("all", "eager a\nlazy in a\nlazy with a", "m", "a")


def test_every_name():
    only_shop = "eager in *\nlazy in shop"
    assert may_wait("default", only_shop, "shop.cart", "json")
    assert not may_wait("default", only_shop, "flask.app", "json")
    assert may_wait("all", "eager a\nlazy *", "m", "a")


def test_rules_take_away_only():
    assert not may_wait("default", "lazy flask", "flask.app", "flask.cli")
    assert not may_wait("0", "lazy *", "a", "b")


@pytest.mark.parametrize("line, complaint", [
    ("lazily numpy", "begins with `eager` or `lazy`"),
    ("eager", "name of a module is missing"),
    ("eager in", "name of a module is missing"),
    ("eager in # of", "name of a module is missing"),
    ("eager numpy scipy", "more than one name"),
    ("eager in of numpy", "more than one name"),
    ("eager numpy.", "no name of a module"),
    ("eager .numpy", "no name of a module"),
    ("eager a..b", "no name of a module"),
    ("eager a.2b", "no name of a module"),
    ("eager a-b", "no name of a module"),
    ("eager a.*", "no name of a module"),
])
def test_rules_that_make_no_sense(line, complaint):
    with pytest.raises(ValueError) as caught:
        may_wait("all", f"eager fine\n{line}\neager fine", "a", "b")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith('line 2 of the rules, "' + line)


# --- against a model ----------------------------------------------------------------------------------------------------

PARTS = ["a", "b", "ab", "_", "c1"]


def below(name: str, rule: str) -> bool:
    return rule == "*" or name == rule or name.startswith(rule + ".")


def says_eager(rules: list[tuple[bool, str, str]], kind: str, name: str) -> bool:
    verdict = False
    for eager, of, rule in rules:
        if of in (kind, "") and not (of == "" and kind == "with") and below(name, rule):
            verdict = eager
    return verdict


def test_random_rules_against_a_model():
    dice = random.Random(11)

    def name() -> str:
        return ".".join(dice.choices(PARTS, k=dice.randint(1, 3)))

    for _ in range(400):
        rules = [(dice.random() < 0.6, dice.choice(["", "in", "of", "with"]), dice.choice([name(), name(), name(), "*"])) for _ in range(dice.randint(0, 12))]
        text = "\n".join(f"{'eager' if eager else 'lazy'} {of} {rule}" for eager, of, rule in rules)
        mode = dice.choice(["default", "own", "all"])
        questions = tuple((name(), dice.choice(["/srv/x.py", "/else.py"]), name(), dice.choice([None, name().partition(".")[0]])) for _ in range(20))
        for (importer, file, target, attribute), found in zip(questions, _lazy_ask(mode, text, ROOTS, questions)):
            never = says_eager(rules, "in", importer)
            own = file == "/srv/x.py"
            allowed = mode == "all" or (mode == "own" and own) or importer.partition(".")[0] != target.partition(".")[0]
            module = f"{target}.{attribute}" if attribute else target
            wait = allowed and not never and not says_eager(rules, "of", module)
            assert found == (wait, never, own, says_eager(rules, "with", module)), (text, importer, target, attribute)
