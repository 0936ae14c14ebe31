/* SPDX-License-Identifier: MIT */
/*
 * targets: see targets.h. Which processes count is decided once for each, when it is first heard of:
 *
 *     asked for by number, or in a cgroup, or of a binary that was asked for
 *     or a child (at any remove) of one that was asked for by number or started: it is of the family
 *     nothing of these: left alone
 *
 * News of processes come from the ring buffer (first sight; with sched also fork, exec and exit), from ptrace for a command that has no Python yet, and, for what neither tells, from
 * a look around now and then. A process that ended is remembered for a while: events of it may still be under way.
 */
#include "targets_private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/syscall.h>

#include "cgroup.h"
#include "layout.h"
#include "procfs.h"

enum {
	GENERATIONS = 64,		/* parents that are asked for their parent */
};

#define MILLISECONDS UINT64_C(1000000)
static const uint64_t FIRST_LOOK = 50 * MILLISECONDS, LAST_LOOK = 10000 * MILLISECONDS, LOOK_AROUND = 2000 * MILLISECONDS, REMEMBERED = 2000 * MILLISECONDS;

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int lw_targets_create(lw_capture *capture, bool children, lw_targets **out)
{
	*out = NULL;
	lw_targets *targets = calloc(1, sizeof(*targets));
	if (!targets)
		return -ENOMEM;
	targets->capture = capture;
	targets->children = children;
	sigprocmask(SIG_SETMASK, NULL, &targets->mask);
	int error = lw_finder_create(capture, &targets->finder);
	if (error) {
		lw_targets_destroy(targets);
		return error;
	}
	*out = targets;
	return 0;
}

void lw_targets_destroy(lw_targets *targets)
{
	if (!targets)
		return;
	lw_tracees_destroy(targets->tracees);
	lw_processes_clear(&targets->processes);
	for (unsigned i = 0; i < targets->cgroup_count; i++)
		close(targets->cgroups[i]);
	free(targets->cgroups);
	free(targets->binaries);
	lw_finder_destroy(targets->finder);
	free(targets);
}

/* --- one process --- */

void lw_targets_sample(struct lw_known_process *known)
{
	uint64_t cpu = lw_proc_cpu_ns(known->pid);
	if (cpu > known->cpu_last)
		known->cpu_last = cpu;
}

static uint64_t cpu_of(const struct lw_known_process *known)
{
	return known->followed && known->cpu_last > known->cpu_begin ? known->cpu_last - known->cpu_begin : 0;
}

void lw_targets_ends(lw_targets *targets, lw_capture_sink *sink, void *context)
{
	targets->sink = sink;
	targets->context = context;
}

/* Once, and when what it sent before has been read. */
static void tell_end(const lw_targets *targets, struct lw_known_process *known)
{
	struct lw_event_head record = { .kind = LW_EVENT_EXIT, .pid = (__u32)known->pid, .tid = (__u32)known->pid, .ns = known->gone_ns };
	if (targets->sink && known->counted && !known->told)
		targets->sink(targets->context, &record, sizeof(record));
	known->told = true;
}

void lw_targets_bury(lw_targets *targets, struct lw_known_process *known)
{
	if (known->gone)
		return;
	targets->cpu_gone += cpu_of(known);
	known->gone = true;
	known->gone_ns = now();
	if (known->pidfd >= 0)
		close(known->pidfd);
	known->pidfd = -1;
	lw_capture_forget(targets->capture, known->pid);
}

struct lw_known_process *lw_targets_enter(lw_targets *targets, pid_t pid)
{
	struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
	struct lw_proc proc;
	if (known && !known->gone)
		return known;
	if (known) {
		tell_end(targets, known);
		lw_processes_remove(&targets->processes, pid);
	}
	known = lw_processes_add(&targets->processes, pid);
	if (!known)
		return NULL;
	if (!lw_proc_read(pid, &proc) && proc.inner > 0)
		known->inner = proc.inner;
	targets->namespaces |= known->inner != pid;
	return known;
}

void lw_targets_hold(struct lw_known_process *known)
{
	if (known->pidfd < 0)
		known->pidfd = (int)syscall(SYS_pidfd_open, known->pid, 0);
}

