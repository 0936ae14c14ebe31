# SPDX-License-Identifier: MIT
"""`ladewerk doctor`: one function per matter, each yields findings; the report only prints them."""
from __future__ import annotations

import difflib
import json
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ladewerk import _enable, _native, _trace, _watch, _why
from ladewerk.cli import FAILED, FRESHNESS, LAZY, OK, REPORTS, Failure

GOOD, NOTE, PROBLEM = "ok", "note", "problem"

VARIABLES = {"LADEWERK", "LADEWERK_FRESHNESS", "LADEWERK_CACHE", "LADEWERK_READONLY", "LADEWERK_STAT_WINDOW", "LADEWERK_TRUST_UID", "LADEWERK_GC", "LADEWERK_WATCH",
             "LADEWERK_UNMARSHAL", "LADEWERK_REPORT", "LADEWERK_INDEX", "LADEWERK_LAZY", "LADEWERK_LAZY_PID", "LADEWERK_LAZY_RULES"}
NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "fuse", "lustre", "afs", "gpfs", "beegfs")
TIGHT = 64 << 20  # bytes free

# What every accelerated program goes through; the module is small, and nothing imports it at start.
_TRIAL = """\
import json, sys
import colorsys
try:
    import ladewerk
    stats = ladewerk.stats()
    try:
        ladewerk.ImportEngine().import_module("colorsys")
        stats["engines"] = ladewerk.stats()["engines"]
    except Exception as error:
        stats["engines"]["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(stats))
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
"""


@dataclass
class Finding:
    status: str
    topic: str
    text: str


# --- the interpreter ----------------------------------------------------------------------------------------------------


def _interpreter() -> Iterator[Finding]:
    yield Finding(GOOD, "version", f"{_native.__version__}, in {os.path.dirname(_native.__file__)}")
    threading = "free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else "with the GIL"
    yield Finding(GOOD, "interpreter", f"{platform.python_implementation()} {platform.python_version()}, {threading}, {sys.executable}")
    _native.uninstall()  # what is to be judged are the functions that stand when we are not there
    try:
        _native.place()
        find, load, find_known, load_known = _native.digests()
    except RuntimeError as error:
        yield Finding(PROBLEM, "imports", f"{error}; Ladewerk stays out of the way")
        return
    if find_known and load_known:
        yield Finding(GOOD, "imports", "this interpreter's import functions are ones that Ladewerk was verified against")
        return
    odd = " and ".join(f"{name} {hi:016x}{lo:016x}" for name, (hi, lo), known
                       in (("find", find, find_known), ("load", load, load_known)) if not known)
    yield Finding(PROBLEM, "imports", f"this interpreter's import functions are unknown ({odd}), so stock Python does everything; "
                                      "upgrade Ladewerk, or report the digests")


def _probes() -> Iterator[Finding]:
    if _native.has_probes:
        yield Finding(GOOD, "probes", "USDT probes are built in: perf, bpftrace and SystemTap can attach to ladewerk:import__start and the like")
    else:
        yield Finding(NOTE, "probes", "USDT probes are not built in, because sys/sdt.h was missing; `ladewerk run --report` does not need them")


def _tracing() -> Iterator[Finding]:
    status, answer = _trace.check()
    yield Finding(NOTE if status else GOOD, "tracing", f"`ladewerk trace` is not possible here: {answer}" if status else f"`ladewerk trace`: {answer}")


def _start_up() -> Iterator[Finding]:
    shipped = [d for d in _enable.site_directories() if os.path.isfile(os.path.join(d, "ladewerk.pth"))]
    if shipped:
        yield Finding(GOOD, "start-up", f"ladewerk.pth is in {shipped[0]}: `ladewerk run` and LADEWERK=1 work")
    else:
        yield Finding(PROBLEM, "start-up", "ladewerk.pth is in none of the site directories, so `ladewerk run` has no effect; reinstall Ladewerk")
    enabled = list(_enable.enabled_in())
    if not enabled:
        yield Finding(NOTE, "enabled", "no: `ladewerk run` accelerates; `ladewerk enable` does so for every start of this environment")
    elif _enable.is_current(enabled[0]):
        yield Finding(GOOD, "enabled", f"yes, by {os.path.join(enabled[0], _enable.PTH)}")
    else:
        yield Finding(PROBLEM, "enabled", f"{os.path.join(enabled[0], _enable.PTH)} is not what this version writes; run `ladewerk enable` again")


