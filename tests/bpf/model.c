/* SPDX-License-Identifier: MIT */
/* model: spans. Starts and ends as programs, greenlets, forks and lost events bring them about; random ones against a plain reference. Waits: holders.c. */
#include "feed.h"

static const char *const names[] = { "a", "a.b", "a.c", "d", NULL };
enum { A = 1, AB, AC, D };

Test(model, imports_within_imports)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_start(&feed, 1, AB, 110);
	feed_done(&feed, 1, AB, 140);
	feed_start(&feed, 1, AC, 150);
	feed_start(&feed, 1, D, 151);
	feed_span(&feed, LW_EVENT_DONE, LW_EVENT_FAILED, 1, D, 153, 0);
	feed_span(&feed, LW_EVENT_DONE, LW_EVENT_UNKNOWN, 1, AC, 160, 0);
	feed_done(&feed, 1, A, 200);

	static const struct lw_import expected[] = {
		{ .id = 2, .parent = 1, .module = "a.b", .importer = "a", .depth = 1, .begin_ns = 110, .total_ns = 30, .self_ns = 30 },
		{ .id = 4, .parent = 3, .module = "d", .importer = "a.c", .depth = 2, .begin_ns = 151, .total_ns = 2, .self_ns = 2, .failed = true },
		{ .id = 3, .parent = 1, .module = "a.c", .importer = "a", .depth = 1, .begin_ns = 150, .total_ns = 10, .self_ns = 8, .unknown = true },
		{ .id = 1, .parent = 0, .module = "a", .importer = "", .depth = 0, .begin_ns = 100, .total_ns = 100, .self_ns = 60 },
	};
	cr_assert_eq(feed_count(&feed, 'I'), 4);
	cr_assert_eq(feed_count(&feed, 'S'), 4);
	cr_assert_eq(feed_count(&feed, '+'), 1);
	for (unsigned i = 0; i < 4; i++) {
		const struct lw_import *import = feed_import_nth(&feed, i), *wanted = &expected[i];
		cr_expect_eq(import->id, wanted->id);
		cr_expect_eq(import->parent, wanted->parent);
		cr_expect_str_eq(import->module, wanted->module);
		cr_expect_str_eq(import->importer, wanted->importer);
		cr_expect_eq(import->pid, FEED_PID);
		cr_expect_eq(import->tid, 1);
		cr_expect_eq(import->depth, wanted->depth);
		cr_expect_eq(import->begin_ns, wanted->begin_ns);
		cr_expect_eq(import->total_ns, wanted->total_ns);
		cr_expect_eq(import->self_ns, wanted->self_ns);
		cr_expect_eq(import->failed, wanted->failed);
		cr_expect_eq(import->unknown, wanted->unknown);
		cr_expect(!import->cut && !import->clocked && !import->again);
		cr_expect_str_eq(import->outcome, "");
	}
	cr_expect_eq(feed_senseless(&feed), 0);
	feed_end(&feed);
}

Test(model, threads_are_by_themselves)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_start(&feed, 2, AB, 110);
	feed_done(&feed, 2, A, 120);
	feed_done(&feed, 1, A, 130);
	feed_done(&feed, 2, AB, 140);
	cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 30);
	cr_expect_eq(feed_import_nth(&feed, 1)->depth, 0);
	cr_expect_eq(feed_import_nth(&feed, 1)->total_ns, 30);
	cr_expect_eq(feed_senseless(&feed), 1, "thread 2 was not importing a");
	feed_end(&feed);
}

/*
 * The place on the stack tells greenlets apart as far as it can: all three began as outermost, for each began where the one before had.
 *
 *     1  |A------------------|
 *     2     |AB-------------------|
 *     3         |AC-------|
 */
