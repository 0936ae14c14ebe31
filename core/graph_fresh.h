/* SPDX-License-Identifier: MIT */
/*
 * graph_fresh: does a stored graph still say what is in the tree?
 *
 * Each directory that was read is compared by its stamp, and each source in it, asked relative to the directory; no directory is read. So whatever
 * was added, removed, renamed or edited is noticed, with one exception: what a dangling link leads to when it comes into being (the directory that holds the link
 * does not change).
 *
 * Where somebody looks after the tree (fresh.h), what he knows of a directory and of all the sources in it needs no look.
 *
 * The work is shared among the threads of a crew (crew.h), which have ended on return.
 */
#ifndef LW_GRAPH_FRESH_H
#define LW_GRAPH_FRESH_H

#include "fresh.h"
#include "graph.h"

/**
 * FOR_FRESH is loaded. ASKED (as many as there are sources): those to be compared, beside all directories; NULL: all are.
 * FRESH may be NULL; lw_fresh_check() has just said true of it. THREADS 0: as many as cores, more while calls wait. 1: it does; 0: it does not, or that cannot be told; -ENOMEM.
 */
int lw_graph_fresh(const lw_graph *graph, const bool *asked, lw_fresh *fresh, unsigned threads);

/**
 * What the answer to whom NODE imports rests on: ASKED becomes true for its source, and for those of what it imports, whose state is told; with KINDS (bits, else 0)
 * for all that lw_graph_reach() finds. It is as new as these are: if they are unchanged, nobody else can be among them. FOR_IMPORTS is loaded. 0 or -ENOMEM.
 */
int lw_graph_rests_on(const lw_graph *graph, uint32_t node, unsigned kinds, bool *asked);

#endif
