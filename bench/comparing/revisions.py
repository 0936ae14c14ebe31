# SPDX-License-Identifier: MIT
"""A revision of this repository, as a tree of files that can be built. The repository itself is only read."""
from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path


class Unknown(Exception):
    """There is no such revision, or no git to ask; str() says which."""


def _git(checkout: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", checkout, *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise Unknown("git is not installed (Debian: git): without it no other revision can be had") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise Unknown(lines[-1].removeprefix("fatal: ").replace(f"{checkout}", "the checkout") if lines else f"git {arguments[0]} failed")
    return done.stdout.strip()


def resolve(checkout: Path, revision: str) -> str:
    """The commit that REVISION names, in full. Unknown: none."""
    if Path(_git(checkout, "rev-parse", "--show-toplevel")).resolve() != checkout.resolve():
        raise Unknown("this checkout is no git repository: --compare needs one, with the revision in it")
    try:
        return _git(checkout, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except Unknown:
        raise Unknown(f"no revision {revision} in this repository") from None


def describe(checkout: Path, commit: str) -> str:
    """A name for readers."""
    return _git(checkout, "describe", "--always", "--tags", commit)


def extract(checkout: Path, commit: str, tree: Path) -> Path:
    """The files of COMMIT in TREE, which is replaced unless it has them already."""
    stamp = tree.with_name(tree.name + ".commit")
    if stamp.exists() and stamp.read_text() == commit:
        return tree
    stamp.unlink(missing_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    archive = tree.with_name(tree.name + ".tar")
    _git(checkout, "archive", "--format=tar", f"--output={archive}", commit)
    try:
        with tarfile.open(archive) as files:
            files.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)  # older ones have no filters
            files.extractall(tree)
    finally:
        archive.unlink()
    stamp.write_text(commit)
    return tree
