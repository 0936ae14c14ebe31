# SPDX-License-Identifier: MIT
"""The live view, on a terminal of its own: what it shows, what keys do, and that the terminal is as it was whatever ends the program."""
from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from records import Player, Records

pytestmark = pytest.mark.once

ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l", b"\x1b[?7h\x1b[?25h\x1b[?1049l"
DEADLINE_S = 60

# A child's half of a terminal: a session of its own, whose terminal it is.
BECOME = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def many() -> Records:
    """40 modules, the later the longer; one name that means something to terminals; one import that is not over."""
    r = Records()
    for i in range(40):
        r.start(100 * i, f"m{i:02}", "app", clock={"cpu": i})
        r.done(100 * i + i + 1, f"m{i:02}", failed=i == 7, clock={"cpu": 1.5 * i + 1})
    r.start(5000, b"\x1b[2Jred\x07", "ev\x1bil")
    r.done(5099, b"\x1b[2Jred\x07")
    r.wait(5100, "module", 12.5, module="m01")
    r.start(5150, "jam", tid=1101, clock={})
    r.done(5189.5, "jam", tid=1101, clock={"module": 30, "global": 5, "futex": 4.5})
    r.start(5200, "endless", "app.views")
    r.start(5201, "within", "endless")
    return r


class Screen:
    """The other half: sends keys, and reads pictures."""

    def __init__(self, arguments: list[str], rows: int = 30, columns: int = 100, **env: str) -> None:
        self.master, slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.master)
        environment = {**os.environ, "TERM": "xterm", **env}
        self.pid = os.posix_spawn(sys.executable, [sys.executable, "-Sc", BECOME, *arguments], environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, slave, fd) for fd in (0, 1, 2)])
        os.close(slave)
        self.output = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def keys(self, text: str) -> None:
        os.write(self.master, text.encode())

    def _read(self, wait_s: float) -> None:
        if select.select([self.master], [], [], wait_s)[0]:
            with contextlib.suppress(OSError):  # EIO: nobody has the other half any more
                self.output += os.read(self.master, 65536)

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"{what}\n{self.output[-3000:]!r}"
            self._read(0.05)

    def picture(self) -> list[str]:
        """Lines of the last whole picture, without colours."""
        parts = self.output.rpartition(b"\x1b[J")[0].rpartition(b"\x1b[H")
        text = re.sub(r"\x1b\[(?:[\d;]*m|K)", "", parts[2].decode())
        assert "\x1b" not in text, "what a target is called must not be obeyed by the terminal"
        return re.split(r"\r+\n", text)

    def shows(self, text: str, row: int | None = None) -> None:
        def seen() -> bool:
            lines = self.picture()
            return any(text in line for line in (lines if row is None else lines[row:row + 1]))
        self.until(seen, f"never showed {text!r}")

    def ended(self) -> int:
        """Status as of os.waitstatus_to_exitcode()."""
        status: list[int] = []

        def gone() -> bool:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                status.append(os.waitstatus_to_exitcode(code))
            return bool(pid)
        self.until(gone, "did not end")
        while select.select([self.master], [], [], 0)[0]:
            size = len(self.output)
            self._read(0)
            if len(self.output) == size:
                break
        return status[0]

    def is_restored(self) -> bool:
        return self.output.rfind(LEAVE) > self.output.rfind(ENTER) and termios.tcgetattr(self.master)[:4] == self.before[:4]

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.fixture
def open_screen(player: Player) -> Iterator[Callable[..., Screen]]:
    screens: list[Screen] = []

    def open_one(records: Records | None = None, **options: int | str) -> Screen:
        screens.append(Screen(player.arguments("live", records or many()), **options))  # type: ignore[arg-type]
        screens[-1].shows("q quit")
        return screens[-1]
    yield open_one
    for screen in screens:
        screen.close()


def titles(screen: Screen) -> int:
    return next(number for number, line in enumerate(screen.picture()) if line.split()[-1:] in (["module"], ["MODULE"]) or "(reversed)" in line)


