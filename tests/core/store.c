/* SPDX-License-Identifier: MIT */
/*
 * Where the cache is, who is believed, and what files do. Processes that work against each other are in race/store.c.
 *
 * Ownership and full disks need root: other users are played by forked children, disks are small tmpfs mounts in
 * a mount namespace of the test's own. Without root those tests are skipped.
 */
#include "keydir.h"
#include "mark.h"
#include "stamp.h"
#include "store.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <linux/magic.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { USER = 4711, STRANGER = 4712, FRIEND = 4713 };
#define KEY_NAME "00000000000000aa00000000000000bb"
static const struct lw_hash128 KEY = { 0xaa, 0xbb };

static char scratch[128];		/* an empty directory of ours that others may pass through */
static char place[192], keydir[256];	/* SCRATCH/cache and the key in it; do not exist yet */
static char reason[LW_STORE_REASON];

/* In place of libc's: tests pretend that files lie on a network file system. */
static bool remote;

int fstatfs(int fd, struct statfs *fs)
{
	memset(fs, 0, sizeof(*fs));
	fs->f_type = remote ? NFS_SUPER_MAGIC : TMPFS_MAGIC;
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(scratch, sizeof(scratch), "%.80s/ladewerk-store-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(scratch));
	chmod(scratch, 0755);
	snprintf(place, sizeof(place), "%s/cache", scratch);
	snprintf(keydir, sizeof(keydir), "%s/" KEY_NAME, place);
}

static void teardown(void)
{
	nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(place, .init = setup, .fini = teardown);
TestSuite(trust, .init = setup, .fini = teardown);
TestSuite(files, .init = setup, .fini = teardown);
TestSuite(tiers, .init = setup, .fini = teardown);
TestSuite(remote, .init = setup, .fini = teardown);
TestSuite(marks, .init = setup, .fini = teardown);
TestSuite(bounds, .init = setup, .fini = teardown);

/* A test that is skipped never gets to its teardown. */
#define SKIP_IF(condition, why) do { if (condition) { teardown(); cr_skip_test(why); } } while (0)
#define NEEDS_ROOT() SKIP_IF(geteuid() != 0, "only root can play other users and mount")

static char *in(const char *dir, const char *name)
{
	static char path[8][PATH_MAX];
	static unsigned next;
	char *out = path[next++ % 8];
	cr_assert(snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX);
	return out;
}

static struct lw_store_config config_here(void)
{
	return (struct lw_store_config){ .place = place, .key = KEY, .about = "a test\n", .prefix_owner = geteuid() };
}

static lw_store *open_with(const struct lw_store_config *config)
{
	lw_store *store;
	cr_assert_eq(lw_store_open(config, &store, reason), 0, "%s", reason);
	return store;
}

static lw_store *open_here(void)
{
	struct lw_store_config config = config_here();
	lw_store *store = open_with(&config);
	cr_assert(lw_store_path(store), "%s", reason);
	cr_assert_str_empty(reason);
	return store;
}

static int says(const char *text)
{
	return strstr(reason, text) != NULL;
}

/* Fact N is a file record whose stamp is STAMP. */
static lw_build *fact(unsigned n, uint64_t stamp)
{
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_file(build, lw_hash128(&n, sizeof(n)), stamp, n, 0, "code", 4, true), 0);
	return build;
}

static int append_stamped(lw_store *store, unsigned n, uint64_t stamp)
{
	lw_build *build = fact(n, stamp);
	int err = lw_store_append(store, build);
	lw_build_destroy(build);
	return err;
}

static int append(lw_store *store, unsigned n)
{
	return append_stamped(store, n, n + 1);
}

/* What a load gives, kept until release(). */
struct load {
	lw_index **index;
	unsigned count, refused;
};

static struct load load(lw_store *store)
{
	struct load load;
	cr_assert_eq(lw_store_load(store, &load.index, &load.count, &load.refused, reason), 0);
	return load;
}

static void release(struct load *load)
{
	for (unsigned i = 0; i < load->count; i++)
		lw_index_close(load->index[i]);
	free(load->index);
}

/* The stamp of fact N in the first index that has it; 0: none. */
static uint64_t stamp_of(const struct load *load, unsigned n)
{
	const struct lw_file_record *file;

	for (unsigned i = 0; i < load->count; i++)
		if (lw_index_find_file(load->index[i], lw_hash128(&n, sizeof(n)), &file) == LW_OK)
			return file->stamp;
	return 0;
}

/* How many files there are, how many are refused, and whether facts 0 .. FACTS-1 are all there. */
static void expect_here(unsigned count, unsigned refused, unsigned facts)
{
	lw_store *store = open_here();
	struct load now = load(store);
	cr_assert_eq(now.count, count, "%u files", now.count);
	cr_assert_eq(now.refused, refused, "%u refused: %s", now.refused, reason);
	for (unsigned n = 0; n < facts; n++)
		cr_assert_eq(stamp_of(&now, n), n + 1, "fact %u", n);
	release(&now);
	lw_store_close(store);
}

/* Number of names in DIR that begin with PREFIX; *LAST (may be NULL) is the path of one. */
static unsigned names(const char *dir, const char *prefix, char *last)
{
	DIR *open = opendir(dir);
	unsigned count = 0;

	if (!open)
		return 0;
	for (struct dirent *entry; (entry = readdir(open)); ) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		count++;
		if (last)
			strcpy(last, in(dir, entry->d_name));
	}
	closedir(open);
	return count;
}

static unsigned mode_of(const char *path)
{
	struct stat st;
	return lstat(path, &st) ? 0 : st.st_mode & 07777;
}

static void touch(const char *path, time_t age)
{
	struct timespec times[2] = { { .tv_sec = time(NULL) - age }, { .tv_sec = time(NULL) - age } };
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0);
	futimens(fd, times);
	close(fd);
}

/* Run FN as UID. Its result, 0 to 99; 100 when it crashed. */
static int as_user(uid_t uid, int (*fn)(void))
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(20);
		if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
			_exit(99);
		_exit(fn());
	}
	int status;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/* ---- which place ---- */

static void set_or_unset(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

Test(place, follows_the_environment_in_order)
{
	static const char none[] = "/nonexistent";
	const char *home = scratch;
	char *in_home = strdup(in(scratch, ".cache/ladewerk"));
	struct { const char *cache, *xdg, *home; bool use_env; const char *place; int err; const char *expected; } row[] = {
		{ "/c", "/x", home, true, NULL, 0, "/c" },
		{ "/c", "/x", home, true, "/given", 0, "/given" },
		{ NULL, "/x", home, true, NULL, 0, "/x/ladewerk" },
		{ "", "/x", home, true, NULL, 0, "/x/ladewerk" },
		{ NULL, NULL, home, true, NULL, 0, in_home },
		{ NULL, "", home, true, NULL, 0, in_home },
		{ NULL, "x", home, true, NULL, 0, in_home },
		{ "c", "/x", home, true, NULL, -EINVAL, NULL },
		{ "./c", "/x", home, true, NULL, -EINVAL, NULL },
		{ NULL, "/x", home, true, "given", -EINVAL, NULL },
		{ "/c", "/x", home, false, NULL, 0, in_home },
		{ "c", "/x", home, false, NULL, 0, in_home },
		{ "/c", "/x", none, true, NULL, 0, "/c" },
		{ NULL, "/x", NULL, true, NULL, 0, "/x/ladewerk" },
	};

	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		struct lw_store_config config = { .use_env = row[i].use_env, .place = row[i].place };
		char out[PATH_MAX] = "";
		set_or_unset("LADEWERK_CACHE", row[i].cache);
		set_or_unset("XDG_CACHE_HOME", row[i].xdg);
		set_or_unset("HOME", row[i].home);
		cr_expect_eq(lw_store_place(&config, out, sizeof(out)), row[i].err, "row %u", i);
		if (row[i].expected)
			cr_expect_str_eq(out, row[i].expected, "row %u", i);
	}
	free(in_home);
}

