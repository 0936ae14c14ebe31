/* SPDX-License-Identifier: MIT */
/*
 * Directories between index, own reading and what is there. Where a test falsifies facts on purpose (a listing that lacks a name, under the
 * right stamp), the answer tells whether they were believed.
 */
#include "facts.h"
#include <criterion/criterion.h>

static char root[PATH_MAX];
static struct lw_suffixes suffixes;
static struct lw_dirs dirs;

static void setup(void)
{
	tree_create(root, sizeof root);
	suffixes = facts_suffixes();
	cr_assert_eq(lw_dirs_init(&dirs, &suffixes, LW_STAT), 0);
}

static void teardown(void)
{
	lw_dirs_destroy(&dirs);
	tree_destroy(root);
}

TestSuite(dirs, .init = setup, .fini = teardown);

#define NEEDS_ROOT() do { if (geteuid() != 0) { teardown(); cr_skip_test("only root can play other users"); } } while (0)

static bool finds(struct lw_dir *dir, const char *name)
{
	const struct lw_entry *entry;
	cr_assert_eq(lw_dir_find(&dirs, dir, name, strlen(name), &entry), 0);
	return entry != NULL;
}

static bool holds(struct lw_dir *dir, const char *name)
{
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	uint64_t token;
	bool weak;
	cr_assert_eq(lw_token_now(dir->path, &token, &weak), 0);
	cr_assert(!weak);
	cr_assert(dirs.freshness == LW_FROZEN || token == lw_dir_token(dir), "the token is what a comparison would give");
	return finds(dir, name);
}

/* A listing of PATH without any names, under its present stamp. */
static void add_empty(lw_build *build, const char *path)
{
	struct lw_stat st;
	struct lw_listing *none = lw_listing_copy(NULL, 0, NULL);
	cr_assert_eq(lw_stat_at(AT_FDCWD, path, &st), 0);
	cr_assert_eq(lw_build_dir(build, path, strlen(path), lw_stamp(&st), lw_stat_public(&st) ? LW_DIR_PUBLIC : 0, none), 0);
	lw_listing_destroy(none);
}

static void use(struct facts *facts, enum lw_freshness freshness)
{
	lw_dirs_clear(&dirs);
	dirs.snapshot = &facts->snapshot;
	dirs.freshness = freshness;
	dirs.stats = (struct lw_dirs_stats){ 0 };
}

Test(dirs, missing_appears_becomes_a_file_and_a_directory)
{
	const char *path = facts_join(root, "later");
	struct lw_dir *dir = facts_dir(&dirs, path);
	for (unsigned round = 0; round < 3; round++) {
		cr_assert(!holds(dir, "a"));
		cr_assert_eq(dir->flags, LW_DIR_MISSING);
		cr_assert_eq(lw_dir_token(dir), LW_TOKEN_MISSING);
		cr_assert_eq(mkdir(path, 0755), 0);
		facts_write(path, "a.py");
		cr_assert(holds(dir, "a"));
		cr_assert_eq(dir->flags, LW_DIR_PUBLIC);
		cr_assert_eq(unlink(facts_join(path, "a.py")), 0);
		cr_assert_eq(rmdir(path), 0);
		facts_write(root, "later");
		cr_assert(!holds(dir, "a"));
		cr_assert_eq(dir->flags, LW_DIR_NOTDIR);
		cr_assert_eq(lw_dir_token(dir), LW_TOKEN_NOTDIR);
		cr_assert_eq(unlink(path), 0);
	}
	cr_assert_eq(mkdir(path, 0755), 0);
	facts_write(path, "b.py");
	cr_assert(holds(dir, "b") && !finds(dir, "a"));
}

Test(dirs, changes_are_seen_whatever_the_clock_says)
{
	struct lw_dir *dir = facts_dir(&dirs, root);
	for (unsigned i = 0; i < 300; i++) {
		char name[32], file[40];
		snprintf(name, sizeof name, "n%u", i);
		snprintf(file, sizeof file, "n%u.py", i);
		facts_write(root, file);
		cr_assert(holds(dir, name));
		cr_assert_eq(unlink(facts_join(root, file)), 0);
		cr_assert(!holds(dir, name));
	}
}

