/* SPDX-License-Identifier: MIT */
/*
 * index: the cache file format and its reader.
 *
 * One file holds facts and code: directory listings, records of source files, tables of top-level
 * names for whole path lists, and (the "pack", pack order = the order the builder was given) the marshalled code. Files are immutable: written under
 * a temporary name and renamed, mapped read-only, never patched. A process reads several of them
 * (one compacted base and some learned segments), newest first; a fact in a newer file hides the same
 * fact in an older one. See build.h for the writer, store.h for the directory they live in.
 *
 *     block 0   struct lw_index_head (rest zero)
 *     sections  each starts on a block boundary: STRINGS DIRS ENTRIES STAMPS FILES VIEWS VIEWDATA CODE
 *     SUMS      one u64 per block of the sections (blocks 1 .. n): lw_hash64 of that block
 *     ROOTS     one u64 per block of SUMS: lw_hash64 of that block
 *
 * The head carries the hash of ROOTS and, last, its own. Opening verifies those two; every other block is
 * verified when first touched (against its sum, whose own block is verified the same way), so the cost of
 * opening does not grow with what is stored, and no bit that is used is unverified. A file that fails is
 * refused (at open) or answers LW_BAD from then on (later): never a wrong fact.
 *
 * Stamps. Beside each entry there may be the stamp of the source ("NAME.py") that it stands for: STAMPS is one u64 per entry of ENTRIES, in the same order, 0 where
 * the source or its stamp is not known. Only what a watch looks after says so much (attach.h); in every other file, artifacts and those of the cache, STAMPS is
 * empty: what they know of sources is in FILES.
 *
 * Relative. Where the head counts roots, no path in the file begins at "/": directories are called "0", "0/pkg", "1/x/y" (the number of a root, then
 * the path below it), files accordingly. Such a file says the same wherever it was made and wherever it lies; stamps are 0 (which no stamp is), contents
 * are hashed as ever. It answers for the paths that lw_index_bind() makes it know. artifact.h opens them, cache files are never relative.
 *
 * All integers little-endian; offsets are relative to their section; code offsets count 16-byte units.
 * Every offset is bounds-checked when used: the file may be hostile as well as broken.
 *
 * Threads: an open lw_index is immutable but for its "verified" bits (relaxed atomics: two threads may verify
 * one block twice, which is harmless). Any number of threads may read.
 */
#ifndef LW_INDEX_H
#define LW_INDEX_H

#include "hash.h"
#include "listing.h"
#include "roots.h"
#include <stdbool.h>

#define LW_INDEX_MAGIC "LWINDEX\n"
enum { LW_INDEX_FORMAT = 3, LW_BLOCK = 4096, LW_CODE_UNIT = 16 };

enum lw_section {
	LW_SEC_STRINGS, LW_SEC_DIRS, LW_SEC_ENTRIES, LW_SEC_STAMPS, LW_SEC_FILES, LW_SEC_VIEWS, LW_SEC_VIEWDATA, LW_SEC_CODE,
	LW_SEC_COUNT
};

struct lw_index_head {
	char magic[8];
	uint32_t format;
	uint32_t head_size;		/* sizeof(struct lw_index_head) */
	struct lw_hash128 key;		/* interpreter, flags, suffixes: see store.h */
	uint64_t file_size;
	uint64_t created_ns;		/* CLOCK_REALTIME */
	uint32_t writer_uid;		/* effective uid: facts were seen with its permissions */
	uint32_t roots;			/* 0: paths are absolute; else LW_ROOTS_MAX at most */
	struct { uint64_t offset, size; } section[LW_SEC_COUNT];	/* absolute offset; size in bytes */
	uint64_t sums_offset, sums_size;
	uint64_t roots_offset, roots_size;
	uint64_t roots_hash;
	uint64_t head_hash;		/* lw_hash64 of everything before it */
};

/**
 * Fill in what follows from the section sizes: every offset, the sizes of SUMS and ROOTS, file_size. There is one
 * layout only, so a reader compares. 0, or -E2BIG.
 */
int lw_index_layout(struct lw_index_head *head);

/** A directory, sorted by (hash, path bytes). 32 bytes. */
struct lw_dir_record {
	uint64_t hash;			/* lw_hash64(path) */
	uint64_t stamp;			/* 0 where flags say there was nothing to stamp */
	uint32_t path;			/* in STRINGS */
	uint32_t entries;		/* index of the first in ENTRIES */
	uint32_t count;
	uint16_t path_len;
	uint16_t flags;			/* LW_DIR_* */
};

