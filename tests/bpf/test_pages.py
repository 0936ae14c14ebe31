# SPDX-License-Identifier: MIT
"""What bpf/README.md and bpf/OUTPUTS.md say: the options, the commands that they show, and the example of a server that stalls, with the lines that the page has of it."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from records import BPF

pytestmark = pytest.mark.once
WAIT = 60

# shop.rates asks another service, which answers when four other requests stand still.
SERVER = """
import os, sys, threading, time

def request(module):
    __import__(module)

def is_stalled(thread):
    frame = sys._current_frames().get(thread.ident)
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
        asleep = not file.read().startswith("running")
    return asleep and frame is not None and "importlib" in frame.f_code.co_filename

service, answer = os.pipe()
os.environ["SERVICE"] = str(service)
print(os.getpid(), flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=request, args=(f"shop.{name}",)) for name in ("reports", "reports", "reports", "prices", "prices")]
threads[0].start()
while "shop.rates" not in sys.modules:
    time.sleep(0.001)
for thread in threads[1:]:
    thread.start()
while not all(map(is_stalled, threads[1:])):
    time.sleep(0.001)
time.sleep(0.02)
os.write(answer, b"x")
print(threads[0].native_id, flush=True)
for thread in threads:
    thread.join()
"""


def shape(line: str) -> str:
    """Without numbers and widths."""
    return " ".join(re.sub(r"[\d.]*\d", "N", line).split())


@pytest.fixture(scope="module")
def page() -> str:
    return (BPF / "README.md").read_text()


@pytest.fixture(scope="module")
def known(trace_program: str) -> set[str]:
    """The long options that --help lists."""
    told = subprocess.run([trace_program, "--help"], capture_output=True, text=True, timeout=WAIT, check=True).stdout
    return set(re.findall(r"^ .*?(--[a-z]+(?:-[a-z]+)*)", told, re.M))


def test_every_option_is_on_the_page(page: str, known: set[str]) -> None:
    section = page.split("\n## Options\n")[1].split("\n## ")[0]
    assert known == set(re.findall(r"--[a-z]+(?:-[a-z]+)*", "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| "))))


@pytest.mark.parametrize("name", ["README.md", "OUTPUTS.md"])
def test_commands_of_the_pages_have_options_that_there_are(known: set[str], name: str) -> None:
    commands = re.findall(r"^ {4}(?:\$ )?(?:sudo )?ladewerk trace (.*)", (BPF / name).read_text(), re.M)
    assert commands
    for command in commands:
        own = re.split(r" -- |[|>#&]", command)[0]
        assert set(re.findall(r"--[a-z]+(?:-[a-z]+)*", own)) <= known, command


def test_the_example(tracer: str, page: str, tmp_path: Path) -> None:
    """Its lists have the lines that the page shows, and the thread that they name is the one that had the locks."""
    (tmp_path / "shop").mkdir()
    for name, body in {"__init__": "", "rates": "import os\nos.read(int(os.environ['SERVICE']), 1)\n", "prices": "import shop.rates\n", "reports": "import shop.prices\n"}.items():
        (tmp_path / f"shop/{name}.py").write_text(body)
    example = page.split("\n    $ sudo ladewerk trace ")[1].split("\n\nRead it")[0]
    options = re.findall(r"--(?:table|threshold \S+)", example.splitlines()[0])
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        assert server.stdin and server.stdout
        pid = server.stdout.readline().strip()
        with subprocess.Popen([tracer, "--sched", "-p", pid, *" ".join(options).split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as trace:
            assert trace.stderr and "tracing" in trace.stderr.readline()
            server.stdin.write("go\n")
            server.stdin.close()
            holder = server.stdout.readline().strip()
            assert server.wait(WAIT) == 0
            shown, _ = trace.communicate(timeout=WAIT)
    assert "lost events: 0\n" in shown
    modules, contended, longest = (re.split(r"\n *\n", part)[0].splitlines() for part in re.split(r"most contended modules\n|longest waits\n", shown)[:3])
    expected = re.split(r"\.\.\.\n|most contended modules\n|longest waits\n", example)
    assert {shape(line).rpartition("N ")[2] for line in expected[0].splitlines()[2:] if line.strip()} <= {shape(line).rpartition("N ")[2] for line in modules}
    for listed, wanted in ((contended, expected[2]), (longest, expected[3])):
        listed = [line for line in listed if "global import lock" not in line]  # for moments, unless the machine is busy
        assert set(map(shape, listed)) == {shape(line) for line in wanted.splitlines() if line.strip()}
        assert {line.rsplit(" ", 1)[1] for line in listed[1:]} == {holder}
    heading = modules[0].split()
    (rates,) = (line.split() for line in modules if "shop.rates" in line)
    assert float(rates[[word for word in heading if word != "ms"].index("sleep")]) >= 20, shown
