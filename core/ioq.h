/* SPDX-License-Identifier: MIT */
/*
 * ioq: many statx, openat, read and close at once, from one thread.
 *
 *     lw_ioq_submit(q, op); ...                         the op, its path and its buffer are the queue's
 *     while ((op = lw_ioq_reap(q, true))) ...           yours again, in any order; op->result as of the plain call
 *
 * Two backends make the calls, with the same results:
 *
 *     pool   threads make plain calls; the owner helps while it waits for them
 *     ring   io_uring: the kernel's own workers, no thread of ours
 *
 * AUTO is the pool while calls do not wait, and the ring while they do, if it may be used; the rule and the
 * measurements it rests on are at the head of ioq.c. Whether io_uring may be used is asked once in a process, in a forked
 * child (uring.h), and not before it would be of use. So AUTO and RING are NEVER for a user's program.
 *
 * Results: what the plain system call returns, or -errno. Interrupted calls are made again, but for close, which has
 * done its work even then (result 0). Reads can be short, as ever. There is no order among ops that are outstanding.
 * If the ring fails later on, what it has not done is done by the pool, and everything after it too.
 *
 * Threads: one owner creates, submits, reaps and destroys. The pool's threads use the owner's table of
 * descriptors: who wants another one (unshare) does so before. They block all signals.
 *
 * fork: in the child nothing but lw_ioq_destroy() may be called; it gives back memory and descriptors and leaves the parent's queue alone. What
 * the parent has outstanding is nothing to the child. exec leaves nothing behind.
 */
#ifndef LW_IOQ_H
#define LW_IOQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct statx;

enum lw_ioq_kind { LW_IOQ_STATX, LW_IOQ_OPENAT, LW_IOQ_READ, LW_IOQ_CLOSE };

struct lw_ioq_op {
	struct lw_ioq_op *next, *chunk;	/* the queue's, until reaped */
	enum lw_ioq_kind kind;
	int fd;				/* STATX, OPENAT: that PATH is relative to (or AT_FDCWD); READ, CLOSE: the file */
	const char *path;		/* STATX, OPENAT; lives until reaped */
	int flags;			/* STATX: AT_*; OPENAT: O_*, none that creates */
	unsigned mask;			/* STATX: STATX_* */
	union {
		struct statx *statx;
		void *buffer;		/* READ */
	};
	size_t size;			/* READ: of BUFFER; at most 0x7ffff000 are read at once */
	int64_t offset;			/* READ: where in a regular file, from 0 */
	int64_t result;			/* descriptor, bytes or 0; or -errno */
	void *data;			/* the caller's */
};

/** From which mean duration on AUTO says of calls that they wait. */
enum { LW_IOQ_WAITS_NS = 20 * 1000 };

enum lw_ioq_backend { LW_IOQ_AUTO, LW_IOQ_POOL, LW_IOQ_RING };

struct lw_ioq_config {
	enum lw_ioq_backend backend;
	unsigned depth;		/* ring: ops that the kernel has at a time, up to 4096; 0: 256. Any number may be submitted */
	unsigned threads;	/* pool: with the owner, up to 64; 0: as many as cores, more while calls wait. ring: bound of kernel workers; 0: 64 */
};

typedef struct lw_ioq lw_ioq;

enum { LW_IOQ_WHY = 512 };

/**
 * WHY (LW_IOQ_WHY bytes, may be NULL) says which backend and why, or why not and what would help. 0, or -errno: -ENOMEM; for
 * LW_IOQ_RING whatever keeps io_uring from working (lw_uring_probe()).
 */
int lw_ioq_create(const struct lw_ioq_config *config, lw_ioq **out, char *why);

/**
 * Ends what is outstanding: what has not begun is not done, but for CLOSE; what an OPENAT opened is closed again. Then all
 * ops are the caller's again, their results mean nothing. NULL is allowed.
 */
void lw_ioq_destroy(lw_ioq *queue);

/** OP is the queue's until it is reaped. Never fails, and need not begin before lw_ioq_reap(). */
void lw_ioq_submit(lw_ioq *queue, struct lw_ioq_op *op);

/** An op that is done. NULL: nothing is outstanding or, unless WAIT, nothing is done yet. */
struct lw_ioq_op *lw_ioq_reap(lw_ioq *queue, bool wait);

struct lw_ioq_stats {
	uint64_t calls;		/* ops that were done */
	uint64_t syscalls;	/* that we issued for them: the calls, or io_uring_enter */
	uint64_t outstanding;	/* submitted, not reaped */
	int64_t mean_ns;	/* of a plain call of the pool's, lately; slow ones count 80,000. 0: not known */
	unsigned threads;	/* most that made calls, the owner among them */
	const char *backend;	/* "pool" or "ring", as of now */
	const char *why;	/* as in lw_ioq_create(), as of now; lives as long as the queue */
};

void lw_ioq_stats(const lw_ioq *queue, struct lw_ioq_stats *stats);

/** Make OP's call here and now. */
void lw_ioq_plain(struct lw_ioq_op *op);

#endif
