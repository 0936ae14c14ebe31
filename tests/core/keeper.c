/* SPDX-License-Identifier: MIT */
/*
 * keeper: whatever happens to a tree, base and delta say what a walk of it says once all events are folded in. The control leaves events out.
 */
#include "keeper.h"
#include "index.h"
#include "reference.h"
#include "scan.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

static char root[PATH_MAX];
static int dir;
static struct lw_suffixes suffixes;
static const struct lw_hash128 key = { 1, 2 };
static lw_watch *watch;
static lw_keeper *keeper;

static void set_up(void)
{
	char why[LW_WATCH_WHY];
	suffixes = ref_suffixes();
	tree_create(root, sizeof root);
	dir = tree_open(AT_FDCWD, root);
	TREE_CHECK(lw_watch_create(LW_WATCH_INOTIFY, NULL, 0, &watch, why) == 0);
	static const char *roots[] = { root };
	const struct lw_keeper_config config = { .suffixes = &suffixes, .key = key, .watch = watch, .roots = roots, .count = 1, .threads = 2 };
	keeper = lw_keeper_create(&config);
	TREE_CHECK(keeper);
}

static void tear_down(void)
{
	lw_keeper_destroy(keeper);
	lw_watch_destroy(watch);
	close(dir);
	tree_destroy(root);
}

TestSuite(keeper, .init = set_up, .fini = tear_down);

static void mark(void *arg, const struct lw_watch_event *event)
{
	lw_keeper_mark(keeper, event);
}

static void drain(void)
{
	TREE_CHECK(lw_watch_drain(watch, 0, mark, NULL) >= 0);
}

static void fold(void)
{
	lw_keeper_begin(keeper);
	cr_assert_eq(lw_keeper_fold(keeper), 0);
	lw_keeper_end(keeper);
}

static void settle(void)
{
	for (drain(); lw_keeper_is_marked(keeper); drain())
		fold();
}

/* What both sides say, as lines. */

struct lines {
	struct ref_lines dirs, files;
};

static void add_listing(struct ref_lines *lines, const char *path, size_t len, uint64_t stamp, const struct lw_entry *entries, uint32_t count,
		const char *(*name_of)(const void *, const struct lw_entry *), const void *names)
{
	ref_add(lines, "D %.*s %016llx", (int)len, path, (unsigned long long)stamp);
	for (uint32_t i = 0; i < count; i++)
		ref_add(lines, "E %.*s/%.*s %x %x", (int)len, path, entries[i].len, name_of(names, &entries[i]), entries[i].kinds, entries[i].flags);
}

static const char *name_in_listing(const void *listing, const struct lw_entry *entry)
{
	return ((const struct lw_listing *)listing)->names + entry->name;
}

static const char *name_in_index(const void *index, const struct lw_entry *entry)
{
	return lw_index_string(index, entry->name, entry->len);
}

static lw_index *open_fd(int fd)
{
	lw_index *index = NULL;
	TREE_CHECK(fd < 0 || lw_index_open(fd, &key, &index, NULL) == 0);
	return index;
}

/* Of NAME.py in directory PATH; whoever knows the directory alone is asked. 0: not known. */
static uint64_t find_stamp(lw_index *const *index, const char *path, size_t len, const char *name, size_t name_len)
{
	for (unsigned i = 0; i < 2; i++) {
		struct lw_index_dir found;
		const struct lw_entry *entry;
		const uint64_t *stamp;
		if (!index[i] || lw_index_find_dir(index[i], path, len, &found) != LW_OK)
			continue;
		bool known = lw_index_dir_find(&found, name, name_len, &entry) == LW_OK && lw_index_stamps(&found, entry, 1, &stamp) == LW_OK;
		return known ? *stamp : 0;
	}
	return 0;
}

/* Delta first; what it knows hides the base. */
static void say_index(lw_index *const *index, struct ref_lines *lines)
{
	for (unsigned i = 0; i < 2; i++) {
		for (uint32_t at = 0; index[i] && at < lw_index_dir_count(index[i]); at++) {
			struct lw_index_dir found;
			const char *path;
			TREE_CHECK(lw_index_dir_at(index[i], at, &found, &path) == LW_OK);
			const struct lw_dir_record *newer;
			if (i == 1 && index[0] && lw_index_find_dir_record(index[0], path, found.record->path_len, &newer) == LW_OK)
				continue;
			add_listing(lines, path, found.record->path_len, found.record->stamp, found.entries, found.record->count, name_in_index, index[i]);
		}
	}
}

