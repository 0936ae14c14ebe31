# SPDX-License-Identifier: MIT
"""Whom `ladewerk trace` traces: commands from their first import on, processes and their children, binaries, control groups; and what it says of those it cannot.

The interpreter that runs these tests is the target. What it imports at a start is known from -X importtime, so that counts are exact.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.path.realpath(sys.executable)
DEADLINE = 60
ALONE = ["-I", "-S"]  # nothing of the environment, no site: the same imports at every start

# Imports `colorsys` whenever it gets a line, and answers; ends with its input.
ANSWERING = """
import sys
for line in sys.stdin:
    sys.modules.pop("colorsys", None)
    import colorsys
    print("done", flush=True)
"""


def _importtime(*program: str, python: str = PYTHON, options: list[str] = ALONE, **how: Any) -> list[str]:
    """What `python PROGRAM` imports, in the order of their ends."""
    answer = subprocess.run([python, *options, "-X", "importtime", *program], capture_output=True, text=True, check=True, **how)
    return [line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()[1:] if line.startswith("import time:")]


class Trace:
    """A run of the tracer, and what it wrote."""

    def __init__(self, tracer: str, output: Path, *arguments: str, sched: bool = False, **how: Any) -> None:
        self.output = output
        self.process = subprocess.Popen([tracer, "--json", "--sched" if sched else "--no-sched", "-o", str(output), *arguments], text=True, stderr=subprocess.PIPE, **how)

    def begun(self) -> Trace:
        """Once probes are where they should be."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("ladewerk trace: tracing"):
                return self
        raise AssertionError(f"it ended: {self.process.wait(DEADLINE)}")

    def end(self) -> int:
        _, self.errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def modules(self, pid: int | None = None) -> list[str]:
        return [record["module"] for record in self.records() if record["event"] == "import" and pid in (None, record["pid"])]

    def nothing_lost(self) -> bool:
        return self.records()[-1]["lost"] == 0


@pytest.fixture
def trace(tracer: str, tmp_path: Path) -> Iterator[Callable[..., Trace]]:
    runs: list[Trace] = []

    def start(*arguments: str, **how: Any) -> Trace:
        runs.append(Trace(tracer, tmp_path / f"trace{len(runs)}.json", *arguments, **how))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


