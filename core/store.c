/* SPDX-License-Identifier: MIT */
/*
 * store: reading and adding cache files, while any number of other processes do the same.
 *
 *     append:     write .tmp-X; rename it to seg-X                             no lock
 *     compaction: lock; list; open and merge the newest, or all; write .tmp-Y; rename it to seg-Y or base-Y; unlink what was merged; unlock
 *     load:       list; open all that is there; if one has vanished meanwhile, list again
 *
 * Nothing is lost, whoever interleaves with whom: a file is unlinked only after its facts stand in a file that has its final name,
 * and names are unique, so a rename replaces nothing. A segment that appears after the list was taken is not in the list and stays. A
 * crash between rename and unlink leaves duplicates: the same facts twice. Two compactions at once (a file
 * system without flock) leave two results: the same. So the lock only saves work, correctness does not rest on it.
 *
 * Nothing is synced: after a power cut a file may be short or hold zeros, and its checksums say so.
 */
#include "store.h"
#include "collect.h"
#include "keydir.h"
#include "mark.h"
#include "place.h"
#include "stamp.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* Where the race test kills a compaction, or breaks it to see that it notices. */
#ifndef LW_STORE_STEP
#define LW_STORE_STEP(step, dir, list) ((void)0)
#endif
/* What is smaller counts as this large when files are chosen for a merge. The race test has no time for large ones. */
#ifndef LW_STORE_FLOOR
#define LW_STORE_FLOOR (UINT64_C(256) << 10)
#endif

enum { KEY_DIGITS = 32, LOAD_TRIES = 16, OK_AGE = 24 * 60 * 60, TIER = 4 };
static const uint64_t DEFAULT_BYTES = UINT64_C(4) << 30;

struct lw_store {
	struct lw_store_config config;	/* its strings are not kept */
	char *path;			/* PLACE/KEY; NULL: memory only */
	size_t place_len;
	bool writable;
	bool starter;			/* lw_store_started() is still to come, in this process */
	bool ok;			/* `ok` was there at open */
	bool damaged;			/* a load has met files that a compaction should remove */
	char mark[LW_MARK_NAME];	/* ours, "" if there is none */
	struct lw_keydir list;		/* for the first load: what open has read */
	lw_index **held;		/* a caller's builder rests on them, see lw_store_rebuild() */
	unsigned held_count;
};

/* ---- opening ---- */

static void key_digits(struct lw_hash128 key, char out[KEY_DIGITS + 1])
{
	snprintf(out, KEY_DIGITS + 1, "%016" PRIx64 "%016" PRIx64, key.hi, key.lo);
}

static int set_path(lw_store *store, const char *place)
{
	char key[KEY_DIGITS + 1];

	key_digits(store->config.key, key);
	store->place_len = strlen(place);
	store->path = malloc(store->place_len + KEY_DIGITS + 2);
	if (!store->path)
		return -ENOMEM;
	sprintf(store->path, "%s/%s", place, key);
	return 0;
}

static void place_of(const lw_store *store, char *out)
{
	memcpy(out, store->path, store->place_len);
	out[store->place_len] = 0;
}

static void memory_only(lw_store *store)
{
	free(store->path);
	store->path = NULL;
	store->writable = false;
}

static bool may_write(const lw_store *store, const struct stat *st)
{
	return !store->config.readonly && st->st_uid == geteuid() && (st->st_mode & S_IWUSR);
}