struct walk {
	struct ref_lines lines;
	lw_index *index[2];
	unsigned sources, told, wrong;
};

/*
 * One thread. A source whose changes are told under its name has its stamp; of others there is none.
 */
static int note(void *arg, const struct lw_scan_dir *d)
{
	struct walk *walk = arg;
	cr_expect_eq(d->error, 0);
	add_listing(&walk->lines, d->path, d->path_len, lw_stamp(&d->stat), d->listing->entries, d->listing->count, name_in_listing, d->listing);
	for (unsigned i = 0; i < d->source_count; i++) {
		const struct lw_scan_source *source = &d->sources[i];
		char path[PATH_MAX + 300];
		const struct lw_entry *entry = lw_listing_find(d->listing, d->listing->names + source->name, source->len);
		struct stat st;
		snprintf(path, sizeof path, "%s/%.*s.py", d->path, source->len, d->listing->names + source->name);
		bool told = lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 && !(entry->flags & LW_ENTRY_DOUBT);
		uint64_t stamp = find_stamp(walk->index, d->path, d->path_len, d->listing->names + source->name, source->len);
		walk->wrong += stamp != (told ? lw_stamp(&source->stat) : 0);
		walk->sources++;
		walk->told += told;
	}
	lw_listing_destroy(d->listing);
	return 0;
}

/* Stamps that agrees() has compared. */
static unsigned told;

/* Whether keeper's snapshot is the tree. */
static bool agrees(bool explain)
{
	struct walk walk = { .lines = REF_LINES, .index = { open_fd(lw_keeper_delta(keeper)), open_fd(lw_keeper_base(keeper)) } };
	struct ref_lines known = REF_LINES;
	const struct lw_scan_config config = { .suffixes = &suffixes, .threads = 1, .linked = true };
	const char *path = root;
	struct lw_scan_stats stats;
	unsigned failed;
	TREE_CHECK(lw_scan(&config, &path, 1, note, &walk, &stats, &failed, NULL) == 0);
	say_index(walk.index, &known);
	bool same = ref_equal(&known, &walk.lines, explain) && walk.wrong == 0;
	if (explain)
		cr_expect_eq(walk.wrong, 0, "%u of %u sources", walk.wrong, walk.sources);
	told += walk.told;
	for (unsigned i = 0; i < 2; i++)
		lw_index_close(walk.index[i]);
	ref_clear(&known);
	ref_clear(&walk.lines);
	return same;
}

/* A tree that is changed at random */

static const char *random_path(uint64_t *seed, char *out)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	unsigned depth = tree_random(seed) % 3;
	size_t len = 0;
	for (unsigned i = 0; i <= depth; i++)
		len += (size_t)sprintf(out + len, "%s%s", i ? "/" : "", names[tree_random(seed) % 4]);
	return out;
}

static void write_file(const char *path, uint64_t *seed)
{
	char text[64];
	snprintf(text, sizeof text, "x = %u\n", tree_random(seed));
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return;
	TREE_CHECK(write(fd, text, strlen(text)) > 0);
	close(fd);
}

/* Another thread may put something in meanwhile. */
static void remove_tree(const char *path)
{
	char full[PATH_MAX * 2];
	snprintf(full, sizeof full, "%s/%s", root, path);
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		TREE_CHECK(freopen("/dev/null", "w", stderr));
		execlp("rm", "rm", "-rf", "--", full, (char *)NULL);
		_exit(127);
	}
	TREE_CHECK(waitpid(pid, NULL, 0) == pid);
}

