/* SPDX-License-Identifier: MIT */
/*
 * graph_build: see graph_build.h.
 *
 * A directory counts if its package is what its name means, which is known once all directories one level higher have been through. So directories
 * go level by level, and within a level root by root.
 */
#include "graph_build.h"
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NONE LW_GRAPH_NONE
enum { CHUNK = 1 << 16, NAME_MOST = 4096, KIND_UNUSED = LW_GRAPH_KINDS };

struct source {
	uint64_t stamp;
	const char *name;		/* in the listing */
	const void *raw;		/* malloc'ed, or OLD's */
	uint32_t raw_len;
	uint32_t dir;
	uint8_t name_len, state;
	bool owned, known;
};

struct dir {
	char *path;
	uint32_t len, below;		/* where what is below the root begins */
	uint32_t root, depth;
	uint64_t stamp;
	struct lw_listing *listing;	/* NULL: could not be listed */
	struct source *source;		/* by name; NULL once they are in build->source */
	uint32_t first, count;		/* then */
	bool live;
};

struct node {
	const char *name;
	uint32_t len;
	uint8_t kind;			/* enum lw_graph_kind */
	bool used;			/* a namespace that holds something, or that somebody imports */
	uint32_t dir;			/* of a package */
	uint32_t source, parent;
	uint32_t sorted;		/* its place in the file */
};

struct edge {
	uint32_t from, to, line, kinds;
};

struct seen {
	const char *importer, *imported;	/* among the names, terminated */
	uint8_t kind;
};

struct chunk {
	struct chunk *next;
	size_t used;
	char data[CHUNK];
};

/* Numbers by hash, open addressing; what they stand for is compared by the caller. */
struct table {
	uint32_t *slot, mask, count;
};

struct lw_graph_build {
	struct lw_suffixes suffixes;
	const lw_graph *old;
	pthread_mutex_t mutex;
	uint32_t root;			/* that is being walked */
	struct dir *dir;
	struct source *source;
	struct node *node;
	struct edge *edge;
	struct seen *seen;
	size_t dirs, dir_room, sources, nodes, node_room, edges, edge_room, seens, seen_room;
	struct table dir_table, node_table;
	struct chunk *names;
};

/* ---- memory ---- */

/* Room for one more of SIZE bytes. 0 or -ENOMEM. */
static int grow(void *array, size_t count, size_t *room, size_t size)
{
	void **at = array;
	if (count < *room)
		return 0;
	size_t more = *room ? 2 * *room : 64;
	void *larger = more < NONE ? realloc(*at, more * size) : NULL;
	if (!larger)
		return -ENOMEM;
	*at = larger;
	*room = more;
	return 0;
}

static const char *keep_name(lw_graph_build *build, const char *name, size_t len)
{
	struct chunk *chunk = build->names;
	if (!chunk || CHUNK - chunk->used < len) {
		chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return NULL;
		chunk->next = build->names;
		chunk->used = 0;
		build->names = chunk;
	}
	char *copy = memcpy(chunk->data + chunk->used, name, len);
	chunk->used += len;
	return copy;
}

static int table_init(struct table *table, size_t count)
{
	uint32_t room = 64;
	while (room < 2 * count && room < 1u << 31)
		room *= 2;
	table->slot = malloc(room * sizeof(*table->slot));
	if (!table->slot)
		return -ENOMEM;
	memset(table->slot, 0xff, room * sizeof(*table->slot));
	table->mask = room - 1;
	table->count = 0;
	return 0;
}

lw_graph_build *lw_graph_build_create(const struct lw_suffixes *suffixes, const lw_graph *old)
{
	lw_graph_build *build = calloc(1, sizeof(*build));
	if (!build)
		return NULL;
	build->suffixes = *suffixes;
	build->old = old;
	pthread_mutex_init(&build->mutex, NULL);
	return build;
}

void lw_graph_build_destroy(lw_graph_build *build)
{
	if (!build)
		return;
	for (size_t i = 0; i < build->dirs; i++) {
		free(build->dir[i].path);
		free(build->dir[i].source);
		lw_listing_destroy(build->dir[i].listing);
	}
	for (size_t i = 0; i < build->sources; i++)
		if (build->source[i].owned)
			free((void *)(uintptr_t)build->source[i].raw);
	for (struct chunk *chunk = build->names, *next; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(build->dir);
	free(build->source);
	free(build->node);
	free(build->edge);
	free(build->seen);
	free(build->dir_table.slot);
	free(build->node_table.slot);
	pthread_mutex_destroy(&build->mutex);
	free(build);
}

/* ---- the walk ---- */

static int order_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
	return order ? order : a_len < b_len ? -1 : a_len > b_len;
}

static int by_name(const void *a, const void *b)
{
	const struct source *x = a, *y = b;
	return order_names(x->name, x->name_len, y->name, y->name_len);
}

