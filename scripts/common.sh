# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What the scripts share; sourced, with `build` set to the build directory (absolute).
# Everything made here lies in $build and is kept between runs: names carry the interpreter, so nothing is ever
# taken over from another one, and Ladewerk itself is built (incrementally) and installed anew each time.

# shellcheck disable=SC2154  # build: see above
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A function that fails in $(...) ends the script, too.
shopt -s inherit_errexit

say() { printf '%s\n' "$*" >&2; }

# What a user's shell may carry and a test must not see.
clean_environment() {
	local name
	for name in $(compgen -e); do
		case $name in
		LADEWERK_LONG | LADEWERK_REQUIRE_KERNEL) ;;
		LADEWERK* | PYTHON* | PYTEST* | VIRTUAL_ENV | XDG_CACHE_HOME) unset "$name" ;;
		esac
	done
}

# The name an interpreter's files carry: version and where it is.
interpreter_id() {
	"$1" -I -c 'import sys, sysconfig, zlib
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print("%s%s-%08x" % (sys.version.split()[0], free, zlib.crc32(sys._base_executable.encode())))'
}

# make_venv PYTHON DIR: a venv that works, the one that is there if it does.
make_venv() {
	"$2/bin/python" -m pip --version >/dev/null 2>&1 || "$1" -I -m venv --clear "$2"
}

# pip_install VENV ARGUMENT... An older wheel is as good as a newer source, which may want a compiler that is not there.
pip_install() {
	local venv=$1
	shift
	"$venv/bin/python" -m pip install --quiet --prefer-binary --disable-pip-version-check --root-user-action=ignore "$@"
}

# What building the package needs, one requirement a line; PYTHON reads it.
build_requires() {
	"$1" -c 'import sys, tomllib
print(*tomllib.load(open(sys.argv[1], "rb"))["build-system"]["requires"], sep="\n")' "$repo/pyproject.toml"
}

# Prints the wheel of this checkout for PYTHON, built as `pip install .` would, but in a build directory that stays.
build_wheel() {
	local id tools wheels
	local -a requires
	id=$(interpreter_id "$1")
	tools=$build/tools-$id
	wheels=$build/wheels-$id
	make_venv "$1" "$tools"
	mapfile -t requires < <(build_requires "$tools/bin/python")
	pip_install "$tools" "${requires[@]}" >&2
	rm -rf "$wheels"
	PATH=$tools/bin:$PATH "$tools/bin/python" -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings=build-dir="$build/ext-$id" --wheel-dir "$wheels" "$repo" >&2
	printf '%s\n' "$wheels"/*.whl
}

# install_ladewerk PYTHON VENV
install_ladewerk() {
	local wheel
	wheel=$(build_wheel "$1")
	pip_install "$2" --no-deps --force-reinstall "$wheel"
}
