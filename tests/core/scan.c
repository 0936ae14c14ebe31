/* SPDX-License-Identifier: MIT */
/*
 * scan: equal to a plain recursive walk, for random trees with links and loops, for unreadable, vanishing, deep, wide and
 * changing ones; and what is promised about threads, descriptors, errors and stopping.
 */
#include "scan.h"
#include "forbid.h"
#include "reference.h"
#include "uring.h"

#include <criterion/criterion.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Stands in for libc's getdents64: fails in the directories that hold the file "poison.py". */
static _Atomic int poison;
ssize_t getdents64(int fd, void *buffer, size_t size)
{
	int error = atomic_load(&poison);
	if (error && faccessat(fd, "poison.py", F_OK, 0) == 0) {
		errno = error;
		return -1;
	}
	return syscall(SYS_getdents64, fd, buffer, size);
}

static char root[PATH_MAX];
static int dir;
static struct lw_suffixes suffixes;
static enum lw_ioq_backend backend;	/* of scan() */

static void set_up(void)
{
	suffixes = ref_suffixes();
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
}

static void tear_down(void)
{
	close(dir);
	tree_destroy(root);
}

TestSuite(scan, .init = set_up, .fini = tear_down);

/* A scan, as lines. */
struct result {
	struct ref_lines lines;
	struct lw_scan_stats stats;
	unsigned failed;
	_Atomic uint64_t progress;
	_Atomic unsigned calls;
	unsigned stop_at;		/* this call, and all later ones, answer 7 */
	bool refuse_listings;		/* destroy them at once and note nothing */
};
#define RESULT { .lines = REF_LINES }

static void note_dir(struct result *result, const struct lw_scan_dir *d)
{
	const char *slash = strcmp(d->path, "/") == 0 ? "" : "/";
	ref_add(&result->lines, "D %s %d", d->path, d->error);
	for (uint32_t i = 0; d->listing && i < d->listing->count; i++) {
		const struct lw_entry *e = &d->listing->entries[i];
		ref_add(&result->lines, "E %s%s%.*s %x %d", d->path, slash, e->len, d->listing->names + e->name, e->kinds, e->flags);
	}
	for (unsigned i = 0; i < d->source_count; i++)
		ref_add(&result->lines, "S %s%s%.*s %016llx", d->path, slash, d->sources[i].len, d->listing->names + d->sources[i].name,
				(unsigned long long)lw_stamp(&d->sources[i].stat));
}

static int callback(void *arg, const struct lw_scan_dir *d)
{
	struct result *result = arg;
	unsigned call = 1 + atomic_fetch_add(&result->calls, 1);
	bool sane = strlen(d->path) == d->path_len && !d->listing == !!d->error && (d->listing || !d->source_count);
	if (!sane)
		abort();
	if (!result->refuse_listings)
		note_dir(result, d);
	lw_listing_destroy(d->listing);
	return result->stop_at && call >= result->stop_at ? 7 : 0;
}

static int scan(struct result *result, unsigned threads, const char *path)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .backend = backend, .threads = threads };
	return lw_scan(&config, &path, 1, callback, result, &result->stats, &result->failed, &result->progress);
}

/* Scan PATH and compare with a plain walk; a message on stderr and false if they differ. Safe in a forked child. */
static bool like_reference(const char *path, unsigned threads, struct lw_scan_stats *stats)
{
	struct result is = RESULT;
	struct ref_walk should = { .suffixes = &suffixes, .lines = REF_LINES };
	int error = scan(&is, threads, path);
	ref_walk_root(&should, path);
	const struct lw_scan_stats *s = &is.stats;
	bool equal = !error && is.failed == 1 && ref_equal(&is.lines, &should.lines, true);
	bool counted = s->entries == should.entries && s->directories == should.directories && s->modules == should.modules
			&& s->sources == should.sources && s->unreadable == should.unreadable && s->vanished == should.vanished
			&& s->loops == should.loops && s->links_left == should.links_left && atomic_load(&is.progress) == should.entries
			&& s->syscalls >= 5 * s->directories;
	if (equal && !counted)
		fprintf(stderr, "the counters are wrong\n");
	if (stats)
		*stats = is.stats;
	ref_clear(&is.lines);
	ref_clear(&should.lines);
	return equal && counted;
}

/* A tree, and one beside it, in a directory NAME: links may lead up to where the tree lies, and to what is beside it. */
static void random_place(const char *name, uint64_t *seed)
{
	static const char *const filled[] = { "a", "tree/a", "tree/b" }, *const targets[] = { "../a", "../b", "..", "../../a" };
	int top = tree_mkdir(dir, name), tree = tree_mkdir(top, "tree");
	for (size_t i = 0; i < sizeof filled / sizeof *filled; i++) {
		int fd = tree_mkdir(top, filled[i]);
		for (char c = 'x'; c <= 'z'; c++)
			TREE_CHECK(symlinkat(TREE_PICK(seed, targets), fd, (char[]){ c, '\0' }) == 0);
		tree_random_level(fd, seed, 25, 1, 2);
		close(fd);
	}
	tree_random_level(tree, seed, 25, 2, 2);
	close(tree);
	close(top);
}

