/* SPDX-License-Identifier: MIT */
/*
 * listing: the importable names of one directory, as a compact table sorted by hash.
 *
 * The same table is used in memory and in index files (all little-endian, no pointers), so a
 * directory that comes from an index costs no conversion.
 */
#ifndef LW_LISTING_H
#define LW_LISTING_H

#include "names.h"
#include "stamp.h"

/** One name. 12 bytes. */
struct lw_entry {
	uint32_t hash;		/* low half of lw_hash64(name) */
	uint32_t name;		/* offset of the name in the table's string area */
	uint8_t len;		/* bytes, 1 to 255 */
	uint8_t flags;		/* LW_ENTRY_* */
	lw_kinds kinds;
};

/*
 * A kind bit says that a name of that form is in the directory. Without LW_ENTRY_DOUBT its type fits as well; with
 * it, one of the entry's forms is a link (dangling, to something else, or sound: its target changes while the directory
 * does not) or could not be asked.
 */
enum {
	/* A link or an entry of unknown type: what it is must be asked, even in `frozen`. */
	LW_ENTRY_DOUBT = 1,
};

/** A heap-allocated listing; one block: header, entries, names. */
struct lw_listing {
	uint32_t count;
	uint32_t names_len;
	const struct lw_entry *entries;	/* sorted by (hash, name bytes) */
	const char *names;
};

/**
 * Read directory PATH. On success *OUT is a new listing and *ST its stat, taken from the opened
 * directory BEFORE it was read (arm, then read). 0 or -errno; nothing is allocated on error.
 * Whoever judges with lw_stat_racy() takes lw_now_ns() before the call: reading can outlast the margin.
 */
int lw_listing_read(const char *path, const struct lw_suffixes *suffixes, struct lw_listing **out, struct lw_stat *st);

/** The same from an open directory descriptor (not O_PATH), read from its start; it stays open, its offset moves to the end. */
int lw_listing_read_fd(int fd, const struct lw_suffixes *suffixes, struct lw_listing **out, struct lw_stat *st);

/** What reading cost. */
struct lw_listing_cost {
	uint64_t entries;	/* of the directory, importable or not; without "." and ".." */
	uint64_t syscalls;
};

/** What reading needs, kept from one directory to the next. For one thread at a time. NULL without memory. */
struct lw_listing_reader *lw_listing_reader_create(const struct lw_suffixes *suffixes);
void lw_listing_reader_destroy(struct lw_listing_reader *reader);

/** The same from a descriptor that has just been opened; ADDS to *COST, on errors too. For the scanner. */
int lw_listing_reader_read(struct lw_listing_reader *reader, int fd, struct lw_listing **out, struct lw_stat *st, struct lw_listing_cost *cost);

/** A copy of COUNT entries whose names lie at NAMES (names are packed anew). NULL without memory. */
struct lw_listing *lw_listing_copy(const struct lw_entry *entries, uint32_t count, const char *names);

void lw_listing_destroy(struct lw_listing *listing);

/** Find NAME in a sorted table, or NULL. Any number of threads may share the table. */
const struct lw_entry *lw_listing_find(const struct lw_listing *listing, const char *name, size_t len);

/** First entry whose hash is not below HASH (COUNT when there is none); shared with the index reader. */
uint32_t lw_listing_lower_bound(const struct lw_entry *entries, uint32_t count, uint32_t hash);

/** The hash that entries are sorted by. */
uint32_t lw_name_hash(const char *name, size_t len);

#endif
