/* SPDX-License-Identifier: MIT */
/*
 * build: collects facts and writes them as one index file (index.h).
 *
 * Adding the same fact again replaces it. lw_build_merge() adds what an older index knows and the builder does
 * not: merging newest first compacts a base and its segments. Code keeps the order in which it was added; what
 * replaces a fact takes its place.
 *
 * The same sequence of calls gives the same file, bit for bit, but for writer_uid and created_ns (which a relative file does not have).
 *
 * Threads: none; one owner at a time.
 */
#ifndef LW_BUILD_H
#define LW_BUILD_H

#include "index.h"

typedef struct lw_build lw_build;

/** NULL without memory. */
lw_build *lw_build_create(void);
void lw_build_destroy(lw_build *build);

/*
 * The following copy what they are given, unless stated; 0, -ENOMEM, -E2BIG (a format limit), -EINVAL (no such thing
 * can be in an index: see each). After an error the facts are what they were.
 */

/**
 * LISTING may be NULL (missing, not a directory, unreadable). -EINVAL: its names are not strictly ascending by
 * (hash, bytes), or lie outside of its string area. -E2BIG: a path beyond 65,535 bytes.
 */
int lw_build_dir(lw_build *build, const char *path, size_t len, uint64_t stamp, uint16_t flags, const struct lw_listing *listing);

/**
 * The same for a LISTING that listing.h has made, which is believed, with the stamps of its sources: STAMPS[i] lies beside entry i (see index.h). The whole file has
 * room for stamps from then on, 0 where none were given. For speed: a name that is in the builder already is stored again, until a merge.
 */
int lw_build_dir_stamped(lw_build *build, const char *path, size_t len, uint64_t stamp, uint16_t flags, const struct lw_listing *listing, const uint64_t *stamps);

/**
 * FLAGS: LW_FILE_PUBLIC or 0 (else -EINVAL). CODE is copied when COPY, else it must live until the builder is
 * destroyed. CODE_LEN 0 stores none. -E2BIG: code of 256 MiB, or 64 GiB of all.
 */
int lw_build_file(lw_build *build, struct lw_hash128 key, uint64_t stamp, uint64_t content, uint32_t flags,
		const void *code, size_t code_len, bool copy);

struct lw_build_name {
	const char *name;
	uint16_t len;
	uint16_t first;
};
/**
 * A view of ENTRIES directories with COUNT distinct names, in any order. -EINVAL: a name twice, an empty one, one beyond
 * 255 bytes, or FIRST not below ENTRIES. -E2BIG: beyond 65,535 ENTRIES.
 */
int lw_build_view(lw_build *build, struct lw_hash128 key, const struct lw_view_dir *dirs, uint32_t entries,
		const struct lw_build_name *names, uint32_t count);

/**
 * Everything that a walk reports (scan.h) from directory PATH (absolute, no trailing slash; "" is the root of everything) is in the builder. What an older
 * index says of other directories there, and of sources that its directories had, is left out by merges from now on; but not where no walk goes (a virtual
 * environment in ".venv", a second link on the way). With WHOLE there as well: nothing is there but what the builder has. SOURCE is the kind of ".py" files in
 * listings; 0: no record of a file is in question. 0 or -ENOMEM.
 */
int lw_build_cover(lw_build *build, const char *path, size_t len, lw_kinds source, bool whole);

/** Whether a merge of INDEX would leave something out because of a lw_build_cover(). Damage counts. */
bool lw_build_outdates(const lw_build *build, const lw_index *index);

/**
 * Move all code into TO, an empty builder: what is stored from there a merge into BUILD finds again, by key, stamp and content. 0 or -ENOMEM: then nothing
 * was moved, and TO is good for nothing but lw_build_destroy().
 */
int lw_build_move_code(lw_build *build, lw_build *to);

/**
 * Add the facts of INDEX that the builder lacks; where it has a file without code, and INDEX the same one with, its code. Code is not copied: INDEX must stay open until the builder is
 * destroyed. Damaged and senseless parts are left out. *SKIPPED (may be NULL) counts them. After an error some
 * facts have been added.
 */
int lw_build_merge(lw_build *build, const lw_index *index, unsigned *skipped);

bool lw_build_empty(const lw_build *build);
/** Whether there is a fact about directory PATH. */
bool lw_build_knows_dir(const lw_build *build, const char *path, size_t len);
/** Bytes that a write would produce. */
uint64_t lw_build_size(const lw_build *build);

/** What they are made of, and how much there is of it. */
struct lw_build_facts {
	uint64_t directories, names, files;	/* names: of modules, in directories */
	uint64_t stamps;			/* beside them, that are known */
	uint64_t facts, strings, code;		/* bytes: records and tables, names and paths, code */
};
void lw_build_facts(const lw_build *build, struct lw_build_facts *out);

/**
 * Write to FD, a regular file, from its current offset (expected: an empty file), which does not move.
 * 0 or -errno (-ENOSPC, ...). Not synced. The head is written last: what a failed write leaves behind is no index.
 */
int lw_build_write(lw_build *build, int fd, struct lw_hash128 key, uint32_t writer_uid, uint64_t created_ns);

/** The same for an index relative to ROOTS roots (1 to LW_ROOTS_MAX), whose paths BUILD was given so. Nobody and no time is named as its writer. */
int lw_build_write_relative(lw_build *build, int fd, struct lw_hash128 key, uint32_t roots);

#endif
