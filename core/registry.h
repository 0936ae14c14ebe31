/* SPDX-License-Identifier: MIT */
/*
 * registry: the current snapshot, and how it is replaced while others read it.
 *
 * A snapshot is an immutable set of open indexes, newest first; behind them an artifact (artifact.h), if there is one. Readers bracket their use:
 *
 *     const struct lw_snapshot *s = lw_registry_enter(registry);
 *     ... s->index[i] ...                       pointers into s are good until:
 *     lw_registry_exit(registry, s);            on the same thread
 *
 * A writer publishes a new snapshot; the old one is destroyed by whoever next publishes, or lets go of what was held, after its last reader has left.
 *
 * Nobody waits for anybody: a reader needs a bounded number of steps whatever writers do, and writes only to a line of its own; a writer never waits for
 * readers (writers wait for each other). Enter and exit nest in any order. What is kept for long, or let go by another thread, is *held* instead: that
 * is counted, and costs a shared line.
 *
 * Snapshots share indexes: an index may be part of several, and is closed with the last of them. So a small delta is put in front of a large base by
 * publishing { delta, base }, replaced by { newer delta, base }, and folded in by { new base }; each reader sees one of these and never a mixture.
 *
 * The writer's barrier is membarrier(2), asked for when a snapshot that may have readers is first replaced: a program that publishes once never calls it.
 * Where it is forbidden (which may happen at any time: filters come when they like) readers pay a locked instruction each, from then on.
 */
#ifndef LW_REGISTRY_H
#define LW_REGISTRY_H

#include "index.h"

struct lw_snapshot {
	unsigned count;
	lw_index *const *index;
	uint64_t generation;	/* 1, 2, ... in the order of publication */
};

/** The artifact in SNAPSHOT, which is relative as no other index in it, or NULL. */
static inline lw_index *lw_snapshot_artifact(const struct lw_snapshot *snapshot)
{
	lw_index *last = snapshot && snapshot->count ? snapshot->index[snapshot->count - 1] : NULL;
	return last && lw_index_is_relative(last) ? last : NULL;
}

/**
 * Index I in the order in which it is believed: newest first. The artifact comes last, where stamps decide (what was learnt later has some, it
 * has none), and first when it is the TRUTH for what lies below its roots.
 */
static inline lw_index *lw_snapshot_at(const struct lw_snapshot *snapshot, unsigned i, bool truth)
{
	if (!truth || !lw_snapshot_artifact(snapshot))
		return snapshot->index[i];
	return snapshot->index[i ? i - 1 : snapshot->count - 1];
}

typedef struct lw_registry lw_registry;

/** With an empty snapshot of generation 1 current. NULL without memory. */
lw_registry *lw_registry_create(void);
/** No reader may be inside, nothing held (but by threads that a fork has left behind). */
void lw_registry_destroy(lw_registry *registry);

/** The current snapshot. Beyond LW_SLOTS (slots.h) of them at once in one thread, or without memory, it is held instead, which takes a lock. */
const struct lw_snapshot *lw_registry_enter(lw_registry *registry);
/** By the thread that entered. */
void lw_registry_exit(lw_registry *registry, const struct lw_snapshot *snapshot);

/** The current snapshot for as long as one likes: any thread may let it go. Takes a lock. */
const struct lw_snapshot *lw_registry_hold(lw_registry *registry);
/** Hold SNAPSHOT, which the caller has entered or holds; it must be let go once more. */
void lw_registry_hold_on(lw_registry *registry, const struct lw_snapshot *snapshot);
/** Let go. What nobody reads any more is destroyed, if this was the last hold of a snapshot that was replaced. */
void lw_registry_unhold(lw_registry *registry, const struct lw_snapshot *snapshot);

/**
 * Publish COUNT indexes; takes the array (malloc'ed; NULL if COUNT is 0) and ownership of those indexes that are in no living snapshot yet. Those of the current
 * snapshot live, and those of a snapshot that the caller has entered or holds. What is left out is closed with the last snapshot that has it.
 * 0 or -ENOMEM (nothing taken).
 */
int lw_registry_publish(lw_registry *registry, lw_index **index, unsigned count);

struct lw_registry_stats {
	uint64_t retired;	/* snapshots that were replaced and are not destroyed yet */
	bool fenced;		/* readers pay for the barrier, as membarrier(2) is not to be had */
};
void lw_registry_stats(lw_registry *registry, struct lw_registry_stats *stats);

/*
 * fork: call around it (prepare in the parent, then both sides), so that no lock is copied while held. The child keeps what the forking thread has
 * entered; what other threads had entered can be destroyed there, what was held stays.
 */
void lw_registry_fork_prepare(lw_registry *registry);
void lw_registry_fork_done(lw_registry *registry, bool child);

#endif
