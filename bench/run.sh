#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The import benchmark: stock Python, rivals, floors and Ladewerk, interleaved. bench/README.md explains the figures; --help says what can be chosen.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Nothing of the caller's Python or Ladewerk settings takes part, but in a program of theirs.
if [[ " $* " != *" --app"[\ =]* ]]; then
	unset "${!PYTHON@}" VIRTUAL_ENV
	for name in "${!LADEWERK@}"; do
		[[ $name == LADEWERK_BENCH_* ]] || unset "$name"
	done
fi

# Any Python that is new enough runs the benchmark; which ones it measures is another question.
pythons=(python3 python3.{11..19} "$HOME"/.pyenv/versions/3.*/bin/python3)
for ((i = 1; i < $#; i++)); do
	next=$((i + 1))
	[ "${!i}" != --python ] || pythons+=("${!next}")
done
for python in "${pythons[@]}"; do
	if command -v "$python" >/dev/null && "$python" -E -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
		exec "$python" -E -B "$here/suite.py" "$@"
	fi
done
echo "run.sh: no Python 3.11 or newer was found" >&2
exit 1
