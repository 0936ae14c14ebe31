/* SPDX-License-Identifier: MIT */
/* totals: sums, histograms, the longest waits and chains of holders, of records that go through the model. */
#include "feed.h"
#include "totals.h"

static const char *const names[] = { "a", "b", "c", "d", NULL };
enum { A = 1, B, C, D };

struct fixture {
	struct feed feed;
	lw_totals *totals;
};

static void begin(struct fixture *f)
{
	f->totals = lw_totals_create();
	cr_assert(f->totals);
	feed_begin_with(&f->feed, (struct lw_listener[]){ lw_totals_listener(f->totals) }, 1);
	feed_names(&f->feed, names);
}

static void end(struct fixture *f)
{
	feed_end(&f->feed);
	lw_totals_destroy(f->totals);
}

static struct lw_module_total module_of(const struct fixture *f, const char *name)
{
	struct lw_module_total *all, found = { 0 };
	long count = lw_totals_modules(f->totals, LW_ORDER_NAME, &all);
	for (long i = 0; i < count; i++)
		if (strcmp(all[i].module, name) == 0)
			found = all[i];
	free(all);
	return found;
}

Test(totals, sums_of_a_module)
{
	struct fixture f;
	begin(&f);
	feed_start(&f.feed, 1, A, 100);
	feed_start(&f.feed, 1, B, 110);
	feed_span(&f.feed, LW_EVENT_DONE, LW_EVENT_FAILED, 1, B, 130, 0);
	feed_start(&f.feed, 1, B, 140);
	/* Within itself: its time is that of the outer one. */
	feed_start(&f.feed, 1, B, 150);
	feed_done(&f.feed, 1, B, 160);
	feed_done(&f.feed, 1, B, 190);
	feed_done(&f.feed, 1, A, 200);
	feed_wait(&f.feed, 2, LW_CLASS_MODULE, B, 150, 10, 1);
	feed_wait(&f.feed, 3, LW_CLASS_MODULE, B, 115, 15, 1);
	feed_wait(&f.feed, 3, LW_CLASS_MODULE, C, 150, 3, 0);
	const struct lw_module_total b = module_of(&f, "b"), a = module_of(&f, "a"), c = module_of(&f, "c");
	cr_expect_eq(b.count, 3);
	cr_expect_eq(b.failed, 1);
	cr_expect_eq(b.total_ns, 70);
	cr_expect_eq(b.self_ns, 70);
	cr_expect_eq(b.longest_ns, 50);
	cr_expect_str_eq(b.importer, "a");
	cr_expect_eq(b.waits, 2);
	cr_expect_eq(b.waited_ns, 25);
	cr_expect_eq(b.longest_wait_ns, 15);
	cr_expect_eq(b.holder, 1);
	cr_expect_eq(a.count, 1);
	cr_expect_eq(a.self_ns, 30);
	cr_expect_str_eq(a.importer, "");
	cr_expect_eq(c.count, 0);
	cr_expect_eq(c.waits, 1);
	end(&f);
}

Test(totals, classes)
{
	struct fixture f;
	struct lw_clock clock = { .ns = { [LW_CLASS_CPU] = 10 } };
	begin(&f);
	f.feed.clock = &clock;
	for (unsigned i = 0; i < 3; i++) {
		feed_start(&f.feed, 1, A, 100);
		clock.ns[LW_CLASS_DISK] += 7;
		feed_done(&f.feed, 1, A, 110);
	}
	cr_expect_eq(module_of(&f, "a").self.ns[LW_CLASS_DISK], 21);
	cr_expect_eq(module_of(&f, "a").self.ns[LW_CLASS_CPU], 0);
	end(&f);
}

Test(totals, orders)
{
	static const char *const expected[LW_ORDERS] = {
		[LW_ORDER_SELF] = "cabd", [LW_ORDER_TOTAL] = "acbd", [LW_ORDER_COUNT] = "bacd", [LW_ORDER_WAITED] = "dabc", [LW_ORDER_NAME] = "abcd",
	};
	struct fixture f;
	begin(&f);
	feed_start(&f.feed, 1, A, 100);
	feed_start(&f.feed, 1, C, 110);
	feed_done(&f.feed, 1, C, 200);
	feed_done(&f.feed, 1, A, 220);
	for (unsigned i = 0; i < 5; i++) {
		feed_start(&f.feed, 1, B, 300);
		feed_done(&f.feed, 1, B, 301);
	}
	feed_wait(&f.feed, 2, LW_CLASS_MODULE, D, 100, 10, 1);
	for (unsigned order = 0; order < LW_ORDERS; order++) {
		struct lw_module_total *all;
		char got[8] = "";
		cr_assert_eq(lw_totals_modules(f.totals, order, &all), 4);
		for (unsigned i = 0; i < 4; i++)
			got[i] = *all[i].module;
		cr_expect_str_eq(got, expected[order]);
		free(all);
	}
	end(&f);
}

