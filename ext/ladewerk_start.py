# SPDX-License-Identifier: MIT
"""What the .pth file puts into an interpreter that is to be accelerated: the first import of the program activates Ladewerk, and is its first.

An interpreter that imports nothing (``python -c pass``, a script of three lines) never loads the extension. This file runs at every start of an environment
that Ladewerk is installed in, so it is short.
"""
import _frozen_importlib as bootstrap
import sys
from os import environ, stat

# What is attempted at every start, before the program: by `site`, and by the sitecustomize of Debian and Ubuntu. And what we need ourselves.
NOT_THE_PROGRAM = {"sitecustomize", "usercustomize", "apport_python_hook", "ladewerk", "ladewerk._native"}

original = None  # importlib._bootstrap._find_and_load, once we wait
waiting = False


def first(name, import_):
    """Stands in for _find_and_load until the first import."""
    if name not in NOT_THE_PROGRAM and now():
        return bootstrap._find_and_load(name, import_)
    return original(name, import_)


def wait():
    """Have it activated by the first import."""
    global original, waiting
    if original or "ladewerk" in sys.modules:
        return
    # To the interpreter, which removes such frames from tracebacks, it is one of importlib's.
    first.__code__ = first.__code__.replace(co_filename="<frozen importlib._bootstrap>", co_name="_call_with_frames_removed")
    original = bootstrap._find_and_load
    bootstrap._find_and_load = first
    waiting = True


def now():
    """Activate it, if it was to be: True. Says nothing: `ladewerk.stats()` tells why it is not active."""
    global waiting
    if not waiting:
        return False
    waiting = False
    wrapped = bootstrap._find_and_load is not first  # by somebody else: then it stays inactive, and says why
    if not wrapped:
        bootstrap._find_and_load = original
    try:
        from ladewerk import _native
        _native.boot(True)
    except Exception:  # half uninstalled: stock Python goes on
        pass
    return not wrapped


def asked():
    """Whether to: LADEWERK says so, or this environment is enabled (`ladewerk enable` leaves a file there, or beside us)."""
    setting = environ.get("LADEWERK")
    if setting == "0":
        return False
    if setting and not sys.flags.ignore_environment:
        return True
    environment = "%s/lib/python%d.%d/site-packages" % (sys.prefix, *sys.version_info[:2])
    for directory in (__file__.rpartition("/")[0], environment):
        try:
            stat(directory + "/ladewerk_enabled.pth")
            return True
        except OSError:
            pass
    return False


if asked():
    wait()