Test(model, greenlets_end_in_any_order)
{
	static const uint32_t orders[][3] = { { A, AB, AC }, { A, AC, AB }, { AB, A, AC }, { AB, AC, A }, { AC, A, AB }, { AC, AB, A } };
	for (unsigned i = 0; i < 6; i++)
		for (unsigned placed = 0; placed < 2; placed++) {
			struct feed feed;
			feed_begin(&feed);
			feed_names(&feed, names);
			for (uint32_t name = A; name <= AC; name++)
				feed_start_at(&feed, 1, name, 100 * name, placed ? 5000 : 0);
			uint64_t sum = 0;
			for (unsigned k = 0; k < 3; k++) {
				feed_done_at(&feed, 1, orders[i][k], 1000 + 100 * k, placed ? 5000 : 0);
				const struct lw_import *import = feed_import_nth(&feed, k);
				cr_expect_str_eq(import->module, names[orders[i][k] - 1]);
				cr_expect_eq(import->total_ns, 1000 + 100 * k - 100 * orders[i][k]);
				cr_expect_eq(import->depth, placed ? 0 : orders[i][k] - 1);
				cr_expect(!placed || import->self_ns == import->total_ns);
				sum += import->self_ns;
			}
			cr_expect(placed || sum == 1100, "every nanosecond is somebody's");
			cr_expect_eq(feed_senseless(&feed), 0);
			feed_end(&feed);
		}
}

/* Random starts and ends, without places: each nanosecond is that of the latest span that is open. */
Test(model, random_ends_against_a_reference)
{
	enum { SPANS = 12, STEPS = 400 };
	for (uint64_t seed = 1; seed <= 200; seed++) {
		struct feed feed;
		struct { uint32_t name; uint64_t begin, self; unsigned depth; } open[SPANS];
		unsigned count = 0, over = 0, is_open = 0;
		uint64_t state = seed * 2654435761u, now = 1000;
		char text[8];
		feed_begin(&feed);
		for (uint32_t name = 1; name <= SPANS; name++) {
			snprintf(text, sizeof(text), "m%u", (unsigned)name);
			feed_name(&feed, name, text);
		}
		for (unsigned step = 0; step < STEPS; step++) {
			const uint64_t passed = feed_below(&state, 50);
			now += passed;
			if (count)
				open[count - 1].self += passed;
			if (count < SPANS && (!count || feed_below(&state, 2))) {
				/* A name that is not open. */
				uint32_t name = 1 + (uint32_t)feed_below(&state, SPANS);
				while (is_open & 1u << name)
					name = name % SPANS + 1;
				is_open |= 1u << name;
				open[count].name = name;
				open[count].begin = now;
				open[count].self = 0;
				open[count].depth = count ? open[count - 1].depth + 1 : 0;
				count++;
				feed_start(&feed, 1, name, now);
				continue;
			}
			unsigned at = (unsigned)feed_below(&state, count);
			feed_done(&feed, 1, open[at].name, now);
			is_open &= ~(1u << open[at].name);
			const struct lw_import *import = &feed.told[feed.count - 1].import;
			over++;
			cr_assert_eq(import->begin_ns, open[at].begin);
			cr_assert_eq(import->total_ns, now - open[at].begin);
			cr_assert_eq(import->self_ns, open[at].self, "seed %lu step %u: %lu, not %lu", seed, step, import->self_ns, open[at].self);
			cr_assert_eq(import->depth, open[at].depth);
			memmove(&open[at], &open[at + 1], (--count - at) * sizeof(open[0]));
		}
		cr_assert_eq(feed_count(&feed, 'I'), over);
		cr_assert_eq(feed_senseless(&feed), 0);
		feed_end(&feed);
	}
}

Test(model, three_hundred_deep)
{
	enum { DEPTH = 300 };
	struct feed feed;
	char text[8];
	feed_begin(&feed);
	for (uint32_t i = 1; i <= DEPTH; i++) {
		snprintf(text, sizeof(text), "m%u", (unsigned)i);
		feed_name(&feed, i, text);
		feed_start_at(&feed, 1, i, 1000 + i, 100000 - 64 * i);
	}
	for (uint32_t i = DEPTH; i; i--)
		feed_done_at(&feed, 1, i, 3000 - i, 100000 - 64 * i);
	for (uint32_t i = 0; i < DEPTH; i++) {
		const struct lw_import *import = feed_import_nth(&feed, i);
		cr_expect_eq(import->depth, DEPTH - 1 - i);
		cr_expect_eq(import->self_ns, i ? 2 : 2000 - 2 * DEPTH);
	}
	feed_end(&feed);
}

