# SPDX-License-Identifier: MIT
"""Children forked from a program that has done its imports, and what the kernel says about their memory.

Runs inside the program under test. Pages of a mapped file are not inherited by fork but faulted in by whoever reads them,
so each child imports one of the program's packages once more: that reads the cache as a worker does, and all children
are alive, and have done so, when the first one looks.
"""
import importlib
import os
import sys

FIELDS = ("Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty")


def total(lines):
    """kB by field, over all mappings in these lines of an smaps file."""
    sums = dict.fromkeys(FIELDS, 0)
    for line in lines:
        name, _, rest = line.partition(":")
        if name in sums:
            sums[name] += int(rest.split()[0])
    return sums


def mapped(suffix):
    """The lines of /proc/self/smaps that belong to files whose name ends like this."""
    inside, lines = False, []
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            head = line.split(None, 5)
            if not head[0].endswith(":"):  # 7f12...-7f13... r--p 00000000 fe:00 12345 /path
                inside = bool(suffix) and len(head) == 6 and head[5].rstrip("\n").endswith(suffix)
            elif inside:
                lines.append(line)
    return lines


def memory(suffix):
    with open("/proc/self/smaps_rollup") as rollup:
        return {"all": total(rollup), "cache": total(mapped(suffix))}


def import_again(package):
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
    importlib.import_module(package)


def child(package, suffix, ready, result, measure, leave):
    import_again(package)
    os.write(ready, b".")
    os.read(measure, 1)  # ends when the parent closes the other end: all have imported
    os.write(result, repr(memory(suffix)).encode() + b"\n")  # shorter than PIPE_BUF: arrives in one piece
    os.read(leave, 1)  # all have been looked at


def guarded(ready, body, *arguments):
    """A child never returns into the program, and one that fails says so instead of being waited for."""
    try:
        body(*arguments)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os.write(ready, b"!")
        os._exit(1)
    os._exit(0)


def run(count, package, suffix):
    """Prints a line for each child and one for the parent, all taken while all are alive."""
    ready, result, measure, leave = os.pipe(), os.pipe(), os.pipe(), os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            os.close(measure[1])
            os.close(leave[1])
            guarded(ready[1], child, package, suffix, ready[1], result[1], measure[0], leave[0])
    for _ in range(count):
        if os.read(ready[0], 1) != b".":
            raise SystemExit("a forked child failed")
    os.close(measure[1])
    with open(result[0]) as lines:
        for _ in range(count):
            print("@child", lines.readline(), end="")
    print("@parent", memory(suffix))
    os.close(leave[1])
    for _ in range(count):
        os.wait()
