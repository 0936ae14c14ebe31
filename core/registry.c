/* SPDX-License-Identifier: MIT */
/*
 * registry: readers say in a slot of their own what they read (slots.h), writers look there before they free.
 *
 *     reader                                      writer (holds the lock)
 *     P  p = current
 *     S  slot = p                                 X  old = exchange(current, new)
 *     c  compiler barrier                         B  membarrier: every running thread executes a full barrier
 *     L  current == p?  no: go slow               N  look at every slot
 *        reads *p                                 H  then at the holds
 *     E  slot = NULL                              F  free what was replaced, and is in no slot and not held
 *
 * What is promised, and by which pair:
 *
 * 1. Who gets p sees what was written to it before it was published: L (acquire) pairs with X.
 * 2. Who passed L before X is seen by N: B pairs with c. Wherever B finds the reader, S and L are not both on the wrong side of it:
 *
 *        S L | X B N      S was executed before the barrier that B put into this thread: N finds p
 *        S | X B N  L     N finds p as well, needlessly: L fails
 *        X B N | S L      L fails, or P has read the new one
 *        L ~~ S             (S still in the store buffer when N looks: what B is for, and what the models' control without B finds)
 *
 *    B came after X, so what N does not find for one retired snapshot nobody can get any more: later looks at the slots need no barrier.
 * 3. What the reader read was read before it is freed: E (release) pairs with N (acquire). S is a release as well: N may find the *next* use of the slot.
 * 4. Who turns a slot into a hold is never unseen in between: the count goes up before E, and N looks at slots before H looks at counts.
 *    The hold's end (release) pairs with H (acquire), as 3.
 * 5. A slot that says ANYTHING protects whatever its reader is about to find in this registry; nothing is freed while N finds one. So a reader whom writers
 *    have overtaken (L failed) does not try again: S' slot = ANYTHING, L' p = current, slot = p; as many steps as there are letters.
 *    S', L', X and N are seq_cst: of S' before L' and X before N one is first, B or no B. That is also the way without membarrier:
 * 6. Where B fails, readers are told: `current` becomes NULL for good, which no P mistakes for a snapshot, and `fenced` takes its place, for slow readers
 *    only. Who is still on the fast way at that moment may hold, unseen, the snapshot that X had put there or the one before it. These two are destroyed with the
 *    registry. FENCED is written before the NULL, and both are seq_cst: who finds NULL finds a snapshot.
 *
 * A pointer may come back as another snapshot's (P, freed, allocated and published again, L agrees): it is the current one then, and S protects it.
 *
 * The first snapshot lies in the registry and is never freed, so replacing it needs no barrier: most programs publish once.
 */
#include "registry.h"

#include "slots.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* An index and how many snapshots have it. */
struct owned {
	lw_index *index;
	unsigned snapshots;		/* registry->lock */
};

struct held {
	struct lw_snapshot snapshot;	/* first: what readers see */
	lw_index **index;		/* snapshot.index */
	struct held *next;		/* retired before: registry->lock */
	_Atomic unsigned holds;
	bool unseen;			/* readers may be inside that no slot tells of: registry->lock */
	bool in_use;			/* while slots are looked at: registry->lock */
	struct owned *owned[];		/* as many as indexes: registry->lock */
};

struct lw_registry {
	_Alignas(64) _Atomic(struct held *) current;	/* NULL: see FENCED */
	_Atomic(struct held *) fenced;			/* NULL while CURRENT is not */
	_Alignas(64) pthread_mutex_t lock;		/* who writes the two above */
	struct held *newest;				/* lock; the current one */
	struct held *retired;				/* lock; newest first */
	bool forked;					/* lock; holds may belong to nobody */
	struct held first;
};

