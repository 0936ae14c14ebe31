/* SPDX-License-Identifier: MIT */
/*
 * fresh: who says, without a look at the file system, that what was seen of it still holds.
 *
 *     lw_fresh_arm(f, path)     what is seen of PATH from here on is looked after
 *     look at PATH
 *     ...
 *     lw_fresh_check(f, ...)    true: whatever has changed since, in a system call that has returned by now, has been told to the sink; the rest holds
 *
 * Two kinds: this process's own watch (watch.h), for which it drains the queue itself, in the check; and a daemon's (client.h), which tells through shared memory.
 *
 * A check that says false says nothing about later ones. What was armed stays so unless the sink was told otherwise; LW_CHANGE_ALL and LW_CHANGE_SUBTREE end it: arm
 * again before the next look.
 *
 * Threads: none; the owner (session.h) holds its mutex. fork: the child calls lw_fresh_forked() before anything else.
 */
#ifndef LW_FRESH_H
#define LW_FRESH_H

#include "watch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lw_change_kind {
	LW_CHANGE_PATH,		/* what is at the path of HASH, a file or the names in a directory */
	LW_CHANGE_SUBTREE,	/* all that is at PATH and below */
	LW_CHANGE_ALL,		/* and what lw_fresh_dir() has given is no longer there */
};

struct lw_change {
	enum lw_change_kind kind;
	uint64_t hash;		/* lw_hash64() of the path */
	const char *path;	/* SUBTREE */
	size_t len;
};

typedef void lw_fresh_sink(void *arg, const struct lw_change *change);

/* ABOVE: it is no directory, and only as long as this is so changes are told. */
enum lw_armed { LW_ARMED_NOT, LW_ARMED, LW_ARMED_ABOVE };

struct lw_index_dir;
struct lw_entry;

struct lw_fresh_stats {
	uint64_t checks, distrusted;	/* of them, how many said false */
	uint64_t changes;		/* told to the sink */
	uint64_t refused;		/* arms that were */
	const char *by;			/* "process" or "daemon" */
	const char *backend;		/* of the watch */
	const char *why;		/* what keeps it from being trusted, with the remedy; "": nothing */
};

typedef struct lw_fresh lw_fresh;

/** What a kind is made of; each as the function of its name below. */
struct lw_fresh_ops {
	bool (*check)(lw_fresh *fresh, lw_fresh_sink *sink, void *arg);
	enum lw_armed (*arm)(lw_fresh *fresh, const char *path, size_t len);
	bool (*dir)(lw_fresh *fresh, const char *path, size_t len, struct lw_index_dir *out);	/* NULL: knows nothing */
	uint64_t (*file)(lw_fresh *fresh, const char *path, size_t len, const struct lw_index_dir *dir, const struct lw_entry *entry);	/* NULL: knows nothing */
	void (*forked)(lw_fresh *fresh);
	void (*destroy)(lw_fresh *fresh);
};

struct lw_fresh {
	const struct lw_fresh_ops *ops;
	struct lw_fresh_stats stats;
};

static inline bool lw_fresh_check(lw_fresh *fresh, lw_fresh_sink *sink, void *arg)
{
	bool holds = fresh->ops->check(fresh, sink, arg);
	fresh->stats.checks++;
	fresh->stats.distrusted += !holds;
	return holds;
}

static inline enum lw_armed lw_fresh_arm(lw_fresh *fresh, const char *path, size_t len)
{
	enum lw_armed armed = fresh->ops->arm(fresh, path, len);
	fresh->stats.refused += !armed;
	return armed;
}

/** What is known of directory PATH, as of the last check that said true, without a look. Good until LW_CHANGE_ALL is told. */
static inline bool lw_fresh_dir(lw_fresh *fresh, const char *path, size_t len, struct lw_index_dir *out)
{
	return fresh->ops->dir && fresh->ops->dir(fresh, path, len, out);
}

/** The lw_stamp() of PATH, likewise, the source that ENTRY stands for in what lw_fresh_dir() has given of its directory, DIR; 0: not known. */
static inline uint64_t lw_fresh_file(lw_fresh *fresh, const char *path, size_t len, const struct lw_index_dir *dir, const struct lw_entry *entry)
{
	return fresh->ops->file ? fresh->ops->file(fresh, path, len, dir, entry) : 0;
}

/** In the child after fork: nothing that the parent has is trusted. */
static inline void lw_fresh_forked(lw_fresh *fresh)
{
	fresh->ops->forked(fresh);
}

static inline void lw_fresh_destroy(lw_fresh *fresh)
{
	if (fresh)
		fresh->ops->destroy(fresh);
}

/** A watch of this process's own. Takes an inotify instance at the first arm, not before; where none is to be had arms are refused. NULL without memory. */
lw_fresh *lw_fresh_own(void);

#endif
