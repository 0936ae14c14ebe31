# SPDX-License-Identifier: MIT
"""What differs, and is said to in ext/LAZY.md: where no other test is about it, here."""
from __future__ import annotations

FILES = {
    "loud.py": "import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)",
    "user.py": "import loud\ndef use():\n    return loud",
}


def test_warnings_show_the_first_use(lazily):
    for mode, line in ("stock", 1), ("all", 3):
        assert lazily(FILES, """
            import os, warnings
            warnings.simplefilter("always")
            with warnings.catch_warnings(record=True) as caught:
                import user
                user.use()
            for each in caught:
                print(os.path.basename(each.filename), each.lineno)
        """, mode=mode).out == f"user.py {line}\n"


def test_modules_that_are_gone_through_while_names_wait(lazily):
    lazily(FILES, """
        import user, sys
        try:
            for module in sys.modules.values():
                vars(module)
        except RuntimeError as error:
            assert "changed size" in str(error)
        else:
            sys.exit("it did not change")
        assert loaded("loud")
        del sys.modules["loud"], sys.modules["user"]
        import user
        for module in list(sys.modules.values()):
            vars(module)
        assert loaded("loud")
    """)


def test_what_a_module_binds_anew(lazily):
    files = {"shop.py": "state = 'old'", "user.py": "from shop import state\ndef use():\n    return state"}
    for mode, state in ("stock", "old"), ("all", "new"):
        lazily(files, f"""
            import user, shop
            shop.state = "new"
            assert user.use() == {state!r}
        """, mode=mode)


def test_what_a_package_binds_over_a_submodule(lazily):
    """If its own statement imports the submodule, it stays: test_run.py."""
    files = {"pack/__init__.py": "from .user import use\ntool = 'mine'", "pack/user.py": "from .tool import use", "pack/tool.py": "def use(): pass"}
    for mode, kind in ("stock", "str"), ("all", "module"):
        lazily(files, f"""
            import pack
            pack.use()
            assert type(pack.tool).__name__ == {kind!r}
        """, mode=mode)


def test_a_copy_of_a_module(lazily):
    """As import_fresh_module() makes them: copies of a module and of what it imports, while those that were there are out of the way."""
    for mode, its_own in ("stock", True), ("all", False):
        lazily({"part.py": "", "user.py": "import part\ndef use():\n    return part"}, f"""
            import sys, user
            part = user.use()
            there = {{name: sys.modules.pop(name) for name in ("user", "part")}}
            import user as copy
            sys.modules.update(there)
            assert copy is not there["user"]
            assert (copy.use() is not part) is {its_own}
        """, mode=mode)
