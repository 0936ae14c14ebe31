/* SPDX-License-Identifier: MIT */
/* watch_tree: see watch_tree.h. */
#include "watch_tree.h"
#include "hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_NODES = 64, NONE = LW_WATCH_NONE };

static int32_t *name_bucket(const struct lw_watch_tree *tree, int32_t parent, const char *name, size_t len)
{
	uint64_t hash = lw_hash64(name, len) ^ (uint64_t)(uint32_t)parent * 0x9e3779b97f4a7c15u;
	return &tree->by_name[(hash ^ hash >> 32) & (tree->buckets - 1)];
}

static int32_t *wd_bucket(const struct lw_watch_tree *tree, int32_t wd)
{
	return &tree->by_wd[(uint32_t)wd & (tree->buckets - 1)]; /* the kernel counts them up */
}

static const char *name_of(const struct lw_watch_tree *tree, const struct lw_watch_node *n)
{
	return tree->names + n->name;
}

static int32_t *own_name_bucket(const struct lw_watch_tree *tree, const struct lw_watch_node *n)
{
	return name_bucket(tree, n->parent, name_of(tree, n), n->len);
}

static bool is_root(int32_t node)
{
	return node <= LW_WATCH_NOWHERE;
}

/* --- room --- */

static void rehash(struct lw_watch_tree *tree)
{
	memset(tree->by_name, 0xff, tree->buckets * sizeof *tree->by_name);
	memset(tree->by_wd, 0xff, tree->buckets * sizeof *tree->by_wd);
	for (int32_t i = 0; i < tree->size; i++) {
		struct lw_watch_node *n = &tree->node[i];
		if (!(n->flags & LW_WATCH_LIVE))
			continue;
		int32_t *bucket = own_name_bucket(tree, n);
		if (!is_root(i)) {
			n->by_name = *bucket;
			*bucket = i;
		}
		if (n->wd >= 0) {
			bucket = wd_bucket(tree, n->wd);
			n->by_wd = *bucket;
			*bucket = i;
		}
	}
}

static int grow_buckets(struct lw_watch_tree *tree, uint32_t buckets)
{
	int32_t *by_name = malloc(buckets * sizeof *by_name), *by_wd = malloc(buckets * sizeof *by_wd);
	if (!by_name || !by_wd) {
		free(by_name);
		free(by_wd);
		return -ENOMEM;
	}
	free(tree->by_name);
	free(tree->by_wd);
	tree->by_name = by_name;
	tree->by_wd = by_wd;
	tree->buckets = buckets;
	rehash(tree);
	return 0;
}

static int grow_nodes(struct lw_watch_tree *tree)
{
	int32_t capacity = tree->capacity + tree->capacity / 2;
	if (capacity >= INT32_MAX / 2)
		return -ENOMEM;
	struct lw_watch_node *node = realloc(tree->node, (size_t)capacity * sizeof *node);
	if (!node)
		return -ENOMEM;
	tree->node = node;
	tree->capacity = capacity;
	return 0;
}

/* Names of removed nodes stay until they are as many as the others: then all move together. */
static int grow_names(struct lw_watch_tree *tree)
{
	uint64_t live = tree->names_size - tree->names_dead, capacity = live + live / 2 + 4096;
	char *names = capacity < UINT32_MAX ? malloc(capacity) : NULL;
	uint32_t size = 0;
	if (!names)
		return -ENOMEM;
	for (int32_t i = 0; i < tree->size; i++) {
		struct lw_watch_node *n = &tree->node[i];
		if (!(n->flags & LW_WATCH_LIVE))
			continue;
		memcpy(names + size, name_of(tree, n), n->len);
		n->name = size;
		size += n->len;
	}
	free(tree->names);
	tree->names = names;
	tree->names_size = size;
	tree->names_capacity = (uint32_t)capacity;
	tree->names_dead = 0;
	return 0;
}

