/* SPDX-License-Identifier: MIT */
/*
 * artifact: a directory with a relative index, published, opened, and used by a session. What is wrong with one is said and nothing of it is used.
 * The command line's view of the same is in cli/test_frozen.py.
 */
#include "artifact.h"
#include "facts.h"
#include "publish.h"
#include "session.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

static char root[PATH_MAX], src[PATH_MAX], art[PATH_MAX], place[PATH_MAX];
static char reason[LW_STORE_REASON];
static struct lw_session_config config;

static void setup(void)
{
	tree_create(root, sizeof root);
	strcpy(src, facts_mkdir(root, "src"));
	strcpy(art, facts_join(root, "art"));
	strcpy(place, facts_join(root, "cache"));
	config = (struct lw_session_config){
		.suffixes = facts_suffixes(), .freshness = LW_FROZEN, .artifact = art,
		.store = { .place = place, .key = facts_key, .about = "test", .prefix_owner = geteuid() },
	};
}

static void teardown(void)
{
	tree_destroy(root);
}

TestSuite(artifact, .init = setup, .fini = teardown);

/* --- one of a tree --- */

static const char *say(const char *format, unsigned n)
{
	static char text[4][64];
	static unsigned next;
	char *out = text[next++ % 4];
	snprintf(out, 64, format, n);
	return out;
}

static void add_dir(lw_build *build, const char *name, const char *path)
{
	const struct lw_suffixes suffixes = facts_suffixes();
	struct lw_listing *listing;
	struct lw_stat st;
	TREE_CHECK(lw_listing_read(path, &suffixes, &listing, &st) == 0);
	TREE_CHECK(lw_build_dir(build, name, strlen(name), 0, LW_DIR_PUBLIC, listing) == 0);
	lw_listing_destroy(listing);
}

static void add_file(lw_build *build, const char *name, const char *source, const char *code)
{
	TREE_CHECK(lw_build_file(build, lw_hash128(name, strlen(name)), 0, lw_hash64(source, strlen(source)), LW_FILE_PUBLIC, code, strlen(code), true) == 0);
}

/* Of src as root 0, with m.py as it is: CODE. */
static lw_build *build_of(const char *code)
{
	lw_build *build = lw_build_create();
	add_dir(build, "0", src);
	add_file(build, "0/m.py", "x = 1\n", code);
	return build;
}

static int publish_roots(lw_build *build, const char *const *roots, unsigned count)
{
	const struct lw_publication publication = { .path = art, .key = facts_key, .about = "about", .root = roots, .count = count };
	int error = lw_publish(&publication, build, reason);
	lw_build_destroy(build);
	return error;
}

static void publish(const char *code)
{
	const char *roots[] = { src };
	TREE_CHECK(publish_roots(build_of(code), roots, 1) == 0);
}

static void write_source(const char *text)
{
	tree_write(AT_FDCWD, facts_join(src, "m.py"), text);
	facts_age();
}

/* --- a session with it --- */

static lw_session *open_session(void)
{
	lw_session *session;
	TREE_CHECK(lw_session_open(&config, &session, reason) == 0);
	return session;
}

static struct lw_session_stats stats_of(lw_session *session)
{
	struct lw_session_stats stats;
	lw_session_stats(session, &stats);
	return stats;
}

static struct lw_hit find_in(lw_session *session, const char *dir, const char *name)
{
	const struct lw_path_entry entry = { dir, (uint32_t)strlen(dir) };
	struct lw_hit hit;
	lw_view *view = lw_session_view(session, &entry, 1, false);
	TREE_CHECK(view && lw_session_resolve(session, view, 0, name, strlen(name), &hit) == 0);
	lw_session_view_destroy(session, view);
	return hit;
}

static bool is(const struct lw_code *code, const char *text)
{
	return code->len == strlen(text) && memcmp(code->data, text, code->len) == 0;
}

