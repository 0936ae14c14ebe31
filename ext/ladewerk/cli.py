# SPDX-License-Identifier: MIT
"""The `ladewerk` command: argument parsing; what a command does is in the module of its name.

The launcher runs `ladewerk run` without Python; the one here serves `python -m ladewerk run`, and a launcher that has no
interpreter beside it.
"""
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

OK, FAILED, USAGE, CANNOT_EXECUTE, NOT_FOUND = 0, 1, 2, 126, 127
FRESHNESS = ("stat", "watch", "frozen")
BACKENDS = ("auto", "pool", "ring")
WATCHERS = ("auto", "fanotify", "inotify", "rescan")
FINDINGS = ("import", "syntax", "exit", "crash", "timeout", "unreadable", "shadowed", "stdlib", "clash", "masked", "unnameable", "circular")
REPORTS = ("text", "importtime", "json", "chrome")
GRAPHS = ("text", "json", "dot")
RELOADS = ("restart", "live")
LAZY_MODES = ("default", "own", "all")
LAZY = (*LAZY_MODES, "1", "0")
LAZY_KINDS = ("status", "stdout", "stderr", "processes", "codecs", "atexit", "warnings", "abc", "singledispatch", "tables", "mimetypes", "logging", "signals", "hooks",
              "environment", "settings", "modules", "patches")


class Failure(Exception):
    """A sentence for the user, who did nothing wrong with the command line: exit status 1."""


def complain(text: str) -> None:
    print(f"ladewerk: {text}", file=sys.stderr)


# --- run ----------------------------------------------------------------------------------------------------------------


def _take_value(name: str, rest: list[str]) -> str | None:
    """The value of option NAME, taken from the front of REST; None if something else is there."""
    option, separator, value = rest[0].partition("=")
    if option != name:
        return None
    del rest[0]
    return value if separator else rest.pop(0) if rest else ""


def _one_of(known: tuple[str, ...], option: str, value: str) -> str:
    if value not in known:
        raise ValueError(f"{option} takes {', '.join(known[:-1])} or {known[-1]}, not '{value}'")
    return value


def _artifact(path: str) -> str:
    if not path:
        raise ValueError("--index takes the directory that `ladewerk index --frozen` has written")
    if not os.path.isfile(os.path.join(path, "index.lwi")):
        raise ValueError(f"--index {path}: there is no index.lwi in it; `ladewerk index --frozen -o {path} ROOT...` makes one")
    return path