# --- the environment ----------------------------------------------------------------------------------------------------


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _wrong_value(name: str, value: str) -> str | None:
    if name == "LADEWERK_FRESHNESS" and value not in FRESHNESS:
        return "is not stat, watch or frozen, so Ladewerk does not start; unset it, or use one of them"
    if name in ("LADEWERK_STAT_WINDOW", "LADEWERK_TRUST_UID") and not _is_number(value):
        return "is not a whole number and is ignored"
    if name == "LADEWERK_LAZY" and value not in LAZY:
        return "is not default, own, all or 0, so imports are eager; unset it, or use one of them"
    if name == "LADEWERK_CACHE" and not value.startswith("/"):
        return "is not an absolute path, so nothing is kept"
    if name == "LADEWERK_WATCH" and value != "0" and not value.startswith("/"):
        return "is neither an absolute path nor 0, and is ignored"
    if name == "LADEWERK_INDEX" and not value.startswith("/"):
        return "is not an absolute path and is ignored; `ladewerk run --index` makes one of it"
    if name == "LADEWERK_REPORT" and not re.match("[0-9]+:(" + "|".join(REPORTS) + "):", value):
        return "is not what `ladewerk run --report` sets it to, and asks for nothing; unset it"
    return None


def _variable(name: str, value: str) -> Finding:
    if name not in VARIABLES:
        near = difflib.get_close_matches(name, VARIABLES, 1)
        return Finding(PROBLEM, "variable", f"{name} means nothing to Ladewerk" + (f"; did you mean {near[0]}?" if near else ""))
    if name == "LADEWERK" and value == "0":
        return Finding(NOTE, "variable", "LADEWERK=0: Ladewerk is switched off")
    if name != "LADEWERK" and sys.flags.ignore_environment:
        return Finding(NOTE, "variable", f"{name} is ignored: this interpreter was started with -E or -I")
    if not value:
        return Finding(NOTE, "variable", f"{name} is empty, which counts as not set")
    if wrong := _wrong_value(name, value):
        return Finding(PROBLEM, "variable", f"{name}={value} {wrong}")
    return Finding(GOOD, "variable", f"{name}={value}")


def _environment() -> Iterator[Finding]:
    for name in sorted(os.environ):
        if name.startswith("LADEWERK"):
            yield _variable(name, os.environ[name])


def _freshness(trial: dict[str, Any] | None) -> Iterator[Finding]:
    mode = trial.get("freshness") if trial else None
    if mode == "frozen":
        yield Finding(NOTE, "freshness", "frozen: what is in the index is not compared with the files; changes are not noticed")
    elif mode == "stat":
        yield Finding(GOOD, "freshness", "stat: every changed file is noticed at the price of one statx per file and directory")
    elif mode == "watch":
        yield Finding(GOOD, "freshness", "watch: every changed file is noticed by the kernel's events; what they cannot tell of is compared (stat)")


def _watchers(trial: dict[str, Any] | None) -> Iterator[Finding]:
    """Who tells of changes."""
    names = {"daemon": "the daemon", "process": "the program itself"}
    for watch in trial.get("watch", ()) if trial else ():
        if watch["reason"]:
            yield Finding(NOTE, "watch", f"{names[watch['by']]}: {watch['reason']}")
        else:
            yield Finding(GOOD, "watch", f"{names[watch['by']]} tells of changes ({watch['backend']})")


def _daemon() -> Iterator[Finding]:
    if os.environ.get("LADEWERK_WATCH") == "0" and not sys.flags.ignore_environment:
        yield Finding(NOTE, "daemon", "LADEWERK_WATCH=0: programs do not ask for one")
        return
    try:
        facts = _watch.status()
    except (Failure, OSError, ValueError) as error:
        yield Finding(PROBLEM, "daemon", str(error))
        return
    if facts is None:
        return
    roots = ", ".join(root["path"] for root in facts["roots"])
    yield Finding(GOOD, "daemon", f"process {facts['pid']} watches {facts['directories']:,} directories below {roots} ({facts['backend']})")
    for root in facts["roots"]:
        if root["trouble"]:
            yield Finding(PROBLEM, "daemon", f"{root['path']} is not watched: {root['trouble']}")
    if facts["unwatched"]:
        yield Finding(PROBLEM, "daemon", f"{facts['unwatched']:,} directories are not watched, and compared instead: {facts['unwatched_because']}")
    if facts["overflows"]:
        yield Finding(NOTE, "daemon", f"the queue of events has overflowed {facts['overflows']:,} times, and everything was read again; raise "
                                      "fs.inotify.max_queued_events (sysctl) if that happens often")
    if facts["turned_away"]:
        yield Finding(PROBLEM, "daemon", f"{facts['turned_away']:,} programs were turned away, for want of descriptors; {_watch.RAISE_DESCRIPTORS}")
    if facts["trouble"]:
        yield Finding(PROBLEM, "daemon", f"its last snapshot could not be made: {facts['trouble']}")


