/* SPDX-License-Identifier: MIT */
/*
 * graph: who imports whom below some roots, as a file in the cache and in memory.
 *
 *     struct lw_graph_head
 *     STRINGS   paths and names, each followed by a zero byte
 *     DIRS      every directory that was read, with its stamp
 *     SOURCES   every source in them, with its stamp, and where its statements are
 *     NODES     every module name, sorted so that what is below a package follows it; one more at the end, for the ranges
 *     EDGES     for each node whom it imports
 *     BACK      for each node who imports it
 *     RAW       the import statements of each source as they stand: what names mean follows from the tree, which changes while they do not
 *
 * Sections begin at multiples of 8; each has its hash in the head, the head its own. All integers are little-endian, all offsets relative
 * to their section. A section is read into memory when it is asked for, its hash compared and every offset in it checked, once: what is used
 * afterwards needs no check, and a file that is cut short or overwritten meanwhile is refused, not a fault.
 *
 * The file rests on the stamps in it: graph_fresh.h says whether they still hold, graph_build.h makes a new one, graph_store.h says where it lies.
 *
 * Threads: one that loads sections; any number that use those which are loaded.
 */
#ifndef LW_GRAPH_H
#define LW_GRAPH_H

#include "hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LW_GRAPH_MAGIC "LWGRAPH"
enum { LW_GRAPH_FORMAT = 1 };
#define LW_GRAPH_NONE UINT32_MAX

enum lw_graph_section {
	LW_GRAPH_STRINGS, LW_GRAPH_DIRS, LW_GRAPH_SOURCES, LW_GRAPH_NODES, LW_GRAPH_EDGES, LW_GRAPH_BACK, LW_GRAPH_RAW,
	LW_GRAPH_SECTIONS
};

struct lw_graph_head {
	char magic[8];
	uint32_t format;
	uint32_t head_size;
	struct lw_hash128 roots;	/* lw_graph_key() */
	uint64_t file_size;
	struct { uint64_t offset, size, hash; } section[LW_GRAPH_SECTIONS];
	uint64_t head_hash;		/* lw_hash64 of everything before it */
};

/** A directory. 32 bytes. */
struct lw_graph_dir {
	uint64_t stamp;			/* 0: it proves nothing (racy, or a read-only image), so the graph is stale */
	uint32_t path, path_len;
	uint32_t sources, count;	/* the first in SOURCES */
	uint32_t root;
	uint32_t zero;
};

enum lw_graph_state {
	LW_GRAPH_READ,			/* its statements are in RAW */
	LW_GRAPH_BROKEN,		/* it does not compile */
	LW_GRAPH_UNREADABLE,
};

/** A source, NAME.py. 32 bytes. */
struct lw_graph_source {
	uint64_t stamp;			/* 0: as above */
	uint32_t dir;
	uint32_t name;
	uint32_t raw, raw_len;
	uint8_t name_len;
	uint8_t state;			/* enum lw_graph_state */
	uint8_t zero[6];
};

enum lw_graph_kind {
	LW_GRAPH_MODULE,
	LW_GRAPH_PACKAGE,
	LW_GRAPH_NAMESPACE,		/* a package without __init__, which holds something */
	LW_GRAPH_EXTENSION,
	LW_GRAPH_BYTECODE,		/* a .pyc without source */
	LW_GRAPH_EXTERNAL,		/* imported, but not below the roots */
	LW_GRAPH_KINDS
};

/** A module name. 32 bytes. */
struct lw_graph_node {
	uint32_t name;
	uint16_t name_len;
	uint8_t kind;			/* enum lw_graph_kind */
	uint8_t zero[5];
	uint32_t source;		/* in SOURCES, or NONE */
	uint32_t parent;		/* the node of its package, or NONE */
	uint32_t edges, back;		/* the first in EDGES and BACK; the next node's are the ends */
	uint32_t more;
};

/** 12 bytes. */
struct lw_graph_edge {
	uint32_t node;			/* the other end */
	uint32_t line;			/* of the first statement of the most certain kind; 0: not known */
	uint32_t kinds;			/* a bit for each kind of statement, which their writer numbers from the most certain on */
};
enum { LW_GRAPH_EDGE_KINDS = 8 };