static int take_sources(struct dir *dir, const struct lw_scan_dir *found, bool weak)
{
	if (!found->source_count)
		return 0;
	dir->source = calloc(found->source_count, sizeof(*dir->source));
	if (!dir->source)
		return -ENOMEM;
	for (uint32_t i = 0; i < found->source_count; i++) {
		const struct lw_scan_source *source = &found->sources[i];
		dir->source[i] = (struct source){
			.name = dir->listing->names + source->name, .name_len = source->len, .stamp = source->racy || weak ? 0 : lw_stamp(&source->stat),
		};
	}
	dir->count = found->source_count;
	qsort(dir->source, dir->count, sizeof(*dir->source), by_name);
	return 0;
}

static int take_dir(struct dir *dir, const struct lw_scan_dir *found, uint32_t root)
{
	struct lw_stat st = found->stat;
	bool known = found->error ? !lw_stat_at(AT_FDCWD, found->path, &st) : true;
	bool weak = known && lw_stat_weak(&st, found->path);
	bool racy = found->racy || (found->error && known && lw_stat_racy(&st, lw_now_ns()));
	*dir = (struct dir){ .path = strndup(found->path, found->path_len), .len = (uint32_t)found->path_len, .root = root, .listing = found->listing };
	dir->stamp = known && !weak && !racy ? lw_stamp(&st) : 0;
	return dir->path ? dir->listing ? take_sources(dir, found, weak) : 0 : -ENOMEM;
}

/* From the threads of the walk. */
static int on_dir(void *arg, const struct lw_scan_dir *found)
{
	lw_graph_build *build = arg;
	struct dir dir;
	int error = take_dir(&dir, found, build->root);
	pthread_mutex_lock(&build->mutex);
	if (!error)
		error = grow(&build->dir, build->dirs, &build->dir_room, sizeof(dir));
	if (!error)
		build->dir[build->dirs++] = dir;
	pthread_mutex_unlock(&build->mutex);
	if (error) {
		free(dir.path);
		free(dir.source);
		lw_listing_destroy(dir.listing);
	}
	return error;
}

static int by_level(const void *a, const void *b)
{
	const struct dir *x = a, *y = b;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	if (x->root != y->root)
		return x->root < y->root ? -1 : 1;
	return order_names(x->path, x->len, y->path, y->len);
}

static uint64_t dir_hash(uint32_t root, const char *path, size_t len)
{
	return lw_hash64(path, len) + root * UINT64_C(0x9e3779b97f4a7c15);
}

static uint32_t *dir_slot(const lw_graph_build *build, uint32_t root, const char *path, size_t len)
{
	const struct table *table = &build->dir_table;
	for (uint64_t at = dir_hash(root, path, len); ; at++) {
		uint32_t *slot = &table->slot[at & table->mask];
		if (*slot == NONE)
			return slot;
		const struct dir *dir = &build->dir[*slot];
		if (dir->root == root && dir->len == len && !memcmp(dir->path, path, len))
			return slot;
	}
}

/* All sources in one array, in the order of their directories. */
static int join_sources(lw_graph_build *build)
{
	size_t count = 0;
	for (size_t i = 0; i < build->dirs; i++)
		count += build->dir[i].count;
	build->source = count < NONE ? calloc(count + 1, sizeof(*build->source)) : NULL;
	if (!build->source)
		return -ENOMEM;
	for (size_t i = 0; i < build->dirs; i++) {
		struct dir *dir = &build->dir[i];
		dir->first = (uint32_t)build->sources;
		for (uint32_t j = 0; j < dir->count; j++) {
			dir->source[j].dir = (uint32_t)i;
			build->source[build->sources++] = dir->source[j];
		}
		free(dir->source);
		dir->source = NULL;
	}
	return 0;
}

static void measure(struct dir *dir, const char *root)
{
	size_t len = strlen(root);
	while (len && root[len - 1] == '/')
		len--;
	dir->below = (uint32_t)len + (dir->len > len);
	if (dir->below > dir->len)
		dir->below = dir->len;
	dir->depth = dir->len > dir->below;
	for (uint32_t i = dir->below; i < dir->len; i++)
		dir->depth += dir->path[i] == '/';
}

/* ---- what is known already ---- */

struct old {
	const struct lw_graph_dir *dir;
	const struct lw_graph_source *source;
};

static void take_over(lw_graph_build *build, const struct old *old, const struct lw_graph_dir *was, const struct dir *dir)
{
	for (uint32_t i = 0, j = 0; i < dir->count && j < was->count; ) {
		struct source *source = &build->source[dir->first + i];
		const struct lw_graph_source *known = &old->source[was->sources + j];
		int order = order_names(source->name, source->name_len, lw_graph_string(build->old, known->name), known->name_len);
		i += order <= 0;
		j += order >= 0;
		if (order || !source->stamp || source->stamp != known->stamp || known->state == LW_GRAPH_UNREADABLE)
			continue;
		source->raw = lw_graph_raw(build->old, known);
		source->raw_len = known->raw_len;
		source->state = known->state;
		source->known = true;
	}
}