Test(scan, random_trees)
{
	uint64_t seed = 21, loops = 0, left = 0, directories = 0;
	for (unsigned i = 0; i < 30; i++) {
		char path[PATH_MAX + 32], name[16];
		struct lw_scan_stats stats;
		snprintf(name, sizeof name, "%u", i);
		snprintf(path, sizeof path, "%s/%u/tree", root, i);
		random_place(name, &seed);
		cr_assert(like_reference(path, 1 + i % 4, &stats), "tree %u", i);
		loops += stats.loops;
		left += stats.links_left;
		directories += stats.directories;
	}
	cr_expect(loops > 20 && left > 100 && directories > 300, "%d loops, %d links left, %d directories", (int)loops, (int)left,
			(int)directories);
}

Test(scan, notices_a_difference)
{
	/* The comparison itself: one byte more in one file must show. */
	struct result before = RESULT, after = RESULT;
	uint64_t seed = 2;
	tree_random_fill(dir, &seed, 25, 3);
	int fd = tree_mkdir(dir, "sub");
	tree_write(fd, "one.py", "1");
	cr_assert_eq(scan(&before, 2, root), 0);
	tree_write(fd, "one.py", "12");
	cr_assert_eq(scan(&after, 2, root), 0);
	cr_expect(!ref_equal(&before.lines, &after.lines, false));
	ref_clear(&before.lines);
	ref_clear(&after.lines);
	close(fd);
}

Test(scan, never_opened)
{
	static const char *const skipped[] = { "__pycache__", "node_modules", ".git", "x.y", "pkg.egg-info" };
	for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++) {
		int fd = tree_mkdir(dir, skipped[i]);
		tree_write(fd, "inside.py", "");
		close(fd);
	}
	int fd = tree_mkdir(dir, "__pycache__x");
	tree_write(fd, "inside.py", "");
	close(fd);
	struct result r = RESULT;
	cr_assert_eq(scan(&r, 2, root), 0);
	cr_expect_eq(r.stats.directories, 2);
	cr_expect_eq(r.stats.sources, 1);
	ref_clear(&r.lines);
	cr_expect(like_reference(root, 2, NULL));
}

Test(scan, links)
{
	int a = tree_mkdir(dir, "a"), b = tree_mkdir(dir, "b");
	tree_write(a, "m.py", "");
	tree_write(b, "n.py", "");
	cr_assert_eq(symlinkat("../b", a, "to_b"), 0);
	cr_assert_eq(symlinkat("../a", b, "to_a"), 0);
	cr_assert_eq(symlinkat(".", a, "self"), 0);
	cr_assert_eq(symlinkat("..", a, "up"), 0);
	cr_assert_eq(symlinkat("m.py", a, "plain"), 0);
	cr_assert_eq(symlinkat("nowhere", a, "dangling"), 0);
	cr_assert_eq(symlinkat("ring", a, "ring"), 0);
	cr_assert_eq(symlinkat("m.py", a, "linked.py"), 0);
	cr_assert_eq(symlinkat("nowhere", a, "dangling_source.py"), 0);
	cr_assert_eq(symlinkat(".", a, "dir_source.py"), 0);
	struct lw_scan_stats stats;
	cr_assert(like_reference(root, 2, &stats));
	cr_expect_eq(stats.directories, 5, "root, a, a/to_b, b, b/to_a: %d", (int)stats.directories);
	cr_expect_eq(stats.loops, 2, "self and up: %d", (int)stats.loops);
	cr_expect_eq(stats.links_left, 4, "to_a in a/to_b; self, up and to_b in b/to_a: %d", (int)stats.links_left);
	cr_expect(stats.vanished == 0 && stats.unreadable == 0, "what no one called a directory is not missed");
	close(a);
	close(b);
}

/* What a walk without the bound would see. */
static uint64_t unbounded_directories(const char *path)
{
	struct ref_walk walk = { .suffixes = &suffixes, .lines = REF_LINES, .all_links = true };
	ref_walk_root(&walk, path);
	ref_clear(&walk.lines);
	return walk.directories;
}

