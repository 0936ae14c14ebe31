/* SPDX-License-Identifier: MIT */
/*
 * dirs: what this process knows about directories, and whether it still holds.
 *
 * A lw_dir is a directory path with its listing, taken from an index or read by ourselves, and the stamp the listing
 * rests on. lw_dirs_fresh() makes it current, by the rule of the freshness mode:
 *
 *   stat     one statx; where the stamp differs (or was racy) the directory is read again
 *   frozen   nothing for what an index knows; what no index knows is read once. After lw_dirs_invalidate()
 *            (importlib.invalidate_caches(): the program says that files have changed) each directory is
 *            compared once more, as in stat, before it is used
 *
 * Names and order of errors are FileFinder's: a missing directory, one that is not a directory and one that may not be
 * listed have no names; any other error is the caller's to pass on to the stock machinery.
 *
 * Threads: none; the owner (session.h) holds its mutex. A lw_dir lives until the table is cleared.
 */
#ifndef LW_DIRS_H
#define LW_DIRS_H

#include "index.h"
#include "registry.h"

enum lw_freshness { LW_STAT, LW_FROZEN };

struct lw_dir {
	struct lw_dir *next;		/* chain of the hash table */
	uint64_t hash;
	uint64_t stamp;			/* of the listing; meaningless with MISSING or NOTDIR */
	uint64_t epoch;			/* lw_dirs_invalidate() calls seen when last compared */
	uint16_t flags;			/* LW_DIR_* */
	bool known;			/* listing and flags hold what was once true */
	bool racy;			/* compare again next time, whatever the stamp */
	bool dirty;			/* in no index yet, and fit to be stored (not racy) */
	bool foreign_uid;		/* facts rest on somebody else's permissions (or on ours at another time): compare once */
	struct lw_index_dir indexed;	/* where the listing comes from: an index ... */
	struct lw_listing *listing;	/* ... or, when not NULL, our own reading */
	uint32_t len;
	char path[];			/* terminated; no trailing slash ("" is the root) */
};

struct lw_dirs_stats {
	uint64_t statx, listings, from_index, damaged;
	uint64_t statx_ns;		/* if timed */
};

struct lw_dirs {
	const struct lw_suffixes *suffixes;
	const struct lw_snapshot *snapshot;	/* entered by the owner; may be NULL */
	enum lw_freshness freshness;
	bool timed;
	uint64_t epoch;
	struct lw_dir **table;
	uint32_t count, capacity;
	uint32_t dirty;			/* directories with facts that no index holds and that may be stored */
	struct lw_dirs_stats stats;
};

int lw_dirs_init(struct lw_dirs *dirs, const struct lw_suffixes *suffixes, enum lw_freshness freshness);
/** Forget everything (pointers into the snapshot included); keeps the configuration. */
void lw_dirs_clear(struct lw_dirs *dirs);
void lw_dirs_destroy(struct lw_dirs *dirs);

/** Everything is to be compared again before it is used. */
void lw_dirs_invalidate(struct lw_dirs *dirs);

/** The directory PATH (absolute, trailing slashes removed), created unknown when new. NULL without memory. */
struct lw_dir *lw_dirs_get(struct lw_dirs *dirs, const char *path, size_t len);

/** Make DIR current. 0, or -errno when the stock machinery had better look itself (EIO, ELOOP, ENOMEM, ...). */
int lw_dirs_fresh(struct lw_dirs *dirs, struct lw_dir *dir);

/** The same whatever the mode says: DIR is compared with what is there (a link leads to it, which may lead elsewhere by now). */
int lw_dirs_compare(struct lw_dirs *dirs, struct lw_dir *dir);

/** Whether DIR can be used without a system call right now. */
bool lw_dirs_settled(const struct lw_dirs *dirs, const struct lw_dir *dir);

/** lw_stat_at(), counted, and timed if wanted. */
int lw_dirs_stat(struct lw_dirs *dirs, const char *path, struct lw_stat *st);

/** Find NAME in a fresh DIR: an entry, or NULL in *ENTRY. Reads the directory anew if its index is damaged. 0 or -errno. */
int lw_dir_find(struct lw_dirs *dirs, struct lw_dir *dir, const char *name, size_t len, const struct lw_entry **entry);

/** DIR's facts have been stored. */
void lw_dirs_stored(struct lw_dirs *dirs, struct lw_dir *dir);

/** What a path list's table stores for a fresh DIR. */
uint64_t lw_dir_token(const struct lw_dir *dir);
/** What PATH's token would be if it were used without being compared; nothing is read or kept. False: it could not be. */
bool lw_dirs_token(const struct lw_dirs *dirs, const char *path, size_t len, uint64_t *token);
/** The token PATH has now, by one statx, without touching DIRS. *WEAK: see lw_stat_weak(). 0 or -errno. */
int lw_token_now(const char *path, uint64_t *token, bool *weak);
/** The token of a path that lw_stat_at() said ERROR and ST of. 0 or -errno. */
int lw_token_of(const char *path, int error, const struct lw_stat *st, uint64_t *token, bool *weak);

/** Entries and the base of their names, for walking over a fresh DIR. Returns the count. */
uint32_t lw_dir_entries(const struct lw_dir *dir, const struct lw_entry **entries);
/** The bytes of ENTRY's name, NULL if damaged. */
const char *lw_dir_name(const struct lw_dir *dir, const struct lw_entry *entry);
/** Make DIR current without its index, which has turned out to be damaged. 0 or -errno. */
int lw_dirs_reread(struct lw_dirs *dirs, struct lw_dir *dir);

#endif