/* What the controls of the race test replace. E: pairs with N. */
#ifndef LW_REGISTRY_LEAVE
#define LW_REGISTRY_LEAVE(slot) atomic_store_explicit(slot, NULL, memory_order_release)
#endif
#ifndef LW_REGISTRY_IN_USE
#define LW_REGISTRY_IN_USE(held) ((held)->in_use)
#endif

/* --- reading --- */

/* Guarantee 5. No snapshot has an odd address. */
static const void *anything(const lw_registry *registry)
{
	return (const char *)registry + 1;
}

static struct held *newest(const lw_registry *registry)
{
	struct held *held = atomic_load_explicit(&registry->current, memory_order_seq_cst);
	return held ? held : atomic_load_explicit(&registry->fenced, memory_order_seq_cst);
}

static _Atomic(const void *) *find_slot(struct lw_slots *slots, const void *content)
{
	for (unsigned i = 0; i < LW_SLOTS; i++)
		if (atomic_load_explicit(&slots->slot[i], memory_order_relaxed) == content)
			return &slots->slot[i];
	return NULL;
}

static __attribute__((noinline)) const struct lw_snapshot *enter_slowly(lw_registry *registry)
{
	struct lw_slots *mine = lw_slots_of_thread();
	_Atomic(const void *) *slot = mine ? find_slot(mine, NULL) : NULL;
	if (!slot)
		return lw_registry_hold(registry);
	/* S', pairs with N. An exchange, since a plain seq_cst store is not one barrier more for what follows. */
	atomic_exchange_explicit(slot, anything(registry), memory_order_seq_cst);
	struct held *held = newest(registry);
	atomic_store_explicit(slot, held, memory_order_release);
	return &held->snapshot;
}

const struct lw_snapshot *lw_registry_enter(lw_registry *registry)
{
	struct lw_slots *mine = lw_slots_mine;
	if (!mine || atomic_load_explicit(&mine->slot[0], memory_order_relaxed))
		return enter_slowly(registry);
	struct held *held = atomic_load_explicit(&registry->current, memory_order_relaxed);		/* P: believed only if L agrees */
	if (!held)
		return enter_slowly(registry);
	atomic_store_explicit(&mine->slot[0], held, memory_order_release);				/* S: pairs with N */
	atomic_signal_fence(memory_order_seq_cst);							/* c: pairs with B */
	if (held != atomic_load_explicit(&registry->current, memory_order_acquire)) {			/* L: pairs with X */
		atomic_store_explicit(&mine->slot[0], NULL, memory_order_release);			/* as E: N may find it instead */
		return enter_slowly(registry);
	}
	return &held->snapshot;
}

static __attribute__((noinline)) void exit_slowly(lw_registry *registry, const struct lw_snapshot *snapshot)
{
	_Atomic(const void *) *slot = lw_slots_mine ? find_slot(lw_slots_mine, snapshot) : NULL;
	if (slot)
		LW_REGISTRY_LEAVE(slot);
	else
		lw_registry_unhold(registry, snapshot);
}

void lw_registry_exit(lw_registry *registry, const struct lw_snapshot *snapshot)
{
	struct lw_slots *mine = lw_slots_mine;
	if (mine && atomic_load_explicit(&mine->slot[0], memory_order_relaxed) == snapshot)
		LW_REGISTRY_LEAVE(&mine->slot[0]);
	else
		exit_slowly(registry, snapshot);
}

/* --- what is not used any more: all of it under the lock --- */

static void mark(lw_registry *registry, const void *content)
{
	for (struct held *held = registry->retired; held; held = held->next)
		held->in_use |= held == content;
}

/* N and H. Whether anything may be freed at all. */
static bool look(lw_registry *registry)
{
	for (struct held *held = registry->retired; held; held = held->next)
		held->in_use = held->unseen;
	for (struct lw_slots *slots = lw_slots_first(); slots; slots = slots->next) {
		for (unsigned i = 0; i < LW_SLOTS; i++) {
			const void *content = atomic_load_explicit(&slots->slot[i], memory_order_seq_cst);	/* N: pairs with E, S and S' */
			if (content == anything(registry))
				return false;
			if (content)
				mark(registry, content);
		}
	}
	for (struct held *held = registry->retired; held; held = held->next)
		held->in_use |= atomic_load_explicit(&held->holds, memory_order_acquire) > 0;			/* H: pairs with unhold */
	return true;
}