Test(scan, links_do_not_multiply)
{
	enum { COUNT = 5 };
	struct lw_scan_stats stats;
	/* Each links to all the others, and holds a directory that does so too. */
	for (int i = 0; i < COUNT; i++) {
		int fd = tree_mkdir(dir, (char[]){ (char)('a' + i), '\0' }), sub = tree_mkdir(fd, "sub");
		for (int j = 0; j < COUNT; j++) {
			char near[] = { '.', '.', '/', (char)('a' + j), '\0' }, far[] = { '.', '.', '/', '.', '.', '/', (char)('a' + j), '\0' };
			TREE_CHECK(i == j || (symlinkat(near, fd, near + 3) == 0 && symlinkat(far, sub, far + 6) == 0));
		}
		close(sub);
		close(fd);
	}
	const uint64_t links = COUNT * 2 * (COUNT - 1);
	cr_assert(like_reference(root, 2, &stats));
	cr_expect_eq(stats.directories, 1 + 2 * COUNT + 2 * links, "%d", (int)stats.directories);
	cr_expect_eq(stats.links_left, links * 2 * (COUNT - 1), "%d", (int)stats.links_left);
	cr_expect_eq(stats.loops, 0);
	uint64_t without = unbounded_directories(root);
	cr_expect_gt(without, 20 * stats.directories, "the control: %d", (int)without);
}

Test(scan, one_link_on_the_way)
{
	/* in -> real: the root is a link. real/one -> far/x, far/x/two -> far/y; the root's link does not count. */
	char in[PATH_MAX + 8];
	struct lw_scan_stats stats;
	snprintf(in, sizeof in, "%s/in", root);
	int real = tree_mkdir(dir, "real"), far = tree_mkdir(dir, "far"), x = tree_mkdir(far, "x"), below = tree_mkdir(x, "below");
	close(tree_mkdir(far, "y"));
	tree_write(far, "y/m.py", "");
	tree_write(x, "target.py", "");
	TREE_CHECK(symlinkat("real", dir, "in") == 0 && symlinkat("../far/x", real, "one") == 0);
	TREE_CHECK(symlinkat("../y", x, "two") == 0 && symlinkat("../../y", below, "three") == 0);
	/* A link to a link is one step; a linked source beside a real directory makes a doubt, not a link. */
	TREE_CHECK(symlinkat("one", real, "chain") == 0 && symlinkat("target.py", x, "below.py") == 0);
	cr_assert(like_reference(in, 2, &stats));
	cr_expect_eq(stats.directories, 5, "in, and below one and chain: itself, below: %d", (int)stats.directories);
	cr_expect_eq(stats.links_left, 4, "two and three, twice: %d", (int)stats.links_left);
	cr_expect_eq(stats.sources, 4, "target.py and below.py, twice, nothing from y: %d", (int)stats.sources);
	cr_expect_gt(unbounded_directories(in), 5, "the control");
	close(below);
	close(x);
	close(far);
	close(real);
}

/* What a walk that knows nothing of the directories above PATH would see. */
static uint64_t directories_from_above(const char *path)
{
	struct ref_walk walk = { .suffixes = &suffixes, .lines = REF_LINES };
	ref_walk_dir(&walk, &(struct ref_from){ .up = NULL }, path);
	ref_clear(&walk.lines);
	return walk.directories;
}

Test(scan, links_to_above)
{
	char in[PATH_MAX + 32], through[PATH_MAX + 32];
	struct lw_scan_stats stats;
	int x = tree_mkdir(dir, "x"), y = tree_mkdir(x, "y"), z = tree_mkdir(y, "z"), other = tree_mkdir(dir, "other");
	snprintf(in, sizeof in, "%s/x/y", root);
	snprintf(through, sizeof through, "%s/other/link", root);
	TREE_CHECK(symlinkat("../x/y", other, "link") == 0 && symlinkat("..", y, "up") == 0);
	TREE_CHECK(symlinkat(root, z, "absolute") == 0);
	/* The same two, whether the root is named by its path or by a link that lies elsewhere. */
	const char *const paths[] = { in, through };
	for (size_t i = 0; i < 2; i++) {
		cr_assert(like_reference(paths[i], 2, &stats));
		cr_expect(stats.directories == 2 && stats.loops == 2 && stats.links_left == 0, "%s", paths[i]);
		cr_expect_gt(directories_from_above(paths[i]), stats.directories, "the control");
	}
	/* Above the link to the root, but not above the root: it is walked, once. */
	TREE_CHECK(symlinkat("../../other", y, "aside") == 0);
	cr_assert(like_reference(through, 2, &stats));
	cr_expect(stats.directories == 3 && stats.loops == 2 && stats.links_left == 1);
	/* The whole machine: not even what is in / is gone into. */
	TREE_CHECK(symlinkat("/", y, "machine") == 0);
	struct result r = RESULT;
	cr_assert_eq(scan(&r, 2, in), 0);
	cr_expect(r.stats.directories == 3 && r.stats.loops == 3, "%d", (int)r.stats.directories);
	ref_clear(&r.lines);
	close(other);
	close(z);
	close(y);
	close(x);
}

