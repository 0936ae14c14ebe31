/* SPDX-License-Identifier: MIT */
/*
 * registry: the current snapshot, and how it is replaced while others read it.
 *
 * A snapshot is an immutable set of open indexes, newest first. Readers bracket their use:
 *
 *     const struct lw_snapshot *s = lw_registry_enter(registry);
 *     ... s->index[i] ...                       pointers into s are good until:
 *     lw_registry_exit(registry, s);
 *
 * A writer publishes a new snapshot; the old one is destroyed when its last reader has left (its grace period).
 * Readers never block on the writer and the writer never waits for readers. Readers may nest; enter and exit may happen on different threads.
 *
 * Protocol of this version: readers count themselves in the snapshot they entered, validated against the current pointer under a short
 * mutex that protects `current` and the counts; nothing else is done while holding it.
 */
#ifndef LW_REGISTRY_H
#define LW_REGISTRY_H

#include "index.h"

struct lw_snapshot {
	unsigned count;
	lw_index *const *index;
	uint64_t generation;	/* 1, 2, ... in the order of publication */
};

typedef struct lw_registry lw_registry;

/** With an empty snapshot of generation 1 current. NULL without memory. */
lw_registry *lw_registry_create(void);
/** No reader may be inside. */
void lw_registry_destroy(lw_registry *registry);

const struct lw_snapshot *lw_registry_enter(lw_registry *registry);
void lw_registry_exit(lw_registry *registry, const struct lw_snapshot *snapshot);

/** Publish COUNT indexes; takes ownership of them and of the array (malloc'ed; NULL if COUNT is 0). 0 or -ENOMEM (nothing taken). */
int lw_registry_publish(lw_registry *registry, lw_index **index, unsigned count);

/* fork: call around it (prepare in the parent, then both sides), so that no lock is copied while held. */
void lw_registry_fork_prepare(lw_registry *registry);
void lw_registry_fork_done(lw_registry *registry, bool child);

#endif