/* "m"'s code by whatever means but compiling is TEXT; NULL: there is none. */
static bool gives(lw_session *session, const char *text)
{
	struct lw_code code;
	bool stock;
	struct lw_hit hit = find_in(session, src, "m");
	if (lw_session_code(session, &hit, &code) != LW_OK && lw_session_acquire(session, &hit, NULL, &code, &stock) != LW_OK)
		return !text;
	bool same = text && is(&code, text);
	lw_session_release(session, &code);
	return same;
}

static void learn(lw_session *session, const char *code)
{
	struct lw_hit hit = find_in(session, src, "m");
	if (!hit.asked)
		hit.asked = lw_stat_at(AT_FDCWD, hit.path, &hit.stat) == 0;
	hit.asked_ns = lw_now_ns();
	lw_session_learn(session, &hit, 0, code, strlen(code));
	TREE_CHECK(lw_session_flush(session) == 0);
}

Test(artifact, is_the_truth_in_frozen)
{
	write_source("x = 1\n");
	publish("artifact");
	write_source("x = 2\n");
	facts_write(src, "later.py");
	lw_session *session = open_session();
	cr_assert(gives(session, "artifact"));
	cr_assert_eq(find_in(session, src, "later").kind, LW_HIT_NONE);
	cr_assert_eq(stats_of(session).dirs.statx, 0);
	lw_session_invalidate(session);
	cr_assert(gives(session, NULL));
	cr_assert_eq(find_in(session, src, "later").kind, LW_HIT_MODULE);
	lw_session_close(session);
}

Test(artifact, gives_by_content_in_stat_and_stamps_go_to_the_cache)
{
	write_source("x = 1\n");
	publish("artifact");
	config.freshness = LW_STAT;
	for (unsigned run = 0; run < 2; run++) {
		lw_session *session = open_session();
		cr_assert(gives(session, "artifact"));
		cr_assert_eq(stats_of(session).code_content, !run);
		cr_assert_eq(stats_of(session).dirs.listings, !run);
		cr_assert_eq(lw_session_flush(session), 0);
		cr_assert_eq(stats_of(session).learnt_files, !run);
		lw_session_close(session);
	}
	write_source("x = 2\n");
	lw_session *session = open_session();
	cr_assert(gives(session, NULL));
	learn(session, "two");
	lw_session_close(session);
	session = open_session();
	cr_assert(gives(session, "two"));
	lw_session_close(session);
	/* Back again: the newest fact is another, the artifact's has the content. */
	write_source("x = 1\n");
	session = open_session();
	cr_assert(gives(session, "artifact"));
	lw_session_close(session);
	config.freshness = LW_FROZEN;
	write_source("x = 3\n");
	session = open_session();
	cr_assert(gives(session, "artifact"), "what stat has learnt is no truth");
	lw_session_close(session);
}

Test(artifact, freshness_changes_at_run_time)
{
	write_source("x = 1\n");
	publish("artifact");
	write_source("x = 2\n");
	facts_write(src, "later.py");
	facts_age();
	lw_session *session = open_session();
	for (unsigned i = 0; i < 3; i++) {
		lw_session_set_freshness(session, LW_FROZEN, false, 0);
		cr_assert(gives(session, "artifact"));
		cr_assert_eq(find_in(session, src, "later").kind, LW_HIT_NONE);
		lw_session_set_freshness(session, LW_STAT, false, 0);
		cr_assert(gives(session, i ? "two" : NULL));
		cr_assert_eq(find_in(session, src, "later").kind, LW_HIT_MODULE);
		if (!i) {
			learn(session, "two");
			lw_session_close(session);
			session = open_session();
		}
	}
	lw_session_close(session);
}

