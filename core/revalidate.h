/* SPDX-License-Identifier: MIT */
/*
 * revalidate: is what open indexes know of directories still so? One statx for each directory; what has changed is read again and reported.
 *
 * The newest index that knows a directory speaks for it. A directory is unchanged when its stamp is, or when it is still missing, or still
 * not a directory. Read again whatever its stamp says is one whose stamp proves nothing (lw_stat_weak()), one that could not be listed, and one that
 * was seen with another user's permissions and is not open to everybody.
 *
 * Who makes the calls: a crew of threads (crew.h), which is what is fastest as long as calls do not wait, and equal to the ring when they do. With
 * LW_IOQ_RING, or with LW_IOQ_AUTO and one thread, the stats are a batch of ioq.h from the calling thread (AUTO: through the
 * ring once calls wait); what has changed is read by the crew. So only LW_IOQ_POOL, or AUTO with another number than 1, is for a user's program.
 *
 * What a link leads to is known under the link's path. Where that begins to be a directory without the link being touched, nobody notices before
 * the directory that holds the link changes.
 *
 * Measured (bench/micro/revalidate.c; 6.18, two cores, 72,000 directories, depth 6): processor time 1.05 times that of the bare loop of statx over the
 * same paths; of that the census, which is not shared among threads, is 3 %. Order matters: by hash, as records lie in an index, the same statx take 1.2 to
 * 1.5 times as long as in the order in which directories were added.
 */
#ifndef LW_REVALIDATE_H
#define LW_REVALIDATE_H

#include "ioq.h"
#include "listing.h"
#include "registry.h"

struct lw_revalidate_config {
	const struct lw_suffixes *suffixes;
	const struct lw_snapshot *snapshot;	/* entered by the caller */
	const char *const *roots;		/* absolute: only what they hold, themselves included */
	unsigned root_count;			/* 0: everything */
	enum lw_ioq_backend backend;
	unsigned threads;			/* 0: as many as cores, more while calls wait; ring: bound of the kernel's workers as well */
};

struct lw_revalidate_stats {
	uint64_t directories;	/* that were compared: unchanged + changed */
	uint64_t unchanged;
	uint64_t changed;	/* reported, of them: */
	uint64_t vanished;	/*   not there any more, or not a directory any more */
	uint64_t unreadable;	/*   there, but not to be listed */
	uint64_t racy;		/*   still racy when they were reported */
	uint64_t found;		/* new directories */
	uint64_t damaged;	/* records that could not be read, or hold no absolute path */
	uint64_t syscalls;
	int64_t wall_ns, cpu_ns;	/* CPU of the whole process */
	unsigned threads;	/* most at a time */
	const char *backend;	/* "pool" or "ring": who made most of the stats */
	char why[LW_IOQ_WHY];	/* empty, or what ioq.h said of it */
};

/** One directory. All pointers are good during the callback only, except LISTING. */
struct lw_revalidate_dir {
	const char *path;	/* absolute, terminated */
	size_t path_len;
	struct lw_stat stat;	/* 0 where there is nothing to stat */
	uint16_t flags;		/* LW_DIR_*: what it is now */
	bool racy;		/* changed again and again, or a coarse file system: do not store */
	bool found;		/* in no index: for lw_scan(). Nothing else is said of it, not even LISTING, but */
	bool linked;		/* through a link: for struct lw_scan_config */
	int error;		/* 0, or the errno that kept it from being looked at: nothing is known of it */
	struct lw_listing *listing;	/* yours: lw_listing_destroy(); NULL: missing, not a directory, not to be listed, FOUND, ERROR */
};

/** Called from the threads, several at once. Return non-zero to stop (it becomes the result). */
typedef int lw_revalidate_callback(void *arg, const struct lw_revalidate_dir *dir);

/**
 * Each changed directory is reported once; one that is racy is looked at a second time when its stamp has had time to settle, and then
 * reported. A subdirectory of a changed one is reported as FOUND if lw_scan() would have gone there from the same root, and no index knows it.
 * 0, the callback's result, or -errno (-ENOMEM; for LW_IOQ_RING what keeps it from working, see stats->why).
 */
int lw_revalidate(const struct lw_revalidate_config *config, lw_revalidate_callback *callback, void *arg, struct lw_revalidate_stats *stats);

#endif
