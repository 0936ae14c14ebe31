/* SPDX-License-Identifier: MIT */
/*
 * Path lists, short (searched entry by entry) and long (by a table), against PathFinder's rules written down plainly (facts.h). Where a test
 * falsifies a stored table on purpose, the answer tells whether it was believed.
 */
#include "facts.h"
#include <criterion/criterion.h>

enum { POOL = 40, NAMES = 12, LONG = 60 };
static const int64_t EVER = INT64_C(3600) * 1000000000;

static char root[PATH_MAX];
static struct lw_suffixes suffixes;
static struct lw_dirs dirs;
static struct lw_path_entry pool[POOL + 4];	/* directories, then: missing, a file, below the file, not ours */
static struct lw_path_entry list[LONG];		/* LONG empty directories; for tests that want to know what is where */

static struct lw_path_entry entry_of(const char *name)
{
	char *path = strdup(facts_join(root, name));
	return (struct lw_path_entry){ .path = path, .len = (uint32_t)strlen(path) };
}

static void setup(void)
{
	char name[32];
	tree_create(root, sizeof root);
	suffixes = facts_suffixes();
	cr_assert_eq(lw_dirs_init(&dirs, &suffixes, LW_STAT), 0);
	for (unsigned i = 0; i < POOL; i++) {
		snprintf(name, sizeof name, "d%u", i);
		facts_mkdir(root, name);
		pool[i] = entry_of(name);
	}
	facts_write(root, "file");
	pool[POOL] = entry_of("missing");
	pool[POOL + 1] = entry_of("file");
	pool[POOL + 2] = entry_of("file/below");
	pool[POOL + 3] = (struct lw_path_entry){ 0 };
	for (unsigned i = 0; i < LONG; i++) {
		snprintf(name, sizeof name, "e%u", i);
		facts_mkdir(root, name);
		list[i] = entry_of(name);
	}
}

static void teardown(void)
{
	lw_dirs_destroy(&dirs);
	for (unsigned i = 0; i < POOL + 3; i++)
		free((void *)pool[i].path);
	for (unsigned i = 0; i < LONG; i++)
		free((void *)list[i].path);
	tree_destroy(root);
}

TestSuite(view, .init = setup, .fini = teardown);

#define NEEDS_ROOT() do { if (geteuid() != 0) { teardown(); cr_skip_test("only root can play other users"); } } while (0)

static lw_view *long_view(void)
{
	lw_view *view = lw_view_create(list, LONG, false);
	cr_assert(view);
	return view;
}

static void use(struct facts *facts, enum lw_freshness freshness)
{
	lw_dirs_clear(&dirs);
	dirs.snapshot = facts ? &facts->snapshot : NULL;
	dirs.freshness = freshness;
	dirs.stats = (struct lw_dirs_stats){ 0 };
}

static struct lw_hit find(lw_view *view, const char *name, int64_t window)
{
	struct lw_hit hit;
	cr_assert_eq(lw_view_resolve(view, &dirs, window, 0, name, strlen(name), &hit), 0);
	return hit;
}

/* The entry NAME is found in as a module, -1: nowhere. */
static int where(lw_view *view, const char *name, int64_t window)
{
	struct lw_hit hit = find(view, name, window);
	return hit.kind == LW_HIT_NONE ? -1 : (int)hit.entry;
}

/* --- against the plain rules --- */

static void random_change(uint64_t *seed)
{
	static const char *const form[] = { "%s.py", "%s.so", "%s.pyc", "%s", "%s/__init__.py", "%s/__init__.py" };
	char name[8], file[32];
	snprintf(name, sizeof name, "n%u", tree_random(seed) % NAMES);
	unsigned which = tree_random(seed) % 6;
	snprintf(file, sizeof file, form[which], name);
	const char *dir = pool[tree_random(seed) % POOL].path, *path = facts_join(dir, file);
	if (which >= 3)
		mkdir(facts_join(dir, name), 0755);
	if (tree_random(seed) % 3 == 0) {
		if (unlink(path))
			rmdir(path);
	} else if (which != 3) {
		tree_write(AT_FDCWD, path, "");
	}
}

struct drawn {
	struct lw_path_entry entry[100];
	uint32_t count;
	bool hooks;
};

