# SPDX-License-Identifier: MIT
"""`ladewerk run --reload`, in the template and in the program: what runs between the end of `site` and the program's first line.

The supervisor starts the interpreter with the program's own command line. When `site` has done everything it does, and before the interpreter looks at the script,
the process stops here and is the *template*: it imports what it is told to, and forks. The child goes back to where it came from, so the program is run by Python itself:
sys.path[0], sys.argv, __main__, tracebacks and the exit status are nobody else's work. What the child keeps is a finder, first on sys.meta_path, that finds nothing and tells the
supervisor where is looked for what.

Nothing is imported here that an interpreter does not have when `site` runs.

Messages (SOCK_SEQPACKET, fields separated by NUL):

    control, supervisor -> template     rules FOREIGN... | roots ROOT... | known DIRECTORY... | import NAME... | without NAME... | make | run PGID | seen
             template -> supervisor     hello ENTRY... | ready NAME... | spoilt ITEM NAME... | pid PID | end STATUS
    report,  program -> supervisor      path WAIT NUMBER TOP DIRECTORY... | dir WAIT DIRECTORY | list WAIT DIRECTORY | look NUMBER NAME ABSENT...
             supervisor -> program      WAIT, once what was named is watched ("0": nobody waits)
"""
from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys
from _thread import RLock, get_ident
from time import time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType
    from typing import Any, NoReturn

SIZE = 1 << 17  # of a message
PART = 200  # names, or paths, in one


def join(*fields: object) -> bytes:
    return b"\0".join(os.fsencode(str(field)) for field in fields)


def split(message: bytes) -> list[str]:
    return [os.fsdecode(field) for field in message.split(b"\0")]


def parts(verb: str, words: Iterable[str]) -> Iterator[bytes]:
    """As many messages as it takes."""
    rest = list(words)
    for at in range(0, len(rest), PART):
        yield join(verb, *rest[at:at + PART])


class Rules:
    """What lies below the roots: what ROOTS say, or else all but the standard library and site-packages."""

    def __init__(self) -> None:
        self.roots: tuple[str, ...] = ()
        self.foreign: tuple[str, ...] = ()

    def inside(self, path: str) -> bool:
        path += "/"
        if self.roots:
            return path.startswith(self.roots)
        return not path.startswith(self.foreign) and "/site-packages/" not in path and "/dist-packages/" not in path


