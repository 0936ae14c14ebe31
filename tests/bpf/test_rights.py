# SPDX-License-Identifier: MIT
"""What `ladewerk trace` says where it may not trace, or not everything: what is missing, and what would help. Nothing of this depends on the interpreter."""
from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

NOBODY = 65534


def run(*command: str, before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=before)


def works(*prefix: str) -> bool:
    return bool(shutil.which(prefix[0])) and run(*prefix, "true").returncode == 0


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Says so in a line that has these words, and with the status of what is not possible here."""
    assert (done.returncode, done.stdout) == (77, ""), done
    assert done.stderr.startswith("ladewerk trace: ") and done.stderr.count("\n") == 1, done
    for word in words:
        assert word in done.stderr, done


def in_mounts(*command: str) -> list[str]:
    """A command with mounts of its own, after the shell commands that make them."""
    if os.geteuid() != 0 or not works("unshare", "--mount"):
        pytest.skip("needs a mount namespace")
    *made, last = command
    return ["unshare", "--mount", "sh", "-c", " && ".join([*made, f'exec {last} "$@"']), "sh"]


# --- whose capabilities ---


def test_an_ordinary_user(tracer: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0 or not works("setpriv", f"--reuid={NOBODY}", "--clear-groups"):
        pytest.skip("needs root and setpriv, to become somebody else")
    # Nobody else can look into the directory of the tests.
    program = os.open(tracer, os.O_RDONLY)
    try:
        done = subprocess.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"/proc/self/fd/{program}", "--check"], capture_output=True, text=True, timeout=60, pass_fds=[program])
    finally:
        os.close(program)
    refused(done, "CAP_BPF and CAP_PERFMON are missing", "root (sudo)")


def test_root_of_a_user_namespace(tracer: str) -> None:
    """Has all capabilities, and none that count."""
    if not works("unshare", "--user", "--map-root-user"):
        pytest.skip("needs user namespaces")
    refused(run("unshare", "--user", "--map-root-user", tracer, "--check"), "those of a user namespace", "rootless container")


# --- what containers take away ---


def forbid_bpf(error: int) -> None:
    """As seccomp profiles of containers do it: bpf(2) fails with ERROR."""
    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    fail, allow = 0x00050000 | error, 0x7FFF0000
    steps = [(load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, fail), (answer, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, program) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="knows the number of bpf(2) there only")
def test_a_seccomp_profile(tracer: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who would be allowed otherwise")
    refused(run(tracer, "--check", before=lambda: forbid_bpf(errno.EPERM)), "although the capabilities are there", "seccomp")
    refused(run(tracer, "--check", before=lambda: forbid_bpf(errno.ENOSYS)), "needs Linux 5.15 with CONFIG_BPF_SYSCALL")


def test_without_proc_and_sys(tracer: str) -> None:
    refused(run(*in_mounts("mount -t tmpfs none /sys", tracer), "--check"), "/sys is not mounted")
    refused(run(*in_mounts("mount -t tmpfs none /proc", tracer), "--check"), "needs /proc")


# --- what kernels lack ---


def test_without_btf_only_waits_are_missing(tracer: str, tmp_path: Path) -> None:
    hidden = in_mounts("mount -t tmpfs none /sys/kernel/btf", tracer)
    out = tmp_path / "trace.json"
    done = run(*hidden, "--json", "-o", str(out), "--", sys.executable, "-I", "-S", "-c", "import colorsys")
    assert done.returncode == 0 and "imports only" in done.stderr and "/sys/kernel/btf/vmlinux" in done.stderr, done
    *events, end = [json.loads(line) for line in out.read_text().splitlines()]
    assert [event["total_ns"] > 0 for event in events if event.get("module") == "colorsys"] == [True]
    assert not any("total" in event for event in events) and end["lost"] == 0 and "btf" in end["note"].lower()
    refused(run(*hidden, "--sched", "--", "true"), "/sys/kernel/btf/vmlinux")
    # It is not asked for, so nothing is missing.
    done = run(*hidden, "--no-sched", "-o", os.devnull, "--", sys.executable, "-c", "pass")
    assert done.returncode == 0 and "imports only" not in done.stderr, done


def test_an_older_kernel(tracer: str) -> None:
    """That has no uprobe_multi links gets a perf event for each probe. The number of the version decides."""
    if not works("setarch", "--uname-2.6"):
        pytest.skip("needs setarch")
    done = run("setarch", "--uname-2.6", tracer, "--sched", "--json", "--", sys.executable, "-I", "-S", "-c", "import colorsys")
    assert done.returncode == 0, done
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["failed"] for event in events if event.get("module") == "colorsys"] == [False] and events[-1]["lost"] == 0
