# SPDX-License-Identifier: MIT
"""The USDT probes are there, are switched on by their semaphores, and say who imports what: asked of the kernel's own uprobes."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import uuid

import pytest

from ladewerk import _native

KERNEL = os.environ.get("LADEWERK_REQUIRE_KERNEL", "0") != "0"
TRACING = pathlib.Path("/sys/kernel/tracing")
NAMES = {"import__start": 2, "import__done": 3, "wait__begin": 2, "wait__end": 2}

pytestmark = [pytest.mark.skipif(not _native.has_probes, reason="built without <sys/sdt.h>"),
              pytest.mark.skipif(not shutil.which("readelf"), reason="no readelf")]


def readelf(*options):
    return subprocess.run(["readelf", "-W", *options, _native.__file__], check=True, capture_output=True, text=True).stdout


def file_offset(address):
    """Where what is loaded at ADDRESS stands in the file."""
    for line in readelf("-l").splitlines():
        fields = line.split()
        if fields[:1] == ["LOAD"]:
            offset, start, size = int(fields[1], 16), int(fields[2], 16), int(fields[4], 16)
            if start <= address < start + size:
                return offset + address - start
    raise AssertionError(hex(address))


@pytest.fixture(scope="module")
def probes():
    """name -> [(file offset, file offset of the semaphore, argument texts), ...]"""
    found = {}
    notes = readelf("-n")
    pattern = r"Provider: ladewerk\s+Name: (\w+)\s+Location: (\w+), Base: \w+, Semaphore: (\w+)\s+Arguments: (.*)"
    for name, location, semaphore, arguments in re.findall(pattern, notes):
        found.setdefault(name, []).append((file_offset(int(location, 16)), file_offset(int(semaphore, 16)), arguments.split()))
    return found


def test_every_probe_has_a_semaphore_and_arguments(probes):
    assert set(probes) == set(NAMES)
    for name, places in probes.items():
        for _, semaphore, arguments in places:
            assert semaphore and len(arguments) == NAMES[name]


# --- fired for real -----------------------------------------------------------------------------------------------------

X86 = {f"%r{r}": f"%{r}" for r in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")} | {f"%r{n}": f"%r{n}" for n in range(8, 16)}


def as_string(argument):
    """What uprobe_events calls the string that an argument points to; None if this test does not know the form."""
    size, _, place = argument.partition("@")
    memory = re.fullmatch(r"(-?\d*)\((%\w+)\)", place)
    if place in X86:
        return f"+0({X86[place]}):string"
    if memory and memory[2] in X86:
        return f"+0(+{int(memory[1] or 0)}({X86[memory[2]]})):string"
    return None


def tell(line):
    """One command; Python's own append mode seeks, which is not possible there."""
    fd = os.open(TRACING / "uprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, (line + "\n").encode())
    finally:
        os.close(fd)


@contextlib.contextmanager
def tracing(probes, *names):
    """Count the probes; yields a function that returns [(name, importee, importer), ...] so far."""
    if not (TRACING / "uprobe_events").exists():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=False, capture_output=True)
    if not os.access(TRACING / "uprobe_events", os.W_OK):
        (pytest.fail if KERNEL else pytest.skip)("no tracefs to write to (root, CONFIG_UPROBE_EVENTS)")
    group = "lw" + uuid.uuid4().hex[:8]
    events = []
    instance = TRACING / "instances" / group
    instance.mkdir()
    try:
        for name in names:
            for number, (offset, semaphore, arguments) in enumerate(probes[name]):
                strings = [as_string(argument) for argument in arguments[:2]]
                if None in strings:
                    pytest.skip(f"arguments in a form that this test does not know: {arguments}")
                event = f"{group}/{name}_{number}"
                line = f"p:{event} {_native.__file__}:{offset:#x}({semaphore:#x}) importee={strings[0]} importer={strings[1]}"
                tell(line)
                events.append(event)
                (instance / "events" / event / "enable").write_text("1")
        pattern = rf"(\w+?)_\d+: \(.*\) importee=\"(.*)\" importer=\"(.*)\""
        yield lambda: [m.groups() for m in re.finditer(pattern, (instance / "trace").read_text())]
    finally:
        for event in events:
            (instance / "events" / event / "enable").write_text("0")
            tell(f"-:{event}")
        instance.rmdir()


def names(*names):
    """Of this run's own: a probe is in all processes that have the file, those of other tests as well."""
    return [f"{name}_{uuid.uuid4().hex[:8]}" for name in names]


def test_probes_fire(tree, probes):
    if os.uname().machine != "x86_64":
        pytest.skip("this test knows the registers of x86-64 only")
    outer, inner = names("outer", "inner")
    tree.write(f"{outer}.py", f"import {inner}\n")
    tree.write(f"{inner}.py", "value = 1\n")
    with tracing(probes, "import__start", "import__done") as events:
        tree.run(f"import {outer}")
        seen = events()
    ours = [event for event in seen if event[1] in (outer, inner)]
    assert ours == [("import__start", outer, "__main__"), ("import__start", inner, outer), ("import__done", inner, outer), ("import__done", outer, "__main__")]


def test_waits_fire(tree, probes):
    if os.uname().machine != "x86_64":
        pytest.skip("this test knows the registers of x86-64 only")
    (slow,) = names("slow")
    tree.write(f"{slow}.py", "import __main__, time\n__main__.begun.set()\ntime.sleep(0.2)\n")
    with tracing(probes, "wait__begin", "wait__end") as events:
        tree.run(f"""
            import threading
            begun = threading.Event()
            thread = threading.Thread(target=__import__, args=({slow!r},))
            thread.start()
            begun.wait()
            import {slow}
            thread.join()
            """)
        seen = [event for event in events() if event[1] == slow]
    assert seen == [("wait__begin", slow, "__main__"), ("wait__end", slow, "__main__")]


def test_nobody_listens_nothing_is_observed(tree):
    """Control: without a tracer no span is begun."""
    assert tree.run("import ladewerk._native as n, colorsys, json; print(json.dumps(len(n.records())))").json() == 0
