/* SPDX-License-Identifier: MIT */
/*
 * scan with system calls and allocations that fail: interrupted ones are made again, short ones continued, a directory that fails is reported with its error
 * and nothing else is lost, want of descriptors is got over, want of memory ends the walk and leaves nothing behind.
 *
 * openat, getdents64, statx, close and close_range are defined here, in the place of libc's; malloc, calloc and realloc by the linker's --wrap.
 */
#include "scan.h"
#include "forbid.h"
#include "reference.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum call { OPENAT, GETDENTS, STATX, CLOSE_RANGE, CALLS };

/* What goes wrong while a scan runs. */
static struct {
	_Atomic bool on;
	unsigned every[CALLS];		/* each so-many-th call fails; 0: none */
	int error[CALLS];
	const char *poisoned;		/* calls on a directory that holds this file fail, every one */
	enum call poisoned_call;
	size_t longest;			/* bytes that getdents64 gives at once; 0: any */
	long allocations;		/* that succeed still; negative: all */
	unsigned descriptors;		/* that openat gives; 0: any */
	unsigned late_us;		/* statx takes so much longer */
} plan;
static _Atomic unsigned calls[CALLS];
static _Atomic long allocated;
static _Atomic int open_now, unmatched;

static bool is_poisoned(int fd, enum call call)
{
	return plan.poisoned && call == plan.poisoned_call && fd >= 0 && syscall(SYS_faccessat, fd, plan.poisoned, F_OK) == 0;
}

/* The error with which CALL on FD is to fail, or 0. */
static int fault(enum call call, int fd)
{
	if (!atomic_load(&plan.on))
		return 0;
	unsigned number = 1 + atomic_fetch_add(&calls[call], 1);
	if (plan.poisoned)
		return is_poisoned(fd, call) ? plan.error[call] : 0;
	return plan.every[call] && number % plan.every[call] == 0 ? plan.error[call] : 0;
}

int openat(int at, const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
	va_end(more);
	int error = fault(OPENAT, -1);
	bool counted = atomic_load(&plan.on);
	if (!error && counted && plan.descriptors && (unsigned)atomic_load(&open_now) >= plan.descriptors)
		error = EMFILE;
	if (error) {
		errno = error;
		return -1;
	}
	int fd = (int)syscall(SYS_openat, at, path, flags, mode);
	atomic_fetch_add(&open_now, counted && fd >= 0);
	return fd;
}

int close(int fd)
{
	atomic_fetch_sub(&open_now, atomic_load(&plan.on));
	int result = (int)syscall(SYS_close, fd);
	atomic_fetch_add(&unmatched, atomic_load(&plan.on) && result != 0);
	return result;
}

ssize_t getdents64(int fd, void *buffer, size_t size)
{
	errno = fault(GETDENTS, fd);
	if (errno)
		return -1;
	bool shorten = atomic_load(&plan.on) && plan.longest && size > plan.longest;
	return syscall(SYS_getdents64, fd, buffer, shorten ? plan.longest : size);
}

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
	errno = fault(STATX, *path ? -1 : fd);
	if (atomic_load(&plan.on) && plan.late_us)
		usleep(plan.late_us);
	return errno ? -1 : (int)syscall(SYS_statx, fd, path, flags, mask, out);
}

int close_range(unsigned first, unsigned last, int flags)
{
	errno = fault(CLOSE_RANGE, -1);
	return errno ? -1 : (int)syscall(SYS_close_range, first, last, flags);
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);

static bool may_allocate(void)
{
	if (!atomic_load(&plan.on) || plan.allocations < 0)
		return true;
	return atomic_fetch_add(&allocated, 1) < plan.allocations;
}

void *__wrap_malloc(size_t size)
{
	return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
	return may_allocate() ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *block, size_t size)
{
	return may_allocate() ? __real_realloc(block, size) : NULL;
}

/* ---- a tree, scanned ---- */

static char root[PATH_MAX];
static int dir;
static struct lw_suffixes suffixes;
static struct ref_lines expected;
static unsigned all_directories;

static void set_up(void)
{
	uint64_t seed = 77;
	struct ref_walk walk;
	suffixes = ref_suffixes();
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
	for (char c = 'a'; c <= 'h'; c++) {
		int filled = tree_mkdir(dir, (char[]){ 'd', c, '\0' });
		tree_random_fill(filled, &seed, 20, 3);
		close(filled);
	}
	int fd = tree_mkdir(dir, "sick");
	tree_write(fd, "poison.py", "");
	tree_write(fd, "other.py", "");
	close(tree_mkdir(fd, "below"));
	close(fd);
	for (unsigned i = 0; i < 300; i++) {
		char name[64];
		snprintf(name, sizeof name, "a_rather_long_name_of_a_module_%u.py", i);
		tree_write(dir, name, "");
	}
	walk = (struct ref_walk){ .suffixes = &suffixes, .lines = REF_LINES };
	ref_walk_root(&walk, root);
	expected = walk.lines;
	all_directories = (unsigned)walk.directories;
	memset(&plan, 0, sizeof plan);
	plan.allocations = -1;
}

