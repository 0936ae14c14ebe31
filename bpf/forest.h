/* SPDX-License-Identifier: MIT */
/*
 * forest: gathers imports into trees, and hands each over when everything in it has ended. A tree is an import that is within no other of its thread, and all that
 * is within it; children are in the order in which they began. For formats that tell an import before what it imported, or whose lines of several threads must not mix.
 */
#ifndef LW_BPF_FOREST_H
#define LW_BPF_FOREST_H

#include "model.h"

typedef struct lw_forest lw_forest;

enum { LW_TREE_MOST = 20000 };	/* nodes and waits of a tree; other nodes are left out, and counted: an import can last as long as its process */

struct lw_node {
	struct lw_import import;
	struct lw_node *parent, *first, *last, *next;	/* children; sibling */
	struct lw_node_wait *waits, *last_wait;		/* for locks of imports, while this was the innermost import */
	bool open;
	bool shown;					/* this and the next are for whom the tree is handed to */
	const struct lw_node *last_shown;		/* of the children */
	/* Of the root: */
	unsigned size, open_nodes, left_out;
	struct lw_node *bucket;				/* the forest's own */
};

struct lw_node_wait {
	struct lw_wait wait;
	struct lw_node_wait *next;
};

struct lw_forest_sink {
	void *context;
	void (*tree)(void *context, struct lw_node *root);		/* valid during the call */
	void (*stray)(void *context, const struct lw_wait *wait);	/* for an import's lock, outside of any import, or in one that has no room */
};

/** NULL without memory. */
lw_forest *lw_forest_create(const struct lw_forest_sink *sink);
/** NULL is allowed. Trees that are not complete are dropped: the end of a model completes them all. */
void lw_forest_destroy(lw_forest *forest);
struct lw_listener lw_forest_listener(lw_forest *forest);

#endif
