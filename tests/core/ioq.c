/* SPDX-License-Identifier: MIT */
/*
 * ioq: each backend against one table of expectations, against plain calls, against systems that forbid io_uring, and against calls and rings
 * that fail. The plain calls are this program's own functions of the same name, which can be told to fail, to be slow and to be counted;
 * liburing's are wrapped by the linker (tests/CMakeLists.txt).
 */
#include "ioq.h"
#include "forbid.h"
#include "tree.h"
#include "uring.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/time.h>

/* --- plain calls --- */

enum { STATX = LW_IOQ_STATX, OPENAT = LW_IOQ_OPENAT, READ = LW_IOQ_READ, CLOSE = LW_IOQ_CLOSE, KINDS };

static struct {
	_Atomic int kind;		/* of the calls that fail; KINDS: none */
	_Atomic int error;		/* 0: reads are cut to 3 bytes */
	_Atomic unsigned every;		/* each such call, counted from 1 */
	_Atomic unsigned failures;	/* at most; 0: any number */
	_Atomic unsigned delay_us;	/* of each statx */
	_Atomic unsigned calls[KINDS], failed;
	_Atomic unsigned inside, most;	/* statx calls at the same time */
} play = { .kind = KINDS };

static bool fails(int kind)
{
	unsigned call = 1 + atomic_fetch_add(&play.calls[kind], 1);
	if (atomic_load(&play.kind) != kind || call % atomic_load(&play.every))
		return false;
	unsigned limit = atomic_load(&play.failures), failed = atomic_fetch_add(&play.failed, 1);
	errno = atomic_load(&play.error);
	return !limit || failed < limit;
}

int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *out)
{
	unsigned inside = 1 + atomic_fetch_add(&play.inside, 1), most = atomic_load(&play.most);
	while (inside > most && !atomic_compare_exchange_weak(&play.most, &most, inside))
		;
	if (atomic_load(&play.delay_us))
		usleep(atomic_load(&play.delay_us));
	atomic_fetch_sub(&play.inside, 1);
	return fails(STATX) ? -1 : (int)syscall(SYS_statx, dirfd, path, flags, mask, out);
}

int openat(int dirfd, const char *path, int flags, ...)
{
	return fails(OPENAT) ? -1 : (int)syscall(SYS_openat, dirfd, path, flags, 0644);
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
	bool failing = fails(READ);
	if (failing && errno)
		return -1;
	return syscall(SYS_pread64, fd, buffer, failing && size > 3 ? 3 : size, offset);
}

int close(int fd)
{
	int result = (int)syscall(SYS_close, fd), error = errno;
	/* A real close that fails has closed, but for EBADF. */
	if (fails(CLOSE))
		return -1;
	errno = error;
	return result;
}

static void play_reset(void)
{
	atomic_store(&play.kind, KINDS);
	atomic_store(&play.delay_us, 0);
	atomic_store(&play.failures, 0);
	atomic_store(&play.failed, 0);
	atomic_store(&play.most, 0);
	for (int i = 0; i < KINDS; i++)
		atomic_store(&play.calls[i], 0);
}

static void play_failing(int kind, int error, unsigned every, unsigned failures)
{
	play_reset();
	atomic_store(&play.error, error);
	atomic_store(&play.every, every);
	atomic_store(&play.failures, failures);
	atomic_store(&play.kind, kind);
}

/* --- rings that fail --- */

#ifdef LW_TEST_URING
#include <liburing.h>

static struct {
	unsigned submissions;	/* that work; the next takes PART entries, and then they fail with ERROR. ~0: all */
	unsigned part;
	int error, transient;	/* TRANSIENT submissions fail so, and then they work again */
	int result;		/* instead of every third completion's */
	int queue_init, register_files, dontfork;	/* fail with this */
	unsigned flags_known;	/* others are -EINVAL, as in an older kernel */
	unsigned inits, flags_used, inflight_most;
} bad = { .submissions = ~0u, .flags_known = ~0u };

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_io_uring_submit(struct io_uring *ring);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __real_io_uring_submit_and_get_events(struct io_uring *ring);
int __real_io_uring_register_files(struct io_uring *ring, const int *files, unsigned count);
int __real_io_uring_ring_dontfork(struct io_uring *ring);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __wrap_io_uring_submit_and_get_events(struct io_uring *ring);
int __wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned count);
int __wrap_io_uring_ring_dontfork(struct io_uring *ring);

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	bad.inits++;
	if (bad.queue_init)
		return bad.queue_init;
	if (flags & ~bad.flags_known)
		return -EINVAL;
	bad.flags_used = flags;
	return __real_io_uring_queue_init(entries, ring, flags);
}

int __wrap_io_uring_register_files(struct io_uring *ring, const int *files, unsigned count)
{
	return bad.register_files ? bad.register_files : __real_io_uring_register_files(ring, files, count);
}

int __wrap_io_uring_ring_dontfork(struct io_uring *ring)
{
	return bad.dontfork ? bad.dontfork : __real_io_uring_ring_dontfork(ring);
}

/* Have the kernel take PART of what is in the queue, whatever there is: a submission that ends half-way. */
static int submit_part(struct io_uring *ring, unsigned part)
{
	struct io_uring_sq *sq = &ring->sq;
	unsigned there = sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
	sq->sqe_head = sq->sqe_tail;
	io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
	return io_uring_enter(ring->ring_fd, part < there ? part : there, 0, 0, NULL);
}

/* Whether this submission fails; *RESULT: how. */
static bool submission_fails(struct io_uring *ring, int *result)
{
	if (bad.transient && bad.error && bad.transient-- % 2) {
		*result = bad.error;
		return true;
	}
	if (bad.submissions == ~0u || !(ring->sq.sqe_tail - io_uring_smp_load_acquire(ring->sq.khead)))
		return false;
	if (bad.submissions) {
		bad.submissions--;
		return false;
	}
	*result = bad.part ? submit_part(ring, bad.part) : bad.error;
	bad.part = 0;
	return true;
}

/* Write another answer into the kernel's queue before anybody has read it. */
static int spoil(struct io_uring *ring, int submitted)
{
	unsigned head = *ring->cq.khead, tail = io_uring_smp_load_acquire(ring->cq.ktail);
	if (tail - head > bad.inflight_most)
		bad.inflight_most = tail - head;
	for (; bad.result && head != tail; head++)
		if (head % 3 == 0)
			ring->cq.cqes[head & ring->cq.ring_mask].res = bad.result;
	return submitted;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
	int result;
	return submission_fails(ring, &result) ? result : spoil(ring, __real_io_uring_submit(ring));
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
	int result;
	return submission_fails(ring, &result) ? result : spoil(ring, __real_io_uring_submit_and_wait(ring, count));
}

int __wrap_io_uring_submit_and_get_events(struct io_uring *ring)
{
	int result;
	return submission_fails(ring, &result) ? result : spoil(ring, __real_io_uring_submit_and_get_events(ring));
}
#endif

/* --- queues --- */

