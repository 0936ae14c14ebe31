/* SPDX-License-Identifier: MIT */
/*
 * revalidate: one statx for what has not changed and nothing else; each kind of change is noticed, read and reported once; what newer indexes know wins; new
 * directories are found where a walk would find them. Random trees, changed at random: the index, with what was reported, then says what a fresh walk says.
 * Each backend; and system calls that fail.
 */
#include "revalidate.h"
#include "census.h"
#include "facts.h"
#include "forbid.h"
#include "pace.h"
#include "reference.h"
#include "scan.h"
#include "uring.h"
#include "way.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <grp.h>
#include <stdarg.h>
#include <stdatomic.h>

/* --- the calls, counted and made to fail --- */

enum call { STATX, OPEN, GETDENTS, CLOSE, CALLS };
static struct {
	_Atomic bool on;
	_Atomic unsigned made[CALLS];
	enum call call;			/* that fails */
	unsigned every;			/* each so-many-th; 0: none */
	int error;
	_Atomic unsigned delay_us;	/* of each statx */
	const char *busy;		/* this directory changes whenever it is read */
	_Atomic unsigned serial;
} play;

static bool fails(enum call call)
{
	if (!atomic_load(&play.on))
		return false;
	unsigned number = 1 + atomic_fetch_add(&play.made[call], 1);
	errno = play.error;
	return play.every && call == play.call && number % play.every == 0;
}

int statx(int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict out)
{
	if (atomic_load(&play.delay_us))
		usleep(atomic_load(&play.delay_us));
	return fails(STATX) ? -1 : (int)syscall(SYS_statx, fd, path, flags, mask, out);
}

int open(const char *path, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
	va_end(more);
	return fails(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t getdents64(int fd, void *buffer, size_t size)
{
	char name[32];
	if (play.busy && faccessat(fd, "busy", F_OK, 0) == 0) {
		snprintf(name, sizeof name, "f%u", atomic_fetch_add(&play.serial, 1));
		syscall(SYS_close, (int)syscall(SYS_openat, fd, name, O_WRONLY | O_CREAT, 0644));
	}
	return fails(GETDENTS) ? -1 : syscall(SYS_getdents64, fd, buffer, size);
}

int close(int fd)
{
	atomic_fetch_add(&play.made[CLOSE], atomic_load(&play.on));
	return (int)syscall(SYS_close, fd);
}

/* --- setting --- */

struct backend {
	enum lw_ioq_backend backend;
	unsigned threads;
};
static const struct backend backends[] = { { LW_IOQ_POOL, 1 }, { LW_IOQ_POOL, 2 }, { LW_IOQ_POOL, 8 }, { LW_IOQ_POOL, 0 }, { LW_IOQ_AUTO, 0 },
	{ LW_IOQ_AUTO, 1 }, { LW_IOQ_RING, 0 }, { LW_IOQ_RING, 2 } };
enum { BACKENDS = sizeof backends / sizeof *backends, POOLS = 6, INDEXES = 40 };

static size_t usable(void)
{
	return forbid_have_ring() ? BACKENDS : POOLS;
}

static char root[PATH_MAX];
static struct lw_suffixes suffixes;
static struct facts facts[INDEXES];		/* oldest first */
static lw_index *index_of[INDEXES];		/* newest first */
static struct lw_snapshot snapshot;

static void set_up(void)
{
	suffixes = ref_suffixes();
	tree_create(root, sizeof root);
}

static void forget_indexes(void)
{
	for (unsigned i = 0; i < snapshot.count; i++)
		facts_close(&facts[i]);
	snapshot.count = 0;
}

static void tear_down(void)
{
	forget_indexes();
	tree_destroy(root);
}

TestSuite(revalidate, .init = set_up, .fini = tear_down);

/* BUILD becomes the newest index. */
static void add_index_of(lw_build *build, uint32_t uid)
{
	TREE_CHECK(snapshot.count < INDEXES);
	facts_open(&facts[snapshot.count], build, uid);
	memmove(index_of + 1, index_of, snapshot.count * sizeof *index_of);
	index_of[0] = facts[snapshot.count++].index;
	snapshot.index = index_of;
}

static void add_index(lw_build *build)
{
	add_index_of(build, geteuid());
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* protects builds and lists during callbacks */

static int store_scanned(void *arg, const struct lw_scan_dir *dir)
{
	size_t len = strcmp(dir->path, "/") ? dir->path_len : 0;
	pthread_mutex_lock(&lock);
	if (!dir->error)
		TREE_CHECK(lw_build_dir(arg, dir->path, len, lw_stamp(&dir->stat), lw_stat_public(&dir->stat) ? LW_DIR_PUBLIC : 0, dir->listing) == 0);
	pthread_mutex_unlock(&lock);
	lw_listing_destroy(dir->listing);
	return 0;
}

/* What a walk from PATH says, into BUILD. What was done before is not racy. */
static void scan_into(lw_build *build, const char *path)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 2 };
	struct lw_scan_stats stats;
	unsigned failed;
	TREE_CHECK(lw_scan(&config, &path, 1, store_scanned, build, &stats, &failed, NULL) == 0);
}

static void index_tree(void)
{
	lw_build *build = lw_build_create();
	facts_age();
	scan_into(build, root);
	add_index(build);
}

/* What was reported. */
struct report {
	struct ref_lines lines;		/* "path flags names found error racy" */
	lw_build *build;		/* may be NULL: what changed is stored there */
	char *found[2000];
	unsigned found_count, calls, stop_at;
};

static int note(void *arg, const struct lw_revalidate_dir *dir)
{
	struct report *report = arg;
	const char *path = strncmp(dir->path, root, strlen(root)) == 0 ? dir->path + strlen(root) : dir->path;
	if (strlen(dir->path) != dir->path_len)
		abort();
	ref_add(&report->lines, "%s %s%s%d%s", path, dir->found ? "new " : "", dir->racy ? "racy " : "", dir->error ? -dir->error : dir->flags & ~LW_DIR_PUBLIC,
		dir->listing ? " listed" : "");
	pthread_mutex_lock(&lock);
	unsigned call = ++report->calls;
	if (dir->found)
		TREE_CHECK((report->found[report->found_count++] = strdup(dir->path)));
	else if (report->build && !dir->error && !dir->racy)
		TREE_CHECK(lw_build_dir(report->build, dir->path, dir->path_len, dir->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR) ? 0 : lw_stamp(&dir->stat),
			dir->flags, dir->listing) == 0);
	pthread_mutex_unlock(&lock);
	lw_listing_destroy(dir->listing);
	return report->stop_at && call >= report->stop_at ? 7 : 0;
}