static void draw(struct drawn *drawn, uint64_t *seed)
{
	drawn->count = 1 + tree_random(seed) % 100;
	drawn->hooks = tree_random(seed) % 3 == 0;
	/* Others than directories are rare: most answers would be "foreign" otherwise. */
	for (unsigned i = 0; i < drawn->count; i++) {
		unsigned odd = tree_random(seed) % 100;
		drawn->entry[i] = pool[odd < 4 ? POOL + odd : tree_random(seed) % POOL];
	}
}

static bool agrees(lw_view *view, const struct drawn *drawn, uint64_t *seed, const char *what, unsigned *kinds)
{
	bool good = true;
	for (unsigned n = 0; n <= NAMES; n++) {
		char name[8];
		struct lw_hit hit;
		struct naive naive;
		snprintf(name, sizeof name, "n%u", n);
		/* As a caller does: on and on, until something settles the matter. */
		uint32_t start = tree_random(seed) % 4 ? 0 : tree_random(seed) % (drawn->count + 2);
		do {
			naive_search(&suffixes, drawn->entry, drawn->count, drawn->hooks, start, name, &naive);
			int error = lw_view_resolve(view, &dirs, 0, start, name, strlen(name), &hit);
			if (error)
				fprintf(stderr, "%s: error %d\n", what, error);
			good &= !error && naive_agrees(&hit, &naive, true, what);
			kinds[naive.kind]++;
			start = naive.entry + 1;
		} while (good && (naive.kind == LW_HIT_PORTION || naive.kind == LW_HIT_FOREIGN));
	}
	return good;
}

static void store(struct facts *facts, const lw_view *view, uint32_t uid)
{
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	cr_assert_eq(lw_view_learn(view, build), 0);
	facts_open(facts, build, uid);
}

Test(view, random_lists_in_every_mode)
{
	uint64_t seed = 7;
	unsigned kinds[5] = { 0 }, tables = 0;
	for (unsigned i = 0; i < 150; i++)
		random_change(&seed);
	for (unsigned round = 0; round < 40; round++) {
		struct drawn drawn;
		struct facts facts;
		draw(&drawn, &seed);
		use(NULL, LW_STAT);
		lw_view *view = lw_view_create(drawn.entry, drawn.count, drawn.hooks);
		cr_assert(agrees(view, &drawn, &seed, "stat, racy", kinds));
		for (unsigned i = 0; i < 3; i++) {
			random_change(&seed);
			cr_assert(agrees(view, &drawn, &seed, "stat, changed", kinds));
		}
		facts_age();
		cr_assert(agrees(view, &drawn, &seed, "stat, aged", kinds));
		cr_assert_eq(lw_view_unlearnt(view), drawn.count > LW_VIEW_LINEAR);
		tables += lw_view_unlearnt(view);
		store(&facts, view, geteuid());
		lw_view_destroy(view);

		for (unsigned mode = 0; mode < 4; mode++) {
			static const char *const what[] = { "stat, stored", "frozen, stored", "stat, read", "frozen, read" };
			use(mode < 2 ? &facts : NULL, mode % 2 ? LW_FROZEN : LW_STAT);
			view = lw_view_create(drawn.entry, drawn.count, drawn.hooks);
			cr_assert(agrees(view, &drawn, &seed, what[mode], kinds));
			cr_assert(mode >= 2 || !lw_view_unlearnt(view), "what is stored is not learnt again");
			if (mode == 0) {
				random_change(&seed);
				cr_assert(agrees(view, &drawn, &seed, "stat, stored, changed", kinds));
				facts_age();
				lw_view_destroy(view);
				lw_dirs_clear(&dirs);
				facts_close(&facts);
				use(NULL, LW_STAT);
				view = lw_view_create(drawn.entry, drawn.count, drawn.hooks);
				cr_assert(agrees(view, &drawn, &seed, "stat, anew", kinds));
				store(&facts, view, geteuid());
			}
			lw_view_forget(view);
			cr_assert(agrees(view, &drawn, &seed, "forgotten", kinds));
			lw_view_destroy(view);
		}
		lw_dirs_clear(&dirs);
		facts_close(&facts);
	}
	cr_assert_gt(tables, 15);
	for (unsigned kind = LW_HIT_NONE; kind <= LW_HIT_FOREIGN; kind++)
		cr_assert_gt(kinds[kind], 200, "kind %u is rare: the lists prove little", kind);
}

