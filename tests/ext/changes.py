# SPDX-License-Identifier: MIT
"""Ways to change what `import` finds. Each is a class: set_up(root) once, then change(n) any number of times, after which names() are modules that must have these values
(None: no such module). Loaded by tests and, as source, by the programs under test: nothing but the standard library."""

import ctypes
import itertools
import os
import pathlib
import shutil
import subprocess

RENAME_EXCHANGE = 2


def exchange(a, b):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def text(n):
    return f"value = {n:9d}\n"  # always as long


class Change:
    """The root on sys.path is self.path; what is done is done below self.root."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.path = self.root
        self.set_up()

    def set_up(self):
        (self.root / "m.py").write_text(text(0))

    def expect(self, n):
        return {"m": n}


class Create(Change):
    def change(self, n):
        fd = os.open(self.root / f"m{n}.py", os.O_CREAT | os.O_WRONLY)
        os.write(fd, text(n).encode())
        os.close(fd)

    def expect(self, n):
        return {f"m{n}": n, f"m{n + 1}": None}


class Write(Change):
    """In place, the same size, and its time put back."""

    def change(self, n):
        path = self.root / "m.py"
        stat = path.stat()
        with path.open("r+") as file:
            file.write(text(n))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class WriteOpen(Change):
    """By a descriptor that stays open."""

    def set_up(self):
        super().set_up()
        self.fd = os.open(self.root / "m.py", os.O_WRONLY)

    def change(self, n):
        os.pwrite(self.fd, text(n).encode(), 0)


class Append(Change):
    def change(self, n):
        if n % 100 == 99:
            (self.root / "m.py").write_text("")
        with (self.root / "m.py").open("a") as file:
            file.write(text(n))


class Truncate(Change):
    def change(self, n):
        (self.root / "m.py").write_text(text(n) + text(n + 5) * 2)
        os.truncate(self.root / "m.py", len(text(n)))


class RenameOver(Change):
    def change(self, n):
        (self.root / "new").write_text(text(n))
        os.rename(self.root / "new", self.root / "m.py")


class AtomicSave(Change):
    """As editors do it."""

    def change(self, n):
        with (self.root / ".m.py.swp").open("w") as file:
            file.write(text(n))
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(self.root / "m.py", self.root / ".m.py.swp")
        os.replace(self.root / ".m.py.swp", self.root / "m.py")


class Exchange(Change):
    def change(self, n):
        (self.root / "other.py").write_text(text(n))
        exchange(self.root / "other.py", self.root / "m.py")


class Link(Change):
    def change(self, n):
        (self.root / "m.py").unlink()
        (self.root / "origin").unlink(missing_ok=True)
        (self.root / "origin").write_text(text(n))
        os.link(self.root / "origin", self.root / "m.py")


class HardLinkedElsewhere(Change):
    """Changed under its other name."""

    def set_up(self):
        self.other = self.root.parent / (self.root.name + "-store")
        self.other.mkdir()
        (self.other / "blob").write_text(text(0))
        os.link(self.other / "blob", self.root / "m.py")

    def change(self, n):
        with (self.other / "blob").open("r+") as file:
            file.write(text(n))


class SymlinkedFile(HardLinkedElsewhere):
    def set_up(self):
        self.other = self.root.parent / (self.root.name + "-store")
        self.other.mkdir()
        (self.other / "blob").write_text(text(0))
        (self.root / "m.py").symlink_to(self.other / "blob")


class Unlink(Change):
    def change(self, n):
        if n % 2:
            (self.root / "m.py").unlink(missing_ok=True)
        else:
            (self.root / "m.py").write_text(text(n))

    def expect(self, n):
        return {"m": None if n % 2 else n}


class MakeDirs(Change):
    def change(self, n):
        os.makedirs(self.root / f"a{n}/b/c")
        (self.root / f"a{n}/b/c/m.py").write_text(text(n))
        if n > 3:
            shutil.rmtree(self.root / f"a{n - 3}", ignore_errors=True)

    def expect(self, n):
        return {f"a{n}.b.c.m": n}


class RenameDir(Change):
    def change(self, n):
        shutil.rmtree(self.root / "old", ignore_errors=True)
        os.makedirs(self.root / "new/sub")
        (self.root / "new/sub/m.py").write_text(text(n))
        if (self.root / "p").exists():
            os.rename(self.root / "p", self.root / "old")
        os.rename(self.root / "new", self.root / "p")

    def expect(self, n):
        return {"p.sub.m": n}


class ExchangeDirs(RenameDir):
    def change(self, n):
        for name in "p", "q":
            os.makedirs(self.root / name / "sub", exist_ok=True)
        (self.root / "q/sub/m.py").write_text(text(n))
        exchange(self.root / "p", self.root / "q")


class ReplacePackage(Change):
    """As pip upgrades: everything is removed, then everything is written."""

    def change(self, n):
        package = self.root / "p"
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir()
        (package / "__init__.py").write_text(text(n))
        (package / "m.py").write_text("from p import value\n")

    def expect(self, n):
        return {"p.m": n}


class BecomesPackage(Change):
    def change(self, n):
        if n % 2:
            (self.root / "m").mkdir()
            (self.root / "m/__init__.py").write_text(text(n))
        else:
            shutil.rmtree(self.root / "m", ignore_errors=True)
            (self.root / "m.py").write_text(text(n))


class Ancestor(Change):
    """The root's parent is renamed, and made again."""

    def set_up(self):
        self.path = self.root / "way/lib"
        self.path.mkdir(parents=True)
        (self.path / "m.py").write_text(text(0))

    def change(self, n):
        os.rename(self.root / "way", self.root / f"gone{n}")
        self.path.mkdir(parents=True)
        (self.path / "m.py").write_text(text(n))
        shutil.rmtree(self.root / f"gone{n}")


