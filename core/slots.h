/* SPDX-License-Identifier: MIT */
/*
 * slots: where each thread says what it is reading, so that nobody frees it (hazard slots); the registry's reading side.
 *
 * A thread has one record of LW_SLOTS slots on cache lines of its own. Only the thread writes its slots (and, once it is gone, whoever takes over its
 * record); any thread may read them. NULL: not reading. Records are never freed: a thread that ends gives its own back, the next one that starts takes it.
 * There are as many as threads were reading at the same time, 128 bytes each.
 *
 * Threads are threads: interpreters, the GIL and greenlets play no part. (Two greenlets of one thread share its record, one slot each.)
 */
#ifndef LW_SLOTS_H
#define LW_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>

enum { LW_SLOTS = 8, LW_SLOTS_ALIGN = 128 };	/* one line of slots; the neighbouring line, which processors fetch with it, is not written by readers */

struct lw_slots {
	_Alignas(LW_SLOTS_ALIGN) _Atomic(const void *) slot[LW_SLOTS];
	_Alignas(LW_SLOTS_ALIGN / 2) struct lw_slots *next;	/* constant once the record is in the list */
	_Atomic bool used;					/* a thread has it */
};

/*
 * This thread's record, or NULL. A pointer, in the static TLS block where the C library lets a shared object that is loaded later have some: then reading it is
 * one instruction instead of a call: 4.2 ns for enter and exit, where 6.8 and 8.7 were measured with descriptors and with the call. All thread-local variables of
 * the object come to lie there, 48 bytes of the extension's, of a reserve of more than a thousand; musl keeps none.
 */
#ifdef __GLIBC__
#define LW_SLOTS_TLS __attribute__((tls_model("initial-exec")))
#else
#define LW_SLOTS_TLS
#endif
extern _Thread_local struct lw_slots *lw_slots_mine LW_SLOTS_TLS __attribute__((visibility("hidden")));

/** This thread's record, taken now if it has none. NULL without memory or thread-specific keys. */
struct lw_slots *lw_slots_of_thread(void);

/** All records there are, in use or not: a thread that takes one later is not missed, its slots are in a record of the list or it has not read yet. */
struct lw_slots *lw_slots_first(void);

/** In the child after fork: the records of threads that do not exist there are empty again. This thread keeps its own. */
void lw_slots_forked(void);

/**
 * Every running thread of this process executes a full memory barrier before this returns: the heavy half of an asymmetric fence, whose light half, in each
 * reader, is a compiler barrier. 0, or -errno: then NOTHING was ordered. The first call of a process registers it with the kernel, which may take some ms where
 * there are threads.
 */
int lw_slots_barrier(void);

#endif
