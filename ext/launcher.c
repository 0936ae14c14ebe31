/* SPDX-License-Identifier: MIT */
/*
 * launcher: the `ladewerk` command.
 *
 * `ladewerk run ...` is on the way of every accelerated start, so it is not a Python program that would start a second one: it sets LADEWERK=1
 * and executes the interpreter it was installed beside, with the rest of the command line. The program runs as stock
 * Python runs it (sys.argv, __main__, tracebacks); the shipped .pth activates Ladewerk, in its child processes too.
 * `ladewerk trace` is a program of its own, beside this one. Every other command is Python: `python -m ladewerk ...`, or what amounts to it.
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

/* `run --reload`, before it starts the program: with no option of the interpreter, which would be the program's too, and nothing from the current directory. */
#define RELOAD "import sys; sys.path[:] = filter(None, sys.path); from ladewerk.cli import main; sys.exit(main(sys.argv[1:]))"
/* What `-m ladewerk` does, without the modules that `-m` needs: those take longer than a question about the graph. */
#define GRAPH "import sys; from ladewerk.cli import main; sys.exit(main(sys.argv[1:]))"

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

struct options {
	const char *freshness, *report, *file, *index, *lazy;	/* NULL: not given */
	bool reload;	/* that is Python's: run --reload, and what goes with it */
};

/* The value of option NAME where *AT stands, which moves on to its last word; NULL: something else is there. */
static const char *value_of(const char *name, int argc, char **argv, int *at)
{
	size_t len = strlen(name);
	const char *word = argv[*at];
	if (strncmp(word, name, len) != 0 || (word[len] && word[len] != '='))
		return NULL;
	return word[len] ? word + len + 1 : *at + 1 < argc ? argv[++*at] : "";
}

static bool is_freshness(const char *mode)
{
	if (strcmp(mode, "stat") == 0 || strcmp(mode, "watch") == 0 || strcmp(mode, "frozen") == 0)
		return true;
	fprintf(stderr, "ladewerk: run: --freshness takes stat, watch or frozen, not '%s'\n", mode);
	return false;
}

static bool is_report(const char *form)
{
	static const char *const forms[] = { "text", "importtime", "json", "chrome" };
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++)
		if (strcmp(form, forms[i]) == 0)
			return true;
	fprintf(stderr, "ladewerk: run: --report takes text, importtime, json or chrome, not '%s'\n", form);
	return false;
}

static bool is_mode(const char *word)
{
	static const char *const modes[] = { "default", "own", "all", "1", "0" };
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (strcmp(word, modes[i]) == 0)
			return true;
	return false;
}

static bool is_lazy(const char *mode)
{
	if (is_mode(mode))
		return true;
	fprintf(stderr, "ladewerk: run: --lazy takes default, own, all, 1 or 0, not '%s'\n", mode);
	return false;
}

/* `--lazy MODE`, where `--lazy=MODE` was meant: MODE is no program (said). WORD is what comes behind ours, or NULL; BEFORE it the last of ours. */
static bool is_mode_apart(const char *before, const char *word)
{
	if (strcmp(before, "--lazy") != 0 || !word || !is_mode(word) || access(word, F_OK) == 0)
		return false;
	fprintf(stderr, "ladewerk: run: there is no program '%s' here; for the mode of lazy imports write --lazy=%s\n", word, word);
	return true;
}

static bool is_file(const char *path)
{
	if (!*path)
		fprintf(stderr, "ladewerk: run: --report-file takes the path of a file\n");
	return *path;
}

static bool is_artifact(const char *path)
{
	char file[PATH_MAX];
	struct stat st;
	if (!*path)
		fprintf(stderr, "ladewerk: run: --index takes the directory that `ladewerk index --frozen` has written\n");
	else if ((size_t)snprintf(file, sizeof(file), "%s/index.lwi", path) < sizeof(file) && stat(file, &st) == 0 && S_ISREG(st.st_mode))
		return true;
	else
		fprintf(stderr, "ladewerk: run: --index %s: there is no index.lwi in it; `ladewerk index --frozen -o %s ROOT...` makes one\n", path, path);
	return false;
}

/* Take the option where *AT stands: 1; 0: it is none of ours; -1: it is wrong (said). */
static int take_option(struct options *options, int argc, char **argv, int *at)
{
	const char *value;
	if ((value = value_of("--freshness", argc, argv, at)))
		return is_freshness(options->freshness = value) ? 1 : -1;
	if ((value = value_of("--index", argc, argv, at)))
		return is_artifact(options->index = value) ? 1 : -1;
	if ((value = value_of("--report-file", argc, argv, at)))
		return is_file(options->file = value) ? 1 : -1;
	if (strncmp(argv[*at], "--reload", 8) == 0 || strcmp(argv[*at], "--quiet") == 0) {
		(void)value_of("--reload-root", argc, argv, at);
		return options->reload = true;
	}
	if (strncmp(argv[*at], "--report=", 9) == 0)
		return is_report(options->report = argv[*at] + 9) ? 1 : -1;
	if (strcmp(argv[*at], "--report") == 0)
		return options->report = "text", 1;
	if (strcmp(argv[*at], "--importtime") == 0)
		return options->report = "importtime", 1;
	if (strncmp(argv[*at], "--lazy=", 7) == 0)
		return is_lazy(options->lazy = argv[*at] + 7) ? 1 : -1;
	if (strcmp(argv[*at], "--lazy") == 0)
		return options->lazy = "1", 1;
	return 0;
}

