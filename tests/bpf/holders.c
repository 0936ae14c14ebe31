/* SPDX-License-Identifier: MIT */
/*
 * holders: who held the lock that was waited for. Cases by hand, and rounds of contention: locks as CPython's are made, with random arrivals, wake-ups and delays of
 * records, whose holders are known.
 */
#include "feed.h"

static const char *const names[] = { "a", "a.b", "a.c", NULL };
enum { A = 1, AB, AC };

Test(holders, the_thread_that_imports_the_module)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_start(&feed, 2, AB, 100);
	/* No waker is known. */
	feed_wait(&feed, 3, LW_CLASS_MODULE, A, 150, 20, 0);
	const struct lw_wait *wait = feed_wait_nth(&feed, 0);
	cr_expect_eq(wait->kind, LW_CLASS_MODULE);
	cr_expect_str_eq(wait->module, "a");
	cr_expect_str_eq(wait->importer, "");
	cr_expect_eq(wait->pid, FEED_PID);
	cr_expect_eq(wait->tid, 3);
	cr_expect_eq(wait->holder, 1);
	cr_expect_eq(wait->begin_ns, 150);
	cr_expect_eq(wait->wait_ns, 20);
	cr_expect_eq(wait->within, 0);
	/* It has ended meanwhile; and had before the wait began. */
	feed_done(&feed, 1, A, 200);
	feed_wait(&feed, 3, LW_CLASS_MODULE, A, 199, 20, 0);
	feed_wait(&feed, 3, LW_CLASS_MODULE, A, 200, 20, 0);
	cr_expect_eq(feed_wait_nth(&feed, 1)->holder, 1);
	cr_expect_eq(feed_wait_nth(&feed, 2)->holder, 0);
	/* In another process. */
	feed.pid = 7;
	feed_wait(&feed, 8, LW_CLASS_MODULE, A, 150, 20, 0);
	cr_expect_eq(feed_wait_nth(&feed, 3)->holder, 0);
	/* Not known which module. */
	feed_wait(&feed, 8, LW_CLASS_MODULE, 0, 150, 20, 0);
	cr_expect_str_eq(feed_wait_nth(&feed, 4)->module, "");
	feed_end(&feed);
}

Test(holders, what_the_waiter_was_importing)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	feed_start(&feed, 1, A, 100);
	feed_wait(&feed, 1, LW_CLASS_GIL, 0, 101, 1, 9);
	feed_start(&feed, 1, AB, 110);
	feed_wait(&feed, 1, LW_CLASS_MODULE, AB, 111, 5, 9);
	feed_wait(&feed, 1, LW_CLASS_MODULE, AC, 117, 5, 9);
	feed_wait(&feed, 1, LW_CLASS_FUTEX, AC, 127, 5, 9);
	cr_expect_str_eq(feed_wait_nth(&feed, 0)->importer, "a");
	cr_expect_eq(feed_wait_nth(&feed, 0)->holder, 9);
	cr_expect_str_eq(feed_wait_nth(&feed, 1)->importer, "a", "it imports a.b in order to go on with a");
	cr_expect_eq(feed_wait_nth(&feed, 1)->within, 2);
	cr_expect_str_eq(feed_wait_nth(&feed, 2)->importer, "a.b", "a.c is in sys.modules, and not complete");
	cr_expect_eq(feed_wait_nth(&feed, 3)->holder, 0, "who wakes up need not have held a lock");
	cr_expect_eq(feed_wait_nth(&feed, 3)->waker, 9);
	cr_expect_str_eq(feed_wait_nth(&feed, 3)->module, "");
	feed_end(&feed);
}

/* 1 holds; it wakes 2, which wakes 3, which wakes 4: all three waited for 1. The wakers are gone when the last one tells. */
Test(holders, the_head_of_the_chain_of_wakers)
{
	for (unsigned seen = 0; seen < 2; seen++) {
		struct feed feed;
		feed_begin(&feed);
		feed_names(&feed, names);
		for (uint32_t tid = 1; seen && tid <= 4; tid++)
			feed_start(&feed, tid, A, 100 + (4 - tid));
		feed_wait(&feed, 2, LW_CLASS_MODULE, A, 110, 90, 1);
		feed_head(&feed, LW_EVENT_EXIT, 2, 0, 205);
		feed_wait(&feed, 3, LW_CLASS_MODULE, A, 111, 95, 2);
		feed_head(&feed, LW_EVENT_EXIT, 3, 0, 208);
		feed_wait(&feed, 4, LW_CLASS_MODULE, A, 109, 100, 3);
		feed_wait(&feed, 5, LW_CLASS_MODULE, A, 207, 5, 4);
		for (unsigned i = 0; i < 3; i++)
			cr_expect_eq(feed_wait_nth(&feed, i)->holder, 1);
		cr_expect_eq(feed_wait_nth(&feed, 3)->holder, 3, "it had the lock when that wait began");
		feed_end(&feed);
	}
}