/* The end of AB is lost: D is not within it, and it is taken to have lasted until AC began in its place. */
Test(model, a_lost_end_disturbs_nothing_else)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start_at(&feed, 1, A, 100, 9000);
	feed_start_at(&feed, 1, AB, 110, 8000);
	feed_start_at(&feed, 1, AC, 150, 8000);
	feed_start_at(&feed, 1, D, 151, 7000);
	feed_done_at(&feed, 1, D, 152, 7000);
	feed_done_at(&feed, 1, AC, 160, 8000);
	feed_start_at(&feed, 1, D, 170, 7500);
	feed_done_at(&feed, 1, D, 175, 7500);
	feed_done_at(&feed, 1, A, 200, 9000);
	lw_model_end(feed.model, 100000);
	cr_assert_eq(feed_count(&feed, 'I'), 5);
	cr_expect_str_eq(feed_import_nth(&feed, 0)->importer, "a.c");
	cr_expect_str_eq(feed_import_nth(&feed, 1)->importer, "a");
	cr_expect_str_eq(feed_import_nth(&feed, 2)->importer, "a", "the second d is not within what was left");
	const struct lw_import *lost = feed_import_nth(&feed, 4);
	cr_expect_str_eq(lost->module, "a.b");
	cr_expect(lost->cut);
	cr_expect_eq(lost->total_ns, 40);
	feed_end(&feed);
}

Test(model, what_is_open_at_the_end_is_cut)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_start(&feed, 1, AB, 110);
	feed_start(&feed, 2, AC, 120);
	feed_start(&feed, 3, D, 130);
	feed_head(&feed, LW_EVENT_EXIT, 2, 0, 150);
	cr_expect_str_eq(feed_import_nth(&feed, 0)->module, "a.c");
	cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 30);
	lw_model_end(feed.model, 200);
	cr_assert_eq(feed_count(&feed, 'I'), 4);
	for (unsigned i = 0; i < 4; i++)
		cr_expect(feed_import_nth(&feed, i)->cut && feed_import_nth(&feed, i)->unknown);
	feed_done(&feed, 1, A, 300);
	cr_expect_eq(feed_senseless(&feed), 1);
	feed_end(&feed);
}

Test(model, the_end_of_a_process_ends_all_its_threads)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_start(&feed, FEED_PID, AB, 100);
	feed.pid = 7;
	feed_start(&feed, 7, D, 100);
	feed.pid = FEED_PID;
	feed_head(&feed, LW_EVENT_EXIT, FEED_PID, 0, 180);
	cr_expect_eq(feed_count(&feed, 'I'), 2);
	cr_expect_eq(feed_count(&feed, '+'), 2);
	cr_assert_eq(feed_count(&feed, '-'), 1);
	cr_expect_eq(feed_nth(&feed, '-', 0)->pid, FEED_PID);
	feed_head(&feed, LW_EVENT_EXIT, FEED_PID, 0, 190);
	cr_expect_eq(feed_count(&feed, '-'), 1, "once");
	feed_end(&feed);
}

/* Another program: nothing of the old one goes on, and the process is the same. */
Test(model, exec_cuts)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, FEED_PID, A, 100);
	feed_start(&feed, 1, AB, 100);
	feed_head(&feed, LW_EVENT_EXEC, FEED_PID, 0, 150);
	cr_expect_eq(feed_count(&feed, 'I'), 2);
	feed_start(&feed, FEED_PID, D, 200);
	feed_done(&feed, FEED_PID, D, 210);
	cr_expect_eq(feed_import_nth(&feed, 2)->depth, 0);
	cr_expect_eq(feed_count(&feed, '+'), 1);
	cr_expect_eq(feed_count(&feed, '-'), 0);
	feed_end(&feed);
}

