# SPDX-License-Identifier: MIT
"""`ladewerk run --report`: adds up, agrees with Python's own -X importtime, claims no more than it knows, and leaves the program alone."""
from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SLOW = "import time\ntime.sleep({})\n"


@pytest.fixture
def program(shell):
    """app -> top -> top.fast, top.slow, optional; decimal stands for the standard library."""
    shell.write("app.py", "import top.slow, decimal, sys\nprint('out')\nprint('err', file=sys.stderr)\n")
    shell.write("top/__init__.py", "from . import fast\nfrom .fast import value\ntry:\n    import missing_altogether\nexcept ImportError:\n    pass\n")
    shell.write("top/__main__.py", "import top.slow\nprint('out')\n")
    shell.write("top/fast.py", "import top\nvalue = 1\n")
    shell.write("top/slow.py", SLOW.format(0.02) + "import helper\n")
    shell.write("helper.py", "import colorsys\n")
    return shell


def start(shell, by, *words, **options):
    return shell.ladewerk("run", *words, **options) if by == "launcher" else shell.stock("-m", "ladewerk", "run", *words, **options)


def report(shell, *words, **options):
    """The JSON report of a run."""
    path = shell.root / "report.json"
    done = shell.ladewerk("run", "--report=json", "--report-file", path, *words, **options)
    assert f"ladewerk: the report is in {path}\n" in done.stderr, done.stderr
    facts = json.loads(path.read_text())
    path.unlink()
    return facts


def by_name(facts):
    return {item["name"]: item for item in facts["imports"]}


def timed(text):
    """(depth, name) of each line of an importtime report."""
    lines = [re.fullmatch(r"import time: ( *\d+) \| ( *\d+) \| ( *)(\S+)", line) for line in text.splitlines() if line.startswith("import time:") and "[us]" not in line]
    assert all(lines)
    return [(len(line[3]), line[4]) for line in lines]


# --- how it is asked for, and where it goes -----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["launcher", "module"])
@pytest.mark.parametrize("words", [["app.py"], ["-m", "top"], ["-c", "import top.slow; print('out')"]], ids=lambda words: words[0])
def test_text(program, by, words):
    done = start(program, by, "--report", *words)
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert "ladewerk report: " in done.stderr and re.search(r"^ +\d+\.\d\d +\d+\.\d\d  \w+ +top\.slow +\w+$", done.stderr, re.M)
    assert max(map(len, done.stderr.splitlines())) <= 100


def test_no_report_unless_asked_for(program):
    """The control of the tests here that look for one."""
    assert program.ladewerk("run", "app.py").stderr == "err\n"


@pytest.mark.parametrize("by", ["launcher", "module"])
@pytest.mark.parametrize("form", ["json", "chrome"])
def test_file_by_default(program, by, form):
    """It lies where the program was started, and standard output is the program's."""
    done = start(program, by, f"--report={form}", "-c", "import os, top; os.chdir('/'); print(os.getpid())")
    path = program.cwd / f"ladewerk-report-{done.stdout.strip()}.json"
    assert done.stderr == f"ladewerk: the report is in {path}\n"
    assert "top" in {item["name"] for item in json.loads(path.read_text())["imports" if form == "json" else "traceEvents"]}


@pytest.mark.parametrize("by", ["launcher", "module"])
@pytest.mark.parametrize("words", [["--report-file", "a b:c"], ["--report-file=a b:c"], ["--report=json", "--importtime", "--report", "--report-file=a b:c"]])
def test_file_asked_for(program, by, words):
    done = start(program, by, *words, "-c", "import top, os; os.chdir('/'); os.environ.clear()")
    path = program.cwd / "a b:c"
    assert done.stderr == f"ladewerk: the report is in {path}\n" and path.read_text().startswith("ladewerk report: -c import top")


def test_file_name_that_is_not_utf8(program):
    done = program.ladewerk("run", "--report-file", b"\xff.txt", "-c", "import top")
    assert done.returncode == 0 and (program.cwd / os.fsdecode(b"\xff.txt")).exists()


USAGE = {
    "odd format": (["--report=xml", "app.py"], "--report takes text, importtime, json or chrome, not 'xml'"),
    "no format": (["--report=", "app.py"], "--report takes text, importtime, json or chrome, not ''"),
    "no file": (["--report-file"], "--report-file takes the path of a file"),
    "empty file": (["--report", "--report-file=", "app.py"], "--report-file takes the path of a file"),
    "nothing to run": (["--report", "--importtime"], "nothing to run"),
}


