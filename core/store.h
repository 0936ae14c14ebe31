/* SPDX-License-Identifier: MIT */
/*
 * store: the directory that cache files live in, and who may be believed.
 *
 *     <place>/                         $LADEWERK_CACHE, else $XDG_CACHE_HOME/ladewerk, else ~/.cache/ladewerk,
 *                                      else /run/user/UID/ladewerk, else none (memory only)
 *       <key, 32 hex digits>/          one per interpreter build, cache tag, flags that change code, suffix list
 *         lock                         flock: taken by compaction, `index` and collection only
 *         base-<time>-<pid>-<n>.lwi    all there was, merged (one, as a rule)
 *         seg-<time>-<pid>-<n>.lwi     learned by one process in one go, or several of these merged
 *         hot-<entry, 16 hex digits>   what one entry point touched last time, see hot.h
 *         about                        text: what the key stands for (for `doctor`)
 *         start-<pid>-<start>-<ns>     crash mark, see below (empty: pid, start time and pid namespace are in its name)
 *         ok                           the first start with this key has succeeded
 *
 * <time> orders files by age: CLOCK_REALTIME in ns, 16 hex digits, but always later than every file that its writer saw, so a
 * clock set back does no harm. Files are written as .tmp-<name> and renamed; a reader never sees half a file. Temporary
 * files of dead processes older than an hour are collected, those older than a day whoever has their pid.
 *
 * Every cache file that exists is read, newest first: no file hides another as a whole. A file is unlinked only when the
 * one it was merged into has its name, and only if it was merged, so a segment that appears meanwhile survives. What results carries the
 * time of the newest file merged into it. Nothing is ever synced: checksums find what a power cut tore.
 *
 * Trust. The files hold code that will run. Place, directory and files must belong to the effective user, to root, to the
 * owner of sys.prefix, or to $LADEWERK_TRUST_UID; must not be writable by group or others; files and the key's
 * directory must not be links. Otherwise they are refused, with a reason. Nothing is ever written into a directory that
 * the effective user does not own (sudo); what we create is 0700 and 0600.
 *
 * Crash mark. Until `ok` exists, a start leaves a mark and removes it when it has succeeded (lw_store_started) or ends in an
 * orderly way (lw_store_close). A mark whose process is gone means a start died inside us:
 * lw_store_open answers -EHOSTDOWN, the caller stays out of the way, and the mark stays until it is removed
 * (`ladewerk doctor --reset`), the key changes, or another start that was under way succeeds. A mark from another pid namespace
 * cannot be judged, and counts after a day only. Once `ok` exists marks mean nothing: an ordinary start does not look at them.
 *
 * Tiers. A compaction merges the newest files only: each next older one as long as it has at most four times the bytes of all newer ones
 * together (or of 256 KiB, if that is more). So a few bytes learnt do not cost a copy of everything, and what is left unmerged grows
 * so fast that below 4 GiB seven files remain at most. All are merged when some are damaged, when together they exceed their bound,
 * and by lw_store_rebuild().
 *
 * Bounds. Whoever appends beyond LW_STORE_SEGMENTS segments compacts, under a try-lock; beyond LW_STORE_SEGMENTS_MAX nothing is appended: the
 * lock is stuck. (Dozens of programs that start at once, and learn in several goes while the disk stands still, stay below it.) All keys of a
 * place together hold at most the configured size; beyond that the keys unused for longest are removed
 * (the mtime of `ok` is their last use, touched at most once a day), at a compaction or when a key is new. A key in use is never evicted by
 * another below that bound. A key that is larger than that by itself forgets its oldest files when it is compacted.
 * Where files must be read whole (network file systems) a key has 32 MiB, see lw_index_limit(): a larger file is not written, nor
 * read, but not removed either, because others may see it on a local disk.
 *
 * Every failure is an -errno for the caller to count; none is fatal.
 * Threads: none; one owner at a time, except that any number of PROCESSES may use one directory.
 */
#ifndef LW_STORE_H
#define LW_STORE_H

#include "build.h"
#include <sys/types.h>

