/* SPDX-License-Identifier: MIT */
/*
 * session: one process's import state: store, snapshot, directories, path lists, code, and what it learns.
 *
 * This is the interface the extension uses. One lock protects everything behind it. It is never held while foreign code runs (nothing here calls back), but
 * system calls are made while it is held. Functions are of two sorts:
 *
 *   those that may do I/O wait for the lock and take it themselves, so a caller releases the interpreter's lock (the GIL) first;
 *   those *inside* do none (but for pages of a cache file that are not in memory). They are called between lw_session_try_enter() and lw_session_leave(),
 *   with the GIL held: whoever finds the lock taken, perhaps by a thread that waits for a disk, waits without the GIL, and tries again. (A program of
 *   one thread may call them as they are.)
 *
 * Nobody waits for the GIL while he has the lock: fork() takes it with the GIL held, and a thread that asks for the GIL of an interpreter that ends never returns.
 *
 * Learning. Directories that no index holds, code that was read from .pyc files or compiled, and refreshed stamps are kept in memory and
 * appended to the store as a segment when imports fall quiet (lw_session_quiet), before fork and at exit.
 * Nothing new: nothing written. Nothing racy is ever stored. A failure is counted, never raised.
 * What of the cache files was touched is stored for the entry point as well (hot.h), by the process that opened the session and not by forked children.
 *
 * Fork. Handlers (pthread_atfork) store what has been learnt, take the mutex across the fork, and leave the child with an empty list.
 * Exit. An atexit(3) handler stores the rest, and merges cache files if they have become many; it gives up after a second if another thread hangs in a system call.
 */
#ifndef LW_SESSION_H
#define LW_SESSION_H

#include "artifact.h"
#include "view.h"

typedef struct lw_session lw_session;

struct lw_session_config {
	struct lw_suffixes suffixes;
	struct lw_store_config store;
	const char *artifact;		/* path of one to be used, or NULL; see lw_session_artifact() */
	enum lw_freshness freshness;
	bool daemon;			/* `stat` and `watch`: attach to one, if it is there (client.h); `stat` then becomes `watch` */
	int64_t window_ns;		/* see view.h */
	uint32_t pyc_magic;		/* first four bytes of a .pyc, little-endian */
	uint64_t entry;			/* of this process, see hot.h; 0: none */
	bool makes;			/* what is stored is not what .pyc files hold: the caller makes it of that, and learns it (lw_code.learnable) */
};

struct lw_session_stats {
	struct lw_dirs_stats dirs;
	uint64_t code_pack;		/* code served from an index */
	uint64_t code_content;		/* of it: the stamp had changed, the content had not */
	uint64_t code_pyc;		/* read from a .pyc */
	uint64_t pyc_distrusted;	/* a .pyc that stock Python would take, but that is not believed (pyc.h) */
	uint64_t learnt_dirs, learnt_files, learnt_bytes;
	uint64_t segments_written, write_errors;
	int last_write_error;		/* errno */
	unsigned indexes, refused;	/* files in use, files refused */
	uint64_t dropped;		/* facts not stored because they changed meanwhile */
	uint64_t read_ahead;		/* blocks asked for at the start: this was a cold one */
	uint64_t hot_written;
	struct lw_fresh_stats watch[LW_BY_COUNT];	/* `by` NULL: there is none */
};

/**
 * Open. Does I/O. 0, or -errno with *OUT NULL (-EHOSTDOWN: a start died inside us, see store.h). REASON: LW_STORE_REASON bytes,
 * a text for `doctor` ("" if there is nothing to say), also on success.
 */
int lw_session_open(const struct lw_session_config *config, lw_session **out, char *reason);
/** Stores what has been learnt. No other call may be under way. */
void lw_session_close(lw_session *session);

const char *lw_session_path(const lw_session *session);
/**
 * DAEMON as in the configuration, but one to which the session was not attached then is not looked for.
 * LW_WATCH takes an inotify instance when the first directory is looked at; what cannot be watched is as in LW_STAT.
 * May do I/O. LW_FROZEN becomes LW_FROZEN_HELD where a cache file was refused: it may have held what replaced a fact in an older one. LW_FROZEN_HELD becomes LW_STAT
 * without an artifact that can be used.
 */