/* The child goes on within the parent's import, which is told once. */
Test(model, fork_within_an_import)
{
	for (unsigned child_ends = 0; child_ends < 2; child_ends++) {
		struct feed feed;
		feed_begin(&feed);
		feed_names(&feed, names);
		feed_start_at(&feed, 1, A, 100, 9000);
		feed_start_at(&feed, 1, AB, 110, 8000);
		feed_head(&feed, LW_EVENT_FORK, 1, 8, 120);
		feed.pid = 8;
		feed_start_at(&feed, 8, AC, 130, 7000);
		feed_done_at(&feed, 8, AC, 140, 7000);
		const struct lw_import *import = feed_import_nth(&feed, 0);
		cr_expect_eq(import->pid, 8);
		cr_expect_eq(import->depth, 2);
		cr_expect_str_eq(import->importer, "a.b");
		if (child_ends) {
			feed_done_at(&feed, 8, AB, 150, 8000);
			feed_done_at(&feed, 8, A, 160, 9000);
		}
		feed_head(&feed, LW_EVENT_EXIT, 8, 0, 170);
		cr_expect_eq(feed_count(&feed, 'I'), 1);
		feed.pid = FEED_PID;
		feed_done_at(&feed, 1, AB, 180, 8000);
		feed_done_at(&feed, 1, A, 190, 9000);
		cr_expect_eq(feed_count(&feed, 'I'), 3);
		cr_expect_eq(feed_import_nth(&feed, 1)->self_ns, 70);
		cr_expect_eq(feed_senseless(&feed), 0);
		feed_end(&feed);
	}
}

Test(model, a_thread_number_is_used_again)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 5, A, 100);
	feed.pid = 9;
	feed_start(&feed, 5, D, 200);
	feed_done(&feed, 5, D, 210);
	cr_expect(feed_import_nth(&feed, 0)->cut);
	cr_expect_eq(feed_import_nth(&feed, 0)->pid, FEED_PID);
	cr_expect_eq(feed_import_nth(&feed, 1)->depth, 0);
	cr_expect_eq(feed_import_nth(&feed, 1)->pid, 9);
	/* Many, so that those that are kept for a while are dropped. */
	for (uint32_t tid = 1000; tid < 5000; tid++) {
		feed_start(&feed, tid, A, 300);
		feed_head(&feed, LW_EVENT_EXIT, tid, 0, 310);
		feed_start(&feed, 5, D, 300);
		feed_head(&feed, LW_EVENT_EXIT, 5, 0, 310);
	}
	cr_expect_eq(feed_count(&feed, 'I'), 2 + 2 * 4000);
	cr_expect_eq(feed_senseless(&feed), 0);
	feed_end(&feed);
}

/* --- several kinds of probes --- */

static void from(struct feed *feed, uint8_t source, uint8_t kind, uint32_t name, uint64_t ns, uint64_t frame)
{
	feed->source = source;
	feed_span(feed, kind, 0, 1, name, ns, frame);
}

