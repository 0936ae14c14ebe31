# SPDX-License-Identifier: MIT
"""ladewerk-trace from outside: exact counts, exit statuses, refusals, and targets that live on whatever becomes of the tracer.

Nothing here depends on the interpreter that runs the tests, but for what is traced: that one.
"""
from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODULES = 300
WAIT = 60
WRITE = 64 if platform.machine() == "aarch64" else 1  # number of write(2)


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], **{"capture_output": True, "text": True, "timeout": WAIT, **options})  # type: ignore[call-overload, no-any-return]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a package of MODULES empty modules, one that fails, and a program that imports them and then says so."""
    place = tmp_path_factory.mktemp("modules")
    (place / "many").mkdir()
    (place / "many/__init__.py").touch()
    for i in range(MODULES):
        (place / f"many/m{i}.py").touch()
    (place / "many/bad.py").write_text("raise ValueError\n")
    (place / "all.py").write_text(f"import many\nfor i in range({MODULES}):\n    __import__(f'many.m{{i}}')\n")
    return place


# What is imported as soon as a line comes in; each answer is a line.
SERVER = """
import os, sys
print(os.getpid(), flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "fork":
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        else:
            import many.m7
            os._exit(0)
    elif word:
        __import__(word)
    print("done", flush=True)
"""


