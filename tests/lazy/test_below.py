# SPDX-License-Identifier: MIT
"""Submodules as attributes of their package, for who has not imported them: what statements of others that wait would have loaded by now."""
from __future__ import annotations

import pytest

#: As pygments is: `formatter` is an attribute of the package because a module beside it imports it, in the midst of other things.
PACKAGE = {
    "package/__init__.py": "",
    "package/formatter.py": "class Formatter: pass\n",
    "package/formats/__init__.py": "",
    "package/formats/terminal.py": "from package.formatter import Formatter\nclass Terminal(Formatter): pass\n",
    "package/aside.py": "",
}


@pytest.mark.parametrize("mode", ["default", "all"])
def test_an_import_of_another_package_leads_there(lazily, alike, mode):
    files = {**PACKAGE, "user.py": "import package\nfrom package.formats.terminal import Terminal\ndef use(): return package.formatter.Formatter\ndef other(): return Terminal\n"}
    lazily(files, """
        import user
        assert not loaded("package", "package.formatter") and "Terminal" not in bound("user")
        assert user.use().__name__ == "Formatter" and loaded("package.formats.terminal")
        assert user.other().__mro__[1] is user.use()
    """, mode=mode)
    alike(files, "import user\nprint(user.use())\n", modes=(mode,))


def test_what_leads_elsewhere_goes_on_waiting(lazily):
    """Another name of the same module, and what no import would have loaded."""
    lazily({**PACKAGE, "bystander.py": "", "user.py": "import package, package.formats.terminal as terminal\nimport bystander\ndef use(): return package\ndef others(): return bystander, terminal\n"}, """
        import user
        package = user.use()
        assert not hasattr(package, "aside") and not hasattr(package, "nosuch") and not loaded("package.aside", "bystander")
        assert "bystander" not in bound("user")
    """)


def test_without_such_an_import_there_is_no_attribute(alike):
    """The control: the submodule is there, and nobody imports what would have loaded it."""
    alike({**PACKAGE, "user.py": "import package\ndef use(): return package.formatter\n"}, """
        import user
        try:
            user.use()
        except AttributeError as error:
            print(error)
    """, modes=("default", "all"))