static int make_room(struct lw_watch_tree *tree, size_t len)
{
	int error = 0;
	if (tree->free == NONE && tree->size == tree->capacity)
		error = grow_nodes(tree);
	if (!error && tree->live >= tree->buckets)
		error = grow_buckets(tree, tree->buckets * 2);
	if (!error && tree->names_capacity - tree->names_size < len)
		error = grow_names(tree);
	return error;
}

/* --- nodes --- */

static int32_t take_node(struct lw_watch_tree *tree)
{
	int32_t node = tree->free;
	if (node == NONE)
		node = tree->size++;
	else
		tree->free = tree->node[node].next;
	tree->node[node] = (struct lw_watch_node){
		.parent = NONE, .child = NONE, .next = NONE, .prev = NONE, .by_name = NONE, .by_wd = NONE,
		.target = NONE, .next_link = NONE, .first_link = NONE, .wd = -1, .flags = LW_WATCH_LIVE,
	};
	tree->live++;
	return node;
}

int lw_watch_tree_init(struct lw_watch_tree *tree)
{
	*tree = (struct lw_watch_tree){ .free = NONE, .capacity = FIRST_NODES };
	tree->node = malloc(FIRST_NODES * sizeof *tree->node);
	if (!tree->node || grow_buckets(tree, FIRST_NODES) || grow_names(tree)) {
		lw_watch_tree_free(tree);
		return -ENOMEM;
	}
	take_node(tree);
	take_node(tree);
	tree->node[LW_WATCH_ROOT].flags |= LW_WATCH_PLAIN;
	return 0;
}

void lw_watch_tree_free(struct lw_watch_tree *tree)
{
	free(tree->node);
	free(tree->by_name);
	free(tree->by_wd);
	free(tree->names);
	*tree = (struct lw_watch_tree){ .free = NONE };
}

int32_t lw_watch_tree_find(const struct lw_watch_tree *tree, int32_t parent, const char *name, size_t len)
{
	for (int32_t i = *name_bucket(tree, parent, name, len); i != NONE; i = tree->node[i].by_name) {
		const struct lw_watch_node *n = &tree->node[i];
		if (n->parent == parent && n->len == len && memcmp(name_of(tree, n), name, len) == 0)
			return i;
	}
	return NONE;
}

static void add_to_parent(struct lw_watch_tree *tree, int32_t parent, int32_t node)
{
	int32_t first = tree->node[parent].child;
	tree->node[node].parent = parent;
	tree->node[node].next = first;
	if (first != NONE)
		tree->node[first].prev = node;
	tree->node[parent].child = node;
}

int32_t lw_watch_tree_add(struct lw_watch_tree *tree, int32_t parent, const char *name, size_t len)
{
	if (len > UINT8_MAX)
		return -ENAMETOOLONG;
	int error = make_room(tree, len);
	if (error)
		return error;
	int32_t node = take_node(tree);
	struct lw_watch_node *n = &tree->node[node];
	n->name = tree->names_size;
	n->len = (uint8_t)len;
	memcpy(tree->names + tree->names_size, name, len);
	tree->names_size += (uint32_t)len;
	add_to_parent(tree, parent, node);
	int32_t *bucket = own_name_bucket(tree, n);
	n->by_name = *bucket;
	*bucket = node;
	return node;
}

static void leave_parent(struct lw_watch_tree *tree, const struct lw_watch_node *n)
{
	if (n->next != NONE)
		tree->node[n->next].prev = n->prev;
	if (n->prev != NONE)
		tree->node[n->prev].next = n->next;
	else
		tree->node[n->parent].child = n->next;
}

static void leave_names(struct lw_watch_tree *tree, int32_t node)
{
	int32_t *at = own_name_bucket(tree, &tree->node[node]);
	while (*at != node)
		at = &tree->node[*at].by_name;
	*at = tree->node[node].by_name;
	tree->names_dead += tree->node[node].len;
}

