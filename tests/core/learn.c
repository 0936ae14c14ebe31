/* SPDX-License-Identifier: MIT */
/*
 * What is kept, when it is time to store it, and what is dropped. Sources that change between the stat and the reading of their content:
 * pyc.c is compiled into this program with a read() that does the changing.
 */
#include "facts.h"
#include "learn.h"
#include <criterion/criterion.h>
#include <unistd.h>

static void (*before_read)(void);
static unsigned reads;

static ssize_t changing_read(int fd, void *buffer, size_t size)
{
	if (before_read)
		before_read();
	reads++;
	return read(fd, buffer, size);
}

#define read changing_read
#include "../../core/pyc.c"
#undef read

static const int64_t MS = 1000000;
static char root[PATH_MAX], place[PATH_MAX + 16], source[PATH_MAX + 16];
static struct lw_suffixes suffixes;
static struct lw_dirs dirs;
static struct lw_learner learner;
static struct lw_session_stats stats;
static lw_store *store;
static char reason[LW_STORE_REASON];

static void open_store(bool readonly)
{
	const struct lw_store_config config = { .place = place, .key = facts_key, .about = "test", .readonly = readonly, .prefix_owner = geteuid() };
	cr_assert_eq(lw_store_open(&config, &store, reason), 0, "%s", reason);
}

static void setup(void)
{
	tree_create(root, sizeof root);
	snprintf(place, sizeof place, "%s/cache", root);
	snprintf(source, sizeof source, "%s/m.py", root);
	suffixes = facts_suffixes();
	cr_assert_eq(lw_dirs_init(&dirs, &suffixes, LW_STAT), 0);
	open_store(false);
	lw_learner_init(&learner, false);
}

static void teardown(void)
{
	lw_learner_destroy(&learner);
	lw_dirs_destroy(&dirs);
	lw_store_close(store);
	tree_destroy(root);
}

TestSuite(learn, .init = setup, .fini = teardown);

static void write_source(const char *text)
{
	tree_write(AT_FDCWD, source, text);
	facts_age();
}

static struct lw_hit hit_of(const char *path)
{
	struct lw_hit hit = { .kind = LW_HIT_MODULE, .suffix = suffixes.source, .asked = true, .asked_ns = lw_now_ns() };
	strcpy(hit.path, path);
	hit.len = (uint32_t)strlen(path);
	cr_assert_eq(lw_stat_at(AT_FDCWD, path, &hit.stat), 0);
	return hit;
}

static void learn(const char *path, uint64_t content)
{
	struct lw_hit hit = hit_of(path);
	lw_learner_add(&learner, &hit, lw_stamp(&hit.stat), content, "code", 4, true);
}

static int flush(void)
{
	return lw_learner_flush(&learner, &dirs, NULL, 0, store, &stats);
}

static bool pending(void)
{
	return lw_learner_pending(&learner, &dirs, NULL, 0);
}

static unsigned files_stored(void)
{
	lw_index **index;
	unsigned count, refused, files = 0;
	cr_assert_eq(lw_store_load(store, &index, &count, &refused, reason), 0);
	for (unsigned i = 0; i < count; i++) {
		files += lw_index_file_count(index[i]);
		lw_index_close(index[i]);
	}
	free(index);
	return files;
}

static void edit(void)
{
	before_read = NULL;
	tree_write(AT_FDCWD, source, "x = 2\n");
}

Test(learn, what_changes_while_it_is_hashed_is_dropped)
{
	/* Bound to the new content, the old code would be served for it in every later process. */
	write_source("x = 1\n");
	learn(source, 0);
	before_read = edit;
	cr_assert_eq(flush(), 0);
	cr_assert_null(before_read, "the control: it did change");
	cr_assert_eq(stats.dropped, 1);
	cr_assert_eq(stats.segments_written + stats.learnt_files + stats.write_errors, 0);
	cr_assert_eq(files_stored(), 0);
}

Test(learn, what_changed_before_is_dropped)
{
	write_source("x = 1\n");
	learn(source, 0);
	write_source("x = 2\n");
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.dropped, 1);
	learn(source, 0);
	cr_assert_eq(unlink(source), 0);
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.dropped, 2);
	cr_assert_eq(stats.segments_written, 0);
	cr_assert(!pending());
}

Test(learn, stored_with_its_content)
{
	write_source("x = 1\n");
	learn(source, 0);
	cr_assert(pending());
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.segments_written, 1);
	cr_assert_eq(stats.learnt_files, 1);
	cr_assert_eq(stats.learnt_bytes, 4);

	lw_index **index;
	unsigned count, refused;
	const struct lw_file_record *record;
	cr_assert_eq(lw_store_load(store, &index, &count, &refused, reason), 0);
	cr_assert_eq(count, 1);
	cr_assert_eq(lw_index_find_file(index[0], lw_hash128(source, strlen(source)), &record), LW_OK);
	struct lw_hit hit = hit_of(source);
	cr_assert_eq(record->stamp, lw_stamp(&hit.stat));
	cr_assert_eq(record->content, lw_hash64("x = 1\n", 6));
	cr_assert_eq(record->code_len, 4 | LW_FILE_PUBLIC);
	lw_index_close(index[0]);
	free(index);
}

