# SPDX-License-Identifier: MIT
"""Greenlets import: many of them share a thread, and switch in the middle of module bodies.

Under gevent's monkey patches importlib's own thread identity is a greenlet's, so greenlets wait for each other as threads do. Bare greenlets do
not wait: to importlib they are one thread, and what they see of each other is what stock shows.
"""

import textwrap

import pytest

from harness import HERE, LONG, settle
from test_threads import Forest, was_a_storm

ROUNDS = 1000 if LONG else 6


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    pytest.importorskip("gevent", reason="there is no gevent for this interpreter")
    return Forest(tmp_path_factory.mktemp("forest"))


@pytest.mark.parametrize("freshness", ["stat", "frozen"])
def test_storm_of_greenlets(forest, freshness):
    for _ in range(2):
        settle()
        forest.storm(rounds=1)
    report = forest.storm(rounds=ROUNDS, green=True, env={"LADEWERK_FRESHNESS": freshness})
    was_a_storm(report, ROUNDS, runners=1)  # who switches seldom meets fewer
    assert report["stats"]["fast_path"] and report["stats"]["freshness"] == freshness
    assert report["stats"]["served"]["pack"] > 450 * ROUNDS
    assert report["stats"]["aside"]["initializing"] > ROUNDS
    forest.compare(report, rounds=ROUNDS, green=True)


@pytest.mark.parametrize("ladewerk", [False, True], ids=["stock", "ladewerk"])
def test_storm_of_greenlets_control(forest, ladewerk):
    """Control: greenlets that count as one thread see half modules."""
    assert "half of" in "\n".join(forest.storm(ladewerk, rounds=2, green=True, control="share_an_identity")["broken"])


GREENLETS = """
import gc, greenlet, importlib, sys
assert 'gevent' not in sys.modules
sys.path.append(HERE)
import storm
def load(name):
    try: return ['got', name, sorted(k for k in vars(importlib.import_module(name)) if k[0] != '_')]
    except BaseException as error: return [type(error).__name__, str(error)]
def start(name):
    g = greenlet.greenlet(load)
    return g, g.switch(name)
def show(*what): print(*what, [n for n in sys.modules if n[:3] in ('pkg', 'mod')], storm.locks_left())
def leave(): return greenlet.getcurrent().parent.switch('left')
sys.leave = leave
"""

MOVES = {
    "others import what is half done": """
        a, told = start('pkg.one'); show(told)
        print(load('pkg.one'), load('pkg'), load('pkg.two'))
        show(a.switch(), a.dead, load('pkg.one'))
    """,
    "first in, first out": """
        crowd = [start(f'mod{i}') for i in range(40)]; show([told for _, told in crowd])
        for a, _ in crowd: print(a.switch(), a.dead)
        show()
    """,
    "more than may nest": """
        crowd = [start(f'mod{i}') for i in range(200)]; show([told for _, told in crowd])
        for a, _ in reversed(crowd): print(a.switch(), a.dead)
        show(load('pkg.two'))
    """,
    "within each other": """
        def nest(n):
            a, told = start(f'mod{n}')
            return [told, a.switch()] if n > 30 else [told, greenlet.greenlet(nest).switch(n + 1), a.switch()]
        show(nest(0))
    """,
    "an exception is thrown in": """
        a, told = start('pkg.one'); show(told)
        print(a.throw(ValueError('thrown')), a.dead); show()
        print(start('pkg.one')[1], load('mod0'))
    """,
    "killed": """
        crowd = [start(name)[0] for name in ('pkg.one', 'mod1', 'mod2')]
        for a in crowd: print(a.throw(), a.dead)
        show()
    """,
    "forgotten": """
        a, told = start('pkg.one'); b, told = start('mod1'); show(told)
        del a; gc.collect(); show(); del b; gc.collect(); show(load('mod3'))
    """,
}


@pytest.mark.parametrize("move", MOVES)
def test_bare_greenlets(any_tree, move):
    """One thread to importlib, deterministic: as under stock."""
    pytest.importorskip("greenlet", reason="there is no greenlet for this interpreter")
    any_tree.write("pkg/__init__.py", "first = 1\n")
    any_tree.write("pkg/one.py", "first = 1\nimport sys\nsys.leave()\nfrom . import two\nlast = 2\n")
    any_tree.write("pkg/two.py", "from . import one\nfirst = 1\n")
    for i in range(200):
        any_tree.write(f"mod{i}.py", f"first = {i}\nimport sys\nsys.leave()\nlast = 2\n")
    program = GREENLETS.replace("HERE", repr(str(HERE))) + textwrap.dedent(MOVES[move])
    any_tree.same(program)
    assert any_tree.run(program + "\nimport ladewerk; print(ladewerk.stats()['served']['pack'])").out.splitlines()[-1] > "0"


def test_imports_are_served_after_greenlets_were_left_amid_them(tree):
    """What ended or was killed no longer counts as nested; what is suspended for ever does not make stock take over."""
    pytest.importorskip("greenlet", reason="there is no greenlet for this interpreter")
    for i in range(300):
        tree.write(f"mod{i}.py", "import sys\nsys.leave()\n" if i < 150 else "")
    tree.learn("import sys; sys.leave = lambda: None\n" + "".join(f"import mod{i}\n" for i in range(300)))
    served = tree.run("""
import greenlet, importlib, json, sys
import ladewerk
sys.leave = lambda: greenlet.getcurrent().parent.switch()
crowd = [greenlet.greenlet(importlib.import_module) for i in range(150)]
for i, a in enumerate(crowd): a.switch(f'mod{i}')
for a in crowd:
    try: a.throw()
    except greenlet.GreenletExit: pass
before = ladewerk.stats()['served']['pack']
for i in range(150, 300): importlib.import_module(f'mod{i}')
print(ladewerk.stats()['served']['pack'] - before)
""").json()
    assert served == 150