/* Failures are part of it: no such directory, one that is not empty. No hard links: who has one name of a file learns nothing of the others. */
static void change(uint64_t *seed)
{
	char a[64], b[64], file[80], other[80];
	random_path(seed, a);
	random_path(seed, b);
	snprintf(file, sizeof file, "%s.py", a);
	snprintf(other, sizeof other, "%s.py", b);
	switch (tree_random(seed) % 13) {
	case 0: case 1: case 2:
		mkdirat(dir, a, 0755);
		break;
	case 3: case 4: case 5:
		write_file(file, seed);
		break;
	case 6:
		unlinkat(dir, file, 0);
		break;
	case 7:
		renameat(dir, a, dir, b);
		break;
	case 8:
		renameat(dir, file, dir, other);
		break;
	case 9:
		renameat2(dir, a, dir, b, RENAME_EXCHANGE);
		break;
	case 10:
		symlinkat(tree_random(seed) % 2 ? "b" : "nowhere", dir, tree_random(seed) % 2 ? a : file);
		break;
	case 11:
		if (tree_random(seed) % 4 == 0)
			remove_tree(a);
		break;
	case 12:
		fchmodat(dir, tree_random(seed) % 2 ? a : file, tree_random(seed) % 2 ? 0755 : 0700, 0);
		break;
	}
}

Test(keeper, reads_all_at_first)
{
	uint64_t seed = 5;
	tree_random_fill(dir, &seed, 12, 3);
	cr_expect(lw_keeper_is_void(keeper));
	settle();
	cr_expect_not(lw_keeper_is_void(keeper));
	cr_expect(agrees(true));
	cr_expect_eq(lw_keeper_delta(keeper), -1);
}

Test(keeper, random_changes_are_folded_in)
{
	uint64_t seed = 11;
	struct lw_keeper_stats stats;
	settle();
	for (unsigned round = 0; round < (getenv("LADEWERK_LONG") ? 20000 : 400); round++) {
		for (unsigned i = tree_random(&seed) % 12; i < 12; i++)
			change(&seed);
		settle();
		cr_assert(agrees(true), "round %u", round);
	}
	cr_expect_gt(told, 400);
	lw_keeper_stats(keeper, &stats);
	cr_expect(stats.folds > 100 && stats.bases > 10 && stats.bases < stats.folds, "%lu folds, %lu bases", (unsigned long)stats.folds, (unsigned long)stats.bases);
}

static void forget(void *arg, const struct lw_watch_event *event)
{
	unsigned *kinds = arg;
	if (!(*kinds & 1u << event->kind))
		lw_keeper_mark(keeper, event);
}

/* Each kind of event is needed. */
Test(keeper, without_events_it_is_wrong)
{
	for (enum lw_watch_kind kind = LW_WATCH_NAMES; kind <= LW_WATCH_SUBTREE; kind++) {
		unsigned forgotten = 1u << kind, wrong = 0;
		uint64_t seed = 23;
		for (unsigned round = 0; round < 60; round++) {
			lw_keeper_mark_all(keeper);
			settle();
			for (unsigned i = 0; i < 12; i++)
				change(&seed);
			TREE_CHECK(lw_watch_drain(watch, 0, forget, &forgotten) >= 0);
			while (lw_keeper_is_marked(keeper))
				fold();
			wrong += !agrees(false);
		}
		cr_expect(wrong > 0, "%d", kind);
	}
}

static _Atomic bool stop;

static void *keep_changing(void *arg)
{
	uint64_t seed = *(const uint64_t *)arg;
	while (!atomic_load(&stop))
		change(&seed);
	return NULL;
}

Test(keeper, changes_while_it_folds)
{
	for (unsigned round = 0; round < 6; round++) {
		enum { THREADS = 2 };
		uint64_t seed[THREADS] = { round * 2, round * 2 + 1 };
		pthread_t thread[THREADS];
		atomic_store(&stop, false);
		for (unsigned i = 0; i < THREADS; i++)
			TREE_CHECK(pthread_create(&thread[i], NULL, keep_changing, &seed[i]) == 0);
		for (unsigned i = 0; i < 40; i++) {
			drain();
			fold();
		}
		atomic_store(&stop, true);
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(thread[i], NULL);
		settle();
		cr_assert(agrees(true), "round %u", round);
	}
}

Test(keeper, a_root_that_goes_and_comes_back)
{
	uint64_t seed = 3;
	char away[PATH_MAX + 8];
	snprintf(away, sizeof away, "%s.away", root);
	tree_random_fill(dir, &seed, 8, 2);
	settle();
	TREE_CHECK(rename(root, away) == 0);
	drain();
	cr_expect(lw_keeper_is_marked(keeper), "the way is watched");
	settle();
	lw_index *base = open_fd(lw_keeper_base(keeper));
	cr_expect_eq(lw_index_dir_count(base), 0);
	lw_index_close(base);
	TREE_CHECK(rename(away, root) == 0);
	/* Nobody is told of what comes where nothing was: the daemon looks now and then. */
	lw_keeper_mark(keeper, &(struct lw_watch_event){ .kind = LW_WATCH_SUBTREE, .path = root, .len = strlen(root) });
	settle();
	cr_expect(agrees(true));
}