static void recall(lw_graph_build *build)
{
	struct old old;
	if (!build->old)
		return;
	uint32_t dirs = lw_graph_dirs(build->old, &old.dir);
	lw_graph_sources(build->old, &old.source);
	for (uint32_t i = 0; i < dirs; i++) {
		uint32_t now = *dir_slot(build, old.dir[i].root, lw_graph_string(build->old, old.dir[i].path), old.dir[i].path_len);
		if (now != NONE)
			take_over(build, &old, &old.dir[i], &build->dir[now]);
	}
}

static int walk(lw_graph_build *build, const char *const *roots, unsigned count, unsigned threads, unsigned *failed)
{
	const struct lw_scan_config config = { .suffixes = &build->suffixes, .backend = LW_IOQ_POOL, .threads = threads };
	for (unsigned i = 0; i < count; i++) {
		struct lw_scan_stats stats;
		unsigned bad;
		size_t from = build->dirs;
		build->root = i;
		int error = lw_scan(&config, &roots[i], 1, on_dir, build, &stats, &bad, NULL);
		if (error) {
			*failed = bad < 1 ? i : count;
			return error;
		}
		for (; from < build->dirs; from++)
			measure(&build->dir[from], roots[i]);
	}
	return 0;
}

int lw_graph_build_scan(lw_graph_build *build, const char *const *roots, unsigned count, unsigned threads, unsigned *failed)
{
	*failed = count;
	int error = walk(build, roots, count, threads, failed);
	if (error)
		return error;
	if (build->dirs)
		qsort(build->dir, build->dirs, sizeof(*build->dir), by_level);
	error = join_sources(build);
	if (!error)
		error = table_init(&build->dir_table, build->dirs);
	if (error)
		return error;
	for (size_t i = 0; i < build->dirs; i++)
		*dir_slot(build, build->dir[i].root, build->dir[i].path, build->dir[i].len) = (uint32_t)i;
	recall(build);
	return 0;
}

uint32_t lw_graph_build_sources(const lw_graph_build *build)
{
	return (uint32_t)build->sources;
}

int lw_graph_build_source(const lw_graph_build *build, uint32_t i, char *out, size_t size)
{
	const struct source *source = &build->source[i];
	const struct dir *dir = &build->dir[source->dir];
	size_t len = dir->len;
	if (source->known || !out)
		return !source->known;
	if (len + source->name_len + sizeof("/.py") > size)
		return -ENAMETOOLONG;
	memcpy(out, dir->path, len);
	if (!len || out[len - 1] != '/')
		out[len++] = '/';
	memcpy(out + len, source->name, source->name_len);
	strcpy(out + len + source->name_len, ".py");
	return 1;
}

uint64_t lw_graph_build_stamp(const lw_graph_build *build, uint32_t i)
{
	return build->source[i].stamp;
}

/* ---- statements ---- */

struct statement {
	unsigned kind, level, count;
	uint32_t line;
	const char *name;
	size_t name_len;
	const unsigned char *names;	/* the first's length */
};

