/* SPDX-License-Identifier: MIT */
/*
 * view: see view.h. The merged table is open addressing over (hash, name) with its own copy of the names (a listing may be read
 * anew at any time); it is rebuilt as a whole when any directory has changed, which is rare.
 */
#include "view.h"

#include "build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slot {
	const char *name;	/* NULL: free */
	uint32_t hash;
	uint16_t len;
	uint16_t first;
};

struct table {
	struct slot *slot;
	uint32_t capacity, count;
	char *names;		/* the chunk being filled; its first bytes link to the one before */
	size_t names_used, names_size;
};

struct lw_view {
	uint32_t count;
	bool hooks;
	bool linear;
	bool looked;		/* for a table in the indexes */
	uint8_t watched;	/* who look after directories that the table rests on, */
	bool all_watched;	/* after all of them */
	uint64_t changes;	/* of dirs, when that was so */
	bool all_frozen;	/* set by looking: each entry lies below the artifact's roots (LW_FROZEN_HELD) */
	bool stored;		/* the table in use is in an index */
	bool racy;		/* a directory was: compare by reading again */
	bool unlisted;		/* a directory could not be listed: that is no fact to store (dirs.c) */
	bool valid;		/* tokens and table agree */
	uint32_t first_foreign;	/* entry that is not ours to search; COUNT if there is none */
	int64_t compared_ns;	/* monotonic; 0: never */
	uint64_t epoch;		/* of dirs, when last compared */
	struct lw_hash128 key;
	struct lw_index_view indexed;	/* table from an index ... */
	struct table merged;		/* ... or our own */
	uint64_t *token;		/* per entry, of what the table rests on */
	char *paths;
	struct lw_path_entry entry[];
};

static size_t key_bytes(const struct lw_path_entry *entries, uint32_t count)
{
	size_t size = 1;
	for (uint32_t i = 0; i < count; i++)
		size += sizeof(uint32_t) + entries[i].len;
	return size;
}

struct lw_hash128 lw_view_key(const struct lw_path_entry *entries, uint32_t count, bool hooks)
{
	size_t size = key_bytes(entries, count);
	char *buffer = malloc(size), *at = buffer;
	if (!buffer)
		return (struct lw_hash128){ 0, 0 };
	*at++ = hooks;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t len = entries[i].path ? entries[i].len : UINT32_MAX;
		memcpy(at, &len, sizeof(len));
		at += sizeof(len);
		if (entries[i].path) {
			memcpy(at, entries[i].path, entries[i].len);
			at += entries[i].len;
		}
	}
	struct lw_hash128 key = lw_hash128(buffer, (size_t)(at - buffer));
	free(buffer);
	return key;
}

lw_view *lw_view_create(const struct lw_path_entry *entries, uint32_t count, bool hooks)
{
	if (count > UINT16_MAX)
		return NULL;
	size_t bytes = 1;
	for (uint32_t i = 0; i < count; i++)
		bytes += (entries[i].path ? entries[i].len : 0) + 1;

	lw_view *view = calloc(1, sizeof(*view) + count * sizeof(*view->entry));
	if (!view)
		return NULL;
	view->count = count;
	view->hooks = hooks;
	view->linear = count <= LW_VIEW_LINEAR;
	view->paths = malloc(bytes);
	view->token = view->linear ? NULL : calloc(count, sizeof(*view->token));
	if (!view->paths || (!view->linear && !view->token)) {
		lw_view_destroy(view);
		return NULL;
	}
	char *at = view->paths;
	for (uint32_t i = 0; i < count; i++) {
		if (!entries[i].path)
			continue;
		view->entry[i] = (struct lw_path_entry){ .path = at, .len = entries[i].len };
		memcpy(at, entries[i].path, entries[i].len);
		at += entries[i].len;
		*at++ = '\0';
	}
	if (view->linear)
		return view;
	view->key = lw_view_key(entries, count, hooks);
	if (!view->key.hi && !view->key.lo) { /* without memory: all lists would share that key */
		lw_view_destroy(view);
		return NULL;
	}
	return view;
}

static void table_clear(struct table *table)
{
	while (table->names) {
		char *older;
		memcpy(&older, table->names, sizeof(older));
		free(table->names);
		table->names = older;
	}
	free(table->slot);
	*table = (struct table){ 0 };
}

void lw_view_destroy(lw_view *view)
{
	if (!view)
		return;
	table_clear(&view->merged);
	free(view->token);
	free(view->paths);
	free(view);
}

