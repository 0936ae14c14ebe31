# SPDX-License-Identifier: MIT
"""Puts the installed packages that a program has imported into a zip file, as zipapps carry them: byte code instead of source, data as it is.

Runs inside the program, after its imports; never part of a timed run.
"""
import importlib.util
import marshal
import os
import sys
import zipfile

_HEAD = importlib.util.MAGIC_NUMBER + bytes(12)  # unchecked: there is no source beside it


def installed():
    """The files of the top-level packages and modules that came from site-packages."""
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and "." not in name and "/site-packages/" in file:
            top = os.path.dirname(file)
            yield from walk(top, os.path.dirname(top)) if file.endswith("/__init__.py") else [(file, os.path.basename(file))]


def walk(top, root):
    for directory, inner, files in os.walk(top):
        inner[:] = sorted(name for name in inner if name != "__pycache__")
        for name in sorted(files):
            yield f"{directory}/{name}", os.path.relpath(f"{directory}/{name}", root)


def write(file, deflated):
    """What cannot be in a zip file, extension modules, makes the program one that this cannot run."""
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        for path, name in installed():
            with open(path, "rb") as stream:
                content = stream.read()
            if name.endswith(".so"):
                raise SystemExit(f"{name}: an extension module cannot be imported from a zip file")
            if name.endswith(".py"):
                try:
                    name, content = name + "c", _HEAD + marshal.dumps(compile(content, path, "exec", dont_inherit=True))
                except SyntaxError:  # a template, or for another Python
                    continue
            archive.writestr(name, content)
