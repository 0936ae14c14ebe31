# SPDX-License-Identifier: MIT
"""Save -> new code live: Ladewerk, importlib.reload (of the one module, told which), IPython's autoreload; see reload.sh.

Contenders take turns, round by round, each in a process of its own that has the same modules loaded.
"""
from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import tempfile
import time

MODULE = "import os, collections\nV = 1\n\ndef f():\n    return V\n\nclass C:\n    def g(self):\n        return V\n"
DEPENDANT = "import os, collections\nfrom hub import V\n" + "".join(f"\nclass C{i}:\n    def g(self):\n        return V\n" for i in range(20))


def corpus(root: pathlib.Path, count: int) -> None:
    for package in range(count // 100):
        (root / f"p{package}").mkdir()
        (root / f"p{package}/__init__.py").touch()
        for module in range(99):
            (root / f"p{package}/m{module}.py").write_text(MODULE)
    for name in ("leaf", "hub"):
        (root / f"{name}.py").write_text("V = 0\n")
    for dependant in range(100):
        (root / f"dep{dependant}.py").write_text(DEPENDANT)


def ladewerk_one(root):
    import ladewerk
    told = queue.Queue()
    ladewerk.watch(told.put, roots=[root])

    def reload_(name):
        told.get(timeout=60)
    return reload_


def importlib_one(root):
    def reload_(name):
        importlib.reload(sys.modules[name])
    sys.dont_write_bytecode = True  # else it takes the .pyc of the last save within a second
    return reload_


def ipython_one(root):
    from IPython.extensions.autoreload import ModuleReloader
    reloader = ModuleReloader()
    reloader.check(check_all=True, do_reload=False)
    sys.dont_write_bytecode = True

    def reload_(name):
        reloader.check(check_all=True)
    return reload_


CONTENDERS = {"ladewerk": ladewerk_one, "importlib.reload": importlib_one, "IPython autoreload": ipython_one}


def bodies() -> float:
    """The hub and its dependants, executed: what a reload of them cannot do without."""
    codes = [compile(pathlib.Path(sys.modules[name].__file__).read_bytes(), name, "exec") for name in ("hub", *(f"dep{i}" for i in range(100)))]
    begun = time.perf_counter()
    for code in codes:
        exec(code, {"__name__": "body"})
    return time.perf_counter() - begun


def serve(contender: str, root: pathlib.Path, count: int) -> None:
    """A line {"name", "version"} in, one {"ms", "bodies"} out."""
    sys.path.insert(0, str(root))
    for package in range(count // 100):
        for module in range(99):
            importlib.import_module(f"p{package}.m{module}")
    for name in ("leaf", "hub", *(f"dep{i}" for i in range(100))):
        importlib.import_module(name)
    try:
        reload_ = CONTENDERS[contender](root)
    except ImportError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"modules": len(sys.modules)}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        name, version = order["name"], order["version"]
        path = root / f"{name}.py"
        base = bodies() if name == "hub" else 0
        new = root / "new"
        new.write_text(f"V = {version}\n")
        future = time.time() + version
        os.utime(new, (future, future))  # those that go by whole seconds would miss it
        begun = time.perf_counter()
        new.rename(path)
        reload_(name)
        took = time.perf_counter() - begun
        live = sys.modules[name].V == version
        print(json.dumps({"ms": 1000 * took, "bodies": 1000 * base, "live": live, "dependants": sys.modules["dep7"].V == version}), flush=True)


class Contender:
    def __init__(self, name: str, count: int, top: str) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(dir=top))
        corpus(self.root, count)
        time.sleep(0.1)
        self.process = subprocess.Popen([sys.executable, __file__, "--serve", name, "--root", str(self.root), "--count", str(count)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "LADEWERK": "0"})
        self.first = json.loads(self.process.stdout.readline())
        self.version = 0

    def save(self, name: str) -> dict:
        self.version += 1
        self.process.stdin.write(json.dumps({"name": name, "version": self.version}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def row(what: str, samples: list[dict]) -> str:
    times = sorted(sample["ms"] for sample in samples)
    live = sum(sample["live"] for sample in samples)
    return f"| {what} | {statistics.median(times):.2f} | {times[max(0, len(times) * 99 // 100 - 1)]:.2f} | {live} of {len(samples)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10000])
    parser.add_argument("--serve")
    parser.add_argument("--root", type=pathlib.Path)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.root, options.count)
        return
    leaf: dict[int, list[dict]] = {}
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    for count in options.sizes:
        with tempfile.TemporaryDirectory() as top:
            running = {name: Contender(name, count, top) for name in CONTENDERS}
            print(f"## {count} modules and 102 more\n\n| save of a leaf, ms | p50 | p99 | live |\n|---|---|---|---|")
            able = {name: contender for name, contender in running.items() if "error" not in contender.first}
            samples: dict[str, list[dict]] = {name: [] for name in able}
            for _ in range(options.n):
                for name, contender in able.items():
                    samples[name].append(contender.save("leaf"))
            leaf[count] = samples["ladewerk"]
            for name, contender in running.items():
                print(row(name, samples[name]) if name in able else f"| {name} | {contender.first['error']} | | |")
            hub = [able["ladewerk"].save("hub") for _ in range(max(20, options.n // 5))]
            print("\n| save of a module with 100 dependants | ms | over its 101 bodies | live |\n|---|---|---|---|")
            ratio = statistics.median(sample["ms"] / sample["bodies"] for sample in hub)
            print(f"| ladewerk | {statistics.median(sample['ms'] for sample in hub):.2f} | {ratio:.2f} | {sum(sample['dependants'] for sample in hub)} of {len(hub)} |\n")
            for contender in running.values():
                contender.end()
    sizes = sorted(leaf)
    if len(sizes) > 1:
        small, large = leaf[sizes[0]], leaf[sizes[-1]]
        ratio = statistics.median(b["ms"] for b in large) / statistics.median(a["ms"] for a in small)
        print(f"ladewerk, leaf, {sizes[-1]} modules against {sizes[0]}: {ratio:.2f}")


if __name__ == "__main__":
    main()