Test(place, without_home_asks_the_password_database)
{
	struct passwd *entry = getpwuid(geteuid());
	struct stat st;
	SKIP_IF(!entry || stat(entry->pw_dir, &st), "this user has no home in the password database");
	struct lw_store_config config = { .use_env = false };
	char out[PATH_MAX];

	for (int empty = 0; empty < 2; empty++) {
		set_or_unset("HOME", empty ? "" : NULL);
		cr_assert_eq(lw_store_place(&config, out, sizeof(out)), 0);
		cr_assert_str_eq(out, in(entry->pw_dir, ".cache/ladewerk"));
	}
}

static int small_disk(const char *at, const char *options)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	return mount("tmpfs", at, "tmpfs", 0, options) ? -errno : 0;
}

Test(place, without_a_home_directory_is_run_user_or_nowhere)
{
	struct lw_store_config config = { .use_env = false, .key = KEY, .prefix_owner = geteuid() };
	char out[PATH_MAX], run[64];
	lw_store *store;

	NEEDS_ROOT();
	SKIP_IF(small_disk("/run", "mode=0755"), "cannot mount in a namespace of our own");
	setenv("HOME", "/nonexistent", 1);
	cr_assert_eq(lw_store_place(&config, out, sizeof(out)), -ENOENT);
	store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says("LADEWERK_CACHE"), "%s", reason);
	cr_assert_not(lw_store_writable(store));
	lw_store_close(store);

	mkdir("/run/user", 0755);
	snprintf(run, sizeof(run), "/run/user/%u", (unsigned)geteuid());
	mkdir(run, 0700);
	cr_assert_eq(lw_store_place(&config, out, sizeof(out)), 0);
	cr_assert_str_eq(out, in(run, "ladewerk"));
	store = open_with(&config);
	cr_assert_str_eq(lw_store_path(store), in(out, KEY_NAME));
	lw_store_close(store);
}

Test(place, too_long)
{
	char out[PATH_MAX], longest[5000];
	struct lw_store_config config = config_here();

	cr_assert_eq(lw_store_place(&config, out, 5), -ENAMETOOLONG);
	cr_assert_eq(lw_store_place(&config, out, strlen(place)), -ENAMETOOLONG);
	cr_assert_eq(lw_store_place(&config, out, strlen(place) + 1), 0);
	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	for (unsigned size = PATH_MAX - 40; size < sizeof(longest); size += 37) {
		config.place = longest;
		longest[size] = 0;
		lw_store *store = open_with(&config);
		cr_assert_null(lw_store_path(store));
		cr_assert_str_not_empty(reason);
		lw_store_close(store);
		longest[size] = 'x';
	}
}

Test(place, relative_is_refused_in_words)
{
	struct lw_store_config config = { .use_env = true, .key = KEY };
	setenv("LADEWERK_CACHE", "relative/dir", 1);
	lw_store *store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says("LADEWERK_CACHE") && says("absolute"), "%s", reason);
	lw_store_close(store);
}

Test(place, is_created_for_us_alone)
{
	umask(0);
	snprintf(place, sizeof(place), "%s/a/b//c", scratch);
	snprintf(keydir, sizeof(keydir), "%s/" KEY_NAME, place);
	lw_store *store = open_here();
	char file[PATH_MAX], text[32] = "";

	cr_assert_str_eq(lw_store_path(store), keydir);
	cr_assert(lw_store_writable(store));
	cr_assert_eq(append(store, 0), 0);
	cr_assert_eq(mode_of(in(scratch, "a")), 0700);
	cr_assert_eq(mode_of(place), 0700);
	cr_assert_eq(mode_of(keydir), 0700);
	cr_assert_eq(names(keydir, "seg-", file), 1);
	cr_assert_eq(mode_of(file), 0600);
	int fd = open(in(keydir, "about"), O_RDONLY);
	cr_assert_eq(read(fd, text, sizeof(text)), 7);
	cr_assert_str_eq(text, "a test\n");
	close(fd);
	lw_store_close(store);
}

Test(place, a_file_in_the_way_is_named)
{
	touch(place, 0);
	struct lw_store_config config = config_here();
	lw_store *store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says(place) && says("LADEWERK_CACHE"), "%s", reason);
	cr_assert_eq(append(store, 0), -EROFS);
	cr_assert_eq(lw_store_compact(store, true), -EROFS);
	struct load nothing = load(store);
	cr_assert_eq(nothing.count + nothing.refused, 0);
	release(&nothing);
	lw_store_started(store);
	lw_store_close(store);
}

/* As an ordinary user, for whom PLACE is as the test made it. What a refusal must say is in EXPECTED. */
static const char *expected[2];
static struct lw_store_config config_for_child;

/* 0: memory only, with the expected words. */
static int child_gets_memory_only(void)
{
	lw_store *store;

	if (lw_store_open(&config_for_child, &store, reason))
		return 1;
	if (lw_store_path(store) || lw_store_writable(store))
		return 2;
	for (unsigned i = 0; i < 2; i++)
		if (expected[i] && !says(expected[i])) {
			fprintf(stderr, "'%s' is not in '%s'\n", expected[i], reason);
			return 3;
		}
	if (append(store, 1) != -EROFS)
		return 4;
	lw_store_close(store);
	return 0;
}

Test(place, that_cannot_be_created_means_memory_only)
{
	NEEDS_ROOT();
	config_for_child = config_here();
	expected[0] = "LADEWERK_CACHE";
	expected[1] = place;
	cr_assert_eq(as_user(USER, child_gets_memory_only), 0);

	/* sudo: root would leave a directory in somebody's home that its owner cannot use */
	cr_assert_eq(chown(scratch, USER, USER), 0);
	cr_assert_eq(child_gets_memory_only(), 0);
	cr_assert_eq(names(scratch, "", NULL), 0);
}

/* ---- trust ---- */

/* 0: the directory is refused; 1: it is used, but its file is refused; 2: all is used; 3: refused without naming the remedy. */
static int child_judges(void)
{
	lw_store *store;
	struct load now;

	config_for_child.prefix_owner = config_for_child.prefix_owner == 0 ? geteuid() : config_for_child.prefix_owner;
	if (lw_store_open(&config_for_child, &store, reason))
		return 10;
	int result = lw_store_path(store) ? 1 : 0;
	if (lw_store_load(store, &now.index, &now.count, &now.refused, reason))
		return 11;
	if (now.count == 1 && now.refused == 0 && stamp_of(&now, 0) == 1)
		result = 2;
	release(&now);
	lw_store_close(store);
	if (result == 1 && (now.refused != 1 || !says(expected[0])))
		result = 3;
	if (result == 0) {
		lw_store_open(&config_for_child, &store, reason);
		lw_store_close(store);
		if (!says(expected[0]))
			result = 3;
	}
	return result;
}

/* A cache with fact 0 in it; paths of place, key directory and file. */
static void make_cache(char path[3][PATH_MAX])
{
	lw_store *store = open_here();
	cr_assert_eq(append(store, 0), 0);
	lw_store_started(store);
	lw_store_close(store);
	strcpy(path[0], place);
	strcpy(path[1], keydir);
	cr_assert_eq(names(keydir, "seg-", path[2]), 1);
}

static void give_all(char path[3][PATH_MAX], uid_t uid)
{
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(chown(path[i], uid, uid), 0);
	chmod(path[0], 0755);
	chmod(path[1], 0755);
	chmod(path[2], 0644);
}

