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
 *   watch    nothing for what somebody looks after (fresh.h: our own watch, or a daemon's) and what nobody has told to have
 *            changed; everything else as in stat. lw_dirs_begin() asks, once for each lookup
 *
 * Where there is an artifact (artifact.h), in `frozen` (of either kind) it is the truth for what lies below its roots, before anything that was learnt. What lies there and is not in it
 * (left out, or made later) is compared once, whoever may know it, and not learnt, lest it outlive the artifact: until lw_dirs_invalidate(), from
 * which on it is as in stat.
 *
 * Names and order of errors are FileFinder's: a missing directory, one that is not a directory and one that may not be
 * listed have no names; any other error is the caller's to pass on to the stock machinery.
 *
 * Threads: none; the owner (session.h) holds its mutex. A lw_dir lives until the table is cleared.
 */
#ifndef LW_DIRS_H
#define LW_DIRS_H

#include "fresh.h"
#include "index.h"
#include "registry.h"
#include "seen.h"

/* HELD: frozen for what lies below the roots of the artifact, stat for everything else. */
enum lw_freshness { LW_STAT, LW_FROZEN, LW_FROZEN_HELD, LW_WATCH };

/** Whether, in mode FRESHNESS, an index is taken for the truth, or an artifact at least. */
static inline bool lw_is_frozen(enum lw_freshness freshness)
{
	return freshness == LW_FROZEN || freshness == LW_FROZEN_HELD;
}

/* Who may look after facts. Sets of them are bits: 1 << LW_BY_... */
enum { LW_BY_DAEMON, LW_BY_PROCESS, LW_BY_COUNT };

struct lw_dir {
	struct lw_dir *next;		/* chain of the hash table */
	uint64_t hash;
	uint64_t stamp;			/* of the listing; meaningless with MISSING or NOTDIR */
	uint64_t epoch;			/* lw_dirs_invalidate() calls seen when last compared */
	uint16_t flags;			/* LW_DIR_* */
	bool known;			/* listing and flags hold what was once true */
	bool compared;			/* they were compared with the file system by this process */
	bool racy;			/* compare again next time, whatever the stamp */
	bool dirty;			/* in no index yet, and fit to be stored (not racy) */
	bool foreign_uid;		/* facts rest on somebody else's permissions (or on ours at another time): compare once */
	bool linked;			/* a link may lead here, which may lead elsewhere by now: as in stat, whatever the mode; and so what is in it */
	bool held;			/* lies below a root of the artifact, */
	uint8_t watched;		/* who looks after what is known; 0: nobody */
	bool lent;			/* the listing is the daemon's snapshot's */
	bool hint;			/* which is the truth and does not know it, but another index does: compare once */
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
	lw_fresh *fresh[LW_BY_COUNT];	/* the owner's; NULL: there is none */
	uint8_t trusted;		/* of them, those that have said at lw_dirs_begin() that what they look after holds */
	uint64_t changes;		/* told by them, of something known here */
	struct lw_seen seen;		/* files that they look after */
	bool timed;
	bool glance;			/* this lookup is only about what is there: files are not asked, nor directories that were compared once */
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

/** A lookup begins: what has changed is learnt from those who look after it. No system call that waits. Nothing is done in other modes than `watch`. */
void lw_dirs_begin(struct lw_dirs *dirs);
/** Nobody looks after anything any longer (fork, another daemon): all is compared once more before it is used. */
void lw_dirs_unwatch(struct lw_dirs *dirs);

/** Everything is to be compared again before it is used. */
void lw_dirs_invalidate(struct lw_dirs *dirs);

/** Whether the artifact is the truth: it is asked first. */
bool lw_dirs_has_truth(const struct lw_dirs *dirs);
/** Whether it alone may say what is at PATH: nothing else is believed unless it is compared, and nothing is learnt. */
bool lw_dirs_is_frozen_at(const struct lw_dirs *dirs, const char *path, size_t len);

/** Whether a link below a root of the artifact lies on the way to PATH. */
bool lw_dirs_is_linked_at(const struct lw_dirs *dirs, const char *path, size_t len);

/** The directory PATH (absolute, trailing slashes removed), created unknown when new. NULL without memory. */
struct lw_dir *lw_dirs_get(struct lw_dirs *dirs, const char *path, size_t len);

/** Make DIR current. 0, or -errno when the stock machinery had better look itself (EIO, ELOOP, ENOMEM, ...). */
int lw_dirs_fresh(struct lw_dirs *dirs, struct lw_dir *dir);

/** The same whatever the mode says: DIR is compared with what is there. */
int lw_dirs_compare(struct lw_dirs *dirs, struct lw_dir *dir);

/** Whether DIR can be used without a system call right now. */
bool lw_dirs_settled(const struct lw_dirs *dirs, const struct lw_dir *dir);

/**
 * What is file PATH (LEN bytes, terminated) of DIR, which is fresh? From the memory of those who look after it, else from the file system. FOLLOWED: PATH is a link, or may be
 * one. 0 or -errno; *ASKED_NS: lw_now_ns() before it was asked.
 */
int lw_dirs_file(struct lw_dirs *dirs, const struct lw_dir *dir, const char *path, size_t len, bool followed, struct lw_stat *st, int64_t *asked_ns);
/** The lw_stamp() of the same, the source that ENTRY of DIR stands for, without a system call; 0: not known. */
uint64_t lw_dirs_file_stamp(struct lw_dirs *dirs, const struct lw_dir *dir, const struct lw_entry *entry, const char *path, size_t len);

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
/** A copy of what a fresh DIR lists; NULL: no memory, or damaged. */
struct lw_listing *lw_dir_copy(const struct lw_dir *dir);
/** Make DIR current without its index, which has turned out to be damaged. 0 or -errno. */
int lw_dirs_reread(struct lw_dirs *dirs, struct lw_dir *dir);

#endif
