# SPDX-License-Identifier: MIT
"""A child of test_differential.py: imports the modules that a file names and writes down everything a program can see of the result."""

import importlib
import json
import os
import re
import sys


def scrub(text):
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def describe(module):
    """What the import system set, as comparable values; and the order of the names in it."""
    get = vars(module).get if hasattr(module, "__dict__") else lambda name: None
    spec, path, loader = get("__spec__"), get("__path__"), get("__loader__")
    kind = lambda value: f"{type(value).__module__}.{type(value).__qualname__}" if not isinstance(value, type) else repr(value)
    return {
        "type": kind(module),
        "plain": {key: scrub(repr(get(key))) for key in ("__name__", "__file__", "__cached__", "__package__")},
        "path": path if path is None else [kind(path), [str(p) for p in path]],
        "loader": kind(loader),
        "loader fields": {k: v for k, v in sorted(vars(loader).items()) if isinstance(v, str)} if hasattr(loader, "__dict__") and not isinstance(loader, type) else None,
        "spec": None if spec is None else [
            spec.name, kind(spec.loader), spec.origin, scrub(repr(spec.loader_state)), spec.submodule_search_locations and list(spec.submodule_search_locations),
            spec.cached, spec.has_location, spec.parent, getattr(spec, "_initializing", None), list(vars(spec)), spec.loader is loader] if type(spec).__name__ == "ModuleSpec" else kind(spec),
        # Deprecated C modules count the frames of the stock machinery to find out whom to warn.
        "names": [n for n in vars(module) if n != "__warningregistry__"] if hasattr(module, "__dict__") else None,
    }


def main():
    names, out = sys.argv[1:]
    out = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with open(names) as file:
        names = json.load(file)
    outcomes = {}
    for name in names:
        try:
            importlib.import_module(name)
            outcomes[name] = None
        except BaseException as error:
            outcomes[name] = [type(error).__name__, scrub(str(error)), getattr(error, "name", None)]
    native = sys.modules.get("ladewerk._native")
    result = {
        "outcomes": outcomes,
        "order": [name for name in sys.modules if name.partition(".")[0] != "ladewerk"],
        "modules": {name: describe(module) for name, module in list(sys.modules.items()) if name.partition(".")[0] != "ladewerk"},
    }
    stats = native and native.stats()
    with open(out, "w") as file:
        json.dump([result, stats], file)
    if native:
        native.flush()
    os._exit(0)  # some of them start threads or register what must not run


if __name__ == "__main__":
    main()
