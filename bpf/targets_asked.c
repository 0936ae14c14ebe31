/* SPDX-License-Identifier: MIT */
/* targets_asked: the ways to ask for processes: by number, by binary, by control group, and a command that is started. See targets.h. */
#include "targets_private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include "cgroup.h"
#include "nearby.h"
#include "procfs.h"

static int refuse(char *why, int error, const char *what, const char *text)
{
	snprintf(why, LW_CAPTURE_WHY, "%.800s: %.200s", text, what);
	return error;
}

int lw_targets_pid(lw_targets *targets, pid_t pid, char *why)
{
	struct lw_proc proc;
	char number[16];
	snprintf(number, sizeof(number), "%d", pid);
	why[0] = 0;
	int error = pid > 0 ? lw_proc_read(pid, &proc) : -ESRCH;
	if (error || proc.dead)
		return refuse(why, error ? error : -ESRCH, error && error != -ESRCH ? strerror(-error) : "there is no such process (in the PID namespace of this one)", number);
	struct lw_known_process *known = lw_targets_enter(targets, proc.process);
	if (!known)
		return refuse(why, -ENOMEM, "out of memory", number);
	known->asked = known->family = targets->finite = true;
	lw_targets_hold(known);
	unsigned before = lw_targets_followed(targets);
	error = lw_targets_look(targets, proc.process, false, true, why);
	if (error == 1)
		error = lw_targets_look(targets, proc.process, true, true, why);
	int failed = targets->children ? lw_targets_join_all(targets) : 0;
	if (failed)
		return refuse(why, failed, strerror(-failed), "/proc");
	/* A shell, or a supervisor, whose children are Pythons. */
	if (error && lw_targets_followed(targets) > before)
		error = 0;
	return error == 1 ? -ENOTSUP : error;
}

static int add_binary(lw_targets *targets, const struct stat *status, const struct lw_program *library)
{
	struct lw_binary *grown = reallocarray(targets->binaries, targets->binary_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	targets->binaries = grown;
	grown[targets->binary_count++] = (struct lw_binary){ status->st_dev, status->st_ino, library };
	return 0;
}

static int join_binary(void *context, pid_t pid)
{
	lw_targets *targets = context;
	char why[LW_CAPTURE_WHY];
	if (lw_processes_find(&targets->processes, pid) || !lw_targets_of_binary(targets, pid))
		return 0;
	if (!lw_targets_enter(targets, pid))
		return -ENOMEM;
	/* What it has mapped may be all there is to know of where its libpython is. */
	(void)lw_targets_look(targets, pid, false, true, why);
	return 0;
}

int lw_targets_binary(lw_targets *targets, const char *path, char *why)
{
	char real[PATH_MAX], library[PATH_MAX];
	const struct lw_program *python = NULL;
	struct stat status, resolved;
	why[0] = 0;
	if (stat(path, &status))
		return refuse(why, -errno, strerror(errno), path);
	/* Through /proc/PID/root, the name that realpath() finds is another file's, or nobody's, here. */
	if (!realpath(path, real) || stat(real, &resolved) || resolved.st_dev != status.st_dev || resolved.st_ino != status.st_ino)
		snprintf(real, sizeof(real), "%s%s", *path == '/' ? "" : "./", path);
	int error = lw_finder_file(targets->finder, "", real, &python, why);
	bool is_library = !error && strncmp(strrchr(real, '/') + 1, "libpython", 9) == 0;
	if (error == -ENOEXEC && lw_python_library("", real, library, sizeof(library)))
		error = lw_finder_file(targets->finder, "", library, &python, why);
	unsigned before = lw_targets_followed(targets);
	if (!error || error == -ENOEXEC) {
		int failed = add_binary(targets, &status, is_library ? python : NULL);
		if (!failed)
			failed = lw_proc_each(join_binary, targets);
		if (failed)
			return refuse(why, failed, strerror(-failed), path);
	}
	lw_finder_guess(targets->finder, "", path);
	lw_finder_guess(targets->finder, "", real);
	if (error == -ENOEXEC && lw_targets_followed(targets) > before)
		return 0;
	if (error == -ENOEXEC)
		return refuse(why, -ENOTSUP, "no Python, nor linked to one (of a script, name the interpreter)", path);
	return error;
}

int lw_targets_cgroup(lw_targets *targets, const char *path, char *why)
{
	why[0] = 0;
	int directory = lw_cgroup_open(path);
	if (directory < 0)
		return refuse(why, directory, directory == -EINVAL ? "not the directory of a cgroup" : strerror(-directory), path);
	int *grown = reallocarray(targets->cgroups, targets->cgroup_count + 1, sizeof(*grown));
	if (!grown) {
		close(directory);
		return refuse(why, -ENOMEM, "out of memory", path);
	}
	targets->cgroups = grown;
	grown[targets->cgroup_count++] = directory;
	int error = lw_targets_join_cgroups(targets);
	return error ? refuse(why, error, strerror(-error), path) : 0;
}

/* --- a command --- */

static bool will_be_python(pid_t pid)
{
	char name[32], library[NAME_MAX];
	snprintf(name, sizeof(name), "/proc/%d/exe", pid);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	bool needs = fd >= 0 && lw_needs_python(fd, library, sizeof(library));
	if (fd >= 0)
		close(fd);
	return needs;
}

static enum lw_verdict on_program(void *context, pid_t pid, bool exec)
{
	lw_targets *targets = context;
	char why[LW_CAPTURE_WHY];
	struct lw_known_process *known = lw_targets_enter(targets, pid);
	if (!known)
		return LW_VERDICT_LET_GO;
	known->family = true;
	lw_targets_hold(known);
	int error = lw_targets_look(targets, pid, false, false, why);
	if (!error)
		return LW_VERDICT_LET_GO;
	if (error == 1)
		return !exec || will_be_python(pid) ? LW_VERDICT_LOADING : LW_VERDICT_ON;
	/* The command itself: it has not run yet, and will not. */
	if (targets->refusal && !targets->refusal[0]) {
		snprintf(targets->refusal, LW_CAPTURE_WHY, "%s", why);
		kill(pid, SIGKILL);
	}
	return LW_VERDICT_LET_GO;
}

static void on_born(void *context, pid_t parent, pid_t child)
{
	struct lw_known_process *known = lw_targets_enter(context, child);
	if (known)
		known->family = true;
}

static void on_ending(void *context, pid_t pid)
{
	lw_targets *targets = context;
	struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
	if (!known)
		return;
	lw_targets_sample(known);
	lw_targets_bury(targets, known);
}

int lw_targets_command(lw_targets *targets, char *const argv[], pid_t *child, char *why)
{
	char refusal[LW_CAPTURE_WHY] = "";
	const struct lw_tracees_listener listener = { targets, on_program, on_born, on_ending };
	why[0] = 0;
	targets->refusal = refusal;
	int error = lw_tracees_start(argv, &targets->mask, targets->children, &listener, &targets->tracees, child);
	targets->refusal = NULL;
	if (error == -EPERM)
		return refuse(why, error, "cannot be stopped where it begins: that needs CAP_SYS_PTRACE, or kernel.yama.ptrace_scope below 2 (start it without, and use -p)", argv[0]);
	if (error)
		return refuse(why, error, strerror(-error), argv[0]);
	targets->command = *child;
	targets->finite = true;
	if (!refusal[0])
		return 0;
	snprintf(why, LW_CAPTURE_WHY, "%s", refusal);
	return -ENOTSUP;
}
