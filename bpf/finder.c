/* SPDX-License-Identifier: MIT */
/* finder: see finder.h. */
#include "finder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mappings.h"
#include "nearby.h"
#include "procfs.h"

enum { GUESSES_MAX = 256 };	/* targets choose what their processes are called: no more than so many are followed up */

/* A file by the numbers it has in /proc/PID/maps, which on overlays are not those of stat(2). */
struct file {
	dev_t dev;
	ino_t ino;
	struct lw_program *program;	/* NULL: it is none, or none that can be traced */
	char *why;			/* of the latter */
};

struct lw_finder {
	lw_capture *capture;
	struct lw_program **programs;
	unsigned program_count;
	struct file *files;
	unsigned file_count;
	char *guesses[GUESSES_MAX];
	unsigned guess_count;
};

int lw_finder_create(lw_capture *capture, lw_finder **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->capture = capture;
	return 0;
}

void lw_finder_destroy(lw_finder *finder)
{
	if (!finder)
		return;
	for (unsigned i = 0; i < finder->program_count; i++)
		lw_program_destroy(finder->programs[i]);
	for (unsigned i = 0; i < finder->file_count; i++)
		free(finder->files[i].why);
	for (unsigned i = 0; i < finder->guess_count; i++)
		free(finder->guesses[i]);
	free(finder->programs);
	free(finder->files);
	free(finder);
}

/* --- programs --- */

/* Takes PROGRAM over and puts probes into it; *PROGRAM is the one to use from here on, NULL after an error. */
static int take_program(lw_finder *finder, struct lw_program **program, char *why)
{
	struct lw_program *fresh = *program;
	*program = NULL;
	for (unsigned i = 0; i < finder->program_count; i++) {
		if (finder->programs[i]->dev == fresh->dev && finder->programs[i]->ino == fresh->ino) {
			lw_program_destroy(fresh);
			*program = finder->programs[i];
			return 0;
		}
	}
	struct lw_program **grown = reallocarray(finder->programs, finder->program_count + 1, sizeof(*grown));
	if (grown)
		finder->programs = grown;
	int error = grown ? lw_capture_attach(finder->capture, fresh, why) : -ENOMEM;
	if (error) {
		lw_program_destroy(fresh);
		return error;
	}
	finder->programs[finder->program_count++] = *program = fresh;
	return 0;
}

static struct file *find_file(const lw_finder *finder, dev_t dev, ino_t ino)
{
	for (unsigned i = 0; i < finder->file_count; i++) {
		if (finder->files[i].dev == dev && finder->files[i].ino == ino)
			return &finder->files[i];
	}
	return NULL;
}