void lw_view_forget(lw_view *view)
{
	table_clear(&view->merged);
	view->indexed = (struct lw_index_view){ 0 };
	view->looked = view->stored = view->valid = view->racy = view->unlisted = false;
	view->compared_ns = 0;
}

void lw_view_expire(lw_view *view)
{
	view->compared_ns = 0;
}

/* --- the merged table --- */

static struct slot *table_slot(const struct table *table, uint32_t hash, const char *name, uint16_t len)
{
	uint32_t mask = table->capacity - 1;
	for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
		struct slot *slot = &table->slot[i];
		if (!slot->name || (slot->hash == hash && slot->len == len && memcmp(slot->name, name, len) == 0))
			return slot;
	}
}

static int table_grow(struct table *table)
{
	struct table bigger = *table;
	bigger.capacity = table->capacity ? table->capacity * 2 : 1024;
	bigger.slot = calloc(bigger.capacity, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (uint32_t i = 0; i < table->capacity; i++) {
		const struct slot *slot = &table->slot[i];
		if (slot->name)
			*table_slot(&bigger, slot->hash, slot->name, slot->len) = *slot;
	}
	free(table->slot);
	*table = bigger;
	return 0;
}

static const char *table_keep(struct table *table, const char *name, size_t len)
{
	if (len > table->names_size - table->names_used) {
		size_t size = 64 * 1024;
		char *chunk = malloc(size);
		if (!chunk)
			return NULL;
		memcpy(chunk, &table->names, sizeof(table->names));
		table->names = chunk;
		table->names_used = sizeof(table->names);
		table->names_size = size;
	}
	char *kept = memcpy(table->names + table->names_used, name, len);
	table->names_used += len;
	return kept;
}

static int table_add(struct table *table, const struct lw_entry *entry, const char *name, uint16_t first)
{
	if (table->count >= table->capacity / 2) {
		int error = table_grow(table);
		if (error)
			return error;
	}
	struct slot *slot = table_slot(table, entry->hash, name, entry->len);
	if (!slot->name) {
		const char *kept = table_keep(table, name, entry->len);
		if (!kept)
			return -ENOMEM;
		*slot = (struct slot){ .name = kept, .hash = entry->hash, .len = entry->len, .first = first };
		table->count++;
	}
	return 0;
}

static int merge_dir(struct table *table, struct lw_dirs *dirs, struct lw_dir *dir, uint16_t first)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		const struct lw_entry *entries;
		uint32_t count = lw_dir_entries(dir, &entries), i;
		for (i = 0; i < count; i++) {
			const char *name = lw_dir_name(dir, &entries[i]);
			if (!name)
				break;
			int error = table_add(table, &entries[i], name, first);
			if (error)
				return error;
		}
		if (i == count)
			return 0;
		int error = lw_dirs_reread(dirs, dir); /* damaged index */
		if (error)
			return error;
	}
	return -EBADMSG;
}

static bool foreign(const lw_view *view, uint32_t i, uint64_t token)
{
	return !view->entry[i].path || token == LW_TOKEN_NOTDIR || (token == LW_TOKEN_MISSING && view->hooks);
}

static void find_first_foreign(lw_view *view)
{
	uint32_t i = 0;
	while (i < view->count && !foreign(view, i, view->token[i]))
		i++;
	view->first_foreign = i;
}

/* Build the table from fresh directories. */
static int merge(lw_view *view, struct lw_dirs *dirs)
{
	table_clear(&view->merged);
	view->indexed = (struct lw_index_view){ 0 };
	view->stored = view->valid = view->racy = view->unlisted = false;
	int error = table_grow(&view->merged);
	if (error)
		return error;
	for (uint32_t i = 0; i < view->count; i++) {
		if (!view->entry[i].path)
			continue;
		struct lw_dir *dir = lw_dirs_get(dirs, view->entry[i].path, view->entry[i].len);
		if (!dir)
			return -ENOMEM;
		error = lw_dirs_fresh(dirs, dir);
		if (!error)
			error = merge_dir(&view->merged, dirs, dir, (uint16_t)i);
		if (error)
			return error;
		view->token[i] = lw_dir_token(dir);
		view->racy |= dir->racy;
		view->unlisted |= (dir->flags & LW_DIR_UNREADABLE) != 0;
	}
	find_first_foreign(view);
	view->valid = true;
	return 0;
}

/* --- keeping it current --- */

