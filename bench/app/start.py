# SPDX-License-Identifier: MIT
"""`sitecustomize` of the bench's overlay, which PYTHONPATH leads to: what a start under measurement has that a stock one has not.

It switches on what LADEWERK or LADEWERK_BENCH asks for, takes the overlay out of sys.path, so that the program has the path that it always has, and makes way
for the `sitecustomize` of the environment. Where LADEWERK=0 and nothing else is asked for it does nothing: the overlay's `ladewerk` command is run so.

LADEWERK_BENCH: `gc` (collector off); `report:FILE` (Ladewerk's own report of this process, not of its children); `probe:KIND:FILE` (probe.py, likewise).
"""
import sys
from os import environ, getpid

HERE = __file__.rpartition("/")[0]


def first_process():
    """Whether this is the process that was started, also after it has executed another interpreter; children are not."""
    pid = str(getpid())
    return environ.setdefault("LADEWERK_BENCH_PID", pid) == pid


def begin(what, rest):
    if what == "gc":
        import gc
        gc.disable()
    elif what == "report" and first_process():
        environ["LADEWERK_REPORT"] = f"{getpid()}:json:{rest}"
    elif what == "probe" and first_process():
        kind, _, file = rest.partition(":")
        # To tracebacks and warnings, and to whoever walks up the stack, the probe's functions are importlib's.
        name = "<frozen importlib._bootstrap>"
        with open(HERE + "/probe.py", encoding="utf-8") as stream:
            code = compile(stream.read(), name, "exec")
        space = {"__name__": "importlib._probe"}
        exec(code, space)
        space["begin"](kind, file)


def make_way():
    """The program's path and its own sitecustomize, if it has one."""
    me = sys.modules.pop("sitecustomize")
    sys.path[:] = [entry for entry in sys.path if entry != HERE]
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = me


def main():
    on = environ.get("LADEWERK") != "0"
    what, _, rest = environ.get("LADEWERK_BENCH", "").partition(":")
    if not on and not what:
        return
    if on:
        begin(what, rest)
        import ladewerk_start  # noqa: F401
        make_way()
    else:
        make_way()
        begin(what, rest)


main()
