# SPDX-License-Identifier: MIT
"""The import lock of an engine."""
from __future__ import annotations

import os
import threading
from collections.abc import Callable

import ladewerk
import pytest


def in_child(check: Callable[[], object]) -> bool:
    """Whether CHECK() is true in a forked child."""
    child = os.fork()
    if not child:
        result = 1
        try:
            result = 0 if check() else 1
        finally:
            os._exit(result)
    return os.waitpid(child, 0)[1] == 0


def test_it_is_the_engines_own() -> None:
    one, two = ladewerk.ImportEngine(), ladewerk.ImportEngine()
    one.acquire_lock()
    one.acquire_lock()
    assert one.lock_held() and not two.lock_held() and not ladewerk.sysengine.lock_held()
    inside = one.import_module("_imp")
    assert inside.lock_held()
    one.release_lock()
    inside.release_lock()
    assert not one.lock_held()
    with pytest.raises(RuntimeError):
        one.release_lock()
    with pytest.raises(RuntimeError):
        two.release_lock()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_in_a_child_nobody_else_holds_it() -> None:
    engine, held, done = ladewerk.ImportEngine(), threading.Event(), threading.Event()

    def hold() -> None:
        engine.acquire_lock()
        held.set()
        done.wait(60)
        engine.release_lock()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60) and engine.lock_held()
        assert in_child(lambda: not engine.lock_held() and engine.import_module("colorsys"))
        assert in_child(lambda: engine._imp is not None) and not in_child(lambda: False)  # the control of in_child() itself
    finally:
        done.set()
        thread.join(60)
    engine.acquire_lock()
    assert in_child(lambda: engine.lock_held() and not engine.release_lock() and not engine.lock_held())
    engine.release_lock()
