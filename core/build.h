/* SPDX-License-Identifier: MIT */
/*
 * build: collects facts and writes them as one index file (index.h).
 *
 * Adding the same fact again replaces it. lw_build_merge() adds what an older index knows and the builder does
 * not: merging newest first compacts a base and its segments. Code keeps the order in which it was added; what
 * replaces a fact takes its place.
 *
 * The same sequence of calls gives the same file, bit for bit, but for writer_uid and created_ns.
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
 * Add the facts of INDEX that the builder lacks. Code is not copied: INDEX must stay open until the builder is
 * destroyed. Damaged and senseless parts are left out. *SKIPPED (may be NULL) counts them. After an error some
 * facts have been added.
 */
int lw_build_merge(lw_build *build, const lw_index *index, unsigned *skipped);

bool lw_build_empty(const lw_build *build);
/** Bytes that a write would produce. */
uint64_t lw_build_size(const lw_build *build);

/**
 * Write to FD, a regular file, from its current offset (expected: an empty file), which does not move.
 * 0 or -errno (-ENOSPC, ...). Not synced. The head is written last: what a failed write leaves behind is no index.
 */
int lw_build_write(lw_build *build, int fd, struct lw_hash128 key, uint32_t writer_uid, uint64_t created_ns);

#endif
