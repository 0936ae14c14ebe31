# SPDX-License-Identifier: MIT
"""The first engines, made at once; then an engine whose state other threads replace while its code imports. For builds without a GIL above all.

    changes.py ROOT ROUNDS
"""
from __future__ import annotations

import pathlib
import sys
import threading

import ladewerk
import ladewerk.engine

THREADS, ROUNDS = 4, int(sys.argv[2])
root = pathlib.Path(sys.argv[1])
(root / "guest.py").write_text("def look():\n    import guest, json.decoder, colorsys\n    from json import decoder\n    return guest, decoder\n")
start = threading.Barrier(THREADS)
errors: list[BaseException] = []
served = ladewerk.install() and ladewerk.stats()["fast_path"]


def at_once(*functions):
    def run(function):
        start.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def make():
    engine = ladewerk.ImportEngine(path=[str(root), *sys.path])
    assert engine.import_module("guest").look()[0] is engine.modules["guest"]


at_once(*[make] * THREADS)  # the first ones
assert "guest" not in sys.modules
for _ in range(ROUNDS // 20):
    at_once(make, make, make, lambda: setattr(sys, "stress", object()))

engine = ladewerk.ImportEngine(path=[str(root), *sys.path])
look = engine.import_module("guest").look
guest, decoder = look()


def looks():
    for _ in range(ROUNDS):
        assert look() == (guest, decoder)


def replaces():
    for _ in range(ROUNDS):
        engine.modules = dict(engine.modules)


def rules():
    for _ in range(ROUNDS // 20):
        engine.deny("nothing")


def listens():
    for _ in range(ROUNDS):
        ladewerk.on_import(lambda event: None, engine=engine).close()
        ladewerk.on_import(lambda event: None).close()


def installs():
    for _ in range(ROUNDS // 4):
        ladewerk.uninstall()
        ladewerk.install()


def exits():
    inside = engine.import_module("atexit")
    for _ in range(ROUNDS):
        inside.register(print)
        inside.unregister(print)


at_once(looks, looks, replaces, exits)
at_once(looks, installs, listens, listens)
at_once(looks, looks, replaces, rules)
assert (ladewerk.install() and ladewerk.stats()["fast_path"]) == served, ladewerk.stats()["reason"]
assert engine.import_module("atexit")._ncallbacks() == 0
engine.close()