/* HELD keeps those of its indexes that no other snapshot has. */
static void disown(struct held *held)
{
	for (unsigned i = 0; i < held->snapshot.count; i++)
		if (--held->owned[i]->snapshots)
			held->owned[i] = NULL;
}

/* What can be destroyed, out of the list. */
static struct held *collect(lw_registry *registry)
{
	struct held *unused = NULL;
	if (!registry->retired || !look(registry))
		return NULL;
	for (struct held **at = &registry->retired; *at;) {
		struct held *held = *at;
		if (LW_REGISTRY_IN_USE(held)) {
			at = &held->next;
			continue;
		}
		*at = held->next;
		disown(held);
		held->next = unused;
		unused = held;
	}
	return unused;
}

/* Closing files: outside of the lock. */
static void destroy_all(struct held *held)
{
	while (held) {
		struct held *next = held->next;
		for (unsigned i = 0; i < held->snapshot.count; i++) {
			if (held->owned[i])
				lw_index_close(held->owned[i]->index);
			free(held->owned[i]);
		}
		free(held->index);
		free(held);
		held = next;
	}
}

/* --- holding --- */

const struct lw_snapshot *lw_registry_hold(lw_registry *registry)
{
	pthread_mutex_lock(&registry->lock);
	struct held *held = registry->newest;	/* cannot be retired while we have the lock */
	atomic_fetch_add_explicit(&held->holds, 1, memory_order_relaxed);
	pthread_mutex_unlock(&registry->lock);
	return &held->snapshot;
}

void lw_registry_hold_on(lw_registry *registry, const struct lw_snapshot *snapshot)
{
	/* Relaxed: whoever may free it sees the caller's slot or hold, whose end (release) comes after this. */
	atomic_fetch_add_explicit(&((struct held *)snapshot)->holds, 1, memory_order_relaxed);
}

void lw_registry_unhold(lw_registry *registry, const struct lw_snapshot *snapshot)
{
	struct held *held = (struct held *)snapshot;
	/* release: pairs with H. HELD may be gone right after. */
	unsigned before = atomic_fetch_sub_explicit(&held->holds, 1, memory_order_release);
	assert(before > 0);
	if (before > 1)
		return;
	pthread_mutex_lock(&registry->lock);
	struct held *unused = held == registry->newest ? NULL : collect(registry);
	pthread_mutex_unlock(&registry->lock);
	destroy_all(unused);
}

/* --- writing --- */

static struct owned *find_owned(const struct held *held, const lw_index *index)
{
	for (unsigned i = 0; i < held->snapshot.count; i++)
		if (held->owned[i] && held->index[i] == index)
			return held->owned[i];
	return NULL;
}

/* That of the snapshot that has INDEX already, or a new one. A retired snapshot keeps all of its own until it leaves the list. */
static struct owned *own(const lw_registry *registry, const lw_index *index, const struct held *new)
{
	struct owned *owned = find_owned(new, index);
	if (!owned)
		owned = find_owned(registry->newest, index);
	for (struct held *held = registry->retired; held && !owned; held = held->next)
		owned = find_owned(held, index);
	return owned ? owned : calloc(1, sizeof(*owned));
}

static void discard(struct held *held)
{
	for (unsigned i = 0; i < held->snapshot.count; i++)
		if (held->owned[i] && --held->owned[i]->snapshots == 0)
			free(held->owned[i]);
	free(held);
}