enum { LW_STORE_SEGMENTS = 8, LW_STORE_SEGMENTS_MAX = 512, LW_STORE_REASON = 512 };

struct lw_store_config {
	const char *place;		/* NULL: find it as described above (environment, password database) */
	struct lw_hash128 key;
	const char *about;		/* text of the about file */
	bool readonly;			/* LADEWERK_READONLY: never write */
	bool use_env;			/* false under -E/-I: LADEWERK_* and XDG_* are ignored, HOME is not */
	uid_t prefix_owner;		/* owner of sys.prefix */
	bool trust_uid_set;
	uid_t trust_uid;		/* LADEWERK_TRUST_UID */
	uint64_t max_bytes;		/* of all keys together; 0: 4 GiB */
};

typedef struct lw_store lw_store;

/**
 * Open (creating it if need be, and allowed) the key's directory. On success *OUT is a store, which may be without
 * a usable directory (lw_store_path() NULL: memory only; REASON says why). On failure *OUT is NULL:
 * -EHOSTDOWN a previous start died inside us, -ENOMEM. REASON (LW_STORE_REASON bytes) always holds a text, "" if
 * there is nothing to say; it names the remedy.
 */
int lw_store_open(const struct lw_store_config *config, lw_store **out, char *reason);
void lw_store_close(lw_store *store);

/** The key's directory, or NULL. */
const char *lw_store_path(const lw_store *store);
/** Whether this process may write there. */
bool lw_store_writable(const lw_store *store);
/** A descriptor of file NAME in it, which was checked as cache files are, or -errno. */
int lw_store_open_file(const lw_store *store, const char *name);
/** A descriptor of the directory for changes in it, or -errno (-EROFS: not ours to write, or not to be written). */
int lw_store_open_directory(const lw_store *store);

/**
 * Open all cache files, newest first. *OUT is an array of *COUNT indexes, both owned by the caller: close each,
 * then free the array (NULL when there is none). Refused files are skipped; *REFUSED counts them and REASON tells about the first.
 * The first load answers with the files that lw_store_open has seen, later ones look again. 0 or -errno.
 */
int lw_store_load(lw_store *store, lw_index ***out, unsigned *count, unsigned *refused, char *reason);

/**
 * Append BUILD as a segment (nothing, if it is empty). Compacts when there are more than LW_STORE_SEGMENTS, or damaged files were met, and
 * the lock is free; how that ends is not told. 0 or -errno (-EROFS not writable, -EBUSY too many segments, -EFBIG too large for this file
 * system, -ENOSPC, -EDQUOT, ...); after an error nothing has changed.
 */
int lw_store_append(lw_store *store, lw_build *build);

/**
 * Replace everything by BUILD merged with what is there (newer facts: BUILD's). Waits for the lock. BUILD then rests on
 * files that the store keeps open, whatever is returned: destroy it before the store is closed. 0 or -errno as lw_store_append(), and
 * -EINTR: a signal came while waiting; call it again to go on.
 */
int lw_store_rebuild(lw_store *store, lw_build *build);

/**
 * Merge the newest files into one, as far back as it pays (see Tiers above). When nothing is to be merged, nothing is written, and it
 * costs no more than a look at the directory. WAIT: for the lock (-EINTR: a signal came meanwhile), else -EWOULDBLOCK when somebody has it.
 */
int lw_store_compact(lw_store *store, bool wait);

/** The first start has succeeded: remove our crash mark, leave `ok`. Cheap when nothing is to be done. Async-signal-unsafe. */
void lw_store_started(lw_store *store);

/** In the child after fork: the mark is the parent's business. */
void lw_store_forked(lw_store *store);

/** Remove crash marks of this key, so that the next start tries again. Returns how many, or -errno. */
int lw_store_reset(const struct lw_store_config *config, char *reason);

/** Where the cache would be: writes a path to OUT (SIZE bytes). 0, -ENOENT (nowhere), -EINVAL (LADEWERK_CACHE is relative), -ENAMETOOLONG. */
int lw_store_place(const struct lw_store_config *config, char *out, size_t size);

#endif