Test(model, two_kinds_of_probes_see_one_import)
{
	static const uint8_t order[][2] = { { LW_SOURCE_USDT, LW_SOURCE_LADEWERK }, { LW_SOURCE_LADEWERK, LW_SOURCE_USDT }, { LW_SOURCE_LADEWERK, LW_SOURCE_CALL } };
	/* The inner probe's place may be above the outer one's: they are in different functions. */
	for (unsigned i = 0; i < 3; i++)
		for (uint64_t inner = 8900; inner <= 9100; inner += 100) {
			struct feed feed;
			feed_begin(&feed);
			feed_names(&feed, names);
			from(&feed, order[i][0], LW_EVENT_START, A, 100, 9000);
			from(&feed, order[i][1], LW_EVENT_START, A, 101, inner);
			from(&feed, order[i][0], LW_EVENT_START, AB, 110, 8000);
			from(&feed, order[i][1], LW_EVENT_START, AB, 111, inner - 1000);
			from(&feed, order[i][1], LW_EVENT_DONE, AB, 119, inner - 1000);
			from(&feed, order[i][0], LW_EVENT_DONE, AB, 120, 8000);
			from(&feed, order[i][1], LW_EVENT_DONE, A, 199, inner);
			cr_expect_eq(feed_count(&feed, 'I'), 1, "its outer end has not come yet");
			from(&feed, order[i][0], LW_EVENT_DONE, A, 200, 9000);
			cr_assert_eq(feed_count(&feed, 'I'), 2);
			cr_expect_eq(feed_count(&feed, 'S'), 2);
			cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 10);
			cr_expect_eq(feed_import_nth(&feed, 1)->total_ns, 100);
			cr_expect_eq(feed_import_nth(&feed, 1)->self_ns, 90);
			cr_expect_str_eq(feed_import_nth(&feed, 1)->outcome, "failed", "number 0 of the outcomes");
			cr_expect_eq(feed_senseless(&feed), 0);
			feed_end(&feed);
		}
}

/* Ladewerk hands an import back: the same function once more. */
Test(model, one_kind_around_another_around_the_first)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	from(&feed, LW_SOURCE_USDT, LW_EVENT_START, A, 100, 9000);
	from(&feed, LW_SOURCE_LADEWERK, LW_EVENT_START, A, 101, 8500);
	from(&feed, LW_SOURCE_USDT, LW_EVENT_START, A, 102, 8000);
	from(&feed, LW_SOURCE_USDT, LW_EVENT_DONE, A, 197, 8000);
	from(&feed, LW_SOURCE_LADEWERK, LW_EVENT_DONE, A, 198, 8500);
	cr_expect_eq(feed_count(&feed, 'I'), 0);
	from(&feed, LW_SOURCE_USDT, LW_EVENT_DONE, A, 200, 9000);
	cr_expect_eq(feed_count(&feed, 'I'), 1);
	cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 100);
	feed_end(&feed);
}

/* Both ends are lost; what follows them is neither's, also when they are cut long after. */
Test(model, lost_ends_of_an_import_and_one_within)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start_at(&feed, 1, A, 100, 9000);
	feed_start_at(&feed, 1, AB, 110, 8000);
	feed_start_at(&feed, 1, D, 200, 9000);
	feed_done_at(&feed, 1, D, 300, 9000);
	lw_model_end(feed.model, 10000);
	for (unsigned i = 1; i < 3; i++) {
		const struct lw_import *import = feed_import_nth(&feed, i);
		const bool inner = strcmp(import->module, "a.b") == 0;
		cr_expect(import->cut);
		cr_expect_eq(import->total_ns, inner ? 90 : 100);
		cr_expect_eq(import->self_ns, inner ? 90 : 10);
	}
	feed_end(&feed);
}

Test(model, a_lost_inner_end_does_not_matter)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	from(&feed, LW_SOURCE_LADEWERK, LW_EVENT_START, A, 100, 0);
	from(&feed, LW_SOURCE_USDT, LW_EVENT_START, A, 101, 0);
	from(&feed, LW_SOURCE_LADEWERK, LW_EVENT_DONE, A, 200, 0);
	cr_expect_eq(feed_count(&feed, 'I'), 1);
	from(&feed, LW_SOURCE_LADEWERK, LW_EVENT_DONE, A, 201, 0);
	cr_expect_eq(feed_senseless(&feed), 1);
	feed_end(&feed);
}

/* The same kind twice is two: the module was removed from sys.modules meanwhile. */
Test(model, an_import_within_itself)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start_at(&feed, 1, A, 100, 9000);
	feed_start_at(&feed, 1, A, 110, 8000);
	feed_done_at(&feed, 1, A, 120, 8000);
	feed_done_at(&feed, 1, A, 200, 9000);
	cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 10);
	cr_expect(feed_import_nth(&feed, 0)->again);
	cr_expect_eq(feed_import_nth(&feed, 1)->total_ns, 100);
	cr_expect(!feed_import_nth(&feed, 1)->again);
	feed_end(&feed);
}