Test(holders, chains_that_go_round)
{
	struct feed feed;
	feed_begin(&feed);
	feed_names(&feed, names);
	for (unsigned i = 0; i < 50; i++) {
		feed_wait(&feed, 1, LW_CLASS_GLOBAL, 0, 100, 100, 2);
		feed_wait(&feed, 2, LW_CLASS_GLOBAL, 0, 100, 100, 1);
		feed_wait(&feed, 3, LW_CLASS_GLOBAL, 0, 100, 100, 3);
	}
	cr_expect_eq(feed_count(&feed, 'W'), 150);
	feed_end(&feed);
}

/* --- rounds --- */

enum { MOST = 8, RECORDS = 128 };

struct worker {
	bool seen;		/* its start and end are */
	bool waits;
	uint64_t arrives, began_waiting, turn;	/* turn: woken, and looks at the lock then; 0: no */
	uint32_t waker, truth;
};

struct planned {
	uint64_t when;		/* it gets into the ring */
	unsigned order;
	char what;		/* S start, D done, W wait */
	uint32_t tid, waker, truth;
	uint64_t ns, wait_ns;
};

struct round {
	uint64_t random;
	unsigned count;
	struct worker worker[MOST];
	uint32_t holder;	/* 1 + worker; 0: free */
	uint64_t release;
	bool loaded;
	struct planned record[RECORDS];
	unsigned records;
};

static void plan(struct round *round, struct planned record)
{
	cr_assert(round->records < RECORDS);
	record.order = round->records;
	round->record[round->records++] = record;
}

static void take(struct round *round, unsigned i, uint64_t now)
{
	round->holder = i + 1;
	round->release = now + (round->loaded ? 1 + feed_below(&round->random, 5) : 500 + feed_below(&round->random, 500));
	round->loaded = true;
}

static void wait_for(struct round *round, unsigned i, uint64_t now)
{
	struct worker *worker = &round->worker[i];
	worker->waits = true;
	worker->turn = 0;
	worker->began_waiting = now;
	worker->truth = round->holder;
}

static void release(struct round *round, uint64_t now)
{
	const uint32_t holder = round->holder;
	unsigned waiting[MOST], count = 0;
	round->holder = 0;
	if (round->worker[holder - 1].seen)
		plan(round, (struct planned){ .when = now + 1 + feed_below(&round->random, 30), .what = 'D', .tid = holder });
	for (unsigned i = 0; i < round->count; i++)
		if (round->worker[i].waits && !round->worker[i].turn)
			waiting[count++] = i;
	if (!count)
		return;
	struct worker *woken = &round->worker[waiting[feed_below(&round->random, count)]];
	woken->turn = now + 1 + feed_below(&round->random, 10);
	woken->waker = holder;
	plan(round, (struct planned){
		.when = woken->turn, .what = 'W', .tid = (uint32_t)(woken - round->worker) + 1, .waker = holder, .truth = woken->truth,
		.ns = woken->began_waiting, .wait_ns = now - woken->began_waiting,
	});
}

static void arrive(struct round *round, unsigned i, uint64_t now)
{
	/* Its start is told some time before it comes to the lock. */
	if (round->holder)
		wait_for(round, i, now);
	else
		take(round, i, now);
}

static void step(struct round *round, uint64_t now)
{
	if (round->holder && round->release == now)
		release(round, now);
	for (unsigned i = 0; i < round->count; i++) {
		struct worker *worker = &round->worker[i];
		if (worker->arrives == now) {
			arrive(round, i, now);
		} else if (worker->waits && worker->turn == now) {
			worker->waits = false;
			worker->turn = 0;
			arrive(round, i, now);
		}
	}
}