static const struct lw_ioq_config setups[] = {
	{ LW_IOQ_POOL, 0, 1 }, { LW_IOQ_POOL, 0, 2 }, { LW_IOQ_POOL, 8, 64 }, { LW_IOQ_POOL, 0, 0 }, { LW_IOQ_AUTO, 0, 0 }, { LW_IOQ_AUTO, 8, 1 },
	{ LW_IOQ_RING, 8, 0 }, { LW_IOQ_RING, 0, 4 }, { LW_IOQ_RING, 4096, 0 },
};
enum { SETUPS = sizeof setups / sizeof *setups, POOLS = 6 };

/* How many of the setups there are here. */
static size_t usable(void)
{
	return forbid_have_ring() ? SETUPS : POOLS;
}

#define NEEDS_RING() FORBID_NEEDS(forbid_have_ring(), "io_uring cannot be used here")

static lw_ioq *create(const struct lw_ioq_config *config)
{
	lw_ioq *q;
	char why[LW_IOQ_WHY];
	int error = lw_ioq_create(config, &q, why);
	TREE_CHECK(error == 0 || !fprintf(stderr, "%s\n", why));
	return q;
}

static struct lw_ioq_stats stats_of(const lw_ioq *q)
{
	struct lw_ioq_stats stats;
	lw_ioq_stats(q, &stats);
	return stats;
}

/* Submit COUNT ops and reap them all; each must come back exactly once. */
static bool run(lw_ioq *q, struct lw_ioq_op *op, size_t count)
{
	size_t back = 0;
	for (size_t i = 0; i < count; i++) {
		op[i].data = NULL;
		op[i].result = 4711;
		lw_ioq_submit(q, &op[i]);
	}
	for (struct lw_ioq_op *done; (done = lw_ioq_reap(q, true)); back++) {
		if (done < op || done >= op + count || done->data)
			return false;
		done->data = done;
	}
	return back == count && stats_of(q).outstanding == 0;
}

static unsigned count_fds(void)
{
	unsigned count = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		count++;
	closedir(d);
	return count;
}

static struct lw_ioq_op op_statx(int fd, const char *path, int flags, struct statx *out)
{
	return (struct lw_ioq_op){ .kind = LW_IOQ_STATX, .fd = fd, .path = path, .flags = flags, .mask = STATX_BASIC_STATS, .statx = out };
}

static struct lw_ioq_op op_open(int fd, const char *path, int flags)
{
	return (struct lw_ioq_op){ .kind = LW_IOQ_OPENAT, .fd = fd, .path = path, .flags = flags | O_CLOEXEC };
}

static struct lw_ioq_op op_read(int fd, void *buffer, size_t size, int64_t offset)
{
	return (struct lw_ioq_op){ .kind = LW_IOQ_READ, .fd = fd, .buffer = buffer, .size = size, .offset = offset };
}

static struct lw_ioq_op op_close(int fd)
{
	return (struct lw_ioq_op){ .kind = LW_IOQ_CLOSE, .fd = fd };
}

static char root[PATH_MAX];
static int dir;
static char long_name[NAME_MAX + 2], long_path[PATH_MAX + 2];

static void set_up(void)
{
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
	memset(long_name, 'n', NAME_MAX + 1);
	memset(long_path, '/', PATH_MAX + 1);
	play_reset();
}

static void tear_down(void)
{
	close(dir);
	tree_destroy(root);
}

TestSuite(ioq, .init = set_up, .fini = tear_down);

/* --- what each call answers --- */

enum { BUFFER = 64 };
struct expectation {
	struct lw_ioq_op op;
	int64_t result;		/* for OPENAT 0: any descriptor */
};

static void make_things(void)
{
	tree_write(dir, "file", "0123456789");
	tree_write(dir, "\xff\xfe\n", "raw");
	close(tree_mkdir(dir, "sub"));
	TREE_CHECK(symlinkat("file", dir, "link") == 0 && symlinkat("ring", dir, "ring") == 0 && symlinkat("nowhere", dir, "dangling") == 0);
	memset(long_name, 'm', NAME_MAX);
	long_name[NAME_MAX] = '\0';
	tree_write(dir, long_name, "");
	memset(long_name, 'n', NAME_MAX + 1);
}

static size_t expectations(struct expectation *out, int file, struct statx *st, char *text)
{
	static char longest[NAME_MAX + 1];
	size_t n = 0;
	memset(longest, 'm', NAME_MAX);
#define EXPECT(operation, outcome) out[n++] = (struct expectation){ .op = operation, .result = outcome }
	EXPECT(op_statx(dir, "file", 0, &st[n]), 0);
	EXPECT(op_statx(AT_FDCWD, root, 0, &st[n]), 0);
	EXPECT(op_statx(dir, "", AT_EMPTY_PATH, &st[n]), 0);
	EXPECT(op_statx(dir, "", 0, &st[n]), -ENOENT);
	EXPECT(op_statx(dir, "\xff\xfe\n", 0, &st[n]), 0);
	EXPECT(op_statx(dir, longest, 0, &st[n]), 0);
	EXPECT(op_statx(dir, "link", AT_SYMLINK_NOFOLLOW, &st[n]), 0);
	EXPECT(op_statx(dir, "link", 0, &st[n]), 0);
	EXPECT(op_statx(dir, "absent", 0, &st[n]), -ENOENT);
	EXPECT(op_statx(dir, "dangling", 0, &st[n]), -ENOENT);
	EXPECT(op_statx(dir, "ring", 0, &st[n]), -ELOOP);
	EXPECT(op_statx(dir, "file/below", 0, &st[n]), -ENOTDIR);
	EXPECT(op_statx(dir, long_name, 0, &st[n]), -ENAMETOOLONG);
	EXPECT(op_statx(dir, long_path, 0, &st[n]), -ENAMETOOLONG);
	EXPECT(op_statx(-1, "file", 0, &st[n]), -EBADF);
	EXPECT(op_statx(file, "file", 0, &st[n]), -ENOTDIR);
	EXPECT(op_statx(dir, "file", 0x40000000, &st[n]), -EINVAL);
	EXPECT(op_open(dir, "file", O_RDONLY), 0);
	EXPECT(op_open(dir, "sub", O_RDONLY | O_DIRECTORY), 0);
	EXPECT(op_open(dir, "\xff\xfe\n", O_RDONLY | O_NONBLOCK), 0);
	EXPECT(op_open(dir, "file", O_RDONLY | O_DIRECTORY), -ENOTDIR);
	EXPECT(op_open(dir, "link", O_RDONLY | O_NOFOLLOW), -ELOOP);
	EXPECT(op_open(dir, "absent", O_RDONLY), -ENOENT);
	EXPECT(op_open(dir, "sub", O_WRONLY), -EISDIR);
	EXPECT(op_open(dir, long_name, O_RDONLY), -ENAMETOOLONG);
	EXPECT(op_open(dir, long_path, O_RDONLY), -ENAMETOOLONG);
	EXPECT(op_open(1000000, "file", O_RDONLY), -EBADF);
	EXPECT(op_read(file, text + n * BUFFER, BUFFER, 0), 10);
	EXPECT(op_read(file, text + n * BUFFER, 4, 3), 4);
	EXPECT(op_read(file, text + n * BUFFER, 0, 3), 0);
	EXPECT(op_read(file, text + n * BUFFER, BUFFER, 10), 0);
	EXPECT(op_read(file, text + n * BUFFER, BUFFER, INT64_C(1) << 40), 0);
	EXPECT(op_read(dir, text + n * BUFFER, BUFFER, 0), -EISDIR);
	EXPECT(op_read(-1, text + n * BUFFER, BUFFER, 0), -EBADF);
	EXPECT(op_read(1000000, text + n * BUFFER, BUFFER, 0), -EBADF);
	EXPECT(op_close(-1), -EBADF);
	EXPECT(op_close(1000000), -EBADF);
	EXPECT(op_close(dup(file)), 0);
#undef EXPECT
	return n;
}
enum { EXPECTATIONS_MAX = 64 };

