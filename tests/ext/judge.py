# SPDX-License-Identifier: MIT
"""A child of test_differential.py: asks Ladewerk's finder and PathFinder the same questions and compares every field of the answers.

Speaks pickles over stdin and stdout. Everything it needs is imported before it gives up its user id or activates Ladewerk.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import pickle
import sys
import types
import zipimport

PathFinder = importlib.machinery.PathFinder


def describe(spec):
    """Every field of SPEC, as comparable values."""
    if spec is None:
        return None
    fields = list(vars(spec))  # before spec.cached is asked, which computes it
    loader = spec.loader
    locations = spec.submodule_search_locations
    return {
        "fields": fields,
        "name": spec.name,
        "loader": None if loader is None else f"{type(loader).__module__}.{type(loader).__qualname__}",
        "loader_is": None if loader is None else id(type(loader)),
        "loader_fields": {k: v for k, v in vars(loader).items() if isinstance(v, str)} if hasattr(loader, "__dict__") else None,
        "origin": spec.origin,
        "loader_state": spec.loader_state,
        "locations_type": type(locations).__name__,
        "locations": None if locations is None else list(locations),
        "cached": spec.cached,
        "has_location": spec.has_location,
        "parent": spec.parent,
            }


def ask(finder, name, path):
    try:
        spec = finder.find_spec(name, path)
    except Exception as error:
        return {"raised": type(error).__name__, "text": str(error)}
    return describe(spec)


class Judge:
    def __init__(self, freshness, control=None):
        import ladewerk

        self.stats = ladewerk.stats
        assert ladewerk.install(freshness=freshness), ladewerk.stats()["reason"]
        self.finder = next(f for f in sys.meta_path if type(f).__module__ == "ladewerk._native")
        self.frozen = freshness == "frozen"
        self.control = control
        self.path = []
        self.mismatches, self.queries, self.aside, self.found = [], 0, 0, 0

    def asides(self):
        return sum(self.stats()["aside"].values())

    def ask_ours(self, name, path):
        before = self.asides()
        answer = ask(self.control or self.finder, name, path)
        return answer, self.asides() - before

    def compare(self, names, path):
        """Ladewerk first: what stock remembers must not help it. Returns {name: stock's answer}."""
        ours = {name: self.ask_ours(name, path) for name in names}
        if not self.told:
            PathFinder.invalidate_caches()
            self.told = True
        answers = {name: ask(PathFinder, name, path) for name in names}
        for name, stock in answers.items():
            answer, stepped = ours[name]
            self.queries += 1
            self.aside += stepped > 0
            self.found += stock is not None and "raised" not in stock
            if answer != stock and not (answer is None and stepped):
                self.mismatches.append((name, path if path is None else list(path), answer, stock))
        return answers

    def below(self, parent, locations, names):
        """The submodules of a package that was found: its __path__ is searched, and the parent is what sys.modules says it is."""
        module = types.ModuleType(parent)
        module.__path__ = locations
        saved, sys.modules[parent] = sys.modules.get(parent), module
        try:
            self.compare([f"{parent}.{name}" for name in names], locations)
        finally:
            del sys.modules[parent]
            if saved is not None:
                sys.modules[parent] = saved

    def look(self, *, cwd, entries, in_place, by_argument, tops, subs, prepare=False, forget=False):
        try:
            os.chdir(cwd)
        except PermissionError:
            os.chdir("/")
        if in_place:
            self.path[:] = entries
        else:
            self.path = list(entries)
        if prepare:
            PathFinder.invalidate_caches()
        if forget:
            sys.path_importer_cache.clear()
        if self.frozen:
            importlib.invalidate_caches()
        saved, sys.path = sys.path, self.path
        self.told = False
        try:
            for name, stock in self.compare(tops, self.path if by_argument else None).items():
                if stock and stock.get("locations"):
                    self.below(name, stock["locations"], subs)
        finally:
            sys.path = saved
        return self.report()

    def walk(self, questions):
        """[(package or "", [name], path or None), ...] without change between them."""
        self.told = False
        for package, names, path in questions:
            if package:
                self.below(package, path, names)
            else:
                self.compare(names, path)
        return self.report()

    def report(self):
        result = {"mismatches": self.mismatches[:5], "queries": self.queries, "aside": self.aside, "found": self.found,
                  "by_reason": self.stats()["aside"], "session": self.stats()["session"]}
        self.mismatches, self.queries, self.aside, self.found = [], 0, 0, 0
        return result


class Forgetful:
    """The control: a finder that remembers its first answer for a name and a path, as a cache without freshness would."""

    def __init__(self):
        self.known = {}

    def find_spec(self, name, path=None):
        key = name, tuple(sys.path if path is None else path), os.getcwd()
        if key not in self.known:
            PathFinder.invalidate_caches()
            self.known[key] = PathFinder.find_spec(name, path)
        return self.known[key]


def main():
    options = pickle.loads(bytes.fromhex(sys.argv[1]))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    if options["uid"]:
        os.setgroups([])
        os.setgid(options["uid"])
        os.setuid(options["uid"])
    judge = Judge(options["freshness"], Forgetful() if options["control"] else None)
    while True:
        try:
            method, kwargs = pickle.load(source)
        except EOFError:
            break
        pickle.dump(getattr(judge, method)(**kwargs), sink)
        sink.flush()


if __name__ == "__main__":
    main()