@pytest.mark.once
@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage(program, case):
    words, text = USAGE[case]
    launcher, module = start(program, "launcher", *words), start(program, "module", *words)
    assert (launcher.returncode, launcher.stdout) == (2, "") and text in launcher.stderr and launcher.stderr.count("\n") == 1
    assert (module.returncode, module.stdout, module.stderr) == (2, "", launcher.stderr)


@pytest.mark.once
@pytest.mark.parametrize("words", [["--report", "app.py", "--report"], ["--reports", "app.py"], ["--importtime=1", "app.py"], ["--report-files=x", "app.py"]])
def test_only_our_own_options_are_taken(program, words):
    program.write("app.py", "import sys, top; print(sys.argv)")
    done, module = start(program, "launcher", *words), start(program, "module", *words)
    assert (done.returncode, done.stdout) == (module.returncode, module.stdout)
    assert done.stdout == "['app.py', '--report']\n" if words[0] == "--report" else done.returncode == 2 and "unknown option" in done.stderr.lower()


@pytest.mark.parametrize("by", ["launcher", "module"])
def test_switched_off(program, by):
    done = start(program, by, "--report=json", "app.py", env={"LADEWERK": "0"})
    assert (done.returncode, done.stdout) == (0, "out\n")
    assert done.stderr == "ladewerk: run: there will be no report, because LADEWERK=0 switches Ladewerk off\nerr\n"
    assert not list(program.cwd.glob("*.json"))


# --- what it says -------------------------------------------------------------------------------------------------------


def test_sums(program):
    facts = report(program, "app.py")
    imports = facts["imports"]
    roots = [item for item in imports if item["parent"] is None]
    assert all(item["depth"] == 0 for item in roots)
    assert facts["total_ns"] == sum(item["cumulative_ns"] for item in roots) == sum(item["self_ns"] for item in imports) == sum(facts["phases_ns"].values())
    for number, item in enumerate(imports):
        within = sum(child["cumulative_ns"] for child in imports if child["parent"] == number)
        assert item["self_ns"] == sum(item["phases_ns"].values()) == item["cumulative_ns"] - within > 0
    assert facts["elapsed_ns"] >= facts["total_ns"] and sum(facts["outcomes"].values()) == len(imports)


def test_time_is_charged_to_who_spent_it(program):
    for _ in range(10):  # others may have the processor for as long
        found = by_name(report(program, "app.py"))
        if max(found["top"]["self_ns"], found["helper"]["self_ns"]) < 20_000_000:
            break
    assert found["top.slow"]["phases_ns"]["execute"] >= 20_000_000 > found["top"]["self_ns"] and found["helper"]["self_ns"] < 20_000_000
    assert found["top.slow"]["importer"] == "__main__" and found["helper"]["importer"] == "top.slow" and found["colorsys"]["importer"] == "helper"
    assert found["missing_altogether"]["outcome"] == "failed"


def test_how_they_were_served(program):
    program.settle()
    first = by_name(report(program, "app.py"))
    program.settle()
    report(program, "app.py")
    learnt = by_name(report(program, "app.py"))
    assert first["top.slow"]["outcome"] == "compiled" and first["top.slow"]["phases_ns"]["compile"] > 0
    assert learnt["top.slow"]["outcome"] == "pack" and learnt["top.slow"]["phases_ns"]["unmarshal"] > 0 and "compile" not in learnt["top.slow"]["phases_ns"]


def test_collections_are_told_apart(program):
    program.write("collects.py", "import gc\nfor _ in range(20):\n    gc.collect()\n")
    phases = by_name(report(program, "-c", "import collects"))["collects"]["phases_ns"]
    assert phases["collect"] > phases["execute"] > 0


NESTED = "import top.slow, decimal, sys, xml.dom.minidom\nfrom email.mime import text\ntry:\n    import broken\nexcept ValueError:\n    pass\nimport circle"


