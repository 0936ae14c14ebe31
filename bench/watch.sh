#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The watchers' benchmark: `ladewerk watch`, watchman, watchdog, watchfiles and inotifywait, interleaved. bench/README.md explains the figures.
set -euo pipefail

usage() {
	cat <<-END
	usage: bench/watch.sh [options]

	  --quick           20,000 directories and fewer rounds: a short look (about 8 minutes once built; the full run takes about half an hour)
	  --only SECTIONS   arm, save, storm, check, startup, crowd, with commas between them
	  --directories N   of the tree that is watched (default: 100000, 20000 with --quick)
	  -n, --runs N      N rounds in every section
	  --python PYTHON   interpreter the environments are made from (default: python3)
	  --build DIR       where environments and trees are kept (default: build-bench/ in the checkout)
	  -o DIR            where report.md and report.json go (default: bench/results/DATE-watch/)
	  --keep            keep the tree for the next run (3 GB for 100,000 directories)
	  --seed N          seed of the trees (default: 1)
	  -h, --help

	Needs Python 3.11 or newer with venv and ensurepip, CMake and a C compiler. watchdog and watchfiles are installed from PyPI; watchman and
	inotifywait (Debian: watchman, inotify-tools) are used when they are there; what cannot run gets a row that says why. inotify needs
	fs.inotify.max_user_watches of 1.15 times the directories, fanotify root. The build directory must be on a file system that reports changes
	(ext4, xfs, btrfs, tmpfs), in a place where nobody else is at work. The machine should be idle.
	END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$here")
python=python3 build=$checkout/build-bench output='' keep='' given=()

# shellcheck source=bench/environments.sh
. "$here/environments.sh"

parse_options "arm save storm check startup crowd" --directories "" "$@"

begin
require watched empty watch
require peers empty peers
# The rivals that are Python packages: one that cannot be installed is said in its row.
environments packages peers watchdog watchfiles >&2 || true
require micro micro
give_wheel watch

tidy() {
	[ -n "$keep" ] || rm -rf "$build/watched"
}
trap tidy EXIT
# shellcheck disable=SC2154  # require sets them
measure_and_show watch "$watched" -B -m watching.watch --python "$watched" --peers-python "$peers" --build "$build/watched"
