/* SPDX-License-Identifier: MIT */
/*
 * facts: indexes in memory for the tests of what uses them, and what FileFinder and PathFinder would find, worked out the plain way.
 */
#ifndef LW_TEST_FACTS_H
#define LW_TEST_FACTS_H

#include "build.h"
#include "resolve.h"
#include "tree.h"
#include "view.h"

#include <sys/mman.h>

enum { FACTS_USER = 4711, FACTS_STRANGER = 4712 };

static const struct lw_hash128 facts_key = { 1, 2 };

static inline struct lw_suffixes facts_suffixes(void)
{
	struct lw_suffixes suffixes;
	TREE_CHECK(lw_suffixes_init(&suffixes, (const char *const[]){ ".so" }, 1) == 0);
	return suffixes;
}

/* What was written before is not racy afterwards. */
static inline void facts_age(void)
{
	usleep(40 * 1000);
}

/* An index over memory that the test may damage. */
struct facts {
	unsigned char *data;
	size_t size;
	lw_index *index;
	struct lw_snapshot snapshot;	/* of this index alone */
};

/* BUILD, as written by UID. Destroys BUILD. */
static inline void facts_open(struct facts *facts, lw_build *build, uint32_t uid)
{
	int fd = memfd_create("facts", MFD_CLOEXEC);
	TREE_CHECK(fd >= 0 && lw_build_write(build, fd, facts_key, uid, 1) == 0);
	lw_build_destroy(build);
	facts->size = (size_t)lseek(fd, 0, SEEK_END);
	facts->data = malloc(facts->size);
	TREE_CHECK(pread(fd, facts->data, facts->size, 0) == (ssize_t)facts->size);
	close(fd);
	TREE_CHECK(lw_index_open_memory(facts->data, facts->size, &facts_key, &facts->index, NULL) == 0);
	facts->snapshot = (struct lw_snapshot){ .count = 1, .index = &facts->index, .generation = 1 };
}

static inline void facts_close(struct facts *facts)
{
	lw_index_close(facts->index);
	free(facts->data);
}

/* Damage the blocks of SECTION but for those that hold one of COUNT things of up to 256 bytes at KEEP (what was verified already). */
static inline void facts_damage(struct facts *facts, enum lw_section section, const uint32_t *keep, unsigned count)
{
	const struct lw_index_head *head = lw_index_head(facts->index);
	for (uint64_t at = 0; at < head->section[section].size; at += LW_BLOCK) {
		bool kept = false;
		for (unsigned i = 0; i < count; i++)
			kept |= keep[i] < at + LW_BLOCK && keep[i] + 256 > at;
		if (!kept)
			facts->data[head->section[section].offset + at] ^= 0x40;
	}
}

/* Add to BUILD what DIRS knows. */
static inline void facts_of(lw_build *build, const struct lw_dirs *dirs)
{
	for (uint32_t i = 0; i < dirs->capacity; i++)
		for (const struct lw_dir *dir = dirs->table[i]; dir; dir = dir->next)
			if (dir->known && !dir->indexed.index && !dir->racy)
				TREE_CHECK(lw_build_dir(build, dir->path, dir->len, dir->stamp, dir->flags, dir->listing) == 0);
}

static inline struct lw_dir *facts_dir(struct lw_dirs *dirs, const char *path)
{
	struct lw_dir *dir = lw_dirs_get(dirs, path, strlen(path));
	TREE_CHECK(dir);
	return dir;
}

/* Good for the next 63 calls. */
static inline const char *facts_join(const char *dir, const char *name)
{
	static char path[64][PATH_MAX];
	static unsigned next;
	char *out = path[next++ % 64];
	size_t len = strlen(dir);
	TREE_CHECK(len + strlen(name) + 2 <= PATH_MAX);
	memmove(out, dir, len);
	out[len] = '/';
	strcpy(out + len + 1, name);
	return out;
}

static inline void facts_write(const char *dir, const char *name)
{
	tree_write(AT_FDCWD, facts_join(dir, name), "pass\n");
}

static inline const char *facts_mkdir(const char *dir, const char *name)
{
	const char *path = facts_join(dir, name);
	TREE_CHECK(mkdir(path, 0755) == 0);
	return path;
}

/* --- a daemon that lends what FACTS holds --- */

struct facts_lender {
	lw_fresh fresh;
	const struct facts *facts;
	const char *changed;		/* to be told at the next check; NULL: nothing */
	uint64_t told;			/* hash of what was */
	bool arms;			/* looks after what it is asked to, */
	const char *only;		/* if it is this; NULL: whatever it is */
	bool busy;			/* says nothing at the next checks */
};

static inline bool facts_check(lw_fresh *fresh, lw_fresh_sink *sink, void *arg)
{
	struct facts_lender *lender = (struct facts_lender *)fresh;
	if (lender->busy)
		return false;
	if (lender->changed) {
		lender->told = lw_hash64(lender->changed, strlen(lender->changed));
		sink(arg, &(struct lw_change){ .kind = LW_CHANGE_PATH, .hash = lender->told });
	}
	lender->changed = NULL;
	return true;
}

