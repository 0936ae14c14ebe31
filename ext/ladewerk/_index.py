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
from typing import TypeVar

from ladewerk import _native
from ladewerk.cli import OK, Failure, complain

FEW = 100  # sources; below that starting processes costs more than it saves
CHUNK = 16
SHOWN = 10

Job = tuple[int, str]
AnyJob = TypeVar("AnyJob")
Done = TypeVar("Done")
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


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """A process that is interrupted before it comes to _worker_init() would die with a traceback."""
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_processes(jobs: Sequence[AnyJob], workers: int, compile_one: Callable[[AnyJob], Done]) -> Iterator[Done]:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    try:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _worker_init)
    except (ImportError, OSError):  # no semaphores here (a container without /dev/shm)
        yield from map(compile_one, jobs)
        return
    try:
        with _interrupts_later():  # map() starts the processes, and they inherit this
            results = pool.map(compile_one, jobs, chunksize=CHUNK)
        yield from results
    except BrokenProcessPool:
        raise Failure("a compiling process died, perhaps for want of memory; try --threads 1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def compile_all(jobs: Sequence[AnyJob], workers: int, compile_one: Callable[[AnyJob], Done]) -> Iterator[Done]:
    """In the order of JOBS. WORKERS 0: as many as there are processors."""
    workers = min(workers or min(len(os.sched_getaffinity(0)), 8), len(jobs) // FEW + 1)
    return _in_processes(jobs, workers, compile_one) if workers > 1 else map(compile_one, jobs)


# --- progress -----------------------------------------------------------------------------------------------------------


@contextmanager
def _progress(quiet: bool, text: Callable[[], str]) -> Iterator[None]:
    """A line on the terminal that follows TEXT() while the body runs."""
    if quiet or not sys.stderr or not sys.stderr.isatty():
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


def _given_roots(given: Sequence[str], otherwise: str = "nothing was stored") -> list[str]:
    roots = []
    for root in given:
        try:
            with os.scandir(root):
                # The path as a program has it in sys.path: absolute, links kept.
                path = os.path.abspath(root)
        except OSError as error:
            raise _bad_root(root or "''", error, otherwise) from None
        roots.append(path)
    return list(dict.fromkeys(roots))


def _outermost(roots: list[str]) -> list[str]:
    """Without those that are read as a part of another one. What is behind a link, or where no walk goes, is a root of its own."""
    def is_within(root: str, other: str) -> bool:
        below = os.path.relpath(root, other)
        names = below.split(os.sep)
        walked = all(name not in ("", os.pardir, "__pycache__", "node_modules") and "." not in name for name in names)
        return walked and os.path.realpath(root) == os.path.join(os.path.realpath(other), below)

    return [root for root in roots if not any(root != other and is_within(root, other) for other in roots)]


def _bad_root(root: str, error: OSError, otherwise: str = "nothing was stored") -> Failure:
    what = {errno.ENOENT: "there is no such directory", errno.ENOTDIR: "not a directory", errno.EACCES: "you may not read it"}
    return Failure(f"{root}: {what.get(error.errno or 0, error.strerror)}; {otherwise}")


# --- the command --------------------------------------------------------------------------------------------------------


def ask_for_lazy() -> None:
    """What is built from now on is for programs that import lazily: in any mode, since all have the same code. A project whose mode is 0 has no say in that."""
    if os.environ.get("LADEWERK_LAZY", "0") in ("", "0", "1"):
        os.environ["LADEWERK_LAZY"] = "default"


def demand_lazy(builder: _native.Builder | _native.FrozenBuilder) -> None:
    if not builder.lazy and sys.version_info < (3, 15):  # there the language has code for both
        raise Failure(f"imports cannot be lazy here ({_native.stats()['lazy']['reason']}); nothing was stored")


def _open(dry_run: bool, roots: Sequence[str], lazy: bool = False) -> _native.Builder:
    if lazy:
        ask_for_lazy()
    if dry_run:
        return _native.Builder(dry=True)
    if not sys.flags.ignore_environment and os.environ.get("LADEWERK_READONLY", "0") not in ("", "0"):
        raise Failure("LADEWERK_READONLY is set, so nothing may be written; unset it for this command")
    try:
        builder = _native.Builder(bases=(*map(os.path.abspath, filter(None, sys.path)), *roots))
    except (OSError, RuntimeError) as error:
        raise Failure(str(error)) from None
    if lazy:
        demand_lazy(builder)
    return builder


def _cannot_write(error: OSError) -> Failure:
    place = _native.place()[0]
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(f"no space left for {place}; free some, or set LADEWERK_CACHE to a directory on another disk; what was stored before is still there")
    if error.errno == errno.EFBIG:
        return Failure(f"{place} lies on a network file system, where at most 32 MB are kept; set LADEWERK_CACHE to a directory on a local disk")
    return Failure(f"cannot write to {place} ({error.strerror}); what was stored before is still there")


def _scan(builder: _native.Builder, quiet: bool, scan: Callable[[], _native.BuildStats]) -> _native.BuildStats:
    with _progress(quiet, lambda: f"reading directories: {builder.progress:,} entries"):
        try:
            return scan()
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise Failure(f"{error}; --backend pool does without") from None
            if error.filename is None:
                raise Failure(f"{error.strerror}; nothing was stored") from None
            raise _bad_root(os.fsdecode(error.filename), error) from None


def _build(builder: _native.Builder, roots: list[str], quiet: bool, threads: int, backend: str = "auto") -> list[tuple[str, str]]:
    """Everything but storing it. Returns the sources that do not compile, and why."""
    return _gather(builder, quiet, threads, _scan(builder, quiet, lambda: builder.scan(_outermost(roots), threads, backend))["sources"])


def _gather(builder: _native.Builder, quiet: bool, threads: int, sources: int) -> list[tuple[str, str]]:
    with _progress(quiet, lambda: f"reading code: {builder.progress:,} of {sources:,} modules"):
        jobs = builder.gather()
    return compile_into(builder, jobs, _compile, quiet, threads)


def compile_into(builder: _native.Builder | _native.FrozenBuilder, jobs: Sequence[AnyJob], compile_one: Callable[[AnyJob], Compiled], quiet: bool,
                 threads: int) -> list[tuple[str, str]]:
    bad = []
    done = 0
    with _progress(quiet, lambda: f"compiling: {done:,} of {len(jobs):,} modules"):
        for number, path, source, code, wrong in compile_all(jobs, threads, compile_one):
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


def _report_scan(stats: _native.BuildStats, roots: list[str]) -> None:
    print(f"read       {_count(stats['directories'], 'directory', 'directories')}, {_count(stats['modules'], 'importable name', 'importable names')}, "
          f"{_count(stats['sources'], 'source', 'sources')} in {_count(len(roots), 'root', 'roots')}")


def _per_module(stats: _native.BuildStats) -> dict[str, float]:
    """Bytes of an index, code apart, for each importable name: all of them, and without the names themselves."""
    modules = max(stats["modules"], 1)
    return {"bytes_per_module": (stats["fact_bytes"] + stats["string_bytes"]) / modules, "bytes_per_module_without_names": stats["fact_bytes"] / modules}


def _report_stats(stats: _native.BuildStats) -> None:
    cost = _per_module(stats)
    print(f"scan       {stats['entries']:,} entries in {stats['seconds']:.3f} s ({stats['cpu_seconds']:.3f} s of CPU), "
          f"{_count(stats['threads'], 'thread', 'threads')} ({stats['backend']}), {stats['syscalls']:,} system calls")
    print(f"index      {_size(stats['fact_bytes'] + stats['string_bytes'])} without code: {cost['bytes_per_module']:.1f} bytes per importable name, "
          f"{cost['bytes_per_module_without_names']:.1f} of them besides names and paths")


def _report(facts: dict[str, object], stats: _native.BuildStats, bad: list[tuple[str, str]], roots: list[str]) -> None:
    _report_scan(stats, roots)
    print(f"code       {_size(stats['code_bytes'])}: {stats['from_pyc']:,} from .pyc files, {stats['compiled']:,} compiled")
    print(f"stored     {_size(stats['index_bytes'])} in {facts['cache']}{', for lazy imports' if facts['lazy'] else ''}")
    print(f"took       {facts['seconds']:.1f} s")
    if stats["skipped"]:
        print(f"left out   {_count(stats['skipped'], 'source', 'sources')} (being changed, unreadable, or with a hash-based .pyc)")
    _report_left_out(stats, bad)


def _report_left_out(stats: _native.BuildStats | _native.FrozenStats, bad: list[tuple[str, str]]) -> None:
    if stats["links_left"]:
        print(f"left out   {_count(stats['links_left'], 'link', 'links')} to directories, met below another link")
    if stats["unreadable"]:
        print(f"left out   {_count(stats['unreadable'], 'directory', 'directories')} that cannot be read")
    if bad:
        print(f"left out   {_count(len(bad), 'source that does', 'sources that do')} not compile:")
        for path, wrong in bad[:SHOWN]:
            print(f"             {path}: {wrong}")
        if len(bad) > SHOWN:
            print(f"             and {len(bad) - SHOWN:,} more; --json names them all")


def _dry_run(roots: list[str], *, quiet: bool, as_json: bool, threads: int, backend: str, with_stats: bool) -> int:
    builder = _open(True, roots)
    stats = _scan(builder, quiet, lambda: builder.measure(_outermost(roots), threads, backend, with_stats))
    if as_json:
        print(json.dumps({**stats, **(_per_module(stats) if with_stats else {}), "roots": roots}, indent=2))
    elif not quiet:
        _report_scan(stats, roots)
        _report_left_out(stats, [])
        if with_stats:
            _report_stats(stats)
        print(f"took       {stats['seconds']:.2f} s; nothing was stored")
    return OK


def _check(builder: _native.Builder, roots: list[str], quiet: bool, threads: int, backend: str) -> _native.CheckStats:
    with _progress(quiet, lambda: "comparing directories"):
        try:
            return builder.revalidate(roots, threads, backend)
        except OSError as error:
            raise Failure(f"{error}; --backend pool does without" if error.errno is None else str(error)) from None


def _report_check(checked: _native.CheckStats, stats: _native.BuildStats, stored: str, with_stats: bool) -> None:
    if not checked["directories"]:
        print("compared   nothing: the cache knows no directory there; `ladewerk index` reads them")
        return
    changes = [f"{checked['vanished']:,} gone" if checked["vanished"] else "", f"{checked['unreadable']:,} not to be read" if checked["unreadable"] else "",
               f"{checked['racy']:,} being changed" if checked["racy"] else "", f"{checked['found']:,} new" if checked["found"] else ""]
    more = ", ".join(filter(None, changes))
    print(f"compared   {_count(checked['directories'], 'directory', 'directories')}: {checked['unchanged']:,} unchanged, {checked['changed']:,} changed"
          + (f" ({more})" if more else ""))
    if stats["sources"] or stats["compiled"] or stats["from_pyc"]:
        print(f"code       {_size(stats['code_bytes'])}: {stats['from_pyc']:,} from .pyc files, {stats['compiled']:,} compiled")
    if with_stats:
        print(f"check      {checked['seconds']:.3f} s ({checked['cpu_seconds']:.3f} s of CPU), {_count(checked['threads'], 'thread', 'threads')} "
              f"({checked['backend']}), {checked['syscalls']:,} system calls")
    print(stored)


def _revalidate(roots: list[str], *, quiet: bool, as_json: bool, threads: int, backend: str, dry_run: bool, with_stats: bool, lazy: bool) -> int:
    begun = time.perf_counter()
    builder = _open(dry_run, roots, lazy)
    bad: list[tuple[str, str]] = []
    checked = _check(builder, roots, quiet, threads, backend)
    cache = None
    if not dry_run:
        try:
            bad = _gather(builder, quiet, threads, builder.stats()["sources"])
            cache = builder.write()
        except OSError as error:
            raise _cannot_write(error) from None
    stats = builder.stats()
    if as_json:
        code = {key: stats[key] for key in ("from_pyc", "compiled", "skipped", "code_bytes")}
        faults = [{"file": path, "error": wrong} for path, wrong in bad]
        print(json.dumps({**checked, **code, "cache": cache, "roots": roots, "not_compiled": faults}, indent=2))
    elif not quiet:
        seconds = time.perf_counter() - begun
        stored = "nothing was stored" if dry_run or not (checked["changed"] or checked["found"]) else f"stored in {cache}"
        _report_check(checked, stats, f"took       {seconds:.2f} s; {stored}", with_stats)
    return OK


def main(given: Sequence[str], *, quiet: bool, as_json: bool, threads: int, backend: str, dry_run: bool, with_stats: bool,
         revalidate: bool, lazy: bool = False) -> int:
    begun = time.perf_counter()
    if revalidate:
        return _revalidate(_given_roots(given), quiet=quiet, as_json=as_json, threads=threads, backend=backend, dry_run=dry_run, with_stats=with_stats,
                           lazy=lazy)
    roots = _given_roots(given) if given else _default_roots()
    if dry_run:
        return _dry_run(roots, quiet=quiet, as_json=as_json, threads=threads, backend=backend, with_stats=with_stats)
    builder = _open(False, roots, lazy)
    try:
        bad = _build(builder, roots, quiet, threads, backend)
        with _progress(quiet, lambda: "storing"):
            cache = builder.write()
    except OSError as error:
        raise _cannot_write(error) from None
    stats = builder.stats()
    facts: dict[str, object] = {"cache": cache, "lazy": builder.lazy, "roots": roots, "seconds": time.perf_counter() - begun}
    if as_json:
        faults = [{"file": path, "error": wrong} for path, wrong in bad]
        print(json.dumps({**stats, **(_per_module(stats) if with_stats else {}), "scan_seconds": stats["seconds"], **facts, "not_compiled": faults}, indent=2))
    elif not quiet:
        _report(facts, stats, bad, roots)
        if with_stats:
            _report_stats(stats)
    return OK