def test_like_importtime(program):
    """Python's own measurement of the same program has the same lines, in the same order, equally deep."""
    program.write("broken.py", "import helper\nraise ValueError\n")
    program.write("circle.py", "import circle2\n")
    program.write("circle2.py", "import circle, quopri\n")
    program.write("nested.py", NESTED)
    for attempt in ("first", "learnt"):
        ours = program.ladewerk("run", "--importtime", "nested.py")
        assert ours.stderr.startswith("import time: self [us] | cumulative | imported package\n")
        lines = timed(ours.stderr)
        theirs = timed(program.stock("-X", "importtime", "nested.py").stderr)
        assert len(lines) > 30 and lines == theirs[-len(lines):], attempt
        assert (0, "top.slow") in lines and (2, "top") in lines and (4, "missing_altogether") in lines and (2, "circle2") in lines


def test_importtime_is_laid_out_as_pythons(program):
    line = r"import time: [ \d]{9} \| [ \d]{10} \| (  )*\S+"
    for text in (program.ladewerk("run", "--importtime", "-c", "import top").stderr, program.stock("-X", "importtime", "-c", "import top").stderr):
        head, *lines = [line for line in text.splitlines() if line.startswith("import time:")]
        assert head == "import time: self [us] | cumulative | imported package" and lines and all(re.fullmatch(line, found) for found in lines)


def test_chrome(program):
    path = program.root / "trace.json"
    program.ladewerk("run", "--report=chrome", "--report-file", path, "app.py")
    events = json.loads(path.read_text())["traceEvents"]
    spans = {event["name"]: event for event in events if event["ph"] == "X"}
    outer, inner = spans["top.slow"], spans["helper"]
    assert inner["tid"] == outer["tid"] < 2**31 and inner["pid"] == outer["pid"] and inner["args"]["importer"] == "top.slow"
    assert outer["ts"] <= inner["ts"] <= inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 0.001
    assert outer["dur"] >= 20_000 and outer["args"]["execute_us"] >= 20_000
    assert {event["name"] for event in events if event["ph"] == "M"} == {"process_name", "thread_name"}