def test_what_it_shows_and_what_keys_do(open_screen: Callable[..., Screen]) -> None:
    screen = open_screen()
    assert not termios.tcgetattr(screen.master)[3] & (termios.ECHO | termios.ICANON)
    lines = screen.picture()
    assert len(lines) == 30
    assert re.match(r"ladewerk trace  \d+\.\d s, 2 processes: 42 imports \(1 failed\)", lines[0])
    assert lines[1] == "events 30, lost 2, overhead 2.50 %"
    assert lines[2] == "waited for module locks 1 time, 12.5 ms (longest 12.5)"
    assert re.fullmatch(r"now: \d+\.\d s within \(thread 1100 of 1100, for endless\)", lines[3]), lines[3]
    top = titles(screen)
    assert lines[top].split() == ["SELF", "total", "count", "waited", "cpu", "queue", "locks", "gil", "disk", "sleep", "module"]
    assert "?[2Jred?" in lines[top + 1] and "99.0ms" in lines[top + 1] and lines[top + 1].endswith("< ev?il")
    assert lines[top + 2].split()[:3] == ["40.0ms", "40.0ms", "1"] and lines[top + 2].endswith("m39  < app")
    (jam,) = (line.split() for line in lines if line.endswith("jam"))
    assert jam == ["39.5ms", "39.5ms", "1", "-", "-", "-", "39.5ms", "-", "-", "-", "jam"]
    for key, first in (("n", "?[2Jred?"), ("r", "m39"), ("w", "m01"), ("c", None), ("t", "?[2Jred?"), ("s", "?[2Jred?"), ("r", "m00")):
        title = {"n": "MODULE", "r": "(reversed)", "w": "WAITED", "c": "COUNT", "t": "TOTAL", "s": "SELF"}[key]
        screen.keys(key)
        screen.shows(title, top)
        if first:
            screen.shows(first, top + 1)
    # ^S stops nothing. An arrow key is none of ours, whatever letters it is made of.
    screen.keys("\x13\x1b[1;2n")
    screen.keys("p")
    screen.shows("[held: p]", 0)
    assert "(reversed)" in screen.picture()[top]
    screen.keys("q")
    assert screen.ended() == 0
    assert screen.is_restored() and screen.output.endswith(b"good bye\r\n")


def test_the_size_is_obeyed(open_screen: Callable[..., Screen]) -> None:
    screen = open_screen()
    for rows, columns in ((10, 40), (3, 20), (1, 5), (50, 200)):
        screen.resize(rows, columns)

        def fits(rows: int = rows, columns: int = columns) -> bool:
            lines = screen.picture()
            return len(lines) == rows and max(map(len, lines)) <= columns and lines[-1] == "order: s self, t total, c count, w waited, n name, r reverse   p hold   q quit"[:columns]
        screen.until(fits, f"does not fit {rows} x {columns}")
    assert sum(" < app" in line for line in screen.picture()) == 40


@pytest.mark.parametrize("how", ["quit", "term", "interrupt", "kill -QUIT", "abort", "hangup"])
def test_the_terminal_is_restored(open_screen: Callable[..., Screen], how: str) -> None:
    """By q, a handler of the program's own, and signals that nobody has a handler for."""
    screen = open_screen(**({} if how == "term" else {"PLAY_NO_HANDLER": "1"}))
    expected = {"quit": 0, "term": 15, "interrupt": -signal.SIGINT, "kill -QUIT": -signal.SIGQUIT, "abort": -signal.SIGABRT, "hangup": -signal.SIGHUP}[how]
    if how in ("quit", "interrupt"):
        screen.keys("q" if how == "quit" else "\x03")
    else:
        os.kill(screen.pid, {"term": signal.SIGTERM, "kill -QUIT": signal.SIGQUIT, "abort": signal.SIGABRT, "hangup": signal.SIGHUP}[how])
    assert screen.ended() == expected
    assert screen.is_restored()