Test(view, limits)
{
	struct lw_path_entry *many = calloc(65536, sizeof *many);
	for (unsigned i = 0; i < 65536; i++)
		many[i] = list[i % LONG];
	facts_write(list[3].path, "m.py");
	cr_assert_null(lw_view_create(many, 65536, false));
	lw_view *view = lw_view_create(many, 65535, false);
	cr_assert_eq(where(view, "m", 0), 3);
	lw_view_destroy(view);
	view = lw_view_create(NULL, 0, false);
	cr_assert_eq(where(view, "m", 0), -1);
	lw_view_destroy(view);
	lw_view_destroy(NULL);
	free(many);
}

/* Enough names for the table and its names to grow several times. */
Test(view, large_tables)
{
	lw_view *view = long_view();
	char name[64];
	for (unsigned i = 0; i < 6000; i++) {
		snprintf(name, sizeof name, "a_name_of_some_length_%u.py", i);
		facts_write(list[i % LONG].path, name);
	}
	for (unsigned i = 0; i < 6000; i++) {
		snprintf(name, sizeof name, "a_name_of_some_length_%u", i);
		cr_assert_eq(where(view, name, EVER), (int)(i % LONG));
	}
	char longest[400];
	memset(longest, 'x', sizeof longest);
	longest[399] = '\0';
	cr_assert_eq(where(view, longest, EVER), -1);
	lw_view_destroy(view);
}

/* --- the window --- */

Test(view, a_hit_may_be_a_window_old_and_a_miss_never)
{
	lw_view *view = long_view();
	facts_write(list[40].path, "m.py");
	facts_age();
	cr_assert_eq(where(view, "m", EVER), 40);
	facts_write(list[5].path, "m.py");
	cr_assert_eq(where(view, "m", EVER), 40, "what the window is for");
	cr_assert_eq(where(view, "m", 0), 5);
	cr_assert_eq(unlink(facts_join(list[5].path, "m.py")), 0);
	cr_assert_eq(where(view, "m", EVER), 40, "the file itself is always asked");
	cr_assert_eq(unlink(facts_join(list[40].path, "m.py")), 0);
	cr_assert_eq(where(view, "m", EVER), -1);
	for (unsigned i = 0; i < 20; i++) {
		char file[16], name[16];
		snprintf(name, sizeof name, "new%u", i);
		snprintf(file, sizeof file, "new%u.py", i);
		cr_assert_eq(where(view, name, EVER), -1);
		facts_write(list[i * 2].path, file);
		cr_assert_eq(where(view, name, EVER), (int)i * 2, "a miss is never a window old");
	}
	lw_view_destroy(view);
}

Test(view, portions_are_compared_now)
{
	lw_view *view = long_view();
	facts_mkdir(list[40].path, "p");
	facts_age();
	cr_assert_eq(where(view, "p", EVER), 40);
	facts_write(list[50].path, "p.py");
	cr_assert_eq(find(view, "p", EVER).kind, LW_HIT_PORTION);
	struct lw_hit hit;
	cr_assert_eq(lw_view_resolve(view, &dirs, EVER, 41, "p", 1, &hit), 0);
	cr_assert(hit.kind == LW_HIT_MODULE && hit.entry == 50);
	facts_write(list[3].path, "p.so");
	hit = find(view, "p", EVER);
	cr_assert(hit.kind == LW_HIT_MODULE && hit.entry == 3);
	lw_view_destroy(view);
}

Test(view, what_ends_the_window)
{
	lw_view *view = long_view();
	facts_write(list[40].path, "m.py");
	facts_age();
	cr_assert_eq(where(view, "m", EVER), 40);
	facts_write(list[30].path, "m.py");
	cr_assert_eq(where(view, "m", EVER), 40);
	lw_view_expire(view);
	cr_assert_eq(where(view, "m", EVER), 30);
	facts_age();
	lw_view_expire(view);
	cr_assert_eq(where(view, "m", EVER), 30);
	facts_write(list[20].path, "m.py");
	cr_assert_eq(where(view, "m", EVER), 30);
	lw_dirs_invalidate(&dirs);
	cr_assert_eq(where(view, "m", EVER), 20);
	facts_age();
	cr_assert_eq(where(view, "m", 0), 20);
	facts_write(list[10].path, "m.py");
	const int64_t window = 100 * 1000000;
	usleep(120 * 1000);
	cr_assert_eq(where(view, "m", window), 10, "it ends by itself");
	lw_view_destroy(view);
}

