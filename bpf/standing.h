/* SPDX-License-Identifier: MIT */
/* standing: what the threads of a process are in the middle of when it begins to be followed: imports whose beginnings no probe saw, and waits for import locks. */
#ifndef LW_BPF_STANDING_H
#define LW_BPF_STANDING_H

#include <stdint.h>
#include <sys/types.h>

#include "state.h"

/**
 * Calls SINK for each thread of PID, whose _PyRuntime is at RUNTIME, that imports something or waits for an import lock. What a thread does meanwhile may go by unnoticed.
 * 0, -ENOMEM, or -errno of /proc.
 */
int lw_standing_each(pid_t pid, uint64_t runtime, const struct lw_layout *layout, void (*sink)(void *context, const struct lw_stand *stand), void *context);

#endif
