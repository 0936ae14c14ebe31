# SPDX-License-Identifier: MIT
"""`ladewerk index`: the walk and the store are C; compiling is Python's own, in worker processes when there is much of it."""
from __future__ import annotations

import errno
import json
import marshal
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader

from ladewerk import _native
from ladewerk.cli import OK, Failure, complain

FEW = 100  # sources; below that starting processes costs more than it saves
CHUNK = 16
SHOWN = 10

Job = tuple[int, str]
Compiled = tuple[int, str, bytes, bytes | None, str]  # number, path, source, code or None, what is wrong with it


# --- compiling ----------------------------------------------------------------------------------------------------------


def _describe(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _compile(job: Job) -> Compiled:
    number, path = job
    source = b""
    try:
        with open(path, "rb") as file:
            source = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for whoever imports it first, not for whoever indexes it
            code = SourceFileLoader("", path).source_to_code(source, path)
        return number, path, source, marshal.dumps(code), ""
    except Exception as error:  # besides SyntaxError: null bytes, too deep, unreadable, gone
        return number, path, source, None, _describe(error)


def _worker_init() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[Compiled]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    try:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _worker_init)
    except (ImportError, OSError):  # no semaphores here (a container without /dev/shm)
        yield from map(_compile, jobs)
        return
    try:
        yield from pool.map(_compile, jobs, chunksize=CHUNK)
    except BrokenProcessPool:
        raise Failure("a compiling process died, perhaps for want of memory; try --threads 1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def compile_all(jobs: Sequence[Job], workers: int) -> Iterator[Compiled]:
    workers = min(workers, len(jobs) // FEW + 1)
    return _in_processes(jobs, workers) if workers > 1 else map(_compile, jobs)


# --- progress -----------------------------------------------------------------------------------------------------------


@contextmanager
def _progress(quiet: bool, text: Callable[[], str]) -> Iterator[None]:
    """A line on the terminal that follows TEXT() while the body runs."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def follow() -> None:
        while not done.wait(0.1):
            print(f"\r\x1b[K{text()}", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# --- roots --------------------------------------------------------------------------------------------------------------


def _default_roots() -> list[str]:
    """The directories of sys.path, without the one that only says where we were started (`python -m` puts it first)."""
    path = sys.path if sys.flags.safe_path else sys.path[1:]
    roots = []
    for root in dict.fromkeys(os.path.abspath(entry) for entry in path if entry):
        if not os.path.isdir(root):
            continue
        if os.access(root, os.R_OK | os.X_OK):
            roots.append(root)
        else:
            complain(f"index: {root} is left out: it cannot be read")
    return roots


def _given_roots(given: Sequence[str]) -> list[str]:
    roots = []
    for root in given:
        try:
            with os.scandir(root):
                # The path as a program has it in sys.path: absolute, links kept.
                path = os.path.abspath(root)
        except OSError as error:
            raise _bad_root(root or "''", error) from None
        roots.append(path)
    return list(dict.fromkeys(roots))


def _bad_root(root: str, error: OSError) -> Failure:
    what = {errno.ENOENT: "there is no such directory", errno.ENOTDIR: "not a directory", errno.EACCES: "you may not read it"}
    return Failure(f"{root}: {what.get(error.errno or 0, error.strerror)}; nothing was stored")


# --- the command --------------------------------------------------------------------------------------------------------


def _open() -> _native.Builder:
    if not sys.flags.ignore_environment and os.environ.get("LADEWERK_READONLY", "0") not in ("", "0"):
        raise Failure("LADEWERK_READONLY is set, so nothing may be written; unset it for this command")
    try:
        return _native.Builder()
    except (OSError, RuntimeError) as error:
        raise Failure(str(error)) from None


def _cannot_write(error: OSError) -> Failure:
    place = _native.place()[0]
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(f"no space left for {place}; free some, or set LADEWERK_CACHE to a directory on another disk; what was stored before is still there")
    if error.errno == errno.EFBIG:
        return Failure(f"{place} lies on a network file system, where at most 32 MB are kept; set LADEWERK_CACHE to a directory on a local disk")
    return Failure(f"cannot write to {place} ({error.strerror}); what was stored before is still there")


def _build(builder: _native.Builder, roots: list[str], quiet: bool, threads: int) -> list[tuple[str, str]]:
    """Everything but storing it. Returns the sources that do not compile, and why."""
    with _progress(quiet, lambda: f"reading directories: {builder.progress:,} entries"):
        try:
            sources = builder.scan(roots, threads)["sources"]
        except OSError as error:
            raise _bad_root(os.fsdecode(error.filename or "?"), error) from None
    with _progress(quiet, lambda: f"reading code: {builder.progress:,} of {sources:,} modules"):
        jobs = builder.gather()
    bad = []
    done = 0
    with _progress(quiet, lambda: f"compiling: {done:,} of {len(jobs):,} modules"):
        for number, path, source, code, wrong in compile_all(jobs, threads or min(len(os.sched_getaffinity(0)), 8)):
            if code is None:
                bad.append((path, wrong))
            else:
                builder.add(number, source, code)
            done += 1
    return bad


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            break
        count /= 1000
    else:
        unit = "GB"
    return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _report(facts: dict[str, object], stats: _native.BuildStats, bad: list[tuple[str, str]], roots: list[str]) -> None:
    print(f"read       {_count(stats['directories'], 'directory', 'directories')}, {_count(stats['modules'], 'importable name', 'importable names')}, "
          f"{_count(stats['sources'], 'source', 'sources')} in {_count(len(roots), 'root', 'roots')}")
    print(f"code       {_size(stats['code_bytes'])}: {stats['from_pyc']:,} from .pyc files, {stats['compiled']:,} compiled")
    print(f"stored     {_size(stats['index_bytes'])} in {facts['cache']}")
    print(f"took       {facts['seconds']:.1f} s")
    if stats["links_left"]:
        print(f"left out   {_count(stats['links_left'], 'link', 'links')} to directories, met below another link")
    if stats["unreadable"]:
        print(f"left out   {_count(stats['unreadable'], 'directory', 'directories')} that cannot be read")
    if stats["skipped"]:
        print(f"left out   {_count(stats['skipped'], 'source', 'sources')} (being changed, unreadable, or with a hash-based .pyc)")
    if bad:
        print(f"left out   {_count(len(bad), 'source that does', 'sources that do')} not compile:")
        for path, wrong in bad[:SHOWN]:
            print(f"             {path}: {wrong}")
        if len(bad) > SHOWN:
            print(f"             and {len(bad) - SHOWN:,} more; --json names them all")


def main(given: Sequence[str], *, quiet: bool, as_json: bool, threads: int) -> int:
    begun = time.perf_counter()
    roots = _given_roots(given) if given else _default_roots()
    builder = _open()
    try:
        bad = _build(builder, roots, quiet, threads)
        with _progress(quiet, lambda: "storing"):
            cache = builder.write()
    except OSError as error:
        raise _cannot_write(error) from None
    stats = builder.stats()
    facts: dict[str, object] = {"cache": cache, "roots": roots, "seconds": time.perf_counter() - begun}
    if as_json:
        faults = [{"file": path, "error": wrong} for path, wrong in bad]
        print(json.dumps({**stats, "scan_seconds": stats["seconds"], **facts, "not_compiled": faults}, indent=2))
    elif not quiet:
        _report(facts, stats, bad, roots)
    return OK