static bool as_expected(const struct lw_ioq_op *op, int64_t result)
{
	if (op->kind == LW_IOQ_OPENAT && result == 0)
		return op->result > 2 && fcntl((int)op->result, F_GETFD) == FD_CLOEXEC;
	return op->result == result;
}

/* Whether what OP brought is what a plain call brings now. */
static bool same_bytes(const struct lw_ioq_op *op)
{
	struct statx st;
	char text[BUFFER];
	if (op->result < 0 || op->kind == LW_IOQ_CLOSE || op->kind == LW_IOQ_OPENAT)
		return true;
	if (op->kind == LW_IOQ_READ)
		return pread(op->fd, text, op->size, op->offset) == op->result && memcmp(text, op->buffer, (size_t)op->result) == 0;
	return statx(op->fd, op->path, op->flags, op->mask, &st) == 0 && st.stx_ino == op->statx->stx_ino && st.stx_size == op->statx->stx_size
		&& st.stx_mtime.tv_nsec == op->statx->stx_mtime.tv_nsec && st.stx_mode == op->statx->stx_mode;
}

static void check_expectations(const struct lw_ioq_config *config)
{
	struct expectation table[EXPECTATIONS_MAX];
	struct lw_ioq_op op[EXPECTATIONS_MAX];
	struct statx st[EXPECTATIONS_MAX];
	char text[EXPECTATIONS_MAX * BUFFER];
	int file = openat(dir, "file", O_RDONLY | O_CLOEXEC);
	size_t count = expectations(table, file, st, text);
	lw_ioq *q = create(config);
	for (size_t i = 0; i < count; i++)
		op[i] = table[i].op;
	cr_assert(run(q, op, count), "each comes back once");
	for (size_t i = 0; i < count; i++) {
		cr_expect(as_expected(&op[i], table[i].result), "%s: op %zu: %d", stats_of(q).backend, i, (int)op[i].result);
		cr_expect(same_bytes(&op[i]), "%s: op %zu", stats_of(q).backend, i);
		if (op[i].kind == LW_IOQ_OPENAT && op[i].result >= 0)
			close((int)op[i].result);
	}
	cr_expect_eq(stats_of(q).calls, count);
	lw_ioq_destroy(q);
	close(file);
}

Test(ioq, expectations)
{
	make_things();
	for (size_t i = 0; i < usable(); i++) {
		unsigned fds = count_fds();
		check_expectations(&setups[i]);
		cr_expect_eq(count_fds(), fds, "setup %zu leaves descriptors behind", i);
	}
}

Test(ioq, plain)
{
	struct expectation table[EXPECTATIONS_MAX];
	struct statx st[EXPECTATIONS_MAX];
	char text[EXPECTATIONS_MAX * BUFFER];
	make_things();
	int file = openat(dir, "file", O_RDONLY | O_CLOEXEC);
	size_t count = expectations(table, file, st, text);
	for (size_t i = 0; i < count; i++) {
		lw_ioq_plain(&table[i].op);
		cr_expect(as_expected(&table[i].op, table[i].result), "op %zu: %d", i, (int)table[i].op.result);
	}
}

Test(ioq, names_itself)
{
	for (size_t i = 0; i < usable(); i++) {
		char why[LW_IOQ_WHY];
		lw_ioq *q;
		cr_assert_eq(lw_ioq_create(&setups[i], &q, why), 0);
		const char *name = setups[i].backend == LW_IOQ_RING ? "ring" : "pool";
		cr_expect_str_eq(stats_of(q).backend, name);
		cr_expect(strncmp(why, name, 4) == 0 && strstr(why, stats_of(q).why), "%s", why);
		lw_ioq_destroy(q);
	}
	lw_ioq_destroy(NULL);
}

/* --- many --- */

enum { MANY = 6000, FILES = 100 };

static char name_of[FILES][16];

static void make_files(void)
{
	for (int i = 0; i < FILES; i++) {
		snprintf(name_of[i], sizeof name_of[i], "%d", i);
		tree_write(dir, name_of[i], name_of[i]);
	}
}

/* Every seventh is missing; the others say which file they are of by their size. */
static bool right(const struct lw_ioq_op *op, size_t i)
{
	return i % 7 ? op->result == 0 && op->statx->stx_size == strlen(name_of[i % FILES]) : op->result == -ENOENT;
}

static struct lw_ioq_op *many_ops(struct statx **st)
{
	struct lw_ioq_op *op = calloc(MANY, sizeof *op);
	*st = calloc(MANY, sizeof **st);
	TREE_CHECK(op && *st);
	for (size_t i = 0; i < MANY; i++)
		op[i] = op_statx(dir, i % 7 ? name_of[i % FILES] : "absent", 0, &(*st)[i]);
	return op;
}

Test(ioq, thousands_at_once)
{
	struct statx *st;
	make_files();
	struct lw_ioq_op *op = many_ops(&st);
	for (size_t s = 0; s < usable(); s++) {
		lw_ioq *q = create(&setups[s]);
		for (int round = 0; round < 3; round++) {
			memset(st, 0, MANY * sizeof *st);
			cr_assert(run(q, op, MANY), "setup %zu", s);
			for (size_t i = 0; i < MANY; i++)
				cr_assert(right(&op[i], i), "setup %zu, op %zu: %d", s, i, (int)op[i].result);
		}
		struct lw_ioq_stats stats = stats_of(q);
		cr_expect_eq(stats.calls, 3 * MANY);
		cr_expect(setups[s].backend == LW_IOQ_RING ? stats.syscalls < stats.calls : stats.syscalls >= stats.calls, "setup %zu: %d", s, (int)stats.syscalls);
		lw_ioq_destroy(q);
	}
	free(op);
	free(st);
}

/* One comes back, another goes: as callers with a window do; now and then without waiting. */
Test(ioq, a_window)
{
	enum { WINDOW = 37 };
	struct statx *st;
	make_files();
	struct lw_ioq_op *op = many_ops(&st);
	for (size_t s = 0; s < usable(); s++) {
		size_t sent = 0, back = 0, empty = 0;
		lw_ioq *q = create(&setups[s]);
		while (sent < WINDOW)
			lw_ioq_submit(q, &op[sent++]);
		while (back < MANY) {
			struct lw_ioq_op *done = lw_ioq_reap(q, back % 3 == 0);
			empty += !done;
			if (!done)
				continue;
			cr_assert(right(done, (size_t)(done - op)));
			back++;
			if (sent < MANY)
				lw_ioq_submit(q, &op[sent++]);
		}
		cr_expect_null(lw_ioq_reap(q, true));
		cr_expect_null(lw_ioq_reap(q, false));
		lw_ioq_destroy(q);
	}
	free(op);
	free(st);
}