def _reloads() -> Iterator[Finding]:
    """Who tells `ladewerk run --reload` and `ladewerk.watch()` of changes."""
    from ladewerk import _live

    try:
        _live.Events().close()
    except OSError as error:
        yield Finding(NOTE, "reload", f"`ladewerk run --reload` and `ladewerk.watch()` look twice a second: {error}")
    else:
        yield Finding(GOOD, "reload", "the kernel tells `ladewerk run --reload` and `ladewerk.watch()` of changes (inotify)")


def _index(trial: dict[str, Any] | None) -> Iterator[Finding]:
    """What became of LADEWERK_INDEX."""
    index = trial.get("index") if trial else None
    if not index:
        return
    if index["roots"]:
        roots = ", ".join(root for root in index["roots"] if root)
        mode = "which are not looked at (frozen)" if index["freshness"] == "frozen" else "each of which is compared (stat)"
        yield Finding(GOOD, "index", f"{index['path']}: code of {index['files']} files below {roots}, {mode}")
    if index["reason"]:
        yield Finding(PROBLEM, "index", index["reason"])


# --- lazy imports -------------------------------------------------------------------------------------------------------


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _mend(path: str, reason: str) -> str:
    """REASON and a remedy. If it is that PATH, a pyproject.toml, was not understood: tomllib's words are better than ours, where it refuses the file."""
    if not reason.startswith(f"{path}, line "):
        return reason
    try:
        with open(path, "rb") as file:
            tomllib.load(file)
    except UnicodeDecodeError:
        return reason  # which has the line
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error}); mend it"
    return f"{reason}; mend [tool.ladewerk.lazy] there, of which LAZY.md has an example"


def _rules(settings: dict[str, str]) -> str:
    """How many rules apply, and from where."""
    found = [_count(settings["shipped"].count("\n"), "rule") + f" of {os.path.join(os.path.dirname(_native.__file__), 'lazy_rules.txt')}"]
    if settings["project"]:
        with open(settings["project"], "rb") as file:
            rules = _native._lazy_project(file.read())[2]
        found.append(f"{rules.count(chr(10))} of {settings['project']}")
    if extra := not sys.flags.ignore_environment and os.environ.get("LADEWERK_LAZY_RULES"):
        found.append(f"{len([line for line in extra.splitlines() if line.partition('#')[0].strip()])} of LADEWERK_LAZY_RULES")
    return ", ".join(found)


_LAZY_MEANS = {
    "default": "imports of other packages wait until they are used",
    "own": "imports of the project, and of other packages everywhere, wait until they are used",
    "all": "all imports wait until they are used",
}


