# SPDX-License-Identifier: MIT
"""At each moment of each thing that a thread may ask of Ladewerk, another thread takes the session's lock and waits for its disk (moments.c).

The main thread asks for nothing, so it must be able to go on: it is who lets the disk answer. Prints how many moments each thing has, and how often a
thread has waited for the lock with the GIL held. With LISTEN set, meanwhile somebody begins to listen to imports, and install() is what is asked; prints
whether it was under way then, and why it did not come about.
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


under_way, refused = [], []


def listen():
    under_way.append(not any("ladewerk" in repr(finder) for finder in sys.meta_path))
    return ladewerk.on_import(lambda event: None)


def do(thing, number, before=lambda: None, meanwhile=lambda: None):
    """THING after BEFORE, while the disk is asked at its moment NUMBER, and MEANWHILE. Whether it has so many."""
    reached = []

    def other():
        before()
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
    listening = meanwhile()
    moments.answer()
    thread.join()
    disk.join()
    if listening is not None:
        listening.close()
        if not ladewerk.stats()["fast_path"]:
            refused.append(ladewerk.stats()["reason"])
    return reached[0]


def count(thing):
    number = 1
    while do(thing, number):
        number += 1
    return number - 1


if os.environ.get("LISTEN"):
    ladewerk.on_import(print).close()  # its modules
    do("freshness", 1, ladewerk.uninstall, listen)  # install() waits for the session once
    print(json.dumps({"under_way": under_way, "refused": refused}))
    sys.exit()

print(json.dumps({"moments": {thing: count(thing) for thing in THINGS}, "waited": moments.waited()}))