Test(totals, many_modules)
{
	enum { MODULES = 3000 };
	struct fixture f;
	char text[16];
	begin(&f);
	for (unsigned round = 0; round < 2; round++)
		for (uint32_t i = 1; i <= MODULES; i++) {
			snprintf(text, sizeof(text), "m%05u", (unsigned)i);
			feed_name(&f.feed, i, text);
			feed_start(&f.feed, 1, i, 100);
			feed_done(&f.feed, 1, i, 100 + i);
		}
	struct lw_module_total *all;
	cr_assert_eq(lw_totals_modules(f.totals, LW_ORDER_NAME, &all), MODULES);
	for (unsigned i = 0; i < MODULES; i++) {
		cr_assert_eq(atoi(all[i].module + 1), i + 1);
		cr_assert_eq(all[i].count, 2);
		cr_assert_eq(all[i].total_ns, 2 * (i + 1));
	}
	free(all);
	end(&f);
}

Test(totals, histograms)
{
	static const struct { uint64_t ns; unsigned bucket; } table[] = {
		{ 0, 0 }, { 1, 0 }, { 1000, 0 }, { 1001, 1 }, { 2000, 1 }, { 2001, 2 }, { 4000, 2 }, { 1024000, 10 }, { 1024001, 11 }, { 1000ull << 38, 38 },
		{ (1000ull << 38) + 1, 39 }, { UINT64_MAX / 2, 39 },
	};
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct fixture f;
		begin(&f);
		feed_start(&f.feed, 1, A, 100);
		feed_done(&f.feed, 1, A, 100 + table[i].ns);
		feed_wait(&f.feed, 1, LW_CLASS_GIL, 0, 100, table[i].ns, 0);
		const struct lw_lock_total *gil = lw_totals_lock(f.totals, LW_CLASS_GIL);
		cr_expect_eq(gil->waits, 1);
		cr_expect_eq(gil->waited_ns, table[i].ns);
		cr_expect_eq(gil->longest_ns, table[i].ns);
		cr_expect_eq(lw_totals_lock(f.totals, LW_CLASS_MODULE)->waits, 0);
		for (unsigned b = 0; b < LW_HISTOGRAM; b++) {
			cr_expect_eq(gil->histogram[b], b == table[i].bucket, "%lu ns, bucket %u", table[i].ns, b);
			cr_expect_eq(lw_totals_imports(f.totals)[b], b == table[i].bucket);
		}
		end(&f);
	}
}

Test(totals, longest_waits)
{
	struct fixture f;
	struct lw_wait longest[2 * LW_TOTALS_KEPT];
	uint64_t state = 42, all[1000];
	begin(&f);
	for (unsigned i = 0; i < 1000; i++) {
		all[i] = feed_below(&state, 1000000);
		feed_wait(&f.feed, 1, i % 2 ? LW_CLASS_MODULE : LW_CLASS_GLOBAL, A, 100, all[i], 0);
		feed_wait(&f.feed, 1, i % 2 ? LW_CLASS_GIL : LW_CLASS_FUTEX, 0, 100, 2000000, 0);
	}
	cr_expect_eq(lw_totals_longest(f.totals, longest, 3), 3);
	cr_assert_eq(lw_totals_longest(f.totals, longest, 2 * LW_TOTALS_KEPT), LW_TOTALS_KEPT);
	for (unsigned i = 0; i < LW_TOTALS_KEPT; i++) {
		unsigned longer = 0;
		for (unsigned k = 0; k < 1000; k++)
			longer += all[k] > longest[i].wait_ns;
		cr_expect_leq(longer, i, "no longer one is left out");
		cr_expect(!i || longest[i].wait_ns <= longest[i - 1].wait_ns);
	}
	end(&f);
}

/*
 *     4 waits for c, which 3 holds, which waits for b, which 2 holds, which waits for a, which 1 holds
 */
static void three_steps(struct fixture *f, uint64_t ns, uint64_t waited)
{
	for (uint32_t tid = 1; tid <= 3; tid++)
		feed_start(&f->feed, tid, tid, ns);
	feed_wait(&f->feed, 2, LW_CLASS_MODULE, A, ns + 30, waited - 20, 1);
	feed_wait(&f->feed, 3, LW_CLASS_MODULE, B, ns + 20, waited - 10, 2);
	feed_wait(&f->feed, 4, LW_CLASS_MODULE, C, ns + 10, waited, 3);
	for (uint32_t tid = 1; tid <= 3; tid++)
		feed_done(&f->feed, tid, tid, ns + waited + 50);
}

