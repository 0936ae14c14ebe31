/* SPDX-License-Identifier: MIT */
/*
 * watch_handles: the directory that a file handle in an event of fanotify means, as the path that it has now.
 *
 * A path that was found is kept until a directory is moved, which is an event as well: events that were queued before it may be told the path from before,
 * as their directory is in doubt then under both.
 *
 * A handle is opened by way of a mount, and has one path for each mount of its file system. While a mount is open it cannot be unmounted: it is opened when a handle
 * is asked for, and closed in lw_handles_rest().
 *
 * Whoever calls sees to it that one thread does at a time.
 */
#ifndef LW_WATCH_HANDLES_H
#define LW_WATCH_HANDLES_H

#include "watch_way.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lw_handles lw_handles;
struct file_handle;

/** 0 or -ENOMEM. */
int lw_handles_create(lw_handles **out);
/** NULL is allowed. */
void lw_handles_destroy(lw_handles *handles);

/**
 * Answer for the mount that WAY has just entered, whose file system has the number FSID (f_fsid of statfs). Again: nothing happens.
 * -EPERM (no CAP_DAC_READ_SEARCH), -EOPNOTSUPP (its handles cannot be opened), -ENOENT (/proc is not mounted), ...: not possible.
 */
int lw_handles_mount(lw_handles *handles, const struct lw_watch_way *way, uint64_t fsid);
/** File systems that it answers for. */
unsigned lw_handles_count(const lw_handles *handles);

typedef void lw_handles_each(void *arg, const char *path, size_t len);
/**
 * The directory's paths, by each mount; none if it is gone. HANDLE is the kernel's. -errno: cannot be told (-EMFILE, ...).
 */
int lw_handles_paths(lw_handles *handles, uint64_t fsid, struct file_handle *handle, lw_handles_each *each, void *arg);

/** A mount that was found to be no longer where it was: its point, to be freed, and it is answered for no longer. NULL: none. */
char *lw_handles_gone(lw_handles *handles);

/** A directory was moved: forget the paths. */
void lw_handles_moved(lw_handles *handles);
/** Close what was opened. */
void lw_handles_rest(lw_handles *handles);

#endif
