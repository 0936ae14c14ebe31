#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How long a question about the import graph of 50,000 modules takes, the whole process, beside a start of the interpreter that does nothing.
#
#     bench/graph.sh [LADEWERK] [ROUNDS]
#
# LADEWERK: the installed command (default: the one on PATH). A tree is made below $TMPDIR, its graph once; nothing is left behind.
set -eu
ladewerk=$(command -v "${1-ladewerk}")
rounds=${2-21}
python=$(dirname "$ladewerk")/python
here=$(cd "$(dirname "$0")" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

"$python" - "$place/tree" <<'PYTHON'
import os
import random
import sys

root, rng = sys.argv[1], random.Random(1)
names = [f"p{i // 1000:02}.s{i // 50 % 20:02}.m{i % 50:02}" for i in range(50_000)]
for name in dict.fromkeys(name.rpartition(".")[0] for name in names):
    os.makedirs(os.path.join(root, *name.split(".")))
    for package in (name, name.partition(".")[0]):
        open(os.path.join(root, *package.split("."), "__init__.py"), "w").close()
for i, name in enumerate(names):
    lines = ["import os, sys", "from collections import deque"]
    for j in range(6):
        target = names[rng.randrange(max(i, 1))]
        package, _, last = target.rpartition(".")
        lines.append(rng.choice([f"import {target}", f"from {target} import x as x{j}", f"from {package} import {last}"]))
    with open(os.path.join(root, *name.split(".")) + ".py", "w") as file:
        file.write("\n".join([*lines, "x = 1", ""]))
PYTHON

export LADEWERK_CACHE=$place/cache
sleep 1
"$ladewerk" graph "$place/tree"
pass="$python -P -c pass"
ask() {
	local question
	for question in "--of p10.s10.m10 --imports" "--of p10.s10.m10 --importers" "--of p10.s10.m10 --importers --transitive --kind module" "--cycles"; do
		echo
		echo "$question$1"
		"$python" "$here/pair.py" -n "$rounds" "$pass" "$ladewerk graph $place/tree $question"
	done
}
LADEWERK_WATCH=0 ask ", no daemon"
export LADEWERK_WATCH=$place/socket
"$ladewerk" watch "$place/tree" &
trap 'kill $! 2>/dev/null; wait; rm -rf "$place"' EXIT
sleep 3
ask ", ladewerk watch"
