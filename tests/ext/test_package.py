# SPDX-License-Identifier: MIT
"""What is installed: one exported symbol, and no library that a process would not have anyway."""

import shutil
import subprocess

import ladewerk._live
import ladewerk._native
import pytest

EXTENSIONS = pytest.mark.parametrize("extension", [ladewerk._native, ladewerk._live], ids=lambda module: module.__name__)


def tool(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@EXTENSIONS
def test_nothing_is_exported_but_the_module(extension):
    """Static libraries (liburing) stay inside: another copy in the process is not disturbed."""
    exported = [line.split()[-1] for line in tool("nm", "-D", "--defined-only", extension.__file__).splitlines()]
    assert exported == ["PyInit_" + extension.__name__.rpartition(".")[2]]


@EXTENSIONS
def test_no_library_is_needed_but_the_system_s(extension):
    needed = {line.split("[")[1].rstrip("]").split(".")[0] for line in tool("readelf", "-d", extension.__file__).splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_io_uring_is_never_touched_by_a_program(tree):
    """It is for the command line; a sandbox may kill who tries. Control: `ladewerk doctor` asks for it, where it was built in."""
    tree.write("m.py")
    tree.learn("import m, json")

    def traced(code):
        log = tree.base / "strace"
        subprocess.run(["strace", "-f", "-o", log, "-e", "trace=io_uring_setup,execve", *tree.command(code)], env=tree.environment(), check=True, capture_output=True)
        return log.read_text()

    assert "io_uring_setup(" not in traced("import m, json") and "execve(" in traced("import m, json")
    built, _ = ladewerk._native.probe_uring()
    assert built < 0 or "io_uring_setup(" in traced("from ladewerk import _native; _native.probe_uring()")