Test(keeper, a_file_with_two_names_is_not_known)
{
	tree_write(dir, "a.py", "");
	tree_write(dir, "b.py", "");
	settle();
	cr_expect(agrees(true));
	TREE_CHECK(linkat(dir, "a.py", dir, "c.py", 0) == 0);
	settle();
	cr_expect(agrees(true));
	struct lw_keeper_stats stats;
	lw_keeper_mark_all(keeper);
	settle();
	lw_keeper_stats(keeper, &stats);
	cr_expect_eq(stats.sources, 1, "b.py");
	TREE_CHECK(unlinkat(dir, "a.py", 0) == 0);
	settle();
	cr_expect(agrees(true));
}

Test(keeper, memory_is_sealed)
{
	settle();
	char byte = 1;
	cr_expect_eq(pwrite(lw_keeper_base(keeper), &byte, 1, 0), -1);
	cr_expect_eq(ftruncate(lw_keeper_base(keeper), 0), -1);
}

static bool is_racy(void)
{
	const struct lw_dir_record *record = NULL;
	lw_index *index[2] = { open_fd(lw_keeper_delta(keeper)), open_fd(lw_keeper_base(keeper)) };
	for (unsigned i = 0; i < 2 && !record; i++)
		if (index[i] && lw_index_find_dir_record(index[i], root, strlen(root), &record) != LW_OK)
			record = NULL;
	TREE_CHECK(record);
	bool racy = record->flags & LW_DIR_RACY;
	for (unsigned i = 0; i < 2; i++)
		lw_index_close(index[i]);
	return racy;
}

static void touch_root(void)
{
	/* What bears a time to come is as old as its ctime. */
	const struct timespec future[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = time(NULL) + 3600 } };
	TREE_CHECK(utimensat(AT_FDCWD, root, future, 0) == 0);
}

/* Whoever is told of a change after it must not go by the stamp, be it from a walk or from a look at one directory. */
Test(keeper, what_was_changed_just_now_is_racy)
{
	bool racy[2] = { false, false };
	for (unsigned one = 0; one < 2; one++) {
		/* We may be put to sleep in between. */
		for (unsigned tries = 0; tries < 50 && !racy[one]; tries++) {
			touch_root();
			if (one)
				drain();
			else
				lw_keeper_mark_all(keeper);
			fold();
			racy[one] = is_racy();
		}
		cr_expect(racy[one], "%u", one);
		usleep(50000);
		settle();
		lw_keeper_mark(keeper, &(struct lw_watch_event){ .kind = LW_WATCH_NAMES, .path = root, .len = strlen(root), .name = "" });
		fold();
		cr_expect_not(is_racy(), "old enough");
	}
}

static unsigned count_fds(void)
{
	unsigned count = 0;
	for (int fd = 0; fd < 1000; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

Test(keeper, a_result_that_nobody_waits_for_is_let_go)
{
	static const char *roots[] = { root };
	const struct lw_keeper_config config = { .suffixes = &suffixes, .key = key, .watch = watch, .roots = roots, .count = 1, .threads = 1 };
	unsigned before = count_fds();
	lw_keeper *other = lw_keeper_create(&config);
	lw_keeper_begin(other);
	cr_expect_eq(lw_keeper_fold(other), 0);
	lw_keeper_destroy(other);
	cr_expect_eq(count_fds(), before);
}

/* Whatever it is: a file system whose server has died, a name that is none. */
Test(keeper, a_root_that_cannot_be_read_is_no_obstacle)
{
	static char strange[PATH_MAX + 302];
	static const char *roots[] = { strange, root };
	const struct lw_keeper_config config = { .suffixes = &suffixes, .key = key, .watch = watch, .roots = roots, .count = 2, .threads = 1 };
	size_t len = (size_t)sprintf(strange, "%s/", root);
	memset(strange + len, 'x', 300);
	lw_keeper_destroy(keeper);
	keeper = lw_keeper_create(&config);
	tree_write(dir, "a.py", "");
	settle();
	cr_expect(agrees(true));
}