class Target:
    """A Python that imports when it is asked to."""

    def __init__(self, *command: str, **how: Any) -> None:
        self.process = subprocess.Popen(list(command) or [PYTHON, *ALONE, "-c", ANSWERING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)
        self.ask()

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("import\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(DEADLINE)


@pytest.fixture
def target() -> Iterator[Callable[..., Target]]:
    targets: list[Target] = []

    def start(*command: str, **how: Any) -> Target:
        targets.append(Target(*command, **how))
        return targets[-1]

    yield start
    for one in targets:
        one.process.kill()
        one.process.wait()


def _eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


# --- commands ---


@pytest.mark.parametrize("how", ["itself", "shell", "shebang"])
def test_a_command_is_traced_from_its_first_import(trace: Callable[..., Trace], tmp_path: Path, how: str) -> None:
    """Also where something else executes the Python, or forks before it does: nothing is missed, whatever there is to load."""
    code = "import json, colorsys"
    script = tmp_path / "script"
    script.write_text(f"#!{PYTHON} {''.join(['-', 'I', 'S'])}\n{code}\n")
    script.chmod(0o755)
    command = {"itself": [PYTHON, *ALONE, "-c", code], "shell": ["sh", "-c", f"{PYTHON} {' '.join(ALONE)} -c '{code}'; exit 7"], "shebang": [str(script)]}[how]
    run = trace("--", *command)
    assert run.end() == (7 if how == "shell" else 0), run.errors
    assert run.modules() == _importtime(*([str(script)] if how == "shebang" else ["-c", code]))
    assert run.nothing_lost()


def test_children_are_traced_or_not(trace: Callable[..., Trace]) -> None:
    """Those that are forked, and those that execute a Python again. A child that ends at once has its parent named by sched: /proc does not know it any more."""
    code = f"""
import os, subprocess, sys
print(os.getpid(), flush=True)
child = os.fork()
if child == 0:
    import colorsys
    os._exit(0)
os.waitpid(child, 0)
subprocess.run([sys.executable, *{ALONE!r}, "-c", "import json"], check=True)
"""
    for children in (True, False):
        run = trace(*([] if children else ["--no-children"]), "--", PYTHON, *ALONE, "-c", code, sched=True, stdout=subprocess.PIPE)
        output, _ = run.process.communicate(timeout=DEADLINE)
        assert run.process.returncode == 0
        parent = int(output)
        others = {record["pid"]: run.modules(record["pid"]) for record in run.records() if record["event"] == "import" and record["pid"] != parent}
        assert "subprocess" in run.modules(parent)
        if not children:
            assert others == {}
            continue
        forked, executed = (others[pid] for pid in sorted(others, key=lambda pid: len(others[pid])))
        assert forked == ["colorsys"]
        assert "json" in executed and "colorsys" not in executed


@pytest.mark.once
@pytest.mark.parametrize("sched", [True, False])
def test_ends_of_processes_are_told_once(trace: Callable[..., Trace], sched: bool) -> None:
    """By the kernel's part that sees them; by who looks after processes, where that is missing. After everything that they did."""
    run = trace("--", PYTHON, *ALONE, "-c", "import os\nif os.fork(): os.wait()\nimport json", sched=sched)
    assert run.end() == 0
    records = run.records()
    pids = {record["pid"] for record in records if record["event"] == "import"}
    assert len(pids) == 2
    for pid in pids:
        own = [record for record in records if record.get("pid") == pid]
        assert [record["alive"] for record in own if record["event"] == "process"] == [True, False]
        assert own[-1] == {"event": "process", "pid": pid, "alive": False}


@pytest.mark.once
def test_the_command_ends_as_it_would(trace: Callable[..., Trace]) -> None:
    ends = {"raise SystemExit(3)": 3, "__import__('os').kill(__import__('os').getpid(), 15)": 128 + 15}
    runs = {trace("--", PYTHON, *ALONE, "-c", code): status for code, status in ends.items()}
    for run, status in runs.items():
        assert run.end() == status
    nowhere = trace("--", "/nowhere/python")
    assert nowhere.end() == 1
    assert "/nowhere/python: No such file or directory" in nowhere.errors


@pytest.mark.once
def test_a_command_sees_the_signals_and_the_mask_that_it_would(trace: Callable[..., Trace]) -> None:
    """No signal is blocked, ignored or pending that was not before."""
    seen = "import os; print([l for l in open('/proc/self/status') if l.startswith(('SigBlk', 'SigIgn', 'SigPnd', 'ShdPnd', 'TracerPid'))])"
    bare = subprocess.run([PYTHON, *ALONE, "-c", seen], capture_output=True, text=True, check=True).stdout
    run = trace("--", PYTHON, *ALONE, "-c", seen, stdout=subprocess.PIPE)
    traced, _ = run.process.communicate(timeout=DEADLINE)
    assert traced == bare


@pytest.mark.once
def test_a_shell_can_be_stopped_and_continued(trace: Callable[..., Trace], tmp_path: Path) -> None:
    """Job control, while the command is still watched because it is no Python yet."""
    number = tmp_path / "number"
    run = trace("--", "sh", "-c", f"echo $$ > {number}; kill -STOP $$; {PYTHON} {' '.join(ALONE)} -c 'import colorsys'; exit 5")
    _eventually(lambda: number.exists() and number.read_text().endswith("\n"))
    pid = int(number.read_text())
    _eventually(lambda: any(line.startswith("State:") and line.split()[1] in "Tt" for line in Path(f"/proc/{pid}/status").read_text().splitlines()))
    os.kill(pid, signal.SIGCONT)
    assert run.end() == 5
    assert "colorsys" in run.modules()


@pytest.mark.once
def test_a_tracer_that_is_killed_harms_nobody(trace: Callable[..., Trace], tmp_path: Path) -> None:
    """Wherever it is: while the command is stopped, loads its libraries, or has long been let go."""
    for attempt in range(8):
        done = tmp_path / f"done{attempt}"
        run = trace("--", "sh", "-c", f"for i in 1 2 3; do {PYTHON} {' '.join(ALONE)} -c 'import json' || exit 1; done; echo > {done}")
        time.sleep(0.03 * attempt)  # not waited for: any moment will do
        started = _descendants(run.process.pid)
        run.kill()
        if started:  # else it was killed before it had started anything
            _eventually(done.exists)


def _descendants(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# --- what a Python is built like ---


def _stripped(where: Path) -> dict[str, str]:
    """A copy of the interpreter, or of its libpython, without probes and symbols; the environment in which it starts."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    library = next((line.split()[-1] for line in maps if "/libpython3" in line), None)
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": f"{where}:{sys.base_prefix}/lib"}
    for source in filter(None, (PYTHON, library)):
        subprocess.run(["objcopy", "--strip-all", "--remove-section", ".note.stapsdt", source, str(where / Path(source).name)], check=True)
    return environment


@pytest.mark.skipif(not shutil.which("objcopy"), reason="objcopy is missing")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls in code can be found on x86-64 only")
def test_a_python_without_probes_and_symbols(trace: Callable[..., Trace], tmp_path: Path) -> None:
    """As they are in containers: the call of _find_and_load() is found in its code; counts are exact, and failures are told apart."""
    code = "import json, colorsys\ntry:\n    import nowhere_at_all\nexcept ImportError: pass"
    environment = _stripped(tmp_path)
    python = str(tmp_path / Path(PYTHON).name)
    expected = _importtime("-c", code, python=python, env=environment, options=["-S"])
    run = trace("--", python, "-S", "-c", code, env=environment)
    assert run.end() == 0, run.errors
    # Imports that fail are no part of importtime's in every version.
    imports = [record for record in run.records() if record["event"] == "import"]
    assert [record["module"] for record in imports if not record["failed"]] == [name for name in expected if name != "nowhere_at_all"]
    assert [record["module"] for record in imports if record["failed"]] == ["nowhere_at_all"]
    assert run.nothing_lost()


@pytest.mark.once
def test_a_command_without_a_python_is_told_of(trace: Callable[..., Trace]) -> None:
    """Nothing to see is not an error, but it is said."""
    loud, quiet = trace("--", "true"), trace("-q", "--", "true")
    assert loud.end() == quiet.end() == 0
    assert "no process that counts has executed a Python" in loud.errors
    assert quiet.errors == ""


@pytest.mark.once
@pytest.mark.skipif(not shutil.which("objcopy"), reason="objcopy is missing")
def test_why_a_child_was_not_traced_is_told(trace: Callable[..., Trace], tmp_path: Path) -> None:
    """It runs all the same. Its calls are of a function that has no name any more."""
    environment = _stripped(tmp_path)
    for copy in tmp_path.iterdir():
        copy.write_bytes(copy.read_bytes().replace(b"\0PyObject_CallMethodObjArgs\0", b"\0PyObject_CallMethodObjects\0"))
    run = trace("--", "sh", "-c", f"{tmp_path / Path(PYTHON).name} -S -c ''; exit 9", env=environment)
    assert run.end() == 9
    assert "stripped of the symbol PyObject_CallMethodObjArgs" in run.errors
    assert run.modules() == []


def test_ladewerk_is_seen_from_its_first_import(trace: Callable[..., Trace], target: Callable[..., Target], tmp_path: Path) -> None:
    """By its own probes, which are in its extension before a process has loaded that; and in a process that has. How a module came to be is Ladewerk's to say."""
    ladewerk = str(Path(sys.executable).parent / "ladewerk")
    (tmp_path / "mine.py").write_text("import theirs\n")
    (tmp_path / "theirs.py").write_text("")
    app = tmp_path / "app.py"
    app.write_text(f"import mine\n{ANSWERING.replace('colorsys', 'theirs')}")
    command = trace("--", ladewerk, "run", str(app), stdin=subprocess.DEVNULL)
    assert command.end() == 0, command.errors
    running = target(ladewerk, "run", str(app))
    process = trace("-p", str(running.pid)).begun()
    running.ask()
    running.end()
    assert process.end() == 0, process.errors
    for run, expected in ((command, {("mine", "__main__"), ("theirs", "mine")}), (process, {("theirs", "__main__")})):
        own = {(record["module"], record["importer"]) for record in run.records() if record["event"] == "import" and record["outcome"]}
        assert {import_ for import_ in own if import_[0] in ("mine", "theirs")} == expected


# --- processes that are there ---


def test_a_process_and_the_children_it_has_and_gets(trace: Callable[..., Trace], target: Callable[..., Target]) -> None:
    """Of a shell, which is no Python itself: its child is there before the trace begins. It ends with the last of them."""
    shell = target("sh", "-c", f"{PYTHON} {' '.join(ALONE)} -c '{ANSWERING}'; {PYTHON} {' '.join(ALONE)} -c 'import json'")
    run = trace("-p", str(shell.pid)).begun()
    shell.ask()
    shell.end()
    assert run.end() == 0
    counts = Counter(run.modules())
    # Once when it was asked; not when it was started, which was before.
    assert counts["colorsys"] == 1
    assert run.nothing_lost()


@pytest.mark.once
def test_a_process_alone(trace: Callable[..., Trace], target: Callable[..., Target]) -> None:
    traced, other = target(), target()
    run = trace("-p", str(traced.pid)).begun()
    for _ in range(5):
        traced.ask()
        other.ask()
    traced.end()
    assert run.end() == 0
    assert run.modules() == ["colorsys"] * 5
    assert {record["pid"] for record in run.records() if record["event"] == "import"} == {traced.pid}


def test_a_binary_that_was_removed(trace: Callable[..., Trace], target: Callable[..., Target], own_python: tuple[Path, dict[str, str]]) -> None:
    """As package managers do to programs that run: only the process still has it."""
    copy, env = own_python
    process = target(str(copy), "-S", "-c", ANSWERING, env=env)
    copy.unlink()
    run = trace("-p", str(process.pid)).begun()
    process.ask()
    process.end()
    assert run.end() == 0
    assert run.modules() == ["colorsys"]


@pytest.mark.once
def test_another_pid_namespace(trace: Callable[..., Trace], target: Callable[..., Target]) -> None:
    """Its numbers are those that it knows itself by."""
    if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("no PID namespaces here")
    outer = target("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", PYTHON, *ALONE, "-c", ANSWERING)
    run = trace("-p", str(outer.pid)).begun()
    outer.ask()
    outer.end()
    assert run.end() == 0
    imports = [record for record in run.records() if record["event"] == "import"]
    assert [record["module"] for record in imports] == ["colorsys"]
    assert {(record["ns_pid"], record["ns_tid"]) for record in imports} == {(1, 1)}


# --- binaries and control groups ---


def test_all_processes_of_a_binary(trace: Callable[..., Trace], target: Callable[..., Target]) -> None:
    """That are there and that start later; of an executable that is linked to its libpython, too."""
    before = target()
    run = trace("--binary", PYTHON).begun()
    before.ask()
    later = target()
    later.ask()
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert run.modules(before.pid) == ["colorsys"]
    assert run.modules(later.pid).count("colorsys") == 2
    assert len(run.modules(later.pid)) == len(_importtime("-c", "")) + 2


@pytest.mark.once
def test_a_control_group(trace: Callable[..., Trace], target: Callable[..., Target]) -> None:
    """Who is in it, who enters it later, and nobody else."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] in ("cgroup2", "cgroup")]
    group = next((group for mount in mounts if (group := _make_group(Path(mount)))), None)
    if group is None:
        pytest.skip("no control group can be made here")
    inside, entering, outside = target(), target(), target()
    try:
        (group / "cgroup.procs").write_text(str(inside.pid))
        run = trace("--cgroup", str(group)).begun()
        inside.ask()
        outside.ask()
        (group / "cgroup.procs").write_text(str(entering.pid))
        entering.ask()
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 0
    finally:
        for one in (inside, entering, outside):
            one.end()
        _eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    assert Counter(record["pid"] for record in run.records() if record["event"] == "import") == {inside.pid: 1, entering.pid: 1}


def _make_group(mount: Path) -> Path | None:
    group = mount / f"ladewerk-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return None
    return group


# --- refusals ---


@pytest.mark.once
def test_what_cannot_be_traced_is_refused_with_a_reason(trace: Callable[..., Trace], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    sleeper = subprocess.Popen(["sleep", "1000"])
    expected = {
        ("-p", "999999999"): "there is no such process",
        ("-p", "2"): "no such process" if not Path("/proc/2").exists() else None,
        ("-p", str(sleeper.pid)): f"process {sleeper.pid} executes {os.path.realpath(shutil.which('sleep') or '')}, which is no Python",
        ("--binary", "/bin/true"): "no Python, nor linked to one",
        ("--binary", str(script)): "of a script, name the interpreter",
        ("--binary", "/nowhere"): "No such file or directory",
        ("--cgroup", str(tmp_path)): "not the directory of a cgroup",
        ("--cgroup", "nowhere-at-all"): "No such file or directory",
    }
    runs = [(trace(*arguments), said) for arguments, said in expected.items() if said]
    try:
        for run, said in runs:
            assert run.end() == 1
            assert said in run.errors, run.errors
    finally:
        sleeper.kill()
        sleeper.wait()
