/* SPDX-License-Identifier: MIT */
/*
 * crew: threads that share a tree of work, of which each piece may bring more.
 *
 * Every thread has a stack of its own, takes the newest piece from it and puts new ones on it, so one thread goes down the tree depth first. A thread
 * without work steals the older half of another one's, which are the pieces nearest to the root: the largest. Nothing is
 * locked but one's own stack, once for each piece and once for what it brings, and a victim's; threads sleep when there is nothing to steal.
 *
 * The calling thread is number 0 and takes part; the others block all signals, and have ended on return. A system that gives fewer
 * threads gets a slower crew. With threads = 0 there are as many as cores at first, and more while calls wait (pace.h).
 */
#ifndef LW_CREW_H
#define LW_CREW_H

#include "pace.h"

#include <stddef.h>

struct lw_crew_worker;

struct lw_crew_job {
	void *arg;
	unsigned threads;	/* 0: by pace; at most LW_PACE_MOST */
	/** A thread begins: what it will find in worker->own, or NULL without memory. Called in that thread. */
	void *(*enter)(void *arg, struct lw_crew_worker *worker);
	/** PIECE is the thread's. 0, or what ends the whole run and becomes its result. */
	int (*visit)(void *arg, struct lw_crew_worker *worker, void *piece);
	/** It ends; the same thread. */
	void (*leave)(void *arg, struct lw_crew_worker *worker);
};

/** One thread, as its job sees it. */
struct lw_crew_worker {
	void *own;
	unsigned number;	/* 0: the caller of lw_crew_run() */
	uint64_t calls;		/* made so far: the job adds them, for the pace */
	int64_t aside_ns;	/* spent so far on something else than calls: so are these */
};

/** Do PIECES and all they bring. 0, the first result of visit() that was not, or -ENOMEM. *THREADS: how many there were at most. */
int lw_crew_run(const struct lw_crew_job *job, void *const *pieces, size_t count, unsigned *threads);

/** From visit(): COUNT more pieces, of which the last is done first. 0 or -ENOMEM (none was taken). */
int lw_crew_push(struct lw_crew_worker *worker, void *const *pieces, size_t count);

/** Whether the run is to end early: what is still to be reported need not be. */
bool lw_crew_stopped(const struct lw_crew_worker *worker);

/** Whether calls wait: more threads than cores are wanted. */
bool lw_crew_waits(const struct lw_crew_worker *worker);

#endif