static int remember(lw_finder *finder, const struct lw_mapping *mapping, struct lw_program *program, const char *why)
{
	struct file *grown = reallocarray(finder->files, finder->file_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	finder->files = grown;
	grown[finder->file_count++] = (struct file){ mapping->dev, mapping->ino, program, why ? strdup(why) : NULL };
	return 0;
}

/* --- mappings --- */

struct looking {
	lw_finder *finder;
	pid_t pid;
	bool thorough;
	char executable[PATH_MAX];
	dev_t last_dev;
	ino_t last_ino;
	const struct lw_program *python;
	int error;		/* the first that is worth telling, and why */
	char *why;
};

static bool is_of_interest(const struct looking *looking, const char *path)
{
	const char *base = strrchr(path, '/') + 1;
	return looking->thorough || !strcmp(path, looking->executable) || !strncmp(base, "libpython3", 10) || (!strncmp(base, "_native", 7) && strstr(path, "/ladewerk/"));
}

/* What MAPPING's file is, from memory or from the file. */
static int identify(struct looking *looking, const struct lw_mapping *mapping, struct lw_program **program, char *why)
{
	struct file *file = find_file(looking->finder, mapping->dev, mapping->ino);
	*program = NULL;
	why[0] = 0;
	if (file) {
		*program = file->program;
		snprintf(why, LW_CAPTURE_WHY, "%s", file->why ? file->why : "");
		return file->why ? -ENOTSUP : file->program ? 0 : -ENOEXEC;
	}
	int error = lw_program_read(looking->pid, mapping->path, program, why);
	if (!error)
		error = take_program(looking->finder, program, why);
	if (!error || error == -ENOEXEC || error == -ENOTSUP) {
		int failed = remember(looking->finder, mapping, *program, error == -ENOTSUP ? why : NULL);
		error = failed ? failed : error;
	}
	return error;
}

static int look_at(void *context, const struct lw_mapping *mapping)
{
	struct looking *looking = context;
	struct lw_program *program;
	char why[LW_CAPTURE_WHY];
	if (mapping->dev == looking->last_dev && mapping->ino == looking->last_ino)
		return 0;
	looking->last_dev = mapping->dev;
	looking->last_ino = mapping->ino;
	if (!is_of_interest(looking, mapping->path))
		return 0;
	int error = identify(looking, mapping, &program, why);
	if (!error && program->kind == LW_PROGRAM_PYTHON && !looking->python)
		looking->python = program;
	if (error && error != -ENOEXEC && !looking->error) {
		looking->error = error;
		snprintf(looking->why, LW_CAPTURE_WHY, "%s", why);
	}
	return 0;
}

int lw_finder_look(lw_finder *finder, pid_t pid, bool thorough, const struct lw_program **python, char *why)
{
	struct looking looking = { .finder = finder, .pid = pid, .thorough = thorough, .why = why };
	*python = NULL;
	why[0] = 0;
	lw_proc_executable(pid, looking.executable, sizeof(looking.executable));
	int error = lw_mappings_read(pid, look_at, &looking);
	*python = looking.python;
	if (looking.python)
		return 0;
	if (looking.error)
		return looking.error;
	if (error == -EACCES || error == -EPERM)
		snprintf(why, LW_CAPTURE_WHY, "what process %d has mapped may not be seen: that needs CAP_SYS_PTRACE, or to be its user", pid);
	else if (error)
		snprintf(why, LW_CAPTURE_WHY, "process %d has no memory: it has ended, or is a thread of the kernel", pid);
	else
		snprintf(why, LW_CAPTURE_WHY, "process %d executes %.900s, which is no Python", pid, looking.executable);
	return error == -EPERM ? -EACCES : error;
}

/* --- files --- */

int lw_finder_file(lw_finder *finder, const char *root, const char *path, const struct lw_program **python, char *why)
{
	char full[2 * PATH_MAX];
	struct lw_program *program;
	*python = NULL;
	snprintf(full, sizeof(full), "%s%s", root, path);
	int error = lw_program_read(0, full, &program, why);
	if (!error)
		error = take_program(finder, &program, why);
	if (!error && program->kind == LW_PROGRAM_PYTHON)
		*python = program;
	return error;
}

struct guessing {
	lw_finder *finder;
	const char *root;
};

static int take_guess(void *context, const char *path)
{
	const struct guessing *guessing = context;
	const struct lw_program *python;
	char why[LW_CAPTURE_WHY];
	/* A guess that fails is none. */
	(void)lw_finder_file(guessing->finder, guessing->root, path, &python, why);
	return 0;
}

/* Whether this is the first time that KEY is asked for. */
static bool is_new_guess(lw_finder *finder, const char *key)
{
	for (unsigned i = 0; i < finder->guess_count; i++) {
		if (!strcmp(finder->guesses[i], key))
			return false;
	}
	char *copy = finder->guess_count < GUESSES_MAX ? strdup(key) : NULL;
	if (copy)
		finder->guesses[finder->guess_count++] = copy;
	return copy;
}

void lw_finder_guess(lw_finder *finder, const char *root, const char *path)
{
	char library[PATH_MAX];
	struct guessing guessing = { finder, root };
	if (lw_python_library(root, path, library, sizeof(library)))
		take_guess(&guessing, library);
	(void)lw_ladewerk_nearby(root, path, take_guess, &guessing);
}

/* The program called WORD, as a shell finds it on our PATH; empty: it does not. */
static void search_path(const char *word, char *path, size_t size)
{
	const char *list = getenv("PATH");
	while (list) {
		size_t length = strcspn(list, ":");
		int written = snprintf(path, size, "%.*s/%s", (int)length, list, word);
		if (written > 0 && (size_t)written < size && !access(path, X_OK))
			return;
		list = list[length] ? list + length + 1 : NULL;
	}
	*path = 0;
}

/* As PID was called: bin/python of a virtual environment is a link, and only its name leads to the environment. */
static void guess_as_called(lw_finder *finder, pid_t pid, const char *argument)
{
	char root[32], path[PATH_MAX + 1];
	snprintf(root, sizeof(root), "/proc/%d/%s", pid, *argument == '/' || !strchr(argument, '/') ? "root" : "cwd");
	if (!strchr(argument, '/'))
		search_path(argument, path, sizeof(path));
	else
		snprintf(path, sizeof(path), "%s%s", *argument == '/' ? "" : "/", argument);
	lw_finder_guess(finder, root, path);
}

void lw_finder_guess_of(lw_finder *finder, pid_t pid)
{
	char root[32], executable[PATH_MAX], argument[PATH_MAX], key[PATH_MAX + 64];
	dev_t dev = 0;
	ino_t ino = 0;
	lw_proc_executes(pid, &dev, &ino);
	lw_proc_argument(pid, argument, sizeof(argument));
	snprintf(key, sizeof(key), "%llx:%llx:%s", (unsigned long long)dev, (unsigned long long)ino, argument);
	if (!is_new_guess(finder, key))
		return;
	guess_as_called(finder, pid, argument);
	snprintf(root, sizeof(root), "/proc/%d/root", pid);
	lw_proc_executable(pid, executable, sizeof(executable));
	lw_finder_guess(finder, root, executable);
	lw_proc_executable(getpid(), executable, sizeof(executable));
	lw_finder_guess(finder, "", executable);
}
