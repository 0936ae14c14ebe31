# SPDX-License-Identifier: MIT
"""What the .pth file puts into an interpreter that is to be accelerated: the first import of the program activates Ladewerk, and is its first.

An interpreter that imports nothing (``python -c pass``, a script of three lines) never loads the extension. This file runs at every start of an environment
that Ladewerk is installed in, so it is short.
"""
import _frozen_importlib as bootstrap
import sys
from os import environ, stat

# What is attempted at every start, before the program: by `site`, and by the sitecustomize of Debian and Ubuntu.
NOT_THE_PROGRAM = {"sitecustomize", "usercustomize", "apport_python_hook"}
# What activates it itself, once it is there. What is imported for it (codecs, under -X dev) comes too early: `load` would load the extension within its own import.
OURS = {"ladewerk", "ladewerk._native"}

waiting = []  # one item for as long as we wait: whoever takes it activates


def make(bootstrap, original, now, NOT_THE_PROGRAM, OURS):
    """The function that stands in for _find_and_load until the first import."""
    importing = []

    def first(name, import_):
        if name in OURS:
            importing.append(name)
            try:
                return original(name, import_)
            finally:
                importing.pop()
        if name not in NOT_THE_PROGRAM and not importing and now():
            return bootstrap._find_and_load(name, import_)
        return original(name, import_)

    # To the interpreter, which removes such frames from tracebacks, and to whoever walks up the stack it is one of importlib's.
    code = first.__code__.replace(co_filename="<frozen importlib._bootstrap>", co_name="_call_with_frames_removed")
    return type(first)(code, vars(bootstrap), None, None, first.__closure__)


def wait():
    """Have it activated by the first import."""
    original = bootstrap._find_and_load

    def now():
        """Activate it, if nobody has yet: True. Says nothing: `ladewerk.stats()` tells why it is not active."""
        restored = bootstrap._find_and_load is first
        if restored:
            bootstrap._find_and_load = original
        try:
            waiting.pop()
        except IndexError:
            return restored
        try:
            load().boot(True)
        except Exception:  # half uninstalled: stock Python goes on
            pass
        return restored  # if not, somebody has wrapped us: it stays inactive, and says why

    first = make(bootstrap, original, now, NOT_THE_PROGRAM, OURS)
    waiting.append(now)
    bootstrap._find_and_load = first


def load(name="ladewerk._native"):
    """It, from beside us: by now sys.path and sys.meta_path are the program's, which may have a `ladewerk` of its own."""
    module = sys.modules.get(name)
    if module is None:
        finder = sys.modules["_frozen_importlib_external"].PathFinder
        spec = finder.find_spec(name, [__file__.rpartition("/")[0] + "/ladewerk"])
        module = bootstrap._load(spec)
    return module


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


if "ladewerk._native" not in sys.modules and asked():
    wait()
if "LADEWERK_RELOADED" in environ:  # `ladewerk run --reload` has started this process
    load("ladewerk._rerun_child").begin(environ.pop("LADEWERK_RELOADED"))
if "LADEWERK_LAZY_CHECK" in environ:  # `ladewerk lazy-check` has started this process
    load("ladewerk._lazy_probe").begin(environ["LADEWERK_LAZY_CHECK"])
