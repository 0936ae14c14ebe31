/* SPDX-License-Identifier: MIT */
/*
 * totals: see totals.h. Names of modules are compared by address: the model has each once.
 *
 * Chains: a wait is told when it is over, and what its holder waited for was over before. So every wait for an import's lock becomes a link of a ring, and looks
 * there for the wait of its holder that it overlaps most:
 *
 *     C waits for a, which B holds      |--------------------|
 *     B waits for b, which A holds          |--------|                   its link is there when C's is made
 */
#include "totals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINKS = 4096, LINK_BUCKETS = 256 };

/* Links have serial numbers, from 1; the last LINKS of them are in the ring. */
struct link {
	struct lw_wait wait;
	uint64_t before;	/* the latest before it in its bucket, by thread */
	uint64_t next;		/* what the holder waited for; 0: it did not */
};

struct kept_chain {
	struct lw_wait waits[LW_CHAIN_MOST];
	unsigned length;
	uint64_t count, waited_ns;
};

struct lw_totals {
	struct lw_module_total *module;
	uint32_t modules, room;
	uint32_t *slot;			/* open addressing, 2 * room of them: index + 1 of a module; 0: free */
	struct lw_lock_total lock[LW_CLASSES];
	uint64_t imports[LW_HISTOGRAM];
	struct lw_wait longest[LW_TOTALS_KEPT];
	unsigned longest_count;
	struct link link[LINKS];
	uint64_t links;			/* made */
	uint64_t latest[LINK_BUCKETS];
	struct kept_chain chain[LW_TOTALS_KEPT];
	unsigned chains;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned bucket = 0;
	while (bucket < LW_HISTOGRAM - 1 && ns > 1000ull << bucket)
		bucket++;
	return bucket;
}

/* --- modules --- */

static uint32_t *slot_of(const lw_totals *totals, const char *module)
{
	const uint32_t mask = 2 * totals->room - 1;
	for (uint32_t at = (uint32_t)(((uintptr_t)module >> 4) * 2654435761u >> 7);; at++) {
		uint32_t *slot = &totals->slot[at & mask];
		if (!*slot || totals->module[*slot - 1].module == module)
			return slot;
	}
}

static bool grow(lw_totals *totals)
{
	const uint32_t room = totals->room ? 2 * totals->room : 256;
	struct lw_module_total *module = reallocarray(totals->module, room, sizeof(*module));
	if (module)
		totals->module = module;
	uint32_t *slot = module ? calloc(2 * (size_t)room, sizeof(*slot)) : NULL;
	if (!slot)
		return false;
	free(totals->slot);
	totals->slot = slot;
	totals->room = room;
	for (uint32_t i = 0; i < totals->modules; i++)
		*slot_of(totals, totals->module[i].module) = i + 1;
	return true;
}

/* NULL without memory. */
static struct lw_module_total *module_of(lw_totals *totals, const char *module)
{
	uint32_t *slot = totals->room ? slot_of(totals, module) : NULL;
	if (slot && *slot)
		return &totals->module[*slot - 1];
	if (totals->modules == totals->room) {
		if (!grow(totals))
			return NULL;
		slot = slot_of(totals, module);
	}
	struct lw_module_total *total = &totals->module[totals->modules];
	*slot = ++totals->modules;
	*total = (struct lw_module_total){ .module = module, .importer = "" };
	return total;
}

static void on_import(void *context, const struct lw_import *import)
{
	lw_totals *totals = context;
	totals->imports[bucket_of(import->total_ns)]++;
	struct lw_module_total *total = module_of(totals, import->module);
	if (!total)
		return;
	if (!total->count++)
		total->importer = import->importer;
	total->failed += import->failed;
	total->self_ns += import->self_ns;
	if (!import->again)
		total->total_ns += import->total_ns;
	if (total->longest_ns < import->total_ns)
		total->longest_ns = import->total_ns;
	for (unsigned i = 0; import->clocked && i < LW_CLASSES; i++)
		total->self.ns[i] += import->self.ns[i];
}

/* --- waits --- */

static bool is_imports_lock(const struct lw_wait *wait)
{
	return wait->kind == LW_CLASS_MODULE || wait->kind == LW_CLASS_GLOBAL;
}

