# SPDX-License-Identifier: MIT
"""A program for test_stdlib.py: imports the whole standard library into one engine and says what became of it, as JSON on the descriptor in argv[1].

imported  name -> "isolated" or "shared", for every name in the engine's modules
failed    name -> [exception in the engine, exception in the process]: those that cannot be imported
gained    names that the process's sys.modules has since
explained names that it has as well if the process itself imports what was shared, in a fresh child
alive     modules of the engine that were still there after the engine was dropped
own       name -> "own" or "refused" ("another name": for a module of C within another): what is shared, asked for with own=[name], each in a child of its own
"""
import gc
import json
import os
import sys
import warnings
import weakref

import ladewerk
from ladewerk import ImportEngine

warnings.simplefilter("ignore")

# Programs, games and tests, and what is imported by name on other systems only.
LEFT_OUT = ("antigravity", "this", "__hello__", "__phello__", "idlelib", "turtledemo", "test", "_test", "xx", "_xx", "ctypes.test", "distutils", "lib2to3", "sqlite3.test",
            "tkinter.test", "unittest.test")

PROGRAM = ("__main__", "__mp_main__")  # the process's, and no module of the library


def names() -> list[str]:
    """All modules of the standard library, packages before what is in them."""
    found = set(sys.stdlib_module_names)

    def look(directory: str, package: str) -> None:
        for entry in os.scandir(directory):
            name, dot, suffix = entry.name.partition(".")
            if dot and suffix == "py" and name not in ("__init__", "__main__"):
                found.add(f"{package}.{name}")
            elif not dot and os.path.exists(os.path.join(entry.path, "__init__.py")):
                found.add(f"{package}.{name}")
                look(entry.path, f"{package}.{name}")
    for name in sys.stdlib_module_names:
        directory = os.path.join(os.path.dirname(os.__file__), name)
        if os.path.exists(os.path.join(directory, "__init__.py")):
            look(directory, name)
    return sorted(name for name in found if not name.startswith(LEFT_OUT) and name.replace(".", "").isidentifier())


def in_child(function, *args):
    """What FUNCTION returns (JSON) in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with open(writer, "w") as pipe:
                json.dump(function(*args), pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(said) if said else f"ended with status {status}"


def outcome(import_module, name):
    """None, or the type of the exception."""
    try:
        import_module(name)
    except Exception as error:
        return type(error).__name__
    return None


def gained_by_process(shared):
    """What the process's modules gain when the process itself imports SHARED."""
    before = set(sys.modules)
    for name in shared:
        outcome(__import__, name)
    return sorted({*sys.modules} - before)


def ask_for_own(name):
    """What own=[NAME] gives."""
    theirs = __import__(name, fromlist=("*",))
    spec = getattr(theirs, "__spec__", None)
    if spec is None or spec.name != name:
        return "another name"
    try:
        engine = ImportEngine(own=[name])
        ours = engine.import_module(name)
    except (ImportError, ValueError):
        return "refused"
    return "own" if ours is not theirs else "shared"


class Mark:
    """Put into a module's dictionary: lives as long as that does."""


def census():
    before = set(sys.modules)
    engine = ImportEngine()
    failed = {}
    for name in names():
        error = outcome(engine.import_module, name)
        if error:
            failed[name] = error
    ours = {id(module) for module in sys.modules.values()}
    imported = {name: "shared" if id(module) in ours else "isolated" for name, module in engine.modules.items() if name not in PROGRAM}
    gained = sorted({*sys.modules} - before)
    marks = {}
    for name, kind in imported.items():
        dictionary = getattr(engine.modules[name], "__dict__", None)
        if name == "sys":  # what is put into its dictionary goes into the process's
            marks[name] = weakref.ref(engine.modules[name])
        elif kind == "isolated" and type(dictionary) is dict:
            dictionary["_mark"] = mark = Mark()
            marks[name] = weakref.ref(mark)
    mark = dictionary = None
    del engine
    gc.collect()
    gc.collect()
    return {
        "imported": imported,
        "failed": failed,
        "gained": gained,
        "alive": sorted(name for name, mark in marks.items() if mark() is not None),
        "marked": len(marks),
    }


def main() -> None:
    out = int(sys.argv[1])
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # some modules print
    found = in_child(census)
    shared = sorted(name for name, kind in found["imported"].items() if kind == "shared")
    found["explained"] = in_child(gained_by_process, shared)
    found["failed"] = {name: [error, in_child(outcome, __import__, name)] for name, error in found["failed"].items()}
    tops = [name for name in shared if not any(name.startswith(f"{other}.") for other in shared)]
    found["own"] = {name: in_child(ask_for_own, name) for name in tops}
    with open(out, "w") as answer:
        json.dump(found, answer)


if __name__ == "__main__":
    assert ladewerk
    main()
