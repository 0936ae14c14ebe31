# SPDX-License-Identifier: MIT
"""`bench/run.sh --app`: which command lines are understood, what counts as the same program, and one small program from start to report."""
from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
from pathlib import Path

import pair
import pytest
from app import command, outcome, overlay, page
from app.__main__ import App, check, look, notes, parse
from app.analysis import PHASES, Shown, read_record, stock_split
from app.command import Interpreter, Program, Refused
from app.graph import Graph, Statement
from app.outcome import Alike, Outcome
from pair import Command
from stats import differences
from tables import rss_text

BENCH = Path(command.__file__).parents[1]
SITE = Path(sysconfig.get_path("platlib"))
PYTHON = Interpreter("/usr/bin/python3", "/usr/bin/python3", (3, 12, 1), False, (), None)


# --- command lines ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bin_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on PATH with a Python in it; nobody is asked what it is."""
    monkeypatch.setattr(command, "ask", lambda python, environ: PYTHON)
    (tmp_path / "python3.12").symlink_to("/bin/true")
    return tmp_path


def script(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(("given", "options", "arguments"), [
    ("app.py --flag 'two words'", (), ("app.py", "--flag", "two words")),
    ("-O -X dev -W error app.py -O", ("-O", "-X", "dev", "-W", "error"), ("app.py", "-O")),
    ("-Xdev -Werror -bb app.py", ("-Xdev", "-Werror", "-bb"), ("app.py",)),
    ("-m package -x", (), ("-m", "package", "-x")),
    ("-Om package", ("-O",), ("-m", "package")),
    ("-mpackage -x", (), ("-m", "package", "-x")),
    ("-c 'import this'", (), ("-c", "import this")),
    ("--check-hash-based-pycs never app.py", ("--check-hash-based-pycs", "never"), ("app.py",)),
])
def test_options_of_the_interpreter(bin_directory: Path, given: str, options: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    program = command.parse(f"python3.12 {given}", {"PATH": str(bin_directory)})
    assert (program.options, program.arguments) == (options, arguments)
    assert program.argv("-X", "y") == ("/usr/bin/python3", *options, "-X", "y", *arguments)


@pytest.mark.parametrize(("head", "options"), [
    ("#!{python}", ()),
    ("#!{python} -O", ("-O",)),
    ("#!/usr/bin/env python3.12", ()),
    ("#!/usr/bin/env -S python3.12 -O -u", ("-O", "-u")),
    ("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''", ()),
    ("#!/bin/sh\n'''exec' {python} -O \"$0\" \"$@\"\n' '''", ("-O",)),
])
def test_scripts(bin_directory: Path, head: str, options: tuple[str, ...]) -> None:
    tool = script(bin_directory, "tool", head.format(python=bin_directory / "python3.12") + "\nprint()\n")
    program = command.parse("tool --x", {"PATH": str(bin_directory)})
    assert (program.options, program.arguments) == (options, (tool, "--x"))


@pytest.mark.parametrize(("given", "says"), [
    ("", "empty"),
    ("'", "no command line"),
    ("A=b python3.12 app.py", "A=b bench/run.sh"),
    ("nowhere", "not found"),
    ("sh -c true", "python -m package"),
    ("shell", "python -m package"),
    ("uv run app.py", "bin/python"),
    ("python3.12", "into a file"),
    ("python3.12 -", "into a file"),
    ("python3.12 -I app.py", "-I"),
    ("python3.12 -OEm package", "-E"),
])
def test_refused_with_a_remedy(bin_directory: Path, given: str, says: str) -> None:
    script(bin_directory, "uv", "#!/bin/sh\n")
    script(bin_directory, "shell", "#!/bin/sh\nexec python3.12\n")
    with pytest.raises(Refused, match=says):
        command.parse(given, {"PATH": f"{bin_directory}:/bin:/usr/bin"})


def test_what_cannot_be_is_said_before_anything_is_built(bin_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, says in (["--timeout", "-1"], "positive"), (["--ladewerk", str(tmp_path)], "no package ladewerk"):
        with pytest.raises(SystemExit):
            parse(["--app", "x", *argv])
        assert says in capsys.readouterr().err
    with pytest.raises(Refused, match="no file nowhere.py"):
        command.check_file(command.parse("python3.12 nowhere.py", {"PATH": str(bin_directory)}))
    for there in (f"{bin_directory}/python3.12", "-c pass", "-m nowhere"):
        command.check_file(command.parse(f"python3.12 {there}", {"PATH": str(bin_directory)}))


def test_interpreters_are_asked(tmp_path: Path) -> None:
    found = command.ask(sys.executable, os.environ)
    assert found.version == sys.version_info[:3] and Path(found.executable) == Path(sys.executable)
    assert str(SITE) in found.libraries and found.ladewerk
    mute = script(tmp_path, "python", "#!/bin/sh\n")
    with pytest.raises(Refused, match="does not run"):
        command.ask(mute, os.environ)
    old = script(tmp_path, "python", "#!/bin/sh\necho '{\"implementation\": \"PyPy\", \"version\": [3, 11, 0]}'\n")
    with pytest.raises(Refused, match="PyPy"):
        command.ask(old, os.environ)


# --- the same program ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "alike"), [
    (b"one\n", b"one\n", Alike.EXACT),
    (b"1 passed in 0.01s\n", b"1 passed in 12.5s\n", Alike.EXACT),
    (b"took 1.5 s at 0x7f\n", b"took 22.75 s at 0x80a\n", Alike.NUMBERS),
    (b"a 1\nb\n", b"b\na 2\n", Alike.LINES),
    (b"a\n", b"b\n", Alike.STATUS),
])
def test_as_strict_as_stock_python_allows(first: bytes, second: bytes, alike: Alike) -> None:
    assert outcome.how_alike([Outcome(0, first, b""), Outcome(0, second, b""), Outcome(0, first, b"")]) is alike
    assert outcome.difference(Outcome(0, first, b""), Outcome(0, second, b""), alike) == ""
    if alike is not Alike.EXACT:
        stricter = list(Alike)[list(Alike).index(alike) - 1]
        assert outcome.difference(Outcome(0, first, b""), Outcome(0, second, b""), stricter)


def test_differences_are_said() -> None:
    stock = Outcome(0, b"a\nb\n", b"")
    assert outcome.difference(stock, Outcome(1, b"a\nb\n", b""), Alike.STATUS) == "exit status 1, with stock Python exit status 0"
    assert outcome.difference(stock, Outcome(-9, b"", b""), Alike.EXACT).startswith("killed by SIGKILL")
    assert outcome.difference(stock, Outcome(0, b"a\nc\n", b""), Alike.EXACT) == "output differs from stock Python's (line 2)"
    assert outcome.difference(stock, Outcome(0, b"a\nb\n", b"x"), Alike.NUMBERS) == "error output differs from stock Python's (line 1)"
    assert outcome.how_alike([stock, Outcome(1, b"a\nb\n", b"")]) is None


def test_own_files_are_not_those_of_an_environment_within() -> None:
    shown = Shown([Path("/app")], [Path("/app/.venv/lib/python3.12/site-packages"), Path("/usr/lib/python3.12")])
    assert shown.is_own("/app/shop/x.py") and not shown.is_own("/app/.venv/lib/python3.12/site-packages/m.py")
    places = {"/app/shop/x.py": "shop/x.py", "/app/.venv/lib/python3.12/site-packages/m/n.py": "m/n.py", "/elsewhere/o.py": "o.py", "<string>": "<string>"}
    assert {file: shown.place(file) for file in places} == places


# --- a program -------------------------------------------------------------------------------------------------------------

BURN_MS = 20
_BURN = f"import time\nend = time.thread_time() + {BURN_MS / 1000}\nwhile time.thread_time() < end: pass\n"
_FILES = {
    "only_a.py": "kept = [[n] for n in range(150_000)]\n" + _BURN,  # to be collected, and to be taken down
    "shared.py": _BURN,
    "plugin.py": "class Plugin: pass\n",
    "helper.py": "def helped(f): return f\n",
    "a.py": "import shared\nimport only_a\nfrom helper import helped\n@helped\ndef f(): pass\n",
    "b.py": "import shared\nimport json\ndef run(): return json.loads('[1, 2]')\n",
    "app.py": "import a\nimport b\nimport sys\nimport importlib\nimportlib.import_module('plugin')\nprint(b.run(), sys.argv[1:], sys.path)\nsys.exit(3)\n",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that ends with status 3, and the same without its first line."""
    top = tmp_path_factory.mktemp("program")
    for name, text in _FILES.items():
        (top / name).write_text(text)
    (top / "without.py").write_text(_FILES["app.py"].replace("import a\n", "", 1))
    script(top, "tool", f"#!{sys.executable}\n{_FILES['app.py']}")
    return top


def ask(directory: Path, top: Path) -> tuple[dict, str]:
    """The report of a run with two rounds, from a directory that has an app.py."""
    argv = [sys.executable, "-E", "-B", str(BENCH / "suite.py"), "--app", "./tool --flag", "-n", "2", "--build", str(top / "build"), "-o", str(top / "out"), "--ladewerk", str(SITE)]
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((top / "out/report.json").read_text()), (top / "out/report.md").read_text()


@pytest.fixture(scope="module")
def report(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    return ask(directory, tmp_path_factory.mktemp("app"))


def rows(report: tuple[dict, str], section: str) -> dict[str, dict]:
    return {row["contender"]: row for row in report[0]["rows"] if row["section"] == section}


def test_every_way_has_a_row(report: tuple[dict, str]) -> None:
    found = rows(report, "app")
    lazy = ["ladewerk-lazy", "ladewerk-lazy-own", "ladewerk-lazy-all"]
    assert list(found) == ["stock", "again", "gc", "lazy", "ladewerk-stat", "ladewerk-watch", "ladewerk-frozen", "ladewerk-first", *lazy]
    ran = {key for key, row in found.items() if "skipped" not in row}
    assert {"stock", "again", "gc", "ladewerk-stat", "ladewerk-watch", "ladewerk-frozen", "ladewerk-first", *lazy} <= ran, found
    assert all(len(found[key][name]) == 2 for key in ran for name in ("wall_ms", "cpu_ms", "rss_mb"))
    assert "no claim" in report[1]


def test_status_arguments_and_path_are_the_programs(report: tuple[dict, str]) -> None:
    """sys.path was printed: had the overlay been in it, the ways with Ladewerk would differ, and have a reason instead of numbers."""
    assert report[0]["app"]["does"].startswith("exit status 3") and Alike.EXACT.value in report[0]["app"]["does"]


def test_the_program_is_left_alone(report: tuple[dict, str], directory: Path) -> None:
    """But for the byte code that it writes itself."""
    assert {path.name for path in directory.iterdir()} - {"__pycache__"} == {*_FILES, "without.py", "tool"}


def test_the_split_knows_the_bodies(report: tuple[dict, str]) -> None:
    found = rows(report, "app-split")
    for row in (found["stock"], found["ladewerk-stat"], found["ladewerk-watch"], found["ladewerk-frozen"]):
        assert statistics.median(row["execute_ms"]) >= 2 * BURN_MS * 0.99, row
    assert min(statistics.median(found["stock"][f"{phase}_ms"]) for phase in ("find", "read", "unmarshal", "validate")) > 0
    for way in ("stat", "watch", "frozen"):
        assert found[f"ladewerk-{way}"]["served"] >= 6, found


def test_statements_have_a_place(report: tuple[dict, str]) -> None:
    """`tool` begins one line later than app.py; what several lead to is nobody's saving."""
    drops = rows(report, "app-drop")
    assert drops["tool:2"]["label"] == "import a" and drops["tool:2"]["modules"] == 3 and drops["tool:2"]["own"]
    assert drops["a.py:2"]["within"] == "tool:2"
    assert "tool:3" not in drops or drops["tool:3"]["saves_cpu_ms"][0] < BURN_MS
    assert not any(BURN_MS * 1.9 < row["own_cpu_ms"][0] for name, row in drops.items() if name not in ("tool:2", "a.py:2"))
    assert "`import a`" in report[1] and "tool:2" in report[1]


def test_what_is_not_used_could_wait(report: tuple[dict, str]) -> None:
    """a, only_a and shared have no code that runs later; helper's ran for a alone; b's and json's did."""
    found = rows(report, "app-lazy")
    assert statistics.median(found["all"]["saves_cpu_ms"]) >= 2 * BURN_MS * 0.99
    assert found["tool:2"]["modules"] == 3 and "tool:3" not in found


def test_the_dearest_are_named(report: tuple[dict, str]) -> None:
    found = rows(report, "app-imports")
    assert {*list(found)[:2]} == {"only_a", "shared"} and found["only_a"]["statement"] == "a.py:2"


def what_is_wrong(report: tuple[dict, str], directory: Path) -> str:
    """The import is dropped for real. The work is counted in CPU time by the module itself, so how fast the machine is does not matter."""
    commands = {name: Command((sys.executable, str(directory / name)), {**os.environ, "LADEWERK": "0"}, expected=3) for name in ("app.py", "without.py")}
    samples = pair.rounds(commands, 9)
    saved = differences(*([sample.cpu_ms for sample in samples[name]] for name in commands)).value
    row = rows(report, "app-drop")["tool:2"]
    predicted, alone = statistics.median(row["saves_cpu_ms"]), statistics.median(row["own_cpu_ms"])
    within = predicted + BURN_MS  # what -X importtime adds up: `shared` was imported there, too, but stays
    near = abs(saved - predicted) <= max(BURN_MS, saved) / 4
    nearest = abs(saved - predicted) < min(abs(saved - within), abs(saved - alone))  # alone: without what is left behind
    return "" if near and nearest else f"{saved} ms saved, {predicted} predicted, {alone} without what is left behind"


def test_the_prediction_holds(report: tuple[dict, str], directory: Path, tmp_path: Path) -> None:
    """Beside other work CPU time grows by what that work happens to be; a prediction that is wrong is so each time."""
    wrong = what_is_wrong(report, directory)
    for again in range(3):
        wrong = wrong and what_is_wrong(ask(directory, tmp_path / str(again)), directory)
    assert not wrong


_WAITS = """\
import sys, threading
def other():
    begun.wait()
    import slow
begun = threading.Event()
thread = threading.Thread(target=other)
thread.start()
import slow
thread.join()
"""
_SLOW = """\
import sys, time, _frozen_importlib
main = sys.modules["__main__"]
me = _frozen_importlib._thread.get_ident()
main.begun.set()
blocking = _frozen_importlib._blocking_on  # by thread; from 3.12 on with weak references in .data
while len(sys.argv) < 2 and not any(who != me and blocking.get(who) for who in list(getattr(blocking, "data", blocking))):
    time.sleep(0.001)
time.sleep(0.02)
"""


@pytest.mark.parametrize("waits", [True, False])
def test_waits_for_locks_are_seen(tmp_path: Path, waits: bool) -> None:
    """Another thread imports a module of ours until we hang in its lock, and 20 ms longer; as a control, it has imported it before."""
    (tmp_path / "slow.py").write_text(_SLOW)
    (tmp_path / "waits.py").write_text(_WAITS if waits else _WAITS.replace("thread.start()\nimport slow", "import slow\nthread.start()"))
    python = command.ask(sys.executable, os.environ)
    made = overlay.make(tmp_path / "state", tmp_path, None, "none", os.environ, python.executable)
    argv = (python.executable, str(tmp_path / "waits.py"), *(() if waits else ("alone",)))
    found = outcome.observe(Command(argv, made.environment(f"probe:split:{tmp_path}/record")), 60)
    assert found.status == 0, found.err
    record = read_record(tmp_path / "record", found.ended)
    assert record
    waited = stock_split([record])["wait_ms"][0]
    assert waited >= 15 if waits else waited < 5


def test_who_differs_is_not_timed(tmp_path: Path) -> None:
    (tmp_path / "sees.py").write_text("import sys, json\nprint('ladewerk._native' in sys.modules)\n")
    python = command.ask(sys.executable, os.environ)
    program = Program("sees.py", python, (), (str(tmp_path / "sees.py"),))
    made = overlay.make(tmp_path / "state", tmp_path, SITE, "", os.environ, python.executable)
    stock, alike = look(program, made.stock(), 60)
    app = App(program, [], made, 60, stock, alike)
    ways = {way.key: way for way in overlay.ways(made, program, "", "") if way.key in ("again", "gc", "ladewerk-stat")}
    assert [check(app, ways[key]) for key in ("again", "gc")] == ["", ""]
    assert check(app, ways["ladewerk-stat"]) == "output differs from stock Python's (line 1): not timed"


def test_stock_python_is_asked_again_before_a_way_is_blamed(tmp_path: Path) -> None:
    """A program that says something else from its fifth run on, whoever runs it."""
    (tmp_path / "count").write_text("")
    (tmp_path / "counts.py").write_text(f"f = open({str(tmp_path / 'count')!r}, 'a')\nf.write('x')\nprint('few' if f.tell() < 5 else 'x' * f.tell())\n")
    python = command.ask(sys.executable, os.environ)
    program = Program("counts.py", python, (), (str(tmp_path / "counts.py"),))
    made = overlay.make(tmp_path / "state", tmp_path, None, "none", os.environ, python.executable)
    stock, alike = look(program, made.stock(), 60)
    app = App(program, [], made, 60, stock, alike)
    assert alike is Alike.EXACT
    assert check(app, next(way for way in overlay.ways(made, program, "", "") if way.key == "again")) == ""
    assert app.alike is Alike.STATUS


@pytest.mark.parametrize("kind", ["times", "split", "graph"])
def test_modules_can_be_run(tmp_path: Path, kind: str) -> None:
    """For -m the interpreter itself imports, with no frame that asks."""
    (tmp_path / "tool.py").write_text("import json\nprint(json.dumps(1))\n")
    python = command.ask(sys.executable, os.environ)
    made = overlay.make(tmp_path / "state", tmp_path, None, "none", os.environ, python.executable)
    env = made.environment(f"probe:{kind}:{tmp_path}/record")
    found = outcome.observe(Command((python.executable, "-m", "tool"), {**env, "PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{tmp_path}"}), 60)
    assert (found.status, found.out) == (0, b"1\n"), found.err
    record = read_record(tmp_path / "record", found.ended)
    assert record and "json" in str(record["modules" if kind == "graph" else "imports"])


def test_what_extension_modules_import_is_led_to_by_who_asked_for_them(tmp_path: Path) -> None:
    """_asyncio, in C, imports modules of asyncio: without the one statement all of them would be gone."""
    (tmp_path / "app.py").write_text("import importlib.machinery\nimport asyncio\n")
    python = command.ask(sys.executable, os.environ)
    made = overlay.make(tmp_path / "state", tmp_path, None, "none", os.environ, python.executable)
    found = outcome.observe(Command((python.executable, str(tmp_path / "app.py")), made.environment(f"probe:graph:{tmp_path}/record")), 60)
    assert found.status == 0, found.err
    record = read_record(tmp_path / "record", found.ended)
    assert record and "_asyncio" in record["modules"]
    graph = Graph([Statement(*key, tuple(names)) for *key, names in record["statements"]], list(record["modules"]))
    (statement,) = (node for node in graph.statements if node.importer == "__main__" and "asyncio" in node.names)
    assert set(graph.dominated()[statement]) >= {name for name in record["modules"] if name.partition(".")[0] in ("asyncio", "_asyncio")}


def test_an_interruption_is_one_also_when_the_program_ends_at_the_same_moment() -> None:
    with pytest.raises(KeyboardInterrupt):
        outcome.observe(Command((sys.executable, "-c", f"import os; os.kill({os.getpid()}, {signal.SIGINT.value})"), dict(os.environ)), 60)


def test_what_does_not_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("import threading\nthreading.Event().wait()\n")
    program = Program("server.py", command.ask(sys.executable, os.environ), (), (str(tmp_path / "server.py"),))
    with pytest.raises(Refused, match="--timeout"):
        look(program, dict(os.environ), 0.1)


# --- the page --------------------------------------------------------------------------------------------------------------


def test_figures_are_of_ways_that_ran(report: tuple[dict, str]) -> None:
    keys = [figure.key for figure in page.figures(report[0]["rows"])]
    version = "{}.{}".format(*sys.version_info[:2])
    assert f"{version}/app/ladewerk-stat/cpu_ms" in keys and f"{version}/app/gc/wall_ms" in keys
    assert len(keys) == len(set(keys)) and not any("/stock/" in key or "/again/" in key for key in keys)


def test_what_is_missing_has_its_reason(report: tuple[dict, str]) -> None:
    """Nothing but stock Python ran, and the probes could not write."""
    kept = [row for row in report[0]["rows"] if row["section"] == "app" and row["contender"] == "stock"]
    none = [{**kept[0], "section": section, "contender": "x", "base": section != "app", "skipped": f"no {section}"}
            for section in ("app", "app-split", "app-imports", "app-drop")]
    text = page.markdown({**report[0], "rows": [*kept, *none]})
    assert all(f"*{row['skipped']}*" in text for row in none)


def test_memory_that_may_be_the_benchmarks_own() -> None:
    """A process begins with the peak of who starts it."""
    big = b"x" * 50_000_000
    assert pair.run(Command(("/bin/true",), {})).rss_mb > len(big) / 2**20
    assert pair.own_peak_mb() > len(big) / 2**20
    assert rss_text({"rss_mb": [60.0, 61.0, 62.0], "rss_floor_mb": 30.0}) == "61.0"
    assert rss_text({"rss_mb": [30.0, 30.1, 30.2], "rss_floor_mb": 30.0}) == "at most 30.1"


def test_imports_of_many_threads_are_no_share() -> None:
    row = {"modules": 9, "imports_ms": [300.0] * 9, "elapsed_ms": [100.0] * 9}
    assert "%" not in page.share_text(row) and "threads" in page.share_text(row)
    assert "33 %" in page.share_text({**row, "imports_ms": [33.0] * 9})


def test_a_program_that_fails_is_pointed_out() -> None:
    python = Interpreter("python3", "python3", (3, 12, 1), False, (), None)
    program = Program("x", python, (), ("x.py",))
    (said,) = notes(program, {}, "", Outcome(1, b"", b"Traceback\nValueError: no\n"))
    assert "exit status 1" in said and "ValueError: no" in said
    assert notes(program, {}, "", Outcome(0, b"", b"ValueError: no\n")) == []


def test_the_split_is_of_one_run() -> None:
    """The quickest: phases of different runs do not add up."""
    row = {f"{phase}_ms": [10.0, 1.0, 2.0] for phase in PHASES} | {"execute_ms": [1.0, 100.0, 2.0]}
    assert page.quickest(row) == [2.0] * len(PHASES)
