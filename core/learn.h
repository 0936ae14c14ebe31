/* SPDX-License-Identifier: MIT */
/*
 * learn: what this process has found out and no index holds yet, and when it is stored.
 *
 * Storing costs a file; waiting risks losing it (os._exit, a signal). The rule: whenever imports fall quiet, as long as storing has not taken more than
 * 8 ms and a fiftieth of the time since the start; always beyond 8 MiB. So a process that dies loses little, what it loses the next one learns,
 * and no first run is slowed down by more than that. Fork and exit store in any case.
 *
 * A source's content is hashed when it is stored, not when it is imported. It is read from a descriptor whose stamp must be the one the
 * code was taken under; otherwise the fact is dropped. Directories are asked once more, too: in `frozen` the newest fact is the truth, and what an old
 * process remembers may be older than what `ladewerk index` has stored meanwhile.
 *
 * Threads: none; the owner (session.h) holds its mutex.
 */
#ifndef LW_LEARN_H
#define LW_LEARN_H

#include "session.h"

struct lw_learnt_file;

struct lw_learner {
	struct lw_learnt_file *first, **last;
	size_t bytes;
	uint64_t *taken;	/* set of (path, stamp) learnt in this process, stored or not: nobody learns twice */
	uint32_t taken_count, taken_capacity;
	int64_t begun_ns;	/* monotonic */
	int64_t cost_ns, spent_ns;	/* of the last store, of all */
	bool off;		/* nowhere to store: learn nothing */
};

/** OFF: there is nowhere to store anything, so nothing is kept. */
void lw_learner_init(struct lw_learner *learner, bool off);
void lw_learner_destroy(struct lw_learner *learner);
/** Drop everything (in a forked child: the parent has stored it). */
void lw_learner_forget(struct lw_learner *learner);

/** Copies CODE. CONTENT 0: not hashed yet. Without memory the fact is not learnt, nor when this process has learnt it before. */
void lw_learner_add(struct lw_learner *learner, const struct lw_hit *hit, uint64_t stamp, uint64_t content, const void *code, size_t len, bool readable);

/** Whether there is anything to store. */
bool lw_learner_pending(const struct lw_learner *learner, const struct lw_dirs *dirs, lw_view *const *view, unsigned views);
/** Whether it is time to store, by the rule above. */
bool lw_learner_time(const struct lw_learner *learner);

/** Store all of it. Forgets it whatever happens. 0 or -errno. Updates STATS. */
int lw_learner_flush(struct lw_learner *learner, struct lw_dirs *dirs, lw_view *const *view, unsigned views, lw_store *store, struct lw_session_stats *stats);

#endif