THREADS = """\
import sys, threading, time
sys.setswitchinterval(1e-5)
names = [f"many.m{n}" for n in range(40)] + ["slow"]

def work(shift):
    barrier.wait()
    for name in names[shift:] + names[:shift]:
        __import__(name)

barrier = threading.Barrier(4)
threads = [threading.Thread(target=work, args=(9 * n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads(program):
    program.write("many/__init__.py")
    for number in range(40):
        program.write(f"many/m{number}.py", f"import many.n{number}\nx = [str(i) for i in range({number * 10})]\n")
        program.write(f"many/n{number}.py", "x = [str(i) for i in range(100)]\n")
    program.write("slow.py", SLOW.format(0.02))
    program.write("threads.py", THREADS)
    for _ in range(3):
        facts = report(program, "threads.py")
        assert all(item["self_ns"] >= 0 and all(ns > 0 for ns in item["phases_ns"].values()) for item in facts["imports"])
        assert len({item["thread"] for item in facts["imports"]}) > 1
        for item in facts["imports"]:
            outer = facts["imports"][item["parent"]] if item["parent"] is not None else None
            assert (outer is None) == (item["depth"] == 0)
            assert not outer or outer["thread"] == item["thread"] and outer["begun_ns"] <= item["begun_ns"]
            assert not outer or outer["name"] == item["importer"] or item["name"] == "many"  # a parent is imported for whoever wants its child
        assert abs(sum(facts["phases_ns"].values()) - facts["total_ns"]) <= facts["total_ns"] // 100
        text = program.ladewerk("run", "--report", "threads.py").stderr
        assert " threads took " in text


WAIT = """\
import importlib, threading, time
thread = threading.Thread(target=__import__, args=("slow",))
thread.start()
time.sleep(0.1)
importlib.import_module("slow")
thread.join()
"""


@pytest.mark.parametrize("statement", ['importlib.import_module("slow")', "import slow"])
def test_waiting_for_another_thread(program, statement):
    program.write("slow.py", SLOW.format(0.3))
    program.write("wait.py", WAIT.replace('importlib.import_module("slow")', statement))
    facts = report(program, "wait.py")
    loaded, waited = sorted((item for item in facts["imports"] if item["name"] == "slow"), key=lambda item: item["begun_ns"])
    assert loaded["phases_ns"]["execute"] >= 300_000_000 and "wait" not in loaded["phases_ns"]
    assert 50_000_000 < waited["phases_ns"]["wait"] < loaded["cumulative_ns"] and waited["thread"] != loaded["thread"]
    assert (loaded["outcome"] != "waited", waited["outcome"]) == (True, "waited")
    assert program.ladewerk("run", "--importtime", "wait.py").stderr.count("| slow\n") == 1, "as Python counts"


# --- not used by name ---------------------------------------------------------------------------------------------------

NOT_USED = {
    "import": "import dear",
    "import as": "import dear as d",
    "from": "from dear import a, b",
    "submodule": "import dear.part",
    "relative to nothing": "from dear import part",
    "shadowed": "import dear\ndear = 1",
    "docstring": '"""It does not use dear."""\nimport dear',
    "in a function": "def f():\n    import dear\nf()",
    "optional": "try:\n    import dear\nexcept ImportError:\n    dear = None",
    "other attribute": "import dear\nimport sys\nsys.dear = 1",
    "for type checkers beside": "import dear\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    print(dear)",
}
USED_OR_NOT_KNOWN = {
    "called": "import dear\ndear.f",
    "as called": "import dear as d\nd.f",
    "one of two": "from dear import a, b\nprint(b)",
    "in a function": "import dear\ndef f(): return dear.f()",
    "parent used": "import dear.part\ndear.f",
    "parent of what is used": "from dear.part import a\na",
    "deleted": "import dear\ndel dear",
    "__all__": "import dear\n__all__ = ['dear']",
    "annotation": "import dear\nx: dear.A",
    "annotation in quotes": "import dear\ndef f(x: 'dict[str, dear.A]'): pass",
    "getattr": "import dear, sys\ngetattr(sys.modules[__name__], 'dear')",
    "globals": "import dear\nglobals()",
    "star": "from dear import *",
    "re-export": "import dear as dear",
    "re-export from": "from dear import a as a",
    "underscore": "import dear as _",
    "said so": "import dear  # noqa: F401",
    "counted up": "from dear import a\na += 1",
    "failed": "try:\n    import broken\nexcept ImportError: pass",
    "by other means": "__import__('dear')",
    "by other means, and for type checkers": "__import__('dear')\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    import dear",
}


@pytest.fixture
def dear(program):
    program.write("dear/__init__.py", SLOW.format(0.005) + "a = b = 1\ndef f(): pass\nclass A: pass\n")
    program.write("dear/part.py", SLOW.format(0.005) + "a = 1\n")
    program.write("broken.py", SLOW.format(0.005) + "raise ImportError\n")
    return program


def unused(facts):
    return {(one["module"], one["importer"]) for one in facts["unused"]}


def test_not_used_by_name(dear):
    for number, text in enumerate(NOT_USED.values()):
        dear.write(f"user{number}.py", text + "\n")
    for number, case in enumerate(NOT_USED):
        facts = report(dear, "-c", f"import user{number}")
        assert ("dear", f"user{number}") in unused(facts), case
        assert ("dear.part", f"user{number}") in unused(facts) or "part" not in NOT_USED[case], case
    lines = [line for line in dear.ladewerk("run", "--report", "-c", "import user0").stderr.splitlines() if line.endswith("in user0, line 1")]
    assert len(lines) == 1 and lines[0].split()[1] == "dear"


def test_used_or_not_known(dear):
    for number, text in enumerate(USED_OR_NOT_KNOWN.values()):
        dear.write(f"user{number}.py", text + "\n")
    for number, case in enumerate(USED_OR_NOT_KNOWN):
        assert unused(report(dear, "-c", f"import user{number}")) == set(), case


def test_main_and_relative_imports_and_packages(dear):
    dear.write("script.py", "import dear\n")
    assert unused(report(dear, "script.py")) == unused(report(dear, "-m", "script")) == {("dear", "__main__")}
    dear.write("pack/__init__.py", "from . import heavy\n")  # a package may import for others
    dear.write("pack/heavy.py", SLOW.format(0.005))
    dear.write("pack/sub.py", "from . import heavy2\nfrom .heavy2 import x\n")
    dear.write("pack/heavy2.py", SLOW.format(0.005) + "x = 1\n")
    assert unused(report(dear, "-c", "import pack.sub")) == {("pack.heavy2", "pack.sub")}


def test_modules_of_engines_are_not_taken_for_those_of_the_process(dear):
    """The process's `user` has an import that it does not use, nor runs; an engine's `user` runs and uses it."""
    dear.write("user.py", "if False:\n    import dear\n")
    dear.write("other/user.py", "import dear\nprint(dear.a)\n")
    main = f"import ladewerk, sys, user; ladewerk.ImportEngine(path=[{str(dear.cwd / 'other')!r}, *sys.path]).import_module('user')"
    facts = report(dear, "-c", main)
    assert unused(facts) == set() and ("dear", "user") in {(one["name"], one["importer"]) for one in facts["imports"]}


def test_cheap_imports_are_not_reproached(dear):
    dear.write("cheap.py", "")
    dear.write("dearest.py", SLOW.format(1))
    dear.write("user.py", "import cheap\nimport dearest\n")
    assert unused(report(dear, "-c", "import user")) == {("dearest", "user")}


def test_warnings_of_sources_are_not_repeated(dear):
    """Looking for names parses the source again."""
    dear.write("user.py", "import dear\nx = '\\d'\n")
    first = dear.ladewerk("run", "--report", "-W", "error", "-c", "import sys; sys.dont_write_bytecode = True\ntry:\n  import user\nexcept SyntaxError: pass")
    assert first.returncode == 0
    done = dear.ladewerk("run", "--report", "-W", "always", "-c", "import user")
    assert done.stderr.count("invalid escape") <= 1 and "in user, line 1" in done.stderr


# --- the program is left alone ------------------------------------------------------------------------------------------

ENDS = {
    "status": ("import top, sys; sys.exit(42)", 42),
    "message": ("import top, sys; sys.exit('no more')", 1),
    "exception": ("import top; top.nothing", 1),
    "exception at import": ("import missing_altogether", 1),
    "within an import": ("import leaves", 7),
}


@pytest.mark.parametrize("case", ENDS)
def test_exit_status(program, case):
    program.write("leaves.py", "import helper, sys\nsys.exit(7)\n")
    code, status = ENDS[case]
    stock = program.stock("-c", code)
    done = program.ladewerk("run", "--report", "-c", code)
    assert done.returncode == stock.returncode == status and done.stdout == stock.stdout
    assert done.stderr.startswith(stock.stderr + "ladewerk report: ")


SILENT = {"os._exit": "import os, top; os._exit(3)", "signal": "import os, top; os.kill(os.getpid(), 15)"}


@pytest.mark.parametrize("case", SILENT)
def test_no_report_of_a_sudden_end(program, case):
    done = program.ladewerk("run", "--report", "-c", SILENT[case])
    assert done.returncode == program.stock("-c", SILENT[case]).returncode != 0 and done.stderr == ""


@pytest.mark.once
@pytest.mark.parametrize("form", ["text", "json", "chrome", "importtime"])
@pytest.mark.parametrize("place, why", [("nowhere/report", "No such file or directory"), (".", "Is a directory"), ("/dev/full", "No space left on device")])
def test_file_that_cannot_be_written(program, form, place, why):
    done = program.ladewerk("run", f"--report={form}", "--report-file", place, "-c", "import top, sys; sys.exit(5)")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"ladewerk: the report cannot be written to {os.path.join(program.cwd, place)}: {why}\n"


def test_file_without_permission(powerless):
    powerless.write("helper.py")
    powerless.cwd.chmod(0o555)
    try:
        done = powerless.ladewerk("run", "--report-file=x", "-c", "import helper")
    finally:
        powerless.cwd.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, f"ladewerk: the report cannot be written to {powerless.cwd}/x: Permission denied\n")


@pytest.mark.once
@pytest.mark.parametrize("closing", ["2>&-", "2>/dev/full"])
def test_stderr_that_cannot_be_written(program, closing):
    done = subprocess.run(f"{program.script} run --report -c 'import top, sys; sys.exit(5)' {closing}", shell=True, cwd=program.cwd, env=program.env)
    assert done.returncode == 5


def test_forked_child_does_not_report(program):
    code = "import os, sys, top\nif os.fork() == 0:\n    import helper\n    sys.exit()\nos.wait()"
    done = program.ladewerk("run", "--importtime", "-c", code)
    assert done.stderr.count("[us]") == 1 and ("top" in done.stderr) and "helper" not in done.stderr


@pytest.mark.parametrize("method", ["subprocess", "spawn"])
def test_children_do_not_report(program, method):
    program.write("parent.py", """\