Test(dirs, racy_directories_are_read_again_and_not_stored)
{
	struct lw_dir *dir = facts_dir(&dirs, root);
	facts_write(root, "a.py");
	/* What bears a time to come is racy for as long as the test may take. */
	const struct timespec future[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = lw_now_ns() / 1000000000 + 3600 } };
	const struct timespec past[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };
	cr_assert_eq(utimensat(AT_FDCWD, root, future, 0), 0);
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert(dir->racy && !dir->dirty && dirs.dirty == 0);
	uint64_t before = dirs.stats.listings;
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert_eq(dirs.stats.listings, before + 1, "same stamp, but it may have changed since");
	cr_assert_eq(utimensat(AT_FDCWD, root, past, 0), 0);
	facts_age();
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert(!dir->racy && dir->dirty && dirs.dirty == 1);
	before = dirs.stats.listings;
	cr_assert(holds(dir, "a"));
	cr_assert_eq(dirs.stats.listings, before, "the control: what is old enough is not read again");
	lw_dirs_stored(&dirs, dir);
	lw_dirs_stored(&dirs, dir);
	cr_assert_eq(dirs.dirty, 0);
}

Test(dirs, frozen_asks_nothing_until_told_that_files_changed)
{
	struct facts facts;
	char sub[PATH_MAX], other[PATH_MAX];
	strcpy(sub, facts_mkdir(root, "sub"));
	strcpy(other, facts_mkdir(root, "other"));
	facts_write(sub, "a.py");
	facts_age();
	holds(facts_dir(&dirs, sub), "a");
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	facts_open(&facts, build, geteuid());
	facts_write(sub, "b.py");
	facts_write(other, "o.py");

	use(&facts, LW_FROZEN);
	struct lw_dir *dir = facts_dir(&dirs, sub), *unknown = facts_dir(&dirs, other);
	cr_assert(lw_dirs_settled(&dirs, dir) && !lw_dirs_settled(&dirs, unknown));
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert(finds(dir, "a") && !finds(dir, "b"));
	cr_assert_eq(dirs.stats.statx + dirs.stats.listings, 0);
	cr_assert_eq(dirs.stats.from_index, 1);
	cr_assert(holds(unknown, "o"));
	cr_assert_eq(dirs.stats.listings, 1);
	facts_write(other, "p.py");
	cr_assert(!holds(unknown, "p"), "what no index knows is read once");
	cr_assert_eq(dirs.stats.listings, 1);

	lw_dirs_invalidate(&dirs);
	cr_assert(!lw_dirs_settled(&dirs, dir));
	cr_assert(holds(dir, "b") && holds(unknown, "p"));
	uint64_t asked = dirs.stats.statx;
	cr_assert(lw_dirs_settled(&dirs, dir));
	facts_write(sub, "c.py");
	cr_assert(!holds(dir, "c"));
	cr_assert_eq(dirs.stats.statx, asked, "compared once more, not ever after");

	use(&facts, LW_STAT);
	cr_assert(holds(facts_dir(&dirs, sub), "c"), "the control: stat sees it");
	facts_close(&facts);
}

Test(dirs, stat_believes_an_index_as_far_as_the_stamp)
{
	struct facts facts;
	facts_write(root, "a.py");
	facts_age();
	lw_build *build = lw_build_create();
	add_empty(build, root);
	facts_open(&facts, build, geteuid());
	use(&facts, LW_STAT);
	cr_assert(!holds(facts_dir(&dirs, root), "a"), "same stamp: believed");
	cr_assert_eq(dirs.dirty, 0);
	facts_write(root, "b.py");
	cr_assert(holds(facts_dir(&dirs, root), "a"), "another stamp: read");
	facts_close(&facts);
}

