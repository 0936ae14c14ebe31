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
	lw_seen_clear(&dirs->seen);
	dirs->changes++;
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
	lw_seen_clear(&dirs->seen);
}

bool lw_dirs_has_truth(const struct lw_dirs *dirs)
{
	return lw_is_frozen(dirs->freshness) && lw_snapshot_artifact(dirs->snapshot);
}

static bool is_held(const struct lw_dirs *dirs, const char *path, size_t len)
{
	const lw_index *artifact = lw_snapshot_artifact(dirs->snapshot);
	return artifact && lw_index_holds(artifact, path, len);
}

bool lw_dirs_is_frozen_at(const struct lw_dirs *dirs, const char *path, size_t len)
{
	return lw_is_frozen(dirs->freshness) && !dirs->epoch && is_held(dirs, path, len);
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
	if (lw_index_is_relative(index))
		return false; /* nobody's permissions are in it */
	if (record->flags & LW_DIR_UNREADABLE)
		return true;
	if (record->flags & (LW_DIR_PUBLIC | LW_DIR_NOTDIR) || (record->flags & LW_DIR_MISSING && writer == 0))
		return false;
	return writer != geteuid();
}

/* What INDEX, which is not the artifact, knows of a directory below the artifact's roots, is a hint in `frozen`. */
static bool is_hint(const struct lw_dirs *dirs, const struct lw_dir *dir, const lw_index *index)
{
	return dir->held && lw_is_frozen(dirs->freshness) && !lw_index_is_relative(index);
}

/* Whether, by the artifact, a link may be on the way from a root (which may be one itself, and was believed) to PATH. */
static bool is_below_link(const lw_index *artifact, const char *path, size_t len)
{
	while (lw_index_holds(artifact, path, len) && !lw_index_is_root(artifact, path, len)) {
		const char *slash = memrchr(path, '/', len);
		struct lw_index_dir above;
		const struct lw_entry *entry;
		size_t name = (size_t)(slash + 1 - path);
		if (lw_index_find_dir(artifact, path, name - 1, &above) == LW_OK
				&& lw_index_dir_find(&above, path + name, len - name, &entry) == LW_OK && entry->flags & LW_ENTRY_DOUBT)
			return true;
		len = name - 1;
	}
	return false;
}

static void set_indexed(struct lw_dirs *dirs, struct lw_dir *dir, const struct lw_index_dir *found)
{
	dir->indexed = *found;
	dir->stamp = found->record->stamp;
	dir->flags = found->record->flags;
	dir->racy = found->record->flags & LW_DIR_RACY;
	dir->foreign_uid = seen_by_another(found->index, found->record);
	dir->known = true;
	dirs->stats.from_index++;
}

/* What is looked after holds as it stands. */
static bool take_from_daemon(struct lw_dirs *dirs, struct lw_dir *dir)
{
	struct lw_index_dir found;
	if (!(dirs->trusted & 1 << LW_BY_DAEMON) || !lw_fresh_dir(dirs->fresh[LW_BY_DAEMON], dir->path, dir->len, &found))
		return false;
	set_indexed(dirs, dir, &found);
	dir->watched = 1 << LW_BY_DAEMON;
	dir->lent = true;
	return true;
}

static void take_from_index(struct lw_dirs *dirs, struct lw_dir *dir)
{
	if (take_from_daemon(dirs, dir))
		return;
	bool truth = lw_dirs_has_truth(dirs);
	for (unsigned i = 0; dirs->snapshot && i < dirs->snapshot->count; i++) {
		struct lw_index_dir found;
		int result = lw_index_find_dir(lw_snapshot_at(dirs->snapshot, i, truth), dir->path, dir->len, &found);
		if (result == LW_ABSENT)
			continue;
		if (result == LW_BAD) {
			/* What an older index says may be what this one has replaced. */
			dirs->stats.damaged++;
			return;
		}
		set_indexed(dirs, dir, &found);
		dir->hint = is_hint(dirs, dir, found.index);
		return;
	}
}

bool lw_dirs_is_linked_at(const struct lw_dirs *dirs, const char *path, size_t len)
{
	return is_held(dirs, path, len) && is_below_link(lw_snapshot_artifact(dirs->snapshot), path, len);
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
	dir->held = is_held(dirs, path, len);
	dir->linked = lw_dirs_is_linked_at(dirs, path, len);
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
	dir->lent = false;
}

