/* SPDX-License-Identifier: MIT */
/*
 * watch_armed: see watch_armed.h.
 *
 * Two hash tables of roots, by armed and by real path: what lies above a path is found by asking for each of its prefixes. A set of hashes says which real
 * paths are on any way at all, so that the events of others cost one look; what is in it and no longer on a way costs a search that finds nothing.
 */
#include "watch_armed.h"
#include "hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = LW_ARMED_PATH, REAL = LW_ARMED_REAL, TABLES = LW_ARMED_TABLES };
enum { BUCKETS = 64, WAYS = 256 };

struct lw_armed {
	struct lw_armed_root **bucket[TABLES];
	uint64_t *way;		/* open addressing; 0: free */
	uint32_t mask, count;
	uint32_t way_mask, ways;
};

/* Walks over the components of a path, and says after each the hash of all that came so far. */
struct prefix {
	const char *path;
	size_t len, at;
	uint64_t hash;
};

static bool next_prefix(struct prefix *prefix)
{
	if (prefix->at == prefix->len)
		return false;
	const char *component = prefix->path + prefix->at + 1;
	size_t left = prefix->len - prefix->at - 1;
	const char *slash = memchr(component, '/', left);
	size_t size = slash ? (size_t)(slash - component) : left;
	prefix->hash = lw_path_hash_below(prefix->hash, lw_hash64(component, size));
	prefix->at += 1 + size;
	return true;
}

uint64_t lw_path_hash(const char *path, size_t len)
{
	struct prefix prefix = { .path = path, .len = len };
	while (next_prefix(&prefix))
		;
	return prefix.hash;
}

/* Whether PATH is ABOVE or below it. */
static bool is_below(const char *path, size_t len, const char *above, size_t above_len)
{
	return len >= above_len && memcmp(path, above, above_len) == 0 && (len == above_len || path[above_len] == '/');
}

/* The set of ways */

static uint32_t way_slot(const lw_armed *armed, uint64_t hash)
{
	uint32_t slot = (uint32_t)(hash >> 32) & armed->way_mask;
	while (armed->way[slot] && armed->way[slot] != hash)
		slot = (slot + 1) & armed->way_mask;
	return slot;
}

static void add_way(lw_armed *armed, const char *real, size_t len)
{
	struct prefix prefix = { .path = real, .len = len };
	while (next_prefix(&prefix)) {
		uint64_t hash = prefix.hash ? prefix.hash : 1;
		uint32_t slot = way_slot(armed, hash);
		armed->ways += !armed->way[slot];
		armed->way[slot] = hash;
	}
}

static const char *links_of(const struct lw_armed_root *root)
{
	return lw_armed_real(root) + root->real_len + 1;
}

static void add_ways(lw_armed *armed, const struct lw_armed_root *root)
{
	const char *link = links_of(root), *end = link + root->links_len;
	add_way(armed, lw_armed_real(root), root->real_len);
	for (; link < end; link += strlen(link) + 1)
		add_way(armed, link, strlen(link));
}

static size_t count_slashes(const char *text, size_t len)
{
	size_t count = 0;
	for (size_t i = 0; i < len; i++)
		count += text[i] == '/';
	return count;
}

/* At most as many as there are components. */
static size_t count_ways(const struct lw_armed_root *root)
{
	return count_slashes(lw_armed_real(root), root->real_len + 1 + root->links_len);
}

static void add_ways_again(lw_armed *armed)
{
	for (uint32_t i = 0; i <= armed->mask; i++)
		for (struct lw_armed_root *root = armed->bucket[PATH][i]; root; root = root->chain[PATH])
			add_ways(armed, root);
}

/* Never more than half full. What is no longer on a way is left behind. */
static int make_room_for_ways(lw_armed *armed, size_t more)
{
	size_t size = (size_t)armed->way_mask + 1;
	if (2 * (armed->ways + more) <= size)
		return 0;
	while (size < 4 * (armed->ways + more))
		size *= 2;
	uint64_t *way = size > UINT32_MAX / 2 ? NULL : calloc(size, sizeof *way);
	if (!way)
		return -ENOMEM;
	free(armed->way);
	armed->way = way;
	armed->way_mask = (uint32_t)size - 1;
	armed->ways = 0;
	add_ways_again(armed);
	return 0;
}

static bool is_on_a_way(const lw_armed *armed, const char *real, size_t len)
{
	uint64_t hash = lw_path_hash(real, len);
	return armed->way[way_slot(armed, hash ? hash : 1)];
}

/* The tables */

static struct lw_armed_root **bucket(const lw_armed *armed, int table, uint64_t hash)
{
	return &armed->bucket[table][(hash >> 32) & armed->mask];
}

static void put_in(lw_armed *armed, struct lw_armed_root *root, int table)
{
	struct lw_armed_root **head = bucket(armed, table, root->hash[table]);
	root->chain[table] = *head;
	*head = root;
}

static void take_out(lw_armed *armed, struct lw_armed_root *root, int table)
{
	struct lw_armed_root **at = bucket(armed, table, root->hash[table]);
	while (*at != root)
		at = &(*at)->chain[table];
	*at = root->chain[table];
}

