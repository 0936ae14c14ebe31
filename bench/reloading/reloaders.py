# SPDX-License-Identifier: MIT
"""What reload.py compares. Each begins with all modules of the corpus imported, and returns ``wait(name, version, seconds)``: whether NAME has become VERSION, as
soon as it has. ImportError: it is not installed.
"""
from __future__ import annotations

import importlib
import os
import pathlib
import queue
import subprocess
import sys
import time

OURS = "ladewerk.watch"
NAMES = ("leaf", "hub", *(f"dep{i}" for i in range(100)))


def import_all(root: pathlib.Path, count: int) -> None:
    sys.path.insert(0, str(root))
    for package in range(count // 100):
        for module in range(99):
            importlib.import_module(f"p{package}.m{module}")
    for name in NAMES:
        importlib.import_module(name)


def _version(name):
    return getattr(sys.modules.get(name), "V", None)


def _becomes(name, version, seconds):
    """For those that reload in a thread and tell nobody."""
    end = time.monotonic() + seconds
    while _version(name) != version:
        if time.monotonic() > end:
            return False
        time.sleep(0.0002)
    return True


def ladewerk_watch(root, count):
    import ladewerk
    told = queue.Queue()
    import_all(root, count)
    ladewerk.watch(told.put, roots=[root])

    def wait(name, version, seconds):
        end = time.monotonic() + seconds
        while _version(name) != version:
            try:
                told.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                return False
        return True
    return wait


def importlib_reload(root, count):
    sys.dont_write_bytecode = True  # else it takes the .pyc of what was there before a save within the same second
    import_all(root, count)

    def wait(name, version, seconds):
        importlib.reload(sys.modules[name])
        return _version(name) == version
    return wait


def ipython(root, count):
    from IPython.extensions.autoreload import ModuleReloader
    sys.dont_write_bytecode = True
    import_all(root, count)
    reloader = ModuleReloader()
    reloader.check(check_all=True, do_reload=False)

    def wait(name, version, seconds):
        reloader.check(check_all=True)
        return _version(name) == version
    return wait


def jurigged_watch(root, count):
    import jurigged
    import_all(root, count)
    jurigged.watch(pattern=[f"{root}/*.py", f"{root}/*/*.py"], logger=lambda event: None)
    time.sleep(1)  # its threads begin to watch
    return _becomes


def hmr(root, count):
    from reactivity.hmr.api import SyncReloaderAPI
    entry = root / "entry.py"
    packages = "".join(f"import p{package}.m{module}\n" for package in range(count // 100) for module in range(99))
    entry.write_text(packages + "".join(f"import {name}\n{name}.V\n" for name in NAMES))
    sys.path.insert(0, str(root))
    os.chdir(root)
    SyncReloaderAPI(str(entry), includes=[str(root)]).__enter__()
    time.sleep(1)

    def wait(*what):
        return _becomes(*what)
    wait.end = lambda: os._exit(0)  # its thread would go on
    return wait


def restart(root, count):
    """Another process does the work, and says what it has once all is imported."""
    importlib.import_module("watchfiles")
    command = f"{sys.executable} {pathlib.Path(__file__)} {root} {count}"
    process = subprocess.Popen([sys.executable, "-m", "watchfiles", "--verbosity", "warning", "--filter", "python", command, str(root)], stdout=subprocess.PIPE)
    os.set_blocking(process.stdout.fileno(), False)
    versions, rest = {}, b""

    def wait(name, version, seconds):
        nonlocal rest
        end = time.monotonic() + seconds
        while versions.get(name) != version:
            if time.monotonic() > end or process.poll() is not None:
                return False
            rest += process.stdout.read() or b""
            *lines, rest = rest.split(b"\n")
            for line in lines:
                versions.update(zip(("leaf", "hub", "dep7"), map(int, line.split())))
            time.sleep(0.0005)
        return True
    wait.version, wait.end = versions.get, process.terminate
    if not wait("leaf", 0, 120):
        raise ImportError("it did not begin")
    time.sleep(1)
    return wait


# name: (how it begins, what it is told)
CONTENDERS = {
    OURS: (ladewerk_watch, "nothing"),
    "importlib.reload": (importlib_reload, "which module, when"),
    "IPython autoreload": (ipython, "when"),
    "jurigged": (jurigged_watch, "nothing"),
    "hmr": (hmr, "nothing"),
    "watchfiles, restart": (restart, "nothing"),
}


def begin(name: str, root: pathlib.Path, count: int):
    """WAIT of contender NAME, with ``version(module name)`` and ``end()``."""
    wait = CONTENDERS[name][0](root, count)
    return wait, getattr(wait, "version", _version), getattr(wait, "end", lambda: None)


if __name__ == "__main__":  # what is started again and again
    import_all(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
    print(*(_version(name) for name in ("leaf", "hub", "dep7")), flush=True)
    time.sleep(3600)
