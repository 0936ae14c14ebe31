# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Sourced. environment NAME [PACKAGE...]: sets $venv, an environment of $python with this Ladewerk and, where they can be installed, the packages; that is
# LADEWERK_BENCH_VENV as it is, or build-bench/NAME-PYTHON, made once.

environment() {
	local package name=$1
	shift
	venv=${LADEWERK_BENCH_VENV:-build-bench/$name-$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')}
	[ ! -x "$venv/bin/python" ] || return 0
	"$python" -m venv "$venv"
	"$venv/bin/pip" -q install .
	for package; do
		"$venv/bin/pip" -q install "$package" || echo "$package could not be installed" >&2
	done
}