/* 77: this machine lets nobody mount. The root x/e is its own grandparent then. */
static int mounted_below_itself(void)
{
	char path[PATH_MAX + 8];
	struct lw_scan_stats stats;
	snprintf(path, sizeof path, "%s/x/e", root);
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0
			|| mount(root, path, NULL, MS_BIND, NULL) != 0)
		return 77;
	struct result r = RESULT;
	int error = scan(&r, 2, path);
	stats = r.stats;
	/* Itself and "beside"; its "x" is the one above it. */
	return error || stats.directories != 2 || stats.sources != 1 || stats.loops != 1;
}

Test(scan, root_mounted_below_itself)
{
	int status, x = tree_mkdir(dir, "x");
	close(tree_mkdir(x, "e"));
	close(tree_mkdir(dir, "beside"));
	tree_write(dir, "m.py", "");
	close(x);
	fflush(NULL);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		_exit(mounted_below_itself());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		cr_skip_test("mounting is not permitted here");
	cr_expect_eq(WEXITSTATUS(status), 0);
}

/* Run BODY as a user without privileges; its result is the exit status. */
static int as_nobody(bool (*body)(void))
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		if (getuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
			_exit(2);
		_exit(!body());
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool unreadable_body(void)
{
	struct lw_scan_stats stats;
	bool equal = like_reference(root, 3, &stats);
	/* "none", "search_only" and the subdirectory of "list_only". */
	if (!equal || stats.unreadable != 3 || stats.vanished != 0)
		return false;
	/* As a root: what lies above it cannot be asked from there, and does not matter. */
	char path[PATH_MAX + 16];
	snprintf(path, sizeof path, "%s/list_only", root);
	return like_reference(path, 1, &stats) && stats.directories == 1 && stats.unreadable == 1;
}

Test(scan, unreadable)
{
	const struct { const char *name; mode_t mode; } table[] = { { "none", 0 }, { "search_only", 0111 }, { "list_only", 0444 }, { "fine", 0755 } };
	for (size_t i = 0; i < 4; i++) {
		int fd = tree_mkdir(dir, table[i].name);
		tree_write(fd, "m.py", "");
		close(tree_mkdir(fd, "sub"));
		cr_assert_eq(fchmod(fd, table[i].mode), 0);
		close(fd);
	}
	cr_expect_eq(as_nobody(unreadable_body), 0);
	for (size_t i = 0; i < 4; i++)
		fchmodat(dir, table[i].name, 0755, 0);
}

Test(scan, failing_reads)
{
	int fd = tree_mkdir(dir, "sick");
	tree_write(fd, "poison.py", "");
	close(fd);
	tree_write(dir, "m.py", "");
	static const struct { int error; bool gone; } table[] = { { EIO, false }, { ENOENT, true }, { ESTALE, false } };
	for (size_t i = 0; i < 3; i++) {
		struct result r = RESULT, whole = RESULT;
		atomic_store(&poison, table[i].error);
		cr_assert_eq(scan(&r, 2, root), 0);
		cr_expect_eq(r.stats.vanished, table[i].gone);
		cr_expect_eq(r.stats.unreadable, !table[i].gone);
		cr_expect_eq(r.stats.directories, 1);
		char *want;
		cr_assert_geq(asprintf(&want, "D %s/sick %d", root, table[i].error), 0);
		ref_sort(&r.lines);
		cr_expect_str_eq(r.lines.line[1], want);
		ref_clear(&r.lines);

		/* As a root it fails the walk. */
		cr_expect_eq(scan(&whole, 2, want + 2), -ENOENT, "the space and number are not in its name");
		want[strlen(root) + 7] = '\0';
		cr_expect_eq(scan(&whole, 2, want + 2), -table[i].error);
		cr_expect(whole.failed == 0 && whole.calls == 0);
		free(want);
	}
	struct result r = RESULT;
	atomic_store(&poison, ENOMEM);
	cr_expect_eq(scan(&r, 2, root), -ENOMEM);
	cr_expect_eq(r.failed, 1, "no root's fault");
	ref_clear(&r.lines);
}

Test(scan, roots)
{
	char a[PATH_MAX + 8], b[PATH_MAX + 8], slashes[PATH_MAX + 8], missing[PATH_MAX + 8], file[PATH_MAX + 8];
	snprintf(a, sizeof a, "%s/a", root);
	snprintf(b, sizeof b, "%s/b", root);
	snprintf(slashes, sizeof slashes, "%s/a//", root);
	snprintf(missing, sizeof missing, "%s/missing", root);
	snprintf(file, sizeof file, "%s/file", root);
	int fd = tree_mkdir(dir, "a");
	close(tree_mkdir(fd, "sub"));
	close(fd);
	close(tree_mkdir(dir, "b"));
	tree_write(dir, "file", "");
	const struct {
		const char *roots[3];
		unsigned count;
		int result;
		unsigned failed, calls;
	} table[] = {
		{ { a, b }, 2, 0, 2, 3 },
		{ { a, a }, 2, 0, 2, 4 },
		{ { root, a }, 2, 0, 2, 6 },
		{ { slashes }, 1, 0, 1, 2 },
		{ { NULL }, 0, 0, 0, 0 },
		{ { a, missing, b }, 3, -ENOENT, 1, 0 },
		{ { a, b, file }, 3, -ENOTDIR, 2, 0 },
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct lw_scan_config config = { .suffixes = &suffixes, .threads = 2 };
		struct result r = RESULT;
		int result = lw_scan(&config, table[i].roots, table[i].count, callback, &r, &r.stats, &r.failed, NULL);
		cr_expect(result == table[i].result && r.failed == table[i].failed && r.calls == table[i].calls,
				"case %zu: %d, failed %u, %u calls", i, result, r.failed, r.calls);
		ref_clear(&r.lines);
	}
	/* Names below are joined by one slash, as Python does. */
	struct result r = RESULT;
	char sub[PATH_MAX + 16];
	snprintf(sub, sizeof sub, "D %s/a/sub 0", root);
	cr_assert_eq(scan(&r, 1, slashes), 0);
	ref_sort(&r.lines);
	cr_expect_str_eq(r.lines.line[1], sub);
	ref_clear(&r.lines);
}

/* Ends the walk at the first directory below the root. */
static int second_path(void *arg, const struct lw_scan_dir *d)
{
	lw_listing_destroy(d->listing);
	return d->path_len == 1 ? 0 : d->path[0] == '/' && d->path[1] != '/' ? 3 : 4;
}

Test(scan, root_directory)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 1 };
	struct lw_scan_stats stats;
	unsigned failed;
	const char *slash = "/";
	cr_expect_eq(lw_scan(&config, &slash, 1, second_path, NULL, &stats, &failed, NULL), 3);
}

