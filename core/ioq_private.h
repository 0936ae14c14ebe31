/* SPDX-License-Identifier: MIT */
/* ioq_private: what ioq.c and its two backends know of each other. Ops pass between them in lists. */
#ifndef LW_IOQ_PRIVATE_H
#define LW_IOQ_PRIVATE_H

#include "ioq.h"

struct lw_ioq_list {
	struct lw_ioq_op *first, *last;
};

static inline void lw_ioq_add(struct lw_ioq_list *list, struct lw_ioq_op *op)
{
	op->next = NULL;
	if (list->last)
		list->last->next = op;
	else
		list->first = op;
	list->last = op;
}

/* FROM is empty afterwards. */
static inline void lw_ioq_move(struct lw_ioq_list *to, struct lw_ioq_list *from)
{
	if (!from->first)
		return;
	if (to->last)
		to->last->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	*from = (struct lw_ioq_list){ 0 };
}

static inline struct lw_ioq_op *lw_ioq_take(struct lw_ioq_list *list)
{
	struct lw_ioq_op *op = list->first;
	if (!op)
		return NULL;
	list->first = op->next;
	if (!list->first)
		list->last = NULL;
	return op;
}

struct lw_ioq_cost {
	uint64_t calls, syscalls;
};

/* Make OP's call here, and count it. */
void lw_ioq_run(struct lw_ioq_op *op, struct lw_ioq_cost *cost);

/* From here on a call counts as one that waits (pool and AUTO); below half of it, as one that does not. */
enum { LW_IOQ_THREADS_MAX = 64 };

/* --- pool --- */

struct lw_ioq_pool;

/* FIXED: THREADS from the start; else it grows to THREADS while calls wait. NULL without memory. Starts no thread yet. */
struct lw_ioq_pool *lw_ioq_pool_create(unsigned threads, bool fixed);
/* Nothing may be outstanding. */
void lw_ioq_pool_destroy(struct lw_ioq_pool *pool);
/* In a forked child: its threads are not here, its lock may be held by one of them. */
void lw_ioq_pool_abandon(struct lw_ioq_pool *pool);
void lw_ioq_pool_submit(struct lw_ioq_pool *pool, struct lw_ioq_op *op);
struct lw_ioq_op *lw_ioq_pool_reap(struct lw_ioq_pool *pool, bool wait);
/* The ops that have not begun. */
struct lw_ioq_list lw_ioq_pool_take_back(struct lw_ioq_pool *pool);
/* From now on no call but close is made any more: ops that have not begun come back undone. */
void lw_ioq_pool_cancel(struct lw_ioq_pool *pool);
/* It may grow to THREADS, unless it is fixed. */
void lw_ioq_pool_allow(struct lw_ioq_pool *pool, unsigned threads);
/* As of the last reap: no lock is taken. */
int64_t lw_ioq_pool_mean(const struct lw_ioq_pool *pool);
uint64_t lw_ioq_pool_outstanding(const struct lw_ioq_pool *pool);
void lw_ioq_pool_cost(const struct lw_ioq_pool *pool, struct lw_ioq_cost *cost, unsigned *threads);

/* --- ring --- */

struct lw_ioq_ring;

/* 0 or -errno. The caller is the owner from now on. */
int lw_ioq_ring_create(unsigned depth, unsigned workers, struct lw_ioq_ring **out);
/* Nothing may be outstanding. */
void lw_ioq_ring_destroy(struct lw_ioq_ring *ring);
void lw_ioq_ring_abandon(struct lw_ioq_ring *ring);
void lw_ioq_ring_submit(struct lw_ioq_ring *ring, struct lw_ioq_op *op);
struct lw_ioq_op *lw_ioq_ring_reap(struct lw_ioq_ring *ring, bool wait);
/* 0, or the -errno that it broke with. It is still reaped, for what it had begun; what it had not begun must be taken back. */
int lw_ioq_ring_broken(const struct lw_ioq_ring *ring);
/* The ops that have not begun. */
struct lw_ioq_list lw_ioq_ring_take_back(struct lw_ioq_ring *ring);
/* What the kernel has not been told of comes back undone, but for close. */
void lw_ioq_ring_cancel(struct lw_ioq_ring *ring);
uint64_t lw_ioq_ring_outstanding(const struct lw_ioq_ring *ring);
void lw_ioq_ring_cost(const struct lw_ioq_ring *ring, struct lw_ioq_cost *cost);

#endif