/* What is below the artifact's roots and not in it is not taken from elsewhere: it is asked. */
static bool token_of(struct lw_dirs *dirs, const struct lw_path_entry *entry, uint64_t *token)
{
	if (lw_dirs_token(dirs, entry->path, entry->len, token))
		return true;
	if (!lw_dirs_is_frozen_at(dirs, entry->path, entry->len))
		return false;
	struct lw_dir *dir = lw_dirs_get(dirs, entry->path, entry->len);
	if (!dir || lw_dirs_fresh(dirs, dir) || dir->racy)
		return false;
	*token = lw_dir_token(dir);
	return true;
}

/*
 * Whether the table FOUND may be used. In `stat` its tokens are about to be compared, which is all it takes if its writer saw what we see.
 * In `frozen` nothing is compared, and another fact may be newer; another user's table lacks what that user could not list. NEWEST: no index
 * is newer than the table's.
 */
static bool usable(const lw_view *view, struct lw_dirs *dirs, const struct lw_index_view *found, bool newest)
{
	bool another = lw_index_head(found->index)->writer_uid != geteuid();
	bool compared = dirs->stats.statx > 0; /* we ourselves may know better */
	if (found->record->entries != view->count)
		return false;
	if (!another && newest && !compared && found->record->flags & LW_VIEW_SEALED)
		return true;
	for (uint32_t i = 0; (another || lw_is_frozen(dirs->freshness)) && i < view->count; i++) {
		const struct lw_path_entry *entry = &view->entry[i];
		uint64_t token;
		if (!entry->path)
			continue;
		if (!token_of(dirs, entry, &token) || token != found->dirs[i].token)
			return false;
		const struct lw_dir *dir = another ? lw_dirs_get(dirs, entry->path, entry->len) : NULL;
		if (another && (!dir || !(dir->flags & (LW_DIR_PUBLIC | LW_DIR_MISSING | LW_DIR_NOTDIR))))
			return false;
	}
	return true;
}

/* Whether entry I is not to be compared, although others are. */
static bool is_frozen(const lw_view *view, const struct lw_dirs *dirs, uint32_t i)
{
	const struct lw_path_entry *entry = &view->entry[i];
	return dirs->freshness == LW_FROZEN_HELD && lw_dirs_is_frozen_at(dirs, entry->path, entry->len) && !lw_dirs_is_linked_at(dirs, entry->path, entry->len);
}

static bool all_frozen(const lw_view *view, const struct lw_dirs *dirs)
{
	for (uint32_t i = 0; i < view->count; i++)
		if (view->entry[i].path && !is_frozen(view, dirs, i))
			return false;
	return true;
}

static void look_for_stored(lw_view *view, struct lw_dirs *dirs)
{
	view->looked = true;
	view->all_frozen = all_frozen(view, dirs);
	bool truth = lw_dirs_has_truth(dirs);
	for (unsigned i = 0; dirs->snapshot && i < dirs->snapshot->count; i++) {
		int result = lw_index_find_view(lw_snapshot_at(dirs->snapshot, i, truth), view->key, &view->indexed);
		dirs->stats.damaged += result == LW_BAD;
		if (result != LW_OK || !usable(view, dirs, &view->indexed, i == 0))
			continue;
		for (uint32_t entry = 0; entry < view->count; entry++)
			view->token[entry] = view->indexed.dirs[entry].token;
		view->stored = view->valid = true;
		find_first_foreign(view);
		return;
	}
	view->indexed = (struct lw_index_view){ 0 };
}

/* The token of an entry that is looked after costs no system call. */
static int token_now(struct lw_dirs *dirs, const struct lw_path_entry *entry, uint64_t *token, bool *weak)
{
	struct lw_stat st;
	const char *path = *entry->path ? entry->path : "/";
	if (dirs->freshness != LW_WATCH)
		return lw_token_of(path, lw_dirs_stat(dirs, path, &st), &st, token, weak);
	struct lw_dir *dir = lw_dirs_get(dirs, entry->path, entry->len);
	int error = dir ? lw_dirs_fresh(dirs, dir) : -ENOMEM;
	*weak = false;
	if (!error)
		*token = lw_dir_token(dir);
	return error;
}

