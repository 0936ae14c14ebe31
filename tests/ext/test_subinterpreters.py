# SPDX-License-Identifier: MIT
"""Several interpreters in one process: each has its own finder and fast path, all share one cache and one session.

From 3.12 on each has a GIL of its own as well, so they are inside Ladewerk at the same moment.
"""

import sys

import pytest

from harness import LONG, settle

COUNT = 40
ROUNDS = 100 if LONG else 2

#: create() an interpreter, run(it, code) or raise, destroy(it): by any name that this version has for them.
INTERPRETERS = """
import json, os, random, sys, threading, time, faulthandler
faulthandler.dump_traceback_later(SECONDS, exit=True)
try: import _interpreters as i
except ImportError: import _xxsubinterpreters as i
def create(own_gil=True):
    if sys.version_info >= (3, 13): return i.create('isolated' if own_gil else 'legacy')
    return i.create(isolated=own_gil)
def run(it, code):
    failed = i.run_string(it, code)
    if failed is not None: raise RuntimeError(str(failed))
destroy = i.destroy
""".replace("SECONDS", "3000" if LONG else "50")

#: In every interpreter. Says what it has seen in a file: what it prints may mix with what others print.
BODY = """
import importlib.machinery, importlib.util, json, random, sys
names = ['pkg'] + [f'pkg.m{i}' for i in range(COUNT)] + [f'pkg.sub.n{i}' for i in range(COUNT)] + ['space.portion', 'colorsys']
order = random.Random(SEED).sample(names, len(names))
def all_of_it():
    for name in order:
        module = importlib.import_module(name)
        assert sys.modules[name] is module and module.__spec__._initializing is False, name
        assert type(module.__loader__) is importlib.machinery.SourceFileLoader and type(module.__spec__) is importlib.machinery.ModuleSpec
        assert module.last == name if name != 'colorsys' else module.rgb_to_hls
    for name in 'absent', 'pkg.absent', 'pkg.sub.m0':
        try: importlib.import_module(name); assert False
        except ModuleNotFoundError as error: assert error.name == name
    try: import pkg.bad; assert False
    except ValueError as error: assert str(error) == 'bad' and 'pkg.bad' not in sys.modules
    assert importlib.util.find_spec('pkg.m1').origin == sys.modules['pkg.m1'].__file__
for _ in range(2):
    all_of_it()
    for name in names: sys.modules.pop(name, None)
import ladewerk
finders = [f for f in sys.meta_path if type(f).__module__ == 'ladewerk._native']
with open(OUT, 'w') as file: json.dump([ladewerk.stats(), len(finders)], file)
"""


@pytest.fixture
def modules(any_tree):
    any_tree.write("pkg/__init__.py", "last = __name__\n")
    any_tree.write("pkg/sub/__init__.py", "from .. import m0\n")
    any_tree.write("pkg/bad.py", "raise ValueError('bad')\n")
    any_tree.write("space/portion.py", "import pkg.m1\nlast = __name__\n")
    for i in range(COUNT):
        any_tree.write(f"pkg/m{i}.py", f"from . import m{i // 2}\nclass C: pass\nlast = __name__\n")
        any_tree.write(f"pkg/sub/n{i}.py", f"from ..m{i} import last as _\nfrom . import n{(i + 1) % COUNT}\nlast = __name__\n")
    (any_tree.base / "out").mkdir()
    settle()
    return any_tree


def body(tree):
    return f"def code(seed): return {BODY!r}.replace('SEED', str(seed)).replace('COUNT', '{COUNT}').replace('OUT', repr({str(tree.base / 'out')!r} + f'/{{seed}}.json'))\n"


STATS = """
for seed in range(N):
    stats, finders = json.load(open(OUT + f'/{seed}.json'))
    served = stats['served']
    assert finders == 1 and stats['active'] and stats['fast_path'], (seed, stats)
    # Twice all of it. What another interpreter has learnt but not stored is read once more by this one.
    assert served['pack'] + served['pyc'] + served['compiled'] >= 4 * COUNT, (seed, served)
    assert not any(n for why, n in stats['aside'].items() if why not in ('builtin', 'initializing')), stats['aside']
"""


def run(tree, program, count=None, ladewerk=True):
    program = INTERPRETERS + body(tree) + program
    if count and ladewerk:
        program += STATS.replace("N)", f"{count})").replace("COUNT", str(COUNT)).replace("OUT", repr(str(tree.base / "out")))
    return tree.run(program + "\nprint('end')", timeout=3600, ladewerk=ladewerk, options=["-W", "ignore"]).out


