/* SPDX-License-Identifier: MIT */
/*
 * The answers are compared with FileFinder's rules written down plainly (facts.h), over random trees in which every form of a name meets
 * every other: package, extension, source, bytecode, portion, links sound and dangling, things of the wrong type, what may not be read.
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

TestSuite(resolve, .init = setup, .fini = teardown);

#define NEEDS_ROOT() do { if (geteuid() != 0) { teardown(); cr_skip_test("only root can play other users"); } } while (0)

enum { TREES = 250, STEMS = 4 };
static const char *const stem[STEMS] = { "a", "b", "__init__", "c" };

static void write_form(const char *path, uint64_t *seed, bool links)
{
	switch (tree_random(seed) % (links ? 10 : 6)) {
	case 0:
		mkdir(path, 0755);
		break;
	case 1:
		mkfifo(path, 0644);
		break;
	case 6:
		TREE_CHECK(symlink("nowhere", path) == 0);
		break;
	case 7:
		TREE_CHECK(symlink("/dev/null", path) == 0);
		break;
	case 8:
		TREE_CHECK(symlink("../target.py", path) == 0);
		break;
	case 9:
		TREE_CHECK(symlink("..", path) == 0);
		break;
	default:
		tree_write(AT_FDCWD, path, "pass\n");
	}
}

/* Each suffix of NAME in DIR with a chance of one in three. */
static void write_files(const char *dir, const char *name, uint64_t *seed, bool links)
{
	for (unsigned i = 0; i < suffixes.count; i++) {
		char file[64];
		snprintf(file, sizeof file, "%s%s", name, suffixes.item[i].text);
		if (tree_random(seed) % 3 == 0)
			write_form(facts_join(dir, file), seed, links);
	}
}

static void write_tree(const char *dir, uint64_t *seed, bool links)
{
	facts_write(dir, "target.py");
	facts_mkdir(dir, "real");
	write_files(facts_join(dir, "real"), "__init__", seed, links);
	for (unsigned i = 0; i < STEMS; i++) {
		write_files(dir, stem[i], seed, links);
		const char *sub = facts_join(dir, stem[i]);
		unsigned form = tree_random(seed) % (links ? 8 : 4);
		if (form < 2) {
			TREE_CHECK(mkdir(sub, 0755) == 0);
			write_files(sub, "__init__", seed, links);
		} else if (form == 2) {
			facts_write(dir, stem[i]);
		} else if (form == 4) {
			TREE_CHECK(symlink("real", sub) == 0);
		} else if (form == 5) {
			TREE_CHECK(symlink("nowhere", sub) == 0);
		} else if (form == 6) {
			TREE_CHECK(symlink("target.py", sub) == 0);
		}
	}
}

static const char *tree_name(unsigned tree)
{
	char name[16];
	snprintf(name, sizeof name, "t%u", tree);
	return facts_join(root, name);
}

static int find(const char *dir, const char *name, struct lw_hit *hit)
{
	return lw_resolve(&dirs, facts_dir(&dirs, dir), name, strlen(name), hit);
}

/* Whether all names of all trees are what EXPECTED (NULL: the plain rules, now) says. Counts the kinds met. */
static bool all_agree(const struct naive *expected, const char *what, unsigned *kinds)
{
	bool good = true;
	for (unsigned t = 0; t < TREES; t++) {
		for (unsigned i = 0; i < STEMS; i++) {
			struct lw_hit hit;
			struct naive naive;
			char dir[PATH_MAX];
			strcpy(dir, tree_name(t));
			if (expected)
				naive = expected[t * STEMS + i];
			else
				naive_find(&suffixes, dir, stem[i], &naive);
			int error = find(dir, stem[i], &hit);
			if (error)
				fprintf(stderr, "%s %s/%s: error %d\n", what, dir, stem[i], error);
			good &= !error && naive_agrees(&hit, &naive, false, what);
			if (kinds)
				kinds[naive.kind]++;
		}
	}
	return good;
}