static inline enum lw_armed facts_arm(lw_fresh *fresh, const char *path, size_t len)
{
	const struct facts_lender *lender = (const struct facts_lender *)fresh;
	return lender->arms && (!lender->only || (strlen(lender->only) == len && memcmp(lender->only, path, len) == 0)) ? LW_ARMED : LW_ARMED_NOT;
}

static inline bool facts_lend(lw_fresh *fresh, const char *path, size_t len, struct lw_index_dir *out)
{
	const struct facts_lender *lender = (const struct facts_lender *)fresh;
	return lender->told != lw_hash64(path, len) && lw_index_find_dir(lender->facts->index, path, len, out) == LW_OK;
}

static const struct lw_fresh_ops facts_lender_ops = { .check = facts_check, .arm = facts_arm, .dir = facts_lend };

static inline struct facts_lender facts_lender(const struct facts *facts)
{
	return (struct facts_lender){ .fresh = { .ops = &facts_lender_ops }, .facts = facts, .arms = true };
}

/* --- FileFinder and PathFinder --- */

struct naive {
	enum lw_hit_kind kind;
	unsigned suffix;
	uint32_t entry;
	char path[PATH_MAX];
};

static inline bool naive_is(const char *path, mode_t type)
{
	struct stat st;
	return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

/* Whether DIR can be listed and lists NAME. */
static inline bool naive_lists(const char *dir, const char *name)
{
	struct stat st;
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return false;
	close(fd);
	/* Being listed needs no permission to search: by hand where lstat() may not tell. */
	if (lstat(facts_join(dir, name), &st) == 0)
		return true;
	return errno == EACCES;
}

/* The first of DIR/NAME<suffix> that is a file, and is LISTED if that is asked. */
static inline bool naive_file(const struct lw_suffixes *suffixes, const char *dir, const char *name, bool listed, struct naive *out)
{
	for (unsigned i = 0; i < suffixes->count; i++) {
		char full[NAME_MAX + 1];
		TREE_CHECK(snprintf(full, sizeof full, "%s%s", name, suffixes->item[i].text) < (int)sizeof full);
		strcpy(out->path, facts_join(dir, full));
		if ((!listed || naive_lists(dir, full)) && naive_is(out->path, S_IFREG)) {
			out->suffix = i;
			return true;
		}
	}
	return false;
}

static inline void naive_find(const struct lw_suffixes *suffixes, const char *dir, const char *name, struct naive *out)
{
	const char *base = facts_join(dir, name);
	bool portion = false;
	memset(out, 0, sizeof *out);
	if (naive_lists(dir, name)) {
		out->kind = LW_HIT_PACKAGE;
		if (naive_file(suffixes, base, "__init__", false, out))
			return;
		portion = naive_is(base, S_IFDIR);
	}
	out->kind = LW_HIT_MODULE;
	if (naive_file(suffixes, dir, name, true, out))
		return;
	memset(out, 0, sizeof *out);
	out->kind = portion ? LW_HIT_PORTION : LW_HIT_NONE;
	if (portion)
		strcpy(out->path, base);
}

static inline void naive_search(const struct lw_suffixes *suffixes, const struct lw_path_entry *entries, uint32_t count, bool hooks,
		uint32_t start, const char *name, struct naive *out)
{
	for (uint32_t i = start; i < count; i++) {
		struct stat st;
		int error = !entries[i].path ? ENOTDIR : stat(entries[i].path, &st) ? errno : 0;
		*out = (struct naive){ .kind = LW_HIT_FOREIGN, .entry = i };
		if (error == ENOTDIR || (!error && !S_ISDIR(st.st_mode)) || (error && hooks))
			return;
		if (error)
			continue;
		naive_find(suffixes, entries[i].path, name, out);
		out->entry = i;
		if (out->kind != LW_HIT_NONE)
			return;
	}
	*out = (struct naive){ .kind = LW_HIT_NONE };
}

/* Whether HIT says what NAIVE says; complains on stderr if not. */
static inline bool naive_agrees(const struct lw_hit *hit, const struct naive *naive, bool list, const char *what)
{
	bool file = naive->kind == LW_HIT_MODULE || naive->kind == LW_HIT_PACKAGE;
	bool same = hit->kind == naive->kind && (!file || hit->suffix == naive->suffix)
		&& (naive->kind == LW_HIT_NONE || naive->kind == LW_HIT_FOREIGN || (hit->len == strlen(naive->path) && strcmp(hit->path, naive->path) == 0))
		&& (!list || naive->kind == LW_HIT_NONE || hit->entry == naive->entry);
	if (!same)
		fprintf(stderr, "%s: kind %d entry %u %s, should be kind %d entry %u %s\n", what, hit->kind, hit->entry, hit->kind ? hit->path : "",
			naive->kind, naive->entry, naive->path);
	return same;
}

/* --- other users --- */

/* What BODY returns, run in a child as UID (0: as we are). Below 128: its own; a signal counts as 200. */
static inline int facts_as(uid_t uid, int (*body)(void *arg), void *arg)
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	TREE_CHECK(pid >= 0);
	if (pid == 0) {
		if (uid && (setgid(uid) || setuid(uid)))
			_exit(127);
		_exit(body(arg));
	}
	TREE_CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

/* In such a body. */
#define FACTS_EXPECT(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			return 1; \
		} \
	} while (0)

#endif
