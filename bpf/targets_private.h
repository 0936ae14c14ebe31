/* SPDX-License-Identifier: MIT */
/* targets_private: what targets.c (processes, news of them) and targets_asked.c (the ways to ask for some) share. */
#ifndef LW_BPF_TARGETS_PRIVATE_H
#define LW_BPF_TARGETS_PRIVATE_H

#include <signal.h>

#include "finder.h"
#include "processes.h"
#include "targets.h"
#include "tracees.h"

/* A binary that was asked for: the executable, or a library that any executable may use. */
struct lw_binary {
	dev_t dev;
	ino_t ino;
	const struct lw_program *library;
};

struct lw_targets {
	lw_capture *capture;
	bool children;
	bool finite;			/* something was asked for that ends */
	bool namespaces;		/* a process has had another number of its own */
	sigset_t mask;			/* as this program found it */
	lw_finder *finder;
	struct lw_processes processes;
	lw_tracees *tracees;
	pid_t command;			/* 0: none */
	uint64_t cpu_gone;		/* of processes that ended */
	lw_capture_sink *sink;		/* gets the ends of processes that the kernel did not tell */
	void *context;
	bool any;			/* a process has been followed */
	char untraced[LW_CAPTURE_WHY];	/* why the first one that is a Python was not; "": there was none */
	uint64_t look_around_ns;
	struct lw_binary *binaries;
	unsigned binary_count;
	int *cgroups;			/* directories */
	unsigned cgroup_count;
	char *refusal;			/* LW_CAPTURE_WHY bytes: why the command cannot be traced; "": it can */
};

/** Enters PID, or finds it. One that was buried has given its number to another. NULL: no memory. */
struct lw_known_process *lw_targets_enter(lw_targets *targets, pid_t pid);
/** From here on its end is noticed. */
void lw_targets_hold(struct lw_known_process *known);
/** Its CPU time so far is asked for. */
void lw_targets_sample(struct lw_known_process *known);
/** It has ended: capture forgets it, we remember it a little longer. */
void lw_targets_bury(lw_targets *targets, struct lw_known_process *known);
/**
 * Looks at what PID, which is entered, has mapped, follows it if that is a Python, and plans the next look: what is mapped late (an embedded Python, Ladewerk's extension) is found by looking
 * again, after ever longer pauses. THOROUGH: as of lw_finder_look(). SETTLED: the process has been running for a while, so that its memory can prove what its file says of it.
 * 0: it is followed; 1: it has no Python (yet), and WHY (LW_CAPTURE_WHY bytes) says so; -errno and WHY.
 */
int lw_targets_look(lw_targets *targets, pid_t pid, bool thorough, bool settled, char *why);
/** Whether PID is of a binary that was asked for. */
bool lw_targets_of_binary(const lw_targets *targets, pid_t pid);
/** Children of the family, at any remove, that are not known yet are entered, and followed if they are Pythons. 0 or -errno. */
int lw_targets_join_all(lw_targets *targets);
/** Processes of control groups that are not known yet, the same. 0 or -errno: of the group that was added last. */
int lw_targets_join_cgroups(lw_targets *targets);
/** How many are followed. */
unsigned lw_targets_followed(const lw_targets *targets);

#endif