/* Whether the directories are those of VIEW's table. *WEAK: all but for some whose times do not prove it to another process (lw_stat_weak). */
static bool tokens_hold(const lw_view *view, struct lw_dirs *dirs, bool *weak)
{
	*weak = false;
	for (uint32_t i = 0; i < view->count; i++) {
		uint64_t now;
		bool is_weak;
		if (!view->entry[i].path || is_frozen(view, dirs, i))
			continue;
		if (token_now(dirs, &view->entry[i], &now, &is_weak) || now != view->token[i])
			return *weak = false;
		*weak |= is_weak && view->indexed.index;
	}
	return !*weak;
}

/* What is looked after, if anything, is as it was when VIEW was compared. */
static bool told_nothing(const lw_view *view, const struct lw_dirs *dirs)
{
	return !view->watched || (!(view->watched & ~dirs->trusted) && view->changes == dirs->changes);
}

bool lw_view_settled(const lw_view *view, const struct lw_dirs *dirs)
{
	bool frozen = dirs->freshness == LW_FROZEN || (dirs->freshness == LW_FROZEN_HELD && view->all_frozen);
	bool watched = view->watched && view->all_watched && told_nothing(view, dirs);
	return (frozen || watched) && view->valid && view->epoch == dirs->epoch;
}

/* Who, together, tell of changes in the directories of VIEW, which have just been compared. */
static void note_watchers(lw_view *view, struct lw_dirs *dirs)
{
	view->watched = 0;
	view->all_watched = dirs->freshness == LW_WATCH;
	view->changes = dirs->changes;
	for (uint32_t i = 0; i < view->count && dirs->freshness == LW_WATCH; i++) {
		const struct lw_dir *dir = view->entry[i].path ? lw_dirs_get(dirs, view->entry[i].path, view->entry[i].len) : NULL;
		view->all_watched &= !view->entry[i].path || (dir && dir->watched);
		view->watched |= dir ? dir->watched : 0;
	}
}

/* What is looked after is as of now, whatever the window says; the rest may be that old. */
static bool is_in_window(const lw_view *view, const struct lw_dirs *dirs, int64_t clock, int64_t window_ns)
{
	return view->compared_ns && clock - view->compared_ns < window_ns && told_nothing(view, dirs);
}

/* Unless the table of VIEW is within the window, or even so if NOW: compare it, and merge it anew if need be. */
static int compare(lw_view *view, struct lw_dirs *dirs, int64_t window_ns, bool now)
{
	int64_t clock = lw_monotonic_ns();
	bool same_epoch = view->epoch == dirs->epoch;
	if (!now && view->valid && same_epoch && is_in_window(view, dirs, clock, window_ns))
		return 0;
	view->epoch = dirs->epoch;
	bool weak = false;
	if (!view->valid || view->racy || !tokens_hold(view, dirs, &weak)) {
		int error = merge(view, dirs);
		if (error)
			return error;
		view->stored |= weak; /* as good as it gets: stored again, it would be by every process */
	}
	view->compared_ns = clock;
	note_watchers(view, dirs);
	return 0;
}

/*
 * Make table and tokens current. NOW: whatever the window says. For a glance a table that was once compared is good enough; one that is compared for it is compared as for
 * anybody, since others are served from it, too.
 */
static int refresh(lw_view *view, struct lw_dirs *dirs, int64_t window_ns, bool now)
{
	if (!view->looked)
		look_for_stored(view, dirs);
	if (lw_view_settled(view, dirs))
		return 0;
	bool glance = dirs->glance;
	if (glance && view->valid && view->compared_ns && view->epoch == dirs->epoch)
		return 0;
	dirs->glance = false;
	int error = compare(view, dirs, window_ns, now);
	dirs->glance = glance;
	return error;
}

/* --- lookups --- */

static bool table_first(lw_view *view, const char *name, size_t len, uint32_t *first, int *error)
{
	*error = 0;
	if (view->indexed.index) {
		int result = lw_index_view_find(&view->indexed, name, len, first);
		if (result == LW_BAD)
			*error = -EBADMSG;
		return result == LW_OK;
	}
	if (len > UINT8_MAX)
		return false;
	const struct slot *slot = table_slot(&view->merged, lw_name_hash(name, len), name, (uint16_t)len);
	*first = slot->first;
	return slot->name != NULL;
}

static void set_foreign(struct lw_hit *hit, uint32_t entry)
{
	hit->kind = LW_HIT_FOREIGN;
	hit->entry = entry;
	hit->asked = false;
	hit->len = hit->base_len = 0;
}