#ifdef LW_TEST_URING
Test(ioq, completions_find_room)
{
	struct statx *st;
	NEEDS_RING();
	make_files();
	struct lw_ioq_op *op = many_ops(&st);
	for (unsigned depth = 1; depth <= 64; depth *= 4) {
		bad.inflight_most = 0;
		lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING, .depth = depth });
		cr_assert(run(q, op, MANY));
		cr_expect(bad.inflight_most > 0 && bad.inflight_most <= depth, "%u answers at once, depth %u", bad.inflight_most, depth);
		lw_ioq_destroy(q);
	}
	free(op);
	free(st);
}
#endif

Test(ioq, open_read_close)
{
	make_files();
	for (size_t s = 0; s < usable(); s++) {
		struct lw_ioq_op op[FILES];
		char text[FILES][16];
		int fd[FILES];
		unsigned before = count_fds();
		lw_ioq *q = create(&setups[s]);
		unsigned with = count_fds();
		for (int i = 0; i < FILES; i++)
			op[i] = op_open(dir, name_of[i], O_RDONLY);
		cr_assert(run(q, op, FILES));
		for (int i = 0; i < FILES; i++) {
			fd[i] = (int)op[i].result;
			cr_assert_gt(fd[i], 2);
			op[i] = op_read(fd[i], text[i], sizeof text[i], 0);
		}
		cr_assert(run(q, op, FILES));
		for (int i = 0; i < FILES; i++) {
			cr_assert(op[i].result == (int64_t)strlen(name_of[i]) && memcmp(text[i], name_of[i], strlen(name_of[i])) == 0);
			op[i] = op_close(fd[i]);
		}
		cr_assert(run(q, op, FILES));
		for (int i = 0; i < FILES; i++)
			cr_assert(op[i].result == 0 && fcntl(fd[i], F_GETFD) < 0);
		cr_expect_eq(count_fds(), with);
		lw_ioq_destroy(q);
		cr_expect_eq(count_fds(), before);
	}
}

Test(ioq, out_of_descriptors)
{
	enum { ROOM = 20 };
	make_files();
	for (size_t s = 0; s < usable(); s++) {
		struct lw_ioq_op op[FILES];
		struct rlimit old, low;
		unsigned good = 0, room = 0;
		lw_ioq *q = create(&setups[s]);
		getrlimit(RLIMIT_NOFILE, &old);
		low = old;
		for (low.rlim_cur = 0; room < ROOM; low.rlim_cur++)
			room += fcntl((int)low.rlim_cur, F_GETFD) < 0;
		for (int i = 0; i < FILES; i++)
			op[i] = op_open(dir, name_of[i], O_RDONLY);
		setrlimit(RLIMIT_NOFILE, &low);
		bool all = run(q, op, FILES);
		setrlimit(RLIMIT_NOFILE, &old);
		cr_assert(all);
		for (int i = 0; i < FILES; i++) {
			cr_assert(op[i].result > 2 || op[i].result == -EMFILE, "%d", (int)op[i].result);
			good += op[i].result > 2;
			if (op[i].result > 2)
				close((int)op[i].result);
		}
		cr_expect_eq(good, ROOM, "setup %zu: %u", s, good);
		lw_ioq_destroy(q);
	}
}

/* --- destroying, forking --- */

Test(ioq, destroyed_with_work_outstanding)
{
	make_files();
	for (size_t s = 0; s < usable(); s++) {
		for (unsigned reaped = 0; reaped < 30; reaped += 7) {
			struct lw_ioq_op op[3 * FILES];
			struct statx st[FILES];
			int fd[FILES];
			unsigned before = count_fds();
			lw_ioq *q = create(&setups[s]);
			for (int i = 0; i < FILES; i++) {
				fd[i] = dup(dir);
				op[3 * i] = op_open(dir, name_of[i], O_RDONLY);
				op[3 * i + 1] = op_statx(dir, name_of[i], 0, &st[i]);
				op[3 * i + 2] = op_close(fd[i]);
			}
			for (int i = 0; i < 3 * FILES; i++)
				lw_ioq_submit(q, &op[i]);
			for (unsigned i = 0; i < reaped; i++) {
				struct lw_ioq_op *done = lw_ioq_reap(q, true);
				cr_assert_geq(done->result, 0);
				if (done->kind == LW_IOQ_OPENAT)
					close((int)done->result);
			}
			lw_ioq_destroy(q);
			/* Nobody writes to it any more. */
			memset(op, 0xee, sizeof op);
			memset(st, 0xee, sizeof st);
			for (int i = 0; i < FILES; i++)
				cr_expect(fcntl(fd[i], F_GETFD) < 0, "setup %zu: closes are made", s);
			cr_expect_eq(count_fds(), before, "setup %zu: what was opened is closed", s);
		}
	}
}

Test(ioq, destroying_does_not_begin_anything)
{
	struct lw_ioq_op op[1000];
	struct statx st[1000];
	atomic_store(&play.delay_us, 2000);
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_POOL, .threads = 2 });
	for (int i = 0; i < 1000; i++) {
		op[i] = op_statx(dir, "", AT_EMPTY_PATH, &st[i]);
		lw_ioq_submit(q, &op[i]);
	}
	lw_ioq_destroy(q);
	cr_expect_lt(atomic_load(&play.calls[STATX]), 100);
}

/* Run BODY in a child: its exit status, or 128 + signal. */
static int in_child(int (*body)(void *arg), void *arg)
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		_exit(body(arg));
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* In a child; complains on stderr. */
#define MUST(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			return 1; \
		} \
	} while (0)

static int destroy_inherited(void *arg)
{
	unsigned fds = count_fds();
	lw_ioq_destroy(arg);
	MUST(count_fds() <= fds);
	return 0;
}

Test(ioq, forked)
{
	make_files();
	for (size_t s = 0; s < usable(); s++) {
		struct lw_ioq_op op[FILES];
		struct statx st[FILES];
		lw_ioq *q = create(&setups[s]);
		for (int i = 0; i < FILES; i++)
			op[i] = op_statx(dir, name_of[i], 0, &st[i]);
		cr_assert(run(q, op, FILES));
		for (int i = 0; i < FILES; i++)
			lw_ioq_submit(q, &op[i]);
		cr_expect_eq(in_child(destroy_inherited, q), 0, "setup %zu", s);
		/* The parent's goes on as if nothing had happened. */
		for (int i = 0; i < FILES; i++) {
			struct lw_ioq_op *done = lw_ioq_reap(q, true);
			cr_assert(done && done->result == 0);
		}
		lw_ioq_destroy(q);
	}
}

Test(ioq, nothing_passes_an_exec)
{
	for (size_t s = 0; s < usable(); s++) {
		lw_ioq *q = create(&setups[s]);
		DIR *d = opendir("/proc/self/fd");
		for (struct dirent *e; (e = readdir(d));) {
			char target[PATH_MAX] = "";
			ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
			if (len > 0 && strstr(target, "io_uring"))
				cr_expect(fcntl(atoi(e->d_name), F_GETFD) & FD_CLOEXEC);
		}
		closedir(d);
		lw_ioq_destroy(q);
	}
}

/* --- threads --- */