Test(dirs, a_glance_asks_what_was_compared_no_more)
{
	struct facts facts;
	facts_write(root, "a.py");
	facts_age();
	lw_build *build = lw_build_create();
	add_empty(build, root);
	facts_open(&facts, build, geteuid());
	facts_write(root, "b.py");
	facts_age();
	use(&facts, LW_STAT);
	struct lw_dir *dir = facts_dir(&dirs, root);
	dirs.glance = true;
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert(finds(dir, "a") && finds(dir, "b"), "an index alone is not enough: it is compared once");
	facts_write(root, "c.py");
	uint64_t before = dirs.stats.statx;
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert(!finds(dir, "c") && dirs.stats.statx == before, "what was once true is enough");
	dirs.glance = false;
	cr_assert(holds(dir, "c"), "the control: who is to load from it asks");
	facts_write(root, "d.py");
	dirs.glance = true;
	lw_dirs_invalidate(&dirs);
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
	cr_assert(finds(dir, "d"), "what was invalidated is compared");
	facts_close(&facts);
}

static bool believed(const char *path, uint32_t writer, enum lw_freshness freshness)
{
	struct facts facts;
	lw_build *build = lw_build_create();
	add_empty(build, path);
	facts_open(&facts, build, writer);
	use(&facts, freshness);
	bool result = !holds(facts_dir(&dirs, path), "a");
	cr_assert_eq(holds(facts_dir(&dirs, path), "a"), !result);
	lw_dirs_clear(&dirs);
	dirs.snapshot = NULL;
	facts_close(&facts);
	return result;
}

Test(dirs, private_facts_of_another_user_are_read_again)
{
	facts_write(root, "a.py");
	for (unsigned frozen = 0; frozen < 2; frozen++) {
		enum lw_freshness freshness = frozen ? LW_FROZEN : LW_STAT;
		cr_assert_eq(chmod(root, 0755), 0);
		facts_age();
		cr_assert(believed(root, geteuid(), freshness));
		cr_assert(believed(root, geteuid() + 1, freshness), "public: the same for all");
		cr_assert_eq(chmod(root, 0750), 0);
		facts_age();
		cr_assert(believed(root, geteuid(), freshness));
		cr_assert(!believed(root, geteuid() + 1, freshness));
	}
}

/* FLAGS instead of a listing of ROOT, which holds "a". */
static bool nameless_believed(uint16_t flags, uint32_t writer, enum lw_freshness freshness)
{
	struct facts facts;
	struct lw_stat st;
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_stat_at(AT_FDCWD, root, &st), 0);
	cr_assert_eq(lw_build_dir(build, root, strlen(root), flags & LW_DIR_UNREADABLE ? lw_stamp(&st) : 0, flags, NULL), 0);
	facts_open(&facts, build, writer);
	use(&facts, freshness);
	bool result = !holds(facts_dir(&dirs, root), "a");
	lw_dirs_clear(&dirs);
	dirs.snapshot = NULL;
	facts_close(&facts);
	return result;
}

Test(dirs, missing_and_unreadable_depend_on_who_looked)
{
	facts_write(root, "a.py");
	facts_age();
	cr_assert(!nameless_believed(LW_DIR_UNREADABLE, geteuid(), LW_STAT), "groups change while the stamp does not");
	cr_assert(!nameless_believed(LW_DIR_UNREADABLE, geteuid(), LW_FROZEN));
	cr_assert(!nameless_believed(LW_DIR_UNREADABLE, geteuid() + 1, LW_STAT));
	cr_assert(!nameless_believed(LW_DIR_MISSING, geteuid(), LW_STAT));
	cr_assert(nameless_believed(LW_DIR_MISSING, geteuid(), LW_FROZEN));
	cr_assert(nameless_believed(LW_DIR_MISSING, 0, LW_FROZEN), "root is kept out of nothing");
	cr_assert(!nameless_believed(LW_DIR_MISSING, geteuid() + 1, LW_FROZEN), "the way there may have been barred to him");
}

