/* SPDX-License-Identifier: MIT */
/*
 * seen: what files looked like when they were last asked, while somebody says that this still holds (fresh.h).
 *
 * Threads: none; belongs to dirs.h.
 */
#ifndef LW_SEEN_H
#define LW_SEEN_H

#include "stamp.h"

struct lw_seen_file {
	uint64_t hash;		/* lw_hash64() of the path; 0: free */
	int64_t asked_ns;	/* lw_now_ns() before it was */
	struct lw_stat stat;
	uint8_t by;		/* who looks after it: bits of dirs.h; 0: nobody any longer */
};

struct lw_seen {
	struct lw_seen_file *file;	/* open addressing */
	uint32_t capacity, used;	/* USED: with those that nobody looks after */
};

/** NULL: it is not known, or nobody looks after it any longer. */
const struct lw_seen_file *lw_seen_find(const struct lw_seen *seen, uint64_t hash);
/** Copies FILE; without memory nothing is kept. */
void lw_seen_add(struct lw_seen *seen, const struct lw_seen_file *file);
void lw_seen_forget(struct lw_seen *seen, uint64_t hash);
/** All of them; frees the memory. */
void lw_seen_clear(struct lw_seen *seen);

#endif