static void sum_up(lw_totals *totals, const struct lw_wait *wait)
{
	struct lw_lock_total *lock = &totals->lock[wait->kind];
	lock->waits++;
	lock->waited_ns += wait->wait_ns;
	if (lock->longest_ns < wait->wait_ns)
		lock->longest_ns = wait->wait_ns;
	lock->histogram[bucket_of(wait->wait_ns)]++;
	struct lw_module_total *total = wait->kind == LW_CLASS_MODULE && *wait->module ? module_of(totals, wait->module) : NULL;
	if (!total)
		return;
	if (!total->waits++ || total->longest_wait_ns < wait->wait_ns) {
		total->longest_wait_ns = wait->wait_ns;
		total->holder = wait->holder;
	}
	total->waited_ns += wait->wait_ns;
}

static void keep_longest(lw_totals *totals, const struct lw_wait *wait)
{
	unsigned at = totals->longest_count;
	if (at == LW_TOTALS_KEPT) {
		if (totals->longest[at - 1].wait_ns >= wait->wait_ns)
			return;
		at--;
	} else {
		totals->longest_count++;
	}
	for (; at && totals->longest[at - 1].wait_ns < wait->wait_ns; at--)
		totals->longest[at] = totals->longest[at - 1];
	totals->longest[at] = *wait;
}

/* --- chains --- */

static struct link *link_at(lw_totals *totals, uint64_t serial)
{
	return serial && serial + LINKS > totals->links ? &totals->link[serial % LINKS] : NULL;
}

static uint64_t end_of(const struct lw_wait *wait)
{
	return wait->begin_ns + wait->wait_ns;
}

static uint64_t overlap(const struct lw_wait *a, const struct lw_wait *b)
{
	const uint64_t begin = a->begin_ns > b->begin_ns ? a->begin_ns : b->begin_ns, end = smaller(end_of(a), end_of(b));
	return end > begin ? end - begin : 0;
}

/* Serial of what the holder of WAIT's lock waited for most of that time; 0: nothing. */
static uint64_t next_of(lw_totals *totals, const struct lw_wait *wait)
{
	uint64_t best = 0, most = 0;
	const struct link *link;
	for (uint64_t serial = wait->holder ? totals->latest[wait->holder % LINK_BUCKETS] : 0; (link = link_at(totals, serial)); serial = link->before) {
		if (link->wait.tid != wait->holder || link->wait.pid != wait->pid)
			continue;
		/* Those of one thread are in the order of time. */
		if (end_of(&link->wait) < wait->begin_ns)
			break;
		const uint64_t common = overlap(&link->wait, wait);
		if (common > most) {
			most = common;
			best = serial;
		}
	}
	return best;
}

static bool same_step(const struct lw_wait *a, const struct lw_wait *b)
{
	return a->pid == b->pid && a->kind == b->kind && a->module == b->module && a->holder == b->holder;
}

/* Whether the chain of LENGTH waits B is the last part of A. */
static bool ends_with(const struct kept_chain *a, const struct lw_wait *b, unsigned length)
{
	if (a->length < length)
		return false;
	for (unsigned i = 0; i < length; i++)
		if (!same_step(&a->waits[a->length - length + i], &b[i]))
			return false;
	return true;
}

static bool is_worse(const struct kept_chain *a, const struct kept_chain *b)
{
	return a->waited_ns > b->waited_ns;
}

/* Chains are kept in order: the one at AT has become worse. */
static void move_up(lw_totals *totals, unsigned at)
{
	for (; at && is_worse(&totals->chain[at], &totals->chain[at - 1]); at--) {
		const struct kept_chain worse = totals->chain[at];
		totals->chain[at] = totals->chain[at - 1];
		totals->chain[at - 1] = worse;
	}
}