static void tear_down(void)
{
	ref_clear(&expected);
	close(dir);
	tree_destroy(root);
}

TestSuite(scan_faults, .init = set_up, .fini = tear_down);

struct result {
	struct ref_lines lines;
	struct lw_scan_stats stats;
	int error;		/* reported for "sick" */
	unsigned errors;	/* directories reported with one */
};

/* Memory for what is noted is not ours to refuse. */
static int note(void *arg, const struct lw_scan_dir *d)
{
	struct result *result = arg;
	bool on = atomic_exchange(&plan.on, false);
	ref_add(&result->lines, "D %s %d", d->path, d->error);
	for (uint32_t i = 0; d->listing && i < d->listing->count; i++) {
		const struct lw_entry *e = &d->listing->entries[i];
		ref_add(&result->lines, "E %s/%.*s %x %d", d->path, e->len, d->listing->names + e->name, e->kinds, e->flags);
	}
	for (unsigned i = 0; i < d->source_count; i++)
		ref_add(&result->lines, "S %s/%.*s %016llx", d->path, d->sources[i].len, d->listing->names + d->sources[i].name,
				(unsigned long long)lw_stamp(&d->sources[i].stat));
	if (d->error && strcmp(strrchr(d->path, '/'), "/sick") == 0)
		result->error = d->error;
	result->errors += d->error != 0;
	lw_listing_destroy(d->listing);
	atomic_store(&plan.on, on);
	return 0;
}

/* One thread: faults by number hit the same calls each time, and the switch in note() is nobody else's. */
static int scan(struct result *result, unsigned threads)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = threads };
	const char *path = root;
	unsigned failed;
	*result = (struct result){ .lines = REF_LINES };
	for (unsigned i = 0; i < CALLS; i++)
		atomic_store(&calls[i], 0);
	atomic_store(&allocated, 0);
	atomic_store(&open_now, 0);
	atomic_store(&unmatched, 0);
	atomic_store(&plan.on, true);
	int error = lw_scan(&config, &path, 1, note, result, &result->stats, &failed, NULL);
	atomic_store(&plan.on, false);
	return error;
}

static void expect_whole(unsigned threads, const char *what)
{
	struct result r;
	cr_assert_eq(scan(&r, threads), 0, "%s", what);
	cr_expect(ref_equal(&r.lines, &expected, true), "%s", what);
	cr_expect(atomic_load(&open_now) == 0 && atomic_load(&unmatched) == 0, "%s: %d descriptors left, %d closed twice", what, open_now, unmatched);
	ref_clear(&r.lines);
}

Test(scan_faults, the_same_without_faults)
{
	expect_whole(1, "nothing");
	cr_expect(calls[OPENAT] >= all_directories && calls[GETDENTS] >= 2 * all_directories && calls[STATX] > 300 + all_directories, "the calls come by here");
	cr_expect_gt(all_directories, 10);
}

Test(scan_faults, interrupted_calls_are_made_again)
{
	for (unsigned call = OPENAT; call <= STATX; call++) {
		plan.every[call] = 3;
		plan.error[call] = EINTR;
		expect_whole(1, "EINTR");
		plan.every[call] = 0;
	}
}

Test(scan_faults, short_reads_are_continued)
{
	for (plan.longest = 300; plan.longest < 3000; plan.longest *= 3) {
		expect_whole(1, "short");
		cr_expect_gt(calls[GETDENTS], 2 * all_directories);
	}
}

Test(scan_faults, few_descriptors_are_got_over)
{
	/* The root and what is above it take two; then one for each directory will do. */
	for (plan.descriptors = 2; plan.descriptors < 6; plan.descriptors++)
		expect_whole(1, "EMFILE");
}

/* Called from several threads. */
static int drop(void *arg, const struct lw_scan_dir *d)
{
	lw_listing_destroy(d->listing);
	return 0;
}

static void expect_counts(unsigned threads)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = threads };
	const char *path = root;
	struct lw_scan_stats stats;
	unsigned failed;
	struct ref_walk walk = { .suffixes = &suffixes, .lines = REF_LINES };
	ref_walk_root(&walk, root);
	atomic_store(&open_now, 0);
	atomic_store(&plan.on, true);
	int error = lw_scan(&config, &path, 1, drop, NULL, &stats, &failed, NULL);
	atomic_store(&plan.on, false);
	cr_assert_eq(error, 0);
	cr_expect_eq(stats.unreadable, 0);
	cr_expect_eq(stats.directories, walk.directories);
	cr_expect_eq(stats.sources, walk.sources);
	ref_clear(&walk.lines);
}

