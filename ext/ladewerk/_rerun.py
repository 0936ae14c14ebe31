# SPDX-License-Identifier: MIT
"""`ladewerk run --reload`: the supervisor. See ext/RELOAD.md, *Programs*.

    supervisor ── template ── program       the template (_rerun_child.py) is the interpreter, started with the program's command line and stopped after `site`
        │             └ (next template)     with the modules from outside the roots that the program was seen to import; takes over at the next start
        └ keeper                            leads the program's process group (_rerun_group.py)

One thread, one loop (`_turn`). In each turn the kernel's events are taken first, then what the processes report, and only then both are compared: a process says where it looks before it
looks, so whatever it may have seen differently was either reported before the event was taken, or looked at after the change.
"""
from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import NamedTuple, NoReturn

from ._rerun_child import SIZE
from ._rerun_group import Group
from ._rerun_template import Rules, Template
from ._rerun_watch import Change, Places, being_written, module_of

PATIENCE = 5.0  # seconds between SIGTERM and SIGKILL, and for an interrupted program to end
SETTLE = 0.005  # seconds without a change: then whoever saves has finished,
WRITING = 0.1  # or has taken his time
AGAIN = 0.5  # where the kernel does not tell
QUIET = 0.3  # seconds without an import: then a template with these modules is made
TRIES = 12  # templates that turn out to be spoilt
TOLD = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
END = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class Entry(NamedTuple):
    """What a command line says is to be run: KIND "script", "m" or "c"."""

    kind: str
    what: str