class Flip(Change):
    """A deployment: `current` leads to another release."""

    def set_up(self):
        self.path = self.root / "current/lib"
        self.change(0)

    def change(self, n):
        release = self.root / f"releases/{n}/lib"
        release.mkdir(parents=True)
        (release / "m.py").write_text(text(n))
        (self.root / "next").symlink_to(f"releases/{n}")
        os.rename(self.root / "next", self.root / "current")
        if n > 5:
            shutil.rmtree(self.root / f"releases/{n - 5}", ignore_errors=True)


class Permissions(Change):
    """What may not be read by its owner is read by root: only its time of change tells."""

    def change(self, n):
        path = self.root / "m.py"
        path.chmod(0o644)
        path.write_text(text(n))
        path.chmod(0o600 if n % 2 else 0o640)


class Bytecode(Change):
    """A module without a source."""

    def change(self, n):
        import py_compile
        (self.root / "source").write_text(text(n))
        (self.root / "m.py").unlink(missing_ok=True)
        py_compile.compile(str(self.root / "source"), str(self.root / "m.pyc"), doraise=True)


class Checkout(Change):
    """Two branches with many files each that differ in all of them."""

    def set_up(self):
        self.count = 5000 if os.environ.get("LADEWERK_LONG", "0") != "0" else 50
        self.git("init", "-q", "-b", "b0")
        for branch in range(2):
            if branch:
                self.git("checkout", "-q", "-b", "b1")
            for i in range(self.count):
                directory = self.root / f"d{i % 10}"
                directory.mkdir(exist_ok=True)
                (directory / f"m{i}.py").write_text(text(branch))
            (self.root / f"only{branch}.py").write_text(text(branch))
            if branch:
                (self.root / "only0.py").unlink()
            self.git("add", "-A")
            self.git("-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-q", "-m", "x")

    def git(self, *args):
        subprocess.run(["git", "-C", self.root, *args], check=True, capture_output=True)

    def change(self, n):
        self.git("checkout", "-q", f"b{n % 2}")

    def expect(self, n):
        return {**{f"d{i % 10}.m{i}": n % 2 for i in range(0, self.count, self.count // 7)}, f"only{n % 2}": n % 2, f"only{1 - n % 2}": None}


def subclasses(cls):
    return itertools.chain.from_iterable(([c, *subclasses(c)]) for c in cls.__subclasses__())


CHANGES = {c.__name__: c for c in subclasses(Change)}
SLOW = {"Checkout": 100, "AtomicSave": 10, "Bytecode": 3, "RenameDir": 2, "ExchangeDirs": 2, "MakeDirs": 2, "Ancestor": 3, "Flip": 2}  # so many times fewer rounds


def ask(names):
    """Import them anew; what they hold, None for what is not there."""
    import importlib
    import sys

    found = {}
    for name in names:
        for i in range(name.count(".") + 1):
            sys.modules.pop(name.rsplit(".", i)[0], None)
        try:
            found[name] = importlib.import_module(name).value
        except ModuleNotFoundError:
            found[name] = None
    return found
