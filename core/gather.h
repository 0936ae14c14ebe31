/* SPDX-License-Identifier: MIT */
/*
 * gather: hash many sources, and take their code from .pyc files that can be believed, in batches (ioq.h).
 *
 * For each source exactly what lw_content_hash() and then lw_pyc_read() would have said (pyc.h): a source that changed between two stats of its
 * descriptor is -ESTALE, one whose stamp is too young is racy, and a .pyc is judged by the same rules. Results come in the order of the sources.
 *
 * Bounds: WINDOW sources are on their way at a time, each with one descriptor at most; where the system has fewer the window gets smaller, and a source fails for
 * want of one only when none of ours is open. MEMORY bytes of files are held, and the one file more that is next to be delivered.
 *
 * Never in a user's program, unless the backend is LW_IOQ_POOL.
 */
#ifndef LW_GATHER_H
#define LW_GATHER_H

#include "ioq.h"
#include "pyc.h"

/** One source. Pointers are good during the callback only. */
struct lw_gather_result {
	size_t number;
	int error;			/* 0, or -errno of lw_content_hash(), or of the path of its .pyc: what follows says nothing */
	bool racy;			/* its stamp is too young to be trusted; there was no look at its .pyc */
	struct lw_stat stat;
	uint64_t content;
	enum lw_pyc_verdict verdict;
	const void *code;		/* LW_PYC_GOOD: what follows the header, CODE_SIZE bytes */
	size_t code_size;
};

struct lw_gather_job {
	enum lw_ioq_backend backend;
	unsigned threads;		/* as in ioq.h */
	unsigned window;		/* 0: 128 */
	size_t memory;			/* 0: 64 MiB */
	uint32_t magic;			/* of .pyc files */
	size_t count;
	void *arg;
	/** The path of source NUMBER; lives until it is delivered. */
	const char *(*source)(void *arg, size_t number);
	/** That of its .pyc: terminated, in OUT. 0 or -errno (-ENAMETOOLONG). */
	int (*pyc)(void *arg, size_t number, char *out, size_t size);
	/** Called in the order of the sources, by the calling thread. Non-zero ends the run, and is its result. */
	int (*deliver)(void *arg, const struct lw_gather_result *result);
};

struct lw_gather_stats {
	uint64_t delivered, syscalls;
	unsigned window;		/* in the end */
	unsigned descriptors;		/* most that were open at a time */
	size_t memory;			/* most that was held */
	int64_t wall_ns;
	unsigned threads;
	const char *backend;		/* "pool" or "ring": who made most of the calls in the end */
	char why[LW_IOQ_WHY];
};

/** 0, deliver()'s result, or -errno: -ENOMEM, or what keeps LW_IOQ_RING from working (stats->why). */
int lw_gather(const struct lw_gather_job *job, struct lw_gather_stats *stats);

#endif