static void report_clear(struct report *report)
{
	for (unsigned i = 0; i < report->found_count; i++)
		free(report->found[i]);
	ref_clear(&report->lines);
	memset(report, 0, sizeof *report);
}

static int run(const struct backend *backend, struct report *report, struct lw_revalidate_stats *stats)
{
	struct lw_revalidate_config config = { .suffixes = &suffixes, .snapshot = &snapshot, .backend = backend->backend, .threads = backend->threads };
	return lw_revalidate(&config, note, report, stats);
}

/* The report is exactly LINE, ..., NULL. */
static bool reported(struct report *report, ...)
{
	struct ref_lines expected = REF_LINES;
	va_list lines;
	va_start(lines, report);
	for (const char *line; (line = va_arg(lines, const char *));)
		ref_add(&expected, "%s", line);
	va_end(lines);
	bool same = ref_equal(&report->lines, &expected, true);
	ref_clear(&expected);
	return same;
}

/* Revalidate with each backend; every time the report must be these lines. */
#define EXPECT_REPORT(what, ...) \
	do { \
		for (size_t backend_ = 0; backend_ < usable(); backend_++) { \
			struct report report_ = { .lines = REF_LINES }; \
			struct lw_revalidate_stats stats_; \
			facts_age(); \
			cr_assert_eq(run(&backends[backend_], &report_, &stats_), 0); \
			cr_expect(reported(&report_, __VA_ARGS__), "%s, backend %zu", what, backend_); \
			report_clear(&report_); \
		} \
	} while (0)

static void make_tree(void)
{
	for (const char *a = "abcdefgh"; *a; a++) {
		const char *dir = facts_mkdir(root, (char[]){ *a, '\0' });
		facts_write(dir, "m.py");
		for (const char *b = "ijklmnop"; *b; b++) {
			const char *below = facts_mkdir(dir, (char[]){ *b, '\0' });
			facts_write(below, "__init__.py");
			facts_mkdir(below, "deep");
		}
	}
}
enum { MADE = 1 + 8 + 64 + 64 };

/* --- nothing has changed --- */

Test(revalidate, one_statx_for_each_directory_and_nothing_else)
{
	make_tree();
	index_tree();
	for (size_t i = 0; i < usable(); i++) {
		struct report report = { .lines = REF_LINES };
		struct lw_revalidate_stats stats;
		memset((void *)play.made, 0, sizeof play.made);
		atomic_store(&play.on, true);
		int error = run(&backends[i], &report, &stats);
		atomic_store(&play.on, false);
		cr_assert(error == 0 && report.calls == 0);
		cr_expect(stats.directories == MADE && stats.unchanged == MADE && !stats.changed && !stats.damaged && !stats.found, "%d", (int)stats.directories);
		bool ring = backends[i].backend == LW_IOQ_RING;
		cr_expect_eq(play.made[STATX], ring ? 0 : MADE, "backend %zu: %u", i, play.made[STATX]);
		cr_expect(ring ? stats.syscalls < MADE : stats.syscalls == MADE, "backend %zu: %d", i, (int)stats.syscalls);
		/* The pace's own files are not ours to count; none is opened with a fixed number of threads. */
		cr_expect(play.made[GETDENTS] == 0 && (!backends[i].threads || play.made[OPEN] == 0));
		cr_expect_str_eq(stats.backend, ring ? "ring" : "pool");
		cr_expect(stats.wall_ns > 0 && stats.threads >= 1 && (!backends[i].threads || ring || stats.threads <= backends[i].threads));
	}
}

Test(revalidate, nothing_known)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	for (size_t i = 0; i < usable(); i++)
		cr_expect(run(&backends[i], &report, &stats) == 0 && stats.directories == 0 && stats.syscalls <= 1);
}

Test(revalidate, calls_that_wait_get_the_ring_or_more_threads)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	for (int i = 0; i < 8; i++) {
		strcat(root, (char[]){ '/', 't', (char)('0' + i), '\0' });
		TREE_CHECK(mkdir(root, 0755) == 0);
		make_tree();
		*strrchr(root, '/') = '\0';
	}
	index_tree();
	atomic_store(&play.delay_us, 500);
	cr_assert_eq(run(&(struct backend){ LW_IOQ_POOL, 0 }, &report, &stats), 0);
	cr_expect(stats.threads > lw_cores(), "%u threads", stats.threads);
	cr_assert_eq(run(&(struct backend){ LW_IOQ_AUTO, 1 }, &report, &stats), 0);
	cr_expect_str_eq(stats.backend, forbid_have_ring() ? "ring" : "pool", "%s", stats.why);
	cr_expect(stats.unchanged == 8 * MADE + 1 && report.calls == 0);
}