/* Search entries [start, end) one by one. */
static int search(lw_view *view, struct lw_dirs *dirs, uint32_t start, uint32_t end, const char *name, size_t len, struct lw_hit *hit)
{
	for (uint32_t i = start; i < end; i++) {
		if (!view->entry[i].path) {
			set_foreign(hit, i);
			return 0;
		}
		struct lw_dir *dir = lw_dirs_get(dirs, view->entry[i].path, view->entry[i].len);
		if (!dir)
			return -ENOMEM;
		int error = lw_dirs_fresh(dirs, dir);
		if (error)
			return error;
		if (foreign(view, i, lw_dir_token(dir))) {
			set_foreign(hit, i);
			return 0;
		}
		error = lw_resolve_fresh(dirs, dir, name, len, hit);
		if (error)
			return error;
		hit->entry = i;
		if (hit->kind != LW_HIT_NONE)
			return 0;
	}
	hit->kind = LW_HIT_NONE;
	return 0;
}

static int drop_damaged(lw_view *view, struct lw_dirs *dirs)
{
	dirs->stats.damaged++;
	view->indexed = (struct lw_index_view){ 0 };
	view->stored = view->valid = false;
	return merge(view, dirs);
}

static uint32_t next_foreign(const lw_view *view, uint32_t start)
{
	uint32_t i = start > view->first_foreign ? start : view->first_foreign;
	while (i < view->count && !foreign(view, i, view->token[i]))
		i++;
	return i;
}

static int search_table(lw_view *view, struct lw_dirs *dirs, uint32_t start, const char *name, size_t len, struct lw_hit *hit)
{
	uint32_t first = 0;
	int error;
	bool found = table_first(view, name, len, &first, &error);
	if (error) {
		error = drop_damaged(view, dirs);
		if (error)
			return error;
		found = table_first(view, name, len, &first, &error);
	}
	if (found && first >= view->count)
		return -EBADMSG;
	if (found && first < start)
		first = start; /* seen there already, and it did not settle the matter: it may occur again */
	uint32_t claimed = next_foreign(view, start);
	if (claimed < (found ? first : view->count)) {
		set_foreign(hit, claimed);
		return 0;
	}
	hit->kind = LW_HIT_NONE;
	if (!found)
		return 0;
	return search(view, dirs, first, view->count, name, len, hit);
}

int lw_view_resolve(lw_view *view, struct lw_dirs *dirs, int64_t window_ns, uint32_t start, const char *name, size_t len, struct lw_hit *hit)
{
	if (view->linear)
		return search(view, dirs, start, view->count, name, len, hit);

	int error = refresh(view, dirs, window_ns, false);
	if (!error)
		error = search_table(view, dirs, start, name, len, hit);
	if (error || start > 0 || hit->kind == LW_HIT_MODULE || hit->kind == LW_HIT_PACKAGE || lw_view_settled(view, dirs))
		return error;
	/* A miss, a portion, a foreign entry: what lies ahead of it must be compared now, not a window ago. */
	error = refresh(view, dirs, window_ns, true);
	return error ? error : search_table(view, dirs, 0, name, len, hit);
}

/* --- learning --- */

bool lw_view_unlearnt(const lw_view *view)
{
	return !view->linear && view->valid && !view->stored && !view->racy && !view->unlisted;
}

void lw_view_learnt(lw_view *view)
{
	view->stored = true;
}

static struct lw_view_dir *dirs_of(const lw_view *view)
{
	struct lw_view_dir *out = calloc((size_t)view->count + 1, sizeof(*out));
	for (uint32_t i = 0; out && i < view->count; i++)
		if (view->entry[i].path)
			out[i] = (struct lw_view_dir){ .path = lw_hash64(view->entry[i].path, view->entry[i].len), .token = view->token[i] };
	return out;
}

int lw_view_learn(const lw_view *view, struct lw_build *build)
{
	if (!lw_view_unlearnt(view))
		return 0;
	struct lw_view_dir *rests_on = dirs_of(view);
	struct lw_build_name *names = malloc((view->merged.count + 1) * sizeof(*names));
	if (!rests_on || !names) {
		free(rests_on);
		free(names);
		return -ENOMEM;
	}
	uint32_t count = 0;
	for (uint32_t i = 0; i < view->merged.capacity; i++) {
		const struct slot *slot = &view->merged.slot[i];
		if (slot->name)
			names[count++] = (struct lw_build_name){ .name = slot->name, .len = slot->len, .first = slot->first };
	}
	int error = lw_build_view(build, view->key, rests_on, view->count, names, count);
	free(rests_on);
	free(names);
	return error;
}