static struct naive *record_all(void)
{
	struct naive *all = calloc((size_t)TREES * STEMS, sizeof *all);
	for (unsigned t = 0; t < TREES; t++)
		for (unsigned i = 0; i < STEMS; i++)
			naive_find(&suffixes, tree_name(t), stem[i], &all[t * STEMS + i]);
	return all;
}

static void write_all(uint64_t seed, bool links)
{
	for (unsigned t = 0; t < TREES; t++) {
		char dir[PATH_MAX];
		strcpy(dir, tree_name(t));
		TREE_CHECK(mkdir(dir, 0755) == 0);
		write_tree(dir, &seed, links);
	}
}

static void use(struct facts *facts, enum lw_freshness freshness)
{
	lw_dirs_clear(&dirs);
	dirs.snapshot = facts ? &facts->snapshot : NULL;
	dirs.freshness = freshness;
	dirs.stats = (struct lw_dirs_stats){ 0 };
}

static void index_all(struct facts *facts)
{
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	facts_open(facts, build, geteuid());
}

Test(resolve, file_finders_order_from_reading_and_from_an_index)
{
	struct facts facts;
	unsigned kinds[5] = { 0 };
	write_all(1, true);
	cr_assert(all_agree(NULL, "stat, racy", kinds));
	for (unsigned kind = LW_HIT_NONE; kind <= LW_HIT_PORTION; kind++)
		cr_assert_gt(kinds[kind], 50, "kind %u is rare: the trees prove little", kind);
	facts_age();
	cr_assert(all_agree(NULL, "stat, read", NULL));
	index_all(&facts);
	use(&facts, LW_STAT);
	cr_assert(all_agree(NULL, "stat, index", NULL));
	cr_assert_eq(dirs.stats.listings, 0);
	use(&facts, LW_FROZEN);
	cr_assert(all_agree(NULL, "frozen, index", NULL));
	cr_assert_eq(dirs.stats.listings, 0);
	use(NULL, LW_FROZEN);
	cr_assert(all_agree(NULL, "frozen, read", NULL));
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

static void mutate_all(uint64_t seed)
{
	for (unsigned t = 0; t < TREES; t++) {
		const char *command = tree_random(&seed) % 2 ? "rm" : "touch";
		char name[64];
		snprintf(name, sizeof name, "%s%s", stem[tree_random(&seed) % STEMS], tree_random(&seed) % 2 ? ".py" : "/__init__.py");
		const char *path = facts_join(tree_name(t), name);
		if (*command == 'r') {
			if (unlink(path))
				rmdir(path);
		} else {
			int fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK, 0644);
			if (fd >= 0)
				close(fd);
		}
	}
}

