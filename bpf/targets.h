/* SPDX-License-Identifier: MIT */
/*
 * targets: whom to trace, and keeping up with it: processes that are there, that are forked, that execute something else, and that end.
 *
 *     one process (and its children)      lw_targets_pid
 *     a command that is started           lw_targets_command: stopped at each exec until probes are in its program, so that nothing is missed
 *     all processes of a binary           lw_targets_binary: also those that start later
 *     all processes of a cgroup           lw_targets_cgroup: also those that enter it later
 */
#ifndef LW_BPF_TARGETS_H
#define LW_BPF_TARGETS_H

#include "capture.h"

typedef struct lw_targets lw_targets;

int lw_targets_create(lw_capture *capture, bool children, lw_targets **out);
void lw_targets_destroy(lw_targets *targets);

/** Each: 0, or -errno and WHY (LW_CAPTURE_WHY bytes). -ESRCH, -ENOENT, -EACCES, -ENOTSUP (no Python in it that can be traced: which and why). */
int lw_targets_pid(lw_targets *targets, pid_t pid, char *why);
int lw_targets_binary(lw_targets *targets, const char *path, char *why);
int lw_targets_cgroup(lw_targets *targets, const char *path, char *why);
/** ARGV as for execvp. The child has our descriptors 0 to 2, and signals as this program found them. */
int lw_targets_command(lw_targets *targets, char *const argv[], pid_t *child, char *why);

/** To be called with every record of the ring buffer before the model gets it: follows and forgets processes. Whether the model should get it. */
bool lw_targets_event(lw_targets *targets, const struct lw_event_head *record);
/** Processes that end are told to SINK as LW_EVENT_EXIT where the kernel does not tell it (without sched), when all their records were read: by the next calls of lw_targets_tend(). */
void lw_targets_ends(lw_targets *targets, lw_capture_sink *sink, void *context);
/** To be called now and then (and when SIGCHLD came): stopped children go on, ended ones are noticed. */
void lw_targets_tend(lw_targets *targets);
/** Whether everything that was asked for has ended (never, for binaries and cgroups). STATUS of the command as of waitpid(2). */
bool lw_targets_ended(const lw_targets *targets, int *status);
/** If no process has been followed up to now: a sentence for people, why. Else NULL. */
const char *lw_targets_idle(const lw_targets *targets);
/** Number of followed processes; CPU time of them all since each was followed. */
unsigned lw_targets_count(const lw_targets *targets, uint64_t *cpu_ns);
/** In the process's own namespace: what it calls PID; its command line, for people ("" unknown). */
pid_t lw_targets_inner(const lw_targets *targets, pid_t pid);

#endif
