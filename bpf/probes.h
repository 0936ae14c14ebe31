/* SPDX-License-Identifier: MIT */
/*
 * probes: one BPF program at many instructions of a file. All at once by a uprobe_multi link (Linux 6.6; CAP_BPF and CAP_PERFMON are enough), else one perf event each.
 * Never at the return of a function: a return probe changes the return address, and programs that switch stacks die of it.
 */
#ifndef LW_BPF_PROBES_H
#define LW_BPF_PROBES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bpf_program;
typedef struct lw_probes lw_probes;

struct lw_probe {
	uint64_t offset;	/* in the file */
	uint64_t semaphore;	/* in the file; 0: none */
	uint64_t cookie;
};

/** What attach_type a program has to be loaded with for a uprobe_multi link. */
int lw_probes_multi_type(void);
/** PROGRAM (loaded for MULTI or not) at COUNT instructions of the file at PATH, in process PID or, if that is 0, in all its processes. 0 or -errno; then no probe is left. */
int lw_probes_attach(struct bpf_program *program, bool multi, pid_t pid, const char *path, const struct lw_probe *probes, unsigned count, lw_probes **out);
/** NULL is allowed. Waits until no process is within a probe any more. */
void lw_probes_detach(lw_probes *probes);

#endif
