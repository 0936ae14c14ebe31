/* SPDX-License-Identifier: MIT */
/*
 * stamp: has this file or directory changed since we read it?
 *
 * A stamp is a 64-bit digest of (dev, ino, type, size, mtime_ns, ctime_ns): equal stamps mean
 * "unchanged", up to one chance in 2^64. It is a fast path and never the truth: a fresh overlay mount changes
 * dev, an image pull ino and ctime; where stamps differ, content is compared (session.h).
 *
 * Racy stamps (git's rule): the kernel's time stamps move in ticks (4 to 10 ms, 1 to 2 s on coarse
 * file systems), so a second write within the tick of our read leaves the stamp as it was. A stamp
 * whose mtime or ctime is not clearly older than the moment it was taken is *racy*: it may be
 * used once, by whoever has just read the thing itself, and is never stored. An mtime in the future tells nothing: there the ctime decides.
 */
#ifndef LW_STAMP_H
#define LW_STAMP_H

#include <stdbool.h>
#include <stdint.h>

/** What we keep of a statx: enough to compare, to judge age and access. */
struct lw_stat {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t mode, uid, gid, nlink;
};

struct statx;

/** What must be asked of statx(2), and what becomes of its answer. */
#define LW_STAT_MASK (STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID | STATX_MTIME | STATX_CTIME | STATX_INO | STATX_SIZE)
void lw_stat_of(const struct statx *x, struct lw_stat *st);

/** stat (following links) PATH relative to DIRFD (AT_FDCWD for none). 0 or -errno. */
int lw_stat_at(int dirfd, const char *path, struct lw_stat *st);

/** The same for an open descriptor. */
int lw_stat_fd(int fd, struct lw_stat *st);

/** Never 0, so that 0 can stand for "no stamp". */
uint64_t lw_stamp(const struct lw_stat *st);

/** CLOCK_REALTIME in ns: what stamps are compared with. Where the clock that the kernel takes time stamps from has fallen behind by more than its ticks, that one. */
int64_t lw_now_ns(void);

/** CLOCK_MONOTONIC in ns: for intervals. */
int64_t lw_monotonic_ns(void);

/** Whether ST, taken at NOW_NS (lw_now_ns()), may still change without showing it. */
bool lw_stat_racy(const struct lw_stat *st, int64_t now_ns);

/**
 * Whether ST, a stat of PATH, is no proof against its past: read-only images (squashfs, erofs) have no ctime of their own, and one that replaces
 * another may have the same device, inodes and times. That is: mtime and ctime are the same whole second, on a file system that is mounted read-only.
 */
bool lw_stat_weak(const struct lw_stat *st, const char *path);

/**
 * Whether ST's times were put there by whoever made an image of a file system (mkfs -d): mtime and ctime are the same whole second, on a file system that is
 * known to count finer because something else there did. An edit leaves other times.
 */
bool lw_stat_from_image(const struct lw_stat *st);

/** Whether everybody may read a file, or list and search a directory, of this mode. */
bool lw_stat_public(const struct lw_stat *st);

#endif