class Server:
    """A Python that imports what it is told to."""

    def __init__(self, package: Path) -> None:
        self.process = subprocess.Popen([sys.executable, "-S", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=package)
        self.pid = int(self.process.stdout.readline())

    def tell(self, word: str) -> None:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> int:
        self.process.stdin.close()
        return self.process.wait(WAIT)


@pytest.fixture
def server(package: Path):
    started = Server(package)
    yield started
    started.process.kill()
    started.process.wait()


class Tracer:
    """A tracer that has said that its probes are in place."""

    def __init__(self, program: str, *arguments: object) -> None:
        self.process = subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = []
        while line := self.process.stderr.readline():
            said.append(line)
            if "tracing" in line:
                return
        raise AssertionError(f"status {self.process.wait(WAIT)}: {said}")

    def end(self, number: int = signal.SIGINT) -> str:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == 0
        return out


# --- a command ---


def test_every_import_of_a_command_is_there_once(tracer: str, package: Path) -> None:
    done = run(tracer, "--json", "--", sys.executable, package / "all.py")
    assert done.returncode == 0, done.stderr
    events = lines(done.stdout)
    imports = [e["module"] for e in events if e["event"] == "import" and e["module"].startswith("many")]
    assert sorted(imports) == sorted(["many", *(f"many.m{i}" for i in range(MODULES))])
    assert events[-1]["event"] == "end" and events[-1]["lost"] == 0 and events[-1]["senseless"] == 0


def test_status_of_a_command(tracer: str) -> None:
    assert run(tracer, "-q", "-o", os.devnull, sys.executable, "-c", "raise SystemExit(7)").returncode == 7
    assert run(tracer, "-q", "-o", os.devnull, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").returncode == 128 + 9


def test_failed_imports_are_told_apart(tracer: str, package: Path) -> None:
    code = "for name in 'many.bad', 'many.m1', 'many.nowhere':\n try: __import__(name)\n except Exception: pass"
    done = run(tracer, "--json", "--module", "many.*", sys.executable, "-c", code, cwd=package)
    assert {e["module"]: e["failed"] for e in lines(done.stdout) if e["event"] == "import"} == {"many.bad": True, "many.m1": False, "many.nowhere": True}


def test_output_goes_to_a_file_and_quiet_is_quiet(tracer: str, package: Path, tmp_path: Path) -> None:
    done = run(tracer, "-q", "--tree", "-o", tmp_path / "out", sys.executable, "-c", "print('own')", cwd=package)
    assert (done.returncode, done.stdout, done.stderr) == (0, "own\n", "")
    assert "lost events: 0" in (tmp_path / "out").read_text()


def test_output_that_cannot_be_written(trace_program: str, tracer: str) -> None:
    done = run(tracer, "-o", "/nowhere/out", sys.executable, "-c", "pass")
    assert done.returncode == 1 and "/nowhere/out" in done.stderr
    done = run(tracer, "-o", "/dev/full", sys.executable, "-c", "pass")
    assert done.returncode == 1 and "No space left" in done.stderr


@pytest.mark.once
def test_commands_that_are_none(tracer: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    for command in "/nowhere/python", str(tmp_path), str(script):
        done = run(tracer, "--json", "--", command)
        assert done.returncode not in (0, 77) and done.stderr, done


def _wait_for(what) -> None:
    deadline = time.monotonic() + WAIT
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_output_that_is_not_read_while_the_command_ends(tracer: str, package: Path) -> None:
    """The end of the command is a signal in the middle of a write, which loses nothing."""
    code = f"import sys, os; os.write(2, b'%d\\n' % os.getpid()); exec(open({str(package / 'all.py')!r}).read()); sys.stdin.read()"
    with subprocess.Popen([tracer, "-q", "--json", "--", sys.executable, "-c", code], cwd=package, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        child = int(process.stderr.readline())
        _wait_for(lambda: Path(f"/proc/{process.pid}/syscall").read_text().split()[:2] == [str(WRITE), "0x1"])
        process.stdin.close()
        _wait_for(lambda: Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        out, said = process.stdout.read(), process.stderr.read()
        assert (process.wait(WAIT), said) == (0, "")
    assert sum(e["event"] == "import" and e["module"].startswith("many.") for e in lines(out)) == MODULES


# --- processes that are there ---


def test_attached_to_a_running_process(tracer: str, server: Server) -> None:
    server.tell("many.m0")
    tracing = Tracer(tracer, "--json", "-p", server.pid)
    for i in range(1, 5):
        server.tell(f"many.m{i}")
    server.tell("fork")
    events = lines(tracing.end())
    assert [(e["module"], e["pid"] == server.pid) for e in events if e["event"] == "import" and e["module"].startswith("many")] \
        == [*((f"many.m{i}", True) for i in range(1, 5)), ("many.m7", False)]
    server.tell("many.m5")
    assert server.end() == 0


def test_without_children(tracer: str, server: Server) -> None:
    server.tell("many")
    tracing = Tracer(tracer, "--json", "--no-children", "-p", server.pid)
    server.tell("fork")
    server.tell("many.m1")
    assert [e["module"] for e in lines(tracing.end()) if e["event"] == "import"] == ["many.m1"]


def test_ends_with_its_target(tracer: str, server: Server) -> None:
    tracing = Tracer(tracer, "--json", "-p", server.pid)
    server.tell("many.m1")
    assert server.end() == 0
    out, _ = tracing.process.communicate(timeout=WAIT)
    assert tracing.process.returncode == 0 and lines(out)[-1]["event"] == "end"


def test_duration(tracer: str, server: Server) -> None:
    done = run(tracer, "--json", "--duration", "10ms", "-p", server.pid)
    assert done.returncode == 0 and lines(done.stdout)[-1]["event"] == "end"


def test_a_tracer_that_is_killed_leaves_the_target_unharmed(tracer: str, server: Server) -> None:
    """And the next one finds everything as it was."""
    for i in range(3):
        tracing = Tracer(tracer, "--json", "-p", server.pid)
        server.tell(f"many.m{2 * i}")
        tracing.process.kill()
        tracing.process.wait()
        server.tell(f"many.m{2 * i + 1}")
    tracing = Tracer(tracer, "--json", "-p", server.pid)
    server.tell("many.m8")
    assert [e["module"] for e in lines(tracing.end()) if e["event"] == "import"] == ["many.m8"]
    assert server.end() == 0


def test_everybody_of_a_binary(tracer: str, package: Path) -> None:
    """Also processes that start later; none of other binaries."""
    tracing = Tracer(tracer, "--json", "--binary", os.path.realpath(sys.executable))
    first, second = Server(package), Server(package)
    first.tell("many.m1")
    second.tell("many.m2")
    events = lines(tracing.end(signal.SIGTERM))
    found = {(e["pid"], e["module"]) for e in events if e["event"] == "import" and e["module"].startswith("many.")}
    assert found == {(first.pid, "many.m1"), (second.pid, "many.m2")}
    assert first.end() == second.end() == 0


# --- refusals ---


@pytest.mark.once
def test_wrong_command_lines(trace_program: str) -> None:
    for arguments in [], ["-p", "x"], ["--nonsense"], ["-p", "1", "true"], ["-p", "1", "--json", "--tree"]:
        done = run(trace_program, *arguments)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("ladewerk trace: "), done
    assert run(trace_program, "--help").stdout.startswith("Usage: ladewerk trace")
    assert run(trace_program, "--version").stdout.startswith("ladewerk ")


@pytest.mark.once
def test_process_that_is_not_there(tracer: str) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    done = run(tracer, "--chrome", "-p", ended.pid)
    assert done.returncode == 1 and str(ended.pid) in done.stderr and done.stdout == "", "no beginning of a file that has no end"


def _with_capabilities(*names: str) -> list[str]:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to give up capabilities")
    kept = ",".join(["-all", *(f"+{name}" for name in names)])
    return ["setpriv", f"--bounding-set={kept}", "--inh-caps=-all", "--"]


@pytest.mark.once
@pytest.mark.parametrize("kept, said", [((), "CAP_BPF and CAP_PERFMON are missing"), (("bpf",), "CAP_PERFMON is missing"), (("perfmon",), "CAP_BPF is missing")])
def test_capabilities_that_are_missing_are_named(trace_program: str, tracer: str, kept: tuple[str, ...], said: str) -> None:
    for arguments in ["--check"], ["-p", os.getpid()]:
        done = run(*_with_capabilities(*kept), trace_program, *arguments)
        assert done.returncode == 77 and said in done.stderr, done


@pytest.mark.once
def test_two_capabilities_are_enough(tracer: str, package: Path) -> None:
    """From Linux 6.6 on; those of its own user's processes."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 6):
        pytest.skip("needs uprobe_multi links (Linux 6.6)")
    done = run(*_with_capabilities("bpf", "perfmon"), tracer, "--json", sys.executable, package / "all.py")
    assert done.returncode == 0, done.stderr
    assert sum(e["event"] == "import" and e["module"].startswith("many.") for e in lines(done.stdout)) == MODULES


@pytest.mark.once
def test_the_command_of_the_package(tracer: str) -> None:
    """`ladewerk trace`, by the launcher and by the module."""
    for command in [os.path.join(os.path.dirname(tracer), "ladewerk")], [sys.executable, "-P", "-m", "ladewerk"]:
        done = run(*command, "trace", "--check")
        assert done.returncode == 0 and "imports can be traced" in done.stdout, done