/* Tells capture. SETTLED: the process has been running for a while, so that its memory can prove what its file says of it. */
static int follow(lw_targets *targets, struct lw_known_process *known, const struct lw_program *python, bool settled)
{
	uint64_t bias;
	struct lw_layout layout;
	char why[LW_PROGRAM_WHY];
	known->python = python;
	known->runtime = 0;
	known->proven = settled;
	if (python && python->runtime && !lw_program_bias(python, known->pid, &bias))
		known->runtime = python->runtime + bias;
	/* A build with another layout than its version has: its imports are seen, but nobody walks its frames. */
	if (known->runtime && settled && python->laid_out && lw_layout_read(known->pid, known->runtime, python->version, &layout, why) == -ENOTSUP)
		known->runtime = 0;
	if (!known->counted) {
		known->counted = true;
		known->cpu_begin = known->cpu_last = lw_proc_cpu_ns(known->pid);
	}
	known->followed = targets->any = true;
	lw_targets_hold(known);
	return lw_capture_follow(targets->capture, known->pid, true, known->runtime, python);
}

static void leave_alone(lw_targets *targets, struct lw_known_process *known)
{
	known->followed = false;
	(void)lw_capture_follow(targets->capture, known->pid, false, 0, NULL);
}

int lw_targets_look(lw_targets *targets, pid_t pid, bool thorough, bool settled, char *why)
{
	const struct lw_program *python;
	int error = lw_finder_look(targets->finder, pid, thorough, &python, why);
	struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
	if (!known)
		return -ESRCH;
	lw_proc_executes(pid, &known->executable_dev, &known->executable_ino);
	known->pause_ns = known->pause_ns ? known->pause_ns * 2 : FIRST_LOOK;
	if (known->pause_ns > LAST_LOOK)
		known->pause_ns = LAST_LOOK;
	known->look_ns = now() + known->pause_ns;
	if (error == -ENOTSUP && !targets->untraced[0])
		snprintf(targets->untraced, sizeof(targets->untraced), "%s", why);
	if (error || !python)
		return error ? error : 1;
	lw_finder_guess_of(targets->finder, pid);
	if (known->followed && known->python == python && (settled ? known->proven : known->runtime != 0))
		return 0;
	error = follow(targets, known, python, settled);
	if (error)
		snprintf(why, LW_CAPTURE_WHY, "process %d cannot be followed: %s", pid, strerror(-error));
	return error;
}

/* --- whose it is --- */

static bool of_family(lw_targets *targets, pid_t pid)
{
	struct lw_proc proc;
	for (unsigned i = 0; targets->children && i < GENERATIONS && pid > 1; i++) {
		const struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
		if (known && known->family && !known->gone)
			return true;
		if (lw_proc_read(pid, &proc))
			return false;
		pid = proc.parent;
	}
	return false;
}

bool lw_targets_of_binary(const lw_targets *targets, pid_t pid)
{
	dev_t dev;
	ino_t ino;
	uint64_t bias;
	bool executes = targets->binary_count && lw_proc_executes(pid, &dev, &ino);
	for (unsigned i = 0; executes && i < targets->binary_count; i++) {
		const struct lw_binary *binary = &targets->binaries[i];
		if (binary->library ? !lw_program_bias(binary->library, pid, &bias) : binary->dev == dev && binary->ino == ino)
			return true;
	}
	return false;
}

static int is_same(void *context, pid_t pid)
{
	return pid == *(const pid_t *)context;
}

static bool of_cgroup(const lw_targets *targets, pid_t pid)
{
	for (unsigned i = 0; i < targets->cgroup_count; i++) {
		if (lw_cgroup_each(targets->cgroups[i], is_same, &pid) == 1)
			return true;
	}
	return false;
}

/* What is to be done with PID, of which nothing is known. Whether it is followed. */
static bool decide(lw_targets *targets, pid_t pid)
{
	char why[LW_CAPTURE_WHY];
	bool family = of_family(targets, pid), wanted = family || of_cgroup(targets, pid) || lw_targets_of_binary(targets, pid);
	struct lw_known_process *known = lw_targets_enter(targets, pid);
	if (!known)
		return false;
	if (!wanted) {
		leave_alone(targets, known);
		return false;
	}
	known->family = family;
	/* It came to a probe, so it is a Python, though it may not be found where we look. */
	if (lw_targets_look(targets, pid, false, true, why) && (known = lw_processes_find(&targets->processes, pid)))
		(void)follow(targets, known, NULL, true);
	return true;
}

