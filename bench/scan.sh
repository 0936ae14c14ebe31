#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The scanner's benchmark: Ladewerk, fd, bfs, find, os.scandir and the bare loop of system calls, interleaved. bench/README.md explains the figures.
set -euo pipefail

usage() {
	cat <<-END
	usage: bench/scan.sh [options]

	  --quick           100,000 entries and fewer rounds: a short look (about 10 minutes once built; the full run takes about an hour)
	  --only SECTIONS   warm, cold, latency, revalidate, with commas between them
	  --entries N       entries of the tree (default: 1000000, 100000 with --quick); the slow disk has a smaller one of its own
	  --tree DIR        use the tree there, made by bench/tree.py with as many entries and the same seed; it is made if it is not there
	  -n, --runs N      N rounds in every section
	  --python PYTHON   interpreter the environments are made from (default: python3)
	  --build DIR       where environments, trees and the disk's image are kept (default: build-bench/ in the checkout)
	  -o DIR            where report.md and report.json go (default: bench/results/DATE-scan/)
	  --keep            keep the trees and the image for the next run (10 GB for a million entries)
	  --seed N          seed of the trees (default: 1)
	  -h, --help

	Needs Python 3.11 or newer with venv and ensurepip, CMake and a C compiler. fd, bfs, strace (Debian: fd-find, bfs, strace) are used when
	they are there; the slow disk needs root. What cannot run gets a row that says why. With root, the section "cold" evicts the caches of the
	whole machine. The machine should be idle.
	END
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$here")
python=python3 build=$checkout/build-bench output='' keep='' given=()

# shellcheck source=bench/environments.sh
. "$here/environments.sh"

parse_options "warm cold latency revalidate" --entries --tree "$@"

# What a run that was killed has left mounted goes, and what nobody wants to keep.
tidy() {
	"$python" -B "$here/slowdisk.py" --clean "$build/scanned/slow" || true
	[ -n "$keep" ] || rm -rf "$build/scanned"
}

begin
require bare empty bare
require micro micro
give_wheel scan
trap tidy EXIT
# shellcheck disable=SC2154  # bare: require sets it
measure_and_show scan "$bare" -B -m scanning.scan --bare-python "$bare" --build "$build/scanned"