static int by_time(const void *a, const void *b)
{
	const struct planned *x = a, *y = b;
	if (x->when != y->when)
		return x->when < y->when ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

/* BARGING: threads arrive all the time, also between a wake-up and its turn. */
static void simulate(struct round *round, uint64_t seed, bool barging, bool all_seen)
{
	*round = (struct round){ .random = seed * 0x9e3779b97f4a7c15u | 1, .count = 2 + seed % (MOST - 1) };
	for (unsigned i = 0; i < round->count; i++) {
		struct worker *worker = &round->worker[i];
		worker->arrives = 100 + feed_below(&round->random, barging && i > round->count / 2 ? 1200 : 200);
		worker->seen = all_seen || feed_below(&round->random, 3);
		if (worker->seen)
			plan(round, (struct planned){ .when = worker->arrives - 1 - feed_below(&round->random, 90), .what = 'S', .tid = i + 1 });
	}
	for (uint64_t now = 100; now < 4000; now++)
		step(round, now);
	qsort(round->record, round->records, sizeof(round->record[0]), by_time);
}

struct score {
	unsigned waits, right, waker_right, first_right;
};

/* The first start of all: what would be believed if wakers were not known. */
static uint32_t first_start(const struct round *round, uint32_t other_than)
{
	for (unsigned i = 0; i < round->records; i++)
		if (round->record[i].what == 'S' && round->record[i].tid != other_than)
			return round->record[i].tid;
	return 0;
}

static void play(const struct round *round, struct feed *feed, enum lw_class kind, struct score *score)
{
	for (unsigned i = 0; i < round->records; i++) {
		const struct planned *record = &round->record[i];
		if (record->what == 'S') {
			feed_start(feed, record->tid, A, record->when);
		} else if (record->what == 'D') {
			feed_done(feed, record->tid, A, record->when);
		} else {
			feed_wait(feed, record->tid, kind, kind == LW_CLASS_MODULE ? A : 0, record->ns, record->wait_ns, record->waker);
			score->waits++;
			score->right += feed->told[feed->count - 1].wait.holder == record->truth;
			score->waker_right += record->waker == record->truth;
			score->first_right += first_start(round, record->tid) == record->truth;
		}
	}
}

static struct score rounds(enum lw_class kind, bool barging, bool all_seen)
{
	struct score score = { 0 };
	struct round *round = malloc(sizeof(*round));
	cr_assert(round);
	for (uint64_t seed = 1; seed <= 1000; seed++) {
		struct feed feed;
		feed_begin(&feed);
		feed_names(&feed, names);
		simulate(round, seed, barging, all_seen);
		play(round, &feed, kind, &score);
		feed_end(&feed);
	}
	free(round);
	cr_assert(score.waits > 2000, "%u waits", score.waits);
	return score;
}

Test(holders, a_thousand_rounds)
{
	const struct score score = rounds(LW_CLASS_MODULE, false, true);
	cr_expect_eq(score.right, score.waits, "%u of %u", score.right, score.waits);
	/* What is simpler would not do. */
	cr_expect_lt(score.waker_right, score.waits * 3 / 4, "%u of %u", score.waker_right, score.waits);
	cr_expect_lt(score.first_right, score.waits * 9 / 10, "%u of %u", score.first_right, score.waits);
}

/* Imports that no probe sees, of holders and of waiters. */
Test(holders, a_thousand_rounds_half_seen)
{
	const struct score score = rounds(LW_CLASS_MODULE, false, false);
	cr_expect_eq(score.right, score.waits, "%u of %u", score.right, score.waits);
}

Test(holders, a_thousand_rounds_with_locks_taken_in_between)
{
	const struct score score = rounds(LW_CLASS_MODULE, true, true);
	cr_expect_eq(score.right, score.waits, "%u of %u", score.right, score.waits);
}

/*
 * Both: now and then a thread that nobody sees takes the lock and wakes us, before the one that was woken first has run. The simple rule "who woke us" is what remains.
 */
Test(holders, a_thousand_rounds_half_seen_with_locks_taken_in_between)
{
	const struct score score = rounds(LW_CLASS_MODULE, true, false);
	cr_expect_geq(score.right, score.waits - score.waits / 200, "%u of %u", score.right, score.waits);
	cr_expect_lt(score.waker_right, score.waits * 3 / 4, "%u of %u", score.waker_right, score.waits);
}

Test(holders, a_thousand_rounds_of_the_global_lock)
{
	const struct score score = rounds(LW_CLASS_GLOBAL, false, false);
	cr_expect_eq(score.right, score.waits, "%u of %u", score.right, score.waits);
}