/* --- changes --- */

Test(revalidate, kinds_of_change)
{
	make_tree();
	index_tree();
	EXPECT_REPORT("nothing", NULL);
	facts_write(facts_join(root, "a"), "new.py");
	EXPECT_REPORT("a file more", "/a 0 listed", NULL);
	TREE_CHECK(unlink(facts_join(root, "b/m.py")) == 0);
	TREE_CHECK(rmdir(facts_join(root, "c/i/deep")) == 0);
	EXPECT_REPORT("less", "/a 0 listed", "/b 0 listed", "/c/i 0 listed", "/c/i/deep 1", NULL);
	TREE_CHECK(rmdir(facts_join(root, "d/i/deep")) == 0);
	tree_write(AT_FDCWD, facts_join(root, "d/i/deep"), "");
	EXPECT_REPORT("a file in its place", "/a 0 listed", "/b 0 listed", "/c/i 0 listed", "/c/i/deep 1", "/d/i 0 listed", "/d/i/deep 2", NULL);
	forget_indexes();
	index_tree();
	EXPECT_REPORT("a new index", NULL);
	TREE_CHECK(chmod(facts_join(root, "e"), 0711) == 0 && rename(facts_join(root, "f/i"), facts_join(root, "f/renamed")) == 0);
	EXPECT_REPORT("mode and name", "/e 0 listed", "/f 0 listed", "/f/i 1", "/f/i/deep 1", "/f/renamed new 0", NULL);
	tree_write(AT_FDCWD, facts_join(root, "g/m.py"), "changed in place\n");
	EXPECT_REPORT("an edit leaves its directory alone", "/e 0 listed", "/f 0 listed", "/f/i 1", "/f/i/deep 1", "/f/renamed new 0", NULL);
}

Test(revalidate, a_time_put_back)
{
	struct stat st;
	facts_write(root, "m.py");
	index_tree();
	TREE_CHECK(stat(root, &st) == 0);
	facts_write(root, "n.py");
	TREE_CHECK(utimensat(AT_FDCWD, root, (struct timespec[]){ st.st_atim, st.st_mtim }, 0) == 0);
	EXPECT_REPORT("mtime put back", " 0 listed", NULL);
}

Test(revalidate, missing_and_back)
{
	lw_build *build = lw_build_create();
	char gone[PATH_MAX + 8], file[PATH_MAX + 8], below[PATH_MAX + 8];
	snprintf(gone, sizeof gone, "%s/gone", root);
	snprintf(file, sizeof file, "%s/file", root);
	snprintf(below, sizeof below, "%s/file/x", root);
	tree_write(AT_FDCWD, file, "");
	TREE_CHECK(lw_build_dir(build, gone, strlen(gone), 0, LW_DIR_MISSING, NULL) == 0 && lw_build_dir(build, file, strlen(file), 0, LW_DIR_NOTDIR, NULL) == 0
		&& lw_build_dir(build, below, strlen(below), 0, LW_DIR_NOTDIR, NULL) == 0);
	add_index(build);
	EXPECT_REPORT("as it was", NULL);
	TREE_CHECK(unlink(file) == 0);
	EXPECT_REPORT("neither is there", "/file 1", "/file/x 1", NULL);
	TREE_CHECK(mkdir(gone, 0755) == 0 && mkdir(file, 0755) == 0 && mkdir(facts_join(gone, "sub"), 0755) == 0);
	EXPECT_REPORT("both are there now", "/file 0 listed", "/file/x 1", "/gone 0 listed", "/gone/sub new 0", NULL);
}

Test(revalidate, links)
{
	make_tree();
	TREE_CHECK(symlink("a", facts_join(root, "link")) == 0 && symlink("nowhere", facts_join(root, "dangling")) == 0);
	index_tree();
	EXPECT_REPORT("as it was", NULL);
	TREE_CHECK(unlink(facts_join(root, "link")) == 0 && symlink("b/i", facts_join(root, "link")) == 0);
	/* What was known below it is missing, what is there is a directory by that name, known already. */
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	facts_age();
	cr_assert_eq(run(&backends[1], &report, &stats), 0);
	ref_sort(&report.lines);
	cr_expect(stats.vanished == 8 + 8 && stats.changed == 2 + 16, "%d vanished, %d changed", (int)stats.vanished, (int)stats.changed);
	cr_expect(stats.found == 1 && strcmp(report.found[0] + strlen(root), "/link/deep") == 0);
	report_clear(&report);
	/* A walk goes through one link, and not up again. */
	TREE_CHECK(symlink("..", facts_join(root, "c/up")) == 0 && symlink(".", facts_join(root, "c/self")) == 0);
	TREE_CHECK(symlink("../d/i", facts_join(root, "c/aside")) == 0 && symlink("../../e", facts_join(root, "b/i/second")) == 0);
	facts_age();
	cr_assert_eq(run(&backends[1], &report, &stats), 0);
	cr_expect_eq(stats.found, 3, "/c/aside, /b/i/second, /link/deep; not /link/second: %d", (int)stats.found);
	report_clear(&report);
}