Test(artifact, nothing_is_learnt_below_its_roots_in_frozen)
{
	write_source("x = 1\n");
	publish("artifact");
	write_source("x = 2\n");
	const char *hidden = facts_mkdir(src, ".hidden"), *outside = facts_mkdir(root, "outside");
	facts_write(hidden, "h.py");
	facts_write(outside, "o.py");
	facts_age();
	for (unsigned control = 0; control < 2; control++) {
		config.freshness = control ? LW_STAT : LW_FROZEN;
		lw_session *session = open_session();
		cr_assert_eq(find_in(session, hidden, "h").kind, LW_HIT_MODULE);
		cr_assert_eq(find_in(session, outside, "o").kind, LW_HIT_MODULE);
		learn(session, "two");
		cr_assert_eq(stats_of(session).learnt_dirs, control ? 2 : 1, "src and .hidden; the one outside");
		cr_assert_eq(stats_of(session).learnt_files, control);
		lw_session_close(session);
	}
	/* What was learnt in stat is compared in frozen. */
	config.freshness = LW_FROZEN;
	lw_session *session = open_session();
	cr_assert_eq(find_in(session, hidden, "h").kind, LW_HIT_MODULE);
	cr_assert_eq(stats_of(session).dirs.statx, 1);
	cr_assert_eq(find_in(session, hidden, "h").kind, LW_HIT_MODULE);
	cr_assert_eq(stats_of(session).dirs.statx, 1, "once");
	cr_assert_eq(stats_of(session).dirs.listings, 0);
	lw_session_close(session);
	facts_write(hidden, "more.py");
	session = open_session();
	cr_assert_eq(find_in(session, hidden, "more").kind, LW_HIT_MODULE);
	lw_session_close(session);
}

/* --- long path lists --- */

enum { LONG_LIST = 1000 };

static struct lw_path_entry long_list[LONG_LIST];

static void make_long_list(lw_build *build)
{
	for (unsigned i = 0; i < LONG_LIST; i++) {
		char *path = strdup(facts_mkdir(src, say("d%u", i)));
		facts_write(path, say("n%u.py", i));
		if (build)
			add_dir(build, say("0/d%u", i), path);
		long_list[i] = (struct lw_path_entry){ path, (uint32_t)strlen(path) };
	}
}

static enum lw_hit_kind find_long(lw_session *session, const char *name)
{
	struct lw_hit hit;
	lw_view *view = lw_session_view(session, long_list, LONG_LIST, false);
	TREE_CHECK(view && lw_session_resolve(session, view, 0, name, strlen(name), &hit) == 0);
	lw_session_view_destroy(session, view);
	return hit.kind;
}

/* One run: how many directories had to be looked up in an index. */
static uint64_t run_long(const char *name, enum lw_hit_kind kind)
{
	lw_session *session = open_session();
	struct lw_hit hit;
	lw_view *view = lw_session_view(session, long_list, LONG_LIST, false);
	TREE_CHECK(view && lw_session_resolve(session, view, 0, name, strlen(name), &hit) == 0);
	cr_assert_eq(hit.kind, kind, "%s", name);
	cr_assert_eq(lw_session_flush(session), 0);
	uint64_t looked = stats_of(session).dirs.from_index;
	cr_assert_eq(stats_of(session).dirs.listings, 0);
	lw_session_view_destroy(session, view);
	lw_session_close(session);
	return looked;
}

static void publish_long(bool more)
{
	const char *roots[] = { src };
	lw_build *build = lw_build_create();
	for (unsigned i = 0; i < LONG_LIST; i++)
		add_dir(build, say("0/d%u", i), long_list[i].path);
	if (more)
		add_dir(build, "0", src);
	TREE_CHECK(publish_roots(build, roots, 1) == 0);
}

Test(artifact, a_long_path_list_is_merged_once)
{
	make_long_list(NULL);
	publish_long(false);
	cr_assert_geq(run_long("n777", LW_HIT_MODULE), LONG_LIST);
	cr_assert_leq(run_long("n777", LW_HIT_MODULE), 2, "the table is stored");
	cr_assert_leq(run_long("none", LW_HIT_NONE), 2);
}