def _lazy(trial: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether a start in this directory imports lazily, by whose word and which rules."""
    try:
        settings = _native._lazy_settings(not sys.flags.ignore_environment)
    except RuntimeError:
        return  # told already
    if settings["reason"]:
        told = settings["reason"].startswith(f"{settings['by']} says ")  # among the variables, or of the file that enables
        yield Finding(NOTE if told else PROBLEM, "lazy", "imports are eager: " + _mend(settings["project"], settings["reason"]))
    elif settings["mode"] == "0":
        yield Finding(NOTE, "lazy", f"no, says {settings['by']}" if settings["by"] else "no: `ladewerk run --lazy`, or `ladewerk enable --lazy`, would import lazily")
    elif why := trial and trial["lazy"]["reason"]:
        yield Finding(NOTE, "lazy", f"{settings['mode']}, says {settings['by']}; imports are eager all the same: {why}")
    else:
        yield Finding(GOOD, "lazy", f"{settings['mode']}, says {settings['by']}: {_LAZY_MEANS[settings['mode']]}")
        yield Finding(GOOD, "lazy", _rules(settings))


# --- a start ------------------------------------------------------------------------------------------------------------


def _run_trial() -> tuple[dict[str, Any] | None, Finding | None]:
    """The statistics of a start, or what kept it from answering."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    try:
        done = subprocess.run([sys.executable, *flags, "-c", _TRIAL], env={**os.environ, "LADEWERK": "1"}, cwd="/",
                              capture_output=True, text=True, errors="backslashreplace", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, Finding(PROBLEM, "trial", f"an interpreter could not be started: {error}")
    if done.returncode < 0:
        return None, Finding(PROBLEM, "trial", f"a start died of {signal.Signals(-done.returncode).name}; LADEWERK=0 switches Ladewerk off")
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return None, Finding(PROBLEM, "trial", f"a start failed: {last[0]}")
    return answer, None


def _asides(trial: dict[str, Any]) -> str:
    asides = [_why.ASIDE.get(name, name) for name, count in trial["aside"].items() if count and name not in ("builtin", "initializing")]
    return "; ".join(asides)


def _judge_trial(trial: dict[str, Any]) -> Finding:
    if "missing" in trial:
        return Finding(PROBLEM, "trial", f"a start does not find the package ({trial['missing']}); reinstall Ladewerk")
    if not trial["active"]:
        if trial["reason"]:
            return Finding(PROBLEM, "trial", f"a start ran without Ladewerk: {trial['reason']}")
        why = "python -S runs no start-up files" if sys.flags.no_site else "python -E and -I ignore LADEWERK=1, `ladewerk enable` serves them" \
            if sys.flags.ignore_environment else "no start-up file ran"
        return Finding(NOTE if sys.flags.ignore_environment else PROBLEM, "trial", f"a start ran without Ladewerk: {why}")
    if asides := _asides(trial):
        return Finding(PROBLEM, "trial", f"a start left imports to stock Python: {asides}")
    served = sum(trial["served"].values())
    return Finding(GOOD, "trial", f"a start was accelerated ({served} imports, {trial['served']['pack']} of them from the cache)")


def _trial() -> tuple[dict[str, Any] | None, list[Finding]]:
    if os.environ.get("LADEWERK") == "0":
        return None, [Finding(NOTE, "trial", "no start was tried, because of LADEWERK=0")]
    trial, finding = _run_trial()
    if trial is None or finding:
        return None, [finding] if finding else []
    if "missing" in trial or not trial["active"]:
        return (None if "missing" in trial else trial), [_judge_trial(trial)]
    return trial, [_judge_trial(trial), _means("collector", trial, "collections wait while modules are imported"),
                   _means("unmarshal", trial, "the code of modules is read by Ladewerk itself"), _engines(trial["engines"])]


def _means(which: str, trial: dict[str, Any], works: str) -> Finding:
    """What makes imports cheaper where the interpreter lends itself to it."""
    reason = trial[which]["reason"]
    return Finding(NOTE, which, f"left to CPython: {reason}") if reason else Finding(GOOD, which, works)


def _engines(engines: dict[str, Any]) -> Finding:
    """Whether import engines can be made, and are served."""
    if "error" in engines:
        return Finding(NOTE, "engines", f"no import engine can be made: {engines['error']}")
    if engines["refused"] or not engines["served"]:
        return Finding(NOTE, "engines", f"imports of import engines are left to CPython: {engines['reason'] or 'their finders are not as known'}")
    return Finding(GOOD, "engines", "import engines are served from the cache as the process is")


# --- the cache ----------------------------------------------------------------------------------------------------------


def _file_system(path: str) -> str:
    """The type of the file system that PATH is (or would be) on."""
    best, kind = "", "unknown"
    try:
        with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
            for line in mounts:
                left, _, right = line.partition(" - ")
                point = left.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
                if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
                    best, kind = point, right.split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        pass
    return kind


def _size(directory: str) -> tuple[int, int]:
    """Cache files in DIRECTORY, and their bytes."""
    sizes = []
    for entry in os.scandir(directory):
        if entry.name.endswith(".lwi") and not entry.name.startswith("."):
            sizes.append(entry.stat().st_size)
    return len(sizes), sum(sizes)


def _owner(path: str) -> str:
    import pwd

    uid = os.stat(path).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _space(place: str) -> Iterator[Finding]:
    there = _existing(place)
    kind = _file_system(os.path.realpath(there))
    free = shutil.disk_usage(there).free
    if free < TIGHT:
        yield Finding(PROBLEM, "space", f"only {free >> 20} MB are free for {place}; free some, or set LADEWERK_CACHE to a directory on another disk")
    if kind.startswith(NETWORK):
        yield Finding(NOTE, "space", f"{place} is on {kind}: cache files are read there instead of mapped, which is slower; LADEWERK_CACHE may name a local disk")


def _key(place: str, key: str) -> Iterator[Finding]:
    directory = os.path.join(place, key)
    try:
        files, size = _size(directory)
        mode = stat.S_IMODE(os.stat(directory).st_mode)
        yield Finding(GOOD, "key", f"{key}: {files} file{'s' * (files != 1)}, {size / 1e6:.1f} MB, of {_owner(directory)}, mode {mode:o}"
                      + ("" if mode & 0o200 else ", so nothing is added to it (chmod u+w)"))
    except FileNotFoundError:
        yield Finding(NOTE, "key", f"{key}: nothing is stored for this interpreter yet; the first accelerated run, or `ladewerk index`, does it")
    except OSError as error:
        yield Finding(PROBLEM, "key", f"{directory} cannot be read ({error.strerror}); make it readable, or set LADEWERK_CACHE to a directory of your own")


def _remarks(trial: dict[str, Any]) -> Iterator[Finding]:
    """What the trial start said about the cache although it ran."""
    session = trial["session"]
    if trial["active"] and trial["reason"]:
        yield Finding(PROBLEM, "cache", trial["reason"])
    if session.get("damaged"):
        yield Finding(PROBLEM, "cache", "damaged data was met and left out; `ladewerk index` replaces it, with --frozen in an artifact")
    if session.get("write_errors"):
        yield Finding(PROBLEM, "cache", f"what a start learnt could not be stored: {session['last_write_error']}")


def _cache(trial: dict[str, Any] | None) -> Iterator[Finding]:
    try:
        place, key, _ = _native.place()
    except RuntimeError:
        return  # told already
    readonly = not sys.flags.ignore_environment and os.environ.get("LADEWERK_READONLY", "0") not in ("", "0")
    if place is None:
        if trial is None:
            yield Finding(PROBLEM, "cache", "there is no place for it; set LADEWERK_CACHE to a directory of your own")
    else:
        yield Finding(GOOD, "cache", place + (", only read (LADEWERK_READONLY)" if readonly else ""))
        yield from _key(place, key)
        yield from _space(place)
    if trial:
        yield from _remarks(trial)


# --- company, kernel ----------------------------------------------------------------------------------------------------


def _finders() -> Iterator[Finding]:
    first, last = _why.finders()
    if first:
        yield Finding(NOTE, "finders", f"asked ahead of Ladewerk at every import: {', '.join(first)}")
    if last:
        yield Finding(NOTE, "finders", f"asked for what nobody else found: {', '.join(last)}")


def _container() -> str:
    if os.path.exists("/.dockerenv"):
        return ", in a Docker container"
    if os.path.exists("/run/.containerenv") or os.environ.get("container"):
        return ", in a container"
    return ""


def _kernel() -> Iterator[Finding]:
    kernel = os.uname()
    old = tuple(int(part) for part in kernel.release.split("-")[0].split(".")[:2] if part.isdigit()) < (5, 10)
    yield Finding(PROBLEM if old else GOOD, "kernel",
                  f"{kernel.sysname} {kernel.release}{_container()}" + ("; Ladewerk needs 5.10 or later" if old else ""))
    error, text = _native.probe_uring()
    yield Finding(NOTE if error else GOOD, "io_uring", text + ("; nothing depends on it: `ladewerk index` reads with threads" if error else
                                                                     "; `ladewerk index` asks for many files of one directory through it when that waits; no program uses it"))


# --- the command --------------------------------------------------------------------------------------------------------


def examine() -> list[Finding]:
    trial, verdict = _trial()
    return [*_interpreter(), *_probes(), *_tracing(), *_start_up(), *_environment(), *verdict, *_freshness(trial), *_watchers(trial), *_daemon(), *_reloads(), *_index(trial), *_lazy(trial), *_cache(trial), *_finders(), *_kernel()]


def _reset() -> str:
    try:
        count = _native.reset()
    except (OSError, RuntimeError) as error:
        raise Failure(str(error)) from None
    return f"removed {count} mark{'s' * (count != 1)} of starts that died" if count else "there were no marks of starts that died"


def _print(findings: list[Finding], problems: int) -> None:
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{finding.status:<8} {finding.topic:<{width}}  {finding.text}")
    print()
    print("no problem found" if not problems else f"{problems} problem{'s' * (problems > 1)} found")


def main(*, as_json: bool, reset: bool) -> int:
    done = _reset() if reset else None
    findings = examine()
    problems = sum(finding.status == PROBLEM for finding in findings)
    if as_json:
        print(json.dumps({"problems": problems, "reset": done, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        if done:
            print(done + "\n")
        _print(findings, problems)
    return FAILED if problems else OK