typedef struct lw_graph lw_graph;

/** What names the graph of ROOTS. */
struct lw_hash128 lw_graph_key(const char *const *roots, unsigned count);

/** Open the graph in FD, which is its from then on, even on error. 0 or -errno (-EBADMSG: damaged, cut short; -EPROTO: another format; -ESTALE: of other roots). */
int lw_graph_open(int fd, struct lw_hash128 roots, lw_graph **out);
/** The same for SIZE bytes at DATA (malloc'ed; its from then on, even on error). */
int lw_graph_open_memory(void *data, size_t size, struct lw_hash128 roots, lw_graph **out);
void lw_graph_close(lw_graph *graph);

/** Load the sections of MASK (1 << section) and those that they point into. 0, -EBADMSG (of no use from then on) or -errno (-EBADF: the descriptor is something else's by now). */
int lw_graph_load(lw_graph *graph, unsigned mask);
enum {
	LW_GRAPH_FOR_FRESH = 1 << LW_GRAPH_STRINGS | 1 << LW_GRAPH_DIRS | 1 << LW_GRAPH_SOURCES,
	LW_GRAPH_FOR_BUILD = LW_GRAPH_FOR_FRESH | 1 << LW_GRAPH_RAW,
	LW_GRAPH_FOR_NAMES = LW_GRAPH_FOR_FRESH | 1 << LW_GRAPH_NODES,
	LW_GRAPH_FOR_IMPORTS = LW_GRAPH_FOR_NAMES | 1 << LW_GRAPH_EDGES,
	LW_GRAPH_FOR_IMPORTERS = LW_GRAPH_FOR_NAMES | 1 << LW_GRAPH_BACK,
};

/* What follows is for sections that are loaded. */
uint32_t lw_graph_dirs(const lw_graph *graph, const struct lw_graph_dir **out);
uint32_t lw_graph_sources(const lw_graph *graph, const struct lw_graph_source **out);
/** Without the last, which is none. */
uint32_t lw_graph_nodes(const lw_graph *graph, const struct lw_graph_node **out);
/** Terminated. */
const char *lw_graph_string(const lw_graph *graph, uint32_t at);
const void *lw_graph_raw(const lw_graph *graph, const struct lw_graph_source *source);
/** Node NODE's edges (BACK: those that lead to it): their number. */
uint32_t lw_graph_edges(const lw_graph *graph, uint32_t node, bool back, const struct lw_graph_edge **out);

/** The node called NAME, or NONE. */
uint32_t lw_graph_find(const lw_graph *graph, const char *name, size_t len);
/** The order of nodes: a dot comes before all else. */
int lw_graph_compare(const char *a, size_t a_len, const char *b, size_t b_len);

/**
 * Whom START imports by statements of KINDS (bits), those whom they import, and so on; BACK: who imports it. A module also needs the package that it is in.
 * VIA[n] (as many as there are nodes) is then the node by which N was reached, over the least number of steps, START's own is START, NONE: it was not. ORDER
 * (likewise) lists what was reached, nearest first, without START; returns how many. The caller has loaded EDGES or BACK.
 */
uint32_t lw_graph_reach(const lw_graph *graph, uint32_t start, bool back, unsigned kinds, uint32_t *via, uint32_t *order);

/**
 * The cycles of statements of KINDS (packages that modules are in do not count): COMPONENT[n] is the same number for nodes that import each other, round about, and
 * NONE for all others. *COUNT is how many there are; numbered by their first nodes. 0 or -ENOMEM. EDGES are loaded.
 */
int lw_graph_cycles(const lw_graph *graph, unsigned kinds, uint32_t *component, uint32_t *count);

/** A shortest way from START back to START within its component, to PATH (as many as there are nodes): how many nodes are on it. 0: none; -ENOMEM. */
int64_t lw_graph_cycle_through(const lw_graph *graph, unsigned kinds, const uint32_t *component, uint32_t start, uint32_t *path);

#endif
