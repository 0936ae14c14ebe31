/* SPDX-License-Identifier: MIT */
/*
 * A session as the extension uses it, with code that is a few letters: what the first one learns the next one serves, and what must
 * not be served is not. Processes are forked children. Threads are in race/session.c.
 */
#include "facts.h"
#include "pyc.h"
#include "session.h"
#include <criterion/criterion.h>
#include <dirent.h>

enum { MAGIC = 0x0a0d0dcb };
static const int64_t NS = 1000000000;

static char root[PATH_MAX], place[PATH_MAX + 16], src[PATH_MAX + 16];
static char reason[LW_STORE_REASON];
static struct lw_session_config config;

static void setup(void)
{
	tree_create(root, sizeof root);
	snprintf(place, sizeof place, "%s/cache", root);
	strcpy(src, facts_mkdir(root, "src"));
	config = (struct lw_session_config){
		.suffixes = facts_suffixes(), .freshness = LW_STAT, .pyc_magic = MAGIC,
		.store = { .place = place, .key = facts_key, .about = "test", .prefix_owner = geteuid() },
	};
}

static void teardown(void)
{
	tree_destroy(root);
}

TestSuite(session, .init = setup, .fini = teardown);

#define NEEDS_ROOT() do { if (geteuid() != 0) { teardown(); cr_skip_test("only root can play other users"); } } while (0)

static lw_session *open_session(void)
{
	lw_session *session;
	int error = lw_session_open(&config, &session, reason);
	TREE_CHECK(error == 0);
	return session;
}

static lw_session *open_frozen(void)
{
	lw_session *session = open_session();
	lw_session_set_freshness(session, LW_FROZEN, false, 0);
	return session;
}

static struct lw_session_stats stats_of(lw_session *session)
{
	struct lw_session_stats stats;
	lw_session_stats(session, &stats);
	return stats;
}

static struct lw_hit find(lw_session *session, const char *name)
{
	const struct lw_path_entry entry = { src, (uint32_t)strlen(src) };
	struct lw_hit hit;
	lw_view *view = lw_session_view(session, &entry, 1, false);
	TREE_CHECK(view && lw_session_resolve(session, view, 0, name, strlen(name), &hit) == 0);
	lw_session_view_destroy(session, view);
	return hit;
}

static void write_source(const char *text)
{
	tree_write(AT_FDCWD, facts_join(src, "m.py"), text);
	facts_age();
}

/* Import "m" as if it had just been compiled to CODE. */
static void compile(lw_session *session, const char *code)
{
	struct lw_hit hit = find(session, "m");
	TREE_CHECK(hit.kind == LW_HIT_MODULE);
	lw_session_learn(session, &hit, 0, code, strlen(code));
}

static bool is(const struct lw_code *code, const char *text)
{
	return code->len == strlen(text) && memcmp(code->data, text, code->len) == 0;
}

/* "m"'s code by its stamp alone is CODE (NULL: none). */
static bool serves(lw_session *session, const char *text)
{
	struct lw_code code;
	struct lw_hit hit = find(session, "m");
	if (lw_session_code(session, &hit, &code) != LW_OK)
		return text == NULL;
	bool same = text && is(&code, text);
	lw_session_release(session, &code);
	return same;
}

/* The same by whatever means but compiling. */
static bool acquires(lw_session *session, const char *pyc, const char *text)
{
	struct lw_code code;
	bool stock;
	struct lw_hit hit = find(session, "m");
	if (lw_session_acquire(session, &hit, pyc, &code, &stock) != LW_OK)
		return text == NULL;
	bool same = text && is(&code, text) && !stock;
	lw_session_release(session, &code);
	return same;
}