/* --- news --- */

static bool on_fork(lw_targets *targets, pid_t parent, pid_t child)
{
	const struct lw_known_process *known = lw_processes_find(&targets->processes, parent);
	if (!known || !known->followed)
		return false;
	struct lw_known_process copy = *known, *born = targets->children ? lw_targets_enter(targets, child) : NULL;
	if (!born)
		return true;
	/* The same memory as its parent's, so far. */
	born->family = copy.family;
	born->followed = born->counted = true;
	born->python = copy.python;
	born->runtime = copy.runtime;
	born->cpu_last = lw_proc_cpu_ns(child);
	born->look_ns = now() + FIRST_LOOK;
	lw_targets_hold(born);
	(void)lw_capture_follow(targets->capture, child, true, born->runtime, born->python);
	return true;
}

/* PID executes something else; it may not have mapped its libraries yet. */
static void on_exec(lw_targets *targets, pid_t pid)
{
	char why[LW_CAPTURE_WHY];
	struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
	if (!known || known->gone)
		return;
	known->pause_ns = 0;
	known->python = NULL;
	if (lw_targets_look(targets, pid, false, false, why) == 1)
		lw_finder_guess_of(targets->finder, pid);
}

static bool has_ended(const struct lw_known_process *known)
{
	struct pollfd poll_fd = { .fd = known->pidfd, .events = POLLIN };
	if (known->pidfd >= 0)
		return poll(&poll_fd, 1, 0) == 1;
	return kill(known->pid, 0) && errno == ESRCH;
}

bool lw_targets_event(lw_targets *targets, const struct lw_event_head *record)
{
	pid_t pid = (pid_t)record->pid;
	struct lw_known_process *known;
	if (record->kind == LW_EVENT_NAME)
		return true;
	if (record->kind == LW_EVENT_FORK)
		return on_fork(targets, pid, (pid_t)record->name);
	known = lw_processes_find(&targets->processes, pid);
	if (!known || (known->gone && record->kind == LW_EVENT_PROCESS)) {
		if (record->kind == LW_EVENT_EXIT || record->kind == LW_EVENT_EXEC)
			return false;
		return decide(targets, pid);
	}
	if (record->kind == LW_EVENT_PROCESS && !known->followed) {
		/* It had no Python when it was looked at, and now comes to a probe. */
		(void)decide(targets, pid);
		known = lw_processes_find(&targets->processes, pid);
	}
	bool followed = known && known->followed;
	if (record->kind == LW_EVENT_EXEC)
		on_exec(targets, pid);
	else if (record->kind == LW_EVENT_EXIT && record->tid == record->pid && known) {
		known->told = true;
		if (has_ended(known))
			lw_targets_bury(targets, known);
	}
	return followed;
}

/* --- those that are there already --- */

/* A child of one of the family that is not known yet. /proc lists parents before children, unless numbers began anew: what is missed comes with the next look around. */
static int join(void *context, pid_t pid)
{
	lw_targets *targets = context;
	struct lw_proc proc;
	char why[LW_CAPTURE_WHY];
	const struct lw_known_process *parent;
	if (lw_processes_find(&targets->processes, pid) || lw_proc_read(pid, &proc) || proc.dead)
		return 0;
	parent = lw_processes_find(&targets->processes, proc.parent);
	if (!parent || !parent->family || parent->gone)
		return 0;
	struct lw_known_process *known = lw_targets_enter(targets, pid);
	if (!known)
		return -ENOMEM;
	known->family = true;
	lw_targets_hold(known);
	(void)lw_targets_look(targets, pid, false, true, why);
	return 0;
}

int lw_targets_join_all(lw_targets *targets)
{
	unsigned before;
	int error;
	do {
		before = targets->processes.count;
		error = lw_proc_each(join, targets);
	} while (!error && targets->processes.count > before);
	return error;
}