Test(artifact, a_table_of_another_artifact_is_not_believed)
{
	make_long_list(NULL);
	publish_long(false);
	run_long("n777", LW_HIT_MODULE);
	cr_assert_leq(run_long("n777", LW_HIT_MODULE), 2, "the control: it was stored");
	facts_write(long_list[500].path, "fresh.py");
	run_long("fresh", LW_HIT_NONE);
	publish_long(false);
	cr_assert_geq(run_long("fresh", LW_HIT_MODULE), LONG_LIST);
	cr_assert_leq(run_long("fresh", LW_HIT_MODULE), 2);
	publish_long(true);
	cr_assert_geq(run_long("fresh", LW_HIT_MODULE), LONG_LIST, "anything in it may be what a table rests on");
	/* Neither is one of stat, nor one of frozen in stat. */
	config.freshness = LW_STAT;
	lw_session *session = open_session();
	cr_assert_eq(find_long(session, "fresh"), LW_HIT_MODULE);
	cr_assert_eq(unlink(facts_join(long_list[500].path, "fresh.py")), 0);
	facts_age();
	cr_assert_eq(find_long(session, "fresh"), LW_HIT_NONE);
	cr_assert_eq(lw_session_flush(session), 0);
	lw_session_close(session);
	config.freshness = LW_FROZEN;
	run_long("fresh", LW_HIT_MODULE);
}

/* --- opening --- */

static lw_artifact *open_artifact(lw_index **index)
{
	lw_artifact *artifact;
	TREE_CHECK(lw_artifact_open(&config.store, config.artifact, index, &artifact) == 0);
	return artifact;
}

/* It is not used, and SAYS is said; NULL: it is. */
static void check(const char *what, const char *says)
{
	lw_index *index;
	lw_artifact *artifact = open_artifact(&index);
	const char *said = lw_artifact_reason(artifact);
	cr_assert(says ? strstr(said, says) != NULL : !*said, "%s: %s", what, said);
	cr_assert_eq(lw_artifact_used(artifact), index != NULL);
	cr_assert_eq(index == NULL, says != NULL, "%s", what);
	lw_index_close(index);
	lw_artifact_destroy(artifact);
}

static void link_root(const char *target)
{
	unlink(facts_join(art, "root0"));
	TREE_CHECK(symlink(target, facts_join(art, "root0")) == 0);
}

Test(artifact, hostile_links)
{
	write_source("x = 1\n");
	publish("artifact");
	check("sound", NULL);
	link_root("root0");
	check("loop", "left out");
	link_root("index.lwi");
	check("file", "no directory");
	static char far[PATH_MAX];
	memset(far, '/', sizeof far - 1);
	link_root("/");
	check("the root directory", NULL);
	far[200] = '\0';
	link_root(far);
	check("slashes", NULL);
	link_root("../src/../../../../../../../../../../../../../../../../..");
	check("up", NULL);
	link_root(src);
	check("absolute", NULL);
	config.artifact = "art";
	check("relative path", "absolute");
	config.artifact = src;
	check("no artifact", "there is no");
	config.artifact = facts_join(src, "m.py");
	check("a file", "no directory");
}

/* Heads that nobody writes, with sums that are right. */
Test(artifact, absurd_heads)
{
	write_source("x = 1\n");
	publish("artifact");
	static const struct { uint32_t roots; const char *says; } heads[] = {
		{ 0, "cache file" }, { LW_ROOTS_MAX + 1, "impossible" }, { UINT32_MAX, "impossible" }, { 1, NULL },
	};
	int fd = open(facts_join(art, "index.lwi"), O_RDWR);
	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		struct lw_index_head head;
		TREE_CHECK(pread(fd, &head, sizeof head, 0) == sizeof head);
		head.roots = heads[i].roots;
		head.head_hash = lw_hash64(&head, offsetof(struct lw_index_head, head_hash));
		TREE_CHECK(pwrite(fd, &head, sizeof head, 0) == sizeof head);
		check("head", heads[i].says);
	}
	struct lw_index_head head;
	TREE_CHECK(pread(fd, &head, sizeof head, 0) == sizeof head);
	head.roots = 5;
	head.head_hash = lw_hash64(&head, offsetof(struct lw_index_head, head_hash));
	TREE_CHECK(pwrite(fd, &head, sizeof head, 0) == sizeof head);
	close(fd);
	lw_index *index;
	lw_artifact *artifact = open_artifact(&index);
	unsigned count;
	const char *const *roots = lw_artifact_roots(artifact, &count);
	cr_assert(index && count == 5 && roots[0] && !roots[1] && !roots[4] && strstr(lw_artifact_reason(artifact), "root1"));
	lw_index_close(index);
	lw_artifact_destroy(artifact);
}

