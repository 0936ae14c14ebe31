/* SPDX-License-Identifier: MIT */
/*
 * graph_build: makes a graph (graph.h) from a walk of the roots and the import statements of each source.
 *
 *     lw_graph_build_scan(build, roots)       walk; what OLD knows of a source under the same stamp is taken over
 *     lw_graph_build_source(build, i)         for each that is left:
 *     lw_graph_build_put(build, i, raw)           its statements, read by the caller
 *     lw_graph_build_finish(build)            what names mean, and the file
 *
 * Names mean what a program with ROOTS on sys.path, in that order, would find below them: in a directory a package before an extension, a source, a .pyc and
 * a namespace portion; among roots the first that has it, a namespace only where none has anything else. What is in a directory that
 * lost is in no graph. What is not found is external: other path entries, built-in modules, mistakes.
 *
 * `import a.b` is an edge to a.b. `from a import b, c` is one to each of a.b and a.c that is a module, and one to a if one of them is not, or
 * for a star. That a.b needs its package a is no edge, see lw_graph_reach().
 *
 * A statement, in RAW: u8 kind, u8 level, u16 count of names (LW_RAW_PLAIN: `import`), u32 line, u16 length and the name, for each name
 * u16 length and the name. Unaligned.
 *
 * Threads: one owner; lw_graph_build_scan() uses those of scan.h, and lw_graph_build_put() may be called by any number for different sources.
 */
#ifndef LW_GRAPH_BUILD_H
#define LW_GRAPH_BUILD_H

#include "graph.h"
#include "names.h"
#include "stamp.h"

enum { LW_RAW_HEAD = 10, LW_RAW_PLAIN = 0xffff, LW_RAW_LEVELS = 255, LW_RAW_NAME = 0xffff };

typedef struct lw_graph_build lw_graph_build;

/** OLD may be NULL; FOR_BUILD is loaded, and it outlives the build. NULL without memory. */
lw_graph_build *lw_graph_build_create(const struct lw_suffixes *suffixes, const lw_graph *old);
void lw_graph_build_destroy(lw_graph_build *build);

/** Once. 0 or -errno; *FAILED is the root that could not be listed, or COUNT. THREADS as in scan.h; never uses io_uring. */
int lw_graph_build_scan(lw_graph_build *build, const char *const *roots, unsigned count, unsigned threads, unsigned *failed);

uint32_t lw_graph_build_sources(const lw_graph_build *build);
/** Whether source I must be read. Its path goes to OUT (NULL: nowhere), -ENAMETOOLONG where that is longer than SIZE. */
int lw_graph_build_source(const lw_graph_build *build, uint32_t i, char *out, size_t size);
/** Its stamp; 0: none that could be trusted. */
uint64_t lw_graph_build_stamp(const lw_graph_build *build, uint32_t i);

/**
 * SIZE bytes of statements at RAW (copied), for source I. What changed since the walk counts now, and makes the graph stale. 0, -EINVAL: that is no RAW, -ENOMEM.
 */
int lw_graph_build_put(lw_graph_build *build, uint32_t i, const void *raw, size_t size, enum lw_graph_state state);

/** IMPORTER was seen to import IMPORTED, a statement of KIND with its source then, once: as long as that stays as it is. 0, -EINVAL: no names, -ENOMEM. */
int lw_graph_build_observe(lw_graph_build *build, unsigned kind, const char *importer, const char *imported);

/** The whole file, malloc'ed. 0, -ENOMEM or -E2BIG. */
int lw_graph_build_finish(lw_graph_build *build, struct lw_hash128 roots, void **image, size_t *size);

#endif
