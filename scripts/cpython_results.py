# SPDX-License-Identifier: MIT
"""Compare the results of CPython's tests (regrtest's JUnit files): without and with Ladewerk.

With one file: print what failed in it. With two: print what passed in the first and did not in the second, less the
exceptions; exit code 1 if anything remains. A test that has no result (its process died, a subtest of it failed)
has not passed.
"""

import argparse
import fnmatch
import itertools
import sys
from xml.etree import ElementTree


def read(path):
    """Outcome by test id: passed, skipped or failed; the worst counts where an id occurs twice."""
    ranks = ["skipped", "passed", "failed"]
    outcomes = {}
    nameless = itertools.count(1)
    for case in ElementTree.parse(path).iter("testcase"):
        name = case.get("name")
        if name is None:  # started and never finished, or a subtest failed: absent is enough
            continue
        if name.isdigit():  # the number of an interpreter, which test__interpreters puts in the place of id()
            name = f"nameless test {next(nameless)}"
        if case.find("error") is not None or case.find("failure") is not None or case.get("outcome"):
            outcome = "failed"
        elif case.find("skipped") is not None:
            outcome = "skipped"
        else:
            outcome = "passed"
        outcomes[name] = max(outcome, outcomes.get(name, outcome), key=ranks.index)
    return outcomes


def read_exceptions(path, modes):
    """Patterns of ids excepted for this version, or for one of the ways MODES of running the tests, with their reasons."""
    mine = {"*", "%d.%d" % sys.version_info[:2], "%d.%d.%d" % sys.version_info[:3]}
    mine |= {name for mode in modes for name in (mode, "%s@%d.%d" % (mode, *sys.version_info[:2]))}
    excepted = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split(None, 2)
            if len(fields) < 3:
                sys.exit(f"{path}:{number}: VERSION (or MODE[@VERSION]) TEST REASON expected")
            if mine & set(fields[0].split(",")):
                excepted[fields[1]] = fields[2].strip()
    return excepted


def reason_for(name, excepted):
    """Why test NAME may fail, or None."""
    return next((reason for pattern, reason in excepted.items() if fnmatch.fnmatchcase(name, pattern)), None)


def summary(outcomes):
    values = list(outcomes.values())
    return ", ".join(f"{values.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stock")
    parser.add_argument("ladewerk", nargs="?")
    parser.add_argument("--exceptions", metavar="FILE", action="append", default=[])
    parser.add_argument("--mode", action="append", default=[])
    args = parser.parse_args()

    version = sys.version.split()[0]
    stock = read(args.stock)
    if not args.ladewerk:
        for name in sorted(name for name, outcome in stock.items() if outcome == "failed"):
            print("fails:", name)
        print(f"CPython {version}'s tests: stock {summary(stock)}")
        return 0

    ladewerk = read(args.ladewerk)
    excepted = {pattern: reason for path in args.exceptions for pattern, reason in read_exceptions(path, args.mode).items()}
    worse = {
        name: ladewerk.get(name, "no result")
        for name, outcome in stock.items()
        if outcome == "passed" and ladewerk.get(name) != "passed"
    }
    reasons = {name: reason_for(name, excepted) for name in sorted(worse)}
    for name, reason in reasons.items():
        if reason:
            print(f"excepted: {name} ({worse[name]}): {reason}")
    remaining = [name for name, reason in reasons.items() if not reason]
    for name in remaining:
        print(f"only with Ladewerk: {name} ({worse[name]})")
    print(f"CPython {version}'s tests: stock {summary(stock)}; Ladewerk {summary(ladewerk)}")
    print(f"{len(remaining)} fail only with Ladewerk")
    return 1 if remaining else 0


if __name__ == "__main__":
    sys.exit(main())