Test(trust, depends_on_the_owner_of_each_part)
{
	static const struct { uid_t reader, owner, prefix_owner; bool set; uid_t trust; bool trusted; } row[] = {
		{ USER, USER, 0, false, 0, true },
		{ USER, 0, 0, false, 0, true },
		{ USER, STRANGER, 0, false, 0, false },
		{ USER, STRANGER, FRIEND, false, 0, false },
		{ USER, FRIEND, FRIEND, false, 0, true },
		{ USER, STRANGER, 0, true, STRANGER, true },
		{ USER, STRANGER, 0, true, FRIEND, false },
		{ USER, STRANGER, 0, false, STRANGER, false },
		{ 0, STRANGER, 0, false, 0, false },
		{ 0, STRANGER, 0, true, STRANGER, true },
	};
	char path[3][PATH_MAX];

	NEEDS_ROOT();
	make_cache(path);
	expected[0] = "LADEWERK_TRUST_UID=4712";
	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		for (unsigned part = 0; part < 3; part++) {
			give_all(path, row[i].reader);
			cr_assert_eq(chown(path[part], row[i].owner, row[i].owner), 0);
			config_for_child = config_here();
			config_for_child.prefix_owner = row[i].prefix_owner;
			config_for_child.trust_uid_set = row[i].set;
			config_for_child.trust_uid = row[i].trust;
			int result = as_user(row[i].reader, child_judges);
			cr_expect_eq(result, row[i].trusted ? 2 : part == 2, "row %u part %u: %d", i, part, result);
		}
	}
}

Test(trust, ends_where_others_may_write)
{
	static const struct { mode_t bits; gid_t group; bool trusted; } row[] = {
		{ 0, 100, true },
		{ 0, 0, true },
		{ S_IWGRP, 0, false },	/* containers run their users in root's group */
		{ S_IWGRP, 100, false },
		{ S_IWOTH, 0, false },
		{ S_IWOTH | S_ISVTX, 0, false },
	};
	char path[3][PATH_MAX];

	NEEDS_ROOT();
	make_cache(path);
	expected[0] = "chmod go-w";
	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		for (unsigned part = 0; part < 3; part++) {
			give_all(path, USER);
			cr_assert_eq(chown(path[part], USER, row[i].group), 0);
			cr_assert_eq(chmod(path[part], (part < 2 ? 0755 : 0644) | row[i].bits), 0);
			config_for_child = config_here();
			int result = as_user(USER, child_judges);
			cr_expect_eq(result, row[i].trusted ? 2 : part == 2, "row %u part %u: %d", i, part, result);
		}
	}
}

Test(trust, nothing_is_created_where_others_may_write)
{
	mkdir(place, 0700);
	chmod(place, 01777);
	struct lw_store_config config = config_here();
	lw_store *store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says("chmod go-w"), "%s", reason);
	cr_assert_eq(names(place, "", NULL), 0);
	lw_store_close(store);
}

Test(trust, unreadable_directory_is_named)
{
	char path[3][PATH_MAX];

	NEEDS_ROOT();
	make_cache(path);	/* root's, 0700 */
	config_for_child = config_here();
	expected[0] = "LADEWERK_CACHE";
	expected[1] = "Permission denied";
	cr_assert_eq(as_user(USER, child_gets_memory_only), 0);
}

Test(trust, links_are_not_followed)
{
	char path[3][PATH_MAX], moved[PATH_MAX];

	make_cache(path);
	strcpy(moved, in(scratch, "moved"));

	/* the file */
	cr_assert_eq(rename(path[2], moved), 0);
	cr_assert_eq(symlink(moved, path[2]), 0);
	lw_store *store = open_here();
	struct load now = load(store);
	cr_assert_eq(now.count, 0);
	cr_assert_eq(now.refused, 1);
	cr_assert(says("remove it"), "%s", reason);
	release(&now);
	lw_store_close(store);
	cr_assert_eq(rename(moved, path[2]), 0);

	/* the key directory */
	cr_assert_eq(rename(keydir, moved), 0);
	cr_assert_eq(symlink(moved, keydir), 0);
	struct lw_store_config config = config_here();
	store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says("link") && says("remove it"), "%s", reason);
	lw_store_close(store);
	cr_assert_eq(unlink(keydir), 0);
	cr_assert_eq(rename(moved, keydir), 0);

	/* the place: whose owner is what counts */
	cr_assert_eq(rename(place, moved), 0);
	cr_assert_eq(symlink(moved, place), 0);
	expect_here(1, 0, 1);
	cr_assert_eq(unlink(place), 0);
	cr_assert_eq(rename(moved, place), 0);
}

Test(trust, a_fifo_or_directory_is_no_file)
{
	char path[3][PATH_MAX];

	make_cache(path);
	alarm(20);
	for (int fifo = 0; fifo < 2; fifo++) {
		char *odd = in(keydir, "seg-ffffffffffffffff-1-1.lwi");
		cr_assert_eq(fifo ? mkfifo(odd, 0600) : mkdir(odd, 0700), 0);
		expect_here(1, 1, 1);
		cr_assert_eq(remove(odd), 0);
	}
}

/* Opened by somebody who may read and not write: everything works, nothing changes. */
static void expect_no_trace(const struct lw_store_config *config)
{
	unsigned before = names(keydir, "", NULL);
	lw_store *store = open_with(config);

	cr_assert(lw_store_path(store), "%s", reason);
	cr_assert_not(lw_store_writable(store));
	struct load now = load(store);
	cr_assert_eq(stamp_of(&now, 0), 1);
	cr_assert_eq(now.refused, 0);
	release(&now);
	cr_assert_eq(append(store, 5), -EROFS);
	cr_assert_eq(lw_store_compact(store, true), -EROFS);
	lw_build *build = fact(6, 7);
	cr_assert_eq(lw_store_rebuild(store, build), -EROFS);
	lw_build_destroy(build);
	lw_store_started(store);
	lw_store_close(store);
	cr_assert_eq(lw_store_reset(config, reason), -EROFS);
	cr_assert_str_not_empty(reason);
	cr_assert_eq(names(keydir, "", NULL), before);
	cr_assert_eq(access(in(keydir, "ok"), F_OK), -1);
}

Test(trust, what_belongs_to_another_is_never_written)
{
	char path[3][PATH_MAX];

	NEEDS_ROOT();
	make_cache(path);
	unlink(in(keydir, "ok"));
	give_all(path, FRIEND);
	struct lw_store_config config = config_here();
	config.trust_uid_set = true;
	config.trust_uid = FRIEND;
	expect_no_trace(&config);

	/* trusted, but without our key: nothing is created */
	config.key.lo++;
	lw_store *store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says("uid 4713") && says("LADEWERK_CACHE"), "%s", reason);
	cr_assert_eq(names(place, "", NULL), 1);
	lw_store_close(store);
}

Test(trust, readonly_is_never_written)
{
	char path[3][PATH_MAX];
	struct lw_store_config config = config_here();

	config.readonly = true;
	lw_store *store = open_with(&config);
	cr_assert_null(lw_store_path(store));
	cr_assert(says("LADEWERK_READONLY"), "%s", reason);
	cr_assert_eq(names(scratch, "", NULL), 0);
	lw_store_close(store);

	make_cache(path);
	unlink(in(keydir, "ok"));
	expect_no_trace(&config);

	config.readonly = false;
	chmod(keydir, 0500);
	expect_no_trace(&config);
	chmod(keydir, 0700);
}

Test(trust, writing_ends_when_privileges_are_dropped)
{
	NEEDS_ROOT();
	lw_store *store = open_here();
	chmod(place, 0755);
	chmod(keydir, 0755);
	cr_assert_eq(append(store, 0), 0);
	cr_assert_eq(seteuid(USER), 0);
	cr_assert_eq(append(store, 1), -EROFS);
	lw_store_started(store);
	cr_assert_eq(access(in(keydir, "ok"), F_OK), -1);
	cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(append(store, 1), 0);
	lw_store_close(store);
}

/* ---- files ---- */

Test(files, newest_first)
{
	lw_store *store = open_here();

	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(append_stamped(store, 7, 100 + i), 0);
	struct load now = load(store);
	cr_assert_eq(now.count, 5);
	for (unsigned i = 0; i < 5; i++) {
		struct load one = { .index = &now.index[i], .count = 1 };
		cr_assert_eq(stamp_of(&one, 7), 104 - i);
	}
	release(&now);
	lw_store_close(store);
}

