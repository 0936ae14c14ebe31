/* SPDX-License-Identifier: MIT */
/* lanes: the threads of a trace, as drawings of it have them: one lane each, and the imports that are open in it. */
#ifndef LW_BPF_LANES_H
#define LW_BPF_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"

typedef struct lw_lanes lw_lanes;

struct lw_lane {
	uint32_t pid, tid;
	bool first;		/* of its process */
	void *own;		/* the user's; at first NULL. Is given to free() */
	/* In order of beginning. Imports of greenlets end in any order. */
	uint64_t *open;
	size_t count, room;
	struct lw_lane *next;	/* in order of appearance */
};

/** NULL without memory. */
lw_lanes *lw_lanes_create(void);
void lw_lanes_destroy(lw_lanes *lanes);
/** Lane of thread TID. IS_NEW (if not 0): it was not there before. NULL without memory. */
struct lw_lane *lw_lanes_get(lw_lanes *lanes, uint32_t pid, uint32_t tid, bool *is_new);
/** All of them. */
struct lw_lane *lw_lanes_first(lw_lanes *lanes);

/** Import ID begins. False: no memory. */
bool lw_lane_open(struct lw_lane *lane, uint64_t id);
/** How many imports that began after ID are open still. 0 as well if ID is not open. */
size_t lw_lane_above(const struct lw_lane *lane, uint64_t id);
/** It is over. */
void lw_lane_close(struct lw_lane *lane, uint64_t id);

#endif