static void leave_wd(struct lw_watch_tree *tree, int32_t node)
{
	int32_t wd = tree->node[node].wd, *at = wd_bucket(tree, wd);
	while (*at != node)
		at = &tree->node[*at].by_wd;
	*at = tree->node[node].by_wd;
	tree->node[node].wd = -1;
	tree->watches -= lw_watch_tree_first(tree, wd) == NONE;
}

static void leave_target(struct lw_watch_tree *tree, int32_t link)
{
	int32_t *at = &tree->node[tree->node[link].target].first_link;
	while (*at != link)
		at = &tree->node[*at].next_link;
	*at = tree->node[link].next_link;
	tree->node[link].target = NONE;
}

void lw_watch_tree_set_wd(struct lw_watch_tree *tree, int32_t node, int32_t wd)
{
	if (tree->node[node].wd >= 0)
		leave_wd(tree, node);
	if (wd < 0)
		return;
	tree->watches += lw_watch_tree_first(tree, wd) == NONE;
	int32_t *bucket = wd_bucket(tree, wd);
	tree->node[node].wd = wd;
	tree->node[node].by_wd = *bucket;
	*bucket = node;
}

void lw_watch_tree_arm(struct lw_watch_tree *tree, int32_t node)
{
	tree->armed += !(tree->node[node].flags & LW_WATCH_ARMED);
	tree->node[node].flags |= LW_WATCH_ARMED;
}

void lw_watch_tree_set_target(struct lw_watch_tree *tree, int32_t link, int32_t target)
{
	if (tree->node[link].target != NONE)
		leave_target(tree, link);
	if (target == NONE)
		return;
	tree->node[link].target = target;
	tree->node[link].next_link = tree->node[target].first_link;
	tree->node[target].first_link = link;
}

void lw_watch_tree_remove(struct lw_watch_tree *tree, int32_t node)
{
	struct lw_watch_node *n = &tree->node[node];
	while (n->first_link != NONE)
		lw_watch_tree_set_target(tree, n->first_link, LW_WATCH_NOWHERE);
	lw_watch_tree_set_target(tree, node, NONE);
	lw_watch_tree_set_wd(tree, node, -1);
	tree->armed -= (n->flags & LW_WATCH_ARMED) != 0;
	if (is_root(node)) {
		n->flags &= LW_WATCH_LIVE | LW_WATCH_PLAIN;
		return;
	}
	leave_parent(tree, n);
	leave_names(tree, node);
	n->flags = 0;
	n->next = tree->free;
	tree->free = node;
	tree->live--;
}

int32_t lw_watch_tree_first(const struct lw_watch_tree *tree, int32_t wd)
{
	int32_t i = *wd_bucket(tree, wd);
	while (i != NONE && tree->node[i].wd != wd)
		i = tree->node[i].by_wd;
	return i;
}

int32_t lw_watch_tree_next(const struct lw_watch_tree *tree, int32_t node)
{
	int32_t i = tree->node[node].by_wd;
	while (i != NONE && tree->node[i].wd != tree->node[node].wd)
		i = tree->node[i].by_wd;
	return i;
}

bool lw_watch_tree_is_behind(const struct lw_watch_tree *tree, int32_t node)
{
	const struct lw_watch_node *n = &tree->node[node];
	return n->len == 1 && *name_of(tree, n) == *LW_WATCH_BEHIND;
}

size_t lw_watch_tree_path(const struct lw_watch_tree *tree, int32_t node, char *out)
{
	size_t len = 0;
	const struct lw_watch_node *n;
	for (int32_t i = node; (n = &tree->node[i])->parent != NONE; i = n->parent)
		len += lw_watch_tree_is_behind(tree, i) ? 0 : 1u + n->len;
	char *end = out ? out + len : NULL;
	for (int32_t i = node; out && (n = &tree->node[i])->parent != NONE; i = n->parent) {
		if (lw_watch_tree_is_behind(tree, i))
			continue;
		end -= n->len;
		memcpy(end, name_of(tree, n), n->len);
		*--end = '/';
	}
	return len;
}