static void set_dirty(struct lw_dirs *dirs, struct lw_dir *dir, bool dirty)
{
	dirty = dirty && !(dir->held && lw_is_frozen(dirs->freshness) && !dirs->epoch);
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
	dir->foreign_uid = dir->hint = false;
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
	dir->foreign_uid = dir->hint = false;
	dir->epoch = dirs->epoch;
	return 0;
}

bool lw_dirs_settled(const struct lw_dirs *dirs, const struct lw_dir *dir)
{
	bool frozen = dirs->freshness == LW_FROZEN || (dirs->freshness == LW_FROZEN_HELD && dir->held) || dirs->trusted & dir->watched;
	return frozen && dir->known && dir->epoch == dirs->epoch && !dir->foreign_uid && !dir->hint && !dir->linked;
}

int lw_dirs_fresh(struct lw_dirs *dirs, struct lw_dir *dir)
{
	bool glanced = dirs->glance && dir->compared && dir->known && dir->epoch == dirs->epoch;
	return glanced || lw_dirs_settled(dirs, dir) ? 0 : lw_dirs_compare(dirs, dir);
}

/* --- what others look after --- */

/* Before DIR is looked at: who (a bit) looks after what we shall see, and how? */
static uint8_t arm(struct lw_dirs *dirs, const struct lw_dir *dir, enum lw_armed *how)
{
	*how = LW_ARMED_NOT;
	for (unsigned by = 0; by < LW_BY_COUNT && dirs->freshness == LW_WATCH; by++)
		if (dirs->fresh[by] && (*how = lw_fresh_arm(dirs->fresh[by], dir->path, dir->len)) != LW_ARMED_NOT)
			return (uint8_t)(1 << by);
	return 0;
}

static void unwatch_below(struct lw_dirs *dirs, const char *path, size_t len)
{
	for (uint32_t i = 0; i < dirs->capacity; i++)
		for (struct lw_dir *dir = dirs->table[i]; dir; dir = dir->next)
			if (dir->len >= len && memcmp(dir->path, path, len) == 0 && (dir->len == len || dir->path[len] == '/'))
				dir->watched = 0;
	lw_seen_clear(&dirs->seen);
	dirs->changes++;
}

/* The snapshot is about to go. */
static void give_back(struct lw_dir *dir)
{
	if (!dir->lent)
		return;
	forget_listing(dir);
	dir->known = false;
}

void lw_dirs_unwatch(struct lw_dirs *dirs)
{
	unwatch_below(dirs, "", 0);
	for (uint32_t i = 0; i < dirs->capacity; i++)
		for (struct lw_dir *dir = dirs->table[i]; dir; dir = dir->next)
			give_back(dir);
	dirs->trusted = 0;
}

static void unwatch_path(struct lw_dirs *dirs, uint64_t hash)
{
	for (struct lw_dir *dir = dirs->table[hash & (dirs->capacity - 1)]; dir; dir = dir->next) {
		if (dir->hash != hash || !dir->watched)
			continue;
		dir->watched = 0;
		dirs->changes++;
	}
	lw_seen_forget(&dirs->seen, hash);
}

static void on_change(void *arg, const struct lw_change *change)
{
	switch (change->kind) {
	case LW_CHANGE_PATH:
		unwatch_path(arg, change->hash);
		return;
	case LW_CHANGE_SUBTREE:
		unwatch_below(arg, change->path, change->len);
		return;
	case LW_CHANGE_ALL:
		lw_dirs_unwatch(arg);
		return;
	}
}

/* The daemon last: whoever has lost its descriptors notices before what is opened to attach again gets their numbers. */
void lw_dirs_begin(struct lw_dirs *dirs)
{
	dirs->trusted = 0;
	for (unsigned by = LW_BY_COUNT; by-- > 0 && dirs->freshness == LW_WATCH;)
		if (dirs->fresh[by] && lw_fresh_check(dirs->fresh[by], on_change, dirs))
			dirs->trusted |= (uint8_t)(1 << by);
}

/* Changes of a file come under the names in watched directories: not those through a link, or under another of its names. */
static bool is_told_of(const struct lw_stat *st, bool followed)
{
	return !followed && S_ISREG(st->mode) && st->nlink == 1;
}

int lw_dirs_file(struct lw_dirs *dirs, const struct lw_dir *dir, const char *path, size_t len, bool followed, struct lw_stat *st, int64_t *asked_ns)
{
	uint8_t by = dirs->trusted & dir->watched;
	struct lw_seen_file file = { .hash = by ? lw_hash64(path, len) : 0, .by = by };
	const struct lw_seen_file *seen = by && !followed ? lw_seen_find(&dirs->seen, file.hash) : NULL;
	if (seen && seen->by & dirs->trusted) {
		*st = seen->stat;
		*asked_ns = seen->asked_ns;
		return 0;
	}
	*asked_ns = lw_now_ns();
	int error = lw_dirs_stat(dirs, path, st);
	if (error || !by || !is_told_of(st, followed))
		return error;
	file.asked_ns = *asked_ns;
	file.stat = *st;
	lw_seen_add(&dirs->seen, &file);
	return 0;
}

