/* SPDX-License-Identifier: MIT */
/*
 * mounts: has the mount table changed, and where?
 *
 * No watch sees that a file system was mounted over a directory, taken away, or replaced by another: what lies below has changed, and nothing was written.
 * The kernel wakes whoever polls /proc/self/mountinfo once the table of the mount namespace has changed, inside the system call that changes it.
 *
 *     lw_mounts_open(&m)                what the table is now
 *     poll(lw_mounts_fd(m), POLLPRI)    sleep until it changes; it says so once, whatever has become of the answer
 *     lw_mounts_changed(m, ...)         has it? one poll(2); if so, the table is read again, and compared
 *
 * Two descriptors: the kernel remembers for each open file that it has said so, and whoever sleeps must not take the news from whoever asks.
 *
 * Mounts are told apart by numbers that are never used again (statx, Linux 6.8). Older kernels give the number of a mount that went to the next one, so
 * that what was replaced may look as before, and file systems that may keep a caller waiting (network, FUSE) are not asked: such mount points, but for the
 * root, are told after any change.
 *
 * One thread at a time. fork: the descriptors are shared with the child, and so is what was said on them: the child calls lw_mounts_close() and opens its own.
 * exec: they are closed. A process that enters another mount namespace opens its own, too: these stay with the one they were opened in.
 */
#ifndef LW_MOUNTS_H
#define LW_MOUNTS_H

#include <stddef.h>

typedef struct lw_mounts lw_mounts;

/** 0, or -errno: -ENOENT (/proc is not mounted), -EMFILE, -ENOMEM, ... */
int lw_mounts_open(lw_mounts **out);
/** The table is not read, which takes a system call and some 3 us for each mount: for lw_mounts_fd() alone. lw_mounts_changed() is -EBADF. */
int lw_mounts_open_unread(lw_mounts **out);
/** NULL is allowed. */
void lw_mounts_close(lw_mounts *mounts);

/** POINT: absolute, terminated, any bytes, no trailing slash ("" is the root); good during the call. */
typedef void lw_mounts_sink(void *arg, const char *point, size_t len);
/** Each mount point of the table as it was read last; some more than once. */
void lw_mounts_each(const lw_mounts *mounts, lw_mounts_sink *sink, void *arg);

/** For poll(2), POLLPRI, and nothing else: once for each change, or for several. */
int lw_mounts_fd(const lw_mounts *mounts);

/**
 * 0: the table is as it was at the last call. 1: it has changed; each point where something came, went, moved or was replaced was told once; there may be none
 * (options of a mount). -errno: not known, now and until a later call succeeds, which tells everything since the last one that did.
 */
int lw_mounts_changed(lw_mounts *mounts, lw_mounts_sink *sink, void *arg);

#endif
