# SPDX-License-Identifier: MIT
"""%load_ext ladewerk: in a shell that has no more than what the extension asks for, and in IPython itself where it is installed."""
from reloading import run

FILES = {"shop/__init__.py": "", "shop/c.py": "VERSION = 1\ndef f():\n    return 1\nclass Thing:\n    V = 1\n"}
C2 = "VERSION = 2\\ndef f():\\n    return 2\\nclass Thing:\\n    V = 2\\n"


def test_before_each_cell(tree):
    run(tree, FILES, """
        class Events(dict):
            def register(self, name, function):
                self.setdefault(name, []).append(function)
            def unregister(self, name, function):
                self[name].remove(function)
        shell = types.SimpleNamespace(events=Events())
        import shop.c
        from shop.c import f, Thing as T, VERSION
        ladewerk.load_ipython_extension(shell)
        ladewerk.load_ipython_extension(shell)
        assert len(shell.events["pre_run_cell"]) == 1
        write("shop/c.py", "%s")
        shell.events["pre_run_cell"][0](None)
        assert (f(), T.V, shop.c.VERSION) == (2, 2, 2)
        write("shop/c.py", "1 /")
        shell.events["pre_run_cell"][0](None)
        assert f() == 2 and f is shop.c.f and T is shop.c.Thing, "in place"
        ladewerk.unload_ipython_extension(shell)
        ladewerk.unload_ipython_extension(shell)
        assert not shell.events["pre_run_cell"]
    """ % C2)


def test_the_policy_of_a_notebook(tree):
    run(tree, FILES, """
        hooks, magics = {}, {}
        events = types.SimpleNamespace(register=lambda name, function: hooks.update({name: function}), unregister=lambda name, function: hooks.pop(name))
        shell = types.SimpleNamespace(events=events, register_magic_function=lambda function, kind, name: magics.update({name: function}))
        import shop.c
        ladewerk.load_ipython_extension(shell)
        before, text, said = [shop.c], "VERSION = %d\\n", []
        for number, word in enumerate(("", "in place", "off", "replace", "in place"), 5):
            if word:
                magics["ladewerk"](" " + word + " ")
            write("shop/c.py", text % number)
            hooks["pre_run_cell"](None)
            said.append((shop.c is before[0], shop.c.VERSION))
        assert said == [(True, 5), (True, 6), (True, 6), (False, 8), (False, 9)], said
        try:
            magics["ladewerk"]("sideways")
        except ValueError:
            ladewerk.unload_ipython_extension(shell)
        assert not hooks
    """)


def test_in_ipython(tree):
    result = run(tree, FILES, """
        try:
            from IPython.core.interactiveshell import InteractiveShell
        except ImportError:
            print("no IPython")
            raise SystemExit
        shell = InteractiveShell.instance()
        def cell(text):
            assert shell.run_cell(text).success, text
        cell("%%load_ext ladewerk")
        cell("from shop.c import f, Thing\\nimport shop.c as c")
        write("shop/c.py", "%s")
        cell("assert (f(), Thing.V, c.VERSION) == (2, 2, 2)")
        cell("%%unload_ext ladewerk")
    """ % C2, env={"IPYTHONDIR": tree.base / "ipython"})
    if "no IPython" in result.out:
        import pytest
        pytest.skip("IPython is not installed")