static void write_about(int dir, const char *about)
{
	int fd = about ? openat(dir, "about", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		return;
	if (write(fd, about, strlen(about)) < 0)
		unlinkat(dir, "about", 0);
	close(fd);
}

static void collect(const lw_store *store)
{
	char place[PATH_MAX];

	place_of(store, place);
	lw_collect(place, store->path + store->place_len + 1, store->config.max_bytes);
}

/* The key's first start. A descriptor or -errno. */
static int create(lw_store *store, const char *place, const char *about, struct stat *st, char *reason)
{
	if (store->config.readonly) {
		lw_reason_set(reason, "nothing is kept: %.280s does not exist, and LADEWERK_READONLY is set; "
			"run `ladewerk index` where it may be written", store->path);
		return -EROFS;
	}
	int err = lw_place_create(&store->config, place, store->path, reason);
	if (err)
		return err;
	int dir = lw_place_open(&store->config, place, store->path, st, reason);
	if (dir >= 0) {
		write_about(dir, about);
		collect(store);
	}
	return dir;
}

static int judge_marks(lw_store *store, int dir, char *reason)
{
	for (unsigned i = store->list.files; i < store->list.count; i++) {
		const struct lw_keydir_entry *entry = &store->list.entry[i];
		if (entry->kind != LW_KEYDIR_MARK || !lw_mark_dead(dir, entry->name))
			continue;
		lw_reason_set(reason, "switched off: a start of Python died inside Ladewerk (pid %d, see %.200s/%s); "
			"`ladewerk doctor --reset` tries again", entry->pid, store->path, entry->name);
		return -EHOSTDOWN;
	}
	return 0;
}

static void leave_mark(lw_store *store, int dir)
{
	char name[LW_MARK_NAME];

	lw_mark_name(name);
	if (lw_mark_leave(dir, name) == 0)
		strcpy(store->mark, name);
}

/* DIR is open and trusted. What cannot be read is not used, and no failure. */
static int inspect(lw_store *store, int dir, const struct stat *st, char *reason)
{
	int err = lw_keydir_read(dir, &store->list);

	if (err) {
		lw_reason_set(reason, "not used: %.280s cannot be read (%s)", store->path, strerror(-err));
		memory_only(store);
		return err == -ENOMEM ? err : 0;
	}
	store->ok = store->list.ok;
	store->writable = may_write(store, st);
	store->starter = store->writable;
	if (store->ok)
		return 0;
	err = judge_marks(store, dir, reason);
	if (!err && store->writable)
		leave_mark(store, dir);
	return err;
}

static int attach(lw_store *store, const char *about, char *reason)
{
	char place[PATH_MAX];
	struct stat st;

	if (lw_place_find(&store->config, place, sizeof(place), reason))
		return 0;
	int err = set_path(store, place);
	if (err)
		return err;
	int dir = lw_place_open(&store->config, place, store->path, &st, reason);
	if (dir == -ENOENT)
		dir = create(store, place, about, &st, reason);
	if (dir < 0) {
		memory_only(store);
		return 0;
	}
	err = inspect(store, dir, &st, reason);
	close(dir);
	return err;
}

int lw_store_open(const struct lw_store_config *config, lw_store **out, char *reason)
{
	*out = NULL;
	reason[0] = 0;
	lw_store *store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->config = *config;
	if (!store->config.max_bytes)
		store->config.max_bytes = DEFAULT_BYTES;
	int err = attach(store, config->about, reason);
	store->config.place = store->config.about = NULL;
	if (err)
		lw_store_close(store);
	else
		*out = store;
	return err;
}

const char *lw_store_path(const lw_store *store)
{
	return store->path;
}

bool lw_store_writable(const lw_store *store)
{
	return store->writable;
}

/* Who we are may have changed since open. */
int lw_store_open_directory(const lw_store *store)
{
	char place[PATH_MAX], reason[LW_STORE_REASON] = "";
	struct stat st;

	if (!store->writable)
		return -EROFS;
	place_of(store, place);
	int dir = lw_place_open(&store->config, place, store->path, &st, reason);
	if (dir >= 0 && !may_write(store, &st)) {
		close(dir);
		return -EROFS;
	}
	return dir;
}

/* ---- the first start ---- */

static void touch_ok(int dir)
{
	int fd = openat(dir, "ok", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0) {
		futimens(fd, NULL);
		close(fd);
	}
}

static bool ok_is_recent(const lw_store *store)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/ok", store->path);
	return lstat(path, &st) == 0 && time(NULL) - st.st_mtime < OK_AGE;
}

