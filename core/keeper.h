/* SPDX-License-Identifier: MIT */
/*
 * keeper: an index of trees, kept up to date behind a watch.
 *
 * It is a base and a delta in front of it, both index files (index.h) in sealed memory: what attach.h hands to clients. Directories that the watch
 * tells of, and sources whose changes come under their own name, are in it; links are not followed.
 *
 *     lw_keeper_mark()    an event: what it names is out of date
 *     lw_keeper_begin()   what is marked becomes the work of
 *     lw_keeper_fold()    which looks at it again and makes a new delta; or a new base, where a subtree has gone, the delta has grown, or all is lost
 *     lw_keeper_end()     the result takes its place
 *
 * A fold arms what it finds before it reads it, so its result holds for whoever knows of all events since lw_keeper_begin().
 *
 * Threads: mark, begin, end, look from one; fold from any one other, between begin and end. Nothing that fold uses is touched by mark.
 */
#ifndef LW_KEEPER_H
#define LW_KEEPER_H

#include "hash.h"
#include "names.h"
#include "watch.h"

typedef struct lw_keeper lw_keeper;

struct lw_keeper_config {
	const struct lw_suffixes *suffixes;
	struct lw_hash128 key;
	lw_watch *watch;
	const char *const *roots;	/* absolute, no trailing slash; they live as long as the keeper */
	unsigned count;
	unsigned threads;		/* as in scan.h */
};

/** Nothing is read yet: all is marked. NULL without memory. */
lw_keeper *lw_keeper_create(const struct lw_keeper_config *config);
void lw_keeper_destroy(lw_keeper *keeper);

/** Without memory for what is named, all is marked. */
void lw_keeper_mark(lw_keeper *keeper, const struct lw_watch_event *event);
/** All is out of date. */
void lw_keeper_mark_all(lw_keeper *keeper);
/** Whether something is. */
bool lw_keeper_is_marked(const lw_keeper *keeper);

void lw_keeper_begin(lw_keeper *keeper);
/** 0 or -errno: then nothing has changed, and the work is marked again at the end. */
int lw_keeper_fold(lw_keeper *keeper);
/** Whether there is a new result: not if the fold has failed. */
bool lw_keeper_end(lw_keeper *keeper);

struct lw_keeper_stats {
	uint64_t directories, sources;	/* in base and delta; what the delta replaces counts twice. SOURCES: whose stamps are known */
	uint64_t unwatched;		/* directories that the watch refused, at the last time that all was read */
	int unwatched_error;		/* the last of these errors */
	uint64_t folds, bases;		/* that took place; of them, new bases */
	uint64_t bytes;			/* of base and delta */
	int64_t fold_ns, fold_cpu_ns;	/* what the last one took */
	int last_error;
	uint64_t marked;		/* directories and subtrees out of date, those that are being looked at included */
};
void lw_keeper_stats(const lw_keeper *keeper, struct lw_keeper_stats *stats);

/** Descriptors, the keeper's, of what there is now; -1: none. */
int lw_keeper_base(const lw_keeper *keeper);
int lw_keeper_delta(const lw_keeper *keeper);
/** Whether nothing is known at all, or all of it is out of date. */
bool lw_keeper_is_void(const lw_keeper *keeper);

#endif