Test(resolve, frozen_is_the_state_at_index_time)
{
	struct facts facts;
	write_all(2, false);
	facts_age();
	cr_assert(all_agree(NULL, "stat", NULL));
	index_all(&facts);
	struct naive *then = record_all();
	mutate_all(3);
	use(&facts, LW_FROZEN);
	cr_assert(all_agree(then, "frozen", NULL));
	cr_assert_eq(dirs.stats.statx, 0, "without links there is nothing to ask");
	lw_dirs_invalidate(&dirs);
	cr_assert(all_agree(NULL, "frozen, invalidated", NULL));
	use(&facts, LW_STAT);
	cr_assert(all_agree(NULL, "stat", NULL));
	for (unsigned round = 0; round < 5; round++) {
		mutate_all(10 + round);
		cr_assert(all_agree(NULL, "stat, changed", NULL));
	}
	struct naive *now = record_all();
	cr_assert(memcmp(now, then, (size_t)TREES * STEMS * sizeof *now) != 0, "the control: something has changed");
	free(now);
	free(then);
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

Test(resolve, links_are_asked_even_in_frozen)
{
	struct facts facts;
	struct lw_hit hit;
	facts_write(facts_mkdir(root, "one"), "__init__.py");
	facts_mkdir(root, "two");
	facts_write(root, "target");
	cr_assert_eq(symlink("one", facts_join(root, "link")), 0);
	cr_assert_eq(symlink("target", facts_join(root, "file.py")), 0);
	facts_age();
	cr_assert_eq(find(root, "link", &hit), 0);
	cr_assert_eq(hit.kind, LW_HIT_PACKAGE);
	index_all(&facts);
	use(&facts, LW_FROZEN);
	cr_assert_eq(find(root, "file", &hit), 0);
	cr_assert(hit.kind == LW_HIT_MODULE && hit.asked);

	cr_assert_eq(unlink(facts_join(root, "target")), 0);
	cr_assert_eq(unlink(facts_join(root, "link")), 0);
	cr_assert_eq(symlink("two", facts_join(root, "link")), 0);
	use(&facts, LW_FROZEN);
	cr_assert_eq(find(root, "file", &hit), 0);
	cr_assert_eq(hit.kind, LW_HIT_NONE);
	cr_assert_eq(find(root, "link", &hit), 0);
	cr_assert_eq(hit.kind, LW_HIT_PORTION, "it leads elsewhere by now");
	cr_assert_str_eq(hit.path, facts_join(root, "link"));
	facts_write(facts_join(root, "two"), "__init__.so");
	cr_assert_eq(find(root, "link", &hit), 0);
	cr_assert_eq(hit.kind, LW_HIT_PACKAGE);
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

Test(resolve, a_hit_carries_the_files_stat)
{
	struct lw_hit hit;
	struct lw_stat st;
	facts_write(root, "m.py");
	int64_t before = lw_now_ns();
	cr_assert_eq(find(root, "m", &hit), 0);
	cr_assert(hit.kind == LW_HIT_MODULE && hit.asked && hit.suffix == suffixes.source);
	cr_assert(hit.asked_ns >= before && hit.asked_ns <= lw_now_ns());
	cr_assert_eq(lw_stat_at(AT_FDCWD, hit.path, &st), 0);
	cr_assert_eq(lw_stamp(&st), lw_stamp(&hit.stat));
	cr_assert_eq(unlink(hit.path), 0);
	cr_assert_eq(find(root, "m", &hit), 0);
	cr_assert(hit.kind == LW_HIT_NONE && !hit.asked);
	facts_write(facts_mkdir(root, "p"), "__init__.py");
	cr_assert_eq(find(root, "p", &hit), 0);
	cr_assert(hit.kind == LW_HIT_PACKAGE && hit.base_len == strlen(root) + 2 && hit.len == hit.base_len + strlen("/__init__.py"));
}

static int user_sees(void *arg)
{
	unsigned kinds[5] = { 0 };
	struct facts *facts = arg;
	FACTS_EXPECT(all_agree(NULL, "stat", kinds));
	FACTS_EXPECT(kinds[LW_HIT_PACKAGE] && kinds[LW_HIT_PORTION] && kinds[LW_HIT_NONE]);
	FACTS_EXPECT(all_agree(NULL, "stat again", NULL));
	lw_dirs_clear(&dirs);
	dirs.snapshot = &facts->snapshot;
	FACTS_EXPECT(all_agree(NULL, "stat over root's index", NULL));
	lw_dirs_clear(&dirs);
	dirs.freshness = LW_FROZEN;
	FACTS_EXPECT(all_agree(NULL, "frozen over root's index", NULL));
	lw_build *build = lw_build_create();
	facts_of(build, &dirs);
	facts_open(facts, build, geteuid());
	lw_dirs_clear(&dirs);
	FACTS_EXPECT(all_agree(NULL, "frozen over an index of its own", NULL));
	return 0;
}

Test(resolve, what_may_not_be_read)
{
	NEEDS_ROOT();
	static const mode_t modes[] = { 0755, 0711, 0700, 0311, 0 };
	struct facts facts;
	uint64_t seed = 5;
	write_all(4, false);
	for (unsigned t = 0; t < TREES; t++) {
		for (unsigned i = 0; i < STEMS; i++)
			if (naive_is(facts_join(tree_name(t), stem[i]), S_IFDIR))
				cr_assert_eq(chmod(facts_join(tree_name(t), stem[i]), modes[tree_random(&seed) % 5]), 0);
		if (t % 8 == 0)
			cr_assert_eq(chmod(tree_name(t), modes[tree_random(&seed) % 5]), 0);
	}
	facts_age();
	cr_assert(all_agree(NULL, "root", NULL));
	index_all(&facts);
	lw_dirs_clear(&dirs);
	cr_assert_eq(facts_as(FACTS_USER, user_sees, &facts), 0);
	facts_close(&facts);
}

Test(resolve, a_damaged_index_is_read_around)
{
	struct facts facts;
	struct lw_hit hit;
	char sub[PATH_MAX];
	strcpy(sub, facts_mkdir(root, "pkg"));
	facts_write(sub, "__init__.py");
	for (unsigned i = 0; i < 2000; i++) {
		char name[32];
		snprintf(name, sizeof name, "some_name%u.py", i);
		facts_write(sub, name);
	}
	facts_age();
	cr_assert_eq(find(root, "pkg", &hit), 0);
	index_all(&facts);
	for (unsigned gone = 0; gone < 2; gone++) {
		use(&facts, LW_FROZEN);
		struct lw_dir *dir = facts_dir(&dirs, sub), *above = facts_dir(&dirs, root);
		const struct lw_entry *entry;
		cr_assert_eq(lw_dir_find(&dirs, above, "pkg", 3, &entry), 0);
		const uint32_t keep[] = { dir->indexed.record->path, above->indexed.record->path, entry->name };
		if (!gone)
			facts_damage(&facts, LW_SEC_STRINGS, keep, 3);
		else
			tree_destroy(sub);
		cr_assert_eq(find(root, "pkg", &hit), 0);
		cr_assert_eq(hit.kind, gone ? LW_HIT_NONE : LW_HIT_PACKAGE, "what is not there is no portion either");
		cr_assert_eq(dirs.stats.damaged, 1);
	}
	lw_dirs_clear(&dirs);
	facts_close(&facts);
}

Test(resolve, odd_names_and_long_paths)
{
	struct lw_hit hit;
	char deep[LW_PATH_SIZE], name[256];
	facts_write(root, "a.py");
	static const char *const odd[] = { "", ".", "..", "a.py", "a/b", "/", "\xff" };
	for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
		cr_assert_eq(find(root, odd[i], &hit), 0);
		cr_assert_eq(hit.kind, LW_HIT_NONE);
	}
	cr_assert_eq(lw_resolve(&dirs, facts_dir(&dirs, root), "a\0b", 3, &hit), 0);
	cr_assert_eq(hit.kind, LW_HIT_NONE);

	/* Up to a directory that can still be named, while what is in it cannot. */
	memset(name, 'd', 200);
	name[200] = '\0';
	strcpy(deep, root);
	while (strlen(deep) + 210 < LW_PATH_SIZE) {
		strcat(deep, "/");
		strcat(deep, name);
		cr_assert_eq(mkdir(deep, 0755), 0);
	}
	int fd = tree_open(AT_FDCWD, deep);
	memset(name, 'm', 230);
	strcpy(name + 230, ".py");
	tree_write(fd, name, "pass\n");
	tree_write(fd, "n.py", "pass\n");
	close(fd);
	cr_assert_eq(lw_resolve(&dirs, facts_dir(&dirs, deep), name, 230, &hit), strlen(deep) + 234 < LW_PATH_SIZE ? 0 : -ENAMETOOLONG);
	cr_assert_eq(find(deep, "n", &hit), 0);
	cr_assert_eq(hit.kind, LW_HIT_MODULE);
}