static uint16_t read16(const unsigned char *at)
{
	uint16_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static bool take_text(const unsigned char **at, const unsigned char *end, const char **text, size_t *len)
{
	if (end - *at < 2 || end - *at - 2 < read16(*at))
		return false;
	*len = read16(*at);
	*text = (const char *)*at + 2;
	*at += 2 + *len;
	return true;
}

/* The statement at *AT, which moves behind it. False: there is none. */
static bool take_statement(const unsigned char **at, const unsigned char *end, struct statement *out)
{
	const unsigned char *from = *at;
	const char *name;
	size_t len;
	if (end - from < LW_RAW_HEAD)
		return false;
	*out = (struct statement){ .kind = from[0], .level = from[1], .count = read16(from + 2) };
	memcpy(&out->line, from + 4, sizeof(out->line));
	from += 8;
	if (out->kind >= LW_GRAPH_EDGE_KINDS || !take_text(&from, end, &out->name, &out->name_len))
		return false;
	out->names = from;
	for (unsigned i = 0; out->count != LW_RAW_PLAIN && i < out->count; i++)
		if (!take_text(&from, end, &name, &len))
			return false;
	*at = from;
	return true;
}

static bool is_raw(const void *raw, size_t size)
{
	const unsigned char *at = raw, *end = at + size;
	struct statement statement;
	while (at < end)
		if (!take_statement(&at, end, &statement))
			return false;
	return true;
}

int lw_graph_build_put(lw_graph_build *build, uint32_t i, const void *raw, size_t size, enum lw_graph_state state)
{
	struct source *source = &build->source[i];
	char path[PATH_MAX + UINT8_MAX + 8];
	struct lw_stat st;
	if (size > UINT32_MAX || !is_raw(raw, size))
		return -EINVAL;
	void *copy = malloc(size + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, raw, size);
	if (lw_graph_build_source(build, i, path, sizeof(path)) != 1 || lw_stat_at(AT_FDCWD, path, &st) || lw_stamp(&st) != source->stamp)
		source->stamp = 0;
	if (source->owned)
		free((void *)(uintptr_t)source->raw);
	source->raw = copy;
	source->raw_len = (uint32_t)size;
	source->state = (uint8_t)state;
	source->owned = true;
	source->known = true;
	return 0;
}

/* ---- names ---- */

static uint32_t *node_slot(const lw_graph_build *build, const char *name, size_t len)
{
	const struct table *table = &build->node_table;
	for (uint64_t at = lw_hash64(name, len); ; at++) {
		uint32_t *slot = &table->slot[at & table->mask];
		if (*slot == NONE)
			return slot;
		const struct node *node = &build->node[*slot];
		if (node->len == len && !memcmp(node->name, name, len))
			return slot;
	}
}

static int rehash(lw_graph_build *build)
{
	struct table before = build->node_table;
	if (table_init(&build->node_table, 2 * (size_t)before.count)) {
		build->node_table = before;
		return -ENOMEM;
	}
	free(before.slot);
	for (uint32_t i = 0; i < build->nodes; i++)
		*node_slot(build, build->node[i].name, build->node[i].len) = i;
	build->node_table.count = (uint32_t)build->nodes;
	return 0;
}

/* The node called NAME, made with KIND UNUSED if there is none. 0 or -errno. */
static int need_node(lw_graph_build *build, const char *name, size_t len, uint32_t *out)
{
	if (build->node_table.count >= build->node_table.mask / 2 && rehash(build))
		return -ENOMEM;
	uint32_t *slot = node_slot(build, name, len);
	*out = *slot;
	if (*out != NONE)
		return 0;
	const char *copy = keep_name(build, name, len);
	if (!copy || grow(&build->node, build->nodes, &build->node_room, sizeof(struct node)))
		return -ENOMEM;
	*out = *slot = (uint32_t)build->nodes++;
	build->node_table.count++;
	build->node[*out] = (struct node){ .name = copy, .len = (uint32_t)len, .kind = KIND_UNUSED, .dir = NONE, .source = NONE, .parent = NONE };
	return 0;
}

static uint32_t find_node(const lw_graph_build *build, const char *name, size_t len)
{
	return *node_slot(build, name, len);
}

static const char *last_dot(const char *name, size_t len)
{
	return memrchr(name, '.', len);
}

static const struct source *find_source(const lw_graph_build *build, const struct dir *dir, const char *name, size_t len)
{
	const struct source key = { .name = name, .name_len = (uint8_t)len };
	return dir->count ? bsearch(&key, &build->source[dir->first], dir->count, sizeof(key), by_name) : NULL;
}

/* What NAME in DIR is, without what a namespace portion of that name would be: its kind, KIND_UNUSED for nothing. */
static uint8_t file_kind(const lw_graph_build *build, const struct dir *dir, const struct lw_entry *entry, const char *name, const struct source **source)
{
	const unsigned py = build->suffixes.source;
	*source = NULL;
	if (entry->kinds & (LW_KIND_SUFFIX(py) - 1) & ~LW_KIND_DIR)
		return LW_GRAPH_EXTENSION;
	if (entry->kinds & LW_KIND_SUFFIX(py) && (*source = find_source(build, dir, name, entry->len)))
		return LW_GRAPH_MODULE;
	return entry->kinds & LW_KIND_SUFFIX(py + 1) ? LW_GRAPH_BYTECODE : KIND_UNUSED;
}

static uint32_t dir_below(const lw_graph_build *build, const struct dir *dir, const char *name, size_t len)
{
	char path[PATH_MAX + UINT8_MAX + 2];
	if (dir->len > PATH_MAX)
		return NONE;
	size_t at = dir->len;
	memcpy(path, dir->path, at);
	if (!at || path[at - 1] != '/')
		path[at++] = '/';
	memcpy(path + at, name, len);
	return *dir_slot(build, dir->root, path, at + len);
}

/* Whether directory BELOW has an __init__; what it is. */
static uint8_t init_kind(const lw_graph_build *build, uint32_t below, const struct source **source)
{
	const struct dir *dir = &build->dir[below];
	const struct lw_entry *entry = dir->listing ? lw_listing_find(dir->listing, "__init__", 8) : NULL;
	*source = NULL;
	return entry ? file_kind(build, dir, entry, dir->listing->names + entry->name, source) : KIND_UNUSED;
}

/* The name of what is called NAME in the package of DIR: its length, 0 if that is too long. */
static size_t print_name(const struct dir *dir, const char *name, size_t len, char out[NAME_MOST])
{
	size_t at = dir->len - dir->below;
	if (at + 1 + len > NAME_MOST)
		return 0;
	for (size_t i = 0; i < at; i++)
		out[i] = dir->path[dir->below + i] == '/' ? '.' : dir->path[dir->below + i];
	if (at && len)
		out[at++] = '.';
	memcpy(out + at, name, len);
	return at + len;
}

static void use_parents(lw_graph_build *build, uint32_t node)
{
	while (node != NONE && !build->node[node].used) {
		build->node[node].used = true;
		const char *dot = last_dot(build->node[node].name, build->node[node].len);
		node = dot ? find_node(build, build->node[node].name, (size_t)(dot - build->node[node].name)) : NONE;
	}
}

static int add_entry(lw_graph_build *build, const struct dir *dir, const struct lw_entry *entry)
{
	char text[NAME_MOST];
	const char *name = dir->listing->names + entry->name;
	const struct source *source = NULL;
	uint32_t below = entry->kinds & LW_KIND_DIR ? dir_below(build, dir, name, entry->len) : NONE, number;
	uint8_t kind = below != NONE ? init_kind(build, below, &source) : KIND_UNUSED;
	if (entry->len == 8 && !memcmp(name, "__init__", 8))
		return 0;
	if (kind != KIND_UNUSED) {
		kind = LW_GRAPH_PACKAGE;
	} else {
		kind = file_kind(build, dir, entry, name, &source);
		if (kind == KIND_UNUSED && below != NONE)
			kind = LW_GRAPH_NAMESPACE;
	}
	size_t len = kind == KIND_UNUSED ? 0 : print_name(dir, name, entry->len, text);
	if (!len)
		return 0;
	int error = need_node(build, text, len, &number);
	if (error)
		return error;
	struct node *node = &build->node[number];
	if (node->kind != KIND_UNUSED && (node->kind != LW_GRAPH_NAMESPACE || kind == LW_GRAPH_NAMESPACE))
		return 0;
	node->kind = kind;
	node->dir = kind == LW_GRAPH_PACKAGE ? below : NONE;
	node->source = source ? (uint32_t)(source - build->source) : NONE;
	if (kind != LW_GRAPH_NAMESPACE)
		use_parents(build, number);
	return 0;
}

/* Whether what is in DIR, number I, can be reached by its name. */
static bool is_live(const lw_graph_build *build, uint32_t i)
{
	char text[NAME_MOST];
	const struct dir *dir = &build->dir[i];
	if (!dir->depth)
		return true;
	const char *slash = memrchr(dir->path, '/', dir->len);
	size_t up = (size_t)(slash - dir->path), len = print_name(dir, "", 0, text);
	uint32_t above = *dir_slot(build, dir->root, dir->path, up), node = len ? find_node(build, text, len) : NONE;
	if (above == NONE)
		above = *dir_slot(build, dir->root, dir->path, up + 1);	/* the root directory, or a root that was given with a slash */
	if (above == NONE || !build->dir[above].live || node == NONE)
		return false;
	return build->node[node].kind == LW_GRAPH_NAMESPACE || (build->node[node].kind == LW_GRAPH_PACKAGE && build->node[node].dir == i);
}

static int make_nodes(lw_graph_build *build)
{
	int error = table_init(&build->node_table, 2 * build->sources);
	for (uint32_t i = 0; !error && i < build->dirs; i++) {
		struct dir *dir = &build->dir[i];
		dir->live = is_live(build, i);
		for (uint32_t j = 0; !error && dir->live && dir->listing && j < dir->listing->count; j++)
			error = add_entry(build, dir, &dir->listing->entries[j]);
	}
	return error;
}

/* ---- what was observed ---- */

static bool is_name(const char *name, size_t len)
{
	bool begun = false;
	for (size_t i = 0; i < len; i++) {
		if (!name[i] || (name[i] == '.' && !begun))
			return false;
		begun = name[i] != '.';
	}
	return begun;
}

int lw_graph_build_observe(lw_graph_build *build, unsigned kind, const char *importer, const char *imported)
{
	size_t len = strlen(importer), more = strlen(imported);
	if (kind >= LW_GRAPH_EDGE_KINDS || len >= NAME_MOST || more >= NAME_MOST || !is_name(importer, len) || !is_name(imported, more))
		return -EINVAL;
	struct seen seen = { .importer = keep_name(build, importer, len + 1), .imported = keep_name(build, imported, more + 1), .kind = (uint8_t)kind };
	if (!seen.importer || !seen.imported || grow(&build->seen, build->seens, &build->seen_room, sizeof(seen)))
		return -ENOMEM;
	build->seen[build->seens++] = seen;
	return 0;
}

static bool has_statement(const struct source *source, const unsigned char *statement, size_t size)
{
	const unsigned char *at = source->raw, *end = at ? at + source->raw_len : at;
	struct statement one;
	for (const unsigned char *from = at; at < end && take_statement(&at, end, &one); from = at)
		if ((size_t)(at - from) == size && !memcmp(from, statement, size))
			return true;
	return false;
}

/* A plain statement after those that SOURCE has. */
static int append_seen(struct source *source, const struct seen *seen)
{
	unsigned char statement[LW_RAW_HEAD + NAME_MOST] = { seen->kind, 0, LW_RAW_PLAIN & 0xff, LW_RAW_PLAIN >> 8 };
	const uint16_t len = (uint16_t)strlen(seen->imported);
	memcpy(statement + 8, &len, sizeof(len));
	memcpy(statement + LW_RAW_HEAD, seen->imported, len);
	if (has_statement(source, statement, LW_RAW_HEAD + len))
		return 0;
	char *raw = malloc(source->raw_len + LW_RAW_HEAD + len);
	if (!raw)
		return -ENOMEM;
	if (source->raw_len)
		memcpy(raw, source->raw, source->raw_len);
	memcpy(raw + source->raw_len, statement, LW_RAW_HEAD + len);
	if (source->owned)
		free((void *)(uintptr_t)source->raw);
	source->raw = raw;
	source->raw_len += LW_RAW_HEAD + len;
	source->owned = true;
	return 0;
}

static int attach_seen(lw_graph_build *build)
{
	int error = 0;
	for (size_t i = 0; !error && i < build->seens; i++) {
		const struct seen *seen = &build->seen[i];
		uint32_t node = find_node(build, seen->importer, strlen(seen->importer));
		if (node != NONE && build->node[node].source != NONE && build->source[build->node[node].source].known)
			error = append_seen(&build->source[build->node[node].source], seen);
	}
	return error;
}

/* ---- what statements mean ---- */

static int add_edge(lw_graph_build *build, uint32_t from, uint32_t to, const struct statement *statement)
{
	use_parents(build, to);
	if (from == to)
		return 0;
	if (grow(&build->edge, build->edges, &build->edge_room, sizeof(struct edge)))
		return -ENOMEM;
	build->edge[build->edges++] = (struct edge){ from, to, statement->line, 1u << statement->kind };
	return 0;
}

/* The absolute name of what STATEMENT of node FROM is about: its length, 0 if there is none. */
static size_t absolute(const lw_graph_build *build, uint32_t from, const struct statement *statement, char out[NAME_MOST])
{
	const struct node *node = &build->node[from];
	size_t len = statement->level ? node->len : 0;
	unsigned up = statement->level && node->kind == LW_GRAPH_PACKAGE ? statement->level - 1 : statement->level;
	for (; up && len; up--) {
		const char *dot = last_dot(node->name, len);
		len = dot ? (size_t)(dot - node->name) : 0;
	}
	if ((statement->level && !len) || len + 1 + statement->name_len > NAME_MOST)
		return 0;
	memcpy(out, node->name, len);
	if (len && statement->name_len)
		out[len++] = '.';
	memcpy(out + len, statement->name, statement->name_len);
	return len + statement->name_len;
}

static int add_base(lw_graph_build *build, uint32_t from, const struct statement *statement, const char *name, size_t len)
{
	uint32_t to;
	int error = need_node(build, name, len, &to);
	if (error)
		return error;
	if (build->node[to].kind == KIND_UNUSED)
		build->node[to].kind = LW_GRAPH_EXTERNAL;
	return add_edge(build, from, to, statement);
}

/* The submodules that `from NAME import ...` names; *REST: it takes something else as well. */
static int add_members(lw_graph_build *build, uint32_t from, const struct statement *statement, char name[NAME_MOST], size_t len, bool *rest)
{
	const unsigned char *at = statement->names;
	int error = 0;
	for (unsigned i = 0; !error && i < statement->count; i++) {
		size_t more = read16(at);
		uint32_t to = NONE;
		if (len + 1 + more <= NAME_MOST) {
			name[len] = '.';
			memcpy(name + len + 1, at + 2, more);
			to = find_node(build, name, len + 1 + more);
		}
		at += 2 + more;
		if (to != NONE && build->node[to].kind < LW_GRAPH_EXTERNAL)
			error = add_edge(build, from, to, statement);
		else
			*rest = true;
	}
	return error;
}

static int add_statement(lw_graph_build *build, uint32_t from, const struct statement *statement)
{
	char name[NAME_MOST];
	size_t len = absolute(build, from, statement, name);
	if (!len || !is_name(name, len))
		return 0;
	uint32_t base = find_node(build, name, len);
	bool package = base != NONE && (build->node[base].kind == LW_GRAPH_PACKAGE || build->node[base].kind == LW_GRAPH_NAMESPACE);
	bool rest = !package || statement->count == LW_RAW_PLAIN || !statement->count;
	int error = rest ? 0 : add_members(build, from, statement, name, len, &rest);
	return error || !rest ? error : add_base(build, from, statement, name, len);
}

static int make_edges(lw_graph_build *build)
{
	const size_t count = build->nodes;	/* what comes now is external */
	int error = 0;
	for (uint32_t i = 0; !error && i < count; i++) {
		if (build->node[i].source == NONE)
			continue;
		const struct source *source = &build->source[build->node[i].source];
		const unsigned char *at = source->raw, *end = at ? at + source->raw_len : at;
		struct statement statement;
		while (!error && at < end && take_statement(&at, end, &statement))
			error = add_statement(build, i, &statement);
	}
	return error;
}

/* ---- the file ---- */

static int by_node(const void *a, const void *b, void *arg)
{
	const struct node *node = arg;
	const struct node *x = &node[*(const uint32_t *)a], *y = &node[*(const uint32_t *)b];
	return lw_graph_compare(x->name, x->len, y->name, y->len);
}

static bool is_written(const struct node *node)
{
	return node->kind != KIND_UNUSED && (node->kind != LW_GRAPH_NAMESPACE || node->used);
}

/* The numbers of the nodes that are written, in their order. */
static uint32_t *sort_nodes(lw_graph_build *build, uint32_t *count)
{
	uint32_t *order = malloc((build->nodes + 1) * sizeof(*order));
	*count = 0;
	if (!order)
		return NULL;
	for (uint32_t i = 0; i < build->nodes; i++)
		if (is_written(&build->node[i]))
			order[(*count)++] = i;
	qsort_r(order, *count, sizeof(*order), by_node, build->node);
	for (uint32_t i = 0; i < *count; i++)
		build->node[order[i]].sorted = i;
	for (uint32_t i = 0; i < *count; i++) {
		struct node *node = &build->node[order[i]];
		const char *dot = last_dot(node->name, node->len);
		uint32_t parent = dot ? find_node(build, node->name, (size_t)(dot - node->name)) : NONE;
		if (parent != NONE && is_written(&build->node[parent]))
			node->parent = build->node[parent].sorted;
	}
	return order;
}

static int by_ends(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	if (x->to != y->to)
		return x->to < y->to ? -1 : 1;
	uint32_t x_first = x->kinds & -x->kinds, y_first = y->kinds & -y->kinds;
	if (x_first != y_first)
		return x_first < y_first ? -1 : 1;
	return x->line < y->line ? -1 : x->line > y->line;
}

/* Sorted, by the nodes' places; statements with the same ends are one, which keeps the line of the most certain. */
static void merge_edges(lw_graph_build *build)
{
	size_t kept = 0;
	for (size_t i = 0; i < build->edges; i++) {
		build->edge[i].from = build->node[build->edge[i].from].sorted;
		build->edge[i].to = build->node[build->edge[i].to].sorted;
	}
	if (build->edges)
		qsort(build->edge, build->edges, sizeof(*build->edge), by_ends);
	for (size_t i = 0; i < build->edges; i++) {
		struct edge *last = kept ? &build->edge[kept - 1] : NULL;
		if (last && last->from == build->edge[i].from && last->to == build->edge[i].to)
			last->kinds |= build->edge[i].kinds;
		else
			build->edge[kept++] = build->edge[i];
	}
	build->edges = kept;
}

struct writer {
	lw_graph_build *build;
	uint32_t *order, nodes;
	struct lw_graph_head head;
	char *image;
	uint64_t string_at, raw_at;
};

static uint64_t string_bytes(const struct writer *w)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < w->build->dirs; i++)
		bytes += w->build->dir[i].len + 1u;
	for (size_t i = 0; i < w->build->sources; i++)
		bytes += w->build->source[i].name_len + 1u;
	for (uint32_t i = 0; i < w->nodes; i++)
		bytes += w->build->node[w->order[i]].len + 1u;
	return bytes;
}

