/* SPDX-License-Identifier: MIT */
/*
 * totals: sums over a trace: per module, and of the waits for locks. A listener of the model; what tables, histograms and the live view show.
 */
#ifndef LW_BPF_TOTALS_H
#define LW_BPF_TOTALS_H

#include "model.h"

typedef struct lw_totals lw_totals;

enum {
	LW_HISTOGRAM = 40,	/* bucket i: at most 2^i microseconds, and more than the one before; the last one: the rest */
	LW_CHAIN_MOST = 16,	/* waits in a chain; what is behind them is left out */
	LW_TOTALS_KEPT = 64,	/* longest waits, and worst chains */
};

struct lw_module_total {
	const char *module;
	const char *importer;		/* of its first import */
	uint64_t count, failed;
	uint64_t total_ns, self_ns, longest_ns;	/* total: of outermost spans of this module only, so that recursion counts once */
	struct lw_clock self;
	uint64_t waits, waited_ns, longest_wait_ns;	/* for its lock */
	uint32_t holder;		/* of the longest wait */
};

struct lw_lock_total {
	uint64_t waits, waited_ns, longest_ns;
	uint64_t histogram[LW_HISTOGRAM];
};

/* A chain: a thread waits for a module, whose holder waits meanwhile for another one, ... Equal ones (same locks, same holders) are one, whichever thread is at their head. */
struct lw_chain {
	unsigned length;
	const struct lw_wait *waits;	/* the time when its head waited longest; valid until the totals hear of another wait */
	uint64_t count;			/* how often */
	uint64_t waited_ns;		/* by the heads, together */
};

/** NULL without memory. */
lw_totals *lw_totals_create(void);
/** NULL is allowed. */
void lw_totals_destroy(lw_totals *totals);
/** For the model, before listeners that ask for sums. What has no memory is left out. */
struct lw_listener lw_totals_listener(lw_totals *totals);

enum lw_order { LW_ORDER_SELF, LW_ORDER_TOTAL, LW_ORDER_COUNT, LW_ORDER_WAITED, LW_ORDER_NAME, LW_ORDERS };
/** All modules, sorted: the most first; by name from A. *OUT is the caller's to free(); entries are copies. Number or -ENOMEM. */
long lw_totals_modules(const lw_totals *totals, enum lw_order order, struct lw_module_total **out);
/** KIND: LW_CLASS_MODULE, GLOBAL, GIL, FUTEX. */
const struct lw_lock_total *lw_totals_lock(const lw_totals *totals, enum lw_class kind);
const uint64_t *lw_totals_imports(const lw_totals *totals);	/* histogram of total_ns, LW_HISTOGRAM buckets */
/** The COUNT longest waits for module locks and for the global one, longest first; strings as the model's. */
unsigned lw_totals_longest(const lw_totals *totals, struct lw_wait *out, unsigned count);
/** The COUNT worst chains of two and more, in the order of waited_ns; without those that are the end of one before. */
unsigned lw_totals_chains(const lw_totals *totals, struct lw_chain *out, unsigned count);

#endif