/* A chain of DEPTH directories called NAME, each with a source, made without ever using a long path. */
static void make_chain(const char *name, unsigned depth)
{
	int fd = dup(dir);
	for (unsigned i = 0; i < depth; i++) {
		int next = tree_mkdir(fd, name);
		tree_write(next, "m.py", "");
		close(fd);
		fd = next;
	}
	close(fd);
}

Test(scan, deep)
{
	struct lw_scan_stats stats;
	make_chain("d", 2000);
	cr_assert(like_reference(root, 2, &stats));
	cr_expect_eq(stats.directories, 2001);
	cr_expect_eq(stats.sources, 2000);
}

Test(scan, deeper_than_a_path_can_be)
{
	char name[201];
	struct lw_scan_stats stats;
	struct result r = RESULT;
	memset(name, 'n', 200);
	name[200] = '\0';
	make_chain(name, 40);
	unsigned fit = (unsigned)((PATH_MAX - 1 - strlen(root)) / 201);
	cr_assert(like_reference(root, 2, &stats));
	cr_expect_eq(stats.directories, fit + 1);
	cr_expect_eq(stats.unreadable, 1);
	cr_assert_eq(scan(&r, 2, root), 0);
	unsigned too_long = 0;
	for (size_t i = 0; i < r.lines.count; i++)
		too_long += r.lines.line[i][0] == 'D' && atoi(strrchr(r.lines.line[i], ' ')) == ENAMETOOLONG;
	cr_expect_eq(too_long, 1);
	ref_clear(&r.lines);
}

Test(scan, wide)
{
	struct lw_scan_stats stats;
	for (unsigned i = 0; i < 20000; i++) {
		char name[32];
		snprintf(name, sizeof name, i % 50 ? "m%u.py" : "d%u", i);
		if (i % 50)
			TREE_CHECK(mknodat(dir, name, S_IFREG | 0644, 0) == 0);
		else
			TREE_CHECK(mkdirat(dir, name, 0755) == 0);
	}
	cr_assert(like_reference(root, 4, &stats));
	cr_expect_eq(stats.entries, 20000);
	cr_expect_eq(stats.sources, 19600);
	cr_expect_eq(stats.directories, 401);
}

Test(scan, each_backend_finds_the_same)
{
	uint64_t seed = 5;
	FORBID_NEEDS(forbid_have_ring(), "io_uring may not be used here");
	for (unsigned i = 0; i < 3; i++) {
		char name[16];
		snprintf(name, sizeof name, "many%u", i);
		int fd = tree_mkdir(dir, name);
		for (unsigned j = 0; j < LW_SCAN_MANY + 500; j++) {
			snprintf(name, sizeof name, "m%u.py", j);
			/* Some are not what they seem. */
			if (j % 10)
				TREE_CHECK(mknodat(fd, name, S_IFREG | 0644, 0) == 0);
			else
				TREE_CHECK(symlinkat(j % 20 ? "m1.py" : "nowhere", fd, name) == 0);
		}
		close(fd);
	}
	tree_random_fill(dir, &seed, 30, 3);
	for (backend = LW_IOQ_AUTO; backend <= LW_IOQ_RING; backend++) {
		for (unsigned threads = 0; threads <= 4; threads++) {
			struct lw_scan_stats stats;
			cr_assert(like_reference(root, threads, &stats), "backend %d, %u threads", (int)backend, threads);
			cr_expect_gt(stats.sources, 3 * LW_SCAN_MANY);
			cr_expect_eq(strcmp(stats.backend, "ring") == 0, backend == LW_IOQ_RING, "%s", stats.backend);
		}
	}
}