Test(totals, chains)
{
	struct fixture f;
	struct lw_chain chain[8];
	begin(&f);
	three_steps(&f, 1000, 100);
	cr_assert_eq(lw_totals_chains(f.totals, chain, 8), 1, "the shorter one is part of it");
	cr_assert_eq(chain[0].length, 3);
	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(chain[0].waits[i].tid, 4 - i);
		cr_expect_eq(chain[0].waits[i].holder, 3 - i);
		cr_expect_str_eq(chain[0].waits[i].module, names[2 - i]);
	}
	cr_expect_eq(chain[0].count, 1);
	cr_expect_eq(chain[0].waited_ns, 100);
	/* Again, longer; and by another thread. */
	three_steps(&f, 3000, 500);
	feed_wait(&f.feed, 5, LW_CLASS_MODULE, C, 3015, 400, 3);
	cr_assert_eq(lw_totals_chains(f.totals, chain, 8), 1);
	cr_expect_eq(chain[0].count, 3);
	cr_expect_eq(chain[0].waited_ns, 1000);
	cr_expect_eq(chain[0].waits[0].wait_ns, 500);
	/* One that has nothing to do with it, and is worse. */
	feed_start(&f.feed, 6, D, 4000);
	feed_start(&f.feed, 7, A, 4000);
	feed_wait(&f.feed, 6, LW_CLASS_GLOBAL, 0, 4500, 400, 8);
	feed_wait(&f.feed, 7, LW_CLASS_MODULE, D, 4100, 5000, 6);
	cr_assert_eq(lw_totals_chains(f.totals, chain, 8), 2);
	cr_expect_eq(chain[0].length, 2);
	cr_expect_eq(chain[0].waits[1].kind, LW_CLASS_GLOBAL);
	cr_expect_eq(chain[0].waited_ns, 5000);
	cr_expect_eq(lw_totals_chains(f.totals, chain, 1), 1);
	end(&f);
}

/* What the holder waited for before or after ours is no part of it. */
Test(totals, waits_that_do_not_overlap_are_no_chain)
{
	struct fixture f;
	struct lw_chain chain[8];
	begin(&f);
	feed_start(&f.feed, 1, A, 1000);
	feed_wait(&f.feed, 1, LW_CLASS_MODULE, B, 1010, 90, 9);
	feed_wait(&f.feed, 2, LW_CLASS_MODULE, A, 1100, 100, 1);
	feed_wait(&f.feed, 1, LW_CLASS_MODULE, C, 1200, 90, 9);
	cr_expect_eq(lw_totals_chains(f.totals, chain, 8), 0);
	/* Of two, the one that took more of it. */
	feed_start(&f.feed, 1, D, 2000);
	feed_wait(&f.feed, 1, LW_CLASS_MODULE, B, 2010, 10, 9);
	feed_wait(&f.feed, 1, LW_CLASS_MODULE, C, 2030, 60, 9);
	feed_wait(&f.feed, 3, LW_CLASS_MODULE, D, 2005, 100, 1);
	cr_assert_eq(lw_totals_chains(f.totals, chain, 8), 1);
	cr_expect_str_eq(chain[0].waits[1].module, "c");
	end(&f);
}

/* More links, chains and steps than are kept. */
Test(totals, rings_are_bounded)
{
	enum { THREADS = 40 };
	struct fixture f;
	struct lw_chain chain[2 * LW_TOTALS_KEPT];
	begin(&f);
	char text[8];
	for (uint32_t i = 1; i <= THREADS; i++) {
		snprintf(text, sizeof(text), "m%u", (unsigned)i);
		feed_name(&f.feed, i, text);
		feed_start(&f.feed, i, i, 100);
	}
	for (unsigned round = 0; round < 200; round++)
		for (uint32_t i = 2; i <= THREADS; i++)
			feed_wait(&f.feed, i, LW_CLASS_MODULE, i - 1, 10000 * (round + 1) - 10 * i, 20 * i, i - 1);
	unsigned count = lw_totals_chains(f.totals, chain, 2 * LW_TOTALS_KEPT);
	cr_assert(count >= 1 && count <= LW_TOTALS_KEPT);
	cr_expect_eq(chain[0].length, LW_CHAIN_MOST);
	cr_expect_eq(chain[0].waits[0].tid, THREADS);
	cr_expect_eq(chain[0].count, 200);
	end(&f);
}