def test_control_a_kill_restores_nothing(open_screen: Callable[..., Screen]) -> None:
    screen = open_screen()
    os.kill(screen.pid, signal.SIGKILL)
    assert screen.ended() == -signal.SIGKILL
    assert not screen.is_restored()


def test_a_terminal_that_nobody_reads(open_screen: Callable[..., Screen]) -> None:
    """The program is held up in a write, and ends when it is asked to all the same: SIGTERM until it does."""
    screen = open_screen()
    calls = Path(f"/proc/{screen.pid}/syscall")
    deadline = time.monotonic() + DEADLINE_S
    write = {"x86_64": "1", "aarch64": "64"}[os.uname().machine]
    while calls.read_text().split()[0] != write or calls.read_text().split()[0] != write:
        assert time.monotonic() < deadline, "was not held up"
        screen.keys("n")
        time.sleep(0.01)
    while not os.waitid(os.P_PID, screen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        assert time.monotonic() < deadline, "does not end"
        os.kill(screen.pid, signal.SIGTERM)
        time.sleep(0.01)
    assert screen.ended() == 15
    assert termios.tcgetattr(screen.master)[:4] == screen.before[:4]


def is_shown_again(screen: Screen, size: int) -> bool:
    """Since SIZE bytes had been written."""
    return ENTER in screen.output[size:] and b"q quit" in screen.output[size:]


def test_stopped_from_the_keyboard_and_continued(open_screen: Callable[..., Screen]) -> None:
    screen = open_screen()
    for _ in range(2):
        screen.keys("\x1a")
        screen.until(lambda: os.waitpid(screen.pid, os.WNOHANG | os.WUNTRACED)[0], "was not stopped")
        screen.until(screen.is_restored, "kept the terminal")
        size = len(screen.output)
        os.kill(screen.pid, signal.SIGCONT)
        screen.until(partial(is_shown_again, screen, size), "did not go on")
        assert not termios.tcgetattr(screen.master)[3] & termios.ECHO
    screen.keys("q")
    assert screen.ended() == 0 and screen.is_restored()


def test_the_terminal_goes_away(open_screen: Callable[..., Screen]) -> None:
    """A program that ignores hang-ups notices all the same."""
    screen = open_screen()
    os.close(screen.master)
    screen.master = os.open("/dev/null", os.O_RDONLY)
    deadline = time.monotonic() + DEADLINE_S
    while not (ended := os.waitpid(screen.pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    screen.pid = 0
    assert os.waitstatus_to_exitcode(ended[1]) in (0, -signal.SIGHUP)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_refused_where_nothing_can_be_drawn(player: Player, term: str) -> None:
    screen = Screen(player.arguments("live", many()), TERM=term)
    try:
        assert screen.ended() == 25
        assert ENTER not in screen.output
    finally:
        screen.close()


def test_refused_without_a_terminal(player: Player) -> None:
    assert subprocess.run(player.arguments("live", many()), stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 25


WAITS_TO_BE_TOLD = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    __import__(line.strip())
    print("done", flush=True)
"""


def test_a_program_that_runs(tracer: str, tmp_path: Path) -> None:
    """The program itself: what a process imports appears; its end is noticed, and the sums are left on the terminal."""
    for name in ("seen_first", "seen_next"):
        (tmp_path / f"{name}.py").write_text("")
    with subprocess.Popen([sys.executable, "-c", WAITS_TO_BE_TOLD], env={**os.environ, "PYTHONPATH": str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as target:
        assert target.stdin and target.stdout and target.stdout.readline() == "ready\n"
        screen = Screen([tracer, "--pid", str(target.pid)])
        try:
            screen.shows("1 process:", 0)
            for name in ("seen_first", "seen_next"):
                print(name, file=target.stdin, flush=True)
                assert target.stdout.readline() == "done\n"
                screen.shows(name)
            target.stdin.close()
            assert screen.ended() == 0
            assert screen.is_restored()
            left = screen.output.rpartition(LEAVE)[2].decode()
            assert "seen_first" in left and "seen_next" in left and "lost events: 0" in left
        finally:
            screen.close()