static int lay_out(struct writer *w)
{
	uint64_t raw = 0, at = sizeof(w->head);
	for (size_t i = 0; i < w->build->sources; i++)
		raw += w->build->source[i].raw_len;
	const uint64_t sizes[LW_GRAPH_SECTIONS] = {
		[LW_GRAPH_STRINGS] = string_bytes(w), [LW_GRAPH_DIRS] = w->build->dirs * sizeof(struct lw_graph_dir),
		[LW_GRAPH_SOURCES] = w->build->sources * sizeof(struct lw_graph_source), [LW_GRAPH_NODES] = (w->nodes + UINT64_C(1)) * sizeof(struct lw_graph_node),
		[LW_GRAPH_EDGES] = w->build->edges * sizeof(struct lw_graph_edge), [LW_GRAPH_BACK] = w->build->edges * sizeof(struct lw_graph_edge), [LW_GRAPH_RAW] = raw,
	};
	if (sizes[LW_GRAPH_STRINGS] >= NONE || raw >= NONE || w->build->edges >= NONE)
		return -E2BIG;
	for (unsigned i = 0; i < LW_GRAPH_SECTIONS; i++) {
		w->head.section[i].offset = (at + 7) / 8 * 8;
		w->head.section[i].size = sizes[i];
		at = w->head.section[i].offset + sizes[i];
	}
	w->head.file_size = at;
	w->image = calloc(1, at);
	return w->image ? 0 : -ENOMEM;
}