Test(revalidate, ways)
{
	uint64_t syscalls = 0;
	bool linked;
	char outer[PATH_MAX + 16], in[PATH_MAX + 16];
	facts_mkdir(facts_mkdir(root, "x"), "y");
	facts_mkdir(root, "other");
	snprintf(outer, sizeof outer, "%s/x/y", root);
	snprintf(in, sizeof in, "%s/other/link", root);
	TREE_CHECK(symlink(outer, in) == 0 && symlink("../..", facts_join(outer, "top")) == 0 && symlink("../../other", facts_join(outer, "aside")) == 0);
	facts_mkdir(outer, "plain");
	const struct { const char *root, *path; bool enters; } table[] = {
		{ root, "/x/y/plain", true }, { root, "/x/y/top", false }, { root, "/x/y/aside", true }, { root, "/other/link", true },
		{ root, "/other/link/plain", true }, { root, "/other/link/aside", false }, { root, "/x/absent", false },
		{ outer, "/x/y/top", false }, { in, "/other/link/top", false }, { in, "/other/link/plain", true }, { in, "/other/link/aside", true },
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		cr_expect_eq(lw_way_enters(facts_join(root, table[i].path + 1), strlen(table[i].root), &linked, &syscalls), table[i].enters, "%zu: %s", i, table[i].path);
	cr_expect_eq(lw_way_enters("/proc", 0, &linked, &syscalls), true);
	cr_expect_eq(linked, false);
	cr_expect_gt(syscalls, 20);
}

/* --- several indexes, roots --- */

static void add_dir(lw_build *build, const char *name, uint64_t stamp, uint16_t flags)
{
	const char *path = *name ? facts_join(root, name) : root;
	TREE_CHECK(lw_build_dir(build, path, strlen(path), stamp, flags, NULL) == 0);
}

Test(revalidate, the_newest_speaks)
{
	make_tree();
	lw_build *build = lw_build_create();
	/* Oldest, and wrong about everything; it also knows one that nobody else knows. */
	for (const char *a = "abcdefgh"; *a; a++)
		add_dir(build, (char[]){ *a, '\0' }, 4711, LW_DIR_PUBLIC);
	add_dir(build, "", 4711, LW_DIR_PUBLIC);
	add_dir(build, "long/gone", 0, LW_DIR_MISSING);
	add_index(build);
	index_tree();
	EXPECT_REPORT("the second is right", NULL);
	build = lw_build_create();
	add_dir(build, "b", 4711, LW_DIR_PUBLIC);
	add_dir(build, "c", 0, LW_DIR_MISSING);
	add_index(build);
	EXPECT_REPORT("the third is wrong", "/b 0 listed", "/c 0 listed", NULL);
	struct lw_census census;
	cr_assert_eq(lw_census_take(&snapshot, NULL, 0, &census), 0);
	cr_expect_eq(census.count, MADE + 1, "%zu", census.count);
	for (size_t i = 0; i < census.count; i++)
		cr_assert_eq(lw_census_find(&snapshot, census.items[i].path, census.items[i].path_len)->stamp, census.items[i].stamp);
	lw_census_free(&census);
}

Test(revalidate, only_below_roots)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	char a[PATH_MAX + 4], b[PATH_MAX + 4], a_slash[PATH_MAX + 8];
	make_tree();
	facts_mkdir(root, "ab");
	index_tree();
	for (const char *c = "abcd"; *c; c++)
		facts_write(facts_join(root, (char[]){ *c, '\0' }), "new.py");
	facts_write(facts_join(root, "ab"), "new.py");
	facts_age();
	snprintf(a, sizeof a, "%s/a", root);
	snprintf(b, sizeof b, "%s/b/i", root);
	snprintf(a_slash, sizeof a_slash, "%s/a///", root);
	for (size_t i = 0; i < usable(); i++) {
		struct lw_revalidate_config config = { .suffixes = &suffixes, .snapshot = &snapshot, .roots = (const char *[]){ i % 2 ? a : a_slash, b },
			.root_count = 2, .backend = backends[i].backend, .threads = backends[i].threads };
		cr_assert_eq(lw_revalidate(&config, note, &report, &stats), 0);
		cr_expect(reported(&report, "/a 0 listed", NULL));
		cr_expect_eq(stats.directories, 1 + 16 + 2, "%d", (int)stats.directories);
		report_clear(&report);
	}
	struct lw_revalidate_config all = { .suffixes = &suffixes, .snapshot = &snapshot, .roots = (const char *[]){ "/" }, .root_count = 1 };
	cr_assert_eq(lw_revalidate(&all, note, &report, &stats), 0);
	cr_expect_eq(stats.changed, 5);
	report_clear(&report);
}

/* Whose walk would go through the link in a changed directory: that of a root behind the first link, not that of one before it. */
Test(revalidate, links_below_roots)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	char through[PATH_MAX + 8];
	make_tree();
	TREE_CHECK(symlink("../a", facts_join(root, "b/link")) == 0);
	index_tree();
	TREE_CHECK(symlink("../c", facts_join(root, "a/second")) == 0);
	facts_age();
	snprintf(through, sizeof through, "%s/b/link", root);
	const struct { const char *root; unsigned found; } table[] = { { root, 1 }, { through, 1 }, { facts_join(root, "b"), 0 }, { NULL, 1 } };
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct lw_revalidate_config config = { .suffixes = &suffixes, .snapshot = &snapshot, .roots = &table[i].root, .root_count = table[i].root != NULL };
		cr_assert_eq(lw_revalidate(&config, note, &report, &stats), 0);
		/* From the top: /a/second, but not /b/link/second. */
		cr_expect(stats.found == table[i].found, "root %zu: %d", i, (int)stats.found);
		cr_expect(i > 1 || strcmp(report.found[0] + strlen(root), i ? "/b/link/second" : "/a/second") == 0);
		report_clear(&report);
	}
}