static int unreadable(void *arg)
{
	struct lw_dir *dir = facts_dir(&dirs, arg);
	FACTS_EXPECT(lw_dirs_fresh(&dirs, dir) == 0);
	FACTS_EXPECT(dir->flags == LW_DIR_UNREADABLE && !finds(dir, "a"));
	FACTS_EXPECT(lw_dirs_fresh(&dirs, dir) == 0);
	uint64_t token;
	bool weak;
	FACTS_EXPECT(lw_token_now(arg, &token, &weak) == 0 && token == lw_dir_token(dir));
	FACTS_EXPECT(chmod(arg, 0700) == 0);
	FACTS_EXPECT(holds(dir, "a") && dir->flags == 0);
	FACTS_EXPECT(chmod(arg, 0300) == 0);
	FACTS_EXPECT(!holds(dir, "a") && dir->flags == LW_DIR_UNREADABLE);
	struct lw_dir *behind = facts_dir(&dirs, facts_join(arg, "behind"));
	FACTS_EXPECT(!holds(behind, "x") && behind->flags == LW_DIR_MISSING);
	FACTS_EXPECT(mkdir(behind->path, 0755) == 0);
	facts_write(behind->path, "x.py");
	FACTS_EXPECT(holds(behind, "x"));
	FACTS_EXPECT(chmod(arg, 0000) == 0);
	FACTS_EXPECT(!holds(behind, "x") && behind->flags == LW_DIR_MISSING);
	return 0;
}

Test(dirs, what_may_not_be_listed_is_empty)
{
	NEEDS_ROOT();
	const char *path = facts_mkdir(root, "private");
	facts_write(path, "a.py");
	cr_assert_eq(chown(path, FACTS_USER, FACTS_USER), 0);
	cr_assert_eq(chmod(path, 0300), 0);
	cr_assert_eq(facts_as(FACTS_USER, unreadable, (void *)path), 0);
}

static int reads_as_itself(void *arg)
{
	dirs.freshness = LW_FROZEN;
	struct lw_dir *dir = facts_dir(&dirs, arg);
	FACTS_EXPECT(dir->known && dir->foreign_uid && !lw_dirs_settled(&dirs, dir));
	FACTS_EXPECT(lw_dirs_fresh(&dirs, dir) == 0 && !finds(dir, "a") && dir->flags == LW_DIR_UNREADABLE);
	return 0;
}