import multiprocessing, subprocess, sys
if __name__ == "__main__":
    if sys.argv[1] == "subprocess":
        subprocess.run([sys.executable, "-c", "import helper"], check=True)
    else:
        process = multiprocessing.get_context("spawn").Process(target=__import__, args=("helper",))
        process.start(); process.join()
""")
    done = program.ladewerk("run", "--importtime", "parent.py", method)
    assert done.stderr.count("[us]") == 1 and "helper" not in done.stderr


def test_program_that_executes_another(program):
    """The process is still the one that was asked about."""
    done = program.ladewerk("run", "--importtime", "-c", "import os, sys, top; os.execv(sys.executable, [sys.executable, '-c', 'import helper'])")
    assert [name for _, name in timed(done.stderr)][-2:] == ["colorsys", "helper"] and "top" not in done.stderr


def test_a_program_of_our_name(program):
    """`ladewerk` on sys.path is the program's: it is not run again for the report."""
    program.write("ladewerk.py", "print('body runs as', __name__)\nimport helper\n")
    done = program.ladewerk("run", "--report", "ladewerk.py")
    assert done.stdout == "body runs as __main__\n" and "ladewerk report: ladewerk.py" in done.stderr and " helper " in done.stderr


def test_the_report_is_not_in_the_report(program):
    names = by_name(report(program, "-c", "import helper"))
    assert "helper" in names and not any("ladewerk" in name or name.startswith("json") for name in names)