enum {
	LW_DIR_MISSING = 1,		/* nothing there (ENOENT, EACCES on the way) */
	LW_DIR_NOTDIR = 2,		/* something else than a directory, or below such a thing (ENOTDIR) */
	LW_DIR_UNREADABLE = 4,		/* a directory that could not be listed: FileFinder sees it empty */
	LW_DIR_PUBLIC = 8,		/* everybody may list and search it */
	LW_DIR_RACY = 16,		/* its stamp may be that of a later state as well (stamp.h): only in a daemon's snapshot, where nobody needs it until a change is told */
};

/** One entry of a path list. */
struct lw_view_dir {
	uint64_t path;			/* lw_hash64(path); 0: an entry that is not ours to search */
	uint64_t token;			/* of the directory that the names come from: its stamp, or one of these */
};
#define LW_TOKEN_MISSING UINT64_C(0)
#define LW_TOKEN_NOTDIR UINT64_C(1)

static inline uint64_t lw_token(uint16_t flags, uint64_t stamp)
{
	if (flags & LW_DIR_MISSING)
		return LW_TOKEN_MISSING;
	if (flags & LW_DIR_NOTDIR)
		return LW_TOKEN_NOTDIR;
	return stamp > LW_TOKEN_NOTDIR ? stamp : stamp + 2;
}

/** A source file, sorted by key. 40 bytes. */
struct lw_file_record {
	struct lw_hash128 key;		/* lw_hash128(path) */
	uint64_t stamp;
	uint64_t content;		/* lw_hash64 of the source bytes */
	uint32_t code;			/* in CODE, in LW_CODE_UNIT */
	uint32_t code_len;		/* bytes; LW_FILE_* in the upper bits */
};
enum { LW_FILE_LEN_BITS = 28 };
#define LW_FILE_LEN(rec) ((rec)->code_len & ((1u << LW_FILE_LEN_BITS) - 1))
#define LW_FILE_PUBLIC (1u << 31)	/* everybody may read the source */

/** The merged top-level names of one path list, sorted by key. 40 bytes. */
struct lw_view_record {
	struct lw_hash128 key;		/* of the path list: lw_view_key() in view.h */
	uint32_t dirs;			/* VIEWDATA offset (8-aligned) of struct lw_view_dir[entries] */
	uint32_t entries;
	uint32_t names;			/* VIEWDATA offset (4-aligned) of struct lw_view_name[count] */
	uint32_t count;
	uint64_t flags;			/* LW_VIEW_* */
};

/** This file holds a fact about every directory of the view, and each is the one that the view rests on: older files do not matter. */
#define LW_VIEW_SEALED UINT64_C(1)

/** One name of a view: the first path entry in which it occurs in any form. Sorted by (hash, name). */
struct lw_view_name {
	uint32_t hash;
	uint32_t name;			/* in STRINGS */
	uint16_t len;
	uint16_t first;			/* path entry; lists are limited to 65,535 entries */
};

typedef struct lw_index lw_index;

enum { LW_OK = 0, LW_ABSENT = 1, LW_BAD = 2 };

/** How an open failed, in words for `doctor`: static text, NULL when it did not fail. */
typedef const char *lw_reason;

/**
 * Open the index in FD (which may be closed afterwards). KEY, when not NULL, must match. Maps the file, or
 * reads it whole on file systems where a mapping can fault (network, FUSE).
 * Returns 0 or -errno (-EBADMSG corrupt, truncated or no regular file, -EPROTO another format version, -ESTALE
 * another key, -EFBIG larger than lw_index_limit()). WHY may be NULL.
 */
int lw_index_open(int fd, const struct lw_hash128 *key, lw_index **out, lw_reason *why);
/** The same for a relative index: each of the two refuses the other's files (-EPROTO). */
int lw_index_open_relative(int fd, const struct lw_hash128 *key, lw_index **out, lw_reason *why);
/** The same for either over SIZE bytes at DATA, 8-aligned, which must outlive the index (tests, fuzzing). */
int lw_index_open_memory(const void *data, size_t size, const struct lw_hash128 *key, lw_index **out, lw_reason *why);
void lw_index_close(lw_index *index);

/** The largest file that lw_index_open() takes where FD lies: 32 MiB if it must be read whole, at every start; else any. */
uint64_t lw_index_limit(int fd);

/** Where the roots of a relative index are. Takes ROOTS; before anybody else sees INDEX, and once. */
void lw_index_bind(lw_index *index, lw_roots *roots);
/** Whether INDEX is relative and PATH below one of its roots. */
bool lw_index_holds(const lw_index *index, const char *path, size_t len);
/** Whether PATH is one of its roots. */
bool lw_index_is_root(const lw_index *index, const char *path, size_t len);

