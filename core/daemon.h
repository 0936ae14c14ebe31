/* SPDX-License-Identifier: MIT */
/*
 * daemon: keeps the index of trees fresh for all programs of one user (`ladewerk watch`): a watch (watch.h), an index behind it (keeper.h), a journal of what has
 * changed since (journal.h), and whoever attaches (attach.h).
 *
 *     events      generation odd; drain; what they name goes into the journal and is marked in the keeper; generation even
 *     100 ms of peace, or 2 s without any      what is marked is looked at again, in a second thread, and becomes a new snapshot for those who attach from then on
 *
 * Nothing that a client believes rests on this process being alive or quick (journal.h).
 *
 * Threads: all of it in one thread at a time.
 */
#ifndef LW_DAEMON_H
#define LW_DAEMON_H

#include "attach.h"
#include "watch.h"

typedef struct lw_daemon lw_daemon;

struct lw_daemon_config {
	const struct lw_suffixes *suffixes;
	enum lw_watch_backend backend;
	const char *const *roots;	/* absolute, no trailing slash; they live as long as the daemon */
	unsigned count;			/* LW_ATTACH_ROOTS at most */
	unsigned threads;		/* as in scan.h */
	int listener;			/* a listening SOCK_SEQPACKET socket, non-blocking; the caller's */
	/** Called once, when everything has been read; may be NULL. */
	void (*ready)(void *arg, const lw_daemon *daemon);
	void *arg;
};

/** WHY: LW_WATCH_WHY bytes, which backend and why, or what is wrong and what would help. 0 or -errno. */
int lw_daemon_create(const struct lw_daemon_config *config, lw_daemon **out, char *why);
void lw_daemon_destroy(lw_daemon *daemon);

/** Until STOP (a descriptor) is readable. 0, or -errno when it cannot go on. */
int lw_daemon_run(lw_daemon *daemon, int stop);

struct lw_daemon_stats {
	const char *backend, *why;	/* of the watch */
	struct lw_watch_stats watch;
	uint64_t directories, sources;	/* in the index */
	uint64_t bytes;			/* of it */
	uint64_t unwatched;		/* directories that could not be watched: `stat` for them */
	int unwatched_error;		/* errno of the last of these */
	uint64_t marked;		/* directories and subtrees not looked at again yet */
	uint64_t folds, bases;
	int64_t fold_ns, fold_cpu_ns;	/* of the last one */
	int64_t first_ns, first_cpu_ns;	/* of the first: arming and reading everything */
	int last_error;			/* errno of the last fold, 0: it went well */
	uint64_t generation;		/* of the journal: odd and even steps, of all journals */
	uint64_t journal_bytes, journals;
	unsigned clients;		/* now */
	uint64_t attached;		/* so far */
	uint64_t turned_away;		/* for want of descriptors, so far */
	double events_per_second;	/* over the last seconds */
	int64_t up_ns;
	bool ready;
};
void lw_daemon_stats(const lw_daemon *daemon, struct lw_daemon_stats *stats);

/** Of root I: NULL, or why it is not looked after now. */
const char *lw_daemon_root_trouble(const lw_daemon *daemon, unsigned i);

/** All of this as one line of JSON. malloc'ed; NULL without memory. */
char *lw_daemon_status(const lw_daemon *daemon);

#endif
