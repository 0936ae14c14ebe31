/* SPDX-License-Identifier: MIT */
/*
 * launcher: the `ladewerk` command.
 *
 * `ladewerk run ...` is on the way of every accelerated start, so it is not a Python program that would start a second one: it sets LADEWERK=1
 * and executes the interpreter it was installed beside, with the rest of the command line. The program runs as stock
 * Python runs it (sys.argv, __main__, tracebacks); the shipped .pth activates Ladewerk, in its child processes too.
 * Every other command is Python: `python -m ladewerk ...`.
 *
 * The interpreter is, in this order: pythonX.Y, python3 or python in our own directory (virtual environments, prefixes), the same in the directory of
 * the link that was called (installers that link files into environments), else pythonX.Y on PATH (`pip install --user`), which is sent
 * through `-m ladewerk` so that a missing package is said plainly. Our own directory is called as the user called it: a virtual
 * environment that is reached through a link stays there.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EX_USAGE = 2, EX_CANNOT_EXECUTE = 126, EX_NOT_FOUND = 127 };

static int fail(int status, const char *what, const char *remedy)
{
	fprintf(stderr, "ladewerk: %s%s%s\n", what, *remedy ? ": " : "", remedy);
	return status;
}

static bool python_in(const char *directory, char *path, size_t size)
{
	static const char *const names[] = { LADEWERK_PYTHON, "python3", "python" };
	for (size_t i = 0; *directory && i < sizeof(names) / sizeof(*names); i++) {
		if ((size_t)snprintf(path, size, "%s/%s", directory, names[i]) < size && access(path, X_OK) == 0)
			return true;
	}
	return false;
}

/* Where this program lies, all links followed; "" if that cannot be told. */
static const char *own_directory(char *buffer, size_t size)
{
	ssize_t len = readlink("/proc/self/exe", buffer, size - 1);
	buffer[len > 0 ? len : 0] = '\0';
	return len > 0 ? dirname(buffer) : "";
}

/* The directory in the path that was executed; "" if there is none. */
static const char *called_directory(char *buffer, size_t size)
{
	const char *called = (const char *)getauxval(AT_EXECFN);
	if (!called || !strchr(called, '/') || strlen(called) >= size)
		return "";
	return dirname(strcpy(buffer, called));
}

static bool same_directory(const char *a, const char *b)
{
	struct stat one, other;
	return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* An interpreter in the directory that this program was started from (PATH/to/env/bin). */
static bool beside(char *path, size_t size)
{
	char self[PATH_MAX], called[PATH_MAX];
	const char *own = own_directory(self, sizeof(self)), *link = called_directory(called, sizeof(called));
	if (same_directory(own, link))
		own = link;
	return python_in(own, path, size) || python_in(link, path, size);
}

/* `run [--freshness MODE] ...`: returns how many arguments of ours there are, or -1 (said). */
static int take_options(int argc, char **argv)
{
	int i = 2;
	while (i < argc && strncmp(argv[i], "--freshness", 11) == 0) {
		const char *mode = argv[i][11] == '=' ? argv[i] + 12 : argv[i][11] ? NULL : i + 1 < argc ? argv[++i] : "";
		if (!mode)
			break;
		if (strcmp(mode, "stat") != 0 && strcmp(mode, "frozen") != 0) {
			fprintf(stderr, "ladewerk: run: --freshness takes stat or frozen, not '%s'\n", mode);
			return -1;
		}
		setenv("LADEWERK_FRESHNESS", mode, 1);
		i++;
	}
	return i;
}

static bool is_run(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "run") == 0;
}

static bool is_quick_run(int argc, char **argv)
{
	return argc > 2 && is_run(argc, argv) && strcmp(argv[2], "--help") != 0 && strcmp(argv[2], "-h") != 0;
}

static void switch_on(void)
{
	const char *now = getenv("LADEWERK");
	if (!now || strcmp(now, "0") != 0)
		setenv("LADEWERK", "1", 1);
}

int main(int argc, char **argv)
{
	char python[PATH_MAX];
	bool found = beside(python, sizeof(python));
	bool quick = found && is_quick_run(argc, argv);
	char **args = calloc((size_t)argc + 5, sizeof(*args));
	if (!args)
		return fail(EX_CANNOT_EXECUTE, "out of memory", "");

	int count = 0, from = 1;
	args[count++] = found ? python : (char *)LADEWERK_PYTHON;
	if (quick) {
		from = take_options(argc, argv);
		if (from < 0)
			return EX_USAGE;
		if (from == argc)
			return fail(EX_USAGE, "run: nothing to run", "give a script, -m MODULE or -c CODE");
		switch_on();
	} else {
		if (!is_run(argc, argv))
			args[count++] = (char *)"-P"; /* no file in the current directory may stand in for a module of ours */
		args[count++] = (char *)"-m";
		args[count++] = (char *)"ladewerk";
	}
	for (int i = from; i < argc; i++)
		args[count++] = argv[i];

	if (found)
		execv(python, args);
	else
		execvp(args[0], args);
	int error = errno;
	char what[PATH_MAX + 64];
	snprintf(what, sizeof(what), "cannot execute %s", args[0]);
	(void)fail(0, what, strerror(error));
	return error == ENOENT ? EX_NOT_FOUND : EX_CANNOT_EXECUTE;
}