Test(scan_faults, threads_without_descriptors_of_their_own)
{
	plan.every[CLOSE_RANGE] = 1;
	plan.error[CLOSE_RANGE] = ENOSYS;
	expect_counts(4);
}

Test(scan_faults, threads_that_share_too_few_descriptors_wait_for_each_other)
{
	plan.every[CLOSE_RANGE] = 1;
	plan.error[CLOSE_RANGE] = ENOSYS;
	plan.late_us = 100;
	plan.descriptors = 3;
	expect_counts(8);
}

/* Forked: a filter stays, and so does what the process knows of the ring. */
static bool lone_thread_ends_as(const char *backend, bool forbidden, unsigned late_us)
{
	pid_t child = fork();
	TREE_CHECK(child >= 0);
	if (child == 0) {
		struct result r;
		TREE_CHECK(!forbidden || forbid(SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM) == 0);
		plan.late_us = late_us;
		bool whole = scan(&r, 1) == 0 && ref_equal(&r.lines, &expected, true);
		bool said = !forbidden || late_us == 0 || strstr(r.stats.why, "seccomp");
		_exit(whole && said && strcmp(r.stats.backend, backend) == 0 ? 0 : 1);
	}
	int status;
	TREE_CHECK(waitpid(child, &status, 0) == child);
	return status == 0;
}

Test(scan_faults, a_lone_thread_whose_calls_wait_takes_the_ring)
{
	cr_expect(lone_thread_ends_as("pool", false, 0));
	cr_expect(lone_thread_ends_as("pool", true, 100));
	FORBID_NEEDS(forbid_have_ring(), "io_uring cannot be used here");
	cr_expect(lone_thread_ends_as("hybrid", false, 100));
}

Test(scan_faults, a_sick_directory_is_reported_and_nothing_else_is_lost)
{
	static const int errors[] = { EIO, ESTALE, EACCES, EMFILE, ENOTCONN };
	plan.poisoned = "poison.py";
	for (plan.poisoned_call = GETDENTS; plan.poisoned_call <= STATX; plan.poisoned_call++) {
		for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
			struct result r;
			plan.error[plan.poisoned_call] = errors[i];
			cr_assert_eq(scan(&r, 1), 0);
			cr_expect_eq(r.error, errors[i]);
			cr_expect_eq(r.errors, 1);
			cr_expect_eq(r.stats.unreadable, 1);
			cr_expect_eq(r.stats.directories, all_directories - 2, "it, and what is below it");
			cr_expect_eq(atomic_load(&open_now), 0);
			ref_clear(&r.lines);
		}
	}
}

Test(scan_faults, sources_that_cannot_be_asked_are_left_out)
{
	struct result r;
	plan.every[STATX] = 7;
	plan.error[STATX] = EIO;
	cr_assert_eq(scan(&r, 1), 0);
	cr_expect(r.stats.sources > 200 && r.stats.sources < 320, "%d", (int)r.stats.sources);
	cr_expect_eq(atomic_load(&open_now), 0);
	ref_clear(&r.lines);
}

Test(scan_faults, want_of_memory_in_the_kernel_ends_the_walk)
{
	plan.poisoned = "poison.py";
	for (plan.poisoned_call = GETDENTS; plan.poisoned_call <= STATX; plan.poisoned_call++) {
		struct result r;
		plan.error[plan.poisoned_call] = ENOMEM;
		cr_expect_eq(scan(&r, 1), -ENOMEM);
		cr_expect_eq(atomic_load(&open_now), 0);
		ref_clear(&r.lines);
	}
}

Test(scan_faults, want_of_memory_anywhere_ends_the_walk)
{
	unsigned failures = 0;
	for (long n = 0;; n++) {
		struct result r;
		plan.allocations = n;
		int error = scan(&r, 1);
		cr_assert(error == 0 || error == -ENOMEM, "%d after %ld allocations", error, n);
		cr_assert(error || ref_equal(&r.lines, &expected, true), "0, but not all of it, after %ld allocations", n);
		cr_assert(atomic_load(&open_now) == 0 && atomic_load(&unmatched) == 0, "descriptors, after %ld allocations", n);
		failures += error != 0;
		ref_clear(&r.lines);
		if (!error && atomic_load(&allocated) <= n)
			break;
	}
	cr_expect_gt(failures, all_directories, "every listing is an allocation");
}
