# SPDX-License-Identifier: MIT
"""What imports that were left out would have cost: executed as a program of its own, that imports first what was loaded, lazily as it was, and then what was not, eagerly.

    python _lazy_measure.py ORDER ANSWERS    descriptors of files; ORDER has, in marshal's form, (sys.path, names of what was loaded, [(module, what is taken from it), ...])

For each of the last, in order, (ns, modules loaded by it, whether it could be imported) is appended to ANSWERS. A module that others need, too, is charged to the first one.
"""
import marshal
import os
import sys
from time import monotonic_ns

Order = tuple[list[str], list[str], list[tuple[str, list[str]]]]
Answer = tuple[int, int, bool]


def _import(name: str, taken: list[str]) -> bool:
    try:
        __import__(name, fromlist=taken)
        return True
    except BaseException:  # it lacks what the program had done before, say
        return False


def _measured(name: str, taken: list[str]) -> Answer:
    loaded, begun = len(sys.modules), monotonic_ns()
    good = _import(name, taken)
    return monotonic_ns() - begun, max(0, len(sys.modules) - loaded), good


def main(order: int, answers: int) -> None:
    write, end, dumps, modules = os.write, os._exit, marshal.dumps, sys.modules  # bodies may replace anything
    with open(order, "rb") as file:
        path, loaded, targets = marshal.load(file)
    sys.path[:] = path
    sys.argv[:] = [""]
    for name in loaded:
        _import(name, [])
    native = modules["ladewerk._native"]
    native._lazy_stop()
    for name, taken in targets:
        write(answers, dumps(_measured(name, taken)))
    native.flush()  # what was learnt is there for the next one
    end(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
