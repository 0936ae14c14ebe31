/* SPDX-License-Identifier: MIT */
/*
 * stamp: what it covers, when it is racy, and how the kernel is asked.
 *
 * The racy rule is tried on a model of a clock that moves in ticks:
 *
 *     file changed at t1     mtime = tick(t1)
 *     stamp taken at t2
 *     file changed at t3     mtime = tick(t3)     same tick as t1: the stamp has not moved
 *
 * A stamp that was not racy at t2 must differ after t3; with the margin taken away the same runs must catch a stale one.
 */
#include "stamp.h"
#include "tree.h"

#include <criterion/criterion.h>
#include <sys/syscall.h>
#include <time.h>

static const int64_t MS = 1000000, S = 1000000000;

/* Stands in for libc's, to see what is asked of the kernel. */
static struct { int flags; unsigned mask, calls; } asked;
int statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
	asked.flags = flags;
	asked.mask = mask;
	asked.calls++;
	return (int)syscall(SYS_statx, dirfd, path, flags, mask, out);
}

static char root[PATH_MAX];
static int dir;

static void set_up(void)
{
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
}

static void tear_down(void)
{
	close(dir);
	tree_destroy(root);
}

TestSuite(stamp, .init = set_up, .fini = tear_down);

static struct lw_stat example(void)
{
	return (struct lw_stat){
		.dev = 1, .ino = 2, .size = 3, .mtime_ns = 4, .ctime_ns = 5, .mode = S_IFREG | 0644, .uid = 6, .gid = 7, .nlink = 8,
	};
}

Test(stamp, covers)
{
	struct lw_stat base = example(), dev = base, ino = base, size = base, mtime = base, ctime_ = base, type = base, swap = base;
	dev.dev++;
	ino.ino++;
	size.size++;
	mtime.mtime_ns++;
	ctime_.ctime_ns++;
	type.mode = S_IFDIR | 0644;
	swap.mtime_ns = 5;
	swap.ctime_ns = 4;
	const struct lw_stat *all[] = { &base, &dev, &ino, &size, &mtime, &ctime_, &type, &swap };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		for (size_t j = 0; j < sizeof all / sizeof *all; j++)
			cr_expect_eq(lw_stamp(all[i]) == lw_stamp(all[j]), i == j, "%zu and %zu", i, j);
}

Test(stamp, leaves_to_ctime)
{
	struct lw_stat a = example(), b = a;
	b.mode = S_IFREG | 0755;
	b.uid = b.gid = b.nlink = 99;
	cr_assert_eq(lw_stamp(&a), lw_stamp(&b));
	cr_assert_neq(lw_stamp(&a), 0);
	cr_assert_neq(lw_stamp(&(struct lw_stat){ 0 }), 0);
}

Test(stamp, racy)
{
	const int64_t now = 1700000000 * S + 123456789, whole = now / S * S;
	const struct { int64_t mtime, ctime; bool racy; const char *why; } table[] = {
		{ now - S, now - S, false, "a second old" },
		{ now - 21 * MS, now - 21 * MS, false, "older than the margin" },
		{ now - 20 * MS, now - 20 * MS, true, "just the margin" },
		{ now, now, true, "now" },
		{ now - S, now, true, "ctime now (chmod, rename, link)" },
		{ now, now - S, true, "mtime now" },
		{ now + S, now - S, false, "mtime in the future: set by hand, the ctime tells" },
		{ now + S, now, true, "mtime in the future, just changed" },
		{ now - S, now + 3600 * S, true, "the clock was set back" },
		{ INT64_MAX, now - S, false, "beyond 2262" },
		{ now - S, INT64_MAX, true, "ctime beyond 2262" },
		{ INT64_MIN, now - S, false, "before 1677" },
		{ whole - S, whole - S, true, "coarse and a second old" },
		{ whole - 2 * S, whole - 2 * S, false, "coarse: 2.1 s" },
		{ whole - 9 * S, whole - S, true, "coarse, by ctime" },
		{ whole - S, now - S, false, "unpacked from an archive: mtime whole, ctime not" },
		{ 0, whole - 9 * S, false, "the epoch as mtime" },
		{ 0, 0, false, "no time at all" },
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct lw_stat st = example();
		st.mtime_ns = table[i].mtime;
		st.ctime_ns = table[i].ctime;
		cr_expect_eq(lw_stat_racy(&st, now), table[i].racy, "%s", table[i].why);
	}
	struct lw_stat coarse = { .mtime_ns = whole, .ctime_ns = whole };
	cr_expect(lw_stat_racy(&coarse, whole + 2020 * MS));
	cr_expect(!lw_stat_racy(&coarse, whole + 2020 * MS + 1));
}

