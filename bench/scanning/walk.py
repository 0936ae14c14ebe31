# SPDX-License-Identifier: MIT
"""The rival in Python: all sources below ROOT with mtime and size, by os.scandir, as fast as one process can.

    walk.py ROOT

What helps, as measured: no path is made for an entry that needs none, a source is looked at relative to its open directory (the
kernel need not find the way again), and the collector is off, for nothing here is garbage before the end.
"""
import gc
import os
import sys

gc.disable()


def walk(root: str) -> list[tuple[str, str, int, int]]:
    """(directory, name, mtime_ns, size) of each source."""
    found, todo = [], [root]
    while todo:
        directory = todo.pop()
        file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        with os.scandir(file) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".py"):
                    if entry.is_file(follow_symlinks=False):
                        stat = entry.stat(follow_symlinks=False)
                        found.append((directory, name, stat.st_mtime_ns, stat.st_size))
                elif entry.is_dir(follow_symlinks=False) and name != "__pycache__" and name != "node_modules" and name[0] != ".":
                    todo.append(f"{directory}/{name}")
        os.close(file)
    return found


print(f'{{"sources": {len(walk(sys.argv[1]))}}}', flush=True)
os._exit(0)  # a million tuples need not be given back one by one
