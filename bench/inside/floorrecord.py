# SPDX-License-Identifier: MIT
"""Writes what the floor without any import machinery executes; never part of a timed run. In the interpreter that is measured: another one's code is none."""
import marshal


def write(listing, file):
    """LISTING has (module, its source), FILE gets (module, its code, marshalled): lists, both marshalled."""
    with open(listing, "rb") as stream:
        sources = marshal.load(stream)
    blobs = []
    for name, source in sources:
        with open(source, "rb") as stream:
            blobs.append((name, marshal.dumps(compile(stream.read(), source, "exec"))))
    with open(file, "wb") as stream:
        marshal.dump(blobs, stream)
