/* SPDX-License-Identifier: MIT */
/*
 * sched: the BPF object sched.bpf.c, loaded beside spans, whose maps it uses: from then on threads of followed processes have clocks, waits for locks are events, and so are forks, execs and
 * exits. Needs BTF of the kernel (CONFIG_DEBUG_INFO_BTF), CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN).
 *
 * Whether that will work is asked before spans is loaded (lw_sched_possible), for spans is told whether there are clocks; what goes wrong nevertheless, afterwards.
 */
#ifndef LW_BPF_SCHED_H
#define LW_BPF_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"

struct lw_sched;

enum { LW_SCHED_PROGRAMS = 5, LW_SCHED_WHY = 512 };

struct lw_sched_setup {
	/* descriptors of spans's maps */
	int processes, threads, layouts, names, last_name, counts, events;
	uint64_t pidns_ino;	/* the loader's PID namespace; 0: the initial one */
	uint64_t wake_at;	/* bytes in the ring buffer; 0: as shared.bpf.h says */
	uint64_t threshold_ns;	/* shorter waits for the GIL and for other locks are no events; 0: 100 us */
};

/** Whether this kernel has what is needed (capabilities apart). If not, WHY (LW_SCHED_WHY bytes) says what is missing and what would help. */
bool lw_sched_possible(char *why);

/** Loads and attaches. 0, or -errno (-EPERM, -ENOENT: no BTF, ...) and WHY. */
int lw_sched_open(const struct lw_sched_setup *setup, struct lw_sched **out, char *why);
/** Detaches; NULL is allowed. */
void lw_sched_close(struct lw_sched *sched);

/** CPU time within its programs, if the kernel counts that (BPF_ENABLE_STATS); else 0. */
uint64_t lw_sched_run_ns(const struct lw_sched *sched);

/**
 * Waits for locks that are going on at NS, as events of the kind WAIT that would have come at their end (without a waker): what a program hangs on when tracing ends. THREADS: descriptor of the map.
 * Calls SINK for each; returns their number.
 */
unsigned lw_sched_pending(int threads, uint64_t ns, void (*sink)(void *context, const struct lw_event_head *record, size_t size), void *context);

#endif