static struct held *held_create(const lw_registry *registry, lw_index **index, unsigned count)
{
	struct held *held = calloc(1, sizeof(*held) + count * sizeof(*held->owned));
	if (!held)
		return NULL;
	held->snapshot = (struct lw_snapshot){ .count = count, .index = index, .generation = registry->newest->snapshot.generation + 1 };
	held->index = index;
	for (unsigned i = 0; i < count; i++) {
		held->owned[i] = own(registry, index[i], held);
		if (!held->owned[i]) {
			discard(held);
			return NULL;
		}
		held->owned[i]->index = index[i];
		held->owned[i]->snapshots++;
	}
	return held;
}

/* Guarantee 6: NEW is there already, and B has failed. */
static void give_up_barrier(lw_registry *registry, struct held *old, struct held *new)
{
	old->unseen = new->unseen = true;
	atomic_store_explicit(&registry->fenced, new, memory_order_seq_cst);	/* before the NULL that sends readers here */
	atomic_store_explicit(&registry->current, NULL, memory_order_seq_cst);
}

static void replace(lw_registry *registry, struct held *new)
{
	struct held *old = registry->newest;
	registry->newest = new;
	if (atomic_load_explicit(&registry->fenced, memory_order_relaxed)) {
		atomic_exchange_explicit(&registry->fenced, new, memory_order_seq_cst);		/* X: pairs with L' */
	} else {
		atomic_exchange_explicit(&registry->current, new, memory_order_seq_cst);	/* X: pairs with L, and L' */
		if (old != &registry->first && lw_slots_barrier())				/* B: pairs with c */
			give_up_barrier(registry, old, new);
	}
	if (old != &registry->first) {
		old->next = registry->retired;
		registry->retired = old;
	}
}

int lw_registry_publish(lw_registry *registry, lw_index **index, unsigned count)
{
	pthread_mutex_lock(&registry->lock);
	struct held *held = held_create(registry, index, count), *unused = NULL;
	if (held) {
		replace(registry, held);
		unused = collect(registry);
	}
	pthread_mutex_unlock(&registry->lock);
	destroy_all(unused);
	return held ? 0 : -ENOMEM;
}

void lw_registry_stats(lw_registry *registry, struct lw_registry_stats *stats)
{
	*stats = (struct lw_registry_stats){ 0 };
	pthread_mutex_lock(&registry->lock);
	for (struct held *held = registry->retired; held; held = held->next)
		stats->retired++;
	stats->fenced = atomic_load_explicit(&registry->fenced, memory_order_relaxed) != NULL;
	pthread_mutex_unlock(&registry->lock);
}

/* --- life --- */

lw_registry *lw_registry_create(void)
{
	lw_registry *registry = aligned_alloc(_Alignof(lw_registry), sizeof(*registry));
	if (!registry)
		return NULL;
	memset(registry, 0, sizeof(*registry));
	registry->first.snapshot.generation = 1;
	registry->newest = &registry->first;
	atomic_init(&registry->current, &registry->first);
	pthread_mutex_init(&registry->lock, NULL);
	return registry;
}

static void retire_all(lw_registry *registry)
{
	if (registry->newest == &registry->first)
		return;
	registry->newest->next = registry->retired;
	registry->retired = registry->newest;
}

void lw_registry_destroy(lw_registry *registry)
{
	if (!registry)
		return;
	retire_all(registry);
	for (struct held *held = registry->retired; held; held = held->next) {
		assert(registry->forked || atomic_load_explicit(&held->holds, memory_order_relaxed) == 0);
		disown(held);
	}
	destroy_all(registry->retired);
	pthread_mutex_destroy(&registry->lock);
	free(registry);
}

void lw_registry_fork_prepare(lw_registry *registry)
{
	pthread_mutex_lock(&registry->lock);
}

void lw_registry_fork_done(lw_registry *registry, bool child)
{
	if (child) {
		lw_slots_forked();
		registry->forked = true;
	}
	pthread_mutex_unlock(&registry->lock);
}
