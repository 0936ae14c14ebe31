/* SPDX-License-Identifier: MIT */
/*
 * view: a path list (sys.path, a package's __path__) over the facts of dirs.h.
 *
 * Short lists are searched entry by entry. A list of more than LW_VIEW_LINEAR entries gets a table of the names of all its
 * directories, NAME -> first entry that holds it in any form, so that a hit in the 1000th entry costs about
 * what a hit in the first one costs. The table comes from an index, where one was stored for the same list, or is merged in memory.
 *
 * What the table rests on is the token (stamp, or "missing") of every entry. In `stat` all of them are compared in one batch, at most once
 * per window: a hit may rest on a comparison that old, its own file never does; a miss and an answer that needs more than one entry
 * (namespace portions) always compare anew. In `watch` what somebody looks after is as of now; the window is for the rest. In `frozen` the table of an index needs no comparison until lw_dirs_invalidate().
 *
 * Threads: none; the owner (session.h) holds its mutex.
 */
#ifndef LW_VIEW_H
#define LW_VIEW_H

#include "resolve.h"

enum { LW_VIEW_LINEAR = 32 };

/** One entry of a path list. PATH is absolute, without trailing slashes; NULL: an entry that is not ours to search. */
struct lw_path_entry {
	const char *path;
	uint32_t len;
};

typedef struct lw_view lw_view;

/**
 * A view of COUNT entries; paths are copied. With HOOKS somebody else's path hooks may claim entries that are no directories: those
 * are then reported as LW_HIT_FOREIGN even when nothing is there. NULL without memory or beyond 65,535 entries.
 */
lw_view *lw_view_create(const struct lw_path_entry *entries, uint32_t count, bool hooks);
void lw_view_destroy(lw_view *view);

/**
 * Find NAME from entry START on. HIT->entry says where; kind LW_HIT_NONE: nowhere (compared just now); LW_HIT_PORTION and
 * LW_HIT_FOREIGN: ask again from HIT->entry + 1 if what is there does not settle the matter; such a call rests on the comparison that the one
 * with START 0 has made. WINDOW_NS as above.
 */
int lw_view_resolve(lw_view *view, struct lw_dirs *dirs, int64_t window_ns, uint32_t start, const char *name, size_t len, struct lw_hit *hit);

/** Whether a lookup would need no system call for its directories right now. */
bool lw_view_settled(const lw_view *view, const struct lw_dirs *dirs);

/** After lw_dirs_clear(): forget what points into it. */
void lw_view_forget(lw_view *view);

/** The end of the window, now. */
void lw_view_expire(lw_view *view);

/** If VIEW has a table that no index holds and that may be stored (nothing racy), add it to BUILD. 0 or -errno. */
struct lw_build;
int lw_view_learn(const lw_view *view, struct lw_build *build);
/** Whether lw_view_learn() would add something. */
bool lw_view_unlearnt(const lw_view *view);
/** It has been stored. */
void lw_view_learnt(lw_view *view);

/** Key of a path list in an index; zero without memory. */
struct lw_hash128 lw_view_key(const struct lw_path_entry *entries, uint32_t count, bool hooks);

#endif