static unsigned count_threads(void)
{
	unsigned count = 0;
	DIR *d = opendir("/proc/self/task");
	for (struct dirent *e; (e = readdir(d));)
		count += *e->d_name != '.';
	closedir(d);
	return count;
}

static size_t slow_run(lw_ioq *q, struct lw_ioq_op *op, struct statx *st, size_t count, unsigned delay_us)
{
	atomic_store(&play.most, 0);
	atomic_store(&play.delay_us, delay_us);
	for (size_t i = 0; i < count; i++)
		op[i] = op_statx(dir, "", AT_EMPTY_PATH, &st[i]);
	cr_assert(run(q, op, count));
	atomic_store(&play.delay_us, 0);
	return atomic_load(&play.most);
}

enum { SLOW = 4000 };
static struct lw_ioq_op slow_op[SLOW];
static struct statx slow_st[SLOW];

Test(ioq, pool_grows_while_calls_wait_and_shrinks_again)
{
	unsigned before = count_threads(), cores;
	cpu_set_t set;
	cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
	cores = (unsigned)CPU_COUNT(&set);
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_POOL });
	cr_expect_eq(count_threads(), before, "no thread before there is work");
	cr_expect_leq(slow_run(q, slow_op, slow_st, SLOW, 0), cores);
	cr_expect_leq(count_threads(), before + cores - 1);
	size_t most = slow_run(q, slow_op, slow_st, SLOW, 1000);
	cr_expect(most > 4 * cores || most == 64, "%zu calls at once", most);
	cr_expect_leq(most, 64);
	/* The mean takes some chunks to fall. */
	slow_run(q, slow_op, slow_st, SLOW, 0);
	cr_expect_leq(slow_run(q, slow_op, slow_st, SLOW, 0), cores, "those beyond sleep");
	lw_ioq_destroy(q);
	cr_expect_eq(count_threads(), before);
}

Test(ioq, as_many_threads_as_asked_for)
{
	static const unsigned asked[] = { 1, 2, 5, 64, 1000 };
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		unsigned before = count_threads(), wanted = asked[i] < 64 ? asked[i] : 64;
		lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_POOL, .threads = asked[i] });
		size_t most = slow_run(q, slow_op, slow_st, 64 * wanted < SLOW ? 64 * wanted : SLOW, 1000);
		/* That all 64 meet is up to the scheduler. */
		unsigned least = wanted < 64 ? wanted : wanted / 2;
		cr_expect(most >= least && most <= wanted && stats_of(q).threads >= least && stats_of(q).threads <= wanted, "%zu of %u", most, wanted);
		cr_expect_eq(count_threads(), before + wanted - 1);
		lw_ioq_destroy(q);
	}
}

static void *no_thread(void *arg)
{
	return NULL;
}

static int few_threads(void *arg)
{
	struct rlimit limit = { 0, 0 };
	/* As a user who may have no process more. */
	MUST(setrlimit(RLIMIT_NPROC, &limit) == 0 && (getuid() || setuid(65534) == 0));
	pthread_t thread;
	MUST(pthread_create(&thread, NULL, no_thread, NULL) != 0);
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_POOL, .threads = 8 });
	for (size_t i = 0; i < 100; i++)
		slow_op[i] = op_statx(dir, "", AT_EMPTY_PATH, &slow_st[i]);
	MUST(run(q, slow_op, 100) && stats_of(q).threads == 1);
	lw_ioq_destroy(q);
	return 0;
}

Test(ioq, no_threads_to_be_had)
{
	cr_expect_eq(in_child(few_threads, NULL), 0);
}

static _Atomic unsigned signals_elsewhere;
static pthread_t owner;
static void on_signal(int number)
{
	if (!pthread_equal(pthread_self(), owner))
		atomic_fetch_add(&signals_elsewhere, 1);
}

Test(ioq, signals_are_for_the_owner)
{
	owner = pthread_self();
	signal(SIGALRM, on_signal);
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	for (size_t s = 0; s < usable(); s++) {
		lw_ioq *q = create(&setups[s]);
		setitimer(ITIMER_REAL, &often, NULL);
		slow_run(q, slow_op, slow_st, 500, 100);
		for (size_t i = 0; i < 500; i++)
			cr_assert_eq(slow_op[i].result, 0, "%d", (int)slow_op[i].result);
		setitimer(ITIMER_REAL, &never, NULL);
		lw_ioq_destroy(q);
	}
	cr_expect_eq(atomic_load(&signals_elsewhere), 0);
}

static int own_table(void *arg)
{
	struct lw_ioq_op op[64];
	/* The main thread keeps its table; ours, with one more file, is what all of the pool's must use. */
	MUST(unshare(CLONE_FILES) == 0);
	int fd = dup(dir);
	struct statx st[64];
	for (size_t s = 0; s < usable(); s++) {
		lw_ioq *q = create(&setups[s]);
		for (int i = 0; i < 64; i++)
			op[i] = op_statx(fd, "", AT_EMPTY_PATH, &st[i]);
		atomic_store(&play.delay_us, 200);
		MUST(run(q, op, 64));
		for (int i = 0; i < 64; i++)
			MUST(op[i].result == 0);
		lw_ioq_destroy(q);
	}
	return 0;
}

static void *own_table_thread(void *arg)
{
	*(int *)arg = own_table(NULL);
	return NULL;
}

Test(ioq, descriptors_of_the_owner)
{
	int result = -1;
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, own_table_thread, &result), 0);
	pthread_join(thread, NULL);
	cr_expect_eq(result, 0);
}

/* --- calls that fail --- */

Test(ioq, failing_calls)
{
	static const int errors[] = { EIO, ENOMEM, EMFILE, EACCES, ENFILE };
	make_files();
	for (size_t s = 0; s < POOLS; s++) {
		for (int kind = 0; kind < KINDS; kind++) {
			for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
				struct lw_ioq_op op[FILES];
				struct statx st[FILES];
				char text[FILES];
				unsigned failed = 0;
				lw_ioq *q = create(&setups[s]);
				for (int i = 0; i < FILES; i++)
					op[i] = kind == STATX ? op_statx(dir, name_of[i], 0, &st[i]) : kind == OPENAT ? op_open(dir, name_of[i], O_RDONLY)
						: kind == READ ? op_read(dir, &text[i], 1, 0) : op_close(dup(dir));
				play_failing(kind, errors[e], 3, 0);
				bool all = run(q, op, FILES);
				unsigned calls = atomic_load(&play.calls[kind]);
				play_reset();
				cr_assert(all);
				for (int i = 0; i < FILES; i++) {
					failed += op[i].result == -errors[e];
					cr_assert(op[i].result >= 0 || op[i].result == -errors[e] || (kind == READ && op[i].result == -EISDIR));
					if (kind == OPENAT && op[i].result >= 0)
						close((int)op[i].result);
				}
				cr_expect_eq(failed, FILES / 3);
				cr_expect_eq(calls, FILES, "no failed call is made again: %u", calls);
				lw_ioq_destroy(q);
			}
		}
	}
}

