# SPDX-License-Identifier: MIT
"""What a reader must know about the machine and the versions before a number means anything; no names, no paths."""
from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_PYTHON = """\
import json, platform, sys, sysconfig
from importlib import metadata
flags = (sysconfig.get_config_var("CONFIG_ARGS") or "")
print(json.dumps({
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
    "pgo": "--enable-optimizations" in flags,
    "lto": "--with-lto" in flags,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
    "packages": {d.name: d.version for d in metadata.distributions()},
}))
"""


def first_line(*command: str) -> str | None:
    """What a program prints first, as for --version; None for one that is not there."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0].replace("-- version ", "").strip() if done.returncode == 0 and done.stdout else None


def _field(file: str, name: str) -> str | None:
    """Value of the first `name : value` line of a /proc file."""
    for line in Path(file).read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _filesystem(path: Path) -> str:
    """Type of the file system that `path` is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines():
        _, mount, fstype, *_ = line.split(" ")
        inside = path.is_relative_to(mount.encode().decode("unicode_escape"))
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind


def machine(work: Path) -> dict[str, Any]:
    """The hardware and the kernel; `work` is a directory on the file system under test."""
    memory = int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0])
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in (_field("/proc/cpuinfo", "flags") or "").split(),
        "memory_gib": round(memory / 2**20, 1),
        "kernel": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "filesystem": _filesystem(work.resolve()),
        "governor": _setting(_CPUFREQ / "scaling_governor"),
        "cpufreq": _setting(_CPUFREQ / "scaling_driver"),
        "turbo": _turbo(),
        "threads_per_core": _threads_per_core(),
        "clocksource": _setting(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "container": _container(),
        "cpu_limit": _cpu_limit(),
    }


_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def _setting(file: Path) -> str | None:
    """What a file of the kernel's says; None where there is none, or not for us."""
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _turbo() -> bool | None:
    """Whether the clock may rise above what the processor is sold with; None: nobody says."""
    if (off := _setting(Path("/sys/devices/system/cpu/intel_pstate/no_turbo"))) is not None:
        return off == "0"
    boost = _setting(Path("/sys/devices/system/cpu/cpufreq/boost"))
    return None if boost is None else boost == "1"


def _threads_per_core() -> int | None:
    siblings = _setting(Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list"))
    if siblings is None:
        return None
    ends = [part.split("-") for part in siblings.split(",")]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


def _container() -> str | None:
    """What kind of container this is, as far as containers say so."""
    for file, kind in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if Path(file).exists():
            return kind
    return _setting(Path("/run/systemd/container")) or os.environ.get("container")


def _cpu_limit() -> float | None:
    """How many processors' time the control group may use; None: all."""
    limit = _setting(Path("/sys/fs/cgroup/cpu.max"))
    if limit is None:
        limit = " ".join(_setting(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")) or "-1" for name in ("quota", "period"))
    quota, period = limit.split()
    return None if quota in ("max", "-1") else round(int(quota) / int(period), 2)


def interpreter(python: Path) -> dict[str, Any]:
    """Version, build flags and installed packages of an interpreter."""
    found: dict[str, Any] = json.loads(subprocess.run([python, "-c", _PYTHON], check=True, capture_output=True, text=True).stdout)
    return found


def key(python: dict[str, Any]) -> str:
    """What an interpreter is called in reports: "3.11", "3.13t"."""
    major, minor, *_ = python["version"].split(".")
    return f"{major}.{minor}{'t' if python['free_threaded'] else ''}"


def tools() -> dict[str, Any]:
    """Versions of the programs that measure; None for one that is not there."""
    return {"hyperfine": first_line("hyperfine", "--version"), "strace": first_line("strace", "--version")}


class Neighbours:
    """How much of the machine others used, and a hypervisor took, from now until report()."""

    def __init__(self) -> None:
        self.load = os.getloadavg()[0]
        self.clock, self.busy, self.stolen, self.own = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float, float]:
        """Seconds: wall, CPU of the whole machine, CPU stolen from it, CPU of this process and what it started."""
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, _, _, irq, softirq, steal = (int(n) / tick for n in _cpu_line().split()[1:9])
        usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.monotonic(), user + nice + system + irq + softirq, steal, sum(u.ru_utime + u.ru_stime for u in usage)

    def report(self) -> dict[str, Any]:
        """Shares of the machine's CPU time, 0 to 1, and the load before the start."""
        clock, busy, stolen, own = self._now()
        capacity = (clock - self.clock) * (os.cpu_count() or 1)
        others = max(0.0, (busy - self.busy) - (own - self.own))
        return {
            "load_before": round(self.load, 2),
            "others": round(others / capacity, 3),
            "stolen": round((stolen - self.stolen) / capacity, 3),
        }


def _cpu_line() -> str:
    with open("/proc/stat") as stat:
        return stat.readline()
