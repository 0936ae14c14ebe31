/* SPDX-License-Identifier: MIT */
/*
 * graph_store: where graphs lie: graph-<roots, 16 hex digits> in the key's directory, under the same rules of trust (store.h). Written as .tmp-graph-<the
 * same>-<pid> and renamed. A place keeps LW_GRAPH_FILES of them; whoever adds one removes the oldest beyond that.
 *
 * Nothing is lost with such a file: whatever is wrong with it, the tree is read again.
 */
#ifndef LW_GRAPH_STORE_H
#define LW_GRAPH_STORE_H

#include "graph.h"
#include "store.h"

enum { LW_GRAPH_FILES = 16 };

/** 0 or -errno; as lw_graph_open(). */
int lw_graph_store_open(const lw_store *store, struct lw_hash128 roots, lw_graph **out);
/** 0 or -errno (-EROFS, -ENOSPC, ...); what was there before is then still there. */
int lw_graph_store_put(const lw_store *store, struct lw_hash128 roots, const void *image, size_t size);

#endif