Test(dirs, roots_view_of_a_private_directory_is_not_handed_to_others)
{
	NEEDS_ROOT();
	struct facts facts;
	const char *path = facts_mkdir(root, "private");
	facts_write(path, "a.py");
	cr_assert_eq(chmod(path, 0700), 0);
	facts_age();
	cr_assert(holds(facts_dir(&dirs, path), "a"));
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	facts_open(&facts, build, 0);
	use(&facts, LW_FROZEN);
	cr_assert_eq(facts_as(FACTS_USER, reads_as_itself, (void *)path), 0);
	cr_assert(holds(facts_dir(&dirs, path), "a"));
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

enum { MANY = 3000 };

/* A directory with so many names that most lie in other blocks than its path. */
static void fill_many(const char *path)
{
	for (unsigned i = 0; i < MANY; i++) {
		char name[32];
		snprintf(name, sizeof name, "name%u.py", i);
		facts_write(path, name);
	}
}

Test(dirs, a_damaged_index_is_read_around)
{
	for (unsigned frozen = 0; frozen < 2; frozen++) {
		struct facts facts;
		char path[PATH_MAX];
		strcpy(path, facts_mkdir(root, frozen ? "frozen" : "stat"));
		fill_many(path);
		facts_age();
		lw_dirs_clear(&dirs);
		dirs.snapshot = NULL;
		dirs.freshness = LW_STAT;
		holds(facts_dir(&dirs, path), "x");
		lw_build *build = lw_build_create();
		facts_of(build, &dirs);
		facts_open(&facts, build, geteuid());
		use(&facts, frozen ? LW_FROZEN : LW_STAT);
		struct lw_dir *dir = facts_dir(&dirs, path);
		cr_assert(dir->known && dir->indexed.index);
		facts_damage(&facts, LW_SEC_STRINGS, &dir->indexed.record->path, 1);
		for (unsigned i = 0; i < MANY; i++) {
			char name[32];
			snprintf(name, sizeof name, "name%u", i);
			cr_assert(holds(dir, name), "%s", name);
		}
		cr_assert(!holds(dir, "absent"));
		cr_assert_eq(dirs.stats.damaged, 1);
		cr_assert_eq(dirs.stats.listings, 1);
		lw_dirs_clear(&dirs);
		facts_close(&facts);
	}
}

Test(dirs, what_a_damaged_index_has_replaced_does_not_come_back)
{
	struct facts old, new;
	facts_write(root, "a.py");
	facts_age();
	lw_build *build = lw_build_create();
	add_empty(build, root);
	facts_open(&old, build, geteuid());
	holds(facts_dir(&dirs, root), "a");
	build = lw_build_create();
	facts_of(build, &dirs);
	facts_open(&new, build, geteuid());
	lw_index *both[] = { new.index, old.index };
	new.snapshot = (struct lw_snapshot){ .count = 2, .index = both };
	use(&new, LW_FROZEN);
	facts_damage(&new, LW_SEC_DIRS, NULL, 0);
	cr_assert(holds(facts_dir(&dirs, root), "a"), "frozen compares nothing: the older fact would be believed");
	cr_assert_eq(dirs.stats.damaged, 1);
	lw_dirs_clear(&dirs);
	facts_close(&new);
	facts_close(&old);
}

Test(dirs, errors_are_passed_on_and_forgotten)
{
	const char *loop = facts_join(root, "loop");
	cr_assert_eq(symlink("loop", loop), 0);
	struct lw_dir *dir = facts_dir(&dirs, loop);
	uint64_t token;
	bool weak;
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), -ELOOP);
	cr_assert_eq(lw_token_now(loop, &token, &weak), -ELOOP);
	cr_assert_eq(unlink(loop), 0);
	cr_assert_eq(mkdir(loop, 0755), 0);
	facts_write(loop, "a.py");
	cr_assert(holds(dir, "a"));
	facts_age();
	cr_assert(holds(dir, "a") && dir->dirty);
	cr_assert_eq(unlink(facts_join(loop, "a.py")), 0);
	cr_assert_eq(rmdir(loop), 0);
	cr_assert_eq(symlink("loop", loop), 0);
	cr_assert_eq(lw_dirs_fresh(&dirs, dir), -ELOOP);
	cr_assert_eq(unlink(loop), 0);
	cr_assert(!holds(dir, "a"));

	char longest[8000];
	memset(longest, 'x', sizeof longest);
	longest[0] = '/';
	struct lw_dir *too_long = lw_dirs_get(&dirs, longest, sizeof longest);
	cr_assert_eq(lw_dirs_fresh(&dirs, too_long), -ENAMETOOLONG);
	cr_assert_eq(lw_dirs_fresh(&dirs, too_long), -ENAMETOOLONG);
	facts_write(root, "file");
	struct lw_dir *below = facts_dir(&dirs, facts_join(root, "file/below"));
	cr_assert(!holds(below, "a"));
	cr_assert_eq(below->flags, LW_DIR_NOTDIR);
}