Test(artifact, is_no_cache_file_and_a_cache_file_is_none)
{
	write_source("x = 1\n");
	publish("artifact");
	lw_index *index;
	lw_reason why;
	int fd = open(facts_join(art, "index.lwi"), O_RDONLY);
	cr_assert_eq(lw_index_open(fd, &facts_key, &index, &why), -EPROTO);
	cr_assert(strstr(why, "--frozen"));
	cr_assert_eq(lw_index_open_relative(fd, &(struct lw_hash128){ 3, 4 }, &index, &why), -ESTALE);
	close(fd);
	fd = memfd_create("cache", 0);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_write(build, fd, facts_key, 1, 1), 0);
	lw_build_destroy(build);
	cr_assert_eq(lw_index_open_relative(fd, &facts_key, &index, &why), -EPROTO);
	close(fd);
	/* Unbound, it answers for nothing. */
	fd = open(facts_join(art, "index.lwi"), O_RDONLY);
	cr_assert_eq(lw_index_open_relative(fd, NULL, &index, &why), 0);
	close(fd);
	struct lw_index_dir dir;
	const struct lw_file_record *file;
	cr_assert_eq(lw_index_find_dir(index, src, strlen(src), &dir), LW_ABSENT);
	cr_assert_eq(lw_index_find_dir(index, "0", 1, &dir), LW_ABSENT);
	cr_assert_eq(lw_index_find_path(index, "0/m.py", 6, lw_hash128("0/m.py", 6), &file), LW_ABSENT);
	lw_index_close(index);
}

static int play(void *arg)
{
	lw_index *index;
	lw_artifact *artifact;
	FACTS_EXPECT(lw_artifact_open(&config.store, art, &index, &artifact) == 0);
	bool used = index != NULL;
	lw_index_close(index);
	lw_artifact_destroy(artifact);
	return used ? 10 : 11;
}

