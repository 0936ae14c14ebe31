# SPDX-License-Identifier: MIT
"""What a program has touched is noted for its entry point: script, module or text, whatever the interpreter's options and the program's arguments are."""

import pytest

from harness import settle


def noted(tree):
    return {path.name for path in tree.cache.glob("*/hot-*")}


@pytest.fixture
def program(tree):
    """`import app` touches more blocks than the kernel reads ahead by itself."""
    for n in range(40):
        tree.write(f"mod{n}.py", "".join(f"def f{n}_{i}(a, b=({i}, {n})):\n    return a + b[0] * {i}, 'text {n} {i}'\n" for i in range(80)))
    tree.write("app.py", "".join(f"import mod{n}\n" for n in range(40)))
    tree.write("pack/__init__.py")
    tree.write("pack/__main__.py", "import app\n")
    settle()
    tree.run("import app")
    assert len(noted(tree)) == 1
    return tree


def more(tree, *options, code=None, args=(), cwd=None):
    """How many notes a run has added."""
    before = noted(tree)
    settle()
    tree.run(code, *args, options=options, cwd=cwd)
    return len(noted(tree) - before)


def test_a_text(program):
    assert more(program, code="import app", args=("its", "own")) == 0
    assert more(program, "-W", "ignore", "-Xdev", "-b", "--check-hash-based-pycs", "default", code="import app") == 0
    assert more(program, "-bcimport app") == 0
    assert more(program, code="import app # another") == 1


def test_a_module(program):
    assert more(program, "-m", "pack") == 1
    assert more(program, "-Wignore", "-mpack", "x") == 0
    assert more(program, "-bm", "pack", "-c", "y") == 0


def test_a_script(program):
    script = str(program.root / "app.py")
    assert more(program, script) == 1
    assert more(program, "-X", "dev", "-b", script, "-m", "x") == 0
    assert more(program, "app.py", cwd=program.root) == 1
    assert more(program, "app.py", "z", cwd=program.root) == 0

