# SPDX-License-Identifier: MIT
"""Two versions of two libraries, each in a directory of its own.

    python libraries.py DIR [LIBRARY ...]    installs what is not there yet into DIR/NAME, one for each line of libraries.txt (of these libraries)

scripts/test.sh does that for each interpreter and says by LADEWERK_LIBRARIES where; tests that are started otherwise do it themselves.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LIST = Path(__file__).with_name("libraries.txt")


def wanted(*libraries: str) -> dict[str, list[str]]:
    """NAME -> requirements, of LIBRARIES or of all."""
    lines = [line.partition(":") for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return {name: requirements.split() for name, _, requirements in lines if not libraries or name.partition("-")[0] in libraries}


def install(base: Path, *libraries: str) -> None:
    """Have LIBRARIES, or all of them, in BASE. A tree is there whole or not at all, whoever else is making it; CalledProcessError if pip fails."""
    base.mkdir(parents=True, exist_ok=True)
    for name, requirements in wanted(*libraries).items():
        tree = base / name
        stamp = tree / "requirements.txt"
        if stamp.exists() and stamp.read_text().split() == requirements:
            continue
        with tempfile.TemporaryDirectory(dir=base) as aside:
            new = Path(aside, name)
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--prefer-binary", "--disable-pip-version-check",
                            "--root-user-action=ignore", "--target", new, *requirements], check=True, capture_output=True, text=True)
            (new / "requirements.txt").write_text("\n".join(requirements) + "\n")
            shutil.rmtree(tree, ignore_errors=True)
            try:
                new.rename(tree)
            except OSError:  # somebody else was first
                if not stamp.exists():
                    raise


def directory(*libraries: str) -> Path:
    """Where LIBRARIES are: made if need be, unless whoever has started the tests has made them."""
    if "LADEWERK_LIBRARIES" in os.environ:
        return Path(os.environ["LADEWERK_LIBRARIES"])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = cache / "ladewerk-tests" / f"libraries-{sys.implementation.cache_tag}{sys.abiflags}"
    install(base, *libraries)
    return base


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]).absolute(), *sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr}")