Test(artifact, whoever_owns_the_sources_may_vouch_for_them)
{
	if (geteuid() != 0) {
		teardown();
		cr_skip_test("only root can play other users");
	}
	write_source("x = 1\n");
	publish("artifact");
	config.store.prefix_owner = 0;
	static const struct { uid_t index, dir, source, user; int used; } cases[] = {
		{ 0, 0, 0, FACTS_USER, 10 },			/* root's */
		{ FACTS_USER, FACTS_USER, 0, FACTS_USER, 10 },	/* one's own */
		{ FACTS_STRANGER, FACTS_STRANGER, 0, FACTS_USER, 11 },
		{ FACTS_STRANGER, FACTS_STRANGER, FACTS_STRANGER, FACTS_USER, 10 },
		{ FACTS_STRANGER, FACTS_STRANGER, FACTS_STRANGER, 0, 10 },
		{ FACTS_STRANGER, FACTS_STRANGER, FACTS_USER, FACTS_USER, 11 },
		{ FACTS_STRANGER, 0, FACTS_STRANGER, FACTS_USER, 11 },
		{ 0, FACTS_STRANGER, FACTS_STRANGER, FACTS_USER, 11 },
		{ FACTS_STRANGER, FACTS_USER, FACTS_USER, FACTS_USER, 11 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		TREE_CHECK(chown(facts_join(art, "index.lwi"), cases[i].index, 0) == 0 && chown(art, cases[i].dir, 0) == 0);
		TREE_CHECK(chown(src, cases[i].source, 0) == 0);
		cr_assert_eq(facts_as(cases[i].user, play, NULL), cases[i].used, "case %zu", i);
	}
	TREE_CHECK(chown(art, FACTS_STRANGER, 0) == 0);
	cr_assert_eq(facts_as(FACTS_USER, play, NULL), 11);
	config.store.trust_uid_set = true;
	config.store.trust_uid = FACTS_STRANGER;
	cr_assert_eq(facts_as(FACTS_USER, play, NULL), 10);
}

/* --- publishing --- */

Test(artifact, links_are_relative_and_lead_there)
{
	char text[PATH_MAX];
	cr_assert_eq(lw_publish_link(art, src, text, sizeof text), 0);
	cr_assert_str_eq(text, "../src");
	cr_assert_eq(lw_publish_link(facts_join(src, "art"), src, text, sizeof text), 0);
	cr_assert_str_eq(text, "..");
	const char *deep = facts_mkdir(src, "deep");
	cr_assert_eq(lw_publish_link(art, deep, text, sizeof text), 0);
	cr_assert_str_eq(text, "../src/deep");
	cr_assert_eq(lw_publish_link(facts_join(deep, "art"), root, text, sizeof text), 0);
	cr_assert_str_eq(text, "../../..");
	/* Beside a name that begins alike. */
	cr_assert_eq(lw_publish_link(facts_join(root, "srcs"), src, text, sizeof text), 0);
	cr_assert_str_eq(text, "../src");
	/* Behind a link ".." is elsewhere. */
	TREE_CHECK(symlink(deep, facts_join(root, "link")) == 0);
	cr_assert_eq(lw_publish_link(facts_join(root, "link/art"), src, text, sizeof text), 0);
	cr_assert_str_eq(text, "../..");
}

Test(artifact, is_replaced_whole)
{
	write_source("x = 1\n");
	publish("one");
	const char *roots[] = { src, facts_mkdir(root, "more"), src };
	lw_session *session = open_session();
	cr_assert_eq(publish_roots(build_of("two"), roots, 3), 0);
	cr_assert_eq(access(facts_join(art, "root2"), F_OK), 0);
	publish("three");
	cr_assert_neq(access(facts_join(art, "root1"), F_OK), 0, "of the one before");
	cr_assert(gives(session, "one"), "an old process goes on with what it has");
	lw_session_close(session);
	session = open_session();
	cr_assert(gives(session, "three"));
	lw_session_close(session);
	DIR *names = opendir(root);
	for (struct dirent *entry; (entry = readdir(names));)
		cr_assert(!strstr(entry->d_name, ".tmp-"), "%s", entry->d_name);
	closedir(names);
}

/*
 *     reader: open(DIR)                          openat(index.lwi), readlinkat(root0): gone
 *     writer:           exchange, remove the old
 */
Test(artifact, a_reader_sees_the_old_one_or_the_new_one)
{
	write_source("x = 1\n");
	publish("artifact");
	pid_t writer = fork();
	for (; writer == 0; )
		publish("artifact");
	for (unsigned i = 0; i < 3000; i++) {
		lw_index *index;
		lw_artifact *artifact;
		cr_assert_eq(lw_artifact_open(&config.store, art, &index, &artifact), 0);
		cr_expect_str_eq(lw_artifact_reason(artifact), "");
		lw_index_close(index);
		lw_artifact_destroy(artifact);
	}
	TREE_CHECK(kill(writer, SIGKILL) == 0 && waitpid(writer, NULL, 0) == writer);
}

/* Its path is good for as long as that of facts_join(). */
static const char *make_draft(const char *name, const char *file, time_t age)
{
	const char *dir = facts_mkdir(root, name);
	facts_write(dir, file);
	struct timespec times[2] = { { .tv_sec = time(NULL) - age }, { .tv_sec = time(NULL) - age } };
	TREE_CHECK(utimensat(AT_FDCWD, dir, times, 0) == 0);
	return dir;
}

Test(artifact, what_a_killed_writer_has_left_is_removed_by_the_next)
{
	write_source("x = 1\n");
	const char *left = make_draft("art.tmp-0123456789abcdef", "index.lwi", 3600);
	const char *kept[] = {
		make_draft("art.tmp-0123456789abcdee", "index.lwi", 5),		/* perhaps not locked yet */
		make_draft("art.tmp-0123456789abcded", "index.lwi", 3600),		/* locked below: somebody works on it */
		make_draft("art.tmp-0123456789abcde", "index.lwi", 3600),		/* no name of ours */
		make_draft("arts.tmp-0123456789abcdef", "index.lwi", 3600),		/* of another artifact */
		make_draft("art.tmp-0123456789abcdec", "precious", 3600),	/* what we never write */
	};
	int fd = tree_open(AT_FDCWD, kept[1]);
	TREE_CHECK(flock(fd, LOCK_EX) == 0);
	publish("one");
	cr_expect_neq(access(left, F_OK), 0);
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		cr_expect_eq(access(kept[i], F_OK), 0, "%s", kept[i]);
	cr_expect_eq(access(facts_join(kept[4], "precious"), F_OK), 0);
	close(fd);
	publish("two");
	cr_expect_neq(access(kept[1], F_OK), 0, "no longer locked");
}

Test(artifact, first_ones_may_meet)
{
	write_source("x = 1\n");
	for (unsigned round = 0; round < 50; round++) {
		enum { WRITERS = 4 };
		pid_t writer[WRITERS];
		for (unsigned i = 0; i < WRITERS; i++) {
			writer[i] = fork();
			TREE_CHECK(writer[i] >= 0);
			if (writer[i] == 0) {
				const char *roots[] = { src };
				_exit(publish_roots(build_of("artifact"), roots, 1) ? 1 : 0);
			}
		}
		for (unsigned i = 0; i < WRITERS; i++) {
			int status;
			TREE_CHECK(waitpid(writer[i], &status, 0) == writer[i]);
			cr_assert_eq(status, 0);
		}
		tree_destroy(art);
	}
}

DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
static bool replaces; /* what is listed next */

static void exchange_and_dismantle(void)
{
	const char *draft = facts_join(root, "another");
	TREE_CHECK(renameat2(AT_FDCWD, art, AT_FDCWD, draft, RENAME_EXCHANGE) == 0);
	TREE_CHECK(unlink(facts_join(draft, LW_ARTIFACT_INDEX)) == 0);
}

DIR *__wrap_fdopendir(int fd)
{
	if (replaces)
		exchange_and_dismantle();
	replaces = false;
	return __real_fdopendir(fd);
}

/* What has been opened is taken to pieces by who has put another one in its place: it is not something else. The control: what is at its place is. */
Test(artifact, who_looks_may_meet_who_replaces)
{
	write_source("x = 1\n");
	publish("artifact");
	TREE_CHECK(rename(art, facts_join(root, "another")) == 0);
	publish("artifact");
	replaces = true;
	cr_expect_eq(lw_publish_check(art, reason), 0, "%s", reason);
	cr_expect_not(replaces);
	cr_expect_eq(lw_publish_check(facts_join(root, "another"), reason), -EEXIST);
}

Test(artifact, nothing_else_is_replaced)
{
	cr_assert_eq(lw_publish_check(art, reason), 0);
	cr_assert_eq(lw_publish_check(src, reason), 0, "empty");
	write_source("x = 1\n");
	cr_assert_eq(lw_publish_check(src, reason), -EEXIST);
	cr_assert(strstr(reason, "m.py"));
	cr_assert_eq(lw_publish_check(facts_join(src, "m.py"), reason), -ENOTDIR);
	publish("artifact");
	cr_assert_eq(lw_publish_check(art, reason), 0);
	static const char *const odd[] = { "root", "root01", "root0x", "Root0", "root-1", "index.lwi~", "about.txt", ".x" };
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		facts_write(art, odd[i]);
		cr_assert_eq(lw_publish_check(art, reason), -EEXIST, "%s", odd[i]);
		unlink(facts_join(art, odd[i]));
	}
}