static void keep_chain(lw_totals *totals, const struct kept_chain *chain)
{
	unsigned at = 0;
	while (at < totals->chains && !(totals->chain[at].length == chain->length && ends_with(&totals->chain[at], chain->waits, chain->length)))
		at++;
	if (at < totals->chains) {
		struct kept_chain *kept = &totals->chain[at];
		if (kept->waits[0].wait_ns < chain->waits[0].wait_ns)
			memcpy(kept->waits, chain->waits, sizeof(kept->waits));
		kept->count++;
		kept->waited_ns += chain->waited_ns;
	} else if (totals->chains < LW_TOTALS_KEPT) {
		totals->chain[totals->chains++] = *chain;
	} else if (is_worse(chain, &totals->chain[--at])) {
		totals->chain[at] = *chain;
	} else {
		return;
	}
	move_up(totals, at);
}

static void add_link(lw_totals *totals, const struct lw_wait *wait)
{
	const uint64_t next = next_of(totals, wait), serial = ++totals->links;
	uint64_t *latest = &totals->latest[wait->tid % LINK_BUCKETS];
	struct link *link = &totals->link[serial % LINKS];
	*link = (struct link){ .wait = *wait, .before = *latest, .next = next };
	*latest = serial;
	if (!next)
		return;
	struct kept_chain chain = { .count = 1, .waited_ns = wait->wait_ns };
	for (; link && chain.length < LW_CHAIN_MOST; link = link_at(totals, link->next))
		chain.waits[chain.length++] = link->wait;
	if (chain.length > 1)
		keep_chain(totals, &chain);
}

static void on_wait(void *context, const struct lw_wait *wait)
{
	lw_totals *totals = context;
	sum_up(totals, wait);
	if (!is_imports_lock(wait))
		return;
	keep_longest(totals, wait);
	add_link(totals, wait);
}

/* --- outside --- */

lw_totals *lw_totals_create(void)
{
	return calloc(1, sizeof(lw_totals));
}

void lw_totals_destroy(lw_totals *totals)
{
	if (!totals)
		return;
	free(totals->module);
	free(totals->slot);
	free(totals);
}

struct lw_listener lw_totals_listener(lw_totals *totals)
{
	return (struct lw_listener){ .context = totals, .import = on_import, .wait = on_wait };
}

static uint64_t key_of(const struct lw_module_total *total, enum lw_order order)
{
	switch (order) {
	case LW_ORDER_SELF: return total->self_ns;
	case LW_ORDER_TOTAL: return total->total_ns;
	case LW_ORDER_COUNT: return total->count;
	case LW_ORDER_WAITED: return total->waited_ns;
	default: return 0;
	}
}

static int compare(const void *a, const void *b, void *order)
{
	const struct lw_module_total *left = a, *right = b;
	const uint64_t x = key_of(left, *(enum lw_order *)order), y = key_of(right, *(enum lw_order *)order);
	return x != y ? (x < y) - (x > y) : strcmp(left->module, right->module);
}

long lw_totals_modules(const lw_totals *totals, enum lw_order order, struct lw_module_total **out)
{
	*out = reallocarray(NULL, totals->modules + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	if (totals->modules)
		memcpy(*out, totals->module, totals->modules * sizeof(**out));
	qsort_r(*out, totals->modules, sizeof(**out), compare, &order);
	return totals->modules;
}

const struct lw_lock_total *lw_totals_lock(const lw_totals *totals, enum lw_class kind)
{
	return &totals->lock[kind];
}

const uint64_t *lw_totals_imports(const lw_totals *totals)
{
	return totals->imports;
}

unsigned lw_totals_longest(const lw_totals *totals, struct lw_wait *out, unsigned count)
{
	count = (unsigned)smaller(count, totals->longest_count);
	memcpy(out, totals->longest, count * sizeof(*out));
	return count;
}

static bool is_shown(const lw_totals *totals, unsigned at)
{
	for (unsigned i = 0; i < at; i++)
		if (ends_with(&totals->chain[i], totals->chain[at].waits, totals->chain[at].length))
			return false;
	return true;
}

unsigned lw_totals_chains(const lw_totals *totals, struct lw_chain *out, unsigned count)
{
	unsigned given = 0;
	for (unsigned i = 0; i < totals->chains && given < count; i++) {
		const struct kept_chain *chain = &totals->chain[i];
		if (is_shown(totals, i))
			out[given++] = (struct lw_chain){ .length = chain->length, .waits = chain->waits, .count = chain->count, .waited_ns = chain->waited_ns };
	}
	return given;
}