Test(learn, nothing_is_learnt_twice)
{
	write_source("x = 1\n");
	for (unsigned i = 0; i < 5; i++) {
		learn(source, 0);
		learn(source, 0);
		cr_assert_eq(pending(), i == 0);
		cr_assert_eq(flush(), 0);
	}
	cr_assert_eq(stats.segments_written, 1);
	cr_assert_eq(stats.learnt_files, 1);
	write_source("x = 2\n");
	learn(source, 0);
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.learnt_files, 2, "another stamp is news");

	enum { MANY = 3000 };
	struct lw_hit hit = hit_of(source);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < MANY; i++)
			lw_learner_add(&learner, &hit, 1000 + i, 1, "c", 1, true);
		cr_assert_eq(pending(), round == 0);
		cr_assert_eq(flush(), 0);
	}
	cr_assert_eq(stats.dropped, MANY, "the stamps are made up");
	cr_assert_eq(stats.learnt_files, 2);
}

Test(learn, budget)
{
	write_source("x = 1\n");
	struct lw_hit hit = hit_of(source);
	cr_assert(lw_learner_time(&learner), "the first time at once");
	learn(source, 0);
	cr_assert_eq(flush(), 0);
	cr_assert_gt(learner.cost_ns, 0);
	cr_assert_eq(learner.spent_ns, learner.cost_ns);
	/* Eight milliseconds, the next one included ... */
	learner.begun_ns = lw_monotonic_ns();
	learner.cost_ns = 1 * MS;
	learner.spent_ns = 7 * MS;
	cr_assert(lw_learner_time(&learner));
	learner.begun_ns = lw_monotonic_ns();
	learner.spent_ns = 30 * MS;
	cr_assert(!lw_learner_time(&learner));
	/* ... and a fiftieth of the time since the start. */
	learner.begun_ns = lw_monotonic_ns() - 50 * 23 * MS;
	cr_assert(lw_learner_time(&learner));

	learner.begun_ns = lw_monotonic_ns();
	char *large = calloc(1, 9 << 20);
	lw_learner_add(&learner, &hit, 99, 1, large, 9 << 20, true);
	cr_assert(lw_learner_time(&learner), "much is stored whenever");
	lw_learner_forget(&learner);
	cr_assert(!lw_learner_time(&learner));
	lw_learner_add(&learner, &hit, 100, 1, large, (size_t)1 << LW_FILE_LEN_BITS, true);
	cr_assert(!pending(), "beyond what the format holds");
	free(large);
}

Test(learn, nowhere_to_store)
{
	lw_learner_destroy(&learner);
	lw_learner_init(&learner, true);
	write_source("x = 1\n");
	learn(source, 0);
	cr_assert_eq(lw_dirs_fresh(&dirs, facts_dir(&dirs, root)), 0);
	cr_assert_eq(dirs.dirty, 1);
	cr_assert(!pending());
	cr_assert_eq(learner.bytes, 0);
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.write_errors, 0);
}

Test(learn, failure_is_counted_and_forgotten)
{
	lw_store_close(store);
	open_store(true);
	write_source("x = 1\n");
	learn(source, 0);
	cr_assert_eq(lw_dirs_fresh(&dirs, facts_dir(&dirs, root)), 0);
	cr_assert_eq(flush(), -EROFS);
	cr_assert_eq(stats.write_errors, 1);
	cr_assert_eq(stats.last_write_error, EROFS);
	cr_assert(!pending());
	cr_assert(!lw_learner_time(&learner), "and not tried again at once");
}

Test(learn, nothing_that_has_changed_since_is_stored)
{
	write_source("x = 1\n");
	learn(source, lw_hash64("x = 1\n", 6));
	cr_assert_eq(lw_dirs_fresh(&dirs, facts_dir(&dirs, root)), 0);
	cr_assert_eq(dirs.dirty, 1);
	write_source("x = 2\n");
	tree_write(AT_FDCWD, facts_join(root, "new.py"), "");
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.dropped, 2, "the content was known, the directory was read: both are asked once more");
	cr_assert_eq(stats.learnt_files + stats.learnt_dirs + stats.segments_written, 0);
	cr_assert_eq(dirs.dirty, 0);
	learn(source, lw_hash64("x = 2\n", 6));
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.learnt_files, 1, "the control: unchanged");
	tree_write(AT_FDCWD, source, "x = 3\n");
	facts_age();
	learn(source, lw_hash64("x = 2\n", 6));
	cr_assert_eq(flush(), 0);
	cr_assert_eq(stats.learnt_files, 1, "the stamp agrees, but something else was compiled: a link was turned and turned back");
}

Test(learn, directories_and_tables)
{
	enum { LONG = 40 };
	struct lw_path_entry list[LONG];
	struct lw_hit hit;
	char sub[PATH_MAX];
	strcpy(sub, facts_mkdir(root, "sub"));
	facts_age();
	for (unsigned i = 0; i < LONG; i++)
		list[i] = (struct lw_path_entry){ i % 2 ? sub : root, (uint32_t)strlen(i % 2 ? sub : root) };
	lw_view *view = lw_view_create(list, LONG, false);
	cr_assert(!lw_learner_pending(&learner, &dirs, &view, 1));
	cr_assert_eq(lw_view_resolve(view, &dirs, 0, 0, "m", 1, &hit), 0);
	cr_assert_eq(dirs.dirty, 2);
	cr_assert(lw_learner_pending(&learner, &dirs, &view, 1));
	cr_assert_eq(lw_learner_flush(&learner, &dirs, &view, 1, store, &stats), 0);
	cr_assert_eq(stats.learnt_dirs, 2);
	cr_assert_eq(stats.segments_written, 1);
	cr_assert(dirs.dirty == 0 && !lw_view_unlearnt(view));
	cr_assert(!lw_learner_pending(&learner, &dirs, &view, 1));
	cr_assert_eq(lw_learner_flush(&learner, &dirs, &view, 1, store, &stats), 0);
	cr_assert_eq(stats.segments_written, 1, "nothing new: nothing written");
	lw_view_destroy(view);
}