static void *section(const struct writer *w, enum lw_graph_section which)
{
	return w->image + w->head.section[which].offset;
}

static uint32_t put_string(struct writer *w, const char *text, size_t len)
{
	uint64_t at = w->string_at;
	memcpy((char *)section(w, LW_GRAPH_STRINGS) + at, text, len);
	w->string_at += len + 1;
	return (uint32_t)at;
}

static void put_tree(struct writer *w)
{
	struct lw_graph_dir *dir = section(w, LW_GRAPH_DIRS);
	struct lw_graph_source *out = section(w, LW_GRAPH_SOURCES);
	for (size_t i = 0; i < w->build->dirs; i++) {
		const struct dir *from = &w->build->dir[i];
		dir[i] = (struct lw_graph_dir){
			.stamp = from->stamp, .path = put_string(w, from->path, from->len), .path_len = from->len, .sources = from->first, .count = from->count, .root = from->root,
		};
	}
	for (size_t i = 0; i < w->build->sources; i++) {
		const struct source *from = &w->build->source[i];
		out[i] = (struct lw_graph_source){
			.stamp = from->known ? from->stamp : 0, .dir = from->dir, .name = put_string(w, from->name, from->name_len), .raw = (uint32_t)w->raw_at, .raw_len = from->raw_len,
			.name_len = from->name_len, .state = from->known ? from->state : LW_GRAPH_UNREADABLE,
		};
		if (from->raw_len)
			memcpy((char *)section(w, LW_GRAPH_RAW) + w->raw_at, from->raw, from->raw_len);
		w->raw_at += from->raw_len;
	}
}