static int grow(lw_armed *armed)
{
	uint32_t old = armed->mask + 1;
	struct lw_armed_root **was[TABLES], **is[TABLES];
	if (armed->count < old)
		return 0;
	is[PATH] = calloc(2 * (size_t)old, sizeof *is[PATH]);
	is[REAL] = calloc(2 * (size_t)old, sizeof *is[REAL]);
	if (!is[PATH] || !is[REAL]) {
		free(is[PATH]);
		free(is[REAL]);
		return -ENOMEM;
	}
	memcpy(was, armed->bucket, sizeof was);
	memcpy(armed->bucket, is, sizeof is);
	armed->mask = 2 * old - 1;
	for (int table = 0; table < TABLES; table++) {
		for (uint32_t i = 0; i < old; i++) {
			for (struct lw_armed_root *root = was[table][i], *next; root; root = next) {
				next = root->chain[table];
				put_in(armed, root, table);
			}
		}
		free(was[table]);
	}
	return 0;
}

int lw_armed_create(lw_armed **out)
{
	lw_armed *armed = calloc(1, sizeof *armed);
	*out = NULL;
	if (!armed)
		return -ENOMEM;
	armed->mask = BUCKETS - 1;
	armed->way_mask = WAYS - 1;
	armed->bucket[PATH] = calloc(BUCKETS, sizeof *armed->bucket[PATH]);
	armed->bucket[REAL] = calloc(BUCKETS, sizeof *armed->bucket[REAL]);
	armed->way = calloc(WAYS, sizeof *armed->way);
	if (!armed->bucket[PATH] || !armed->bucket[REAL] || !armed->way) {
		lw_armed_destroy(armed);
		return -ENOMEM;
	}
	*out = armed;
	return 0;
}

void lw_armed_destroy(lw_armed *armed)
{
	if (!armed)
		return;
	if (armed->bucket[PATH] && armed->bucket[REAL] && armed->way)
		lw_armed_free(lw_armed_below(armed, "", 0));
	free(armed->bucket[PATH]);
	free(armed->bucket[REAL]);
	free(armed->way);
	free(armed);
}

static struct lw_armed_root *make_root(const char *path, size_t len, const char *real, size_t real_len, const char *links, size_t links_len)
{
	struct lw_armed_root *root = calloc(1, sizeof *root + len + 1 + real_len + 1 + links_len);
	if (!root)
		return NULL;
	root->len = (uint32_t)len;
	root->real_len = (uint32_t)real_len;
	root->links_len = (uint32_t)links_len;
	memcpy(root->text, path, len);
	memcpy(root->text + len + 1, real, real_len);
	if (links_len)
		memcpy(root->text + len + 1 + real_len + 1, links, links_len);
	root->hash[PATH] = lw_path_hash(path, len);
	root->hash[REAL] = lw_path_hash(real, real_len);
	return root;
}

int lw_armed_add(lw_armed *armed, const char *path, size_t len, const char *real, size_t real_len, const char *links, size_t links_len, uint64_t place)
{
	struct lw_armed_root *root = make_root(path, len, real, real_len, links, links_len);
	int error = root ? grow(armed) : -ENOMEM;
	if (!error)
		error = make_room_for_ways(armed, count_ways(root));
	if (error) {
		free(root);
		return error;
	}
	root->place = place;
	put_in(armed, root, PATH);
	put_in(armed, root, REAL);
	add_ways(armed, root);
	armed->count++;
	return 0;
}

const struct lw_armed_root *lw_armed_find(const lw_armed *armed, uint64_t hash)
{
	const struct lw_armed_root *root = *bucket(armed, PATH, hash);
	while (root && root->hash[PATH] != hash)
		root = root->chain[PATH];
	return root;
}

static void each_at(const lw_armed *armed, const struct prefix *prefix, lw_armed_each *each, void *arg)
{
	for (const struct lw_armed_root *root = *bucket(armed, REAL, prefix->hash); root; root = root->chain[REAL])
		if (root->real_len == prefix->at && memcmp(lw_armed_real(root), prefix->path, prefix->at) == 0)
			each(arg, root);
}

void lw_armed_above(const lw_armed *armed, const char *real, size_t len, lw_armed_each *each, void *arg)
{
	struct prefix prefix = { .path = real, .len = len };
	do
		each_at(armed, &prefix, each, arg);
	while (next_prefix(&prefix));
}

/* Taking out */

typedef bool chooses(const struct lw_armed_root *root, const char *path, size_t len);

static struct lw_armed_root *take_chosen(lw_armed *armed, chooses *chosen, const char *path, size_t len)
{
	struct lw_armed_root *list = NULL;
	for (uint32_t i = 0; i <= armed->mask; i++) {
		for (struct lw_armed_root *root = armed->bucket[PATH][i], *next; root; root = next) {
			next = root->chain[PATH];
			if (!chosen(root, path, len))
				continue;
			take_out(armed, root, PATH);
			take_out(armed, root, REAL);
			armed->count--;
			root->next = list;
			list = root;
		}
	}
	return list;
}

static bool leads_over(const struct lw_armed_root *root, const char *path, size_t len)
{
	const char *link = links_of(root), *end = link + root->links_len;
	if (is_below(lw_armed_real(root), root->real_len, path, len))
		return true;
	for (; link < end; link += strlen(link) + 1)
		if (is_below(link, strlen(link), path, len))
			return true;
	return false;
}

struct lw_armed_root *lw_armed_broken(lw_armed *armed, const char *real, size_t len)
{
	return !len || is_on_a_way(armed, real, len) ? take_chosen(armed, leads_over, real, len) : NULL;
}

static bool is_armed_below(const struct lw_armed_root *root, const char *path, size_t len)
{
	return is_below(root->text, root->len, path, len);
}

struct lw_armed_root *lw_armed_below(lw_armed *armed, const char *path, size_t len)
{
	return take_chosen(armed, is_armed_below, path, len);
}

void lw_armed_free(struct lw_armed_root *list)
{
	while (list) {
		struct lw_armed_root *next = list->next;
		free(list);
		list = next;
	}
}