Test(ioq, interrupted_calls)
{
	tree_write(dir, "file", "0123456789");
	for (size_t s = 0; s < POOLS; s++) {
		for (int kind = 0; kind < KINDS; kind++) {
			struct statx st;
			char text[10];
			int file = openat(dir, "file", O_RDONLY), extra = dup(file);
			struct lw_ioq_op op = kind == STATX ? op_statx(dir, "file", 0, &st) : kind == OPENAT ? op_open(dir, "file", O_RDONLY)
				: kind == READ ? op_read(file, text, 10, 0) : op_close(extra);
			lw_ioq *q = create(&setups[s]);
			play_failing(kind, EINTR, 1, 4);
			cr_assert(run(q, &op, 1));
			unsigned calls = atomic_load(&play.calls[kind]);
			play_reset();
			cr_expect_eq(calls, kind == CLOSE ? 1 : 5, "kind %d: %u calls", kind, calls);
			cr_expect_eq(stats_of(q).syscalls, calls);
			cr_expect(kind == STATX ? op.result == 0 : kind == OPENAT ? op.result > 2 : kind == READ ? op.result == 10 : op.result == 0);
			if (kind == OPENAT)
				close((int)op.result);
			cr_expect_eq(fcntl(extra, F_GETFD) < 0, kind == CLOSE);
			lw_ioq_destroy(q);
			close(file);
			close(extra);
		}
	}
}

Test(ioq, short_reads_are_the_callers_business)
{
	char text[10];
	tree_write(dir, "file", "0123456789");
	int file = openat(dir, "file", O_RDONLY);
	for (size_t s = 0; s < POOLS; s++) {
		struct lw_ioq_op op = op_read(file, text, 10, 0);
		lw_ioq *q = create(&setups[s]);
		play_failing(READ, 0, 1, 0);
		cr_assert(run(q, &op, 1));
		play_reset();
		cr_expect_eq(op.result, 3);
		lw_ioq_destroy(q);
	}
	close(file);
}

/* --- AUTO --- */

Test(ioq, auto_asks_for_the_ring_only_when_calls_wait)
{
	NEEDS_RING();
	struct lw_ioq_config config = { .backend = LW_IOQ_AUTO };
	lw_ioq *q = create(&config);
	slow_run(q, slow_op, slow_st, SLOW, 0);
	cr_expect_str_eq(stats_of(q).backend, "pool");
	cr_expect(strstr(stats_of(q).why, "has not been tried"), "%s", stats_of(q).why);
	atomic_store(&play.calls[STATX], 0);
	slow_run(q, slow_op, slow_st, 1000, 500);
	cr_expect_str_eq(stats_of(q).backend, "ring", "%s", stats_of(q).why);
	cr_expect_lt(atomic_load(&play.calls[STATX]), 300, "the rest of the batch goes over to the ring: %u calls", atomic_load(&play.calls[STATX]));
	cr_expect(strstr(stats_of(q).why, "calls wait; io_uring works"), "%s", stats_of(q).why);
	cr_expect_lt(stats_of(q).mean_ns, 100 * 1000);
	/* The kernel's calls are not slow. Samples tell. */
	for (int i = 0; i < 20 && strcmp(stats_of(q).backend, "ring") == 0; i++)
		slow_run(q, slow_op, slow_st, SLOW, 0);
	cr_expect_str_eq(stats_of(q).backend, "pool", "and back again: mean %d ns", (int)stats_of(q).mean_ns);
	lw_ioq_destroy(q);
}

struct ban {
	long number;
	unsigned action;
	int result;
	const char *word;	/* in WHY */
};

/* The whole point of AUTO: whatever the answer, the work is done, and this process lives. */
static int banned_auto(void *arg)
{
	const struct ban *ban = arg;
	MUST(forbid(ban->number, ban->action) == 0);
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_AUTO });
	for (size_t i = 0; i < 2000; i++)
		slow_op[i] = op_statx(dir, "", AT_EMPTY_PATH, &slow_st[i]);
	atomic_store(&play.delay_us, 300);
	MUST(run(q, slow_op, 2000));
	struct lw_ioq_stats stats = stats_of(q);
	MUST(strcmp(stats.backend, "pool") == 0 && stats.threads > 8);
	if (!strstr(stats.why, "calls wait, but ") || !strstr(stats.why, ban->word)) {
		fprintf(stderr, "%s\n", stats.why);
		return 1;
	}
	for (size_t i = 0; i < 2000; i++)
		MUST(slow_op[i].result == 0);
	lw_ioq_destroy(q);
	return 0;
}

static int banned_ring(void *arg)
{
	const struct ban *ban = arg;
	char why[LW_IOQ_WHY];
	lw_ioq *q;
	MUST(forbid(ban->number, ban->action) == 0);
	unsigned fds = count_fds();
	for (int i = 0; i < 2; i++)
		MUST(lw_ioq_create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }, &q, why) == ban->result);
	MUST(strncmp(why, "no ring: ", 9) == 0 && strstr(why, ban->word));
	MUST(count_fds() == fds);
	return 0;
}

/* Nothing asks before it must: under a filter that kills, a pool that does not wait lives without a child being killed. */
static int banned_but_not_asked(void *arg)
{
	const struct ban *ban = arg;
	MUST(forbid(ban->number, ban->action) == 0 && forbid(SYS_clone, SECCOMP_RET_KILL_PROCESS) == 0);
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_AUTO, .threads = 1 });
	for (size_t i = 0; i < 2000; i++)
		slow_op[i] = op_statx(dir, "", AT_EMPTY_PATH, &slow_st[i]);
	MUST(run(q, slow_op, 2000));
	lw_ioq_destroy(q);
	return 0;
}

Test(ioq, forbidden)
{
	static struct ban bans[] = {
		{ SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM, -EPERM, "seccomp" },
		{ SYS_io_uring_setup, SECCOMP_RET_ERRNO | ENOSYS, -ENOSYS, "CONFIG_IO_URING" },
		{ SYS_io_uring_setup, SECCOMP_RET_ERRNO | ENOMEM, -ENOMEM, "ulimit -l" },
		{ SYS_io_uring_setup, SECCOMP_RET_KILL_PROCESS, -EPERM, "SystemCallErrorNumber" },
		{ SYS_io_uring_setup, SECCOMP_RET_KILL_THREAD, -EPERM, "SystemCallErrorNumber" },
		{ SYS_io_uring_setup, SECCOMP_RET_TRAP, -EPERM, "seccomp" },
		{ SYS_io_uring_enter, SECCOMP_RET_ERRNO | EPERM, -EPERM, "seccomp" },
		{ SYS_io_uring_enter, SECCOMP_RET_KILL_PROCESS, -EPERM, "seccomp" },
		{ SYS_io_uring_register, SECCOMP_RET_ERRNO | EPERM, -EPERM, "seccomp" },
	};
	NEEDS_RING();
	for (size_t i = 0; i < sizeof bans / sizeof *bans; i++) {
		cr_expect_eq(in_child(banned_auto, &bans[i]), 0, "AUTO, case %zu", i);
		cr_expect_eq(in_child(banned_ring, &bans[i]), 0, "RING, case %zu", i);
		cr_expect_eq(in_child(banned_but_not_asked, &bans[i]), 0, "case %zu", i);
	}
}

static int killed_when_asked_here(void *arg)
{
	MUST(forbid(SYS_io_uring_setup, SECCOMP_RET_KILL_PROCESS) == 0);
	return (int)syscall(SYS_io_uring_setup, 1, NULL) > 256;
}

