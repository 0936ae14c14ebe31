# SPDX-License-Identifier: MIT
"""For children of test_unmarshal.py: whether two object graphs, one from marshal and one from Ladewerk, are twins: nothing tells one from the other."""

import marshal
import struct
import sys
import types

from ladewerk import _native

CODE = [name for name in dir(types.CodeType) if name.startswith("co_") and not callable(getattr(types.CodeType, name)) and name != "co_lnotab"]


class Differs(Exception):
    pass


def interned(text):
    """Asked with a copy: an interned string is what it is interned as."""
    return sys.intern("".join(list(text))) is text


def check_leaf(a, b, where):
    if isinstance(a, float):
        same = struct.pack("d", a) == struct.pack("d", b)
    elif isinstance(a, complex):
        same = struct.pack("dd", a.real, a.imag) == struct.pack("dd", b.real, b.imag)
    elif isinstance(a, str):
        same = a is b or (a == b and not interned(a) and not interned(b))
    else:
        same = a == b
    if not same:
        raise Differs(f"{where}: {a!r} and {b!r}")


def check(a, b, where="", seen=None):
    """Raises Differs. What is one object here must be one object there."""
    seen = {} if seen is None else seen
    if id(a) in seen or (id(b), 1) in seen:
        if seen.get(id(a)) is not b:
            raise Differs(f"{where}: shared on one side only")
        return
    if type(a) is not type(b):
        raise Differs(f"{where}: {type(a)} and {type(b)}")
    if a is not b:
        seen[id(a)], seen[id(b), 1] = b, a
    if isinstance(a, types.CodeType):
        for name in CODE:
            if name in ("co_code", "co_varnames", "co_cellvars", "co_freevars"):  # made when asked for
                if getattr(a, name) != getattr(b, name):
                    raise Differs(f"{where}.{name}")
            else:
                check(getattr(a, name), getattr(b, name), f"{where}.{name}", seen)
    elif isinstance(a, (tuple, frozenset)):
        if len(a) != len(b):
            raise Differs(f"{where}: {len(a)} and {len(b)} items")
        for i, (x, y) in enumerate(zip(a, b)):
            check(x, y, f"{where}[{i}]", seen)
    else:
        check_leaf(a, b, where)


def outcome(read, data):
    try:
        return read(data), None
    except Exception as error:
        return None, (type(error), str(error))


def compare(data, where):
    """The same object, or the same exception. Whether it was an object."""
    ours, our_error = outcome(_native.unmarshal, data)
    stocks, stock_error = outcome(marshal.loads, data)
    if our_error != stock_error:
        raise Differs(f"{where}: {stock_error} and {our_error}")
    if not our_error:
        check(stocks, ours, where)
    return not our_error


def read_here():
    """How many streams were not left to CPython so far; None: all are."""
    import ladewerk
    unmarshal = ladewerk.stats()["unmarshal"]
    return unmarshal["modules"] if unmarshal["reason"] is None else None