Test(revalidate, a_root_may_be_a_link_itself)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	char in[PATH_MAX + 8];
	lw_build *build = lw_build_create();
	facts_mkdir(root, "real");
	facts_mkdir(root, "other");
	snprintf(in, sizeof in, "%s/in", root);
	TREE_CHECK(symlink("real", in) == 0);
	facts_age();
	scan_into(build, in);
	add_index(build);
	TREE_CHECK(symlink("../other", facts_join(in, "link")) == 0);
	facts_age();
	/* Nobody says where the walk began: at the topmost that is known. */
	cr_assert_eq(run(&backends[1], &report, &stats), 0);
	cr_expect(reported(&report, "/in 0 listed", "/in/link new 0", NULL));
	report_clear(&report);
}

Test(revalidate, damaged_and_senseless_records)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	char long_path[PATH_MAX + 100];
	lw_build *build = lw_build_create();
	make_tree();
	facts_age();
	scan_into(build, root);
	memset(long_path, 'x', sizeof long_path);
	long_path[0] = '/';
	TREE_CHECK(lw_build_dir(build, "relative", 8, 1, 0, NULL) == 0 && lw_build_dir(build, long_path, sizeof long_path, 1, 0, NULL) == 0
		&& lw_build_dir(build, "/nul\0inside", 11, 1, 0, NULL) == 0);
	add_index(build);
	for (size_t i = 0; i < usable(); i++) {
		cr_assert_eq(run(&backends[i], &report, &stats), 0);
		cr_expect(stats.damaged == 3 && stats.unchanged == MADE && report.calls == 0);
	}
	/* A block of records turns bad before anybody has looked at it. */
	lw_index *fresh;
	facts_damage(&facts[0], LW_SEC_DIRS, (uint32_t[]){ 0 }, 1);
	TREE_CHECK(lw_index_open_memory(facts[0].data, facts[0].size, &facts_key, &fresh, NULL) == 0);
	index_of[0] = fresh;
	cr_assert_eq(run(&backends[1], &report, &stats), 0);
	cr_expect(stats.damaged > 3 + 8 && stats.directories + stats.damaged == MADE + 3, "%d damaged", (int)stats.damaged);
	lw_index_close(fresh);
	index_of[0] = facts[0].index;
}

/* --- trust --- */

static int check_as_another(void *arg)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	FACTS_EXPECT(run(&backends[1], &report, &stats) == 0);
	/* "mine" was seen by root and is not public; "shut" may not be listed; "fine" is what it was. */
	FACTS_EXPECT(reported(&report, "/shut 4", NULL));
	FACTS_EXPECT(stats.unreadable == 1 && stats.unchanged == 3 && stats.syscalls > 4 + 5);
	return 0;
}

Test(revalidate, as_another_user)
{
	FORBID_NEEDS(geteuid() == 0, "only root can become another user");
	struct lw_revalidate_stats stats;
	struct report report = { .lines = REF_LINES };
	TREE_CHECK(mkdir(facts_join(root, "mine"), 0750) == 0 && chown(facts_join(root, "mine"), FACTS_USER, 0) == 0);
	TREE_CHECK(mkdir(facts_join(root, "shut"), 0700) == 0);
	facts_mkdir(root, "fine");
	index_tree();
	cr_expect_eq(facts_as(FACTS_USER, check_as_another, NULL), 0);
	/* Root wrote it, and may read everything. */
	cr_assert_eq(run(&backends[1], &report, &stats), 0);
	cr_expect(stats.unchanged == 4 && stats.syscalls == 4);
}

static int unreadable_twice(void *arg)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	FACTS_EXPECT(run(&backends[0], &report, &stats) == 0 && stats.changed == 1 && stats.unreadable == 1);
	lw_build *build = lw_build_create();
	report_clear(&report);
	report.build = build;
	FACTS_EXPECT(run(&backends[0], &report, &stats) == 0);
	add_index(build);
	report_clear(&report);
	/* Asked again, for groups change while directories do not; but nothing new. */
	FACTS_EXPECT(run(&backends[0], &report, &stats) == 0 && stats.changed == 0 && stats.unchanged == 2 && report.calls == 0);
	return 0;
}

Test(revalidate, unreadable)
{
	FORBID_NEEDS(geteuid() == 0, "only root can become another user");
	TREE_CHECK(mkdir(facts_join(root, "shut"), 0700) == 0);
	index_tree();
	cr_expect_eq(facts_as(FACTS_USER, unreadable_twice, NULL), 0);
}

/* --- racy --- */

Test(revalidate, racy_ones_are_read_again_when_they_have_settled)
{
	make_tree();
	index_tree();
	for (size_t i = 0; i < usable(); i++) {
		char name[16];
		struct report report = { .lines = REF_LINES };
		struct lw_revalidate_stats stats;
		struct lw_stat st;
		bool racy = false;
		/* The control: at this moment a reading is racy. A slow machine gets several tries. */
		for (int try = 0; try < 50 && !racy; try++) {
			report_clear(&report);
			snprintf(name, sizeof name, "n%zu_%d.py", i, try);
			facts_write(facts_join(root, "a"), name);
			cr_assert_eq(run(&backends[i], &report, &stats), 0);
			racy = stats.wall_ns > 30 * 1000 * 1000;
		}
		cr_expect(racy, "backend %zu never met a racy one", i);
		cr_expect(reported(&report, "/a 0 listed", NULL), "once, and not racy");
		cr_expect_eq(stats.racy, 0);
		cr_assert_eq(lw_stat_at(AT_FDCWD, facts_join(root, "a"), &st), 0);
		cr_expect(!lw_stat_racy(&st, lw_now_ns()), "it has settled");
		report_clear(&report);
	}
}