void lw_session_set_freshness(lw_session *session, enum lw_freshness freshness, bool daemon, int64_t window_ns);
/** What became of the artifact, whether it is used or not; NULL: none was asked for. Constant. */
const lw_artifact *lw_session_artifact(const lw_session *session);
const struct lw_suffixes *lw_session_suffixes(const lw_session *session);

/** The lock: false if another thread has it. Not recursive. */
bool lw_session_try_enter(lw_session *session);
/** The same, for a thread that may wait: one without the GIL. */
void lw_session_enter(lw_session *session);
void lw_session_leave(lw_session *session);

/** Inside. */
enum lw_freshness lw_session_freshness(lw_session *session);
/** Inside. ns spent in asking the file system for stamps, counted from the first call on. */
uint64_t lw_session_validating(lw_session *session);
/** Inside. importlib.invalidate_caches(). */
void lw_session_invalidate(lw_session *session);

/** Inside. View of a path list; destroy with lw_session_view_destroy(). NULL without memory or beyond 65,535 entries. */
lw_view *lw_session_view(lw_session *session, const struct lw_path_entry *entries, uint32_t count, bool hooks);
/** Inside. VIEW may be NULL. */
void lw_session_view_destroy(lw_session *session, lw_view *view);

/** Inside. See lw_view_resolve(). -EAGAIN: it would do I/O, so ask lw_session_resolve(). (It may do I/O itself if a name is not as expected.) */
int lw_session_resolve_quickly(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit);
/** See lw_view_resolve(). May do I/O. */
int lw_session_resolve(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit);

/** The same, where all that matters is whether there is something: HIT has no stamps, and a file that was removed since its directory was looked at may be in it. May do I/O. */
int lw_session_glance(lw_session *session, lw_view *view, uint32_t start, const char *name, size_t len, struct lw_hit *hit);

/**
 * The importable names of directory PATH (absolute, without trailing slashes), as fresh as an import would have them: *OUT is the caller's copy. May do I/O.
 * 0; -ENOENT, -ENOTDIR, -EACCES; any other -errno: it cannot be told from here.
 */
int lw_session_listing(lw_session *session, const char *path, size_t len, struct lw_listing **out);

/** Marshalled code. DATA is good until lw_session_release(). */
struct lw_code {
	const void *data;
	size_t len;
	const struct lw_snapshot *snapshot;	/* where DATA lies, or ... */
	void *owned;				/* ... the buffer it lies in */
	bool learnable;				/* from a .pyc, and what the caller makes of it may be learnt */
	bool artifact;				/* from an artifact, which is made elsewhere, as it is */
};

/** Inside. The code of source file HIT from an index whose stamp agrees. LW_OK or LW_ABSENT. */
int lw_session_code(lw_session *session, const struct lw_hit *hit, struct lw_code *code);
/**
 * The code of source file HIT, by content where the stamp does not agree, else from the .pyc at PYC (NULL: there is none) if it
 * can be believed. Does I/O. LW_OK; LW_ABSENT: compile the source, unless *STOCK: the .pyc is hash-based, and the stock loader must see to it.
 */
int lw_session_acquire(lw_session *session, struct lw_hit *hit, const char *pyc, struct lw_code *code, bool *stock);
/** Without the lock, or inside. */
void lw_session_release(lw_session *session, struct lw_code *code);

/**
 * Inside. Code compiled from HIT after HIT was resolved is LEN bytes at DATA (copied), CONTENT the lw_hash64() of the source it was compiled from (0: not
 * known). Kept if it may be (not racy), and if HIT has that content still when it is stored.
 */
void lw_session_learn(lw_session *session, const struct lw_hit *hit, uint64_t content, const void *data, size_t len);

/** An outermost import has returned: store what has been learnt, if it is time. Cheap otherwise. May do I/O. */
void lw_session_quiet(lw_session *session);
/** Store it now. Does I/O. 0 or -errno. */
int lw_session_flush(lw_session *session);
/** Inside. Whether lw_session_quiet() would do something. */
bool lw_session_pending(lw_session *session);

/** Inside. */
void lw_session_stats(lw_session *session, struct lw_session_stats *stats);

#endif
