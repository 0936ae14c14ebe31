/* SPDX-License-Identifier: MIT */
/*
 * pace: how many threads should make blocking system calls at the same time?
 *
 * As many as there are cores while calls are answered from memory, up to LW_PACE_MOST while they wait for a disk or a network. What the
 * callers report is judged every LW_PACE_INTERVAL, by two numbers of that interval:
 *
 *     wait    time per call that was spent neither running nor waiting for a core
 *     rate    calls per second
 *
 *     wait > 4 us                             eight times as many; judged after the next two intervals
 *     wait < 1 us                             half as many
 *     more threads, but rate not 1.1 times    back to what it was, and no growth for the next 32 intervals
 *
 * Measured on two virtual cores, ext4, 1,000,000 entries (bench/scan.sh). A warm call takes 0.6 to 2 us and waits 0.0; the same calls
 * take 4 to 40 us each when neighbours or 64 threads of our own want the cores, so their duration tells nothing, and the time that
 * the scheduler lets a thread queue (/proc/thread-self/schedstat) is taken off. A disk that answers in 80 us makes calls wait 5 to 8 us on average, for
 * inodes come by the block; 0.5 ms per request make it 50 and more. 4 us is also what a host leaves of 2 us calls when it takes two
 * thirds of the time for others, which nobody tells the guest. Growth by eight, because each step costs three intervals: 2, 16, 64 are
 * 16 ms, of the 700 ms that 64 threads need for 40,000 entries where each request takes 0.5 ms. Three, because threads that have just begun report when a first
 * directory is done: judged at once, growth seemed not to pay, and was held back for 32 intervals. RATE, because more threads on one spindle can be slower.
 *
 * Threads: note and wanted from any; who finds the interval over judges, the others go on.
 */
#ifndef LW_PACE_H
#define LW_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum { LW_PACE_MOST = 64, LW_PACE_INTERVAL = 4 * 1000 * 1000 };

struct lw_pace {
	unsigned low, high;		/* constant */
	_Atomic unsigned wanted;
	_Atomic uint64_t calls, waited_ns;	/* reported so far */
	_Atomic int64_t due;		/* monotonic; INT64_MAX while somebody judges */
	/* The judge's, handed on by DUE. */
	int64_t judged_ns;
	uint64_t calls_seen, waited_seen_ns;
	double rate;			/* of the interval before the last growth */
	unsigned before;		/* threads before the last growth, 0: it has been judged */
	unsigned hold;			/* intervals without growth */
	unsigned grace;			/* intervals until the last growth can be judged */
};

/** What an interval was like. */
struct lw_pace_interval {
	uint64_t calls, waited_ns;	/* of all threads together */
	int64_t elapsed_ns;
};

/** Between LOW and HIGH threads, LOW at first. */
void lw_pace_init(struct lw_pace *pace, unsigned low, unsigned high);

/** CALLS system calls have waited for WAITED_NS, until NOW_NS (monotonic). True: the number wanted has changed. */
bool lw_pace_note(struct lw_pace *pace, uint64_t calls, int64_t waited_ns, int64_t now_ns);

/** How many threads there should be. */
unsigned lw_pace_wanted(const struct lw_pace *pace);

/** The rule: what is wanted after INTERVAL. For one thread at a time. */
unsigned lw_pace_judge(struct lw_pace *pace, const struct lw_pace_interval *interval);

/** A thread's waits: what its wall clock says beyond its CPU time and its time in the scheduler's queues. */
struct lw_pace_thread {
	int schedstat;			/* a descriptor, -1: there is none, and queueing counts as waiting */
	int64_t not_waited_ns;		/* CPU time and queueing when last asked */
	int64_t asked_ns;
};
/** Of the calling thread; ask from it only. */
void lw_pace_thread_begin(struct lw_pace_thread *thread);
void lw_pace_thread_end(struct lw_pace_thread *thread);
/** ns waited since the last call or lw_pace_thread_begin(); NOW_NS monotonic. */
int64_t lw_pace_thread_waited(struct lw_pace_thread *thread, int64_t now_ns);

/** Cores that this process may run on, at least 1. */
unsigned lw_cores(void);

#endif