Test(revalidate, one_that_never_settles)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	make_tree();
	index_tree();
	facts_write(facts_join(root, "a"), "busy");
	play.busy = "a";
	facts_age();
	cr_assert_eq(run(&backends[1], &report, &stats), 0);
	play.busy = NULL;
	/* Its stamp was taken before it changed again, and it changes while it is read: sometimes racy, never twice, never lost. */
	cr_expect(stats.changed == 1 && report.calls == 1);
	report_clear(&report);
}

struct changer {
	_Atomic bool over;
	_Atomic unsigned changes;
};

static void *change_all_the_time(void *arg)
{
	struct changer *changer = arg;
	const char *path = facts_join(root, "a/k.py");
	while (!atomic_load(&changer->over)) {
		tree_write(AT_FDCWD, path, "");
		TREE_CHECK(unlink(path) == 0);
		atomic_fetch_add(&changer->changes, 1);
	}
	return NULL;
}

Test(revalidate, racy_ones_are_called_so)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	struct changer changer = { 0 };
	pthread_t thread;
	make_tree();
	index_tree();
	cr_assert_eq(pthread_create(&thread, NULL, change_all_the_time, &changer), 0);
	while (atomic_load(&changer.changes) < 3)
		usleep(1000);
	unsigned racy = 0;
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(run(&backends[1], &report, &stats), 0);
		cr_assert(stats.changed == 1 && report.calls == 1);
		racy += stats.racy == 1 && strstr(report.lines.line[0], "/a racy") != NULL;
		report_clear(&report);
	}
	atomic_store(&changer.over, true);
	pthread_join(thread, NULL);
	/* Unless the changer got no processor in time. */
	cr_expect_gt(racy, 0);
}

/* --- failures --- */

Test(revalidate, the_callback_stops_it)
{
	make_tree();
	index_tree();
	for (const char *a = "abcdefgh"; *a; a++)
		facts_write(facts_join(root, (char[]){ *a, '\0' }), "new.py");
	facts_age();
	for (size_t i = 0; i < usable(); i++) {
		struct report report = { .lines = REF_LINES, .stop_at = 3 };
		struct lw_revalidate_stats stats;
		cr_expect_eq(run(&backends[i], &report, &stats), 7);
		cr_expect(report.calls >= 3 && report.calls <= 3 + 64);
		report_clear(&report);
	}
}

static void play_failing(enum call call, unsigned every, int error)
{
	memset((void *)play.made, 0, sizeof play.made);
	play.call = call;
	play.every = every;
	play.error = error;
	atomic_store(&play.on, true);
}

Test(revalidate, failing_calls)
{
	static const struct { enum call call; int error; bool fatal; } table[] = {
		{ STATX, EIO, false }, { STATX, ENOMEM, true }, { STATX, ESTALE, false }, { OPEN, EMFILE, false }, { OPEN, EIO, false }, { OPEN, ENFILE, false },
		{ OPEN, ENOMEM, true }, { GETDENTS, EIO, false }, { GETDENTS, ENOMEM, true }, { GETDENTS, ESTALE, false },
	};
	make_tree();
	index_tree();
	for (const char *a = "abcdefgh"; *a; a++)
		facts_write(facts_join(root, (char[]){ *a, '\0' }), "new.py");
	facts_age();
	for (size_t t = 0; t < sizeof table / sizeof *table; t++) {
		/* Fixed numbers of threads: the pace opens files of its own. */
		for (size_t b = 0; b < 3; b++) {
			struct report report = { .lines = REF_LINES };
			struct lw_revalidate_stats stats;
			unsigned failed = 0;
			play_failing(table[t].call, 3, table[t].error);
			int result = run(&backends[b], &report, &stats);
			atomic_store(&play.on, false);
			cr_assert_eq(result, table[t].fatal ? -ENOMEM : 0, "case %zu: %d", t, result);
			char what[16];
			snprintf(what, sizeof what, " -%d", table[t].error);
			for (size_t i = 0; i < report.lines.count; i++)
				failed += strstr(report.lines.line[i], what) != NULL;
			if (!table[t].fatal) {
				cr_expect_eq(stats.directories, MADE);
				cr_expect(failed > 0 && failed == stats.unreadable, "case %zu: %u", t, failed);
			}
			report_clear(&report);
		}
	}
}

Test(revalidate, gone_between_stat_and_open)
{
	struct report report = { .lines = REF_LINES };
	struct lw_revalidate_stats stats;
	make_tree();
	index_tree();
	facts_write(facts_join(root, "a"), "new.py");
	facts_age();
	play_failing(OPEN, 1, ENOENT);
	cr_assert_eq(run(&backends[0], &report, &stats), 0);
	atomic_store(&play.on, false);
	cr_expect(reported(&report, "/a racy 1", NULL), "looked at twice, and not to be stored");
	cr_expect_gt(stats.wall_ns, 30 * 1000 * 1000);
	report_clear(&report);
}