Test(model, outcomes_and_importers_of_ladewerk)
{
	static const char *const outcomes[] = { "failed", "stock", "pack", "pyc", "compiled", "stock_loader", "builtin", "namespace", "finder", "waited", "", "" };
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	for (unsigned i = 0; i < 12; i++) {
		struct lw_event_span record = { .head = { .kind = LW_EVENT_START, .source = LW_SOURCE_LADEWERK, .pid = 1, .tid = 1, .name = A, .ns = 100 }, .importer = D };
		feed_record(&feed, &record, LW_EVENT_SPAN_SHORT);
		record.head.kind = LW_EVENT_DONE;
		record.head.detail = (uint8_t)i;
		feed_record(&feed, &record, LW_EVENT_SPAN_SHORT);
		cr_expect_str_eq(feed_import_nth(&feed, i)->outcome, outcomes[i]);
		cr_expect_str_eq(feed_import_nth(&feed, i)->importer, "d");
	}
	feed_end(&feed);
}

/* --- ends by place --- */

Test(model, nameless_ends)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed.source = LW_SOURCE_CALL;
	feed_start_at(&feed, 1, A, 100, 9000);
	feed_start_at(&feed, 1, AB, 110, 8000);
	feed_span(&feed, LW_EVENT_DONE, LW_EVENT_NAMELESS | LW_EVENT_FAILED, 1, 0, 120, 8000);
	feed_span(&feed, LW_EVENT_DONE, LW_EVENT_NAMELESS, 1, 0, 130, 8000);
	feed_span(&feed, LW_EVENT_DONE, LW_EVENT_NAMELESS, 1, 0, 140, 0);
	feed_span(&feed, LW_EVENT_DONE, LW_EVENT_NAMELESS, 1, 0, 150, 9000);
	cr_assert_eq(feed_count(&feed, 'I'), 2);
	cr_expect_str_eq(feed_import_nth(&feed, 0)->module, "a.b");
	cr_expect(feed_import_nth(&feed, 0)->failed);
	cr_expect_eq(feed_import_nth(&feed, 1)->total_ns, 50);
	cr_expect_eq(feed_senseless(&feed), 2);
	feed_end(&feed);
}

/* The name was in memory that is not there: at the start, at the end, at both. */
Test(model, names_that_could_not_be_read)
{
	static const uint32_t pair[][2] = { { 0, A }, { A, 0 }, { 0, 0 } };
	for (unsigned i = 0; i < 3; i++) {
		struct feed feed;
		feed_begin(&feed);
		feed_names(&feed, names);
		feed_start_at(&feed, 1, D, 90, 9500);
		feed_start_at(&feed, 1, pair[i][0], 100, 9000);
		feed_done_at(&feed, 1, pair[i][1], 120, 9000);
		feed_done_at(&feed, 1, D, 130, 9500);
		cr_assert_eq(feed_count(&feed, 'I'), 2);
		cr_expect_str_eq(feed_import_nth(&feed, 0)->module, i == 1 ? "a" : "?");
		cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 20);
		cr_expect_eq(feed_senseless(&feed), 0);
		feed_end(&feed);
	}
}

/* --- clocks --- */