/* Stands in for libc's, where it is said what time it is. */
static struct { bool said; int64_t now, stamps; } clock_;
int clock_gettime(clockid_t which, struct timespec *out)
{
	int64_t ns = which == CLOCK_REALTIME ? clock_.now : clock_.stamps;
	if (!clock_.said || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE))
		return (int)syscall(SYS_clock_gettime, which, out);
	*out = (struct timespec){ .tv_sec = ns / S, .tv_nsec = ns % S };
	return 0;
}

/* A file that was changed just now: whatever its time stamps are taken from, a change that follows may have the same. */
Test(stamp, clock_of_time_stamps_falls_behind)
{
	const int64_t now = 1700000000 * S + 123456789;
	for (int64_t behind = 0; behind < 200 * MS; behind += MS) {
		struct lw_stat st = example();
		st.mtime_ns = st.ctime_ns = now - behind;
		clock_.said = true;
		clock_.now = now;
		clock_.stamps = now - behind;
		int64_t found = lw_now_ns();
		clock_.said = false;
		cr_expect(lw_stat_racy(&st, found), "%lld ms", (long long)(behind / MS));
		cr_expect_eq(lw_stat_racy(&st, now), behind <= 20 * MS, "the control");
	}
}

/* How often, of RUNS, a stamp taken between two changes was trusted and did not move with the second. */
static unsigned stale_runs(unsigned runs, int64_t tick, bool margin, unsigned *trusted)
{
	uint64_t seed = 3;
	unsigned stale = 0;
	for (unsigned i = 0; i < runs; i++) {
		int64_t t1 = 1700000000 * S + tree_random(&seed), t2 = t1 + tree_random(&seed) % (3 * tick);
		int64_t t3 = t2 + tree_random(&seed) % (3 * tick);
		struct lw_stat before = example(), after = before;
		before.mtime_ns = before.ctime_ns = t1 / tick * tick;
		after.mtime_ns = after.ctime_ns = t3 / tick * tick;
		bool trust = margin ? !lw_stat_racy(&before, t2) : before.mtime_ns <= t2;
		*trusted += trust;
		stale += trust && lw_stamp(&before) == lw_stamp(&after);
	}
	return stale;
}

Test(stamp, never_trusted_while_it_may_change)
{
	const int64_t ticks[] = { 1 * MS, 4 * MS, 10 * MS, 1000 * MS, 2000 * MS };
	for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++) {
		unsigned trusted = 0, ignored = 0;
		cr_expect_eq(stale_runs(100000, ticks[i], true, &trusted), 0, "tick of %lld ms", (long long)(ticks[i] / MS));
		cr_expect_gt(stale_runs(100000, ticks[i], false, &ignored), 1000, "without the margin it is noticed");
		cr_expect(ticks[i] < 10 * MS || trusted > 1000, "trusted %u times", trusted);
	}
}

/* Same-size edits as fast as they come, on whatever this directory lies. */
Test(stamp, edits_move_it)
{
	unsigned trusted = 0;
	for (unsigned i = 0; i < 600; i++) {
		struct lw_stat before, after;
		tree_write(dir, "f", i % 2 ? "one" : "two");
		if (i % 20 == 0)
			usleep(30000);
		int64_t now = lw_now_ns();
		cr_assert_eq(lw_stat_at(dir, "f", &before), 0);
		bool racy = lw_stat_racy(&before, now);
		tree_write(dir, "f", i % 2 ? "two" : "one");
		cr_assert_eq(lw_stat_at(dir, "f", &after), 0);
		cr_assert(racy || lw_stamp(&before) != lw_stamp(&after), "edit %u left a trusted stamp", i);
		trusted += !racy;
	}
	cr_assert_geq(trusted, 1);
}

Test(stamp, like_stat)
{
	struct stat st;
	struct lw_stat at, fd;
	tree_write(dir, "file", "12345");
	cr_assert_eq(symlinkat("file", dir, "link"), 0);
	cr_assert_eq(linkat(dir, "file", dir, "other", 0), 0);
	const char *const names[] = { "file", "link", "other", "." };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		cr_assert_eq(fstatat(dir, names[i], &st, 0), 0);
		cr_assert_eq(lw_stat_at(dir, names[i], &at), 0);
		cr_expect_eq(at.dev, (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev));
		cr_expect_eq(at.ino, st.st_ino);
		cr_expect_eq(at.size, (uint64_t)st.st_size);
		cr_expect_eq(at.mtime_ns, st.st_mtim.tv_sec * S + st.st_mtim.tv_nsec);
		cr_expect_eq(at.ctime_ns, st.st_ctim.tv_sec * S + st.st_ctim.tv_nsec);
		cr_expect_eq(at.mode, st.st_mode);
		cr_expect(at.uid == st.st_uid && at.gid == st.st_gid && at.nlink == st.st_nlink);

		int open_file = openat(dir, names[i], O_RDONLY);
		cr_assert_eq(lw_stat_fd(open_file, &fd), 0);
		cr_expect_eq(lw_stamp(&at), lw_stamp(&fd));
		close(open_file);
	}
}