class Channel:
    """To the supervisor, for this process and those that it forks: one at a time waits for an answer."""

    def __init__(self, fd: int) -> None:
        self._fd, self._lock = fd, RLock()
        between = os.memfd_create("ladewerk-reload")
        self._between = os.dup2(between, fd + 8, inheritable=False)  # processes exclude each other by its lock; above the numbers that a program expects
        os.close(between)
        self._depth = self._sent = self._answered = 0
        self._which = os.fstat(fd)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = RLock()
        self._depth = self._sent = self._answered = 0

    def open(self) -> bool:
        """The program has not closed it, nor is its number another file's."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._which)
        except OSError:
            return False

    def tell(self, *fields: object) -> None:
        if self.open():
            os.write(self._fd, join(*fields))

    def ask(self, verb: str, *fields: object) -> None:
        """Returns when the supervisor has done it, or is gone."""
        with self._lock:
            if not self.open():
                return
            if not self._depth:
                os.lockf(self._between, os.F_LOCK, 0)
            self._depth += 1  # a signal's handler may import while we wait
            try:
                self._sent += 1
                mine = self._sent
                wait = f"{os.getpid()}:{mine}"
                os.write(self._fd, join(verb, wait, *fields))
                while self._answered < mine:
                    answer = os.read(self._fd, 100)
                    if not answer:
                        return
                    pid, number = answer.decode().split(":")
                    if int(pid) == os.getpid():  # else that of a process that has died meanwhile
                        self._answered = max(self._answered, int(number))
            finally:
                self._depth -= 1
                if not self._depth:
                    os.lockf(self._between, os.F_ULOCK, 0)


class Finder:
    """First on sys.meta_path. Finds nothing; says what is looked for, and has the directories watched before anybody looks into them."""

    def __init__(self, channel: Channel, rules: Rules, known: set[str]) -> None:
        self._channel, self._rules, self._known = channel, rules, known
        self._paths: dict[tuple[str, ...], tuple[int, list[str]]] = {}
        self._pending: list[str] = []  # names that we have not seen the end of
        self._listed: set[str] = set()

    def look_into(self, directory: str) -> None:
        """Somebody is about to take what is in DIRECTORY for modules, whatever it is."""
        if directory in self._listed or not self._inside(directory):
            return
        try:
            self._channel.ask("list", directory)
        except (OSError, RuntimeError):
            return
        self._listed.add(directory)

    def find_spec(self, name: str, path: Iterable[str] | None = None, target: object = None) -> None:
        try:
            self._look(name, path)
        except (OSError, RuntimeError):  # no supervisor any more, or the path changes while we read it
            pass

    def _inside(self, path: str) -> bool:
        return self._rules.inside(path)

    def _look(self, name: str, path: Iterable[str] | None) -> None:
        entries = tuple([entry for entry in (sys.path if path is None else path) if type(entry) is str])
        relative = not all([entry.startswith("/") for entry in entries])
        key = (*entries, os.getcwd()) if relative else entries
        number, directories = self._paths.get(key) or self._meet(key, entries, path is None)
        tail = name.rpartition(".")[2]
        for directory in directories:
            package = f"{directory}/{tail}"
            if package not in self._known and os.path.isdir(package):
                self._known.add(package)
                self._channel.ask("dir", package)
        gone = self._absent()
        self._pending.append(name)
        self._channel.tell("look", number, name, *gone)

    def _meet(self, key: tuple[str, ...], entries: tuple[str, ...], top: bool) -> tuple[int, list[str]]:
        """A search path that is new. Number 0: nothing in it is watched."""
        directories = [path for path in map(os.path.abspath, entries) if self._inside(path)]
        number = len(self._paths) + 1 if directories else 0
        self._paths[key] = number, directories
        if number:
            fields = number, int(top), *directories
            if self._known.issuperset(directories):
                self._channel.tell("path", "0", *fields)
            else:
                self._channel.ask("path", *fields)
                self._known.update(directories)
        return number, directories

    def _absent(self) -> list[str]:
        """Of those looked for earlier: not imported, or imported from below the roots."""
        pending, self._pending = self._pending, []
        return [name for name in pending if (origin := origin_of(name)) is None or (origin.startswith("/") and self._rules.inside(origin))]


def origin_of(name: str) -> str | None:
    """Where the module of this name comes from; None: there is none."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return None
    where = getattr(spec, "submodule_search_locations", None)
    origin = getattr(spec, "origin", None)
    return origin if isinstance(origin, str) else next(iter(where), "") if where is not None else ""


# --- the template -------------------------------------------------------------------------------------------------------


class Spy:
    """Notices what is written to a standard stream."""

    def __init__(self) -> None:
        self.written = 0
        self._streams: list[object] = []

    def begin(self) -> None:
        for stream in (sys.stdout, sys.stderr, getattr(sys.stdout, "buffer", None), getattr(sys.stderr, "buffer", None)):
            original = getattr(stream, "write", None)
            if original is None:
                continue

            def write(data: str, original: object = original) -> object:
                self.written += 1
                return original(data)  # type: ignore[operator]

            try:
                stream.write = write  # type: ignore[union-attr, method-assign]
            except (AttributeError, TypeError):
                continue
            self._streams.append(stream)

    def end(self) -> None:
        for stream in self._streams:
            del stream.write  # type: ignore[attr-defined]


_STATUS = ("Threads:", "SigBlk:", "SigIgn:", "SigCgt:", "Umask:", "Seccomp:")


