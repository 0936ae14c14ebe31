/* SPDX-License-Identifier: MIT */
/*
 * hot: which blocks of the cache files an entry point touched last time, so that its next start has the kernel read them ahead, all at once
 * and asynchronously, instead of waiting for one after the other. What an entry point is (a script, a module, a text) its caller knows, and hashes.
 *
 *     hot-<entry, 16 hex digits>    in the key's directory, under the same rules of trust (store.h)
 *         struct lw_hot_head
 *         struct lw_hot_range[]
 *
 * Nothing rests on it: whatever is wrong with such a file, or with one range of it, is ignored without a word. A range names a cache file by the hash of its
 * checksums, so what was merged away is meant no longer.
 *
 * Reading. Four blocks spread over the set are touched. If none is a major fault the cache is warm, and that was all; at the first that is
 * one, all of the set is asked for. Not mincore(): it tells nothing about other users' files, and systemd's @system-service does not
 * permit it, so that a program could be killed for it.
 *
 * Writing. At the end, and at quiet moments whenever half as much again has been touched (a server is killed, and has no end), if more than an eighth of the blocks
 * touched is not in what is stored. What was stored stays in the set as long as it is not more than what was touched now: one entry point may have several
 * uses. A process that has learnt something leaves cache files which it has not read; what is in them counts as touched if
 * most of it can be its own. Below LW_HOT_LEAST blocks nothing is written: the kernel's own read-ahead does as well. A place
 * keeps LW_HOT_FILES files; whoever adds one removes the oldest beyond that.
 *
 * Threads: none; the owner (session.h) holds its mutex.
 */
#ifndef LW_HOT_H
#define LW_HOT_H

#include "registry.h"
#include "store.h"

#define LW_HOT_MAGIC "LWHOT\n\n"
enum {
	LW_HOT_FORMAT = 1,
	LW_HOT_RANGES = 1024,		/* in one file, which so has 16 KiB at most */
	LW_HOT_FILES = 64,
	LW_HOT_LEAST = 64,		/* blocks */
	LW_HOT_MOST = 16384,		/* blocks: no more is read ahead */
};

/** COUNT blocks from FIRST of the index file whose head has this roots_hash. */
struct lw_hot_range {
	uint64_t file;
	uint32_t first, count;
};

struct lw_hot_head {
	char magic[8];
	uint32_t format;
	uint32_t count;			/* of ranges */
	uint64_t entry;
	uint64_t hash;			/* lw_hash64 of the ranges */
	uint64_t head_hash;		/* lw_hash64 of everything before it */
};

/** Zero-initialise. */
struct lw_hot {
	uint64_t entry;			/* 0: nothing is kept */
	struct lw_hot_range *range;	/* as stored */
	uint32_t count;
	uint64_t noted;			/* blocks touched when it was last written, or needed no writing */
};

/** Take the ranges from SIZE bytes at DATA, for ENTRY. 0, -EBADMSG or -ENOMEM. */
int lw_hot_decode(const void *data, size_t size, uint64_t entry, struct lw_hot *hot);

/** Have what is in HOT and SNAPSHOT read ahead, unless it is in memory. Returns the number of blocks asked for. */
uint64_t lw_hot_read_ahead(const struct lw_hot *hot, const struct lw_snapshot *snapshot);

/** Read what is stored for ENTRY (0: nothing is), and have it read ahead. Does I/O. Returns the number of blocks asked for. */
uint64_t lw_hot_open(struct lw_hot *hot, uint64_t entry, const lw_store *store, const struct lw_snapshot *snapshot);
/** Frees and forgets; nothing is kept from here on. */
void lw_hot_close(struct lw_hot *hot);

/** Whether so much has been touched that lw_hot_store() should look. Cheap. */
bool lw_hot_due(const struct lw_hot *hot, const struct lw_snapshot *used);
/** Store what was touched in USED if it is not covered. Does I/O. 1: written, 0: no need, -errno: nothing is kept from here on. */
int lw_hot_store(struct lw_hot *hot, const lw_store *store, const struct lw_snapshot *used);
/** The same at the end of a process that has stored LEARNT bytes of code: the files are no longer those of USED. */
int lw_hot_store_learnt(struct lw_hot *hot, lw_store *store, const struct lw_snapshot *used, uint64_t learnt);

#endif