static int join_cgroup(void *context, pid_t pid)
{
	lw_targets *targets = context;
	char why[LW_CAPTURE_WHY];
	const struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
	if (known && !known->gone && (known->followed || known->look_ns))
		return 0;
	struct lw_known_process *entered = lw_targets_enter(targets, pid);
	if (!entered)
		return -ENOMEM;
	entered->family = true;
	lw_targets_hold(entered);
	(void)lw_targets_look(targets, pid, false, true, why);
	return 0;
}

int lw_targets_join_cgroups(lw_targets *targets)
{
	int error = 0;
	for (unsigned i = 0; i < targets->cgroup_count; i++)
		error = lw_cgroup_each(targets->cgroups[i], join_cgroup, targets);
	return error;
}

unsigned lw_targets_followed(const lw_targets *targets)
{
	unsigned count = 0;
	for (unsigned i = 0; i < targets->processes.count; i++)
		count += targets->processes.all[i].followed && !targets->processes.all[i].gone;
	return count;
}

/* --- keeping up --- */

static void look_again(lw_targets *targets, pid_t pid)
{
	char why[LW_CAPTURE_WHY];
	dev_t dev = 0;
	ino_t ino = 0;
	struct lw_known_process *known = lw_processes_find(&targets->processes, pid);
	if (lw_proc_executes(pid, &dev, &ino) && (dev != known->executable_dev || ino != known->executable_ino))
		on_exec(targets, pid);
	else
		/* A program without a Python so far may have one under another name. */
		(void)lw_targets_look(targets, pid, !known->followed, true, why);
}

/* Of each process: has it ended, is it time to look at it again. Backwards, because some are removed. */
static void tend_each(lw_targets *targets, uint64_t time, bool around)
{
	for (unsigned i = targets->processes.count; i-- > 0;) {
		struct lw_known_process *known = &targets->processes.all[i];
		if (known->gone) {
			/* Not if its end has only now been noticed: TIME is older. */
			if (time > known->gone_ns)
				tell_end(targets, known);
			if (time > known->gone_ns + REMEMBERED)
				lw_processes_remove(&targets->processes, known->pid);
			continue;
		}
		if (!known->followed && !known->family && !around)
			continue;
		if (known->followed)
			lw_targets_sample(known);
		if (has_ended(known))
			lw_targets_bury(targets, known);
		else if (known->look_ns && time >= known->look_ns)
			look_again(targets, known->pid);
	}
}

void lw_targets_tend(lw_targets *targets)
{
	uint64_t time = now();
	bool around = time >= targets->look_around_ns;
	if (targets->tracees)
		lw_tracees_tend(targets->tracees);
	tend_each(targets, time, around);
	if (!around)
		return;
	targets->look_around_ns = time + LOOK_AROUND;
	(void)lw_targets_join_cgroups(targets);
	if (targets->children && targets->finite)
		(void)lw_proc_each(join, targets);
}

bool lw_targets_ended(const lw_targets *targets, int *status)
{
	*status = 0;
	if (targets->tracees)
		return lw_tracees_ended(targets->tracees, status);
	if (!targets->finite || targets->binary_count || targets->cgroup_count)
		return false;
	for (unsigned i = 0; i < targets->processes.count; i++) {
		const struct lw_known_process *known = &targets->processes.all[i];
		if (!known->gone && (known->asked || known->followed))
			return false;
	}
	return true;
}

unsigned lw_targets_count(const lw_targets *targets, uint64_t *cpu_ns)
{
	*cpu_ns = targets->cpu_gone;
	for (unsigned i = 0; i < targets->processes.count; i++) {
		if (!targets->processes.all[i].gone)
			*cpu_ns += cpu_of(&targets->processes.all[i]);
	}
	return lw_targets_followed(targets);
}

const char *lw_targets_idle(const lw_targets *targets)
{
	if (targets->any)
		return NULL;
	return targets->untraced[0] ? targets->untraced : "no process that counts has executed a Python (3.11 or later)";
}

pid_t lw_targets_inner(const lw_targets *targets, pid_t pid)
{
	struct lw_proc proc;
	if (!targets->namespaces)
		return pid;
	for (unsigned i = 0; i < targets->processes.count; i++) {
		if (targets->processes.all[i].pid == pid)
			return targets->processes.all[i].inner;
	}
	return !lw_proc_read(pid, &proc) && proc.inner > 0 ? proc.inner : pid;
}
