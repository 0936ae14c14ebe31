/* SPDX-License-Identifier: MIT */
/*
 * slots: see slots.h. The list of records only grows, at its head, so it is walked without a lock; there is no lock that a fork could copy while it is held.
 */
#include "slots.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct lw_slots) == LW_SLOTS_ALIGN, "a record is one pair of lines");

_Thread_local struct lw_slots *lw_slots_mine LW_SLOTS_TLS;

static _Atomic(struct lw_slots *) first;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;	/* after ONCE */
static bool have_key;		/* after ONCE */

static void give_back(struct lw_slots *slots)
{
	/* release: what the thread read was read before. Pairs with the writer's loads of slots. */
	for (unsigned i = 0; i < LW_SLOTS; i++)
		atomic_store_explicit(&slots->slot[i], NULL, memory_order_release);
	/* release: the slots were emptied before. Pairs with the exchange in take_old(). */
	atomic_store_explicit(&slots->used, false, memory_order_release);
}

/* A destructor that runs after this one may read as well: it takes a record anew, and this is called once more. */
static void thread_ends(void *slots)
{
	lw_slots_mine = NULL;
	give_back(slots);
}

static void create_key(void)
{
	have_key = pthread_key_create(&key, thread_ends) == 0;
}

static struct lw_slots *take_old(void)
{
	for (struct lw_slots *slots = lw_slots_first(); slots; slots = slots->next) {
		/* acquire: after its last owner's stores. Looked at first, since most are in use and an exchange takes the line away from others. */
		if (!atomic_load_explicit(&slots->used, memory_order_relaxed) && !atomic_exchange_explicit(&slots->used, true, memory_order_acquire))
			return slots;
	}
	return NULL;
}

static struct lw_slots *take_new(void)
{
	struct lw_slots *slots = aligned_alloc(LW_SLOTS_ALIGN, sizeof(*slots));
	if (!slots)
		return NULL;
	memset(slots, 0, sizeof(*slots));
	atomic_store_explicit(&slots->used, true, memory_order_relaxed);
	slots->next = atomic_load_explicit(&first, memory_order_relaxed);
	/*
	 * seq_cst: the record must be in the list before this thread's first load of a current snapshot, as its slots must be filled. Pairs with
	 * lw_slots_first() in the writer, after its exchange of that pointer.
	 */
	while (!atomic_compare_exchange_weak_explicit(&first, &slots->next, slots, memory_order_seq_cst, memory_order_relaxed))
		;
	return slots;
}

struct lw_slots *lw_slots_of_thread(void)
{
	if (lw_slots_mine)
		return lw_slots_mine;
	pthread_once(&once, create_key);
	if (!have_key)
		return NULL;
	struct lw_slots *slots = take_old();
	if (!slots)
		slots = take_new();
	if (slots && pthread_setspecific(key, slots)) {
		give_back(slots);
		slots = NULL;
	}
	lw_slots_mine = slots;
	return slots;
}

struct lw_slots *lw_slots_first(void)
{
	/* seq_cst: see take_new(). */
	return atomic_load_explicit(&first, memory_order_seq_cst);
}

void lw_slots_forked(void)
{
	for (struct lw_slots *slots = lw_slots_first(); slots; slots = slots->next)
		if (slots != lw_slots_mine)
			give_back(slots);
}

static int membarrier(int command)
{
	return syscall(__NR_membarrier, command, 0, 0) ? -errno : 0;
}

/* A process is registered once; whether a forked child inherits that is the kernel's business: EPERM says that it is not registered. */
int lw_slots_barrier(void)
{
	int error = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
	if (error != -EPERM)
		return error;
	error = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	return error ? error : membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}
