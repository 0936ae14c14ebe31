#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A disk that needs 0.5 ms for every read and serves many reads at the same time, with files on it.

    slowdisk.py --clean DIR      removes what a run that was killed has left mounted below DIR

    DIR/image          the file system (ext4, no journal), filled without any delay and kept for the next run
    DIR/slow/image     the same file through bench/micro/delayfs.c (FUSE): each read is answered 0.5 ms late, all at the same time
    /dev/loopN         on DIR/slow/image, with direct IO: its reads go to FUSE one by one, as they are, up to 128 at a time
    DIR/tree           the ext4 on it; mounted anew before each run, which leaves nothing of it in the kernel's memory

Read-ahead is off unless it is asked for, for data and for inode tables: each block that is needed is one request, as each look-up is on a network file system.
Writes are not late. Root is needed. Nothing else of the machine is slowed down or evicted.
"""
from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tree

BLKFLSBUF = 0x1261  # linux/fs.h
DELAY_US = 500
CLIENTS = 64
READ_AHEAD_KB = 128  # the kernel's own
_BYTES = 6 * 1024  # of the image per entry: a small file's block, its inode, byte code files without blocks
_SPARE = 64 * 2**20
_PATIENCE = 60.0  # seconds until the file system is there: its image is read first


class Unavailable(Exception):
    """Why there is no slow disk here; one line for a report."""


@dataclass(frozen=True)
class Check:
    """What random reads of 4 KiB on the disk take, by one client and by CLIENTS of them at once."""

    one_ms: float
    all_ms: float

    @property
    def at_once(self) -> float:
        """How many times the reads per second of one client."""
        return CLIENTS * self.one_ms / self.all_ms

    @property
    def holds(self) -> bool:
        """One waits for the delay and little more; many wait together (where CPU time runs out, fewer than all of them)."""
        return DELAY_US / 1000 <= self.one_ms < 2 * DELAY_US / 1000 and self.at_once > CLIENTS / 4


@dataclass(frozen=True)
class Content:
    """What lies on a disk: FILL writes it into a directory. An image with the same STAMP and size is not made again."""

    stamp: str
    size: int  # bytes at most
    inodes: int
    fill: Callable[[Path], object]


def of_tree(shape: tree.Shape) -> Content:
    """Written through the file system's own allocator, as if by a checkout."""
    return Content(f"tree {tree.FORMAT} {shape} {_BYTES}\n", shape.entries * _BYTES, 2 * shape.entries, lambda root: tree.generate(root, shape))


def _run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise Unavailable(f"{Path(argv[0]).name}: {last}")
    return done.stdout.strip()