static unsigned stored_files(void)
{
	unsigned count = 0;
	DIR *keys = opendir(place);
	for (struct dirent *d; keys && (d = readdir(keys));) {
		DIR *key = d->d_name[0] == '.' ? NULL : opendir(facts_join(place, d->d_name));
		for (struct dirent *file; key && (file = readdir(key));)
			count += strstr(file->d_name, ".lwi") != NULL;
		if (key)
			closedir(key);
	}
	if (keys)
		closedir(keys);
	return count;
}

/* "x = 1" as "one", learnt and stored. */
static void learn_one(void)
{
	write_source("x = 1\n");
	lw_session *session = open_session();
	cr_assert(serves(session, NULL));
	compile(session, "one");
	lw_session_close(session);
	cr_assert_eq(stored_files(), 1);
}

Test(session, learn_store_serve)
{
	learn_one();
	lw_session *session = open_session();
	cr_assert_eq(stats_of(session).indexes, 1);
	cr_assert(serves(session, "one"));
	cr_assert_eq(stats_of(session).code_pack, 1);
	cr_assert_eq(stats_of(session).dirs.listings, 0, "directories are learnt as well");
	cr_assert_eq(lw_session_flush(session), 0);
	lw_session_quiet(session);
	cr_assert_eq(stats_of(session).segments_written, 0);
	lw_session_close(session);
	cr_assert_eq(stored_files(), 1, "nothing new: nothing written");
	session = open_frozen();
	cr_assert(serves(session, "one"));
	cr_assert_eq(stats_of(session).dirs.statx, 0);
	lw_session_close(session);
}

Test(session, the_same_content_under_another_stamp)
{
	learn_one();
	write_source("x = 1\n");
	lw_session *session = open_session();
	cr_assert(serves(session, NULL));
	cr_assert(acquires(session, NULL, "one"));
	cr_assert(acquires(session, NULL, "one"));
	struct lw_session_stats stats = stats_of(session);
	cr_assert_eq(stats.code_content, 2);
	lw_session_close(session);
	session = open_session();
	cr_assert(serves(session, "one"), "the new stamp has been learnt");
	lw_session_close(session);
	cr_assert_eq(stored_files(), 2);
}

Test(session, racy_sources_are_served_and_not_learnt)
{
	learn_one();
	lw_session *session = open_session();
	write_source("x = 1\n");
	/* What bears a time to come is racy for as long as the test may take. */
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = lw_now_ns() / NS + 3600, .tv_nsec = 1 } };
	cr_assert_eq(utimensat(AT_FDCWD, facts_join(src, "m.py"), times, 0), 0);
	cr_assert(acquires(session, NULL, "one"));
	compile(session, "racy");
	cr_assert_eq(lw_session_flush(session), 0);
	cr_assert_eq(stats_of(session).learnt_files, 0);
	lw_session_close(session);
}

Test(session, a_same_size_edit_is_not_served)
{
	learn_one();
	for (unsigned frozen = 0; frozen < 2; frozen++) {
		write_source("x = 2\n");
		lw_session *session = frozen ? open_frozen() : open_session();
		if (frozen)
			lw_session_invalidate(session);
		cr_assert(serves(session, NULL));
		cr_assert(acquires(session, NULL, NULL));
		lw_session_close(session);
	}
	lw_session *session = open_session();
	cr_assert(acquires(session, NULL, NULL));
	compile(session, "two");
	lw_session_close(session);
	session = open_session();
	cr_assert(serves(session, "two"));
	lw_session_close(session);
	write_source("x = 1\n");
	session = open_session();
	cr_assert(acquires(session, NULL, NULL), "the older record is hidden by the newer one");
	lw_session_close(session);
}

Test(session, what_changed_before_it_was_stored_is_dropped)
{
	write_source("x = 1\n");
	lw_session *session = open_session();
	compile(session, "one");
	write_source("x = 2\n");
	cr_assert_eq(lw_session_flush(session), 0);
	cr_assert_eq(stats_of(session).dropped, 1);
	cr_assert_eq(stats_of(session).learnt_files, 0);
	lw_session_close(session);
	session = open_session();
	cr_assert(serves(session, NULL));
	cr_assert(acquires(session, NULL, NULL));
	lw_session_close(session);
}

