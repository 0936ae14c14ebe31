/* SPDX-License-Identifier: MIT */
/*
 * sched: what the loader reads from the maps of sched.bpf.c, which capture.c loads.
 */
#ifndef LW_BPF_SCHED_H
#define LW_BPF_SCHED_H

#include <stddef.h>
#include <stdint.h>

#include "event.h"

/**
 * Waits for module locks and the global import lock that are going on at NS, as the events that would have come at their ends: what a program hangs on when tracing ends.
 * THREADS: descriptor of the map. Calls SINK for each; returns their number.
 */
unsigned lw_sched_pending(int threads, uint64_t ns, void (*sink)(void *context, const struct lw_event_head *record, size_t size), void *context);

#endif