def _descriptors() -> tuple[tuple[str, str], ...]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append((fd, os.readlink(f"/proc/self/fd/{fd}")))
        except OSError:  # the listing's own
            pass
    return tuple(found)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def effects() -> tuple[object, ...]:
    """What a fork would not hand on, or not as a start has it."""
    fd = os.open("/proc/self/status", os.O_RDONLY)
    status = os.read(fd, 8192).decode(errors="replace")
    os.close(fd)
    return (
        tuple(line for line in status.splitlines() if line.startswith(_STATUS)),
        tuple(_signal.getsignal(number) for number in _signal.valid_signals()),
        _signal.getitimer(_signal.ITIMER_REAL), _signal.getitimer(_signal.ITIMER_PROF), os.getcwd(), _descriptors(), _has_children(),
        tuple(sys.path), tuple(sys.argv), tuple(map(id, sys.meta_path)), tuple(map(id, sys.path_hooks)),
        tuple(map(id, (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile()))),
    )


class Preloader(Finder):
    """Imports what earlier starts of the program have imported from elsewhere than the roots. What leaves traces that a fork does not hand on (`effects`), or fails, spoils
    the template: it says who did and who needed that, and ends. Then another one is made without them."""

    def __init__(self, channel: Channel, rules: Rules, control: int, without: set[str]) -> None:
        super().__init__(channel, rules, set())
        self._control, self._without = control, without
        self._base = set(sys.modules)
        self._checked = len(sys.modules)
        self._item = self._last = ""
        self._spy = Spy()

    def _inside(self, path: str) -> bool:
        return True  # all of it is watched

    def _absent(self) -> list[str]:
        return []

    def find_spec(self, name: str, path: Iterable[str] | None = None, target: object = None) -> None:
        if name in self._without:
            self._spoilt([])
        self._check()
        self._last = name
        super().find_spec(name, path, target)

    def _check(self) -> None:
        if self._spy.written or effects() != self._effects or self._has_theirs():
            self._spoilt([self._last, self._item])

    def _has_theirs(self) -> bool:
        """A module from below the roots, which somebody here has imported: it would be old one day."""
        new = list(sys.modules)[self._checked:]
        self._checked += len(new)
        if self._last not in new:
            new.append(self._last)  # its body may have begun since
        return any((origin := origin_of(name)) and origin.startswith("/") and self._rules.inside(origin) for name in new if name not in self._base)

    def _spoilt(self, names: list[str]) -> NoReturn:
        """Nobody's fault but theirs: these, and those whose bodies run now."""
        running = [name for name, module in list(sys.modules.items()) if name not in self._base and getattr(getattr(module, "__spec__", None), "_initializing", False)]
        os.write(self._control, join("spoilt", self._item, *running[:PART], *filter(None, names), self._item))
        os._exit(0)

    def run(self, names: list[str]) -> list[str]:
        """-> the modules that are there now and were not."""
        sys.meta_path.insert(0, self)
        self._spy.begin()
        self._effects = effects()
        for name in names:
            if name in self._without or name in sys.modules:
                continue
            self._item = self._last = name
            if self._elsewhere(name):
                try:
                    __import__(name)
                except BaseException:
                    self._spoilt([self._last, name])
                self._check()
        self._spy.end()
        sys.meta_path.remove(self)
        return [name for name in sys.modules if name not in self._base]

    def _elsewhere(self, name: str) -> bool:
        """There is such a module, and it is not below the roots."""
        parent = name.rpartition(".")[0]
        package = sys.modules.get(parent)
        if parent and package is None:
            return False
        path = getattr(package, "__path__", None) if parent else None
        if parent and path is None:
            return False
        find = sys.modules["_frozen_importlib"]._find_spec
        try:
            spec = find(name, path)
        except BaseException:
            self._spoilt([name])
        if spec is None:
            return False
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        return not any(place.startswith("/") and self._rules.inside(place) for place in places)


