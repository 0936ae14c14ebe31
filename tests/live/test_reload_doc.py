# SPDX-License-Identifier: MIT
"""The worked example of ext/RELOAD.md."""
import pathlib
import re

from harness import settle

PAGE = pathlib.Path(__file__).resolve().parents[2] / "ext" / "RELOAD.md"


def test_the_example(tree):
    text = PAGE.read_text()
    for name, body in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.S):
        tree.write(name, body, at=tree.work)
    settle()
    settle()
    expected = text.partition("$ python shop.py\n")[2].partition("```")[0]
    for ladewerk in (False, True):
        assert tree.run(None, options=("shop.py",), ladewerk=ladewerk).out == expected
        tree.write("prices.py", re.search(r"# prices\.py\n(.*?)```", text, re.S)[1], at=tree.work)
        settle()
        settle()