Test(model, clocks_by_class)
{
	struct feed feed;
	struct lw_clock clock = { .ns = { [LW_CLASS_CPU] = 1000, [LW_CLASS_GIL] = 50 } };
	feed_begin(&feed);
	feed_names(&feed, names);
	feed.clock = &clock;
	feed_start(&feed, 1, A, 100);
	clock.ns[LW_CLASS_CPU] += 10;
	feed_start(&feed, 1, AB, 110);
	clock.ns[LW_CLASS_CPU] += 5;
	clock.ns[LW_CLASS_MODULE] += 15;
	feed_done(&feed, 1, AB, 130);
	clock.ns[LW_CLASS_GIL] += 7;
	clock.ns[LW_CLASS_CPU] += 3;
	feed_done(&feed, 1, A, 140);
	const struct lw_import *inner = feed_import_nth(&feed, 0), *outer = feed_import_nth(&feed, 1);
	cr_assert(inner->clocked && outer->clocked);
	cr_expect_eq(inner->total.ns[LW_CLASS_CPU], 5);
	cr_expect_eq(inner->self.ns[LW_CLASS_MODULE], 15);
	cr_expect_eq(outer->total.ns[LW_CLASS_CPU], 18);
	cr_expect_eq(outer->self.ns[LW_CLASS_CPU], 13);
	cr_expect_eq(outer->total.ns[LW_CLASS_MODULE], 15);
	cr_expect_eq(outer->self.ns[LW_CLASS_MODULE], 0);
	cr_expect_eq(outer->self.ns[LW_CLASS_GIL], 7);
	feed_end(&feed);
}

/* A clock that begins anew meanwhile, or is missing at one side, says nothing. */
Test(model, clocks_that_say_nothing)
{
	struct feed feed;
	struct lw_clock clock = { .ns = { [LW_CLASS_CPU] = 1000 } };
	feed_begin(&feed);
	feed_names(&feed, names);
	feed.clock = &clock;
	feed_start(&feed, 1, A, 100);
	clock.ns[LW_CLASS_CPU] = 10;
	feed_done(&feed, 1, A, 110);
	feed.clock = NULL;
	feed_start(&feed, 1, A, 100);
	feed.clock = &clock;
	feed_done(&feed, 1, A, 110);
	feed_start(&feed, 1, A, 100);
	feed.clock = NULL;
	feed_done(&feed, 1, A, 110);
	cr_assert_eq(feed_count(&feed, 'I'), 3);
	for (unsigned i = 0; i < 3; i++)
		cr_expect(!feed_import_nth(&feed, i)->clocked);
	feed_end(&feed);
}

/* --- what makes no sense --- */

Test(model, names_of_any_kind)
{
	struct feed feed;
	struct lw_event_name record = { .head = { .kind = LW_EVENT_NAME, .flags = LW_EVENT_CUT, .name = 1 } };
	feed_begin(&feed);
	memset(record.text, 'x', sizeof(record.text));
	feed_record(&feed, &record, sizeof(record));		/* not terminated */
	feed_start(&feed, 1, 1, 100);
	const char *first = feed_nth(&feed, 'S', 0)->import.module;
	cr_expect_eq(strlen(first), LW_NAME_SIZE + 3);
	cr_expect_str_eq(first + LW_NAME_SIZE, "...");
	/* The number gets another meaning, and the old text stays. */
	feed_name(&feed, 1, "new");
	feed_name(&feed, 2, "new");
	feed_start(&feed, 1, 1, 110);
	feed_start(&feed, 1, 2, 120);
	feed_start(&feed, 1, LW_NAMES + 1, 130);
	feed_start(&feed, 1, UINT32_MAX, 140);
	cr_expect_str_eq(feed_nth(&feed, 'S', 1)->import.module, "new");
	cr_expect_eq(feed_nth(&feed, 'S', 1)->import.module, feed_nth(&feed, 'S', 2)->import.module, "equal names have one address");
	cr_expect_str_eq(feed_nth(&feed, 'S', 3)->import.module, "?");
	cr_expect_str_eq(feed_nth(&feed, 'S', 4)->import.module, "?");
	cr_expect_eq(strlen(first), LW_NAME_SIZE + 3);
	cr_expect_eq(feed_senseless(&feed), 0);
	feed_name(&feed, 0, "none");
	feed_name(&feed, LW_NAMES + 1, "none");
	feed_name(&feed, 3, "");
	cr_expect_eq(feed_senseless(&feed), 3);
	feed_end(&feed);
}

