/* SPDX-License-Identifier: MIT */
/* stamp: see stamp.h. statx, because it fetches no more than it is asked for. */
#include "stamp.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>

static const int64_t SECOND = 1000000000;
/* Two of the slowest ticks (CONFIG_HZ=100). */
static const int64_t TICK = 20000000;
/* FAT counts in steps of two seconds. */
static const int64_t COARSE = 2000000000;

/* Saturates: a stamp beyond the year 2262 is "the future" and therefore racy, never a wrapped-around past. */
static int64_t to_ns(int64_t seconds, uint32_t ns)
{
	if (seconds >= INT64_MAX / SECOND)
		return INT64_MAX;
	if (seconds <= INT64_MIN / SECOND)
		return INT64_MIN;
	return seconds * SECOND + ns;
}

/* A file system on which a fraction of a second has been seen; 0: none yet. Losing one to another costs a slower judgement only. */
static _Atomic uint64_t fine_dev;

static void note_fraction(const struct lw_stat *st)
{
	if ((st->mtime_ns % SECOND || st->ctime_ns % SECOND) && atomic_load_explicit(&fine_dev, memory_order_relaxed) != st->dev)
		atomic_store_explicit(&fine_dev, st->dev, memory_order_relaxed);
}

bool lw_stat_from_image(const struct lw_stat *st)
{
	return st->mtime_ns == st->ctime_ns && st->mtime_ns % SECOND == 0 && atomic_load_explicit(&fine_dev, memory_order_relaxed) == st->dev;
}

void lw_stat_of(const struct statx *x, struct lw_stat *st)
{
	*st = (struct lw_stat){
		.dev = (uint64_t)x->stx_dev_major << 32 | x->stx_dev_minor,
		.ino = x->stx_ino,
		.size = x->stx_size,
		.mtime_ns = to_ns(x->stx_mtime.tv_sec, x->stx_mtime.tv_nsec),
		.ctime_ns = to_ns(x->stx_ctime.tv_sec, x->stx_ctime.tv_nsec),
		.mode = x->stx_mode,
		.uid = x->stx_uid,
		.gid = x->stx_gid,
		.nlink = x->stx_nlink,
	};
	note_fraction(st);
}

/* AT_STATX_SYNC_AS_STAT (0) whatever the file system: memory alone may not answer "has it changed". */
static int read_stat(int dirfd, const char *path, int flags, struct lw_stat *st)
{
	struct statx x;
	int result;
	do
		result = statx(dirfd, path, flags, LW_STAT_MASK, &x);
	while (result != 0 && errno == EINTR); /* file systems that ask a server may be interrupted */
	if (result != 0)
		return -errno;
	lw_stat_of(&x, st);
	return 0;
}

int lw_stat_at(int dirfd, const char *path, struct lw_stat *st)
{
	return read_stat(dirfd, path, 0, st);
}

int lw_stat_fd(int fd, struct lw_stat *st)
{
	/* Without this, AT_FDCWD would quietly mean the working directory. */
	if (fd < 0)
		return -EBADF;
	return read_stat(fd, "", AT_EMPTY_PATH, st);
}

uint64_t lw_stamp(const struct lw_stat *st)
{
	/* Of the mode only the type: a chmod moves ctime. */
	const uint64_t facts[] = {
		st->dev, st->ino, st->mode & S_IFMT, st->size, (uint64_t)st->mtime_ns, (uint64_t)st->ctime_ns,
	};
	uint64_t digest = lw_hash64(facts, sizeof facts);
	return digest ? digest : 1;
}

static int64_t read_clock(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return to_ns(ts.tv_sec, (uint32_t)ts.tv_nsec);
}

/* Where a virtual machine's processor that keeps the time is not run for a while, time stamps stand still, and the others go on. */
int64_t lw_now_ns(void)
{
	int64_t now = read_clock(CLOCK_REALTIME), stamps = read_clock(CLOCK_REALTIME_COARSE);
	return now - stamps <= TICK ? now : stamps;
}

int64_t lw_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

bool lw_stat_racy(const struct lw_stat *st, int64_t now_ns)
{
	/* Both: an unpacked archive has whole seconds in mtime, but no file system with finer stamps has them in ctime. */
	bool coarse = st->mtime_ns % SECOND == 0 && st->ctime_ns % SECOND == 0;
	/* An mtime in the future was set by hand, or by a clock that was wrong; changes show in the ctime, which nobody can set. */
	int64_t newest = st->mtime_ns > st->ctime_ns && st->mtime_ns <= now_ns ? st->mtime_ns : st->ctime_ns;
	return newest >= now_ns - TICK - (coarse ? COARSE : 0);
}

static bool read_only(const char *path, uint64_t dev)
{
	/* One system call for each file system, not for each file. */
	static _Thread_local struct { uint64_t dev; bool known, read_only; } last;
	struct statfs fs;
	if (!last.known || last.dev != dev) {
		last.known = statfs(path, &fs) == 0;
		last.dev = dev;
		last.read_only = last.known && fs.f_flags & ST_RDONLY;
	}
	return last.read_only || !last.known;
}

bool lw_stat_weak(const struct lw_stat *st, const char *path)
{
	return st->mtime_ns == st->ctime_ns && st->mtime_ns % SECOND == 0 && read_only(path, st->dev);
}

bool lw_stat_public(const struct lw_stat *st)
{
	/* All three classes: who belongs to owner or group gets their bits only, even if others may more. */
	uint32_t needed = S_ISDIR(st->mode) ? 0555 : 0444;
	return (st->mode & needed) == needed;
}
