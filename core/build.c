/* SPDX-License-Identifier: MIT */
/*
 * build: facts in memory, then one index file (see build.h; index.h for the format).
 *
 * Facts live in three sets (directories, files, views): arrays in order of first addition, so that a write is
 * deterministic, with a hash table of positions beside them. Strings go straight into what will be the STRINGS section;
 * a fourth set shares equal names. Every function prepares all memory first and changes the facts last, so a
 * failure changes nothing.
 *
 * A write is one pass over the data, block sums are taken as buffers are flushed. Sums of the sections are SUMS, and the
 * sums of SUMS' own blocks are ROOTS: both fall out of the same array.
 */
#include "build.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUT_BUFFER = 64 * LW_BLOCK, NAME_LEN_MAX = 255 };

/* ---- sets: arrays of items with a hash table of positions ---- */

/* Items begin with a struct item. */
struct item {
	uint64_t hash;
};

struct set {
	size_t item_size;
	unsigned char *items;
	uint32_t count, capacity;
	uint32_t *slot;		/* position + 1, 0 free; at most 3/4 are taken */
	size_t slots;		/* a power of two */
};

static void *set_at(const struct set *set, uint32_t i)
{
	return set->items + (size_t)i * set->item_size;
}

static void set_link(struct set *set, uint32_t i)
{
	const struct item *item = set_at(set, i);
	size_t at = item->hash & (set->slots - 1);
	while (set->slot[at])
		at = (at + 1) & (set->slots - 1);
	set->slot[at] = i + 1;
}