def _mounts_below(top: Path) -> list[Path]:
    """Mount points, the latest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        mount = Path(line.split(" ")[4].encode(errors="surrogateescape").decode("unicode_escape"))
        if mount.is_relative_to(top):
            found.append(mount)
    return found[::-1]


def _loops_below(top: Path) -> list[str]:
    """Loop devices whose file lies below `top`, or lay there."""
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # gone meanwhile
            if Path(file.read_text().strip().removesuffix(" (deleted)")).is_relative_to(top):
                found.append(f"/dev/{file.parts[3]}")
    return found


def _unmount(mount: Path) -> None:
    for _ in range(20):
        if subprocess.run(["umount", mount], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    # Somebody still looks at it: it goes when they do.
    subprocess.run(["umount", "-l", mount], capture_output=True)


def clean(top: Path) -> None:
    """Takes away what is mounted below `top`, in the order in which it lies on each other; whoever serves it ends then."""
    top = top.resolve()
    mounts = _mounts_below(top)
    for mount in (m for m in mounts if m.name != "slow"):
        _unmount(mount)
    for loop in _loops_below(top):
        subprocess.run(["losetup", "-d", loop], capture_output=True)
    for mount in (m for m in mounts if m.name == "slow"):
        _unmount(mount)


class SlowDisk:
    """As a context: the disk is there, and what is on it is mounted at `root`; WRITABLE keeps what is written to it until the context ends, and
    READ_AHEAD is the kernel's own instead of none."""

    def __init__(self, top: Path, programs: Path, content: Content, writable: bool = False, read_ahead: bool = False) -> None:
        self.top, self.programs, self.content, self.writable, self.read_ahead = top.resolve(), programs, content, writable, read_ahead
        self.image, self.used, self.slow, self.tree = (self.top / name for name in ("image", "used", "slow", "tree"))
        self.server: subprocess.Popen[bytes] | None = None
        self.loop, self.held = "", -1

    def _require(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable("no slow disk: needs root")
        if not (self.programs / "bench_delayfs").exists():
            raise Unavailable("no slow disk: the programs of bench/micro are not built (cmake and a C compiler are needed)")
        if not Path("/dev/fuse").exists():
            raise Unavailable("no slow disk: there is no /dev/fuse here")
        for tool, package in (("mkfs.ext4", "e2fsprogs"), ("losetup", "mount"), ("umount", "mount")):
            if shutil.which(tool) is None:
                raise Unavailable(f"no slow disk: {tool} is missing (Debian: {package})")

    def _make_image(self) -> None:
        content = self.content
        stamp, text = self.top / "image.stamp", f"{content.size} {content.inodes}\n{content.stamp}"
        if self.image.is_file() and stamp.is_file() and stamp.read_text() == text:
            return
        stamp.unlink(missing_ok=True)
        self.image.unlink(missing_ok=True)
        with open(self.image, "wb") as file:
            file.truncate(_SPARE + content.size)
        # Tables of inodes are zero in a new sparse file already. A loop device on FUSE has sectors of 4 KiB.
        _run("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^has_journal", "-N", str(content.inodes), "-m", "0", "-E", "lazy_itable_init=1,nodiscard", self.image)
        _run("mount", "-o", "loop,noinit_itable", self.image, self.tree)
        try:
            content.fill(self.root)
        finally:
            _unmount(self.tree)
        stamp.write_text(text)

    def _serve(self) -> None:
        if self.writable:  # what it begins with stays as it is
            _run("cp", "--sparse=always", "--reflink=auto", self.image, self.used)
        argv = [str(word) for word in (self.programs / "bench_delayfs", DELAY_US, self.used if self.writable else self.image, self.slow)]
        self.server = server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0)
        deadline = time.monotonic() + _PATIENCE
        while not os.path.ismount(self.slow):
            if server.poll() is not None or time.monotonic() > deadline:
                raise Unavailable("no slow disk: the delaying file system did not start")
            time.sleep(0.05)

    def _attach(self) -> None:
        self.loop = _run("losetup", "--find", "--show", *([] if self.writable else ["--read-only"]), "--direct-io=on", self.slow / "image")
        # A device that is let go while it is open is freed by the kernel when nobody has it open or mounted any more, however we end.
        self.held = os.open(self.loop, os.O_RDONLY | os.O_CLOEXEC)
        _run("losetup", "-d", self.loop)
        device = Path("/sys/block") / Path(self.loop).name
        if (device / "loop/dio").read_text().strip() != "1":
            raise Unavailable("no slow disk: the loop device refuses direct IO, its reads would wait for each other")
        (device / "queue/read_ahead_kb").write_text(str(READ_AHEAD_KB if self.read_ahead else 0))

    def _mount(self) -> None:
        options = ["rw" if self.writable else "ro", "noatime", "noinit_itable", *([] if self.read_ahead else ["inode_readahead_blks=0"])]
        _run("mount", "-t", "ext4", "-o", ",".join(options), self.loop, self.tree)

    def __enter__(self) -> SlowDisk:
        self._require()
        for directory in (self.slow, self.tree):
            directory.mkdir(parents=True, exist_ok=True)
        clean(self.top)
        try:
            self._make_image()
            self._serve()
            self._attach()
            self._mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.held >= 0:
            os.close(self.held)
        clean(self.top)
        if self.server is not None:
            self.server.terminate()
            self.server.wait()
        self.used.unlink(missing_ok=True)

    @property
    def root(self) -> Path:
        return self.tree / "tree"

    def forget(self) -> None:
        """Nothing that is on the disk is in the kernel's memory afterwards. Unavailable: somebody else keeps it there.

        A mount namespace that was made meanwhile (a container, a sandbox) has a mount of its own, and with it all that was read; then mounting reads nothing."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            _run("umount", self.tree)
            fcntl.ioctl(self.held, BLKFLSBUF)  # blocks of the device, which is still open
            before = self.requests()
            self._mount()
            if self.requests() > before:
                return
            if time.monotonic() > deadline:
                raise Unavailable("no slow disk: another mount namespace keeps what was read of it in memory")
            time.sleep(0.2)

    def requests(self) -> int:
        """Reads that the disk has answered so far."""
        return int((self.slow / "requests").read_text())

    def _mean_ms(self, clients: int) -> float:
        out = _run(self.programs / "bench_randread", "--threads", str(clients), self.loop)
        return float(json.loads(out)["mean_ms"])

    def check(self) -> Check:
        return Check(self._mean_ms(1), self._mean_ms(CLIENTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=Path, required=True, metavar="DIR")
    clean(parser.parse_args().clean)


if __name__ == "__main__":
    main()
