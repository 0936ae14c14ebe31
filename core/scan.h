/* SPDX-License-Identifier: MIT */
/*
 * scan: walk source trees and report every directory's listing and every source file's stat.
 *
 * Directories are read with getdents64 by threads that steal work from each other (crew.h); sources are statx'ed relative
 * to their open directory. Never opened: __pycache__, names with a dot in them (VCS directories among them; no import can reach
 * them), directories that are not importable, node_modules. What merely may be a directory (LW_ENTRY_DOUBT) and turns out not to be one is not
 * reported.
 *
 * Links to directories are followed within bounds, for links to each other would multiply and a link to / would lead
 * through the whole machine. A root may itself be a link; below it
 *  - there is at most one link on the way down to any directory: what one leads to is walked, links to directories in
 *    there are left alone (links_left);
 *  - a directory that lies on the way (dev, ino), from / down to where the root really is or from there down, is not entered
 *    again (loops).
 * So a root costs at most its own tree and, per link to a directory in it, once the tree that this link leads to. What is left out is
 * not reported at all: nothing is known of it.
 *
 * Sources are asked by the thread that has read their directory, one after the other: it is never without work, and others are at work meanwhile. A directory
 * with more than LW_SCAN_MANY of them is asked through ioq.h, so that one directory of 1,000,000 modules does not leave all threads
 * but one idle. A lone thread (threads = 1) asks through the ring while its calls wait: on a disk with 0.5 ms per request that took 0.66 times
 * as long. Backend ring asks all of them so; directories are read by plain calls even then, for there is no getdents in io_uring.
 *
 * The caller is one of the threads (threads = 1 starts none); the others block all signals and have ended on return. They have descriptors of their own: what
 * the program has open they have not, but for 0, 1 and 2.
 */
#ifndef LW_SCAN_H
#define LW_SCAN_H

#include "ioq.h"
#include "listing.h"

struct lw_scan_config {
	const struct lw_suffixes *suffixes;
	enum lw_ioq_backend backend;	/* AUTO: the pool, and the ring as said above */
	unsigned threads;	/* 0: as many as there are cores to run on, and up to 64 while calls wait (pace.h) */
	bool linked;		/* the roots lie behind a link on the way from another root: none is followed below them */
	/**
	 * Called with ARG (that of the callback) and each directory's path before anything is looked at (watch.h: arm, then read), from the threads, which then
	 * have the program's descriptors. LISTED: the directory above, whose turn came before, calls it a directory. May be NULL.
	 */
	bool (*before)(void *arg, const char *path, size_t len, bool listed);
};

enum { LW_SCAN_MANY = 1024 };

struct lw_scan_stats {
	uint64_t entries;	/* seen in directories, importable or not */
	uint64_t directories;	/* listed */
	uint64_t modules;	/* importable names in them */
	uint64_t sources;	/* "NAME.py" files */
	uint64_t vanished;	/* directories gone (ENOENT, ENOTDIR) before they were read */
	uint64_t unreadable;	/* directories that failed otherwise */
	uint64_t loops;		/* not entered again: on the way already, or above the root */
	uint64_t links_left;	/* to directories, but below another link: not followed */
	uint64_t syscalls;	/* openat, getdents64, statx, close */
	int64_t wall_ns, cpu_ns;
	unsigned threads;	/* the most that there were */
	const char *backend;	/* "pool", "ring", or "hybrid": a pool whose threads had some sources asked by a ring */
	char why[LW_IOQ_WHY];	/* "", or what there is to say about the ring */
};

/** One directory. All pointers are good during the callback only, except LISTING. */
struct lw_scan_dir {
	const char *path;	/* absolute, terminated */
	size_t path_len;
	struct lw_stat stat;
	bool racy;		/* stamp taken too close to a change: do not store */
	bool before;		/* what config->before() has said */
	int error;		/* 0, or the errno that kept it from being listed (LISTING is then NULL, STAT may be zero) */
	struct lw_listing *listing;	/* yours: lw_listing_destroy() */
	unsigned source_count;
	const struct lw_scan_source *sources;
};

/** One "NAME.py" that is a regular file, or a link to one. */
struct lw_scan_source {
	uint32_t name;		/* offset of the stem in listing->names */
	uint8_t len;
	bool racy;
	struct lw_stat stat;
};

/** Called from the threads, several at once; see above for what it can do with descriptors. Return non-zero to stop the walk (it becomes the result). */
typedef int lw_scan_callback(void *arg, const struct lw_scan_dir *dir);

/**
 * Walk ROOTS (absolute paths). A root that cannot be listed is an error (-errno, *FAILED its index) before anything
 * is reported; anything below is reported and counted. Otherwise *FAILED is COUNT. -ENOMEM ends the walk. Backend ring without io_uring is an error as
 * lw_ioq_create() has it, STATS->why says more. PROGRESS (may be NULL)
 * counts the entries seen while the walk runs, by relaxed atomics.
 */
int lw_scan(const struct lw_scan_config *config, const char *const *roots, unsigned count,
		lw_scan_callback *callback, void *arg, struct lw_scan_stats *stats, unsigned *failed,
		_Atomic uint64_t *progress);

#endif