static void put_nodes(struct writer *w)
{
	struct lw_graph_node *out = section(w, LW_GRAPH_NODES);
	for (uint32_t i = 0; i < w->nodes; i++) {
		const struct node *from = &w->build->node[w->order[i]];
		out[i] = (struct lw_graph_node){
			.name = put_string(w, from->name, from->len), .name_len = (uint16_t)from->len, .kind = from->kind, .source = from->source, .parent = from->parent,
		};
	}
}

/* Both ways: first how many there are for each node, then where they begin, then themselves. */
static void put_edges(struct writer *w)
{
	struct lw_graph_node *node = section(w, LW_GRAPH_NODES);
	struct lw_graph_edge *edge = section(w, LW_GRAPH_EDGES), *back = section(w, LW_GRAPH_BACK);
	const struct edge *from = w->build->edge;
	for (size_t i = 0; i < w->build->edges; i++) {
		node[from[i].from + 1].edges++;
		node[from[i].to + 1].back++;
	}
	for (uint32_t i = 0; i < w->nodes; i++) {
		node[i + 1].edges += node[i].edges;
		node[i + 1].back += node[i].back;
		node[i].more = node[i].back;	/* where the next goes, for now */
	}
	for (size_t i = 0; i < w->build->edges; i++) {
		edge[i] = (struct lw_graph_edge){ from[i].to, from[i].line, from[i].kinds };
		back[node[from[i].to].more++] = (struct lw_graph_edge){ from[i].from, from[i].line, from[i].kinds };
	}
	for (uint32_t i = 0; i < w->nodes; i++)
		node[i].more = 0;
}