Test(ioq, the_filter_does_kill)
{
	cr_expect_eq(in_child(killed_when_asked_here, NULL), 128 + SIGSYS, "the control");
}

#ifdef LW_TEST_URING

/* --- rings that cannot be made --- */

Test(ioq, ring_cannot_be_made)
{
	const struct { int *fault; int error; const char *word; } table[] = {
		{ &bad.queue_init, -ENOMEM, "ulimit -l" }, { &bad.queue_init, -EMFILE, "ulimit -n" }, { &bad.queue_init, -ENFILE, "fs.file-max" },
		{ &bad.queue_init, -EPERM, "not permitted" }, { &bad.register_files, -ENOMEM, "ulimit -l" }, { &bad.dontfork, -ENOMEM, "ulimit -l" },
	};
	NEEDS_RING();
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		char why[LW_IOQ_WHY];
		lw_ioq *q;
		/* What the probe found, before. */
		lw_ioq_destroy(create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }));
		unsigned fds = count_fds();
		*table[i].fault = table[i].error;
		cr_expect_eq(lw_ioq_create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }, &q, why), table[i].error);
		cr_expect(strstr(why, "no ring could be made") && strstr(why, table[i].word), "%s", why);
		q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_AUTO });
		slow_run(q, slow_op, slow_st, 1000, 500);
		cr_expect(strcmp(stats_of(q).backend, "pool") == 0 && strstr(stats_of(q).why, table[i].word), "%s", stats_of(q).why);
		lw_ioq_destroy(q);
		*table[i].fault = 0;
		cr_expect_eq(count_fds(), fds);
	}
}

Test(ioq, older_kernels)
{
	static const unsigned known[] = { ~0u, ~(unsigned)IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_SUBMIT_ALL, 0 };
	NEEDS_RING();
	make_things();
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		bad.flags_known = known[i];
		bad.flags_used = ~0u;
		check_expectations(&(struct lw_ioq_config){ .backend = LW_IOQ_RING });
		cr_expect_eq(bad.flags_used & ~known[i], 0);
		cr_expect(i != 1 || bad.flags_used & IORING_SETUP_SINGLE_ISSUER);
	}
	/* Here and now. */
	bad.flags_known = ~0u;
	lw_ioq_destroy(create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }));
	char text[LW_URING_TEXT];
	cr_assert_eq(lw_uring_probe(text, sizeof text), 0);
	cr_expect(strstr(text, "no DEFER_TASKRUN") || bad.flags_used & IORING_SETUP_DEFER_TASKRUN);
}

static int little_memory(void *arg)
{
	struct rlimit none = { 0, 0 };
	lw_ioq *q;
	char why[LW_IOQ_WHY];
	MUST(setrlimit(RLIMIT_MEMLOCK, &none) == 0 && (getuid() || setuid(65534) == 0));
	int error = lw_ioq_create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }, &q, why);
	/* From 5.12 on rings do not count as locked memory. */
	MUST(error == 0 || (error == -ENOMEM && strstr(why, "ulimit -l")));
	if (!error)
		lw_ioq_destroy(q);
	return 0;
}

Test(ioq, little_memory)
{
	NEEDS_RING();
	cr_expect_eq(in_child(little_memory, NULL), 0);
}

/* --- rings that break --- */

/* Everything is answered, nothing is done twice: descriptors show it. */
static void check_all_done(lw_ioq *q, const char *what)
{
	struct lw_ioq_op op[3 * FILES];
	struct statx st[FILES];
	int fd[FILES];
	unsigned fds = count_fds();
	for (int i = 0; i < FILES; i++) {
		fd[i] = dup(dir);
		op[i] = op_open(dir, name_of[i], O_RDONLY);
		op[FILES + i] = op_statx(dir, name_of[i], 0, &st[i]);
		op[2 * FILES + i] = op_close(fd[i]);
	}
	cr_assert(run(q, op, 3 * FILES), "%s", what);
	for (int i = 0; i < 3 * FILES; i++)
		cr_assert(op[i].result >= 0, "%s: op %d: %d", what, i, (int)op[i].result);
	for (int i = 0; i < FILES; i++) {
		cr_assert_eq(st[i].stx_size, strlen(name_of[i]));
		cr_assert_eq(close((int)op[i].result), 0);
	}
	cr_expect_leq(count_fds(), fds, "%s: no file was opened twice", what);
}

Test(ioq, submitting_fails)
{
	static const int errors[] = { -EIO, -ENOMEM, -EINVAL, -EAGAIN, -EBUSY, -EEXIST };
	NEEDS_RING();
	make_files();
	for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
		for (unsigned works = 0; works < 5; works++) {
			for (unsigned part = 0; part < 8; part += 3) {
				char what[64];
				snprintf(what, sizeof what, "error %d after %u and a part of %u", -errors[e], works, part);
				bad.submissions = ~0u;
				lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING, .depth = works % 2 ? 64 : 0 });
				bad.error = errors[e];
				bad.submissions = works;
				bad.part = part;
				check_all_done(q, what);
				cr_expect_eq(stats_of(q).calls, 3 * FILES);
				cr_expect_str_eq(stats_of(q).backend, "pool", "%s", what);
				cr_expect(strstr(stats_of(q).why, "failed later"), "%s", stats_of(q).why);
				check_all_done(q, "afterwards");
				lw_ioq_destroy(q);
			}
		}
	}
	bad.submissions = ~0u;
}

Test(ioq, submitting_fails_for_a_while)
{
	static const int errors[] = { -EINTR, -EAGAIN, -EBUSY };
	NEEDS_RING();
	make_files();
	for (size_t e = 0; e < 3; e++) {
		lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING, .depth = 16 });
		struct lw_ioq_op op[2];
		struct statx st[2];
		bad.error = errors[e];
		for (int round = 0; round < 20; round++) {
			/* One in flight already, or EAGAIN would have nothing to wait for. */
			op[0] = op_statx(dir, "0", 0, &st[0]);
			lw_ioq_submit(q, &op[0]);
			lw_ioq_reap(q, false);
			op[1] = op_statx(dir, "1", 0, &st[1]);
			bad.transient = errors[e] == -EINTR ? 7 : 0;
			lw_ioq_submit(q, &op[1]);
			while (lw_ioq_reap(q, true))
				;
			cr_assert(op[0].result == 0 && op[1].result == 0);
		}
		bad.transient = errors[e] == -EINTR ? 9 : 0;
		check_all_done(q, "with interruptions");
		cr_expect_str_eq(stats_of(q).backend, "ring");
		bad.transient = 0;
		lw_ioq_destroy(q);
	}
}