def entry_of(words: list[str]) -> Entry:
    """ValueError: nothing that can be started again and again."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "-":
            raise ValueError("--reload cannot read a program from standard input twice")
        if not word.startswith("-"):
            return Entry("script", word)
        if word == "--check-hash-based-pycs":
            del rest[:1]
        if word.startswith("--"):
            continue
        for at, letter in enumerate(word[1:], 1):
            if letter in "mc":
                return Entry(letter, word[at + 1:] or (rest[0] if rest else ""))
            if letter == "S":
                raise ValueError("--reload needs the `site` module, which -S leaves out")
            if letter in "WX":
                if at + 1 == len(word):
                    del rest[:1]
                break
    raise ValueError("--reload needs a script, -m MODULE or -c CODE")


class Supervisor:
    """Starts the program, again and again."""

    def __init__(self, words: list[str], roots: list[str], live: bool, quiet: bool) -> None:
        self._entry, self._quiet, self._live = entry_of(words), quiet, live
        self._group = Group()
        self._awake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        for number in (*TOLD, signal.SIGCHLD, signal.SIGCONT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: None)
        self._places = Places()
        self._rules = Rules(words, roots, live, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        self._template = Template(self._rules, self._places)
        self._next: Template | None = None
        self._learnt: dict[str, None] = {}  # modules that starts have imported, in their order
        self._without: set[str] = set()  # that cannot be in one
        self._tries = 0
        self._tops: set[str] = set()  # below the roots, of sys.path
        self._pid = self._pidfd = 0  # the program; 0: it does not run
        self._status = 0  # of its end
        self._asked = 0  # to end: the signal,
        self._interrupted = -PATIENCE  # and when it came
        self._to_pass_on: list[int] = []
        self._changes: list[Change] = []  # that concern it
        self._answer: list[str] | None = None  # of a live program
        self._asking = False
        self._busy = 0.0  # when something was imported last
        self._looked = 0.0  # when the clock made us look

    def say(self, text: str) -> None:
        if not self._quiet:
            with contextlib.suppress(OSError):
                os.write(2, f"ladewerk: {text}\n".encode(errors="surrogateescape"))

    # --- the loop ---

    def _templates(self) -> list[Template]:
        return [each for each in (self._template, self._next) if each is not None and not each.ended]

    def _turn(self, timeout: float | None) -> None:
        """Wait, TIMEOUT seconds at most, for something to happen, and take it in."""
        if self._places.must_look_again():
            timeout = AGAIN if timeout is None else min(timeout, AGAIN)
        poll = select.poll()
        sources = [self._awake, self._group.fileno(), self._places.fileno()]
        for template in self._templates():
            sources += [template.control.fileno(), template.report.fileno()]
        if self._template.live is not None and not self._template.ended:
            sources.append(self._template.live.fileno())
        for fd in sources:
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout is None else 1000 * timeout)}
        changes = self._places.changes()
        if self._places.must_look_again() and time.monotonic() >= self._looked + AGAIN:
            changes += self._places.look_again()
            self._looked = time.monotonic()
        self._take_reports()
        self._take_changes(changes)
        if self._awake in ready:
            self._take_signals()
        if self._group.fileno() in ready:
            self._take_terminal_signals()
        for template in self._templates():
            if template.control.fileno() in ready:
                self._hear(template)
        live = self._template.live
        if live is not None and not self._template.ended and live.fileno() in ready:
            self._take_answer()

    def _take_reports(self) -> None:
        for template in self._templates():
            if template.reports() and template is self._template:
                self._busy = time.monotonic()
                self._tops |= template.looks.tops

    def _take_changes(self, changes: list[Change]) -> None:
        hidden = self._template.tops()
        for change in changes:
            if self._template.looks.concerned(change) or (change[0] in self._tops and module_of(change[1]) in hidden):
                self._changes.append(change)
            for template in self._templates():
                own = template.looks if template is self._next else template.own
                if change[1].endswith(".pth") or own.concerned(change):
                    template.stale = True

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._awake, 1000):
                if number == signal.SIGCHLD:
                    if self._group.has_stopped():
                        self._group.stop_with_it()
                    continue
                if number == signal.SIGCONT:
                    self._group.go_on()
                    continue
                self._asked_by(number)
                self._to_pass_on.append(number)
            self._pass_on()

    def _pass_on(self) -> None:
        """To a program that runs; one that has been started, but of which we have not heard yet, gets them then."""
        if self._pid or not self._running:
            for number in self._to_pass_on if self._pid else ():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)
            self._to_pass_on.clear()

    def _take_terminal_signals(self) -> None:
        for number in self._group.told():
            self._asked_by(number)

    def _asked_by(self, number: int) -> None:
        """To end. A program may take SIGHUP and others as it likes, but one that does not run cannot."""
        if number in END or (number == signal.SIGHUP and not self._running):
            self._asked = number
            self._interrupted = time.monotonic()

    def _hear(self, template: Template) -> None:
        said = template.hear()
        if template is self._template:
            if said is None:
                self._status = os.waitpid(template.pid, 0)[1]
                template.pid = 0
                self._ended()
            elif said and said[0] == "pid":
                self._pid = int(said[1])
                self._pidfd = os.pidfd_open(self._pid)
                template.control.send(b"seen")
                self._pass_on()
            elif said and said[0] == "end":
                self._status = int(said[1])
                self._ended()

    def _ended(self) -> None:
        if self._pid:
            os.close(self._pidfd)
        self._pid = self._pidfd = 0
        self._running = False
        for number in self._group.told_by_now():
            self._asked_by(number)

    def _take_answer(self) -> None:
        assert self._template.live is not None
        try:
            message = self._template.live.recv(SIZE)
        except OSError:
            message = b""
        if message:
            self._answer = message.decode(errors="surrogateescape").split("\0")
        else:
            self._template.live.close()
            self._template.live = None
            self._asking = False

    # --- a start ---

    def _start(self) -> None:
        self._changes.clear()  # whoever starts now sees them
        self._why = ""
        self._places_of_entry()
        if self._next is not None and self._next.ready and not self._next.stale:
            self._template.close()
            self._template, self._next = self._next, None
            self._tries = 0
        self._not_what_is_hidden()
        if self._template.ended or self._template.stale or not self._template.run(self._group.pid):
            self._template.close()
            self._template = Template(self._rules, self._places)
            self._template.run(self._group.pid)
        if self._entry.kind == "script":
            self._watch_script()
        self._running, self._asking, self._answer = True, False, None
        self._busy = time.monotonic()

    def _places_of_entry(self) -> None:
        """What the interpreter looks at before anything can be reported."""
        if self._entry.kind == "script":
            self._places.watch(os.path.dirname(os.path.abspath(self._entry.what)))
            if os.path.isdir(self._entry.what):
                self._places.watch(os.path.abspath(self._entry.what))

    def _watch_script(self) -> None:
        path = os.path.abspath(self._entry.what)
        self._template.looks.file(path)
        self._template.looks.file(os.path.join(path, "__main__.py"))

    def _not_what_is_hidden(self) -> None:
        """A file in the program's own directories that has the name of a module which the template has would be imported instead."""
        found = set()
        tops = self._template.tops()
        for directory in self._tops if tops else ():
            with contextlib.suppress(OSError):
                for name in os.listdir(directory):
                    if module_of(name) in tops and (module_of(name) != name or _is_package(os.path.join(directory, name))):
                        found.add(module_of(name))
        if found:
            self._without |= found
            self._template.stale = True

    # --- meanwhile ---

    def _learn(self) -> None:
        """When imports have fallen quiet: have a template made that has them."""
        if self._next is not None:
            self._discard_next()
        self._learnt.update(dict.fromkeys(self._template.looks.names))
        self._next = Template(self._rules, self._places)
        self._next.make(self._learnt, self._without)

    def _discard_next(self) -> None:
        assert self._next is not None
        self._without.update(self._next.spoilt or ())
        if not self._next.stale:
            self._tries += 1
        self._next.close()
        self._next = None

    def _unlearnt(self) -> float | None:
        """Seconds until there is something to learn, as far as can be seen; None: there is nothing."""
        if self._tries >= TRIES:
            return None
        if self._next is not None:
            useless = self._next.ended or self._next.stale
        else:
            useless = self._template.stale or not self._template.asked.issuperset(self._template.looks.names)
        return max(0.0, self._busy + QUIET - time.monotonic()) if useless else None

    def _turn_or_learn(self) -> None:
        wait = self._unlearnt()
        if wait == 0.0:
            self._learn()
        else:
            self._turn(AGAIN if self._asking and self._changes and wait is None else wait)

    def _while_it_runs(self) -> None:
        """Returns when it has ended, or must."""
        while self._running:
            if self._answer is not None and self._answered(*self._answer):
                break
            if self._changes and not self._asking:
                for number in self._group.told_by_now():
                    self._asked_by(number)
                if (left := self._interrupted + PATIENCE - time.monotonic()) > 0:
                    self._turn(left)  # it may be about to end
                    continue
                if self._asked == signal.SIGINT:
                    self._asked = 0  # it went on
                if not self._asked:
                    self._settle()
                    if not self._reload_live():
                        break
            if self._changes and self._asking and time.monotonic() >= self._asked_at + PATIENCE:
                self._why = f"no answer for {PATIENCE:g} s"
                break
            self._turn_or_learn()

    def _settle(self) -> None:
        """Until whoever saves has finished."""
        limit = time.monotonic() + WRITING
        while (now := time.monotonic()) < limit:
            count = len(self._changes)
            while len(self._changes) == count and (left := now + SETTLE - time.monotonic()) > 0:
                self._turn(left)
            if len(self._changes) == count and not being_written(self._changes):
                return

    # --- live ---

    def _reload_live(self) -> bool:
        """Ask the program to. False: it must be started again."""
        live = self._template.live
        if not self._live or live is None or any(map(self._only_restart, self._changes)):
            return False
        paths = list(dict.fromkeys(os.path.join(*change) for change in self._changes))
        try:
            live.send(b"\0".join(map(os.fsencode, paths)))
        except OSError:
            return False
        self._changes.clear()
        self._asking, self._asked_at = True, time.monotonic()
        return True

    def _only_restart(self, change: Change) -> bool:
        """The program itself, or an extension."""
        directory, name = change
        if os.path.join(directory, name) in self._template.looks.files or name.endswith(".so"):
            return True
        return self._entry.kind == "m" and module_of(name) in ("__main__", self._entry.what.rpartition(".")[2])

    def _answered(self, verb: str, text: str = "") -> bool:
        """True: start it again."""
        self._answer, self._asking = None, False
        if verb == "loud":
            self.say(text)
        elif verb == "restart":
            self._why = text
        return verb == "restart"

    _why = ""  # it is started again, if that is not the changes
    _asked_at = 0.0

    # --- the end of a start ---

    def _stop(self) -> None:
        """End the program and its children."""
        changed = sorted({os.path.join(*change) for change in self._changes})
        self.say(f"restarting: {self._why or _named(changed)}")
        self._why = ""
        self._end_group()

    def _end_group(self) -> None:
        self._group.signal(signal.SIGTERM)
        self._group.signal(signal.SIGCONT)
        if not self._gone(PATIENCE):
            self.say(f"not ended {PATIENCE:g} s after SIGTERM: killed")
            self._group.kill()
            self._gone(PATIENCE)

    def _gone(self, patience: float) -> bool:
        limit = time.monotonic() + patience
        while self._running:
            if (left := limit - time.monotonic()) <= 0:
                return False
            self._turn(left)
        while self._group.members():
            if time.monotonic() > limit:
                return False
            self._turn(0.01)
        return True

    def _wait_for_change(self) -> None:
        """The program has ended by itself. Returns when it may be started again, or we are to end."""
        self.say(f"the program has ended ({_describe(self._status)}); waiting for a change")
        while not self._changes and not self._asked:
            self._turn_or_learn()
        if self._changes:
            self._settle()

    def run(self) -> int:
        """-> the wait status to end with."""
        if self._places.why:
            self.say(f"the kernel does not tell of changes ({self._places.why}); looking twice a second")
        self._group.take_terminal()
        try:
            while True:
                self._looked = 0.0
                self._turn(0)  # whether a template is as old as what has changed by now
                if self._asked:
                    return self._asked
                self._start()
                self._while_it_runs()
                if not self._running:
                    if not self._template.greeted:
                        return self._status
                    if self._asked or self._is_forwarded_death():
                        return self._status
                    self._wait_for_change()
                    if self._asked:
                        return self._asked
                self._stop()
                if self._asked:
                    return self._status
        finally:
            if self._group.members():
                self._end_group()
            for template in (self._template, self._next):
                if template is not None:
                    template.close()
            self._group.close()

    def _is_forwarded_death(self) -> bool:
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) in (signal.SIGHUP, *END)

    _running = False


def _is_package(path: str) -> bool:
    try:
        return any(module_of(name) == "__init__" for name in os.listdir(path))
    except OSError:
        return False


def _named(paths: list[str]) -> str:
    shown = ", ".join(os.path.relpath(path) for path in paths[:3])
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def _end_as(status: int) -> NoReturn:
    """As the program did."""
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 255)


def main(words: list[str], *, roots: list[str], live: bool, quiet: bool) -> NoReturn:
    """WORDS: what the interpreter is to be given. ValueError: it cannot be reloaded."""
    supervisor = Supervisor(words, roots, live, quiet)
    sys.stdout.flush()
    _end_as(supervisor.run())