static int glance(lw_view *view, const char *name, int64_t window)
{
	dirs.glance = true;
	int entry = where(view, name, window);
	dirs.glance = false;
	return entry;
}

Test(view, a_glance_is_no_comparison)
{
	lw_view *view = long_view();
	facts_write(list[40].path, "m.py");
	facts_age();
	cr_assert_eq(glance(view, "m", 0), 40, "it is compared once");
	facts_write(list[5].path, "m.py");
	uint64_t before = dirs.stats.statx;
	cr_assert(glance(view, "m", 0) == 40 && glance(view, "nosuch", 0) == -1 && dirs.stats.statx == before, "and asked no more");
	cr_assert_eq(where(view, "m", 0), 5);
	cr_assert_eq(unlink(facts_join(list[5].path, "m.py")), 0);
	facts_age();
	cr_assert_eq(where(view, "m", 0), 40);
	/* The window is over, and what lies ahead has changed: that somebody has only glanced since does not begin another one. */
	const int64_t window = 100 * 1000000;
	facts_write(list[5].path, "m.py");
	usleep(120 * 1000);
	cr_assert_eq(glance(view, "m", window), 40);
	cr_assert_eq(where(view, "m", EVER), 40, "the control: within the window it is not asked");
	cr_assert_eq(where(view, "m", window), 5);
	lw_view_expire(view);
	facts_write(list[3].path, "m.py");
	cr_assert_eq(glance(view, "m", window), 3, "what has expired is compared");
	lw_view_destroy(view);
}

Test(view, directories_come_and_go)
{
	lw_view *view = long_view();
	for (unsigned i = 0; i < 20; i++) {
		facts_write(list[i].path, "m.py");
		cr_assert_eq(where(view, "m", 0), (int)i);
		cr_assert_eq(unlink(facts_join(list[i].path, "m.py")), 0);
		cr_assert_eq(where(view, "m", 0), -1);
		cr_assert_eq(rmdir(list[i].path), 0);
		cr_assert_eq(where(view, "m", 0), -1);
	}
	tree_write(AT_FDCWD, list[7].path, "");
	struct lw_hit hit = find(view, "m", EVER);
	cr_assert(hit.kind == LW_HIT_FOREIGN && hit.entry == 7, "perhaps an archive");
	cr_assert_eq(unlink(list[7].path), 0);
	cr_assert_eq(where(view, "m", EVER), -1);
	cr_assert_eq(symlink("nowhere/../e19", list[19].path), 0);
	cr_assert_eq(where(view, "m", EVER), -1);
	cr_assert_eq(unlink(list[19].path), 0);
	cr_assert_eq(symlink("e19", list[19].path), 0);
	cr_assert_eq(lw_view_resolve(view, &dirs, EVER, 0, "m", 1, &hit), -ELOOP);
	cr_assert_eq(unlink(list[19].path), 0);
	cr_assert_eq(where(view, "m", EVER), -1);
	facts_write(list[59].path, "m.py");
	cr_assert_eq(where(view, "m", EVER), 59);
	lw_view_destroy(view);
}

/* --- stored tables --- */

/* The facts of the long list, learnt by UID. */
static void store_long(struct facts *facts, uint32_t uid)
{
	facts_age();
	use(NULL, LW_STAT);
	lw_view *view = long_view();
	where(view, "x", 0);
	cr_assert(lw_view_unlearnt(view));
	store(facts, view, uid);
	lw_view_learnt(view);
	cr_assert(!lw_view_unlearnt(view));
	lw_view_destroy(view);
}

