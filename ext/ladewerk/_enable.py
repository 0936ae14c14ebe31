# SPDX-License-Identifier: MIT
"""`ladewerk enable` and `disable`: a start-up file in site-packages, written and removed."""
from __future__ import annotations

import errno
import os
import site
import sys
import sysconfig
from collections.abc import Iterator

from ladewerk.cli import LAZY_MODES, OK, Failure

PTH = "ladewerk_enabled.pth"

# ladewerk_start.py looks for the file; nothing in it is executed. So it may outlive the package (pip does not know it), and costs next to nothing.
#
# A .start file, which is to replace .pth files that execute something from Python 3.18 on, would load pkgutil and re at every start: twice
# the time of an empty program on 3.15, where the one line of ladewerk.pth is neither refused nor warned about.
_LINE = "# This environment starts with Ladewerk (ladewerk_start.py looks for this file). `ladewerk disable` removes it.\n"
_LAZY = "# lazy="  # and a mode: lazy_settings.c looks for that line


def site_directories() -> list[str]:
    """Where .pth files of this environment may be."""
    found = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return list(dict.fromkeys(found))


def _target() -> str:
    """`pip install --user` must not need root; everything else is the environment's."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if site.ENABLE_USER_SITE and os.path.realpath(package) == os.path.realpath(site.getusersitepackages()):
        return package
    return sysconfig.get_path("purelib")


def enabled_in() -> Iterator[str]:
    """The directories in which it is enabled. A virtual environment may see those of the one below it."""
    for directory in site_directories():
        if os.path.isfile(os.path.join(directory, PTH)):
            yield directory


def _content(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _text(lazy: str | None) -> str:
    return _LINE + (f"{_LAZY}{lazy}\n" if lazy else "")


def is_current(directory: str) -> bool:
    """Whether what is in DIRECTORY is what enable() would write."""
    return _content(os.path.join(directory, PTH)) in [_text(lazy) for lazy in (None, "1", *LAZY_MODES)]


def _write(path: str, text: str) -> None:
    """Whole or not at all: an interpreter may start at this moment."""
    draft = f"{path}.{os.getpid()}.tmp"
    try:
        with open(draft, "x", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: it is for all users of the environment
            file.write(text)
        os.replace(draft, path)
    except OSError:
        if os.path.exists(draft):
            os.unlink(draft)
        raise


def _cannot(doing: str, path: str, error: OSError) -> Failure:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space" if full else "do it as the owner of that directory, or in a virtual environment of your own"
    return Failure(f"cannot {doing} {path} ({error.strerror}); {remedy}")


def enable(lazy: str | None = None) -> int:
    """LAZY: the mode of lazy imports, "1" to leave it to the project; None: none."""
    path = os.path.join(_target(), PTH)
    if _content(path) == _text(lazy):
        print(f"enabled already ({path})")
        return OK
    try:
        _write(path, _text(lazy))
    except OSError as error:
        raise _cannot("write", path, error) from None
    print(f"enabled: every start of {sys.executable} is accelerated from now on{', and imports lazily' if lazy else ''} ({path})")
    print("LADEWERK=0 in the environment of a program switches it off; `ladewerk disable` undoes this.")
    if lazy:
        print("LADEWERK_LAZY=0 keeps a program's imports eager; `ladewerk lazy-check COMMAND` finds out whether one needs that.")
    return OK


def disable() -> int:
    ours = {_target(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    enabled = list(enabled_in())
    for directory in ours.intersection(enabled):
        path = os.path.join(directory, PTH)
        try:
            os.unlink(path)
        except OSError as error:
            raise _cannot("remove", path, error) from None
        print(f"disabled: only `ladewerk run` accelerates from now on ({path} is gone)")
    if others := [directory for directory in enabled if directory not in ours]:
        raise Failure(f"it is enabled in {others[0]}, for another environment too; run that environment's `ladewerk disable`")
    if not enabled:
        print("not enabled: nothing to do")
    return OK