/* Far fewer system calls than files say that the ring has asked. */
Test(scan, the_ring_asks)
{
	struct lw_scan_stats pool, ring;
	FORBID_NEEDS(forbid_have_ring(), "io_uring may not be used here");
	for (unsigned j = 0; j < 3000; j++) {
		char name[16];
		snprintf(name, sizeof name, "m%u.py", j);
		tree_write(dir, name, "");
	}
	backend = LW_IOQ_POOL;
	cr_assert(like_reference(root, 1, &pool));
	backend = LW_IOQ_RING;
	cr_assert(like_reference(root, 1, &ring));
	cr_expect(pool.syscalls > 3000 && ring.syscalls < 1500, "%d by the pool, %d by the ring", (int)pool.syscalls, (int)ring.syscalls);
	cr_expect_neq(*ring.why, '\0');
}

static bool refused_body(void)
{
	struct result r = RESULT;
	bool fine = forbid(SYS_io_uring_setup, SECCOMP_RET_ERRNO | EPERM) == 0;
	backend = LW_IOQ_AUTO;
	fine = fine && like_reference(root, 2, NULL);
	backend = LW_IOQ_RING;
	fine = fine && scan(&r, 2, root) == -EPERM && r.failed == 1 && r.calls == 0 && strstr(r.stats.why, "seccomp");
	ref_clear(&r.lines);
	return fine;
}

Test(scan, a_ring_that_is_refused)
{
	for (unsigned j = 0; j < LW_SCAN_MANY + 100; j++) {
		char name[16];
		snprintf(name, sizeof name, "m%u.py", j);
		tree_write(dir, name, "");
	}
	cr_expect_eq(as_nobody(refused_body), 0);
}

static unsigned count_dir(const char *path)
{
	unsigned count = 0;
	DIR *d = opendir(path);
	cr_assert(d);
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

/* A joined thread may take a moment to leave the process's list; the test's framework has threads of its own. */
static bool threads_are(unsigned count)
{
	for (int i = 0; i < 1000; i++) {
		if (count_dir("/proc/self/task") == count)
			return true;
		usleep(1000);
	}
	return false;
}

Test(scan, leaves_nothing_behind)
{
	uint64_t seed = 4;
	tree_random_fill(dir, &seed, 25, 3);
	unsigned fds = count_dir("/proc/self/fd"), tasks = count_dir("/proc/self/task");
	for (unsigned threads = 0; threads <= 200; threads = threads ? threads * 4 : 1) {
		struct result r = RESULT;
		cr_assert_eq(scan(&r, threads, root), 0);
		unsigned want = threads == 0 ? r.stats.threads : threads < 64 ? threads : 64;
		cr_expect(r.stats.threads == want && r.stats.threads > 0, "%u threads of %u", r.stats.threads, threads);
		cr_expect_str_eq(r.stats.backend, "pool");
		cr_expect(r.stats.wall_ns > 0 && r.stats.cpu_ns > 0);
		cr_expect(threads_are(tasks), "threads remain");
		ref_clear(&r.lines);
	}
	cr_expect_eq(count_dir("/proc/self/fd"), fds);
}

static int note_mask(void *arg, const struct lw_scan_dir *d)
{
	sigset_t mask;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	if (!pthread_equal(pthread_self(), *(pthread_t *)arg) && !sigismember(&mask, SIGINT))
		abort();
	lw_listing_destroy(d->listing);
	usleep(1000);
	return 0;
}

Test(scan, signals_are_for_the_program)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 4 };
	struct lw_scan_stats stats;
	unsigned failed;
	const char *path = root;
	pthread_t self = pthread_self();
	sigset_t before, after;
	for (char c = 'a'; c <= 'z'; c++)
		close(tree_mkdir(dir, (char[]){ c, '\0' }));
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	cr_assert_eq(lw_scan(&config, &path, 1, note_mask, &self, &stats, &failed, NULL), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	cr_expect_eq(sigismember(&after, SIGINT), sigismember(&before, SIGINT));
}