Test(model, records_of_wrong_sizes_and_kinds)
{
	static const struct { uint8_t kind, source, flags; size_t least; } table[] = {
		{ LW_EVENT_NAME, 0, 0, sizeof(struct lw_event_head) + 2 },
		{ LW_EVENT_START, 0, 0, LW_EVENT_SPAN_SHORT },
		{ LW_EVENT_START, 0, LW_EVENT_CLOCKED, sizeof(struct lw_event_span) },
		{ LW_EVENT_DONE, 0, LW_EVENT_CLOCKED, sizeof(struct lw_event_span) },
		{ LW_EVENT_START, LW_SOURCE_SCHED, 0, SIZE_MAX },
		{ LW_EVENT_DONE, 255, 0, SIZE_MAX },
		{ LW_EVENT_WAIT, LW_SOURCE_SCHED, 0, sizeof(struct lw_event_wait) },
		{ LW_EVENT_PROCESS, 0, 0, sizeof(struct lw_event_head) },
		{ LW_EVENT_FORK, 0, 0, sizeof(struct lw_event_head) },
		{ LW_EVENT_EXEC, 0, 0, sizeof(struct lw_event_head) },
		{ LW_EVENT_EXIT, 0, 0, sizeof(struct lw_event_head) },
		{ LW_EVENT_EXIT + 1, 0, 0, SIZE_MAX },
		{ 255, 0, 0, SIZE_MAX },
	};
	struct feed feed;
	feed_begin(&feed);
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		union { struct lw_event_head head; char bytes[sizeof(struct lw_event_name)]; } record = {
			.head = { .kind = table[i].kind, .source = table[i].source, .flags = table[i].flags, .detail = LW_CLASS_MODULE, .pid = FEED_PID, .tid = 1, .name = 1, .ns = 1 },
		};
		record.bytes[sizeof(record.head)] = 'x';
		for (size_t size = 0; size <= sizeof(struct lw_event_span); size++) {
			const uint64_t before = feed_senseless(&feed);
			feed_record(&feed, &record, size);
			cr_expect_eq(feed_senseless(&feed) - before, size < table[i].least, "kind %u, %zu bytes", table[i].kind, size);
			/* So that an end has a beginning. */
			if (table[i].kind == LW_EVENT_START || table[i].kind == LW_EVENT_DONE)
				feed_start(&feed, 1, 1, 1);
		}
	}
	cr_expect_eq(feed_senseless(&feed) > 100, 1);
	feed_wait(&feed, 1, LW_CLASS_CPU, 1, 1, 1, 0);
	feed_wait(&feed, 1, LW_CLASSES, 1, 1, 1, 0);
	feed_head(&feed, LW_EVENT_FORK, 1, 0, 1);
	cr_expect_eq(feed_count(&feed, 'W'), sizeof(struct lw_event_span) - sizeof(struct lw_event_wait) + 1);
	feed_end(&feed);
}

/* Ends that never come, in such numbers: memory is bounded, and each is told. */
Test(model, starts_without_ends)
{
	enum { STARTS = 20000 };
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	for (unsigned i = 0; i < STARTS; i++)
		feed_start(&feed, 1, A, 100 + i);
	cr_expect_eq(feed_count(&feed, 'I') > 0, 1);
	cr_expect(feed_import_nth(&feed, 0)->cut);
	cr_expect_eq(feed_import_nth(&feed, 0)->id, 1);
	lw_model_end(feed.model, 100 + STARTS);
	cr_expect_eq(feed_nth(&feed, 'I', STARTS - 1) && !feed_nth(&feed, 'I', STARTS), 1);
	feed_end(&feed);
}

/* Ends before their beginnings, by clocks of different processors: no time is negative. */
Test(model, time_that_goes_back)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_start(&feed, 1, AB, 110);
	feed_done(&feed, 1, AB, 90);
	feed_done(&feed, 1, A, 80);
	cr_expect_eq(feed_import_nth(&feed, 0)->total_ns, 0);
	cr_expect_eq(feed_import_nth(&feed, 1)->total_ns, 0);
	cr_expect_eq(feed_import_nth(&feed, 1)->self_ns, 0);
	feed_end(&feed);
}
