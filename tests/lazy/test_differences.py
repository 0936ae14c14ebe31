# SPDX-License-Identifier: MIT
"""What differs, and is said to in ext/LAZY.md: where no other test is about it, here."""
from __future__ import annotations

import whose

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


@whose.ours
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
    """If its own statement imports the submodule, it stays: test_lazy_run.py."""
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


@whose.ours
def test_names_that_a_module_has_not(lazily):
    """As PEP 810 has it: missed where they are used, so by nobody where nobody uses them. A module that is not there is missed at the statement, as is a name of one that is loaded."""
    files = {"shop.py": "x = 1", "user.py": "from shop import absent\ndef use():\n    return absent", "idle.py": "from shop import absent", "late.py": "from shop import absent",
             "missing.py": "import nothere\ndef use():\n    return nothere", "also.py": "from nothere import x"}
    for mode, early in ("stock", ["user", "idle", "late", "missing", "also"]), ("all", ["late", "missing", "also"]):
        lazily(files, f"""
            failed = []
            def attempt(name):
                try:
                    __import__(name)
                except ImportError as error:
                    failed.append(name)
                    return error
            for name in "user", "idle":
                attempt(name)
            import shop
            for name in "late", "missing", "also":
                assert ("absent" if name == "late" else "No module named 'nothere'") in str(attempt(name))
            assert failed == {early!r}, failed
            if "user" in sys.modules:
                try:
                    sys.modules["user"].use()
                except ImportError as error:
                    assert str(error).startswith("cannot import name 'absent' from 'shop'")
                else:
                    sys.exit("used, and not missed")
        """, mode=mode)


@whose.ours
def test_code_and_its_copies(lazily):
    for mode, same in ("eager", True), ("all", False):
        lazily(FILES, f"""
            import marshal, sys, types, user
            function = user.use
            copy = marshal.loads(marshal.dumps(function.__code__))
            plain = compile("def use():\\n    return loud", "", "exec").co_consts[0]
            more = function.__code__.co_stacksize - plain.co_stacksize   # of 8 bytes each
            assert (function.__code__ == copy) is {same} and (more == 0) is {same} and more <= 3
            assert types.FunctionType(copy, function.__globals__)() is sys.modules["loud"]
        """, mode=mode)


FINDER = """
    import importlib.machinery, os, sys

    class Finder:
        asked = []

        def find_spec(self, name, path=None, target=None):
            self.asked.append(name)
            if name in ("made", "part"):
                return importlib.machinery.PathFinder.find_spec(name, [os.getcwd() + "/vendored"])

    sys.meta_path.insert(0, Finder())
    asked = sys.meta_path[0].asked
"""


@whose.ours
def test_finders_of_others(lazily):
    """One that has another file for a name, and one for a name that nobody else has."""
    files = {"user.py": "import part, made\ndef use():\n    return part.place, made.place", "part.py": "place = 'here'", "vendored/part.py": "place = 'there'",
             "vendored/made.py": "place = 'made'"}
    for mode, when in ("stock", "['user', 'part', 'made']"), ("all", "['user', 'made']"):
        lazily(files, FINDER + f"""
    import user
    assert asked == {when}, asked
    assert user.use() == ("there", "made")
    assert sorted(asked) == ["made", "part", "user"]
""", mode=mode)


@whose.ours
def test_modules_that_others_have_found(lazily):
    """With nothing but a source file and the stock loader: imports in them wait as in any."""
    files = {"vendored/made.py": "import other\ndef use():\n    return other", "other.py": ""}
    lazily(files, FINDER + """
    import made
    assert "/vendored/" in made.__file__ and not loaded("other")
    made.use()
    assert loaded("other")
""")