Test(revalidate, interrupted_calls)
{
	make_tree();
	index_tree();
	for (const char *a = "abcdefgh"; *a; a++)
		facts_write(facts_join(root, (char[]){ *a, '\0' }), "new.py");
	facts_age();
	for (enum call call = STATX; call <= GETDENTS; call++) {
		struct report report = { .lines = REF_LINES };
		struct lw_revalidate_stats stats;
		play_failing(call, 2, EINTR);
		cr_assert_eq(run(&backends[1], &report, &stats), 0);
		atomic_store(&play.on, false);
		cr_expect(stats.changed == 8 && stats.unreadable == 0 && report.calls == 8);
		report_clear(&report);
	}
}

Test(revalidate, the_ring_is_refused)
{
	struct lw_revalidate_stats stats;
	struct report report = { .lines = REF_LINES };
	if (forbid_have_ring())
		cr_skip_test("io_uring can be used here");
	cr_expect_lt(run(&(struct backend){ LW_IOQ_RING, 0 }, &report, &stats), 0);
	cr_expect(strncmp(stats.why, "no ring: ", 9) == 0, "%s", stats.why);
}

static int ring_forbidden(void *arg)
{
	struct lw_revalidate_stats stats;
	struct report report = { .lines = REF_LINES };
	FACTS_EXPECT(forbid(SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM) == 0);
	FACTS_EXPECT(run(&(struct backend){ LW_IOQ_RING, 0 }, &report, &stats) == -EPERM && strstr(stats.why, "seccomp"));
	atomic_store(&play.delay_us, 300);
	FACTS_EXPECT(run(&(struct backend){ LW_IOQ_AUTO, 1 }, &report, &stats) == 0 && stats.unchanged == MADE);
	FACTS_EXPECT(strcmp(stats.backend, "pool") == 0 && strstr(stats.why, "seccomp"));
	return 0;
}

Test(revalidate, the_ring_is_forbidden)
{
	FORBID_NEEDS(forbid_have_ring(), "io_uring cannot be used here");
	make_tree();
	index_tree();
	cr_expect_eq(facts_as(0, ring_forbidden, NULL), 0);
}

/* --- random trees, random changes --- */

static char *dirs[20000];
static size_t dir_count;

/* Where a walk goes. */
static int collect(const char *path, const struct stat *st, int type, struct FTW *at)
{
	if (type != FTW_D)
		return FTW_CONTINUE;
	if (at->level && !lw_names_entered(path + at->base, strlen(path + at->base)))
		return FTW_SKIP_SUBTREE;
	if (dir_count < sizeof dirs / sizeof *dirs)
		TREE_CHECK((dirs[dir_count++] = strdup(path)));
	return FTW_CONTINUE;
}

static void collect_dirs(void)
{
	while (dir_count)
		free(dirs[--dir_count]);
	TREE_CHECK(nftw(root, collect, 32, FTW_PHYS | FTW_ACTIONRETVAL) == 0);
}

static void random_name(uint64_t *seed, const char *dir, char *out, size_t size)
{
	char name[NAME_MAX + 1] = { (char)('a' + tree_random(seed) % 8), '\0' };
	if (tree_random(seed) % 2)
		tree_random_name(seed, name, sizeof name);
	snprintf(out, size, "%s/%s", dir, name);
}

static void random_tree(uint64_t *seed)
{
	for (char a = 'a'; a <= 'f'; a++) {
		const char *dir = facts_mkdir(root, (char[]){ a, '\0' });
		for (char b = 'a'; b <= 'd'; b++) {
			int fd = tree_open(AT_FDCWD, facts_mkdir(dir, (char[]){ b, '\0' }));
			tree_random_level(fd, seed, 8, 2, 2);
			close(fd);
		}
	}
}

/* How deep below the root, so that links cannot lead out of it. */
static unsigned depth_of(const char *dir)
{
	unsigned depth = 0;
	for (const char *at = dir + strlen(root); *at; at++)
		depth += *at == '/';
	return depth;
}

static void change_one(uint64_t *seed)
{
	char path[PATH_MAX], other[PATH_MAX];
	const char *dir = dirs[tree_random(seed) % dir_count];
	struct stat st;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	random_name(seed, dir, path, sizeof path);
	random_name(seed, dirs[tree_random(seed) % dir_count], other, sizeof other);
	TREE_CHECK(fstat(fd, &st) == 0);
	switch (tree_random(seed) % 10) {
	case 0: /* mtime put back */
		tree_random_entry(fd, seed, strrchr(path, '/') + 1, depth_of(dir));
		futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim });
		break;
	case 1: /* whatever is there becomes a file */
		if (strcmp(dir, root) != 0 && rename(dir, other) == 0)
			tree_write(AT_FDCWD, dir, "");
		break;
	case 2: /* a link leads elsewhere */
		unlink(path);
		if (symlink(tree_random(seed) % 2 ? "." : "a", path) != 0)
			TREE_CHECK(errno == EEXIST);
		break;
	case 3:
		TREE_CHECK(fchmod(fd, tree_random(seed) % 2 ? 0755 : 0700) == 0);
		break;
	case 4:
		if (rename(path, other) != 0)
			TREE_CHECK(errno == ENOENT || errno == EINVAL || errno == ENOTEMPTY || errno == ENOTDIR || errno == EISDIR || errno == EEXIST || errno == ELOOP);
		break;
	case 5:
		unlink(path);
		break;
	case 6: /* a tree */
		if (mkdir(path, 0755) == 0) {
			int below = tree_open(AT_FDCWD, path);
			tree_random_level(below, seed, 6, 2, depth_of(dir) + 1);
			close(below);
		}
		break;
	default:
		tree_random_entry(fd, seed, strrchr(path, '/') + 1, depth_of(dir));
	}
	close(fd);
}