/* What is said of ROOT has its present stamp, and is not what is there: somebody wrote there within the tick in which it was read. */
static bool is_seen_when_told(uint16_t flags)
{
	struct facts facts;
	struct lw_stat st;
	struct lw_listing *before = lw_listing_copy(NULL, 0, NULL);
	cr_assert_eq(lw_stat_at(AT_FDCWD, root, &st), 0);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_dir(build, root, strlen(root), lw_stamp(&st), LW_DIR_PUBLIC | flags, before), 0);
	lw_listing_destroy(before);
	facts_open(&facts, build, geteuid());
	struct facts_lender lender = facts_lender(&facts);
	use(&facts, LW_WATCH);
	dirs.snapshot = NULL;
	dirs.fresh[LW_BY_DAEMON] = &lender.fresh;
	lw_dirs_begin(&dirs);
	struct lw_dir *dir = facts_dir(&dirs, root);
	cr_assert(lw_dirs_fresh(&dirs, dir) == 0 && dir->lent && !finds(dir, "a"), "the daemon is believed");
	cr_assert_eq(dirs.stats.statx + dirs.stats.listings, 0);
	lender.changed = root;
	lw_dirs_begin(&dirs);
	bool seen = lw_dirs_fresh(&dirs, dir) == 0 && finds(dir, "a");
	lw_dirs_clear(&dirs);
	dirs.fresh[LW_BY_DAEMON] = NULL;
	facts_close(&facts);
	return seen;
}

Test(dirs, a_racy_stamp_of_the_daemons_proves_nothing)
{
	facts_write(root, "a.py");
	facts_age();
	cr_expect(is_seen_when_told(LW_DIR_RACY));
	cr_expect_not(is_seen_when_told(0), "the control: a stamp that is old enough is believed");
}

/* ARG may not be searched for a moment, in which we look at what is in it; nobody tells that this was so. */
static int barred_for_a_moment(void *arg)
{
	struct facts_lender lender = facts_lender(NULL);
	struct lw_dir *below = facts_dir(&dirs, facts_join(arg, "below")), *gone = facts_dir(&dirs, facts_join(arg, "gone"));
	lender.fresh.ops = &(struct lw_fresh_ops){ .check = facts_check, .arm = facts_arm };
	dirs.freshness = LW_WATCH;
	dirs.fresh[LW_BY_DAEMON] = &lender.fresh;
	lw_dirs_begin(&dirs);
	FACTS_EXPECT(chmod(arg, 0600) == 0);
	FACTS_EXPECT(lw_dirs_fresh(&dirs, below) == 0 && below->flags == LW_DIR_MISSING);
	FACTS_EXPECT(chmod(arg, 0700) == 0);
	FACTS_EXPECT(lw_dirs_fresh(&dirs, gone) == 0 && gone->flags == LW_DIR_MISSING);
	facts_mkdir(arg, "gone");
	lender.changed = arg;
	lw_dirs_begin(&dirs);
	FACTS_EXPECT(lw_dirs_fresh(&dirs, below) == 0 && below->flags != LW_DIR_MISSING);
	/* The control: what was not there is believed not to be there until it is told. */
	FACTS_EXPECT(lw_dirs_fresh(&dirs, gone) == 0 && gone->flags == LW_DIR_MISSING);
	dirs.fresh[LW_BY_DAEMON] = NULL;
	return 0;
}

Test(dirs, what_we_may_not_look_at_is_looked_after_by_nobody)
{
	NEEDS_ROOT();
	const char *path = facts_mkdir(root, "private");
	facts_mkdir(path, "below");
	cr_assert_eq(chown(path, FACTS_USER, FACTS_USER), 0);
	cr_assert_eq(chmod(path, 0700), 0);
	cr_assert_eq(facts_as(FACTS_USER, barred_for_a_moment, (void *)path), 0);
}

Test(dirs, the_table_grows_and_keeps_its_pointers)
{
	enum { COUNT = 3000 };
	struct lw_dir **seen = calloc(COUNT, sizeof *seen);
	char name[32];
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(name, sizeof name, "/d%u", i);
		seen[i] = facts_dir(&dirs, name);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(name, sizeof name, "/d%u", i);
		cr_assert_eq(facts_dir(&dirs, name), seen[i]);
		cr_assert_str_eq(seen[i]->path, name);
	}
	free(seen);
	cr_assert_eq(dirs.count, COUNT);
	cr_assert(holds(facts_dir(&dirs, ""), "usr") || !naive_is("/usr", S_IFDIR), "\"\" is the root");
	lw_dirs_clear(&dirs);
	cr_assert_eq(dirs.count + dirs.dirty, 0);
}
