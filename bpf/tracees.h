/* SPDX-License-Identifier: MIT */
/*
 * tracees: a command that is started, stopped by ptrace(2) wherever a program of it begins, so that probes can be put into that before it runs.
 *
 *     fork -> seized -> exec: stopped      somebody looks     a Python: let go, for good
 *                                                             needs a libpython: stopped again behind each mmap(2), until it is there
 *                                                             else: goes on; it and what it forks are stopped at the next exec
 *
 * Nothing of a process is written. If we are killed, the kernel lets all of them go on. Signals, also those that stop a process, have the effect they would have had.
 * A process has one tracer: debuggers (gdb, strace) cannot be such a command, and programs with set-user-ID do not get their rights, unless we have CAP_SYS_PTRACE.
 */
#ifndef LW_BPF_TRACEES_H
#define LW_BPF_TRACEES_H

#include <stdbool.h>
#include <signal.h>
#include <sys/types.h>

typedef struct lw_tracees lw_tracees;

enum lw_verdict {
	LW_VERDICT_ON,		/* no Python: until its next exec */
	LW_VERDICT_LOADING,	/* will be one, when the dynamic linker has mapped it */
	LW_VERDICT_LET_GO,
};

struct lw_tracees_listener {
	void *context;
	/* PID is stopped: behind an exec, or behind a mapping made since (if that was LOADING). */
	enum lw_verdict (*program)(void *context, pid_t pid, bool exec);
	/* A process that PID has forked; it has not run yet. Not for those that were let go. */
	void (*born)(void *context, pid_t pid, pid_t child);
	/* Before it is waited for: its numbers can still be asked for. Of those that were let go, the command only. */
	void (*ending)(void *context, pid_t pid);
};

/**
 * Starts ARGV as execvp() would, with MASK as signal mask; CHILDREN: what it forks is traced as well. Comes back when its first program has been looked at. 0, or -errno: that of exec;
 * -EPERM (ptrace is not permitted): the command was not started.
 */
int lw_tracees_start(char *const argv[], const sigset_t *mask, bool children, const struct lw_tracees_listener *listener, lw_tracees **out, pid_t *pid);
/** Looks after those that are stopped, without waiting. To be called when SIGCHLD came. */
void lw_tracees_tend(lw_tracees *tracees);
/** Whether the command has ended; its STATUS, as of waitpid(2). */
bool lw_tracees_ended(const lw_tracees *tracees, int *status);
/** All go on without us. NULL is allowed. */
void lw_tracees_destroy(lw_tracees *tracees);

#endif