Test(files, a_clock_set_back_does_not_make_facts_old)
{
	char first[PATH_MAX];
	lw_store *store = open_here();

	cr_assert_eq(append_stamped(store, 7, 100), 0);
	names(keydir, "seg-", first);
	cr_assert_eq(rename(first, in(keydir, "seg-7000000000000000-1-1.lwi")), 0);
	cr_assert_eq(append_stamped(store, 7, 101), 0);
	struct load now = load(store);
	cr_assert_eq(stamp_of(&now, 7), 101);
	release(&now);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(append_stamped(store, 7, 102), 0);
	now = load(store);
	cr_assert_eq(stamp_of(&now, 7), 102);
	release(&now);
	lw_store_close(store);
}

Test(files, nothing_learnt_nothing_written)
{
	lw_store *store = open_here();
	lw_build *build = lw_build_create();

	cr_assert_eq(lw_store_append(store, build), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(names(keydir, "seg-", NULL) + names(keydir, "base-", NULL), 0);
	lw_build_destroy(build);
	lw_store_close(store);
}

Test(files, many_segments_are_compacted)
{
	lw_store *store = open_here();

	for (unsigned n = 0; n < LW_STORE_SEGMENTS; n++)
		cr_assert_eq(append(store, n), 0);
	expect_here(LW_STORE_SEGMENTS, 0, LW_STORE_SEGMENTS);
	cr_assert_eq(append(store, LW_STORE_SEGMENTS), 0);
	expect_here(1, 0, LW_STORE_SEGMENTS + 1);
	cr_assert_eq(names(keydir, "base-", NULL), 1);
	for (unsigned n = LW_STORE_SEGMENTS + 1; n < 40; n++)
		cr_assert_eq(append(store, n), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	expect_here(1, 0, 40);
	lw_store_close(store);
}

Test(files, compaction_keeps_the_newer_fact)
{
	lw_store *store = open_here();

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(append_stamped(store, 7, 100 + i), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(append_stamped(store, 7, 200), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	struct load now = load(store);
	cr_assert_eq(now.count, 1);
	cr_assert_eq(stamp_of(&now, 7), 200);
	release(&now);
	lw_store_close(store);
}

/* So that a segment which appears during the compaction, and is not merged, stays ahead of it. */
Test(files, a_base_is_as_old_as_what_was_merged)
{
	char older[PATH_MAX], base[PATH_MAX];
	const char *newest = in(keydir, "seg-0000000000000456-1-1.lwi");
	lw_store *store = open_here();

	append(store, 0);
	names(keydir, "seg-", older);
	cr_assert_eq(rename(older, in(keydir, "seg-0000000000000123-1-1.lwi")), 0);
	append(store, 1);
	cr_assert_eq(unlink(in(keydir, "seg-0000000000000123-1-1.lwi")), 0);
	names(keydir, "seg-", older);
	cr_assert_eq(rename(older, newest), 0);
	cr_assert_eq(link(newest, in(keydir, "seg-0000000000000123-1-1.lwi")), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(names(keydir, "base-0000000000000456-", base), 1);

	lw_build *build = fact(0, 1);
	uint64_t now = (uint64_t)lw_now_ns();
	cr_assert_eq(lw_store_rebuild(store, build), 0);
	lw_build_destroy(build);
	cr_assert_eq(names(keydir, "base-", base), 1);
	cr_assert(strtoull(strrchr(base, '/') + 6, NULL, 16) >= now, "with facts of its own it is of today");
	lw_store_close(store);
}

Test(files, a_lone_base_is_left_alone)
{
	char before[PATH_MAX], after[PATH_MAX];
	lw_store *store = open_here();

	append(store, 0);
	append(store, 1);
	cr_assert_eq(lw_store_compact(store, true), 0);
	names(keydir, "base-", before);
	cr_assert_eq(lw_store_compact(store, true), 0);
	names(keydir, "base-", after);
	cr_assert_str_eq(before, after);
	lw_store_close(store);
}

Test(files, rebuild_merges_what_is_there)
{
	lw_store *store = open_here();

	append(store, 0);
	append_stamped(store, 1, 100);
	lw_build *build = fact(1, 2);
	cr_assert_eq(lw_store_rebuild(store, build), 0);
	cr_assert_eq(lw_build_file(build, (struct lw_hash128){ 1, 1 }, 1, 1, 0, "x", 1, true), 0);
	cr_assert_eq(lw_store_rebuild(store, build), 0, "the builder is still good for another");
	lw_build_destroy(build);
	expect_here(1, 0, 2);
	lw_store_close(store);
}

/* As if a compaction had died after its rename: merged files are still there. */
Test(files, duplicates_are_harmless)
{
	char kept[3][PATH_MAX], path[3][PATH_MAX];
	lw_store *store = open_here();

	for (unsigned n = 0; n < 3; n++) {
		append_stamped(store, n, n + 1);
		char *last = path[n];
		DIR *dir = opendir(keydir);
		*last = 0;
		for (struct dirent *entry; (entry = readdir(dir)); )
			if (strncmp(entry->d_name, "seg-", 4) == 0 && strcmp(in(keydir, entry->d_name), last) > 0)
				strcpy(last, in(keydir, entry->d_name));
		closedir(dir);
		snprintf(kept[n], PATH_MAX, "%s/%u", scratch, n);
		cr_assert_eq(link(path[n], kept[n]), 0);
	}
	cr_assert_eq(lw_store_compact(store, true), 0);
	for (unsigned n = 0; n < 3; n++)
		cr_assert_eq(rename(kept[n], path[n]), 0);
	expect_here(4, 0, 3);
	cr_assert_eq(lw_store_compact(store, true), 0);
	expect_here(1, 0, 3);
	lw_store_close(store);
}

Test(files, merged_away_during_a_load)
{
	lw_store *other = open_here();
	for (unsigned n = 0; n < 4; n++)
		append(other, n);

	lw_store *store = open_here();			/* has read the names of four segments */
	cr_assert_eq(lw_store_compact(other, true), 0);	/* which are gone now */
	struct load now = load(store);
	cr_assert_eq(now.count, 1);
	cr_assert_eq(now.refused, 0);
	for (unsigned n = 0; n < 4; n++)
		cr_assert_eq(stamp_of(&now, n), n + 1);
	release(&now);
	lw_store_close(store);
	lw_store_close(other);
}

Test(files, open_ones_outlive_their_removal)
{
	lw_store *store = open_here();
	for (unsigned n = 0; n < 4; n++)
		append(store, n);
	struct load old = load(store);
	cr_assert_eq(lw_store_compact(store, true), 0);
	for (unsigned n = 0; n < 4; n++)
		cr_assert_eq(stamp_of(&old, n), n + 1);
	release(&old);
	lw_store_close(store);
}

static void change_bytes(const char *path, off_t at, const void *bytes, size_t size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, bytes, size, at), (ssize_t)size);
	close(fd);
}

static void flip_byte(const char *path, off_t at)
{
	unsigned char byte;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_eq(pread(fd, &byte, 1, at), 1);
	close(fd);
	byte ^= 0xff;
	change_bytes(path, at, &byte, 1);
}

static void write_with_other_key(const char *path)
{
	lw_build *build = fact(9, 9);
	int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	cr_assert_eq(lw_build_write(build, fd, (struct lw_hash128){ 1, 1 }, geteuid(), 1), 0);
	close(fd);
	lw_build_destroy(build);
}

enum damage { EMPTY, SHORT, HALF, LONGER, GARBAGE, MAGIC, FORMAT, HEAD, ROOTS, OTHER_KEY, DAMAGES };

static void damage(const char *path, enum damage how)
{
	static const char zeros[8192];
	struct stat st;
	stat(path, &st);
	switch (how) {
	case EMPTY: cr_assert_eq(truncate(path, 0), 0); break;
	case SHORT: cr_assert_eq(truncate(path, 100), 0); break;
	case HALF: cr_assert_eq(truncate(path, st.st_size / 2), 0); break;
	case LONGER: change_bytes(path, st.st_size, "x", 1); break;
	case GARBAGE: change_bytes(path, 0, zeros, sizeof(zeros)); break;
	case MAGIC: flip_byte(path, 0); break;
	case FORMAT: flip_byte(path, 8); break;
	case HEAD: flip_byte(path, 40); break;
	case ROOTS: flip_byte(path, st.st_size - 1); break;
	case OTHER_KEY: write_with_other_key(path); break;
	case DAMAGES: break;
	}
}

Test(files, damaged_ones_are_skipped_counted_and_replaced)
{
	for (enum damage how = 0; how < DAMAGES; how++) {
		char path[PATH_MAX];
		lw_store *store = open_here();
		append(store, 9);
		cr_assert_eq(names(keydir, "seg-", path), 1);
		damage(path, how);
		append(store, 0);
		lw_store_close(store);

		store = open_here();
		struct load now = load(store);
		cr_expect_eq(now.count, 1, "damage %d: %u files", (int)how, now.count);
		cr_expect_eq(now.refused, 1, "damage %d", (int)how);
		cr_expect(says(strrchr(path, '/') + 1) && says("ladewerk index"), "damage %d: '%s'", (int)how, reason);
		cr_expect_eq(stamp_of(&now, 0), 1, "damage %d", (int)how);
		release(&now);
		/* whoever has met a damaged file cleans up with its next append */
		cr_expect_eq(append(store, 1), 0);
		lw_store_close(store);
		expect_here(1, 0, 2);
		teardown();
		cr_assert_eq(mkdir(scratch, 0755), 0);
	}
}

Test(files, names_of_others_are_left_alone)
{
	static const char *const other[] = {
		"seg-0123456789abcdef-1-1.lwi.bak", "seg-123-1-1.lwi", "base-0123456789abcdef.lwi", "seg-0123456789ABCDEF-1-1.lwi",
		"seg-0123456789abcdef-0-1.lwi", "seg-0123456789abcdef--1-1.lwi", "seg-0123456789abcdef-1- 1.lwi", "notes.txt", "start-", "start-x-1-1",
		"bass-0123456789abcdef-1-1.lwi", "-0123456789abcdef-1-1.lwi",
		"a-very-long-name-that-does-not-fit-into-anything-that-we-would-ever-write-into-this-directory",
	};
	lw_store *store = open_here();

	for (unsigned i = 0; i < sizeof(other) / sizeof(*other); i++)
		touch(in(keydir, other[i]), 100000);
	append(store, 0);
	append(store, 1);
	expect_here(2, 0, 2);
	cr_assert_eq(lw_store_compact(store, true), 0);
	expect_here(1, 0, 2);
	for (unsigned i = 0; i < sizeof(other) / sizeof(*other); i++)
		cr_expect_eq(access(in(keydir, other[i]), F_OK), 0, "%s", other[i]);
	lw_store_close(store);
}

Test(files, a_held_lock_stops_compaction_and_nothing_else)
{
	lw_store *store = open_here();
	int lock = open(in(keydir, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	unsigned n = 0;

	cr_assert_eq(flock(lock, LOCK_EX), 0);
	cr_assert_eq(lw_store_compact(store, false), -EWOULDBLOCK);
	for (; n < LW_STORE_SEGMENTS_MAX; n++)
		cr_assert_eq(append(store, n), 0, "%u", n);
	cr_assert_eq(append(store, n), -EBUSY);
	expect_here(n, 0, n);
	flock(lock, LOCK_UN);
	close(lock);
	cr_assert_eq(lw_store_compact(store, false), 0);
	cr_assert_eq(append(store, n), 0);
	expect_here(2, 0, n + 1);
	lw_store_close(store);
}

static int held_lock;
static volatile sig_atomic_t alarms;

/* Whoever does not give up gets the lock in the end. */
static void on_alarm(int number)
{
	if (++alarms % 20 == 0)
		flock(held_lock, LOCK_UN);
}

Test(files, a_signal_ends_the_waiting_for_the_lock)
{
	const struct itimerval often = { .it_interval.tv_usec = 50000, .it_value.tv_usec = 50000 };
	lw_store *store = open_here();
	lw_build *build = fact(2, 3);

	append(store, 0);
	append(store, 1);
	held_lock = open(in(keydir, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	cr_assert_eq(flock(held_lock, LOCK_EX), 0);
	cr_expect_eq(lw_store_compact(store, true), -EINTR);
	cr_expect_eq(flock(held_lock, LOCK_EX), 0);
	cr_expect_eq(lw_store_rebuild(store, build), -EINTR);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	expect_here(2, 0, 2);
	close(held_lock);
	cr_expect_eq(lw_store_rebuild(store, build), 0, "and may be called again");
	expect_here(1, 0, 3);
	lw_build_destroy(build);
	lw_store_close(store);
}

static pid_t dead_pid(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return pid;
}

Test(files, temporary_ones_of_the_dead_are_collected)
{
	const struct { pid_t pid; time_t age; bool kept; } row[] = {
		{ dead_pid(), 2 * 3600, false },
		{ dead_pid(), 60, true },
		{ getpid(), 23 * 3600, true },
		{ getpid(), 25 * 3600, false },	/* small pids are always somebody's */
		{ dead_pid(), -7200, true },
	};
	enum { ROWS = sizeof(row) / sizeof(*row) };
	lw_store *store = open_here();
	char path[ROWS][PATH_MAX];

	for (unsigned i = 0; i < ROWS; i++) {
		snprintf(path[i], PATH_MAX, "%s/.tmp-seg-000000000000000%u-%d-%u.lwi", keydir, i, (int)row[i].pid, i);
		touch(path[i], row[i].age);
	}
	cr_assert_eq(append(store, 0), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	for (unsigned i = 0; i < ROWS; i++)
		cr_expect_eq(access(path[i], F_OK) == 0, row[i].kept, "row %u", i);
	expect_here(1, 0, 1);
	lw_store_close(store);
}

Test(files, a_full_disk_changes_nothing)
{
	NEEDS_ROOT();
	SKIP_IF(small_disk(scratch, "size=128k,mode=0755"), "cannot mount in a namespace of our own");
	lw_store *store = open_here();
	lw_store_started(store);
	unsigned stored = 0, before;
	int err = 0;

	/* segments until the disk is full */
	static char code[20000];
	for (; !err; stored += !err) {
		before = names(keydir, "", NULL);
		lw_build *build = fact(stored, stored + 1);
		cr_assert_eq(lw_build_file(build, (struct lw_hash128){ 1, stored }, 1, 1, 0, code, sizeof(code), true), 0);
		err = lw_store_append(store, build);
		lw_build_destroy(build);
	}
	cr_assert_eq(err, -ENOSPC, "%d", err);
	cr_assert(stored > 1);
	cr_assert_eq(names(keydir, "", NULL), before, "a temporary file is left");
	expect_here(stored, 0, stored);

	/* no room for a base beside the segments */
	cr_assert_eq(lw_store_compact(store, true), -ENOSPC);
	cr_assert_eq(names(keydir, ".tmp", NULL), 0);
	expect_here(stored, 0, stored);
	lw_store_close(store);
	umount2(scratch, MNT_DETACH);
}

/* ---- tiers ---- */

/* Fact N with SIZE bytes of code. */
static int append_large(lw_store *store, unsigned n, size_t size)
{
	void *code = calloc(1, size);
	lw_build *build = lw_build_create();
	cr_assert_eq(lw_build_file(build, lw_hash128(&n, sizeof(n)), n + 1, n, 0, code, size, false), 0);
	int err = lw_store_append(store, build);
	lw_build_destroy(build);
	free(code);
	return err;
}

/* Segments of KIB each, oldest first; 0 ends the list. Facts 0 .. */
static unsigned append_sizes(lw_store *store, const unsigned *kib)
{
	unsigned n = 0;
	for (; kib[n]; n++)
		cr_assert_eq(append_large(store, n, kib[n] * 1024), 0);
	return n;
}

static void empty_cache(void)
{
	teardown();
	cr_assert_eq(mkdir(scratch, 0755), 0);
}

Test(tiers, newest_are_merged_as_far_as_it_pays)
{
	static const struct { unsigned kib[6], left; bool base; } row[] = {
		{ { 100, 100, 10 }, 1, true },
		{ { 900, 10 }, 1, true },
		{ { 2000, 10 }, 2, false },		/* a few bytes learnt: nothing is copied */
		{ { 2000, 100, 10 }, 2, false },
		{ { 2000, 500, 10 }, 1, true },
		{ { 20000, 3000, 900, 10 }, 2, false },
		{ { 14000, 3000, 900, 10 }, 1, true },
		{ { 10, 2000, 10 }, 3, false },		/* the run ends at the first that is too large */
		{ { 10, 2000, 10, 10 }, 3, false },
		{ { 10, 10, 3000 }, 1, true },
		{ { 5000 }, 1, false },
	};
	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		lw_store *store = open_here();
		unsigned facts = append_sizes(store, row[i].kib);
		cr_assert_eq(lw_store_compact(store, true), 0);
		cr_expect_eq(names(keydir, "base-", NULL), row[i].base, "row %u", i);
		cr_expect_eq(names(keydir, "seg-", NULL), row[i].left - row[i].base, "row %u", i);
		expect_here(row[i].left, 0, facts);
		lw_store_close(store);
		empty_cache();
	}
}

static ino_t inode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) ? 0 : st.st_ino;
}

/* One small fact after another, compacted each time as processes do at their end. The large file must never be written again. */
Test(tiers, learning_a_little_costs_a_little)
{
	char base[PATH_MAX];
	lw_store *store = open_here();
	unsigned n = 0;

	cr_assert_eq(append_large(store, n++, 30 << 20), 0);
	cr_assert_eq(names(keydir, "seg-", base), 1);
	ino_t inode = inode_of(base);
	for (; n < 100; n++) {
		cr_assert_eq(append(store, n), 0);
		cr_assert_eq(lw_store_compact(store, false), 0);
		cr_assert(names(keydir, "seg-", NULL) <= 3);
	}
	cr_assert_eq(inode_of(base), inode);
	expect_here(2, 0, n);
	lw_store_close(store);
}

/* What is merged has the place of the newest, the rest stays behind it, and what comes later before it. */
Test(tiers, newer_facts_stay_ahead)
{
	lw_store *store = open_here();

	cr_assert_eq(append_stamped(store, 7, 100), 0);
	cr_assert_eq(append_large(store, 8, 3 << 20), 0);
	cr_assert_eq(append_stamped(store, 7, 101), 0);
	cr_assert_eq(append_stamped(store, 7, 102), 0);
	cr_assert_eq(append_stamped(store, 9, 200), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	struct load now = load(store);
	cr_assert_eq(now.count, 3);
	cr_assert_eq(stamp_of(&now, 7), 102);
	release(&now);
	cr_assert_eq(append_stamped(store, 7, 103), 0);
	now = load(store);
	cr_assert_eq(now.count, 4);
	cr_assert_eq(stamp_of(&now, 7), 103);
	release(&now);
	lw_store_close(store);
}

Test(tiers, damage_the_bound_and_a_rebuild_merge_everything)
{
	static const unsigned kib[] = { 3000, 10, 0 };

	for (unsigned how = 0; how < 3; how++) {
		struct lw_store_config config = config_here();
		config.max_bytes = how == 1 ? 3000 * 1024 + 20000 : 0;
		lw_store *store = open_with(&config);
		append_sizes(store, kib);
		if (how == 0)
			touch(in(keydir, "seg-0000000000000001-1-1.lwi"), 0);
		struct load now = load(store);
		release(&now);
		lw_build *build = fact(2, 3);
		cr_assert_eq(how == 2 ? lw_store_rebuild(store, build) : lw_store_compact(store, true), 0);
		lw_build_destroy(build);
		lw_store_close(store);
		cr_expect_eq(names(keydir, "base-", NULL), 1, "%u", how);
		cr_expect_eq(names(keydir, "seg-", NULL), 0, "%u", how);
		empty_cache();
	}
}

/* The path of the newest file. */
static void newest(char *path)
{
	struct lw_keydir list;
	int dir = open(keydir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(lw_keydir_read(dir, &list), 0);
	strcpy(path, in(keydir, list.entry[0].name));
	lw_keydir_clear(&list);
	close(dir);
}

/* The first file holds fact 7 as it was, then comes a large one that ends the run; the newest says otherwise, but is damaged where it does. */
Test(tiers, what_a_damaged_fact_has_replaced_does_not_come_back)
{
	for (unsigned damaged = 0; damaged < 2; damaged++) {
		char path[PATH_MAX];
		lw_store *store = open_here();
		cr_assert_eq(append_stamped(store, 7, 100), 0);
		cr_assert_eq(append_large(store, 8, 3 << 20), 0);
		cr_assert_eq(append_stamped(store, 9, 1), 0);
		if (damaged) {
			newest(path);
			flip_byte(path, LW_BLOCK); /* its first section: of the fact nothing is left */
		}
		cr_assert_eq(append_stamped(store, 10, 1), 0);
		cr_assert_eq(lw_store_compact(store, true), 0);
		struct load now = load(store);
		cr_expect_eq(now.count, damaged ? 1 : 3);
		cr_expect_eq(stamp_of(&now, 7), damaged ? 0 : 100);
		cr_expect_eq(stamp_of(&now, 10), 1);
		release(&now);
		lw_store_close(store);
		empty_cache();
	}
}

static void append_named(lw_store *store, unsigned name, uint64_t stamp, size_t len)
{
	lw_build *build = lw_build_create();
	char *code = calloc(1, len + 1), *more = calloc(1, len + 1);
	cr_assert_eq(lw_build_file(build, (struct lw_hash128){ name, 77 }, stamp, stamp, 0, code, 10, true), 0);
	cr_assert_eq(lw_build_file(build, (struct lw_hash128){ 99, stamp }, 1, 1, 0, more, len, true), 0);
	cr_assert_eq(lw_store_append(store, build), 0);
	lw_build_destroy(build);
	free(code);
	free(more);
}

/* The stamp in the newest fact of NAME; 0: none. */
static uint64_t stamp_named(lw_store *store, unsigned name)
{
	struct load now = load(store);
	uint64_t stamp = 0;
	for (unsigned i = 0; !stamp && i < now.count; i++) {
		const struct lw_file_record *record;
		if (lw_index_find_file(now.index[i], (struct lw_hash128){ name, 77 }, &record) == LW_OK)
			stamp = record->stamp;
	}
	release(&now);
	return stamp;
}

/* `frozen` believes the newest fact: one that is forgotten or cannot be read must not bring back what it replaced. */
Test(tiers, no_older_fact_wins)
{
	struct lw_store_config config = config_here();
	config.max_bytes = 400000;
	lw_store *store = open_with(&config);
	append_named(store, 1, 1, 5000);
	append_named(store, 1, 2, 300000);
	append_named(store, 2, 1, 250000);
	cr_assert_eq(stamp_named(store, 1), 2);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_expect_eq(stamp_named(store, 1), 0, "no room for the newer one: the older one goes, too");
	cr_expect_eq(stamp_named(store, 2), 1);
	lw_store_close(store);
	empty_cache();

	store = open_here();
	append_named(store, 1, 1, 5000);
	append_named(store, 1, 2, 5000);
	struct load now = load(store);
	release(&now);
	char newest[PATH_MAX] = "";
	DIR *dir = opendir(keydir);
	for (struct dirent *d; (d = readdir(dir));)
		if (strncmp(d->d_name, "seg-", 4) == 0 && strcmp(d->d_name, newest) > 0)
			strcpy(newest, d->d_name);
	closedir(dir);
	append_named(store, 2, 1, 5000);
	cr_assert_eq(chmod(in(keydir, newest), 0660), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(chmod(in(keydir, newest), 0600), 0);
	cr_expect_eq(stamp_named(store, 1), 2, "it could not be read for a while");
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_expect_eq(stamp_named(store, 1), 2);
	cr_expect_eq(stamp_named(store, 2), 1);
	lw_store_close(store);
}

/* Files that never merge are no reason to look at all the other keys, at the end of each process. */
Test(tiers, nothing_to_merge_nothing_done)
{
	static const unsigned kib[] = { 2000, 10, 0 };
	struct lw_store_config config = config_here();
	config.max_bytes = 4 << 20;
	lw_store *store = open_with(&config);

	append_sizes(store, kib);
	char other[PATH_MAX];
	snprintf(other, sizeof(other), "%s/%032x", place, 1);
	cr_assert_eq(mkdir(other, 0700), 0);
	touch(in(other, "base-0000000000000001-1-1.lwi"), 1000);
	cr_assert_eq(truncate(in(other, "base-0000000000000001-1-1.lwi"), 4 << 20), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(access(other, F_OK), 0);
	append(store, 2);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(access(other, F_OK), -1, "the control: after a merge it is collected");
	lw_store_close(store);
}

/* ---- where files cannot be mapped ---- */

enum { READ_WHOLE_MAX = 32 << 20 };

Test(remote, what_is_too_large_is_skipped_and_kept)
{
	const char *large = in(keydir, "seg-0000000000000001-1-1.lwi");
	lw_store *store = open_here();

	remote = true;
	append(store, 0);
	touch(large, 0);
	cr_assert_eq(truncate(large, READ_WHOLE_MAX + 1), 0);
	struct load now = load(store);
	cr_assert_eq(now.count, 1);
	cr_assert_eq(now.refused, 1);
	cr_assert(says("network") && says("LADEWERK_CACHE") && !says("ladewerk index"), "%s", reason);
	release(&now);
	append(store, 1);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(access(large, F_OK), 0);
	expect_here(1, 1, 2);
	cr_assert_eq(names(keydir, "base-", NULL), 0, "older facts remain");
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(names(keydir, "base-", NULL), 0, "it is no reason to merge again and again");
	lw_build *build = fact(2, 3);
	cr_assert_eq(lw_store_rebuild(store, build), 0);
	lw_build_destroy(build);
	cr_assert_eq(access(large, F_OK), 0);

	remote = false;		/* the control: what can be read, and makes no sense, is removed */
	now = load(store);
	cr_assert_eq(now.refused, 1);
	release(&now);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_eq(access(large, F_OK), -1);
	expect_here(1, 0, 3);
	lw_store_close(store);
}

Test(remote, nothing_is_written_that_would_not_be_read)
{
	lw_store *store = open_here();

	remote = true;
	append(store, 0);
	cr_assert_eq(append_large(store, 1, READ_WHOLE_MAX), -EFBIG);
	lw_build *build = lw_build_create();
	void *code = calloc(1, READ_WHOLE_MAX);
	cr_assert_eq(lw_build_file(build, (struct lw_hash128){ 1, 1 }, 1, 1, 0, code, READ_WHOLE_MAX, false), 0);
	cr_assert_eq(lw_store_rebuild(store, build), -EFBIG);
	lw_build_destroy(build);
	free(code);
	expect_here(1, 0, 1);

	/* nor by a compaction: the oldest facts are forgotten */
	empty_cache();
	lw_store_close(store);
	store = open_here();
	for (unsigned n = 0; n < 4; n++)
		cr_assert_eq(append_large(store, n, 10 << 20), 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	struct load now = load(store);
	cr_assert_eq(now.count, 1);
	cr_assert_eq(stamp_of(&now, 0), 0);
	cr_assert_eq(stamp_of(&now, 1), 2);
	cr_assert_eq(stamp_of(&now, 3), 4);
	release(&now);
	lw_store_close(store);
}

/* ---- crash marks ---- */

/* In a child: open, and die without a word. */
static int killed_start(void)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		struct lw_store_config config = config_here();
		lw_store *store;
		lw_store_open(&config, &store, reason);
		raise(SIGKILL);
	}
	int status;
	waitpid(pid, &status, 0);
	return status;
}

static int try_open(void)
{
	struct lw_store_config config = config_here();
	lw_store *store;
	int err = lw_store_open(&config, &store, reason);
	lw_store_close(store);
	return err;
}

Test(marks, a_start_that_died_stops_the_next_until_reset)
{
	struct lw_store_config config = config_here();

	killed_start();
	cr_assert_eq(names(keydir, "start-", NULL), 1);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(try_open(), -EHOSTDOWN);
		cr_assert(says("ladewerk doctor --reset"), "%s", reason);
	}
	cr_assert_eq(names(keydir, "start-", NULL), 1);

	config.key.lo++;		/* another key is not concerned */
	lw_store *store = open_with(&config);
	cr_assert(lw_store_path(store));
	lw_store_close(store);
	config.key.lo--;

	cr_assert_eq(lw_store_reset(&config, reason), 1);
	cr_assert_eq(lw_store_reset(&config, reason), 0);
	cr_assert_str_empty(reason);
	cr_assert_eq(try_open(), 0);
}

Test(marks, success_ends_the_protocol)
{
	lw_store *store = open_here();
	cr_assert_eq(names(keydir, "start-", NULL), 1);
	lw_store_started(store);
	cr_assert_eq(names(keydir, "start-", NULL), 0);
	cr_assert_eq(access(in(keydir, "ok"), F_OK), 0);
	lw_store_close(store);

	killed_start();
	cr_assert_eq(names(keydir, "start-", NULL), 0, "with `ok` there are no marks");
	cr_assert_eq(try_open(), 0);
}

Test(marks, an_orderly_end_is_no_crash)
{
	lw_store_close(open_here());
	cr_assert_eq(names(keydir, "start-", NULL), 0);
	cr_assert_eq(access(in(keydir, "ok"), F_OK), -1, "but no success either");
	cr_assert_eq(try_open(), 0);
}

Test(marks, living_starts_do_not_stop_each_other)
{
	lw_store *first = open_here(), *second = open_here();
	cr_assert_eq(names(keydir, "start-", NULL), 1, "one process, one mark");
	int alive[2];
	cr_assert_eq(pipe(alive), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(alive[0]);
		struct lw_store_config config = config_here();
		lw_store *store;
		int err = lw_store_open(&config, &store, reason);
		if (write(alive[1], &err, sizeof(err)) < 0)
			_exit(1);
		alarm(20);	/* should the test end early */
		pause();
	}
	int err;
	cr_assert_eq(read(alive[0], &err, sizeof(err)), (ssize_t)sizeof(err));
	cr_assert_eq(err, 0);
	cr_assert_eq(names(keydir, "start-", NULL), 2);
	cr_assert_eq(try_open(), 0);
	/* try_open() has removed this process's mark; the child's is still there */
	cr_assert_eq(names(keydir, "start-", NULL), 1);

	kill(pid, SIGKILL);
	siginfo_t info;
	cr_assert_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	cr_assert_eq(try_open(), -EHOSTDOWN, "a zombie is dead");
	waitpid(pid, NULL, 0);
	cr_assert_eq(try_open(), -EHOSTDOWN);
	lw_store_started(first);
	cr_assert_eq(try_open(), 0, "another start has shown that it works");
	lw_store_close(first);
	lw_store_close(second);
}

Test(marks, forked_child_leaves_the_mark_to_its_parent)
{
	lw_store *store = open_here();
	pid_t pid = fork();
	if (pid == 0) {
		lw_store_forked(store);
		lw_store_started(store);
		lw_store_close(store);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	cr_assert_eq(names(keydir, "start-", NULL), 1);
	cr_assert_eq(access(in(keydir, "ok"), F_OK), -1);
	lw_store_close(store);
}

/* Marks by name: "start-<pid>-<start time>-<pid namespace>". */
Test(marks, are_judged_by_process_start_and_namespace)
{
	char own[LW_MARK_NAME], name[LW_MARK_NAME];
	int pid;
	unsigned long long start, space;

	lw_mark_name(own);
	cr_assert_eq(sscanf(own, "start-%d-%llu-%llu", &pid, &start, &space), 3);
	cr_assert_eq(pid, getpid());
	cr_assert(start > 0 && space > 0);
	const struct { int pid; unsigned long long start, space; time_t age; bool dead; } row[] = {
		{ pid, start, space, 0, false },
		{ pid, start, space, 10 * LW_MARK_DAY, false },
		{ pid, start - 1, space, 0, true },		/* the pid has been used again */
		{ pid, 0, space, 0, false },			/* left without /proc: the pid alone decides */
		{ dead_pid(), start, space, 0, true },
		{ dead_pid(), 0, space, 0, true },
		{ pid, start, space - 1, 0, false },		/* another namespace: not ours to judge ... */
		{ dead_pid(), 5, space - 1, 0, false },
		{ dead_pid(), 5, space - 1, LW_MARK_DAY - 100, false },
		{ dead_pid(), 5, space - 1, LW_MARK_DAY + 100, true },	/* ... before a day is over */
		{ dead_pid(), 5, space - 1, -LW_MARK_DAY * 2, false },
	};
	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		lw_store_close(open_here());
		snprintf(name, sizeof(name), "start-%d-%llu-%llu", row[i].pid, row[i].start, row[i].space);
		touch(in(keydir, name), row[i].age);
		cr_expect_eq(try_open(), row[i].dead ? -EHOSTDOWN : 0, "row %u", i);
		unlink(in(keydir, name));
	}
}

/* It was listed, its process has ended in an orderly way, and then we look whether that lives. */
Test(marks, a_mark_that_was_removed_is_nobodys)
{
	char own[LW_MARK_NAME], name[LW_MARK_NAME];
	int pid;
	unsigned long long start, space;

	lw_mark_name(own);
	cr_assert_eq(sscanf(own, "start-%d-%llu-%llu", &pid, &start, &space), 3);
	snprintf(name, sizeof(name), "start-%d-%llu-%llu", dead_pid(), start, space);
	lw_store_close(open_here());
	int dir = open(keydir, O_RDONLY | O_DIRECTORY);
	cr_assert(!lw_mark_dead(dir, name));
	touch(in(keydir, name), 0);
	cr_assert(lw_mark_dead(dir, name), "the control: it is still there");
	close(dir);
}

Test(marks, ok_tells_the_last_use_once_a_day)
{
	const struct { time_t age; bool touched; } row[] = { { 3600, false }, { 20 * 3600, false }, { 25 * 3600, true }, { 400 * 86400, true } };
	lw_store *store = open_here();
	lw_store_started(store);
	lw_store_close(store);

	for (unsigned i = 0; i < sizeof(row) / sizeof(*row); i++) {
		struct stat st;
		touch(in(keydir, "ok"), row[i].age);
		store = open_here();
		lw_store_started(store);
		lw_store_close(store);
		stat(in(keydir, "ok"), &st);
		cr_expect_eq(time(NULL) - st.st_mtime < 60, row[i].touched, "row %u", i);
	}
}

/* ---- bounds ---- */

/* Key number N with a file of SIZE bytes, last used AGE seconds ago. */
static char *make_key(unsigned n, off_t size, time_t age)
{
	static char path[10][PATH_MAX];
	snprintf(path[n], PATH_MAX, "%s/%032x", place, n);
	cr_assert_eq(mkdir(path[n], 0700), 0);
	touch(in(path[n], "base-0000000000000001-1-1.lwi"), age);
	cr_assert_eq(truncate(in(path[n], "base-0000000000000001-1-1.lwi"), size), 0);
	touch(in(path[n], "ok"), age);
	return path[n];
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

Test(bounds, keys_unused_for_longest_go_first)
{
	struct lw_store_config config = config_here();
	config.max_bytes = 250000;

	mkdir(place, 0700);
	char *old = make_key(1, 100000, 3000), *oldest = make_key(2, 100000, 4000), *young = make_key(3, 100000, 100);
	mkdir(in(place, "not-a-key"), 0700);
	touch(in(place, "not-a-key/file"), 99999);
	lw_store_close(open_with(&config));
	cr_assert_not(exists(oldest));
	cr_assert(exists(old));
	cr_assert(exists(young));
	cr_assert(exists(keydir));
	cr_assert(exists(in(place, "not-a-key/file")));

	/* below the bound nobody evicts anybody */
	lw_store *store = open_with(&config);
	append(store, 0);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert(exists(old));

	/* growing brings a compaction, and that collects */
	cr_assert_eq(truncate(in(young, "base-0000000000000001-1-1.lwi"), 200000), 0);
	append(store, 1);
	cr_assert_eq(lw_store_compact(store, true), 0);
	cr_assert_not(exists(old));
	cr_assert(exists(young));
	lw_store_close(store);
}

Test(bounds, a_key_at_work_is_kept)
{
	struct lw_store_config config = config_here();
	config.max_bytes = 1;

	mkdir(place, 0700);
	char *busy = make_key(1, 100000, 4000), *idle = make_key(2, 100000, 3000);
	int lock = open(in(busy, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(flock(lock, LOCK_EX), 0);
	lw_store_close(open_with(&config));
	cr_assert(exists(busy));
	cr_assert_not(exists(idle));
	cr_assert(exists(keydir), "our own");
	close(lock);
}

Test(bounds, keys_of_others_are_kept)
{
	NEEDS_ROOT();
	struct lw_store_config config = config_here();
	config.max_bytes = 1;
	mkdir(place, 0700);
	char *theirs = make_key(1, 100000, 4000);
	cr_assert_eq(chown(theirs, USER, USER), 0);
	cr_assert_eq(symlink(scratch, in(place, "0000000000000000000000000000000f")), 0);
	lw_store_close(open_with(&config));
	cr_assert(exists(theirs));
	cr_assert(exists(in(place, "0000000000000000000000000000000f")));
}

Test(bounds, a_key_that_is_removed_while_open_is_no_disaster)
{
	char path[3][PATH_MAX];
	make_cache(path);
	lw_store *store = open_here();
	struct load now = load(store);
	nftw(keydir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	cr_assert_eq(stamp_of(&now, 0), 1);
	cr_assert_eq(append(store, 1), -ENOENT);
	cr_assert_eq(lw_store_compact(store, true), -ENOENT);
	lw_store_started(store);
	release(&now);
	lw_store_close(store);
	expect_here(0, 0, 0);
}

Test(bounds, a_key_too_large_forgets_its_oldest_facts)
{
	static char code[100000];
	struct lw_store_config config = config_here();
	config.max_bytes = 350000;
	lw_store *store = open_with(&config);

	for (unsigned n = 0; n < 5; n++) {
		lw_build *build = lw_build_create();
		lw_build_file(build, lw_hash128(&n, sizeof(n)), n + 1, 1, 0, code, sizeof(code), true);
		cr_assert_eq(lw_store_append(store, build), 0);
		lw_build_destroy(build);
	}
	cr_assert_eq(lw_store_compact(store, true), 0);
	struct load now = load(store);
	cr_assert_eq(now.count, 1);
	cr_assert(lw_index_head(now.index[0])->file_size <= config.max_bytes);
	cr_assert_eq(stamp_of(&now, 4), 5);
	cr_assert_eq(stamp_of(&now, 3), 4);
	cr_assert_eq(stamp_of(&now, 0), 0);
	release(&now);
	lw_store_close(store);
}