static const char *write_pyc(const char *code, uint32_t flags, int64_t after_ns)
{
	const char *path = facts_join(root, "m.pyc");
	struct lw_stat st;
	cr_assert_eq(lw_stat_at(AT_FDCWD, facts_join(src, "m.py"), &st), 0);
	const uint32_t header[] = { MAGIC, flags, (uint32_t)(st.mtime_ns / NS), (uint32_t)st.size };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert_eq(write(fd, header, sizeof header), (ssize_t)sizeof header);
	cr_assert_eq(write(fd, code, strlen(code)), (ssize_t)strlen(code));
	close(fd);
	int64_t ns = st.mtime_ns + after_ns;
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = ns / NS, .tv_nsec = ns % NS } };
	cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
	return path;
}

Test(session, pycs_are_read_judged_and_learnt)
{
	struct lw_code code;
	bool stock;
	write_source("x = 1\n");
	lw_session *session = open_session();
	struct lw_hit hit = find(session, "m");
	cr_assert_eq(lw_session_acquire(session, &hit, facts_join(root, "m.pyc"), &code, &stock), LW_ABSENT);
	cr_assert(!stock);
	cr_assert_eq(lw_session_acquire(session, &hit, write_pyc("one", 1, NS), &code, &stock), LW_ABSENT);
	cr_assert(stock);
	cr_assert_eq(lw_session_acquire(session, &hit, write_pyc("one", 0, 0), &code, &stock), LW_ABSENT);
	cr_assert(!stock);
	cr_assert_eq(stats_of(session).pyc_distrusted, 1);
	const char *pyc = write_pyc("one", 0, NS);
	cr_assert(acquires(session, pyc, "one"));
	cr_assert_eq(stats_of(session).code_pyc, 1);
	cr_assert_eq(lw_session_flush(session), 0);
	cr_assert_eq(stored_files(), 1);
	cr_assert(acquires(session, pyc, "one"));
	cr_assert_eq(lw_session_flush(session), 0);
	cr_assert_eq(stored_files(), 1, "imported again: nothing new");
	lw_session_close(session);
	session = open_session();
	cr_assert(serves(session, "one"));
	lw_session_close(session);

	cr_assert_eq(unlink(facts_join(src, "m.py")), 0);
	session = open_session();
	cr_assert_eq(lw_session_code(session, &hit, &code), LW_OK, "the stamp it was asked under agrees");
	lw_session_release(session, &code);
	hit.asked = false;
	cr_assert_eq(lw_session_acquire(session, &hit, pyc, &code, &stock), LW_ABSENT, "gone");
	lw_session_close(session);
}

Test(session, quiet_moments)
{
	write_source("x = 1\n");
	lw_session *session = open_session();
	cr_assert(lw_session_pending(session));
	compile(session, "one");
	lw_session_quiet(session);
	cr_assert_eq(stored_files(), 1, "the first time at once");
	cr_assert(!lw_session_pending(session));
	write_source("x = 2\n");
	compile(session, "two");
	for (unsigned i = 0; i < 100 && !lw_session_pending(session); i++)
		usleep(50 * 1000);	/* on a slow disk: fifty times what storing cost */
	lw_session_quiet(session);
	cr_assert_eq(stored_files(), 2);
	cr_assert_eq(lw_session_flush(session), 0);
	cr_assert_eq(stored_files(), 2);
	lw_session_close(session);
	cr_assert_eq(stored_files(), 2);
}

/* --- fork and exit --- */

static int child_has_nothing(void *arg)
{
	lw_session *session = arg;
	FACTS_EXPECT(stored_files() == 1);
	FACTS_EXPECT(!lw_session_pending(session));
	FACTS_EXPECT(lw_session_flush(session) == 0 && stored_files() == 1);
	/* It goes on by itself. */
	write_source("x = 2\n");
	compile(session, "two");
	FACTS_EXPECT(lw_session_flush(session) == 0 && stored_files() == 2);
	FACTS_EXPECT(serves(session, NULL));
	return 0;
}

