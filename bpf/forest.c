/* SPDX-License-Identifier: MIT */
/* forest: see forest.h. */
#include "forest.h"

#include <stdlib.h>

enum { BUCKETS = 4096 };

struct lw_forest {
	struct lw_forest_sink sink;
	struct lw_node *bucket[BUCKETS];	/* of trees that are not complete, by id */
};

static struct lw_node **bucket_of(lw_forest *forest, uint64_t id)
{
	return &forest->bucket[id % BUCKETS];
}

static struct lw_node *find(lw_forest *forest, uint64_t id, uint32_t tid)
{
	struct lw_node *node = *bucket_of(forest, id);
	while (node && node->import.id != id)
		node = node->bucket;
	/* A forked process goes on within its parent's imports: a tree of its own. */
	return node && node->import.tid == tid ? node : NULL;
}

static struct lw_node *root_of(struct lw_node *node)
{
	while (node->parent)
		node = node->parent;
	return node;
}

static void forget(lw_forest *forest, struct lw_node *node)
{
	struct lw_node **at = bucket_of(forest, node->import.id);
	while (*at != node)
		at = &(*at)->bucket;
	*at = node->bucket;
}

static void free_node(struct lw_node *node)
{
	for (struct lw_node_wait *wait = node->waits, *next; wait; wait = next) {
		next = wait->next;
		free(wait);
	}
	free(node);
}

static void free_tree(lw_forest *forest, struct lw_node *node)
{
	for (struct lw_node *child = node->first, *next; child; child = next) {
		next = child->next;
		free_tree(forest, child);
	}
	forget(forest, node);
	free_node(node);
}

static void adopt(struct lw_node *parent, struct lw_node *node)
{
	node->parent = parent;
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
}

static void on_started(void *context, const struct lw_import *import)
{
	lw_forest *forest = context;
	struct lw_node *parent = import->parent ? find(forest, import->parent, import->tid) : NULL, *root = parent ? root_of(parent) : NULL;
	if (root && root->size == LW_TREE_MOST) {
		root->left_out++;
		return;
	}
	struct lw_node *node = calloc(1, sizeof(*node)), **bucket = bucket_of(forest, import->id);
	if (!node)
		return;
	node->import = *import;
	node->open = true;
	node->bucket = *bucket;
	*bucket = node;
	if (parent)
		adopt(parent, node);
	else
		root = node;
	root->size++;
	root->open_nodes++;
}

static void on_import(void *context, const struct lw_import *import)
{
	lw_forest *forest = context;
	struct lw_node *node = find(forest, import->id, import->tid);
	if (!node || !node->open)
		return;
	struct lw_node *root = root_of(node);
	node->import = *import;
	node->open = false;
	if (--root->open_nodes)
		return;
	if (forest->sink.tree)
		forest->sink.tree(forest->sink.context, root);
	free_tree(forest, root);
}

static void on_wait(void *context, const struct lw_wait *wait)
{
	lw_forest *forest = context;
	if (wait->kind != LW_CLASS_MODULE && wait->kind != LW_CLASS_GLOBAL)
		return;
	struct lw_node *node = wait->within ? find(forest, wait->within, wait->tid) : NULL;
	struct lw_node *root = node ? root_of(node) : NULL;
	if (!root || root->size == LW_TREE_MOST) {
		if (forest->sink.stray)
			forest->sink.stray(forest->sink.context, wait);
		return;
	}
	struct lw_node_wait *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return;
	root->size++;
	entry->wait = *wait;
	if (node->last_wait)
		node->last_wait->next = entry;
	else
		node->waits = entry;
	node->last_wait = entry;
}

lw_forest *lw_forest_create(const struct lw_forest_sink *sink)
{
	lw_forest *forest = calloc(1, sizeof(*forest));
	if (forest)
		forest->sink = *sink;
	return forest;
}

void lw_forest_destroy(lw_forest *forest)
{
	if (!forest)
		return;
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct lw_node *node = forest->bucket[i], *next; node; node = next) {
			next = node->bucket;
			free_node(node);
		}
	free(forest);
}

struct lw_listener lw_forest_listener(lw_forest *forest)
{
	return (struct lw_listener){ .context = forest, .started = on_started, .import = on_import, .wait = on_wait };
}