@pytest.mark.parametrize("gil", ["own", "shared"])
def test_one_after_the_other(modules, gil):
    """Created, used, destroyed: what one learnt is there for the next, and the first one goes on."""
    program = f"""
import pkg.m5
for seed in range({ROUNDS * 2}):
    it = create({gil == 'own'})
    run(it, code(seed)); run(it, code(seed)); destroy(it)
    assert sys.modules['pkg.m5'].last == 'pkg.m5'
    import importlib; importlib.import_module(f'pkg.m{{seed % 30}}')
"""
    for _ in range(2):
        assert run(modules, program, ROUNDS * 2) == "end\n"


SIDE_BY_SIDE = """
failures, over = [], False
def one(seed):
    try:
        for _ in range(ROUNDS):
            it = create(GIL)
            try: run(it, code(seed)); run(it, code(seed))
            finally: destroy(it)
    except BaseException as error: failures.append(repr(error)[:2000])
def here():
    '''The main interpreter imports meanwhile.'''
    import importlib
    while not over:
        for n in range(30): assert importlib.import_module(f'pkg.sub.n{n}').last == f'pkg.sub.n{n}'
        for name in [n for n in sys.modules if n.startswith('pkg')]: del sys.modules[name]
threads = [threading.Thread(target=one, args=(seed,)) for seed in range(6)]
main = threading.Thread(target=here); main.start()
for t in threads: t.start()
for t in threads: t.join()
over = True; main.join()
assert not failures, failures
"""


@pytest.mark.parametrize("gil", ["own", "shared"])
def test_side_by_side(modules, gil):
    """Six at a time, in threads, created and destroyed while the others import; first while all is still to be learnt."""
    program = SIDE_BY_SIDE.replace("GIL", str(gil == "own")).replace("ROUNDS", str(ROUNDS))
    for _ in range(2):
        assert run(modules, program, 6) == "end\n"
    stats = modules.run("import pkg.m5, json, ladewerk\nprint(json.dumps(ladewerk.stats()))").json()
    assert stats["served"]["pack"] >= 4 and stats["served"]["pyc"] == 0  # they have learnt


def test_side_by_side_control(modules):
    """Control: a module that is not what it should be is noticed in whatever interpreter."""
    modules.write("pkg/m7.py", "last = 'another'\n")
    with pytest.raises(AssertionError, match="AssertionError"):
        run(modules, SIDE_BY_SIDE.replace("GIL", "True").replace("ROUNDS", "1"))


def test_side_by_side_control_inactive(modules):
    """Control: interpreters that stock serves are noticed."""
    with pytest.raises(AssertionError, match="active"):
        run(modules, "sys.flags; os.environ['LADEWERK'] = '0'\n" + SIDE_BY_SIDE.replace("GIL", "True").replace("ROUNDS", "1"), 6)


def test_uninstall_in_one_of_them(modules):
    """Each installs and uninstalls for itself."""
    program = """
import ladewerk, importlib
first, second = create(), create()
run(first, 'import json, ladewerk; ladewerk.uninstall(); assert not ladewerk.stats()["active"]')
run(second, 'import json, ladewerk; assert ladewerk.stats()["active"]\\n' + code(0))
assert ladewerk.stats()['active'] and importlib.import_module('pkg.m3').last == 'pkg.m3'
ladewerk.uninstall(); destroy(first)
run(second, code(1)); destroy(second)
assert importlib.import_module('pkg.m4').last == 'pkg.m4'
assert ladewerk.install() and importlib.import_module('pkg.m9').last == 'pkg.m9'
third = create(); run(third, code(2)); destroy(third)
"""
    assert run(modules, program, 3) == "end\n"


def test_interpreters_that_are_never_destroyed(modules):
    """The process ends all the same, and has learnt."""
    program = "for seed in range(4): run(create(), code(seed))"
    assert run(modules, program, 4) == "end\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters came with 3.14")
def test_concurrent_interpreters(modules):
    """The public module, and the executor on top of it."""
    program = """
from concurrent import interpreters
from concurrent.futures import InterpreterPoolExecutor
crowd = [interpreters.create() for _ in range(3)]
threads = [it.call_in_thread(exec, code(seed), {}) for seed, it in enumerate(crowd)]
for t in threads: t.join()
for it in crowd: it.close()
with InterpreterPoolExecutor(3) as pool: list(pool.map(exec, [code(seed) for seed in range(3, 9)], [{}] * 6))
"""
    assert run(modules, program, 9) == "end\n"