static void seal(struct writer *w, struct lw_hash128 roots)
{
	memcpy(w->head.magic, LW_GRAPH_MAGIC, sizeof(w->head.magic));
	w->head.format = LW_GRAPH_FORMAT;
	w->head.head_size = sizeof(w->head);
	w->head.roots = roots;
	for (unsigned i = 0; i < LW_GRAPH_SECTIONS; i++)
		w->head.section[i].hash = lw_hash64(section(w, (enum lw_graph_section)i), w->head.section[i].size);
	w->head.head_hash = lw_hash64(&w->head, offsetof(struct lw_graph_head, head_hash));
	memcpy(w->image, &w->head, sizeof(w->head));
}

int lw_graph_build_finish(lw_graph_build *build, struct lw_hash128 roots, void **image, size_t *size)
{
	struct writer w = { .build = build };
	int error = make_nodes(build);
	if (!error)
		error = attach_seen(build);
	if (!error)
		error = make_edges(build);
	if (error)
		return error;
	w.order = sort_nodes(build, &w.nodes);
	if (!w.order)
		return -ENOMEM;
	merge_edges(build);
	error = lay_out(&w);
	if (!error) {
		put_tree(&w);
		put_nodes(&w);
		put_edges(&w);
		seal(&w, roots);
		*image = w.image;
		*size = w.head.file_size;
	}
	free(w.order);
	return error;
}
