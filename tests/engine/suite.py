# SPDX-License-Identifier: MIT
"""CPython's own import tests in this process.

    suite.py stock MODULE ...     as they are, but for those whose ids are in the JSON list on standard input
    suite.py routed MODULE ...    while engines live, and with the global state's `__import__` of ladewerk.sysengine in place of the built-in
    suite.py inside MODULE ...    within an engine: its modules, its sys, its import statements
    suite.py builtin MODULE ...   the same, with the engine's `__import__` in place of the built-in, in the process's builtins and in the engine's
    suite.py broken MODULE ...    the control: as they are, with an engine's `__import__` in place of the built-in, so that what is imported and sys.modules are of two states

Prints {test: passed, skipped or failed} and, to standard error, what the tests say.
"""
from __future__ import annotations

import builtins
import json
import sys


def flat(suite):
    """Its tests."""
    return [suite] if not hasattr(suite, "__iter__") else [test for part in suite for test in flat(part)]


def outcomes(unittest, names: list[str], left_out) -> dict[str, str]:
    """Run the tests with this `unittest`, but for those of whose id LEFT_OUT says so; the worst counts where an id occurs twice."""
    ranks = ["skipped", "passed", "failed"]
    found: dict[str, str] = {}

    def note(test, outcome: str) -> None:
        found[test.id()] = max(outcome, found.get(test.id(), outcome), key=ranks.index)

    class Result(unittest.TextTestResult):
        def addSuccess(self, test):
            super().addSuccess(test)
            note(test, "passed")

        def addExpectedFailure(self, test, error):
            super().addExpectedFailure(test, error)
            note(test, "passed")

        def addSkip(self, test, reason):
            super().addSkip(test, reason)
            note(test, "skipped")

        def addError(self, test, error):
            super().addError(test, error)
            note(test, "failed")

        def addFailure(self, test, error):
            super().addFailure(test, error)
            note(test, "failed")

        def addUnexpectedSuccess(self, test):
            super().addUnexpectedSuccess(test)
            note(test, "failed")

        def addSubTest(self, test, subtest, error):
            super().addSubTest(test, subtest, error)
            if error is not None:
                note(test, "failed")

    tests = flat(unittest.defaultTestLoader.loadTestsFromNames(names))
    unittest.TextTestRunner(resultclass=Result).run(unittest.TestSuite(test for test in tests if not left_out(test.id())))
    return found


def main(mode: str, *names: str) -> None:
    left_out = frozenset().__contains__
    if mode == "stock":
        import unittest

        left_out = frozenset(json.load(sys.stdin)).__contains__
    else:
        import ladewerk

        engine = ladewerk.ImportEngine()
        if mode == "builtin":
            builtins.__import__ = engine.builtins.__import__ = engine.__import__
        if mode in ("inside", "builtin"):
            unittest = engine.import_module("unittest")
            # They tell CPython to forget what it knows of _testsinglephase, once they have deleted it from sys.modules: here from the engine's. The process's object is
            # still there, and is what an engine gets; its functions crash from then on, as they do in stock Python where the module is not deleted first.
            left_out = lambda name: name.startswith("test.test_import.SinglephaseInitTests.")  # noqa: E731
        else:
            import unittest

            builtins.__import__ = (engine if mode == "broken" else ladewerk.sysengine).__import__
    found = outcomes(unittest, list(names), left_out)
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