static void remove_mark(lw_store *store, int dir)
{
	if (store->mark[0])
		unlinkat(dir, store->mark, 0);
	store->mark[0] = 0;
}

void lw_store_started(lw_store *store)
{
	if (!store->starter)
		return;
	store->starter = false;
	if (store->ok && ok_is_recent(store))
		return;
	int dir = lw_store_open_directory(store);
	if (dir < 0)
		return;
	touch_ok(dir);
	remove_mark(store, dir);
	close(dir);
}

void lw_store_forked(lw_store *store)
{
	store->starter = false;
	store->mark[0] = 0;
}

int lw_store_reset(const struct lw_store_config *config, char *reason)
{
	lw_store store = { .config = *config, .writable = true };
	struct lw_keydir list;
	char place[PATH_MAX];
	int removed = 0;

	reason[0] = 0;
	int err = lw_place_find(config, place, sizeof(place), reason);
	if (err)
		return err;
	err = set_path(&store, place);
	if (err)
		return err;
	int dir = lw_store_open_directory(&store);
	err = dir < 0 ? dir : lw_keydir_read(dir, &list);
	if (err && err != -ENOENT)
		lw_reason_set(reason, "%.280s cannot be changed (%s): it must exist, belong to you and not be read-only", store.path, strerror(-err));
	for (unsigned i = 0; !err && i < list.count; i++)
		removed += list.entry[i].kind == LW_KEYDIR_MARK && unlinkat(dir, list.entry[i].name, 0) == 0;
	if (!err)
		lw_keydir_clear(&list);
	if (dir >= 0)
		close(dir);
	free(store.path);
	return err == -ENOENT ? 0 : err ? err : removed;
}

int lw_store_place(const struct lw_store_config *config, char *out, size_t size)
{
	char reason[LW_STORE_REASON] = "";
	return lw_place_find(config, out, size, reason);
}

void lw_store_close(lw_store *store)
{
	if (!store)
		return;
	/* An orderly end is no crash. */
	int dir = store->mark[0] ? lw_store_open_directory(store) : -1;
	if (dir >= 0) {
		remove_mark(store, dir);
		close(dir);
	}
	for (unsigned i = 0; i < store->held_count; i++)
		lw_index_close(store->held[i]);
	free(store->held);
	lw_keydir_clear(&store->list);
	free(store->path);
	free(store);
}

/* ---- reading ---- */

/* Whether a file that was refused with ERR can never be of use to anybody with this key. */
static bool is_rubbish(int err)
{
	return err == -EBADMSG || err == -EPROTO || err == -ESTALE;
}

static int check_file(const lw_store *store, int fd, const char *name, char *reason)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		lw_reason_set(reason, "%.200s/%s is skipped: not a regular file; remove it", store->path, name);
		return -EPERM;
	}
	return lw_place_trusts(&store->config, &st, store->path, name, reason) ? 0 : -EPERM;
}

/* A descriptor of file NAME. -ENOENT: it has been merged away meanwhile. No link is followed, no fifo waited for. */
static int open_trusted(const lw_store *store, const char *name, char *reason)
{
	char path[PATH_MAX + LW_KEYDIR_NAME];

	snprintf(path, sizeof(path), "%s/%s", store->path, name);
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0) {
		int err = -errno;
		lw_reason_set(reason, "%.200s/%s is skipped: cannot be opened (%s); remove it, or make it a readable file", store->path, name, strerror(-err));
		return err;
	}
	int err = check_file(store, fd, name, reason);
	if (err)
		close(fd);
	return err ? err : fd;
}

/* Open cache file NAME. */
static int open_file(const lw_store *store, const char *name, lw_index **out, char *reason)
{
	lw_reason why = NULL;
	int fd = open_trusted(store, name, reason);

	if (fd < 0)
		return fd;
	int err = lw_index_open(fd, &store->config.key, out, &why);
	if (err == -EFBIG)
		lw_reason_set(reason, "%.200s/%s is skipped: %s", store->path, name, why);
	else if (err)
		lw_reason_set(reason, "%.200s/%s is skipped: %s; `ladewerk index` replaces it", store->path, name, why ? why : strerror(-err));
	close(fd);
	return err;
}