Test(scan, stops)
{
	unsigned tasks = count_dir("/proc/self/task");
	for (unsigned i = 0; i < 300; i++) {
		char name[16];
		snprintf(name, sizeof name, "d%u", i);
		close(tree_mkdir(dir, name));
	}
	for (unsigned threads = 1; threads <= 4; threads++) {
		for (unsigned at = 1; at <= 301; at += 30) {
			struct result r = RESULT;
			r.stop_at = at;
			cr_assert_eq(scan(&r, threads, root), 7);
			cr_expect(r.calls >= at && r.calls < at + threads, "%u calls after stop at %u with %u threads", r.calls, at, threads);
			cr_expect_eq(r.failed, 1);
			cr_assert(threads_are(tasks));
			ref_clear(&r.lines);
		}
	}
}

static bool few_descriptors_body(void)
{
	struct lw_scan_stats stats;
	struct result r = RESULT;
	struct rlimit limit;
	r.refuse_listings = true;
	/* Descriptors are given out lowest first: as many as are open now, and one per thread. What is kept on the way down is done without. */
	int next = dup(dir);
	close(next);
	limit.rlim_cur = limit.rlim_max = (rlim_t)next + 2;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || scan(&r, 2, root) != 0 || r.stats.unreadable || r.stats.directories != 120)
		return false;
	stats = r.stats;
	limit.rlim_cur = limit.rlim_max = (rlim_t)next;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return false;
	r = (struct result)RESULT;
	return scan(&r, 2, root) == -EMFILE && r.failed == 0 && r.calls == 0 && stats.threads == 2;
}

Test(scan, one_descriptor_per_thread_will_do)
{
	for (unsigned i = 0; i < 7; i++) {
		char name[16];
		snprintf(name, sizeof name, "d%u", i);
		int fd = tree_mkdir(dir, name);
		for (unsigned j = 0; j < 16; j++) {
			snprintf(name, sizeof name, "e%u", j);
			close(tree_mkdir(fd, name));
		}
		close(fd);
	}
	cr_expect_eq(as_nobody(few_descriptors_body), 0);
}

/* The most descriptors that a thread had while it reported something. */
static int note_descriptors(void *arg, const struct lw_scan_dir *d)
{
	_Atomic unsigned *most = arg;
	unsigned now = count_dir("/proc/thread-self/fd"), seen = atomic_load(most);
	while (now > seen && !atomic_compare_exchange_weak(most, &seen, now))
		;
	lw_listing_destroy(d->listing);
	return 0;
}

Test(scan, descriptors_are_kept_within_bounds)
{
	make_chain("d", 200);
	for (unsigned i = 0; i < 20; i++) {
		char name[16];
		snprintf(name, sizeof name, "e%u", i);
		close(tree_mkdir(dir, name));
	}
	unsigned before = count_dir("/proc/thread-self/fd");
	for (unsigned threads = 1; threads <= 3; threads++) {
		struct lw_scan_config config = { .suffixes = &suffixes, .threads = threads };
		struct lw_scan_stats stats;
		const char *path = root;
		_Atomic unsigned most = 0;
		unsigned failed;
		cr_assert_eq(lw_scan(&config, &path, 1, note_descriptors, &most, &stats, &failed, NULL), 0);
		cr_expect_eq(stats.directories, 221);
		cr_expect(most > before + 8 && most <= before + 34, "%u descriptors before, %u then, %u threads", before, most, threads);
		cr_expect_eq(count_dir("/proc/thread-self/fd"), before);
	}
}

/* Whether SHARED, a descriptor of the program, is open here. */
static int look_for_descriptor(void *arg, const struct lw_scan_dir *d)
{
	const int *shared = arg;
	bool open = fcntl(*shared, F_GETFD) >= 0, ours = getpid() == gettid();
	lw_listing_destroy(d->listing);
	usleep(2000);
	return open == ours ? 0 : 9;
}

Test(scan, the_programs_descriptors_are_its_own)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 4 };
	struct lw_scan_stats stats;
	const char *path = root;
	unsigned failed;
	int shared = fcntl(dir, F_DUPFD_CLOEXEC, 200);
	for (char c = 'a'; c <= 'z'; c++)
		close(tree_mkdir(dir, (char[]){ c, '\0' }));
	cr_assert_geq(shared, 200);
	cr_expect_eq(lw_scan(&config, &path, 1, look_for_descriptor, &shared, &stats, &failed, NULL), 0);
	cr_expect_geq(fcntl(shared, F_GETFD), 0, "still open in the program");
	close(shared);
}

static bool no_threads_body(void)
{
	struct rlimit none = { 0, 0 };
	struct lw_scan_stats stats;
	return setrlimit(RLIMIT_NPROC, &none) == 0 && like_reference(root, 4, &stats) && stats.threads == 1;
}

Test(scan, without_threads)
{
	uint64_t seed = 6;
	tree_random_fill(dir, &seed, 25, 2);
	cr_expect_eq(as_nobody(no_threads_body), 0);
}

