/* SPDX-License-Identifier: MIT */
/*
 * dirs: see dirs.h. A chained hash table of directories; each is resolved against the snapshot once, then kept fresh
 * by comparing stamps. The listing is always read AFTER the stamp was taken (listing.h), so a change between the two leaves a
 * stamp that no longer matches: we read once too often, never once too seldom.
 */
#include "dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

enum { FIRST_CAPACITY = 256 };

int lw_dirs_init(struct lw_dirs *dirs, const struct lw_suffixes *suffixes, enum lw_freshness freshness)
{
	*dirs = (struct lw_dirs){ .suffixes = suffixes, .freshness = freshness };
	dirs->table = calloc(FIRST_CAPACITY, sizeof(*dirs->table));
	if (!dirs->table)
		return -ENOMEM;
	dirs->capacity = FIRST_CAPACITY;
	return 0;
}

static void dir_destroy(struct lw_dir *dir)
{
	lw_listing_destroy(dir->listing);
	free(dir);
}

void lw_dirs_clear(struct lw_dirs *dirs)
{
	for (uint32_t i = 0; i < dirs->capacity; i++) {
		while (dirs->table[i]) {
			struct lw_dir *dir = dirs->table[i];
			dirs->table[i] = dir->next;
			dir_destroy(dir);
		}
	}
	dirs->count = dirs->dirty = 0;
}

void lw_dirs_destroy(struct lw_dirs *dirs)
{
	if (dirs->table)
		lw_dirs_clear(dirs);
	free(dirs->table);
	dirs->table = NULL;
	dirs->capacity = 0;
}

void lw_dirs_invalidate(struct lw_dirs *dirs)
{
	dirs->epoch++;
}

static void grow(struct lw_dirs *dirs)
{
	uint32_t capacity = dirs->capacity * 2;
	struct lw_dir **table = calloc(capacity, sizeof(*table));
	if (!table)
		return; /* longer chains are slower, not wrong */
	for (uint32_t i = 0; i < dirs->capacity; i++) {
		for (struct lw_dir *dir = dirs->table[i], *next; dir; dir = next) {
			next = dir->next;
			dir->next = table[dir->hash & (capacity - 1)];
			table[dir->hash & (capacity - 1)] = dir;
		}
	}
	free(dirs->table);
	dirs->table = table;
	dirs->capacity = capacity;
}

/*
 * Facts seen with another user's permissions hold for us only where everybody may look. "Could not be listed" holds for nobody: groups
 * and capabilities change while the directory does not. "Missing" may have meant that the way there was barred, except to root.
 */
static bool seen_by_another(const lw_index *index, const struct lw_dir_record *record)
{
	uint32_t writer = lw_index_head(index)->writer_uid;
	if (record->flags & LW_DIR_UNREADABLE)
		return true;
	if (record->flags & (LW_DIR_PUBLIC | LW_DIR_NOTDIR) || (record->flags & LW_DIR_MISSING && writer == 0))
		return false;
	return writer != geteuid();
}

static void take_from_index(struct lw_dirs *dirs, struct lw_dir *dir)
{
	for (unsigned i = 0; dirs->snapshot && i < dirs->snapshot->count; i++) {
		struct lw_index_dir found;
		int result = lw_index_find_dir(dirs->snapshot->index[i], dir->path, dir->len, &found);
		if (result == LW_ABSENT)
			continue;
		if (result == LW_BAD) {
			/* What an older index says may be what this one has replaced. */
			dirs->stats.damaged++;
			return;
		}
		dir->indexed = found;
		dir->stamp = found.record->stamp;
		dir->flags = found.record->flags;
		dir->foreign_uid = seen_by_another(found.index, found.record);
		dir->known = true;
		dirs->stats.from_index++;
		return;
	}
}

static struct lw_dir *find(const struct lw_dirs *dirs, const char *path, size_t len, uint64_t hash)
{
	for (struct lw_dir *dir = dirs->table[hash & (dirs->capacity - 1)]; dir; dir = dir->next)
		if (dir->hash == hash && dir->len == len && memcmp(dir->path, path, len) == 0)
			return dir;
	return NULL;
}

