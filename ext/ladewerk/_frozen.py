# SPDX-License-Identifier: MIT
"""`ladewerk index --frozen`: an artifact, the same bytes from the same sources. The walk, the canonical form of code and the writing are C."""
from __future__ import annotations

import errno
import json
import marshal
import os
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.machinery import SourceFileLoader

from ladewerk import _index, _native
from ladewerk.cli import OK, Failure

Job = tuple[int, str, str]  # number, path, what the index calls it


def _is_eager(name: str, rules: str) -> bool:
    """RULES have all imports of the module eager that the index calls NAME: ROOT/package/module.py."""
    module = name.partition("/")[2].rpartition(".")[0].removesuffix("/__init__").replace("/", ".")
    [(_, never, _, _)] = _native._lazy_ask("all", rules, (), ((module, "", "", None),))
    return never


def compile_one(job: Job, rules: str | None = None) -> _index.Compiled:
    """Compiled under the name in the index, which is the same everywhere; importing it puts the path in its place. RULES: made ready for lazy imports, unless all of the module's are eager by these."""
    number, path, name = job
    source = b""
    # How long a literal may be is a matter of the environment, too.
    sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    try:
        with open(path, "rb") as file:
            source = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = SourceFileLoader("", name).source_to_code(source, name)
        ready = _native._lazy_transform(code) if rules is not None and not _is_eager(name, rules) else code
        return number, path, source, _native.canonical(marshal.dumps(ready)), ""
    except Exception as error:  # see _index
        return number, path, source, None, _index._describe(error)


def _roots(given: Sequence[str]) -> list[str]:
    roots = _index._given_roots(given)
    for i, root in enumerate(roots):
        for other in roots[:i]:
            if os.path.samefile(root, other):
                raise Failure(f"{root} and {other} are the same directory; give one of them")
    return roots


def _open(out: str, roots: list[str], lazy: bool) -> _native.FrozenBuilder:
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise Failure(f"file names are {encoding} here, so code would not be the same as elsewhere; set PYTHONUTF8=1")
    path = os.path.abspath(out)
    if not os.path.isdir(above := os.path.dirname(path)):
        raise Failure(f"there is no directory {above} to put {os.path.basename(path)} into; make it first")
    if lazy:
        _index.ask_for_lazy()
    try:
        builder = _native.FrozenBuilder(path, roots)
    except (ValueError, RuntimeError) as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise _cannot_write(path, error) from None
    if lazy:
        _index.demand_lazy(builder)
    return builder


def _cannot_write(path: str, error: OSError) -> Failure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(f"no space left for {path}; free some, or write it elsewhere; what was there before is still there")
    return Failure(f"cannot write {path} ({error.strerror}); what was there before is still there")


def _build(builder: _native.FrozenBuilder, quiet: bool, threads: int, backend: str) -> list[tuple[str, str]]:
    """Everything but writing it. Returns the sources that are left out, and why."""
    with _index._progress(quiet, lambda: f"reading directories: {builder.progress:,} entries"):
        try:
            jobs = builder.scan(threads, backend)
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise Failure(f"{error}; --backend pool does without") from None
            raise _index._bad_root(os.fsdecode(error.filename or "?"), error) from None
    return _index.compile_into(builder, jobs, partial(compile_one, rules=_native._lazy_settings(False)["shipped"] if builder.lazy else None), quiet, threads)


def _report(facts: dict[str, object], stats: _native.FrozenStats, bad: list[tuple[str, str]], roots: list[str]) -> None:
    count = _index._count
    print(f"read       {count(stats['directories'], 'directory', 'directories')}, {count(stats['sources'], 'source', 'sources')} "
          f"in {count(len(roots), 'root', 'roots')}")
    print(f"written    {_index._size(stats['index_bytes'])} in {facts['index']}{', for lazy imports' if facts['lazy'] else ''}")
    for i, root in enumerate(roots):
        print(f"  root{i}    {root}")
    print(f"took       {facts['seconds']:.1f} s")
    _index._report_left_out(stats, bad)


def main(given: Sequence[str], out: str, *, quiet: bool, as_json: bool, threads: int, backend: str, lazy: bool = False) -> int:
    begun = time.perf_counter()
    roots = _roots(given)
    path = os.path.abspath(out)
    builder = _open(out, roots, lazy)
    try:
        bad = _build(builder, quiet, threads, backend)
        with _index._progress(quiet, lambda: "writing"):
            builder.write()
    except ValueError as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise _cannot_write(path, error) from None
    stats = builder.stats()
    facts: dict[str, object] = {"index": path, "lazy": builder.lazy, "roots": roots, "seconds": time.perf_counter() - begun}
    if as_json:
        faults = [{"file": file, "error": wrong} for file, wrong in bad]
        print(json.dumps({**stats, "scan_seconds": stats["seconds"], **facts, "not_compiled": faults}, indent=2))
    elif not quiet:
        _report(facts, stats, bad, roots)
    return OK