Test(stamp, errors)
{
	struct lw_stat st;
	cr_expect_eq(lw_stat_at(dir, "absent", &st), -ENOENT);
	cr_expect_eq(lw_stat_at(dir, "", &st), -ENOENT);
	tree_write(dir, "file", "");
	cr_expect_eq(lw_stat_at(dir, "file/x", &st), -ENOTDIR);
	cr_assert_eq(symlinkat("self", dir, "self"), 0);
	cr_expect_eq(lw_stat_at(dir, "self", &st), -ELOOP);
	cr_expect_eq(lw_stat_at(12345, "file", &st), -EBADF);
	cr_expect_eq(lw_stat_fd(12345, &st), -EBADF);
	cr_expect_eq(lw_stat_fd(-1, &st), -EBADF);
	cr_expect_eq(lw_stat_fd(AT_FDCWD, &st), -EBADF, "not the working directory");
}

Test(stamp, asks_the_file_system)
{
	struct lw_stat st;
	asked.calls = 0;
	cr_assert_eq(lw_stat_at(dir, ".", &st), 0);
	cr_expect_eq(asked.calls, 1);
	cr_expect_eq(asked.flags, 0, "no AT_STATX_DONT_SYNC, no AT_SYMLINK_NOFOLLOW");
	cr_expect_eq(asked.mask & ~(unsigned)STATX_BASIC_STATS, 0, "nothing exotic");
	cr_expect_eq(asked.mask & (STATX_ATIME | STATX_BLOCKS), 0, "nothing that is not kept");
	cr_assert_eq(lw_stat_fd(dir, &st), 0);
	cr_expect_eq(asked.flags & AT_STATX_SYNC_TYPE, AT_STATX_SYNC_AS_STAT);
}

Test(stamp, times_beyond_the_range)
{
	const time_t far[] = { INT64_MAX, INT64_MAX / 2, 10000000000, 9223372036, -9223372037, INT64_MIN / 2 };
	tree_write(dir, "f", "");
	for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
		struct stat kept;
		struct lw_stat st;
		struct timespec times[2] = { { .tv_sec = far[i] }, { .tv_sec = far[i], .tv_nsec = 999999999 } };
		/* A file system clamps or refuses what it cannot store. */
		if (utimensat(dir, "f", times, 0) != 0 || fstatat(dir, "f", &kept, 0) != 0 || kept.st_mtim.tv_sec != far[i])
			continue;
		cr_assert_eq(lw_stat_at(dir, "f", &st), 0);
		cr_expect_eq(st.mtime_ns, far[i] > 0 ? INT64_MAX : INT64_MIN, "%lld", (long long)far[i]);
	}
}

Test(stamp, clocks)
{
	int64_t a = lw_monotonic_ns(), b = lw_monotonic_ns();
	cr_expect(a > 0 && b >= a);
	int64_t now = lw_now_ns(), wall = (int64_t)time(NULL);
	cr_expect(now / S >= wall - 2 && now / S <= wall + 2);
}

Test(stamp, public)
{
	const struct { uint32_t mode; bool yes; } table[] = {
		{ S_IFREG | 0644, true }, { S_IFREG | 0444, true }, { S_IFREG | 0755, true }, { S_IFREG | 0640, false }, { S_IFREG | 0604, false },
		{ S_IFREG | 0004, false }, { S_IFREG | 0600, false }, { S_IFREG, false },
		{ S_IFDIR | 0755, true }, { S_IFDIR | 0555, true }, { S_IFDIR | 01777, true }, { S_IFDIR | 0754, false }, { S_IFDIR | 0751, false },
		{ S_IFDIR | 0711, false }, { S_IFDIR | 0700, false }, { S_IFDIR | 0705, false },
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		cr_expect_eq(lw_stat_public(&(struct lw_stat){ .mode = table[i].mode }), table[i].yes, "%o", table[i].mode);
}
