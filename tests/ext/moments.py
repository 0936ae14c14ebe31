# SPDX-License-Identifier: MIT
"""At each moment of each thing that a thread may ask of Ladewerk, another thread takes the session's lock and waits for its disk (moments.c).

The main thread asks for nothing, so it must be able to go on: it is who lets the disk answer. Prints how many moments each thing has, and how often a
thread has waited for the lock with the GIL held.
"""
import ctypes
import importlib.util
import json
import os
import sys
import threading
import types

import ladewerk
import pkg.m

library = os.environ["LD_PRELOAD"]
moments = ctypes.CDLL(library)  # without the GIL
own = ctypes.PyDLL(library)  # with it

parent = sys.modules["parent"] = types.ModuleType("parent")
parent.__path__ = [os.environ["SLOWDISK"]]
numbers = iter(range(1000000))


def attempt(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def again(name):
    sys.modules.pop(name, None)
    return attempt(name)


def compile_anew():
    number = next(numbers)
    with open(os.path.join(os.environ["SOURCES"], f"new{number}.py"), "w") as file:
        file.write(f"number = {number}\n")
    assert attempt(f"pkg.new{number}").number == number


def other_path():
    sys.path.append(f"/nowhere/{next(numbers)}")
    attempt("absent")
    sys.path.pop()


THINGS = {
    "import": lambda: again("pkg.m"),
    "miss": lambda: attempt("pkg.absent"),
    "compile": compile_anew,
    "path": other_path,  # a path list that was not seen before
    "find": lambda: importlib.util.find_spec("pkg.other"),
    "invalidate": importlib.invalidate_caches,
    "stats": ladewerk.stats,
    "freshness": ladewerk.install,
    "install": lambda: (ladewerk.uninstall(), ladewerk.install()),
}


def ask_slow_disk():
    own.be_disk()
    attempt(f"parent.absent{next(numbers)}")


def do(thing, number):
    """THING, while the disk is asked at its moment NUMBER. Whether it has so many."""
    reached = []

    def other():
        own.be_other()
        try:
            THINGS[thing]()
        finally:
            reached.append(own.be_done())

    moments.arm(number)
    disk, thread = threading.Thread(target=ask_slow_disk), threading.Thread(target=other)
    disk.start()
    moments.wait_parked()
    thread.start()
    moments.wait_inside()  # and this thread goes on:
    moments.answer()
    thread.join()
    disk.join()
    return reached[0]


def count(thing):
    number = 1
    while do(thing, number):
        number += 1
    return number - 1


print(json.dumps({"moments": {thing: count(thing) for thing in THINGS}, "waited": moments.waited()}))
