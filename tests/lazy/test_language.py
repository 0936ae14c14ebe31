# SPDX-License-Identifier: MIT
"""From 3.15 on: the language's own lazy imports, led by the same modes and rules."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

from shell import Shell  # noqa: E402

pytestmark = pytest.mark.skipif(sys.version_info < (3, 15), reason="lazy imports of its own since 3.15")

PACKAGES = {
    "one/__init__.py": "import one.inner\nimport two\nfrom two import part as other\nimport json\ndef use(): return one, two, other, json",
    "one/inner.py": "",
    "two/__init__.py": "",
    "two/part.py": "",
    "protocol/__init__.py": "", "protocol/descriptor_pool.py": "",
    "generated.py": "from protocol import descriptor_pool as _pool\nimport two\ndef use(): return two",
}


@pytest.fixture
def loads(lazily):
    """What MAIN has loaded of the packages."""
    def run(mode: str, rules: str = "", main: str = "import one", files: dict[str, str] = PACKAGES) -> list[str]:
        show = "\nprint(*sorted(loaded('one.inner', 'two', 'two.part', 'protocol', 'three')))"
        return lazily(files, main + show, mode=mode, LADEWERK_LAZY_RULES=rules).out.split()
    return run


def test_modes(loads):
    assert loads("eager") == loads("stock") == ["one.inner", "two", "two.part"]
    assert loads("default") == ["one.inner"]
    assert loads("all") == []
    assert loads("default", main="import one; one.use()") == ["one.inner", "two", "two.part"]


def test_rules(loads):
    assert loads("all", "eager two") == ["two", "two.part"]
    assert loads("all", "eager of two.part") == ["two", "two.part"]
    assert loads("all", "eager in one") == ["one.inner", "two", "two.part"]
    assert loads("all", "eager in *\nlazy in one") == []
    assert loads("all", main="import generated") == []
    assert loads("all", "eager with protocol.descriptor_pool", "import generated") == ["protocol", "two"]


def test_names_of_submodules(lazily):
    """What a package takes of a submodule by that one's name: imported later, the submodule would be bound over it."""
    lazily({"shop/__init__.py": "from .cart import Cart\nfrom .main import Program, main\ndef use(): return Cart", "shop/cart.py": "class Cart: pass",
            "shop/main.py": "class Program: pass\nmain = Program"}, """
        import shop
        assert not loaded("shop.cart")
        import shop.main, shop.cart
        assert shop.Program is shop.main and shop.use() is shop.Cart
    """)


@pytest.mark.parametrize("uses, waits", [
    ("", True), ("del cart", False), ("cart.Cart", False), ("def f(): return cart", False), ("class A: x = cart", False), ("x.cart = 1", True), ("def f(cart): return cart", True),
    ("cart = 1; del cart", True), ("def f():\n    global cart\n    del cart", False),
])
def test_submodules_that_are_needed_by_name(lazily, uses, waits):
    """What `from .cart import Cart` binds besides, in the package."""
    files = {"shop/__init__.py": f"from .cart import Cart as C\nclass x: pass\n{uses}\ndef use(): return C", "shop/cart.py": "class Cart: pass"}
    lazily(files, f"import shop\nassert loaded('shop.cart') is not {waits}\nassert shop.use().__name__ == 'Cart'")


def test_what_finalisers_use(lazily):
    """They may run when the interpreter ends."""
    lazily({"two/__init__.py": "", "two/part.py": "", "three.py": "", "four.py": "",
            "user.py": "import two\nfrom two import part as p\nimport three, four\nclass A:\n    def __del__(self):\n        (lambda: p)(); three\ndef f(): return two, four"}, """
        import user
        assert loaded("two.part", "three", "four") == ["two.part", "three"]
    """)


@pytest.mark.parametrize("text, waits", [
    ("import two", False),
    ("import two.part", False),
    ("import two.part as p", False),
    ("import two as p\nimport one.inner as two\ntwo", False),
    ("import two\ndef f(): return two", True),
    ("import two\nclass A:\n    def f(self): return lambda: two", True),
    ("import two.part as p\ndef f(): return p", True),
    ("import two\nif 0 == len(str()) + 1: two", True),
    ("from two import part", True),
    ("import two, json\n" + "; ".join(f"x{i} = 1" for i in range(400)) + "\ndef f(): return two", True),
])
def test_imports_for_what_they_do(loads, text, waits):
    found = loads("all", main="import user", files={**PACKAGES, "user.py": text})
    assert ("two" not in found) is waits


def test_statements_that_say_so_wait(loads):
    files = {**PACKAGES, "one/__init__.py": "lazy import one.inner\nlazy from two import part\nimport two"}
    assert loads("default", "eager in *", files=files) == ["two"]


def test_the_program_itself_is_eager(loads):
    assert loads("all", main="import two.part") == ["two", "two.part"]


def test_uninstall(loads):
    main = "import sys, ladewerk\nassert sys.get_lazy_imports() == 'all' and sys.get_lazy_imports_filter()\nladewerk.uninstall()\n" \
           "assert sys.get_lazy_imports() == 'normal' and not sys.get_lazy_imports_filter()\nimport one"
    assert loads("all", main=main) == ["one.inner", "two", "two.part"]


def test_filter_of_somebody_else_stays(loads):
    main = "import sys, ladewerk\nladewerk.uninstall()\nkept = lambda *names: True\nsys.set_lazy_imports_filter(kept)\nladewerk.install()\n" \
           "assert sys.get_lazy_imports_filter() is kept and sys.get_lazy_imports() == 'normal'\n" \
           "assert 'has set a filter' in ladewerk.stats()['lazy']['reason']\nimport one"
    assert loads("all", main=main) == ["one.inner", "two", "two.part"]


def test_stats(lazily):
    assert lazily({}, "import ladewerk\nprint(ladewerk.stats()['lazy']['mode'])", mode="own").out == "own\n"


@pytest.mark.parametrize("how", ["cache", "frozen"])
def test_index(tmp_path, how):
    """Code for lazy programs is that of eager ones, so what asks for it gets it."""
    shell = Shell(tmp_path)
    shell.write("src/first.py", "import second\ndef f(): return second\n")
    shell.write("src/second.py", "")
    shell.settle()
    target = ["--frozen", "-o", "art"] if how == "frozen" else []
    assert not shell.json("index", *target, "--lazy", "src")["lazy"]
    env = {"PYTHONPATH": str(shell.cwd / "src"), **({"LADEWERK_INDEX": str(shell.cwd / "art")} if target else {})}
    done = shell.ladewerk("run", "--lazy=all", "-c", "import ladewerk, sys, first; print('second' in sys.modules, first.f().__name__, ladewerk.stats()['served']['pack'])", env=env)
    assert done.stdout == "False second 2\n", done