int lw_store_open_file(const lw_store *store, const char *name)
{
	char nobody_asks[LW_STORE_REASON] = "-";
	return store->path ? open_trusted(store, name, nobody_asks) : -ENOENT;
}

static int list_directory(const lw_store *store, struct lw_keydir *list)
{
	int dir = open(store->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int err = dir < 0 ? -errno : lw_keydir_read(dir, list);

	if (dir >= 0)
		close(dir);
	return err;
}

static void close_all(lw_index **index, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		lw_index_close(index[i]);
	free(index);
}

/* What one pass over the listed files has found. */
struct loaded {
	lw_index **index;
	unsigned count, refused, vanished;
};

static int load_listed(lw_store *store, const struct lw_keydir *list, struct loaded *loaded, char *reason)
{
	*loaded = (struct loaded){ .index = calloc(list->files + 1, sizeof(lw_index *)) };
	if (!loaded->index)
		return -ENOMEM;
	for (unsigned i = 0; i < list->files; i++) {
		int err = open_file(store, list->entry[i].name, &loaded->index[loaded->count], reason);
		if (err == -ENOMEM) {
			close_all(loaded->index, loaded->count);
			return err;
		}
		loaded->count += err == 0;
		loaded->vanished += err == -ENOENT;
		loaded->refused += err && err != -ENOENT;
		store->damaged |= is_rubbish(err);
	}
	return 0;
}

int lw_store_load(lw_store *store, lw_index ***out, unsigned *count, unsigned *refused, char *reason)
{
	struct lw_keydir list = store->list;
	bool listed = list.files > 0;
	struct loaded loaded = {0};
	int err = 0;

	*out = NULL;
	*count = *refused = 0;
	reason[0] = 0;
	store->list = (struct lw_keydir){0};
	for (unsigned tries = LOAD_TRIES; store->path && tries > 0; tries--) {
		reason[0] = 0;
		if (!listed)
			err = list_directory(store, &list);
		listed = false;
		if (!err)
			err = load_listed(store, &list, &loaded, reason);
		lw_keydir_clear(&list);
		if (err || !loaded.vanished || tries == 1)
			break;
		close_all(loaded.index, loaded.count);
		loaded.index = NULL;
	}
	if (err)
		return err;
	*out = loaded.index;
	*count = loaded.count;
	*refused = loaded.refused;
	return 0;
}

/* ---- writing ---- */

static int write_file(lw_store *store, int dir, lw_build *build, enum lw_keydir_kind kind, uint64_t time)
{
	struct lw_keydir_draft draft;

	if (lw_build_size(build) > lw_index_limit(dir))
		return -EFBIG;
	int err = lw_keydir_draft(dir, kind, time, &draft);
	lw_keydir_clear(&store->list);	/* no longer what is there */
	if (err)
		return err;
	err = lw_build_write(build, draft.fd, store->config.key, geteuid(), (uint64_t)lw_now_ns());
	return lw_keydir_finish(dir, &draft, err);
}

static int take_lock(int dir, bool wait)
{
	int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err = fd < 0 ? -errno : 0;

	if (!err && flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB))
		err = -errno;
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

/* Unlocked in so many words: a child forked meanwhile has the same lock open, and may live long. */
static void drop_lock(int fd)
{
	flock(fd, LOCK_UN);
	close(fd);
}

static int hold(lw_store *store, lw_index *index)
{
	lw_index **larger = realloc(store->held, (store->held_count + 1) * sizeof(*larger));

	if (!larger)
		return -ENOMEM;
	store->held = larger;
	store->held[store->held_count++] = index;
	return 0;
}

/* Close what has been held since there were KEEP. */
static void release(lw_store *store, unsigned keep)
{
	while (store->held_count > keep)
		lw_index_close(store->held[--store->held_count]);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* One compaction. */
struct merger {
	lw_store *store;
	int dir;
	lw_build *build;
	struct lw_keydir list;
	unsigned chosen;		/* files of LIST to be merged, the newest ones */
	bool whole;		/* nothing older is left */
	bool given;			/* BUILD holds facts of the caller */
	uint64_t limit;			/* bytes that a file there can have */
	uint64_t bound;			/* bytes of all files together */
};

/* Whether what an index holds has room beside what has been merged. */
static bool fits(const struct merger *merger, const lw_index *index)
{
	return sum(lw_build_size(merger->build), lw_index_head(index)->file_size) <= merger->bound;
}

/* What becomes of the files that are older than one: their facts must not take the place of newer ones that are not in BUILD. */
enum older { MERGE_OLDER, FORGET_OLDER, LEAVE_OLDER };

/*
 * Merge one file. It is done with when its facts are in BUILD, and when it has no room: being older than everything merged so far, it is what
 * the bound makes us forget, with all that is older still. Rubbish is done with, in part or as a whole; what it may have replaced is forgotten, too. A
 * file that cannot be read just now stays, and ends the run.
 */
static int merge_file(const struct merger *merger, struct lw_keydir_entry *entry, enum older *older)
{
	char reason[LW_STORE_REASON] = "";
	unsigned skipped = 0;
	lw_index *index;
	int err = open_file(merger->store, entry->name, &index, reason);

	if (err) {
		entry->done = is_rubbish(err);
		*older = entry->done ? FORGET_OLDER : err == -ENOENT ? MERGE_OLDER : LEAVE_OLDER;
		return err == -ENOMEM ? err : 0;
	}
	err = hold(merger->store, index);
	if (err) {
		lw_index_close(index);
		return err;
	}
	bool room = lw_build_empty(merger->build) || fits(merger, index);
	if (room)
		err = lw_build_merge(merger->build, index, &skipped);
	if (!room || err == -E2BIG || skipped)
		*older = FORGET_OLDER;
	entry->done = !err || err == -E2BIG;
	return entry->done ? 0 : err;
}

/* Shortens the run where it ended early, and extends it to what is to be forgotten. */
static int merge_chosen(struct merger *merger)
{
	enum older older = MERGE_OLDER;
	int err = 0;

	for (unsigned i = 0; !err && i < merger->chosen; i++) {
		if (older == FORGET_OLDER)
			merger->list.entry[i].done = true;
		else
			err = merge_file(merger, &merger->list.entry[i], &older);
		if (older != MERGE_OLDER)
			merger->chosen = older == LEAVE_OLDER ? i + 1 : merger->list.files;
	}
	merger->whole = merger->chosen == merger->list.files && older != LEAVE_OLDER;
	return err;
}

static void remove_done(int dir, const struct lw_keydir *list)
{
	for (unsigned i = 0; i < list->files; i++) {
		if (!list->entry[i].done)
			continue;
		unlinkat(dir, list->entry[i].name, 0);
		LW_STORE_STEP("removing", dir, list);
	}
}

static uint64_t size_of(int dir, const char *name)
{
	struct stat st;
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

/* How many of the newest files to merge: see Tiers in store.h. A file that cannot be read here ends the run, and does not count. */
static unsigned choose(const struct merger *merger)
{
	const struct lw_keydir *list = &merger->list;
	uint64_t total = 0;
	unsigned run = 0;

	for (unsigned i = 0; i < list->files; i++) {
		uint64_t size = size_of(merger->dir, list->entry[i].name);
		if (size > merger->limit)
			continue;
		if (i == run && (i == 0 || size / TIER <= larger(total, LW_STORE_FLOOR)))
			run++;
		total = sum(total, size);
	}
	return merger->given || merger->store->damaged || total > merger->bound ? list->files : run;
}

/* One file by itself has nothing to be merged with. */
static bool worth_it(const struct merger *merger)
{
	return merger->chosen > 1 || merger->given || merger->store->damaged;
}

/*
 * The new file's time: that of the newest file merged, so that segments which appear meanwhile stay ahead of it; or,
 * when the caller brings facts of his own, now.
 */
static uint64_t merged_time(const struct merger *merger)
{
	for (unsigned i = 0; !merger->given && i < merger->chosen; i++)
		if (merger->list.entry[i].done)
			return merger->list.entry[i].time;
	return lw_keydir_time(&merger->list);
}

static int write_merged(const struct merger *merger)
{
	enum lw_keydir_kind kind = merger->whole ? LW_KEYDIR_BASE : LW_KEYDIR_SEGMENT;
	return write_file(merger->store, merger->dir, merger->build, kind, merged_time(merger));
}

static int replace_files(struct merger *merger)
{
	int err = merge_chosen(merger);

	LW_STORE_STEP("merged", merger->dir, &merger->list);
	if (!err && !lw_build_empty(merger->build))
		err = write_merged(merger);
	if (!err) {
		LW_STORE_STEP("written", merger->dir, &merger->list);
		remove_done(merger->dir, &merger->list);
		merger->store->damaged = false;
	}
	return err;
}

/* Compact under the lock. 1: something was merged, 0: there was nothing to do. */
static int compact_locked(struct merger *merger)
{
	int err = lw_keydir_read(merger->dir, &merger->list);

	if (err)
		return err;
	lw_keydir_sweep(merger->dir, &merger->list);
	merger->chosen = choose(merger);
	merger->whole = merger->chosen == merger->list.files;
	bool worth = worth_it(merger);
	if (worth)
		err = replace_files(merger);
	lw_keydir_clear(&merger->list);
	return err ? err : worth;
}

/* GIVEN (may be NULL) are the caller's facts; what is merged into them stays open with the store. */
static int merge_into(lw_store *store, int dir, lw_build *given)
{
	const unsigned keep = store->held_count;
	struct merger merger = { .store = store, .dir = dir, .build = given ? given : lw_build_create(), .given = given };

	if (!merger.build)
		return -ENOMEM;
	merger.limit = lw_index_limit(dir);
	merger.bound = smaller(merger.limit, store->config.max_bytes);
	int result = compact_locked(&merger);
	if (!given) {
		lw_build_destroy(merger.build);
		release(store, keep);
	}
	return result;
}

static int compact(lw_store *store, lw_build *given, bool wait)
{
	int dir = lw_store_open_directory(store);
	if (dir < 0)
		return dir;
	int lock = take_lock(dir, wait);
	int result = lock < 0 ? lock : merge_into(store, dir, given);
	if (lock >= 0)
		drop_lock(lock);
	close(dir);
	if (result > 0)
		collect(store);
	return result < 0 ? result : 0;
}

int lw_store_rebuild(lw_store *store, lw_build *build)
{
	return compact(store, build, true);
}

int lw_store_compact(lw_store *store, bool wait)
{
	return compact(store, NULL, wait);
}

static int append(lw_store *store, int dir, lw_build *build, unsigned *segments)
{
	struct lw_keydir list;
	int err = lw_keydir_read(dir, &list);

	if (err)
		return err;
	*segments = list.segments + 1;
	if (*segments > LW_STORE_SEGMENTS_MAX)
		err = -EBUSY;
	else
		err = write_file(store, dir, build, LW_KEYDIR_SEGMENT, lw_keydir_time(&list));
	lw_keydir_clear(&list);
	return err;
}

int lw_store_append(lw_store *store, lw_build *build)
{
	unsigned segments = 0;
	int dir = lw_store_open_directory(store);

	if (dir < 0)
		return dir;
	int err = lw_build_empty(build) ? 0 : append(store, dir, build, &segments);
	close(dir);
	/* What was learnt is stored: whether there is a compaction as well is not the caller's concern. */
	if (segments > LW_STORE_SEGMENTS || store->damaged)
		compact(store, NULL, false);
	return err;
}