struct lw_dir *lw_dirs_get(struct lw_dirs *dirs, const char *path, size_t len)
{
	uint64_t hash = lw_hash64(path, len);
	struct lw_dir *dir = find(dirs, path, len, hash);
	if (dir)
		return dir;
	dir = calloc(1, sizeof(*dir) + len + 1);
	if (!dir)
		return NULL;
	if (dirs->count >= dirs->capacity)
		grow(dirs);
	dir->hash = hash;
	dir->len = (uint32_t)len;
	memcpy(dir->path, path, len);
	dir->next = dirs->table[hash & (dirs->capacity - 1)];
	dirs->table[hash & (dirs->capacity - 1)] = dir;
	dirs->count++;
	take_from_index(dirs, dir);
	return dir;
}

static const char *system_path(const struct lw_dir *dir)
{
	return dir->len ? dir->path : "/";
}

static bool nothing_there(int error)
{
	return error == -ENOENT || error == -EACCES;
}

/* A file, or below one (an archive's inner directory): not for FileFinder, perhaps for another path hook. */
static bool no_directory(int error, const struct lw_stat *st)
{
	return error ? error == -ENOTDIR : !S_ISDIR(st->mode);
}

static void forget_listing(struct lw_dir *dir)
{
	lw_listing_destroy(dir->listing);
	dir->listing = NULL;
	dir->indexed = (struct lw_index_dir){ 0 };
}

static void set_dirty(struct lw_dirs *dirs, struct lw_dir *dir, bool dirty)
{
	if (dirty != dir->dirty)
		dirs->dirty += dirty ? 1 : (uint32_t)-1;
	dir->dirty = dirty;
}

void lw_dirs_stored(struct lw_dirs *dirs, struct lw_dir *dir)
{
	set_dirty(dirs, dir, false);
}

static void set_nameless(struct lw_dirs *dirs, struct lw_dir *dir, uint16_t flags, uint64_t stamp, bool racy)
{
	bool same = dir->known && dir->flags == flags && dir->stamp == stamp;
	if (!same)
		forget_listing(dir);
	set_dirty(dirs, dir, (!same || dir->dirty) && !racy);
	dir->flags = flags;
	dir->stamp = stamp;
	dir->racy = racy;
	dir->known = true;
	dir->foreign_uid = false;
	dir->epoch = dirs->epoch;
}

/* Read the directory again. ST is a stat of it, for the cases in which it cannot be listed. */
static int read_again(struct lw_dirs *dirs, struct lw_dir *dir, const struct lw_stat *st)
{
	struct lw_listing *listing;
	struct lw_stat read_st;
	int64_t now = lw_now_ns();
	int error = lw_listing_read(system_path(dir), dirs->suffixes, &listing, &read_st);
	dirs->stats.listings++;
	if (error == -EACCES) {
		set_nameless(dirs, dir, LW_DIR_UNREADABLE, lw_stamp(st), lw_stat_racy(st, now));
		return 0;
	}
	if (error == -ENOENT || error == -ENOTDIR) {
		set_nameless(dirs, dir, LW_DIR_MISSING, 0, true); /* it went while we looked: look again next time */
		return 0;
	}
	if (error)
		return error;
	forget_listing(dir);
	dir->listing = listing;
	dir->stamp = lw_stamp(&read_st);
	dir->racy = lw_stat_racy(&read_st, now);
	dir->flags = lw_stat_public(&read_st) ? LW_DIR_PUBLIC : 0;
	set_dirty(dirs, dir, !dir->racy);
	dir->known = true;
	dir->foreign_uid = false;
	dir->epoch = dirs->epoch;
	return 0;
}

bool lw_dirs_settled(const struct lw_dirs *dirs, const struct lw_dir *dir)
{
	return dirs->freshness == LW_FROZEN && dir->known && dir->epoch == dirs->epoch && !dir->foreign_uid;
}

int lw_dirs_fresh(struct lw_dirs *dirs, struct lw_dir *dir)
{
	return lw_dirs_settled(dirs, dir) ? 0 : lw_dirs_compare(dirs, dir);
}

