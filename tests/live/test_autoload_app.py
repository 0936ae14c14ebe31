# SPDX-License-Identifier: MIT
"""An application that is written without import lines, and the examples of ext/AUTOLOAD.md."""
import re
import shutil
from pathlib import Path

import pytest
from autoloading import child, nursery  # noqa: F401

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "ext" / "AUTOLOAD.md"
SOLD = "Ada: 3 x tea, 1 x pot; charged 32 EUR"
ALL = {
    "modules": ["shop", "shop.cart", "shop.catalog", "shop.item", "shop.payments", "shop.payments.gateway", "shop.payments.invoice", "shop.payments.refund", "shop.user"],
    "classes": ["store", "store.Cart", "store.Catalog", "store.Item", "store.Person", "store.User", "store.payments", "store.payments.HTTPGateway", "store.payments.Invoice"],
}


@pytest.mark.parametrize("active", [True, False], ids=["active", "stock"])
@pytest.mark.parametrize("convention", ALL)
def test_it_runs(tree, convention, active):
    result = tree.run(None, HERE / "shop" / "main.py", convention, "--all", ladewerk=active, options=["-B"])
    assert result.out.splitlines() == [SOLD, *ALL[convention]]


@pytest.mark.parametrize("convention", ALL)
def test_it_is_reloaded(tree, convention):
    copy = shutil.copytree(HERE / "shop", tree.base / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    result = tree.run(f"""
        import pathlib, sys
        sys.argv[1:] = [{convention!r}]
        sys.path.insert(0, {str(copy)!r})
        import main
        print(main.sell())
        for path in pathlib.Path({str(copy)!r}, {convention!r}).rglob("*gateway.py"):
            path.write_text(path.read_text().replace("charged", "debited"))
        print(main.sell())
        main.loader.reload()
        print(main.sell())
    """)
    assert result.out.splitlines() == [SOLD, SOLD, SOLD.replace("charged", "debited")]


def test_no_module_of_it_imports_another():
    """What the example is for. (`import shop` alone is what a module needs to speak of the others.)"""
    lines = [line for path in (HERE / "shop").glob("*/*/**/*.py") for line in path.read_text().splitlines() if re.match(r"\s*(import|from)\s", line)]
    assert lines and set(lines) <= {"import shop", "import store", "from dataclasses import dataclass"}


@pytest.mark.parametrize("number", range(len(re.findall(r"^```python\n", PAGE.read_text(), re.M)) if PAGE.exists() else 0))
def test_the_examples_of_the_page(child, number):
    """Each runs by itself: a comment `# FILE: TEXT` above it is a file that it needs."""
    text = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[number]
    files = dict(re.findall(r"^# (\S+\.py): (.*)$", text, re.M))
    child({f"app/{name}": source.replace("; ", "\n") + "\n" for name, source in files.items()}, "import os\nos.chdir(root)\n" + text)