static int set_grow_slots(struct set *set)
{
	size_t slots = set->slots ? set->slots * 2 : 64;
	uint32_t *slot = calloc(slots, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	free(set->slot);
	set->slot = slot;
	set->slots = slots;
	for (uint32_t i = 0; i < set->count; i++)
		set_link(set, i);
	return 0;
}

static int set_grow_items(struct set *set)
{
	uint64_t capacity = set->capacity ? (uint64_t)set->capacity * 2 : 32;
	if (capacity > UINT32_MAX)
		capacity = UINT32_MAX;
	if (capacity > SIZE_MAX / set->item_size)
		return -ENOMEM;
	void *items = realloc(set->items, (size_t)capacity * set->item_size);
	if (!items)
		return -ENOMEM;
	set->items = items;
	set->capacity = (uint32_t)capacity;
	return 0;
}

/* Room for one more, so that set_add() cannot fail. */
static int set_reserve(struct set *set)
{
	if (set->count == UINT32_MAX - 1)
		return -E2BIG;
	int error = set->count < set->capacity ? 0 : set_grow_items(set);
	if (!error && set->count >= set->slots / 4 * 3)
		error = set_grow_slots(set);
	return error;
}

static void *set_add(struct set *set, uint64_t hash)
{
	struct item *item = set_at(set, set->count);
	memset(item, 0, set->item_size);
	item->hash = hash;
	set_link(set, set->count++);
	return item;
}

typedef bool is_same(const lw_build *build, const void *item, const void *key);

static void *set_find(const struct set *set, uint64_t hash, is_same *same, const lw_build *build, const void *key)
{
	if (!set->slots)
		return NULL;
	for (size_t at = hash & (set->slots - 1); set->slot[at]; at = (at + 1) & (set->slots - 1)) {
		struct item *item = set_at(set, set->slot[at] - 1);
		if (item->hash == hash && same(build, item, key))
			return item;
	}
	return NULL;
}

static void set_free(struct set *set)
{
	free(set->items);
	free(set->slot);
}

/* ---- pools: memory that is given back as a whole ---- */

/* What is replaced stays in there: facts rarely are. The first chunk is for builders of a few directories. */
enum { CHUNK_FIRST = 16 << 10, CHUNK_MOST = 1 << 20 };

struct chunk {
	struct chunk *next;
	size_t size, used;
	_Alignas(uint64_t) unsigned char data[];
};

static struct chunk *chunk_create(struct chunk *next, size_t least)
{
	size_t size = !next ? CHUNK_FIRST : next->size < CHUNK_MOST ? next->size * 2 : CHUNK_MOST;
	if (size < least)
		size = least;
	struct chunk *chunk = malloc(sizeof(*chunk) + size);
	if (chunk)
		*chunk = (struct chunk){ .next = next, .size = size };
	return chunk;
}

/* 8-aligned. NULL without memory. */
static void *pool_take(struct chunk **pool, size_t size)
{
	struct chunk *chunk = *pool;
	size = (size + 7) & ~(size_t)7;
	if (!chunk || size > chunk->size - chunk->used) {
		chunk = chunk_create(*pool, size);
		if (!chunk)
			return NULL;
		*pool = chunk;
	}
	void *taken = chunk->data + chunk->used;
	chunk->used += size;
	return taken;
}

static void pool_free(struct chunk *pool)
{
	while (pool) {
		struct chunk *next = pool->next;
		free(pool);
		pool = next;
	}
}

/* ---- the builder ---- */

struct name {
	struct item item;
	uint32_t at, len;
};

struct dir {
	struct item item;
	uint64_t stamp;
	uint32_t path;
	uint16_t path_len;
	uint16_t flags;
	uint32_t count;
	uint32_t first;			/* set by a write */
	bool merged;			/* from an older index; says nothing about what is there now */
	uint32_t known;			/* of the stamps */
	/* In the pool: */
	struct lw_entry *entries;	/* names are offsets in STRINGS */
	uint64_t *stamps;		/* as many; NULL: none is known */
};

struct file {
	struct item item;
	struct lw_hash128 key;
	uint64_t stamp, content;
	uint32_t flags, len;
	const void *code;
	void *owned;			/* NULL or CODE */
	uint32_t unit;			/* set by a write */
};

struct view {
	struct item item;
	struct lw_hash128 key;
	uint32_t entries, count;
	uint32_t offset;		/* set by a write */
	struct lw_view_dir *dirs;	/* ours; entries of them, then the names */
	struct lw_view_name *names;
};

/* A tree of which everything is known. */
struct cover {
	struct item item;
	char *path;			/* ours; not terminated */
	size_t len;
	lw_kinds source;
	bool whole;
};

/* A source that older indexes know and that is gone. */
struct gone {
	struct item item;
	struct lw_hash128 key;
};

struct lw_build {
	char *strings;
	uint32_t strings_len, strings_size;
	struct set names, dirs, files, views;
	struct set covers;
	struct set gone;		/* found by merges */
	struct chunk *pool;
	uint64_t entries, code, viewdata;	/* sizes of what is in: records, bytes, bytes */
	uint64_t known;			/* stamps beside entries that are */
	bool stamped;			/* there is room for stamps */
};

lw_build *lw_build_create(void)
{
	lw_build *build = calloc(1, sizeof(*build));
	if (!build)
		return NULL;
	build->names.item_size = sizeof(struct name);
	build->dirs.item_size = sizeof(struct dir);
	build->files.item_size = sizeof(struct file);
	build->views.item_size = sizeof(struct view);
	build->covers.item_size = sizeof(struct cover);
	build->gone.item_size = sizeof(struct gone);
	return build;
}

static struct dir *dir_at(const lw_build *build, uint32_t i)
{
	return set_at(&build->dirs, i);
}

static struct file *file_at(const lw_build *build, uint32_t i)
{
	return set_at(&build->files, i);
}

static struct view *view_at(const lw_build *build, uint32_t i)
{
	return set_at(&build->views, i);
}

void lw_build_destroy(lw_build *build)
{
	if (!build)
		return;
	pool_free(build->pool);
	for (uint32_t i = 0; i < build->files.count; i++)
		free(file_at(build, i)->owned);
	for (uint32_t i = 0; i < build->views.count; i++)
		free(view_at(build, i)->dirs);
	for (uint32_t i = 0; i < build->covers.count; i++)
		free(((struct cover *)set_at(&build->covers, i))->path);
	set_free(&build->covers);
	set_free(&build->gone);
	set_free(&build->names);
	set_free(&build->dirs);
	set_free(&build->files);
	set_free(&build->views);
	free(build->strings);
	free(build);
}

static uint64_t round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* ---- strings ---- */

struct text {
	const char *at;
	size_t len;
};

static int strings_reserve(lw_build *build, size_t len)
{
	if (len > UINT32_MAX - build->strings_len)
		return -E2BIG;
	uint32_t need = build->strings_len + (uint32_t)len;
	if (need <= build->strings_size && build->strings)
		return 0;
	uint32_t size = need > UINT32_MAX / 4 ? UINT32_MAX : need * 2 + 4096;
	char *strings = realloc(build->strings, size);
	if (!strings)
		return -ENOMEM;
	build->strings = strings;
	build->strings_size = size;
	return 0;
}

/* Into reserved room. */
static uint32_t strings_append(lw_build *build, const char *at, size_t len)
{
	uint32_t offset = build->strings_len;
	memcpy(build->strings + offset, at, len);
	build->strings_len += (uint32_t)len;
	return offset;
}

static bool same_name(const lw_build *build, const void *item, const void *key)
{
	const struct name *name = item;
	const struct text *text = key;
	return name->len == text->len && memcmp(build->strings + name->at, text->at, text->len) == 0;
}

/* The offset of a name in STRINGS, where it stands once. HASH: lw_name_hash(). */
static int intern(lw_build *build, const char *at, size_t len, uint32_t hash, uint32_t *offset)
{
	const struct text text = { at, len };
	struct name *name = set_find(&build->names, hash, same_name, build, &text);
	if (!name) {
		int error = strings_reserve(build, len);
		if (!error)
			error = set_reserve(&build->names);
		if (error)
			return error;
		name = set_add(&build->names, hash);
		name->at = strings_append(build, at, len);
		name->len = (uint32_t)len;
	}
	*offset = name->at;
	return 0;
}

/* The order of all name tables. */
static int compare_names(uint32_t a_hash, const char *a, size_t a_len, uint32_t b_hash, const char *b, size_t b_len)
{
	if (a_hash != b_hash)
		return a_hash < b_hash ? -1 : 1;
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
	return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* ---- directories ---- */

/* Entries, and where their names lie: in a listing or in an open index. */
struct source {
	const struct lw_listing *listing;
	const lw_index *index;
	const struct lw_entry *entries;
	const uint64_t *stamps;		/* beside them, or NULL */
	uint32_t count;
	bool believed;			/* the listing need not be looked over */
};

static struct source source_of(const struct lw_listing *listing)
{
	return listing ? (struct source){ .listing = listing, .entries = listing->entries, .count = listing->count } : (struct source){ 0 };
}

static const char *source_name(const struct source *source, const struct lw_entry *entry)
{
	if (source->index)
		return lw_index_string(source->index, entry->name, entry->len);
	const struct lw_listing *listing = source->listing;
	if (entry->name > listing->names_len || entry->len > listing->names_len - entry->name)
		return NULL;
	return listing->names + entry->name;
}

static bool is_sane(const struct lw_entry *entry, const char *name)
{
	return name && entry->len && entry->hash == lw_name_hash(name, entry->len);
}

static int copy_entry(lw_build *build, const struct source *source, const struct lw_entry *from, struct lw_entry *to)
{
	const char *name = source_name(source, from);
	if (!is_sane(from, name))
		return -EINVAL;
	*to = *from;
	return intern(build, name, from->len, from->hash, &to->name);
}

static bool ascending(const lw_build *build, const struct lw_entry *a, const struct lw_entry *b)
{
	const char *strings = build->strings;
	return compare_names(a->hash, strings + a->name, a->len, b->hash, strings + b->name, b->len) < 0;
}

static int copy_entries(lw_build *build, const struct source *source, struct lw_entry *to)
{
	int error = 0;
	for (uint32_t i = 0; i < source->count && !error; i++) {
		error = copy_entry(build, source, &source->entries[i], &to[i]);
		if (!error && i > 0 && !ascending(build, &to[i - 1], &to[i]))
			error = -EINVAL;
	}
	return error;
}

/* Names are taken in one piece: to look each of 790,000 up, lest it be there already, cost more than all else that is done to them here. */
static int copy_believed(lw_build *build, const struct lw_listing *listing, struct lw_entry *to)
{
	int error = strings_reserve(build, listing->names_len);
	if (error)
		return error;
	uint32_t names = strings_append(build, listing->names, listing->names_len);
	for (uint32_t i = 0; i < listing->count; i++) {
		to[i] = listing->entries[i];
		to[i].name += names;
	}
	return 0;
}

static uint32_t copy_stamps(const uint64_t *from, uint32_t count, uint64_t *to)
{
	uint32_t known = 0;
	for (uint32_t i = 0; i < count; i++)
		known += (to[i] = from[i]) != 0;
	return known;
}

/* What SOURCE says of names, into TO. What it takes is lost if it fails, until the builder goes. */
static int copy_names(lw_build *build, const struct source *source, struct dir *to)
{
	if (!source->count)
		return 0;
	size_t stamps = source->stamps ? source->count * sizeof(*to->stamps) : 0;
	unsigned char *taken = pool_take(&build->pool, stamps + source->count * sizeof(*to->entries));
	if (!taken)
		return -ENOMEM;
	to->count = source->count;
	to->entries = (struct lw_entry *)(taken + stamps);
	if (stamps) {
		to->stamps = (uint64_t *)taken;
		to->known = copy_stamps(source->stamps, source->count, to->stamps);
	}
	return source->believed ? copy_believed(build, source->listing, to->entries) : copy_entries(build, source, to->entries);
}

static bool same_dir(const lw_build *build, const void *item, const void *key)
{
	const struct dir *dir = item;
	const struct text *path = key;
	return dir->path_len == path->len && memcmp(build->strings + dir->path, path->at, path->len) == 0;
}

static struct dir *find_hashed_dir(const lw_build *build, const struct text *path, uint64_t hash)
{
	return set_find(&build->dirs, hash, same_dir, build, path);
}

static struct dir *find_dir(const lw_build *build, const struct text *path)
{
	return find_hashed_dir(build, path, lw_hash64(path->at, path->len));
}

static int add_dir(lw_build *build, const struct text *path, uint64_t hash, struct dir **out)
{
	int error = strings_reserve(build, path->len);
	if (!error)
		error = set_reserve(&build->dirs);
	if (error)
		return error;
	*out = set_add(&build->dirs, hash);
	(*out)->path = strings_append(build, path->at, path->len);
	(*out)->path_len = (uint16_t)path->len;
	return 0;
}

/* DIR is what is said of a directory now. */
static void replace_dir(lw_build *build, struct dir *dir, const struct dir *by)
{
	build->entries += by->count - (uint64_t)dir->count;
	build->known += by->known - (uint64_t)dir->known;
	dir->merged = by->merged;
	dir->stamp = by->stamp;
	dir->flags = by->flags;
	dir->count = by->count;
	dir->known = by->known;
	dir->entries = by->entries;
	dir->stamps = by->stamps;
}

/* Stamp, flags, and whether it is merged are as BY has it. */
static int put_dir(lw_build *build, const struct text *path, struct dir by, const struct source *source)
{
	if (path->len > UINT16_MAX)
		return -E2BIG;
	uint64_t hash = lw_hash64(path->at, path->len);
	struct dir *dir = find_hashed_dir(build, path, hash);
	if (source->count > UINT32_MAX - (build->entries - (dir ? dir->count : 0)))
		return -E2BIG;
	int error = copy_names(build, source, &by);
	if (!error && !dir)
		error = add_dir(build, path, hash, &dir);
	if (error)
		return error;
	replace_dir(build, dir, &by);
	build->stamped |= source->stamps != NULL;
	return 0;
}

int lw_build_dir(lw_build *build, const char *path, size_t len, uint64_t stamp, uint16_t flags, const struct lw_listing *listing)
{
	const struct source source = source_of(listing);
	return put_dir(build, &(struct text){ path, len }, (struct dir){ .stamp = stamp, .flags = flags }, &source);
}

int lw_build_dir_stamped(lw_build *build, const char *path, size_t len, uint64_t stamp, uint16_t flags, const struct lw_listing *listing, const uint64_t *stamps)
{
	struct source source = source_of(listing);
	source.believed = true;
	source.stamps = stamps;
	return put_dir(build, &(struct text){ path, len }, (struct dir){ .stamp = stamp, .flags = flags }, &source);
}

/* ---- files ---- */

/* Keys are hashes already, unless a crafted index made them up. */
static uint64_t key_hash(struct lw_hash128 key)
{
	return lw_hash64(&key, sizeof(key));
}

static bool same_file(const lw_build *build, const void *item, const void *key)
{
	return lw_hash128_cmp(((const struct file *)item)->key, *(const struct lw_hash128 *)key) == 0;
}

static struct file *find_file(const lw_build *build, struct lw_hash128 key)
{
	return set_find(&build->files, key_hash(key), same_file, build, &key);
}

static int add_file(lw_build *build, struct lw_hash128 key, struct file **out)
{
	int error = set_reserve(&build->files);
	if (error)
		return error;
	*out = set_add(&build->files, key_hash(key));
	(*out)->key = key;
	return 0;
}

static int copy_code(const void *code, size_t len, void **out)
{
	*out = malloc(len);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, code, len);
	return 0;
}

/* What code of LEN bytes takes, and whether all of it stays addressable beside what is kept. */
static int account_code(const lw_build *build, const struct file *replaced, size_t len, uint64_t *total)
{
	const uint64_t limit = ((uint64_t)UINT32_MAX + 1) * LW_CODE_UNIT;
	if (len >> LW_FILE_LEN_BITS)
		return -E2BIG;
	*total = build->code - (replaced ? round_up(replaced->len, LW_CODE_UNIT) : 0) + round_up(len, LW_CODE_UNIT);
	return *total > limit ? -E2BIG : 0;
}

int lw_build_file(lw_build *build, struct lw_hash128 key, uint64_t stamp, uint64_t content, uint32_t flags,
		const void *code, size_t code_len, bool copy)
{
	if (flags & ~LW_FILE_PUBLIC)
		return -EINVAL;
	uint64_t total;
	struct file *file = find_file(build, key);
	int error = account_code(build, file, code_len, &total);
	if (error)
		return error;

	void *owned = NULL;
	if (copy && code_len) {
		error = copy_code(code, code_len, &owned);
		if (error)
			return error;
	}
	error = file ? 0 : add_file(build, key, &file);
	if (error) {
		free(owned);
		return error;
	}
	free(file->owned);
	file->owned = owned;
	file->code = owned ? owned : code;
	file->len = (uint32_t)code_len;
	file->stamp = stamp;
	file->content = content;
	file->flags = flags;
	build->code = total;
	return 0;
}

/* FILE's code belongs to another builder now. */
static void give_away(lw_build *build, struct file *file)
{
	build->code -= round_up(file->len, LW_CODE_UNIT);
	file->owned = NULL;
	file->code = NULL;
	file->len = 0;
}

int lw_build_move_code(lw_build *build, lw_build *to)
{
	for (uint32_t i = 0; i < build->files.count; i++) {
		const struct file *file = file_at(build, i);
		int error = file->len ? lw_build_file(to, file->key, file->stamp, file->content, file->flags, file->code, file->len, false) : 0;
		if (error)
			return error;
	}
	for (uint32_t i = 0, moved = 0; i < build->files.count; i++) {
		struct file *file = file_at(build, i);
		if (!file->len)
			continue;
		file_at(to, moved++)->owned = file->owned;
		give_away(build, file);
	}
	return 0;
}

/* ---- views ---- */

static bool same_view(const lw_build *build, const void *item, const void *key)
{
	return lw_hash128_cmp(((const struct view *)item)->key, *(const struct lw_hash128 *)key) == 0;
}

static struct view *find_view(const lw_build *build, struct lw_hash128 key)
{
	return set_find(&build->views, key_hash(key), same_view, build, &key);
}

static int find_or_add_view(lw_build *build, struct lw_hash128 key, struct view **out)
{
	*out = find_view(build, key);
	if (*out)
		return 0;
	int error = set_reserve(&build->views);
	if (error)
		return error;
	*out = set_add(&build->views, key_hash(key));
	(*out)->key = key;
	return 0;
}

/* Directories and names of a view lie together, padded to where the next ones may begin. */
static uint64_t view_size(uint32_t entries, uint32_t count)
{
	return round_up((uint64_t)entries * sizeof(struct lw_view_dir) + (uint64_t)count * sizeof(struct lw_view_name), sizeof(uint64_t));
}

static int order_view_names(const void *a, const void *b, void *strings)
{
	const struct lw_view_name *x = a, *y = b;
	const char *base = strings;
	return compare_names(x->hash, base + x->name, x->len, y->hash, base + y->name, y->len);
}

static int copy_view_name(lw_build *build, const struct lw_build_name *from, uint32_t entries, struct lw_view_name *to)
{
	if (from->len == 0 || from->len > NAME_LEN_MAX || from->first >= entries)
		return -EINVAL;
	*to = (struct lw_view_name){ .hash = lw_name_hash(from->name, from->len), .len = from->len, .first = from->first };
	return intern(build, from->name, from->len, to->hash, &to->name);
}

static int copy_view_names(lw_build *build, const struct lw_build_name *from, uint32_t count, uint32_t entries,
		struct lw_view_name *to)
{
	for (uint32_t i = 0; i < count; i++) {
		int error = copy_view_name(build, &from[i], entries, &to[i]);
		if (error)
			return error;
	}
	qsort_r(to, count, sizeof(*to), order_view_names, build->strings);
	/* Names are shared: equal ones have equal offsets. */
	for (uint32_t i = 1; i < count; i++)
		if (to[i].name == to[i - 1].name)
			return -EINVAL;
	return 0;
}

static int copy_view(lw_build *build, const struct lw_view_dir *dirs, uint32_t entries, const struct lw_build_name *names,
		uint32_t count, struct lw_view_dir **out)
{
	*out = calloc(1, (size_t)view_size(entries, count) + 1);
	if (!*out)
		return -ENOMEM;
	if (entries)
		memcpy(*out, dirs, entries * sizeof(*dirs));
	int error = copy_view_names(build, names, count, entries, (struct lw_view_name *)(*out + entries));
	if (error)
		free(*out);
	return error;
}

int lw_build_view(lw_build *build, struct lw_hash128 key, const struct lw_view_dir *dirs, uint32_t entries,
		const struct lw_build_name *names, uint32_t count)
{
	const struct view *old = find_view(build, key);
	uint64_t others = build->viewdata - (old ? view_size(old->entries, old->count) : 0);
	if (entries > UINT16_MAX || view_size(entries, count) > UINT32_MAX - others)
		return -E2BIG;

	struct lw_view_dir *copy;
	int error = copy_view(build, dirs, entries, names, count, &copy);
	if (error)
		return error;
	struct view *view;
	error = find_or_add_view(build, key, &view);
	if (error) {
		free(copy);
		return error;
	}
	free(view->dirs);
	view->dirs = copy;
	view->names = (struct lw_view_name *)(copy + entries);
	view->entries = entries;
	view->count = count;
	build->viewdata = others + view_size(entries, count);
	return 0;
}

/* ---- merging ---- */

/*
 * What the facts of a well-formed index can add up to, taken from its section sizes. A crafted one whose records
 * share one huge range would otherwise make a small file a large builder.
 */
struct budget {
	uint64_t strings, entries, viewdata, code;
};

static bool spend(uint64_t *budget, uint64_t n)
{
	if (n > *budget)
		return false;
	*budget -= n;
	return true;
}

struct merge {
	lw_build *build;
	const lw_index *index;
	struct budget budget;
	unsigned skipped;
};

/* Facts that make no sense are left out; anything else that goes wrong ends the merge. */
static int merged(struct merge *merge, int error)
{
	if (error == -EINVAL) {
		merge->skipped++;
		return 0;
	}
	return error;
}

static bool same_cover(const lw_build *build, const void *item, const void *key)
{
	const struct cover *cover = item;
	const struct text *path = key;
	return cover->len == path->len && memcmp(cover->path, path->at, path->len) == 0;
}

static struct cover *find_cover(const lw_build *build, const char *path, size_t len)
{
	return set_find(&build->covers, lw_hash64(path, len), same_cover, build, &(struct text){ path, len });
}

/* The innermost. There may be tens of thousands (each directory that was removed), and whatever is merged is asked for. */
static const struct cover *cover_of(const lw_build *build, const struct text *path)
{
	const char *slash = path->at + path->len;
	const struct cover *cover = NULL;
	while (build->covers.count && slash && !cover) {
		size_t len = (size_t)(slash - path->at);
		cover = find_cover(build, path->at, len);
		slash = memrchr(path->at, '/', len);
	}
	return cover;
}

static bool same_gone(const lw_build *build, const void *item, const void *key)
{
	return lw_hash128_cmp(((const struct gone *)item)->key, *(const struct lw_hash128 *)key) == 0;
}

static bool is_gone(const lw_build *build, struct lw_hash128 key)
{
	return set_find(&build->gone, key_hash(key), same_gone, build, &key);
}

static int note_gone_key(lw_build *build, struct lw_hash128 key)
{
	if (find_file(build, key) || is_gone(build, key))
		return 0;
	int error = set_reserve(&build->gone);
	if (error)
		return error;
	((struct gone *)set_add(&build->gone, key_hash(key)))->key = key;
	return 0;
}

/* The sources that DIR had, at PATH, and that the builder lacks. */
static int note_gone(lw_build *build, const struct lw_index_dir *dir, const struct text *path, lw_kinds source)
{
	char *file = malloc(path->len + 1 + NAME_LEN_MAX + sizeof(".py"));
	if (!file)
		return -ENOMEM;
	memcpy(file, path->at, path->len);
	file[path->len] = '/';
	int error = 0;
	for (uint32_t i = 0; i < dir->record->count && !error; i++) {
		const struct lw_entry *entry = &dir->entries[i];
		const char *name = entry->kinds & source ? lw_index_string(dir->index, entry->name, entry->len) : NULL;
		if (!name)
			continue;
		size_t len = path->len + 1 + entry->len;
		memcpy(file + path->len + 1, name, entry->len);
		memcpy(file + len, ".py", 3);
		error = note_gone_key(build, lw_hash128(file, len + 3));
	}
	free(file);
	return error;
}

static int add_cover(lw_build *build, const char *path, size_t len)
{
	int error = set_reserve(&build->covers);
	char *copy = error ? NULL : malloc(len + 1);
	if (!copy)
		return error ? error : -ENOMEM;
	memcpy(copy, path, len);
	struct cover *cover = set_add(&build->covers, lw_hash64(path, len));
	cover->path = copy;
	cover->len = len;
	return 0;
}

int lw_build_cover(lw_build *build, const char *path, size_t len, lw_kinds source, bool whole)
{
	int error = find_cover(build, path, len) ? 0 : add_cover(build, path, len);
	if (error)
		return error;
	struct cover *cover = find_cover(build, path, len);
	cover->source |= source;
	cover->whole |= whole;
	return 0;
}

static const struct lw_entry *find_entry(const lw_build *build, const struct dir *dir, const struct text *name)
{
	uint32_t hash = lw_name_hash(name->at, name->len);
	for (uint32_t i = lw_listing_lower_bound(dir->entries, dir->count, hash); i < dir->count && dir->entries[i].hash == hash; i++) {
		const struct lw_entry *entry = &dir->entries[i];
		if (entry->len == name->len && memcmp(build->strings + entry->name, name->at, name->len) == 0)
			return entry;
	}
	return NULL;
}

/* One that the builder was given. */
static const struct dir *find_given(const lw_build *build, const struct text *path)
{
	const struct dir *dir = find_dir(build, path);
	return dir && !dir->merged ? dir : NULL;
}

/* Whether a walk from the covered directory would have come to PATH, which the builder was not given, if it were still there. */
static bool is_gone_dir(const lw_build *build, const struct cover *cover, const struct text *path)
{
	if (cover->whole)
		return true;
	for (size_t at = cover->len; at < path->len;) {
		const struct text above = { path->at, at };
		const struct dir *dir = find_given(build, &above);
		if (!dir)
			return true;
		const char *end = memchr(path->at + at + 1, '/', path->len - at - 1);
		const struct text name = { path->at + at + 1, (end ? (size_t)(end - path->at) : path->len) - at - 1 };
		if (!lw_names_entered(name.at, name.len) || dir->flags & LW_DIR_UNREADABLE)
			return false;
		const struct lw_entry *entry = find_entry(build, dir, &name);
		if (!entry || !(entry->kinds & LW_KIND_DIR))
			return true;
		at += 1 + name.len;
		const struct text next = { path->at, at };
		if (entry->flags & LW_ENTRY_DOUBT && !find_given(build, &next))
			return false; /* a link that was left alone */
	}
	return true;
}

/* Whether what an index says of PATH is out of date. */
static bool is_covered(const lw_build *build, const struct cover *cover, const struct text *path)
{
	return find_given(build, path) || is_gone_dir(build, cover, path);
}

bool lw_build_outdates(const lw_build *build, const lw_index *index)
{
	for (uint32_t i = 0; i < lw_index_dir_count(index); i++) {
		struct lw_index_dir dir;
		const char *path;
		if (lw_index_dir_at(index, i, &dir, &path) != LW_OK)
			return true;
		const struct text text = { path, dir.record->path_len };
		const struct cover *cover = cover_of(build, &text);
		if (cover && !find_given(build, &text) && is_gone_dir(build, cover, &text))
			return true;
	}
	return false;
}

static int merge_dir(struct merge *merge, uint32_t i)
{
	struct lw_index_dir dir;
	const char *path;
	if (lw_index_dir_at(merge->index, i, &dir, &path) != LW_OK)
		return -EINVAL;
	const struct text text = { path, dir.record->path_len };
	const struct cover *cover = cover_of(merge->build, &text);
	if (cover && is_covered(merge->build, cover, &text))
		return note_gone(merge->build, &dir, &text, cover->source);
	if (find_dir(merge->build, &text))
		return 0;
	if (!spend(&merge->budget.strings, text.len) || !spend(&merge->budget.entries, dir.record->count))
		return -EINVAL;
	struct source source = { .index = merge->index, .entries = dir.entries, .count = dir.record->count };
	if (lw_index_stamps(&dir, dir.entries, source.count, &source.stamps) == LW_BAD)
		return -EINVAL;
	return put_dir(merge->build, &text, (struct dir){ .stamp = dir.record->stamp, .flags = dir.record->flags, .merged = true }, &source);
}

/* Its code was stored before (see lw_build_move_code()), or was not read again because nothing had changed. */
static bool lacks_code_of(const struct file *known, const struct lw_file_record *file)
{
	return !known->len && known->stamp == file->stamp && known->content == file->content;
}

static int merge_file(struct merge *merge, uint32_t i)
{
	const struct lw_file_record *file;
	if (lw_index_file_at(merge->index, i, &file) != LW_OK)
		return -EINVAL;
	const struct file *known = find_file(merge->build, file->key);
	if (known ? !lacks_code_of(known, file) : is_gone(merge->build, file->key))
		return 0;
	const void *code = NULL;
	size_t len = 0;
	if (lw_index_code(merge->index, file, &code, &len) == LW_BAD || !spend(&merge->budget.code, len))
		return -EINVAL;
	uint32_t flags = file->code_len >> LW_FILE_LEN_BITS << LW_FILE_LEN_BITS;
	return lw_build_file(merge->build, file->key, file->stamp, file->content, flags, code, len, false);
}

static int name_view(const struct lw_index_view *view, struct lw_build_name *names)
{
	for (uint32_t i = 0; i < view->record->count; i++) {
		const struct lw_view_name *from = &view->names[i];
		names[i] = (struct lw_build_name){ .len = from->len, .first = from->first };
		names[i].name = lw_index_string(view->index, from->name, from->len);
		if (!names[i].name)
			return -EINVAL;
	}
	return 0;
}

static int copy_indexed_view(lw_build *build, const struct lw_index_view *view)
{
	const struct lw_view_record *record = view->record;
	struct lw_build_name *names = calloc((size_t)record->count + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	int error = name_view(view, names);
	if (!error)
		error = lw_build_view(build, record->key, view->dirs, record->entries, names, record->count);
	free(names);
	return error;
}

static int merge_view(struct merge *merge, uint32_t i)
{
	struct lw_index_view view;
	if (lw_index_view_at(merge->index, i, &view) != LW_OK)
		return -EINVAL;
	if (find_view(merge->build, view.record->key))
		return 0;
	if (view.record->entries > UINT16_MAX || !spend(&merge->budget.viewdata, view_size(view.record->entries, view.record->count)))
		return -EINVAL;
	return copy_indexed_view(merge->build, &view);
}

static int merge_each(struct merge *merge, uint32_t count, int (*one)(struct merge *, uint32_t))
{
	int error = 0;
	for (uint32_t i = 0; i < count && !error; i++)
		error = merged(merge, one(merge, i));
	return error;
}

int lw_build_merge(lw_build *build, const lw_index *index, unsigned *skipped)
{
	const struct lw_index_head *head = lw_index_head(index);
	struct merge merge = { .build = build, .index = index, .budget = {
		.strings = head->section[LW_SEC_STRINGS].size,
		.entries = head->section[LW_SEC_ENTRIES].size / sizeof(struct lw_entry),
		.viewdata = head->section[LW_SEC_VIEWDATA].size,
		.code = head->section[LW_SEC_CODE].size,
	} };
	int error = merge_each(&merge, lw_index_dir_count(index), merge_dir);
	if (!error)
		error = merge_each(&merge, lw_index_file_count(index), merge_file);
	if (!error)
		error = merge_each(&merge, lw_index_view_count(index), merge_view);
	if (skipped)
		*skipped = merge.skipped;
	return error;
}

bool lw_build_knows_dir(const lw_build *build, const char *path, size_t len)
{
	return find_dir(build, &(struct text){ path, len });
}

bool lw_build_empty(const lw_build *build)
{
	return !build->dirs.count && !build->files.count && !build->views.count;
}

/* ---- writing ---- */

static int plan(const lw_build *build, struct lw_index_head *head)
{
	head->section[LW_SEC_STRINGS].size = build->strings_len;
	head->section[LW_SEC_DIRS].size = (uint64_t)build->dirs.count * sizeof(struct lw_dir_record);
	head->section[LW_SEC_ENTRIES].size = build->entries * sizeof(struct lw_entry);
	head->section[LW_SEC_STAMPS].size = build->stamped ? build->entries * sizeof(uint64_t) : 0;
	head->section[LW_SEC_FILES].size = (uint64_t)build->files.count * sizeof(struct lw_file_record);
	head->section[LW_SEC_VIEWS].size = (uint64_t)build->views.count * sizeof(struct lw_view_record);
	head->section[LW_SEC_VIEWDATA].size = build->viewdata;
	head->section[LW_SEC_CODE].size = build->code;
	return lw_index_layout(head);
}

uint64_t lw_build_size(const lw_build *build)
{
	struct lw_index_head head = { .format = LW_INDEX_FORMAT };
	return plan(build, &head) ? UINT64_MAX : head.file_size;
}

void lw_build_facts(const lw_build *build, struct lw_build_facts *out)
{
	*out = (struct lw_build_facts){
		.directories = build->dirs.count, .names = build->entries, .files = build->files.count, .stamps = build->known,
		.strings = build->strings_len, .code = build->code,
		.facts = build->dirs.count * sizeof(struct lw_dir_record) + build->entries * (sizeof(struct lw_entry) + (build->stamped ? sizeof(uint64_t) : 0))
			+ build->files.count * sizeof(struct lw_file_record) + build->views.count * sizeof(struct lw_view_record) + build->viewdata,
	};
}

/* A file in the making. After an error everything is ignored: whoever puts need not look. */
struct out {
	int fd;
	off_t start, at;
	int error;
	size_t used;
	unsigned char *buffer;	/* OUT_BUFFER */
	uint64_t *sum;		/* of block i, for the blocks flushed so far */
	uint64_t block;
};

static int write_all(int fd, const void *data, size_t size, off_t at)
{
	for (size_t done = 0; done < size; ) {
		ssize_t put = pwrite(fd, (const unsigned char *)data + done, size - done, at + (off_t)done);
		if (put == 0)
			return -EIO;
		if (put < 0 && errno != EINTR)
			return -errno;
		done += put > 0 ? (size_t)put : 0;
	}
	return 0;
}

/* Whole blocks only. */
static void flush(struct out *out)
{
	if (out->error)
		return;
	for (size_t at = 0; at < out->used; at += LW_BLOCK)
		out->sum[out->block++] = lw_hash64(out->buffer + at, LW_BLOCK);
	out->error = write_all(out->fd, out->buffer, out->used, out->at);
	out->at += (off_t)out->used;
	out->used = 0;
}

static void put(struct out *out, const void *data, size_t size)
{
	const unsigned char *from = data;
	while (size && !out->error) {
		size_t room = OUT_BUFFER - out->used, part = size < room ? size : room;
		memcpy(out->buffer + out->used, from, part);
		out->used += part;
		from += part;
		size -= part;
		if (out->used == OUT_BUFFER)
			flush(out);
	}
}

/* Zeros up to a multiple of UNIT, which divides LW_BLOCK. */
static void pad(struct out *out, size_t unit)
{
	static const unsigned char zeros[LW_BLOCK];
	put(out, zeros, (unit - out->used % unit) % unit);
}

typedef int compare_items(const void *a, const void *b, void *build);
/* The first 64 bits of what items are compared by: a hash, so they are spread evenly. */
typedef uint64_t first_bits(const void *item);

enum { BUCKET_BITS = 16, BUCKETS = 1 << BUCKET_BITS };

/* Put the items in the order of the first BUCKET_BITS; START[i] is where bucket i begins, START[BUCKETS] their number. */
static void distribute(const struct set *set, first_bits *first, uint32_t *start, const void **items)
{
	memset(start, 0, (BUCKETS + 1) * sizeof(*start));
	for (uint32_t i = 0; i < set->count; i++)
		start[first(set_at(set, i)) >> (64 - BUCKET_BITS)]++;
	for (uint32_t bucket = 0, at = 0; bucket <= BUCKETS; bucket++)
		start[bucket] = at += bucket < BUCKETS ? start[bucket] : 0;
	/* From the end of each bucket to its beginning. */
	for (uint32_t i = set->count; i-- > 0;)
		items[--start[first(set_at(set, i)) >> (64 - BUCKET_BITS)]] = set_at(set, i);
}

/*
 * The items of a set in the order of their records. (Sorted as a whole, 650,000 files took 0.15 s, in which most of the compared items were in no cache; buckets
 * of ten are.)
 */
static int sorted(const lw_build *build, const struct set *set, first_bits *first, compare_items *compare, const void ***out)
{
	const void **items = calloc((size_t)set->count + 1, sizeof(*items));
	uint32_t *start = malloc((BUCKETS + 1) * sizeof(*start));
	if (!items || !start) {
		free(items);
		free(start);
		return -ENOMEM;
	}
	distribute(set, first, start, items);
	for (uint32_t bucket = 0; bucket < BUCKETS; bucket++)
		if (start[bucket + 1] - start[bucket] > 1)
			qsort_r(items + start[bucket], start[bucket + 1] - start[bucket], sizeof(*items), compare, (void *)build);
	free(start);
	*out = items;
	return 0;
}

static uint64_t first_of_dir(const void *item)
{
	return ((const struct item *)item)->hash;
}

static uint64_t first_of_file(const void *item)
{
	return ((const struct file *)item)->key.hi;
}

static uint64_t first_of_view(const void *item)
{
	return ((const struct view *)item)->key.hi;
}

static int order_dirs(const void *a, const void *b, void *arg)
{
	const struct dir *x = *(struct dir *const *)a, *y = *(struct dir *const *)b;
	const lw_build *build = arg;
	if (x->item.hash != y->item.hash)
		return x->item.hash < y->item.hash ? -1 : 1;
	return compare_names(0, build->strings + x->path, x->path_len, 0, build->strings + y->path, y->path_len);
}

static int order_files(const void *a, const void *b, void *build)
{
	return lw_hash128_cmp((*(struct file *const *)a)->key, (*(struct file *const *)b)->key);
}

static int order_views(const void *a, const void *b, void *build)
{
	return lw_hash128_cmp((*(struct view *const *)a)->key, (*(struct view *const *)b)->key);
}

/* Each section is the items in order of addition, but for the three record tables. */
static void place(lw_build *build)
{
	uint32_t entry = 0;
	for (uint32_t i = 0; i < build->dirs.count; i++) {
		dir_at(build, i)->first = entry;
		entry += dir_at(build, i)->count;
	}
	uint64_t code = 0;
	for (uint32_t i = 0; i < build->files.count; i++) {
		struct file *file = file_at(build, i);
		file->unit = file->len ? (uint32_t)(code / LW_CODE_UNIT) : 0;
		code += round_up(file->len, LW_CODE_UNIT);
	}
	uint32_t view = 0;
	for (uint32_t i = 0; i < build->views.count; i++) {
		view_at(build, i)->offset = view;
		view += (uint32_t)view_size(view_at(build, i)->entries, view_at(build, i)->count);
	}
}

static int put_dirs(struct out *out, const lw_build *build)
{
	const void **dirs;
	int error = sorted(build, &build->dirs, first_of_dir, order_dirs, &dirs);
	if (error)
		return error;
	for (uint32_t i = 0; i < build->dirs.count; i++) {
		const struct dir *dir = dirs[i];
		const struct lw_dir_record record = {
			.hash = dir->item.hash, .stamp = dir->stamp, .path = dir->path, .entries = dir->first,
			.count = dir->count, .path_len = dir->path_len, .flags = dir->flags,
		};
		put(out, &record, sizeof(record));
	}
	free(dirs);
	return 0;
}

static int put_files(struct out *out, const lw_build *build)
{
	const void **files;
	int error = sorted(build, &build->files, first_of_file, order_files, &files);
	if (error)
		return error;
	for (uint32_t i = 0; i < build->files.count; i++) {
		const struct file *file = files[i];
		const struct lw_file_record record = {
			.key = file->key, .stamp = file->stamp, .content = file->content, .code = file->unit,
			.code_len = file->len | file->flags,
		};
		put(out, &record, sizeof(record));
	}
	free(files);
	return 0;
}

static bool same_hash(const lw_build *build, const void *item, const void *key)
{
	return true;
}

/* LW_VIEW_SEALED */
static bool is_sealed(const lw_build *build, const struct view *view)
{
	for (uint32_t i = 0; i < view->entries; i++) {
		const struct lw_view_dir *rests_on = &view->dirs[i];
		const struct dir *dir = rests_on->path ? set_find(&build->dirs, rests_on->path, same_hash, build, NULL) : NULL;
		if (rests_on->path && (!dir || dir->flags & LW_DIR_UNREADABLE || lw_token(dir->flags, dir->stamp) != rests_on->token))
			return false;
	}
	return true;
}

static int put_views(struct out *out, const lw_build *build)
{
	const void **views;
	int error = sorted(build, &build->views, first_of_view, order_views, &views);
	if (error)
		return error;
	for (uint32_t i = 0; i < build->views.count; i++) {
		const struct view *view = views[i];
		const struct lw_view_record record = {
			.key = view->key, .dirs = view->offset, .entries = view->entries,
			.names = view->offset + view->entries * (uint32_t)sizeof(struct lw_view_dir), .count = view->count,
			.flags = is_sealed(build, view) ? LW_VIEW_SEALED : 0,
		};
		put(out, &record, sizeof(record));
	}
	free(views);
	return 0;
}

static void put_entries(struct out *out, const lw_build *build)
{
	for (uint32_t i = 0; i < build->dirs.count; i++)
		put(out, dir_at(build, i)->entries, dir_at(build, i)->count * sizeof(struct lw_entry));
}

static void put_zeros(struct out *out, size_t size)
{
	static const unsigned char zeros[LW_BLOCK];
	for (; size > sizeof(zeros); size -= sizeof(zeros))
		put(out, zeros, sizeof(zeros));
	put(out, zeros, size);
}

static void put_stamps(struct out *out, const lw_build *build)
{
	for (uint32_t i = 0; i < build->dirs.count && build->stamped; i++) {
		const struct dir *dir = dir_at(build, i);
		if (dir->stamps)
			put(out, dir->stamps, dir->count * sizeof(*dir->stamps));
		else
			put_zeros(out, dir->count * sizeof(*dir->stamps));
	}
}

static void put_viewdata(struct out *out, const lw_build *build)
{
	for (uint32_t i = 0; i < build->views.count; i++) {
		const struct view *view = view_at(build, i);
		put(out, view->dirs, view->entries * sizeof(*view->dirs));
		put(out, view->names, view->count * sizeof(*view->names));
		pad(out, sizeof(uint64_t));
	}
}

static void put_code(struct out *out, const lw_build *build)
{
	for (uint32_t i = 0; i < build->files.count; i++) {
		put(out, file_at(build, i)->code, file_at(build, i)->len);
		pad(out, LW_CODE_UNIT);
	}
}

static int put_section(struct out *out, const lw_build *build, enum lw_section section)
{
	int error = 0;
	switch (section) {
	case LW_SEC_STRINGS: put(out, build->strings, build->strings_len); break;
	case LW_SEC_DIRS: error = put_dirs(out, build); break;
	case LW_SEC_ENTRIES: put_entries(out, build); break;
	case LW_SEC_STAMPS: put_stamps(out, build); break;
	case LW_SEC_FILES: error = put_files(out, build); break;
	case LW_SEC_VIEWS: error = put_views(out, build); break;
	case LW_SEC_VIEWDATA: put_viewdata(out, build); break;
	case LW_SEC_CODE: put_code(out, build); break;
	case LW_SEC_COUNT: break;
	}
	pad(out, LW_BLOCK);
	return error;
}

/* Everything behind the head, for which a block of zeros stands in. */
static int put_sections(struct out *out, const lw_build *build)
{
	static const unsigned char zeros[LW_BLOCK];
	put(out, zeros, sizeof(zeros));
	int error = 0;
	for (int s = 0; s < LW_SEC_COUNT && !error; s++)
		error = put_section(out, build, (enum lw_section)s);
	flush(out);
	return error ? error : out->error;
}

/* SUMS and ROOTS. The sums of SUMS' blocks follow those of the sections in the same array. */
static int put_sums(struct out *out, const struct lw_index_head *head)
{
	put(out, out->sum + 1, head->sums_size);
	pad(out, LW_BLOCK);
	flush(out);
	if (out->error)
		return out->error;
	return write_all(out->fd, out->sum + head->sums_offset / LW_BLOCK, head->roots_size, out->at);
}

static int put_head(struct out *out, struct lw_index_head *head)
{
	head->roots_hash = lw_hash64(out->sum + head->sums_offset / LW_BLOCK, head->roots_size);
	head->head_hash = lw_hash64(head, offsetof(struct lw_index_head, head_hash));
	return write_all(out->fd, head, sizeof(*head), out->start);
}

static int write_file(struct out *out, lw_build *build, struct lw_index_head *head)
{
	place(build);
	int error = put_sections(out, build);
	if (!error)
		error = put_sums(out, head);
	return error ? error : put_head(out, head);
}

static int write_index(lw_build *build, int fd, struct lw_index_head head)
{
	memcpy(head.magic, LW_INDEX_MAGIC, sizeof(head.magic));
	head.format = LW_INDEX_FORMAT;
	head.head_size = sizeof(head);
	int error = plan(build, &head);
	if (error)
		return error;
	off_t start = lseek(fd, 0, SEEK_CUR);
	if (start < 0)
		return -errno;
	struct out out = { .fd = fd, .start = start, .at = start };
	out.buffer = malloc(OUT_BUFFER);
	out.sum = malloc(head.roots_offset / LW_BLOCK * sizeof(*out.sum));
	error = out.buffer && out.sum ? write_file(&out, build, &head) : -ENOMEM;
	free(out.buffer);
	free(out.sum);
	return error;
}

int lw_build_write(lw_build *build, int fd, struct lw_hash128 key, uint32_t writer_uid, uint64_t created_ns)
{
	return write_index(build, fd, (struct lw_index_head){ .key = key, .created_ns = created_ns, .writer_uid = writer_uid });
}

int lw_build_write_relative(lw_build *build, int fd, struct lw_hash128 key, uint32_t roots)
{
	assert(roots && roots <= LW_ROOTS_MAX);
	return write_index(build, fd, (struct lw_index_head){ .key = key, .writer_uid = UINT32_MAX, .roots = roots });
}