/* Make, fill, rename and remove until killed. */
static void keep_changing(void)
{
	for (uint64_t seed = 8;;) {
		char from[8], to[8];
		snprintf(from, sizeof from, "p%u", tree_random(&seed) % 12);
		snprintf(to, sizeof to, "p%u", tree_random(&seed) % 12);
		if (mkdirat(dir, from, 0755) == 0) {
			int fd = tree_open(dir, from);
			tree_random_fill(fd, &seed, 12, 1);
			close(fd);
		} else if (tree_random(&seed) % 2) {
			renameat(dir, from, dir, to);
		} else {
			char path[PATH_MAX + 16];
			snprintf(path, sizeof path, "%s/%s", root, from);
			tree_destroy(path);
		}
	}
}

Test(scan, while_the_tree_changes)
{
	uint64_t vanished = 0;
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		keep_changing();
	int64_t end = lw_monotonic_ns() + 1500000000;
	while (lw_monotonic_ns() < end) {
		struct result r = RESULT;
		cr_assert_eq(scan(&r, 3, root), 0);
		cr_assert_eq(r.stats.directories + r.stats.vanished + r.stats.unreadable, r.calls);
		cr_assert_eq(r.stats.unreadable, 0);
		vanished += r.stats.vanished;
		ref_clear(&r.lines);
	}
	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	/* A process it had started to remove things may still be at work. */
	usleep(200000);
	cr_expect(like_reference(root, 3, NULL));
	cr_log_info("%d directories vanished meanwhile", (int)vanished);
}

static int remove_child(void *arg, const struct lw_scan_dir *d)
{
	lw_listing_destroy(d->listing);
	/* Two children wait by now, or will: both go. */
	if (strcmp(d->path, root) == 0) {
		unlinkat(dir, "x", AT_REMOVEDIR);
		unlinkat(dir, "y", AT_REMOVEDIR);
		tree_write(dir, "y", "");
	} else {
		((int *)arg)[strcmp(d->path + strlen(root), "/y") == 0] = d->error;
	}
	return 0;
}

Test(scan, vanishing_is_reported)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 1 };
	struct lw_scan_stats stats;
	unsigned failed;
	int errors[2] = { 0 };
	const char *path = root;
	close(tree_mkdir(dir, "x"));
	close(tree_mkdir(dir, "y"));
	cr_assert_eq(lw_scan(&config, &path, 1, remove_child, errors, &stats, &failed, NULL), 0);
	cr_expect(errors[0] == ENOENT && errors[1] == ENOTDIR, "%d and %d", errors[0], errors[1]);
	cr_expect_eq(stats.vanished, 2);
	cr_expect_eq(stats.directories, 1);
}

static int note_racy(void *arg, const struct lw_scan_dir *d)
{
	((bool *)arg)[0] = d->racy;
	((bool *)arg)[1] = d->source_count == 1 && d->sources[0].racy;
	lw_listing_destroy(d->listing);
	return 0;
}

Test(scan, racy)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 1 };
	struct lw_scan_stats stats;
	unsigned failed;
	const char *path = root;
	bool racy[2];
	/* The control and the rule: at once, and when things have settled. A slow machine gets several tries. */
	for (int i = 0; i < 50; i++) {
		tree_write(dir, "m.py", "1");
		unlinkat(dir, "other", 0);
		tree_write(dir, "other", "");
		cr_assert_eq(lw_scan(&config, &path, 1, note_racy, racy, &stats, &failed, NULL), 0);
		if (racy[0] && racy[1])
			break;
	}
	cr_expect(racy[0] && racy[1]);
	usleep(50000);
	cr_assert_eq(lw_scan(&config, &path, 1, note_racy, racy, &stats, &failed, NULL), 0);
	cr_expect(!racy[0] && !racy[1]);
	tree_write(dir, "m.py", "2");
	cr_assert_eq(lw_scan(&config, &path, 1, note_racy, racy, &stats, &failed, NULL), 0);
	cr_expect(!racy[0], "an edit leaves its directory alone");
}

/* Waits, not for ever, until four are in it at the same time. */
static int meet(void *arg, const struct lw_scan_dir *d)
{
	_Atomic unsigned *inside = arg;
	lw_listing_destroy(d->listing);
	if (strcmp(d->path, root) == 0) {
		/* Until the others wait for work: they must be woken. */
		usleep(100000);
		return 0;
	}
	atomic_fetch_add(inside, 1);
	for (int i = 0; i < 5000 && atomic_load(inside) < 4; i++)
		usleep(1000);
	return atomic_load(inside) < 4 ? 9 : 0;
}

Test(scan, threads_work_at_once)
{
	struct lw_scan_config config = { .suffixes = &suffixes, .threads = 4 };
	struct lw_scan_stats stats;
	unsigned failed;
	_Atomic unsigned inside = 0;
	const char *path = root;
	for (char c = 'a'; c <= 'd'; c++)
		close(tree_mkdir(dir, (char[]){ c, '\0' }));
	cr_expect_eq(lw_scan(&config, &path, 1, meet, &inside, &stats, &failed, NULL), 0);
}