static int note_scanned(void *arg, const struct lw_scan_dir *dir)
{
	if (!dir->error)
		ref_add(arg, "%s", dir->path);
	lw_listing_destroy(dir->listing);
	return 0;
}

static bool through_link(const char *path)
{
	char up[PATH_MAX];
	struct stat st;
	for (strcpy(up, path); strlen(up) > strlen(root); *strrchr(up, '/') = '\0')
		if (lstat(up, &st) == 0 && S_ISLNK(st.st_mode))
			return true;
	return false;
}

static bool same_names(const struct lw_index_dir *dir, const struct lw_listing *listing)
{
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct lw_entry *known, *entry = &listing->entries[i];
		if (lw_index_dir_find(dir, listing->names + entry->name, entry->len, &known) != LW_OK || known->kinds != entry->kinds || known->flags != entry->flags)
			return false;
	}
	return dir->record->count == listing->count;
}

/* Whether what is known of one directory is so. */
static bool is_true(const struct lw_census_item *item)
{
	char path[PATH_MAX];
	struct lw_listing *listing;
	struct lw_stat st;
	struct lw_index_dir dir;
	snprintf(path, sizeof path, "%.*s", item->path_len, item->path);
	int error = lw_listing_read(path, &suffixes, &listing, &st);
	if (error || item->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR)) {
		/* There is no directory, or it cannot be reached: FileFinder does not see the difference. */
		bool same = error && item->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR);
		if (!error)
			lw_listing_destroy(listing);
		return same || (error == -ELOOP && !item->flags);
	}
	bool same = lw_index_find_dir(item->index, path, strlen(path), &dir) == LW_OK && dir.record->stamp == lw_stamp(&st) && same_names(&dir, listing);
	lw_listing_destroy(listing);
	return same;
}

/* The facts of all indexes against what is there, and against a walk. */
static bool current(unsigned *behind_links)
{
	struct lw_census census;
	struct ref_lines walk = REF_LINES;
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 1 };
	struct lw_scan_stats stats;
	unsigned failed;
	const char *path = root;
	bool good = true;
	TREE_CHECK(lw_census_take(&snapshot, NULL, 0, &census) == 0);
	for (size_t i = 0; i < census.count; i++) {
		if (is_true(&census.items[i]))
			continue;
		fprintf(stderr, "not so: %.*s, flags %x\n", census.items[i].path_len, census.items[i].path, census.items[i].flags);
		good = false;
	}
	TREE_CHECK(lw_scan(&config, &path, 1, note_scanned, &walk, &stats, &failed, NULL) == 0);
	for (size_t i = 0; i < walk.count; i++) {
		const struct lw_dir_record *record = lw_census_find(&snapshot, walk.line[i], strlen(walk.line[i]));
		if (record && !(record->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR)))
			continue;
		if (through_link(walk.line[i])) {
			++*behind_links;
			continue;
		}
		fprintf(stderr, "unknown: %s\n", walk.line[i]);
		good = false;
	}
	ref_clear(&walk);
	lw_census_free(&census);
	return good;
}

/* One more index with all that was reported. */
static void take_report(struct report *report)
{
	lw_build *build = report->build;
	facts_age();
	for (unsigned i = 0; i < report->found_count; i++)
		scan_into(build, report->found[i]);
	add_index(build);
}

Test(revalidate, with_what_is_reported_the_index_is_a_fresh_walk, .timeout = 200)
{
	const char *longer = getenv("LADEWERK_LONG");
	unsigned trees = longer && strcmp(longer, "0") != 0 ? 100 : 10;
	uint64_t seed = 77, changed = 0, vanished = 0, found = 0;
	unsigned behind_links = 0, walked = 0;
	for (unsigned tree = 0; tree < trees; tree++) {
		random_tree(&seed);
		index_tree();
		for (unsigned round = 0; round < 6; round++) {
			const struct backend *backend = &backends[tree_random(&seed) % usable()];
			struct report report = { .lines = REF_LINES, .build = lw_build_create() };
			struct lw_revalidate_stats stats;
			collect_dirs();
			walked += (unsigned)dir_count;
			/* Half of the time within the tick of the last look. */
			for (unsigned i = tree_random(&seed) % 60; i; i--)
				change_one(&seed);
			if (tree_random(&seed) % 2)
				facts_age();
			cr_assert_eq(run(backend, &report, &stats), 0);
			cr_assert_eq(stats.racy, 0);
			take_report(&report);
			cr_assert(current(&behind_links), "tree %u, round %u, backend %d of %u", tree, round, backend->backend, backend->threads);
			changed += stats.changed;
			vanished += stats.vanished;
			found += stats.found;
			report_clear(&report);
		}
		forget_indexes();
		tree_destroy(root);
		TREE_CHECK(mkdir(root, 0755) == 0);
	}
	cr_expect(changed > 300 && vanished > 30 && found > 30, "%d changed, %d vanished, %d found", (int)changed, (int)vanished, (int)found);
	cr_expect_lt(behind_links, walked / 20, "%u of %u", behind_links, walked);
}

Test(revalidate, the_comparison_notices)
{
	/* The control: without what was reported the index is not what a walk says. */
	unsigned behind_links = 0;
	make_tree();
	index_tree();
	cr_expect(current(&behind_links));
	facts_write(facts_join(root, "a"), "new.py");
	cr_expect(!current(&behind_links));
	TREE_CHECK(unlink(facts_join(root, "a/new.py")) == 0);
	forget_indexes();
	index_tree();
	facts_mkdir(root, "unknown");
	cr_expect(!current(&behind_links));
}
