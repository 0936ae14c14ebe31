/* SPDX-License-Identifier: MIT */
/*
 * registry: snapshots are counted by their readers; `current` and all counts belong to one mutex.
 *
 *     enter:    lock, take current, count up,  unlock
 *     exit:     lock, count down,              unlock, destroy it if it is neither current nor in use
 *     publish:  lock, replace current,         unlock, destroy the old one if it is not in use
 *
 * A snapshot is destroyed by exactly one thread: whoever finds it unused *and* replaced. Both facts change under the
 * mutex only, and a replaced snapshot cannot be entered again. Closing files happens outside of it.
 *
 * fork: the counts of threads that do not exist in the child stay up there, so what they held is never destroyed in the
 * child. That is bounded by what was current or in use at the moment of the fork, and the pages are shared.
 */
#include "registry.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct held {
	struct lw_snapshot snapshot;	/* first: what readers see */
	lw_index **owned;		/* snapshot.index, to be closed */
	unsigned readers;		/* registry->lock */
};

struct lw_registry {
	pthread_mutex_t lock;
	struct held *current;		/* lock; never NULL */
};

/* What the race test's control replaces. */
#ifndef LW_REGISTRY_IN_USE
#define LW_REGISTRY_IN_USE(held) ((held)->readers > 0)
#endif

static struct held *held_create(lw_index **index, unsigned count)
{
	struct held *held = calloc(1, sizeof(*held));
	if (!held)
		return NULL;
	held->snapshot.count = count;
	held->snapshot.index = index;
	held->owned = index;
	return held;
}

static void held_destroy(struct held *held)
{
	for (unsigned i = 0; i < held->snapshot.count; i++)
		lw_index_close(held->owned[i]);
	free(held->owned);
	free(held);
}

lw_registry *lw_registry_create(void)
{
	lw_registry *registry = calloc(1, sizeof(*registry));
	if (!registry)
		return NULL;
	registry->current = held_create(NULL, 0);
	if (!registry->current) {
		free(registry);
		return NULL;
	}
	registry->current->snapshot.generation = 1;
	pthread_mutex_init(&registry->lock, NULL);
	return registry;
}

void lw_registry_destroy(lw_registry *registry)
{
	if (!registry)
		return;
	assert(registry->current->readers == 0);
	held_destroy(registry->current);
	pthread_mutex_destroy(&registry->lock);
	free(registry);
}

const struct lw_snapshot *lw_registry_enter(lw_registry *registry)
{
	pthread_mutex_lock(&registry->lock);
	struct held *held = registry->current;
	held->readers++;
	pthread_mutex_unlock(&registry->lock);
	return &held->snapshot;
}

void lw_registry_exit(lw_registry *registry, const struct lw_snapshot *snapshot)
{
	struct held *held = (struct held *)snapshot;

	pthread_mutex_lock(&registry->lock);
	assert(held->readers > 0);
	held->readers--;
	bool unused = held != registry->current && !LW_REGISTRY_IN_USE(held);
	pthread_mutex_unlock(&registry->lock);
	if (unused)
		held_destroy(held);
}

int lw_registry_publish(lw_registry *registry, lw_index **index, unsigned count)
{
	struct held *held = held_create(index, count);
	if (!held)
		return -ENOMEM;

	pthread_mutex_lock(&registry->lock);
	struct held *old = registry->current;
	held->snapshot.generation = old->snapshot.generation + 1;
	registry->current = held;
	bool unused = !LW_REGISTRY_IN_USE(old);
	pthread_mutex_unlock(&registry->lock);
	if (unused)
		held_destroy(old);
	return 0;
}

void lw_registry_fork_prepare(lw_registry *registry)
{
	pthread_mutex_lock(&registry->lock);
}

void lw_registry_fork_done(lw_registry *registry, bool child)
{
	pthread_mutex_unlock(&registry->lock);
}