Test(ioq, answers_that_are_not_the_calls)
{
	/* Of ops that can be made again: the kernel has made these. */
	static const int results[] = { -ECANCELED, -EINTR, -EAGAIN };
	NEEDS_RING();
	make_files();
	for (size_t r = 0; r < 3; r++) {
		struct lw_ioq_op op[FILES];
		struct statx st[FILES];
		lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING });
		for (int i = 0; i < FILES; i++)
			op[i] = op_statx(dir, name_of[i], 0, &st[i]);
		play_reset();
		bad.result = results[r];
		cr_assert(run(q, op, FILES));
		bad.result = 0;
		for (int i = 0; i < FILES; i++)
			cr_assert(op[i].result == 0 && st[i].stx_size == strlen(name_of[i]));
		cr_expect_gt(atomic_load(&play.calls[STATX]), FILES / 4, "they were made again");
		cr_expect_eq(stats_of(q).calls, FILES);
		lw_ioq_destroy(q);
	}
	struct lw_ioq_op op = op_close(dup(dir));
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING });
	bad.result = -EINTR;
	play_reset();
	/* The third answer of this ring is the first that is spoilt: numbers 0, 3, ... are. */
	cr_assert(run(q, &op, 1));
	bad.result = 0;
	cr_expect_eq(op.result, 0, "an interrupted close has closed: %d", (int)op.result);
	cr_expect_eq(atomic_load(&play.calls[CLOSE]), 0, "and is not made again");
	lw_ioq_destroy(q);
}

/* The kernel's word, not a wrapper's: io_uring_enter is forbidden in the middle. Neither submitting nor waiting works. */
static int enter_forbidden_half_way(void *arg)
{
	struct lw_ioq_op op[4 * FILES];
	struct statx st[2 * FILES];
	int fd[FILES];
	const unsigned *setup = arg;
	unsigned fds = count_fds();
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING, .depth = setup[0], .threads = 2 });
	MUST(strcmp(stats_of(q).backend, "ring") == 0);
	for (int i = 0; i < FILES; i++) {
		/* Numbers that no openat takes. */
		fd[i] = fcntl(dir, F_DUPFD, 600);
		op[4 * i] = op_statx(dir, name_of[i], 0, &st[2 * i]);
		op[4 * i + 1] = op_open(dir, name_of[i], O_RDONLY);
		op[4 * i + 2] = op_close(fd[i]);
		op[4 * i + 3] = op_statx(dir, name_of[i], 0, &st[2 * i + 1]);
	}
	for (int i = 0; i < 4 * FILES; i++) {
		if (i == (int)setup[1])
			MUST(forbid(SYS_io_uring_enter, SECCOMP_RET_ERRNO | setup[2]) == 0);
		lw_ioq_submit(q, &op[i]);
	}
	for (int i = 0; i < 4 * FILES; i++) {
		struct lw_ioq_op *done = lw_ioq_reap(q, true);
		MUST(done && done->result >= 0);
	}
	MUST(!lw_ioq_reap(q, true));
	for (int i = 0; i < FILES; i++)
		MUST(st[2 * i].stx_size == strlen(name_of[i]) && st[2 * i + 1].stx_size == strlen(name_of[i]) && fcntl(fd[i], F_GETFD) < 0);
	MUST(strcmp(stats_of(q).backend, "pool") == 0);
	lw_ioq_destroy(q);
	/* What was in doubt was opened twice, and no more than the kernel had at a time. */
	MUST(count_fds() >= fds + FILES && count_fds() <= fds + FILES + setup[0]);
	return 0;
}

Test(ioq, entering_is_forbidden_half_way)
{
	NEEDS_RING();
	make_files();
	static unsigned setups_of_it[][3] = { { 8, 100, EPERM }, { 256, 100, EIO }, { 256, 0, EPERM }, { 64, 399, ENOSYS }, { 4096, 333, EPERM }, { 32, 200, EINVAL } };
	for (size_t i = 0; i < sizeof setups_of_it / sizeof *setups_of_it; i++) {
		bad.flags_known = ~0u;
		cr_expect_eq(in_child(enter_forbidden_half_way, setups_of_it[i]), 0, "case %zu", i);
		bad.flags_known = 0;
		cr_expect_eq(in_child(enter_forbidden_half_way, setups_of_it[i]), 0, "case %zu, older kernel", i);
	}
}

static int closed_behind_its_back(void *arg)
{
	struct lw_ioq_op op[FILES];
	struct statx st[FILES];
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING });
	for (int i = 0; i < FILES; i++) {
		op[i] = op_statx(AT_FDCWD, root, 0, &st[i]);
		lw_ioq_submit(q, &op[i]);
	}
	/* As daemons do; the number becomes another file's at once. */
	int other = openat(AT_FDCWD, "/", O_RDONLY);
	for (int fd = 3; fd < 64; fd++)
		if (fd != other && *(bool *)arg)
			dup2(other, fd);
		else if (fd != other)
			close(fd);
	for (int i = 0; i < FILES; i++)
		MUST(lw_ioq_reap(q, true) && op[i].result >= 0);
	lw_ioq_destroy(q);
	return fcntl(other, F_GETFD) < 0;
}

Test(ioq, closed_behind_its_back)
{
	NEEDS_RING();
	cr_expect_eq(in_child(closed_behind_its_back, &(bool){ false }), 0);
	cr_expect_eq(in_child(closed_behind_its_back, &(bool){ true }), 0);
}

Test(ioq, the_owner_does_not_wait_for_an_open)
{
	/* A FIFO is open for reading when somebody writes. The kernel, left to itself, would open it at once and differently. */
	NEEDS_RING();
	struct statx st;
	struct lw_ioq_op op[2] = { op_open(dir, "fifo", O_RDONLY), op_statx(AT_FDCWD, root, 0, &st) };
	TREE_CHECK(mkfifoat(dir, "fifo", 0644) == 0);
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING });
	lw_ioq_submit(q, &op[0]);
	lw_ioq_submit(q, &op[1]);
	cr_expect_eq(lw_ioq_reap(q, true), &op[1]);
	cr_expect_null(lw_ioq_reap(q, false));
	int writer = openat(dir, "fifo", O_WRONLY);
	cr_assert_eq(lw_ioq_reap(q, true), &op[0]);
	cr_expect(op[0].result > 2 && !(fcntl((int)op[0].result, F_GETFL) & O_NONBLOCK));
	close((int)op[0].result);
	close(writer);
	lw_ioq_destroy(q);
}

static void *reap_elsewhere(void *arg)
{
	for (int i = 0; i < 10; i++)
		if (!lw_ioq_reap(arg, true))
			return NULL;
	return arg;
}

Test(ioq, another_threads_ring)
{
	/* Not allowed, yet nothing is lost: the kernel refuses (SINGLE_ISSUER), and plain calls do it. */
	NEEDS_RING();
	struct lw_ioq_op op[10];
	struct statx st[10];
	void *result;
	pthread_t thread;
	lw_ioq *q = create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING });
	for (int i = 0; i < 10; i++) {
		op[i] = op_statx(AT_FDCWD, root, 0, &st[i]);
		lw_ioq_submit(q, &op[i]);
	}
	cr_assert_eq(pthread_create(&thread, NULL, reap_elsewhere, q), 0);
	pthread_join(thread, &result);
	cr_expect_eq(result, q);
	lw_ioq_destroy(q);
}
#endif

Test(ioq, built_without)
{
	char why[LW_IOQ_WHY], text[LW_URING_TEXT];
	lw_ioq *q;
	if (lw_uring_probe(text, sizeof text) != -ENOTSUP)
		cr_skip_test("built with liburing");
	cr_expect_eq(lw_ioq_create(&(struct lw_ioq_config){ .backend = LW_IOQ_RING }, &q, why), -ENOTSUP);
	cr_expect(strstr(why, "without liburing"), "%s", why);
}