Test(view, a_stored_table_needs_no_system_call_in_frozen)
{
	struct facts facts;
	facts_write(list[40].path, "m.py");
	facts_write(facts_mkdir(list[41].path, "p"), "__init__.py");
	facts_age();
	store_long(&facts, geteuid());
	use(&facts, LW_FROZEN);
	lw_view *view = long_view();
	cr_assert(!lw_view_settled(view, &dirs));
	cr_assert_eq(where(view, "m", 0), 40);
	cr_assert(lw_view_settled(view, &dirs));
	cr_assert_eq(where(view, "absent", 0), -1);
	cr_assert_eq(dirs.stats.statx + dirs.stats.listings, 0);
	facts_write(list[3].path, "m.py");
	facts_write(list[3].path, "absent.py");
	cr_assert_eq(where(view, "m", 0), 40);
	cr_assert_eq(where(view, "absent", 0), -1);
	cr_assert_eq(dirs.stats.statx + dirs.stats.listings, 0);
	lw_dirs_invalidate(&dirs);
	cr_assert(!lw_view_settled(view, &dirs));
	cr_assert_eq(where(view, "m", 0), 3);
	cr_assert_eq(where(view, "absent", 0), 3);
	cr_assert(lw_view_settled(view, &dirs));
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

Test(view, a_stored_table_is_compared_in_stat)
{
	struct facts facts;
	facts_write(list[40].path, "m.py");
	store_long(&facts, geteuid());
	facts_write(list[3].path, "m.py");
	use(&facts, LW_STAT);
	lw_view *view = long_view();
	cr_assert_eq(where(view, "m", EVER), 3, "never compared in this process: the window has not begun");
	facts_age();
	cr_assert_eq(where(view, "m", 0), 3);
	cr_assert(lw_view_unlearnt(view));
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

/* A table of all of LIST that knows the one name "lie", in its first entry; ENTRIES tokens. The directories' facts are in it as well. */
static void store_lie(struct facts *facts, uint32_t entries, uint32_t uid)
{
	struct lw_view_dir rests_on[LONG];
	const struct lw_build_name name = { .name = "lie", .len = 3, .first = 0 };
	facts_age();
	use(NULL, LW_STAT);
	for (unsigned i = 0; i < LONG; i++) {
		struct lw_dir *dir = facts_dir(&dirs, list[i].path);
		cr_assert_eq(lw_dirs_fresh(&dirs, dir), 0);
		rests_on[i] = (struct lw_view_dir){ .path = lw_hash64(list[i].path, list[i].len), .token = lw_dir_token(dir) };
	}
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	cr_assert_eq(lw_build_view(build, lw_view_key(list, LONG, false), rests_on, entries, &name, 1), 0);
	facts_open(facts, build, uid);
}

/* Whether a lie that misses "m" in entry 9 is believed. */
static bool lie_believed(struct facts *facts, enum lw_freshness freshness)
{
	use(facts, freshness);
	lw_view *view = long_view();
	int found = where(view, "m", 0);
	cr_assert(found == 9 || found == -1);
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	return found == -1;
}

Test(view, tables_that_do_not_fit_are_not_used)
{
	struct facts facts;
	facts_write(list[9].path, "m.py");
	for (unsigned frozen = 0; frozen < 2; frozen++) {
		enum lw_freshness freshness = frozen ? LW_FROZEN : LW_STAT;
		store_lie(&facts, LONG, geteuid());
		cr_assert(lie_believed(&facts, freshness), "the control: one that fits is believed");
		facts_close(&facts);
		store_lie(&facts, LONG - 1, geteuid());
		cr_assert(!lie_believed(&facts, freshness));
		facts_close(&facts);
		store_lie(&facts, 1, geteuid());
		cr_assert(!lie_believed(&facts, freshness));
		facts_close(&facts);
	}
}

Test(view, tables_of_another_user_hold_for_public_directories_only)
{
	struct facts facts;
	facts_write(list[9].path, "m.py");
	for (unsigned frozen = 0; frozen < 2; frozen++) {
		enum lw_freshness freshness = frozen ? LW_FROZEN : LW_STAT;
		store_lie(&facts, LONG, geteuid() + 1);
		cr_assert(lie_believed(&facts, freshness), "the control: all public");
		facts_close(&facts);
		cr_assert_eq(chmod(list[9].path, 0700), 0);
		store_lie(&facts, LONG, geteuid() + 1);
		cr_assert(!lie_believed(&facts, freshness));
		facts_close(&facts);
		store_lie(&facts, LONG, geteuid());
		cr_assert(lie_believed(&facts, freshness));
		facts_close(&facts);
		cr_assert_eq(chmod(list[9].path, 0755), 0);
	}
}

static int learns_what_it_may_list(void *arg)
{
	lw_view *view = lw_view_create(list, LONG, false);
	struct lw_hit hit;
	for (unsigned round = 0; round < 2; round++) {
		FACTS_EXPECT(lw_view_resolve(view, &dirs, 0, 0, "m", 1, &hit) == 0 && hit.kind == LW_HIT_NONE);
		FACTS_EXPECT(lw_view_unlearnt(view) == (arg == NULL));
	}
	lw_view_destroy(view);
	return 0;
}

Test(view, tables_that_rest_on_permissions_are_not_stored)
{
	NEEDS_ROOT();
	facts_age();
	cr_assert_eq(facts_as(FACTS_USER, learns_what_it_may_list, NULL), 0, "the control");
	facts_write(list[9].path, "m.py");
	cr_assert_eq(chmod(list[9].path, 0711), 0);
	facts_age();
	cr_assert_eq(facts_as(FACTS_USER, learns_what_it_may_list, list), 0);
}

Test(view, a_newer_index_knows_better_than_an_older_table)
{
	struct facts old, new;
	store_long(&old, geteuid());
	facts_write(list[9].path, "m.py");
	facts_age();
	use(NULL, LW_STAT);
	cr_assert_eq(lw_dirs_fresh(&dirs, facts_dir(&dirs, list[9].path)), 0);
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	facts_open(&new, build, geteuid());
	lw_index *both[] = { new.index, old.index };
	new.snapshot = (struct lw_snapshot){ .count = 2, .index = both };
	use(&new, LW_FROZEN);
	lw_view *view = long_view();
	cr_assert_eq(where(view, "m", 0), 9, "in frozen the facts are the truth, and they say so");
	cr_assert_eq(dirs.stats.statx, 0);
	lw_view_destroy(view);
	use(&old, LW_FROZEN);
	view = long_view();
	cr_assert_eq(where(view, "m", 0), -1, "the control: the older facts alone");
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	facts_close(&new);
	facts_close(&old);
}

/* The facts of list[I] as they are now, and nothing else. */
static lw_build *one_fact(unsigned i)
{
	facts_age();
	use(NULL, LW_STAT);
	cr_assert_eq(lw_dirs_fresh(&dirs, facts_dir(&dirs, list[i].path)), 0);
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	return build;
}

static bool is_sealed(const struct facts *facts)
{
	struct lw_index_view found;
	cr_assert_eq(lw_index_find_view(facts->index, lw_view_key(list, LONG, false), &found), LW_OK);
	return found.record->flags & LW_VIEW_SEALED;
}

Test(view, a_sealed_table_needs_no_other_fact_in_frozen)
{
	struct facts facts;
	facts_write(list[9].path, "m.py");
	store_lie(&facts, LONG, geteuid());
	cr_assert(is_sealed(&facts));
	use(&facts, LW_FROZEN);
	lw_view *view = long_view();
	cr_assert_eq(where(view, "m", 0), -1);
	cr_assert_eq(dirs.count, 0);
	lw_view_destroy(view);
	/* What this process has seen for itself is newer. */
	use(&facts, LW_FROZEN);
	facts_write(list[9].path, "n.py");
	cr_assert_eq(lw_dirs_compare(&dirs, facts_dir(&dirs, list[9].path)), 0);
	view = long_view();
	cr_assert_eq(where(view, "m", 0), 9);
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

/* A table, then a newer fact about one of its directories, merged into one file: only while they agree the table holds by itself. */
Test(view, a_merge_breaks_the_seal_of_a_table_that_a_newer_fact_disputes)
{
	for (unsigned disputed = 0; disputed < 2; disputed++) {
		struct facts table, merged;
		facts_write(list[9].path, "m.py");
		store_lie(&table, LONG, geteuid());
		if (disputed)
			facts_write(list[9].path, "n.py");
		lw_build *build = one_fact(9);
		cr_assert_eq(lw_build_merge(build, table.index, NULL), 0);
		facts_open(&merged, build, geteuid());
		cr_assert_eq(is_sealed(&merged), !disputed);
		use(&merged, LW_FROZEN);
		lw_view *view = long_view();
		cr_assert_eq(where(view, "m", 0), disputed ? 9 : -1);
		cr_assert_eq(dirs.stats.statx, 0);
		lw_view_destroy(view);
		lw_dirs_clear(&dirs);
		facts_close(&merged);
		facts_close(&table);
	}
}

/* A table in the newest file whose facts are in an older one, which may be of another time: they decide. */
Test(view, a_table_without_its_facts_is_not_sealed)
{
	struct facts old, table;
	facts_write(list[9].path, "m.py");
	store_long(&old, geteuid());
	cr_assert_eq(unlink(facts_join(list[9].path, "m.py")), 0);
	facts_age();
	use(NULL, LW_STAT);
	lw_view *view = long_view();
	cr_assert_eq(where(view, "m", 0), -1);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_view_learn(view, build), 0);
	lw_view_destroy(view);
	facts_open(&table, build, geteuid());
	cr_assert(!is_sealed(&table));
	lw_index *both[] = { table.index, old.index };
	table.snapshot = (struct lw_snapshot){ .count = 2, .index = both };
	use(&table, LW_FROZEN);
	view = long_view();
	cr_assert_eq(where(view, "m", 0), 9, "as the listing that is frozen says");
	cr_assert_eq(dirs.stats.statx, 0);
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	facts_close(&table);
	facts_close(&old);
}

Test(view, damaged_tables_are_merged_anew)
{
	for (unsigned part = 0; part < 4; part++) {
		static const enum lw_section section[] = { LW_SEC_STRINGS, LW_SEC_VIEWDATA, LW_SEC_VIEWS, LW_SEC_STRINGS };
		struct facts facts;
		char name[64];
		facts_write(list[9].path, "m.py");
		for (unsigned i = 0; i < 600; i++) {
			snprintf(name, sizeof name, "a_name_that_fills_blocks_of_strings_%u.py", i);
			facts_write(list[20].path, name);
		}
		store_long(&facts, geteuid());
		use(&facts, part == 3 ? LW_FROZEN : LW_STAT);
		lw_view *view = long_view();
		/* Absent names rarely touch a string: the table is in use when the damage comes. */
		if (section[part] == LW_SEC_STRINGS)
			cr_assert_eq(where(view, "absent", 0), -1);
		uint32_t keep[LONG];
		for (unsigned i = 0; i < LONG; i++)
			keep[i] = facts_dir(&dirs, list[i].path)->indexed.record->path;
		facts_damage(&facts, section[part], section[part] == LW_SEC_STRINGS ? keep : NULL, section[part] == LW_SEC_STRINGS ? LONG : 0);
		for (unsigned i = 0; i < 600; i++) {
			snprintf(name, sizeof name, "a_name_that_fills_blocks_of_strings_%u", i);
			cr_assert_eq(where(view, name, EVER), 20, "%u: %s", part, name);
		}
		cr_assert_eq(where(view, "m", EVER), 9);
		cr_assert_eq(where(view, "absent", EVER), -1);
		cr_assert_gt(dirs.stats.damaged, 0, "%u", part);
		lw_view_destroy(view);
		lw_dirs_clear(&dirs);
		facts_close(&facts);
	}
}

Test(view, the_key_tells_lists_apart)
{
	struct lw_path_entry ab[] = { { "/a", 2 }, { "/b", 2 } }, ba[] = { { "/b", 2 }, { "/a", 2 } }, joined[] = { { "/a/b", 4 } },
		hole[] = { { "/a", 2 }, { NULL, 0 } }, empty[] = { { "/a", 2 }, { "", 0 } };
	const struct lw_hash128 keys[] = {
		lw_view_key(ab, 2, false), lw_view_key(ab, 2, true), lw_view_key(ba, 2, false), lw_view_key(ab, 1, false), lw_view_key(joined, 1, false),
		lw_view_key(hole, 2, false), lw_view_key(empty, 2, false), lw_view_key(NULL, 0, false),
	};
	for (unsigned i = 0; i < sizeof keys / sizeof *keys; i++)
		for (unsigned j = 0; j < sizeof keys / sizeof *keys; j++)
			cr_assert_eq(lw_hash128_cmp(keys[i], keys[j]) == 0, i == j);
	struct lw_path_entry copy[] = { { "/a", 2 }, { "/b", 2 } };
	cr_assert_eq(lw_hash128_cmp(lw_view_key(copy, 2, true), keys[1]), 0);
}

/* A long list in watch mode, with LENDER as the daemon. */
static lw_view *watched_by(struct facts_lender *lender)
{
	lw_view *view = long_view();
	use(NULL, LW_WATCH);
	dirs.fresh[LW_BY_DAEMON] = &lender->fresh;
	lw_dirs_begin(&dirs);
	return view;
}

static void end_watched(lw_view *view, struct facts *facts)
{
	lw_view_destroy(view);
	lw_dirs_clear(&dirs);
	dirs.fresh[LW_BY_DAEMON] = NULL;
	facts_close(facts);
}

/* What is said of E5 has its present stamp, and is not what is there: somebody wrote there within the tick in which it was read. */
static bool is_seen_when_told(uint16_t flags, bool *stores)
{
	struct facts facts;
	struct lw_stat st;
	struct lw_listing *before = lw_listing_copy(NULL, 0, NULL);
	cr_assert_eq(lw_stat_at(AT_FDCWD, list[5].path, &st), 0);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_dir(build, list[5].path, list[5].len, lw_stamp(&st), LW_DIR_PUBLIC | flags, before), 0);
	lw_listing_destroy(before);
	facts_open(&facts, build, geteuid());
	struct facts_lender lender = facts_lender(&facts);
	lw_view *view = watched_by(&lender);
	cr_assert_eq(where(view, "late", EVER), -1, "the daemon is believed");
	*stores = lw_view_unlearnt(view);
	lender.changed = list[5].path;
	lw_dirs_begin(&dirs);
	bool seen = where(view, "late", EVER) == 5;
	end_watched(view, &facts);
	return seen;
}

Test(view, no_table_rests_on_a_racy_stamp_of_the_daemons)
{
	bool stores;
	facts_write(list[5].path, "late.py");
	facts_age();
	cr_expect(is_seen_when_told(LW_DIR_RACY, &stores));
	cr_expect_not(stores, "others would believe it");
	cr_expect_not(is_seen_when_told(0, &stores), "the control: a stamp that is old enough is believed");
	cr_expect(stores);
}

/* Something comes ahead of what was found, and the next lookup is within the window. Which of the two is it? */
static int found_within_window(bool arms, const char *only, bool busy)
{
	struct facts facts;
	facts_open(&facts, lw_build_create(), geteuid());
	struct facts_lender lender = facts_lender(&facts);
	lender.arms = arms;
	lender.only = only;
	lw_view *view = watched_by(&lender);
	cr_assert_eq(where(view, "twice", EVER), 5);
	facts_write(list[3].path, "twice.py");
	/* Nobody tells of what is not looked after. */
	lender.changed = only && strcmp(only, list[3].path) ? NULL : list[3].path;
	lender.busy = busy;
	lw_dirs_begin(&dirs);
	int found = where(view, "twice", EVER);
	cr_assert_eq(unlink(facts_join(list[3].path, "twice.py")), 0);
	end_watched(view, &facts);
	return found;
}

/* Something comes ahead of what was found, is told, and somebody glances before it is looked for. */
Test(view, a_glance_does_not_answer_for_what_was_told)
{
	struct facts facts;
	facts_write(list[5].path, "twice.py");
	facts_age();
	facts_open(&facts, lw_build_create(), geteuid());
	struct facts_lender lender = facts_lender(&facts);
	lender.arms = true;
	lw_view *view = watched_by(&lender);
	cr_assert_eq(where(view, "twice", 0), 5);
	facts_write(list[3].path, "twice.py");
	lender.changed = list[3].path;
	lw_dirs_begin(&dirs);
	glance(view, "twice", 0);
	lw_dirs_begin(&dirs);
	cr_expect_eq(where(view, "twice", 0), 3);
	end_watched(view, &facts);
}

Test(view, what_is_looked_after_has_no_window)
{
	facts_write(list[5].path, "twice.py");
	facts_age();
	cr_expect_eq(found_within_window(true, NULL, false), 3, "it was told");
	cr_expect_eq(found_within_window(true, NULL, true), 3, "it is about to be told");
	cr_expect_eq(found_within_window(true, list[3].path, false), 3, "told, where nobody looks after the others");
	cr_expect_eq(found_within_window(true, list[5].path, false), 5, "it is not looked after: the window is for it, as in stat");
	cr_expect_eq(found_within_window(false, NULL, false), 5, "the control: nobody looks after anything");
}