def test_odd_names_and_long_ones(program):
    long = "a" * 200
    program.write(f"{long}.py", SLOW.format(0.002))
    program.write("odd.py", f"try: __import__('x\\ny\\udcff')\nexcept ImportError: pass\nimport {long}\n")
    for form in ("text", "json", "chrome", "importtime"):
        done = program.ladewerk("run", f"--report={form}", "--report-file=report", "odd.py")
        assert done.returncode == 0 and "the report is in" in done.stderr
        text = (program.cwd / "report").read_text()
        assert form != "text" or max(map(len, text.splitlines())) <= 100
        assert form not in ("json", "chrome") or json.loads(text)


def test_standard_error_is_written_in_order(program):
    done = program.ladewerk("run", "--report", "-c", "import top, sys; sys.stderr.write('unfinished')")
    assert done.stderr.startswith("unfinishedladewerk report: ")


def test_modules_imported_at_exit_are_in_it(program):
    done = program.ladewerk("run", "--importtime", "-c", "import atexit, top; atexit.register(__import__, 'helper')")
    assert (0, "helper") in timed(done.stderr)


# --- doctor, README -----------------------------------------------------------------------------------------------------


def test_doctor(shell):
    found = {finding["topic"]: finding for finding in shell.json("doctor")["findings"]}
    built_in = shell.stock("-c", "import ladewerk._native as n; print(n.has_probes)").stdout.strip() == "True"
    assert found["probes"]["status"] == ("ok" if built_in else "note") and "USDT" in found["probes"]["text"]
    known = shell.json("doctor", env={"LADEWERK_REPORT": "1:json:/tmp/x"})["findings"]
    assert any(finding["status"] == "ok" and finding["text"] == "LADEWERK_REPORT=1:json:/tmp/x" for finding in known)
    odd = shell.json("doctor", status=1, env={"LADEWERK_REPORT": "json"})["findings"]
    assert any(finding["status"] == "problem" and "LADEWERK_REPORT=json" in finding["text"] for finding in odd)


GUIDE = Path(__file__).parents[2] / "ext" / "README.md"


@pytest.mark.skipif(not GUIDE.exists(), reason="the tests were taken out of the source tree")
def test_example_of_the_guide(shell):
    """The files and the command of the guide give every line it shows, numbers apart."""
    section = GUIDE.read_text().split("\n## Report\n")[1].split("\n## ")[0]
    for name, text in re.findall(r"^```python\n# (\S+)\n(.*?)^```", section, re.M | re.S):
        shell.write(name, text)
    command, shown = re.search(r"^```console\n\$ ladewerk (.*?)\n(.*?)^```", section, re.M | re.S).groups()
    for _ in range(3):  # what is shown is a run that has learnt
        shell.settle()
        done = shell.ladewerk(*command.split())

    def shape(text):
        text = re.sub(r"\(pid .*", "", text)
        return [words for line in text.splitlines() if (words := re.sub(r"(?<!\S)([\d.]+( %)?|#+)(?!\S)", "", line).split())]

    wanted, got = shape(shown), shape(done.stderr)
    assert len(wanted) > 15 and [line for line in wanted if line not in got and line != ["..."]] == []