int lw_dirs_compare(struct lw_dirs *dirs, struct lw_dir *dir)
{
	struct lw_stat st;
	int error = lw_dirs_stat(dirs, system_path(dir), &st);
	if (nothing_there(error)) {
		set_nameless(dirs, dir, LW_DIR_MISSING, 0, false);
		return 0;
	}
	if (no_directory(error, &st)) {
		set_nameless(dirs, dir, LW_DIR_NOTDIR, 0, false);
		return 0;
	}
	if (error)
		return error;
	bool listed = dir->known && !(dir->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR));
	bool same = listed && !dir->racy && !dir->foreign_uid && dir->stamp == lw_stamp(&st);
	bool weak = same && dir->indexed.index && lw_stat_weak(&st, system_path(dir));
	if (same && !weak) {
		dir->epoch = dirs->epoch;
		return 0;
	}
	error = read_again(dirs, dir, &st);
	if (weak) /* what is stored has this stamp: were it stored again, every process would */
		set_dirty(dirs, dir, false);
	return error;
}

int lw_dirs_reread(struct lw_dirs *dirs, struct lw_dir *dir)
{
	forget_listing(dir);
	dir->known = false;
	dirs->stats.damaged++;
	return lw_dirs_compare(dirs, dir);
}

int lw_dir_find(struct lw_dirs *dirs, struct lw_dir *dir, const char *name, size_t len, const struct lw_entry **entry)
{
	*entry = NULL;
	if (dir->indexed.index) {
		if (lw_index_dir_find(&dir->indexed, name, len, entry) != LW_BAD)
			return 0;
		int error = lw_dirs_reread(dirs, dir);
		if (error)
			return error;
	}
	if (dir->listing)
		*entry = lw_listing_find(dir->listing, name, len);
	return 0;
}

uint32_t lw_dir_entries(const struct lw_dir *dir, const struct lw_entry **entries)
{
	if (dir->listing) {
		*entries = dir->listing->entries;
		return dir->listing->count;
	}
	*entries = dir->indexed.entries;
	return dir->indexed.index ? dir->indexed.record->count : 0;
}

const char *lw_dir_name(const struct lw_dir *dir, const struct lw_entry *entry)
{
	if (dir->listing)
		return dir->listing->names + entry->name;
	return lw_index_string(dir->indexed.index, entry->name, entry->len);
}

uint64_t lw_dir_token(const struct lw_dir *dir)
{
	return lw_token(dir->flags, dir->stamp);
}

bool lw_dirs_token(const struct lw_dirs *dirs, const char *path, size_t len, uint64_t *token)
{
	const struct lw_dir *dir = dirs->count ? find(dirs, path, len, lw_hash64(path, len)) : NULL;
	if (dir) {
		*token = lw_dir_token(dir);
		return dir->known && !dir->foreign_uid;
	}
	for (unsigned i = 0; dirs->snapshot && i < dirs->snapshot->count; i++) {
		const struct lw_dir_record *record;
		int result = lw_index_find_dir_record(dirs->snapshot->index[i], path, len, &record);
		if (result == LW_ABSENT)
			continue;
		if (result == LW_OK)
			*token = lw_token(record->flags, record->stamp);
		return result == LW_OK && !seen_by_another(dirs->snapshot->index[i], record);
	}
	return false;
}

int lw_dirs_stat(struct lw_dirs *dirs, const char *path, struct lw_stat *st)
{
	int64_t begun = dirs->timed ? lw_monotonic_ns() : 0;
	int error = lw_stat_at(AT_FDCWD, path, st);
	dirs->stats.statx++;
	if (dirs->timed)
		dirs->stats.statx_ns += (uint64_t)(lw_monotonic_ns() - begun);
	return error;
}

int lw_token_now(const char *path, uint64_t *token, bool *weak)
{
	struct lw_stat st;
	if (!*path)
		path = "/";
	return lw_token_of(path, lw_stat_at(AT_FDCWD, path, &st), &st, token, weak);
}

int lw_token_of(const char *path, int error, const struct lw_stat *st, uint64_t *token, bool *weak)
{
	*weak = false;
	if (nothing_there(error))
		*token = LW_TOKEN_MISSING;
	else if (no_directory(error, st))
		*token = LW_TOKEN_NOTDIR;
	else if (error)
		return error;
	else {
		*token = lw_token(0, lw_stamp(st));
		*weak = lw_stat_weak(st, path);
	}
	return 0;
}
