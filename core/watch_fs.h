/* SPDX-License-Identifier: MIT */
/*
 * watch_fs: which directories are mount points, kept current, so that a directory's file system need not be asked for: away from them it is its parent's.
 *
 * (fstatfs of each directory would cost as much as watching it.) Not thread-safe.
 */
#ifndef LW_WATCH_FS_H
#define LW_WATCH_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lw_watch_fs {
	int fd;			/* /proc/self/mountinfo, readable by poll when it has changed; -1: not to be had */
	uint64_t *point;	/* hashes of their paths, sorted */
	size_t count;
};

void lw_watch_fs_init(struct lw_watch_fs *fs);
void lw_watch_fs_free(struct lw_watch_fs *fs);

/** Whether PATH (no link on its way) may be a mount point of this process, at the time of the call. True when in doubt. */
bool lw_watch_fs_may_be_mount(struct lw_watch_fs *fs, const char *path, size_t len);
/** Look for changes now. */
void lw_watch_fs_refresh(struct lw_watch_fs *fs);
/** The same at the time of the last call of one of the former, or of init. */
bool lw_watch_fs_may_have_been_mount(const struct lw_watch_fs *fs, const char *path, size_t len);

#endif