/* `run [OPTIONS OF OURS] ...`: returns the index of the first argument that is not ours, or -1 (said). */
static int take_options(struct options *options, int argc, char **argv)
{
	int at = 2, taken = 1;
	while (at < argc && (taken = take_option(options, argc, argv, &at)) > 0)
		at++;
	return taken < 0 || is_mode_apart(argv[at - 1], argv[at]) ? -1 : at;
}

static bool is_run(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[1], "run") == 0;
}

static bool is_quick_run(int argc, char **argv)
{
	return argc > 2 && is_run(argc, argv) && strcmp(argv[2], "--help") != 0 && strcmp(argv[2], "-h") != 0;
}

static bool is_off(void)
{
	const char *now = getenv("LADEWERK");
	return now && strcmp(now, "0") == 0;
}

/* FILE as it is to be found from wherever the program goes. NULL without memory. */
static char *absolute(const char *file)
{
	char here[PATH_MAX], *path;
	if (*file == '/' || !*file || !getcwd(here, sizeof(here)))
		return strdup(file);
	return asprintf(&path, "%s/%s", here, file) < 0 ? NULL : path;
}

/* The process that reads it is this one, after exec. 0 or -1. */
static int ask_for_report(const struct options *options)
{
	char own[64];
	const char *form = options->report ? options->report : "text";
	bool has_file = strcmp(form, "json") == 0 || strcmp(form, "chrome") == 0;
	snprintf(own, sizeof(own), "ladewerk-report-%ld.json", (long)getpid());
	char *value = NULL, *file = absolute(options->file ? options->file : has_file ? own : "");
	int result = !file || asprintf(&value, "%ld:%s:%s", (long)getpid(), form, file) < 0 || setenv("LADEWERK_REPORT", value, 1) ? -1 : 0;
	free(file);
	free(value);
	return result;
}

/* 0 or -1. */
static int use_index(const char *path)
{
	char *found = absolute(path);
	int result = found ? setenv("LADEWERK_INDEX", found, 1) : -1;
	free(found);
	return result;
}

/* The mode, and that it was asked for here: the process that reads it is this one, and says why if it imports eagerly all the same. 0 or -1. */
static int ask_for_lazy(const char *mode)
{
	char own[32];
	snprintf(own, sizeof(own), "%ld", (long)getpid());
	return setenv("LADEWERK_LAZY", mode, 1) || (strcmp(mode, "0") != 0 && setenv("LADEWERK_LAZY_PID", own, 1)) ? -1 : 0;
}

/* 0 or -1. */
static int switch_on(const struct options *options)
{
	if (!is_off() && setenv("LADEWERK", "1", 1))
		return -1;
	if (options->freshness && setenv("LADEWERK_FRESHNESS", options->freshness, 1))
		return -1;
	if (options->index && use_index(options->index))
		return -1;
	if (options->lazy && ask_for_lazy(options->lazy))
		return -1;
	if (!options->report && !options->file)
		return 0;
	if (!is_off())
		return ask_for_report(options);
	fprintf(stderr, "ladewerk: run: there will be no report, because LADEWERK=0 switches Ladewerk off\n");
	return 0;
}

/* The tracer beside this program, or beside the link to it that was called. Returns only if it cannot be executed: Python says so, then. */
static void become_tracer(char **argv)
{
	char self[PATH_MAX], called[PATH_MAX], path[PATH_MAX];
	const char *directories[] = { own_directory(self, sizeof(self)), called_directory(called, sizeof(called)) };
	for (size_t i = 0; i < 2; i++)
		if (*directories[i] && (size_t)snprintf(path, sizeof(path), "%s/ladewerk-trace", directories[i]) < sizeof(path))
			execv(path, argv + 1);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "trace") == 0)
		become_tracer(argv);
	char python[PATH_MAX];
	bool found = beside(python, sizeof(python));
	bool quick = found && is_quick_run(argc, argv);
	char **args = calloc((size_t)argc + 5, sizeof(*args));
	if (!args)
		return fail(EX_CANNOT_EXECUTE, "out of memory", "");

	int count = 0, from = 1;
	args[count++] = found ? python : (char *)LADEWERK_PYTHON;
	if (quick) {
		struct options options = { 0 };
		from = take_options(&options, argc, argv);
		if (from < 0)
			return EX_USAGE;
		if (options.reload) {
			args[count++] = (char *)"-c";
			args[count++] = (char *)RELOAD;
			from = 1;
		} else if (from == argc)
			return fail(EX_USAGE, "run: nothing to run", "give a script, -m MODULE or -c CODE");
		else if (switch_on(&options))
			return fail(EX_CANNOT_EXECUTE, "out of memory", "");
	} else {
		if (!is_run(argc, argv))
			args[count++] = (char *)"-P"; /* no file in the current directory may stand in for a module of ours */
		bool graph = found && argc > 1 && strcmp(argv[1], "graph") == 0;
		args[count++] = (char *)(graph ? "-c" : "-m");
		args[count++] = (char *)(graph ? GRAPH : "ladewerk");
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