const struct lw_index_head *lw_index_head(const lw_index *index);
static inline bool lw_index_is_relative(const lw_index *index)
{
	return lw_index_head(index)->roots != 0;
}
/** Whether a block has failed verification, or a verified offset its bounds, since it was opened. */
bool lw_index_damaged(const lw_index *index);

/** A directory as found in an index; pointers live as long as the index. */
struct lw_index_dir {
	const lw_index *index;
	const struct lw_dir_record *record;
	const struct lw_entry *entries;		/* verified; record->count of them */
};

/*
 * Each returns LW_OK, LW_ABSENT or LW_BAD (damaged: treat as absent, and say so in statistics). What was damaged after
 * it was written answers LW_BAD, never LW_ABSENT: each block that an answer rests on was verified.
 */
int lw_index_find_dir(const lw_index *index, const char *path, size_t len, struct lw_index_dir *out);
/** The record alone: its entries are not touched. */
int lw_index_find_dir_record(const lw_index *index, const char *path, size_t len, const struct lw_dir_record **out);
int lw_index_dir_find(const struct lw_index_dir *dir, const char *name, size_t len, const struct lw_entry **out);
/** The stamps beside COUNT entries of DIR, from FROM on; LW_ABSENT where there are none. A stamp may be 0: not known. */
int lw_index_stamps(const struct lw_index_dir *dir, const struct lw_entry *from, uint32_t count, const uint64_t **out);
int lw_index_find_file(const lw_index *index, struct lw_hash128 key, const struct lw_file_record **out);
/** The same for the absolute PATH, whose lw_hash128() is KEY. */
int lw_index_find_path(const lw_index *index, const char *path, size_t len, struct lw_hash128 key, const struct lw_file_record **out);
/** The code of FILE, a record of INDEX; LW_ABSENT when it was stored without. */
int lw_index_code(const lw_index *index, const struct lw_file_record *file, const void **code, size_t *len);

struct lw_index_view {
	const lw_index *index;
	const struct lw_view_record *record;
	const struct lw_view_dir *dirs;		/* record->entries of them */
	const struct lw_view_name *names;	/* record->count of them */
};
int lw_index_find_view(const lw_index *index, struct lw_hash128 key, struct lw_index_view *out);
/** *FIRST = first path entry that holds NAME. */
int lw_index_view_find(const struct lw_index_view *view, const char *name, size_t len, uint32_t *first);

/* Iteration, for compaction and reports: item I in [0, count). Same returns; *PATH is not terminated. */
uint32_t lw_index_dir_count(const lw_index *index);
uint32_t lw_index_file_count(const lw_index *index);
uint32_t lw_index_view_count(const lw_index *index);
int lw_index_dir_at(const lw_index *index, uint32_t i, struct lw_index_dir *out, const char **path);
/** The record and its path alone: its entries are not touched. */
int lw_index_dir_record_at(const lw_index *index, uint32_t i, const struct lw_dir_record **out, const char **path);
int lw_index_file_at(const lw_index *index, uint32_t i, const struct lw_file_record **out);
int lw_index_view_at(const lw_index *index, uint32_t i, struct lw_index_view *out);
/** The name of an entry or of a view: LEN verified bytes of STRINGS at OFFSET. NULL: damaged, which an empty name is as well. */
const char *lw_index_string(const lw_index *index, uint32_t offset, uint32_t len);

/*
 * Which blocks were touched, and reading some ahead (hot.h). Blocks are counted from the start of the file; ROOTS, which every start
 * reads, is not one of them.
 */
uint64_t lw_index_blocks(const lw_index *index);
/** How many blocks have been verified, that is used, since it was opened. */
uint64_t lw_index_touched(const lw_index *index);
/** The same as bits: those of blocks 64*WORD and up. 0 beyond the last. */
uint64_t lw_index_touched_word(const lw_index *index, uint64_t word);
/** Have the kernel read COUNT blocks from FIRST, asynchronously. What lies beyond the file is left out; no effect on memory copies. */
void lw_index_read_ahead(const lw_index *index, uint64_t first, uint64_t count);
/** Take the pages of CODE out of this process (they stay in the page cache): code is read once. Pointers stay good, a read costs a minor fault. */
void lw_index_trim(const lw_index *index);
/** Use BLOCK without verifying it: where it is not in memory, that is a major fault. No effect on memory copies. */
void lw_index_peek(const lw_index *index, uint64_t block);

#endif
