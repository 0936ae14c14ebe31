/* SPDX-License-Identifier: MIT */
/* processes: what targets knows of processes, by number. Sorted, so that looking one up costs little per event. */
#ifndef LW_BPF_PROCESSES_H
#define LW_BPF_PROCESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lw_program;

struct lw_known_process {
	pid_t pid, inner;
	bool asked;			/* for, by number */
	bool family;			/* its children are to be followed */
	bool followed;			/* it has a Python, and its events count. Neither: it is left alone */
	bool gone;			/* has ended; remembered for the events that are still under way */
	bool counted;			/* cpu_begin was taken */
	bool told;			/* its end is known to the model */
	int pidfd;			/* -1: none */
	uint64_t cpu_begin, cpu_last;
	dev_t executable_dev;		/* what it executed when it was last looked at */
	ino_t executable_ino;
	const struct lw_program *python;
	uint64_t runtime;		/* address of its _PyRuntime; 0: not known */
	bool proven;			/* its memory was found to be as the file says */
	uint64_t look_ns, pause_ns;	/* when to look at its mappings again, and how long to wait after that */
	uint64_t gone_ns;
};

struct lw_processes {
	struct lw_known_process *all;
	unsigned count, room;
	unsigned last;			/* index of what was found last */
};

/** NULL: not known. Valid until the next call of lw_processes_add() or lw_processes_remove(). */
struct lw_known_process *lw_processes_find(struct lw_processes *processes, pid_t pid);
/** The same; it is entered if it was not known. NULL: no memory. */
struct lw_known_process *lw_processes_add(struct lw_processes *processes, pid_t pid);
void lw_processes_remove(struct lw_processes *processes, pid_t pid);
void lw_processes_clear(struct lw_processes *processes);

#endif