Test(session, fork_stores_first_and_leaves_the_child_nothing)
{
	write_source("x = 1\n");
	lw_session *session = open_session();
	compile(session, "one");
	cr_assert_eq(stored_files(), 0);
	cr_assert_eq(facts_as(0, child_has_nothing, session), 0);
	cr_assert_eq(stats_of(session).segments_written, 1);
	lw_session_close(session);
	cr_assert_eq(stored_files(), 2);
	session = open_session();
	cr_assert(serves(session, "two"));
	lw_session_close(session);
}

static int learns_and_forks_and_vanishes(void *arg)
{
	lw_session *session = open_session();
	compile(session, "one");
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return 0;
}

Test(session, what_was_learnt_before_a_fork_survives_a_sudden_end)
{
	write_source("x = 1\n");
	cr_assert_eq(facts_as(0, learns_and_forks_and_vanishes, NULL), 0);
	lw_session *session = open_session();
	cr_assert(serves(session, "one"));
	lw_session_close(session);
}

static int learns_and_ends(void *arg)
{
	lw_session *session = open_session();
	compile(session, "one");
	if (arg)
		exit(0);
	return 0;	/* by _exit() */
}

Test(session, the_exit_handler_stores)
{
	write_source("x = 1\n");
	cr_assert_eq(facts_as(0, learns_and_ends, NULL), 0);
	cr_assert_eq(stored_files(), 0, "the control: without it nothing is");
	/* An unfinished first start must not keep the next one away. */
	cr_assert_geq(lw_store_reset(&config.store, reason), 0);
	cr_assert_eq(facts_as(0, learns_and_ends, ""), 0);
	cr_assert_eq(stored_files(), 1);
	lw_session *session = open_session();
	cr_assert(serves(session, "one"));
	lw_session_close(session);
}

static int two_sessions(void *arg)
{
	struct lw_session_config other = config;
	lw_session *one = open_session(), *two, *three;
	other.store.key.lo++;
	FACTS_EXPECT(lw_session_open(&other, &two, reason) == 0);
	other.store.key.lo++;
	FACTS_EXPECT(lw_session_open(&other, &three, reason) == 0);
	compile(one, "one");
	compile(three, "one");
	lw_session_close(two);
	exit(0);
}

Test(session, every_open_session_is_stored_at_exit)
{
	write_source("x = 1\n");
	cr_assert_eq(facts_as(0, two_sessions, NULL), 0);
	cr_assert_eq(stored_files(), 2);
}

/* --- what an entry point touches --- */

enum { MANY = 48, LONG_CODE = 2 * LW_BLOCK };

static const char *name_of(unsigned i)
{
	static char name[16];
	snprintf(name, sizeof name, "m%u", i);
	return name;
}

/* The sources of m0, m1, ..., and code of two blocks for each learnt by a process without an entry point. */
static void learn_many(void)
{
	static char code[LONG_CODE];
	for (unsigned i = 0; i < MANY; i++) {
		char file[24];
		snprintf(file, sizeof file, "%s.py", name_of(i));
		tree_write(AT_FDCWD, facts_join(src, file), name_of(i));
	}
	facts_age();
	lw_session *session = open_session();
	for (unsigned i = 0; i < MANY; i++) {
		struct lw_hit hit = find(session, name_of(i));
		memcpy(code, &i, sizeof i);
		lw_session_learn(session, &hit, 0, code, sizeof code);
	}
	lw_session_close(session);
	cr_assert_eq(stored_files(), 1);
}