def _take_options(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Our own options come first; everything from the first other word on belongs to the interpreter."""
    options, rest = {}, list(arguments)
    while rest:
        if (mode := _take_value("--freshness", rest)) is not None:
            options["freshness"] = _one_of(FRESHNESS, "--freshness", mode)
        elif (path := _take_value("--index", rest)) is not None:
            options["index"] = _artifact(path)
        elif (path := _take_value("--report-file", rest)) is not None:
            if not path:
                raise ValueError("--report-file takes the path of a file")
            options["file"] = path
        elif (path := _take_value("--reload-root", rest)) is not None:
            if not os.path.isdir(path):
                raise ValueError(f"--reload-root takes a directory, not '{path}'")
            options["roots"] = options.get("roots", "") + path + "\0"
        elif rest[0] in ("--report", "--importtime"):
            options["report"] = "importtime" if rest.pop(0) == "--importtime" else "text"
        elif rest[0].startswith("--report="):
            options["report"] = _one_of(REPORTS, "--report", rest.pop(0).partition("=")[2])
        elif rest[0] == "--reload":
            options["reload"] = "restart"
            del rest[0]
        elif rest[0].startswith("--reload="):
            options["reload"] = _one_of(RELOADS, "--reload", rest.pop(0).partition("=")[2])
        elif rest[0] == "--lazy":
            options["lazy"] = "1"
            del rest[0]
        elif rest[0].startswith("--lazy="):
            options["lazy"] = _one_of(LAZY, "--lazy", rest.pop(0).partition("=")[2])
        elif rest[0] == "--quiet":
            options["quiet"] = rest.pop(0)
        else:
            break
    return options, rest


def _mode_apart(arguments: list[str], rest: list[str]) -> str | None:
    """`--lazy MODE`, where `--lazy=MODE` was meant: what to say of it. REST is what is left of ARGUMENTS."""
    if len(rest) < len(arguments) and arguments[-len(rest) - 1] == "--lazy" and rest[:1] and rest[0] in LAZY and not os.path.exists(rest[0]):
        return f"there is no program '{rest[0]}' here; for the mode of lazy imports write --lazy={rest[0]}"
    return None


def _misuse_of_run(options: dict[str, str], rest: list[str]) -> str | None:
    if "reload" not in options and options.keys() & {"roots", "quiet"}:
        return "--reload-root and --quiet are for --reload"
    if "reload" in options and options.keys() & {"report", "file"}:
        return "--report is for one start of a program, --reload makes many"
    if "reload" in options and options.get("lazy", "0") != "0":
        return "--lazy is not for --reload, which has to know what the program depends on"
    if not rest:
        return "nothing to run: give a script, -m MODULE or -c CODE"
    return None


def _absolute(path: str) -> str:
    """The program may change its directory."""
    try:
        return os.path.join(os.getcwd(), path)
    except OSError:
        return path


def _ask_for_report(form: str, path: str | None) -> None:
    """The process that reads it is this one, after exec."""
    if os.environ.get("LADEWERK") == "0":
        complain("run: there will be no report, because LADEWERK=0 switches Ladewerk off")
        return
    if not path and form in ("json", "chrome"):
        path = f"ladewerk-report-{os.getpid()}.json"
    os.environ["LADEWERK_REPORT"] = f"{os.getpid()}:{form}:{_absolute(path) if path else ''}"


def _switch_on(options: dict[str, str]) -> None:
    if os.environ.get("LADEWERK") != "0":
        os.environ["LADEWERK"] = "1"
    if "freshness" in options:
        os.environ["LADEWERK_FRESHNESS"] = options["freshness"]
    if "index" in options:
        os.environ["LADEWERK_INDEX"] = _absolute(options["index"])
    if "lazy" in options:
        os.environ["LADEWERK_LAZY"] = options["lazy"]
        if options["lazy"] != "0":
            os.environ["LADEWERK_LAZY_PID"] = str(os.getpid())  # who says why if imports are eager all the same: this process, after exec
    if "report" in options or "file" in options:
        _ask_for_report(options.get("report", "text"), options.get("file"))


def _run_again_and_again(options: dict[str, str], words: list[str]) -> int:
    from ladewerk import _rerun

    os.environ["LADEWERK_LAZY"] = "0"  # what depends on what is only known when it is imported
    try:
        _rerun.main(words, roots=options.get("roots", "").split("\0")[:-1], live=options["reload"] == "live", quiet="quiet" in options)
    except ValueError as error:
        complain(f"run: {error}")
        return USAGE


def run(arguments: list[str]) -> int:
    try:
        options, rest = _take_options(arguments)
    except ValueError as error:
        complain(f"run: {error}")
        return USAGE
    if misuse := _mode_apart(arguments, rest) or _misuse_of_run(options, rest):
        complain(f"run: {misuse}")
        return USAGE
    if not sys.executable:
        complain("run: this Python does not know where its executable is")
        return NOT_FOUND
    if "ladewerk_start" not in sys.modules:
        complain("run: nothing is accelerated: ladewerk.pth is not in the site-packages of this Python, which reads it at its start; install Ladewerk there with pip")
    _switch_on(options)
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    started_by_launcher = sys.argv[:1] == ["-c"]  # with no options of its own: those that it seems to have are the environment's
    words = rest if started_by_launcher else [*_args_from_interpreter_flags(), *rest]
    if "reload" in options:
        return _run_again_and_again(options, words)
    try:
        os.execv(sys.executable, [sys.executable, *words])
    except OSError as error:
        complain(f"cannot execute {sys.executable}: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE


# --- help ---------------------------------------------------------------------------------------------------------------

_TOP = """\
Fast, fresh and visible Python imports.

commands:
  run       run a program with accelerated imports
  index     read source trees now, instead of learning them by running programs
  watch     keep the index of source trees fresh, for all programs
  why       how a module name resolves, and what lost
  graph     who imports whom
  trace     where running processes spend import time, and who waits for whose import lock
  check     import everything below given directories, and say what fails or is in the way
  lazy-check  whether a command does the same with lazy imports, and what must be eager if not
  doctor    what works here, what does not, and what to do about it
  enable    accelerate every start of this environment
  disable   stop doing so
"""

_TOP_END = """\
`ladewerk COMMAND --help` says more about each.

examples:
  ladewerk run manage.py migrate     the first run learns, the second one is fast
  ladewerk run -m pytest tests
  ladewerk why yaml                  which yaml would be imported?

environment:
  LADEWERK=0                switches Ladewerk off, whatever else is set
  LADEWERK=1                switches it on, as `ladewerk run` does, for child processes too
  LADEWERK_FRESHNESS=MODE   stat: compare every file with what is there. The default, but where a
                            `ladewerk watch` daemon runs, programs rely on what it says
                            watch: rely on the kernel's events, the daemon's or the program's own
                            frozen: nothing changes, as in a container image; do not even look
  LADEWERK_INDEX=DIR        use what `ladewerk index --frozen` has written into DIR, as `run --index` does
  LADEWERK_LAZY=MODE        import lazily, as `run --lazy=MODE` does: default, own or all; 1 leaves it to
                            the project; 0: eagerly, in an environment that was enabled with --lazy, too
  LADEWERK_WATCH=PATH       where the socket of `ladewerk watch` is; 0: do not attach to it
  LADEWERK_CACHE=DIR        where the cache is (default: ~/.cache/ladewerk)
  LADEWERK_READONLY=1       use the cache, but never write to it
  LADEWERK_STAT_WINDOW=MS   how long long search paths may go unchecked (default: 10; 0: never)
  LADEWERK_GC=0             let the garbage collector run while modules are imported
  LADEWERK_UNMARSHAL=0      let CPython's marshal read the code of modules
  LADEWERK_TRUST_UID=UID    believe a cache that belongs to this user
  python -E and -I ignore all of them but LADEWERK=0.

exit status:
  0    done
  1    it failed, or it found something (each command's help says what)
  2    the command line is wrong
  126  the interpreter cannot be executed
  127  there is no interpreter
`ladewerk run` ends as the program it runs does.
"""

_RUN = """\
Run a program with accelerated imports, and its child processes as well.

The program runs as it would under `python`: same sys.argv, same __main__, same tracebacks.
Its first run learns where its modules are and keeps their code; the second one is fast.
"""

_RUN_END = """\
arguments:
  --freshness MODE          stat (default without a `ladewerk watch` daemon): compare every file
                            watch: rely on the kernel's events, a daemon's or the program's own
                            frozen: nothing changes, as in a container image; do not even look
  --index DIR               use what `ladewerk index --frozen` has written into DIR; frozen is the default then
  --lazy[=MODE]             import when what is imported is first used; MODE is
                            default: imports of other packages; those within a package are eager
                            own: all imports of your own code, too
                            all: every import
                            0: none, whatever the environment or the project says
                            1, or no MODE: what pyproject.toml says ([tool.ladewerk.lazy]), or default
  --report[=FORMAT]         at exit, say where the time of the imports went; FORMAT is
                            text (default): tables, on stderr
                            importtime: lines as of python -X importtime, on stderr
                            json: everything, in ladewerk-report-PID.json in this directory
                            chrome: a trace for Perfetto or chrome://tracing, in the same file
  --importtime              the same as --report=importtime
  --report-file FILE        where to write the report
  --reload[=MODE]           when a source that the program has imported, or has looked for, changes:
                            restart (default): end the program and start it again, from a process
                            that has imported what lies elsewhere (the library, site-packages)
                            live: reload in the running program; restart it where that cannot be
  --reload-root DIR         look after what lies below DIR (default: everything but the standard
                            library and site-packages); may be repeated
  --quiet                   with --reload: do not say on stderr what is done
  PYTHON OPTIONS            options of the interpreter, such as -X dev, -O or -W error

examples:
  ladewerk run app.py --port 8000
  ladewerk run -m pytest -x tests
  ladewerk run -X importtime -c 'import decimal'
  ladewerk run --freshness frozen -m gunicorn shop.wsgi
  ladewerk run --index .ladewerk -m gunicorn shop.wsgi
  ladewerk run --report manage.py check
  ladewerk run --report=chrome --report-file trace.json -m pytest tests
  ladewerk run --lazy -m shop --help
  ladewerk run --reload app.py --port 8000
  ladewerk run --reload=live --reload-root src -m shop

Options of ladewerk come first; everything after them is for the interpreter, and everything after
the script or module is for the program. LADEWERK=0 in the environment wins: then the program runs
under stock Python. So it does with -E, -I or -S, which ask for a start without environment or site.

Only the program itself is reported on, not its child processes, and only if it ends by itself: after
os._exit() or a signal that it does not handle there is no report.

With --lazy most of what a start imports may never be imported at all; LAZY.md says what differs, and
`ladewerk lazy-check` finds what a program needs to be imported at once. With --reload everything is
imported eagerly.

With --reload a program that has ended by itself, well or not, is started again at the next change;
ctrl-C, SIGTERM and SIGQUIT end it for good. Before a restart it and its children get SIGTERM, and
SIGKILL after 5 seconds; other signals are passed on. RELOAD.md, "Programs", says more.

exit status: the program's; 2, 126 and 127 as `ladewerk --help` says.
"""

_INDEX = """\
Read source trees now, instead of learning them by running programs.

Lists every directory, takes code from .pyc files that can be believed, compiles the rest, and
stores it all in the cache. Nothing is imported, nothing in the trees is changed.

With --frozen -o DIR it writes an artifact instead, for an image, a CI cache or a build system: the
same bytes from the same sources and interpreter, on any machine, in any directory, on any day.
"""

_INDEX_END = """\
examples:
  ladewerk index                     every directory of sys.path: the library and what is installed
  ladewerk index src                 one tree; a program must have src on its sys.path to use it
  ladewerk index --lazy              the same for programs that import lazily
  ladewerk index --dry-run --stats   how large is it, and how fast is the disk?
  ladewerk index --revalidate        after a checkout: one system call for each directory that is unchanged;
                                     sources edited in place are not looked for, whoever imports them sees
  RUN ladewerk index /app --quiet    in an image; LADEWERK_CACHE says where it goes

  ladewerk index --frozen -o .ladewerk src lib
                                     an artifact of two trees; `ladewerk run --index .ladewerk` uses it

in a Dockerfile, for whatever user the container runs as:
  COPY src /app/src
  RUN ladewerk index --frozen -o /app/.ladewerk --quiet /app/src
  ENV LADEWERK_INDEX=/app/.ladewerk PYTHONPATH=/app/src
  CMD ["ladewerk", "run", "-m", "shop"]

as a CI cache, where a checkout has new time stamps every day (keep .ladewerk, keyed by the sources):
  ladewerk index --frozen -o .ladewerk src
  ladewerk run --index .ladewerk --freshness stat -m pytest

An artifact holds index.lwi (no absolute path, no time, no owner: sources are known by their content),
and root0, root1, ...: links to where the ROOTs are, relative, so that all can be moved together, or
led elsewhere by `ln -sfn`. It is used, never written to. By default it is the truth for what lies
below its roots, and nothing there is looked at (frozen); with --freshness stat changed sources are
noticed, and what is unchanged is known by its content, once, and then by stamps in your cache. What
lies elsewhere is served from your cache as ever. An artifact that is damaged, of another interpreter,
or of a user who must not be believed is not used; `ladewerk doctor` says why.

Sources that do not compile are counted and named; they are no failure, since nobody may import them.

exit status: 0 stored, 1 a ROOT cannot be read or the cache or DIR cannot be written, 2 wrong usage.
"""

_WATCH = """\
Keep the index of source trees fresh, for all programs of this user at once.

Programs that start while it runs attach to it by themselves: what lies below the ROOTs costs them no
system call on the file system, and every change whose system call has returned is seen by the next
import. It runs until it is interrupted; nothing that a program believes rests on its being alive.
"""

_WATCH_END = """\
examples:
  ladewerk watch src lib             as they stand in sys.path
  ladewerk watch --status            how it is: roots, backend, events, clients, memory
  ladewerk watch --status --json | jq .events_per_second

  inotify    one watch for each directory, of fs.inotify.max_user_watches; chosen where it works
  fanotify   needs CAP_SYS_ADMIN and no memory, but sees whole file systems: where others write all
             the time, programs often find it at work, and compare
  rescan     none of these: nothing is promised, and programs compare with what is there, as without a daemon

Links below the ROOTs are not followed; what lies behind them, files with several names (hard links)
and whatever else events cannot tell of is compared with what is there (stat).

The socket is $XDG_RUNTIME_DIR/ladewerk/watch-..., one for each kind of interpreter; LADEWERK_WATCH=PATH
puts it elsewhere (for daemon and programs), LADEWERK_WATCH=0 keeps a program from attaching, and so does
LADEWERK_FRESHNESS=stat.

as a user service, ~/.config/systemd/user/ladewerk-watch.service:
  [Service]
  Type=notify
  ExecStart=/path/of/ladewerk watch %h/src
  Restart=on-failure
  [Install]
  WantedBy=default.target
or, started by the first program that asks (LADEWERK_WATCH=$XDG_RUNTIME_DIR/ladewerk.sock in its environment),
with a ladewerk-watch.socket beside it instead of the last two lines:
  [Socket]
  ListenSequentialPacket=%t/ladewerk.sock
  SocketMode=0600
  [Install]
  WantedBy=sockets.target

exit status: 0 interrupted (or, with --status, there is a daemon), 1 it failed (there is none), 2 wrong usage
or another daemon runs.
"""

_WHY = """\
How a module name resolves, and what lost.

Looks where `python -c 'import NAME'`, started in this directory, would look; imports and executes
nothing, not even parent packages.
"""

_WHY_END = """\
examples:
  ladewerk why yaml                  the file, and every other yaml that it shadows
  ladewerk why google.cloud          a namespace package: all its portions
  ladewerk why json --json | jq -r .file

Shadowed means: another one would have been taken, had the winner not been there first.

exit status: 0 found, 1 not found, 2 wrong usage.
"""

_GRAPH = """\
Who imports whom below the ROOTs (default: the current directory), as it stands in the sources.

Nothing is imported. What was read is stored in the cache; when it is asked again, only what has
changed is read.
"""

_GRAPH_END = """\
examples:
  ladewerk graph src                               how much there is
  ladewerk graph src --of shop.cart                what it imports, and who imports it
  ladewerk graph src --of shop.cart --importers --transitive
                                                   whatever may break when it changes
  ladewerk graph src --cycles                      modules that import each other while they are imported
  ladewerk graph src --internal --format dot | dot -Tsvg > graph.svg

An import happens
  module        whenever the importing module is imported
  conditional   perhaps: below `if`, in a loop, in a `try` or `with` block that may catch what it raises
  lazy          when the name is first used (`lazy import`, Python 3.15)
  function      when some function is called
  typing        never: below `if TYPE_CHECKING`
  observed      it has been seen to, in a report that was given to --observed

--kind chooses among them: all without it, but for --transitive those that happen at all, and for
--cycles `module`.

Each ROOT stands for an entry of sys.path. What is imported and not found below them is external.

exit status: 0 answered, 1 NAME is not in the graph or a ROOT cannot be read, 2 wrong usage.
"""

_CHECK = """\
Import everything below the given directories or packages, and say what is wrong.

Says, with file and line: what fails to import, hides another module, clashes with one, cannot be
named by any import, or imports itself in a circle. Module bodies run, in other processes.
"""

_CHECK_END = """\
A target is a directory as it stands in sys.path, a package or file by its path, or a module by its name.

kinds of findings (* as a warning only, + sometimes):
  import      a module body raises an exception, or a module it needs is not found
  syntax      a source does not compile
  exit        a module body raises SystemExit
  crash       a module body ends or kills the process
  timeout     a module body takes longer than --timeout
  unreadable  a directory or source cannot be read; a link leads nowhere
  shadowed+   a file has the name of a module, but another one is imported
  stdlib+     a module hides one of the standard library, or is hidden by it
  clash       two roots have a module of the same name; names that differ in case or by NFKC only
  masked+     modules in a directory without __init__ that loses to a module of that name
  unnameable* a source that no import statement can name
  circular*   modules that import each other

examples:
  ladewerk check src                 all of a source tree
  ladewerk check src --exclude 'migrations/*' --exclude conftest.py
  ladewerk check shop --isolate      a package by its name; finds modules that lack an import of their own
  ladewerk check src --strict --allow circular --json | jq .findings

One process imports many modules, so one may profit from what was imported before it; one that fails
there is tried again alone, and that counts. With --isolate each is alone. What is printed is
dropped, standard input is empty. __main__.py files are compiled, not executed.

exit status: 0 no error (with --strict: no finding), 1 errors, 2 wrong usage.
"""

_LAZY_CHECK = """\
Whether a command does the same with lazy imports, and what must be eager if it does not.

Runs it eagerly (twice or three times) and lazily, and compares exit status, output, and what its Python
processes have registered by their ends. On a difference it is run again and again with fewer and fewer
packages eager, and the lines for pyproject.toml are printed: none of what they name can be left out.
"""

_LAZY_CHECK_END = """\
COMMAND is a program of this environment or of PATH, or what `python` takes: a script, -m MODULE, -c CODE.
It runs here, many times, with an empty standard input and PYTHONHASHSEED=0 (if not set otherwise), so it
must be one that may be repeated.

what is compared:
  status          exit status
  stdout, stderr  line by line. What is not the same in eager runs (times, addresses) is left out, and that is said
  processes       Python processes that come to their ends
  codecs          search functions and error handlers
  atexit          functions to be called at exit
  warnings        filters
  abc             classes registered with abstract ones
  singledispatch  implementations of generic functions
  tables          those of the library that programs add to: copyreg, pickle, shutil, urllib.parse, sqlite3 ...
  mimetypes       types that were added
  logging         loggers with a level, handlers or filters; classes
  signals         handlers
  hooks           sys.excepthook and its like, sys.meta_path, sys.path_hooks, gc.callbacks, builtins.__import__
  environment     variables (their names are shown, their values are not)
  settings        sys.path, current directory, locale, recursion limit, start method of multiprocessing ...
  modules         what was put into sys.modules under another name
  patches         functions and classes in modules and classes that come from elsewhere

What belongs to a module that was not loaded lazily is no difference: a class that is registered, say,
where there is no such class. Modules that are not loaded are none either.

examples:
  ladewerk lazy-check -- flask --app shop routes
  ladewerk lazy-check --mode all -- -m pytest -q tests/test_cart.py
  ladewerk lazy-check --allow atexit --allow logging -- app.py --dry-run

exit status: 0 the same, 1 not the same, or nothing was lazy, 2 wrong usage.
"""

_DOCTOR = """\
What works here, what does not, and what to do about it.

Looks at the interpreter, the environment, the cache and the kernel, and starts the interpreter once
to see whether Ladewerk serves it.
"""

_DOCTOR_END = """\
Every line begins with one of
  ok        as it should be
  note      worth knowing; nothing is wrong
  problem   something to mend; the text says how

--reset is for the time after a crash: when a start of Python dies while Ladewerk works for the first
time, later starts run without it until the mark of that start is removed.

exit status: 0 no problem, 1 a problem, 2 wrong usage.
"""

_ENABLE = """\
Accelerate every start of this environment, not only `ladewerk run`.

Writes ladewerk_enabled.pth into the environment's site-packages. Programs that were started before
are not affected. LADEWERK=0 in the environment of a program still switches it off.
"""

_ENABLE_END = """\
examples:
  ladewerk enable
  python app.py                      is accelerated now
  LADEWERK=0 python app.py           is not
  ladewerk enable --lazy             with imports that wait until they are needed (see LAZY.md);
                                     without --lazy: eager again
  LADEWERK_LAZY=0 python app.py      is accelerated, and eager

exit status: 0 enabled (or it was already), 1 site-packages cannot be written, 2 wrong usage.
"""

_DISABLE = """\
Undo `ladewerk enable`: only `ladewerk run` accelerates again.

Programs that run now keep what they have; the cache stays.
"""

_DISABLE_END = """\
exit status: 0 disabled (or it was not enabled), 1 site-packages cannot be written, 2 wrong usage.
"""


# --- the parser ---------------------------------------------------------------------------------------------------------


def _version() -> str:
    from platform import python_implementation, python_version

    from ladewerk import __version__

    return f"ladewerk {__version__} ({python_implementation()} {python_version()}, {sys.executable})"


def _thread_count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 64")
    return int(text)


def _edge_kinds(text: str) -> int:
    from argparse import ArgumentTypeError

    from ladewerk._graph import kinds_of

    try:
        return kinds_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _misuse_of_graph(options: argparse.Namespace) -> str | None:
    from ladewerk import _graph

    return _graph.misuse(options)


def _process_count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < 1e9:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _parser() -> argparse.ArgumentParser:
    import argparse

    def add(name: str, about: str, end: str, usage: str | None = None) -> argparse.ArgumentParser:
        return commands.add_parser(name, prog=f"ladewerk {name}", description=about, epilog=end, usage=usage, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)

    parser = argparse.ArgumentParser(
        prog="ladewerk", usage="ladewerk COMMAND [ARGUMENTS]", description=_TOP, epilog=_TOP_END, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="store_true", help="say which version this is, and of which interpreter")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)

    add("run", _RUN, _RUN_END, "ladewerk run [--freshness MODE] [--report[=FORMAT]] [--report-file FILE]\n"
        "                    [--index DIR] [--reload[=MODE]] [--reload-root DIR] [--quiet]\n"
        "                    [PYTHON OPTIONS] (SCRIPT | -m MODULE | -c CODE) [ARGUMENTS]")
    index = add("index", _INDEX, _INDEX_END)
    index.add_argument("roots", nargs="*", metavar="ROOT", help="a directory as it stands in sys.path (default: all of sys.path)")
    index.add_argument("--quiet", action="store_true", help="print nothing but errors")
    index.add_argument("--json", action="store_true", help="print the summary as JSON")
    index.add_argument("--dry-run", action="store_true", help="read the directories and say what there is; store nothing, read no file")
    index.add_argument("--revalidate", action="store_true",
                       help="ask every directory that the cache knows (below the ROOTs) whether it has changed, and read those that have")
    index.add_argument("--lazy", action="store_true", help="for programs that import lazily (run --lazy), which have a cache and artifacts of their own")
    index.add_argument("--stats", action="store_true", help="say what reading took, and what the index takes for each module")
    index.add_argument("--threads", type=_thread_count, default=0, metavar="N",
                       help="threads that read and processes that compile (default: one per processor; more that read while they wait for a disk)")
    index.add_argument("--backend", choices=BACKENDS, default="auto",
                       help="pool: threads make all calls; ring: io_uring asks for files; auto: a pool, and where a directory has a great many files whatever is faster (default)")
    index.add_argument("--frozen", action="store_true", help="write an artifact instead, the same bytes from the same sources")
    index.add_argument("-o", dest="out", metavar="DIR", help="where the artifact goes; one that is there is replaced in one step")
    watch = add("watch", _WATCH, _WATCH_END)
    watch.add_argument("roots", nargs="*", metavar="ROOT", help="a directory as it stands in sys.path")
    watch.add_argument("--backend", choices=WATCHERS, default="auto", help="who tells of changes (default: inotify)")
    watch.add_argument("--threads", type=_thread_count, default=0, metavar="N", help="threads that read (default: as for index)")
    watch.add_argument("--status", action="store_true", help="say how the daemon is that runs now")
    watch.add_argument("--json", action="store_true", help="print the status as JSON")
    why = add("why", _WHY, _WHY_END)
    why.add_argument("name", metavar="NAME", help="a module, such as yaml or xml.dom.minidom")
    why.add_argument("--json", action="store_true", help="print everything as JSON")
    graph = add("graph", _GRAPH, _GRAPH_END)
    graph.add_argument("roots", nargs="*", metavar="ROOT", help="a directory as it stands in sys.path (default: the current directory)")
    graph.add_argument("--of", metavar="NAME", help="what this module imports, and what imports it")
    graph.add_argument("--imports", action="store_true", help="only what NAME imports")
    graph.add_argument("--importers", action="store_true", help="only what imports NAME")
    graph.add_argument("--transitive", action="store_true", help="directly or through others, and through the packages that modules are in")
    graph.add_argument("--cycles", action="store_true", help="modules that import each other, with a shortest cycle for each group")
    graph.add_argument("--kind", dest="kinds", type=_edge_kinds, metavar="KIND,...", help="only imports of these kinds (see below), or `all`")
    graph.add_argument("--internal", action="store_true", help="leave out what is external")
    graph.add_argument("--format", choices=GRAPHS, default="text", help="text (default), json, or dot for Graphviz")
    graph.add_argument("--observed", action="append", default=[], metavar="FILE", help="add the imports in a report that `ladewerk run --report=json` has written")
    graph.add_argument("--threads", type=_thread_count, default=0, metavar="N", help="threads that compare, and processes that compile (default: one per processor)")
    check = add("check", _CHECK, _CHECK_END)
    check.add_argument("targets", nargs="+", metavar="TARGET", help="a directory, a package or a module")
    check.add_argument("-j", "--jobs", type=_process_count, default=0, metavar="N", help="processes at a time (default: one per processor)")
    check.add_argument("--isolate", action="store_true", help="import each module in a process of its own")
    check.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="that one module may take (default: 60; 0: any)")
    check.add_argument("--exclude", action="append", default=[], metavar="GLOB",
                       help="neither import nor report what has such a name, path below its root, or module name; may be repeated")
    check.add_argument("--allow", action="append", default=[], choices=FINDINGS, metavar="KIND", help="do not report findings of this kind; may be repeated")
    check.add_argument("--strict", action="store_true", help="fail on warnings, too")
    check.add_argument("--format", choices=("text", "json"), default="text", help="how to print what was found (default: text)")
    check.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    check.add_argument("--quiet", action="store_true", help="print findings only: no progress, no summary")
    lazy = add("lazy-check", _LAZY_CHECK, _LAZY_CHECK_END, "ladewerk lazy-check [--mode MODE] [--allow KIND] [--no-search] [--json] [--quiet] [--] COMMAND ...")
    lazy.add_argument("--mode", choices=LAZY_MODES, help="the mode to check (default: what LADEWERK_LAZY or pyproject.toml says)")
    lazy.add_argument("--allow", action="append", default=[], choices=LAZY_KINDS, metavar="KIND", help="do not compare this; may be repeated")
    lazy.add_argument("--no-search", action="store_false", dest="find", help="say what differs, but do not look for what must be eager")
    lazy.add_argument("--json", action="store_true", help="print what was found as JSON")
    lazy.add_argument("--quiet", action="store_true", help="show no progress")
    lazy.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    doctor = add("doctor", _DOCTOR, _DOCTOR_END)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--reset", action="store_true", help="remove the marks of starts that died, then look")
    enable = add("enable", _ENABLE, _ENABLE_END)
    enable.add_argument("--lazy", nargs="?", const="1", choices=LAZY, metavar="MODE",
                        help="import lazily: default, own or all, as `ladewerk run --lazy` has them; 1, or no MODE: what the project says, or default; 0: eagerly")
    add("disable", _DISABLE, _DISABLE_END)
    return parser


def _misuse_of_frozen(options: argparse.Namespace) -> str | None:
    if options.frozen and not options.out:
        return "--frozen needs -o DIR, where the artifact goes"
    if options.frozen and not options.roots:
        return "--frozen needs the ROOTs to be read: what is in sys.path differs from machine to machine"
    if options.frozen and (options.revalidate or options.dry_run):
        return "--frozen reads and writes all of it: it goes with neither --revalidate nor --dry-run"
    if options.out and not options.frozen:
        return "-o is for --frozen; what is stored otherwise goes to the cache (LADEWERK_CACHE)"
    return None


def _misuse_of_watch(options: argparse.Namespace) -> str | None:
    if options.status and options.roots:
        return "--status asks the daemon that runs; it takes no ROOT"
    if options.json and not options.status:
        return "--json is for --status"
    if not options.status and not options.roots:
        return "which directories? Give ROOTs as they stand in sys.path"
    return None


def _misuse_of_lazy_check(options: argparse.Namespace) -> str | None:
    if options.words[:1] == ["--"]:
        del options.words[0]
    return None if options.words else "which command? Give it as you would to a shell"


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "lazy-check":
        from ladewerk import _lazy_check

        return _lazy_check.main(options.words, options.mode, allowed=options.allow, find=options.find, as_json=options.json, quiet=options.quiet)
    if options.command == "watch":
        from ladewerk import _watch

        return _watch.main(options.roots, backend=options.backend, threads=options.threads, ask=options.status, as_json=options.json)
    if options.command == "index":
        if options.frozen:
            from ladewerk import _frozen

            return _frozen.main(options.roots, options.out, quiet=options.quiet, as_json=options.json, threads=options.threads,
                                backend=options.backend, lazy=options.lazy)
        from ladewerk import _index

        return _index.main(options.roots, quiet=options.quiet, as_json=options.json, threads=options.threads, backend=options.backend,
                           dry_run=options.dry_run, with_stats=options.stats, revalidate=options.revalidate, lazy=options.lazy)
    if options.command == "why":
        from ladewerk import _why

        return _why.main(options.name, as_json=options.json)
    if options.command == "graph":
        from ladewerk import _graph

        return _graph.main(options)
    if options.command == "check":
        from ladewerk import _check

        return _check.main(options.targets, workers=options.jobs, isolate=options.isolate, allow=options.allow, strict=options.strict,
                           as_json=options.format == "json", quiet=options.quiet, timeout=options.timeout, exclude=options.exclude)
    if options.command == "doctor":
        from ladewerk import _doctor

        return _doctor.main(as_json=options.json, reset=options.reset)
    from ladewerk import _enable

    return _enable.enable(None if options.lazy == "0" else options.lazy) if options.command == "enable" else _enable.disable()


def _forget_output() -> None:
    """What is still buffered cannot be written; the interpreter's flush at exit must not try."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _quick_graph(words: list[str]) -> int | None:
    """A question is answered sooner than argparse is imported. None: it is none of the plain ones."""
    from ladewerk import _graph

    options = _graph.quick(words)
    return None if options is None else _guarded("graph", lambda: _graph.main(options))


def _guarded(command: str, work: Callable[[], int]) -> int:
    try:
        status = work()
        if sys.stdout:
            sys.stdout.flush()
        return status
    except Failure as failure:
        complain(f"{command}: {failure}")
        return FAILED
    except BrokenPipeError:
        _forget_output()  # the reader has seen enough (`| head`)
        return FAILED
    except OSError as error:
        _forget_output()
        complain(f"{command}: {error}")
        return FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def main(argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if stream:  # None where it was closed by whoever started us
            # File names need not be UTF-8: what cannot be printed is shown as an escape.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if argv[:1] == ["run"] and argv[1:2] not in (["--help"], ["-h"]):
        return run(argv[1:])
    if argv[:1] == ["trace"]:
        from ladewerk import _trace

        return _trace.main(argv[1:])
    if argv[:1] == ["graph"] and (status := _quick_graph(argv[1:])) is not None:
        return status
    parser = _parser()
    options = parser.parse_args(argv)
    if options.version:
        print(_version())
        return OK
    if not options.command:
        parser.print_help(sys.stderr)
        return USAGE
    misuse = {"index": _misuse_of_frozen, "watch": _misuse_of_watch, "graph": _misuse_of_graph, "lazy-check": _misuse_of_lazy_check}.get(options.command)
    if misuse and (wrong := misuse(options)):
        complain(f"{options.command}: {wrong}")
        return USAGE
    return _guarded(options.command, lambda: _dispatch(options))