uint64_t lw_dirs_file_stamp(struct lw_dirs *dirs, const struct lw_dir *dir, const struct lw_entry *entry, const char *path, size_t len)
{
	bool told = dir->lent && dirs->trusted & dir->watched & 1 << LW_BY_DAEMON;
	return told ? lw_fresh_file(dirs->fresh[LW_BY_DAEMON], path, len, &dir->indexed, entry) : 0;
}

/* BARRED: we may not search a directory on the way there. */
static int compare(struct lw_dirs *dirs, struct lw_dir *dir, bool *barred)
{
	struct lw_stat st;
	int error = lw_dirs_stat(dirs, system_path(dir), &st);
	*barred = error == -EACCES;
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
		dir->hint = false;
		return 0;
	}
	error = read_again(dirs, dir, &st);
	if (weak) /* what is stored has this stamp: were it stored again, every process would */
		set_dirty(dirs, dir, false);
	return error;
}

int lw_dirs_compare(struct lw_dirs *dirs, struct lw_dir *dir)
{
	enum lw_armed how;
	bool barred;
	uint8_t by = arm(dirs, dir, &how);
	int error = compare(dirs, dir, &barred);
	dir->compared = !error;
	/* It may have become a directory after it was none. */
	bool fits = how != LW_ARMED_ABOVE || dir->flags & (LW_DIR_MISSING | LW_DIR_NOTDIR);
	/* That a right was taken away is told by what holds when it is heard of: one that is back by then was never missed, but by us. */
	dir->watched = !error && fits && !barred ? by : 0;
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

struct lw_listing *lw_dir_copy(const struct lw_dir *dir)
{
	const struct lw_entry *entry;
	uint32_t count = lw_dir_entries(dir, &entry);
	struct lw_listing *copy = NULL;
	/* A name has 255 bytes at most. */
	struct lw_entry *entries = malloc((count ? count : 1) * sizeof(*entries));
	char *names = malloc((size_t)(count ? count : 1) * UINT8_MAX);
	uint32_t at = 0;
	for (uint32_t i = 0; entries && names && i < count; i++) {
		const char *name = lw_dir_name(dir, &entry[i]);
		if (!name)
			goto done;
		memcpy(names + at, name, entry[i].len);
		entries[i] = entry[i];
		entries[i].name = at;
		at += entry[i].len;
	}
	if (entries && names)
		copy = lw_listing_copy(entries, count, names);
done:
	free(entries);
	free(names);
	return copy;
}

/* What lies in an artifact has no stamp: the artifact itself, which changes with anything in it, and the directory's place there stand for it. */
static uint64_t token_in(const lw_index *index, const struct lw_dir_record *record)
{
	const uint64_t parts[] = { lw_index_head(index)->roots_hash, record->hash };
	return lw_token(record->flags, lw_index_is_relative(index) ? lw_hash64(parts, sizeof(parts)) : record->stamp);
}

uint64_t lw_dir_token(const struct lw_dir *dir)
{
	return dir->indexed.index ? token_in(dir->indexed.index, dir->indexed.record) : lw_token(dir->flags, dir->stamp);
}

bool lw_dirs_token(const struct lw_dirs *dirs, const char *path, size_t len, uint64_t *token)
{
	const struct lw_dir *dir = dirs->count ? find(dirs, path, len, lw_hash64(path, len)) : NULL;
	if (dir) {
		*token = lw_dir_token(dir);
		return dir->known && !dir->foreign_uid && !dir->hint;
	}
	bool truth = lw_dirs_has_truth(dirs);
	for (unsigned i = 0; dirs->snapshot && i < dirs->snapshot->count; i++) {
		const lw_index *index = lw_snapshot_at(dirs->snapshot, i, truth);
		const struct lw_dir_record *record;
		int result = lw_index_find_dir_record(index, path, len, &record);
		if (result == LW_ABSENT)
			continue;
		if (result == LW_OK)
			*token = token_in(index, record);
		bool hint = truth && !lw_index_is_relative(index) && is_held(dirs, path, len);
		return result == LW_OK && !hint && !seen_by_another(index, record);
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
