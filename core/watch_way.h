/* SPDX-License-Identifier: MIT */
/*
 * watch_way: where a path really leads, one component after the other, so that whoever watches can do so before the next one is looked at.
 *
 *     /srv/current/lib      visit /, then look up "srv" in it; visit /srv, look up "current": a link to r7; /srv/r7 ...
 *
 * What is looked up in a directory is looked up after the visit of that directory: a change that comes later than the lookup comes later than the visit.
 */
#ifndef LW_WATCH_WAY_H
#define LW_WATCH_WAY_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum { LW_WAY_LINKS = 40 };

/* Where a walk is: a directory. */
struct lw_watch_way {
	int fd;				/* O_PATH */
	uint64_t place;			/* the mount and the device that it is on */
	size_t len;
	char real[PATH_MAX];		/* its path without links and dots, terminated; "" is the root */
	char *links;			/* real paths of links on the way, and of directories left by ".."; each terminated */
	size_t links_len;
	size_t links_room;		/* watch_way.c's own */
};

struct statx;
/** Of a statx with STATX_MNT_ID. */
uint64_t lw_watch_place(const struct statx *st);

/** Called for each directory on the way, the first and the last one included. Not 0: the walk ends with that. */
typedef int lw_watch_way_visit(void *arg, const struct lw_watch_way *way);

/** 0, and WAY is where PATH leads, to be given to lw_watch_way_end(); or -errno: -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG, ..., or what VISIT said. */
int lw_watch_way(const char *path, size_t len, lw_watch_way_visit *visit, void *arg, struct lw_watch_way *way);
void lw_watch_way_end(struct lw_watch_way *way);

#endif