class Template:
    """The process that forks the program's."""

    def __init__(self, control: int, report: int, live: int) -> None:
        self._control, self._live = control, live
        self._channel = Channel(report)
        self._rules = Rules()
        self._known: set[str] = set()
        self._names: list[str] = []
        self._without: set[str] = set()

    def serve(self) -> None:
        """Returns in the program's process only."""
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            self._obey()
        except BaseException:
            if not begun:
                os._exit(1)
            raise
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def _obey(self) -> None:
        os.write(self._control, join("hello", *sys.path))
        while True:
            message = os.read(self._control, SIZE)
            if not message:
                os._exit(0)
            verb, *words = split(message)
            if verb == "rules":
                self._rules.foreign = tuple(words)
            elif verb == "roots":
                self._rules.roots = tuple(words)
            elif verb == "known":
                self._known.update(words)
            elif verb == "unknown":
                self._known.clear()
            elif verb == "import":
                self._names += words
            elif verb == "without":
                self._without.update(words)
            elif verb == "make":
                self._make()
            elif verb == "run":
                if self._run(int(words[0])):
                    return

    def _make(self) -> None:
        for now in list(getattr(sys.modules.get("ladewerk_start"), "waiting", ())):
            now()  # what an activation opens is not the first module's doing
        said = sys.flags.verbose or "importtime" in sys._xoptions  # of every import that a start makes
        loaded = [] if said else Preloader(self._channel, self._rules, self._control, self._without).run(self._names)
        for message in parts("loaded", loaded):
            os.write(self._control, message)
        os.write(self._control, b"ready")

    def _run(self, group: int) -> bool:
        """Fork. True: this is the program's process."""
        pid = os.fork()
        try:
            os.setpgid(pid, group)
        except OSError:
            pass  # it has been there, and ended
        if not pid:
            global begun
            begun = time_ns()
            os.close(self._control)
            threading = sys.modules.get("threading")
            if threading is not None:
                threading.main_thread()._set_native_id()  # 3.11 keeps the template's
            finder = Finder(self._channel, self._rules, self._known)
            sys.meta_path.insert(0, finder)
            listing.append(finder.look_into)
            if self._live >= 0:
                from_here(self._live, self._rules)
            return True
        os.write(self._control, join("pid", pid))
        os.read(self._control, SIZE)  # "seen": until then the number is nobody else's
        os.write(self._control, join("end", os.waitpid(pid, 0)[1]))
        return False


listing: list[Any] = []  # to be called before an autoloader looks into a directory, with its path
begun = 0  # when this process was forked from the template (ns, as files' times are); 0: it is none


def from_here(fd: int, rules: Rules) -> None:
    """Reload while the program runs, when the supervisor says so."""
    from _thread import start_new_thread

    start_new_thread(lambda: beside("ladewerk._rerun_live").serve(fd, rules.roots), ())


def beside(name: str) -> ModuleType:
    """A module of ours, whatever sys.path and sys.meta_path are by now."""
    found = sys.modules.get(name)
    if found is None:
        spec = sys.modules["_frozen_importlib_external"].PathFinder.find_spec(name, [os.path.dirname(__file__)])
        found = sys.modules["_frozen_importlib"]._load(spec)
    return found


def begin(setting: str) -> None:
    """SETTING, which the supervisor has put into the environment: PID:CONTROL:REPORT:LIVE. Arrange for the template to be made when `site` has finished."""
    pid, *fds = map(int, setting.split(":"))
    if pid != os.getpid():
        return
    for fd in fds:
        if fd >= 0:
            os.set_inheritable(fd, False)
    site: Any = sys.modules["site"]
    if not hasattr(site, "execsitecustomize") or not hasattr(site, "execusercustomize"):
        Template(*fds).serve()  # what is left of `site` is done by each start
        return
    system, user = site.execsitecustomize, site.execusercustomize
    main = get_ident()

    def done() -> None:
        site.execsitecustomize, site.execusercustomize = system, user
        if get_ident() == main:
            Template(*fds).serve()

    def execsitecustomize() -> None:
        system()
        if not site.ENABLE_USER_SITE:
            done()

    def execusercustomize() -> None:
        user()
        done()

    site.execsitecustomize, site.execusercustomize = execsitecustomize, execusercustomize