/* Whether the code of all of them is served. */
static bool serves_many(lw_session *session)
{
	unsigned served = 0;
	for (unsigned i = 0; i < MANY; i++) {
		struct lw_code code;
		struct lw_hit hit = find(session, name_of(i));
		if (lw_session_code(session, &hit, &code) != LW_OK)
			continue;
		served += code.len == LONG_CODE && memcmp(code.data, &i, sizeof i) == 0;
		lw_session_release(session, &code);
	}
	return served == MANY;
}

static bool is_noted(unsigned entry)
{
	char name[80];
	snprintf(name, sizeof name, "00000000000000010000000000000002/hot-%016x", entry);
	return faccessat(AT_FDCWD, facts_join(place, name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int uses_many_and_ends(void *arg)
{
	lw_session *session = open_session();
	FACTS_EXPECT(serves_many(session));
	if (arg)
		exit(0);
	return 0;
}

Test(session, what_was_touched_is_noted_at_the_end)
{
	learn_many();
	for (unsigned entry = 0; entry < 2; entry++) {
		config.entry = entry;
		lw_session *session = open_session();
		cr_assert(serves_many(session));
		lw_session_close(session);
		cr_assert_eq(is_noted(entry), entry, "without an entry point: nothing");
	}
	config.entry = 2;
	cr_assert_eq(facts_as(0, uses_many_and_ends, NULL), 0);
	cr_assert_not(is_noted(2), "the control: without the exit handler nothing is");
	cr_assert_eq(facts_as(0, uses_many_and_ends, ""), 0);
	cr_assert(is_noted(2));

	config.entry = 1;
	lw_session *session = open_session();
	cr_assert(serves_many(session));
	cr_assert_eq(lw_session_flush(session), 0);
	lw_session_quiet(session);
	cr_assert_eq(stats_of(session).hot_written, 0, "the same again: nothing written");
	lw_session_close(session);
}

Test(session, what_was_touched_is_noted_when_imports_fall_quiet)
{
	learn_many();
	config.entry = 1;
	lw_session *session = open_session();
	lw_session_quiet(session);
	cr_assert_not(lw_session_pending(session));
	cr_assert(serves_many(session));
	cr_assert(lw_session_pending(session));
	cr_assert_not(is_noted(1));
	lw_session_quiet(session);
	cr_assert(is_noted(1), "a server is killed, and has no end");
	cr_assert_eq(stats_of(session).hot_written, 1);
	cr_assert_not(lw_session_pending(session));
	lw_session_close(session);
}

Test(session, what_was_just_learnt_is_noted)
{
	config.entry = 1;
	learn_many();
	cr_assert(is_noted(1));
	lw_session *session = open_session();
	cr_assert(serves_many(session));
	lw_session_quiet(session);
	cr_assert_eq(stats_of(session).hot_written, 0, "it was right");
	lw_session_close(session);
}

static int child_uses_many(void *arg)
{
	lw_session *session = arg;
	FACTS_EXPECT(serves_many(session));
	FACTS_EXPECT(!lw_session_pending(session));
	lw_session_quiet(session);
	exit(is_noted(1));
}

static int child_finds_it_noted(void *arg)
{
	FACTS_EXPECT(is_noted(1));
	return 0;
}

Test(session, a_forked_child_notes_nothing)
{
	learn_many();
	config.entry = 1;
	lw_session *session = open_session();
	cr_assert_eq(facts_as(0, child_uses_many, session), 0);
	cr_assert_not(is_noted(1));
	cr_assert(serves_many(session));
	cr_assert_eq(stats_of(session).hot_written, 0);
	cr_assert_eq(facts_as(0, child_finds_it_noted, NULL), 0, "before the fork, by the parent");
	lw_session_close(session);
}

/* --- where nothing can be stored --- */

Test(session, a_read_only_store_learns_nothing)
{
	config.store.readonly = true;
	for (unsigned existing = 0; existing < 2; existing++) {
		write_source("x = 0\n");
		lw_session *session = open_session();
		compile(session, "zero");
		lw_session_quiet(session);
		cr_assert(!lw_session_pending(session));
		cr_assert_eq(lw_session_flush(session), 0);
		struct lw_session_stats stats = stats_of(session);
		cr_assert_eq(stats.learnt_files + stats.learnt_dirs + stats.write_errors + stats.segments_written, 0);
		lw_session_close(session);
		cr_assert_eq(stored_files(), existing);
		config.store.readonly = false;
		if (!existing)
			learn_one();
		config.store.readonly = true;
	}
	write_source("x = 1\n");
	lw_session *session = open_session();
	cr_assert(acquires(session, NULL, "one"), "but it serves");
	lw_session_close(session);
}

Test(session, a_read_only_store_is_not_noted_in)
{
	learn_many();
	config.entry = 1;
	config.store.readonly = true;
	lw_session *session = open_session();
	cr_assert(serves_many(session));
	lw_session_quiet(session);
	cr_assert_not(lw_session_pending(session));
	lw_session_close(session);
	cr_assert_not(is_noted(1));
}

Test(session, without_a_place)
{
	config.store.place = "/dev/null/cache";
	write_source("x = 1\n");
	lw_session *session = open_session();
	cr_assert_null(lw_session_path(session));
	cr_assert(*reason);
	compile(session, "one");
	cr_assert_eq(lw_session_flush(session), 0);
	cr_assert(serves(session, NULL));
	cr_assert(!lw_session_pending(session));
	lw_session_close(session);
	lw_session_close(NULL);
}

/* --- other users --- */

static void open_to_all(const char *path, mode_t mode)
{
	DIR *dir = opendir(path);
	cr_assert(dir);
	for (struct dirent *d; (d = readdir(dir));)
		if (d->d_name[0] != '.')
			cr_assert_eq(chmod(facts_join(path, d->d_name), mode), 0);
	closedir(dir);
	cr_assert_eq(chmod(path, 0755), 0);
}

static int user_asks(void *arg)
{
	struct lw_code code;
	bool stock;
	lw_session *session = open_frozen();
	struct lw_hit hit = find(session, "m");
	FACTS_EXPECT(stats_of(session).indexes == 1);
	FACTS_EXPECT(hit.kind == LW_HIT_MODULE && !hit.asked);
	bool served = lw_session_code(session, &hit, &code) == LW_OK;
	FACTS_EXPECT(served == (arg != NULL));
	lw_session_release(session, &code);
	served = lw_session_acquire(session, &hit, NULL, &code, &stock) == LW_OK;
	FACTS_EXPECT(served == (arg != NULL));
	lw_session_release(session, &code);
	lw_session_set_freshness(session, LW_STAT, false, 0);
	FACTS_EXPECT(serves(session, arg ? "one" : NULL));
	compile(session, "mine");
	FACTS_EXPECT(lw_session_flush(session) == 0 && !stats_of(session).segments_written);
	lw_session_close(session);
	return 0;
}

Test(session, code_of_anothers_private_source_is_not_handed_out)
{
	NEEDS_ROOT();
	for (unsigned public = 0; public < 2; public++) {
		write_source("x = 1\n");
		cr_assert_eq(chmod(facts_join(src, "m.py"), public ? 0644 : 0600), 0);
		facts_age();
		lw_session *session = open_session();
		compile(session, "one");
		lw_session_close(session);
		open_to_all(place, 0755);
		open_to_all(facts_join(place, "00000000000000010000000000000002"), 0644);
		cr_assert_eq(facts_as(FACTS_USER, user_asks, public ? "" : NULL), 0, "public %u", public);
		tree_destroy(place);
	}
}

/* --- damage --- */

static void append(lw_build *build)
{
	lw_store *store;
	cr_assert_eq(lw_store_open(&config.store, &store, reason), 0);
	cr_assert_eq(lw_store_append(store, build), 0);
	lw_store_close(store);
	lw_build_destroy(build);
}

static void add_code(lw_build *build, const char *code)
{
	struct lw_stat st;
	uint64_t content;
	const char *path = facts_join(src, "m.py");
	cr_assert_eq(lw_content_hash(path, &st, &content), 0);
	cr_assert_eq(lw_build_file(build, lw_hash128(path, strlen(path)), lw_stamp(&st), content, LW_FILE_PUBLIC, code, strlen(code), true), 0);
}

/* Damage SECTION of the newest cache file. */
static void damage_newest(enum lw_section section)
{
	char newest[NAME_MAX + 1] = "";
	const char *key = facts_join(place, "00000000000000010000000000000002");
	DIR *dir = opendir(key);
	for (struct dirent *d; (d = readdir(dir));)
		if (strncmp(d->d_name, "seg-", 4) == 0 && strcmp(d->d_name, newest) > 0)
			strcpy(newest, d->d_name);
	closedir(dir);
	struct lw_index_head head;
	int fd = open(facts_join(key, newest), O_RDWR | O_CLOEXEC);
	cr_assert_eq(pread(fd, &head, sizeof head, 0), (ssize_t)sizeof head);
	for (uint64_t at = 0; at < head.section[section].size; at += LW_BLOCK) {
		char byte;
		cr_assert_eq(pread(fd, &byte, 1, (off_t)(head.section[section].offset + at)), 1);
		byte ^= 0x40;
		cr_assert_eq(pwrite(fd, &byte, 1, (off_t)(head.section[section].offset + at)), 1);
	}
	close(fd);
}

Test(session, damaged_records_are_absent_and_bring_nothing_older_back)
{
	static const enum lw_section section[] = { LW_SEC_FILES, LW_SEC_CODE, LW_SEC_DIRS, LW_SEC_STRINGS, LW_SEC_ENTRIES };
	for (unsigned i = 0; i < 5; i++) {
		learn_one();
		write_source("x = 2\n");
		lw_session *session = open_session();
		compile(session, "two");
		lw_session_close(session);
		cr_assert_eq(stored_files(), 2);
		damage_newest(section[i]);
		bool code_lost = i < 2;
		session = open_frozen();
		cr_assert(serves(session, code_lost ? NULL : "two"), "%u", i);
		cr_assert(acquires(session, NULL, code_lost ? NULL : "two"), "%u", i);
		lw_session_close(session);
		session = open_session();
		cr_assert(serves(session, code_lost ? NULL : "two"), "%u", i);
		lw_session_close(session);
		tree_destroy(place);
	}
}

Test(session, a_record_without_code_is_no_damage)
{
	write_source("x = 1\n");
	lw_build *build = lw_build_create();
	add_code(build, "");
	append(build);
	lw_session *session = open_session();
	cr_assert(serves(session, NULL));
	cr_assert(acquires(session, NULL, NULL));
	cr_assert_eq(stats_of(session).dirs.damaged, 0);
	lw_session_close(session);
	build = lw_build_create();
	add_code(build, "one");
	append(build);
	session = open_session();
	cr_assert(serves(session, "one"));
	lw_session_close(session);
}

/* --- the rest of the interface --- */

Test(session, long_lists_are_learnt)
{
	enum { LONG = 40 };
	struct lw_path_entry list[LONG];
	struct lw_hit hit;
	for (unsigned i = 0; i < LONG; i++) {
		char name[16];
		snprintf(name, sizeof name, "l%u", i);
		list[i].path = strdup(facts_mkdir(root, name));
		list[i].len = (uint32_t)strlen(list[i].path);
	}
	facts_write(list[30].path, "m.py");
	facts_age();
	for (unsigned round = 0; round < 3; round++) {
		lw_session *session = round == 2 ? open_frozen() : open_session();
		lw_view *view[20];
		for (unsigned i = 0; i < 20; i++)
			cr_assert(view[i] = lw_session_view(session, list, LONG - i % 2, false));
		lw_session_view_destroy(session, view[3]);
		lw_session_view_destroy(session, NULL);
		cr_assert_eq(lw_session_resolve_quickly(session, view[0], 0, "m", 1, &hit), -EAGAIN);
		cr_assert_eq(lw_session_resolve(session, view[0], 0, "m", 1, &hit), 0);
		cr_assert(hit.kind == LW_HIT_MODULE && hit.entry == 30);
		memset(&hit, 0, sizeof hit);
		cr_assert_eq(lw_session_resolve_quickly(session, view[0], 0, "m", 1, &hit), round == 2 ? 0 : -EAGAIN);
		cr_assert(round < 2 || (hit.kind == LW_HIT_MODULE && hit.entry == 30));
		struct lw_session_stats stats = stats_of(session);
		cr_assert_eq(stats.dirs.listings, round ? 0 : LONG);
		cr_assert(round < 2 || !stats.dirs.statx);
		lw_session_close(session);	/* with the views that are left */
		cr_assert_eq(stored_files(), 1);
	}
	lw_session *session = open_session();
	cr_assert_null(lw_session_view(session, list, 65536, false));
	lw_session_close(session);
	for (unsigned i = 0; i < LONG; i++)
		free((void *)list[i].path);
}

Test(session, settings)
{
	config.freshness = LW_FROZEN;
	lw_session *session = open_session();
	cr_assert_eq(lw_session_freshness(session), LW_FROZEN);
	lw_session_set_freshness(session, LW_STAT, false, 5);
	cr_assert_eq(lw_session_freshness(session), LW_STAT);
	cr_assert_eq(lw_session_suffixes(session)->source, 1);
	cr_assert(strncmp(lw_session_path(session), place, strlen(place)) == 0);
	lw_session_close(session);
}

/* What a session lists of src, as "NAME:KINDS ..." in alphabetical order of single letters; its error as a number. */
static const char *listed(lw_session *session)
{
	static char text[256];
	struct lw_listing *listing;
	int error = lw_session_listing(session, src, strlen(src), &listing);
	if (error) {
		snprintf(text, sizeof(text), "%d", error);
		cr_assert_null(listing);
		return text;
	}
	text[0] = '\0';
	for (char letter = 'a'; letter <= 'z'; letter++) {
		const struct lw_entry *entry = lw_listing_find(listing, &letter, 1);
		if (entry)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%c:%x ", letter, entry->kinds);
	}
	cr_assert_eq(strlen(text) / 4, listing->count);
	lw_listing_destroy(listing);
	return text;
}

Test(session, listings_are_as_fresh_as_imports)
{
	char gone[PATH_MAX];
	tree_write(AT_FDCWD, facts_join(src, "a.py"), "");
	facts_mkdir(src, "b");
	facts_age();
	for (unsigned round = 0; round < 2; round++) {
		lw_session *session = open_session();
		cr_assert_str_eq(listed(session), "a:4 b:1 ");
		cr_assert_str_eq(listed(session), "a:4 b:1 ");
		struct lw_session_stats stats = stats_of(session);
		cr_assert_eq(stats.dirs.listings, round ? 0 : 1, "the second session has it from the index");
		lw_session_close(session);
	}
	lw_session *session = open_session(), *frozen = open_frozen();
	cr_assert_str_eq(listed(frozen), "a:4 b:1 ");
	tree_write(AT_FDCWD, facts_join(src, "c.so"), "");
	cr_assert_str_eq(listed(session), "a:4 b:1 c:2 ");
	cr_assert_str_eq(listed(frozen), "a:4 b:1 ", "the index is the truth");
	snprintf(gone, sizeof gone, "%s.gone", src);
	cr_assert_eq(rename(src, gone), 0);
	cr_assert_str_eq(listed(session), "-2");
	tree_write(AT_FDCWD, src, "a file");
	cr_assert_str_eq(listed(session), "-20");
	lw_session_close(session);
	lw_session_close(frozen);
}
